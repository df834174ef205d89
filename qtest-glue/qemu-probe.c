/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a QEMU can do: see qemu-probe.h. Each question is put to a QEMU that
 * waits for a load: it refuses what it cannot do when a capability or a
 * parameter is set, and does nothing of it.
 */
#include "qtest-glue/qemu-probe.h"
#include "qtest-glue/error.h"
#include "qtest-glue/qemu-snapshot.h"

#include <stdio.h>
#include <string.h>

typedef struct Question {
    const char *name;
    const char *accel; /* NULL: tcg */
    QemuTransfer transfer;
} Question;

static const char *const x_ignore_shared[] = { "x-ignore-shared", NULL };

static const Question questions[] = {
    { "mapped-ram", NULL, { 0 } },
    { "mapped-ram with multifd", NULL, { .channels = 2 } },
    { "mapped-ram with multifd and direct-io", NULL, { .channels = 2, .direct_io = true } },
    { "mapped-ram with x-ignore-shared", NULL, { .capabilities = x_ignore_shared } },
    { "fast snapshot load (mapped-ram with postcopy-ram)", NULL, { .lazy = true } },
    { "KVM", "kvm", { 0 } },
};

static bool ask(const QemuBinary *binary, const Question *question, GError **error)
{
    const char *const arguments[] = { "-accel",    question->accel ? question->accel : "tcg",
                                      "-machine",  "none",
                                      "-m",        "1",
                                      "-incoming", "defer",
                                      NULL };
    g_autoptr(QemuProcess) qemu = qemu_process_start(binary, arguments, NULL, error);

    return qemu && qemu_configure(qemu, &question->transfer, error);
}

static void clear_feature(gpointer data)
{
    g_free(((QemuFeature *)data)->reason);
}

GArray *qemu_probe_features(const QemuBinary *binary, GError **error)
{
    g_autoptr(GArray) features = g_array_new(FALSE, FALSE, sizeof(QemuFeature));

    g_array_set_clear_func(features, clear_feature);
    for (unsigned i = 0; i < G_N_ELEMENTS(questions); i++) {
        g_autoptr(GError) cause = NULL;
        bool available = ask(binary, &questions[i], &cause);
        QemuFeature feature = { questions[i].name, available,
                                available ? NULL : g_strdup(cause->message) };

        g_array_append_val(features, feature);
        if (i == 0 && !available && cause->domain == QEMU_ERROR) {
            g_propagate_error(error, g_steal_pointer(&cause));
            return NULL;
        }
    }
    return g_steal_pointer(&features);
}

bool qemu_probe_lazy(const QemuBinary *binary, GError **error)
{
    const Question question = { .transfer = { .lazy = true } };

    return ask(binary, &question, error);
}

bool qemu_probe_print(const QemuBinary *binary, GError **error)
{
    g_autoptr(GArray) features = qemu_probe_features(binary, error);

    if (!features) {
        return false;
    }
    printf("%s\n%s\n", binary->path, binary->version);
    for (unsigned i = 0; i < features->len; i++) {
        const QemuFeature *feature = &g_array_index(features, QemuFeature, i);
        g_autofree char *reason = g_strdup(feature->reason ? feature->reason : "");

        reason[strcspn(reason, "\n")] = '\0';
        printf("  %-50s %s%s%s\n", feature->name, feature->available ? "yes" : "no",
               *reason ? ": " : "", reason);
    }
    return true;
}

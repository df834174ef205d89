/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An input in a real QEMU: see qemu-case.h.
 */
#include "qtest-glue/qemu-case.h"
#include "model/snapshot.h"

#include <string.h>

QemuCase *qemu_case_new(const QemuBinary *binary, const QemuSubjectConfig *config, GError **error)
{
    QemuSubject *subject = qemu_subject_new(binary, config, error);
    QemuCase *c;

    if (!subject) {
        return NULL;
    }
    c = g_new0(QemuCase, 1);
    c->config = *config;
    c->subject = subject;
    c->context = property_context_new(qemu_subject_get(subject));
    return c;
}

void qemu_case_free(QemuCase *c)
{
    if (!c) {
        return;
    }
    property_context_free(c->context);
    qemu_subject_free(c->subject);
    g_free(c);
}

bool qemu_case_run(QemuCase *c, const uint8_t *data, size_t size, char **kind, GError **broken,
                   GError **error)
{
    const Property *property = size > 1 ? property_for_kind(data[1]) : NULL;
    g_autoptr(GError) cause = NULL;

    *kind = NULL;
    if (!property || property->function(c->context, data, size, &cause)) {
        return true;
    }
    if (cause->domain != PROPERTY_ERROR) {
        g_propagate_error(error, g_steal_pointer(&cause));
        return false;
    }
    *kind = failure_kind(c->subject, cause);
    g_propagate_error(broken, g_steal_pointer(&cause));
    return true;
}

/* Makes the file; false if @data is no input of a whole file. */
static bool make_file(QemuCase *c, const uint8_t *data, size_t size, Snapshot *snapshot,
                      SparseFile *file, Guest *guest)
{
    Input input;

    if (!input_decode(data, size, &input) || input.kind == INPUT_HEADER) {
        return false;
    }
    input_make_file_for(&input, qemu_subject_get(c->subject)->guest, snapshot, file, guest, NULL);
    return true;
}

char *qemu_case_rules(QemuCase *c, const uint8_t *data, size_t size)
{
    g_autoptr(Snapshot) snapshot = snapshot_new();
    g_autoptr(SparseFile) file = sparse_file_new();
    g_autofree Judgement *judgement = g_new(Judgement, 1);
    Guest guest;

    if (!make_file(c, data, size, snapshot, file, &guest)) {
        return g_strdup("none");
    }
    judge_file(file, &guest, judgement);
    return failure_rules(judgement);
}

char *qemu_case_text(QemuCase *c, const uint8_t *data, size_t size)
{
    g_autoptr(Snapshot) snapshot = snapshot_new();
    g_autoptr(SparseFile) file = sparse_file_new();
    Guest guest;

    if (size < 2 || (data[1] != INPUT_LAYOUT && data[1] != INPUT_ROUND_TRIP) ||
        !make_file(c, data, size, snapshot, file, &guest)) {
        return NULL;
    }
    return snapshot_to_text(snapshot);
}

char *qemu_case_mode(const QemuCase *c)
{
    g_autofree char *transfer = qemu_transfer_name(&c->config.transfer);

    if (strcmp(c->config.machine->name, "none") == 0) {
        return g_steal_pointer(&transfer);
    }
    return g_strdup_printf("%s, %s", transfer, c->config.machine->name);
}

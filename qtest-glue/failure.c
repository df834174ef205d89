/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Kinds of failure: see failure.h.
 */
#define _GNU_SOURCE /* sigabbrev_np */

#include "qtest-glue/failure.h"
#include "property/property.h"

#include <string.h>
#include <sys/wait.h>

static char *crash_kind(int status)
{
    const char *name = WIFSIGNALED(status) ? sigabbrev_np(WTERMSIG(status)) : NULL;

    if (name) {
        return g_strdup_printf("crash SIG%s", name);
    }
    return g_strdup_printf("crash status %d", WEXITSTATUS(status));
}

static const char *property_kind(const QemuSubject *subject, const GError *broken)
{
    if (broken->code == PROPERTY_EAGER_MODEL) {
        return FAILURE_WRONG_RAM;
    }
    if (broken->code != PROPERTY_AGREES) {
        return property_id_name(broken->code);
    }
    return qemu_subject_outcome(subject) == QEMU_LOAD_COMPLETED ? FAILURE_ACCEPTED
                                                                : "refused, must be accepted";
}

char *failure_kind(const QemuSubject *subject, const GError *broken)
{
    switch (qemu_subject_outcome(subject)) {
    case QEMU_LOAD_CRASHED:
        return crash_kind(qemu_subject_status(subject));
    case QEMU_LOAD_HUNG:
        return g_strdup("hang");
    case QEMU_LOAD_BLEW_UP:
        return g_strdup("memory blow-up");
    case QEMU_LOAD_WEDGED:
        return g_strdup("wedged");
    default:
        return g_strdup(property_kind(subject, broken));
    }
}

static bool append_rules(const Judgement *judgement, bool reject, GString *text)
{
    bool seen[RULE__MAX] = { false };

    for (unsigned i = 0; i < judgement->n_violations; i++) {
        const Violation *violation = &judgement->violations[i];

        seen[violation->rule] |= (violation->consequence == RULE_REJECT) == reject;
    }
    for (unsigned rule = 0; rule < RULE__MAX; rule++) {
        if (seen[rule]) {
            g_string_append_printf(text, "%s%s", text->len ? " " : "", rule_get(rule)->id);
        }
    }
    return text->len > 0;
}

char *failure_rules(const Judgement *judgement)
{
    GString *text = g_string_new(NULL);

    if (!append_rules(judgement, true, text) && !append_rules(judgement, false, text)) {
        g_string_append(text, "none");
    }
    return g_string_free(text, FALSE);
}

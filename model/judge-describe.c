/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Judgements in words: one line a violation, which names block, field, value,
 * offset and rule. It adds nothing to what judge.c found.
 */
#include "model/judge.h"

#include <inttypes.h>
#include <string.h>

/* A str8 or the machine's name, in quotes and on one line whatever its bytes. */
static void append_quoted(GString *text, const char *string)
{
    g_autofree char *escaped = g_strescape(string, NULL);

    g_string_append_printf(text, "'%s'", escaped);
}

static void append_str8_at(GString *text, const SparseFile *file, uint64_t offset)
{
    uint8_t length = 0;
    char bytes[256];

    sparse_file_read(file, offset, &length, 1);
    bytes[sparse_file_read(file, offset + 1, bytes, length)] = '\0';
    append_quoted(text, bytes);
}

static bool is_str8(const char *field)
{
    return strcmp(field, "idstr") == 0 || strcmp(field, "section name") == 0 ||
           strcmp(field, "subsection name") == 0 || strcmp(field, "capability") == 0;
}

static void append_value(GString *text, const Judgement *judgement, const Violation *violation)
{
    switch (violation->rule) {
    case RULE_F4: /* was not read */
    case RULE_C6: /* is not one field */
    case RULE_R8:
        return;
    case RULE_C2:
    case RULE_C2A:
    case RULE_C2B:
        g_string_append_c(text, ' ');
        append_quoted(text, judgement->machine);
        return;
    default:
        break;
    }
    g_string_append_c(text, ' ');
    if (is_str8(violation->field)) {
        append_str8_at(text, judgement->file, violation->offset);
    } else {
        g_string_append_printf(text, "0x%" PRIx64, violation->value);
    }
}

/* What the field was held against, where the rule's title does not say it. */
static void append_wanted(GString *text, const Judgement *judgement, const Violation *violation)
{
    const Guest *guest = &judgement->guest;
    uint64_t wanted;

    switch (violation->rule) {
    case RULE_F4:
    case RULE_B2:
    case RULE_P1:
        wanted = sparse_file_size(judgement->file);
        break;
    case RULE_F2:
        wanted = 3;
        break;
    case RULE_C2:
    case RULE_C2A:
        g_string_append_c(text, ' ');
        append_quoted(text, guest->machine);
        return;
    case RULE_C5:
    case RULE_H1:
    case RULE_H1A:
        wanted = 1;
        break;
    case RULE_C9:
    case RULE_R5:
    case RULE_H2:
    case RULE_H3:
    case RULE_X2A:
        wanted = guest->target_page_size;
        break;
    case RULE_S4:
        wanted = 4;
        break;
    case RULE_S6:
        wanted = judgement->section_id;
        break;
    case RULE_R6:
        wanted = guest->blocks[violation->block].max_length;
        break;
    case RULE_R6A:
        wanted = guest->blocks[violation->block].used_length;
        break;
    default:
        return;
    }
    g_string_append_printf(text, " 0x%" PRIx64, wanted);
}

char *judgement_describe_violation(const Judgement *judgement, unsigned index)
{
    const Violation *violation = &judgement->violations[index];
    const Rule *rule = rule_get(violation->rule);
    GString *text = g_string_new(NULL);

    if (violation->block >= 0) {
        g_string_append(text, "block ");
        append_quoted(text, judgement->guest.blocks[violation->block].idstr);
        g_string_append(text, ": ");
    }
    g_string_append(text, violation->field);
    append_value(text, judgement, violation);
    g_string_append_printf(text, " at file offset 0x%" PRIx64 ": %s", violation->offset,
                           rule->title);
    append_wanted(text, judgement, violation);
    g_string_append_printf(text, " (rule %s)", rule->id);
    return g_string_free(text, FALSE);
}

const char *verdict_name(Verdict verdict)
{
    static const char *const names[] = {
        [VERDICT_ACCEPT] = "must accept",
        [VERDICT_MAY] = "may either",
        [VERDICT_REJECT] = "must reject",
    };

    return names[verdict];
}

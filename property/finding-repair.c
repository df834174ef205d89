/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which findings a load triggers, and how they are repaired out of it: see
 * findings.h. A repair waits for a violation that the judge (model/judge.h)
 * reports of the load. It must not know how a field is written: see
 * finding-actions.c.
 */
#include "property/finding-repair.h"

#include <inttypes.h>
#include <string.h>

static bool is_break(const RuleBreak *broken, const Violation *violation)
{
    return violation->rule == broken->rule && violation->value >= broken->least &&
           violation->value <= broken->most;
}

/* The violation that must be there beside @violation; itself, if none must; NULL: it is not. */
static const Violation *find_other(const FindingRepair *repair, const Judgement *judgement,
                                   const Violation *violation)
{
    if (repair->with.rule == RULE__MAX) {
        return violation;
    }
    for (unsigned i = 0; i < judgement->n_violations; i++) {
        const Violation *other = &judgement->violations[i];

        if (other->block == violation->block && is_break(&repair->with, other)) {
            return other;
        }
    }
    return NULL;
}

static bool is_of(const FindingRepair *repair, const Judgement *judgement,
                  const Violation *violation)
{
    return is_break(&repair->broken, violation) &&
           (!repair->field || strcmp(repair->field, violation->field) == 0) &&
           find_other(repair, judgement, violation);
}

/* A field that triggers a finding that is spared. */
typedef struct SparedField {
    const Finding *finding;
    const RuleBreak *broken;
    uint64_t offset; /* in the file */
} SparedField;

typedef struct LeftAlone {
    unsigned n;
    SparedField fields[2 * JUDGE_MAX_VIOLATIONS];
} LeftAlone;

/* One load, judged, and what every search for a finding in it asks for. */
typedef struct Search {
    const FindingLoad *load;
    const Judgement *judgement;
    FindingTriggers triggers; /* that the load has */
    LeftAlone left_alone;
} Search;

/* Fewer values of the field, or in fewer modes: such a finding explains more. */
static bool is_narrower(const Finding *finding, const RuleBreak *broken, const SparedField *field)
{
    uint64_t span = broken->most - broken->least;
    uint64_t spared_span = field->broken->most - field->broken->least;

    return span < spared_span || (span == spared_span && finding->modes < field->finding->modes);
}

static bool is_left_alone(const LeftAlone *left_alone, const Finding *finding,
                          const RuleBreak *broken, const Violation *violation)
{
    for (unsigned i = 0; i < left_alone->n; i++) {
        const SparedField *field = &left_alone->fields[i];

        if (field->offset == violation->offset && !is_narrower(finding, broken, field)) {
            return true;
        }
    }
    return false;
}

static void leave_alone(LeftAlone *left_alone, const Finding *finding, const RuleBreak *broken,
                        const Violation *violation)
{
    if (left_alone->n < G_N_ELEMENTS(left_alone->fields)) {
        left_alone->fields[left_alone->n++] = (SparedField){ finding, broken, violation->offset };
    }
}

/*
 * Rules X1 and G2 are definitions: what triggers is that the reader's
 * configuration makes them count; *configured is then that violation.
 */
static const Violation *find_configured(const FindingRepair *repair, const Search *search,
                                        Violation *configured)
{
    const Guest *guest = &search->judgement->guest;

    if (repair->if_reads_fail) {
        *configured = (Violation){ .rule = RULE_F4, .block = -1, .field = "a read that fails" };
        return search->load->reads_fail ? configured : NULL;
    }
    if ((repair->broken.rule == RULE_X1 && guest->x_ignore_shared) ||
        (repair->broken.rule == RULE_G2 && guest->clear_pages)) {
        *configured =
            (Violation){ .rule = repair->broken.rule, .block = -1, .field = "the reader" };
        return configured;
    }
    return NULL;
}

/* The violation that the repair waits for, but none of a field that is left alone; or NULL. */
static const Violation *find_trigger(const Finding *finding, const FindingRepair *repair,
                                     const Search *search, Violation *configured)
{
    const Judgement *judgement = search->judgement;
    const LeftAlone *left_alone = &search->left_alone;
    const Violation *trigger = find_configured(repair, search, configured);

    if (trigger) {
        return is_left_alone(left_alone, finding, &repair->broken, trigger) ? NULL : trigger;
    }
    for (unsigned i = 0; i < judgement->n_violations; i++) {
        const Violation *violation = &judgement->violations[i];

        if (is_of(repair, judgement, violation) &&
            !is_left_alone(left_alone, finding, &repair->broken, violation)) {
            return violation;
        }
    }
    return NULL;
}

static void judge(const FindingLoad *load, Judgement *judgement)
{
    if (load->one_block) {
        judge_block(load->file, load->guest, load->header_offset, load->used_length, judgement);
    } else {
        judge_file(load->file, load->guest, judgement);
    }
}

/* Nothing is left alone, so far. */
static void search_init(Search *search, const FindingLoad *load, const Judgement *judgement)
{
    search->load = load;
    search->judgement = judgement;
    search->left_alone.n = 0;
    search->triggers = (FindingTriggers){ .bits = { 0 } };
    for (unsigned i = 0; i < judgement->n_violations; i++) {
        finding_triggers_add(&search->triggers, judgement->violations[i].rule);
    }
    if (judgement->guest.x_ignore_shared) {
        finding_triggers_add(&search->triggers, RULE_X1);
    }
    if (judgement->guest.clear_pages) {
        finding_triggers_add(&search->triggers, RULE_G2);
    }
    if (load->reads_fail) {
        finding_triggers_add(&search->triggers, RULE__MAX);
    }
}

/* Most findings wait for nothing that the load has. */
static bool may_be_triggered(const Finding *finding, const Search *search)
{
    uint64_t both = 0;

    for (unsigned i = 0; i < G_N_ELEMENTS(search->triggers.bits); i++) {
        both |= finding->triggers.bits[i] & search->triggers.bits[i];
    }
    return both && (finding->modes & search->load->mode);
}

static const FindingRepair *find_repair(const Finding *finding, const Search *search,
                                        const Violation **trigger, Violation *configured)
{
    for (unsigned i = 0; i < finding->n_repairs; i++) {
        *trigger = find_trigger(finding, &finding->repairs[i], search, configured);
        if (*trigger) {
            return &finding->repairs[i];
        }
    }
    return NULL;
}

bool finding_is_triggered(const Finding *finding, const FindingLoad *load)
{
    g_autofree Judgement *judgement = g_new0(Judgement, 1);
    const Violation *trigger;
    Violation configured;
    Search search;

    judge(load, judgement);
    search_init(&search, load, judgement);
    return may_be_triggered(finding, &search) &&
           find_repair(finding, &search, &trigger, &configured);
}

const Finding *findings_match(const Findings *findings, const FindingLoad *load,
                              FindingOutcome outcome)
{
    for (unsigned i = 0; i < findings_count(findings); i++) {
        const Finding *finding = findings_get(findings, i);

        if ((finding->outcomes >> outcome & 1) && finding_is_triggered(finding, load)) {
            return finding;
        }
    }
    return NULL;
}

static void log_repair(GString *log, const Finding *finding, const Violation *trigger)
{
    if (log) {
        g_string_append_printf(log, "%s: %s 0x%" PRIx64 " at file offset 0x%" PRIx64 " (rule %s)\n",
                               finding->id, trigger->field, trigger->value, trigger->offset,
                               rule_get(trigger->rule)->id);
    }
}

/* The first of all findings' repairs that has something to do. False: none has. */
static bool repair_once(const Findings *findings, FindingLoad *load, const Search *search,
                        GString *log)
{
    unsigned n;
    Finding *const *list = findings_list(findings, &n);

    for (unsigned i = 0; i < n; i++) {
        const Finding *finding = list[i];
        const Violation *trigger;
        Violation configured;
        const FindingRepair *repair = NULL;

        if (!finding->spared && may_be_triggered(finding, search)) {
            repair = find_repair(finding, search, &trigger, &configured);
        }
        if (repair && repair->action(load, search->judgement, trigger)) {
            log_repair(log, finding, trigger);
            return true;
        }
    }
    return false;
}

/* Of what follows the document says nothing: any of the findings may be in it. */
static bool cut_unspecified(FindingLoad *load, const Judgement *judgement, GString *log)
{
    if (!judgement->ram_unspecified || sparse_file_size(load->file) <= judgement->end) {
        return false;
    }
    sparse_file_truncate(load->file, judgement->end);
    if (log) {
        g_string_append_printf(log, "cut at file offset 0x%" PRIx64 ", behind what is specified\n",
                               judgement->end);
    }
    return true;
}

static void leave_alone_for(const Finding *finding, const FindingRepair *repair, Search *search)
{
    const Judgement *judgement = search->judgement;
    LeftAlone *left_alone = &search->left_alone;
    Violation configured;
    const Violation *trigger = find_configured(repair, search, &configured);

    if (trigger) {
        leave_alone(left_alone, finding, &repair->broken, trigger);
    }
    for (unsigned i = 0; i < judgement->n_violations; i++) {
        const Violation *violation = &judgement->violations[i];

        if (is_of(repair, judgement, violation)) {
            leave_alone(left_alone, finding, &repair->broken, violation);
            if (repair->with.rule != RULE__MAX) {
                leave_alone(left_alone, finding, &repair->with,
                            find_other(repair, judgement, violation));
            }
        }
    }
}

/* What triggers a finding that is spared. */
static void find_left_alone(const Findings *findings, Search *search)
{
    unsigned n;
    Finding *const *list = findings_list(findings, &n);

    for (unsigned i = 0; i < n; i++) {
        const Finding *finding = list[i];

        if (finding->spared && may_be_triggered(finding, search)) {
            for (unsigned k = 0; k < finding->n_repairs; k++) {
                leave_alone_for(finding, &finding->repairs[k], search);
            }
        }
    }
}

bool findings_spare(const Findings *findings, const FindingLoad *load)
{
    g_autofree Judgement *judgement = g_new0(Judgement, 1);
    Search search;

    judge(load, judgement);
    search_init(&search, load, judgement);
    find_left_alone(findings, &search);
    return search.left_alone.n > 0;
}

/* Then there is nothing that may trigger a finding. */
static bool breaks_nothing(const Search *search)
{
    static const FindingTriggers none;

    return memcmp(&search->triggers, &none, sizeof(none)) == 0 &&
           !search->judgement->ram_unspecified;
}

static bool repair_next(const Findings *findings, FindingLoad *load, Judgement *judgement,
                        GString *log)
{
    Search search;

    judge(load, judgement);
    search_init(&search, load, judgement);
    if (breaks_nothing(&search)) {
        return false;
    }
    find_left_alone(findings, &search);
    return repair_once(findings, load, &search, log) ||
           (search.left_alone.n == 0 && cut_unspecified(load, judgement, log));
}

bool findings_repair_next(const Findings *findings, FindingLoad *load, GString *log)
{
    g_autofree Judgement *judgement = g_new0(Judgement, 1);

    return repair_next(findings, load, judgement, log);
}

unsigned findings_repair_and_judge(const Findings *findings, FindingLoad *load, GString *log,
                                   Judgement *judgement)
{
    unsigned done = 0;

    if (findings_count(findings) == 0) {
        judge(load, judgement);
        return 0;
    }
    while (repair_next(findings, load, judgement, log) && ++done < FINDINGS_MAX_REPAIRS) {
    }
    return done;
}

unsigned findings_repair(const Findings *findings, FindingLoad *load, GString *log)
{
    g_autofree Judgement *judgement = g_new0(Judgement, 1);

    return findings_repair_and_judge(findings, load, log, judgement);
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The registry of findings: see findings.h. Reading it, and the repairs: each
 * waits for a violation that the judge (model/judge.h) reports of the load, and
 * writes over the field that it names.
 */
#include "property/findings.h"

#include "model/judge.h"
#include "property/finding-values.h"

#include <inttypes.h>
#include <string.h>

#define FINDING_NAME "finding.ini"

/* Of one load, which may have a hundred records; one that undoes another would go on for ever. */

#define HEADER_LENGTH_OF_PAGES_OFFSET 8 /* it is the last field of MappedRamHeader */

typedef bool RepairAction(FindingLoad *load, const Judgement *judgement,
                          const Violation *violation);

/* A break of a rule, by a value. */
typedef struct RuleBreak {
    RuleId rule; /* RULE__MAX: none is asked for */
    uint64_t least;
    uint64_t most;
} RuleBreak;

struct FindingRepair {
    bool if_reads_fail; /* that triggers it, and no rule */
    RuleBreak broken;
    char *field;    /* that the violation must name; NULL: any */
    RuleBreak with; /* the same record must have this break, too */
    RepairAction *action;
};

struct Findings {
    GPtrArray *list; /* of Finding */
};

static const char *const outcome_names[FINDING_OUTCOME__MAX] = {
    [FINDING_OUTCOME_RIGHT] = "right",
    [FINDING_OUTCOME_REFUSED] = "refused",
    [FINDING_OUTCOME_CRASH] = "crash",
    [FINDING_OUTCOME_HANG] = "hang",
    [FINDING_OUTCOME_BLOW_UP] = "memory blow-up",
    [FINDING_OUTCOME_ACCEPTED_WRONG] = "accepted wrong",
    [FINDING_OUTCOME_REFUSED_WRONGLY] = "refused wrongly",
    [FINDING_OUTCOME_LEAK] = "leak",
    [FINDING_OUTCOME_UNPREDICTABLE] = "unpredictable",
};

G_DEFINE_QUARK(pagewise - findings - error, findings_error)

const char *finding_outcome_name(FindingOutcome outcome)
{
    return outcome_names[outcome];
}

FindingOutcome finding_outcome_by_name(const char *name)
{
    for (unsigned i = 0; i < FINDING_OUTCOME__MAX; i++) {
        if (strcmp(outcome_names[i], name) == 0) {
            return i;
        }
    }
    return FINDING_OUTCOME__MAX;
}

int findings_compare_versions(const char *a, const char *b)
{
    while (*a || *b) {
        char *end_a, *end_b;
        uint64_t number_a = g_ascii_strtoull(a, &end_a, 10);
        uint64_t number_b = g_ascii_strtoull(b, &end_b, 10);

        if (number_a != number_b) {
            return number_a < number_b ? -1 : 1;
        }
        a = *end_a == '.' ? end_a + 1 : "";
        b = *end_b == '.' ? end_b + 1 : "";
    }
    return 0;
}

/* The actions */

static bool put_be(FindingLoad *load, uint64_t offset, unsigned width, uint64_t value)
{
    uint8_t bytes[8];

    for (unsigned i = 0; i < width; i++) {
        bytes[i] = value >> (8 * (width - 1 - i));
    }
    if (sparse_file_compare(load->file, offset, bytes, width) == width) {
        return false;
    }
    sparse_file_write(load->file, offset, bytes, width);
    return true;
}

static bool set_page_size(FindingLoad *load, const Judgement *judgement, const Violation *violation)
{
    (void)judgement;
    return put_be(load, violation->offset, 8, load->guest->target_page_size);
}

/* To the guest's own; of a block that nobody knows, to whole pages. */
static bool set_used_length(FindingLoad *load, const Judgement *judgement,
                            const Violation *violation)
{
    uint64_t value = violation->block >= 0
                         ? load->guest->blocks[violation->block].used_length
                         : violation->value & ~(load->guest->target_page_size - 1);
    bool changes = load->used_length != value;

    (void)judgement;
    if (!load->one_block) {
        return put_be(load, violation->offset, 8, value);
    }
    load->used_length = value;
    return changes;
}

/* To the first page behind header and bitmap. */
static bool set_pages_offset(FindingLoad *load, const Judgement *judgement,
                             const Violation *violation)
{
    uint64_t page_size = load->guest->target_page_size;
    uint64_t end = violation->offset + HEADER_LENGTH_OF_PAGES_OFFSET;

    if (violation->block >= 0) {
        const GuestBlock *block = &judgement->guest.blocks[violation->block];

        end += (block->max_length / page_size + 63) / 64 * 8;
    }
    return put_be(load, violation->offset, 8, (end + page_size - 1) & ~(page_size - 1));
}

/* From the page that the violation names on. */
static bool clear_bits(FindingLoad *load, const Judgement *judgement, const Violation *violation)
{
    const JudgedBlock *block = &judgement->blocks[violation->block];
    uint64_t first = block->bitmap_offset + violation->value / 8;
    uint64_t end = block->bitmap_offset + block->bitmap_length;
    uint8_t byte = 0;

    sparse_file_read(load->file, first, &byte, 1);
    byte &= (1u << (violation->value % 8)) - 1;
    sparse_file_write(load->file, first, &byte, 1);
    if (end > first + 1) {
        sparse_file_fill(load->file, first + 1, end - first - 1, 0);
    }
    return true;
}

/* The command's type byte becomes EOF. */
static bool end_stream(FindingLoad *load, const Judgement *judgement, const Violation *violation)
{
    (void)judgement;
    return put_be(load, violation->offset - 1, 1, 0);
}

static bool set_machine_length(FindingLoad *load, const Judgement *judgement,
                               const Violation *violation)
{
    (void)judgement;
    return put_be(load, violation->offset, 4, strlen(load->guest->machine));
}

static bool set_count_to_one(FindingLoad *load, const Judgement *judgement,
                             const Violation *violation)
{
    (void)judgement;
    return put_be(load, violation->offset, 4, 1);
}

/* A version whose low byte is right; any other one is refused. */
static bool set_cut_version(FindingLoad *load, const Judgement *judgement,
                            const Violation *violation)
{
    (void)judgement;
    return (uint8_t)violation->value == 1 && put_be(load, violation->offset, 4, 1);
}

static bool turn_x_ignore_shared_off(FindingLoad *load, const Judgement *judgement,
                                     const Violation *violation)
{
    (void)judgement;
    (void)violation;
    load->guest->x_ignore_shared = false;
    return true;
}

static bool turn_clear_pages_off(FindingLoad *load, const Judgement *judgement,
                                 const Violation *violation)
{
    (void)judgement;
    (void)violation;
    load->guest->clear_pages = false;
    return true;
}

static bool turn_multifd_off(FindingLoad *load, const Judgement *judgement,
                             const Violation *violation)
{
    (void)judgement;
    (void)violation;
    load->mode = load->lazy ? FINDING_MODE_PLAIN | FINDING_MODE_LAZY : FINDING_MODE_PLAIN;
    return true;
}

static bool let_reads_succeed(FindingLoad *load, const Judgement *judgement,
                              const Violation *violation)
{
    (void)judgement;
    (void)violation;
    load->reads_fail = false;
    return true;
}

/* The length byte before the name. */
static bool empty_name(FindingLoad *load, const Judgement *judgement, const Violation *violation)
{
    (void)judgement;
    return put_be(load, violation->offset - 1, 1, 0);
}

/* Nothing from the violation on is left. */
static bool cut_file(FindingLoad *load, const Judgement *judgement, const Violation *violation)
{
    (void)judgement;
    sparse_file_truncate(load->file, violation->offset);
    return true;
}

static const struct {
    const char *name;
    RepairAction *action;
} actions[] = {
    { "set page_size", set_page_size },
    { "set used_length", set_used_length },
    { "set pages_offset", set_pages_offset },
    { "clear bits", clear_bits },
    { "end stream", end_stream },
    { "set machine length", set_machine_length },
    { "set count", set_count_to_one },
    { "set cut version", set_cut_version },
    { "turn x-ignore-shared off", turn_x_ignore_shared_off },
    { "turn clearing off", turn_clear_pages_off },
    { "turn multifd off", turn_multifd_off },
    { "let reads succeed", let_reads_succeed },
    { "cut file", cut_file },
    { "empty name", empty_name },
};

static RepairAction *action_by_name(const char *name)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(actions); i++) {
        if (strcmp(actions[i].name, name) == 0) {
            return actions[i].action;
        }
    }
    return NULL;
}

/* What triggers a repair */

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
static const Violation *find_configured(const FindingRepair *repair, const FindingLoad *load,
                                        const Judgement *judgement, Violation *configured)
{
    const Guest *guest = &judgement->guest;

    if (repair->if_reads_fail) {
        *configured = (Violation){ .rule = RULE_F4, .block = -1, .field = "a read that fails" };
        return load->reads_fail ? configured : NULL;
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
                                     const FindingLoad *load, const Judgement *judgement,
                                     const LeftAlone *left_alone, Violation *configured)
{
    const Violation *trigger = find_configured(repair, load, judgement, configured);

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

static const FindingRepair *find_repair(const Finding *finding, const FindingLoad *load,
                                        const Judgement *judgement, const LeftAlone *left_alone,
                                        const Violation **trigger, Violation *configured)
{
    for (unsigned i = 0; i < finding->n_repairs; i++) {
        *trigger =
            find_trigger(finding, &finding->repairs[i], load, judgement, left_alone, configured);
        if (*trigger) {
            return &finding->repairs[i];
        }
    }
    return NULL;
}

bool finding_is_triggered(const Finding *finding, const FindingLoad *load)
{
    g_autofree Judgement *judgement = g_new0(Judgement, 1);
    const LeftAlone nothing = { .n = 0 };
    const Violation *trigger;
    Violation configured;

    judge(load, judgement);
    return (finding->modes & load->mode) &&
           find_repair(finding, load, judgement, &nothing, &trigger, &configured) != NULL;
}

const Finding *findings_match(const Findings *findings, const FindingLoad *load,
                              FindingOutcome outcome)
{
    for (unsigned i = 0; i < findings->list->len; i++) {
        const Finding *finding = g_ptr_array_index(findings->list, i);

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
static bool repair_once(const Findings *findings, FindingLoad *load, Judgement *judgement,
                        const LeftAlone *left_alone, GString *log)
{
    for (unsigned i = 0; i < findings->list->len; i++) {
        const Finding *finding = g_ptr_array_index(findings->list, i);
        const Violation *trigger;
        Violation configured;
        const FindingRepair *repair = NULL;

        if ((finding->modes & load->mode) && !finding->spared) {
            repair = find_repair(finding, load, judgement, left_alone, &trigger, &configured);
        }
        if (repair && repair->action(load, judgement, trigger)) {
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

static void leave_alone_for(const Finding *finding, const FindingRepair *repair,
                            const FindingLoad *load, const Judgement *judgement,
                            LeftAlone *left_alone)
{
    Violation configured;
    const Violation *trigger = find_configured(repair, load, judgement, &configured);

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
static void find_left_alone(const Findings *findings, const FindingLoad *load,
                            const Judgement *judgement, LeftAlone *left_alone)
{
    left_alone->n = 0;
    for (unsigned i = 0; i < findings->list->len; i++) {
        const Finding *finding = g_ptr_array_index(findings->list, i);

        if (finding->spared && (finding->modes & load->mode)) {
            for (unsigned k = 0; k < finding->n_repairs; k++) {
                leave_alone_for(finding, &finding->repairs[k], load, judgement, left_alone);
            }
        }
    }
}

bool findings_spare(const Findings *findings, const FindingLoad *load)
{
    g_autofree Judgement *judgement = g_new0(Judgement, 1);
    LeftAlone left_alone;

    judge(load, judgement);
    find_left_alone(findings, load, judgement, &left_alone);
    return left_alone.n > 0;
}

/* Then there is nothing that may trigger a finding. */
static bool breaks_nothing(const FindingLoad *load, const Judgement *judgement)
{
    const Guest *guest = &judgement->guest;

    return judgement->n_violations == 0 && !judgement->ram_unspecified && !load->reads_fail &&
           !guest->x_ignore_shared && !guest->clear_pages;
}

static bool repair_next(const Findings *findings, FindingLoad *load, Judgement *judgement,
                        GString *log)
{
    LeftAlone left_alone;

    judge(load, judgement);
    if (breaks_nothing(load, judgement)) {
        return false;
    }
    find_left_alone(findings, load, judgement, &left_alone);
    return repair_once(findings, load, judgement, &left_alone, log) ||
           (left_alone.n == 0 && cut_unspecified(load, judgement, log));
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

    if (findings->list->len == 0) {
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

/* Reading the registry */

static void finding_free(gpointer data)
{
    Finding *finding = data;

    for (unsigned i = 0; i < finding->n_repairs; i++) {
        g_free(finding->repairs[i].field);
    }
    g_free(finding->id);
    g_free(finding->title);
    g_free(finding->property);
    g_free(finding->snapshot);
    g_free(finding->input);
    g_free(finding->repeat);
    g_free(finding->repairs);
    g_free(finding);
}

Findings *findings_none(void)
{
    Findings *findings = g_new0(Findings, 1);

    findings->list = g_ptr_array_new_with_free_func(finding_free);
    return findings;
}

void findings_free(Findings *findings)
{
    g_ptr_array_unref(findings->list);
    g_free(findings);
}

void findings_keep(Findings *findings, unsigned outcomes)
{
    for (unsigned i = findings->list->len; i-- > 0;) {
        const Finding *finding = g_ptr_array_index(findings->list, i);

        if (!(finding->outcomes & outcomes)) {
            g_ptr_array_remove_index(findings->list, i);
        }
    }
}

unsigned findings_count(const Findings *findings)
{
    return findings->list->len;
}

const Finding *findings_get(const Findings *findings, unsigned index)
{
    return g_ptr_array_index(findings->list, index);
}

const Finding *findings_by_id(const Findings *findings, const char *id)
{
    for (unsigned i = 0; i < findings->list->len; i++) {
        const Finding *finding = g_ptr_array_index(findings->list, i);

        if (strcmp(finding->id, id) == 0) {
            return finding;
        }
    }
    return NULL;
}

bool finding_wrong_value(GError **error, const char *group, const char *key, const char *value,
                         const char *expected)
{
    g_set_error(error, FINDINGS_ERROR, FINDINGS_ERROR_FORMAT, "[%s] %s = %s: %s is expected", group,
                key, value ? value : "(nothing)", expected);
    return false;
}

static bool take_string(GKeyFile *file, const char *group, const char *key, char **out,
                        GError **error)
{
    *out = g_key_file_get_string(file, group, key, NULL);
    return *out || finding_wrong_value(error, group, key, NULL, "a text");
}

bool finding_parse_number(const char *text, uint64_t *number)
{
    static const char suffixes[] = "KMGT";
    char *end;
    const char *suffix;

    *number = g_ascii_strtoull(text, &end, 0);
    if (end == text) {
        return false;
    }
    suffix = *end ? strchr(suffixes, *end) : NULL;
    if (suffix) {
        *number <<= 10 * (suffix - suffixes + 1);
        end++;
    }
    return *end == '\0';
}

static bool read_modes(GKeyFile *file, Finding *finding, GError **error)
{
    static const struct {
        const char *name;
        unsigned modes;
    } table[] = {
        { "any", FINDING_MODE_PLAIN | FINDING_MODE_MULTIFD | FINDING_MODE_LAZY },
        { "plain", FINDING_MODE_PLAIN },
        { "multifd", FINDING_MODE_MULTIFD },
        { "lazy", FINDING_MODE_LAZY },
    };
    g_autofree char *name = g_key_file_get_string(file, "finding", "mode", NULL);

    for (unsigned i = 0; name && i < G_N_ELEMENTS(table); i++) {
        if (strcmp(table[i].name, name) == 0) {
            finding->modes = table[i].modes;
            return true;
        }
    }
    return finding_wrong_value(error, "finding", "mode", name, "any, plain, multifd or lazy");
}

/* "crash SIGFPE; hang": what is behind the name is for people. */
static bool read_outcomes(const char *text, Finding *finding, GError **error)
{
    g_auto(GStrv) items = g_strsplit(text, ";", -1);

    for (unsigned i = 0; items[i]; i++) {
        const char *item = g_strstrip(items[i]);
        unsigned outcome = 0;

        while (outcome < FINDING_OUTCOME__MAX && !g_str_has_prefix(item, outcome_names[outcome])) {
            outcome++;
        }
        /* "refused" begins "refused wrongly", too. */
        if (g_str_has_prefix(item, outcome_names[FINDING_OUTCOME_REFUSED_WRONGLY])) {
            outcome = FINDING_OUTCOME_REFUSED_WRONGLY;
        }
        if (outcome == FINDING_OUTCOME__MAX) {
            return finding_wrong_value(error, "outcome", "...", item, "an outcome");
        }
        finding->outcomes |= 1u << outcome;
    }
    return true;
}

static bool read_outcome_group(GKeyFile *file, const char *subject, Finding *finding,
                               GError **error)
{
    g_auto(GStrv) keys = g_key_file_get_keys(file, "outcome", NULL, NULL);

    for (unsigned i = 0; keys && keys[i]; i++) {
        g_autofree char *text = g_key_file_get_string(file, "outcome", keys[i], NULL);

        if ((!subject || strcmp(keys[i], subject) == 0) && !read_outcomes(text, finding, error)) {
            return false;
        }
    }
    return keys || finding_wrong_value(error, "outcome", "qemu-tree", NULL, "an outcome");
}

/* "ram 1M 1M": idstr, used_length, max_length. */
static bool read_block(const char *text, GuestBlock *block)
{
    g_auto(GStrv) words = g_strsplit(text, " ", -1);

    if (g_strv_length(words) != 3 || !finding_parse_number(words[1], &block->used_length) ||
        !finding_parse_number(words[2], &block->max_length)) {
        return false;
    }
    block->host_page_size = 4096;
    return g_strlcpy(block->idstr, words[0], sizeof(block->idstr)) < sizeof(block->idstr);
}

static bool read_guest(GKeyFile *file, Guest *guest, GError **error)
{
    static const char group[] = "reproducer";
    g_autofree char *machine = g_key_file_get_string(file, group, "machine", NULL);
    g_autofree char *text = g_key_file_get_string(file, group, "blocks", NULL);
    g_auto(GStrv) blocks = g_strsplit(text ? text : "ram 1M 1M", ";", -1);

    guest->target_page_size = 4096;
    guest->x_ignore_shared = g_key_file_get_boolean(file, group, "x-ignore-shared", NULL);
    guest->clear_pages = g_key_file_get_boolean(file, group, "clear-pages", NULL);
    g_strlcpy(guest->machine, machine ? machine : "none", sizeof(guest->machine));
    for (unsigned i = 0; blocks[i]; i++) {
        if (i == GUEST_MAX_BLOCKS || !read_block(g_strstrip(blocks[i]), &guest->blocks[i])) {
            return finding_wrong_value(error, group, "blocks", text, "IDSTR USED MAX; ...");
        }
        guest->n_blocks = i + 1;
    }
    return true;
}

static bool read_range(GKeyFile *file, const char *group, const char *key, RuleBreak *broken,
                       GError **error)
{
    g_autofree char *text = g_key_file_get_string(file, group, key, NULL);
    g_auto(GStrv) ends = text ? g_strsplit(text, "-", 2) : NULL;

    broken->least = 0;
    broken->most = UINT64_MAX;
    if (!text) {
        return true;
    }
    if (!ends[0] || !finding_parse_number(ends[0], &broken->least)) {
        return finding_wrong_value(error, group, key, text, "NUMBER, FIRST-LAST or FIRST-");
    }
    if (!ends[1]) {
        broken->most = broken->least;
        return true;
    }
    return ends[1][0] == '\0' || finding_parse_number(ends[1], &broken->most) ||
           finding_wrong_value(error, group, key, text, "NUMBER, FIRST-LAST or FIRST-");
}

static bool wrong_rule(GError **error, const char *group, const char *key, const char *rule)
{
    return finding_wrong_value(error, group, key, rule, "a rule of docs/mapped-ram-format.md");
}

static bool read_other_break(GKeyFile *file, const char *group, RuleBreak *with, GError **error)
{
    g_autofree char *rule = g_key_file_get_string(file, group, "with rule", NULL);

    with->rule = rule ? rule_by_name(rule) : RULE__MAX;
    if (rule && with->rule == RULE__MAX) {
        return wrong_rule(error, group, "with rule", rule);
    }
    return read_range(file, group, "with value", with, error);
}

static bool read_repair(GKeyFile *file, const char *group, FindingRepair *repair, GError **error)
{
    g_autofree char *rule = g_key_file_get_string(file, group, "rule", NULL);
    g_autofree char *action = g_key_file_get_string(file, group, "action", NULL);

    repair->if_reads_fail = rule && strcmp(rule, "a read fails") == 0;
    repair->broken.rule = rule ? rule_by_name(rule) : RULE__MAX;
    if (repair->broken.rule == RULE__MAX && !repair->if_reads_fail) {
        return wrong_rule(error, group, "rule", rule);
    }
    repair->action = action ? action_by_name(action) : NULL;
    if (!repair->action) {
        return finding_wrong_value(error, group, "action", action, "an action of docs/findings.md");
    }
    repair->field = g_key_file_get_string(file, group, "field", NULL);
    return read_range(file, group, "value", &repair->broken, error) &&
           read_other_break(file, group, &repair->with, error);
}

/* The groups [repair], [repair 2], ... */
static bool read_repairs(GKeyFile *file, Finding *finding, GError **error)
{
    g_auto(GStrv) groups = g_key_file_get_groups(file, NULL);

    finding->repairs = g_new0(FindingRepair, g_strv_length(groups));
    for (unsigned i = 0; groups[i]; i++) {
        if (!g_str_has_prefix(groups[i], "repair")) {
            continue;
        }
        if (!read_repair(file, groups[i], &finding->repairs[finding->n_repairs++], error)) {
            return false;
        }
    }
    return finding->n_repairs > 0 || finding_wrong_value(error, "repair", "rule", NULL, "a repair");
}

static char *path_of(GKeyFile *file, const char *key, const char *folder)
{
    g_autofree char *name = g_key_file_get_string(file, "reproducer", key, NULL);

    return name ? g_build_filename(folder, name, NULL) : NULL;
}

static bool read_finding(GKeyFile *file, const char *folder, const char *subject, Finding *finding,
                         GError **error)
{
    g_autofree char *name = g_path_get_basename(folder);

    if (!take_string(file, "finding", "id", &finding->id, error) ||
        !take_string(file, "finding", "title", &finding->title, error) ||
        !take_string(file, "finding", "property", &finding->property, error)) {
        return false;
    }
    if (strcmp(finding->id, name) != 0) {
        return finding_wrong_value(error, "finding", "id", finding->id, "the folder's name");
    }
    finding->snapshot = path_of(file, "snapshot", folder);
    finding->input = path_of(file, "input", folder);
    finding->repeat = g_key_file_get_string(file, "reproducer", "repeat", NULL);
    finding->dirty_ram = g_key_file_get_boolean(file, "reproducer", "dirty-ram", NULL);
    finding->spared = g_key_file_get_boolean(file, "finding", "spared", NULL);
    if (!finding->snapshot && !finding->input) {
        return finding_wrong_value(error, "reproducer", "snapshot", NULL,
                                   "a file in the same folder");
    }
    return read_modes(file, finding, error) && read_outcome_group(file, subject, finding, error) &&
           read_guest(file, &finding->guest, error) && read_repairs(file, finding, error);
}

/* Of this subject, and since <= version < fixed. */
static bool is_registered(GKeyFile *file, const char *subject, const char *version)
{
    g_autofree char *since = g_key_file_get_string(file, "finding", "since", NULL);
    g_autofree char *fixed = g_key_file_get_string(file, "finding", "fixed", NULL);

    if (subject && !g_key_file_has_key(file, "outcome", subject, NULL)) {
        return false;
    }
    return !version || ((!since || findings_compare_versions(version, since) >= 0) &&
                        (!fixed || findings_compare_versions(version, fixed) < 0));
}

static bool add_finding(Findings *findings, const char *folder, const char *subject,
                        const char *version, GError **error)
{
    g_autofree char *path = g_build_filename(folder, FINDING_NAME, NULL);
    g_autoptr(GKeyFile) file = g_key_file_new();
    Finding *finding;

    if (!g_key_file_load_from_file(file, path, G_KEY_FILE_NONE, error)) {
        g_prefix_error(error, "%s: ", path);
        return false;
    }
    if (!is_registered(file, subject, version)) {
        return true;
    }
    finding = g_new0(Finding, 1);
    g_ptr_array_add(findings->list, finding);
    if (!read_finding(file, folder, subject, finding, error)) {
        g_prefix_error(error, "%s: ", path);
        return false;
    }
    return true;
}

static int compare_ids(gconstpointer a, gconstpointer b)
{
    const Finding *const *first = a;
    const Finding *const *second = b;

    return strcmp((*first)->id, (*second)->id);
}

Findings *findings_read(const char *folder, const char *subject, const char *version,
                        GError **error)
{
    g_autoptr(Findings) findings = findings_none();
    g_autoptr(GError) cause = NULL;
    g_autoptr(GDir) dir = g_dir_open(folder, 0, &cause);
    const char *name;

    if (!dir) {
        g_set_error_literal(error, FINDINGS_ERROR, FINDINGS_ERROR_IO, cause->message);
        return NULL;
    }
    while ((name = g_dir_read_name(dir))) {
        g_autofree char *path = g_build_filename(folder, name, NULL);

        if (g_file_test(path, G_FILE_TEST_IS_DIR) &&
            !add_finding(findings, path, subject, version, error)) {
            return NULL;
        }
    }
    g_ptr_array_sort(findings->list, compare_ids);
    return g_steal_pointer(&findings);
}

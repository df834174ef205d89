/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Runs one load of a subject and checks everything that can be said of it:
 * bounded, clean-reject, agrees, eager=model; and two loads against each
 * other: split=whole.
 */
#include "property/context.h"
#include "subject/lazy.h"

#include <inttypes.h>
#include <string.h>

/* What a load may always cost, however small file and guest are. */
#define FREE_READS 256
/* Short reads of one load, about: shorter ones are made longer. */
#define MAX_SHORT_READS 1024
#define FREE_BYTES (UINT64_C(64) << 10)

/* Bytes of pages in one case: an execution is to be short. */
#define MAX_PAGE_BYTES (UINT64_C(1) << 20)

void judge_case(PropertyContext *context, const LoadCase *c)
{
    if (c->one_block) {
        judge_block(c->file, c->guest, c->header_offset, c->used_length, &context->judgement);
    } else {
        judge_file(c->file, c->guest, &context->judgement);
    }
}

static uint64_t max_pages_of_case(const Guest *guest)
{
    return MAX_PAGE_BYTES / guest->target_page_size;
}

/* A used_length that is too great has bits for more pages than the block; they have no place. */
static uint64_t count_pages(const Judgement *judgement, unsigned block, uint64_t limit)
{
    const Guest *guest = &judgement->guest;
    uint64_t pages = guest->blocks[block].max_length / guest->target_page_size;
    uint64_t count = 0;
    uint64_t page = judgement_next_page_in_file(judgement, block, 0);

    while (page < pages && count < limit) {
        count++;
        page = judgement_next_page_in_file(judgement, block, page + 1);
    }
    return count;
}

static bool has_large_block(const Guest *guest)
{
    for (unsigned i = 0; i < guest->n_blocks; i++) {
        if (guest->blocks[i].max_length > GUEST_RAM_SMALL) {
            return true;
        }
    }
    return false;
}

/*
 * A reader may take a block's later records too (R4). Each has a bitmap, of
 * which nothing is judged.
 */
static uint64_t pages_of_later_records(const Judgement *judgement)
{
    uint64_t pages = 0;

    for (unsigned i = 0; i < judgement->n_violations; i++) {
        const Violation *violation = &judgement->violations[i];

        if (violation->rule == RULE_R4 && violation->block >= 0) {
            pages += judgement->guest.blocks[violation->block].max_length /
                     judgement->guest.target_page_size;
        }
    }
    return pages;
}

bool file_is_too_large(const SparseFile *file)
{
    return sparse_file_data_bytes(file) > INPUT_MAX_DATA_BYTES;
}

bool case_is_too_large(const PropertyContext *context, const LoadCase *c)
{
    uint64_t max_pages = max_pages_of_case(c->guest);
    uint64_t pages = pages_of_later_records(&context->judgement);

    /* To clear pages a reader has to look at them all. */
    if (c->guest->clear_pages && !c->lazy && has_large_block(c->guest)) {
        return true;
    }
    for (unsigned i = 0; i < c->guest->n_blocks; i++) {
        pages += count_pages(&context->judgement, i, max_pages + 1);
    }
    return pages > max_pages;
}

static uint64_t guest_pages(const Guest *guest)
{
    uint64_t pages = 0;

    for (unsigned i = 0; i < guest->n_blocks; i++) {
        pages += guest->blocks[i].max_length / guest->target_page_size;
    }
    return pages;
}

/*
 * What file and guest justify: every byte of the file that is no hole once, a
 * bitmap, and each page of the guest at most twice (a run that was begun and
 * has to be read again); and what is read ahead in vain whenever that jumps.
 */
static SubjectCost cost_limits(const PropertyContext *context, const LoadCase *c)
{
    uint64_t pages = guest_pages(c->guest);
    uint64_t loaded =
        MIN(pages, max_pages_of_case(c->guest)) + pages_of_later_records(&context->judgement);
    uint64_t data = sparse_file_data_bytes(c->file);
    uint64_t reads = FREE_READS + data / 64 + 2 * loaded + pages / 4096;
    uint64_t bytes = FREE_BYTES + data + pages / 4 + 2 * loaded * c->guest->target_page_size;
    SubjectCost cost = {
        .max_bytes = bytes + reads * context->subject->read_ahead,
        .max_reads = reads,
        .fail_read = c->cut ? 0 : c->fail_read,
        .fail_for_ever = c->fail_for_ever,
        .cut_read = c->cut ? c->fail_read : 0,
        .cut_size = sparse_file_size(c->file) / 256 * c->cut,
    };

    if (c->max_read_length) {
        cost.max_read_length = MAX(c->max_read_length, bytes / MAX_SHORT_READS);
        cost.max_reads += cost.max_bytes / cost.max_read_length;
    }
    return cost;
}

static SubjectStatus run_subject(PropertyContext *context, const LoadCase *c, SubjectLoad *load,
                                 AllocMeter *meter, GError **refusal)
{
    const Subject *subject = context->subject;
    SubjectStatus (*function)(SubjectLoad *, GError **) = !c->one_block ? subject->load_file
                                                          : load->stages == SUBJECT_HEADERS
                                                              ? subject->load_header
                                                              : subject->load_block;
    SubjectStatus status;

    if (!function) {
        return SUBJECT_UNSUPPORTED;
    }
    alloc_meter_start(meter);
    status = function(load, refusal);
    alloc_meter_stop();
    return status;
}

static bool check_bounded(PropertyContext *context, const LoadCase *c, const SubjectLoad *load,
                          const AllocMeter *meter, GError **error)
{
    const SubjectCost *cost = &load->cost;
    unsigned more_buffers =
        c->lazy && context->subject->lazy ? context->subject->lazy->more_buffers : 0;
    /* Its buffers are there whatever the file is. */
    uint64_t max_allocated = FREE_BYTES + context->subject->read_ahead * (1 + more_buffers) +
                             guest_pages(c->guest) / 2 +
                             pages_of_later_records(&context->judgement) / 8;

    if (cost->reads > cost->max_reads || cost->bytes_read > cost->max_bytes) {
        return property_broken(context, PROPERTY_BOUNDED, error,
                               "the load made %" PRIu64 " reads of %" PRIu64 " bytes in all; "
                               "the file (%" PRIu64 " bytes, %" PRIu64 " of them not holes) and "
                               "the guest justify at most %" PRIu64 " reads of %" PRIu64 " bytes",
                               cost->reads, cost->bytes_read, sparse_file_size(c->file),
                               sparse_file_data_bytes(c->file), cost->max_reads, cost->max_bytes);
    }
    if (!context->subject->is_process && meter->bytes > max_allocated) {
        return property_broken(context, PROPERTY_BOUNDED, error,
                               "the load allocated %" PRIu64 " bytes in %" PRIu64 " requests; the "
                               "guest's %" PRIu64 " pages justify at most %" PRIu64,
                               meter->bytes, meter->calls, guest_pages(c->guest), max_allocated);
    }
    return true;
}

Verdict verdict_for(const PropertyContext *context, SubjectStages stages)
{
    const Judgement *judgement = &context->judgement;

    if (judgement->verdict != VERDICT_REJECT || stages != SUBJECT_HEADERS) {
        return judgement->verdict;
    }
    for (unsigned i = 0; i < judgement->n_violations; i++) {
        const Violation *violation = &judgement->violations[i];

        if (violation->rule != RULE_P1 && violation->consequence == RULE_REJECT) {
            return VERDICT_REJECT;
        }
    }
    return VERDICT_MAY;
}

static char *describe_violations(const Judgement *judgement)
{
    GString *text = g_string_new(NULL);

    for (unsigned i = 0; i < judgement->n_violations; i++) {
        g_autofree char *line = judgement_describe_violation(judgement, i);

        g_string_append_printf(text, "%s%s", i ? "; " : "", line);
    }
    return g_string_free(text, FALSE);
}

static bool a_read_failed(const SubjectLoad *load)
{
    return load->cost.fail_read && load->cost.reads >= load->cost.fail_read;
}

/* Then a right file may be refused; if it is not, RAM is as if nothing had been cut. */
static bool the_file_was_cut(const SubjectLoad *load)
{
    return load->cost.cut_read && load->cost.reads >= load->cost.cut_read;
}

static bool check_agrees(PropertyContext *context, const SubjectLoad *load, SubjectStatus status,
                         const GError *refusal, GError **error)
{
    Verdict verdict = verdict_for(context, load->stages);

    if (status == SUBJECT_ACCEPTED && verdict == VERDICT_REJECT) {
        g_autofree char *violations = describe_violations(&context->judgement);

        return property_broken(context, PROPERTY_AGREES, error,
                               "the file was accepted; it must be refused: %s", violations);
    }
    if (status == SUBJECT_ACCEPTED && a_read_failed(load)) {
        return property_broken(context, PROPERTY_CLEAN_REJECT, error,
                               "read %" PRIu64 " failed with an I/O error, and the load "
                               "reported success",
                               load->cost.fail_read);
    }
    if (status == SUBJECT_REFUSED && context->subject->reads_devices &&
        (context->judgement.has_devices || context->judgement.section_id == 0)) {
        /*
         * What device state it ought to accept is not said anywhere. A PART or
         * END of section 0 goes to QEMU's first device that has no section yet:
         * no QEMU gives its RAM that number.
         */
        return true;
    }
    if (status == SUBJECT_REFUSED && verdict == VERDICT_ACCEPT && !a_read_failed(load) &&
        !the_file_was_cut(load) &&
        !(load->cost.max_read_length && context->subject->refuses_short_reads)) {
        return property_broken(context, PROPERTY_AGREES, error,
                               "the file was refused; it breaks no rule and must be accepted. "
                               "The refusal: %s",
                               refusal ? refusal->message : "(no message)");
    }
    return true;
}

/* The id in "... (rule H2)" at the end of the message, or RULE__MAX. */
static RuleId rule_in_message(const char *message)
{
    static const char opening[] = "(rule ";
    const char *start = g_strrstr(message, opening);
    const char *end = start ? strchr(start, ')') : NULL;
    char name[8];

    if (!end || end[1] != '\0') {
        return RULE__MAX;
    }
    start += strlen(opening);
    if (end - start >= (ptrdiff_t)sizeof(name)) {
        return RULE__MAX;
    }
    memcpy(name, start, end - start);
    name[end - start] = '\0';
    return rule_by_name(name);
}

/* A name of odd bytes may stand there as it is, or escaped. */
static bool names_block(const char *message, const GuestBlock *block)
{
    g_autofree char *escaped = NULL;

    if (strstr(message, block->idstr)) {
        return true;
    }
    escaped = g_strescape(block->idstr, NULL);
    return strstr(message, escaped);
}

/* Is there a violation of @rule that is of no block, or of one that @message names? */
static bool names_violation(const Judgement *judgement, RuleId rule, const char *message)
{
    for (unsigned i = 0; i < judgement->n_violations; i++) {
        const Violation *violation = &judgement->violations[i];

        if (violation->rule == rule &&
            (violation->block < 0 ||
             names_block(message, &judgement->guest.blocks[violation->block]))) {
            return true;
        }
    }
    return false;
}

/* A message that names a rule has to name one that the file breaks, and where. */
static bool check_message(PropertyContext *context, const GError *refusal, GError **error)
{
    const Judgement *judgement = &context->judgement;
    RuleId rule = rule_in_message(refusal->message);

    if (rule == RULE__MAX) {
        return property_broken(context, PROPERTY_CLEAN_REJECT, error,
                               "the refusal names no rule: %s", refusal->message);
    }
    if (judgement->n_violations == JUDGE_MAX_VIOLATIONS) {
        /* The list is full: what else the file breaks, nobody knows. */
        return true;
    }
    if (!judgement_violates(judgement, rule)) {
        g_autofree char *violations = describe_violations(judgement);

        return property_broken(context, PROPERTY_CLEAN_REJECT, error,
                               "the refusal names a rule that the file does not break. The "
                               "refusal: %s. The model: %s",
                               refusal->message, violations);
    }
    if (!strstr(refusal->message, "offset 0x")) {
        return property_broken(context, PROPERTY_CLEAN_REJECT, error,
                               "the refusal names no file offset: %s", refusal->message);
    }
    if (!names_violation(judgement, rule, refusal->message)) {
        g_autofree char *violations = describe_violations(judgement);

        return property_broken(context, PROPERTY_CLEAN_REJECT, error,
                               "the refusal does not name the block that breaks the rule: %s. "
                               "The model: %s",
                               refusal->message, violations);
    }
    return true;
}

static bool check_clean_reject(PropertyContext *context, const SubjectLoad *load,
                               SubjectStatus status, const GError *refusal, GError **error)
{
    if (status == SUBJECT_ACCEPTED) {
        return !refusal ||
               property_broken(context, PROPERTY_CLEAN_REJECT, error,
                               "the file was accepted with an error set: %s", refusal->message);
    }
    if (!refusal || refusal->message[0] == '\0') {
        return property_broken(context, PROPERTY_CLEAN_REJECT, error,
                               "the file was refused without a message");
    }
    if (context->subject->errors_name_rules && !a_read_failed(load) && !the_file_was_cut(load) &&
        !check_message(context, refusal, error)) {
        return false;
    }
    return load->stages == SUBJECT_HEADERS ||
           check_ram_after_refusal(context, &context->judgement, error);
}

/* The first word at or after @word with a bit set in either, or @words. */
static uint64_t next_word(const Judgement *judgement, const uint64_t *file_bmap, uint64_t word,
                          uint64_t words)
{
    uint64_t page = judgement_next_page_in_file(judgement, 0, word * 64);
    uint64_t expected = page == UINT64_MAX ? words : page / 64;

    while (word < expected && file_bmap[word] == 0) {
        word++;
    }
    return word;
}

/* The pages that the header stage says are in the file, against the model's. */
static bool check_bitmap(PropertyContext *context, const SubjectBlock *block, GError **error)
{
    const Judgement *judgement = &context->judgement;
    const JudgedBlock *judged = &judgement->blocks[0];
    uint64_t words = (judged->pages + 63) / 64;

    context->stats.pages += judged->pages;
    for (uint64_t word = next_word(judgement, block->file_bmap, 0, words); word < words;
         word = next_word(judgement, block->file_bmap, word + 1, words)) {
        uint64_t differing = judgement_pages_in_word(judgement, 0, word) ^ block->file_bmap[word];
        uint64_t page;

        if (differing == 0) {
            continue;
        }
        page = word * 64 + __builtin_ctzll(differing);
        return property_broken_block(context, PROPERTY_EAGER_MODEL, 0, error,
                                     "page %" PRIu64 ": file_bmap has the bit %s, the file's "
                                     "bitmap at 0x%" PRIx64 " does not (rules B1 and B5)",
                                     page,
                                     block->file_bmap[word] >> (page % 64) & 1 ? "set" : "clear",
                                     judged->bitmap_offset);
    }
    return true;
}

static bool check_header(PropertyContext *context, const SubjectBlock *block, GError **error)
{
    const JudgedBlock *judged = &context->judgement.blocks[0];

    if (judged->ignored || !block->in_file) {
        return judged->ignored == !block->in_file ||
               property_broken_block(context, PROPERTY_EAGER_MODEL, 0, error,
                                     "the loader takes the block as %s, its header says "
                                     "that it is %s (rule X2)",
                                     block->in_file ? "in the file" : "left out",
                                     judged->ignored ? "left out" : "in the file");
    }
    if (block->pages_offset != judged->pages_offset) {
        return property_broken_block(context, PROPERTY_EAGER_MODEL, 0, error,
                                     "pages_offset is 0x%" PRIx64 ", the file says "
                                     "0x%" PRIx64 " (rule G1)",
                                     block->pages_offset, judged->pages_offset);
    }
    return !block->file_bmap
               ? judged->pages == 0 || property_broken(context, PROPERTY_EAGER_MODEL, error,
                                                       "the header stage left no file_bmap")
               : check_bitmap(context, block, error);
}

static bool check_accepted(PropertyContext *context, const SubjectLoad *load, GError **error)
{
    return load->stages == SUBJECT_HEADERS
               ? check_header(context, &load->blocks[0], error)
               : check_ram(context, &context->judgement, load->blocks, error);
}

/* Guest RAM that is all accounted for, or, for headers alone, none at all. */
bool give_case_ram(PropertyContext *context, const LoadCase *c, SubjectLoad *load, GError **error)
{
    if (load->stages == SUBJECT_HEADERS) {
        load->blocks[0].host = guest_ram_forbidden(context->ram, error);
        return load->blocks[0].host;
    }
    if (!guest_ram_prepare(context->ram, c->guest, c->before, error)) {
        return false;
    }
    for (unsigned i = 0; i < c->guest->n_blocks; i++) {
        load->blocks[i].host = guest_ram_host(context->ram, i);
    }
    return true;
}

bool run_load(PropertyContext *context, const LoadCase *c, SubjectStages stages, GArray *log,
              CaseLoad *run, GError **error)
{
    run->load = subject_load(context, c, stages);
    run->load.cost.log = log;
    if (!give_case_ram(context, c, &run->load, error)) {
        return false;
    }
    run->status = run_subject(context, c, &run->load, &run->meter, &run->refusal);
    if (stages != SUBJECT_HEADERS) {
        guest_ram_survey(context->ram, c->guest->n_blocks);
    }
    return true;
}

void case_load_clear(CaseLoad *run)
{
    for (unsigned i = 0; i < GUEST_MAX_BLOCKS; i++) {
        g_clear_pointer(&run->load.blocks[i].file_bmap, g_free);
    }
    g_clear_error(&run->refusal);
}

/* The subject gave no answer: which property does that break? */
static bool check_answered(PropertyContext *context, GError **failure, GError **error)
{
    PropertyId id = PROPERTY_BOUNDED;

    if (!g_error_matches(*failure, SUBJECT_ERROR, SUBJECT_ERROR_BROKEN)) {
        id = g_error_matches(*failure, SUBJECT_ERROR, SUBJECT_ERROR_CRASH) ? PROPERTY_SAFE : id;
        property_broken(context, id, error, "%s", (*failure)->message);
        return false;
    }
    g_propagate_error(error, g_steal_pointer(failure));
    return false;
}

SubjectLoad subject_load(const PropertyContext *context, const LoadCase *c, SubjectStages stages)
{
    return (SubjectLoad){
        .subject = context->subject,
        .file = c->file,
        .guest = c->guest,
        .stages = stages,
        .cost = cost_limits(context, c),
        .header_offset = c->header_offset,
        .used_length = c->used_length,
        .axes = c->axes,
    };
}

bool check_outcome(PropertyContext *context, const LoadCase *c, const SubjectLoad *load,
                   const AllocMeter *meter, SubjectStatus status, const GError *refusal,
                   GError **error)
{
    *(status == SUBJECT_ACCEPTED ? &context->stats.accepted : &context->stats.refused) += 1;
    return check_bounded(context, c, load, meter, error) &&
           check_clean_reject(context, load, status, refusal, error) &&
           check_agrees(context, load, status, refusal, error);
}

bool check_load(PropertyContext *context, const LoadCase *c, SubjectStages stages, bool *accepted,
                GError **refusal, GError **error)
{
    g_auto(CaseLoad) run = { .refusal = NULL };
    bool holds;

    if (!run_load(context, c, stages, NULL, &run, error)) {
        return false;
    }
    *accepted = run.status == SUBJECT_ACCEPTED;
    if (run.status == SUBJECT_FAILED) {
        return check_answered(context, &run.refusal, error);
    }
    if (run.status == SUBJECT_UNSUPPORTED) {
        context->stats.unsupported++;
        return true;
    }
    holds = check_outcome(context, c, &run.load, &run.meter, run.status, run.refusal, error) &&
            (!*accepted || check_accepted(context, &run.load, error));
    *refusal = g_steal_pointer(&run.refusal);
    return holds;
}

/* NULL: the file was accepted. */
static bool check_same_outcome(PropertyContext *context, const GError *whole, const GError *split,
                               GError **error)
{
    const char *whole_text = whole ? whole->message : "accepted";
    const char *split_text = split ? split->message : "accepted";

    return strcmp(whole_text, split_text) == 0 ||
           property_broken(context, PROPERTY_SPLIT_WHOLE, error,
                           "in two stages the file is treated otherwise than in one. In two: "
                           "%s. In one: %s",
                           split_text, whole_text);
}

/*
 * A file that is right for a guest of one page: after a refusal, it must load.
 * (Nothing of the refused load may be left in the subject.)
 */
bool check_reload(PropertyContext *context, GError **error)
{
    static const uint8_t simplest[1] = { 0 };
    g_autoptr(GError) refusal = NULL;
    Choices choices = choices_init(simplest, sizeof(simplest));
    Guest guest;
    LoadCase c = { .file = context->other_file, .guest = &guest };
    bool accepted;

    snapshot_generate(&choices, GUEST_RAM_SMALL, context->snapshot, &guest);
    if (context->subject->guest) {
        guest_copy(&guest, context->subject->guest);
        snapshot_fit(context->snapshot, &guest);
    }
    snapshot_encode(context->snapshot, context->other_file);
    judge_case(context, &c);
    if (!check_load(context, &c, SUBJECT_WHOLE, &accepted, &refusal, error)) {
        g_prefix_error(error, "second load in the same process, of a right file: ");
        return false;
    }
    return true;
}

/* @whole: how the load in one stage was refused; NULL if it was accepted. */
static bool check_split(PropertyContext *context, const LoadCase *c, const GError *whole,
                        GError **error)
{
    g_autoptr(GError) split = NULL;
    bool accepted;

    if (!check_load(context, c, SUBJECT_SPLIT, &accepted, &split, error)) {
        g_prefix_error(error, "in two stages: ");
        return false;
    }
    /* With a failing read, whole and split meet it at different places. */
    return c->fail_read || (!accepted && !split) ||
           check_same_outcome(context, whole, split, error);
}

bool check_case(PropertyContext *context, const LoadCase *c, GError **error)
{
    g_autoptr(GError) whole = NULL;
    bool accepted;

    context->stats.either += context->judgement.verdict == VERDICT_MAY;
    if (!check_load(context, c, SUBJECT_WHOLE, &accepted, &whole, error)) {
        return false;
    }
    if (!accepted && !whole) {
        return true;
    }
    return (!c->split || check_split(context, c, whole, error)) &&
           (!c->reload || check_reload(context, error));
}

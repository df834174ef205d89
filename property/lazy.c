/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The property "lazy": a lazy load by a schedule (lazy-run.h), and what has to
 * hold of it: lazy=eager, once, no-silent-zero, and of the eager properties
 * bounded, clean-reject, agrees and round-trip. Guest RAM is compared by the
 * check of the eager properties: what the guest itself changed is looked at
 * first, and put back.
 */
#include "property/guest-access.h"
#include "property/lazy-run.h"
#include "property/threads.h"

#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* Descriptors that are looked at: a process that fuzzes has few. */
#define DESCRIPTORS 32

/* What a load must leave as it was; cheap enough for every execution. */
typedef struct Leftovers {
    uint32_t descriptors; /* bit i: i is open */
    unsigned threads;
} Leftovers;

/*
 * One system call tells which are open. No sanitizer has a look at each pollfd
 * before and after it: that takes longer than the call.
 */
static uint32_t open_descriptors(void)
{
    const struct timespec at_once = { 0 };
    struct pollfd fds[DESCRIPTORS];
    uint32_t open = 0;

    for (int i = 0; i < DESCRIPTORS; i++) {
        fds[i] = (struct pollfd){ .fd = i };
    }
    if (syscall(SYS_ppoll, fds, DESCRIPTORS, &at_once, NULL, 0) < 0) {
        return 0;
    }
    for (unsigned i = 0; i < DESCRIPTORS; i++) {
        open |= (uint32_t) !(fds[i].revents & POLLNVAL) << i;
    }
    return open;
}

static Leftovers count_leftovers(const LazyRun *run)
{
    return (Leftovers){ .descriptors = open_descriptors(),
                        .threads = count_threads_by(run->threads) };
}

static bool check_leftovers(const LazyRun *run, Leftovers before, GError **error)
{
    const PropertyContext *context = run->context;
    Leftovers now = count_leftovers(run);
    uint32_t differ = now.descriptors ^ before.descriptors;

    if (now.threads > before.threads) {
        now.threads = count_settled_threads(before.threads);
    }
    if (differ) {
        int fd = __builtin_ctz(differ);

        return property_broken(context, PROPERTY_CLEAN_REJECT, error,
                               "descriptor %d is %s after the load; before it was not", fd,
                               now.descriptors >> fd & 1 ? "open" : "closed");
    }
    return now.threads <= before.threads ||
           property_broken(context, PROPERTY_CLEAN_REJECT, error,
                           "%u threads are left over after the load", now.threads - before.threads);
}

/* Who installed which page. */

static bool was_used(const LazyRun *run, SubjectFailure failure)
{
    for (unsigned i = 0; i < run->n_faults; i++) {
        if (run->load.faults[i].failure == failure && run->load.faults[i].countdown == 0) {
            return true;
        }
    }
    return false;
}

/* May @page have been settled so, by what the schedule did? */
static bool is_allowed(const LazyRun *run, const LazyPage *page, SubjectInstaller by)
{
    switch (by) {
    case SUBJECT_PAGE_BY_FAULT_THREAD:
        return page->touched;
    case SUBJECT_PAGE_BY_EAGER_THREAD:
        return run->ending || run->eager_steps > 0;
    case SUBJECT_PAGE_WAS_PRESENT:
        return was_used(run, SUBJECT_IS_THERE) || page->discards > 0;
    case SUBJECT_PAGE_DISCARDED:
        return page->discards > 0;
    case SUBJECT_PAGE_POISONED:
        return lazy_run_may_fail(run);
    default:
        return true;
    }
}

static const char *installer_name(SubjectInstaller by)
{
    static const char *const names[SUBJECT_N_INSTALLERS] = {
        [SUBJECT_PAGE_NOT_INSTALLED] = "nobody",
        [SUBJECT_PAGE_BY_FAULT_THREAD] = "the fault thread",
        [SUBJECT_PAGE_BY_EAGER_THREAD] = "the eager thread",
        [SUBJECT_PAGE_WAS_PRESENT] = "somebody else",
        [SUBJECT_PAGE_DISCARDED] = "a discard",
        [SUBJECT_PAGE_POISONED] = "poison",
    };

    return names[by];
}

/* Zeroes again after each discard; content once. */
static bool check_counts(LazyRun *run, const LazyBlock *block, uint64_t page)
{
    const LazyPage *state = &block->pages[page];
    unsigned zeroes = state->discards + (state->copies == 0);

    if (state->copies <= 1 && (state->zeroes <= zeroes || state->discards == UINT8_MAX)) {
        return true;
    }
    return lazy_run_broken(run, PROPERTY_ONCE, block,
                           "host page %" PRIu64
                           ": content was placed %u times, zeroes %u times; it "
                           "was discarded %u times",
                           page, state->copies, state->zeroes, state->discards);
}

static bool check_installer(LazyRun *run, const LazyBlock *block, uint64_t page, bool all_loaded)
{
    const LazyPage *state = &block->pages[page];
    SubjectInstaller by = run->lazy->installer(&run->load, block->block, page);

    if (!is_allowed(run, state, by)) {
        return lazy_run_broken(run, PROPERTY_LAZY_EAGER, block,
                               "host page %" PRIu64 " was settled by %s, which the schedule does "
                               "not allow",
                               page, installer_name(by));
    }
    if (all_loaded && (by == SUBJECT_PAGE_POISONED || state->poisons > 0)) {
        return lazy_run_broken(run, PROPERTY_NO_SILENT_ZERO, block,
                               "host page %" PRIu64 " could not be loaded, and the load ended with "
                               "success",
                               page);
    }
    if (all_loaded && by == SUBJECT_PAGE_NOT_INSTALLED && state->has_data) {
        return lazy_run_broken(run, PROPERTY_NO_SILENT_ZERO, block,
                               "host page %" PRIu64 " is in the file, and the load ended with "
                               "success, but nobody loaded it",
                               page);
    }
    return check_counts(run, block, page);
}

static bool check_installers(LazyRun *run, bool all_loaded)
{
    for (unsigned i = 0; i < run->n_blocks; i++) {
        for (uint64_t page = 0; page < run->blocks[i].n_pages; page++) {
            if (!check_installer(run, &run->blocks[i], page, all_loaded)) {
                return false;
            }
        }
    }
    return true;
}

/* Guest RAM. */

static uint64_t span_of(const LazyBlock *block, uint64_t page, uint64_t n_pages)
{
    return guest_access_span(block->host + page * LAZY_PAGE, n_pages, LAZY_PAGE);
}

/*
 * The first of the pages @page to @end - 1 that nobody can touch; @end if there is none.
 * @shut_off: for whatever reason. Else it is poisoned, and the kernel tells which ones can
 * be: to try all of them would make those that are missing.
 */
static uint64_t next_lost(const LazyRun *run, const LazyBlock *block, bool shut_off, uint64_t page,
                          uint64_t end)
{
    const GuestRam *ram = run->context->ram;

    if (shut_off) {
        return page + span_of(block, page, end - page);
    }
    while ((page = guest_ram_next_odd(ram, block->block, page, end)) < end &&
           span_of(block, page, 1) > 0) {
        page++;
    }
    return page;
}

/* Of a run of pages that the kernel said it poisoned, the first one is tried. */
static bool is_lost(const LazyRun *run, const LazyBlock *block, bool shut_off, uint64_t page)
{
    const LazyPage *state = &block->pages[page];

    return (state->poisons > 0 && state->copies == 0 && state->discards == 0) ||
           next_lost(run, block, shut_off, page, page + 1) == page;
}

static bool check_was_not_had(LazyRun *run, const LazyBlock *block, uint64_t page)
{
    return !block->pages[page].kept || lazy_run_may_shut_off(run) ||
           lazy_run_broken(run, PROPERTY_ONCE, block,
                           "host page %" PRIu64 ": the guest had it, and cannot touch it any "
                           "more after the load failed",
                           page);
}

/* Nobody can touch @first; *end: behind the run of such pages. */
static bool give_up_run(LazyRun *run, const LazyBlock *block, bool shut_off, uint64_t first,
                        uint64_t *end)
{
    uint64_t page = first;

    do {
        if (!check_was_not_had(run, block, page)) {
            return false;
        }
        page++;
    } while (page < block->n_pages && is_lost(run, block, shut_off, page));
    *end = page;
    if (!guest_ram_repair(run->context->ram, block->block, first * LAZY_PAGE, page * LAZY_PAGE,
                          &run->broken)) {
        return false;
    }
    while (page-- > first) {
        block->pages[page].expected = 0;
        block->pages[page].given_up = true;
    }
    return true;
}

/* The first one that nobody said is poisoned; n_pages if there is none. */
static uint64_t first_sound_page(const LazyBlock *block)
{
    uint64_t page = 0;

    while (page < block->n_pages && block->pages[page].poisons > 0) {
        page++;
    }
    return page;
}

/* Whoever shuts a block off shuts all of it off: one page tells. */
static bool may_be_shut_off(const LazyRun *run)
{
    uint8_t *sound[GUEST_MAX_BLOCKS];
    unsigned n = 0;

    if (!run->lazy->poisons || lazy_run_may_shut_off(run)) {
        return true;
    }
    for (unsigned i = 0; i < run->n_blocks; i++) {
        uint64_t page = first_sound_page(&run->blocks[i]);

        if (page < run->blocks[i].n_pages) {
            sound[n++] = run->blocks[i].host + page * LAZY_PAGE;
        }
    }
    return guest_access_reach(sound, n) < n;
}

/* A page that the file ended in is taken as loaded, if that is what it looks like. */
static void give_up_cut_page(LazyRun *run, const LazyBlock *block, uint64_t end)
{
    uint64_t start = run->context->judgement.blocks[block->block].pages_offset;
    uint64_t page = (end - start) / LAZY_PAGE;

    if (end >= start && page < block->n_pages && !block->pages[page].expected &&
        !block->pages[page].given_up && block->pages[page].has_data &&
        lazy_run_compare_page(run, block, page) == LAZY_PAGE) {
        lazy_run_restore_page(run, block, page);
    }
}

/* In pages that cannot be touched the guest sees nothing wrong. */
static bool give_up_pages(LazyRun *run)
{
    bool shut_off = may_be_shut_off(run);

    for (unsigned i = 0; i < run->n_blocks; i++) {
        const LazyBlock *block = &run->blocks[i];
        uint64_t page = 0;

        while ((page = next_lost(run, block, shut_off, page, block->n_pages)) < block->n_pages) {
            if (!give_up_run(run, block, shut_off, page, &page)) {
                return false;
            }
        }
        for (unsigned k = 0; k < run->n_ends; k++) {
            give_up_cut_page(run, block, run->ends[k]);
        }
    }
    return true;
}

static bool check_own_page(LazyRun *run, const LazyBlock *block, uint64_t page)
{
    size_t at = lazy_run_compare_page(run, block, page);

    if (at < LAZY_PAGE) {
        return lazy_run_broken(run, PROPERTY_ONCE, block,
                               "host page %" PRIu64
                               ": after the load found 0x%02x at byte %zu, not "
                               "what the guest left there (it discarded the page %u times)",
                               page, block->host[page * LAZY_PAGE + at], at,
                               block->pages[page].discards);
    }
    lazy_run_restore_page(run, block, page);
    return true;
}

static bool check_own_pages(LazyRun *run)
{
    for (unsigned i = 0; i < run->n_blocks && run->n_expected > 0; i++) {
        const LazyBlock *block = &run->blocks[i];

        for (uint64_t page = 0; page < block->n_pages; page++) {
            if (block->pages[page].expected && !check_own_page(run, block, page)) {
                return false;
            }
        }
    }
    return true;
}

static bool is_given_up(const PropertyContext *context, unsigned block, uint64_t offset)
{
    const LazyRun *run = context->lazy;

    for (unsigned i = 0; i < run->n_blocks; i++) {
        const LazyBlock *lazy = &run->blocks[i];

        if (lazy->block == block) {
            return offset / LAZY_PAGE < lazy->n_pages && lazy->pages[offset / LAZY_PAGE].given_up;
        }
    }
    return false;
}

/* What RAM holds by a file that must be refused nobody knows, however late it was refused. */
static bool check_all_ram(LazyRun *run, bool failed, GError **error)
{
    PropertyContext *context = run->context;
    bool refused = failed && context->judgement.verdict == VERDICT_REJECT;
    bool holds;

    context->ram_property = lazy_run_may_fail(run) ? PROPERTY_NO_SILENT_ZERO : PROPERTY_LAZY_EAGER;
    guest_ram_survey(context->ram, run->load.load.guest->n_blocks);
    context->is_given_up = failed ? is_given_up : NULL;
    holds = refused ? check_ram_after_refusal(context, &context->judgement, error)
                    : check_ram(context, &context->judgement, run->load.load.blocks, error);
    context->is_given_up = NULL;
    context->ram_property = PROPERTY_EAGER_MODEL;
    return holds;
}

/* The load as a whole. */

static bool check_failure(LazyRun *run, const GError *refusal)
{
    if (!refusal || refusal->message[0] == '\0') {
        return lazy_run_broken(run, PROPERTY_NO_SILENT_ZERO, NULL,
                               "the load failed without a message");
    }
    return run->context->judgement.verdict != VERDICT_ACCEPT || lazy_run_may_fail(run) ||
           lazy_run_broken(run, PROPERTY_LAZY_EAGER, NULL,
                           "the load failed, though nothing happened that it may fail of: %s",
                           refusal->message);
}

/* What was refused late left no RAM to compare with a verdict. */
static bool check_ended(LazyRun *run, const LoadCase *c, const AllocMeter *meter,
                        SubjectStatus status, const GError *refusal, GError **error)
{
    bool failed = status == SUBJECT_REFUSED;

    if (failed) {
        run->context->stats.failed++;
    }
    return run->broken == NULL &&
           (failed ? check_failure(run, refusal) && give_up_pages(run)
                   : check_outcome(run->context, c, &run->load.load, meter, status, refusal,
                                   &run->broken)) &&
           check_installers(run, !failed) && check_own_pages(run) &&
           check_all_ram(run, failed, error);
}

static bool run_schedule(LazyRun *run, const LoadCase *c, const AllocMeter *meter, GError **error)
{
    g_autoptr(GError) refusal = NULL;
    SubjectStatus status;
    bool holds;

    run->context->stats.lazy++;
    if (lazy_run_begin(run) && lazy_run_steps(run)) {
        check_installers(run, false);
    }
    status = lazy_run_end(run, &refusal);
    run->context->stats.faults += run->lazy->faults(&run->load);
    holds = check_ended(run, c, meter, status, refusal, error);
    run->lazy->free(&run->load);
    if (run->broken && error && !*error) {
        g_propagate_error(error, g_steal_pointer(&run->broken));
    }
    return holds;
}

static bool start_and_run(LazyRun *run, const LoadCase *c, GError **error)
{
    g_autoptr(GError) refusal = NULL;
    AllocMeter meter = { 0 };
    SubjectStatus status;

    for (unsigned i = 0; i < c->guest->n_blocks; i++) {
        run->load.shared[i] = guest_ram_is_large(run->context->ram, i);
    }
    alloc_meter_start(&meter);
    status = run->lazy->start(&run->load, &refusal);
    alloc_meter_stop();
    if (status == SUBJECT_UNSUPPORTED) {
        run->context->stats.unsupported++;
        return true;
    }
    if (status == SUBJECT_ACCEPTED) {
        return run_schedule(run, c, &meter, error);
    }
    guest_ram_survey(run->context->ram, c->guest->n_blocks);
    return check_outcome(run->context, c, &run->load.load, &meter, status, refusal, error);
}

static bool load_lazily(LazyRun *run, const Input *input, const LoadCase *c, GError **error)
{
    Leftovers before;

    lazy_run_reset(run, input, c);
    run->load.load = subject_load(run->context, c, SUBJECT_WHOLE);
    guest_ram_will_have_holes(run->context->ram, c->guest->n_blocks);
    if (!give_case_ram(run->context, c, &run->load.load, error)) {
        return false;
    }
    before = count_leftovers(run);
    return start_and_run(run, c, error) && check_leftovers(run, before, error);
}

static bool check_lazily(PropertyContext *context, const Input *input, LoadCase *c, GError **error)
{
    LazyRun *run = context->lazy;
    bool holds;

    watchdog_begin(run->watchdog);
    holds = load_lazily(run, input, c, error);
    if (holds && c->reload) {
        holds = check_reload(context, error);
    }
    watchdog_end(run->watchdog);
    return holds;
}

/* The writer looks at every byte: guests that are small are enough. */
#define MAX_SAVED_BYTES (UINT64_C(128) << 10)

static uint64_t bytes_of(const Guest *guest)
{
    uint64_t bytes = 0;

    for (unsigned i = 0; i < guest->n_blocks; i++) {
        bytes += guest->blocks[i].used_length;
    }
    return bytes;
}

static bool can_be_saved(const PropertyContext *context, const Input *input, const LoadCase *c)
{
    return input->lazy_flags & INPUT_LAZY_SAVE && context->subject->save && !c->reload &&
           context->judgement.verdict == VERDICT_ACCEPT && c->before == 0 && !c->fail_read &&
           !lazy_run_may_fail(context->lazy) && !c->guest->x_ignore_shared &&
           bytes_of(c->guest) <= MAX_SAVED_BYTES;
}

static void free_lazy_run(void *run)
{
    lazy_run_free(run);
}

/* False: lazy loads cannot be had; the pure part of the case is run. */
static bool have_lazy_run(PropertyContext *context)
{
    g_autoptr(GError) error = NULL;

    if (context->lazy || context->lazy_missing) {
        return context->lazy;
    }
    context->lazy = lazy_run_new(context, &error);
    if (!context->lazy) {
        context->lazy_missing = true;
        fprintf(stderr, "pagewise: files are loaded eagerly, not lazily: %s\n", error->message);
        return false;
    }
    property_context_keep(context, context->lazy, free_lazy_run);
    return true;
}

bool property_lazy(PropertyContext *context, const uint8_t *data, size_t size, GError **error)
{
    Input input;
    LoadCase c;
    unsigned mutations;

    if (!input_decode(data, size, &input) || input.kind != INPUT_LAZY) {
        return true;
    }
    c = make_case(context, &input, &mutations);
    c.lazy = true;
    if (!begin_case(context, &c)) {
        return true;
    }
    context->stats.either += context->judgement.verdict == VERDICT_MAY;
    if (input_has_choices(&input) && !mutations && !c.repaired &&
        !check_generator(context, error)) {
        return false;
    }
    if (!context->subject->lazy) {
        context->stats.unsupported++;
        return true;
    }
    if (!have_lazy_run(context)) {
        return check_case(context, &c, error);
    }
    if (context->subject->lazy->drops_ram) {
        /* Behind the repairs and the load's own mode: of the expectation alone. */
        context->judgement.guest.clear_pages = true;
    }
    return check_lazily(context, &input, &c, error) &&
           (!can_be_saved(context, &input, &c) || save_and_load(context, &c, error));
}

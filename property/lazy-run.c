/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * See lazy-run.h. Where nobody is held, a guest thread's step is done by the
 * schedule's own thread: the loader cannot tell, and two switches of threads
 * are saved. Where somebody is held, the step is given to a thread that may
 * sleep, and is over, or sleeps, before the next one begins. That a thread
 * sleeps is asked of the kernel, and trusted only when whoever could wake it is
 * at rest: the fault thread has looked at its fault and waits for messages.
 */
#define _GNU_SOURCE /* MADV_REMOVE */
#include "property/lazy-run.h"

#include "property/guest-access.h"
#include "property/threads.h"

#include <fcntl.h>
#include <inttypes.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Given away the CPU so often, a waiting thread sleeps between two looks. */
#define YIELDS 200
#define SLEEP_US 50

static uint32_t get(const uint32_t *value)
{
    return __atomic_load_n(value, __ATOMIC_ACQUIRE);
}

static void set(uint32_t *value, uint32_t to)
{
    __atomic_store_n(value, to, __ATOMIC_RELEASE);
}

/* Threads hand over through the kernel, which no sanitizer sees. */
static void hand_over(LazyRun *run)
{
    __atomic_fetch_add(&run->sync, 1, __ATOMIC_ACQ_REL);
}

static bool somebody_is_held(const LazyRun *run)
{
    return __atomic_load_n(&run->held, __ATOMIC_ACQUIRE) > 0;
}

static bool tells(const LazyRun *run, SubjectPoint point)
{
    return run->lazy->points >> point & 1;
}

/* Can be known when the loader is at rest? */
static bool is_driven(const LazyRun *run)
{
    return tells(run, SUBJECT_POINT_IDLE) && tells(run, SUBJECT_POINT_AWAKE) &&
           tells(run, SUBJECT_POINT_FAULT);
}

static bool is_broken(LazyRun *run)
{
    bool broken;

    pthread_mutex_lock(&run->broken_lock);
    broken = run->broken;
    pthread_mutex_unlock(&run->broken_lock);
    return broken;
}

bool lazy_run_broken(LazyRun *run, PropertyId id, const LazyBlock *block, const char *format, ...)
{
    va_list args;
    g_autofree char *text = NULL;

    va_start(args, format);
    text = g_strdup_vprintf(format, args);
    va_end(args);
    pthread_mutex_lock(&run->broken_lock);
    if (!run->broken && block) {
        property_broken_block(run->context, id, block->block, &run->broken, "%s", text);
    } else if (!run->broken) {
        property_broken(run->context, id, &run->broken, "%s", text);
    }
    pthread_mutex_unlock(&run->broken_lock);
    return false;
}

/* Waiting. */

typedef bool Condition(LazyRun *run, const GuestThread *guest);

/* False: it did not come true in time, and the run is broken. */
static bool wait_until(LazyRun *run, Condition *condition, const GuestThread *guest,
                       const char *what)
{
    gint64 until = 0;

    __atomic_store_n(&run->waiting_for, what, __ATOMIC_RELEASE);
    for (unsigned i = 0; !condition(run, guest); i++) {
        if (i < YIELDS) {
            sched_yield();
            continue;
        }
        if (until == 0) {
            until = g_get_monotonic_time() + run->context->patience_ms * G_GINT64_CONSTANT(1000);
        } else if (g_get_monotonic_time() > until) {
            return lazy_run_broken(run, PROPERTY_BOUNDED, guest ? guest->act.block : NULL,
                                   "after %u ms still waiting until %s", run->context->patience_ms,
                                   what);
        }
        g_usleep(SLEEP_US);
    }
    hand_over(run);
    return true;
}

/* The loader's threads. */

/* Beside who is held: it may be he. */
static bool fault_thread_stands(LazyRun *run, const GuestThread *guest)
{
    (void)guest;
    return get(&run->fault_state) != LOADER_RUNS;
}

static bool fault_thread_rests(LazyRun *run, const GuestThread *guest)
{
    uint32_t state = get(&run->fault_state);

    (void)guest;
    return state == LOADER_RESTS || state == LOADER_ENDED;
}

/* Beside who is held: it may nap until he goes on. */
static bool eager_thread_stands(LazyRun *run, const GuestThread *guest)
{
    (void)guest;
    return get(&run->eager_state) != LOADER_RUNS;
}

static bool eager_thread_rests(LazyRun *run, const GuestThread *guest)
{
    uint32_t state = get(&run->eager_state);

    (void)guest;
    return state == LOADER_RESTS || state == LOADER_ENDED;
}

static const char fault_thread_is_to_rest[] = "the fault thread has served all faults";
static const char eager_thread_is_to_rest[] = "the eager thread has loaded what it claimed";

static bool let_fault_thread_stand(LazyRun *run)
{
    return !is_driven(run) || wait_until(run, fault_thread_stands, NULL, fault_thread_is_to_rest);
}

static bool let_eager_thread_stand(LazyRun *run)
{
    return wait_until(run, eager_thread_stands, NULL, eager_thread_is_to_rest);
}

/* Nobody is held, or will be. */
static bool let_loader_rest(LazyRun *run)
{
    return (!is_driven(run) ||
            wait_until(run, fault_thread_rests, NULL, fault_thread_is_to_rest)) &&
           wait_until(run, eager_thread_rests, NULL, eager_thread_is_to_rest);
}

/* What the model says of guest RAM. */

static const Judgement *judgement_of(const LazyRun *run)
{
    return &run->context->judgement;
}

/* The piece of a target page at @offset of the block. Returns its length, at most @length. */
static uint64_t source_of(const LazyRun *run, const LazyBlock *block, uint64_t offset,
                          uint64_t length, bool *in_file, uint64_t *file_offset)
{
    uint64_t size = judgement_of(run)->guest.target_page_size;

    *in_file = judgement_page(judgement_of(run), block->block, offset / size, file_offset) ==
               PAGE_FROM_FILE;
    *file_offset += offset % size;
    return MIN(length, size - offset % size);
}

static void read_model(const LazyRun *run, const LazyBlock *block, uint64_t offset, uint8_t *buffer,
                       uint64_t length)
{
    for (uint64_t done = 0; done < length;) {
        bool in_file;
        uint64_t at = 0;
        uint64_t n = source_of(run, block, offset + done, length - done, &in_file, &at);

        memset(buffer + done, 0, n);
        if (in_file) {
            sparse_file_read(judgement_of(run)->file, at, buffer + done, n);
        }
        done += n;
    }
}

static size_t differs_from_zero(const uint8_t *bytes, size_t length)
{
    size_t i = 0;

    while (i < length && bytes[i] == 0) {
        i++;
    }
    return i;
}

/*
 * A file that is cut off between the loader's look at its size and the copy
 * from its mapping: the kernel fills the last page up with zeroes. No loader
 * that maps can help that; it has to fail in the end.
 */
static bool may_be_cut_off(const LazyRun *run, uint64_t file_offset)
{
    uint64_t cut_at = __atomic_load_n(&run->load.cut_at, __ATOMIC_RELAXED);

    return run->load.map_fd >= 0 && file_offset >= cut_at &&
           file_offset / LAZY_PAGE == cut_at / LAZY_PAGE;
}

static size_t compare_file(const LazyRun *run, uint64_t file_offset, const uint8_t *bytes, size_t n)
{
    size_t same = sparse_file_compare(judgement_of(run)->file, file_offset, bytes, n);

    while (same < n && bytes[same] == 0 && may_be_cut_off(run, file_offset + same)) {
        same++;
    }
    return same;
}

static size_t compare_model(const LazyRun *run, const LazyBlock *block, uint64_t page)
{
    const uint8_t *bytes = block->host + page * LAZY_PAGE;

    for (uint64_t done = 0; done < LAZY_PAGE;) {
        bool in_file;
        uint64_t at = 0;
        uint64_t n =
            source_of(run, block, page * LAZY_PAGE + done, LAZY_PAGE - done, &in_file, &at);
        size_t same =
            in_file ? compare_file(run, at, bytes + done, n) : differs_from_zero(bytes + done, n);

        done += same;
        if (same < n) {
            return done;
        }
    }
    return LAZY_PAGE;
}

static size_t compare_expected(const LazyRun *run, const LazyBlock *block, uint64_t page)
{
    const uint8_t *found = block->host + page * LAZY_PAGE;
    const uint8_t *expected = run->expected[block->pages[page].expected - 1];
    uint64_t at = judgement_of(run)->blocks[block->block].pages_offset + page * LAZY_PAGE;
    size_t i = 0;

    if (memcmp(found, expected, LAZY_PAGE) == 0) {
        return LAZY_PAGE;
    }
    while (i < LAZY_PAGE &&
           (found[i] == expected[i] || (found[i] == 0 && may_be_cut_off(run, at + i)))) {
        i++;
    }
    return i;
}

size_t lazy_run_compare_page(const LazyRun *run, const LazyBlock *block, uint64_t page)
{
    return block->pages[page].expected ? compare_expected(run, block, page)
                                       : compare_model(run, block, page);
}

void lazy_run_restore_page(const LazyRun *run, const LazyBlock *block, uint64_t page)
{
    read_model(run, block, page * LAZY_PAGE, block->host + page * LAZY_PAGE, LAZY_PAGE);
}

static uint8_t expected_byte(const LazyRun *run, const LazyBlock *block, uint64_t page,
                             unsigned offset)
{
    uint8_t expected = block->pages[page].expected;
    uint8_t byte;

    if (expected) {
        return run->expected[expected - 1][offset];
    }
    read_model(run, block, page * LAZY_PAGE + offset, &byte, 1);
    return byte;
}

/* From now on the page is the guest's own. NULL: there are too many. */
static uint8_t *expected_page(LazyRun *run, const LazyBlock *block, uint64_t page)
{
    LazyPage *state = &block->pages[page];

    if (!state->expected) {
        if (run->n_expected == LAZY_MAX_EXPECTED) {
            return NULL;
        }
        read_model(run, block, page * LAZY_PAGE, run->expected[run->n_expected], LAZY_PAGE);
        state->expected = (uint8_t)++run->n_expected;
    }
    return run->expected[state->expected - 1];
}

/* What went wrong on purpose. */

static bool has_failed(const SubjectFault *fault, unsigned used, unsigned index)
{
    return index < used && __atomic_load_n(&fault->countdown, __ATOMIC_ACQUIRE) == 0;
}

bool lazy_run_may_shut_off(const LazyRun *run)
{
    for (unsigned i = 0; i < SUBJECT_MAX_FAULTS; i++) {
        const SubjectFault *fault = &run->load.faults[i];

        if (has_failed(fault, run->n_faults, i) &&
            (fault->operation == SUBJECT_POISON ||
             (fault->operation == SUBJECT_READ_MESSAGE && run->load.remove_events))) {
            return true;
        }
    }
    return false;
}

static bool a_failure_mattered(const LazyRun *run)
{
    for (unsigned i = 0; i < SUBJECT_MAX_FAULTS; i++) {
        const SubjectFault *fault = &run->load.faults[i];

        if (has_failed(fault, run->n_faults, i) && !schedule_is_harmless(fault)) {
            return true;
        }
    }
    return false;
}

bool lazy_run_may_fail(const LazyRun *run)
{
    const SubjectCost *cost = &run->load.load.cost;

    return run->cancelled || a_failure_mattered(run) ||
           (cost->fail_read && cost->reads >= cost->fail_read) ||
           (cost->cut_read && cost->reads >= cost->cut_read) ||
           __atomic_load_n(&run->load.cut_at, __ATOMIC_RELAXED) <
               sparse_file_size(run->load.load.file);
}

/* Guest threads. */

static void madvise_away(const LazyRun *run, const GuestAct *act)
{
    const LazyBlock *block = act->block;

    madvise(block->host + act->page * LAZY_PAGE, act->length * LAZY_PAGE,
            run->load.shared[block->block] ? MADV_REMOVE : MADV_DONTNEED);
}

/* In whichever thread it is. */
static void act(LazyRun *run, GuestAct *act)
{
    switch (act->action) {
    case STEP_READ:
    case STEP_WRITE:
        act->signal = guest_access(act->block->host + act->page * LAZY_PAGE + act->offset,
                                   act->action == STEP_WRITE, &act->value);
        break;
    case STEP_MADVISE:
        madvise_away(run, act);
        break;
    case STEP_DISCARD:
        run->lazy->discard(&run->load, act->block->block, act->page * LAZY_PAGE,
                           act->length * LAZY_PAGE, &act->error);
        break;
    default:
        run->lazy->cancel(&run->load);
        break;
    }
}

/* A discard does where madvise() waits for its event to be read. */
static bool sleeps_in_kernel(const LazyRun *run, const GuestAct *act)
{
    return act->action == STEP_READ || act->action == STEP_WRITE || act->action == STEP_MADVISE ||
           (act->action == STEP_DISCARD && run->load.remove_events);
}

static void *guest_thread(void *opaque)
{
    GuestThread *guest = opaque;

    __atomic_store_n(&guest->touching, sleeps_in_kernel(guest->run, &guest->act), __ATOMIC_RELEASE);
    act(guest->run, &guest->act);
    __atomic_store_n(&guest->touching, false, __ATOMIC_RELEASE);
    set(&guest->state, GUEST_DONE);
    return NULL;
}

/* The third field of the file; the second is a name in parentheses. */
static bool is_asleep(const GuestThread *guest)
{
    char text[256];
    ssize_t length;
    const char *end;

    if (!__atomic_load_n(&guest->touching, __ATOMIC_ACQUIRE)) {
        return false;
    }
    length = pread(guest->stat_fd, text, sizeof(text) - 1, 0);
    text[MAX(length, 0)] = '\0';
    end = strrchr(text, ')');
    return end && (end[2] == 'S' || end[2] == 'D');
}

/* Who meets a failure sleeps until end(): nobody poisons the page. */
static bool may_sleep_on(const LazyRun *run)
{
    return run->lazy->from_file && !run->lazy->poisons &&
           (run->load.load.cost.fail_read || run->load.load.cost.cut_read);
}

/* Nobody can wake it but a thread that is held, or end(). */
static bool sleeps_for_good(LazyRun *run, const GuestThread *guest)
{
    uint32_t fault_thread = get(&run->fault_state);

    if (get(&guest->state) == GUEST_NAPS) {
        return true;
    }
    if (may_sleep_on(run)) {
        return lazy_run_may_fail(run) && is_asleep(guest);
    }
    if (fault_thread == LOADER_RUNS ||
        (fault_thread == LOADER_RESTS && !__atomic_load_n(&guest->reported, __ATOMIC_ACQUIRE))) {
        return false;
    }
    return is_asleep(guest);
}

static bool is_done(LazyRun *run, const GuestThread *guest)
{
    (void)run;
    return get(&guest->state) == GUEST_DONE;
}

static bool is_done_or_sleeps(LazyRun *run, const GuestThread *guest)
{
    return is_done(run, guest) || sleeps_for_good(run, guest);
}

/* What a guest's act means for what is to be found. */

static bool changes(const GuestAct *act)
{
    return act->action == STEP_WRITE || act->action == STEP_DISCARD || act->action == STEP_MADVISE;
}

static bool has_page(const GuestAct *act)
{
    return act->action != STEP_CANCEL;
}

static void contest_read(GuestAct *read, const GuestAct *change)
{
    if (read->action == STEP_READ && read->block == change->block && read->page >= change->page &&
        read->page < change->page + change->length) {
        read->contested = true;
        read->block->pages[read->page].raced = true;
    }
}

/* Reads of the page that are not over may see it before or after. */
static void contest_reads(LazyRun *run, const GuestAct *change)
{
    if (run->own_act) {
        contest_read(run->own_act, change);
    }
    for (unsigned i = 0; i < SCHEDULE_GUEST_THREADS; i++) {
        if (get(&run->guests[i].state) != GUEST_FREE) {
            contest_read(&run->guests[i].act, change);
        }
    }
}

/* False: the step is left out, since what it leads to could not be known. */
static bool begin_act(LazyRun *run, GuestAct *act)
{
    LazyPage *pages = has_page(act) ? &act->block->pages[act->page] : NULL;

    if (act->action == STEP_READ) {
        act->contested = pages->pending > 0;
        pages->raced |= act->contested;
        act->before = expected_byte(run, act->block, act->page, act->offset);
        pages->touched = true;
    }
    if (!changes(act)) {
        return true;
    }
    for (uint64_t i = 0; i < act->length; i++) {
        if (pages[i].pending || !expected_page(run, act->block, act->page + i)) {
            return false;
        }
    }
    for (uint64_t i = 0; i < act->length; i++) {
        pages[i].pending++;
        pages[i].touched |= act->action == STEP_WRITE;
        /* So early: a placed zero page of it may be seen before the discard is over. */
        pages[i].discards += act->action != STEP_WRITE;
    }
    contest_reads(run, act);
    return true;
}

static void end_write(LazyRun *run, GuestAct *act)
{
    if (act->signal == 0) {
        run->expected[act->block->pages[act->page].expected - 1][act->offset] = act->value;
    }
}

static void end_discard(LazyRun *run, GuestAct *act)
{
    for (uint64_t i = 0; i < act->length; i++) {
        LazyPage *page = &act->block->pages[act->page + i];

        memset(run->expected[page->expected - 1], 0, LAZY_PAGE);
        page->present = false;
        page->kept = false;
    }
    if (act->error) {
        lazy_run_broken(run, PROPERTY_ONCE, act->block,
                        "host page %" PRIu64 ": the guest cannot discard it: %s", act->page,
                        act->error->message);
        g_clear_error(&act->error);
    }
}

static void check_signal(LazyRun *run, const GuestAct *act)
{
    if (act->signal && !lazy_run_may_fail(run)) {
        lazy_run_broken(run, PROPERTY_LAZY_EAGER, act->block,
                        "host page %" PRIu64 ": who touches it gets signal %d, but nothing failed",
                        act->page, act->signal);
    }
    if (!act->signal) {
        act->block->pages[act->page].kept = true;
    }
}

/* A page of zeroes, where there is to be data, has a name of its own. */
static PropertyId id_of_wrong_bytes(const LazyRun *run, const LazyPage *page)
{
    if (page->discards > 0 || page->expected) {
        return PROPERTY_ONCE;
    }
    return lazy_run_may_fail(run) ? PROPERTY_NO_SILENT_ZERO : PROPERTY_LAZY_EAGER;
}

static const char *whose_bytes(const LazyPage *page)
{
    return page->discards > 0 ? "what the guest wrote since it discarded the page, or zero"
           : page->expected   ? "what the guest wrote"
                              : "the file's";
}

static bool is_cut_off(const LazyRun *run, const GuestAct *act)
{
    uint64_t file_offset = judgement_of(run)->blocks[act->block->block].pages_offset +
                           act->page * LAZY_PAGE + act->offset;

    return act->value == 0 && may_be_cut_off(run, file_offset);
}

static void check_read(LazyRun *run, const GuestAct *act)
{
    const LazyPage *page = &act->block->pages[act->page];
    uint8_t expected = expected_byte(run, act->block, act->page, act->offset);

    if (act->signal || act->value == expected || is_cut_off(run, act) ||
        (act->contested &&
         (act->value == act->before || (page->discards > 0 && act->value == 0)))) {
        return;
    }
    lazy_run_broken(run, id_of_wrong_bytes(run, page), act->block,
                    "host page %" PRIu64 ": the guest read 0x%02x at byte %u, not 0x%02x (%s)",
                    act->page, act->value, act->offset, expected, whose_bytes(page));
}

static void end_change(LazyRun *run, GuestAct *act)
{
    for (uint64_t i = 0; i < act->length; i++) {
        act->block->pages[act->page + i].pending--;
    }
    if (act->action == STEP_WRITE) {
        end_write(run, act);
        check_signal(run, act);
    } else {
        end_discard(run, act);
    }
}

static void end_act(LazyRun *run, GuestAct *act)
{
    if (changes(act)) {
        end_change(run, act);
    } else if (act->action == STEP_READ) {
        check_signal(run, act);
        check_read(run, act);
    }
}

static void collect(LazyRun *run, GuestThread *guest)
{
    kept_thread_wait(guest->thread);
    set(&guest->state, GUEST_FREE);
    end_act(run, &guest->act);
}

/* Changes first: what was read was there before, or after. */
static void collect_all(LazyRun *run)
{
    for (unsigned pass = 0; pass < 2; pass++) {
        for (unsigned i = 0; i < SCHEDULE_GUEST_THREADS; i++) {
            GuestThread *guest = &run->guests[i];

            if (get(&guest->state) == GUEST_DONE && changes(&guest->act) == (pass == 0)) {
                collect(run, guest);
            }
        }
    }
}

/* Nobody is held: all guest threads have to come to their end. */
static bool wait_for_guests(LazyRun *run)
{
    for (unsigned i = 0; i < SCHEDULE_GUEST_THREADS; i++) {
        GuestThread *guest = &run->guests[i];

        if (get(&guest->state) != GUEST_FREE &&
            !wait_until(run, is_done, guest, "a guest thread that sleeps on a page is woken")) {
            return false;
        }
    }
    collect_all(run);
    return true;
}

/* Somebody is held: the guest thread may come to sleep. */
static void act_beside(LazyRun *run, unsigned number, const GuestAct *act)
{
    GuestThread *guest = &run->guests[number];

    collect_all(run);
    if (get(&guest->state) != GUEST_FREE) {
        return;
    }
    guest->act = *act;
    if (!begin_act(run, &guest->act)) {
        return;
    }
    __atomic_store_n(&guest->reported, false, __ATOMIC_RELAXED);
    set(&guest->state, GUEST_RUNS);
    hand_over(run);
    kept_thread_run(guest->thread, guest_thread, guest);
    if (wait_until(run, is_done_or_sleeps, guest, "a guest thread is done or sleeps") &&
        get(&run->fault_state) != LOADER_HELD) {
        let_fault_thread_stand(run);
    }
    collect_all(run);
}

/* Is the page such that touching it has to be a fault? */
static bool has_to_fault(const LazyRun *run, const GuestAct *act)
{
    const LazyPage *page = has_page(act) ? &act->block->pages[act->page] : NULL;

    return (act->action == STEP_READ || act->action == STEP_WRITE) && !page->present &&
           !page->raced && page->poisons == 0 && get(&run->fault_state) != LOADER_ENDED;
}

static unsigned times_placed(const GuestAct *act)
{
    const LazyPage *page = &act->block->pages[act->page];

    return page->copies + page->zeroes;
}

static void check_fault(LazyRun *run, const GuestAct *act, unsigned placed, uint64_t faults)
{
    run->demanded++;
    if (act->signal == 0 && times_placed(act) == placed &&
        run->lazy->faults(&run->load) == faults && get(&run->fault_state) != LOADER_ENDED) {
        lazy_run_broken(run, PROPERTY_LAZY_EAGER, act->block,
                        "host page %" PRIu64 ": nobody had placed it, but touching it was no "
                        "fault: it was not loaded lazily",
                        act->page);
    }
}

static void check_whole_page(LazyRun *run, const GuestAct *act)
{
    const LazyPage *state = &act->block->pages[act->page];
    size_t at = lazy_run_compare_page(run, act->block, act->page);

    if (at < LAZY_PAGE) {
        lazy_run_broken(run, id_of_wrong_bytes(run, state), act->block,
                        "host page %" PRIu64 ", just touched: found 0x%02x at byte %zu, not %s",
                        act->page, act->block->host[act->page * LAZY_PAGE + at], at,
                        whose_bytes(state));
    }
}

/* Poison failed, and all of the block with it: also what was touched a moment ago. */
static bool is_shut_off(const LazyRun *run, const GuestAct *act)
{
    uint8_t unused;

    return lazy_run_may_shut_off(run) &&
           guest_access(act->block->host + act->page * LAZY_PAGE, false, &unused) != 0;
}

/* Nobody is held: the fault is served while we sleep. */
static void act_at_once(LazyRun *run, GuestAct *guest_act)
{
    uint64_t faults = run->lazy->faults(&run->load);
    unsigned placed = 0;
    bool has_to;

    if (!begin_act(run, guest_act)) {
        return;
    }
    has_to = is_driven(run) && has_to_fault(run, guest_act);
    placed = has_to ? times_placed(guest_act) : 0;
    run->own_act = guest_act;
    hand_over(run);
    __atomic_store_n(&run->waiting_for, "the guest's own act is over", __ATOMIC_RELEASE);
    act(run, guest_act);
    let_loader_rest(run); /* Who placed the page may be held right behind that. */
    hand_over(run);
    run->own_act = NULL;
    wait_for_guests(run);
    end_act(run, guest_act);
    if (has_to && !guest_act->contested) {
        check_fault(run, guest_act, placed, faults);
    }
    if (guest_act->action == STEP_READ && guest_act->signal == 0 && !guest_act->contested &&
        !is_broken(run) && !is_shut_off(run, guest_act)) {
        check_whole_page(run, guest_act);
    }
}

/* Steps. */

static bool can_do(const LazyRun *run, StepAction action)
{
    return (action != STEP_CANCEL || run->lazy->cancel) &&
           (action != STEP_DISCARD || run->lazy->discard);
}

static bool is_left_out(const LazyRun *run, StepAction action)
{
    /* Discards and cancelling have to be over before end(); what madvise() does is heeded. */
    return (run->ending && (action == STEP_DISCARD || action == STEP_CANCEL)) || run->n_blocks == 0;
}

static void guest_step(LazyRun *run, const Step *step)
{
    GuestAct guest_act = { .action = step->action, .offset = step->offset, .value = step->value };

    if (guest_act.action == STEP_MADVISE && !run->load.remove_events) {
        guest_act.action = STEP_DISCARD;
    }
    if (!can_do(run, guest_act.action)) {
        run->context->stats.left_out++;
        return;
    }
    if (is_left_out(run, guest_act.action)) {
        return;
    }
    guest_act.block = &run->blocks[step->block % run->n_blocks];
    guest_act.page = step->page % guest_act.block->n_pages;
    guest_act.length = 1;
    if (guest_act.action == STEP_DISCARD || guest_act.action == STEP_MADVISE) {
        guest_act.length = MIN(step->length, guest_act.block->n_pages - guest_act.page);
    }
    run->cancelled |= guest_act.action == STEP_CANCEL;
    if (somebody_is_held(run) || may_sleep_on(run)) {
        act_beside(run, step->thread, &guest_act);
    } else {
        act_at_once(run, &guest_act);
    }
}

/* It may be held, or waiting for who is held: then it stays there. */
static void eager_step(LazyRun *run)
{
    if (run->ending || get(&run->eager_state) != LOADER_RESTS) {
        return;
    }
    run->eager_steps++;
    hand_over(run);
    set(&run->eager_state, LOADER_RUNS);
    sem_post(&run->eager_go);
    let_eager_thread_stand(run);
}

static void arm_failure(LazyRun *run, const SubjectFault *fault)
{
    SubjectFault *slot = &run->load.faults[run->n_faults];

    if (run->n_faults == SUBJECT_MAX_FAULTS || !(run->lazy->operations >> fault->operation & 1)) {
        return;
    }
    slot->operation = fault->operation;
    slot->failure = fault->failure;
    slot->error = fault->error;
    __atomic_store_n(&slot->countdown, fault->countdown, __ATOMIC_RELEASE);
    run->n_faults++;
}

static void cut_file(LazyRun *run, const Step *step)
{
    const LazyBlock *block;
    uint64_t at;

    if (run->n_blocks == 0) {
        return;
    }
    block = &run->blocks[step->block % run->n_blocks];
    at = judgement_of(run)->blocks[block->block].pages_offset +
         step->page % block->n_pages * LAZY_PAGE + step->offset;
    if (at < __atomic_load_n(&run->load.cut_at, __ATOMIC_RELAXED)) {
        __atomic_store_n(&run->load.cut_at, at, __ATOMIC_RELAXED);
        if (run->load.map_fd >= 0 && ftruncate(run->load.map_fd, (off_t)at) < 0) {
            lazy_run_broken(run, PROPERTY_MODEL, block, "the file cannot be cut");
        }
    }
}

static void do_step(LazyRun *run, const Step *step)
{
    switch (step->action) {
    case STEP_EAGER:
        eager_step(run);
        break;
    case STEP_FAIL:
        arm_failure(run, &step->fault);
        break;
    case STEP_CUT:
        cut_file(run, step);
        break;
    case STEP_WHEN: /* in the body of another one */
        break;
    default:
        guest_step(run, step);
        break;
    }
}

static void arm_trigger(LazyRun *run, const Step *step, unsigned first, unsigned end)
{
    for (unsigned i = 0; i < LAZY_MAX_TRIGGERS; i++) {
        if (!run->triggers[i].armed) {
            run->triggers[i] = (Trigger){ true, step->held, step->point, first, end };
            return;
        }
    }
}

bool lazy_run_steps(LazyRun *run)
{
    const Input *input = run->input;

    for (unsigned i = 0; i < input->n_steps && !is_broken(run); i++) {
        Step step = schedule_step(&input->steps[i]);

        if (step.action == STEP_WHEN) {
            unsigned end = MIN(i + 1 + step.length, input->n_steps);

            arm_trigger(run, &step, i + 1, end);
            i = end - 1;
            continue;
        }
        do_step(run, &step);
        if (!let_loader_rest(run) || (!may_sleep_on(run) && !wait_for_guests(run)) ||
            !let_loader_rest(run)) {
            return false;
        }
    }
    return !is_broken(run);
}

/* Hooks: in the loader's threads. */

static void hold(LazyRun *run, SubjectThread thread, const Trigger *trigger)
{
    uint32_t *state = thread == SUBJECT_FAULT_THREAD ? &run->fault_state : NULL;

    __atomic_fetch_add(&run->held, 1, __ATOMIC_ACQ_REL);
    if (state) {
        set(state, LOADER_HELD);
    }
    for (unsigned i = trigger->first; i < trigger->end && !is_broken(run); i++) {
        Step step = schedule_step(&run->input->steps[i]);

        do_step(run, &step);
    }
    hand_over(run);
    if (state) {
        set(state, LOADER_RUNS);
    }
    __atomic_fetch_sub(&run->held, 1, __ATOMIC_ACQ_REL);
}

static void come_to_point(LazyRun *run, SubjectPoint point, SubjectThread thread)
{
    for (unsigned i = 0; i < LAZY_MAX_TRIGGERS; i++) {
        Trigger *trigger = &run->triggers[i];

        if (trigger->armed && trigger->point == point && trigger->thread == thread) {
            trigger->armed = false;
            hold(run, thread, trigger);
        }
    }
}

static void note_report(LazyRun *run, int block, uint64_t page)
{
    for (unsigned i = 0; i < SCHEDULE_GUEST_THREADS; i++) {
        GuestThread *guest = &run->guests[i];

        if (get(&guest->state) == GUEST_RUNS && has_page(&guest->act) &&
            (int)guest->act.block->block == block && guest->act.page == page) {
            __atomic_store_n(&guest->reported, true, __ATOMIC_RELEASE);
        }
    }
}

static void wait_for_go(LazyRun *run)
{
    if (__atomic_load_n(&run->eager_free, __ATOMIC_ACQUIRE)) {
        return;
    }
    set(&run->eager_state, LOADER_RESTS);
    while (sem_wait(&run->eager_go) < 0) {
    }
    hand_over(run);
}

static uint32_t *state_of_this_thread(LazyRun *run, SubjectThread thread)
{
    if (thread == SUBJECT_FAULT_THREAD) {
        return &run->fault_state;
    }
    if (thread == SUBJECT_EAGER_THREAD && run->load.eager_thread) {
        return &run->eager_state;
    }
    for (unsigned i = 0; i < SCHEDULE_GUEST_THREADS; i++) {
        GuestThread *guest = &run->guests[i];

        if (pthread_equal(kept_thread_id(guest->thread), pthread_self())) {
            return &guest->state;
        }
    }
    return NULL;
}

/* Waits for a thread that is held, rather than for a while. */
static void nap(LazyRun *run, SubjectThread thread)
{
    uint32_t *state = somebody_is_held(run) ? state_of_this_thread(run, thread) : NULL;
    uint32_t before;

    if (!state) {
        return;
    }
    before = get(state);
    set(state, thread == SUBJECT_OTHER_THREAD ? (uint32_t)GUEST_NAPS : (uint32_t)LOADER_NAPS);
    while (somebody_is_held(run)) {
        g_usleep(SLEEP_US);
    }
    set(state, before);
    hand_over(run);
}

static void at_point(void *opaque, SubjectPoint point, SubjectThread thread, int block,
                     uint64_t page)
{
    LazyRun *run = opaque;

    hand_over(run);
    switch (point) {
    case SUBJECT_POINT_IDLE:
        set(&run->fault_state, LOADER_RESTS);
        return;
    case SUBJECT_POINT_AWAKE:
        set(&run->fault_state, LOADER_RUNS);
        return;
    case SUBJECT_POINT_FAULT_ENDS:
        set(&run->fault_state, LOADER_ENDED);
        return;
    case SUBJECT_POINT_EAGER_ENDS:
        set(&run->eager_state, LOADER_ENDED);
        return;
    case SUBJECT_POINT_NAP:
        nap(run, thread);
        return;
    case SUBJECT_POINT_FAULT:
        note_report(run, block, page);
        break;
    case SUBJECT_POINT_EAGER_NEXT:
        if (run->load.eager_thread) {
            wait_for_go(run);
        }
        break;
    default:
        break;
    }
    come_to_point(run, point, thread);
}

static LazyBlock *block_at(LazyRun *run, const uint8_t *host)
{
    for (unsigned i = 0; i < run->n_blocks; i++) {
        LazyBlock *block = &run->blocks[i];

        if (host >= block->host && host < block->host + block->n_pages * LAZY_PAGE) {
            return block;
        }
    }
    return NULL;
}

static void note_page(LazyPage *page, SubjectOperation how)
{
    uint8_t *count = how == SUBJECT_COPY       ? &page->copies
                     : how == SUBJECT_ZEROPAGE ? &page->zeroes
                                               : &page->poisons;

    *count = (uint8_t)MIN(*count + 1, UINT8_MAX);
    page->present |= how != SUBJECT_POISON;
}

static void placed(void *opaque, SubjectOperation how, const uint8_t *host, uint64_t length)
{
    LazyRun *run = opaque;
    LazyBlock *block = block_at(run, host);

    hand_over(run);
    for (uint64_t at = 0; block && at < length; at += LAZY_PAGE) {
        uint64_t page = (uint64_t)(host - block->host + at) / LAZY_PAGE;

        if (page < block->n_pages) {
            note_page(&block->pages[page], how);
        }
    }
}

/* Begin and end. */

static char *describe(void *opaque)
{
    LazyRun *run = opaque;

    return g_strdup_printf("subject %s: waits until %s; fault thread %u, eager thread %u "
                           "(0 runs, 1 rests, 2 held, 3 naps, 4 ended)",
                           run->context->subject->name,
                           __atomic_load_n(&run->waiting_for, __ATOMIC_ACQUIRE),
                           get(&run->fault_state), get(&run->eager_state));
}

static bool start_guest_thread(LazyRun *run, GuestThread *guest, GError **error)
{
    g_autofree char *path = NULL;

    guest->run = run;
    guest->thread = kept_thread_new(error);
    if (!guest->thread) {
        return false;
    }
    path = g_strdup_printf("/proc/self/task/%d/stat", (int)kept_thread_tid(guest->thread));
    guest->stat_fd = open(path, O_RDONLY | O_CLOEXEC);
    if (guest->stat_fd < 0) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_FAILED, "%s cannot be opened", path);
    }
    return guest->stat_fd >= 0;
}

static bool start_guest_threads(LazyRun *run, GError **error)
{
    for (unsigned i = 0; i < SCHEDULE_GUEST_THREADS; i++) {
        if (!start_guest_thread(run, &run->guests[i], error)) {
            return false;
        }
    }
    return true;
}

LazyRun *lazy_run_new(PropertyContext *context, GError **error)
{
    LazyRun *run = g_new0(LazyRun, 1);

    run->context = context;
    run->lazy = context->subject->lazy;
    run->waiting_for = "the load has begun";
    run->threads = open_threads();
    sem_init(&run->eager_go, 0, 0);
    pthread_mutex_init(&run->broken_lock, NULL);
    for (unsigned i = 0; i < SCHEDULE_GUEST_THREADS; i++) {
        run->guests[i].stat_fd = -1;
    }
    guest_access_init();
    run->page_store = g_new(LazyPage, LAZY_MAX_PAGES);
    run->expected = g_malloc((gsize)LAZY_MAX_EXPECTED * LAZY_PAGE);
    run->session = run->lazy->session_new(error);
    if (run->session && start_guest_threads(run, error)) {
        run->watchdog = watchdog_new(LAZY_TIME_LIMIT_S, describe, run, error);
    }
    if (!run->watchdog) {
        lazy_run_free(run);
        return NULL;
    }
    return run;
}

void lazy_run_free(LazyRun *run)
{
    if (run->watchdog) {
        watchdog_free(run->watchdog);
    }
    for (unsigned i = 0; i < SCHEDULE_GUEST_THREADS; i++) {
        kept_thread_free(run->guests[i].thread);
        if (run->guests[i].stat_fd >= 0) {
            close(run->guests[i].stat_fd);
        }
    }
    if (run->session) {
        run->lazy->session_free(run->session);
    }
    if (run->threads >= 0) {
        close(run->threads);
    }
    kept_file_free(run->file);
    g_clear_error(&run->broken);
    sem_destroy(&run->eager_go);
    pthread_mutex_destroy(&run->broken_lock);
    g_free(run->page_store);
    g_free(run->expected);
    g_free(run);
}

/*
 * A file that cannot be made real is read through the model's alone. Where its headers
 * have to be refused, nobody gets so far as to its pages: it need not be written.
 */
static int real_file(LazyRun *run, const SparseFile *file)
{
    if (!(run->flags & INPUT_LAZY_MAPPED)) {
        return -1;
    }
    if (!run->file) {
        run->file = kept_file_new(NULL);
    }
    if (run->file && verdict_for(run->context, SUBJECT_HEADERS) == VERDICT_REJECT) {
        return kept_file_descriptor(run->file);
    }
    return run->file ? kept_file_write(run->file, file) : -1;
}

void lazy_run_reset(LazyRun *run, const Input *input, const LoadCase *c)
{
    run->input = input;
    run->flags = input->lazy_flags;
    run->own_act = NULL;
    run->n_blocks = 0;
    run->n_expected = 0;
    run->n_faults = 0;
    run->cancelled = false;
    run->ending = false;
    run->eager_free = false;
    run->eager_steps = 0;
    run->demanded = 0;
    memset(run->triggers, 0, sizeof(run->triggers));
    g_clear_error(&run->broken);
    memset(&run->load, 0, sizeof(run->load));
    run->load.session = run->session;
    run->load.eager_thread =
        run->flags & INPUT_LAZY_EAGER_THREAD && tells(run, SUBJECT_POINT_EAGER_NEXT);
    run->load.remove_events = run->flags & INPUT_LAZY_REMOVE_EVENTS && run->lazy->remove_events;
    run->load.map_fd = real_file(run, c->file);
    run->load.cut_at = UINT64_MAX;
    run->load.at_point = at_point;
    run->load.placed = placed;
    run->load.opaque = run;
    run->load.load.file = c->file;
    run->load.load.guest = c->guest;
    set(&run->fault_state, LOADER_RUNS);
    set(&run->eager_state, run->load.eager_thread ? LOADER_RUNS : LOADER_ENDED);
}

static bool is_specified(const LazyRun *run, unsigned block)
{
    const Judgement *judgement = judgement_of(run);

    return !judgement->ram_unspecified && judgement->blocks[block].in_file &&
           !judgement->blocks[block].ignored && !judgement->blocks[block].unspecified;
}

/* Pages whose content nobody can know are left to the loader. */
static void find_pages(LazyRun *run)
{
    const SubjectLoad *load = &run->load.load;
    LazyPage *pages = run->page_store;

    for (unsigned i = 0; i < load->guest->n_blocks; i++) {
        uint64_t length =
            MIN(load->blocks[i].used_length, judgement_of(run)->blocks[i].used_length);
        LazyBlock *block = &run->blocks[run->n_blocks];

        if (!load->blocks[i].in_file || !is_specified(run, i) || length < LAZY_PAGE ||
            length / LAZY_PAGE > (uint64_t)(run->page_store + LAZY_MAX_PAGES - pages)) {
            continue;
        }
        *block = (LazyBlock){ i, load->blocks[i].host, length / LAZY_PAGE, pages };
        memset(pages, 0, block->n_pages * sizeof(*pages));
        pages += block->n_pages;
        run->n_blocks++;
    }
}

bool lazy_run_begin(LazyRun *run)
{
    bool rests = let_loader_rest(run);

    find_pages(run);
    hand_over(run);
    return rests;
}

SubjectStatus lazy_run_end(LazyRun *run, GError **refusal)
{
    SubjectStatus status;

    run->ending = true;
    __atomic_store_n(&run->eager_free, true, __ATOMIC_RELEASE);
    hand_over(run);
    if (get(&run->eager_state) == LOADER_RESTS) {
        set(&run->eager_state, LOADER_RUNS);
        sem_post(&run->eager_go);
    }
    __atomic_store_n(&run->waiting_for, "the load has ended", __ATOMIC_RELEASE);
    status = run->lazy->end(&run->load, refusal);
    hand_over(run);
    wait_for_guests(run);
    return status;
}

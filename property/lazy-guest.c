/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the guest does while it is loaded lazily, and what it has to find. Where
 * nobody is held, a guest thread's step is done by the schedule's own thread:
 * the loader cannot tell, and two switches of threads are saved. Where somebody
 * is held, the step is given to a thread that may sleep, and is over, or sleeps,
 * before the next one begins. That a thread sleeps is asked of the kernel, and
 * trusted only when whoever could wake it is at rest: the fault thread has
 * looked at its fault and waits for messages.
 */
#define _GNU_SOURCE /* MADV_REMOVE */
#include "property/lazy-parts.h"

#include "property/guest-access.h"

#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

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
    lazy_set_state(&guest->state, GUEST_DONE);
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

bool lazy_may_sleep_on(const LazyRun *run)
{
    return run->lazy->from_file && !run->lazy->poisons &&
           (run->load.load.cost.fail_read || run->load.load.cost.cut_read);
}

/* Nobody can wake it but a thread that is held, or end(). */
static bool sleeps_for_good(LazyRun *run, const GuestThread *guest)
{
    uint32_t fault_thread = lazy_state(&run->fault_state);

    if (lazy_state(&guest->state) == GUEST_NAPS) {
        return true;
    }
    if (lazy_may_sleep_on(run)) {
        return lazy_run_may_fail(run) && is_asleep(guest);
    }
    if (fault_thread == LOADER_RUNS ||
        (fault_thread == LOADER_RESTS && !__atomic_load_n(&guest->reported, __ATOMIC_ACQUIRE))) {
        return false;
    }
    return is_asleep(guest);
}

/* Another thread that is held may have collected it already. */
static bool is_done(LazyRun *run, const GuestThread *guest)
{
    uint32_t state = lazy_state(&guest->state);

    (void)run;
    return state == GUEST_DONE || state == GUEST_FREE;
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

bool lazy_act_has_page(const GuestAct *act)
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
        if (lazy_state(&run->guests[i].state) != GUEST_FREE) {
            contest_read(&run->guests[i].act, change);
        }
    }
}

/* False: the step is left out, since what it leads to could not be known. */
static bool begin_act(LazyRun *run, GuestAct *act)
{
    LazyPage *pages = lazy_act_has_page(act) ? &act->block->pages[act->page] : NULL;

    if (act->action == STEP_READ) {
        act->contested = pages->pending > 0;
        pages->raced |= act->contested;
        act->before = lazy_expected_byte(run, act->block, act->page, act->offset);
        pages->touched = true;
    }
    if (!changes(act)) {
        return true;
    }
    for (uint64_t i = 0; i < act->length; i++) {
        if (pages[i].pending || !lazy_expected_page(run, act->block, act->page + i)) {
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
    uint64_t file_offset = lazy_judgement(run)->blocks[act->block->block].pages_offset +
                           act->page * LAZY_PAGE + act->offset;

    return act->value == 0 && lazy_may_be_cut_off(run, file_offset);
}

static void check_read(LazyRun *run, const GuestAct *act)
{
    const LazyPage *page = &act->block->pages[act->page];
    uint8_t expected = lazy_expected_byte(run, act->block, act->page, act->offset);

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
    lazy_set_state(&guest->state, GUEST_FREE);
    end_act(run, &guest->act);
}

/* Under steps_lock. Changes first: what was read was there before, or after. */
static void collect_done(LazyRun *run)
{
    for (unsigned pass = 0; pass < 2; pass++) {
        for (unsigned i = 0; i < SCHEDULE_GUEST_THREADS; i++) {
            GuestThread *guest = &run->guests[i];

            if (lazy_state(&guest->state) == GUEST_DONE && changes(&guest->act) == (pass == 0)) {
                collect(run, guest);
            }
        }
    }
}

static void collect_all(LazyRun *run)
{
    pthread_mutex_lock(&run->steps_lock);
    collect_done(run);
    pthread_mutex_unlock(&run->steps_lock);
}

bool lazy_wait_for_guests(LazyRun *run)
{
    for (unsigned i = 0; i < SCHEDULE_GUEST_THREADS; i++) {
        GuestThread *guest = &run->guests[i];

        if (lazy_state(&guest->state) != GUEST_FREE &&
            !lazy_wait_until(run, is_done, guest,
                             "a guest thread that sleeps on a page is woken")) {
            return false;
        }
    }
    collect_all(run);
    return true;
}

/* Under steps_lock. False: it is not free, or begin_act() said no. */
static bool begin_beside(LazyRun *run, GuestThread *guest, const GuestAct *act)
{
    if (lazy_state(&guest->state) != GUEST_FREE) {
        return false;
    }
    guest->act = *act;
    if (!begin_act(run, &guest->act)) {
        return false;
    }
    __atomic_store_n(&guest->reported, false, __ATOMIC_RELAXED);
    lazy_set_state(&guest->state, GUEST_RUNS);
    lazy_hand_over(run);
    kept_thread_run(guest->thread, guest_thread, guest);
    return true;
}

void lazy_act_beside(LazyRun *run, unsigned number, const GuestAct *act)
{
    GuestThread *guest = &run->guests[number];
    bool begun;

    pthread_mutex_lock(&run->steps_lock);
    collect_done(run);
    begun = begin_beside(run, guest, act);
    pthread_mutex_unlock(&run->steps_lock);
    if (!begun) {
        return;
    }
    if (lazy_wait_until(run, is_done_or_sleeps, guest, "a guest thread is done or sleeps") &&
        lazy_state(&run->fault_state) != LOADER_HELD) {
        lazy_let_fault_thread_stand(run);
    }
    collect_all(run);
}

/* Is the page such that touching it has to be a fault? */
static bool has_to_fault(const LazyRun *run, const GuestAct *act)
{
    const LazyPage *page = lazy_act_has_page(act) ? &act->block->pages[act->page] : NULL;

    return (act->action == STEP_READ || act->action == STEP_WRITE) && !page->present &&
           !page->raced && page->poisons == 0 && lazy_state(&run->fault_state) != LOADER_ENDED;
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
        run->lazy->faults(&run->load) == faults && lazy_state(&run->fault_state) != LOADER_ENDED) {
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

void lazy_act_at_once(LazyRun *run, GuestAct *guest_act)
{
    uint64_t faults = run->lazy->faults(&run->load);
    unsigned placed = 0;
    bool has_to;

    if (!begin_act(run, guest_act)) {
        return;
    }
    has_to = lazy_is_driven(run) && has_to_fault(run, guest_act);
    placed = has_to ? times_placed(guest_act) : 0;
    run->own_act = guest_act;
    lazy_hand_over(run);
    __atomic_store_n(&run->waiting_for, "the guest's own act is over", __ATOMIC_RELEASE);
    act(run, guest_act);
    lazy_let_loader_rest(run); /* Who placed the page may be held right behind that. */
    lazy_hand_over(run);
    run->own_act = NULL;
    lazy_wait_for_guests(run);
    end_act(run, guest_act);
    if (has_to && !guest_act->contested) {
        check_fault(run, guest_act, placed, faults);
    }
    if (guest_act->action == STEP_READ && guest_act->signal == 0 && !guest_act->contested &&
        !lazy_run_is_broken(run) && !is_shut_off(run, guest_act)) {
        check_whole_page(run, guest_act);
    }
}

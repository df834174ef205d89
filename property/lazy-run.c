/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * See lazy-run.h: begin and end of a lazy load, its steps, and the waiting in
 * between. What the guest does is in lazy-guest.c, what a page is to hold in
 * lazy-page.c, what the loader's threads tell in lazy-hooks.c.
 */
#include "property/lazy-parts.h"

#include "property/guest-access.h"
#include "property/threads.h"

#include <fcntl.h>
#include <sched.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

/* Given away the CPU so often, a waiting thread sleeps between two looks. */
#define YIELDS 200

bool lazy_run_is_broken(LazyRun *run)
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

bool lazy_wait_until(LazyRun *run, LazyCondition *condition, const GuestThread *guest,
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
                                   "after %u ms still waiting until %s (fault thread %u, eager "
                                   "thread %u, guest thread %u; held: %u)",
                                   run->context->patience_ms, what, lazy_state(&run->fault_state),
                                   lazy_state(&run->eager_state),
                                   guest ? lazy_state(&guest->state) : 0,
                                   __atomic_load_n(&run->held, __ATOMIC_ACQUIRE));
        }
        g_usleep(LAZY_SLEEP_US);
    }
    lazy_hand_over(run);
    return true;
}

/* The loader's threads. */

/* Beside who is held: it may be he. */
static bool fault_thread_stands(LazyRun *run, const GuestThread *guest)
{
    (void)guest;
    return lazy_state(&run->fault_state) != LOADER_RUNS;
}

static bool fault_thread_rests(LazyRun *run, const GuestThread *guest)
{
    uint32_t state = lazy_state(&run->fault_state);

    (void)guest;
    return state == LOADER_RESTS || state == LOADER_ENDED;
}

/* Beside who is held: it may nap until he goes on. */
static bool eager_thread_stands(LazyRun *run, const GuestThread *guest)
{
    (void)guest;
    return lazy_state(&run->eager_state) != LOADER_RUNS;
}

static bool eager_thread_rests(LazyRun *run, const GuestThread *guest)
{
    uint32_t state = lazy_state(&run->eager_state);

    (void)guest;
    return state == LOADER_RESTS || state == LOADER_ENDED;
}

static const char fault_thread_is_to_rest[] = "the fault thread has served all faults";
static const char eager_thread_is_to_rest[] = "the eager thread has loaded what it claimed";

bool lazy_let_fault_thread_stand(LazyRun *run)
{
    return !lazy_is_driven(run) ||
           lazy_wait_until(run, fault_thread_stands, NULL, fault_thread_is_to_rest);
}

static bool let_eager_thread_stand(LazyRun *run)
{
    return lazy_wait_until(run, eager_thread_stands, NULL, eager_thread_is_to_rest);
}

bool lazy_let_loader_rest(LazyRun *run)
{
    return (!lazy_is_driven(run) ||
            lazy_wait_until(run, fault_thread_rests, NULL, fault_thread_is_to_rest)) &&
           lazy_wait_until(run, eager_thread_rests, NULL, eager_thread_is_to_rest);
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
    if (lazy_somebody_is_held(run) || lazy_may_sleep_on(run)) {
        lazy_act_beside(run, step->thread, &guest_act);
    } else {
        lazy_act_at_once(run, &guest_act);
    }
}

/* It may be held, or waiting for who is held: then it stays there. */
static void eager_step(LazyRun *run)
{
    if (run->ending || lazy_state(&run->eager_state) != LOADER_RESTS) {
        return;
    }
    run->eager_steps++;
    lazy_hand_over(run);
    lazy_set_state(&run->eager_state, LOADER_RUNS);
    sem_post(&run->eager_go);
    let_eager_thread_stand(run);
}

/* Under steps_lock. */
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

/* No step is done twice. Noted before, as others may copy from it right after. */
static void cut_real_file(LazyRun *run, const LazyBlock *block, uint64_t at)
{
    unsigned number = __atomic_fetch_add(&run->n_ends, 1, __ATOMIC_ACQ_REL);

    __atomic_store_n(&run->ends[number], at, __ATOMIC_RELEASE);
    if (ftruncate(run->load.map_fd, (off_t)at) < 0) {
        lazy_run_broken(run, PROPERTY_MODEL, block, "the file cannot be cut");
    }
}

static void cut_file(LazyRun *run, const Step *step)
{
    const LazyBlock *block;
    uint64_t at;

    if (run->n_blocks == 0) {
        return;
    }
    block = &run->blocks[step->block % run->n_blocks];
    at = lazy_judgement(run)->blocks[block->block].pages_offset +
         step->page % block->n_pages * LAZY_PAGE + step->offset;
    if (at < __atomic_load_n(&run->load.cut_at, __ATOMIC_RELAXED)) {
        __atomic_store_n(&run->load.cut_at, at, __ATOMIC_RELAXED);
        if (run->load.map_fd >= 0) {
            cut_real_file(run, block, at);
        }
    }
}

void lazy_do_step(LazyRun *run, const Step *step)
{
    switch (step->action) {
    case STEP_EAGER:
        eager_step(run);
        break;
    case STEP_FAIL:
        pthread_mutex_lock(&run->steps_lock);
        arm_failure(run, &step->fault);
        pthread_mutex_unlock(&run->steps_lock);
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

    for (unsigned i = 0; i < input->n_steps && !lazy_run_is_broken(run); i++) {
        Step step = schedule_step(&input->steps[i]);

        if (step.action == STEP_WHEN) {
            unsigned end = MIN(i + 1 + step.length, input->n_steps);

            arm_trigger(run, &step, i + 1, end);
            i = end - 1;
            continue;
        }
        lazy_do_step(run, &step);
        if (!lazy_let_loader_rest(run) || (!lazy_may_sleep_on(run) && !lazy_wait_for_guests(run)) ||
            !lazy_let_loader_rest(run)) {
            return false;
        }
    }
    return !lazy_run_is_broken(run);
}

/* Begin and end. */

static char *describe(void *opaque)
{
    LazyRun *run = opaque;

    return g_strdup_printf("subject %s: waits until %s; fault thread %u, eager thread %u "
                           "(0 runs, 1 rests, 2 held, 3 naps, 4 ended)",
                           run->context->subject->name,
                           __atomic_load_n(&run->waiting_for, __ATOMIC_ACQUIRE),
                           lazy_state(&run->fault_state), lazy_state(&run->eager_state));
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
    pthread_mutex_init(&run->steps_lock, NULL);
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
    pthread_mutex_destroy(&run->steps_lock);
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
    run->n_ends = 0;
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
        run->flags & INPUT_LAZY_EAGER_THREAD && lazy_tells(run, SUBJECT_POINT_EAGER_NEXT);
    run->load.remove_events = run->flags & INPUT_LAZY_REMOVE_EVENTS && run->lazy->remove_events;
    run->load.map_fd = real_file(run, c->file);
    run->load.cut_at = UINT64_MAX;
    run->load.at_point = lazy_at_point;
    run->load.placed = lazy_placed;
    run->load.opaque = run;
    run->load.load.file = c->file;
    run->load.load.guest = c->guest;
    lazy_set_state(&run->fault_state, LOADER_RUNS);
    lazy_set_state(&run->eager_state, run->load.eager_thread ? LOADER_RUNS : LOADER_ENDED);
}

static bool is_specified(const LazyRun *run, unsigned block)
{
    const Judgement *judgement = lazy_judgement(run);

    return !judgement->ram_unspecified && judgement->blocks[block].in_file &&
           !judgement->blocks[block].ignored && !judgement->blocks[block].unspecified;
}

/* A host page is 1, 2 or 4 target pages, whose bits are in one word, or a part of one. */
static void find_data(const LazyRun *run, const LazyBlock *block)
{
    uint64_t size = lazy_judgement(run)->guest.target_page_size;
    uint64_t some = (UINT64_C(1) << MAX(1, LAZY_PAGE / size)) - 1;
    uint64_t word = UINT64_MAX;
    uint64_t bits = 0;

    for (uint64_t page = 0; page < block->n_pages; page++) {
        uint64_t first = page * LAZY_PAGE / size;

        if (first / 64 != word) {
            word = first / 64;
            bits = judgement_pages_in_word(lazy_judgement(run), block->block, word);
        }
        block->pages[page].has_data = bits >> first % 64 & some;
    }
}

/* Pages whose content nobody can know are left to the loader. */
static void find_pages(LazyRun *run)
{
    const SubjectLoad *load = &run->load.load;
    LazyPage *pages = run->page_store;

    for (unsigned i = 0; i < load->guest->n_blocks; i++) {
        uint64_t length =
            MIN(load->blocks[i].used_length, lazy_judgement(run)->blocks[i].used_length);
        LazyBlock *block = &run->blocks[run->n_blocks];

        if (!load->blocks[i].in_file || !is_specified(run, i) || length < LAZY_PAGE ||
            length / LAZY_PAGE > (uint64_t)(run->page_store + LAZY_MAX_PAGES - pages)) {
            continue;
        }
        *block = (LazyBlock){ i, load->blocks[i].host, length / LAZY_PAGE, pages };
        memset(pages, 0, block->n_pages * sizeof(*pages));
        find_data(run, block);
        pages += block->n_pages;
        run->n_blocks++;
    }
}

bool lazy_run_begin(LazyRun *run)
{
    bool rests = lazy_let_loader_rest(run);

    find_pages(run);
    lazy_hand_over(run);
    return rests;
}

SubjectStatus lazy_run_end(LazyRun *run, GError **refusal)
{
    SubjectStatus status;

    run->ending = true;
    __atomic_store_n(&run->eager_free, true, __ATOMIC_RELEASE);
    lazy_hand_over(run);
    if (lazy_state(&run->eager_state) == LOADER_RESTS) {
        lazy_set_state(&run->eager_state, LOADER_RUNS);
        sem_post(&run->eager_go);
    }
    __atomic_store_n(&run->waiting_for, "the load has ended", __ATOMIC_RELEASE);
    status = run->lazy->end(&run->load, refusal);
    lazy_hand_over(run);
    lazy_wait_for_guests(run);
    return status;
}

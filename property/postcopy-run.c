/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * See postcopy-run.h. The schedule's thread is the source, and the only one
 * that changes what the model knows; the subject's threads and the guest's
 * report under the lock, and settle() waits for what the model says they do.
 * Here are those threads, the steps, and the load as a whole; the source's
 * messages and what it is answered are in postcopy-peer.c, the channels in
 * postcopy-pair.c.
 */
#include "property/postcopy-parts.h"

#include "property/guest-access.h"

#include <inttypes.h>
#include <stdarg.h>
#include <string.h>
#include <time.h>

bool postcopy_run_broken(PostcopyRun *run, PropertyId id, const char *format, ...)
{
    va_list arguments;

    if (!run->broken) {
        g_autofree char *text = NULL;

        va_start(arguments, format);
        text = g_strdup_vprintf(format, arguments);
        va_end(arguments);
        property_broken(run->context, id, &run->broken, "%s", text);
    }
    return false;
}

void postcopy_for_each_page(PostcopyRun *run, void (*body)(PostcopyRun *run, NetPage *page))
{
    for (unsigned block = 0; block < postcopy_guest(run)->n_blocks; block++) {
        for (uint64_t page = 0; page < postcopy_pages(run, block); page++) {
            body(run, &run->pages[block][page]);
        }
    }
}

/* Hooks: in the subject's threads. */

static void at_point(void *opaque, SubjectPostcopyPoint point, unsigned channel, unsigned block,
                     uint64_t value)
{
    PostcopyRun *run = opaque;

    pthread_mutex_lock(&run->lock);
    switch (point) {
    case SUBJECT_POSTCOPY_READS:
        run->reads[channel] = value;
        break;
    case SUBJECT_POSTCOPY_ENDED:
        run->stream_ended[channel] = value;
        break;
    case SUBJECT_POSTCOPY_ASKED:
        run->pages[block][value].told++;
        break;
    case SUBJECT_POSTCOPY_WAITS:
    case SUBJECT_POSTCOPY_GOES_ON:
        run->fault_thread_waits = point == SUBJECT_POSTCOPY_WAITS;
        break;
    }
    pthread_cond_broadcast(&run->changed);
    pthread_mutex_unlock(&run->lock);
}

static void channels_broke(void *opaque, const char *message)
{
    PostcopyRun *run = opaque;

    pthread_mutex_lock(&run->lock);
    run->told_breaks++;
    g_free(run->told_reason);
    run->told_reason = g_strdup(message);
    pthread_cond_broadcast(&run->changed);
    pthread_mutex_unlock(&run->lock);
}

/* Waiting. */

/* Under lock: has the channel's reader come to where it must? */
static bool channel_rests(const PostcopyRun *run, unsigned channel)
{
    return run->pair.ended[channel] ? run->stream_ended[channel] != UINT64_MAX
                                    : run->reads[channel] == run->pair.sent[channel];
}

static const char *why_channels(const PostcopyRun *run)
{
    if (run->told_breaks != run->breaks) {
        return "the channels break";
    }
    for (unsigned i = 0; run->pair.open && i < run->n_channels; i++) {
        if (!channel_rests(run, i)) {
            return run->pair.ended[i] ? "the channel's stream ends"
                                      : "all that the channel brought is used";
        }
    }
    return NULL;
}

/* Under lock: did the fault thread look at each fault on the page? */
static bool all_told(const NetPage *page)
{
    return page->told >= page->touches;
}

static const char *why_thread(const PostcopyRun *run, const NetThread *thread)
{
    if (!thread->busy || thread->done) {
        return NULL;
    }
    if (thread->page->state != NET_PAGE_MISSING) {
        return "who sleeps on a page that came, or was discarded, wakes";
    }
    if (run->end != NET_RUNS) {
        return "who sleeps on a page that will never come gets a signal";
    }
    if (run->pair.open && !run->pair.recovering) {
        return all_told(thread->page) ? NULL : "the source is asked for a page that is touched";
    }
    /* What was asked for before will be asked for again: nobody need wait for that. */
    return all_told(thread->page) || run->fault_thread_waits
               ? NULL
               : "the fault thread waits for new channels";
}

/* Under lock: what is still to happen; NULL: all is at rest. */
static const char *why_not_settled(const PostcopyRun *run)
{
    const char *why = run->end == NET_RUNS ? why_channels(run) : NULL;

    for (unsigned i = 0; !why && i < POSTCOPY_MAX_THREADS; i++) {
        why = why_thread(run, &run->threads[i]);
    }
    return why;
}

static bool settle(PostcopyRun *run)
{
    struct timespec deadline = bounded_until(POSTCOPY_PATIENCE_S);
    const char *why = NULL;
    int result = 0;

    if (!run->live) {
        return true;
    }
    pthread_mutex_lock(&run->lock);
    while (result == 0 && (why = why_not_settled(run))) {
        __atomic_store_n(&run->waiting_for, why, __ATOMIC_RELAXED);
        result = pthread_cond_timedwait(&run->changed, &run->lock, &deadline);
    }
    pthread_mutex_unlock(&run->lock);
    return !why || postcopy_run_broken(run, PROPERTY_BOUNDED, "waited %u s in vain until %s",
                                       POSTCOPY_PATIENCE_S, why);
}

/* The guest's threads. */

static bool thread_is_over(NetThread *thread)
{
    bool done;

    pthread_mutex_lock(&thread->run->lock);
    done = thread->done;
    pthread_mutex_unlock(&thread->run->lock);
    return done;
}

/* Of a write that slept until its page was discarded nobody knows which came first. */
static void note_write(const NetThread *thread, uint8_t *wanted)
{
    uint8_t found = thread->value;

    if (thread->slept && thread->page->state == NET_PAGE_DROPPED) {
        guest_access(thread->byte, false, &found);
    }
    *wanted = found == 0 ? 0 : thread->value;
}

static bool check_access(PostcopyRun *run, const NetThread *thread)
{
    uint64_t offset = (uintptr_t)thread->byte % POSTCOPY_PAGE;
    uint8_t *wanted = &thread->page->content[offset];

    if (thread->page->state == NET_PAGE_MISSING) {
        return thread->signal != 0 ||
               postcopy_run_broken(run, PROPERTY_NO_SILENT_ZERO,
                                   "a page that never came could be touched: byte 0x%" PRIx64
                                   " of it was read as 0x%02x",
                                   offset, thread->value);
    }
    if (thread->signal != 0) {
        return postcopy_run_broken(run, PROPERTY_BOUNDED,
                                   "touching a page that came, or was discarded, gave signal %d",
                                   thread->signal);
    }
    if (thread->write) {
        note_write(thread, wanted);
        return true;
    }
    return thread->value == *wanted ||
           postcopy_run_broken(run, PROPERTY_POSTCOPY,
                               "a guest thread read 0x%02x, not 0x%02x, at byte 0x%" PRIx64
                               " of a page that %s (rules L1, L3)",
                               thread->value, *wanted, offset,
                               thread->page->state == NET_PAGE_THERE ? "came" : "was discarded");
}

static bool collect_threads(PostcopyRun *run)
{
    for (unsigned i = 0; i < POSTCOPY_MAX_THREADS; i++) {
        NetThread *thread = &run->threads[i];

        if (thread->busy && thread_is_over(thread)) {
            kept_thread_wait(thread->thread);
            thread->busy = false;
            if (!check_access(run, thread)) {
                return false;
            }
        }
        thread->slept = thread->busy;
    }
    return true;
}

static void *touch(void *opaque)
{
    NetThread *thread = opaque;
    int number = guest_access(thread->byte, thread->write, &thread->value);

    pthread_mutex_lock(&thread->run->lock);
    thread->signal = number;
    thread->done = true;
    pthread_cond_broadcast(&thread->run->changed);
    pthread_mutex_unlock(&thread->run->lock);
    return NULL;
}

bool postcopy_rest(PostcopyRun *run)
{
    return settle(run) && collect_threads(run) && postcopy_read_return_path(run) &&
           postcopy_check_all_said(run) && (run->pair.open || postcopy_check_break(run));
}

/* The guest. */

static bool touch_page(PostcopyRun *run, const PostcopyStep *step)
{
    NetThread *thread = &run->threads[step->thread];
    NetPage *page = &run->pages[step->block][step->page];
    /* Each thread has bytes of its own, so that the guest has no races. */
    uint64_t offset = step->thread * 1024 + step->value * 4;

    if (thread->busy || run->end != NET_RUNS) {
        return true;
    }
    postcopy_want(run, page);
    if (!run->live) {
        return true;
    }
    thread->busy = true;
    thread->page = page;
    thread->byte = run->load.host[step->block] + step->page * POSTCOPY_PAGE + offset;
    thread->write = step->action == POSTCOPY_WRITE;
    thread->value = step->detail;
    thread->done = false;
    thread->slept = false;
    kept_thread_run(thread->thread, touch, thread);
    return postcopy_rest(run);
}

static void drop_page(NetPage *page)
{
    page->state = NET_PAGE_DROPPED;
    page->wanted = page->due = false;
    memset(page->content, 0, sizeof(page->content));
}

static bool discard(PostcopyRun *run, const PostcopyStep *step)
{
    uint64_t n = MIN(step->detail % 4 + UINT64_C(1), postcopy_pages(run, step->block) - step->page);
    g_autoptr(GError) error = NULL;

    if (run->end == NET_FAILED) {
        return true;
    }
    for (uint64_t i = 0; i < n; i++) {
        drop_page(&run->pages[step->block][step->page + i]);
    }
    if (run->live && run->postcopy->discard(&run->load, step->block, step->page * POSTCOPY_PAGE,
                                            n * POSTCOPY_PAGE, &error) != SUBJECT_ACCEPTED) {
        return postcopy_run_broken(run, PROPERTY_AGREES, "a discard is refused: %s",
                                   error->message);
    }
    return postcopy_rest(run);
}

static bool cancel(PostcopyRun *run)
{
    if (run->end != NET_RUNS) {
        return true;
    }
    run->end = NET_FAILED;
    run->end_reason = "cancelled";
    if (run->live) {
        run->postcopy->cancel(&run->load);
    }
    return postcopy_rest(run);
}

static bool do_step(PostcopyRun *run, const PostcopyStep *step)
{
    switch (step->action) {
    case POSTCOPY_TOUCH:
    case POSTCOPY_WRITE:
        return touch_page(run, step);
    case POSTCOPY_DISCARD:
        return discard(run, step);
    case POSTCOPY_BREAK:
        return postcopy_break(run, step);
    case POSTCOPY_RESUME:
        return postcopy_resume(run, step->value & 1);
    case POSTCOPY_DAMAGE:
        run->damage = true;
        run->damage_at = step->detail;
        run->damage_value = step->value;
        return true;
    case POSTCOPY_PIECES:
        run->piece = step->detail;
        return true;
    case POSTCOPY_CANCEL:
        return cancel(run);
    default:
        return postcopy_send_step(run, step);
    }
}

/* The rest. */

/* Nothing is begun on the pair that a right message could not follow. */
static bool pair_is_fit(const PostcopyRun *run)
{
    const NetPair *pair = &run->pair;

    for (unsigned i = 0; i < run->n_channels; i++) {
        if (!pair->ended[i] && !wire_reader_is_between_items(pair->readers[i])) {
            return false;
        }
    }
    return pair->open && !pair->takes_nothing && !pair->recovering && !pair->ended[0];
}

static bool make_pair_fit(PostcopyRun *run)
{
    const PostcopyStep close_all = { .action = POSTCOPY_BREAK, .value = POSTCOPY_BREAK_BOTH };

    run->piece = 0;
    run->damage = false;
    if (pair_is_fit(run)) {
        return true;
    }
    return postcopy_break(run, &close_all) && postcopy_resume(run, true);
}

static bool send_missing_pages(PostcopyRun *run)
{
    for (unsigned block = 0; block < postcopy_guest(run)->n_blocks; block++) {
        for (uint64_t page = 0; page < postcopy_pages(run, block); page++) {
            g_autoptr(GByteArray) message = g_byte_array_new();

            if (run->pages[block][page].state == NET_PAGE_MISSING) {
                postcopy_compose_page(&run->pair.composers[0], postcopy_guest(run), block, page,
                                      (uint8_t)(0x90 + page), 0, message);
                if (!postcopy_send_message(run, 0, message)) {
                    return false;
                }
            }
        }
    }
    return true;
}

static bool send_ends(PostcopyRun *run)
{
    for (unsigned i = run->n_channels; i-- > 0;) {
        g_autoptr(GByteArray) message = g_byte_array_new();

        postcopy_compose_end(&run->pair.composers[i], message);
        if (!postcopy_send_message(run, i, message)) {
            return false;
        }
    }
    return true;
}

static bool finish(PostcopyRun *run)
{
    if (run->end != NET_RUNS) {
        return true;
    }
    if (!(run->script->finish)) {
        return cancel(run);
    }
    return make_pair_fit(run) && send_missing_pages(run) && send_ends(run) &&
           (run->end == NET_LOADED ||
            postcopy_run_broken(run, PROPERTY_MODEL,
                                "a source that sends everything does not end the load"));
}

bool postcopy_run_steps(PostcopyRun *run)
{
    size_t raw = 0;

    for (unsigned i = 0; i < run->script->n_steps; i++) {
        PostcopyStep step = postcopy_script_step(run->script, i, &raw);

        if (!do_step(run, &step)) {
            return false;
        }
    }
    return finish(run);
}

/* Begin and end. */

static void end_threads(PostcopyRun *run)
{
    for (unsigned i = 0; i < POSTCOPY_MAX_THREADS; i++) {
        if (run->threads[i].busy) {
            kept_thread_wait(run->threads[i].thread);
            run->threads[i].busy = false;
        }
    }
}

SubjectStatus postcopy_run_end(PostcopyRun *run, GError **refusal)
{
    SubjectStatus status = SUBJECT_UNSUPPORTED;

    if (run->live) {
        if (run->broken) {
            /* Whatever the load waits for will not come. */
            run->postcopy->cancel(&run->load);
        }
        status = run->postcopy->end(&run->load, refusal);
        end_threads(run);
        if (!run->broken && postcopy_read_return_path(run)) {
            postcopy_check_shut(run);
        }
    }
    if (!run->broken) {
        postcopy_pair_finish(run);
    }
    return status;
}

void postcopy_run_clear(PostcopyRun *run)
{
    postcopy_pair_close(&run->pair);
    g_clear_error(&run->broken);
    g_clear_pointer(&run->break_rule, g_free);
    g_clear_pointer(&run->told_reason, g_free);
    watchdog_end(run->watchdog);
}

static bool give_ram(PostcopyRun *run, GError **error)
{
    uint8_t before = run->script->dirty_ram ? 0x5a : 0;

    if (!guest_ram_prepare(run->context->ram, postcopy_guest(run), before, error)) {
        return false;
    }
    for (unsigned i = 0; i < postcopy_guest(run)->n_blocks; i++) {
        run->load.host[i] = guest_ram_host(run->context->ram, i);
    }
    return true;
}

static void reset(PostcopyRun *run, const PostcopyScript *script)
{
    run->script = script;
    run->live = true;
    run->n_channels = script->preempt ? SUBJECT_CHANNELS : 1;
    run->load = (SubjectPostcopyLoad){
        .guest = &script->guest,
        .preempt = run->n_channels > 1,
        .section_id = POSTCOPY_SECTION_ID,
        .at_point = at_point,
        .broken = channels_broke,
        .opaque = run,
    };
    for (unsigned block = 0; block < script->guest.n_blocks; block++) {
        for (uint64_t page = 0; page < postcopy_pages(run, block); page++) {
            NetPage *one = &run->pages[block][page];

            one->state = NET_PAGE_MISSING;
            one->wanted = one->due = one->asked = false;
            one->told = one->touches = 0;
        }
    }
    run->end = NET_RUNS;
    run->breaks = run->told_breaks = 0;
    run->piece = 0;
    run->damage = false;
    run->fault_thread_waits = false;
}

bool postcopy_run_start(PostcopyRun *run, const PostcopyScript *script, bool *missing,
                        GError **error)
{
    int theirs[SUBJECT_CHANNELS];
    SubjectStatus status;

    watchdog_begin(run->watchdog);
    reset(run, script);
    if (!give_ram(run, error) || !postcopy_pair_open(run, theirs, error)) {
        return false;
    }
    status = run->postcopy->start(&run->load, theirs, error);
    *missing = status == SUBJECT_UNSUPPORTED;
    run->live = status == SUBJECT_ACCEPTED;
    return status != SUBJECT_REFUSED;
}

static char *describe(void *opaque)
{
    PostcopyRun *run = opaque;
    const char *what = __atomic_load_n(&run->waiting_for, __ATOMIC_RELAXED);

    return g_strdup_printf("subject %s: waits until %s", run->context->subject->name,
                           what ? what : "the load is over");
}

PostcopyRun *postcopy_run_new(PropertyContext *context, GError **error)
{
    PostcopyRun *run = g_new0(PostcopyRun, 1);

    guest_access_init();
    run->context = context;
    run->postcopy = context->subject->postcopy;
    run->pair = (NetPair){ .fds = { -1, -1 } };
    pthread_mutex_init(&run->lock, NULL);
    bounded_cond_init(&run->changed);
    run->watchdog = watchdog_new(POSTCOPY_TIME_LIMIT_S, describe, run, error);
    for (unsigned i = 0; run->watchdog && i < POSTCOPY_MAX_THREADS; i++) {
        run->threads[i].run = run;
        run->threads[i].thread = kept_thread_new(error);
        if (!run->threads[i].thread) {
            break;
        }
    }
    if (run->threads[POSTCOPY_MAX_THREADS - 1].thread) {
        return run;
    }
    postcopy_run_free(run);
    return NULL;
}

void postcopy_run_free(void *opaque)
{
    PostcopyRun *run = opaque;

    for (unsigned i = 0; i < POSTCOPY_MAX_THREADS; i++) {
        kept_thread_free(run->threads[i].thread);
    }
    if (run->watchdog) {
        watchdog_free(run->watchdog);
    }
    pthread_cond_destroy(&run->changed);
    pthread_mutex_destroy(&run->lock);
    g_free(run);
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * See postcopy-run.h. The schedule's thread is the source, and the only one
 * that changes what the model knows; the subject's threads and the guest's
 * report under the lock, and settle() waits for what the model says they do.
 */
#include "property/postcopy-run.h"

#include "property/guest-access.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* The source has to be answered. */
typedef struct NetAnswer {
    WireEvent event; /* WIRE_PONG, WIRE_BITMAP, WIRE_ACK */
    unsigned block;
    uint32_t value;
    uint64_t pages; /* BITMAP: bit i: host page i was received or discarded */
} NetAnswer;

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

static const Guest *guest_of(const PostcopyRun *run)
{
    return &run->script->guest;
}

static const char *idstr_of(const PostcopyRun *run, unsigned block)
{
    return guest_of(run)->blocks[block].idstr;
}

static uint64_t pages_of(const PostcopyRun *run, unsigned block)
{
    return guest_of(run)->blocks[block].used_length / POSTCOPY_PAGE;
}

static void for_each_page(PostcopyRun *run, void (*body)(PostcopyRun *run, NetPage *page))
{
    for (unsigned block = 0; block < guest_of(run)->n_blocks; block++) {
        for (uint64_t page = 0; page < pages_of(run, block); page++) {
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

/* The return path. */

static void break_pair(PostcopyRun *run, const char *rule, uint64_t offset)
{
    if (run->pair.open) {
        run->pair.open = false;
        run->breaks++;
        g_free(run->break_rule);
        run->break_rule = g_strdup(rule);
        run->break_offset = offset;
    }
}

static void ask_again(PostcopyRun *run, NetPage *page)
{
    (void)run;
    page->due = page->wanted;
}

static void forget_requests(PostcopyRun *run, NetPage *page)
{
    (void)run;
    page->due = page->asked = false;
}

static void want(PostcopyRun *run, NetPage *page)
{
    if (page->state != NET_PAGE_MISSING) {
        return;
    }
    page->touches++;
    if (page->wanted) {
        return;
    }
    page->wanted = true;
    if (run->pair.open && !run->pair.recovering) {
        page->due = true;
        if (run->pair.takes_nothing) {
            break_pair(run, NULL, 0);
        }
    }
}

static bool refuse_message(PostcopyRun *run, const char *rule, const char *what)
{
    return postcopy_run_broken(run, PROPERTY_POSTCOPY,
                               "the return path, byte 0x%" PRIx64 ": %s (rule %s)",
                               wire_reader_position(run->pair.return_path), what, rule);
}

static bool answer_is_due(const PostcopyRun *run, WireEvent event)
{
    for (guint i = 0; i < run->pair.answers->len; i++) {
        if (g_array_index(run->pair.answers, NetAnswer, i).event == event) {
            return true;
        }
    }
    return false;
}

static bool take_request(PostcopyRun *run)
{
    unsigned block = wire_reader_block(run->pair.return_path);
    uint64_t number = wire_reader_page(run->pair.return_path);
    NetPage *page = &run->pages[block][number];
    g_autofree char *what = NULL;

    if (run->pair.recovering || answer_is_due(run, WIRE_ACK)) {
        return refuse_message(run, "V4", "a request before the recovery is acknowledged");
    }
    if (!page->due || page->asked) {
        what = g_strdup_printf("page %" PRIu64 " of block '%s' is asked for %s", number,
                               idstr_of(run, block), page->asked ? "twice" : "without need");
        return refuse_message(run, "Q4", what);
    }
    page->due = false;
    page->asked = true;
    return true;
}

static bool check_bitmap(PostcopyRun *run, const NetAnswer *answer)
{
    const GuestBlock *block = &guest_of(run)->blocks[answer->block];
    uint64_t size = guest_of(run)->target_page_size;
    uint64_t bits = (block->used_length / size + 63) / 64 * 64;

    for (uint64_t i = 0; i < bits; i++) {
        uint64_t at = i * size;
        bool wanted = at < block->used_length && answer->pages >> (at / POSTCOPY_PAGE) & 1;

        if (wire_reader_bit(run->pair.return_path, i) != wanted) {
            g_autofree char *what =
                g_strdup_printf("RECV_BITMAP of block '%s': bit %" PRIu64 " is %u", block->idstr, i,
                                !wanted);

            return refuse_message(run, "Q6", what);
        }
    }
    return true;
}

static bool take_answer(PostcopyRun *run, WireEvent event)
{
    const WireReader *reader = run->pair.return_path;
    NetAnswer answer;

    if (run->pair.answers->len == 0) {
        return refuse_message(run, "Q5", "an answer to nothing");
    }
    answer = g_array_index(run->pair.answers, NetAnswer, 0);
    if (answer.event != event ||
        (event == WIRE_PONG && answer.value != wire_reader_value(reader)) ||
        (event == WIRE_BITMAP && answer.block != wire_reader_block(reader))) {
        return refuse_message(run, "Q5", "it is not the answer that is due");
    }
    g_array_remove_index(run->pair.answers, 0);
    return event != WIRE_BITMAP || check_bitmap(run, &answer);
}

static bool take_message(PostcopyRun *run, WireEvent event)
{
    if (run->pair.shut && event != WIRE_NOTHING) {
        return refuse_message(run, "Q8", "a message after SHUT");
    }
    switch (event) {
    case WIRE_REQUEST:
        return take_request(run);
    case WIRE_PONG:
    case WIRE_BITMAP:
    case WIRE_ACK:
        return take_answer(run, event);
    case WIRE_SHUT:
        run->pair.shut = true;
        run->pair.shut_value = wire_reader_value(run->pair.return_path);
        return run->end != NET_RUNS || refuse_message(run, "Q8", "SHUT, and the load is not over");
    case WIRE_REFUSED:
        return refuse_message(run, wire_reader_rule(run->pair.return_path),
                              "it is no message of the return path");
    default:
        return true;
    }
}

static bool read_return_path(PostcopyRun *run)
{
    uint8_t bytes[4096];
    ssize_t n;

    if (!run->live || run->pair.fds[0] < 0) {
        return true;
    }
    while ((n = recv(run->pair.fds[0], bytes, sizeof(bytes), MSG_DONTWAIT)) > 0) {
        for (ssize_t i = 0; i < n; i++) {
            if (!take_message(run, wire_reader_feed(run->pair.return_path, bytes[i]))) {
                return false;
            }
        }
    }
    return true;
}

/* All that had to be said was said. */
static bool check_all_said(PostcopyRun *run)
{
    if (!run->live || !run->pair.open || run->pair.takes_nothing || run->end != NET_RUNS) {
        return true;
    }
    if (run->pair.answers->len > 0) {
        return refuse_message(run, "Q5", "the source's command is not answered");
    }
    for (unsigned block = 0; block < guest_of(run)->n_blocks; block++) {
        for (uint64_t page = 0; page < pages_of(run, block); page++) {
            if (run->pages[block][page].due) {
                return postcopy_run_broken(
                    run, PROPERTY_POSTCOPY,
                    "block '%s', page %" PRIu64
                    " was touched, did not come, and is not asked for%s (rules L2, V4)",
                    idstr_of(run, block), page, run->breaks > 0 ? " on the new channels" : "");
            }
        }
    }
    return true;
}

/* The reason that the subject gave for the last break is the model's. */
static bool check_break(PostcopyRun *run)
{
    g_autofree char *reason = NULL;
    g_autofree char *rule = NULL;
    g_autofree char *offset = NULL;

    if (!run->live || !run->break_rule || !run->context->subject->errors_name_rules) {
        return true;
    }
    pthread_mutex_lock(&run->lock);
    reason = g_strdup(run->told_reason);
    pthread_mutex_unlock(&run->lock);
    rule = g_strdup_printf("(rule %s)", run->break_rule);
    offset = g_strdup_printf("offset 0x%" PRIx64, run->break_offset);
    if (!strstr(reason, rule) || (strcmp(run->break_rule, "W17") != 0 && !strstr(reason, offset))) {
        return postcopy_run_broken(run, PROPERTY_CLEAN_REJECT,
                                   "the channel breaks by %s at %s, the subject says: %s", rule,
                                   offset, reason);
    }
    g_clear_pointer(&run->break_rule, g_free);
    return true;
}

static bool rest(PostcopyRun *run)
{
    return settle(run) && collect_threads(run) && read_return_path(run) && check_all_said(run) &&
           (run->pair.open || check_break(run));
}

/* The source. */

static void drop_page(NetPage *page)
{
    page->state = NET_PAGE_DROPPED;
    page->wanted = page->due = false;
    memset(page->content, 0, sizeof(page->content));
}

static void receive_page(PostcopyRun *run, const WireReader *reader)
{
    NetPage *page = &run->pages[wire_reader_block(reader)][wire_reader_page(reader)];

    if (page->state == NET_PAGE_MISSING) {
        page->state = NET_PAGE_THERE;
        page->wanted = page->due = false;
        memcpy(page->content, wire_reader_content(reader), sizeof(page->content));
        run->context->stats.pages++;
    }
}

static uint64_t pages_that_are_there(const PostcopyRun *run, unsigned block)
{
    uint64_t pages = 0;

    for (uint64_t i = 0; i < pages_of(run, block); i++) {
        if (run->pages[block][i].state != NET_PAGE_MISSING) {
            pages |= UINT64_C(1) << i;
        }
    }
    return pages;
}

/* A source that takes nothing learns nothing: the subject's writing fails. */
static void expect_answer(PostcopyRun *run, WireEvent event, unsigned block, uint32_t value)
{
    NetAnswer answer = { .event = event, .block = block, .value = value };

    if (run->pair.takes_nothing) {
        break_pair(run, NULL, 0);
        return;
    }
    answer.pages = event == WIRE_BITMAP ? pages_that_are_there(run, block) : 0;
    g_array_append_val(run->pair.answers, answer);
}

static bool all_is_there(const PostcopyRun *run)
{
    for (unsigned block = 0; block < guest_of(run)->n_blocks; block++) {
        if (pages_that_are_there(run, block) != (UINT64_C(1) << pages_of(run, block)) - 1) {
            return false;
        }
    }
    return true;
}

static void channel_ended(PostcopyRun *run, unsigned channel)
{
    run->pair.ended[channel] = true;
    for (unsigned i = 0; i < run->n_channels; i++) {
        if (!run->pair.ended[i]) {
            return;
        }
    }
    run->end = all_is_there(run) ? NET_LOADED : NET_FAILED;
    run->end_reason = "(rule L4)";
}

static void take_event(PostcopyRun *run, unsigned channel, WireEvent event)
{
    const WireReader *reader = run->pair.readers[channel];

    switch (event) {
    case WIRE_PAGE:
        receive_page(run, reader);
        break;
    case WIRE_PING:
        expect_answer(run, WIRE_PONG, 0, wire_reader_value(reader));
        break;
    case WIRE_RECV_BITMAP:
        if (run->pair.recovering) {
            expect_answer(run, WIRE_BITMAP, wire_reader_block(reader), 0);
        }
        break;
    case WIRE_RESUME:
        if (run->pair.recovering) {
            expect_answer(run, WIRE_ACK, 0, 0);
            run->pair.recovering = !run->pair.open;
            if (run->pair.open) {
                for_each_page(run, ask_again);
            }
        }
        break;
    case WIRE_ENDED:
        channel_ended(run, channel);
        break;
    case WIRE_REFUSED:
        break_pair(run, wire_reader_rule(reader), wire_reader_refused_offset(reader));
        break;
    default:
        break;
    }
}

static bool send_bytes(PostcopyRun *run, unsigned channel, const uint8_t *bytes, size_t length)
{
    NetPair *pair = &run->pair;

    g_byte_array_append(pair->bytes[channel], bytes, (guint)length);
    for (size_t i = 0; i < length && pair->open && !pair->ended[channel]; i++) {
        take_event(run, channel, wire_reader_feed(pair->readers[channel], bytes[i]));
    }
    pair->sent[channel] += length;
    if (run->live) {
        ssize_t n = send(pair->fds[channel], bytes, length, MSG_NOSIGNAL | MSG_DONTWAIT);

        if (n != (ssize_t)length && !pair->ended[channel]) {
            return postcopy_run_broken(run, PROPERTY_BOUNDED,
                                       "the subject does not take what the source sends: %s",
                                       n < 0 ? g_strerror(errno) : "a part is left");
        }
    }
    return rest(run);
}

static void damage(PostcopyRun *run, GByteArray *message)
{
    if (!run->damage || message->len == 0) {
        return;
    }
    run->damage = false;
    if (run->damage_value == 0) {
        g_byte_array_set_size(message, MIN(message->len, run->damage_at));
    } else {
        message->data[run->damage_at % message->len] ^= run->damage_value;
    }
}

static bool can_send(const PostcopyRun *run, unsigned channel)
{
    return run->pair.open && run->end == NET_RUNS && !run->pair.ended[channel];
}

static bool send_message(PostcopyRun *run, unsigned channel, const GByteArray *message)
{
    size_t piece = run->piece ? run->piece : message->len;

    for (size_t at = 0; at < message->len && can_send(run, channel); at += piece) {
        if (!send_bytes(run, channel, message->data + at, MIN(piece, message->len - at))) {
            return false;
        }
    }
    return true;
}

static bool send_step(PostcopyRun *run, const PostcopyStep *step)
{
    g_autoptr(GByteArray) message = g_byte_array_new();

    if (!can_send(run, step->channel)) {
        return true;
    }
    postcopy_compose_step(&run->pair.composers[step->channel], guest_of(run), step, message);
    damage(run, message);
    return send_message(run, step->channel, message);
}

/* Channels. */

static void close_fd(int *fd)
{
    if (*fd >= 0) {
        close(*fd);
        *fd = -1;
    }
}

static void pair_close(NetPair *pair)
{
    for (unsigned i = 0; i < SUBJECT_CHANNELS; i++) {
        close_fd(&pair->fds[i]);
        g_clear_pointer(&pair->readers[i], wire_reader_free);
        g_clear_pointer(&pair->bytes[i], g_byte_array_unref);
    }
    g_clear_pointer(&pair->return_path, wire_reader_free);
    g_clear_pointer(&pair->answers, g_array_unref);
}

static bool make_sockets(PostcopyRun *run, int ours[SUBJECT_CHANNELS], int theirs[SUBJECT_CHANNELS],
                         GError **error)
{
    for (unsigned i = 0; i < SUBJECT_CHANNELS; i++) {
        int fds[2] = { -1, -1 };

        if (run->live && i < run->n_channels &&
            socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0) {
            g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_MFILE, "no socket: %s",
                        g_strerror(errno));
            return false;
        }
        ours[i] = fds[0];
        theirs[i] = fds[1];
    }
    return true;
}

/* @theirs: the subject's ends. */
static bool pair_open(PostcopyRun *run, int theirs[SUBJECT_CHANNELS], GError **error)
{
    NetPair *pair = &run->pair;

    *pair = (NetPair){ .open = true, .fds = { -1, -1 } };
    pair->return_path = wire_reader_new(WIRE_RETURN_PATH, guest_of(run), POSTCOPY_SECTION_ID);
    pair->answers = g_array_new(FALSE, FALSE, sizeof(NetAnswer));
    for (unsigned i = 0; i < SUBJECT_CHANNELS; i++) {
        pair->readers[i] = wire_reader_new(i ? WIRE_PREEMPT_CHANNEL : WIRE_MAIN_CHANNEL,
                                           guest_of(run), POSTCOPY_SECTION_ID);
        pair->bytes[i] = g_byte_array_new();
        pair->composers[i] = (PostcopyComposer){ .channel = i, .last_block = -1 };
    }
    pthread_mutex_lock(&run->lock);
    for (unsigned i = 0; i < SUBJECT_CHANNELS; i++) {
        run->reads[i] = UINT64_MAX;
        run->stream_ended[i] = UINT64_MAX;
    }
    pthread_mutex_unlock(&run->lock);
    return make_sockets(run, pair->fds, theirs, error);
}

/* What the pair was given is looked at once more, by the parser alone. */
static bool finish_pair(PostcopyRun *run)
{
    bool ok = true;

    for (unsigned i = 0; ok && i < run->n_channels; i++) {
        ok = postcopy_check_parser(run, i, run->pair.bytes[i]);
    }
    pair_close(&run->pair);
    return ok;
}

static void shut_down(const PostcopyRun *run, unsigned channel, int how)
{
    if (run->live && run->pair.fds[channel] >= 0) {
        shutdown(run->pair.fds[channel], how);
    }
}

static bool break_by_source(PostcopyRun *run, const PostcopyStep *step)
{
    if (!run->pair.open || run->end != NET_RUNS) {
        return true;
    }
    switch (step->value % POSTCOPY_N_BREAKS) {
    case POSTCOPY_BREAK_BOTH:
        for (unsigned i = 0; i < run->n_channels; i++) {
            shut_down(run, i, SHUT_WR);
        }
        break_pair(run, "W17", 0);
        break;
    case POSTCOPY_BREAK_WRITING:
        if (!run->pair.ended[step->channel]) {
            shut_down(run, step->channel, SHUT_WR);
            break_pair(run, "W17", 0);
        }
        break;
    default:
        run->pair.takes_nothing = true;
        shut_down(run, 0, SHUT_RD);
        break;
    }
    return rest(run);
}

static bool shake_hands(PostcopyRun *run)
{
    g_autoptr(GByteArray) message = g_byte_array_new();

    for (unsigned i = 0; i < guest_of(run)->n_blocks; i++) {
        postcopy_compose_command(guest_of(run), 1, i, 0, message);
    }
    postcopy_compose_command(guest_of(run), 2, 0, 0, message);
    return send_message(run, 0, message);
}

/* While they are not broken new channels are refused, and closed. */
static bool offer_channels(PostcopyRun *run)
{
    g_autoptr(GError) error = NULL;
    int ours[SUBJECT_CHANNELS];
    int theirs[SUBJECT_CHANNELS];
    SubjectStatus status;

    if (!run->live) {
        return true;
    }
    if (!make_sockets(run, ours, theirs, &run->broken)) {
        return false;
    }
    status = run->postcopy->resume(&run->load, theirs, &error);
    for (unsigned i = 0; i < SUBJECT_CHANNELS; i++) {
        close_fd(&ours[i]);
    }
    return (status == SUBJECT_REFUSED && error) ||
           postcopy_run_broken(run, PROPERTY_AGREES,
                               "new channels are taken although the old ones are not broken");
}

static bool new_channels(PostcopyRun *run)
{
    g_autoptr(GError) error = NULL;
    int theirs[SUBJECT_CHANNELS];

    if (!finish_pair(run) || !pair_open(run, theirs, &run->broken)) {
        return false;
    }
    run->pair.recovering = true;
    for_each_page(run, forget_requests);
    if (run->live && run->postcopy->resume(&run->load, theirs, &error) != SUBJECT_ACCEPTED) {
        run->pair.open = false;
        return postcopy_run_broken(run, PROPERTY_AGREES, "new channels are refused: %s",
                                   error->message);
    }
    return rest(run);
}

static bool resume(PostcopyRun *run, bool handshake)
{
    if (run->end != NET_RUNS) {
        return true;
    }
    if (run->pair.open) {
        return offer_channels(run);
    }
    return new_channels(run) && (!handshake || shake_hands(run));
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
    want(run, page);
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
    return rest(run);
}

static bool discard(PostcopyRun *run, const PostcopyStep *step)
{
    uint64_t n = MIN(step->detail % 4 + UINT64_C(1), pages_of(run, step->block) - step->page);
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
    return rest(run);
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
    return rest(run);
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
        return break_by_source(run, step);
    case POSTCOPY_RESUME:
        return resume(run, step->value & 1);
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
        return send_step(run, step);
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
    return break_by_source(run, &close_all) && resume(run, true);
}

static bool send_missing_pages(PostcopyRun *run)
{
    for (unsigned block = 0; block < guest_of(run)->n_blocks; block++) {
        for (uint64_t page = 0; page < pages_of(run, block); page++) {
            g_autoptr(GByteArray) message = g_byte_array_new();

            if (run->pages[block][page].state == NET_PAGE_MISSING) {
                postcopy_compose_page(&run->pair.composers[0], guest_of(run), block, page,
                                      (uint8_t)(0x90 + page), 0, message);
                if (!send_message(run, 0, message)) {
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
        if (!send_message(run, i, message)) {
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

static bool check_shut(PostcopyRun *run)
{
    uint32_t wanted = run->end == NET_LOADED ? 0 : 1;

    if (!run->pair.open || run->pair.takes_nothing) {
        return true;
    }
    return (run->pair.shut && run->pair.shut_value == wanted) ||
           refuse_message(run, "Q8",
                          run->pair.shut ? "SHUT has another value" : "SHUT did not come");
}

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
        if (!run->broken && read_return_path(run)) {
            check_shut(run);
        }
    }
    if (!run->broken) {
        finish_pair(run);
    }
    return status;
}

void postcopy_run_clear(PostcopyRun *run)
{
    pair_close(&run->pair);
    g_clear_error(&run->broken);
    g_clear_pointer(&run->break_rule, g_free);
    g_clear_pointer(&run->told_reason, g_free);
    watchdog_end(run->watchdog);
}

static bool give_ram(PostcopyRun *run, GError **error)
{
    uint8_t before = run->script->dirty_ram ? 0x5a : 0;

    if (!guest_ram_prepare(run->context->ram, guest_of(run), before, error)) {
        return false;
    }
    for (unsigned i = 0; i < guest_of(run)->n_blocks; i++) {
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
        for (uint64_t page = 0; page < pages_of(run, block); page++) {
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
    if (!give_ram(run, error) || !pair_open(run, theirs, error)) {
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

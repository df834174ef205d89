/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The channels between source and subject: made, broken by the source, and made
 * anew.
 */
#include "property/postcopy-parts.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

static void close_fd(int *fd)
{
    if (*fd >= 0) {
        close(*fd);
        *fd = -1;
    }
}

void postcopy_pair_close(NetPair *pair)
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

bool postcopy_pair_open(PostcopyRun *run, int theirs[SUBJECT_CHANNELS], GError **error)
{
    NetPair *pair = &run->pair;

    *pair = (NetPair){ .open = true, .fds = { -1, -1 } };
    pair->return_path = wire_reader_new(WIRE_RETURN_PATH, postcopy_guest(run), POSTCOPY_SECTION_ID);
    pair->answers = g_array_new(FALSE, FALSE, sizeof(NetAnswer));
    for (unsigned i = 0; i < SUBJECT_CHANNELS; i++) {
        pair->readers[i] = wire_reader_new(i ? WIRE_PREEMPT_CHANNEL : WIRE_MAIN_CHANNEL,
                                           postcopy_guest(run), POSTCOPY_SECTION_ID);
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

bool postcopy_pair_finish(PostcopyRun *run)
{
    bool ok = true;

    for (unsigned i = 0; ok && i < run->n_channels; i++) {
        ok = postcopy_check_parser(run, i, run->pair.bytes[i]);
    }
    postcopy_pair_close(&run->pair);
    return ok;
}

static void shut_down(const PostcopyRun *run, unsigned channel, int how)
{
    if (run->live && run->pair.fds[channel] >= 0) {
        shutdown(run->pair.fds[channel], how);
    }
}

bool postcopy_break(PostcopyRun *run, const PostcopyStep *step)
{
    if (!run->pair.open || run->end != NET_RUNS) {
        return true;
    }
    switch (step->value % POSTCOPY_N_BREAKS) {
    case POSTCOPY_BREAK_BOTH:
        for (unsigned i = 0; i < run->n_channels; i++) {
            shut_down(run, i, SHUT_WR);
        }
        postcopy_break_pair(run, "W17", 0);
        break;
    case POSTCOPY_BREAK_WRITING:
        if (!run->pair.ended[step->channel]) {
            shut_down(run, step->channel, SHUT_WR);
            postcopy_break_pair(run, "W17", 0);
        }
        break;
    default:
        run->pair.takes_nothing = true;
        shut_down(run, 0, SHUT_RD);
        break;
    }
    return postcopy_rest(run);
}

static bool shake_hands(PostcopyRun *run)
{
    g_autoptr(GByteArray) message = g_byte_array_new();

    for (unsigned i = 0; i < postcopy_guest(run)->n_blocks; i++) {
        postcopy_compose_command(postcopy_guest(run), 1, i, 0, message);
    }
    postcopy_compose_command(postcopy_guest(run), 2, 0, 0, message);
    return postcopy_send_message(run, 0, message);
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

static void forget_requests(PostcopyRun *run, NetPage *page)
{
    (void)run;
    page->due = page->asked = false;
}

static bool new_channels(PostcopyRun *run)
{
    g_autoptr(GError) error = NULL;
    int theirs[SUBJECT_CHANNELS];

    if (!postcopy_pair_finish(run) || !postcopy_pair_open(run, theirs, &run->broken)) {
        return false;
    }
    run->pair.recovering = true;
    postcopy_for_each_page(run, forget_requests);
    if (run->live && run->postcopy->resume(&run->load, theirs, &error) != SUBJECT_ACCEPTED) {
        run->pair.open = false;
        return postcopy_run_broken(run, PROPERTY_AGREES, "new channels are refused: %s",
                                   error->message);
    }
    return postcopy_rest(run);
}

bool postcopy_resume(PostcopyRun *run, bool handshake)
{
    if (run->end != NET_RUNS) {
        return true;
    }
    if (run->pair.open) {
        return offer_channels(run);
    }
    return new_channels(run) && (!handshake || shake_hands(run));
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The source: what it sends, and what the model says that this does; what it is
 * asked for and answered on the return path, and whether that had to be said.
 */
#include "property/postcopy-parts.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/socket.h>

/* The return path. */

void postcopy_break_pair(PostcopyRun *run, const char *rule, uint64_t offset)
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

void postcopy_want(PostcopyRun *run, NetPage *page)
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
            postcopy_break_pair(run, NULL, 0);
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
                               postcopy_idstr(run, block), page->asked ? "twice" : "without need");
        return refuse_message(run, "Q4", what);
    }
    page->due = false;
    page->asked = true;
    return true;
}

static bool check_bitmap(PostcopyRun *run, const NetAnswer *answer)
{
    const GuestBlock *block = &postcopy_guest(run)->blocks[answer->block];
    uint64_t size = postcopy_guest(run)->target_page_size;
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

bool postcopy_read_return_path(PostcopyRun *run)
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

bool postcopy_check_all_said(PostcopyRun *run)
{
    if (!run->live || !run->pair.open || run->pair.takes_nothing || run->end != NET_RUNS) {
        return true;
    }
    if (run->pair.answers->len > 0) {
        return refuse_message(run, "Q5", "the source's command is not answered");
    }
    for (unsigned block = 0; block < postcopy_guest(run)->n_blocks; block++) {
        for (uint64_t page = 0; page < postcopy_pages(run, block); page++) {
            if (run->pages[block][page].due) {
                return postcopy_run_broken(
                    run, PROPERTY_POSTCOPY,
                    "block '%s', page %" PRIu64
                    " was touched, did not come, and is not asked for%s (rules L2, V4)",
                    postcopy_idstr(run, block), page,
                    run->breaks > 0 ? " on the new channels" : "");
            }
        }
    }
    return true;
}

bool postcopy_check_break(PostcopyRun *run)
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

bool postcopy_check_shut(PostcopyRun *run)
{
    uint32_t wanted = run->end == NET_LOADED ? 0 : 1;

    if (!run->pair.open || run->pair.takes_nothing) {
        return true;
    }
    return (run->pair.shut && run->pair.shut_value == wanted) ||
           refuse_message(run, "Q8",
                          run->pair.shut ? "SHUT has another value" : "SHUT did not come");
}

/* The source. */

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

    for (uint64_t i = 0; i < postcopy_pages(run, block); i++) {
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
        postcopy_break_pair(run, NULL, 0);
        return;
    }
    answer.pages = event == WIRE_BITMAP ? pages_that_are_there(run, block) : 0;
    g_array_append_val(run->pair.answers, answer);
}

static bool all_is_there(const PostcopyRun *run)
{
    for (unsigned block = 0; block < postcopy_guest(run)->n_blocks; block++) {
        if (pages_that_are_there(run, block) != (UINT64_C(1) << postcopy_pages(run, block)) - 1) {
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
                postcopy_for_each_page(run, ask_again);
            }
        }
        break;
    case WIRE_ENDED:
        channel_ended(run, channel);
        break;
    case WIRE_REFUSED:
        postcopy_break_pair(run, wire_reader_rule(reader), wire_reader_refused_offset(reader));
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
    return postcopy_rest(run);
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

bool postcopy_send_message(PostcopyRun *run, unsigned channel, const GByteArray *message)
{
    size_t piece = run->piece ? run->piece : message->len;

    for (size_t at = 0; at < message->len && can_send(run, channel); at += piece) {
        if (!send_bytes(run, channel, message->data + at, MIN(piece, message->len - at))) {
            return false;
        }
    }
    return true;
}

bool postcopy_send_step(PostcopyRun *run, const PostcopyStep *step)
{
    g_autoptr(GByteArray) message = g_byte_array_new();

    if (!can_send(run, step->channel)) {
        return true;
    }
    postcopy_compose_step(&run->pair.composers[step->channel], postcopy_guest(run), step, message);
    damage(run, message);
    return postcopy_send_message(run, step->channel, message);
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See postcopy-source.h. */
#include "unit/postcopy-source.h"

#include "loader/buffer-is-zero.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static bool is_wrong(Source *self, const char *what)
{
    fprintf(stderr, "source: %s\n", what);
    self->wrong = true;
    return false;
}

/* False: the connection is gone, or is broken here. */
static bool put(Source *self, unsigned channel, const void *bytes, size_t length)
{
    uint64_t cut = channel == RAM_CHANNEL_PRECOPY ? self->cut_after : self->cut_preempt;
    const uint8_t *from = bytes;

    if (cut > 0) {
        length = MIN(length, cut - self->written[channel]);
    }
    while (length > 0) {
        ssize_t n = send(self->fds[channel], from, length, MSG_NOSIGNAL);

        if (n <= 0) {
            self->hung_up = true;
            return false;
        }
        self->written[channel] += (uint64_t)n;
        from += n;
        length -= (size_t)n;
    }
    return cut == 0 || self->written[channel] < cut;
}

static bool put_be(Source *self, unsigned channel, unsigned width, uint64_t value)
{
    uint8_t bytes[8];

    for (unsigned i = 0; i < width; i++) {
        bytes[i] = (uint8_t)(value >> (8 * (width - 1 - i)));
    }
    return put(self, channel, bytes, width);
}

static bool put_idstr(Source *self, unsigned channel, unsigned block)
{
    size_t length = strlen(self->blocks[block].idstr);

    return put_be(self, channel, 1, length) &&
           put(self, channel, self->blocks[block].idstr, length);
}

static bool put_target_page(Source *self, unsigned channel, unsigned block, uint64_t address)
{
    const uint8_t *bytes = self->ram[block] + address;
    bool zero = buffer_is_zero(bytes, self->target_page_size);
    bool named = self->last_block[channel] == (int)block && self->unnamed;

    self->last_block[channel] = (int)block;
    return put_be(self, channel, 8, address | (zero ? 0x02 : 0x08) | (named ? 0x20 : 0)) &&
           (named || put_idstr(self, channel, block)) &&
           (zero ? put_be(self, channel, 1, 0) : put(self, channel, bytes, self->target_page_size));
}

static bool put_section_end(Source *self)
{
    return put_be(self, RAM_CHANNEL_PRECOPY, 8, 0x10) &&
           put_be(self, RAM_CHANNEL_PRECOPY, 1, 0x7e) &&
           put_be(self, RAM_CHANNEL_PRECOPY, 4, SOURCE_SECTION_ID);
}

static bool put_section_start(Source *self, unsigned type)
{
    return put_be(self, RAM_CHANNEL_PRECOPY, 1, type) &&
           put_be(self, RAM_CHANNEL_PRECOPY, 4, SOURCE_SECTION_ID);
}

static bool send_host_page(Source *self, unsigned channel, unsigned block, uint64_t page)
{
    uint64_t size = self->blocks[block].page_size;
    bool main_channel = channel == RAM_CHANNEL_PRECOPY;

    if (main_channel && !put_section_start(self, 0x02)) {
        return false;
    }
    for (uint64_t at = page * size; at < (page + 1) * size; at += self->target_page_size) {
        if (!put_target_page(self, channel, block, at)) {
            return false;
        }
    }
    self->sent[block][page] = true;
    return !main_channel || put_section_end(self);
}

static bool get(Source *self, void *bytes, size_t length)
{
    if (self->cut_read > 0) {
        length = MIN(length, self->cut_read - self->read);
    }
    if (recv(self->fds[RAM_CHANNEL_PRECOPY], bytes, length, MSG_WAITALL) != (ssize_t)length) {
        return false;
    }
    self->read += length;
    return self->cut_read == 0 || self->read < self->cut_read;
}

static bool get_be(Source *self, unsigned width, uint64_t *value)
{
    uint8_t bytes[8];

    if (!get(self, bytes, width)) {
        return false;
    }
    *value = 0;
    for (unsigned i = 0; i < width; i++) {
        *value = *value << 8 | bytes[i];
    }
    return true;
}

static bool get_block(Source *self, int *block)
{
    uint64_t length;
    char name[256] = { 0 };

    if (!get_be(self, 1, &length) || !get(self, name, length)) {
        return false;
    }
    for (unsigned i = 0; i < self->n_blocks; i++) {
        if (strcmp(self->blocks[i].idstr, name) == 0) {
            *block = (int)i;
            return true;
        }
    }
    return is_wrong(self, "no such block");
}

static bool get_request(Source *self, bool named)
{
    unsigned channel = self->preempt ? RAM_CHANNEL_POSTCOPY : RAM_CHANNEL_PRECOPY;
    uint64_t start, length;
    SourceRequest *request = &self->requests[self->n_requests];

    if (!get_be(self, 8, &start) || !get_be(self, 4, &length) ||
        (named && !get_block(self, &self->request_block))) {
        return false;
    }
    if (self->request_block < 0 || self->n_requests == SOURCE_MAX_REQUESTS) {
        return is_wrong(self, "a request without a block, or too many");
    }
    *request = (SourceRequest){ .block = (unsigned)self->request_block, .named = named };
    request->page = start / self->blocks[request->block].page_size;
    request->connection = self->connections;
    self->n_requests++;
    if (length != self->blocks[request->block].page_size || start % length) {
        return is_wrong(self, "a request for something else than a host page");
    }
    return self->silent || self->sent[request->block][request->page] ||
           send_host_page(self, channel, request->block, request->page);
}

static bool get_shut(Source *self)
{
    uint64_t value;

    if (!get_be(self, 4, &value)) {
        return false;
    }
    self->shut = (uint32_t)value;
    self->ended = true;
    return false;
}

static bool get_message(Source *self)
{
    uint64_t type, length;

    if (!get_be(self, 2, &type) || !get_be(self, 2, &length)) {
        return false;
    }
    switch (type) {
    case 1:
        return get_shut(self);
    case 3:
    case 4:
        return get_request(self, type == 3);
    default:
        return is_wrong(self, "a message that nobody asked for");
    }
}

static bool get_bits(Source *self, unsigned block)
{
    uint64_t pages = self->blocks[block].used_length / self->target_page_size;
    uint64_t per_page = self->blocks[block].page_size / self->target_page_size;
    uint64_t size, mark;
    uint8_t byte = 0;

    if (!get_be(self, 8, &size)) {
        return false;
    }
    if (size != (pages + 63) / 64 * 8) {
        return is_wrong(self, "a bitmap of another size");
    }
    for (uint64_t bit = 0; bit < size * 8; bit++) {
        if (bit % 8 == 0 && !get(self, &byte, 1)) {
            return false;
        }
        if (bit < pages) {
            self->sent[block][bit / per_page] = byte >> (bit % 8) & 1;
        }
    }
    if (!get_be(self, 8, &mark)) {
        return false;
    }
    return mark == UINT64_C(0x0123456789abcdef) || is_wrong(self, "no end mark");
}

static bool get_bitmap(Source *self, unsigned block)
{
    uint64_t type, length;
    int answered = -1;

    if (!get_be(self, 2, &type) || !get_be(self, 2, &length) || !get_block(self, &answered)) {
        return false;
    }
    if (type != 5 || answered != (int)block || length != strlen(self->blocks[block].idstr) + 1) {
        return is_wrong(self, "RECV_BITMAP is not answered");
    }
    return get_bits(self, block);
}

static bool recover(Source *self)
{
    uint64_t type, length, value;

    for (unsigned i = 0; i < self->n_blocks; i++) {
        if (!put_be(self, RAM_CHANNEL_PRECOPY, 1, 0x08) ||
            !put_be(self, RAM_CHANNEL_PRECOPY, 2, 10) ||
            !put_be(self, RAM_CHANNEL_PRECOPY, 2, strlen(self->blocks[i].idstr) + 1) ||
            !put_idstr(self, RAM_CHANNEL_PRECOPY, i) || !get_bitmap(self, i)) {
            return false;
        }
    }
    if (!put_be(self, RAM_CHANNEL_PRECOPY, 1, 0x08) || !put_be(self, RAM_CHANNEL_PRECOPY, 2, 9) ||
        !put_be(self, RAM_CHANNEL_PRECOPY, 2, 0) || !get_be(self, 2, &type) ||
        !get_be(self, 2, &length) || !get_be(self, 4, &value)) {
        return false;
    }
    return (type == 6 && length == 4 && value == 1) || is_wrong(self, "no RESUME_ACK");
}

/* False: there is none. */
static bool next_unsent(const Source *self, unsigned *block, uint64_t *page)
{
    for (*block = 0; *block < self->n_blocks; ++*block) {
        const RAMBlock *rb = &self->blocks[*block];

        for (*page = 0; *page < rb->used_length / rb->page_size; ++*page) {
            if (!self->sent[*block][*page]) {
                return true;
            }
        }
    }
    return false;
}

static bool has_message(const Source *self, int timeout)
{
    struct pollfd fd = { .fd = self->fds[RAM_CHANNEL_PRECOPY], .events = POLLIN };

    return poll(&fd, 1, timeout) > 0;
}

static bool put_end(Source *self)
{
    return (!self->preempt || put_be(self, RAM_CHANNEL_POSTCOPY, 8, 0x10)) &&
           put_section_start(self, 0x03) && put_section_end(self) &&
           put_be(self, RAM_CHANNEL_PRECOPY, 1, 0x00);
}

static void serve(Source *self)
{
    bool ended = false;
    unsigned block;
    uint64_t page;

    if (self->recovering && !recover(self)) {
        return;
    }
    for (;;) {
        if (self->n_requests < self->push_after || ended || has_message(self, 0)) {
            if (!get_message(self)) {
                return;
            }
        } else if (next_unsent(self, &block, &page)) {
            if (!send_host_page(self, RAM_CHANNEL_PRECOPY, block, page)) {
                return;
            }
        } else {
            ended = true;
            if (!put_end(self)) {
                return;
            }
        }
    }
}

/*
 * What the destination said last, before it hung up in the middle of what we
 * wrote: SHUT is among it, where the load has failed.
 */
static void hear_out(Source *self)
{
    uint64_t type, length;
    uint8_t byte;

    while (get_be(self, 2, &type) && get_be(self, 2, &length)) {
        if (type == 1) {
            get_shut(self);
            return;
        }
        while (length > 0 && get(self, &byte, 1)) {
            length--;
        }
    }
}

static void *run(void *opaque)
{
    Source *self = opaque;

    serve(self);
    if (self->hung_up) {
        hear_out(self);
    }
    for (unsigned i = 0; i < RAM_CHANNEL_MAX; i++) {
        if (self->fds[i] >= 0) {
            shutdown(self->fds[i], SHUT_RDWR);
        }
    }
    return NULL;
}

void source_connect(Source *source, int fds[RAM_CHANNEL_MAX])
{
    for (unsigned i = 0; i < RAM_CHANNEL_MAX; i++) {
        int pair[2] = { -1, -1 };

        if (i == RAM_CHANNEL_PRECOPY || source->preempt) {
            g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), ==, 0);
        }
        source->fds[i] = pair[0];
        fds[i] = pair[1];
        source->written[i] = 0;
        source->read = 0;
        source->hung_up = false;
        source->last_block[i] = -1;
    }
    source->request_block = -1;
    source->recovering = source->connections++ > 0;
    g_assert_cmpint(pthread_create(&source->thread, NULL, run, source), ==, 0);
    source->have_thread = true;
}

bool source_join(Source *source)
{
    pthread_join(source->thread, NULL);
    source->have_thread = false;
    for (unsigned i = 0; i < RAM_CHANNEL_MAX; i++) {
        if (source->fds[i] >= 0) {
            close(source->fds[i]);
            source->fds[i] = -1;
        }
    }
    return !source->wrong;
}

bool source_break(Source *source)
{
    for (unsigned i = 0; i < RAM_CHANNEL_MAX; i++) {
        if (source->fds[i] >= 0) {
            shutdown(source->fds[i], SHUT_RDWR);
        }
    }
    return source_join(source);
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See return-path.h. */
#include "loader/return-path.h"

#include "loader/page-claims.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#define RAMBLOCK_RECV_BITMAP_ENDING UINT64_C(0x0123456789abcdef)
/* Type, length, start, length, idstr with its length. */
#define MAX_MESSAGE (4 + 12 + 1 + 255)

enum {
    MIG_RP_MSG_SHUT = 1,
    MIG_RP_MSG_PONG = 2,
    MIG_RP_MSG_REQ_PAGES_ID = 3,
    MIG_RP_MSG_REQ_PAGES = 4,
    MIG_RP_MSG_RECV_BITMAP = 5,
    MIG_RP_MSG_RESUME_ACK = 6,
};

typedef struct Message {
    size_t length;
    uint8_t bytes[MAX_MESSAGE];
} Message;

static void put_be(Message *message, unsigned width, uint64_t value)
{
    while (width-- > 0) {
        message->bytes[message->length++] = (uint8_t)(value >> (8 * width));
    }
}

static void put_idstr(Message *message, const RAMBlock *rb)
{
    size_t length = strlen(rb->idstr);

    put_be(message, 1, length);
    memcpy(message->bytes + message->length, rb->idstr, length);
    message->length += length;
}

/* @length: of the data that follow. */
static Message begin(unsigned type, size_t length)
{
    Message message = { 0 };

    put_be(&message, 2, type);
    put_be(&message, 2, length);
    return message;
}

/* No signal: a source that is gone is an answer like any other. */
static int send_all(const ReturnPath *self, const uint8_t *bytes, size_t length)
{
    while (length > 0) {
        ssize_t n = send(self->fd, bytes, length, MSG_NOSIGNAL);

        if (n < 0 && errno != EINTR) {
            return -errno;
        }
        if (n > 0) {
            bytes += n;
            length -= (size_t)n;
        }
    }
    return 0;
}

static int send_message(const ReturnPath *self, const Message *message)
{
    return send_all(self, message->bytes, message->length);
}

/* Does not block: a source that does not listen any more need not know. */
int migrate_send_rp_shut(ReturnPath *self, uint32_t value)
{
    Message message = begin(MIG_RP_MSG_SHUT, 4);

    put_be(&message, 4, value);
    return send(self->fd, message.bytes, message.length, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 ? -errno
                                                                                          : 0;
}

static int send_number(const ReturnPath *self, unsigned type, uint32_t value)
{
    Message message = begin(type, 4);

    put_be(&message, 4, value);
    return send_message(self, &message);
}

int migrate_send_rp_pong(ReturnPath *self, uint32_t value)
{
    return send_number(self, MIG_RP_MSG_PONG, value);
}

int migrate_send_rp_resume_ack(ReturnPath *self, uint32_t value)
{
    return send_number(self, MIG_RP_MSG_RESUME_ACK, value);
}

int migrate_send_rp_req_pages(ReturnPath *self, const RAMBlock *rb, ram_addr_t start)
{
    bool named = rb == self->last_rb;
    Message message = begin(named ? MIG_RP_MSG_REQ_PAGES : MIG_RP_MSG_REQ_PAGES_ID,
                            12 + (named ? 0 : 1 + strlen(rb->idstr)));

    put_be(&message, 8, start);
    put_be(&message, 4, rb->page_size);
    if (!named) {
        put_idstr(&message, rb);
    }
    self->last_rb = rb;
    return send_message(self, &message);
}

/* 64 bits, one a target page, from @first on, as 8 bytes. */
static void put_bits(Message *message, const RAMBlock *rb, uint64_t first, uint64_t end,
                     uint64_t target_page_size)
{
    uint64_t bits = 0;

    for (uint64_t i = first; i < MIN(first + 64, end); i++) {
        if (ramblock_recv_bitmap_test(rb, i * target_page_size / rb->page_size)) {
            bits |= UINT64_C(1) << (i - first);
        }
    }
    put_be(message, 8, GUINT64_SWAP_LE_BE(bits));
}

static int send_bitmap(const ReturnPath *self, const RAMBlock *rb, uint64_t target_page_size)
{
    uint64_t pages = rb->lazy_length / target_page_size;
    Message message = { 0 };
    int result = 0;

    put_be(&message, 8, (pages + 63) / 64 * 8);
    for (uint64_t first = 0; first < pages && result == 0; first += 64) {
        put_bits(&message, rb, first, pages, target_page_size);
        if (message.length > MAX_MESSAGE - 8) {
            result = send_message(self, &message);
            message.length = 0;
        }
    }
    put_be(&message, 8, RAMBLOCK_RECV_BITMAP_ENDING);
    return result ? result : send_message(self, &message);
}

int migrate_send_rp_recv_bitmap(ReturnPath *self, const RAMBlock *rb, uint64_t target_page_size)
{
    Message message = begin(MIG_RP_MSG_RECV_BITMAP, 1 + strlen(rb->idstr));
    int result;

    put_idstr(&message, rb);
    result = send_message(self, &message);
    return result ? result : send_bitmap(self, rb, target_page_size);
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The parser of one channel of network postcopy: from bytes to whole host
 * pages and commands. Answers to docs/postcopy-wire.md, sections 2 and 3; what
 * QEMU has in ram_load_postcopy() and qemu_loadvm_state_main(). It knows
 * neither sockets nor userfaultfd: whoever runs it reads, and places.
 *
 * Memory: the struct itself and one host page, whatever the stream says.
 */
#ifndef PAGEWISE_LOADER_PAGE_STREAM_H
#define PAGEWISE_LOADER_PAGE_STREAM_H

#include "loader/migration.h"

#define PAGE_STREAM_BUFFER 0x8000 /* bytes read at once */

/* Channels, as QEMU numbers them. */
enum {
    RAM_CHANNEL_PRECOPY,  /* the main channel: sections and commands */
    RAM_CHANNEL_POSTCOPY, /* the preempt channel: RAM words alone */
    RAM_CHANNEL_MAX,
};

/* Each returns false with @error to end the stream there. */
typedef struct PageStreamOps {
    /* At least one byte; 0: the channel has ended; -errno. All that was read
     * before is used by now: @position bytes. */
    ssize_t (*read)(void *opaque, uint64_t position, void *buffer, size_t length);
    /* @from: page_size bytes, of the stream's page; NULL: zeroes. */
    bool (*page)(void *opaque, RAMBlock *rb, uint64_t page, const void *from, GError **error);
    bool (*ping)(void *opaque, uint32_t value, GError **error);
    bool (*recv_bitmap)(void *opaque, RAMBlock *rb, GError **error);
    bool (*resume)(void *opaque, GError **error);
} PageStreamOps;

typedef struct PageStream {
    /* To be set by the caller. */
    RAMBlock *blocks; /* borrowed */
    unsigned n_blocks;
    uint64_t target_page_size;
    uint32_t section_id; /* of the RAM section */
    unsigned channel;    /* RAM_CHANNEL_* */
    const PageStreamOps *ops;
    void *opaque;
    uint8_t *page; /* room for the largest host page; borrowed */

    /* The parser's own. */
    uint64_t position; /* of the next byte, from the start of the channel */
    RAMBlock *last_recv_block;
    RAMBlock *rb; /* of the host page that is begun, NULL: none is */
    uint64_t host_page;
    uint64_t target_pages; /* of it that came */
    bool all_zero;
    size_t start, end; /* of what is in the buffer */
    uint8_t buffer[PAGE_STREAM_BUFFER];
} PageStream;

/*
 * Reads the stream to its end: true. False: @error; refused with a rule and
 * the offset in the channel, or reading failed, or one of the operations did.
 * A host page that was not complete is forgotten. Starts at the channel's
 * first byte each time it is called.
 */
bool page_stream_run(PageStream *self, GError **error);

#endif

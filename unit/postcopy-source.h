/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A migration source for the tests of network postcopy: a thread that has all
 * of guest RAM, answers REQ_PAGES, sends the rest if told to, and takes part
 * in a recovery, over socket pairs. It follows docs/postcopy-wire.md, checks
 * what it reads as far as a source has to, and breaks the connection where it
 * is told to. It runs in children: it says on stderr what is wrong.
 */
#ifndef PAGEWISE_UNIT_POSTCOPY_SOURCE_H
#define PAGEWISE_UNIT_POSTCOPY_SOURCE_H

#include "loader/postcopy-net.h"

#define SOURCE_SECTION_ID 0x2a
#define SOURCE_MAX_REQUESTS 4096

typedef struct SourceRequest {
    unsigned block;
    uint64_t page;
    bool named;          /* REQ_PAGES_ID */
    unsigned connection; /* number of the pair, from 1 */
} SourceRequest;

typedef struct Source {
    /* To be set before source_connect(). */
    const RAMBlock *blocks; /* idstr, used_length, page_size; borrowed */
    unsigned n_blocks;
    uint8_t *const *ram; /* of each block; borrowed */
    uint64_t target_page_size;
    bool preempt;
    unsigned push_after;  /* requests after which it sends what nobody asked for, and ends */
    bool silent;          /* answers no request */
    bool unnamed;         /* uses CONTINUE where it can */
    uint64_t cut_after;   /* bytes on the main channel after which the pair breaks; 0: never */
    uint64_t cut_preempt; /* the same of the preempt channel */
    uint64_t cut_read;    /* bytes of the return path; 0: never */

    /* The source's own. */
    int fds[RAM_CHANNEL_MAX];
    uint64_t written[RAM_CHANNEL_MAX]; /* bytes on this pair */
    uint64_t read;                     /* bytes of the return path, on this pair */
    int last_block[RAM_CHANNEL_MAX];   /* that was named, -1: none */
    int request_block;                 /* that was asked for last */
    bool sent[8][1024];                /* block, host page */
    unsigned connections;
    bool recovering; /* this pair begins with a recovery */
    pthread_t thread;
    bool have_thread;
    bool hung_up;  /* the destination did, while we wrote */
    bool wrong;    /* the destination did what it must not */
    bool ended;    /* all was sent, and SHUT came */
    uint32_t shut; /* its value */
    unsigned n_requests;
    SourceRequest requests[SOURCE_MAX_REQUESTS];
} Source;

/* A new connection. @fds: the destination's ends. Starts the thread. */
void source_connect(Source *source, int fds[RAM_CHANNEL_MAX]);

/* Until the connection is gone, or SHUT came; false with a message if something was wrong. */
bool source_join(Source *source);

/* Breaks the connection, from any thread, and joins. */
bool source_break(Source *source);

#endif

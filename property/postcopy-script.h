/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The schedule of an input of kind postcopy, and the source's messages that
 * its steps send: right ones, that the input may damage, or raw bytes. What
 * they mean is for the model to say; nothing here judges.
 */
#ifndef PAGEWISE_PROPERTY_POSTCOPY_SCRIPT_H
#define PAGEWISE_PROPERTY_POSTCOPY_SCRIPT_H

#include "property/input.h"
#include "subject/postcopy.h"

#define POSTCOPY_SECTION_ID 0x2a
#define POSTCOPY_PAGE 4096 /* host page, bytes */

typedef enum PostcopyAction {
    POSTCOPY_SEND_PAGE,    /* who: channel; value: 0 zeroes, else bytes made from it; detail:
                           bit 0: CONTINUE where it can be; bit 1: every second target page is zero */
    POSTCOPY_TOUCH,        /* who: thread; value: where in the page */
    POSTCOPY_WRITE,        /* likewise; detail: what */
    POSTCOPY_DISCARD,      /* detail: further pages */
    POSTCOPY_BREAK,        /* value: PostcopyBreak */
    POSTCOPY_RESUME,       /* new channels; value: bit 0: with the handshake */
    POSTCOPY_SEND_COMMAND, /* value: 0 PING, 1 RECV_BITMAP, 2 POSTCOPY_RESUME */
    POSTCOPY_SEND_END,     /* of the channel's stream */
    POSTCOPY_SEND_SECTION, /* END, or PART, without a page; detail: address bits of EOS */
    POSTCOPY_SEND_RAW,     /* detail: bytes from the input's end */
    POSTCOPY_DAMAGE,       /* the next message: byte @detail ^= value; 0: it is cut there */
    POSTCOPY_PIECES,       /* messages are given in pieces of detail bytes; 0: whole */
    POSTCOPY_CANCEL,
    POSTCOPY_N_ACTIONS,
} PostcopyAction;

typedef enum PostcopyBreak {
    POSTCOPY_BREAK_BOTH,
    POSTCOPY_BREAK_WRITING, /* the source sends nothing more on the channel @who */
    POSTCOPY_BREAK_READING, /* it takes nothing more of the return path */
    POSTCOPY_N_BREAKS,
} PostcopyBreak;

/* A step, with all of its fields in their bounds. */
typedef struct PostcopyStep {
    PostcopyAction action;
    unsigned channel;
    unsigned thread;
    unsigned block;
    uint64_t page;
    uint8_t value;
    uint8_t detail;
    const uint8_t *raw; /* POSTCOPY_SEND_RAW: detail bytes; borrowed */
} PostcopyStep;

/* @raw: how many raw bytes earlier steps took; is advanced. */
PostcopyStep postcopy_script_step(const Input *input, unsigned index, size_t *raw);

/* One line of text, without a newline; free with g_free(). */
char *postcopy_script_describe(const Input *input, const PostcopyStep *step);

/* What the source knows of a channel when it makes a message. */
typedef struct PostcopyComposer {
    unsigned channel;
    int last_block; /* that was named, -1: none */
} PostcopyComposer;

/* Each appends one or more whole messages. */
void postcopy_compose_step(PostcopyComposer *composer, const Guest *guest, const PostcopyStep *step,
                           GByteArray *out);
void postcopy_compose_page(PostcopyComposer *composer, const Guest *guest, unsigned block,
                           uint64_t page, uint8_t value, unsigned detail, GByteArray *out);
void postcopy_compose_command(const Guest *guest, unsigned command, unsigned block, uint32_t value,
                              GByteArray *out);
void postcopy_compose_end(const PostcopyComposer *composer, GByteArray *out);

#endif

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

#define POSTCOPY_MAX_STEPS 64
#define POSTCOPY_MAX_BLOCKS 3
#define POSTCOPY_MAX_PAGES 8 /* host pages of a block */
#define POSTCOPY_MAX_THREADS 4
#define POSTCOPY_SECTION_ID 0x2a
#define POSTCOPY_PAGE 4096 /* host page, bytes */

/*
 * The input: InputHeader (page_bits 10 to 12, n_blocks, INPUT_DIRTY_RAM),
 * InputPostcopy, n_blocks x InputBlock (lengths in host pages), n_steps x
 * InputPostcopyStep, bytes of the steps that send raw ones.
 */
enum {
    INPUT_POSTCOPY_PREEMPT = 1 << 0, /* there is a preempt channel */
    INPUT_POSTCOPY_FINISH = 1 << 1,  /* at last the source sends what is missing; else it dies */
};

typedef struct InputPostcopy {
    uint8_t flags;       /* INPUT_POSTCOPY_* */
    uint8_t n_steps;     /* up to POSTCOPY_MAX_STEPS */
    uint8_t n_threads;   /* of the guest, 1 to POSTCOPY_MAX_THREADS */
    uint8_t reserved[5]; /* written as zero, ignored */
} InputPostcopy;

typedef struct InputPostcopyStep {
    uint8_t action; /* PostcopyAction */
    uint8_t who;    /* channel, or thread of the guest */
    uint8_t block;
    uint8_t page; /* host page in the block */
    uint8_t value;
    uint8_t detail;
    uint8_t reserved[2]; /* written as zero, ignored */
} InputPostcopyStep;

G_STATIC_ASSERT(sizeof(InputPostcopy) == 8);
G_STATIC_ASSERT(sizeof(InputPostcopyStep) == 8);

/* A decoded input; borrows from its bytes. */
typedef struct PostcopyScript {
    bool dirty_ram; /* RAM is not zero before the load */
    bool preempt;
    bool finish;
    unsigned n_threads;
    Guest guest;
    const InputPostcopyStep *steps;
    unsigned n_steps;
    const uint8_t *raw;
    size_t raw_size;
} PostcopyScript;

/* False: it is no input of this kind. */
bool postcopy_script_decode(const uint8_t *data, size_t size, PostcopyScript *script);

/* The whole as text, for `pagewise replay`. */
void postcopy_script_append(const uint8_t *data, size_t size, GString *out);

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
PostcopyStep postcopy_script_step(const PostcopyScript *script, unsigned index, size_t *raw);

/* One line of text, without a newline; free with g_free(). */
char *postcopy_script_describe(const PostcopyScript *script, const PostcopyStep *step);

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

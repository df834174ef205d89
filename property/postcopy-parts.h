/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the files that drive a load over a network share: postcopy-run.c,
 * postcopy-peer.c, postcopy-pair.c; nobody else includes this. For postcopy.c
 * there is postcopy-run.h. All of it is for the schedule's thread; bool: false
 * if something is broken, which is in run->broken then.
 */
#ifndef PAGEWISE_PROPERTY_POSTCOPY_PARTS_H
#define PAGEWISE_PROPERTY_POSTCOPY_PARTS_H

#include "property/postcopy-run.h"

/* The source has to be answered. */
typedef struct NetAnswer {
    WireEvent event; /* WIRE_PONG, WIRE_BITMAP, WIRE_ACK */
    unsigned block;
    uint32_t value;
    uint64_t pages; /* BITMAP: bit i: host page i was received or discarded */
} NetAnswer;

static inline const Guest *postcopy_guest(const PostcopyRun *run)
{
    return &run->script->guest;
}

static inline const char *postcopy_idstr(const PostcopyRun *run, unsigned block)
{
    return postcopy_guest(run)->blocks[block].idstr;
}

static inline uint64_t postcopy_pages(const PostcopyRun *run, unsigned block)
{
    return postcopy_guest(run)->blocks[block].used_length / POSTCOPY_PAGE;
}

/* postcopy-run.c */

void postcopy_for_each_page(PostcopyRun *run, void (*body)(PostcopyRun *run, NetPage *page));

/* Waits until everybody is where the model says, and checks what was said meanwhile. */
bool postcopy_rest(PostcopyRun *run);

/* postcopy-peer.c */

/* By the model the pair is broken: for @rule, at byte @offset; NULL: any reason is right. */
void postcopy_break_pair(PostcopyRun *run, const char *rule, uint64_t offset);

/* The guest touches a page: does it have to be asked for? */
void postcopy_want(PostcopyRun *run, NetPage *page);

bool postcopy_read_return_path(PostcopyRun *run);

/* All that had to be said was said. */
bool postcopy_check_all_said(PostcopyRun *run);

/* The reason that the subject gave for the last break is the model's. */
bool postcopy_check_break(PostcopyRun *run);

/* At the end SHUT was said, with the right value. */
bool postcopy_check_shut(PostcopyRun *run);

/* As far as it can be sent: in pieces of run->piece bytes, and rests behind each. */
bool postcopy_send_message(PostcopyRun *run, unsigned channel, const GByteArray *message);

bool postcopy_send_step(PostcopyRun *run, const PostcopyStep *step);

/* postcopy-pair.c */

/* @theirs: the subject's ends. */
bool postcopy_pair_open(PostcopyRun *run, int theirs[SUBJECT_CHANNELS], GError **error);
void postcopy_pair_close(NetPair *pair);

/* Closes it; what the pair was given is looked at once more, by the parser alone. */
bool postcopy_pair_finish(PostcopyRun *run);

bool postcopy_break(PostcopyRun *run, const PostcopyStep *step);

/* Offers new channels. Where the old ones are broken they have to be taken. */
bool postcopy_resume(PostcopyRun *run, bool handshake);

#endif

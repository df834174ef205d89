/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A judged file as text for people: what `pagewise inspect` and `pagewise
 * replay` print. All functions append to @out.
 */
#ifndef PAGEWISE_TOOLS_LISTING_H
#define PAGEWISE_TOOLS_LISTING_H

#include "model/judge.h"

/* "4 GiB", "1.5 MiB", "12 bytes". Free with g_free(). */
char *listing_size(uint64_t bytes);

/* Bytes of a file in quotes, on one line whatever they are. Free with g_free(). */
char *listing_quote(const char *string);

/* Stream header, machine, capabilities, RAM section. Of a whole file. */
void listing_append_stream(GString *out, const Judgement *judgement);

/* A table of the guest's blocks and what the file says of each. */
void listing_append_blocks(GString *out, const Judgement *judgement);

/* What follows the RAM section's START. Of a whole file. */
void listing_append_tail(GString *out, const Judgement *judgement);

/* One line each: "must refuse: block 'pc.ram': ..." or "may refuse: ...". */
void listing_append_violations(GString *out, const Judgement *judgement);

#endif

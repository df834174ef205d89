/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The bitmap of a judged block in bulk, a word of 64 pages at a time, for what
 * looks at all pages of a large block. Holes are never walked through.
 */
#ifndef PAGEWISE_TOOLS_BLOCK_BITMAP_H
#define PAGEWISE_TOOLS_BLOCK_BITMAP_H

#include "model/judge.h"

#define BLOCK_BITMAP_BATCH 512

/* Does the judgement say where the block's pages are? */
bool block_bitmap_exists(const Judgement *judgement, unsigned block);

/*
 * Reads words (bit 0: the lower page) from the first one >= @from that may
 * have a bit set. Bits beyond the last page are clear (rule B5). Returns how
 * many were read into @words, up to BLOCK_BITMAP_BATCH; 0: there is none.
 */
unsigned block_bitmap_read(const Judgement *judgement, unsigned block, uint64_t from,
                           uint64_t *first, uint64_t words[BLOCK_BITMAP_BATCH]);

/* Pages whose bit is set. */
uint64_t block_bitmap_count(const Judgement *judgement, unsigned block);

#endif

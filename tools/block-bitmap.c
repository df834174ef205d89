/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * See block-bitmap.h; rules B1 to B5 of docs/mapped-ram-format.md.
 */
#include "tools/block-bitmap.h"

#include <string.h>

bool block_bitmap_exists(const Judgement *judgement, unsigned block)
{
    const JudgedBlock *judged = &judgement->blocks[block];

    /* A length that the guest cannot have (R6) is no measure of anything. */
    return judged->in_file && !judged->ignored &&
           judged->used_length <= judgement->guest.blocks[block].max_length &&
           judged->bitmap_offset <= (uint64_t)INT64_MAX - judged->bitmap_length;
}

/* The first word >= @from that is not in a hole, or UINT64_MAX. */
static uint64_t next_word(const Judgement *judgement, const JudgedBlock *judged, uint64_t from)
{
    SparseExtent extent;

    if (!sparse_file_next_data(judgement->file, judged->bitmap_offset + 8 * from, &extent) ||
        extent.offset >= judged->bitmap_offset + judged->bitmap_length) {
        return UINT64_MAX;
    }
    return (extent.offset - judged->bitmap_offset) / 8;
}

unsigned block_bitmap_read(const Judgement *judgement, unsigned block, uint64_t from,
                           uint64_t *first, uint64_t words[BLOCK_BITMAP_BATCH])
{
    const JudgedBlock *judged = &judgement->blocks[block];
    uint64_t n_words = judged->bitmap_length / 8;
    size_t n;
    size_t got;

    if (!block_bitmap_exists(judgement, block) || from >= n_words) {
        return 0;
    }
    *first = next_word(judgement, judged, from);
    if (*first == UINT64_MAX) {
        return 0;
    }
    n = MIN(n_words - *first, BLOCK_BITMAP_BATCH);
    got = sparse_file_read(judgement->file, judged->bitmap_offset + 8 * *first, words, 8 * n);
    memset((char *)words + got, 0, 8 * n - got);
    for (size_t i = 0; i < n; i++) {
        words[i] = GUINT64_FROM_LE(words[i]);
    }
    if (*first + n == n_words && judged->pages % 64 != 0) {
        words[n - 1] &= (UINT64_C(1) << judged->pages % 64) - 1;
    }
    return (unsigned)n;
}

uint64_t block_bitmap_count(const Judgement *judgement, unsigned block)
{
    uint64_t words[BLOCK_BITMAP_BATCH];
    uint64_t count = 0;
    uint64_t from = 0;
    uint64_t first;
    unsigned n;

    while ((n = block_bitmap_read(judgement, block, from, &first, words)) > 0) {
        for (unsigned i = 0; i < n; i++) {
            count += (uint64_t)__builtin_popcountll(words[i]);
        }
        from = first + n;
    }
    return count;
}

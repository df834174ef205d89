/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a host page of a lazy load is to hold: what the model says, or what the
 * guest made of it. It knows no threads, and judges nothing.
 */
#include "property/lazy-parts.h"

#include <string.h>

/* The piece of a target page at @offset of the block. Returns its length, at most @length. */
static uint64_t source_of(const LazyRun *run, const LazyBlock *block, uint64_t offset,
                          uint64_t length, bool *in_file, uint64_t *file_offset)
{
    uint64_t size = lazy_judgement(run)->guest.target_page_size;

    *in_file = judgement_page(lazy_judgement(run), block->block, offset / size, file_offset) ==
               PAGE_FROM_FILE;
    *file_offset += offset % size;
    return MIN(length, size - offset % size);
}

static void read_model(const LazyRun *run, const LazyBlock *block, uint64_t offset, uint8_t *buffer,
                       uint64_t length)
{
    for (uint64_t done = 0; done < length;) {
        bool in_file;
        uint64_t at = 0;
        uint64_t n = source_of(run, block, offset + done, length - done, &in_file, &at);

        memset(buffer + done, 0, n);
        if (in_file) {
            sparse_file_read(lazy_judgement(run)->file, at, buffer + done, n);
        }
        done += n;
    }
}

static size_t differs_from_zero(const uint8_t *bytes, size_t length)
{
    size_t i = 0;

    while (i < length && bytes[i] == 0) {
        i++;
    }
    return i;
}

bool lazy_may_be_cut_off(const LazyRun *run, uint64_t file_offset)
{
    unsigned n = __atomic_load_n(&run->n_ends, __ATOMIC_ACQUIRE);

    for (unsigned i = 0; i < n; i++) {
        uint64_t end = __atomic_load_n(&run->ends[i], __ATOMIC_ACQUIRE);

        if (file_offset >= end && file_offset / LAZY_PAGE == end / LAZY_PAGE) {
            return true;
        }
    }
    return false;
}

static size_t compare_file(const LazyRun *run, uint64_t file_offset, const uint8_t *bytes, size_t n)
{
    size_t same = sparse_file_compare(lazy_judgement(run)->file, file_offset, bytes, n);

    while (same < n && bytes[same] == 0 && lazy_may_be_cut_off(run, file_offset + same)) {
        same++;
    }
    return same;
}

static size_t compare_model(const LazyRun *run, const LazyBlock *block, uint64_t page)
{
    const uint8_t *bytes = block->host + page * LAZY_PAGE;

    for (uint64_t done = 0; done < LAZY_PAGE;) {
        bool in_file;
        uint64_t at = 0;
        uint64_t n =
            source_of(run, block, page * LAZY_PAGE + done, LAZY_PAGE - done, &in_file, &at);
        size_t same =
            in_file ? compare_file(run, at, bytes + done, n) : differs_from_zero(bytes + done, n);

        done += same;
        if (same < n) {
            return done;
        }
    }
    return LAZY_PAGE;
}

static size_t compare_expected(const LazyRun *run, const LazyBlock *block, uint64_t page)
{
    const uint8_t *found = block->host + page * LAZY_PAGE;
    const uint8_t *expected = run->expected[block->pages[page].expected - 1];
    uint64_t at = lazy_judgement(run)->blocks[block->block].pages_offset + page * LAZY_PAGE;
    size_t i = 0;

    if (memcmp(found, expected, LAZY_PAGE) == 0) {
        return LAZY_PAGE;
    }
    while (i < LAZY_PAGE &&
           (found[i] == expected[i] || (found[i] == 0 && lazy_may_be_cut_off(run, at + i)))) {
        i++;
    }
    return i;
}

size_t lazy_run_compare_page(const LazyRun *run, const LazyBlock *block, uint64_t page)
{
    return block->pages[page].expected ? compare_expected(run, block, page)
                                       : compare_model(run, block, page);
}

void lazy_run_restore_page(const LazyRun *run, const LazyBlock *block, uint64_t page)
{
    read_model(run, block, page * LAZY_PAGE, block->host + page * LAZY_PAGE, LAZY_PAGE);
}

uint8_t lazy_expected_byte(const LazyRun *run, const LazyBlock *block, uint64_t page,
                           unsigned offset)
{
    uint8_t expected = block->pages[page].expected;
    uint8_t byte;

    if (expected) {
        return run->expected[expected - 1][offset];
    }
    read_model(run, block, page * LAZY_PAGE + offset, &byte, 1);
    return byte;
}

uint8_t *lazy_expected_page(LazyRun *run, const LazyBlock *block, uint64_t page)
{
    LazyPage *state = &block->pages[page];

    if (!state->expected) {
        if (run->n_expected == LAZY_MAX_EXPECTED) {
            return NULL;
        }
        read_model(run, block, page * LAZY_PAGE, run->expected[run->n_expected], LAZY_PAGE);
        state->expected = (uint8_t)++run->n_expected;
    }
    return run->expected[state->expected - 1];
}

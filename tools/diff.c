/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * `pagewise diff`: compares the guest RAM that two snapshots hold, block by
 * block and page by page. Where the pages lie in the files does not matter;
 * pages that are in neither file are equal and are never looked at. Bytes
 * that are compared are read from the files in batches and not kept.
 */
#include "tools/command.h"

#include "tools/block-bitmap.h"
#include "tools/listing.h"
#include "tools/reader.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* Pages of one block are read and compared by so many bytes. */
#define BATCH_SIZE (UINT64_C(1) << 20)

const Command command_diff = {
    .name = "diff",
    .parameters = "A B",
    .summary = "Compare the guest RAM of two snapshots, page for page",
    .help = "Blocks are matched by name. A page that is not in a file is a page of zeroes. Each\n"
            "range of pages that differ is one line, with the first byte that differs: its\n"
            "offset in the block, and its value in A and in B.\n\n"
            "Exit status: 0: equal; 1: different; 2: no answer, one of them cannot be read or\n"
            "must be refused by every reader; 64: wrong arguments.",
    .min_parameters = 2,
    .max_parameters = 2,
};

/* One of the two snapshots, and one block of it. */
typedef struct Side {
    const char *path;
    SnapshotFile *file;
    Judgement *judgement;
    unsigned block;
    uint8_t *buffer; /* BATCH_SIZE bytes */
} Side;

/* Pages of which both files know the same: in A, in B, or in both. */
typedef struct Run {
    uint64_t first;
    uint64_t count;
    bool in[2];
} Run;

typedef struct Diff {
    Side sides[2];
    uint64_t page_size;
    Run run;
    /* The range of differing pages that is not printed yet. */
    uint64_t range_first;
    uint64_t range_count;
    uint64_t offset; /* in the block, of its first byte that differs */
    uint8_t bytes[2];
    /* Of the block. */
    uint64_t compared;
    uint64_t differ;
    GError *error;
} Diff;

static const JudgedBlock *judged_block(const Side *side)
{
    return &side->judgement->blocks[side->block];
}

static void print_range(Diff *diff)
{
    if (diff->range_count == 0) {
        return;
    }
    printf("  pages 0x%" PRIx64 "-0x%" PRIx64 " (%" PRIu64 "): first at 0x%" PRIx64
           ": 0x%02x in A, 0x%02x in B\n",
           diff->range_first, diff->range_first + diff->range_count - 1, diff->range_count,
           diff->offset, diff->bytes[0], diff->bytes[1]);
    diff->range_count = 0;
}

static size_t first_difference(const uint8_t *a, const uint8_t *b)
{
    size_t i = 0;

    while (a[i] == b[i]) {
        i++;
    }
    return i;
}

/* Page @page differs; its bytes are in the buffers from @at on. */
static void note_page(Diff *diff, uint64_t page, size_t at)
{
    const uint8_t *a = diff->sides[0].buffer + at;
    const uint8_t *b = diff->sides[1].buffer + at;

    diff->differ++;
    if (diff->range_count > 0 && diff->range_first + diff->range_count == page) {
        diff->range_count++;
        return;
    }
    print_range(diff);
    diff->range_first = page;
    diff->range_count = 1;
    diff->offset = first_difference(a, b);
    diff->bytes[0] = a[diff->offset];
    diff->bytes[1] = b[diff->offset];
    diff->offset += page * diff->page_size;
}

/* The first byte >= @from of the block, up to @end, that is no hole in its file. */
static uint64_t next_data(const Side *side, bool in, uint64_t from, uint64_t end)
{
    uint64_t base = judged_block(side)->pages_offset;

    return in ? MIN(snapshot_file_next_data(side->file, base + from) - base, end) : end;
}

static bool read_side(Diff *diff, unsigned index, uint64_t from, size_t length)
{
    Side *side = &diff->sides[index];

    if (!diff->run.in[index]) {
        memset(side->buffer, 0, length);
        return true;
    }
    if (snapshot_file_read(side->file, judged_block(side)->pages_offset + from, side->buffer,
                           length, &diff->error)) {
        return true;
    }
    g_prefix_error(&diff->error, "%s: ", side->path);
    return false;
}

static void compare_batch(Diff *diff, uint64_t from, size_t length)
{
    for (size_t at = 0; at < length; at += diff->page_size) {
        if (memcmp(diff->sides[0].buffer + at, diff->sides[1].buffer + at, diff->page_size) != 0) {
            note_page(diff, (from + at) / diff->page_size, at);
        }
    }
}

/* Compares what is no hole of the pages gathered in diff->run. */
static bool compare_run(Diff *diff)
{
    const Run *run = &diff->run;
    uint64_t at = run->first * diff->page_size;
    uint64_t end = at + run->count * diff->page_size;

    diff->compared += run->count;
    while (true) {
        size_t length;

        at = MIN(next_data(&diff->sides[0], run->in[0], at, end),
                 next_data(&diff->sides[1], run->in[1], at, end));
        if (at >= end) {
            return true;
        }
        at -= at % diff->page_size;
        length = MIN(BATCH_SIZE, end - at);
        if (!read_side(diff, 0, at, length) || !read_side(diff, 1, at, length)) {
            return false;
        }
        compare_batch(diff, at, length);
        at += length;
    }
}

/* Adds @count pages to the run, or compares it and begins another. */
static bool add_pages(Diff *diff, uint64_t page, unsigned count, bool in_a, bool in_b)
{
    Run *run = &diff->run;

    if (run->count > 0 && run->first + run->count == page && run->in[0] == in_a &&
        run->in[1] == in_b) {
        run->count += count;
        return true;
    }
    if (run->count > 0 && !compare_run(diff)) {
        return false;
    }
    *run = (Run){ .first = page, .count = count, .in = { in_a, in_b } };
    return true;
}

/* Cuts a word's 64 pages into runs of the same bits in @a and in @b. */
static bool add_word(Diff *diff, uint64_t page, uint64_t a, uint64_t b)
{
    uint64_t left = a | b;

    while (left != 0) {
        unsigned bit = (unsigned)__builtin_ctzll(left);
        bool in_a = a >> bit & 1;
        bool in_b = b >> bit & 1;
        uint64_t other = ((in_a ? ~a : a) | (in_b ? ~b : b)) & (UINT64_MAX << bit);
        unsigned end = other ? (unsigned)__builtin_ctzll(other) : 64;

        if (!add_pages(diff, page + bit, end - bit, in_a, in_b)) {
            return false;
        }
        left = end < 64 ? left & (UINT64_MAX << end) : 0;
    }
    return true;
}

/* A part of a bitmap that was read. */
typedef struct Words {
    const Side *side;
    bool at_end;
    uint64_t first;
    unsigned n;
    uint64_t words[BLOCK_BITMAP_BATCH];
} Words;

/* The first word >= @from that may have a bit set, or UINT64_MAX. */
static uint64_t seek_word(Words *words, uint64_t from)
{
    if (words->n > 0 && from < words->first + words->n) {
        return MAX(from, words->first);
    }
    if (!words->at_end) {
        words->n = block_bitmap_read(words->side->judgement, words->side->block, from,
                                     &words->first, words->words);
        words->at_end = words->n == 0;
    }
    return words->at_end ? UINT64_MAX : words->first;
}

static uint64_t word_at(const Words *words, uint64_t word)
{
    return word >= words->first && word < words->first + words->n
               ? words->words[word - words->first]
               : 0;
}

static bool compare_pages(Diff *diff)
{
    g_autofree Words *a = g_new0(Words, 1);
    g_autofree Words *b = g_new0(Words, 1);
    uint64_t word;

    a->side = &diff->sides[0];
    b->side = &diff->sides[1];
    diff->run.count = 0;
    for (uint64_t from = 0;; from = word + 1) {
        uint64_t next_a = seek_word(a, from);
        uint64_t next_b = seek_word(b, from);

        word = MIN(next_a, next_b);
        if (word == UINT64_MAX) {
            break;
        }
        if (!add_word(diff, word * 64, word_at(a, word), word_at(b, word))) {
            return false;
        }
    }
    return diff->run.count == 0 || compare_run(diff);
}

/* True if the block's RAM can be compared; else *differs says whether that is a difference. */
static bool is_comparable(const Side *a, const Side *b, const char *name, bool *differs)
{
    const JudgedBlock *of_a = judged_block(a);
    const JudgedBlock *of_b = judged_block(b);

    *differs = of_a->ignored != of_b->ignored || of_a->used_length != of_b->used_length;
    if (of_a->used_length != of_b->used_length) {
        printf("block %s: used_length is 0x%" PRIx64 " in A, 0x%" PRIx64 " in B\n", name,
               of_a->used_length, of_b->used_length);
    }
    if (of_a->ignored && of_b->ignored) {
        printf("block %s: is shared memory, its RAM is in neither file\n", name);
    } else if (of_a->ignored || of_b->ignored) {
        printf("block %s: is shared memory in %s, its RAM is not in that file\n", name,
               of_a->ignored ? "A" : "B");
    }
    return !of_a->ignored && !of_b->ignored;
}

/* False: diff->error is set. */
static bool compare_block(Diff *diff, bool *equal)
{
    const Side *a = &diff->sides[0];
    g_autofree char *name = listing_quote(a->judgement->guest.blocks[a->block].idstr);
    bool differs;

    if (!is_comparable(a, &diff->sides[1], name, &differs)) {
        *equal &= !differs;
        return true;
    }
    diff->compared = 0;
    diff->differ = 0;
    if (!compare_pages(diff)) {
        return false;
    }
    print_range(diff);
    printf("block %s: %" PRIu64 " pages differ, of %" PRIu64 " that are in a file and %" PRIu64
           " in all\n",
           name, diff->differ, diff->compared, judged_block(a)->pages);
    *equal &= !differs && diff->differ == 0;
    return true;
}

/* False: side @other has no block of that name. */
static bool find_block(const Side *side, Side *other)
{
    const char *idstr = side->judgement->guest.blocks[side->block].idstr;
    const Guest *guest = &other->judgement->guest;

    for (other->block = 0; other->block < guest->n_blocks; other->block++) {
        if (strcmp(guest->blocks[other->block].idstr, idstr) == 0) {
            return true;
        }
    }
    return false;
}

static void print_missing(const Side *side, const char *letter)
{
    g_autofree char *name = listing_quote(side->judgement->guest.blocks[side->block].idstr);

    printf("block %s: is in %s only\n", name, letter);
}

static bool compare_blocks(Diff *diff, bool *equal)
{
    Side *a = &diff->sides[0];
    Side *b = &diff->sides[1];

    for (a->block = 0; a->block < a->judgement->guest.n_blocks; a->block++) {
        if (!find_block(a, b)) {
            print_missing(a, "A");
            *equal = false;
        } else if (!compare_block(diff, equal)) {
            return false;
        }
    }
    for (b->block = 0; b->block < b->judgement->guest.n_blocks; b->block++) {
        if (!find_block(b, a)) {
            print_missing(b, "B");
            *equal = false;
        }
    }
    return true;
}

/* Is it known what RAM the file gives? */
static bool check_verdict(const Judgement *judgement, GError **error)
{
    g_autofree char *line = NULL;

    if (judgement->verdict != VERDICT_REJECT && !judgement->ram_unspecified &&
        !judgement_violates(judgement, RULE_R4)) {
        return true;
    }
    line = judgement_describe_violation(judgement, 0);
    g_set_error(error, COMMAND_ERROR, COMMAND_ERROR_INPUT,
                "is no snapshot whose RAM is known: %s; `pagewise verify` lists all", line);
    return false;
}

static bool open_side(Side *side, const ReaderOptions *reader, GError **error)
{
    unsigned left_out;

    side->file = snapshot_file_open(side->path, error);
    return side->file && reader_judge(side->file, reader, side->judgement, &left_out, error) &&
           reader_check_left_out(left_out, error) && check_verdict(side->judgement, error);
}

static int compare_snapshots(Diff *diff)
{
    const Side *sides = diff->sides;
    bool equal = true;

    diff->page_size = sides[0].judgement->guest.target_page_size;
    if (diff->page_size != sides[1].judgement->guest.target_page_size) {
        printf("the page sizes differ: %" PRIu64 " in A, %" PRIu64 " in B\n", diff->page_size,
               sides[1].judgement->guest.target_page_size);
        return STATUS_DIFFERENT;
    }
    if (!compare_blocks(diff, &equal)) {
        return command_fail(&command_diff, "no answer", diff->error);
    }
    for (unsigned i = 0; i < 2; i++) {
        if (!snapshot_file_check(sides[i].file, &diff->error)) {
            return command_fail(&command_diff, sides[i].path, diff->error);
        }
    }
    printf("%s\n", equal ? "equal" : "different");
    return equal ? STATUS_OK : STATUS_DIFFERENT;
}

static int open_and_compare(Diff *diff, const ReaderOptions *reader)
{
    for (unsigned i = 0; i < 2; i++) {
        if (!open_side(&diff->sides[i], reader, &diff->error)) {
            return command_fail(&command_diff, diff->sides[i].path, diff->error);
        }
    }
    printf("A: %s\nB: %s\n", diff->sides[0].path, diff->sides[1].path);
    return compare_snapshots(diff);
}

int run_diff(int argc, char **argv)
{
    g_auto(ReaderOptions) reader = { 0 };
    const GOptionEntry own[] = {
        { "page-size", 0, 0, G_OPTION_ARG_STRING, &reader.page_size,
          "The target's page size (default: as the files say)", "BYTES" },
        G_OPTION_ENTRY_NULL,
    };
    Diff diff = { 0 };
    int status;

    if (!command_parse(&command_diff, own, &argc, &argv)) {
        return STATUS_USAGE;
    }
    for (unsigned i = 0; i < 2; i++) {
        diff.sides[i] = (Side){ .path = argv[1 + i] };
        diff.sides[i].judgement = g_new0(Judgement, 1);
        diff.sides[i].buffer = g_malloc(BATCH_SIZE);
    }
    status = open_and_compare(&diff, &reader);
    for (unsigned i = 0; i < 2; i++) {
        g_clear_pointer(&diff.sides[i].file, snapshot_file_close);
        g_free(diff.sides[i].judgement);
        g_free(diff.sides[i].buffer);
    }
    g_clear_error(&diff.error);
    return status;
}

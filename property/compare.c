/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The property eager=model, and what lazy loads have of it: guest RAM against
 * the model's reading of the file, page for page, and everything around it
 * against what it was before. Answers to docs/mapped-ram-format.md, section 9
 * (G1 to G3) and rule R6a.
 */
#include "property/context.h"

#include <inttypes.h>

/* One block of one load. */
typedef struct Comparison {
    PropertyContext *context;
    const Judgement *judgement;
    unsigned block;
    uint64_t page_size; /* target page size, bytes */
    uint64_t end;       /* pages of the file that the block can hold */
    uint64_t word;      /* the pages in the file of this word of 64 pages are in @bits */
    uint64_t bits;
} Comparison;

static uint8_t byte_at(const Comparison *c, uint64_t offset)
{
    return guest_ram_host(c->context->ram, c->block)[offset];
}

static bool wrong_outside(const Comparison *c, uint64_t offset, const char *where, GError **error)
{
    return property_broken_block(c->context, c->context->ram_property, c->block, error,
                                 "host offset 0x%" PRIx64 " (%s): the load wrote 0x%02x "
                                 "where nothing may be written (rule G3)",
                                 offset, where, byte_at(c, offset));
}

static bool check_bytes_from_file(const Comparison *c, uint64_t start, uint64_t length,
                                  GError **error)
{
    const JudgedBlock *judged = &c->judgement->blocks[c->block];
    const uint8_t *host = guest_ram_host(c->context->ram, c->block);
    uint64_t file_offset = judged->pages_offset + start;
    size_t span = sparse_file_compare(c->judgement->file, file_offset, host + start, length);
    uint64_t page = (start + span) / c->page_size;
    uint8_t expected = 0;

    if (span == length) {
        return true;
    }
    sparse_file_read(c->judgement->file, file_offset + span, &expected, 1);
    return property_broken_block(c->context, c->context->ram_property, c->block, error,
                                 "page %" PRIu64 ": expected bytes of file offset "
                                 "0x%" PRIx64 " (bit %" PRIu64 " is set, rule G1); found 0x%02x "
                                 "instead of 0x%02x at byte %" PRIu64 " of the page",
                                 page, judged->pages_offset + page * c->page_size, page,
                                 host[start + span], expected, (start + span) % c->page_size);
}

static bool is_given_up(const Comparison *c, uint64_t offset)
{
    return c->context->is_given_up && c->context->is_given_up(c->context, c->block, offset);
}

/* The end of the bytes from @start on that are given up, or are not; at most @end. */
static uint64_t end_of_same(const Comparison *c, uint64_t start, uint64_t end, bool given_up)
{
    while (start < end && is_given_up(c, start) == given_up) {
        start = (start / CONTEXT_PAGE + 1) * CONTEXT_PAGE;
    }
    return MIN(start, end);
}

static bool check_run_from_file(const Comparison *c, uint64_t first, uint64_t count, GError **error)
{
    uint64_t at = first * c->page_size;
    uint64_t end = at + count * c->page_size;

    c->context->stats.pages += count;
    while (at < end) {
        uint64_t next = c->context->is_given_up ? end_of_same(c, at, end, false) : end;

        if (next > at && !check_bytes_from_file(c, at, next - at, error)) {
            return false;
        }
        at = end_of_same(c, next, end, true);
    }
    return true;
}

static bool check_gap(const Comparison *c, uint64_t first, uint64_t end, GError **error)
{
    const GuestRam *ram = c->context->ram;
    uint64_t from = first * c->page_size;
    uint64_t to = end * c->page_size;
    uint64_t at = 0;
    bool clear = c->judgement->guest.clear_pages;
    bool right = clear ? guest_ram_is_filled(ram, c->block, from, to, 0, &at)
                       : guest_ram_is_untouched(ram, c->block, from, to, &at);

    if (right) {
        return true;
    }
    return property_broken_block(c->context, c->context->ram_property, c->block, error,
                                 "page %" PRIu64 ": expected %s (bit %" PRIu64
                                 " is clear, rules B3 and G2); found 0x%02x at byte %" PRIu64
                                 " of the page",
                                 at / c->page_size,
                                 clear ? "a page of zeroes" : "what it held before the load",
                                 at / c->page_size, byte_at(c, at), at % c->page_size);
}

/* The first page at or after @from that is in the file; c->end if none is. */
static uint64_t next_page(Comparison *c, uint64_t from)
{
    uint64_t bits;

    if (from / 64 != c->word) {
        c->word = from / 64;
        c->bits = judgement_pages_in_word(c->judgement, c->block, c->word);
    }
    bits = c->bits & (UINT64_MAX << (from % 64));
    if (bits) {
        return MIN(c->word * 64 + __builtin_ctzll(bits), c->end);
    }
    return MIN(judgement_next_page_in_file(c->judgement, c->block, (c->word + 1) * 64), c->end);
}

static bool check_pages(Comparison *c, GError **error)
{
    uint64_t done = 0;

    while (done < c->end) {
        uint64_t first = next_page(c, done);
        uint64_t last = first;

        if (!check_gap(c, done, first, error)) {
            return false;
        }
        while (last < c->end && next_page(c, last) == last) {
            last++;
        }
        if (!check_run_from_file(c, first, last - first, error)) {
            return false;
        }
        done = last;
    }
    return true;
}

static bool check_outside(const Comparison *c, uint64_t from, GError **error)
{
    const GuestBlock *guest = &c->judgement->guest.blocks[c->block];
    uint64_t at;

    if (!guest_ram_is_untouched(c->context->ram, c->block, from, guest->max_length, &at)) {
        return wrong_outside(c, at, "beyond the file's pages of the block", error);
    }
    if (!guest_ram_slack_is_untouched(c->context->ram, c->block)) {
        return property_broken_block(c->context, c->context->ram_property, c->block, error,
                                     "the load wrote to memory below the block");
    }
    return true;
}

static Comparison comparison(PropertyContext *context, const Judgement *judgement, unsigned block)
{
    return (Comparison){
        .context = context,
        .judgement = judgement,
        .block = block,
        .page_size = judgement->guest.target_page_size,
        .word = UINT64_MAX,
    };
}

static bool check_block(Comparison *c, uint64_t used_length, GError **error)
{
    const JudgedBlock *judged = &c->judgement->blocks[c->block];
    uint64_t length = MIN(judged->used_length, used_length);

    if (judged->unspecified) {
        return check_outside(c, used_length, error);
    }
    if (!judged->in_file || judged->ignored) {
        return check_outside(c, 0, error);
    }
    c->end = length / c->page_size;
    return check_pages(c, error) && check_outside(c, length, error);
}

bool check_ram(PropertyContext *context, const Judgement *judgement, const SubjectBlock *blocks,
               GError **error)
{
    for (unsigned i = 0; i < judgement->guest.n_blocks; i++) {
        Comparison c = comparison(context, judgement, i);
        bool right = judgement->ram_unspecified ? check_outside(&c, blocks[i].used_length, error)
                                                : check_block(&c, blocks[i].used_length, error);

        if (!right) {
            return false;
        }
    }
    return true;
}

bool check_ram_after_refusal(PropertyContext *context, const Judgement *judgement, GError **error)
{
    for (unsigned i = 0; i < judgement->guest.n_blocks; i++) {
        const GuestBlock *guest = &judgement->guest.blocks[i];
        const JudgedBlock *judged = &judgement->blocks[i];
        Comparison c = comparison(context, judgement, i);
        uint64_t used = guest->used_length;

        /* A reader may have resized the block before it met what it refused. */
        if (judged->in_file && judged->used_length <= guest->max_length) {
            used = MAX(used, judged->used_length);
        }
        if (judgement->ram_unspecified || judged->unspecified) {
            used = guest->max_length;
        }
        if (!check_outside(&c, used, error)) {
            return false;
        }
    }
    return true;
}

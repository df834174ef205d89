/* SPDX-License-Identifier: GPL-2.0-or-later */
/* From an input of the kind fault-map to a case, and to text; see fault-map.h. */
#include "property/fault-map.h"

#include <inttypes.h>
#include <string.h>

#define BASE_SHIFT 21
/* Where the bitmaps are in the file, and behind them the pages. */
#define BITMAPS_AT UINT64_C(0x1000)
#define PAGES_AT UINT64_C(0x100000)

void fault_map_case_init(FaultMapCase *c)
{
    *c = (FaultMapCase){ .words = g_new(uint64_t, INPUT_MAX_MAP_PAGES / 64 + INPUT_MAX_BLOCKS) };
}

void fault_map_case_clear(FaultMapCase *c)
{
    g_clear_pointer(&c->words, g_free);
}

/* What is placed one behind the other while blocks are decoded. */
typedef struct Layout {
    uint64_t memory; /* end of the memory of the blocks so far */
    uint64_t file;   /* end of their pages */
    uint64_t words;  /* of their bitmaps */
    uint64_t pages;  /* target pages */
} Layout;

static uint64_t round_up(uint64_t value, uint64_t unit)
{
    return (value + unit - 1) / unit * unit;
}

static void decode_block(const InputFaultBlock *in, unsigned index, Layout *layout, FaultMapCase *c,
                         Judgement *judgement)
{
    uint64_t page_size = judgement->guest.target_page_size;
    uint64_t pages = CLAMP(input_decode_pages(in->used), 1, INPUT_MAX_MAP_PAGES - layout->pages);
    uint64_t host_page = UINT64_C(1)
                         << (in->host_page_bits ? CLAMP(in->host_page_bits, 12, 21) : 12);
    uint64_t gap = input_load_le(in->memory_gap, 3) * host_page;
    uint64_t used_length = pages * page_size;
    GuestBlock *guest = &judgement->guest.blocks[index];

    G_STATIC_ASSERT(INPUT_MAX_BLOCKS <= 10);
    memcpy(guest->idstr, "block0", sizeof("block0"));
    guest->idstr[strlen("block")] += index;
    guest->used_length = guest->max_length = used_length;
    guest->host_page_size = host_page;
    judgement->blocks[index] = (JudgedBlock){
        .in_file = !(in->flags & INPUT_BLOCK_LEFT_OUT),
        .ignored = in->flags & INPUT_BLOCK_IGNORED,
        .used_length = used_length,
        .page_size = page_size,
        .bitmap_offset = BITMAPS_AT + layout->words * 8,
        .bitmap_length = (pages + 63) / 64 * 8,
        .pages_offset = layout->file + input_load_le(in->file_gap, 6) % (1ull << 40) * page_size,
        .pages = pages,
    };
    c->hosts[index] = round_up(layout->memory + gap, host_page);
    layout->memory = c->hosts[index] + round_up(used_length, host_page);
    layout->file = judgement->blocks[index].pages_offset + used_length;
    layout->words += (pages + 63) / 64;
    layout->pages += pages;
}

/* The bytes of the input, then all ones or zeroes: into the file and into words. */
static void decode_bitmap(const InputFaultBlock *in, const uint8_t **data, size_t *size,
                          SparseFile *file, const JudgedBlock *judged, uint64_t *words)
{
    size_t length = judged->bitmap_length;
    size_t given = MIN(MIN(in->bitmap_bytes, *size), length);
    uint8_t rest = in->flags & INPUT_BLOCK_FULL ? 0xff : 0;

    memset(words, rest, length);
    if (given > 0) {
        memcpy(words, *data, given);
        sparse_file_write(file, judged->bitmap_offset, *data, given);
    }
    if (rest && given < length) {
        sparse_file_fill(file, judged->bitmap_offset + given, length - given, rest);
    }
    /* The others are the same in either byte order. */
    for (size_t i = 0; i < (given + 7) / 8; i++) {
        words[i] = GUINT64_FROM_LE(words[i]);
    }
    /* B5: what the header stage leaves of bits beyond the last page. */
    if (judged->pages % 64) {
        words[judged->pages / 64] &= (UINT64_C(1) << (judged->pages % 64)) - 1;
    }
    *data += given;
    *size -= given;
}

static uint64_t decode_probe(const InputProbe *in, const FaultMapCase *c,
                             const Judgement *judgement)
{
    unsigned index = in->block % judgement->guest.n_blocks;
    const GuestBlock *block = &judgement->guest.blocks[index];
    uint64_t delta = input_load_le(in->delta, 6);

    if (in->delta[5] & 0x80) {
        delta |= UINT64_MAX << 48;
    }
    switch (in->anchor % INPUT_N_ANCHORS) {
    case INPUT_ANCHOR_START:
        return c->hosts[index] + delta;
    case INPUT_ANCHOR_COVERED:
        return c->hosts[index] +
               block->used_length / block->host_page_size * block->host_page_size + delta;
    case INPUT_ANCHOR_END:
        return c->hosts[index] + block->used_length + delta;
    default:
        return delta;
    }
}

static void make_subject_block(const JudgedBlock *judged, uint64_t host, uint64_t *words,
                               SubjectBlock *block)
{
    bool has_pages = judged->in_file && !judged->ignored;

    *block = (SubjectBlock){
        .host = (uint8_t *)(uintptr_t)host,
        .used_length = judged->used_length,
        .in_file = has_pages,
        .pages_offset = has_pages ? judged->pages_offset : 0,
        .file_bmap = has_pages ? words : NULL,
    };
}

void fault_map_case_decode(FaultMapCase *c, const uint8_t *data, size_t size, SparseFile *file,
                           Judgement *judgement)
{
    InputFaultBlock blocks[INPUT_MAX_BLOCKS];
    Guest *guest = &judgement->guest;
    uint64_t *words = c->words;
    InputFaultMap map;
    InputHeader header;
    Layout layout;

    input_take(&data, &size, &header, sizeof(header));
    input_take(&data, &size, &map, sizeof(map));
    c->sweep = header.flags & INPUT_SWEEP;
    c->n_probes = CLAMP(map.n_probes, 1, INPUT_MAX_PROBES);
    judgement->verdict = VERDICT_ACCEPT;
    judgement->ram_unspecified = false;
    judgement->n_violations = 0;
    judgement->file = file;
    guest->target_page_size = UINT64_C(1)
                              << (header.page_bits ? CLAMP(header.page_bits, 10, 16) : 12);
    guest->clear_pages = true;
    guest->n_blocks = CLAMP(header.n_blocks, 1, INPUT_MAX_BLOCKS);
    /* Each later block has a page at least. */
    layout = (Layout){ .memory = input_load_le(map.base, 5) << BASE_SHIFT, .file = PAGES_AT };
    for (unsigned i = 0; i < guest->n_blocks; i++) {
        input_take(&data, &size, &blocks[i], sizeof(blocks[i]));
        layout.pages += guest->n_blocks - 1 - i;
        decode_block(&blocks[i], i, &layout, c, judgement);
        layout.pages -= guest->n_blocks - 1 - i;
    }
    for (unsigned i = 0; i < c->n_probes; i++) {
        InputProbe probe;

        input_take(&data, &size, &probe, sizeof(probe));
        c->probes[i] = decode_probe(&probe, c, judgement);
    }
    sparse_file_reset(file);
    for (unsigned i = 0; i < guest->n_blocks; i++) {
        decode_bitmap(&blocks[i], &data, &size, file, &judgement->blocks[i], words);
        make_subject_block(&judgement->blocks[i], c->hosts[i], words, &c->blocks[i]);
        words += judgement->blocks[i].bitmap_length / 8;
    }
}

static void describe_answer(GString *out, const FaultMapCase *c, const Judgement *judgement,
                            uint64_t address)
{
    FaultAnswer answer;

    g_string_append_printf(out, "  0x%" PRIx64 ": ", address);
    if (!judgement_fault(judgement, c->hosts, address, &answer)) {
        g_string_append(out, "in no page that is loaded lazily\n");
        return;
    }
    g_string_append_printf(out,
                           "block%u, host page at 0x%" PRIx64 ", bits %" PRIu64 " to %" PRIu64
                           ": %s",
                           answer.block, answer.offset, answer.first_page,
                           answer.first_page + answer.n_pages - 1,
                           fault_source_name(answer.source));
    if (answer.source != FAULT_ZERO) {
        g_string_append_printf(out, ", file offset 0x%" PRIx64, answer.file_offset);
    }
    g_string_append_c(out, '\n');
}

static void describe_case(const FaultMapCase *c, const Judgement *judgement, GString *out)
{
    const Guest *guest = &judgement->guest;

    g_string_append_printf(out, "target page size 0x%" PRIx64 "%s\n", guest->target_page_size,
                           c->sweep ? "; every host page is asked about" : "");
    for (unsigned i = 0; i < guest->n_blocks; i++) {
        const JudgedBlock *judged = &judgement->blocks[i];
        uint64_t in_file = 0;

        for (uint64_t word = 0; word < (judged->pages + 63) / 64; word++) {
            in_file += (unsigned)__builtin_popcountll(judgement_pages_in_word(judgement, i, word));
        }
        g_string_append_printf(out,
                               "  block%u: host 0x%" PRIx64 ", used_length 0x%" PRIx64
                               ", host page size 0x%" PRIx64 ", %s, pages_offset 0x%" PRIx64
                               ", %" PRIu64 " of %" PRIu64 " bits set\n",
                               i, c->hosts[i], judged->used_length, guest->blocks[i].host_page_size,
                               !judged->in_file
                                   ? "not in the file"
                                   : (judged->ignored ? "left out (X2)" : "in the file"),
                               judged->pages_offset, in_file, judged->pages);
    }
    g_string_append(out, "addresses, and what the model says of them:\n");
    for (unsigned i = 0; i < c->n_probes; i++) {
        describe_answer(out, c, judgement, c->probes[i]);
    }
}

void fault_map_describe(const uint8_t *data, size_t size, GString *out)
{
    g_autoptr(SparseFile) file = sparse_file_new();
    g_autofree Judgement *judgement = g_new0(Judgement, 1);
    FaultMapCase c;

    fault_map_case_init(&c);
    fault_map_case_decode(&c, data, size, file, judgement);
    describe_case(&c, judgement, out);
    fault_map_case_clear(&c);
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Writes a described snapshot as bytes: the layout of docs/mapped-ram-format.md,
 * sections 2 to 8, each field as the description has it. It must not correct
 * anything. Where the parts of a wrong file overlap, fields win over pages.
 *
 * Speed matters here (a fuzz target's inner loop): fields gather in a buffer
 * and become one extent; of a bitmap only words with bits in them are written.
 */
#include "model/snapshot-fields.h"
#include "model/snapshot.h"

#include <string.h>

typedef struct Writer {
    SparseFile *file;
    uint64_t at; /* file offset of buffer[0] */
    size_t used;
    uint8_t buffer[512];
} Writer;

static void writer_flush(Writer *writer)
{
    if (writer->used > 0) {
        sparse_file_write(writer->file, writer->at, writer->buffer, writer->used);
        writer->at += writer->used;
        writer->used = 0;
    }
}

static void writer_seek(Writer *writer, uint64_t at)
{
    if (writer->at + writer->used != at) {
        writer_flush(writer);
        writer->at = at;
    }
}

static void put_bytes(Writer *writer, const void *bytes, size_t length)
{
    if (length == 0) {
        return;
    }
    if (length > sizeof(writer->buffer) - writer->used) {
        writer_flush(writer);
    }
    if (length > sizeof(writer->buffer)) {
        sparse_file_write(writer->file, writer->at, bytes, length);
        writer->at += length;
        return;
    }
    memcpy(writer->buffer + writer->used, bytes, length);
    writer->used += length;
}

static uint8_t *writer_room(Writer *writer, size_t length)
{
    uint8_t *room;

    if (length > sizeof(writer->buffer) - writer->used) {
        writer_flush(writer);
    }
    room = writer->buffer + writer->used;
    writer->used += length;
    return room;
}

static void put_u8(Writer *writer, uint8_t value)
{
    *writer_room(writer, 1) = value;
}

static void put_be32(Writer *writer, uint32_t value)
{
    uint32_t big_endian = GUINT32_TO_BE(value);

    memcpy(writer_room(writer, 4), &big_endian, 4);
}

static void put_be64(Writer *writer, uint64_t value)
{
    uint64_t big_endian = GUINT64_TO_BE(value);

    memcpy(writer_room(writer, 8), &big_endian, 8);
}

static void put_str8(Writer *writer, const char *name, uint8_t length)
{
    put_u8(writer, length);
    put_bytes(writer, name, length);
}

static void encode_capabilities(const Snapshot *snapshot, Writer *writer)
{
    put_be32(writer, snapshot->capability_count);
    for (unsigned i = 0; i < snapshot->capabilities->len; i++) {
        const SnapshotCapability *capability =
            &g_array_index(snapshot->capabilities, SnapshotCapability, i);

        put_str8(writer, capability->name, capability->length);
    }
}

static void encode_subsection(const Snapshot *snapshot, const SnapshotSubsection *sub,
                              Writer *writer)
{
    put_u8(writer, SNAPSHOT_SUBSECTION);
    put_str8(writer, sub->name, sub->name_length);
    put_be32(writer, sub->version);
    if (sub->contents) {
        put_bytes(writer, sub->contents, sub->contents_length);
    } else {
        encode_capabilities(snapshot, writer);
    }
}

/* Sections 2 to 5, up to the first word of the RAM section's contents. */
static void encode_beginning(const Snapshot *snapshot, Writer *writer)
{
    put_be32(writer, snapshot->magic);
    put_be32(writer, snapshot->stream_version);
    put_u8(writer, snapshot->configuration_type);
    put_be32(writer, snapshot->machine_length);
    put_bytes(writer, snapshot->machine->data, snapshot->machine->len);
    for (unsigned i = 0; i < snapshot->subsections->len; i++) {
        encode_subsection(snapshot, &g_array_index(snapshot->subsections, SnapshotSubsection, i),
                          writer);
    }
    put_u8(writer, snapshot->section_type);
    put_be32(writer, snapshot->section_id);
    put_str8(writer, snapshot->section_name, snapshot->section_name_length);
    put_be32(writer, snapshot->instance_id);
    put_be32(writer, snapshot->section_version);
    put_be64(writer, snapshot->total);
}

static void encode_record(const SnapshotBlock *block, Writer *writer)
{
    writer_seek(writer, block->record_at);
    put_str8(writer, block->idstr, block->idstr_length);
    put_be64(writer, block->used_length);
    if (block->has_gpa) {
        put_be64(writer, block->gpa);
    }
    put_be32(writer, block->version);
    put_be64(writer, block->page_size);
    put_be64(writer, block->bitmap_offset);
    put_be64(writer, block->pages_offset);
}

static void encode_run(const Snapshot *snapshot, const SnapshotBlock *block, const PageRun *run,
                       SparseFile *file)
{
    uint64_t at = snapshot_add(block->pages_at, snapshot_multiply(run->first, snapshot->page_size));
    uint64_t length = snapshot_multiply(run->count, snapshot->page_size);

    switch (run->content) {
    case CONTENT_PATTERN:
    case CONTENT_STALE:
        sparse_file_pattern(file, at, length, run->seed);
        break;
    case CONTENT_FILL:
        sparse_file_fill(file, at, length, run->seed);
        break;
    case CONTENT_DATA:
    case CONTENT_STALE_DATA:
        sparse_file_write(file, at, run->data, MIN(length, run->data_length));
        break;
    default:
        break;
    }
}

static void encode_pages(const Snapshot *snapshot, const SnapshotBlock *block, SparseFile *file)
{
    for (unsigned i = 0; i < block->runs->len; i++) {
        encode_run(snapshot, block, &g_array_index(block->runs, PageRun, i), file);
    }
}

static bool run_sets_bits(const PageRun *run)
{
    return run->content != CONTENT_STALE && run->content != CONTENT_STALE_DATA;
}

/* The first run with set bits at or after page @from; *page: its first such. */
static const PageRun *next_set_run(const SnapshotBlock *block, uint64_t from, uint64_t *page)
{
    const PageRun *next = NULL;

    *page = UINT64_MAX;
    for (unsigned i = 0; i < block->runs->len; i++) {
        const PageRun *run = &g_array_index(block->runs, PageRun, i);
        uint64_t first = MAX(run->first, from);

        if (run_sets_bits(run) && first < snapshot_add(run->first, run->count) && first < *page) {
            next = run;
            *page = first;
        }
    }
    return next;
}

#define WINDOW_WORDS 32

typedef struct BitmapWindow {
    uint64_t first_word;
    uint64_t words[WINDOW_WORDS];
} BitmapWindow;

static void window_add_run(BitmapWindow *window, const PageRun *run)
{
    uint64_t start = window->first_word * 64;
    uint64_t first = MAX(run->first, start);
    uint64_t end =
        MIN(snapshot_add(run->first, run->count), snapshot_add(start, WINDOW_WORDS * 64));

    while (first < end) {
        unsigned bit = first % 64;
        uint64_t bits = MIN(64 - bit, end - first);

        window->words[(first - start) / 64] |= (UINT64_MAX >> (64 - bits)) << bit;
        first += bits;
    }
}

static void window_write(BitmapWindow *window, const SnapshotBlock *block, uint64_t words,
                         Writer *writer)
{
    unsigned count = MIN(words - window->first_word, WINDOW_WORDS);

    while (window->words[count - 1] == 0) {
        count--;
    }
    for (unsigned i = 0; i < count; i++) {
        window->words[i] = GUINT64_TO_LE(window->words[i]);
    }
    writer_seek(writer, block->bitmap_at + window->first_word * 8);
    put_bytes(writer, window->words, count * 8);
}

/* Fills the words that @run covers wholly. Returns how many. */
static uint64_t fill_words(const SnapshotBlock *block, const PageRun *run, uint64_t first_word,
                           uint64_t words, Writer *writer)
{
    uint64_t end_word = MIN(snapshot_add(run->first, run->count) / 64, words);
    uint64_t at = block->bitmap_at + first_word * 8;

    if (run->first > first_word * 64 || end_word < first_word + WINDOW_WORDS) {
        return 0;
    }
    writer_flush(writer);
    sparse_file_fill(writer->file, at, (end_word - first_word) * 8, 0xff);
    return end_word - first_word;
}

static void encode_bitmap(const SnapshotBlock *block, Writer *writer)
{
    uint64_t words = snapshot_block_bitmap_length(block) / 8;
    uint64_t page = 0;
    const PageRun *run = next_set_run(block, 0, &page);

    while (run && page / 64 < words) {
        uint64_t word = page / 64;
        uint64_t filled = fill_words(block, run, word, words, writer);

        if (filled == 0) {
            BitmapWindow window = { .first_word = word };

            for (unsigned i = 0; i < block->runs->len; i++) {
                const PageRun *other = &g_array_index(block->runs, PageRun, i);

                if (run_sets_bits(other)) {
                    window_add_run(&window, other);
                }
            }
            window_write(&window, block, words, writer);
            filled = WINDOW_WORDS;
        }
        run = next_set_run(block, snapshot_multiply(word + filled, 64), &page);
    }
}

static void encode_tail(const Snapshot *snapshot, Writer *writer)
{
    writer_seek(writer, snapshot->tail_at);
    put_be64(writer, snapshot->eos);
    put_u8(writer, snapshot->footer_type);
    put_be32(writer, snapshot->footer_id);
    put_bytes(writer, snapshot->tail->data, snapshot->tail->len);
}

/* A bitmap without bits is not written, yet it is part of the file. */
static void extend_over_bitmaps(const Snapshot *snapshot, SparseFile *file)
{
    for (unsigned i = 0; i < snapshot->blocks->len; i++) {
        const SnapshotBlock *block = snapshot_block(snapshot, i);
        uint64_t end = snapshot_add(block->bitmap_at, snapshot_block_bitmap_length(block));

        end = MIN(end, INT64_MAX);
        if (block->bitmap_pages > 0 && end > sparse_file_size(file)) {
            sparse_file_truncate(file, end);
        }
    }
}

static void encode_poke(const SparseExtent *poke, SparseFile *file)
{
    switch (poke->kind) {
    case SPARSE_DATA:
        sparse_file_write(file, poke->offset, poke->data, poke->length);
        break;
    case SPARSE_FILL:
        sparse_file_fill(file, poke->offset, poke->length, poke->seed);
        break;
    case SPARSE_PATTERN:
        sparse_file_pattern(file, poke->offset, poke->length, poke->seed);
        break;
    }
}

static void encode_last_touches(const Snapshot *snapshot, SparseFile *file)
{
    for (unsigned i = 0; i < snapshot->pokes->len; i++) {
        encode_poke(&g_array_index(snapshot->pokes, SparseExtent, i), file);
    }
    if (snapshot->truncate) {
        sparse_file_truncate(file, MIN(snapshot->file_size, INT64_MAX));
    }
}

void snapshot_encode(const Snapshot *snapshot, SparseFile *file)
{
    Writer writer;

    sparse_file_reset(file);
    for (unsigned i = 0; i < snapshot->blocks->len; i++) {
        encode_pages(snapshot, snapshot_block(snapshot, i), file);
    }
    writer.file = file;
    writer.at = 0;
    writer.used = 0;
    encode_beginning(snapshot, &writer);
    for (unsigned i = 0; i < snapshot->blocks->len; i++) {
        encode_record(snapshot_block(snapshot, i), &writer);
        encode_bitmap(snapshot_block(snapshot, i), &writer);
    }
    encode_tail(snapshot, &writer);
    writer_flush(&writer);
    extend_over_bitmaps(snapshot, file);
    encode_last_touches(snapshot, file);
}

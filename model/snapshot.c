/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The container of a snapshot's description, and the layout that QEMU gives a
 * file (docs/mapped-ram-format.md, section 11). It sits in the inner loop of a
 * fuzz target: a reset keeps all memory. It must not judge nor correct: what
 * the caller puts in a field stays there until the caller lays out anew.
 */
#include "model/snapshot.h"

#include <string.h>

#define ARENA_CHUNK_SIZE 65536

typedef struct ArenaChunk {
    uint8_t *data;
    size_t size;
} ArenaChunk;

struct SnapshotPool {
    GPtrArray *blocks; /* of SnapshotBlock, owned */
    unsigned blocks_used;
    GArray *chunks; /* of ArenaChunk, owned */
    unsigned chunk; /* the one that is being filled */
    size_t chunk_used;
};

static void snapshot_block_free(void *opaque)
{
    SnapshotBlock *block = opaque;

    g_array_unref(block->runs);
    g_free(block);
}

static void arena_chunk_clear(void *opaque)
{
    ArenaChunk *chunk = opaque;

    g_free(chunk->data);
}

static SnapshotPool *snapshot_pool_new(void)
{
    SnapshotPool *pool = g_new0(SnapshotPool, 1);

    pool->blocks = g_ptr_array_new_with_free_func(snapshot_block_free);
    pool->chunks = g_array_new(false, false, sizeof(ArenaChunk));
    g_array_set_clear_func(pool->chunks, arena_chunk_clear);
    return pool;
}

static void snapshot_pool_free(SnapshotPool *pool)
{
    g_ptr_array_unref(pool->blocks);
    g_array_unref(pool->chunks);
    g_free(pool);
}

static SnapshotBlock *snapshot_pool_take_block(SnapshotPool *pool)
{
    SnapshotBlock *block;

    if (pool->blocks_used < pool->blocks->len) {
        block = pool->blocks->pdata[pool->blocks_used++];
        g_array_set_size(block->runs, 0);
        return block;
    }
    block = g_new0(SnapshotBlock, 1);
    block->runs = g_array_new(false, false, sizeof(PageRun));
    g_ptr_array_add(pool->blocks, block);
    pool->blocks_used++;
    return block;
}

uint8_t *snapshot_alloc(Snapshot *snapshot, size_t length)
{
    SnapshotPool *pool = snapshot->pool;
    ArenaChunk *chunk;
    uint8_t *bytes;

    while (pool->chunk < pool->chunks->len) {
        chunk = &g_array_index(pool->chunks, ArenaChunk, pool->chunk);
        if (chunk->size - pool->chunk_used >= length) {
            bytes = chunk->data + pool->chunk_used;
            pool->chunk_used += length;
            return bytes;
        }
        pool->chunk++;
        pool->chunk_used = 0;
    }
    ArenaChunk added = { .size = MAX(length, ARENA_CHUNK_SIZE) };

    added.data = g_malloc(added.size);
    g_array_append_val(pool->chunks, added);
    pool->chunk_used = length;
    return added.data;
}

Snapshot *snapshot_new(void)
{
    Snapshot *snapshot = g_new0(Snapshot, 1);

    snapshot->machine = g_byte_array_new();
    snapshot->subsections = g_array_new(false, false, sizeof(SnapshotSubsection));
    snapshot->capabilities = g_array_new(false, false, sizeof(SnapshotCapability));
    snapshot->blocks = g_ptr_array_new();
    snapshot->tail = g_byte_array_new();
    snapshot->pokes = g_array_new(false, false, sizeof(SparseExtent));
    snapshot->pool = snapshot_pool_new();
    snapshot_reset(snapshot);
    return snapshot;
}

void snapshot_free(Snapshot *snapshot)
{
    g_byte_array_unref(snapshot->machine);
    g_array_unref(snapshot->subsections);
    g_array_unref(snapshot->capabilities);
    g_ptr_array_unref(snapshot->blocks);
    g_byte_array_unref(snapshot->tail);
    g_array_unref(snapshot->pokes);
    snapshot_pool_free(snapshot->pool);
    g_free(snapshot);
}

static void snapshot_empty(Snapshot *snapshot)
{
    g_byte_array_set_size(snapshot->machine, 0);
    g_array_set_size(snapshot->subsections, 0);
    g_array_set_size(snapshot->capabilities, 0);
    g_ptr_array_set_size(snapshot->blocks, 0);
    g_byte_array_set_size(snapshot->tail, 0);
    g_array_set_size(snapshot->pokes, 0);
    snapshot->pool->blocks_used = 0;
    snapshot->pool->chunk = 0;
    snapshot->pool->chunk_used = 0;
}

void snapshot_reset(Snapshot *snapshot)
{
    snapshot_empty(snapshot);
    snapshot->magic = SNAPSHOT_MAGIC;
    snapshot->stream_version = SNAPSHOT_STREAM_VERSION;
    snapshot->configuration_type = SNAPSHOT_CONFIGURATION;
    snapshot->section_type = SNAPSHOT_SECTION_START;
    snapshot->section_id = 2;
    snapshot->section_name_length = 3;
    memcpy(snapshot->section_name, "ram", 4);
    snapshot->instance_id = 0;
    snapshot->section_version = 4;
    snapshot->eos = SNAPSHOT_EOS;
    snapshot->footer_type = SNAPSHOT_SECTION_FOOTER;
    snapshot->footer_id = snapshot->section_id;
    snapshot->page_size = 4096;
    snapshot->truncate = false;
    snapshot->file_size = 0;
    snapshot_set_machine(snapshot, "none", 4);
    snapshot_add_capability(snapshot, "mapped-ram");
    snapshot_add_subsection(snapshot, "configuration/capabilities", NULL, 0);
    snapshot_layout(snapshot, SNAPSHOT_PAGES_ALIGNMENT);
}

static void copy_array(GArray *to, const GArray *from)
{
    g_array_set_size(to, 0);
    if (from->len > 0) {
        g_array_append_vals(to, from->data, from->len);
    }
}

static void copy_byte_array(GByteArray *to, const GByteArray *from)
{
    g_byte_array_set_size(to, 0);
    if (from->len > 0) {
        g_byte_array_append(to, from->data, from->len);
    }
}

static const uint8_t *copy_bytes(Snapshot *to, const uint8_t *data, size_t length)
{
    uint8_t *copy;

    if (!data) {
        return NULL;
    }
    copy = snapshot_alloc(to, length);
    memcpy(copy, data, length);
    return copy;
}

static void copy_block(Snapshot *to, const SnapshotBlock *from)
{
    SnapshotBlock *block = snapshot_pool_take_block(to->pool);
    GArray *runs = block->runs;

    *block = *from;
    block->runs = runs;
    copy_array(runs, from->runs);
    for (unsigned i = 0; i < runs->len; i++) {
        PageRun *run = &g_array_index(runs, PageRun, i);

        run->data = copy_bytes(to, run->data, run->data_length);
    }
    g_ptr_array_add(to->blocks, block);
}

void snapshot_copy(Snapshot *to, const Snapshot *from)
{
    Snapshot kept = *to;

    snapshot_empty(to);
    *to = *from;
    to->machine = kept.machine;
    to->subsections = kept.subsections;
    to->capabilities = kept.capabilities;
    to->blocks = kept.blocks;
    to->tail = kept.tail;
    to->pokes = kept.pokes;
    to->pool = kept.pool;
    copy_byte_array(to->machine, from->machine);
    copy_array(to->subsections, from->subsections);
    copy_array(to->capabilities, from->capabilities);
    copy_byte_array(to->tail, from->tail);
    copy_array(to->pokes, from->pokes);
    for (unsigned i = 0; i < to->subsections->len; i++) {
        SnapshotSubsection *sub = &g_array_index(to->subsections, SnapshotSubsection, i);

        sub->contents = copy_bytes(to, sub->contents, sub->contents_length);
    }
    for (unsigned i = 0; i < to->pokes->len; i++) {
        SparseExtent *poke = &g_array_index(to->pokes, SparseExtent, i);

        poke->data = copy_bytes(to, poke->data, poke->length);
    }
    for (unsigned i = 0; i < from->blocks->len; i++) {
        copy_block(to, snapshot_block(from, i));
    }
}

SnapshotBlock *snapshot_add_block(Snapshot *snapshot, const char *idstr, uint64_t used_length)
{
    SnapshotBlock *block = snapshot_pool_take_block(snapshot->pool);

    block->idstr_length = strnlen(idstr, UINT8_MAX);
    memcpy(block->idstr, idstr, block->idstr_length);
    block->idstr[block->idstr_length] = '\0';
    block->used_length = used_length;
    block->has_gpa = false;
    block->ignored = false;
    block->gpa = 0;
    block->version = 1;
    block->page_size = snapshot->page_size;
    block->bitmap_offset = 0;
    block->pages_offset = 0;
    block->record_at = 0;
    block->bitmap_at = 0;
    block->bitmap_pages = 0;
    block->pages_at = 0;
    g_ptr_array_add(snapshot->blocks, block);
    return block;
}

void snapshot_block_add_run(SnapshotBlock *block, PageRun run)
{
    g_array_append_val(block->runs, run);
}

void snapshot_add_capability(Snapshot *snapshot, const char *name)
{
    SnapshotCapability *capability;
    unsigned index = snapshot->capabilities->len;

    g_array_set_size(snapshot->capabilities, index + 1);
    capability = &g_array_index(snapshot->capabilities, SnapshotCapability, index);
    capability->length = strnlen(name, UINT8_MAX);
    memcpy(capability->name, name, capability->length);
}

void snapshot_add_subsection(Snapshot *snapshot, const char *name, const void *contents,
                             uint32_t length)
{
    SnapshotSubsection *sub;
    unsigned index = snapshot->subsections->len;

    g_array_set_size(snapshot->subsections, index + 1);
    sub = &g_array_index(snapshot->subsections, SnapshotSubsection, index);
    sub->name_length = strnlen(name, UINT8_MAX);
    memcpy(sub->name, name, sub->name_length);
    sub->version = 1;
    sub->contents_length = length;
    sub->contents = copy_bytes(snapshot, contents, length);
}

void snapshot_set_machine(Snapshot *snapshot, const void *name, uint32_t length)
{
    g_byte_array_set_size(snapshot->machine, length);
    if (length > 0) {
        memcpy(snapshot->machine->data, name, length);
    }
    snapshot->machine_length = length;
}

void snapshot_add_poke(Snapshot *snapshot, uint64_t offset, const void *bytes, size_t length)
{
    SparseExtent poke = { .offset = offset, .length = length, .kind = SPARSE_DATA };

    poke.data = copy_bytes(snapshot, bytes, length);
    g_array_append_val(snapshot->pokes, poke);
}

static uint8_t *append_be(uint8_t *at, unsigned size, uint64_t value)
{
    for (unsigned i = 0; i < size; i++) {
        at[i] = value >> (8 * (size - 1 - i));
    }
    return at + size;
}

void snapshot_append_ram_section(GByteArray *tail, uint8_t type, uint32_t section_id)
{
    uint8_t bytes[18];
    uint8_t *at = bytes;

    at = append_be(at, 1, type);
    at = append_be(at, 4, section_id);
    at = append_be(at, 8, SNAPSHOT_EOS);
    at = append_be(at, 1, SNAPSHOT_SECTION_FOOTER);
    append_be(at, 4, section_id);
    g_byte_array_append(tail, bytes, sizeof(bytes));
}

void snapshot_append_command(GByteArray *tail, uint16_t command, const void *data, uint16_t length)
{
    uint8_t bytes[5];
    uint8_t *at = bytes;

    at = append_be(at, 1, SNAPSHOT_SECTION_COMMAND);
    at = append_be(at, 2, command);
    append_be(at, 2, length);
    g_byte_array_append(tail, bytes, sizeof(bytes));
    if (length > 0) {
        g_byte_array_append(tail, data, length);
    }
}

void snapshot_append_section(GByteArray *tail, uint8_t type, uint32_t section_id, const char *name,
                             uint32_t instance_id, uint32_t version)
{
    uint8_t bytes[1 + 4 + 1 + UINT8_MAX + 4 + 4];
    uint8_t *at = bytes;
    size_t length = strnlen(name, UINT8_MAX);

    at = append_be(at, 1, type);
    at = append_be(at, 4, section_id);
    at = append_be(at, 1, length);
    memcpy(at, name, length);
    at += length;
    at = append_be(at, 4, instance_id);
    at = append_be(at, 4, version);
    g_byte_array_append(tail, bytes, at - bytes);
}

void snapshot_append_tail(GByteArray *tail, uint32_t section_id)
{
    uint8_t eof = SNAPSHOT_SECTION_EOF;

    snapshot_append_command(tail, 11, NULL, 0);
    snapshot_append_ram_section(tail, SNAPSHOT_SECTION_END, section_id);
    g_byte_array_append(tail, &eof, 1);
}

static uint64_t capabilities_length(const Snapshot *snapshot)
{
    uint64_t length = 4;

    for (unsigned i = 0; i < snapshot->capabilities->len; i++) {
        length += 1 + g_array_index(snapshot->capabilities, SnapshotCapability, i).length;
    }
    return length;
}

uint64_t snapshot_section_at(const Snapshot *snapshot)
{
    uint64_t length = 4 + 4 + 1 + 4 + snapshot->machine->len;

    for (unsigned i = 0; i < snapshot->subsections->len; i++) {
        const SnapshotSubsection *sub =
            &g_array_index(snapshot->subsections, SnapshotSubsection, i);

        length += 1 + 1 + sub->name_length + 4;
        length += sub->contents ? sub->contents_length : capabilities_length(snapshot);
    }
    return length;
}

uint64_t snapshot_total_at(const Snapshot *snapshot)
{
    return snapshot_section_at(snapshot) + 1 + 4 + 1 + snapshot->section_name_length + 4 + 4;
}

uint64_t snapshot_block_header_at(const SnapshotBlock *block)
{
    return block->record_at + 1 + block->idstr_length + 8 + (block->has_gpa ? 8 : 0);
}

uint64_t snapshot_block_bitmap_length(const SnapshotBlock *block)
{
    return (block->bitmap_pages / 64 + (block->bitmap_pages % 64 != 0)) * 8;
}

uint64_t snapshot_tail_end(const Snapshot *snapshot)
{
    return snapshot->tail_at + 8 + 1 + 4 + snapshot->tail->len;
}

static uint64_t align_up(uint64_t value, uint64_t alignment)
{
    return (value + alignment - 1) / alignment * alignment;
}

/* Returns where the next record starts. */
static uint64_t layout_block(const Snapshot *snapshot, SnapshotBlock *block, uint64_t at)
{
    uint64_t header_end;

    block->record_at = at;
    header_end = snapshot_block_header_at(block) + SNAPSHOT_HEADER_SIZE;
    if (block->ignored) {
        block->bitmap_at = header_end;
        block->bitmap_pages = 0;
        block->pages_at = header_end;
        block->bitmap_offset = 0;
        block->pages_offset = 0;
        return header_end;
    }
    block->bitmap_at = header_end;
    block->bitmap_pages = block->used_length / snapshot->page_size;
    block->pages_at =
        align_up(header_end + snapshot_block_bitmap_length(block), snapshot->pages_alignment);
    block->bitmap_offset = block->bitmap_at;
    block->pages_offset = block->pages_at;
    return block->pages_at + block->used_length;
}

void snapshot_layout(Snapshot *snapshot, uint64_t pages_alignment)
{
    uint64_t at = snapshot_total_at(snapshot) + 8;
    uint64_t total = 0;

    snapshot->pages_alignment = pages_alignment;
    snapshot->machine_length = snapshot->machine->len;
    snapshot->capability_count = snapshot->capabilities->len;
    for (unsigned i = 0; i < snapshot->blocks->len; i++) {
        SnapshotBlock *block = snapshot_block(snapshot, i);

        total += block->used_length;
        at = layout_block(snapshot, block, at);
    }
    snapshot->total = total | SNAPSHOT_MEM_SIZE;
    snapshot->tail_at = at;
}

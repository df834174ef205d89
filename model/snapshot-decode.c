/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reads a file back into a description whose encoding is the same bytes, for
 * `pagewise inspect` and the property round-trip. The judge (judge.h) says
 * first whether the file can be walked at all; the walk here follows
 * docs/mapped-ram-format.md once more, and at its end the description is
 * encoded and compared: what is left over becomes pokes.
 *
 * Memory: bounded by MAX_LITERAL_BYTES, the number of the guest's pages and the
 * bytes of data in the file. Its holes cost nothing.
 */
#include "model/judge.h"
#include "model/snapshot.h"

#include <string.h>

#define MAX_LITERAL_BYTES (256U * 1024 * 1024)
#define MAX_TAIL_BYTES (16U * 1024 * 1024)
#define MAX_TAIL_GAP 65536 /* beyond such a hole, bytes are pokes */
#define CHUNK_SIZE 4096

G_DEFINE_QUARK(pagewise - snapshot - error - quark, snapshot_error)

typedef struct Decoder {
    const SparseFile *file;
    const Guest *guest;
    Snapshot *snapshot;
    uint64_t at; /* file offset of the next field */
    uint64_t literal_bytes;
    bool has_list; /* the capabilities' list was read */
    GError **error;
} Decoder;

/* Accounts for memory before it is taken. */
static bool take(Decoder *d, uint64_t bytes, const char *what)
{
    d->literal_bytes += bytes;
    if (d->literal_bytes <= MAX_LITERAL_BYTES) {
        return true;
    }
    g_set_error(d->error, SNAPSHOT_ERROR, SNAPSHOT_ERROR_TOO_LARGE,
                "%s at file offset 0x%" G_GINT64_MODIFIER "x: over %u bytes of literal content, "
                "more than a description holds",
                what, d->at, MAX_LITERAL_BYTES);
    return false;
}

/* What is beyond the end of the file reads as zeroes; the judge has seen to it. */
static void read_bytes(const SparseFile *file, uint64_t at, void *bytes, size_t length)
{
    size_t got = sparse_file_read(file, at, bytes, length);

    memset((uint8_t *)bytes + got, 0, length - got);
}

/* Behind the last byte: an extent that begins at UINT64_MAX. */
static SparseExtent next_data(const SparseFile *file, uint64_t at)
{
    SparseExtent extent;

    if (!sparse_file_next_data(file, at, &extent)) {
        extent = (SparseExtent){ .offset = UINT64_MAX };
    }
    return extent;
}

static void get_bytes(Decoder *d, void *bytes, size_t length)
{
    read_bytes(d->file, d->at, bytes, length);
    d->at += length;
}

static uint64_t get_be(Decoder *d, unsigned size)
{
    uint8_t bytes[8];
    uint64_t value = 0;

    get_bytes(d, bytes, size);
    for (unsigned i = 0; i < size; i++) {
        value = value << 8 | bytes[i];
    }
    return value;
}

static uint8_t get_name(Decoder *d, char *name)
{
    uint8_t length = get_be(d, 1);

    get_bytes(d, name, length);
    return length;
}

/* The @length bytes from @at on, in the snapshot's arena. */
static uint8_t *literal(Decoder *d, uint64_t at, size_t length)
{
    uint8_t *bytes = snapshot_alloc(d->snapshot, length);

    read_bytes(d->file, at, bytes, length);
    return bytes;
}

static bool decode_machine(Decoder *d)
{
    Snapshot *s = d->snapshot;
    uint32_t length = get_be(d, 4);

    if (!take(d, length, "machine name")) {
        return false;
    }
    g_byte_array_set_size(s->machine, length);
    get_bytes(d, s->machine->data, length);
    s->machine_length = length;
    return true;
}

/* At most 255 of them: beyond, rule C8 leaves RAM unspecified. */
static void decode_capabilities(Decoder *d)
{
    Snapshot *s = d->snapshot;
    uint32_t count = get_be(d, 4);

    s->capability_count = count;
    for (uint32_t i = 0; i < count; i++) {
        SnapshotCapability *capability;

        snapshot_add_capability(s, "");
        capability = &g_array_index(s->capabilities, SnapshotCapability, i);
        capability->length = get_name(d, capability->name);
    }
    d->has_list = true;
}

/* A second list of capabilities (rule C4) is kept as bytes. */
static uint64_t second_list_length(Decoder *d)
{
    uint64_t start = d->at;
    uint32_t count = get_be(d, 4);
    uint64_t length;

    for (uint32_t i = 0; i < count; i++) {
        d->at += get_be(d, 1);
    }
    length = d->at - start;
    d->at = start;
    return length;
}

/* As a C string (rule C3a). */
static bool name_is(const SnapshotSubsection *sub, const char *name)
{
    return strcmp(sub->name, name) == 0;
}

static void decode_subsection(Decoder *d)
{
    SnapshotSubsection sub = { .contents = NULL };
    uint64_t length = 16;

    d->at++;
    sub.name_length = get_name(d, sub.name);
    sub.version = get_be(d, 4);
    if (name_is(&sub, "configuration/target-page-bits")) {
        length = 4;
    } else if (name_is(&sub, "configuration/capabilities")) {
        if (!d->has_list) {
            g_array_append_val(d->snapshot->subsections, sub);
            decode_capabilities(d);
            return;
        }
        length = second_list_length(d);
    }
    sub.contents = literal(d, d->at, length);
    sub.contents_length = length;
    d->at += length;
    g_array_append_val(d->snapshot->subsections, sub);
}

static bool decode_configuration(Decoder *d)
{
    Snapshot *s = d->snapshot;
    uint8_t type;

    s->magic = get_be(d, 4);
    s->stream_version = get_be(d, 4);
    s->configuration_type = get_be(d, 1);
    if (!decode_machine(d)) {
        return false;
    }
    g_array_set_size(s->capabilities, 0);
    g_array_set_size(s->subsections, 0);
    for (read_bytes(d->file, d->at, &type, 1); type == SNAPSHOT_SUBSECTION;
         read_bytes(d->file, d->at, &type, 1)) {
        decode_subsection(d);
    }
    return true;
}

static void decode_section(Decoder *d)
{
    Snapshot *s = d->snapshot;

    s->section_type = get_be(d, 1);
    s->section_id = get_be(d, 4);
    s->section_name_length = get_name(d, s->section_name);
    s->instance_id = get_be(d, 4);
    s->section_version = get_be(d, 4);
    s->total = get_be(d, 8);
}

static bool is_literal(PageContent content)
{
    return content == CONTENT_DATA || content == CONTENT_STALE_DATA;
}

/* Grows the last run where @run goes on with the same. */
static void add_run(SnapshotBlock *block, PageRun run)
{
    PageRun *last = NULL;

    if (block->runs->len > 0) {
        last = &g_array_index(block->runs, PageRun, block->runs->len - 1);
    }
    if (last && last->first + last->count == run.first && last->content == run.content &&
        last->seed == run.seed && !is_literal(run.content)) {
        last->count += run.count;
        return;
    }
    snapshot_block_add_run(block, run);
}

static bool add_literal_run(Decoder *d, SnapshotBlock *block, PageRun run)
{
    uint64_t page_size = d->snapshot->page_size;
    uint64_t at = block->pages_at + run.first * page_size;
    uint64_t length = run.count * page_size;
    uint8_t *data;

    if (!take(d, length, "page")) {
        return false;
    }
    data = literal(d, at, length);
    while (length > 0 && data[length - 1] == 0) {
        length--;
    }
    run.data = data;
    run.data_length = length;
    add_run(block, run);
    return true;
}

/*
 * Adds one run for pages from @first up to @end, whose bits are all set or
 * all clear. Returns the page to go on with, or 0 on error.
 */
static uint64_t decode_page(Decoder *d, SnapshotBlock *block, uint64_t first, uint64_t end,
                            bool set)
{
    uint64_t page_size = d->snapshot->page_size;
    uint64_t at = block->pages_at + first * page_size;
    SparseExtent extent = next_data(d->file, at);
    PageRun run = { .first = first, .count = end - first, .content = CONTENT_ABSENT };

    if (extent.offset - at >= page_size) { /* pages without any data */
        run.count = MIN(run.count, (extent.offset - at) / page_size);
        if (set) {
            add_run(block, run);
        }
        return first + run.count;
    }
    run.count = extent.offset == at ? MIN(run.count, extent.length / page_size) : 0;
    if (run.count == 0 || extent.kind == SPARSE_DATA || (extent.kind == SPARSE_FILL && !set)) {
        run.count = MAX(run.count, 1);
        run.content = set ? CONTENT_DATA : CONTENT_STALE_DATA;
        return add_literal_run(d, block, run) ? first + run.count : 0;
    }
    run.content = set ? CONTENT_PATTERN : CONTENT_STALE;
    if (extent.kind == SPARSE_FILL) {
        run.content = CONTENT_FILL;
    }
    run.seed = extent.seed;
    add_run(block, run);
    return first + run.count;
}

/* The end of the run of equal bits that begins at @bit, or some bit before it. */
static uint64_t same_bits(Decoder *d, const SnapshotBlock *block, uint64_t bit, uint64_t n_bits,
                          bool *set)
{
    uint64_t at = block->bitmap_at + bit / 8;
    uint8_t bytes[CHUNK_SIZE];
    SparseExtent extent = next_data(d->file, at);
    uint64_t end;

    *set = false;
    if (extent.offset > at) {
        end = extent.offset - at >= n_bits / 8 ? n_bits : (extent.offset - block->bitmap_at) * 8;
        return MIN(end, n_bits);
    }
    end = MIN(n_bits, (bit / 8 + sizeof(bytes)) * 8);
    read_bytes(d->file, at, bytes, sizeof(bytes));
    *set = bytes[0] >> (bit % 8) & 1;
    for (uint64_t i = bit + 1; i < end; i++) {
        if ((bytes[i / 8 - bit / 8] >> (i % 8) & 1) != *set) {
            return i;
        }
    }
    return end;
}

/* Bitmap and pages; bits beyond the last page (rule B5) have no pages. */
static bool decode_pages(Decoder *d, SnapshotBlock *block)
{
    uint64_t n_bits = snapshot_block_bitmap_length(block) * 8;
    uint64_t page = 0;

    while (page < n_bits) {
        bool set;
        uint64_t end = same_bits(d, block, page, n_bits, &set);

        while (page < MIN(end, block->bitmap_pages)) {
            page = decode_page(d, block, page, MIN(end, block->bitmap_pages), set);
            if (page == 0) {
                return false;
            }
        }
        if (page < end && set) {
            PageRun run = { .first = page, .count = end - page, .content = CONTENT_ABSENT };

            snapshot_block_add_run(block, run);
        }
        page = end;
    }
    return true;
}

static bool decode_block(Decoder *d)
{
    SnapshotBlock *block = snapshot_add_block(d->snapshot, "", 0);

    block->record_at = d->at;
    block->idstr_length = get_name(d, block->idstr);
    block->used_length = get_be(d, 8);
    block->has_gpa = d->guest->x_ignore_shared;
    block->gpa = block->has_gpa ? get_be(d, 8) : 0;
    block->version = get_be(d, 4);
    block->page_size = get_be(d, 8);
    block->bitmap_offset = get_be(d, 8);
    block->pages_offset = get_be(d, 8);
    if (block->has_gpa && block->bitmap_offset == 0 && block->pages_offset == 0) {
        block->ignored = true;
        block->bitmap_at = d->at;
        block->pages_at = d->at;
        return true;
    }
    block->bitmap_at = block->bitmap_offset;
    block->bitmap_pages = block->used_length / d->snapshot->page_size;
    block->pages_at = block->pages_offset;
    d->at = block->pages_at + block->used_length;
    return decode_pages(d, block);
}

static bool decode_blocks(Decoder *d)
{
    Snapshot *s = d->snapshot;
    uint64_t flags = s->total % s->page_size;
    uint64_t remaining = s->total - flags;

    if (flags & SNAPSHOT_EOS) { /* rule R1a: this word is EOS already */
        d->at -= 8;
        return true;
    }
    while (remaining > 0) {
        if (!decode_block(d)) {
            return false;
        }
        remaining -= snapshot_block(s, s->blocks->len - 1)->used_length;
    }
    return true;
}

/* Where the bytes that begin at @from end: the first large hole. */
static uint64_t end_of_data(const SparseFile *file, uint64_t from)
{
    SparseExtent extent;
    uint64_t end = from;

    for (extent = next_data(file, end); extent.offset - end <= MAX_TAIL_GAP;
         extent = next_data(file, end)) {
        end = extent.offset + extent.length;
    }
    return end;
}

static bool decode_tail(Decoder *d)
{
    Snapshot *s = d->snapshot;
    uint64_t length;

    s->tail_at = d->at;
    s->eos = get_be(d, 8);
    s->footer_type = get_be(d, 1);
    s->footer_id = get_be(d, 4);
    /* The hole at the end is left to file_size. */
    length = end_of_data(d->file, d->at) - d->at;
    length = MAX(length, MIN(sparse_file_size(d->file) - d->at, CHUNK_SIZE));
    if (length > MAX_TAIL_BYTES) {
        g_set_error(d->error, SNAPSHOT_ERROR, SNAPSHOT_ERROR_TOO_LARGE,
                    "the RAM section ends at file offset 0x%" G_GINT64_MODIFIER
                    "x, and 0x%" G_GINT64_MODIFIER "x bytes follow; a description holds up to %u",
                    d->at, length, MAX_TAIL_BYTES);
        return false;
    }
    g_byte_array_set_size(s->tail, length);
    get_bytes(d, s->tail->data, length);
    return true;
}

/* Which alignment would place the pages as they are? Matters for the text only. */
static void guess_alignment(Snapshot *s)
{
    s->pages_alignment = SNAPSHOT_PAGES_ALIGNMENT;
    for (unsigned i = 0; i < s->blocks->len; i++) {
        if (snapshot_block(s, i)->pages_offset % SNAPSHOT_PAGES_ALIGNMENT != 0) {
            s->pages_alignment = s->page_size;
        }
    }
}

/* Puts the file's bytes where the description has others. */
static void poke_differences(Decoder *d, uint64_t at, const uint8_t *bytes, const uint8_t *again,
                             size_t length)
{
    size_t first = 0;
    size_t end = length;

    while (first < length && bytes[first] == again[first]) {
        first++;
    }
    while (end > first && bytes[end - 1] == again[end - 1]) {
        end--;
    }
    if (first < end) {
        snapshot_add_poke(d->snapshot, at + first, bytes + first, end - first);
    }
}

/* How many bytes are surely the same: both are one pattern or fill. */
static uint64_t same_extent(const SparseExtent *a, const SparseExtent *b)
{
    if (a->offset != b->offset || a->kind != b->kind || a->seed != b->seed ||
        a->kind == SPARSE_DATA) {
        return 0;
    }
    return MIN(a->length, b->length);
}

/* Compares from @at on, where one of the two has data. Returns how far. */
static uint64_t verify_at(Decoder *d, const SparseFile *again, uint64_t at, SparseExtent extent,
                          const SparseExtent *other)
{
    uint8_t bytes[CHUNK_SIZE];
    uint8_t bytes_again[CHUNK_SIZE];
    uint64_t length = same_extent(&extent, other);

    if (length > 0) {
        return length;
    }
    if (extent.offset == at && extent.kind != SPARSE_DATA && other->offset > at) {
        extent.length = MIN(extent.length, other->offset - at);
        g_array_append_val(d->snapshot->pokes, extent);
        return extent.length;
    }
    length = MIN(sizeof(bytes), sparse_file_size(d->file) - at);
    read_bytes(d->file, at, bytes, length);
    read_bytes(again, at, bytes_again, length);
    poke_differences(d, at, bytes, bytes_again, length);
    return length;
}

/* Encodes what was read, and mends what is not yet the same. */
static void verify(Decoder *d)
{
    g_autoptr(SparseFile) again = sparse_file_new();
    uint64_t size = sparse_file_size(d->file);
    uint64_t at = 0;

    snapshot_encode(d->snapshot, again);
    if (sparse_file_size(again) != size) {
        d->snapshot->truncate = true;
        d->snapshot->file_size = size;
    }
    for (;;) {
        SparseExtent extent = next_data(d->file, at);
        SparseExtent other = next_data(again, at);

        at = MIN(extent.offset, other.offset);
        if (at >= size) {
            break;
        }
        at += verify_at(d, again, at, extent, &other);
    }
}

static bool check_verdict(const SparseFile *file, const Guest *guest, GError **error)
{
    g_autofree Judgement *judgement = g_new0(Judgement, 1);
    g_autofree char *reason = NULL;
    unsigned index = 0;

    judge_file(file, guest, judgement);
    if (judgement->verdict != VERDICT_REJECT && !judgement->ram_unspecified) {
        return true;
    }
    while (judgement->verdict == VERDICT_REJECT && index + 1 < judgement->n_violations &&
           judgement->violations[index].consequence != RULE_REJECT) {
        index++;
    }
    reason = judgement_describe_violation(judgement, index);
    g_set_error(error, SNAPSHOT_ERROR,
                judgement->verdict == VERDICT_REJECT ? SNAPSHOT_ERROR_REJECTED
                                                     : SNAPSHOT_ERROR_UNSPECIFIED,
                "the file has no description: %s", reason);
    return false;
}

bool snapshot_decode(const SparseFile *file, const Guest *guest, Snapshot *snapshot, GError **error)
{
    Decoder decoder = { .file = file, .guest = guest, .snapshot = snapshot, .error = error };

    snapshot_reset(snapshot);
    if (!check_verdict(file, guest, error)) {
        return false;
    }
    snapshot->page_size = guest->target_page_size;
    if (!decode_configuration(&decoder)) {
        return false;
    }
    decode_section(&decoder);
    if (!decode_blocks(&decoder) || !decode_tail(&decoder)) {
        return false;
    }
    guess_alignment(snapshot);
    verify(&decoder);
    return true;
}

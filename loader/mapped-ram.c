/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Block records, their headers, bitmaps and pages: docs/mapped-ram-format.md,
 * sections 5 to 9; parse_ramblocks() and parse_ramblock_mapped_ram() of QEMU's
 * migration/ram.c. No number from the file is used before it was checked, and
 * nothing is allocated for a bitmap that is not in the file.
 */
#include "loader/mapped-ram.h"

#include "loader/buffer-is-zero.h"
#include "loader/page-claims.h"

#include <inttypes.h>
#include <string.h>

#define BITMAP_CHUNK 0x10000 /* the longest read of a bitmap, bytes */
#define BITMAP_PIECE 0x1000  /* of a long bitmap: left untouched if all zeroes; bytes */
#define PIECE_WORDS (BITMAP_PIECE / sizeof(unsigned long))

G_STATIC_ASSERT(sizeof(unsigned long) * 8 == PAGES_PER_WORD);

typedef struct MappedRamHeader {
    uint64_t at; /* file offset */
    uint32_t version;
    uint64_t page_size;
    uint64_t bitmap_offset;
    uint64_t pages_offset;
} MappedRamHeader;

enum {
    PAGE_SIZE_AT = 4,
    BITMAP_OFFSET_AT = 12,
    PAGES_OFFSET_AT = 20,
};

static uint64_t bitmap_words(uint64_t pages)
{
    return pages / PAGES_PER_WORD + (pages % PAGES_PER_WORD != 0);
}

/* Rules R5, R6, R6a of the field at @offset. */
static bool check_used_length(const MigrationIncomingState *mis, const RAMBlock *block,
                              uint64_t offset, uint64_t length, GError **error)
{
    FieldAt at = { .block = block->idstr, .field = "used_length", .offset = offset };

    if (length & (mis->target_page_size - 1)) {
        return mapped_ram_refuse(error, MAPPED_RAM_ERROR_INVALID, "R5", at, length,
                                 "is not a multiple of the target's page size 0x%" PRIx64,
                                 mis->target_page_size);
    }
    if (length > block->max_length) {
        return mapped_ram_refuse(error, MAPPED_RAM_ERROR_MISMATCH, "R6", at, length,
                                 "is greater than the guest block's max_length 0x%" PRIx64,
                                 block->max_length);
    }
    if (length == 0) {
        return mapped_ram_refuse(error, MAPPED_RAM_ERROR_MISMATCH, "R6a", at, length,
                                 "is zero; the guest block's is 0x%" PRIx64, block->used_length);
    }
    return true;
}

static bool check_version(const LoaderStream *f, const MappedRamHeader *header, GError **error)
{
    FieldAt at = loader_stream_field(f, "version", header->at);

    if (header->version > MAPPED_RAM_HDR_VERSION) {
        return mapped_ram_refuse(error, MAPPED_RAM_ERROR_UNSUPPORTED, "H1", at, header->version,
                                 "is over %d", MAPPED_RAM_HDR_VERSION);
    }
    if (header->version < MAPPED_RAM_HDR_VERSION) {
        return mapped_ram_refuse(error, MAPPED_RAM_ERROR_UNSUPPORTED, "H1a", at, header->version,
                                 "is not %d", MAPPED_RAM_HDR_VERSION);
    }
    return true;
}

/* Rule H2, or rule X2a, which is the same of a block that is not in the file. */
static bool check_page_size(const MigrationIncomingState *mis, const LoaderStream *f,
                            const MappedRamHeader *header, const char *rule, GError **error)
{
    if (header->page_size != mis->target_page_size) {
        return mapped_ram_refuse(error, MAPPED_RAM_ERROR_MISMATCH, rule,
                                 loader_stream_field(f, "page_size", header->at + PAGE_SIZE_AT),
                                 header->page_size, "is not the target's page size 0x%" PRIx64,
                                 mis->target_page_size);
    }
    return true;
}

/*
 * All fields are read before any is looked at but the version: it takes the
 * offsets to tell what page_size has to be, rule X2.
 */
static bool mapped_ram_read_header(LoaderStream *f, MappedRamHeader *header, GError **error)
{
    header->at = f->position;
    return loader_stream_be32(f, "version", &header->version, error) &&
           loader_stream_be64(f, "page_size", &header->page_size, error) &&
           loader_stream_be64(f, "bitmap_offset", &header->bitmap_offset, error) &&
           loader_stream_be64(f, "pages_offset", &header->pages_offset, error) &&
           check_version(f, header, error);
}

/* Rules H3 to H5. */
static bool check_pages_offset(const MigrationIncomingState *mis, const LoaderStream *f,
                               const MappedRamHeader *header, uint64_t length, GError **error)
{
    FieldAt at = loader_stream_field(f, "pages_offset", header->at + PAGES_OFFSET_AT);
    uint64_t header_end = header->at + MAPPED_RAM_HDR_SIZE;

    if (header->pages_offset & (mis->target_page_size - 1)) {
        return mapped_ram_refuse(error, MAPPED_RAM_ERROR_INVALID, "H3", at, header->pages_offset,
                                 "is not a multiple of the target's page size 0x%" PRIx64,
                                 mis->target_page_size);
    }
    if (header->pages_offset < header_end) {
        return mapped_ram_refuse(error, MAPPED_RAM_ERROR_INVALID, "H4", at, header->pages_offset,
                                 "is less than the end of the header 0x%" PRIx64, header_end);
    }
    if (header->pages_offset > INT64_MAX - length) {
        return mapped_ram_refuse(error, MAPPED_RAM_ERROR_INVALID, "H5", at, header->pages_offset,
                                 "plus used_length 0x%" PRIx64 " is over 2^63 - 1", length);
    }
    return true;
}

/* Rules B2 and B4. @bitmap_length is bounded by the block's max_length. */
static bool check_bitmap_offset(const LoaderStream *f, const MappedRamHeader *header,
                                uint64_t bitmap_length, GError **error)
{
    FieldAt at = loader_stream_field(f, "bitmap_offset", header->at + BITMAP_OFFSET_AT);
    uint64_t header_end = header->at + MAPPED_RAM_HDR_SIZE;

    if (header->bitmap_offset > f->reader->size ||
        bitmap_length > f->reader->size - header->bitmap_offset) {
        return mapped_ram_refuse(error, MAPPED_RAM_ERROR_TRUNCATED, "B2", at, header->bitmap_offset,
                                 "the bitmap's 0x%" PRIx64
                                 " bytes do not end before the file does, at 0x%" PRIx64,
                                 bitmap_length, f->reader->size);
    }
    if (header->bitmap_offset < header_end ||
        header->bitmap_offset + bitmap_length > header->pages_offset) {
        return mapped_ram_refuse(error, MAPPED_RAM_ERROR_INVALID, "B4", at, header->bitmap_offset,
                                 "the bitmap's 0x%" PRIx64 " bytes are not between the end of "
                                 "the header 0x%" PRIx64 " and pages_offset 0x%" PRIx64,
                                 bitmap_length, header_end, header->pages_offset);
    }
    return true;
}

/* Rules B1 and B5: host's words, without the bits that mean nothing. */
static void bitmap_from_le(unsigned long *bitmap, uint64_t pages)
{
    uint64_t words = bitmap_words(pages);

#if G_BYTE_ORDER != G_LITTLE_ENDIAN
    for (uint64_t i = 0; i < words; i++) {
        bitmap[i] = GUINT64_FROM_LE(bitmap[i]);
    }
#endif
    if (pages % PAGES_PER_WORD) {
        bitmap[words - 1] &= (1UL << (pages % PAGES_PER_WORD)) - 1;
    }
}

static void copy_pieces(uint8_t *to, const uint8_t *from, size_t length)
{
    for (size_t done = 0; done < length; done += BITMAP_PIECE) {
        size_t piece = MIN(length - done, BITMAP_PIECE);

        if (!buffer_is_zero(from + done, piece)) {
            memcpy(to + done, from + done, piece);
        }
    }
}

/* How many whole pieces of @length bytes at @offset are in a hole? In bytes. @end: of data. */
static size_t pieces_in_hole(FileReader *reader, uint64_t offset, size_t length, uint64_t *end)
{
    uint64_t begin;

    file_reader_find_data(reader, offset, &begin, end);
    return begin - offset >= length ? length : (begin - offset) / BITMAP_PIECE * BITMAP_PIECE;
}

/*
 * The bitmap of a large guest that is nearly empty is nearly all zeroes, or
 * even a hole: zeroes are there already, and memory that nobody touches takes
 * no time. Returns as file_reader_read_full().
 */
static ssize_t read_long_bitmap(FileReader *reader, uint8_t *zeroes, size_t length, uint64_t offset)
{
    g_autofree uint8_t *chunk = g_malloc(BITMAP_CHUNK);
    uint64_t data_end = 0;
    size_t done = 0;

    while (done < length) {
        size_t wanted;
        ssize_t result;

        if (offset + done >= data_end) {
            done += pieces_in_hole(reader, offset + done, length - done, &data_end);
        }
        wanted = MIN(length - done, BITMAP_CHUNK);
        result = file_reader_read_full(reader, chunk, wanted, offset + done);
        if (result < 0) {
            return result;
        }
        copy_pieces(zeroes + done, chunk, (size_t)result);
        done += (size_t)result;
        if ((size_t)result < wanted) {
            break;
        }
    }
    return (ssize_t)done;
}

static unsigned long *read_bitmap(LoaderStream *f, const MappedRamHeader *header, uint64_t pages,
                                  GError **error)
{
    uint64_t length = bitmap_words(pages) * sizeof(unsigned long);
    FieldAt at = loader_stream_field(f, "bitmap", header->bitmap_offset);
    bool is_long = length > BITMAP_CHUNK;
    g_autofree unsigned long *bitmap = is_long ? g_try_malloc0(length) : g_try_malloc(length);
    ssize_t result;

    if (!bitmap) {
        mapped_ram_refuse_field(error, MAPPED_RAM_ERROR_NO_MEMORY, NULL, at,
                                "no memory for 0x%" PRIx64 " bytes", length);
        return NULL;
    }
    result = is_long ? read_long_bitmap(f->reader, (uint8_t *)bitmap, length, header->bitmap_offset)
                     : loader_stream_read_at(f, bitmap, length, header->bitmap_offset);
    if (result < 0) {
        mapped_ram_refuse_field(error, MAPPED_RAM_ERROR_IO, NULL, at, "reading failed: %s",
                                g_strerror((int)-result));
        return NULL;
    }
    if ((uint64_t)result < length) {
        mapped_ram_refuse_field(error, MAPPED_RAM_ERROR_TRUNCATED, "B2", at,
                                "needs 0x%" PRIx64 " bytes, but the file ends at 0x%" PRIx64,
                                length, header->bitmap_offset + (uint64_t)result);
        return NULL;
    }
    bitmap_from_le(bitmap, pages);
    return g_steal_pointer(&bitmap);
}

/* Pages from the block's first on that end before the file does. */
static uint64_t pages_in_file(const MigrationIncomingState *mis, const LoaderStream *f,
                              const MappedRamHeader *header)
{
    uint64_t size = f->reader->size;

    return size < header->pages_offset ? 0 : (size - header->pages_offset) / mis->target_page_size;
}

static bool piece_is_zero(const unsigned long *bitmap, uint64_t word)
{
    return buffer_is_zero(bitmap + word, BITMAP_PIECE);
}

/* The end of the last word before @end that is not zero; not above @first: none from there on. */
static uint64_t end_of_set_words(const unsigned long *bitmap, uint64_t first, uint64_t end)
{
    while (end >= first + PIECE_WORDS && piece_is_zero(bitmap, end - PIECE_WORDS)) {
        end -= PIECE_WORDS;
    }
    while (end > first && bitmap[end - 1] == 0) {
        end--;
    }
    return end;
}

/*
 * Rule P1, before any page is read: it suffices to look at the last one. Most
 * files go on behind the last page of all, and there is nothing to look at.
 */
static bool check_last_page(const MigrationIncomingState *mis, const LoaderStream *f,
                            const MappedRamHeader *header, const unsigned long *bitmap,
                            uint64_t pages, GError **error)
{
    uint64_t first_word = pages_in_file(mis, f, header) / PAGES_PER_WORD;
    uint64_t word = end_of_set_words(bitmap, first_word, bitmap_words(pages));
    uint64_t page;
    uint64_t end;

    if (word <= first_word) {
        return true;
    }
    page = word * PAGES_PER_WORD - 1 - (uint64_t)__builtin_clzl(bitmap[word - 1]);
    end = header->pages_offset + (page + 1) * mis->target_page_size;
    if (end > f->reader->size) {
        return mapped_ram_refuse(error, MAPPED_RAM_ERROR_TRUNCATED, "P1",
                                 loader_stream_field(f, "bitmap's bit",
                                                     header->bitmap_offset + page / 8),
                                 page, "its page ends at 0x%" PRIx64 ", but the file at 0x%" PRIx64,
                                 end, f->reader->size);
    }
    return true;
}

/* Rules H2 to H5, B2, B4, P1: of a block whose RAM is in the file. */
static bool read_block_in_file(const MigrationIncomingState *mis, LoaderStream *f, RAMBlock *block,
                               uint64_t length, const MappedRamHeader *header, GError **error)
{
    uint64_t pages = length / mis->target_page_size;
    uint64_t bitmap_length = bitmap_words(pages) * sizeof(unsigned long);
    g_autofree unsigned long *bitmap = NULL;

    if (!check_page_size(mis, f, header, "H2", error) ||
        !check_pages_offset(mis, f, header, length, error) ||
        !check_bitmap_offset(f, header, bitmap_length, error)) {
        return false;
    }
    bitmap = read_bitmap(f, header, pages, error);
    if (!bitmap || !check_last_page(mis, f, header, bitmap, pages, error)) {
        return false;
    }
    block->in_file = true;
    block->used_length = length;
    block->bitmap_offset = header->bitmap_offset;
    block->pages_offset = header->pages_offset;
    block->file_bmap_page_size = mis->target_page_size;
    block->file_bmap = g_steal_pointer(&bitmap);
    loader_stream_seek(f, header->pages_offset + length);
    return true;
}

static bool header_stage(const MigrationIncomingState *mis, LoaderStream *f, RAMBlock *block,
                         uint64_t length, GError **error)
{
    MappedRamHeader header;

    if (!check_used_length(mis, block, f->position, length, error) ||
        !mapped_ram_read_header(f, &header, error)) {
        return false;
    }
    if (mis->x_ignore_shared && header.bitmap_offset == 0 && header.pages_offset == 0) {
        block->ignored = check_page_size(mis, f, &header, "X2a", error);
        return block->ignored;
    }
    return read_block_in_file(mis, f, block, length, &header, error);
}

bool parse_ramblock_mapped_ram_header(MigrationIncomingState *mis, LoaderStream *f, RAMBlock *block,
                                      uint64_t length, GError **error)
{
    const char *outer = f->block;
    bool ok;

    ram_block_clear(block);
    f->block = block->idstr;
    ok = header_stage(mis, f, block, length, error);
    f->block = outer;
    return ok;
}

/* The word behind @word, or behind the pieces of zeroes that begin there, if they are passed. */
static uint64_t next_word(const unsigned long *bitmap, uint64_t words, uint64_t word,
                          bool passes_zeroes)
{
    word++;
    while (passes_zeroes && word % PIECE_WORDS == 0 && word + PIECE_WORDS <= words &&
           piece_is_zero(bitmap, word)) {
        word += PIECE_WORDS;
    }
    return word;
}

/* The first bit at or after @from that differs from @flip's; @bits if none. */
static uint64_t find_next(const unsigned long *bitmap, uint64_t bits, uint64_t from,
                          unsigned long flip)
{
    uint64_t words = bitmap_words(bits);
    uint64_t word = from / PAGES_PER_WORD;
    unsigned long found;

    if (from >= bits) {
        return bits;
    }
    found = (bitmap[word] ^ flip) & (~0UL << (from % PAGES_PER_WORD));
    while (!found) {
        word = next_word(bitmap, words, word, flip == 0);
        if (word == words) {
            return bits;
        }
        found = bitmap[word] ^ flip;
    }
    return MIN(bits, word * PAGES_PER_WORD + (uint64_t)__builtin_ctzl(found));
}

static uint64_t find_next_bit(const unsigned long *bitmap, uint64_t bits, uint64_t from)
{
    return find_next(bitmap, bits, from, 0);
}

static uint64_t find_next_zero_bit(const unsigned long *bitmap, uint64_t bits, uint64_t from)
{
    return find_next(bitmap, bits, from, ~0UL);
}

/* Reads @length bytes at @offset in the block, pages with bits set. */
static bool read_run(const MigrationIncomingState *mis, const RAMBlock *block, uint64_t offset,
                     uint64_t length, GError **error)
{
    FieldAt at = { .block = block->idstr, .field = "pages" };

    while (length > 0) {
        size_t chunk = MIN(length, MAPPED_RAM_LOAD_BUF_SIZE);
        ssize_t result;

        at.offset = block->pages_offset + offset;
        result = file_reader_read_full(mis->reader, block->host + offset, chunk, at.offset);
        if (result < 0) {
            return mapped_ram_refuse_field(error, MAPPED_RAM_ERROR_IO, NULL, at,
                                           "reading failed: %s", g_strerror((int)-result));
        }
        if ((size_t)result < chunk) {
            return mapped_ram_refuse_field(error, MAPPED_RAM_ERROR_TRUNCATED, "P1", at,
                                           "need 0x%zx bytes, but the file ends at 0x%" PRIx64,
                                           chunk, at.offset + (uint64_t)result);
        }
        offset += chunk;
        length -= chunk;
    }
    return true;
}

/* Page by page, so that RAM which is zero already is not dirtied. */
static void clear_run(const MigrationIncomingState *mis, const RAMBlock *block, uint64_t offset,
                      uint64_t length)
{
    uint64_t end = offset + length;

    for (; offset < end; offset += mis->target_page_size) {
        if (!buffer_is_zero(block->host + offset, mis->target_page_size)) {
            memset(block->host + offset, 0, mis->target_page_size);
        }
    }
}

static bool read_ramblock_mapped_ram(const MigrationIncomingState *mis, const RAMBlock *block,
                                     uint64_t pages, GError **error)
{
    uint64_t page_size = mis->target_page_size;
    uint64_t clear = 0;

    while (clear < pages) {
        uint64_t set = find_next_bit(block->file_bmap, pages, clear);
        uint64_t next = find_next_zero_bit(block->file_bmap, pages, set);

        if (mis->clear_pages) {
            clear_run(mis, block, clear * page_size, (set - clear) * page_size);
        }
        if (!read_run(mis, block, set * page_size, (next - set) * page_size, error)) {
            return false;
        }
        clear = next;
    }
    return true;
}

bool parse_ramblock_mapped_ram_pages(MigrationIncomingState *mis, RAMBlock *block, uint64_t length,
                                     GError **error)
{
    bool ok = true;

    if (block->file_bmap) {
        ok = read_ramblock_mapped_ram(mis, block, length / mis->target_page_size, error);
        g_clear_pointer(&block->file_bmap, g_free);
    }
    return ok;
}

bool parse_ramblock_mapped_ram(MigrationIncomingState *mis, LoaderStream *f, RAMBlock *block,
                               uint64_t length, GError **error)
{
    uint64_t old_length = block->used_length;

    if (parse_ramblock_mapped_ram_header(mis, f, block, length, error) &&
        parse_ramblock_mapped_ram_pages(mis, block, length, error)) {
        return true;
    }
    block->used_length = old_length;
    return false;
}

static RAMBlock *qemu_ram_block_by_name(const MigrationIncomingState *mis, const char *idstr)
{
    for (unsigned i = 0; i < mis->n_blocks; i++) {
        if (strcmp(mis->blocks[i].idstr, idstr) == 0) {
            return &mis->blocks[i];
        }
    }
    return NULL;
}

static bool has_record(const RAMBlock *block)
{
    return block->in_file || block->ignored;
}

/* Rules R3, R3a, R4. NULL with @error if there is no such block. */
static RAMBlock *read_idstr(const MigrationIncomingState *mis, LoaderStream *f, GError **error)
{
    FieldAt at = loader_stream_field(f, "idstr", f->position);
    char idstr[LOADER_STREAM_STR8_SIZE];
    RAMBlock *block;
    uint8_t length;

    if (!loader_stream_str8(f, at.field, idstr, &length, error)) {
        return NULL;
    }
    block = qemu_ram_block_by_name(mis, idstr);
    if (!block) {
        mapped_ram_refuse_name(error, MAPPED_RAM_ERROR_MISMATCH, "R3", at, idstr,
                               "is not a block of the guest");
        return NULL;
    }
    at.block = block->idstr;
    if (strlen(idstr) != length) {
        mapped_ram_refuse_name(error, MAPPED_RAM_ERROR_INVALID, "R3a", at, idstr,
                               "is followed by a NUL within its %u bytes", length);
        return NULL;
    }
    if (has_record(block)) {
        mapped_ram_refuse_name(error, MAPPED_RAM_ERROR_INVALID, "R4", at, idstr,
                               "was named by an earlier record");
        return NULL;
    }
    return block;
}

/* Reads used_length, rules R2, R5, R6, R6a. */
static bool read_used_length(const MigrationIncomingState *mis, LoaderStream *f,
                             const RAMBlock *block, uint64_t remaining, uint64_t *length,
                             GError **error)
{
    FieldAt at = { .block = block->idstr, .field = "used_length", .offset = f->position };

    if (!loader_stream_be64(f, at.field, length, error)) {
        return false;
    }
    if (*length > remaining) {
        return mapped_ram_refuse(error, MAPPED_RAM_ERROR_INVALID, "R2", at, *length,
                                 "is greater than 0x%" PRIx64 ", what remains of total", remaining);
    }
    return check_used_length(mis, block, at.offset, *length, error);
}

/* One record up to its MappedRamHeader. NULL with @error if it is refused. */
static RAMBlock *read_record(const MigrationIncomingState *mis, LoaderStream *f, uint64_t remaining,
                             uint64_t *length, GError **error)
{
    RAMBlock *block = read_idstr(mis, f, error);
    uint64_t gpa;
    bool ok;

    if (!block) {
        return NULL;
    }
    f->block = block->idstr;
    ok = read_used_length(mis, f, block, remaining, length, error) &&
         (!mis->x_ignore_shared || loader_stream_be64(f, "guest physical address", &gpa, error));
    f->block = NULL;
    return ok ? block : NULL;
}

/* All records, and their pages if @stages is LOAD_WHOLE. */
static bool parse_ramblocks(MigrationIncomingState *mis, LoadStages stages, LoaderStream *f,
                            uint64_t total, RAMBlock **first_in_file, GError **error)
{
    bool (*parse_block)(MigrationIncomingState *, LoaderStream *, RAMBlock *, uint64_t, GError **) =
        stages == LOAD_WHOLE ? parse_ramblock_mapped_ram : parse_ramblock_mapped_ram_header;
    RAMBlock **next = first_in_file;
    uint64_t length;

    for (uint64_t remaining = total; remaining > 0; remaining -= length) {
        RAMBlock *block = read_record(mis, f, remaining, &length, error);

        if (!block || !parse_block(mis, f, block, length, error)) {
            return false;
        }
        *next = block;
        next = &block->next_in_file;
    }
    return true;
}

/* In the order of the file, as LOAD_WHOLE does. */
static bool load_all_pages(MigrationIncomingState *mis, RAMBlock *first_in_file, GError **error)
{
    for (RAMBlock *block = first_in_file; block; block = block->next_in_file) {
        if (!parse_ramblock_mapped_ram_pages(mis, block, block->used_length, error)) {
            return false;
        }
    }
    return true;
}

/* Rule R8. */
static bool check_all_have_records(const MigrationIncomingState *mis, const LoadSummary *summary,
                                   GError **error)
{
    for (unsigned i = 0; i < mis->n_blocks; i++) {
        const RAMBlock *block = &mis->blocks[i];

        if (!has_record(block)) {
            FieldAt at = {
                .block = block->idstr,
                .field = "total",
                .offset = summary->total_offset,
            };

            return mapped_ram_refuse(error, MAPPED_RAM_ERROR_MISMATCH, "R8", at, summary->total,
                                     "ends the list of blocks, and this one has no record");
        }
    }
    return true;
}

static bool load_stream(MigrationIncomingState *mis, LoadStages stages, LoadSummary *summary,
                        GError **error)
{
    RAMBlock *first_in_file = NULL;
    LoaderStream f;

    loader_stream_init(&f, mis->reader, 0);
    return container_read_start(mis, &f, summary, error) &&
           parse_ramblocks(mis, stages, &f, summary->total, &first_in_file, error) &&
           (stages != LOAD_SPLIT || load_all_pages(mis, first_in_file, error)) &&
           check_all_have_records(mis, summary, error) &&
           container_read_end(mis, &f, summary, error);
}

bool mapped_ram_load(MigrationIncomingState *mis, LoadStages stages, LoadSummary *summary,
                     GError **error)
{
    LoadSummary own;
    bool ok;

    for (unsigned i = 0; i < mis->n_blocks; i++) {
        ram_block_clear(&mis->blocks[i]);
        mis->blocks[i].original_length = mis->blocks[i].used_length;
        mis->blocks[i].next_in_file = NULL;
    }
    ok = load_stream(mis, stages, summary ? summary : &own, error);
    if (!ok) {
        for (unsigned i = 0; i < mis->n_blocks; i++) {
            ram_block_clear(&mis->blocks[i]);
            mis->blocks[i].used_length = mis->blocks[i].original_length;
        }
    }
    return ok;
}

void ram_block_clear(RAMBlock *block)
{
    g_clear_pointer(&block->file_bmap, g_free);
    block->in_file = false;
    block->ignored = false;
    block->bitmap_offset = 0;
    block->pages_offset = 0;
    block->file_bmap_page_size = 0;
    ram_block_lazy_clear(block);
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The sparse file in memory: a sorted array of extents that do not overlap,
 * and an arena for literal bytes. Rule F5 of docs/mapped-ram-format.md is why
 * a hole and zeroes compare equal everywhere.
 *
 * It runs in the inner loop of the fuzz targets: emptied files keep their
 * memory, appending costs the same however long the file is, finding is a
 * binary search, and content is copied and compared with memcpy() and
 * memcmp(). It must know nothing of mapped-ram.
 */
#define _GNU_SOURCE /* SEEK_DATA, SEEK_HOLE, TEMP_FAILURE_RETRY */

#include "model/sparse-file.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#define FILE_END_MAX ((uint64_t)INT64_MAX)

/* Also the unit of gaps and lengths in the serial form. */
#define BLOCK_SHIFT 12
#define BLOCK_SIZE (1u << BLOCK_SHIFT)

#define IO_SIZE ((size_t)64 * 1024)
#define ARENA_CHUNK_MIN ((size_t)64 * 1024)

typedef struct ArenaChunk {
    size_t size;
    uint8_t bytes[];
} ArenaChunk;

struct SparseFile {
    uint64_t size;
    SparseExtent *extents;
    size_t n_extents;
    size_t extents_capacity;
    /*
     * Chunks never move, so that extents may point into them. Those before
     * @chunk are full, @chunk has @chunk_used bytes in use.
     */
    GPtrArray *chunks; /* of ArenaChunk */
    guint chunk;
    size_t chunk_used;
};

/* Pattern */

/*
 * The pattern's bytes come from one table that never changes, at a phase that
 * depends on seed and offset. The length is a prime, so that pages (whose
 * offsets differ by multiples of a power of two) of one seed are at the same
 * phase only if they are PATTERN_PRIME pages apart. The table stands there
 * twice: any run of up to PATTERN_PRIME bytes is contiguous.
 *
 * Seeds are PATTERN_SEED_STEP apart: neighbouring seeds have equal pages only
 * where these are tens of thousands of pages apart (the golden section).
 */
#define PATTERN_PRIME 65521u
#define PATTERN_SEED_STEP (4096ull * 40503u % PATTERN_PRIME)

static void build_pattern(uint8_t table[2 * PATTERN_PRIME])
{
    uint64_t state = 0x7061676577697365; /* "pagewise" */

    for (unsigned i = 0; i < PATTERN_PRIME; i++) {
        uint64_t mixed;

        /* splitmix64; corpora and their expected pages depend on it. */
        state += 0x9e3779b97f4a7c15;
        mixed = (state ^ (state >> 30)) * 0xbf58476d1ce4e5b9;
        mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111eb;
        mixed ^= mixed >> 31;
        table[i] = 1 + mixed % 255;
        table[PATTERN_PRIME + i] = table[i];
    }
}

/* At least PATTERN_PRIME bytes of the pattern, from @offset on. */
static const uint8_t *pattern_at(uint32_t seed, uint64_t offset)
{
    static uint8_t table[2 * PATTERN_PRIME];
    static gsize is_built;

    if (g_once_init_enter(&is_built)) {
        build_pattern(table);
        g_once_init_leave(&is_built, 1);
    }
    return table + (offset % PATTERN_PRIME + seed * PATTERN_SEED_STEP) % PATTERN_PRIME;
}

uint8_t sparse_pattern(uint32_t seed, uint64_t offset)
{
    return *pattern_at(seed, offset);
}

/* Arena */

static uint8_t *take_from_chunk(SparseFile *file, size_t length)
{
    ArenaChunk *chunk;
    uint8_t *bytes;

    if (file->chunk == file->chunks->len) {
        return NULL;
    }
    chunk = g_ptr_array_index(file->chunks, file->chunk);
    if (chunk->size - file->chunk_used < length) {
        return NULL;
    }
    bytes = chunk->bytes + file->chunk_used;
    file->chunk_used += length;
    return bytes;
}

static void add_chunk(SparseFile *file, size_t length)
{
    size_t size = ARENA_CHUNK_MIN;
    ArenaChunk *chunk;

    /* Powers of two: what many executions leave behind stays bounded. */
    while (size < length) {
        size *= 2;
    }
    chunk = g_malloc(sizeof(*chunk) + size);
    chunk->size = size;
    g_ptr_array_add(file->chunks, chunk);
}

static const uint8_t *arena_copy(SparseFile *file, const void *data, size_t length)
{
    uint8_t *bytes = take_from_chunk(file, length);

    while (bytes == NULL) {
        if (file->chunk < file->chunks->len) {
            file->chunk++;
            file->chunk_used = 0;
        }
        if (file->chunk == file->chunks->len) {
            add_chunk(file, length);
        }
        bytes = take_from_chunk(file, length);
    }
    memcpy(bytes, data, length);
    return bytes;
}

/* Extents */

static uint64_t extent_end(const SparseExtent *extent)
{
    return extent->offset + extent->length;
}

static void extent_cut_front(SparseExtent *extent, uint64_t offset)
{
    uint64_t cut = offset - extent->offset;

    extent->offset = offset;
    extent->length -= cut;
    if (extent->kind == SPARSE_DATA) {
        extent->data += cut;
    }
}

static void extent_cut_back(SparseExtent *extent, uint64_t end)
{
    extent->length = end - extent->offset;
}

/* Where the last extent ends. */
static uint64_t data_end(const SparseFile *file)
{
    return file->n_extents == 0 ? 0 : extent_end(&file->extents[file->n_extents - 1]);
}

/* Index of the first extent that ends after @offset, or n_extents. */
static size_t find_extent(const SparseFile *file, uint64_t offset)
{
    size_t low = 0;
    size_t high = file->n_extents;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (extent_end(&file->extents[middle]) > offset) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return low;
}

static void insert_extent(SparseFile *file, size_t index, SparseExtent extent)
{
    if (file->n_extents == file->extents_capacity) {
        file->extents_capacity = MAX(16, 2 * file->extents_capacity);
        file->extents = g_renew(SparseExtent, file->extents, file->extents_capacity);
    }
    if (index < file->n_extents) {
        memmove(&file->extents[index + 1], &file->extents[index],
                (file->n_extents - index) * sizeof(extent));
    }
    file->extents[index] = extent;
    file->n_extents++;
}

static void remove_extents(SparseFile *file, size_t from, size_t to)
{
    if (to < file->n_extents) {
        memmove(&file->extents[from], &file->extents[to],
                (file->n_extents - to) * sizeof(*file->extents));
    }
    file->n_extents -= to - from;
}

/* Takes [offset, end) out of all extents. Returns where one for it belongs. */
static size_t carve(SparseFile *file, uint64_t offset, uint64_t end)
{
    size_t first;
    size_t last;

    if (data_end(file) <= offset) {
        return file->n_extents;
    }

    first = find_extent(file, offset);
    if (file->extents[first].offset < offset) {
        if (extent_end(&file->extents[first]) > end) {
            insert_extent(file, first, file->extents[first]);
        }
        extent_cut_back(&file->extents[first], offset);
        first++;
    }

    last = first;
    while (last < file->n_extents && extent_end(&file->extents[last]) <= end) {
        last++;
    }
    if (last < file->n_extents && file->extents[last].offset < end) {
        extent_cut_front(&file->extents[last], end);
    }
    if (last > first) {
        remove_extents(file, first, last);
    }
    return first;
}

/* Cuts what passes FILE_END_MAX off @length. */
static uint64_t clip_length(uint64_t offset, uint64_t length)
{
    return offset >= FILE_END_MAX ? 0 : MIN(length, FILE_END_MAX - offset);
}

/* @extent is within FILE_END_MAX and not empty. */
static void put_extent(SparseFile *file, SparseExtent extent)
{
    insert_extent(file, carve(file, extent.offset, extent_end(&extent)), extent);
    file->size = MAX(file->size, extent_end(&extent));
}

SparseFile *sparse_file_new(void)
{
    SparseFile *file = g_new0(SparseFile, 1);

    file->chunks = g_ptr_array_new_with_free_func(g_free);
    return file;
}

void sparse_file_free(SparseFile *file)
{
    g_ptr_array_free(file->chunks, TRUE);
    g_free(file->extents);
    g_free(file);
}

void sparse_file_reset(SparseFile *file)
{
    file->size = 0;
    file->n_extents = 0;
    file->chunk = 0;
    file->chunk_used = 0;
}

uint64_t sparse_file_size(const SparseFile *file)
{
    return file->size;
}

void sparse_file_truncate(SparseFile *file, uint64_t size)
{
    file->size = MIN(size, FILE_END_MAX);
    carve(file, file->size, FILE_END_MAX);
}

/* Do @data, to be put at @offset, continue @extent in the file and in the arena? */
static bool extent_continues(const SparseExtent *extent, uint64_t offset, const uint8_t *data)
{
    return extent->kind == SPARSE_DATA && extent_end(extent) == offset &&
           extent->data + extent->length == data;
}

void sparse_file_write(SparseFile *file, uint64_t offset, const void *data, size_t length)
{
    const uint8_t *copy;
    size_t index;

    length = clip_length(offset, length);
    if (length == 0) {
        return;
    }
    copy = arena_copy(file, data, length);
    index = carve(file, offset, offset + length);
    if (index > 0 && extent_continues(&file->extents[index - 1], offset, copy)) {
        /* A header written field by field becomes one extent. */
        file->extents[index - 1].length += length;
    } else {
        insert_extent(file, index, (SparseExtent){ offset, length, SPARSE_DATA, 0, copy });
    }
    file->size = MAX(file->size, offset + length);
}

void sparse_file_fill(SparseFile *file, uint64_t offset, uint64_t length, uint8_t byte)
{
    length = clip_length(offset, length);
    if (length > 0) {
        put_extent(file, (SparseExtent){ offset, length, SPARSE_FILL, byte, NULL });
    }
}

void sparse_file_pattern(SparseFile *file, uint64_t offset, uint64_t length, uint32_t seed)
{
    length = clip_length(offset, length);
    if (length > 0) {
        put_extent(file, (SparseExtent){ offset, length, SPARSE_PATTERN, seed, NULL });
    }
}

void sparse_file_punch(SparseFile *file, uint64_t offset, uint64_t length)
{
    length = clip_length(offset, length);
    if (length > 0) {
        carve(file, offset, offset + length);
    }
}

/* Reading */

/*
 * The run of bytes at @offset, clipped to [offset, end): the extent there, or
 * a hole as zero fill. *@index is the first extent that ends after @offset,
 * and moves on with the run.
 */
static SparseExtent run_at(const SparseFile *file, size_t *index, uint64_t offset, uint64_t end)
{
    SparseExtent run = { .offset = offset, .length = end - offset, .kind = SPARSE_FILL };

    if (*index == file->n_extents) {
        return run;
    }
    if (file->extents[*index].offset > offset) {
        run.length = MIN(end, file->extents[*index].offset) - offset;
        return run;
    }
    run = file->extents[*index];
    extent_cut_front(&run, offset);
    if (extent_end(&run) > end) {
        extent_cut_back(&run, end);
    } else {
        (*index)++;
    }
    return run;
}

static void read_run(const SparseExtent *run, uint8_t *buffer)
{
    switch (run->kind) {
    case SPARSE_DATA:
        memcpy(buffer, run->data, run->length);
        break;
    case SPARSE_FILL:
        memset(buffer, run->seed, run->length);
        break;
    case SPARSE_PATTERN:
        for (uint64_t done = 0; done < run->length; done += PATTERN_PRIME) {
            memcpy(buffer + done, pattern_at(run->seed, run->offset + done),
                   MIN(run->length - done, PATTERN_PRIME));
        }
        break;
    }
}

size_t sparse_file_read(const SparseFile *file, uint64_t offset, void *buffer, size_t length)
{
    size_t index = find_extent(file, offset);
    size_t done = 0;

    if (offset >= file->size) {
        return 0;
    }
    length = MIN(length, file->size - offset);
    while (done < length) {
        SparseExtent run = run_at(file, &index, offset + done, offset + length);

        read_run(&run, (uint8_t *)buffer + done);
        done += run.length;
    }
    return length;
}

static size_t compare_bytes(const uint8_t *wanted, const uint8_t *bytes, size_t length)
{
    size_t equal = 0;

    if (memcmp(wanted, bytes, length) == 0) {
        return length;
    }
    while (wanted[equal] == bytes[equal]) {
        equal++;
    }
    return equal;
}

static size_t compare_fill(uint8_t byte, const uint8_t *bytes, size_t length)
{
    if (bytes[0] != byte) {
        return 0;
    }
    /* All are equal to their successors: all are equal. */
    return 1 + compare_bytes(bytes, bytes + 1, length - 1);
}

static size_t compare_pattern(const SparseExtent *run, const uint8_t *bytes)
{
    for (uint64_t done = 0; done < run->length; done += PATTERN_PRIME) {
        size_t length = MIN(run->length - done, PATTERN_PRIME);
        size_t equal =
            compare_bytes(pattern_at(run->seed, run->offset + done), bytes + done, length);

        if (equal < length) {
            return done + equal;
        }
    }
    return run->length;
}

static size_t compare_run(const SparseExtent *run, const uint8_t *bytes)
{
    switch (run->kind) {
    case SPARSE_DATA:
        return compare_bytes(run->data, bytes, run->length);
    case SPARSE_FILL:
        return compare_fill(run->seed, bytes, run->length);
    case SPARSE_PATTERN:
        break;
    }
    return compare_pattern(run, bytes);
}

size_t sparse_file_compare(const SparseFile *file, uint64_t offset, const void *bytes,
                           size_t length)
{
    size_t index = find_extent(file, offset);
    size_t done = 0;

    if (offset >= file->size) {
        return 0;
    }
    length = MIN(length, file->size - offset);
    while (done < length) {
        SparseExtent run = run_at(file, &index, offset + done, offset + length);
        size_t equal = compare_run(&run, (const uint8_t *)bytes + done);

        done += equal;
        if (equal < run.length) {
            break;
        }
    }
    return done;
}

bool sparse_file_next_data(const SparseFile *file, uint64_t offset, SparseExtent *extent)
{
    size_t index = find_extent(file, offset);

    if (index == file->n_extents) {
        return false;
    }
    *extent = file->extents[index];
    if (extent->offset < offset) {
        extent_cut_front(extent, offset);
    }
    return true;
}

uint64_t sparse_file_data_bytes(const SparseFile *file)
{
    uint64_t bytes = 0;

    for (size_t i = 0; i < file->n_extents; i++) {
        bytes += file->extents[i].length;
    }
    return bytes;
}

/* The serial form */

/* Bits 0-1 of an op, but for OP_END, are a SparseKind. */
#define OP_KIND_MASK 0x03
#define OP_END 0x03
#define OP_BLOCKS 0x04

#define VARINT_MAX_BYTES 10

typedef struct Decoder {
    const uint8_t *bytes;
    size_t left;
} Decoder;

static uint8_t decode_u8(Decoder *decoder)
{
    if (decoder->left == 0) {
        return 0;
    }
    decoder->left--;
    return *decoder->bytes++;
}

/* What does not fit in 64 bits is dropped. */
static uint64_t decode_varint(Decoder *decoder)
{
    uint64_t value = 0;

    for (unsigned i = 0; i < VARINT_MAX_BYTES; i++) {
        uint8_t byte = decode_u8(decoder);

        value |= (uint64_t)(byte & 0x7f) << (7 * i);
        if (!(byte & 0x80)) {
            break;
        }
    }
    return value;
}

/* A gap or a length: at most FILE_END_MAX. */
static uint64_t decode_distance(Decoder *decoder, uint8_t op)
{
    uint64_t value = decode_varint(decoder);
    unsigned shift = op & OP_BLOCKS ? BLOCK_SHIFT : 0;

    return value > FILE_END_MAX >> shift ? FILE_END_MAX : value << shift;
}

static SparseExtent decode_extent(Decoder *decoder, uint8_t op, uint64_t offset)
{
    SparseExtent extent = { .offset = offset, .kind = op & OP_KIND_MASK };

    extent.length = clip_length(offset, decode_distance(decoder, op));
    switch (extent.kind) {
    case SPARSE_DATA:
        extent.length = MIN(extent.length, decoder->left);
        extent.data = decoder->bytes;
        decoder->bytes += extent.length;
        decoder->left -= extent.length;
        break;
    case SPARSE_FILL:
        extent.seed = decode_u8(decoder);
        break;
    case SPARSE_PATTERN:
        extent.seed = decode_varint(decoder);
        break;
    }
    return extent;
}

void sparse_file_decode(SparseFile *file, const uint8_t *bytes, size_t length)
{
    Decoder decoder = { .bytes = bytes, .left = length };

    sparse_file_reset(file);
    while (decoder.left > 0 && file->size < FILE_END_MAX) {
        uint8_t op = decode_u8(&decoder);
        uint64_t gap = clip_length(file->size, decode_distance(&decoder, op));
        SparseExtent extent;

        file->size += gap;
        if ((op & OP_KIND_MASK) == OP_END) {
            return;
        }
        extent = decode_extent(&decoder, op, file->size);
        if (extent.length > 0) {
            insert_extent(file, file->n_extents, extent);
            file->size += extent.length;
        }
    }
}

static void encode_u8(GByteArray *out, uint8_t byte)
{
    g_byte_array_append(out, &byte, 1);
}

static void encode_varint(GByteArray *out, uint64_t value)
{
    while (value >= 0x80) {
        encode_u8(out, 0x80 | (value & 0x7f));
        value >>= 7;
    }
    encode_u8(out, value);
}

static bool is_whole_blocks(uint64_t value)
{
    return value % BLOCK_SIZE == 0;
}

static void encode_extent(GByteArray *out, const SparseExtent *extent, uint64_t gap)
{
    bool blocks = is_whole_blocks(gap) && is_whole_blocks(extent->length);
    unsigned shift = blocks ? BLOCK_SHIFT : 0;

    encode_u8(out, extent->kind | (blocks ? OP_BLOCKS : 0));
    encode_varint(out, gap >> shift);
    encode_varint(out, extent->length >> shift);
    switch (extent->kind) {
    case SPARSE_DATA:
        g_byte_array_append(out, extent->data, extent->length);
        break;
    case SPARSE_FILL:
        encode_u8(out, extent->seed);
        break;
    case SPARSE_PATTERN:
        encode_varint(out, extent->seed);
        break;
    }
}

static void encode_end(GByteArray *out, uint64_t gap)
{
    bool blocks = is_whole_blocks(gap);

    encode_u8(out, OP_END | (blocks ? OP_BLOCKS : 0));
    encode_varint(out, blocks ? gap >> BLOCK_SHIFT : gap);
}

void sparse_file_encode(const SparseFile *file, GByteArray *out)
{
    uint64_t end = 0;

    for (size_t i = 0; i < file->n_extents; i++) {
        encode_extent(out, &file->extents[i], file->extents[i].offset - end);
        end = extent_end(&file->extents[i]);
    }
    if (file->size > end) {
        encode_end(out, file->size - end);
    }
}

/* Real files */

/* Sets @error from errno: "WHAT at 0xOFFSET of file descriptor FD: why". */
static void set_io_error(GError **error, int fd, const char *what, uint64_t offset)
{
    int saved_errno = errno;

    g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(saved_errno),
                "%s at 0x%" PRIx64 " of file descriptor %d: %s", what, offset, fd,
                g_strerror(saved_errno));
}

static bool write_all(int fd, uint64_t offset, const uint8_t *bytes, size_t length, GError **error)
{
    size_t done = 0;

    while (done < length) {
        ssize_t n = TEMP_FAILURE_RETRY(pwrite(fd, bytes + done, length - done, offset + done));

        if (n < 0) {
            set_io_error(error, fd, "writing", offset + done);
            return false;
        }
        done += n;
    }
    return true;
}

static bool extent_to_fd(const SparseFile *file, const SparseExtent *extent, int fd, GError **error)
{
    uint8_t buffer[IO_SIZE];
    uint64_t offset = extent->offset;

    while (offset < extent_end(extent)) {
        size_t length = MIN(IO_SIZE, extent_end(extent) - offset);

        sparse_file_read(file, offset, buffer, length);
        if (!write_all(fd, offset, buffer, length, error)) {
            return false;
        }
        offset += length;
    }
    return true;
}

bool sparse_file_to_fd(const SparseFile *file, int fd, GError **error)
{
    /* First to nothing: what stood in the file must not shine through holes. */
    if (ftruncate(fd, 0) < 0 || ftruncate(fd, file->size) < 0) {
        set_io_error(error, fd, "setting the end", file->size);
        return false;
    }
    for (size_t i = 0; i < file->n_extents; i++) {
        const SparseExtent *extent = &file->extents[i];
        bool is_zero = extent->kind == SPARSE_FILL && extent->seed == 0;

        if (!is_zero && !extent_to_fd(file, extent, fd, error)) {
            return false;
        }
    }
    return true;
}

/* Appends one block, or a part of one; zeroes stay a hole. Returns the bytes of data. */
static size_t append_block(SparseFile *file, uint64_t offset, const uint8_t *bytes, size_t length)
{
    SparseExtent *last;

    if (length < BLOCK_SIZE || compare_fill(bytes[0], bytes, length) < length) {
        sparse_file_write(file, offset, bytes, length);
        return length;
    }
    if (bytes[0] == 0) {
        return 0;
    }
    last = file->n_extents == 0 ? NULL : &file->extents[file->n_extents - 1];
    if (last != NULL && last->kind == SPARSE_FILL && last->seed == bytes[0] &&
        extent_end(last) == offset) {
        last->length += length;
    } else {
        sparse_file_fill(file, offset, length, bytes[0]);
    }
    return length;
}

static uint64_t append_blocks(SparseFile *file, uint64_t offset, const uint8_t *bytes,
                              size_t length)
{
    uint64_t data = 0;
    size_t done = 0;

    while (done < length) {
        size_t part = MIN(length - done, BLOCK_SIZE - (offset + done) % BLOCK_SIZE);

        data += append_block(file, offset + done, bytes + done, part);
        done += part;
    }
    return data;
}

/* Where the next data at or after @offset begins and ends, within @size. */
static void seek_data(int fd, uint64_t offset, uint64_t size, uint64_t *begin, uint64_t *end)
{
    off_t data = lseek(fd, offset, SEEK_DATA);

    *begin = offset;
    *end = size;
    if (data >= 0) {
        *begin = MIN((uint64_t)data, size);
        *end = MIN((uint64_t)lseek(fd, data, SEEK_HOLE), size);
    } else if (errno == ENXIO) {
        *begin = size;
    }
    /* Any other error: where holes cannot be found all counts as data. */
}

/* @max_data: what is left of it, counted down. */
static bool append_from_fd(SparseFile *file, int fd, uint64_t offset, uint64_t end,
                           uint64_t *max_data, GError **error)
{
    uint8_t buffer[IO_SIZE];

    while (offset < end) {
        ssize_t n = TEMP_FAILURE_RETRY(pread(fd, buffer, MIN(IO_SIZE, end - offset), offset));
        uint64_t data;

        if (n <= 0) {
            errno = n == 0 ? ENODATA : errno;
            set_io_error(error, fd, "reading", offset);
            return false;
        }
        data = append_blocks(file, offset, buffer, n);
        offset += n;
        if (data > *max_data) {
            g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_FAILED,
                        "file descriptor %d has too much data, seen at 0x%" PRIx64, fd, offset);
            return false;
        }
        *max_data -= data;
    }
    return true;
}

bool sparse_file_from_fd(SparseFile *file, int fd, uint64_t max_data, GError **error)
{
    off_t size = lseek(fd, 0, SEEK_END);
    uint64_t begin = 0;
    uint64_t end = 0;

    sparse_file_reset(file);
    if (size < 0) {
        set_io_error(error, fd, "seeking the end", 0);
        return false;
    }
    while (end < (uint64_t)size) {
        seek_data(fd, end, size, &begin, &end);
        if (!append_from_fd(file, fd, begin, end, &max_data, error)) {
            return false;
        }
    }
    file->size = size;
    return true;
}

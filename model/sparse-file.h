/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A sparse file in memory: a size, and extents of bytes; all else is hole.
 *
 * It makes a 4 GiB snapshot with two pages a thing of about 100 bytes. An
 * extent is literal bytes, one byte repeated, or a pattern whose every byte
 * depends on its file offset, so that a page that was loaded from a wrong
 * place is never equal to the right one.
 *
 * This file knows nothing of mapped-ram, does no I/O but for the two functions
 * at its end, and has no threads.
 */
#ifndef PAGEWISE_MODEL_SPARSE_FILE_H
#define PAGEWISE_MODEL_SPARSE_FILE_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

typedef enum SparseKind {
    SPARSE_DATA,    /* literal bytes */
    SPARSE_FILL,    /* one byte, repeated */
    SPARSE_PATTERN, /* sparse_pattern(seed, file offset) */
} SparseKind;

typedef struct SparseExtent {
    uint64_t offset; /* bytes from the start of the file */
    uint64_t length; /* bytes, never 0 */
    SparseKind kind;
    uint32_t seed;       /* SPARSE_PATTERN: seed; SPARSE_FILL: the byte */
    const uint8_t *data; /* SPARSE_DATA: length bytes, see ownership below */
} SparseExtent;

/*
 * Extents are sorted by offset and do not overlap. Bytes of SPARSE_DATA
 * extents belong to the file's own arena, or are borrowed from the caller
 * (sparse_file_decode) and must outlive the file's content.
 */
typedef struct SparseFile SparseFile;

SparseFile *sparse_file_new(void);
void sparse_file_free(SparseFile *file);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SparseFile, sparse_file_free)

/* Readers of an unchanged file may run in any number of threads. */

/* Empties the file; its memory is kept for reuse (a fuzz target's loop). */
void sparse_file_reset(SparseFile *file);

/* Apparent size, bytes. At most INT64_MAX. */
uint64_t sparse_file_size(const SparseFile *file);

/* Sets the size: cuts extents off, or appends a hole. */
void sparse_file_truncate(SparseFile *file, uint64_t size);

/*
 * Write over whatever is there; the file grows as needed. Writes that would
 * end beyond INT64_MAX are cut off there. sparse_file_write() copies @data.
 */
void sparse_file_write(SparseFile *file, uint64_t offset, const void *data, size_t length);
void sparse_file_fill(SparseFile *file, uint64_t offset, uint64_t length, uint8_t byte);
void sparse_file_pattern(SparseFile *file, uint64_t offset, uint64_t length, uint32_t seed);

/* Makes a hole (the size stays). */
void sparse_file_punch(SparseFile *file, uint64_t offset, uint64_t length);

/* Reads up to @length bytes; fewer only at the end of the file. Holes are 0. */
size_t sparse_file_read(const SparseFile *file, uint64_t offset, void *buffer, size_t length);

/*
 * Compares @length bytes at @offset with @bytes, without a copy. Returns the
 * index of the first byte that differs, or @length if all are equal. Bytes
 * beyond the end of the file differ from everything.
 */
size_t sparse_file_compare(const SparseFile *file, uint64_t offset, const void *bytes,
                           size_t length);

/*
 * The first extent of data that ends after @offset, clipped to start at
 * @offset at the earliest (literal bytes adjusted). False if there is none.
 */
bool sparse_file_next_data(const SparseFile *file, uint64_t offset, SparseExtent *extent);

/* Sum of all extents' lengths: the bytes that are not holes. */
uint64_t sparse_file_data_bytes(const SparseFile *file);

/*
 * One byte of the pattern; sparse_file_pattern() of @seed holds it at @offset.
 * The same bytes for ever: stored corpora depend on them. Never 0, so that no
 * byte of it passes for a hole. Two pages of one seed, of 512 bytes or more
 * and at multiples of that, are equal only where their offsets differ by a
 * multiple of 65521 pages; neighbouring seeds' only thousands of pages apart.
 */
uint8_t sparse_pattern(uint32_t seed, uint64_t offset);

/*
 * The serial form, used inside fuzz inputs. Every byte string decodes to some
 * file: what is malformed or cut off is clipped. A sequence of records:
 *
 *   u8 op     bits 0-1: 0 data, 1 fill, 2 pattern, 3 end
 *             bit 2: gap and length are counted in units of 4096 bytes
 *             bits 3-7: reserved, ignored by decode, 0 from encode
 *   varint    gap: hole between the end of the extent before and this one
 *             (LEB128, at most 10 bytes); for 'end': hole at the end of the file
 *   varint    length (not for 'end')
 *   data: length bytes; fill: u8; pattern: varint seed (low 32 bits)
 *
 * 'end' is optional; what follows it is ignored. An extent that would pass
 * INT64_MAX ends the file there.
 *
 * Bytes that are missing at the end count as 0, but literal bytes: the extent
 * ends with them. What does not fit in a varint's 64 bits is dropped. A gap
 * counts even if the extent behind it is empty.
 *
 * decode overwrites @file, borrows literal bytes from @bytes, and takes time
 * and memory in proportion to @length, whatever the sizes in it. encode
 * appends to @out; encoding what was decoded from an encoding gives the same
 * bytes again.
 */
void sparse_file_decode(SparseFile *file, const uint8_t *bytes, size_t length);
void sparse_file_encode(const SparseFile *file, GByteArray *out);

/*
 * To and from a real file descriptor: holes stay holes (SEEK_DATA), so that
 * 1 TiB of apparent size takes milliseconds. @error: G_FILE_ERROR with errno.
 *
 * sparse_file_to_fd() replaces the descriptor's file; zero fill becomes a
 * hole. It writes every other byte of data: who has a file from a hostile
 * source looks at sparse_file_data_bytes() first.
 *
 * sparse_file_from_fd() overwrites @file; it refuses more than @max_data bytes
 * of data, and leaves anything in @file on an error. Blocks of 4096 equal
 * bytes become SPARSE_FILL, zero blocks become holes.
 */
bool sparse_file_to_fd(const SparseFile *file, int fd, GError **error);
bool sparse_file_from_fd(SparseFile *file, int fd, uint64_t max_data, GError **error);

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * model/sparse-file.[ch]: every operation against a plain array of bytes, the
 * serial form byte by byte, offsets at the edge of INT64_MAX, real files with
 * holes, and the properties that the pattern promises.
 */
#define _GNU_SOURCE /* memfd_create */

#include "model/sparse-file.h"
#include "unit/support.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define END_MAX ((uint64_t)INT64_MAX)
#define BLOCK ((uint64_t)4096)
#define TIB (1ull << 40)
#define PATTERN_PERIOD ((size_t)65521)

static void assert_bytes(const SparseFile *file, uint64_t offset, const char *hex)
{
    size_t length = strlen(hex) / 2;

    for (size_t i = 0; i < length; i++) {
        char digits[3] = { hex[2 * i], hex[2 * i + 1], 0 };
        uint8_t byte;

        assert_int_equal(sparse_file_read(file, offset + i, &byte, 1), 1);
        assert_int_equal(byte, strtoul(digits, NULL, 16));
    }
}

static void assert_extent(const SparseFile *file, uint64_t from, uint64_t offset, uint64_t length,
                          SparseKind kind)
{
    SparseExtent extent;

    assert_true(sparse_file_next_data(file, from, &extent));
    assert_int_equal(extent.offset, offset);
    assert_int_equal(extent.length, length);
    assert_int_equal(extent.kind, kind);
}

static void assert_no_data(const SparseFile *file, uint64_t from)
{
    SparseExtent extent;

    assert_false(sparse_file_next_data(file, from, &extent));
}

static void assert_encodes(const SparseFile *file, const uint8_t *bytes, size_t length)
{
    g_autoptr(GByteArray) out = g_byte_array_new();

    sparse_file_encode(file, out);
    assert_int_equal(out->len, length);
    assert_memory_equal(out->data, bytes, length);
}

static void test_empty(void **state)
{
    g_autoptr(SparseFile) file = sparse_file_new();
    uint8_t byte = 0xee;

    (void)state;
    assert_int_equal(sparse_file_size(file), 0);
    assert_int_equal(sparse_file_data_bytes(file), 0);
    assert_int_equal(sparse_file_read(file, 0, &byte, 1), 0);
    assert_int_equal(sparse_file_compare(file, 0, &byte, 1), 0);
    assert_int_equal(byte, 0xee);
    assert_no_data(file, 0);
    sparse_file_write(file, 7, &byte, 0);
    sparse_file_fill(file, 7, 0, 1);
    sparse_file_pattern(file, 7, 0, 1);
    sparse_file_punch(file, 7, 0);
    assert_int_equal(sparse_file_size(file), 0);
    assert_encodes(file, (const uint8_t *)"", 0);
}

static void test_fields_become_one_extent(void **state)
{
    g_autoptr(SparseFile) file = sparse_file_new();

    (void)state;
    sparse_file_write(file, 10, "ab", 2);
    sparse_file_write(file, 12, "cd", 2);
    assert_extent(file, 0, 10, 4, SPARSE_DATA);
    sparse_file_write(file, 15, "e", 1);
    assert_extent(file, 14, 15, 1, SPARSE_DATA);
    /* In the arena 'f' follows 'e', not "abcd". */
    sparse_file_write(file, 14, "f", 1);
    assert_extent(file, 11, 11, 3, SPARSE_DATA);
    assert_extent(file, 14, 14, 1, SPARSE_DATA);
    /* A continuation needs literal bytes before it. */
    sparse_file_fill(file, 16, 1, 'g');
    sparse_file_write(file, 17, "h", 1);
    assert_bytes(file, 9, "006162636466656768");
    assert_int_equal(sparse_file_size(file), 18);
}

static void test_overwrite_in_the_middle(void **state)
{
    g_autoptr(SparseFile) file = sparse_file_new();
    SparseExtent extent;

    (void)state;
    sparse_file_write(file, 0, "0123456789", 10);
    sparse_file_fill(file, 3, 2, 0xff);
    assert_bytes(file, 0, "303132ffff3536373839");
    assert_true(sparse_file_next_data(file, 6, &extent));
    assert_int_equal(extent.offset, 6);
    assert_memory_equal(extent.data, "6789", 4);
    sparse_file_punch(file, 2, 6);
    assert_bytes(file, 0, "30310000000000003839");
    assert_int_equal(sparse_file_data_bytes(file), 4);
    sparse_file_punch(file, 0, 10);
    assert_no_data(file, 0);
    assert_int_equal(sparse_file_size(file), 10);
}

static void test_truncate(void **state)
{
    g_autoptr(SparseFile) file = sparse_file_new();

    (void)state;
    sparse_file_fill(file, 0, 4, 1);
    sparse_file_fill(file, 8, 4, 2);
    sparse_file_truncate(file, 9);
    assert_int_equal(sparse_file_size(file), 9);
    sparse_file_truncate(file, 12);
    assert_bytes(file, 0, "010101010000000002000000");
    sparse_file_truncate(file, 2);
    assert_int_equal(sparse_file_data_bytes(file), 2);
    sparse_file_truncate(file, UINT64_MAX);
    assert_int_equal(sparse_file_size(file), END_MAX);
    sparse_file_truncate(file, 0);
    assert_no_data(file, 0);
}

static void test_clips_at_the_end_of_offsets(void **state)
{
    g_autoptr(SparseFile) file = sparse_file_new();
    uint8_t bytes[4];

    (void)state;
    sparse_file_write(file, END_MAX - 2, "abcd", 4);
    assert_int_equal(sparse_file_size(file), END_MAX);
    assert_extent(file, 0, END_MAX - 2, 2, SPARSE_DATA);
    assert_int_equal(sparse_file_read(file, END_MAX - 3, bytes, 4), 3);
    assert_memory_equal(bytes, "\0ab", 3);
    assert_int_equal(sparse_file_read(file, UINT64_MAX, bytes, 4), 0);
    assert_no_data(file, UINT64_MAX);

    sparse_file_reset(file);
    sparse_file_write(file, END_MAX, "a", 1);
    sparse_file_fill(file, UINT64_MAX, UINT64_MAX, 1);
    sparse_file_pattern(file, END_MAX + 1, 1, 1);
    sparse_file_punch(file, END_MAX, UINT64_MAX);
    assert_int_equal(sparse_file_size(file), 0);

    sparse_file_pattern(file, 1, UINT64_MAX, 7);
    assert_int_equal(sparse_file_data_bytes(file), END_MAX - 1);
    sparse_file_punch(file, 3, UINT64_MAX);
    assert_extent(file, 0, 1, 2, SPARSE_PATTERN);
}

static void test_compare(void **state)
{
    g_autoptr(SparseFile) file = sparse_file_new();
    static uint8_t bytes[3 * PATTERN_PERIOD];
    const uint64_t pattern_end = 100 + 2 * PATTERN_PERIOD + 50;

    (void)state;
    sparse_file_write(file, 4, "data", 4);
    sparse_file_fill(file, 8, 40, 0x55);
    sparse_file_pattern(file, 100, pattern_end - 100, 3);
    sparse_file_truncate(file, pattern_end + 30);
    assert_int_equal(sparse_file_read(file, 0, bytes, sizeof(bytes)), pattern_end + 30);
    assert_int_equal(sparse_file_compare(file, 0, bytes, sizeof(bytes)), pattern_end + 30);
    assert_int_equal(sparse_file_compare(file, 0, bytes, 0), 0);

    const uint64_t spots[] = { 0,
                               3,
                               4,
                               7,
                               8,
                               9,
                               47,
                               48,
                               99,
                               100,
                               101,
                               100 + PATTERN_PERIOD - 1,
                               100 + PATTERN_PERIOD,
                               pattern_end - 1,
                               pattern_end,
                               pattern_end + 29 };
    for (unsigned i = 0; i < G_N_ELEMENTS(spots); i++) {
        bytes[spots[i]] ^= 0x10;
        assert_int_equal(sparse_file_compare(file, 0, bytes, pattern_end + 30), spots[i]);
        assert_int_equal(sparse_file_compare(file, spots[i], bytes + spots[i], 1), 0);
        bytes[spots[i]] ^= 0x10;
    }
}

static int compare_windows(const void *a, const void *b)
{
    return memcmp(a, b, 8);
}

static void test_pattern_promises(void **state)
{
    g_autofree uint8_t *bytes = g_malloc(PATTERN_PERIOD + 8);
    g_autofree uint8_t *windows = g_malloc(8 * PATTERN_PERIOD);
    g_autoptr(SparseFile) file = sparse_file_new();

    (void)state;
    /* These bytes are in corpora: they must never change. */
    sparse_file_pattern(file, 0, PATTERN_PERIOD + 8, 0);
    assert_bytes(file, 0, "0ac2e86bd3196230");
    assert_int_equal(sparse_pattern(1, 4096), 0x9c);

    sparse_file_read(file, 0, bytes, PATTERN_PERIOD + 8);
    assert_null(memchr(bytes, 0, PATTERN_PERIOD));
    for (size_t i = 0; i < PATTERN_PERIOD; i++) {
        memcpy(windows + 8 * i, bytes + i, 8);
        assert_int_equal(sparse_pattern(0, i), bytes[i]);
    }
    /* No 8 bytes occur twice in a period, which is a prime: no page does. */
    qsort(windows, PATTERN_PERIOD, 8, compare_windows);
    for (size_t i = 1; i < PATTERN_PERIOD; i++) {
        assert_memory_not_equal(windows + 8 * (i - 1), windows + 8 * i, 8);
    }
    assert_memory_equal(bytes, bytes + PATTERN_PERIOD, 8);
}

/* Seeds of one snapshot are small numbers; its pages are not gigabytes apart. */
static void test_pattern_seeds_are_far_apart(void **state)
{
    g_autoptr(SparseFile) file = sparse_file_new();
    uint8_t page[4096];

    (void)state;
    sparse_file_pattern(file, 0, 2048 * sizeof(page), 1);
    for (unsigned seed = 2; seed < 16; seed++) {
        for (unsigned i = 0; i < sizeof(page); i++) {
            page[i] = sparse_pattern(seed, 1024 * sizeof(page) + i);
        }
        for (unsigned i = 0; i < 2048; i++) {
            assert_in_range(sparse_file_compare(file, i * sizeof(page), page, sizeof(page)), 0, 8);
        }
    }
}

/* Deterministic choices for the test against a plain array. */
static uint32_t next_random(uint32_t *random)
{
    *random = *random * 1664525 + 1013904223;
    return *random >> 8;
}

#define PLAIN_SIZE 300

typedef struct Plain {
    uint8_t bytes[PLAIN_SIZE];
    bool is_data[PLAIN_SIZE];
    uint64_t size;
} Plain;

static void plain_set(Plain *plain, uint64_t offset, const uint8_t *bytes, uint64_t length)
{
    memcpy(plain->bytes + offset, bytes, length);
    memset(plain->is_data + offset, true, length);
    plain->size = length > 0 ? MAX(plain->size, offset + length) : plain->size;
}

static void plain_punch(Plain *plain, uint64_t offset, uint64_t length)
{
    memset(plain->bytes + offset, 0, length);
    memset(plain->is_data + offset, false, length);
}

static void do_one_operation(uint32_t *random, SparseFile *file, Plain *plain)
{
    uint64_t offset = next_random(random) % (PLAIN_SIZE - 40);
    uint64_t length = next_random(random) % 40;
    uint32_t seed = next_random(random);
    uint8_t bytes[40];

    switch (next_random(random) % 5) {
    case 0:
        memset(bytes, seed, length);
        sparse_file_fill(file, offset, length, seed);
        plain_set(plain, offset, bytes, length);
        break;
    case 1:
        for (uint64_t i = 0; i < length; i++) {
            bytes[i] = sparse_pattern(seed, offset + i);
        }
        sparse_file_pattern(file, offset, length, seed);
        plain_set(plain, offset, bytes, length);
        break;
    case 2:
        sparse_file_punch(file, offset, length);
        plain_punch(plain, offset, length);
        break;
    case 3:
        if (seed % 4 == 0) {
            sparse_file_truncate(file, offset);
            plain_punch(plain, offset, PLAIN_SIZE - offset);
            plain->size = offset;
        }
        break;
    default:
        for (uint64_t i = 0; i < length; i++) {
            bytes[i] = next_random(random);
        }
        sparse_file_write(file, offset, bytes, length);
        plain_set(plain, offset, bytes, length);
        break;
    }
}

static void assert_is_plain(const SparseFile *file, const Plain *plain)
{
    uint8_t bytes[PLAIN_SIZE];
    uint64_t data_bytes = 0;
    uint64_t end = 0;
    SparseExtent extent;

    assert_int_equal(sparse_file_size(file), plain->size);
    assert_int_equal(sparse_file_read(file, 0, bytes, PLAIN_SIZE), plain->size);
    assert_memory_equal(bytes, plain->bytes, plain->size);
    assert_int_equal(sparse_file_compare(file, 0, plain->bytes, PLAIN_SIZE), plain->size);
    for (unsigned i = 0; i < PLAIN_SIZE; i++) {
        data_bytes += plain->is_data[i];
    }
    assert_int_equal(sparse_file_data_bytes(file), data_bytes);
    while (sparse_file_next_data(file, end, &extent)) {
        assert_true(extent.length > 0);
        assert_true(extent.offset >= end);
        for (uint64_t i = end; i < extent.offset; i++) {
            assert_false(plain->is_data[i]);
        }
        end = extent.offset + extent.length;
    }
}

static void assert_serial_form_is_stable(const SparseFile *file, SparseFile *scratch,
                                         const Plain *plain)
{
    g_autoptr(GByteArray) bytes = g_byte_array_new();

    sparse_file_encode(file, bytes);
    sparse_file_decode(scratch, bytes->data, bytes->len);
    assert_is_plain(scratch, plain);
    assert_encodes(scratch, bytes->data, bytes->len);
}

static void test_against_a_plain_array(void **state)
{
    g_autoptr(SparseFile) file = sparse_file_new();
    g_autoptr(SparseFile) scratch = sparse_file_new();
    uint32_t random = 1;

    (void)state;
    for (unsigned round = 0; round < 300; round++) {
        Plain plain = { .size = 0 };

        sparse_file_reset(file);
        for (unsigned i = 0; i < 40; i++) {
            do_one_operation(&random, file, &plain);
            assert_is_plain(file, &plain);
        }
        assert_serial_form_is_stable(file, scratch, &plain);
    }
}

/* Borrowed or kept bytes stay right while the arena grows and is used anew. */
static void test_arena(void **state)
{
    g_autoptr(SparseFile) file = sparse_file_new();
    static uint8_t bytes[200000];

    (void)state;
    for (unsigned round = 0; round < 3; round++) {
        sparse_file_reset(file);
        for (unsigned i = 0; i < 8; i++) {
            size_t length = i % 3 == 2 ? sizeof(bytes) : 30000;

            memset(bytes, 'a' + i + round, length);
            sparse_file_write(file, i * TIB, bytes, length);
        }
        for (unsigned i = 0; i < 8; i++) {
            size_t length = i % 3 == 2 ? sizeof(bytes) : 30000;

            memset(bytes, 'a' + i + round, length);
            assert_int_equal(sparse_file_compare(file, i * TIB, bytes, length), length);
        }
    }
}

static void test_serial_form_of_each_kind(void **state)
{
    const uint8_t wanted[] = {
        0x00, 0x81, 0x01, 3,    'a',  'b',  'c',        /* gap 129, 3 bytes */
        0x01, 0,    0x80, 0x02, 0xee,                   /* 256 bytes of 0xee right behind it */
        0x06, 0,    1,    0xff, 0xff, 0xff, 0xff, 0x0f, /* one block of pattern */
        0x07, 0x80, 0x80, 0x80, 0x80, 0x01,             /* a hole of 1 TiB */
    };
    g_autoptr(SparseFile) file = sparse_file_new();

    (void)state;
    sparse_file_write(file, 129, "abc", 3);
    sparse_file_fill(file, 132, 256, 0xee);
    sparse_file_pattern(file, 388, 4096, UINT32_MAX);
    sparse_file_truncate(file, 388 + 4096 + TIB);
    assert_encodes(file, wanted, sizeof(wanted));

    sparse_file_decode(file, wanted, sizeof(wanted));
    assert_extent(file, 0, 129, 3, SPARSE_DATA);
    assert_extent(file, 132, 132, 256, SPARSE_FILL);
    assert_extent(file, 388, 388, 4096, SPARSE_PATTERN);
    assert_int_equal(sparse_file_size(file), 388 + 4096 + TIB);
    assert_encodes(file, wanted, sizeof(wanted));
}

typedef struct DecodeCase {
    const char *bytes;
    size_t length;
    uint64_t size;
    uint64_t data_bytes;
    const char *encoded; /* NULL: as @bytes */
    size_t encoded_length;
} DecodeCase;

#define BYTES(text) text, sizeof(text) - 1
#define SAME NULL, 0
#define MAX_VARINT "\xff\xff\xff\xff\xff\xff\xff\xff\xff"

/* clang-format off */
static const DecodeCase decode_cases[] = {
    { BYTES(""), 0, 0, SAME },
    /* Every op alone, and cut off after the gap and after the length. */
    { BYTES("\0"), 0, 0, BYTES("") },
    { BYTES("\1"), 0, 0, BYTES("") },
    { BYTES("\2"), 0, 0, BYTES("") },
    { BYTES("\3"), 0, 0, BYTES("") },
    { BYTES("\0\5"), 5, 0, BYTES("\3\5") },
    { BYTES("\0\5\3"), 5, 0, BYTES("\3\5") },
    { BYTES("\1\5\3"), 8, 3, BYTES("\1\5\3\0") },
    { BYTES("\2\5\3"), 8, 3, BYTES("\2\5\3\0") },
    /* Literal bytes end with the input. */
    { BYTES("\0\0\x7f" "abc"), 3, 3, BYTES("\0\0\3abc") },
    { BYTES("\4\0\1" "abc"), 3, 3, BYTES("\0\0\3abc") },
    /* An empty extent's gap counts. */
    { BYTES("\1\5\0\7\1\5\1\7"), 11, 1, BYTES("\1\x0a\1\7") },
    { BYTES("\1\5\0\7"), 5, 0, BYTES("\3\5") },
    /* Reserved bits are ignored and not written. */
    { BYTES("\xf9\1\1\7"), 2, 1, BYTES("\1\1\1\7") },
    /* What follows the end is ignored; an empty end is not written. */
    { BYTES("\3\1\1\1\1\1"), 1, 0, BYTES("\3\1") },
    { BYTES("\1\1\1\7\3\0"), 2, 1, BYTES("\1\1\1\7") },
    /* Blocks, only where gap and length are whole blocks. */
    { BYTES("\5\1\2\7"), 3 * BLOCK, 2 * BLOCK, SAME },
    { BYTES("\1\x80\x20\x80\x20\7"), 2 * BLOCK, 4096, BYTES("\5\1\1\7") },
    { BYTES("\1\1\x80\x20\7"), 4097, 4096, SAME },
    { BYTES("\1\x80\x20\1\7"), 4097, 1, SAME },
    { BYTES("\3\x80\x20"), 4096, 0, BYTES("\7\1") },
    /* A varint longer than needed, of ten bytes, of more than ten. */
    { BYTES("\3\x85\x80\x00"), 5, 0, BYTES("\3\5") },
    { BYTES("\3\x85\x80\x80\x80\x80\x80\x80\x80\x80\x00"), 5, 0, BYTES("\3\5") },
    { BYTES("\1\x85\x80\x80\x80\x80\x80\x80\x80\x80\x80\1\7"), 6, 1, BYTES("\1\5\1\7") },
    { BYTES("\3\x85\x80\x80\x80\x80\x80\x80\x80\x80\x7e"), 5, 0, BYTES("\3\5") },
    { BYTES("\3\x85"), 5, 0, BYTES("\3\5") },
    { BYTES("\2\0\1\x81\x80\x80\x80\x70"), 1, 1, BYTES("\2\0\1\1") },
    /* INT64_MAX is the end of the file, whatever follows. */
    { BYTES("\3" MAX_VARINT "\1"), END_MAX, 0, BYTES("\3" "\xff\xff\xff\xff\xff\xff\xff\xff\x7f") },
    { BYTES("\1" MAX_VARINT "\1\1\7\1\0\1\7"), END_MAX, 0,
      BYTES("\3" "\xff\xff\xff\xff\xff\xff\xff\xff\x7f") },
    { BYTES("\1\1" MAX_VARINT "\1\7\1\0\1\7"), END_MAX, END_MAX - 1,
      BYTES("\1\1" "\xfe\xff\xff\xff\xff\xff\xff\xff\x7f" "\7") },
    { BYTES("\5\1" MAX_VARINT "\1\7"), END_MAX, END_MAX - 4096,
      BYTES("\1\x80\x20" "\xff\xdf\xff\xff\xff\xff\xff\xff\x7f" "\7") },
    { BYTES("\7\x80\x80\x80\x80\x80\x80\x80\x04"), END_MAX, 0,
      BYTES("\3" "\xff\xff\xff\xff\xff\xff\xff\xff\x7f") },
};
/* clang-format on */

static void test_decode_of_anything(void **state)
{
    g_autoptr(SparseFile) file = sparse_file_new();

    (void)state;
    for (unsigned i = 0; i < G_N_ELEMENTS(decode_cases); i++) {
        const DecodeCase *wanted = &decode_cases[i];
        const char *encoded = wanted->encoded == NULL ? wanted->bytes : wanted->encoded;
        size_t length = wanted->encoded == NULL ? wanted->length : wanted->encoded_length;

        sparse_file_decode(file, (const uint8_t *)wanted->bytes, wanted->length);
        if (sparse_file_size(file) != wanted->size ||
            sparse_file_data_bytes(file) != wanted->data_bytes) {
            fail_msg("case %u: size 0x%" PRIx64 ", data 0x%" PRIx64, i, sparse_file_size(file),
                     sparse_file_data_bytes(file));
        }
        assert_encodes(file, (const uint8_t *)encoded, length);
    }
}

/* Random bytes decode to files whose encoding is a fixed point. */
static void test_decode_of_noise(void **state)
{
    g_autoptr(SparseFile) file = sparse_file_new();
    g_autoptr(SparseFile) again = sparse_file_new();
    uint32_t random = 3;

    (void)state;
    for (unsigned round = 0; round < 3000; round++) {
        g_autoptr(GByteArray) bytes = g_byte_array_new();
        uint8_t noise[60];
        size_t length = next_random(&random) % sizeof(noise);

        for (size_t i = 0; i < length; i++) {
            noise[i] = next_random(&random) >> (round % 7);
        }
        sparse_file_decode(file, noise, length);
        sparse_file_encode(file, bytes);
        sparse_file_decode(again, bytes->data, bytes->len);
        assert_encodes(again, bytes->data, bytes->len);
        assert_int_equal(sparse_file_size(again), sparse_file_size(file));
    }
}

/* Real files */

static int make_fd(void)
{
    int fd = memfd_create("sparse-file", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    assert_true(fd >= 0);
    return fd;
}

static void test_fd_round_trip(void **state)
{
    g_autoptr(SparseFile) file = sparse_file_new();
    g_autoptr(SparseFile) back = sparse_file_new();
    g_autoptr(GError) error = NULL;
    uint8_t before[6];
    uint8_t after[6];
    struct stat status;
    SparseExtent extent;
    int fd = make_fd();

    (void)state;
    assert_int_equal(pwrite(fd, "old content", 11, 5000), 11);
    sparse_file_write(file, 1, "head", 4);
    sparse_file_fill(file, 4096, 3 * BLOCK, 0x33);
    sparse_file_fill(file, 4 * BLOCK, 4096, 0x34);
    sparse_file_fill(file, 1 << 20, 1 << 30, 0);
    sparse_file_pattern(file, TIB / 2, 100000, 5);
    sparse_file_fill(file, TIB - 3, 3, 0x77);
    assert_true(sparse_file_to_fd(file, fd, &error));
    assert_null(error);
    assert_int_equal(fstat(fd, &status), 0);
    assert_int_equal(status.st_size, TIB);
    assert_in_range(status.st_blocks, 1, 2000);

    assert_true(sparse_file_from_fd(back, fd, 200000, &error));
    assert_null(error);
    assert_int_equal(sparse_file_size(back), TIB);
    assert_extent(back, 0, 0, 4096, SPARSE_DATA);
    assert_extent(back, 4096, 4096, 3 * BLOCK, SPARSE_FILL);
    assert_extent(back, 4 * BLOCK, 4 * BLOCK, 4096, SPARSE_FILL);
    assert_true(sparse_file_next_data(back, 5 * BLOCK, &extent));
    assert_int_equal(extent.offset, TIB / 2);
    for (uint64_t offset = 0; offset < 100000; offset += 5) {
        sparse_file_read(file, TIB / 2 + offset, before, sizeof(before));
        sparse_file_read(back, TIB / 2 + offset, after, sizeof(after));
        assert_memory_equal(before, after, sizeof(before));
    }
    assert_bytes(back, TIB - 4, "00777777");
    close(fd);
}

static void test_fd_of_other_content(void **state)
{
    g_autoptr(SparseFile) file = sparse_file_new();
    g_autoptr(GError) error = NULL;
    uint8_t zeroes[8192] = { 0 };
    int fd = make_fd();

    (void)state;
    assert_true(sparse_file_from_fd(file, fd, 0, &error));
    assert_int_equal(sparse_file_size(file), 0);

    /* Written zeroes, as a file system without holes has them. */
    assert_int_equal(pwrite(fd, zeroes, sizeof(zeroes), 0), sizeof(zeroes));
    assert_true(sparse_file_from_fd(file, fd, 0, &error));
    assert_int_equal(sparse_file_size(file), sizeof(zeroes));
    assert_no_data(file, 0);

    assert_int_equal(ftruncate(fd, TIB), 0);
    assert_true(sparse_file_from_fd(file, fd, 0, &error));
    assert_int_equal(sparse_file_size(file), TIB);
    assert_int_equal(sparse_file_data_bytes(file), 0);
    assert_null(error);
    close(fd);
}

static void assert_error(GError **error, int code, const char *text)
{
    assert_non_null(*error);
    assert_true((*error)->domain == G_FILE_ERROR);
    assert_int_equal((*error)->code, code);
    if (strstr((*error)->message, text) == NULL) {
        fail_msg("'%s' does not say '%s'", (*error)->message, text);
    }
    g_clear_error(error);
}

static void test_fd_errors(void **state)
{
    g_autoptr(SparseFile) file = sparse_file_new();
    g_autoptr(GError) error = NULL;
    int fd = make_fd();
    int pipes[2];

    (void)state;
    sparse_file_fill(file, 0, 8192, 1);
    assert_true(sparse_file_to_fd(file, fd, &error));
    assert_false(sparse_file_from_fd(file, fd, 8191, &error));
    assert_error(&error, G_FILE_ERROR_FAILED, "too much data, seen at 0x2000");

    sparse_file_reset(file);
    sparse_file_fill(file, 8192, 1, 1);
    assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_GROW), 0);
    assert_false(sparse_file_to_fd(file, fd, &error));
    assert_error(&error, G_FILE_ERROR_PERM, "setting the end at 0x2001 of file descriptor");
    close(fd);

    assert_int_equal(pipe(pipes), 0);
    assert_false(sparse_file_to_fd(file, pipes[1], &error));
    assert_error(&error, G_FILE_ERROR_INVAL, "setting the end");
    assert_false(sparse_file_from_fd(file, pipes[0], 0, &error));
    assert_error(&error, G_FILE_ERROR_FAILED, "seeking the end");
    close(pipes[0]);
    close(pipes[1]);
}

/* Seals make writes fail where ftruncate() to the same size does not. */
static void test_fd_write_error(void **state)
{
    g_autoptr(SparseFile) file = sparse_file_new();
    g_autoptr(GError) error = NULL;
    int fd = make_fd();

    (void)state;
    assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), 0);
    sparse_file_fill(file, 3, 1, 1);
    assert_false(sparse_file_to_fd(file, fd, &error));
    assert_error(&error, G_FILE_ERROR_PERM, "writing at 0x3 of file descriptor");
    close(fd);
}

static void test_fd_read_error(void **state)
{
    g_autoptr(SparseFile) file = sparse_file_new();
    g_autoptr(GError) error = NULL;
    g_autofree char *path = NULL;
    int fd = make_fd();
    int write_only;

    (void)state;
    path = g_strdup_printf("/proc/self/fd/%d", fd);
    write_only = open(path, O_WRONLY | O_CLOEXEC);
    assert_true(write_only >= 0);
    assert_int_equal(pwrite(fd, "a", 1, 9000), 1);
    assert_false(sparse_file_from_fd(file, write_only, 1, &error));
    assert_error(&error, G_FILE_ERROR_BADF, "reading at 0x2000 of file descriptor");
    close(write_only);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_empty),
        cmocka_unit_test(test_fields_become_one_extent),
        cmocka_unit_test(test_overwrite_in_the_middle),
        cmocka_unit_test(test_truncate),
        cmocka_unit_test(test_clips_at_the_end_of_offsets),
        cmocka_unit_test(test_compare),
        cmocka_unit_test(test_pattern_promises),
        cmocka_unit_test(test_pattern_seeds_are_far_apart),
        cmocka_unit_test(test_against_a_plain_array),
        cmocka_unit_test(test_arena),
        cmocka_unit_test(test_serial_form_of_each_kind),
        cmocka_unit_test(test_decode_of_anything),
        cmocka_unit_test(test_decode_of_noise),
        cmocka_unit_test(test_fd_round_trip),
        cmocka_unit_test(test_fd_of_other_content),
        cmocka_unit_test(test_fd_errors),
        cmocka_unit_test(test_fd_write_error),
        cmocka_unit_test(test_fd_read_error),
    };

    return pagewise_run("sparse-file", tests);
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * For the tests of loader/: files built byte by byte, a reader of them whose
 * reads can be made to fail, and guest RAM between guards. It knows the format
 * of docs/mapped-ram-format.md by itself: it must use neither model/ nor what
 * loader/ knows of it, or a mistake there would be on both sides of the check.
 */
#ifndef PAGEWISE_UNIT_LOADER_SUPPORT_H
#define PAGEWISE_UNIT_LOADER_SUPPORT_H

#include "loader/mapped-ram.h"

#include <glib.h>

#define TEST_PAGE 0x1000
#define TEST_CANARY 0xa5 /* every byte of guest RAM before a load */

/* What stands in place of the field of that name; ends with field = NULL. */
typedef struct TestEdit {
    const char *field;
    const char *bytes;
    size_t length;
} TestEdit;

#define EDIT(field, text)                                                                          \
    {                                                                                              \
        field, text, sizeof(text) - 1                                                              \
    }

typedef struct TestField {
    const char *name;
    uint64_t offset;
    size_t length;
} TestField;

typedef struct TestFile {
    GByteArray *bytes;
    GArray *fields; /* of TestField, in the order of the file */
    const TestEdit *edits;
    bool x_ignore_shared;
} TestFile;

/* @edits is borrowed and may be NULL. */
TestFile *test_file_new(const TestEdit *edits, bool x_ignore_shared);
void test_file_free(TestFile *file);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(TestFile, test_file_free)

/* Appends a field, or what the edits say in its place. */
void test_file_put(TestFile *file, const char *field, const void *bytes, size_t length);
void test_file_put_be(TestFile *file, const char *field, uint64_t value, size_t length);
void test_file_put_str8(TestFile *file, const char *field, const char *text);

/* From the magic to the RAM section's total. */
void test_file_put_start(TestFile *file, const char *machine, uint64_t total);
/*
 * A block's record with pages_offset at the next multiple of TEST_PAGE, its
 * bitmap @bits (at most 64 pages), and its pages: test_page_byte() in each
 * byte of those with a set bit, zero bytes else.
 */
void test_file_put_record(TestFile *file, const char *idstr, uint64_t used_length, uint64_t bits);
/* The same of more pages; @bitmap has a word for each 64 of them. */
void test_file_put_large_record(TestFile *file, const char *idstr, uint64_t used_length,
                                const uint64_t *bitmap);
/* The record of a block whose RAM is not in the file, rule X2. */
void test_file_put_ignored(TestFile *file, const char *idstr, uint64_t used_length);
/* EOS, footer, COMMAND 11, END, a FULL section, EOF. */
void test_file_put_end(TestFile *file);

/* The smallest good file: machine "none", one block "ram" of 3 pages, bits 5. */
TestFile *test_file_small(const TestEdit *edits, bool x_ignore_shared);

/* Neither 0 nor TEST_CANARY; differs between the pages and blocks of a test. */
uint8_t test_page_byte(const char *idstr, uint64_t page);

/* Reads a TestFile; may fail on purpose. */
typedef struct MemoryReader {
    FileReader reader;
    const uint8_t *bytes;
    uint64_t end;       /* of the file as it is now; reader.size: as it was */
    uint64_t reads;     /* so far */
    uint64_t fail_read; /* this read (1: the first) gives fail_errno; 0: none */
    int fail_errno;
    uint64_t shrink_read; /* at this read the file gets shorter: shrink_end; 0: none */
    uint64_t shrink_end;
    size_t max_length; /* no read gives more bytes; 0: no limit */
    uint64_t bytes_read;
} MemoryReader;

void memory_reader_init(MemoryReader *self, const TestFile *file);

/*
 * Guest RAM of @max_length bytes, all TEST_CANARY, with an inaccessible page
 * before and after it.
 */
void test_block_init(RAMBlock *block, const char *idstr, uint64_t used_length, uint64_t max_length);
void test_block_fill(RAMBlock *block);
void test_block_destroy(RAMBlock *block);

/*
 * Checks that the pages of @bits are those of the file, that the other pages
 * below @length are @clear_byte, and that all beyond is as it was.
 */
void assert_block_ram(const RAMBlock *block, uint64_t bits, uint64_t length, uint8_t clear_byte);

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See loader-support.h. */
#include "unit/loader-support.h"

#include "unit/support.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

TestFile *test_file_new(const TestEdit *edits, bool x_ignore_shared)
{
    TestFile *file = g_new0(TestFile, 1);

    file->bytes = g_byte_array_new();
    file->fields = g_array_new(FALSE, FALSE, sizeof(TestField));
    file->edits = edits;
    file->x_ignore_shared = x_ignore_shared;
    return file;
}

void test_file_free(TestFile *file)
{
    g_byte_array_unref(file->bytes);
    g_array_unref(file->fields);
    g_free(file);
}

static const TestEdit *find_edit(const TestFile *file, const char *field)
{
    for (const TestEdit *edit = file->edits; edit && edit->field; edit++) {
        if (strcmp(edit->field, field) == 0) {
            return edit;
        }
    }
    return NULL;
}

void test_file_put(TestFile *file, const char *field, const void *bytes, size_t length)
{
    const TestEdit *edit = find_edit(file, field);
    TestField entry = { .name = field, .offset = file->bytes->len };

    entry.length = edit ? edit->length : length;
    g_byte_array_append(file->bytes, edit ? (const guint8 *)edit->bytes : bytes,
                        (guint)entry.length);
    g_array_append_val(file->fields, entry);
}

void test_file_put_be(TestFile *file, const char *field, uint64_t value, size_t length)
{
    uint8_t bytes[8];

    for (size_t i = 0; i < length; i++) {
        bytes[i] = (uint8_t)(value >> (8 * (length - 1 - i)));
    }
    test_file_put(file, field, bytes, length);
}

void test_file_put_str8(TestFile *file, const char *field, const char *text)
{
    uint8_t bytes[256];
    size_t length = strlen(text);

    bytes[0] = (uint8_t)length;
    memcpy(bytes + 1, text, length);
    test_file_put(file, field, bytes, 1 + length);
}

void test_file_put_start(TestFile *file, const char *machine, uint64_t total)
{
    test_file_put_be(file, "magic", 0x5145564d, 4);
    test_file_put_be(file, "version", 3, 4);
    test_file_put_be(file, "type of configuration", 7, 1);
    test_file_put_be(file, "machine name length", strlen(machine), 4);
    test_file_put(file, "machine name", machine, strlen(machine));
    test_file_put(file, "before capabilities", "", 0);
    test_file_put_be(file, "type of subsection", 5, 1);
    test_file_put_str8(file, "subsection name", "configuration/capabilities");
    test_file_put_be(file, "subsection version", 1, 4);
    test_file_put_be(file, "number of capabilities", file->x_ignore_shared ? 2 : 1, 4);
    if (file->x_ignore_shared) {
        test_file_put_str8(file, "capability x-ignore-shared", "x-ignore-shared");
    }
    test_file_put_str8(file, "capability", "mapped-ram");
    test_file_put(file, "after capabilities", "", 0);
    test_file_put_be(file, "type of START", 1, 1);
    test_file_put_be(file, "section id of START", 2, 4);
    test_file_put_str8(file, "section name of START", "ram");
    test_file_put_be(file, "instance id", 0, 4);
    test_file_put_be(file, "section version", 4, 4);
    test_file_put_be(file, "total", total | 4, 8);
}

static void put_record_start(TestFile *file, const char *idstr, uint64_t used_length)
{
    test_file_put_str8(file, "idstr", idstr);
    test_file_put_be(file, "used_length", used_length, 8);
    if (file->x_ignore_shared) {
        test_file_put_be(file, "guest physical address", 0x100000000, 8);
    }
    test_file_put_be(file, "MappedRamHeader version", 1, 4);
    test_file_put_be(file, "page_size", TEST_PAGE, 8);
}

uint8_t test_page_byte(const char *idstr, uint64_t page)
{
    return (uint8_t)(0x20 + (idstr[1] * 16u + page) % 0x80);
}

void test_file_put_record(TestFile *file, const char *idstr, uint64_t used_length, uint64_t bits)
{
    test_file_put_large_record(file, idstr, used_length, &bits);
}

/* What stands between the record's fields and on to @end is zero so far. */
static void extend(TestFile *file, uint64_t end)
{
    guint old = file->bytes->len;

    g_byte_array_set_size(file->bytes, (guint)end);
    if (end > old) {
        memset(file->bytes->data + old, 0, end - old);
    }
}

void test_file_put_large_record(TestFile *file, const char *idstr, uint64_t used_length,
                                const uint64_t *bitmap)
{
    uint64_t pages = used_length / TEST_PAGE;
    size_t words = (pages + 63) / 64;
    g_autofree uint64_t *le_bitmap = g_new(uint64_t, words);
    uint64_t bitmap_offset;
    uint64_t pages_offset;

    for (size_t i = 0; i < words; i++) {
        le_bitmap[i] = GUINT64_TO_LE(bitmap[i]);
    }
    put_record_start(file, idstr, used_length);
    bitmap_offset = file->bytes->len + 16;
    pages_offset = (bitmap_offset + words * 8 + TEST_PAGE - 1) / TEST_PAGE * TEST_PAGE;
    test_file_put_be(file, "bitmap_offset", bitmap_offset, 8);
    test_file_put_be(file, "pages_offset", pages_offset, 8);
    test_file_put(file, "bitmap", le_bitmap, words * 8);
    extend(file, pages_offset + used_length);
    for (uint64_t page = 0; page < pages; page++) {
        if (bitmap[page / 64] >> (page % 64) & 1) {
            memset(file->bytes->data + pages_offset + page * TEST_PAGE, test_page_byte(idstr, page),
                   TEST_PAGE);
        }
    }
}

void test_file_put_ignored(TestFile *file, const char *idstr, uint64_t used_length)
{
    put_record_start(file, idstr, used_length);
    test_file_put_be(file, "bitmap_offset", 0, 8);
    test_file_put_be(file, "pages_offset", 0, 8);
}

void test_file_put_end(TestFile *file)
{
    test_file_put_be(file, "EOS", 0x10, 8);
    test_file_put_be(file, "footer", 0x7e, 1);
    test_file_put_be(file, "footer section id", 2, 4);
    test_file_put_be(file, "type of COMMAND", 8, 1);
    test_file_put_be(file, "command", 11, 2);
    test_file_put_be(file, "command length", 0, 2);
    test_file_put_be(file, "type of END", 3, 1);
    test_file_put_be(file, "section id of END", 2, 4);
    test_file_put_be(file, "EOS of END", 0x10, 8);
    test_file_put_be(file, "footer of END", 0x7e, 1);
    test_file_put_be(file, "footer section id of END", 2, 4);
    test_file_put_be(file, "type of FULL", 4, 1);
    test_file_put_be(file, "section id of FULL", 0, 4);
    test_file_put_str8(file, "section name of FULL", "timer");
}

TestFile *test_file_small(const TestEdit *edits, bool x_ignore_shared)
{
    TestFile *file = test_file_new(edits, x_ignore_shared);

    test_file_put_start(file, "none", 3 * TEST_PAGE);
    test_file_put_record(file, "ram", 3 * TEST_PAGE, 5);
    test_file_put_end(file);
    return file;
}

static ssize_t memory_reader_pread(FileReader *reader, void *buffer, size_t length, uint64_t offset)
{
    MemoryReader *self = (MemoryReader *)reader;

    self->reads++;
    if (self->reads == self->shrink_read) {
        self->end = self->shrink_end;
    }
    if (self->reads == self->fail_read) {
        return -self->fail_errno;
    }
    if (offset >= self->end) {
        return 0;
    }
    length = MIN(length, self->end - offset);
    if (self->max_length) {
        length = MIN(length, self->max_length);
    }
    memcpy(buffer, self->bytes + offset, length);
    self->bytes_read += length;
    return (ssize_t)length;
}

void memory_reader_init(MemoryReader *self, const TestFile *file)
{
    *self = (MemoryReader){
        .reader = { .pread = memory_reader_pread, .size = file->bytes->len },
        .bytes = file->bytes->data,
        .end = file->bytes->len,
        .fail_errno = EIO,
    };
}

void test_block_init(RAMBlock *block, const char *idstr, uint64_t used_length, uint64_t max_length)
{
    uint8_t *area =
        mmap(NULL, max_length + 2 * TEST_PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    assert_ptr_not_equal(area, MAP_FAILED);
    assert_int_equal(mprotect(area + TEST_PAGE, max_length, PROT_READ | PROT_WRITE), 0);
    *block = (RAMBlock){
        .host = area + TEST_PAGE,
        .used_length = used_length,
        .max_length = max_length,
        .page_size = TEST_PAGE,
    };
    g_strlcpy(block->idstr, idstr, sizeof(block->idstr));
    test_block_fill(block);
}

void test_block_fill(RAMBlock *block)
{
    memset(block->host, TEST_CANARY, block->max_length);
}

void test_block_destroy(RAMBlock *block)
{
    ram_block_clear(block);
    munmap(block->host - TEST_PAGE, block->max_length + 2 * TEST_PAGE);
}

static void assert_bytes(const RAMBlock *block, uint64_t from, uint64_t to, uint8_t wanted)
{
    for (uint64_t at = from; at < to; at++) {
        if (block->host[at] != wanted) {
            fail_msg("block '%s': byte 0x%lx is 0x%02x, not 0x%02x", block->idstr,
                     (unsigned long)at, block->host[at], wanted);
        }
    }
}

void assert_block_ram(const RAMBlock *block, uint64_t bits, uint64_t length, uint8_t clear_byte)
{
    for (uint64_t page = 0; page < length / TEST_PAGE; page++) {
        assert_bytes(block, page * TEST_PAGE, (page + 1) * TEST_PAGE,
                     bits >> page & 1 ? test_page_byte(block->idstr, page) : clear_byte);
    }
    assert_bytes(block, length, block->max_length, TEST_CANARY);
}

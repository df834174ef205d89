/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Bitmaps that are too long for one read: the header stage of a block of
 * 64 GiB (16 Mi pages, 2 MiB of bitmap), of files with holes in the bitmap and
 * without. What the file says has to be in file_bmap, what it cannot say has to
 * be an error, and what is a hole must not be read. No page is ever touched.
 */
#define _GNU_SOURCE /* memfd_create() */
#include "unit/support.h"

#include "loader/mapped-ram.h"
#include "property/alloc-meter.h"
#include "unit/loader-support.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#define USED_LENGTH (UINT64_C(64) << 30)
#define PAGES (USED_LENGTH / TEST_PAGE)
#define BITMAP_LENGTH (PAGES / 8)
#define BITMAP_OFFSET 0x81 /* neither a word's nor a page's */
#define PAGES_OFFSET 0x300000

/* Counts what is read, and can fail. */
typedef struct CountingReader {
    FileReader reader;
    FdReader file;
    uint64_t reads;
    uint64_t bytes;
    uint64_t bad_from; /* file offset: who reads from there on gets EIO */
} CountingReader;

typedef struct Fixture {
    int fd;
    CountingReader counting;
    RAMBlock block;
    MigrationIncomingState mis;
} Fixture;

static ssize_t counting_pread(FileReader *reader, void *buffer, size_t length, uint64_t offset)
{
    CountingReader *self = (CountingReader *)reader;

    self->reads++;
    self->bytes += length;
    return offset + length > self->bad_from
               ? -EIO
               : file_reader_read_full(&self->file.reader, buffer, length, offset);
}

static void counting_find_data(FileReader *reader, uint64_t offset, uint64_t *begin, uint64_t *end)
{
    file_reader_find_data(&((CountingReader *)reader)->file.reader, offset, begin, end);
}

static void put(const Fixture *f, const void *bytes, size_t length, uint64_t offset)
{
    assert_int_equal(pwrite(f->fd, bytes, length, (off_t)offset), length);
}

static void put_be(const Fixture *f, uint64_t value, size_t length, uint64_t offset)
{
    uint64_t be = GUINT64_TO_BE(value);

    put(f, (uint8_t *)&be + sizeof(be) - length, length, offset);
}

static void set_up(Fixture *f)
{
    *f = (Fixture){
        .fd = memfd_create("snapshot", MFD_CLOEXEC),
        .block = { .idstr = "ram",
                   .used_length = USED_LENGTH,
                   .max_length = USED_LENGTH,
                   .page_size = TEST_PAGE },
    };
    assert_true(f->fd >= 0);
    assert_int_equal(ftruncate(f->fd, (off_t)(PAGES_OFFSET + USED_LENGTH)), 0);
    put_be(f, 1, 4, 0);
    put_be(f, TEST_PAGE, 8, 4);
    put_be(f, BITMAP_OFFSET, 8, 12);
    put_be(f, PAGES_OFFSET, 8, 20);
}

static void tear_down(Fixture *f)
{
    ram_block_clear(&f->block);
    close(f->fd);
}

static void set_word(const Fixture *f, uint64_t word, uint64_t bits)
{
    uint64_t le = GUINT64_TO_LE(bits);

    put(f, &le, sizeof(le), BITMAP_OFFSET + word * sizeof(le));
}

static void open_reader(Fixture *f, bool with_holes)
{
    assert_true(fd_reader_init(&f->counting.file, f->fd, NULL));
    f->counting.reader = (FileReader){
        .pread = counting_pread,
        .find_data = with_holes ? counting_find_data : NULL,
        .size = f->counting.file.reader.size,
    };
    f->counting.reads = 0;
    f->counting.bytes = 0;
    f->counting.bad_from = UINT64_MAX;
    f->mis = (MigrationIncomingState){
        .reader = &f->counting.reader,
        .target_page_size = TEST_PAGE,
        .blocks = &f->block,
        .n_blocks = 1,
    };
}

static bool parse(Fixture *f, GError **error)
{
    LoaderStream stream;

    loader_stream_init(&stream, f->mis.reader, 0);
    return parse_ramblock_mapped_ram_header(&f->mis, &stream, &f->block, USED_LENGTH, error);
}

static const uint64_t far_words[] = { 0, 8191, 8192, 100000, 100001, BITMAP_LENGTH / 8 - 1 };

static void set_far_words(const Fixture *f)
{
    for (size_t i = 0; i < G_N_ELEMENTS(far_words); i++) {
        set_word(f, far_words[i], 0x8000000000000001 + i);
    }
}

static void assert_far_words(const Fixture *f)
{
    size_t i = 0;

    for (uint64_t word = 0; word < BITMAP_LENGTH / 8; word++) {
        if (i < G_N_ELEMENTS(far_words) && word == far_words[i]) {
            assert_int_equal(f->block.file_bmap[word], 0x8000000000000001 + i);
            i++;
        } else if (f->block.file_bmap[word] != 0) {
            fail_msg("word %" G_GUINT64_FORMAT " is not zero", word);
        }
    }
    assert_int_equal(i, G_N_ELEMENTS(far_words));
}

/* A file of 64 GiB reads no more of a bitmap that is a hole than one of 1 GiB would. */
static void test_holes_are_not_read(void **state)
{
    Fixture f;

    (void)state;
    set_up(&f);
    set_far_words(&f);
    open_reader(&f, true);
    assert_true(parse(&f, NULL));
    assert_far_words(&f);
    assert_in_range(f.counting.bytes, 1, 6 * 0x10000);
    assert_int_equal(lseek(f.fd, 0, SEEK_CUR), 0);
    tear_down(&f);
}

static void test_holes_that_nobody_tells_of_are_read(void **state)
{
    Fixture f;

    (void)state;
    set_up(&f);
    set_far_words(&f);
    open_reader(&f, false);
    assert_true(parse(&f, NULL));
    assert_far_words(&f);
    assert_in_range(f.counting.bytes, BITMAP_LENGTH, BITMAP_LENGTH + 0x2000);
    assert_in_range(f.counting.reads, BITMAP_LENGTH / 0x10000, BITMAP_LENGTH / 0x10000 + 2);
    tear_down(&f);
}

static void test_no_hole_at_all(void **state)
{
    g_autofree uint8_t *bytes = g_malloc(BITMAP_LENGTH);
    GRand *random = g_rand_new_with_seed(1);
    Fixture f;

    (void)state;
    for (size_t i = 0; i < BITMAP_LENGTH; i += 4) {
        guint32 bits = g_rand_int(random);

        memcpy(bytes + i, &bits, sizeof(bits));
    }
    g_rand_free(random);
    set_up(&f);
    put(&f, bytes, BITMAP_LENGTH, BITMAP_OFFSET);
    open_reader(&f, true);
    assert_true(parse(&f, NULL));
    for (uint64_t word = 0; word < BITMAP_LENGTH / 8; word++) {
        uint64_t le;

        memcpy(&le, bytes + word * sizeof(le), sizeof(le));
        assert_int_equal(f.block.file_bmap[word], GUINT64_FROM_LE(le));
    }
    tear_down(&f);
}

static void check_cut(bool with_holes, uint64_t last_word, uint64_t size, const char *message)
{
    g_autoptr(GError) error = NULL;
    Fixture f;

    set_up(&f);
    set_word(&f, last_word, 1);
    open_reader(&f, with_holes);
    assert_int_equal(ftruncate(f.fd, (off_t)size), 0);
    assert_false(parse(&f, &error));
    assert_string_equal(error->message, message);
    assert_int_equal(error->code, MAPPED_RAM_ERROR_TRUNCATED);
    assert_null(f.block.file_bmap);
    tear_down(&f);
}

/* What was cut off since the load began is no hole. */
static void test_cut_bitmaps(void **state)
{
    (void)state;
    for (int with_holes = 0; with_holes < 2; with_holes++) {
        check_cut(with_holes, 0, 0x50000,
                  "block 'ram': bitmap at file offset 0x81: needs 0x200000 bytes, but the file "
                  "ends at 0x50000 (rule B2)");
        check_cut(with_holes, 0x8000, 0x50003,
                  "block 'ram': bitmap at file offset 0x81: needs 0x200000 bytes, but the file "
                  "ends at 0x50003 (rule B2)");
        check_cut(with_holes, 0x3ffff, 0x200080,
                  "block 'ram': bitmap at file offset 0x81: needs 0x200000 bytes, but the file "
                  "ends at 0x200080 (rule B2)");
    }
}

static void test_every_read_can_fail(void **state)
{
    (void)state;
    for (uint64_t bad_from = 0x1000; bad_from < BITMAP_LENGTH; bad_from += 0x8000) {
        g_autoptr(GError) error = NULL;
        Fixture f;

        set_up(&f);
        set_word(&f, BITMAP_LENGTH / 8 - 1, 1);
        open_reader(&f, bad_from % 0x10000 == 0x1000);
        f.counting.bad_from = bad_from;
        assert_false(parse(&f, &error));
        assert_string_equal(error->message, "block 'ram': bitmap at file offset 0x81: reading "
                                            "failed: Input/output error");
        assert_int_equal(error->code, MAPPED_RAM_ERROR_IO);
        assert_null(f.block.file_bmap);
        tear_down(&f);
    }
}

static void test_no_memory(void **state)
{
    AllocMeter meter = { .fail_try = 1 };
    g_autoptr(GError) error = NULL;
    Fixture f;
    bool ok;

    (void)state;
    set_up(&f);
    open_reader(&f, true);
    alloc_meter_start(&meter);
    ok = parse(&f, &error);
    alloc_meter_stop();
    assert_false(ok);
    assert_string_equal(error->message, "block 'ram': bitmap at file offset 0x81: no memory for "
                                        "0x200000 bytes");
    assert_null(f.block.file_bmap);
    tear_down(&f);
}

static void check_last_page(uint64_t page, uint64_t size)
{
    uint64_t end = PAGES_OFFSET + (page + 1) * TEST_PAGE;
    g_autofree char *message =
        g_strdup_printf("block 'ram': bitmap's bit 0x%" G_GINT64_MODIFIER "x at file offset "
                        "0x%" G_GINT64_MODIFIER "x: its page ends at 0x%" G_GINT64_MODIFIER
                        "x, but the file at 0x%" G_GINT64_MODIFIER "x (rule P1)",
                        page, BITMAP_OFFSET + page / 8, end, size);
    g_autoptr(GError) error = NULL;
    Fixture f;

    set_up(&f);
    set_word(&f, page / 64, UINT64_C(1) << (page % 64));
    assert_int_equal(ftruncate(f.fd, (off_t)size), 0);
    open_reader(&f, true);
    assert_int_equal(parse(&f, &error), end <= size);
    if (end > size) {
        assert_string_equal(error->message, message);
    }
    tear_down(&f);
}

/* Rule P1 where the file ends within the pages: bits from there on matter alone. */
static void test_last_page(void **state)
{
    static const uint64_t pages[] = { 0,   1,    63,    64,    65,    127,
                                      128, 4000, 32767, 32768, 65536, PAGES - 1 };

    (void)state;
    for (size_t i = 0; i < G_N_ELEMENTS(pages); i++) {
        for (size_t j = 0; j < G_N_ELEMENTS(pages); j++) {
            uint64_t size = PAGES_OFFSET + pages[j] * TEST_PAGE;

            check_last_page(pages[i], size - 1);
            check_last_page(pages[i], size);
            check_last_page(pages[i], size + TEST_PAGE);
        }
    }
}

/* Bits of a word: its first and its last page, so that runs go on in the next word. */
#define BOTH_ENDS 0x8000000000000001

static void put_pages(const Fixture *f, const uint64_t *words, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint8_t content = i + 1;

        set_word(f, words[i], BOTH_ENDS);
        put(f, &content, 1, PAGES_OFFSET + words[i] * 64 * TEST_PAGE);
        put(f, &content, 1, PAGES_OFFSET + (words[i] * 64 + 63) * TEST_PAGE);
    }
}

/* Zeroes between them are passed 4 KiB of bitmap at a time: no bit may be passed with them. */
static void test_pages_far_apart(void **state)
{
    static const uint64_t words[] = { 0,    511,  512,  513,    1023,
                                      1024, 1537, 8192, 100000, BITMAP_LENGTH / 8 - 1 };
    Fixture f;

    (void)state;
    set_up(&f);
    f.block.host = mmap(NULL, USED_LENGTH, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    assert_true(f.block.host != MAP_FAILED);
    put_pages(&f, words, G_N_ELEMENTS(words));
    open_reader(&f, true);
    assert_true(parse(&f, NULL));
    f.counting.bytes = 0;
    assert_true(parse_ramblock_mapped_ram_pages(&f.mis, &f.block, USED_LENGTH, NULL));
    assert_int_equal(f.counting.bytes, 2 * G_N_ELEMENTS(words) * TEST_PAGE);
    for (size_t i = 0; i < G_N_ELEMENTS(words); i++) {
        assert_int_equal(f.block.host[words[i] * 64 * TEST_PAGE], i + 1);
        assert_int_equal(f.block.host[(words[i] * 64 + 63) * TEST_PAGE], i + 1);
    }
    munmap(f.block.host, USED_LENGTH);
    tear_down(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_holes_are_not_read),
        cmocka_unit_test(test_holes_that_nobody_tells_of_are_read),
        cmocka_unit_test(test_no_hole_at_all),
        cmocka_unit_test(test_cut_bitmaps),
        cmocka_unit_test(test_every_read_can_fail),
        cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_last_page),
        cmocka_unit_test(test_pages_far_apart),
    };

    return pagewise_run("loader-bitmap", tests);
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The two stages of the mapped-ram loader, alone and together: what each fills
 * in, that whole and split loads are the same, which bytes of RAM are written
 * and which of the file are read, and that a load leaves nothing behind that
 * the next one in this process would notice. Rules X2, R6a, G2, G3, P2.
 */
#include "unit/loader-support.h"
#include "unit/support.h"

#include <string.h>
#include <sys/mman.h>

#define RAM 0
#define ROM 1

typedef struct Fixture {
    TestFile *file;
    RAMBlock blocks[2];
    MemoryReader reader;
    MigrationIncomingState mis;
} Fixture;

/* The guest has "ram", 3 pages of 4, and "rom", 2 of 3. Takes over @file. */
static void set_up(Fixture *f, TestFile *file, bool x_ignore_shared)
{
    *f = (Fixture){ .file = file };
    test_block_init(&f->blocks[RAM], "ram", 3 * TEST_PAGE, 4 * TEST_PAGE);
    test_block_init(&f->blocks[ROM], "rom", 2 * TEST_PAGE, 3 * TEST_PAGE);
    memory_reader_init(&f->reader, file);
    f->mis = (MigrationIncomingState){
        .reader = &f->reader.reader,
        .target_page_size = TEST_PAGE,
        .x_ignore_shared = x_ignore_shared,
        .blocks = f->blocks,
        .n_blocks = 2,
    };
}

static void tear_down(Fixture *f)
{
    test_block_destroy(&f->blocks[RAM]);
    test_block_destroy(&f->blocks[ROM]);
    test_file_free(f->file);
}

/* "rom" comes first in the file, to be different from the guest. */
static TestFile *file_of_two(uint64_t rom_pages, uint64_t ram_pages)
{
    TestFile *file = test_file_new(NULL, false);

    test_file_put_start(file, "none", (rom_pages + ram_pages) * TEST_PAGE);
    test_file_put_record(file, "rom", rom_pages * TEST_PAGE, 2);
    test_file_put_record(file, "ram", ram_pages * TEST_PAGE, 5);
    test_file_put_end(file);
    return file;
}

static void assert_loads(Fixture *f, LoadStages stages)
{
    g_autoptr(GError) error = NULL;
    bool ok = mapped_ram_load(&f->mis, stages, NULL, &error);

    if (!ok) {
        fail_msg("refused: %s", error->message);
    }
}

static void assert_refuses(Fixture *f, LoadStages stages, const char *message)
{
    g_autoptr(GError) error = NULL;

    assert_false(mapped_ram_load(&f->mis, stages, NULL, &error));
    assert_string_equal(error->message, message);
}

static void test_summary(void **state)
{
    LoadSummary summary;
    Fixture f;

    (void)state;
    set_up(&f, file_of_two(2, 3), false);
    assert_true(mapped_ram_load(&f.mis, LOAD_HEADERS_ONLY, &summary, NULL));
    assert_string_equal(summary.machine, "none");
    assert_false(summary.has_x_ignore_shared);
    assert_int_equal(summary.section_id, 2);
    assert_int_equal(summary.total, 0x5000);
    assert_int_equal(summary.total_offset, 0x51);
    assert_int_equal(f.file->bytes->data[summary.end], 4);
    assert_int_equal(summary.end, f.file->bytes->len - 11);
    tear_down(&f);
}

static void test_whole_is_split(void **state)
{
    (void)state;
    for (int stages = LOAD_WHOLE; stages <= LOAD_SPLIT; stages++) {
        Fixture f;

        set_up(&f, file_of_two(2, 3), false);
        assert_loads(&f, (LoadStages)stages);
        assert_block_ram(&f.blocks[ROM], 2, 0x2000, TEST_CANARY);
        assert_block_ram(&f.blocks[RAM], 5, 0x3000, TEST_CANARY);
        assert_int_equal(f.blocks[ROM].pages_offset, 0x1000);
        assert_int_equal(f.blocks[RAM].pages_offset, 0x4000);
        assert_null(f.blocks[ROM].file_bmap);
        assert_null(f.blocks[RAM].file_bmap);
        tear_down(&f);
    }
}

static void test_headers_only(void **state)
{
    Fixture f;

    (void)state;
    set_up(&f, file_of_two(2, 3), false);
    assert_loads(&f, LOAD_HEADERS_ONLY);
    assert_true(f.blocks[ROM].in_file);
    assert_int_equal(f.blocks[ROM].bitmap_offset, 0x81);
    assert_int_equal(f.blocks[ROM].file_bmap[0], 2);
    assert_int_equal(f.blocks[RAM].file_bmap[0], 5);
    assert_block_ram(&f.blocks[RAM], 0, 0x3000, TEST_CANARY);
    /* A second load drops what the first one left. */
    assert_loads(&f, LOAD_HEADERS_ONLY);
    assert_loads(&f, LOAD_WHOLE);
    assert_block_ram(&f.blocks[RAM], 5, 0x3000, TEST_CANARY);
    ram_block_clear(&f.blocks[RAM]);
    assert_false(f.blocks[RAM].in_file);
    assert_int_equal(f.blocks[RAM].pages_offset, 0);
    assert_int_equal(f.blocks[RAM].bitmap_offset, 0);
    tear_down(&f);
}

static void test_clear_pages(void **state)
{
    (void)state;
    for (int stages = LOAD_WHOLE; stages <= LOAD_SPLIT; stages++) {
        Fixture f;

        set_up(&f, file_of_two(2, 3), false);
        f.mis.clear_pages = true;
        assert_loads(&f, (LoadStages)stages);
        assert_block_ram(&f.blocks[ROM], 2, 0x2000, 0);
        assert_block_ram(&f.blocks[RAM], 5, 0x3000, 0);
        tear_down(&f);
    }
}

/* Any write to RAM that is zero already would be a SIGSEGV here. */
static void test_clear_pages_leaves_zeroes_alone(void **state)
{
    static const TestEdit no_bits[] = { EDIT("bitmap", "\0\0\0\0\0\0\0\0"), { NULL, NULL, 0 } };
    Fixture f;

    (void)state;
    set_up(&f, test_file_small(no_bits, false), false);
    f.mis.n_blocks = 1;
    f.mis.clear_pages = true;
    memset(f.blocks[RAM].host, 0, 4 * TEST_PAGE);
    assert_int_equal(mprotect(f.blocks[RAM].host, 4 * TEST_PAGE, PROT_READ), 0);
    assert_loads(&f, LOAD_WHOLE);
    assert_int_equal(mprotect(f.blocks[RAM].host, 4 * TEST_PAGE, PROT_READ | PROT_WRITE), 0);
    /* One byte at the end of a page makes all of it to be cleared. */
    f.blocks[RAM].host[2 * TEST_PAGE - 1] = 1;
    assert_loads(&f, LOAD_WHOLE);
    assert_int_equal(f.blocks[RAM].host[2 * TEST_PAGE - 1], 0);
    tear_down(&f);
}

static void test_resize(void **state)
{
    (void)state;
    for (int stages = LOAD_WHOLE; stages <= LOAD_SPLIT; stages++) {
        Fixture f;

        set_up(&f, file_of_two(3, 3), false);
        assert_loads(&f, (LoadStages)stages);
        assert_int_equal(f.blocks[ROM].used_length, 0x3000);
        assert_block_ram(&f.blocks[ROM], 2, 0x3000, TEST_CANARY);
        tear_down(&f);

        set_up(&f, file_of_two(2, 1), false);
        assert_loads(&f, (LoadStages)stages);
        assert_int_equal(f.blocks[RAM].used_length, 0x1000);
        assert_block_ram(&f.blocks[RAM], 1, 0x1000, TEST_CANARY);
        tear_down(&f);
    }
}

/* The first block was resized, then the second one is refused. */
static void test_refusal_undoes_resize(void **state)
{
    const char *message = "block 'ram': used_length 0x5000 at file offset 0x4004: is greater than "
                          "the guest block's max_length 0x4000 (rule R6)";

    (void)state;
    for (int stages = LOAD_WHOLE; stages <= LOAD_HEADERS_ONLY; stages++) {
        Fixture f;

        set_up(&f, file_of_two(3, 5), false);
        assert_refuses(&f, (LoadStages)stages, message);
        assert_int_equal(f.blocks[ROM].used_length, 0x2000);
        assert_int_equal(f.blocks[RAM].used_length, 0x3000);
        assert_null(f.blocks[ROM].file_bmap);
        assert_false(f.blocks[ROM].in_file);
        tear_down(&f);
    }
}

static TestFile *file_with_ignored(uint64_t rom_pages)
{
    TestFile *file = test_file_new(NULL, true);

    test_file_put_start(file, "none", (rom_pages + 3) * TEST_PAGE);
    test_file_put_ignored(file, "rom", rom_pages * TEST_PAGE);
    test_file_put_record(file, "ram", 3 * TEST_PAGE, 5);
    test_file_put_end(file);
    return file;
}

static void test_ignored_block_is_left_alone(void **state)
{
    (void)state;
    for (int stages = LOAD_WHOLE; stages <= LOAD_SPLIT; stages++) {
        Fixture f;

        set_up(&f, file_with_ignored(1), true);
        f.mis.clear_pages = true;
        assert_loads(&f, (LoadStages)stages);
        assert_true(f.blocks[ROM].ignored);
        assert_false(f.blocks[ROM].in_file);
        assert_null(f.blocks[ROM].file_bmap);
        assert_int_equal(f.blocks[ROM].used_length, 0x2000);
        assert_block_ram(&f.blocks[ROM], 0, 0x2000, TEST_CANARY);
        assert_block_ram(&f.blocks[RAM], 5, 0x3000, 0);
        tear_down(&f);
    }
}

static void test_ignored_block_is_checked(void **state)
{
    TestFile *twice = test_file_new(NULL, true);
    Fixture f;

    (void)state;
    set_up(&f, file_with_ignored(4), true);
    assert_refuses(&f, LOAD_WHOLE,
                   "block 'rom': used_length 0x4000 at file offset 0x6d: is greater than the guest "
                   "block's max_length 0x3000 (rule R6)");
    tear_down(&f);

    test_file_put_start(twice, "none", 4 * TEST_PAGE);
    test_file_put_ignored(twice, "rom", 2 * TEST_PAGE);
    test_file_put_ignored(twice, "rom", 2 * TEST_PAGE);
    set_up(&f, twice, true);
    assert_refuses(&f, LOAD_WHOLE,
                   "block 'rom': idstr 'rom' at file offset 0x99: was named by an earlier record "
                   "(rule R4)");
    tear_down(&f);
}

/* A guest without RAM takes the file of one. */
static void test_no_blocks(void **state)
{
    TestFile *file = test_file_new(NULL, false);
    Fixture f;

    (void)state;
    test_file_put_start(file, "none", 0);
    test_file_put_end(file);
    set_up(&f, file, false);
    f.mis.n_blocks = 0;
    assert_loads(&f, LOAD_WHOLE);
    tear_down(&f);
}

/* The stages by themselves, at a header in the middle of a file. */
static void test_stages_by_hand(void **state)
{
    LoaderStream stream;
    RAMBlock *block;
    Fixture f;

    (void)state;
    set_up(&f, test_file_small(NULL, false), false);
    block = &f.blocks[RAM];
    block->used_length = 0x1000;
    loader_stream_init(&stream, f.mis.reader, 0x65);
    stream.block = "outer";
    assert_true(parse_ramblock_mapped_ram_header(&f.mis, &stream, block, 0x3000, NULL));
    assert_int_equal(stream.position, 0x4000);
    assert_string_equal(stream.block, "outer");
    assert_int_equal(block->used_length, 0x3000);
    assert_block_ram(block, 0, 0x3000, TEST_CANARY);
    assert_true(parse_ramblock_mapped_ram_pages(&f.mis, block, 0x3000, NULL));
    assert_null(block->file_bmap);
    assert_block_ram(block, 5, 0x3000, TEST_CANARY);
    /* Without a bitmap there is nothing to do. */
    test_block_fill(block);
    assert_true(parse_ramblock_mapped_ram_pages(&f.mis, block, 0x3000, NULL));
    assert_block_ram(block, 0, 0x3000, TEST_CANARY);

    loader_stream_seek(&stream, 0x65);
    assert_true(parse_ramblock_mapped_ram(&f.mis, &stream, block, 0x3000, NULL));
    assert_int_equal(stream.position, 0x4000);
    assert_block_ram(block, 5, 0x3000, TEST_CANARY);
    tear_down(&f);
}

static void assert_length_refused(Fixture *f, uint64_t length, const char *message)
{
    g_autoptr(GError) error = NULL;
    LoaderStream stream;

    loader_stream_init(&stream, f->mis.reader, 0x65);
    assert_false(parse_ramblock_mapped_ram(&f->mis, &stream, &f->blocks[RAM], length, &error));
    assert_string_equal(error->message, message);
    assert_null(f->blocks[RAM].file_bmap);
    assert_int_equal(f->blocks[RAM].used_length, 0x3000);
    assert_null(stream.block);
}

/* The header stage relies on no caller for rules R5, R6 and R6a. */
static void test_stages_check_length(void **state)
{
    Fixture f;

    (void)state;
    set_up(&f, test_file_small(NULL, false), false);
    assert_length_refused(&f, 0x800,
                          "block 'ram': used_length 0x800 at file offset 0x65: is not a multiple "
                          "of the target's page size 0x1000 (rule R5)");
    assert_length_refused(&f, UINT64_C(1) << 63,
                          "block 'ram': used_length 0x8000000000000000 at file offset 0x65: is "
                          "greater than the guest block's max_length 0x4000 (rule R6)");
    assert_length_refused(&f, 0,
                          "block 'ram': used_length 0x0 at file offset 0x65: is zero; the guest "
                          "block's is 0x3000 (rule R6a)");
    tear_down(&f);
}

/* A failing read of pages, after the resize: the wrapper undoes that, too. */
static void test_wrapper_undoes_resize(void **state)
{
    g_autoptr(GError) error = NULL;
    LoaderStream stream;
    Fixture f;

    (void)state;
    set_up(&f, test_file_small(NULL, false), false);
    f.blocks[RAM].used_length = 0x1000;
    f.reader.fail_read = 2;
    loader_stream_init(&stream, f.mis.reader, 0x65);
    assert_false(parse_ramblock_mapped_ram(&f.mis, &stream, &f.blocks[RAM], 0x3000, &error));
    assert_string_equal(error->message, "block 'ram': pages at file offset 0x1000: reading failed: "
                                        "Input/output error");
    assert_int_equal(f.blocks[RAM].used_length, 0x1000);
    assert_null(f.blocks[RAM].file_bmap);
    tear_down(&f);
}

/*
 * One block of @pages pages with the bits of @bitmap; the bits beyond the last
 * page are set in the file. Every page is looked at, and the reader's counters
 * show that no hole was read.
 */
static void check_bitmap(uint64_t pages, const uint64_t *bitmap)
{
    uint64_t length = pages * TEST_PAGE;
    TestFile *file = test_file_new(NULL, false);
    RAMBlock block;
    MemoryReader reader;
    MigrationIncomingState mis = {
        .reader = &reader.reader, .target_page_size = TEST_PAGE, .blocks = &block, .n_blocks = 1
    };
    uint64_t runs = 0;
    uint64_t set = 0;

    test_file_put_start(file, "none", length);
    test_file_put_large_record(file, "ram", length, bitmap);
    test_file_put_end(file);
    test_block_init(&block, "ram", length, length);
    memory_reader_init(&reader, file);
    assert_true(mapped_ram_load(&mis, LOAD_SPLIT, NULL, NULL));
    for (uint64_t page = 0; page < pages; page++) {
        bool bit = bitmap[page / 64] >> (page % 64) & 1;
        bool before = page > 0 && (bitmap[(page - 1) / 64] >> ((page - 1) % 64) & 1);
        uint8_t wanted = bit ? test_page_byte("ram", page) : TEST_CANARY;

        assert_int_equal(block.host[page * TEST_PAGE], wanted);
        assert_int_equal(block.host[(page + 1) * TEST_PAGE - 1], wanted);
        set += bit;
        runs += bit && !before;
    }
    /* Two fills of the stream's buffer, and perhaps a bitmap that is longer. */
    assert_in_range(reader.bytes_read, set * TEST_PAGE, set * TEST_PAGE + 3 * TEST_PAGE);
    assert_in_range(reader.reads, runs + 2, runs + 4 + set * TEST_PAGE / MAPPED_RAM_LOAD_BUF_SIZE);
    test_block_destroy(&block);
    test_file_free(file);
}

static void test_bitmaps(void **state)
{
    static const uint64_t bitmaps[][5] = {
        { 0, 0, 0, 0, 0 },
        { UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX },
        { UINT64_MAX, 0, UINT64_MAX, 0, UINT64_MAX },
        { 0, UINT64_MAX, 0, UINT64_MAX, 0 },
        { UINT64_C(1) << 63, 1, 0, UINT64_C(1) << 63, UINT64_MAX },
        { 0x5555555555555555, 0xaaaaaaaaaaaaaaaa, 0x0f0f0f0f0f0f0f0f, 1, 2 },
    };
    static const uint64_t pages[] = { 1, 2, 63, 64, 65, 127, 128, 129, 255, 256, 257, 300, 320 };

    (void)state;
    for (size_t i = 0; i < G_N_ELEMENTS(bitmaps); i++) {
        for (size_t j = 0; j < G_N_ELEMENTS(pages); j++) {
            check_bitmap(pages[j], bitmaps[i]);
        }
    }
}

static void test_random_bitmaps(void **state)
{
    g_autoptr(GRand) random = g_rand_new_with_seed(1);

    (void)state;
    for (int i = 0; i < 100; i++) {
        uint64_t bitmap[5];

        for (int word = 0; word < 5; word++) {
            bitmap[word] = (uint64_t)g_rand_int(random) << 32 | g_rand_int(random);
        }
        check_bitmap(1 + g_rand_int(random) % 320, bitmap);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_summary),
        cmocka_unit_test(test_whole_is_split),
        cmocka_unit_test(test_headers_only),
        cmocka_unit_test(test_clear_pages),
        cmocka_unit_test(test_clear_pages_leaves_zeroes_alone),
        cmocka_unit_test(test_resize),
        cmocka_unit_test(test_refusal_undoes_resize),
        cmocka_unit_test(test_ignored_block_is_left_alone),
        cmocka_unit_test(test_ignored_block_is_checked),
        cmocka_unit_test(test_no_blocks),
        cmocka_unit_test(test_stages_by_hand),
        cmocka_unit_test(test_stages_check_length),
        cmocka_unit_test(test_wrapper_undoes_resize),
        cmocka_unit_test(test_bitmaps),
        cmocka_unit_test(test_random_bitmaps),
    };

    return pagewise_run("loader-stages", tests);
}

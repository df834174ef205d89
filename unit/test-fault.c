/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * model/fault.[ch]: answers worked out by hand, for host pages that are equal
 * to target pages, larger and smaller.
 */
#include "model/fault.h"
#include "unit/support.h"

#define BITMAP_AT 0x100
#define HOST UINT64_C(0x7f0000000000)

typedef struct FaultCase {
    uint64_t target_page;
    uint64_t host_page;
    uint64_t address; /* from HOST on */
    FaultAnswer answer;
} FaultCase;

/* A block of @pages target pages: bits 0, 2, 64 and 4 to 8 are set. */
static void make_block(SparseFile *file, Judgement *judgement, uint64_t target_page,
                       uint64_t host_page, uint64_t pages)
{
    static const uint8_t bitmap[16] = { 0xf5, 0x01, [8] = 0x01 };

    *judgement = (Judgement){
        .file = file,
        .guest = { .target_page_size = target_page, .n_blocks = 1 },
    };
    judgement->guest.blocks[0] = (GuestBlock){
        .idstr = "ram",
        .used_length = pages * target_page,
        .max_length = pages * target_page,
        .host_page_size = host_page,
    };
    judgement->blocks[0] = (JudgedBlock){
        .in_file = true,
        .used_length = pages * target_page,
        .page_size = target_page,
        .bitmap_offset = BITMAP_AT,
        .bitmap_length = (pages + 63) / 64 * 8,
        .pages_offset = 0x100000,
        .pages = pages,
    };
    sparse_file_write(file, BITMAP_AT, bitmap, sizeof(bitmap));
}

static void assert_answer(const FaultCase *test)
{
    static const uint64_t hosts[] = { HOST };
    g_autoptr(SparseFile) file = sparse_file_new();
    g_autofree Judgement *judgement = g_new(Judgement, 1);
    FaultAnswer found;

    make_block(file, judgement, test->target_page, test->host_page, 70);
    assert_true(judgement_fault(judgement, hosts, HOST + test->address, &found));
    assert_int_equal(found.block, test->answer.block);
    assert_int_equal(found.offset, test->answer.offset);
    assert_int_equal(found.length, test->host_page);
    assert_int_equal(found.first_page, test->answer.first_page);
    assert_int_equal(found.n_pages, test->answer.n_pages);
    assert_int_equal(found.file_offset, test->answer.file_offset);
    assert_int_equal(found.source, test->answer.source);
}

static void test_answers(void **state)
{
    static const FaultCase cases[] = {
        { 0x1000, 0x1000, 0, { 0, 0, 0, 0, 1, 0x100000, FAULT_FILE } },
        { 0x1000, 0x1000, 0x1fff, { 0, 0x1000, 0, 1, 1, 0x101000, FAULT_ZERO } },
        { 0x1000, 0x1000, 0x40001, { 0, 0x40000, 0, 64, 1, 0x140000, FAULT_FILE } },
        /* Larger: four target pages, and 64 of them over the edge of a word. */
        { 0x1000, 0x4000, 0x3fff, { 0, 0, 0, 0, 4, 0x100000, FAULT_MIXED } },
        { 0x1000, 0x4000, 0x4000, { 0, 0x4000, 0, 4, 4, 0x104000, FAULT_FILE } },
        { 0x1000, 0x4000, 0xc000, { 0, 0xc000, 0, 12, 4, 0x10c000, FAULT_ZERO } },
        { 0x400, 0x10000, 0xffff, { 0, 0, 0, 0, 64, 0x100000, FAULT_MIXED } },
        /* Smaller: a part of one target page. */
        { 0x4000, 0x1000, 0x3abc, { 0, 0x3000, 0, 0, 1, 0x103000, FAULT_FILE } },
        { 0x4000, 0x1000, 0x4000, { 0, 0x4000, 0, 1, 1, 0x104000, FAULT_ZERO } },
    };

    (void)state;
    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        assert_answer(&cases[i]);
    }
}

static bool is_answered(uint64_t address, bool in_file, bool ignored)
{
    static const uint64_t hosts[] = { HOST };
    g_autoptr(SparseFile) file = sparse_file_new();
    g_autofree Judgement *judgement = g_new(Judgement, 1);
    FaultAnswer answer;

    /* 70 KiB: the last host page is covered in half. */
    make_block(file, judgement, 0x400, 0x1000, 70);
    judgement->blocks[0].in_file = in_file;
    judgement->blocks[0].ignored = ignored;
    return judgement_fault(judgement, hosts, address, &answer);
}

static void test_no_answers(void **state)
{
    (void)state;
    assert_true(is_answered(HOST, true, false));
    assert_true(is_answered(HOST + 0x10fff, true, false));
    assert_false(is_answered(HOST + 0x11000, true, false));
    assert_false(is_answered(HOST - 1, true, false));
    assert_false(is_answered(0, true, false));
    assert_false(is_answered(UINT64_MAX, true, false));
    assert_false(is_answered(HOST, false, false));
    assert_false(is_answered(HOST, true, true));
}

static void test_names(void **state)
{
    (void)state;
    assert_string_equal(fault_source_name(FAULT_ZERO), "zero");
    assert_string_equal(fault_source_name(FAULT_FILE), "file");
    assert_string_equal(fault_source_name(FAULT_MIXED), "mixed");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_answers),
        cmocka_unit_test(test_no_answers),
        cmocka_unit_test(test_names),
    };

    return pagewise_run("fault", tests);
}

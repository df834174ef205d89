/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The layout of fuzz inputs: what decodes to what, and what is clipped. */
#include "property/input.h"
#include "unit/support.h"

#include <string.h>

static Guest a_guest(void)
{
    Guest guest = {
        .target_page_size = 4096,
        .x_ignore_shared = true,
        .machine = "q35",
        .n_blocks = 2,
        .blocks = {
            { .idstr = "pc.ram", .used_length = 3 << 12, .max_length = 5 << 12 },
            { .idstr = "0000:00:02.0/vga.vram", .used_length = 1 << 12, .max_length = 1 << 12 },
        },
    };

    return guest;
}

static void test_stream_comes_back(void **state)
{
    g_autoptr(GByteArray) bytes = g_byte_array_new();
    g_autoptr(SparseFile) file = sparse_file_new();
    g_autoptr(SparseFile) again = sparse_file_new();
    Guest guest = a_guest();
    Input input;

    (void)state;
    sparse_file_write(file, 100, "QEVM", 4);
    assert_true(input_encode_stream(&guest, file, INPUT_RELOAD, bytes));
    assert_true(input_decode(bytes->data, bytes->len, &input));
    assert_int_equal(input.kind, INPUT_STREAM);
    assert_int_equal(input.flags, INPUT_RELOAD | INPUT_X_IGNORE_SHARED);
    assert_int_equal(input.guest.target_page_size, 4096);
    assert_true(input.guest.x_ignore_shared);
    assert_false(input.guest.clear_pages);
    assert_string_equal(input.guest.machine, "q35");
    assert_int_equal(input.guest.n_blocks, 2);
    for (unsigned i = 0; i < 2; i++) {
        assert_string_equal(input.guest.blocks[i].idstr, guest.blocks[i].idstr);
        assert_int_equal(input.guest.blocks[i].used_length, guest.blocks[i].used_length);
        assert_int_equal(input.guest.blocks[i].max_length, guest.blocks[i].max_length);
    }
    assert_int_equal(input_payload_offset(bytes->data, bytes->len), 16 + 2 * 32);
    sparse_file_decode(again, input.payload, input.payload_size);
    assert_int_equal(sparse_file_size(again), 104);
    assert_int_equal(sparse_file_compare(again, 100, "QEVM", 4), 4);
}

static void assert_not_encoded(const Guest *guest)
{
    g_autoptr(GByteArray) bytes = g_byte_array_new();
    g_autoptr(SparseFile) file = sparse_file_new();

    assert_false(input_encode_stream(guest, file, 0, bytes));
    assert_int_equal(bytes->len, 0);
}

static void test_what_cannot_be_expressed(void **state)
{
    Guest guest = a_guest();

    (void)state;
    strcpy(guest.machine, "enigma");
    assert_not_encoded(&guest);
    guest = a_guest();
    strcpy(guest.blocks[1].idstr, "a name of more than 24 bytes");
    assert_not_encoded(&guest);
    guest = a_guest();
    guest.n_blocks = INPUT_MAX_BLOCKS + 1;
    assert_not_encoded(&guest);
    guest = a_guest();
    guest.blocks[0].idstr[0] = '\0';
    assert_not_encoded(&guest);
    guest = a_guest();
    guest.blocks[0].max_length = INPUT_MAX_BLOCK_BYTES + 4096;
    guest.blocks[0].used_length = INPUT_MAX_BLOCK_BYTES;
    assert_not_encoded(&guest);
    guest = a_guest();
    guest.target_page_size = 1024;
    guest.blocks[0].max_length = 2 * INPUT_MAX_BLOCK_PAGES * 1024;
    guest.blocks[0].used_length = guest.blocks[0].max_length;
    assert_not_encoded(&guest);
    guest = a_guest();
    guest.blocks[0].used_length = 257 << 12;
    guest.blocks[0].max_length = 257 << 12;
    assert_not_encoded(&guest);
    guest.blocks[0].used_length = 1 << 12;
    guest.blocks[0].max_length = 258 << 12;
    assert_not_encoded(&guest);
}

/* Small guests, and the sizes that real machines have. */
static void test_lengths_come_back(void **state)
{
    static const uint64_t pages[] = { 1, 2, 255, 256, 480, 512, 4096, 32768, 1 << 20 };

    (void)state;
    for (unsigned i = 0; i < G_N_ELEMENTS(pages); i++) {
        g_autoptr(GByteArray) bytes = g_byte_array_new();
        g_autoptr(SparseFile) file = sparse_file_new();
        Guest guest = a_guest();
        Input input;

        guest.blocks[0].used_length = pages[i] << 12;
        guest.blocks[0].max_length = pages[i] << 12;
        guest.blocks[1].max_length = 512 << 12;
        assert_true(input_encode_stream(&guest, file, 0, bytes));
        assert_true(input_decode(bytes->data, bytes->len, &input));
        assert_int_equal(input.guest.blocks[0].used_length, pages[i] << 12);
        assert_int_equal(input.guest.blocks[0].max_length, pages[i] << 12);
        /* As of blocks that can grow: ACPI tables use 1 of 512 pages. */
        assert_int_equal(input.guest.blocks[1].used_length, 1 << 12);
        assert_int_equal(input.guest.blocks[1].max_length, 512 << 12);
    }
}

/* The largest bitmaps are the same whatever the size of a page. */
static void test_small_pages_are_as_many(void **state)
{
    uint8_t bytes[sizeof(InputHeader) + sizeof(InputBlock)] = { INPUT_VERSION, INPUT_STREAM };
    Input input;

    (void)state;
    bytes[offsetof(InputHeader, page_bits)] = 10;
    memset(bytes + sizeof(InputHeader) + offsetof(InputBlock, used), 0xff, sizeof(InputPages));
    assert_true(input_decode(bytes, sizeof(bytes), &input));
    assert_int_equal(input.guest.target_page_size, 1024);
    assert_int_equal(input.guest.blocks[0].used_length, INPUT_CUT_PAGES * 1024);
}

static void test_what_is_cut_off_reads_as_zero(void **state)
{
    static const uint8_t header[] = { INPUT_VERSION, INPUT_STREAM };
    static const uint8_t one_block[16 + 8] = { INPUT_VERSION, INPUT_HEADER };
    Input input;

    (void)state;
    assert_true(input_decode(header, sizeof(header), &input));
    assert_int_equal(input.guest.n_blocks, 1);
    assert_int_equal(input.guest.target_page_size, 4096);
    assert_int_equal(input.guest.blocks[0].used_length, 4096);
    assert_string_equal(input.guest.blocks[0].idstr, "block0");
    assert_int_equal(input.payload_size, 0);
    assert_int_equal(input_payload_offset(header, sizeof(header)), sizeof(header));

    assert_true(input_decode(one_block, sizeof(one_block), &input));
    assert_int_equal(input.header_offset, 0);
    assert_int_equal(input.payload_size, 0);
    assert_int_equal(input_payload_offset(one_block, sizeof(one_block)), sizeof(one_block));
}

static void test_values_are_clipped(void **state)
{
    uint8_t bytes[16 + 8 * 32];
    Input input;

    (void)state;
    memset(bytes, 0xff, sizeof(bytes));
    bytes[0] = INPUT_VERSION;
    bytes[1] = INPUT_STREAM;
    assert_true(input_decode(bytes, sizeof(bytes), &input));
    assert_int_equal(input.guest.target_page_size, 65536);
    assert_int_equal(input.guest.n_blocks, INPUT_MAX_BLOCKS);
    assert_int_equal(input.max_read_length, 1 << 20);
    for (unsigned i = 0; i < INPUT_MAX_BLOCKS; i++) {
        const GuestBlock *block = &input.guest.blocks[i];

        assert_int_equal(block->used_length, INPUT_MAX_BLOCK_BYTES);
        assert_int_equal(block->max_length, INPUT_MAX_BLOCK_BYTES);
        for (unsigned k = 0; k < i; k++) {
            assert_string_not_equal(block->idstr, input.guest.blocks[k].idstr);
        }
    }
}

static void test_choices_are_two_strings(void **state)
{
    uint8_t bytes[16 + 6] = { INPUT_VERSION, INPUT_LAYOUT };
    Input input;

    (void)state;
    bytes[9] = 4;
    memcpy(bytes + 16, "abcdef", 6);
    assert_true(input_decode(bytes, sizeof(bytes), &input));
    assert_int_equal(input.generator.length, 4);
    assert_memory_equal(input.generator.data, "abcd", 4);
    assert_int_equal(input.mutator.length, 2);
    assert_memory_equal(input.mutator.data, "ef", 2);
    bytes[9] = 200;
    assert_true(input_decode(bytes, sizeof(bytes), &input));
    assert_int_equal(input.generator.length, 6);
    assert_int_equal(input.mutator.length, 0);
}

static void test_names(void **state)
{
    (void)state;
    assert_string_equal(input_machine_name(0), "");
    assert_null(input_machine_name(1000));
    assert_string_equal(input_kind_name(INPUT_ROUND_TRIP), "round-trip");
    assert_null(input_kind_name(0));
    assert_null(input_kind_name(1000));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stream_comes_back),
        cmocka_unit_test(test_what_cannot_be_expressed),
        cmocka_unit_test(test_lengths_come_back),
        cmocka_unit_test(test_small_pages_are_as_many),
        cmocka_unit_test(test_what_is_cut_off_reads_as_zero),
        cmocka_unit_test(test_values_are_clipped),
        cmocka_unit_test(test_choices_are_two_strings),
        cmocka_unit_test(test_names),
    };

    return pagewise_run("input", tests);
}

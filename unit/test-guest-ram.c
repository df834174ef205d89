/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Guest RAM under test: each byte that is written is seen, wherever it is. */
#include "property/guest-ram.h"
#include "unit/support.h"

#include <signal.h>
#include <string.h>
#include <sys/mman.h>

static Guest guest_of(uint64_t used_length, uint64_t max_length)
{
    return (Guest){
        .target_page_size = 4096,
        .n_blocks = 1,
        .blocks = { { .idstr = "ram", .used_length = used_length, .max_length = max_length } },
    };
}

static void prepare(GuestRam *ram, const Guest *guest, uint8_t before)
{
    g_autoptr(GError) error = NULL;

    if (!guest_ram_prepare(ram, guest, before, &error)) {
        fail_msg("%s", error->message);
    }
}

/* A write of one byte at @at is seen there and nowhere else. */
static void check_write_is_seen(GuestRam *ram, const Guest *guest, uint64_t at)
{
    uint64_t max_length = guest->blocks[0].max_length;
    uint64_t differs = 0;
    uint8_t *host;

    prepare(ram, guest, 0);
    host = guest_ram_host(ram, 0);
    guest_ram_survey(ram, 1);
    assert_true(guest_ram_is_untouched(ram, 0, 0, max_length, &differs));
    host[at] = 0x77;
    guest_ram_survey(ram, 1);
    assert_false(guest_ram_is_untouched(ram, 0, 0, max_length, &differs));
    assert_int_equal(differs, at);
    assert_true(guest_ram_is_untouched(ram, 0, 0, at, &differs));
    assert_true(guest_ram_is_untouched(ram, 0, at + 1, max_length, &differs));
    assert_true(guest_ram_is_filled(ram, 0, at, at + 1, 0x77, &differs));
    assert_true(guest_ram_slack_is_untouched(ram, 0));
}

static void test_small_writes_are_seen(void **state)
{
    g_autoptr(GuestRam) ram = guest_ram_new();
    Guest guest = guest_of(3 * 4096, 5 * 4096);
    static const uint64_t places[] = { 0, 1, 4095, 4096, 3 * 4096 - 1, 3 * 4096, 5 * 4096 - 1 };

    (void)state;
    for (unsigned i = 0; i < G_N_ELEMENTS(places); i++) {
        check_write_is_seen(ram, &guest, places[i]);
    }
    assert_false(guest_ram_is_large(ram, 0));
}

static void test_large_writes_are_seen(void **state)
{
    g_autoptr(GuestRam) ram = guest_ram_new();
    uint64_t size = UINT64_C(4) << 30;
    Guest guest = guest_of(size, size + 4096);
    uint64_t places[] = { 0, 1, 4096, size / 2 + 5, size - 1, size, size + 4095 };

    (void)state;
    for (unsigned i = 0; i < G_N_ELEMENTS(places); i++) {
        check_write_is_seen(ram, &guest, places[i]);
    }
    assert_true(guest_ram_is_large(ram, 0));
}

static void test_large_blocks_can_be_asked_for_a_byte(void **state)
{
    g_autoptr(GuestRam) ram = guest_ram_new();
    Guest guest = guest_of(2 * GUEST_RAM_SMALL, 2 * GUEST_RAM_SMALL);
    uint64_t differs;
    uint8_t *host;

    (void)state;
    prepare(ram, &guest, 0x5a);
    host = guest_ram_host(ram, 0);
    assert_int_equal(guest_ram_before(ram, 0), 0);
    memset(host + 8192, 0x11, 4096);
    guest_ram_survey(ram, 1);
    assert_true(guest_ram_is_filled(ram, 0, 8192, 12288, 0x11, &differs));
    assert_false(guest_ram_is_filled(ram, 0, 4096, 12288, 0x11, &differs));
    assert_int_equal(differs, 4096);
    assert_false(guest_ram_is_filled(ram, 0, 8192, 16384, 0x11, &differs));
    assert_int_equal(differs, 12288);
    assert_true(guest_ram_is_filled(ram, 0, 12288, 2 * GUEST_RAM_SMALL, 0, &differs));
    assert_true(guest_ram_is_filled(ram, 0, 12288, 12288, 9, &differs));
}

static void test_what_was_before(void **state)
{
    g_autoptr(GuestRam) ram = guest_ram_new();
    Guest guest = guest_of(4096, 8192);
    uint8_t *host;

    (void)state;
    prepare(ram, &guest, 0x5a);
    host = guest_ram_host(ram, 0);
    assert_int_equal(guest_ram_before(ram, 0), 0x5a);
    assert_int_equal(host[0], 0x5a);
    assert_int_equal(host[4095], 0x5a);
    assert_int_equal(host[4096], GUEST_RAM_CANARY);
    assert_int_equal(host[8191], GUEST_RAM_CANARY);
    host[-1] = 0;
    assert_false(guest_ram_slack_is_untouched(ram, 0));
}

static void test_the_limit_is_told(void **state)
{
    g_autoptr(GuestRam) ram = guest_ram_new();
    g_autoptr(GError) error = NULL;
    Guest guest = guest_of(4096, GUEST_RAM_LARGE + 4096);

    (void)state;
    assert_false(guest_ram_prepare(ram, &guest, 0, &error));
    assert_non_null(strstr(error->message, "over the limit"));
}

static int write_at_guard(void *opaque)
{
    g_autoptr(GuestRam) ram = guest_ram_new();
    const Guest *guest = opaque;

    signal(SIGSEGV, SIG_DFL);
    if (!guest_ram_prepare(ram, guest, 0, NULL)) {
        return 1;
    }
    guest_ram_host(ram, 0)[guest->blocks[0].max_length] = 1;
    return 0;
}

static void test_guard_pages(void **state)
{
    Guest guests[] = { guest_of(4096, 8192), guest_of(1024, 1024),
                       guest_of(UINT64_C(1) << 32, UINT64_C(1) << 32) };

    (void)state;
    for (unsigned i = 0; i < G_N_ELEMENTS(guests); i++) {
        ChildEnd end = pagewise_run_in_child(write_at_guard, &guests[i], 10);

        assert_int_equal(end.signal, SIGSEGV);
    }
}

/* What is missing is zero, and what was left there is not taken for that. */
static void test_holes(void **state)
{
    g_autoptr(GuestRam) ram = guest_ram_new();
    Guest guest = guest_of(6 * 4096, 7 * 4096);
    uint64_t differs = 0;
    uint8_t *host;

    (void)state;
    guest_ram_will_have_holes(ram, 1);
    prepare(ram, &guest, 0x5a);
    host = guest_ram_host(ram, 0);
    assert_int_equal(madvise(host + 4096, 2 * 4096, MADV_DONTNEED), 0);
    guest_ram_survey(ram, 1);
    assert_true(guest_ram_is_filled(ram, 0, 4096, 3 * 4096, 0, &differs));
    assert_false(guest_ram_is_filled(ram, 0, 4096, 3 * 4096 + 1, 0, &differs));
    assert_int_equal(differs, 3 * 4096);
    assert_false(guest_ram_is_filled(ram, 0, 0, 3 * 4096, 0x5a, &differs));
    assert_int_equal(differs, 4096);
    host[2 * 4096 + 7] = 1;
    guest_ram_survey(ram, 1);
    assert_false(guest_ram_is_filled(ram, 0, 4096, 3 * 4096, 0, &differs));
    assert_int_equal(differs, 2 * 4096 + 7);
    /* All zero again, whichever page was there. */
    assert_int_equal(madvise(host + 4096, 4096, MADV_DONTNEED), 0);
    prepare(ram, &guest, 0);
    for (unsigned i = 0; i < 6 * 4096; i++) {
        assert_int_equal(host[i], 0);
    }
    check_write_is_seen(ram, &guest, 5 * 4096);
}

/* A block of pages that were missing, and one that begins in the canary below it. */
static void test_holes_of_a_longer_block(void **state)
{
    g_autoptr(GuestRam) ram = guest_ram_new();
    Guest shorter = guest_of(2 * 4096, 2 * 4096);
    Guest longer = guest_of(4 * 4096, 4 * 4096);
    uint64_t differs;
    uint8_t *host;

    (void)state;
    guest_ram_will_have_holes(ram, 1);
    prepare(ram, &longer, 0);
    assert_int_equal(madvise(guest_ram_host(ram, 0), 4 * 4096, MADV_DONTNEED), 0);
    guest_ram_survey(ram, 1);
    prepare(ram, &shorter, 0);
    assert_int_equal(madvise(guest_ram_host(ram, 0), 2 * 4096, MADV_DONTNEED), 0);
    guest_ram_survey(ram, 1);
    prepare(ram, &longer, 0);
    host = guest_ram_host(ram, 0);
    for (unsigned i = 0; i < 4 * 4096; i++) {
        assert_int_equal(host[i], 0);
    }
    guest_ram_survey(ram, 1);
    assert_true(guest_ram_is_untouched(ram, 0, 0, 4 * 4096, &differs));
}

/* All of a block's pages are read where none of them begins a page of memory. */
static void test_holes_between_odd_blocks(void **state)
{
    g_autoptr(GuestRam) ram = guest_ram_new();
    Guest even = guest_of(4 * 4096, 4 * 4096);
    Guest odd = guest_of(3 * 4096 + 1024, 3 * 4096 + 1024);

    (void)state;
    guest_ram_will_have_holes(ram, 1);
    prepare(ram, &even, 0);
    assert_int_equal(madvise(guest_ram_host(ram, 0), 4096, MADV_DONTNEED), 0);
    guest_ram_survey(ram, 1);
    prepare(ram, &odd, 0);
    memset(guest_ram_host(ram, 0), 0x77, 3 * 4096 + 1024);
    guest_ram_survey(ram, 1);
    prepare(ram, &odd, 0);
    for (unsigned i = 0; i < 3 * 4096 + 1024; i++) {
        assert_int_equal(guest_ram_host(ram, 0)[i], 0);
    }
}

/* Neither what is there nor what is merely missing; all, while the kernel is not asked. */
static void test_no_page_is_odd(void **state)
{
    g_autoptr(GuestRam) ram = guest_ram_new();
    Guest guest = guest_of(64 * 4096, 64 * 4096);

    (void)state;
    prepare(ram, &guest, 0x5a);
    assert_int_equal(guest_ram_next_odd(ram, 0, 3, 64), 3);
    guest_ram_will_have_holes(ram, 1);
    assert_int_equal(madvise(guest_ram_host(ram, 0), 7 * 4096, MADV_DONTNEED), 0);
    assert_int_equal(guest_ram_next_odd(ram, 0, 3, 64), 64);
}

static void check_repair(const Guest *guest)
{
    g_autoptr(GuestRam) ram = guest_ram_new();
    g_autoptr(GError) error = NULL;
    uint8_t *host;

    prepare(ram, guest, 0);
    host = guest_ram_host(ram, 0);
    memset(host, 0x5a, 4 * 4096);
    assert_int_equal(mprotect(host, 3 * 4096, PROT_NONE), 0);
    assert_true(guest_ram_repair(ram, 0, 0, 3 * 4096, &error));
    assert_int_equal(host[0], 0);
    assert_int_equal(host[3 * 4096 - 1], 0);
    assert_int_equal(host[3 * 4096], 0x5a);
}

static void test_repair(void **state)
{
    const Guest small = guest_of(4 * 4096, 4 * 4096);
    const Guest large = guest_of(GUEST_RAM_SMALL + 4096, GUEST_RAM_SMALL + 4096);

    (void)state;
    check_repair(&small);
    check_repair(&large);
}

#define LARGE (UINT64_C(4) << 30)

/* Pages from the start of a large block. */
static void write_pages(GuestRam *ram, unsigned first, unsigned n)
{
    memset(guest_ram_host(ram, 0) + first * 4096, 0x77, n * 4096);
    guest_ram_survey(ram, 1);
}

static void assert_first_touched(const GuestRam *ram, unsigned page)
{
    uint64_t differs;

    assert_false(guest_ram_is_untouched(ram, 0, 0, LARGE, &differs));
    assert_int_equal(differs, page * 4096);
}

/* A large block after a load that wrote pages 4 and 5, which are kept. */
static GuestRam *ram_with_kept_pages(void)
{
    GuestRam *ram = guest_ram_new();
    Guest guest = guest_of(LARGE, LARGE);

    prepare(ram, &guest, 0);
    write_pages(ram, 4, 2);
    prepare(ram, &guest, 0);
    return ram;
}

/* What loads left is gone before the next one, be its pages kept or given back. */
static void test_large_blocks_are_cleared(void **state)
{
    g_autoptr(GuestRam) ram = guest_ram_new();
    Guest guest = guest_of(LARGE, LARGE);

    (void)state;
    for (unsigned load = 0; load < 500; load++) {
        unsigned n = load % 5 ? 3 : 40;

        prepare(ram, &guest, 0);
        for (unsigned page = 0; page < 80; page++) {
            assert_int_equal(guest_ram_host(ram, 0)[page * 4096 + load], 0);
        }
        write_pages(ram, load % 40, n);
        assert_first_touched(ram, load % 40);
    }
}

/* Kept pages do not hide another one that is written. */
static void test_pages_beside_kept_ones_are_seen(void **state)
{
    g_autoptr(GuestRam) ram = ram_with_kept_pages();
    uint64_t differs;

    (void)state;
    guest_ram_survey(ram, 1);
    assert_true(guest_ram_is_untouched(ram, 0, 0, LARGE, &differs));
    write_pages(ram, 7, 1);
    assert_first_touched(ram, 7);
}

/* Not even where a kept one was taken out, so that there are as many as before. */
static void test_pages_in_place_of_kept_ones_are_seen(void **state)
{
    g_autoptr(GuestRam) ram = ram_with_kept_pages();

    (void)state;
    assert_int_equal(madvise(guest_ram_host(ram, 0) + 4 * 4096, 4096, MADV_REMOVE), 0);
    write_pages(ram, 9, 1);
    assert_first_touched(ram, 9);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_holes),
        cmocka_unit_test(test_holes_of_a_longer_block),
        cmocka_unit_test(test_holes_between_odd_blocks),
        cmocka_unit_test(test_no_page_is_odd),
        cmocka_unit_test(test_repair),
        cmocka_unit_test(test_small_writes_are_seen),
        cmocka_unit_test(test_large_writes_are_seen),
        cmocka_unit_test(test_large_blocks_are_cleared),
        cmocka_unit_test(test_pages_beside_kept_ones_are_seen),
        cmocka_unit_test(test_pages_in_place_of_kept_ones_are_seen),
        cmocka_unit_test(test_large_blocks_can_be_asked_for_a_byte),
        cmocka_unit_test(test_what_was_before),
        cmocka_unit_test(test_the_limit_is_told),
        cmocka_unit_test(test_guard_pages),
    };

    return pagewise_run("guest-ram", tests);
}

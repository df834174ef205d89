/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * loader/snapshot-load.[ch]: where a fault is served from, set-ups that are
 * refused or fail, unprivileged users, and loads one after the other.
 */
#define _GNU_SOURCE
#include "unit/lazy-support.h"
#include "unit/support.h"

#include <errno.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The mapping of addresses, without a kernel. */

static bool maps_to(const RAMBlock *blocks, uint64_t address, SnapshotPage wanted)
{
    SnapshotPage page;

    CHECK(snapshot_map_fault(blocks, 2, 0x1000, address, &page, NULL));
    CHECK(page.block == wanted.block && page.page == wanted.page);
    CHECK(page.offset == wanted.offset && page.first_bit == wanted.first_bit);
    CHECK(page.n_bits == wanted.n_bits && page.source == wanted.source);
    CHECK(page.file_offset == wanted.file_offset);
    return true;
}

static void test_map_fault(void **state)
{
    unsigned long small_bits[] = { 0x5, 0x1 };
    unsigned long large_bits[] = { 0xf0 | 0x100 };
    RAMBlock blocks[] = {
        { .host = (uint8_t *)0x100000,
          .used_length = 0x41000,
          .page_size = 0x1000,
          .in_file = true,
          .file_bmap = small_bits,
          .pages_offset = 0x7000 },
        { .host = (uint8_t *)0x200000,
          .used_length = 0xe000,
          .page_size = 0x4000,
          .in_file = true,
          .file_bmap = large_bits,
          .pages_offset = 0x500000 },
    };
    static const uint64_t outside[] = { 0, 0xfffff, 0x141000, 0x1fffff, 0x20c000, 0x20dfff, ~0UL };
    SnapshotPage page;

    (void)state;
    assert_true(maps_to(blocks, 0x100000, (SnapshotPage){ 0, 0, 0, 0, 1, SNAPSHOT_FILE, 0x7000 }));
    assert_true(
        maps_to(blocks, 0x101fff, (SnapshotPage){ 0, 1, 0x1000, 1, 1, SNAPSHOT_ZERO, 0x8000 }));
    assert_true(
        maps_to(blocks, 0x140001, (SnapshotPage){ 0, 64, 0x40000, 64, 1, SNAPSHOT_FILE, 0x47000 }));
    assert_true(
        maps_to(blocks, 0x203fff, (SnapshotPage){ 1, 0, 0, 0, 4, SNAPSHOT_ZERO, 0x500000 }));
    assert_true(
        maps_to(blocks, 0x204000, (SnapshotPage){ 1, 1, 0x4000, 4, 4, SNAPSHOT_FILE, 0x504000 }));
    assert_true(
        maps_to(blocks, 0x20bfff, (SnapshotPage){ 1, 2, 0x8000, 8, 4, SNAPSHOT_MIXED, 0x508000 }));
    for (unsigned i = 0; i < G_N_ELEMENTS(outside); i++) {
        g_autoptr(GError) error = NULL;

        assert_false(snapshot_map_fault(blocks, 2, 0x1000, outside[i], &page, &error));
        assert_true(g_error_matches(error, MAPPED_RAM_ERROR, MAPPED_RAM_ERROR_MISMATCH));
    }
    blocks[0].in_file = false;
    assert_false(snapshot_map_fault(blocks, 2, 0x1000, 0x100000, &page, NULL));
}

/* A target page of 16 KiB: each host page in it has a quarter. */
static void test_map_fault_of_large_target_pages(void **state)
{
    unsigned long bits = 0x2;
    RAMBlock block = { .host = (uint8_t *)0x100000,
                       .used_length = 0xc000,
                       .page_size = 0x1000,
                       .in_file = true,
                       .file_bmap = &bits,
                       .pages_offset = 0x10000 };
    SnapshotPage page;

    (void)state;
    assert_true(snapshot_map_fault(&block, 1, 0x4000, 0x106abc, &page, NULL));
    assert_int_equal(page.page, 6);
    assert_int_equal(page.first_bit, 1);
    assert_int_equal(page.n_bits, 1);
    assert_int_equal(page.source, SNAPSHOT_FILE);
    assert_int_equal(page.file_offset, 0x16000);
    assert_true(snapshot_map_fault(&block, 1, 0x4000, 0x108000, &page, NULL));
    assert_int_equal(page.source, SNAPSHOT_ZERO);
}

/* Set-up that fails. */

static bool fail_at(unsigned call, unsigned *calls)
{
    g_autoptr(LazyGuest) guest = lazy_guest_small();
    SnapshotLoadOptions options = { .map_fd = guest->fd, .eager_thread = true };
    g_autoptr(GError) error = NULL;
    Resources before = count_resources();
    SnapshotLoad *load;
    FailOps fail;

    fail_ops_init(&fail, call, ENOMEM);
    guest->mis.uffd_ops = &fail.ops;
    guest->block.used_length -= TEST_PAGE;
    load = snapshot_load_start(&guest->mis, &options, NULL, &error);
    if (load) {
        bool ok = check_ram(guest, 0, guest->what.used_length);

        /* Only what failed at the very end may be reported. */
        snapshot_load_end(load, NULL);
        CHECK(ok && check_ram(guest, 0, guest->what.used_length));
    } else {
        CHECK(error);
        CHECK(guest->block.used_length == guest->what.used_length - TEST_PAGE);
        CHECK(!guest->block.file_bmap && !guest->block.claimed_bmap && !guest->block.registered);
    }
    CHECK(fail_ops_all_unmapped(&fail));
    CHECK(resources_are(before));
    *calls = fail.calls;
    return true;
}

static bool body_setup_undo(void)
{
    unsigned calls;
    unsigned unused;

    CHECK(fail_at(0, &calls));
    CHECK(calls > 12);
    for (unsigned call = 1; call <= calls; call++) {
        CHECK(fail_at(call, &unused));
    }
    return true;
}

BOUNDED_TEST(test_setup_undo, body_setup_undo)

/* RAM that is not aligned to its own pages cannot be registered. */
static bool body_refused(void)
{
    g_autoptr(LazyGuest) guest = lazy_guest_small();
    SnapshotLoadOptions options = { .map_fd = -1 };
    g_autoptr(GError) error = NULL;

    guest->block.page_size = 0x200000;
    CHECK(!snapshot_load_start(&guest->mis, &options, NULL, &error));
    CHECK(strstr(error->message, "cannot be loaded lazily"));
    g_clear_error(&error);
    guest->block.page_size = TEST_PAGE;
    guest->mis.machine = "other";
    CHECK(!snapshot_load_start(&guest->mis, &options, NULL, &error));
    CHECK(strstr(error->message, "(rule C2"));
    return true;
}

BOUNDED_TEST(test_refusals, body_refused)

/* RAM that another userfaultfd has: EBUSY, and what was done is undone. */
static bool body_owned_by_another(void)
{
    g_autoptr(LazyGuest) guest = lazy_guest_small();
    SnapshotLoadOptions options = { .map_fd = -1 };
    g_autoptr(GError) error = NULL;
    Resources before;
    Uffd other;
    bool huge;

    CHECK(uffd_open(uffd_ops_real(), 0, 0, &other, NULL));
    CHECK(uffd_register(uffd_ops_real(), other.fd, guest->block.host + AT(8), TEST_PAGE, &huge,
                        NULL));
    before = count_resources();
    CHECK(!snapshot_load_start(&guest->mis, &options, NULL, &error));
    CHECK(strstr(error->message, "busy"));
    CHECK(resources_are(before));
    close(other.fd);
    return true;
}

BOUNDED_TEST(test_ram_of_another_userfaultfd, body_owned_by_another)

/*
 * An unprivileged user, as in the founding series' CI, whose tests were left
 * out in silence: UFFD_USER_MODE_ONLY must do, and says what it cannot do.
 */
static bool body_nobody(void)
{
    g_autoptr(LazyGuest) guest = lazy_guest_small();
    SnapshotLoad *load;
    int ends[2];

    if (getuid() == 0) {
        CHECK(syscall(SYS_setresgid, 65534, 65534, 65534) == 0);
        CHECK(syscall(SYS_setresuid, 65534, 65534, 65534) == 0);
    }
    load = lazy_guest_start(guest, false);
    CHECK(load && pipe(ends) == 0);
    fprintf(stderr, "as nobody: %s\n", uffd_method_describe(guest->mis.userfault_method));
    if (guest->mis.userfault_method == UFFD_METHOD_USER_MODE_ONLY) {
        CHECK(write(ends[1], guest->block.host + TEST_PAGE, 1) == -1 && errno == EFAULT);
    }
    CHECK(check_ram(guest, 0, guest->what.used_length));
    CHECK(write(ends[1], guest->block.host + TEST_PAGE, 1) == 1);
    CHECK(lazy_guest_end(load));
    close(ends[0]);
    close(ends[1]);
    return check_ram(guest, 0, guest->what.used_length);
}

BOUNDED_TEST(test_unprivileged, body_nobody)

/*
 * A block that the file leaves out (rule X2) is left alone: were it registered,
 * what it holds would be dropped, and read as zero.
 */
static bool body_block_left_out(void)
{
    g_autoptr(TestFile) file = test_file_new(NULL, true);
    SnapshotLoadOptions options = { .map_fd = -1 };
    MigrationIncomingState mis = { .target_page_size = TEST_PAGE, .x_ignore_shared = true };
    RAMBlock blocks[2];
    MemoryReader reader;
    SnapshotLoad *load;

    test_file_put_start(file, "none", AT(5));
    test_file_put_record(file, "ram", AT(3), 5);
    test_file_put_ignored(file, "shared", AT(2));
    test_file_put_end(file);
    memory_reader_init(&reader, file);
    test_block_init(&blocks[0], "ram", AT(3), AT(3));
    test_block_init(&blocks[1], "shared", AT(2), AT(2));
    mis.reader = &reader.reader;
    mis.blocks = blocks;
    mis.n_blocks = 2;
    load = snapshot_load_start(&mis, &options, NULL, NULL);
    CHECK(load && !blocks[1].registered);
    CHECK(blocks[1].host[0] == TEST_CANARY && blocks[1].host[AT(2) - 1] == TEST_CANARY);
    CHECK(snapshot_load_end(load, NULL));
    CHECK(blocks[0].host[0] == test_page_byte("ram", 0) && blocks[0].host[AT(1)] == 0);
    CHECK(blocks[1].host[0] == TEST_CANARY && blocks[1].host[AT(2) - 1] == TEST_CANARY);
    test_block_destroy(&blocks[0]);
    test_block_destroy(&blocks[1]);
    return true;
}

BOUNDED_TEST(test_block_that_is_left_out, body_block_left_out)

/* The same blocks again: nothing is left over from the load before. */
static bool body_again_and_again(void)
{
    g_autoptr(LazyGuest) guest = lazy_guest_small();
    Resources before = count_resources();

    for (unsigned i = 0; i < 50; i++) {
        SnapshotLoad *load;

        lazy_guest_fill(guest);
        load = lazy_guest_start(guest, i % 2);
        CHECK(load);
        CHECK(check_ram(guest, 0, i % AT(3)));
        CHECK(lazy_guest_end(load));
        CHECK(check_ram(guest, 0, guest->block.max_length));
    }
    CHECK(resources_are(before));
    return true;
}

BOUNDED_TEST(test_again_and_again, body_again_and_again)

/* Counts who is given what; the first member, as a method gets the table. */
typedef struct CountingOps {
    UffdOps ops;
    unsigned copies; /* atomic */
    unsigned zeropages;
} CountingOps;

static int counting_copy(const UffdOps *ops, int uffd, struct uffdio_copy *copy)
{
    __atomic_fetch_add(&((CountingOps *)ops)->copies, 1, __ATOMIC_RELAXED);
    return uffd_ops_real()->copy(ops, uffd, copy);
}

static int counting_zeropage(const UffdOps *ops, int uffd, struct uffdio_zeropage *zero)
{
    __atomic_fetch_add(&((CountingOps *)ops)->zeropages, 1, __ATOMIC_RELAXED);
    return uffd_ops_real()->zeropage(ops, uffd, zero);
}

static bool write_keeps_zeroes(const LazyGuest *guest, uint64_t page)
{
    uint8_t *byte = guest->block.host + AT(page) + 7;

    *(volatile uint8_t *)byte = 1;
    CHECK(*byte == 1);
    *byte = 0;
    return check_ram(guest, AT(page), AT(page + 1));
}

/*
 * Who reads a page of zeroes gets the kernel's own, which costs no memory; who
 * writes gets a copy at once, or a second fault would make it.
 */
static bool zeroes_for(RamKind ram)
{
    LazyCase what = small_case();
    g_autoptr(LazyGuest) guest = NULL;
    CountingOps counting = { .ops = *uffd_ops_real() };
    SnapshotLoad *load;

    what.ram = ram;
    what.bits = BITS_NONE;
    guest = lazy_guest_new(&what);
    counting.ops.copy = counting_copy;
    counting.ops.zeropage = counting_zeropage;
    guest->mis.uffd_ops = &counting.ops;
    load = lazy_guest_start(guest, false);
    CHECK(load);
    CHECK(check_ram(guest, AT(1), AT(2)));
    CHECK(counting.zeropages == 1 && counting.copies == 0);
    CHECK(write_keeps_zeroes(guest, 2) && write_keeps_zeroes(guest, 65));
    CHECK(counting.zeropages == 1 && counting.copies == 2);
    CHECK(check_ram(guest, AT(3), AT(4)));
    CHECK(write_keeps_zeroes(guest, 1) && write_keeps_zeroes(guest, 3));
    CHECK(counting.zeropages == 2 && counting.copies == 2);
    CHECK(lazy_guest_end(load));
    return guest->mis.faults == 4 && count_installed(guest, PAGE_BY_FAULT_THREAD) == 4;
}

static bool body_zeroes(void)
{
    return zeroes_for(RAM_ANONYMOUS) && zeroes_for(RAM_MEMFD);
}

BOUNDED_TEST(test_zeroes_for_who_reads_and_for_who_writes, body_zeroes)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_map_fault),
        cmocka_unit_test(test_map_fault_of_large_target_pages),
        cmocka_unit_test(test_setup_undo),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_ram_of_another_userfaultfd),
        cmocka_unit_test(test_unprivileged),
        cmocka_unit_test(test_block_that_is_left_out),
        cmocka_unit_test(test_again_and_again),
        cmocka_unit_test(test_zeroes_for_who_reads_and_for_who_writes),
    };

    return pagewise_run("snapshot-load", tests);
}

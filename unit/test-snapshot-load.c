/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * loader/snapshot-load.[ch]: whatever memory, page sizes, bits, threads and
 * order of touches, RAM is what the eager load makes of the file; and each
 * pitfall of userfaultfd that concerns a loader, provoked with gates at the
 * loader's named points. See lazy-support.h for what the file holds.
 */
#define _GNU_SOURCE
#include "unit/lazy-support.h"
#include "unit/support.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define MAX_THREADS 8

/* eager = lazy */

typedef enum TouchOrder {
    TOUCH_FORWARD,
    TOUCH_BACKWARD,
    TOUCH_RANDOM,
    TOUCH_ONE_PAGE, /* all threads the same one */
    N_TOUCH_ORDERS,
} TouchOrder;

typedef struct Walk {
    TouchOrder order;
    unsigned number; /* of the thread */
    uint64_t step;   /* bytes */
    uint64_t length; /* of RAM, bytes */
    LazyGuest *guest;
    pthread_t thread;
    bool ok;
} Walk;

static uint64_t nth_page(const Walk *walk, uint64_t n, uint64_t pages)
{
    switch (walk->order) {
    case TOUCH_FORWARD:
        return n;
    case TOUCH_BACKWARD:
        return pages - 1 - n;
    case TOUCH_RANDOM:
        /* 1009 is prime: each page once, as long as there are not 1009 k of them. */
        return (n * 1009 + walk->number * UINT64_C(37)) % pages;
    default:
        return pages / 2;
    }
}

/*
 * What the thread finds must be right when it finds it; then it leaves its mark
 * in a byte of its own, which must still be there in the end.
 */
static void *walk_ram(void *opaque)
{
    Walk *walk = opaque;
    uint64_t pages = (walk->length + walk->step - 1) / walk->step;

    walk->ok = true;
    for (uint64_t n = 0; n < pages && walk->ok; n++) {
        uint64_t offset = nth_page(walk, n, pages) * walk->step;
        uint64_t end = MIN(offset + walk->step, walk->length);

        walk->ok = check_ram(walk->guest, offset + MAX_THREADS, end);
        walk->guest->block.host[offset + walk->number] = (uint8_t)(1 + walk->number);
    }
    return NULL;
}

/* What the threads leave behind, over what RAM was. */
static void put_marks(uint8_t *ram, const Walk *walk, unsigned threads)
{
    uint64_t pages = (walk->length + walk->step - 1) / walk->step;

    for (uint64_t page = 0; page < pages; page++) {
        for (unsigned i = 0; i < threads; i++) {
            if (walk->order != TOUCH_ONE_PAGE || page == pages / 2) {
                ram[page * walk->step + i] = (uint8_t)(1 + i);
            }
        }
    }
}

/* After the load, beyond used_length as well. */
static bool check_end(const LazyGuest *guest, const Walk *walk, unsigned threads)
{
    g_autofree uint8_t *wanted = g_memdup2(guest->wanted, guest->block.max_length);

    put_marks(wanted, walk, threads);
    return same_bytes(guest->block.host, wanted, guest->block.max_length);
}

/* The proof that the lazy path was taken, and by whom. */
static bool check_installers(const LazyGuest *guest, const Walk *walk, unsigned threads,
                             bool eager_thread)
{
    uint64_t pages = host_pages(guest);

    CHECK(count_installed(guest, PAGE_WAS_PRESENT) == 0);
    CHECK(count_installed(guest, PAGE_POISONED) == 0);
    CHECK(count_installed(guest, PAGE_DISCARDED) == 0);
    for (uint64_t page = 0; page < pages; page++) {
        CHECK(!page_has_data(&guest->block, page) ||
              ramblock_recv_bitmap_test(&guest->block, page));
    }
    if (threads == 0) {
        CHECK(guest->mis.faults == 0 && count_installed(guest, PAGE_BY_FAULT_THREAD) == 0);
    } else if (!eager_thread && pages > 0) {
        CHECK(guest->mis.faults > 0);
        CHECK(walk->order == TOUCH_ONE_PAGE
                  ? count_installed(guest, PAGE_BY_FAULT_THREAD) > 0
                  : count_installed(guest, PAGE_BY_FAULT_THREAD) == pages);
    }
    return true;
}

static bool load_lazily(LazyGuest *guest, TouchOrder order, unsigned threads, bool eager_thread)
{
    Walk walks[MAX_THREADS];
    SnapshotLoad *load;
    bool ok = true;

    lazy_guest_fill(guest);
    load = lazy_guest_start(guest, eager_thread);
    CHECK(load);
    for (unsigned i = 0; i < MAX_THREADS; i++) {
        walks[i] = (Walk){
            .order = order,
            .number = i,
            .step = MIN(guest->block.page_size, guest->what.target_page_size * 16),
            .length = guest->what.used_length,
            .guest = guest,
        };
    }
    for (unsigned i = 0; i < threads; i++) {
        pthread_create(&walks[i].thread, NULL, walk_ram, &walks[i]);
    }
    for (unsigned i = 0; i < threads; i++) {
        pthread_join(walks[i].thread, NULL);
        ok &= walks[i].ok;
    }
    CHECK(ok);
    CHECK(lazy_guest_end(load));
    return check_end(guest, walks, threads) &&
           check_installers(guest, walks, threads, eager_thread);
}

/* What the lazy loads are compared with is what the eager one makes of it. */
static bool load_eagerly(LazyGuest *guest)
{
    CHECK(mapped_ram_load(&guest->mis, LOAD_WHOLE, NULL, NULL));
    return check_ram(guest, 0, guest->block.max_length);
}

static bool load_in_all_orders(const LazyCase *what, bool eager_thread)
{
    static const unsigned counts[] = { 1, MAX_THREADS };
    g_autoptr(LazyGuest) guest = lazy_guest_new(what);
    bool ok = load_eagerly(guest) && load_lazily(guest, TOUCH_FORWARD, 0, eager_thread);

    for (unsigned i = 0; i < 2 * N_TOUCH_ORDERS && ok; i++) {
        ok = load_lazily(guest, i / 2, counts[i % 2], eager_thread);
    }
    return ok;
}

/* All bits, RAM before the load, eager thread or none; from both sources. */
static bool load_all_of(RamKind ram, uint64_t target_page_size, uint64_t used_length)
{
    for (unsigned i = 0; i < N_BIT_PATTERNS * 4; i++) {
        LazyCase what = {
            .ram = ram,
            .target_page_size = target_page_size,
            .used_length = used_length,
            .bits = i / 4,
            .before = i & 1,
            .mapped = (i / 4 + i / 2 + i) & 1,
        };

        if (!load_in_all_orders(&what, i & 2)) {
            fprintf(stderr, "... with %s memory, target page %lu, bits %d, %s before, %s, %s\n",
                    ram_kind_name(ram), (unsigned long)target_page_size, what.bits,
                    what.before ? "pattern" : "zero", what.mapped ? "mapped" : "read",
                    i & 2 ? "eager thread" : "no eager thread");
            return false;
        }
    }
    return true;
}

/*
 * Three sizes of target pages against 4 KiB host pages: smaller, so that host
 * pages are put together and the last one is loaded at once; equal; larger.
 */
static bool body_anonymous_small(void)
{
    return load_all_of(RAM_ANONYMOUS, 0x400, UINT64_C(67) * 0x400);
}

static bool body_anonymous(void)
{
    return load_all_of(RAM_ANONYMOUS, 0x1000, UINT64_C(67) * 0x1000);
}

static bool body_anonymous_large(void)
{
    return load_all_of(RAM_ANONYMOUS, 0x10000, UINT64_C(5) * 0x10000);
}

static bool body_memfd_small(void)
{
    return load_all_of(RAM_MEMFD, 0x400, UINT64_C(67) * 0x400);
}

static bool body_memfd(void)
{
    return load_all_of(RAM_MEMFD, 0x1000, UINT64_C(67) * 0x1000);
}

static bool body_memfd_large(void)
{
    return load_all_of(RAM_MEMFD, 0x10000, UINT64_C(5) * 0x10000);
}

static void test_lazy_is_eager_anonymous(void **state)
{
    (void)state;
    require_uffd();
    run_bounded(body_anonymous_small);
    run_bounded(body_anonymous);
    run_bounded(body_anonymous_large);
}

static void test_lazy_is_eager_memfd(void **state)
{
    (void)state;
    require_uffd();
    run_bounded(body_memfd_small);
    run_bounded(body_memfd);
    run_bounded(body_memfd_large);
}

/* Two huge pages and a half: the half is loaded when the load begins. */
static bool load_huge(unsigned threads, bool eager_thread)
{
    for (unsigned bits = 0; bits < N_BIT_PATTERNS; bits++) {
        LazyCase what = {
            .ram = RAM_HUGETLB,
            .target_page_size = 0x1000,
            .used_length = 0x500000,
            .bits = bits,
            .before = true,
            .mapped = bits % 2,
        };
        g_autoptr(LazyGuest) guest = lazy_guest_new(&what);

        CHECK(load_eagerly(guest));
        CHECK(load_lazily(guest, bits % N_TOUCH_ORDERS, threads, eager_thread));
    }
    return true;
}

static bool body_hugetlb(void)
{
    return load_huge(0, false) && load_huge(2, false) && load_huge(2, true);
}

static void test_lazy_is_eager_hugetlb(void **state)
{
    LazyCase what = small_case();
    g_autoptr(LazyGuest) guest = NULL;

    (void)state;
    require_uffd();
    what.ram = RAM_HUGETLB;
    what.used_length = 0x500000;
    what.target_page_size = 0x1000;
    guest = lazy_guest_new(&what);
    pagewise_skip_unless(guest, "hugetlb", "no 2 MiB pages in the pool",
                         "echo 4 > /proc/sys/vm/nr_hugepages");
    g_clear_pointer(&guest, lazy_guest_free);
    run_bounded(body_hugetlb);
}

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
    LazyCase what = small_case();
    g_autoptr(LazyGuest) guest = lazy_guest_new(&what);
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
        bool ok = check_ram(guest, 0, what.used_length);

        /* Only what failed at the very end may be reported. */
        snapshot_load_end(load, NULL);
        CHECK(ok && check_ram(guest, 0, what.used_length));
    } else {
        CHECK(error);
        CHECK(guest->block.used_length == what.used_length - TEST_PAGE);
        CHECK(!guest->block.file_bmap && !guest->block.pending_bmap && !guest->block.registered);
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

static void test_setup_undo(void **state)
{
    (void)state;
    require_uffd();
    run_bounded(body_setup_undo);
}

/* RAM that is not aligned to its own pages cannot be registered. */
static bool body_refused(void)
{
    LazyCase what = small_case();
    g_autoptr(LazyGuest) guest = lazy_guest_new(&what);
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

static void test_refusals(void **state)
{
    (void)state;
    require_uffd();
    run_bounded(body_refused);
}

/* RAM that another userfaultfd has: EBUSY, and what was done is undone. */
static bool body_owned_by_another(void)
{
    LazyCase what = small_case();
    g_autoptr(LazyGuest) guest = lazy_guest_new(&what);
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

static void test_ram_of_another_userfaultfd(void **state)
{
    (void)state;
    require_uffd();
    run_bounded(body_owned_by_another);
}

/* Files that fail. */

static bool touch_gives(const LazyGuest *guest, uint64_t page, int wanted)
{
    uint64_t offset = page * guest->block.page_size;
    uint8_t value = 0;
    int number;

    touch_survives(guest->block.host + offset, &value, &number);
    if (number != wanted || (!wanted && value != guest->wanted[offset])) {
        fprintf(stderr, "page %lu gives signal %d, not %d, byte 0x%02x\n", (unsigned long)page,
                number, wanted, value);
        return false;
    }
    return true;
}

static bool ends_with_error(SnapshotLoad *load, const char *words)
{
    g_autoptr(GError) error = NULL;

    CHECK(!snapshot_load_end(load, &error));
    if (!strstr(error->message, words)) {
        fprintf(stderr, "not in the message: %s: %s\n", words, error->message);
        return false;
    }
    return true;
}

/*
 * The file gets shorter after its header was read, and a thread touches pages
 * that it has lost.
 */
static bool truncated_at(bool mapped, uint64_t offset_in_pages)
{
    LazyCase what = small_case();
    g_autoptr(LazyGuest) guest = NULL;
    Resources before;
    SnapshotLoad *load;

    what.bits = BITS_ALL;
    what.mapped = mapped;
    guest = lazy_guest_new(&what);
    before = count_resources();
    load = lazy_guest_start(guest, false);
    CHECK(load);
    CHECK(touch_gives(guest, 0, 0));
    CHECK(ftruncate(guest->fd, (off_t)(guest->file_pages + offset_in_pages)) == 0);
    CHECK(touch_gives(guest, 32, SIGBUS));
    /* And the rest; what was loaded before stays. */
    CHECK(touch_gives(guest, 66, SIGBUS));
    CHECK(touch_gives(guest, 0, 0));
    CHECK(ends_with_error(load, "(rule P1)"));
    CHECK(touch_gives(guest, 32, SIGBUS));
    CHECK(touch_gives(guest, 66, SIGBUS));
    CHECK(resources_are(before));
    return true;
}

static bool body_truncated(void)
{
    return truncated_at(true, 0) && truncated_at(false, 0) && truncated_at(true, AT(32) + 1000) &&
           truncated_at(false, AT(32) + 1000) && truncated_at(true, AT(33) - 1);
}

static void test_truncated_file(void **state)
{
    (void)state;
    require_uffd();
    run_bounded(body_truncated);
}

/*
 * The eager thread meets it, with nobody waiting. Where COPY meets the hole in
 * the mapping it says EFAULT; in the page where the file ends now, what stands
 * behind the end reads as zero, and only a look at the size tells. Afterwards
 * all from the run on in which the file ended is poisoned.
 */
static bool truncated_before_eager(BitPattern bits, uint64_t left, bool mapped)
{
    LazyCase what = small_case();
    g_autoptr(LazyGuest) guest = NULL;
    SnapshotLoad *load;
    Gate gate;

    what.bits = bits;
    what.mapped = mapped;
    guest = lazy_guest_new(&what);
    gate_init(&gate, guest, LAZY_POINT_EAGER_NEXT, LAZY_EAGER_THREAD, bits == BITS_ALL ? 0 : 1);
    load = lazy_guest_start(guest, true);
    CHECK(load);
    gate_wait(&gate);
    CHECK(ftruncate(guest->fd, (off_t)(guest->file_pages + left)) == 0);
    gate_open(&gate);
    snapshot_load_wait(load);
    CHECK(touch_gives(guest, 65, SIGBUS));
    CHECK(touch_gives(guest, left / TEST_PAGE | 1, SIGBUS));
    /* A page without content is still what it has to be. */
    CHECK(bits == BITS_ALL || touch_gives(guest, 2, 0));
    return ends_with_error(load, "(rule P1)");
}

static bool body_truncated_before_eager(void)
{
    for (unsigned mapped = 0; mapped < 2; mapped++) {
        CHECK(truncated_before_eager(BITS_ALTERNATING, 0, mapped));
        CHECK(truncated_before_eager(BITS_ALTERNATING, AT(1) + 100, mapped));
        CHECK(truncated_before_eager(BITS_ALL, 0, mapped));
        CHECK(truncated_before_eager(BITS_ALL, AT(1) + 100, mapped));
        CHECK(truncated_before_eager(BITS_ALL, AT(2) - 1, mapped));
    }
    return true;
}

/* Between the look at the size and the copy. */
static bool truncated_between(uint64_t left, const char *words, int number)
{
    LazyCase what = small_case();
    g_autoptr(LazyGuest) guest = lazy_guest_new(&what);
    SnapshotLoad *load;
    Gate gate;

    gate_init(&gate, guest, LAZY_POINT_READ, LAZY_EAGER_THREAD, 65);
    load = lazy_guest_start(guest, true);
    CHECK(load);
    gate_wait(&gate);
    CHECK(ftruncate(guest->fd, (off_t)(guest->file_pages + left)) == 0);
    gate_open(&gate);
    CHECK(ends_with_error(load, words));
    return touch_gives(guest, 64, 0) && (!number || touch_gives(guest, 65, number));
}

static bool body_truncated_between(void)
{
    /* EFAULT; then reading it tells what is wrong. */
    CHECK(truncated_between(AT(65), "need 0x1000 bytes, but the file ends", SIGBUS));
    /* Zeroes in place of data, but not in silence. */
    CHECK(truncated_between(AT(65) + 100, "got shorter", 0));
    return true;
}

static void test_file_truncated_beside_the_load(void **state)
{
    (void)state;
    require_uffd();
    run_bounded(body_truncated_before_eager);
    run_bounded(body_truncated_between);
}

typedef struct BadReader {
    FileReader reader;
    FileReader *good;
    uint64_t bad_from; /* file offset from which on reads fail */
} BadReader;

static ssize_t bad_pread(FileReader *reader, void *buffer, size_t length, uint64_t offset)
{
    BadReader *self = (BadReader *)reader;

    if (offset + length > self->bad_from) {
        return -EIO;
    }
    return self->good->pread(self->good, buffer, length, offset);
}

/*
 * The pending bit is cleared before the read: after an error the page must not
 * belong to nobody, or the next to touch it waits for ever.
 */
static bool io_error(bool eager_thread, uint64_t target_page_size)
{
    LazyCase what = small_case();
    g_autoptr(LazyGuest) guest = NULL;
    BadReader bad;
    SnapshotLoad *load;

    what.mapped = false;
    what.target_page_size = target_page_size;
    guest = lazy_guest_new(&what);
    bad = (BadReader){
        .reader = { .pread = bad_pread, .size = guest->reader.reader.size },
        .good = &guest->reader.reader,
        .bad_from = UINT64_MAX, /* until all headers are read */
    };
    guest->mis.reader = &bad.reader;
    load = lazy_guest_start(guest, false);
    CHECK(load);
    CHECK(touch_gives(guest, 1, 0));
    bad.bad_from = guest->file_pages + 0x10000;
    if (eager_thread) {
        snapshot_load_wait(load);
    }
    for (uint64_t page = 17; page < host_pages(guest); page++) {
        CHECK(touch_gives(guest, page, page_has_data(&guest->block, page) ? SIGBUS : 0));
        CHECK(touch_gives(guest, page, page_has_data(&guest->block, page) ? SIGBUS : 0));
    }
    return ends_with_error(load, "reading failed: Input/output error");
}

static bool body_io_error(void)
{
    return io_error(false, 0x1000) && io_error(true, 0x1000) && io_error(false, 0x800);
}

static void test_io_error(void **state)
{
    (void)state;
    require_uffd();
    run_bounded(body_io_error);
}

static ssize_t read_fails(const UffdOps *ops, int uffd, struct uffd_msg *messages, size_t length)
{
    (void)ops;
    (void)uffd;
    (void)messages;
    (void)length;
    return -EIO;
}

/*
 * The fault thread has to leave. Nobody would answer the next fault, not even
 * one on a page without content.
 */
static bool fault_thread_dies(uint64_t page)
{
    LazyCase what = small_case();
    g_autoptr(LazyGuest) guest = lazy_guest_new(&what);
    UffdOps ops = *uffd_ops_real();
    SnapshotLoad *load;

    ops.read = read_fails;
    guest->mis.uffd_ops = &ops;
    load = lazy_guest_start(guest, false);
    CHECK(load);
    CHECK(touch_gives(guest, page, SIGBUS));
    CHECK(touch_gives(guest, 40, SIGBUS) && touch_gives(guest, 41, SIGBUS));
    CHECK(ends_with_error(load, "reading from userfaultfd: Input/output error"));
    return touch_gives(guest, page, SIGBUS);
}

static bool body_fault_thread_dies(void)
{
    return fault_thread_dies(3) && fault_thread_dies(4);
}

static void test_fault_thread_has_to_leave(void **state)
{
    (void)state;
    require_uffd();
    run_bounded(body_fault_thread_dies);
}

/* A system call on a poisoned page: EFAULT, not zeroes. */
static bool body_syscall_on_poison(void)
{
    LazyCase what = small_case();
    g_autoptr(LazyGuest) guest = lazy_guest_new(&what);
    SnapshotLoad *load = lazy_guest_start(guest, false);
    char byte;
    int ends[2];

    CHECK(load && pipe(ends) == 0);
    CHECK(ftruncate(guest->fd, (off_t)guest->file_pages) == 0);
    CHECK(touch_gives(guest, 1, SIGBUS));
    CHECK(write(ends[1], guest->block.host + TEST_PAGE, 1) == -1 && errno == EFAULT);
    CHECK(ends_with_error(load, "(rule P1)"));
    CHECK(write(ends[1], guest->block.host + TEST_PAGE, 1) == -1 && errno == EFAULT);
    CHECK(write(ends[1], guest->block.host, 1) == 1 && read(ends[0], &byte, 1) == 1);
    CHECK(byte == 0);
    close(ends[0]);
    close(ends[1]);
    return true;
}

static void test_system_calls_on_poison(void **state)
{
    (void)state;
    require_uffd();
    run_bounded(body_syscall_on_poison);
}

/*
 * A fault's message is read, then the load fails elsewhere and poisons the
 * page; whoever answers the message then must not put zeroes over the poison.
 */
static bool body_stale_message_after_poison(void)
{
    LazyCase what = small_case();
    g_autoptr(LazyGuest) guest = lazy_guest_new(&what);
    Toucher toucher = { .guest = guest, .offset = TEST_PAGE };
    SnapshotLoad *load;
    Gate gate;

    gate_init(&gate, guest, LAZY_POINT_FAULT, LAZY_FAULT_THREAD, 1);
    load = lazy_guest_start(guest, false);
    CHECK(load);
    toucher_start(&toucher);
    gate_wait(&gate);
    snapshot_load_cancel(load);
    toucher_join(&toucher);
    CHECK(toucher.signal == SIGBUS);
    gate_open(&gate);
    g_usleep(2000);
    CHECK(touch_gives(guest, 1, SIGBUS));
    CHECK(ends_with_error(load, "cancelled"));
    CHECK(touch_gives(guest, 1, SIGBUS));
    return true;
}

static void test_stale_message_after_poison(void **state)
{
    (void)state;
    require_uffd();
    run_bounded(body_stale_message_after_poison);
}

/* Poisoned by the one thread while the other has it claimed. */
static bool cancelled_at(LazyPoint point, int wanted)
{
    LazyCase what = small_case();
    g_autoptr(LazyGuest) guest = lazy_guest_new(&what);
    Toucher toucher = { .guest = guest, .offset = TEST_PAGE };
    SnapshotLoad *load;
    Gate gate;

    gate_init(&gate, guest, point, LAZY_EAGER_THREAD, 1);
    load = lazy_guest_start(guest, true);
    CHECK(load);
    gate_wait(&gate);
    toucher_start(&toucher);
    toucher_wait_asleep(&toucher);
    snapshot_load_cancel(load);
    gate_open(&gate);
    toucher_join(&toucher);
    CHECK(toucher.signal == wanted);
    CHECK(ends_with_error(load, "cancelled"));
    return touch_gives(guest, 3, SIGBUS) && touch_gives(guest, 1, wanted);
}

static bool body_cancelled(void)
{
    return cancelled_at(LAZY_POINT_CLAIMED, SIGBUS) && cancelled_at(LAZY_POINT_READ, 0);
}

static void test_cancelled_beside_the_eager_thread(void **state)
{
    (void)state;
    require_uffd();
    run_bounded(body_cancelled);
}

/* Who places a page. */

/*
 * A fault on a page that the eager thread has claimed: the handler leaves it,
 * and the eager thread's copy has to wake who waits. Held at each point.
 */
static bool fault_while_eager_at(LazyPoint point)
{
    LazyCase what = small_case();
    g_autoptr(LazyGuest) guest = lazy_guest_new(&what);
    Toucher toucher = { .guest = guest, .offset = AT(5) };
    SnapshotLoad *load;
    Gate gate;

    gate_init(&gate, guest, point, LAZY_EAGER_THREAD, 5);
    load = lazy_guest_start(guest, true);
    CHECK(load);
    gate_wait(&gate);
    toucher_start(&toucher);
    if (point == LAZY_POINT_CLAIMED || point == LAZY_POINT_READ) {
        toucher_wait_asleep(&toucher);
    } else {
        toucher_join(&toucher);
    }
    gate_open(&gate);
    if (point == LAZY_POINT_CLAIMED || point == LAZY_POINT_READ) {
        toucher_join(&toucher);
    }
    CHECK(toucher.value == guest->wanted[AT(5)]);
    CHECK(lazy_guest_end(load));
    CHECK(page_installer(&guest->block, 5) == PAGE_BY_EAGER_THREAD);
    return check_ram(guest, 0, what.used_length);
}

static bool body_fault_while_eager(void)
{
    return fault_while_eager_at(LAZY_POINT_CLAIMED) && fault_while_eager_at(LAZY_POINT_READ) &&
           fault_while_eager_at(LAZY_POINT_PLACED) && fault_while_eager_at(LAZY_POINT_RECEIVED);
}

static void test_fault_on_a_page_of_the_eager_thread(void **state)
{
    (void)state;
    require_uffd();
    run_bounded(body_fault_while_eager);
}

/* The reverse: the page of a fault is not loaded a second time, nor waited for. */
static bool body_eager_while_fault(void)
{
    LazyCase what = small_case();
    g_autoptr(LazyGuest) guest = lazy_guest_new(&what);
    Toucher toucher = { .guest = guest, .offset = AT(5) };
    SnapshotLoad *load;
    Gate gate;

    gate_init(&gate, guest, LAZY_POINT_READ, LAZY_FAULT_THREAD, 5);
    load = lazy_guest_start(guest, false);
    CHECK(load);
    toucher_start(&toucher);
    gate_wait(&gate);
    snapshot_load_wait(load);
    CHECK(page_installer(&guest->block, 7) == PAGE_BY_EAGER_THREAD);
    CHECK(!ramblock_recv_bitmap_test(&guest->block, 5));
    gate_open(&gate);
    toucher_join(&toucher);
    CHECK(lazy_guest_end(load));
    CHECK(page_installer(&guest->block, 5) == PAGE_BY_FAULT_THREAD);
    return check_ram(guest, 0, what.used_length);
}

/*
 * Unregistering before every claimed load has finished is silent corruption.
 * The end comes while the fault thread is about to copy.
 */
static void end_load(Toucher *self)
{
    self->value = lazy_guest_end(self->guest->mis.page_fault_opaque);
}

static bool body_end_while_fault(void)
{
    LazyCase what = small_case();
    g_autoptr(LazyGuest) guest = lazy_guest_new(&what);
    Toucher toucher = { .guest = guest, .offset = AT(5) };
    Toucher end = { .guest = guest, .body = end_load };
    SnapshotLoad *load;
    Gate gate;

    gate_init(&gate, guest, LAZY_POINT_READ, LAZY_FAULT_THREAD, 5);
    load = lazy_guest_start(guest, false);
    CHECK(load);
    toucher_start(&toucher);
    gate_wait(&gate);
    toucher_start(&end);
    toucher_wait_asleep(&end);
    CHECK(!toucher_is_done(&end) && !toucher_is_done(&toucher));
    CHECK(gate_passed(&gate, LAZY_POINT_BEFORE_QUIT) == 1);
    CHECK(gate_passed(&gate, LAZY_POINT_BEFORE_UNREGISTER) == 0);
    gate_open(&gate);
    toucher_join(&toucher);
    toucher_join(&end);
    CHECK(end.value);
    CHECK(toucher.value == guest->wanted[AT(5)]);
    return check_ram(guest, 0, what.used_length);
}

static void test_claims_of_the_fault_thread_are_respected(void **state)
{
    (void)state;
    require_uffd();
    run_bounded(body_eager_while_fault);
    run_bounded(body_end_while_fault);
}

/*
 * A fault (or a madvise() below) after the fault thread has left and before
 * UNREGISTER: nobody serves it. It can only be of a page without content, and
 * UNREGISTER gives zeroes.
 */
static void touch_at_unregister(void *opaque, LazyPoint point, LazyThread thread, RAMBlock *rb,
                                uint64_t page)
{
    Toucher *toucher = opaque;

    (void)thread;
    (void)rb;
    (void)page;
    if (point == LAZY_POINT_BEFORE_UNREGISTER) {
        toucher_start(toucher);
        toucher_wait_asleep(toucher);
    }
}

static bool body_fault_after_quit(void)
{
    LazyCase what = small_case();
    g_autoptr(LazyGuest) guest = lazy_guest_new(&what);
    Toucher toucher = { .guest = guest, .offset = AT(4), .value = 1 };
    SnapshotLoad *load;

    guest->mis.at_point = touch_at_unregister;
    guest->mis.at_point_opaque = &toucher;
    load = lazy_guest_start(guest, false);
    CHECK(load && lazy_guest_end(load));
    toucher_join(&toucher);
    CHECK(toucher.signal == 0 && toucher.value == 0);
    return check_ram(guest, 0, what.used_length);
}

static void test_fault_between_quit_and_unregister(void **state)
{
    (void)state;
    require_uffd();
    run_bounded(body_fault_after_quit);
}

/* What lies around a fault is what the eager thread loads next. */
static bool body_neighbours(void)
{
    LazyCase what = small_case();
    g_autoptr(LazyGuest) guest = NULL;
    SnapshotLoad *load;
    Gate gate;

    what.bits = BITS_ALL;
    what.used_length = AT(256);
    guest = lazy_guest_new(&what);
    gate_init(&gate, guest, LAZY_POINT_EAGER_NEXT, LAZY_EAGER_THREAD, 0);
    load = lazy_guest_start(guest, true);
    CHECK(load);
    gate_wait(&gate);
    CHECK(touch_gives(guest, 200, 0));
    gate_open(&gate);
    CHECK(lazy_guest_end(load));
    CHECK(gate.eager[0] == 0 && gate.eager[1] == 200 && gate.eager[2] == 64);
    CHECK(page_installer(&guest->block, 200) == PAGE_BY_FAULT_THREAD);
    return check_ram(guest, 0, what.used_length);
}

static void test_neighbours_of_a_fault_are_next(void **state)
{
    (void)state;
    require_uffd();
    run_bounded(body_neighbours);
}

/*
 * Somebody else puts the page there, through another mapping of the same
 * memory, while the handler reads it: COPY says EEXIST, which is not fatal,
 * and wakes nobody, which must be made good.
 */
static bool body_eexist(void)
{
    LazyCase what = small_case();
    g_autoptr(LazyGuest) guest = NULL;
    Toucher toucher = { .offset = AT(5) };
    SnapshotLoad *load;
    uint8_t *other;
    Gate gate;

    what.ram = RAM_MEMFD;
    guest = lazy_guest_new(&what);
    toucher.guest = guest;
    gate_init(&gate, guest, LAZY_POINT_READ, LAZY_FAULT_THREAD, 5);
    load = lazy_guest_start(guest, false);
    CHECK(load);
    other = mremap(guest->block.host, 0, guest->map_length, MREMAP_MAYMOVE);
    CHECK(other != MAP_FAILED);
    toucher_start(&toucher);
    gate_wait(&gate);
    other[AT(5)] = 0x77;
    gate_open(&gate);
    toucher_join(&toucher);
    CHECK(toucher.value == 0x77);
    CHECK(lazy_guest_end(load));
    CHECK(page_installer(&guest->block, 5) == PAGE_WAS_PRESENT);
    CHECK(check_ram(guest, AT(6), what.used_length));
    CHECK(munmap(other, guest->map_length) == 0);
    return true;
}

static void test_eexist_is_not_fatal_and_wakes(void **state)
{
    (void)state;
    require_uffd();
    run_bounded(body_eexist);
}

/* The kernel stops within a run: the copy goes on where it stopped. */
static int copy_one_page(const UffdOps *ops, int uffd, struct uffdio_copy *copy)
{
    uint64_t length = copy->len;
    int result;

    copy->len = MIN(length, TEST_PAGE);
    result = uffd_ops_real()->copy(ops, uffd, copy);
    copy->len = length;
    return result == 0 && length > TEST_PAGE ? -EAGAIN : result;
}

static bool body_partial_copy(void)
{
    LazyCase what = small_case();
    g_autoptr(LazyGuest) guest = NULL;
    UffdOps ops = *uffd_ops_real();
    SnapshotLoad *load;

    what.bits = BITS_ALL;
    guest = lazy_guest_new(&what);
    ops.copy = copy_one_page;
    guest->mis.uffd_ops = &ops;
    load = lazy_guest_start(guest, true);
    CHECK(load);
    CHECK(check_ram(guest, 0, what.used_length));
    CHECK(lazy_guest_end(load));
    CHECK(count_installed(guest, PAGE_WAS_PRESENT) == 0);
    return true;
}

static void test_partial_copy_is_resumed(void **state)
{
    (void)state;
    require_uffd();
    run_bounded(body_partial_copy);
}

/* RAM vanishes under the load: ENOENT, an error; who waited wakes (SIGSEGV). */
static bool body_unmapped(void)
{
    LazyCase what = small_case();
    g_autoptr(LazyGuest) guest = lazy_guest_new(&what);
    Toucher toucher = { .guest = guest, .offset = AT(5) };
    SnapshotLoad *load;
    Gate gate;

    gate_init(&gate, guest, LAZY_POINT_READ, LAZY_FAULT_THREAD, 5);
    load = lazy_guest_start(guest, false);
    CHECK(load);
    toucher_start(&toucher);
    gate_wait(&gate);
    CHECK(munmap(guest->block.host + AT(4), AT(2)) == 0);
    gate_open(&gate);
    toucher_join(&toucher);
    CHECK(toucher.signal == SIGSEGV);
    return ends_with_error(load, "cannot be placed: No such file or directory");
}

static void test_ram_is_unmapped(void **state)
{
    (void)state;
    require_uffd();
    run_bounded(body_unmapped);
}

/*
 * A signal while the thread waits for its page: the fault is begun again after
 * the signal's handler, and the kernel reports it twice.
 */
static void on_sigusr1(int number)
{
    (void)number;
}

static bool body_signal_in_fault(void)
{
    struct sigaction action = { .sa_handler = on_sigusr1, .sa_flags = SA_RESTART };
    LazyCase what = small_case();
    g_autoptr(LazyGuest) guest = lazy_guest_new(&what);
    Toucher toucher = { .guest = guest, .offset = AT(5) };
    SnapshotLoad *load;
    Gate gate;

    sigaction(SIGUSR1, &action, NULL);
    gate_init(&gate, guest, LAZY_POINT_READ, LAZY_FAULT_THREAD, 5);
    load = lazy_guest_start(guest, false);
    CHECK(load);
    toucher_start(&toucher);
    gate_wait(&gate);
    for (unsigned i = 0; i < 5; i++) {
        pthread_kill(toucher.thread, SIGUSR1);
        g_usleep(1000);
    }
    gate_open(&gate);
    toucher_join(&toucher);
    CHECK(toucher.value == guest->wanted[AT(5)]);
    CHECK(lazy_guest_end(load));
    return check_ram(guest, 0, what.used_length);
}

static void test_signal_in_the_middle_of_a_fault(void **state)
{
    (void)state;
    require_uffd();
    run_bounded(body_signal_in_fault);
}

/* Discards. */

static bool discard(LazyGuest *guest, uint64_t page, uint64_t n_pages)
{
    return postcopy_discard_range(&guest->mis, &guest->block, AT(page), AT(n_pages), NULL);
}

static bool reads_zero(const LazyGuest *guest, uint64_t page)
{
    for (uint64_t i = 0; i < TEST_PAGE; i++) {
        CHECK(guest->block.host[AT(page) + i] == 0);
    }
    return true;
}

/*
 * A page that the balloon took comes back as zero. A loader that answers from
 * the file again, or has not loaded the page yet and does so later, brings
 * stale data back, which the guest takes for its own.
 */
static bool discards_of(RamKind ram)
{
    LazyCase what = small_case();
    g_autoptr(LazyGuest) guest = NULL;
    SnapshotLoad *load;

    what.ram = ram;
    what.bits = BITS_ALL;
    guest = lazy_guest_new(&what);
    load = lazy_guest_start(guest, false);
    CHECK(load);
    /* Not loaded yet; loaded by a fault; by its cluster; written to. */
    CHECK(discard(guest, 40, 2));
    CHECK(touch_gives(guest, 0, 0));
    guest->block.host[0] = 1;
    CHECK(discard(guest, 0, 3));
    CHECK(reads_zero(guest, 0) && reads_zero(guest, 1) && reads_zero(guest, 2));
    CHECK(reads_zero(guest, 40));
    guest->block.host[AT(41)] = 0x99;
    snapshot_load_wait(load);
    CHECK(reads_zero(guest, 40));
    CHECK(discard(guest, 50, 1));
    CHECK(lazy_guest_end(load));
    CHECK(reads_zero(guest, 0) && reads_zero(guest, 40) && reads_zero(guest, 50));
    CHECK(guest->block.host[AT(41)] == 0x99);
    CHECK(check_ram(guest, AT(3), AT(40)));
    /* After the load. */
    CHECK(discard(guest, 60, 7));
    CHECK(reads_zero(guest, 66) && check_ram(guest, AT(51), AT(60)));
    CHECK(!postcopy_discard_range(&guest->mis, &guest->block, 1, TEST_PAGE, NULL));
    return true;
}

static bool body_discards(void)
{
    return discards_of(RAM_ANONYMOUS) && discards_of(RAM_MEMFD);
}

static void test_discarded_pages_are_zero(void **state)
{
    (void)state;
    require_uffd();
    run_bounded(body_discards);
}

static void discard_page(Toucher *self)
{
    self->value = discard(self->guest, self->offset / TEST_PAGE, 1);
}

static void plain_madvise(Toucher *self)
{
    self->value = madvise(self->guest->block.host + self->offset, TEST_PAGE, MADV_DONTNEED) == 0;
}

/*
 * While a thread is about to copy the page. Were it dropped before the copy,
 * the copy would bring it back; so the discard waits.
 */
static bool discarded_in_flight(LazyThread thread, LazyPoint point)
{
    LazyCase what = small_case();
    g_autoptr(LazyGuest) guest = lazy_guest_new(&what);
    Toucher toucher = { .guest = guest, .offset = AT(5) };
    Toucher discarder = { .guest = guest, .offset = AT(5), .body = discard_page };
    SnapshotLoad *load;
    Gate gate;

    gate_init(&gate, guest, point, thread, 5);
    load = lazy_guest_start(guest, thread == LAZY_EAGER_THREAD);
    CHECK(load);
    if (thread == LAZY_FAULT_THREAD) {
        toucher_start(&toucher);
    }
    gate_wait(&gate);
    toucher_start(&discarder);
    g_usleep(5000);
    CHECK(!toucher_is_done(&discarder));
    gate_open(&gate);
    toucher_join(&discarder);
    CHECK(discarder.value && reads_zero(guest, 5));
    if (thread == LAZY_FAULT_THREAD) {
        toucher_join(&toucher);
    }
    CHECK(lazy_guest_end(load));
    return reads_zero(guest, 5) && check_ram(guest, AT(6), what.used_length);
}

static bool body_discarded_in_flight(void)
{
    return discarded_in_flight(LAZY_FAULT_THREAD, LAZY_POINT_CLAIMED) &&
           discarded_in_flight(LAZY_FAULT_THREAD, LAZY_POINT_READ) &&
           discarded_in_flight(LAZY_EAGER_THREAD, LAZY_POINT_CLAIMED) &&
           discarded_in_flight(LAZY_EAGER_THREAD, LAZY_POINT_READ) &&
           discarded_in_flight(LAZY_EAGER_THREAD, LAZY_POINT_PLACED);
}

static void test_discard_of_a_page_on_its_way(void **state)
{
    (void)state;
    require_uffd();
    run_bounded(body_discarded_in_flight);
}

/*
 * The fault's message is read, the page discarded before it is answered. The
 * handler finds the page settled; who waits is woken, and gets zeroes.
 */
static bool body_discarded_before_answer(void)
{
    LazyCase what = small_case();
    g_autoptr(LazyGuest) guest = lazy_guest_new(&what);
    Toucher toucher = { .guest = guest, .offset = AT(5), .value = 1 };
    SnapshotLoad *load;
    Gate gate;

    gate_init(&gate, guest, LAZY_POINT_FAULT, LAZY_FAULT_THREAD, 5);
    load = lazy_guest_start(guest, false);
    CHECK(load);
    toucher_start(&toucher);
    gate_wait(&gate);
    CHECK(discard(guest, 5, 1));
    gate_open(&gate);
    toucher_join(&toucher);
    CHECK(toucher.value == 0);
    CHECK(lazy_guest_end(load));
    CHECK(page_installer(&guest->block, 5) == PAGE_DISCARDED);
    return reads_zero(guest, 5);
}

static void test_discard_between_message_and_answer(void **state)
{
    (void)state;
    require_uffd();
    run_bounded(body_discarded_before_answer);
}

/*
 * The message is answered while the discard has the claim: the handler leaves
 * the page to whoever that is, so the discard has to wake who waits.
 */
static bool body_discard_has_the_claim(void)
{
    LazyCase what = small_case();
    g_autoptr(LazyGuest) guest = lazy_guest_new(&what);
    Toucher toucher = { .guest = guest, .offset = AT(5), .value = 1 };
    Toucher discarder = { .guest = guest, .offset = AT(5), .body = discard_page };
    SnapshotLoad *load;
    Gate gate;

    gate_init(&gate, guest, LAZY_POINT_CLAIMED, LAZY_OTHER_THREAD, 5);
    load = lazy_guest_start(guest, false);
    CHECK(load);
    toucher_start(&discarder);
    gate_wait(&gate);
    toucher_start(&toucher);
    toucher_wait_asleep(&toucher);
    gate_open(&gate);
    toucher_join(&discarder);
    toucher_join(&toucher);
    CHECK(toucher.value == 0);
    CHECK(lazy_guest_end(load));
    return reads_zero(guest, 5);
}

static void test_discard_that_has_the_claim_wakes(void **state)
{
    (void)state;
    require_uffd();
    run_bounded(body_discard_has_the_claim);
}

/* Discards that the loader is not told of but by the kernel. */

static bool body_madvise_of_pending(void)
{
    LazyCase what = small_case();
    g_autoptr(LazyGuest) guest = lazy_guest_new(&what);
    Toucher discarder = { .guest = guest, .offset = AT(5), .body = plain_madvise };
    SnapshotLoad *load;

    guest->mis.remove_events = true;
    load = lazy_guest_start(guest, false);
    CHECK(load);
    toucher_start(&discarder);
    toucher_join(&discarder);
    CHECK(discarder.value && reads_zero(guest, 5));
    CHECK(touch_gives(guest, 7, 0));
    discarder.offset = AT(7);
    toucher_start(&discarder);
    toucher_join(&discarder);
    CHECK(reads_zero(guest, 7));
    CHECK(lazy_guest_end(load));
    CHECK(reads_zero(guest, 5) && reads_zero(guest, 7));
    return check_ram(guest, AT(8), what.used_length);
}

/*
 * The eager thread holds the page's bytes while the guest drops the page: the
 * copy must not come after the drop.
 */
static bool body_madvise_beside_eager(void)
{
    LazyCase what = small_case();
    g_autoptr(LazyGuest) guest = lazy_guest_new(&what);
    Toucher discarder = { .guest = guest, .offset = AT(5), .body = plain_madvise };
    SnapshotLoad *load;
    Gate gate;

    guest->mis.remove_events = true;
    gate_init(&gate, guest, LAZY_POINT_READ, LAZY_EAGER_THREAD, 5);
    load = lazy_guest_start(guest, true);
    CHECK(load);
    gate_wait(&gate);
    toucher_start(&discarder);
    toucher_join(&discarder);
    CHECK(discarder.value && reads_zero(guest, 5));
    gate_open(&gate);
    CHECK(lazy_guest_end(load));
    CHECK(page_installer(&guest->block, 5) == PAGE_DISCARDED);
    return reads_zero(guest, 5) && check_ram(guest, AT(6), what.used_length);
}

/* What read_slowly() plays with. */
typedef struct SlowOps {
    UffdOps ops;
    Gate *gate;
    Toucher *discarder;
} SlowOps;

/*
 * Returns with the event only when madvise() has dropped the page, and the
 * eager thread, let go, has had time for its copy.
 */
static ssize_t read_slowly(const UffdOps *ops, int uffd, struct uffd_msg *messages, size_t length)
{
    const SlowOps *self = (const SlowOps *)ops;
    ssize_t result = uffd_ops_real()->read(ops, uffd, messages, length);

    if (result > 0 && messages[0].event == UFFD_EVENT_REMOVE) {
        while (!toucher_is_done(self->discarder)) {
            g_usleep(100);
        }
        gate_open(self->gate);
        g_usleep(20000);
    }
    return result;
}

/*
 * Between the read of the event, which lets madvise() drop the page, and the
 * mark that says so, the eager thread must not copy.
 */
static bool body_madvise_read_but_not_marked(void)
{
    LazyCase what = small_case();
    g_autoptr(LazyGuest) guest = lazy_guest_new(&what);
    Toucher discarder = { .guest = guest, .offset = AT(5), .body = plain_madvise };
    SlowOps slow = { .ops = *uffd_ops_real(), .discarder = &discarder };
    SnapshotLoad *load;
    Gate gate;

    slow.ops.read = read_slowly;
    slow.gate = &gate;
    guest->mis.uffd_ops = &slow.ops;
    guest->mis.remove_events = true;
    gate_init(&gate, guest, LAZY_POINT_READ, LAZY_EAGER_THREAD, 5);
    load = lazy_guest_start(guest, true);
    CHECK(load);
    gate_wait(&gate);
    toucher_start(&discarder);
    toucher_join(&discarder);
    CHECK(lazy_guest_end(load));
    return reads_zero(guest, 5) && check_ram(guest, AT(6), what.used_length);
}

/*
 * A pending REMOVE makes every ioctl EAGAIN, and only the fault thread reads
 * it. If that thread waits for the ioctl to succeed, nobody ever goes on.
 */
static bool body_madvise_beside_fault(void)
{
    LazyCase what = small_case();
    g_autoptr(LazyGuest) guest = lazy_guest_new(&what);
    Toucher toucher = { .guest = guest, .offset = AT(5) };
    Toucher discarder = { .guest = guest, .offset = AT(5), .body = plain_madvise };
    Toucher other = { .guest = guest, .offset = AT(9) };
    SnapshotLoad *load;
    Gate gate;

    guest->mis.remove_events = true;
    gate_init(&gate, guest, LAZY_POINT_READ, LAZY_FAULT_THREAD, 5);
    load = lazy_guest_start(guest, false);
    CHECK(load);
    toucher_start(&toucher);
    gate_wait(&gate);
    toucher_start(&discarder);
    toucher_start(&other);
    toucher_wait_asleep(&discarder);
    toucher_wait_asleep(&other);
    gate_open(&gate);
    toucher_join(&toucher);
    toucher_join(&discarder);
    toucher_join(&other);
    CHECK(toucher.value == 0 && other.value == guest->wanted[AT(9)]);
    CHECK(reads_zero(guest, 5));
    CHECK(lazy_guest_end(load));
    return reads_zero(guest, 5) && check_ram(guest, AT(6), what.used_length);
}

/*
 * madvise() when nobody reads events any more: it must return nevertheless,
 * even though the descriptor's last copy is not closed: a child has it.
 */
static bool body_madvise_at_end(void)
{
    pid_t child;

    LazyCase what = small_case();
    g_autoptr(LazyGuest) guest = lazy_guest_new(&what);
    Toucher discarder = { .guest = guest, .offset = AT(5), .body = plain_madvise };
    SnapshotLoad *load;

    guest->mis.remove_events = true;
    guest->mis.at_point = touch_at_unregister;
    guest->mis.at_point_opaque = &discarder;
    load = lazy_guest_start(guest, false);
    CHECK(load);
    child = fork();
    if (child == 0) {
        pause();
        _exit(0);
    }
    CHECK(lazy_guest_end(load));
    toucher_join(&discarder);
    CHECK(kill(child, SIGKILL) == 0 && waitpid(child, NULL, 0) == child);
    return discarder.value && reads_zero(guest, 5) && check_ram(guest, AT(6), what.used_length);
}

static void test_plain_madvise(void **state)
{
    (void)state;
    require_uffd();
    run_bounded(body_madvise_of_pending);
    run_bounded(body_madvise_beside_eager);
    run_bounded(body_madvise_read_but_not_marked);
    run_bounded(body_madvise_beside_fault);
    run_bounded(body_madvise_at_end);
}

/*
 * A child that is forked during the load is not registered: what was missing
 * would read as zero there. It gets SIGSEGV instead; the parent's load goes on,
 * and its end does not depend on the child, which has the descriptor as well.
 */
static bool body_fork(void)
{
    LazyCase what = small_case();
    g_autoptr(LazyGuest) guest = lazy_guest_new(&what);
    SnapshotLoad *load = lazy_guest_start(guest, false);
    int status;
    pid_t pid;

    CHECK(load);
    CHECK(touch_gives(guest, 1, 0));
    pid = fork();
    if (pid == 0) {
        uint8_t value;
        int number;

        touch_survives(guest->block.host + AT(33), &value, &number);
        _exit(number);
    }
    CHECK(waitpid(pid, &status, 0) == pid);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == SIGSEGV);
    CHECK(touch_gives(guest, 33, 0));
    CHECK(lazy_guest_end(load));
    return check_ram(guest, 0, what.used_length);
}

/* While COPYs are being made: fork() changes the address space under them. */
static bool body_forks_beside_the_load(void)
{
    LazyCase what = small_case();
    g_autoptr(LazyGuest) guest = NULL;

    what.bits = BITS_ALL;
    guest = lazy_guest_new(&what);
    for (unsigned i = 0; i < 20; i++) {
        SnapshotLoad *load = lazy_guest_start(guest, true);
        pid_t pid;

        CHECK(load);
        pid = fork();
        if (pid == 0) {
            _exit(0);
        }
        CHECK(waitpid(pid, NULL, 0) == pid);
        CHECK(check_ram(guest, 0, what.used_length));
        CHECK(lazy_guest_end(load));
    }
    return true;
}

static void test_fork_during_the_load(void **state)
{
    (void)state;
    require_uffd();
    run_bounded(body_fork);
    run_bounded(body_forks_beside_the_load);
}

/*
 * An unprivileged user, as in the founding series' CI, whose tests were left
 * out in silence: UFFD_USER_MODE_ONLY must do, and says what it cannot do.
 */
static bool body_nobody(void)
{
    LazyCase what = small_case();
    g_autoptr(LazyGuest) guest = lazy_guest_new(&what);
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
    CHECK(check_ram(guest, 0, what.used_length));
    CHECK(write(ends[1], guest->block.host + TEST_PAGE, 1) == 1);
    CHECK(lazy_guest_end(load));
    close(ends[0]);
    close(ends[1]);
    return check_ram(guest, 0, what.used_length);
}

static void test_unprivileged(void **state)
{
    (void)state;
    require_uffd();
    run_bounded(body_nobody);
}

/* The same blocks again: nothing is left over from the load before. */
static bool body_again_and_again(void)
{
    LazyCase what = small_case();
    g_autoptr(LazyGuest) guest = lazy_guest_new(&what);
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

static void test_again_and_again(void **state)
{
    (void)state;
    require_uffd();
    run_bounded(body_again_and_again);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_map_fault),
        cmocka_unit_test(test_map_fault_of_large_target_pages),
        cmocka_unit_test(test_lazy_is_eager_anonymous),
        cmocka_unit_test(test_lazy_is_eager_memfd),
        cmocka_unit_test(test_lazy_is_eager_hugetlb),
        cmocka_unit_test(test_setup_undo),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_ram_of_another_userfaultfd),
        cmocka_unit_test(test_truncated_file),
        cmocka_unit_test(test_file_truncated_beside_the_load),
        cmocka_unit_test(test_io_error),
        cmocka_unit_test(test_fault_thread_has_to_leave),
        cmocka_unit_test(test_system_calls_on_poison),
        cmocka_unit_test(test_stale_message_after_poison),
        cmocka_unit_test(test_cancelled_beside_the_eager_thread),
        cmocka_unit_test(test_fault_on_a_page_of_the_eager_thread),
        cmocka_unit_test(test_claims_of_the_fault_thread_are_respected),
        cmocka_unit_test(test_fault_between_quit_and_unregister),
        cmocka_unit_test(test_neighbours_of_a_fault_are_next),
        cmocka_unit_test(test_eexist_is_not_fatal_and_wakes),
        cmocka_unit_test(test_partial_copy_is_resumed),
        cmocka_unit_test(test_ram_is_unmapped),
        cmocka_unit_test(test_signal_in_the_middle_of_a_fault),
        cmocka_unit_test(test_discarded_pages_are_zero),
        cmocka_unit_test(test_discard_of_a_page_on_its_way),
        cmocka_unit_test(test_discard_between_message_and_answer),
        cmocka_unit_test(test_discard_that_has_the_claim_wakes),
        cmocka_unit_test(test_plain_madvise),
        cmocka_unit_test(test_fork_during_the_load),
        cmocka_unit_test(test_unprivileged),
        cmocka_unit_test(test_again_and_again),
    };

    return pagewise_run("snapshot-load", tests);
}

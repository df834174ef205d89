/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * loader/snapshot-load.[ch]: files that fail while they are loaded, threads
 * that have to leave, and loads that are given up. Whoever touches a page that
 * cannot be had gets a signal, in bounded time, and the load reports an error:
 * never a page of zeroes in place of data.
 */
#include "unit/lazy-support.h"
#include "unit/support.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

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
    CHECK(page_gives(guest, 0, 0));
    CHECK(ftruncate(guest->fd, (off_t)(guest->file_pages + offset_in_pages)) == 0);
    CHECK(page_gives(guest, 32, SIGBUS));
    /* And the rest; what was loaded before stays. */
    CHECK(page_gives(guest, 66, SIGBUS));
    CHECK(page_gives(guest, 0, 0));
    CHECK(ends_with_error(load, "(rule P1)"));
    CHECK(page_gives(guest, 32, SIGBUS));
    CHECK(page_gives(guest, 66, SIGBUS));
    CHECK(resources_are(before));
    return true;
}

static bool body_truncated(void)
{
    return truncated_at(true, 0) && truncated_at(false, 0) && truncated_at(true, AT(32) + 1000) &&
           truncated_at(false, AT(32) + 1000) && truncated_at(true, AT(33) - 1);
}

BOUNDED_TEST(test_truncated_file, body_truncated)

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
    CHECK(page_gives(guest, 65, SIGBUS));
    CHECK(page_gives(guest, left / TEST_PAGE | 1, SIGBUS));
    /* A page without content is still what it has to be. */
    CHECK(bits == BITS_ALL || page_gives(guest, 2, 0));
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
    g_autoptr(LazyGuest) guest = lazy_guest_small();
    SnapshotLoad *load;
    Gate gate;

    gate_init(&gate, guest, LAZY_POINT_READ, LAZY_EAGER_THREAD, 65);
    load = lazy_guest_start(guest, true);
    CHECK(load);
    gate_wait(&gate);
    CHECK(ftruncate(guest->fd, (off_t)(guest->file_pages + left)) == 0);
    gate_open(&gate);
    CHECK(ends_with_error(load, words));
    return page_gives(guest, 64, 0) && (!number || page_gives(guest, 65, number));
}

static bool body_truncated_between(void)
{
    /* EFAULT; then reading it tells what is wrong. */
    CHECK(truncated_between(AT(65), "need 0x1000 bytes, but the file ends", SIGBUS));
    /* Zeroes in place of data, but not in silence. */
    CHECK(truncated_between(AT(65) + 100, "got shorter", 0));
    return true;
}

BOUNDED_TEST(test_file_truncated_beside_the_load, body_truncated_before_eager,
             body_truncated_between)

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

/* All is good until all headers are read. */
static void bad_reader_give(BadReader *self, LazyGuest *guest)
{
    *self = (BadReader){
        .reader = { .pread = bad_pread, .size = guest->reader.reader.size },
        .good = &guest->reader.reader,
        .bad_from = UINT64_MAX,
    };
    guest->mis.reader = &self->reader;
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
    bad_reader_give(&bad, guest);
    load = lazy_guest_start(guest, false);
    CHECK(load);
    CHECK(page_gives(guest, 1, 0));
    bad.bad_from = guest->file_pages + 0x10000;
    if (eager_thread) {
        snapshot_load_wait(load);
    }
    for (uint64_t page = 17; page < host_pages(guest); page++) {
        CHECK(page_gives(guest, page, page_has_data(&guest->block, page) ? SIGBUS : 0));
        CHECK(page_gives(guest, page, page_has_data(&guest->block, page) ? SIGBUS : 0));
    }
    return ends_with_error(load, "reading failed: Input/output error");
}

static bool body_io_error(void)
{
    return io_error(false, 0x1000) && io_error(true, 0x1000) && io_error(false, 0x800);
}

BOUNDED_TEST(test_io_error, body_io_error)

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
    g_autoptr(LazyGuest) guest = lazy_guest_small();
    UffdOps ops = *uffd_ops_real();
    SnapshotLoad *load;

    ops.read = read_fails;
    guest->mis.uffd_ops = &ops;
    load = lazy_guest_start(guest, false);
    CHECK(load);
    CHECK(page_gives(guest, page, SIGBUS));
    CHECK(page_gives(guest, 40, SIGBUS) && page_gives(guest, 41, SIGBUS));
    CHECK(ends_with_error(load, "reading from userfaultfd: Input/output error"));
    return page_gives(guest, page, SIGBUS);
}

static bool body_fault_thread_dies(void)
{
    return fault_thread_dies(3) && fault_thread_dies(4);
}

BOUNDED_TEST(test_fault_thread_has_to_leave, body_fault_thread_dies)

typedef struct CountingNaps {
    UffdOps ops;
    unsigned naps; /* atomic */
} CountingNaps;

static void count_nap(const UffdOps *ops, unsigned microseconds)
{
    __atomic_fetch_add(&((CountingNaps *)ops)->naps, 1, __ATOMIC_RELAXED);
    uffd_ops_real()->nap(uffd_ops_real(), microseconds);
}

/*
 * The same while the eager thread has a claim: the fault thread must not close
 * the descriptor under it, or what it places goes nowhere. It waits.
 */
static bool body_fault_thread_dies_beside_a_claim(void)
{
    g_autoptr(LazyGuest) guest = lazy_guest_small();
    CountingNaps counting = { .ops = *uffd_ops_real() };
    uint64_t claimed = bit_is_set(guest->what.bits, 0, host_pages(guest)) ? 0 : 1;
    SnapshotLoad *load;
    Gate gate;

    counting.ops.read = read_fails;
    counting.ops.nap = count_nap;
    guest->mis.uffd_ops = &counting.ops;
    guest->mis.remove_events = true;
    gate_init(&gate, guest, LAZY_POINT_CLAIMED, LAZY_EAGER_THREAD, claimed);
    load = lazy_guest_start(guest, true);
    CHECK(load);
    gate_wait(&gate);
    CHECK(page_gives(guest, 66, SIGBUS));
    while (__atomic_load_n(&counting.naps, __ATOMIC_RELAXED) == 0) {
        sched_yield();
    }
    gate_open(&gate);
    CHECK(ends_with_error(load, "reading from userfaultfd: Input/output error"));
    return page_gives(guest, claimed, SIGBUS);
}

BOUNDED_TEST(test_fault_thread_leaves_beside_a_claim, body_fault_thread_dies_beside_a_claim)

static int copy_enomem(const UffdOps *ops, int uffd, struct uffdio_copy *copy)
{
    (void)ops;
    (void)uffd;
    copy->copy = -ENOMEM;
    return -ENOMEM;
}

/*
 * The kernel has no page to give, whatever the source is: no second try by
 * reading, which would only hide what is wrong.
 */
static bool copy_fails(bool mapped)
{
    LazyCase what = small_case();
    g_autoptr(LazyGuest) guest = NULL;
    UffdOps ops = *uffd_ops_real();
    SnapshotLoad *load;

    what.bits = BITS_ALL;
    what.mapped = mapped;
    guest = lazy_guest_new(&what);
    ops.copy = copy_enomem;
    guest->mis.uffd_ops = &ops;
    load = lazy_guest_start(guest, false);
    CHECK(load);
    snapshot_load_wait(load);
    CHECK(page_gives(guest, 0, SIGBUS) && page_gives(guest, 66, SIGBUS));
    return ends_with_error(load, "cannot be placed: Cannot allocate memory");
}

static bool body_copy_fails(void)
{
    return copy_fails(false) && copy_fails(true);
}

BOUNDED_TEST(test_copy_fails, body_copy_fails)

/* A system call on a poisoned page: EFAULT, not zeroes. */
static bool body_syscall_on_poison(void)
{
    g_autoptr(LazyGuest) guest = lazy_guest_small();
    SnapshotLoad *load = lazy_guest_start(guest, false);
    char byte;
    int ends[2];

    CHECK(load && pipe(ends) == 0);
    CHECK(ftruncate(guest->fd, (off_t)guest->file_pages) == 0);
    CHECK(page_gives(guest, 1, SIGBUS));
    CHECK(write(ends[1], guest->block.host + TEST_PAGE, 1) == -1 && errno == EFAULT);
    CHECK(ends_with_error(load, "(rule P1)"));
    CHECK(write(ends[1], guest->block.host + TEST_PAGE, 1) == -1 && errno == EFAULT);
    CHECK(write(ends[1], guest->block.host, 1) == 1 && read(ends[0], &byte, 1) == 1);
    CHECK(byte == 0);
    close(ends[0]);
    close(ends[1]);
    return true;
}

BOUNDED_TEST(test_system_calls_on_poison, body_syscall_on_poison)

/*
 * The poison of a load that failed must not be there in the next one: its pages
 * would give signals, although they are loaded. Of shared memory dropping the
 * file's bytes leaves it.
 */
static bool load_after_failure(RamKind ram)
{
    LazyCase what = small_case();
    g_autoptr(LazyGuest) guest = NULL;
    SnapshotLoad *load;

    what.ram = ram;
    guest = lazy_guest_new(&what);
    load = lazy_guest_start(guest, false);
    CHECK(load);
    snapshot_load_cancel(load);
    CHECK(page_gives(guest, 1, SIGBUS));
    CHECK(ends_with_error(load, "cancelled"));
    load = lazy_guest_start(guest, false);
    CHECK(load && page_gives(guest, 1, 0));
    CHECK(lazy_guest_end(load));
    return check_ram(guest, 0, what.used_length);
}

static bool body_load_after_failure(void)
{
    return load_after_failure(RAM_ANONYMOUS) && load_after_failure(RAM_MEMFD);
}

BOUNDED_TEST(test_poison_does_not_outlive_its_load, body_load_after_failure)

/*
 * A fault's message is read, then the load fails elsewhere and poisons the
 * page; whoever answers the message then must not put zeroes over the poison.
 */
static bool body_stale_message_after_poison(void)
{
    g_autoptr(LazyGuest) guest = lazy_guest_small();
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
    CHECK(page_gives(guest, 1, SIGBUS));
    CHECK(ends_with_error(load, "cancelled"));
    CHECK(page_gives(guest, 1, SIGBUS));
    return true;
}

BOUNDED_TEST(test_stale_message_after_poison, body_stale_message_after_poison)

/* Poisoned by the one thread while the other has it claimed. */
static bool cancelled_at(LazyPoint point, int wanted)
{
    g_autoptr(LazyGuest) guest = lazy_guest_small();
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
    return page_gives(guest, 3, SIGBUS) && page_gives(guest, 1, wanted);
}

static bool body_cancelled(void)
{
    return cancelled_at(LAZY_POINT_CLAIMED, SIGBUS) && cancelled_at(LAZY_POINT_READ, 0);
}

BOUNDED_TEST(test_cancelled_beside_the_eager_thread, body_cancelled)

typedef struct LatePoison {
    UffdOps ops;
    bool once; /* the first call was answered */
} LatePoison;

/* As if poison were there, and who faults had looked before. */
static int first_poison_is_not_seen(const UffdOps *ops, int uffd, struct uffdio_poison *poison)
{
    LatePoison *self = (LatePoison *)ops;

    if (self->once) {
        return uffd_ops_real()->poison(ops, uffd, poison);
    }
    self->once = true;
    poison->updated = (int64_t)poison->range.len;
    return 0;
}

static void load_rest(Toucher *self)
{
    snapshot_load_wait(self->guest->mis.page_fault_opaque);
}

/*
 * Who faults looks at the page, gets in line, looks once more, and sleeps. Poison is no page to
 * Linux at that second look: if it comes in between, with its wake, he sleeps all the same. The
 * fault thread hears of him; but as long as receivedmap does not say that the page is settled, he
 * is left to who has the claim. Who does not wake again then lets him sleep for ever.
 */
static bool body_poison_before_the_wait(void)
{
    LazyCase what = small_case();
    g_autoptr(LazyGuest) guest = NULL;
    LatePoison late = { .ops = *uffd_ops_real() };
    Toucher rest = { .body = load_rest };
    Toucher toucher = { .offset = AT(17) };
    BadReader bad;
    SnapshotLoad *load;
    Gate gate;

    what.mapped = false;
    guest = rest.guest = toucher.guest = lazy_guest_new(&what);
    bad_reader_give(&bad, guest);
    late.ops.poison = first_poison_is_not_seen;
    guest->mis.uffd_ops = &late.ops;
    gate_init(&gate, guest, LAZY_POINT_PLACED, LAZY_EAGER_THREAD, 17);
    load = lazy_guest_start(guest, false);
    CHECK(load);
    bad.bad_from = guest->file_pages + AT(16);
    toucher_start(&rest);
    gate_wait(&gate);
    toucher_start(&toucher);
    while (__atomic_load_n(&guest->mis.faults, __ATOMIC_RELAXED) == 0) {
        sched_yield();
    }
    CHECK(!toucher_is_done(&toucher));
    gate_open(&gate);
    toucher_join(&toucher);
    toucher_join(&rest);
    CHECK(toucher.signal == SIGBUS);
    return ends_with_error(load, "reading failed: Input/output error");
}

BOUNDED_TEST(test_poison_before_the_wait, body_poison_before_the_wait)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_truncated_file),
        cmocka_unit_test(test_file_truncated_beside_the_load),
        cmocka_unit_test(test_io_error),
        cmocka_unit_test(test_fault_thread_has_to_leave),
        cmocka_unit_test(test_fault_thread_leaves_beside_a_claim),
        cmocka_unit_test(test_copy_fails),
        cmocka_unit_test(test_system_calls_on_poison),
        cmocka_unit_test(test_poison_does_not_outlive_its_load),
        cmocka_unit_test(test_stale_message_after_poison),
        cmocka_unit_test(test_cancelled_beside_the_eager_thread),
        cmocka_unit_test(test_poison_before_the_wait),
    };

    return pagewise_run("snapshot-errors", tests);
}

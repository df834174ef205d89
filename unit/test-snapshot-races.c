/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * loader/snapshot-load.[ch]: who places a page, where several could: the fault
 * thread, the eager thread, somebody outside, a forked child; and what the
 * kernel answers to those who come second. Each thread is held at the named
 * point that the race needs.
 */
#define _GNU_SOURCE
#include "unit/lazy-support.h"
#include "unit/support.h"

#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

/*
 * A fault on a page that the eager thread has claimed: the handler leaves it,
 * and the eager thread's copy has to wake who waits. Held at each point.
 */
static bool fault_while_eager_at(LazyPoint point)
{
    g_autoptr(LazyGuest) guest = lazy_guest_small();
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
    return check_ram(guest, 0, guest->what.used_length);
}

static bool body_fault_while_eager(void)
{
    return fault_while_eager_at(LAZY_POINT_CLAIMED) && fault_while_eager_at(LAZY_POINT_READ) &&
           fault_while_eager_at(LAZY_POINT_PLACED) && fault_while_eager_at(LAZY_POINT_RECEIVED);
}

BOUNDED_TEST(test_fault_on_a_page_of_the_eager_thread, body_fault_while_eager)

/* The reverse: the page of a fault is not loaded a second time, nor waited for. */
static bool body_eager_while_fault(void)
{
    g_autoptr(LazyGuest) guest = lazy_guest_small();
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
    return check_ram(guest, 0, guest->what.used_length);
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
    g_autoptr(LazyGuest) guest = lazy_guest_small();
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
    return check_ram(guest, 0, guest->what.used_length);
}

BOUNDED_TEST(test_claims_of_the_fault_thread_are_respected, body_eager_while_fault,
             body_end_while_fault)

static bool body_fault_after_quit(void)
{
    g_autoptr(LazyGuest) guest = lazy_guest_small();
    Toucher toucher = { .guest = guest, .offset = AT(4), .value = 1 };
    SnapshotLoad *load;

    guest->mis.at_point = touch_at_unregister;
    guest->mis.at_point_opaque = &toucher;
    load = lazy_guest_start(guest, false);
    CHECK(load && lazy_guest_end(load));
    toucher_join(&toucher);
    CHECK(toucher.signal == 0 && toucher.value == 0);
    return check_ram(guest, 0, guest->what.used_length);
}

BOUNDED_TEST(test_fault_between_quit_and_unregister, body_fault_after_quit)

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
    CHECK(page_gives(guest, 200, 0));
    gate_open(&gate);
    CHECK(lazy_guest_end(load));
    CHECK(gate.eager[0] == 0 && gate.eager[1] == 200 && gate.eager[2] == 64);
    CHECK(page_installer(&guest->block, 200) == PAGE_BY_FAULT_THREAD);
    return check_ram(guest, 0, what.used_length);
}

BOUNDED_TEST(test_neighbours_of_a_fault_are_next, body_neighbours)

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

BOUNDED_TEST(test_eexist_is_not_fatal_and_wakes, body_eexist)

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

BOUNDED_TEST(test_partial_copy_is_resumed, body_partial_copy)

/*
 * RAM of several mappings (an mbind() or madvise() of a part, or what earlier
 * registrations left): no call goes over their edges, it says ENOENT. A loader
 * that takes this for memory that is gone gives up data it could have loaded.
 * The rest of the file is lost on the way: poison has to go over the edges, too.
 */
static bool of_several_mappings(bool truncated)
{
    LazyCase what = small_case();
    g_autoptr(LazyGuest) guest = NULL;
    SnapshotLoad *load;

    what.bits = BITS_ALL;
    guest = lazy_guest_new(&what);
    CHECK(madvise(guest->block.host + AT(5), AT(1), MADV_DONTDUMP) == 0);
    CHECK(madvise(guest->block.host + AT(33), AT(7), MADV_DONTDUMP) == 0);
    load = lazy_guest_start(guest, false);
    CHECK(load);
    if (truncated) {
        CHECK(ftruncate(guest->fd, (off_t)guest->file_pages) == 0);
        snapshot_load_wait(load);
        for (uint64_t page = 0; page < host_pages(guest); page++) {
            CHECK(page_gives(guest, page, SIGBUS));
        }
        return ends_with_error(load, "(rule P1)");
    }
    CHECK(lazy_guest_end(load));
    CHECK(count_installed(guest, PAGE_BY_EAGER_THREAD) == host_pages(guest));
    return check_ram(guest, 0, what.used_length);
}

static bool body_several_mappings(void)
{
    return of_several_mappings(false) && of_several_mappings(true);
}

BOUNDED_TEST(test_ram_of_several_mappings, body_several_mappings)

/*
 * A page that was touched before REGISTER never faults: its load would be
 * missed in silence. So what RAM holds is dropped, zeroes as well.
 */
static bool body_touched_before(void)
{
    g_autoptr(LazyGuest) guest = lazy_guest_small();
    SnapshotLoad *load;

    for (uint64_t page = 0; page < host_pages(guest); page++) {
        guest->block.host[AT(page)] = 0;
    }
    load = lazy_guest_start(guest, false);
    CHECK(load && check_ram(guest, 0, guest->what.used_length));
    CHECK(guest->mis.faults == host_pages(guest));
    return lazy_guest_end(load);
}

BOUNDED_TEST(test_pages_touched_before_register, body_touched_before)

/* RAM vanishes under the load: ENOENT, an error; who waited wakes (SIGSEGV). */
static bool body_unmapped(void)
{
    g_autoptr(LazyGuest) guest = lazy_guest_small();
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

BOUNDED_TEST(test_ram_is_unmapped, body_unmapped)

/*
 * A signal while the thread waits for its page: the fault is begun again after
 * the signal's handler, and the kernel reports it twice.
 */
static bool body_signal_in_fault(void)
{
    g_autoptr(LazyGuest) guest = lazy_guest_small();
    Toucher toucher = { .guest = guest, .offset = AT(5) };
    SnapshotLoad *load;
    Gate gate;

    let_sigusr1_interrupt();
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
    return check_ram(guest, 0, guest->what.used_length);
}

BOUNDED_TEST(test_signal_in_the_middle_of_a_fault, body_signal_in_fault)

/*
 * A child that is forked during the load is not registered: what was missing
 * would read as zero there. It gets SIGSEGV instead; the parent's load goes on,
 * and its end does not depend on the child, which has the descriptor as well.
 */
static bool body_fork(void)
{
    g_autoptr(LazyGuest) guest = lazy_guest_small();
    SnapshotLoad *load = lazy_guest_start(guest, false);
    int status;
    pid_t pid;

    CHECK(load);
    CHECK(page_gives(guest, 1, 0));
    pid = fork();
    if (pid == 0) {
        uint8_t value;
        int number;

        touch_survives(guest->block.host + AT(33), &value, &number);
        _exit(number);
    }
    CHECK(waitpid(pid, &status, 0) == pid);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == SIGSEGV);
    CHECK(page_gives(guest, 33, 0));
    CHECK(lazy_guest_end(load));
    return check_ram(guest, 0, guest->what.used_length);
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

BOUNDED_TEST(test_fork_during_the_load, body_fork, body_forks_beside_the_load)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fault_on_a_page_of_the_eager_thread),
        cmocka_unit_test(test_claims_of_the_fault_thread_are_respected),
        cmocka_unit_test(test_fault_between_quit_and_unregister),
        cmocka_unit_test(test_neighbours_of_a_fault_are_next),
        cmocka_unit_test(test_eexist_is_not_fatal_and_wakes),
        cmocka_unit_test(test_partial_copy_is_resumed),
        cmocka_unit_test(test_ram_of_several_mappings),
        cmocka_unit_test(test_pages_touched_before_register),
        cmocka_unit_test(test_ram_is_unmapped),
        cmocka_unit_test(test_signal_in_the_middle_of_a_fault),
        cmocka_unit_test(test_fork_during_the_load),
    };

    return pagewise_run("snapshot-races", tests);
}

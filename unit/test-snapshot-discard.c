/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * loader/snapshot-load.[ch]: RAM that the guest drops (balloon) during the load
 * and after it reads as zero, never as what the file has for it; by the
 * loader's own call, and by plain madvise(), of which the kernel tells.
 */
#include "unit/lazy-support.h"
#include "unit/support.h"

#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

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
    CHECK(page_gives(guest, 0, 0));
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

BOUNDED_TEST(test_discarded_pages_are_zero, body_discards)

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
    g_autoptr(LazyGuest) guest = lazy_guest_small();
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
    return reads_zero(guest, 5) && check_ram(guest, AT(6), guest->what.used_length);
}

static bool body_discarded_in_flight(void)
{
    return discarded_in_flight(LAZY_FAULT_THREAD, LAZY_POINT_CLAIMED) &&
           discarded_in_flight(LAZY_FAULT_THREAD, LAZY_POINT_READ) &&
           discarded_in_flight(LAZY_EAGER_THREAD, LAZY_POINT_CLAIMED) &&
           discarded_in_flight(LAZY_EAGER_THREAD, LAZY_POINT_READ) &&
           discarded_in_flight(LAZY_EAGER_THREAD, LAZY_POINT_PLACED);
}

BOUNDED_TEST(test_discard_of_a_page_on_its_way, body_discarded_in_flight)

/*
 * The fault's message is read, the page discarded before it is answered. The
 * handler finds the page settled; who waits is woken, and gets zeroes.
 */
static bool body_discarded_before_answer(void)
{
    g_autoptr(LazyGuest) guest = lazy_guest_small();
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

BOUNDED_TEST(test_discard_between_message_and_answer, body_discarded_before_answer)

/*
 * The message is answered while the discard has the claim: the handler leaves
 * the page to whoever that is, so the discard has to wake who waits.
 */
static bool body_discard_has_the_claim(void)
{
    g_autoptr(LazyGuest) guest = lazy_guest_small();
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

BOUNDED_TEST(test_discard_that_has_the_claim_wakes, body_discard_has_the_claim)

/* Discards that the loader is not told of but by the kernel. */

static bool body_madvise_of_pending(void)
{
    g_autoptr(LazyGuest) guest = lazy_guest_small();
    Toucher discarder = { .guest = guest, .offset = AT(5), .body = plain_madvise };
    SnapshotLoad *load;

    guest->mis.remove_events = true;
    load = lazy_guest_start(guest, false);
    CHECK(load);
    toucher_start(&discarder);
    toucher_join(&discarder);
    CHECK(discarder.value && reads_zero(guest, 5));
    CHECK(page_gives(guest, 7, 0));
    discarder.offset = AT(7);
    toucher_start(&discarder);
    toucher_join(&discarder);
    CHECK(reads_zero(guest, 7));
    CHECK(lazy_guest_end(load));
    CHECK(reads_zero(guest, 5) && reads_zero(guest, 7));
    return check_ram(guest, AT(8), guest->what.used_length);
}

/*
 * The eager thread holds the page's bytes while the guest drops the page: the
 * copy must not come after the drop.
 */
static bool body_madvise_beside_eager(void)
{
    g_autoptr(LazyGuest) guest = lazy_guest_small();
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
    return reads_zero(guest, 5) && check_ram(guest, AT(6), guest->what.used_length);
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
    g_autoptr(LazyGuest) guest = lazy_guest_small();
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
    return reads_zero(guest, 5) && check_ram(guest, AT(6), guest->what.used_length);
}

/*
 * A pending REMOVE makes every ioctl EAGAIN, and only the fault thread reads
 * it. If that thread waits for the ioctl to succeed, nobody ever goes on.
 */
static bool body_madvise_beside_fault(void)
{
    g_autoptr(LazyGuest) guest = lazy_guest_small();
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
    return reads_zero(guest, 5) && check_ram(guest, AT(6), guest->what.used_length);
}

/*
 * madvise() when nobody reads events any more: it must return nevertheless,
 * even though the descriptor's last copy is not closed: a child has it.
 */
static bool body_madvise_at_end(void)
{
    pid_t child;

    g_autoptr(LazyGuest) guest = lazy_guest_small();
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
    return discarder.value && reads_zero(guest, 5) &&
           check_ram(guest, AT(6), guest->what.used_length);
}

BOUNDED_TEST(test_plain_madvise, body_madvise_of_pending, body_madvise_beside_eager,
             body_madvise_read_but_not_marked, body_madvise_beside_fault, body_madvise_at_end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_discarded_pages_are_zero),
        cmocka_unit_test(test_discard_of_a_page_on_its_way),
        cmocka_unit_test(test_discard_between_message_and_answer),
        cmocka_unit_test(test_discard_that_has_the_claim_wakes),
        cmocka_unit_test(test_plain_madvise),
    };

    return pagewise_run("snapshot-discard", tests);
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * loader/postcopy-ram.[ch]: set-up that fails at any point gives everything
 * back; the fault thread survives what the kernel may answer, and what it
 * cannot survive ends in signals, never in zeroes or an endless wait. Pages
 * come from a handler of this file's own: one byte each.
 */
#define _GNU_SOURCE
#include "loader/postcopy-ram.h"

#include "unit/lazy-support.h"
#include "unit/support.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGES UINT64_C(8)            /* of each block */
#define RAM_LENGTH AT(2 * PAGES + 1) /* and one page between them */
#define PAGE_BYTE(page) ((uint8_t)(0x40 + (page)))

/* Two blocks whose pages the handler makes up. */
typedef struct Guest {
    MigrationIncomingState mis;
    RAMBlock blocks[2];
    uint8_t *ram;
    FailOps fail;
    UffdOps ops;
    unsigned scripted; /* calls of a scripted operation so far; atomic */
    GError *failure;   /* the first one that the fault thread reported */
    bool ended;        /* the fault thread left */
    pthread_mutex_t lock;
} Guest;

static int give_page(MigrationIncomingState *mis, RAMBlock *rb, ram_addr_t offset, void *address)
{
    uint64_t page = offset / TEST_PAGE;
    uint8_t *tmp = mis->postcopy_tmp_pages[LAZY_FAULT_THREAD].tmp_huge_page;

    (void)address;
    if (ramblock_recv_bitmap_test(rb, page)) {
        postcopy_answer_again(mis, rb, page);
        return 0;
    }
    if (!claim_page(rb, page)) {
        return 0;
    }
    memset(tmp, PAGE_BYTE(page), TEST_PAGE);
    if (postcopy_place_pages(mis, LAZY_FAULT_THREAD, rb, page, 1, tmp) < 0) {
        postcopy_give_up_pages(mis, LAZY_FAULT_THREAD, rb, page, 1);
        return -1;
    }
    return 0;
}

static void give_up_all(MigrationIncomingState *mis)
{
    for (unsigned i = 0; i < mis->n_blocks; i++) {
        for (uint64_t page = 0; page < PAGES; page++) {
            if (claim_page(&mis->blocks[i], page)) {
                postcopy_give_up_pages(mis, LAZY_FAULT_THREAD, &mis->blocks[i], page, 1);
            }
        }
    }
}

static void note_failure(MigrationIncomingState *mis, bool ends, GError *error)
{
    Guest *guest = mis->page_fault_opaque;

    pthread_mutex_lock(&guest->lock);
    if (guest->failure) {
        g_error_free(error);
    } else {
        guest->failure = error;
    }
    guest->ended |= ends;
    pthread_mutex_unlock(&guest->lock);
    if (ends) {
        give_up_all(mis);
    }
}

static void guest_init(Guest *guest)
{
    *guest = (Guest){ .lock = PTHREAD_MUTEX_INITIALIZER, .ops = *uffd_ops_real() };
    guest->ram = mmap(NULL, RAM_LENGTH, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(guest->ram, TEST_CANARY, RAM_LENGTH);
    for (unsigned i = 0; i < 2; i++) {
        RAMBlock *rb = &guest->blocks[i];

        *rb = (RAMBlock){
            .host = guest->ram + AT(i * (PAGES + 1)),
            .used_length = AT(PAGES),
            .max_length = AT(PAGES),
            .page_size = TEST_PAGE,
        };
        rb->idstr[0] = (char)('a' + i);
        ram_block_lazy_start(rb, AT(PAGES), NULL);
    }
    guest->mis = (MigrationIncomingState){
        .blocks = guest->blocks,
        .n_blocks = 2,
        .uffd_ops = &guest->ops,
        .page_fault_opaque = guest,
        .fault_thread_failed = note_failure,
    };
}

static void guest_destroy(Guest *guest)
{
    ram_block_clear(&guest->blocks[0]);
    ram_block_clear(&guest->blocks[1]);
    munmap(guest->ram, RAM_LENGTH);
    g_clear_error(&guest->failure);
}

static bool set_up(Guest *guest)
{
    g_autoptr(GError) error = NULL;
    bool ok = uffd_setup_incoming(&guest->mis, give_page, 1, &error);

    if (!ok) {
        fprintf(stderr, "set-up failed: %s\n", error->message);
    }
    return ok;
}

/* Reads all pages of both blocks; the page between them stays what it was. */
static bool check_pages(Guest *guest)
{
    for (unsigned i = 0; i < 2; i++) {
        for (uint64_t page = 0; page < PAGES; page++) {
            CHECK(guest->blocks[i].host[AT(page)] == PAGE_BYTE(page));
        }
    }
    CHECK(guest->ram[AT(PAGES)] == TEST_CANARY);
    return true;
}

static bool loads_and_ends(Guest *guest)
{
    CHECK(set_up(guest));
    CHECK(check_pages(guest));
    CHECK(guest->failure == NULL);
    CHECK(uffd_cleanup_incoming(&guest->mis, NULL));
    CHECK(guest->mis.userfault_fd == -1 && guest->mis.userfault_event_fd == -1);
    return true;
}

static bool body_loads(void)
{
    Resources before;
    Guest guest;

    guest_init(&guest);
    before = count_resources();
    CHECK(loads_and_ends(&guest));
    CHECK(guest.mis.faults == 2 * PAGES);
    CHECK(resources_are(before));
    CHECK(check_pages(&guest));
    guest_destroy(&guest);
    return true;
}

BOUNDED_TEST(test_faults_are_served, body_loads)

/*
 * QEMU's set-up once closed a descriptor that it had closed, and left threads
 * and descriptors behind where a later step failed. Here each call fails once.
 */
static bool fail_at(unsigned call, unsigned *calls)
{
    g_autoptr(GError) error = NULL;
    Resources before;
    Guest guest;

    guest_init(&guest);
    fail_ops_init(&guest.fail, call, ENOMEM);
    guest.mis.uffd_ops = &guest.fail.ops;
    before = count_resources();
    if (uffd_setup_incoming(&guest.mis, give_page, 3, &error)) {
        uffd_cleanup_incoming(&guest.mis, NULL);
    } else {
        CHECK(error != NULL);
        CHECK(!guest.mis.have_fault_thread);
        CHECK(guest.mis.postcopy_tmp_pages == NULL && guest.mis.postcopy_tmp_zero_page == NULL);
    }
    CHECK(guest.mis.userfault_fd == -1 && guest.mis.userfault_event_fd == -1);
    CHECK(!guest.blocks[0].registered && !guest.blocks[1].registered);
    CHECK(fail_ops_all_unmapped(&guest.fail));
    CHECK(resources_are(before));
    *calls = guest.fail.calls;
    guest_destroy(&guest);
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

/* Once more after a failure, in the same process, with the same blocks. */
static bool body_second_try(void)
{
    Guest guest;

    guest_init(&guest);
    fail_ops_init(&guest.fail, 11, ENOMEM);
    guest.mis.uffd_ops = &guest.fail.ops;
    CHECK(!uffd_setup_incoming(&guest.mis, give_page, 1, NULL));
    guest.mis.uffd_ops = NULL;
    CHECK(loads_and_ends(&guest));
    guest_destroy(&guest);
    return true;
}

BOUNDED_TEST(test_second_try_works, body_second_try)

/*
 * No thread before what it uses exists: it would poll descriptor -1. So the
 * last call of set-up is the one that starts it.
 */
static bool body_thread_last(void)
{
    unsigned calls;
    Guest guest;

    guest_init(&guest);
    fail_ops_init(&guest.fail, 0, 0);
    guest.mis.uffd_ops = &guest.fail.ops;
    CHECK(uffd_setup_incoming(&guest.mis, give_page, 3, NULL));
    calls = guest.fail.calls;
    CHECK(uffd_cleanup_incoming(&guest.mis, NULL));
    guest_destroy(&guest);
    guest_init(&guest);
    fail_ops_init(&guest.fail, calls, EAGAIN);
    guest.mis.uffd_ops = &guest.fail.ops;
    CHECK(!uffd_setup_incoming(&guest.mis, give_page, 3, NULL));
    CHECK(guest.blocks[0].host[0] == 0);
    guest_destroy(&guest);
    return true;
}

BOUNDED_TEST(test_fault_thread_is_started_last, body_thread_last)

/* A page_size that its memory does not have would be placed in part. */
static bool body_wrong_page_size(void)
{
    g_autoptr(GError) error = NULL;
    Resources before;
    Guest guest;

    guest_init(&guest);
    guest.blocks[1].page_size = AT(2);
    guest.blocks[1].lazy_length = AT(PAGES);
    before = count_resources();
    CHECK(!uffd_setup_incoming(&guest.mis, give_page, 1, &error));
    CHECK(strstr(error->message, "is not that of its memory"));
    CHECK(resources_are(before));
    guest_destroy(&guest);
    return true;
}

BOUNDED_TEST(test_wrong_page_size, body_wrong_page_size)

/* Scripted operations: the guest is found by the table that it embeds. */
static Guest *guest_of(const UffdOps *ops)
{
    return (Guest *)((char *)ops - offsetof(Guest, ops));
}

static unsigned next_call(const UffdOps *ops)
{
    return __atomic_fetch_add(&guest_of(ops)->scripted, 1, __ATOMIC_RELAXED);
}

static void no_nap(const UffdOps *ops, unsigned microseconds)
{
    (void)ops;
    (void)microseconds;
}

/* Each kind of answer that is not the end, before each answer that is true. */
static int poll_with_eintr(const UffdOps *ops, struct pollfd *fds, nfds_t n_fds)
{
    return next_call(ops) % 2 ? uffd_ops_real()->poll(ops, fds, n_fds) : -EINTR;
}

static ssize_t read_with_eagain(const UffdOps *ops, int uffd, struct uffd_msg *messages,
                                size_t length)
{
    switch (next_call(ops) % 3) {
    case 0:
        return -EAGAIN;
    case 1:
        return -EINTR;
    default:
        return uffd_ops_real()->read(ops, uffd, messages, length);
    }
}

static bool loads_with(void (*script)(UffdOps *ops), uint64_t least)
{
    Guest guest;

    guest_init(&guest);
    script(&guest.ops);
    CHECK(loads_and_ends(&guest));
    CHECK(guest.scripted >= least);
    guest_destroy(&guest);
    return true;
}

static void script_poll_eintr(UffdOps *ops)
{
    ops->poll = poll_with_eintr;
}

static void script_read_eagain(UffdOps *ops)
{
    ops->read = read_with_eagain;
}

static bool body_poll_eintr(void)
{
    return loads_with(script_poll_eintr, 2 * PAGES);
}

static bool body_read_eagain(void)
{
    return loads_with(script_read_eagain, 2 * PAGES);
}

/* poll() gives EINTR even with SA_RESTART: a thread that takes it for an error
 * leaves, and the next fault sleeps for ever. */
BOUNDED_TEST(test_poll_eintr, body_poll_eintr)

/* POLLIN, and then somebody else resolved the fault: read() has nothing. */
BOUNDED_TEST(test_pollin_then_eagain, body_read_eagain)

/* The same with a real signal at a thread that really sleeps in poll(). */
static bool body_real_signal(void)
{
    Guest guest;

    guest_init(&guest);
    let_sigusr1_interrupt();
    CHECK(set_up(&guest));
    for (uint64_t page = 0; page < PAGES; page++) {
        pthread_kill(guest.mis.fault_thread, SIGUSR1);
        g_usleep(500);
        CHECK(guest.blocks[0].host[AT(page)] == PAGE_BYTE(page));
    }
    CHECK(check_pages(&guest));
    CHECK(uffd_cleanup_incoming(&guest.mis, NULL));
    CHECK(!guest.failure);
    guest_destroy(&guest);
    return true;
}

BOUNDED_TEST(test_signals_at_the_fault_thread, body_real_signal)

/* A duplicate of each message, as after a signal in the middle of a fault. */
static ssize_t read_twice(const UffdOps *ops, int uffd, struct uffd_msg *messages, size_t length)
{
    ssize_t result = uffd_ops_real()->read(ops, uffd, messages,
                                           length / 2 / sizeof(*messages) * sizeof(*messages));

    if (result > 0) {
        memcpy((char *)messages + result, messages, (size_t)result);
        result *= 2;
    }
    next_call(ops);
    return result;
}

static void script_read_twice(UffdOps *ops)
{
    ops->read = read_twice;
}

static bool body_duplicates(void)
{
    return loads_with(script_read_twice, 2 * PAGES);
}

/* The second message must neither place the page again, over what the guest
 * has written meanwhile, nor be an error. */
BOUNDED_TEST(test_duplicate_messages, body_duplicates)

/* EAGAIN at first, with nothing done: the address space is changing. */
static int copy_after_eagain(const UffdOps *ops, int uffd, struct uffdio_copy *copy)
{
    if (next_call(ops) % 4 != 3) {
        copy->copy = -EAGAIN;
        return -EAGAIN;
    }
    return uffd_ops_real()->copy(ops, uffd, copy);
}

static void script_copy_eagain(UffdOps *ops)
{
    ops->copy = copy_after_eagain;
}

static bool body_copy_eagain(void)
{
    return loads_with(script_copy_eagain, 8 * PAGES);
}

BOUNDED_TEST(test_copy_eagain, body_copy_eagain)

/* What cannot be survived: the thread that touches gets SIGBUS, in bounded time. */
static bool touch_gives(Guest *guest, unsigned page, int wanted)
{
    uint8_t value;
    int number;

    touch_survives(guest->blocks[0].host + AT(page), &value, &number);
    if (number != wanted) {
        fprintf(stderr, "page %u gives signal %d, not %d (byte 0x%02x)\n", page, number, wanted,
                value);
    }
    return number == wanted;
}

static bool fails_with(void (*script)(UffdOps *ops), int number, bool ends, const char *words)
{
    Resources before;
    Guest guest;

    guest_init(&guest);
    script(&guest.ops);
    guest.ops.nap = no_nap;
    before = count_resources();
    CHECK(set_up(&guest));
    CHECK(touch_gives(&guest, 3, number));
    CHECK(uffd_cleanup_incoming(&guest.mis, NULL));
    CHECK(guest.ended == ends);
    if (words) {
        CHECK(guest.failure && strstr(guest.failure->message, words));
    }
    /* Nor does it become a page of zeroes when the load has ended. */
    CHECK(touch_gives(&guest, 3, number));
    CHECK(resources_are(before));
    guest_destroy(&guest);
    return true;
}

static ssize_t read_eio(const UffdOps *ops, int uffd, struct uffd_msg *messages, size_t length)
{
    (void)ops;
    (void)uffd;
    (void)messages;
    (void)length;
    return -EIO;
}

static ssize_t read_half(const UffdOps *ops, int uffd, struct uffd_msg *messages, size_t length)
{
    ssize_t result = uffd_ops_real()->read(ops, uffd, messages, length);

    return result > 0 ? result / 2 : result;
}

static int poll_eio(const UffdOps *ops, struct pollfd *fds, nfds_t n_fds)
{
    int result = uffd_ops_real()->poll(ops, fds, n_fds);

    return fds[1].revents ? result : -EIO;
}

static int poll_err(const UffdOps *ops, struct pollfd *fds, nfds_t n_fds)
{
    int result = uffd_ops_real()->poll(ops, fds, n_fds);

    fds[0].revents = fds[0].revents ? POLLERR : 0;
    return result;
}

static int copy_esrch(const UffdOps *ops, int uffd, struct uffdio_copy *copy)
{
    (void)ops;
    (void)uffd;
    copy->copy = -ESRCH;
    return -ESRCH;
}

static int copy_eagain(const UffdOps *ops, int uffd, struct uffdio_copy *copy)
{
    (void)ops;
    (void)uffd;
    copy->copy = -EAGAIN;
    return -EAGAIN;
}

static int poison_einval(const UffdOps *ops, int uffd, struct uffdio_poison *poison)
{
    (void)ops;
    (void)uffd;
    (void)poison;
    return -EINVAL;
}

static ssize_t read_unknown_event(const UffdOps *ops, int uffd, struct uffd_msg *messages,
                                  size_t length)
{
    ssize_t result = uffd_ops_real()->read(ops, uffd, messages, length - sizeof(*messages));

    if (result > 0) {
        memset((char *)messages + result, 0, sizeof(*messages));
        messages[(size_t)result / sizeof(*messages)].event = UFFD_EVENT_REMAP;
        result += (ssize_t)sizeof(*messages);
    }
    return result;
}

static ssize_t read_unknown_address(const UffdOps *ops, int uffd, struct uffd_msg *messages,
                                    size_t length)
{
    ssize_t result = uffd_ops_real()->read(ops, uffd, messages, length - sizeof(*messages));

    if (result > 0) {
        size_t n = (size_t)result / sizeof(*messages);

        messages[n] = messages[0];
        messages[n].arg.pagefault.address = (uintptr_t)guest_of(ops)->ram + AT(PAGES);
        result += (ssize_t)sizeof(*messages);
    }
    return result;
}

#define DEFINE_SCRIPT(script, op, function)                                                        \
    static void script(UffdOps *ops)                                                               \
    {                                                                                              \
        ops->op = function;                                                                        \
    }

DEFINE_SCRIPT(script_read_eio, read, read_eio)
DEFINE_SCRIPT(script_read_half, read, read_half)
DEFINE_SCRIPT(script_poll_eio, poll, poll_eio)
DEFINE_SCRIPT(script_poll_err, poll, poll_err)
DEFINE_SCRIPT(script_copy_esrch, copy, copy_esrch)
DEFINE_SCRIPT(script_copy_eagain_for_ever, copy, copy_eagain)

static void script_no_poison(UffdOps *ops)
{
    ops->copy = copy_esrch;
    ops->poison = poison_einval;
}

static bool body_fault_thread_dies(void)
{
    CHECK(fails_with(script_read_eio, SIGBUS, true, "reading from userfaultfd"));
    CHECK(fails_with(script_read_half, SIGBUS, true, "not a whole number"));
    CHECK(fails_with(script_poll_eio, SIGBUS, true, "polling userfaultfd"));
    CHECK(fails_with(script_poll_err, SIGBUS, true, "it answers 0x8"));
    return true;
}

/* The handler's exit races with a fault: who came too late, or waits already,
 * must not sleep for ever, nor get zeroes when the descriptor is closed. */
BOUNDED_TEST(test_fault_thread_that_has_to_leave, body_fault_thread_dies)

static bool body_copy_fails(void)
{
    return fails_with(script_copy_esrch, SIGBUS, false, NULL) &&
           fails_with(script_copy_eagain_for_ever, SIGBUS, false, NULL);
}

/* The fault's message, and then nothing but errors. */
static ssize_t read_once(const UffdOps *ops, int uffd, struct uffd_msg *messages, size_t length)
{
    return next_call(ops) == 0 ? uffd_ops_real()->read(ops, uffd, messages, length) : -EIO;
}

/*
 * The fault thread waits for an event that keeps its COPY from succeeding, and
 * is the only one to read it: where it cannot, it must not wait for ever.
 */
static bool body_no_events_while_it_waits(void)
{
    Guest guest;

    guest_init(&guest);
    guest.mis.remove_events = true;
    guest.ops.copy = copy_eagain;
    guest.ops.read = read_once;
    guest.ops.nap = no_nap;
    CHECK(set_up(&guest));
    CHECK(touch_gives(&guest, 3, SIGBUS));
    CHECK(uffd_cleanup_incoming(&guest.mis, NULL));
    CHECK(touch_gives(&guest, 3, SIGBUS));
    guest_destroy(&guest);
    return true;
}

BOUNDED_TEST(test_events_that_cannot_be_read, body_no_events_while_it_waits)

/* ESRCH, or EAGAIN without end (after about 10 s, which this table skips). */
BOUNDED_TEST(test_copy_fails, body_copy_fails)

static bool body_no_poison(void)
{
    return fails_with(script_no_poison, SIGSEGV, false, NULL);
}

/* Before Linux 6.6 nothing can be poisoned. Unregistering would give zeroes,
 * holding on would hang: the block is shut off. */
BOUNDED_TEST(test_kernel_without_poison, body_no_poison)

static bool body_unknown_event(void)
{
    Guest guest;

    guest_init(&guest);
    guest.ops.read = read_unknown_event;
    CHECK(set_up(&guest));
    CHECK(check_pages(&guest));
    CHECK(uffd_cleanup_incoming(&guest.mis, NULL));
    CHECK(!guest.ended && guest.failure);
    CHECK(strstr(guest.failure->message, "event that nobody asked for"));
    guest_destroy(&guest);
    return true;
}

static bool body_unknown_address(void)
{
    Guest guest;

    guest_init(&guest);
    guest.ops.read = read_unknown_address;
    CHECK(set_up(&guest));
    CHECK(check_pages(&guest));
    CHECK(uffd_cleanup_incoming(&guest.mis, NULL));
    CHECK(!guest.ended && guest.failure);
    CHECK(strstr(guest.failure->message, "is in no block"));
    guest_destroy(&guest);
    return true;
}

/* Reported, never passed over; the pages of others are served all the same. */
BOUNDED_TEST(test_unknown_messages, body_unknown_event, body_unknown_address)

static int protect_enomem(const UffdOps *ops, void *memory, size_t length, int protection)
{
    (void)ops;
    (void)memory;
    (void)length;
    (void)protection;
    return -ENOMEM;
}

static void read_page_3(Toucher *self)
{
    self->value = *(volatile uint8_t *)self->guest->block.host;
}

/*
 * Nothing works: no poison, and no memory to shut the block off. Who waits
 * waits on, for the other choice is a page of zeroes; set-up's end reports it.
 */
static bool body_nothing_works(void)
{
    g_autoptr(GError) error = NULL;
    LazyGuest shell = { 0 };
    Toucher toucher = { .body = read_page_3, .guest = &shell };
    Guest guest;

    guest_init(&guest);
    script_no_poison(&guest.ops);
    guest.ops.protect = protect_enomem;
    CHECK(set_up(&guest));
    shell.block.host = guest.blocks[0].host + AT(3);
    toucher_start(&toucher);
    while (!__atomic_load_n(&guest.blocks[0].keep_registered, __ATOMIC_ACQUIRE)) {
        g_usleep(100);
    }
    toucher_wait_asleep(&toucher);
    CHECK(!uffd_cleanup_incoming(&guest.mis, &error));
    CHECK(strstr(error->message, "it stays registered"));
    CHECK(guest.mis.userfault_fd == -1);
    g_usleep(20000);
    CHECK(!toucher_is_done(&toucher));
    /* The thread sleeps for ever: no leak check, no destructor. */
    _exit(0);
}

BOUNDED_TEST(test_where_nothing_works_there_is_no_zero_page, body_nothing_works)

/* Faults of 8 threads on one page: as many messages, one copy, all go on. */
static bool body_all_on_one_page(void)
{
    LazyGuest shell = { 0 };
    Toucher touchers[8];
    Guest guest;

    guest_init(&guest);
    CHECK(set_up(&guest));
    shell.block.host = guest.blocks[0].host;
    for (unsigned i = 0; i < 8; i++) {
        touchers[i] = (Toucher){ .guest = &shell, .offset = AT(5) };
        toucher_start(&touchers[i]);
    }
    for (unsigned i = 0; i < 8; i++) {
        toucher_join(&touchers[i]);
        CHECK(touchers[i].signal == 0 && touchers[i].value == PAGE_BYTE(5));
    }
    CHECK(uffd_cleanup_incoming(&guest.mis, NULL));
    guest_destroy(&guest);
    return true;
}

BOUNDED_TEST(test_all_threads_on_one_page, body_all_on_one_page)

/*
 * Pure accounts: a claim is got once; what is settled stays so.
 */
static void test_claims(void **state)
{
    unsigned long bits[] = { 0x100100000, 0 };
    RAMBlock rb = { .page_size = TEST_PAGE, .file_bmap_page_size = TEST_PAGE };

    (void)state;
    assert_true(ram_block_lazy_start(&rb, AT(70), NULL));
    assert_int_equal(ram_block_lazy_pages(&rb), 70);
    assert_int_equal(claim_pages(&rb, 1, ~UINT64_C(0)), 0x3f);
    assert_int_equal(claim_pages(&rb, 0, 0xff00), 0xff00);
    assert_int_equal(claim_pages(&rb, 0, 0xfff00), 0xf0000);
    assert_true(claim_page(&rb, 0));
    assert_false(claim_page(&rb, 0));
    assert_false(ramblock_recv_bitmap_test(&rb, 0));
    assert_true(ramblock_recv_bitmap_set(&rb, 0, PAGE_DISCARDED));
    assert_false(ramblock_recv_bitmap_set(&rb, 0, PAGE_BY_EAGER_THREAD));
    assert_int_equal(page_installer(&rb, 0), PAGE_DISCARDED);
    assert_true(ramblock_recv_bitmap_test(&rb, 0));
    assert_int_equal(next_pending_data(&rb, 0), 70);
    rb.file_bmap = bits;
    assert_int_equal(next_pending_data(&rb, 0), 20);
    assert_int_equal(next_pending_data(&rb, 21), 32);
    assert_int_equal(next_pending_data(&rb, 33), 70);
    assert_int_equal(next_pending_data(&rb, 70), 70);
    assert_true(page_has_data(&rb, 20));
    assert_false(page_has_data(&rb, 21));
    assert_int_equal(claim_pages(&rb, 2, ~UINT64_C(0)), 0);
    assert_true(page_is_pending(&rb, 20));
    assert_true(claim_page(&rb, 20));
    assert_false(page_is_pending(&rb, 20));
    assert_int_equal(next_pending_data(&rb, 0), 32);
    ram_block_lazy_clear(&rb);
}

/* Pages of the file are smaller than those of the host, or greater. */
static void test_data_of_other_page_sizes(void **state)
{
    unsigned long bits[] = { 0x8000000000000100, 0x2, 0x1 };
    RAMBlock rb = { .page_size = 4 * TEST_PAGE, .file_bmap_page_size = TEST_PAGE };

    (void)state;
    assert_true(ram_block_lazy_start(&rb, AT(4 * 33), NULL));
    assert_int_equal(word_of_data(&rb, 0), 0);
    rb.file_bmap = bits;
    assert_int_equal(word_of_data(&rb, 0), 0x100018004);
    assert_int_equal(next_pending_data(&rb, 3), 15);
    rb.page_size = TEST_PAGE;
    rb.file_bmap_page_size = 4 * TEST_PAGE;
    assert_true(ram_block_lazy_start(&rb, AT(4 * 65), NULL));
    assert_int_equal(word_of_data(&rb, 0), 0xf00000000);
    assert_int_equal(word_of_data(&rb, 3), 0xf000000000000000);
    assert_int_equal(word_of_data(&rb, 4), 0xf0 & 0xf);
    bits[1] = 0x1;
    assert_int_equal(word_of_data(&rb, 4), 0xf);
    assert_int_equal(next_pending_data(&rb, 36), 252);
    ram_block_lazy_clear(&rb);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_claims),
        cmocka_unit_test(test_data_of_other_page_sizes),
        cmocka_unit_test(test_faults_are_served),
        cmocka_unit_test(test_setup_undo),
        cmocka_unit_test(test_second_try_works),
        cmocka_unit_test(test_fault_thread_is_started_last),
        cmocka_unit_test(test_wrong_page_size),
        cmocka_unit_test(test_poll_eintr),
        cmocka_unit_test(test_pollin_then_eagain),
        cmocka_unit_test(test_signals_at_the_fault_thread),
        cmocka_unit_test(test_duplicate_messages),
        cmocka_unit_test(test_copy_eagain),
        cmocka_unit_test(test_fault_thread_that_has_to_leave),
        cmocka_unit_test(test_events_that_cannot_be_read),
        cmocka_unit_test(test_copy_fails),
        cmocka_unit_test(test_kernel_without_poison),
        cmocka_unit_test(test_unknown_messages),
        cmocka_unit_test(test_where_nothing_works_there_is_no_zero_page),
        cmocka_unit_test(test_all_threads_on_one_page),
    };

    return pagewise_run("postcopy-ram", tests);
}

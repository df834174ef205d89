/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Set-up, fault thread and placing of pages; see postcopy-ram.h. All calls to
 * the kernel go through mis->uffd_ops.
 *
 * Discards by plain madvise() (remove_events). The kernel holds the caller of
 * madvise() until the event was read, and drops the pages right after that. A
 * page placed between the two would be dropped, one placed later would bring
 * stale data back. So install_lock is held from before the read until the
 * range is marked as settled, and around each placing with its look at the
 * mark. While an event is unread every ioctl fails with EAGAIN; the fault
 * thread must then read it itself, or nobody would.
 */
#include "loader/postcopy-ram.h"

#include "loader/error.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#define MESSAGES_PER_READ 16
#define MAX_WAITS 11000 /* with naps of 1 us to 1 ms: about 10 s */
#define MAX_NAP_US 1000
#define IN_FLIGHT_NAP_US 20

void lazy_point(const MigrationIncomingState *mis, LazyPoint point, LazyThread thread, RAMBlock *rb,
                uint64_t page)
{
    if (mis->at_point) {
        mis->at_point(mis->at_point_opaque, point, thread, rb, page);
    }
}

static const UffdOps *ops_of(const MigrationIncomingState *mis)
{
    return mis->uffd_ops ? mis->uffd_ops : uffd_ops_real();
}

static void lock_install(MigrationIncomingState *mis)
{
    if (mis->have_install_lock) {
        pthread_mutex_lock(&mis->install_lock);
    }
}

static void unlock_install(MigrationIncomingState *mis)
{
    if (mis->have_install_lock) {
        pthread_mutex_unlock(&mis->install_lock);
    }
}

static uint8_t *host_of(const RAMBlock *rb, uint64_t page)
{
    return rb->host + page * rb->page_size;
}

static void wake(const MigrationIncomingState *mis, RAMBlock *rb, uint64_t page, uint64_t n_pages)
{
    uffd_wake(ops_of(mis), mis->userfault_fd, host_of(rb, page), n_pages * rb->page_size);
}

/* The guest dropped the range: whole pages of it are settled. */
static void settle_as_discarded(RAMBlock *rb, uint64_t start, uint64_t end)
{
    uint64_t last = MIN(end, rb->lazy_length) / rb->page_size;

    for (uint64_t page = (start + rb->page_size - 1) / rb->page_size; page < last; page++) {
        claim_page(rb, page);
        ramblock_recv_bitmap_set(rb, page, PAGE_DISCARDED);
    }
}

static void range_removed(MigrationIncomingState *mis, uint64_t start, uint64_t end)
{
    for (unsigned i = 0; i < mis->n_blocks; i++) {
        RAMBlock *rb = &mis->blocks[i];
        uint64_t host = (uintptr_t)rb->host;

        if (start < host + rb->lazy_length && end > host) {
            settle_as_discarded(rb, MAX(start, host) - host, end - host);
        }
    }
}

/* Returns whether it is a message that was asked for. */
static bool take_message(MigrationIncomingState *mis, const struct uffd_msg *message)
{
    switch (message->event) {
    case UFFD_EVENT_PAGEFAULT:
        g_array_append_val(mis->fault_queue, *message);
        return true;
    case UFFD_EVENT_REMOVE:
        range_removed(mis, message->arg.remove.start, message->arg.remove.end);
        return true;
    default:
        return false;
    }
}

/*
 * One read. Nothing there is normal: poll() said there is, and then somebody
 * else resolved the fault. Of what is read at once discards come first: their
 * pages are being dropped already.
 */
static bool read_messages(MigrationIncomingState *mis, GError **error)
{
    struct uffd_msg messages[MESSAGES_PER_READ];
    bool expected = true;
    ssize_t length;

    lock_install(mis);
    length = ops_of(mis)->read(ops_of(mis), mis->userfault_fd, messages, sizeof(messages));
    for (ssize_t i = 0; i < length / (ssize_t)sizeof(*messages); i++) {
        expected &= take_message(mis, &messages[i]);
    }
    unlock_install(mis);
    if (!expected) {
        mis->fault_thread_failed(mis, false,
                                 g_error_new(MAPPED_RAM_ERROR, MAPPED_RAM_ERROR_NO_UFFD,
                                             "userfaultfd reports an event that nobody asked for"));
    }
    if (length == -EAGAIN || length == -EINTR) {
        return true;
    }
    if (length <= 0 || length % (ssize_t)sizeof(*messages)) {
        g_set_error(error, MAPPED_RAM_ERROR, MAPPED_RAM_ERROR_NO_UFFD,
                    "reading from userfaultfd: %s",
                    length < 0 ? g_strerror((int)-length) : "not a whole number of messages");
        return false;
    }
    return true;
}

/* The address space is changing: see the head of this file. */
static bool wait_for_change(MigrationIncomingState *mis, LazyThread thread, unsigned *waits)
{
    const UffdOps *ops = ops_of(mis);

    if (++*waits > MAX_WAITS || (thread != LAZY_FAULT_THREAD &&
                                 __atomic_load_n(&mis->events_unreadable, __ATOMIC_RELAXED))) {
        return false;
    }
    if (thread == LAZY_FAULT_THREAD && mis->remove_events && !read_messages(mis, NULL)) {
        return false;
    }
    ops->nap(ops, MIN(*waits, MAX_NAP_US));
    return true;
}

typedef struct PlaceRun {
    LazyThread thread;
    RAMBlock *rb;
    uint64_t page;
    uint64_t n_pages;
    PageInstaller by;    /* PAGE_POISONED: poison them */
    const uint8_t *from; /* NULL: zeroes */
} PlaceRun;

static bool is_huge(const RAMBlock *rb)
{
    return rb->page_size != (size_t)sysconf(_SC_PAGESIZE);
}

/* Of shared memory EEXIST is true: a page that is in the file need not be mapped. */
static int64_t copy_pages(const MigrationIncomingState *mis, RAMBlock *rb, uint64_t page,
                          const void *from, uint64_t length)
{
    const UffdOps *ops = ops_of(mis);
    uint8_t *to = host_of(rb, page);

    return is_huge(rb) && !rb->shared ? uffd_copy_huge(ops, mis->userfault_fd, to, from, length)
                                      : uffd_copy(ops, mis->userfault_fd, to, from, length);
}

static int64_t place_zeroes(const MigrationIncomingState *mis, RAMBlock *rb, uint64_t page,
                            uint64_t length)
{
    if (is_huge(rb)) {
        return copy_pages(mis, rb, page, mis->postcopy_tmp_zero_page, rb->page_size);
    }
    return uffd_zeropage(ops_of(mis), mis->userfault_fd, host_of(rb, page), length);
}

static int64_t place_length(MigrationIncomingState *mis, const PlaceRun *run, uint64_t done,
                            uint64_t length)
{
    uint64_t page = run->page + done / run->rb->page_size;

    if (run->by == PAGE_POISONED) {
        return uffd_poison(ops_of(mis), mis->userfault_fd, host_of(run->rb, page), length);
    }
    if (!run->from) {
        return place_zeroes(mis, run->rb, page, length);
    }
    return copy_pages(mis, run->rb, page, run->from + done, length);
}

/* How many pages from @page on have, or have not, been settled by others? */
static uint64_t same_run(const PlaceRun *run, uint64_t page, bool settled)
{
    uint64_t end = page;

    while (end < run->page + run->n_pages && ramblock_recv_bitmap_test(run->rb, end) == settled) {
        end++;
    }
    return end - page;
}

/* As much of the run, from @done on, as goes at once, @most pages: bytes, or -errno. */
static int64_t place_some(MigrationIncomingState *mis, const PlaceRun *run, uint64_t done,
                          uint64_t most)
{
    uint64_t page = run->page + done / run->rb->page_size;
    uint64_t settled = same_run(run, page, true);
    int64_t result;

    if (settled > 0) {
        /* Who waits there was told nothing by who discarded it. */
        wake(mis, run->rb, page, settled);
        return (int64_t)(settled * run->rb->page_size);
    }
    result =
        place_length(mis, run, done, MIN(most, same_run(run, page, false)) * run->rb->page_size);
    if (result > 0) {
        /* A kernel that stopped within a page did nothing to it. */
        result -= result % (int64_t)run->rb->page_size;
    }
    return result;
}

/*
 * Who is about to sleep when his page comes looks once more, and does not; but poison is no page
 * to Linux then: he waits for a wake that was before him. Where the fault thread heard of him
 * before receivedmap said so, he was left to us.
 */
static void settle(MigrationIncomingState *mis, const PlaceRun *run, uint64_t page,
                   uint64_t n_pages, PageInstaller by)
{
    lazy_point(mis, LAZY_POINT_PLACED, run->thread, run->rb, page);
    for (uint64_t i = 0; i < n_pages; i++) {
        ramblock_recv_bitmap_set(run->rb, page + i, by);
    }
    if (by == PAGE_POISONED) {
        wake(mis, run->rb, page, n_pages);
    }
    lazy_point(mis, LAZY_POINT_RECEIVED, run->thread, run->rb, page);
}

/* Somebody outside of the loader was faster; a failed COPY woke nobody. */
static void settle_present(MigrationIncomingState *mis, const PlaceRun *run, uint64_t page)
{
    wake(mis, run->rb, page, 1);
    settle(mis, run, page, 1, PAGE_WAS_PRESENT);
}

static int place_run(MigrationIncomingState *mis, const PlaceRun *run)
{
    uint64_t size = run->rb->page_size;
    uint64_t done = 0;
    uint64_t most = run->n_pages;
    unsigned waits = 0;

    while (done < run->n_pages * size) {
        int64_t result;

        lock_install(mis);
        result = place_some(mis, run, done, most);
        unlock_install(mis);
        if (result > 0) {
            settle(mis, run, run->page + done / size, (uint64_t)result / size, run->by);
            done += (uint64_t)result;
            most = run->n_pages;
            waits = 0;
        } else if (result == -ENOENT && most > 1) {
            /* RAM may be of several mappings; one call does not go over their edges. */
            most = (MIN(most, run->n_pages - done / size) + 1) / 2;
        } else if (result == -EEXIST) {
            settle_present(mis, run, run->page + done / size);
            done += size;
        } else if ((result != 0 && result != -EAGAIN) ||
                   !wait_for_change(mis, run->thread, &waits)) {
            return result ? (int)result : -EAGAIN;
        }
    }
    return 0;
}

int postcopy_place_pages(MigrationIncomingState *mis, LazyThread thread, RAMBlock *rb,
                         uint64_t page, uint64_t n_pages, const void *from)
{
    PlaceRun run = {
        .thread = thread,
        .rb = rb,
        .page = page,
        .n_pages = n_pages,
        .by = thread == LAZY_FAULT_THREAD ? PAGE_BY_FAULT_THREAD : PAGE_BY_EAGER_THREAD,
        .from = from,
    };

    return place_run(mis, &run);
}

/* There is no poison: nobody shall see any page of the block that is missing. */
static void shut_off(MigrationIncomingState *mis, RAMBlock *rb)
{
    const UffdOps *ops = ops_of(mis);

    if (ops->protect(ops, rb->host, rb->lazy_length, PROT_NONE) < 0) {
        __atomic_store_n(&rb->keep_registered, true, __ATOMIC_RELAXED);
    }
    wake(mis, rb, 0, ram_block_lazy_pages(rb));
}

void postcopy_give_up_pages(MigrationIncomingState *mis, LazyThread thread, RAMBlock *rb,
                            uint64_t page, uint64_t n_pages)
{
    PlaceRun run = {
        .thread = thread,
        .rb = rb,
        .page = page,
        .n_pages = n_pages,
        .by = PAGE_POISONED,
    };

    lazy_point(mis, LAZY_POINT_FAILED, thread, rb, page);
    if (place_run(mis, &run) < 0) {
        shut_off(mis, rb);
        for (uint64_t i = 0; i < n_pages; i++) {
            ramblock_recv_bitmap_set(rb, page + i, PAGE_POISONED);
        }
    }
    lazy_point(mis, LAZY_POINT_POISONED, thread, rb, page);
}

void postcopy_give_up_mask(MigrationIncomingState *mis, LazyThread thread, RAMBlock *rb,
                           uint64_t word, uint64_t mask)
{
    while (mask) {
        uint64_t first = (uint64_t)__builtin_ctzll(mask);
        uint64_t rest = ~(mask >> first);
        uint64_t n_pages = rest ? (uint64_t)__builtin_ctzll(rest) : PAGES_PER_WORD;

        postcopy_give_up_pages(mis, thread, rb, word * PAGES_PER_WORD + first, n_pages);
        mask &= n_pages + first < PAGES_PER_WORD ? ~UINT64_C(0) << (first + n_pages) : 0;
    }
}

void postcopy_give_up_block(MigrationIncomingState *mis, LazyThread thread, RAMBlock *rb, bool all)
{
    uint64_t words = (ram_block_lazy_pages(rb) + PAGES_PER_WORD - 1) / PAGES_PER_WORD;

    for (uint64_t word = 0; word < words; word++) {
        uint64_t wanted = all ? ~UINT64_C(0) : word_of_data(rb, word);

        postcopy_give_up_mask(mis, thread, rb, word, claim_pages(rb, word, wanted));
    }
}

static int64_t zero_or_poison(MigrationIncomingState *mis, RAMBlock *rb, uint64_t page, bool poison)
{
    unsigned waits = 0;
    int64_t result;

    do {
        lock_install(mis);
        result = poison
                     ? uffd_poison(ops_of(mis), mis->userfault_fd, host_of(rb, page), rb->page_size)
                     : place_zeroes(mis, rb, page, rb->page_size);
        unlock_install(mis);
    } while (result == -EAGAIN && wait_for_change(mis, LAZY_FAULT_THREAD, &waits));
    return result;
}

/* Who only was woken would come back at once, for ever. */
static int64_t refuse_zeroes(MigrationIncomingState *mis, RAMBlock *rb, uint64_t page)
{
    mis->fault_thread_failed(mis, false,
                             g_error_new(MAPPED_RAM_ERROR, MAPPED_RAM_ERROR_NO_MEMORY,
                                         "block '%s': page 0x%" PRIx64 ", which was discarded, "
                                         "cannot be zeroes: %s",
                                         rb->idstr, page, g_strerror(ENOMEM)));
    return zero_or_poison(mis, rb, page, true);
}

/*
 * Poison first of all: a zero page in its place would be silent corruption.
 * Elsewhere EEXIST says that it was a stale message, and whoever placed the
 * page woke all who waited; WAKE is for pages that others put there.
 */
void postcopy_answer_again(MigrationIncomingState *mis, RAMBlock *rb, uint64_t page)
{
    bool poisoned = page_installer(rb, page) == PAGE_POISONED;
    int64_t result = zero_or_poison(mis, rb, page, poisoned);

    if (result == -ENOMEM && !poisoned) {
        result = refuse_zeroes(mis, rb, page);
    }
    if (result < 0) {
        wake(mis, rb, page, 1);
    }
}

/* Waits until pages that others claimed before are settled. */
static void wait_for_settled(MigrationIncomingState *mis, RAMBlock *rb, uint64_t page, uint64_t end)
{
    const UffdOps *ops = ops_of(mis);

    for (; page < end; page++) {
        while (!ramblock_recv_bitmap_test(rb, page)) {
            ops->nap(ops, IN_FLIGHT_NAP_US);
        }
    }
}

/* Pages that are pending are settled, so that nobody loads them. */
static void discard_pages(MigrationIncomingState *mis, RAMBlock *rb, uint64_t page, uint64_t end)
{
    for (uint64_t i = page; i < end; i++) {
        if (claim_page(rb, i)) {
            lazy_point(mis, LAZY_POINT_CLAIMED, LAZY_OTHER_THREAD, rb, i);
            ramblock_recv_bitmap_set(rb, i, PAGE_DISCARDED);
        }
    }
    wait_for_settled(mis, rb, page, end);
    lazy_point(mis, LAZY_POINT_DISCARD_MARKED, LAZY_OTHER_THREAD, rb, page);
    /* The fault thread may have left a page to who had the claim: to us. */
    wake(mis, rb, page, end - page);
}

/*
 * Of a shared file MADV_REMOVE drops the bytes, and leaves the poison of an
 * earlier load that failed: MADV_DONTNEED takes that away. (Kernels before 5.18
 * have it not for hugetlb memory, EINVAL; nor have they poison.)
 */
static int drop_memory(const UffdOps *ops, const RAMBlock *rb, ram_addr_t offset, uint64_t length)
{
    int result = rb->shared ? ops->advise(ops, rb->host + offset, length, MADV_REMOVE) : 0;

    if (result < 0) {
        return result;
    }
    result = ops->advise(ops, rb->host + offset, length, MADV_DONTNEED);
    return rb->shared && result == -EINVAL ? 0 : result;
}

static bool refuse_block(GError **error, const RAMBlock *rb, const char *what, int result)
{
    g_set_error(error, MAPPED_RAM_ERROR, MAPPED_RAM_ERROR_NO_UFFD, "block '%s': %s: %s", rb->idstr,
                what, g_strerror(-result));
    return false;
}

bool postcopy_discard_range(MigrationIncomingState *mis, RAMBlock *rb, ram_addr_t offset,
                            uint64_t length, GError **error)
{
    int result = -EINVAL;

    if (offset <= rb->max_length && length <= rb->max_length - offset &&
        offset % rb->page_size == 0 && length % rb->page_size == 0) {
        if (rb->registered && offset < rb->lazy_length) {
            discard_pages(mis, rb, offset / rb->page_size,
                          MIN(offset + length, rb->lazy_length) / rb->page_size);
        }
        result = drop_memory(ops_of(mis), rb, offset, length);
    }
    return result < 0 ? refuse_block(error, rb, "RAM cannot be discarded", result) : true;
}

/*
 * Whose claims these are goes on, unless an unread event stops him: who else
 * would read it now? Where that cannot be done, waiting for it is in vain.
 */
static void wait_without_faults(MigrationIncomingState *mis, RAMBlock *rb)
{
    const UffdOps *ops = ops_of(mis);

    for (uint64_t page = 0; page < ram_block_lazy_pages(rb); page++) {
        while (!ramblock_recv_bitmap_test(rb, page)) {
            if (mis->remove_events && !read_messages(mis, NULL)) {
                __atomic_store_n(&mis->events_unreadable, true, __ATOMIC_RELAXED);
            }
            ops->nap(ops, IN_FLIGHT_NAP_US);
        }
    }
}

/*
 * Who sleeps in madvise() until his event was read wakes when the last copy of
 * the descriptor is closed. Its number has to stay for those who may still use
 * it: it becomes the eventfd's.
 */
static void close_under_number(const MigrationIncomingState *mis)
{
    ops_of(mis)->replace(ops_of(mis), mis->userfault_fd, mis->userfault_event_fd);
}

/* Closing the descriptor would turn missing pages of a block into pages of zeroes. */
static bool descriptor_stays(const MigrationIncomingState *mis)
{
    for (unsigned i = 0; i < mis->n_blocks; i++) {
        const RAMBlock *rb = &mis->blocks[i];

        if (rb->registered && __atomic_load_n(&rb->keep_registered, __ATOMIC_RELAXED)) {
            return true;
        }
    }
    return false;
}

void postcopy_end_faults(MigrationIncomingState *mis)
{
    for (unsigned i = 0; i < mis->n_blocks; i++) {
        if (mis->blocks[i].registered) {
            wait_without_faults(mis, &mis->blocks[i]);
        }
    }
    if (!descriptor_stays(mis)) {
        close_under_number(mis);
    }
}

/* Somebody sleeps outside of all blocks: he gets a signal, and the load fails. */
static void refuse_address(MigrationIncomingState *mis, uint64_t address)
{
    uint64_t page_size = (uint64_t)sysconf(_SC_PAGESIZE);
    void *page = (void *)(uintptr_t)(address - address % page_size);

    uffd_poison(ops_of(mis), mis->userfault_fd, page, page_size);
    mis->fault_thread_failed(mis, false,
                             g_error_new(MAPPED_RAM_ERROR, MAPPED_RAM_ERROR_NO_UFFD,
                                         "a fault at address 0x%" PRIx64
                                         " is in no block that is loaded lazily",
                                         address));
}

static void serve_fault(MigrationIncomingState *mis, const struct uffd_msg *message)
{
    uint64_t address = message->arg.pagefault.address;
    ram_addr_t offset;
    RAMBlock *rb = ram_block_from_address(mis, address, &offset);

    if (!rb) {
        refuse_address(mis, address);
        return;
    }
    mis->fault_thread_ptid = message->arg.pagefault.feat.ptid;
    mis->fault_is_write = message->arg.pagefault.flags & UFFD_PAGEFAULT_FLAG_WRITE;
    offset -= offset % rb->page_size;
    if (mis->page_fault_handler(mis, rb, offset, (void *)(uintptr_t)address) == 0) {
        __atomic_fetch_add(&mis->faults, 1, __ATOMIC_RELAXED);
    }
}

/* Serving one fault may put others into the queue: wait_for_change(). */
static void serve_queue(MigrationIncomingState *mis)
{
    for (guint i = 0; i < mis->fault_queue->len; i++) {
        struct uffd_msg message = g_array_index(mis->fault_queue, struct uffd_msg, i);

        serve_fault(mis, &message);
    }
    g_array_set_size(mis->fault_queue, 0);
}

typedef enum FaultWait {
    FAULT_WAIT_READY,
    FAULT_WAIT_QUIT,
    FAULT_WAIT_FAILED,
} FaultWait;

static FaultWait wait_for_messages(MigrationIncomingState *mis, GError **error)
{
    struct pollfd fds[] = {
        { .fd = mis->userfault_fd, .events = POLLIN },
        { .fd = mis->userfault_event_fd, .events = POLLIN },
    };
    const UffdOps *ops = ops_of(mis);
    int result;

    do {
        result = ops->poll(ops, fds, G_N_ELEMENTS(fds));
    } while (result == -EINTR);
    if (result < 0) {
        g_set_error(error, MAPPED_RAM_ERROR, MAPPED_RAM_ERROR_NO_UFFD, "polling userfaultfd: %s",
                    g_strerror(-result));
        return FAULT_WAIT_FAILED;
    }
    if (fds[1].revents) {
        return FAULT_WAIT_QUIT;
    }
    if (fds[0].revents & ~POLLIN) {
        g_set_error(error, MAPPED_RAM_ERROR, MAPPED_RAM_ERROR_NO_UFFD,
                    "polling userfaultfd: it answers 0x%x", (unsigned)fds[0].revents);
        return FAULT_WAIT_FAILED;
    }
    return FAULT_WAIT_READY;
}

static void *postcopy_ram_fault_thread(void *opaque)
{
    MigrationIncomingState *mis = opaque;
    GError *error = NULL;

    for (;;) {
        FaultWait wait = wait_for_messages(mis, &error);

        if (wait == FAULT_WAIT_QUIT) {
            return NULL;
        }
        if (wait == FAULT_WAIT_FAILED || !read_messages(mis, &error)) {
            mis->fault_thread_failed(mis, true, error);
            return NULL;
        }
        serve_queue(mis);
    }
}

/* Of faults from number @from in the queue on: who needs nothing but zeroes need not wait. */
static void answer_settled(MigrationIncomingState *mis, guint from)
{
    for (guint i = from; i < mis->fault_queue->len; i++) {
        const struct uffd_msg *message = &g_array_index(mis->fault_queue, struct uffd_msg, i);
        ram_addr_t offset;
        RAMBlock *rb = ram_block_from_address(mis, message->arg.pagefault.address, &offset);

        if (rb && ramblock_recv_bitmap_test(rb, offset / rb->page_size)) {
            postcopy_answer_again(mis, rb, offset / rb->page_size);
        }
    }
}

/* The queue grows meanwhile, by one fault for each thread of the guest, or about that. */
bool postcopy_pause_fault_thread(MigrationIncomingState *mis, int event_fd)
{
    struct pollfd fds[] = {
        { .fd = event_fd, .events = POLLIN },
        { .fd = mis->userfault_event_fd, .events = POLLIN },
        { .fd = mis->userfault_fd, .events = POLLIN },
    };
    const UffdOps *ops = ops_of(mis);
    int result;

    answer_settled(mis, 0);
    do {
        guint known = mis->fault_queue->len;

        result = ops->poll(ops, fds, G_N_ELEMENTS(fds));
        if (result > 0 && fds[2].revents) {
            if (!read_messages(mis, NULL)) {
                return false;
            }
            answer_settled(mis, known);
        }
    } while (result == -EINTR || (result > 0 && !fds[0].revents && !fds[1].revents));
    return result > 0 && !fds[1].revents;
}

static bool open_userfault_fd(MigrationIncomingState *mis, GError **error)
{
    uint64_t required = mis->remove_events ? UFFD_FEATURE_EVENT_REMOVE : 0;
    Uffd uffd;

    if (!uffd_open(ops_of(mis), required, UFFD_FEATURE_THREAD_ID, &uffd, error)) {
        return false;
    }
    mis->userfault_fd = uffd.fd;
    mis->userfault_method = uffd.method;
    return true;
}

static bool open_event_fd(MigrationIncomingState *mis, GError **error)
{
    int result = ops_of(mis)->eventfd(ops_of(mis), EFD_CLOEXEC | EFD_NONBLOCK);

    if (result < 0) {
        g_set_error(error, MAPPED_RAM_ERROR, MAPPED_RAM_ERROR_NO_UFFD,
                    "the fault thread's eventfd: %s", g_strerror(-result));
        return false;
    }
    mis->userfault_event_fd = result;
    return true;
}

static bool map_page(const MigrationIncomingState *mis, size_t length, int protection, void **page,
                     GError **error)
{
    int result = ops_of(mis)->map(ops_of(mis), -1, length, protection, page);

    if (result < 0) {
        g_set_error(error, MAPPED_RAM_ERROR, MAPPED_RAM_ERROR_NO_MEMORY,
                    "no memory for a temporary page of 0x%zx bytes: %s", length,
                    g_strerror(-result));
    }
    return result >= 0;
}

static bool postcopy_temp_pages_setup(MigrationIncomingState *mis, unsigned channels,
                                      GError **error)
{
    mis->tmp_page_length = POSTCOPY_TMP_LENGTH;
    for (unsigned i = 0; i < mis->n_blocks; i++) {
        if (mis->blocks[i].lazy_length > 0) {
            mis->tmp_page_length = MAX(mis->tmp_page_length, mis->blocks[i].page_size);
        }
    }
    mis->postcopy_tmp_pages = g_new0(PostcopyTmpPage, channels);
    mis->postcopy_channels = channels;
    for (unsigned i = 0; i < channels; i++) {
        if (!map_page(mis, mis->tmp_page_length, PROT_READ | PROT_WRITE,
                      &mis->postcopy_tmp_pages[i].tmp_huge_page, error)) {
            return false;
        }
    }
    return map_page(mis, mis->tmp_page_length, PROT_READ, &mis->postcopy_tmp_zero_page, error);
}

static bool register_block(MigrationIncomingState *mis, RAMBlock *rb, GError **error)
{
    const UffdOps *ops = ops_of(mis);
    int result = drop_memory(ops, rb, 0, rb->lazy_length);
    bool huge;

    if (result < 0) {
        return refuse_block(error, rb, "RAM cannot be emptied before the load", result);
    }
    if (!uffd_register(ops, mis->userfault_fd, rb->host, rb->lazy_length, &huge, error)) {
        g_prefix_error(error, "block '%s': ", rb->idstr);
        return false;
    }
    rb->registered = true;
    if (huge != is_huge(rb)) {
        g_set_error(error, MAPPED_RAM_ERROR, MAPPED_RAM_ERROR_NO_UFFD,
                    "block '%s': its page size 0x%zx is not that of its memory, which is%s hugetlb",
                    rb->idstr, rb->page_size, huge ? "" : " not");
        return false;
    }
    result = ops->advise(ops, rb->host, rb->lazy_length, MADV_DONTFORK);
    return result < 0 ? refuse_block(error, rb, "RAM cannot be kept from children", result) : true;
}

static bool register_blocks(MigrationIncomingState *mis, GError **error)
{
    for (unsigned i = 0; i < mis->n_blocks; i++) {
        if (mis->blocks[i].lazy_length > 0 && !register_block(mis, &mis->blocks[i], error)) {
            return false;
        }
    }
    return true;
}

static bool start_fault_thread(MigrationIncomingState *mis, GError **error)
{
    int result =
        ops_of(mis)->create_thread(ops_of(mis), &mis->fault_thread, postcopy_ram_fault_thread, mis);

    if (result < 0) {
        g_set_error(error, MAPPED_RAM_ERROR, MAPPED_RAM_ERROR_NO_MEMORY,
                    "the fault thread cannot be started: %s", g_strerror(-result));
        return false;
    }
    mis->have_fault_thread = true;
    return true;
}

static void start_from_nothing(MigrationIncomingState *mis, PostcopyPageHandler handler)
{
    mis->userfault_fd = -1;
    mis->userfault_event_fd = -1;
    mis->page_fault_handler = handler;
    mis->fault_thread_ptid = 0;
    mis->fault_is_write = false;
    mis->postcopy_channels = 0;
    mis->postcopy_tmp_pages = NULL;
    mis->postcopy_tmp_zero_page = NULL;
    mis->fault_queue = g_array_new(FALSE, FALSE, sizeof(struct uffd_msg));
    mis->have_fault_thread = false;
    mis->faults = 0;
    mis->events_unreadable = false;
    mis->have_install_lock = mis->remove_events;
    if (mis->have_install_lock) {
        pthread_mutex_init(&mis->install_lock, NULL);
    }
}

bool postcopy_check_block(const RAMBlock *rb, GError **error)
{
    size_t size = rb->page_size;

    if (size == 0 || (size & (size - 1)) || size % (size_t)sysconf(_SC_PAGESIZE) ||
        (uintptr_t)rb->host % size) {
        g_set_error(error, MAPPED_RAM_ERROR, MAPPED_RAM_ERROR_UNSUPPORTED,
                    "block '%s': cannot be loaded lazily: its RAM at %p is not aligned to host "
                    "pages of 0x%zx bytes, or the kernel has no such pages",
                    rb->idstr, (void *)rb->host, size);
        return false;
    }
    return true;
}

bool uffd_setup_incoming(MigrationIncomingState *mis, PostcopyPageHandler handler,
                         unsigned channels, GError **error)
{
    g_assert(handler && mis->fault_thread_failed);
    start_from_nothing(mis, handler);
    if (open_userfault_fd(mis, error) && open_event_fd(mis, error) &&
        postcopy_temp_pages_setup(mis, channels, error) && register_blocks(mis, error) &&
        start_fault_thread(mis, error)) {
        return true;
    }
    uffd_cleanup_incoming(mis, NULL);
    return false;
}

static void end_fault_thread(MigrationIncomingState *mis)
{
    if (mis->have_fault_thread) {
        eventfd_write(mis->userfault_event_fd, 1);
        ops_of(mis)->join_thread(ops_of(mis), mis->fault_thread);
        mis->have_fault_thread = false;
    }
}

/* @stays: another block keeps the descriptor. */
static bool unregister_block(MigrationIncomingState *mis, RAMBlock *rb, bool stays, GError **error)
{
    const UffdOps *ops = ops_of(mis);
    bool ok;

    if (rb->keep_registered) {
        g_set_error(error, MAPPED_RAM_ERROR, MAPPED_RAM_ERROR_NO_UFFD,
                    "block '%s': pages are missing and cannot be shut off: it stays registered",
                    rb->idstr);
        return false;
    }
    lazy_point(mis, LAZY_POINT_BEFORE_UNREGISTER, LAZY_OTHER_THREAD, rb, 0);
    ok = uffd_unregister(ops, mis->userfault_fd, rb->host, rb->lazy_length, error);
    if (!ok && stays) {
        /* With the descriptor this registration stays, too: no close() ends it. */
        rb->keep_registered = true;
        return false;
    }
    ops->advise(ops, rb->host, rb->lazy_length, MADV_DOFORK);
    rb->registered = false;
    return ok;
}

/* Returns false with @error (the first) if one failed, or has to stay. */
static bool unregister_blocks(MigrationIncomingState *mis, bool stays, GError **error)
{
    g_autoptr(GError) first = NULL;

    for (unsigned i = 0; i < mis->n_blocks; i++) {
        RAMBlock *rb = &mis->blocks[i];

        if (rb->registered) {
            unregister_block(mis, rb, stays, first ? NULL : &first);
        }
    }
    if (first) {
        g_propagate_error(error, g_steal_pointer(&first));
        return false;
    }
    return true;
}

/*
 * Nothing new comes after UNREGISTER. But who called madvise() in the last
 * moment sleeps until his event was read, or the last copy of the descriptor
 * was closed: a forked child may have one.
 */
static void read_what_is_left(const MigrationIncomingState *mis)
{
    struct uffd_msg messages[MESSAGES_PER_READ];
    const UffdOps *ops = ops_of(mis);

    while (ops->read(ops, mis->userfault_fd, messages, sizeof(messages)) > 0) {
    }
}

static void close_fd(const MigrationIncomingState *mis, int *fd)
{
    if (*fd >= 0) {
        ops_of(mis)->close(ops_of(mis), *fd);
        *fd = -1;
    }
}

static void unmap_page(const MigrationIncomingState *mis, void *page)
{
    if (page) {
        ops_of(mis)->unmap(ops_of(mis), page, mis->tmp_page_length);
    }
}

static void postcopy_temp_pages_cleanup(MigrationIncomingState *mis)
{
    for (unsigned i = 0; i < mis->postcopy_channels; i++) {
        unmap_page(mis, mis->postcopy_tmp_pages[i].tmp_huge_page);
    }
    g_clear_pointer(&mis->postcopy_tmp_pages, g_free);
    mis->postcopy_channels = 0;
    unmap_page(mis, mis->postcopy_tmp_zero_page);
    mis->postcopy_tmp_zero_page = NULL;
}

/* Whatever set-up got done is undone, in the order that postcopy-ram.h says. */
bool uffd_cleanup_incoming(MigrationIncomingState *mis, GError **error)
{
    bool stays;
    bool ok;

    end_fault_thread(mis);
    stays = descriptor_stays(mis);
    ok = unregister_blocks(mis, stays, error);
    if (mis->remove_events && mis->userfault_fd >= 0) {
        read_what_is_left(mis);
    }
    if (stays) {
        mis->userfault_fd = -1;
    }
    close_fd(mis, &mis->userfault_fd);
    close_fd(mis, &mis->userfault_event_fd);
    postcopy_temp_pages_cleanup(mis);
    g_clear_pointer(&mis->fault_queue, g_array_unref);
    if (mis->have_install_lock) {
        pthread_mutex_destroy(&mis->install_lock);
        mis->have_install_lock = false;
    }
    mis->page_fault_handler = NULL;
    return ok;
}

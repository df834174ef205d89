/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * loader/snapshot-load.[ch]: whatever memory, page sizes, bits, threads and
 * order of touches, RAM is what the eager load makes of the file, and the
 * pages came there the lazy way. See lazy-support.h for what the file holds.
 */
#include "unit/hugetlb-pool.h"
#include "unit/lazy-support.h"
#include "unit/support.h"

#include <string.h>

#define MAX_THREADS 8

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

BOUNDED_TEST(test_lazy_is_eager_anonymous, body_anonymous_small, body_anonymous,
             body_anonymous_large)

BOUNDED_TEST(test_lazy_is_eager_memfd, body_memfd_small, body_memfd, body_memfd_large)

/* Two huge pages and a half: the half is loaded when the load begins. */
static bool body_hugetlb(void)
{
    return load_all_of(RAM_HUGETLB, 0x1000, 0x500000);
}

static bool body_hugetlb_large(void)
{
    return load_all_of(RAM_HUGETLB, 0x10000, 0x500000);
}

static void test_lazy_is_eager_hugetlb(void **state)
{
    (void)state;
    require_uffd();
    require_hugetlb_pool();
    run_bounded(body_hugetlb);
    run_bounded(body_hugetlb_large);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lazy_is_eager_anonymous),
        cmocka_unit_test(test_lazy_is_eager_memfd),
        cmocka_unit_test_setup_teardown(test_lazy_is_eager_hugetlb, hugetlb_pool_set_up,
                                        hugetlb_pool_tear_down),
    };

    return pagewise_run("lazy-table", tests);
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * loader/uffd.[ch], postcopy-ram.[ch]: the pool of huge pages runs dry while
 * guest RAM is loaded. Linux then says of a COPY that the page is there (EEXIST);
 * a loader that believes it answers one fault over and over, and leaves zeroes
 * in place of data. Real userfaultfd, real pool.
 */
#define _GNU_SOURCE /* MAP_HUGETLB */
#include "unit/hugetlb-pool.h"
#include "unit/lazy-support.h"
#include "unit/support.h"

#include <signal.h>
#include <sys/mman.h>

/* Its RAM has no reservation, as if the pool had been made smaller. */
static LazyGuest *guest_without_reservation(void)
{
    LazyCase what = small_case();
    LazyGuest *guest;

    what.ram = RAM_HUGETLB;
    what.used_length = 2 * HUGE_PAGE;
    what.bits = BITS_ALL;
    guest = lazy_guest_new(&what);
    g_assert(mmap(guest->block.host, guest->map_length, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_NORESERVE | MAP_FIXED |
                      21 << MAP_HUGE_SHIFT,
                  -1, 0) == guest->block.host);
    return guest;
}

/* For the rest of this child's life. */
static void take_all_huge_pages(void)
{
    volatile uint8_t *page;

    while ((page = hugetlb_map(1))) {
        *page = 1;
    }
}

static bool a_page_of_the_file(void)
{
    g_autoptr(LazyGuest) guest = guest_without_reservation();
    SnapshotLoad *load = lazy_guest_start(guest, false);

    CHECK(load);
    take_all_huge_pages();
    CHECK(page_gives(guest, 0, SIGBUS));
    CHECK(page_gives(guest, 1, SIGBUS));
    return ends_with_error(load, g_strerror(ENOMEM));
}

static bool a_discarded_page(void)
{
    g_autoptr(LazyGuest) guest = guest_without_reservation();
    SnapshotLoad *load = lazy_guest_start(guest, false);

    CHECK(load);
    CHECK(page_gives(guest, 0, 0));
    CHECK(page_gives(guest, 1, 0));
    CHECK(postcopy_discard_range(&guest->mis, &guest->block, 0, HUGE_PAGE, NULL));
    take_all_huge_pages();
    CHECK(page_gives(guest, 0, SIGBUS));
    CHECK(page_gives(guest, 1, 0));
    return ends_with_error(load, "page 0x0, which was discarded, cannot be zeroes");
}

static void run_with_pool(bool (*body)(void))
{
    require_uffd();
    require_hugetlb_pool();
    run_bounded(body);
}

static void test_no_huge_page_for_data(void **state)
{
    (void)state;
    run_with_pool(a_page_of_the_file);
}

static void test_no_huge_page_for_zeroes(void **state)
{
    (void)state;
    run_with_pool(a_discarded_page);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_no_huge_page_for_data, hugetlb_pool_set_up,
                                        hugetlb_pool_tear_down),
        cmocka_unit_test_setup_teardown(test_no_huge_page_for_zeroes, hugetlb_pool_set_up,
                                        hugetlb_pool_tear_down),
    };

    return pagewise_run("hugetlb-pool", tests);
}

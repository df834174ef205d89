/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The machine's pool of huge pages, for tests that need some: filled where that
 * is allowed, and given back whatever happens. It is one for the whole machine,
 * and a pool that shrinks takes a test's reservations away: so from set-up to
 * tear-down it is locked, against other builds, too. (RESOURCE_LOCK "hugetlb"
 * in CMakeLists.txt has ctest do something else meanwhile.)
 */
#ifndef PAGEWISE_UNIT_HUGETLB_POOL_H
#define PAGEWISE_UNIT_HUGETLB_POOL_H

#include <stddef.h>

#define HUGE_PAGE ((size_t)0x200000)
#define HUGETLB_POOL_PAGES 8
#define HUGETLB_GUEST_PAGES 4 /* no test maps more at a time */

/* Set-up and tear-down of a cmocka test. */
int hugetlb_pool_set_up(void **state);
int hugetlb_pool_tear_down(void **state);

/* Skips the test, loudly, unless HUGETLB_GUEST_PAGES can be mapped. */
void require_hugetlb_pool(void);

/* @pages huge pages of private memory; NULL, and errno, if there are none. */
void *hugetlb_map(size_t pages);

#endif

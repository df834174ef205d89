/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See hugetlb-pool.h. */
#define _GNU_SOURCE /* MAP_HUGETLB */
#include "unit/hugetlb-pool.h"

#include "unit/support.h"

#include <fcntl.h>
#include <glib.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <unistd.h>

#define POOL "/proc/sys/vm/nr_hugepages"

void *hugetlb_map(size_t pages)
{
    void *memory = mmap(NULL, pages * HUGE_PAGE, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | 21 << MAP_HUGE_SHIFT, -1, 0);

    return memory == MAP_FAILED ? NULL : memory;
}

static bool has_enough(void)
{
    void *memory = hugetlb_map(HUGETLB_GUEST_PAGES);

    return memory && munmap(memory, HUGETLB_GUEST_PAGES * HUGE_PAGE) == 0;
}

/* Returns what its size was, or -1 if it cannot be set. */
static int set_size(int pages)
{
    char old[16] = "";
    int fd = open(POOL, O_RDWR | O_CLOEXEC);
    ssize_t length = fd < 0 ? -1 : read(fd, old, sizeof(old) - 1);

    if (length > 0) {
        g_autofree char *text = g_strdup_printf("%d", pages);

        length = pwrite(fd, text, strlen(text), 0);
    }
    if (fd >= 0) {
        close(fd);
    }
    return length > 0 ? atoi(old) : -1;
}

typedef struct Pool {
    int lock_fd;
    int before; /* its size; -1: it is as it was */
} Pool;

int hugetlb_pool_set_up(void **state)
{
    Pool *pool = g_new(Pool, 1);

    pool->lock_fd = open(POOL, O_RDONLY | O_CLOEXEC);
    if (pool->lock_fd >= 0) {
        flock(pool->lock_fd, LOCK_EX);
    }
    pool->before = has_enough() ? -1 : set_size(HUGETLB_POOL_PAGES);
    *state = pool;
    return 0;
}

int hugetlb_pool_tear_down(void **state)
{
    Pool *pool = *state;

    if (pool->before >= 0) {
        set_size(pool->before);
    }
    if (pool->lock_fd >= 0) {
        close(pool->lock_fd);
    }
    g_free(pool);
    return 0;
}

void require_hugetlb_pool(void)
{
    pagewise_skip_unless(has_enough(), "hugetlb", "there are no four free huge pages of 2 MiB",
                         "echo 8 > " POOL ", or run as root where there is memory for them");
}

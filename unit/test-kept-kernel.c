/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * subject/kept-kernel.[ch]: what is kept is as good as new, and what must not
 * be kept, since closing it means something, is closed.
 */
#define _GNU_SOURCE /* memfd_create() */
#include "unit/support.h"

#include "subject/kept-kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#define LENGTH ((size_t)4 * 4096)

static int setup(void **state)
{
    g_autoptr(GError) error = NULL;

    *state = kept_kernel_new(&error);
    pagewise_skip_unless(*state, "uffd", error ? error->message : "", "see the list in the reason");
    return 0;
}

static int teardown(void **state)
{
    kept_kernel_free(*state);
    return 0;
}

static bool is_open(int fd)
{
    return fcntl(fd, F_GETFD) >= 0;
}

/* As uffd_open() does it: asks what there is, throws that away, opens. */
static int open_for_load(KeptKernel *kept, bool fresh)
{
    struct uffdio_api api = { .api = UFFD_API };
    UffdMethod method = UFFD_METHOD_SYSCALL;
    int fd;

    kept_kernel_begin(kept, fresh);
    while ((fd = kept_kernel_open(kept, method, O_CLOEXEC | O_NONBLOCK)) < 0) {
        assert_true(++method < UFFD_N_METHODS);
    }
    assert_int_equal(kept_kernel_api(kept, fd, &api), 0);
    kept_kernel_close(kept, fd);
    fd = kept_kernel_open(kept, method, O_CLOEXEC | O_NONBLOCK);
    assert_true(fd >= 0);
    api = (struct uffdio_api){ .api = UFFD_API, .features = api.features & UFFD_FEATURE_THREAD_ID };
    assert_int_equal(kept_kernel_api(kept, fd, &api), 0);
    return fd;
}

static uint8_t *map_ram(void)
{
    uint8_t *ram = mmap(NULL, LENGTH, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    assert_true(ram != MAP_FAILED);
    return ram;
}

static struct uffdio_range range_of(uint8_t *ram)
{
    return (struct uffdio_range){ .start = (uintptr_t)ram, .len = LENGTH };
}

static int register_ram(KeptKernel *kept, int uffd, uint8_t *ram)
{
    struct uffdio_register range = { .range = range_of(ram), .mode = UFFDIO_REGISTER_MODE_MISSING };

    return kept_kernel_register_range(kept, uffd, &range);
}

/* A load that leaves nothing behind. Returns its descriptor. */
static int load(KeptKernel *kept, uint8_t *ram)
{
    struct uffdio_range range = range_of(ram);
    int uffd = open_for_load(kept, false);

    assert_int_equal(register_ram(kept, uffd, ram), 0);
    assert_int_equal(kept_kernel_unregister(kept, uffd, &range), 0);
    kept_kernel_close(kept, uffd);
    return uffd;
}

static void test_descriptor_is_kept(void **state)
{
    KeptKernel *kept = *state;
    uint8_t *ram = map_ram();
    int uffd = load(kept, ram);

    assert_true(is_open(uffd));
    assert_int_equal(load(kept, ram), uffd);
    munmap(ram, LENGTH);
}

/* Another descriptor could not register what is registered; who touched that would sleep. */
static void assert_is_free(KeptKernel *kept, uint8_t *ram)
{
    int other = open_for_load(kept, true);

    assert_int_equal(register_ram(kept, other, ram), 0);
    kept_kernel_close(kept, other);
    assert_int_equal(*(volatile uint8_t *)ram, 0);
}

/* Closing ends the registration of what a loader forgot: its pages are zero then. */
static void test_registration_ends_with_the_descriptor(void **state)
{
    KeptKernel *kept = *state;
    uint8_t *ram = map_ram();
    int uffd = open_for_load(kept, false);

    assert_int_equal(register_ram(kept, uffd, ram), 0);
    kept_kernel_close(kept, uffd);
    assert_is_free(kept, ram);
    load(kept, ram);
    munmap(ram, LENGTH);
}

/* The number stays, for whoever may still use it; the next load has a userfaultfd again. */
static void check_replaced(KeptKernel *kept, bool registered)
{
    uint8_t *ram = map_ram();
    int uffd = open_for_load(kept, false);
    int event = eventfd(3, EFD_CLOEXEC);
    eventfd_t value;

    if (registered) {
        assert_int_equal(register_ram(kept, uffd, ram), 0);
    }
    kept_kernel_replace(kept, uffd, event);
    assert_is_free(kept, ram);
    assert_int_equal(eventfd_read(uffd, &value), 0);
    assert_int_equal(value, 3);
    kept_kernel_close(kept, uffd);
    kept_kernel_close(kept, event);
    assert_false(is_open(event));
    load(kept, ram);
    munmap(ram, LENGTH);
}

static void test_replaced_descriptor(void **state)
{
    check_replaced(*state, true);
    check_replaced(*state, false);
}

static void test_fresh_descriptor(void **state)
{
    KeptKernel *kept = *state;
    int own = open_for_load(kept, true);

    kept_kernel_close(kept, own);
    assert_false(is_open(own));
    own = open_for_load(kept, false);
    kept_kernel_close(kept, own);
    assert_true(is_open(own));
}

static void *map(KeptKernel *kept, int fd, size_t length, int protection)
{
    void *memory;

    assert_int_equal(kept_kernel_map(kept, fd, length, protection, &memory), 0);
    return memory;
}

/* The same again for the same, and for nothing else; nothing twice at a time. */
static void test_private_maps(void **state)
{
    KeptKernel *kept = *state;
    uint8_t *first = map(kept, -1, LENGTH, PROT_READ | PROT_WRITE);
    uint8_t *second = map(kept, -1, LENGTH, PROT_READ | PROT_WRITE);
    uint8_t *zero = map(kept, -1, LENGTH, PROT_READ);

    assert_true(first != second);
    first[LENGTH - 1] = 1;
    second[LENGTH - 1] = 2;
    assert_int_equal(zero[LENGTH - 1], 0);
    kept_kernel_unmap(kept, first, LENGTH);
    assert_ptr_equal(map(kept, -1, LENGTH, PROT_READ | PROT_WRITE), first);
    kept_kernel_unmap(kept, zero, LENGTH);
    assert_ptr_not_equal(map(kept, -1, 2 * LENGTH, PROT_READ), zero);
    assert_int_equal(second[LENGTH - 1], 2);
    kept_kernel_unmap(kept, first, LENGTH);
    kept_kernel_unmap(kept, second, LENGTH);
}

/* More at a time than are kept. */
static void test_many_maps(void **state)
{
    KeptKernel *kept = *state;
    uint8_t *maps[16];

    for (unsigned i = 0; i < G_N_ELEMENTS(maps); i++) {
        maps[i] = map(kept, -1, LENGTH, PROT_READ | PROT_WRITE);
        memset(maps[i], (int)i, LENGTH);
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(maps); i++) {
        assert_int_equal(maps[i][LENGTH - 1], i);
        kept_kernel_unmap(kept, maps[i], LENGTH);
    }
}

/* Whatever its length now: what is in the file is in the mapping, and no page that is not. */
static void test_file_maps(void **state)
{
    KeptKernel *kept = *state;
    int fd = memfd_create("kept-kernel", MFD_CLOEXEC);
    size_t lengths[] = { 100, 4096, 3 << 20, 5000, (3 << 20) + 1, 1 };

    for (unsigned i = 0; i < G_N_ELEMENTS(lengths); i++) {
        uint8_t byte = (uint8_t)(i + 1);
        uint8_t *mapped;

        assert_int_equal(ftruncate(fd, 0), 0);
        assert_int_equal(ftruncate(fd, (off_t)lengths[i]), 0);
        assert_int_equal(pwrite(fd, &byte, 1, (off_t)lengths[i] - 1), 1);
        mapped = map(kept, fd, lengths[i], PROT_READ);
        assert_int_equal(mapped[lengths[i] - 1], byte);
        assert_int_equal(mapped[0], lengths[i] == 1 ? byte : 0);
        /* The kernel says EFAULT of what was cut off. */
        assert_int_equal(ftruncate(fd, 0), 0);
        assert_int_equal(write(fd, mapped, 1), -1);
        assert_int_equal(errno, EFAULT);
        kept_kernel_unmap(kept, mapped, lengths[i]);
    }
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_descriptor_is_kept, setup, teardown),
        cmocka_unit_test_setup_teardown(test_registration_ends_with_the_descriptor, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_replaced_descriptor, setup, teardown),
        cmocka_unit_test_setup_teardown(test_fresh_descriptor, setup, teardown),
        cmocka_unit_test_setup_teardown(test_private_maps, setup, teardown),
        cmocka_unit_test_setup_teardown(test_many_maps, setup, teardown),
        cmocka_unit_test_setup_teardown(test_file_maps, setup, teardown),
    };

    return pagewise_run("kept-kernel", tests);
}

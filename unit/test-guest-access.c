/* SPDX-License-Identifier: GPL-2.0-or-later */
/* property/guest-access.[ch]: pages that nobody can touch, by touch and by asking the kernel. */
#define _GNU_SOURCE /* process_vm_readv() */
#include "unit/support.h"

#include "property/guest-access.h"

#include <errno.h>
#include <glib.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

/* SIGBUS and SIGSEGV as values; elsewhere they still kill. */
static void test_access(void **state)
{
    uint8_t *page = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uint8_t value = 7;

    (void)state;
    guest_access_init();
    guest_access_init();
    assert_int_equal(guest_access(page, false, &value), 0);
    assert_int_equal(value, 0);
    assert_int_equal(guest_access(page, true, &value), SIGSEGV);
    munmap(page, 4096);
}

#define SPAN_PAGES 150

/* Page @shut alone cannot be read. */
static uint8_t *map_span(size_t shut)
{
    uint8_t *pages = mmap(NULL, SPAN_PAGES * 4096, PROT_READ,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    g_assert(pages != MAP_FAILED);
    mprotect(pages + shut * 4096, 4096, PROT_NONE);
    return pages;
}

/* Anywhere, and in any order. */
static void check_reach(void)
{
    uint8_t *pages = map_span(5);
    uint8_t *const bytes[] = { pages + 9 * 4096, pages + 1, pages + 5 * 4096, pages };

    g_assert_cmpuint(guest_access_reach(bytes, 0), ==, 0);
    g_assert_cmpuint(guest_access_reach(bytes, 2), ==, 2);
    g_assert_cmpuint(guest_access_reach(bytes, 4), ==, 2);
    g_assert_cmpuint(guest_access_reach(bytes + 2, 2), ==, 0);
    munmap(pages, SPAN_PAGES * 4096);
}

static int body_span(void *opaque)
{
    static const size_t shut[] = { 0, 1, 63, 64, 65, 127, 128, SPAN_PAGES - 1 };

    (void)opaque;
    guest_access_init();
    for (unsigned i = 0; i < G_N_ELEMENTS(shut); i++) {
        uint8_t *pages = map_span(shut[i]);

        g_assert_cmpuint(guest_access_span(pages, SPAN_PAGES, 4096), ==, shut[i]);
        g_assert_cmpuint(guest_access_span(pages, shut[i], 4096), ==, shut[i]);
        pages += (shut[i] + 1) * 4096;
        g_assert_cmpuint(guest_access_span(pages, SPAN_PAGES - shut[i] - 1, 4096), ==,
                         SPAN_PAGES - shut[i] - 1);
        munmap(pages - (shut[i] + 1) * 4096, SPAN_PAGES * 4096);
    }
    check_reach();
    return 0;
}

/* A sandbox that knows nothing of process_vm_readv(). */
static int body_span_in_sandbox(void *opaque)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_process_vm_readv, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const struct sock_fprog program = { G_N_ELEMENTS(filter), filter };

    g_assert(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    g_assert(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
    g_assert(process_vm_readv(getpid(), NULL, 0, NULL, 0, 0) < 0 && errno == EPERM);
    return body_span(opaque);
}

static void run_bounded(int (*body)(void *))
{
    ChildEnd end = pagewise_run_in_child(body, NULL, 60);

    assert_false(end.timed_out);
    assert_int_equal(end.signal, 0);
    assert_int_equal(end.exit_status, 0);
}

static void test_span(void **state)
{
    (void)state;
    run_bounded(body_span);
    run_bounded(body_span_in_sandbox);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_access),
        cmocka_unit_test(test_span),
    };

    return pagewise_run("guest-access", tests);
}

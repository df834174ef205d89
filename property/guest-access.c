/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * See guest-access.h. A handler of signals has no context argument: so what it
 * needs is static, as the alloc meter's is.
 */
#define _GNU_SOURCE /* process_vm_readv() */
#include "property/guest-access.h"

#include <errno.h>
#include <glib.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/uio.h>
#include <unistd.h>

static const int caught[] = { SIGBUS, SIGSEGV };
static struct sigaction before[G_N_ELEMENTS(caught)];
static _Thread_local sigjmp_buf way_out;
static _Thread_local volatile sig_atomic_t accessing;

/* Returning makes the access once more, under the handler that was there. */
static void on_signal(int number)
{
    if (accessing) {
        siglongjmp(way_out, number);
    }
    sigaction(number, &before[number == caught[0] ? 0 : 1], NULL);
}

/* Again and again: others, such as test frameworks, set handlers of their own. */
void guest_access_init(void)
{
    struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_NODEFER };

    for (unsigned i = 0; i < G_N_ELEMENTS(caught); i++) {
        struct sigaction now;

        sigaction(caught[i], &action, &now);
        if (now.sa_handler != on_signal) {
            before[i] = now;
        }
    }
}

/* Guests race for their bytes as they please. */
int guest_access(uint8_t *byte, bool write, uint8_t *value)
{
    /* With the mask: ThreadSanitizer blocks all signals in a handler, and a second one kills. */
    int number = sigsetjmp(way_out, 1);

    if (number == 0) {
        accessing = 1;
        if (write) {
            __atomic_store_n(byte, *value, __ATOMIC_RELAXED);
        } else {
            *value = __atomic_load_n(byte, __ATOMIC_RELAXED);
        }
    }
    accessing = 0;
    return number;
}

/* -1: the kernel does not say; a sandbox may forbid the call. */
static ssize_t reach_by_kernel(uint8_t *const *bytes, size_t n)
{
    struct iovec from[GUEST_ACCESS_MAX];
    uint8_t buffer[GUEST_ACCESS_MAX];
    const struct iovec to = { buffer, n };
    ssize_t result;

    for (size_t i = 0; i < n; i++) {
        from[i] = (struct iovec){ bytes[i], 1 };
    }
    result = process_vm_readv(getpid(), &to, 1, from, n, 0);
    return result < 0 && errno == EFAULT ? 0 : result;
}

size_t guest_access_reach(uint8_t *const *bytes, size_t n)
{
    ssize_t by_kernel = reach_by_kernel(bytes, n);
    size_t by_touch = 0;
    uint8_t unused;

    if (by_kernel >= 0) {
        return (size_t)by_kernel;
    }
    while (by_touch < n && guest_access(bytes[by_touch], false, &unused) == 0) {
        by_touch++;
    }
    return by_touch;
}

size_t guest_access_span(uint8_t *pages, size_t n_pages, size_t page_size)
{
    size_t done = 0;

    while (done < n_pages) {
        uint8_t *bytes[GUEST_ACCESS_MAX];
        size_t n = MIN(GUEST_ACCESS_MAX, n_pages - done);
        size_t reach;

        for (size_t i = 0; i < n; i++) {
            bytes[i] = pages + (done + i) * page_size;
        }
        reach = guest_access_reach(bytes, n);
        done += reach;
        if (reach < n) {
            break;
        }
    }
    return done;
}

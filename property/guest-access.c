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

#define PAGES_PER_CALL 64

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

/* One byte of each. -1: the kernel does not say; a sandbox may forbid the call. */
static ssize_t span_by_kernel(uint8_t *pages, size_t n_pages, size_t page_size)
{
    struct iovec from[PAGES_PER_CALL];
    uint8_t bytes[PAGES_PER_CALL];
    const struct iovec to = { bytes, n_pages };
    ssize_t result;

    for (size_t i = 0; i < n_pages; i++) {
        from[i] = (struct iovec){ pages + i * page_size, 1 };
    }
    result = process_vm_readv(getpid(), &to, 1, from, n_pages, 0);
    return result < 0 && errno == EFAULT ? 0 : result;
}

static size_t span_by_touch(uint8_t *pages, size_t n_pages, size_t page_size)
{
    uint8_t unused;
    size_t n = 0;

    while (n < n_pages && guest_access(pages + n * page_size, false, &unused) == 0) {
        n++;
    }
    return n;
}

size_t guest_access_span(uint8_t *pages, size_t n_pages, size_t page_size)
{
    size_t done = 0;

    while (done < n_pages) {
        size_t n = MIN(PAGES_PER_CALL, n_pages - done);
        ssize_t span = span_by_kernel(pages + done * page_size, n, page_size);

        if (span < 0) {
            return done + span_by_touch(pages + done * page_size, n_pages - done, page_size);
        }
        done += (size_t)span;
        if ((size_t)span < n) {
            break;
        }
    }
    return done;
}

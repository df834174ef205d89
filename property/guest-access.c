/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * See guest-access.h. A handler of signals has no context argument: so what it
 * needs is static, as the alloc meter's is.
 */
#include "property/guest-access.h"

#include <glib.h>
#include <setjmp.h>
#include <signal.h>

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
    int number = sigsetjmp(way_out, 0);

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

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The property bounded, for what cannot be got out of: a thread that ends the
 * process, with a paragraph, when an execution is not over in time. It needs
 * no signal: a thread that sleeps in a fault gets none under ThreadSanitizer.
 */
#ifndef PAGEWISE_PROPERTY_WATCHDOG_H
#define PAGEWISE_PROPERTY_WATCHDOG_H

#include <glib.h>
#include <pthread.h>
#include <time.h>

typedef struct Watchdog Watchdog;

/*
 * @describe is called by the watchdog's thread, in the middle of the execution
 * that hangs: what it says of it is printed. NULL: there is no thread.
 */
Watchdog *watchdog_new(unsigned seconds, char *(*describe)(void *opaque), void *opaque,
                       GError **error);
void watchdog_free(Watchdog *watchdog);

/* An execution begins, or is over. */
void watchdog_begin(Watchdog *watchdog);
void watchdog_end(Watchdog *watchdog);

/*
 * Waiting for so long, by the clock that nobody sets: a condition variable for
 * pthread_cond_timedwait(), and until when. By the time of day a step of the
 * clock would be a wait in vain, which is a property broken.
 */
void bounded_cond_init(pthread_cond_t *cond);
struct timespec bounded_until(unsigned seconds);

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * See watchdog.h. An execution costs two stores: the thread looks now and then
 * whether it is still the same one.
 */
#include "property/watchdog.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

struct Watchdog {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t ends;
    bool is_ending;  /* under lock */
    uint64_t number; /* of the execution, odd while it runs; atomic */
    unsigned seconds;
    char *(*describe)(void *opaque);
    void *opaque; /* borrowed */
};

static _Noreturn void bite(Watchdog *self)
{
    char *text = self->describe(self->opaque);

    fprintf(stderr, "pagewise: property bounded: the execution is not over after %u s: %s\n",
            self->seconds, text);
    abort();
}

void bounded_cond_init(pthread_cond_t *cond)
{
    pthread_condattr_t attributes;

    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(cond, &attributes);
    pthread_condattr_destroy(&attributes);
}

struct timespec bounded_until(unsigned seconds)
{
    struct timespec until;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += seconds;
    return until;
}

/* Waits a second; false: the watchdog is to end. */
static bool wait_a_second(Watchdog *self)
{
    struct timespec until = bounded_until(1);
    bool go_on;

    pthread_mutex_lock(&self->lock);
    while (!self->is_ending &&
           pthread_cond_timedwait(&self->ends, &self->lock, &until) != ETIMEDOUT) {
    }
    go_on = !self->is_ending;
    pthread_mutex_unlock(&self->lock);
    return go_on;
}

static void *watch(void *opaque)
{
    Watchdog *self = opaque;
    uint64_t seen = 0;
    unsigned since = 0;

    while (wait_a_second(self)) {
        uint64_t number = __atomic_load_n(&self->number, __ATOMIC_ACQUIRE);

        since = number == seen && number % 2 ? since + 1 : 0;
        seen = number;
        if (since >= self->seconds) {
            bite(self);
        }
    }
    return NULL;
}

Watchdog *watchdog_new(unsigned seconds, char *(*describe)(void *opaque), void *opaque,
                       GError **error)
{
    Watchdog *self = g_new0(Watchdog, 1);
    int result;

    self->seconds = seconds;
    self->describe = describe;
    self->opaque = opaque;
    pthread_mutex_init(&self->lock, NULL);
    bounded_cond_init(&self->ends);
    result = pthread_create(&self->thread, NULL, watch, self);
    if (result) {
        g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(result),
                    "the watchdog's thread cannot be created: %s", g_strerror(result));
        pthread_mutex_destroy(&self->lock);
        pthread_cond_destroy(&self->ends);
        g_free(self);
        return NULL;
    }
    return self;
}

void watchdog_free(Watchdog *watchdog)
{
    pthread_mutex_lock(&watchdog->lock);
    watchdog->is_ending = true;
    pthread_cond_signal(&watchdog->ends);
    pthread_mutex_unlock(&watchdog->lock);
    pthread_join(watchdog->thread, NULL);
    pthread_mutex_destroy(&watchdog->lock);
    pthread_cond_destroy(&watchdog->ends);
    g_free(watchdog);
}

void watchdog_begin(Watchdog *watchdog)
{
    __atomic_fetch_add(&watchdog->number, 1, __ATOMIC_RELEASE);
}

void watchdog_end(Watchdog *watchdog)
{
    __atomic_fetch_add(&watchdog->number, 1, __ATOMIC_RELEASE);
}

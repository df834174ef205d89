/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The time of a clock, for benchmarks; of a header alone, since not all of them link support.c. */
#ifndef PAGEWISE_BENCH_CLOCK_H
#define PAGEWISE_BENCH_CLOCK_H

#include <time.h>

/* CLOCK_MONOTONIC or CLOCK_PROCESS_CPUTIME_ID, seconds. */
static inline double bench_seconds(clockid_t clock)
{
    struct timespec now;

    clock_gettime(clock, &now);
    return now.tv_sec + now.tv_nsec / 1e9;
}

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Counts what code asks of GLib's allocators, and makes chosen requests fail:
 * the measure behind the property "bounded", and the failing allocations of
 * the unit tests.
 *
 * The linker's --wrap sends every call of g_malloc() and its kin here, in all
 * build modes and for any engine, sanitized or not. What a library calls
 * inside itself (a GString that grows inside a shared GLib) is not seen.
 */
#ifndef PAGEWISE_PROPERTY_ALLOC_METER_H
#define PAGEWISE_PROPERTY_ALLOC_METER_H

#include <stdint.h>

typedef struct AllocMeter {
    uint64_t calls;     /* requests while the meter ran */
    uint64_t bytes;     /* sum of their sizes; frees are not subtracted */
    uint64_t max_bytes; /* 0: no limit; g_try_* requests that would pass it fail */
    uint64_t fail_try;  /* this g_try_* request fails (1: the first); 0: none */
    uint64_t tries;     /* g_try_* requests so far */
} AllocMeter;

/*
 * Meters this thread's requests in @meter until alloc_meter_stop(). The caller
 * keeps @meter alive, and has zeroed the counters. Not to be nested.
 */
void alloc_meter_start(AllocMeter *meter);
void alloc_meter_stop(void);

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What another process has cost so far, and the limits that a load may cost.
 * Knows nothing of QEMU.
 */
#ifndef PAGEWISE_QTEST_GLUE_PROCESS_METER_H
#define PAGEWISE_QTEST_GLUE_PROCESS_METER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

typedef struct ProcessCost {
    int64_t cpu_us;  /* processor time of all its threads, microseconds */
    uint64_t memory; /* resident, shared pages not counted, bytes */
} ProcessCost;

/* What one load may take. */
typedef struct LoadLimits {
    int wall_ms;
    int cpu_ms;
    uint64_t memory; /* more than before the load, bytes */
} LoadLimits;

/* For a fresh process, on a machine with other work to do. */
#define LOAD_LIMITS_DEFAULT                                                                        \
    ((LoadLimits){ .wall_ms = 30000, .cpu_ms = 5000, .memory = UINT64_C(256) << 20 })

/**
 * process_cost:
 *
 * Returns: what @pid has cost; zeroes if it has ended.
 */
ProcessCost process_cost(pid_t pid);

/**
 * process_main_loop_waits:
 *
 * Returns: true if the process' first thread waits in ppoll(): QEMU's main loop
 * is alive, and has nothing to do. False also if the kernel does not tell.
 */
bool process_main_loop_waits(pid_t pid);

#endif

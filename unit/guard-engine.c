/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * With fuzz/replay-driver.c, stands in for honggfuzz's archive in the check of
 * the OSS-Fuzz build (cmake/oss_fuzz_check.py): takes the callbacks that
 * honggfuzz's flags ask the compiler for, and says at the end how many edges
 * there are and how many were reached.
 */
#include <stdint.h>
#include <stdio.h>

static uint32_t n_edges;
static uint32_t n_reached;

void __sanitizer_cov_trace_pc_guard_init(uint32_t *start, uint32_t *stop);
void __sanitizer_cov_trace_pc_guard(uint32_t *guard);

void __sanitizer_cov_trace_pc_guard_init(uint32_t *start, uint32_t *stop)
{
    for (uint32_t *guard = start; guard < stop; guard++) {
        *guard = ++n_edges;
    }
}

/* A guard is cleared when it was reached. Threads may both count one: no harm. */
void __sanitizer_cov_trace_pc_guard(uint32_t *guard)
{
    if (*guard != 0) {
        *guard = 0;
        n_reached++;
    }
}

/* Comparisons and calls feed honggfuzz's mutator; there is none here. */
#define IGNORE(name, ...)                                                                          \
    void __sanitizer_cov_trace_##name(__VA_ARGS__);                                                \
    void __sanitizer_cov_trace_##name(__VA_ARGS__)                                                 \
    {                                                                                              \
    }

IGNORE(pc_indir, uintptr_t)
IGNORE(cmp1, uint8_t, uint8_t)
IGNORE(cmp2, uint16_t, uint16_t)
IGNORE(cmp4, uint32_t, uint32_t)
IGNORE(cmp8, uint64_t, uint64_t)
IGNORE(const_cmp1, uint8_t, uint8_t)
IGNORE(const_cmp2, uint16_t, uint16_t)
IGNORE(const_cmp4, uint32_t, uint32_t)
IGNORE(const_cmp8, uint64_t, uint64_t)
IGNORE(switch, uint64_t, uint64_t *)

__attribute__((destructor)) static void report(void)
{
    printf("guard-engine: %u edges, %u reached\n", n_edges, n_reached);
}

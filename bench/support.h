/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the benchmarks share: guest RAM that is mapped as QEMU maps it,
 * snapshots to load, memory made warm before a timed run, medians. A benchmark
 * that cannot go on ends the process with one line on stderr.
 */
#ifndef PAGEWISE_BENCH_SUPPORT_H
#define PAGEWISE_BENCH_SUPPORT_H

#include "loader/mapped-ram.h"
#include "loader/uffd.h"

#include <glib.h>

#define BENCH_PAGE 4096

/* "PROGRAM: WHAT: strerror(errno)", and the end. */
G_NORETURN void bench_die(const char *what);

/* "PROGRAM: MESSAGE", and the end. */
G_NORETURN void bench_die_error(const GError *error);

/* Fresh private memory in pages of 4 KiB; @size: bytes. Unmapped by the caller. */
uint8_t *bench_map_ram(uint64_t size);

/*
 * Touches @size bytes of fresh memory and gives them back: the host of a
 * virtual machine gives memory now rather than within the timed run.
 */
void bench_warm_up(uint64_t size);

/* A guest block of the name "ram" in @ram. */
RAMBlock bench_block(uint8_t *ram, uint64_t size);

/*
 * Fills @percent of the pages of @ram, in runs of 1 to 31 pages; the same ones
 * for the same percentage. No byte of a filled page is zero.
 */
void bench_fill(uint8_t *ram, uint64_t size, unsigned percent);

/* Saves @ram as a snapshot of the machine "none" into the empty file @fd. */
void bench_save(int fd, uint8_t *ram, uint64_t size);

/* A file in @folder that has no name any more. Closed by the caller. */
int bench_open_scratch(const char *folder);

/*
 * A userfaultfd whose read blocks, for the @size bytes of @ram. Closed by the
 * caller. With bench_read_fault() it is all that a bare handler needs: the least
 * that a thread can do for a fault.
 */
int bench_open_bare(const UffdOps *ops, uint8_t *ram, uint64_t size);

/* Waits for a fault; returns the page that it wants. */
uint8_t *bench_read_fault(const UffdOps *ops, int uffd);

/* Sorts @values, which are not none. */
double bench_median(double *values, unsigned n);

/* The value below which @share (0 to 1) of the sorted @values are. */
double bench_quantile(const double *values, unsigned n, double share);

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The lazy load as QEMU's postcopy would do it: the yardstick for loader/. A
 * fault thread that poll()s and reads one message at a time, and an eager
 * thread; each loads one page of 4 KiB at a time, by pread() into a temporary
 * page and UFFDIO_COPY, or by UFFDIO_ZEROPAGE for every page whose bit is
 * clear. After migration/postcopy-ram.c's postcopy_ram_fault_thread() and
 * postcopy_place_page(). It checks nothing that a benchmark does not need.
 */
#ifndef PAGEWISE_BENCH_QEMU_LIKE_H
#define PAGEWISE_BENCH_QEMU_LIKE_H

#include "bench/support.h"

typedef struct QemuLike QemuLike;

/*
 * Starts to load @rb from the file @fd: its header stage (file_bmap,
 * pages_offset) has been done. Both are borrowed until the end.
 */
QemuLike *qemu_like_start(RAMBlock *rb, int fd, bool eager_thread);

/* Waits for the eager thread, ends the fault thread, unregisters, frees. */
void qemu_like_end(QemuLike *load);

#endif

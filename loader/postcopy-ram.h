/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The part of the lazy path that does not depend on where pages come from:
 * set-up and tear-down of userfaultfd, the fault thread, placing pages,
 * discards. What QEMU has in migration/postcopy-ram.c, cut as the founding
 * series cuts it: a PostcopyPageHandler says how a page is supplied.
 *
 * Order of an orderly end: all who place pages but the fault thread are done;
 * then uffd_cleanup_incoming(). A page that the file has content for and that
 * is neither placed nor poisoned by then would read as zero.
 */
#ifndef PAGEWISE_LOADER_POSTCOPY_RAM_H
#define PAGEWISE_LOADER_POSTCOPY_RAM_H

#include "loader/page-claims.h"

#define POSTCOPY_TMP_LENGTH 0x40000 /* of a temporary page at least, bytes */

/* Can RAM of this page size, at this address, be loaded lazily? */
bool postcopy_check_block(const RAMBlock *rb, GError **error);

/*
 * Opens a userfaultfd and an eventfd, allocates @channels temporary pages and
 * the large zero page, registers the lazy part (ram_block_lazy_start()) of
 * every block and starts the fault thread. What those parts of RAM held is
 * dropped: a page that is present never faults. They are also kept from forked
 * children, in which missing pages would read as zero; a child that touches
 * them gets SIGSEGV. Options: see MigrationIncomingState; fault_thread_failed
 * has to be set. If it fails, all is as it was, but for the RAM's content.
 * @error: MAPPED_RAM_ERROR_NO_UFFD, MAPPED_RAM_ERROR_NO_MEMORY.
 */
bool uffd_setup_incoming(MigrationIncomingState *mis, PostcopyPageHandler handler,
                         unsigned channels, GError **error);

/*
 * Undoes it: ends the fault thread, unregisters, closes. Nobody may place or
 * discard pages beside it (who just touches RAM may). What can fail is
 * reported, and the rest is done nevertheless.
 */
bool uffd_cleanup_incoming(MigrationIncomingState *mis, GError **error);

/*
 * Puts @n_pages claimed host pages from @page on in their place and settles
 * them. @from: their bytes, NULL: zeroes. Goes on after partial copies; skips
 * and wakes where a page is present (PAGE_WAS_PRESENT) or was discarded since
 * the claim; waits where the address space is changing. Returns 0, or -errno
 * (EFAULT: @from cannot be read; ENOENT: RAM is no longer there; ESRCH: the
 * process is gone; EAGAIN: for about 10 s): some pages may not be settled then.
 */
int postcopy_place_pages(MigrationIncomingState *mis, LazyThread thread, RAMBlock *rb,
                         uint64_t page, uint64_t n_pages, const void *from);

/*
 * Settles those of @n_pages claimed host pages that are not settled, as pages
 * that cannot be had: who touches them gets SIGBUS, a system call EFAULT.
 * Where the kernel has no UFFDIO_POISON (before 6.6) or it fails, the whole
 * lazy part of the block is shut off: SIGSEGV. If even that fails the block
 * stays registered for ever and who waits, waits: never a page of zeroes.
 */
void postcopy_give_up_pages(MigrationIncomingState *mis, LazyThread thread, RAMBlock *rb,
                            uint64_t page, uint64_t n_pages);

/* The same of the pages of @mask, bit 0 being page 64 * @word; they are claimed. */
void postcopy_give_up_mask(MigrationIncomingState *mis, LazyThread thread, RAMBlock *rb,
                           uint64_t word, uint64_t mask);

/*
 * The same of all pages of the block that are pending; without @all, of those
 * that have content alone.
 */
void postcopy_give_up_block(MigrationIncomingState *mis, LazyThread thread, RAMBlock *rb, bool all);

/*
 * Of the fault thread alone, in a handler: waits until @event_fd, an eventfd,
 * can be read. Discards by plain madvise() are heeded meanwhile, and faults on
 * pages that are settled are answered.
 * Returns false if the fault thread is to quit, or userfaultfd failed.
 */
bool postcopy_pause_fault_thread(MigrationIncomingState *mis, int event_fd);

/*
 * Answers a fault on a page that is settled: a message that came twice, or a
 * page that was discarded meanwhile. Only of the fault thread.
 */
void postcopy_answer_again(MigrationIncomingState *mis, RAMBlock *rb, uint64_t page);

/*
 * Nobody serves faults any more: pages that are missing read as zero from now
 * on, and who sleeps wakes. Only of the fault thread, when it leaves early, and
 * every page is claimed. Waits until all of them are settled: missing is then
 * nothing but what was discarded. (Not so where a block stays registered:
 * postcopy_give_up_pages().)
 */
void postcopy_end_faults(MigrationIncomingState *mis);

/*
 * Drops @length bytes of RAM at @offset, both multiples of the page size: they
 * read as zero from now on, whatever the file has for them. For any thread but
 * the loader's, during the load (not beside uffd_cleanup_incoming()) and after
 * it. Waits for those who are just placing a page there.
 */
bool postcopy_discard_range(MigrationIncomingState *mis, RAMBlock *rb, ram_addr_t offset,
                            uint64_t length, GError **error);

/* Calls the hook of a test. */
void lazy_point(const MigrationIncomingState *mis, LazyPoint point, LazyThread thread, RAMBlock *rb,
                uint64_t page);

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Who loads a page, and what became of it. One record for each host page of a
 * block, atomic where several threads use it:
 *
 *     pending --claim--> claimed --settle--> received
 *
 * A claim is a test-and-set of the bit in claimed_bmap: one thread alone gets
 * it, and has to settle it: by placing the page, by poisoning it, or because it
 * was discarded. So there is no page that belongs to nobody.
 * "Received" (QEMU's receivedmap) means: the file's content will never be put
 * there again, and a page that is missing nevertheless was discarded: zeroes.
 * No kernel, no file: bits alone.
 */
#ifndef PAGEWISE_LOADER_PAGE_CLAIMS_H
#define PAGEWISE_LOADER_PAGE_CLAIMS_H

#include "loader/migration.h"

#define PAGES_PER_WORD 64

/* What settled a page; a byte in RAMBlock.installed_by. */
typedef enum PageInstaller {
    PAGE_NOT_INSTALLED, /* nobody: missing, so it reads as zero in the end */
    PAGE_BY_FAULT_THREAD,
    PAGE_BY_EAGER_THREAD,
    PAGE_WAS_PRESENT, /* EEXIST: put there by somebody outside of the loader */
    PAGE_DISCARDED,   /* by the guest, before it was placed */
    PAGE_POISONED,    /* its load failed: who touches it gets a signal */
} PageInstaller;

/*
 * Makes the first @length bytes of the block, a multiple of its page_size,
 * pending as a whole; takes no time for a large one. What was there before is
 * freed. @error: MAPPED_RAM_ERROR_NO_MEMORY.
 */
bool ram_block_lazy_start(RAMBlock *rb, uint64_t length, GError **error);

/* Frees it. No other thread may use the block any more. */
void ram_block_lazy_clear(RAMBlock *rb);

/* Host pages of the lazy part. */
uint64_t ram_block_lazy_pages(const RAMBlock *rb);

/* The block whose lazy part holds @address, or NULL. @offset: bytes in it. */
RAMBlock *ram_block_from_address(MigrationIncomingState *mis, uint64_t address, ram_addr_t *offset);

/* Claims the pages of @mask, bit 0 being page 64 * @word. Returns those got. */
uint64_t claim_pages(RAMBlock *rb, uint64_t word, uint64_t mask);
bool claim_page(RAMBlock *rb, uint64_t page);

/* Was the page not claimed yet? (A moment later it may be.) */
bool page_is_pending(const RAMBlock *rb, uint64_t page);

/* The first page at or after @from that is pending and has content, or the
 * number of pages. */
uint64_t next_pending_data(const RAMBlock *rb, uint64_t from);

/* Has the page content in the file: is a bit of file_bmap set? */
bool page_has_data(const RAMBlock *rb, uint64_t page);

/* The same of 64 pages, bit 0 being page 64 * @word. */
uint64_t word_of_data(const RAMBlock *rb, uint64_t word);

/* How many of the @n bits from @first on are set? */
uint64_t count_bits(const unsigned long *bitmap, uint64_t first, uint64_t n);

/* Is the page settled? If so, page_installer() says how. */
bool ramblock_recv_bitmap_test(const RAMBlock *rb, uint64_t page);
PageInstaller page_installer(const RAMBlock *rb, uint64_t page);

/* Settles a claimed page. If somebody did already, his word stands: false. */
bool ramblock_recv_bitmap_set(RAMBlock *rb, uint64_t page, PageInstaller by);

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Bits that several threads share, by the compiler's atomic operations.
 * A page's installer is written before its bit in receivedmap is published, so
 * that whoever sees the bit sees the installer.
 */
#include "loader/page-claims.h"

#include "loader/error.h"

#include <inttypes.h>

uint64_t ram_block_lazy_pages(const RAMBlock *rb)
{
    return rb->lazy_length / rb->page_size;
}

static uint64_t words_of(uint64_t pages)
{
    return (pages + PAGES_PER_WORD - 1) / PAGES_PER_WORD;
}

static void set_first_bits(unsigned long *bitmap, uint64_t bits)
{
    for (uint64_t word = 0; word < bits / PAGES_PER_WORD; word++) {
        bitmap[word] = ~0UL;
    }
    if (bits % PAGES_PER_WORD) {
        bitmap[bits / PAGES_PER_WORD] = (1UL << (bits % PAGES_PER_WORD)) - 1;
    }
}

bool ram_block_lazy_start(RAMBlock *rb, uint64_t length, GError **error)
{
    uint64_t pages = length / rb->page_size;
    uint64_t words = words_of(pages);

    ram_block_lazy_clear(rb);
    rb->pending_bmap = g_try_new0(unsigned long, words);
    rb->receivedmap = g_try_new0(unsigned long, words);
    rb->data_bmap = g_try_new0(unsigned long, words);
    rb->installed_by = g_try_new0(uint8_t, pages);
    if (pages > 0 && !(rb->pending_bmap && rb->receivedmap && rb->data_bmap && rb->installed_by)) {
        ram_block_lazy_clear(rb);
        g_set_error(error, MAPPED_RAM_ERROR, MAPPED_RAM_ERROR_NO_MEMORY,
                    "block '%s': no memory to keep account of 0x%" PRIx64 " pages", rb->idstr,
                    pages);
        return false;
    }
    set_first_bits(rb->pending_bmap, pages);
    rb->lazy_length = length;
    return true;
}

void ram_block_lazy_clear(RAMBlock *rb)
{
    g_clear_pointer(&rb->pending_bmap, g_free);
    g_clear_pointer(&rb->receivedmap, g_free);
    g_clear_pointer(&rb->data_bmap, g_free);
    g_clear_pointer(&rb->installed_by, g_free);
    rb->lazy_length = 0;
    rb->registered = false;
    rb->keep_registered = false;
}

RAMBlock *ram_block_from_address(MigrationIncomingState *mis, uint64_t address, ram_addr_t *offset)
{
    for (unsigned i = 0; i < mis->n_blocks; i++) {
        RAMBlock *rb = &mis->blocks[i];
        uint64_t start = (uintptr_t)rb->host;

        if (address >= start && address - start < rb->lazy_length) {
            *offset = address - start;
            return rb;
        }
    }
    return NULL;
}

uint64_t claim_pages(RAMBlock *rb, uint64_t word, uint64_t mask)
{
    return mask & __atomic_fetch_and(&rb->pending_bmap[word], ~mask, __ATOMIC_ACQ_REL);
}

static uint64_t bit_of(uint64_t page)
{
    return UINT64_C(1) << (page % PAGES_PER_WORD);
}

bool claim_page(RAMBlock *rb, uint64_t page)
{
    return claim_pages(rb, page / PAGES_PER_WORD, bit_of(page)) != 0;
}

bool page_is_pending(const RAMBlock *rb, uint64_t page)
{
    return __atomic_load_n(&rb->pending_bmap[page / PAGES_PER_WORD], __ATOMIC_ACQUIRE) &
           bit_of(page);
}

bool page_has_data(const RAMBlock *rb, uint64_t page)
{
    return rb->data_bmap[page / PAGES_PER_WORD] & bit_of(page);
}

uint64_t word_of_data(const RAMBlock *rb, uint64_t word)
{
    return rb->data_bmap[word];
}

uint64_t next_pending_data(const RAMBlock *rb, uint64_t from)
{
    uint64_t pages = ram_block_lazy_pages(rb);
    uint64_t mask = ~UINT64_C(0) << (from % PAGES_PER_WORD);

    for (uint64_t word = from / PAGES_PER_WORD; word < words_of(pages); word++) {
        uint64_t found =
            __atomic_load_n(&rb->pending_bmap[word], __ATOMIC_RELAXED) & rb->data_bmap[word] & mask;

        if (found) {
            return word * PAGES_PER_WORD + (uint64_t)__builtin_ctzll(found);
        }
        mask = ~UINT64_C(0);
    }
    return pages;
}

bool ramblock_recv_bitmap_test(const RAMBlock *rb, uint64_t page)
{
    return __atomic_load_n(&rb->receivedmap[page / PAGES_PER_WORD], __ATOMIC_ACQUIRE) &
           bit_of(page);
}

PageInstaller page_installer(const RAMBlock *rb, uint64_t page)
{
    return __atomic_load_n(&rb->installed_by[page], __ATOMIC_RELAXED);
}

bool ramblock_recv_bitmap_set(RAMBlock *rb, uint64_t page, PageInstaller by)
{
    uint8_t nobody = PAGE_NOT_INSTALLED;

    if (!__atomic_compare_exchange_n(&rb->installed_by[page], &nobody, (uint8_t)by, false,
                                     __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
        return false;
    }
    __atomic_fetch_or(&rb->receivedmap[page / PAGES_PER_WORD], bit_of(page), __ATOMIC_RELEASE);
    return true;
}

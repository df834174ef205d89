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

bool ram_block_lazy_start(RAMBlock *rb, uint64_t length, GError **error)
{
    uint64_t pages = length / rb->page_size;
    uint64_t words = words_of(pages);

    ram_block_lazy_clear(rb);
    rb->claimed_bmap = g_try_new0(unsigned long, words);
    rb->receivedmap = g_try_new0(unsigned long, words);
    rb->installed_by = g_try_new0(uint8_t, pages);
    if (pages > 0 && !(rb->claimed_bmap && rb->receivedmap && rb->installed_by)) {
        ram_block_lazy_clear(rb);
        g_set_error(error, MAPPED_RAM_ERROR, MAPPED_RAM_ERROR_NO_MEMORY,
                    "block '%s': no memory to keep account of 0x%" PRIx64 " pages", rb->idstr,
                    pages);
        return false;
    }
    rb->lazy_length = length;
    return true;
}

void ram_block_lazy_clear(RAMBlock *rb)
{
    g_clear_pointer(&rb->claimed_bmap, g_free);
    g_clear_pointer(&rb->receivedmap, g_free);
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

static uint64_t bit_of(uint64_t page)
{
    return UINT64_C(1) << (page % PAGES_PER_WORD);
}

/* @n: up to 64. */
static uint64_t first_bits(uint64_t n)
{
    return n < PAGES_PER_WORD ? bit_of(n) - 1 : ~UINT64_C(0);
}

/* The bits of the word that stand for pages. */
static uint64_t pages_of_word(const RAMBlock *rb, uint64_t word)
{
    uint64_t pages = ram_block_lazy_pages(rb);
    uint64_t first = word * PAGES_PER_WORD;

    return first < pages ? first_bits(MIN(pages - first, PAGES_PER_WORD)) : 0;
}

uint64_t claim_pages(RAMBlock *rb, uint64_t word, uint64_t mask)
{
    mask &= pages_of_word(rb, word);
    return mask ? mask & ~__atomic_fetch_or(&rb->claimed_bmap[word], mask, __ATOMIC_ACQ_REL) : 0;
}

bool claim_page(RAMBlock *rb, uint64_t page)
{
    return claim_pages(rb, page / PAGES_PER_WORD, bit_of(page)) != 0;
}

bool page_is_pending(const RAMBlock *rb, uint64_t page)
{
    return !(__atomic_load_n(&rb->claimed_bmap[page / PAGES_PER_WORD], __ATOMIC_ACQUIRE) &
             bit_of(page));
}

uint64_t count_bits(const unsigned long *bitmap, uint64_t first, uint64_t n)
{
    uint64_t set = 0;

    for (uint64_t done = 0; done < n;) {
        uint64_t shift = (first + done) % PAGES_PER_WORD;
        uint64_t some = MIN(PAGES_PER_WORD - shift, n - done);

        set += (uint64_t)__builtin_popcountll(bitmap[(first + done) / PAGES_PER_WORD] >> shift &
                                              first_bits(some));
        done += some;
    }
    return set;
}

bool page_has_data(const RAMBlock *rb, uint64_t page)
{
    uint64_t size = rb->file_bmap_page_size;

    return rb->file_bmap &&
           count_bits(rb->file_bmap, page * rb->page_size / size, MAX(1, rb->page_size / size)) > 0;
}

static uint64_t compute_word_of_data(const RAMBlock *rb, uint64_t word)
{
    uint64_t first = word * PAGES_PER_WORD;
    uint64_t end = MIN(first + PAGES_PER_WORD, ram_block_lazy_pages(rb));
    uint64_t data = 0;

    for (uint64_t page = first; page < end; page++) {
        data |= page_has_data(rb, page) ? bit_of(page) : 0;
    }
    return data;
}

uint64_t word_of_data(const RAMBlock *rb, uint64_t word)
{
    if (!rb->file_bmap) {
        return 0;
    }
    return rb->page_size == rb->file_bmap_page_size ? rb->file_bmap[word] & pages_of_word(rb, word)
                                                    : compute_word_of_data(rb, word);
}

/* What the file has is looked at first: of what it has not, claims stay untouched memory. */
static uint64_t word_of_pending_data(const RAMBlock *rb, uint64_t word)
{
    uint64_t data = word_of_data(rb, word);

    return data ? data & ~__atomic_load_n(&rb->claimed_bmap[word], __ATOMIC_RELAXED) : 0;
}

uint64_t next_pending_data(const RAMBlock *rb, uint64_t from)
{
    uint64_t pages = ram_block_lazy_pages(rb);
    uint64_t mask = ~UINT64_C(0) << (from % PAGES_PER_WORD);

    for (uint64_t word = from / PAGES_PER_WORD; word < words_of(pages); word++) {
        uint64_t found = word_of_pending_data(rb, word) & mask;

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

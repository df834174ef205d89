/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * See guest-ram.h. Each block number has a small arena and, once a large block
 * was asked for, a large one; both are mapped once and reused, because mmap()
 * for each load would cost more than the load.
 */
#define _GNU_SOURCE
#include "property/guest-ram.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* Canary bytes below a small block that are looked at. */
#define SLACK 512
#define GUARD 4096
#define PAGE 4096
/* Of st_blocks, bytes. */
#define STAT_BLOCK 512

/*
 * Pages of a memory file that are kept from load to load: it costs less to clear
 * and to look at one for many loads than to have the kernel make it once. More
 * pages are kept, too, as the next load is likely to want them; but once so many
 * were cleared that were over that number, emptying the file would have cost less
 * (200 where a page fault takes 1 us, some 1000 where it takes 15 us).
 */
#define KEPT_PAGES 16
#define MAX_SURPLUS 600

/* Bytes from the start of a memory file. */
typedef struct Range {
    uint64_t start;
    uint64_t end;
} Range;

typedef struct Arena {
    uint8_t *base;    /* of the mapping, guards included; NULL: not mapped yet */
    uint64_t size;    /* between the guards, bytes */
    int fd;           /* memory file of a large arena, else -1 */
    GArray *pages;    /* of Range: what the memory file holds, as of the last survey */
    uint64_t n_pages; /* in all of them */
    uint64_t surplus; /* pages over KEPT_PAGES that loads had, since it was last emptied */
} Arena;

typedef struct RamBlock {
    Arena small;
    Arena large;
    bool is_large;
    bool has_holes; /* small: pages may be missing, and are zero */
    /* Small: bit i: page i from the arena's end may be there; all others are missing. */
    uint64_t present;
    uint8_t before;
    uint8_t *host;
    uint64_t used_length;
    uint64_t max_length;
} RamBlock;

struct GuestRam {
    RamBlock blocks[GUEST_MAX_BLOCKS];
    Arena forbidden;
    int pagemap_fd; /* -1: not needed so far */
    pid_t pagemap_pid;
};

G_STATIC_ASSERT(GUEST_RAM_SMALL / PAGE <= 64);

GuestRam *guest_ram_new(void)
{
    GuestRam *ram = g_new0(GuestRam, 1);

    for (unsigned i = 0; i < GUEST_MAX_BLOCKS; i++) {
        ram->blocks[i].small.fd = -1;
        ram->blocks[i].present = UINT64_MAX;
        ram->blocks[i].large.fd = -1;
    }
    ram->forbidden.fd = -1;
    ram->pagemap_fd = -1;
    return ram;
}

static void arena_unmap(Arena *arena)
{
    if (arena->base) {
        munmap(arena->base, arena->size + 2 * GUARD);
    }
    if (arena->fd >= 0) {
        close(arena->fd);
    }
    g_clear_pointer(&arena->pages, g_array_unref);
}

void guest_ram_free(GuestRam *ram)
{
    for (unsigned i = 0; i < GUEST_MAX_BLOCKS; i++) {
        arena_unmap(&ram->blocks[i].small);
        arena_unmap(&ram->blocks[i].large);
    }
    arena_unmap(&ram->forbidden);
    if (ram->pagemap_fd >= 0) {
        close(ram->pagemap_fd);
    }
    g_free(ram);
}

static bool set_errno(GError **error, const char *what)
{
    int saved = errno;

    g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(saved), "guest RAM: %s: %s", what,
                g_strerror(saved));
    return false;
}

/* Reserves address space of which all but the middle is inaccessible. */
static bool arena_reserve(Arena *arena, uint64_t size, GError **error)
{
    uint8_t *base =
        mmap(NULL, size + 2 * GUARD, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (base == MAP_FAILED) {
        return set_errno(error, "cannot reserve address space");
    }
    arena->base = base;
    arena->size = size;
    return true;
}

static bool arena_map_small(Arena *arena, GError **error)
{
    if (arena->base) {
        return true;
    }
    /* Whole pages: the guard page begins right behind. */
    if (!arena_reserve(arena, GUEST_RAM_SMALL + GUARD, error)) {
        return false;
    }
    if (mprotect(arena->base + GUARD, arena->size, PROT_READ | PROT_WRITE) < 0) {
        return set_errno(error, "cannot make memory accessible");
    }
    memset(arena->base + GUARD, GUEST_RAM_CANARY, arena->size);
    return true;
}

static bool arena_map_large(Arena *arena, GError **error)
{
    if (arena->base) {
        return true;
    }
    arena->pages = g_array_new(FALSE, FALSE, sizeof(Range));
    arena->fd = memfd_create("pagewise-guest-ram", MFD_CLOEXEC);
    if (arena->fd < 0 || ftruncate(arena->fd, GUEST_RAM_LARGE) < 0) {
        return set_errno(error, "cannot make a memory file");
    }
    if (!arena_reserve(arena, GUEST_RAM_LARGE, error)) {
        return false;
    }
    if (mmap(arena->base + GUARD, arena->size, PROT_READ | PROT_WRITE,
             MAP_SHARED | MAP_FIXED | MAP_NORESERVE, arena->fd, 0) == MAP_FAILED) {
        return set_errno(error, "cannot map the memory file");
    }
    return true;
}

static bool has_as_many_pages(const Arena *arena)
{
    struct stat status;

    return fstat(arena->fd, &status) == 0 &&
           (uint64_t)status.st_blocks * STAT_BLOCK == arena->n_pages * PAGE;
}

/*
 * Does the memory file hold the pages of the last survey, and no others? It has as
 * many, then; and still as many after each was touched: one that was taken out is
 * back, so that another one in its stead is one more. (Where a load has emptied the
 * file, touching would make all of them anew: so they are counted before.)
 */
static bool has_same_pages(const Arena *arena)
{
    if (!has_as_many_pages(arena)) {
        return false;
    }
    for (unsigned i = 0; i < arena->pages->len; i++) {
        const Range *range = &g_array_index(arena->pages, Range, i);

        for (uint64_t at = range->start; at < range->end; at += PAGE) {
            (void)*(volatile const uint8_t *)(arena->base + GUARD + at);
        }
    }
    return has_as_many_pages(arena);
}

static void forget_pages(Arena *arena)
{
    g_array_set_size(arena->pages, 0);
    arena->n_pages = 0;
}

/* Asks the kernel which pages the memory file holds. */
static void arena_survey(Arena *arena)
{
    Range range = { 0, 0 };

    if (has_same_pages(arena)) {
        return;
    }
    forget_pages(arena);
    for (;;) {
        off_t data = lseek(arena->fd, range.end, SEEK_DATA);

        if (data < 0) {
            return;
        }
        range = (Range){ data, lseek(arena->fd, data, SEEK_HOLE) };
        g_array_append_val(arena->pages, range);
        arena->n_pages += (range.end - range.start) / PAGE;
    }
}

/*
 * Gives all pages back: from the first to the last, because the kernel looks at page tables of
 * all that it is told.
 */
static bool arena_empty(Arena *arena, GError **error)
{
    const Range *first = &g_array_index(arena->pages, Range, 0);
    const Range *last = first + arena->pages->len - 1;

    arena->surplus = 0;
    if (fallocate(arena->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)first->start,
                  (off_t)(last->end - first->start)) < 0) {
        return set_errno(error, "cannot empty the memory file");
    }
    forget_pages(arena);
    return true;
}

/*
 * Makes the memory file zero again, as of the last survey: pages are kept and overwritten, or
 * all are given back.
 */
static bool arena_clear_large(Arena *arena, GError **error)
{
    arena->surplus += arena->n_pages > KEPT_PAGES ? arena->n_pages - KEPT_PAGES : 0;
    if (arena->surplus > MAX_SURPLUS) {
        return arena_empty(arena, error);
    }
    for (unsigned i = 0; i < arena->pages->len; i++) {
        const Range *range = &g_array_index(arena->pages, Range, i);

        memset(arena->base + GUARD + range->start, 0, range->end - range->start);
    }
    return true;
}

/* Of an entry of pagemap. */
#define ENTRY_PRESENT (UINT64_C(1) << 63)
#define ENTRY_SWAPPED (UINT64_C(1) << 62)

/* A forked child has a map of its own. */
static void open_pagemap(GuestRam *ram)
{
    pid_t pid = getpid();

    if (ram->pagemap_fd >= 0 && ram->pagemap_pid != pid) {
        close(ram->pagemap_fd);
        ram->pagemap_fd = -1;
    }
    if (ram->pagemap_fd < 0) {
        ram->pagemap_fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
        ram->pagemap_pid = pid;
    }
}

/* Entries of the @n pages from @address on. */
static bool read_pagemap(const GuestRam *ram, const uint8_t *address, uint64_t *entries, size_t n)
{
    size_t length = n * sizeof(*entries);
    uint64_t at = (uintptr_t)address / PAGE * sizeof(*entries);

    return ram->pagemap_fd >= 0 &&
           pread(ram->pagemap_fd, entries, length, (off_t)at) == (ssize_t)length;
}

static uint8_t *end_of_small(const RamBlock *block)
{
    return block->small.base + GUARD + block->small.size;
}

/* Bits of RamBlock.present: the pages of the last @length bytes, more than none, of an arena. */
static uint64_t last_pages(uint64_t length)
{
    return UINT64_MAX >> (64 - CLAMP((length + PAGE - 1) / PAGE, 1, 64));
}

static uint64_t pages_of_small(const RamBlock *block)
{
    return last_pages(block->max_length);
}

static bool may_have_page_at(const RamBlock *block, uint64_t offset)
{
    return block->present >> ((block->max_length - 1 - offset) / PAGE) & 1;
}

static bool may_have_all_pages(const RamBlock *block)
{
    return !(pages_of_small(block) & ~block->present);
}

/* Where the kernel does not say, all of the block's pages may be there, as before. */
static void survey_small(const GuestRam *ram, RamBlock *block)
{
    uint64_t entries[GUEST_RAM_SMALL / PAGE];
    size_t n = block->max_length / PAGE;
    uint64_t present = 0;

    if (block->max_length % PAGE || !read_pagemap(ram, block->host, entries, n)) {
        return;
    }
    /* What is swapped out is there, too. */
    for (size_t i = 0; i < n; i++) {
        present |= (uint64_t)(entries[n - 1 - i] >= ENTRY_SWAPPED) << i;
    }
    block->present = (block->present & ~pages_of_small(block)) | present;
}

void guest_ram_survey(GuestRam *ram, unsigned n_blocks)
{
    for (unsigned i = 0; i < n_blocks; i++) {
        RamBlock *block = &ram->blocks[i];

        if (block->is_large) {
            arena_survey(&block->large);
        } else if (block->has_holes) {
            survey_small(ram, block);
        }
    }
}

void guest_ram_will_have_holes(GuestRam *ram, unsigned n_blocks)
{
    for (unsigned i = 0; i < n_blocks; i++) {
        ram->blocks[i].has_holes = true;
    }
    open_pagemap(ram);
}

static bool is_zero(const uint8_t *bytes, size_t length)
{
    return bytes[0] == 0 && memcmp(bytes, bytes + 1, length - 1) == 0;
}

/*
 * Pages that are missing are zero as it is. So are many of the others: often the
 * kernel's page of zeroes, which to write to is a page fault.
 */
static void fill_with_zeroes(const RamBlock *block)
{
    for (uint64_t at = 0; at < block->used_length; at += PAGE) {
        uint64_t length = MIN(PAGE, block->used_length - at);

        if (may_have_page_at(block, at) && !is_zero(block->host + at, length)) {
            memset(block->host + at, 0, length);
        }
    }
}

static bool prepare_small(RamBlock *block, uint8_t before, GError **error)
{
    if (!arena_map_small(&block->small, error)) {
        return false;
    }
    block->host = end_of_small(block) - block->max_length;
    block->before = before;
    memset(block->host - SLACK, GUEST_RAM_CANARY, SLACK);
    if (block->max_length % PAGE) {
        /* Where none of its pages begins a page of memory, holes help nobody. */
        block->present |= pages_of_small(block);
    }
    if (before == 0 && block->has_holes) {
        fill_with_zeroes(block);
    } else {
        memset(block->host, before, block->used_length);
    }
    memset(block->host + block->used_length, GUEST_RAM_CANARY,
           block->max_length - block->used_length);
    block->present |= last_pages(block->max_length + SLACK);
    return true;
}

static bool prepare_large(RamBlock *block, GError **error)
{
    bool fresh = !block->large.base;

    if (block->max_length > GUEST_RAM_LARGE) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_NOSPC,
                    "guest RAM: a block of 0x%" G_GINT64_MODIFIER "x bytes is over the limit",
                    block->max_length);
        return false;
    }
    if (!arena_map_large(&block->large, error) ||
        (!fresh && !arena_clear_large(&block->large, error))) {
        return false;
    }
    block->host = block->large.base + GUARD + block->large.size - block->max_length;
    block->before = 0;
    return true;
}

bool guest_ram_prepare(GuestRam *ram, const Guest *guest, uint8_t before, GError **error)
{
    for (unsigned i = 0; i < guest->n_blocks; i++) {
        RamBlock *block = &ram->blocks[i];

        block->used_length = guest->blocks[i].used_length;
        block->max_length = guest->blocks[i].max_length;
        block->is_large = block->max_length > GUEST_RAM_SMALL;
        if (block->is_large ? !prepare_large(block, error) : !prepare_small(block, before, error)) {
            return false;
        }
    }
    return true;
}

uint64_t guest_ram_next_odd(const GuestRam *ram, unsigned block, uint64_t page, uint64_t end)
{
    const uint8_t *host = ram->blocks[block].host;
    uint64_t entries[64];

    while (page < end) {
        size_t n = MIN(end - page, G_N_ELEMENTS(entries));

        if (!read_pagemap(ram, host + page * PAGE, entries, n)) {
            return page;
        }
        for (size_t i = 0; i < n; i++, page++) {
            if ((entries[i] & (ENTRY_PRESENT | ENTRY_SWAPPED)) == ENTRY_SWAPPED) {
                return page;
            }
        }
    }
    return end;
}

bool guest_ram_repair(GuestRam *ram, unsigned block, uint64_t start, uint64_t end, GError **error)
{
    uint8_t *at = ram->blocks[block].host + start;

    /* DONTNEED takes poison out of the page tables, REMOVE takes bytes out of the file. */
    if (mprotect(at, end - start, PROT_READ | PROT_WRITE) < 0 ||
        madvise(at, end - start, MADV_DONTNEED) < 0 ||
        (ram->blocks[block].is_large && madvise(at, end - start, MADV_REMOVE) < 0)) {
        return set_errno(error, "cannot make memory usable again");
    }
    return true;
}

uint8_t *guest_ram_forbidden(GuestRam *ram, GError **error)
{
    if (!ram->forbidden.base && !arena_reserve(&ram->forbidden, GUEST_RAM_LARGE, error)) {
        return NULL;
    }
    return ram->forbidden.base + GUARD;
}

uint8_t *guest_ram_host(const GuestRam *ram, unsigned block)
{
    return ram->blocks[block].host;
}

uint8_t guest_ram_before(const GuestRam *ram, unsigned block)
{
    return ram->blocks[block].before;
}

bool guest_ram_is_large(const GuestRam *ram, unsigned block)
{
    return ram->blocks[block].is_large;
}

/* Index of the first byte of @bytes that is not @byte; @length if all are. */
static size_t span_of(const uint8_t *bytes, size_t length, uint8_t byte)
{
    size_t i;

    if (length == 0 || (bytes[0] == byte && memcmp(bytes, bytes + 1, length - 1) == 0)) {
        return length;
    }
    for (i = 0; bytes[i] == byte; i++) {
    }
    return i;
}

static bool memory_is_filled(const RamBlock *block, uint64_t start, uint64_t end, uint8_t byte,
                             uint64_t *differs)
{
    size_t span = span_of(block->host + start, end - start, byte);

    *differs = start + span;
    return *differs == end;
}

/* A small block with holes: what is missing is zero, and reading it would make it. */
static bool holes_are_filled(const RamBlock *block, uint64_t start, uint64_t end, uint8_t byte,
                             uint64_t *differs)
{
    for (uint64_t at = start; at < end;) {
        uint64_t next = MIN(end, (at / PAGE + 1) * PAGE);

        if ((byte != 0 || may_have_page_at(block, at)) &&
            !memory_is_filled(block, at, next, byte, differs)) {
            return false;
        }
        at = next;
    }
    *differs = end;
    return true;
}

/*
 * A large block: only pages that the memory file holds can be anything but
 * zero; reading the others through the mapping would make them.
 */
static bool file_is_filled(const RamBlock *block, uint64_t start, uint64_t end, uint8_t byte,
                           uint64_t *differs)
{
    uint64_t shift = GUEST_RAM_LARGE - block->max_length;
    uint64_t at = start;

    for (unsigned i = 0; i < block->large.pages->len && at < end; i++) {
        Range range = g_array_index(block->large.pages, Range, i);

        if (range.end <= shift + at) {
            continue;
        }
        if (range.start > shift + at) {
            if (byte != 0) {
                break;
            }
            at = MIN(end, range.start - shift);
        }
        range.end = MIN(end, range.end - shift);
        if (!memory_is_filled(block, at, range.end, byte, differs)) {
            return false;
        }
        at = range.end;
    }
    *differs = MIN(at, end);
    return byte == 0 || at >= end;
}

bool guest_ram_is_filled(const GuestRam *ram, unsigned block, uint64_t start, uint64_t end,
                         uint8_t byte, uint64_t *differs)
{
    const RamBlock *b = &ram->blocks[block];

    if (start >= end) {
        return true;
    }
    if (b->is_large) {
        return file_is_filled(b, start, end, byte, differs);
    }
    return may_have_all_pages(b) ? memory_is_filled(b, start, end, byte, differs)
                                 : holes_are_filled(b, start, end, byte, differs);
}

bool guest_ram_is_untouched(const GuestRam *ram, unsigned block, uint64_t start, uint64_t end,
                            uint64_t *differs)
{
    const RamBlock *b = &ram->blocks[block];
    uint64_t border = CLAMP(b->used_length, start, MAX(start, end));
    uint8_t beyond = b->is_large ? 0 : GUEST_RAM_CANARY;

    return guest_ram_is_filled(ram, block, start, MIN(end, border), b->before, differs) &&
           guest_ram_is_filled(ram, block, border, end, beyond, differs);
}

bool guest_ram_slack_is_untouched(const GuestRam *ram, unsigned block)
{
    const RamBlock *b = &ram->blocks[block];

    return b->is_large || span_of(b->host - SLACK, SLACK, GUEST_RAM_CANARY) == SLACK;
}

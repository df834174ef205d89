/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * See page-map.h. A character stands for so many pages that the map has at
 * most MAX_ROWS rows, however large the block is.
 */
#include "tools/page-map.h"

#include "tools/block-bitmap.h"
#include "tools/listing.h"

#include <inttypes.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define MAX_ROWS 16
#define MIN_CELLS 16
#define MAX_CELLS 256
/* "  0x123456789  " before each row. */
#define LABEL_COLUMNS 16

unsigned page_map_terminal_width(void)
{
    struct winsize size;
    const char *columns = g_getenv("COLUMNS");
    uint64_t value;

    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) {
        return size.ws_col;
    }
    if (columns && g_ascii_string_to_unsigned(columns, 10, 1, 10000, &value, NULL)) {
        return (unsigned)value;
    }
    return 80;
}

/* A power of two, so that rows begin at round page numbers. */
static unsigned cells_in_a_row(unsigned width)
{
    unsigned cells = MIN_CELLS;

    while (cells < MAX_CELLS && 2 * cells + LABEL_COLUMNS <= width) {
        cells *= 2;
    }
    return cells;
}

/* @pages_per_cell is a power of two: a word lies in one cell, or cells in it. */
static void count_word(uint64_t first_page, uint64_t word, uint64_t pages_per_cell,
                       uint64_t *counts)
{
    if (pages_per_cell >= 64) {
        counts[first_page / pages_per_cell] += (uint64_t)__builtin_popcountll(word);
        return;
    }
    for (; word != 0; word &= word - 1) {
        counts[(first_page + (uint64_t)__builtin_ctzll(word)) / pages_per_cell]++;
    }
}

static void count_pages(const Judgement *judgement, unsigned block, uint64_t pages_per_cell,
                        uint64_t *counts)
{
    uint64_t words[BLOCK_BITMAP_BATCH];
    uint64_t from = 0;
    uint64_t first;
    unsigned n;

    while ((n = block_bitmap_read(judgement, block, from, &first, words)) > 0) {
        for (unsigned i = 0; i < n; i++) {
            if (words[i] != 0) {
                count_word((first + i) * 64, words[i], pages_per_cell, counts);
            }
        }
        from = first + n;
    }
}

static char cell_of(uint64_t count, uint64_t pages)
{
    if (count == 0) {
        return '.';
    }
    return count == pages ? '#' : '+';
}

static void append_cells(GString *out, const Judgement *judgement, unsigned block, const char *name,
                         unsigned width)
{
    uint64_t pages = judgement->blocks[block].pages;
    unsigned row = cells_in_a_row(width);
    uint64_t pages_per_cell = 1;
    uint64_t counts[MAX_CELLS * MAX_ROWS] = { 0 };

    while ((pages + pages_per_cell - 1) / pages_per_cell > (uint64_t)row * MAX_ROWS) {
        pages_per_cell *= 2;
    }
    count_pages(judgement, block, pages_per_cell, counts);
    g_string_append_printf(out,
                           "\nblock %s: %" PRIu64 " pages, %" PRIu64 " to a character: "
                           "# all in the file, + some, . none\n",
                           name, pages, pages_per_cell);
    for (uint64_t i = 0; i * pages_per_cell < pages; i++) {
        uint64_t first = i * pages_per_cell;

        if (i % row == 0) {
            g_string_append_printf(out, "%s  0x%-*" PRIx64, i == 0 ? "" : "\n", LABEL_COLUMNS - 4,
                                   first);
        }
        g_string_append_c(out, cell_of(counts[i], MIN(pages_per_cell, pages - first)));
    }
    g_string_append_c(out, '\n');
}

void page_map_append(GString *out, const Judgement *judgement, unsigned block, unsigned width)
{
    g_autofree char *name = listing_quote(judgement->guest.blocks[block].idstr);

    if (block_bitmap_exists(judgement, block)) {
        append_cells(out, judgement, block, name, width);
    } else {
        g_string_append_printf(out, "\nblock %s: its pages are not in the file\n", name);
    }
}

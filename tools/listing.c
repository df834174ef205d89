/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * See listing.h. It shows what the judge found, and decides nothing.
 */
#include "tools/listing.h"

#include "tools/block-bitmap.h"
#include "tools/tail.h"

#include <inttypes.h>
#include <string.h>

#define N_COLUMNS 11

char *listing_size(uint64_t bytes)
{
    static const char *const units[] = { "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
    unsigned unit = 0;

    if (bytes < 1024) {
        return g_strdup_printf("%" PRIu64 " bytes", bytes);
    }
    while (unit + 1 < G_N_ELEMENTS(units) && bytes >> (10 * (unit + 2)) != 0) {
        unit++;
    }
    if (bytes % (UINT64_C(1) << (10 * (unit + 1))) == 0) {
        return g_strdup_printf("%" PRIu64 " %s", bytes >> (10 * (unit + 1)), units[unit]);
    }
    return g_strdup_printf("%.1f %s", (double)bytes / (double)(UINT64_C(1) << (10 * (unit + 1))),
                           units[unit]);
}

char *listing_quote(const char *string)
{
    g_autofree char *escaped = g_strescape(string, NULL);

    return g_strdup_printf("'%s'", escaped);
}

/* The judge came to the RAM section's contents. */
static bool has_ram_section(const Judgement *judgement)
{
    return judgement->total > 0 || judgement_violates(judgement, RULE_R1A);
}

void listing_append_stream(GString *out, const Judgement *judgement)
{
    g_autofree char *machine = listing_quote(judgement->machine);
    g_autofree char *total = listing_size(judgement->total);

    if (judgement->end <= 8) {
        g_string_append(out, "stream    no migration stream that QEMU could read\n");
        return;
    }
    g_string_append_printf(out, "stream    QEVM, version 3, machine %s", machine);
    if (has_ram_section(judgement)) {
        g_string_append_printf(out, ", capabilities%s%s%s\n",
                               judgement->has_x_ignore_shared ? " x-ignore-shared" : "",
                               judgement_violates(judgement, RULE_C6) ? "" : " mapped-ram",
                               judgement_violates(judgement, RULE_C8) ? " and others" : "");
        g_string_append_printf(out,
                               "RAM       section id %" PRIu32 ", total %s (0x%" PRIx64
                               "), page size %" PRIu64,
                               judgement->section_id, total, judgement->total,
                               judgement->guest.target_page_size);
    }
    g_string_append_c(out, '\n');
}

static char *hex(uint64_t value)
{
    return g_strdup_printf("0x%" PRIx64, value);
}

static void fill_row(const Judgement *judgement, unsigned index, char *row[N_COLUMNS])
{
    const JudgedBlock *block = &judgement->blocks[index];
    uint64_t in_file;

    row[0] = listing_quote(judgement->guest.blocks[index].idstr);
    if (!block->in_file) {
        row[1] = g_strdup("no complete record");
        return;
    }
    row[1] = hex(block->used_length);
    row[2] = g_strdup_printf("%" PRIu64, block->pages);
    row[5] = g_strdup_printf("%" PRIu64, block->page_size);
    row[6] = g_strdup_printf("%" PRIu32, block->version);
    row[7] = hex(block->header_offset);
    row[8] = hex(block->bitmap_offset);
    row[9] = hex(block->pages_offset);
    row[10] = judgement->guest.x_ignore_shared ? hex(block->gpa) : g_strdup("-");
    if (block->ignored) {
        row[3] = g_strdup("shared");
        return;
    }
    if (block_bitmap_exists(judgement, index)) {
        in_file = block_bitmap_count(judgement, index);
        row[3] = g_strdup_printf("%" PRIu64, in_file);
        row[4] = g_strdup_printf("%.2f", block->pages == 0
                                             ? 0.0
                                             : 100.0 * (double)in_file / (double)block->pages);
    }
}

static void append_row(GString *out, char *const row[N_COLUMNS], const size_t width[N_COLUMNS])
{
    g_string_append(out, "  ");
    for (unsigned i = 0; i < N_COLUMNS; i++) {
        int columns = (int)width[i];

        g_string_append_printf(out, i == 0 ? "%-*s" : "  %*s", columns, row[i] ? row[i] : "-");
    }
    g_string_append_c(out, '\n');
}

void listing_append_blocks(GString *out, const Judgement *judgement)
{
    static const char *const titles[N_COLUMNS] = {
        "block",   "used_length", "pages",  "in file", "%",   "page_size",
        "version", "header",      "bitmap", "pages",   "GPA",
    };
    char *rows[1 + GUEST_MAX_BLOCKS][N_COLUMNS] = { 0 };
    size_t width[N_COLUMNS] = { 0 };
    unsigned n_rows = 1 + judgement->guest.n_blocks;

    for (unsigned i = 0; i < N_COLUMNS; i++) {
        rows[0][i] = g_strdup(titles[i]);
    }
    for (unsigned i = 1; i < n_rows; i++) {
        fill_row(judgement, i - 1, rows[i]);
    }
    for (unsigned i = 0; i < n_rows * N_COLUMNS; i++) {
        const char *cell = rows[i / N_COLUMNS][i % N_COLUMNS];

        width[i % N_COLUMNS] = MAX(width[i % N_COLUMNS], cell ? strlen(cell) : 1);
    }
    for (unsigned i = 0; i < n_rows; i++) {
        append_row(out, rows[i], width);
    }
    for (unsigned i = 0; i < n_rows * N_COLUMNS; i++) {
        g_free(rows[i / N_COLUMNS][i % N_COLUMNS]);
    }
}

void listing_append_tail(GString *out, const Judgement *judgement)
{
    g_autoptr(GArray) items = tail_list(judgement);

    g_string_append(out, "tail      ");
    for (unsigned i = 0; i < items->len; i++) {
        const TailItem *item = &g_array_index(items, TailItem, i);

        g_string_append(out, item->type);
        if (item->name[0]) {
            g_autofree char *name = listing_quote(item->name);

            g_string_append_printf(out, " %s", name);
        } else if (strcmp(item->type, "EOF") != 0) {
            g_string_append_printf(out, " %" PRIu32, item->id);
        }
        g_string_append_printf(out, " at 0x%" PRIx64 ", ", item->offset);
    }
    g_string_append_printf(out, "the walk ended at 0x%" PRIx64 " of 0x%" PRIx64 "\n",
                           judgement->end, sparse_file_size(judgement->file));
}

void listing_append_violations(GString *out, const Judgement *judgement)
{
    for (unsigned i = 0; i < judgement->n_violations; i++) {
        g_autofree char *line = judgement_describe_violation(judgement, i);
        bool must = judgement->violations[i].consequence == RULE_REJECT;

        g_string_append_printf(out, "%s %s\n", must ? "must refuse:" : "may refuse: ", line);
    }
    if (judgement->n_violations == JUDGE_MAX_VIOLATIONS) {
        g_string_append(out, "the list is full: there may be more\n");
    }
}

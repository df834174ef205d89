/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What repairs of findings do: each writes over one field of the file that a
 * violation (model/judge.h) names, or changes one thing of how it is loaded. What
 * triggers them is finding-repair.c's to know.
 */
#include "property/finding-repair.h"

#include <string.h>

#define HEADER_LENGTH_OF_PAGES_OFFSET 8 /* it is the last field of MappedRamHeader */

static bool put_be(FindingLoad *load, uint64_t offset, unsigned width, uint64_t value)
{
    uint8_t bytes[8];

    for (unsigned i = 0; i < width; i++) {
        bytes[i] = value >> (8 * (width - 1 - i));
    }
    if (sparse_file_compare(load->file, offset, bytes, width) == width) {
        return false;
    }
    sparse_file_write(load->file, offset, bytes, width);
    return true;
}

static bool set_page_size(FindingLoad *load, const Judgement *judgement, const Violation *violation)
{
    (void)judgement;
    return put_be(load, violation->offset, 8, load->guest->target_page_size);
}

/* To the guest's own; of a block that nobody knows, to whole pages. */
static bool set_used_length(FindingLoad *load, const Judgement *judgement,
                            const Violation *violation)
{
    uint64_t value = violation->block >= 0
                         ? load->guest->blocks[violation->block].used_length
                         : violation->value & ~(load->guest->target_page_size - 1);
    bool changes = load->used_length != value;

    (void)judgement;
    if (!load->one_block) {
        return put_be(load, violation->offset, 8, value);
    }
    load->used_length = value;
    return changes;
}

/* To the first page behind header and bitmap. */
static bool set_pages_offset(FindingLoad *load, const Judgement *judgement,
                             const Violation *violation)
{
    uint64_t page_size = load->guest->target_page_size;
    uint64_t end = violation->offset + HEADER_LENGTH_OF_PAGES_OFFSET;

    if (violation->block >= 0) {
        const GuestBlock *block = &judgement->guest.blocks[violation->block];

        end += (block->max_length / page_size + 63) / 64 * 8;
    }
    return put_be(load, violation->offset, 8, (end + page_size - 1) & ~(page_size - 1));
}

/* From the page that the violation names on. */
static bool clear_bits(FindingLoad *load, const Judgement *judgement, const Violation *violation)
{
    const JudgedBlock *block = &judgement->blocks[violation->block];
    uint64_t first = block->bitmap_offset + violation->value / 8;
    uint64_t end = block->bitmap_offset + block->bitmap_length;
    uint8_t byte = 0;

    sparse_file_read(load->file, first, &byte, 1);
    byte &= (1u << (violation->value % 8)) - 1;
    sparse_file_write(load->file, first, &byte, 1);
    if (end > first + 1) {
        sparse_file_fill(load->file, first + 1, end - first - 1, 0);
    }
    return true;
}

/* The command's type byte becomes EOF. */
static bool end_stream(FindingLoad *load, const Judgement *judgement, const Violation *violation)
{
    (void)judgement;
    return put_be(load, violation->offset - 1, 1, 0);
}

static bool set_machine_length(FindingLoad *load, const Judgement *judgement,
                               const Violation *violation)
{
    (void)judgement;
    return put_be(load, violation->offset, 4, strlen(load->guest->machine));
}

static bool set_count_to_one(FindingLoad *load, const Judgement *judgement,
                             const Violation *violation)
{
    (void)judgement;
    return put_be(load, violation->offset, 4, 1);
}

/* A version whose low byte is right; any other one is refused. */
static bool set_cut_version(FindingLoad *load, const Judgement *judgement,
                            const Violation *violation)
{
    (void)judgement;
    return (uint8_t)violation->value == 1 && put_be(load, violation->offset, 4, 1);
}

static bool turn_x_ignore_shared_off(FindingLoad *load, const Judgement *judgement,
                                     const Violation *violation)
{
    (void)judgement;
    (void)violation;
    load->guest->x_ignore_shared = false;
    return true;
}

static bool turn_clear_pages_off(FindingLoad *load, const Judgement *judgement,
                                 const Violation *violation)
{
    (void)judgement;
    (void)violation;
    load->guest->clear_pages = false;
    return true;
}

static bool turn_multifd_off(FindingLoad *load, const Judgement *judgement,
                             const Violation *violation)
{
    (void)judgement;
    (void)violation;
    load->mode = load->lazy ? FINDING_MODE_PLAIN | FINDING_MODE_LAZY : FINDING_MODE_PLAIN;
    return true;
}

static bool let_reads_succeed(FindingLoad *load, const Judgement *judgement,
                              const Violation *violation)
{
    (void)judgement;
    (void)violation;
    load->reads_fail = false;
    return true;
}

/* The length byte before the name. */
static bool empty_name(FindingLoad *load, const Judgement *judgement, const Violation *violation)
{
    (void)judgement;
    return put_be(load, violation->offset - 1, 1, 0);
}

/* Nothing from the violation on is left. */
static bool cut_file(FindingLoad *load, const Judgement *judgement, const Violation *violation)
{
    (void)judgement;
    sparse_file_truncate(load->file, violation->offset);
    return true;
}

static const struct {
    const char *name;
    RepairAction *action;
} actions[] = {
    { "set page_size", set_page_size },
    { "set used_length", set_used_length },
    { "set pages_offset", set_pages_offset },
    { "clear bits", clear_bits },
    { "end stream", end_stream },
    { "set machine length", set_machine_length },
    { "set count", set_count_to_one },
    { "set cut version", set_cut_version },
    { "turn x-ignore-shared off", turn_x_ignore_shared_off },
    { "turn clearing off", turn_clear_pages_off },
    { "turn multifd off", turn_multifd_off },
    { "let reads succeed", let_reads_succeed },
    { "cut file", cut_file },
    { "empty name", empty_name },
};

RepairAction *finding_action_by_name(const char *name)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(actions); i++) {
        if (strcmp(actions[i].name, name) == 0) {
            return actions[i].action;
        }
    }
    return NULL;
}

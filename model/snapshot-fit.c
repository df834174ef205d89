/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Makes a generated description one for another guest: see snapshot_fit() in
 * snapshot.h. For subjects that have one guest and no other.
 */
#include "model/snapshot.h"

#include <string.h>

#define TARGET_PAGE_BITS "configuration/target-page-bits"

static void fit_capabilities(Snapshot *snapshot, const Guest *guest)
{
    g_array_set_size(snapshot->capabilities, 0);
    if (guest->x_ignore_shared) {
        snapshot_add_capability(snapshot, "x-ignore-shared");
    }
    snapshot_add_capability(snapshot, "mapped-ram");
}

/* The page size is the guest's, whether the file says so or not. */
static void fit_subsections(Snapshot *snapshot)
{
    for (unsigned i = snapshot->subsections->len; i-- > 0;) {
        const SnapshotSubsection *subsection =
            &g_array_index(snapshot->subsections, SnapshotSubsection, i);

        if (subsection->name_length == strlen(TARGET_PAGE_BITS) &&
            memcmp(subsection->name, TARGET_PAGE_BITS, subsection->name_length) == 0) {
            g_array_remove_index(snapshot->subsections, i);
        }
    }
}

/* Drops what of the runs the block has no room for. */
static void fit_runs(GArray *runs, uint64_t pages)
{
    for (unsigned i = runs->len; i-- > 0;) {
        PageRun *run = &g_array_index(runs, PageRun, i);

        if (run->first >= pages) {
            g_array_remove_index(runs, i);
        } else {
            run->count = MIN(run->count, pages - run->first);
        }
    }
}

static void fit_block(SnapshotBlock *block, const GuestBlock *to, const Guest *guest)
{
    block->idstr_length = strlen(to->idstr);
    memcpy(block->idstr, to->idstr, block->idstr_length);
    block->used_length = to->used_length;
    block->has_gpa = guest->x_ignore_shared;
    block->ignored = false;
    block->page_size = guest->target_page_size;
    fit_runs(block->runs, to->used_length / guest->target_page_size);
}

void snapshot_fit(Snapshot *snapshot, const Guest *guest)
{
    uint64_t alignment = snapshot->pages_alignment;

    snapshot->page_size = guest->target_page_size;
    snapshot_set_machine(snapshot, guest->machine, strlen(guest->machine));
    fit_capabilities(snapshot, guest);
    fit_subsections(snapshot);
    for (unsigned i = snapshot->blocks->len; i < guest->n_blocks; i++) {
        snapshot_add_block(snapshot, guest->blocks[i].idstr, guest->blocks[i].used_length);
    }
    g_ptr_array_set_size(snapshot->blocks, guest->n_blocks);
    for (unsigned i = 0; i < guest->n_blocks; i++) {
        fit_block(snapshot_block(snapshot, i), &guest->blocks[i], guest);
    }
    g_byte_array_set_size(snapshot->tail, 0);
    snapshot_append_tail(snapshot->tail, snapshot->section_id);
    snapshot_layout(snapshot,
                    alignment % guest->target_page_size ? SNAPSHOT_PAGES_ALIGNMENT : alignment);
}

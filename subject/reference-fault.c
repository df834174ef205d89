/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The subject "reference", map_faults: snapshot_map_fault() of loader/ behind
 * the interface of subject.h. It translates and decides nothing.
 */
#include "subject/reference.h"

#include "loader/snapshot-load.h"

static void give_answer(const Guest *guest, const SnapshotPage *page, FaultAnswer *answer)
{
    static const FaultSource sources[] = {
        [SNAPSHOT_ZERO] = FAULT_ZERO,
        [SNAPSHOT_FILE] = FAULT_FILE,
        [SNAPSHOT_MIXED] = FAULT_MIXED,
    };

    *answer = (FaultAnswer){
        .block = page->block,
        .offset = page->offset,
        .length = guest->blocks[page->block].host_page_size,
        .first_page = page->first_bit,
        .n_pages = page->n_bits,
        .file_offset = page->file_offset,
        .source = sources[page->source],
    };
}

SubjectStatus reference_map_faults(const Guest *guest, const SubjectBlock *blocks,
                                   SubjectMapping *faults, unsigned n)
{
    RAMBlock ram_blocks[GUEST_MAX_BLOCKS];

    for (unsigned i = 0; i < guest->n_blocks; i++) {
        /* What snapshot_map_fault() looks at, and nothing else. */
        ram_blocks[i].host = blocks[i].host;
        ram_blocks[i].used_length = blocks[i].used_length;
        ram_blocks[i].page_size = guest->blocks[i].host_page_size;
        ram_blocks[i].in_file = blocks[i].in_file;
        ram_blocks[i].pages_offset = blocks[i].pages_offset;
        ram_blocks[i].file_bmap = (unsigned long *)blocks[i].file_bmap;
    }
    for (unsigned i = 0; i < n; i++) {
        GError **error = faults[i].explain ? &faults[i].error : NULL;
        SnapshotPage page;

        faults[i].status = SUBJECT_REFUSED;
        if (snapshot_map_fault(ram_blocks, guest->n_blocks, guest->target_page_size,
                               faults[i].address, &page, error)) {
            faults[i].status = SUBJECT_ACCEPTED;
            give_answer(guest, &page, &faults[i].answer);
        }
    }
    return SUBJECT_ACCEPTED;
}

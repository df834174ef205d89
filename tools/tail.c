/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * See tail.h. Never concludes anything: what is wrong here the judge says.
 */
#include "tools/tail.h"

#include "model/snapshot.h"

#define EOS_SIZE 8
#define FOOTER_SIZE 5

static uint64_t read_be(const SparseFile *file, uint64_t offset, unsigned size)
{
    uint8_t bytes[8] = { 0 };
    uint64_t value = 0;

    sparse_file_read(file, offset, bytes, size);
    for (unsigned i = 0; i < size; i++) {
        value = value << 8 | bytes[i];
    }
    return value;
}

/* Where the last block record ends (P2, X2), or 0. */
static uint64_t records_end(const Judgement *judgement)
{
    uint64_t end = 0;

    for (unsigned i = 0; i < judgement->guest.n_blocks; i++) {
        const JudgedBlock *block = &judgement->blocks[i];

        if (block->in_file) {
            end = MAX(end, block->ignored ? block->header_offset + SNAPSHOT_HEADER_SIZE
                                          : block->pages_offset + block->used_length);
        }
    }
    return end;
}

/* Reads one item; returns where the next one begins, or 0 after the last one. */
static uint64_t read_item(const SparseFile *file, uint64_t at, TailItem *item)
{
    uint64_t type = read_be(file, at, 1);
    uint64_t length;

    *item = (TailItem){ .offset = at++ };
    switch (type) {
    case SNAPSHOT_SECTION_PART:
    case SNAPSHOT_SECTION_END:
        item->type = type == SNAPSHOT_SECTION_PART ? "PART" : "END";
        item->id = (uint32_t)read_be(file, at, 4);
        return at + 4 + EOS_SIZE + FOOTER_SIZE;
    case SNAPSHOT_SECTION_COMMAND:
        item->type = "COMMAND";
        item->id = (uint32_t)read_be(file, at, 2);
        return at + 4 + read_be(file, at + 2, 2);
    case SNAPSHOT_SECTION_START:
    case SNAPSHOT_SECTION_FULL:
        item->type = type == SNAPSHOT_SECTION_START ? "START" : "FULL";
        item->id = (uint32_t)read_be(file, at, 4);
        length = read_be(file, at + 4, 1);
        item->name[sparse_file_read(file, at + 5, item->name, length)] = '\0';
        return 0;
    case SNAPSHOT_SECTION_EOF:
        item->type = "EOF";
        return 0;
    default:
        return 0;
    }
}

GArray *tail_list(const Judgement *judgement)
{
    GArray *items = g_array_new(FALSE, FALSE, sizeof(TailItem));
    uint64_t at = records_end(judgement);
    bool is_known = at > 0 && !judgement_violates(judgement, RULE_R4) &&
                    !judgement_violates(judgement, RULE_R3);

    at += EOS_SIZE + FOOTER_SIZE;
    while (is_known && at < judgement->end) {
        TailItem item;
        uint64_t next = read_item(judgement->file, at, &item);

        if (item.type) {
            g_array_append_val(items, item);
        }
        is_known = next != 0;
        at = next;
    }
    return items;
}

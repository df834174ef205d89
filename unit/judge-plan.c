/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See judge-plan.h. It must not use model/snapshot.c. */
#include "unit/judge-plan.h"

#include <string.h>

static PlanRecord record_of(const char *idstr, uint64_t used_length)
{
    return (PlanRecord){
        .idstr = idstr,
        .idstr_length = strlen(idstr),
        .used_length = used_length,
        .version = 1,
        .page_size = 4096,
        .bitmap_offset = PLAN_AUTOMATIC,
        .pages_offset = PLAN_AUTOMATIC,
        .bitmap = 0x02,
    };
}

void plan_standard(Plan *plan)
{
    *plan = (Plan){
        .guest = {
            .target_page_size = 4096,
            .machine = "none",
            .n_blocks = 1,
            .blocks = { { "ram", 0x2000, 0x4000, 4096 } },
        },
        .machine = PLAN_BYTES("none"),
        .subsections = PLAN_BYTES(PLAN_CAPABILITIES PLAN_V1 PLAN_MAPPED_RAM),
        .total = 0x2004,
        .n_records = 1,
        .records = { record_of("ram", 0x2000) },
        .tail = PLAN_BYTES(PLAN_EOS PLAN_FOOTER PLAN_COMMAND PLAN_END PLAN_FULL),
    };
}

void plan_ignore_shared(Plan *plan)
{
    plan_standard(plan);
    plan->guest.x_ignore_shared = true;
    plan->subsections =
        PLAN_BYTES(PLAN_CAPABILITIES "\0\0\0\2" PLAN_X_IGNORE_SHARED PLAN_MAPPED_RAM);
}

PlanRecord *plan_add_record(Plan *plan, const char *idstr, uint64_t used_length)
{
    PlanRecord *record = &plan->records[plan->n_records++];

    *record = record_of(idstr, used_length);
    plan->total += used_length;
    return record;
}

void plan_add_block(Plan *plan, const char *idstr, uint64_t used_length)
{
    GuestBlock *block = &plan->guest.blocks[plan->guest.n_blocks++];

    g_strlcpy(block->idstr, idstr, sizeof(block->idstr));
    block->used_length = used_length;
    block->max_length = 2 * used_length;
    block->host_page_size = 4096;
    plan_add_record(plan, idstr, used_length);
}

void put_number(SparseFile *file, uint64_t offset, unsigned size, uint64_t value)
{
    for (unsigned i = 0; i < size; i++) {
        uint8_t byte = value >> (8 * (size - 1 - i));

        sparse_file_write(file, offset + i, &byte, 1);
    }
}

static uint64_t append_number(SparseFile *file, uint64_t offset, unsigned size, uint64_t value)
{
    put_number(file, offset, size, value);
    return offset + size;
}

static uint64_t append_bytes(SparseFile *file, uint64_t offset, PlanBytes bytes)
{
    sparse_file_write(file, offset, bytes.bytes, bytes.length);
    return offset + bytes.length;
}

/* Returns where the next record starts. */
static uint64_t write_record(SparseFile *file, uint64_t offset, const PlanRecord *record,
                             bool has_gpa)
{
    uint64_t bitmap_offset = record->bitmap_offset;
    uint64_t pages_offset = record->pages_offset;
    uint64_t header_end;

    offset = append_number(file, offset, 1, record->idstr_length);
    offset = append_bytes(file, offset, (PlanBytes){ record->idstr, record->idstr_length });
    offset = append_number(file, offset, 8, record->used_length);
    if (has_gpa) {
        offset = append_number(file, offset, 8, 0x123456789a);
    }
    header_end = offset + 28;
    if (bitmap_offset == PLAN_AUTOMATIC) {
        bitmap_offset = header_end;
    }
    if (pages_offset == PLAN_AUTOMATIC) {
        pages_offset = (header_end + 8 + 4095) / 4096 * 4096;
    }
    offset = append_number(file, offset, 4, record->version);
    offset = append_number(file, offset, 8, record->page_size);
    offset = append_number(file, offset, 8, bitmap_offset);
    offset = append_number(file, offset, 8, pages_offset);
    if (record->bitmap != 0) {
        uint64_t word = GUINT64_TO_LE(record->bitmap);

        sparse_file_write(file, bitmap_offset, &word, sizeof(word));
    }
    return record->ends_at_header ? offset : pages_offset + record->used_length;
}

void plan_write(const Plan *plan, SparseFile *file)
{
    uint64_t offset = 0;

    sparse_file_reset(file);
    offset = append_bytes(file, offset, PLAN_BYTES("QEVM\0\0\0\3\7"));
    offset = append_number(file, offset, 4, plan->machine.length);
    offset = append_bytes(file, offset, plan->machine);
    offset = append_bytes(file, offset, plan->subsections);
    offset = append_bytes(file, offset, PLAN_BYTES("\1\0\0\0\2\3ram\0\0\0\0\0\0\0\4"));
    offset = append_number(file, offset, 8, plan->total);
    for (unsigned i = 0; i < plan->n_records; i++) {
        offset = write_record(file, offset, &plan->records[i], plan->guest.x_ignore_shared);
    }
    append_bytes(file, offset, plan->tail);
}

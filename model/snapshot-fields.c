/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The numeric fields of a Snapshot as tables. Keys of the text form are these
 * names (docs/snapshot-text.md): do not rename them.
 */
#include "model/snapshot-fields.h"

#define FIELD(type, member, role)                                                                  \
    {                                                                                              \
#member, offsetof(type, member), sizeof(((type *)NULL)->member), role                      \
    }

const SnapshotField snapshot_fields[SNAPSHOT_N_FIELDS] = {
    FIELD(Snapshot, page_size, FIELD_LENGTH),
    FIELD(Snapshot, pages_alignment, FIELD_LENGTH),
    FIELD(Snapshot, magic, FIELD_VALUE),
    FIELD(Snapshot, stream_version, FIELD_VALUE),
    FIELD(Snapshot, configuration_type, FIELD_VALUE),
    FIELD(Snapshot, machine_length, FIELD_LAID),
    FIELD(Snapshot, capability_count, FIELD_LAID),
    FIELD(Snapshot, section_type, FIELD_VALUE),
    FIELD(Snapshot, section_id, FIELD_VALUE),
    FIELD(Snapshot, instance_id, FIELD_VALUE),
    FIELD(Snapshot, section_version, FIELD_VALUE),
    FIELD(Snapshot, total, FIELD_LAID),
    FIELD(Snapshot, tail_at, FIELD_LAID),
    FIELD(Snapshot, eos, FIELD_VALUE),
    FIELD(Snapshot, footer_type, FIELD_VALUE),
    FIELD(Snapshot, footer_id, FIELD_VALUE),
    FIELD(Snapshot, file_size, FIELD_VALUE),
};

const SnapshotField snapshot_block_fields[SNAPSHOT_N_BLOCK_FIELDS] = {
    FIELD(SnapshotBlock, used_length, FIELD_LENGTH), FIELD(SnapshotBlock, gpa, FIELD_VALUE),
    FIELD(SnapshotBlock, version, FIELD_VALUE),      FIELD(SnapshotBlock, page_size, FIELD_VALUE),
    FIELD(SnapshotBlock, bitmap_offset, FIELD_LAID), FIELD(SnapshotBlock, pages_offset, FIELD_LAID),
    FIELD(SnapshotBlock, record_at, FIELD_LAID),     FIELD(SnapshotBlock, bitmap_at, FIELD_LAID),
    FIELD(SnapshotBlock, bitmap_pages, FIELD_LAID),  FIELD(SnapshotBlock, pages_at, FIELD_LAID),
};

uint64_t snapshot_field_get(const void *object, const SnapshotField *field)
{
    const uint8_t *at = (const uint8_t *)object + field->offset;

    switch (field->size) {
    case 1:
        return *at;
    case 4:
        return *(const uint32_t *)at;
    default:
        return *(const uint64_t *)at;
    }
}

void snapshot_field_set(void *object, const SnapshotField *field, uint64_t value)
{
    uint8_t *at = (uint8_t *)object + field->offset;

    switch (field->size) {
    case 1:
        *at = value;
        break;
    case 4:
        *(uint32_t *)at = value;
        break;
    default:
        *(uint64_t *)at = value;
        break;
    }
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The numeric fields of a Snapshot and of its blocks as tables, for what
 * treats them all alike: the mutator and the text form. Private to
 * model/snapshot*.c.
 */
#ifndef PAGEWISE_MODEL_SNAPSHOT_FIELDS_H
#define PAGEWISE_MODEL_SNAPSHOT_FIELDS_H

#include "model/snapshot.h"

typedef enum FieldRole {
    FIELD_VALUE,  /* has a default of its own */
    FIELD_LENGTH, /* as FIELD_VALUE; snapshot_layout() depends on it */
    FIELD_LAID,   /* its default is what snapshot_layout() gives */
} FieldRole;

typedef struct SnapshotField {
    const char *name;
    size_t offset; /* in the struct */
    uint8_t size;  /* bytes */
    FieldRole role;
} SnapshotField;

#define SNAPSHOT_N_FIELDS 17
#define SNAPSHOT_N_BLOCK_FIELDS 10

extern const SnapshotField snapshot_fields[SNAPSHOT_N_FIELDS];
extern const SnapshotField snapshot_block_fields[SNAPSHOT_N_BLOCK_FIELDS];

/* @object: the Snapshot or the SnapshotBlock that the field is one of. */
uint64_t snapshot_field_get(const void *object, const SnapshotField *field);
/* Keeps the low field->size bytes of @value. */
void snapshot_field_set(void *object, const SnapshotField *field, uint64_t value);

/* a + b and a * b, or UINT64_MAX where that is too large. */
static inline uint64_t snapshot_add(uint64_t a, uint64_t b)
{
    return a + b < a ? UINT64_MAX : a + b;
}

static inline uint64_t snapshot_multiply(uint64_t a, uint64_t b)
{
    uint64_t product;

    return __builtin_mul_overflow(a, b, &product) ? UINT64_MAX : product;
}

#endif

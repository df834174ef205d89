/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The state of an incoming migration: guest blocks and the loader's options.
 * Names are those of QEMU's migration/migration.h and include/system/ramblock.h.
 */
#ifndef PAGEWISE_LOADER_MIGRATION_H
#define PAGEWISE_LOADER_MIGRATION_H

#include "loader/reader.h"

#include <stdbool.h>

typedef struct RAMBlock RAMBlock;

struct RAMBlock {
    char idstr[256];
    uint8_t *host;        /* max_length bytes of guest RAM; borrowed */
    uint64_t used_length; /* bytes; a load may change it, up to max_length */
    uint64_t max_length;  /* bytes */
    size_t page_size;     /* host page size of the backing memory, bytes */
    uint64_t gpa;         /* guest physical address, written with x-ignore-shared */
    bool ignored;         /* save: shared and left out; load: rule X2 said so */
    /* From the file, filled by the header stage. */
    bool in_file;
    uint64_t bitmap_offset;
    uint64_t pages_offset;
    unsigned long *file_bmap; /* bit i: page i is in the file; owned; NULL when none */
    /* Of mapped_ram_load() alone. */
    uint64_t original_length; /* used_length before the load, bytes */
    RAMBlock *next_in_file;   /* the block of the next record, NULL: none */
};

typedef struct MigrationIncomingState {
    FileReader *reader;        /* borrowed */
    uint64_t target_page_size; /* bytes, a power of two from 1 KiB to 1 MiB */
    bool x_ignore_shared;
    bool x_ignore_shared_auto; /* set x_ignore_shared from the file instead (tools) */
    bool clear_pages;          /* rule G2: pages with a clear bit are cleared */
    const char *machine;       /* at most 254 bytes; NULL: any; borrowed */
    RAMBlock *blocks;          /* borrowed array */
    unsigned n_blocks;
} MigrationIncomingState;

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The mapped-ram loader in two stages, as the founding series splits QEMU's
 * migration/ram.c, and the wrapper that must do just what a one-stage loader
 * does. Answers to docs/mapped-ram-format.md, sections 5 to 9.
 *
 * Memory: the bitmap of the block at hand (bounded by its max_length, whatever
 * the file says), and nothing else. Errors: loader/error.h.
 */
#ifndef PAGEWISE_LOADER_MAPPED_RAM_H
#define PAGEWISE_LOADER_MAPPED_RAM_H

#include "loader/migration.h"
#include "loader/stream.h"

#define MAPPED_RAM_HDR_VERSION 1
#define MAPPED_RAM_HDR_SIZE 28
#define MAPPED_RAM_FILE_OFFSET_ALIGNMENT 0x100000
#define MAPPED_RAM_LOAD_BUF_SIZE 0x100000

/*
 * Header stage: reads MappedRamHeader at the stream's position and the bitmap;
 * checks both against @length, the block and the file; fills pages_offset,
 * bitmap_offset and file_bmap; leaves the stream at the next record. For a
 * block of rule X2 file_bmap stays NULL and `ignored` is set. If it fails,
 * file_bmap is NULL. @length: the record's used_length, bytes; the block is
 * resized to it (rule R6a).
 */
bool parse_ramblock_mapped_ram_header(MigrationIncomingState *mis, LoaderStream *f,
                                      RAMBlock *block, uint64_t length, GError **error);

/*
 * Pages stage: loads every page of the block from what the header stage
 * stored, in runs of set bits, chunks of up to MAPPED_RAM_LOAD_BUF_SIZE,
 * straight into guest RAM; holes are never read; pages with a clear bit are
 * cleared if mis->clear_pages. Frees file_bmap, whether it succeeds or not.
 */
bool parse_ramblock_mapped_ram_pages(MigrationIncomingState *mis, RAMBlock *block,
                                     uint64_t length, GError **error);

/* Both stages, one after the other. */
bool parse_ramblock_mapped_ram(MigrationIncomingState *mis, LoaderStream *f, RAMBlock *block,
                               uint64_t length, GError **error);

typedef enum LoadStages {
    LOAD_WHOLE,        /* each block: parse_ramblock_mapped_ram() */
    LOAD_SPLIT,        /* all header stages first, then all pages stages */
    LOAD_HEADERS_ONLY, /* for the lazy path and for inspection */
} LoadStages;

typedef struct LoadSummary {
    char machine[256];        /* of the file, cut and NUL-terminated */
    bool has_x_ignore_shared; /* the capability is listed in the file */
    uint32_t section_id;
    uint64_t total;           /* bytes */
    uint64_t end;             /* file offset where the walk over RAM ended */
} LoadSummary;

/*
 * Loads the RAM of a snapshot: sections 2 to 10 of the document. @summary may
 * be NULL. After LOAD_HEADERS_ONLY the blocks own their file_bmap; after the
 * others, and after every failure, none does (ram_block_clear() otherwise).
 */
bool mapped_ram_load(MigrationIncomingState *mis, LoadStages stages, LoadSummary *summary,
                     GError **error);

/* Frees what a load left in the block and resets what it filled in. */
void ram_block_clear(RAMBlock *block);

#endif

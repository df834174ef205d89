/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The mapped-ram loader in two stages, as the founding series splits QEMU's
 * migration/ram.c, and the wrapper that must do just what a one-stage loader
 * does. Answers to docs/mapped-ram-format.md, sections 5 to 9.
 *
 * Whatever a file's content can make wrong is found in the header stage, up to
 * and including rule P1; in the pages stage only reading itself can fail. So
 * LOAD_WHOLE and LOAD_SPLIT give every file the same verdict and the same
 * error; they can differ only in which is reported first, a block's failing
 * read of pages or a later block's broken header.
 *
 * Memory: the bitmap of the block at hand (bounded by its max_length, whatever
 * the file says), and nothing else; LOAD_SPLIT and LOAD_HEADERS_ONLY hold the
 * bitmaps of all blocks. Errors: loader/error.h. One thread a
 * MigrationIncomingState.
 */
#ifndef PAGEWISE_LOADER_MAPPED_RAM_H
#define PAGEWISE_LOADER_MAPPED_RAM_H

#include "loader/container.h"
#include "loader/format.h"
#include "loader/migration.h"
#include "loader/stream.h"

#define MAPPED_RAM_LOAD_BUF_SIZE 0x100000 /* the longest read of pages, bytes */

/*
 * Header stage: reads MappedRamHeader at the stream's position and the bitmap;
 * checks both against @length, the block and the file; fills pages_offset,
 * bitmap_offset and file_bmap (bits beyond the last page clear); leaves the
 * stream at the next record. @length: the record's used_length, bytes; the
 * block is resized to it (rule R6a). A block of rule X2 is left alone:
 * file_bmap stays NULL, `ignored` is set and in_file is not. If it fails,
 * file_bmap is NULL and the block has its old used_length.
 */
bool parse_ramblock_mapped_ram_header(MigrationIncomingState *mis, LoaderStream *f, RAMBlock *block,
                                      uint64_t length, GError **error);

/*
 * Pages stage: loads every page of the block from what the header stage
 * stored, in runs of set bits, chunks of up to MAPPED_RAM_LOAD_BUF_SIZE,
 * straight into guest RAM; holes are never read; pages with a clear bit are
 * cleared if mis->clear_pages. Frees file_bmap, whether it succeeds or not.
 * @length: as in the header stage. A block without file_bmap is left alone.
 */
bool parse_ramblock_mapped_ram_pages(MigrationIncomingState *mis, RAMBlock *block, uint64_t length,
                                     GError **error);

/* Both stages, one after the other. If it fails used_length is the old one. */
bool parse_ramblock_mapped_ram(MigrationIncomingState *mis, LoaderStream *f, RAMBlock *block,
                               uint64_t length, GError **error);

typedef enum LoadStages {
    LOAD_WHOLE,        /* each block: parse_ramblock_mapped_ram() */
    LOAD_SPLIT,        /* all header stages first, then all pages stages */
    LOAD_HEADERS_ONLY, /* for the lazy path and for inspection */
} LoadStages;

/*
 * Loads the RAM of a snapshot: sections 2 to 10 of the document. @summary may
 * be NULL. What an earlier load left in the blocks is dropped first. After
 * LOAD_HEADERS_ONLY the blocks own their file_bmap; after the others, and
 * after every failure, none does (ram_block_clear() otherwise). After a
 * failure every block has the used_length that it had before, its RAM is
 * unspecified up to the greater of that and the file's, and so is @summary.
 */
bool mapped_ram_load(MigrationIncomingState *mis, LoadStages stages, LoadSummary *summary,
                     GError **error);

/* Frees what a load left in the block and resets what it filled in. */
void ram_block_clear(RAMBlock *block);

#endif

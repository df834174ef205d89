/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Everything of a snapshot that is not a block record: file header,
 * configuration, the RAM section's frame, and the walk to where RAM ends.
 * Sections 2 to 5 and 10 of docs/mapped-ram-format.md.
 */
#ifndef PAGEWISE_LOADER_CONTAINER_H
#define PAGEWISE_LOADER_CONTAINER_H

#include "loader/migration.h"
#include "loader/stream.h"

typedef struct LoadSummary {
    char machine[256];        /* of the file, cut and NUL-terminated */
    bool has_x_ignore_shared; /* the capability is listed in the file */
    uint32_t section_id;
    uint64_t total;        /* bytes */
    uint64_t total_offset; /* file offset of the word that says so */
    uint64_t end;          /* file offset of the type byte that ended the walk over RAM */
} LoadSummary;

/*
 * Reads from the start of the file to the first block record, and fills
 * @summary but for `end`. With mis->x_ignore_shared_auto it sets
 * mis->x_ignore_shared. Errors: loader/error.h.
 */
bool container_read_start(MigrationIncomingState *mis, LoaderStream *f, LoadSummary *summary,
                          GError **error);

/*
 * Reads on from the word behind the last block record to where device state or
 * the end of the stream begins (rules T1 to T6), and fills summary->end.
 */
bool container_read_end(const MigrationIncomingState *mis, LoaderStream *f, LoadSummary *summary,
                        GError **error);

#endif

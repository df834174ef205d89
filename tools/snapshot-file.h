/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A snapshot on disk, of any size: the model sees it as a SparseFile whose
 * bytes are read when the model asks for them, so that judging a snapshot of
 * 1 TiB reads its headers and its bitmaps and nothing else.
 *
 * The linker's --wrap sends all that reads a SparseFile through this file (see
 * tools/CMakeLists.txt); files that were not opened here are not affected.
 */
#ifndef PAGEWISE_TOOLS_SNAPSHOT_FILE_H
#define PAGEWISE_TOOLS_SNAPSHOT_FILE_H

#include "model/judge.h"

typedef struct SnapshotFile SnapshotFile;

/* Opens a regular file that is not empty. @error: COMMAND_ERROR_INPUT. */
SnapshotFile *snapshot_file_open(const char *path, GError **error);
void snapshot_file_close(SnapshotFile *file);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SnapshotFile, snapshot_file_close)

/* Apparent size, and what the file takes on disk; bytes. */
uint64_t snapshot_file_size(const SnapshotFile *file);
uint64_t snapshot_file_disk_size(const SnapshotFile *file);

/* For the model's functions; belongs to @file. */
const SparseFile *snapshot_file_content(const SnapshotFile *file);

/*
 * False if content that was asked for could not be read: what was concluded
 * from it is void. @error: COMMAND_ERROR_INPUT, with offset and reason.
 */
bool snapshot_file_check(const SnapshotFile *file, GError **error);

/* Reads bytes past the model, which are not kept; for pages. */
bool snapshot_file_read(SnapshotFile *file, uint64_t offset, void *buffer, size_t length,
                        GError **error);

/* The first offset >= @offset that is not in a hole; the size if none is. */
uint64_t snapshot_file_next_data(const SnapshotFile *file, uint64_t offset);

/*
 * Reads all data into @copy, for what needs it all at once.
 * @error: as of sparse_file_from_fd().
 */
bool snapshot_file_copy(SnapshotFile *file, SparseFile *copy, uint64_t max_data, GError **error);

#endif

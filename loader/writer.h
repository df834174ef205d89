/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Saves guest RAM as a mapped-ram snapshot: byte for byte in layout what QEMU
 * writes (docs/mapped-ram-format.md, section 11). Zero pages become holes.
 */
#ifndef PAGEWISE_LOADER_WRITER_H
#define PAGEWISE_LOADER_WRITER_H

#include "loader/migration.h"

typedef struct FileWriter FileWriter;

struct FileWriter {
    /* Writes all @length bytes at @offset. Returns 0 or -errno. */
    int (*pwrite)(FileWriter *writer, const void *buffer, size_t length, uint64_t offset);
};

typedef struct FdWriter {
    FileWriter writer;
    int fd; /* borrowed */
} FdWriter;

/* Initialises a writer to @fd, borrowed; its file position is not used. */
void fd_writer_init(FdWriter *self, int fd);

typedef struct SaveOptions {
    const char *machine;       /* "none", "pc-q35-10.0", ...; not NULL */
    uint64_t target_page_size; /* bytes, a power of two from 1 KiB to 1 MiB */
    bool x_ignore_shared;      /* gpa is written, and blocks may be ignored */
    uint32_t section_id;
    /*
     * What follows the START section's footer, verbatim (END of ram, device
     * state, EOF, VM description). NULL: SWITCHOVER_START, END of ram, EOF.
     */
    const uint8_t *tail;
    size_t tail_length;
} SaveOptions;

/*
 * Writes the snapshot into a file that is empty. @blocks' host, idstr,
 * used_length (a multiple of target_page_size), gpa and, with
 * x_ignore_shared, ignored are read. A page is "zero" if all its bytes are;
 * nothing is ever written to its place. The file ends with the tail.
 * Memory: the bitmap of the block at hand.
 * @error: MAPPED_RAM_ERROR_IO, MAPPED_RAM_ERROR_NO_MEMORY, naming block and
 * file offset.
 */
bool mapped_ram_save(FileWriter *writer, const RAMBlock *blocks, unsigned n_blocks,
                     const SaveOptions *options, GError **error);

#endif

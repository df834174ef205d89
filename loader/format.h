/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The numbers of docs/mapped-ram-format.md that reader and writer share, and
 * those of docs/postcopy-wire.md that are the same in QEMU's stream, under the
 * names that QEMU's migration/savevm.h, qemu-file.h, savevm.c and ram.c give
 * them. Constants alone: nothing here reads or writes.
 */
#ifndef PAGEWISE_LOADER_FORMAT_H
#define PAGEWISE_LOADER_FORMAT_H

#define QEMU_VM_FILE_MAGIC 0x5145564d
#define QEMU_VM_FILE_VERSION 3
#define QEMU_VM_SUBSECTION_VERSION 1
#define RAM_SECTION_VERSION 4

enum {
    QEMU_VM_EOF = 0x00,
    QEMU_VM_SECTION_START = 0x01,
    QEMU_VM_SECTION_PART = 0x02,
    QEMU_VM_SECTION_END = 0x03,
    QEMU_VM_SECTION_FULL = 0x04,
    QEMU_VM_SUBSECTION = 0x05,
    QEMU_VM_CONFIGURATION = 0x07,
    QEMU_VM_COMMAND = 0x08,
    QEMU_VM_SECTION_FOOTER = 0x7e,
};

enum {
    MIG_CMD_PING = 2,
    MIG_CMD_POSTCOPY_RESUME = 9,
    MIG_CMD_RECV_BITMAP = 10,
    MIG_CMD_SWITCHOVER_START = 11,
};

enum {
    RAM_SAVE_FLAG_ZERO = 0x02,
    RAM_SAVE_FLAG_MEM_SIZE = 0x04,
    RAM_SAVE_FLAG_PAGE = 0x08,
    RAM_SAVE_FLAG_EOS = 0x10,
    RAM_SAVE_FLAG_CONTINUE = 0x20,
};

#define MAPPED_RAM_HDR_VERSION 1
#define MAPPED_RAM_HDR_SIZE 28
#define MAPPED_RAM_FILE_OFFSET_ALIGNMENT 0x100000 /* of pages_offset, as written */

#endif

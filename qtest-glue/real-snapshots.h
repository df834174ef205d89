/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Snapshots of real machines, made afresh by a real QEMU, with patterns in
 * their RAM and with QEMU's own dumps of that RAM, taken without mapped-ram:
 * what a reader of the snapshot is to be compared with.
 *
 * The standard machines are "none" (one block of 1 MiB), "microvm" (1 MiB of
 * RAM, 5 blocks) and "q35-vga" (2 MiB of RAM, a VGA, 8 blocks). Guests never
 * run. x86 only.
 */
#ifndef PAGEWISE_QTEST_GLUE_REAL_SNAPSHOTS_H
#define PAGEWISE_QTEST_GLUE_REAL_SNAPSHOTS_H

#include "model/guest.h"
#include "model/sparse-file.h"
#include "qtest-glue/qemu-snapshot.h"

#define REAL_MACHINES 3

/* What QEMU itself says of a part of a block. */
typedef struct RealDump {
    const char *source; /* "process memory", "pmemsave", "backing file" */
    unsigned block;     /* index into Guest.blocks */
    uint64_t offset;    /* in the block, bytes */
    GBytes *bytes;
} RealDump;

typedef struct RealSnapshot {
    char *path;       /* of the snapshot */
    Guest guest;      /* from QEMU's own list of blocks */
    GPtrArray *dumps; /* of RealDump; each block is covered by at least one */
} RealSnapshot;

/**
 * real_machine_name:
 * @machine: 0 to REAL_MACHINES - 1
 *
 * Returns: "none", "microvm" or "q35-vga".
 */
const char *real_machine_name(unsigned machine);

/**
 * real_snapshot_make:
 * @folder: where the file NAME.snapshot is written, NAME the machine's
 * @capabilities: as for qemu_save_snapshot(). With x-ignore-shared the
 *     guest's RAM is private, as QEMU 10.0 cannot save shared RAM then
 *
 * Starts the machine, puts patterns into its RAM, saves it, dumps its RAM, and
 * ends it.
 *
 * Returns: the snapshot, or NULL with QEMU_ERROR or QMP_ERROR. Free with
 * real_snapshot_free(); the file stays.
 */
RealSnapshot *real_snapshot_make(const QemuBinary *binary, unsigned machine, const char *folder,
                                 const char *const *capabilities, GError **error);

/**
 * real_snapshots_make:
 *
 * Makes the snapshots of all standard machines, in order.
 *
 * Returns: an array of REAL_MACHINES RealSnapshot that frees them, or NULL.
 */
GPtrArray *real_snapshots_make(const QemuBinary *binary, const char *folder,
                               const char *const *capabilities, GError **error);

void real_snapshot_free(RealSnapshot *snapshot);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(RealSnapshot, real_snapshot_free)

/**
 * real_snapshot_load:
 * @path: a snapshot of @machine, whoever wrote it
 * @capabilities: as for qemu_load_snapshot()
 *
 * Loads a snapshot in a fresh real QEMU whose RAM is zero, and dumps its RAM.
 *
 * Returns: a new array of RealDump, or NULL with an error.
 */
GPtrArray *real_snapshot_load(const QemuBinary *binary, unsigned machine, const char *path,
                              const char *const *capabilities, GError **error);

/**
 * real_snapshot_to_sparse:
 * @path: a snapshot which every reader must accept for @guest
 * @out: reset first
 *
 * Makes a small stand-in of a real snapshot, for the corpora: all that a
 * reader of RAM looks at is QEMU's, byte for byte (header, configuration,
 * records, bitmaps, sections), but
 *  - pages that are not of one byte repeated (firmware, tables) hold a
 *    pattern: same pages, same bits, other content;
 *  - device state is cut off REAL_SNAPSHOT_TAIL bytes after the end of the
 *    walk over RAM (section 10 of docs/mapped-ram-format.md).
 *
 * Returns: false with QEMU_ERROR if the file cannot be read or is not to be
 * accepted.
 */
#define REAL_SNAPSHOT_TAIL 16
bool real_snapshot_to_sparse(const char *path, const Guest *guest, SparseFile *out, GError **error);

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Snapshots of a running QEMU: its RAM blocks, saving, loading, and its own
 * view of guest RAM in three ways that are independent of mapped-ram: pmemsave
 * (what the guest's processor would see), the file behind a
 * memory-backend-file, and the process' memory.
 */
#ifndef PAGEWISE_QTEST_GLUE_QEMU_SNAPSHOT_H
#define PAGEWISE_QTEST_GLUE_QEMU_SNAPSHOT_H

#include "model/guest.h"
#include "qtest-glue/process-meter.h"
#include "qtest-glue/qemu-process.h"

/* How long a save or a load may take. */
#define QEMU_MIGRATION_TIMEOUT_MS 60000

/* The page size of all x86 targets, bytes. */
#define QEMU_X86_PAGE_SIZE 4096

typedef struct QemuBlock {
    char idstr[256];
    uint64_t page_size; /* of the host memory behind it, bytes */
    uint64_t offset;    /* ram_addr_t of its first byte */
    uint64_t used;      /* used_length, bytes */
    uint64_t total;     /* max_length, bytes */
    uint64_t hva;       /* address in QEMU's process; 0: this QEMU does not tell */
} QemuBlock;

/**
 * qemu_blocks_parse:
 * @text: what HMP's "info ramblock" printed
 *
 * Returns: a new array of QemuBlock in that order, or NULL with
 * QEMU_ERROR_PROTOCOL. Free with g_array_unref().
 */
GArray *qemu_blocks_parse(const char *text, GError **error);

/**
 * qemu_list_blocks: asks QEMU for its RAM blocks, as qemu_blocks_parse().
 */
GArray *qemu_list_blocks(QemuProcess *qemu, GError **error);

/**
 * qemu_describe_guest:
 * @guest: overwritten; blocks in the order of qemu_list_blocks()
 *
 * Asks QEMU for what a reader of its snapshots has to know: machine and RAM
 * blocks. x_ignore_shared and clear_pages are off: -incoming relies on fresh
 * RAM being zero. For x86 targets.
 *
 * Returns: false with QEMU_ERROR, also if it has over GUEST_MAX_BLOCKS blocks.
 */
bool qemu_describe_guest(QemuProcess *qemu, Guest *guest, GError **error);

/* How a snapshot is saved or loaded, on top of mapped-ram. */
typedef struct QemuTransfer {
    /* NULL-terminated: "x-ignore-shared", ...; NULL: none */
    const char *const *capabilities;
    unsigned channels; /* multifd with so many; 0: without */
    bool direct_io;    /* the channels' pages with O_DIRECT; needs channels */
    bool lazy;         /* loading: fast snapshot load, postcopy-ram with mapped-ram */
} QemuTransfer;

/**
 * qemu_transfer_name:
 *
 * Returns: "plain", "multifd 2", "multifd 8 direct-io", "lazy". Free with
 * g_free().
 */
char *qemu_transfer_name(const QemuTransfer *transfer);

/**
 * qemu_configure:
 *
 * Sets capabilities and parameters for a save or load; the bandwidth is not
 * limited.
 *
 * Returns: false with QEMU_ERROR, or QMP_ERROR: this QEMU cannot do that.
 */
bool qemu_configure(QemuProcess *qemu, const QemuTransfer *transfer, GError **error);

/**
 * qemu_save:
 * @path: file to write; overwritten
 *
 * Saves a snapshot at full speed, and waits for the end of it. The guest must
 * be stopped.
 *
 * Returns: false with QEMU_ERROR or QMP_ERROR; @path may then be half a file.
 */
bool qemu_save(QemuProcess *qemu, const char *path, const QemuTransfer *transfer, GError **error);

/**
 * qemu_save_snapshot: the same with @capabilities alone.
 */
bool qemu_save_snapshot(QemuProcess *qemu, const char *path, const char *const *capabilities,
                        GError **error);

typedef enum QemuLoadOutcome {
    QEMU_LOAD_COMPLETED,
    QEMU_LOAD_REFUSED,  /* by an exit with status 1, or the status "failed" */
    QEMU_LOAD_CRASHED,  /* by a signal, or another exit status */
    QEMU_LOAD_HUNG,     /* it goes on and on: over the limit of processor or wall-clock time */
    QEMU_LOAD_BLEW_UP,  /* over the limit of memory */
    QEMU_LOAD_WEDGED,   /* it does nothing, and its main loop (and QMP) is dead */
    QEMU_LOAD_UNABLE,   /* the load could not be asked for */
    QEMU_LOAD_OUTCOMES, /* number of outcomes */
} QemuLoadOutcome;

/* "completed", "refused", "crashed", "hung", "blew up", "wedged", "unable". */
const char *qemu_load_outcome_name(QemuLoadOutcome outcome);

/**
 * qemu_load_status_outcome:
 * @status: with which a loading QEMU ended, as of waitpid()
 *
 * Returns: QEMU_LOAD_REFUSED or QEMU_LOAD_CRASHED.
 */
QemuLoadOutcome qemu_load_status_outcome(int status);

/**
 * qemu_load:
 * @qemu: started with "-incoming defer"
 * @path: file to load
 *
 * Loads a snapshot, and waits for the outcome. One QEMU can load once. A QEMU
 * that passed a limit is killed.
 *
 * Returns: the outcome; @error is set for all but QEMU_LOAD_COMPLETED, and
 * has QEMU's own words.
 */
QemuLoadOutcome qemu_load(QemuProcess *qemu, const char *path, const QemuTransfer *transfer,
                          const LoadLimits *limits, GError **error);

/**
 * qemu_load_snapshot: the same with @capabilities alone, and default limits.
 */
QemuLoadOutcome qemu_load_snapshot(QemuProcess *qemu, const char *path,
                                   const char *const *capabilities, GError **error);

/**
 * qemu_check_limits:
 * @before: what @pid had cost before the load
 *
 * Which limit has a load passed, if any? The last one, that of wall-clock time,
 * is the caller's: @timed_out. Of a load that does nothing, whether QEMU is
 * wedged is looked up at @pid.
 *
 * Returns: QEMU_LOAD_HUNG, QEMU_LOAD_BLEW_UP, QEMU_LOAD_WEDGED with @error, or
 * QEMU_LOAD_COMPLETED if no limit was passed.
 */
QemuLoadOutcome qemu_check_limits(pid_t pid, const ProcessCost *before, const LoadLimits *limits,
                                  bool timed_out, GError **error);

/**
 * qemu_dump_physical:
 * @address: guest physical, bytes
 * @length: bytes
 *
 * Reads guest RAM by QMP's pmemsave.
 *
 * Returns: @length bytes, or NULL with QEMU_ERROR or QMP_ERROR.
 */
GBytes *qemu_dump_physical(QemuProcess *qemu, uint64_t address, uint64_t length, GError **error);

/**
 * qemu_dump_block:
 *
 * Reads a block from QEMU's process.
 *
 * Returns: block->used bytes, or NULL with QEMU_ERROR_NO_ACCESS.
 */
GBytes *qemu_dump_block(QemuProcess *qemu, const QemuBlock *block, GError **error);

/**
 * qemu_write_block:
 * @offset: in the block, bytes
 *
 * Writes into a block in QEMU's process. The guest must be stopped, and QEMU
 * does not know that the pages are dirty: a save that begins later has them.
 *
 * Returns: false with QEMU_ERROR_NO_ACCESS.
 */
bool qemu_write_block(QemuProcess *qemu, const QemuBlock *block, uint64_t offset, const void *bytes,
                      size_t length, GError **error);

#endif

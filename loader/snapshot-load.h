/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fast snapshot load: headers and bitmaps are read at once, and the guest may
 * run; each page is read from the file when it is touched, and an eager thread
 * loads the rest. What the founding series prepares for. Answers to
 * docs/mapped-ram-format.md as mapped-ram.h does; afterwards guest RAM is what
 * the eager load makes of it with clear_pages, whatever mis->clear_pages says
 * (rule G2).
 *
 * The unit of everything is the host page: one fault places one host page,
 * whichever of the two kinds of pages is the larger. One that is made of
 * several target pages is put together in a temporary page; of a target page
 * that is larger, a fault takes only the part it needs. Where used_length is no
 * multiple of the host page, the target pages in the last host page are loaded
 * when the load begins, for userfaultfd would replace what stands behind them
 * as well (rule G3).
 *
 * Failure: the first error is kept and reported at the end; pages with content
 * that are not loaded are poisoned (postcopy_give_up_pages()), all of them, by
 * the thread that failed; pages without content still read as zero. If the
 * fault thread itself has to leave, those are poisoned too, and what the guest
 * discarded reads as zero: nobody sleeps on a page until the load ends.
 *
 * What cannot be had with a mapping: if the file is cut off between the look at
 * its size and the copy, the page in which it then ends has zeroes behind that
 * end. The load fails, but whoever was fast has read them (map_fd -1: never).
 */
#ifndef PAGEWISE_LOADER_SNAPSHOT_LOAD_H
#define PAGEWISE_LOADER_SNAPSHOT_LOAD_H

#include "loader/mapped-ram.h"
#include "loader/postcopy-ram.h"

#define SNAPSHOT_FAULT_CLUSTER 0x10000 /* that the eager thread loads next around a fault */
#define SNAPSHOT_EAGER_RUN 0x40000     /* that it claims at once else; both: bytes, aligned */
#define SNAPSHOT_SMALL_READ 0x1000     /* a fault's page up to this is read, not mapped; bytes */

typedef enum SnapshotSource {
    SNAPSHOT_ZERO,  /* no bit is set: zeroes, rule B3 */
    SNAPSHOT_FILE,  /* all bits are set: page_size bytes at file_offset, rule G1 */
    SNAPSHOT_MIXED, /* some are: as each target page says */
} SnapshotSource;

/* Where a host page comes from. */
typedef struct SnapshotPage {
    unsigned block;     /* index in the array of blocks */
    uint64_t page;      /* host page in the block */
    uint64_t offset;    /* of it in the block, bytes */
    uint64_t first_bit; /* of file_bmap: target page in which it begins */
    uint64_t n_bits;    /* target pages that it has a part in */
    SnapshotSource source;
    uint64_t file_offset; /* of its first byte, whether it is in the file or not */
} SnapshotPage;

/*
 * Where the page at host address @address comes from. Pure: looks at host,
 * used_length, page_size, in_file, file_bmap and pages_offset of the blocks
 * and at nothing else. @error: MAPPED_RAM_ERROR_MISMATCH if the address is in
 * no block, in one that is not in the file, or in no whole host page below
 * used_length.
 */
bool snapshot_map_fault(const RAMBlock *blocks, unsigned n_blocks, uint64_t target_page_size,
                        uint64_t address, SnapshotPage *page, GError **error);

typedef struct SnapshotLoadOptions {
    /*
     * The snapshot, for mapping: pages are copied straight from there. A
     * regular file, open for reading, the one that mis->reader reads; borrowed.
     * -1: everything is read through mis->reader.
     */
    int map_fd;
    /* Load what nobody touches in a thread of its own; else that is done by
     * snapshot_load_wait(). */
    bool eager_thread;
} SnapshotLoadOptions;

typedef struct SnapshotLoad SnapshotLoad;

/*
 * The header stage (LOAD_HEADERS_ONLY) and uffd_setup_incoming(). Returns the
 * load, to be ended by snapshot_load_end(); from now on RAM may be touched.
 * @mis and what it points to must stay until then; it uses page_fault_opaque
 * and fault_thread_failed. @summary may be NULL. NULL: refused; RAM is
 * unspecified up to used_length, and all else is as it was.
 */
SnapshotLoad *snapshot_load_start(MigrationIncomingState *mis, const SnapshotLoadOptions *options,
                                  LoadSummary *summary, GError **error);

/*
 * Returns when all pages with content are loaded, or the load has failed.
 * Loads them itself where there is no eager thread.
 */
void snapshot_load_wait(SnapshotLoad *load);

/* The load gives up: what is not loaded is poisoned. For any thread. */
void snapshot_load_cancel(SnapshotLoad *load);

/*
 * Waits, ends the load and frees it. RAM may be touched meanwhile; discards
 * through postcopy_discard_range() have to be over. The blocks keep their
 * receivedmap and installed_by until ram_block_clear(). Returns false with the
 * first error if a page could not be loaded or something else failed.
 */
bool snapshot_load_end(SnapshotLoad *load, GError **error);

#endif

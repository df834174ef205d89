/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The state of an incoming migration: guest blocks and the loader's options,
 * and what its eager and its lazy path keep there. Names are those of QEMU's
 * migration/migration.h and include/system/ramblock.h.
 */
#ifndef PAGEWISE_LOADER_MIGRATION_H
#define PAGEWISE_LOADER_MIGRATION_H

#include "loader/reader.h"
#include "loader/uffd.h"

#include <stdbool.h>

typedef uint64_t ram_addr_t;
typedef struct RAMBlock RAMBlock;
typedef struct MigrationIncomingState MigrationIncomingState;

struct RAMBlock {
    char idstr[256];
    uint8_t *host;        /* max_length bytes of guest RAM; borrowed */
    uint64_t used_length; /* bytes; a load may change it, up to max_length */
    uint64_t max_length;  /* bytes */
    size_t page_size;     /* host page size of the backing memory, bytes: the
                             kernel's, or that of hugetlb memory */
    uint64_t gpa;         /* guest physical address, written with x-ignore-shared */
    bool shared;          /* host is a shared mapping of a file (memfd) */
    bool ignored;         /* save: shared and left out; load: rule X2 said so */
    /* From the file, filled by the header stage. */
    bool in_file;
    uint64_t bitmap_offset;
    uint64_t pages_offset;
    unsigned long *file_bmap;     /* bit i: page i is in the file; owned; NULL when none */
    uint64_t file_bmap_page_size; /* of those pages, bytes */
    /* Of mapped_ram_load() alone. */
    uint64_t original_length; /* used_length before the load, bytes */
    RAMBlock *next_in_file;   /* the block of the next record, NULL: none */
    /*
     * The lazy path, page-claims.h: one bit or byte a host page. All zeroes to
     * begin with, so that they take neither time nor memory where RAM is left
     * alone: that is why QEMU's pending_bmap is turned round here.
     */
    uint64_t lazy_length;        /* bytes from host that are loaded lazily; 0: none */
    unsigned long *claimed_bmap; /* not pending any more; owned */
    unsigned long *receivedmap;  /* what the file had for it is settled; owned */
    uint8_t *installed_by;       /* PageInstaller; owned */
    bool registered;             /* with userfaultfd */
    bool keep_registered;        /* for ever: missing pages cannot be shut off otherwise */
};

/*
 * Supplies the page of a fault. Called by the fault thread. @offset: of the
 * host page in the block, bytes. Returns 0 if the page was placed, or will be
 * by somebody else; not 0 if it never will (who waits was given a signal).
 */
typedef int (*PostcopyPageHandler)(MigrationIncomingState *mis, RAMBlock *rb, ram_addr_t offset,
                                   void *fault_address);

/* Who works on a page: also the number of the thread's temporary page. */
typedef enum LazyThread {
    LAZY_FAULT_THREAD,
    LAZY_EAGER_THREAD, /* or who ends the load, in its place; postcopy: reads the main channel */
    LAZY_N_CHANNELS,
    LAZY_OTHER_THREAD = LAZY_N_CHANNELS, /* has no temporary page */
    LAZY_PREEMPT_THREAD,                 /* postcopy: reads the preempt channel */
} LazyThread;

/* Where a test can hold a thread. "Run": pages that were claimed at once. */
typedef enum LazyPoint {
    LAZY_POINT_FAULT,             /* a fault's page is known, nothing is claimed */
    LAZY_POINT_CLAIMED,           /* a run is claimed, nothing is read */
    LAZY_POINT_READ,              /* a run is at hand, nothing is copied */
    LAZY_POINT_PLACED,            /* a run is in RAM, receivedmap does not say so */
    LAZY_POINT_RECEIVED,          /* receivedmap says so */
    LAZY_POINT_FAILED,            /* a run's load failed, nothing is poisoned */
    LAZY_POINT_POISONED,          /* nobody can see a page of a failed run */
    LAZY_POINT_EAGER_NEXT,        /* before the eager thread's next claim */
    LAZY_POINT_DISCARD_MARKED,    /* a discarded range is settled, RAM is as it was */
    LAZY_POINT_BEFORE_QUIT,       /* all is loaded, the fault thread runs; block NULL */
    LAZY_POINT_BEFORE_UNREGISTER, /* the fault thread is gone; each block */
    LAZY_POINT_REQUESTED,         /* postcopy: the source was asked for the page */
    LAZY_POINT_PAUSED,            /* postcopy: the fault thread waits for a new channel */
    LAZY_POINT_RESUMED,           /* postcopy: it has stopped waiting */
    LAZY_POINT_CHANNEL_READ,      /* postcopy: all of the channel up to byte @page is used,
                                     more is about to be read; block NULL */
    LAZY_POINT_CHANNEL_ENDED,     /* postcopy: its stream has ended; as above */
    LAZY_N_POINTS,
} LazyPoint;

/* @page: host page in @rb, the first of a run. May block; must not fail. */
typedef void (*LazyPointHook)(void *opaque, LazyPoint point, LazyThread thread, RAMBlock *rb,
                              uint64_t page);

typedef struct PostcopyTmpPage {
    void *tmp_huge_page; /* owned mapping; NULL: none */
} PostcopyTmpPage;

struct MigrationIncomingState {
    FileReader *reader;        /* borrowed */
    uint64_t target_page_size; /* bytes, a power of two from 1 KiB to 1 MiB */
    bool x_ignore_shared;
    bool x_ignore_shared_auto; /* set x_ignore_shared from the file instead (tools) */
    bool clear_pages;          /* rule G2: pages with a clear bit are cleared */
    const char *machine;       /* at most 254 bytes; NULL: any; borrowed */
    RAMBlock *blocks;          /* borrowed array */
    unsigned n_blocks;

    /* The lazy path. Options, to be set before uffd_setup_incoming(). */
    const UffdOps *uffd_ops; /* NULL: the real ones; borrowed */
    LazyPointHook at_point;  /* NULL in production */
    void *at_point_opaque;   /* borrowed */
    void *page_fault_opaque; /* of the handlers; borrowed */
    /*
     * A fault could not be served, or (@ends) none can be from now on, since
     * the fault thread leaves. Takes @error. Called by the fault thread.
     */
    void (*fault_thread_failed)(MigrationIncomingState *mis, bool ends, GError *error);
    bool remove_events; /* heed discards by plain madvise() */

    /* Of uffd_setup_incoming(); -1, NULL, false when it is undone. */
    bool have_install_lock;
    bool have_fault_thread;
    bool events_unreadable;     /* the fault thread is gone, and nobody can read them; atomic */
    bool fault_is_write;        /* the fault at hand is; fault thread's own */
    uint32_t fault_thread_ptid; /* of the fault at hand, 0: unknown; fault thread's own */
    int userfault_fd;
    int userfault_event_fd; /* tells the fault thread to quit */
    UffdMethod userfault_method;
    unsigned postcopy_channels;
    PostcopyPageHandler page_fault_handler;
    PostcopyTmpPage *postcopy_tmp_pages;
    void *postcopy_tmp_zero_page; /* tmp_page_length bytes */
    size_t tmp_page_length;       /* of each temporary page, bytes */
    pthread_mutex_t install_lock; /* with remove_events: see postcopy-ram.c */
    GArray *fault_queue;          /* of struct uffd_msg: read, not served; fault thread's own */
    pthread_t fault_thread;
    uint64_t faults; /* served so far; atomic */
};

#endif

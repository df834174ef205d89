/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * For the tests of lazy loading: snapshot files in memory, guest RAM of each
 * kind that guests have, a table of userfaultfd operations that counts and
 * fails on purpose, and what of this process can leak. Most of it runs in
 * children, where cmocka's assertions must not be used: so checks return
 * false, or the child's exit status, and say on stderr what is wrong.
 */
#ifndef PAGEWISE_UNIT_LAZY_SUPPORT_H
#define PAGEWISE_UNIT_LAZY_SUPPORT_H

#include "loader/snapshot-load.h"
#include "property/resource-meter.h"
#include "unit/bounded.h"
#include "unit/loader-support.h"

#include <stdio.h>

/* Where a page begins, bytes. */
#define AT(page) ((uint64_t)(page)*TEST_PAGE)

/* Waits a little: a thread that was joined may be listed for a moment more. */
bool resources_are(Resources wanted);

typedef enum RamKind {
    RAM_ANONYMOUS,
    RAM_MEMFD, /* shared */
    RAM_HUGETLB,
    N_RAM_KINDS,
} RamKind;

const char *ram_kind_name(RamKind kind);

/* @length bytes, of hugetlb memory whole huge pages; NULL, and errno, if there are none. */
void *map_ram(RamKind kind, size_t length);

/*
 * Which target pages are in the file: its bit is set. Garbage stands in the
 * file at the place of the others (rule P3).
 */
typedef enum BitPattern {
    BITS_NONE,
    BITS_ALL,
    BITS_ALTERNATING,
    BITS_TAIL, /* the last page alone */
    BITS_LAST_WORD,
    N_BIT_PATTERNS,
} BitPattern;

bool bit_is_set(BitPattern bits, uint64_t page, uint64_t pages);

typedef struct LazyCase {
    RamKind ram;
    uint64_t target_page_size;
    uint64_t used_length; /* bytes */
    BitPattern bits;
    bool before; /* RAM holds a pattern before the load */
    bool mapped; /* copies from a mapping of the file, else reads */
} LazyCase;

/* A guest of one block, its snapshot, and what the load has to make of it. */
typedef struct LazyGuest {
    LazyCase what;
    int fd; /* the snapshot, in memory */
    FdReader reader;
    RAMBlock block;
    size_t map_length; /* of the block's memory */
    MigrationIncomingState mis;
    uint64_t file_pages; /* offset of the pages in the file */
    uint8_t *wanted;     /* max_length bytes: what RAM has to be after the load */
} LazyGuest;

/* A case of 67 target pages and max_length some pages more. */
LazyCase small_case(void);

/* NULL with a reason on stderr if there is no such memory. */
LazyGuest *lazy_guest_new(const LazyCase *what);
LazyGuest *lazy_guest_small(void); /* of small_case() */
void lazy_guest_free(LazyGuest *guest);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(LazyGuest, lazy_guest_free)

/* Fills all of the block's RAM with what it has to hold before a load. */
void lazy_guest_fill(LazyGuest *guest);

/* NULL with a message on stderr if it is refused. */
SnapshotLoad *lazy_guest_start(LazyGuest *guest, bool eager_thread);

/* Ends the load; false with a message on stderr if it failed. */
bool lazy_guest_end(SnapshotLoad *load);

/* Says on stderr where they differ first, if they do. */
bool same_bytes(const uint8_t *found, const uint8_t *wanted, uint64_t length);

/* RAM from @from to @to, bytes, is what it has to be. Touches it. */
bool check_ram(const LazyGuest *guest, uint64_t from, uint64_t to);

/*
 * Reading the first byte of a host page gives that signal; 0: it gives none, and
 * the byte is what it has to be.
 */
bool page_gives(const LazyGuest *guest, uint64_t page, int signal);

/* Ends the load: it must fail, with those words in its message. */
bool ends_with_error(SnapshotLoad *load, const char *words);

/* Number of host pages that were settled so. */
uint64_t count_installed(const LazyGuest *guest, PageInstaller by);

/* Host pages below used_length. */
uint64_t host_pages(const LazyGuest *guest);

/*
 * Reads a byte, in this thread. Returns false if that gave SIGBUS or SIGSEGV;
 * *signal says which.
 */
bool touch_survives(const volatile uint8_t *byte, uint8_t *value, int *signal);

/*
 * The real operations, but one call of set-up or tear-down fails. Not counted:
 * what threads do at their own pace (read, poll, copy, ...), and giving back
 * what cannot fail to be given back (MADV_DOFORK).
 */
typedef struct FailOps {
    UffdOps ops;
    unsigned calls;     /* so far; atomic */
    unsigned fail_call; /* 1: the first; 0: none */
    int fail_errno;
    unsigned n_maps;
    struct {
        void *memory;
        size_t length;
    } maps[8]; /* that it made */
} FailOps;

void fail_ops_init(FailOps *self, unsigned fail_call, int fail_errno);

/* Nothing is mapped any more where the loader mapped something. */
bool fail_ops_all_unmapped(const FailOps *self);

/* Holds the first thread that comes to a point until the test lets it go. */
typedef struct Gate {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    LazyPoint point;
    LazyThread thread;
    uint64_t page;
    bool armed;
    bool reached;
    bool open;
    unsigned passed[LAZY_N_POINTS]; /* how often each point was come to */
    uint64_t eager[4];              /* the pages at which the eager thread began */
} Gate;

/* Sets the guest's hook. */
void gate_init(Gate *gate, LazyGuest *guest, LazyPoint point, LazyThread thread, uint64_t page);
void gate_wait(Gate *gate); /* until somebody is held */
void gate_open(Gate *gate);
unsigned gate_passed(Gate *gate, LazyPoint point);

/* A thread that touches guest RAM, or does something else to it. */
typedef struct Toucher {
    void (*body)(struct Toucher *self); /* NULL: reads a byte */
    LazyGuest *guest;
    uint64_t offset; /* in the block, bytes */
    pthread_t thread;
    int tid;       /* 0: not yet started; atomic */
    int signal;    /* that reading gave, or 0 */
    uint8_t value; /* that was read */
    bool done;     /* atomic */
} Toucher;

void toucher_start(Toucher *toucher);
/* Until the thread sleeps: in a fault, or in whatever its body does. */
void toucher_wait_asleep(Toucher *toucher);
bool toucher_is_done(Toucher *toucher);
void toucher_join(Toucher *toucher);

/*
 * A hook for mis->at_point: starts the toucher @opaque before UNREGISTER, when
 * nobody serves faults or reads events any more, and waits until it sleeps.
 */
void touch_at_unregister(void *opaque, LazyPoint point, LazyThread thread, RAMBlock *rb,
                         uint64_t page);

/* SIGUSR1 interrupts what it hits, and does nothing else. */
void let_sigusr1_interrupt(void);

#endif

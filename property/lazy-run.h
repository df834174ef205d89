/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One lazy load, driven by its schedule: who goes on, when, and what each page
 * has been through meanwhile. What holds of that is judged by lazy.c; nobody
 * else includes this, but the run's own files (lazy-parts.h).
 *
 * At most one thread runs at a time, but for those who sleep in a fault and
 * wake: the schedule's own thread, a guest thread that it waits for, the fault
 * thread until it is idle again, the eager thread from one claim to the next.
 * So the same input gives the same result in any process. Who sleeps, sleeps
 * behind a thread that is held (StepAction WHEN), and wakes when that goes on.
 */
#ifndef PAGEWISE_PROPERTY_LAZY_RUN_H
#define PAGEWISE_PROPERTY_LAZY_RUN_H

#include "property/context.h"
#include "property/kept-file.h"
#include "property/schedule.h"
#include "property/watchdog.h"
#include "subject/kept-thread.h"

#include <semaphore.h>

#define LAZY_PAGE CONTEXT_PAGE /* host page, bytes */
#define LAZY_MAX_PAGES 0x8000  /* host pages of one case */
#define LAZY_MAX_EXPECTED 64   /* pages that the guest may change */
#define LAZY_TIME_LIMIT_S 30   /* for an execution */

/* What a host page has been through. */
typedef struct LazyPage {
    uint8_t copies; /* placed by COPY, ZEROPAGE, POISON */
    uint8_t zeroes;
    uint8_t poisons;
    uint8_t discards;
    uint8_t expected; /* 1 + index of what the guest made of it; 0: as the model says */
    bool present;     /* placed, and not discarded since */
    bool touched;     /* by the guest */
    bool kept;        /* the guest got at it since it was discarded last */
    bool raced;       /* read while it was changed: who placed it last is unknown */
    bool given_up;    /* nobody could touch it after a load that failed */
    bool has_data;    /* some of it is in the file */
    uint8_t pending;  /* writes and discards that are not over */
} LazyPage;

typedef struct LazyBlock {
    unsigned block; /* index in the guest */
    uint8_t *host;
    uint64_t n_pages; /* whole host pages in the file */
    LazyPage *pages;
} LazyBlock;

typedef enum GuestState {
    GUEST_FREE,
    GUEST_RUNS,
    GUEST_NAPS, /* at SUBJECT_POINT_NAP, behind a thread that is held */
    GUEST_DONE, /* to be collected */
} GuestState;

/* What a guest thread does. */
typedef struct GuestAct {
    StepAction action;
    LazyBlock *block;
    uint64_t page;
    uint64_t length; /* pages */
    unsigned offset; /* in the page */
    uint8_t value;   /* to be written, or that was read */
    uint8_t before;  /* the byte that was there to be read when it began */
    bool contested;  /* others changed the page meanwhile */
    int signal;      /* that it gave */
    GError *error;   /* of a discard */
} GuestAct;

typedef struct LazyRun LazyRun;

typedef struct GuestThread {
    LazyRun *run;
    KeptThread *thread;
    int stat_fd; /* of /proc: is it asleep? */
    GuestAct act;
    uint32_t state; /* GuestState; atomic */
    bool touching;  /* it is in guest RAM, or in madvise(); atomic */
    bool reported;  /* the fault thread knows of its fault; atomic */
} GuestThread;

typedef enum LoaderState {
    LOADER_RUNS,
    LOADER_RESTS, /* fault thread: waits for messages; eager thread: before a claim */
    LOADER_HELD,
    LOADER_NAPS,
    LOADER_ENDED,
} LoaderState;

/* Steps that wait for a thread to come to a point. */
typedef struct Trigger {
    bool armed;
    SubjectThread thread;
    SubjectPoint point;
    unsigned first;
    unsigned end;
} Trigger;

#define LAZY_MAX_TRIGGERS 4

struct LazyRun {
    PropertyContext *context;
    const SubjectLazy *lazy;
    void *session; /* NULL: lazy loads cannot be had */
    Watchdog *watchdog;
    int threads;    /* see open_threads() */
    KeptFile *file; /* the snapshot as a real file; NULL: not needed so far */
    GuestThread guests[SCHEDULE_GUEST_THREADS];
    GuestAct *own_act; /* of the schedule's own thread; NULL: none is under way */
    sem_t eager_go;
    LazyPage *page_store; /* LAZY_MAX_PAGES */
    uint8_t (*expected)[LAZY_PAGE];

    /* Of one load. */
    SubjectLazyLoad load;
    const Input *input;
    unsigned flags;
    LazyBlock blocks[GUEST_MAX_BLOCKS]; /* those with lazy pages */
    unsigned n_blocks;
    unsigned n_expected;
    Trigger triggers[LAZY_MAX_TRIGGERS];
    unsigned n_faults;              /* of load.faults that are used */
    uint64_t ends[INPUT_MAX_STEPS]; /* where the real file was cut off, bytes; atomic */
    unsigned n_ends;                /* atomic */
    bool cancelled;
    bool ending; /* end() was called */
    unsigned eager_steps;
    uint64_t demanded;    /* faults that had to be served */
    uint32_t fault_state; /* LoaderState; atomic */
    uint32_t eager_state; /* atomic */
    bool eager_free;      /* it stops no more; atomic */
    unsigned held;        /* threads that are; atomic */
    uint64_t sync;        /* atomic; orders what one thread did before what the next one does */
    /*
     * What steps begin and collect. Two threads may be held, and do steps, at once: one whose
     * step makes the other one come to its point goes on when the guest sleeps on that.
     */
    pthread_mutex_t steps_lock;
    GError *broken; /* the first thing that was found, or NULL */
    pthread_mutex_t broken_lock;
    const char *waiting_for; /* atomic; for the watchdog */
};

/* NULL: see @error; the subject has to load lazily. */
LazyRun *lazy_run_new(PropertyContext *context, GError **error);
void lazy_run_free(LazyRun *run);

/* Forgets the last load. */
void lazy_run_reset(LazyRun *run, const Input *input, const LoadCase *c);

/* After an accepted start(): finds the lazy pages, waits until the loader is at rest. */
bool lazy_run_begin(LazyRun *run);

/* All steps; false: something is broken, and no further step was done. */
bool lazy_run_steps(LazyRun *run);

/* end(), and all threads are at rest. */
SubjectStatus lazy_run_end(LazyRun *run, GError **refusal);

/* Did anything happen that a load may fail of? */
bool lazy_run_may_fail(const LazyRun *run);

/*
 * Did poisoning a page fail, or may it have, since nobody could read an event?
 * Then more than the page may be shut off.
 */
bool lazy_run_may_shut_off(const LazyRun *run);

/* The first byte of @bytes that is not what page @page is to hold; LAZY_PAGE: none. */
size_t lazy_run_compare_page(const LazyRun *run, const LazyBlock *block, uint64_t page);

/* Makes the page hold what the model says of it. */
void lazy_run_restore_page(const LazyRun *run, const LazyBlock *block, uint64_t page);

/* Notes that @id is broken, unless something was noted before. False. */
bool lazy_run_broken(LazyRun *run, PropertyId id, const LazyBlock *block, const char *format, ...)
    G_GNUC_PRINTF(4, 5);

#endif

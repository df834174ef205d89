/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The lazy part of the interface by which a loader is put under test: a load
 * after which guest RAM is filled page by page, as it is touched, by a fault
 * thread, and for the rest by an eager thread.
 *
 * The property is the guest: it touches RAM, has ranges discarded, makes
 * operations fail, and judges. The subject tells what its threads do, at named
 * points, from those threads; a hook may block there, so that the property
 * decides who goes on. What a subject cannot do is not in its masks or NULL,
 * and what depends on it is not checked: without IDLE and AWAKE nobody can know
 * when the fault thread is done, and the load runs as its threads please.
 */
#ifndef PAGEWISE_SUBJECT_LAZY_H
#define PAGEWISE_SUBJECT_LAZY_H

#include "subject/subject.h"

typedef enum SubjectThread {
    SUBJECT_FAULT_THREAD,
    SUBJECT_EAGER_THREAD, /* or who ends the load, in its place */
    SUBJECT_OTHER_THREAD, /* who discards, cancels, ends */
    SUBJECT_N_THREADS,
} SubjectThread;

/*
 * Where a hook is called, with the page that it is about, the first of a run
 * where it is about several. @block is -1 where it is about none.
 */
typedef enum SubjectPoint {
    SUBJECT_POINT_FAULT,             /* a fault's page is known, nothing is claimed */
    SUBJECT_POINT_CLAIMED,           /* a run is claimed, nothing is read */
    SUBJECT_POINT_READ,              /* a run is at hand, nothing is copied */
    SUBJECT_POINT_PLACED,            /* a run is in RAM, nobody was told */
    SUBJECT_POINT_RECEIVED,          /* receivedmap says so */
    SUBJECT_POINT_FAILED,            /* a run's load failed, nothing is poisoned */
    SUBJECT_POINT_POISONED,          /* nobody can see a page of a failed run */
    SUBJECT_POINT_EAGER_NEXT,        /* the eager thread is about to claim */
    SUBJECT_POINT_DISCARD_MARKED,    /* a discarded range is settled, RAM is as it was */
    SUBJECT_POINT_BEFORE_QUIT,       /* all is loaded, the fault thread still runs */
    SUBJECT_POINT_BEFORE_UNREGISTER, /* the fault thread is gone; each block */
    SUBJECT_POINT_IDLE,              /* the fault thread is about to wait for messages */
    SUBJECT_POINT_AWAKE,             /* it has stopped waiting */
    SUBJECT_POINT_FAULT_ENDS,        /* it is about to leave */
    SUBJECT_POINT_EAGER_ENDS,        /* the eager thread is about to leave */
    SUBJECT_POINT_NAP,               /* any thread: waits for another one, a nap at a time */
    SUBJECT_N_POINTS,
} SubjectPoint;

/* What settled a host page, as the subject says. */
typedef enum SubjectInstaller {
    SUBJECT_PAGE_NOT_INSTALLED,
    SUBJECT_PAGE_BY_FAULT_THREAD,
    SUBJECT_PAGE_BY_EAGER_THREAD,
    SUBJECT_PAGE_WAS_PRESENT, /* put there by somebody else: EEXIST */
    SUBJECT_PAGE_DISCARDED,   /* by the guest, before the page was placed */
    SUBJECT_PAGE_POISONED,    /* its load failed: who touches it gets a signal */
    SUBJECT_N_INSTALLERS,
} SubjectInstaller;

/* Operations that can be made to fail. */
typedef enum SubjectOperation {
    SUBJECT_READ_FILE,    /* a read of the snapshot */
    SUBJECT_COPY,         /* UFFDIO_COPY */
    SUBJECT_ZEROPAGE,     /* UFFDIO_ZEROPAGE */
    SUBJECT_POISON,       /* UFFDIO_POISON */
    SUBJECT_POLL,         /* the fault thread's poll() */
    SUBJECT_READ_MESSAGE, /* its read() of messages */
    SUBJECT_N_OPERATIONS,
} SubjectOperation;

/* How they fail. What means nothing for an operation makes it fail with @error. */
typedef enum SubjectFailure {
    SUBJECT_FAILS,         /* with @error; nothing was done */
    SUBJECT_PARTIAL,       /* COPY, ZEROPAGE: one page of several is placed, then EAGAIN;
                             READ_FILE: a short read */
    SUBJECT_IS_THERE,      /* COPY, ZEROPAGE: somebody else places the first page, and
                             wakes nobody: EEXIST */
    SUBJECT_END_OF_FILE,   /* READ_FILE: the file was cut off before that byte */
    SUBJECT_COMES_TWICE,   /* READ_MESSAGE: each message, as after a signal */
    SUBJECT_NOTHING_THERE, /* READ_MESSAGE: none, although poll() said so: EAGAIN */
    SUBJECT_N_FAILURES,
} SubjectFailure;

/*
 * One call fails: number @countdown from now on (1: the next one), 0: none any
 * more. The property sets it, the subject counts down: atomic.
 */
typedef struct SubjectFault {
    SubjectOperation operation;
    SubjectFailure failure;
    int error; /* positive errno */
    uint32_t countdown;
} SubjectFault;

#define SUBJECT_MAX_FAULTS 4

/*
 * @page: host page in the block. Called by the thread that the point is
 * about, for NAP and the discards the one that the property gave.
 */
typedef void (*SubjectHook)(void *opaque, SubjectPoint point, SubjectThread thread, int block,
                            uint64_t page);

/*
 * @length bytes of RAM at @host, whole host pages, were placed by one
 * successful operation: COPY, ZEROPAGE or POISON. By the thread that did it,
 * right after.
 */
typedef void (*SubjectPlaced)(void *opaque, SubjectOperation how, const uint8_t *host,
                              uint64_t length);

/* One lazy load. Filled by the property; must stay where it is until end(). */
typedef struct SubjectLazyLoad {
    SubjectLoad load;   /* stages: ignored; cost: of all reads, the file's pages included */
    void *session;      /* from session_new() */
    bool eager_thread;  /* else what nobody touches is loaded by end() */
    bool remove_events; /* heed discards by plain madvise() */
    /*
     * The snapshot as a real file, for mapping; borrowed; of all loads of a session the same
     * descriptor. -1: through load.file alone. Of pages alone: where the headers have to be
     * refused, it may be any file.
     */
    int map_fd;
    /* load.file ends here for whoever reads it: bytes; UINT64_MAX: where it ends. Atomic. */
    uint64_t cut_at;
    SubjectHook at_point; /* not NULL; all threads */
    SubjectPlaced placed; /* not NULL */
    void *opaque;         /* of both, borrowed */
    SubjectFault faults[SUBJECT_MAX_FAULTS];
    bool shared[GUEST_MAX_BLOCKS]; /* the block is a shared mapping of a file */

    void *running; /* the subject's own, between start() and free(); else NULL */
} SubjectLazyLoad;

struct SubjectLazy {
    uint64_t points;       /* of SubjectPoint: bit masks of what it tells */
    uint64_t operations;   /* of SubjectOperation: what can be made to fail, and is told of */
    bool remove_events;    /* it can heed discards by plain madvise() */
    bool drops_ram;        /* start() drops RAM: what the file has not reads as zero */
    unsigned more_buffers; /* of read_ahead bytes, beside one, that start() allocates */
    bool from_file;        /* its own threads read the pages, from the file */
    bool poisons;          /* after a failure no page of zeroes stands in for data */

    /*
     * What is kept from load to load, such as threads. NULL with @error: lazy
     * loads cannot be had here (no userfaultfd); the message says what helps.
     */
    void *(*session_new)(GError **error);
    void (*session_free)(void *session);

    /*
     * Header stage, registration, threads. Accepted: RAM may be touched, and
     * end() has to be called. Else: all is as before, but for RAM's content.
     */
    SubjectStatus (*start)(SubjectLazyLoad *load, GError **error);

    /* Drops host pages: they read as zero from now on. Any thread of the property. May be NULL. */
    SubjectStatus (*discard)(SubjectLazyLoad *load, unsigned block, uint64_t offset,
                             uint64_t length, GError **error);

    /* What is not loaded is given up. Any thread of the property. May be NULL. */
    void (*cancel)(SubjectLazyLoad *load);

    /*
     * Loads the rest, ends threads, unregisters. Returns SUBJECT_REFUSED with
     * the first error if anything was not loaded. What is asked below is
     * answered until free().
     */
    SubjectStatus (*end)(SubjectLazyLoad *load, GError **error);

    /* Faults served so far; who settled a host page. Between start() and free(). */
    uint64_t (*faults)(const SubjectLazyLoad *load);
    SubjectInstaller (*installer)(const SubjectLazyLoad *load, unsigned block, uint64_t page);

    /* Frees what an accepted load left for faults() and installer(). */
    void (*free)(SubjectLazyLoad *load);
};

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One load over a network, driven by its schedule: the source's messages, the
 * guest's touches, channels that break; and what the specification says of it
 * all (model/postcopy-wire.h). After each step everybody is waited for, so
 * that the same input gives the same result in any process. What is left to
 * be judged at the end is for postcopy.c; nobody else includes this, but the
 * run's own files (postcopy-parts.h).
 */
#ifndef PAGEWISE_PROPERTY_POSTCOPY_RUN_H
#define PAGEWISE_PROPERTY_POSTCOPY_RUN_H

#include "model/postcopy-wire.h"
#include "property/context.h"
#include "property/postcopy-script.h"
#include "property/watchdog.h"
#include "subject/kept-thread.h"

#define POSTCOPY_PATIENCE_S 10    /* for what has to happen */
#define POSTCOPY_TIME_LIMIT_S 120 /* for an execution */

typedef enum NetPageState {
    NET_PAGE_MISSING,
    NET_PAGE_THERE,   /* received */
    NET_PAGE_DROPPED, /* discarded: zeroes */
} NetPageState;

typedef struct NetPage {
    NetPageState state;
    bool wanted;      /* touched, and missing */
    bool due;         /* a request for it has to come */
    bool asked;       /* it came, on this pair of channels */
    unsigned touches; /* while it was missing */
    unsigned told;    /* of these, faults that the fault thread has looked at; under lock */
    uint8_t content[POSTCOPY_PAGE];
} NetPage;

typedef struct NetThread {
    struct PostcopyRun *run;
    KeptThread *thread;
    bool busy;
    bool slept; /* it was busy at the end of an earlier step */
    NetPage *page;
    uint8_t *byte;
    bool write;
    uint8_t value; /* to be written, or that was read */
    int signal;
    bool done; /* under lock */
} NetThread;

/* The source's side of one connection. */
typedef struct NetPair {
    bool open;          /* by the model: not broken */
    bool recovering;    /* POSTCOPY_RESUME did not come yet */
    bool takes_nothing; /* the source reads no return path */
    int fds[SUBJECT_CHANNELS];
    uint64_t sent[SUBJECT_CHANNELS];
    bool ended[SUBJECT_CHANNELS];
    WireReader *readers[SUBJECT_CHANNELS];
    WireReader *return_path;
    PostcopyComposer composers[SUBJECT_CHANNELS];
    GByteArray *bytes[SUBJECT_CHANNELS]; /* all that was given */
    GArray *answers;                     /* that are due, of NetAnswer */
    bool shut;                           /* SHUT came */
    uint32_t shut_value;
} NetPair;

typedef enum NetEnd {
    NET_RUNS,
    NET_LOADED, /* all channels have ended, and all pages are there */
    NET_FAILED, /* nobody is left to ask, or it was cancelled */
} NetEnd;

typedef struct PostcopyRun {
    PropertyContext *context;
    const SubjectPostcopy *postcopy;
    Watchdog *watchdog;
    NetThread threads[POSTCOPY_MAX_THREADS];

    /* Of one load. */
    const PostcopyScript *script;
    bool live; /* there is a load; else the model alone is driven */
    SubjectPostcopyLoad load;
    unsigned n_channels;
    NetPage pages[POSTCOPY_MAX_BLOCKS][POSTCOPY_MAX_PAGES];
    NetPair pair;
    NetEnd end;
    const char *end_reason; /* NET_FAILED: part of the error */
    unsigned breaks;        /* that the model has seen */
    char *break_rule;       /* of the last one; NULL: any reason is right */
    uint64_t break_offset;  /* with a rule */
    unsigned piece;         /* bytes; 0: whole messages */
    bool damage;
    uint8_t damage_at;
    uint8_t damage_value;
    GError *broken; /* the first thing that was found, or NULL */
    GString *log;   /* NULL: nobody wants to read it */

    /* What the subject's threads say. */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    uint64_t reads[SUBJECT_CHANNELS]; /* UINT64_MAX: nothing yet, on this pair */
    uint64_t stream_ended[SUBJECT_CHANNELS];
    unsigned told_breaks;
    char *told_reason;
    bool fault_thread_waits;
    const char *waiting_for; /* for the watchdog */
} PostcopyRun;

/* NULL: see @error; the subject has to take pages from a source. */
PostcopyRun *postcopy_run_new(PropertyContext *context, GError **error);
void postcopy_run_free(void *run); /* of type PostcopyRun: a GDestroyNotify */

/*
 * Starts the load; *missing: there is no userfaultfd (@error says what helps),
 * and the model alone will be driven. False: nothing runs, @error is set.
 */
bool postcopy_run_start(PostcopyRun *run, const PostcopyScript *script, bool *missing,
                        GError **error);

/* All steps, and then the end that the input wants. False: run->broken. */
bool postcopy_run_steps(PostcopyRun *run);

/* Ends the load, whatever its state. *refusal: the subject's error, or NULL. */
SubjectStatus postcopy_run_end(PostcopyRun *run, GError **refusal);

/* Frees what belongs to the load. */
void postcopy_run_clear(PostcopyRun *run);

/* The channel's parser alone on all that the pair was given; see postcopy.c. */
bool postcopy_check_parser(PostcopyRun *run, unsigned channel, const GByteArray *bytes);

/* Notes that @id is broken, unless something was noted before. False. */
bool postcopy_run_broken(PostcopyRun *run, PropertyId id, const char *format, ...)
    G_GNUC_PRINTF(3, 4);

#endif

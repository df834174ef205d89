/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The interface by which a loader is put under test.
 *
 * A subject gets guest RAM that the property prepared, a file, and says
 * whether it accepted; the property does all judging. What a subject cannot do
 * it leaves NULL or answers with SUBJECT_UNSUPPORTED, and the property says so
 * loudly. An adapter may include one loader's headers, and the model's types.
 */
#ifndef PAGEWISE_SUBJECT_SUBJECT_H
#define PAGEWISE_SUBJECT_SUBJECT_H

#include "model/fault.h"
#include "model/guest.h"
#include "model/sparse-file.h"

#include <glib.h>

typedef enum SubjectStatus {
    SUBJECT_ACCEPTED,
    SUBJECT_REFUSED,     /* error is set */
    SUBJECT_UNSUPPORTED, /* this subject cannot do that; nothing was touched */
    SUBJECT_FAILED,      /* it neither accepted nor refused: error is a SUBJECT_ERROR */
} SubjectStatus;

/* How a subject in a process of its own can fail. */
typedef enum SubjectErrorCode {
    SUBJECT_ERROR_CRASH,   /* it ended by a signal, or with a wrong status */
    SUBJECT_ERROR_HANG,    /* no end within the limits of time */
    SUBJECT_ERROR_BLOW_UP, /* over the limit of memory */
    SUBJECT_ERROR_WEDGED,  /* it waits for ever, and answers no more */
    SUBJECT_ERROR_BROKEN,  /* it could not be run: nothing is said of the file */
} SubjectErrorCode;

#define SUBJECT_ERROR subject_error_quark()
GQuark subject_error_quark(void);

typedef enum SubjectStages {
    SUBJECT_WHOLE,   /* as the loader does it by itself */
    SUBJECT_SPLIT,   /* all headers and bitmaps first, then all pages */
    SUBJECT_HEADERS, /* headers and bitmaps alone; guest RAM must not be touched */
} SubjectStages;

/* One block of guest RAM as the subject sees it, parallel to Guest.blocks. */
typedef struct SubjectBlock {
    uint8_t *host; /* max_length bytes, prepared by the property */
    /* Filled by the subject on acceptance. */
    uint64_t used_length;  /* after a resize, rule R6a; bytes */
    bool in_file;          /* the block had a record, and was not ignored */
    uint64_t pages_offset; /* SUBJECT_HEADERS: as parsed */
    /*
     * SUBJECT_HEADERS: words of 64 pages, page 0 in bit 0; bits beyond the last
     * page are clear (rule B5). g_free()d by the property. Else NULL.
     */
    uint64_t *file_bmap;
} SubjectBlock;

/* One call of the reader. */
typedef struct SubjectRead {
    uint64_t offset; /* bytes */
    uint64_t length; /* asked for, bytes */
} SubjectRead;

/*
 * What a file may cost. The counters are filled by the subject's reader; when
 * a limit is passed the reader fails every further read with EIO, so that an
 * endless loop shows as a passed limit rather than as a hang.
 */
typedef struct SubjectCost {
    uint64_t max_reads;
    uint64_t max_bytes;
    uint64_t reads;      /* calls of the reader */
    uint64_t bytes_read; /* sum of their results */
    /* Injected fault: read number fail_read (1 = first) fails with EIO. 0: none. */
    uint64_t fail_read;
    bool fail_for_ever; /* and so do all behind it */
    /* From read number cut_read on the file has no more than cut_size bytes. 0: it stays. */
    uint64_t cut_read;
    uint64_t cut_size;
    bool ended; /* set by the subject: the file is as if it ended here; reads are not counted */
    /* Reads return at most this many bytes (short reads). 0: no limit. */
    uint64_t max_read_length;
    /* Of SubjectRead: the reader appends each call in its order. NULL: it does not. */
    GArray *log;
} SubjectCost;

/*
 * Has the read of this number (1 = first) to fail with EIO, as a limit is
 * passed or as it was asked for? Several threads may read at once.
 */
static inline bool subject_read_fails(const SubjectCost *cost, uint64_t number)
{
    return number > cost->max_reads ||
           __atomic_load_n(&cost->bytes_read, __ATOMIC_RELAXED) > cost->max_bytes ||
           number == cost->fail_read ||
           (cost->fail_for_ever && cost->fail_read && number > cost->fail_read);
}

/* Ways of a load that change nothing of its result; a subject may not have them. */
typedef struct SubjectAxes {
    bool real_file;            /* the kernel reads a real file, rather than bytes in memory */
    unsigned multifd_channels; /* pages are read by so many threads; 0: by the caller */
} SubjectAxes;

typedef struct Subject Subject;

typedef struct SubjectLoad {
    const Subject *subject; /* whose load it is; may be the head of a greater struct */
    const SparseFile *file;
    const Guest *guest;
    SubjectStages stages;
    SubjectBlock blocks[GUEST_MAX_BLOCKS];
    SubjectCost cost;
    /* load_header, load_block: where MappedRamHeader is, and the record's used_length. */
    uint64_t header_offset;
    uint64_t used_length;
    SubjectAxes axes;
    /* Set by a subject that can tell: where the stream stood at the end. 0: it cannot. */
    uint64_t end_position;
} SubjectLoad;

/* Where would a fault at an address be served from? (The property "maps".) */
typedef struct SubjectMapping {
    uint64_t address; /* host address */
    bool explain;     /* where it is refused, words are wanted: they take longer than all else */
    /* Filled by the subject. */
    SubjectStatus status; /* SUBJECT_REFUSED: no page of guest RAM that is loaded lazily */
    FaultAnswer answer;   /* if accepted; with FAULT_ZERO the file offset does not matter */
    GError *error;        /* if refused and to be explained; freed by the property */
} SubjectMapping;

/* A set-up for lazy loading and its end, subject/setup.h. */
typedef struct SubjectSetup SubjectSetup;

/* Lazy loading, subject/lazy.h. */
typedef struct SubjectLazy SubjectLazy;

/* Network postcopy, subject/postcopy.h. */
typedef struct SubjectPostcopy SubjectPostcopy;

struct Subject {
    const char *name; /* "reference", "qemu-tree", ... */
    /* Of what is under test, "10.0.13"; NULL: this project's own. */
    const char *version;

    /*
     * The one guest that it has, whose RAM is zero before each load; NULL: any
     * guest. Inputs that choose one are made to fit.
     */
    const Guest *guest;

    /* Loads a whole file. */
    SubjectStatus (*load_file)(SubjectLoad *load, GError **error);

    /* Loads header and bitmap of guest->blocks[0] alone (stages: SUBJECT_HEADERS). */
    SubjectStatus (*load_header)(SubjectLoad *load, GError **error);

    /* The same with its pages (stages: SUBJECT_WHOLE). */
    SubjectStatus (*load_block)(SubjectLoad *load, GError **error);

    /*
     * Saves guest RAM: used_length of each SubjectBlock's bytes, to @out.
     * @machine and @tail as in section 11 of the format's document.
     */
    SubjectStatus (*save)(const Guest *guest, const SubjectBlock *blocks, const char *machine,
                          SparseFile *out, GError **error);

    /*
     * Maps @n addresses, by blocks as the header stage leaves them: host,
     * used_length, in_file, pages_offset and file_bmap. Pure: nothing is read,
     * and guest RAM is not there. Returns SUBJECT_UNSUPPORTED or ACCEPTED.
     */
    SubjectStatus (*map_faults)(const Guest *guest, const SubjectBlock *blocks,
                                SubjectMapping *faults, unsigned n);

    /*
     * Sets up a lazy load, calls setup->running(), and tears it down. REFUSED
     * with @error: one of the two failed.
     */
    SubjectStatus (*set_up)(SubjectSetup *setup, GError **error);

    /*
     * Do its messages name block, field, offset and rule? (The property
     * clean-reject asks for that only where this is true.)
     */
    bool errors_name_rules;

    /* Does it go on to device state (rule T4), and may refuse a file for that? */
    bool reads_devices;

    /* Bytes that may be read in vain whenever the stream jumps; its buffer's size. */
    uint64_t read_ahead;

    /* Does it take a short read as an end of file (and refuse)? */
    bool refuses_short_reads;

    /* Does it load in a process of its own? Then what we allocate is none of its cost. */
    bool is_process;

    const SubjectLazy *lazy; /* NULL: it loads eagerly alone */

    const SubjectPostcopy *postcopy; /* NULL: it takes no pages from a source */
};

/* This project's own loader, loader/. */
const Subject *subject_reference(void);

/* The loader of the tree that QEMU_SRC names; linked where it does. */
const Subject *subject_qemu_tree(void);

/* The same of QEMU_BASE: what that tree was before a series of patches. */
const Subject *subject_qemu_base(void);

#endif

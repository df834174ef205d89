/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The layout of a fuzz input: a versioned struct with reserved bytes, so that
 * a later field does not spoil the corpora. All numbers are little-endian.
 *
 *   header   InputHeader, InputBlock, InputRecord, sparse file
 *   stream   InputHeader, n_blocks x InputBlock, sparse file
 *   layout,
 *   round-trip   InputHeader, choices of the generator, choices of the mutator
 *   lazy     InputHeader, InputLazy, n_steps x InputStep, then as layout; with
 *            INPUT_LAZY_STREAM as stream
 *   fault-map    property/fault-map.h
 *   setup        property/setup.h
 *   postcopy     property/postcopy-script.h
 *
 * "sparse file" is the serial form of model/sparse-file.h. What is cut off
 * reads as zeroes; a header of another version or kind is no input at all.
 */
#ifndef PAGEWISE_PROPERTY_INPUT_H
#define PAGEWISE_PROPERTY_INPUT_H

#include "model/choices.h"
#include "model/guest.h"
#include "model/snapshot.h"
#include "model/sparse-file.h"

#include <glib.h>

#define INPUT_VERSION 1

typedef enum InputKind {
    INPUT_HEADER = 1,
    INPUT_STREAM = 2,
    INPUT_LAYOUT = 3,
    INPUT_ROUND_TRIP = 4,
    INPUT_FAULT_MAP = 5,
    INPUT_LAZY = 6,
    INPUT_SETUP = 7,
    INPUT_POSTCOPY = 8,
} InputKind;

enum {
    INPUT_X_IGNORE_SHARED = 1 << 0, /* header, stream: the reader has it on */
    INPUT_CLEAR_PAGES = 1 << 1,     /* header, stream: rule G2, as loadvm */
    INPUT_DIRTY_RAM = 1 << 2,       /* guest RAM is not zero before the load */
    INPUT_RELOAD = 1 << 3,          /* then load a right file in the same process */
    INPUT_SPLIT = 1 << 4,           /* stream, layout: also load in two stages, and compare */
};

/* How a file is read, not what is in it: a subject may not have all of them. */
enum {
    INPUT_AXIS_REAL_FILE = 1 << 0,     /* by the kernel, from a real file */
    INPUT_AXIS_MULTIFD = 1 << 1,       /* pages by threads */
    INPUT_AXIS_FAIL_FOR_EVER = 1 << 2, /* fail_read, and every read behind it */
};

typedef struct InputHeader {
    uint8_t version;           /* INPUT_VERSION */
    uint8_t kind;              /* InputKind */
    uint8_t flags;             /* INPUT_* */
    uint8_t page_bits;         /* header, stream: log2 of the target page size; 0: 12 */
    uint8_t n_blocks;          /* stream: guest blocks, 1 to INPUT_MAX_BLOCKS */
    uint8_t machine;           /* stream: index of the reader's machine name; 0: any */
    uint8_t fail_read[2];      /* this read fails with EIO; 0: none */
    uint8_t max_read_bits;     /* reads give at most 2^n bytes; 0: no limit */
    uint8_t generator_size[2]; /* layout: bytes of choices for the generator */
    uint8_t axes;              /* INPUT_AXIS_* */
    uint8_t cut;         /* at read fail_read the file is cut to cut/256 of its size; 0: not */
    uint8_t before;      /* what guest RAM holds before the load; 0: as the flags say */
    uint8_t mutations;   /* layout, lazy: the version of snapshot_mutate() that is meant */
    uint8_t reserved[1]; /* written as zero, ignored */
} InputHeader;

/*
 * A number of pages in two bytes: @pages, or @pages << (@shift - 0xf0 + 5) for
 * the sixteen highest values of @shift: most guests are small, however the
 * bytes come about, and 4 GiB can be said.
 */
typedef struct InputPages {
    uint8_t pages;
    uint8_t shift;
} InputPages;

typedef struct InputBlock {
    uint8_t idstr_length; /* 1 to 24 */
    uint8_t reserved[3];  /* written as zero, ignored */
    InputPages used;      /* used_length, target pages, at least 1 */
    InputPages extra;     /* max_length - used_length, target pages; max_length if shifted */
    char idstr[24];
} InputBlock;

typedef struct InputRecord {
    uint8_t header_offset[8]; /* bytes */
    uint8_t used_length[8];   /* as the block record says, bytes */
} InputRecord;

enum {
    INPUT_LAZY_EAGER_THREAD = 1 << 0,  /* the rest is loaded by a thread, in steps */
    INPUT_LAZY_REMOVE_EVENTS = 1 << 1, /* plain madvise() is heeded */
    INPUT_LAZY_MAPPED = 1 << 2,        /* the file is a real one that can be mapped */
    INPUT_LAZY_SAVE = 1 << 3,          /* round-trip: save what was loaded, load that */
    INPUT_LAZY_STREAM = 1 << 4,        /* the file is given byte by byte */
};

typedef struct InputLazy {
    uint8_t flags;       /* INPUT_LAZY_* */
    uint8_t n_steps;     /* up to INPUT_MAX_STEPS */
    uint8_t reserved[6]; /* written as zero, ignored */
} InputLazy;

/* A step of the schedule; see schedule.h. */
typedef struct InputStep {
    uint8_t action;      /* StepAction */
    uint8_t thread;      /* of the guest; WHEN: of the loader */
    uint8_t block;       /* of those with lazy pages */
    uint8_t page;        /* host page in the block */
    uint8_t value;       /* written; WHEN: point; FAIL: failure; CUT: where in the page */
    uint8_t detail;      /* DISCARD, MADVISE: pages; WHEN: steps; FAIL: calls before it */
    uint8_t reserved[2]; /* written as zero, ignored */
} InputStep;

G_STATIC_ASSERT(sizeof(InputHeader) == 16);
G_STATIC_ASSERT(sizeof(InputLazy) == 8);
G_STATIC_ASSERT(sizeof(InputStep) == 8);
G_STATIC_ASSERT(sizeof(InputBlock) == 32);
G_STATIC_ASSERT(sizeof(InputRecord) == 16);

/* Bounds of what an input can ask for, so that every execution is short. */
#define INPUT_MAX_BLOCKS 8
/* A block that would pass either of these is cut to them, or to INPUT_CUT_PAGES. */
#define INPUT_MAX_BLOCK_BYTES (UINT64_C(1) << 32)
#define INPUT_MAX_BLOCK_PAGES (UINT64_C(1) << 20)
/*
 * Of a block that is cut, if that is less. So much can be said, but is not what
 * most bytes mean: to read and to search a bitmap of 128 KiB takes longer than all
 * else. This block's has 34 KiB, more than a reader with a buffer of 32 KiB can hold.
 */
#define INPUT_CUT_PAGES (UINT64_C(34) * 1024 * 8)
/* Round-trip: the writer has to look at every byte of guest RAM. */
#define INPUT_MAX_SAVED_BLOCK_BYTES (UINT64_C(256) << 10)
/* A file with more bytes that are no hole is not judged: it would take too long. */
#define INPUT_MAX_DATA_BYTES (UINT64_C(2) << 20)
/* Lazy: anonymous memory up to GUEST_RAM_SMALL, a memory file above. */
#define INPUT_MAX_LAZY_BLOCK_BYTES (UINT64_C(320) << 10)
#define INPUT_MAX_STEPS 48
/* More mutations than these hide each other. */
#define INPUT_MAX_MUTATIONS 8

/* A decoded input. The pointers borrow from the input's bytes. */
typedef struct Input {
    InputKind kind;
    unsigned flags;
    unsigned axes;
    uint8_t cut;
    uint8_t before;
    uint64_t fail_read;
    uint64_t max_read_length; /* bytes, 0: no limit */
    Guest guest;              /* header, stream */
    uint64_t header_offset;   /* header */
    uint64_t used_length;     /* header */
    const uint8_t *payload;   /* header, stream: serial form of the file;
                                 of kinds without a file: what follows InputHeader */
    size_t payload_size;
    Choices generator; /* layout, round-trip, lazy */
    Choices mutator;
    unsigned mutations_version;
    unsigned lazy_flags;
    const InputStep *steps; /* lazy */
    unsigned n_steps;
} Input;

/* False if @data is no input of this version; @kind is not looked at. */
bool input_decode(const uint8_t *data, size_t size, Input *input);

/*
 * Makes the file that the input is about, and who reads it. Kinds layout and
 * round-trip: the file is generated, @snapshot describes it, and its mutations
 * are appended to @log, a line each, unless that is NULL. Kinds header and
 * stream: @snapshot is left alone, @file borrows from the input's bytes.
 * Returns the number of mutations.
 */
unsigned input_make_file(const Input *input, Snapshot *snapshot, SparseFile *file, Guest *guest,
                         GString *log);

/*
 * The same for a reader that has one guest and no other, @only (NULL: any):
 * *guest is that one, and a generated file is made for it. A given file is as
 * it is given.
 */
unsigned input_make_file_for(const Input *input, const Guest *only, Snapshot *snapshot,
                             SparseFile *file, Guest *guest, GString *log);

/*
 * Encodes an input of kind stream: @guest and @file. Appends to @out. More than
 * INPUT_MAX_BLOCKS blocks, idstrs longer than 24 bytes, machine names that
 * input_machine_name() does not know, and lengths that InputPages has not,
 * cannot be expressed: false, and @out is as before.
 */
bool input_encode_stream(const Guest *guest, const SparseFile *file, unsigned flags,
                         GByteArray *out);

/* Is there a file in inputs of the kind? (If not, input_make_file() is not for them.) */
bool input_kind_has_file(unsigned kind);

/* Where the payload of @data begins; @size if it has none. */
size_t input_payload_offset(const uint8_t *data, size_t size);

/* Is the file of such an input made by choices? Else its bytes are there. */
bool input_has_choices(const Input *input);

/* Machine names that an input can name by index; NULL for an index beyond. */
const char *input_machine_name(unsigned index);

/*
 * Copies what there is of a struct of @length bytes from @data and advances;
 * the rest reads as zero.
 */
void input_take(const uint8_t **data, size_t *size, void *out, size_t length);

uint64_t input_load_le(const uint8_t *bytes, unsigned n);

/* A number of pages as InputPages has it. */
uint64_t input_decode_pages(InputPages in);

/* "header", "stream", ...; NULL for an unknown kind. */
const char *input_kind_name(unsigned kind);

#endif

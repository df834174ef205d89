/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Inputs of the kind setup and the case that they make: a guest, a right file
 * for it, options of the set-up, and calls that fail. All numbers are
 * little-endian; what is cut off reads as zeroes.
 *
 *     InputHeader        page_bits, n_blocks, fail_read, INPUT_DIRTY_RAM, INPUT_SETUP_*
 *     InputSetup
 *     n_blocks x InputSetupBlock
 *     n_failures x InputFailure
 */
#ifndef PAGEWISE_PROPERTY_SETUP_H
#define PAGEWISE_PROPERTY_SETUP_H

#include "property/input.h"
#include "property/resource-meter.h"

/* InputHeader.flags */
enum {
    INPUT_SETUP_EAGER_THREAD = 1 << 5,
    INPUT_SETUP_MAPPED = 1 << 6, /* pages are copied from a mapping of the file */
    INPUT_SETUP_REMOVE_EVENTS = 1 << 7,
};

typedef struct InputSetup {
    uint8_t channels;    /* modulo INPUT_MAX_CHANNELS + 1; 0: a whole lazy load */
    uint8_t n_failures;  /* at most METER_MAX_FAILURES */
    uint8_t fail_try;    /* this allocation that may fail does; 0: none */
    uint8_t reserved[5]; /* written as zero, ignored */
} InputSetup;

typedef enum InputMemory {
    INPUT_MEMORY_ANONYMOUS,
    INPUT_MEMORY_MEMFD,   /* shared */
    INPUT_MEMORY_HUGETLB, /* the first block, where there are huge pages; else anonymous */
    INPUT_N_MEMORIES,
} InputMemory;

typedef struct InputSetupBlock {
    uint8_t memory; /* InputMemory, modulo INPUT_N_MEMORIES */
    uint8_t pages;  /* target pages, modulo INPUT_MAX_SETUP_PAGES; one more */
    uint8_t bits;   /* which of them are in the file: bit i for pages i, i + 8, ... */
    uint8_t reserved;
} InputSetupBlock;

typedef struct InputFailure {
    uint8_t call;  /* MeteredCall, modulo METERED_N_CALLS */
    uint8_t first; /* the first such call that fails, 1 on; 0: none */
    uint8_t times; /* calls that fail, modulo INPUT_MAX_TIMES; one more */
    uint8_t error; /* errno, modulo INPUT_MAX_ERRNO; one more */
} InputFailure;

G_STATIC_ASSERT(sizeof(InputSetup) == 8);
G_STATIC_ASSERT(sizeof(InputSetupBlock) == 4);
G_STATIC_ASSERT(sizeof(InputFailure) == 4);

#define INPUT_MAX_CHANNELS 4
#define INPUT_MAX_SETUP_PAGES 20
#define INPUT_MAX_TIMES 4 /* all ways to open a userfaultfd, and one more */
#define INPUT_MAX_ERRNO 133

/* The whole process is looked at in one execution of so many: its first. */
#define SETUP_COUNT_EACH 256

typedef struct SetupCase {
    unsigned flags;
    unsigned channels;
    uint64_t fail_read;
    uint64_t fail_try;
    InputMemory memories[INPUT_MAX_BLOCKS];
    uint8_t bits[INPUT_MAX_BLOCKS];
    MeteredFailure failures[METER_MAX_FAILURES];
} SetupCase;

/* Makes the case that @data, an input of the kind, is about; @guest is filled in. */
void setup_case_decode(SetupCase *c, const uint8_t *data, size_t size, Guest *guest);

/* Appends the input as text. */
void setup_describe(const uint8_t *data, size_t size, GString *out);

#endif

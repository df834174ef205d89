/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Inputs of the kind fault-map and the case that they make: guest blocks at
 * host addresses that nobody ever touches, their bitmaps, and addresses to ask
 * about. All numbers are little-endian; what is cut off reads as zeroes.
 *
 *     InputHeader        page_bits, n_blocks, INPUT_SWEEP
 *     InputFaultMap
 *     n_blocks x InputFaultBlock
 *     n_probes x InputProbe
 *     each block's bitmap bytes
 */
#ifndef PAGEWISE_PROPERTY_FAULT_MAP_H
#define PAGEWISE_PROPERTY_FAULT_MAP_H

#include "model/fault.h"
#include "property/input.h"
#include "subject/subject.h"

enum {
    /* InputHeader.flags: ask about every host page of every block. */
    INPUT_SWEEP = 1 << 5,
    /* InputFaultBlock.flags */
    INPUT_BLOCK_LEFT_OUT = 1 << 0, /* no record of it is in the file */
    INPUT_BLOCK_IGNORED = 1 << 1,  /* rule X2 */
    INPUT_BLOCK_FULL = 1 << 2,     /* bits beyond the given bytes are set, else clear */
};

typedef struct InputFaultMap {
    uint8_t n_probes;    /* 1 to INPUT_MAX_PROBES */
    uint8_t reserved[2]; /* written as zero, ignored */
    uint8_t base[5];     /* where the first block may begin: in units of 2 MiB */
} InputFaultMap;

typedef struct InputFaultBlock {
    uint8_t host_page_bits; /* log2 of the host page size, 12 to 21; 0: 12 */
    uint8_t flags;          /* INPUT_BLOCK_* */
    InputPages used;        /* used_length, target pages, at least 1 */
    uint8_t bitmap_bytes;   /* that follow the probes */
    uint8_t memory_gap[3];  /* to the block before, in host pages of this one */
    uint8_t file_gap[6];    /* to the pages of the block before, in target pages */
    uint8_t reserved[2];    /* written as zero, ignored */
} InputFaultBlock;

typedef enum InputAnchor {
    INPUT_ANCHOR_START,    /* of the block */
    INPUT_ANCHOR_COVERED,  /* end of its whole host pages */
    INPUT_ANCHOR_END,      /* of its used_length */
    INPUT_ANCHOR_ABSOLUTE, /* address 0 */
    INPUT_N_ANCHORS,
} InputAnchor;

typedef struct InputProbe {
    uint8_t block;    /* modulo n_blocks */
    uint8_t anchor;   /* InputAnchor, modulo INPUT_N_ANCHORS */
    uint8_t delta[6]; /* bytes from there, signed */
} InputProbe;

G_STATIC_ASSERT(sizeof(InputFaultMap) == 8);
G_STATIC_ASSERT(sizeof(InputFaultBlock) == 16);
G_STATIC_ASSERT(sizeof(InputProbe) == 8);

#define INPUT_MAX_PROBES 2
/* Of all blocks together; a block that would pass it is cut. 4 GiB of 64 KiB. */
#define INPUT_MAX_MAP_PAGES (UINT64_C(1) << 16)
/* A sweep asks about no more host pages than these. */
#define INPUT_MAX_SWEEP 16

typedef struct FaultMapCase {
    SubjectBlock blocks[INPUT_MAX_BLOCKS]; /* as the header stage leaves them */
    uint64_t hosts[INPUT_MAX_BLOCKS];      /* the same hosts, as numbers */
    bool sweep;
    unsigned n_probes;
    uint64_t probes[INPUT_MAX_PROBES]; /* host addresses */
    uint64_t *words;                   /* all bitmaps; owned */
} FaultMapCase;

void fault_map_case_init(FaultMapCase *c);
void fault_map_case_clear(FaultMapCase *c);

/*
 * Makes the case that @data, an input of the kind, is about. @judgement is
 * filled in as after an accepted file with such blocks (guest, blocks, file),
 * @file gets their bitmaps, and nothing else.
 */
void fault_map_case_decode(FaultMapCase *c, const uint8_t *data, size_t size, SparseFile *file,
                           Judgement *judgement);

/* Appends the input as text: blocks, addresses, the model's answers. */
void fault_map_describe(const uint8_t *data, size_t size, GString *out);

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where a lazy load has to take a page from when an address of guest RAM is
 * touched: the file's side of it is the judge's (judge.h), the memory's side is
 * blocks at host addresses, in host pages. Answers to sections 9 and 12 of
 * docs/mapped-ram-format.md. It shares no code with any loader, and touches no
 * memory: addresses are numbers.
 */
#ifndef PAGEWISE_MODEL_FAULT_H
#define PAGEWISE_MODEL_FAULT_H

#include "model/judge.h"

typedef enum FaultSource {
    FAULT_ZERO,  /* no page in it is in the file: zeroes, G2 */
    FAULT_FILE,  /* all of it is: length bytes from file_offset on, G1 */
    FAULT_MIXED, /* some of its pages are, each page_size bytes at its place */
} FaultSource;

/* What a fault is answered with: one host page. */
typedef struct FaultAnswer {
    unsigned block;       /* index into Guest.blocks */
    uint64_t offset;      /* of the host page in the block, bytes */
    uint64_t length;      /* of the host page, bytes */
    uint64_t first_page;  /* target page, and bit, in which it begins */
    uint64_t n_pages;     /* target pages that it has a part in */
    uint64_t file_offset; /* of its first byte, if that is in the file or not */
    FaultSource source;
} FaultAnswer;

/*
 * The answer to a touch of host address @address, where block i of the guest
 * begins at @hosts[i], a multiple of its host page size. False: the address is
 * in no whole host page below used_length of a block that is in the file, and
 * no fault there can be answered. @judgement: of an accepted file, or the
 * blocks that a caller filled in himself.
 */
bool judgement_fault(const Judgement *judgement, const uint64_t hosts[], uint64_t address,
                     FaultAnswer *answer);

const char *fault_source_name(FaultSource source); /* "zero", "file", "mixed" */

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What follows the RAM section's START in a snapshot, as far as the judge
 * walked: for showing it. Sections 4 and 10 of docs/mapped-ram-format.md.
 */
#ifndef PAGEWISE_TOOLS_TAIL_H
#define PAGEWISE_TOOLS_TAIL_H

#include "model/judge.h"

typedef struct TailItem {
    uint64_t offset;  /* of the type byte */
    const char *type; /* "PART", "END", "COMMAND", "FULL", "START", "EOF" */
    uint32_t id;      /* section id, or the command; 0 for EOF */
    char name[256];   /* of FULL and START; else "" */
} TailItem;

/*
 * Returns a new array of TailItem, empty where the judge did not get that far
 * or could not say where the blocks end. Free with g_array_unref().
 */
GArray *tail_list(const Judgement *judgement);

#endif

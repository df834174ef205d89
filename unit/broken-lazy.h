/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Lazy loaders that are wrong on purpose: the reference one with one fault
 * each, in what it does to RAM or in an operation of its table. As
 * broken-subject.h.
 */
#ifndef PAGEWISE_UNIT_BROKEN_LAZY_H
#define PAGEWISE_UNIT_BROKEN_LAZY_H

#include "property/property.h"
#include "subject/lazy.h"

typedef struct BrokenLazy {
    const char *name;                                              /* what is wrong with it */
    SubjectStatus (*start)(SubjectLazyLoad *load, GError **error); /* NULL: as it should */
    SubjectStatus (*discard)(SubjectLazyLoad *load, unsigned block, uint64_t offset,
                             uint64_t length, GError **error);
    SubjectStatus (*end)(SubjectLazyLoad *load, GError **error);
    void *(*session_new)(GError **error);
    const InputStep *steps; /* that bring it out; up to the first with all bytes 0xff */
    unsigned lazy_flags;
    PropertyId property; /* the one that must notice */
    const char *message; /* a part of the paragraph that must be there */
} BrokenLazy;

/* The table; *n entries. */
const BrokenLazy *broken_lazies(unsigned *n);

#endif

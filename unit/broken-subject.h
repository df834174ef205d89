/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Loaders that are wrong on purpose: the reference subject with one fault
 * each. A property that does not notice its fault is no check.
 */
#ifndef PAGEWISE_UNIT_BROKEN_SUBJECT_H
#define PAGEWISE_UNIT_BROKEN_SUBJECT_H

#include "property/property.h"

typedef struct BrokenSubject {
    Subject subject;     /* name: what is wrong with it */
    InputKind kind;      /* inputs that bring it out */
    PropertyId property; /* the one that must notice */
    const char *message; /* a part of the paragraph that must be there */
} BrokenSubject;

/* Each a table of *n entries. */
const BrokenSubject *broken_subjects(unsigned *n);
const BrokenSubject *broken_maps(unsigned *n); /* map_faults alone */

#endif

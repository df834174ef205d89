/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The parts of the subject "reference" (subject.h), each in a file of its own,
 * for its table in reference.c alone.
 */
#ifndef PAGEWISE_SUBJECT_REFERENCE_H
#define PAGEWISE_SUBJECT_REFERENCE_H

#include "subject/subject.h"

/* reference-fault.c */
SubjectStatus reference_map_faults(const Guest *guest, const SubjectBlock *blocks,
                                   SubjectFault *faults, unsigned n);

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A loader's FileReader over the model's sparse file, which counts, limits and
 * injects faults as a SubjectCost says. Used by adapters of subjects that are
 * built on loader/.
 */
#ifndef PAGEWISE_SUBJECT_SPARSE_READER_H
#define PAGEWISE_SUBJECT_SPARSE_READER_H

#include "loader/reader.h"
#include "subject/subject.h"

typedef struct SparseReader {
    FileReader reader;
    const SparseFile *file; /* borrowed */
    SubjectCost *cost;      /* borrowed; counters are updated */
} SparseReader;

void sparse_reader_init(SparseReader *self, const SparseFile *file, SubjectCost *cost);

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the parts of the subject "reference" share: reference.c loads eagerly
 * and saves, reference-lazy.c loads lazily, reference-fault.c maps faults,
 * reference-postcopy.c loads over a network, reference-setup.c sets up and tears
 * down; and how loaders that are wrong on purpose are made of it
 * (unit/broken-lazy.c). Nobody else includes it.
 */
#ifndef PAGEWISE_SUBJECT_REFERENCE_H
#define PAGEWISE_SUBJECT_REFERENCE_H

#include "loader/mapped-ram.h"
#include "subject/lazy.h"
#include "subject/postcopy.h"
#include "subject/setup.h"

extern const SubjectLazy reference_lazy;
extern const SubjectPostcopy reference_postcopy;

SubjectStatus reference_map_faults(const Guest *guest, const SubjectBlock *blocks,
                                   SubjectMapping *faults, unsigned n);
/* The operations that loads of this session will use: to be changed between loads. */
UffdOps *reference_lazy_ops(void *session);

SubjectStatus reference_set_up_lazily(SubjectSetup *setup, GError **error);

/* Fills the loader's state from the property's; @blocks: as many as the guest has. */
void reference_set_up(const SubjectLoad *load, FileReader *reader, RAMBlock *blocks,
                      MigrationIncomingState *mis);

#endif

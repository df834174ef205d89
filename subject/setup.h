/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Set-up and tear-down for lazy loading, as the property "setup-undo" puts them
 * under test. The property counts what the subject takes from the C library in
 * the calling thread, and makes calls fail there (property/resource-meter.h):
 * the subject does nothing for it, and needs no table of operations.
 */
#ifndef PAGEWISE_SUBJECT_SETUP_H
#define PAGEWISE_SUBJECT_SETUP_H

#include "subject/subject.h"

struct SubjectSetup {
    SubjectLoad load; /* a right file; its guest's RAM; cost: fail_read may be set */
    /*
     * 0: a whole lazy load of the file. Else what QEMU calls
     * uffd_setup_incoming() alone, with so many temporary pages and a handler
     * that gives pages of zeroes.
     */
    unsigned channels;
    bool eager_thread;  /* whole loads */
    bool remove_events; /* heed discards by plain madvise() */
    int map_fd;         /* whole loads: the same file, for mapping; -1: none; borrowed */
    bool shared[GUEST_MAX_BLOCKS];
    /* Called when all is set up and RAM may be touched, in the calling thread. */
    void (*running)(SubjectSetup *setup);
    void *opaque; /* of running(); borrowed */
    /* Filled by the subject. */
    /* Blocks that stay registered for ever, since pages of zeroes would stand in for data. */
    unsigned n_kept;
    const char *stale; /* a field that says that something is held still; NULL: none */
};

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The schedule of a lazy load: what the guest does, when the eager thread goes
 * on, and what fails. Steps are done one after the other; each is over, and
 * the loader at rest, before the next one begins. WHEN is how threads come to
 * be in each other's way: the steps behind it are kept until a thread of the
 * loader comes to a point, and are done while it is held there; a guest thread
 * may then sleep behind what the held thread has claimed.
 *
 * It decodes and describes steps, and runs nothing.
 */
#ifndef PAGEWISE_PROPERTY_SCHEDULE_H
#define PAGEWISE_PROPERTY_SCHEDULE_H

#include "property/input.h"
#include "subject/lazy.h"

#define SCHEDULE_GUEST_THREADS 4
#define SCHEDULE_MAX_DISCARD 4 /* pages */
#define SCHEDULE_MAX_BODY 8    /* steps behind one WHEN */

typedef enum StepAction {
    STEP_READ,    /* a byte of the page; then all of it is looked at */
    STEP_WRITE,   /* a byte of the page */
    STEP_EAGER,   /* the eager thread goes on, to its next claim */
    STEP_DISCARD, /* through the loader */
    STEP_MADVISE, /* by plain madvise(); as DISCARD where that is not heeded */
    STEP_WHEN,    /* @length steps from here wait for @thread to be at @point */
    STEP_FAIL,    /* a call to come fails */
    STEP_CUT,     /* the file ends within the page from now on */
    STEP_CANCEL,
    STEP_N_ACTIONS,
} StepAction;

typedef struct Step {
    StepAction action;
    unsigned thread;    /* of the guest */
    unsigned block;     /* to be reduced to the number of blocks with lazy pages */
    unsigned page;      /* to be reduced to the number of pages */
    unsigned length;    /* DISCARD, MADVISE: pages; WHEN: steps */
    uint8_t value;      /* WRITE */
    unsigned offset;    /* READ, WRITE, CUT: of the byte in the page */
    SubjectThread held; /* WHEN */
    SubjectPoint point; /* WHEN */
    SubjectFault fault; /* FAIL */
} Step;

Step schedule_step(const InputStep *in);

/* Must a loader get over it as if nothing had been? */
bool schedule_is_harmless(const SubjectFault *fault);

/* Appends a line a step. */
void schedule_describe(const Input *input, GString *out);

#endif

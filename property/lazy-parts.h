/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the files that drive a lazy load share: lazy-run.c, lazy-guest.c,
 * lazy-page.c, lazy-hooks.c; nobody else includes this. For lazy.c there is
 * lazy-run.h.
 */
#ifndef PAGEWISE_PROPERTY_LAZY_PARTS_H
#define PAGEWISE_PROPERTY_LAZY_PARTS_H

#include "property/lazy-run.h"

/* How long a thread sleeps between two looks at what it waits for. */
#define LAZY_SLEEP_US 50

/* A GuestState or LoaderState. */
static inline uint32_t lazy_state(const uint32_t *state)
{
    return __atomic_load_n(state, __ATOMIC_ACQUIRE);
}

static inline void lazy_set_state(uint32_t *state, uint32_t to)
{
    __atomic_store_n(state, to, __ATOMIC_RELEASE);
}

/* Threads hand over through the kernel, which no sanitizer sees. */
static inline void lazy_hand_over(LazyRun *run)
{
    __atomic_fetch_add(&run->sync, 1, __ATOMIC_ACQ_REL);
}

static inline bool lazy_somebody_is_held(const LazyRun *run)
{
    return __atomic_load_n(&run->held, __ATOMIC_ACQUIRE) > 0;
}

/* Does the subject say when it comes to @point? */
static inline bool lazy_tells(const LazyRun *run, SubjectPoint point)
{
    return run->lazy->points >> point & 1;
}

/* Can be known when the loader is at rest? */
static inline bool lazy_is_driven(const LazyRun *run)
{
    return lazy_tells(run, SUBJECT_POINT_IDLE) && lazy_tells(run, SUBJECT_POINT_AWAKE) &&
           lazy_tells(run, SUBJECT_POINT_FAULT);
}

static inline const Judgement *lazy_judgement(const LazyRun *run)
{
    return &run->context->judgement;
}

/* lazy-run.c */

/* In any thread. */
bool lazy_run_is_broken(LazyRun *run);

typedef bool LazyCondition(LazyRun *run, const GuestThread *guest);

/*
 * Waits until @condition holds; @what says so in words. False: it did not come
 * true in time, and the run is broken.
 */
bool lazy_wait_until(LazyRun *run, LazyCondition *condition, const GuestThread *guest,
                     const char *what);

/* Beside who is held: the fault thread is, or rests. */
bool lazy_let_fault_thread_stand(LazyRun *run);

/* Nobody is held, or will be. */
bool lazy_let_loader_rest(LazyRun *run);

/* One step; none that waits for a thread to come to a point. */
void lazy_do_step(LazyRun *run, const Step *step);

/* lazy-page.c */

/*
 * A file that is cut off between the loader's look at its size and the copy
 * from its mapping: the kernel fills the last page up with zeroes. No loader
 * that maps can help that; it has to fail in the end. (It may have been cut off
 * again since.)
 */
bool lazy_may_be_cut_off(const LazyRun *run, uint64_t file_offset);

/* The byte that a host page is to hold at @offset. */
uint8_t lazy_expected_byte(const LazyRun *run, const LazyBlock *block, uint64_t page,
                           unsigned offset);

/* From now on the page is the guest's own. NULL: there are too many. */
uint8_t *lazy_expected_page(LazyRun *run, const LazyBlock *block, uint64_t page);

/* lazy-guest.c: in the schedule's own thread, or in one of the loader's that is held. */

bool lazy_act_has_page(const GuestAct *act);

/* Who meets a failure sleeps until end(): nobody poisons the page. */
bool lazy_may_sleep_on(const LazyRun *run);

/* Somebody is held: the guest thread may come to sleep. */
void lazy_act_beside(LazyRun *run, unsigned number, const GuestAct *act);

/* Nobody is held: the fault is served while we sleep. */
void lazy_act_at_once(LazyRun *run, GuestAct *act);

/* Nobody is held: all guest threads have to come to their end. */
bool lazy_wait_for_guests(LazyRun *run);

/* lazy-hooks.c: SubjectLazyLoad.at_point and .placed; @opaque is the LazyRun. */

void lazy_at_point(void *opaque, SubjectPoint point, SubjectThread thread, int block,
                   uint64_t page);
void lazy_placed(void *opaque, SubjectOperation how, const uint8_t *host, uint64_t length);

#endif

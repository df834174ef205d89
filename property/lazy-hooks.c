/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the loader tells of itself, in its own threads: the points that it comes
 * to, where it may be held, and the pages that it has placed. It must not wait
 * for anybody but who is held: the schedule's own thread waits for it.
 */
#include "property/lazy-parts.h"

static void hold(LazyRun *run, SubjectThread thread, const Trigger *trigger)
{
    uint32_t *state = thread == SUBJECT_FAULT_THREAD ? &run->fault_state : NULL;

    __atomic_fetch_add(&run->held, 1, __ATOMIC_ACQ_REL);
    if (state) {
        lazy_set_state(state, LOADER_HELD);
    }
    for (unsigned i = trigger->first; i < trigger->end && !lazy_run_is_broken(run); i++) {
        Step step = schedule_step(&run->input->steps[i]);

        lazy_do_step(run, &step);
    }
    lazy_hand_over(run);
    if (state) {
        lazy_set_state(state, LOADER_RUNS);
    }
    __atomic_fetch_sub(&run->held, 1, __ATOMIC_ACQ_REL);
}

static void come_to_point(LazyRun *run, SubjectPoint point, SubjectThread thread)
{
    for (unsigned i = 0; i < LAZY_MAX_TRIGGERS; i++) {
        Trigger *trigger = &run->triggers[i];

        if (trigger->armed && trigger->point == point && trigger->thread == thread) {
            trigger->armed = false;
            hold(run, thread, trigger);
        }
    }
}

static void note_report(LazyRun *run, int block, uint64_t page)
{
    for (unsigned i = 0; i < SCHEDULE_GUEST_THREADS; i++) {
        GuestThread *guest = &run->guests[i];

        if (lazy_state(&guest->state) == GUEST_RUNS && lazy_act_has_page(&guest->act) &&
            (int)guest->act.block->block == block && guest->act.page == page) {
            __atomic_store_n(&guest->reported, true, __ATOMIC_RELEASE);
        }
    }
}

static void wait_for_go(LazyRun *run)
{
    if (__atomic_load_n(&run->eager_free, __ATOMIC_ACQUIRE)) {
        return;
    }
    lazy_set_state(&run->eager_state, LOADER_RESTS);
    while (sem_wait(&run->eager_go) < 0) {
    }
    lazy_hand_over(run);
}

static uint32_t *state_of_this_thread(LazyRun *run, SubjectThread thread)
{
    if (thread == SUBJECT_FAULT_THREAD) {
        return &run->fault_state;
    }
    if (thread == SUBJECT_EAGER_THREAD && run->load.eager_thread) {
        return &run->eager_state;
    }
    for (unsigned i = 0; i < SCHEDULE_GUEST_THREADS; i++) {
        GuestThread *guest = &run->guests[i];

        if (pthread_equal(kept_thread_id(guest->thread), pthread_self())) {
            return &guest->state;
        }
    }
    return NULL;
}

/* Waits for a thread that is held, rather than for a while. */
static void nap(LazyRun *run, SubjectThread thread)
{
    uint32_t *state = lazy_somebody_is_held(run) ? state_of_this_thread(run, thread) : NULL;
    uint32_t before;

    if (!state) {
        return;
    }
    before = lazy_state(state);
    lazy_set_state(state,
                   thread == SUBJECT_OTHER_THREAD ? (uint32_t)GUEST_NAPS : (uint32_t)LOADER_NAPS);
    while (lazy_somebody_is_held(run)) {
        g_usleep(LAZY_SLEEP_US);
    }
    lazy_set_state(state, before);
    lazy_hand_over(run);
}

void lazy_at_point(void *opaque, SubjectPoint point, SubjectThread thread, int block, uint64_t page)
{
    LazyRun *run = opaque;

    lazy_hand_over(run);
    switch (point) {
    case SUBJECT_POINT_IDLE:
        lazy_set_state(&run->fault_state, LOADER_RESTS);
        return;
    case SUBJECT_POINT_AWAKE:
        lazy_set_state(&run->fault_state, LOADER_RUNS);
        return;
    case SUBJECT_POINT_FAULT_ENDS:
        lazy_set_state(&run->fault_state, LOADER_ENDED);
        return;
    case SUBJECT_POINT_EAGER_ENDS:
        lazy_set_state(&run->eager_state, LOADER_ENDED);
        return;
    case SUBJECT_POINT_NAP:
        nap(run, thread);
        return;
    case SUBJECT_POINT_FAULT:
        note_report(run, block, page);
        break;
    case SUBJECT_POINT_EAGER_NEXT:
        if (run->load.eager_thread) {
            wait_for_go(run);
        }
        break;
    default:
        break;
    }
    come_to_point(run, point, thread);
}

static LazyBlock *block_at(LazyRun *run, const uint8_t *host)
{
    for (unsigned i = 0; i < run->n_blocks; i++) {
        LazyBlock *block = &run->blocks[i];

        if (host >= block->host && host < block->host + block->n_pages * LAZY_PAGE) {
            return block;
        }
    }
    return NULL;
}

static void note_page(LazyPage *page, SubjectOperation how)
{
    uint8_t *count = how == SUBJECT_COPY       ? &page->copies
                     : how == SUBJECT_ZEROPAGE ? &page->zeroes
                                               : &page->poisons;

    *count = (uint8_t)MIN(*count + 1, UINT8_MAX);
    page->present |= how != SUBJECT_POISON;
}

void lazy_placed(void *opaque, SubjectOperation how, const uint8_t *host, uint64_t length)
{
    LazyRun *run = opaque;
    LazyBlock *block = block_at(run, host);

    lazy_hand_over(run);
    for (uint64_t at = 0; block && at < length; at += LAZY_PAGE) {
        uint64_t page = (uint64_t)(host - block->host + at) / LAZY_PAGE;

        if (page < block->n_pages) {
            note_page(&block->pages[page], how);
        }
    }
}

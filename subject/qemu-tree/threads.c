/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QEMU's threads of a lazy load, which come and go with it: they run in threads
 * that are kept. To create one and to join it costs more than all else of a
 * small load.
 *
 * A thread that QEMU has not joined when its load is over is none that could be
 * kept: it stays, and another takes its place, so that whoever counts the
 * process's threads finds one more, as in QEMU.
 */
#include "qemu/osdep.h"

#include "qemu/thread.h"

#include "subject/kept-thread.h"
#include "subject/qemu-tree/adapter.h"

/* The fault thread, and the one that gives the rest. */
#define N_THREADS 2

typedef struct Slot {
    KeptThread *thread;
    bool is_taken; /* QEMU has it, until it joins it */
} Slot;

struct TreeThreads {
    Slot slots[N_THREADS];
};

/* QEMU's code creates threads without an argument of ours. */
static TreeThreads *current;

/* QEMU's threads get no signals: one would end the fault thread's poll(), and so the thread. */
static KeptThread *new_thread(GError **error)
{
    sigset_t all, before;
    KeptThread *thread;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    thread = kept_thread_new(error);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return thread;
}

TreeThreads *tree_threads_new(GError **error)
{
    TreeThreads *threads = g_new0(TreeThreads, 1);

    for (unsigned i = 0; i < N_THREADS; i++) {
        threads->slots[i].thread = new_thread(error);
        if (!threads->slots[i].thread) {
            tree_threads_free(threads);
            return NULL;
        }
    }
    return threads;
}

void tree_threads_free(TreeThreads *threads)
{
    if (current == threads) {
        current = NULL;
    }
    for (unsigned i = 0; i < N_THREADS; i++) {
        kept_thread_free(threads->slots[i].thread);
    }
    g_free(threads);
}

void tree_threads_begin(TreeThreads *threads)
{
    current = threads;
}

void tree_threads_end(TreeThreads *threads)
{
    current = NULL;
    for (unsigned i = 0; i < N_THREADS; i++) {
        Slot *slot = &threads->slots[i];

        if (slot->is_taken) {
            *slot = (Slot){ .thread = new_thread(NULL) };
        }
    }
}

void tree_thread_create(QemuThread *thread, const char *name, void *(*body)(void *), void *opaque,
                        int mode)
{
    for (unsigned i = 0; current && mode == QEMU_THREAD_JOINABLE && i < N_THREADS; i++) {
        Slot *slot = &current->slots[i];

        if (slot->thread && !slot->is_taken) {
            slot->is_taken = true;
            thread->thread = kept_thread_id(slot->thread);
            kept_thread_run(slot->thread, body, opaque);
            return;
        }
    }
    qemu_thread_create(thread, name, body, opaque, mode);
}

/* Nobody asks what the thread returned. */
void *tree_thread_join(QemuThread *thread)
{
    for (unsigned i = 0; current && i < N_THREADS; i++) {
        Slot *slot = &current->slots[i];

        if (slot->is_taken && pthread_equal(kept_thread_id(slot->thread), thread->thread)) {
            kept_thread_wait(slot->thread);
            slot->is_taken = false;
            return NULL;
        }
    }
    return qemu_thread_join(thread);
}

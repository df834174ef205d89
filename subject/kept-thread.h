/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A thread that is kept when what it ran is over, and runs the next thing: to
 * create and to join one costs more than a small lazy load (under
 * AddressSanitizer five times as much).
 */
#ifndef PAGEWISE_SUBJECT_KEPT_THREAD_H
#define PAGEWISE_SUBJECT_KEPT_THREAD_H

#include <glib.h>
#include <pthread.h>
#include <sys/types.h>

typedef struct KeptThread KeptThread;

/* NULL: there are no threads to be had (@error is set). */
KeptThread *kept_thread_new(GError **error);

/* Ends it; what it runs has to be waited for before. NULL is fine. */
void kept_thread_free(KeptThread *thread);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(KeptThread, kept_thread_free)

/* Runs @body; it must be waited for before the next one. */
void kept_thread_run(KeptThread *thread, void *(*body)(void *), void *opaque);
void kept_thread_wait(KeptThread *thread);

pthread_t kept_thread_id(const KeptThread *thread);
pid_t kept_thread_tid(const KeptThread *thread);

#endif

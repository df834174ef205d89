/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See kept-thread.h. Two semaphores: "go" and "done". */
#define _GNU_SOURCE
#include "subject/kept-thread.h"

#include <errno.h>
#include <semaphore.h>
#include <sys/syscall.h>
#include <unistd.h>

struct KeptThread {
    pthread_t thread;
    pid_t tid;
    sem_t go;
    sem_t done;
    void *(*body)(void *); /* NULL: end */
    void *opaque;
};

static void wait_for(sem_t *semaphore)
{
    while (sem_wait(semaphore) < 0 && errno == EINTR) {
    }
}

static void *run(void *opaque)
{
    KeptThread *self = opaque;

    self->tid = (pid_t)syscall(SYS_gettid);
    for (;;) {
        sem_post(&self->done);
        wait_for(&self->go);
        if (!self->body) {
            return NULL;
        }
        self->body(self->opaque);
    }
}

KeptThread *kept_thread_new(GError **error)
{
    KeptThread *self = g_new0(KeptThread, 1);
    int result;

    sem_init(&self->go, 0, 0);
    sem_init(&self->done, 0, 0);
    result = pthread_create(&self->thread, NULL, run, self);
    if (result) {
        g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(result),
                    "a thread cannot be created: %s", g_strerror(result));
        sem_destroy(&self->go);
        sem_destroy(&self->done);
        g_free(self);
        return NULL;
    }
    wait_for(&self->done);
    return self;
}

void kept_thread_run(KeptThread *thread, void *(*body)(void *), void *opaque)
{
    thread->body = body;
    thread->opaque = opaque;
    sem_post(&thread->go);
}

void kept_thread_wait(KeptThread *thread)
{
    wait_for(&thread->done);
}

void kept_thread_free(KeptThread *thread)
{
    if (!thread) {
        return;
    }
    kept_thread_run(thread, NULL, NULL);
    pthread_join(thread->thread, NULL);
    sem_destroy(&thread->go);
    sem_destroy(&thread->done);
    g_free(thread);
}

pthread_t kept_thread_id(const KeptThread *thread)
{
    return thread->thread;
}

pid_t kept_thread_tid(const KeptThread *thread)
{
    return thread->tid;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A fuzz target with the bug that the environment variable MISBEHAVE names: it
 * shows that the fuzz runner (cmake/fuzz.py) and the replay driver notice. The
 * bug is there for inputs that start with 'B'; without MISBEHAVE there is none.
 */
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

typedef struct Bug {
    const char *name;
    void (*happen)(void);
} Bug;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length);

static void crash(void)
{
    fprintf(stderr, "pagewise: property safe: block 'pc.ram', page 17\n");
    abort();
}

/* Not alone: it takes what was run before in the same process. */
static void crash_late(void)
{
    static unsigned executions;

    if (++executions > 100) {
        crash();
    }
}

static void hang(void)
{
    for (;;) {
        pause();
    }
}

/* libFuzzer's own time-out works by SIGALRM. */
static void hang_deaf(void)
{
    signal(SIGALRM, SIG_IGN);
    hang();
}

static void leak_descriptor(void)
{
    if (dup(STDERR_FILENO) < 0) {
        abort();
    }
}

static void leak_mapping(void)
{
    static int protection = PROT_READ;

    /* Neighbours that differ in protection are not merged. */
    protection ^= PROT_WRITE;
    if (mmap(NULL, 4096, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED) {
        abort();
    }
}

static void *wait_for_ever(void *opaque)
{
    hang();
    return opaque;
}

static void leak_thread(void)
{
    pthread_t thread;

    if (pthread_create(&thread, NULL, wait_for_ever, NULL) != 0) {
        abort();
    }
    pthread_detach(thread);
}

static void end_quietly(void)
{
    _exit(0);
}

static const Bug bugs[] = {
    { "crash", crash },
    { "crash-late", crash_late },
    { "hang", hang },
    { "hang-deaf", hang_deaf },
    { "leak-descriptor", leak_descriptor },
    { "leak-mapping", leak_mapping },
    { "leak-thread", leak_thread },
    { "end-quietly", end_quietly },
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
    const char *wanted = getenv("MISBEHAVE");

    if (wanted == NULL || length == 0 || data[0] != 'B') {
        return 0;
    }
    for (size_t i = 0; i < sizeof(bugs) / sizeof(*bugs); i++) {
        if (strcmp(bugs[i].name, wanted) == 0) {
            bugs[i].happen();
        }
    }
    return strcmp(wanted, "return-1") == 0 ? -1 : 0;
}

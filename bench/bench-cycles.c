/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A yardstick: how many cycles of userfaultfd a second does this machine allow?
 *
 *     bench-cycles kept|fresh [--seconds N]
 *
 * A cycle is 4 faults, each answered by a thread with the least that a thread
 * can do (a read that blocks, UFFDIO_COPY of one page), and the pages given back.
 * kept: descriptor, registration and thread stay from cycle to cycle. fresh: each
 * cycle makes and ends them. No loader: what that takes is the kernel's
 * and the machine's. Prints cycles per second of wall time and of CPU time.
 *
 * It is built with the sanitizers of the fuzz targets, whose rates are told by
 * it, and shares one CPU as they do (fuzz-speed.py).
 */
#define _GNU_SOURCE
#include "bench/clock.h"
#include "bench/support.h"

#include "loader/uffd.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define N_FAULTS 4
#define SIZE ((uint64_t)N_FAULTS * BENCH_PAGE)

typedef struct Cycle {
    const UffdOps *ops;
    int uffd;
    uint8_t *ram;
    uint8_t page[BENCH_PAGE];
    pthread_t thread;
} Cycle;

/* Ends after N_FAULTS; a thread that is kept goes on with the next cycle's. */
static void answer_faults(Cycle *self)
{
    for (unsigned i = 0; i < N_FAULTS; i++) {
        uint8_t *page = bench_read_fault(self->ops, self->uffd);

        if (uffd_copy(self->ops, self->uffd, page, self->page, BENCH_PAGE) < 0) {
            bench_die("placing a page");
        }
    }
}

static void *answer_once(void *opaque)
{
    answer_faults(opaque);
    return NULL;
}

static void *answer_always(void *opaque)
{
    while (true) {
        answer_faults(opaque);
    }
    return NULL;
}

static void set_up(Cycle *self, void *(*thread)(void *))
{
    self->ram = bench_map_ram(SIZE);
    self->uffd = bench_open_bare(self->ops, self->ram, SIZE);
    if (self->ops->create_thread(self->ops, &self->thread, thread, self) < 0) {
        bench_die("starting a thread");
    }
}

static void touch_all(const Cycle *self)
{
    for (unsigned i = 0; i < N_FAULTS; i++) {
        const volatile uint8_t *byte = self->ram + (size_t)i * BENCH_PAGE;

        if (*byte != 1) {
            fprintf(stderr, "bench-cycles: a page is not what was placed\n");
            exit(1);
        }
    }
}

static void run_kept(Cycle *self)
{
    touch_all(self);
    if (madvise(self->ram, SIZE, MADV_DONTNEED) < 0) {
        bench_die("giving pages back");
    }
}

static void run_fresh(Cycle *self)
{
    set_up(self, answer_once);
    touch_all(self);
    self->ops->join_thread(self->ops, self->thread);
    close(self->uffd);
    munmap(self->ram, SIZE);
}

static int usage(void)
{
    fprintf(stderr, "usage: bench-cycles kept|fresh [--seconds N]\n");
    return 64;
}

int main(int argc, char **argv)
{
    static Cycle cycle;
    bool kept = argc > 1 && strcmp(argv[1], "kept") == 0;
    void (*run)(Cycle * self) = kept ? run_kept : run_fresh;
    double limit = argc == 4 ? strtoul(argv[3], NULL, 10) : 5;
    double began, cpu, seconds;
    uint64_t cycles = 0;

    if ((argc != 2 && argc != 4) || (!kept && strcmp(argv[1], "fresh") != 0) ||
        (argc == 4 && (strcmp(argv[2], "--seconds") != 0 || limit < 1))) {
        return usage();
    }
    cycle.ops = uffd_ops_real();
    memset(cycle.page, 1, sizeof(cycle.page));
    if (kept) {
        set_up(&cycle, answer_always);
    }
    began = bench_seconds(CLOCK_MONOTONIC);
    cpu = bench_seconds(CLOCK_PROCESS_CPUTIME_ID);
    do {
        run(&cycle);
        cycles++;
        seconds = bench_seconds(CLOCK_MONOTONIC) - began;
    } while (seconds < limit);
    cpu = bench_seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu;
    printf("%s: %.0f cycles/s, %.0f per second of CPU time\n", argv[1], cycles / seconds,
           cycles / cpu);
    fflush(stdout);
    /* The thread that is kept waits in the kernel: nothing would wake it. */
    _exit(0);
}

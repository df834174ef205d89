/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The real fault thread of a QEMU tree: set-up, faults served, cleanup, each time.
 *
 *     bench-tree-faults [--seconds N] [--threads N]
 *
 * A block of 16 pages, half of them in the file, is loaded lazily; N guest
 * threads (1) touch 4 pages in all, each page's first touch is a fault. Each
 * page that was touched, and at the end every page, is compared with the
 * file's. Prints how many faults were served of how many touches, and loads per
 * second of wall time and of CPU time. Exit status 1: a page was wrong, or not
 * loaded by a fault.
 */
#include "bench/clock.h"
#include "model/snapshot.h"
#include "subject/lazy.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define PAGE 4096
#define N_PAGES 16
#define N_TOUCHES 4
#define MAX_THREADS 4

static const char text[] = "[block 0]\nidstr = ram\nused_length = 64K\npages = 0-4; 8-10; 15\n";

/* As the fuzz targets: see fuzz/target.c. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "quarantine_size_mb=8:malloc_context_size=8";
}

typedef struct Toucher {
    const uint8_t *ram;
    const uint8_t *expected;
    unsigned first;
    unsigned step;
    bool right;
} Toucher;

typedef struct Bench {
    const SubjectLazy *lazy;
    SubjectLazyLoad load;
    Guest guest;
    SparseFile *file;
    uint8_t *ram;
    uint8_t expected[N_PAGES * PAGE];
    unsigned threads;
    uint64_t loads;
    uint64_t faults;
} Bench;

/* What the model says of a page that is not in the file: zeroes. */
static void make_expected(Bench *bench, const Snapshot *snapshot)
{
    static const unsigned runs[][2] = { { 0, 5 }, { 8, 11 }, { 15, 16 } };
    uint64_t pages_offset = snapshot_block(snapshot, 0)->pages_offset;

    for (unsigned i = 0; i < G_N_ELEMENTS(runs); i++) {
        uint64_t at = (uint64_t)runs[i][0] * PAGE;

        sparse_file_read(bench->file, pages_offset + at, bench->expected + at,
                         (runs[i][1] - runs[i][0]) * PAGE);
    }
}

static void at_point(void *opaque, SubjectPoint point, SubjectThread thread, int block,
                     uint64_t page)
{
    (void)opaque, (void)point, (void)thread, (void)block, (void)page;
}

static void placed(void *opaque, SubjectOperation how, const uint8_t *host, uint64_t length)
{
    (void)opaque, (void)how, (void)host, (void)length;
}

static void *touch(void *opaque)
{
    Toucher *self = opaque;

    self->right = true;
    for (unsigned i = self->first; i < N_TOUCHES; i += self->step) {
        size_t at = (size_t)i * (N_PAGES / N_TOUCHES) * PAGE;

        self->right &= memcmp(self->ram + at, self->expected + at, PAGE) == 0;
    }
    return NULL;
}

static bool touch_all(Bench *bench)
{
    Toucher touchers[MAX_THREADS];
    pthread_t threads[MAX_THREADS];
    bool right = true;

    for (unsigned i = 0; i < bench->threads; i++) {
        touchers[i] = (Toucher){ bench->ram, bench->expected, i, bench->threads, false };
        if (bench->threads > 1 && pthread_create(&threads[i], NULL, touch, &touchers[i]) != 0) {
            return false;
        }
    }
    if (bench->threads == 1) {
        touch(&touchers[0]);
    }
    for (unsigned i = 0; i < bench->threads; i++) {
        if (bench->threads > 1) {
            pthread_join(threads[i], NULL);
        }
        right &= touchers[i].right;
    }
    return right;
}

static bool load_once(Bench *bench, GError **error)
{
    bool right;

    memset(&bench->load.load.cost, 0, sizeof(bench->load.load.cost));
    bench->load.load.cost.max_reads = bench->load.load.cost.max_bytes = UINT64_MAX;
    if (bench->lazy->start(&bench->load, error) != SUBJECT_ACCEPTED) {
        return false;
    }
    right = touch_all(bench);
    right &= bench->lazy->end(&bench->load, error) == SUBJECT_ACCEPTED;
    /* A page is there before its fault is counted. */
    bench->faults += bench->lazy->faults(&bench->load);
    bench->loads++;
    bench->lazy->free(&bench->load);
    right &= memcmp(bench->ram, bench->expected, sizeof(bench->expected)) == 0;
    if (!right && error && !*error) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_FAILED, "a page is not what the file has");
    }
    return right;
}

static bool prepare(Bench *bench, GError **error)
{
    g_autoptr(Snapshot) snapshot = snapshot_new();

    bench->lazy = subject_qemu_tree()->lazy;
    if (!bench->lazy) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_FAILED, "this tree has no fault thread");
        return false;
    }
    if (!snapshot_from_text(text, snapshot, error)) {
        return false;
    }
    bench->file = sparse_file_new();
    snapshot_encode(snapshot, bench->file);
    make_expected(bench, snapshot);
    bench->ram =
        mmap(NULL, N_PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    bench->guest = (Guest){ .target_page_size = PAGE, .n_blocks = 1 };
    bench->guest.blocks[0] =
        (GuestBlock){ "ram", N_PAGES * PAGE, N_PAGES * PAGE, .host_page_size = PAGE };
    bench->load = (SubjectLazyLoad){
        .load = { .subject = subject_qemu_tree(), .file = bench->file, .guest = &bench->guest },
        .map_fd = -1,
        .cut_at = UINT64_MAX,
        .at_point = at_point,
        .placed = placed,
    };
    bench->load.load.blocks[0].host = bench->ram;
    bench->load.session = bench->lazy->session_new(error);
    return bench->load.session;
}

static unsigned argument(int argc, char **argv, const char *name, unsigned otherwise)
{
    for (int i = 1; i + 1 < argc; i++) {
        if (strcmp(argv[i], name) == 0) {
            return strtoul(argv[i + 1], NULL, 10);
        }
    }
    return otherwise;
}

int main(int argc, char **argv)
{
    static Bench bench;
    g_autoptr(GError) error = NULL;
    double seconds = argument(argc, argv, "--seconds", 5);
    double began = bench_seconds(CLOCK_MONOTONIC);
    double cpu = bench_seconds(CLOCK_PROCESS_CPUTIME_ID);
    bool right;

    bench.threads = CLAMP(argument(argc, argv, "--threads", 1), 1, MAX_THREADS);
    right = prepare(&bench, &error);
    while (right && bench_seconds(CLOCK_MONOTONIC) - began < seconds) {
        right = load_once(&bench, &error);
    }
    cpu = bench_seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu;
    seconds = bench_seconds(CLOCK_MONOTONIC) - began;
    printf("fault thread of QEMU %s, pages from the %s: %" G_GUINT64_FORMAT " of %" G_GUINT64_FORMAT
           " faults served, %u threads; %.0f loads/s, %.0f per second of CPU time\n",
           subject_qemu_tree()->version, bench.lazy && bench.lazy->from_file ? "file" : "source",
           bench.faults, bench.loads * N_TOUCHES, bench.threads, bench.loads / seconds,
           bench.loads / cpu);
    if (!right) {
        fprintf(stderr, "bench-tree-faults: %s\n", error->message);
    }
    if (bench.load.session) {
        bench.lazy->session_free(bench.load.session);
    }
    if (bench.ram) {
        munmap(bench.ram, N_PAGES * PAGE);
    }
    if (bench.file) {
        sparse_file_free(bench.file);
    }
    return right && bench.loads && bench.faults == bench.loads * N_TOUCHES ? 0 : 1;
}

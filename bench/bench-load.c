/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How fast is the eager load, against the least that any loader must do?
 *
 *     bench-load [--mib N] [--runs N] [--folder DIR]
 *
 * Saves guest RAM of 1 GiB as a snapshot, at 100, 50 and 10 % of its pages not
 * zero, in runs of random length; then loads it from the page cache with the
 * reference loader, and with a bare pread() loop over the same runs, turn by
 * turn, into fresh memory each time. Prints medians and the ratio of the two:
 * 1.00 is as fast as the bare loop.
 *
 * Times on a virtual machine are noisy, and first touches of memory that the
 * host took back are slow: each timed run comes right after as much memory was
 * touched and given back. Only the ratios of one run of this program mean
 * something. To be built without sanitizers (preset "release").
 */
#define _GNU_SOURCE
#include "loader/mapped-ram.h"
#include "loader/writer.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE 4096
#define MEAN_RUN 16
#define MAX_RUNS 31

typedef struct Run {
    uint64_t offset; /* in guest RAM, bytes */
    uint64_t length; /* bytes */
} Run;

typedef struct Bench {
    uint64_t size; /* of guest RAM, bytes */
    int fd;        /* the snapshot */
    GArray *runs;  /* of Run: what is in the snapshot */
    uint64_t pages_offset;
} Bench;

static void die(const char *what)
{
    fprintf(stderr, "bench-load: %s: %s\n", what, strerror(errno));
    exit(1);
}

static uint8_t *map_ram(uint64_t size)
{
    uint8_t *ram = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (ram == MAP_FAILED) {
        die("no memory for guest RAM");
    }
    madvise(ram, size, MADV_NOHUGEPAGE);
    return ram;
}

/* Fills @percent of the pages, in runs; the same ones for the same percentage. */
static void fill(Bench *bench, uint8_t *ram, unsigned percent)
{
    GRand *random = g_rand_new_with_seed(percent);

    for (uint64_t at = 0; at < bench->size;) {
        uint64_t length = (1 + g_rand_int_range(random, 0, 2 * MEAN_RUN - 1)) * PAGE;

        length = MIN(length, bench->size - at);
        if (percent == 100 || g_rand_int_range(random, 0, 100) < (int)percent) {
            for (uint64_t page = at; page < at + length; page += PAGE) {
                memset(ram + page, 1 + page / PAGE % 255, PAGE);
            }
        }
        at += length;
    }
    g_rand_free(random);
}

static void save(Bench *bench, uint8_t *ram)
{
    const SaveOptions options = { .machine = "none", .target_page_size = PAGE };
    RAMBlock block = { .idstr = "ram",
                       .host = ram,
                       .used_length = bench->size,
                       .max_length = bench->size,
                       .page_size = PAGE };
    g_autoptr(GError) error = NULL;
    FdWriter writer;

    fd_writer_init(&writer, bench->fd);
    if (!mapped_ram_save(&writer.writer, &block, 1, &options, &error)) {
        fprintf(stderr, "bench-load: %s\n", error->message);
        exit(1);
    }
}

static RAMBlock load(Bench *bench, uint8_t *ram, LoadStages stages)
{
    g_autoptr(GError) error = NULL;
    RAMBlock block = { .idstr = "ram",
                       .host = ram,
                       .used_length = bench->size,
                       .max_length = bench->size,
                       .page_size = PAGE };
    FdReader reader;
    MigrationIncomingState mis = {
        .reader = &reader.reader, .target_page_size = PAGE, .blocks = &block, .n_blocks = 1
    };

    if (!fd_reader_init(&reader, bench->fd, &error) ||
        !mapped_ram_load(&mis, stages, NULL, &error)) {
        fprintf(stderr, "bench-load: %s\n", error->message);
        exit(1);
    }
    return block;
}

static bool has_page(const RAMBlock *block, uint64_t page)
{
    return block->file_bmap[page / 64] >> (page % 64) & 1;
}

/* What the bare loop reads: the runs of set bits. */
static void find_runs(Bench *bench)
{
    RAMBlock block = load(bench, NULL, LOAD_HEADERS_ONLY);
    uint64_t pages = bench->size / PAGE;

    bench->pages_offset = block.pages_offset;
    g_array_set_size(bench->runs, 0);
    for (uint64_t page = 0; page < pages; page++) {
        uint64_t first = page;
        Run run;

        while (page < pages && has_page(&block, page)) {
            page++;
        }
        run = (Run){ first * PAGE, (page - first) * PAGE };
        if (run.length) {
            g_array_append_val(bench->runs, run);
        }
    }
    ram_block_clear(&block);
}

static void bare_loop(const Bench *bench, uint8_t *ram)
{
    for (unsigned i = 0; i < bench->runs->len; i++) {
        Run run = g_array_index(bench->runs, Run, i);

        while (run.length) {
            size_t chunk = MIN(run.length, MAPPED_RAM_LOAD_BUF_SIZE);

            if (pread(bench->fd, ram + run.offset, chunk, bench->pages_offset + run.offset) !=
                (ssize_t)chunk) {
                die("short read");
            }
            run.offset += chunk;
            run.length -= chunk;
        }
    }
}

static void eager_load(Bench *bench, uint8_t *ram)
{
    load(bench, ram, LOAD_WHOLE);
}

/* Makes the host give memory now rather than within the timed run. */
static void warm_up(uint64_t size)
{
    uint8_t *ram = map_ram(size);

    for (uint64_t at = 0; at < size; at += PAGE) {
        ram[at] = 1;
    }
    munmap(ram, size);
}

static double timed(Bench *bench, bool bare)
{
    uint8_t *ram;
    gint64 start, end;

    warm_up(bench->size);
    ram = map_ram(bench->size);
    start = g_get_monotonic_time();
    if (bare) {
        bare_loop(bench, ram);
    } else {
        eager_load(bench, ram);
    }
    end = g_get_monotonic_time();
    munmap(ram, bench->size);
    return (end - start) / 1e3;
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;

    return (x > y) - (x < y);
}

static double median(double *values, unsigned n)
{
    qsort(values, n, sizeof(*values), compare_doubles);
    return n % 2 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

static void measure(Bench *bench, unsigned percent, unsigned n)
{
    uint8_t *ram = map_ram(bench->size);
    double bare[MAX_RUNS], eager[MAX_RUNS], ratios[MAX_RUNS];
    double bare_ms, eager_ms;

    if (ftruncate(bench->fd, 0) < 0) {
        die("cannot empty the snapshot");
    }
    fill(bench, ram, percent);
    save(bench, ram);
    munmap(ram, bench->size);
    find_runs(bench);
    timed(bench, true);
    for (unsigned i = 0; i < n; i++) {
        /* Turn by turn, and who goes first takes turns, too. */
        bool bare_first = i % 2;
        double first = timed(bench, bare_first);
        double second = timed(bench, !bare_first);

        bare[i] = bare_first ? first : second;
        eager[i] = bare_first ? second : first;
        ratios[i] = bare[i] / eager[i];
    }
    bare_ms = median(bare, n);
    eager_ms = median(eager, n);
    printf("%5u %%  %8u  %10.1f  %10.1f  %10.2f  %8.2f\n", percent, bench->runs->len, bare_ms,
           eager_ms, median(ratios, n), bench->size * percent / 100.0 / (1 << 30) / eager_ms * 1e3);
    fflush(stdout);
}

static int open_snapshot(const char *folder)
{
    g_autofree char *path = g_build_filename(folder, "bench-load-XXXXXX", NULL);
    int fd = mkostemp(path, O_CLOEXEC);

    if (fd < 0) {
        die(path);
    }
    unlink(path);
    return fd;
}

int main(int argc, char **argv)
{
    int mib = 1024, n = 9;
    g_autofree char *folder = NULL;
    const GOptionEntry entries[] = {
        { "mib", 0, 0, G_OPTION_ARG_INT, &mib, "Size of guest RAM (1024)", "MIB" },
        { "runs", 0, 0, G_OPTION_ARG_INT, &n, "Runs of each kind, 1 to 31 (9)", "N" },
        { "folder", 0, 0, G_OPTION_ARG_FILENAME, &folder, "Where the snapshot is put (.)", "DIR" },
        { 0 },
    };
    g_autoptr(GOptionContext) context = g_option_context_new("- eager load against bare pread");
    g_autoptr(GError) error = NULL;
    static const unsigned percents[] = { 100, 50, 10 };
    Bench bench;

    g_option_context_add_main_entries(context, entries, NULL);
    if (!g_option_context_parse(context, &argc, &argv, &error) || argc > 1 || mib < 1 || n < 1 ||
        n > MAX_RUNS) {
        fprintf(stderr, "bench-load: %s\n",
                error ? error->message : "wrong arguments; see bench-load --help");
        return 2;
    }
    bench = (Bench){ .size = (uint64_t)mib << 20,
                     .fd = open_snapshot(folder ? folder : "."),
                     .runs = g_array_new(FALSE, FALSE, sizeof(Run)) };
    printf("%7s  %8s  %10s  %10s  %10s  %8s\n", "set", "runs", "bare ms", "eager ms", "bare/eager",
           "GiB/s");
    for (unsigned i = 0; i < G_N_ELEMENTS(percents); i++) {
        measure(&bench, percents[i], n);
    }
    g_array_unref(bench.runs);
    close(bench.fd);
    return 0;
}

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
#include "bench/support.h"

#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE BENCH_PAGE
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

static RAMBlock load(Bench *bench, uint8_t *ram, LoadStages stages)
{
    g_autoptr(GError) error = NULL;
    RAMBlock block = bench_block(ram, bench->size);
    FdReader reader;
    MigrationIncomingState mis = {
        .reader = &reader.reader, .target_page_size = PAGE, .blocks = &block, .n_blocks = 1
    };

    if (!fd_reader_init(&reader, bench->fd, &error) ||
        !mapped_ram_load(&mis, stages, NULL, &error)) {
        bench_die_error(error);
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
                bench_die("short read");
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

static double timed(Bench *bench, bool bare)
{
    uint8_t *ram;
    gint64 start, end;

    bench_warm_up(bench->size);
    ram = bench_map_ram(bench->size);
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

static void measure(Bench *bench, unsigned percent, unsigned n)
{
    uint8_t *ram = bench_map_ram(bench->size);
    double bare[MAX_RUNS], eager[MAX_RUNS], ratios[MAX_RUNS];
    double bare_ms, eager_ms;

    if (ftruncate(bench->fd, 0) < 0) {
        bench_die("cannot empty the snapshot");
    }
    bench_fill(ram, bench->size, percent);
    bench_save(bench->fd, ram, bench->size);
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
    bare_ms = bench_median(bare, n);
    eager_ms = bench_median(eager, n);
    printf("%5u %%  %8u  %10.1f  %10.1f  %10.2f  %8.2f\n", percent, bench->runs->len, bare_ms,
           eager_ms, bench_median(ratios, n),
           bench->size * percent / 100.0 / (1 << 30) / eager_ms * 1e3);
    fflush(stdout);
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
                     .fd = bench_open_scratch(folder ? folder : "."),
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

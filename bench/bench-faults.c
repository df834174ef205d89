/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How long does a guest wait for one page of a snapshot in the page cache?
 *
 *     bench-faults [--rounds N] [--folder DIR] [--csv FILE]
 *
 * Writes to 4096 pages in random order, one thread, and times each write: to
 * anonymous memory without userfaultfd; to RAM that the reference loader loads
 * lazily; to RAM that is loaded as QEMU's postcopy would (qemu-like.h): poll,
 * read, pread, copy; and to RAM that a bare handler serves, with the least that
 * a thread can do for a fault: a read that blocks, and a copy from a mapping.
 * What that takes is the machine's, and no loader's. Nobody loads eagerly
 * beside, so that each write waits for its own fault. Turn by turn for N rounds;
 * prints p50, p90 and p99 in microseconds, and medians over the rounds: of the
 * ratio to the p50 of anonymous memory, and of the lazy loader's to the bare
 * handler's. The file gets the distributions, 500 quantiles each.
 *
 * All threads share one CPU: to wake a CPU that idles costs a virtual machine
 * ten times the fault itself, and tells of nothing but the machine.
 */
#define _GNU_SOURCE
#include "bench/qemu-like.h"

#include "loader/snapshot-load.h"

#include <sched.h>
#include <stdio.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define N_PAGES 4096
#define SIZE ((uint64_t)N_PAGES * BENCH_PAGE)
#define MAX_ROUNDS 101
#define N_QUANTILES 500

typedef struct Bench {
    int fd;                  /* the snapshot */
    uint32_t order[N_PAGES]; /* of the writes */
    double latency[N_PAGES]; /* of one round, us */
} Bench;

static double now_us(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1e6 + now.tv_nsec / 1e3;
}

static void touch_all(Bench *bench, uint8_t *ram)
{
    for (unsigned i = 0; i < N_PAGES; i++) {
        volatile uint8_t *byte = ram + (uint64_t)bench->order[i] * BENCH_PAGE;
        double start = now_us();

        *byte = 1;
        bench->latency[i] = now_us() - start;
    }
}

static void anonymous(Bench *bench, uint8_t *ram)
{
    touch_all(bench, ram);
}

typedef struct Incoming {
    FdReader reader;
    RAMBlock block;
    MigrationIncomingState mis;
} Incoming;

static void incoming_init(Incoming *self, int fd, uint8_t *ram)
{
    g_autoptr(GError) error = NULL;

    if (!fd_reader_init(&self->reader, fd, &error)) {
        bench_die_error(error);
    }
    self->block = bench_block(ram, SIZE);
    self->mis = (MigrationIncomingState){ .reader = &self->reader.reader,
                                          .target_page_size = BENCH_PAGE,
                                          .blocks = &self->block,
                                          .n_blocks = 1 };
}

static void lazy(Bench *bench, uint8_t *ram)
{
    const SnapshotLoadOptions options = { .map_fd = bench->fd };
    g_autoptr(GError) error = NULL;
    Incoming incoming;
    SnapshotLoad *load;

    incoming_init(&incoming, bench->fd, ram);
    load = snapshot_load_start(&incoming.mis, &options, NULL, &error);
    if (!load) {
        bench_die_error(error);
    }
    touch_all(bench, ram);
    if (!snapshot_load_end(load, &error)) {
        bench_die_error(error);
    }
    g_assert(incoming.mis.faults == N_PAGES);
    ram_block_clear(&incoming.block);
}

static void qemu_like(Bench *bench, uint8_t *ram)
{
    g_autoptr(GError) error = NULL;
    Incoming incoming;
    QemuLike *load;

    incoming_init(&incoming, bench->fd, ram);
    if (!mapped_ram_load(&incoming.mis, LOAD_HEADERS_ONLY, NULL, &error)) {
        bench_die_error(error);
    }
    load = qemu_like_start(&incoming.block, bench->fd, false);
    touch_all(bench, ram);
    qemu_like_end(load);
    ram_block_clear(&incoming.block);
}

typedef struct BareHandler {
    const UffdOps *ops;
    int uffd;
    uint8_t *ram;
    const uint8_t *pages; /* in the mapping of the file */
} BareHandler;

/* As many faults as there are pages: no claims, no end but the last of them. */
static void *bare_thread(void *opaque)
{
    const BareHandler *self = opaque;

    for (unsigned i = 0; i < N_PAGES; i++) {
        uint64_t offset = bench_read_fault(self->ops, self->uffd) - self->ram;

        if (uffd_copy(self->ops, self->uffd, self->ram + offset, self->pages + offset, BENCH_PAGE) <
            0) {
            bench_die("placing a page");
        }
    }
    return NULL;
}

static void bare(Bench *bench, uint8_t *ram)
{
    const UffdOps *ops = uffd_ops_real();
    BareHandler handler = { .ops = ops, .uffd = bench_open_bare(ops, ram, SIZE), .ram = ram };
    g_autoptr(GError) error = NULL;
    Incoming incoming;
    pthread_t thread;
    uint8_t *map;

    incoming_init(&incoming, bench->fd, ram);
    if (!mapped_ram_load(&incoming.mis, LOAD_HEADERS_ONLY, NULL, &error)) {
        bench_die_error(error);
    }
    map = mmap(NULL, incoming.reader.reader.size, PROT_READ, MAP_SHARED, bench->fd, 0);
    if (map == MAP_FAILED) {
        bench_die("mapping the snapshot");
    }
    handler.pages = map + incoming.block.pages_offset;
    if (ops->create_thread(ops, &thread, bare_thread, &handler) < 0) {
        bench_die("starting a thread");
    }
    touch_all(bench, ram);
    ops->join_thread(ops, thread);
    munmap(map, incoming.reader.reader.size);
    close(handler.uffd);
    ram_block_clear(&incoming.block);
}

typedef struct Way {
    const char *name;
    void (*run)(Bench *bench, uint8_t *ram);
    double p50[MAX_ROUNDS];
    double ratio[MAX_ROUNDS];
    GArray *all; /* of double: latencies of all rounds, us */
} Way;

static void run_round(Bench *bench, Way *way, unsigned round)
{
    uint8_t *ram;

    bench_warm_up(SIZE);
    ram = bench_map_ram(SIZE);
    way->run(bench, ram);
    munmap(ram, SIZE);
    g_array_append_vals(way->all, bench->latency, N_PAGES);
    way->p50[round] = bench_median(bench->latency, N_PAGES);
}

static void print_way(Way *way, unsigned rounds, FILE *csv)
{
    double *all = (double *)way->all->data;

    bench_median(all, way->all->len);
    printf("%-24s  %7.2f  %7.2f  %7.2f  %8.2f\n", way->name,
           bench_quantile(all, way->all->len, 0.5), bench_quantile(all, way->all->len, 0.9),
           bench_quantile(all, way->all->len, 0.99), bench_median(way->ratio, rounds));
    for (unsigned i = 0; csv && i <= N_QUANTILES; i++) {
        fprintf(csv, "%s,%.4f,%.3f\n", way->name, (double)i / N_QUANTILES,
                bench_quantile(all, way->all->len, (double)i / N_QUANTILES));
    }
}

/* Takes the place of the ratios to anonymous memory. */
static void print_lazy_by_bare(Way *lazy_way, const Way *bare_way, unsigned rounds)
{
    for (unsigned round = 0; round < rounds; round++) {
        lazy_way->ratio[round] = lazy_way->p50[round] / bare_way->p50[round];
    }
    printf("%s by %s, p50: %.2f\n", lazy_way->name, bare_way->name,
           bench_median(lazy_way->ratio, rounds));
}

static void measure(Bench *bench, unsigned rounds, FILE *csv)
{
    enum { ANONYMOUS, LAZY, QEMU_LIKE, BARE };
    static Way ways[] = {
        [ANONYMOUS] = { .name = "anonymous memory", .run = anonymous },
        [LAZY] = { .name = "pagewise lazy", .run = lazy },
        [QEMU_LIKE] = { .name = "QEMU's way", .run = qemu_like },
        [BARE] = { .name = "bare handler", .run = bare },
    };

    for (unsigned w = 0; w < G_N_ELEMENTS(ways); w++) {
        ways[w].all = g_array_new(FALSE, FALSE, sizeof(double));
    }
    for (unsigned round = 0; round < rounds; round++) {
        for (unsigned w = 0; w < G_N_ELEMENTS(ways); w++) {
            run_round(bench, &ways[w], round);
            ways[w].ratio[round] = ways[w].p50[round] / ways[ANONYMOUS].p50[round];
        }
    }
    printf("%-24s  %7s  %7s  %7s  %8s\n", "one write fault, us", "p50", "p90", "p99", "x of p50");
    for (unsigned w = 0; w < G_N_ELEMENTS(ways); w++) {
        print_way(&ways[w], rounds, csv);
        g_array_unref(ways[w].all);
    }
    print_lazy_by_bare(&ways[LAZY], &ways[BARE], rounds);
}

static void bench_init(Bench *bench, const char *folder)
{
    GRand *random = g_rand_new_with_seed(1);
    uint8_t *ram = bench_map_ram(SIZE);

    bench->fd = bench_open_scratch(folder);
    bench_fill(ram, SIZE, 100);
    bench_save(bench->fd, ram, SIZE);
    munmap(ram, SIZE);
    for (unsigned i = 0; i < N_PAGES; i++) {
        unsigned other = g_rand_int_range(random, 0, (int)i + 1);

        bench->order[i] = bench->order[other];
        bench->order[other] = i;
    }
    g_rand_free(random);
}

static void share_one_cpu(void)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET(sched_getcpu(), &set);
    if (sched_setaffinity(0, sizeof(set), &set) < 0) {
        bench_die("sched_setaffinity");
    }
}

int main(int argc, char **argv)
{
    int rounds = 21;
    g_autofree char *folder = NULL;
    g_autofree char *path = NULL;
    const GOptionEntry entries[] = {
        { "rounds", 0, 0, G_OPTION_ARG_INT, &rounds, "Rounds, 1 to 101 (21)", "N" },
        { "folder", 0, 0, G_OPTION_ARG_FILENAME, &folder, "Where the snapshot is put (.)", "DIR" },
        { "csv", 0, 0, G_OPTION_ARG_FILENAME, &path, "Where the distributions are put", "FILE" },
        { 0 },
    };
    g_autoptr(GOptionContext) context = g_option_context_new("- latency of one fault");
    g_autoptr(GError) error = NULL;
    static Bench bench;
    FILE *csv = NULL;

    g_option_context_add_main_entries(context, entries, NULL);
    if (!g_option_context_parse(context, &argc, &argv, &error) || argc > 1 || rounds < 1 ||
        rounds > MAX_ROUNDS) {
        fprintf(stderr, "bench-faults: %s\n",
                error ? error->message : "wrong arguments; see bench-faults --help");
        return 2;
    }
    csv = path ? fopen(path, "w") : NULL;
    if (path && !csv) {
        bench_die(path);
    }
    share_one_cpu();
    bench_init(&bench, folder ? folder : ".");
    measure(&bench, (unsigned)rounds, csv);
    close(bench.fd);
    if (csv && fclose(csv) != 0) {
        bench_die(path);
    }
    return 0;
}

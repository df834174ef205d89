/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One load of one snapshot in a process of its own, for bench/loads.py, which
 * compares ways to load: CPU time and peak memory are those of the process.
 *
 *     bench-one-load [--mib N] [--percent P] save FILE
 *     bench-one-load [--mib N] warm-up
 *     bench-one-load [--mib N] [--percent P] [--timeline] eager|lazy|qemu-like FILE
 *
 * "save" makes a snapshot of N MiB of RAM, P % of it not zero. The others load
 * one; a guest of one thread begins as soon as its memory can be touched, and
 * writes to P % of its pages, in random order, each once. eager: the reference
 * loader, and the guest afterwards. lazy: the reference loader's lazy path,
 * eager thread included, to the end of snapshot_load_end(): all pages are
 * loaded and userfaultfd is gone. qemu-like: qemu-like.h. Prints one JSON
 * object: milliseconds from the start of the load, KiB, and, if asked for, how
 * many MiB of RAM were there at which time, every two milliseconds.
 */
#define _GNU_SOURCE
#include "bench/qemu-like.h"

#include "loader/snapshot-load.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define SAMPLE_US 2000

typedef struct OneLoad {
    FdReader reader;
    RAMBlock block;
    MigrationIncomingState mis;
    int fd;
    uint64_t size;    /* of guest RAM, bytes */
    uint32_t *order;  /* pages that the guest touches */
    uint64_t touches; /* how many */
    gint64 start;     /* us */
    double first_ms;  /* the guest begins */
    double guest_ms;  /* it is done */
    double loaded_ms; /* the load is */
    bool sampling;    /* atomic */
    GString *samples; /* JSON */
} OneLoad;

static double since_start(const OneLoad *self)
{
    return (g_get_monotonic_time() - self->start) / 1e3;
}

static void *guest_thread(void *opaque)
{
    OneLoad *self = opaque;

    self->first_ms = since_start(self);
    for (uint64_t i = 0; i < self->touches; i++) {
        self->block.host[(uint64_t)self->order[i] * BENCH_PAGE] += 1;
    }
    self->guest_ms = since_start(self);
    return NULL;
}

/* Memory of this process, file mappings left out. */
static double resident_mib(void)
{
    char text[128] = "";
    unsigned long size, resident = 0, shared = 0;
    int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);

    if (fd < 0 || read(fd, text, sizeof(text) - 1) <= 0) {
        bench_die("/proc/self/statm");
    }
    close(fd);
    sscanf(text, "%lu %lu %lu", &size, &resident, &shared);
    return (resident - shared) * (double)BENCH_PAGE / (1 << 20);
}

static void *sampling_thread(void *opaque)
{
    OneLoad *self = opaque;

    while (__atomic_load_n(&self->sampling, __ATOMIC_ACQUIRE)) {
        g_string_append_printf(self->samples, "%s[%.3f, %.2f]", self->samples->len ? ", " : "",
                               since_start(self), resident_mib());
        g_usleep(SAMPLE_US);
    }
    return NULL;
}

static pthread_t start_thread(OneLoad *self, void *(*body)(void *))
{
    pthread_t thread;

    if (uffd_ops_real()->create_thread(uffd_ops_real(), &thread, body, self) < 0) {
        bench_die("starting a thread");
    }
    return thread;
}

static void load_eager(OneLoad *self)
{
    g_autoptr(GError) error = NULL;

    if (!mapped_ram_load(&self->mis, LOAD_WHOLE, NULL, &error)) {
        bench_die_error(error);
    }
    self->loaded_ms = since_start(self);
    guest_thread(self);
}

static void load_lazy(OneLoad *self)
{
    const SnapshotLoadOptions options = { .map_fd = self->fd, .eager_thread = true };
    g_autoptr(GError) error = NULL;
    SnapshotLoad *load = snapshot_load_start(&self->mis, &options, NULL, &error);
    pthread_t guest;

    if (!load) {
        bench_die_error(error);
    }
    guest = start_thread(self, guest_thread);
    if (!snapshot_load_end(load, &error)) {
        bench_die_error(error);
    }
    self->loaded_ms = since_start(self);
    pthread_join(guest, NULL);
}

static void load_qemu_like(OneLoad *self)
{
    g_autoptr(GError) error = NULL;
    QemuLike *load;
    pthread_t guest;

    if (!mapped_ram_load(&self->mis, LOAD_HEADERS_ONLY, NULL, &error)) {
        bench_die_error(error);
    }
    load = qemu_like_start(&self->block, self->fd, true);
    guest = start_thread(self, guest_thread);
    qemu_like_end(load);
    self->loaded_ms = since_start(self);
    pthread_join(guest, NULL);
}

static uint32_t *random_order(uint64_t pages)
{
    uint32_t *order = g_new(uint32_t, pages);
    GRand *random = g_rand_new_with_seed(1);

    for (uint64_t i = 0; i < pages; i++) {
        uint64_t other = (uint64_t)g_rand_int(random) % (i + 1);

        order[i] = order[other];
        order[other] = i;
    }
    g_rand_free(random);
    return order;
}

static double cpu_ms(const struct rusage *usage)
{
    return usage->ru_utime.tv_sec * 1e3 + usage->ru_utime.tv_usec / 1e3 +
           usage->ru_stime.tv_sec * 1e3 + usage->ru_stime.tv_usec / 1e3;
}

static void print_result(const OneLoad *self, const struct rusage *before)
{
    struct rusage after;

    getrusage(RUSAGE_SELF, &after);
    printf("{\"first_ms\": %.3f, \"loaded_ms\": %.3f, \"guest_ms\": %.3f, \"cpu_ms\": %.1f, "
           "\"peak_kib\": %ld, \"anon_kib\": %.0f, \"timeline\": [%s]}\n",
           self->first_ms, self->loaded_ms, self->guest_ms, cpu_ms(&after) - cpu_ms(before),
           after.ru_maxrss, resident_mib() * 1024, self->samples->str);
}

static void bench_one_load(OneLoad *self, void (*load)(OneLoad *), bool timeline)
{
    struct rusage before;
    pthread_t sampling;

    self->samples = g_string_new(NULL);
    self->sampling = timeline;
    self->block = bench_block(bench_map_ram(self->size), self->size);
    self->mis = (MigrationIncomingState){ .reader = &self->reader.reader,
                                          .target_page_size = BENCH_PAGE,
                                          .blocks = &self->block,
                                          .n_blocks = 1 };
    self->order = self->touches ? random_order(self->size / BENCH_PAGE) : NULL;
    getrusage(RUSAGE_SELF, &before);
    self->start = g_get_monotonic_time();
    if (timeline) {
        sampling = start_thread(self, sampling_thread);
    }
    load(self);
    if (timeline) {
        __atomic_store_n(&self->sampling, false, __ATOMIC_RELEASE);
        pthread_join(sampling, NULL);
    }
    print_result(self, &before);
}

/* More is not loaded in any snapshot here. */
#define MAX_WARM_UP (UINT64_C(1) << 30)

/* In a process of its own: its memory is not to count as the load's. */
static void warm_up(uint64_t size)
{
    pid_t child = fork();
    int status;

    if (child == 0) {
        bench_warm_up(MIN(size, MAX_WARM_UP));
        _exit(0);
    }
    if (child < 0 || waitpid(child, &status, 0) < 0 || status != 0) {
        bench_die("touching memory");
    }
}

static void save(const char *path, uint64_t size, unsigned percent)
{
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    uint8_t *ram = bench_map_ram(size);

    if (fd < 0) {
        bench_die(path);
    }
    bench_fill(ram, size, percent);
    bench_save(fd, ram, size);
    close(fd);
}

typedef struct Way {
    const char *name;
    void (*load)(OneLoad *self);
} Way;

static const Way ways[] = {
    { "eager", load_eager },
    { "lazy", load_lazy },
    { "qemu-like", load_qemu_like },
};

static const Way *find_way(const char *name)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(ways); i++) {
        if (strcmp(ways[i].name, name) == 0) {
            return &ways[i];
        }
    }
    return NULL;
}

int main(int argc, char **argv)
{
    int mib = 1024, percent = 25;
    gboolean timeline = FALSE;
    const GOptionEntry entries[] = {
        { "mib", 0, 0, G_OPTION_ARG_INT, &mib, "Size of guest RAM (1024)", "MIB" },
        { "percent", 0, 0, G_OPTION_ARG_INT, &percent, "Pages that are not zero or touched (25)",
          "P" },
        { "timeline", 0, 0, G_OPTION_ARG_NONE, &timeline, "Print when how much was loaded", NULL },
        { 0 },
    };
    g_autoptr(GOptionContext) context = g_option_context_new("save|eager|lazy|qemu-like FILE");
    g_autoptr(GError) error = NULL;
    OneLoad self = { 0 };
    const Way *way = NULL;

    g_option_context_add_main_entries(context, entries, NULL);
    if (!g_option_context_parse(context, &argc, &argv, &error) || argc < 2 || argc > 3 || mib < 1 ||
        percent < 0 || percent > 100) {
        fprintf(stderr, "bench-one-load: %s\n",
                error ? error->message : "wrong arguments; see bench-one-load --help");
        return 2;
    }
    self.size = (uint64_t)mib << 20;
    self.touches = self.size / BENCH_PAGE * (uint64_t)percent / 100;
    if (argc == 2 && strcmp(argv[1], "warm-up") == 0) {
        warm_up(self.size);
        return 0;
    }
    way = find_way(argv[1]);
    if (argc == 2 || (!way && strcmp(argv[1], "save") != 0)) {
        fprintf(stderr, "bench-one-load: wrong arguments; see bench-one-load --help\n");
        return 2;
    }
    if (!way) {
        save(argv[2], self.size, (unsigned)percent);
        return 0;
    }
    self.fd = open(argv[2], O_RDONLY | O_CLOEXEC);
    if (self.fd < 0) {
        bench_die(argv[2]);
    }
    if (!fd_reader_init(&self.reader, self.fd, &error)) {
        bench_die_error(error);
    }
    warm_up(self.size);
    bench_one_load(&self, way->load, timeline);
    return 0;
}

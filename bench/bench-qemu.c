/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How many files a real QEMU loads in a second, through the fork server and in
 * a fresh process each, in one run and interleaved, on one core:
 *
 *     bench-qemu [ROUNDS]
 *
 * A right file: 1 MiB of RAM, every third page set, loaded, and all of guest
 * RAM compared with the model by the property. An early reject: eight bytes
 * that are no snapshot. The figures are medians of the rounds; loads for each
 * second of processor time are what is left of them on a busy machine. Without a
 * QEMU of 9.0 or newer it says so, and is content.
 */
#define _GNU_SOURCE /* sched_setaffinity */

#include "bench/clock.h"
#include "model/snapshot.h"
#include "qtest-glue/qemu-case.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#define MAX_ROUNDS 64
#define PAGES 256

typedef struct Row {
    const char *name;
    QemuSubjectConfig config;
    bool right; /* the right file, else the early reject */
    int loads;  /* in a round */
    QemuCase *qemu;
    double wall[MAX_ROUNDS]; /* loads a second */
    double cpu[MAX_ROUNDS];  /* loads a second of processor time */
} Row;

static Row rows[] = {
    { .name = "fork server, right file", .right = true, .loads = 50 },
    { .name = "fork server, right file, multifd 2",
      .config = { .transfer = { .channels = 2 } },
      .right = true,
      .loads = 50 },
    { .name = "fork server, early reject", .loads = 50 },
    { .name = "fresh process, right file", .config = { .fresh = true }, .right = true, .loads = 8 },
    { .name = "fresh process, early reject", .config = { .fresh = true }, .loads = 8 },
};

static void make_right(SparseFile *file, const Guest *guest)
{
    g_autoptr(Snapshot) snapshot = snapshot_new();

    snapshot_fit(snapshot, guest);
    for (uint64_t page = 0; page < PAGES; page += 3) {
        snapshot_block_add_run(snapshot_block(snapshot, 0),
                               (PageRun){ .first = page, .count = 1, .content = CONTENT_PATTERN });
    }
    snapshot_layout(snapshot, SNAPSHOT_PAGES_ALIGNMENT);
    snapshot_encode(snapshot, file);
}

/* An input of kind stream. Unref with g_byte_array_unref(). */
static GByteArray *make_input(const Row *row, const Guest *guest)
{
    g_autoptr(SparseFile) file = sparse_file_new();
    GByteArray *input = g_byte_array_new();

    if (row->right) {
        make_right(file, guest);
    } else {
        sparse_file_write(file, 0, "nonsense", 8);
    }
    input_encode_stream(guest, file, 0, input);
    return input;
}

/* Of this process, of QEMUs that ended, and of the fork server. */
static double cpu_seconds(const Row *row)
{
    struct rusage ended;

    getrusage(RUSAGE_CHILDREN, &ended);
    return bench_seconds(CLOCK_PROCESS_CPUTIME_ID) + ended.ru_utime.tv_sec + ended.ru_stime.tv_sec +
           (ended.ru_utime.tv_usec + ended.ru_stime.tv_usec) / 1e6 +
           qemu_subject_cpu_us(row->qemu->subject) / 1e6;
}

static bool run_round(Row *row, int round, GError **error)
{
    g_autoptr(GByteArray) input = make_input(row, qemu_subject_get(row->qemu->subject)->guest);
    double cpu = cpu_seconds(row);
    double wall = bench_seconds(CLOCK_MONOTONIC);

    for (int i = 0; i < row->loads; i++) {
        g_autofree char *kind = NULL;
        g_autoptr(GError) broken = NULL;

        if (!qemu_case_run(row->qemu, input->data, input->len, &kind, &broken, error)) {
            return false;
        }
        if (kind) {
            g_propagate_error(error, g_steal_pointer(&broken));
            return false;
        }
    }
    row->wall[round] = row->loads / (bench_seconds(CLOCK_MONOTONIC) - wall);
    row->cpu[round] = row->loads / (cpu_seconds(row) - cpu);
    return true;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;

    return x < y ? -1 : x > y;
}

static double median(double *values, int n)
{
    qsort(values, n, sizeof(*values), compare);
    return n % 2 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

static void print_rows(const QemuBinary *binary, int rounds)
{
    printf("%s, one core, medians of %d rounds\n\n| loop | loads/s | loads per CPU second |\n"
           "|---|---|---|\n",
           binary->version, rounds);
    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
        printf("| %s | %.0f | %.0f |\n", rows[i].name, median(rows[i].wall, rounds),
               median(rows[i].cpu, rounds));
    }
}

static bool run(const QemuBinary *binary, int rounds, GError **error)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
        rows[i].config.machine = qemu_machine_find("none");
        rows[i].config.mib = 1;
        rows[i].config.limits = LOAD_LIMITS_DEFAULT;
        rows[i].qemu = qemu_case_new(binary, &rows[i].config, NULL, error);
        if (!rows[i].qemu) {
            return false;
        }
    }
    for (int round = 0; round < rounds; round++) {
        for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
            if (!run_round(&rows[i], round, error)) {
                return false;
            }
        }
    }
    print_rows(binary, rounds);
    return true;
}

static void pin_to_one_core(void)
{
    cpu_set_t one;

    CPU_ZERO(&one);
    CPU_SET(sched_getcpu(), &one);
    sched_setaffinity(0, sizeof(one), &one);
}

int main(int argc, char **argv)
{
    int rounds = CLAMP(argc > 1 ? atoi(argv[1]) : 7, 1, MAX_ROUNDS);
    g_autoptr(GError) error = NULL;
    g_autoptr(QemuBinary) binary = qemu_binary_find(&error);
    bool ok;

    if (!binary) {
        fprintf(stderr, "SKIP qemu: %s; remedy: %s\n", error->message, QEMU_BINARY_REMEDY);
        return 0;
    }
    pin_to_one_core();
    ok = run(binary, rounds, &error);
    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_clear_pointer(&rows[i].qemu, qemu_case_free);
    }
    if (!ok) {
        fprintf(stderr, "bench-qemu: %s\n", error->message);
        return 1;
    }
    return 0;
}

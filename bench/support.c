/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See support.h. */
#define _GNU_SOURCE
#include "bench/support.h"

#include "loader/writer.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define MEAN_RUN 16

void bench_die(const char *what)
{
    fprintf(stderr, "%s: %s: %s\n", program_invocation_short_name, what, strerror(errno));
    exit(1);
}

void bench_die_error(const GError *error)
{
    fprintf(stderr, "%s: %s\n", program_invocation_short_name, error->message);
    exit(1);
}

uint8_t *bench_map_ram(uint64_t size)
{
    uint8_t *ram = mmap(NULL, size, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (ram == MAP_FAILED) {
        bench_die("no memory for guest RAM");
    }
    madvise(ram, size, MADV_NOHUGEPAGE);
    return ram;
}

void bench_warm_up(uint64_t size)
{
    uint8_t *ram = bench_map_ram(size);

    for (uint64_t at = 0; at < size; at += BENCH_PAGE) {
        ram[at] = 1;
    }
    munmap(ram, size);
}

RAMBlock bench_block(uint8_t *ram, uint64_t size)
{
    return (RAMBlock){ .idstr = "ram",
                       .host = ram,
                       .used_length = size,
                       .max_length = size,
                       .page_size = BENCH_PAGE };
}

void bench_fill(uint8_t *ram, uint64_t size, unsigned percent)
{
    GRand *random = g_rand_new_with_seed(percent);

    for (uint64_t at = 0; at < size;) {
        uint64_t length = (1 + g_rand_int_range(random, 0, 2 * MEAN_RUN - 1)) * BENCH_PAGE;

        length = MIN(length, size - at);
        if (percent == 100 || g_rand_int_range(random, 0, 100) < (int)percent) {
            for (uint64_t page = at; page < at + length; page += BENCH_PAGE) {
                memset(ram + page, 1 + page / BENCH_PAGE % 255, BENCH_PAGE);
            }
        }
        at += length;
    }
    g_rand_free(random);
}

void bench_save(int fd, uint8_t *ram, uint64_t size)
{
    const SaveOptions options = { .machine = "none",
                                  .target_page_size = BENCH_PAGE,
                                  .section_id = 2 };
    RAMBlock block = bench_block(ram, size);
    g_autoptr(GError) error = NULL;
    FdWriter writer;

    fd_writer_init(&writer, fd);
    if (!mapped_ram_save(&writer.writer, &block, 1, &options, &error)) {
        bench_die_error(error);
    }
}

int bench_open_scratch(const char *folder)
{
    g_autofree char *path = g_build_filename(folder, "bench-XXXXXX", NULL);
    int fd = mkostemp(path, O_CLOEXEC);

    if (fd < 0) {
        bench_die(path);
    }
    unlink(path);
    return fd;
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;

    return (x > y) - (x < y);
}

int bench_open_bare(const UffdOps *ops, uint8_t *ram, uint64_t size)
{
    g_autoptr(GError) error = NULL;
    Uffd uffd;
    bool huge;

    if (!uffd_open(ops, 0, 0, &uffd, &error) ||
        !uffd_register(ops, uffd.fd, ram, size, &huge, &error)) {
        bench_die_error(error);
    }
    if (fcntl(uffd.fd, F_SETFL, 0) < 0) {
        bench_die("userfaultfd cannot block");
    }
    return uffd.fd;
}

uint8_t *bench_read_fault(const UffdOps *ops, int uffd)
{
    struct uffd_msg message;

    if (ops->read(ops, uffd, &message, sizeof(message)) < 0) {
        bench_die("reading from userfaultfd");
    }
    return (uint8_t *)(uintptr_t)(message.arg.pagefault.address & ~(uint64_t)(BENCH_PAGE - 1));
}

double bench_median(double *values, unsigned n)
{
    qsort(values, n, sizeof(*values), compare_doubles);
    return n % 2 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

double bench_quantile(const double *values, unsigned n, double share)
{
    return values[MIN(n - 1, (unsigned)(share * n))];
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * See kept-file.h. Bytes are written through a mapping, which takes no system
 * call; the end alone is set by one. Behind the end the mapping must not be
 * touched: so the end is set first.
 */
#define _GNU_SOURCE /* memfd_create() */
#include "property/kept-file.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAPPED (UINT64_C(1) << 30) /* of the file, from its start, bytes */
#define MAX_KEPT 0x40000           /* bytes of data that are kept */
#define MAX_RANGES 128

/* Bytes from the start of the file. */
typedef struct Range {
    uint64_t start;
    uint64_t end;
} Range;

/* Where there may be bytes that are not zero. */
typedef struct Ranges {
    Range ranges[MAX_RANGES];
    unsigned n;
    uint64_t bytes;
} Ranges;

struct KeptFile {
    int fd;
    uint8_t *map;
    bool is_known; /* all of it is zero but what is in the ranges */
    Ranges ranges[2];
    unsigned written; /* number of those of the file; the other ones are of the next content */
};

KeptFile *kept_file_new(GError **error)
{
    KeptFile *self = g_new0(KeptFile, 1);

    self->map = MAP_FAILED;
    self->fd = memfd_create("pagewise-snapshot", MFD_CLOEXEC);
    if (self->fd >= 0) {
        self->map =
            mmap(NULL, MAPPED, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, self->fd, 0);
    }
    if (self->map == MAP_FAILED) {
        g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(errno),
                    "a file in memory cannot be made: %s", g_strerror(errno));
        kept_file_free(self);
        return NULL;
    }
    self->is_known = true;
    return self;
}

void kept_file_free(KeptFile *file)
{
    if (!file) {
        return;
    }
    if (file->map != MAP_FAILED) {
        munmap(file->map, MAPPED);
    }
    if (file->fd >= 0) {
        close(file->fd);
    }
    g_free(file);
}

/* False: there are too many of them, or they are too long. */
static bool add_range(Ranges *to, uint64_t start, uint64_t length)
{
    Range *last = to->n ? &to->ranges[to->n - 1] : NULL;

    to->bytes += length;
    if (to->bytes > MAX_KEPT || start + length > MAPPED) {
        return false;
    }
    if (last && last->end == start) {
        last->end += length;
        return true;
    }
    if (to->n == MAX_RANGES) {
        return false;
    }
    to->ranges[to->n++] = (Range){ start, start + length };
    return true;
}

static bool find_ranges(const SparseFile *content, Ranges *ranges)
{
    SparseExtent extent = { 0 };

    ranges->n = 0;
    ranges->bytes = 0;
    for (uint64_t at = 0; sparse_file_next_data(content, at, &extent);
         at = extent.offset + extent.length) {
        bool is_zero = extent.kind == SPARSE_FILL && extent.seed == 0;

        if (!is_zero && !add_range(ranges, extent.offset, extent.length)) {
            return false;
        }
    }
    return true;
}

static void zero_what_was_written(KeptFile *self, uint64_t size)
{
    const Ranges *written = &self->ranges[self->written];

    for (unsigned i = 0; i < written->n; i++) {
        const Range *range = &written->ranges[i];

        if (range->start < size) {
            memset(self->map + range->start, 0, MIN(range->end, size) - range->start);
        }
    }
}

/* What is kept of it is known the next time, if that can be known. */
static int write_anew(KeptFile *self, const SparseFile *content)
{
    bool ok = sparse_file_to_fd(content, self->fd, NULL);

    self->is_known = find_ranges(content, &self->ranges[self->written]) && ok;
    return ok ? self->fd : -1;
}

/* Where the end is right already, setting it would still take pages out of all mappings. */
static bool set_size(const KeptFile *self, uint64_t size)
{
    struct stat status;

    return (fstat(self->fd, &status) == 0 && (uint64_t)status.st_size == size) ||
           ftruncate(self->fd, (off_t)size) == 0;
}

int kept_file_write(KeptFile *file, const SparseFile *content)
{
    uint64_t size = sparse_file_size(content);
    Ranges *next = &file->ranges[!file->written];

    if (!file->is_known || !find_ranges(content, next)) {
        return write_anew(file, content);
    }
    if (!set_size(file, size)) {
        return -1;
    }
    zero_what_was_written(file, size);
    for (unsigned i = 0; i < next->n; i++) {
        const Range *range = &next->ranges[i];

        sparse_file_read(content, range->start, file->map + range->start,
                         range->end - range->start);
    }
    file->written = !file->written;
    return file->fd;
}

int kept_file_descriptor(const KeptFile *file)
{
    return file->fd;
}

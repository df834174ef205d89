/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See sparse-reader.h. */
#include "subject/sparse-reader.h"

#include <errno.h>

static ssize_t sparse_reader_pread(FileReader *reader, void *buffer, size_t length, uint64_t offset)
{
    SparseReader *self = (SparseReader *)reader;
    SubjectCost *cost = self->cost;
    uint64_t number = __atomic_add_fetch(&cost->reads, 1, __ATOMIC_RELAXED);
    size_t n;

    if (cost->log) {
        SubjectRead read = { offset, length };

        g_array_append_val(cost->log, read);
    }
    if (subject_read_fails(cost, number)) {
        return -EIO;
    }
    if (cost->cut_read && number >= cost->cut_read) {
        length = offset < cost->cut_size ? MIN(length, cost->cut_size - offset) : 0;
    }
    if (cost->max_read_length) {
        length = MIN(length, cost->max_read_length);
    }
    n = sparse_file_read(self->file, offset, buffer, length);
    __atomic_add_fetch(&cost->bytes_read, n, __ATOMIC_RELAXED);
    return n;
}

void sparse_reader_init(SparseReader *self, const SparseFile *file, SubjectCost *cost)
{
    *self = (SparseReader){
        .reader = { .pread = sparse_reader_pread, .size = sparse_file_size(file) },
        .file = file,
        .cost = cost,
    };
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See sparse-reader.h. */
#include "subject/sparse-reader.h"

#include <errno.h>

static ssize_t sparse_reader_pread(FileReader *reader, void *buffer, size_t length, uint64_t offset)
{
    SparseReader *self = (SparseReader *)reader;
    SubjectCost *cost = self->cost;
    size_t n;

    cost->reads++;
    if (cost->log) {
        SubjectRead read = { offset, length };

        g_array_append_val(cost->log, read);
    }
    if (cost->reads > cost->max_reads || cost->bytes_read > cost->max_bytes ||
        cost->reads == cost->fail_read ||
        (cost->fail_for_ever && cost->fail_read && cost->reads > cost->fail_read)) {
        return -EIO;
    }
    if (cost->cut_read && cost->reads >= cost->cut_read) {
        length = offset < cost->cut_size ? MIN(length, cost->cut_size - offset) : 0;
    }
    if (cost->max_read_length) {
        length = MIN(length, cost->max_read_length);
    }
    n = sparse_file_read(self->file, offset, buffer, length);
    cost->bytes_read += n;
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

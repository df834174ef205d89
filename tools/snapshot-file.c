/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * See snapshot-file.h. What the model reads is loaded in chunks and kept:
 * memory is bounded by the stream's headers and the bitmaps (rules F4, F5, B1
 * of docs/mapped-ram-format.md); holes are never read. It does not know the
 * format: the judge alone says what is where.
 */
#define _GNU_SOURCE /* SEEK_DATA, TEMP_FAILURE_RETRY */

#include "tools/snapshot-file.h"

#include "tools/command.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/stat.h>
#include <unistd.h>

/* Read at once around each byte asked for. */
#define CHUNK_SIZE (UINT64_C(64) << 10)

struct SnapshotFile {
    int fd;
    uint64_t size;
    uint64_t disk_size;
    SparseFile *content;
    GHashTable *loaded; /* offsets of chunks, guint64 */
    GError *error;      /* the first one of loading content */
};

/*
 * The model's functions have no context argument: this finds the SnapshotFile
 * that belongs to a SparseFile. The command has one thread.
 */
static GSList *open_files;

bool __real_sparse_file_next_data(const SparseFile *content, uint64_t offset, SparseExtent *extent);
bool __wrap_sparse_file_next_data(const SparseFile *content, uint64_t offset, SparseExtent *extent);
size_t __real_sparse_file_read(const SparseFile *content, uint64_t offset, void *buffer,
                               size_t length);
size_t __wrap_sparse_file_read(const SparseFile *content, uint64_t offset, void *buffer,
                               size_t length);
size_t __real_sparse_file_compare(const SparseFile *content, uint64_t offset, const void *bytes,
                                  size_t length);
size_t __wrap_sparse_file_compare(const SparseFile *content, uint64_t offset, const void *bytes,
                                  size_t length);

static SnapshotFile *find_open(const SparseFile *content)
{
    for (GSList *item = open_files; item; item = item->next) {
        SnapshotFile *file = item->data;

        if (file->content == content) {
            return file;
        }
    }
    return NULL;
}

bool snapshot_file_read(SnapshotFile *file, uint64_t offset, void *buffer, size_t length,
                        GError **error)
{
    size_t done = 0;

    while (done < length) {
        ssize_t n = TEMP_FAILURE_RETRY(
            pread(file->fd, (char *)buffer + done, length - done, (off_t)(offset + done)));

        if (n <= 0) {
            g_set_error(error, COMMAND_ERROR, COMMAND_ERROR_INPUT,
                        "reading %zu bytes at file offset 0x%" PRIx64 " failed: %s", length, offset,
                        n < 0 ? g_strerror(errno) : "the file became shorter meanwhile");
            return false;
        }
        done += (size_t)n;
    }
    return true;
}

uint64_t snapshot_file_next_data(const SnapshotFile *file, uint64_t offset)
{
    off_t data;

    if (offset >= file->size) {
        return file->size;
    }
    data = lseek(file->fd, (off_t)offset, SEEK_DATA);
    if (data >= 0) {
        return MIN((uint64_t)data, file->size);
    }
    /* Where holes cannot be found all counts as data. */
    return errno == ENXIO ? file->size : offset;
}

static bool is_loaded(const SnapshotFile *file, uint64_t chunk)
{
    return g_hash_table_contains(file->loaded, &chunk);
}

/* What cannot be read stays a hole; snapshot_file_check() tells. */
static void load_chunk(SnapshotFile *file, uint64_t chunk)
{
    size_t length = MIN(CHUNK_SIZE, file->size - chunk);
    g_autofree uint8_t *buffer = g_malloc(length);

    g_hash_table_add(file->loaded, g_memdup2(&chunk, sizeof(chunk)));
    if (snapshot_file_read(file, chunk, buffer, length, file->error ? NULL : &file->error)) {
        sparse_file_write(file->content, chunk, buffer, length);
    }
}

static void load_range(SnapshotFile *file, uint64_t offset, uint64_t length)
{
    uint64_t end = offset + MIN(length, file->size - MIN(offset, file->size));

    while (offset < end) {
        uint64_t chunk = offset - offset % CHUNK_SIZE;

        if (!is_loaded(file, chunk)) {
            offset = snapshot_file_next_data(file, offset);
            if (offset >= end) {
                return;
            }
            chunk = offset - offset % CHUNK_SIZE;
        }
        if (!is_loaded(file, chunk)) {
            load_chunk(file, chunk);
        }
        offset = chunk + CHUNK_SIZE;
    }
}

/* A loaded chunk is one extent: the first data is loaded, so it is found. */
bool __wrap_sparse_file_next_data(const SparseFile *content, uint64_t offset, SparseExtent *extent)
{
    SnapshotFile *file = find_open(content);

    if (file && offset < file->size && !is_loaded(file, offset - offset % CHUNK_SIZE)) {
        load_range(file, snapshot_file_next_data(file, offset), 1);
    }
    return __real_sparse_file_next_data(content, offset, extent);
}

size_t __wrap_sparse_file_read(const SparseFile *content, uint64_t offset, void *buffer,
                               size_t length)
{
    SnapshotFile *file = find_open(content);

    if (file) {
        load_range(file, offset, length);
    }
    return __real_sparse_file_read(content, offset, buffer, length);
}

size_t __wrap_sparse_file_compare(const SparseFile *content, uint64_t offset, const void *bytes,
                                  size_t length)
{
    SnapshotFile *file = find_open(content);

    if (file) {
        load_range(file, offset, length);
    }
    return __real_sparse_file_compare(content, offset, bytes, length);
}

static const char *what_is_wrong(const struct stat *status)
{
    if (S_ISDIR(status->st_mode)) {
        return "is a folder, not a snapshot: name a file in it";
    }
    if (S_ISFIFO(status->st_mode) || S_ISSOCK(status->st_mode)) {
        return "is a pipe; a snapshot is not read from front to back: store it in a file first";
    }
    if (!S_ISREG(status->st_mode)) {
        return "is a device, not a file: copy the snapshot out of it first";
    }
    return status->st_size == 0
               ? "is empty: nothing was saved into it; look at the log of the QEMU that should have"
               : NULL;
}

SnapshotFile *snapshot_file_open(const char *path, GError **error)
{
    /* O_NONBLOCK: to open a pipe must not wait for its writer. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat status;
    const char *wrong;
    SnapshotFile *file;

    if (fd < 0 || fstat(fd, &status) < 0) {
        g_set_error(error, COMMAND_ERROR, COMMAND_ERROR_INPUT, "cannot be opened: %s",
                    g_strerror(errno));
        if (fd >= 0) {
            close(fd);
        }
        return NULL;
    }
    wrong = what_is_wrong(&status);
    if (wrong) {
        g_set_error_literal(error, COMMAND_ERROR, COMMAND_ERROR_INPUT, wrong);
        close(fd);
        return NULL;
    }
    file = g_new0(SnapshotFile, 1);
    file->fd = fd;
    file->size = (uint64_t)status.st_size;
    file->disk_size = (uint64_t)status.st_blocks * 512;
    file->content = sparse_file_new();
    sparse_file_truncate(file->content, file->size);
    file->loaded = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);
    open_files = g_slist_prepend(open_files, file);
    return file;
}

void snapshot_file_close(SnapshotFile *file)
{
    open_files = g_slist_remove(open_files, file);
    g_hash_table_destroy(file->loaded);
    sparse_file_free(file->content);
    g_clear_error(&file->error);
    close(file->fd);
    g_free(file);
}

uint64_t snapshot_file_size(const SnapshotFile *file)
{
    return file->size;
}

uint64_t snapshot_file_disk_size(const SnapshotFile *file)
{
    return file->disk_size;
}

const SparseFile *snapshot_file_content(const SnapshotFile *file)
{
    return file->content;
}

bool snapshot_file_check(const SnapshotFile *file, GError **error)
{
    if (file->error) {
        g_propagate_error(error, g_error_copy(file->error));
        return false;
    }
    return true;
}

bool snapshot_file_copy(SnapshotFile *file, SparseFile *copy, uint64_t max_data, GError **error)
{
    return sparse_file_from_fd(copy, file->fd, max_data, error);
}

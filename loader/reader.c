/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reads files by descriptor and position: pread(2), never the file's own
 * position, so that several threads may share one descriptor. Judges nothing
 * of a file's content.
 */
#define _GNU_SOURCE /* SEEK_DATA */
#include "loader/reader.h"

#include "loader/error.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

static ssize_t fd_reader_pread(FileReader *reader, void *buffer, size_t length, uint64_t offset)
{
    FdReader *self = (FdReader *)reader;
    ssize_t result = pread(self->fd, buffer, length, (off_t)offset);

    return result < 0 ? -errno : result;
}

/* Of @fd, whose position moves. Returns false if the file system cannot tell. */
static bool seek_data(int fd, uint64_t offset, uint64_t size, uint64_t *begin, uint64_t *end)
{
    off_t data = lseek(fd, (off_t)offset, SEEK_DATA);
    off_t hole;

    if (data < 0) {
        /* A file that got shorter has no data there either: a read tells. */
        *begin = *end = size;
        return errno == ENXIO && lseek(fd, 0, SEEK_END) >= (off_t)size;
    }
    hole = lseek(fd, data, SEEK_HOLE);
    *begin = MIN((uint64_t)data, size);
    *end = MIN((uint64_t)hole, size);
    return hole > data;
}

/* lseek() would move the position that others may rely on: the file is opened anew. */
static void fd_reader_find_data(FileReader *reader, uint64_t offset, uint64_t *begin, uint64_t *end)
{
    FdReader *self = (FdReader *)reader;
    g_autofree char *path = g_strdup_printf("/proc/self/fd/%d", self->fd);
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0 || !seek_data(fd, offset, reader->size, begin, end)) {
        *begin = offset;
        *end = reader->size;
    }
    if (fd >= 0) {
        close(fd);
    }
}

gboolean fd_reader_init(FdReader *self, int fd, GError **error)
{
    struct stat status;

    if (fstat(fd, &status) < 0) {
        g_set_error(error, MAPPED_RAM_ERROR, MAPPED_RAM_ERROR_IO,
                    "file descriptor %d: cannot be examined: %s", fd, g_strerror(errno));
        return FALSE;
    }
    if (!S_ISREG(status.st_mode)) {
        g_set_error(error, MAPPED_RAM_ERROR, MAPPED_RAM_ERROR_IO,
                    "file descriptor %d: is %s; a snapshot is a regular file", fd,
                    S_ISDIR(status.st_mode) ? "a directory" : "a device, pipe or socket");
        return FALSE;
    }
    *self = (FdReader){
        .reader = { .pread = fd_reader_pread,
                    .find_data = fd_reader_find_data,
                    .size = (uint64_t)status.st_size },
        .fd = fd,
    };
    return TRUE;
}

ssize_t file_reader_read_at_least(FileReader *reader, void *buffer, size_t minimum, size_t maximum,
                                  uint64_t offset)
{
    size_t done = 0;

    while (done < minimum) {
        ssize_t result =
            reader->pread(reader, (uint8_t *)buffer + done, maximum - done, offset + done);

        if (result == -EINTR) {
            continue;
        }
        if (result < 0) {
            return result;
        }
        if (result == 0) {
            break;
        }
        done += (size_t)result;
    }
    return (ssize_t)done;
}

ssize_t file_reader_read_full(FileReader *reader, void *buffer, size_t length, uint64_t offset)
{
    return file_reader_read_at_least(reader, buffer, length, length, offset);
}

void file_reader_find_data(FileReader *reader, uint64_t offset, uint64_t *begin, uint64_t *end)
{
    if (reader->find_data) {
        reader->find_data(reader, offset, begin, end);
    } else {
        *begin = offset;
        *end = MAX(offset, reader->size);
    }
}

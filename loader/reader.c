/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reads files by descriptor and position: pread(2), never the file's own
 * position, so that several threads may share one descriptor. Judges nothing
 * of a file's content.
 */
#include "loader/reader.h"

#include "loader/error.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

static ssize_t fd_reader_pread(FileReader *reader, void *buffer, size_t length, uint64_t offset)
{
    FdReader *self = (FdReader *)reader;
    ssize_t result = pread(self->fd, buffer, length, (off_t)offset);

    return result < 0 ? -errno : result;
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
        .reader = { .pread = fd_reader_pread, .size = (uint64_t)status.st_size },
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

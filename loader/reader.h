/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where the loader reads from: a file descriptor, or whatever a test supplies.
 * This interface is all that the rest of loader/ knows of files.
 */
#ifndef PAGEWISE_LOADER_READER_H
#define PAGEWISE_LOADER_READER_H

#include <glib.h>
#include <stdint.h>
#include <sys/types.h>

typedef struct FileReader FileReader;

struct FileReader {
    /*
     * Reads up to @length bytes at @offset. Returns how many (0: end of file;
     * a short read is not an error, the caller goes on), or -errno (after
     * -EINTR the caller tries again). May be called from several threads at
     * once.
     */
    ssize_t (*pread)(FileReader *reader, void *buffer, size_t length, uint64_t offset);
    /*
     * Where the first data at or after @offset begins and ends, both @size if
     * there is none: what is before @begin is a hole and reads as zeroes. May
     * call data what is a hole. NULL: all is data.
     */
    void (*find_data)(FileReader *reader, uint64_t offset, uint64_t *begin, uint64_t *end);
    /* Apparent size of the file, bytes, when the load began. */
    uint64_t size;
};

typedef struct FdReader {
    FileReader reader;
    int fd; /* borrowed */
} FdReader;

/*
 * Initialises a reader of @fd (borrowed), which must be a regular file open
 * for reading; its file position is neither used nor moved.
 * @error: MAPPED_RAM_ERROR_IO.
 */
gboolean fd_reader_init(FdReader *self, int fd, GError **error);

/*
 * Reads at least @minimum and at most @maximum bytes, going on after short
 * reads and EINTR. Returns the number of bytes read (less than @minimum only
 * at the end of the file), or -errno.
 */
ssize_t file_reader_read_at_least(FileReader *reader, void *buffer, size_t minimum, size_t maximum,
                                  uint64_t offset);

/*
 * Reads exactly @length bytes, going on after short reads and EINTR.
 * Returns the number of bytes read (less than @length only at the end of the
 * file), or -errno.
 */
ssize_t file_reader_read_full(FileReader *reader, void *buffer, size_t length, uint64_t offset);

/* reader->find_data(), where there is one. */
void file_reader_find_data(FileReader *reader, uint64_t offset, uint64_t *begin, uint64_t *end);

#endif

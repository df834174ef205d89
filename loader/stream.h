/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A buffered, seekable stream of big-endian fields over a FileReader: what
 * QEMUFile (migration/qemu-file.c) is to QEMU's loader. Every getter that
 * meets the end of the file fails with rule F4 and the field's name; one whose
 * reader fails, with MAPPED_RAM_ERROR_IO.
 */
#ifndef PAGEWISE_LOADER_STREAM_H
#define PAGEWISE_LOADER_STREAM_H

#include "loader/error.h"
#include "loader/reader.h"

#include <stdbool.h>

#define LOADER_STREAM_BUFFER 4096
#define LOADER_STREAM_STR8_SIZE 256 /* of a buffer for any str8, with its NUL */

typedef struct LoaderStream {
    FileReader *reader; /* borrowed */
    const char *block;  /* idstr that errors name; borrowed; NULL: none */
    uint64_t position;  /* file offset of the next byte */
    uint64_t buffer_at; /* file offset of buffer[0] */
    size_t buffered;    /* bytes in buffer */
    uint8_t buffer[LOADER_STREAM_BUFFER];
} LoaderStream;

void loader_stream_init(LoaderStream *stream, FileReader *reader, uint64_t position);

bool loader_stream_u8(LoaderStream *stream, const char *field, uint8_t *value, GError **error);
bool loader_stream_be16(LoaderStream *stream, const char *field, uint16_t *value, GError **error);
bool loader_stream_be32(LoaderStream *stream, const char *field, uint32_t *value, GError **error);
bool loader_stream_be64(LoaderStream *stream, const char *field, uint64_t *value, GError **error);

/* @length: at most LOADER_STREAM_BUFFER. */
bool loader_stream_bytes(LoaderStream *stream, const char *field, void *bytes, size_t length,
                         GError **error);

/*
 * A length byte and as many bytes, which are put into @text with a NUL behind.
 * Bytes of value 0 among them are kept: @length tells.
 */
bool loader_stream_str8(LoaderStream *stream, const char *field,
                        char text[static LOADER_STREAM_STR8_SIZE], uint8_t *length, GError **error);

/* Skips @length bytes, which must be in the file, without reading them. */
bool loader_stream_skip(LoaderStream *stream, const char *field, uint64_t length, GError **error);

/*
 * Reads @length bytes at @offset, from the buffer where they are there, without
 * moving the stream. Returns as file_reader_read_full().
 */
ssize_t loader_stream_read_at(const LoaderStream *stream, void *bytes, size_t length,
                              uint64_t offset);

/* The next read starts at @position. Never fails; a read there may. */
void loader_stream_seek(LoaderStream *stream, uint64_t position);

/* The place of the field that stands at @offset, for an error. */
FieldAt loader_stream_field(const LoaderStream *stream, const char *field, uint64_t offset);

#endif

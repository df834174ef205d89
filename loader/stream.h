/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A buffered, seekable stream of big-endian fields over a FileReader: what
 * QEMUFile (migration/qemu-file.c) is to QEMU's loader. Every getter that
 * meets the end of the file fails with rule F4 and the field's name.
 */
#ifndef PAGEWISE_LOADER_STREAM_H
#define PAGEWISE_LOADER_STREAM_H

#include "loader/reader.h"

#include <stdbool.h>

#define LOADER_STREAM_BUFFER 4096

typedef struct LoaderStream {
    FileReader *reader; /* borrowed */
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
bool loader_stream_bytes(LoaderStream *stream, const char *field, void *bytes, size_t length,
                         GError **error);

/* The next read starts at @position. Never fails; a read there may. */
void loader_stream_seek(LoaderStream *stream, uint64_t position);

#endif

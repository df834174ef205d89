/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fields, one after the other, through a buffer of 4 KiB that is refilled only
 * when a field is not in it; rules F3 and F4 of docs/mapped-ram-format.md.
 * Reads nothing at or beyond the size that the file had when the load began.
 */
#include "loader/stream.h"

#include <inttypes.h>
#include <string.h>

/* The buffer stays as it is: clearing it would cost more than a small load. */
void loader_stream_init(LoaderStream *stream, FileReader *reader, uint64_t position)
{
    stream->reader = reader;
    stream->block = NULL;
    stream->position = position;
    stream->buffer_at = position;
    stream->buffered = 0;
}

FieldAt loader_stream_field(const LoaderStream *stream, const char *field, uint64_t offset)
{
    return (FieldAt){ .block = stream->block, .field = field, .offset = offset };
}

static uint64_t bytes_left(const LoaderStream *stream)
{
    uint64_t size = stream->reader->size;

    return stream->position < size ? size - stream->position : 0;
}

/* Inline, as is the quick way through take(): a file has more fields than anything else. */
static inline size_t bytes_ready(const LoaderStream *stream)
{
    return (size_t)(stream->buffer_at + stream->buffered - stream->position);
}

static bool refuse_end(LoaderStream *stream, const char *field, uint64_t length, uint64_t end,
                       GError **error)
{
    return mapped_ram_refuse_field(error, MAPPED_RAM_ERROR_TRUNCATED, "F4",
                                   loader_stream_field(stream, field, stream->position),
                                   "needs %" PRIu64 " bytes, but the file ends at 0x%" PRIx64,
                                   length, end);
}

/* Moves what is left in the buffer to its start and reads more behind it. */
static bool refill(LoaderStream *stream, const char *field, size_t length, GError **error)
{
    size_t ready = bytes_ready(stream);
    size_t room = LOADER_STREAM_BUFFER - ready;
    ssize_t result;

    memmove(stream->buffer, stream->buffer + stream->buffered - ready, ready);
    stream->buffer_at = stream->position;
    stream->buffered = ready;
    result =
        file_reader_read_at_least(stream->reader, stream->buffer + ready, length - ready,
                                  MIN(room, bytes_left(stream) - ready), stream->position + ready);
    if (result < 0) {
        return mapped_ram_refuse_field(error, MAPPED_RAM_ERROR_IO, NULL,
                                       loader_stream_field(stream, field, stream->position),
                                       "reading failed: %s", g_strerror((int)-result));
    }
    stream->buffered += (size_t)result;
    if (stream->buffered < length) {
        return refuse_end(stream, field, length, stream->position + stream->buffered, error);
    }
    return true;
}

/* For a field that is not all in the buffer. */
static bool fetch(LoaderStream *stream, const char *field, size_t length, GError **error)
{
    if (bytes_left(stream) < length) {
        return refuse_end(stream, field, length, stream->reader->size, error);
    }
    return refill(stream, field, length, error);
}

/* The next @length bytes in the buffer, or NULL with @error. */
static const uint8_t *take(LoaderStream *stream, const char *field, size_t length, GError **error)
{
    const uint8_t *bytes;

    if (bytes_ready(stream) < length && !fetch(stream, field, length, error)) {
        return NULL;
    }
    bytes = stream->buffer + (stream->position - stream->buffer_at);
    stream->position += length;
    return bytes;
}

/* memcpy(), for GUINT*_FROM_BE: fields are not aligned. */
#define DEFINE_GETTER(name, type, from_be)                                                         \
    bool loader_stream_##name(LoaderStream *stream, const char *field, type *value,                \
                              GError **error)                                                      \
    {                                                                                              \
        const uint8_t *bytes = take(stream, field, sizeof(*value), error);                         \
                                                                                                   \
        if (!bytes) {                                                                              \
            return false;                                                                          \
        }                                                                                          \
        memcpy(value, bytes, sizeof(*value));                                                      \
        *value = from_be(*value);                                                                  \
        return true;                                                                               \
    }

DEFINE_GETTER(u8, uint8_t, )
DEFINE_GETTER(be16, uint16_t, GUINT16_FROM_BE)
DEFINE_GETTER(be32, uint32_t, GUINT32_FROM_BE)
DEFINE_GETTER(be64, uint64_t, GUINT64_FROM_BE)

bool loader_stream_bytes(LoaderStream *stream, const char *field, void *bytes, size_t length,
                         GError **error)
{
    const uint8_t *taken = take(stream, field, length, error);

    if (!taken) {
        return false;
    }
    memcpy(bytes, taken, length);
    return true;
}

bool loader_stream_str8(LoaderStream *stream, const char *field,
                        char text[static LOADER_STREAM_STR8_SIZE], uint8_t *length, GError **error)
{
    if (!loader_stream_u8(stream, field, length, error) ||
        !loader_stream_bytes(stream, field, text, *length, error)) {
        return false;
    }
    text[*length] = '\0';
    return true;
}

bool loader_stream_skip(LoaderStream *stream, const char *field, uint64_t length, GError **error)
{
    if (bytes_left(stream) < length) {
        return refuse_end(stream, field, length, stream->reader->size, error);
    }
    loader_stream_seek(stream, stream->position + length);
    return true;
}

ssize_t loader_stream_read_at(const LoaderStream *stream, void *bytes, size_t length,
                              uint64_t offset)
{
    uint64_t at = offset - stream->buffer_at; /* wraps if before, to what is not in it */

    if (at > stream->buffered || length > stream->buffered - at) {
        return file_reader_read_full(stream->reader, bytes, length, offset);
    }
    memcpy(bytes, stream->buffer + at, length);
    return (ssize_t)length;
}

void loader_stream_seek(LoaderStream *stream, uint64_t position)
{
    stream->position = position;
    if (position < stream->buffer_at || position - stream->buffer_at > stream->buffered) {
        stream->buffer_at = position;
        stream->buffered = 0;
    }
}

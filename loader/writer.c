/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Writes what section 11 of docs/mapped-ram-format.md says. Fields go through a
 * small buffer, pages straight from guest RAM; the first failure is kept, what
 * comes after it is not written, and mapped_ram_save() reports it.
 */
#include "loader/writer.h"

#include "loader/buffer-is-zero.h"
#include "loader/error.h"
#include "loader/format.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define PAGES_PER_WORD 64
#define SAVE_CHUNK 0x100000 /* the longest write of pages, bytes */

static int fd_writer_pwrite(FileWriter *writer, const void *buffer, size_t length, uint64_t offset)
{
    FdWriter *self = (FdWriter *)writer;
    size_t done = 0;

    while (done < length) {
        ssize_t result =
            pwrite(self->fd, (const uint8_t *)buffer + done, length - done, (off_t)(offset + done));

        if (result < 0 && errno == EINTR) {
            continue;
        }
        if (result <= 0) {
            return result < 0 ? -errno : -EIO;
        }
        done += (size_t)result;
    }
    return 0;
}

void fd_writer_init(FdWriter *self, int fd)
{
    *self = (FdWriter){ .writer = { .pwrite = fd_writer_pwrite }, .fd = fd };
}

/* Fields in their order. */
typedef struct OutStream {
    FileWriter *writer;
    const char *block; /* whom errors name */
    uint64_t position; /* file offset of buffer[0] */
    size_t buffered;
    uint8_t buffer[512];
    bool failed;
    GError **error;
} OutStream;

static void write_at(OutStream *f, const char *field, const void *bytes, size_t length,
                     uint64_t offset)
{
    FieldAt at = { .block = f->block, .field = field, .offset = offset };
    int result;

    if (f->failed || length == 0) {
        return;
    }
    result = f->writer->pwrite(f->writer, bytes, length, offset);
    if (result < 0) {
        f->failed = true;
        mapped_ram_refuse_field(f->error, MAPPED_RAM_ERROR_IO, NULL, at,
                                "writing 0x%zx bytes failed: %s", length, g_strerror(-result));
    }
}

static void flush(OutStream *f)
{
    write_at(f, "fields", f->buffer, f->buffered, f->position);
    f->position += f->buffered;
    f->buffered = 0;
}

/* What stands between here and @position stays a hole. */
static void seek(OutStream *f, uint64_t position)
{
    flush(f);
    f->position = position;
}

static uint64_t tell(const OutStream *f)
{
    return f->position + f->buffered;
}

static void put_bytes(OutStream *f, const void *bytes, size_t length)
{
    const uint8_t *from = bytes;

    while (length > 0) {
        size_t chunk = MIN(length, sizeof(f->buffer) - f->buffered);

        memcpy(f->buffer + f->buffered, from, chunk);
        f->buffered += chunk;
        from += chunk;
        length -= chunk;
        if (f->buffered == sizeof(f->buffer)) {
            flush(f);
        }
    }
}

static void put_u8(OutStream *f, uint8_t value)
{
    put_bytes(f, &value, sizeof(value));
}

static void put_be16(OutStream *f, uint16_t value)
{
    value = GUINT16_TO_BE(value);
    put_bytes(f, &value, sizeof(value));
}

static void put_be32(OutStream *f, uint32_t value)
{
    value = GUINT32_TO_BE(value);
    put_bytes(f, &value, sizeof(value));
}

static void put_be64(OutStream *f, uint64_t value)
{
    value = GUINT64_TO_BE(value);
    put_bytes(f, &value, sizeof(value));
}

static void put_str8(OutStream *f, const char *text)
{
    put_u8(f, (uint8_t)strlen(text));
    put_bytes(f, text, strlen(text));
}

static void put_configuration(OutStream *f, const SaveOptions *options)
{
    put_be32(f, QEMU_VM_FILE_MAGIC);
    put_be32(f, QEMU_VM_FILE_VERSION);
    put_u8(f, QEMU_VM_CONFIGURATION);
    put_be32(f, (uint32_t)strlen(options->machine));
    put_bytes(f, options->machine, strlen(options->machine));
    put_u8(f, QEMU_VM_SUBSECTION);
    put_str8(f, "configuration/capabilities");
    put_be32(f, QEMU_VM_SUBSECTION_VERSION);
    put_be32(f, options->x_ignore_shared ? 2 : 1);
    if (options->x_ignore_shared) {
        put_str8(f, "x-ignore-shared");
    }
    put_str8(f, "mapped-ram");
}

static void put_section_start(OutStream *f, const SaveOptions *options, uint64_t total)
{
    put_u8(f, QEMU_VM_SECTION_START);
    put_be32(f, options->section_id);
    put_str8(f, "ram");
    put_be32(f, 0);
    put_be32(f, RAM_SECTION_VERSION);
    put_be64(f, total | RAM_SAVE_FLAG_MEM_SIZE);
}

static void put_footer(OutStream *f, const SaveOptions *options)
{
    put_u8(f, QEMU_VM_SECTION_FOOTER);
    put_be32(f, options->section_id);
}

static void put_tail(OutStream *f, const SaveOptions *options)
{
    if (options->tail) {
        put_bytes(f, options->tail, options->tail_length);
        return;
    }
    put_u8(f, QEMU_VM_COMMAND);
    put_be16(f, MIG_CMD_SWITCHOVER_START);
    put_be16(f, 0);
    put_u8(f, QEMU_VM_SECTION_END);
    put_be32(f, options->section_id);
    put_be64(f, RAM_SAVE_FLAG_EOS);
    put_footer(f, options);
    put_u8(f, QEMU_VM_EOF);
}

/* Sets the bits of pages with content in @bitmap, little-endian (rule B1). */
static void find_pages(const RAMBlock *block, uint64_t page_size, uint64_t *bitmap)
{
    uint64_t pages = block->used_length / page_size;

    for (uint64_t page = 0; page < pages; page++) {
        if (!buffer_is_zero(block->host + page * page_size, page_size)) {
            bitmap[page / PAGES_PER_WORD] |= GUINT64_TO_LE(UINT64_C(1) << (page % PAGES_PER_WORD));
        }
    }
}

static bool test_page(const uint64_t *bitmap, uint64_t page)
{
    return GUINT64_FROM_LE(bitmap[page / PAGES_PER_WORD]) >> (page % PAGES_PER_WORD) & 1;
}

/* Writes the runs of pages with content to @pages_offset on. */
static void write_pages(OutStream *f, const RAMBlock *block, uint64_t page_size,
                        const uint64_t *bitmap, uint64_t pages_offset)
{
    uint64_t pages = block->used_length / page_size;
    uint64_t run = 0; /* pages, up to @page */

    for (uint64_t page = 0; page <= pages; page++) {
        bool set = page < pages && test_page(bitmap, page);

        if (run > 0 && (!set || (run + 1) * page_size > SAVE_CHUNK)) {
            uint64_t offset = (page - run) * page_size;

            write_at(f, "pages", block->host + offset, run * page_size, pages_offset + offset);
            run = 0;
        }
        run += set;
    }
}

static void put_header(OutStream *f, uint64_t page_size, uint64_t bitmap_offset,
                       uint64_t pages_offset)
{
    put_be32(f, MAPPED_RAM_HDR_VERSION);
    put_be64(f, page_size);
    put_be64(f, bitmap_offset);
    put_be64(f, pages_offset);
}

static uint64_t round_up(uint64_t value, uint64_t multiple)
{
    return (value + multiple - 1) / multiple * multiple;
}

/* Header, bitmap and pages. */
static void put_ram(OutStream *f, const RAMBlock *block, uint64_t page_size)
{
    uint64_t words = round_up(block->used_length / page_size, PAGES_PER_WORD) / PAGES_PER_WORD;
    uint64_t bitmap_offset = tell(f) + MAPPED_RAM_HDR_SIZE;
    uint64_t pages_offset =
        round_up(bitmap_offset + words * sizeof(uint64_t), MAPPED_RAM_FILE_OFFSET_ALIGNMENT);
    g_autofree uint64_t *bitmap = g_try_new0(uint64_t, words);

    if (!bitmap && words > 0) {
        FieldAt at = { .block = block->idstr, .field = "bitmap", .offset = bitmap_offset };

        f->failed = true;
        mapped_ram_refuse_field(f->error, MAPPED_RAM_ERROR_NO_MEMORY, NULL, at,
                                "no memory for 0x%zx bytes", (size_t)words * sizeof(uint64_t));
        return;
    }
    find_pages(block, page_size, bitmap);
    put_header(f, page_size, bitmap_offset, pages_offset);
    flush(f);
    write_at(f, "bitmap", bitmap, words * sizeof(uint64_t), bitmap_offset);
    write_pages(f, block, page_size, bitmap, pages_offset);
    seek(f, pages_offset + block->used_length);
}

static void put_block(OutStream *f, const RAMBlock *block, const SaveOptions *options)
{
    f->block = block->idstr;
    put_str8(f, block->idstr);
    put_be64(f, block->used_length);
    if (options->x_ignore_shared) {
        put_be64(f, block->gpa);
    }
    if (options->x_ignore_shared && block->ignored) {
        put_header(f, options->target_page_size, 0, 0);
    } else {
        put_ram(f, block, options->target_page_size);
    }
    flush(f);
    f->block = NULL;
}

bool mapped_ram_save(FileWriter *writer, const RAMBlock *blocks, unsigned n_blocks,
                     const SaveOptions *options, GError **error)
{
    OutStream f = { .writer = writer, .error = error };
    uint64_t total = 0;

    for (unsigned i = 0; i < n_blocks; i++) {
        total += blocks[i].used_length;
    }
    put_configuration(&f, options);
    put_section_start(&f, options, total);
    flush(&f);
    for (unsigned i = 0; i < n_blocks && !f.failed; i++) {
        put_block(&f, &blocks[i], options);
    }
    put_be64(&f, RAM_SAVE_FLAG_EOS);
    put_footer(&f, options);
    put_tail(&f, options);
    flush(&f);
    return !f.failed;
}

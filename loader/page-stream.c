/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See page-stream.h. One function for each thing that the document names. */
#include "loader/page-stream.h"

#include "loader/error.h"
#include "loader/format.h"

#include <inttypes.h>
#include <string.h>

typedef struct Word {
    uint64_t position; /* of it in the channel */
    uint64_t addr;
    uint64_t flags;
} Word;

static FieldAt at_offset(const PageStream *self, const RAMBlock *rb, const char *field,
                         uint64_t offset)
{
    return (FieldAt){
        .block = rb ? rb->idstr : NULL,
        .field = field,
        .offset = offset,
        .stream = self->channel == RAM_CHANNEL_PRECOPY ? "main channel" : "preempt channel",
    };
}

/* Reading. */

static bool refuse_read(const PageStream *self, const char *field, ssize_t result, GError **error)
{
    FieldAt at = at_offset(self, self->rb, field, self->position);

    if (result == 0) {
        return mapped_ram_refuse_field(error, MAPPED_RAM_ERROR_TRUNCATED, "W17", at,
                                       "the channel ends before its stream does");
    }
    return mapped_ram_refuse_field(error, MAPPED_RAM_ERROR_IO, NULL, at, "reading failed: %s",
                                   g_strerror((int)-result));
}

static bool get_bytes(PageStream *self, const char *field, void *out, size_t length, GError **error)
{
    uint8_t *to = out;

    while (length > 0) {
        size_t n = MIN(length, self->end - self->start);

        if (n == 0) {
            ssize_t result =
                self->ops->read(self->opaque, self->position, self->buffer, sizeof(self->buffer));

            if (result <= 0) {
                return refuse_read(self, field, result, error);
            }
            self->start = 0;
            self->end = (size_t)result;
            continue;
        }
        memcpy(to, self->buffer + self->start, n);
        self->start += n;
        self->position += n;
        to += n;
        length -= n;
    }
    return true;
}

static bool get_be(PageStream *self, const char *field, unsigned width, uint64_t *value,
                   GError **error)
{
    uint8_t bytes[8];

    if (!get_bytes(self, field, bytes, width, error)) {
        return false;
    }
    *value = 0;
    for (unsigned i = 0; i < width; i++) {
        *value = *value << 8 | bytes[i];
    }
    return true;
}

/* The rest of a str8 of which the length was read. */
static bool get_block(PageStream *self, const char *rule, uint64_t length, RAMBlock **rb,
                      GError **error)
{
    FieldAt at = at_offset(self, NULL, "idstr", self->position);
    char name[256] = { 0 };

    if (!get_bytes(self, "idstr", name, length, error)) {
        return false;
    }
    for (unsigned i = 0; i < self->n_blocks; i++) {
        if (strlen(self->blocks[i].idstr) == length &&
            memcmp(self->blocks[i].idstr, name, length) == 0) {
            *rb = &self->blocks[i];
            return true;
        }
    }
    return mapped_ram_refuse_name(error, MAPPED_RAM_ERROR_MISMATCH, rule, at, name,
                                  "is no block of the guest");
}

/* RAM words. */

static bool get_word(PageStream *self, Word *word, GError **error)
{
    uint64_t value;

    word->position = self->position;
    if (!get_be(self, "word", 8, &value, error)) {
        return false;
    }
    word->flags = value & (self->target_page_size - 1);
    word->addr = value - word->flags;
    switch (word->flags & ~(uint64_t)RAM_SAVE_FLAG_CONTINUE) {
    case RAM_SAVE_FLAG_ZERO:
    case RAM_SAVE_FLAG_PAGE:
    case RAM_SAVE_FLAG_EOS:
        return true;
    default:
        return mapped_ram_refuse(error, MAPPED_RAM_ERROR_INVALID, "W9",
                                 at_offset(self, NULL, "flags", word->position), word->flags,
                                 "are none of ZERO, PAGE and EOS");
    }
}

static bool get_block_of_word(PageStream *self, const Word *word, RAMBlock **rb, GError **error)
{
    uint64_t length;

    if (word->flags & RAM_SAVE_FLAG_CONTINUE) {
        *rb = self->last_recv_block;
        return *rb ? true
                   : mapped_ram_refuse(error, MAPPED_RAM_ERROR_INVALID, "W11",
                                       at_offset(self, NULL, "flags", word->position), word->flags,
                                       "continue, and no block was named before");
    }
    if (!get_be(self, "idstr", 1, &length, error) || !get_block(self, "W12", length, rb, error)) {
        return false;
    }
    self->last_recv_block = *rb;
    return true;
}

/* The first target page of a host page, or the next of the one that is begun? */
static bool check_order(PageStream *self, const Word *word, RAMBlock *rb, GError **error)
{
    FieldAt at = at_offset(self, rb, "address", word->position);
    uint64_t page = word->addr / rb->page_size;
    uint64_t next = page * rb->page_size + self->target_pages * self->target_page_size;

    if (self->rb && (rb != self->rb || page != self->host_page)) {
        return mapped_ram_refuse(error, MAPPED_RAM_ERROR_INVALID, "W14", at, word->addr,
                                 "host page 0x%" PRIx64 " of block '%s' is not complete",
                                 self->host_page, self->rb->idstr);
    }
    if (word->addr != next) {
        return mapped_ram_refuse(error, MAPPED_RAM_ERROR_INVALID, "W14", at, word->addr,
                                 "the host page's next target page is at 0x%" PRIx64, next);
    }
    self->rb = rb;
    self->host_page = page;
    return true;
}

static bool check_address(PageStream *self, const Word *word, RAMBlock *rb, GError **error)
{
    if (word->addr >= rb->used_length) {
        return mapped_ram_refuse(error, MAPPED_RAM_ERROR_INVALID, "W13",
                                 at_offset(self, rb, "address", word->position), word->addr,
                                 "is not below used_length 0x%" PRIx64, rb->used_length);
    }
    return check_order(self, word, rb, error);
}

static bool get_zero(PageStream *self, uint8_t *to, GError **error)
{
    uint64_t offset = self->position;
    uint64_t byte;

    if (!get_be(self, "fill", 1, &byte, error)) {
        return false;
    }
    if (byte != 0) {
        return mapped_ram_refuse(error, MAPPED_RAM_ERROR_INVALID, "W15",
                                 at_offset(self, self->rb, "fill", offset), byte,
                                 "a page that is not sent is a page of zeroes");
    }
    memset(to, 0, self->target_page_size);
    return true;
}

static void forget_host_page(PageStream *self)
{
    self->rb = NULL;
    self->target_pages = 0;
    self->all_zero = true;
}

static bool finish_target_page(PageStream *self, GError **error)
{
    RAMBlock *rb = self->rb;
    bool ok;

    if (++self->target_pages < rb->page_size / self->target_page_size) {
        return true;
    }
    ok = self->ops->page(self->opaque, rb, self->host_page, self->all_zero ? NULL : self->page,
                         error);
    forget_host_page(self);
    return ok;
}

static bool get_page(PageStream *self, const Word *word, GError **error)
{
    uint8_t *to = self->page + self->target_pages * self->target_page_size;
    RAMBlock *rb;

    if (!get_block_of_word(self, word, &rb, error) || !check_address(self, word, rb, error)) {
        return false;
    }
    if (word->flags & RAM_SAVE_FLAG_ZERO) {
        return get_zero(self, to, error) && finish_target_page(self, error);
    }
    self->all_zero = false;
    return get_bytes(self, "page", to, self->target_page_size, error) &&
           finish_target_page(self, error);
}

/* Up to EOS. */
static bool get_words(PageStream *self, GError **error)
{
    Word word;

    while (get_word(self, &word, error)) {
        if (!(word.flags & RAM_SAVE_FLAG_EOS)) {
            if (!get_page(self, &word, error)) {
                return false;
            }
        } else if (self->rb) {
            return mapped_ram_refuse(error, MAPPED_RAM_ERROR_INVALID, "W16",
                                     at_offset(self, self->rb, "flags", word.position), word.flags,
                                     "host page 0x%" PRIx64 " is not complete", self->host_page);
        } else {
            return true;
        }
    }
    return false;
}

/* Sections and commands. */

static bool get_section_id(PageStream *self, const char *rule, GError **error)
{
    uint64_t offset = self->position;
    uint64_t id;

    if (!get_be(self, "section id", 4, &id, error)) {
        return false;
    }
    return id == self->section_id ||
           mapped_ram_refuse(error, MAPPED_RAM_ERROR_INVALID, rule,
                             at_offset(self, NULL, "section id", offset), id,
                             "is not the RAM section's, 0x%" PRIx32, self->section_id);
}

static bool get_footer(PageStream *self, GError **error)
{
    uint64_t offset = self->position;
    uint64_t type;

    if (!get_be(self, "footer", 1, &type, error)) {
        return false;
    }
    if (type != QEMU_VM_SECTION_FOOTER) {
        return mapped_ram_refuse(error, MAPPED_RAM_ERROR_INVALID, "W3",
                                 at_offset(self, NULL, "footer", offset), type,
                                 "is not FOOTER 0x%x", QEMU_VM_SECTION_FOOTER);
    }
    return get_section_id(self, "W4", error);
}

static bool get_section(PageStream *self, GError **error)
{
    return get_section_id(self, "W2", error) && get_words(self, error) && get_footer(self, error);
}

static bool check_length(PageStream *self, uint64_t offset, uint64_t length, uint64_t wanted,
                         GError **error)
{
    return length == wanted || mapped_ram_refuse(error, MAPPED_RAM_ERROR_INVALID, "W6",
                                                 at_offset(self, NULL, "length", offset), length,
                                                 "is not the command's, 0x%" PRIx64, wanted);
}

static bool get_recv_bitmap(PageStream *self, uint64_t offset, uint64_t length, GError **error)
{
    uint64_t n;
    RAMBlock *rb;

    return get_be(self, "idstr", 1, &n, error) &&
           check_length(self, offset, length, n + 1, error) &&
           get_block(self, "W7", n, &rb, error) && self->ops->recv_bitmap(self->opaque, rb, error);
}

static bool get_command(PageStream *self, GError **error)
{
    uint64_t offset = self->position;
    uint64_t command, length, value;

    if (!get_be(self, "command", 2, &command, error)) {
        return false;
    }
    if (command != MIG_CMD_PING && command != MIG_CMD_POSTCOPY_RESUME &&
        command != MIG_CMD_RECV_BITMAP) {
        return mapped_ram_refuse(error, MAPPED_RAM_ERROR_UNSUPPORTED, "W5",
                                 at_offset(self, NULL, "command", offset), command,
                                 "is none of PING, POSTCOPY_RESUME and RECV_BITMAP");
    }
    if (!get_be(self, "length", 2, &length, error)) {
        return false;
    }
    offset += 2;
    if (command == MIG_CMD_RECV_BITMAP) {
        return get_recv_bitmap(self, offset, length, error);
    }
    if (!check_length(self, offset, length, command == MIG_CMD_PING ? 4 : 0, error)) {
        return false;
    }
    return command == MIG_CMD_PING ? get_be(self, "value", 4, &value, error) &&
                                         self->ops->ping(self->opaque, (uint32_t)value, error)
                                   : self->ops->resume(self->opaque, error);
}

/* *ended: it was EOF. */
static bool get_item(PageStream *self, bool *ended, GError **error)
{
    uint64_t offset = self->position;
    uint64_t type;

    if (!get_be(self, "type", 1, &type, error)) {
        return false;
    }
    switch (type) {
    case QEMU_VM_EOF:
        *ended = true;
        return true;
    case QEMU_VM_SECTION_PART:
    case QEMU_VM_SECTION_END:
        return get_section(self, error);
    case QEMU_VM_COMMAND:
        return get_command(self, error);
    default:
        return mapped_ram_refuse(error, MAPPED_RAM_ERROR_INVALID, "W1",
                                 at_offset(self, NULL, "type", offset), type,
                                 "is none of EOF, PART, END and COMMAND");
    }
}

bool page_stream_run(PageStream *self, GError **error)
{
    bool ended = false;

    self->position = 0;
    self->start = 0;
    self->end = 0;
    self->last_recv_block = NULL;
    forget_host_page(self);
    if (self->channel == RAM_CHANNEL_POSTCOPY) {
        return get_words(self, error);
    }
    while (!ended) {
        if (!get_item(self, &ended, error)) {
            return false;
        }
    }
    return true;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Puts the loader's messages into their one form (loader/error.h). Knows no
 * rule itself: who checks a rule names it.
 */
#include "loader/error.h"

#include <string.h>

G_DEFINE_QUARK(mapped - ram - error - quark, mapped_ram_error)

/* Longer than any: two names of 255 bytes, escaped, and a line of text. */
#define MESSAGE_SIZE 4096

/*
 * Most files that a fuzzer makes are refused, so a refusal is put together on
 * the stack, and what needs no printf() without: under a sanitizer each
 * allocation and each format cost as much as the whole load.
 */
typedef struct Message {
    size_t length;
    char text[MESSAGE_SIZE];
} Message;

static void G_GNUC_PRINTF(2, 0) append_va(Message *message, const char *format, va_list arguments)
{
    size_t room = sizeof(message->text) - message->length;
    int length = g_vsnprintf(message->text + message->length, room, format, arguments);

    message->length += MIN((size_t)length, room - 1);
}

static void append(Message *message, const char *text)
{
    size_t length = MIN(strlen(text), sizeof(message->text) - 1 - message->length);

    memcpy(message->text + message->length, text, length);
    message->length += length;
    message->text[message->length] = '\0';
}

/* All sixteen digits each time: how often a loop runs is what a fuzzer goes after. */
static void append_hex(Message *message, uint64_t value)
{
    unsigned digits = value ? 16 - (unsigned)__builtin_clzll(value) / 4 : 1;
    char text[16 + 1] = "";

    for (unsigned i = 0; i < 16; i++) {
        text[i] = "0123456789abcdef"[value >> (60 - 4 * i) & 15];
    }
    append(message, "0x");
    append(message, text + 16 - digits);
}

static bool is_printable(const char *name)
{
    for (; *name; name++) {
        if (!g_ascii_isprint(*name) || *name == '\\' || *name == '"') {
            return false;
        }
    }
    return true;
}

static void append_name(Message *message, const char *name)
{
    g_autofree char *escaped = is_printable(name) ? NULL : g_strescape(name, NULL);

    append(message, "'");
    append(message, escaped ? escaped : name);
    append(message, "'");
}

/* What stands before the value; the value is what comes next. */
static void begin(Message *message, FieldAt at)
{
    message->length = 0;
    if (at.block) {
        append(message, "block ");
        append_name(message, at.block);
        append(message, ": ");
    }
    append(message, at.field);
}

static void G_GNUC_PRINTF(6, 0)
    finish(Message *message, GError **error, MappedRamErrorCode code, const char *rule, FieldAt at,
           const char *format, va_list arguments)
{
    append(message, " at ");
    append(message, at.stream ? at.stream : "file");
    append(message, " offset ");
    append_hex(message, at.offset);
    append(message, ": ");
    append_va(message, format, arguments);
    if (rule) {
        append(message, " (rule ");
        append(message, rule);
        append(message, ")");
    }
    g_set_error_literal(error, MAPPED_RAM_ERROR, code, message->text);
}

bool mapped_ram_refuse(GError **error, MappedRamErrorCode code, const char *rule, FieldAt at,
                       uint64_t value, const char *format, ...)
{
    Message message;
    va_list arguments;

    begin(&message, at);
    append(&message, " ");
    append_hex(&message, value);
    va_start(arguments, format);
    finish(&message, error, code, rule, at, format, arguments);
    va_end(arguments);
    return false;
}

bool mapped_ram_refuse_name(GError **error, MappedRamErrorCode code, const char *rule, FieldAt at,
                            const char *name, const char *format, ...)
{
    Message message;
    va_list arguments;

    begin(&message, at);
    append(&message, " ");
    append_name(&message, name);
    va_start(arguments, format);
    finish(&message, error, code, rule, at, format, arguments);
    va_end(arguments);
    return false;
}

bool mapped_ram_refuse_field(GError **error, MappedRamErrorCode code, const char *rule, FieldAt at,
                             const char *format, ...)
{
    Message message;
    va_list arguments;

    begin(&message, at);
    va_start(arguments, format);
    finish(&message, error, code, rule, at, format, arguments);
    va_end(arguments);
    return false;
}

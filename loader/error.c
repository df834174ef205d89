/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Puts the loader's messages into their one form (loader/error.h). Knows no
 * rule itself: who checks a rule names it.
 */
#include "loader/error.h"

#include <inttypes.h>

G_DEFINE_QUARK(mapped - ram - error - quark, mapped_ram_error)

/* Longer than any: two names of 255 bytes, escaped, and a line of text. */
#define MESSAGE_SIZE 4096

/*
 * Most files that a fuzzer makes are refused, so a refusal is put together on
 * the stack: under a sanitizer each allocation costs more than the whole load.
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

static void G_GNUC_PRINTF(2, 3) append(Message *message, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    append_va(message, format, arguments);
    va_end(arguments);
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

    append(message, "'%s'", escaped ? escaped : name);
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
    append(message, "%s", at.field);
}

static void G_GNUC_PRINTF(6, 0)
    finish(Message *message, GError **error, MappedRamErrorCode code, const char *rule, FieldAt at,
           const char *format, va_list arguments)
{
    append(message, " at %s offset 0x%" PRIx64 ": ", at.stream ? at.stream : "file", at.offset);
    append_va(message, format, arguments);
    if (rule) {
        append(message, " (rule %s)", rule);
    }
    g_set_error_literal(error, MAPPED_RAM_ERROR, code, message->text);
}

bool mapped_ram_refuse(GError **error, MappedRamErrorCode code, const char *rule, FieldAt at,
                       uint64_t value, const char *format, ...)
{
    Message message;
    va_list arguments;

    begin(&message, at);
    append(&message, " 0x%" PRIx64, value);
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

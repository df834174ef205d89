/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Puts the loader's messages into their one form (loader/error.h). Knows no
 * rule itself: who checks a rule names it.
 */
#include "loader/error.h"

#include <inttypes.h>

G_DEFINE_QUARK(mapped - ram - error - quark, mapped_ram_error)

static void G_GNUC_PRINTF(6, 0)
    set_error(GError **error, MappedRamErrorCode code, const char *rule, FieldAt at,
              const char *value, const char *format, va_list arguments)
{
    g_autoptr(GString) message = g_string_new(NULL);

    if (at.block) {
        g_autofree char *idstr = g_strescape(at.block, NULL);

        g_string_append_printf(message, "block '%s': ", idstr);
    }
    g_string_append_printf(message, "%s%s at file offset 0x%" PRIx64 ": ", at.field, value,
                           at.offset);
    g_string_append_vprintf(message, format, arguments);
    if (rule) {
        g_string_append_printf(message, " (rule %s)", rule);
    }
    g_set_error_literal(error, MAPPED_RAM_ERROR, code, message->str);
}

bool mapped_ram_refuse(GError **error, MappedRamErrorCode code, const char *rule, FieldAt at,
                       uint64_t value, const char *format, ...)
{
    char text[sizeof(" 0x0123456789abcdef")];
    va_list arguments;

    g_snprintf(text, sizeof(text), " 0x%" PRIx64, value);
    va_start(arguments, format);
    set_error(error, code, rule, at, text, format, arguments);
    va_end(arguments);
    return false;
}

bool mapped_ram_refuse_name(GError **error, MappedRamErrorCode code, const char *rule, FieldAt at,
                            const char *name, const char *format, ...)
{
    g_autofree char *escaped = g_strescape(name, NULL);
    g_autofree char *text = g_strdup_printf(" '%s'", escaped);
    va_list arguments;

    va_start(arguments, format);
    set_error(error, code, rule, at, text, format, arguments);
    va_end(arguments);
    return false;
}

bool mapped_ram_refuse_field(GError **error, MappedRamErrorCode code, const char *rule, FieldAt at,
                             const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    set_error(error, code, rule, at, "", format, arguments);
    va_end(arguments);
    return false;
}

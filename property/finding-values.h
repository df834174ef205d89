/* SPDX-License-Identifier: GPL-2.0-or-later */
/* How the values of a finding.ini are read: what the files that read them share. */
#ifndef PAGEWISE_PROPERTY_FINDING_VALUES_H
#define PAGEWISE_PROPERTY_FINDING_VALUES_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

/* Sets @error: @key of @group is @value (NULL: nothing) and not what is @expected. Always false. */
bool finding_wrong_value(GError **error, const char *group, const char *key, const char *value,
                         const char *expected);

/* A number and a suffix K, M, G or T, which multiply by 1024 and so on. False: it is none. */
bool finding_parse_number(const char *text, uint64_t *number);

#endif

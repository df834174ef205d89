/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The snapshot file that a finding's text describes. See findings.h; no fuzz
 * target asks for it.
 */
#include "property/finding-values.h"
#include "property/findings.h"

#include <string.h>

static bool apply_repeat(const char *text, SparseFile *file, GError **error)
{
    g_auto(GStrv) words = g_strsplit(text, " ", -1);
    uint64_t offset, count;
    uint8_t bytes[64];
    size_t length;

    if (g_strv_length(words) != 3 || !finding_parse_number(words[0], &offset) ||
        !finding_parse_number(words[2], &count)) {
        return finding_wrong_value(error, "reproducer", "repeat", text, "OFFSET HEX COUNT");
    }
    length = strlen(words[1]) / 2;
    for (size_t i = 0; i < length && length <= sizeof(bytes); i++) {
        bytes[i] =
            g_ascii_xdigit_value(words[1][2 * i]) << 4 | g_ascii_xdigit_value(words[1][2 * i + 1]);
    }
    for (uint64_t i = 0; i < count; i++) {
        sparse_file_write(file, offset + i * length, bytes, MIN(length, sizeof(bytes)));
    }
    return true;
}

bool finding_make_file(const Finding *finding, Snapshot *snapshot, SparseFile *file, GError **error)
{
    g_autofree char *text = NULL;

    if (!finding->snapshot) {
        return finding_wrong_value(error, "reproducer", "snapshot", NULL,
                                   "a file in the same folder");
    }
    if (!g_file_get_contents(finding->snapshot, &text, NULL, error) ||
        !snapshot_from_text(text, snapshot, error)) {
        g_prefix_error(error, "%s: ", finding->snapshot);
        return false;
    }
    snapshot_encode(snapshot, file);
    return !finding->repeat || apply_repeat(finding->repeat, file, error);
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One side of the property no-functional-change in a process of its own, for
 * inputs that may end it: prints what can be seen of the load.
 *
 *     nfc-record base|series INPUT
 *
 * Nothing is repaired. Exit status: 0; 2: there is no record.
 */
#include "fuzz/nfc-target.h"

#include <stdio.h>
#include <string.h>

int main(int argc, char **argv)
{
    g_autoptr(NfcPair) pair = NULL;
    g_autoptr(GError) error = NULL;
    g_autofree char *data = NULL;
    g_autofree char *text = NULL;
    size_t size;

    if (argc != 3 || (strcmp(argv[1], "base") != 0 && strcmp(argv[1], "series") != 0)) {
        fprintf(stderr, "Usage: nfc-record base|series INPUT\n");
        return 2;
    }
    pair = nfc_target_pair();
    if (g_file_get_contents(argv[2], &data, &size, &error)) {
        text =
            nfc_record(pair, strcmp(argv[1], "series") == 0, (const uint8_t *)data, size, &error);
    }
    if (!text) {
        fprintf(stderr, "nfc-record: %s\n", error->message);
        return 2;
    }
    fputs(text, stdout);
    return 0;
}

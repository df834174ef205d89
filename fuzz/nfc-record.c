/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One side of the property no-functional-change in a process of its own, for
 * inputs that may end it: prints what can be seen of the load.
 *
 *     nfc-record base|series INPUT [--repaired]
 *
 * With --repaired the input is repaired as the fuzz targets do it. Exit status:
 * 0; 2: there is no record.
 */
#include "fuzz/nfc-target.h"

#include <stdio.h>
#include <string.h>

static bool parse_arguments(int argc, char **argv, bool *repaired)
{
    *repaired = argc == 4 && strcmp(argv[3], "--repaired") == 0;
    return (argc == 3 || *repaired) &&
           (strcmp(argv[1], "base") == 0 || strcmp(argv[1], "series") == 0);
}

int main(int argc, char **argv)
{
    g_autoptr(Findings) findings = NULL;
    g_autoptr(NfcPair) pair = NULL;
    g_autoptr(GError) error = NULL;
    g_autofree char *data = NULL;
    g_autofree char *text = NULL;
    bool repaired;
    size_t size;

    if (!parse_arguments(argc, argv, &repaired)) {
        fprintf(stderr, "Usage: nfc-record base|series INPUT [--repaired]\n");
        return 2;
    }
    pair = nfc_target_pair();
    if (repaired) {
        findings = nfc_target_findings();
        nfc_pair_set_findings(pair, findings);
    }
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

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See known-findings.h. */
#include "fuzz/known-findings.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Beside the program, where a fuzzing service has put both; or in the source tree. */
static char *default_folder(void)
{
    g_autofree char *program = g_file_read_link("/proc/self/exe", NULL);
    g_autofree char *folder = program ? g_path_get_dirname(program) : NULL;
    g_autofree char *beside = folder ? g_build_filename(folder, "findings", NULL) : NULL;

    if (beside && g_file_test(beside, G_FILE_TEST_IS_DIR)) {
        return g_steal_pointer(&beside);
    }
    return g_strdup(PAGEWISE_FINDINGS_DIR);
}

Findings *known_findings(const char *subject, const char *version)
{
    const char *chosen = getenv("PAGEWISE_FINDINGS");
    g_autofree char *folder = NULL;
    g_autoptr(GError) error = NULL;
    Findings *findings;

    if (chosen && strcmp(chosen, "none") == 0) {
        return findings_none();
    }
    folder = chosen ? g_strdup(chosen) : default_folder();
    findings = findings_read(folder, subject, version, &error);
    if (!findings) {
        fprintf(stderr,
                "pagewise: the registry of findings cannot be read: %s; mend it, or set "
                "PAGEWISE_FINDINGS to another folder or to 'none'\n",
                error->message);
        exit(2);
    }
    return findings;
}

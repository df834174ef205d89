/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See known-findings.h. */
#include "fuzz/known-findings.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

Findings *known_findings(const char *subject, const char *version)
{
    const char *folder = getenv("PAGEWISE_FINDINGS");
    g_autoptr(GError) error = NULL;
    Findings *findings;

    if (folder && strcmp(folder, "none") == 0) {
        return findings_none();
    }
    findings = findings_read(folder ? folder : PAGEWISE_FINDINGS_DIR, subject, version, &error);
    if (!findings) {
        fprintf(stderr,
                "pagewise: the registry of findings cannot be read: %s; mend it, or set "
                "PAGEWISE_FINDINGS to another folder or to 'none'\n",
                error->message);
        exit(2);
    }
    return findings;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which findings a fuzz target of a real QEMU repairs its inputs past. A target
 * of the reference loader needs none: it has no known bug.
 */
#ifndef PAGEWISE_FUZZ_KNOWN_FINDINGS_H
#define PAGEWISE_FUZZ_KNOWN_FINDINGS_H

#include "property/findings.h"

/**
 * known_findings:
 * @subject: "qemu-tree" or "qemu-binary"
 * @version: "10.0.13"
 *
 * The environment variable PAGEWISE_FINDINGS names the registry; "none" is an
 * empty one: then every finding is found anew. Without it, it is that of the
 * source tree. A registry that cannot be read ends the program, with a message.
 *
 * Returns: the findings registered for that subject. Free with findings_free().
 */
Findings *known_findings(const char *subject, const char *version);

#endif

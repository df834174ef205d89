/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * `pagewise inspect --json`: all that the judge found as one JSON object.
 */
#ifndef PAGEWISE_TOOLS_INSPECT_JSON_H
#define PAGEWISE_TOOLS_INSPECT_JSON_H

#include "tools/snapshot-file.h"

void inspect_append_json(GString *out, const char *path, const SnapshotFile *file,
                         const Judgement *judgement);

#endif

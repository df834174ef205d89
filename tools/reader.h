/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which reader a snapshot is judged for: what the user says of it, and for all
 * else the reader that fits the file best, found by asking the judge.
 */
#ifndef PAGEWISE_TOOLS_READER_H
#define PAGEWISE_TOOLS_READER_H

#include "tools/snapshot-file.h"

typedef struct ReaderOptions {
    char *page_size;       /* NULL: as the file says */
    char *blocks;          /* "idstr=used[:max],...", NULL: as the file says */
    char *machine;         /* NULL: any */
    char *x_ignore_shared; /* "on" or "off", NULL: as the file says */
} ReaderOptions;

void reader_options_clear(ReaderOptions *options);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(ReaderOptions, reader_options_clear)

#define READER_N_OPTIONS 5

/* The table of options that fills @options; its first entry is --page-size. */
void reader_options_table(ReaderOptions *options, GOptionEntry table[READER_N_OPTIONS]);

/*
 * Judges @file for that reader. What the file says of its own blocks, page
 * size and capability makes the reader where @options are silent; the judge is
 * asked again until it misses nothing.
 *
 * *left_out: how many idstrs the guest had no place for (GUEST_MAX_BLOCKS); if
 * any, the verdict is void. @error: COMMAND_ERROR_USAGE, COMMAND_ERROR_INPUT.
 */
bool reader_judge(SnapshotFile *file, const ReaderOptions *options, Judgement *judgement,
                  unsigned *left_out, GError **error);

/* False if there are any: COMMAND_ERROR_LIMIT says what to do. */
bool reader_check_left_out(unsigned left_out, GError **error);

#endif

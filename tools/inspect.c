/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * `pagewise inspect`: shows what is in a snapshot, right or wrong, for the
 * reader that fits it best.
 */
#include "tools/command.h"

#include "model/snapshot.h"
#include "tools/inspect-json.h"
#include "tools/listing.h"
#include "tools/page-map.h"
#include "tools/reader.h"

#include <inttypes.h>
#include <stdio.h>

/* A description holds its pages' bytes: who wants to read more as text? */
#define MAX_TEXT_DATA (UINT64_C(256) << 20)

typedef struct InspectOptions {
    gboolean json;
    gboolean map;
    gboolean text;
} InspectOptions;

const Command command_inspect = {
    .name = "inspect",
    .parameters = "FILE",
    .summary = "Show what is in a snapshot",
    .help = "The columns: used_length and offsets in bytes; pages of the block, and how many of\n"
            "them are in the file; page_size and version as in the block's header; where that\n"
            "header, the bitmap and the pages are in the file; the guest physical address, if\n"
            "the file has it. Below stand the rules of docs/mapped-ram-format.md that the file\n"
            "breaks.\n\n"
            "FILE is judged for the reader that fits it best; `pagewise verify` can name one.\n\n"
            "Exit status: 0: shown; 1: shown, and every reader must refuse it; 2: it cannot be\n"
            "shown; 64: wrong arguments.",
    .min_parameters = 1,
    .max_parameters = 1,
};

static void append_verdict(GString *out, const Judgement *judgement, bool is_complete)
{
    if (!is_complete) {
        g_string_append(out, "verdict   none: not all blocks of the file are known\n");
        return;
    }
    g_string_append_printf(out, "verdict   %s\n", verdict_name(judgement->verdict));
    listing_append_violations(out, judgement);
}

static void print_table(const char *path, const SnapshotFile *file, const Judgement *judgement,
                        bool is_complete, bool map)
{
    g_autoptr(GString) out = g_string_new(NULL);
    g_autofree char *size = listing_size(snapshot_file_size(file));
    g_autofree char *disk_size = listing_size(snapshot_file_disk_size(file));

    g_string_append_printf(out, "file      %s: %s (0x%" PRIx64 "), %s on disk\n", path, size,
                           snapshot_file_size(file), disk_size);
    listing_append_stream(out, judgement);
    if (judgement->guest.n_blocks > 0) {
        listing_append_blocks(out, judgement);
    }
    listing_append_tail(out, judgement);
    append_verdict(out, judgement, is_complete);
    for (unsigned i = 0; map && i < judgement->guest.n_blocks; i++) {
        page_map_append(out, judgement, i, page_map_terminal_width());
    }
    fputs(out->str, stdout);
}

static bool print_text(SnapshotFile *file, const Guest *guest, GError **error)
{
    g_autoptr(SparseFile) copy = sparse_file_new();
    g_autoptr(Snapshot) snapshot = snapshot_new();
    g_autofree char *text = NULL;

    if (!snapshot_file_copy(file, copy, MAX_TEXT_DATA, error) ||
        !snapshot_decode(copy, guest, snapshot, error)) {
        g_prefix_error(error, "has no description: ");
        return false;
    }
    text = snapshot_to_text(snapshot);
    fputs(text, stdout);
    return true;
}

static int inspect(const char *path, SnapshotFile *file, const ReaderOptions *reader,
                   const InspectOptions *options)
{
    g_autofree Judgement *judgement = g_new(Judgement, 1);
    g_autoptr(GError) error = NULL;
    unsigned left_out = 0;

    if (!reader_judge(file, reader, judgement, &left_out, &error)) {
        return command_fail(&command_inspect, path, error);
    }
    if ((options->json || options->text) && !reader_check_left_out(left_out, &error)) {
        return command_fail(&command_inspect, path, error);
    }
    if (options->text) {
        return print_text(file, &judgement->guest, &error)
                   ? STATUS_OK
                   : command_fail(&command_inspect, path, error);
    }
    if (options->json) {
        g_autoptr(GString) out = g_string_new(NULL);

        inspect_append_json(out, path, file, judgement);
        fputs(out->str, stdout);
    } else {
        print_table(path, file, judgement, left_out == 0, options->map);
    }
    if (!snapshot_file_check(file, &error) || !reader_check_left_out(left_out, &error)) {
        return command_fail(&command_inspect, path, error);
    }
    return judgement->verdict == VERDICT_REJECT ? STATUS_DIFFERENT : STATUS_OK;
}

int run_inspect(int argc, char **argv)
{
    InspectOptions options = { 0 };
    g_auto(ReaderOptions) reader = { 0 };
    const GOptionEntry own[] = {
        { "json", 0, 0, G_OPTION_ARG_NONE, &options.json, "Print JSON", NULL },
        { "map", 0, 0, G_OPTION_ARG_NONE, &options.map, "Draw which pages are in the file", NULL },
        { "text", 0, 0, G_OPTION_ARG_NONE, &options.text,
          "Print the description that `pagewise make` makes FILE from", NULL },
        { "page-size", 0, 0, G_OPTION_ARG_STRING, &reader.page_size,
          "The target's page size (default: as the file says)", "BYTES" },
        G_OPTION_ENTRY_NULL,
    };
    g_autoptr(GError) error = NULL;
    g_autoptr(SnapshotFile) file = NULL;

    if (!command_parse(&command_inspect, own, &argc, &argv)) {
        return STATUS_USAGE;
    }
    if (options.json + options.map + options.text > 1) {
        return command_usage_error(&command_inspect, "--json, --map and --text exclude each other");
    }
    file = snapshot_file_open(argv[1], &error);
    return file ? inspect(argv[1], file, &reader, &options)
                : command_fail(&command_inspect, argv[1], error);
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * `pagewise verify`: says whether a reader must accept a snapshot, and by which
 * rules it must not.
 */
#include "tools/command.h"

#include "tools/listing.h"
#include "tools/reader.h"

#include <stdio.h>

enum {
    VERIFY_ACCEPT = 0,
    VERIFY_MAY = 1,
    VERIFY_REJECT = 2,
    VERIFY_TROUBLE = 3,
};

const Command command_verify = {
    .name = "verify",
    .parameters = "FILE",
    .summary = "List the rules that a snapshot breaks",
    .help = "Each line is one rule of docs/mapped-ram-format.md that FILE breaks; the last line\n"
            "is the verdict. Without options FILE is judged for the reader that fits it best;\n"
            "what depends on a reader (its RAM blocks, its machine) is then never wrong.\n\n"
            "  pagewise verify --machine pc-q35-10.0 --guest pc.ram=4G,pc.bios=256K FILE\n\n"
            "Exit status: 0: every reader must accept FILE; 1: some rule is broken that readers\n"
            "differ on, they may accept or refuse it; 2: every reader must refuse it; 3: no\n"
            "verdict, FILE cannot be read; 64: wrong arguments.",
    .min_parameters = 1,
    .max_parameters = 1,
};

static int print_verdict(const char *path, const Judgement *judgement)
{
    static const int status[] = {
        [VERDICT_ACCEPT] = VERIFY_ACCEPT,
        [VERDICT_MAY] = VERIFY_MAY,
        [VERDICT_REJECT] = VERIFY_REJECT,
    };
    static const char *const words[] = {
        [VERDICT_ACCEPT] = "every reader must accept it",
        [VERDICT_MAY] = "readers may accept or refuse it",
        [VERDICT_REJECT] = "every reader must refuse it",
    };
    g_autoptr(GString) out = g_string_new(NULL);

    listing_append_violations(out, judgement);
    g_string_append_printf(out, "%s: %s; rules broken: %u%s\n", path, words[judgement->verdict],
                           judgement->n_violations,
                           judgement->ram_unspecified ? "; what RAM holds is unspecified" : "");
    fputs(out->str, stdout);
    return status[judgement->verdict];
}

static int fail(const char *path, const GError *error)
{
    int status = command_fail(&command_verify, path, error);

    return status == STATUS_USAGE ? STATUS_USAGE : VERIFY_TROUBLE;
}

static int verify(const char *path, SnapshotFile *file, const ReaderOptions *reader)
{
    g_autofree Judgement *judgement = g_new(Judgement, 1);
    g_autoptr(GError) error = NULL;
    unsigned left_out;

    if (!reader_judge(file, reader, judgement, &left_out, &error) ||
        !reader_check_left_out(left_out, &error)) {
        return fail(path, error);
    }
    return print_verdict(path, judgement);
}

int run_verify(int argc, char **argv)
{
    g_auto(ReaderOptions) reader = { 0 };
    GOptionEntry table[READER_N_OPTIONS];
    g_autoptr(GError) error = NULL;
    g_autoptr(SnapshotFile) file = NULL;

    reader_options_table(&reader, table);
    if (!command_parse(&command_verify, table, &argc, &argv)) {
        return STATUS_USAGE;
    }
    file = snapshot_file_open(argv[1], &error);
    return file ? verify(argv[1], file, &reader) : fail(argv[1], error);
}

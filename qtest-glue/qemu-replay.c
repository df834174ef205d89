/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Loads stored inputs and snapshots in a real QEMU, a fresh one for each, and
 * says what became of them:
 *
 *     qemu-replay [--machine NAME] [--mib N] [--channels N] [--direct-io] [--lazy]
 *                 [--fork-server] [--findings DIR] FILE...
 *     qemu-replay --probe
 *
 * --probe: what this QEMU can do, as a table.
 * FILE is a fuzz input (property/input.h) or a snapshot; RAM is compared with
 * the model, as in every other test. Of a crash, gdb shows where, if there is
 * one. Exit status: 0, 1 if a property is broken or something cannot be run, 77
 * without a QEMU of 9.0 or newer.
 */
#include "qtest-glue/backtrace.h"
#include "qtest-glue/qemu-case.h"
#include "qtest-glue/qemu-probe.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

typedef struct Options {
    char *machine;
    int mib;
    int channels;
    gboolean direct_io;
    gboolean lazy;
    gboolean fork_server;
    gboolean probe;
    char *findings;
    char **files;
} Options;

/* Appends the file to @input, a snapshot as an input of kind stream. */
static bool read_input(const char *path, const Guest *guest, GByteArray *input, GError **error)
{
    g_autoptr(SparseFile) file = sparse_file_new();
    uint8_t start[1] = { 0 };
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    bool ok = false;

    if (fd < 0 || pread(fd, start, sizeof(start), 0) < 0) {
        g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(errno), "%s: %s", path,
                    g_strerror(errno));
    } else if (start[0] == INPUT_VERSION) {
        g_autofree char *bytes = NULL;
        size_t length;

        ok = g_file_get_contents(path, &bytes, &length, error);
        g_byte_array_append(input, (const guint8 *)bytes, ok ? length : 0);
    } else if (sparse_file_from_fd(file, fd, INPUT_MAX_DATA_BYTES, error)) {
        ok = input_encode_stream(guest, file, 0, input);
    }
    if (fd >= 0) {
        close(fd);
    }
    return ok;
}

static void print_backtrace(const QemuBinary *binary, const QemuCase *c)
{
    const QemuSubjectConfig *config = &c->config;
    g_autoptr(GError) error = NULL;
    g_autofree char *stack = qemu_backtrace(binary, config->machine, config->mib, &config->transfer,
                                            qemu_subject_file(c->subject), &error);

    printf("Under gdb:\n%s\n", stack ? stack : error->message);
}

/* False: a property is broken, or nothing could be run. */
static bool replay(const QemuBinary *binary, QemuCase *c, const char *path)
{
    g_autoptr(GByteArray) input = g_byte_array_new();
    g_autoptr(GError) broken = NULL;
    g_autoptr(GError) error = NULL;
    g_autofree char *kind = NULL;
    g_autofree char *mode = qemu_case_mode(c);

    if (!read_input(path, qemu_subject_get(c->subject)->guest, input, &error) ||
        !qemu_case_run(c, input->data, input->len, &kind, &broken, &error)) {
        fprintf(stderr, "qemu-replay: %s: %s\n", path,
                error ? error->message : "an input cannot express this guest");
        return false;
    }
    printf("%s: %s: QEMU %s; %s\n", path, mode,
           qemu_load_outcome_name(qemu_subject_outcome(c->subject)),
           kind ? kind : "as it should be");
    if (*qemu_subject_log(c->subject)) {
        printf("%s", qemu_subject_log(c->subject));
    }
    if (kind) {
        printf("pagewise: %s\n", broken->message);
    }
    if (qemu_subject_outcome(c->subject) == QEMU_LOAD_CRASHED) {
        print_backtrace(binary, c);
    }
    return !kind;
}

static int replay_all(const Options *options, const QemuBinary *binary, const Findings *known)
{
    const QemuSubjectConfig config = {
        .machine = qemu_machine_find(options->machine ? options->machine : "none"),
        .mib = options->mib,
        .transfer = { .channels = options->channels,
                      .direct_io = options->direct_io,
                      .lazy = options->lazy },
        .limits = LOAD_LIMITS_DEFAULT,
        .fresh = !options->fork_server,
    };
    g_autoptr(GError) error = NULL;
    g_autoptr(QemuCase) c = NULL;
    bool ok = true;

    if (!config.machine) {
        fprintf(stderr, "qemu-replay: there is no machine '%s' here\n", options->machine);
        return 1;
    }
    c = qemu_case_new(binary, &config, known, &error);
    if (!c) {
        fprintf(stderr, "qemu-replay: %s\n", error->message);
        return 1;
    }
    for (unsigned i = 0; options->files[i]; i++) {
        ok &= replay(binary, c, options->files[i]);
    }
    return ok ? 0 : 1;
}

static bool parse_options(int *argc, char ***argv, Options *options)
{
    const GOptionEntry entries[] = {
        { "machine", 0, 0, G_OPTION_ARG_STRING, &options->machine,
          "none, microvm, microvm-acpi, pc or q35-vga (none)", "NAME" },
        { "mib", 0, 0, G_OPTION_ARG_INT, &options->mib, "its main RAM (1)", "N" },
        { "channels", 0, 0, G_OPTION_ARG_INT, &options->channels, "of multifd (0: without)", "N" },
        { "direct-io", 0, 0, G_OPTION_ARG_NONE, &options->direct_io, "with O_DIRECT", NULL },
        { "lazy", 0, 0, G_OPTION_ARG_NONE, &options->lazy, "fast snapshot load", NULL },
        { "fork-server", 0, 0, G_OPTION_ARG_NONE, &options->fork_server,
          "one QEMU, a child for each file", NULL },
        { "findings", 0, 0, G_OPTION_ARG_FILENAME, &options->findings,
          "registry of what is repaired first (none)", "DIR" },
        { "probe", 0, 0, G_OPTION_ARG_NONE, &options->probe, "print what this QEMU can do", NULL },
        { G_OPTION_REMAINING, 0, 0, G_OPTION_ARG_FILENAME_ARRAY, &options->files, NULL, "FILE..." },
        G_OPTION_ENTRY_NULL,
    };
    g_autoptr(GOptionContext) context = g_option_context_new(NULL);
    g_autoptr(GError) error = NULL;

    g_option_context_set_summary(context, "Loads fuzz inputs and snapshots in a real QEMU.");
    g_option_context_add_main_entries(context, entries, NULL);
    if (!g_option_context_parse(context, argc, argv, &error) ||
        (!options->files && !options->probe)) {
        fprintf(stderr, "qemu-replay: %s\n", error ? error->message : "which file?");
        return false;
    }
    return true;
}

static void options_clear(Options *options)
{
    g_free(options->machine);
    g_free(options->findings);
    g_strfreev(options->files);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Options, options_clear)

int main(int argc, char **argv)
{
    g_auto(Options) options = { .mib = 1 };
    g_autoptr(QemuBinary) binary = NULL;
    g_autoptr(Findings) known = NULL;
    g_autoptr(GError) error = NULL;

    if (!parse_options(&argc, &argv, &options)) {
        return 1;
    }
    binary = qemu_binary_find(&error);
    if (!binary) {
        fprintf(stderr, "SKIP qemu: %s; remedy: %s\n", error->message, QEMU_BINARY_REMEDY);
        return QEMU_BINARY_EXIT_SKIP;
    }
    if (options.probe && !qemu_probe_print(binary, &error)) {
        fprintf(stderr, "qemu-replay: %s\n", error->message);
        return 1;
    }
    known = qemu_findings_read(binary, options.findings, &error);
    if (!known) {
        fprintf(stderr, "qemu-replay: %s\n", error->message);
        return 1;
    }
    return options.files ? replay_all(&options, binary, known) : 0;
}

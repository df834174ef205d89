/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A crash under gdb: see backtrace.h. No monitor is used: what the load needs
 * is said on the command line, as the fork server's spike did. Symbols are
 * whatever the QEMU and its distribution have.
 */
#define _GNU_SOURCE /* memfd_create */

#include "qtest-glue/backtrace.h"
#include "qtest-glue/error.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define GDB_TIMEOUT_MS 60000
#define MAX_FRAMES 16
#define FILE_FD 201
#define RAM_FD 203
#define MAX_OUTPUT (256 * 1024)

static GStrv build_argv(const QemuBinary *binary, const QemuMachine *machine, unsigned mib,
                        const QemuTransfer *transfer)
{
    g_autoptr(GStrvBuilder) argv = g_strv_builder_new();
    g_autofree char *object = g_strdup_printf("memory-backend-file,id=%s,size=%uM,share=on,"
                                              "mem-path=/proc/self/fd/%d",
                                              machine->ram, mib, RAM_FD);
    g_autofree char *type = g_strdup_printf("%s,memory-backend=%s", machine->type, machine->ram);
    g_autofree char *size = g_strdup_printf("%u", mib);
    g_autofree char *incoming = g_strdup_printf("file:/proc/self/fd/%d", FILE_FD);
    g_autofree char *frames = g_strdup_printf("bt %d", MAX_FRAMES);

    g_strv_builder_add_many(argv, "gdb", "-nx", "-batch", "-ex", "set debuginfod enabled off",
                            "-ex", "set width 0", "-ex", "handle SIGUSR1 SIGUSR2 nostop noprint",
                            "-ex", "run", "-ex", frames, "--args", binary->path, "-nodefaults",
                            "-display", "none", "-S", "-accel", "tcg", "-object", object,
                            "-machine", type, "-m", size, "-vga", machine->vga, "-global",
                            "migration.mapped-ram=on", NULL);
    if (transfer->channels) {
        g_autofree char *channels =
            g_strdup_printf("migration.multifd-channels=%u", transfer->channels);

        g_strv_builder_add_many(argv, "-global", "migration.x-multifd=on", "-global", channels,
                                NULL);
    }
    g_strv_builder_add_many(argv, "-incoming", incoming, NULL);
    return g_strv_builder_end(argv);
}

/* The signal's line and the frames of gdb's @output. Free with g_free(). */
static char *pick_stack(const char *output)
{
    g_auto(GStrv) lines = g_strsplit(output, "\n", -1);
    GString *stack = g_string_new(NULL);

    for (unsigned i = 0; lines[i]; i++) {
        if (strstr(lines[i], "received signal") || lines[i][0] == '#') {
            g_string_append_printf(stack, "%s\n", lines[i]);
        }
    }
    return g_string_free(stack, FALSE);
}

static char *read_output(int fd)
{
    g_autofree char *text = g_malloc(MAX_OUTPUT);
    ssize_t n = pread(fd, text, MAX_OUTPUT - 1, 0);

    text[MAX(n, 0)] = '\0';
    return pick_stack(text);
}

static bool run_gdb(const ChildSpec *spec, GError **error)
{
    Child child;
    bool ended;

    if (!child_spawn_spec(&child, spec, error)) {
        return false;
    }
    ended = child_wait(&child, GDB_TIMEOUT_MS);
    child_clear(&child);
    if (!ended) {
        g_set_error(error, QEMU_ERROR, QEMU_ERROR_TIMEOUT, "gdb did not end in time");
    }
    return ended;
}

char *qemu_backtrace(const QemuBinary *binary, const QemuMachine *machine, unsigned mib,
                     const QemuTransfer *transfer, int file, GError **error)
{
    g_auto(GStrv) argv = build_argv(binary, machine, mib, transfer);
    int output = memfd_create("pagewise-gdb", MFD_CLOEXEC);
    int ram = memfd_create("pagewise-qemu-ram", MFD_CLOEXEC);
    const int fds[] = { file, ram };
    const int targets[] = { FILE_FD, RAM_FD };
    const ChildSpec spec = {
        .argv = (const char *const *)argv,
        .output = output,
        .fds = fds,
        .targets = targets,
        .n_fds = 2,
    };
    char *stack = NULL;

    if (output < 0 || ram < 0 || ftruncate(ram, (off_t)mib << 20) < 0) {
        g_set_error(error, QEMU_ERROR, QEMU_ERROR_IO, "no memory file");
    } else if (run_gdb(&spec, error)) {
        stack = read_output(output);
    }
    close(output);
    close(ram);
    if (stack && !*stack) {
        g_clear_pointer(&stack, g_free);
        g_set_error(error, QEMU_ERROR, QEMU_ERROR_DIED, "under gdb QEMU did not crash");
    }
    return stack;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Finds a QEMU and its version: see qemu-binary.h. QEMU_BINARY_CONFIGURED is
 * the CMake variable QEMU_BINARY, empty if it was not set.
 */
#define _GNU_SOURCE /* memfd_create */

#include "qtest-glue/qemu-binary.h"
#include "qtest-glue/child.h"
#include "qtest-glue/error.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PROBE_TIMEOUT_MS 10000

void qemu_binary_free(QemuBinary *binary)
{
    if (!binary) {
        return;
    }
    g_free(binary->path);
    g_free(binary->version);
    g_free(binary);
}

bool qemu_version_parse(const char *line, unsigned *major, unsigned *minor, unsigned *micro)
{
    *micro = 0;
    return sscanf(line, "QEMU emulator version %u.%u.%u", major, minor, micro) >= 2;
}

static bool fail(GError **error, const char *path, const char *reason)
{
    g_set_error(error, QEMU_ERROR, QEMU_ERROR_NO_BINARY, "%s: %s", path, reason);
    return false;
}

/* Runs "PATH -version" to the end, its output into @output. */
static bool run_version(const char *path, int output, GError **error)
{
    const char *argv[] = { path, "-version", NULL };
    g_autoptr(GError) cause = NULL;
    g_autofree char *status = NULL;
    Child child;

    if (!child_spawn(&child, argv, output, &cause)) {
        return fail(error, path, cause->message);
    }
    if (!child_wait(&child, PROBE_TIMEOUT_MS)) {
        child_clear(&child);
        return fail(error, path, "-version did not end in time");
    }
    child_clear(&child);
    if (child.status != 0) {
        status = child_describe_status(&child);
        return fail(error, path, status);
    }
    return true;
}

/* The first line that -version prints. Free with g_free(). */
static char *version_line(const char *path, GError **error)
{
    int output = memfd_create("qemu-version", MFD_CLOEXEC);
    char text[512];
    ssize_t length;

    if (output < 0) {
        fail(error, path, "memfd_create failed");
        return NULL;
    }
    if (!run_version(path, output, error)) {
        close(output);
        return NULL;
    }
    length = pread(output, text, sizeof(text) - 1, 0);
    close(output);
    text[MAX(length, 0)] = '\0';
    text[strcspn(text, "\r\n")] = '\0';
    return g_strdup(text);
}

QemuBinary *qemu_binary_probe(const char *path, GError **error)
{
    g_autoptr(QemuBinary) binary = g_new0(QemuBinary, 1);

    binary->path = g_find_program_in_path(path);
    if (!binary->path) {
        fail(error, path, "there is no such program");
        return NULL;
    }
    binary->version = version_line(binary->path, error);
    if (!binary->version) {
        return NULL;
    }
    if (!qemu_version_parse(binary->version, &binary->major, &binary->minor, &binary->micro)) {
        fail(error, path, "-version does not answer as QEMU does");
        return NULL;
    }
    if (binary->major < QEMU_BINARY_MIN_MAJOR) {
        g_autofree char *reason =
            g_strdup_printf("%s is too old: it has no mapped-ram", binary->version);

        fail(error, path, reason);
        return NULL;
    }
    return g_steal_pointer(&binary);
}

QemuBinary *qemu_binary_find(GError **error)
{
    const char *named = g_getenv("QTEST_QEMU_BINARY");

    if (!named || !*named) {
        named = QEMU_BINARY_CONFIGURED;
    }
    return qemu_binary_probe(*named ? named : "qemu-system-x86_64", error);
}

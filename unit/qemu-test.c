/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What cmocka programs with a real QEMU have in common: see qemu-test.h.
 */
#include "unit/qemu-test.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>

QemuBinary *require_qemu(void)
{
    g_autoptr(GError) error = NULL;
    QemuBinary *binary = qemu_binary_find(&error);
    char reason[512];

    /* A skip never comes back to free the error. */
    g_strlcpy(reason, error ? error->message : "", sizeof(reason));
    g_clear_error(&error);
    pagewise_skip_unless(binary, "qemu", reason, QEMU_BINARY_REMEDY);
    return binary;
}

static bool left_nothing(const char *name, const char *folder)
{
    bool clean = true;

    if (waitpid(-1, NULL, WNOHANG) != -1 || errno != ECHILD) {
        fprintf(stderr, "%s: a child process is left\n", name);
        clean = false;
    }
    if (g_rmdir(folder) != 0) {
        fprintf(stderr, "%s: files are left in %s\n", name, folder);
        clean = false;
    }
    return clean;
}

int run_and_leave_nothing(const char *name, const struct CMUnitTest *tests, size_t n_tests)
{
    const char *parent = g_getenv("TMPDIR");
    g_autofree char *folder =
        g_build_filename(parent ? parent : P_tmpdir, "pagewise-test-XXXXXX", NULL);
    int status;

    if (!mkdtemp(folder)) {
        perror(folder);
        return 1;
    }
    g_setenv("TMPDIR", folder, TRUE);
    status = pagewise_run_tests(name, tests, n_tests);
    return left_nothing(name, folder) ? status : 1;
}

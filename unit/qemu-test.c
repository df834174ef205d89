/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What cmocka programs with a real QEMU have in common: see qemu-test.h.
 */
#include "unit/qemu-test.h"
#include "qtest-glue/qemu-probe.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

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

QemuBinary *require_fast_snapshot_load(void)
{
    g_autoptr(GError) error = NULL;
    QemuBinary *binary = require_qemu();
    bool available = qemu_probe_lazy(binary, &error);
    char reason[512];

    g_strlcpy(reason, error ? error->message : "", sizeof(reason));
    g_strdelimit(reason, "\n", ' ');
    g_clear_error(&error);
    if (!available) {
        g_clear_pointer(&binary, qemu_binary_free);
    }
    pagewise_skip_unless(available, "fast-load", reason,
                         "name a QEMU newer than 11.1 in QTEST_QEMU_BINARY");
    return binary;
}

void require_kvm(void)
{
    int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    char reason[256];

    g_snprintf(reason, sizeof(reason), "/dev/kvm: %s", g_strerror(errno));
    if (fd >= 0) {
        close(fd);
    }
    pagewise_skip_unless(fd >= 0, "kvm", reason,
                         "run on a host with KVM, as a user that may open /dev/kvm");
}

pid_t fork_dependent(void)
{
    pid_t parent = getpid();
    pid_t child = fork();

    assert_true(child >= 0);
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent) {
            _exit(127);
        }
    }
    return child;
}

QemuFolder *tmpdir_enter(void)
{
    const char *parent = g_getenv("TMPDIR");
    g_autofree char *name =
        g_build_filename(parent ? parent : P_tmpdir, "pagewise-test-XXXXXX", NULL);
    g_autoptr(GError) error = NULL;
    QemuFolder *folder;

    if (!mkdtemp(name)) {
        perror(name);
        return NULL;
    }
    folder = qemu_folder_adopt(name, &error);
    if (!folder) {
        fprintf(stderr, "pagewise: %s\n", error->message);
        g_rmdir(name);
        return NULL;
    }
    g_setenv("TMPDIR", name, TRUE);
    return folder;
}

bool tmpdir_leave(QemuFolder *folder)
{
    bool clean = true;

    if (waitpid(-1, NULL, WNOHANG) != -1 || errno != ECHILD) {
        fprintf(stderr, "pagewise: a child process is left\n");
        clean = false;
    }
    if (g_rmdir(qemu_folder_name(folder)) != 0) {
        fprintf(stderr, "pagewise: files are left in %s\n", qemu_folder_name(folder));
        clean = false;
    }
    qemu_folder_free(folder);
    return clean;
}

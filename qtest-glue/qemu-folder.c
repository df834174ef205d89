/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Private folders and their guardians: see qemu-folder.h.
 *
 * The guardian reads from a pipe whose other end only we hold. A line says that
 * all is in order; the end of the pipe, that we were killed.
 */
#include "qtest-glue/qemu-folder.h"
#include "qtest-glue/error.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <poll.h>
#include <stdbool.h>
#include <unistd.h>

/* Again after a second: a QEMU that is just ending may have put a file there meanwhile. */
#define GUARDIAN "read -r line || { rm -rf -- \"$1\"; sleep 1; rm -rf -- \"$1\"; }"
#define MAX_NAMES 100
/* A shell that has nothing to do but to end. */
#define GUARDIAN_TIMEOUT_MS 5000

struct QemuFolder {
    char *name;
    int release; /* the guardian's stdin */
    int ended;   /* the guardian's stdout; its end is the guardian's */
};

/* Runs between fork and exec. A signal to our process group is not for it. */
static void leave_session(gpointer opaque)
{
    (void)opaque;
    setsid();
}

/*
 * Starts the guardian, as nobody's child: whoever kills us with all our
 * children leaves it alone.
 */
static bool start_guardian(QemuFolder *folder, GError **error)
{
    const char *argv[] = { "/bin/sh", "-c", GUARDIAN, "pagewise-guardian", folder->name, NULL };
    g_autoptr(GError) cause = NULL;

    if (g_spawn_async_with_pipes(NULL, (char **)argv, NULL, G_SPAWN_STDERR_TO_DEV_NULL,
                                 leave_session, NULL, NULL, &folder->release, &folder->ended, NULL,
                                 &cause)) {
        fcntl(folder->release, F_SETFD, FD_CLOEXEC);
        fcntl(folder->ended, F_SETFD, FD_CLOEXEC);
        return true;
    }
    g_set_error(error, QEMU_ERROR, QEMU_ERROR_START, "%s: %s", argv[0], cause->message);
    return false;
}

static void release_guardian(QemuFolder *folder)
{
    struct pollfd ended = { .fd = folder->ended, .events = POLLIN };

    /* If it was killed, there is nobody to tell: SIGPIPE must not end us. */
    if (poll(&ended, 1, 0) == 0 && write(folder->release, "\n", 1) == 1) {
        poll(&ended, 1, GUARDIAN_TIMEOUT_MS);
    }
    close(folder->release);
    close(folder->ended);
}

static void folder_free(QemuFolder *folder)
{
    if (folder->release >= 0) {
        release_guardian(folder);
    }
    g_free(folder->name);
    g_free(folder);
}

QemuFolder *qemu_folder_adopt(const char *name, GError **error)
{
    QemuFolder *folder = g_new(QemuFolder, 1);

    *folder = (QemuFolder){ .name = g_strdup(name), .release = -1, .ended = -1 };
    if (!start_guardian(folder, error)) {
        folder_free(folder);
        return NULL;
    }
    return folder;
}

/* Whoever is killed leaves no folder: its guardian is there before it is. */
QemuFolder *qemu_folder_new(GError **error)
{
    int cause = EEXIST;

    for (unsigned i = 0; i < MAX_NAMES && cause == EEXIST; i++) {
        g_autofree char *name =
            g_strdup_printf("%s/pagewise-qemu-%08x", g_get_tmp_dir(), g_random_int());
        QemuFolder *folder = qemu_folder_adopt(name, error);

        if (!folder) {
            return NULL;
        }
        if (g_mkdir(name, 0700) == 0) {
            return folder;
        }
        cause = errno;
        folder_free(folder);
    }
    g_set_error(error, QEMU_ERROR, QEMU_ERROR_IO, "no folder can be made in %s: %s",
                g_get_tmp_dir(), g_strerror(cause));
    return NULL;
}

static void remove_files(const char *name)
{
    g_autoptr(GDir) dir = g_dir_open(name, 0, NULL);
    const char *file;

    while (dir && (file = g_dir_read_name(dir))) {
        g_autofree char *path = g_build_filename(name, file, NULL);

        g_unlink(path);
    }
    g_rmdir(name);
}

void qemu_folder_free(QemuFolder *folder)
{
    if (!folder) {
        return;
    }
    remove_files(folder->name);
    folder_free(folder);
}

const char *qemu_folder_name(const QemuFolder *folder)
{
    return folder->name;
}

char *qemu_folder_path(const QemuFolder *folder, const char *name)
{
    return g_build_filename(folder->name, name, NULL);
}

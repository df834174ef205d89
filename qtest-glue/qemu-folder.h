/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A private folder for the sockets, logs and files of one QEMU, which goes away
 * with us: also if we are killed by SIGKILL, and can remove nothing. A guardian
 * waits for that, a shell in a session of its own that ends with the folder.
 */
#ifndef PAGEWISE_QTEST_GLUE_QEMU_FOLDER_H
#define PAGEWISE_QTEST_GLUE_QEMU_FOLDER_H

#include <glib.h>

typedef struct QemuFolder QemuFolder;

/**
 * qemu_folder_new:
 *
 * Makes a folder under the system's folder for temporary files (TMPDIR).
 *
 * Returns: the folder, or NULL with QEMU_ERROR_IO or QEMU_ERROR_START.
 */
QemuFolder *qemu_folder_new(GError **error);

/**
 * qemu_folder_adopt:
 *
 * The same for the folder @name, which there is already, and is empty.
 *
 * Returns: the folder, or NULL with QEMU_ERROR_START; then it stays.
 */
QemuFolder *qemu_folder_adopt(const char *name, GError **error);

/**
 * qemu_folder_free: removes the folder with all files in it, and waits for the
 * end of its guardian.
 */
void qemu_folder_free(QemuFolder *folder);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QemuFolder, qemu_folder_free)

/**
 * qemu_folder_name:
 *
 * Returns: its absolute path; borrowed.
 */
const char *qemu_folder_name(const QemuFolder *folder);

/**
 * qemu_folder_path:
 *
 * Returns: the path of the file @name in it. Free with g_free().
 */
char *qemu_folder_path(const QemuFolder *folder, const char *name);

#endif

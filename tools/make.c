/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * `pagewise make`: makes a snapshot, right or wrong, from a description
 * (docs/snapshot-text.md). The file appears under its name only when it is
 * complete; it does not judge what it makes.
 */
#define _GNU_SOURCE /* TEMP_FAILURE_RETRY */

#include "tools/command.h"

#include "model/snapshot.h"
#include "tools/listing.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define MAX_DESCRIPTION (UINT64_C(512) << 20)

const Command command_make = {
    .name = "make",
    .parameters = "DESCRIPTION FILE",
    .summary = "Make a snapshot, right or wrong, from a description",
    .help = "DESCRIPTION is a text as `pagewise inspect --text` and `pagewise replay` print it\n"
            "(docs/snapshot-text.md), or - for standard input. What it leaves out is as QEMU\n"
            "writes it. FILE is replaced once it is complete; holes take no space.\n\n"
            "Exit status: 0: made; 2: not made, FILE is as it was; 64: wrong arguments.",
    .min_parameters = 2,
    .max_parameters = 2,
};

static bool fail_with_errno(GError **error, const char *what, const char *path)
{
    int reason = errno;

    g_set_error(error, COMMAND_ERROR, COMMAND_ERROR_OUTPUT, "%s %s failed: %s", what, path,
                g_strerror(reason));
    return false;
}

/* The whole of a file that may be a pipe, with a NUL behind it; NULL on error. */
static char *read_all(int fd, GError **error)
{
    g_autoptr(GString) text = g_string_new(NULL);
    g_autofree char *buffer = g_malloc(65536);
    ssize_t n;

    while ((n = TEMP_FAILURE_RETRY(read(fd, buffer, 65536))) > 0) {
        g_string_append_len(text, buffer, n);
        if (text->len > MAX_DESCRIPTION) {
            g_set_error_literal(error, COMMAND_ERROR, COMMAND_ERROR_INPUT,
                                "is over 512 MiB: this is no description");
            return NULL;
        }
    }
    if (n < 0) {
        g_set_error(error, COMMAND_ERROR, COMMAND_ERROR_INPUT, "cannot be read: %s",
                    g_strerror(errno));
        return NULL;
    }
    if (strlen(text->str) != text->len) {
        g_set_error_literal(error, COMMAND_ERROR, COMMAND_ERROR_INPUT,
                            "is no text: a description is what `pagewise inspect --text` prints");
        return NULL;
    }
    return g_string_free(g_steal_pointer(&text), FALSE);
}

static char *read_description(const char *path, GError **error)
{
    char *text;
    int fd;

    if (strcmp(path, "-") == 0) {
        return read_all(STDIN_FILENO, error);
    }
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        g_set_error(error, COMMAND_ERROR, COMMAND_ERROR_INPUT, "cannot be opened: %s",
                    g_strerror(errno));
        return NULL;
    }
    text = read_all(fd, error);
    close(fd);
    return text;
}

/* The file to replace, links followed; NULL if it is one that must not be. */
static char *find_destination(const char *path, GError **error)
{
    g_autofree char *resolved = NULL;
    char *real;
    struct stat status;

    if (stat(path, &status) < 0) {
        return g_strdup(path);
    }
    if (!S_ISREG(status.st_mode)) {
        g_set_error_literal(error, COMMAND_ERROR, COMMAND_ERROR_OUTPUT,
                            "is there and is no regular file: name another");
        return NULL;
    }
    real = realpath(path, NULL);
    resolved = g_strdup(real ? real : path);
    free(real);
    return g_steal_pointer(&resolved);
}

static bool check_space(const SparseFile *file, int fd, GError **error)
{
    uint64_t needed = sparse_file_data_bytes(file);
    struct statvfs status;
    uint64_t there;

    if (fstatvfs(fd, &status) < 0) {
        return true; /* then writing will tell */
    }
    there = (uint64_t)status.f_bavail * status.f_frsize;
    if (needed > there) {
        g_autofree char *needs = listing_size(needed);
        g_autofree char *has = listing_size(there);

        g_set_error(error, COMMAND_ERROR, COMMAND_ERROR_OUTPUT,
                    "needs %s on disk, and there are %s left", needs, has);
        return false;
    }
    return true;
}

static mode_t default_mode(void)
{
    mode_t mask = umask(0);

    umask(mask);
    return 0666 & ~mask;
}

/* While it is written: without a name, so that Ctrl-C leaves nothing behind. */
typedef struct NewFile {
    int fd;
    char *name; /* NULL: it has none yet; owned */
} NewFile;

static bool new_file_open(NewFile *file, const char *destination, GError **error)
{
    g_autofree char *folder = g_path_get_dirname(destination);

    file->name = NULL;
    file->fd = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (file->fd >= 0) {
        return true;
    }
    /* Not every file system has that, and mkostemp() tells what else is wrong. */
    file->name = g_strdup_printf("%s.XXXXXX", destination);
    file->fd = mkostemp(file->name, O_CLOEXEC);
    return file->fd >= 0 || fail_with_errno(error, "making", file->name);
}

static bool new_file_give_name(NewFile *file, const char *destination, GError **error)
{
    g_autofree char *from = g_strdup_printf("/proc/self/fd/%d", file->fd);

    while (!file->name) {
        g_autofree char *name = g_strdup_printf("%s.%08x", destination, g_random_int());

        if (linkat(AT_FDCWD, from, AT_FDCWD, name, AT_SYMLINK_FOLLOW) == 0) {
            file->name = g_steal_pointer(&name);
        } else if (errno != EEXIST) {
            return fail_with_errno(error, "making", name);
        }
    }
    return true;
}

static void new_file_clear(NewFile *file)
{
    if (file->fd >= 0) {
        close(file->fd);
    }
    if (file->name) {
        g_unlink(file->name);
        g_free(file->name);
    }
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(NewFile, new_file_clear)

static bool write_and_rename(const SparseFile *from, NewFile *to, const char *destination,
                             GError **error)
{
    struct stat old;
    mode_t mode = stat(destination, &old) == 0 ? old.st_mode & 07777 : default_mode();

    if (!check_space(from, to->fd, error) || !sparse_file_to_fd(from, to->fd, error)) {
        return false;
    }
    if (fchmod(to->fd, mode) < 0 || fsync(to->fd) < 0) {
        return fail_with_errno(error, "writing", destination);
    }
    if (!new_file_give_name(to, destination, error)) {
        return false;
    }
    if (g_rename(to->name, destination) < 0) {
        return fail_with_errno(error, "renaming", to->name);
    }
    g_clear_pointer(&to->name, g_free);
    return true;
}

static bool write_snapshot(const SparseFile *file, const char *path, GError **error)
{
    g_autofree char *destination = find_destination(path, error);
    g_auto(NewFile) to = { .fd = -1 };

    return destination && new_file_open(&to, destination, error) &&
           write_and_rename(file, &to, destination, error);
}

int run_make(int argc, char **argv)
{
    const GOptionEntry own[] = { G_OPTION_ENTRY_NULL };
    g_autoptr(GError) error = NULL;
    g_autoptr(Snapshot) snapshot = snapshot_new();
    g_autoptr(SparseFile) file = sparse_file_new();
    g_autofree char *text = NULL;

    if (!command_parse(&command_make, own, &argc, &argv)) {
        return STATUS_USAGE;
    }
    text = read_description(argv[1], &error);
    if (!text || !snapshot_from_text(text, snapshot, &error)) {
        return command_fail(&command_make, argv[1], error);
    }
    snapshot_encode(snapshot, file);
    if (!write_snapshot(file, argv[2], &error)) {
        return command_fail(&command_make, argv[2], error);
    }
    return STATUS_OK;
}

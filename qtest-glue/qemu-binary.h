/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which QEMU to use: QTEST_QEMU_BINARY in the environment (QEMU's own
 * variable), else what -DQEMU_BINARY= said when pagewise was configured, else
 * qemu-system-x86_64 from PATH. A named one is never silently replaced by
 * another. It must be 9.0 or newer: that has mapped-ram.
 */
#ifndef PAGEWISE_QTEST_GLUE_QEMU_BINARY_H
#define PAGEWISE_QTEST_GLUE_QEMU_BINARY_H

#include <glib.h>
#include <stdbool.h>

#define QEMU_BINARY_MIN_MAJOR 9

/* What to do where there is none: for skips and messages. */
#define QEMU_BINARY_REMEDY                                                                         \
    "install QEMU 9.0 or newer (Debian 12: apt-get install --no-install-recommends "               \
    "-t bookworm-backports qemu-system-x86), or name one in QTEST_QEMU_BINARY"

/* Exit status of a program that has nothing to do without one: as ctest's skips. */
#define QEMU_BINARY_EXIT_SKIP 77

typedef struct QemuBinary {
    char *path;
    char *version; /* the first line that -version prints */
    unsigned major;
    unsigned minor;
    unsigned micro;
} QemuBinary;

/**
 * qemu_binary_find:
 *
 * Finds the binary and asks it for its version.
 *
 * Returns: the binary, or NULL with QEMU_ERROR_NO_BINARY, whose message is the
 * reason; the remedy is QEMU_BINARY_REMEDY: together they make a skip.
 */
QemuBinary *qemu_binary_find(GError **error);

/**
 * qemu_binary_probe:
 * @path: absolute, relative, or a name that is searched for in PATH
 *
 * The same for this one binary.
 */
QemuBinary *qemu_binary_probe(const char *path, GError **error);

void qemu_binary_free(QemuBinary *binary);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QemuBinary, qemu_binary_free)

/**
 * qemu_version_parse:
 * @line: "QEMU emulator version 10.0.2 (Debian ...)"
 *
 * Returns: false if @line is not of that form. Micro may be missing.
 */
bool qemu_version_parse(const char *line, unsigned *major, unsigned *minor, unsigned *micro);

#endif

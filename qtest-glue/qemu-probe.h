/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a QEMU can do that a snapshot's save or load needs, asked of the QEMU
 * itself.
 */
#ifndef PAGEWISE_QTEST_GLUE_QEMU_PROBE_H
#define PAGEWISE_QTEST_GLUE_QEMU_PROBE_H

#include "qtest-glue/qemu-binary.h"

typedef struct QemuFeature {
    const char *name; /* "fast snapshot load (mapped-ram with postcopy-ram)" */
    bool available;
    char *reason; /* QEMU's words if it is not; else NULL */
} QemuFeature;

/**
 * qemu_probe_features:
 *
 * Returns: a new array of QemuFeature, or NULL with QEMU_ERROR: the QEMU could
 * not be asked. Free with g_array_unref().
 */
GArray *qemu_probe_features(const QemuBinary *binary, GError **error);

/**
 * qemu_probe_lazy:
 *
 * Does it accept mapped-ram with postcopy-ram for a load, upstream's fast
 * snapshot load?
 *
 * Returns: false with its words.
 */
bool qemu_probe_lazy(const QemuBinary *binary, GError **error);

/**
 * qemu_probe_print: prints path, version, and a line for each feature.
 */
bool qemu_probe_print(const QemuBinary *binary, GError **error);

#endif

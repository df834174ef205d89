/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where a real QEMU crashes: a second run of the load under gdb.
 */
#ifndef PAGEWISE_QTEST_GLUE_BACKTRACE_H
#define PAGEWISE_QTEST_GLUE_BACKTRACE_H

#include "qtest-glue/qemu-guest.h"

/**
 * qemu_backtrace:
 * @file: descriptor of the file to load; borrowed
 *
 * Loads the file once more, in a QEMU under gdb.
 *
 * Returns: the signal and the stack of the thread that got it, a frame a line,
 * or NULL with an error: there is no gdb, or QEMU did not crash. Free with
 * g_free().
 */
char *qemu_backtrace(const QemuBinary *binary, const QemuMachine *machine, unsigned mib,
                     const QemuTransfer *transfer, int file, GError **error);

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The errors of qtest-glue: what goes wrong between us and a real QEMU. What a
 * QMP command itself answers as an error has a domain of its own, QMP_ERROR in
 * qmp.h.
 */
#ifndef PAGEWISE_QTEST_GLUE_ERROR_H
#define PAGEWISE_QTEST_GLUE_ERROR_H

#include <glib.h>

typedef enum QemuErrorCode {
    QEMU_ERROR_NO_BINARY, /* there is no QEMU that can be used */
    QEMU_ERROR_START,     /* it could not be started, or ended before QMP was up */
    QEMU_ERROR_DIED,      /* it ended, or closed the connection, while we needed it */
    QEMU_ERROR_TIMEOUT,   /* a deadline passed */
    QEMU_ERROR_PROTOCOL,  /* it answered what we do not understand */
    QEMU_ERROR_MIGRATION, /* a save or load ended with "failed" */
    QEMU_ERROR_LIMIT,     /* a load passed a limit of time or memory */
    QEMU_ERROR_NO_ACCESS, /* the kernel does not let us look into its memory */
    QEMU_ERROR_IO,        /* a file or system call of ours failed */
} QemuErrorCode;

#define QEMU_ERROR qemu_error_quark()
GQuark qemu_error_quark(void);

#endif

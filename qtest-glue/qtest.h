/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A client of QEMU's qtest protocol over a connected stream socket: guest
 * physical memory, as a device would read and write it. It answers to QEMU's
 * softmmu/qtest.c (system/qtest.c). No call waits without a deadline, and no
 * call is safe from two threads at once.
 *
 * Debian's QEMU has no "-accel qtest"; beside TCG the commands work on every
 * machine with a processor. A machine without one dies of them.
 */
#ifndef PAGEWISE_QTEST_GLUE_QTEST_H
#define PAGEWISE_QTEST_GLUE_QTEST_H

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct QtestClient QtestClient;

/* @fd: a connected socket, taken over. */
QtestClient *qtest_client_new(int fd);
void qtest_client_free(QtestClient *qtest);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QtestClient, qtest_client_free)

/**
 * qtest_read, qtest_write:
 * @address: guest physical, bytes
 * @length: bytes, not 0
 *
 * Transfers memory in hexadecimal.
 *
 * Returns: false with QEMU_ERROR.
 */
bool qtest_read(QtestClient *qtest, uint64_t address, void *bytes, size_t length, GError **error);
bool qtest_write(QtestClient *qtest, uint64_t address, const void *bytes, size_t length,
                 GError **error);

/**
 * qtest_read_b64, qtest_write_b64: the same in base64, two thirds of the bytes.
 */
bool qtest_read_b64(QtestClient *qtest, uint64_t address, void *bytes, size_t length,
                    GError **error);
bool qtest_write_b64(QtestClient *qtest, uint64_t address, const void *bytes, size_t length,
                     GError **error);

/**
 * qtest_memset: fills @length bytes of guest physical memory with @byte.
 */
bool qtest_memset(QtestClient *qtest, uint64_t address, uint8_t byte, size_t length,
                  GError **error);

#endif

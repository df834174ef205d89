/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Loads many files in one real QEMU, ten times as fast as a fresh QEMU for each:
 * an unmodified QEMU with a library in it (fork-server/preload.c) that forks a
 * child where it would begin to read the file.
 *
 * What a child does differently from a fresh QEMU: it has no thread that QEMU
 * had before the load. So whoever finds a failure here shows it again with a
 * fresh one; see qemu-subject.h.
 */
#ifndef PAGEWISE_QTEST_GLUE_FORK_SERVER_H
#define PAGEWISE_QTEST_GLUE_FORK_SERVER_H

#include "qtest-glue/qemu-guest.h"

typedef struct ForkServer ForkServer;

/**
 * fork_server_new:
 * @guest: borrowed; who starts another QEMU with it forgets the server
 *
 * Starts the QEMU, all its RAM zero, up to where it would read the file.
 *
 * Returns: the server, or NULL with an error: QMP_ERROR if this QEMU cannot
 * load as @transfer says.
 */
ForkServer *fork_server_new(const QemuBinary *binary, QemuGuest *guest,
                            const QemuTransfer *transfer, const LoadLimits *limits, GError **error);
void fork_server_free(ForkServer *server);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ForkServer, fork_server_free)

/**
 * fork_server_file:
 *
 * Returns: the descriptor of the file that is loaded next; borrowed, of any
 * content, to be written between loads.
 */
int fork_server_file(const ForkServer *server);

/**
 * fork_server_load:
 *
 * Makes guest RAM zero, and loads the file. After QEMU_LOAD_COMPLETED the
 * guest's RAM can be looked at (qemu_guest_copy_block() with
 * fork_server_child()) until fork_server_release().
 *
 * Returns: the outcome; @error is set for all but QEMU_LOAD_COMPLETED.
 * QEMU_LOAD_UNABLE: the server is dead.
 */
QemuLoadOutcome fork_server_load(ForkServer *server, GError **error);

/**
 * fork_server_log:
 *
 * Returns: what QEMU wrote to stderr in the last load, 64 KiB at most. Free
 * with g_free().
 */
char *fork_server_log(const ForkServer *server);

/* The status with which the last load's child ended by itself; 0 if it did not. */
int fork_server_status(const ForkServer *server);

/* QEMU itself. */
pid_t fork_server_pid(const ForkServer *server);

/* The child of the last load. */
pid_t fork_server_child(const ForkServer *server);

/**
 * fork_server_release: ends the child of a completed load.
 */
void fork_server_release(ForkServer *server);

/* Processor time of all children that have ended, microseconds. */
int64_t fork_server_cpu_us(const ForkServer *server);

#endif

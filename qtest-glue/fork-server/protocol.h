/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the fork server inside QEMU (preload.c) and its client
 * (qtest-glue/fork-server.c) say to each other, over a SOCK_SEQPACKET socket:
 * the client sends one byte for each load; the answers are ForkMessages.
 *
 *     client            QEMU                    its child
 *               <-      READY
 *     'L'       ->      forks          ->
 *               <-                              STARTED, then runs the load
 *               <-                              LOADED, then waits for SIGKILL
 *     SIGKILL                          ->
 *               <-      ENDED
 *
 * A child that ends by itself sends no LOADED.
 */
#ifndef PAGEWISE_QTEST_GLUE_FORK_SERVER_PROTOCOL_H
#define PAGEWISE_QTEST_GLUE_FORK_SERVER_PROTOCOL_H

#include <stdint.h>

/* The environment variable that makes preload.c do anything. */
#define FORK_SERVER_VARIABLE "PAGEWISE_FORK_SERVER"

/* Descriptors in QEMU: the socket, the file to load, the child's stderr. */
#define FORK_SERVER_CONTROL_FD 200
#define FORK_SERVER_FILE_FD 201
#define FORK_SERVER_LOG_FD 202

enum {
    FORK_SERVER_LOAD = 'L',
};

typedef enum ForkMessageType {
    FORK_SERVER_READY = 1, /* pid is QEMU's */
    FORK_SERVER_STARTED,   /* pid is the child's */
    FORK_SERVER_LOADED,    /* the file is closed, and the main loop has nothing to do */
    FORK_SERVER_ENDED,     /* status is valid */
} ForkMessageType;

typedef struct ForkMessage {
    int32_t type; /* ForkMessageType */
    int32_t pid;
    int32_t status;  /* as of waitpid() */
    int64_t user_us; /* ENDED: processor time of the child, microseconds */
    int64_t system_us;
} ForkMessage;

#endif

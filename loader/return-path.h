/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The return path of network postcopy: messages from destination to source, on
 * a socket. Answers to docs/postcopy-wire.md, section 4; what QEMU has as
 * migrate_send_rp_*(). It keeps no account of what was sent but the block of
 * the last request, and reads nothing.
 *
 * Each returns 0 or -errno, when all of the message was taken by the socket or
 * it failed; it may block as long as the socket does. One thread at a time.
 */
#ifndef PAGEWISE_LOADER_RETURN_PATH_H
#define PAGEWISE_LOADER_RETURN_PATH_H

#include "loader/migration.h"

#define MIGRATION_RESUME_ACK_VALUE 1

typedef struct ReturnPath {
    int fd;                  /* a socket; borrowed */
    const RAMBlock *last_rb; /* that a request has named, NULL: none */
} ReturnPath;

/* This one never blocks. */
int migrate_send_rp_shut(ReturnPath *self, uint32_t value);

int migrate_send_rp_pong(ReturnPath *self, uint32_t value);
int migrate_send_rp_resume_ack(ReturnPath *self, uint32_t value);

/* Asks for the host page at @start, bytes in the block. */
int migrate_send_rp_req_pages(ReturnPath *self, const RAMBlock *rb, ram_addr_t start);

/* Tells which target pages of the block are settled (receivedmap). */
int migrate_send_rp_recv_bitmap(ReturnPath *self, const RAMBlock *rb, uint64_t target_page_size);

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Network postcopy: each page that is touched is asked of the migration source
 * over the return path, and what the source sends is placed. Answers to
 * docs/postcopy-wire.md; what QEMU has in migration/postcopy-ram.c and
 * savevm.c, with the callback of the founding series: the fault thread asks
 * (postcopy_page_fault_handler()), one thread a channel reads and places.
 *
 * When a channel breaks the fault thread waits; postcopy_net_resume() gives it
 * new ones, and every page that was asked for and did not come is asked for
 * again. A page is placed once: who has all of it claims it (page-claims.h),
 * and who comes second drops what he has.
 *
 * Failure: the first error is kept and reported at the end, and every page
 * that did not come is poisoned (postcopy_give_up_block()).
 */
#ifndef PAGEWISE_LOADER_POSTCOPY_NET_H
#define PAGEWISE_LOADER_POSTCOPY_NET_H

#include "loader/page-stream.h"
#include "loader/postcopy-ram.h"

typedef struct PostcopyNet PostcopyNet;

typedef struct PostcopyNetOptions {
    bool preempt;        /* pages that were asked for come by a channel of their own */
    uint32_t section_id; /* of the RAM section in the main channel */
    /* How long the load waits for new channels, milliseconds; then it fails. */
    unsigned pause_timeout_ms;
    /* A source that says nothing for so long, or takes nothing, is taken for
     * dead: its channels are broken. Milliseconds; 0: the socket tells. */
    unsigned source_timeout_ms;
    /* The channels broke for @reason; nobody waits for the call. May be NULL. By
     * the thread that found out; it must not call back. */
    void (*paused)(void *opaque, const GError *reason);
    void *opaque; /* borrowed */
} PostcopyNetOptions;

/*
 * Handler of the fault thread, page_fault_opaque being a PostcopyNet: asks for
 * the page, or waits as long as there is no channel to ask on.
 */
int postcopy_page_fault_handler(MigrationIncomingState *mis, RAMBlock *rb, ram_addr_t offset,
                                void *fault_address);

/*
 * uffd_setup_incoming() for network postcopy: one temporary page a channel.
 * page_fault_opaque and fault_thread_failed have to be set.
 */
bool postcopy_ram_incoming_setup(MigrationIncomingState *mis, bool preempt, GError **error);

/*
 * Makes all of RAM, up to each block's used_length, come from the source. @fds:
 * connected stream sockets by RAM_CHANNEL_*; the second is -1 without preempt.
 * They are the load's from now on, also if it is refused. @mis and what it
 * points to must stay until postcopy_net_end(); it uses page_fault_opaque and
 * fault_thread_failed. NULL: refused, and all is as before but for RAM's
 * content.
 */
PostcopyNet *postcopy_net_start(MigrationIncomingState *mis, const PostcopyNetOptions *options,
                                const int fds[RAM_CHANNEL_MAX], GError **error);

/*
 * Gives new channels, as above, in place of broken ones. For any thread. False
 * if the channels are not broken, or the load is over; then @fds are closed.
 */
bool postcopy_net_resume(PostcopyNet *net, const int fds[RAM_CHANNEL_MAX], GError **error);

/* The load gives up: what did not come is poisoned. For any thread. */
void postcopy_net_cancel(PostcopyNet *net);

/* Returns when all pages are there and the channels have ended, or the load has failed. */
void postcopy_net_wait(PostcopyNet *net);

/*
 * Waits, says SHUT, ends the load and frees it. RAM may be touched meanwhile;
 * discards have to be over. The blocks keep receivedmap and installed_by until
 * ram_block_clear(). Returns false with the first error if it failed.
 */
bool postcopy_net_end(PostcopyNet *net, GError **error);

#endif

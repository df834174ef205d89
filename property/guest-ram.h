/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Guest RAM for one load under test: every byte of it is known before the load
 * and accounted for after it.
 *
 *     | guard page | slack: canary | block, used_length | canary | guard page |
 *                                  ^ host               ^ used_length
 *                                                       max_length ^
 *
 * A block ends at the guard page, so that one byte beyond max_length is a
 * crash; the canaries tell of writes below host and between used_length and
 * max_length. A small block is plain memory that is refilled for each load. A
 * large one is a memory file: which of its pages were touched is asked of the
 * kernel (SEEK_DATA), so that a 4 GiB block with two pages takes microseconds.
 *
 * It knows guests and bytes; it does not judge.
 */
#ifndef PAGEWISE_PROPERTY_GUEST_RAM_H
#define PAGEWISE_PROPERTY_GUEST_RAM_H

#include "model/guest.h"
#include "model/sparse-file.h"

#include <glib.h>

/* A block of at most this many bytes is a small one. */
#define GUEST_RAM_SMALL (UINT64_C(256) << 10)
/* Blocks of more than this many bytes cannot be made. */
#define GUEST_RAM_LARGE (UINT64_C(1) << 34)

#define GUEST_RAM_CANARY 0xc5

typedef struct GuestRam GuestRam;

GuestRam *guest_ram_new(void);
void guest_ram_free(GuestRam *ram);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(GuestRam, guest_ram_free)

/*
 * Lays out the guest's blocks: used_length bytes of @before in small blocks
 * (large ones always hold zeroes), canaries around. What the blocks held
 * before is gone. False: the kernel gives no memory (@error is set).
 */
bool guest_ram_prepare(GuestRam *ram, const Guest *guest, uint8_t before, GError **error);

/*
 * In place of guest RAM, for a load that must not touch any: GUEST_RAM_LARGE
 * bytes of address space that nobody can read or write. NULL: see @error.
 */
uint8_t *guest_ram_forbidden(GuestRam *ram, GError **error);

/* First byte of the block; valid until the next guest_ram_prepare(). */
uint8_t *guest_ram_host(const GuestRam *ram, unsigned block);

/* The byte that the block's used part held before the load. */
uint8_t guest_ram_before(const GuestRam *ram, unsigned block);

bool guest_ram_is_large(const GuestRam *ram, unsigned block);

/*
 * To be called after each load, before its RAM is asked about, and after all
 * that is written to it: notes which pages there are of the large blocks, and
 * of the small ones with holes. The next guest_ram_prepare() relies on it.
 * (Asking the kernel for each gap between two pages would cost more than the
 * load.)
 */
void guest_ram_survey(GuestRam *ram, unsigned n_blocks);

/*
 * Before a load that may leave pages of small blocks missing, or drop them:
 * from now on those are asked for before they are written or read as zero
 * (each would cost a page fault). To be called in the process that loads.
 */
void guest_ram_will_have_holes(GuestRam *ram, unsigned n_blocks);

/*
 * The first of the block's pages @page to @end - 1 that memory is missing of, but
 * not for want of a touch: it is swapped out, or poisoned. @end: there is none;
 * @page: the kernel does not say. Needs guest_ram_will_have_holes().
 */
uint64_t guest_ram_next_odd(const GuestRam *ram, unsigned block, uint64_t page, uint64_t end);

/*
 * After a load that failed: makes [start, end) of the block, whole pages,
 * memory that can be used again. What it held is gone.
 */
bool guest_ram_repair(GuestRam *ram, unsigned block, uint64_t start, uint64_t end, GError **error);

/*
 * Is every byte of [start, end) of the block as prepared? Offsets in bytes,
 * end <= max_length. If not, *differs is the offset of the first that is not.
 */
bool guest_ram_is_untouched(const GuestRam *ram, unsigned block, uint64_t start, uint64_t end,
                            uint64_t *differs);

/* Does every byte of [start, end) have the value @byte? */
bool guest_ram_is_filled(const GuestRam *ram, unsigned block, uint64_t start, uint64_t end,
                         uint8_t byte, uint64_t *differs);

/* Is the canary below the block as prepared? */
bool guest_ram_slack_is_untouched(const GuestRam *ram, unsigned block);

#endif

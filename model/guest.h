/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a reader of a snapshot is configured with: "a reader" and "guest block"
 * in docs/mapped-ram-format.md, "How to read the rules". Plain data, no
 * memory of its own: a Guest can be copied by assignment.
 */
#ifndef PAGEWISE_MODEL_GUEST_H
#define PAGEWISE_MODEL_GUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* A q35 with VGA has 8, one with network cards and a GPU more than 10. */
#define GUEST_MAX_BLOCKS 32

typedef struct GuestBlock {
    char idstr[256];         /* NUL-terminated, not empty, as QEMU's RAMBlock.idstr */
    uint64_t used_length;    /* bytes, a multiple of the target page size, not 0 */
    uint64_t max_length;     /* bytes, >= used_length, a multiple of the same */
    uint64_t host_page_size; /* bytes: 4096, or 2 MiB for hugetlb */
} GuestBlock;

typedef struct Guest {
    uint64_t target_page_size; /* bytes, a power of two, 1 KiB to 64 KiB */
    bool x_ignore_shared;      /* the capability is on in the reader */
    bool clear_pages;          /* rule G2: a clear bit clears the page (loadvm) */
    char machine[64];          /* name that the reader knows; "" = any */
    unsigned n_blocks;
    GuestBlock blocks[GUEST_MAX_BLOCKS];
} Guest;

/*
 * Makes @to equal to @from; what stands beyond the last block is not looked at.
 * (A whole Guest is 9 KiB: for most, an assignment costs more than a load.)
 */
static inline void guest_copy(Guest *to, const Guest *from)
{
    memcpy(to, from, offsetof(Guest, blocks) + from->n_blocks * sizeof(GuestBlock));
}

#endif

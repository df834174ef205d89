/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The errors of the reference loader. Every refusal is a GError of this domain
 * whose message has one form:
 *
 *     block 'pc.ram': page_size 0x2000 at file offset 0x69: is not the
 *     target's page size 0x1000 (rule H2)
 *
 * ("block ...: " only where a block is concerned; one line). The rule is one
 * of docs/mapped-ram-format.md.
 */
#ifndef PAGEWISE_LOADER_ERROR_H
#define PAGEWISE_LOADER_ERROR_H

#include <glib.h>
#include <stdint.h>

typedef enum MappedRamErrorCode {
    MAPPED_RAM_ERROR_TRUNCATED,   /* the file ends in a field: F4, B2, P1 */
    MAPPED_RAM_ERROR_UNSUPPORTED, /* well-formed, but not for this reader */
    MAPPED_RAM_ERROR_INVALID,     /* breaks a rule whoever reads it */
    MAPPED_RAM_ERROR_MISMATCH,    /* does not fit the guest or the capabilities */
    MAPPED_RAM_ERROR_IO,          /* reading or writing failed; has no rule */
    MAPPED_RAM_ERROR_NO_MEMORY,   /* has no rule */
} MappedRamErrorCode;

#define MAPPED_RAM_ERROR mapped_ram_error_quark()
GQuark mapped_ram_error_quark(void);

#endif

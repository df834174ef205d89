/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The tree's migration/ram.c, whole, and the doors into what is static in it. */
#include PAGEWISE_UNIT

#include "qemu/error-report.h"

#include "subject/qemu-tree/adapter.h"

void tree_ram_register(void)
{
    ram_mig_init();
}

#if PAGEWISE_HAVE_PARSE_RAMBLOCK
bool tree_ram_load_block(QEMUFile *file, RAMBlock *block, uint64_t length)
{
    RCU_READ_LOCK_GUARD();
#if PAGEWISE_HAVE_PARSE_RAMBLOCK_ERRP
    Error *error = NULL;

    if (parse_ramblock(file, block, length, &error) < 0) {
        error_report_err(error);
        return false;
    }
    return true;
#else
    return parse_ramblock(file, block, length) >= 0;
#endif
}
#endif

#if PAGEWISE_HAVE_HEADER_STAGE
bool tree_ram_load_header(QEMUFile *file, RAMBlock *block, uint64_t length, Error **errp)
{
    ERRP_GUARD();
    RCU_READ_LOCK_GUARD();

    parse_ramblock_mapped_ram_header(file, block, length, errp);
    return !*errp;
}
#endif

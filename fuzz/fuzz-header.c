/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The header and the bitmap of one block: MappedRamHeader at any place of any file,
 * against rules H1 to P1 of docs/mapped-ram-format.md. With INPUT_LOAD_PAGES the
 * pages are loaded, too, in one stage and in two.
 */
#include "fuzz/target.h"

PAGEWISE_FUZZ_TARGET(property_header, INPUT_HEADER)

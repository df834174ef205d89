/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The header and the bitmap of one block: MappedRamHeader at any place of any
 * file, against rules H1 to B5 of docs/mapped-ram-format.md. No page is loaded:
 * guest RAM is inaccessible.
 */
#include "fuzz/target.h"

PAGEWISE_FUZZ_TARGET(property_header, INPUT_HEADER)

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where a page fault would be served from: addresses, sub-page offsets, block
 * edges, host pages larger and smaller than target pages. No kernel and no RAM.
 */
#include "fuzz/target.h"

PAGEWISE_FUZZ_TARGET(property_fault_map, INPUT_FAULT_MAP)

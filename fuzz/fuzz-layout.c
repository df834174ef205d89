/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A whole file, generated right and then mutated k times: the target that reaches
 * deep, and that says which mutation did it (pagewise replay).
 */
#include "fuzz/target.h"

PAGEWISE_FUZZ_TARGET(property_layout, INPUT_LAYOUT)

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fuzz target: a snapshot, right or wrong, is loaded lazily while a guest
 * touches and discards pages, the eager thread goes on by steps, and
 * operations fail, all as the input says. Real userfaultfd.
 */
#include "fuzz/target.h"

PAGEWISE_FUZZ_TARGET(property_lazy, INPUT_LAZY)

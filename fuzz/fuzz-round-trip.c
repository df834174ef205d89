/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Load, save, load again; describe a file and make it anew from the description.
 */
#include "fuzz/target.h"

PAGEWISE_FUZZ_TARGET(property_round_trip, INPUT_ROUND_TRIP)

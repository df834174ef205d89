/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Set-up and tear-down of lazy loading with real userfaultfd: any call fails at
 * any point, with any errno, several in one run.
 */
#include "fuzz/target.h"

PAGEWISE_FUZZ_TARGET(property_setup, INPUT_SETUP)

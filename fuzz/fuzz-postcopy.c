/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Network postcopy: what a source sends, right or wrong, whole or in pieces,
 * over channels that break; what a guest touches meanwhile. Real userfaultfd;
 * without it the parser alone.
 */
#include "fuzz/target.h"

PAGEWISE_FUZZ_TARGET(property_postcopy, INPUT_POSTCOPY)

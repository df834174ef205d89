/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A whole file, raw: every byte of it is the fuzzer's, in the sparse form of
 * model/sparse-file.h. Seeds are snapshots that a real QEMU wrote.
 */
#include "fuzz/target.h"

PAGEWISE_FUZZ_TARGET(property_stream, INPUT_STREAM)

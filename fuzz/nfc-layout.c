/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The property no-functional-change on inputs of fuzz-layout. */
#include "fuzz/nfc-target.h"
#include "fuzz/target.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    nfc_target_run(data, size);
    return 0;
}

PAGEWISE_FUZZ_MUTATORS(INPUT_LAYOUT)

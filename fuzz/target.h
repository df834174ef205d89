/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a fuzz target is: one property, one kind of input. A target's file is
 * its head comment and one line:
 *
 *     PAGEWISE_FUZZ_TARGET(property_header, INPUT_HEADER)
 *
 * libFuzzer, AFL++'s and honggfuzz's drivers, and fuzz/replay-driver.c all
 * call the functions that this defines.
 */
#ifndef PAGEWISE_FUZZ_TARGET_H
#define PAGEWISE_FUZZ_TARGET_H

#include "fuzz/mutator.h"
#include "property/property.h"

/*
 * Runs @property on @subject, always the same in one program. Prints the
 * paragraph and aborts if the property is broken. Guest RAM and scratch files
 * are kept between calls.
 */
void fuzz_target_run(PropertyFunction *property, const Subject *subject, const uint8_t *data,
                     size_t size);

/* The build says which loader a program is about: pagewise_fuzz_target(SUBJECT). */
#ifndef PAGEWISE_FUZZ_SUBJECT
#define PAGEWISE_FUZZ_SUBJECT subject_reference
#endif

/* The mutators of a target, for inputs of @kind. */
#define PAGEWISE_FUZZ_MUTATORS(kind)                                                               \
    size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed);    \
    size_t LLVMFuzzerCustomCrossOver(const uint8_t *data1, size_t size1, const uint8_t *data2,     \
                                     size_t size2, uint8_t *out, size_t max_size, unsigned seed);  \
                                                                                                   \
    size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed)     \
    {                                                                                              \
        return mutate_input(kind, data, size, max_size, seed);                                     \
    }                                                                                              \
                                                                                                   \
    size_t LLVMFuzzerCustomCrossOver(const uint8_t *data1, size_t size1, const uint8_t *data2,     \
                                     size_t size2, uint8_t *out, size_t max_size, unsigned seed)   \
    {                                                                                              \
        return cross_inputs(kind, data1, size1, data2, size2, out, max_size, seed);                \
    }

#define PAGEWISE_FUZZ_TARGET(property, kind)                                                       \
    int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);                                  \
                                                                                                   \
    int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)                                   \
    {                                                                                              \
        fuzz_target_run(property, PAGEWISE_FUZZ_SUBJECT(), data, size);                            \
        return 0;                                                                                  \
    }                                                                                              \
                                                                                                   \
    PAGEWISE_FUZZ_MUTATORS(kind)

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The structure-aware mutator and crossover that all targets share. It keeps
 * an input's header right, so that no execution is spent on inputs that no
 * property takes, and it knows where the fields of a snapshot are: the judge
 * tells. Plain byte mutation is left to the engine (LLVMFuzzerMutate).
 */
#ifndef PAGEWISE_FUZZ_MUTATOR_H
#define PAGEWISE_FUZZ_MUTATOR_H

#include "property/input.h"

/*
 * Changes the input of @size bytes in @data, which has room for @max_size.
 * Returns its new size. The same arguments give the same result, as far as the
 * engine's own mutation does.
 */
size_t mutate_input(InputKind kind, uint8_t *data, size_t size, size_t max_size, unsigned seed);

/* Makes a child of two inputs in @out, which has room for @max_size. Returns its size. */
size_t cross_inputs(InputKind kind, const uint8_t *data1, size_t size1, const uint8_t *data2,
                    size_t size2, uint8_t *out, size_t max_size, unsigned seed);

#endif

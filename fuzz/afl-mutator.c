/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A target's structure-aware mutator as AFL++ loads it (its custom_mutators
 * documentation; AFL_CUSTOM_MUTATOR_LIBRARY). One shared object a target: the
 * target's own file is linked in, so that this calls the functions that libFuzzer
 * would call. Nothing in it is instrumented or sanitized: it runs inside of
 * afl-fuzz.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* What PAGEWISE_FUZZ_TARGET defines (fuzz/target.h). */
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed);
size_t LLVMFuzzerCustomCrossOver(const uint8_t *data1, size_t size1, const uint8_t *data2,
                                 size_t size2, uint8_t *out, size_t max_size, unsigned seed);

/* What AFL++ asks for. */
void *afl_custom_init(void *afl, unsigned seed);
size_t afl_custom_fuzz(void *opaque, uint8_t *data, size_t size, uint8_t **out, uint8_t *other,
                       size_t other_size, size_t max_size);
void afl_custom_deinit(void *opaque);

/* Of AFL++, which may ask for 1 MiB; no input of ours is that long. */
#define MAX_INPUT 65536

/* One execution in so many is a child of two inputs. */
#define CROSS_EVERY 4

/* libFuzzer, too, puts several mutations on top of each other. */
#define MAX_STACKED 4

typedef struct Mutator {
    unsigned seed;
    uint8_t buffer[MAX_INPUT];
} Mutator;

void *afl_custom_init(void *afl, unsigned seed)
{
    Mutator *mutator = calloc(1, sizeof(*mutator));

    (void)afl;
    if (mutator != NULL) {
        mutator->seed = seed;
    }
    return mutator;
}

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* AFL++ does not free @out: it is ours, and stays until the next call. */
size_t afl_custom_fuzz(void *opaque, uint8_t *data, size_t size, uint8_t **out, uint8_t *other,
                       size_t other_size, size_t max_size)
{
    Mutator *mutator = opaque;
    size_t room = smaller(max_size, sizeof(mutator->buffer));
    unsigned seed = mutator->seed++;

    size = smaller(size, room);
    *out = mutator->buffer;
    if (other != NULL && seed % CROSS_EVERY == 0) {
        return LLVMFuzzerCustomCrossOver(data, size, other, other_size, mutator->buffer, room,
                                         seed);
    }
    memcpy(mutator->buffer, data, size);
    for (unsigned i = 0; i <= seed / CROSS_EVERY % MAX_STACKED; i++) {
        size = LLVMFuzzerCustomMutator(mutator->buffer, size, room, seed * MAX_STACKED + i);
    }
    return size;
}

void afl_custom_deinit(void *opaque)
{
    free(opaque);
}

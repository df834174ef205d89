/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See snapshot-support.h. */
#include "unit/snapshot-support.h"

#include <string.h>

/* SplitMix64. */
static uint64_t next_random(uint64_t *state)
{
    uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));

    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

void entropy_fill(uint64_t number, uint8_t *bytes, size_t length)
{
    uint64_t state = number;
    bool sparse = number % 4 == 0;

    for (size_t i = 0; i < length; i++) {
        uint64_t random = next_random(&state);

        bytes[i] = sparse && (random >> 8) % 4 != 0 ? 0 : random;
    }
}

/* Every data byte of @a is in @b. */
static bool has_all_bytes(const SparseFile *a, const SparseFile *b)
{
    SparseExtent in_a;
    SparseExtent in_b;
    uint64_t at = 0;

    while (sparse_file_next_data(a, at, &in_a)) {
        uint8_t bytes[4096];
        size_t length = MIN(in_a.length, sizeof(bytes));

        if (in_a.kind != SPARSE_DATA && sparse_file_next_data(b, in_a.offset, &in_b) &&
            in_b.offset == in_a.offset && in_b.kind == in_a.kind && in_b.seed == in_a.seed) {
            at = in_a.offset + MIN(in_a.length, in_b.length);
            continue;
        }
        sparse_file_read(a, in_a.offset, bytes, length);
        if (sparse_file_compare(b, in_a.offset, bytes, length) != length) {
            return false;
        }
        at = in_a.offset + length;
    }
    return true;
}

bool same_file(const SparseFile *a, const SparseFile *b)
{
    return sparse_file_size(a) == sparse_file_size(b) && has_all_bytes(a, b) && has_all_bytes(b, a);
}

char *file_hex(const SparseFile *file, uint64_t at, size_t length)
{
    GString *hex = g_string_new(NULL);

    for (size_t i = 0; i < length; i++) {
        uint8_t byte;

        if (sparse_file_read(file, at + i, &byte, 1) == 1) {
            g_string_append_printf(hex, "%02x", byte);
        }
    }
    return g_string_free(hex, false);
}

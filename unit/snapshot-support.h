/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the tests of model/snapshot*.c share: pseudo-random entropy that is the
 * same in every run, and the comparison of sparse files.
 */
#ifndef PAGEWISE_UNIT_SNAPSHOT_SUPPORT_H
#define PAGEWISE_UNIT_SNAPSHOT_SUPPORT_H

#include "model/snapshot.h"

#define ENTROPY_LENGTH 256
#define N_ENTROPIES 20000
#define SMALL_BLOCKS (UINT64_C(1) << 20)
#define LARGE_BLOCKS (UINT64_C(1) << 32)

/* Fills @bytes with what depends on @number alone; small numbers: many zeroes. */
void entropy_fill(uint64_t number, uint8_t *bytes, size_t length);

/* Have both the same size and the same bytes? */
bool same_file(const SparseFile *a, const SparseFile *b);

/* The hexadecimal digits of @length bytes of the file at @at. g_free() it. */
char *file_hex(const SparseFile *file, uint64_t at, size_t length);

#endif

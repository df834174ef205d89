/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Is a page all zeroes? Named after QEMU's util/bufferiszero.c. Reads only, so
 * that memory which nobody ever touched stays untouched.
 */
#ifndef PAGEWISE_LOADER_BUFFER_IS_ZERO_H
#define PAGEWISE_LOADER_BUFFER_IS_ZERO_H

#include <stdbool.h>
#include <stddef.h>

/* @length: bytes, a multiple of 64. @buffer needs no alignment. */
bool buffer_is_zero(const void *buffer, size_t length);

#endif

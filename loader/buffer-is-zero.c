/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The first byte is zero, and each byte equals the next one: memcmp() is the
 * fastest loop over bytes that there is without vector code of our own, and it
 * leaves a page with content early.
 */
#include "loader/buffer-is-zero.h"

#include <stdint.h>
#include <string.h>

bool buffer_is_zero(const void *buffer, size_t length)
{
    const uint8_t *bytes = buffer;

    return length == 0 || (bytes[0] == 0 && memcmp(bytes, bytes + 1, length - 1) == 0);
}

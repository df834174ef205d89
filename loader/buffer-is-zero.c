/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * 64 bytes a step: what a compiler turns into a few vector instructions, and
 * few enough that a page with content is left early.
 */
#include "loader/buffer-is-zero.h"

#include <stdint.h>
#include <string.h>

bool buffer_is_zero(const void *buffer, size_t length)
{
    const uint8_t *bytes = buffer;

    for (size_t at = 0; at < length; at += 64) {
        uint64_t words[8];
        uint64_t any = 0;

        memcpy(words, bytes + at, sizeof(words));
        for (unsigned i = 0; i < 8; i++) {
            any |= words[i];
        }
        if (any) {
            return false;
        }
    }
    return true;
}

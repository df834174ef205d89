/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A yardstick: a libFuzzer target that does next to nothing. What libFuzzer and
 * the sanitizers take for it is the machine's and the tools', and no property's;
 * rates of targets are told by its rate (fuzz-speed.py). It must not grow.
 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A magic number, then 8-byte records: as small as a parser of a file can be. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    volatile unsigned records = 0;

    if (size < 4 || memcmp(data, "QEVM", 4) != 0) {
        return 0;
    }
    for (size_t at = 4; at + 8 <= size && data[at] != 0; at += 8) {
        if (data[at + 1] < data[at + 2]) {
            records++;
        }
    }
    return 0;
}

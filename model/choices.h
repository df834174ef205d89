/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A stream of bytes as a source of choices: what a property-based test draws
 * its decisions from. Reading beyond the end yields zeroes, and zero always
 * means the simplest choice, so that a shorter input is a simpler case.
 */
#ifndef PAGEWISE_MODEL_CHOICES_H
#define PAGEWISE_MODEL_CHOICES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct Choices {
    const uint8_t *data; /* borrowed */
    size_t length;
    size_t position;
} Choices;

static inline Choices choices_init(const void *data, size_t length)
{
    return (Choices){ .data = data, .length = length, .position = 0 };
}

static inline bool choices_exhausted(const Choices *c)
{
    return c->position >= c->length;
}

static inline uint8_t choices_u8(Choices *c)
{
    return c->position < c->length ? c->data[c->position++] : 0;
}

/* Little-endian, so that the first byte is the low one. */
static inline uint64_t choices_uint(Choices *c, unsigned bytes)
{
    uint64_t value = 0;

    for (unsigned i = 0; i < bytes; i++) {
        value |= (uint64_t)choices_u8(c) << (8 * i);
    }
    return value;
}

/* 0 <= result < n, n >= 1. Takes one byte for n <= 256, else as many as needed. */
static inline uint64_t choices_below(Choices *c, uint64_t n)
{
    unsigned bytes = 1;

    while (bytes < 8 && ((n - 1) >> (8 * bytes)) != 0) {
        bytes++;
    }
    return choices_uint(c, bytes) % n;
}

#endif

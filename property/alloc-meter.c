/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * See alloc-meter.h. One wrapper for each allocating function of GLib that
 * pagewise's own code can end up in, macros (g_new0, g_try_new) included.
 *
 * An abort in g_malloc() is what GLib does when memory is short; here a
 * request over the limit is only counted, and the property reports it: that
 * way the message names the case rather than the allocator.
 */
#include "property/alloc-meter.h"

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>

/* The only mutable variable of its kind: an allocator has no context argument. */
static _Thread_local AllocMeter *current;

void alloc_meter_start(AllocMeter *meter)
{
    g_assert(!current);
    current = meter;
}

void alloc_meter_stop(void)
{
    current = NULL;
}

static uint64_t product(size_t n, size_t size)
{
    uint64_t bytes;

    return __builtin_mul_overflow((uint64_t)n, (uint64_t)size, &bytes) ? UINT64_MAX : bytes;
}

static void count(uint64_t bytes)
{
    if (!current) {
        return;
    }
    current->calls++;
    if (__builtin_add_overflow(current->bytes, bytes, &current->bytes)) {
        current->bytes = UINT64_MAX;
    }
}

/* Counts a request that may fail; true if it is to fail. */
static bool count_try(uint64_t bytes)
{
    count(bytes);
    if (!current) {
        return false;
    }
    current->tries++;
    return current->tries == current->fail_try ||
           (current->max_bytes && current->bytes > current->max_bytes);
}

#define WRAP_ALLOC(name)                                                                           \
    gpointer __real_##name(gsize bytes);                                                           \
    gpointer __wrap_##name(gsize bytes);                                                           \
    gpointer __wrap_##name(gsize bytes)                                                            \
    {                                                                                              \
        count(bytes);                                                                              \
        return __real_##name(bytes);                                                               \
    }

#define WRAP_ALLOC_N(name)                                                                         \
    gpointer __real_##name(gsize n, gsize size);                                                   \
    gpointer __wrap_##name(gsize n, gsize size);                                                   \
    gpointer __wrap_##name(gsize n, gsize size)                                                    \
    {                                                                                              \
        count(product(n, size));                                                                   \
        return __real_##name(n, size);                                                             \
    }

#define WRAP_TRY(name)                                                                             \
    gpointer __real_##name(gsize bytes);                                                           \
    gpointer __wrap_##name(gsize bytes);                                                           \
    gpointer __wrap_##name(gsize bytes)                                                            \
    {                                                                                              \
        return count_try(bytes) ? NULL : __real_##name(bytes);                                     \
    }

#define WRAP_TRY_N(name)                                                                           \
    gpointer __real_##name(gsize n, gsize size);                                                   \
    gpointer __wrap_##name(gsize n, gsize size);                                                   \
    gpointer __wrap_##name(gsize n, gsize size)                                                    \
    {                                                                                              \
        return count_try(product(n, size)) ? NULL : __real_##name(n, size);                        \
    }

WRAP_ALLOC(g_malloc)
WRAP_ALLOC(g_malloc0)
WRAP_ALLOC_N(g_malloc_n)
WRAP_ALLOC_N(g_malloc0_n)
WRAP_TRY(g_try_malloc)
WRAP_TRY(g_try_malloc0)
WRAP_TRY_N(g_try_malloc_n)
WRAP_TRY_N(g_try_malloc0_n)

gpointer __real_g_realloc(gpointer old, gsize bytes);
gpointer __wrap_g_realloc(gpointer old, gsize bytes);
gpointer __wrap_g_realloc(gpointer old, gsize bytes)
{
    count(bytes);
    return __real_g_realloc(old, bytes);
}

gpointer __real_g_realloc_n(gpointer old, gsize n, gsize size);
gpointer __wrap_g_realloc_n(gpointer old, gsize n, gsize size);
gpointer __wrap_g_realloc_n(gpointer old, gsize n, gsize size)
{
    count(product(n, size));
    return __real_g_realloc_n(old, n, size);
}

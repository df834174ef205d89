/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The allocation meter counts GLib's requests and makes chosen ones fail. */
#include "property/alloc-meter.h"
#include "unit/support.h"

#include <glib.h>

static void test_requests_are_counted(void **state)
{
    AllocMeter meter = { 0 };
    void *memory;

    (void)state;
    alloc_meter_start(&meter);
    g_free(g_malloc(100));
    g_free(g_malloc0(20));
    g_free(g_malloc_n(3, 7));
    g_free(g_malloc0_n(2, 5));
    memory = g_realloc(NULL, 11);
    memory = g_realloc_n(memory, 2, 9);
    g_free(memory);
    g_free(g_try_malloc(1));
    g_free(g_try_malloc0(2));
    g_free(g_try_malloc_n(3, 1));
    g_free(g_try_malloc0_n(2, 2));
    alloc_meter_stop();
    g_free(g_malloc(1000));
    assert_int_equal(meter.calls, 10);
    assert_int_equal(meter.bytes, 100 + 20 + 21 + 10 + 11 + 18 + 1 + 2 + 3 + 4);
    assert_int_equal(meter.tries, 4);
}

static void test_a_chosen_request_fails(void **state)
{
    AllocMeter meter = { .fail_try = 2 };
    void *first, *second, *third;

    (void)state;
    alloc_meter_start(&meter);
    first = g_try_malloc(1);
    second = g_try_malloc0(1);
    third = g_try_malloc_n(1, 1);
    alloc_meter_stop();
    assert_non_null(first);
    assert_null(second);
    assert_non_null(third);
    g_free(first);
    g_free(third);
}

static void test_the_limit_makes_requests_fail(void **state)
{
    AllocMeter meter = { .max_bytes = 100 };
    void *within, *beyond;

    (void)state;
    alloc_meter_start(&meter);
    within = g_try_malloc(100);
    beyond = g_try_malloc(1);
    alloc_meter_stop();
    assert_non_null(within);
    assert_null(beyond);
    g_free(within);
}

/* A request of a product that does not fit is counted as the largest there is. */
static void test_overflow_is_counted(void **state)
{
    AllocMeter meter = { 0 };
    volatile gsize half = G_MAXSIZE / 2;

    (void)state;
    alloc_meter_start(&meter);
    assert_null(g_try_malloc_n(half, 4));
    alloc_meter_stop();
    assert_true(meter.bytes == UINT64_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_requests_are_counted),
        cmocka_unit_test(test_a_chosen_request_fails),
        cmocka_unit_test(test_the_limit_makes_requests_fail),
        cmocka_unit_test(test_overflow_is_counted),
    };

    return pagewise_run("alloc-meter", tests);
}

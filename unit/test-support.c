/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * unit/support.[ch] itself: children end as told, in time or not, and skips
 * show in the exit status. Programs that skip or fail are run as children.
 */
#include "unit/support.h"

#include <glib.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static int give_back(void *opaque)
{
    return *(int *)opaque;
}

static int sleep_for_ever(void *opaque)
{
    (void)opaque;
    for (;;) {
        pause();
    }
    return 0;
}

static int die_of_sigkill(void *opaque)
{
    (void)opaque;
    raise(SIGKILL);
    return 0;
}

static void test_child_exits(void **state)
{
    int wanted = 42;
    ChildEnd end = pagewise_run_in_child(give_back, &wanted, 20);

    (void)state;
    assert_false(end.timed_out);
    assert_int_equal(end.signal, 0);
    assert_int_equal(end.exit_status, 42);
}

static void test_child_hangs(void **state)
{
    ChildEnd end = pagewise_run_in_child(sleep_for_ever, NULL, 0);

    (void)state;
    assert_true(end.timed_out);
    assert_int_equal(end.exit_status, -1);
}

static void test_child_dies(void **state)
{
    ChildEnd end = pagewise_run_in_child(die_of_sigkill, NULL, 20);

    (void)state;
    assert_false(end.timed_out);
    assert_int_equal(end.signal, SIGKILL);
    assert_int_equal(end.exit_status, -1);
}

static void inner_needs_nothing(void **state)
{
    (void)state;
    pagewise_skip_unless(true, "moon", "it is always there", "none");
}

static void inner_needs_moon(void **state)
{
    (void)state;
    pagewise_skip_unless(false, "moon", "it is new moon", "wait two weeks");
}

typedef struct InnerGroup {
    const char *require; /* PAGEWISE_REQUIRE */
    bool one_passes;
} InnerGroup;

static int run_inner_group(void *opaque)
{
    const InnerGroup *group = opaque;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(inner_needs_moon),
        cmocka_unit_test(inner_needs_nothing),
    };

    if (freopen("/dev/null", "w", stderr) == NULL || freopen("/dev/null", "w", stdout) == NULL) {
        return 99;
    }
    setenv("PAGEWISE_REQUIRE", group->require, 1);
    return pagewise_run_tests("inner", tests, group->one_passes ? 2 : 1);
}

static void assert_inner_exit(const char *require, bool one_passes, int wanted)
{
    InnerGroup group = { .require = require, .one_passes = one_passes };

    assert_int_equal(pagewise_run_in_child(run_inner_group, &group, 20).exit_status, wanted);
}

static void test_all_skipped_is_a_skip(void **state)
{
    (void)state;
    assert_inner_exit("", false, PAGEWISE_EXIT_SKIPPED);
    assert_inner_exit("sun,moonlight", false, PAGEWISE_EXIT_SKIPPED);
}

static void test_one_skipped_is_a_pass(void **state)
{
    (void)state;
    assert_inner_exit("", true, 0);
}

static void test_required_skip_is_a_failure(void **state)
{
    (void)state;
    assert_inner_exit("moon", true, 1);
    assert_inner_exit("sun,moon", false, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_child_exits),
        cmocka_unit_test(test_child_hangs),
        cmocka_unit_test(test_child_dies),
        cmocka_unit_test(test_all_skipped_is_a_skip),
        cmocka_unit_test(test_one_skipped_is_a_pass),
        cmocka_unit_test(test_required_skip_is_a_failure),
    };

    return pagewise_run("support", tests);
}

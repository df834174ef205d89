/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The property setup-undo (property/setup.h) on every call of set-up and
 * tear-down in turn, for all kinds of memory and options; and that it notices
 * set-ups that leave something behind (broken-setup.c).
 */
#include "property/setup.h"
#include "property/property.h"
#include "unit/broken-subject.h"
#include "unit/hugetlb-pool.h"
#include "unit/support.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define BOUND_SECONDS 280
#define MAX_CALLS 200 /* of one set-up and its end: more than there are */

typedef struct SetupInput {
    InputHeader header;
    InputSetup setup;
    InputSetupBlock blocks[2];
    InputFailure failures[METER_MAX_FAILURES];
} SetupInput;

static SetupInput an_input(unsigned flags, unsigned channels, InputMemory memory)
{
    return (SetupInput){
        .header = { .version = INPUT_VERSION, .kind = INPUT_SETUP, .flags = flags, .n_blocks = 2 },
        .setup = { .channels = channels },
        .blocks = { { .memory = memory, .pages = 3, .bits = 0x05 },
                    { .memory = INPUT_MEMORY_ANONYMOUS, .pages = 9, .bits = 0xaa } },
    };
}

static void add_failure(SetupInput *input, MeteredCall call, unsigned first, unsigned times,
                        int error)
{
    input->failures[input->setup.n_failures++] = (InputFailure){
        .call = call,
        .first = first,
        .times = times - 1,
        .error = error - 1,
    };
}

static bool holds(PropertyContext *context, const SetupInput *input)
{
    g_autoptr(GError) error = NULL;

    if (property_setup(context, (const uint8_t *)input, sizeof(*input), &error)) {
        return true;
    }
    fprintf(stderr, "%s\n", error->message);
    return false;
}

/* Call after call fails, until there was one set-up in which none did. */
static bool each_call_fails(PropertyContext *context, const SetupInput *base, int error)
{
    const PropertyStats *stats = property_context_stats(context);

    for (unsigned call = 1; call < MAX_CALLS; call++) {
        SetupInput input = *base;

        add_failure(&input, METERED_ANY, call, 1, error);
        if (!holds(context, &input)) {
            fprintf(stderr, "... with call %u failing with %s\n", call, g_strerror(error));
            return false;
        }
    }
    return stats->refused > 0;
}

static int body_each_call(void *opaque)
{
    static const int errors[] = { ENOMEM, EINTR, EAGAIN, EINVAL };
    g_autoptr(PropertyContext) context = property_context_new(subject_reference());

    (void)opaque;
    for (unsigned i = 0; i < 16; i++) {
        unsigned flags = (i & 1 ? INPUT_SETUP_EAGER_THREAD : 0) | (i & 2 ? INPUT_SETUP_MAPPED : 0) |
                         (i & 4 ? INPUT_SETUP_REMOVE_EVENTS : 0) | (i & 8 ? INPUT_DIRTY_RAM : 0);
        SetupInput input = an_input(flags, 0, i % INPUT_N_MEMORIES);

        if (!each_call_fails(context, &input, errors[i % G_N_ELEMENTS(errors)])) {
            return 1;
        }
    }
    for (unsigned channels = 1; channels <= INPUT_MAX_CHANNELS; channels++) {
        SetupInput input = an_input(channels % 2 ? INPUT_SETUP_REMOVE_EVENTS : 0, channels,
                                    channels % INPUT_N_MEMORIES);

        if (!each_call_fails(context, &input, errors[channels % G_N_ELEMENTS(errors)])) {
            return 1;
        }
    }
    return 0;
}

static void skip_without_uffd(void)
{
    g_autoptr(PropertyContext) context = property_context_new(subject_reference());
    SetupInput input = an_input(0, 1, INPUT_MEMORY_ANONYMOUS);

    holds(context, &input);
    pagewise_skip_unless(property_context_stats(context)->unsupported == 0, "uffd",
                         "userfaultfd cannot be opened", "see the list above");
}

static void run_bounded(int (*body)(void *opaque))
{
    ChildEnd end = pagewise_run_in_child(body, NULL, BOUND_SECONDS);

    assert_false(end.timed_out);
    assert_int_equal(end.signal, 0);
    assert_int_equal(end.exit_status, 0);
}

static void test_each_call_fails_once(void **state)
{
    (void)state;
    skip_without_uffd();
    run_bounded(body_each_call);
}

/* Guest RAM that was shut off is taken anew, the memory files of earlier set-ups too. */
static int body_ram_is_taken_anew(void *opaque)
{
    g_autoptr(PropertyContext) context = property_context_new(subject_reference());
    SetupInput shared = an_input(0, 0, INPUT_MEMORY_MEMFD);
    SetupInput shut_off = an_input(0, 0, INPUT_MEMORY_ANONYMOUS);

    (void)opaque;
    for (unsigned i = 0; i < SETUP_COUNT_EACH; i++) {
        if (!holds(context, &shared)) {
            return 1;
        }
    }
    add_failure(&shut_off, METERED_PLACE, 1, INPUT_MAX_TIMES, EIO);
    return holds(context, &shut_off) ? 0 : 1;
}

static void test_ram_is_taken_anew(void **state)
{
    (void)state;
    skip_without_uffd();
    run_bounded(body_ram_is_taken_anew);
}

static int body_allocations_and_reads(void *opaque)
{
    g_autoptr(PropertyContext) context = property_context_new(subject_reference());

    (void)opaque;
    for (unsigned i = 1; i < 80; i++) {
        SetupInput input = an_input(0, 0, INPUT_MEMORY_ANONYMOUS);

        input.setup.fail_try = i % 16;
        input.header.fail_read[0] = i;
        if (!holds(context, &input)) {
            return 1;
        }
    }
    return property_context_stats(context)->refused > 20 ? 0 : 1;
}

static void test_allocations_and_reads_fail(void **state)
{
    (void)state;
    skip_without_uffd();
    run_bounded(body_allocations_and_reads);
}

/*
 * All ways to open; the error path's own calls; and the last resort: a page
 * cannot be placed, nor poisoned, nor its block shut off, so that it stays
 * registered, which is no leak but said; another block that cannot be
 * unregistered then is kept with it.
 */
static int body_several(void *opaque)
{
    g_autoptr(PropertyContext) context = property_context_new(subject_reference());
    SetupInput inputs[5];

    (void)opaque;
    for (unsigned i = 0; i < G_N_ELEMENTS(inputs); i++) {
        inputs[i] = an_input(0, i % 2, INPUT_MEMORY_MEMFD);
    }
    add_failure(&inputs[0], METERED_OPEN, 1, 4, EPERM);
    add_failure(&inputs[1], METERED_THREAD, 1, 1, EAGAIN);
    add_failure(&inputs[1], METERED_UNREGISTER, 1, 4, ENOMEM);
    add_failure(&inputs[2], METERED_PLACE, 1, 4, ENOENT);
    add_failure(&inputs[2], METERED_PROTECT, 1, 4, ENOMEM);
    add_failure(&inputs[3], METERED_UNREGISTER, 2, 1, EINVAL);
    add_failure(&inputs[4], METERED_PLACE, 1, 4, ENOENT);
    add_failure(&inputs[4], METERED_PROTECT, 1, 1, ENOMEM);
    add_failure(&inputs[4], METERED_UNREGISTER, 1, 4, ENOMEM);
    for (unsigned i = 0; i < G_N_ELEMENTS(inputs); i++) {
        if (!holds(context, &inputs[i])) {
            fprintf(stderr, "... input %u\n", i);
            return 1;
        }
    }
    return property_context_stats(context)->refused == G_N_ELEMENTS(inputs) ? 0 : 1;
}

static void test_several_calls_fail(void **state)
{
    (void)state;
    skip_without_uffd();
    run_bounded(body_several);
}

/* The first input that a subject does not do right with, of those that fail each call. */
static GError *first_error(const Subject *subject)
{
    g_autoptr(PropertyContext) context = property_context_new(subject);

    for (unsigned call = 0; call < 40; call++) {
        SetupInput input = an_input(INPUT_SETUP_EAGER_THREAD, 0, INPUT_MEMORY_ANONYMOUS);
        GError *error = NULL;

        add_failure(&input, METERED_ANY, call, 1, ENOMEM);
        if (!property_setup(context, (const uint8_t *)&input, sizeof(input), &error)) {
            return error;
        }
    }
    return NULL;
}

static int body_broken(void *opaque)
{
    const BrokenSubject *broken = opaque;
    g_autoptr(GError) error = first_error(&broken->subject);

    if (error && error->domain == PROPERTY_ERROR && error->code == (int)broken->property &&
        strstr(error->message, broken->message) && strstr(error->message, broken->subject.name)) {
        return 0;
    }
    fprintf(stderr, "a subject that %s was noticed as: %s\n", broken->subject.name,
            error ? error->message : "(not at all)");
    return 1;
}

static void test_each_wrong_setup_is_noticed(void **state)
{
    unsigned n;
    const BrokenSubject *table = broken_setups(&n);

    (void)state;
    skip_without_uffd();
    for (unsigned i = 0; i < n; i++) {
        BrokenSubject broken = table[i];
        ChildEnd end = pagewise_run_in_child(body_broken, &broken, BOUND_SECONDS);

        if (end.exit_status != 0) {
            fail_msg("a subject that %s went unnoticed, or it is called something else",
                     broken.subject.name);
        }
    }
}

/* A subject that cannot do it, and one whose kernel refuses userfaultfd. */
static void test_unsupported_is_counted(void **state)
{
    const Subject subject = { .name = "can do nothing" };
    g_autoptr(PropertyContext) context = property_context_new(&subject);
    SetupInput input = an_input(0, 0, INPUT_MEMORY_ANONYMOUS);

    (void)state;
    assert_true(holds(context, &input));
    assert_int_equal(property_context_stats(context)->unsupported, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_each_call_fails_once, hugetlb_pool_set_up,
                                        hugetlb_pool_tear_down),
        cmocka_unit_test(test_ram_is_taken_anew),
        cmocka_unit_test(test_allocations_and_reads_fail),
        cmocka_unit_test(test_several_calls_fail),
        cmocka_unit_test(test_each_wrong_setup_is_noticed),
        cmocka_unit_test(test_unsupported_is_counted),
    };

    return pagewise_run("setup-undo", tests);
}

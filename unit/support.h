/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What every cmocka program of this project needs beside cmocka: loud skips,
 * the exit status that ctest counts as a skip, and children that cannot hang.
 * It must know nothing of the rooms under test.
 */
#ifndef PAGEWISE_UNIT_SUPPORT_H
#define PAGEWISE_UNIT_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* What ctest counts as a skip (SKIP_RETURN_CODE in PagewiseTargets.cmake). */
#define PAGEWISE_EXIT_SKIPPED 77

/*
 * Leaves the running cmocka test unless @available: prints
 * "SKIP feature: reason; remedy: remedy" on stderr and skips, or fails where
 * the environment variable PAGEWISE_REQUIRE (a list: "uffd,qemu") names
 * @feature. To be called in the test or its setup, before anything is taken.
 */
void pagewise_skip_unless(bool available, const char *feature, const char *reason,
                          const char *remedy);

/* Does PAGEWISE_REQUIRE name @feature? */
bool pagewise_requires(const char *feature);

/*
 * Runs the group and prints "pagewise: NAME: N passed, N failed, N skipped".
 * Returns main()'s exit status: 0, 1 if a test failed, or
 * PAGEWISE_EXIT_SKIPPED if every test was skipped.
 */
int pagewise_run_tests(const char *name, const struct CMUnitTest *tests, size_t n_tests);

#define pagewise_run(name, tests) pagewise_run_tests(name, tests, sizeof(tests) / sizeof(*(tests)))

/* How a child ended: exactly one of the three. */
typedef struct ChildEnd {
    bool timed_out;  /* it was killed after its seconds were over */
    int signal;      /* that it died of, or 0 */
    int exit_status; /* -1 where it did not exit */
} ChildEnd;

/*
 * Runs @body in a forked child, which exits with what @body returns (0..255).
 * After @seconds the child and its children get SIGKILL. @body must not use
 * cmocka's assertions: they would go on with the next test in the child. The
 * caller must have no other threads.
 */
ChildEnd pagewise_run_in_child(int (*body)(void *opaque), void *opaque, unsigned seconds);

#endif

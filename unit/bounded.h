/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Tests that may hang run in children, where cmocka's assertions must not be
 * used: so checks return false, or the child's exit status, and say on stderr
 * what is wrong. And the loud skip of what needs userfaultfd.
 */
#ifndef PAGEWISE_UNIT_BOUNDED_H
#define PAGEWISE_UNIT_BOUNDED_H

#include <stdbool.h>
#include <stdio.h>

/* Returns false, with a message, from a check that returns bool. */
#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition);              \
            return false;                                                                          \
        }                                                                                          \
    } while (0)

/* Skips the test, loudly, where there is no userfaultfd. */
void require_uffd(void);

/* In a child with SIGKILL after 60 s; fails the cmocka test if it returns false. */
void run_bounded(bool (*body)(void));

#endif

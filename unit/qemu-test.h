/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What cmocka programs with a real QEMU have in common: the loud skip, and the
 * proof that nothing is left behind.
 */
#ifndef PAGEWISE_UNIT_QEMU_TEST_H
#define PAGEWISE_UNIT_QEMU_TEST_H

#include "qtest-glue/qemu-binary.h"
#include "unit/support.h"

/*
 * The QEMU to use; skips the running test (feature "qemu") where there is
 * none. Free with qemu_binary_free().
 */
QemuBinary *require_qemu(void);

/*
 * pagewise_run_tests() with a fresh folder for temporary files: returns 1 if a
 * file in it, or a child process, is left at the end.
 */
int run_and_leave_nothing(const char *name, const struct CMUnitTest *tests, size_t n_tests);

#endif

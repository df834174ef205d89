# SPDX-License-Identifier: GPL-2.0-or-later

pagewise_unit_test(test-qtest-glue SOURCES qemu-test.c DEPENDS qtest-glue LABELS unit qemu)

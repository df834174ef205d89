# SPDX-License-Identifier: GPL-2.0-or-later

pagewise_unit_test(test-sparse-file DEPENDS model)

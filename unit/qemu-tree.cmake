# SPDX-License-Identifier: GPL-2.0-or-later

if(TARGET pagewise-qemu-tree)
  pagewise_unit_test(test-qemu-tree DEPENDS qemu-tree model property LABELS qemu-tree)
endif()

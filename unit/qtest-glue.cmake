# SPDX-License-Identifier: GPL-2.0-or-later

pagewise_unit_test(test-qtest-glue
  SOURCES qemu-test.c
  DEPENDS qtest-glue
  LABELS unit qemu
  TIMEOUT 180)
pagewise_unit_test(test-real-snapshots
  SOURCES qemu-test.c
  DEPENDS qtest-glue loader
  LABELS qemu
  TIMEOUT 180)
if(TARGET test-real-snapshots)
  target_compile_definitions(test-real-snapshots PRIVATE
    PAGEWISE_PROGRAM="$<TARGET_FILE:pagewise>")
  add_dependencies(test-real-snapshots pagewise)
endif()
pagewise_unit_test(test-fork-server
  SOURCES qemu-test.c
  DEPENDS qtest-glue property
  LABELS qemu
  TIMEOUT 240)
target_compile_definitions(test-fork-server PRIVATE
  PAGEWISE_CORPUS_DIR="${PROJECT_SOURCE_DIR}/corpus")

# SPDX-License-Identifier: GPL-2.0-or-later

foreach(stem test-snapshot test-snapshot-text test-snapshot-decode)
  pagewise_unit_test(${stem} SOURCES snapshot-support.c DEPENDS model TIMEOUT 120)
endforeach()
if(TARGET test-snapshot-text)
  target_compile_definitions(test-snapshot-text PRIVATE
    PAGEWISE_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
endif()

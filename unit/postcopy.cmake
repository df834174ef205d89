# SPDX-License-Identifier: GPL-2.0-or-later
pagewise_unit_test(test-page-stream DEPENDS loader)
pagewise_unit_test(test-postcopy-wire DEPENDS model)
target_compile_definitions(test-postcopy-wire PRIVATE PAGEWISE_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
pagewise_unit_test(test-postcopy-net
  SOURCES bounded.c hugetlb-pool.c postcopy-source.c lazy-support.c loader-support.c
  DEPENDS loader resource-meter
  LABELS uffd
  TIMEOUT 600)
pagewise_unit_test(test-postcopy-property
  SOURCES bounded.c
  DEPENDS fuzz-support property
  LABELS uffd
  TIMEOUT 300)
# Two threads make errors at once, in GLib, whose locks ThreadSanitizer does not see.
set_property(TEST test-postcopy-net test-postcopy-property APPEND PROPERTY
             ENVIRONMENT "TSAN_OPTIONS=atexit_sleep_ms=0:ignore_noninstrumented_modules=1")

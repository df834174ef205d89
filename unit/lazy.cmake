# SPDX-License-Identifier: GPL-2.0-or-later

# A hung fault holds signals up, and the sleep at exit would be in the way; two
# threads make errors at once in GLib, whose locks ThreadSanitizer does not see.
set(tsan_options TSAN_OPTIONS=atexit_sleep_ms=0:ignore_noninstrumented_modules=1)

foreach(thing uffd postcopy-ram lazy-table snapshot-load snapshot-errors snapshot-races
              snapshot-discard hugetlb-pool)
  pagewise_unit_test(test-${thing}
                     SOURCES bounded.c hugetlb-pool.c lazy-support.c loader-support.c
                     DEPENDS loader resource-meter
                     LABELS uffd TIMEOUT 600)
  set_property(TEST test-${thing} APPEND PROPERTY ENVIRONMENT "${tsan_options}")
endforeach()

pagewise_unit_test(test-setup-undo SOURCES broken-setup.c hugetlb-pool.c DEPENDS property
                   LABELS uffd TIMEOUT 600)
set_property(TEST test-setup-undo APPEND PROPERTY ENVIRONMENT "${tsan_options}")

pagewise_unit_test(test-lazy SOURCES broken-lazy.c DEPENDS property LABELS uffd TIMEOUT 300)
set_property(TEST test-lazy APPEND PROPERTY ENVIRONMENT "${tsan_options}")
target_compile_definitions(test-lazy PRIVATE
  PAGEWISE_FINDINGS_DIR="${PROJECT_SOURCE_DIR}/corpus/findings")

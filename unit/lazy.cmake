# SPDX-License-Identifier: GPL-2.0-or-later
foreach(thing uffd postcopy-ram lazy-table snapshot-load snapshot-errors snapshot-races
              snapshot-discard)
  pagewise_unit_test(test-${thing} SOURCES bounded.c lazy-support.c loader-support.c
                     DEPENDS loader resource-meter
                     LABELS uffd TIMEOUT 600)
  set_property(TEST test-${thing} APPEND PROPERTY ENVIRONMENT "TSAN_OPTIONS=atexit_sleep_ms=0")
endforeach()

pagewise_unit_test(test-setup-undo SOURCES broken-setup.c DEPENDS property LABELS uffd TIMEOUT 600)
set_property(TEST test-setup-undo APPEND PROPERTY ENVIRONMENT "TSAN_OPTIONS=atexit_sleep_ms=0")

# SPDX-License-Identifier: GPL-2.0-or-later
foreach(thing uffd postcopy-ram snapshot-load)
  pagewise_unit_test(test-${thing} SOURCES bounded.c lazy-support.c loader-support.c DEPENDS loader
                     LABELS uffd TIMEOUT 300)
  set_property(TEST test-${thing} APPEND PROPERTY ENVIRONMENT "TSAN_OPTIONS=atexit_sleep_ms=0")
endforeach()
pagewise_unit_test(test-lazy SOURCES broken-lazy.c DEPENDS property LABELS uffd TIMEOUT 300)
set_property(TEST test-lazy APPEND PROPERTY ENVIRONMENT "TSAN_OPTIONS=atexit_sleep_ms=0")

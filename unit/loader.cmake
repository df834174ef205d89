# SPDX-License-Identifier: GPL-2.0-or-later
foreach(thing rules stages io bitmap writer)
  pagewise_unit_test(test-loader-${thing} SOURCES loader-support.c DEPENDS loader alloc-meter)
endforeach()
if(TARGET test-loader-writer)
  target_link_options(test-loader-writer PRIVATE LINKER:--wrap=pwrite)
endif()

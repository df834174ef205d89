# SPDX-License-Identifier: GPL-2.0-or-later

pagewise_unit_test(test-sparse-file DEPENDS model)
pagewise_unit_test(test-rules DEPENDS model)
if(TARGET test-rules)
  target_compile_definitions(test-rules PRIVATE PAGEWISE_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
endif()
pagewise_unit_test(test-judge SOURCES judge-plan.c DEPENDS model)
pagewise_unit_test(test-fault DEPENDS model)

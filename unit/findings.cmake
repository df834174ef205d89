# SPDX-License-Identifier: GPL-2.0-or-later

pagewise_unit_test(test-findings DEPENDS property TIMEOUT 120)
target_compile_definitions(test-findings PRIVATE
  PAGEWISE_FINDINGS_DIR="${PROJECT_SOURCE_DIR}/corpus/findings")

pagewise_unit_test(test-nfc SOURCES broken-subject.c DEPENDS property TIMEOUT 120)

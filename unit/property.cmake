# SPDX-License-Identifier: GPL-2.0-or-later

pagewise_unit_test(test-properties SOURCES broken-map.c broken-subject.c
                   DEPENDS property TIMEOUT 180)
pagewise_unit_test(test-corpora DEPENDS property TIMEOUT 180)
target_compile_definitions(test-corpora PRIVATE
  PAGEWISE_CORPUS_DIR="${PROJECT_SOURCE_DIR}/corpus")
pagewise_unit_test(test-input DEPENDS property)
pagewise_unit_test(test-guest-ram DEPENDS property)
pagewise_unit_test(test-kept-file DEPENDS property)
pagewise_unit_test(test-guest-access DEPENDS property)
pagewise_unit_test(test-kept-kernel DEPENDS subject LABELS uffd)
pagewise_unit_test(test-alloc-meter DEPENDS alloc-meter)
pagewise_unit_test(test-mutator DEPENDS fuzz-support property)

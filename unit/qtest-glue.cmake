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
  TIMEOUT 900)
target_compile_definitions(test-fork-server PRIVATE
  PAGEWISE_CORPUS_DIR="${PROJECT_SOURCE_DIR}/corpus")
add_test(NAME test-qemu-fuzz
  COMMAND ${Python3_EXECUTABLE} ${PROJECT_SOURCE_DIR}/cmake/test_qemu_fuzz.py
          --fuzz $<TARGET_FILE:qemu-fuzz> --replay $<TARGET_FILE:qemu-replay>
          --findings ${PROJECT_SOURCE_DIR}/corpus/findings
          --scratch ${CMAKE_CURRENT_BINARY_DIR}/scratch)
pagewise_test_properties(test-qemu-fuzz 180 qemu)
pagewise_unit_test(test-equivalence
  SOURCES qemu-test.c
  DEPENDS qtest-glue
  LABELS qemu
  TIMEOUT 900)

# The guest that runs: 64 KiB of firmware, assembled here.
find_program(PAGEWISE_AS as REQUIRED)
find_program(PAGEWISE_LD NAMES ld.bfd ld REQUIRED)
mark_as_advanced(PAGEWISE_AS PAGEWISE_LD)
set(counter_guest ${CMAKE_CURRENT_BINARY_DIR}/counter-guest.bin)
add_custom_command(OUTPUT ${counter_guest}
  COMMAND ${PAGEWISE_AS} --32 -o ${counter_guest}.o ${CMAKE_CURRENT_SOURCE_DIR}/counter-guest.s
  COMMAND ${PAGEWISE_LD} -m elf_i386 -Ttext=0 -e start --oformat=binary -o ${counter_guest}
          ${counter_guest}.o
  DEPENDS counter-guest.s VERBATIM)
add_custom_target(counter-guest DEPENDS ${counter_guest})
pagewise_unit_test(test-running-guest
  SOURCES qemu-test.c
  DEPENDS qtest-glue
  LABELS qemu
  TIMEOUT 300)
target_compile_definitions(test-running-guest PRIVATE PAGEWISE_COUNTER_GUEST="${counter_guest}")
add_dependencies(test-running-guest counter-guest)

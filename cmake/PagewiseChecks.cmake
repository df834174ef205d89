# SPDX-License-Identifier: GPL-2.0-or-later
#
# The targets that run what the rooms have built: check, fuzz, fuzz-merge,
# afl-fuzz, oss-fuzz-check, coverage, bench, format-check and tidy. To be included
# after all rooms.

set(scripts ${PROJECT_SOURCE_DIR}/cmake)

# Every program that is built by default, whichever way a room declared it.
function(pagewise_programs folder programs)
  get_property(targets DIRECTORY ${folder} PROPERTY BUILDSYSTEM_TARGETS)
  get_property(folders DIRECTORY ${folder} PROPERTY SUBDIRECTORIES)
  set(found)
  foreach(target ${targets})
    get_target_property(type ${target} TYPE)
    get_target_property(excluded ${target} EXCLUDE_FROM_ALL)
    if(NOT excluded AND type MATCHES "EXECUTABLE|SHARED_LIBRARY|MODULE_LIBRARY")
      list(APPEND found ${target})
    endif()
  endforeach()
  foreach(sub ${folders})
    pagewise_programs(${sub} more)
    list(APPEND found ${more})
  endforeach()
  set(${programs} ${found} PARENT_SCOPE)
endfunction()

# pagewise_command(<target> [DEPENDS target ...] COMMAND argument ...)
function(pagewise_command target)
  cmake_parse_arguments(PARSE_ARGV 1 ARG "" "" "COMMAND;DEPENDS")
  add_custom_target(${target} COMMAND ${ARG_COMMAND} USES_TERMINAL VERBATIM
                    WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
  if(ARG_DEPENDS)
    add_dependencies(${target} ${ARG_DEPENDS})
  endif()
endfunction()

# A target that only says why it cannot do its work here, and fails.
function(pagewise_command_unavailable target reason)
  add_custom_target(${target}
    COMMAND ${CMAKE_COMMAND} -E echo "${target}: ${reason}"
    COMMAND ${CMAKE_COMMAND} -E false VERBATIM)
endfunction()

pagewise_programs(${PROJECT_SOURCE_DIR} programs)
get_property(fuzz_targets GLOBAL PROPERTY PAGEWISE_FUZZ_TARGETS)

pagewise_command(check DEPENDS ${programs}
  COMMAND ${Python3_EXECUTABLE} ${scripts}/check.py --build ${PROJECT_BINARY_DIR})
# Without real QEMUs, and without the tests of scripts.
pagewise_command(check-own DEPENDS ${programs}
  COMMAND ${Python3_EXECUTABLE} ${scripts}/check.py --build ${PROJECT_BINARY_DIR} --own)

# Threads race differently each time: what flakes at all flakes here. Not in
# parallel: a test that only fails beside others would not say why.
pagewise_command(stress DEPENDS ${programs}
  COMMAND ${CMAKE_CTEST_COMMAND} --test-dir ${PROJECT_BINARY_DIR} -L uffd --output-on-failure
          --no-tests=error --repeat until-fail:${STRESS_RUNS})

# Targets of another subject start from the same corpora, which they leave alone.
set(targets_run)
set(targets_merge)
foreach(target ${fuzz_targets})
  get_target_property(corpus ${target} PAGEWISE_CORPUS)
  list(APPEND targets_run ${target}=${corpus})
  if(corpus STREQUAL target)
    list(APPEND targets_merge ${target})
  endif()
endforeach()

if(NOT PAGEWISE_FUZZER STREQUAL "libfuzzer")
  set(why "this build has no libFuzzer; use the preset dev or tsan")
elseif(NOT fuzz_targets)
  set(why "there is no fuzz target")
endif()
if(why)
  pagewise_command_unavailable(fuzz "${why}")
  pagewise_command_unavailable(fuzz-merge "${why}")
else()
  foreach(action run merge)
    set(fuzz_${action} ${Python3_EXECUTABLE} ${scripts}/fuzz.py ${action}
        --build ${PROJECT_BINARY_DIR} --source ${PROJECT_SOURCE_DIR}
        --seconds ${FUZZ_SECONDS} ${targets_${action}})
  endforeach()
  pagewise_command(fuzz DEPENDS ${fuzz_targets} COMMAND ${fuzz_run})
  pagewise_command(fuzz-merge DEPENDS ${fuzz_targets} COMMAND ${fuzz_merge})
endif()

# A tree against what it was before a series of patches.
if(TARGET nfc-layout)
  pagewise_command(nfc DEPENDS nfc-layout nfc-stream nfc-record finding-case pagewise
    COMMAND ${Python3_EXECUTABLE} ${scripts}/nfc.py --build ${PROJECT_BINARY_DIR}
            --source ${PROJECT_SOURCE_DIR} --seconds ${FUZZ_SECONDS})
else()
  pagewise_command_unavailable(nfc
    "configure with -DQEMU_SRC=TREE -DQEMU_BASE=TREE-OR-REVISION, and a preset with libFuzzer")
endif()

# The known findings in QEMU, run on the configured binary and tree.
if(TARGET finding-case)
  find_program(PAGEWISE_qemu qemu-system-x86_64)
  mark_as_advanced(PAGEWISE_qemu)
  set(findings_command ${Python3_EXECUTABLE} ${scripts}/findings.py)
  set(findings_run ${findings_command} run --source ${PROJECT_SOURCE_DIR}
      --build ${PROJECT_BINARY_DIR})
  if(QEMU_BINARY)
    list(APPEND findings_run --qemu ${QEMU_BINARY})
  elseif(PAGEWISE_qemu)
    list(APPEND findings_run --qemu ${PAGEWISE_qemu})
  endif()
  set(findings_depends finding-case)
  set(findings_labels qemu)
  if(TARGET qemu-tree-stream-replay)
    file(STRINGS ${QEMU_SRC}/VERSION tree_version LIMIT_COUNT 1)
    list(APPEND findings_run --tree-replay $<TARGET_FILE:qemu-tree-stream-replay>
         --tree-version ${tree_version})
    list(APPEND findings_depends qemu-tree-stream-replay)
    if(TARGET qemu-tree-lazy-replay)
      list(APPEND findings_depends qemu-tree-lazy-replay)
      set(rediscover_lazy qemu-tree-lazy)
    endif()
    list(APPEND findings_labels qemu-tree)
  endif()
  pagewise_command(findings DEPENDS ${findings_depends}
    COMMAND ${findings_run} --junit ${PROJECT_BINARY_DIR}/findings.xml)
  pagewise_command(findings-doc COMMAND ${findings_command} doc --source ${PROJECT_SOURCE_DIR})
  add_test(NAME findings-doc
    COMMAND ${findings_command} doc --check --source ${PROJECT_SOURCE_DIR})
  pagewise_test_properties(findings-doc 60 build)
  add_test(NAME findings
    COMMAND ${findings_run} --junit ${PROJECT_BINARY_DIR}/findings.xml)
  pagewise_test_properties(findings 300 ${findings_labels})
  add_test(NAME test-findings-runner
    COMMAND ${Python3_EXECUTABLE} ${scripts}/test_findings.py --source ${PROJECT_SOURCE_DIR}
            --build ${PROJECT_BINARY_DIR})
  pagewise_test_properties(test-findings-runner 120 build)
  if(TARGET qemu-tree-layout)
    pagewise_command(rediscover DEPENDS ${findings_depends} qemu-tree-layout qemu-tree-stream
                                        qemu-tree-layout-replay ${rediscover_lazy} pagewise
      COMMAND ${Python3_EXECUTABLE} ${scripts}/rediscover.py --build ${PROJECT_BINARY_DIR}
              --source ${PROJECT_SOURCE_DIR} --version ${tree_version})
  else()
    pagewise_command_unavailable(rediscover
      "configure with -DQEMU_SRC=TREE, and a preset with libFuzzer")
  endif()
endif()

if(PAGEWISE_FUZZER STREQUAL "afl" AND fuzz_targets)
  pagewise_command(afl-fuzz DEPENDS ${fuzz_targets}
    COMMAND ${Python3_EXECUTABLE} ${scripts}/afl.py --build ${PROJECT_BINARY_DIR}
            --source ${PROJECT_SOURCE_DIR} --seconds ${FUZZ_SECONDS} ${targets_run})
else()
  pagewise_command_unavailable(afl-fuzz "this build has no AFL++; use the preset afl")
endif()

if(fuzz_targets)
  if(QEMU_SRC)
    set(oss_fuzz_qemu --qemu ${QEMU_SRC})
  endif()
  pagewise_command(oss-fuzz-check
    COMMAND ${Python3_EXECUTABLE} ${scripts}/oss_fuzz_check.py --source ${PROJECT_SOURCE_DIR}
            --work ${PROJECT_BINARY_DIR}/oss-fuzz ${oss_fuzz_qemu} ${fuzz_targets})
else()
  pagewise_command_unavailable(oss-fuzz-check "there is no fuzz target")
endif()

# The tools of clang's own version first: profile formats differ.
string(REGEX MATCH "^[0-9]+" clang_major "${CMAKE_C_COMPILER_VERSION}")
foreach(tool llvm-cov llvm-profdata clang-format clang-tidy)
  string(REPLACE "-" "_" variable ${tool})
  find_program(PAGEWISE_${variable} NAMES ${tool}-${clang_major} ${tool}-14 ${tool})
  mark_as_advanced(PAGEWISE_${variable})
endforeach()

if(NOT PAGEWISE_COVERAGE)
  pagewise_command_unavailable(coverage "use the preset coverage")
elseif(NOT PAGEWISE_llvm_cov OR NOT PAGEWISE_llvm_profdata)
  pagewise_command_unavailable(coverage "llvm-cov or llvm-profdata is missing: install llvm-14")
else()
  set(files)
  foreach(program ${programs})
    string(APPEND files "$<TARGET_FILE:${program}>\n")
  endforeach()
  file(GENERATE OUTPUT ${PROJECT_BINARY_DIR}/programs.txt CONTENT "${files}")
  pagewise_command(coverage DEPENDS ${programs}
    COMMAND ${Python3_EXECUTABLE} ${scripts}/coverage.py --build ${PROJECT_BINARY_DIR}
            --source ${PROJECT_SOURCE_DIR} --programs ${PROJECT_BINARY_DIR}/programs.txt
            --llvm-cov ${PAGEWISE_llvm_cov} --llvm-profdata ${PAGEWISE_llvm_profdata})
endif()

if(PAGEWISE_clang_format)
  pagewise_command(format-check
    COMMAND ${Python3_EXECUTABLE} ${scripts}/format_check.py --source ${PROJECT_SOURCE_DIR}
            --clang-format ${PAGEWISE_clang_format})
else()
  pagewise_command_unavailable(format-check "install clang-format-14")
endif()

if(PAGEWISE_clang_tidy)
  pagewise_command(tidy
    COMMAND ${Python3_EXECUTABLE} ${scripts}/tidy.py --build ${PROJECT_BINARY_DIR}
            --source ${PROJECT_SOURCE_DIR} --clang-tidy ${PAGEWISE_clang_tidy})
else()
  pagewise_command_unavailable(tidy "install clang-tidy-14")
endif()

if(NOT TARGET bench)
  pagewise_command_unavailable(bench "there is no benchmark")
endif()

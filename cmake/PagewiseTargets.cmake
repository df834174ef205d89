# SPDX-License-Identifier: GPL-2.0-or-later
#
# One function for each kind of thing that a room builds. Sources are named
# relative to the calling folder, DEPENDS are names of rooms ("model").

# Links @target with rooms, their includes from the project's root.
function(pagewise_link target visibility)
  target_include_directories(${target} ${visibility} ${PROJECT_SOURCE_DIR})
  target_link_libraries(${target} ${visibility} PkgConfig::GLIB Threads::Threads)
  foreach(room ${ARGN})
    if(NOT TARGET pagewise-${room})
      message(FATAL_ERROR "${target} needs the room '${room}', which builds no library or is "
                          "entered later: see the order in the top CMakeLists.txt")
    endif()
    target_link_libraries(${target} ${visibility} pagewise-${room})
  endforeach()
endfunction()

# Coverage feedback for the fuzzer. Programs that are no fuzz targets may link
# instrumented code: the sanitizer's runtime has the symbols.
function(pagewise_instrument target)
  if(PAGEWISE_FUZZER STREQUAL "libfuzzer")
    target_compile_options(${target} PRIVATE -fsanitize=fuzzer-no-link)
  endif()
endfunction()

# No instrumentation and no sanitizer: for what afl-fuzz itself loads.
function(pagewise_make_plain target)
  target_compile_options(${target} PRIVATE -fno-sanitize=all -fPIC)
  target_link_options(${target} PRIVATE -fno-sanitize=all)
  set_target_properties(${target} PROPERTIES
    RULE_LAUNCH_COMPILE "${CMAKE_COMMAND} -E env AFL_NOOPT=1"
    RULE_LAUNCH_LINK "${CMAKE_COMMAND} -E env AFL_NOOPT=1")
endfunction()

# pagewise_library(<room> SOURCES a.c ... [DEPENDS room ...]
#                  [NO_FUZZ_INSTRUMENTATION])
# The static library pagewise-<room>. NO_FUZZ_INSTRUMENTATION: libFuzzer gets
# no coverage from it, and it runs faster.
function(pagewise_library room)
  cmake_parse_arguments(PARSE_ARGV 1 ARG "NO_FUZZ_INSTRUMENTATION" "" "SOURCES;DEPENDS")
  add_library(pagewise-${room} STATIC ${ARG_SOURCES})
  pagewise_link(pagewise-${room} PUBLIC ${ARG_DEPENDS})
  if(NOT ARG_NO_FUZZ_INSTRUMENTATION)
    pagewise_instrument(pagewise-${room})
  endif()
  if(PAGEWISE_FUZZER STREQUAL "afl")
    add_library(pagewise-${room}-plain STATIC EXCLUDE_FROM_ALL ${ARG_SOURCES})
    list(TRANSFORM ARG_DEPENDS APPEND -plain)
    pagewise_link(pagewise-${room}-plain PUBLIC ${ARG_DEPENDS})
    pagewise_make_plain(pagewise-${room}-plain)
    target_link_options(pagewise-${room}-plain INTERFACE
                        $<TARGET_PROPERTY:pagewise-${room},INTERFACE_LINK_OPTIONS>)
  endif()
endfunction()

# pagewise_program(<name> SOURCES a.c ... [DEPENDS room ...])
# The program bin/<name>.
function(pagewise_program name)
  cmake_parse_arguments(PARSE_ARGV 1 ARG "" "" "SOURCES;DEPENDS")
  add_executable(${name} ${ARG_SOURCES})
  pagewise_link(${name} PRIVATE ${ARG_DEPENDS})
endfunction()

# Adds what every test has: a time limit, the skip status, sanitizer options.
function(pagewise_test_properties test timeout)
  set_tests_properties(${test} PROPERTIES
    TIMEOUT ${timeout}
    SKIP_RETURN_CODE 77
    ENVIRONMENT "UBSAN_OPTIONS=print_stacktrace=1")
  if(ARGN)
    set_tests_properties(${test} PROPERTIES LABELS "${ARGN}")
  endif()
endfunction()

# pagewise_unit_test(<stem> [SOURCES extra.c ...] [DEPENDS room ...]
#                    [LABELS label ...] [TIMEOUT seconds])
# The cmocka program bin/<stem> from <stem>.c, and the test <stem>. Labels:
# 'unit' unless told; time-out: 60 s unless told.
function(pagewise_unit_test stem)
  cmake_parse_arguments(PARSE_ARGV 1 ARG "" "TIMEOUT" "SOURCES;DEPENDS;LABELS")
  if(NOT ARG_LABELS)
    set(ARG_LABELS unit)
  endif()
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 60)
  endif()
  if(NOT TARGET pagewise-unit-support)
    pagewise_library(unit-support SOURCES ${PROJECT_SOURCE_DIR}/unit/support.c)
    target_link_libraries(pagewise-unit-support PUBLIC PkgConfig::CMOCKA)
  endif()
  add_executable(${stem} ${stem}.c ${ARG_SOURCES})
  pagewise_link(${stem} PRIVATE unit-support ${ARG_DEPENDS})
  add_test(NAME ${stem} COMMAND ${stem})
  pagewise_test_properties(${stem} ${ARG_TIMEOUT} ${ARG_LABELS})
endfunction()

# The component 'fuzz': what a fuzzing service wants of a target in its $OUT, the
# seeds as a zip among it.
function(pagewise_install_fuzz_target stem source)
  set(corpus ${PROJECT_SOURCE_DIR}/corpus/${source})
  set(zip ${PROJECT_BINARY_DIR}/${stem}_seed_corpus.zip)
  install(TARGETS ${stem} DESTINATION . COMPONENT fuzz)
  foreach(kind dict options)
    if(EXISTS ${CMAKE_CURRENT_SOURCE_DIR}/${source}.${kind})
      install(FILES ${source}.${kind} DESTINATION . COMPONENT fuzz RENAME ${stem}.${kind})
    endif()
  endforeach()
  file(GLOB seeds CONFIGURE_DEPENDS RELATIVE ${corpus} ${corpus}/*)
  if(seeds)
    add_custom_command(OUTPUT ${zip} DEPENDS ${corpus} WORKING_DIRECTORY ${corpus}
                       COMMAND ${CMAKE_COMMAND} -E tar cf ${zip} --format=zip -- ${seeds})
    add_custom_target(${stem}-seeds ALL DEPENDS ${zip})
    install(FILES ${zip} DESTINATION . COMPONENT fuzz)
  endif()
endfunction()

# bin/<stem>-mutator.so: the target's mutator for AFL++, and the test of it.
function(pagewise_afl_mutator stem source)
  list(TRANSFORM ARGN APPEND -plain OUTPUT_VARIABLE rooms)
  add_library(${stem}-mutator MODULE ${source}.c ${PROJECT_SOURCE_DIR}/fuzz/afl-mutator.c)
  pagewise_link(${stem}-mutator PRIVATE ${rooms})
  pagewise_make_plain(${stem}-mutator)
  target_link_options(${stem}-mutator PRIVATE LINKER:-Bsymbolic LINKER:-z,defs)
  set_target_properties(${stem}-mutator PROPERTIES
    PREFIX "" LIBRARY_OUTPUT_DIRECTORY ${CMAKE_RUNTIME_OUTPUT_DIRECTORY})
  add_dependencies(${stem} ${stem}-mutator)
  add_test(NAME mutator-${stem}
    COMMAND ${Python3_EXECUTABLE} ${PROJECT_SOURCE_DIR}/cmake/test_afl_mutator.py
            $<TARGET_FILE:${stem}-mutator> ${PROJECT_SOURCE_DIR}/corpus/${source})
  pagewise_test_properties(mutator-${stem} 60 build)
endfunction()

# pagewise_fuzz_target(<source> [SUBJECT subject] [DEPENDS room ...])
# The fuzz target bin/<stem> from <source>.c, with <source>.dict and
# <source>.options beside it as <stem>.*; bin/<stem>-replay, which runs stored
# inputs without a fuzzer; and the test replay-<stem> over corpus/<source>/.
# <stem> is <source>; with a subject other than the reference loader (a room
# with a function subject_<subject>) fuzz-stream becomes <subject>-stream.
function(pagewise_fuzz_target source)
  cmake_parse_arguments(PARSE_ARGV 1 ARG "" "SUBJECT" "DEPENDS")
  set(mutator_rooms property ${ARG_DEPENDS})
  set(rooms ${mutator_rooms})
  set(stem ${source})
  set(definition)
  set(labels replay)
  if(ARG_SUBJECT)
    string(REGEX REPLACE "^fuzz" ${ARG_SUBJECT} stem ${source})
    string(REGEX REPLACE "^fuzz" property property ${source})
    if(TARGET pagewise-${property})
      # No need to wait for the other properties, nor for the reference loader.
      set(rooms ${property} ${ARG_DEPENDS})
    endif()
    string(REPLACE "-" "_" function subject_${ARG_SUBJECT})
    set(definition PAGEWISE_FUZZ_SUBJECT=${function})
    list(APPEND rooms ${ARG_SUBJECT})
    list(APPEND labels ${ARG_SUBJECT})
  endif()
  if(TARGET pagewise-fuzz-support)
    list(APPEND rooms fuzz-support)
    list(APPEND mutator_rooms fuzz-support)
  endif()
  set(driver ${PROJECT_SOURCE_DIR}/fuzz/replay-driver.c)

  add_executable(${stem} ${source}.c)
  target_compile_definitions(${stem} PRIVATE ${definition})
  pagewise_link(${stem} PRIVATE ${rooms})
  pagewise_instrument(${stem})
  if(PAGEWISE_FUZZER STREQUAL "foreign")
    separate_arguments(engine UNIX_COMMAND "${PAGEWISE_ENGINE}")
    target_link_libraries(${stem} PRIVATE ${engine})
    set_target_properties(${stem} PROPERTIES LINKER_LANGUAGE CXX)
  elseif(PAGEWISE_FUZZER STREQUAL "standalone")
    target_sources(${stem} PRIVATE ${driver})
  else()
    target_link_options(${stem} PRIVATE -fsanitize=fuzzer)
  endif()

  set_property(GLOBAL APPEND PROPERTY PAGEWISE_FUZZ_TARGETS ${stem})
  set_property(TARGET ${stem} PROPERTY PAGEWISE_CORPUS ${source})
  foreach(kind dict options)
    set(file ${CMAKE_CURRENT_SOURCE_DIR}/${source}.${kind})
    if(EXISTS ${file})
      configure_file(${file} ${CMAKE_RUNTIME_OUTPUT_DIRECTORY}/${stem}.${kind} COPYONLY)
    endif()
  endforeach()

  if(PAGEWISE_FUZZER STREQUAL "foreign")
    pagewise_install_fuzz_target(${stem} ${source})
    return()
  endif()
  if(PAGEWISE_FUZZER STREQUAL "afl")
    # An input is mutated alike, whatever loader it is for.
    pagewise_afl_mutator(${stem} ${source} ${mutator_rooms})
  endif()

  add_executable(${stem}-replay ${source}.c ${driver})
  target_compile_definitions(${stem}-replay PRIVATE ${definition})
  pagewise_link(${stem}-replay PRIVATE ${rooms})
  add_test(NAME replay-${stem}
    COMMAND ${stem}-replay --repeat 2 --reverse ${PROJECT_SOURCE_DIR}/corpus/${source})
  pagewise_test_properties(replay-${stem} 300 ${labels})
endfunction()

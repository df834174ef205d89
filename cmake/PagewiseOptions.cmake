# SPDX-License-Identifier: GPL-2.0-or-later
#
# What can be chosen when the build is configured, and the compiler flags that
# follow from it. The presets are nothing but values of these options.
#
# Where the environment variable LIB_FUZZING_ENGINE is set at configure time
# (OSS-Fuzz, ClusterFuzzLite), CC, CXX, CFLAGS and CXXFLAGS alone decide on
# optimisation, sanitizers and instrumentation, and no warning is an error.

set(PAGEWISE_SANITIZE "address,undefined" CACHE STRING
    "Sanitizers, as in -fsanitize=: 'address,undefined', 'thread', or 'none'")
option(PAGEWISE_COVERAGE "Measure clang's source-based coverage" OFF)
option(PAGEWISE_WERROR "Warnings are errors" ON)
set(FUZZ_SECONDS 60 CACHE STRING "Seconds that 'ninja fuzz' gives each target")
set(STRESS_RUNS 100 CACHE STRING "How often 'ninja stress' runs each test of lazy loading")

set(QEMU_SRC "" CACHE PATH "A QEMU source tree, whose loader is fuzzed as well")
set(QEMU_BASE "" CACHE STRING
    "For 'ninja nfc': that tree before a series of patches; a folder or a git revision of QEMU_SRC")
set(QEMU_BUILD "" CACHE PATH "A configured build folder of it, if there is one; only read")

set(PAGEWISE_ENGINE "$ENV{LIB_FUZZING_ENGINE}" CACHE STRING
    "Linker flags of a foreign fuzzing engine; from LIB_FUZZING_ENGINE")
mark_as_advanced(PAGEWISE_ENGINE)

# A fuzzing service's runner has glibc and nothing else.
if(PAGEWISE_ENGINE)
  set(static_glib_default ON)
endif()
option(PAGEWISE_STATIC_GLIB "Link GLib statically" ${static_glib_default})

# Who calls LLVMFuzzerTestOneInput: 'foreign' (PAGEWISE_ENGINE), 'afl' and
# 'libfuzzer' (both linked by -fsanitize=fuzzer), or 'standalone': our replay
# driver, which can run stored inputs, but makes no new ones.
if(PAGEWISE_ENGINE)
  set(PAGEWISE_FUZZER foreign)
elseif(CMAKE_C_COMPILER MATCHES "afl-clang")
  set(PAGEWISE_FUZZER afl)
elseif(CMAKE_C_COMPILER_ID STREQUAL "Clang" AND NOT PAGEWISE_COVERAGE
       AND NOT PAGEWISE_SANITIZE STREQUAL "none")
  # Only a sanitizer's runtime supplies every program with the symbols that
  # instrumented libraries refer to.
  set(PAGEWISE_FUZZER libfuzzer)
else()
  set(PAGEWISE_FUZZER standalone)
endif()

set(CMAKE_C_STANDARD 11)
set(CMAKE_C_STANDARD_REQUIRED ON)
set(CMAKE_C_EXTENSIONS ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/bin)

add_compile_options(-Wall -Wextra)

if(PAGEWISE_FUZZER STREQUAL "foreign")
  enable_language(CXX)
  set(CMAKE_BUILD_TYPE "" CACHE STRING "CFLAGS decide" FORCE)
else()
  if(NOT CMAKE_BUILD_TYPE)
    set(CMAKE_BUILD_TYPE RelWithDebInfo CACHE STRING "As in CMake" FORCE)
    set(CMAKE_C_FLAGS_RELWITHDEBINFO "-O2 -g")
  endif()
  if(PAGEWISE_WERROR)
    add_compile_options(-Werror)
  endif()
  add_compile_options(-fno-omit-frame-pointer)
  if(NOT PAGEWISE_SANITIZE STREQUAL "none")
    add_compile_options(-fsanitize=${PAGEWISE_SANITIZE} -fno-sanitize-recover=all)
    add_link_options(-fsanitize=${PAGEWISE_SANITIZE})
  endif()
  if(PAGEWISE_COVERAGE)
    add_compile_options(-fprofile-instr-generate -fcoverage-mapping)
    add_link_options(-fprofile-instr-generate)
  endif()
endif()

find_package(PkgConfig REQUIRED)
find_package(Threads REQUIRED)
pkg_check_modules(GLIB REQUIRED IMPORTED_TARGET glib-2.0)
if(PAGEWISE_STATIC_GLIB)
  # By name: 'pkg-config --static' would ask for a static libm, too.
  set_target_properties(PkgConfig::GLIB PROPERTIES
    INTERFACE_LINK_LIBRARIES "-l:libglib-2.0.a;-l:libpcre2-8.a;m;Threads::Threads")
endif()
if(NOT PAGEWISE_FUZZER STREQUAL "foreign")
  pkg_check_modules(CMOCKA REQUIRED IMPORTED_TARGET cmocka)
endif()

# CMake's own module starts Python ten times, each time through the wrapper that pyenv has.
find_program(Python3_EXECUTABLE python3 REQUIRED DOC "Python, 3.9 or later")
execute_process(
  COMMAND ${Python3_EXECUTABLE} -c
          "import sys; print(sys.executable); sys.exit(sys.version_info < (3, 9))"
  OUTPUT_VARIABLE interpreter OUTPUT_STRIP_TRAILING_WHITESPACE RESULT_VARIABLE status)
if(NOT status EQUAL 0)
  message(FATAL_ERROR "${Python3_EXECUTABLE} is no Python of 3.9 or later: set Python3_EXECUTABLE")
endif()
set(Python3_EXECUTABLE ${interpreter} CACHE FILEPATH "Python, 3.9 or later" FORCE)

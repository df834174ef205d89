#!/bin/bash -eu
# SPDX-License-Identifier: Apache-2.0
#
# Copyright 2026 The pagewise authors
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#      http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
#
# Runs what tests of pagewise need nothing but a compiler: the unit tests and the
# replay of all corpora. No network; all that is written goes to $WORK. A second
# run builds only what has changed.

# Programs of our own are to be tested, with the sanitizer of our own presets,
# not the fuzz targets that build.sh has made.
unset CFLAGS CXXFLAGS LIB_FUZZING_ENGINE
export CC=clang CXX=clang++

build=$WORK/pagewise-tests
cmake -S "$SRC/pagewise" -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Debug -DPAGEWISE_WERROR=OFF
ninja -C "$build"
ctest --test-dir "$build" --output-on-failure -j "$(nproc)" -L 'unit|replay'

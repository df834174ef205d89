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
# Builds every fuzz target of pagewise into $OUT, for OSS-Fuzz and for
# ClusterFuzzLite. Compiler, sanitizer, instrumentation and engine are those of
# the environment; what a target is made of, and what is installed beside it, is
# written down once, in cmake/PagewiseTargets.cmake.
#
# Where there is a QEMU source tree in $SRC/qemu, the targets that fuzz its own
# migration code are built, too.

options=()
if [[ -d $SRC/qemu ]]; then
    options+=("-DQEMU_SRC=$SRC/qemu")
fi

build=$WORK/pagewise
rm -rf "$build"
cmake -S "$SRC/pagewise" -B "$build" -G Ninja "${options[@]}"
ninja -C "$build"
cmake --install "$build" --prefix "$OUT" --component fuzz

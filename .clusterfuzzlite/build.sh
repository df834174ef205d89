#!/bin/bash -eu
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The build is that of OSS-Fuzz.

exec bash -eu "$SRC/pagewise/oss-fuzz/build.sh"

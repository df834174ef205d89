#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Lazy loads per second by a QEMU tree's own fault thread, on one core.

    tree-rates.py --source DIR --build DIR [--tree DIR] [--cmake PROGRAM] [--seconds N] [--runs N]

Each load is set-up, faults, cleanup (bench-tree-faults), once with pages that come
from a source, and once with pages that the fault thread reads from the file (fast
snapshot load). A tree that has no fast snapshot load is measured in a copy that
has the like of it (subject/qemu-tree/fast_load.py), below --build. What was asked for
is told for this machine by bare cycles of userfaultfd: see rates.py.

--tree is what --build was configured with as QEMU_SRC. Without it the tree that
the test qemu-tree-build has fetched is taken, and its fuzz targets are measured,
too; where there is none, that is said.
"""

import argparse
import re
import subprocess
import sys
from pathlib import Path

import fetched_tree
import rates as table

RESULT = re.compile(r"pages from the (\w+): .* (\d+) loads/s, (\d+) per second of CPU time")
ROWS = {"source": "fault thread", "file": "fast snapshot load"}
FLOORS = {row: table.Floor(3500, "fresh") for row in ROWS.values()}
TARGETS = ["qemu-tree-header", "qemu-tree-layout", "qemu-tree-stream", "qemu-tree-lazy"]


def run_once(program, seconds):
    """Returns where pages come from, and loads per second of wall clock and of CPU time."""
    result = subprocess.run([program, "--seconds", str(seconds)], capture_output=True, text=True,
                            timeout=seconds * 3 + 60, check=False, preexec_fn=table.use_one_cpu)
    match = RESULT.search(result.stdout)
    if result.returncode or not match:
        sys.exit(f"tree-rates: {program} failed:\n{result.stdout}{result.stderr}")
    return ROWS[match[1]], (int(match[2]), int(match[3]))


def measure_targets(options, build):
    """A build of its own has its fuzz targets: those of --build are measured with it."""
    subprocess.run(["ninja", "-C", build, "qemu-tree-all"], check=True)
    subprocess.run([sys.executable, options.source / "bench" / "fuzz-speed.py", "--corpus",
                    options.source / "corpus", "--yardsticks", options.build / "bin", "--seconds",
                    str(options.seconds), "--runs", str(options.runs),
                    *(build / "bin" / name for name in TARGETS)], check=True)


def fast_program(options, tree):
    """bench-tree-faults on a copy of @tree with a lazy load from the file."""
    sys.path.insert(0, str(options.source / "subject" / "qemu-tree"))
    import fast_load  # pylint: disable=import-outside-toplevel
    return fast_load.build(tree, options.build / "qemu-tree" / "fast-load", options.source,
                           options.cmake, "bench-tree-faults")[0]


def measure_faults(options, tree, program):
    status = 0
    programs = [program]
    row, _ = run_once(program, 1)
    if row == ROWS["file"]:
        print(f"SKIP {ROWS['source']}: the tree's fault thread reads the file; remedy: none needed")
    else:
        try:
            programs.append(fast_program(options, tree))
        except ValueError as error:
            status = fetched_tree.skip(ROWS["file"],
                                       f"the tree has none, and cannot be given one: {error}",
                                       "bring subject/qemu-tree/fast_load.py up to date")
    rates = {}
    yardsticks = table.Yardsticks(options.build / "bin", {"fresh"})
    for _ in range(options.runs):
        for each in programs:
            row, rate = run_once(each, options.seconds)
            rates.setdefault(row, []).append(rate)
        yardsticks.run(options.seconds)
    table.show("lazy loads by QEMU", "loads/s", rates, FLOORS, yardsticks)
    return status


def main():
    parser = argparse.ArgumentParser(description="Rates of a QEMU tree's loader")
    parser.add_argument("--source", type=Path, required=True)
    parser.add_argument("--build", type=Path, required=True)
    parser.add_argument("--tree", type=Path)
    parser.add_argument("--cmake", default="cmake")
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    tree, build = options.tree, options.build
    if not tree:
        tree, build = fetched_tree.find(build), build / "qemu-tree" / "build"
        if not tree:
            return fetched_tree.skip_without_tree("rates of a QEMU tree")
        measure_targets(options, build)
    return measure_faults(options, tree, build / "bin" / "bench-tree-faults")


if __name__ == "__main__":
    sys.exit(main())

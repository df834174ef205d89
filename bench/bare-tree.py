#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""How long it takes from a bare QEMU tree to a running target, on two CPUs.

    bare-tree.py --source DIR --build DIR [--tree DIR] [--cmake PROGRAM]

Nothing is built before: the build folder is a new one below --build, and no
compiler cache is used. In the end the target runs one input.

--tree is a QEMU source tree. Without it the one that the test qemu-tree-build
has fetched is taken; where there is none, that is said.
"""

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

import fetched_tree

CPUS = 2
ASKED_FOR = 15


def measure(options, tree, folder):
    """The steps, or None; the target has run."""
    sys.path.insert(0, str(options.source / "subject" / "qemu-tree"))
    import bare_tree  # pylint: disable=import-outside-toplevel
    shutil.rmtree(folder, ignore_errors=True)
    steps = bare_tree.build([options.cmake, "--preset", "dev", "-S", options.source, "-B", folder,
                             f"-DQEMU_SRC={tree}", "-DCMAKE_C_COMPILER_LAUNCHER="],
                            options.source, folder)
    program = folder / "bin" / bare_tree.TARGET
    if not steps or subprocess.run([program, "-runs=1"], stderr=subprocess.DEVNULL,
                                   check=False).returncode:
        return None
    return steps


def show(steps):
    print(f"\n{'from a bare tree':18} {'seconds':>8} {'of CPU':>8} {'asked for':>12}")
    for step in steps:
        print(f"{step.name:18} {step.wall:8.1f} {step.cpu:8.1f}")
        for name, seconds in step.parts:
            print(f"  {name:16} {seconds:8.1f}")
    print(f"{'in all':18} {sum(step.wall for step in steps):8.1f} "
          f"{sum(step.cpu for step in steps):8.1f} {f'at most {ASKED_FOR}':>12}")


def main():
    parser = argparse.ArgumentParser(description="Time from a bare tree to a running target")
    parser.add_argument("--source", type=Path, required=True)
    parser.add_argument("--build", type=Path, required=True)
    parser.add_argument("--tree", type=Path)
    parser.add_argument("--cmake", default="cmake")
    options = parser.parse_args()
    tree = options.tree or fetched_tree.find(options.build)
    if not tree:
        return fetched_tree.skip_without_tree("from a bare tree to a running target")
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CPUS])
    folder = options.build.resolve() / "bare-tree"
    steps = measure(options, tree, folder)
    shutil.rmtree(folder, ignore_errors=True)
    if not steps:
        print("bare-tree: failed, see above", file=sys.stderr)
        return 1
    show(steps)
    return 0


if __name__ == "__main__":
    sys.exit(main())

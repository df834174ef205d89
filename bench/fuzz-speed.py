#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Executions per second of each fuzz target, on one core.

    fuzz-speed.py --corpus DIR --yardsticks DIR [--seconds N] [--runs N] TARGET...

Runs each libFuzzer target from its corpus, pinned to one CPU, several times,
turn by turn, and prints medians and ranges, and the floor that was asked for,
where one was: of executions per second as libFuzzer counts them, and per
second of CPU time, which is what one core does where other load shares it. The
sanitizers are those of the build; nothing but the printed table depends on the
time that a run takes.

The folder --yardsticks has trivial-target and bench-cycles: see rates.py.
"""

import argparse
import configparser
import os
import tempfile

import rates as table
from rates import Floor

# ASan + UBSan, clang 14. A lazy load is told by bare faults, all else by libFuzzer.
FLOORS = {"fuzz-header": Floor(150000, "trivial-target"),
          "fuzz-layout": Floor(60000, "trivial-target"),
          "fuzz-fault-map": Floor(150000, "trivial-target"),
          "fuzz-lazy": Floor(15000, "kept"),
          "qemu-tree-header": Floor(40000, "trivial-target")}


def options_of(target):
    """The flags in the section [libfuzzer] of the options beside the target."""
    options = configparser.ConfigParser()
    options.read(target + ".options")
    if not options.has_section("libfuzzer"):
        return []
    return [f"-{name}={value}" for name, value in options.items("libfuzzer")]


def run_once(target, corpus, seconds):
    with tempfile.TemporaryDirectory() as scratch:
        return table.run_target([target, scratch, corpus, *options_of(target),
                                 "-artifact_prefix=" + scratch + "/"], seconds)


def main():
    parser = argparse.ArgumentParser(description="Executions per second of fuzz targets")
    parser.add_argument("targets", nargs="+", metavar="TARGET")
    parser.add_argument("--corpus", required=True, help="folder with a corpus folder a target")
    parser.add_argument("--yardsticks", required=True, help="folder with the yardsticks' programs")
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--runs", type=int, default=5)
    args = parser.parse_args()

    rates = {target: [] for target in args.targets}
    asked = [FLOORS[name] for name in map(os.path.basename, args.targets) if name in FLOORS]
    yardsticks = table.Yardsticks(args.yardsticks, {floor.yardstick for floor in asked})
    for _ in range(args.runs):
        for target in args.targets:
            # A tree's targets share the corpora of the reference loader's.
            corpus = os.path.join(args.corpus,
                                  os.path.basename(target).replace("qemu-tree-", "fuzz-"))
            rates[target].append(run_once(target, corpus, args.seconds))
        yardsticks.run(args.seconds)
    table.show("target", "exec/s", rates, FLOORS, yardsticks)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Executions per second of each fuzz target, on one core.

    fuzz-speed.py --corpus DIR [--seconds N] [--runs N] TARGET...

Runs each libFuzzer target from its corpus, pinned to one CPU, several times,
turn by turn, and prints medians and ranges, and the floor that was asked for,
where one was: of executions per second as libFuzzer counts them, and per
second of CPU time, which is what one core does where other load shares it. The
sanitizers are those of the build; nothing but the printed table depends on the
time that a run takes.
"""

import argparse
import configparser
import os
import re
import resource
import subprocess
import sys
import tempfile

import rates as table

# Floors on the machine that the project was founded on (2 cores, clang 14,
# ASan + UBSan); on another machine only the ratios to each other tell.
FLOORS = {"fuzz-header": 150000, "fuzz-layout": 60000, "fuzz-fault-map": 150000,
          "fuzz-lazy": 15000, "qemu-tree-header": 40000}


def options_of(target):
    """The flags in the section [libfuzzer] of the options beside the target."""
    options = configparser.ConfigParser()
    options.read(target + ".options")
    if not options.has_section("libfuzzer"):
        return []
    return [f"-{name}={value}" for name, value in options.items("libfuzzer")]


def cpu_seconds():
    """CPU time of all children that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def run_once(target, corpus, seconds):
    """Returns executions per second, of wall clock (libFuzzer's) and of CPU."""
    before = cpu_seconds()
    with tempfile.TemporaryDirectory() as scratch:
        command = [target, scratch, corpus, *options_of(target), f"-max_total_time={seconds}",
                   "-artifact_prefix=" + scratch + "/"]
        result = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                                text=True, errors="replace", timeout=seconds * 3 + 60,
                                preexec_fn=lambda: os.sched_setaffinity(0, {0}))
    match = re.search(r"Done (\d+) runs in (\d+) second", result.stderr)
    if result.returncode or not match:
        sys.exit(f"fuzz-speed: {target} failed:\n" + result.stderr[-2000:])
    runs = int(match[1])
    return runs / max(1, int(match[2])), runs / max(0.01, cpu_seconds() - before)


def main():
    parser = argparse.ArgumentParser(description="Executions per second of fuzz targets")
    parser.add_argument("targets", nargs="+", metavar="TARGET")
    parser.add_argument("--corpus", required=True, help="folder with a corpus folder a target")
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--runs", type=int, default=5)
    args = parser.parse_args()

    rates = {target: [] for target in args.targets}
    for _ in range(args.runs):
        for target in args.targets:
            # A tree's targets share the corpora of the reference loader's.
            corpus = os.path.join(args.corpus,
                                  os.path.basename(target).replace("qemu-tree-", "fuzz-"))
            rates[target].append(run_once(target, corpus, args.seconds))
    table.show("target", "exec/s", rates, FLOORS)


if __name__ == "__main__":
    main()

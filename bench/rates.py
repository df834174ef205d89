# SPDX-License-Identifier: GPL-2.0-or-later
"""Prints rates, of wall clock and of CPU time: medians and ranges of several runs.

What was asked for was asked of the machine that the project was founded on. Two
programs that do next to nothing tell how far another machine differs from it, as
yardsticks: a libFuzzer target (trivial-target), and bare cycles of userfaultfd, whose
thread is kept or made anew (bench-cycles). They run in the same rounds.
"""

import os
import re
import resource
import statistics
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

# A second, with AddressSanitizer, on the machine that the project was founded on.
FOUNDING = {"trivial-target": 335000, "kept": 67000, "fresh": 15000}

CYCLES = re.compile(r"(\d+) cycles/s, (\d+) per second of CPU time")


class Floor(NamedTuple):
    """What was asked for, and which yardstick tells what that is here."""
    rate: int
    yardstick: str


def use_one_cpu():
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def cpu_seconds():
    """CPU time of all children that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def run_target(command, seconds):
    """Returns executions per second, of wall clock (libFuzzer's) and of CPU time."""
    before = cpu_seconds()
    result = subprocess.run([*command, f"-max_total_time={seconds}"], stdout=subprocess.DEVNULL,
                            stderr=subprocess.PIPE, text=True, errors="replace",
                            timeout=seconds * 3 + 60, check=False, preexec_fn=use_one_cpu)
    match = re.search(r"Done (\d+) runs in (\d+) second", result.stderr)
    if result.returncode or not match:
        sys.exit(f"{command[0]} failed:\n" + result.stderr[-2000:])
    runs = int(match[1])
    return runs / max(1, int(match[2])), runs / max(0.01, cpu_seconds() - before)


def run_cycles(program, which, seconds):
    result = subprocess.run([program, which, "--seconds", str(seconds)], capture_output=True,
                            text=True, timeout=seconds * 3 + 60, check=False,
                            preexec_fn=use_one_cpu)
    match = CYCLES.search(result.stdout)
    if result.returncode or not match:
        # The program's error has the remedies.
        text = f"the yardstick '{which}': {result.stderr.strip()}"
        if "uffd" in os.environ.get("PAGEWISE_REQUIRE", "").split(","):
            sys.exit(f"required: {text}")
        print(f"SKIP {text}")
        return None
    return int(match[1]), int(match[2])


class Yardsticks:
    """Those in @names, measured by programs in @folder."""

    def __init__(self, folder, names):
        self.folder = Path(folder)
        if not (self.folder / "bench-cycles").exists():
            sys.exit(f"rates: no yardsticks in {folder}: build the target 'bench' there")
        self.rates = {name: [] for name in FOUNDING if name in names}

    def run(self, seconds):
        for name in list(self.rates):
            if name == "trivial-target":
                rate = run_target([self.folder / name], seconds)
            else:
                rate = run_cycles(self.folder / "bench-cycles", name, seconds)
            if rate:
                self.rates[name].append(rate)
            else:
                del self.rates[name]  # no userfaultfd here: said once

    def here(self, floor):
        """What @floor is on this machine, by CPU time; None: it was not measured."""
        rates = self.rates.get(floor.yardstick)
        if not rates:
            return None
        return floor.rate * statistics.median(cpu for _, cpu in rates) / FOUNDING[floor.yardstick]


def show(what, unit, rates, floors, yardsticks):
    """@rates: name or path -> pairs of a run's rates; @floors: name -> Floor."""
    print(f"{'':18} {unit:^29} {unit + ' of CPU time':^29} {'asked for':>19}")
    print(f"{what:18} " + f"{'median':>9} {'lowest':>9} {'highest':>9} " * 2 +
          f"{'there':>9} {'here':>9}")
    for path, values in {**rates, **yardsticks.rates}.items():
        name = os.path.basename(path)
        columns = "".join(f"{statistics.median(rate):9.0f} {min(rate):9.0f} {max(rate):9.0f} "
                          for rate in zip(*values))
        floor = floors.get(name)
        here = yardsticks.here(floor) if floor else None
        print(f"{name:18} {columns}{floor.rate if floor else '-':>9} "
              f"{f'{here:.0f}' if here else '-':>9}")
    for name in yardsticks.rates:
        told = [each for each in map(os.path.basename, rates)
                if each in floors and floors[each].yardstick == name]
        print(f"{name}: {FOUNDING[name]} there; tells what is asked here of: {', '.join(told)}")

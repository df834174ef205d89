#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Ways to load one snapshot, against each other.

    loads.py --one-load BENCH-ONE-LOAD --pagewise PAGEWISE --folder DIR
             [--mib N] [--runs N]

Snapshots of 1 GiB with 100, 50 and 10 % of the pages set, in the page cache,
are loaded: by the reference loader, eager, and lazy with a guest that touches a
quarter of the pages at random; by a lazy design of 4 KiB as QEMU's postcopy has
it (bench/qemu-like.h) with the same guest; and by real QEMU, plain and with
multifd, where there is one. Each load is a process of its own, and comes right
after as much memory was touched and given back; who goes first changes from
round to round. Then, how long it takes until the guest may run for 1 GiB and
for 64 GiB of RAM, the same 1024 pages set. Prints medians, and medians of the
ratios within a round. DIR gets loads-PERCENT.svg: RAM loaded over time.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys

import qemu
import svg

PERCENTS = [100, 50, 10]
CHANNELS = 2
START_MIB = [1024, 65536]
START_PAGES = 1024
NAMES = {
    "eager": "pagewise, eager",
    "lazy": "pagewise, lazy",
    "qemu-like": "QEMU-like, 4 KiB",
    "qemu": "QEMU, plain",
    "qemu-multifd": f"QEMU, multifd {CHANNELS}",
}


def run(command):
    result = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if result.returncode:
        sys.exit(f"loads: {' '.join(command)}: exit status {result.returncode}")
    return result.stdout


class Bench:
    """The programs, and one snapshot after the other."""

    def __init__(self, args):
        self.args = args
        self.qemu = qemu.find_qemu()
        self.path = os.path.join(args.folder, "bench.snapshot")
        self.ways = ["eager", "lazy", "qemu-like"]
        if self.qemu:
            self.ways += ["qemu", "qemu-multifd"]
        else:
            print("loads: SKIP: no qemu-system-x86_64 (install QEMU 9 or later, or name one in "
                  "QTEST_QEMU_BINARY): nothing is compared with real QEMU")

    def save(self, percent):
        run([self.args.one_load, f"--mib={self.args.mib}", f"--percent={percent}", "save",
             self.path])

    def make_sparse(self, mib):
        description = self.path + ".text"
        with open(description, "w", encoding="ascii") as file:
            file.write(f"[block 0]\nidstr = ram\nused_length = {mib}M\n"
                       f"pages = 0-{START_PAGES - 1}\n")
        run([self.args.pagewise, "make", description, self.path])
        os.unlink(description)

    def load(self, way, mib, percent=25, timeline=False):
        """One load; the dictionary that bench-one-load prints."""
        if way.startswith("qemu") and way != "qemu-like":
            run([self.args.one_load, f"--mib={min(mib, 1024)}", "warm-up"])
            channels = CHANNELS if way == "qemu-multifd" else 0
            return qemu.load_snapshot(self.qemu, self.path, mib, channels, timeline)
        options = [f"--mib={mib}", f"--percent={percent}"]
        return json.loads(run([self.args.one_load, *options, *(["--timeline"] if timeline else []),
                               way, self.path]))


def median(results, key):
    values = [result[key] for result in results if key in result]
    return statistics.median(values) if values else None


def ratio(results, way, other, key, other_key=None):
    """Median over the rounds of way's @key by other's @other_key."""
    return statistics.median(a[key] / b[other_key or key]
                             for a, b in zip(results[way], results[other]))


def number(value, form):
    return "-" if value is None else format(value, form)


def print_table(percent, ways, results):
    print(f"\n{percent} % set{'':9} {'first':>9} {'loaded':>9} {'guest':>9} {'CPU':>8} "
          f"{'memory':>8} {'peak':>8}")
    print(f"{'':18} {'ms':>9} {'ms':>9} {'done ms':>9} {'ms':>8} {'MiB':>8} {'RSS MiB':>8}")
    for way in ways:
        row = {key: median(results[way], key) for key in
               ("first_ms", "loaded_ms", "guest_ms", "cpu_ms", "anon_kib", "peak_kib")}
        print(f"{NAMES[way]:18} {row['first_ms']:9.1f} {row['loaded_ms']:9.1f} "
              f"{number(row['guest_ms'], '.1f'):>9} {row['cpu_ms']:8.0f} "
              f"{row['anon_kib'] / 1024:8.0f} {row['peak_kib'] / 1024:8.0f}")


def print_ratios(ways, results):
    def line(what, way, other, key, other_key=None, asked=""):
        value = ratio(results, way, other, key, other_key)
        print(f"  {what:58} {value:6.2f}  {asked}")

    line("lazy by eager, all loaded", "lazy", "eager", "loaded_ms", asked="(at most 0.95)")
    line("lazy by QEMU-like, all loaded", "lazy", "qemu-like", "loaded_ms", asked="(at most 0.60)")
    line("lazy by eager, guest done", "lazy", "eager", "guest_ms")
    line("QEMU-like by eager, guest done", "qemu-like", "eager", "guest_ms")
    line("QEMU-like by eager, all loaded", "qemu-like", "eager", "loaded_ms")
    if "qemu" in ways:
        line("eager by QEMU plain, all loaded", "eager", "qemu", "loaded_ms")
        line("eager by QEMU multifd, all loaded", "eager", "qemu-multifd", "loaded_ms")
        line("lazy by QEMU plain, all loaded", "lazy", "qemu", "loaded_ms")
        line("lazy by QEMU multifd, all loaded", "lazy", "qemu-multifd", "loaded_ms")
        line("lazy by QEMU plain, first guest instruction", "lazy", "qemu", "first_ms")


def value_at(points, x):
    """The last y of the curve up to @x."""
    return max(py for px, py in points if px <= x)


def plot(bench, percent):
    series, dots = [], []
    for way in bench.ways:
        result = bench.load(way, bench.args.mib, timeline=True)
        points = [(0, 0), *result["timeline"]]
        series.append((NAMES[way], points))
        dots.append((result["loaded_ms"], value_at(points, result["loaded_ms"])))
    end = max(points[-1][0] for _, points in series)
    top = max(value for _, points in series for _, value in points)
    path = os.path.join(bench.args.folder, f"loads-{percent}.svg")
    svg.line_plot(path, f"RAM loaded over time, {bench.args.mib} MiB, {percent} % set",
                  "one run each; the circle: all of the snapshot is loaded; then the guest "
                  "touches zero pages",
                  "milliseconds since the load began", "MiB of RAM that are there",
                  series, (0, end * 1.02), (0, top * 1.05), dots=dots)
    print(f"  plot: {os.path.relpath(path)}")


def compare(bench, percent):
    bench.save(percent)
    results = {way: [] for way in bench.ways}
    for i in range(bench.args.runs):
        first = i % len(bench.ways)
        for way in bench.ways[first:] + bench.ways[:first]:
            results[way].append(bench.load(way, bench.args.mib))
    print_table(percent, bench.ways, results)
    print_ratios(bench.ways, results)
    plot(bench, percent)


def compare_starts(bench):
    """Until the guest may run: must not depend on how much RAM it has."""
    results = {(way, mib): [] for mib in START_MIB for way in ("lazy", "eager")}
    for _ in range(bench.args.runs):
        for mib in START_MIB:
            bench.make_sparse(mib)
            for way in ("lazy", "eager"):
                results[way, mib].append(bench.load(way, mib, percent=0)["first_ms"])
    print(f"\nfirst guest instruction, {START_PAGES} pages set, ms")
    for way in ("lazy", "eager"):
        print(f"{NAMES[way]:18} " + "  ".join(
            f"{mib // 1024} GiB: {statistics.median(results[way, mib]):7.2f}"
            for mib in START_MIB))


def main():
    parser = argparse.ArgumentParser(description="Ways to load a snapshot, against each other")
    parser.add_argument("--one-load", required=True, help="the program bench-one-load")
    parser.add_argument("--pagewise", required=True, help="the program pagewise")
    parser.add_argument("--folder", required=True, help="where snapshots and plots are put")
    parser.add_argument("--mib", type=int, default=1024, help="guest RAM")
    parser.add_argument("--runs", type=int, default=5)
    args = parser.parse_args()

    os.makedirs(args.folder, exist_ok=True)
    bench = Bench(args)
    try:
        for percent in PERCENTS:
            compare(bench, percent)
        compare_starts(bench)
    finally:
        if os.path.exists(bench.path):
            os.unlink(bench.path)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs bench-faults, which prints its table, and plots the distributions.

    latency.py --program BENCH-FAULTS --folder DIR [--rounds N]

The plot is DIR/fault-latency.svg.
"""

import argparse
import csv
import os
import subprocess
import sys

import svg


def plot(source, path):
    ways = {}
    with open(source, newline="", encoding="utf-8") as file:
        for name, share, microseconds in csv.reader(file):
            ways.setdefault(name, []).append((float(microseconds), float(share) * 100))
    highest = 8 * max(point[0] for points in ways.values() for point in points if point[1] <= 50)
    lowest = min(points[0][0] for points in ways.values())
    svg.line_plot(path, "How long a guest waits for one page",
                  "one write fault, snapshot in the page cache, all threads on one CPU",
                  "microseconds (logarithmic)", "% of faults that took at most as long",
                  list(ways.items()), (lowest * 0.9, highest), (0, 100), log_x=True)


def main():
    parser = argparse.ArgumentParser(description="Latency of one fault, table and plot")
    parser.add_argument("--program", required=True)
    parser.add_argument("--folder", required=True)
    parser.add_argument("--rounds", default="21")
    args = parser.parse_args()

    os.makedirs(args.folder, exist_ok=True)
    source = os.path.join(args.folder, "fault-latency.csv")
    result = subprocess.run([args.program, "--rounds", args.rounds, "--folder", args.folder,
                             "--csv", source], check=False)
    if result.returncode:
        sys.exit(result.returncode)
    path = os.path.join(args.folder, "fault-latency.svg")
    plot(source, path)
    print(f"plot: {os.path.relpath(path)}")


if __name__ == "__main__":
    main()

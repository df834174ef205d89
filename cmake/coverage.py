# SPDX-License-Identifier: GPL-2.0-or-later
"""Measures what the tests reach of loader/ and model/, and asks for a minimum.

    coverage.py --build DIR --source DIR --programs FILE
                --llvm-cov PROGRAM --llvm-profdata PROGRAM

Runs all tests in a build folder of the preset 'coverage', then prints lines
and branches for each file, and the lines that were not reached. Fails below
100 % of lines or 95 % of branches, over both rooms together, and where a test
fails. coverage/index.html in the build folder shows the sources.

One marker excludes code: a line that says g_assert_not_reached() counts
neither as a line nor as a branch, nor does a 'default:' right before it. If
such a line is reached, the test dies.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOMS = ("loader", "model")
MIN_LINES = 100.0
MIN_BRANCHES = 95.0
UNREACHABLE = re.compile(r"\bg_assert_not_reached\s*\(")
DEFAULT = re.compile(r"^\s*default:\s*$")


class FileCoverage:
    """Lines and branches of one source file: key -> was it reached?"""

    def __init__(self, path):
        self.path = path
        self.lines = {}
        self.branches = {}

    def drop_unreachable(self):
        text = self.path.read_text(encoding="utf-8").split("\n")
        dropped = set()
        for number, line in enumerate(text, 1):
            if UNREACHABLE.search(line):
                dropped.add(number)
                if number >= 2 and DEFAULT.match(text[number - 2]):
                    dropped.add(number - 1)
        self.lines = {key: value for key, value in self.lines.items() if key not in dropped}
        self.branches = {key: value for key, value in self.branches.items()
                         if key[0] not in dropped}


def percent(reached, total):
    return 100.0 * reached / total if total else 100.0


def run_tests(build, profiles):
    shutil.rmtree(profiles, ignore_errors=True)
    profiles.mkdir()
    # %m: one file for each program, merged as processes end.
    environment = dict(os.environ, LLVM_PROFILE_FILE=str(profiles / "%4m.profraw"))
    check = Path(__file__).with_name("check.py")
    # Real QEMUs and the tests of scripts reach nothing new in loader/ and model/.
    return subprocess.run([sys.executable, str(check), "--build", str(build), "--own"],
                          env=environment, check=False).returncode


def merge_profiles(options, profiles, merged):
    raw = sorted(map(str, profiles.glob("*.profraw")))
    if not raw:
        sys.exit("coverage: the tests left no profile: is this the preset 'coverage'?")
    subprocess.run([options.llvm_profdata, "merge", "-sparse", "-o", str(merged), *raw],
                   check=True)


def objects(programs):
    first, *rest = programs
    return [first] + [argument for program in rest for argument in ("-object", program)]


def sources(options):
    return [str(options.source / room) for room in ROOMS]


def parse_lcov(text):
    files = {}
    current = None
    for line in text.split("\n"):
        kind, _, value = line.partition(":")
        if kind == "SF":
            current = files.setdefault(value, FileCoverage(Path(value)))
        elif kind == "DA":
            number, count = value.split(",")[:2]
            current.lines[int(number)] = int(count) > 0
        elif kind == "BRDA":
            number, block, branch, taken = value.split(",")
            key = (int(number), block, branch)
            current.branches[key] = taken not in ("-", "0")
    return list(files.values())


def measure(options, programs, merged):
    text = subprocess.run(
        [options.llvm_cov, "export", "-format=lcov", f"-instr-profile={merged}",
         *objects(programs), *sources(options)],
        check=True, stdout=subprocess.PIPE, text=True).stdout
    files = [file for file in parse_lcov(text) if file.lines]
    for file in files:
        file.drop_unreachable()
    return sorted(files, key=lambda file: file.path)


def write_html(options, programs, merged, folder):
    subprocess.run(
        [options.llvm_cov, "show", "-format=html", "-show-branches=count",
         f"-output-dir={folder}", f"-instr-profile={merged}", *objects(programs),
         *sources(options)],
        check=True, stdout=subprocess.DEVNULL)


def print_row(name, lines, branches):
    print(f"{name:32} {percent(*lines):8.2f} % {lines[0]:6d}/{lines[1]:<6d}"
          f"{percent(*branches):8.2f} % {branches[0]:6d}/{branches[1]:<6d}")


def print_missed(files, source):
    for file in files:
        missed = [str(number) for number, reached in sorted(file.lines.items()) if not reached]
        if missed:
            print(f"{file.path.relative_to(source)}: lines not reached: {', '.join(missed)}")
    for file in files:
        missed = sorted({key[0] for key, taken in file.branches.items() if not taken})
        if missed:
            print(f"{file.path.relative_to(source)}: branches not taken in lines: "
                  f"{', '.join(map(str, missed))}")


def add_up(files):
    """Lines and branches of all files: each (reached, there are)."""
    return tuple((sum(sum(figures(file).values()) for file in files),
                  sum(len(figures(file)) for file in files))
                 for figures in (lambda file: file.lines, lambda file: file.branches))


def is_enough(totals, minimums):
    enough = True
    for name, figures, minimum in zip(("lines", "branches"), totals, minimums):
        if percent(*figures) < minimum or figures[1] == 0:
            print(f"coverage: {percent(*figures):.2f} % of {name}, "
                  f"{minimum:.0f} % are asked for")
            enough = False
    return enough


def report(files, source):
    """Prints the table; returns whether the minimums are met."""
    print(f"\n{'file':32} {'lines':>10} {'':13}{'branches':>10}")
    for file in files:
        print_row(str(file.path.relative_to(source)), *add_up([file]))
    print_row("together", *add_up(files))
    print()
    print_missed(files, source)
    return is_enough(add_up(files), (MIN_LINES, MIN_BRANCHES))


def main():
    parser = argparse.ArgumentParser(prog="coverage.py", description=__doc__.split("\n")[0])
    parser.add_argument("--build", type=Path, required=True, help="the build folder")
    parser.add_argument("--source", type=Path, required=True, help="the project's folder")
    parser.add_argument("--programs", type=Path, required=True,
                        help="a file that names all programs, one a line")
    parser.add_argument("--llvm-cov", required=True, help="the program")
    parser.add_argument("--llvm-profdata", required=True, help="the program")
    options = parser.parse_args()
    options.build = options.build.resolve()
    options.source = options.source.resolve()
    merged = options.build / "coverage.profdata"
    programs = options.programs.read_text(encoding="utf-8").split()
    tests_failed = run_tests(options.build, options.build / "profraw") != 0
    merge_profiles(options, options.build / "profraw", merged)
    enough = report(measure(options, programs, merged), options.source)
    html = options.build / "coverage"
    write_html(options, programs, merged, html)
    print(f"coverage: see {os.path.relpath(html)}/index.html")
    return 0 if enough and not tests_failed else 1


if __name__ == "__main__":
    sys.exit(main())

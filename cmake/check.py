# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs all tests of a build folder and says what passed, failed and was skipped.

    check.py --build DIR [--own] [CTEST-ARGUMENT...]

ctest prints a line a test, and all output of those that fail; check.xml in the
build folder is the JUnit report. Skips are repeated at the end with their
reason and remedy, those inside of programs that passed as a whole included.
"""

import argparse
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from count import count, outcome

SKIP = re.compile(r"^SKIP .*", re.MULTILINE)


def run_ctest(build, arguments):
    report = build / "check.xml"
    report.unlink(missing_ok=True)
    command = ["ctest", "--test-dir", str(build), "--output-on-failure", "--no-tests=error",
               # What passed may have skipped a part, and says so.
               "--test-output-size-passed", "200000", "--test-output-size-failed", "200000",
               "--output-junit", str(report), "-j", str(len(os.sched_getaffinity(0))),
               *arguments]
    return subprocess.run(command, check=False).returncode, report


def print_totals(cases):
    counts = count(cases)
    skips = [(case.get("name"), line) for case in cases
             for line in SKIP.findall(case.findtext("system-out") or "")]
    silent = [case.get("name") for case in cases if outcome(case) == "skipped"
              and not SKIP.search(case.findtext("system-out") or "")]
    if skips or silent:
        print("\nSkipped (PAGEWISE_REQUIRE=FEATURE,... makes failures of these):")
        for name, line in dict.fromkeys(skips):
            print(f"    {name}: {line}")
        for name in silent:
            print(f"    {name}: gave no reason")
    failed = [case.get("name") for case in cases if outcome(case) == "failed"]
    if failed:
        print("\nFailed: " + ", ".join(failed))
    print(f"\n{counts['passed']} passed, {counts['failed']} failed, "
          f"{counts['skipped']} skipped")


def main():
    parser = argparse.ArgumentParser(prog="check.py", description=__doc__.split("\n")[0])
    parser.add_argument("--build", type=Path, required=True, help="the build folder")
    parser.add_argument("--own", action="store_true",
                        help="without real QEMUs, and without the tests of scripts")
    options, arguments = parser.parse_known_args()
    if options.own:
        arguments += ["--label-exclude", "^(qemu|qemu-tree|build)$"]
    status, report = run_ctest(options.build.resolve(), arguments)
    if not report.exists():
        print("check: ctest wrote no report", file=sys.stderr)
        return status or 1
    print_totals(list(ElementTree.parse(report).iter("testcase")))
    return status


if __name__ == "__main__":
    sys.exit(main())

# SPDX-License-Identifier: GPL-2.0-or-later
"""Prints how many tests of a JUnit file passed, failed and were skipped.

    count.py FILE

A cmocka program is one test to ctest, but says how many are in it: see
pagewise_run_tests() in unit/support.c.
"""

import collections
import re
import sys
import xml.etree.ElementTree as ElementTree

GROUP = re.compile(r"pagewise: \S+: (\d+) passed, (\d+) failed, (\d+) skipped")
# What ctest says of a test that left by SKIP_RETURN_CODE. It calls a test
# skipped, too, whose program is missing.
SKIPPED = "SKIP_RETURN_CODE=77"


def outcome(case):
    """Of a testcase that ctest or fuzz.py wrote: passed, failed or skipped."""
    skipped = case.find("skipped")
    if case.get("status") == "disabled":
        return "skipped"
    if skipped is not None:
        return "skipped" if skipped.get("message") == SKIPPED else "failed"
    return "failed" if case.find("failure") is not None else "passed"


def count(cases):
    """How many tests there were of each outcome, those inside of programs apart."""
    counts = collections.Counter()
    for case in cases:
        groups = GROUP.findall(case.findtext("system-out") or "")
        inside = collections.Counter()
        for passed, failed, skipped in groups:
            inside.update(passed=int(passed), failed=int(failed), skipped=int(skipped))
        if outcome(case) == "failed" and not inside["failed"]:
            inside["failed"] += 1
        if not groups and outcome(case) != "failed":
            inside[outcome(case)] += 1
        counts.update(inside)
    return counts


def main():
    if len(sys.argv) != 2:
        sys.exit("Usage: count.py FILE")
    counts = count(ElementTree.parse(sys.argv[1]).iter("testcase"))
    print(counts["passed"], counts["failed"], counts["skipped"])


if __name__ == "__main__":
    main()

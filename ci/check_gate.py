# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs the gate on a real QEMU tree and a series whose verdict is known.

    check_gate.py --work DIR [--qemu DIR]

The tree is --qemu, or one that Debian has (subject/qemu-tree/builder/fetch.py).
The series is one patch that claims to change nothing, and changes an error
message: the gate has to fail it for that, and for nothing else, and to publish
what it promises. DIR/check.xml is the JUnit report. Where no tree is to be had
all is skipped, which is said, or fails if PAGEWISE_REQUIRE names qemu-tree.
"""

import argparse
import os
import shutil
import subprocess
import sys
import time
import unittest
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import report

HERE = Path(__file__).resolve().parent
FETCH = HERE.parent / "subject" / "qemu-tree" / "builder" / "fetch.py"
# As little of the tree as builds; git is slow with all of it.
LEFT_OUT = ("tests", "roms", "pc-bios", "docs", "po", "subprojects")
MESSAGE = "pages, region has bad alignment"
MIN_RATE = 0.05
# Enough for a difference that a corpus shows.
MINUTES = "5"
# As ctest words it: count.py takes other skips for failures.
NO_TREE = "SKIP_RETURN_CODE=77"


class Options:
    work = None
    qemu = None


def git(tree, *arguments):
    identity = ["-c", "user.name=pagewise", "-c", "user.email=pagewise@example.org"]
    subprocess.run(["git", *identity, "-c", f"safe.directory={tree}", "-C", str(tree),
                    *arguments], check=True, stdout=subprocess.DEVNULL)


def find_tree():
    if Options.qemu:
        return Options.qemu.resolve()
    result = subprocess.run([sys.executable, str(FETCH), "--out", str(Options.work / "fetched")],
                            capture_output=True, text=True, check=False)
    if result.returncode == 77:
        print(result.stdout.strip())
        return None
    if result.returncode != 0:
        sys.exit(f"check_gate: {result.stderr.strip()}")
    return Path(result.stdout.split()[-1])


def make_series(tree, folder):
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(tree, folder, symlinks=True, ignore_dangling_symlinks=True,
                    ignore=lambda where, names: [
                        name for name in names
                        if name == ".git" or (Path(where) == tree and name in LEFT_OUT)])
    git(folder, "init", "-q", "-b", "master")
    git(folder, "add", "-A", "-f")
    git(folder, "commit", "-q", "-m", "base")
    git(folder, "checkout", "-q", "-b", "series")
    ram = folder / "migration" / "ram.c"
    text = ram.read_text(encoding="utf-8")
    if MESSAGE not in text:
        sys.exit(f"check_gate: {ram} has no message '{MESSAGE}': this check needs another one")
    ram.write_text(text.replace(MESSAGE, "pages: the region is not aligned"), encoding="utf-8")
    git(folder, "commit", "-q", "-a", "-m",
        "migration/ram: move code\n\nNo functional change intended.")


class GateOnRealTree(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.out = Options.work / "gate"
        make_series(find_tree(), Options.work / "qemu")
        started = time.monotonic()
        cls.result = subprocess.run(
            [sys.executable, str(HERE / "gate.py"), "--qemu", str(Options.work / "qemu"),
             "--base", "master", "--out", str(cls.out), "--minutes", MINUTES],
            capture_output=True, text=True, check=False)
        print(cls.result.stdout, cls.result.stderr)
        print(f"The gate took {time.monotonic() - started:.0f} s")

    def failed(self):
        cases = ElementTree.parse(self.out / "gate.xml").iter("testcase")
        return [(case.get("classname"), case.find("failure").get("message"))
                for case in cases if case.find("failure") is not None]

    def test_only_the_broken_claim_fails(self):
        self.assertEqual(self.result.returncode, 1, self.result.stderr)
        self.assertEqual({name for name, _ in self.failed()}, {"pagewise.nfc"})
        self.assertTrue(any("error" in message for _, message in self.failed()))

    def test_every_target_was_replayed_and_fuzzed(self):
        names = [(case.get("classname"), case.get("name")) for case in
                 ElementTree.parse(self.out / "gate.xml").iter("testcase")]
        for suite in ("replay", "fuzz", "properties"):
            for kind in ("stream", "layout", "header"):
                self.assertTrue(any(one == f"pagewise.{suite}" and f"qemu-tree-{kind}" in name
                                    for one, name in names), f"{suite}: {kind}")

    def test_coverage_of_the_files_under_test(self):
        classes = {one.get("filename"): float(one.get("line-rate")) for one in
                   ElementTree.parse(self.out / "coverage.xml").iter("class")}
        self.assertGreater(classes["migration/ram.c"], MIN_RATE)
        self.assertIn("migration/ram.c", (self.out / "summary.txt").read_text())

    def test_summary_fits_a_mail(self):
        lines = (self.out / "summary.txt").read_text().splitlines()
        self.assertLessEqual(len(lines), report.SUMMARY_LINES)
        self.assertIn("FAILED", lines[0])

    def test_the_tree_is_as_it_was(self):
        status = subprocess.run(["git", "-c", f"safe.directory={Options.work / 'qemu'}", "-C",
                                 str(Options.work / "qemu"), "status", "--porcelain",
                                 "--ignored"], capture_output=True, text=True, check=True)
        self.assertEqual(status.stdout, "")


def test_names():
    return unittest.defaultTestLoader.getTestCaseNames(GateOnRealTree)


def broken_tests(result):
    if any("setUpClass" in str(test) for test, _ in result.errors):
        return set(test_names())
    return {test.id().rpartition(".")[2].strip("()") for test, _ in
            [*result.failures, *result.errors]}


def write_report(path, broken):
    report.write_junit(path, [
        report.Case("check-gate", name, report.FAILED if name in broken else report.PASSED)
        for name in test_names()])


def skip(path):
    if "qemu-tree" in os.environ.get("PAGEWISE_REQUIRE", "").split(","):
        print("check_gate: PAGEWISE_REQUIRE names qemu-tree, and there is none")
        return 1
    report.write_junit(path, [report.Case("check-gate", name, report.SKIPPED, NO_TREE)
                              for name in test_names()])
    return 0


def main():
    parser = argparse.ArgumentParser(prog="check_gate.py", description=__doc__.split("\n")[0])
    parser.add_argument("--work", type=Path, required=True, help="for the tree and all builds")
    parser.add_argument("--qemu", type=Path, help="a QEMU source tree; it is copied")
    options = parser.parse_args(namespace=Options)
    options.work = Options.work = options.work.resolve()
    options.work.mkdir(parents=True, exist_ok=True)
    path = options.work / "check.xml"
    path.unlink(missing_ok=True)
    Options.qemu = find_tree()
    if Options.qemu is None:
        return skip(path)
    suite = unittest.defaultTestLoader.loadTestsFromTestCase(GateOnRealTree)
    result = unittest.TextTestRunner(verbosity=1).run(suite)
    write_report(path, broken_tests(result))
    return 0 if result.wasSuccessful() else 1


if __name__ == "__main__":
    sys.exit(main())

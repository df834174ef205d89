# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of the gate: what it reads off a series, what it decides, what it publishes.

    test_gate.py --scratch DIR

Each test makes a small git repository with the paths of QEMU's tree. Builds and
runs are played by a toolchain that says what the test wants: whether they work
on a real tree is seen by running the gate on one (`./dev gate`).
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import gate
import report
import toolchain
from report import FAILED, PASSED, SKIPPED, Case
from series import Series, SeriesError

IDENTITY = {"GIT_AUTHOR_NAME": "A", "GIT_AUTHOR_EMAIL": "a@example.org",
            "GIT_COMMITTER_NAME": "A", "GIT_COMMITTER_EMAIL": "a@example.org",
            "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"}
RAM = "int a;\nint b;\nint c;\n"


class Options:
    scratch = None


class TreeTest(unittest.TestCase):
    """A repository: the branch master, and the series on a branch of its own."""

    def setUp(self):
        self.root = Path(tempfile.mkdtemp(dir=Options.scratch)).resolve()
        self.addCleanup(shutil.rmtree, self.root)
        self.qemu = self.root / "qemu"
        self.qemu.mkdir()
        self.git("init", "-q", "-b", "master")
        self.commit("base", {"migration/ram.c": RAM, "VERSION": "10.0.0\n", "docs/x": "x\n"})
        self.base = self.git("rev-parse", "HEAD").strip()
        self.git("checkout", "-q", "-b", "series")

    def git(self, *arguments):
        return subprocess.run(["git", "-C", str(self.qemu), *arguments], check=True, text=True,
                              capture_output=True, env=dict(os.environ, **IDENTITY)).stdout

    def write(self, files):
        for name, text in files.items():
            (self.qemu / name).parent.mkdir(parents=True, exist_ok=True)
            (self.qemu / name).write_text(text, encoding="utf-8")

    def commit(self, message, files):
        self.write(files)
        self.git("add", "-A")
        self.git("commit", "-q", "-m", message)
        return self.git("rev-parse", "HEAD").strip()

    def series(self, **options):
        return Series(self.qemu, **options)


class SeriesTest(TreeTest):
    def test_base_is_where_it_left_master(self):
        self.commit("one", {"migration/ram.c": RAM + "int d;\n"})
        self.git("checkout", "-q", "master")
        self.commit("elsewhere", {"docs/x": "y\n"})
        self.git("checkout", "-q", "series")
        self.assertEqual(self.series().base, self.base)
        self.assertEqual(self.series(base="master").base, self.base)

    def test_no_base_no_tree_no_git(self):
        with self.assertRaisesRegex(SeriesError, "--base"):
            self.series()  # nothing on top of master
        with self.assertRaisesRegex(SeriesError, "is no revision"):
            self.series(base="no-such-branch")
        with self.assertRaisesRegex(SeriesError, "no QEMU source tree"):
            Series(self.root)
        shutil.rmtree(self.qemu / ".git")
        with self.assertRaisesRegex(SeriesError, "not under git"):
            Series(self.qemu)

    def test_relevant_files(self):
        self.commit("one", {"migration/ram.c": "x\n", "io/channel.c": "x\n", "docs/x": "z\n",
                            "util/userfaultfd.c": "x\n", "util/other.c": "x\n",
                            "qapi/migration.json": "x\n", "include/migration/misc.h": "x\n",
                            "audio/migration/x.c": "x\n", "hw/io/y.c": "x\n"})
        self.assertEqual(self.series().relevant_files(),
                         ["include/migration/misc.h", "io/channel.c", "migration/ram.c",
                          "qapi/migration.json", "util/userfaultfd.c"])

    def test_uncommitted_changes_belong_to_it(self):
        self.write({"migration/ram.c": "int changed;\n"})
        series = self.series()
        self.assertEqual(series.relevant_files(), ["migration/ram.c"])
        self.assertIn("uncommitted", series.head_name())

    def claims(self, message, **options):
        self.commit(message, {"migration/ram.c": f"/* {message} */\n"})
        return self.series(**options).claimed_ranges()

    def test_claims(self):
        for words in ("No functional change.", "No functional changes intended.",
                      "There should be no functional change.", "no-functional-change: yes",
                      "This patch has no functional change"):
            with self.subTest(words):
                self.git("reset", "-q", "--hard", "master")
                ranges = self.claims(f"migration: move code\n\n{words}\n")
                self.assertEqual([(one.first, one.last) for one in ranges], [(self.base, None)])

    def test_no_claims(self):
        for words in ("Fix a crash.", "A functional change.", "This is what reviewers call, among "
                      "many other things that they say, no functional change."):
            with self.subTest(words):
                self.git("reset", "-q", "--hard", "master")
                self.assertEqual(self.claims(f"migration: x\n\n{words}\n"), [])

    def test_label_and_description(self):
        (one,) = self.claims("migration: x", labels=["Migration", "No-Functional-Change"])
        self.assertEqual((one.first, one.last), (self.base, None))
        (one,) = self.series(description="Title\n\nNo functional change intended.\n") \
            .claimed_ranges()
        self.assertIn("description", one.reason)

    def test_patches_that_claim_it_are_compared_alone(self):
        first = self.commit("one\n\nNo functional change.", {"migration/ram.c": "1\n"})
        self.commit("docs", {"docs/x": "more\n"})  # touches nothing, breaks no run
        second = self.commit("two\n\nNo functional change.", {"migration/ram.c": "2\n"})
        self.commit("three: a fix", {"migration/ram.c": "3\n"})
        fourth = self.commit("four\n\nNo functional change.", {"migration/ram.c": "4\n"})
        ranges = self.series().claimed_ranges()
        self.assertEqual([(one.first, one.last) for one in ranges],
                         [(f"{first}^", second), (f"{fourth}^", fourth)])

    def test_whole_claim_does_not_cover_what_is_not_committed(self):
        last = self.commit("one\n\nNo functional change.", {"migration/ram.c": "1\n"})
        self.write({"migration/ram.c": "2\n"})
        self.assertEqual([one.last for one in self.series().claimed_ranges()], [last])

    def test_changed_lines(self):
        self.commit("one", {"migration/ram.c": "int a;\nint new;\nint b;\nint z;\n",
                            "migration/new.c": "x\ny\n", "docs/x": "not here\n"})
        self.assertEqual(self.series().changed_lines(),
                         {"migration/ram.c": {2, 4}, "migration/new.c": {1, 2}})

    def test_unpack_leaves_the_tree_alone(self):
        self.commit("one", {"migration/ram.c": "int changed;\n"})
        before = sorted(path for path in self.qemu.rglob("*"))
        series = self.series()
        tree = series.unpack(series.base, self.root / "base")
        self.assertEqual((tree / "migration/ram.c").read_text(), RAM)
        self.assertEqual(sorted(path for path in self.qemu.rglob("*")), before)


class FakeBuild:
    """A build whose targets fail on the inputs that the test names."""

    def __init__(self, play, name):
        self.play = play
        self.name = name
        self.log = Path(f"{name}.log")

    def fuzz_targets(self, prefix="qemu-tree"):
        return ["nfc-layout"] if prefix == "nfc" else ["qemu-tree-header", "qemu-tree-stream"]

    def ninja(self, names, seconds):
        if self.name in self.play.broken:
            raise toolchain.ToolchainError("noise\nmigration/ram.c:7:1: error: no such type\nmore")

    def corpus(self, stem):
        return self.play.corpus

    def new_inputs(self, stem):
        return []

    def differs_alone(self, path):
        return self.play.differ

    def replay(self, stem, inputs, seconds):
        bad = dict(self.play.bad.get(self.name, {}))
        if len(inputs) > 1 and self.name == "base" and self.play.cut:
            bad = {}  # more fails than is counted
        return [toolchain.Failure(stem, path, bad[path.name], "output")
                for path in inputs if path.name in bad and stem == "qemu-tree-stream"]

    def findings(self, version, seconds):
        return self.play.findings.get(self.name, [])

    def fuzz(self, stems, seconds):
        self.play.fuzzed += stems
        return {stem: self.play.found.get(stem) for stem in stems}


class FakeToolchain:
    def __init__(self, root):
        self.source = root
        self.corpus = root / "corpus" / "fuzz-stream"
        self.corpus.mkdir(parents=True)
        (root / "corpus" / "findings").mkdir()
        for name in ("good", "bad"):
            (self.corpus / name).write_text(name, encoding="ascii")
        self.bad, self.findings, self.found = {}, {}, {}
        self.broken = set()
        self.fuzzed = []
        self.differ = True
        self.cut = False
        self.configured = {}
        self.lines = {"migration/ram.c": {1: 5, 2: 0, 3: 1}}

    def configure(self, name, tree, base=None, coverage=False):
        self.configured[name] = (tree, base)
        return FakeBuild(self, name)

    def lines_reached(self, *arguments):
        return self.lines


class GateTest(TreeTest):
    def setUp(self):
        super().setUp()
        self.play = FakeToolchain(self.root)
        self.out = self.root / "out"
        self.out.mkdir()

    def run_gate(self, message="migration: x", minutes=9, text="int a;\nint new;\nint c;\n"):
        self.commit(message, {"migration/ram.c": text})
        self.gate = gate.Gate(self.series(), self.play, self.out, minutes)
        self.gate.run()
        status = gate.write_reports(self.gate, self.out)
        self.summary = (self.out / "summary.txt").read_text()
        return status

    def statuses(self, suite):
        return {case.name: case.status for case in self.gate.cases if case.suite == suite}

    def messages(self, status):
        return " | ".join(case.message for case in self.gate.cases if case.status == status)

    def test_good_series(self):
        self.assertEqual(self.run_gate(), 0, self.summary)
        self.assertEqual(set(self.statuses("replay").values()), {PASSED})
        self.assertEqual(set(self.statuses("properties").values()), {PASSED})
        self.assertIn("clean-reject (qemu-tree-header)", self.statuses("properties"))
        self.assertIn("no patch and no label", self.messages(SKIPPED))
        self.assertEqual(sorted(self.play.fuzzed), ["qemu-tree-header", "qemu-tree-stream"])
        self.assertEqual(list((self.out).glob("trees-*")), [])

    def test_regression_fails(self):
        self.play.bad = {"series": {"bad": "property eager=model, subject qemu-tree: page 7"}}
        self.assertEqual(self.run_gate(), 1, self.summary)
        self.assertIn("eager=model", self.summary)
        self.assertEqual(self.statuses("properties")["eager=model (qemu-tree-stream)"], FAILED)
        self.assertEqual(self.statuses("properties")["agrees (qemu-tree-stream)"], PASSED)
        self.assertEqual((self.out / "findings" / "qemu-tree-stream-bad").read_text(), "bad")

    def test_what_the_base_does_too_is_skipped(self):
        self.play.bad = {name: {"bad": "SEGV"} for name in ("base", "series")}
        self.assertEqual(self.run_gate(), 0, self.summary)
        self.assertIn("fail on the base as well: SEGV", self.messages(SKIPPED))

    def test_another_input_is_a_regression(self):
        self.play.bad = {"base": {"good": "SEGV"}, "series": {"good": "SEGV", "bad": "SEGV"}}
        self.assertEqual(self.run_gate(), 1, self.summary)

    def test_another_failure_of_an_input_is_a_regression(self):
        self.play.bad = {"base": {"bad": "property agrees, subject qemu-tree: no"},
                         "series": {"bad": "SUMMARY: AddressSanitizer: SEGV ram.c:7"}}
        self.assertEqual(self.run_gate(), 1, self.summary)

    def test_the_same_failure_in_other_words(self):
        self.play.bad = {"base": {"bad": "SUMMARY: AddressSanitizer: SEGV ram.c:7"},
                         "series": {"bad": "SUMMARY: AddressSanitizer: SEGV ram.c:9"}}
        self.assertEqual(self.run_gate(), 0, self.summary)

    def test_a_time_out_is_a_time_out(self):
        self.play.bad = {"base": {"bad": "still not done after 120 s"}}
        self.play.found = self.failure("qemu-tree-stream", "timeout: SUMMARY: libFuzzer: timeout")
        self.assertEqual(self.run_gate(), 0, self.summary)

    def test_finding_that_comes_back(self):
        self.play.findings = {"base": [("a", PASSED, ""), ("b", FAILED, "hang")],
                              "series": [("a", FAILED, "crash"), ("b", FAILED, "hang")]}
        self.assertEqual(self.run_gate(), 1, self.summary)
        self.assertEqual(self.statuses("findings"), {"a": FAILED, "b": SKIPPED})

    def test_series_does_not_build(self):
        self.play.broken = {"series"}
        self.assertEqual(self.run_gate(), 1)
        self.assertIn("migration/ram.c:7:1: error: no such type", self.summary)

    def test_base_does_not_build(self):
        self.play.broken = {"base"}
        self.play.bad = {"series": {"bad": "SEGV"}}
        self.assertEqual(self.run_gate(), 1)
        self.assertIn("the base does not build", self.messages(SKIPPED))

    def test_neither_builds(self):
        self.play.broken = {"base", "series"}
        with self.assertRaises(toolchain.ToolchainError):
            self.run_gate()

    def failure(self, target, message="property x: y"):
        path = self.play.corpus / "bad"
        return {target: toolchain.Failure(target, path, message, "output")}

    def test_failure_beyond_those_that_were_counted(self):
        self.play.bad = {"base": {"bad": "SEGV"}, "series": {"bad": "SEGV"}}
        self.play.cut = True
        self.assertEqual(self.run_gate(), 0, self.summary)
        self.assertIn("fail on the base as well", self.messages(SKIPPED))

    def test_fuzzing_finds_something_new(self):
        self.play.found = self.failure("qemu-tree-stream")
        self.assertEqual(self.run_gate(), 1)
        self.assertIn("property x: y", self.summary)

    def test_fuzzing_finds_something_old(self):
        self.play.found = self.failure("qemu-tree-stream")
        self.play.bad = {"base": {"bad": "property x: y"}}
        self.assertEqual(self.run_gate(), 0, self.summary)
        self.assertIn("New, but in the base as well", self.summary)

    def test_no_functional_change_holds_or_not(self):
        message = "migration: split\n\nNo functional change.\n"
        self.assertEqual(self.run_gate(message), 0, self.summary)
        self.assertIn("nfc-layout", self.play.fuzzed)
        self.assertIsNotNone(self.play.configured["series"][1])
        self.play.found = self.failure("nfc-layout", "no-functional-change: error text differs")
        self.assertEqual(self.run_gate(message, text="int other;\n"), 1)
        self.assertIn("error text differs", self.summary)
        self.assertIn("[nfc-layout findings/", self.messages(FAILED))

    def test_both_end_alike(self):
        self.play.found = self.failure("nfc-layout", "crash: SUMMARY: AddressSanitizer: FPE")
        self.play.differ = False
        message = "migration: split\n\nNo functional change.\n"
        self.assertEqual(self.run_gate(message), 0, self.summary)
        self.assertIn("base and series end alike", self.messages(SKIPPED))
        self.play.differ = True
        self.assertEqual(self.run_gate(message, text="int other;\n"), 1)

    def test_no_functional_change_of_one_patch(self):
        self.commit("one\n\nNo functional change.", {"migration/ram.c": "1\n"})
        self.assertEqual(self.run_gate(), 0, self.summary)
        after, before = self.play.configured["nfc-0"]
        self.assertNotEqual(after, before)
        self.assertIsNone(self.play.configured["series"][1])

    def test_no_time_left(self):
        self.commit("one\n\nNo functional change.", {"migration/ram.c": "1\n"})
        self.assertEqual(self.run_gate(minutes=0), 0, self.summary)
        self.assertIn("raise --minutes", self.messages(SKIPPED))

    def test_lines_that_no_input_reaches(self):
        self.assertEqual(self.run_gate(), 0)
        self.assertIn("migration/ram.c: inputs reach 0 of 1 changed lines; not 2", self.summary)
        self.assertEqual((self.out / "lines-not-reached.txt").read_text(), "migration/ram.c:2\n")
        self.assertIn("migration/postcopy-ram.c is in no program", self.messages(SKIPPED))
        root = ElementTree.parse(self.out / "coverage.xml").getroot()
        self.assertEqual(root.get("line-rate"), "0.6667")
        (entry,) = root.iter("class")
        self.assertEqual(entry.get("filename"), "migration/ram.c")
        self.assertEqual([line.get("hits") for line in entry.iter("line")], ["5", "0", "1"])

    def test_series_that_touches_nothing(self):
        self.commit("docs", {"docs/x": "y\n"})
        options = gate.parse_arguments(["--qemu", str(self.qemu), "--out", str(self.out)])
        self.assertEqual(gate.run_gate(options), 0)
        (case,) = ElementTree.parse(self.out / "gate.xml").iter("testcase")
        self.assertIsNotNone(case.find("skipped"))

    def test_command_line(self):
        script = Path(gate.__file__)
        for arguments, status in (((), 2), (("--qemu", str(self.root)), 2),
                                  (("--qemu", str(self.qemu), "--base", "nothing"), 2)):
            result = subprocess.run([sys.executable, str(script), *arguments], check=False,
                                    capture_output=True, text=True)
            self.assertEqual(result.returncode, status, result.stderr)
            self.assertTrue(result.stderr)

    def test_properties_are_those_of_pagewise(self):
        text = (gate.SOURCE / "property" / "property.c").read_text()
        for kind, names in gate.PROPERTIES.items():
            if (gate.SOURCE / "fuzz" / f"fuzz-{kind}.c").exists():
                for name in names:
                    self.assertIn(f'"{name}"', text)


class ReportTest(unittest.TestCase):
    def setUp(self):
        self.folder = Path(tempfile.mkdtemp(dir=Options.scratch)).resolve()
        self.addCleanup(shutil.rmtree, self.folder)

    def test_junit(self):
        report.write_junit(self.folder / "r.xml", [
            Case("replay", "a", PASSED, seconds=1.5), Case("replay", "b", FAILED, "w<h>y", "\0x"),
            Case("nfc", "c", SKIPPED, "no reason, no remedy")])
        suites = list(ElementTree.parse(self.folder / "r.xml").iter("testsuite"))
        self.assertEqual([(one.get("name"), one.get("tests"), one.get("failures"),
                           one.get("skipped")) for one in suites],
                         [("replay", "2", "1", "0"), ("nfc", "1", "0", "1")])
        failure = suites[0].find("testcase/failure")
        self.assertEqual((failure.get("message"), failure.text), ("w<h>y", "?x"))
        self.assertEqual(toolchain.read_junit(self.folder / "r.xml")[2],
                         ("c", SKIPPED, "no reason, no remedy"))

    def test_summary_fits_a_mail(self):
        cases = [Case(f"suite-{i % 5}", f"case {i}", FAILED, "word " * 40) for i in range(60)]
        files = [report.FileLines("migration/ram.c", {i: 0 for i in range(900)}, set(range(900)))]
        lines = report.summary(["head", "second"], cases, files, ["tail"])
        self.assertLessEqual(len(lines), report.SUMMARY_LINES)
        self.assertLessEqual(max(map(len, lines)), report.SUMMARY_COLUMNS)
        self.assertEqual((lines[0], lines[-1]), ("head", "tail"))
        self.assertIn("lines more", " ".join(lines))

    def test_spans(self):
        self.assertEqual(report.spans({7, 1, 2, 3, 9}), "1-3, 7, 9")

    def test_lcov(self):
        text = ("SF:/q/migration/ram.c\nDA:1,5\nDA:2,0\nend_of_record\n"
                "SF:/elsewhere/x.c\nDA:1,1\nend_of_record\nSF:/q/migration/ram.c\nDA:2,3\n")
        self.assertEqual(toolchain.read_lcov(text, Path("/q")), {"migration/ram.c": {1: 5, 2: 3}})

    def test_programs_are_killed_in_time(self):
        log = self.folder / "log"
        output, status = toolchain.run(["sh", "-c", "echo on; sleep 1000 & wait"], log, 1)
        self.assertEqual((output, status), ("on\n", None))
        self.assertIn(b"sleep", log.read_bytes())

    def replay_program(self, body):
        build = toolchain.Build(self.folder / "build", self.folder)
        (self.folder / "build" / "bin").mkdir(parents=True)
        program = build.program("qemu-tree-stream-replay")
        program.write_text("#!/bin/sh\nfor f; do\n" + body + "\ndone\n", encoding="ascii")
        program.chmod(0o755)
        inputs = []
        for name in ("a", "bad-1", "c", "bad-2", "e"):
            inputs.append(self.folder / name)
            inputs[-1].write_text(name, encoding="ascii")
        return build, inputs

    def test_replay_goes_on_past_failures(self):
        build, inputs = self.replay_program(
            "case $f in *bad*) echo 'pagewise: property safe: x'; "
            "echo \"replay: the input was $f\"; exit 1;; esac")
        failures = build.replay("qemu-tree-stream", inputs, 30)
        self.assertEqual([failure.path.name for failure in failures], ["bad-1", "bad-2"])
        self.assertEqual(failures[0].message, "property safe: x")

    def test_fuzz_report(self):
        (self.folder / "fuzz" / "t" / "findings").mkdir(parents=True)
        (self.folder / "fuzz" / "t" / "findings" / "crash-1").write_text("x", encoding="ascii")
        (self.folder / "fuzz.xml").write_text(
            "<testsuite><testcase name='t'><failure message='crash'/></testcase>"
            "<testcase name='u'/></testsuite>", encoding="ascii")
        verdicts = toolchain.read_fuzz_report(
            self.folder, ["t", "u"], "\nt: crash\n    pagewise: property bounded: too much\n")
        self.assertIsNone(verdicts["u"])
        self.assertEqual(verdicts["t"].message, "crash: property bounded: too much")
        self.assertEqual(verdicts["t"].path.name, "crash-1")

    def test_replay_that_names_no_input(self):
        build, inputs = self.replay_program("exit 3")
        failures = build.replay("qemu-tree-stream", inputs, 30)
        self.assertEqual(failures[0].message, "exit status 3")
        self.assertEqual(len(failures), len(inputs))


def main():
    parser = argparse.ArgumentParser(prog="test_gate.py")
    parser.add_argument("--scratch", type=Path, required=True)
    known, rest = parser.parse_known_args(namespace=Options)
    known.scratch.mkdir(parents=True, exist_ok=True)
    unittest.main(argv=[sys.argv[0], *rest])


if __name__ == "__main__":
    main()

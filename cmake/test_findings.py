# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of what runs the findings: findings.py, limited.py, nfc.py, registry.py.

    test_findings.py --source DIR --build DIR
"""

import argparse
import io
import subprocess
import sys
import tempfile
import unittest
from contextlib import redirect_stdout
from pathlib import Path
from unittest import mock

import findings
import nfc
from findings import CaseTool, Outcome, QemuTree, classify_end, classify_replay, judge
from limited import LimitedProcess, Limits
from registry import Finding, RegistryError, outcome_class, read_registry

INI = """\
[finding]
id = {id}
title = It breaks
property = safe
what = What happens.
why = The reason.
function = f
file = migration/ram.c
mode = any
since = 10.0
{fixed}
[outcome]
qemu-tree = crash SEGV; hang
[measured]
qemu-tree = 10.0.13
[reproducer]
snapshot = snapshot.txt
[repair]
rule = H2
action = set page_size
"""


class Options:
    source = build = None


def run_limited(code, classify, **limits):
    with LimitedProcess([sys.executable, "-c", code], Limits(**limits)) as process:
        process.wait()
    return classify(process)


class FindingsTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def finding(self, fixed="", name="it-breaks"):
        folder = self.folder / name
        folder.mkdir()
        (folder / "finding.ini").write_text(INI.format(id=name, fixed=fixed))
        (folder / "snapshot.txt").write_text("[block 0]\nidstr = ram\nused_length = 1M\n")
        return Finding(folder)

    def test_ends_are_told_apart(self):
        for code, limits, expected in (
                ("import sys; sys.exit(1)", {}, "refused"),
                ("import os; os.kill(os.getpid(), 8)", {}, "crash SIGFPE"),
                ("while True: pass", {"cpu": 1}, "hang of CPU time"),
                ("import time; time.sleep(60)", {"wall": 0.5}, "hang"),
                # It would end long before any other limit.
                ("import time; time.sleep(5)", {"idle": 0.5}, "hang"),
                # At work now and then, for three times as long as it may be idle.
                ("import time\nfor _ in range(15):\n"
                 "    time.sleep(0.1)\n    sum(range(1000000))", {"idle": 0.5}, "refused"),
                ("import time; a = b'x' * (200 << 20); time.sleep(60)",
                 {"memory": 100 << 20}, "memory blow-up")):
            with self.subTest(code):
                self.assertTrue(str(run_limited(code, classify_end, **limits))
                                .startswith(expected))

    def test_nothing_outlives_the_limits(self):
        with LimitedProcess([sys.executable, "-c", "import time; time.sleep(60)"],
                            Limits()) as process:
            pass
        self.assertIsNotNone(process.process.poll())

    def test_replays_are_told_apart(self):
        paragraph = "pagewise: property {}, subject qemu-tree: {}"
        for text, expected in (
                ("", "right"),
                (paragraph.format("agrees", "the file was accepted; it must be refused"),
                 "accepted wrong"),
                (paragraph.format("agrees", "it breaks no rule and must be accepted"),
                 "refused wrongly"),
                (paragraph.format("clean-reject", "read 4 failed with an I/O error, and the load "
                                  "reported success"), "accepted wrong"),
                (paragraph.format("eager=model", "block 'ram', page 3"), "accepted wrong"),
                (paragraph.format("bounded", "the load made 9 reads"), "hang"),
                (paragraph.format("bounded", "the load allocated 9 bytes"), "memory blow-up"),
                ("==1==ERROR: AddressSanitizer: FPE on unknown address", "crash FPE")):
            code = f"import os, sys; print({text!r}, file=sys.stderr)"
            if text:
                code += "; sys.stderr.flush(); os.abort()"
            with self.subTest(text):
                self.assertEqual(str(run_limited(code, classify_replay)), expected)
        with self.assertRaises(findings.Trouble):
            run_limited("print('AUTO STUB HIT: f')", classify_replay)

    def test_verdicts(self):
        known = self.finding(name="known")
        fixed = self.finding("fixed = 10.2", "fixed")
        race = self.finding(name="race")
        race.reproducer["tries"] = "5"
        for finding, version, outcome, words, failed in (
                (known, "10.0.13", "crash", "known", False),
                (known, "10.0.13", "hang", "known", False),
                (known, "10.0.13", "accepted wrong", "NEW", True),
                (known, "10.0.13", "right", "GONE", True),
                (known, "10.0.14", "right", "gone", False),
                (race, "10.0.13", "refused", "gone", False),
                (known, "9.2", "crash", "NEW", True),
                (known, "9.2", "refused", "not affected", False),
                (fixed, "10.1", "crash", "known", False),
                (fixed, "10.2", "crash", "CAME BACK", True),
                (fixed, "11.0", "hang", "CAME BACK", True),
                (fixed, "10.2.1", "refused", "fixed", False)):
            with self.subTest(version=version, outcome=outcome):
                got, is_failure = judge(finding, "qemu-tree", version, Outcome(outcome))
                self.assertTrue(got.startswith(words), got)
                self.assertEqual(is_failure, failed)

    def test_a_new_one_is_told_with_all_that_a_report_needs(self):
        """A loader that dies on what is registered as a crash or hang of another version."""
        finding = self.finding()
        replay = self.folder / "qemu-tree-stream-replay"
        replay.write_text("#!/bin/sh\necho '    #0 0x1 in parse_it' >&2\n"
                          "echo 'pagewise: property eager=model, subject x: page 3' >&2\nexit 1\n")
        replay.chmod(0o755)
        tool = CaseTool(Options.build / "bin" / "finding-case", self.folder)
        runner = QemuTree(str(replay), "10.0.13", tool, self.folder)
        output = io.StringIO()
        with redirect_stdout(output):
            failures = findings.run_subject(runner, [finding], findings.ElementTree.Element("x"))
        self.assertEqual(failures, 1)
        for part in ("NEW: registered as crash SEGV", "It breaks: accepted wrong", "f(), migration",
                     "The reason.", "PAGEWISE_FINDINGS=none", "page 3", "#0 0x1 in parse_it",
                     str(finding.folder)):
            self.assertIn(part, output.getvalue())

    def test_what_a_repair_lays_bare_is_matched(self):
        """Page 3 lies behind the file's end, which no rule says while page_size is wrong."""
        self.finding(name="wrong-size")
        behind = self.finding(name="behind-the-end")
        behind.folder.joinpath("finding.ini").write_text(
            INI.format(id="behind-the-end", fixed="").replace("rule = H2", "rule = P1")
            .replace("action = set page_size", "action = clear bits")
            .replace("crash SEGV; hang", "leak"))
        behind.folder.joinpath("snapshot.txt").write_text(
            "[snapshot]\nfile_size = 0x101000\n[block 0]\nidstr = ram\nused_length = 1M\n"
            "pages = 3\npage_size = 2K\n")
        path = self.folder / "input"
        tool = CaseTool(Options.build / "bin" / "finding-case", self.folder)
        tool.run("input", behind, path)
        for outcome, expected in (("crash", ["wrong-size"]), ("leak", ["behind-the-end"])):
            result = subprocess.run([tool.program, "match", self.folder, outcome, path],
                                    capture_output=True, text=True, check=True)
            with self.subTest(outcome):
                self.assertEqual(result.stdout.split(), expected)

    def test_what_is_known_is_repaired_before_a_match(self):
        wide = self.finding(name="wide")
        wide.folder.joinpath("snapshot.txt").write_text(
            "[block 0]\nidstr = ram\nused_length = 1M\npage_size = 0\n")
        other = tempfile.TemporaryDirectory()
        self.addCleanup(other.cleanup)
        path, known = self.folder / "input", Path(other.name)
        tool = CaseTool(Options.build / "bin" / "finding-case", self.folder)
        tool.run("input", wide, path)
        for there, expected in ((False, ["wide"]), (True, [])):
            if there:
                (known / "wide").symlink_to(wide.folder)
            result = subprocess.run([tool.program, "match", self.folder, "crash", path, known],
                                    capture_output=True, text=True, check=True)
            with self.subTest(there=there):
                self.assertEqual(result.stdout.split(), expected)

    def test_inputs_that_trigger_what_is_spared_are_listed(self):
        finding = self.finding()
        tool = CaseTool(Options.build / "bin" / "finding-case", self.folder)
        right, wrong = self.folder / "right", self.folder / "wrong"
        tool.run("input", finding, right)
        finding.folder.joinpath("snapshot.txt").write_text(
            "[block 0]\nidstr = ram\nused_length = 1M\npage_size = 0\n")
        tool.run("input", finding, wrong)
        for text, expected in ((finding.spared_text(), [str(wrong)]),
                               (INI.format(id=finding.id, fixed=""), [])):
            finding.folder.joinpath("finding.ini").write_text(text)
            result = subprocess.run([tool.program, "spared", self.folder, right, wrong],
                                    capture_output=True, text=True, check=True)
            with self.subTest(text):
                self.assertEqual(result.stdout.split(), expected)

    def test_who_explains_more(self):
        wide, narrow, multifd = (self.finding(name=name) for name in ("wide", "narrow", "multifd"))
        narrow.repairs[0]["value"] = "8-15"
        multifd.mode = "multifd"
        self.assertLess(narrow.trigger_span(), multifd.trigger_span())
        self.assertLess(multifd.trigger_span(), wide.trigger_span())

    def test_a_detail_that_is_registered_counts(self):
        finding = self.finding()
        self.assertTrue(finding.ends_as("qemu-tree", Outcome("crash", "SEGV")))
        self.assertFalse(finding.ends_as("qemu-tree", Outcome("crash", "FPE")))
        self.assertTrue(finding.ends_as("qemu-tree", Outcome("hang", "of CPU time")))

    def test_wrong_entries_are_told(self):
        for replace, by in (("crash SEGV", "sulks"), ("title = It breaks\n", ""),
                            ("[measured]", "[measures]")):
            folder = self.folder / "wrong"
            folder.mkdir(exist_ok=True)
            (folder / "finding.ini").write_text(INI.format(id="wrong", fixed="")
                                                .replace(replace, by))
            with self.subTest(replace), self.assertRaises(RegistryError):
                Finding(folder)

    def nfc_programs(self, base, series):
        """A build folder whose nfc-record prints these lines for the two sides."""
        (self.folder / "bin").mkdir()
        program = self.folder / "bin" / "nfc-record"
        program.write_text(f"#!/bin/sh\ncase $1 in base) {base};; *) {series};; esac\n")
        program.chmod(0o755)
        return argparse.Namespace(build=self.folder)

    def nfc_compare(self, base, series, aspects=""):
        options = self.nfc_programs(base, series)
        output = io.StringIO()
        with redirect_stdout(output), mock.patch.dict("os.environ", NFC_COMPARE=aspects):
            same = nfc.compare(options, "x", "an input").same()
        self.output = output.getvalue()
        return same

    def test_nfc_takes_equal_records_for_no_difference(self):
        self.assertTrue(self.nfc_compare("echo accepts the file", "echo accepts the file"))
        self.assertEqual(self.output, "")

    def test_nfc_shows_what_each_side_does(self):
        self.assertFalse(self.nfc_compare("echo refuses the file: no", "echo accepts the file"))
        for part in ("DIFFERENCE on an input", "the base:", "refuses the file: no", "the series:"):
            self.assertIn(part, self.output)

    def test_nfc_compares_what_is_asked(self):
        self.assertTrue(self.nfc_compare("echo refuses the file: no", "echo refuses the file: so",
                                         "verdict,ram"))

    def test_nfc_sees_who_dies(self):
        self.assertFalse(self.nfc_compare("kill -8 $$", "echo accepts the file"))
        self.assertIn("dies: SIGFPE", self.output)

    def test_nfc_takes_the_same_death_for_no_difference(self):
        self.assertTrue(self.nfc_compare("kill -8 $$", "kill -8 $$"))

    def test_outcome_classes(self):
        self.assertEqual(outcome_class("refused wrongly"), "refused wrongly")
        self.assertEqual(outcome_class("refused"), "refused")

    def test_the_registry_is_whole(self):
        stored = read_registry(Options.source / "corpus" / "findings")
        self.assertGreater(len(stored), 10)
        for finding in stored:
            with self.subTest(finding.id):
                self.assertTrue(finding.outcomes.keys() >= finding.measured.keys())
                self.assertTrue(finding.outcomes and finding.repairs)
                # What is in no release was measured in no version that stays as it is.
                self.assertTrue(finding.measured or finding.since.endswith(".50"))
                for key in ("snapshot", "input"):
                    name = finding.reproducer.get(key)
                    self.assertTrue(name is None or (finding.folder / name).exists())


def main():
    parser = argparse.ArgumentParser(prog="test_findings.py")
    parser.add_argument("--source", type=Path, required=True)
    parser.add_argument("--build", type=Path, required=True)
    _, rest = parser.parse_known_args(namespace=Options)
    unittest.main(argv=[sys.argv[0], *rest])


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of the replay driver (fuzz/replay-driver.c).

    test_replay.py --target PROGRAM --scratch DIR

PROGRAM is unit/misbehaving-target.c with that driver.
"""

import os
import subprocess

from script_test import Options, ScriptTest, run


class ReplayTest(ScriptTest):
    def setUp(self):
        super().setUp()
        self.corpus = self.root
        for number in range(6):
            (self.corpus / f"good-{number}").write_bytes(b"A" * number)

    def replay(self, *arguments, misbehave=None):
        environment = dict(os.environ)
        environment.pop("MISBEHAVE", None)
        if misbehave is not None:
            environment["MISBEHAVE"] = misbehave
            for number in range(8):
                (self.corpus / f"bad-{number}").write_bytes(b"B")
        result = subprocess.run([str(Options.target), *arguments], env=environment, text=True,
                                capture_output=True, timeout=60, check=False)
        self.output = result.stdout + result.stderr
        return result.returncode

    def replay_corpus(self, misbehave):
        return self.replay("--repeat", "2", "--reverse", str(self.corpus), misbehave=misbehave)

    def test_all_inputs_run_in_every_pass(self):
        self.assertEqual(self.replay_corpus(None), 0, self.output)
        self.assertIn("6 files, 24 executions: ok", self.output)

    def test_crash_names_the_input(self):
        self.assertNotEqual(self.replay_corpus("crash"), 0)
        self.assertIn(f"the input was {self.corpus}/bad-0", self.output)

    def test_result_is_checked(self):
        self.assertNotEqual(self.replay_corpus("return-1"), 0)
        self.assertIn("bad-0: the target did not return 0", self.output)

    def test_leaks_are_named(self):
        for bug, name in (("leak-descriptor", "open descriptors"), ("leak-thread", "threads"),
                          ("leak-mapping", "mappings")):
            with self.subTest(bug):
                self.assertEqual(self.replay_corpus(bug), 1, self.output)
                self.assertIn(f"the number of {name} grew", self.output)

    def test_empty_and_missing_corpus(self):
        empty = self.corpus / "empty"
        empty.mkdir()
        for folder in (empty, self.corpus / "missing"):
            self.assertEqual(self.replay(str(folder)), 1)
            self.assertIn(str(folder), self.output)

    def test_wrong_usage(self):
        for arguments in ((), ("--repeat",), ("--repeat", "0"), ("--repeat", "2x"), ("--what",)):
            with self.subTest(arguments):
                self.assertEqual(self.replay(*arguments), 2)
                self.assertIn("Usage:", self.output)


if __name__ == "__main__":
    run(__file__, "target")

# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of the AFL++ runner (afl.py), with a target that misbehaves on purpose.

    test_afl.py --target PROGRAM --mutator LIBRARY --scratch DIR

PROGRAM is unit/misbehaving-target.c built with AFL++, LIBRARY any target's
mutator. What the runner shares with fuzz.py is tested in test_fuzz.py.
"""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

from script_test import Options, ScriptTest, run

RUNNER = Path(__file__).with_name("afl.py")


class AflTest(ScriptTest):
    def setUp(self):
        super().setUp()
        self.build = self.root / "build" / "afl"
        (self.build / "bin").mkdir(parents=True)

    def add_target(self, stem, seeds=("A", "AA"), mutator=True, options=None):
        (self.build / "bin" / stem).symlink_to(Options.target.resolve())
        if mutator:
            (self.build / "bin" / f"{stem}-mutator.so").symlink_to(Options.mutator.resolve())
        if options:
            (self.build / "bin" / f"{stem}.options").write_text(options, encoding="ascii")
        folder = self.root / "corpus" / stem
        folder.mkdir(parents=True)
        for number, seed in enumerate(seeds):
            (folder / f"seed-{number}").write_text(seed, encoding="ascii")

    def start(self, stem, seconds, misbehave):
        environment = {key: value for key, value in os.environ.items() if key != "FUZZ_SECONDS"}
        if misbehave:
            environment["MISBEHAVE"] = misbehave
        return subprocess.Popen(
            [sys.executable, str(RUNNER), "--build", str(self.build), "--source", str(self.root),
             "--seconds", str(seconds), "--grace", "60", stem], env=environment,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def fuzz(self, stem, seconds=3, misbehave=None):
        runner = self.start(stem, seconds, misbehave)
        self.output = runner.communicate(timeout=200)[0]
        return runner.returncode

    def work(self, name):
        return self.build / "fuzz" / "it" / name

    def test_both_instances_fuzz(self):
        self.add_target("it")
        self.assertEqual(self.fuzz("it"), 0, self.output)
        self.assertRegex(self.output, r"\nit +\d+ +[1-9]\d* .* ok\n")
        for name in ("main", "secondary"):
            stats = (self.work("afl") / name / "fuzzer_stats").read_text()
            self.assertGreater(int(re.search(r"execs_done\s*: (\d+)", stats)[1]), 0)
            self.assertIn("shmem_testcase", stats)
            self.assertIn("persistent", stats)
        setup = (self.work("afl") / "secondary" / "fuzzer_setup").read_text()
        self.assertIn("AFL_CUSTOM_MUTATOR_LIBRARY=", setup)

    def test_corpora_are_exchanged(self):
        self.add_target("it", seeds=("A",))
        other = self.root / "build" / "dev" / "fuzz" / "it" / "corpus"
        other.mkdir(parents=True)
        (other / ("0" * 40)).write_bytes(b"A found by libFuzzer")
        (other / ("1" * 40)).write_bytes(b"A" * 5000)
        # With any value of MISBEHAVE a 'B' reaches more than an 'A' does.
        self.assertEqual(self.fuzz("it", seconds=5, misbehave="not"), 0, self.output)
        given = sorted(path.read_bytes() for path in self.work("input").iterdir())
        self.assertEqual(given, [b"A", b"A found by libFuzzer"])
        found = list(self.work("corpus").iterdir())
        self.assertTrue(any(path.read_bytes().startswith(b"B") for path in found), self.output)
        self.assertTrue(all(re.match("^[0-9a-f]{40}$", path.name) for path in found))

    def expect_crash(self):
        self.assertEqual(self.code, 1, self.output)
        self.assertIn("it: crash", self.output)
        self.assertIn("property safe: block 'pc.ram', page 17", self.output)
        self.assertEqual([path.read_bytes() for path in self.work("findings").iterdir()], [b"B"])
        command = re.search(r"Reproduce with:\n +(.*)\n", self.output)[1]
        again = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=60,
                               env=dict(os.environ, MISBEHAVE="crash"), check=False)
        self.assertNotEqual(again.returncode, 0)

    def test_crash_is_found_and_minimized(self):
        self.add_target("it", seeds=("@ and much more than is needed",))
        self.code = self.fuzz("it", seconds=10, misbehave="crash")
        self.expect_crash()

    def test_seed_that_crashes_is_a_finding(self):
        self.add_target("it", seeds=("A", "B and much more than is needed"))
        self.code = self.fuzz("it", misbehave="crash")
        self.expect_crash()

    def test_crash_that_does_not_happen_again_is_told(self):
        self.add_target("it", seeds=("@", "A"))
        self.assertEqual(self.fuzz("it", seconds=10, misbehave="crash-late"), 1, self.output)
        self.assertIn("it: crash", self.output)
        self.assertIn("property safe: block 'pc.ram', page 17", self.output)

    def test_hang(self):
        self.add_target("it", seeds=("@",), options="[libfuzzer]\ntimeout = 1\nmax_len = 4\n")
        self.assertEqual(self.fuzz("it", seconds=15, misbehave="hang"), 1, self.output)
        self.assertIn("it: timeout", self.output)

    def test_no_mutator(self):
        self.add_target("it", mutator=False)
        self.assertEqual(self.fuzz("it"), 1, self.output)
        self.assertIn("it: secondary did not fuzz", self.output)

    def test_no_program(self):
        self.add_target("it")
        (self.build / "bin" / "it").unlink()
        self.assertEqual(self.fuzz("it"), 1, self.output)
        self.assertIn("it: did not start", self.output)

    def test_ctrl_c_leaves_nothing(self):
        self.add_target("it")
        runner = self.start("it", 500, None)
        pids = []
        end = time.monotonic() + 60
        while len(pids) < 2 and time.monotonic() < end:
            pids = [stats for name in ("main", "secondary")
                    if (stats := self.work("afl") / name / "fuzzer_stats").exists()]
            time.sleep(0.1)
        pids = [int(re.search(r"fuzzer_pid\s*: (\d+)", path.read_text())[1]) for path in pids]
        runner.send_signal(signal.SIGINT)
        output = runner.communicate(timeout=60)[0]
        self.assertEqual(runner.returncode, 130, output)
        self.assertRegex(output, r"\nit .* stopped\n")
        self.assertEqual(len(pids), 2)
        self.assertEqual([pid for pid in pids if Path(f"/proc/{pid}/exe").exists()], [])
        end = time.monotonic() + 10
        while self.processes() and time.monotonic() < end:
            time.sleep(0.1)
        self.assertEqual(self.processes(), [])

    def processes(self):
        return [path for path in Path("/proc").glob("[0-9]*/cmdline")
                if str(self.root).encode() in read_or_nothing(path)]


def read_or_nothing(path):
    try:
        return path.read_bytes()
    except OSError:
        return b""


if __name__ == "__main__":
    run(__file__, "target", "mutator")

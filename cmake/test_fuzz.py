# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of the fuzz runner (fuzz.py), with targets that misbehave on purpose.

    test_fuzz.py --target PROGRAM --scratch DIR

PROGRAM is unit/misbehaving-target.c with libFuzzer. Other fakes are scripts of
a few lines that speak as libFuzzer does. The runner is always a process of its
own, as users start it.
"""

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from script_test import Options, ScriptTest, is_alive, run

RUNNER = Path(__file__).with_name("fuzz.py")

# A child that never ends by itself, nor by SIGINT, and has a child like that.
STUBBORN = """#!/bin/sh
trap '' INT TERM HUP
echo $$ > pid
sleep 1000 &
echo $! > pid-of-child
echo '#4\tINITED cov: 7 ft: 8 corp: 2/5b exec/s: 90 rss: 30Mb'
wait
"""

POLITE = """#!/bin/sh
echo '#4\tINITED cov: 7 ft: 8 corp: 2/5b exec/s: 90 rss: 30Mb'
echo 'Done 400 runs in 1 second(s)'
"""


class RunnerTest(ScriptTest):
    def setUp(self):
        super().setUp()
        self.build = self.root / "build"
        (self.build / "bin").mkdir(parents=True)

    def add_target(self, stem, script=None, seeds=("A", "AA"), options=None):
        program = self.build / "bin" / stem
        if script is None:
            program.symlink_to(Options.target.resolve())
        else:
            program.write_text(script, encoding="utf-8")
            program.chmod(0o755)
        if options is not None:
            program.with_name(stem + ".options").write_text(options, encoding="utf-8")
        for number, seed in enumerate(seeds):
            folder = self.root / "corpus" / stem
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"seed-{number}").write_text(seed, encoding="ascii")

    def command(self, stems, action="run", seconds=1, grace=20.0, jobs=None):
        return [sys.executable, str(RUNNER), action, "--build", str(self.build), "--source",
                str(self.root), "--seconds", str(seconds), "--grace", str(grace),
                *(["--jobs", str(jobs)] if jobs else []), *stems]

    @staticmethod
    def environment(**more):
        environment = {key: value for key, value in os.environ.items() if key != "FUZZ_SECONDS"}
        return dict(environment, **more)

    def run_fuzz(self, *stems, environment=None, **options):
        result = subprocess.run(self.command(stems, **options), capture_output=True, text=True,
                                env=self.environment(**(environment or {})), timeout=120,
                                check=False)
        self.output = result.stdout + result.stderr
        return result.returncode

    def verdict(self, stem):
        """The last word of the target's line in the table at the end."""
        return re.findall(rf"^{stem} .* (\w+)$", self.output, re.MULTILINE)[-1]

    def read_pid(self, stem, name):
        return int((self.build / "fuzz" / stem / name).read_text(encoding="ascii"))

    def test_good_target(self):
        self.add_target("good")
        self.assertEqual(self.run_fuzz("good"), 0, self.output)
        self.assertEqual(self.verdict("good"), "ok")
        self.assertRegex(self.output, r"1 targets, 0 failed")
        seeds = sorted(path.name for path in (self.root / "corpus" / "good").iterdir())
        self.assertEqual(seeds, ["seed-0", "seed-1"])

    def test_crash_is_minimized_and_reproducible(self):
        self.add_target("bad", seeds=("A", "B and much more than is needed"))
        crash = {"MISBEHAVE": "crash"}
        self.assertEqual(self.run_fuzz("bad", environment=crash), 1, self.output)
        self.assertEqual(self.verdict("bad"), "FAILED")
        self.assertIn("property safe: block 'pc.ram', page 17", self.output)
        findings = list((self.build / "fuzz" / "bad" / "findings").iterdir())
        self.assertEqual([path.read_bytes() for path in findings], [b"B"])
        command = re.search(r"Reproduce with:\n +(.*)\n", self.output)[1]
        again = subprocess.run(command, shell=True, env=self.environment(**crash),
                               capture_output=True, text=True, timeout=60, check=False)
        self.assertNotEqual(again.returncode, 0)
        self.assertIn("property safe", again.stderr)

    def test_timeout(self):
        self.add_target("slow", seeds=("B",), options="[libfuzzer]\ntimeout = 1\n")
        self.assertEqual(self.run_fuzz("slow", environment={"MISBEHAVE": "hang"}), 1)
        self.assertIn("slow: timeout", self.output)

    def test_hung_child_is_killed(self):
        self.add_target("deaf", seeds=("B",))
        self.assertEqual(self.run_fuzz("deaf", environment={"MISBEHAVE": "hang-deaf"},
                                       grace=2), 1)
        self.assertIn("deaf: hung", self.output)

    def test_target_that_ends_early(self):
        self.add_target("quiet", seeds=("B",))
        self.assertEqual(self.run_fuzz("quiet", environment={"MISBEHAVE": "end-quietly"}), 1)
        self.assertEqual(self.verdict("quiet"), "FAILED")

    def test_target_that_executes_nothing(self):
        self.add_target("idle", script="#!/bin/sh\necho 'INFO: nothing to do'\n")
        self.assertEqual(self.run_fuzz("idle"), 1)
        self.assertIn("idle: executed nothing", self.output)

    def test_target_that_does_not_start(self):
        self.add_target("broken", script="#!/bin/sh\necho no library; exit 127\n")
        self.assertEqual(self.run_fuzz("broken", "missing"), 1)
        self.assertIn("broken: ended with exit status 127", self.output)
        self.assertIn("missing: did not start", self.output)

    def test_one_failure_does_not_stop_the_others(self):
        self.add_target("broken", script="#!/bin/sh\nexit 3\n")
        for stem in ("first", "second", "third"):
            self.add_target(stem, script=POLITE)
        self.assertEqual(self.run_fuzz("broken", "first", "second", "third", jobs=1), 1)
        self.assertEqual([self.verdict(stem) for stem in ("first", "second", "third")],
                         ["ok"] * 3)
        cases = ElementTree.parse(self.build / "fuzz.xml").iter("testcase")
        self.assertEqual([case.find("failure") is None for case in cases],
                         [False, True, True, True])

    def test_every_target_gets_its_time(self):
        script = "#!/bin/sh\nfor a; do echo \"$a\"; done > arguments\nexec sh -c \"$0-polite\"\n"
        self.add_target("one", script=script, options="[libfuzzer]\nmax_len = 77\n")
        self.add_target("one-polite", script=POLITE)
        (self.build / "bin" / "one.dict").write_text('"word"\n', encoding="ascii")
        self.assertEqual(self.run_fuzz("one", environment={"FUZZ_SECONDS": "3"}), 0)
        arguments = (self.build / "fuzz" / "one" / "arguments").read_text().split("\n")
        self.assertIn("-max_total_time=3", arguments)
        self.assertIn("-max_len=77", arguments)
        self.assertIn(f"-dict={self.build}/bin/one.dict", arguments)

    def test_leftover_grandchildren_die(self):
        script = "#!/bin/sh\nsleep 1000 > /dev/null 2>&1 &\necho $! > pid-of-child\n" + POLITE
        self.add_target("parent", script=script)
        self.assertEqual(self.run_fuzz("parent"), 0, self.output)
        self.assertFalse(is_alive(self.read_pid("parent", "pid-of-child")))

    def interrupt(self, number):
        self.add_target("stubborn", script=STUBBORN)
        self.add_target("later", script=POLITE)
        runner = subprocess.Popen(self.command(["stubborn", "later"], seconds=500, jobs=1),
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                  env=self.environment())
        pid_file = self.build / "fuzz" / "stubborn" / "pid-of-child"
        end = time.monotonic() + 30
        while not (pid_file.exists() and pid_file.read_text()) and time.monotonic() < end:
            time.sleep(0.05)
        runner.send_signal(number)
        self.output = runner.communicate(timeout=30)[0]
        self.assertEqual(runner.returncode, 130, self.output)
        self.assertIn("interrupted", self.output)
        self.assertEqual(self.verdict("stubborn"), "stopped")
        self.assertEqual(self.verdict("later"), "stopped")
        self.assertFalse(is_alive(self.read_pid("stubborn", "pid")))
        self.assertFalse(is_alive(self.read_pid("stubborn", "pid-of-child")))

    def test_ctrl_c_stops_all_and_prints_the_table(self):
        self.interrupt(signal.SIGINT)

    def test_sigterm_does_so_too(self):
        self.interrupt(signal.SIGTERM)

    def test_live_display_on_a_terminal(self):
        self.add_target("good")
        master, slave = pty.openpty()
        runner = subprocess.Popen(self.command(["good"], seconds=2), stdout=slave, stderr=slave,
                                  env=self.environment(TERM="xterm", COLUMNS="80"))
        os.close(slave)
        words = b""
        while select.select([master], [], [], 60)[0]:
            try:
                words += os.read(master, 65536)
            except OSError:  # EIO: the other end is closed
                break
        os.close(master)
        self.assertEqual(runner.wait(timeout=30), 0)
        self.assertGreater(words.count(b"\x1b[2A"), 1)

    def test_merge_keeps_named_seeds(self):
        self.add_target("good", seeds=("A",))
        self.assertEqual(self.run_fuzz("good"), 0, self.output)
        new = self.build / "fuzz" / "good" / "corpus"
        (new / ("0" * 40)).write_bytes(b"B")
        (new / ("1" * 40)).write_bytes(b"B" * 5000)
        # With any value of MISBEHAVE, a 'B' reaches more than an 'A' does.
        self.assertEqual(self.run_fuzz("good", action="merge",
                                       environment={"MISBEHAVE": "not"}), 0, self.output)
        merged = list((self.root / "corpus" / "good").iterdir())
        self.assertIn("seed-0", [path.name for path in merged])
        self.assertTrue(any(path.read_bytes().startswith(b"B") for path in merged))
        self.assertTrue(all(path.stat().st_size <= 4096 for path in merged))

    def test_wrong_usage(self):
        self.assertEqual(self.run_fuzz(), 2)
        self.assertEqual(self.run_fuzz("one", seconds=0), 2)
        self.assertEqual(self.run_fuzz("one", environment={"FUZZ_SECONDS": "soon"}), 2)


if __name__ == "__main__":
    run(__file__, "target")

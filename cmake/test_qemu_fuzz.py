# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of qemu-fuzz, and of qemu-replay on what it finds, with a real QEMU.

    test_qemu_fuzz.py --fuzz PROGRAM --replay PROGRAM --findings DIR --scratch DIR

Inputs are bounded in number, not in time, and drawn from fixed seeds. Exit
status 77 without a QEMU of 9.0 or newer.
"""

import os
import re
import select
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from script_test import Options, ScriptTest, find_marked, new_mark, run

SKIP = 77
# Among the first inputs of this seed are some that QEMU 10.0 crashes on.
SEED, INPUTS = 5, 40
# The longest load that is in progress when we interrupt, and its QEMU's end.
PATIENCE = 30
TABLE = "| way of loading, and kind |"


def session_of_qemu(pid):
    """None: it is no QEMU, or no more."""
    try:
        name = Path(f"/proc/{pid}/comm").read_text(encoding="utf-8")
        return os.getsid(pid) if name.startswith("qemu-system") else None
    except OSError:
        return None


class QemuFuzzTest(ScriptTest):
    def setUp(self):
        super().setUp()
        self.mark = new_mark()
        self.temporary = self.root / "tmp"
        self.temporary.mkdir()
        self.folder = self.root / "found"

    def environment(self, **more):
        return dict(os.environ, TMPDIR=str(self.temporary), **self.mark, **more)

    def command(self, *arguments):
        return [str(Options.fuzz), "--folder", str(self.folder), "--program",
                str(Options.replay), *arguments]

    def fuzz(self, *arguments, **variables):
        result = subprocess.run(self.command(*arguments), env=self.environment(**variables),
                                capture_output=True, text=True, timeout=120, check=False)
        self.output, self.errors = result.stdout, result.stderr
        return result.returncode

    def reports(self):
        return [path.read_text(encoding="utf-8") for path in sorted(self.folder.glob("*/report"))]

    def assert_nothing_is_left(self, seconds=0.0):
        end = time.monotonic() + seconds
        while time.monotonic() < end and (find_marked(self.mark) or
                                          any(self.temporary.iterdir())):
            time.sleep(0.02)
        self.assertEqual(find_marked(self.mark), [])
        self.assertEqual(list(self.temporary.iterdir()), [])

    def test_nothing_new_past_what_is_known(self):
        status = self.fuzz("--inputs", "400", "--jobs", "2", "--findings", str(Options.findings))
        self.assertEqual(status, 0, self.output + self.errors + "\n".join(self.reports()))
        totals = re.search(r"400 inputs .* (\d+) accepted, (\d+) refused, 0 kinds, 0 findings",
                           self.output)
        self.assertTrue(totals, self.output)
        self.assertGreater(int(totals[1]), 20)
        self.assertGreater(int(totals[2]), 100)
        self.assertFalse(self.folder.exists())
        self.assert_nothing_is_left()

    def assert_reproducible(self, report):
        """The one command of the report shows the same in a fresh QEMU."""
        way, kind = report.split("\n", 1)[0].split(": ", 1)
        command = shlex.split(re.search(r"Reproduce with:\n +(.*)\n", report)[1])
        again = subprocess.run(command, env=self.environment(), capture_output=True, text=True,
                               timeout=120, check=False)
        self.assertEqual(again.returncode, 1, again.stdout + again.stderr)
        self.assertIn(f": {way}: QEMU ", again.stdout)
        self.assertIn(f"; {kind}\n", again.stdout)
        self.assertIn("pagewise: property ", again.stdout)
        if kind.startswith("crash") and shutil.which("gdb"):
            self.assertRegex(again.stdout, r"Under gdb:\n.*received signal SIG(.*\n)*#0 ")

    def test_finds_anew_and_each_is_reproducible(self):
        status = self.fuzz("--inputs", str(INPUTS), "--jobs", "1", "--seed", str(SEED))
        self.assertEqual(status, 1, self.output + self.errors)
        self.assertIn(TABLE, self.output)
        totals = re.search(rf"{INPUTS} inputs .* (\d+) kinds, (\d+) findings", self.output)
        self.assertTrue(totals, self.output)
        self.assertGreaterEqual(int(totals[1]), 1)
        reports = self.reports()
        self.assertEqual(len(reports), int(totals[2]))
        for report in reports:
            self.assertIn("in a fresh QEMU: same\n", report)
            self.assert_reproducible(report)
        self.assert_nothing_is_left()

    def test_wrong_arguments(self):
        for arguments in (("--what",), ("--seconds", "soon"), ("--seconds", "0"),
                          ("--inputs", "-1"), ("--jobs", "0"), ("--jobs", "65"), ("more",)):
            with self.subTest(arguments):
                self.assertEqual(self.fuzz(*arguments), 2)
                self.assertTrue(self.errors.startswith("qemu-fuzz: "), self.errors)
                self.assertEqual(self.output, "")

    def test_missing_registry(self):
        missing = str(self.root / "missing")
        self.assertEqual(self.fuzz("--findings", missing), 1)
        self.assertIn(missing, self.errors)

    def test_without_qemu(self):
        status = self.fuzz(QTEST_QEMU_BINARY=str(self.root / "missing"))
        self.assertEqual(status, SKIP)
        self.assertRegex(self.errors, r"^SKIP qemu: .*missing.*; remedy: ")

    def test_probe(self):
        probe = subprocess.run([str(Options.replay), "--probe"], env=self.environment(),
                               capture_output=True, text=True, timeout=60, check=False)
        self.assertEqual(probe.returncode, 0, probe.stderr)
        self.assertRegex(probe.stdout, r"(?m)^QEMU emulator version \d+\.")
        self.assertRegex(probe.stdout, r"(?m)^  mapped-ram +yes$")
        for what in ("with multifd and direct-io", "fast snapshot load", "KVM"):
            self.assertRegex(probe.stdout, rf"(?m)^  .*{what}.* (yes$|no: .)")
        self.assert_nothing_is_left()

    def start_and_wait_for_a_kind(self):
        """Returns the process, amid its work."""
        process = subprocess.Popen(self.command("--seconds", "500", "--jobs", "2", "--seed",
                                                str(SEED)),
                                   stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                   env=self.environment(), start_new_session=True)
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.kill)
        self.assertTrue(select.select([process.stdout], [], [], 60)[0], "nothing was found")
        sessions = [session_of_qemu(pid) for pid in find_marked(self.mark)]
        # A terminal's signal would end QEMUs as well, and that would look like a finding.
        self.assertGreater(len([session for session in sessions if session]), 0)
        self.assertNotIn(process.pid, sessions)
        return process

    def interrupt(self, number):
        process = self.start_and_wait_for_a_kind()
        # As a terminal does it: to the whole process group.
        os.killpg(process.pid, number)
        output = process.communicate(timeout=PATIENCE)[0]
        self.assertEqual(process.returncode, 130, output)
        self.assertIn(TABLE, output)
        self.assertIn("qemu-fuzz: interrupted: ", output)
        self.assertNotIn("crash status", output)
        self.assert_nothing_is_left()

    def test_ctrl_c_ends_all_and_prints_the_table(self):
        self.interrupt(signal.SIGINT)

    def test_sigterm_does_so_too(self):
        self.interrupt(signal.SIGTERM)

    def test_who_is_killed_leaves_nothing(self):
        process = self.start_and_wait_for_a_kind()
        process.kill()
        process.wait()
        self.assert_nothing_is_left(seconds=10)


def skip_without_qemu():
    """No QEMU: says so, and ends."""
    probe = subprocess.run([str(Options.replay), "--probe"], capture_output=True, text=True,
                           timeout=60, check=False)
    if probe.returncode == SKIP:
        print(probe.stderr.strip())
        required = "qemu" in os.environ.get("PAGEWISE_REQUIRE", "").split(",")
        sys.exit(1 if required else SKIP)


if __name__ == "__main__":
    run(__file__, "fuzz", "replay", "findings", before=skip_without_qemu)

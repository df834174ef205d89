# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests that a series of patches makes no functional change, for `ninja nfc`.

    nfc.py --source DIR --build DIR [--seconds N]

The tree that QEMU_SRC names (the series) and that of QEMU_BASE (the base) load
the same inputs: first the reproducers of all findings, each side in a process of
its own, as they may end it; then the corpora, and what the fuzzer makes of them
for N seconds. A difference is printed as text: what the base did, what the series
does, on which input (minimised). An input of which both die alike is none: it is
told of, and fuzzing goes on for the time that is left. NFC_COMPARE=verdict,ram,...
in the environment says what is compared; without it, everything is.

Exit status: 0: no difference; 1: there is one; 2: trouble.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from fuzz import positive
from limited import LimitedProcess, Limits
from registry import RegistryError, read_registry

TARGETS = {"nfc-layout": "fuzz-layout", "nfc-stream": "fuzz-stream"}
SIDES = ("base", "series")
LIMITS = Limits(wall=60, cpu=20, memory=2 << 30, idle=10)
RECORD_LINES = 40
NO_RECORD = 2
# What the lines of a record are about: see nfc_record(), property/nfc.c.
ASPECTS = (("accepts", "verdict"), ("refuses", "error"), ("stands", "position"),
           ("reads", "reads"))


def aspect(line):
    for word, name in ASPECTS:
        if line.startswith(word):
            return name
    return "ram" if ", page " in line else "blocks"


def wanted(lines):
    """The lines that NFC_COMPARE asks for."""
    names = os.environ.get("NFC_COMPARE") or "all"
    if "all" in names.split(","):
        return lines
    kept = [line for line in lines if aspect(line) in names.split(",")]
    if "verdict" in names.split(",") and "error" not in names.split(","):
        kept = [lines[0].split()[0], *kept] if lines else kept
    return kept


class FuzzError(Exception):
    """There is nothing to compare: a program could not be run, or failed without an input."""


class Record:
    """What one side did with an input, as lines."""

    def __init__(self, program, side, path, *options):
        with LimitedProcess([program, side, path, *options], LIMITS) as process:
            process.wait()
        if process.process.returncode == NO_RECORD:
            raise FuzzError(f"{path}: {''.join(process.err).strip()}")
        self.died = bool(process.killed_for or process.process.returncode)
        self.lines = "".join(process.out).splitlines()
        if self.died:
            self.lines = [f"dies: {process.killed_for or self._cause(process)}"]

    @staticmethod
    def _cause(process):
        lines = [line for line in "".join(process.err).splitlines()
                 if "runtime error:" in line or "ERROR: AddressSanitizer" in line
                 or "gap of the harness" in line or "failed to allocate" in line]
        # Addresses and folders are no difference.
        cause = lines[0].split("runtime error: ")[-1].split(" on ")[0] if lines else ""
        return cause.split("Sanitizer: ")[-1] or process.signal_name() or "an exit status"


def show(name, records):
    print(f"\nnfc: DIFFERENCE on {name}")
    common = set(records[0].lines) & set(records[1].lines)
    for side, record in zip(SIDES, records):
        own = [line for number, line in enumerate(record.lines) if not number or line not in common]
        print(f"  the {side}:")
        for line in own[:RECORD_LINES]:
            print(f"    {line}")
        if len(own) > RECORD_LINES:
            print(f"    ... and {len(own) - RECORD_LINES} lines more")
        if len(own) < len(record.lines):
            print(f"    ({len(record.lines) - len(own)} lines are alike)")


class Comparison:
    """Both sides' records of one input."""

    def __init__(self, options, path, *how):
        program = options.build / "bin" / "nfc-record"
        with ThreadPoolExecutor(len(SIDES)) as both:
            self.records = list(both.map(lambda side: Record(program, side, path, *how), SIDES))
        self.died = any(record.died for record in self.records)

    def same(self):
        base, series = (record.lines if self.died else wanted(record.lines)
                        for record in self.records)
        return base == series


def compare(options, path, name, *how):
    """The comparison; what differs is shown."""
    comparison = Comparison(options, path, *how)
    if not comparison.same():
        show(name, comparison.records)
    return comparison


def run_findings(options):
    """How many reproducers are answered otherwise."""
    registry = options.source / "corpus" / "findings"
    differ = run = 0
    with tempfile.TemporaryDirectory(prefix="pagewise-nfc-") as scratch:
        for finding in read_registry(registry):
            if "input" in finding.reproducer:
                continue  # no file, but a load of another kind
            path = Path(scratch) / finding.id
            made = subprocess.run([options.build / "bin" / "finding-case", "input", registry,
                                   finding.id, path], capture_output=True, text=True, check=False)
            if made.returncode != 0:
                raise RegistryError(f"{finding.id}: {made.stderr.strip()}")
            name = f"the reproducer of {finding.id}"
            differ += not compare(options, path, name).same()
            run += 1
    print(f"nfc: {run} reproducers of findings, {differ} differ", flush=True)
    return differ


def fuzz(options, seconds):
    """Corpora and fuzzing; returns fuzz.py's status, and the inputs that it kept."""
    command = [sys.executable, Path(__file__).with_name("fuzz.py"), "run", "--build",
               options.build, "--source", options.source, "--seconds", str(seconds)]
    command += [f"{stem}={corpus}" for stem, corpus in TARGETS.items()]
    # --seconds is what is left, whatever the environment asks for as a whole.
    environment = {name: value for name, value in os.environ.items() if name != "FUZZ_SECONDS"}
    before = kept_inputs(options)
    status = subprocess.run(command, env=environment, check=False).returncode
    return status, sorted(path for path, _ in kept_inputs(options) - before)


def kept_inputs(options):
    """Each with its time: the same one may be found again."""
    return {(path, path.stat().st_mtime_ns) for stem in TARGETS
            for path in (options.build / "fuzz" / stem / "findings").glob("*")}


def explain(options, path):
    """The minimised input as text, and what each side does with it. False: both die alike."""
    sys.stdout.flush()
    subprocess.run([options.build / "bin" / "pagewise", "replay", path], check=False)
    comparison = compare(options, path, path.name, "--repaired")
    if not comparison.same():
        return True
    if comparison.died:
        print(f"\nnfc: {path.name}: no difference, each {comparison.records[0].lines[0]}: that "
              "is a finding, see docs/findings.md", flush=True)
        return False
    print(f"\nnfc: DIFFERENCE on {path.name}: both do the same alone, so that it takes the inputs "
          "before it")
    return True


def run_fuzz(options):
    """How many inputs are answered otherwise."""
    end = time.monotonic() + options.seconds
    left = options.seconds
    while left > 0:
        status, inputs = fuzz(options, left)
        differ = sum(explain(options, path) for path in inputs)
        if differ or status == 0:
            return differ
        if not inputs:
            raise FuzzError("fuzzing failed, and left no input to blame")
        left = int(end - time.monotonic())
    return 0


def main():
    parser = argparse.ArgumentParser(prog="nfc.py", description=__doc__.split("\n")[0])
    parser.add_argument("--source", type=Path, required=True)
    parser.add_argument("--build", type=Path, required=True)
    parser.add_argument("--seconds", type=positive, default=60,
                        help="time for fuzzing; the environment's FUZZ_SECONDS wins")
    options = parser.parse_args()
    if os.environ.get("FUZZ_SECONDS"):
        options.seconds = positive(os.environ["FUZZ_SECONDS"])
    try:
        differ = run_findings(options) + run_fuzz(options)
    except (RegistryError, FuzzError) as error:
        print(f"nfc: {error}", file=sys.stderr)
        return 2
    print("\nnfc: " + ("there are differences" if differ else "no difference"))
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main())

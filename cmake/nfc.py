# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests that a series of patches makes no functional change, for `ninja nfc`.

    nfc.py --source DIR --build DIR [--seconds N]

The tree that QEMU_SRC names (the series) and that of QEMU_BASE (the base) load
the same inputs: first the reproducers of all findings, each side in a process of
its own, as they may end it; then the corpora, and what the fuzzer makes of them
for N seconds. A difference is printed as text: what the base did, what the series
does, on which input (minimised). NFC_COMPARE=verdict,ram,... in the environment
says what is compared; without it, everything is.

Exit status: 0: no difference; 1: there is one; 2: trouble.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from limited import LimitedProcess, Limits
from registry import RegistryError, read_registry

TARGETS = {"nfc-layout": "fuzz-layout", "nfc-stream": "fuzz-stream"}
SIDES = ("base", "series")
LIMITS = Limits(wall=60, cpu=20, memory=2 << 30)
RECORD_LINES = 40
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


class Record:
    """What one side did with an input, as lines."""

    def __init__(self, program, side, path):
        with LimitedProcess([program, side, path], LIMITS) as process:
            process.wait()
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
    for side, record in zip(SIDES, records):
        lines = record.lines[:RECORD_LINES]
        print(f"  the {side}:")
        for line in lines:
            print(f"    {line}")
        if len(record.lines) > len(lines):
            print(f"    ... and {len(record.lines) - len(lines)} lines more")


def compare(options, path, name):
    records = [Record(options.build / "bin" / "nfc-record", side, path) for side in SIDES]
    if any(record.died for record in records):
        same = records[0].lines == records[1].lines
    else:
        same = wanted(records[0].lines) == wanted(records[1].lines)
    if not same:
        show(name, records)
    return same


def run_findings(options):
    """How many reproducers are answered otherwise."""
    registry = options.source / "corpus" / "findings"
    differ = run = 0
    with tempfile.TemporaryDirectory(prefix="pagewise-nfc-") as scratch:
        for finding in read_registry(registry):
            path = Path(scratch) / finding.id
            made = subprocess.run([options.build / "bin" / "finding-case", "input", registry,
                                   finding.id, path], capture_output=True, text=True, check=False)
            if made.returncode != 0:
                raise RegistryError(f"{finding.id}: {made.stderr.strip()}")
            differ += not compare(options, path, f"the reproducer of {finding.id}")
            run += 1
    print(f"nfc: {run} reproducers of findings, {differ} differ", flush=True)
    return differ


def fuzz(options):
    """Corpora and fuzzing; returns fuzz.py's status, and the inputs that it kept."""
    command = [sys.executable, Path(__file__).with_name("fuzz.py"), "run", "--build",
               options.build, "--source", options.source]
    if options.seconds:
        command += ["--seconds", str(options.seconds)]
    command += [f"{stem}={corpus}" for stem, corpus in TARGETS.items()]
    before = set(kept_inputs(options))
    status = subprocess.run(command, check=False).returncode
    return status, sorted(set(kept_inputs(options)) - before)


def kept_inputs(options):
    for stem in TARGETS:
        yield from (options.build / "fuzz" / stem / "findings").glob("*")


def explain(options, path):
    """The minimised input as text, and what each side does with it."""
    sys.stdout.flush()
    subprocess.run([options.build / "bin" / "pagewise", "replay", path], check=False)
    if compare(options, path, path.name):
        print(f"\nnfc: {path.name}: both do the same alone: it takes the inputs before it, or both "
              "die of what is no registered finding")


def main():
    parser = argparse.ArgumentParser(prog="nfc.py", description=__doc__.split("\n")[0])
    parser.add_argument("--source", type=Path, required=True)
    parser.add_argument("--build", type=Path, required=True)
    parser.add_argument("--seconds", type=int)
    options = parser.parse_args()
    try:
        differ = run_findings(options)
    except RegistryError as error:
        print(f"nfc: {error}", file=sys.stderr)
        return 2
    status, inputs = fuzz(options)
    for path in inputs:
        explain(options, path)
    if status not in (0, 1):
        return 2
    print("\nnfc: " + ("there are differences" if differ or status else "no difference"))
    return 1 if differ or status else 0


if __name__ == "__main__":
    sys.exit(main())

# SPDX-License-Identifier: GPL-2.0-or-later
"""The gate before a QEMU series is merged: does it break, change, or reveal anything?

    gate.py --qemu DIR [--base REV] [--out DIR] [--minutes N] [--label LABEL]...
            [--description FILE] [--all]

DIR is a git tree of QEMU, which is only read; the series is what it has on top
of REV (default: where it left the upstream branch). pagewise is built against
both, stored inputs and the reproducers of known findings run on both, and what
fails on the series alone fails the gate. Where the series says "no functional
change", both have to answer every input alike. Then new inputs are searched
for, for a bounded time, and the lines of the series that no input reaches are
listed.

In the folder --out: gate.xml (JUnit), coverage.xml (Cobertura), summary.txt (at
most 30 lines, for a mail), findings/ (inputs that show what failed), and logs.

Exit status: 0, 1 if the series fails, 2 for wrong usage, 3 if the gate could not
do its work, 130 after Ctrl-C.
"""

import argparse
import os
import re
import shlex
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import report
from report import FAILED, PASSED, SKIPPED, Case
from series import Series, SeriesError
from toolchain import Failure, Toolchain, ToolchainError

SOURCE = Path(__file__).resolve().parents[1]

# Always shown, whether the series touches them or not.
UNDER_TEST = ("migration/ram.c", "migration/postcopy-ram.c")

# What a target's property function checks, by the target's name after its subject.
PROPERTIES = {
    "header": ("bounded", "clean-reject", "agrees"),
    "stream": ("bounded", "clean-reject", "agrees", "eager=model", "split=whole"),
    "layout": ("bounded", "clean-reject", "agrees", "eager=model", "split=whole"),
    "round-trip": ("round-trip",),
    "fault-map": ("maps",),
    "postcopy": ("postcopy", "no-silent-zero"),
    "lazy": ("lazy=eager", "once", "no-silent-zero"),
    "setup": ("setup-undo",),
}
DIFFERENCE = "no-functional-change"
NAMED = re.compile(r"property ([a-z=-]+)")

BUILD_SECONDS = 400
REPLAY_SECONDS = 120
FINDINGS_SECONDS = 240
# Kept back for the coverage build and its report.
COVERAGE_RESERVE = 100
MIN_FUZZ_SECONDS = 5
MAX_FUZZ_SECONDS = 60


class Gate:
    """The steps, in the order in which they are most likely to save time."""

    def __init__(self, series, toolchain, out, minutes):
        self.series = series
        self.toolchain = toolchain
        self.out = out
        self.end = time.monotonic() + 60 * minutes
        self.started = time.monotonic()
        self.cases = []
        self.files = []
        self.notes = []
        self.work = None
        self.base_tree = None
        self.head = self.base = None
        self.base_failures = {}
        self.head_failures = []

    def left(self):
        return self.end - time.monotonic()

    def add(self, suite, name, status, message="", text="", seconds=0.0):
        self.cases.append(Case(suite, name, status, message, text, seconds))

    def run(self):
        with tempfile.TemporaryDirectory(prefix="trees-", dir=self.out) as work:
            self.work = Path(work)
            self.base_tree = self.series.unpack(self.series.base, self.work / "base")
            if self.build_both():
                self.replay()
                self.findings()
                self.no_functional_change()
                self.fuzz()
                self.coverage()
            self.properties()

    # Builds

    def build(self, name, tree, base=None, coverage=False, wanted=None):
        """A build with the replay programs of the tree's targets, and more that is @wanted."""
        started = time.monotonic()
        build = self.toolchain.configure(name, tree, base, coverage)
        stems = build.fuzz_targets()
        if not stems:
            raise ToolchainError("pagewise has no target for this tree: what is missing in it is "
                                 f"said in {build.log}")
        build.ninja([f"bin/{stem}-replay" for stem in stems] + (wanted(build) if wanted else []),
                    BUILD_SECONDS)
        self.add("build", name, PASSED, seconds=time.monotonic() - started)
        return build

    def build_both(self):
        whole = any(one.last is None for one in self.series.claimed_ranges())
        try:
            self.base = self.build("base", self.base_tree, wanted=lambda build: ["finding-case"])
        except ToolchainError as error:
            # Whatever the series does: without its base there is no comparison.
            self.add("build", "base", SKIPPED, "the base does not build with pagewise: only the "
                     "series itself is looked at", str(error))
        try:
            self.head = self.build(
                "series", self.series.qemu, base=self.base_tree if whole and self.base else None,
                wanted=lambda build: [f"bin/{stem}" for stem in build.fuzz_targets()] +
                ["finding-case"])
        except ToolchainError as error:
            text = str(error)
            if self.base is None:
                raise
            self.add("build", "series", FAILED, "pagewise builds with the base, not with the "
                     f"series: {first_error(text)}", text)
        return self.head is not None

    # Stored inputs

    def stored_inputs(self, build, stem):
        folder = build.corpus(stem)
        return sorted(folder.iterdir()) if folder.is_dir() else []

    def replay(self):
        for stem in self.head.fuzz_targets():
            started = time.monotonic()
            inputs = self.stored_inputs(self.head, stem)
            if not inputs:
                self.add("replay", stem, SKIPPED, f"{self.head.corpus(stem).name} has no corpus")
                continue
            on_base = self.base.replay(stem, inputs, REPLAY_SECONDS) \
                if self.base and stem in self.base.fuzz_targets() else []
            self.base_failures.update((failure.key(), failure) for failure in on_base)
            failures = self.head.replay(stem, inputs, REPLAY_SECONDS)
            self.judge("replay", f"{stem}, {len(inputs)} inputs", failures,
                       time.monotonic() - started)

    def judge(self, suite, name, failures, seconds):
        """What fails on the base, too, and alike, is not the series' doing."""
        new = [failure for failure in failures if not self.fails_on_base(failure)]
        for failure in new:
            self.head_failures.append(failure)
            self.add(suite, f"{name}: {failure.path.name}", FAILED, self.say(failure),
                     failure.output)
        old = len(failures) - len(new)
        if old:
            self.add(suite, f"{name}: known", SKIPPED, f"{old} inputs fail on the base as well: "
                     f"{failures[0].message}"[:300])
        if not failures:
            self.add(suite, name, PASSED, seconds=seconds)

    def say(self, failure):
        kept = self.keep(failure)
        # The targets of nfc have no replay program: they take the input themselves.
        program = failure.target + ("" if failure.target.startswith("nfc-") else "-replay")
        command = f"{program} {kept}" if kept else failure.target
        return f"{failure.message} [{command}]"

    def keep(self, failure):
        if not failure.path.is_file():
            return None
        folder = self.out / "findings"
        folder.mkdir(exist_ok=True)
        kept = folder / f"{failure.target}-{failure.path.name}"
        shutil.copyfile(failure.path, kept)
        return kept.relative_to(self.out)

    def findings(self):
        """A reproducer that went well on the base and fails on the series is a regression."""
        if not (self.toolchain.source / "corpus" / "findings").is_dir():
            self.add("findings", "all", SKIPPED, "this pagewise has no registry of findings")
            return
        try:
            head = self.head.findings(version(self.series.qemu), FINDINGS_SECONDS)
            # Those that hang take their time: the base is only asked where it matters.
            failed = any(status == FAILED for _, status, _ in head)
            base = self.base.findings(version(self.base_tree), FINDINGS_SECONDS) \
                if self.base and failed else []
        except ToolchainError as error:
            self.add("findings", "all", FAILED, str(error).splitlines()[0], str(error))
            return
        before = {name: status for name, status, _ in base}
        for name, status, message in head:
            if status == FAILED and before.get(name) == FAILED:
                self.add("findings", name, SKIPPED, f"fails on the base as well: {message}"[:300])
            else:
                self.add("findings", name, status, message)

    # No functional change

    def no_functional_change(self):
        ranges = self.series.claimed_ranges()
        if not ranges:
            self.add("nfc", "series", SKIPPED,
                     "no patch and no label says \"no functional change\"")
        for number, one in enumerate(ranges):
            self.compare(one, number)

    def compare(self, one, number):
        name = f"claimed by {one.reason}"
        started = time.monotonic()
        if one.last is None and self.base is None:
            self.add("nfc", name, SKIPPED, "the base does not build, there is nothing to compare "
                     "with")
            return
        if one.last is not None and self.left() < COVERAGE_RESERVE + 120:
            self.add("nfc", name, SKIPPED, "no time left for a build of this patch alone: raise "
                     "--minutes")
            return
        try:
            build = self.head if one.last is None else self.build_range(one, number)
            stems = build.fuzz_targets("nfc")
            if not stems:
                self.add("nfc", name, SKIPPED, "this pagewise has no target for it")
                return
            build.ninja([*(f"bin/{stem}" for stem in stems), "bin/nfc-record"], BUILD_SECONDS)
        except ToolchainError as error:
            self.add("nfc", name, FAILED, f"does not build: {first_error(str(error))}", str(error))
            return
        self.judge_fuzz("nfc", build, stems, self.fuzz_seconds(2), started, name + ", ")

    def build_range(self, one, number):
        before = self.series.unpack(one.first, self.work / f"before-{number}")
        after = self.series.unpack(one.last, self.work / f"after-{number}")
        return self.toolchain.configure(f"nfc-{number}", after, before)

    def fuzz_seconds(self, parts):
        """The time that is left, in @parts equal parts, over all cores."""
        seconds = (self.left() - COVERAGE_RESERVE) / parts
        return int(max(MIN_FUZZ_SECONDS, min(MAX_FUZZ_SECONDS, seconds / 2)))

    # New inputs

    def fuzz(self):
        stems = self.head.fuzz_targets()
        rounds = -(-len(stems) // len(os.sched_getaffinity(0)))
        self.judge_fuzz("fuzz", self.head, stems, self.fuzz_seconds(rounds), time.monotonic())

    def judge_fuzz(self, suite, build, stems, seconds, started, prefix=""):
        verdicts = build.fuzz(stems, seconds)
        for stem, failure in verdicts.items():
            spent = time.monotonic() - started
            name = f"{prefix}{stem}, {seconds} s"
            if failure is None:
                self.add(suite, name, PASSED, seconds=spent)
            elif suite == "fuzz" and self.fails_on_base(failure):
                self.notes.append(f"New, but in the base as well: {self.say(failure)}")
                self.add(suite, name, SKIPPED, f"found what fails on the base as well: "
                         f"{failure.message}"[:300])
            elif suite == "nfc" and self.is_no_difference(build, failure):
                self.notes.append(f"nfc: both end alike: {self.say(failure)}")
                self.add(suite, name, SKIPPED, "base and series end alike, which hides what "
                         f"comes after: {failure.message}"[:300])
            else:
                self.head_failures.append(failure)
                self.add(suite, name, FAILED, self.say(failure), failure.output)

    @staticmethod
    def is_no_difference(build, failure):
        """What ends the process is seen by the input alone; the property's word is final."""
        return DIFFERENCE not in failure.message and failure.path.is_file() and \
            not build.differs_alone(failure.path)

    def fails_on_base(self, failure):
        if self.base is None or not failure.path.is_file() or \
                failure.target not in self.base.fuzz_targets():
            return False
        # They were counted up to a limit only: what is not among them is asked alone.
        known = self.base_failures.get(failure.key())
        on_base = [known] if known else \
            self.base.replay(failure.target, [failure.path], REPLAY_SECONDS)
        return any(one.kind() == failure.kind() for one in on_base)

    # Coverage

    def coverage(self):
        started = time.monotonic()
        changed = self.series.changed_lines()
        wanted = sorted({*UNDER_TEST, *(path for path in changed if path.endswith((".c", ".h")))})
        if self.left() < COVERAGE_RESERVE / 2:
            self.add("coverage", "lines", SKIPPED, "no time left: raise --minutes")
            return
        try:
            build = self.build("coverage", self.series.qemu, coverage=True)
            stems = build.fuzz_targets()
            inputs = {stem: [part for part in (self.stored_inputs(build, stem),
                                               self.head.new_inputs(stem)) if part]
                      for stem in stems}
            counts = self.toolchain.lines_reached(build, stems, inputs, self.series.qemu, wanted,
                                                  REPLAY_SECONDS)
        except ToolchainError as error:
            self.add("coverage", "lines", FAILED, str(error).splitlines()[0], str(error))
            return
        self.files = [report.FileLines(path, counts[path], changed.get(path, set()))
                      for path in wanted if path in counts]
        self.add("coverage", "lines", PASSED, seconds=time.monotonic() - started)
        self.not_measured(path for path in wanted if path not in counts)

    def not_measured(self, paths):
        for path in paths:
            self.add("coverage", path, SKIPPED, f"{path} is in no program of pagewise's")

    # Properties

    def properties(self):
        """Each property of each target: what its target's inputs say of it."""
        if self.head is None:
            return
        for stem in self.head.fuzz_targets():
            kind = stem.partition("qemu-tree-")[2]
            failures = [failure for failure in self.head_failures if failure.target == stem]
            named = [NAMED.search(failure.message) for failure in failures]
            broken = {match[1] if match else "safe" for match in named}
            for name in ("safe", *PROPERTIES.get(kind, ())):
                self.add("properties", f"{name} ({stem})", FAILED if name in broken else PASSED,
                         "see replay and fuzz" if name in broken else "")


def version(tree):
    return (tree / "VERSION").read_text(encoding="utf-8").strip()


def first_error(text):
    found = re.search(r"^.*\berror: .*$", text, re.MULTILINE)
    return found[0].strip() if found else text.strip().splitlines()[-1]


def write_reports(gate, out):
    failed = [case for case in gate.cases if case.status == FAILED]
    report.write_junit(out / "gate.xml", gate.cases)
    report.write_cobertura(out / "coverage.xml", gate.series.qemu, gate.files)
    missed = [f"{file.path}:{number}" for file in gate.files for number in file.missed_changes()]
    (out / "lines-not-reached.txt").write_text("".join(f"{line}\n" for line in missed),
                                               encoding="ascii")
    for file in gate.files:
        if file.hits:
            gate.notes.append(f"{file.path}: inputs reach {file.reached()} of {len(file.hits)} "
                              f"lines ({100 * file.reached() / len(file.hits):.1f} %)")
    verdict = f"FAILED: {len(failed)} of {len(gate.cases)} cases" if failed else \
        f"passed, {len(gate.cases)} cases"
    head = [f"pagewise gate: {verdict}",
            f"  base {gate.series.base[:12]}, series {gate.series.head_name()}"]
    tail = [*(line for note in gate.notes for line in report.wrap(note, "  ")),
            f"  {time.monotonic() - gate.started:.0f} s; reports in {shorten(out)}"]
    lines = report.summary(head, gate.cases, gate.files, tail[-12:])
    (out / "summary.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))
    return 1 if failed else 0


def shorten(path):
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative


def nothing_to_do(series, out):
    message = "the series touches nothing that pagewise tests (--all runs the gate all the same)"
    report.write_junit(out / "gate.xml", [Case("gate", "relevant", SKIPPED, message)])
    report.write_cobertura(out / "coverage.xml", series.qemu, [])
    line = f"pagewise gate: {message}"
    (out / "summary.txt").write_text(line + "\n", encoding="utf-8")
    print(line)
    return 0


def parse_arguments(arguments):
    parser = argparse.ArgumentParser(prog="gate", description=__doc__.split("\n")[0])
    parser.add_argument("--qemu", type=Path, required=True, help="a git tree of QEMU; only read")
    parser.add_argument("--base", help="what the series is based on")
    parser.add_argument("--out", type=Path, default=SOURCE / "build" / "gate",
                        help="where reports and builds go (build/gate)")
    parser.add_argument("--minutes", type=float, default=9.5,
                        help="how long it may take; what has no time left is skipped (9.5)")
    parser.add_argument("--label", action="append", default=[],
                        help="of the merge request, or several with commas between them; "
                        "'no-functional-change' asks for nfc")
    parser.add_argument("--description", type=Path, help="a file with the merge request's text")
    parser.add_argument("--all", action="store_true",
                        help="even if the series touches nothing that pagewise tests")
    return parser.parse_args(arguments)


def interrupt(number, frame):
    raise KeyboardInterrupt


def run_gate(options):
    description = options.description.read_text(encoding="utf-8") if options.description else ""
    series = Series(options.qemu, options.base, options.label, description)
    out = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(out / "findings", ignore_errors=True)
    if not options.all and not series.relevant_files():
        return nothing_to_do(series, out)
    gate = Gate(series, Toolchain(SOURCE, out), out, options.minutes)
    gate.run()
    return write_reports(gate, out)


def main():
    options = parse_arguments(sys.argv[1:])
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
    try:
        return run_gate(options)
    except SeriesError as error:
        print(f"gate: {error}", file=sys.stderr)
        return 2
    except ToolchainError as error:
        print(f"gate: pagewise does not build with this tree:\n{error}", file=sys.stderr)
        return 3
    except KeyboardInterrupt:
        print("gate: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())

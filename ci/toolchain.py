# SPDX-License-Identifier: GPL-2.0-or-later
"""pagewise built against a QEMU source tree, and what its programs say.

Every program runs in a group of its own and is killed after its time. What it
printed is kept in a log beside the build.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "cmake"))
from nfc import SIDES, Record  # noqa: E402

SUBJECT = "qemu-tree"
RUNNING = re.compile(r"^replay: the input was (.*)$", re.MULTILINE)
PARAGRAPH = re.compile(r"^ *pagewise: (.*)$", re.MULTILINE)
SANITIZER = re.compile(r"^ *((?:SUMMARY: [^(\n]*|.*: runtime error: ).*)$", re.MULTILINE)
# What tells one failure of an input from another, in whatever words it is told.
KIND = re.compile(r"property [a-z=-]+|[A-Z]\w+Sanitizer: [\w-]+|runtime error|timeout"
                  r"|still not done")
TIMEOUTS = ("timeout", "still not done")
# A corpus that fails this often is not worth the time that more failures take.
MAX_FAILURES = 10


class ToolchainError(Exception):
    """Something did not build: what, and the last lines of its log."""


@dataclass
class Failure:
    """An input that a target does not survive, and why."""

    target: str
    path: Path
    message: str
    output: str

    def key(self):
        """The same failure in another tree: same target, same input."""
        return self.target, self.path.name

    def kind(self):
        """The property, the sanitizer's error, or what else ended the process."""
        found = KIND.search(self.message)
        if not found:
            return self.message.rpartition(": ")[2]
        return TIMEOUTS[0] if found[0] in TIMEOUTS else found[0]


def run(command, log, seconds, **options):
    """Output and exit status; None if it was killed after its time."""
    with open(log, "ab") as out:
        out.write(f"$ {' '.join(map(str, command))}\n".encode())
        process = subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                   start_new_session=True, **options)
        killed = False
        try:
            output = process.communicate(timeout=seconds)[0]
        except subprocess.TimeoutExpired:
            killed = True
            os.killpg(process.pid, signal.SIGKILL)
            output = process.communicate()[0]
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            raise
        out.write(output)
    return output.decode(errors="replace"), None if killed else process.returncode


def explain(output, status, seconds):
    """One line: the property's paragraph, or the sanitizer's summary."""
    found = PARAGRAPH.findall(output) or SANITIZER.findall(output)
    if found:
        return found[0]
    return f"still not done after {seconds:.0f} s" if status is None else f"exit status {status}"


class Build:
    """One build folder of pagewise."""

    def __init__(self, folder, source):
        self.folder = folder
        self.source = source
        self.log = folder.with_name(folder.name + ".log")

    def fuzz_targets(self, prefix=SUBJECT):
        """Stems of the targets of the tree, by their programs."""
        output, _ = run(["ninja", "-C", self.folder, "-t", "targets", "all"], self.log, 60)
        found = re.findall(rf"^bin/({prefix}-[a-z-]+): ", output, re.MULTILINE)
        return sorted({stem for stem in found if not stem.endswith(("-replay", "-record"))})

    def corpus(self, stem):
        return self.source / "corpus" / stem.replace(SUBJECT, "fuzz", 1).replace("nfc-", "fuzz-")

    def ninja(self, names, seconds):
        output, status = run(["ninja", "-C", self.folder, *names], self.log, seconds)
        if status != 0:
            raise ToolchainError("\n".join(output.splitlines()[-25:]))

    def program(self, name):
        return self.folder / "bin" / name

    def replay(self, stem, inputs, seconds):
        """Failures of a target on stored inputs, each input in one process at most."""
        failures = []
        left = [path for path in inputs if path.is_file()]
        while left and len(failures) < MAX_FAILURES:
            output, status = run([self.program(f"{stem}-replay"), *left], self.log, seconds,
                                 cwd=self.folder)
            if status == 0:
                break
            running = RUNNING.findall(output)
            culprit = Path(running[-1]) if running else left[0]
            failures.append(Failure(stem, culprit, explain(output, status, seconds), output))
            left = left[left.index(culprit) + 1:] if culprit in left else []
        return failures

    def fuzz(self, stems, seconds):
        """fuzz.py's own verdicts: stem -> Failure, and its output."""
        names = [f"{stem}={self.corpus(stem).name}" for stem in stems]
        rounds = -(-len(stems) // len(os.sched_getaffinity(0)))
        output, _ = run([sys.executable, self.source / "cmake" / "fuzz.py", "run", "--build",
                         self.folder, "--source", self.source, "--seconds", seconds, *names],
                        self.log, rounds * (seconds + 120),
                        env={key: value for key, value in os.environ.items()
                             if key != "FUZZ_SECONDS"})
        return read_fuzz_report(self.folder, stems, output)

    def differs_alone(self, path):
        """Whether base and series, each in a process of its own, answer an input otherwise."""
        base, series = (Record(self.program("nfc-record"), side, path, "--repaired").lines
                        for side in SIDES)
        return base != series

    def new_inputs(self, stem):
        folder = self.folder / "fuzz" / stem / "corpus"
        return sorted(folder.iterdir()) if folder.is_dir() else []

    def findings(self, version, seconds):
        """The registry's reproducers on the tree: [(id, ok, message)]."""
        report = self.folder / "findings.xml"
        replay = self.program(f"{SUBJECT}-stream-replay")
        output, status = run([sys.executable, self.source / "cmake" / "findings.py", "run",
                              "--source", self.source, "--build", self.folder,
                              "--tree-replay", replay, "--tree-version", version,
                              "--junit", report], self.log, seconds)
        if not report.exists():
            raise ToolchainError(f"the findings did not run (status {status}):\n{output}")
        return read_junit(report)


def read_fuzz_report(folder, stems, output):
    failures = {}
    for name, status, message in read_junit(folder / "fuzz.xml"):
        if status == "failed":
            found = sorted((folder / "fuzz" / name / "findings").glob("*"),
                           key=lambda path: path.stat().st_mtime)
            words = output[output.find(f"\n{name}: "):]
            said = PARAGRAPH.findall(words) or SANITIZER.findall(words)
            failures[name] = Failure(name, found[-1] if found else Path(""),
                                     f"{message}: {said[0]}" if said else message, words)
    return {stem: failures.get(stem) for stem in stems}


def read_junit(path):
    """[(name, status, message)] of a report; of what did not run: nothing."""
    cases = []
    for case in ElementTree.parse(path).iter("testcase"):
        failure, skipped = case.find("failure"), case.find("skipped")
        word = "failed" if failure is not None else "skipped" if skipped is not None else "passed"
        found = failure if failure is not None else skipped
        message = (found.get("message") or "") if found is not None else ""
        if word == "skipped" and message.startswith("SKIP_RETURN_CODE"):
            message = (case.findtext("system-out") or "").strip() or message
        cases.append((case.get("name"), word, message))
    return cases


class Toolchain:
    """Configures builds of pagewise with clang, in folders below @out."""

    def __init__(self, source, out):
        self.source = source
        self.out = out

    def configure(self, name, tree, base=None, coverage=False):
        folder = self.out / name
        shutil.rmtree(folder, ignore_errors=True)
        build = Build(folder, self.source)
        options = [f"-DQEMU_SRC={tree}", *([f"-DQEMU_BASE={base}"] if base else [])]
        if coverage:
            # As flags, so that the tree's own files are measured, too.
            flags = "-fprofile-instr-generate -fcoverage-mapping"
            options += ["-DPAGEWISE_SANITIZE=none", f"-DCMAKE_C_FLAGS={flags}",
                        "-DCMAKE_BUILD_TYPE=RelWithDebInfo",
                        "-DCMAKE_C_FLAGS_RELWITHDEBINFO=-O1 -g"]
        else:
            options += ["-DPAGEWISE_SANITIZE=address,undefined",
                        "-DCMAKE_BUILD_TYPE=RelWithDebInfo",
                        "-DCMAKE_C_FLAGS_RELWITHDEBINFO=-O1 -g"]
        environment = {key: value for key, value in os.environ.items()
                       if key not in ("CFLAGS", "CC", "CXX", "LIB_FUZZING_ENGINE")}
        output, status = run(["cmake", "-S", self.source, "-B", folder, "-G", "Ninja",
                              "-DCMAKE_C_COMPILER=clang", *options], build.log, 240,
                             env=environment)
        if status != 0:
            raise ToolchainError("\n".join(output.splitlines()[-25:]))
        return build

    def lines_reached(self, build, stems, inputs, tree, files, seconds):
        """Counts of the lines of @files: path -> {number: hits}."""
        profiles = build.folder / "profraw"
        shutil.rmtree(profiles, ignore_errors=True)
        profiles.mkdir()
        environment = dict(os.environ, LLVM_PROFILE_FILE=str(profiles / "%p.profraw"))
        for stem in stems:
            for path in inputs[stem]:
                run_those_that_pass(build, stem, path, seconds, environment)
        raw = sorted(profiles.glob("*.profraw"))
        if not raw:
            raise ToolchainError("no program wrote a profile")
        merged = build.folder / "coverage.profdata"
        _, status = run([find_llvm("llvm-profdata"), "merge", "-sparse", "-o", merged, *raw],
                        build.log, 120)
        if status != 0:
            raise ToolchainError("llvm-profdata cannot merge the profiles")
        programs = [build.program(f"{stem}-replay") for stem in stems]
        command = [find_llvm("llvm-cov"), "export", "-format=lcov", f"-instr-profile={merged}",
                   programs[0], *(word for program in programs[1:] for word in
                                  ("-object", program)),
                   *(tree / path for path in files if (tree / path).exists())]
        output, status = run(command, build.log, 120)
        if status != 0:
            raise ToolchainError(f"llvm-cov failed: {output[-500:]}")
        return read_lcov(output, tree)


def run_those_that_pass(build, stem, inputs, seconds, environment):
    """A process that a failure ends leaves no profile: without it, once more."""
    program = build.program(f"{stem}-replay")
    left = list(inputs)
    while left:
        output, status = run([program, *left], build.log, seconds, env=environment)
        running = [Path(path) for path in RUNNING.findall(output)]
        if status == 0 or not running or running[-1] not in left:
            return
        at = left.index(running[-1])
        if at:
            run([program, *left[:at]], build.log, seconds, env=environment)
        left = left[at + 1:]


def find_llvm(tool):
    major = re.search(r"version (\d+)", subprocess.run(
        ["clang", "--version"], capture_output=True, text=True, check=True).stdout)
    for name in (f"{tool}-{major[1]}" if major else tool, tool):
        if shutil.which(name):
            return name
    raise ToolchainError(f"{tool} is missing: install llvm")


def read_lcov(text, tree):
    """A file that several programs have counts as often as all reach it."""
    counts = {}
    current = None
    for line in text.splitlines():
        kind, _, value = line.partition(":")
        if kind == "SF":
            path = Path(value)
            inside = path.is_relative_to(tree)
            current = counts.setdefault(str(path.relative_to(tree)), {}) if inside else None
        elif kind == "DA" and current is not None:
            number, hits = map(int, value.split(",")[:2])
            current[number] = current.get(number, 0) + hits
    return counts

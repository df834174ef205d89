# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs the reproducer of every registered finding in QEMU, for `ninja findings`.

    findings.py run --source DIR --build DIR [--qemu PROGRAM] [--junit FILE]
                    [--tree-replay PROGRAM --tree-version VERSION] [ID...]
    findings.py doc --source DIR [--check]

'run' prints the table finding x outcome for the configured subjects: a QEMU
binary, each load in a fresh process, and the tree that -DQEMU_SRC names, each
load in a replay of its fuzz target. It fails if a finding that is fixed in that
version comes back, or if one does what it is not registered for: that is new,
and printed with all that a bug report needs. A registered finding that is gone
is told, and no failure. 'doc' writes docs/findings.md from the registry, or
with --check fails if it is not up to date.
"""

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, field
from pathlib import Path

from limited import LimitedProcess, Limits
from registry import GOOD, SUBJECTS, RegistryError, read_registry

# A machine with one block, "ram", of 1 MiB.
PLAIN_MACHINE = ("-machine none,memory-backend=ram -m 1 "
                 "-object memory-backend-ram,id=ram,size=1M")
# Name, used_length, max_length, address in QEMU's process.
RAMBLOCK = re.compile(r"^ *(\S.*?) +\d+ [KMG]iB +0x[0-9a-f]+ +(0x[0-9a-f]+) +0x([0-9a-f]+)"
                      r" +0x([0-9a-f]+)", re.MULTILINE)
ANSWER_SECONDS = 5.0
TREE_LIMITS = Limits(wall=60, cpu=30, memory=1 << 30, idle=10)


@dataclass
class Outcome:
    """How one load went: a name of registry.OUTCOMES, and its circumstances."""

    name: str
    detail: str = ""  # "SIGFPE"
    text: str = ""  # QEMU's own words, or the property's paragraph
    stack: list = field(default_factory=list)

    def __str__(self):
        return f"{self.name} {self.detail}".strip()


class Trouble(Exception):
    """A harness's failure, which says nothing of QEMU."""


class CaseTool:
    """bin/finding-case on one registry."""

    def __init__(self, program, registry):
        self.program, self.registry = program, registry

    def run(self, command, finding, *arguments):
        result = subprocess.run([self.program, command, self.registry, finding.id, *arguments],
                                capture_output=True, text=True, check=False)
        if result.returncode not in (0, 3):
            raise Trouble(f"{finding.id}: {result.stderr.strip()}")
        return result.returncode, result.stdout


class Monitor:
    """QMP over a QEMU's stdin and stdout."""

    def __init__(self, process):
        self.process = process
        self.next_id = 0

    def messages(self):
        for line in list(self.process.out):
            try:
                yield json.loads(line)
            except json.JSONDecodeError:
                continue

    def send(self, command, **arguments):
        self.next_id += 1
        text = json.dumps({"execute": command, "arguments": arguments, "id": self.next_id})
        try:
            self.process.process.stdin.write(text + "\n")
            self.process.process.stdin.flush()
        except (BrokenPipeError, OSError):
            pass
        return self.next_id

    def answer(self, number):
        return next((m for m in self.messages() if m.get("id") == number), None)

    def ask(self, command, **arguments):
        """The answer, or None if the process ended or does not answer."""
        number = self.send(command, **arguments)
        limits = self.process.limits
        limits.wall += ANSWER_SECONDS
        self.process.wait(lambda: self.answer(number))
        limits.wall -= ANSWER_SECONDS
        return self.answer(number)

    def status(self):
        """Of the load: "completed", "failed", or None while it goes on."""
        states = [m["data"]["status"] for m in self.messages() if m.get("event") == "MIGRATION"]
        return next((state for state in ("completed", "failed") if state in states), None)


def is_for(subject, finding):
    return finding.reproducer.get("only", subject) == subject


class QemuBinary:
    """The subject qemu-binary: a fresh QEMU for each load."""

    subject = "qemu-binary"

    def __init__(self, program, tool, scratch):
        self.program, self.tool, self.scratch = program, tool, scratch
        text = subprocess.run([program, "-version"], capture_output=True, text=True, check=True)
        match = re.search(r"version (\d+(\.\d+)+)", text.stdout)
        if not match:
            raise Trouble(f"{program}: does not tell its version")
        self.version = match[1]

    def can_show(self, finding):
        return is_for(self.subject, finding)

    def command(self, finding):
        machine = finding.reproducer.get("qemu", PLAIN_MACHINE)
        return [self.program, "-nodefaults", "-display", "none", "-S", "-accel", "tcg",
                *shlex.split(machine)]

    def reproduce(self, finding):
        """The one command that shows it, without any of this."""
        return " ".join(self.command(finding) + [
            "-incoming defer -qmp stdio   # then, in QMP: migrate-set-capabilities mapped-ram"
            + "".join(f", {name}" for name in capabilities(finding))
            + "; migrate-incoming file:FILE"])

    def run(self, finding):
        path = self.scratch / "snapshot"
        _, verdict = self.tool.run("make", finding, path)
        command = self.command(finding) + ["-incoming", "defer", "-qmp", "stdio"]
        limits = Limits(wall=float(finding.reproducer.get("wall", "10")))
        with LimitedProcess(command, limits, stdin=subprocess.PIPE) as process:
            outcome = self._load(process, Monitor(process), finding, path)
        outcome.text += "".join(process.err).strip()
        if outcome.name == "refused" and "verdict: must accept" in verdict:
            outcome.name = "refused wrongly"
        path.unlink()
        return outcome

    def _load(self, process, monitor, finding, path):
        wanted = ["events", "mapped-ram", *capabilities(finding)]
        monitor.ask("qmp_capabilities")
        answer = monitor.ask("migrate-set-capabilities", capabilities=[
            {"capability": name, "state": True} for name in wanted])
        if not answer or "error" in answer:
            raise Trouble(f"{finding.id}: QEMU takes no capabilities {' '.join(wanted)}: "
                          f"{answer}")
        monitor.send("migrate-incoming", uri=f"file:{path}")
        process.wait(monitor.status)
        if monitor.status() == "completed" and process.process.poll() is None:
            return self._completed(process, monitor, finding)
        if not process.killed_for and process.process.poll() is None:
            process.wait(lambda: False)  # a refusal ends QEMU
        return classify_end(process)

    def _completed(self, process, monitor, finding):
        answer = monitor.ask("human-monitor-command", **{"command-line": "info ramblock"})
        if not answer:
            return classify_end(process)
        found = {name: (used, int(total, 16), int(hva, 16)) for name, used, total, hva in
                 RAMBLOCK.findall(answer["return"])}
        dumps = []
        for number, text in enumerate(finding.reproducer.get("blocks", "ram 1M 1M").split(";")):
            used, total, hva = found[text.split()[0]]
            dump = self.scratch / f"dump-{number}"
            dump_memory(process.process.pid, total, hva, dump)
            dumps += [dump, used]
        status, text = self.tool.run("compare", finding, *dumps)
        return Outcome("right") if status == 0 else Outcome("accepted wrong", text=text)

    def stack(self, finding):
        """Of the crash, from a second run under gdb; [] where there is none."""
        if not shutil.which("gdb"):
            return []
        path = self.scratch / "snapshot"
        self.tool.run("make", finding, path)
        options = ["-global", "migration.mapped-ram=on"]
        if "multifd" in capabilities(finding):
            options += ["-global", "migration.x-multifd=on"]
        command = ["gdb", "-q", "-batch", "-ex", "handle SIGUSR1 nostop noprint", "-ex", "run",
                   "-ex", "bt 16", "--args", *self.command(finding), *options, "-incoming",
                   f"file:{path}"]
        with LimitedProcess(command, Limits(wall=60, cpu=60)) as process:
            process.wait()
        path.unlink()
        return [line.rstrip() for line in process.out if line.startswith("#")]


class QemuTree:
    """The subject qemu-tree: replays of the tree's fuzz target, findings not repaired."""

    subject = "qemu-tree"

    def __init__(self, replay, version, tool, scratch):
        self.replay, self.version = replay, version
        self.tool, self.scratch = tool, scratch

    def program(self, finding):
        return Path(self.replay).with_name(f"qemu-tree-{finding.target}-replay")

    def can_show(self, finding):
        return is_for(self.subject, finding) and self.program(finding).exists()

    def reproduce(self, finding):
        return f"PAGEWISE_FINDINGS=none {self.program(finding)} INPUT"

    def run(self, finding):
        path = self.scratch / "input"
        stored = finding.reproducer.get("input")
        if stored:
            shutil.copy(finding.folder / stored, path)
        else:
            self.tool.run("input", finding, path)
        environment = dict(os.environ, PAGEWISE_FINDINGS="none")
        with LimitedProcess([self.program(finding), path], TREE_LIMITS, environment) as process:
            process.wait()
        return classify_replay(process)

    def stack(self, _finding):
        return []


def capabilities(finding):
    return finding.reproducer.get("capabilities", "").split()


def dump_memory(pid, length, address, path):
    with open(f"/proc/{pid}/mem", "rb") as memory:
        memory.seek(address)
        path.write_bytes(memory.read(length))


def classify_end(process):
    """Of a QEMU that was loading and has ended, or was killed."""
    if process.killed_for:
        return Outcome(process.killed_for, f"{process.peak >> 20} MiB"
                       if process.killed_for == "memory blow-up" else "")
    if process.signal_name() == "SIGXCPU":
        return Outcome("hang", "of CPU time")
    if process.signal:
        return Outcome("crash", process.signal_name())
    return Outcome("refused")


PARAGRAPH = r"pagewise: |==\d+==ERROR|SUMMARY|.*failed to allocate"
# What a replay's output says, in the order of being asked.
REPLAY_SIGNS = (
    (r"AUTO STUB HIT: (\w+)", "gap"),
    (r"property bounded,.*the load made", "hang"),
    (r"property bounded,.*allocated", "memory blow-up"),
    (r"allocation-size-too-big|out-of-memory|failed to allocate", "crash"),
    (r"property agrees,.*must be refused", "accepted wrong"),
    (r"property agrees,.*must be accepted", "refused wrongly"),
    (r"property clean-reject,.*reported success", "accepted wrong"),
    (r"property (eager=model|lazy=eager|no-silent-zero),", "accepted wrong"),
    (r"still not done after a minute", "hang"),
    (r"LeakSanitizer: detected memory leaks", "leak"),
)


def classify_replay(process):
    text = "".join(process.out) + "".join(process.err)
    stack = [line.strip() for line in text.splitlines() if re.match(r"\s+#\d+ ", line)]
    paragraph = "\n".join(line for line in text.splitlines()
                          if re.match(PARAGRAPH, line))
    if process.killed_for:
        return Outcome(process.killed_for, text=paragraph, stack=stack)
    for sign, name in REPLAY_SIGNS:
        match = re.search(sign, text)
        if match and name == "gap":
            raise Trouble(f"the harness has no {match[1]}(): a gap of pagewise, no finding")
        if match:
            return Outcome(name, text=paragraph, stack=stack)
    if process.process.returncode == 0:
        return Outcome("right")
    kind = re.search(r"AddressSanitizer: (\S+)|(runtime error: .*)", text)
    if not kind and not process.signal:
        raise Trouble(f"the replay ended with status {process.process.returncode}:\n{text}")
    detail = kind[1] or kind[2] if kind else process.signal_name()
    return Outcome("crash", detail, paragraph, stack)


def judge(finding, subject, version, outcome):
    """What the outcome means: (words, is it a failure?)."""
    bad = outcome.name not in GOOD
    if finding.is_registered(subject, version):
        if not bad and finding.was_measured(subject, version):
            return "GONE: this version had it: does the reproducer still reach it?", True
        if not bad:
            return "gone: fixed here? then set 'fixed'", False
        if outcome.name in finding.expected(subject):
            return "known", False
        return "NEW: registered as " + ", ".join(finding.outcomes[subject]), True
    if bad and finding.is_fixed_in(version):
        return f"CAME BACK: fixed in {finding.fixed}", True
    if bad:
        return f"NEW: not registered for {subject} {version}", True
    return "fixed" if finding.is_fixed_in(version) else "not affected", False


def run_one(runner, finding):
    """The outcome; of a race, the first bad one of some tries."""
    outcome = None
    for _ in range(int(finding.reproducer.get("tries", "1"))):
        outcome = runner.run(finding)
        if outcome.name not in GOOD:
            break
    return outcome


def report(finding, runner, outcome, words):
    print(f"\n{finding.id}: {words}\n"
          f"  what        {finding.title}: {outcome}\n"
          f"  where       {finding.function}(), {finding.file}\n"
          f"  why         {finding.why}\n"
          f"  subject     {runner.subject} {runner.version}\n"
          f"  reproducer  {finding.folder} (bin/finding-case make corpus/findings {finding.id} "
          f"FILE)\n"
          f"  reproduce   {runner.reproduce(finding)}")
    for line in outcome.text.splitlines():
        print(f"  | {line}")
    for line in outcome.stack or runner.stack(finding):
        print(f"  {line}")


def run_subject(runner, findings, cases):
    failures = 0
    print(f"\n{runner.subject} {runner.version}")
    for finding in findings:
        case = ElementTree.SubElement(cases, "testcase", classname=f"findings.{runner.subject}",
                                      name=finding.id)
        if not runner.can_show(finding):
            ElementTree.SubElement(case, "skipped", message="this subject cannot show it")
            continue
        outcome = run_one(runner, finding)
        words, failed = judge(finding, runner.subject, runner.version, outcome)
        print(f"  {finding.id:32} {str(outcome):28} {words}", flush=True)
        if failed:
            failures += 1
            ElementTree.SubElement(case, "failure", message=f"{outcome}: {words}")
            report(finding, runner, outcome, words)
    return failures


def command_run(options):
    registry = options.source / "corpus" / "findings"
    findings = read_registry(registry)
    if options.ids:
        findings = [finding for finding in findings if finding.id in options.ids]
    tool = CaseTool(options.build / "bin" / "finding-case", registry)
    cases = ElementTree.Element("testsuite", name="findings")
    failures = 0
    with tempfile.TemporaryDirectory(prefix="pagewise-findings-") as scratch:
        runners = []
        qemu = os.environ.get("QTEST_QEMU_BINARY") or options.qemu
        if qemu:
            runners.append(QemuBinary(qemu, tool, Path(scratch)))
        if options.tree_replay:
            runners.append(QemuTree(options.tree_replay, options.tree_version, tool,
                                    Path(scratch)))
        if not runners:
            print("SKIP findings: no QEMU is configured; remedy: install qemu-system-x86_64 of "
                  "9.0 or newer, or name one by QTEST_QEMU_BINARY, or a tree by -DQEMU_SRC=DIR")
            required = os.environ.get("PAGEWISE_REQUIRE", "").split(",")
            return 1 if {"qemu", "qemu-tree"} & set(required) else 77
        for runner in runners:
            failures += run_subject(runner, findings, cases)
    cases.set("tests", str(len(cases)))
    cases.set("failures", str(failures))
    if options.junit:
        ElementTree.ElementTree(cases).write(options.junit, encoding="utf-8",
                                             xml_declaration=True)
    print(f"\n{len(cases)} reproducers run, {failures} new, come back or gone")
    return 1 if failures else 0


def doc_table(findings):
    yield "| finding | property | " + " | ".join(SUBJECTS) + " | since | fixed |"
    yield "|---|---|---|---|---|---|"
    for finding in findings:
        cells = [f"[{finding.id}](#{finding.id})", finding.property]
        for subject in SUBJECTS:
            cells.append("; ".join(finding.outcomes.get(subject, ["-"])))
        yield "| " + " | ".join(cells + [finding.since or "?", finding.fixed or "-"]) + " |"


def wrap(text):
    lines, line = [], ""
    for word in text.split():
        if line and len(line) + 1 + len(word) > 92:
            lines.append(line)
            line = ""
        line = f"{line} {word}".strip()
    return "\n".join([*lines, line])


def doc_finding(finding):
    yield f"\n## {finding.id}\n"
    yield wrap(f"{finding.title}. {finding.what}") + "\n"
    yield wrap(f"Where: `{finding.function}()`, `{finding.file}`. Why: {finding.why}") + "\n"
    if finding.measured:
        yield wrap("Measured: " + "; ".join(f"{subject} {versions}" for subject, versions in
                                            finding.measured.items()) + ".") + "\n"
    if "input" in finding.reproducer:
        yield wrap(f"Reproducer: `corpus/findings/{finding.id}/{finding.reproducer['input']}`, an "
                   f"input of fuzz-{finding.target}.") + "\n"
    if "snapshot" in finding.reproducer:
        text = (finding.folder / finding.reproducer["snapshot"]).read_text()
        yield "\n".join("    " + line if line else "" for line in text.splitlines()
                        if "SPDX" not in line)


def make_doc(findings, template):
    parts = ["\n".join(doc_table(findings))]
    parts += ["\n".join(doc_finding(finding)) for finding in findings]
    text = template.replace("@FINDINGS@", "\n".join(parts))
    return text.replace("docs/findings.md is made of this by `ninja findings-doc`.",
                        "Made by `ninja findings-doc` from corpus/findings. Do not edit.")


def command_doc(options):
    path = options.source / "docs" / "findings.md"
    template = (options.source / "docs" / "findings.in.md").read_text()
    text = make_doc(read_registry(options.source / "corpus" / "findings"), template)
    if options.check:
        if not path.exists() or path.read_text() != text:
            print("docs/findings.md is not what the registry says: run 'ninja findings-doc'")
            return 1
        return 0
    path.write_text(text)
    return 0


def main():
    parser = argparse.ArgumentParser(prog="findings.py", description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run")
    run.add_argument("--source", type=Path, required=True)
    run.add_argument("--build", type=Path, required=True)
    run.add_argument("--qemu")
    run.add_argument("--tree-replay")
    run.add_argument("--tree-version")
    run.add_argument("--junit", type=Path)
    run.add_argument("ids", nargs="*")
    doc = commands.add_parser("doc")
    doc.add_argument("--source", type=Path, required=True)
    doc.add_argument("--check", action="store_true")
    options = parser.parse_args()
    try:
        return command_run(options) if options.command == "run" else command_doc(options)
    except (RegistryError, Trouble) as error:
        print(f"findings: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())

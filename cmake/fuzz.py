# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs fuzz targets in parallel, for `ninja fuzz` and `ninja fuzz-merge`.

    fuzz.py run   --build DIR --source DIR [--seconds N] TARGET...
    fuzz.py merge --build DIR --source DIR TARGET...

TARGET is STEM or STEM=CORPUS: the program is DIR/bin/STEM, its dictionary and
options are STEM.dict and STEM.options beside it. It starts from the inputs in
corpus/CORPUS/ (corpus/STEM/) of the source tree, which 'run' only reads; all that it makes is
in DIR/fuzz/STEM/: corpus/ (new inputs), findings/ (minimised reproducers)
and log (the fuzzer's output). 'merge' puts the inputs that add coverage into
the source tree's corpus. Both take what other presets' builds have found, too,
AFL++'s among them (afl.py).

Exit status of 'run': 0, 1 if there was any finding or a target did not run, 2
for wrong usage, 130 after Ctrl-C. No child outlives this program.
"""

import argparse
import collections
import configparser
import hashlib
import os
import queue
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path

MAX_SEED_BYTES = 4096
PARAGRAPH_LINES = 60
MINIMIZE_SECONDS = 30
REPRODUCE_SECONDS = 60

# How subject/qemu-tree/shims.c begins to say what it lacks.
GAP = "pagewise: gap of the harness"

# What libFuzzer puts in front of an artifact's hash.
KINDS = ("crash", "timeout", "oom", "leak")

STATUS = re.compile(r"^#(?P<execs>\d+)\s+\w+\s+cov: (?P<cov>\d+) ft: (?P<ft>\d+) "
                    r"corp: (?P<corpus>\d+)/\S+.* exec/s: (?P<speed>\d+)")
DONE = re.compile(r"^Done (?P<execs>\d+) runs in (?P<seconds>\d+) second")
HASH_NAME = re.compile(r"^[0-9a-f]{40}$")


class Interrupted(Exception):
    """Ctrl-C or a signal that asks us to end."""


class Child:
    """A process in a group of its own that has ended when run() returns."""

    def __init__(self, command, cwd, on_line, log, environment=None):
        self.command = command
        self.cwd = cwd
        self.environment = environment
        self.on_line = on_line
        self.log = log
        self.killed = False
        self._lock = threading.Lock()
        self._process = None  # while there is one that was not reaped

    def run(self, seconds):
        """Returns the exit status (negative: the signal), None if it was killed."""
        with self._lock:
            if self.killed:
                return None
            process = self._process = subprocess.Popen(
                self.command, cwd=self.cwd, start_new_session=True, stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=self.environment)
        timer = threading.Timer(seconds, self.kill)
        timer.start()
        try:
            for raw in process.stdout:
                line = raw.decode(errors="replace").rstrip("\n")
                print(line, file=self.log, flush=True)
                self.on_line(line)
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        finally:
            timer.cancel()
            with self._lock:
                # Before it is reaped, so that its group's number is still its own.
                os.killpg(process.pid, signal.SIGKILL)
                self._process = None
            status = process.wait()
            process.stdout.close()
        return None if self.killed else status

    def kill(self):
        with self._lock:
            self.killed = True
            if self._process is not None:
                os.killpg(self._process.pid, signal.SIGKILL)


class Target:
    """One fuzz target: its files, its figures, and how it went."""

    def __init__(self, name, build, source, seconds, grace):
        stem, _, corpus = name.partition("=")
        self.stem = stem
        self.program = build / "bin" / stem
        self.seeds = source / "corpus" / (corpus or stem)
        self.work = build / "fuzz" / stem
        self.corpus = self.work / "corpus"
        self.findings = self.work / "findings"
        self.artifacts = self.work / "artifacts"
        self.source = source
        self.siblings = [folder for folder in
                         sorted((source / "build").glob(f"*/fuzz/{stem}/corpus"))
                         if folder != self.corpus]  # what other builds have found
        self.seconds = seconds
        self.grace = grace
        self.state = "waiting"
        self.started = None
        self.elapsed = 0.0
        self.execs = self.cov = self.ft = self.corpus_size = self.speed = 0
        self.corpus_before = 0
        self.finding = None  # path of the reproducer
        self.failure = None  # one line
        self.paragraph = []  # the fuzzer's words on it
        self.child = None
        self.stopped = False
        self.tail = collections.deque(maxlen=PARAGRAPH_LINES)

    def prepare(self):
        for folder in (self.corpus, self.findings):
            folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(self.artifacts, ignore_errors=True)
        self.artifacts.mkdir()
        self.corpus_before = count_files(self.corpus)

    def options(self):
        """TARGET.options, as OSS-Fuzz reads it: libFuzzer's flags and their values."""
        path = self.program.with_name(self.stem + ".options")
        parser = configparser.ConfigParser(interpolation=None)
        if path.exists():
            parser.read(path)
        if not parser.has_section("libfuzzer"):
            return {}
        return {key: value for key, value in parser.items("libfuzzer") if key != "dict"}

    def dictionary(self):
        path = self.program.with_name(self.stem + ".dict")
        return path if path.exists() else None

    def flags(self):
        flags = [f"-{key}={value}" for key, value in self.options().items()]
        if self.dictionary():
            flags.append(f"-dict={self.dictionary()}")
        return flags

    def command(self):
        seeds = [self.seeds] if self.seeds.is_dir() else []
        folders = [self.corpus, *seeds, *self.siblings]
        return [str(self.program), "-timeout=10", "-rss_limit_mb=2048", *self.flags(),
                f"-max_total_time={self.seconds}", f"-artifact_prefix={self.artifacts}/",
                *map(str, folders)]

    def new_inputs(self):
        return max(count_files(self.corpus) - self.corpus_before, 0)

    def stop(self):
        self.stopped = True
        if self.child is not None:
            self.child.kill()

    def on_line(self, line):
        match = STATUS.match(line)
        if match:
            self.execs = int(match["execs"])
            self.cov = int(match["cov"])
            self.ft = int(match["ft"])
            self.corpus_size = int(match["corpus"])
            self.speed = int(match["speed"])
            return
        match = DONE.match(line)
        if match:
            self.execs = int(match["execs"])
            self.speed = self.execs // max(int(match["seconds"]), 1)
            return
        self.tail.append(line)

    def run_child(self, command, seconds, log, on_line):
        self.child = Child(command, self.work, on_line, log)
        if self.stopped:
            return None
        return self.child.run(seconds)

    def run(self):
        try:
            self.prepare()
            with open(self.work / "log", "w", encoding="utf-8") as log:
                self.fuzz(log)
        except OSError as error:
            self.failure = f"did not start: {error}"
        finally:
            self.state = "done"

    def fuzz(self, log):
        self.state = "fuzzing"
        self.started = time.monotonic()
        status = self.run_child(self.command(), self.seconds + self.grace, log, self.on_line)
        self.elapsed = time.monotonic() - self.started
        if self.stopped:
            return
        artifact = self.find_artifact()
        if artifact is not None:
            self.on_artifact(artifact, log)
        elif status is None:
            self.failure = f"hung: killed {self.grace:.0f} s after its time was over"
        elif status != 0:
            self.failure = f"ended with {describe_status(status)} and left no input to blame"
        elif self.execs == 0:
            self.failure = "executed nothing"
        if self.failure is not None and not self.paragraph:
            self.paragraph = list(self.tail)

    def find_artifact(self):
        found = [path for path in sorted(self.artifacts.iterdir())
                 if path.name.split("-")[0] in KINDS]
        return found[0] if found else None

    def on_artifact(self, artifact, log):
        kind = artifact.name.split("-")[0]
        self.finding = self.keep(kind, artifact)
        self.paragraph = list(self.tail)
        self.failure = kind
        if any(GAP in line for line in self.paragraph):
            self.failure = "gap of the harness, no finding"
            return
        if kind in ("crash", "leak"):
            self.minimize(kind, artifact, log)

    def minimize(self, kind, artifact, log):
        """Replaces the finding by a smaller one, if that still fails."""
        self.state = "minimizing"
        seconds = min(MINIMIZE_SECONDS, max(self.seconds, 5))
        smaller = self.artifacts / "minimized"
        self.run_child(self.minimize_command(artifact, smaller, seconds),
                       seconds + self.grace, log, lambda line: None)
        if self.stopped or not smaller.exists():
            return
        self.state = "reproducing"
        words = []
        status = self.run_child(self.run_once_command(smaller), REPRODUCE_SECONDS, log,
                                words.append)
        if status is not None and status != 0:
            self.finding.unlink()
            self.finding = self.keep(kind, smaller)
            self.paragraph = words

    def minimize_command(self, artifact, smaller, seconds):
        return [str(self.program), *self.flags(), "-minimize_crash=1",
                f"-max_total_time={seconds}", f"-exact_artifact_path={smaller}", str(artifact)]

    def run_once_command(self, path):
        return [str(self.program), "-timeout=10", str(path)]

    def keep(self, kind, path):
        digest = hashlib.sha1(path.read_bytes()).hexdigest()
        kept = self.findings / f"{kind}-{digest[:16]}"
        shutil.copyfile(path, kept)
        return kept

    def reproduce_command(self):
        return shlex.join(shorten(path) for path in (self.program, self.finding))


def shorten(path):
    """Relative to the current folder, where that is no detour."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative


def count_files(folder):
    return sum(1 for _ in folder.iterdir()) if folder.is_dir() else 0


def describe_status(status):
    if status < 0:
        return f"signal {signal.Signals(-status).name}"
    return f"exit status {status}"


def select_paragraph(lines):
    """Without the fuzzer's chatter; of a property's failure, its words alone."""
    chatter = re.compile(r"^(INFO:|Running:|\S+: Running|Dictionary:|WARNING: Failed to|"
                         r"CRASH_MIN:|#\d+\s|==\d+== *$)|^\s*$")
    for end, line in enumerate(lines):
        if line.startswith("SUMMARY:"):
            lines = lines[:end + 1]
            break
    kept = [line for line in lines if not chatter.match(line)]
    if any(line.startswith("pagewise: ") for line in kept):
        aborted = [number for number, line in enumerate(kept)
                   if "ERROR: libFuzzer: deadly signal" in line]
        kept = kept[:aborted[0]] if aborted else kept
    if len(kept) > PARAGRAPH_LINES:
        kept = kept[:PARAGRAPH_LINES - 1] + ["..."]
    return kept


class Display:
    """A live line a target on a terminal, plain lines now and then otherwise."""

    HEAD = (f"{'target':24} {'left':>6} {'exec/s':>9} {'coverage':>9} {'corpus':>7} "
            f"{'findings':>8}")

    def __init__(self, targets, out):
        self.targets = targets
        self.out = out
        self.live = out.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        self.interval = 0.5 if self.live else max(targets[0].seconds / 6, 5)
        self.next = 0.0
        self.drawn = 0
        self.shown = {target.stem: "waiting" for target in targets}  # its last state

    def line(self, target):
        if target.state == "fuzzing":
            left = max(target.seconds - (time.monotonic() - target.started), 0)
            when = f"{left:4.0f} s"
        else:
            when = {"waiting": "-", "done": "done"}.get(target.state, target.state[:6])
        return (f"{target.stem:24} {when:>6} {target.speed:9d} {target.cov:9d} "
                f"{target.corpus_size:7d} {int(target.failure is not None):8d}")

    def tick(self, force=False):
        now = time.monotonic()
        if now < self.next and not force:
            return
        self.next = now + self.interval
        if self.live:
            self.draw_live()
        else:
            for target in self.targets:
                if target.state == "fuzzing" or target.state != self.shown.get(target.stem):
                    print(self.line(target), file=self.out)
                self.shown[target.stem] = target.state
        self.out.flush()

    def draw_live(self):
        width = shutil.get_terminal_size().columns - 1
        if self.drawn:
            self.out.write(f"\x1b[{self.drawn}A")
        lines = [self.HEAD] + [self.line(target) for target in self.targets]
        for line in lines:
            self.out.write(f"\r\x1b[2K{line[:width]}\n")
        self.drawn = len(lines)

    def start(self):
        if not self.live:
            print(self.HEAD, file=self.out, flush=True)

    def finish(self):
        self.tick(force=True)


def verdict(target, interrupted):
    if target.failure is not None:
        return "FAILED"
    return "stopped" if interrupted and (target.stopped or target.state == "waiting") else "ok"


def print_table(targets, interrupted):
    print(f"\n{'target':24} {'seconds':>7} {'executions':>12} {'exec/s':>9} {'coverage':>9} "
          f"{'features':>9} {'new inputs':>10}  result")
    for target in targets:
        print(f"{target.stem:24} {target.elapsed:7.0f} {target.execs:12d} {target.speed:9d} "
              f"{target.cov:9d} {target.ft:9d} {target.new_inputs():10d}  "
              f"{verdict(target, interrupted)}")
    for target in targets:
        if not target.seeds.is_dir():
            print(f"\n{target.stem}: warning: there are no seeds in corpus/{target.seeds.name}/")


def print_failures(targets):
    for target in targets:
        if target.failure is None:
            continue
        print(f"\n{target.stem}: {target.failure}")
        for line in select_paragraph(target.paragraph):
            print(f"    {line}")
        if target.finding is not None:
            print(f"Reproduce with:\n    {target.reproduce_command()}")
        else:
            print(f"The fuzzer's output: {shorten(target.work / 'log')}")


def write_junit(path, targets, interrupted):
    """What ctest writes of its tests, for whoever counts results."""
    suite = ElementTree.Element("testsuite", name="fuzz", tests=str(len(targets)))
    for target in targets:
        case = ElementTree.SubElement(suite, "testcase", name=target.stem, classname="fuzz",
                                      time=f"{target.elapsed:.1f}")
        if target.failure is not None:
            ElementTree.SubElement(case, "failure", message=target.failure)
        elif verdict(target, interrupted) == "stopped":
            ElementTree.SubElement(case, "failure", message="interrupted")
    path.parent.mkdir(parents=True, exist_ok=True)
    ElementTree.ElementTree(suite).write(path, encoding="utf-8")


def raise_interrupted(signum, frame):
    raise Interrupted


def work_off(waiting):
    while True:
        try:
            target = waiting.get_nowait()
        except queue.Empty:
            return
        if not target.stopped:
            target.run()


def run_all(targets, jobs):
    """Returns whether it was interrupted; every child has ended then, too."""
    waiting = queue.Queue()
    for target in targets:
        waiting.put(target)
    workers = [threading.Thread(target=work_off, args=(waiting,)) for _ in range(jobs)]
    display = Display(targets, sys.stdout)
    interrupted = False
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, raise_interrupted)
    try:
        display.start()
        for worker in workers:
            worker.start()
        while any(worker.is_alive() for worker in workers):
            display.tick()
            time.sleep(0.1)
    except Interrupted:
        interrupted = True
    finally:
        # A second Ctrl-C must not keep us from ending the children.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        for target in targets:
            if target.state != "done":
                target.stop()
        for worker in workers:
            if worker.ident is not None:
                worker.join()
    display.finish()
    return interrupted


def run(options, kind=Target, report="fuzz.xml", instances=1):
    """Runs a target of @kind for each stem; one of them keeps @instances cores busy."""
    targets = [kind(stem, options.build, options.source, options.seconds, options.grace)
               for stem in options.targets]
    cores = len(os.sched_getaffinity(0))
    jobs = min(options.jobs or max(cores // instances, 1), len(targets))
    rounds = -(-len(targets) // jobs)
    print(f"Fuzzing {len(targets)} targets, {options.seconds} s each, {jobs} at a time: "
          f"about {rounds * options.seconds} s", flush=True)
    interrupted = run_all(targets, jobs)
    print_table(targets, interrupted)
    print_failures(targets)
    failed = sum(target.failure is not None for target in targets)
    write_junit(options.build / report, targets, interrupted)
    print(f"\n{len(targets)} targets, {failed} failed" + (", interrupted" * interrupted))
    if any(target.new_inputs() for target in targets):
        print("New inputs are kept in the build folder; 'ninja fuzz-merge' puts those that "
              "add coverage into corpus/")
    if interrupted:
        return 130
    return 1 if failed else 0


def merge_target(target):
    """Keeps seeds that have a name; of the rest, what adds coverage to them."""
    target.prepare()
    with tempfile.TemporaryDirectory(dir=target.work) as scratch:
        named, found, merged = (Path(scratch) / name for name in ("named", "found", "merged"))
        for folder in (named, found, merged):
            folder.mkdir()
        for folder in (target.seeds, target.corpus, *target.siblings):
            for path in sorted(folder.iterdir()) if folder.is_dir() else []:
                if path.stat().st_size > MAX_SEED_BYTES:
                    continue
                chosen = found if HASH_NAME.match(path.name) else named
                shutil.copyfile(path, chosen / path.name)
        shutil.copytree(named, merged, dirs_exist_ok=True)
        words = []
        with open(target.work / "log", "w", encoding="utf-8") as log:
            status = target.run_child(
                [str(target.program), *target.flags(), "-set_cover_merge=1", "-timeout=10",
                 f"-artifact_prefix={target.artifacts}/", str(merged), str(found)],
                600, log, words.append)
        if status != 0 or count_files(merged) == 0:
            print(f"{target.stem}: merging failed, see {shorten(target.work / 'log')}",
                  file=sys.stderr)
            return False
        before = count_files(target.seeds)
        target.seeds.mkdir(parents=True, exist_ok=True)
        for path in list(target.seeds.iterdir()):
            if HASH_NAME.match(path.name) and not (merged / path.name).exists():
                path.unlink()
        for path in merged.iterdir():
            shutil.copyfile(path, target.seeds / path.name)
    print(f"{target.stem}: {before} inputs before, {count_files(target.seeds)} now")
    return True


def merge(options):
    targets = [Target(stem, options.build, options.source, 0, options.grace)
               for stem in options.targets]
    return 0 if all([merge_target(target) for target in targets]) else 1


def positive(text):
    value = int(text)
    if value <= 0:
        raise ValueError
    return value


def parse_arguments(arguments):
    parser = argparse.ArgumentParser(prog="fuzz.py", description=__doc__.split("\n")[0])
    parser.add_argument("action", choices=("run", "merge"))
    parser.add_argument("--build", type=Path, required=True, help="the build folder")
    parser.add_argument("--source", type=Path, required=True, help="the project's folder")
    parser.add_argument("--seconds", type=positive, default=60,
                        help="time for each target; the environment's FUZZ_SECONDS wins")
    parser.add_argument("--grace", type=float, default=30,
                        help="seconds after which a child that should have ended is killed")
    parser.add_argument("--jobs", type=positive, help="targets at a time; default: all cores")
    parser.add_argument("targets", nargs="+", metavar="TARGET")
    options = parser.parse_args(arguments)
    if os.environ.get("FUZZ_SECONDS"):
        try:
            options.seconds = positive(os.environ["FUZZ_SECONDS"])
        except ValueError:
            parser.error("FUZZ_SECONDS is not a positive number of seconds")
    options.build = options.build.resolve()
    options.source = options.source.resolve()
    return options


def main():
    options = parse_arguments(sys.argv[1:])
    return run(options) if options.action == "run" else merge(options)


if __name__ == "__main__":
    sys.exit(main())

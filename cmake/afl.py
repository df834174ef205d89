# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs fuzz targets with AFL++, for `ninja afl-fuzz`; as fuzz.py does with libFuzzer.

    afl.py --build DIR --source DIR [--seconds N] TARGET...

Each target gets two instances of afl-fuzz that exchange what they find: the
main one mutates bytes, the secondary one with the target's own mutator
(TARGET-mutator.so) only. They start from corpus/TARGET/ and from all that
libFuzzer has found in other presets' builds; what they find goes to
DIR/fuzz/TARGET/corpus/, from where `ninja fuzz` and `ninja fuzz-merge` take it.
Findings are minimised and printed as fuzz.py prints them.
"""

import collections
import hashlib
import os
import shutil
import signal
import sys
import threading
import time
from pathlib import Path

import fuzz

INSTANCES = ("main", "secondary")
SAID = "pagewise: "
DEFAULT_TIMEOUT = 10

# afl-fuzz insists on values of its own.
FOREIGN = ("ASAN_OPTIONS", "UBSAN_OPTIONS", "MSAN_OPTIONS", "LSAN_OPTIONS")
ENVIRONMENT = {
    "AFL_SKIP_CPUFREQ": "1",
    "AFL_I_DONT_CARE_ABOUT_MISSING_CRASHES": "1",
    "AFL_NO_UI": "1",
    "AFL_NO_AFFINITY": "1",
    "AFL_FAST_CAL": "1",
    "AFL_SYNC_TIME": "1",
    "AFL_FORKSRV_INIT_TMOUT": "30000",
    "AFL_IGNORE_UNKNOWN_ENVS": "1",
    # What a target says: some of what it does may not happen again.
    "AFL_DEBUG_CHILD": "1",
}


def read_stats(folder):
    """fuzzer_stats of an instance that has ended, or {}."""
    path = folder / "fuzzer_stats"
    if not path.exists():
        return {}
    lines = (line.partition(":") for line in path.read_text(encoding="utf-8").splitlines())
    return {key.strip(): value.strip() for key, _, value in lines}


def read_plot(folder):
    """The last line of plot_data, which grows while an instance runs, or {}."""
    path = folder / "plot_data"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    if len(lines) < 2:
        return {}
    names = [name.strip() for name in lines[0].lstrip("# ").split(",")]
    return dict(zip(names, (value.strip() for value in lines[-1].split(","))))


def number(text):
    return int(float(text.rstrip("%"))) if text else 0


class AflTarget(fuzz.Target):
    """A fuzz target with its two instances of afl-fuzz."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.input = self.work / "input"
        self.output = self.work / "afl"
        self.mutator = self.program.with_name(self.stem + "-mutator.so")
        self.children = []
        self.said = collections.deque(maxlen=fuzz.PARAGRAPH_LINES)

    def prepare(self):
        super().prepare()
        for folder in (self.input, self.output):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
        for folder in (self.seeds, self.corpus, *self.siblings):
            for path in sorted(folder.iterdir()) if folder.is_dir() else []:
                self.add_input(path, self.input)
        if not any(self.input.iterdir()):
            (self.input / "empty").write_bytes(b"\0")

    @staticmethod
    def add_input(path, folder):
        content = path.read_bytes()
        if 0 < len(content) <= fuzz.MAX_SEED_BYTES:
            (folder / hashlib.sha1(content).hexdigest()).write_bytes(content)

    def command(self, name):
        options = self.options()
        return ["afl-fuzz", "-M" if name == "main" else "-S", name, "-i", str(self.input),
                "-o", str(self.output), "-V", str(self.seconds), "-m", "none",
                "-t", str(int(options.get("timeout", DEFAULT_TIMEOUT)) * 1000),
                *(["-G", options["max_len"]] if "max_len" in options else []),
                *(["-x", str(self.dictionary())] if self.dictionary() else []),
                "--", str(self.program)]

    def environment(self, name):
        environment = {key: value for key, value in os.environ.items() if key not in FOREIGN}
        environment.update(ENVIRONMENT)
        if name == "secondary":
            environment.update(AFL_CUSTOM_MUTATOR_LIBRARY=str(self.mutator),
                               AFL_CUSTOM_MUTATOR_ONLY="1")
        return environment

    def minimize_command(self, artifact, smaller, seconds):
        return ["timeout", str(seconds), "afl-tmin", "-m", "none", "-t", "10000", "-i",
                str(artifact), "-o", str(smaller), "--", str(self.program)]

    def run_once_command(self, path):
        return [str(self.program), str(path)]

    def stop(self):
        super().stop()
        for child in list(self.children):
            child.kill()

    def fuzz(self, log):
        self.state = "seeds"
        if self.run_seeds(log):
            self.state = "fuzzing"
            self.started = time.monotonic()
            statuses = self.run_instances(log)
            self.elapsed = time.monotonic() - self.started
            self.read_figures(read_stats)
            self.keep_queue()
            if not self.stopped:
                self.judge(statuses, log)
        if self.failure is not None and not self.paragraph:
            self.paragraph = list(self.tail)

    def run_seeds(self, log):
        """afl-fuzz leaves out seeds that fail; to us they are findings."""
        seeds = sorted(self.input.iterdir())
        status = self.run_child([str(self.program), *map(str, seeds)],
                                self.seconds + self.grace, log, lambda line: None)
        if status == 0 or self.stopped:
            return not self.stopped
        self.failure = "fails on its seeds, but on none of them alone"
        for seed in seeds:
            status = self.run_child(self.run_once_command(seed), fuzz.REPRODUCE_SECONDS, log,
                                    self.on_line)
            if status != 0 and not self.stopped:
                self.judge_artifact("timeout" if status is None else "crash", seed, log)
                break
        return False

    def run_instances(self, log):
        statuses = {}
        self.children = [fuzz.Child(self.command(name), self.work, self.on_line, log,
                                    self.environment(name)) for name in INSTANCES]
        threads = [threading.Thread(target=self.run_instance, args=(name, child, statuses))
                   for name, child in zip(INSTANCES, self.children)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            threads[0].join(0.5)
            self.read_figures(read_plot)
        for thread in threads:
            thread.join()
        self.end_orphans()
        return statuses

    def end_orphans(self):
        """
        afl-fuzz gives its fork server a session of its own; if afl-fuzz was
        killed, the program may be left, stopped, and is in no group of ours.
        """
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if (process / "exe").samefile(self.program) and \
                        (process / "cwd").samefile(self.work):
                    os.kill(int(process.name), signal.SIGKILL)
            except OSError:
                continue

    def run_instance(self, name, child, statuses):
        try:
            statuses[name] = child.run(self.seconds + self.grace) if not self.stopped else None
        except OSError as error:
            statuses[name] = str(error)

    def on_line(self, line):
        if line.strip():
            self.tail.append(line)
        if line.startswith(SAID):
            self.said.append(line)

    def read_figures(self, read):
        figures = [read(self.output / name) for name in INSTANCES]
        self.execs = sum(number(one.get("execs_done") or one.get("total_execs"))
                         for one in figures)
        self.speed = sum(number(one.get("execs_per_sec")) for one in figures)
        self.cov = max(number(one.get("edges_found")) for one in figures)
        self.ft = self.cov
        self.corpus_size = max(number(one.get("corpus_count")) for one in figures)

    def keep_queue(self):
        """What both have found, without what they were given."""
        found = self.work / "found"
        shutil.rmtree(found, ignore_errors=True)
        found.mkdir()
        for name in INSTANCES:
            for path in sorted((self.output / name / "queue").glob("id:*")):
                self.add_input(path, found)
        for path in found.iterdir():
            if not (self.input / path.name).exists():
                shutil.move(path, self.corpus / path.name)
        shutil.rmtree(found)

    def judge(self, statuses, log):
        for kind, folder in (("crash", "crashes"), ("timeout", "hangs")):
            found = [path for name in INSTANCES
                     for path in sorted((self.output / name / folder).glob("id:*"))]
            if found:
                self.judge_artifact(kind, min(found, key=lambda path: path.stat().st_size), log)
                return
        for name, status in statuses.items():
            if status is None:
                self.failure = f"{name} hung: killed {self.grace:.0f} s after its time was over"
            elif status != 0:
                words = status if isinstance(status, str) else fuzz.describe_status(status)
                self.failure = f"{name} did not fuzz: {words}"
        if self.failure is None and self.execs == 0:
            self.failure = "executed nothing"

    def judge_artifact(self, kind, path, log):
        artifact = self.artifacts / f"{kind}-found"
        shutil.copyfile(path, artifact)
        words = []
        self.run_child(self.run_once_command(artifact), fuzz.REPRODUCE_SECONDS, log, words.append)
        self.finding = self.keep(kind, artifact)
        self.failure = kind
        again = any(line.startswith(SAID) for line in words)
        self.paragraph = [*([] if again else self.said), *words[-fuzz.PARAGRAPH_LINES:]]
        if kind == "crash":
            self.minimize(kind, artifact, log)


def main():
    options = fuzz.parse_arguments(["run", *sys.argv[1:]])
    if not shutil.which("afl-fuzz"):
        sys.exit("afl-fuzz: AFL++ is not installed: install afl++")
    return fuzz.run(options, AflTarget, "afl-fuzz.xml", len(INSTANCES))


if __name__ == "__main__":
    sys.exit(main())

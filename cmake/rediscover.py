# SPDX-License-Identifier: GPL-2.0-or-later
"""Lets the fuzzer find all known findings of a tree anew, for `ninja rediscover`.

    rediscover.py --source DIR --build DIR --version VERSION [--seconds N]

It begins with the shipped corpora and no registered finding. What a target ends
with is reproduced, classified and matched with the registry; that finding is
then registered, so that the target can go on past it, and the time is printed.
The repairs of what is registered may undo what triggers another finding, so that
two runs of three spare one that was not found yet: fields that trigger it are left alone.
Exit status: 0: every registered finding of that version was found within the
time; 1: one was not, or something was found that is not in the registry.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from findings import Trouble, classify_replay, is_for
from limited import LimitedProcess, Limits
from registry import GOOD, read_registry

# A hang must not take the time of all others.
HANG_SECONDS = 10
# Of one run of a target: the next one may be allowed to meet something else.
RUN_SECONDS = 4
LIMITS = Limits(wall=2 * HANG_SECONDS, cpu=HANG_SECONDS, memory=1 << 30)
TARGETS = {"qemu-tree-layout": "fuzz-layout", "qemu-tree-stream": "fuzz-stream"}
LAZY_TARGET = {"qemu-tree-lazy": "fuzz-lazy"}


class Search:
    """What is to be found, what was, and a registry that grows with it."""

    def __init__(self, options, scratch):
        self.options, self.scratch = options, Path(scratch)
        self.started = time.monotonic()
        shipped = options.source.resolve() / "corpus" / "findings"
        self.wanted = {finding.id: finding for finding in read_registry(shipped)
                       if finding.is_registered("qemu-tree", options.version)
                       and is_for("qemu-tree", finding)}
        self.targets = TARGETS | (LAZY_TARGET if self.wants_lazy() else {})
        self.folder = self.scratch / "wanted"
        self.folder.mkdir()
        for name in self.wanted:
            os.symlink(shipped / name, self.folder / name)
        self.found, self.strange = {}, []
        self.places = set()
        self.lock = threading.Lock()

    def wants_lazy(self):
        return any(finding.target == "lazy" for finding in self.wanted.values())

    def elapsed(self):
        return time.monotonic() - self.started

    def is_over(self):
        return (len(self.found) == len(self.wanted) or bool(self.strange)
                or self.elapsed() >= self.options.seconds)

    def note(self, target, outcome, ids):
        """
        Marks what matches as found. False: nothing does, and none that did has ended at
        that place (a rule broken before may leave nothing to be said of the one that
        explains it).
        """
        place = re.search(r"^SUMMARY: .*", outcome.text, re.MULTILINE)
        with self.lock:
            matching = [self.wanted[name] for name in ids if name in self.wanted
                        and self.wanted[name].ends_as("qemu-tree", outcome)]
            # What has a narrower trigger explains more.
            narrowest = min((finding.trigger_span() for finding in matching), default=None)
            for finding in matching:
                if finding.id not in self.found and finding.trigger_span() == narrowest:
                    self.found[finding.id] = self.elapsed()
                    print(f"  {self.elapsed():6.1f} s  {finding.id:28} {outcome.name:16} "
                          f"by {target}", flush=True)
            if matching and place:
                self.places.add(place[0])
            return bool(matching) or (place and place[0] in self.places)

    def registry(self, folder, run):
        """A registry of what was found, for a run, which may spare something else."""
        with self.lock:
            names = list(self.found)
            missing = [finding for name, finding in self.wanted.items() if name not in names]
        known = folder / f"findings-{run}"
        known.mkdir()
        for name in names:
            os.symlink(self.wanted[name].folder, known / name)
        if not missing or run % 3 == 0:
            return known
        spared = missing[run // 3 % len(missing)]
        (known / spared.id).mkdir()
        (known / spared.id / "finding.ini").write_text(spared.spared_text())
        return known


def environment(known):
    return dict(os.environ, PAGEWISE_FINDINGS=str(known))


def classify(search, target, artifact, known):
    program = search.options.build / "bin" / f"{target}-replay"
    with LimitedProcess([program, artifact], LIMITS, environment(known)) as process:
        process.wait()
    return classify_replay(process)


def finding_case(search, *arguments):
    result = subprocess.run([search.options.build / "bin" / "finding-case", *arguments],
                            capture_output=True, text=True, check=True)
    return result.stdout.split()


def match(search, outcome, artifact, known):
    return finding_case(search, "match", search.folder, outcome.name, artifact, known)


def write_seeds(search, target, folder, known, run):
    """
    A list of the inputs to begin with, as -seed_inputs takes it. The second run of two that spare
    a finding does without those that trigger it: if it was not found by them, they end as others.
    """
    shipped = search.options.source / "corpus" / search.targets[target]
    seeds = [str(path) for place in (shipped, folder / "corpus") for path in place.iterdir()]
    left_out = set(finding_case(search, "spared", known, *seeds)) if run % 3 == 2 else ()
    (folder / "seeds").write_text(",".join(sorted(set(seeds).difference(left_out))))


def run_once(search, target, folder, seed, known):
    """One run of the fuzzer, until it finds something or its time is over."""
    left = min(RUN_SECONDS, max(1, int(search.options.seconds - search.elapsed())))
    command = [search.options.build / "bin" / target, f"-max_total_time={left}",
               f"-seed={seed}", f"-timeout={HANG_SECONDS}", "-rss_limit_mb=4096", "-len_control=0",
               f"-artifact_prefix={folder}/artifact-", f"-seed_inputs=@{folder}/seeds",
               folder / "new"]
    dictionary = search.options.build / "bin" / f"{target}.dict"
    if dictionary.exists():
        command.append(f"-dict={dictionary}")
    with open(folder / "log", "wb") as log:
        with subprocess.Popen(command, env=environment(known), stdin=subprocess.DEVNULL,
                              stdout=log, stderr=log) as process:
            while process.poll() is None:
                if search.is_over():
                    process.kill()
                time.sleep(0.05)
    for path in (folder / "new").iterdir():
        path.rename(folder / "corpus" / path.name)
    return next(iter(sorted(folder.glob("artifact-*"))), None)


def run_target(search, target):
    folder = search.scratch / target
    for name in ("corpus", "new"):
        (folder / name).mkdir(parents=True)
    seed = 0
    while not search.is_over():
        seed += 1
        known = search.registry(folder, seed)
        write_seeds(search, target, folder, known, seed)
        artifact = run_once(search, target, folder, seed, known)
        if artifact is None or search.is_over():
            continue
        try:
            outcome = classify(search, target, artifact, known)
            # What is found while another target registers the same is right by now.
            if outcome.name not in GOOD and not search.note(
                    target, outcome, match(search, outcome, artifact, known)):
                kept = search.options.build / "fuzz" / artifact.name
                kept.parent.mkdir(exist_ok=True)
                shutil.copy(artifact, kept)
                search.strange.append(f"{target}: {outcome}, in no registered finding: {kept}\n"
                                      f"{outcome.text}")
        except Trouble as trouble:
            search.strange.append(f"{target}: {trouble}")
        artifact.unlink()


def main():
    parser = argparse.ArgumentParser(prog="rediscover.py", description=__doc__.split("\n")[0])
    parser.add_argument("--source", type=Path, required=True)
    parser.add_argument("--build", type=Path, required=True)
    parser.add_argument("--version", required=True)
    parser.add_argument("--seconds", type=int, default=120)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pagewise-rediscover-") as scratch:
        search = Search(options, scratch)
        print(f"rediscover: {len(search.wanted)} findings of QEMU {options.version}, "
              f"{options.seconds} s", flush=True)
        threads = [threading.Thread(target=run_target, args=(search, target))
                   for target in search.targets]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    missing = sorted(search.wanted.keys() - search.found.keys())
    for text in search.strange:
        print(f"rediscover: NEW: {text}")
    for name in missing:
        print(f"rediscover: not found: {name}")
    print(f"rediscover: {len(search.found)} of {len(search.wanted)} found, the last after "
          f"{max(search.found.values(), default=0):.1f} s")
    return 1 if missing or search.strange else 0


if __name__ == "__main__":
    sys.exit(main())

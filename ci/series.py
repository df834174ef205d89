# SPDX-License-Identifier: GPL-2.0-or-later
"""What a series of patches to QEMU is: commits, files, lines, and what it claims.

Only git is asked, and nothing is written into the tree under test: its base is
unpacked elsewhere. The tree's own state is the head, uncommitted changes
included.
"""

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

# What a change must touch for the gate to have anything to say.
RELEVANT = ("migration/", "include/migration/", "io/", "util/userfaultfd.c",
            "qapi/migration.json")

# "No functional change intended.", "There is no functional change.", a trailer.
CLAIM = re.compile(r"^\s*(?:\S+\s+){0,4}?no[- ]functional[- ]changes?\b", re.I | re.M)
LABELS = {"no-functional-change", "no functional change", "nfc"}

# Where a series usually starts from.
UPSTREAM = ("@{upstream}", "upstream/master", "origin/master", "origin/HEAD", "master", "main")

HUNK = re.compile(r"^@@ -\S+ \+(\d+)(?:,(\d+))? @@")


class SeriesError(Exception):
    """What is wrong with the tree or the revision, and what to do."""


@dataclass
class Commit:
    """One patch of the series that touches what is under test."""

    sha: str
    subject: str
    body: str

    def claims_no_change(self):
        return bool(CLAIM.search(f"{self.subject}\n{self.body}"))


@dataclass
class Range:
    """Two revisions between which nothing may change; None: the series' own end."""

    first: str
    last: str
    reason: str
    base: str = None
    head: str = None


def is_relevant(path):
    return any(path.startswith(place) if place.endswith("/") else path == place
               for place in RELEVANT)


class Series:
    """The patches between a base and a QEMU tree as it is."""

    def __init__(self, qemu, base=None, labels=(), description=""):
        self.qemu = Path(qemu).resolve()
        if not (self.qemu / "migration" / "ram.c").exists():
            raise SeriesError(f"{qemu} is no QEMU source tree: there is no migration/ram.c")
        # A tree below someone else's checkout is not that checkout: no prefix.
        prefix = self.git("rev-parse", "--show-prefix", check=False)
        if prefix is None or prefix.strip():
            raise SeriesError(f"{qemu} is not under git: the gate compares two revisions of it")
        self.labels = {label.strip().lower() for text in labels for label in text.split(",")}
        self.description = description
        self.base = self.find_base(base)

    def git(self, *arguments, check=True):
        command = ["git", "-c", f"safe.directory={self.qemu}", "-C", str(self.qemu), *arguments]
        environment = dict(os.environ, GIT_OPTIONAL_LOCKS="0")
        result = subprocess.run(command, capture_output=True, check=False, env=environment)
        if result.returncode != 0:
            if not check:
                return None
            raise SeriesError(f"git {' '.join(arguments)}: "
                              f"{result.stderr.decode(errors='replace').strip()}")
        return result.stdout.decode(errors="replace")

    def find_base(self, base):
        if base:
            commit = self.git("rev-parse", "--verify", "--quiet", f"{base}^{{commit}}",
                              check=False)
            if commit is None:
                raise SeriesError(f"--base: '{base}' is no revision of {self.qemu} (a shallow "
                                  "clone may lack it: git fetch --unshallow)")
            return self.git("merge-base", commit.strip(), "HEAD").strip()
        head = self.git("rev-parse", "HEAD").strip()
        for name in UPSTREAM:
            found = self.git("merge-base", name, "HEAD", check=False)
            if found and (found.strip() != head or self.is_dirty()):
                return found.strip()
        raise SeriesError("the series' base is not to be told: name it with --base REV")

    def is_dirty(self):
        return bool(self.git("status", "--porcelain", "--untracked-files=no").strip())

    def head_name(self):
        name = self.git("rev-parse", "--short=12", "HEAD").strip()
        return name + (" with uncommitted changes" if self.is_dirty() else "")

    def changed_files(self):
        return self.git("diff", "--name-only", self.base, "--").splitlines()

    def relevant_files(self):
        return [path for path in self.changed_files() if is_relevant(path)]

    def commits(self):
        """Those that touch what is under test, oldest first."""
        commits = []
        for sha in self.git("rev-list", "--reverse", "--no-merges",
                            f"{self.base}..HEAD").split():
            files = self.git("diff-tree", "--no-commit-id", "--name-only", "-r", "--root",
                             sha).splitlines()
            if any(is_relevant(path) for path in files):
                subject, _, body = self.git("log", "-1", "--format=%B", sha).partition("\n")
                commits.append(Commit(sha, subject, body))
        return commits

    def claimed_ranges(self):
        """Where the series says that nothing changes: as a whole, or patches of it."""
        if self.labels & LABELS:
            return [Range(self.base, None, "the merge request's label")]
        if CLAIM.search(self.description):
            return [Range(self.base, None, "the merge request's description")]
        commits = self.commits()
        if commits and all(commit.claims_no_change() for commit in commits) and \
                not self.is_dirty():
            return [Range(self.base, None, "every patch")]
        return self.claimed_runs(commits)

    def claimed_runs(self, commits):
        """Neighbours that claim it are one comparison: from before the first to the last."""
        ranges = []
        run = []
        for commit in [*commits, None]:
            if commit is not None and commit.claims_no_change():
                run.append(commit)
                continue
            if run:
                name = run[0].subject if len(run) == 1 else f"{run[0].subject} (and {len(run) - 1})"
                ranges.append(Range(f"{run[0].sha}^", run[-1].sha, f"patch '{name}'"))
            run = []
        return ranges

    def changed_lines(self):
        """path -> numbers of the lines that the series adds or changes."""
        lines = {}
        path = None
        for line in self.git("diff", "-U0", "--no-color", "--no-ext-diff", "--no-prefix",
                             self.base, "--", *RELEVANT).splitlines():
            if line.startswith("+++ "):
                path = line[4:].split("\t")[0]
            match = HUNK.match(line)
            if match and path != "/dev/null":
                first, count = int(match[1]), int(match[2] or 1)
                lines.setdefault(path, set()).update(range(first, first + count))
        return {path: numbers for path, numbers in lines.items() if numbers}

    def unpack(self, revision, folder):
        """The tree of a revision, without touching the user's own."""
        folder.mkdir(parents=True)
        with subprocess.Popen(["git", "-c", f"safe.directory={self.qemu}", "-C", str(self.qemu),
                               "archive", "--format=tar", revision],
                              stdout=subprocess.PIPE) as archive:
            tar = subprocess.run(["tar", "-x", "-C", str(folder)], stdin=archive.stdout,
                                 check=False)
        if archive.returncode != 0 or tar.returncode != 0:
            raise SeriesError(f"the tree of {revision} cannot be unpacked into {folder}")
        return folder

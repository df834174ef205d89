# SPDX-License-Identifier: GPL-2.0-or-later
"""What the tests of programs and scripts (test_*.py) have in common.

The options of such a test are paths; each test has a folder of its own, which is
removed, and can tell whether a process that it started has ended.
"""

import argparse
import os
import shutil
import sys
import tempfile
import unittest
import uuid
from pathlib import Path

MARK = "PAGEWISE_SCRIPT_TEST"


class Options:
    """The paths that run() was told."""


class ScriptTest(unittest.TestCase):
    def setUp(self):
        self.root = Path(tempfile.mkdtemp(dir=Options.scratch)).resolve()
        self.addCleanup(shutil.rmtree, self.root)


def state_of(pid):
    """As in /proc/PID/stat, 'X' if there is none."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "X"
    return status.rsplit(")", 1)[1].split()[0]


def is_alive(pid):
    return state_of(pid) not in "ZX"


def new_mark():
    """A variable for the environment of a process, by which its descendants are found."""
    return {MARK: uuid.uuid4().hex}


def find_marked(mark):
    """The processes that live and have the mark."""
    wanted = f"{MARK}={mark[MARK]}".encode()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if wanted in words and is_alive(folder.name):
            found.append(int(folder.name))
    return found


def run(script, *paths, before=None):
    """The main function: --NAME PATH for each of paths, and for "scratch"; then unittest's own
    arguments. before() is called between the two."""
    parser = argparse.ArgumentParser(prog=os.path.basename(script))
    for name in (*paths, "scratch"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    known, rest = parser.parse_known_args(namespace=Options)
    known.scratch.mkdir(parents=True, exist_ok=True)
    if before:
        before()
    unittest.main(module="__main__", argv=[sys.argv[0], *rest])

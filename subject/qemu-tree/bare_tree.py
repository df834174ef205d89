# SPDX-License-Identifier: GPL-2.0-or-later
"""Configures a build folder with a QEMU tree and builds one target of it; what took how long.

It decides nothing of the build: whoever calls it says how CMake is called.
"""

import re
import resource
import subprocess
import time

TARGET = "qemu-tree-stream"
# What builder/configure.py and builder/link.py say of themselves.
CONFIGURE_PARTS = re.compile(r"(headers|probes|plan) (\d+\.\d) s")
BUILD_PARTS = re.compile(r"qemu-tree: .*(joined) in (\d+\.\d) s")


class Step:
    """One of the steps: seconds of wall clock, and of CPU time of all its processes."""

    def __init__(self, name, parts):
        self.name, self.pattern = name, parts
        self.wall = self.cpu = 0.0
        self.parts = []

    def run(self, command, folder):
        """Prints what @command prints; returns whether it did its work."""
        began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
        result = subprocess.run([str(word) for word in command], cwd=folder, text=True,
                                stdout=subprocess.PIPE, check=False)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        self.wall = time.monotonic() - began
        self.cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        self.parts = [(name, float(seconds))
                      for name, seconds in self.pattern.findall(result.stdout)]
        print(result.stdout, end="", flush=True)
        return result.returncode == 0


def build(configure, source, folder):
    """Runs @configure (CMake's command, for the build folder @folder) in @source, and builds.

    Returns the two steps, or None if one of them failed.
    """
    steps = Step("configure", CONFIGURE_PARTS), Step("build", BUILD_PARTS)
    if steps[0].run(configure, source) and steps[1].run(["ninja", "-C", folder, TARGET], source):
        return steps
    return None

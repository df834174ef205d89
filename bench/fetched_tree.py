# SPDX-License-Identifier: GPL-2.0-or-later
"""The QEMU tree that the test qemu-tree-build has fetched, for what measures trees."""

import os
from pathlib import Path


def skip(what, why, remedy):
    """Says so; returns the exit status."""
    print(f"SKIP {what}: {why}; remedy: {remedy}", flush=True)
    return 1 if "qemu-tree" in os.environ.get("PAGEWISE_REQUIRE", "").split(",") else 0


def skip_without_tree(what):
    return skip(what, "there is no tree",
                "-DQEMU_SRC=DIR, or ctest -R qemu-tree-build, which fetches one")


def find(build):
    """Below the build folder @build; None: there is none."""
    marker = build / "qemu-tree" / "tree"
    return Path(marker.read_text()) if marker.exists() else None

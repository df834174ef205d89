#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Fetches a QEMU source tree for tests: what Debian has.

    fetch.py --out DIR [--suites SUITE... | --release VERSION]

Prints the tree's folder. apt does the work, with folders and a list of sources
of its own in DIR, so that the system's stay as they are; the mirror is that of
the system's own sources. What a suite's index names may be gone: the suites are
tried in turn. Whatever was fetched before is taken first. A release that no index
names any more may still be there: it is asked for by name. Exit status 77: there
is none to be had, and what is printed says why.
"""

import argparse
import hashlib
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

SUITES = ("sid", "trixie", "bookworm-backports")
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
SECONDS = 300
# No index vouches for these: the SHA-256 of the tarballs when they were first fetched.
RELEASES = {
    "10.2.2": "be05230fe47a6937cd29f28f562932c8125f9c93c2a82c625198f7a4aa601dfb",
    "11.0.1": "75a0f910bc45ef532ab3c705a6995bb96d70bca1826c2f61da6e13a3719a089f",
    "11.1.1": "0b1376e75dbe3e2fea4e408f8669f88a723f419f36a5b7d74cc6a4cfe07e4f5e",
}
# Large, and of no use here.
LEFT_OUT = ("bsd-user", "capstone", "contrib", "disas", "docs", "linux-user", "pc-bios", "po",
            "roms", "rust", "subprojects", "tests")


class NoTree(Exception):
    """Why there is none."""


def run(command, cwd):
    try:
        result = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False,
                                timeout=SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoTree(str(error)) from error
    if result.returncode != 0:
        words = [line for line in result.stderr.splitlines() if line.startswith(("E:", "Err"))]
        raise NoTree("; ".join(words[:2]) or f"{command[0]} failed")
    return result.stdout


def mirror(folder):
    """The first archive of packages that the machine's own apt has."""
    text = run(["apt-get", "indextargets", "--format", "$(REPO_URI) $(LABEL)",
                "Created-By: Packages"], folder)
    places = [line.split()[0] for line in text.splitlines() if line.endswith(" Debian")]
    if not places:
        raise NoTree("the machine's apt has no archive of Debian")
    return places[0]


def apt(folder, *words):
    for part in ("parts", "lists/partial", "cache/archives/partial"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    options = [f"-oDir::Etc::SourceList={folder}/sources.list",
               f"-oDir::Etc::SourceParts={folder}/parts", f"-oDir::State::Lists={folder}/lists",
               f"-oDir::Cache={folder}/cache", "-oAPT::Sandbox::User=root",
               "-oAcquire::Retries=1"]
    return run(["apt-get", "-q", *options, *words], folder)


def fetch(out, suite):
    folder = out / suite
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sources.list").write_text(
        f"deb-src [signed-by={KEYRING}] {mirror(folder)} {suite} main\n")
    apt(folder, "update")
    # The tarball alone: its hash is in the index, whose signature apt has checked.
    apt(folder, "source", "--download-only", "--tar-only", "qemu")
    tarballs = sorted(folder.glob("qemu_*.orig.tar.*"))
    if not tarballs:
        raise NoTree("apt fetched no tarball")
    return unpack(tarballs[-1], out)


def fetch_release(out, version):
    known = out / f"qemu-{version}"
    if (known / "VERSION").exists():
        return known
    name = f"qemu_{version}+ds.orig.tar.xz"
    try:
        address = f"{mirror(out).rstrip('/')}/pool/main/q/qemu/{name}"
        with urlopen(address, timeout=SECONDS) as answer:
            content = answer.read()
    except (URLError, TimeoutError) as error:
        raise NoTree(f"{name}: {error}") from error
    if hashlib.sha256(content).hexdigest() != RELEASES[version]:
        raise NoTree(f"{name}: is not the file that it was")
    tarball = out / name
    tarball.write_bytes(content)
    return unpack(tarball, out)


def unpack(tarball, out):
    scratch = out / "unpacking"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    left_out = [f"--exclude=qemu-*/{name}" for name in LEFT_OUT]
    run(["tar", "-C", str(scratch), "--anchored", "--no-wildcards-match-slash", *left_out, "-xf",
         str(tarball)], out)
    (found,) = [path.parent for path in scratch.glob("*/VERSION")]
    tree = out / found.name
    shutil.rmtree(tree, ignore_errors=True)
    found.rename(tree)
    scratch.rmdir()
    return tree


def find_or_fetch(out, suites):
    known = sorted(path.parent for path in out.glob("*/VERSION"))
    if known:
        return known[-1]
    reasons = []
    for suite in suites:
        try:
            return fetch(out, suite)
        except NoTree as error:
            reasons.append(f"{suite}: {error}")
    raise NoTree("; ".join(reasons))


def main():
    parser = argparse.ArgumentParser(description="Fetches a QEMU source tree")
    parser.add_argument("--out", type=Path, required=True)
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--suites", nargs="+", default=SUITES)
    where.add_argument("--release", choices=RELEASES)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    out = options.out.resolve()
    try:
        print(fetch_release(out, options.release) if options.release
              else find_or_fetch(out, options.suites))
    except NoTree as error:
        print(f"SKIP qemu-tree: no QEMU source tree can be fetched ({error}); remedy: configure "
              "with -DQEMU_SRC=a source tree of yours")
        return 77
    return 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The tests of label qemu-tree: a real QEMU source tree, fetched and built in.

    check_tree.py STEP --build DIR --source DIR [ARGUMENT...]

    build           fetches a tree, configures and builds its targets; times the steps
    replay STEM     runs corpus/ through bin/STEM-replay, forward and backward
    fuzz STEM       fuzzes bin/STEM: RUNS executions of one seed, the same ones each time
    faults N        the real fault thread serves all faults of N guest threads
    oss-fuzz        oss-fuzz/build.sh with the tree in $SRC/qemu: its targets run in the sandbox
    rebuild         an edited file is built anew, and it alone; a broken one stops the build
    nfc             'ninja nfc' on the tree, edited in several ways, against a copy of it

--build is a folder of our own below the project's build folder: the tree is
not known when that one is configured. Exit status 77: there is no tree.
"""

import argparse
import configparser
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

SKIPPED = 77
# Executions of a seed, about 20 s of an idle core: what is new by chance is for `ninja fuzz`.
RUNS = {"header": 40000, "layout": 20000, "lazy": 1000, "stream": 30000}
TOOLS = ("ld.lld", "objcopy", "readelf", "xz")


class Check:
    def __init__(self, options):
        self.source = options.source.resolve()
        self.work = options.build.resolve()
        self.trees = self.work / "trees"
        self.build = self.work / "build"
        self.marker = self.work / "tree"
        self.cmake = options.cmake
        self.argument = options.argument

    def tree(self):
        """The tree that the step 'build' has built in; exits where there is none."""
        if not self.marker.exists():
            print("SKIP qemu-tree: no tree was built in; remedy: see the test qemu-tree-build")
            sys.exit(SKIPPED)
        return Path(self.marker.read_text())

    def run(self, *command, **keywords):
        return subprocess.run([str(word) for word in command], check=False, **keywords)

    def ninja(self, *targets, **keywords):
        return self.run("ninja", "-C", self.build, *targets, **keywords)


def required(feature):
    return feature in os.environ.get("PAGEWISE_REQUIRE", "").split(",")


def snapshot_of(tree):
    """What a build might change: names, sizes and times of all files."""
    return {str(path): (path.lstat().st_size, path.lstat().st_mtime_ns)
            for path in tree.rglob("*")}


def fetch(check):
    script = check.source / "subject" / "qemu-tree" / "builder" / "fetch.py"
    result = check.run(sys.executable, "-B", script, "--out", check.trees, stdout=subprocess.PIPE,
                       text=True)
    if result.returncode != 0:
        print(result.stdout, end="")
        sys.exit(1 if required("qemu-tree") else result.returncode)
    return Path(result.stdout.strip())


def skip_unless_tools():
    lacking = [tool for tool in TOOLS if not shutil.which(tool)]
    if lacking:
        print(f"SKIP qemu-tree: there is no {', '.join(lacking)}; remedy: install lld, binutils "
              "and xz-utils")
        sys.exit(1 if required("qemu-tree") else SKIPPED)


def step_build(check):
    check.marker.unlink(missing_ok=True)
    skip_unless_tools()
    tree = fetch(check)
    before = snapshot_of(tree)
    # The same Python each time: a wrapper may make CMake find another one, and all is built anew.
    configure = [check.cmake, "--preset", "dev", "-S", check.source, "-B", check.build,
                 f"-DPython3_EXECUTABLE={sys.executable}", "-DQEMU_BASE=", "-DQEMU_SRC="]
    # What does not depend on the tree, first: it is not what is timed.
    if check.run(*configure, cwd=check.source).returncode or \
            check.ninja("pagewise-property", "pagewise-fuzz-support").returncode:
        return 1
    seconds = [time.monotonic()]
    configure[-1] += str(tree)
    if check.run(*configure, cwd=check.source).returncode:
        return 1
    seconds.append(time.monotonic())
    if check.ninja("qemu-tree-stream").returncode:
        return 1
    seconds.append(time.monotonic())
    print(f"from a bare tree to a running target: configured in {seconds[1] - seconds[0]:.1f} s, "
          f"built in {seconds[2] - seconds[1]:.1f} s")
    if check.ninja("qemu-tree-all").returncode:
        return 1
    if snapshot_of(tree) != before:
        print("FAILED: the build has written into the tree")
        return 1
    check.marker.write_text(str(tree))
    return 0


def step_replay(check):
    check.tree()
    stem = check.argument
    return check.run(check.build / "bin" / f"qemu-tree-{stem}-replay", "--repeat", "2", "--reverse",
                     check.source / "corpus" / f"fuzz-{stem}").returncode


def flags_of(check, stem):
    """bin/STEM.options and STEM.dict, as fuzz.py hands them to libFuzzer."""
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(check.build / "bin" / f"{stem}.options")
    flags = [f"-{key}={value}" for key, value in
             (parser.items("libfuzzer") if parser.has_section("libfuzzer") else ())
             if key != "dict"]
    dictionary = check.build / "bin" / f"{stem}.dict"
    return flags + ([f"-dict={dictionary}"] if dictionary.exists() else [])


def step_fuzz(check):
    check.tree()
    stem = f"qemu-tree-{check.argument}"
    work = check.work / "fuzz" / stem
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    # Named one by one: the order in which a folder lists them differs between machines.
    seeds = work / "seeds"
    corpus = check.source / "corpus" / f"fuzz-{check.argument}"
    seeds.write_text(",".join(str(path) for path in sorted(corpus.iterdir())))
    # The last word counts. Weighing inputs by their time makes chance of a fixed seed.
    result = check.run(check.build / "bin" / stem, *flags_of(check, stem), "-timeout=60",
                       "-entropic_scale_per_exec_time=0", "-seed=1",
                       f"-runs={RUNS[check.argument]}",
                       f"-artifact_prefix={work}/", f"-seed_inputs=@{seeds}", cwd=work,
                       stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                       errors="replace")
    print("".join(result.stdout.splitlines(keepends=True)[-40:]), end="")
    if result.returncode:
        print(f"FAILED: the input and how to run it are above; it is in {work}/")
    return 1 if result.returncode else 0


def step_faults(check):
    check.tree()
    return check.run(check.build / "bin" / "bench-tree-faults", "--seconds", "2", "--threads",
                     check.argument).returncode


def step_oss_fuzz(check):
    tree = check.tree()
    stems = [path.stem for path in sorted((check.source / "fuzz").glob("fuzz-*.c"))]
    return check.run(sys.executable, "-B", check.source / "cmake" / "oss_fuzz_check.py",
                     "--source", check.source, "--work", check.work / "oss-fuzz", "--qemu", tree,
                     "--only", "address/libfuzzer", *stems,
                     *(f"qemu-tree-{stem}" for stem in RUNS)).returncode


def built_by(output):
    """Which steps ninja ran: their comments."""
    return [line.split("] ", 1)[1] for line in output.splitlines() if "] qemu-tree: " in line]


def rebuild_edited(check, path, text):
    path.write_text("/* edited */\n" + text)
    result = check.ninja("qemu-tree-object", stdout=subprocess.PIPE, text=True)
    steps = built_by(result.stdout)
    print("an edited ram.c: " + "; ".join(steps))
    if result.returncode or steps != ["qemu-tree: adapter, unit-ram", "qemu-tree: one object"]:
        print(f"FAILED: the wrong things were built\n{result.stdout}")
        return False
    return True


def rebuild_broken(check, path, text):
    path.write_text(text + "\nint pagewise_broken(void) { return no_such_name; }\n")
    result = check.ninja("qemu-tree-object", stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                         text=True)
    if not result.returncode or "undeclared identifier 'no_such_name'" not in result.stdout:
        print(f"FAILED: a ram.c that does not compile was built\n{result.stdout}")
        return False
    print("a broken ram.c: stopped the build with the compiler's message")
    return True


def step_rebuild(check):
    path = check.tree() / "migration" / "ram.c"
    text = path.read_text()
    status = path.stat()
    try:
        right = rebuild_edited(check, path, text) and rebuild_broken(check, path, text)
    finally:
        path.write_text(text)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    # Older than what was built: the next build has to be told.
    os.utime(path)
    return 0 if right and check.ninja("qemu-tree-object").returncode == 0 else 1


def step_nfc(check):
    tree = check.tree()
    base = check.work / "base"
    if not base.exists():
        shutil.copytree(tree, base, symlinks=True)
    if check.run(check.cmake, f"-DQEMU_BASE={base}", check.build).returncode:
        return 1
    return check.run(sys.executable, "-B", check.source / "cmake" / "test_nfc.py", "--build",
                     check.build, "--ram", tree / "migration" / "ram.c").returncode


STEPS = {"build": step_build, "replay": step_replay, "fuzz": step_fuzz, "faults": step_faults,
         "oss-fuzz": step_oss_fuzz, "rebuild": step_rebuild, "nfc": step_nfc}


def main():
    parser = argparse.ArgumentParser(description="Tests on a QEMU source tree")
    parser.add_argument("step", choices=STEPS)
    parser.add_argument("argument", nargs="?")
    parser.add_argument("--build", type=Path, required=True)
    parser.add_argument("--source", type=Path, required=True)
    parser.add_argument("--cmake", default="cmake")
    options = parser.parse_args()
    return STEPS[options.step](Check(options))


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The tests of label qemu-tree: a real QEMU source tree, fetched and built in.

    check_tree.py STEP --build DIR --source DIR [ARGUMENT...]

    build           fetches a tree, configures and builds its targets; times the steps
    unit            the adapter's own tests
    replay STEM     runs corpus/ through bin/STEM-replay, forward and backward
    fuzz STEM       fuzzes bin/STEM: RUNS executions of one seed, the same ones each time
    faults N        the real fault thread serves all faults of N guest threads
    oss-fuzz        oss-fuzz/build.sh with the tree in $SRC/qemu: its targets run in the sandbox
    rebuild         an edited file is built anew, and it alone; a broken one stops the build
    nfc PAIR        'ninja nfc' on the tree, edited as test_nfc.py's PAIR says, against a copy of it
    findings        the reproducers of all findings, on the tree
    release VERSION another tree: its targets, corpora and findings; what differs from the first
    fast-load       a tree that loads lazily from the file: its corpus, its fault thread
    options         QEMU_BUILD, and QEMU_BASE as a git revision: used, and not written into

--build is a folder of our own below the project's build folder: the tree is
not known when that one is configured. Exit status 77: there is no tree.
"""

import argparse
import configparser
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import bare_tree
import fast_load

SKIPPED = 77
# Executions of a seed, about 20 s of an idle core: what is new by chance is for `ninja fuzz`.
RUNS = {"header": 200000, "layout": 80000, "lazy": 40000, "stream": 90000}
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
    """What a build might change: names, sizes and times of all files and folders."""
    states = {str(path): path.lstat() for path in (tree, *tree.rglob("*"))}
    return {path: (state.st_size, state.st_mtime_ns, state.st_ctime_ns)
            for path, state in states.items()}


def version_of(tree):
    return (tree / "VERSION").read_text().strip()


def fetch(check, feature, out, *words):
    script = check.source / "subject" / "qemu-tree" / "builder" / "fetch.py"
    result = check.run(sys.executable, "-B", script, "--out", out, *words, stdout=subprocess.PIPE,
                       text=True)
    if result.returncode != 0:
        print(result.stdout.replace("SKIP qemu-tree:", f"SKIP {feature}:"), end="")
        sys.exit(1 if required(feature) else result.returncode)
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
    tree = fetch(check, "qemu-tree", check.trees)
    before = snapshot_of(tree)
    # The same Python each time: a wrapper may make CMake find another one, and all is built anew.
    configure = [check.cmake, "--preset", "dev", "-S", check.source, "-B", check.build,
                 f"-DPython3_EXECUTABLE={sys.executable}", "-DQEMU_BASE=", f"-DQEMU_SRC={tree}"]
    steps = bare_tree.build(configure, check.source, check.build)
    if not steps:
        return 1
    print("; ".join(f"{step.name}: {step.wall:.1f} s" for step in steps))
    if check.ninja("qemu-tree-all", "finding-case").returncode:
        return 1
    if snapshot_of(tree) != before:
        print("FAILED: the build has written into the tree")
        return 1
    check.marker.write_text(str(tree))
    return 0


def step_unit(check):
    check.tree()
    return check.run(check.build / "bin" / "test-qemu-tree").returncode


def replay(check, build, stem):
    return check.run(build / "bin" / f"qemu-tree-{stem}-replay", "--repeat", "2", "--reverse",
                     check.source / "corpus" / f"fuzz-{stem}").returncode


def step_replay(check):
    check.tree()
    return replay(check, check.build, check.argument)


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


# They include nothing of the tree's.
NOT_THE_TREES = {"adapter-kept-thread", "adapter-shims"}


def rebuild_header(check, path, text):
    """A header that qemu/osdep.h includes: what was compiled of it before is of no use."""
    if check.ninja("qemu-tree-object").returncode:
        return False
    objects = check.build / "subject" / "qemu-tree" / "qemu-tree" / "objects"
    expected = {file.stem for file in objects.iterdir() if file.suffix in (".o", ".pch")}
    expected -= NOT_THE_TREES
    path.write_text(text + '\n#error "pagewise: edited"\n')
    # A dry run goes no further than CMake, which it takes to be run; by another name it is not.
    shutil.copy(check.build / "build.ninja", check.build / "dry.ninja")
    result = check.ninja("-n", "-f", "dry.ninja", "qemu-tree-object", stdout=subprocess.PIPE,
                         text=True)
    steps = {step.removeprefix("qemu-tree: ").replace("adapter, ", "adapter-")
             for step in built_by(result.stdout)}
    if expected - steps or steps & NOT_THE_TREES:
        print(f"FAILED: an edited {path.name}: the wrong things would be built: not "
              f"{expected - steps}, but {steps & NOT_THE_TREES}")
        return False
    result = check.ninja("qemu-tree-object", stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                         text=True)
    if not result.returncode or "pagewise: edited" not in result.stdout:
        print(f"FAILED: a {path.name} that does not compile was built\n{result.stdout}")
        return False
    print(f"an edited {path.name}: all {len(expected)} files that include it")
    return True


def rebuild_defining(check, path, text):
    """What a file defines before qemu/osdep.h holds in there: here, that there is no need of it."""
    path.write_text("#define QEMU_OSDEP_H\n" + text)
    result = check.ninja("qemu-tree-object", stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                         text=True)
    if not result.returncode:
        print(f"FAILED: a {path.name} that defines QEMU_OSDEP_H has got that header all the same")
        return False
    print(f"a {path.name} that defines something before qemu/osdep.h: heeded")
    return True


def with_edits(check, path, *steps):
    """Does each of @steps hold, which edit @path? It is restored, time stamp and all."""
    text = path.read_text()
    status = path.stat()
    try:
        return all(step(check, path, text) for step in steps)
    finally:
        path.write_text(text)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def step_rebuild(check):
    tree = check.tree()
    ram, uuid = tree / "migration" / "ram.c", tree / "util" / "uuid.c"
    right = with_edits(check, ram, rebuild_edited, rebuild_broken) and \
        with_edits(check, uuid, rebuild_defining) and \
        with_edits(check, tree / "include" / "qemu" / "compiler.h", rebuild_header)
    # Older than what was built: the next build has to be told.
    os.utime(ram)
    os.utime(uuid)
    return 0 if right and check.ninja("qemu-tree-object").returncode == 0 else 1


def step_nfc(check):
    tree = check.tree()
    base = check.work / "base"
    if not base.exists():
        shutil.copytree(tree, base, symlinks=True)
    if check.run(check.cmake, f"-DQEMU_BASE={base}", check.build).returncode:
        return 1
    return check.run(sys.executable, "-B", check.source / "cmake" / "test_nfc.py", "--build",
                     check.build, "--ram", tree / "migration" / "ram.c", check.argument).returncode


def run_findings(check, build, tree):
    """On the tree alone: the binary is of another version, and has its own test."""
    command = [sys.executable, "-B", check.source / "cmake" / "findings.py", "run", "--source",
               check.source, "--build", build, "--tree-version", version_of(tree),
               "--tree-replay", build / "bin" / "qemu-tree-stream-replay"]
    environment = {name: value for name, value in os.environ.items()
                   if name != "QTEST_QEMU_BINARY"}
    return check.run(*command, env=environment).returncode


def step_findings(check):
    return run_findings(check, check.build, check.tree())


# Since 10.2 loadvm clears the pages that are not in the file.
CLEARS_SINCE = (10, 2)
CLEARING = "DIFFERENCE on the reproducer of loadvm-keeps-pages"


def series_of(tree):
    return tuple(int(number) for number in version_of(tree).split(".")[:2])


def is_told(check, build):
    """Does 'ninja nfc' tell what the release does, and its base does not?"""
    result = check.run("ninja", "-C", build, "nfc", stdout=subprocess.PIPE, text=True,
                       errors="replace", env=dict(os.environ, NFC_COMPARE="verdict,ram",
                                                  FUZZ_SECONDS="5"))
    told = CLEARING in result.stdout
    if not told:
        print(f"FAILED: the difference between the trees was not told\n{result.stdout}")
    return told


def step_release(check):
    base = check.tree()
    tree = fetch(check, "qemu-release", check.work / "releases", "--release", check.argument)
    # Later releases differ from the base in more than the one thing to be told.
    compared = series_of(tree) == CLEARS_SINCE > series_of(base)
    # One for all releases: what does not depend on the tree is there already.
    build = check.work / "build-release"
    if check.run(check.cmake, "--preset", "dev", "-S", check.source, "-B", build,
                 f"-DQEMU_SRC={tree}", f"-DQEMU_BASE={base if compared else ''}",
                 cwd=check.source).returncode or \
            check.run("ninja", "-C", build, "qemu-tree-all", "finding-case").returncode or \
            check.run(build / "bin" / "test-qemu-tree").returncode:
        return 1
    failed = [stem for stem in RUNS if replay(check, build, stem)]
    if failed or run_findings(check, build, tree):
        return 1
    return 0 if not compared or is_told(check, build) else 1


def faults_from_file(check, program, threads):
    result = check.run(program, "--seconds", "2", "--threads", threads, stdout=subprocess.PIPE,
                       text=True)
    print(result.stdout, end="")
    return result.returncode == 0 and "pages from the file" in result.stdout


def finds_lost_fault(check, programs):
    """The finding is found in a copy that has the bug, and not in one that has not."""
    reproducer = check.source / "corpus" / "findings" / "fast-load-lost-fault" / "input"
    replay, _ = programs(forgets=False)
    if check.run(replay, reproducer).returncode:
        return False
    replay, _ = programs(forgets=True)
    result = check.run(replay, reproducer, stderr=subprocess.PIPE, text=True)
    print(result.stderr, end="")
    return result.returncode != 0 and "the guest read 0x00" in result.stderr


def step_fast_load(check):
    def programs(forgets):
        return fast_load.build(check.tree(), check.work / "fast-load", check.source, check.cmake,
                               "qemu-tree-lazy-replay", "bench-tree-faults", forgets=forgets)
    replay, faults = programs(forgets=False)
    if check.run(replay, "--repeat", "2", check.source / "corpus" / "fuzz-lazy").returncode:
        return 1
    right = [faults_from_file(check, faults, threads) for threads in (1, 4)]
    return 0 if all(right) and finds_lost_fault(check, programs) else 1


MESSAGE = "pages, region has bad alignment"
OTHER_MESSAGE = "pages, region is not aligned"


def git(repository, *words):
    # No housekeeping in the background, which would change files later.
    options = ["gc.auto=0", "user.name=pagewise", "user.email=pagewise@example.org"]
    subprocess.run(["git", *(word for option in options for word in ("-c", option)), "-C",
                    str(repository), *words], check=True, stdout=subprocess.DEVNULL)


def make_repository(tree, repository):
    """A user's clone: two revisions, which differ in a message, and a change that is in none."""
    shutil.copytree(tree, repository, symlinks=True)
    git(repository, "init", "-q")
    git(repository, "add", "-A", "-f")
    git(repository, "commit", "-q", "-m", "base")
    ram = repository / "migration" / "ram.c"
    ram.write_text(ram.read_text().replace(MESSAGE, OTHER_MESSAGE))
    git(repository, "commit", "-q", "-a", "-m", "series")
    ram.write_text(ram.read_text() + "\nextern const char pagewise_uncommitted[];\n"
                   'const char pagewise_uncommitted[] = "uncommitted";\n')


def make_build_folder(check, tree, repository, folder):
    """As meson leaves one behind, with the headers and flags that configure.py has made of @tree:
    relative paths, a file of two libraries, flags of another compiler's."""
    room = check.build / "subject" / "qemu-tree" / "qemu-tree"
    shutil.copytree(room / "generated", folder, symlinks=True)
    entries = []
    names = (room / "plan.cmake").read_text()
    units = re.findall(r'set\(QEMU_TREE_FILE_(\S+) "(.*)"\)', names)
    units += [(f"unit-{unit}", str(tree / "migration" / f"{name}.c"))
              for unit, name in (("ram", "ram"), ("savevm", "savevm"), ("multifd", "multifd"),
                                 ("postcopy", "postcopy-ram"))]
    for name, path in units:
        words = shlex.split((room / "flags" / f"{name}.rsp").read_text().replace("\n", " "))
        words = [word.replace(str(room / "generated"), ".").replace(str(tree), str(repository))
                 for word in words if not word.startswith("-DPAGEWISE_UNIT")]
        file = os.path.relpath(path.replace(str(room / "generated"), str(folder))
                               .replace(str(tree), str(repository)), folder)
        command = shlex.join(["gcc", *words, "-O0", "-Wno-such-warning", "-fno-such-option",
                              "-D_FORTIFY_SOURCE=2", "-c", file])
        entries += [{"directory": str(folder), "file": file, "output": output, "command": words}
                    for output, words in ((f"libother.a.p/{name}.o", command + " -DNEED_OTHER_CPU"),
                                          (f"libqemu-x86_64-softmmu.a.p/{name}.o", command))]
    (folder / "compile_commands.json").write_text(json.dumps(entries))


def texts_of(build, room):
    """The object of ram.c in a room."""
    path = build / "subject" / "qemu-tree" / room / "objects" / "adapter-unit-ram.o"
    return path.read_bytes().decode("latin-1")


def wrong_texts(build):
    """Each room's ram.c is the one that the options name."""
    series, base = texts_of(build, "qemu-tree"), texts_of(build, "qemu-base")
    if OTHER_MESSAGE not in series or MESSAGE in series or "uncommitted" not in series:
        yield "QEMU_SRC is not as it lies there"
    if MESSAGE not in base or OTHER_MESSAGE in base or "uncommitted" in base:
        yield "QEMU_BASE is not that revision"


def step_options(check):
    tree = check.tree()
    work = check.work / "options"
    shutil.rmtree(work, ignore_errors=True)
    user, folder, build = work / "qemu", work / "qemu-build", work / "build"
    make_repository(tree, user)
    make_build_folder(check, tree, user, folder)
    before = snapshot_of(user), snapshot_of(folder)
    configure = [check.cmake, "--preset", "dev", "-S", check.source, "-B", build,
                 f"-DQEMU_SRC={user}", f"-DQEMU_BUILD={folder}"]
    room = "subject/qemu-tree/qemu-base/objects/adapter-unit-ram.o"
    if check.run(*configure, "-DQEMU_BASE=HEAD~1", cwd=check.source).returncode or \
            check.run("ninja", "-C", build, "qemu-tree-object", room).returncode:
        return 1
    wrong = list(wrong_texts(build))
    result = check.run(*configure, "-DQEMU_BASE=no-such-thing", cwd=check.source,
                       stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if not result.returncode or "neither a folder nor a git revision" not in result.stdout:
        wrong.append("QEMU_BASE=no-such-thing is not refused")
    if (snapshot_of(user), snapshot_of(folder)) != before:
        wrong.append("something was written into the user's folders")
    if wrong:
        print("\n".join(f"FAILED: {problem}" for problem in wrong))
        return 1
    shutil.rmtree(work)
    return 0


STEPS = {"build": step_build, "unit": step_unit, "replay": step_replay, "fuzz": step_fuzz,
         "faults": step_faults, "findings": step_findings, "release": step_release,
         "oss-fuzz": step_oss_fuzz, "rebuild": step_rebuild, "nfc": step_nfc,
         "fast-load": step_fast_load, "options": step_options}


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

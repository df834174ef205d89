# SPDX-License-Identifier: GPL-2.0-or-later
"""Builds and checks the fuzz targets as OSS-Fuzz does, without docker.

    oss_fuzz_check.py --source DIR --work DIR [--qemu DIR] [--only SANITIZER/ENGINE]...
                      TARGET...

For each sanitizer and engine oss-fuzz/build.sh runs with clean $SRC, $WORK and
$OUT and with the flags that OSS-Fuzz would set. Then $OUT is moved, and each
TARGET has to be there, to be what was asked for, and to run its seeds in a
sandbox (sandbox.py) that has glibc and little else, no userfaultfd among it.
Not one may fail. Then oss-fuzz/run_tests.sh is run the same way, without a network.
DIR/../oss-fuzz.xml is the JUnit report.

Engines: libfuzzer and afl are the real ones; 'honggfuzz' is an archive of ours
that takes the same callbacks; 'none' is our replay driver as an archive. AFL++
is skipped where it is not installed, and that is said.
"""

import argparse
import configparser
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

SANDBOX = Path(__file__).with_name("sandbox.py")
SANITIZERS = ("address", "undefined", "coverage")
ENGINES = ("libfuzzer", "afl", "none", "honggfuzz")
# OSS-Fuzz runs honggfuzz with AddressSanitizer only.
COMBINATIONS = [(sanitizer, engine) for engine in ENGINES for sanitizer in SANITIZERS
                if engine != "honggfuzz" or sanitizer == "address"]

UNDEFINED = ("bool,array-bounds,float-divide-by-zero,function,integer-divide-by-zero,return,"
             "shift,signed-integer-overflow,unsigned-integer-overflow,vla-bound,vptr")
BASE_FLAGS = ("-O1 -fno-omit-frame-pointer -gline-tables-only "
              "-DFUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION")
SANITIZER_FLAGS = {
    "address": "-fsanitize=address -fsanitize-address-use-after-scope",
    # Overflow of unsigned values only guides the fuzzer: it may go on after it.
    "undefined": f"-fsanitize={UNDEFINED} "
                 f"-fno-sanitize-recover={UNDEFINED.replace('unsigned-integer-overflow,', '')}",
    "coverage": "-fprofile-instr-generate -fcoverage-mapping -pthread -Wl,--no-as-needed "
                "-Wl,-ldl -Wl,-lm -Wno-unused-command-line-argument",
}
ENGINE_FLAGS = {
    "libfuzzer": "-fsanitize=fuzzer-no-link",
    "honggfuzz": "-fsanitize-coverage=trace-pc-guard,indirect-calls,trace-cmp",
}
# OSS-Fuzz links libc++, which is static there.
LINK_CXX = "-static-libstdc++ -static-libgcc"

# What glibc's package brings along: libgcc_s is a dependency of its own.
LIBRARIES = ("libc.so.6", "libm.so.6", "libpthread.so.0", "libdl.so.2", "librt.so.1",
             "libresolv.so.2", "libgcc_s.so.1", "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1")
LIBRARY_FOLDERS = ("/lib64", "/lib/{}-linux-gnu", "/usr/lib64", "/usr/lib/{}-linux-gnu", "/lib")

# Below that an instrumentation is partial at best.
MIN_EDGES = 100
MIN_SANITIZER_CALLS = 150
FEW_SEEDS = 8
FUZZ_RUNS = 300
TARGET_SECONDS = 180

STACK_FRAME = re.compile(r"^ *#\d+ 0x")
TARGET_NAME = re.compile(r"^[A-Za-z0-9_-]+$")
RUNTIME_OPTIONS = {
    "ASAN_OPTIONS": "abort_on_error=0:symbolize=0",
    "UBSAN_OPTIONS": "silence_unsigned_overflow=1:print_stacktrace=1:symbolize=0",
}


class Unavailable(Exception):
    """A combination that cannot be checked here: why, and the remedy."""


class Combination:
    """One sanitizer with one engine, and the folders of its build."""

    def __init__(self, sanitizer, engine, work):
        self.sanitizer = sanitizer
        self.engine = engine
        self.name = f"{sanitizer}/{engine}"
        self.work = work / f"{sanitizer}-{engine}"
        self.out = self.work / "out"
        self.everything = self.name == "address/libfuzzer"

    def compilers(self):
        if self.engine != "afl":
            return "clang", "clang++"
        if not shutil.which("afl-clang-fast++"):
            raise Unavailable("AFL++ is not installed: install afl++")
        return "afl-clang-fast", "afl-clang-fast++"

    def flags(self):
        engine = ENGINE_FLAGS.get(self.engine, "")
        if self.sanitizer == "coverage":
            engine = ""
        return f"{BASE_FLAGS} {SANITIZER_FLAGS[self.sanitizer]} {engine}".strip()

    def environment(self, source, archive):
        cc, cxx = self.compilers()
        keep = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
        return dict(keep, CC=cc, CXX=cxx, CFLAGS=self.flags(),
                    CXXFLAGS=f"{self.flags()} {LINK_CXX}", LIB_FUZZING_ENGINE=str(archive),
                    SANITIZER=self.sanitizer, FUZZING_ENGINE=self.engine, ARCHITECTURE="x86_64",
                    FUZZING_LANGUAGE="c", SRC=str(source), WORK=str(self.work / "work"),
                    OUT=str(self.out), AFL_QUIET="1",
                    ASAN_OPTIONS="detect_leaks=0:symbolize=0:detect_odr_violation=0")

    def prepare(self):
        shutil.rmtree(self.work, ignore_errors=True)
        for folder in (self.work / "work", self.out):
            folder.mkdir(parents=True)


class Result:
    """What was found about one target of one combination."""

    def __init__(self, combination, name):
        self.combination = combination
        self.name = name
        self.problems = []  # (check, words)
        self.notes = []
        self.skipped = None
        self.seconds = 0.0

    def add(self, check, words, output=""):
        lines = [line for line in output.strip().splitlines()
                 if line.strip() and not STACK_FRAME.match(line)]
        self.problems.append((check, "\n        ".join([words, *lines[-12:]])))


def run(command, seconds=600, **options):
    """Output and exit status; None for a command that was killed after its time."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, start_new_session=True, **options)
    try:
        output = process.communicate(timeout=seconds)[0]
        return output.decode(errors="replace"), process.returncode
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return process.communicate()[0].decode(errors="replace"), None
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise


# The build ---------------------------------------------------------------


def copy_source(source, folder):
    """What git knows, as a clone of it would have it, with what is not committed yet."""
    listing, status = run(["git", "-c", f"safe.directory={source}", "-C", str(source), "ls-files",
                           "-z", "--cached", "--others", "--exclude-standard"])
    if status != 0:
        sys.exit(f"oss-fuzz-check: git cannot list the files of {source}: {listing.strip()}")
    shutil.rmtree(folder, ignore_errors=True)
    for name in filter(None, listing.split("\0")):
        if (source / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source / name, folder / name)


def fingerprint(folder):
    return sorted((str(path), path.stat().st_mtime_ns) for path in folder.rglob("*")
                  if path.is_file())


def make_archive(combination, source, folder):
    """The value of LIB_FUZZING_ENGINE: a flag of libFuzzer's, or an archive."""
    if combination.engine == "libfuzzer":
        return "-fsanitize=fuzzer"
    archive = folder / "libFuzzingEngine.a"
    if combination.engine == "afl":
        prefix = Path(shutil.which("afl-clang-fast")).resolve().parents[1]
        driver = prefix / "lib" / "afl" / "libAFLDriver.a"
        if not driver.exists():
            raise Unavailable(f"there is no {driver}: install afl++")
        shutil.copyfile(driver, archive)
        return archive
    sources = [source / "fuzz" / "replay-driver.c"]
    if combination.engine == "honggfuzz":
        sources.append(source / "unit" / "guard-engine.c")
    objects = []
    for path in sources:
        objects.append(folder / (path.stem + ".o"))
        output, status = run(["clang", "-O1", "-c", "-o", str(objects[-1]), str(path)])
        if status != 0:
            sys.exit(f"oss-fuzz-check: the engine cannot be built:\n{output}")
    # As one object: of several the linker would leave out those whose symbols a
    # sanitizer's runtime has, too.
    whole = folder / "engine.o"
    subprocess.run(["ld", "-r", "-o", str(whole), *map(str, objects)], check=True)
    subprocess.run(["ar", "rcs", str(archive), str(whole)], check=True)
    return archive


def run_script(name, combination, source, wrapper=()):
    """Runs oss-fuzz/NAME as OSS-Fuzz does; returns what is wrong with that, or ''."""
    combination.prepare()
    combination.compilers()
    archive = make_archive(combination, source / "pagewise", combination.work)
    before = fingerprint(source / "pagewise")
    script = combination.work / name
    shutil.copy2(source / "pagewise" / "oss-fuzz" / name, script)
    output, status = run([*wrapper, "bash", "-eu", str(script)], cwd=source, seconds=1200,
                         env=combination.environment(source, archive))
    script.with_suffix(".log").write_text(output, encoding="utf-8")
    if status != 0:
        return f"{name} failed ({status}):\n" + "\n".join(output.splitlines()[-30:])
    if fingerprint(source / "pagewise") != before:
        return f"{name} wrote into the source tree: it may write to $WORK and $OUT only"
    return ""


def without_network():
    return ["unshare", "--net", *([] if os.geteuid() == 0 else ["--map-root-user"])]


def move_out(combination):
    """$OUT is never where it was built: nothing may depend on its path."""
    moved = Path(tempfile.mkdtemp(prefix="moved-", dir=combination.work))
    moved.rmdir()
    combination.out.rename(moved)
    shutil.rmtree(combination.work / "work")
    combination.out = moved


# The sandbox -------------------------------------------------------------


def make_root(folder):
    """A root with glibc's libraries where programs look for them, and no more."""
    machine = os.uname().machine
    for name in ("proc", "dev", "tmp", "out", "seeds"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for pattern in LIBRARY_FOLDERS:
        there = Path(pattern.format(machine))
        for name in LIBRARIES:
            if (there / name).exists():
                (folder / str(there)[1:]).mkdir(parents=True, exist_ok=True)
                shutil.copyfile(there / name, folder / str(there)[1:] / name)
                (folder / str(there)[1:] / name).chmod(0o755)
    return folder


class Runner:
    """Runs one target in the sandbox, its seeds in /seeds, /tmp writable."""

    def __init__(self, combination, root, name, scratch):
        self.combination = combination
        self.root = root
        self.name = name
        self.scratch = scratch
        self.seeds_folder = scratch / "seeds"
        self.tmp = scratch / "tmp"
        for folder in (self.seeds_folder, self.tmp):
            folder.mkdir()

    def run(self, arguments, deny=False):
        command = [sys.executable, str(SANDBOX), "--root", str(self.root),
                   "--bind", f"{self.combination.out}=/out", "--bind", f"{self.tmp}=/tmp",
                   "--bind", f"{self.seeds_folder}=/seeds",
                   *(["--deny-userfaultfd"] if deny else []), "--", f"/out/{self.name}",
                   *arguments]
        environment = dict(RUNTIME_OPTIONS, LLVM_PROFILE_FILE="/tmp/%m.profraw", PATH="/out")
        output, status = run(command, seconds=TARGET_SECONDS, env=environment)
        if status == 125:
            sys.exit(f"oss-fuzz-check: {output.strip()}")
        return output, status


# The checks of one target ------------------------------------------------


def check_name(result, runner):
    if not TARGET_NAME.match(runner.name):
        result.add("name", "a target's name has letters, digits, '_' and '-' only")


def check_entry_point(result, runner):
    if b"LLVMFuzzerTestOneInput" not in (runner.combination.out / runner.name).read_bytes():
        result.add("entry-point", "the program does not contain LLVMFuzzerTestOneInput, by which "
                   "OSS-Fuzz knows a target")


def check_libraries(result, runner):
    output, _ = run(["readelf", "-dW", str(runner.combination.out / runner.name)])
    needed = re.findall(r"\(NEEDED\).*\[(.+)\]", output)
    foreign = sorted(set(needed) - set(LIBRARIES))
    if foreign:
        result.add("libraries", f"needs {', '.join(foreign)}: the runner has glibc only")


def count_calls(program):
    """How often the code calls into each sanitizer's runtime."""
    output, _ = run(["objdump", "-d", "--no-show-raw-insn", str(program)])
    return {name: len(re.findall(rf"\bcall[q]?\s+[0-9a-f]+ <{prefix}", output))
            for name, prefix in (("address", "__asan_"), ("undefined", "__ubsan_"))}


def check_sanitizer(result, runner):
    calls = count_calls(runner.combination.out / runner.name)
    wanted = runner.combination.sanitizer
    for name, n in calls.items():
        if name == wanted and n < MIN_SANITIZER_CALLS:
            result.add("sanitizer", f"only {n} calls to the sanitizer '{name}': CFLAGS were not "
                       "used throughout")
        # A sanitizer's runtime has a few calls to its neighbour.
        if name != wanted and n > 2 * MIN_SANITIZER_CALLS:
            result.add("sanitizer", f"{n} calls to the sanitizer '{name}', which CFLAGS do not ask "
                       "for")


def section_bytes(program):
    output, _ = run(["readelf", "-SW", str(program)])
    return {name: int(size, 16) for name, size in
            re.findall(r"\]\s+(\S+)\s+\S+\s+[0-9a-f]{16} [0-9a-f]+ ([0-9a-f]+)", output)}


def check_instrumentation(result, runner):
    combination = runner.combination
    sections = section_bytes(combination.out / runner.name)
    if combination.sanitizer == "coverage":
        section, width = "__llvm_prf_cnts", 8
    elif combination.engine == "libfuzzer":
        section, width = "__sancov_cntrs", 1
    elif combination.engine in ("afl", "honggfuzz"):
        section, width = "__sancov_guards", 4
    else:
        return  # no engine, no instrumentation
    edges = sections.get(section, 0) // width
    if edges < MIN_EDGES:
        result.add("instrumentation", f"{edges} instrumented edges (section {section}), less than "
                   f"{MIN_EDGES}: CFLAGS were not used throughout")


def check_persistent(result, runner):
    """What afl-fuzz looks for in a program before it starts it."""
    if runner.combination.engine != "afl":
        return
    content = (runner.combination.out / runner.name).read_bytes()
    for mark, name in ((b"##SIG_AFL_PERSISTENT##", "persistent mode"),
                       (b"##SIG_AFL_DEFER_FORKSRV##", "deferred fork server")):
        if mark not in content:
            result.add("persistent", f"AFL++'s {name} is missing")


def unpack_seeds(result, runner):
    """The paths of the seeds in the sandbox."""
    archive = runner.combination.out / f"{runner.name}_seed_corpus.zip"
    if not archive.exists():
        result.add("seeds", f"there is no {archive.name}: has corpus/{runner.name}/ any input?")
        return []
    with zipfile.ZipFile(archive) as content:
        content.extractall(runner.seeds_folder)
    found = sorted(f"/seeds/{path.relative_to(runner.seeds_folder)}"
                   for path in runner.seeds_folder.rglob("*") if path.is_file())
    if not found:
        result.add("seeds", f"{archive.name} is empty")
    return found if runner.combination.everything else found[:FEW_SEEDS]


def count_executed(combination, output):
    if combination.engine == "libfuzzer":
        return len(re.findall(r"^Executed /seeds/", output, re.MULTILINE))
    if combination.engine == "afl":
        return len(re.findall(r"^Execution successful", output, re.MULTILINE))
    return sum(map(int, re.findall(r"^replay: (\d+) files, \d+ executions: ok", output,
                                   re.MULTILINE)))


def check_runs_seeds(result, runner, seeds, deny):
    check = "userfaultfd-denied" if deny else "seeds"
    output, status = runner.run(seeds, deny=deny)
    executed = count_executed(runner.combination, output)
    if status is None:
        result.add(check, f"still not done with {len(seeds)} seeds after {TARGET_SECONDS} s",
                   output)
    elif status != 0:
        result.add(check, f"ended with status {status} after {executed} of {len(seeds)} seeds: "
                   "a target neither exits nor fails on its seeds, whatever is missing", output)
    elif executed != len(seeds):
        result.add(check, f"executed {executed} of {len(seeds)} seeds, then left without an error",
                   output)
    for line in output.splitlines():
        if "userfaultfd" in line and line not in result.notes:
            result.notes.append(line)
    return output


def check_profile(result, runner):
    if runner.combination.sanitizer == "coverage" and \
            not any(path.stat().st_size for path in runner.tmp.glob("*.profraw")):
        result.add("instrumentation", "wrote no profile: llvm-cov will have nothing to show")


def check_reached(result, runner, output):
    if runner.combination.engine == "honggfuzz":
        match = re.search(r"^guard-engine: \d+ edges, (\d+) reached", output, re.MULTILINE)
        if not match or int(match[1]) < MIN_EDGES // 4:
            result.add("instrumentation", "the seeds reach next to no edge", output)


def libfuzzer_options(result, runner):
    path = runner.combination.out / f"{runner.name}.options"
    if not path.exists():
        return []
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read(path)
    except configparser.Error as error:
        result.add("options", f"{path.name} cannot be read: {error}")
        return []
    return [f"-{key}={value}" for key, value in parser.items("libfuzzer")
            if key != "dict"] if parser.has_section("libfuzzer") else []


def check_fuzzes(result, runner):
    """Starts from nothing, with the options and the dictionary, and goes on."""
    if runner.combination.engine != "libfuzzer" or runner.combination.sanitizer == "coverage":
        return
    (runner.tmp / "new").mkdir()
    arguments = [*libfuzzer_options(result, runner), f"-runs={FUZZ_RUNS}", "-seed=1337"]
    if (runner.combination.out / f"{runner.name}.dict").exists():
        arguments.append(f"-dict=/out/{runner.name}.dict")
    output, status = runner.run([*arguments, "/tmp/new"])
    if status != 0 or f"Done {FUZZ_RUNS} runs" not in output:
        result.add("starts", f"cannot fuzz {FUZZ_RUNS} times from nothing (status {status})",
                   output)
    for line in re.findall(r"^WARNING: unrecognized flag.*|^ParseDictionaryFile: error.*", output,
                           re.MULTILINE):
        result.add("options", line)


def check_afl_map(result, runner, seeds):
    """AFL++'s own view: what a seed reaches, through the fork server."""
    if runner.combination.engine != "afl" or not seeds:
        return
    seed = runner.seeds_folder / Path(seeds[0]).relative_to("/seeds")
    trace = runner.scratch / "map"
    output, _ = run(["afl-showmap", "-q", "-m", "none", "-t", "10000", "-o", str(trace), "--",
                     str(runner.combination.out / runner.name), str(seed)], cwd=runner.scratch)
    reached = len(trace.read_text().splitlines()) if trace.exists() else 0
    if reached < MIN_EDGES // 4:
        result.add("instrumentation", f"a seed reaches {reached} edges as AFL++ sees it", output)


def check_target(combination, root, name):
    result = Result(combination, name)
    started = time.monotonic()
    if not (combination.out / name).is_file():
        result.add("built", f"is missing in $OUT: is it installed by {name}'s CMake line?")
        return result
    with tempfile.TemporaryDirectory(dir=combination.work) as scratch:
        runner = Runner(combination, root, name, Path(scratch))
        for check in (check_name, check_entry_point, check_libraries, check_sanitizer,
                      check_instrumentation, check_persistent):
            check(result, runner)
        seeds = unpack_seeds(result, runner)
        if seeds:
            output = check_runs_seeds(result, runner, seeds, deny=False)
            check_reached(result, runner, output)
            check_profile(result, runner)
            check_runs_seeds(result, runner, seeds, deny=True)
        check_fuzzes(result, runner)
        check_afl_map(result, runner, seeds)
    result.seconds = time.monotonic() - started
    return result


def find_targets(out):
    """What OSS-Fuzz would take for targets."""
    return {path.name for path in out.iterdir()
            if path.is_file() and os.access(path, os.X_OK) and path.suffix == ""
            and b"LLVMFuzzerTestOneInput" in path.read_bytes()}


def check_combination(combination, source, root, targets):
    """Results for all targets of one combination."""
    try:
        wrong = run_script("build.sh", combination, source)
    except Unavailable as error:
        results = [Result(combination, name) for name in targets]
        for result in results:
            result.skipped = str(error)
        return results
    if wrong:
        result = Result(combination, "build.sh")
        result.add("built", wrong)
        return [result]
    move_out(combination)
    names = sorted(set(targets) | find_targets(combination.out))
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        return list(pool.map(lambda name: check_target(combination, root, name), names))


def check_tests(combination, source):
    """The result of run_tests.sh, in the environment of a build."""
    result = Result(combination, "run_tests.sh")
    wrong = run_script("run_tests.sh", combination, source, without_network())
    if wrong:
        result.add("tests", wrong)
    return [result]


# The report --------------------------------------------------------------


def print_results(name, results, seconds):
    failed = [result for result in results if result.problems]
    skipped = next((result.skipped for result in results if result.skipped), None)
    verdict = f"{len(failed)} of {len(results)} FAILED" if failed else \
        f"SKIP {skipped}" if skipped else f"{len(results)} ok"
    print(f"{name:22} {seconds:5.0f} s  {verdict}", flush=True)
    for note in dict.fromkeys(note for result in results for note in result.notes):
        print(f"    {note}")
    for result in failed:
        for check, words in result.problems:
            print(f"    {result.name}: {check}: {words}")


def write_junit(path, results):
    suite = ElementTree.Element("testsuite", name="oss-fuzz-check", tests=str(len(results)))
    for result in results:
        case = ElementTree.SubElement(suite, "testcase", classname="oss-fuzz-check",
                                      name=f"{result.combination.name} {result.name}",
                                      time=f"{result.seconds:.1f}")
        if result.problems:
            words = "; ".join(f"{check}: {what}" for check, what in result.problems)
            ElementTree.SubElement(case, "failure", message=words)
        elif result.skipped:
            # As ctest words it: count.py takes other skips for failures.
            ElementTree.SubElement(case, "skipped", message="SKIP_RETURN_CODE=77")
            ElementTree.SubElement(case, "system-out").text = f"SKIP {result.skipped}"
    ElementTree.ElementTree(suite).write(path, encoding="utf-8")


def finish(combination, name, results, started):
    """Prints the results; what was built for them stays only where one failed."""
    print_results(name, results, time.monotonic() - started)
    if not any(result.problems for result in results):
        shutil.rmtree(combination.work, ignore_errors=True)
    return results


def required(feature):
    return feature in os.environ.get("PAGEWISE_REQUIRE", "").split(",")


def parse_arguments():
    parser = argparse.ArgumentParser(prog="oss_fuzz_check.py", description=__doc__.split("\n")[0])
    parser.add_argument("--source", type=Path, required=True, help="the project's folder")
    parser.add_argument("--work", type=Path, required=True, help="a folder for all builds")
    parser.add_argument("--qemu", type=Path, help="a QEMU source tree, for $SRC/qemu")
    parser.add_argument("--only", action="append", metavar="SANITIZER/ENGINE",
                        choices=["/".join(pair) for pair in COMBINATIONS],
                        help="leave out the other combinations")
    parser.add_argument("targets", nargs="+", metavar="TARGET")
    return parser.parse_args()


def main():
    options = parse_arguments()
    work = options.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    source = work / "src"
    copy_source(options.source.resolve(), source / "pagewise")
    (source / "qemu").unlink(missing_ok=True)
    if options.qemu:
        (source / "qemu").symlink_to(options.qemu.resolve())
    shutil.rmtree(work / "root", ignore_errors=True)
    root = make_root(work / "root")
    everything = []
    for pair in COMBINATIONS:
        combination = Combination(*pair, work)
        if options.only and combination.name not in options.only:
            continue
        started = time.monotonic()
        results = check_combination(combination, source, root, options.targets)
        if required("afl"):
            for result in results:
                if result.skipped:
                    result.add("required", f"PAGEWISE_REQUIRE names afl: {result.skipped}")
        everything += finish(combination, combination.name, results, started)
    if not options.only:
        combination = Combination("address", "libfuzzer", work)
        started = time.monotonic()
        results = check_tests(combination, source)
        everything += finish(combination, "run_tests.sh", results, started)
    write_junit(work.parent / "oss-fuzz.xml", everything)
    failed = sum(bool(result.problems) for result in everything)
    skipped = sum(bool(result.skipped and not result.problems) for result in everything)
    print(f"oss-fuzz-check: {len(everything) - failed - skipped} passed, {failed} failed, "
          f"{skipped} skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

# SPDX-License-Identifier: GPL-2.0-or-later
"""Negative controls of the OSS-Fuzz check (oss_fuzz_check.py): every check fails.

    test_oss_fuzz_check.py --source DIR --scratch DIR

A good target (unit/oss-fuzz-target.c) is built once for each way to build one
wrong, and copied under the name of each way to behave wrong. The check has to
say of each what is wrong with it, and nothing else; and nothing of the good one.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import unittest
import zipfile
from pathlib import Path

import oss_fuzz_check as checker

COVERAGE = "-fsanitize=fuzzer-no-link"
ADDRESS = "-fsanitize=address"

# Name of the target -> the checks that have to fail, by how it behaves.
BEHAVIOURS = {
    "good": set(),
    "exits-at-start": {"seeds", "starts", "userfaultfd-denied"},
    "exits-on-seed": {"seeds", "userfaultfd-denied"},
    "crashes-on-seed": {"seeds", "userfaultfd-denied"},
    "hangs-on-seed": {"seeds", "userfaultfd-denied"},
    "writes-beside": {"seeds", "starts", "userfaultfd-denied"},
    "needs-device": {"seeds", "starts", "userfaultfd-denied"},
    "needs-userfaultfd": {"userfaultfd-denied"},
    "knows-out": {"seeds", "starts", "userfaultfd-denied"},
    "bad name": {"name"},
    "no-seeds": {"seeds"},
    "empty-seeds": {"seeds"},
    "bad-dictionary": {"starts", "options"},
    "bad-option": {"options"},
    "unreadable-options": {"options"},
}
# The same by how it is built: flags of the compiler, then of the linker.
BUILDS = {
    "no-sanitizer": (COVERAGE, "-fsanitize=fuzzer", {"sanitizer"}),
    "wrong-sanitizer": (f"-fsanitize=undefined {COVERAGE}", "-fsanitize=fuzzer,undefined",
                        {"sanitizer"}),
    "both-sanitizers": (f"{ADDRESS},undefined {COVERAGE}", "-fsanitize=fuzzer,address,undefined",
                        {"sanitizer"}),
    "no-coverage": (ADDRESS, "-fsanitize=fuzzer,address", {"instrumentation", "starts"}),
    "needs-library": (f"{ADDRESS} {COVERAGE}",
                      "-fsanitize=fuzzer,address -Wl,--no-as-needed -lglib-2.0",
                      {"libraries", "seeds", "starts", "userfaultfd-denied"}),
}


class Options:
    source = None
    scratch = None


def compile_target(program, flags, link, out):
    source = Options.source / "unit" / "oss-fuzz-target.c"
    compiled = program.with_suffix(".o")
    subprocess.run(["clang", "-O1", "-gline-tables-only", *flags.split(), "-c", str(source),
                    f"-DORIGINAL_OUT=\"{out}\"", "-o", str(compiled)], check=True)
    subprocess.run(["clang++", str(compiled), *link.split(), *checker.LINK_CXX.split(), "-o",
                    str(program)], check=True)
    compiled.unlink()


def add_seeds(out, name):
    with zipfile.ZipFile(out / f"{name}_seed_corpus.zip", "w") as archive:
        for number, seed in enumerate(() if name == "empty-seeds" else ("A", "AA", "B", "AAA")):
            archive.writestr(f"seed-{number}", seed)


class CheckTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = Path(tempfile.mkdtemp(dir=Options.scratch)).resolve()
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        cls.root = checker.make_root(cls.folder / "root")
        cls.combination = checker.Combination("address", "libfuzzer", cls.folder)
        cls.combination.prepare()
        out = cls.combination.out
        compile_target(out / "good", f"{ADDRESS} {COVERAGE}", "-fsanitize=fuzzer,address", out)
        for name in BEHAVIOURS:
            if name != "good":
                shutil.copy2(out / "good", out / name)
        for name, (flags, link, _) in BUILDS.items():
            compile_target(out / name, flags, link, out)
        for name in [*BEHAVIOURS, *BUILDS]:
            add_seeds(out, name)
        (out / "no-seeds_seed_corpus.zip").unlink()
        (out / "bad-dictionary.dict").write_text("word=without quotes\n", encoding="ascii")
        (out / "bad-option.options").write_text("[libfuzzer]\nmax_length = 7\n", encoding="ascii")
        (out / "unreadable-options.options").write_text("max_len = 7\n", encoding="ascii")
        checker.move_out(cls.combination)
        checker.TARGET_SECONDS = 4

    def check(self, name):
        result = checker.check_target(self.combination, self.root, name)
        words = "\n".join(f"{check}: {what}" for check, what in result.problems)
        return {check for check, _ in result.problems}, words

    def expect(self, name, checks):
        found, words = self.check(name)
        self.assertEqual(found, checks, words)

    def test_behaviours(self):
        for name, checks in BEHAVIOURS.items():
            with self.subTest(name):
                self.expect(name, checks)

    def test_builds(self):
        for name, (_, _, checks) in BUILDS.items():
            with self.subTest(name):
                self.expect(name, checks)

    def test_missing_target(self):
        self.expect("not-there", {"built"})

    def test_no_entry_point(self):
        program = self.combination.out / "no-entry"
        program.write_bytes((self.combination.out / "good").read_bytes().replace(
            b"LLVMFuzzerTestOneInput", b"LLVMFuzzerTestTwoInput"))
        program.chmod(0o755)
        add_seeds(self.combination.out, "no-entry")
        self.expect("no-entry", {"entry-point"})
        self.assertNotIn("no-entry", checker.find_targets(self.combination.out))

    def test_what_is_a_target(self):
        found = checker.find_targets(self.combination.out)
        self.assertLessEqual({"good", "exits-at-start", "no-sanitizer"}, found)
        self.assertNotIn("good_seed_corpus.zip", found)

    def test_afl_marks(self):
        combination = checker.Combination("address", "afl", self.folder)
        combination.out = self.combination.out
        result = checker.Result(combination, "good")
        with tempfile.TemporaryDirectory(dir=self.folder) as scratch:
            runner = checker.Runner(combination, self.root, "good", Path(scratch))
            checker.check_persistent(result, runner)
            checker.check_instrumentation(result, runner)
        self.assertEqual({check for check, _ in result.problems},
                         {"persistent", "instrumentation"})

    def test_coverage_without_profile(self):
        combination = checker.Combination("coverage", "libfuzzer", self.folder)
        combination.out = self.combination.out
        result = checker.Result(combination, "good")
        with tempfile.TemporaryDirectory(dir=self.folder) as scratch:
            runner = checker.Runner(combination, self.root, "good", Path(scratch))
            checker.check_profile(result, runner)
            checker.check_instrumentation(result, runner)
        self.assertEqual([check for check, _ in result.problems], ["instrumentation"] * 2)

    def test_honggfuzz_reaches_nothing(self):
        combination = checker.Combination("address", "honggfuzz", self.folder)
        combination.out = self.combination.out
        for output in ("", "guard-engine: 5000 edges, 3 reached"):
            result = checker.Result(combination, "good")
            with tempfile.TemporaryDirectory(dir=self.folder) as scratch:
                runner = checker.Runner(combination, self.root, "good", Path(scratch))
                checker.check_reached(result, runner, output)
            self.assertEqual([check for check, _ in result.problems], ["instrumentation"])


class BuildTest(unittest.TestCase):
    """build.sh itself: it fails, or it writes where it must not."""

    def setUp(self):
        self.folder = Path(tempfile.mkdtemp(dir=Options.scratch)).resolve()
        self.addCleanup(shutil.rmtree, self.folder)
        self.source = self.folder / "src"
        (self.source / "pagewise" / "oss-fuzz").mkdir(parents=True)

    def build(self, script):
        (self.source / "pagewise" / "oss-fuzz" / "build.sh").write_text(script, encoding="ascii")
        combination = checker.Combination("address", "libfuzzer", self.folder)
        return checker.run_script("build.sh", combination, self.source)

    def test_good(self):
        self.assertEqual(self.build("test \"$FUZZING_ENGINE\" = libfuzzer; touch $OUT/x\n"), "")

    def test_fails(self):
        self.assertIn("build.sh failed (3)", self.build("echo no; exit 3\n"))

    def test_unset_variable(self):
        self.assertIn("build.sh failed", self.build("echo $NO_SUCH_VARIABLE\n"))

    def test_writes_into_the_source(self):
        self.assertIn("wrote into the source tree", self.build("touch $SRC/pagewise/made\n"))

    def test_tests_have_no_network(self):
        path = self.source / "pagewise" / "oss-fuzz" / "run_tests.sh"
        path.write_text("grep -c : /proc/net/dev; exit 3\n", encoding="ascii")
        combination = checker.Combination("address", "libfuzzer", self.folder)
        self.assertIn("\n1", checker.check_tests(combination, self.source)[0].problems[0][1])


class SandboxTest(unittest.TestCase):
    def test_no_sandbox_is_an_error(self):
        result = subprocess.run([sys.executable, str(checker.SANDBOX), "--root", "/nonexistent",
                                 "--", "/bin/true"], capture_output=True, text=True, check=False)
        self.assertEqual(result.returncode, 125)
        self.assertIn("sandbox: ", result.stderr)

    def test_nothing_outlives_it(self):
        root = Path(tempfile.mkdtemp(dir=Options.scratch)).resolve()
        self.addCleanup(shutil.rmtree, root)
        for name in ("proc", "dev", "tmp", "bin", "lib", "lib64", "usr"):
            (root / name).mkdir()
        binds = [argument for name in ("bin", "lib", "lib64", "usr")
                 for argument in ("--bind", f"{os.path.realpath('/' + name)}=/{name}")]
        result = subprocess.run(
            [sys.executable, str(checker.SANDBOX), "--root", str(root), *binds, "--", "/bin/sh",
             "-c", "sleep 987654 & ls /dev; touch /x; echo $$"],
            capture_output=True, text=True, check=False, timeout=60)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertNotIn("userfaultfd", result.stdout)
        self.assertIn("Read-only file system", result.stderr)
        left = [path for path in Path("/proc").glob("[0-9]*/cmdline")
                if b"987654" in read_or_nothing(path)]
        self.assertEqual(left, [])


def read_or_nothing(path):
    try:
        return path.read_bytes()
    except OSError:
        return b""


def main():
    parser = argparse.ArgumentParser(prog="test_oss_fuzz_check.py")
    parser.add_argument("--source", type=Path, required=True)
    parser.add_argument("--scratch", type=Path, required=True)
    known, rest = parser.parse_known_args(namespace=Options)
    known.scratch.mkdir(parents=True, exist_ok=True)
    unittest.main(argv=[sys.argv[0], *rest])


if __name__ == "__main__":
    main()

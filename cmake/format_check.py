# SPDX-License-Identifier: GPL-2.0-or-later
"""Checks the form of every file that git knows.

    format_check.py --source DIR --clang-format PROGRAM

- C files are as clang-format leaves them;
- every text file has an SPDX line at its top, no tab, no trailing blank, no
  line over 100 columns (but in tables of Markdown), and a newline at its end;
- C files include only what the room that they are in may use;
- inputs in corpus/ have at most 4 KiB each, and 1 MiB together.
"""

import argparse
import re
import subprocess
import sys
from pathlib import Path

COLUMNS = 100
MAX_INPUT = 4096
MAX_CORPUS = 1 << 20
# The licence's own text, and what a tool wants in just that form.
NO_SPDX = {"COPYING"}

# What a room may include, itself aside. Others are no rooms, and not checked.
MAY_USE = {
    "model": set(),
    "loader": set(),
    "subject": {"model", "loader"},
    "property": {"model", "subject"},
    "fuzz": {"property", "model", "subject"},
    "qtest-glue": {"model", "property", "subject"},
}
ROOMS = set(MAY_USE) | {"unit", "tools", "bench"}
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"/]+)/')


def tracked_files(source):
    # Whoever owns the work tree: CI often checks out as another user.
    result = subprocess.run(["git", "-c", f"safe.directory={source.resolve()}", "-C", str(source),
                             "ls-files", "-z"], capture_output=True, text=True, check=False)
    if result.returncode != 0:
        sys.exit(f"format-check: git cannot list the files: {result.stderr.strip()}")
    return [Path(name) for name in result.stdout.split("\0")
            if name and (source / name).is_file()]


def check_text(name, text):
    lines = text.split("\n")
    if name.name not in NO_SPDX and not any("SPDX-License-Identifier" in line
                                            for line in lines[:4]):
        yield f"{name}:1: no SPDX line"
    if text and lines[-1] != "":
        yield f"{name}:{len(lines)}: no newline at the end"
    for number, line in enumerate(lines, 1):
        if "\t" in line:
            yield f"{name}:{number}: tab"
        if line != line.rstrip():
            yield f"{name}:{number}: blank at the end of the line"
        if len(line) > COLUMNS and not (name.suffix == ".md" and line.startswith("|")):
            yield f"{name}:{number}: {len(line)} columns"


def check_includes(name, text):
    room = name.parts[0]
    if room not in MAY_USE:
        return
    for number, line in enumerate(text.split("\n"), 1):
        match = INCLUDE.match(line)
        if match and match[1] in ROOMS - MAY_USE[room] - {room}:
            yield f"{name}:{number}: {room}/ must not use {match[1]}/"


def check_corpus(sizes):
    for name, size in sizes.items():
        if size > MAX_INPUT:
            yield f"{name}: {size} bytes, more than {MAX_INPUT}"
    if sum(sizes.values()) > MAX_CORPUS:
        yield f"corpus: {sum(sizes.values())} bytes, more than {MAX_CORPUS}"


def check_files(source, names):
    sizes = {}
    for name in names:
        if name.parts[0] == "corpus":
            sizes[name] = (source / name).stat().st_size
        elif name.name not in NO_SPDX:
            text = (source / name).read_bytes().decode("utf-8", errors="replace")
            yield from check_text(name, text)
            if name.suffix in (".c", ".h"):
                yield from check_includes(name, text)
    yield from check_corpus(sizes)


def run_clang_format(program, source, names):
    files = [str(name) for name in names if name.suffix in (".c", ".h")]
    result = subprocess.run([program, "--style=file", "--dry-run", "-Werror",
                             "--ferror-limit=3", *files], cwd=source, check=False)
    return result.returncode == 0


def main():
    parser = argparse.ArgumentParser(prog="format_check.py",
                                     description=__doc__.split("\n")[0])
    parser.add_argument("--source", type=Path, required=True, help="the project's folder")
    parser.add_argument("--clang-format", required=True, help="the program")
    options = parser.parse_args()
    names = tracked_files(options.source)
    problems = list(check_files(options.source, names))
    for problem in problems:
        print(problem)
    formatted = run_clang_format(options.clang_format, options.source, names)
    if problems or not formatted:
        print("format-check: failed ('clang-format -i FILE' puts layout right)")
        return 1
    print(f"format-check: {len(names)} files are in form")
    return 0


if __name__ == "__main__":
    sys.exit(main())

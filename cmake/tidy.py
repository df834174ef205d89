# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs clang-tidy, as .clang-tidy says, on every file that the build compiles.

    tidy.py --build DIR --source DIR --clang-tidy PROGRAM
"""

import argparse
import concurrent.futures
import json
import os
import subprocess
import sys
from pathlib import Path


def compiled_files(build, source):
    commands = json.loads((build / "compile_commands.json").read_text(encoding="utf-8"))
    files = {Path(command["file"]).resolve() for command in commands}
    return sorted(file for file in files if file.is_relative_to(source)
                  and not file.is_relative_to(build))


def tidy(program, build, file):
    result = subprocess.run([program, "-p", str(build), "--quiet", str(file)], check=False,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if result.returncode == 0:
        return ""
    return result.stdout or result.stderr or f"{file}: clang-tidy ended with an error\n"


def main():
    parser = argparse.ArgumentParser(prog="tidy.py", description=__doc__.split("\n")[0])
    parser.add_argument("--build", type=Path, required=True, help="the build folder")
    parser.add_argument("--source", type=Path, required=True, help="the project's folder")
    parser.add_argument("--clang-tidy", required=True, help="the program")
    options = parser.parse_args()
    build = options.build.resolve()
    files = compiled_files(build, options.source.resolve())
    failed = 0
    with concurrent.futures.ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        jobs = [pool.submit(tidy, options.clang_tidy, build, file) for file in files]
        for job in jobs:
            words = job.result()
            failed += words != ""
            print(words, end="", flush=True)
    print(f"tidy: {len(files)} files, {failed} with complaints")
    return 1 if failed or not files else 0


if __name__ == "__main__":
    sys.exit(main())

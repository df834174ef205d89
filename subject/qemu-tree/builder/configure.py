#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Looks at a QEMU source tree and plans how its loader is built into fuzz targets.

    configure.py --source DIR [--build DIR] --out DIR --cc COMPILER

Writes into --out alone: generated headers, flags for each file, the answers of
the probes, and plan.cmake, which CMake includes. Exit status 1: the tree cannot
be used; what is printed says why.
"""

import argparse
import shlex
import sys
import time
from pathlib import Path

sys.dont_write_bytecode = True

import flags
import headers
import prefixes
import probes

HERE = Path(__file__).resolve().parent

# Files that the adapter includes whole, for what is static in them.
INCLUDED = {"ram": probes.RAM, "savevm": probes.SAVEVM, "postcopy": probes.POSTCOPY,
            "multifd": probes.MULTIFD}
# By the marks in neighbours.txt.
KINDS = {"+": "covered", "=": "hot"}
# Files of the adapter that are compiled as ram.c is.
ADAPTER = ("channel", "lazy", "platform", "subject", "threads")


class Steps:
    """What took how long."""

    def __init__(self):
        self.last = time.monotonic()
        self.seconds = {}

    def done(self, name):
        now = time.monotonic()
        self.seconds[name] = now - self.last
        self.last = now


def neighbours():
    """Pairs: path in the tree, kind (how it is compiled: see CMakeLists.txt)."""
    for line in (HERE.parent / "neighbours.txt").read_text().splitlines():
        words = line.split("#")[0].split()
        if words:
            yield words[-1], KINDS.get(words[0], "cold")


def find(source, generated, unit):
    return next((path for path in (source / unit, generated / unit) if path.exists()), None)


def write_flags(out, name, words):
    path = out / "flags" / f"{name}.rsp"
    headers.write_if_changed(path, "\n".join(shlex.quote(word) for word in words) + "\n")


def plan_units(tree, out, shared):
    """Yields (name, path, kind) of the neighbours; their flags are written."""
    for unit, kind in neighbours():
        path = find(tree.source, tree.generated, unit)
        words = tree.flags(path) if path else None
        if words is not None:
            name = unit.replace("/", "_").removesuffix(".c")
            write_flags(out, name, words)
            if prefixes.begins_with_osdep(path):
                shared.add(name, words, kind)
            yield name, path, kind


def plan_included(tree, out, shared):
    for name, unit in INCLUDED.items():
        path = tree.source / unit
        words = tree.flags(path) if path.exists() else None
        if words is None:
            raise headers.HeaderError(f"{path} is missing, or the build folder does not compile it")
        write_flags(out, f"unit-{name}",
                    [*words, "-iquote", str(path.parent), f'-DPAGEWISE_UNIT="{path}"'])
        if prefixes.begins_with_osdep(HERE.parent / f"unit-{name}.c", path):
            shared.add(f"unit-{name}", words, "covered")
        yield name


def plan_adapter(tree, shared):
    for name in ADAPTER:
        if prefixes.begins_with_osdep(HERE.parent / f"{name}.c"):
            shared.add(name, tree.flags(tree.source / probes.RAM), "hot")


def plan_prefixes(out, shared):
    """Lines for CMake; the flags are written."""
    numbers = []
    for number, words, kind, names in shared.shared():
        write_flags(out, f"prefix-{number}", words)
        numbers.append(number)
        yield f"set(QEMU_TREE_KIND_prefix-{number} {kind})\n"
        yield from (f"set(QEMU_TREE_PREFIX_{name} {number})\n" for name in names)
    yield cmake_list("QEMU_TREE_PREFIXES", numbers)


def cmake_list(name, values):
    return f"set({name}" + "".join(f'\n  "{value}"' for value in values) + ")\n"


def write_plan(out, version, units, included, shared, answers, inputs):
    text = f'set(QEMU_TREE_VERSION "{version}")\n'
    text += cmake_list("QEMU_TREE_UNITS", [name for name, _, _ in units])
    for name, path, kind in units:
        text += f'set(QEMU_TREE_FILE_{name} "{path}")\n'
        text += f"set(QEMU_TREE_KIND_{name} {kind})\n"
    text += cmake_list("QEMU_TREE_INCLUDED", included)
    text += "".join(plan_prefixes(out, shared))
    text += cmake_list("QEMU_TREE_TARGETS", [stem for stem in probes.TARGETS
                                             if not probes.missing(answers, stem)])
    text += cmake_list("QEMU_TREE_INPUTS", inputs)
    headers.write_if_changed(out / "plan.cmake", text)


def configure(options):
    steps = Steps()
    source, out = options.source.resolve(), options.out.resolve()
    if not (source / "migration" / "ram.c").exists() or not (source / "VERSION").exists():
        raise headers.HeaderError(f"{source} is no QEMU source tree: it has no migration/ram.c")
    version = (source / "VERSION").read_text().strip()
    inputs = [source / "VERSION"]
    if options.build:
        database = options.build / "compile_commands.json"
        if not database.exists():
            raise headers.HeaderError(f"{options.build} is no configured build folder of QEMU: it "
                                      "has no compile_commands.json")
        tree = flags.BuildFolder(source, options.build.resolve())
    else:
        folders = {Path(unit).parent for unit, _ in neighbours()}
        folders |= {Path(unit).parent for unit in INCLUDED.values()}
        inputs += headers.generate(source, out / "generated", version, folders)
        steps.done("headers")
        tree = flags.BareTree(source, out / "generated")
    inputs += tree.inputs()
    answers, asked = probes.ask(shlex.split(options.cc), tree)
    steps.done("probes")
    if not answers["MAPPED_RAM"]:
        raise headers.HeaderError(f"QEMU {version} in {source} has no mapped-ram: there is no "
                                  "parse_ramblock_mapped_ram in migration/ram.c (9.0 is the "
                                  "first that has)")
    headers.write_if_changed(out / "probes.h", probes.header(answers))
    headers.write_if_changed(out / "prefix.h", '#include "qemu/osdep.h"\n')
    shared = prefixes.Prefixes()
    units = list(plan_units(tree, out, shared))
    included = list(plan_included(tree, out, shared))
    plan_adapter(tree, shared)
    # How each file begins is part of the plan.
    inputs += [*asked, *(path for _, path, _ in units)]
    write_plan(out, version, units, included, shared, answers, inputs)
    steps.done("plan")

    print(f"QEMU {version} in {source}, flags from "
          f"{options.build if options.build else 'its meson.build files'}:")
    for line in probes.table(answers):
        print(line)
    print("  " + ", ".join(f"{name} {seconds:.1f} s" for name, seconds in steps.seconds.items())
          + f"; {len(units)} files of the tree are linked beside {len(INCLUDED)} that are included")


def main():
    parser = argparse.ArgumentParser(description="Plans how a QEMU tree is built in")
    parser.add_argument("--source", type=Path, required=True)
    parser.add_argument("--build", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cc", required=True, help="the compiler, with its flags")
    options = parser.parse_args()
    try:
        configure(options)
    except (headers.HeaderError, probes.TreeDoesNotCompile) as error:
        print(f"qemu-tree: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Makes one object of the tree's files, the adapter, and stubs for all the rest.

    link.py --subject FUNCTION --out FILE.o --cc COMPILER --ld LINKER --objcopy PROGRAM
            --libraries FLAGS [--weaken SYMBOL] OBJECT...

Links the objects once to learn what is missing, makes a stub for each name, and
joins them all: a function reports a gap of the harness and aborts, data lies in a page
that nobody may touch, states of trace events are zero. In the result no symbol
is global but the subject's function, so that neither another tree nor the
reference loader, which has QEMU's names, meets it.
"""

import argparse
import re
import shlex
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

UNDEFINED = re.compile(r"undefined symbol: (\S+)")
# Coverage has tens of thousands of records, which nothing refers to.
SHARED = re.compile(r"^COMDAT group section .* \[((?!__covrec_)\S+)\] contains", re.MULTILINE)
RELOCATION = re.compile(r"R_X86_64_(\S+)\s+\S+\s+(\S+)")


class LinkError(Exception):
    """The message has the linker's words."""


def run(command):
    result = subprocess.run([str(word) for word in command], capture_output=True, text=True,
                            check=False)
    if result.returncode != 0:
        raise LinkError(f"{' '.join(map(str, command[:4]))} ... failed:\n"
                        f"{(result.stderr or result.stdout).strip()[:4000]}")
    return result


def weakened(options, scratch):
    """The objects; those of the tree that have a --weaken symbol as weak copies."""
    # Sections of one name are joined: the weak function would be kept with that in its place.
    flags = [flag for name in options.weaken for flag in
             (f"--weaken-symbol={name}", "--rename-section", f".text.{name}=.text.unused.{name}")]
    for path in map(Path, options.objects):
        if flags and "physmem" in path.name:
            copy = scratch / path.name
            run([options.objcopy, *flags, path, copy])
            path = copy
        yield path


def missing_symbols(options, objects, scratch):
    """What the program would lack, without what nothing reaches."""
    command = [*options.cc, f"-fuse-ld={options.ld}", *objects, *options.libraries, "-nostartfiles",
               "-Wl,--gc-sections", f"-Wl,-e,{options.subject}", "-Wl,--error-limit=0",
               "-Wl,--warn-unresolved-symbols", "-o", scratch / "trial"]
    result = run(command)
    return sorted(set(UNDEFINED.findall(result.stderr)))


def called_functions(objects):
    """Names that something calls; other names are data, or addresses alone."""
    text = run(["readelf", "-rW", *objects]).stdout
    return {name for kind, name in RELOCATION.findall(text) if kind == "PLT32"}


def stub_source(functions, data, states):
    lines = [".text"]
    for number, name in enumerate(functions):
        lines += [f".globl {name}", f".type {name},@function",
                  f"{name}: leaq .Lname{number}(%rip), %rdi", " jmp pagewise_gap"]
    lines.append(".section .rodata")
    lines += [f'.Lname{number}: .asciz "{name}"' for number, name in enumerate(functions)]
    lines += [".globl pagewise_data_stub_names", "pagewise_data_stub_names:"]
    lines += [f' .asciz "{name}"' for name in data]
    lines += [" .byte 0", '.section .pagewise_data_stubs,"ax",@progbits', ".balign 4096",
              ".globl pagewise_data_stubs", "pagewise_data_stubs:"]
    for name in data:
        lines += [f".globl {name}", f"{name}: .skip 4096"]
    lines += [".globl pagewise_data_stubs_end", "pagewise_data_stubs_end: .skip 4096", ".bss"]
    for name in states:
        lines += [f".globl {name}", f"{name}: .skip 8"]
    lines.append('.section .note.GNU-stack,"",@progbits')
    return "\n".join(lines) + "\n"


def make_stubs(options, names, calls, scratch):
    states = [name for name in names if re.fullmatch(r"_?TRACE_\w+_DSTATE", name)]
    functions = [name for name in names if name in calls and name not in states]
    data = [name for name in names if name not in calls and name not in states]
    source, stubs = scratch / "stubs.s", scratch / "stubs.o"
    source.write_text(stub_source(functions, data, states))
    run([*options.cc, "-c", source, "-o", stubs])
    return stubs, functions, data


def own_names(options, whole, scratch):
    """
    Flags that give what is shared between objects names of our own. Another object's copy, of an
    inline function's counters say, would be left out for ours, which is no global symbol.
    """
    names = scratch / "names"
    shared = sorted(set(SHARED.findall(run(["readelf", "-gW", whole]).stdout)))
    names.write_text("".join(f"{name} {name}.{options.subject}\n" for name in shared))
    return [f"--redefine-syms={names}"] if shared else []


def link(options):
    began = time.monotonic()
    scratch = options.out.parent / (options.out.stem + ".link")
    scratch.mkdir(parents=True, exist_ok=True)
    linker = "ld.lld" if options.ld == "lld" else options.ld
    objects, whole = list(weakened(options, scratch)), scratch / "whole.o"
    with ThreadPoolExecutor() as pool:
        calls = pool.submit(called_functions, objects)
        names = missing_symbols(options, objects, scratch)
    stubs, functions, data = make_stubs(options, names, calls.result(), scratch)
    run([linker, "-r", *objects, stubs, "-o", whole])
    run([options.objcopy, f"--keep-global-symbol={options.subject}",
         *own_names(options, whole, scratch), whole, options.out])
    print(f"qemu-tree: stubs for {len(functions)} functions and {len(data)} data of other parts "
          f"of QEMU; joined in {time.monotonic() - began:.1f} s")


def main():
    parser = argparse.ArgumentParser(description="Joins a tree's objects into one")
    parser.add_argument("--subject", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cc", type=shlex.split, required=True)
    parser.add_argument("--ld", default="lld")
    parser.add_argument("--objcopy", required=True)
    parser.add_argument("--libraries", type=shlex.split, required=True)
    parser.add_argument("--weaken", action="append", default=[])
    parser.add_argument("objects", nargs="+")
    try:
        link(parser.parse_args())
    except LinkError as error:
        print(f"qemu-tree: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

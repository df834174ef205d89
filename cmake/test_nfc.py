# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests `ninja nfc` on pairs of real trees of QEMU.

    test_nfc.py --source DIR --tree QEMU-TREE --scratch DIR [--seconds N] [PAIR...]

Each pair is the tree against a copy of it that is edited here, built and run as
a user does it. The edits are ours; nothing of QEMU is in this file but names.

 same       nothing is edited: no difference
 zeroing    a load clears the pages that are not in the file, as newer versions do
            for loadvm: RAM differs
 split      the loader in a header stage and a pages stage, as the series does that
            this project was founded on: each difference that it makes is found
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

LOADER = "parse_ramblock_mapped_ram"

# What the pages stage of a split loader looks like: it knows used_length alone.
PAGES_STAGE = """
static void NAME_pages(QEMUFile *f, RAMBlock *block, ram_addr_t length, Error **errp)
{
    if (!block->file_bmap) {
        return;
    }
    if (read_ramblock_mapped_ram(f, block, length / TARGET_PAGE_SIZE, block->file_bmap, errp)) {
        qemu_set_offset(f, block->pages_offset + length, SEEK_SET);
    }
    g_free(block->file_bmap);
    block->file_bmap = NULL;
}

static void NAME(QEMUFile *f, RAMBlock *block, ram_addr_t length, Error **errp)
{
    Error *err = NULL;

    NAME_header(f, block, length, &err);
    if (err) {
        error_propagate(errp, err);
        return;
    }
    NAME_pages(f, block, length, errp);
}
""".replace("NAME", LOADER)

CLEARING = """
    memset(block->host, 0, MIN(length, block->used_length));
"""


class EditError(Exception):
    """The tree is not as the edit expects it."""


def function_span(text, name):
    """Where the definition of a static function begins and ends."""
    match = re.search(r"^static [^;{}]*\b" + name + r"\([^;{}]*\)\n\{", text, re.MULTILINE)
    if not match:
        raise EditError(f"there is no {name}()")
    end = text.index("\n}\n", match.end()) + len("\n}\n")
    return match.start(), end


def edit_same(text):
    return text


def edit_zeroing(text):
    start, end = function_span(text, LOADER)
    body = text[start:end]
    at = re.search(r"\n *if \(!read_ramblock_mapped_ram\(", body)
    if not at:
        raise EditError("the loader does not call read_ramblock_mapped_ram()")
    return text[:start] + body[:at.start()] + CLEARING + body[at.start():] + text[end:]


def edit_split(text):
    start, end = function_span(text, LOADER)
    body = text[start:end].replace(LOADER + "(", LOADER + "_header(", 1)
    at = re.search(r"\n *if \(!read_ramblock_mapped_ram\(", body)
    if not at:
        raise EditError("the loader does not call read_ramblock_mapped_ram()")
    body = body[:at.start()] + "\n}\n"
    body = re.sub(r"\n *g_autofree unsigned long \*bitmap = NULL;", "", body)
    body = re.sub(r"\bbitmap\b(?! *of)", "block->file_bmap", body)
    # The message keeps its words, and a bitmap that was not read is not kept.
    body = body.replace("dirty block->file_bmap", "dirty bitmap")
    body = re.sub(r'(error_setg\(errp, "Error reading dirty bitmap"\);)',
                  r"\1 g_free(block->file_bmap); block->file_bmap = NULL;", body)
    return text[:start] + body + PAGES_STAGE + text[end:]


# What must be among what is printed; for 'same' there is none.
PAIRS = {
    "same": (edit_same, []),
    "zeroing": (edit_zeroing, [r"they differ in block|writes the page; it begins with 00 00 00"]),
    "split": (edit_split, [
        # More pages are looked for than the bitmap that was read has bits.
        r"DIFFERENCE on the reproducer of page-size-other",
        # No bitmap, hence no pages stage: the stream does not go on behind the pages.
        r"DIFFERENCE on|they differ in"]),
}


def run(command, **options):
    result = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    return result.returncode, result.stdout + result.stderr


def configure(options):
    """A copy of the tree, and a build folder of both; what is wrong, or None."""
    shutil.rmtree(options.copy, ignore_errors=True)
    shutil.copytree(options.tree, options.copy, symlinks=True,
                    ignore=shutil.ignore_patterns(".git", "tests", "roms", "pc-bios", "docs"))
    status, output = run(["cmake", "--preset", "dev", "-B", options.build,
                          f"-DQEMU_SRC={options.copy}", f"-DQEMU_BASE={options.tree}",
                          f"-DFUZZ_SECONDS={options.seconds}"], cwd=options.source)
    return f"cannot be configured:\n{output}" if status != 0 else None


def test_pair(options, name):
    """None, or what is wrong. Only what the edit changes is built anew."""
    edit, expected = PAIRS[name]
    ram = options.copy / "migration" / "ram.c"
    ram.write_text(edit((options.tree / "migration" / "ram.c").read_text()))
    # Minimised inputs of an earlier pair are none of this one.
    shutil.rmtree(options.build / "fuzz", ignore_errors=True)
    _, output = run(["ninja", "-C", options.build, "nfc"],
                    env=dict(os.environ, FUZZ_SECONDS=str(options.seconds)))
    print(output)
    if not expected:
        return None if "nfc: no difference" in output else "a tree differs from itself"
    missing = [pattern for pattern in expected if not re.search(pattern, output)]
    return f"not found: {missing}" if missing else None


def main():
    parser = argparse.ArgumentParser(prog="test_nfc.py", description=__doc__.split("\n")[0])
    parser.add_argument("--source", type=Path, required=True)
    parser.add_argument("--tree", type=Path, required=True)
    parser.add_argument("--scratch", type=Path, required=True)
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("pairs", nargs="*", choices=[[], *PAIRS], metavar="PAIR")
    options = parser.parse_args()
    options.tree = options.tree.resolve()
    options.scratch = options.scratch.resolve()
    options.scratch.mkdir(parents=True, exist_ok=True)
    options.copy, options.build = options.scratch / "tree", options.scratch / "build"
    problem = configure(options)
    if problem:
        print(f"test-nfc: {problem}")
        return 1
    wrong = 0
    for name in options.pairs or PAIRS:
        problem = test_pair(options, name)
        print(f"test-nfc: {name}: {problem or 'ok'}", flush=True)
        wrong += problem is not None
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

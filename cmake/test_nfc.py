# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests `ninja nfc` on pairs of real trees of QEMU.

    test_nfc.py --build DIR --ram FILE [--seconds N] [PAIR...]

DIR is a build folder of pagewise with QEMU_SRC and QEMU_BASE: two copies of one
tree. FILE is migration/ram.c of the one that QEMU_SRC names: each pair is an edit
of it, built and run as a user does it. In the end FILE is as it was. The edits
are ours; nothing of QEMU is in this file but names.

 same       nothing is edited: no difference
 message    a message has other words: the texts differ, and nothing else does
 zeroing    a load clears the pages that are not in the file, or leaves them as they
            are where it cleared them: RAM differs, and nothing else does
 split      the loader in a header stage and a pages stage, as the series does that
            this project was founded on: every difference is one of those known

A difference has to be told of a minimised input, as text.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

LOADER = "parse_ramblock_mapped_ram"
CLEARS = "handle_zero_mapped_ram"
MESSAGE = "region has bad alignment"
# Of an input (property/input.h): what is no longer leaves out all that it can.
HEADER_BYTES = 24

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


def edit_message(text):
    if MESSAGE not in text:
        raise EditError(f"there is no message '{MESSAGE}'")
    return text.replace(MESSAGE, "region is not aligned")


def before_the_pages(body):
    """Where in the loader's @body the pages are read."""
    at = re.search(r"\n *if \(!read_ramblock_mapped_ram\(", body)
    if not at:
        raise EditError("the loader does not call read_ramblock_mapped_ram()")
    return at.start()


def edit_zeroing(text):
    if f"bool {CLEARS}(" in text:
        start, end = function_span(text, CLEARS)
        body = text[start:end].replace("\n{\n", "\n{\n    return true;\n", 1)
    else:
        start, end = function_span(text, LOADER)
        body = text[start:end]
        at = before_the_pages(body)
        body = body[:at] + CLEARING + body[at:]
    return text[:start] + body + text[end:]


def edit_split(text):
    start, end = function_span(text, LOADER)
    body = text[start:end].replace(LOADER + "(", LOADER + "_header(", 1)
    body = body[:before_the_pages(body)] + "\n}\n"
    body = re.sub(r"\n *g_autofree unsigned long \*bitmap = NULL;", "", body)
    body = re.sub(r"\bbitmap\b(?! *of)", "block->file_bmap", body)
    # The message keeps its words, and a bitmap that was not read is not kept.
    body = body.replace("dirty block->file_bmap", "dirty bitmap")
    body = re.sub(r'(error_setg\(errp, "Error reading dirty bitmap"\);)',
                  r"\1 g_free(block->file_bmap); block->file_bmap = NULL;", body)
    return text[:start] + body + PAGES_STAGE + text[end:]


class Pair:
    """@kinds: what a difference is, by a pattern; each is to be found. @unclear: one that
    cannot be told from @kinds; no other is allowed. @lines: what either side may do
    that the other does not, beside the verdict."""

    def __init__(self, edit, kinds, lines="", unclear="^$"):
        self.edit = edit
        self.kinds = kinds
        self.lines = lines
        self.unclear = unclear

    def problems(self, difference):
        name = difference.partition("\n")[0]
        if not any(re.search(pattern, difference)
                   for pattern in (*self.kinds.values(), self.unclear)):
            yield f"no explanation for the difference on {name}"
        for line in re.findall(r"^    ([^( .].*)$", difference, re.MULTILINE):
            if not re.match(f"accepts|refuses|dies|{self.lines}", line):
                yield f"{name}: '{line}'"


TEXTS = r"base:\n    refuses .*bad alignment.*\n.*\n?  the series:\n    refuses .*not aligned"

PAIRS = {
    "same": Pair(edit_same, {}),
    "message": Pair(edit_message, {"text": TEXTS}),
    "zeroing": Pair(edit_zeroing, {"RAM": r"\n    block '"}, "block '"),
    "split": Pair(edit_split, {
        # Bits are counted by the header's page_size, pages by the target's.
        "page_size": r"is not the target's page size|of (page-size-other|run-beyond-block)\n",
        # A bitmap of no bytes is NULL: "not read" to the pages stage, which goes nowhere.
        "no bitmap": r"\nreads 0 bytes|of (pages-offset-loop|used-length-overflow)\n",
    }, ".", r"rule C5|x-ignore-shared on"),  # where QEMU goes on, and the model does not
}


def run(build, seconds):
    result = subprocess.run(["ninja", "-C", build, "nfc"], stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, text=True, errors="replace", check=False,
                            env=dict(os.environ, FUZZ_SECONDS=str(seconds)))
    return result.stdout


def base_record(build, name):
    """What the base does with an input that the fuzzer kept, in full."""
    for path in (build / "fuzz").glob(f"nfc-*/findings/{name}"):
        return subprocess.run([build / "bin" / "nfc-record", "base", path, "--repaired"],
                              capture_output=True, text=True, errors="replace",
                              check=False).stdout
    return ""


def differences(build, output):
    """Each with the input's text and the base's record, where it has them."""
    parts = re.split(r"\nnfc: (DIFFERENCE on )?", output)
    for before, mark, part in zip(parts[::2], parts[1::2], parts[2::2]):
        if mark:
            # What `pagewise replay` says of an input stands at the end of the part before.
            told = part.partition("\n/")[0] + "\n" + before.rpartition("/findings/")[2]
            yield told + "\n" + base_record(build, part.partition("\n")[0])


def kept_inputs(build, output):
    """What is wrong with the inputs that the fuzzer kept: each is small, and told of."""
    for folder in sorted((build / "fuzz").glob("nfc-*")):
        found = [path.stat().st_size for path in (folder / "artifacts").glob("crash-*")]
        for path in (folder / "findings").glob("*"):
            if HEADER_BYTES < path.stat().st_size >= max(found):
                yield f"not minimised: {path.name}"
            if f"nfc: DIFFERENCE on {path.name}\n" not in output:
                yield f"not told of: {path.name}"


def test_pair(options, name, original):
    """What is wrong, one by one. Only what the edit changes is built anew."""
    pair = PAIRS[name]
    options.ram.write_text(pair.edit(original))
    # Minimised inputs of an earlier pair are none of this one.
    for folder in (options.build / "fuzz").glob("nfc-*"):
        shutil.rmtree(folder)
    output = run(options.build, options.seconds)
    found = list(differences(options.build, output))
    problems = [problem for difference in found for problem in pair.problems(difference)]
    problems += [f"not found: {kind}" for kind, pattern in pair.kinds.items()
                 if not any(re.search(pattern, difference) for difference in found)]
    verdict = "nfc: there are differences" if pair.kinds else "nfc: no difference"
    if verdict not in output:
        problems.append(f"it did not say '{verdict}'")
    problems += kept_inputs(options.build, output)
    print(f"test-nfc: {name}: {len(found)} differences; {len(problems)} problems", flush=True)
    if problems:
        print(output)
    return problems


def main():
    parser = argparse.ArgumentParser(prog="test_nfc.py", description=__doc__.split("\n")[0])
    parser.add_argument("--build", type=Path, required=True)
    parser.add_argument("--ram", type=Path, required=True)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("pairs", nargs="*", choices=[[], *PAIRS], metavar="PAIR")
    options = parser.parse_args()
    original = options.ram.read_text()
    wrong = []
    try:
        for name in options.pairs or PAIRS:
            wrong += [f"{name}: {problem}" for problem in test_pair(options, name, original)]
    finally:
        options.ram.write_text(original)
    print("\n".join(f"test-nfc: {problem}" for problem in wrong))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

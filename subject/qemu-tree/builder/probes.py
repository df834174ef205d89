# SPDX-License-Identifier: GPL-2.0-or-later
"""What a tree has: asked of the compiler, one run for each file.

A question is a few lines of C behind the file itself; it is answered 'no' if the
compiler has an error in those lines. The answers become PAGEWISE_HAVE_* for the
adapter, and the table that a user sees.
"""

import re
import subprocess
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor

Question = namedtuple("Question", "macro unit what symbol code")

RAM, SAVEVM = "migration/ram.c", "migration/savevm.c"
POSTCOPY, MULTIFD = "migration/postcopy-ram.c", "migration/multifd.c"


def symbol(name):
    return f"void *pagewise_p(void); void *pagewise_p(void) {{ return (void *)&{name}; }}"


def member(struct, name):
    return f"int pagewise_p[sizeof(((struct {struct} *)0)->{name}) ? 1 : -1];"


def call(expression):
    return f"void pagewise_p(void); void pagewise_p(void) {{ (void)({expression}); }}"


def has(macro, unit, what, name):
    return Question(macro, unit, what, name, symbol(name))


QUESTIONS = (
    has("MAPPED_RAM", RAM, "mapped-ram", "parse_ramblock_mapped_ram"),
    has("PARSE_RAMBLOCK", RAM, "one block", "parse_ramblock"),
    Question("PARSE_RAMBLOCK_ERRP", RAM, None, "parse_ramblock",
             call("parse_ramblock((QEMUFile *)0, (RAMBlock *)0, 0, (Error **)0)")),
    # No compiler can tell what is checked: that is asked of the text.
    Question("PAGE_SIZE_CHECKED", RAM, "page_size checked", "header.page_size != ...",
             re.compile(r"header(\.|->)page_size\s*[!=]=|[!=]=\s*header(\.|->)page_size")),
    # Likewise: in which order. Is the address of X1 read before the mapped-ram header?
    Question("BLOCK_ADDRESS", RAM, None, "migrate_ignore_shared()",
             re.compile(r"\nstatic int parse_ramblock\([^;{]*\)\n\{\n(?:(?!\n\}\n).)*?"
                        r"migrate_ignore_shared\(\)(?:(?!\n\}\n).)*?parse_ramblock_mapped_ram\(",
                        re.DOTALL)),
    has("HEADER_STAGE", RAM, "header stage", "parse_ramblock_mapped_ram_header"),
    has("PAGES_STAGE", RAM, "pages stage", "parse_ramblock_mapped_ram_pages"),
    has("ZEROING", RAM, "loadvm clears pages", "handle_zero_mapped_ram"),
    Question("PENDING_BMAP", RAM, "pending_bmap", "RAMBlock.pending_bmap",
             member("RAMBlock", "pending_bmap")),
    # No file under test includes it; a tree without it has no such type.
    Question("TARGET_INFO_PAGE_BITS", RAM, None, "TargetInfo.page_bits_init",
             '#if __has_include("qemu/target-info-impl.h")\n'
             '#include "qemu/target-info-impl.h"\n#endif\n'
             + member("TargetInfo", "page_bits_init")),
    Question("IGNORED_RENAMED", RAM, None, "migrate_ram_is_ignored",
             symbol("migrate_ram_is_ignored")),
    has("LOADVM_STATE", SAVEVM, "the whole stream", "qemu_loadvm_state"),
    Question("LOADVM_STATE_ERRP", SAVEVM, None, "qemu_loadvm_state",
             call("qemu_loadvm_state((QEMUFile *)0, (Error **)0)")),
    Question("LOADVM_CLEANUP_MIS", SAVEVM, None, "qemu_loadvm_state_cleanup",
             call("qemu_loadvm_state_cleanup((MigrationIncomingState *)0)")),
    has("FAULT_THREAD", POSTCOPY, "fault thread", "postcopy_ram_fault_thread"),
    has("INCOMING_SETUP", POSTCOPY, "its set-up", "postcopy_ram_incoming_setup"),
    Question("INCOMING_INIT_ERRP", POSTCOPY, None, "postcopy_ram_incoming_init",
             call("postcopy_ram_incoming_init((MigrationIncomingState *)0, (Error **)0)")),
    Question("INCOMING_SETUP_ERRP", POSTCOPY, None, "postcopy_ram_incoming_setup",
             call("postcopy_ram_incoming_setup((MigrationIncomingState *)0, (Error **)0)")),
    Question("PAGE_FAULT_HANDLER", POSTCOPY, "page_fault_handler",
             "MigrationIncomingState.page_fault_handler",
             member("MigrationIncomingState", "page_fault_handler")),
    has("UFFD_SETUP", POSTCOPY, "uffd_setup_incoming", "uffd_setup_incoming"),
    Question("UFFD_SETUP_HANDLER", POSTCOPY, "its signature: (mis, handler, channels)",
             "uffd_setup_incoming",
             call("uffd_setup_incoming((MigrationIncomingState *)0, 0, 1)")),
    Question("REQUEST_TID", POSTCOPY, None, "migrate_send_rp_req_pages",
             call("migrate_send_rp_req_pages(0, 0, 0, 0, 0)")),
    has("FILE_LAZY", POSTCOPY, "fault thread loads from the file",
        "postcopy_mapped_ram_load_page"),
    has("EAGER_THREAD", POSTCOPY, "eager thread", "postcopy_ram_eager_load_setup"),
    has("MULTIFD_RECV", MULTIFD, "multifd", "multifd_recv_new_channel"),
)

# What each fuzz target cannot do without.
TARGETS = {
    "header": ("PARSE_RAMBLOCK",),
    "layout": ("LOADVM_STATE",),
    "lazy": ("LOADVM_STATE", "FAULT_THREAD", "INCOMING_SETUP"),
    "stream": ("LOADVM_STATE",),
}

# No error but the questions' own may count, and each of these has to be one.
STRICT = ["-Wno-everything", "-ferror-limit=0", "-fsyntax-only",
          "-Werror=implicit-function-declaration", "-Werror=incompatible-pointer-types",
          "-Werror=int-conversion"]


class TreeDoesNotCompile(Exception):
    """The message is the compiler's own."""


def ask_unit(compiler, tree, unit, questions):
    """Returns {macro: bool}, and the files that were read."""
    path = tree.source / unit
    flags = tree.flags(path) if path.exists() else None
    if flags is None:
        return {question.macro: False for question in questions}, []
    code = [f'#include "{path}"']
    asked = [question for question in questions if isinstance(question.code, str)]
    for question in asked:
        renamed = question.code.replace("pagewise_p", f"pagewise_{question.macro}")
        code += [f'#line 1 "pagewise-{question.macro}"', renamed]
    result = subprocess.run(
        [*compiler, *flags, "-iquote", str(path.parent), *STRICT, "-x", "c", "-"],
        input="\n".join(code) + "\n", capture_output=True, text=True, check=False)
    wrong = set()
    for line in result.stderr.splitlines():
        match = re.match(r"(.*?):\d+:\d+: (fatal )?error: ", line)
        if not match:
            continue
        if not match[1].startswith("pagewise-"):
            raise TreeDoesNotCompile(f"{path} does not compile:\n{result.stderr.strip()}")
        wrong.add(match[1][len("pagewise-"):])
    if result.returncode and not wrong:
        raise TreeDoesNotCompile(f"{path} does not compile:\n{result.stderr.strip()}")
    answers = {question.macro: question.macro not in wrong for question in asked}
    text = path.read_text()
    answers.update((question.macro, bool(question.code.search(text)))
                   for question in questions if question not in asked)
    return answers, [path]


def ask(compiler, tree):
    """Returns {macro: bool} for all questions, and the files that were looked at."""
    units = dict.fromkeys(question.unit for question in QUESTIONS)
    answers, inputs = {}, []
    with ThreadPoolExecutor() as pool:
        jobs = [pool.submit(ask_unit, compiler, tree, unit,
                            [q for q in QUESTIONS if q.unit == unit]) for unit in units]
        for job in jobs:
            some, paths = job.result()
            answers.update(some)
            inputs += paths
    return answers, inputs


def missing(answers, stem):
    """Symbols that the target @stem would need."""
    return [question.symbol for question in QUESTIONS
            if question.macro in TARGETS[stem] and not answers[question.macro]]


def header(answers):
    lines = ["/* What the tree has: made by builder/probes.py. */"]
    lines += [f"#define PAGEWISE_HAVE_{macro} {int(answer)}" for macro, answer in answers.items()]
    return "\n".join(lines) + "\n"


def table(answers):
    """Lines for a person: what there is, and by which symbol one can tell."""
    for question in QUESTIONS:
        if question.what:
            yes = "yes" if answers[question.macro] else "no"
            yield f"  {question.what:41} {yes:4} {question.symbol} ({question.unit})"
    for stem in TARGETS:
        names = missing(answers, stem)
        if names:
            yield (f"  SKIP qemu-tree-{stem}: this tree has no {', '.join(names)}; remedy: a tree "
                   "that has")

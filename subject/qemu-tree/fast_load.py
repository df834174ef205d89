# SPDX-License-Identifier: GPL-2.0-or-later
"""Puts a lazy load from the file into a copy of a QEMU tree that has none, for tests and benches.

    build(TREE, WORK, SOURCE, CMAKE, PROGRAM..., forgets=False)

What it puts there is ours, and simple; of QEMU's own fast snapshot load (after
11.1) it has the names and the shape: pending_bmap, a fault thread that reads the
page itself, an eager thread for the rest. So the adapter's entry point for such
trees can be tried before a release has one. Each edit fails loudly where the tree
is not as it expects. With @forgets it has the bug that QEMU's own has in 11.1.50, the
finding fast-load-lost-fault, for the test that it is found.
"""

import os
import re
import shutil
import subprocess

SET_UP = """
    if (migrate_mapped_ram() && migrate_postcopy_ram()) {
        RAMBlock *rb;

        RAMBLOCK_FOREACH_NOT_IGNORED(rb) {
            unsigned long pages = rb->max_length >> TARGET_PAGE_BITS;

            rb->file_bmap = bitmap_new(pages);
            rb->pending_bmap = bitmap_new(pages);
            bitmap_set(rb->pending_bmap, 0, pages);
        }
    }
"""

CLEAN_UP = """
        g_clear_pointer(&rb->pending_bmap, g_free);
        g_clear_pointer(&rb->file_bmap, g_free);
"""

KEEP_BITMAP = """
    if (migrate_postcopy_ram()) {
        if (num_pages > 0) {
            bitmap_copy(block->file_bmap, bitmap,
                        MIN(num_pages, (long)(block->max_length >> TARGET_PAGE_BITS)));
        }
        qemu_set_offset(f, block->pages_offset + length, SEEK_SET);
        return;
    }
"""

LOAD = """
static bool postcopy_mapped_ram_load_page(MigrationIncomingState *mis, RAMBlock *rb,
                                          ram_addr_t offset, uint64_t address, int channel,
                                          Error **errp)
{
    size_t size = qemu_target_page_size();
    void *buffer = mis->postcopy_tmp_pages[channel].tmp_huge_page;
    long page = offset / size;

    if (!bitmap_test_and_clear_atomic(rb->pending_bmap, page, 1)) {
        return true;
    }
    if (!test_bit(page, rb->file_bmap)) {
        if (postcopy_place_page_zero(mis, (void *)(uintptr_t)address, rb) == 0) {
            return true;
        }
    } else if (qemu_get_buffer_at(mis->from_src_file, buffer, size,
                                  rb->pages_offset + offset) == size &&
               postcopy_place_page(mis, (void *)(uintptr_t)address, buffer, rb) == 0) {
        return true;
    }
    error_setg(errp, "page %ld of block %s cannot be loaded", page, rb->idstr);
    return false;
}

static int load_on_fault(MigrationIncomingState *mis, RAMBlock *rb, ram_addr_t offset,
                         uint64_t address)
{
    Error *error = NULL;

    if (!postcopy_mapped_ram_load_page(mis, rb, offset, address & -qemu_target_page_size(),
                                       RAM_CHANNEL_POSTCOPY, &error)) {
        error_report_err(error);
        FAIL_THE_LOAD
    }
    return 0;
}

static int load_block(RAMBlock *rb, void *opaque)
{
    MigrationIncomingState *mis = opaque;
    Error *error = NULL;

    for (ram_addr_t at = 0; at < rb->used_length; at += qemu_target_page_size()) {
        if (!postcopy_mapped_ram_load_page(mis, rb, at, (uintptr_t)rb->host + at,
                                           RAM_CHANNEL_PRECOPY, &error)) {
            error_report_err(error);
            return -1;
        }
        WAIT_FOR_CLAIM
    }
    return 0;
}

static void *load_all(void *opaque)
{
    MigrationIncomingState *mis = opaque;
    bool failed;

    rcu_register_thread();
    SAY_THAT_IT_RUNS
    failed = foreach_not_ignored_block(load_block, mis);
    migrate_set_state(&mis->state, MIGRATION_STATUS_POSTCOPY_ACTIVE,
                      failed ? MIGRATION_STATUS_FAILED : MIGRATION_STATUS_COMPLETED);
    rcu_unregister_thread();
    return NULL;
}

void postcopy_ram_eager_load_setup(MigrationIncomingState *mis)
{
    postcopy_thread_create(mis, &mis->eager_load_thread, "load-all", load_all,
                           QEMU_THREAD_JOINABLE);
    mis->have_eager_load_thread = true;
}

"""

# What a loader that forgets has not.
CARE = {
    "FAIL_THE_LOAD": """migrate_set_state(&mis->state, MIGRATION_STATUS_POSTCOPY_ACTIVE,
                          MIGRATION_STATUS_FAILED);""",
    # The fault thread may have claimed the page, and not know yet that it cannot be read.
    "WAIT_FOR_CLAIM": """while (!ramblock_recv_bitmap_test_byte_offset(rb, at)) {
            if (qatomic_read(&mis->state) != MIGRATION_STATUS_POSTCOPY_ACTIVE) {
                return -1;
            }
            g_usleep(10);
        }""",
}

# File, by its names in older and newer trees: (pattern, what takes its place), each once.
EDITS = {
    "include/exec/ramblock.h include/system/ramblock.h": [
        (r"    unsigned long \*file_bmap;\n", r"\g<0>    unsigned long *pending_bmap;\n")],
    "migration/migration.h": [
        (r"    bool +have_fault_thread;\n",
         r"\g<0>    bool have_eager_load_thread;\n    QemuThread eager_load_thread;\n")],
    "migration/postcopy-ram.h": [
        (r"\n#endif\s*$",
         "\nvoid postcopy_ram_eager_load_setup(MigrationIncomingState *mis);\n\\g<0>")],
    "migration/ram.c": [
        (r"    ramblock_recv_map_init\(\);\n", r"\g<0>" + SET_UP),
        (r"        g_free\(rb->receivedmap\);\n", CLEAN_UP + r"\g<0>"),
        (r"\n    if \(!read_ramblock_mapped_ram\(", KEEP_BITMAP + r"\g<0>")],
    "migration/postcopy-ram.c": [
        (r"static void \*postcopy_ram_fault_thread\(void \*opaque\)\n\{", LOAD + r"\g<0>"),
        (r"if \(!mis->to_src_file\)", "if (!migrate_mapped_ram() && !mis->to_src_file)"),
        (r"if \(migrate_postcopy_preempt\(\)\) \{(?=\s*/\* If preemption)",
         "if (migrate_postcopy_preempt() || migrate_mapped_ram()) {"),
        (r"ret = postcopy_request_page\(",
         "ret = migrate_mapped_ram() ? load_on_fault(mis, rb, rb_offset, "
         "msg.arg.pagefault.address) : postcopy_request_page(")],
}

# How a thread says that it runs: a semaphore in older trees, an event in newer ones.
RUNS = re.compile(r"qemu_(sem_post|event_set)\(&mis->thread_sync_\w+\);")

# Of a user's tree, not of QEMU's: they may be large.
NOT_COPIED = re.compile(r"\.git|build.*")


def edited(tree, names, forgets):
    """The file of one of @names: its name, and its text after the edits."""
    name = next((name for name in names.split() if (tree / name).exists()), names)
    path = tree / name
    if not path.exists():
        raise ValueError(f"{tree}: there is no {' or '.join(names.split())}")
    text = path.read_text()
    for pattern, replacement in EDITS[names]:
        text, count = re.subn(pattern, replacement, text)
        if count != 1:
            raise ValueError(f"{path}: {count} places like '{pattern}', and not one")
    for word, care in CARE.items():
        text = text.replace(word, "" if forgets else care)
    runs = RUNS.search(text)
    if runs:
        text = text.replace("SAY_THAT_IT_RUNS", runs[0])
    return name, text


def files_of(tree):
    """Names of all files and links, below @tree."""
    for folder, folders, names in os.walk(tree):
        if folder == str(tree):
            folders[:] = [name for name in folders if not NOT_COPIED.fullmatch(name)]
        links = [name for name in folders if os.path.islink(os.path.join(folder, name))]
        yield from (os.path.relpath(os.path.join(folder, name), tree) for name in names + links)


def is_same(path, other):
    if not os.path.lexists(other):
        return False
    first, second = path.lstat(), other.lstat()
    return (first.st_size, first.st_mtime_ns) == (second.st_size, second.st_mtime_ns)


def copy_file(path, to):
    to.parent.mkdir(parents=True, exist_ok=True)
    to.unlink(missing_ok=True)
    shutil.copy2(path, to, follow_symlinks=False)


def copy_edited(tree, copy, forgets):
    """Makes @copy an edited @tree; what is as it was keeps its time: no need to build it anew."""
    texts = dict(edited(tree, names, forgets) for names in EDITS)
    names = set(files_of(tree))
    if copy.exists():
        for name in set(files_of(copy)) - names:
            (copy / name).unlink()
    for name in names - set(texts):
        if not is_same(tree / name, copy / name):
            copy_file(tree / name, copy / name)
    for name, text in texts.items():
        path = copy / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text() != text:
            path.write_text(text)


def build(tree, work, source, cmake, *programs, forgets=False):
    """Programs on an edited copy of @tree; their paths. ValueError: the tree is not as expected."""
    copy, folder = work / "qemu", work / "build"
    copy_edited(tree, copy, forgets)
    result = subprocess.run([cmake, "--preset", "dev", "-S", source, "-B", folder,
                             f"-DQEMU_SRC={copy}"], cwd=source, stdout=subprocess.PIPE, text=True,
                            check=False)
    print(result.stdout, flush=True)
    if result.returncode or not re.search("fault thread loads from the file +yes", result.stdout):
        raise ValueError(f"{copy}: it is not taken for a tree that loads lazily from the file")
    subprocess.run(["ninja", "-C", folder, *(f"bin/{name}" for name in programs)], check=True)
    return [folder / "bin" / name for name in programs]

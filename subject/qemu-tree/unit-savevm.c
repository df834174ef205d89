/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The tree's migration/savevm.c, whole: the stream around the RAM section is
 * walked by QEMU's own code. Two things are not as in QEMU, since device state
 * is outside of docs/mapped-ram-format.md: the walk is complete at the first
 * section that is not RAM's (rule T4), and of commands there is only the one
 * that snapshots have (rules T2 and T2a).
 */
#include "qemu/osdep.h"

#include "migration/qemu-file-types.h"
#include "qemu-file.h"
#include "savevm.h"

#include "subject/qemu-tree/adapter.h"

/* MIG_CMD_SWITCHOVER_START; and 0, which is no command. */
#define COMMAND_SWITCHOVER_START 11
#define COMMAND_INVALID 0

/* One load at a time: this is its state. */
static struct {
    SubjectLoad *load; /* borrowed */
    bool complete;
    bool in_command;
} walk;

static size_t get_section_name(QEMUFile *file, char name[256])
{
    size_t length = qemu_get_counted_string(file, name);

    if (!qemu_file_get_error(file) && strcmp(name, "ram") != 0) {
        walk.complete = true;
    }
    return length;
}

/* A command is two such words: what, and how long. */
static unsigned get_command_word(QEMUFile *file)
{
    unsigned word = qemu_get_be16(file);

    walk.in_command = !walk.in_command;
    return walk.in_command && word != COMMAND_SWITCHOVER_START ? COMMAND_INVALID : word;
}

/*
 * The stream's end: QEMU looks for a VM description behind it, and means to
 * go on whatever comes of that. So no read fails there that has not before, and
 * none gives anything: it would be up to 4 GiB that are not RAM's (rule T5).
 * Where another byte is read by this (a footer's mark, the configuration's, the
 * length of a capability's name), 0 is refused.
 */
static int get_section_type(QEMUFile *file)
{
    int type = qemu_get_byte(file);

    if (type == QEMU_VM_EOF && !qemu_file_get_error(file)) {
        tree_channel_at_end(walk.load);
    }
    return type;
}

#define qemu_get_byte(file) get_section_type(file)
#define qemu_get_counted_string(file, name) get_section_name(file, name)
#define qemu_get_be16(file) get_command_word(file)

#include PAGEWISE_UNIT

int tree_savevm_load(SubjectLoad *load, QEMUFile *file, Error **errp, bool *complete)
{
    int status;

    memset(&walk, 0, sizeof(walk));
    walk.load = load;
#if PAGEWISE_HAVE_LOADVM_STATE_ERRP
    status = qemu_loadvm_state(file, errp);
#else
    status = qemu_loadvm_state(file);
#endif
    *complete = walk.complete;
    return status;
}

void tree_savevm_cleanup(void)
{
    /* A section that only an earlier load has started is unknown, as in a fresh QEMU. */
    for (SaveStateEntry *se = QTAILQ_FIRST(&savevm_state.handlers); se;
         se = QTAILQ_NEXT(se, entry)) {
        se->load_section_id = 0;
    }
    /* A refused configuration leaves these; QEMU ends then, and we go on. */
    g_clear_pointer((void **)&savevm_state.name, g_free);
    g_clear_pointer(&savevm_state.capabilities, g_free);
    savevm_state.len = 0;
    savevm_state.caps_count = 0;
#if PAGEWISE_HAVE_LOADVM_CLEANUP_MIS
    qemu_loadvm_state_cleanup(migration_incoming_get_current());
#else
    qemu_loadvm_state_cleanup();
#endif
}

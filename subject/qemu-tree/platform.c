/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What stands around the loader: a machine, an incoming migration, guest RAM
 * as a list of RAMBlocks. What QEMU sets up once for a process is set up once
 * (main(), migration_object_init()); what it sets up for an incoming migration
 * is set up for each load.
 */
#include "qemu/osdep.h"

#if __has_include("hw/core/boards.h")
#include "hw/core/boards.h"
#else
#include "hw/boards.h"
#endif
#if __has_include("system/ramblock.h")
#include "system/ramblock.h"
#else
#include "exec/ramblock.h"
#endif
#if __has_include("system/ramlist.h")
#include "system/ramlist.h"
#else
#include "exec/ramlist.h"
#endif
#if __has_include("system/memory.h")
#include "system/memory.h"
#else
#include "exec/memory.h"
#endif
#if __has_include("system/runstate.h")
#include "system/runstate.h"
#else
#include "sysemu/runstate.h"
#endif
#include "exec/page-vary.h"
#include "exec/target_page.h"
#include "migration/misc.h"
#include "qapi/error.h"
#include "qemu/cutils.h"
#include "qemu/module.h"
#include "qemu/rcu.h"
#include "qemu/rcu_queue.h"
#include "qom/object.h"

#include "migration.h"
#include "multifd.h"
#include "postcopy-ram.h"
#include "ram.h"

#include "subject/qemu-tree/adapter.h"

#if PAGEWISE_HAVE_TARGET_INFO_PAGE_BITS
#include "qemu/target-info-impl.h"
#endif

/* What RAMBlock.pages_offset is until a record of the block's was read. */
#define NO_RECORD UINT64_MAX

#define STACK_BYTES (256 << 10)

/* Of x86-64. */
#define PAGE_BITS 12

#define TYPE_OUR_MACHINE "pagewise-machine"

#if !PAGEWISE_HAVE_TARGET_INFO_PAGE_BITS
void finalize_target_page_bits_common(int bits) __attribute__((weak));
#endif

static MigrationState migration;
static MigrationIncomingState incoming;
static RAMBlock blocks[GUEST_MAX_BLOCKS];
static MemoryRegion regions[GUEST_MAX_BLOCKS];
static unsigned n_blocks;
static RunState run_state;
static MachineState *machine;

MachineState *current_machine __attribute__((weak));

MigrationState *migrate_get_current(void)
{
    return &migration;
}

MigrationIncomingState *migration_incoming_get_current(void)
{
    return &incoming;
}

bool runstate_check(RunState state)
{
    return state == run_state;
}

RunState runstate_get(void)
{
    return run_state;
}

/* The first error stays; threads of multifd's may say theirs. */
void migrate_set_error(MigrationState *state, const Error *error)
{
    QEMU_LOCK_GUARD(&state->error_mutex);
    if (!state->error) {
        state->error = error_copy(error);
    }
}

/* The same in newer trees, which take the error. */
void migrate_error_propagate(MigrationState *state, Error *error);
void migrate_error_propagate(MigrationState *state, Error *error)
{
    migrate_set_error(state, error);
    error_free(error);
}

bool migrate_has_error(MigrationState *state)
{
    return qatomic_read(&state->error);
}

Object *qdev_get_machine(void)
{
    return OBJECT(machine);
}

/*
 * As the tree's system/physmem.c has it for guest RAM, but for what tells the
 * rest of the machine (dirty bitmaps, memory regions), of which there is none.
 * The tree's own is made weak by builder/link.py.
 */
int qemu_ram_resize(RAMBlock *block, ram_addr_t length, Error **errp)
{
    uint64_t host_page = getpagesize();

    length = ROUND_UP(length, host_page);
    if (length == block->used_length) {
        return 0;
    }
    if (!(block->flags & RAM_RESIZEABLE)) {
        error_setg(errp, "Size mismatch: %s: 0x%" PRIx64 " != 0x%" PRIx64, block->idstr,
                   (uint64_t)length, (uint64_t)block->used_length);
        return -EINVAL;
    }
    if (length > block->max_length) {
        error_setg(errp, "Size too large: %s: 0x%" PRIx64 " > 0x%" PRIx64, block->idstr,
                   (uint64_t)length, (uint64_t)block->max_length);
        return -EINVAL;
    }
    block->used_length = length;
    return 0;
}

static const TypeInfo machine_types[] = {
    {
        .name = TYPE_MACHINE,
        .parent = TYPE_OBJECT,
        .abstract = true,
        .instance_size = sizeof(MachineState),
        .class_size = sizeof(MachineClass),
    },
    {
        .name = TYPE_OUR_MACHINE,
        .parent = TYPE_MACHINE,
    },
};
DEFINE_TYPES(machine_types)

/*
 * QEMU's threads come and go with each lazy load; a sanitizer prepares, and
 * gives back, what belongs to every byte of a stack.
 */
static void make_stacks_small(void)
{
    pthread_attr_t attributes;

    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    pthread_setattr_default_np(&attributes);
    pthread_attr_destroy(&attributes);
}

#if PAGEWISE_HAVE_TARGET_INFO_PAGE_BITS
/* As target-info-stub.c has it, which would want the whole CPU. */
const TargetInfo *target_info(void)
{
    static const TargetInfo x86_64 = {
        .target_name = "x86_64",
        .target_arch = SYS_EMU_TARGET_X86_64,
        .long_bits = 64,
        .cpu_type = "x86_64-cpu",
        .machine_typename = TYPE_MACHINE,
        .endianness = ENDIAN_MODE_LITTLE,
        .page_bits_init = PAGE_BITS,
    };

    return &x86_64;
}

static void decide_page_size(void)
{
    finalize_target_page_bits();
}
#else
static void decide_page_size(void)
{
    if (finalize_target_page_bits_common) {
        finalize_target_page_bits_common(PAGE_BITS);
    }
}
#endif

void tree_platform_init(void)
{
    make_stacks_small();
    decide_page_size();
    if (qemu_target_page_size() != 1 << PAGE_BITS) {
        /* Each guest would be none of this tree's: nothing loaded, and nothing found wrong. */
        pagewise_gap("target page size");
    }
    module_call_init(MODULE_INIT_QOM);
    module_call_init(MODULE_INIT_MIGRATION);
    rcu_register_thread();
    qemu_mutex_init(&ram_list.mutex);

    machine = (MachineState *)object_new(TYPE_OUR_MACHINE);
    machine->smp.cpus = 1;
    current_machine = machine;

    migration.send_configuration = true;
    migration.send_section_footer = true;
    qemu_mutex_init(&migration.error_mutex);
    qemu_event_init(&incoming.main_thread_load_event, false);
    incoming.userfault_fd = -1;
    tree_fault_init();
    tree_ram_register();
}

/* QEMU always knows its machine's name: "any" is whatever the file says. */
static void set_machine_name(const SubjectLoad *load)
{
    static char name[256];
    uint8_t length[4];

    if (load->guest->machine[0]) {
        pstrcpy(name, sizeof(name), load->guest->machine);
    } else {
        sparse_file_read(load->file, 9, length, sizeof(length));
        memset(name, 0, sizeof(name));
        sparse_file_read(load->file, 13, name, MIN(ldl_be_p(length), sizeof(name) - 1));
    }
    MACHINE_GET_CLASS(machine)->name = name;
}

static void set_capabilities(const SubjectLoad *load)
{
    memset(migration.capabilities, 0, sizeof(migration.capabilities));
    migration.capabilities[MIGRATION_CAPABILITY_MAPPED_RAM] = true;
    migration.capabilities[MIGRATION_CAPABILITY_X_IGNORE_SHARED] = load->guest->x_ignore_shared;
}

static void set_up_block(unsigned index, const GuestBlock *guest, const SubjectBlock *subject)
{
    RAMBlock *block = &blocks[index];

    memset(block, 0, sizeof(*block));
    block->mr = &regions[index];
    block->host = subject->host;
    /* Far enough from each other; nobody looks at it but to tell them apart. */
    block->offset = (ram_addr_t)index << 36;
    block->used_length = guest->used_length;
    block->postcopy_length = guest->used_length;
    block->max_length = guest->max_length;
    block->page_size = guest->host_page_size;
    block->flags = RAM_MIGRATABLE;
    if (guest->max_length > guest->used_length) {
        block->flags |= RAM_RESIZEABLE;
    }
    block->fd = -1;
    block->pages_offset = NO_RECORD;
    block->guest_memfd = -1;
    pstrcpy(block->idstr, sizeof(block->idstr), guest->idstr);
}

void tree_platform_begin(SubjectLoad *load)
{
    n_blocks = load->guest->n_blocks;
    run_state = load->guest->clear_pages ? RUN_STATE_RESTORE_VM : RUN_STATE_INMIGRATE;
    set_machine_name(load);
    set_capabilities(load);
    g_clear_pointer(&migration.error, error_free);
    memset(incoming.last_recv_block, 0, sizeof(incoming.last_recv_block));
    qemu_event_reset(&incoming.main_thread_load_event);
    ram_list.mru_block = NULL;
    QLIST_INIT(&ram_list.blocks);
    for (unsigned i = n_blocks; i-- > 0;) {
        set_up_block(i, &load->guest->blocks[i], &load->blocks[i]);
        QLIST_INSERT_HEAD_RCU(&ram_list.blocks, &blocks[i], next);
    }
}

RAMBlock *tree_platform_block(unsigned index)
{
    return &blocks[index];
}

void tree_platform_leave_out(unsigned index)
{
    QLIST_REMOVE_RCU(&blocks[index], next);
}

/* The bitmap has words of @pages bits, rounded up; what is beyond is cut off. */
static uint64_t *copy_bitmap(const unsigned long *bitmap, uint64_t pages)
{
    uint64_t words = DIV_ROUND_UP(pages, 64);
    uint64_t *copy = g_memdup2(bitmap, words * sizeof(*copy));

    if (pages % 64) {
        copy[words - 1] &= (UINT64_C(1) << pages % 64) - 1;
    }
    return copy;
}

void tree_platform_give_blocks(SubjectLoad *load)
{
    for (unsigned i = 0; i < n_blocks; i++) {
        SubjectBlock *to = &load->blocks[i];

        to->used_length = blocks[i].used_length;
        to->in_file = blocks[i].pages_offset != NO_RECORD;
        to->pages_offset = blocks[i].pages_offset;
        if (load->stages == SUBJECT_HEADERS && blocks[i].file_bmap) {
            to->file_bmap =
                copy_bitmap(blocks[i].file_bmap, load->used_length / qemu_target_page_size());
        }
    }
}

void tree_platform_end(void)
{
    for (unsigned i = 0; i < n_blocks; i++) {
        g_clear_pointer(&blocks[i].file_bmap, g_free);
        g_clear_pointer(&blocks[i].receivedmap, g_free);
#if TREE_LOADS_LAZILY
        g_clear_pointer(&blocks[i].pending_bmap, g_free);
#endif
    }
    QLIST_INIT(&ram_list.blocks);
    ram_list.mru_block = NULL;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The tree's migration/postcopy-ram.c, whole: its own fault thread, with its
 * own set-up and cleanup. What it asks the source for comes to
 * tree_source_request(), in place of a message over the return path. Where the
 * tree reads pages from the file by itself, its eager thread is here as well.
 */
/* Called for each page that was placed: word of it goes to the property, too. */
#define ramblock_recv_bitmap_set_range tree_received
#define qemu_thread_create tree_thread_create
#define qemu_thread_join tree_thread_join

#include PAGEWISE_UNIT

#undef ramblock_recv_bitmap_set_range

#include "migration/misc.h"
#include "qemu/error-report.h"
#include "qemu/rcu.h"

#include "subject/qemu-tree/adapter.h"

/* Only ever compared with NULL: there is a return path. */
static QEMUFile *const return_path = (QEMUFile *)&incoming_postcopy_state;

static gint compare_addresses(gconstpointer a, gconstpointer b)
{
    return ((uintptr_t)a > (uintptr_t)b) - ((uintptr_t)a < (uintptr_t)b);
}

void tree_fault_init(void)
{
    MigrationIncomingState *mis = migration_incoming_get_current();

    /* As migration_object_init(). */
    mis->postcopy_remote_fds = g_array_new(FALSE, TRUE, sizeof(struct PostCopyFD));
    mis->page_requested = g_tree_new(compare_addresses);
    qemu_mutex_init(&mis->rp_mutex);
    qemu_mutex_init(&mis->postcopy_prio_thread_mutex);
    qemu_mutex_init(&mis->page_request_mutex);
    qemu_cond_init(&mis->page_request_cond);
    qemu_sem_init(&mis->postcopy_pause_sem_dst, 0);
    qemu_sem_init(&mis->postcopy_pause_sem_fault, 0);
    qemu_sem_init(&mis->postcopy_pause_sem_fast_load, 0);
    qemu_sem_init(&mis->postcopy_qemufile_dst_done, 0);
    mis->largest_page_size = qemu_real_host_page_size();
    postcopy_infrastructure_init();
}

static int call_setup(MigrationIncomingState *mis, Error **errp)
{
#if PAGEWISE_HAVE_INCOMING_INIT_ERRP
    if (postcopy_ram_incoming_init(mis, errp)) {
        return -1;
    }
#else
    if (postcopy_ram_incoming_init(mis)) {
        return -1;
    }
#endif
#if PAGEWISE_HAVE_INCOMING_SETUP_ERRP
    return postcopy_ram_incoming_setup(mis, errp);
#else
    return postcopy_ram_incoming_setup(mis);
#endif
}

void ramblock_recv_bitmap_set_range(RAMBlock *block, void *host, size_t n);

void tree_received(RAMBlock *block, void *host, size_t n)
{
    MigrationIncomingState *mis = migration_incoming_get_current();

    ramblock_recv_bitmap_set_range(block, host, n);
    tree_page_placed(block, host, qemu_thread_is_self(&mis->fault_thread));
}

bool tree_fault_begin(QEMUFile *file)
{
    MigrationIncomingState *mis = migration_incoming_get_current();
    MigrationState *migration = migrate_get_current();
    Error *error = NULL;

    /* With mapped-ram newer trees read pages from the file. */
    migration->capabilities[MIGRATION_CAPABILITY_MAPPED_RAM] = file != NULL;
    migration->capabilities[MIGRATION_CAPABILITY_POSTCOPY_RAM] = true;
    mis->from_src_file = file;
    mis->to_src_file = file ? NULL : return_path;
    mis->fault_thread_quit = false;
    mis->page_requested_count = 0;
    mis->state = MIGRATION_STATUS_POSTCOPY_ACTIVE;
    postcopy_state_set(POSTCOPY_INCOMING_LISTENING);
    if (call_setup(mis, &error) == 0) {
        return true;
    }
    if (error) {
        error_report_err(error);
    }
    tree_fault_end();
    return false;
}

bool tree_fault_end(void)
{
    MigrationIncomingState *mis = migration_incoming_get_current();
    bool ended = postcopy_ram_incoming_cleanup(mis) == 0;

    mis->to_src_file = NULL;
    postcopy_state_set(POSTCOPY_INCOMING_NONE);
    return ended;
}

#if TREE_LOADS_LAZILY
void tree_fault_announce(void)
{
    migrate_get_current()->capabilities[MIGRATION_CAPABILITY_POSTCOPY_RAM] = true;
}

void tree_eager_begin(void)
{
    MigrationIncomingState *mis = migration_incoming_get_current();

    /* As qemu_loadvm_run_fast_snapshot_load(), but for the CPUs. */
    postcopy_state_set(POSTCOPY_INCOMING_RUNNING);
    postcopy_ram_eager_load_setup(mis);
}

bool tree_eager_end(void)
{
    MigrationIncomingState *mis = migration_incoming_get_current();

    /* As postcopy_incoming_cleanup(). */
    qemu_thread_join(&mis->eager_load_thread);
    mis->have_eager_load_thread = false;
    mis->from_src_file = NULL;
    return mis->state == MIGRATION_STATUS_COMPLETED;
}
#endif

/* What was asked for and has not come; at the end there is none. */
unsigned tree_fault_requests(void)
{
    return qatomic_read(&migration_incoming_get_current()->page_requested_count);
}

int tree_fault_place(RAMBlock *block, void *host, void *from)
{
    MigrationIncomingState *mis = migration_incoming_get_current();

    return from ? postcopy_place_page(mis, host, from, block)
                : postcopy_place_page_zero(mis, host, block);
}

bool tree_fault_received(RAMBlock *block, uint64_t offset)
{
    return ramblock_recv_bitmap_test_byte_offset(block, offset);
}

/* As migrate_send_rp_req_pages() keeps the list of what was asked for; then the source has it. */
static int request(MigrationIncomingState *mis, RAMBlock *block, ram_addr_t start, uint64_t address)
{
    void *host = (void *)(uintptr_t)ROUND_DOWN(address, qemu_ram_pagesize(block));

    WITH_QEMU_LOCK_GUARD(&mis->page_request_mutex)
    {
        if (ramblock_recv_bitmap_test_byte_offset(block, start)) {
            return 0;
        }
        if (!g_tree_lookup(mis->page_requested, host)) {
            g_tree_insert(mis->page_requested, host, (gpointer)1);
            qatomic_inc(&mis->page_requested_count);
        }
    }
    return tree_source_request(block, start);
}

#if PAGEWISE_HAVE_REQUEST_TID
int migrate_send_rp_req_pages(MigrationIncomingState *mis, RAMBlock *block, ram_addr_t start,
                              uint64_t address, uint32_t tid)
#else
int migrate_send_rp_req_pages(MigrationIncomingState *mis, RAMBlock *block, ram_addr_t start,
                              uint64_t address)
#endif
{
    return request(mis, block, start, address);
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The subject "reference", set_up: snapshot_load_start() and _end(), or
 * uffd_setup_incoming() alone, with the real table of operations.
 */
#include "subject/setup.h"

#include "loader/snapshot-load.h"
#include "subject/reference.h"
#include "subject/sparse-reader.h"

typedef struct ReferenceSetup {
    SparseReader reader;
    RAMBlock blocks[GUEST_MAX_BLOCKS];
    MigrationIncomingState mis;
} ReferenceSetup;

static bool load_whole(ReferenceSetup *self, SubjectSetup *setup, GError **error)
{
    SnapshotLoadOptions options = {
        .map_fd = setup->map_fd,
        .eager_thread = setup->eager_thread,
    };
    SnapshotLoad *load = snapshot_load_start(&self->mis, &options, NULL, error);

    if (!load) {
        return false;
    }
    setup->running(setup);
    return snapshot_load_end(load, error);
}

static int give_zero_page(MigrationIncomingState *mis, RAMBlock *rb, ram_addr_t offset,
                          void *fault_address)
{
    uint64_t page = offset / rb->page_size;

    (void)fault_address;
    if (ramblock_recv_bitmap_test(rb, page)) {
        postcopy_answer_again(mis, rb, page);
        return 0;
    }
    if (!claim_page(rb, page)) {
        return 0;
    }
    if (postcopy_place_pages(mis, LAZY_FAULT_THREAD, rb, page, 1, NULL) < 0) {
        postcopy_give_up_pages(mis, LAZY_FAULT_THREAD, rb, page, 1);
        return -1;
    }
    return 0;
}

/* No operation fails in the fault thread. */
static void never_fails(MigrationIncomingState *mis, bool ends, GError *error)
{
    (void)mis;
    g_error("the fault thread failed%s: %s", ends ? " and ends" : "", error->message);
}

static bool set_up_uffd(ReferenceSetup *self, SubjectSetup *setup, GError **error)
{
    for (unsigned i = 0; i < self->mis.n_blocks; i++) {
        RAMBlock *rb = &self->blocks[i];

        if (!ram_block_lazy_start(rb, rb->used_length - rb->used_length % rb->page_size, error)) {
            return false;
        }
    }
    self->mis.fault_thread_failed = never_fails;
    if (!uffd_setup_incoming(&self->mis, give_zero_page, setup->channels, error)) {
        return false;
    }
    setup->running(setup);
    return uffd_cleanup_incoming(&self->mis, error);
}

static const char *find_stale(const MigrationIncomingState *mis)
{
    const struct {
        bool stale;
        const char *field;
    } fields[] = {
        { mis->userfault_fd != -1, "userfault_fd" },
        { mis->userfault_event_fd != -1, "userfault_event_fd" },
        { mis->have_fault_thread, "have_fault_thread" },
        { mis->have_install_lock, "have_install_lock" },
        { mis->postcopy_channels != 0, "postcopy_channels" },
        { mis->postcopy_tmp_pages != NULL, "postcopy_tmp_pages" },
        { mis->postcopy_tmp_zero_page != NULL, "postcopy_tmp_zero_page" },
        { mis->page_fault_handler != NULL, "page_fault_handler" },
        { mis->page_fault_opaque != NULL, "page_fault_opaque" },
        { mis->fault_queue != NULL, "fault_queue" },
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(fields); i++) {
        if (fields[i].stale) {
            return fields[i].field;
        }
    }
    return NULL;
}

static void end_blocks(ReferenceSetup *self, SubjectSetup *setup)
{
    for (unsigned i = 0; i < self->mis.n_blocks; i++) {
        RAMBlock *rb = &self->blocks[i];

        setup->n_kept += rb->keep_registered;
        if (rb->registered && !rb->keep_registered) {
            setup->stale = "registered";
        }
        ram_block_clear(rb);
    }
}

SubjectStatus reference_set_up_lazily(SubjectSetup *setup, GError **error)
{
    ReferenceSetup self;
    bool ok;

    sparse_reader_init(&self.reader, setup->load.file, &setup->load.cost);
    reference_set_up(&setup->load, &self.reader.reader, self.blocks, &self.mis);
    for (unsigned i = 0; i < self.mis.n_blocks; i++) {
        self.blocks[i].shared = setup->shared[i];
    }
    self.mis.remove_events = setup->remove_events;
    self.mis.userfault_fd = -1;
    self.mis.userfault_event_fd = -1;
    ok = setup->channels > 0 ? set_up_uffd(&self, setup, error) : load_whole(&self, setup, error);
    setup->stale = find_stale(&self.mis);
    end_blocks(&self, setup);
    return ok ? SUBJECT_ACCEPTED : SUBJECT_REFUSED;
}

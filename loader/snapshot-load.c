/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The lazy load of a snapshot file; see snapshot-load.h. Two threads load: the
 * fault thread (snapshot_page_fault_handler()) and the eager thread. Who
 * claims a page (page-claims.h) settles it.
 *
 * UFFDIO_COPY reads straight from a mapping of the file. This file must never
 * touch that mapping itself: it may be shorter by now, and the kernel answers
 * EFAULT where we would die of SIGBUS. But the page of the mapping in which a
 * truncated file ends is filled up with zeroes, which is data lost in silence:
 * so the file's size is looked at before each copy, and once more at the end,
 * for a file that shrank between the look and the copy. Whatever COPY cannot
 * read is tried once more with pread(), which tells what is wrong.
 */
#include "loader/snapshot-load.h"

#include "loader/error.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

struct SnapshotLoad {
    MigrationIncomingState *mis; /* borrowed */
    int map_fd;                  /* borrowed; -1: none */
    uint8_t *map;                /* NULL: none */
    size_t map_length;
    pthread_mutex_t map_lock; /* to raise map_needed */
    uint64_t map_needed;      /* end of the last page copied from the mapping; atomic */
    bool have_eager_thread;
    pthread_t eager_thread;
    uint64_t last_fault; /* address of the page, 0: seen; atomic; of the eager thread */
    bool failed;         /* no further page is loaded; atomic */
    pthread_mutex_t error_lock;
    GError *first_error; /* under error_lock */
};

static const UffdOps *ops_of(const SnapshotLoad *self)
{
    return self->mis->uffd_ops ? self->mis->uffd_ops : uffd_ops_real();
}

/* The mapping of pages. */

static bool test_bit(const unsigned long *bitmap, uint64_t bit)
{
    return bitmap[bit / PAGES_PER_WORD] >> (bit % PAGES_PER_WORD) & 1;
}

static SnapshotSource source_of(const RAMBlock *rb, uint64_t first_bit, uint64_t n_bits)
{
    uint64_t set = count_bits(rb->file_bmap, first_bit, n_bits);

    if (set == 0) {
        return SNAPSHOT_ZERO;
    }
    return set == n_bits ? SNAPSHOT_FILE : SNAPSHOT_MIXED;
}

static void map_page(const RAMBlock *rb, uint64_t target_page_size, uint64_t page,
                     SnapshotPage *out)
{
    out->page = page;
    out->offset = page * rb->page_size;
    out->first_bit = out->offset / target_page_size;
    out->n_bits = MAX(1, rb->page_size / target_page_size);
    out->source = source_of(rb, out->first_bit, out->n_bits);
    out->file_offset = rb->pages_offset + out->offset;
}

/* Bytes from host that are whole host pages and in the file. */
static uint64_t length_of_whole_pages(const RAMBlock *rb)
{
    return rb->in_file && rb->file_bmap ? rb->used_length - rb->used_length % rb->page_size : 0;
}

bool snapshot_map_fault(const RAMBlock *blocks, unsigned n_blocks, uint64_t target_page_size,
                        uint64_t address, SnapshotPage *page, GError **error)
{
    for (unsigned i = 0; i < n_blocks; i++) {
        const RAMBlock *rb = &blocks[i];
        uint64_t start = (uintptr_t)rb->host;

        if (address >= start && address - start < rb->used_length &&
            address - start < length_of_whole_pages(rb)) {
            page->block = i;
            map_page(rb, target_page_size, (address - start) / rb->page_size, page);
            return true;
        }
    }
    g_set_error(error, MAPPED_RAM_ERROR, MAPPED_RAM_ERROR_MISMATCH,
                "address 0x%" PRIx64 " is in no whole page of a block that is in the file",
                address);
    return false;
}

/* Failure. */

/* Takes @error. @all: pages without content too. */
static void snapshot_fail(SnapshotLoad *self, LazyThread thread, bool all, GError *error)
{
    MigrationIncomingState *mis = self->mis;

    pthread_mutex_lock(&self->error_lock);
    if (self->first_error) {
        g_error_free(error);
    } else {
        self->first_error = error;
    }
    pthread_mutex_unlock(&self->error_lock);
    __atomic_store_n(&self->failed, true, __ATOMIC_RELEASE);
    for (unsigned i = 0; i < mis->n_blocks; i++) {
        if (mis->blocks[i].registered) {
            postcopy_give_up_block(mis, thread, &mis->blocks[i], all);
        }
    }
}

static bool has_failed(const SnapshotLoad *self)
{
    return __atomic_load_n(&self->failed, __ATOMIC_ACQUIRE);
}

static void snapshot_fault_thread_failed(MigrationIncomingState *mis, bool ends, GError *error)
{
    snapshot_fail(mis->page_fault_opaque, LAZY_FAULT_THREAD, ends, error);
    if (ends) {
        postcopy_end_faults(mis);
    }
}

/* Reading and placing. */

/* Reads @length bytes of the block's target pages at @offset. */
static bool read_pages(const SnapshotLoad *self, const RAMBlock *rb, uint64_t offset,
                       uint64_t length, uint8_t *buffer, GError **error)
{
    FieldAt at = {
        .block = rb->idstr,
        .field = "pages",
        .offset = rb->pages_offset + offset,
    };
    ssize_t result = file_reader_read_full(self->mis->reader, buffer, length, at.offset);

    if (result < 0) {
        return mapped_ram_refuse_field(error, MAPPED_RAM_ERROR_IO, NULL, at, "reading failed: %s",
                                       g_strerror((int)-result));
    }
    if ((uint64_t)result < length) {
        return mapped_ram_refuse_field(error, MAPPED_RAM_ERROR_TRUNCATED, "P1", at,
                                       "need 0x%" PRIx64 " bytes, but the file ends at 0x%" PRIx64,
                                       length, at.offset + (uint64_t)result);
    }
    return true;
}

/* Target pages from @offset on, up to @length bytes, by their bits. */
static bool assemble(const SnapshotLoad *self, const RAMBlock *rb, uint64_t offset, uint64_t length,
                     uint8_t *buffer, GError **error)
{
    uint64_t size = self->mis->target_page_size;

    for (uint64_t done = 0; done < length; done += size) {
        if (!test_bit(rb->file_bmap, (offset + done) / size)) {
            memset(buffer + done, 0, size);
        } else if (!read_pages(self, rb, offset + done, size, buffer + done, error)) {
            return false;
        }
    }
    return true;
}

/* Is all of the file up to @end still there? */
static bool mapping_reaches(SnapshotLoad *self, uint64_t end)
{
    struct stat status;
    uint64_t needed = __atomic_load_n(&self->map_needed, __ATOMIC_RELAXED);

    if (!self->map || end > self->map_length || fstat(self->map_fd, &status) < 0 ||
        (uint64_t)status.st_size < end) {
        return false;
    }
    if (needed < end) {
        pthread_mutex_lock(&self->map_lock);
        __atomic_store_n(&self->map_needed, MAX(self->map_needed, end), __ATOMIC_RELAXED);
        pthread_mutex_unlock(&self->map_lock);
    }
    return true;
}

typedef struct LoadRun {
    LazyThread thread;
    RAMBlock *rb;
    uint64_t page;
    uint64_t n_pages;
} LoadRun;

static bool place(SnapshotLoad *self, const LoadRun *run, const void *from, bool *unreadable,
                  GError **error)
{
    int result;

    lazy_point(self->mis, LAZY_POINT_READ, run->thread, run->rb, run->page);
    result = postcopy_place_pages(self->mis, run->thread, run->rb, run->page, run->n_pages, from);
    *unreadable = result == -EFAULT;
    if (result < 0) {
        g_set_error(error, MAPPED_RAM_ERROR, MAPPED_RAM_ERROR_NO_UFFD,
                    "block '%s': page 0x%" PRIx64 " and 0x%" PRIx64 " more cannot be placed: %s",
                    run->rb->idstr, run->page, run->n_pages - 1, g_strerror(-result));
    }
    return result == 0;
}

/*
 * Through the thread's temporary page, as much of the run at a time as fits.
 * What is settled by now, by a try from the mapping, is skipped there.
 */
static bool load_by_reading(SnapshotLoad *self, const LoadRun *run, bool mixed, GError **error)
{
    uint64_t size = run->rb->page_size;
    uint64_t at_once = MAX(1, self->mis->tmp_page_length / size);
    uint8_t *buffer = self->mis->postcopy_tmp_pages[run->thread].tmp_huge_page;
    bool unreadable;

    for (uint64_t done = 0; done < run->n_pages; done += at_once) {
        LoadRun part = *run;
        bool ok;

        part.page += done;
        part.n_pages = MIN(at_once, run->n_pages - done);
        ok = mixed
                 ? assemble(self, run->rb, part.page * size, part.n_pages * size, buffer, error)
                 : read_pages(self, run->rb, part.page * size, part.n_pages * size, buffer, error);
        if (!ok || !place(self, &part, buffer, &unreadable, error)) {
            return false;
        }
    }
    return true;
}

/*
 * Somewhere in the mapping the kernel takes a fault on behalf of COPY, which
 * costs more than a read() of one small page; in long runs it hardly counts.
 */
static bool pays_to_map(const LoadRun *run, uint64_t length)
{
    return run->thread != LAZY_FAULT_THREAD || length > SNAPSHOT_SMALL_READ;
}

/* Pages with all of their bits set. */
static bool load_file_pages(SnapshotLoad *self, const LoadRun *run, GError **error)
{
    uint64_t start = run->rb->pages_offset + run->page * run->rb->page_size;
    uint64_t length = run->n_pages * run->rb->page_size;
    bool unreadable = true;
    g_autoptr(GError) from_map = NULL;

    if (!pays_to_map(run, length) || !mapping_reaches(self, start + length)) {
        return load_by_reading(self, run, false, error);
    }
    if (place(self, run, self->map + start, &unreadable, &from_map)) {
        return true;
    }
    if (unreadable) {
        return load_by_reading(self, run, false, error);
    }
    g_propagate_error(error, g_steal_pointer(&from_map));
    return false;
}

/*
 * Who writes is given a page of his own at once. Of the kernel's page of zeroes
 * he would make a copy right away: a second fault, and the other CPUs that run
 * threads of this process would be told to forget the first.
 */
static bool load_zero_page(SnapshotLoad *self, const LoadRun *run, GError **error)
{
    const MigrationIncomingState *mis = self->mis;
    bool is_written = run->thread == LAZY_FAULT_THREAD && mis->fault_is_write;
    bool unreadable;

    return place(self, run, is_written ? mis->postcopy_tmp_zero_page : NULL, &unreadable, error);
}

static SnapshotSource source_of_page(const SnapshotLoad *self, const RAMBlock *rb, uint64_t page)
{
    SnapshotPage where;

    map_page(rb, self->mis->target_page_size, page, &where);
    return where.source;
}

/* How many pages of the run, from its first on, come from the same source? */
static uint64_t same_source(const SnapshotLoad *self, const LoadRun *run, SnapshotSource source)
{
    uint64_t n_pages = 1;

    while (n_pages < run->n_pages && source_of_page(self, run->rb, run->page + n_pages) == source) {
        n_pages++;
    }
    return n_pages;
}

static bool load_part(SnapshotLoad *self, const LoadRun *part, SnapshotSource source,
                      GError **error)
{
    switch (source) {
    case SNAPSHOT_ZERO:
        return load_zero_page(self, part, error);
    case SNAPSHOT_FILE:
        return load_file_pages(self, part, error);
    default:
        return load_by_reading(self, part, true, error);
    }
}

/* Claimed pages: afterwards all are settled, by their content or by poison. */
static bool load_run(SnapshotLoad *self, LoadRun run)
{
    GError *error = NULL;

    lazy_point(self->mis, LAZY_POINT_CLAIMED, run.thread, run.rb, run.page);
    while (run.n_pages > 0) {
        LoadRun part = run;
        SnapshotSource source = source_of_page(self, run.rb, run.page);

        part.n_pages = same_source(self, &run, source);
        if (has_failed(self) && source != SNAPSHOT_ZERO) {
            postcopy_give_up_pages(self->mis, run.thread, run.rb, run.page, run.n_pages);
            return false;
        }
        if (!load_part(self, &part, source, &error)) {
            postcopy_give_up_pages(self->mis, run.thread, run.rb, run.page, run.n_pages);
            snapshot_fail(self, run.thread, false, error);
            return false;
        }
        run.page += part.n_pages;
        run.n_pages -= part.n_pages;
    }
    return true;
}

/* Claims pages with content of the aligned @length bytes around @page. */
static bool load_around(SnapshotLoad *self, LazyThread thread, RAMBlock *rb, uint64_t page,
                        uint64_t length)
{
    uint64_t n_pages = MAX(1, length / rb->page_size);
    uint64_t word = page / PAGES_PER_WORD;
    uint64_t first = page % PAGES_PER_WORD / n_pages * n_pages;
    uint64_t window = (n_pages < PAGES_PER_WORD ? (UINT64_C(1) << n_pages) - 1 : ~UINT64_C(0))
                      << first;
    uint64_t claimed = claim_pages(rb, word, window & word_of_data(rb, word));

    while (claimed) {
        uint64_t start = (uint64_t)__builtin_ctzll(claimed);
        uint64_t rest = ~(claimed >> start);
        LoadRun run = {
            .thread = thread,
            .rb = rb,
            .page = word * PAGES_PER_WORD + start,
            .n_pages = rest ? (uint64_t)__builtin_ctzll(rest) : PAGES_PER_WORD,
        };

        claimed &= start + run.n_pages < PAGES_PER_WORD ? ~UINT64_C(0) << (start + run.n_pages) : 0;
        if (!load_run(self, run)) {
            postcopy_give_up_mask(self->mis, thread, rb, word, claimed);
            return false;
        }
    }
    return true;
}

/*
 * The page itself and no more, so that the next fault is not kept waiting; but
 * who touches a page touches its neighbours: those are the eager thread's next.
 */
static int snapshot_page_fault_handler(MigrationIncomingState *mis, RAMBlock *rb, ram_addr_t offset,
                                       void *fault_address)
{
    SnapshotLoad *self = mis->page_fault_opaque;
    LoadRun run = {
        .thread = LAZY_FAULT_THREAD,
        .rb = rb,
        .page = offset / rb->page_size,
        .n_pages = 1,
    };

    (void)fault_address;
    lazy_point(mis, LAZY_POINT_FAULT, LAZY_FAULT_THREAD, rb, run.page);
    if (ramblock_recv_bitmap_test(rb, run.page)) {
        postcopy_answer_again(mis, rb, run.page);
        return 0;
    }
    if (!claim_page(rb, run.page)) {
        /* Who has the claim settles it, and wakes. */
        return 0;
    }
    __atomic_store_n(&self->last_fault, (uintptr_t)rb->host + offset, __ATOMIC_RELAXED);
    return load_run(self, run) ? 0 : -1;
}

static void load_eagerly(SnapshotLoad *self, RAMBlock *rb, uint64_t page, uint64_t length)
{
    lazy_point(self->mis, LAZY_POINT_EAGER_NEXT, LAZY_EAGER_THREAD, rb, page);
    load_around(self, LAZY_EAGER_THREAD, rb, page, length);
}

static void load_around_last_fault(SnapshotLoad *self)
{
    uint64_t address = __atomic_exchange_n(&self->last_fault, 0, __ATOMIC_RELAXED);
    ram_addr_t offset;
    RAMBlock *rb = address ? ram_block_from_address(self->mis, address, &offset) : NULL;

    if (rb) {
        load_eagerly(self, rb, offset / rb->page_size, SNAPSHOT_FAULT_CLUSTER);
    }
}

static void load_rest_of_block(SnapshotLoad *self, RAMBlock *rb)
{
    uint64_t pages = ram_block_lazy_pages(rb);
    uint64_t page = 0;

    while (!has_failed(self) && (page = next_pending_data(rb, page)) < pages) {
        load_eagerly(self, rb, page, SNAPSHOT_EAGER_RUN);
        load_around_last_fault(self);
    }
}

/* Pages without content are left to whoever touches them, or to the end. */
static void *load_rest(void *opaque)
{
    SnapshotLoad *self = opaque;

    for (unsigned i = 0; i < self->mis->n_blocks; i++) {
        if (self->mis->blocks[i].lazy_length > 0) {
            load_rest_of_block(self, &self->mis->blocks[i]);
        }
    }
    return NULL;
}

/* Begin and end. */

/* Also loads the target pages that fill no host page. */
static bool start_block(SnapshotLoad *self, RAMBlock *rb, GError **error)
{
    uint64_t length;

    if (!rb->in_file) {
        return true;
    }
    if (!postcopy_check_block(rb, error)) {
        return false;
    }
    length = length_of_whole_pages(rb);
    return assemble(self, rb, length, rb->used_length - length, rb->host + length, error) &&
           (length == 0 || ram_block_lazy_start(rb, length, error));
}

static bool start_blocks(SnapshotLoad *self, GError **error)
{
    for (unsigned i = 0; i < self->mis->n_blocks; i++) {
        if (!start_block(self, &self->mis->blocks[i], error)) {
            return false;
        }
    }
    return true;
}

/* What cannot be mapped is read. */
static void map_file(SnapshotLoad *self)
{
    void *map;

    if (self->map_fd >= 0 && self->mis->reader->size > 0 && self->mis->reader->size <= SIZE_MAX &&
        ops_of(self)->map(ops_of(self), self->map_fd, self->mis->reader->size, PROT_READ, &map) >=
            0) {
        self->map = map;
        self->map_length = self->mis->reader->size;
    }
}

static bool start_eager_thread(SnapshotLoad *self, GError **error)
{
    int result = ops_of(self)->create_thread(ops_of(self), &self->eager_thread, load_rest, self);

    if (result < 0) {
        g_set_error(error, MAPPED_RAM_ERROR, MAPPED_RAM_ERROR_NO_MEMORY,
                    "the eager thread cannot be started: %s", g_strerror(-result));
        return false;
    }
    self->have_eager_thread = true;
    return true;
}

static void snapshot_load_free(SnapshotLoad *self)
{
    if (self->map) {
        ops_of(self)->unmap(ops_of(self), self->map, self->map_length);
    }
    g_clear_error(&self->first_error);
    pthread_mutex_destroy(&self->map_lock);
    pthread_mutex_destroy(&self->error_lock);
    self->mis->page_fault_opaque = NULL;
    self->mis->fault_thread_failed = NULL;
    g_free(self);
}

static bool start_lazy_part(SnapshotLoad *self, bool eager_thread, GError **error)
{
    MigrationIncomingState *mis = self->mis;

    if (!start_blocks(self, error)) {
        return false;
    }
    map_file(self);
    mis->page_fault_opaque = self;
    mis->fault_thread_failed = snapshot_fault_thread_failed;
    if (!uffd_setup_incoming(mis, snapshot_page_fault_handler, LAZY_N_CHANNELS, error)) {
        return false;
    }
    if (eager_thread && !start_eager_thread(self, error)) {
        uffd_cleanup_incoming(mis, NULL);
        return false;
    }
    return true;
}

static void forget_blocks(MigrationIncomingState *mis)
{
    for (unsigned i = 0; i < mis->n_blocks; i++) {
        ram_block_clear(&mis->blocks[i]);
        mis->blocks[i].used_length = mis->blocks[i].original_length;
    }
}

SnapshotLoad *snapshot_load_start(MigrationIncomingState *mis, const SnapshotLoadOptions *options,
                                  LoadSummary *summary, GError **error)
{
    SnapshotLoad *self;

    if (!mapped_ram_load(mis, LOAD_HEADERS_ONLY, summary, error)) {
        return NULL;
    }
    self = g_new0(SnapshotLoad, 1);
    self->mis = mis;
    self->map_fd = options->map_fd;
    pthread_mutex_init(&self->map_lock, NULL);
    pthread_mutex_init(&self->error_lock, NULL);
    if (!start_lazy_part(self, options->eager_thread, error)) {
        snapshot_load_free(self);
        forget_blocks(mis);
        return NULL;
    }
    return self;
}

void snapshot_load_wait(SnapshotLoad *load)
{
    if (load->have_eager_thread) {
        ops_of(load)->join_thread(ops_of(load), load->eager_thread);
        load->have_eager_thread = false;
    } else {
        load_rest(load);
    }
}

void snapshot_load_cancel(SnapshotLoad *load)
{
    snapshot_fail(load, LAZY_OTHER_THREAD, false,
                  g_error_new(MAPPED_RAM_ERROR, MAPPED_RAM_ERROR_IO, "the load was cancelled"));
}

/* A file that shrank right before a copy gave zeroes in place of data. */
static void check_size_at_end(SnapshotLoad *self)
{
    uint64_t needed = __atomic_load_n(&self->map_needed, __ATOMIC_RELAXED);

    if (needed > 0 && !mapping_reaches(self, needed)) {
        snapshot_fail(self, LAZY_EAGER_THREAD, false,
                      g_error_new(MAPPED_RAM_ERROR, MAPPED_RAM_ERROR_TRUNCATED,
                                  "the file got shorter than 0x%" PRIx64
                                  " bytes while it was loaded (rule P1)",
                                  needed));
    }
}

bool snapshot_load_end(SnapshotLoad *load, GError **error)
{
    g_autoptr(GError) cleanup = NULL;
    bool ok;

    snapshot_load_wait(load);
    lazy_point(load->mis, LAZY_POINT_BEFORE_QUIT, LAZY_OTHER_THREAD, NULL, 0);
    check_size_at_end(load);
    ok = uffd_cleanup_incoming(load->mis, &cleanup);
    if (load->first_error) {
        g_clear_error(&cleanup);
        cleanup = g_steal_pointer(&load->first_error);
        ok = false;
    }
    snapshot_load_free(load);
    if (!ok) {
        g_propagate_error(error, g_steal_pointer(&cleanup));
    }
    return ok;
}

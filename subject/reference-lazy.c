/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The lazy part of the subject "reference": loader/snapshot-load.h behind the
 * interface of lazy.h. The loader's code is as in production; what is done for
 * the property's sake, such as threads that are kept, failures, and word of
 * what happens, is all in the table of operations that it gets from here.
 */
#include "loader/snapshot-load.h"
#include "subject/kept-kernel.h"
#include "subject/kept-thread.h"
#include "subject/reference.h"
#include "subject/sparse-reader.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define N_LOADER_THREADS 2

/* In the order in which the loader creates them. */
static const SubjectPoint end_points[N_LOADER_THREADS] = { SUBJECT_POINT_FAULT_ENDS,
                                                           SUBJECT_POINT_EAGER_ENDS };

typedef struct ReferenceLazy ReferenceLazy;

typedef struct LoaderThread {
    ReferenceLazy *self;
    SubjectPoint end_point;
    KeptThread *thread;
    void *(*body)(void *);
    void *opaque;
} LoaderThread;

/* One session, and the load that runs in it. */
struct ReferenceLazy {
    UffdOps ops; /* first: the table is what the operations get */
    FileReader reader;
    SparseReader sparse;
    LoaderThread threads[N_LOADER_THREADS];
    unsigned n_created;
    KeptKernel *kernel;
    SubjectLazyLoad *property;
    SnapshotLoad *load; /* NULL: ended */
    MigrationIncomingState mis;
    RAMBlock blocks[GUEST_MAX_BLOCKS];
};

static ReferenceLazy *self_of(const UffdOps *ops)
{
    return (ReferenceLazy *)ops;
}

/* Where the loader is. */

static const SubjectPoint points[LAZY_N_POINTS] = {
    [LAZY_POINT_FAULT] = SUBJECT_POINT_FAULT,
    [LAZY_POINT_CLAIMED] = SUBJECT_POINT_CLAIMED,
    [LAZY_POINT_READ] = SUBJECT_POINT_READ,
    [LAZY_POINT_PLACED] = SUBJECT_POINT_PLACED,
    [LAZY_POINT_RECEIVED] = SUBJECT_POINT_RECEIVED,
    [LAZY_POINT_FAILED] = SUBJECT_POINT_FAILED,
    [LAZY_POINT_POISONED] = SUBJECT_POINT_POISONED,
    [LAZY_POINT_EAGER_NEXT] = SUBJECT_POINT_EAGER_NEXT,
    [LAZY_POINT_DISCARD_MARKED] = SUBJECT_POINT_DISCARD_MARKED,
    [LAZY_POINT_BEFORE_QUIT] = SUBJECT_POINT_BEFORE_QUIT,
    [LAZY_POINT_BEFORE_UNREGISTER] = SUBJECT_POINT_BEFORE_UNREGISTER,
};

static const SubjectThread threads[] = {
    [LAZY_FAULT_THREAD] = SUBJECT_FAULT_THREAD,
    [LAZY_EAGER_THREAD] = SUBJECT_EAGER_THREAD,
    [LAZY_OTHER_THREAD] = SUBJECT_OTHER_THREAD,
};

static void tell(ReferenceLazy *self, SubjectPoint point, SubjectThread thread, int block,
                 uint64_t page)
{
    self->property->at_point(self->property->opaque, point, thread, block, page);
}

static void at_point(void *opaque, LazyPoint point, LazyThread thread, RAMBlock *rb, uint64_t page)
{
    ReferenceLazy *self = opaque;

    tell(self, points[point], threads[thread], rb ? (int)(rb - self->blocks) : -1, page);
}

/* Failures. */

static const SubjectFault *failure_due(ReferenceLazy *self, SubjectOperation operation)
{
    for (unsigned i = 0; i < SUBJECT_MAX_FAULTS; i++) {
        SubjectFault *fault = &self->property->faults[i];
        uint32_t left = __atomic_load_n(&fault->countdown, __ATOMIC_ACQUIRE);

        if (left > 0 && fault->operation == operation) {
            __atomic_store_n(&fault->countdown, left - 1, __ATOMIC_RELEASE);
            if (left == 1) {
                return fault;
            }
        }
    }
    return NULL;
}

static void cut_file(SubjectLazyLoad *load, uint64_t at)
{
    if (at < __atomic_load_n(&load->cut_at, __ATOMIC_RELAXED)) {
        __atomic_store_n(&load->cut_at, at, __ATOMIC_RELAXED);
    }
}

static ssize_t lazy_pread(FileReader *reader, void *buffer, size_t length, uint64_t offset)
{
    ReferenceLazy *self =
        (ReferenceLazy *)((uint8_t *)reader - G_STRUCT_OFFSET(ReferenceLazy, reader));
    const SubjectFault *fault = failure_due(self, SUBJECT_READ_FILE);
    uint64_t end;

    if (fault && fault->failure == SUBJECT_END_OF_FILE) {
        cut_file(self->property, offset + length / 2);
    } else if (fault && fault->failure == SUBJECT_PARTIAL) {
        length = MAX(1, length / 2);
    } else if (fault) {
        return -fault->error;
    }
    end = __atomic_load_n(&self->property->cut_at, __ATOMIC_RELAXED);
    if (offset >= end) {
        return 0;
    }
    return self->sparse.reader.pread(&self->sparse.reader, buffer, MIN(length, end - offset),
                                     offset);
}

static void told_placed(ReferenceLazy *self, SubjectOperation how, uint64_t host, uint64_t length)
{
    self->property->placed(self->property->opaque, how, (const uint8_t *)(uintptr_t)host, length);
}

/* The kernel says how far it came even where it failed. */
static int place(ReferenceLazy *self, int uffd, struct uffdio_copy *copy)
{
    int result = uffd_ops_real()->copy(&self->ops, uffd, copy);

    if (copy->copy > 0) {
        told_placed(self, SUBJECT_COPY, copy->dst, (uint64_t)copy->copy);
    }
    return result;
}

/* The first page alone is placed; the caller is told of less. */
static int place_first(ReferenceLazy *self, int uffd, struct uffdio_copy *copy, bool is_there)
{
    struct uffdio_copy first = *copy;
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    int result = -EAGAIN;

    first.len = page;
    first.mode = is_there ? UFFDIO_COPY_MODE_DONTWAKE : 0;
    if (is_there || copy->len > page) {
        result = place(self, uffd, &first);
    }
    if (result < 0) {
        copy->copy = result;
        return result;
    }
    copy->copy = is_there ? -EEXIST : first.copy;
    return is_there ? -EEXIST : -EAGAIN;
}

static int lazy_copy(const UffdOps *ops, int uffd, struct uffdio_copy *copy)
{
    ReferenceLazy *self = self_of(ops);
    const SubjectFault *fault = failure_due(self, SUBJECT_COPY);

    if (!fault) {
        return place(self, uffd, copy);
    }
    if (fault->failure == SUBJECT_PARTIAL || fault->failure == SUBJECT_IS_THERE) {
        return place_first(self, uffd, copy, fault->failure == SUBJECT_IS_THERE);
    }
    copy->copy = -fault->error;
    return -fault->error;
}

static int zero(ReferenceLazy *self, int uffd, struct uffdio_zeropage *zero)
{
    int result = uffd_ops_real()->zeropage(&self->ops, uffd, zero);

    if (zero->zeropage > 0) {
        told_placed(self, SUBJECT_ZEROPAGE, zero->range.start, (uint64_t)zero->zeropage);
    }
    return result;
}

static int zero_first(ReferenceLazy *self, int uffd, struct uffdio_zeropage *range, bool is_there)
{
    struct uffdio_zeropage first = *range;
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    int result = -EAGAIN;

    first.range.len = page;
    first.mode = is_there ? UFFDIO_ZEROPAGE_MODE_DONTWAKE : 0;
    if (is_there || range->range.len > page) {
        result = zero(self, uffd, &first);
    }
    if (result < 0) {
        range->zeropage = result;
        return result;
    }
    range->zeropage = is_there ? -EEXIST : first.zeropage;
    return is_there ? -EEXIST : -EAGAIN;
}

static int lazy_zeropage(const UffdOps *ops, int uffd, struct uffdio_zeropage *range)
{
    ReferenceLazy *self = self_of(ops);
    const SubjectFault *fault = failure_due(self, SUBJECT_ZEROPAGE);

    if (!fault) {
        return zero(self, uffd, range);
    }
    if (fault->failure == SUBJECT_PARTIAL || fault->failure == SUBJECT_IS_THERE) {
        return zero_first(self, uffd, range, fault->failure == SUBJECT_IS_THERE);
    }
    range->zeropage = -fault->error;
    return -fault->error;
}

static int lazy_poison(const UffdOps *ops, int uffd, struct uffdio_poison *range)
{
    ReferenceLazy *self = self_of(ops);
    const SubjectFault *fault = failure_due(self, SUBJECT_POISON);
    int result;

    if (fault) {
        range->updated = -fault->error;
        return -fault->error;
    }
    result = uffd_ops_real()->poison(ops, uffd, range);
    if (range->updated > 0) {
        told_placed(self, SUBJECT_POISON, range->range.start, (uint64_t)range->updated);
    }
    return result;
}

static int lazy_poll(const UffdOps *ops, struct pollfd *fds, nfds_t n_fds)
{
    ReferenceLazy *self = self_of(ops);
    const SubjectFault *fault = failure_due(self, SUBJECT_POLL);
    int result;

    if (fault) {
        return -fault->error;
    }
    tell(self, SUBJECT_POINT_IDLE, SUBJECT_FAULT_THREAD, -1, 0);
    result = uffd_ops_real()->poll(ops, fds, n_fds);
    tell(self, SUBJECT_POINT_AWAKE, SUBJECT_FAULT_THREAD, -1, 0);
    return result;
}

static ssize_t lazy_read(const UffdOps *ops, int uffd, struct uffd_msg *messages, size_t length)
{
    const UffdOps *real = uffd_ops_real();
    const SubjectFault *fault = failure_due(self_of(ops), SUBJECT_READ_MESSAGE);
    ssize_t result;

    if (!fault) {
        return real->read(ops, uffd, messages, length);
    }
    if (fault->failure == SUBJECT_NOTHING_THERE) {
        return -EAGAIN;
    }
    if (fault->failure != SUBJECT_COMES_TWICE) {
        return -fault->error;
    }
    result = real->read(ops, uffd, messages, length / sizeof(*messages) / 2 * sizeof(*messages));
    if (result > 0) {
        memcpy((uint8_t *)messages + result, messages, (size_t)result);
        result *= 2;
    }
    return result;
}

static SubjectThread this_thread(const ReferenceLazy *self)
{
    for (unsigned i = 0; i < N_LOADER_THREADS; i++) {
        if (pthread_equal(kept_thread_id(self->threads[i].thread), pthread_self())) {
            return i == 0 ? SUBJECT_FAULT_THREAD : SUBJECT_EAGER_THREAD;
        }
    }
    return SUBJECT_OTHER_THREAD;
}

static void lazy_nap(const UffdOps *ops, unsigned microseconds)
{
    tell(self_of(ops), SUBJECT_POINT_NAP, this_thread(self_of(ops)), -1, 0);
    uffd_ops_real()->nap(ops, microseconds);
}

/* The kernel's, kept from load to load. */

static int lazy_open(const UffdOps *ops, UffdMethod method, int flags)
{
    return kept_kernel_open(self_of(ops)->kernel, method, flags);
}

static int lazy_api(const UffdOps *ops, int uffd, struct uffdio_api *api)
{
    return kept_kernel_api(self_of(ops)->kernel, uffd, api);
}

static int lazy_register_range(const UffdOps *ops, int uffd, struct uffdio_register *range)
{
    return kept_kernel_register_range(self_of(ops)->kernel, uffd, range);
}

static int lazy_unregister(const UffdOps *ops, int uffd, struct uffdio_range *range)
{
    return kept_kernel_unregister(self_of(ops)->kernel, uffd, range);
}

static void lazy_close(const UffdOps *ops, int fd)
{
    kept_kernel_close(self_of(ops)->kernel, fd);
}

static void lazy_replace(const UffdOps *ops, int fd, int by)
{
    kept_kernel_replace(self_of(ops)->kernel, fd, by);
}

static int lazy_map(const UffdOps *ops, int fd, size_t length, int protection, void **memory)
{
    return kept_kernel_map(self_of(ops)->kernel, fd, length, protection, memory);
}

static void lazy_unmap(const UffdOps *ops, void *memory, size_t length)
{
    kept_kernel_unmap(self_of(ops)->kernel, memory, length);
}

/* No child is forked during a load, and each of the two splits mappings or joins them. */
static int lazy_advise(const UffdOps *ops, void *memory, size_t length, int advice)
{
    return advice == MADV_DONTFORK || advice == MADV_DOFORK
               ? 0
               : uffd_ops_real()->advise(ops, memory, length, advice);
}

/* Threads. */

static void *run_thread(void *opaque)
{
    LoaderThread *thread = opaque;

    thread->body(thread->opaque);
    tell(thread->self, thread->end_point,
         thread->end_point == SUBJECT_POINT_FAULT_ENDS ? SUBJECT_FAULT_THREAD
                                                       : SUBJECT_EAGER_THREAD,
         -1, 0);
    return NULL;
}

static int lazy_create_thread(const UffdOps *ops, pthread_t *thread, void *(*body)(void *),
                              void *opaque)
{
    ReferenceLazy *self = self_of(ops);
    LoaderThread *one = &self->threads[self->n_created++];

    one->body = body;
    one->opaque = opaque;
    *thread = kept_thread_id(one->thread);
    kept_thread_run(one->thread, run_thread, one);
    return 0;
}

static void lazy_join_thread(const UffdOps *ops, pthread_t thread)
{
    ReferenceLazy *self = self_of(ops);

    for (unsigned i = 0; i < N_LOADER_THREADS; i++) {
        if (pthread_equal(kept_thread_id(self->threads[i].thread), thread)) {
            kept_thread_wait(self->threads[i].thread);
        }
    }
}

/* Sessions. */

static void reference_session_free(void *session)
{
    ReferenceLazy *self = session;

    for (unsigned i = 0; i < N_LOADER_THREADS; i++) {
        kept_thread_free(self->threads[i].thread);
    }
    kept_kernel_free(self->kernel);
    g_free(self);
}

static void *reference_session_new(GError **error)
{
    ReferenceLazy *self;

    self = g_new0(ReferenceLazy, 1);
    self->ops = *uffd_ops_real();
    self->ops.open = lazy_open;
    self->ops.api = lazy_api;
    self->ops.register_range = lazy_register_range;
    self->ops.unregister = lazy_unregister;
    self->ops.close = lazy_close;
    self->ops.replace = lazy_replace;
    self->ops.map = lazy_map;
    self->ops.unmap = lazy_unmap;
    self->ops.advise = lazy_advise;
    self->ops.copy = lazy_copy;
    self->ops.zeropage = lazy_zeropage;
    self->ops.poison = lazy_poison;
    self->ops.poll = lazy_poll;
    self->ops.read = lazy_read;
    self->ops.nap = lazy_nap;
    self->ops.create_thread = lazy_create_thread;
    self->ops.join_thread = lazy_join_thread;
    self->kernel = kept_kernel_new(error);
    if (!self->kernel) {
        reference_session_free(self);
        return NULL;
    }
    for (unsigned i = 0; i < N_LOADER_THREADS; i++) {
        LoaderThread *thread = &self->threads[i];

        thread->self = self;
        thread->end_point = end_points[i];
        thread->thread = kept_thread_new(error);
        if (!thread->thread) {
            reference_session_free(self);
            return NULL;
        }
    }
    return self;
}

UffdOps *reference_lazy_ops(void *session)
{
    return &((ReferenceLazy *)session)->ops;
}

/* Loads. */

static void set_up(ReferenceLazy *self, SubjectLazyLoad *load)
{
    self->property = load;
    self->n_created = 0;
    kept_kernel_begin(self->kernel, load->remove_events);
    sparse_reader_init(&self->sparse, load->load.file, &load->load.cost);
    self->reader = (FileReader){ .pread = lazy_pread, .size = self->sparse.reader.size };
    reference_set_up(&load->load, &self->reader, self->blocks, &self->mis);
    for (unsigned i = 0; i < self->mis.n_blocks; i++) {
        self->blocks[i].shared = load->shared[i];
    }
    self->mis.uffd_ops = &self->ops;
    self->mis.at_point = at_point;
    self->mis.at_point_opaque = self;
    self->mis.remove_events = load->remove_events;
}

static void give_result(const ReferenceLazy *self, SubjectLoad *load)
{
    for (unsigned i = 0; i < load->guest->n_blocks; i++) {
        const RAMBlock *from = &self->blocks[i];
        SubjectBlock *to = &load->blocks[i];

        to->used_length = from->used_length;
        to->in_file = from->in_file && !from->ignored;
        to->pages_offset = from->pages_offset;
    }
}

static SubjectStatus reference_start(SubjectLazyLoad *load, GError **error)
{
    ReferenceLazy *self = load->session;
    SnapshotLoadOptions options = {
        .map_fd = load->map_fd,
        .eager_thread = load->eager_thread,
    };

    set_up(self, load);
    self->load = snapshot_load_start(&self->mis, &options, NULL, error);
    if (!self->load) {
        return SUBJECT_REFUSED;
    }
    load->running = self;
    give_result(self, &load->load);
    return SUBJECT_ACCEPTED;
}

static SubjectStatus reference_discard(SubjectLazyLoad *load, unsigned block, uint64_t offset,
                                       uint64_t length, GError **error)
{
    ReferenceLazy *self = load->running;

    return postcopy_discard_range(&self->mis, &self->blocks[block], offset, length, error)
               ? SUBJECT_ACCEPTED
               : SUBJECT_REFUSED;
}

static void reference_cancel(SubjectLazyLoad *load)
{
    snapshot_load_cancel(((ReferenceLazy *)load->running)->load);
}

static SubjectStatus reference_end(SubjectLazyLoad *load, GError **error)
{
    ReferenceLazy *self = load->running;

    return snapshot_load_end(g_steal_pointer(&self->load), error) ? SUBJECT_ACCEPTED
                                                                  : SUBJECT_REFUSED;
}

static uint64_t reference_faults(const SubjectLazyLoad *load)
{
    const ReferenceLazy *self = load->running;

    return __atomic_load_n(&self->mis.faults, __ATOMIC_RELAXED);
}

static SubjectInstaller reference_installer(const SubjectLazyLoad *load, unsigned block,
                                            uint64_t page)
{
    static const SubjectInstaller installers[] = {
        [PAGE_NOT_INSTALLED] = SUBJECT_PAGE_NOT_INSTALLED,
        [PAGE_BY_FAULT_THREAD] = SUBJECT_PAGE_BY_FAULT_THREAD,
        [PAGE_BY_EAGER_THREAD] = SUBJECT_PAGE_BY_EAGER_THREAD,
        [PAGE_WAS_PRESENT] = SUBJECT_PAGE_WAS_PRESENT,
        [PAGE_DISCARDED] = SUBJECT_PAGE_DISCARDED,
        [PAGE_POISONED] = SUBJECT_PAGE_POISONED,
    };
    const ReferenceLazy *self = load->running;
    const RAMBlock *rb = &self->blocks[block];

    if (page >= ram_block_lazy_pages(rb) || !ramblock_recv_bitmap_test(rb, page)) {
        return SUBJECT_PAGE_NOT_INSTALLED;
    }
    return installers[page_installer(rb, page)];
}

static void reference_free(SubjectLazyLoad *load)
{
    ReferenceLazy *self = g_steal_pointer(&load->running);

    for (unsigned i = 0; i < self->mis.n_blocks; i++) {
        ram_block_clear(&self->blocks[i]);
    }
}

const SubjectLazy reference_lazy = {
    .points = (UINT64_C(1) << SUBJECT_N_POINTS) - 1,
    .operations = (UINT64_C(1) << SUBJECT_N_OPERATIONS) - 1,
    .remove_events = true,
    .from_file = true,
    .poisons = true,
    .session_new = reference_session_new,
    .session_free = reference_session_free,
    .start = reference_start,
    .discard = reference_discard,
    .cancel = reference_cancel,
    .end = reference_end,
    .faults = reference_faults,
    .installer = reference_installer,
    .free = reference_free,
};

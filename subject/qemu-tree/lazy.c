/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The lazy part of the subject: the tree's own fault thread serves what the
 * guest touches. Its pages come from a source that answers at once: guest RAM
 * as an eager load of the same file, by the same tree, leaves it. So a lazy load
 * is compared with the model and with the eager one at a time.
 *
 * The source is the other side of a migration: it sends a page once, when it
 * is asked for or in its turn, and places it through QEMU's own functions.
 *
 * A tree that loads lazily from the file by itself does so: its header stage, its
 * fault thread, its eager thread; with injected failures of the file, too, which the
 * eager load that comes first is spared. What that refuses is refused. With multifd
 * (which fast snapshot load excludes) pages come from the source all the same.
 */
#include "qemu/osdep.h"

#if __has_include("system/ramblock.h")
#include "system/ramblock.h"
#else
#include "exec/ramblock.h"
#endif
#if __has_include("system/memory.h")
#include "system/memory.h"
#else
#include "exec/memory.h"
#endif
#include "exec/target_page.h"
#include "qapi/error.h"
#include "qemu/bitmap.h"
#include "qemu/cutils.h"
#include "qemu/error-report.h"
#include "qemu/rcu.h"
#include "qemu/thread.h"
#include "qemu/userfaultfd.h"

#include "qemu-file.h"

#include "subject/lazy.h"
#include "subject/qemu-tree/adapter.h"

#define HOST_PAGE 4096
/* Of one load: guest RAM in all, for the source to keep. */
#define SOURCE_BYTES (UINT64_C(64) << 20)

typedef struct Session {
    uint8_t *source; /* SOURCE_BYTES */
    TreeThreads *threads;
} Session;

typedef struct LazyBlock {
    RAMBlock *block;
    uint8_t *source; /* used_length bytes */
    uint64_t pages;
    uint8_t *installers; /* SubjectInstaller of each host page; atomic */
} LazyBlock;

typedef struct Running {
    SubjectLazyLoad *load;
    LazyBlock blocks[GUEST_MAX_BLOCKS];
    QemuMutex lock;  /* the source sends one page at a time */
    uint64_t faults; /* atomic */
    bool failed;     /* a page could not be placed; atomic */
    bool has_thread;
    QemuThread thread;
    QEMUFile *file; /* pages come from it; NULL: from the source */
} Running;

/* The source is called by QEMU's own code, without an argument of ours. */
static Running *source;

static LazyBlock *find_block(Running *running, RAMBlock *block)
{
    for (unsigned i = 0; i < running->load->load.guest->n_blocks; i++) {
        if (running->blocks[i].block == block) {
            return &running->blocks[i];
        }
    }
    return NULL;
}

static void told_placed(Running *running, LazyBlock *block, uint64_t page, SubjectInstaller by,
                        bool zero)
{
    qatomic_set(&block->installers[page], by);
    running->load->placed(running->load->opaque, zero ? SUBJECT_ZEROPAGE : SUBJECT_COPY,
                          block->block->host + page * HOST_PAGE, HOST_PAGE);
}

/*
 * The source tells of its own pages, and knows whose doing they are. What the page
 * holds is asked of the eager load's: to be the first to look at one that was just
 * placed costs as much as to place it. (That both are the same is the property's to
 * see.)
 */
void tree_page_placed(RAMBlock *block, void *host, bool by_fault)
{
    LazyBlock *lazy = source->file ? find_block(source, block) : NULL;
    uint64_t page;

    if (!lazy) {
        return;
    }
    if (by_fault) {
        qatomic_inc(&source->faults);
    }
    page = ((uint8_t *)host - block->host) / HOST_PAGE;
    told_placed(source, lazy, page,
                by_fault ? SUBJECT_PAGE_BY_FAULT_THREAD : SUBJECT_PAGE_BY_EAGER_THREAD,
                buffer_is_zero(lazy->source + page * HOST_PAGE, HOST_PAGE));
}

static int send_page(Running *running, LazyBlock *block, uint64_t page, SubjectInstaller by)
{
    uint8_t *from = block->source + page * HOST_PAGE;
    uint8_t *host = block->block->host + page * HOST_PAGE;
    bool zero = buffer_is_zero(from, HOST_PAGE);
    int status;

    qemu_mutex_lock(&running->lock);
    if (tree_fault_received(block->block, page * HOST_PAGE)) {
        qemu_mutex_unlock(&running->lock);
        return 0;
    }
    status = tree_fault_place(block->block, host, zero ? NULL : from);
    if (status == 0) {
        told_placed(running, block, page, by, zero);
    } else {
        qatomic_set(&running->failed, true);
    }
    qemu_mutex_unlock(&running->lock);
    return status;
}

int tree_source_request(RAMBlock *block, uint64_t offset)
{
    LazyBlock *lazy = find_block(source, block);

    qatomic_inc(&source->faults);
    return lazy ? send_page(source, lazy, offset / HOST_PAGE, SUBJECT_PAGE_BY_FAULT_THREAD)
                : -ENOENT;
}

static void send_all(Running *running)
{
    for (unsigned i = 0; i < running->load->load.guest->n_blocks; i++) {
        LazyBlock *block = &running->blocks[i];

        for (uint64_t page = 0; page < block->pages; page++) {
            send_page(running, block, page, SUBJECT_PAGE_BY_EAGER_THREAD);
        }
    }
}

static void *send_all_thread(void *opaque)
{
    rcu_register_thread();
    send_all(opaque);
    rcu_unregister_thread();
    return NULL;
}

static void *session_new(GError **error)
{
    int fd = uffd_open(O_CLOEXEC);
    Session *session;

    if (fd < 0) {
        g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(errno),
                    "there is no userfaultfd (%s): run as root, or set "
                    "vm.unprivileged_userfaultfd to 1",
                    g_strerror(errno));
        return NULL;
    }
    close(fd);
    session = g_new0(Session, 1);
    session->source = mmap(NULL, SOURCE_BYTES, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (session->source == MAP_FAILED) {
        g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(errno),
                    "no memory for the source: %s", g_strerror(errno));
        g_free(session);
        return NULL;
    }
    session->threads = tree_threads_new(error);
    if (!session->threads) {
        munmap(session->source, SOURCE_BYTES);
        g_free(session);
        return NULL;
    }
    return session;
}

static void session_free(void *opaque)
{
    Session *session = opaque;

    tree_threads_free(session->threads);
    munmap(session->source, SOURCE_BYTES);
    g_free(session);
}

static bool fits(const Guest *guest)
{
    uint64_t bytes = 0;

    for (unsigned i = 0; i < guest->n_blocks; i++) {
        bytes += ROUND_UP(guest->blocks[i].max_length, HOST_PAGE);
    }
    return bytes <= SOURCE_BYTES;
}

/* The eager load, into the source's RAM: all of it zero before. */
static SubjectStatus load_source(SubjectLazyLoad *load, SubjectLoad *eager, GError **error)
{
    Session *session = load->session;
    const Guest *guest = load->load.guest;
    uint8_t *at = session->source;
    SubjectStatus status;

    *eager = load->load;
    eager->stages = SUBJECT_WHOLE;
    for (unsigned i = 0; i < guest->n_blocks; i++) {
        memset(at, 0, guest->blocks[i].used_length);
        eager->blocks[i].host = at;
        at += ROUND_UP(guest->blocks[i].max_length, HOST_PAGE);
    }
    status = tree_load_file(eager, error);
    load->load.cost = eager->cost;
    return status;
}

static void set_up_block(Running *running, unsigned index, SubjectLoad *eager)
{
    LazyBlock *lazy = &running->blocks[index];
    SubjectBlock *result = &running->load->load.blocks[index];

    result->used_length = eager->blocks[index].used_length;
    result->in_file = eager->blocks[index].in_file;
    if (!result->in_file) {
        tree_platform_leave_out(index);
        return;
    }
    lazy->block = tree_platform_block(index);
    lazy->block->used_length = result->used_length;
    lazy->block->page_size = HOST_PAGE;
    if (!lazy->block->receivedmap) {
        lazy->block->receivedmap = bitmap_new(lazy->block->max_length / qemu_target_page_size());
    }
    if (running->load->shared[index]) {
        lazy->block->flags |= RAM_SHARED;
    }
    lazy->source = eager->blocks[index].host;
    lazy->pages = result->used_length / HOST_PAGE;
    lazy->installers = g_new0(uint8_t, lazy->pages);
}

static void free_running(SubjectLazyLoad *load)
{
    Running *running = load->running;

    for (unsigned i = 0; i < GUEST_MAX_BLOCKS; i++) {
        g_free(running->blocks[i].installers);
    }
    qemu_mutex_destroy(&running->lock);
    g_free(running);
    load->running = NULL;
}

#if TREE_LOADS_LAZILY
static bool pages_come_from_file(const SubjectLoad *load)
{
    return !load->axes.multifd_channels;
}

/* The header stage, as of a load with mapped-ram and postcopy-ram. */
static bool load_headers(Running *running, SubjectCost cost)
{
    SubjectLoad *load = &running->load->load;
    QEMUFile *file;
    Error *err = NULL;
    bool complete;
    int status;

    load->cost = cost;
    file = tree_channel_open(load, 0);
    tree_fault_announce();
    status = tree_savevm_load(load, file, &err, &complete);
    qemu_fclose(file);
    /* Pages are read from a file that is not at its end, which QEMU takes for an error. */
    load->cost.ended = false;
    load->cost.fail_read = cost.fail_read;
    running->file = tree_channel_open(load, 0);
    if (err) {
        error_report_err(err);
    }
    return status >= 0 || complete;
}
#endif

static void give_rest(Running *running)
{
#if TREE_LOADS_LAZILY
    if (running->file) {
        running->has_thread = true;
        tree_eager_begin();
        return;
    }
#endif
    if (running->load->eager_thread) {
        running->has_thread = true;
        tree_thread_create(&running->thread, "source", send_all_thread, running,
                           QEMU_THREAD_JOINABLE);
    } else {
        send_all(running);
    }
}

static bool wait_for_rest(Running *running)
{
#if TREE_LOADS_LAZILY
    if (running->file) {
        return tree_eager_end();
    }
#endif
    if (running->has_thread) {
        tree_thread_join(&running->thread);
    }
    return true;
}

static void shut_off_missing(const LazyBlock *lazy)
{
    uint8_t *host = lazy->block->host;
    g_autofree uint8_t *there = g_new(uint8_t, lazy->pages);
    bool done = mincore(host, lazy->pages * HOST_PAGE, there) == 0;

    for (uint64_t page = 0; done && page < lazy->pages; page++) {
        done = there[page] & 1 || mprotect(host + page * HOST_PAGE, HOST_PAGE, PROT_NONE) == 0;
    }
    if (!done) {
        error_report("guest RAM cannot be shut off: %s", g_strerror(errno));
        abort();
    }
}

/*
 * After a load that failed. QEMU ends then: nobody sees the pages that are missing. (It unregisters
 * them first, and whoever waits for one reads zeroes until the process has ended.)
 */
static void shut_off_guest(const Running *running)
{
    for (unsigned i = 0; i < running->load->load.guest->n_blocks; i++) {
        if (running->blocks[i].pages) {
            shut_off_missing(&running->blocks[i]);
        }
    }
}

static void clean_up(Running *running)
{
    const Session *session = running->load->session;

    tree_threads_end(session->threads);
    tree_platform_end();
#if TREE_LOADS_LAZILY
    if (running->file) {
        tree_savevm_cleanup();
        qemu_fclose(running->file);
    }
#endif
}

static SubjectStatus start(SubjectLazyLoad *load, GError **error)
{
    SubjectLoad eager;
    Running *running;
    SubjectStatus status;
    bool ready = true;
#if TREE_LOADS_LAZILY
    const SubjectCost cost = load->load.cost;
#endif

    if (!fits(load->load.guest)) {
        return SUBJECT_UNSUPPORTED;
    }
#if TREE_LOADS_LAZILY
    if (pages_come_from_file(&load->load)) {
        load->load.cost.fail_read = load->load.cost.cut_read = 0;
    }
#endif
    status = load_source(load, &eager, error);
    if (status != SUBJECT_ACCEPTED) {
        return status;
    }
    tree_platform_begin(&load->load);
    running = load->running = g_new0(Running, 1);
    running->load = load;
    qemu_mutex_init(&running->lock);
#if TREE_LOADS_LAZILY
    ready = !pages_come_from_file(&load->load) || load_headers(running, cost);
#endif
    for (unsigned i = 0; i < load->load.guest->n_blocks; i++) {
        set_up_block(running, i, &eager);
    }
    source = running;
    tree_threads_begin(((Session *)load->session)->threads);
    if (!ready || !tree_fault_begin(running->file)) {
        clean_up(running);
        free_running(load);
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_FAILED,
                    "the fault thread's set-up failed: %s", tree_report_text());
        return SUBJECT_REFUSED;
    }
    if (load->eager_thread) {
        give_rest(running);
    }
    return SUBJECT_ACCEPTED;
}

static SubjectStatus end(SubjectLazyLoad *load, GError **error)
{
    Running *running = load->running;
    unsigned requests;
    bool ended;

    if (!running->has_thread) {
        give_rest(running);
    }
    ended = wait_for_rest(running);
    if (!ended) {
        shut_off_guest(running);
    }
    ended = tree_fault_end() && ended;
    /* Not before: the fault thread places a page, and then strikes it off the list. */
    requests = running->file ? 0 : tree_fault_requests();
    clean_up(running);
    if (running->failed || !ended || requests) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_FAILED,
                    "%u requests were not answered; QEMU says: %s", requests, tree_report_text());
        return SUBJECT_REFUSED;
    }
    return SUBJECT_ACCEPTED;
}

static uint64_t faults(const SubjectLazyLoad *load)
{
    const Running *running = load->running;

    return qatomic_read(&running->faults);
}

static SubjectInstaller installer(const SubjectLazyLoad *load, unsigned block, uint64_t page)
{
    const LazyBlock *lazy = &((const Running *)load->running)->blocks[block];

    return page < lazy->pages ? qatomic_read(&lazy->installers[page]) : SUBJECT_PAGE_NOT_INSTALLED;
}

const SubjectLazy tree_lazy = {
    /* postcopy_ram_incoming_init() discards all RAM; the balloon is inhibited: no discards. */
    .drops_ram = true,
#if TREE_LOADS_LAZILY
    /* The eager load's file, and that of the header stage. */
    .more_buffers = 2,
    .from_file = true,
#endif
    .session_new = session_new,
    .session_free = session_free,
    .start = start,
    .end = end,
    .faults = faults,
    .installer = installer,
    .free = free_running,
};

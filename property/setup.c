/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The property setup-undo: whatever fails in set-up or tear-down, everything
 * that was taken is given back, once; nothing says that it is held still; no
 * thread is started before what it uses is there; and a second set-up in the
 * same process works, and its RAM is right.
 *
 * The account of resource-meter.h is exact and cheap; on every SETUP_COUNT_EACH-th
 * execution, the first included, /proc is asked as well.
 */
#define _GNU_SOURCE /* memfd_create(), MAP_HUGETLB */
#include "property/setup.h"

#include "property/alloc-meter.h"
#include "property/context.h"
#include "property/guest-access.h"
#include "property/threads.h"
#include "subject/setup.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define HUGE_PAGE UINT64_C(0x200000)
#define RAM_LENGTH (INPUT_MAX_SETUP_PAGES * UINT64_C(0x4000)) /* of a block that is not huge */
#define PAGES_ALIGNMENT 0x4000
#define DIRTY_BYTE 0x5a
#define FREE_READS 4096 /* of a right file; a limit for endless loops alone */

typedef struct SetupMemory {
    uint8_t *ram;
    size_t length;
} SetupMemory;

struct SetupRun {
    SetupCase c;
    Guest guest;
    SubjectSetup setup;
    ResourceMeter meter;
    /* Guest RAM is kept from input to input. */
    SetupMemory memory[INPUT_MAX_BLOCKS][INPUT_N_MEMORIES];
    int map_fd;   /* the file, for mapping; -1: not yet made */
    bool touches; /* running() does */
    bool said_no; /* that there is no userfaultfd here */
    bool ran;     /* running() was called */
    bool no_page; /* RAM of huge pages gave a signal instead of a page */
};

static void drop_ram(SetupRun *run)
{
    for (unsigned i = 0; i < INPUT_MAX_BLOCKS; i++) {
        for (unsigned kind = 0; kind < INPUT_N_MEMORIES; kind++) {
            SetupMemory *memory = &run->memory[i][kind];

            if (memory->ram) {
                munmap(memory->ram, memory->length);
                memory->ram = NULL;
            }
        }
    }
}

static void setup_run_free(void *opaque)
{
    SetupRun *run = opaque;

    drop_ram(run);
    if (run->map_fd >= 0) {
        close(run->map_fd);
    }
    g_free(run);
}

static SetupRun *setup_run_of(PropertyContext *context)
{
    if (!context->setup_run) {
        context->setup_run = g_new0(SetupRun, 1);
        context->setup_run->map_fd = -1;
        property_context_keep(context, context->setup_run, setup_run_free);
    }
    return context->setup_run;
}

static bool make_ram(SetupMemory *memory, InputMemory kind, GError **error)
{
    int flags = MAP_PRIVATE | MAP_ANONYMOUS;
    int fd = -1;

    memory->length = RAM_LENGTH;
    if (kind == INPUT_MEMORY_HUGETLB) {
        memory->length = HUGE_PAGE;
        flags |= MAP_HUGETLB | 21 << MAP_HUGE_SHIFT;
        guest_access_init();
    } else if (kind == INPUT_MEMORY_MEMFD) {
        flags = MAP_SHARED;
        fd = memfd_create("guest-ram", MFD_CLOEXEC);
        if (fd < 0 || ftruncate(fd, (off_t)memory->length) < 0) {
            g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(errno), "guest RAM: %s",
                        g_strerror(errno));
            return false;
        }
    }
    memory->ram = mmap(NULL, memory->length, PROT_READ | PROT_WRITE, flags, fd, 0);
    if (fd >= 0) {
        close(fd);
    }
    if (memory->ram == MAP_FAILED) {
        memory->ram = NULL;
        g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(errno), "guest RAM: %s",
                    g_strerror(errno));
        return false;
    }
    return true;
}

/* Huge pages are a thing of luck: without, the block is anonymous memory. */
static bool give_ram(SetupRun *run, unsigned block, GError **error)
{
    InputMemory kind = run->c.memories[block];
    SetupMemory *memory = &run->memory[block][kind];

    if (kind == INPUT_MEMORY_HUGETLB && !memory->ram && !make_ram(memory, kind, NULL)) {
        kind = run->c.memories[block] = INPUT_MEMORY_ANONYMOUS;
        memory = &run->memory[block][kind];
    }
    if (!memory->ram && !make_ram(memory, kind, error)) {
        return false;
    }
    run->setup.load.blocks[block].host = memory->ram;
    run->setup.shared[block] = kind == INPUT_MEMORY_MEMFD;
    if (kind == INPUT_MEMORY_HUGETLB) {
        run->guest.blocks[block].host_page_size = HUGE_PAGE;
        run->guest.blocks[block].used_length = memory->length;
        run->guest.blocks[block].max_length = memory->length;
    }
    return true;
}

/*
 * False: a signal. Huge pages may be gone, though mmap() reserved them, once
 * somebody makes their pool smaller.
 */
static bool touch(SetupRun *run, unsigned block, uint64_t at, bool write)
{
    uint8_t *byte = run->setup.load.blocks[block].host + at;
    uint8_t value = DIRTY_BYTE;

    if (run->c.memories[block] != INPUT_MEMORY_HUGETLB) {
        value = write ? (*(volatile uint8_t *)byte = value) : *(volatile uint8_t *)byte;
        return true;
    }
    if (guest_access(byte, write, &value) != 0) {
        run->no_page = true;
        return false;
    }
    return true;
}

static void fill_ram(SetupRun *run)
{
    for (unsigned i = 0; run->c.flags & INPUT_DIRTY_RAM && i < run->guest.n_blocks; i++) {
        if (touch(run, i, 0, true)) {
            memset(run->setup.load.blocks[i].host, DIRTY_BYTE, run->guest.blocks[i].used_length);
        }
    }
}

static void add_runs(SnapshotBlock *block, uint8_t bits, uint64_t pages)
{
    for (uint64_t page = 0; page < pages && bits; page++) {
        if (bits >> (page % 8) & 1) {
            snapshot_block_add_run(block, (PageRun){ .first = page,
                                                     .count = 1,
                                                     .content = CONTENT_PATTERN,
                                                     .seed = 1 });
        }
    }
}

static void make_file(PropertyContext *context, const SetupRun *run)
{
    Snapshot *snapshot = context->snapshot;
    uint64_t page_size = run->guest.target_page_size;

    snapshot_reset(snapshot);
    snapshot->page_size = page_size;
    for (unsigned i = 0; i < run->guest.n_blocks; i++) {
        const GuestBlock *guest = &run->guest.blocks[i];

        snapshot_add_block(snapshot, guest->idstr, guest->used_length);
        /* Of huge pages as many as of others: the rest is zero. */
        add_runs(snapshot_block(snapshot, i), run->c.bits[i],
                 MIN(guest->used_length / page_size, INPUT_MAX_SETUP_PAGES));
    }
    snapshot_layout(snapshot, PAGES_ALIGNMENT);
    snapshot_append_tail(snapshot->tail, snapshot->section_id);
    snapshot_encode(snapshot, context->file);
    judge_file(context->file, &run->guest, &context->judgement);
}

static bool make_map(SetupRun *run, const SparseFile *file, GError **error)
{
    if (!(run->c.flags & INPUT_SETUP_MAPPED) || run->c.channels > 0) {
        run->setup.map_fd = -1;
        return true;
    }
    if (run->map_fd < 0) {
        run->map_fd = memfd_create("snapshot", MFD_CLOEXEC);
    }
    run->setup.map_fd = run->map_fd;
    return sparse_file_to_fd(file, run->map_fd, error);
}

/*
 * What a guest does: it touches RAM while it is loaded. Where something fails
 * meanwhile it would rightly get a signal.
 */
static void touch_ram(SubjectSetup *setup)
{
    SetupRun *run = setup->opaque;

    for (unsigned i = 0; run->touches && i < run->guest.n_blocks; i++) {
        touch(run, i, 0, false);
        touch(run, i, run->guest.blocks[i].used_length - 1, false);
    }
    run->ran = true;
}

static bool begin(PropertyContext *context, SetupRun *run, const uint8_t *data, size_t size,
                  GError **error)
{
    setup_case_decode(&run->c, data, size, &run->guest);
    for (unsigned i = 0; i < run->guest.n_blocks; i++) {
        if (!give_ram(run, i, error)) {
            return false;
        }
    }
    make_file(context, run);
    run->setup.load.file = context->file;
    run->setup.load.guest = &run->guest;
    run->setup.channels = run->c.channels;
    run->setup.eager_thread = run->c.flags & INPUT_SETUP_EAGER_THREAD;
    run->setup.remove_events = run->c.flags & INPUT_SETUP_REMOVE_EVENTS;
    run->setup.running = touch_ram;
    run->setup.opaque = run;
    return make_map(run, context->file, error);
}

/* One set-up and its end. */
static SubjectStatus run_once(PropertyContext *context, SetupRun *run, bool with_failures,
                              GError **refusal)
{
    AllocMeter allocations = { .fail_try = with_failures ? run->c.fail_try : 0 };
    SubjectStatus status;

    run->meter.n_fds = run->meter.n_maps = run->meter.n_registered = 0;
    run->meter.n_kept_from_children = run->meter.n_threads = 0;
    run->meter.had_thread = false;
    run->meter.wrong[0] = '\0';
    memset(run->meter.calls, 0, sizeof(run->meter.calls));
    memset(run->meter.failed, 0, sizeof(run->meter.failed));
    memset(run->meter.failures, 0, sizeof(run->meter.failures));
    if (with_failures) {
        memcpy(run->meter.failures, run->c.failures, sizeof(run->meter.failures));
    }
    run->ran = false;
    run->no_page = false;
    run->touches = !with_failures;
    run->setup.n_kept = 0;
    run->setup.stale = NULL;
    run->setup.load.cost = (SubjectCost){
        .max_reads = FREE_READS,
        .max_bytes = UINT64_MAX,
        .fail_read = with_failures ? run->c.fail_read : 0,
    };
    if (with_failures) {
        /* Not over the poison of a load that failed. */
        fill_ram(run);
    }
    alloc_meter_start(&allocations);
    resource_meter_start(&run->meter);
    status = context->subject->set_up(&run->setup, refusal);
    resource_meter_stop();
    alloc_meter_stop();
    *(status == SUBJECT_ACCEPTED ? &context->stats.accepted : &context->stats.refused) += 1;
    return status;
}

static const char *outcome(const GError *refusal)
{
    return refusal ? refusal->message : "success";
}

/*
 * A block whose missing pages could be shut off in no way keeps its
 * registration, by the descriptor: pages of zeroes are the alternative.
 */
static bool holds_only_what_is_kept(const SetupRun *run)
{
    const ResourceMeter *meter = &run->meter;
    unsigned kept = run->setup.n_kept;

    return meter->n_fds == (kept > 0) && meter->n_maps == 0 && meter->n_threads == 0 &&
           meter->n_registered == kept && meter->n_kept_from_children == kept;
}

static bool check_given_back(PropertyContext *context, const SetupRun *run, const GError *refusal,
                             GError **error)
{
    g_autofree char *held = resource_meter_describe_held(&run->meter);

    if (run->meter.wrong[0] != '\0') {
        return property_broken(context, PROPERTY_SETUP_UNDO, error, "%s (the outcome was: %s)",
                               run->meter.wrong, outcome(refusal));
    }
    if (!holds_only_what_is_kept(run)) {
        return property_broken(context, PROPERTY_SETUP_UNDO, error,
                               "what was taken is not given back: %s; expected: nothing, but for "
                               "%u block(s) that have to stay registered (the outcome was: %s)",
                               held ? held : "nothing", run->setup.n_kept, outcome(refusal));
    }
    if (run->setup.stale) {
        return property_broken(context, PROPERTY_SETUP_UNDO, error,
                               "the field '%s' says that something is held, and nothing is (the "
                               "outcome was: %s)",
                               run->setup.stale, outcome(refusal));
    }
    return true;
}

static bool check_set_up(PropertyContext *context, const SetupRun *run, SubjectStatus status,
                         const GError *refusal, GError **error)
{
    if (status == SUBJECT_REFUSED && (!refusal || refusal->message[0] == '\0')) {
        return property_broken(context, PROPERTY_SETUP_UNDO, error,
                               "set-up or tear-down failed without a message");
    }
    if (status == SUBJECT_ACCEPTED && refusal) {
        return property_broken(context, PROPERTY_SETUP_UNDO, error,
                               "success is reported with an error set: %s", refusal->message);
    }
    if (status == SUBJECT_ACCEPTED && run->setup.n_kept > 0) {
        return property_broken(context, PROPERTY_SETUP_UNDO, error,
                               "success is reported, and %u block(s) stay registered for ever",
                               run->setup.n_kept);
    }
    return true;
}

/* The page is what the file, or the handler of zeroes, says. */
static bool page_is_right(const PropertyContext *context, const SetupRun *run, unsigned block,
                          uint64_t page)
{
    uint64_t size = run->guest.target_page_size;
    const uint8_t *host = run->setup.load.blocks[block].host + page * size;
    uint64_t offset;

    if (run->c.channels == 0 &&
        judgement_page(&context->judgement, block, page, &offset) == PAGE_FROM_FILE) {
        return sparse_file_compare(context->file, offset, host, size) == size;
    }
    return host[0] == 0 && memcmp(host, host + 1, size - 1) == 0;
}

static bool check_block(PropertyContext *context, const SetupRun *run, unsigned block,
                        GError **error)
{
    const GuestBlock *guest = &run->guest.blocks[block];
    uint64_t pages = guest->used_length / run->guest.target_page_size;

    if (run->c.channels > 0) {
        /* What fills no host page is not registered. */
        pages = guest->used_length / guest->host_page_size * guest->host_page_size /
                run->guest.target_page_size;
    }
    context->stats.pages += pages;
    for (uint64_t page = 0; page < pages; page++) {
        if (!page_is_right(context, run, block, page)) {
            return property_broken(context, PROPERTY_SETUP_UNDO, error,
                                   "block '%s', page %" PRIu64 ": after a set-up that failed, the "
                                   "next one loads something else than it has to",
                                   guest->idstr, page);
        }
    }
    return true;
}

/* Where the kernel refuses userfaultfd itself, set-up goes no further. */
static bool is_unavailable(PropertyContext *context, SetupRun *run, const GError *refusal)
{
    const ResourceMeter *meter = &run->meter;

    if (!refusal || meter->calls[METERED_OPEN] == 0 || meter->calls[METERED_API] > 0) {
        return false;
    }
    context->stats.unsupported++;
    if (!run->said_no) {
        run->said_no = true;
        fprintf(stderr,
                "pagewise: setup-undo: no set-up works here, only its refusal is tried: "
                "%s\n",
                refusal->message);
    }
    return true;
}

/* A signal is right where there is no huge page to be had; then the input says nothing. */
static bool check_pool(PropertyContext *context, SetupRun *run, GError **error)
{
    SetupMemory another;

    if (make_ram(&another, INPUT_MEMORY_HUGETLB, NULL)) {
        munmap(another.ram, another.length);
        return property_broken(context, PROPERTY_SETUP_UNDO, error,
                               "a page of huge pages gave a signal, and there are some left");
    }
    context->stats.unsupported++;
    drop_ram(run);
    return true;
}

/* The second set-up of the process, with nothing that fails. */
static bool check_second(PropertyContext *context, SetupRun *run, GError **error)
{
    g_autoptr(GError) refusal = NULL;
    SubjectStatus status = run_once(context, run, false, &refusal);

    if (is_unavailable(context, run, refusal)) {
        return check_given_back(context, run, refusal, error);
    }
    if (run->no_page) {
        return check_pool(context, run, error);
    }
    if (status != SUBJECT_ACCEPTED || !run->ran) {
        return property_broken(context, PROPERTY_SETUP_UNDO, error,
                               "a second set-up in the same process, with nothing that fails, "
                               "%s: %s",
                               status == SUBJECT_ACCEPTED ? "did not run the guest" : "was refused",
                               outcome(refusal));
    }
    if (!check_given_back(context, run, NULL, error)) {
        g_prefix_error(error, "second set-up in the same process: ");
        return false;
    }
    for (unsigned i = 0; i < run->guest.n_blocks; i++) {
        if (!check_block(context, run, i, error)) {
            return false;
        }
    }
    return true;
}

static bool check_first(PropertyContext *context, SetupRun *run, GError **error)
{
    g_autoptr(GError) refusal = NULL;
    SubjectStatus status = run_once(context, run, true, &refusal);
    bool holds = check_set_up(context, run, status, refusal, error) &&
                 check_given_back(context, run, refusal, error);

    if (run->setup.n_kept > 0 || run->meter.calls[METERED_PROTECT] > 0) {
        /* Memory that is shut off or still registered: take fresh RAM. */
        drop_ram(run);
        for (unsigned i = 0; i < run->guest.n_blocks && holds; i++) {
            holds = give_ram(run, i, error);
        }
    }
    resource_meter_release(&run->meter);
    return holds;
}

static bool check_process(PropertyContext *context, Resources before, GError **error)
{
    Resources now;

    count_settled_threads(before.threads);
    now = count_resources();
    /* There may be fewer threads: one that was joined before may have been listed still. */
    return (now.descriptors == before.descriptors && now.threads <= before.threads &&
            now.mappings == before.mappings) ||
           property_broken(context, PROPERTY_SETUP_UNDO, error,
                           "the process had %u descriptors, %u threads and %u mappings of files "
                           "or flags of userfaultfd and fork; it has %u, %u and %u",
                           before.descriptors, before.threads, before.mappings, now.descriptors,
                           now.threads, now.mappings);
}

static gpointer no_work(gpointer opaque)
{
    return opaque;
}

/* With the first thread of a process ThreadSanitizer starts one of its own, which stays. */
static void have_had_a_thread(void)
{
    g_thread_join(g_thread_new("first", no_work, NULL));
}

static bool run_both(PropertyContext *context, SetupRun *run, GError **error)
{
    bool count = context->stats.executions % SETUP_COUNT_EACH == 1;
    Resources before;

    if (count) {
        have_had_a_thread();
        before = count_resources();
    }
    return check_first(context, run, error) && check_second(context, run, error) &&
           (!count || check_process(context, before, error));
}

bool property_setup(PropertyContext *context, const uint8_t *data, size_t size, GError **error)
{
    SetupRun *run;

    if (size < 2 || data[0] != INPUT_VERSION || data[1] != INPUT_SETUP) {
        return true;
    }
    context->stats.executions++;
    if (!context->subject->set_up) {
        context->stats.unsupported++;
        return true;
    }
    run = setup_run_of(context);
    return begin(context, run, data, size, error) && run_both(context, run, error);
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Real snapshots against our two readings of the specification: what a real
 * QEMU saves, the model must accept, and the reference loader must load to
 * just the RAM that QEMU itself shows without mapped-ram; what the reference
 * writer writes, a real QEMU must load.
 */
#include "loader/mapped-ram.h"
#include "loader/writer.h"
#include "model/judge.h"
#include "model/snapshot.h"
#include "property/input.h"
#include "qtest-glue/qemu-case.h"
#include "qtest-glue/real-snapshots.h"
#include "unit/qemu-test.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>

#define PAGE QEMU_X86_PAGE_SIZE
#define MAX_DATA (64 * 1024 * 1024)
#define SEED_MAX 4096
#define INPUT_OVERHEAD (16 + INPUT_MAX_BLOCKS * 32) /* property/input.h */

static const char *const x_ignore_shared[] = { "x-ignore-shared", NULL };
static const char *const multifd[] = { "multifd", NULL };

/*
 * A real snapshot, made when the first test asks for it and then only read, so
 * that neither the order nor the choice of tests matters. main() owns it, so
 * that a test that fails leaves nothing behind.
 */
typedef struct Case {
    unsigned machine;
    const char *const *capabilities;
    QemuBinary *binary;
    QemuFolder *folder;
    RealSnapshot *snapshot;
    SparseFile *file; /* the snapshot, for the judge */
    Judgement judgement;
    SparseFile *small; /* for what real_snapshot_to_sparse() makes of it */
} Case;

static void case_clear(Case *c)
{
    g_clear_pointer(&c->small, sparse_file_free);
    g_clear_pointer(&c->file, sparse_file_free);
    g_clear_pointer(&c->snapshot, real_snapshot_free);
    g_clear_pointer(&c->folder, qemu_folder_free);
    g_clear_pointer(&c->binary, qemu_binary_free);
}

static void assert_no_error(const GError *error)
{
    if (error) {
        fail_msg("%s", error->message);
    }
}

static void read_sparse(const char *path, SparseFile *file)
{
    g_autoptr(GError) error = NULL;
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    assert_true(fd >= 0);
    sparse_file_from_fd(file, fd, MAX_DATA, &error);
    close(fd);
    assert_no_error(error);
}

static Case *need_snapshot(void **state)
{
    Case *c = *state;
    g_autoptr(GError) error = NULL;

    if (c->snapshot) {
        return c;
    }
    case_clear(c);
    c->binary = require_qemu();
    c->folder = qemu_folder_new(&error);
    assert_no_error(error);
    c->snapshot = real_snapshot_make(c->binary, c->machine, qemu_folder_name(c->folder),
                                     c->capabilities, &error);
    assert_no_error(error);
    c->small = sparse_file_new();
    c->file = sparse_file_new();
    read_sparse(c->snapshot->path, c->file);
    judge_file(c->file, &c->snapshot->guest, &c->judgement);
    return c;
}

/* ---- comparison ---- */

static void assert_page(const RealDump *dump, const char *idstr, uint64_t page,
                        const uint8_t *expected, const uint8_t *found)
{
    unsigned at = 0;

    if (memcmp(expected, found, PAGE) == 0) {
        return;
    }
    while (expected[at] == found[at]) {
        at++;
    }
    fail_msg("block '%s', page %ju, byte %u: %s says 0x%02x, found 0x%02x", idstr, (uintmax_t)page,
             at, dump->source, expected[at], found[at]);
}

/*
 * Compares RAM, page for page, with what QEMU says of a part of a block.
 * @ram: where that part begins
 */
static void assert_ram_equals_dump(const RealDump *dump, const char *idstr, const uint8_t *ram)
{
    size_t length;
    const uint8_t *bytes = g_bytes_get_data(dump->bytes, &length);

    assert_int_equal(length % PAGE, 0);
    for (size_t at = 0; at < length; at += PAGE) {
        assert_page(dump, idstr, (dump->offset + at) / PAGE, bytes + at, ram + at);
    }
}

static unsigned pages_in_file(const Judgement *judgement, unsigned block)
{
    unsigned n = 0;
    uint64_t page = judgement_next_page_in_file(judgement, block, 0);

    while (page != UINT64_MAX) {
        n++;
        page = judgement_next_page_in_file(judgement, block, page + 1);
    }
    return n;
}

/* Each block must be covered by a dump as a whole: else nothing was compared. */
static void assert_dumps_cover(const Guest *guest, const GPtrArray *dumps)
{
    for (unsigned i = 0; i < guest->n_blocks; i++) {
        bool covered = false;

        for (unsigned j = 0; j < dumps->len; j++) {
            const RealDump *dump = dumps->pdata[j];

            covered |=
                dump->block == i && g_bytes_get_size(dump->bytes) == guest->blocks[i].used_length;
        }
        if (!covered) {
            fail_msg("block '%s' was not dumped", guest->blocks[i].idstr);
        }
    }
}

/* ---- the model ---- */

static void assert_accepted(const Judgement *judgement)
{
    if (judgement->verdict != VERDICT_ACCEPT) {
        g_autofree char *reason = judgement_describe_violation(judgement, 0);

        fail_msg("%s: %s", verdict_name(judgement->verdict), reason);
    }
    assert_int_equal(judgement->n_violations, 0);
}

static void assert_blocks_in_file(const Judgement *judgement)
{
    for (unsigned i = 0; i < judgement->guest.n_blocks; i++) {
        const JudgedBlock *block = &judgement->blocks[i];

        assert_true(block->in_file);
        assert_false(block->ignored);
        assert_false(block->unspecified);
        assert_int_equal(block->used_length, judgement->guest.blocks[i].used_length);
        assert_int_equal(block->page_size, PAGE);
        /* Section 11: what QEMU writes, beyond what a reader asks for. */
        assert_int_equal(block->bitmap_offset, block->header_offset + MAPPED_RAM_HDR_SIZE);
        assert_int_equal(block->pages_offset % MAPPED_RAM_FILE_OFFSET_ALIGNMENT, 0);
    }
}

/* The model's reading of each page, by the judge alone, is QEMU's RAM. */
static void assert_model_equals_dump(const Judgement *judgement, const RealDump *dump)
{
    size_t length;
    const uint8_t *bytes = g_bytes_get_data(dump->bytes, &length);
    const char *idstr = judgement->guest.blocks[dump->block].idstr;

    for (size_t at = 0; at < length; at += PAGE) {
        uint8_t page[PAGE] = { 0 };
        uint64_t number = (dump->offset + at) / PAGE;
        uint64_t offset;

        if (judgement_page(judgement, dump->block, number, &offset) == PAGE_FROM_FILE) {
            assert_int_equal(sparse_file_read(judgement->file, offset, page, PAGE), PAGE);
        }
        assert_page(dump, idstr, number, bytes + at, page);
    }
}

static void test_model(void **state)
{
    const Case *c = need_snapshot(state);
    bool x = c->capabilities && g_strv_contains(c->capabilities, "x-ignore-shared");

    assert_int_equal(c->judgement.has_x_ignore_shared, x);
    assert_accepted(&c->judgement);
    assert_blocks_in_file(&c->judgement);
    assert_dumps_cover(&c->snapshot->guest, c->snapshot->dumps);
    for (unsigned i = 0; i < c->snapshot->dumps->len; i++) {
        assert_model_equals_dump(&c->judgement, c->snapshot->dumps->pdata[i]);
    }
}

/* ---- the reference loader ---- */

typedef struct LoadedRam {
    uint8_t *ram[GUEST_MAX_BLOCKS]; /* max_length bytes each */
    RAMBlock blocks[GUEST_MAX_BLOCKS];
} LoadedRam;

static void loaded_ram_clear(LoadedRam *loaded)
{
    for (unsigned i = 0; i < GUEST_MAX_BLOCKS; i++) {
        g_free(loaded->ram[i]);
    }
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(LoadedRam, loaded_ram_clear)

/* Guest RAM full of @byte. */
static void loaded_ram_init(LoadedRam *loaded, const Guest *guest, uint8_t byte)
{
    for (unsigned i = 0; i < guest->n_blocks; i++) {
        const GuestBlock *block = &guest->blocks[i];

        loaded->ram[i] = g_malloc(block->max_length);
        memset(loaded->ram[i], byte, block->max_length);
        loaded->blocks[i] = (RAMBlock){
            .host = loaded->ram[i],
            .used_length = block->used_length,
            .max_length = block->max_length,
            .page_size = block->host_page_size,
        };
        g_strlcpy(loaded->blocks[i].idstr, block->idstr, sizeof(loaded->blocks[i].idstr));
    }
}

static void load(const char *path, const Guest *guest, LoadStages stages, bool clear_pages,
                 LoadedRam *loaded)
{
    g_autoptr(GError) error = NULL;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    FdReader reader;
    LoadSummary summary;
    MigrationIncomingState mis = {
        .reader = &reader.reader,
        .target_page_size = guest->target_page_size,
        .x_ignore_shared = guest->x_ignore_shared,
        .clear_pages = clear_pages,
        .machine = guest->machine,
        .blocks = loaded->blocks,
        .n_blocks = guest->n_blocks,
    };

    assert_true(fd >= 0);
    if (fd_reader_init(&reader, fd, &error)) {
        mapped_ram_load(&mis, stages, &summary, &error);
    }
    close(fd);
    assert_no_error(error);
    assert_string_equal(summary.machine, guest->machine);
}

static void check_load(const RealSnapshot *snapshot, LoadStages stages, bool clear_pages)
{
    const Guest *guest = &snapshot->guest;
    g_auto(LoadedRam) loaded = { 0 };

    loaded_ram_init(&loaded, guest, clear_pages ? 0x5a : 0);
    load(snapshot->path, guest, stages, clear_pages, &loaded);
    assert_dumps_cover(guest, snapshot->dumps);
    for (unsigned i = 0; i < snapshot->dumps->len; i++) {
        const RealDump *dump = snapshot->dumps->pdata[i];

        assert_ram_equals_dump(dump, guest->blocks[dump->block].idstr,
                               loaded.ram[dump->block] + dump->offset);
    }
}

static void check_reference(const RealSnapshot *snapshot)
{
    check_load(snapshot, LOAD_WHOLE, true);
    check_load(snapshot, LOAD_WHOLE, false);
    check_load(snapshot, LOAD_SPLIT, true);
    check_load(snapshot, LOAD_SPLIT, false);
}

static void test_reference(void **state)
{
    Case *c = need_snapshot(state);

    check_reference(c->snapshot);
}

/* ---- QEMU as the reader ---- */

/* Two QEMUs show the same RAM, in the same ways. */
static void assert_same_dumps(const Guest *guest, const GPtrArray *expected, const GPtrArray *found)
{
    assert_dumps_cover(guest, found);
    assert_int_equal(expected->len, found->len);
    for (unsigned i = 0; i < expected->len; i++) {
        const RealDump *a = expected->pdata[i];
        const RealDump *b = found->pdata[i];
        const uint8_t *ram = g_bytes_get_data(b->bytes, NULL);

        assert_string_equal(a->source, b->source);
        assert_int_equal(a->block, b->block);
        assert_int_equal(a->offset, b->offset);
        assert_int_equal(g_bytes_get_size(a->bytes), g_bytes_get_size(b->bytes));
        assert_ram_equals_dump(a, guest->blocks[a->block].idstr, ram);
    }
}

static void assert_qemu_loads(const Case *c, const char *path, const char *const *capabilities)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) dumps =
        real_snapshot_load(c->binary, c->machine, path, capabilities, &error);

    assert_no_error(error);
    assert_same_dumps(&c->snapshot->guest, c->snapshot->dumps, dumps);
}

static void test_qemu(void **state)
{
    Case *c = need_snapshot(state);

    assert_qemu_loads(c, c->snapshot->path, c->capabilities);
}

/* ---- capabilities ---- */

/*
 * QEMU 10.0.2 writes the guest physical address of a record (rule X1), but does
 * not read it before MappedRamHeader: it refuses its own snapshots. Nothing can
 * be compared there; a QEMU that loads them must load them right.
 */
static void test_qemu_x_ignore_shared(void **state)
{
    Case *c = need_snapshot(state);
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) dumps = NULL;
    bool refused;

    dumps = real_snapshot_load(c->binary, c->machine, c->snapshot->path, c->capabilities, &error);
    refused = error && strstr(error->message, "region has bad alignment");
    if (!refused) {
        assert_no_error(error);
        assert_same_dumps(&c->snapshot->guest, c->snapshot->dumps, dumps);
    }
    g_clear_error(&error);
    pagewise_skip_unless(!refused, "qemu-x-ignore-shared",
                         "this QEMU refuses the mapped-ram snapshots with x-ignore-shared that it "
                         "saved itself (it does not read the block's address)",
                         "a QEMU that reads it; 10.0.2 does not");
}

/* Saved by several channels, loaded by one. */
static void test_multifd_loads_plain(void **state)
{
    Case *c = need_snapshot(state);

    assert_qemu_loads(c, c->snapshot->path, NULL);
}

/* ---- the reference writer ---- */

/* What follows the START section's footer in the real file: EOS and footer are 13 bytes. */
static GBytes *real_tail(const Case *c)
{
    uint64_t at = 0;
    uint64_t length;
    uint8_t *bytes;

    for (unsigned i = 0; i < c->judgement.guest.n_blocks; i++) {
        const JudgedBlock *block = &c->judgement.blocks[i];

        at = MAX(at, block->pages_offset + block->used_length + 13);
    }
    length = sparse_file_size(c->file) - at;
    bytes = g_malloc(length);
    assert_int_equal(sparse_file_read(c->file, at, bytes, length), length);
    return g_bytes_new_take(bytes, length);
}

/* The loaded blocks in the order in which the file has them. */
static void sort_blocks(const Case *c, const LoadedRam *loaded, RAMBlock *blocks)
{
    for (unsigned i = 0; i < c->judgement.guest.n_blocks; i++) {
        unsigned before = 0;

        for (unsigned j = 0; j < c->judgement.guest.n_blocks; j++) {
            before += c->judgement.blocks[j].record_offset < c->judgement.blocks[i].record_offset;
        }
        blocks[before] = loaded->blocks[i];
    }
}

/* Saves what the reference loader read from the snapshot. */
static void write_again(const Case *c, GBytes *tail, const char *path)
{
    const Guest *guest = &c->snapshot->guest;
    g_auto(LoadedRam) loaded = { 0 };
    g_autoptr(GError) error = NULL;
    int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);
    RAMBlock blocks[GUEST_MAX_BLOCKS];
    FdWriter writer;
    SaveOptions options = {
        .machine = guest->machine,
        .target_page_size = guest->target_page_size,
        .x_ignore_shared = guest->x_ignore_shared,
        .section_id = c->judgement.section_id,
    };

    if (tail) {
        options.tail = g_bytes_get_data(tail, &options.tail_length);
    }
    loaded_ram_init(&loaded, guest, 0);
    load(c->snapshot->path, guest, LOAD_WHOLE, false, &loaded);
    sort_blocks(c, &loaded, blocks);
    assert_true(fd >= 0);
    fd_writer_init(&writer, fd);
    mapped_ram_save(&writer.writer, blocks, guest->n_blocks, &options, &error);
    close(fd);
    assert_no_error(error);
}

static void assert_same_bytes(const SparseFile *file, const char *path)
{
    g_autofree char *bytes = NULL;
    size_t length;

    assert_true(g_file_get_contents(path, &bytes, &length, NULL));
    assert_int_equal(length, sparse_file_size(file));
    assert_int_equal(sparse_file_compare(file, 0, bytes, length), length);
}

/* Loaded and saved again, with QEMU's tail, is QEMU's file, byte for byte; and loads in QEMU. */
static void test_writer(void **state)
{
    Case *c = need_snapshot(state);
    g_autoptr(GBytes) tail = NULL;
    g_autofree char *path = NULL;

    assert_accepted(&c->judgement);
    tail = real_tail(c);
    path = qemu_folder_path(c->folder, "again.snapshot");
    write_again(c, tail, path);
    assert_same_bytes(c->file, path);
    if (!c->snapshot->guest.x_ignore_shared) {
        assert_qemu_loads(c, path, c->capabilities);
    }
}

/* "none" has no devices: END of ram and EOF are all that QEMU needs. */
static void test_qemu_loads_our_own_tail(void **state)
{
    Case *c = need_snapshot(state);
    g_autofree char *path = NULL;

    path = qemu_folder_path(c->folder, "again.snapshot");
    write_again(c, NULL, path);
    assert_qemu_loads(c, path, NULL);
}

/* ---- the form for the corpora ---- */

static void assert_same_layout(const Judgement *a, const Judgement *b)
{
    for (unsigned i = 0; i < a->guest.n_blocks; i++) {
        uint64_t page = UINT64_MAX;

        assert_memory_equal(&a->blocks[i], &b->blocks[i], sizeof(a->blocks[i]));
        do {
            uint64_t next = judgement_next_page_in_file(a, i, page + 1);

            assert_int_equal(judgement_next_page_in_file(b, i, page + 1), next);
            page = next;
        } while (page != UINT64_MAX);
    }
}

/* A page of one byte repeated is kept; of any other just that it is not zero. */
static void assert_page_stands_in(const SparseFile *file, const SparseFile *small, uint64_t offset)
{
    static const uint8_t zero[PAGE];
    uint8_t page[PAGE];

    assert_int_equal(sparse_file_read(file, offset, page, PAGE), PAGE);
    if (memcmp(page, page + 1, PAGE - 1) == 0) {
        assert_int_equal(sparse_file_compare(small, offset, page, PAGE), PAGE);
    } else {
        assert_true(sparse_file_compare(small, offset, zero, PAGE) < PAGE);
    }
}

static void assert_pages_stand_in(const Judgement *judgement, const SparseFile *small)
{
    for (unsigned i = 0; i < judgement->guest.n_blocks; i++) {
        uint64_t page = judgement_next_page_in_file(judgement, i, 0);

        while (page != UINT64_MAX) {
            assert_page_stands_in(judgement->file, small,
                                  judgement->blocks[i].pages_offset + page * PAGE);
            page = judgement_next_page_in_file(judgement, i, page + 1);
        }
    }
}

static void test_sparse(void **state)
{
    Case *c = need_snapshot(state);
    g_autoptr(GError) error = NULL;
    g_autoptr(GByteArray) bytes = g_byte_array_new();
    Judgement judgement;

    real_snapshot_to_sparse(c->snapshot->path, &c->snapshot->guest, c->small, &error);
    assert_no_error(error);
    judge_file(c->small, &c->snapshot->guest, &judgement);
    assert_accepted(&judgement);
    assert_int_equal(judgement.end, c->judgement.end);
    assert_same_layout(&c->judgement, &judgement);
    assert_pages_stand_in(&c->judgement, c->small);
    assert_true(pages_in_file(&judgement, 0) > 0);
    sparse_file_encode(c->small, bytes);
    assert_in_range(bytes->len, 1, SEED_MAX - INPUT_OVERHEAD);
}

static void test_sparse_refuses(void **state)
{
    Case *c = need_snapshot(state);
    g_autoptr(GError) error = NULL;
    Guest guest;

    guest = c->snapshot->guest;
    guest.blocks[0].idstr[0] = 'X';
    assert_false(real_snapshot_to_sparse(c->snapshot->path, &guest, c->small, &error));
    assert_non_null(strstr(error->message, "R3"));
    g_clear_error(&error);
    assert_false(real_snapshot_to_sparse(qemu_folder_name(c->folder), &guest, c->small, &error));
    assert_non_null(error);
}

/* ---- the pagewise command ---- */

/* Runs pagewise with @arguments; it must succeed. Returns what it printed. */
static char *run_pagewise(const char *const *arguments)
{
    g_autoptr(GStrvBuilder) builder = g_strv_builder_new();
    g_autoptr(GError) error = NULL;
    g_auto(GStrv) argv = NULL;
    g_autofree char *complaint = NULL;
    char *output = NULL;
    int status;

    g_strv_builder_add(builder, PAGEWISE_PROGRAM);
    g_strv_builder_addv(builder, (const char **)arguments);
    argv = g_strv_builder_end(builder);
    g_spawn_sync(NULL, argv, NULL, G_SPAWN_DEFAULT, NULL, NULL, &output, &complaint, &status,
                 &error);
    assert_no_error(error);
    if (status != 0) {
        fail_msg("pagewise %s: wait status %d: %s%s", arguments[0], status, output, complaint);
    }
    return output;
}

static void test_command_accepts(void **state)
{
    Case *c = need_snapshot(state);
    const char *const inspect[] = { "inspect", c->snapshot->path, NULL };
    const char *const verify[] = { "verify", c->snapshot->path, NULL };
    g_autofree char *listing = run_pagewise(inspect);
    g_autofree char *verdict = run_pagewise(verify);

    for (unsigned i = 0; i < c->snapshot->guest.n_blocks; i++) {
        assert_non_null(strstr(listing, c->snapshot->guest.blocks[i].idstr));
    }
    assert_non_null(strstr(verdict, verdict_name(VERDICT_ACCEPT)));
}

/* inspect --text, then make: the same bytes again. */
static void test_command_makes_it_again(void **state)
{
    Case *c = need_snapshot(state);
    g_autofree char *text_path = qemu_folder_path(c->folder, "description");
    g_autofree char *again_path = qemu_folder_path(c->folder, "again");
    const char *const inspect[] = { "inspect", "--text", c->snapshot->path, NULL };
    const char *const make[] = { "make", text_path, again_path, NULL };
    const char *const diff[] = { "diff", c->snapshot->path, again_path, NULL };
    g_autofree char *text = run_pagewise(inspect);
    g_autofree char *made = NULL;
    g_autofree char *difference = NULL;
    g_autoptr(SparseFile) again = sparse_file_new();
    SparseExtent extent;

    assert_true(g_file_set_contents(text_path, text, -1, NULL));
    made = run_pagewise(make);
    difference = run_pagewise(diff);
    read_sparse(again_path, again);
    assert_int_equal(sparse_file_size(again), sparse_file_size(c->file));
    assert_int_equal(sparse_file_data_bytes(again), sparse_file_data_bytes(c->file));
    for (uint64_t at = 0; sparse_file_next_data(c->file, at, &extent);
         at = extent.offset + extent.length) {
        g_autofree uint8_t *bytes = g_malloc(extent.length);

        sparse_file_read(c->file, extent.offset, bytes, extent.length);
        assert_int_equal(sparse_file_compare(again, extent.offset, bytes, extent.length),
                         extent.length);
    }
}

/* A snapshot of our own making for the guest that QEMU has: some pages of each block. */
static void make_our_own(const Guest *guest, const char *text_path)
{
    g_autoptr(Snapshot) snapshot = snapshot_new();
    g_autofree char *text = NULL;

    snapshot_fit(snapshot, guest);
    for (unsigned i = 0; i < snapshot->blocks->len; i++) {
        SnapshotBlock *block = snapshot_block(snapshot, i);
        uint64_t last = block->used_length / PAGE - 1;

        snapshot_block_add_run(block,
                               (PageRun){
                                   .first = 0, .count = 2, .content = CONTENT_PATTERN, .seed = i });
        snapshot_block_add_run(block, (PageRun){ .first = last,
                                                 .count = 1,
                                                 .content = CONTENT_PATTERN,
                                                 .seed = 7 });
    }
    snapshot_layout(snapshot, SNAPSHOT_PAGES_ALIGNMENT);
    text = snapshot_to_text(snapshot);
    assert_true(g_file_set_contents(text_path, text, -1, NULL));
}

/* A real QEMU loads the file, and its RAM is what the model reads in it. */
static void assert_qemu_agrees(QemuCase *qemu, const char *path)
{
    const Guest *guest = qemu_subject_get(qemu->subject)->guest;
    g_autoptr(SparseFile) file = sparse_file_new();
    g_autoptr(GByteArray) input = g_byte_array_new();
    g_autofree Judgement *judgement = g_new(Judgement, 1);
    g_autoptr(GError) broken = NULL;
    g_autoptr(GError) error = NULL;
    g_autofree char *kind = NULL;

    read_sparse(path, file);
    judge_file(file, guest, judgement);
    assert_accepted(judgement);
    for (unsigned i = 0; i < guest->n_blocks; i++) {
        assert_int_equal(pages_in_file(judgement, i), 3);
    }
    assert_true(input_encode_stream(guest, file, 0, input));
    qemu_case_run(qemu, input->data, input->len, &kind, &broken, &error);
    assert_no_error(error);
    assert_no_error(broken);
    assert_int_equal(qemu_subject_outcome(qemu->subject), QEMU_LOAD_COMPLETED);
}

static void check_made_by_command(const char *machine, unsigned channels)
{
    g_autoptr(QemuBinary) binary = require_qemu();
    const QemuSubjectConfig config = {
        .machine = qemu_machine_find(machine),
        .mib = 1,
        .transfer = { .channels = channels },
        .limits = LOAD_LIMITS_DEFAULT,
        .fresh = true,
    };
    g_autoptr(GError) error = NULL;
    g_autoptr(QemuFolder) folder = qemu_folder_new(&error);
    g_autoptr(QemuCase) qemu = folder ? qemu_case_new(binary, &config, NULL, &error) : NULL;
    g_autofree char *text = folder ? qemu_folder_path(folder, "description") : NULL;
    g_autofree char *path = folder ? qemu_folder_path(folder, "made") : NULL;
    const char *const make[] = { "make", text, path, NULL };
    g_autofree char *output = NULL;

    assert_no_error(error);
    make_our_own(qemu_subject_get(qemu->subject)->guest, text);
    output = run_pagewise(make);
    assert_qemu_agrees(qemu, path);
}

/* What "pagewise make" makes of a text of ours, QEMU loads, in each way. */
static void test_qemu_loads_what_command_made(void **state)
{
    (void)state;
    check_made_by_command("none", 0);
    check_made_by_command("none", 1);
    check_made_by_command("none", 8);
    check_made_by_command("microvm", 0);
    check_made_by_command("microvm", 2);
}

#define ON(function, name) named_test(#function " on " #name, function, &cases[name])

static struct CMUnitTest named_test(const char *name, CMUnitTestFunction function, Case *c)
{
    return (struct CMUnitTest){ name, function, NULL, NULL, c };
}

int main(void)
{
    enum { NONE, MICROVM, Q35_VGA, NONE_X, Q35_VGA_X, Q35_VGA_MULTIFD, CASES };
    Case cases[CASES] = {
        [NONE] = { .machine = 0 },
        [MICROVM] = { .machine = 1 },
        [Q35_VGA] = { .machine = 2 },
        [NONE_X] = { .machine = 0, .capabilities = x_ignore_shared },
        [Q35_VGA_X] = { .machine = 2, .capabilities = x_ignore_shared },
        [Q35_VGA_MULTIFD] = { .machine = 2, .capabilities = multifd },
    };
    const struct CMUnitTest tests[] = {
        ON(test_model, NONE),
        ON(test_model, MICROVM),
        ON(test_model, Q35_VGA),
        ON(test_model, NONE_X),
        ON(test_model, Q35_VGA_X),
        ON(test_model, Q35_VGA_MULTIFD),
        ON(test_reference, NONE),
        ON(test_reference, MICROVM),
        ON(test_reference, Q35_VGA),
        ON(test_reference, NONE_X),
        ON(test_reference, Q35_VGA_X),
        ON(test_reference, Q35_VGA_MULTIFD),
        ON(test_qemu, NONE),
        ON(test_qemu, MICROVM),
        ON(test_qemu, Q35_VGA),
        ON(test_qemu, Q35_VGA_MULTIFD),
        ON(test_qemu_x_ignore_shared, NONE_X),
        ON(test_qemu_x_ignore_shared, Q35_VGA_X),
        ON(test_multifd_loads_plain, Q35_VGA_MULTIFD),
        ON(test_writer, NONE),
        ON(test_writer, MICROVM),
        ON(test_writer, Q35_VGA),
        ON(test_writer, Q35_VGA_MULTIFD),
        ON(test_writer, NONE_X),
        ON(test_qemu_loads_our_own_tail, NONE),
        ON(test_sparse, NONE),
        ON(test_sparse, MICROVM),
        ON(test_sparse, Q35_VGA),
        ON(test_sparse, NONE_X),
        ON(test_sparse_refuses, NONE),
        ON(test_command_accepts, NONE),
        ON(test_command_accepts, MICROVM),
        ON(test_command_accepts, Q35_VGA),
        ON(test_command_accepts, Q35_VGA_X),
        ON(test_command_makes_it_again, NONE),
        ON(test_command_makes_it_again, MICROVM),
        ON(test_command_makes_it_again, Q35_VGA),
        cmocka_unit_test(test_qemu_loads_what_command_made),
    };
    QemuFolder *folder = tmpdir_enter();
    int status = folder ? pagewise_run("test-real-snapshots", tests) : 1;

    for (unsigned i = 0; i < CASES; i++) {
        case_clear(&cases[i]);
    }
    return folder && tmpdir_leave(folder) ? status : 1;
}

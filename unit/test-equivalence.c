/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Real machines, every way of saving against every way of loading: each pair
 * gives the RAM of the source, page for page, which is also what the model
 * reads in the file. The property multifd=plain of a real QEMU.
 */
#include "model/judge.h"
#include "qtest-glue/error.h"
#include "qtest-glue/qemu-guest.h"
#include "unit/qemu-test.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>

#define PAGE ((uint64_t)QEMU_X86_PAGE_SIZE)
#define MAX_DATA (UINT64_C(64) << 20)

static const QemuTransfer ways[] = {
    { .channels = 0 },
    { .channels = 1 },
    { .channels = 2 },
    { .channels = 8 },
    { .channels = 2, .direct_io = true },
};

static const QemuTransfer lazy_way = { .lazy = true };

static const LoadLimits limits = { .wall_ms = 60000, .cpu_ms = 30000, .memory = 512 << 20 };

/* A machine at the source, its RAM as it was saved, and the files. */
typedef struct Source {
    const QemuMachine *machine;
    unsigned mib;
    QemuBinary *binary;
    QemuFolder *folder;
    QemuGuest *guest;
    QemuProcess *qemu;
    uint8_t *others[GUEST_MAX_BLOCKS]; /* blocks that are not the main RAM, max_length bytes */
    char *paths[G_N_ELEMENTS(ways)];   /* NULL: not saved like that yet */
} Source;

static void source_clear(Source *source)
{
    qemu_process_free(source->qemu);
    qemu_guest_free(source->guest);
    qemu_folder_free(source->folder);
    qemu_binary_free(source->binary);
    for (unsigned i = 0; i < GUEST_MAX_BLOCKS; i++) {
        g_free(source->others[i]);
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(ways); i++) {
        g_free(source->paths[i]);
    }
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Source, source_clear)

static void assert_no_error(const GError *error)
{
    if (error) {
        fail_msg("%s", error->message);
    }
}

/* ---- the source ---- */

static void fill_page(uint8_t *page, uint32_t seed, uint64_t at)
{
    for (uint64_t i = 0; i < PAGE; i++) {
        page[i] = sparse_pattern(seed, at + i);
    }
}

/*
 * Into the backing file: pages around the edges of the bitmap's words, at both
 * ends, and all over a large block; one byte repeated, and a page that is zero
 * but for its last byte.
 */
static void fill_backing_file(QemuGuest *guest)
{
    uint64_t length;
    uint8_t *ram = qemu_guest_ram(guest, &length);
    uint64_t pages = length / PAGE;
    const uint64_t edges[] = { 0, 1, 63, 64, 65, 127, 128, 130, 131, pages - 2, pages - 1 };

    for (unsigned i = 0; i < G_N_ELEMENTS(edges); i++) {
        fill_page(ram + edges[i] * PAGE, 1, edges[i] * PAGE);
    }
    for (uint64_t page = 200; page < pages; page += MAX(pages / 97, 7)) {
        fill_page(ram + page * PAGE, 2, page * PAGE);
    }
    memset(ram + 10 * PAGE, 0xa5, PAGE);
    ram[31 * PAGE - 1] = 1;
}

/* What the guest's processor would have written, below the hole at 640 KiB. */
static void fill_through_qtest(Source *source)
{
    QtestClient *qtest = qemu_process_qtest(source->qemu);
    g_autoptr(GError) error = NULL;
    uint8_t bytes[3 * QEMU_X86_PAGE_SIZE];
    uint8_t read[sizeof(bytes)];

    fill_page(bytes, 3, 0);
    fill_page(bytes + PAGE, 4, 0);
    fill_page(bytes + 2 * PAGE, 5, 0);
    assert_true(qtest_write(qtest, 40 * PAGE, bytes, sizeof(bytes), &error));
    assert_true(qtest_write_b64(qtest, 45 * PAGE + 100, bytes, sizeof(bytes), &error));
    assert_true(qtest_memset(qtest, 50 * PAGE, 0x3c, 2 * PAGE, &error));
    assert_true(qtest_read(qtest, 40 * PAGE, read, sizeof(read), &error));
    assert_memory_equal(read, bytes, sizeof(bytes));
    assert_true(qtest_read_b64(qtest, 45 * PAGE + 100, read, sizeof(read), &error));
    assert_memory_equal(read, bytes, sizeof(bytes));
    assert_true(qtest_read(qtest, 50 * PAGE, read, 1, &error));
    assert_int_equal(read[0], 0x3c);
    assert_no_error(error);
}

/* The video RAM, if there is one, gets a page, too. */
static void fill_others(Source *source)
{
    const GArray *blocks = qemu_guest_blocks(source->guest);
    uint8_t page[QEMU_X86_PAGE_SIZE];
    g_autoptr(GError) error = NULL;

    fill_page(page, 6, 0);
    for (unsigned i = 0; i < blocks->len; i++) {
        const QemuBlock *block = &g_array_index(blocks, QemuBlock, i);

        if (g_str_has_suffix(block->idstr, "vga.vram")) {
            qemu_write_block(source->qemu, block, 3 * PAGE, page, PAGE, &error);
            qemu_write_block(source->qemu, block, block->used - PAGE, page, PAGE, &error);
        }
    }
    assert_no_error(error);
}

static void copy_others(Source *source)
{
    const Guest *guest = qemu_guest_describe(source->guest);
    g_autoptr(GError) error = NULL;

    for (unsigned i = 0; i < guest->n_blocks; i++) {
        if (i != qemu_guest_ram_block(source->guest)) {
            source->others[i] = g_malloc0(guest->blocks[i].max_length);
            qemu_guest_copy_block(source->guest, qemu_process_pid(source->qemu), i,
                                  source->others[i], &error);
            assert_no_error(error);
        }
    }
}

/* One QEMU can save once; the main RAM is the same in the next one. */
static void start_qemu(Source *source)
{
    const QemuGuestStart start = { .qtest = source->machine->has_processor };
    g_autoptr(GError) error = NULL;

    source->qemu = qemu_guest_start(source->guest, source->binary, &start, &error);
    assert_no_error(error);
    fill_others(source);
}

static void start_source(Source *source, const char *machine, unsigned mib)
{
    g_autoptr(GError) error = NULL;

    source->binary = require_qemu();
    source->machine = qemu_machine_find(machine);
    source->mib = mib;
    source->folder = qemu_folder_new(&error);
    assert_no_error(error);
    source->guest = qemu_guest_new(source->machine, mib, &error);
    assert_no_error(error);
    start_qemu(source);
    if (source->binary->major == 10) {
        assert_int_equal(qemu_guest_describe(source->guest)->n_blocks, source->machine->blocks);
    }
    fill_backing_file(source->guest);
    if (source->machine->has_processor) {
        fill_through_qtest(source);
    }
    copy_others(source);
}

static void save(Source *source, unsigned way)
{
    g_autofree char *name = g_strdup_printf("way%u.snapshot", way);
    g_autoptr(GError) error = NULL;

    if (!source->qemu) {
        start_qemu(source);
    }
    source->paths[way] = qemu_folder_path(source->folder, name);
    if (!qemu_save(source->qemu, source->paths[way], &ways[way], &error)) {
        g_autofree char *how = qemu_transfer_name(&ways[way]);

        fail_msg("saving %s: %s", how, error->message);
    }
    g_clear_pointer(&source->qemu, qemu_process_free);
}

/* ---- comparisons ---- */

static void assert_pages(const char *what, const char *idstr, const uint8_t *expected,
                         const uint8_t *found, uint64_t length)
{
    for (uint64_t at = 0; at < length; at += PAGE) {
        if (memcmp(expected + at, found + at, PAGE) != 0) {
            fail_msg("%s: block '%s', page %ju differs", what, idstr, (uintmax_t)(at / PAGE));
        }
    }
}

/* The same of main RAM as QEMU left it. */
static void assert_main_ram(const char *what, const char *idstr, const uint8_t *expected,
                            const QemuGuest *guest)
{
    static const uint8_t zeroes[QEMU_X86_PAGE_SIZE];
    uint64_t length;
    const uint8_t *ram = qemu_guest_ram(guest, &length);
    uint64_t data = qemu_guest_next_data(guest, 0);

    for (uint64_t at = 0; at < length; at += PAGE) {
        if (data < at) {
            data = qemu_guest_next_data(guest, at);
        }
        if (memcmp(expected + at, data == at ? ram + at : zeroes, PAGE) != 0) {
            fail_msg("%s: block '%s', page %ju differs", what, idstr, (uintmax_t)(at / PAGE));
        }
    }
}

/* A block of the source, max_length bytes. */
static const uint8_t *source_block(const Source *source, unsigned block)
{
    uint64_t length;

    return source->others[block] ? source->others[block] : qemu_guest_ram(source->guest, &length);
}

static void assert_ram_is_source(const Source *source, const char *what, const QemuGuest *guest,
                                 const QemuProcess *qemu)
{
    const Guest *description = qemu_guest_describe(guest);

    assert_int_equal(description->n_blocks, qemu_guest_describe(source->guest)->n_blocks);
    for (unsigned i = 0; i < description->n_blocks; i++) {
        const GuestBlock *block = &description->blocks[i];
        g_autofree uint8_t *copy = NULL;
        g_autoptr(GError) error = NULL;

        if (i == qemu_guest_ram_block(guest)) {
            assert_main_ram(what, block->idstr, source_block(source, i), guest);
            continue;
        }
        copy = g_malloc0(block->max_length);
        qemu_guest_copy_block(guest, qemu_process_pid(qemu), i, copy, &error);
        assert_no_error(error);
        assert_pages(what, block->idstr, source_block(source, i), copy, block->used_length);
    }
}

static void read_file(const char *path, SparseFile *file)
{
    g_autoptr(GError) error = NULL;
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    assert_true(fd >= 0);
    sparse_file_from_fd(file, fd, MAX_DATA, &error);
    close(fd);
    assert_no_error(error);
}

/* The model's reading of one block is the source's RAM. Returns pages in the file. */
static uint64_t assert_model_block(const Source *source, const Judgement *judgement, unsigned block)
{
    const GuestBlock *description = &judgement->guest.blocks[block];
    const uint8_t *ram = source_block(source, block);
    uint64_t in_file = 0;

    for (uint64_t page = 0; page < description->used_length / PAGE; page++) {
        static const uint8_t zeroes[QEMU_X86_PAGE_SIZE];
        uint64_t offset;
        bool from_file = judgement_page(judgement, block, page, &offset) == PAGE_FROM_FILE;

        in_file += from_file;
        if (from_file
                ? sparse_file_compare(judgement->file, offset, ram + page * PAGE, PAGE) != PAGE
                : memcmp(ram + page * PAGE, zeroes, PAGE) != 0) {
            fail_msg("block '%s', page %ju: the model does not read the source's RAM",
                     description->idstr, (uintmax_t)page);
        }
    }
    return in_file;
}

/* The content of every file is the source's RAM, with the same bits set in each. */
static void assert_model_reads_source(const Source *source, unsigned way, uint64_t *bits)
{
    g_autoptr(SparseFile) file = sparse_file_new();
    g_autofree Judgement *judgement = g_new(Judgement, 1);
    const Guest *guest = qemu_guest_describe(source->guest);

    read_file(source->paths[way], file);
    judge_file(file, guest, judgement);
    if (judgement->verdict != VERDICT_ACCEPT) {
        g_autofree char *reason = judgement_describe_violation(judgement, 0);

        fail_msg("%s: %s", source->paths[way], reason);
    }
    for (unsigned i = 0; i < guest->n_blocks; i++) {
        uint64_t in_file = assert_model_block(source, judgement, i);

        assert_true(way == 0 || bits[i] == in_file);
        bits[i] = in_file;
    }
}

/* ---- pairs ---- */

static void load(const Source *source, const char *path, const char *saved,
                 const QemuTransfer *transfer)
{
    const QemuGuestStart start = { .incoming = true };
    g_autofree char *loaded = qemu_transfer_name(transfer);
    g_autofree char *what = g_strdup_printf("%s, %u MiB, saved %s, loaded %s",
                                            source->machine->name, source->mib, saved, loaded);
    g_autoptr(GError) error = NULL;
    g_autoptr(QemuGuest) guest = qemu_guest_new(source->machine, source->mib, &error);
    g_autoptr(QemuProcess) qemu = NULL;

    assert_no_error(error);
    qemu = qemu_guest_start(guest, source->binary, &start, &error);
    assert_no_error(error);
    if (qemu_load(qemu, path, transfer, &limits, &error) != QEMU_LOAD_COMPLETED) {
        fail_msg("%s: %s", what, error->message);
    }
    assert_ram_is_source(source, what, guest, qemu);
}

/* All ways of saving against all of loading. */
static void check_pairs(const char *machine, unsigned mib)
{
    g_auto(Source) source = { 0 };
    uint64_t bits[GUEST_MAX_BLOCKS] = { 0 };
    unsigned pairs = 0;

    start_source(&source, machine, mib);
    for (unsigned i = 0; i < G_N_ELEMENTS(ways); i++) {
        save(&source, i);
        assert_model_reads_source(&source, i, bits);
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(ways); i++) {
        g_autofree char *saved = qemu_transfer_name(&ways[i]);

        for (unsigned j = 0; j < G_N_ELEMENTS(ways); j++) {
            load(&source, source.paths[i], saved, &ways[j]);
            pairs++;
        }
    }
    print_message("%s, %u MiB: %u pairs of ways to save and to load\n", machine, mib, pairs);
}

static void test_none(void **state)
{
    (void)state;
    check_pairs("none", 1);
}

static void test_microvm(void **state)
{
    (void)state;
    check_pairs("microvm", 1);
}

static void test_pc(void **state)
{
    (void)state;
    check_pairs("pc", 2);
}

static void test_q35_vga(void **state)
{
    (void)state;
    check_pairs("q35-vga", 64);
}

/* Sparse RAM keeps it quick. */
static void test_one_gib(void **state)
{
    (void)state;
    check_pairs("none", 1024);
}

static void test_lazy(void **state)
{
    g_auto(Source) source = { 0 };

    (void)state;
    qemu_binary_free(require_fast_snapshot_load());
    for (unsigned i = 0; i < 2; i++) {
        source_clear(&source);
        source = (Source){ 0 };
        start_source(&source, i ? "q35-vga" : "none", 2);
        for (unsigned j = 0; j < G_N_ELEMENTS(ways); j++) {
            g_autofree char *saved = qemu_transfer_name(&ways[j]);

            save(&source, j);
            load(&source, source.paths[j], saved, &lazy_way);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_none),    cmocka_unit_test(test_microvm), cmocka_unit_test(test_pc),
        cmocka_unit_test(test_q35_vga), cmocka_unit_test(test_one_gib), cmocka_unit_test(test_lazy),
    };
    QemuFolder *folder = tmpdir_enter();
    int status = folder ? pagewise_run("test-equivalence", tests) : 1;

    return folder && tmpdir_leave(folder) ? status : 1;
}

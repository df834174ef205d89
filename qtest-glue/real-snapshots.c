/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Snapshots of real machines: see real-snapshots.h.
 */
#include "qtest-glue/real-snapshots.h"
#include "model/judge.h"
#include "qtest-glue/error.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define PAGE ((uint64_t)QEMU_X86_PAGE_SIZE)
#define MAX_RANGES 4
#define RAM_NAME "ram"
/* Bounds what sparse_file_from_fd() reads: the machines have about 1 MiB. */
#define MAX_DATA (64 * 1024 * 1024)

/* Where the guest's processor sees a part of a block. */
typedef struct PhysicalRange {
    const char *idstr;
    uint64_t offset; /* in the block, bytes */
    uint64_t address;
    uint64_t length; /* 0 ends the list */
} PhysicalRange;

typedef struct RealMachine {
    const char *name;
    const char *type; /* of -machine */
    const char *ram;  /* idstr that QEMU itself gives to the main RAM */
    unsigned ram_mib;
    const char *vga;       /* of -vga */
    const char *video_ram; /* idstr of a second block that gets patterns */
    PhysicalRange ranges[MAX_RANGES];
} RealMachine;

static const RealMachine machines[REAL_MACHINES] = {
    {
        .name = "none",
        .type = "none",
        .ram = "ram",
        .ram_mib = 1,
        .vga = "none",
        .ranges = { { "ram", 0, 0, 0x100000 } },
    },
    {
        .name = "microvm",
        .type = "microvm",
        .ram = "microvm.ram",
        .ram_mib = 1,
        .vga = "none",
        .ranges = {
            { "microvm.ram", 0, 0, 0xe0000 },
            { "pc.bios", 0, 0xfffe0000, 0x20000 },
        },
    },
    {
        .name = "q35-vga",
        .type = "q35",
        .ram = "pc.ram",
        .ram_mib = 2,
        .vga = "std",
        .video_ram = "0000:00:01.0/vga.vram",
        .ranges = {
            { "pc.ram", 0, 0, 0xa0000 },
            { "pc.ram", 0x100000, 0x100000, 0x100000 },
            { "pc.rom", 0, 0xc0000, 0x20000 },
            { "pc.bios", 0, 0xfffc0000, 0x40000 },
        },
    },
};

const char *real_machine_name(unsigned machine)
{
    return machines[machine].name;
}

static void real_dump_free(gpointer data)
{
    RealDump *dump = data;

    g_bytes_unref(dump->bytes);
    g_free(dump);
}

void real_snapshot_free(RealSnapshot *snapshot)
{
    if (!snapshot) {
        return;
    }
    g_free(snapshot->path);
    g_clear_pointer(&snapshot->dumps, g_ptr_array_unref);
    g_free(snapshot);
}

static bool ignores_shared(const char *const *capabilities)
{
    return capabilities && g_strv_contains(capabilities, "x-ignore-shared");
}

/* The -object for the main RAM. Free with g_free(). */
static char *ram_object(const RealMachine *machine, const char *folder, bool private_ram)
{
    g_autofree char *escaped = qemu_escape_option(folder);

    if (private_ram) {
        return g_strdup_printf("memory-backend-ram,id=%s,size=%uM", machine->ram, machine->ram_mib);
    }
    return g_strdup_printf("memory-backend-file,id=%s,size=%uM,mem-path=%s/" RAM_NAME ",share=on",
                           machine->ram, machine->ram_mib, escaped);
}

static QemuProcess *start_machine(const QemuBinary *binary, const RealMachine *machine,
                                  bool private_ram, bool incoming, GError **error)
{
    QemuFolder *folder = qemu_folder_new(error);
    g_autoptr(GStrvBuilder) builder = g_strv_builder_new();
    g_autofree char *object = NULL;
    g_autofree char *type = NULL;
    g_autofree char *size = NULL;
    g_auto(GStrv) arguments = NULL;

    if (!folder) {
        return NULL;
    }
    object = ram_object(machine, qemu_folder_name(folder), private_ram);
    type = g_strdup_printf("%s,memory-backend=%s", machine->type, machine->ram);
    size = g_strdup_printf("%u", machine->ram_mib);
    g_strv_builder_add_many(builder, "-accel", "tcg", "-object", object, "-machine", type, "-m",
                            size, "-vga", machine->vga, NULL);
    if (incoming) {
        g_strv_builder_add_many(builder, "-incoming", "defer", NULL);
    }
    arguments = g_strv_builder_end(builder);
    return qemu_process_start(binary, (const char *const *)arguments, folder, error);
}

/*
 * Pages of patterns around the edges of the bitmap's words, at both ends and
 * in runs, one that is a byte repeated, and two that are zero but for one
 * byte, which a careless test for zero would miss.
 */
static bool put_patterns(QemuProcess *qemu, const QemuBlock *block, uint32_t seed, GError **error)
{
    uint64_t pages = block->used / PAGE;
    uint64_t patterned[] = { 0, 1, 63, 64, 65, 127, 128, 130, 131, 132, 191, pages - 1 };
    uint8_t bytes[PAGE];

    for (unsigned i = 0; i < G_N_ELEMENTS(patterned); i++) {
        uint64_t at = patterned[i] * PAGE;

        for (uint64_t j = 0; j < PAGE; j++) {
            bytes[j] = sparse_pattern(seed, at + j);
        }
        if (!qemu_write_block(qemu, block, at, bytes, PAGE, error)) {
            return false;
        }
    }
    memset(bytes, 0xa5, PAGE);
    return qemu_write_block(qemu, block, 10 * PAGE, bytes, PAGE, error) &&
           qemu_write_block(qemu, block, 20 * PAGE, "\1", 1, error) &&
           qemu_write_block(qemu, block, 31 * PAGE - 1, "\1", 1, error);
}

static bool fill_ram(QemuProcess *qemu, const RealMachine *machine, GArray *blocks, GError **error)
{
    for (unsigned i = 0; i < blocks->len; i++) {
        const QemuBlock *block = &g_array_index(blocks, QemuBlock, i);

        if ((strcmp(block->idstr, machine->ram) == 0 ||
             g_strcmp0(block->idstr, machine->video_ram) == 0) &&
            !put_patterns(qemu, block, i + 1, error)) {
            return false;
        }
    }
    return true;
}

/* Takes @bytes over; NULL is the error that the caller returns. */
static bool add_dump(GPtrArray *dumps, const char *source, unsigned block, uint64_t offset,
                     GBytes *bytes)
{
    RealDump *dump;

    if (!bytes) {
        return false;
    }
    dump = g_new(RealDump, 1);
    *dump = (RealDump){ source, block, offset, bytes };
    g_ptr_array_add(dumps, dump);
    return true;
}

static bool dump_ranges(QemuProcess *qemu, const RealMachine *machine, const char *idstr,
                        unsigned index, GPtrArray *dumps, GError **error)
{
    for (unsigned i = 0; i < MAX_RANGES && machine->ranges[i].length; i++) {
        const PhysicalRange *range = &machine->ranges[i];

        if (strcmp(range->idstr, idstr) == 0 &&
            !add_dump(dumps, "pmemsave", index, range->offset,
                      qemu_dump_physical(qemu, range->address, range->length, error))) {
            return false;
        }
    }
    return true;
}

static GBytes *read_backing_file(QemuProcess *qemu, GError **error)
{
    g_autofree char *path = qemu_process_path(qemu, RAM_NAME);
    g_autoptr(GError) cause = NULL;
    char *bytes;
    size_t length;

    if (!g_file_get_contents(path, &bytes, &length, &cause)) {
        g_set_error(error, QEMU_ERROR, QEMU_ERROR_IO, "%s", cause->message);
        return NULL;
    }
    return g_bytes_new_take(bytes, length);
}

/* All that QEMU says of its RAM. */
static GPtrArray *dump_ram(QemuProcess *qemu, const RealMachine *machine, bool private_ram,
                           GError **error)
{
    g_autoptr(GArray) blocks = qemu_list_blocks(qemu, error);
    g_autoptr(GPtrArray) dumps = g_ptr_array_new_with_free_func(real_dump_free);

    for (unsigned i = 0; blocks && i < blocks->len; i++) {
        const QemuBlock *block = &g_array_index(blocks, QemuBlock, i);

        if (!add_dump(dumps, "process memory", i, 0, qemu_dump_block(qemu, block, error)) ||
            !dump_ranges(qemu, machine, block->idstr, i, dumps, error)) {
            return NULL;
        }
        if (!private_ram && strcmp(block->idstr, machine->ram) == 0 &&
            !add_dump(dumps, "backing file", i, 0, read_backing_file(qemu, error))) {
            return NULL;
        }
    }
    return blocks ? g_steal_pointer(&dumps) : NULL;
}

static RealSnapshot *save(QemuProcess *qemu, const RealMachine *machine, const char *folder,
                          const char *const *capabilities, GError **error)
{
    g_autoptr(RealSnapshot) snapshot = g_new0(RealSnapshot, 1);
    g_autoptr(GArray) blocks = qemu_list_blocks(qemu, error);

    if (!blocks || !fill_ram(qemu, machine, blocks, error) ||
        !qemu_describe_guest(qemu, &snapshot->guest, error)) {
        return NULL;
    }
    snapshot->path = g_strdup_printf("%s/%s.snapshot", folder, machine->name);
    snapshot->guest.x_ignore_shared = ignores_shared(capabilities);
    if (!qemu_save_snapshot(qemu, snapshot->path, capabilities, error)) {
        return NULL;
    }
    snapshot->dumps = dump_ram(qemu, machine, ignores_shared(capabilities), error);
    if (!snapshot->dumps || !qemu_process_stop(qemu, error)) {
        return NULL;
    }
    return g_steal_pointer(&snapshot);
}

RealSnapshot *real_snapshot_make(const QemuBinary *binary, unsigned machine, const char *folder,
                                 const char *const *capabilities, GError **error)
{
    const RealMachine *m = &machines[machine];
    g_autoptr(QemuProcess) qemu =
        start_machine(binary, m, ignores_shared(capabilities), false, error);

    return qemu ? save(qemu, m, folder, capabilities, error) : NULL;
}

GPtrArray *real_snapshots_make(const QemuBinary *binary, const char *folder,
                               const char *const *capabilities, GError **error)
{
    g_autoptr(GPtrArray) snapshots =
        g_ptr_array_new_with_free_func((GDestroyNotify)real_snapshot_free);

    for (unsigned i = 0; i < REAL_MACHINES; i++) {
        RealSnapshot *snapshot = real_snapshot_make(binary, i, folder, capabilities, error);

        if (!snapshot) {
            return NULL;
        }
        g_ptr_array_add(snapshots, snapshot);
    }
    return g_steal_pointer(&snapshots);
}

GPtrArray *real_snapshot_load(const QemuBinary *binary, unsigned machine, const char *path,
                              const char *const *capabilities, GError **error)
{
    const RealMachine *m = &machines[machine];
    bool private_ram = ignores_shared(capabilities);
    g_autoptr(QemuProcess) qemu = start_machine(binary, m, private_ram, true, error);
    g_autoptr(GPtrArray) dumps = NULL;

    if (!qemu || qemu_load_snapshot(qemu, path, capabilities, error) != QEMU_LOAD_COMPLETED) {
        return NULL;
    }
    dumps = dump_ram(qemu, m, private_ram, error);
    if (!dumps || !qemu_process_stop(qemu, error)) {
        return NULL;
    }
    return g_steal_pointer(&dumps);
}

/* How many bytes at the start of @bytes are zero, or are not. */
static size_t run_length(const uint8_t *bytes, size_t length, bool zero)
{
    size_t n = 0;

    while (n < length && (bytes[n] == 0) == zero) {
        n++;
    }
    return n;
}

/* A hole costs about this many bytes of the serial form. */
#define SHORTEST_HOLE 8

/* Writes @bytes, longer runs of zeroes as holes. */
static void write_trimmed(SparseFile *out, uint64_t offset, const uint8_t *bytes, size_t length)
{
    size_t start = 0;
    size_t end = 0;

    for (size_t i = 0; i < length;) {
        size_t zeroes = run_length(bytes + i, length - i, true);

        if (zeroes >= SHORTEST_HOLE) {
            sparse_file_write(out, offset + start, bytes + start, end - start);
            start = i + zeroes;
        }
        end = i + zeroes;
        end += run_length(bytes + end, length - end, false);
        i = end;
    }
    sparse_file_write(out, offset + start, bytes + start, end - start);
}

/* Copies the bytes from @from to @to, holes as holes. */
static void copy_range(const SparseFile *file, uint64_t from, uint64_t to, SparseFile *out)
{
    SparseExtent extent;

    while (from < to && sparse_file_next_data(file, from, &extent) && extent.offset < to) {
        uint64_t end = MIN(extent.offset + extent.length, to);
        g_autofree uint8_t *bytes = g_malloc(end - extent.offset);

        sparse_file_read(file, extent.offset, bytes, end - extent.offset);
        write_trimmed(out, extent.offset, bytes, end - extent.offset);
        from = end;
    }
}

/* Is the page one byte repeated? */
static bool is_uniform(const SparseFile *file, uint64_t offset, uint8_t *byte)
{
    uint8_t bytes[PAGE];

    sparse_file_read(file, offset, bytes, PAGE);
    *byte = bytes[0];
    return memcmp(bytes, bytes + 1, PAGE - 1) == 0;
}

static void copy_page(const SparseFile *file, uint64_t offset, uint32_t seed, SparseFile *out)
{
    uint8_t byte;

    if (is_uniform(file, offset, &byte)) {
        sparse_file_fill(out, offset, PAGE, byte);
    } else {
        sparse_file_pattern(out, offset, PAGE, seed);
    }
}

static void copy_pages(const Judgement *judgement, unsigned block, SparseFile *out)
{
    uint64_t page = judgement_next_page_in_file(judgement, block, 0);

    while (page != UINT64_MAX) {
        copy_page(judgement->file, judgement->blocks[block].pages_offset + page * PAGE, block + 1,
                  out);
        page = judgement_next_page_in_file(judgement, block, page + 1);
    }
}

/* The block of the file whose pages come first at or after @offset, or -1. */
static int next_block(const Judgement *judgement, uint64_t offset)
{
    int next = -1;

    for (unsigned i = 0; i < judgement->guest.n_blocks; i++) {
        const JudgedBlock *block = &judgement->blocks[i];

        if (block->in_file && !block->ignored && block->pages_offset >= offset &&
            (next < 0 || block->pages_offset < judgement->blocks[next].pages_offset)) {
            next = i;
        }
    }
    return next;
}

static void copy_snapshot(const Judgement *judgement, SparseFile *out)
{
    uint64_t size = sparse_file_size(judgement->file);
    uint64_t end = MIN(size, judgement->end + REAL_SNAPSHOT_TAIL);
    uint64_t position = 0;
    int block;

    while ((block = next_block(judgement, position)) >= 0) {
        const JudgedBlock *b = &judgement->blocks[block];

        copy_range(judgement->file, position, b->pages_offset, out);
        copy_pages(judgement, block, out);
        position = b->pages_offset + b->used_length;
    }
    copy_range(judgement->file, position, end, out);
    sparse_file_truncate(out, end);
}

static bool read_sparse(const char *path, SparseFile *file, GError **error)
{
    g_autoptr(GError) cause = NULL;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    bool ok;

    if (fd < 0) {
        g_set_error(error, QEMU_ERROR, QEMU_ERROR_IO, "%s: %s", path, g_strerror(errno));
        return false;
    }
    ok = sparse_file_from_fd(file, fd, MAX_DATA, &cause);
    close(fd);
    if (!ok) {
        g_set_error(error, QEMU_ERROR, QEMU_ERROR_IO, "%s: %s", path, cause->message);
    }
    return ok;
}

bool real_snapshot_to_sparse(const char *path, const Guest *guest, SparseFile *out, GError **error)
{
    g_autoptr(SparseFile) file = sparse_file_new();
    Judgement judgement;

    sparse_file_reset(out);
    if (!read_sparse(path, file, error)) {
        return false;
    }
    judge_file(file, guest, &judgement);
    if (judgement.verdict != VERDICT_ACCEPT) {
        g_autofree char *reason = judgement_describe_violation(&judgement, 0);

        g_set_error(error, QEMU_ERROR, QEMU_ERROR_PROTOCOL, "%s: %s: %s", path,
                    verdict_name(judgement.verdict), reason);
        return false;
    }
    copy_snapshot(&judgement, out);
    return true;
}

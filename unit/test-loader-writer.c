/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The writer: the layout of section 11 byte for byte, against a file written
 * down here and against offsets that were measured on a file of QEMU 10.0.2;
 * save then load is the identity; holes stay holes; whatever write fails is
 * reported. pwrite() is wrapped, for the short and interrupted ones.
 */
#define _GNU_SOURCE /* memfd_create() */
#include "unit/loader-support.h"
#include "unit/support.h"

#include "loader/writer.h"
#include "property/alloc-meter.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define MIB 0x100000

/* What the next calls of pwrite() do: one step each, then as usual. */
enum PwriteStep { PWRITE_DONE, PWRITE_INTERRUPTED, PWRITE_SHORT, PWRITE_NOTHING };
static const enum PwriteStep *pwrite_script;

ssize_t __real_pwrite(int fd, const void *buffer, size_t length, off_t offset);
ssize_t __wrap_pwrite(int fd, const void *buffer, size_t length, off_t offset);
ssize_t __wrap_pwrite(int fd, const void *buffer, size_t length, off_t offset)
{
    enum PwriteStep step = pwrite_script ? *pwrite_script : PWRITE_DONE;

    if (step == PWRITE_DONE) {
        return __real_pwrite(fd, buffer, length, offset);
    }
    pwrite_script++;
    if (step == PWRITE_INTERRUPTED) {
        errno = EINTR;
        return -1;
    }
    return step == PWRITE_SHORT ? __real_pwrite(fd, buffer, (length + 1) / 2, offset) : 0;
}

typedef struct Fixture {
    RAMBlock blocks[2];
    FdWriter writer;
    SaveOptions options;
    int fd;
} Fixture;

/* "ram" of @pages pages and "rom" of 2, all zero. */
static void set_up(Fixture *f, uint64_t pages, uint64_t page_size)
{
    test_block_init(&f->blocks[0], "ram", pages * page_size, pages * page_size);
    test_block_init(&f->blocks[1], "rom", 2 * page_size, 2 * page_size);
    memset(f->blocks[0].host, 0, f->blocks[0].max_length);
    memset(f->blocks[1].host, 0, f->blocks[1].max_length);
    f->fd = memfd_create("snapshot", MFD_CLOEXEC);
    assert_true(f->fd >= 0);
    fd_writer_init(&f->writer, f->fd);
    f->options = (SaveOptions){
        .machine = "none",
        .target_page_size = page_size,
        .section_id = 2,
    };
}

static void tear_down(Fixture *f)
{
    test_block_destroy(&f->blocks[0]);
    test_block_destroy(&f->blocks[1]);
    close(f->fd);
}

static void assert_saves(Fixture *f, unsigned n_blocks)
{
    g_autoptr(GError) error = NULL;
    bool ok = mapped_ram_save(&f->writer.writer, f->blocks, n_blocks, &f->options, &error);

    if (!ok) {
        fail_msg("not saved: %s", error->message);
    }
}

static uint64_t file_size(const Fixture *f)
{
    struct stat status;

    assert_int_equal(fstat(f->fd, &status), 0);
    return (uint64_t)status.st_size;
}

static void assert_file(const Fixture *f, uint64_t offset, const char *bytes, size_t length)
{
    g_autofree char *found = g_malloc(length);

    assert_int_equal(pread(f->fd, found, length, (off_t)offset), length);
    assert_memory_equal(found, bytes, length);
}

#define assert_file_text(f, offset, text) assert_file(f, offset, text, sizeof(text) - 1)

#define PROLOGUE                                                                                   \
    "QEVM\0\0\0\3"                                                                                 \
    "\7\0\0\0\4none"                                                                               \
    "\5\x1a"                                                                                       \
    "configuration/capabilities\0\0\0\1"
#define START "\1\0\0\0\2\3ram\0\0\0\0\0\0\0\4"
#define EOS_AND_FOOTER "\0\0\0\0\0\0\0\x10\x7e\0\0\0\2"
#define DEFAULT_TAIL                                                                               \
    "\x08\0\x0b\0\0"                                                                               \
    "\3\0\0\0\2" EOS_AND_FOOTER "\0"

/* "ram" has 65 pages, of which 1, 2 and 64 have content; "rom" none. */
static void test_layout(void **state)
{
    Fixture f;

    (void)state;
    set_up(&f, 65, 0x1000);
    memset(f.blocks[0].host + 0x1000, 'a', 0x1000);
    f.blocks[0].host[0x2fff] = 'b';
    f.blocks[0].host[64 * 0x1000] = 'c';
    assert_saves(&f, 2);
    assert_file_text(&f, 0,
                     PROLOGUE "\0\0\0\1\x0amapped-ram" START "\0\0\0\0\0\4\x30\4"
                              "\3ram\0\0\0\0\0\4\x10\0"
                              "\0\0\0\1\0\0\0\0\0\0\x10\0"
                              "\0\0\0\0\0\0\0\x81\0\0\0\0\0\x10\0\0"
                              "\6\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0");
    assert_file_text(&f, MIB + 0xffe, "\0\0aaaa");
    assert_file_text(&f, MIB + 0x2ffe, "\0b");
    assert_file_text(&f, MIB + 64 * 0x1000, "c\0");
    assert_file_text(&f, MIB + 0x41000,
                     "\3rom\0\0\0\0\0\0\x20\0"
                     "\0\0\0\1\0\0\0\0\0\0\x10\0"
                     "\0\0\0\0\0\x14\x10\x28\0\0\0\0\0\x20\0\0"
                     "\0\0\0\0\0\0\0\0");
    assert_file_text(&f, 2 * MIB + 0x2000, EOS_AND_FOOTER DEFAULT_TAIL);
    assert_int_equal(file_size(&f), 2 * MIB + 0x2000 + 13 + 24);
    tear_down(&f);
}

static void test_x_ignore_shared(void **state)
{
    Fixture f;

    (void)state;
    set_up(&f, 1, 0x1000);
    f.options.x_ignore_shared = true;
    f.blocks[0].gpa = 0x123456789a;
    f.blocks[0].ignored = true;
    f.blocks[0].host[0] = 1;
    f.blocks[1].gpa = 0xf0000000;
    assert_saves(&f, 2);
    assert_file_text(&f, 0,
                     PROLOGUE "\0\0\0\2\x0fx-ignore-shared\x0amapped-ram" START "\0\0\0\0\0\0\x30\4"
                              "\3ram\0\0\0\0\0\0\x10\0\0\0\0\x12\x34\x56\x78\x9a"
                              "\0\0\0\1\0\0\0\0\0\0\x10\0"
                              "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
                              "\3rom\0\0\0\0\0\0\x20\0\0\0\0\0\xf0\0\0\0"
                              "\0\0\0\1\0\0\0\0\0\0\x10\0"
                              "\0\0\0\0\0\0\0\xc9\0\0\0\0\0\x10\0\0"
                              "\0\0\0\0\0\0\0\0");
    tear_down(&f);

    /* Without the capability there is no way to leave a block out. */
    set_up(&f, 1, 0x1000);
    f.blocks[0].ignored = true;
    f.blocks[0].host[0] = 1;
    assert_saves(&f, 1);
    assert_file_text(&f, MIB, "\1\0");
    tear_down(&f);
}

static void test_tail(void **state)
{
    Fixture f;

    (void)state;
    set_up(&f, 1, 0x1000);
    f.options.tail = (const uint8_t *)"tail";
    f.options.tail_length = 4;
    f.options.section_id = 0x01020304;
    assert_saves(&f, 1);
    assert_file_text(&f, MIB + 0x1000, "\0\0\0\0\0\0\0\x10\x7e\1\2\3\4tail");
    assert_int_equal(file_size(&f), MIB + 0x1000 + 13 + 4);
    tear_down(&f);
}

/* More fields than the writer's buffer holds, also in its last byte. */
static void test_long_names(void **state)
{
    (void)state;
    for (size_t length = 380; length < 520; length++) {
        g_autofree char *machine = g_strnfill(length, 'm');
        LoadSummary summary;
        FdReader reader;
        Fixture f;
        MigrationIncomingState mis = {
            .reader = &reader.reader, .target_page_size = 0x1000, .blocks = f.blocks, .n_blocks = 1
        };

        set_up(&f, 1, 0x1000);
        f.options.machine = machine;
        assert_saves(&f, 1);
        assert_file(&f, 13, machine, length);
        assert_file_text(&f, 13 + length,
                         "\5\x1a"
                         "configuration/capabilities\0\0\0\1");
        assert_file_text(&f, MIB + 0x1000, EOS_AND_FOOTER DEFAULT_TAIL);
        assert_true(fd_reader_init(&reader, f.fd, NULL));
        assert_false(mapped_ram_load(&mis, LOAD_WHOLE, &summary, NULL)); /* C2b */
        tear_down(&f);
    }
}

static void load_and_compare(Fixture *f, bool clear_pages)
{
    RAMBlock loaded[2];
    FdReader reader;
    MigrationIncomingState mis = {
        .reader = &reader.reader,
        .target_page_size = f->options.target_page_size,
        .machine = "none",
        .clear_pages = clear_pages,
        .blocks = loaded,
        .n_blocks = 2,
    };

    assert_true(fd_reader_init(&reader, f->fd, NULL));
    for (unsigned i = 0; i < 2; i++) {
        test_block_init(&loaded[i], f->blocks[i].idstr, f->blocks[i].used_length,
                        f->blocks[i].max_length);
        if (!clear_pages) {
            memset(loaded[i].host, 0, loaded[i].max_length);
        }
    }
    assert_true(mapped_ram_load(&mis, LOAD_WHOLE, NULL, NULL));
    for (unsigned i = 0; i < 2; i++) {
        assert_memory_equal(loaded[i].host, f->blocks[i].host, loaded[i].max_length);
        test_block_destroy(&loaded[i]);
    }
}

static void test_save_then_load(void **state)
{
    static const uint64_t page_sizes[] = { 0x400, 0x1000, 0x10000 };
    g_autoptr(GRand) random = g_rand_new_with_seed(2);

    (void)state;
    for (int i = 0; i < 30; i++) {
        uint64_t page_size = page_sizes[i % 3];
        uint64_t pages = 4 + 4 * (g_rand_int(random) % 30);
        guint32 density = g_rand_int(random);
        Fixture f;

        set_up(&f, pages, page_size);
        for (uint64_t page = 0; page < pages; page++) {
            if (g_rand_int(random) <= density) {
                f.blocks[0].host[page * page_size + g_rand_int(random) % page_size] = 1;
            }
        }
        f.blocks[1].host[i] = 1;
        assert_saves(&f, 2);
        load_and_compare(&f, false);
        load_and_compare(&f, true);
        tear_down(&f);
    }
}

/* Runs of more than one chunk; QEMU's own holes. */
static void test_long_runs(void **state)
{
    struct stat status;
    Fixture f;

    (void)state;
    set_up(&f, 700, 0x1000);
    for (uint64_t page = 1; page < 690; page++) {
        f.blocks[0].host[page * 0x1000 + page] = (uint8_t)(page % 255 + 1);
    }
    assert_saves(&f, 2);
    load_and_compare(&f, true);
    tear_down(&f);

    set_up(&f, 4096, 0x1000);
    f.blocks[0].host[0x800000] = 1;
    assert_saves(&f, 2);
    assert_int_equal(fstat(f.fd, &status), 0);
    assert_in_range(status.st_blocks * 512, 1, 6 * 0x1000);
    load_and_compare(&f, true);
    tear_down(&f);
}

static void test_empty_block(void **state)
{
    Fixture f;

    (void)state;
    set_up(&f, 1, 0x1000);
    f.blocks[0].used_length = 0;
    assert_saves(&f, 1);
    assert_file_text(&f, MIB, EOS_AND_FOOTER DEFAULT_TAIL);
    tear_down(&f);
}

typedef struct FailingWriter {
    FileWriter writer;
    FdWriter real;
    unsigned writes;
    unsigned fail_write; /* 1: the first; 0: none */
    size_t max_length;   /* of a write so far */
} FailingWriter;

static int failing_pwrite(FileWriter *writer, const void *buffer, size_t length, uint64_t offset)
{
    FailingWriter *self = (FailingWriter *)writer;

    assert_true(length > 0);
    self->max_length = MAX(self->max_length, length);
    if (++self->writes == self->fail_write) {
        return -ENOSPC;
    }
    return self->real.writer.pwrite(&self->real.writer, buffer, length, offset);
}

static void test_every_write_fails_in_turn(void **state)
{
    static const char *const messages[] = {
        "fields at file offset 0x0: writing 0x59 bytes",
        "block 'ram': fields at file offset 0x59: writing 0x28 bytes",
        "block 'ram': bitmap at file offset 0x81: writing 0x8 bytes",
        "block 'ram': pages at file offset 0x100000: writing 0x1000 bytes",
        "block 'ram': pages at file offset 0x102000: writing 0x1000 bytes",
        "block 'rom': fields at file offset 0x103000: writing 0x28 bytes",
        "block 'rom': bitmap at file offset 0x103028: writing 0x8 bytes",
        "fields at file offset 0x202000: writing 0x25 bytes",
    };

    (void)state;
    for (unsigned i = 0; i < G_N_ELEMENTS(messages); i++) {
        g_autofree char *wanted =
            g_strconcat(messages[i], " failed: No space left on device", NULL);
        FailingWriter writer = { .writer = { failing_pwrite }, .fail_write = i + 1 };
        g_autoptr(GError) error = NULL;
        Fixture f;

        set_up(&f, 3, 0x1000);
        f.blocks[0].host[0] = 1;
        f.blocks[0].host[0x2000] = 1;
        writer.real = f.writer;
        assert_false(mapped_ram_save(&writer.writer, f.blocks, 2, &f.options, &error));
        assert_string_equal(error->message, wanted);
        assert_int_equal(error->domain, MAPPED_RAM_ERROR);
        assert_int_equal(error->code, MAPPED_RAM_ERROR_IO);
        assert_int_equal(writer.writes, i + 1);
        tear_down(&f);
    }
}

static void test_chunks(void **state)
{
    FailingWriter writer = { .writer = { failing_pwrite } };
    Fixture f;

    (void)state;
    set_up(&f, 600, 0x1000);
    memset(f.blocks[0].host, 1, 600 * 0x1000);
    writer.real = f.writer;
    assert_true(mapped_ram_save(&writer.writer, f.blocks, 1, &f.options, NULL));
    /* Fields, record, bitmap; 256, 256 and 88 pages; the end. */
    assert_int_equal(writer.writes, 7);
    assert_int_equal(writer.max_length, MIB);
    tear_down(&f);
}

static void test_failing_allocation(void **state)
{
    AllocMeter meter = { .fail_try = 2 };
    g_autoptr(GError) error = NULL;
    Fixture f;
    bool ok;

    (void)state;
    set_up(&f, 65, 0x1000);
    alloc_meter_start(&meter);
    ok = mapped_ram_save(&f.writer.writer, f.blocks, 2, &f.options, &error);
    alloc_meter_stop();
    assert_false(ok);
    assert_string_equal(error->message,
                        "block 'rom': bitmap at file offset 0x141028: no memory for 0x8 bytes");
    assert_int_equal(error->code, MAPPED_RAM_ERROR_NO_MEMORY);
    tear_down(&f);
}

static void assert_not_saved(int fd, const char *message)
{
    g_autoptr(GError) error = NULL;
    FdWriter writer;
    Fixture f;

    set_up(&f, 1, 0x1000);
    fd_writer_init(&writer, fd);
    assert_false(mapped_ram_save(&writer.writer, f.blocks, 1, &f.options, &error));
    assert_string_equal(error->message, message);
    tear_down(&f);
}

static void test_fd_cannot_be_written(void **state)
{
    int full = open("/dev/full", O_WRONLY | O_CLOEXEC);
    int read_only = open("/dev/zero", O_RDONLY | O_CLOEXEC);

    (void)state;
    assert_not_saved(full, "fields at file offset 0x0: writing 0x59 bytes failed: No space left on "
                           "device");
    assert_not_saved(read_only, "fields at file offset 0x0: writing 0x59 bytes failed: Bad file "
                                "descriptor");
    close(full);
    close(read_only);
}

static void test_short_and_interrupted_writes(void **state)
{
    static const enum PwriteStep script[] = { PWRITE_INTERRUPTED, PWRITE_SHORT, PWRITE_SHORT,
                                              PWRITE_INTERRUPTED, PWRITE_SHORT, PWRITE_DONE };
    Fixture f;

    (void)state;
    set_up(&f, 3, 0x1000);
    memset(f.blocks[0].host, 7, 0x2000);
    pwrite_script = script;
    assert_saves(&f, 2);
    assert_int_equal(*pwrite_script, PWRITE_DONE);
    pwrite_script = NULL;
    load_and_compare(&f, true);
    tear_down(&f);
}

static void test_write_that_goes_nowhere(void **state)
{
    static const enum PwriteStep script[] = { PWRITE_NOTHING, PWRITE_DONE };
    g_autoptr(GError) error = NULL;
    Fixture f;

    (void)state;
    set_up(&f, 1, 0x1000);
    pwrite_script = script;
    assert_false(mapped_ram_save(&f.writer.writer, f.blocks, 1, &f.options, &error));
    pwrite_script = NULL;
    assert_string_equal(error->message, "fields at file offset 0x0: writing 0x59 bytes failed: "
                                        "Input/output error");
    tear_down(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_layout),
        cmocka_unit_test(test_x_ignore_shared),
        cmocka_unit_test(test_tail),
        cmocka_unit_test(test_long_names),
        cmocka_unit_test(test_save_then_load),
        cmocka_unit_test(test_long_runs),
        cmocka_unit_test(test_empty_block),
        cmocka_unit_test(test_every_write_fails_in_turn),
        cmocka_unit_test(test_chunks),
        cmocka_unit_test(test_failing_allocation),
        cmocka_unit_test(test_fd_cannot_be_written),
        cmocka_unit_test(test_short_and_interrupted_writes),
        cmocka_unit_test(test_write_that_goes_nowhere),
    };

    return pagewise_run("loader-writer", tests);
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The loader against files that fail: reads that give an error or less than
 * was asked for, files that shrink under it, memory that runs out, descriptors
 * that are no files. An error must never pass for a page of zeroes, and after
 * each failure the same RAM blocks load the good file. Also the stream's
 * buffer, whose borders no file hits by itself.
 */
#define _GNU_SOURCE /* memfd_create() */
#include "unit/loader-support.h"
#include "unit/support.h"

#include "property/alloc-meter.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct Fixture {
    TestFile *file;
    RAMBlock blocks[2];
    MemoryReader reader;
    MigrationIncomingState mis;
} Fixture;

static void set_up(Fixture *f)
{
    *f = (Fixture){ .file = test_file_new(NULL, false) };
    test_file_put_start(f->file, "none", 5 * TEST_PAGE);
    test_file_put_record(f->file, "ram", 3 * TEST_PAGE, 5);
    test_file_put_record(f->file, "rom", 2 * TEST_PAGE, 3);
    test_file_put_end(f->file);
    test_block_init(&f->blocks[0], "ram", 3 * TEST_PAGE, 3 * TEST_PAGE);
    test_block_init(&f->blocks[1], "rom", 2 * TEST_PAGE, 2 * TEST_PAGE);
    memory_reader_init(&f->reader, f->file);
    f->mis = (MigrationIncomingState){
        .reader = &f->reader.reader,
        .target_page_size = TEST_PAGE,
        .blocks = f->blocks,
        .n_blocks = 2,
    };
}

static void tear_down(Fixture *f)
{
    test_block_destroy(&f->blocks[0]);
    test_block_destroy(&f->blocks[1]);
    test_file_free(f->file);
}

static void assert_loads(Fixture *f, FileReader *reader, LoadStages stages)
{
    g_autoptr(GError) error = NULL;
    bool ok;

    f->mis.reader = reader;
    test_block_fill(&f->blocks[0]);
    test_block_fill(&f->blocks[1]);
    ok = mapped_ram_load(&f->mis, stages, NULL, &error);
    if (!ok) {
        fail_msg("refused: %s", error->message);
    }
    assert_block_ram(&f->blocks[0], 5, 0x3000, TEST_CANARY);
    assert_block_ram(&f->blocks[1], 3, 0x2000, TEST_CANARY);
}

static void assert_loads_afterwards(Fixture *f, LoadStages stages)
{
    memory_reader_init(&f->reader, f->file);
    assert_loads(f, &f->reader.reader, stages);
}

static uint64_t count_reads(LoadStages stages)
{
    uint64_t reads;
    Fixture f;

    set_up(&f);
    assert_loads(&f, &f.reader.reader, stages);
    reads = f.reader.reads;
    tear_down(&f);
    return reads;
}

static void check_failing_read(LoadStages stages, uint64_t read)
{
    g_autoptr(GError) error = NULL;
    Fixture f;

    set_up(&f);
    f.reader.fail_read = read;
    assert_false(mapped_ram_load(&f.mis, stages, NULL, &error));
    assert_int_equal(error->domain, MAPPED_RAM_ERROR);
    assert_int_equal(error->code, MAPPED_RAM_ERROR_IO);
    assert_true(g_str_has_suffix(error->message, ": reading failed: Input/output error"));
    assert_non_null(strstr(error->message, " at file offset 0x"));
    assert_null(f.blocks[0].file_bmap);
    assert_null(f.blocks[1].file_bmap);
    assert_loads_afterwards(&f, stages);
    tear_down(&f);
}

static void test_every_read_fails_in_turn(void **state)
{
    (void)state;
    for (int stages = LOAD_WHOLE; stages <= LOAD_SPLIT; stages++) {
        uint64_t reads = count_reads((LoadStages)stages);

        /* Three fills of the stream's buffer, and three runs of pages. */
        assert_int_equal(reads, 6);
        for (uint64_t read = 1; read <= reads; read++) {
            check_failing_read((LoadStages)stages, read);
        }
    }
}

/* All blocks' pages are read after all headers: which read fails shows it. */
static void test_order_of_split_reads(void **state)
{
    static const struct {
        LoadStages stages;
        uint64_t read;
        const char *message;
    } orders[] = {
        { LOAD_WHOLE, 2, "block 'ram': pages at file offset 0x1000: reading failed" },
        { LOAD_WHOLE, 4, "idstr at file offset 0x4000: reading failed" },
        { LOAD_SPLIT, 2, "idstr at file offset 0x4000: reading failed" },
        { LOAD_SPLIT, 3, "block 'ram': pages at file offset 0x1000: reading failed" },
        { LOAD_SPLIT, 5, "block 'rom': pages at file offset 0x5000: reading failed" },
    };

    (void)state;
    for (size_t i = 0; i < G_N_ELEMENTS(orders); i++) {
        g_autoptr(GError) error = NULL;
        Fixture f;

        set_up(&f);
        f.reader.fail_read = orders[i].read;
        assert_false(mapped_ram_load(&f.mis, orders[i].stages, NULL, &error));
        if (!g_str_has_prefix(error->message, orders[i].message)) {
            fail_msg("\"%s\" was to be \"%s\"", error->message, orders[i].message);
        }
        tear_down(&f);
    }
}

static void test_interrupted_reads(void **state)
{
    uint64_t reads = count_reads(LOAD_WHOLE);

    (void)state;
    for (uint64_t read = 1; read <= reads; read++) {
        Fixture f;

        set_up(&f);
        f.reader.fail_read = read;
        f.reader.fail_errno = EINTR;
        assert_loads(&f, &f.reader.reader, LOAD_WHOLE);
        assert_int_equal(f.reader.reads, reads + 1);
        tear_down(&f);
    }
}

static void test_short_reads(void **state)
{
    static const size_t lengths[] = { 1, 2, 3, 7, 8, 100, 4095, 4096, 4097 };

    (void)state;
    for (size_t i = 0; i < G_N_ELEMENTS(lengths); i++) {
        Fixture f;

        set_up(&f);
        f.reader.max_length = lengths[i];
        assert_loads(&f, &f.reader.reader, LOAD_WHOLE);
        tear_down(&f);
    }
}

/*
 * The file gets shorter at some read, after its size was noted: either all
 * that is needed was read before, or the load fails.
 */
static void test_file_shrinks(void **state)
{
    static const uint64_t ends[] = {
        0, 0x60, 0x84, 0x1000, 0x1800, 0x3fff, 0x4002, 0x5fff, 0x7003
    };
    unsigned refused = 0;

    (void)state;
    for (size_t i = 0; i < G_N_ELEMENTS(ends); i++) {
        for (uint64_t read = 1; read <= 6; read++) {
            g_autoptr(GError) error = NULL;
            Fixture f;

            set_up(&f);
            f.reader.shrink_read = read;
            f.reader.shrink_end = ends[i];
            if (mapped_ram_load(&f.mis, LOAD_WHOLE, NULL, &error)) {
                assert_block_ram(&f.blocks[0], 5, 0x3000, TEST_CANARY);
                assert_block_ram(&f.blocks[1], 3, 0x2000, TEST_CANARY);
            } else {
                assert_int_equal(error->code, MAPPED_RAM_ERROR_TRUNCATED);
                refused++;
            }
            assert_loads_afterwards(&f, LOAD_WHOLE);
            tear_down(&f);
        }
    }
    assert_in_range(refused, 40, 54);
}

/* A reader without a buffer between: it shrinks in the field at hand. */
static void check_shrunk(uint64_t read, uint64_t end, size_t max_length, const char *message)
{
    g_autoptr(GError) error = NULL;
    Fixture f;

    set_up(&f);
    f.reader.max_length = max_length;
    f.reader.shrink_read = read;
    f.reader.shrink_end = end;
    assert_false(mapped_ram_load(&f.mis, LOAD_WHOLE, NULL, &error));
    assert_string_equal(error->message, message);
    tear_down(&f);
}

static void test_messages_of_shrunk_files(void **state)
{
    (void)state;
    check_shrunk(1, 0x53, 0,
                 "total at file offset 0x51: needs 8 bytes, but the file ends at 0x53 (rule F4)");
    /* The buffer ends with the header, and the bitmap is read by itself. */
    check_shrunk(2, 0x84, 0x81,
                 "block 'ram': bitmap at file offset 0x81: needs 0x8 bytes, but the file ends at "
                 "0x84 (rule B2)");
    check_shrunk(2, 0x1800, 0,
                 "block 'ram': pages at file offset 0x1000: need 0x1000 bytes, but the file ends "
                 "at 0x1800 (rule P1)");
}

static void test_bitmap_read_fails(void **state)
{
    g_autoptr(GError) error = NULL;
    Fixture f;

    (void)state;
    set_up(&f);
    f.reader.max_length = 0x81;
    f.reader.fail_read = 2;
    assert_false(mapped_ram_load(&f.mis, LOAD_WHOLE, NULL, &error));
    assert_string_equal(error->message, "block 'ram': bitmap at file offset 0x81: reading failed: "
                                        "Input/output error");
    tear_down(&f);
}

/* The first read ends where a field begins, the next one fails. */
static void test_read_fails_before_every_field(void **state)
{
    g_autoptr(TestFile) file = test_file_small(NULL, false);

    (void)state;
    for (guint i = 1; i < file->fields->len; i++) {
        const TestField *field = &g_array_index(file->fields, TestField, i);
        g_autoptr(GError) error = NULL;
        Fixture f;

        set_up(&f);
        f.reader.max_length = field->offset;
        f.reader.fail_read = 2;
        assert_false(mapped_ram_load(&f.mis, LOAD_WHOLE, NULL, &error));
        assert_int_equal(error->code, MAPPED_RAM_ERROR_IO);
        tear_down(&f);
    }
}

static void check_failing_allocation(LoadStages stages, uint64_t which, const char *message)
{
    AllocMeter meter = { .fail_try = which };
    g_autoptr(GError) error = NULL;
    Fixture f;
    bool ok;

    set_up(&f);
    alloc_meter_start(&meter);
    ok = mapped_ram_load(&f.mis, stages, NULL, &error);
    alloc_meter_stop();
    assert_false(ok);
    assert_string_equal(error->message, message);
    assert_int_equal(error->code, MAPPED_RAM_ERROR_NO_MEMORY);
    assert_null(f.blocks[0].file_bmap);
    assert_loads_afterwards(&f, stages);
    tear_down(&f);
}

static void test_failing_allocations(void **state)
{
    (void)state;
    for (int stages = LOAD_WHOLE; stages <= LOAD_SPLIT; stages++) {
        check_failing_allocation((LoadStages)stages, 1,
                                 "block 'ram': bitmap at file offset 0x81: no memory for 0x8 "
                                 "bytes");
        check_failing_allocation((LoadStages)stages, 2,
                                 "block 'rom': bitmap at file offset 0x4028: no memory for 0x8 "
                                 "bytes");
    }
}

/* A bitmap for each block, and nothing else, whatever the file says. */
static void test_allocations_are_bounded(void **state)
{
    AllocMeter meter = { 0 };
    Fixture f;

    (void)state;
    set_up(&f);
    alloc_meter_start(&meter);
    assert_true(mapped_ram_load(&f.mis, LOAD_WHOLE, NULL, NULL));
    alloc_meter_stop();
    assert_int_equal(meter.calls, 2);
    assert_int_equal(meter.bytes, 16);
    tear_down(&f);
}

/* All zero bytes, as a hole of 2^62 bytes; counts its reads. */
static ssize_t endless_pread(FileReader *reader, void *buffer, size_t length, uint64_t offset)
{
    MemoryReader *self = (MemoryReader *)reader;
    uint64_t known = offset < self->end ? MIN(length, self->end - offset) : 0;

    self->reads++;
    memset(buffer, 0, length);
    memcpy(buffer, self->bytes + offset, known);
    return (ssize_t)length;
}

static void check_huge_claim(const char *field, const char *bytes, size_t length,
                             const char *machine, const char *rule)
{
    const TestEdit edits[] = { { field, bytes, length }, { NULL, NULL, 0 } };
    g_autoptr(TestFile) file = test_file_small(edits, false);
    g_autoptr(GError) error = NULL;
    AllocMeter meter = { 0 };
    Fixture f;
    bool ok;

    set_up(&f);
    memory_reader_init(&f.reader, file);
    f.reader.reader = (FileReader){ .pread = endless_pread, .size = UINT64_C(1) << 62 };
    f.mis.machine = machine;
    alloc_meter_start(&meter);
    ok = mapped_ram_load(&f.mis, LOAD_WHOLE, NULL, &error);
    alloc_meter_stop();
    assert_false(ok);
    assert_non_null(strstr(error->message, rule));
    assert_in_range(f.reader.reads, 1, 4);
    assert_in_range(meter.bytes, 0, 16 * 1024); /* error messages */
    tear_down(&f);
}

/* Counts and lengths of 2^32 and more in a file that is large enough for them. */
static void test_huge_claims_cost_nothing(void **state)
{
    (void)state;
    check_huge_claim("machine name length", "\xff\xff\xff\xff", 4, NULL, "(rule C2b)");
    check_huge_claim("machine name length", "\xff\xff\xff\xff", 4, "none", "(rule C2");
    check_huge_claim("number of capabilities", "\xff\xff\xff\xff", 4, NULL, "(rule C8)");
    check_huge_claim("total", "\x7f\xff\xff\xff\xff\xff\xf0\4", 8, NULL, "(rule R3)");
    check_huge_claim("used_length", "\x7f\xff\xff\xff\xff\xff\xf0\0", 8, NULL, "(rule R2)");
    check_huge_claim("pages_offset", "\x3f\xff\xff\xff\xff\xff\x00\0", 8, NULL, "(rule R8)");
}

static int memory_file(const TestFile *file)
{
    int fd = memfd_create("snapshot", MFD_CLOEXEC);

    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, file->bytes->data, file->bytes->len, 0), file->bytes->len);
    return fd;
}

static void test_fd_reader(void **state)
{
    FdReader reader;
    Fixture f;
    int fd;

    (void)state;
    set_up(&f);
    fd = memory_file(f.file);
    assert_true(fd_reader_init(&reader, fd, NULL));
    assert_int_equal(reader.reader.size, f.file->bytes->len);
    assert_loads(&f, &reader.reader, LOAD_WHOLE);
    assert_loads(&f, &reader.reader, LOAD_SPLIT);
    assert_int_equal(lseek(fd, 0, SEEK_CUR), 0);
    close(fd);
    tear_down(&f);
}

static void check_fd_error(Fixture *f, FdReader *reader, MappedRamErrorCode code,
                           const char *message)
{
    g_autoptr(GError) error = NULL;

    f->mis.reader = &reader->reader;
    assert_false(mapped_ram_load(&f->mis, LOAD_WHOLE, NULL, &error));
    assert_string_equal(error->message, message);
    assert_int_equal(error->code, code);
}

static void test_fd_reader_fails_later(void **state)
{
    FdReader reader;
    Fixture f;
    int fd;

    (void)state;
    set_up(&f);
    fd = memory_file(f.file);
    assert_true(fd_reader_init(&reader, fd, NULL));
    assert_int_equal(ftruncate(fd, 0x3000), 0);
    check_fd_error(&f, &reader, MAPPED_RAM_ERROR_TRUNCATED,
                   "block 'ram': pages at file offset 0x3000: need 0x1000 bytes, but the file ends "
                   "at 0x3000 (rule P1)");
    close(fd);
    check_fd_error(&f, &reader, MAPPED_RAM_ERROR_IO,
                   "magic at file offset 0x0: reading failed: Bad file descriptor");
    tear_down(&f);
}

static void assert_no_reader(int fd, const char *reason)
{
    g_autofree char *message = g_strdup_printf("file descriptor %d: %s", fd, reason);
    g_autoptr(GError) error = NULL;
    FdReader reader;

    assert_false(fd_reader_init(&reader, fd, &error));
    assert_string_equal(error->message, message);
    assert_int_equal(error->domain, MAPPED_RAM_ERROR);
    assert_int_equal(error->code, MAPPED_RAM_ERROR_IO);
}

static void test_fd_is_no_file(void **state)
{
    int directory = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int device = open("/dev/zero", O_RDONLY | O_CLOEXEC);
    int ends[2];

    (void)state;
    assert_int_equal(pipe(ends), 0);
    assert_no_reader(directory, "is a directory; a snapshot is a regular file");
    assert_no_reader(device, "is a device, pipe or socket; a snapshot is a regular file");
    assert_no_reader(ends[0], "is a device, pipe or socket; a snapshot is a regular file");
    close(directory);
    close(device);
    close(ends[0]);
    close(ends[1]);
    assert_no_reader(ends[0], "cannot be examined: Bad file descriptor");
}

static void test_stream_borders(void **state)
{
    g_autoptr(TestFile) file = test_file_new(NULL, false);
    char text[LOADER_STREAM_STR8_SIZE];
    uint8_t bytes[LOADER_STREAM_BUFFER];
    LoaderStream stream;
    MemoryReader reader;
    uint8_t length;
    uint16_t be16;
    uint32_t be32;
    uint64_t be64;
    uint8_t u8;

    (void)state;
    for (uint64_t i = 0; i < 3 * LOADER_STREAM_BUFFER / 4; i++) {
        test_file_put_be(file, "word", 0x01020300 + i % 0xff, 4);
    }
    memory_reader_init(&reader, file);
    loader_stream_init(&stream, &reader.reader, 0);
    loader_stream_seek(&stream, LOADER_STREAM_BUFFER - 2);
    assert_true(loader_stream_be16(&stream, "f", &be16, NULL));
    assert_int_equal(be16, 0x0303);
    assert_true(loader_stream_be64(&stream, "f", &be64, NULL));
    assert_int_equal(be64, UINT64_C(0x0102030401020305));
    assert_int_equal(reader.reads, 1);
    /* Back and forth within the buffer, no read is needed. */
    loader_stream_seek(&stream, LOADER_STREAM_BUFFER - 1);
    assert_true(loader_stream_u8(&stream, "f", &u8, NULL));
    assert_int_equal(u8, 3);
    assert_int_equal(reader.reads, 1);
    /* A field across the buffer's end: what is there is kept. */
    loader_stream_seek(&stream, 2 * LOADER_STREAM_BUFFER - 4);
    assert_true(loader_stream_be32(&stream, "f", &be32, NULL));
    assert_int_equal(be32, 0x01020307);
    assert_int_equal(reader.reads, 2);
    /* A whole buffer at once. */
    assert_true(loader_stream_bytes(&stream, "f", bytes, sizeof(bytes), NULL));
    assert_memory_equal(bytes, file->bytes->data + 2 * LOADER_STREAM_BUFFER, sizeof(bytes));
    assert_false(loader_stream_u8(&stream, "f", &u8, NULL));
    assert_false(loader_stream_skip(&stream, "f", 1, NULL));
    assert_true(loader_stream_skip(&stream, "f", 0, NULL));
    /* Before the buffer, beyond the file, and at its end. */
    loader_stream_seek(&stream, 2);
    assert_true(loader_stream_str8(&stream, "f", text, &length, NULL));
    assert_int_equal(length, 3);
    assert_memory_equal(text, "\0\1\2", 4);
    loader_stream_seek(&stream, UINT64_MAX);
    assert_false(loader_stream_u8(&stream, "f", &u8, NULL));
    assert_false(loader_stream_str8(&stream, "f", text, &length, NULL));
    loader_stream_seek(&stream, 3 * LOADER_STREAM_BUFFER - 4);
    assert_false(loader_stream_be64(&stream, "f", &be64, NULL));
    assert_false(loader_stream_bytes(&stream, "f", bytes, 5, NULL));
    assert_true(loader_stream_be32(&stream, "f", &be32, NULL));
}

/* What a file gained after the load began is not read: its size was noted. */
static void test_stream_of_growing_file(void **state)
{
    g_autoptr(TestFile) file = test_file_small(NULL, false);
    LoaderStream stream;
    MemoryReader reader;
    uint32_t value;

    (void)state;
    memory_reader_init(&reader, file);
    reader.reader.size = 6;
    loader_stream_init(&stream, &reader.reader, 0);
    assert_true(loader_stream_be32(&stream, "f", &value, NULL));
    assert_int_equal(reader.bytes_read, 6);
    assert_false(loader_stream_be32(&stream, "f", &value, NULL));
}

static void test_stream_read_at(void **state)
{
    g_autoptr(TestFile) file = test_file_small(NULL, false);
    uint8_t bytes[LOADER_STREAM_BUFFER];
    LoaderStream stream;
    MemoryReader reader;
    uint32_t value;

    (void)state;
    memory_reader_init(&reader, file);
    loader_stream_init(&stream, &reader.reader, 0x100);
    assert_true(loader_stream_be32(&stream, "f", &value, NULL));
    assert_int_equal(loader_stream_read_at(&stream, bytes, 0x20, 0x10e0), 0x20);
    assert_int_equal(reader.reads, 1);
    assert_int_equal(loader_stream_read_at(&stream, bytes, 0x21, 0x10e0), 0x21);
    assert_int_equal(reader.reads, 2);
    assert_int_equal(loader_stream_read_at(&stream, bytes, 4, 0), 4);
    assert_memory_equal(bytes, "QEVM", 4);
    assert_int_equal(loader_stream_read_at(&stream, bytes, 4, 0x1101), 4);
    assert_int_equal(reader.reads, 4);
    assert_int_equal(stream.position, 0x104);
}

/* Whatever is put into it, a message is bounded, one line, and printable. */
static void test_messages(void **state)
{
    g_autofree char *text = g_strnfill(5000, 'x');
    g_autoptr(GError) cut = NULL;
    g_autoptr(GError) odd = NULL;
    FieldAt at = { .block = "a\n\"\\\xff", .field = "field", .offset = 16 };

    (void)state;
    assert_false(mapped_ram_refuse(&cut, MAPPED_RAM_ERROR_INVALID, "F1", at, 1, "%s", text));
    assert_int_equal(strlen(cut->message), 4095);
    assert_false(mapped_ram_refuse_field(&odd, MAPPED_RAM_ERROR_IO, NULL, at, "is odd"));
    assert_string_equal(odd->message,
                        "block 'a\\n\\\"\\\\\\377': field at file offset 0x10: is odd");
    assert_false(mapped_ram_refuse_field(NULL, MAPPED_RAM_ERROR_IO, NULL, at, "is odd"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_read_fails_in_turn),
        cmocka_unit_test(test_order_of_split_reads),
        cmocka_unit_test(test_interrupted_reads),
        cmocka_unit_test(test_short_reads),
        cmocka_unit_test(test_file_shrinks),
        cmocka_unit_test(test_messages_of_shrunk_files),
        cmocka_unit_test(test_bitmap_read_fails),
        cmocka_unit_test(test_read_fails_before_every_field),
        cmocka_unit_test(test_failing_allocations),
        cmocka_unit_test(test_allocations_are_bounded),
        cmocka_unit_test(test_huge_claims_cost_nothing),
        cmocka_unit_test(test_fd_reader),
        cmocka_unit_test(test_fd_reader_fails_later),
        cmocka_unit_test(test_fd_is_no_file),
        cmocka_unit_test(test_stream_borders),
        cmocka_unit_test(test_stream_of_growing_file),
        cmocka_unit_test(test_stream_read_at),
        cmocka_unit_test(test_messages),
    };

    return pagewise_run("loader-io", tests);
}

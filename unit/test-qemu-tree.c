/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The adapter of a QEMU tree (subject/qemu-tree). Behind the stream's end: what
 * QEMU looks for there, and ignores, costs nothing, and no read that fails
 * there makes a right file a refused one. What was read before counts. What a
 * refusal says follows from the file alone. And the threads of lazy loads are
 * kept from one to the next.
 */
#define _GNU_SOURCE /* memmem */
#include "model/snapshot.h"
#include "property/threads.h"
#include "subject/lazy.h"
#include "unit/support.h"

#include <string.h>
#include <sys/mman.h>

#define PAGES 16
#define RAM_BYTES (PAGES * 4096)
#define MAX_BYTES (1 << 20)

typedef struct Case {
    SparseFile *file;
    Guest guest;
    SubjectLoad load;
    uint8_t *ram;
} Case;

static void case_init(Case *c)
{
    static const char text[] = "[block 0]\nidstr = ram\nused_length = 64K\npages = 0-4; 8-10\n";
    g_autoptr(Snapshot) snapshot = snapshot_new();

    memset(c, 0, sizeof(*c));
    assert_true(snapshot_from_text(text, snapshot, NULL));
    c->file = sparse_file_new();
    snapshot_encode(snapshot, c->file);
    c->ram = g_malloc0(RAM_BYTES);
    c->guest = (Guest){ .target_page_size = 4096, .n_blocks = 1 };
    c->guest.blocks[0] = (GuestBlock){
        .idstr = "ram", .used_length = RAM_BYTES, .max_length = RAM_BYTES, .host_page_size = 4096
    };
}

static void case_clear(Case *c)
{
    sparse_file_free(c->file);
    g_free(c->ram);
}

static SubjectStatus load_told(Case *c, SubjectAxes axes, SubjectCost cost, GError **error)
{
    memset(c->ram, 0, RAM_BYTES);
    cost.max_reads = cost.max_reads ? cost.max_reads : 1000;
    cost.max_bytes = MAX_BYTES;
    c->load = (SubjectLoad){ .subject = subject_qemu_tree(),
                             .file = c->file,
                             .guest = &c->guest,
                             .stages = SUBJECT_WHOLE,
                             .blocks = { { .host = c->ram } },
                             .axes = axes,
                             .cost = cost };
    return subject_qemu_tree()->load_file(&c->load, error);
}

static SubjectStatus load_by(Case *c, SubjectAxes axes, SubjectCost cost)
{
    g_autoptr(GError) error = NULL;
    SubjectStatus status = load_told(c, axes, cost, &error);

    assert_int_equal(status == SUBJECT_REFUSED, error != NULL);
    return status;
}

static SubjectStatus load_file(Case *c, SubjectCost cost)
{
    return load_by(c, (SubjectAxes){ .real_file = false }, cost);
}

/* A VM description of 4 GiB, all of it a hole. */
static void append_description(SparseFile *file)
{
    static const uint8_t description[] = { 6, 0xff, 0xff, 0xff, 0xff };
    uint64_t end = sparse_file_size(file);

    sparse_file_write(file, end, description, sizeof(description));
    sparse_file_truncate(file, end + (UINT64_C(5) << 30));
}

static void test_what_is_behind_the_end_costs_nothing(void **state)
{
    uint64_t reads;
    Case c;

    (void)state;
    case_init(&c);
    assert_int_equal(load_file(&c, (SubjectCost){ 0 }), SUBJECT_ACCEPTED);
    reads = c.load.cost.reads;
    append_description(c.file);
    assert_int_equal(load_file(&c, (SubjectCost){ 0 }), SUBJECT_ACCEPTED);
    assert_true(c.load.cost.ended);
    assert_in_range(c.load.cost.bytes_read, RAM_BYTES / 4, MAX_BYTES);
    assert_in_range(c.load.cost.reads, 1, reads);
    case_clear(&c);
}

/* Of N reads each one that fails refuses the file; there is no read N + 1. */
static void test_a_read_fails_only_before_the_end(void **state)
{
    uint64_t reads;
    Case c;

    (void)state;
    case_init(&c);
    append_description(c.file);
    assert_int_equal(load_file(&c, (SubjectCost){ 0 }), SUBJECT_ACCEPTED);
    reads = c.load.cost.reads;
    assert_true(reads > 3);
    for (uint64_t read = 1; read <= reads; read++) {
        SubjectCost cost = { .fail_read = read, .fail_for_ever = read % 2 };

        assert_int_equal(load_file(&c, cost), SUBJECT_REFUSED);
        assert_int_equal(c.load.cost.fail_read, read);
    }
    assert_int_equal(load_file(&c, (SubjectCost){ .fail_read = reads + 1, .fail_for_ever = true }),
                     SUBJECT_ACCEPTED);
    assert_int_equal(c.load.cost.fail_read, 0);
    assert_int_equal(c.load.cost.reads, reads);
    case_clear(&c);
}

/* A limit that was passed stays passed. */
static void test_too_many_reads_are_told(void **state)
{
    uint64_t reads;
    Case c;

    (void)state;
    case_init(&c);
    assert_int_equal(load_file(&c, (SubjectCost){ 0 }), SUBJECT_ACCEPTED);
    reads = c.load.cost.reads;
    assert_int_equal(load_file(&c, (SubjectCost){ .max_reads = reads }), SUBJECT_ACCEPTED);
    assert_int_equal(load_file(&c, (SubjectCost){ .max_reads = reads - 1 }), SUBJECT_REFUSED);
    assert_int_equal(c.load.cost.reads, reads);
    case_clear(&c);
}

/* The same behind QEMU's own channel for files. */
static void test_a_real_file(void **state)
{
    const SubjectAxes axes = { .real_file = true };
    Case c;

    (void)state;
    case_init(&c);
    append_description(c.file);
    assert_int_equal(load_by(&c, axes, (SubjectCost){ 0 }), SUBJECT_ACCEPTED);
    assert_true(c.load.cost.ended);
    assert_in_range(c.load.cost.bytes_read, RAM_BYTES / 4, MAX_BYTES);
    assert_int_equal(load_by(&c, axes, (SubjectCost){ .fail_read = 2 }), SUBJECT_REFUSED);
    case_clear(&c);
}

/* What functions that are called next find in variables that they do not set. */
static __attribute__((noinline)) void fill_stack(uint8_t byte)
{
    uint8_t below[64 << 10];

    memset(below, byte, sizeof(below));
    __asm__ volatile("" : : "r"(below) : "memory");
}

static char *refusal_on_stack_of(Case *c, uint8_t byte)
{
    g_autoptr(GError) error = NULL;

    fill_stack(byte);
    assert_int_equal(load_told(c, (SubjectAxes){ .real_file = false }, (SubjectCost){ 0 }, &error),
                     SUBJECT_REFUSED);
    return g_strdup(error->message);
}

/*
 * QEMU shows the name of an unknown capability, also where the file ends within
 * it. What it shows of the rest is what the stack held, unless the tree is
 * compiled as QEMU's own build does it. Consequence: two trees that do the same
 * would differ, by chance.
 */
static void test_a_refusal_follows_from_the_file(void **state)
{
    g_autofree char *first = NULL;
    g_autofree char *second = NULL;
    static const char name[] = "mapped-ram";
    uint8_t start[256];
    uint8_t *at;
    Case c;

    (void)state;
    case_init(&c);
    assert_int_equal(sparse_file_read(c.file, 0, start, sizeof(start)), sizeof(start));
    at = memmem(start, sizeof(start), name, strlen(name));
    assert_non_null(at);
    sparse_file_truncate(c.file, at - start + 4);
    first = refusal_on_stack_of(&c, 'A');
    second = refusal_on_stack_of(&c, 'B');
    assert_non_null(strstr(first, "mapp"));
    assert_string_equal(first, second);
    case_clear(&c);
}

static void at_point(void *opaque, SubjectPoint point, SubjectThread thread, int block,
                     uint64_t page)
{
    (void)opaque, (void)point, (void)thread, (void)block, (void)page;
}

static void placed(void *opaque, SubjectOperation how, const uint8_t *host, uint64_t length)
{
    (void)opaque, (void)how, (void)host, (void)length;
}

/* A touch of the first page is a fault. */
static void load_lazily(const SubjectLazy *lazy, SubjectLazyLoad *load, bool eager_thread)
{
    load->eager_thread = eager_thread;
    load->load.cost = (SubjectCost){ .max_reads = 1000, .max_bytes = MAX_BYTES };
    assert_int_equal(lazy->start(load, NULL), SUBJECT_ACCEPTED);
    assert_int_not_equal(*load->load.blocks[0].host, 0);
    assert_int_equal(lazy->end(load, NULL), SUBJECT_ACCEPTED);
    if (!eager_thread) {
        assert_int_equal(lazy->faults(load), 1);
    }
    lazy->free(load);
}

/* Any number of loads, with one thread of QEMU's or two, and a session behind another. */
static void test_threads_are_kept(void **state)
{
    const SubjectLazy *lazy = subject_qemu_tree()->lazy;
    unsigned before;
    Case c;

    (void)state;
    pagewise_skip_unless(lazy, "fault-thread", "the tree has no fault thread", "a newer tree");
    case_init(&c);
    assert_int_equal(load_file(&c, (SubjectCost){ 0 }), SUBJECT_ACCEPTED);
    before = count_threads();
    for (unsigned session = 0; session < 2; session++) {
        SubjectLazyLoad load = { .load = c.load,
                                 .session = lazy->session_new(NULL),
                                 .map_fd = -1,
                                 .cut_at = UINT64_MAX,
                                 .at_point = at_point,
                                 .placed = placed };
        unsigned kept = count_threads();

        pagewise_skip_unless(load.session, "uffd", "there is no userfaultfd", "run as root");
        load.load.blocks[0].host =
            mmap(NULL, RAM_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        for (unsigned i = 0; i < 4; i++) {
            load_lazily(lazy, &load, i % 2);
            assert_int_equal(count_threads(), kept);
        }
        lazy->session_free(load.session);
        munmap(load.load.blocks[0].host, RAM_BYTES);
        assert_int_equal(count_settled_threads(before), before);
    }
    case_clear(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_behind_the_end_costs_nothing),
        cmocka_unit_test(test_a_read_fails_only_before_the_end),
        cmocka_unit_test(test_too_many_reads_are_told),
        cmocka_unit_test(test_a_real_file),
        cmocka_unit_test(test_a_refusal_follows_from_the_file),
        cmocka_unit_test(test_threads_are_kept),
    };

    return pagewise_run("qemu-tree", tests);
}

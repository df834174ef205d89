/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The properties themselves: they hold of the reference loader on many inputs,
 * they look at something while they do, and each notices the loaders that are
 * wrong on purpose (broken-subject.c).
 */
#include "property/fault-map.h"
#include "property/property.h"
#include "unit/broken-subject.h"
#include "unit/support.h"

#include <signal.h>
#include <string.h>

/* Inputs tried for each kind. */
#define INPUTS 5000

typedef struct Bytes {
    size_t size;
    uint8_t data[256];
} Bytes;

static uint64_t next_random(uint64_t *state)
{
    *state = *state * UINT64_C(6364136223846793005) + 1442695040888963407u;
    return *state >> 33;
}

/* Choices of the generator and the mutator; every second input has no mutation. */
static void make_choices(Bytes *input, uint64_t *state, unsigned index)
{
    InputHeader *header = (InputHeader *)input->data;
    size_t generator = 16 + next_random(state) % 100;
    size_t mutator = index % 2 ? next_random(state) % 24 : 0;

    header->generator_size[0] = generator;
    input->size = sizeof(*header) + generator + mutator;
    for (size_t i = sizeof(*header); i < input->size; i++) {
        input->data[i] = next_random(state);
    }
}

static void put(Bytes *input, const void *bytes, size_t length)
{
    memcpy(input->data + input->size, bytes, length);
    input->size += length;
}

static void put_be(Bytes *input, unsigned width, uint64_t value)
{
    while (width-- > 0) {
        input->data[input->size++] = value >> (8 * width);
    }
}

/* A block of up to 255 pages whose header is at 0x40, followed by its bitmap. */
static void make_header(Bytes *input, uint64_t *state, unsigned index)
{
    uint8_t pages = 1 + next_random(state) % 255;
    unsigned words = (pages + 63) / 64;
    InputBlock block = { .idstr_length = 3, .idstr = "ram", .used.pages = pages };
    InputRecord record = { .header_offset = { 0x40 },
                           .used_length = { 0, pages << 4, pages >> 4 } };
    uint64_t page_size = index % 16 == 1 ? 0x2000 : 0x1000;

    put(input, &block, sizeof(block));
    put(input, &record, sizeof(record));
    /* Sparse form: a gap of 0x40, then MappedRamHeader and the bitmap. */
    put(input, (const uint8_t[]){ 0, 0x40, 28 + words * 8 }, 3);
    put_be(input, 4, 1);
    put_be(input, 8, page_size);
    put_be(input, 8, 0x40 + 28);
    put_be(input, 8, 0x100000);
    for (unsigned i = 0; i < words * 8; i++) {
        uint8_t bits = next_random(state) & next_random(state);

        put(input, &bits, 1);
    }
    /* A pattern of 255 pages at 1 MiB, in units of 4096 bytes. */
    put(input, (const uint8_t[]){ 6, 0xff, 0x01, 0xff, 0x01, 9 }, 6);
}

/*
 * Up to three blocks of all page sizes, near each other in memory and in the
 * file as often as not, and addresses near their edges.
 */
static void make_fault_map(Bytes *input, uint64_t *state)
{
    InputHeader *header = (InputHeader *)input->data;
    InputFaultMap map = { .n_probes = INPUT_MAX_PROBES, .base = { next_random(state) } };
    uint8_t bits[16];

    header->page_bits = 10 + next_random(state) % 7;
    header->n_blocks = 1 + next_random(state) % 3;
    header->flags |= next_random(state) % 2 ? INPUT_SWEEP : 0;
    put(input, &map, sizeof(map));
    for (unsigned i = 0; i < header->n_blocks; i++) {
        InputFaultBlock block = {
            .host_page_bits = next_random(state) % 4 ? 12 + next_random(state) % 5 : 21,
            .flags = next_random(state) % 8 ? 0 : next_random(state) % 8,
            .used = { 1 + next_random(state) % 200, next_random(state) % 3 ? 0 : 0xf3 },
            .bitmap_bytes = sizeof(bits),
            .memory_gap[0] = next_random(state) % 2,
            .file_gap = { 0, 0, 0, next_random(state) % 2 },
        };

        put(input, &block, sizeof(block));
    }
    for (unsigned i = 0; i < INPUT_MAX_PROBES; i++) {
        InputProbe probe = {
            .block = next_random(state),
            .anchor = next_random(state) % INPUT_ANCHOR_ABSOLUTE,
            .delta = { next_random(state), next_random(state), next_random(state) % 2 },
        };

        if (next_random(state) % 2) {
            memset(probe.delta, 0xff, sizeof(probe.delta));
        }
        put(input, &probe, sizeof(probe));
    }
    for (unsigned i = 0; i < header->n_blocks; i++) {
        memset(bits, next_random(state) % 2 ? 0xff : 0, sizeof(bits));
        bits[next_random(state) % sizeof(bits)] ^= 1 << next_random(state) % 8;
        put(input, bits, sizeof(bits));
    }
}

static void make_input(InputKind kind, uint64_t *state, unsigned index, Bytes *input)
{
    InputHeader header = { .version = INPUT_VERSION, .kind = kind };

    if (index % 4 >= 2) {
        header.flags = INPUT_DIRTY_RAM | INPUT_RELOAD;
    }
    if (index % 3 != 0) {
        header.flags |= INPUT_SPLIT;
    }
    if (index % 8 == 4) {
        header.fail_read[0] = 1 + next_random(state) % 6;
    }
    if (index % 8 == 6) {
        header.max_read_bits = 1 + next_random(state) % 13;
    }
    *input = (Bytes){ 0 };
    put(input, &header, sizeof(header));
    if (kind == INPUT_HEADER) {
        make_header(input, state, index);
    } else if (kind == INPUT_FAULT_MAP) {
        make_fault_map(input, state);
    } else {
        make_choices(input, state, index);
    }
}

/* Runs the inputs, with @flags set, until one breaks a property; NULL if none does. */
static GError *run_flagged_inputs(PropertyContext *context, InputKind kind, unsigned flags)
{
    const Property *property = property_for_kind(kind);
    uint64_t state = 1;

    for (unsigned i = 0; i < INPUTS; i++) {
        GError *error = NULL;
        Bytes input;

        make_input(kind, &state, i, &input);
        ((InputHeader *)input.data)->flags |= flags;
        if (!property->function(context, input.data, input.size, &error)) {
            return error;
        }
    }
    return NULL;
}

static GError *run_inputs(PropertyContext *context, InputKind kind)
{
    return run_flagged_inputs(context, kind, 0);
}

static void assert_holds(InputKind kind, PropertyStats *stats)
{
    g_autoptr(PropertyContext) context = property_context_new(subject_reference());
    g_autoptr(GError) error = run_inputs(context, kind);

    assert_string_equal(error ? error->message : "", "");
    *stats = *property_context_stats(context);
    assert_int_equal(stats->executions, INPUTS);
    assert_int_equal(stats->unsupported, 0);
}

static void test_layout_holds(void **state)
{
    PropertyStats stats;

    (void)state;
    assert_holds(INPUT_LAYOUT, &stats);
    assert_true(stats.accepted > INPUTS / 2);
    assert_true(stats.refused > INPUTS / 8);
    assert_true(stats.either > INPUTS / 100);
    assert_true(stats.pages > INPUTS);
    assert_true(stats.too_large < INPUTS / 10);
}

/* The bitmap of a used_length that is too great lies over all that follows it: no page of RAM. */
static void test_a_long_bitmap_is_not_too_large(void **state)
{
    g_autoptr(PropertyContext) context = property_context_new(subject_reference());
    g_autoptr(Snapshot) snapshot = snapshot_new();
    g_autoptr(SparseFile) file = sparse_file_new();
    g_autoptr(GByteArray) bytes = g_byte_array_new();
    g_autoptr(GError) error = NULL;
    Guest guest = { .target_page_size = 4096, .n_blocks = 1 };
    SnapshotBlock *block;

    (void)state;
    guest.blocks[0] = (GuestBlock){
        .idstr = "ram", .used_length = 64 << 10, .max_length = 64 << 10, .host_page_size = 4096
    };
    block = snapshot_add_block(snapshot, "ram", 64 << 10);
    snapshot_block_add_run(block, (PageRun){ .count = 1, .seed = 1 });
    snapshot_layout(snapshot, SNAPSHOT_PAGES_ALIGNMENT);
    block->used_length = UINT64_MAX;
    snapshot_encode(snapshot, file);
    assert_true(input_encode_stream(&guest, file, 0, bytes));
    assert_true(property_stream(context, bytes->data, bytes->len, &error));
    assert_int_equal(property_context_stats(context)->too_large, 0);
    assert_int_equal(property_context_stats(context)->refused, 1);
}

static void test_header_holds(void **state)
{
    PropertyStats stats;

    (void)state;
    assert_holds(INPUT_HEADER, &stats);
    assert_true(stats.accepted > INPUTS / 2);
    assert_true(stats.refused > INPUTS / 16);
    assert_true(stats.pages > INPUTS);
}

static void test_round_trip_holds(void **state)
{
    PropertyStats stats;

    (void)state;
    assert_holds(INPUT_ROUND_TRIP, &stats);
    /* Loaded, saved, loaded again. */
    assert_true(stats.accepted > INPUTS * 3 / 2);
    assert_int_equal(stats.refused, 0);
    assert_true(stats.pages > INPUTS);
}

static void test_fault_map_holds(void **state)
{
    PropertyStats stats;

    (void)state;
    assert_holds(INPUT_FAULT_MAP, &stats);
    assert_true(stats.accepted > INPUTS);
    assert_true(stats.refused > INPUTS / 2);
    assert_true(stats.pages > INPUTS);
}

static void assert_noticed(const BrokenSubject *table, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        g_autoptr(PropertyContext) context = property_context_new(&table[i].subject);
        g_autoptr(GError) error = run_inputs(context, table[i].kind);

        if (!error) {
            fail_msg("a subject that %s went unnoticed", table[i].subject.name);
        }
        if (error->domain != PROPERTY_ERROR || error->code != (int)table[i].property ||
            !strstr(error->message, table[i].message) ||
            !strstr(error->message, table[i].subject.name) ||
            !strstr(error->message, property_id_name(table[i].property))) {
            fail_msg("a subject that %s was noticed as: %s", table[i].subject.name, error->message);
        }
    }
}

static void test_each_fault_is_noticed(void **state)
{
    unsigned n;
    const BrokenSubject *table = broken_subjects(&n);

    (void)state;
    assert_noticed(table, n);
}

static void test_each_wrong_map_is_noticed(void **state)
{
    unsigned n;
    const BrokenSubject *table = broken_maps(&n);

    (void)state;
    assert_noticed(table, n);
}

/* A subject that is right until it has refused once, and then refuses all. */
static SubjectStatus bears_a_grudge(SubjectLoad *load, GError **error)
{
    static bool offended;
    SubjectStatus status = subject_reference()->load_file(load, error);

    if (offended && status == SUBJECT_ACCEPTED) {
        g_set_error_literal(error, G_FILE_ERROR, G_FILE_ERROR_INVAL, "no: offset 0x0 (rule R8)");
        status = SUBJECT_REFUSED;
    }
    offended = status == SUBJECT_REFUSED;
    return status;
}

static void test_what_a_refusal_leaves_is_noticed(void **state)
{
    const Subject subject = { .name = "bears a grudge", .load_file = bears_a_grudge };
    g_autoptr(PropertyContext) context = property_context_new(&subject);
    g_autoptr(GError) error = run_flagged_inputs(context, INPUT_LAYOUT, INPUT_RELOAD);

    (void)state;
    assert_non_null(error);
    assert_non_null(strstr(error->message, "second load in the same process"));
}

static SubjectStatus writes_beyond_max_length(SubjectLoad *load, GError **error)
{
    SubjectStatus status = subject_reference()->load_file(load, error);

    load->blocks[0].host[load->guest->blocks[0].max_length] = 0;
    return status;
}

static int run_writer_beyond(void *opaque)
{
    const Subject subject = { .name = "overruns", .load_file = writes_beyond_max_length };
    g_autoptr(PropertyContext) context = property_context_new(&subject);
    GError *error;

    (void)opaque;
    signal(SIGSEGV, SIG_DFL);
    error = run_inputs(context, INPUT_LAYOUT);
    g_clear_error(&error);
    return 0;
}

/* The guard page: one byte beyond max_length is not a matter of comparing. */
static void test_the_guard_page_is_there(void **state)
{
    ChildEnd end = pagewise_run_in_child(run_writer_beyond, NULL, 20);

    (void)state;
    assert_false(end.timed_out);
    assert_int_equal(end.signal, SIGSEGV);
}

static void test_unsupported_is_counted(void **state)
{
    const Subject subject = { .name = "can do nothing" };
    g_autoptr(PropertyContext) context = property_context_new(&subject);
    g_autoptr(GError) error = run_inputs(context, INPUT_LAYOUT);
    const PropertyStats *stats = property_context_stats(context);

    (void)state;
    assert_null(error);
    assert_int_equal(stats->accepted + stats->refused, 0);
    assert_true(stats->unsupported > INPUTS / 2);
}

/* The same inputs, the same counters: nothing depends on what ran before. */
static void test_results_are_repeatable(void **state)
{
    PropertyStats first, second;

    (void)state;
    assert_holds(INPUT_LAYOUT, &first);
    assert_holds(INPUT_LAYOUT, &second);
    assert_memory_equal(&first, &second, sizeof(first));
}

static void test_other_inputs_are_left_alone(void **state)
{
    static const uint8_t wrong[][4] = {
        { 0, INPUT_STREAM },
        { INPUT_VERSION + 1, INPUT_STREAM },
        { INPUT_VERSION, 0 },
        { INPUT_VERSION, 200 },
    };
    g_autoptr(PropertyContext) context = property_context_new(subject_reference());
    unsigned kinds = 0;

    (void)state;
    for (unsigned kind = 0; kind <= UINT8_MAX; kind++) {
        const Property *property = property_for_kind(kind);

        for (unsigned i = 0; property && i < G_N_ELEMENTS(wrong); i++) {
            g_autoptr(GError) error = NULL;

            assert_true(property->function(context, wrong[i], 4, &error));
            assert_true(property->function(context, wrong[i], i % 2, &error));
        }
        kinds += property != NULL;
    }
    assert_true(kinds >= INPUT_FAULT_MAP);
    assert_int_equal(property_context_stats(context)->executions, 0);
    assert_null(property_for_kind(0));
    assert_null(property_for_kind(200));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_long_bitmap_is_not_too_large),
        cmocka_unit_test(test_layout_holds),
        cmocka_unit_test(test_header_holds),
        cmocka_unit_test(test_round_trip_holds),
        cmocka_unit_test(test_fault_map_holds),
        cmocka_unit_test(test_each_fault_is_noticed),
        cmocka_unit_test(test_each_wrong_map_is_noticed),
        cmocka_unit_test(test_what_a_refusal_leaves_is_noticed),
        cmocka_unit_test(test_the_guard_page_is_there),
        cmocka_unit_test(test_unsupported_is_counted),
        cmocka_unit_test(test_results_are_repeatable),
        cmocka_unit_test(test_other_inputs_are_left_alone),
    };

    return pagewise_run("properties", tests);
}

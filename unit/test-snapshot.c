/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * model/snapshot.c, -encode.c, -generate.c, -mutate.c: the bytes of the
 * document's sections 2 to 11, bitmaps against a naive bitmap, generated files
 * against the judge, and of the mutator: that each mutation does something, and
 * that together they break every rule.
 */
#include "model/judge.h"
#include "unit/snapshot-support.h"
#include "unit/support.h"

#include <string.h>

/* The example of one block of 1 MiB, byte by byte as QEMU 10.0.2 writes it. */
#define QEMU_BEGINNING                                                                             \
    "5145564d"                                                                                     \
    "00000003"                                                                                     \
    "07"                                                                                           \
    "00000004"                                                                                     \
    "6e6f6e65"                                                                                     \
    "05"                                                                                           \
    "1a"                                                                                           \
    "636f6e66696775726174696f6e2f6361706162696c6974696573"                                         \
    "00000001"                                                                                     \
    "00000001"                                                                                     \
    "0a"                                                                                           \
    "6d61707065642d72616d"                                                                         \
    "01"                                                                                           \
    "00000002"                                                                                     \
    "03"                                                                                           \
    "72616d"                                                                                       \
    "00000000"                                                                                     \
    "00000004"                                                                                     \
    "0000000000100004"                                                                             \
    "03"                                                                                           \
    "72616d"                                                                                       \
    "0000000000100000"                                                                             \
    "00000001"                                                                                     \
    "0000000000001000"                                                                             \
    "0000000000000081"                                                                             \
    "0000000000100000"
#define QEMU_BITMAP "0300000000000080"
#define QEMU_END                                                                                   \
    "0000000000000010"                                                                             \
    "7e00000002"                                                                                   \
    "08000b0000"                                                                                   \
    "0300000002"                                                                                   \
    "0000000000000010"                                                                             \
    "7e00000002"                                                                                   \
    "00"

static void assert_hex(const SparseFile *file, uint64_t at, const char *expected)
{
    g_autofree char *hex = file_hex(file, at, strlen(expected) / 2);

    assert_string_equal(hex, expected);
}

static PageRun pattern_run(uint64_t first, uint64_t count)
{
    return (PageRun){ .first = first, .count = count, .content = CONTENT_PATTERN, .seed = 7 };
}

static PageRun absent_run(uint64_t first, uint64_t count)
{
    return (PageRun){ .first = first, .count = count, .content = CONTENT_ABSENT };
}

static void test_qemu_bytes(void **state)
{
    g_autoptr(Snapshot) s = snapshot_new();
    g_autoptr(SparseFile) file = sparse_file_new();
    SnapshotBlock *block = snapshot_add_block(s, "ram", 0x100000);
    uint8_t byte = sparse_pattern(7, 0x100000);
    uint8_t read;

    (void)state;
    snapshot_block_add_run(block, pattern_run(0, 2));
    snapshot_block_add_run(block, absent_run(63, 1));
    snapshot_layout(s, SNAPSHOT_PAGES_ALIGNMENT);
    snapshot_append_tail(s->tail, s->section_id);
    snapshot_encode(s, file);
    assert_hex(file, 0, QEMU_BEGINNING QEMU_BITMAP);
    assert_hex(file, 0x200000, QEMU_END);
    assert_int_equal(sparse_file_size(file), 0x200000 + strlen(QEMU_END) / 2);
    assert_int_equal(snapshot_tail_end(s), sparse_file_size(file));
    assert_int_equal(snapshot_section_at(s), 0x40);
    assert_int_equal(snapshot_total_at(s), 0x51);
    assert_int_equal(snapshot_block_header_at(block), 0x65);
    assert_int_equal(sparse_file_read(file, 0x100000, &read, 1), 1);
    assert_int_equal(read, byte);
    assert_true(sparse_file_data_bytes(file) < 3 * 4096);
}

static void test_shared_blocks(void **state)
{
    g_autoptr(Snapshot) s = snapshot_new();
    g_autoptr(SparseFile) file = sparse_file_new();
    SnapshotBlock *first = snapshot_add_block(s, "a", 0x1000);
    SnapshotBlock *second = snapshot_add_block(s, "b", 0x2000);

    (void)state;
    first->has_gpa = second->has_gpa = true;
    first->gpa = 0x10000;
    first->ignored = true;
    snapshot_layout(s, 4096);
    assert_int_equal(s->total, 0x3004);
    assert_int_equal(second->record_at, 0x59 + 2 + 8 + 8 + 28);
    assert_int_equal(second->pages_offset, 0x1000);
    assert_int_equal(s->tail_at, 0x3000);
    snapshot_encode(s, file);
    assert_hex(file, first->record_at,
               "0161"
               "0000000000001000"
               "0000000000010000"
               "00000001"
               "0000000000001000"
               "0000000000000000"
               "0000000000000000"
               "0162"
               "0000000000002000");
}

static void test_append_section(void **state)
{
    g_autoptr(GByteArray) tail = g_byte_array_new();
    g_autoptr(SparseFile) file = sparse_file_new();

    (void)state;
    snapshot_append_section(tail, SNAPSHOT_SECTION_FULL, 3, "timer", 1, 2);
    snapshot_append_command(tail, 5, "ab", 2);
    snapshot_append_ram_section(tail, SNAPSHOT_SECTION_PART, 9);
    sparse_file_write(file, 0, tail->data, tail->len);
    assert_hex(file, 0,
               "04"
               "00000003"
               "05"
               "74696d6572"
               "00000001"
               "00000002"
               "08"
               "0005"
               "0002"
               "6162"
               "02"
               "00000009"
               "0000000000000010"
               "7e"
               "00000009");
}

static void test_lengths_beyond_a_buffer(void **state)
{
    g_autoptr(Snapshot) s = snapshot_new();
    g_autoptr(SparseFile) file = sparse_file_new();
    g_autofree uint8_t *bytes = g_malloc(3000);

    (void)state;
    memset(bytes, 'm', 3000);
    snapshot_set_machine(s, bytes, 3000);
    snapshot_add_subsection(s, "configuration/uuid", bytes, 500);
    snapshot_add_subsection(s, "configuration/uuid", bytes, 0);
    snapshot_layout(s, 4096);
    snapshot_encode(s, file);
    assert_int_equal(snapshot_section_at(s), 13 + 3000 + 47 + (1 + 19 + 4 + 500) + (1 + 19 + 4));
    assert_hex(file, 9,
               "00000bb8"
               "6d6d");
    assert_hex(file, snapshot_section_at(s),
               "01"
               "00000002"
               "03");
}

/* Fields that together pass the encoder's buffer at every possible place. */
static void test_many_small_fields(void **state)
{
    g_autoptr(Snapshot) s = snapshot_new();
    g_autoptr(SparseFile) file = sparse_file_new();

    (void)state;
    for (unsigned length = 1; length < 200; length++) {
        g_autofree char *name = g_strnfill(length, 'c');

        snapshot_reset(s);
        for (unsigned i = 0; i < 5; i++) {
            snapshot_add_capability(s, name);
        }
        snapshot_set_machine(s, name, length);
        snapshot_add_block(s, "ram", 4096)->has_gpa = true;
        snapshot_layout(s, 4096);
        snapshot_encode(s, file);
        assert_hex(file, snapshot_section_at(s),
                   "01"
                   "00000002"
                   "03"
                   "72616d"
                   "00000000"
                   "00000004"
                   "0000000000001004"
                   "03"
                   "72616d"
                   "0000000000001000"
                   "0000000000000000"
                   "00000001");
        assert_hex(file, s->tail_at,
                   "0000000000000010"
                   "7e00000002");
    }
}

static bool naive_bit(const SnapshotBlock *block, uint64_t page)
{
    for (unsigned i = 0; i < block->runs->len; i++) {
        const PageRun *run = &g_array_index(block->runs, PageRun, i);

        if (page >= run->first && page - run->first < run->count && run->content != CONTENT_STALE &&
            run->content != CONTENT_STALE_DATA) {
            return true;
        }
    }
    return false;
}

static void assert_bitmap(const Snapshot *s, const SnapshotBlock *block)
{
    g_autoptr(SparseFile) file = sparse_file_new();

    snapshot_encode(s, file);
    for (uint64_t page = 0; page < snapshot_block_bitmap_length(block) * 8; page++) {
        uint8_t byte;

        assert_int_equal(sparse_file_read(file, block->bitmap_at + page / 8, &byte, 1), 1);
        assert_int_equal(byte >> (page % 8) & 1, naive_bit(block, page));
    }
}

static void test_bitmaps(void **state)
{
    g_autoptr(Snapshot) s = snapshot_new();

    (void)state;
    for (unsigned number = 0; number < 100; number++) {
        uint8_t entropy[40];
        Choices choices = choices_init(entropy, sizeof(entropy));
        SnapshotBlock *block;

        entropy_fill(number, entropy, sizeof(entropy));
        snapshot_reset(s);
        block = snapshot_add_block(s, "ram", (1 + choices_below(&choices, 9000)) * 4096);
        while (!choices_exhausted(&choices)) {
            PageRun run = { .first = choices_below(&choices, 9000) };

            run.count = choices_below(&choices, number % 3 == 0 ? 9000 : 130);
            run.content = choices_below(&choices, 2) ? CONTENT_ABSENT : CONTENT_STALE;
            snapshot_block_add_run(block, run);
        }
        snapshot_layout(s, 4096);
        assert_bitmap(s, block);
    }
}

/* Bits to the end of the word, and not beyond it. */
static void test_bits_beyond(void **state)
{
    g_autoptr(Snapshot) s = snapshot_new();
    g_autoptr(SparseFile) file = sparse_file_new();
    SnapshotBlock *block = snapshot_add_block(s, "ram", 65 * 4096);

    (void)state;
    snapshot_block_add_run(block, absent_run(65, UINT64_MAX));
    snapshot_layout(s, 4096);
    snapshot_encode(s, file);
    assert_hex(file, block->bitmap_at,
               "0000000000000000"
               "feffffffffffffff"
               "0000000000000000");
    block->bitmap_pages = UINT64_MAX;
    snapshot_encode(s, file);
    assert_int_equal(sparse_file_size(file), block->bitmap_at + (UINT64_C(1) << 61));
}

static void test_large_block_is_small(void **state)
{
    g_autoptr(Snapshot) s = snapshot_new();
    g_autoptr(SparseFile) file = sparse_file_new();
    SnapshotBlock *block = snapshot_add_block(s, "ram", UINT64_C(1) << 32);
    uint64_t last = (1 << 20) - 1;

    (void)state;
    snapshot_block_add_run(block, absent_run(0, 1));
    snapshot_block_add_run(block, absent_run(last, 1));
    snapshot_layout(s, SNAPSHOT_PAGES_ALIGNMENT);
    snapshot_encode(s, file);
    assert_true(sparse_file_data_bytes(file) < 300);
    assert_hex(file, block->bitmap_at, "0100000000000000");
    assert_hex(file, block->bitmap_at + last / 8, "80");
}

/* Fields win over pages, pokes over fields, and the size comes last. */
static void test_overlaps(void **state)
{
    g_autoptr(Snapshot) s = snapshot_new();
    g_autoptr(SparseFile) file = sparse_file_new();
    SnapshotBlock *block = snapshot_add_block(s, "ram", 0x1000);
    SparseExtent fill = { .offset = 2, .length = 1, .kind = SPARSE_FILL, .seed = 0xab };
    SparseExtent pattern = { .offset = 3, .length = 1, .kind = SPARSE_PATTERN, .seed = 5 };
    uint8_t byte;

    (void)state;
    snapshot_block_add_run(block, pattern_run(0, 1));
    snapshot_layout(s, 4096);
    block->pages_at = 0;
    snapshot_add_poke(s, 0, "\x01\x02", 2);
    g_array_append_val(s->pokes, fill);
    g_array_append_val(s->pokes, pattern);
    s->truncate = true;
    s->file_size = 0x60;
    snapshot_encode(s, file);
    assert_hex(file, 0, "0102ab");
    assert_hex(file, 4,
               "00000003"
               "07");
    assert_int_equal(sparse_file_read(file, 3, &byte, 1), 1);
    assert_int_equal(byte, sparse_pattern(5, 3));
    assert_int_equal(sparse_file_size(file), 0x60);
}

/* Offsets that no file has are cut off, not wrapped around. */
static void test_far_offsets(void **state)
{
    g_autoptr(Snapshot) s = snapshot_new();
    g_autoptr(SparseFile) file = sparse_file_new();
    SnapshotBlock *block = snapshot_add_block(s, "ram", 0x1000);
    PageRun far[] = { pattern_run(UINT64_MAX, UINT64_MAX),
                      pattern_run(UINT64_MAX / 4096 - 1, 9),
                      { .first = 1, .count = UINT64_MAX, .content = CONTENT_FILL, .seed = 1 } };

    (void)state;
    for (unsigned i = 0; i < G_N_ELEMENTS(far); i++) {
        snapshot_block_add_run(block, far[i]);
    }
    snapshot_layout(s, 4096);
    block->record_at = UINT64_MAX - 3;
    block->bitmap_at = INT64_MAX - 3;
    s->tail_at = INT64_MAX - 1;
    snapshot_encode(s, file);
    assert_int_equal(sparse_file_size(file), INT64_MAX);
    assert_hex(file, 0, "5145564d");
}

static void test_copy(void **state)
{
    g_autoptr(Snapshot) s = snapshot_new();
    g_autoptr(Snapshot) copy = snapshot_new();
    g_autoptr(SparseFile) file = sparse_file_new();
    g_autoptr(SparseFile) again = sparse_file_new();

    (void)state;
    snapshot_add_block(copy, "what was there", 4096);
    for (unsigned number = 0; number < 500; number++) {
        uint8_t entropy[ENTROPY_LENGTH];
        Choices choices = choices_init(entropy, sizeof(entropy));
        Guest guest;

        entropy_fill(number, entropy, sizeof(entropy));
        snapshot_generate(&choices, SMALL_BLOCKS, s, &guest);
        snapshot_mutate(&choices, SNAPSHOT_MUTATIONS_NEWEST, 3, s, &guest, NULL);
        snapshot_copy(copy, s);
        snapshot_encode(s, file);
        snapshot_encode(copy, again);
        assert_true(same_file(file, again));
    }
}

static void test_alloc(void **state)
{
    g_autoptr(Snapshot) s = snapshot_new();
    uint8_t *first = snapshot_alloc(s, 40000);
    uint8_t *second = snapshot_alloc(s, 40000);
    uint8_t *large = snapshot_alloc(s, 1000000);

    (void)state;
    memset(first, 1, 40000);
    memset(second, 2, 40000);
    memset(large, 3, 1000000);
    assert_int_equal(first[39999], 1);
    assert_non_null(snapshot_alloc(s, 0));
    snapshot_reset(s);
    assert_ptr_equal(snapshot_alloc(s, 40000), first);
    assert_ptr_equal(snapshot_alloc(s, 40000), second);
    assert_ptr_equal(snapshot_alloc(s, 1000000), large);
}

static void test_zero_entropy(void **state)
{
    g_autoptr(Snapshot) s = snapshot_new();
    g_autoptr(SparseFile) file = sparse_file_new();
    Choices choices = choices_init(NULL, 0);
    Guest guest;

    (void)state;
    snapshot_generate(&choices, SMALL_BLOCKS, s, &guest);
    assert_int_equal(guest.n_blocks, 1);
    assert_string_equal(guest.blocks[0].idstr, "ram");
    assert_int_equal(guest.blocks[0].used_length, 4096);
    assert_int_equal(guest.blocks[0].max_length, 4096);
    assert_int_equal(guest.blocks[0].host_page_size, 4096);
    assert_int_equal(guest.target_page_size, 4096);
    assert_false(guest.x_ignore_shared);
    assert_string_equal(guest.machine, "");
    snapshot_encode(s, file);
    assert_hex(file, 0, "5145564d");
    assert_hex(file, 0x101000, QEMU_END);
    assert_true(sparse_file_data_bytes(file) < 0x81 + 8 + sizeof(QEMU_END));
}

/* Mutators like 0xff: it must not make the guests that take longest. */
static void test_high_entropy(void **state)
{
    g_autoptr(Snapshot) s = snapshot_new();
    uint8_t entropy[ENTROPY_LENGTH];
    Choices choices = choices_init(entropy, sizeof(entropy));
    Guest guest;

    (void)state;
    memset(entropy, 0xff, sizeof(entropy));
    snapshot_generate(&choices, SMALL_BLOCKS, s, &guest);
    assert_int_equal(guest.n_blocks, 4);
    for (unsigned i = 0; i < guest.n_blocks; i++) {
        assert_in_range(guest.blocks[i].used_length, 1, 64 << 10);
    }
    /* They can be had, all the same. */
    entropy[0] = 251;
    entropy[12] = 240;
    choices = choices_init(entropy, sizeof(entropy));
    snapshot_generate(&choices, UINT64_C(1) << 30, s, &guest);
    assert_int_equal(guest.n_blocks, SNAPSHOT_MAX_GENERATED_BLOCKS);
    assert_true(guest.blocks[0].used_length > 16 << 20);
    assert_in_range(guest.blocks[1].used_length, 1, 64 << 10);
}

/* What was seen in generated cases, so that none of it is lost unnoticed. */
typedef struct Seen {
    unsigned blocks[SNAPSHOT_MAX_GENERATED_BLOCKS + 1];
    unsigned page_sizes[17];
    unsigned contents[CONTENT__MAX];
    unsigned shared, ignored, known_machine, clear_pages, huge, large, resizable, beyond, long_name;
} Seen;

static void look_at_block(Seen *seen, const GuestBlock *guest_block, const SnapshotBlock *block)
{
    seen->ignored += block->ignored;
    seen->huge += guest_block->host_page_size > 4096;
    seen->large += guest_block->max_length > SMALL_BLOCKS;
    seen->resizable += guest_block->max_length > guest_block->used_length;
    seen->long_name += block->idstr_length == 255;
    for (unsigned i = 0; i < block->runs->len; i++) {
        const PageRun *run = &g_array_index(block->runs, PageRun, i);

        seen->contents[run->content]++;
        seen->beyond += run->first >= block->bitmap_pages;
    }
}

static void look_at(Seen *seen, const Guest *guest, const Snapshot *s)
{
    seen->blocks[guest->n_blocks]++;
    seen->page_sizes[__builtin_ctzll(guest->target_page_size)]++;
    seen->shared += guest->x_ignore_shared;
    seen->known_machine += guest->machine[0] != '\0';
    seen->clear_pages += guest->clear_pages;
    for (unsigned i = 0; i < guest->n_blocks; i++) {
        look_at_block(seen, &guest->blocks[i], snapshot_block(s, i));
    }
}

static void assert_guest_is_sound(const Guest *guest, uint64_t max_bytes)
{
    for (unsigned i = 0; i < guest->n_blocks; i++) {
        const GuestBlock *block = &guest->blocks[i];

        assert_true(block->used_length > 0 && block->used_length <= block->max_length);
        assert_true(block->max_length <= max_bytes);
        assert_int_equal(block->used_length % guest->target_page_size, 0);
        assert_int_equal(block->max_length % guest->target_page_size, 0);
        for (unsigned j = 0; j < i; j++) {
            assert_string_not_equal(block->idstr, guest->blocks[j].idstr);
        }
    }
}

static void assert_accepted(const SparseFile *file, const Guest *guest, unsigned number)
{
    Judgement judgement;

    judge_file(file, guest, &judgement);
    if (judgement.verdict != VERDICT_ACCEPT) {
        g_autofree char *reason = judgement_describe_violation(&judgement, 0);

        fail_msg("entropy %u: %s", number, reason);
    }
}

static void test_generated_is_accepted(void **state)
{
    static const uint64_t maxima[] = { SMALL_BLOCKS, LARGE_BLOCKS, 65536, 3 * SMALL_BLOCKS };
    g_autoptr(Snapshot) s = snapshot_new();
    g_autoptr(SparseFile) file = sparse_file_new();
    Seen seen = { .shared = 0 };

    (void)state;
    for (unsigned number = 0; number < N_ENTROPIES; number++) {
        uint8_t entropy[ENTROPY_LENGTH];
        Choices choices = choices_init(entropy, sizeof(entropy));
        uint64_t max_bytes = maxima[number % G_N_ELEMENTS(maxima)];
        Guest guest;

        entropy_fill(number, entropy, sizeof(entropy));
        snapshot_generate(&choices, max_bytes, s, &guest);
        snapshot_encode(s, file);
        assert_guest_is_sound(&guest, max_bytes);
        assert_accepted(file, &guest, number);
        look_at(&seen, &guest, s);
    }
    for (unsigned i = 1; i <= SNAPSHOT_MAX_GENERATED_BLOCKS; i++) {
        assert_true(seen.blocks[i] > 0);
    }
    for (unsigned i = 10; i <= 16; i++) {
        assert_true(seen.page_sizes[i] > 0);
    }
    for (unsigned i = 0; i < CONTENT__MAX; i++) {
        assert_true(seen.contents[i] > 0);
    }
    assert_true(seen.shared && seen.ignored && seen.known_machine && seen.clear_pages);
    assert_true(seen.huge && seen.large && seen.resizable && seen.beyond && seen.long_name);
}

/* A changed byte of one block's plan leaves the other blocks alone. */
static void test_locality(void **state)
{
    g_autoptr(Snapshot) s = snapshot_new();
    uint8_t entropy[ENTROPY_LENGTH] = { 1 };
    Choices choices = choices_init(entropy, sizeof(entropy));
    Guest before;
    Guest after;

    (void)state;
    snapshot_generate(&choices, SMALL_BLOCKS, s, &before);
    assert_int_equal(before.n_blocks, 2);
    entropy[12] = 9; /* the first block's number of pages */
    choices = choices_init(entropy, sizeof(entropy));
    snapshot_generate(&choices, SMALL_BLOCKS, s, &after);
    assert_int_equal(after.blocks[0].used_length, 10 * 4096);
    assert_memory_equal(&before.blocks[1].used_length, &after.blocks[1].used_length, 8);
    assert_string_equal(before.blocks[1].idstr, after.blocks[1].idstr);
}

static unsigned count_mutations(void)
{
    unsigned count = 0;

    while (snapshot_mutation_name(count)) {
        count++;
    }
    return count;
}

typedef struct MutationCounts {
    unsigned tried;
    unsigned applied;
    unsigned without_effect;
} MutationCounts;

static void mutate_once(unsigned number, unsigned mutation, MutationCounts *counts, Snapshot *s,
                        SparseFile *before, SparseFile *after)
{
    uint8_t entropy[ENTROPY_LENGTH];
    Choices choices = choices_init(entropy, sizeof(entropy));
    Guest guest;
    g_autoptr(GString) log = g_string_new(NULL);

    entropy_fill(number, entropy, sizeof(entropy));
    snapshot_generate(&choices, SMALL_BLOCKS, s, &guest);
    snapshot_encode(s, before);
    entropy_fill(number * 7919 + 1, entropy, sizeof(entropy));
    choices = choices_init(entropy, sizeof(entropy));
    counts->tried++;
    if (!snapshot_apply_mutation(mutation, &choices, s, &guest, log)) {
        assert_int_equal(log->len, 0);
        return;
    }
    assert_true(g_str_has_prefix(log->str, snapshot_mutation_name(mutation)));
    assert_int_equal(log->str[log->len - 1], '\n');
    counts->applied++;
    snapshot_encode(s, after);
    counts->without_effect += same_file(before, after);
}

/* Most find something to do, and what they do shows in the file. */
static void test_each_mutation(void **state)
{
    g_autoptr(Snapshot) s = snapshot_new();
    g_autoptr(SparseFile) before = sparse_file_new();
    g_autoptr(SparseFile) after = sparse_file_new();

    (void)state;
    for (unsigned mutation = 0; mutation < count_mutations(); mutation++) {
        MutationCounts counts = { 0, 0, 0 };

        for (unsigned number = 0; number < 150; number++) {
            mutate_once(number, mutation, &counts, s, before, after);
        }
        if (counts.applied * 2 < counts.tried || counts.without_effect * 3 > counts.applied) {
            fail_msg("%s: %u tried, %u applied, %u without effect",
                     snapshot_mutation_name(mutation), counts.tried, counts.applied,
                     counts.without_effect);
        }
    }
}

/* The same choices of the same version: what they mean never changes, as inputs are kept. */
static void test_versions_of_mutations(void **state)
{
    static const uint8_t pick[] = { SNAPSHOT_FIRST_RELATION, 0, 4 };
    static const char *const names[] = { "field:", "split-block:", "split-block:" };
    g_autoptr(Snapshot) s = snapshot_new();

    (void)state;
    assert_null(snapshot_mutation_name(SNAPSHOT_N_MUTATIONS));
    for (unsigned version = 0; version < G_N_ELEMENTS(names); version++) {
        uint8_t entropy[ENTROPY_LENGTH] = { 0 };
        Choices generator = choices_init(entropy, sizeof(entropy));
        Choices choices = choices_init(pick, sizeof(pick));
        g_autoptr(GString) log = g_string_new(NULL);
        Guest guest;

        snapshot_generate(&generator, SMALL_BLOCKS, s, &guest);
        assert_int_equal(snapshot_mutate(&choices, version, 1, s, &guest, log), 1);
        assert_true(g_str_has_prefix(log->str, names[version]));
    }
}

typedef struct Shapes {
    unsigned halves;   /* two records of one block, no whole pages, and total is right */
    unsigned wraps;    /* a number of pages that is negative, but for its sign */
    unsigned loops;    /* pages that end at a record that was read */
    unsigned backward; /* a sum that passes 2^64 */
} Shapes;

static void count_shapes(const Snapshot *s, Shapes *shapes)
{
    uint64_t total = 0;
    bool halves = false;

    for (unsigned i = 0; i < s->blocks->len; i++) {
        const SnapshotBlock *block = snapshot_block(s, i);
        uint64_t end = block->pages_offset + block->used_length;

        total += block->used_length;
        halves |= block->used_length % s->page_size != 0 && block->used_length < INT64_MAX;
        shapes->wraps += block->page_size != 0 && block->used_length / block->page_size > INT64_MAX;
        shapes->backward += end < block->used_length;
        for (unsigned k = 0; k <= i; k++) {
            shapes->loops += end == snapshot_block(s, k)->record_at;
        }
    }
    shapes->halves += halves && s->total == (total | SNAPSHOT_MEM_SIZE);
}

/* What chance hardly ever brings together. */
static void test_relations(void **state)
{
    g_autoptr(Snapshot) s = snapshot_new();
    Shapes shapes = { 0, 0, 0, 0 };

    (void)state;
    for (unsigned number = 0; number < 3000; number++) {
        uint8_t entropy[ENTROPY_LENGTH];
        Choices choices = choices_init(entropy, sizeof(entropy));
        unsigned n = SNAPSHOT_N_MUTATIONS - SNAPSHOT_FIRST_RELATION;
        Guest guest;

        entropy_fill(number, entropy, sizeof(entropy));
        snapshot_generate(&choices, SMALL_BLOCKS, s, &guest);
        entropy_fill(~(uint64_t)number, entropy, sizeof(entropy));
        choices = choices_init(entropy, sizeof(entropy));
        snapshot_apply_mutation(SNAPSHOT_FIRST_RELATION + number % n, &choices, s, &guest, NULL);
        count_shapes(s, &shapes);
    }
    assert_in_range(shapes.halves, 50, 1000);
    assert_in_range(shapes.wraps, 10, 1000);
    assert_in_range(shapes.loops, 50, 1000);
    assert_in_range(shapes.backward, 50, 1000);
}

/* Nothing to work on is no reason to crash. */
static void test_mutations_of_nothing(void **state)
{
    g_autoptr(Snapshot) s = snapshot_new();
    g_autoptr(SparseFile) file = sparse_file_new();

    (void)state;
    for (unsigned mutation = 0; mutation < count_mutations(); mutation++) {
        for (unsigned number = 0; number < 100; number++) {
            uint8_t entropy[32];
            Choices choices = choices_init(entropy, sizeof(entropy));
            Guest guest = { .target_page_size = 4096 };

            entropy_fill(number, entropy, sizeof(entropy));
            snapshot_reset(s);
            g_array_set_size(s->capabilities, 0);
            g_array_set_size(s->subsections, 0);
            snapshot_set_machine(s, NULL, 0);
            if (number % 2 == 0) {
                snapshot_add_block(s, "", 0);
            }
            snapshot_apply_mutation(mutation, &choices, s, &guest, NULL);
            snapshot_encode(s, file);
        }
    }
}

/* Again and again on the same description: its size stays bounded. */
static void test_many_mutations(void **state)
{
    g_autoptr(Snapshot) s = snapshot_new();
    g_autoptr(SparseFile) file = sparse_file_new();
    g_autofree uint8_t *entropy = g_malloc(20000);
    Choices choices = choices_init(entropy, 20000);
    Guest guest;

    (void)state;
    for (unsigned mutation = 0; mutation < count_mutations(); mutation++) {
        entropy_fill(mutation, entropy, 20000);
        choices = choices_init(entropy, 20000);
        snapshot_generate(&choices, SMALL_BLOCKS, s, &guest);
        for (unsigned i = 0; i < 300; i++) {
            snapshot_apply_mutation(mutation, &choices, s, &guest, NULL);
        }
        snapshot_encode(s, file);
        assert_true(s->blocks->len <= 2 * SNAPSHOT_MAX_GENERATED_BLOCKS);
        assert_true(s->subsections->len <= 40 && s->capabilities->len <= 40);
        assert_true(s->pokes->len <= 40);
    }
    entropy_fill(3, entropy, 20000);
    choices = choices_init(entropy, 20000);
    snapshot_generate(&choices, SMALL_BLOCKS, s, &guest);
    assert_int_equal(snapshot_mutate(&choices, SNAPSHOT_MUTATIONS_NEWEST, 5, s, &guest, NULL), 5);
    assert_true(snapshot_mutate(&choices, SNAPSHOT_MUTATIONS_NEWEST, UINT32_MAX, s, &guest, NULL) >
                1000);
    assert_true(choices_exhausted(&choices));
}

static void count_rules(const Judgement *judgement, unsigned *broken)
{
    for (unsigned i = 0; i < judgement->n_violations; i++) {
        broken[judgement->violations[i].rule]++;
    }
}

/* All verdicts occur, and each rule that a file can break is broken. */
static void test_mutants_break_every_rule(void **state)
{
    g_autoptr(Snapshot) s = snapshot_new();
    g_autoptr(SparseFile) file = sparse_file_new();
    g_autoptr(GString) missing = g_string_new(NULL);
    unsigned verdicts[3] = { 0, 0, 0 };
    unsigned broken[RULE__MAX] = { 0 };

    (void)state;
    for (unsigned number = 0; number < N_ENTROPIES; number++) {
        uint8_t entropy[ENTROPY_LENGTH];
        Choices choices = choices_init(entropy, sizeof(entropy));
        Judgement judgement;
        Guest guest;

        entropy_fill(number, entropy, sizeof(entropy));
        snapshot_generate(&choices, SMALL_BLOCKS, s, &guest);
        entropy_fill(~(uint64_t)number, entropy, sizeof(entropy));
        choices = choices_init(entropy, sizeof(entropy));
        snapshot_mutate(&choices, SNAPSHOT_MUTATIONS_NEWEST, 1 + number % 3, s, &guest, NULL);
        snapshot_encode(s, file);
        judge_file(file, &guest, &judgement);
        verdicts[judgement.verdict]++;
        count_rules(&judgement, broken);
    }
    assert_true(verdicts[VERDICT_ACCEPT] > N_ENTROPIES / 50);
    assert_true(verdicts[VERDICT_MAY] > N_ENTROPIES / 50);
    assert_true(verdicts[VERDICT_REJECT] > N_ENTROPIES / 10);
    for (unsigned rule = 0; rule < RULE__MAX; rule++) {
        if (rule_get(rule)->consequence >= RULE_MAY && broken[rule] == 0) {
            g_string_append_printf(missing, " %s", rule_get(rule)->id);
        }
    }
    assert_string_equal(missing->str, "");
}

/* Whatever was generated is right for the guest that it was made to fit. */
static void test_fit(void **state)
{
    static const Guest guests[] = {
        { .target_page_size = 4096,
          .machine = "none",
          .n_blocks = 1,
          .blocks = { { "ram", 0x40000, 0x40000, 4096 } } },
        { .target_page_size = 4096,
          .x_ignore_shared = true,
          .machine = "pc",
          .n_blocks = 3,
          .blocks = { { "pc.ram", 0x100000, 0x100000, 4096 },
                      { "pc.bios", 0x1000, 0x1000, 4096 },
                      { "acpi/tables", 0x2000, 0x10000, 4096 } } },
        { .target_page_size = 16384,
          .machine = "none",
          .n_blocks = 1,
          .blocks = { { "ram", 0x10000, 0x10000, 4096 } } },
    };
    g_autoptr(Snapshot) s = snapshot_new();
    g_autoptr(SparseFile) file = sparse_file_new();

    (void)state;
    for (unsigned number = 0; number < N_ENTROPIES / 4; number++) {
        const Guest *guest = &guests[number % G_N_ELEMENTS(guests)];
        uint8_t entropy[ENTROPY_LENGTH];
        Choices choices = choices_init(entropy, sizeof(entropy));
        Guest other;

        entropy_fill(number, entropy, sizeof(entropy));
        snapshot_generate(&choices, SMALL_BLOCKS, s, &other);
        snapshot_fit(s, guest);
        snapshot_encode(s, file);
        assert_int_equal(s->blocks->len, guest->n_blocks);
        assert_accepted(file, guest, number);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_qemu_bytes),
        cmocka_unit_test(test_shared_blocks),
        cmocka_unit_test(test_append_section),
        cmocka_unit_test(test_lengths_beyond_a_buffer),
        cmocka_unit_test(test_many_small_fields),
        cmocka_unit_test(test_bitmaps),
        cmocka_unit_test(test_bits_beyond),
        cmocka_unit_test(test_large_block_is_small),
        cmocka_unit_test(test_overlaps),
        cmocka_unit_test(test_far_offsets),
        cmocka_unit_test(test_copy),
        cmocka_unit_test(test_alloc),
        cmocka_unit_test(test_zero_entropy),
        cmocka_unit_test(test_high_entropy),
        cmocka_unit_test(test_generated_is_accepted),
        cmocka_unit_test(test_fit),
        cmocka_unit_test(test_locality),
        cmocka_unit_test(test_each_mutation),
        cmocka_unit_test(test_versions_of_mutations),
        cmocka_unit_test(test_relations),
        cmocka_unit_test(test_mutations_of_nothing),
        cmocka_unit_test(test_many_mutations),
        cmocka_unit_test(test_mutants_break_every_rule),
    };

    return pagewise_run("snapshot", tests);
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * model/snapshot-decode.c: whatever the judge can walk is described, and the
 * description makes the same bytes; what cannot be described is said clearly.
 */
#include "model/judge.h"
#include "unit/snapshot-support.h"
#include "unit/support.h"

#include <string.h>

/* A snapshot file of one block, and the guest that it is for. */
typedef struct Fixture {
    Snapshot *snapshot;
    SnapshotBlock *block;
    SparseFile *file;
    Guest guest;
} Fixture;

static int setup(void **state)
{
    Fixture *f = g_new0(Fixture, 1);

    f->snapshot = snapshot_new();
    f->file = sparse_file_new();
    f->block = snapshot_add_block(f->snapshot, "ram", 0x10000);
    snapshot_append_tail(f->snapshot->tail, f->snapshot->section_id);
    snapshot_layout(f->snapshot, SNAPSHOT_PAGES_ALIGNMENT);
    f->guest = (Guest){ .target_page_size = 4096, .n_blocks = 1 };
    f->guest.blocks[0] = (GuestBlock){ "ram", 0x10000, 0x20000, 4096 };
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    Fixture *f = *state;

    snapshot_free(f->snapshot);
    sparse_file_free(f->file);
    g_free(f);
    return 0;
}

/* The text of what f->file is decoded to; checks that it makes the same bytes. */
static char *decode(Fixture *f)
{
    g_autoptr(Snapshot) decoded = snapshot_new();
    g_autoptr(SparseFile) again = sparse_file_new();
    g_autoptr(GError) error = NULL;
    char *text;

    if (!snapshot_decode(f->file, &f->guest, decoded, &error)) {
        fail_msg("%s", error->message);
    }
    snapshot_encode(decoded, again);
    text = snapshot_to_text(decoded);
    if (!same_file(f->file, again)) {
        fail_msg("other bytes:\n%s", text);
    }
    return text;
}

static void assert_decodes(Fixture *f, const char *expected)
{
    g_autofree char *text = decode(f);

    assert_string_equal(text, expected);
}

static void assert_refused(Fixture *f, SnapshotErrorCode code, const char *expected)
{
    g_autoptr(Snapshot) decoded = snapshot_new();
    g_autoptr(GError) error = NULL;

    assert_false(snapshot_decode(f->file, &f->guest, decoded, &error));
    assert_int_equal(error->domain, SNAPSHOT_ERROR);
    assert_int_equal(error->code, code);
    if (!strstr(error->message, expected)) {
        fail_msg("'%s' is not in '%s'", expected, error->message);
    }
}

static void add_run(Fixture *f, uint64_t first, uint64_t count, PageContent content, uint32_t seed)
{
    snapshot_block_add_run(f->block,
                           (PageRun){
                               .first = first, .count = count, .content = content, .seed = seed });
}

/* All contents come back as they were, also literal bytes less their zeroes. */
static void test_contents(void **state)
{
    Fixture *f = *state;
    PageRun data = { .first = 9,
                     .count = 1,
                     .content = CONTENT_DATA,
                     .data_length = 4,
                     .data = (const uint8_t *)"\1\2\3\0" };

    add_run(f, 0, 3, CONTENT_PATTERN, 5);
    add_run(f, 3, 1, CONTENT_FILL, 0xab);
    add_run(f, 4, 2, CONTENT_STALE, 6);
    add_run(f, 7, 1, CONTENT_ABSENT, 0);
    snapshot_block_add_run(f->block, data);
    data.first = 11;
    data.content = CONTENT_STALE_DATA;
    snapshot_block_add_run(f->block, data);
    add_run(f, 16, 1, CONTENT_ABSENT, 0);
    snapshot_encode(f->snapshot, f->file);
    assert_decodes(f, "[snapshot]\n\n[block 0]\nidstr = ram\nused_length = 0x10000\n"
                      "pages = 0-2 pattern 5; 3 fill 0xab; 4-5 stale 6; 7 absent; 9 data AQID; "
                      "11 stale-data AQID; 16 absent\n");
}

/* A file that is all literal bytes, as one from disk is. */
static void test_literal_file(void **state)
{
    Fixture *f = *state;
    g_autofree uint8_t *bytes = NULL;
    g_autofree char *text = NULL;
    size_t size;

    add_run(f, 0, 3, CONTENT_PATTERN, 5);
    add_run(f, 4, 2, CONTENT_STALE, 6);
    snapshot_layout(f->snapshot, 4096);
    snapshot_encode(f->snapshot, f->file);
    size = sparse_file_size(f->file);
    bytes = g_malloc(size);
    assert_int_equal(sparse_file_read(f->file, 0, bytes, size), size);
    sparse_file_reset(f->file);
    sparse_file_write(f->file, 0, bytes, size);
    text = decode(f);
    assert_non_null(strstr(text, "pages_alignment = 0x1000"));
    assert_non_null(strstr(text, "pages = 0-2 data "));
}

/* Nothing of what surrounds the fields is lost. */
static void test_leftovers(void **state)
{
    Fixture *f = *state;

    sparse_file_reset(f->file);
    snapshot_encode(f->snapshot, f->file);
    sparse_file_pattern(f->file, 0x2000, 0x50000, 9);
    sparse_file_write(f->file, 0x60001, "x", 1);
    sparse_file_fill(f->file, 0x70000, 0x1800, 0xcc);
    sparse_file_write(f->file, 0x71800, "after", 5);
    sparse_file_fill(f->file, 0x100000, 0x10000, 0xcc); /* clear pages */
    sparse_file_truncate(f->file, UINT64_C(1) << 40);
    sparse_file_write(f->file, UINT64_C(1) << 39, "far", 3);
    g_free(decode(f));
}

/* A page that begins or ends within an extent. */
static void test_page_edges(void **state)
{
    Fixture *f = *state;

    add_run(f, 0, 8, CONTENT_ABSENT, 0);
    snapshot_encode(f->snapshot, f->file);
    sparse_file_pattern(f->file, 0x100800, 0x2800, 1);
    sparse_file_fill(f->file, 0x104000, 0x2fff, 2);
    sparse_file_pattern(f->file, 0x108801, 0x17ff, 3);
    g_free(decode(f));
}

/* Bitmaps of any words, one of them stored as a fill. */
static void test_bitmaps(void **state)
{
    Fixture *f = *state;

    f->block->used_length = UINT64_C(0x100000) * 4096;
    f->guest.blocks[0].used_length = f->block->used_length;
    f->guest.blocks[0].max_length = f->block->used_length;
    snapshot_layout(f->snapshot, SNAPSHOT_PAGES_ALIGNMENT);
    snapshot_encode(f->snapshot, f->file);
    sparse_file_fill(f->file, f->block->bitmap_at + 800, 9000, 0xff);
    sparse_file_fill(f->file, f->block->bitmap_at + 9800, 600, 0x5a);
    sparse_file_write(f->file, f->block->bitmap_at + 0x1ffff, "\x80", 1);
    g_free(decode(f));
}

static void test_shared(void **state)
{
    Fixture *f = *state;

    f->guest.x_ignore_shared = true;
    snapshot_add_capability(f->snapshot, "x-ignore-shared");
    f->block->has_gpa = true;
    f->block->gpa = 0x1000;
    f->block->ignored = true;
    snapshot_layout(f->snapshot, SNAPSHOT_PAGES_ALIGNMENT);
    snapshot_encode(f->snapshot, f->file);
    assert_decodes(f, "[snapshot]\ncapabilities = mapped-ram x-ignore-shared\n\n"
                      "[block 0]\nidstr = ram\nused_length = 0x10000\ngpa = 0x1000\n"
                      "ignored = 1\n");
    f->block->ignored = false;
    snapshot_layout(f->snapshot, SNAPSHOT_PAGES_ALIGNMENT);
    f->block->bitmap_offset = 0; /* over the file's header: rule B4 */
    snapshot_encode(f->snapshot, f->file);
    g_free(decode(f));
}

static void test_second_capabilities(void **state)
{
    Fixture *f = *state;

    snapshot_add_subsection(f->snapshot, "configuration/capabilities", NULL, 0);
    snapshot_layout(f->snapshot, SNAPSHOT_PAGES_ALIGNMENT);
    snapshot_encode(f->snapshot, f->file);
    assert_decodes(f, "[snapshot]\nsubsections = configuration/capabilities 1 list; "
                      "configuration/capabilities 1 hex 000000010a6d61707065642d72616d\n\n"
                      "[block 0]\nidstr = ram\nused_length = 0x10000\n");
}

/* Rule R1a: no word but one, which is EOS. */
static void test_no_ram(void **state)
{
    Fixture *f = *state;

    g_ptr_array_set_size(f->snapshot->blocks, 0);
    f->snapshot->total = SNAPSHOT_EOS;
    f->snapshot->tail_at = snapshot_total_at(f->snapshot);
    snapshot_encode(f->snapshot, f->file);
    assert_decodes(f, "[snapshot]\ntotal = 0x10\ntail_at = 0x51\n");
}

static void test_rejected(void **state)
{
    Fixture *f = *state;

    snapshot_add_capability(f->snapshot, "multifd"); /* C8: may */
    f->block->version = 0;                           /* H1a: may */
    f->block->page_size = 8192;                      /* H2 */
    snapshot_layout(f->snapshot, SNAPSHOT_PAGES_ALIGNMENT);
    snapshot_encode(f->snapshot, f->file);
    assert_refused(f, SNAPSHOT_ERROR_REJECTED, "rule H2");
}

static void test_unspecified(void **state)
{
    Fixture *f = *state;

    f->snapshot->section_name_length = 2;
    snapshot_layout(f->snapshot, SNAPSHOT_PAGES_ALIGNMENT);
    snapshot_encode(f->snapshot, f->file);
    assert_refused(f, SNAPSHOT_ERROR_UNSPECIFIED, "rule S2");
}

#define TOO_MUCH (UINT64_C(0x10000000) + 0x1000)

/* Stale bytes of one value would have to be held literally. */
static void test_too_many_pages(void **state)
{
    Fixture *f = *state;

    f->block->used_length = TOO_MUCH;
    f->guest.blocks[0].used_length = TOO_MUCH;
    f->guest.blocks[0].max_length = TOO_MUCH;
    snapshot_layout(f->snapshot, SNAPSHOT_PAGES_ALIGNMENT);
    snapshot_encode(f->snapshot, f->file);
    sparse_file_fill(f->file, f->block->pages_at, TOO_MUCH, 1);
    assert_refused(f, SNAPSHOT_ERROR_TOO_LARGE, "page at file offset");
}

/* The file continues behind a name of 256 MiB of holes. */
static void test_too_long_machine(void **state)
{
    Fixture *f = *state;
    g_autoptr(SparseFile) usual = sparse_file_new();
    uint8_t bytes[128];
    size_t length;

    g_ptr_array_set_size(f->snapshot->blocks, 0);
    snapshot_layout(f->snapshot, SNAPSHOT_PAGES_ALIGNMENT);
    f->snapshot->machine_length = TOO_MUCH;
    snapshot_encode(f->snapshot, usual);
    length = sparse_file_read(usual, 0, bytes, sizeof(bytes));
    sparse_file_write(f->file, 0, bytes, 17);
    sparse_file_write(f->file, 13 + TOO_MUCH, bytes + 17, length - 17);
    assert_refused(f, SNAPSHOT_ERROR_TOO_LARGE, "machine name at file offset 0xd");
}

static void test_too_long_tail(void **state)
{
    Fixture *f = *state;

    snapshot_encode(f->snapshot, f->file);
    sparse_file_fill(f->file, sparse_file_size(f->file), 17 << 20, 1);
    assert_refused(f, SNAPSHOT_ERROR_TOO_LARGE, "a description holds up to");
}

/* Generated and mutated files that are not refused. */
static void test_round_trip(void **state)
{
    Fixture *f = *state;
    unsigned decoded[3] = { 0, 0, 0 };

    for (unsigned number = 0; number < N_ENTROPIES / 2; number++) {
        uint8_t entropy[ENTROPY_LENGTH];
        Choices choices = choices_init(entropy, sizeof(entropy));
        Judgement judgement;

        entropy_fill(number, entropy, sizeof(entropy));
        snapshot_generate(&choices, number % 2 ? SMALL_BLOCKS : LARGE_BLOCKS, f->snapshot,
                          &f->guest);
        snapshot_mutate(&choices, SNAPSHOT_MUTATIONS_NEWEST, number % 3, f->snapshot, &f->guest,
                        NULL);
        snapshot_encode(f->snapshot, f->file);
        judge_file(f->file, &f->guest, &judgement);
        if (judgement.verdict != VERDICT_REJECT && !judgement.ram_unspecified) {
            g_free(decode(f));
            decoded[judgement.verdict]++;
        }
    }
    assert_true(decoded[VERDICT_ACCEPT] > 1000);
    assert_true(decoded[VERDICT_MAY] > 500);
}

#define FIXTURE_TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        FIXTURE_TEST(test_contents),
        FIXTURE_TEST(test_literal_file),
        FIXTURE_TEST(test_leftovers),
        FIXTURE_TEST(test_page_edges),
        FIXTURE_TEST(test_bitmaps),
        FIXTURE_TEST(test_shared),
        FIXTURE_TEST(test_second_capabilities),
        FIXTURE_TEST(test_no_ram),
        FIXTURE_TEST(test_rejected),
        FIXTURE_TEST(test_unspecified),
        FIXTURE_TEST(test_too_many_pages),
        FIXTURE_TEST(test_too_long_machine),
        FIXTURE_TEST(test_too_long_tail),
        FIXTURE_TEST(test_round_trip),
    };

    return pagewise_run("snapshot-decode", tests);
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * model/snapshot-text.c: what may be left out, every key with a wrong value,
 * every message, and that any description survives being written and read.
 */
#include "model/judge.h"
#include "unit/snapshot-support.h"
#include "unit/support.h"

#include <string.h>

/* The text's snapshot, encoded. */
static void make(const char *text, Snapshot *s, SparseFile *file)
{
    g_autoptr(GError) error = NULL;

    if (!snapshot_from_text(text, s, &error)) {
        fail_msg("%s", error->message);
    }
    snapshot_encode(s, file);
}

static void assert_same_bytes(const char *text, const char *longer_text)
{
    g_autoptr(Snapshot) s = snapshot_new();
    g_autoptr(SparseFile) file = sparse_file_new();
    g_autoptr(SparseFile) other = sparse_file_new();

    make(text, s, file);
    make(longer_text, s, other);
    assert_true(same_file(file, other));
}

static void test_defaults(void **state)
{
    (void)state;
    assert_same_bytes("[block 0]\nidstr=ram\nused_length=1M\npages=0-3\n",
                      "# everything that the one above leaves out\n"
                      "[snapshot]\n"
                      "page_size = 4K\n"
                      "pages_alignment = 1M\n"
                      "magic = 0x5145564d\n"
                      "stream_version = 3\n"
                      "configuration_type = 7\n"
                      "machine = none\n"
                      "machine_length = 4\n"
                      "capabilities = mapped-ram\n"
                      "capability_count = 1\n"
                      "subsections = configuration/capabilities 1 list\n"
                      "section_type = 1\n"
                      "section_id = 2\n"
                      "section_name = ram\n"
                      "instance_id = 0\n"
                      "section_version = 4\n"
                      "total = 0x100004\n"
                      "tail_at = 2M\n"
                      "eos = 0x10\n"
                      "footer_type = 0x7e\n"
                      "footer_id = 2\n"
                      "tail = command 11; end; eof\n"
                      "[block 0]\n"
                      "idstr = ram\n"
                      "used_length = 0x100000\n"
                      "ignored = 0\n"
                      "version = 1\n"
                      "page_size = 4096\n"
                      "bitmap_offset = 0x81\n"
                      "pages_offset = 1048576\n"
                      "record_at = 0x59\n"
                      "bitmap_at = 0x81\n"
                      "bitmap_pages = 256\n"
                      "pages_at = 1m\n"
                      "pages = 0+4 pattern 1\n");
    assert_same_bytes("", "[snapshot]\n");
}

static void assert_written(const char *text, const char *expected)
{
    g_autoptr(Snapshot) s = snapshot_new();
    g_autoptr(SparseFile) file = sparse_file_new();
    g_autofree char *written = NULL;

    make(text, s, file);
    written = snapshot_to_text(s);
    assert_string_equal(written, expected);
}

static void test_what_is_written(void **state)
{
    (void)state;
    assert_written("", "[snapshot]\n");
    assert_written("[block 0]\nidstr=ram\nused_length=1M\npages=0-3;7",
                   "[snapshot]\n\n[block 0]\nidstr = ram\nused_length = 0x100000\n"
                   "pages = 0-3 pattern 1; 7 pattern 1\n");
    assert_written("[snapshot]\nsection_id=7\ntail=default\n", "[snapshot]\nsection_id = 7\n");
    assert_written("[snapshot]\nfooter_id=2\nsection_id=9\nfile_size=0\ntail=\n"
                   "capabilities=\nsubsections=\nmachine=\"\"\nsection_name=a\\x00b",
                   "[snapshot]\nmachine = \"\"\ncapabilities =\nsubsections =\n"
                   "section_name = a\\x00b\nsection_id = 9\nfooter_id = 2\ntail =\n"
                   "file_size = 0\n");
    assert_written("[block 0]\nidstr=a\\x5cb c\nused_length=4K\ngpa=0\nignored=1\n",
                   "[snapshot]\n\n[block 0]\nidstr = a\\x5cb\\x20c\nused_length = 0x1000\n"
                   "gpa = 0\nignored = 1\n");
}

static void test_items(void **state)
{
    (void)state;
    assert_written(
        "[snapshot]\n"
        "capabilities = \"\" x-ignore-shared \\x00\n"
        "subsections = configuration/uuid 2 hex 0A; \"\" 1 hex ; other 0 list;\n"
        "tail = part; base64 AQID; command 258 ff; full timer 1 2; start r 0 4; hex 00\n"
        "pokes = 0x10 hex 0102; 8K fill 0xab 1K; 9 pattern 77 0x20; 1 base64 AQ==\n"
        "[block 0]\nidstr = b\nused_length = 0x20001\n"
        "pages = 5 fill 0xab; 6 data AQID; 9 absent; 10 stale 3; 11+0; 12-13 data; "
        "14 stale-data Ag==; 18446744073709551615+9; 20 pattern\n",
        "[snapshot]\n"
        "capabilities = \"\" x-ignore-shared \\x00\n"
        "subsections = configuration/uuid 2 hex 0a; \"\" 1 hex ; other 0 list\n"
        "tail = hex 020000000200000000000000107e000000020102030801020001ff0400000003"
        "0574696d6572000000010000000201000000030172000000000000000400\n"
        "pokes = 0x10 hex 0102; 0x2000 fill 0xab 0x400; 0x9 pattern 77 0x20; 0x1 hex 01\n"
        "\n[block 0]\nidstr = b\nused_length = 0x20001\n"
        "pages = 5 fill 0xab; 6 data AQID; 9 absent; 10 stale 3; 11+0 pattern 1; "
        "12-13 data ; 14 stale-data Ag==; 18446744073709551615+9 pattern 1; "
        "20 pattern 1\n");
}

static void test_long_bytes(void **state)
{
    g_autofree char *hex = g_strnfill(2 * 65, 'a');
    g_autofree char *text = g_strdup_printf("[snapshot]\ntail=hex %s\npokes=0 hex %s\n", hex, hex);
    g_autofree char *base64 = g_strnfill(84, 'q');
    g_autofree char *expected =
        g_strdup_printf("[snapshot]\ntail = base64 %sqqo=\npokes = 0x0 base64 %sqqo=\n", base64,
                        base64);

    (void)state;
    assert_written(text, expected);
}

/* Text, what the message names, what it expects. */
static const char *const refused[][3] = {
    { "nonsense", "nonsense", "" },
    { "[other]\n", "[other]", "[block 0] would be next" },
    { "[block 1]\n", "[block 1]", "[block 0] would be next" },
    { "[snapshot]\nmagik=1\n", "[snapshot] magik = 1", "no such key" },
    { "[snapshot]\nused_length=1\n", "[snapshot] used_length = 1", "no such key" },
    { "[block 0]\nmachine=1\n", "[block 0] machine = 1", "no such key" },
    { "[snapshot]\nmagic=x\n", "[snapshot] magic = x", "0 to 0xffffffff" },
    { "[snapshot]\nmagic=-1\n", "[snapshot] magic = -1", "a number" },
    { "[snapshot]\nmagic=0x\n", "[snapshot] magic = 0x", "a number" },
    { "[snapshot]\nmagic=4G\n", "[snapshot] magic = 4G", "0 to 0xffffffff" },
    { "[snapshot]\nfooter_type=256\n", "footer_type = 256", "0 to 0xff " },
    { "[snapshot]\neos=18446744073709551616\n", "eos = 1844674", "0xffffffffffffffff" },
    { "[snapshot]\neos=1Kx\n", "eos = 1Kx", "a number" },
    { "[snapshot]\neos=1z\n", "eos = 1z", "a number" },
    { "[snapshot]\npage_size=0\n", "page_size = 0", "cannot be 0" },
    { "[snapshot]\npages_alignment=0\n", "pages_alignment = 0", "cannot be 0" },
    { "[snapshot]\nmachine=a\\\n", "machine = a\\", "\\xHH" },
    { "[snapshot]\nmachine=\\xg0\n", "machine = \\xg0", "\\xHH" },
    { "[snapshot]\nmachine=\\x0\n", "machine = \\x0", "\\xHH" },
    { "[snapshot]\nsection_name=\\y00\n", "section_name = \\y00", "255 bytes" },
    { "[snapshot]\ncapabilities=a \\\n", "capabilities = a \\", "'\\'" },
    { "[snapshot]\nsubsections=a\n", "subsections = a", "NAME VERSION" },
    { "[snapshot]\nsubsections=a 1 2 3 4\n", "subsections = a", "NAME VERSION" },
    { "[snapshot]\nsubsections=\\ 1 list\n", "subsections = \\", "NAME VERSION" },
    { "[snapshot]\nsubsections=a x list\n", "subsections = a", "NAME VERSION" },
    { "[snapshot]\nsubsections=a 1 hex 0\n", "subsections = a", "NAME VERSION" },
    { "[snapshot]\nsubsections=a 1 base64\n", "subsections = a", "NAME VERSION" },
    { "[snapshot]\nsubsections=a 1 list 00\n", "subsections = a", "NAME VERSION" },
    { "[snapshot]\ntail=begin\n", "tail = begin", "'begin' is none of 'default'" },
    { "[snapshot]\ntail=end 1\n", "tail = end 1", "none of" },
    { "[snapshot]\ntail=hex\n", "tail = hex", "none of" },
    { "[snapshot]\ntail=hex 0g\n", "tail = hex 0g", "none of" },
    { "[snapshot]\ntail=base64\n", "tail = base64", "none of" },
    { "[snapshot]\ntail=base64 A!\n", "tail = base64", "none of" },
    { "[snapshot]\ntail=command\n", "tail = command", "none of" },
    { "[snapshot]\ntail=command 1 00 0\n", "tail = command", "none of" },
    { "[snapshot]\ntail=command 65536\n", "tail = command", "none of" },
    { "[snapshot]\ntail=command 1 0\n", "tail = command", "none of" },
    { "[snapshot]\ntail=full\n", "tail = full", "none of" },
    { "[snapshot]\ntail=start \\ 1 1\n", "tail = start", "none of" },
    { "[snapshot]\ntail=full a x 1\n", "tail = full", "none of" },
    { "[snapshot]\ntail=full a 1 x\n", "tail = full", "none of" },
    { "[snapshot]\npokes=1\n", "pokes = 1", "OFFSET hex BYTES" },
    { "[snapshot]\npokes=x hex 00\n", "pokes = x", "OFFSET" },
    { "[snapshot]\npokes=1 hex 0\n", "pokes = 1", "OFFSET" },
    { "[snapshot]\npokes=1 base64 0\n", "pokes = 1", "OFFSET" },
    { "[snapshot]\npokes=1 hax 00\n", "pokes = 1", "OFFSET" },
    { "[snapshot]\npokes=1 fill 1 2 3\n", "pokes = 1", "OFFSET" },
    { "[snapshot]\npokes=1 full 1 2\n", "pokes = 1", "OFFSET" },
    { "[snapshot]\npokes=1 fill 256 2\n", "pokes = 1", "OFFSET" },
    { "[snapshot]\npokes=1 pattern 1 x\n", "pokes = 1", "OFFSET" },
    { "[block 0]\nidstr=\\xzz\n", "[block 0] idstr", "255 bytes" },
    { "[block 0]\nignored=yes\n", "[block 0] ignored = yes", "0 to 0xff " },
    { "[block 0]\nused_length=0x1z\n", "[block 0] used_length", "a number" },
    { "[block 0]\npages_at=here\n", "[block 0] pages_at = here", "a number" },
    { "[block 0]\npages=1 2 3 4\n", "[block 0] pages", "'1 2 3 4' is not" },
    { "[block 0]\npages=x\n", "[block 0] pages", "'x' is not" },
    { "[block 0]\npages=1-x\n", "[block 0] pages", "'1-x' is not" },
    { "[block 0]\npages=2-1\n", "[block 0] pages", "'2-1' is not" },
    { "[block 0]\npages=0-18446744073709551615\n", "[block 0] pages", "is not" },
    { "[block 0]\npages=1 full\n", "[block 0] pages", "is not" },
    { "[block 0]\npages=1 absent 1\n", "[block 0] pages", "is not" },
    { "[block 0]\npages=1 data A!\n", "[block 0] pages", "is not" },
    { "[block 0]\npages=1 fill 256\n", "[block 0] pages", "is not" },
    { "[block 0]\npages=1 pattern x\n", "[block 0] pages", "is not" },
};

static void assert_refused(const char *text, const char *place, const char *expected)
{
    g_autoptr(Snapshot) s = snapshot_new();
    g_autoptr(GError) error = NULL;

    if (snapshot_from_text(text, s, &error)) {
        fail_msg("accepted: %s", text);
    }
    assert_int_equal(error->domain, G_KEY_FILE_ERROR);
    if (!strstr(error->message, place) || !strstr(error->message, expected)) {
        fail_msg("'%s' names neither '%s' nor '%s'", error->message, place, expected);
    }
    assert_false(snapshot_from_text(text, s, NULL));
}

static void test_refused(void **state)
{
    (void)state;
    for (unsigned i = 0; i < G_N_ELEMENTS(refused); i++) {
        assert_refused(refused[i][0], refused[i][1], refused[i][2]);
    }
}

static void test_too_long(void **state)
{
    g_autofree char *name = g_strnfill(256, 'a');
    g_autofree char *bytes = g_strnfill(2 * 65536, '0');
    static const char *const formats[] = {
        "[block 0]\nidstr=%s\n",
        "[snapshot]\ncapabilities=%s\n",
        "[snapshot]\nsubsections=%s 1 list\n",
        "[snapshot]\ntail=full %s 1 1\n",
    };
    g_autofree char *command = g_strdup_printf("[snapshot]\ntail=command 1 %s\n", bytes);

    (void)state;
    for (unsigned i = 0; i < G_N_ELEMENTS(formats); i++) {
        g_autoptr(GString) text = g_string_new(formats[i]);

        g_string_replace(text, "%s", name, 1);
        assert_refused(text->str, "aaa", "");
    }
    assert_refused(command, "tail", "");
}

/* @text describes a file that breaks the rules which @claim names: "(rules P1 and F4)". */
static void assert_breaks(const char *claim, const char *text)
{
    g_autoptr(Snapshot) s = snapshot_new();
    g_autoptr(SparseFile) file = sparse_file_new();
    g_autoptr(GRegex) regex = g_regex_new("\\b[A-Z][0-9]+[a-z]?\\b", 0, 0, NULL);
    g_autoptr(GMatchInfo) match = NULL;
    Guest guest = { .target_page_size = 4096, .n_blocks = 1 };
    Judgement judgement;

    guest.blocks[0] = (GuestBlock){ "ram", 0x100000, 0x100000, 4096 };
    guest.x_ignore_shared = strstr(text, "x-ignore-shared") != NULL;
    make(text, s, file);
    judge_file(file, &guest, &judgement);
    assert_true(g_regex_match(regex, claim, 0, &match));
    for (; g_match_info_matches(match); g_match_info_next(match, NULL)) {
        g_autofree char *rule = g_match_info_fetch(match, 0);

        if (!judgement_violates(&judgement, rule_by_name(rule))) {
            fail_msg("the file does not break %s:\n%s%s", rule, claim, text);
        }
    }
}

/* Every wrong file of the document is wrong in the way that it says. */
static void test_document(void **state)
{
    g_autofree char *document = NULL;
    g_auto(GStrv) paragraphs = NULL;
    unsigned examples = 0;

    (void)state;
    assert_true(
        g_file_get_contents(PAGEWISE_SOURCE_DIR "/docs/snapshot-text.md", &document, NULL, NULL));
    assert_non_null(strstr(document, "## Wrong files"));
    paragraphs = g_strsplit(strstr(document, "## Wrong files"), "\n\n", -1);
    for (unsigned i = 1; paragraphs[i] && !g_str_has_prefix(paragraphs[i], "##"); i += 2) {
        g_autoptr(GString) text = g_string_new(paragraphs[i + 1]);

        g_string_replace(text, "    ", "", 0);
        assert_breaks(paragraphs[i], text->str);
        examples++;
    }
    assert_int_equal(examples, 6);
}

static void assert_round_trip(const Snapshot *s, const SparseFile *file, Snapshot *again_s,
                              SparseFile *again)
{
    g_autofree char *text = snapshot_to_text(s);
    g_autofree char *text_again = NULL;
    g_autoptr(GError) error = NULL;

    if (!snapshot_from_text(text, again_s, &error)) {
        fail_msg("%s\n%s", error->message, text);
    }
    text_again = snapshot_to_text(again_s);
    assert_string_equal(text, text_again);
    snapshot_encode(again_s, again);
    if (!same_file(file, again)) {
        fail_msg("other bytes:\n%s", text);
    }
}

static void test_round_trip(void **state)
{
    g_autoptr(Snapshot) s = snapshot_new();
    g_autoptr(Snapshot) again_s = snapshot_new();
    g_autoptr(SparseFile) file = sparse_file_new();
    g_autoptr(SparseFile) again = sparse_file_new();

    (void)state;
    for (unsigned number = 0; number < N_ENTROPIES; number++) {
        uint8_t entropy[ENTROPY_LENGTH];
        Choices choices = choices_init(entropy, sizeof(entropy));
        Guest guest;

        entropy_fill(number, entropy, sizeof(entropy));
        snapshot_generate(&choices, number % 2 ? SMALL_BLOCKS : LARGE_BLOCKS, s, &guest);
        snapshot_mutate(&choices, SNAPSHOT_MUTATIONS_NEWEST, number % 4, s, &guest, NULL);
        snapshot_encode(s, file);
        assert_round_trip(s, file, again_s, again);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),   cmocka_unit_test(test_what_is_written),
        cmocka_unit_test(test_items),      cmocka_unit_test(test_long_bytes),
        cmocka_unit_test(test_refused),    cmocka_unit_test(test_too_long),
        cmocka_unit_test(test_round_trip), cmocka_unit_test(test_document),
    };

    return pagewise_run("snapshot-text", tests);
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The registry of findings: it can be read, wrong entries are told, each
 * reproducer triggers its finding and no longer does once it is repaired, right
 * files are never touched, and a subject with a known bug is fuzzed past it.
 */
#include "model/judge.h"
#include "property/property.h"
#include "unit/support.h"

#include <glib/gstdio.h>
#include <string.h>

#define GENERATED_INPUTS 2000
#define USED_LENGTH_AT 0x5d /* of the first block, where its name is "ram" */

static Findings *read_all(void)
{
    g_autoptr(GError) error = NULL;
    Findings *findings = findings_read(PAGEWISE_FINDINGS_DIR, NULL, NULL, &error);

    assert_string_equal(error ? error->message : "", "");
    assert_true(findings_count(findings) > 10);
    return findings;
}

/* A finding's file, and how it is loaded. */
typedef struct Reproducer {
    Snapshot *snapshot;
    SparseFile *file;
    Guest guest;
    FindingLoad load;
} Reproducer;

static void reproducer_init(Reproducer *r, const Finding *finding)
{
    g_autoptr(GError) error = NULL;

    *r = (Reproducer){ .snapshot = snapshot_new(),
                       .file = sparse_file_new(),
                       .guest = finding->guest };
    if (!finding_make_file(finding, r->snapshot, r->file, &error)) {
        fail_msg("%s", error->message);
    }
    r->load = (FindingLoad){ .file = r->file, .guest = &r->guest };
    r->load.mode = finding->modes & FINDING_MODE_PLAIN ? FINDING_MODE_PLAIN : finding->modes;
}

static void reproducer_clear(Reproducer *r)
{
    snapshot_free(r->snapshot);
    sparse_file_free(r->file);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Reproducer, reproducer_clear)

/* Reads a registry of one finding.ini, @text. */
static void write_and_read(const char *id, const char *text, const char *subject,
                           const char *version, Findings **findings, GError **error)
{
    g_autofree char *folder = g_dir_make_tmp("pagewise-findings-XXXXXX", NULL);
    g_autofree char *sub = g_build_filename(folder, id, NULL);
    g_autofree char *path = g_build_filename(sub, "finding.ini", NULL);

    assert_int_equal(g_mkdir(sub, 0700), 0);
    assert_true(g_file_set_contents(path, text, -1, NULL));
    *findings = findings_read(folder, subject, version, error);
    g_unlink(path);
    g_rmdir(sub);
    g_rmdir(folder);
}

/* Registers the finding of corpus/findings alone. */
static Findings *read_stored(const char *id)
{
    g_autofree char *path = g_build_filename(PAGEWISE_FINDINGS_DIR, id, "finding.ini", NULL);
    g_autofree char *text = NULL;
    g_autoptr(GError) error = NULL;
    Findings *findings;

    assert_true(g_file_get_contents(path, &text, NULL, NULL));
    write_and_read(id, text, NULL, NULL, &findings, &error);
    assert_string_equal(error ? error->message : "", "");
    return findings;
}

static void test_each_reproducer_triggers_its_finding(void **state)
{
    g_autoptr(Findings) findings = read_all();

    (void)state;
    for (unsigned i = 0; i < findings_count(findings); i++) {
        const Finding *finding = findings_get(findings, i);

        if (!finding->snapshot) {
            continue;
        }
        g_auto(Reproducer) r = { .file = NULL };
        reproducer_init(&r, finding);
        if (!finding_is_triggered(finding, &r.load)) {
            fail_msg("%s: its reproducer does not trigger it", finding->id);
        }
        for (unsigned outcome = 0; outcome < FINDING_OUTCOME__MAX; outcome++) {
            if (finding->outcomes >> outcome & 1) {
                assert_non_null(findings_match(findings, &r.load, outcome));
            }
        }
        assert_null(findings_match(findings, &r.load, FINDING_OUTCOME_RIGHT));
    }
}

static void test_repaired_reproducers_trigger_nothing(void **state)
{
    g_autoptr(Findings) findings = read_all();

    (void)state;
    for (unsigned i = 0; i < findings_count(findings); i++) {
        const Finding *finding = findings_get(findings, i);
        g_autoptr(GString) log = g_string_new(NULL);

        if (!finding->snapshot) {
            continue;
        }
        g_auto(Reproducer) r = { .file = NULL };
        reproducer_init(&r, finding);
        assert_true(findings_repair(findings, &r.load, log) > 0);
        assert_true(log->len > 0);
        for (unsigned k = 0; k < findings_count(findings); k++) {
            if (finding_is_triggered(findings_get(findings, k), &r.load)) {
                fail_msg("%s: repaired, but triggers %s:\n%s", finding->id,
                         findings_get(findings, k)->id, log->str);
            }
        }
        assert_int_equal(findings_repair(findings, &r.load, NULL), 0);
    }
}

static void assert_repaired_to(const char *id, uint64_t offset, const void *bytes, size_t length)
{
    g_autoptr(Findings) findings = read_stored(id);
    g_autoptr(Findings) all = read_all();
    g_autoptr(SparseFile) before = sparse_file_new();
    g_autoptr(Snapshot) snapshot = snapshot_new();
    g_auto(Reproducer) r = { .file = NULL };
    g_autofree uint8_t *a = NULL, *b = NULL;
    uint64_t size;

    reproducer_init(&r, findings_by_id(all, id));
    assert_true(finding_make_file(findings_by_id(all, id), snapshot, before, NULL));
    assert_int_equal(findings_repair(findings, &r.load, NULL), 1);
    size = sparse_file_size(r.file);
    assert_int_equal(size, sparse_file_size(before));
    a = g_malloc(size);
    b = g_malloc(size);
    sparse_file_read(before, 0, a, size);
    sparse_file_read(r.file, 0, b, size);
    memcpy(a + offset, bytes, length);
    /* That, and nothing else. */
    assert_memory_equal(a, b, size);
}

static void test_repairs_are_narrow(void **state)
{
    static const uint8_t page_size[8] = { 0, 0, 0, 0, 0, 0, 0x10, 0 };
    static const uint8_t mebibyte[8] = { 0, 0, 0, 0, 0, 0x10, 0, 0 };
    static const uint8_t pages_offset[8] = { 0, 0, 0, 0, 0, 0, 0x10, 0 };
    static const uint8_t bits[1] = { 0x03 };
    static const uint8_t eof[1] = { 0 };
    static const uint8_t one[4] = { 0, 0, 0, 1 };
    static const uint8_t four[4] = { 0, 0, 0, 4 };

    (void)state;
    assert_repaired_to("page-size-zero", 0x69, page_size, 8);
    assert_repaired_to("page-size-other", 0x69, page_size, 8);
    assert_repaired_to("used-length-greater", 0x5d, mebibyte, 8);
    assert_repaired_to("pages-offset-wraps", 0x79, pages_offset, 8);
    assert_repaired_to("multifd-short-read", 0x81, bits, 1);
    assert_repaired_to("postcopy-listen", 0x20000d, eof, 1);
    assert_repaired_to("capability-count-huge", 0x31, one, 4);
    assert_repaired_to("subsection-version-cut", 0x2d, one, 4);
    assert_repaired_to("machine-length-huge", 0x09, four, 4);
}

/* A name that begins like the reader's, then NUL and more of it than 32 KiB. */
static void test_a_long_name_that_agrees_is_repaired(void **state)
{
    static const uint8_t length[4] = { 0, 2, 0, 0 };
    g_autoptr(Findings) findings = read_stored("machine-length-memory");
    g_autoptr(Findings) all = read_all();
    g_auto(Reproducer) r = { .file = NULL };

    (void)state;
    reproducer_init(&r, findings_by_id(all, "page-size-zero"));
    sparse_file_truncate(r.file, 0x200000);
    sparse_file_write(r.file, 0x09, length, sizeof(length));
    sparse_file_write(r.file, 0x0d, "none", sizeof("none"));
    assert_int_equal(findings_repair(findings, &r.load, NULL), 1);
}

/*
 * The bitmap lies over its header: clearing its bits makes page_size 0, setting
 * page_size sets bits of pages that are not in the file.
 */
static void test_what_cannot_be_repaired_is_left_out(void **state)
{
    g_autoptr(Findings) findings = read_all();
    g_autoptr(PropertyContext) context = property_context_new(subject_reference());
    const PropertyStats *stats = property_context_stats(context);
    g_autofree char *data = NULL;
    size_t size;

    (void)state;
    assert_true(g_file_get_contents(PAGEWISE_FINDINGS_DIR "/../fuzz-header/bitmap-over-its-header",
                                    &data, &size, NULL));
    property_context_set_findings(context, findings, FINDING_MODE_MULTIFD);
    assert_true(property_header(context, (const uint8_t *)data, size, NULL));
    assert_int_equal(stats->unrepaired, 1);
    assert_int_equal(stats->accepted + stats->refused, 0);
}

/* Of a FULL section of RAM nothing is judged, and QEMU loads it like any other. */
static void test_the_unspecified_is_cut_off(void **state)
{
    static const uint8_t full[1] = { 4 };
    g_autoptr(Findings) all = read_all();
    g_autoptr(GString) log = g_string_new(NULL);
    g_auto(Reproducer) r = { .file = NULL };

    (void)state;
    reproducer_init(&r, findings_by_id(all, "page-size-zero"));
    sparse_file_write(r.file, 0x40, full, sizeof(full));
    assert_int_equal(findings_repair(all, &r.load, log), 1);
    assert_string_equal(log->str, "cut at file offset 0x41, behind what is specified\n");
    assert_int_equal(sparse_file_size(r.file), 0x41);
}

/* What QEMU refuses is left for it to refuse. */
static void test_a_version_is_repaired_if_its_low_byte_is_right(void **state)
{
    static const uint8_t other[4] = { 0, 0, 1, 2 };
    g_autoptr(Findings) findings = read_stored("subsection-version-cut");
    g_autoptr(Findings) all = read_all();
    g_auto(Reproducer) r = { .file = NULL };

    (void)state;
    reproducer_init(&r, findings_by_id(all, "subsection-version-cut"));
    sparse_file_write(r.file, 0x2d, other, sizeof(other));
    assert_int_equal(findings_repair(findings, &r.load, NULL), 0);
}

static void test_the_mode_counts(void **state)
{
    g_autoptr(Findings) findings = read_stored("multifd-short-read");
    g_autoptr(Findings) all = read_all();
    g_auto(Reproducer) r = { .file = NULL };

    (void)state;
    reproducer_init(&r, findings_by_id(all, "multifd-short-read"));
    r.load.mode = FINDING_MODE_PLAIN;
    assert_int_equal(findings_repair(findings, &r.load, NULL), 0);
    assert_null(findings_match(findings, &r.load, FINDING_OUTCOME_CRASH));
    r.load.mode = FINDING_MODE_MULTIFD;
    assert_non_null(findings_match(findings, &r.load, FINDING_OUTCOME_CRASH));
    assert_int_equal(findings_repair(findings, &r.load, NULL), 1);
}

/* multifd-failed-channel, and then, without multifd, fast-load-lost-fault. */
static void test_without_multifd_it_is_a_lazy_load(void **state)
{
    g_autoptr(Findings) all = read_all();
    g_auto(Reproducer) r = { .file = NULL };

    (void)state;
    reproducer_init(&r, findings_by_id(all, "multifd-failed-channel"));
    for (unsigned lazy = 0; lazy < 2; lazy++) {
        r.load.mode = FINDING_MODE_MULTIFD;
        r.load.lazy = lazy;
        r.load.reads_fail = true;
        assert_true(findings_repair(all, &r.load, NULL) > 0);
        assert_false(r.load.mode & FINDING_MODE_MULTIFD);
        assert_int_equal(r.load.reads_fail, !lazy);
    }
}

static size_t random_layout(uint8_t *data, size_t size, uint64_t *state)
{
    InputHeader header = { .version = INPUT_VERSION, .kind = INPUT_LAYOUT };

    header.generator_size[0] = size - sizeof(header);
    memcpy(data, &header, sizeof(header));
    for (size_t i = sizeof(header); i < size; i++) {
        *state = *state * UINT64_C(6364136223846793005) + 1442695040888963407u;
        data[i] = *state >> 33;
    }
    return size;
}

/* Repairs must not make the fuzzer blind: what is right stays as it is. */
static void test_right_files_are_left_alone(void **state)
{
    g_autoptr(Findings) findings = read_all();
    g_autoptr(Snapshot) snapshot = snapshot_new();
    g_autoptr(SparseFile) file = sparse_file_new();
    uint64_t random = 1;
    unsigned plain = 0;

    (void)state;
    for (unsigned i = 0; i < GENERATED_INPUTS; i++) {
        uint8_t data[100];
        Guest guest;
        Input input;
        FindingLoad load = { .file = file, .guest = &guest, .mode = FINDING_MODE_MULTIFD };

        assert_true(input_decode(data, random_layout(data, sizeof(data), &random), &input));
        input_make_file(&input, snapshot, file, &guest, NULL);
        if (guest.x_ignore_shared || guest.clear_pages) {
            continue; /* there, the reader's configuration is the finding */
        }
        plain++;
        for (unsigned k = 0; k < findings_count(findings); k++) {
            const Finding *finding = findings_get(findings, k);

            /* What may be in right files, too: lengths that may differ, commands. */
            if (finding_is_triggered(finding, &load) && strcmp(finding->id, "block-not-resized")) {
                fail_msg("input %u triggers %s", i, finding->id);
            }
        }
    }
    assert_true(plain > GENERATED_INPUTS / 4);
}

/* The reference loader has none of the bugs: its own properties hold on every reproducer. */
static void test_the_reference_is_right(void **state)
{
    g_autoptr(Findings) findings = read_all();
    g_autoptr(PropertyContext) context = property_context_new(subject_reference());
    unsigned run = 0;

    (void)state;
    for (unsigned i = 0; i < findings_count(findings); i++) {
        const Finding *finding = findings_get(findings, i);
        g_autoptr(GByteArray) bytes = g_byte_array_new();
        g_autoptr(GError) error = NULL;

        if (!finding->snapshot) {
            continue;
        }
        g_auto(Reproducer) r = { .file = NULL };
        reproducer_init(&r, finding);
        assert_true(input_encode_stream(&r.guest, r.file, 0, bytes));
        if (!property_stream(context, bytes->data, bytes->len, &error)) {
            fail_msg("%s: %s", finding->id, error->message);
        }
        run++;
    }
    assert_int_equal(property_context_stats(context)->executions, run);
    assert_int_equal(property_context_stats(context)->repaired, 0);
}

/* A loader with QEMU's bug of page-size-other: it believes any page_size but 0. */
static SubjectStatus believes_page_size(SubjectLoad *load, GError **error)
{
    SubjectStatus status = subject_reference()->load_file(load, error);

    if (status == SUBJECT_REFUSED && strstr((*error)->message, "(rule H2)")) {
        g_clear_error(error);
        return SUBJECT_ACCEPTED;
    }
    return status;
}

static void test_a_known_bug_is_passed(void **state)
{
    const Subject subject = { .name = "believes page_size", .load_file = believes_page_size };
    g_autoptr(Findings) findings = read_stored("page-size-other");
    g_autoptr(Findings) all = read_all();
    g_autoptr(PropertyContext) context = property_context_new(&subject);
    g_autoptr(GByteArray) bytes = g_byte_array_new();
    g_autoptr(GError) error = NULL;
    g_auto(Reproducer) r = { .file = NULL };

    (void)state;
    reproducer_init(&r, findings_by_id(all, "page-size-other"));
    assert_true(input_encode_stream(&r.guest, r.file, 0, bytes));
    assert_false(property_stream(context, bytes->data, bytes->len, &error));
    assert_int_equal(error->code, PROPERTY_AGREES);
    g_clear_error(&error);
    property_context_set_findings(context, findings, FINDING_MODE_PLAIN);
    assert_true(property_stream(context, bytes->data, bytes->len, &error));
    assert_int_equal(property_context_stats(context)->repaired, 1);
}

/* A registry of all, of which one is spared. */
static Findings *read_sparing(const char *id)
{
    Findings *findings = read_all();

    ((Finding *)findings_by_id(findings, id))->spared = true;
    return findings;
}

/* Whatever else its fields trigger: what it needs is there still, and other breaks are not. */
static void test_what_is_spared_is_left_alone(void **state)
{
    g_autoptr(Findings) all = read_all();

    (void)state;
    for (unsigned i = 0; i < findings_count(all); i++) {
        const Finding *finding = findings_get(all, i);

        if (!finding->snapshot) {
            continue;
        }
        g_autoptr(Findings) findings = read_sparing(finding->id);
        g_auto(Reproducer) r = { .file = NULL };
        reproducer_init(&r, finding);
        findings_repair(findings, &r.load, NULL);
        /* The reproducers of two are cases of ...-huge, too, which is narrower. */
        if (!finding_is_triggered(finding, &r.load) && !g_str_has_suffix(finding->id, "-memory")) {
            fail_msg("%s: repaired, though it is spared", finding->id);
        }
        assert_int_equal(findings_spare(findings, &r.load), finding_is_triggered(finding, &r.load));
        assert_false(findings_spare(all, &r.load));
    }
}

static uint64_t used_length_in_file(const Reproducer *r, uint64_t offset)
{
    uint8_t bytes[8];
    uint64_t value = 0;

    assert_int_equal(sparse_file_read(r->file, offset, bytes, 8), 8);
    for (unsigned i = 0; i < 8; i++) {
        value = value << 8 | bytes[i];
    }
    return value;
}

/* used-length-huge is narrower than used-length-greater: it is no reason to spare the field. */
static void test_a_narrower_finding_is_not_spared(void **state)
{
    g_autoptr(Findings) findings = read_sparing("used-length-greater");
    g_auto(Reproducer) greater = { .file = NULL };
    g_auto(Reproducer) huge = { .file = NULL };

    (void)state;
    reproducer_init(&greater, findings_by_id(findings, "used-length-greater"));
    findings_repair(findings, &greater.load, NULL);
    assert_int_equal(used_length_in_file(&greater, USED_LENGTH_AT), 2 << 20);
    reproducer_init(&huge, findings_by_id(findings, "used-length-huge"));
    findings_repair(findings, &huge.load, NULL);
    assert_int_equal(used_length_in_file(&huge, USED_LENGTH_AT), 1 << 20);
}

/* -1 bytes in pages of 4096 bytes, not of 1: another finding. */
static void test_both_breaks_are_needed(void **state)
{
    static const uint8_t page_size[] = { 0, 0, 0, 0, 0, 0, 0x10, 0 };
    g_autoptr(Findings) findings = read_stored("used-length-overflow");
    g_autoptr(Findings) all = read_all();
    g_auto(Reproducer) r = { .file = NULL };

    (void)state;
    reproducer_init(&r, findings_by_id(all, "used-length-overflow"));
    assert_non_null(findings_match(findings, &r.load, FINDING_OUTCOME_CRASH));
    sparse_file_write(r.file, USED_LENGTH_AT + 12, page_size, sizeof(page_size));
    assert_null(findings_match(findings, &r.load, FINDING_OUTCOME_CRASH));
    assert_int_equal(findings_repair(findings, &r.load, NULL), 0);
}

static void test_keep(void **state)
{
    g_autoptr(Findings) findings = read_all();
    unsigned all = findings_count(findings);

    (void)state;
    findings_keep(findings, 1 << FINDING_OUTCOME_CRASH | 1 << FINDING_OUTCOME_HANG);
    assert_true(findings_count(findings) > 0 && findings_count(findings) < all);
    assert_non_null(findings_by_id(findings, "page-size-zero"));
    assert_null(findings_by_id(findings, "page-size-other"));
    findings_keep(findings, 0);
    assert_int_equal(findings_count(findings), 0);
}

static void test_versions(void **state)
{
    (void)state;
    assert_int_equal(findings_compare_versions("10.0.13", "10.0.2"), 1);
    assert_int_equal(findings_compare_versions("9.2", "10.0"), -1);
    assert_int_equal(findings_compare_versions("10.0", "10.0.0"), 0);
    assert_int_equal(findings_compare_versions("10.0", "10.0.1"), -1);
}

#define TEXT(extra, mode, outcome, repair)                                                         \
    "[finding]\nid = x\ntitle = t\nproperty = safe\nmode = " mode "\nsince = 10.0\n" extra         \
    "[outcome]\nqemu-tree = " outcome "\n[reproducer]\nsnapshot = s\n[repair]\n" repair

#define RIGHT_REPAIR "rule = H2\naction = set page_size\n"

static void test_what_is_registered(void **state)
{
    static const struct {
        const char *subject;
        const char *version;
        unsigned count;
    } cases[] = {
        { NULL, NULL, 1 },           { "qemu-tree", NULL, 1 },     { "qemu-binary", NULL, 0 },
        { "qemu-tree", "9.2.4", 0 }, { "qemu-tree", "10.0", 1 },   { "qemu-tree", "10.1.3", 1 },
        { "qemu-tree", "10.2", 0 },  { "qemu-tree", "11.0.1", 0 },
    };

    (void)state;
    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(Findings) findings = NULL;
        g_autoptr(GError) error = NULL;

        write_and_read("x",
                       TEXT("fixed = 10.2\n", "any", "crash SIGFPE; refused wrongly", RIGHT_REPAIR),
                       cases[i].subject, cases[i].version, &findings, &error);
        assert_string_equal(error ? error->message : "", "");
        assert_int_equal(findings_count(findings), cases[i].count);
        if (cases[i].count) {
            assert_int_equal(findings_get(findings, 0)->outcomes,
                             1 << FINDING_OUTCOME_CRASH | 1 << FINDING_OUTCOME_REFUSED_WRONGLY);
        }
    }
}

static void test_wrong_entries_are_told(void **state)
{
    static const struct {
        const char *text;
        const char *message;
    } cases[] = {
        { "nonsense", "finding.ini" },
        { "[finding]\nid = x\n", "[finding] title" },
        { TEXT("", "sometimes", "crash", RIGHT_REPAIR), "[finding] mode = sometimes" },
        { TEXT("", "any", "sulks", RIGHT_REPAIR), "sulks: an outcome" },
        { TEXT("", "any", "crash", "rule = Z9\naction = set page_size\n"), "rule = Z9" },
        { TEXT("", "any", "crash", "rule = H2\naction = pray\n"), "action = pray" },
        { TEXT("", "any", "crash", RIGHT_REPAIR "value = 1-x\n"), "value = 1-x" },
        { TEXT("", "any", "crash", RIGHT_REPAIR "value = few\n"), "value = few" },
        { TEXT("", "any", "crash", RIGHT_REPAIR "with rule = Z9\n"), "with rule = Z9" },
        { TEXT("", "any", "crash", RIGHT_REPAIR "with rule = R5\nwith value = x\n"),
          "with value = x" },
    };

    (void)state;
    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(Findings) findings = NULL;
        g_autoptr(GError) error = NULL;

        write_and_read("x", cases[i].text, NULL, NULL, &findings, &error);
        assert_null(findings);
        if (!strstr(error->message, cases[i].message)) {
            fail_msg("case %u: %s", i, error->message);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_reproducer_triggers_its_finding),
        cmocka_unit_test(test_repaired_reproducers_trigger_nothing),
        cmocka_unit_test(test_repairs_are_narrow),
        cmocka_unit_test(test_a_long_name_that_agrees_is_repaired),
        cmocka_unit_test(test_what_cannot_be_repaired_is_left_out),
        cmocka_unit_test(test_the_unspecified_is_cut_off),
        cmocka_unit_test(test_a_version_is_repaired_if_its_low_byte_is_right),
        cmocka_unit_test(test_the_mode_counts),
        cmocka_unit_test(test_without_multifd_it_is_a_lazy_load),
        cmocka_unit_test(test_right_files_are_left_alone),
        cmocka_unit_test(test_the_reference_is_right),
        cmocka_unit_test(test_a_known_bug_is_passed),
        cmocka_unit_test(test_what_is_spared_is_left_alone),
        cmocka_unit_test(test_a_narrower_finding_is_not_spared),
        cmocka_unit_test(test_both_breaks_are_needed),
        cmocka_unit_test(test_keep),
        cmocka_unit_test(test_versions),
        cmocka_unit_test(test_what_is_registered),
        cmocka_unit_test(test_wrong_entries_are_told),
    };

    return pagewise_run("findings", tests);
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The property no-functional-change: a subject against itself shows nothing,
 * and against one that differs in anything that can be seen, just that.
 */
#include "property/nfc.h"
#include "unit/broken-subject.h"
#include "unit/support.h"

#include <string.h>

#define INPUTS 3000

static size_t make_input(uint8_t *data, size_t size, uint64_t *state, unsigned index)
{
    InputHeader header = { .version = INPUT_VERSION, .kind = INPUT_LAYOUT };

    header.generator_size[0] = 60;
    header.flags = (index % 4 >= 2 ? INPUT_DIRTY_RAM : 0) | (index % 3 ? INPUT_SPLIT : 0);
    header.fail_read[0] = index % 8 == 4 ? 1 + index % 6 : 0;
    memcpy(data, &header, sizeof(header));
    for (size_t i = sizeof(header); i < size; i++) {
        *state = *state * UINT64_C(6364136223846793005) + 1442695040888963407u;
        data[i] = *state >> 33;
    }
    return index % 2 ? size : sizeof(header) + 60;
}

/* The first difference of many inputs, or NULL. */
static GError *run_inputs(NfcPair *pair)
{
    uint64_t state = 1;

    for (unsigned i = 0; i < INPUTS; i++) {
        GError *error = NULL;
        uint8_t data[100];
        size_t size = make_input(data, sizeof(data), &state, i);

        if (!property_no_functional_change(pair, data, size, &error)) {
            return error;
        }
    }
    return NULL;
}

static void test_a_subject_is_as_itself(void **state)
{
    g_autoptr(NfcPair) pair = nfc_pair_new(subject_reference(), subject_reference(), NFC_ALL);
    g_autoptr(GError) error = run_inputs(pair);
    const PropertyStats *stats = nfc_pair_stats(pair);

    (void)state;
    assert_string_equal(error ? error->message : "", "");
    assert_int_equal(stats->executions, INPUTS);
    assert_true(stats->accepted > INPUTS / 2);
    assert_true(stats->refused > INPUTS / 8);
    assert_true(stats->pages > INPUTS);
}

/* What has no trace in verdict, error, RAM and reads. */
static bool cannot_be_seen(const char *name)
{
    return strcmp(name, "accepts with an error") == 0 ||
           strcmp(name, "allocates what the file says") == 0;
}

static void test_each_difference_is_noticed(void **state)
{
    unsigned n, noticed = 0;
    const BrokenSubject *table = broken_subjects(&n);

    (void)state;
    for (unsigned i = 0; i < n; i++) {
        g_autoptr(NfcPair) pair = NULL;
        g_autoptr(GError) error = NULL;

        if (table[i].kind != INPUT_LAYOUT || !table[i].subject.load_file ||
            cannot_be_seen(table[i].subject.name)) {
            continue;
        }
        pair = nfc_pair_new(subject_reference(), &table[i].subject, NFC_ALL);
        error = run_inputs(pair);
        if (!error) {
            fail_msg("a subject that %s is no difference", table[i].subject.name);
        }
        assert_int_equal(error->code, PROPERTY_NO_FUNCTIONAL_CHANGE);
        assert_non_null(strstr(error->message, table[i].subject.name));
        noticed++;
    }
    assert_true(noticed > 10);
}

static SubjectStatus clears_pages(SubjectLoad *load, GError **error)
{
    Guest guest = *load->guest;
    const Guest *own = load->guest;
    SubjectStatus status;

    guest.clear_pages = true;
    load->guest = &guest;
    status = subject_reference()->load_file(load, error);
    load->guest = own;
    return status;
}

static SubjectStatus says_it_otherwise(SubjectLoad *load, GError **error)
{
    SubjectStatus status = subject_reference()->load_file(load, error);

    if (status == SUBJECT_REFUSED) {
        g_prefix_error(error, "oh: ");
    }
    return status;
}

static SubjectStatus reads_once_more(SubjectLoad *load, GError **error)
{
    SubjectStatus status = subject_reference()->load_file(load, error);
    SubjectRead read = { 0x123, 8 };

    g_array_append_val(load->cost.log, read);
    return status;
}

static SubjectStatus stops_elsewhere(SubjectLoad *load, GError **error)
{
    SubjectStatus status = subject_reference()->load_file(load, error);

    load->end_position = 0x456;
    return status;
}

static SubjectStatus gives_a_page_more(SubjectLoad *load, GError **error)
{
    SubjectStatus status = subject_reference()->load_file(load, error);

    load->blocks[0].used_length += 4096;
    return status;
}

static SubjectStatus accepts(SubjectLoad *load, GError **error)
{
    subject_reference()->load_file(load, error);
    g_clear_error(error);
    return SUBJECT_ACCEPTED;
}

static const struct {
    SubjectStatus (*load_file)(SubjectLoad *load, GError **error);
    unsigned aspect;
    const char *parts[3];
} differences[] = {
    { clears_pages,
      NFC_RAM,
      { "page", "leaves the page as it was", "begins with 00 00 00 00 00 00 00 00" } },
    { says_it_otherwise,
      NFC_ERROR,
      { "error's text", "The base refuses", "refuses the file: oh:" } },
    { reads_once_more,
      NFC_READS,
      { "read number", "The base reads no further", "reads 8 bytes at file offset 0x123" } },
    { stops_elsewhere, NFC_POSITION, { "stands at the end", "offset 0x0", "offset 0x456" } },
    { gives_a_page_more,
      NFC_BLOCKS,
      { "differ in block '", "The base gives", "The series gives" } },
    { accepts, NFC_VERDICT, { "verdict", "The base refuses", "The series accepts" } },
};

static void test_what_differs_is_told(void **state)
{
    (void)state;
    for (unsigned i = 0; i < G_N_ELEMENTS(differences); i++) {
        const Subject subject = { .name = "other", .load_file = differences[i].load_file };
        g_autoptr(NfcPair) pair = nfc_pair_new(subject_reference(), &subject, NFC_ALL);
        g_autoptr(GError) error = run_inputs(pair);

        assert_non_null(error);
        for (unsigned k = 0; k < 3; k++) {
            if (!strstr(error->message, differences[i].parts[k])) {
                fail_msg("'%s' is missing in: %s", differences[i].parts[k], error->message);
            }
        }
    }
}

static void test_what_is_not_asked_is_no_difference(void **state)
{
    (void)state;
    for (unsigned i = 0; i < G_N_ELEMENTS(differences); i++) {
        const Subject subject = { .name = "other", .load_file = differences[i].load_file };
        unsigned without = NFC_ALL & ~differences[i].aspect;
        g_autoptr(NfcPair) pair = NULL;
        g_autoptr(GError) error = NULL;

        if (differences[i].aspect == NFC_VERDICT) {
            continue; /* who accepts another file gives it other lengths, too */
        }
        pair = nfc_pair_new(subject_reference(), &subject, without);
        error = run_inputs(pair);
        assert_string_equal(error ? error->message : "", "");
    }
}

static void test_records_are_text(void **state)
{
    g_autoptr(NfcPair) pair = NULL;
    const Subject other = { .name = "other", .load_file = says_it_otherwise };
    uint64_t random = 1;
    unsigned differ = 0;

    (void)state;
    pair = nfc_pair_new(subject_reference(), &other, NFC_ALL);
    for (unsigned i = 0; i < 40; i++) {
        g_autoptr(GError) error = NULL;
        uint8_t data[100];
        size_t size = make_input(data, sizeof(data), &random, i);
        g_autofree char *base = nfc_record(pair, false, data, size, &error);
        g_autofree char *series = nfc_record(pair, true, data, size, &error);
        bool same = property_no_functional_change(pair, data, size, &error);

        if (!strstr(base, "too large")) {
            assert_non_null(strstr(base, "the file"));
            assert_non_null(strstr(base, "stands at file offset"));
            assert_non_null(strstr(base, "bytes at file offset"));
        }
        /* make_input() lets a read of these fail: there, texts do not count. */
        assert_int_equal(same, i % 8 == 4 || strcmp(base, series) == 0);
        differ += !same;
    }
    assert_true(differ > 0 && differ < 40);
}

static SubjectStatus shows_its_limits(SubjectLoad *load, GError **error)
{
    SubjectStatus status = subject_reference()->load_file(load, error);
    SubjectRead limits = { load->cost.max_reads, load->cost.max_bytes };

    g_array_append_val(load->cost.log, limits);
    return status;
}

/* How short a read is follows from them: that is no difference of the subjects'. */
static void test_both_may_cost_the_same(void **state)
{
    const Subject subject = { .name = "limited", .load_file = shows_its_limits };
    g_autoptr(NfcPair) pair = nfc_pair_new(&subject, &subject, NFC_ALL);
    g_autoptr(GError) error = run_inputs(pair);

    (void)state;
    assert_string_equal(error ? error->message : "", "");
}

static void test_other_inputs_are_left_alone(void **state)
{
    static const uint8_t header[64] = { INPUT_VERSION, INPUT_HEADER };
    const Subject other = { .name = "other", .load_file = accepts };
    g_autoptr(NfcPair) pair = nfc_pair_new(subject_reference(), &other, NFC_ALL);
    g_autoptr(GError) error = NULL;

    (void)state;
    assert_true(property_no_functional_change(pair, header, sizeof(header), &error));
    assert_true(property_no_functional_change(pair, header, 1, &error));
    assert_int_equal(nfc_pair_stats(pair)->executions, 0);
}

static void test_aspects(void **state)
{
    (void)state;
    assert_int_equal(nfc_aspects_parse("all"), NFC_ALL);
    assert_int_equal(nfc_aspects_parse("ram,verdict"), NFC_RAM | NFC_VERDICT);
    assert_int_equal(nfc_aspects_parse("ram,colour"), 0);
    assert_int_equal(nfc_aspects_parse(""), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_subject_is_as_itself),
        cmocka_unit_test(test_each_difference_is_noticed),
        cmocka_unit_test(test_what_differs_is_told),
        cmocka_unit_test(test_what_is_not_asked_is_no_difference),
        cmocka_unit_test(test_records_are_text),
        cmocka_unit_test(test_both_may_cost_the_same),
        cmocka_unit_test(test_other_inputs_are_left_alone),
        cmocka_unit_test(test_aspects),
    };

    return pagewise_run("nfc", tests);
}

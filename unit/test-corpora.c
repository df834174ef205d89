/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The corpora as a set: small, of the right kind, and worth their place. (That
 * each file replays without a failure is the business of the tests replay-*.)
 */
#include "property/property.h"
#include "unit/support.h"

#include <stdio.h>

#define MAX_FILE (4 << 10)
#define MAX_TOTAL (1 << 20)

typedef struct Corpus {
    InputKind kind;
    bool refusals; /* are there wrong files in it? */
} Corpus;

static const Corpus corpora[] = {
    { INPUT_HEADER, true },      { INPUT_STREAM, true },    { INPUT_LAYOUT, true },
    { INPUT_ROUND_TRIP, false }, { INPUT_FAULT_MAP, true }, { INPUT_SETUP, true },
    { INPUT_POSTCOPY, true },    { INPUT_LAZY, true },
};

/* Runs every file of the folder; returns their size in all. */
static size_t run_folder(PropertyContext *context, const Property *property, const char *path,
                         uint64_t *files)
{
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    size_t total = 0;
    const char *name;

    assert_non_null(dir);
    while ((name = g_dir_read_name(dir))) {
        g_autofree char *file = g_build_filename(path, name, NULL);
        g_autofree char *data = NULL;
        g_autoptr(GError) error = NULL;
        size_t size;

        assert_true(g_file_get_contents(file, &data, &size, NULL));
        if (size > MAX_FILE) {
            fail_msg("corpus file '%s' has %zu bytes, over %d", name, size, MAX_FILE);
        }
        if (!property->function(context, (const uint8_t *)data, size, &error)) {
            fail_msg("corpus file '%s': %s", name, error->message);
        }
        total += size;
        (*files)++;
    }
    return total;
}

static void test_corpora_are_small_and_used(void **state)
{
    size_t total = 0;

    (void)state;
    for (unsigned i = 0; i < G_N_ELEMENTS(corpora); i++) {
        const Property *property = property_for_kind(corpora[i].kind);
        g_autofree char *path = g_strdup_printf("%s/fuzz-%s", PAGEWISE_CORPUS_DIR, property->name);
        g_autoptr(PropertyContext) context = property_context_new(subject_reference());
        const PropertyStats *stats = property_context_stats(context);
        uint64_t files = 0;

        total += run_folder(context, property, path, &files);
        print_message("fuzz-%s: %" G_GUINT64_FORMAT " files, loads accepted %" G_GUINT64_FORMAT
                      ", refused %" G_GUINT64_FORMAT ", pages compared %" G_GUINT64_FORMAT "\n",
                      property->name, files, stats->accepted, stats->refused, stats->pages);
        assert_int_equal(stats->executions, files);
        assert_true(stats->accepted > 0);
        assert_true(stats->pages > 0);
        assert_int_equal(stats->refused > 0, corpora[i].refusals);
    }
    assert_in_range(total, 1, MAX_TOTAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_corpora_are_small_and_used),
    };

    return pagewise_run("corpora", tests);
}

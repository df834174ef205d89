/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * model/rules.[ch] against docs/mapped-ram-format.md: the document's rows with
 * an id are the table's entries, in order, with the same consequence. The
 * document is read at run time, so that the two cannot drift apart.
 */
#include "model/rules.h"
#include "unit/support.h"

#include <glib.h>
#include <string.h>

static const char *const consequences[] = {
    [RULE_DEFINITION] = "definition",
    [RULE_ACCEPT] = "accept",
    [RULE_MAY] = "may",
    [RULE_REJECT] = "reject",
};

/* Does the cell look like "C10" or "R7a"? */
static bool is_rule_id(const char *cell)
{
    const char *at = cell;

    if (!g_ascii_isupper(*at++) || !g_ascii_isdigit(*at++)) {
        return false;
    }
    while (g_ascii_isdigit(*at)) {
        at++;
    }
    at += g_ascii_islower(*at);
    return *at == '\0';
}

/* "| H2 | reject | page_size ... | refuses |" is the rule @id. */
static void assert_row_is_rule(char **cells, RuleId id)
{
    if (id == RULE__MAX || strcmp(rule_get(id)->id, cells[1]) != 0) {
        fail_msg("row %s of the document is not rule %s of the table", cells[1],
                 id == RULE__MAX ? "(none)" : rule_get(id)->id);
    }
    if (strcmp(cells[2], consequences[rule_get(id)->consequence]) != 0) {
        fail_msg("rule %s: '%s' in the document, '%s' in the table", cells[1], cells[2],
                 consequences[rule_get(id)->consequence]);
    }
}

static void test_table_is_the_document(void **state)
{
    g_autofree char *text = NULL;
    g_auto(GStrv) lines = NULL;
    RuleId next = 0;

    (void)state;
    assert_true(
        g_file_get_contents(PAGEWISE_SOURCE_DIR "/docs/mapped-ram-format.md", &text, NULL, NULL));
    lines = g_strsplit(text, "\n", -1);
    for (char **line = lines; *line != NULL; line++) {
        g_auto(GStrv) cells = g_strsplit(*line, "|", -1);

        if (g_strv_length(cells) < 5 || !is_rule_id(g_strstrip(cells[1]))) {
            continue;
        }
        g_strstrip(cells[2]);
        assert_row_is_rule(cells, next);
        next++;
    }
    assert_int_equal(next, RULE__MAX);
}

static void test_names_are_found(void **state)
{
    (void)state;
    for (RuleId id = 0; id < RULE__MAX; id++) {
        assert_int_equal(rule_by_name(rule_get(id)->id), id);
        assert_true(strlen(rule_get(id)->title) > 0);
    }
    assert_int_equal(rule_by_name("H99"), RULE__MAX);
    assert_int_equal(rule_by_name(""), RULE__MAX);
    assert_int_equal(rule_by_name("h2"), RULE__MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table_is_the_document),
        cmocka_unit_test(test_names_are_found),
    };

    return pagewise_run("rules", tests);
}

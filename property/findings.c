/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The registry of findings, and how it is read: see findings.h. What a repair does,
 * and when, is not its business: see finding-repair.c.
 */
#include "property/findings.h"

#include "property/finding-repair.h"
#include "property/finding-values.h"

#include <string.h>

#define FINDING_NAME "finding.ini"

struct Findings {
    GPtrArray *list; /* of Finding */
};

static const char *const outcome_names[FINDING_OUTCOME__MAX] = {
    [FINDING_OUTCOME_RIGHT] = "right",
    [FINDING_OUTCOME_REFUSED] = "refused",
    [FINDING_OUTCOME_CRASH] = "crash",
    [FINDING_OUTCOME_HANG] = "hang",
    [FINDING_OUTCOME_BLOW_UP] = "memory blow-up",
    [FINDING_OUTCOME_ACCEPTED_WRONG] = "accepted wrong",
    [FINDING_OUTCOME_REFUSED_WRONGLY] = "refused wrongly",
    [FINDING_OUTCOME_LEAK] = "leak",
    [FINDING_OUTCOME_UNPREDICTABLE] = "unpredictable",
};

G_DEFINE_QUARK(pagewise - findings - error, findings_error)

const char *finding_outcome_name(FindingOutcome outcome)
{
    return outcome_names[outcome];
}

FindingOutcome finding_outcome_by_name(const char *name)
{
    for (unsigned i = 0; i < FINDING_OUTCOME__MAX; i++) {
        if (strcmp(outcome_names[i], name) == 0) {
            return i;
        }
    }
    return FINDING_OUTCOME__MAX;
}

int findings_compare_versions(const char *a, const char *b)
{
    while (*a || *b) {
        char *end_a, *end_b;
        uint64_t number_a = g_ascii_strtoull(a, &end_a, 10);
        uint64_t number_b = g_ascii_strtoull(b, &end_b, 10);

        if (number_a != number_b) {
            return number_a < number_b ? -1 : 1;
        }
        a = *end_a == '.' ? end_a + 1 : "";
        b = *end_b == '.' ? end_b + 1 : "";
    }
    return 0;
}

static void finding_free(gpointer data)
{
    Finding *finding = data;

    for (unsigned i = 0; i < finding->n_repairs; i++) {
        g_free(finding->repairs[i].field);
    }
    g_free(finding->id);
    g_free(finding->title);
    g_free(finding->property);
    g_free(finding->snapshot);
    g_free(finding->input);
    g_free(finding->repeat);
    g_free(finding->repairs);
    g_free(finding);
}

Findings *findings_none(void)
{
    Findings *findings = g_new0(Findings, 1);

    findings->list = g_ptr_array_new_with_free_func(finding_free);
    return findings;
}

void findings_free(Findings *findings)
{
    g_ptr_array_unref(findings->list);
    g_free(findings);
}

void findings_keep(Findings *findings, unsigned outcomes)
{
    for (unsigned i = findings->list->len; i-- > 0;) {
        const Finding *finding = g_ptr_array_index(findings->list, i);

        if (!(finding->outcomes & outcomes)) {
            g_ptr_array_remove_index(findings->list, i);
        }
    }
}

unsigned findings_count(const Findings *findings)
{
    return findings->list->len;
}

const Finding *findings_get(const Findings *findings, unsigned index)
{
    return g_ptr_array_index(findings->list, index);
}

Finding *const *findings_list(const Findings *findings, unsigned *n)
{
    *n = findings->list->len;
    return (Finding *const *)findings->list->pdata;
}

const Finding *findings_by_id(const Findings *findings, const char *id)
{
    for (unsigned i = 0; i < findings->list->len; i++) {
        const Finding *finding = g_ptr_array_index(findings->list, i);

        if (strcmp(finding->id, id) == 0) {
            return finding;
        }
    }
    return NULL;
}

bool finding_wrong_value(GError **error, const char *group, const char *key, const char *value,
                         const char *expected)
{
    g_set_error(error, FINDINGS_ERROR, FINDINGS_ERROR_FORMAT, "[%s] %s = %s: %s is expected", group,
                key, value ? value : "(nothing)", expected);
    return false;
}

static bool take_string(GKeyFile *file, const char *group, const char *key, char **out,
                        GError **error)
{
    *out = g_key_file_get_string(file, group, key, NULL);
    return *out || finding_wrong_value(error, group, key, NULL, "a text");
}

bool finding_parse_number(const char *text, uint64_t *number)
{
    static const char suffixes[] = "KMGT";
    char *end;
    const char *suffix;

    *number = g_ascii_strtoull(text, &end, 0);
    if (end == text) {
        return false;
    }
    suffix = *end ? strchr(suffixes, *end) : NULL;
    if (suffix) {
        *number <<= 10 * (suffix - suffixes + 1);
        end++;
    }
    return *end == '\0';
}

static bool read_modes(GKeyFile *file, Finding *finding, GError **error)
{
    static const struct {
        const char *name;
        unsigned modes;
    } table[] = {
        { "any", FINDING_MODE_PLAIN | FINDING_MODE_MULTIFD | FINDING_MODE_LAZY },
        { "plain", FINDING_MODE_PLAIN },
        { "multifd", FINDING_MODE_MULTIFD },
        { "lazy", FINDING_MODE_LAZY },
    };
    g_autofree char *name = g_key_file_get_string(file, "finding", "mode", NULL);

    for (unsigned i = 0; name && i < G_N_ELEMENTS(table); i++) {
        if (strcmp(table[i].name, name) == 0) {
            finding->modes = table[i].modes;
            return true;
        }
    }
    return finding_wrong_value(error, "finding", "mode", name, "any, plain, multifd or lazy");
}

/* "crash SIGFPE; hang": what is behind the name is for people. */
static bool read_outcomes(const char *text, Finding *finding, GError **error)
{
    g_auto(GStrv) items = g_strsplit(text, ";", -1);

    for (unsigned i = 0; items[i]; i++) {
        const char *item = g_strstrip(items[i]);
        unsigned outcome = 0;

        while (outcome < FINDING_OUTCOME__MAX && !g_str_has_prefix(item, outcome_names[outcome])) {
            outcome++;
        }
        /* "refused" begins "refused wrongly", too. */
        if (g_str_has_prefix(item, outcome_names[FINDING_OUTCOME_REFUSED_WRONGLY])) {
            outcome = FINDING_OUTCOME_REFUSED_WRONGLY;
        }
        if (outcome == FINDING_OUTCOME__MAX) {
            return finding_wrong_value(error, "outcome", "...", item, "an outcome");
        }
        finding->outcomes |= 1u << outcome;
    }
    return true;
}

static bool read_outcome_group(GKeyFile *file, const char *subject, Finding *finding,
                               GError **error)
{
    g_auto(GStrv) keys = g_key_file_get_keys(file, "outcome", NULL, NULL);

    for (unsigned i = 0; keys && keys[i]; i++) {
        g_autofree char *text = g_key_file_get_string(file, "outcome", keys[i], NULL);

        if ((!subject || strcmp(keys[i], subject) == 0) && !read_outcomes(text, finding, error)) {
            return false;
        }
    }
    return keys || finding_wrong_value(error, "outcome", "qemu-tree", NULL, "an outcome");
}

/* "ram 1M 1M": idstr, used_length, max_length. */
static bool read_block(const char *text, GuestBlock *block)
{
    g_auto(GStrv) words = g_strsplit(text, " ", -1);

    if (g_strv_length(words) != 3 || !finding_parse_number(words[1], &block->used_length) ||
        !finding_parse_number(words[2], &block->max_length)) {
        return false;
    }
    block->host_page_size = 4096;
    return g_strlcpy(block->idstr, words[0], sizeof(block->idstr)) < sizeof(block->idstr);
}

static bool read_guest(GKeyFile *file, Guest *guest, GError **error)
{
    static const char group[] = "reproducer";
    g_autofree char *machine = g_key_file_get_string(file, group, "machine", NULL);
    g_autofree char *text = g_key_file_get_string(file, group, "blocks", NULL);
    g_auto(GStrv) blocks = g_strsplit(text ? text : "ram 1M 1M", ";", -1);

    guest->target_page_size = 4096;
    guest->x_ignore_shared = g_key_file_get_boolean(file, group, "x-ignore-shared", NULL);
    guest->clear_pages = g_key_file_get_boolean(file, group, "clear-pages", NULL);
    g_strlcpy(guest->machine, machine ? machine : "none", sizeof(guest->machine));
    for (unsigned i = 0; blocks[i]; i++) {
        if (i == GUEST_MAX_BLOCKS || !read_block(g_strstrip(blocks[i]), &guest->blocks[i])) {
            return finding_wrong_value(error, group, "blocks", text, "IDSTR USED MAX; ...");
        }
        guest->n_blocks = i + 1;
    }
    return true;
}

static bool read_range(GKeyFile *file, const char *group, const char *key, RuleBreak *broken,
                       GError **error)
{
    g_autofree char *text = g_key_file_get_string(file, group, key, NULL);
    g_auto(GStrv) ends = text ? g_strsplit(text, "-", 2) : NULL;

    broken->least = 0;
    broken->most = UINT64_MAX;
    if (!text) {
        return true;
    }
    if (!ends[0] || !finding_parse_number(ends[0], &broken->least)) {
        return finding_wrong_value(error, group, key, text, "NUMBER, FIRST-LAST or FIRST-");
    }
    if (!ends[1]) {
        broken->most = broken->least;
        return true;
    }
    return ends[1][0] == '\0' || finding_parse_number(ends[1], &broken->most) ||
           finding_wrong_value(error, group, key, text, "NUMBER, FIRST-LAST or FIRST-");
}

static bool wrong_rule(GError **error, const char *group, const char *key, const char *rule)
{
    return finding_wrong_value(error, group, key, rule, "a rule of docs/mapped-ram-format.md");
}

static bool read_other_break(GKeyFile *file, const char *group, RuleBreak *with, GError **error)
{
    g_autofree char *rule = g_key_file_get_string(file, group, "with rule", NULL);

    with->rule = rule ? rule_by_name(rule) : RULE__MAX;
    if (rule && with->rule == RULE__MAX) {
        return wrong_rule(error, group, "with rule", rule);
    }
    return read_range(file, group, "with value", with, error);
}

static bool read_repair(GKeyFile *file, const char *group, FindingRepair *repair, GError **error)
{
    g_autofree char *rule = g_key_file_get_string(file, group, "rule", NULL);
    g_autofree char *action = g_key_file_get_string(file, group, "action", NULL);

    repair->if_reads_fail = rule && strcmp(rule, "a read fails") == 0;
    repair->broken.rule = rule ? rule_by_name(rule) : RULE__MAX;
    if (repair->broken.rule == RULE__MAX && !repair->if_reads_fail) {
        return wrong_rule(error, group, "rule", rule);
    }
    repair->action = action ? finding_action_by_name(action) : NULL;
    if (!repair->action) {
        return finding_wrong_value(error, group, "action", action, "an action of docs/findings.md");
    }
    repair->field = g_key_file_get_string(file, group, "field", NULL);
    return read_range(file, group, "value", &repair->broken, error) &&
           read_other_break(file, group, &repair->with, error);
}

/* The groups [repair], [repair 2], ... */
static bool read_repairs(GKeyFile *file, Finding *finding, GError **error)
{
    g_auto(GStrv) groups = g_key_file_get_groups(file, NULL);

    finding->repairs = g_new0(FindingRepair, g_strv_length(groups));
    for (unsigned i = 0; groups[i]; i++) {
        FindingRepair *repair;

        if (!g_str_has_prefix(groups[i], "repair")) {
            continue;
        }
        repair = &finding->repairs[finding->n_repairs++];
        if (!read_repair(file, groups[i], repair, error)) {
            return false;
        }
        finding_triggers_add(&finding->triggers,
                             repair->if_reads_fail ? RULE__MAX : repair->broken.rule);
    }
    return finding->n_repairs > 0 || finding_wrong_value(error, "repair", "rule", NULL, "a repair");
}

static char *path_of(GKeyFile *file, const char *key, const char *folder)
{
    g_autofree char *name = g_key_file_get_string(file, "reproducer", key, NULL);

    return name ? g_build_filename(folder, name, NULL) : NULL;
}

static bool read_finding(GKeyFile *file, const char *folder, const char *subject, Finding *finding,
                         GError **error)
{
    g_autofree char *name = g_path_get_basename(folder);

    if (!take_string(file, "finding", "id", &finding->id, error) ||
        !take_string(file, "finding", "title", &finding->title, error) ||
        !take_string(file, "finding", "property", &finding->property, error)) {
        return false;
    }
    if (strcmp(finding->id, name) != 0) {
        return finding_wrong_value(error, "finding", "id", finding->id, "the folder's name");
    }
    finding->snapshot = path_of(file, "snapshot", folder);
    finding->input = path_of(file, "input", folder);
    finding->repeat = g_key_file_get_string(file, "reproducer", "repeat", NULL);
    finding->dirty_ram = g_key_file_get_boolean(file, "reproducer", "dirty-ram", NULL);
    finding->spared = g_key_file_get_boolean(file, "finding", "spared", NULL);
    if (!finding->snapshot && !finding->input) {
        return finding_wrong_value(error, "reproducer", "snapshot", NULL,
                                   "a file in the same folder");
    }
    return read_modes(file, finding, error) && read_outcome_group(file, subject, finding, error) &&
           read_guest(file, &finding->guest, error) && read_repairs(file, finding, error);
}

/* Of this subject, and since <= version < fixed. */
static bool is_registered(GKeyFile *file, const char *subject, const char *version)
{
    g_autofree char *since = g_key_file_get_string(file, "finding", "since", NULL);
    g_autofree char *fixed = g_key_file_get_string(file, "finding", "fixed", NULL);

    if (subject && !g_key_file_has_key(file, "outcome", subject, NULL)) {
        return false;
    }
    return !version || ((!since || findings_compare_versions(version, since) >= 0) &&
                        (!fixed || findings_compare_versions(version, fixed) < 0));
}

static bool add_finding(Findings *findings, const char *folder, const char *subject,
                        const char *version, GError **error)
{
    g_autofree char *path = g_build_filename(folder, FINDING_NAME, NULL);
    g_autoptr(GKeyFile) file = g_key_file_new();
    Finding *finding;

    if (!g_key_file_load_from_file(file, path, G_KEY_FILE_NONE, error)) {
        g_prefix_error(error, "%s: ", path);
        return false;
    }
    if (!is_registered(file, subject, version)) {
        return true;
    }
    finding = g_new0(Finding, 1);
    g_ptr_array_add(findings->list, finding);
    if (!read_finding(file, folder, subject, finding, error)) {
        g_prefix_error(error, "%s: ", path);
        return false;
    }
    return true;
}

static int compare_ids(gconstpointer a, gconstpointer b)
{
    const Finding *const *first = a;
    const Finding *const *second = b;

    return strcmp((*first)->id, (*second)->id);
}

Findings *findings_read(const char *folder, const char *subject, const char *version,
                        GError **error)
{
    g_autoptr(Findings) findings = findings_none();
    g_autoptr(GError) cause = NULL;
    g_autoptr(GDir) dir = g_dir_open(folder, 0, &cause);
    const char *name;

    if (!dir) {
        g_set_error_literal(error, FINDINGS_ERROR, FINDINGS_ERROR_IO, cause->message);
        return NULL;
    }
    while ((name = g_dir_read_name(dir))) {
        g_autofree char *path = g_build_filename(folder, name, NULL);

        if (g_file_test(path, G_FILE_TEST_IS_DIR) &&
            !add_finding(findings, path, subject, version, error)) {
            return NULL;
        }
    }
    g_ptr_array_sort(findings->list, compare_ids);
    return g_steal_pointer(&findings);
}

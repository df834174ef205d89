/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * `pagewise replay`: prints a stored fuzz input (property/input.h) as text and
 * runs its property on the reference loader. The check itself is the property
 * and nothing here; this only shows what the property will see.
 */
#include "tools/command.h"

#include "model/judge.h"
#include "model/snapshot.h"
#include "property/property.h"
#include "property/schedule.h"
#include "tools/listing.h"

#include <glib/gstdio.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* No engine makes inputs that are larger. */
#define INPUT_MAX_BYTES (UINT64_C(64) << 20)

const Command command_replay = {
    .name = "replay",
    .parameters = "INPUT...",
    .summary = "Print stored fuzz inputs as text, then run them",
    .help = "INPUT is a file of a corpus or one that a fuzzer stored. It is printed as text: who\n"
            "reads, what is read, what the specification says of it. Then its property runs on\n"
            "the reference loader, and either holds or is told broken in one paragraph. A folder\n"
            "stands for all files in it, with one line each.\n\n"
            "Exit status: 0: all properties hold; 1: one is broken; 2: a file is no input or\n"
            "cannot be read; 64: wrong arguments.",
    .min_parameters = 1,
    .max_parameters = G_MAXINT,
};

/* What an input is about: what its property will work on. */
typedef struct Case {
    Input input;
    Guest guest;
    Snapshot *snapshot; /* NULL: the file was given byte by byte */
    GString *mutations;
    SparseFile *file;
    Judgement judgement;
} Case;

static void case_clear(Case *c)
{
    g_clear_pointer(&c->snapshot, snapshot_free);
    g_string_free(c->mutations, TRUE);
    sparse_file_free(c->file);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Case, case_clear)

static void make_file(Case *c)
{
    if (input_has_choices(&c->input)) {
        c->snapshot = snapshot_new();
    }
    input_make_file(&c->input, c->snapshot, c->file, &c->guest, c->mutations);
}

static void judge(Case *c)
{
    if (c->input.kind == INPUT_HEADER) {
        judge_block(c->file, &c->guest, c->input.header_offset, c->input.used_length,
                    &c->judgement);
    } else {
        judge_file(c->file, &c->guest, &c->judgement);
    }
}

/* Makes the file that the input is about, and judges it. */
static void case_init(Case *c, const Input *input)
{
    *c = (Case){ .input = *input, .mutations = g_string_new(NULL), .file = sparse_file_new() };
    make_file(c);
    judge(c);
}

static void append_input(GString *out, const Input *input)
{
    static const struct {
        unsigned flag;
        const char *words;
    } flags[] = {
        { INPUT_DIRTY_RAM, "guest RAM is not zero before the load" },
        { INPUT_SPLIT, "the file is loaded in two stages, too" },
        { INPUT_RELOAD, "a right file is loaded afterwards" },
    };

    g_string_append_printf(out, "input     kind %s", input_kind_name(input->kind));
    for (unsigned i = 0; i < G_N_ELEMENTS(flags); i++) {
        if (input->flags & flags[i].flag) {
            g_string_append_printf(out, "; %s", flags[i].words);
        }
    }
    if (input->fail_read > 0 && input->cut > 0) {
        g_string_append_printf(out, "; at read number %" PRIu64 " the file is cut to %u/256",
                               input->fail_read, input->cut);
    } else if (input->fail_read > 0) {
        g_string_append_printf(out, "; read number %" PRIu64 " fails%s", input->fail_read,
                               input->axes & INPUT_AXIS_FAIL_FOR_EVER ? ", and all behind it" : "");
    }
    if (input->axes & INPUT_AXIS_REAL_FILE) {
        g_string_append(out, "; from a real file");
    }
    if (input->axes & INPUT_AXIS_MULTIFD) {
        g_string_append(out, "; pages by multifd's threads");
    }
    if (input->max_read_length > 0) {
        g_string_append_printf(out, "; reads give at most %" PRIu64 " bytes",
                               input->max_read_length);
    }
    g_string_append_c(out, '\n');
}

static void append_schedule(GString *out, const Input *input)
{
    static const struct {
        unsigned flag;
        const char *words;
    } flags[] = {
        { INPUT_LAZY_EAGER_THREAD, "an eager thread" },
        { INPUT_LAZY_REMOVE_EVENTS, "plain madvise() is heeded" },
        { INPUT_LAZY_MAPPED, "the file can be mapped" },
        { INPUT_LAZY_SAVE, "what was loaded is saved" },
    };

    g_string_append(out, "schedule ");
    for (unsigned i = 0; i < G_N_ELEMENTS(flags); i++) {
        if (input->lazy_flags & flags[i].flag) {
            g_string_append_printf(out, " %s;", flags[i].words);
        }
    }
    g_string_append_printf(out, " %u steps\n", input->n_steps);
    schedule_describe(input, out);
}

static void append_reader(GString *out, const Guest *guest)
{
    g_autofree char *machine = listing_quote(guest->machine);

    g_string_append_printf(out,
                           "reader    page size %" PRIu64
                           ", machine %s, x-ignore-shared %s, clear pages are %s\n",
                           guest->target_page_size, guest->machine[0] ? machine : "any",
                           guest->x_ignore_shared ? "on" : "off",
                           guest->clear_pages ? "cleared" : "left alone");
    for (unsigned i = 0; i < guest->n_blocks; i++) {
        const GuestBlock *block = &guest->blocks[i];
        g_autofree char *name = listing_quote(block->idstr);

        g_string_append_printf(out,
                               "  block %s: used_length 0x%" PRIx64 ", max_length 0x%" PRIx64 "\n",
                               name, block->used_length, block->max_length);
    }
}

static void append_file(GString *out, const Case *c)
{
    g_autofree char *data = listing_size(sparse_file_data_bytes(c->file));

    if (c->snapshot) {
        g_autofree char *text = snapshot_to_text(c->snapshot);

        g_string_append_printf(out, "\n%s\n", text);
        if (c->mutations->len > 0) {
            g_string_append_printf(out, "mutations applied, in this order:\n%s\n",
                                   c->mutations->str);
        }
    }
    g_string_append_printf(out, "file      0x%" PRIx64 " bytes, %s of them no hole\n",
                           sparse_file_size(c->file), data);
    if (c->input.kind == INPUT_HEADER) {
        g_string_append_printf(out,
                               "header    at 0x%" PRIx64 ", used_length of its record 0x%" PRIx64
                               "\n",
                               c->input.header_offset, c->input.used_length);
        listing_append_blocks(out, &c->judgement);
        return;
    }
    listing_append_stream(out, &c->judgement);
    listing_append_blocks(out, &c->judgement);
    listing_append_tail(out, &c->judgement);
}

static void print_case(const char *path, const Case *c)
{
    g_autoptr(GString) out = g_string_new(NULL);

    g_string_append_printf(out, "%s\n", path);
    append_input(out, &c->input);
    if (c->input.kind == INPUT_LAZY) {
        append_schedule(out, &c->input);
    }
    append_reader(out, &c->guest);
    append_file(out, c);
    g_string_append_printf(out, "verdict   %s\n", verdict_name(c->judgement.verdict));
    listing_append_violations(out, &c->judgement);
    fputs(out->str, stdout);
    /* The property may crash: that is what it is for. */
    fflush(stdout);
}

static void print_counters(const PropertyStats *stats)
{
    if (stats->too_large > 0) {
        printf("not run: more RAM than one execution may load\n");
        return;
    }
    printf("holds: %" PRIu64 " loads accepted, %" PRIu64 " refused, %" PRIu64
           " not supported, %" PRIu64 " pages compared\n",
           stats->accepted, stats->refused, stats->unsupported, stats->pages);
    if (stats->lazy > 0) {
        printf("lazily: %" PRIu64 " loads, %" PRIu64 " faults served, %" PRIu64
               " loads failed after they had begun\n",
               stats->lazy, stats->faults, stats->failed);
    }
    if (stats->left_out > 0) {
        printf("left out: %" PRIu64 " steps that this loader cannot do\n", stats->left_out);
    }
}

static int run_property(const Input *input, const uint8_t *data, size_t size)
{
    g_autoptr(PropertyContext) context = property_context_new(subject_reference());
    const Property *property = property_for_kind(input->kind);
    g_autoptr(GError) error = NULL;

    if (property->function(context, data, size, &error)) {
        print_counters(property_context_stats(context));
        return STATUS_OK;
    }
    printf("broken: %s\n", error->message);
    return g_error_matches(error, PROPERTY_ERROR, error->code) ? STATUS_DIFFERENT : STATUS_TROUBLE;
}

static uint8_t *read_input(const char *path, size_t *size, GError **error)
{
    char *bytes;
    GStatBuf status;

    if (g_stat(path, &status) == 0 && !S_ISREG(status.st_mode)) {
        g_set_error_literal(error, COMMAND_ERROR, COMMAND_ERROR_INPUT, "is no regular file");
        return NULL;
    }
    if (g_stat(path, &status) == 0 && (uint64_t)status.st_size > INPUT_MAX_BYTES) {
        g_set_error_literal(error, COMMAND_ERROR, COMMAND_ERROR_INPUT,
                            "is over 64 MiB: no fuzz input is; `pagewise inspect` shows snapshots");
        return NULL;
    }
    return g_file_get_contents(path, &bytes, size, error) ? (uint8_t *)bytes : NULL;
}

static bool decode(const uint8_t *data, size_t size, Input *input, GError **error)
{
    if (input_decode(data, size, input)) {
        return true;
    }
    if (size >= 4 && memcmp(data, "QEVM", 4) == 0) {
        g_set_error_literal(error, COMMAND_ERROR, COMMAND_ERROR_INPUT,
                            "is a snapshot, no fuzz input: `pagewise inspect` shows it");
    } else if (size < 2) {
        g_set_error(error, COMMAND_ERROR, COMMAND_ERROR_INPUT, "is no fuzz input: it has %zu bytes",
                    size);
    } else {
        g_set_error(error, COMMAND_ERROR, COMMAND_ERROR_INPUT,
                    "is no fuzz input of version %u: byte 0, the version, is %u, byte 1, the kind, "
                    "is %u (property/input.h)",
                    INPUT_VERSION, data[0], data[1]);
    }
    return false;
}

/* An input without a file: its property tells what it is about. */
static void print_described(const char *path, const Input *input, const uint8_t *data, size_t size,
                            bool in_folder, bool text_only)
{
    g_autoptr(GString) out = g_string_new(NULL);

    if (in_folder) {
        g_string_append_printf(out, "%s: %s%s", path, input_kind_name(input->kind),
                               text_only ? "\n" : ", ");
    } else {
        g_string_append_printf(out, "%s\ninput     kind %s\n", path, input_kind_name(input->kind));
        property_for_kind(input->kind)->describe(data, size, out);
    }
    fputs(out->str, stdout);
    fflush(stdout);
}

static void print_with_file(const char *path, const Input *input, bool in_folder, bool text_only)
{
    g_auto(Case) c;

    case_init(&c, input);
    if (in_folder) {
        printf("%s: %s, %s%s", path, input_kind_name(input->kind),
               verdict_name(c.judgement.verdict), text_only ? "\n" : ", ");
        fflush(stdout);
    } else {
        print_case(path, &c);
    }
}

/* @in_folder: one line, if all is well. */
static int replay_input(const char *path, const Input *input, const uint8_t *data, size_t size,
                        bool in_folder, bool text_only)
{
    if (input_kind_has_file(input->kind)) {
        print_with_file(path, input, in_folder, text_only);
    } else {
        print_described(path, input, data, size, in_folder, text_only);
    }
    return text_only ? STATUS_OK : run_property(input, data, size);
}

static int replay_file(const char *path, bool in_folder, bool text_only)
{
    g_autoptr(GError) error = NULL;
    size_t size;
    g_autofree uint8_t *data = read_input(path, &size, &error);
    Input input;

    if (!data || !decode(data, size, &input, &error)) {
        return command_fail(&command_replay, path, error);
    }
    return replay_input(path, &input, data, size, in_folder, text_only);
}

static int compare_names(gconstpointer a, gconstpointer b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The paths of all visible entries that are no folders, in order; NULL on error. */
static GPtrArray *list_folder(const char *folder, GError **error)
{
    g_autoptr(GDir) dir = g_dir_open(folder, 0, error);
    g_autoptr(GPtrArray) paths = g_ptr_array_new_with_free_func(g_free);
    const char *name;

    if (!dir) {
        return NULL;
    }
    while ((name = g_dir_read_name(dir))) {
        g_autofree char *path = g_build_filename(folder, name, NULL);

        if (name[0] != '.' && !g_file_test(path, G_FILE_TEST_IS_DIR)) {
            g_ptr_array_add(paths, g_steal_pointer(&path));
        }
    }
    if (paths->len == 0) {
        g_set_error_literal(error, COMMAND_ERROR, COMMAND_ERROR_INPUT,
                            "is a folder without any file: name one with inputs");
        return NULL;
    }
    g_ptr_array_sort(paths, compare_names);
    return g_steal_pointer(&paths);
}

static int replay_folder(const char *folder, bool text_only)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) paths = list_folder(folder, &error);
    int status = STATUS_OK;

    if (!paths) {
        return command_fail(&command_replay, folder, error);
    }
    for (unsigned i = 0; i < paths->len; i++) {
        int one = replay_file(paths->pdata[i], true, text_only);

        status = MAX(status, one);
    }
    return status;
}

int run_replay(int argc, char **argv)
{
    gboolean text_only = FALSE;
    const GOptionEntry own[] = {
        { "text-only", 0, 0, G_OPTION_ARG_NONE, &text_only, "Print the text, run nothing", NULL },
        G_OPTION_ENTRY_NULL,
    };
    int status = STATUS_OK;

    if (!command_parse(&command_replay, own, &argc, &argv)) {
        return STATUS_USAGE;
    }
    for (int i = 1; i < argc; i++) {
        int one = g_file_test(argv[i], G_FILE_TEST_IS_DIR) ? replay_folder(argv[i], text_only)
                                                           : replay_file(argv[i], false, text_only);

        status = MAX(status, one);
    }
    return status;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The text form of a snapshot's description, docs/snapshot-text.md: written by
 * hand for `pagewise make`, and printed by `pagewise replay`. What is left out
 * has the value that QEMU would write; what is there is taken as it is, wrong
 * or not. It must not judge.
 */
#include "model/snapshot-fields.h"
#include "model/snapshot.h"

#include <string.h>

#define SNAPSHOT_GROUP "snapshot"

static const char *const content_names[CONTENT__MAX] = {
    [CONTENT_PATTERN] = "pattern", [CONTENT_FILL] = "fill",   [CONTENT_DATA] = "data",
    [CONTENT_ABSENT] = "absent",   [CONTENT_STALE] = "stale", [CONTENT_STALE_DATA] = "stale-data",
};

/*
 * Names: printable ASCII as it is, other bytes as \xHH, also the characters
 * that the lists use. The empty name is "".
 */

static bool is_plain(uint8_t byte)
{
    return byte > ' ' && byte < 0x7f && !strchr("\\;\"#[]", byte);
}

static void append_name(GString *out, const void *name, size_t length)
{
    const uint8_t *bytes = name;

    if (length == 0) {
        g_string_append(out, "\"\"");
    }
    for (size_t i = 0; i < length; i++) {
        if (is_plain(bytes[i])) {
            g_string_append_c(out, bytes[i]);
        } else {
            g_string_append_printf(out, "\\x%02x", bytes[i]);
        }
    }
}

static void append_hex(GString *out, const uint8_t *bytes, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        g_string_append_printf(out, "%02x", bytes[i]);
    }
}

static bool parse_name(const char *text, GByteArray *name)
{
    g_byte_array_set_size(name, 0);
    if (strcmp(text, "\"\"") == 0) {
        return true;
    }
    while (*text) {
        uint8_t byte = *text;

        if (byte == '\\') {
            if (text[1] != 'x' || !g_ascii_isxdigit(text[2]) || !g_ascii_isxdigit(text[3])) {
                return false;
            }
            byte = g_ascii_xdigit_value(text[2]) << 4 | g_ascii_xdigit_value(text[3]);
            text += 3;
        }
        g_byte_array_append(name, &byte, 1);
        text++;
    }
    return true;
}

static bool parse_hex(const char *text, GByteArray *bytes)
{
    for (; *text; text += 2) {
        uint8_t byte;

        if (!g_ascii_isxdigit(text[0]) || !g_ascii_isxdigit(text[1])) {
            return false;
        }
        byte = g_ascii_xdigit_value(text[0]) << 4 | g_ascii_xdigit_value(text[1]);
        g_byte_array_append(bytes, &byte, 1);
    }
    return true;
}

static bool parse_base64(const char *text, GByteArray *bytes)
{
    g_autofree uint8_t *decoded = NULL;
    g_autofree char *encoded = NULL;
    size_t length;

    decoded = g_base64_decode(text, &length);
    if (length > 0) {
        g_byte_array_append(bytes, decoded, length);
    }
    encoded = g_base64_encode(decoded, length);
    return strcmp(encoded, text) == 0;
}

static unsigned suffix_shift(char suffix)
{
    static const char suffixes[] = "KMGTPE";
    const char *found = strchr(suffixes, g_ascii_toupper(suffix));

    return 10 * (1 + (found - suffixes));
}

/* 4096, 0x1000, 4K: at most @max. */
static bool parse_number(const char *text, uint64_t max, uint64_t *value)
{
    char *end;
    unsigned shift = 0;

    if (!g_ascii_isdigit(*text)) {
        return false;
    }
    errno = 0;
    *value = g_ascii_strtoull(text, &end, g_str_has_prefix(text, "0x") ? 16 : 10);
    if (errno != 0) {
        return false;
    }
    if (*end && strchr("KMGTPEkmgtpe", *end)) {
        shift = suffix_shift(*end);
        end++;
    }
    if (*end || *value > max >> shift) {
        return false;
    }
    *value <<= shift;
    return true;
}

/* Writing. */

typedef struct TextWriter {
    GString *out;
    const Snapshot *snapshot;
    Snapshot *plain; /* what the text without optional keys would give */
} TextWriter;

static void write_number(TextWriter *w, const char *key, uint64_t value)
{
    const char *format =
        value < 10 ? "%s = %" G_GINT64_MODIFIER "u\n" : "%s = 0x%" G_GINT64_MODIFIER "x\n";

    g_string_append_printf(w->out, format, key, value);
}

static void write_fields(TextWriter *w, const void *object, const void *plain,
                         const SnapshotField *fields, unsigned n_fields)
{
    for (unsigned i = 0; i < n_fields; i++) {
        uint64_t value = snapshot_field_get(object, &fields[i]);

        if (value != snapshot_field_get(plain, &fields[i])) {
            write_number(w, fields[i].name, value);
        }
    }
}

static void write_name(TextWriter *w, const char *key, const void *name, size_t length)
{
    g_string_append_printf(w->out, "%s = ", key);
    append_name(w->out, name, length);
    g_string_append_c(w->out, '\n');
}

static void write_capabilities(TextWriter *w)
{
    const GArray *capabilities = w->snapshot->capabilities;

    g_string_append(w->out, "capabilities =");
    for (unsigned i = 0; i < capabilities->len; i++) {
        const SnapshotCapability *capability = &g_array_index(capabilities, SnapshotCapability, i);

        g_string_append_c(w->out, ' ');
        append_name(w->out, capability->name, capability->length);
    }
    g_string_append_c(w->out, '\n');
}

static void write_subsections(TextWriter *w)
{
    const GArray *subsections = w->snapshot->subsections;

    g_string_append(w->out, "subsections =");
    for (unsigned i = 0; i < subsections->len; i++) {
        const SnapshotSubsection *sub = &g_array_index(subsections, SnapshotSubsection, i);

        g_string_append(w->out, i > 0 ? "; " : " ");
        append_name(w->out, sub->name, sub->name_length);
        g_string_append_printf(w->out, " %u %s", sub->version, sub->contents ? "hex " : "list");
        append_hex(w->out, sub->contents, sub->contents ? sub->contents_length : 0);
    }
    g_string_append_c(w->out, '\n');
}

static void write_tail(TextWriter *w)
{
    const GByteArray *tail = w->snapshot->tail;
    g_autoptr(GByteArray) usual = g_byte_array_new();
    g_autofree char *base64 = NULL;

    snapshot_append_tail(usual, w->snapshot->section_id);
    if (tail->len == usual->len && memcmp(tail->data, usual->data, usual->len) == 0) {
        return;
    }
    g_string_append(w->out, "tail =");
    if (tail->len > 64) {
        base64 = g_base64_encode(tail->data, tail->len);
        g_string_append_printf(w->out, " base64 %s", base64);
    } else if (tail->len > 0) {
        g_string_append(w->out, " hex ");
        append_hex(w->out, tail->data, tail->len);
    }
    g_string_append_c(w->out, '\n');
}

static void write_poke(GString *out, const SparseExtent *poke)
{
    g_autofree char *base64 = NULL;

    g_string_append_printf(out, " 0x%" G_GINT64_MODIFIER "x ", poke->offset);
    if (poke->kind == SPARSE_PATTERN) {
        g_string_append_printf(out, "pattern %u 0x%" G_GINT64_MODIFIER "x", poke->seed,
                               poke->length);
    } else if (poke->kind == SPARSE_FILL) {
        g_string_append_printf(out, "fill 0x%02x 0x%" G_GINT64_MODIFIER "x", poke->seed & 0xff,
                               poke->length);
    } else if (poke->length > 64) {
        base64 = g_base64_encode(poke->data, poke->length);
        g_string_append_printf(out, "base64 %s", base64);
    } else {
        g_string_append(out, "hex ");
        append_hex(out, poke->data, poke->length);
    }
}

static void write_pokes(TextWriter *w)
{
    const GArray *pokes = w->snapshot->pokes;

    if (pokes->len == 0) {
        return;
    }
    g_string_append(w->out, "pokes =");
    for (unsigned i = 0; i < pokes->len; i++) {
        if (i > 0) {
            g_string_append_c(w->out, ';');
        }
        write_poke(w->out, &g_array_index(pokes, SparseExtent, i));
    }
    g_string_append_c(w->out, '\n');
}

static bool has_usual_capabilities(const Snapshot *snapshot)
{
    const SnapshotCapability *first;

    if (snapshot->capabilities->len != 1) {
        return false;
    }
    first = &g_array_index(snapshot->capabilities, SnapshotCapability, 0);
    return first->length == 10 && memcmp(first->name, "mapped-ram", 10) == 0;
}

static bool has_usual_subsections(const Snapshot *snapshot)
{
    static const char name[] = "configuration/capabilities";
    const SnapshotSubsection *first;

    if (snapshot->subsections->len != 1) {
        return false;
    }
    first = &g_array_index(snapshot->subsections, SnapshotSubsection, 0);
    return first->name_length == sizeof(name) - 1 &&
           memcmp(first->name, name, sizeof(name) - 1) == 0 && first->version == 1 &&
           !first->contents;
}

static void write_snapshot(TextWriter *w)
{
    const Snapshot *s = w->snapshot;

    g_string_append(w->out, "[" SNAPSHOT_GROUP "]\n");
    if (s->machine->len != 4 || memcmp(s->machine->data, "none", 4) != 0) {
        write_name(w, "machine", s->machine->data, s->machine->len);
    }
    if (!has_usual_capabilities(s)) {
        write_capabilities(w);
    }
    if (!has_usual_subsections(s)) {
        write_subsections(w);
    }
    if (s->section_name_length != 3 || memcmp(s->section_name, "ram", 3) != 0) {
        write_name(w, "section_name", s->section_name, s->section_name_length);
    }
    /* All but file_size, the last: it is there or not. */
    write_fields(w, s, w->plain, snapshot_fields, SNAPSHOT_N_FIELDS - 1);
    write_tail(w);
    write_pokes(w);
    if (s->truncate) {
        write_number(w, "file_size", s->file_size);
    }
}

static void write_run(GString *out, const PageRun *run)
{
    if (run->count == 1) {
        g_string_append_printf(out, " %" G_GINT64_MODIFIER "u", run->first);
    } else if (run->count > 1 && run->first + (run->count - 1) > run->first) {
        g_string_append_printf(out, " %" G_GINT64_MODIFIER "u-%" G_GINT64_MODIFIER "u", run->first,
                               run->first + (run->count - 1));
    } else {
        g_string_append_printf(out, " %" G_GINT64_MODIFIER "u+%" G_GINT64_MODIFIER "u", run->first,
                               run->count);
    }
    g_string_append_printf(out, " %s", content_names[run->content]);
    switch (run->content) {
    case CONTENT_PATTERN:
    case CONTENT_STALE:
        g_string_append_printf(out, " %u", run->seed);
        break;
    case CONTENT_FILL:
        g_string_append_printf(out, " 0x%02x", run->seed & 0xff);
        break;
    case CONTENT_DATA:
    case CONTENT_STALE_DATA: {
        g_autofree char *base64 = g_base64_encode(run->data, run->data_length);

        g_string_append_printf(out, " %s", base64);
        break;
    }
    default:
        break;
    }
}

static void write_runs(TextWriter *w, const SnapshotBlock *block)
{
    if (block->runs->len == 0) {
        return;
    }
    g_string_append(w->out, "pages =");
    for (unsigned i = 0; i < block->runs->len; i++) {
        if (i > 0) {
            g_string_append_c(w->out, ';');
        }
        write_run(w->out, &g_array_index(block->runs, PageRun, i));
    }
    g_string_append_c(w->out, '\n');
}

static void write_block(TextWriter *w, unsigned index)
{
    const SnapshotBlock *block = snapshot_block(w->snapshot, index);

    g_string_append_printf(w->out, "\n[block %u]\n", index);
    write_name(w, "idstr", block->idstr, block->idstr_length);
    write_number(w, "used_length", block->used_length);
    if (block->has_gpa) {
        write_number(w, "gpa", block->gpa);
    }
    if (block->ignored) {
        g_string_append(w->out, "ignored = 1\n");
    }
    /* All but used_length and gpa, the first two. */
    write_fields(w, block, snapshot_block(w->plain, index), snapshot_block_fields + 2,
                 SNAPSHOT_N_BLOCK_FIELDS - 2);
    write_runs(w, block);
}

/*
 * Gives the fields of role FIELD_VALUE their defaults; those of FIELD_LAID get
 * theirs from snapshot_layout(). Used by reader and writer alike, so that they
 * agree on what may be left out.
 */
static void set_defaults(Snapshot *snapshot)
{
    snapshot->footer_id = snapshot->section_id;
    for (unsigned i = 0; i < snapshot->blocks->len; i++) {
        SnapshotBlock *block = snapshot_block(snapshot, i);

        block->version = 1;
        block->page_size = snapshot->page_size;
    }
}

/* @snapshot as it would be without any key that can be left out. */
static Snapshot *make_plain(const Snapshot *snapshot)
{
    g_autoptr(Snapshot) usual = snapshot_new();
    Snapshot *plain = snapshot_new();

    snapshot_copy(plain, snapshot);
    for (unsigned i = 0; i < SNAPSHOT_N_FIELDS; i++) {
        if (snapshot_fields[i].role == FIELD_VALUE) {
            snapshot_field_set(plain, &snapshot_fields[i],
                               snapshot_field_get(usual, &snapshot_fields[i]));
        }
    }
    plain->section_id = snapshot->section_id;
    set_defaults(plain);
    snapshot_layout(plain, snapshot->pages_alignment);
    plain->section_id = usual->section_id;
    plain->page_size = usual->page_size;
    plain->pages_alignment = usual->pages_alignment;
    return plain;
}

char *snapshot_to_text(const Snapshot *snapshot)
{
    g_autoptr(Snapshot) plain = make_plain(snapshot);
    TextWriter writer = { g_string_new(NULL), snapshot, plain };

    write_snapshot(&writer);
    for (unsigned i = 0; i < snapshot->blocks->len; i++) {
        write_block(&writer, i);
    }
    return g_string_free(writer.out, false);
}

/* Reading. */

typedef struct TextReader {
    GKeyFile *file;
    Snapshot *snapshot;
    GByteArray *bytes; /* scratch */
    GError **error;
} TextReader;

static bool G_GNUC_PRINTF(4, 5)
    fail(TextReader *r, const char *group, const char *key, const char *format, ...)
{
    g_autofree char *value = g_key_file_get_value(r->file, group, key, NULL);
    g_autofree char *expected = NULL;
    va_list arguments;

    va_start(arguments, format);
    expected = g_strdup_vprintf(format, arguments);
    va_end(arguments);
    g_set_error(r->error, G_KEY_FILE_ERROR, G_KEY_FILE_ERROR_INVALID_VALUE, "[%s] %s = %.100s: %s",
                group, key, value, expected);
    return false;
}

/* The value, or NULL if the key is not there. Free with g_free(). */
static char *get_value(TextReader *r, const char *group, const char *key)
{
    char *value = g_key_file_get_value(r->file, group, key, NULL);

    return value ? g_strstrip(value) : NULL;
}

static bool read_number(TextReader *r, const char *group, const char *key, unsigned size,
                        bool *there, uint64_t *value)
{
    g_autofree char *text = get_value(r, group, key);
    uint64_t max = UINT64_MAX >> (64 - 8 * size);

    *there = text != NULL;
    if (!text || parse_number(text, max, value)) {
        return true;
    }
    return fail(r, group, key,
                "a number from 0 to 0x%" G_GINT64_MODIFIER "x is expected, such as 4096, 0x1000 "
                "or 4K",
                max);
}

static bool read_fields(TextReader *r, const char *group, void *object, const SnapshotField *fields,
                        unsigned n_fields)
{
    for (unsigned i = 0; i < n_fields; i++) {
        bool there;
        uint64_t value;

        if (!read_number(r, group, fields[i].name, fields[i].size, &there, &value)) {
            return false;
        }
        if (there) {
            snapshot_field_set(object, &fields[i], value);
        }
    }
    return true;
}

/* A name of up to 255 bytes; left as it is where the key is not there. */
static bool read_name(TextReader *r, const char *group, const char *key, char *name,
                      uint8_t *length)
{
    g_autofree char *text = get_value(r, group, key);

    if (!text) {
        return true;
    }
    if (!parse_name(text, r->bytes) || r->bytes->len > UINT8_MAX) {
        return fail(r, group, key,
                    "a name of at most 255 bytes is expected, \\xHH in it for "
                    "bytes that are not printable");
    }
    *length = r->bytes->len;
    if (*length > 0) {
        memcpy(name, r->bytes->data, *length);
    }
    return true;
}

static bool read_machine(TextReader *r)
{
    g_autofree char *text = get_value(r, SNAPSHOT_GROUP, "machine");

    if (!text) {
        return true;
    }
    if (!parse_name(text, r->bytes)) {
        return fail(r, SNAPSHOT_GROUP, "machine",
                    "a name is expected, \\xHH in it for bytes that are not printable");
    }
    snapshot_set_machine(r->snapshot, r->bytes->data, r->bytes->len);
    return true;
}

/* Splits at @delimiters, without the empty pieces. */
static char **split(const char *text, const char *delimiters)
{
    g_auto(GStrv) pieces = g_strsplit_set(text, delimiters, -1);
    GPtrArray *kept = g_ptr_array_new();

    for (unsigned i = 0; pieces[i]; i++) {
        if (*g_strstrip(pieces[i])) {
            g_ptr_array_add(kept, g_strdup(pieces[i]));
        }
    }
    g_ptr_array_add(kept, NULL);
    return (char **)g_ptr_array_free(kept, false);
}

static bool read_capabilities(TextReader *r)
{
    g_autofree char *text = get_value(r, SNAPSHOT_GROUP, "capabilities");
    g_auto(GStrv) names = NULL;

    if (!text) {
        return true;
    }
    names = split(text, " ");
    g_array_set_size(r->snapshot->capabilities, 0);
    for (unsigned i = 0; names[i]; i++) {
        SnapshotCapability *capability;

        if (!parse_name(names[i], r->bytes) || r->bytes->len > UINT8_MAX) {
            return fail(r, SNAPSHOT_GROUP, "capabilities",
                        "'%s' is not a name of at most 255 bytes", names[i]);
        }
        snapshot_add_capability(r->snapshot, "");
        capability = &g_array_index(r->snapshot->capabilities, SnapshotCapability, i);
        capability->length = r->bytes->len;
        if (r->bytes->len > 0) {
            memcpy(capability->name, r->bytes->data, r->bytes->len);
        }
    }
    return true;
}

/* "configuration/uuid 1 hex 00112233...", "configuration/capabilities 1 list" */
static bool read_subsection(TextReader *r, const char *item)
{
    g_auto(GStrv) words = split(item, " ");
    unsigned n_words = g_strv_length(words);
    SnapshotSubsection sub = { .contents = NULL };
    uint64_t version;

    if (n_words < 3 || n_words > 4 || !parse_name(words[0], r->bytes) ||
        r->bytes->len > UINT8_MAX || !parse_number(words[1], UINT32_MAX, &version)) {
        return false;
    }
    sub.name_length = r->bytes->len;
    if (sub.name_length > 0) {
        memcpy(sub.name, r->bytes->data, sub.name_length);
    }
    sub.version = version;
    g_byte_array_set_size(r->bytes, 0);
    if (strcmp(words[2], "hex") == 0) {
        uint8_t *contents;

        if (n_words == 4 && !parse_hex(words[3], r->bytes)) {
            return false;
        }
        contents = snapshot_alloc(r->snapshot, r->bytes->len);
        if (r->bytes->len > 0) {
            memcpy(contents, r->bytes->data, r->bytes->len);
        }
        sub.contents = contents;
        sub.contents_length = r->bytes->len;
    } else if (strcmp(words[2], "list") != 0 || n_words != 3) {
        return false;
    }
    g_array_append_val(r->snapshot->subsections, sub);
    return true;
}

static bool read_subsections(TextReader *r)
{
    g_autofree char *text = get_value(r, SNAPSHOT_GROUP, "subsections");
    g_auto(GStrv) items = NULL;

    if (!text) {
        return true;
    }
    items = split(text, ";");
    g_array_set_size(r->snapshot->subsections, 0);
    for (unsigned i = 0; items[i]; i++) {
        if (!read_subsection(r, items[i])) {
            return fail(r, SNAPSHOT_GROUP, "subsections",
                        "'%.60s' is not 'NAME VERSION list' or 'NAME VERSION hex BYTES'", items[i]);
        }
    }
    return true;
}

/* "command 11", "command 11 0102" */
static bool read_tail_command(TextReader *r, char **words, unsigned n_words)
{
    uint64_t command;

    g_byte_array_set_size(r->bytes, 0);
    if (n_words < 2 || n_words > 3 || !parse_number(words[1], UINT16_MAX, &command) ||
        (n_words == 3 && !parse_hex(words[2], r->bytes)) || r->bytes->len > UINT16_MAX) {
        return false;
    }
    snapshot_append_command(r->snapshot->tail, command, r->bytes->data, r->bytes->len);
    return true;
}

/* "full NAME INSTANCE VERSION", "start NAME INSTANCE VERSION"; contents follow as hex. */
static bool read_tail_section(TextReader *r, char **words, unsigned n_words)
{
    bool full = strcmp(words[0], "full") == 0;
    uint64_t instance;
    uint64_t version;

    if (n_words != 4 || !parse_name(words[1], r->bytes) || r->bytes->len > UINT8_MAX ||
        !parse_number(words[2], UINT32_MAX, &instance) ||
        !parse_number(words[3], UINT32_MAX, &version)) {
        return false;
    }
    g_byte_array_append(r->bytes, (const uint8_t *)"", 1);
    snapshot_append_section(r->snapshot->tail,
                            full ? SNAPSHOT_SECTION_FULL : SNAPSHOT_SECTION_START,
                            r->snapshot->section_id + 1, (const char *)r->bytes->data, instance,
                            version);
    return true;
}

static bool read_tail_item(TextReader *r, const char *item)
{
    g_auto(GStrv) words = split(item, " ");
    unsigned n_words = g_strv_length(words);
    GByteArray *tail = r->snapshot->tail;
    uint32_t id = r->snapshot->section_id;

    if (strcmp(words[0], "command") == 0) {
        return read_tail_command(r, words, n_words);
    }
    if (strcmp(words[0], "full") == 0 || strcmp(words[0], "start") == 0) {
        return read_tail_section(r, words, n_words);
    }
    if (strcmp(words[0], "hex") == 0) {
        return n_words == 2 && parse_hex(words[1], tail);
    }
    if (strcmp(words[0], "base64") == 0) {
        return n_words == 2 && parse_base64(words[1], tail);
    }
    if (strcmp(words[0], "part") == 0) {
        snapshot_append_ram_section(tail, SNAPSHOT_SECTION_PART, id);
    } else if (strcmp(words[0], "end") == 0) {
        snapshot_append_ram_section(tail, SNAPSHOT_SECTION_END, id);
    } else if (strcmp(words[0], "eof") == 0) {
        g_byte_array_append(tail, (const uint8_t *)"", 1);
    } else if (strcmp(words[0], "default") == 0) {
        snapshot_append_tail(tail, id);
    } else {
        return false;
    }
    return n_words == 1;
}

static bool read_tail(TextReader *r)
{
    g_autofree char *text = get_value(r, SNAPSHOT_GROUP, "tail");
    g_auto(GStrv) items = NULL;

    g_byte_array_set_size(r->snapshot->tail, 0);
    items = split(text ? text : "default", ";");
    for (unsigned i = 0; items[i]; i++) {
        if (!read_tail_item(r, items[i])) {
            return fail(r, SNAPSHOT_GROUP, "tail",
                        "'%.60s' is none of 'default', 'part', 'end', 'eof', 'command N [HEX]', "
                        "'full NAME INSTANCE VERSION', 'start ...', 'hex BYTES', 'base64 BYTES'",
                        items[i]);
        }
    }
    return true;
}

/* "0x40 hex 0102", "0x40 base64 AQI=", "0x40 fill 0xab 4K", "0x40 pattern 7 4K" */
static bool read_poke(TextReader *r, const char *item)
{
    g_auto(GStrv) words = split(item, " ");
    unsigned n_words = g_strv_length(words);
    SparseExtent poke = { .kind = SPARSE_PATTERN };
    uint64_t seed;
    bool fill;

    if (n_words < 3 || !parse_number(words[0], UINT64_MAX, &poke.offset)) {
        return false;
    }
    g_byte_array_set_size(r->bytes, 0);
    if (n_words == 3) {
        if (strcmp(words[1], "hex") == 0
                ? !parse_hex(words[2], r->bytes)
                : strcmp(words[1], "base64") != 0 || !parse_base64(words[2], r->bytes)) {
            return false;
        }
        snapshot_add_poke(r->snapshot, poke.offset, r->bytes->data, r->bytes->len);
        return true;
    }
    fill = strcmp(words[1], "fill") == 0;
    if (n_words > 4 || (!fill && strcmp(words[1], "pattern") != 0) ||
        !parse_number(words[2], fill ? UINT8_MAX : UINT32_MAX, &seed) ||
        !parse_number(words[3], UINT64_MAX, &poke.length)) {
        return false;
    }
    poke.kind = fill ? SPARSE_FILL : SPARSE_PATTERN;
    poke.seed = seed;
    g_array_append_val(r->snapshot->pokes, poke);
    return true;
}

static bool read_pokes(TextReader *r)
{
    g_autofree char *text = get_value(r, SNAPSHOT_GROUP, "pokes");
    g_auto(GStrv) items = split(text ? text : "", ";");

    for (unsigned i = 0; items[i]; i++) {
        if (!read_poke(r, items[i])) {
            return fail(r, SNAPSHOT_GROUP, "pokes",
                        "'%.60s' is not 'OFFSET hex BYTES', 'OFFSET base64 BYTES', 'OFFSET fill "
                        "BYTE LENGTH' or 'OFFSET pattern SEED LENGTH'",
                        items[i]);
        }
    }
    return true;
}

/* "7", "0-3", "5+2": first page, and how many. */
static bool parse_range(const char *text, PageRun *run)
{
    g_auto(GStrv) ends = g_strsplit_set(text, "-+", 2);
    uint64_t second;

    if (!parse_number(ends[0], UINT64_MAX, &run->first)) {
        return false;
    }
    run->count = 1;
    if (!ends[1]) {
        return true;
    }
    if (!parse_number(ends[1], UINT64_MAX, &second)) {
        return false;
    }
    if (strchr(text, '+')) {
        run->count = second;
        return true;
    }
    run->count = second - run->first + 1;
    return second >= run->first && run->count != 0;
}

static bool read_run_data(TextReader *r, const char *base64, PageRun *run)
{
    uint8_t *data;

    g_byte_array_set_size(r->bytes, 0);
    if (base64 && !parse_base64(base64, r->bytes)) {
        return false;
    }
    data = snapshot_alloc(r->snapshot, r->bytes->len);
    if (r->bytes->len > 0) {
        memcpy(data, r->bytes->data, r->bytes->len);
    }
    run->data = data;
    run->data_length = r->bytes->len;
    return true;
}

static bool read_run_content(TextReader *r, char **words, unsigned n_words, PageRun *run)
{
    const char *argument = n_words > 2 ? words[2] : NULL;
    uint64_t seed = 1;

    if (n_words < 2) {
        run->content = CONTENT_PATTERN;
        run->seed = 1;
        return true;
    }
    while (run->content < CONTENT__MAX && strcmp(words[1], content_names[run->content]) != 0) {
        run->content++;
    }
    switch (run->content) {
    case CONTENT_DATA:
    case CONTENT_STALE_DATA:
        return read_run_data(r, argument, run);
    case CONTENT_ABSENT:
        return !argument;
    case CONTENT_FILL:
    case CONTENT_PATTERN:
    case CONTENT_STALE:
        if (argument &&
            !parse_number(argument, run->content == CONTENT_FILL ? UINT8_MAX : UINT32_MAX, &seed)) {
            return false;
        }
        run->seed = seed;
        return true;
    default:
        return false;
    }
}

static bool read_run(TextReader *r, const char *item, SnapshotBlock *block)
{
    g_auto(GStrv) words = split(item, " ");
    unsigned n_words = g_strv_length(words);
    PageRun run = { .content = 0 };

    if (n_words > 3 || !parse_range(words[0], &run) || !read_run_content(r, words, n_words, &run)) {
        return false;
    }
    snapshot_block_add_run(block, run);
    return true;
}

static bool read_runs(TextReader *r, const char *group, SnapshotBlock *block)
{
    g_autofree char *text = get_value(r, group, "pages");
    g_auto(GStrv) items = split(text ? text : "", ";");

    for (unsigned i = 0; items[i]; i++) {
        if (!read_run(r, items[i], block)) {
            return fail(r, group, "pages",
                        "'%.60s' is not 'PAGE', 'FIRST-LAST' or 'FIRST+COUNT', then 'pattern "
                        "SEED', 'fill BYTE', 'data BASE64', 'absent', 'stale SEED' or "
                        "'stale-data BASE64'",
                        items[i]);
        }
    }
    return true;
}

static bool read_block(TextReader *r, unsigned index)
{
    g_autofree char *group = g_strdup_printf("block %u", index);
    SnapshotBlock *block = snapshot_block(r->snapshot, index);
    uint64_t ignored = 0;
    bool there;

    if (!read_name(r, group, "idstr", block->idstr, &block->idstr_length) ||
        !read_number(r, group, "ignored", 1, &there, &ignored)) {
        return false;
    }
    block->ignored = ignored != 0;
    block->has_gpa = g_key_file_has_key(r->file, group, "gpa", NULL);
    return read_runs(r, group, block);
}

static bool has_block(TextReader *r, unsigned index)
{
    g_autofree char *group = g_strdup_printf("block %u", index);

    return g_key_file_has_group(r->file, group);
}

/* All numbers that are there, as they are. */
static bool read_all_fields(TextReader *r)
{
    if (!read_fields(r, SNAPSHOT_GROUP, r->snapshot, snapshot_fields, SNAPSHOT_N_FIELDS)) {
        return false;
    }
    for (unsigned i = 0; i < r->snapshot->blocks->len; i++) {
        g_autofree char *group = g_strdup_printf("block %u", i);

        if (!read_fields(r, group, snapshot_block(r->snapshot, i), snapshot_block_fields,
                         SNAPSHOT_N_BLOCK_FIELDS)) {
            return false;
        }
    }
    return true;
}

static bool is_key(const char *key, const char *const *keys, const SnapshotField *fields,
                   unsigned n_fields)
{
    for (unsigned i = 0; i < n_fields; i++) {
        if (strcmp(key, fields[i].name) == 0) {
            return true;
        }
    }
    return g_strv_contains(keys, key);
}

static bool check_group(TextReader *r, const char *group)
{
    static const char *const snapshot_keys[] = {
        "machine", "capabilities", "subsections", "section_name", "tail", "pokes", NULL
    };
    static const char *const block_keys[] = { "idstr", "ignored", "pages", NULL };
    bool is_block = strcmp(group, SNAPSHOT_GROUP) != 0;
    g_auto(GStrv) keys = g_key_file_get_keys(r->file, group, NULL, NULL);

    for (unsigned i = 0; keys[i]; i++) {
        if (!is_key(keys[i], is_block ? block_keys : snapshot_keys,
                    is_block ? snapshot_block_fields : snapshot_fields,
                    is_block ? SNAPSHOT_N_BLOCK_FIELDS : SNAPSHOT_N_FIELDS)) {
            return fail(r, group, keys[i], "there is no such key");
        }
    }
    return true;
}

/* Every group is [snapshot] or one of [block 0] to [block n - 1]. */
static bool check_groups(TextReader *r, unsigned n_blocks)
{
    g_auto(GStrv) groups = g_key_file_get_groups(r->file, NULL);

    for (unsigned i = 0; groups[i]; i++) {
        bool known = strcmp(groups[i], SNAPSHOT_GROUP) == 0;

        for (unsigned j = 0; j < n_blocks && !known; j++) {
            g_autofree char *group = g_strdup_printf("block %u", j);

            known = strcmp(groups[i], group) == 0;
        }
        if (!known) {
            g_set_error(r->error, G_KEY_FILE_ERROR, G_KEY_FILE_ERROR_GROUP_NOT_FOUND,
                        "[%.100s]: a group is [" SNAPSHOT_GROUP "] or [block N], N counting from "
                        "0 without a gap; [block %u] would be next",
                        groups[i], n_blocks);
            return false;
        }
        if (!check_group(r, groups[i])) {
            return false;
        }
    }
    return true;
}

static bool check_units(TextReader *r)
{
    if (r->snapshot->page_size == 0) {
        return fail(r, SNAPSHOT_GROUP, "page_size", "the target's page size cannot be 0");
    }
    if (r->snapshot->pages_alignment == 0) {
        return fail(r, SNAPSHOT_GROUP, "pages_alignment", "an alignment cannot be 0");
    }
    return true;
}

static bool read_lists(TextReader *r)
{
    Snapshot *s = r->snapshot;

    if (!read_machine(r) || !read_capabilities(r) || !read_subsections(r) ||
        !read_name(r, SNAPSHOT_GROUP, "section_name", s->section_name, &s->section_name_length) ||
        !read_tail(r) || !read_pokes(r)) {
        return false;
    }
    for (unsigned i = 0; i < s->blocks->len; i++) {
        if (!read_block(r, i)) {
            return false;
        }
    }
    return true;
}

/*
 * The numbers are read twice: the layout depends on some of them, and
 * overwrites others that are there.
 */
static bool read_snapshot(TextReader *r)
{
    Snapshot *s = r->snapshot;

    while (has_block(r, s->blocks->len)) {
        snapshot_add_block(s, "", 0);
    }
    if (!check_groups(r, s->blocks->len) || !read_all_fields(r) || !check_units(r) ||
        !read_lists(r)) {
        return false;
    }
    s->truncate = g_key_file_has_key(r->file, SNAPSHOT_GROUP, "file_size", NULL);
    set_defaults(s);
    snapshot_layout(s, s->pages_alignment);
    return read_all_fields(r);
}

bool snapshot_from_text(const char *text, Snapshot *snapshot, GError **error)
{
    g_autoptr(GKeyFile) file = g_key_file_new();
    g_autoptr(GByteArray) bytes = g_byte_array_new();
    TextReader reader = { file, snapshot, bytes, error };

    snapshot_reset(snapshot);
    if (*text && !g_key_file_load_from_data(file, text, -1, G_KEY_FILE_NONE, error)) {
        return false;
    }
    return read_snapshot(&reader);
}

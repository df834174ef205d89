/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * See inspect-json.h. Written by hand: offsets and lengths are unsigned 64-bit
 * numbers, which libraries for JSON round or refuse. Names are bytes that may
 * be anything: what is no UTF-8 becomes U+FFFD.
 */
#include "tools/inspect-json.h"

#include "tools/block-bitmap.h"
#include "tools/tail.h"

#include <inttypes.h>

static void append_string(GString *out, const char *string)
{
    g_autofree char *valid = g_utf8_make_valid(string, -1);

    g_string_append_c(out, '"');
    for (const char *c = valid; *c; c++) {
        if (*c == '"' || *c == '\\') {
            g_string_append_c(out, '\\');
            g_string_append_c(out, *c);
        } else if ((unsigned char)*c < 0x20) {
            g_string_append_printf(out, "\\u%04x", *c);
        } else {
            g_string_append_c(out, *c);
        }
    }
    g_string_append_c(out, '"');
}

/* Members begin with a comma but the first one of an object. */
static void append_key(GString *out, const char *key)
{
    if (out->len > 0 && out->str[out->len - 1] != '{') {
        g_string_append(out, ", ");
    }
    g_string_append_printf(out, "\"%s\": ", key);
}

static void append_text_member(GString *out, const char *key, const char *value)
{
    append_key(out, key);
    append_string(out, value);
}

static void append_number_member(GString *out, const char *key, uint64_t value)
{
    append_key(out, key);
    g_string_append_printf(out, "%" PRIu64, value);
}

static void append_bool_member(GString *out, const char *key, bool value)
{
    append_key(out, key);
    g_string_append(out, value ? "true" : "false");
}

static void begin_item(GString *out, unsigned index)
{
    g_string_append(out, index == 0 ? "\n    {" : ",\n    {");
}

static void append_block(GString *out, const Judgement *judgement, unsigned index)
{
    const JudgedBlock *block = &judgement->blocks[index];

    begin_item(out, index);
    append_text_member(out, "idstr", judgement->guest.blocks[index].idstr);
    append_bool_member(out, "in_file", block->in_file);
    if (block->in_file) {
        append_bool_member(out, "ignored", block->ignored);
        append_number_member(out, "record_offset", block->record_offset);
        append_number_member(out, "header_offset", block->header_offset);
        append_number_member(out, "used_length", block->used_length);
        append_number_member(out, "version", block->version);
        append_number_member(out, "page_size", block->page_size);
        append_number_member(out, "bitmap_offset", block->bitmap_offset);
        append_number_member(out, "bitmap_length", block->bitmap_length);
        append_number_member(out, "pages_offset", block->pages_offset);
        append_number_member(out, "pages", block->pages);
    }
    if (block->in_file && judgement->guest.x_ignore_shared) {
        append_number_member(out, "gpa", block->gpa);
    }
    if (block_bitmap_exists(judgement, index)) {
        append_number_member(out, "pages_in_file", block_bitmap_count(judgement, index));
    }
    g_string_append_c(out, '}');
}

static void append_tail(GString *out, const Judgement *judgement)
{
    g_autoptr(GArray) items = tail_list(judgement);

    for (unsigned i = 0; i < items->len; i++) {
        const TailItem *item = &g_array_index(items, TailItem, i);

        begin_item(out, i);
        append_text_member(out, "type", item->type);
        append_number_member(out, "offset", item->offset);
        append_number_member(out, "id", item->id);
        if (item->name[0]) {
            append_text_member(out, "name", item->name);
        }
        g_string_append_c(out, '}');
    }
}

static void append_violation(GString *out, const Judgement *judgement, unsigned index)
{
    const Violation *violation = &judgement->violations[index];
    g_autofree char *text = judgement_describe_violation(judgement, index);

    begin_item(out, index);
    append_text_member(out, "rule", rule_get(violation->rule)->id);
    append_text_member(out, "consequence",
                       violation->consequence == RULE_REJECT ? "reject" : "may");
    if (violation->block >= 0) {
        append_text_member(out, "block", judgement->guest.blocks[violation->block].idstr);
    }
    append_text_member(out, "field", violation->field);
    append_number_member(out, "offset", violation->offset);
    append_number_member(out, "value", violation->value);
    append_text_member(out, "text", text);
    g_string_append_c(out, '}');
}

static void append_members(GString *out, const char *path, const SnapshotFile *file,
                           const Judgement *judgement)
{
    append_text_member(out, "file", path);
    append_number_member(out, "size", snapshot_file_size(file));
    append_number_member(out, "disk_size", snapshot_file_disk_size(file));
    append_text_member(out, "verdict", verdict_name(judgement->verdict));
    append_bool_member(out, "ram_unspecified", judgement->ram_unspecified);
    append_text_member(out, "machine", judgement->machine);
    append_bool_member(out, "x_ignore_shared", judgement->has_x_ignore_shared);
    append_number_member(out, "page_size", judgement->guest.target_page_size);
    append_number_member(out, "section_id", judgement->section_id);
    append_number_member(out, "total", judgement->total);
    append_number_member(out, "end", judgement->end);
}

void inspect_append_json(GString *out, const char *path, const SnapshotFile *file,
                         const Judgement *judgement)
{
    g_string_append_c(out, '{');
    append_members(out, path, file, judgement);
    g_string_append(out, ",\n  \"blocks\": [");
    for (unsigned i = 0; i < judgement->guest.n_blocks; i++) {
        append_block(out, judgement, i);
    }
    g_string_append(out, "],\n  \"tail\": [");
    append_tail(out, judgement);
    g_string_append(out, "],\n  \"violations\": [");
    for (unsigned i = 0; i < judgement->n_violations; i++) {
        append_violation(out, judgement, i);
    }
    g_string_append(out, "]}\n");
}

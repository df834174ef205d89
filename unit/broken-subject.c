/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See broken-subject.h. One function a fault; the table is at the end. */
#include "unit/broken-subject.h"

#include "subject/sparse-reader.h"

#include <string.h>

static const Subject *right(void)
{
    return subject_reference();
}

/* The first block that the load filled, or NULL. */
static SubjectBlock *a_filled_block(SubjectLoad *load)
{
    for (unsigned i = 0; i < load->guest->n_blocks; i++) {
        SubjectBlock *block = &load->blocks[i];

        for (uint64_t at = 0; block->in_file && at < MIN(block->used_length, 1 << 20); at++) {
            if (block->host[at] != 0 && block->host[at] != 0x5a) {
                return block;
            }
        }
    }
    return NULL;
}

static SubjectStatus forgets_pages(SubjectLoad *load, GError **error)
{
    SubjectStatus status = right()->load_file(load, error);
    SubjectBlock *block = status == SUBJECT_ACCEPTED ? a_filled_block(load) : NULL;

    if (block) {
        memset(block->host, 0, block->used_length);
    }
    return status;
}

static SubjectStatus flips_a_bit(SubjectLoad *load, GError **error)
{
    SubjectStatus status = right()->load_file(load, error);
    SubjectBlock *block = status == SUBJECT_ACCEPTED ? a_filled_block(load) : NULL;

    if (block) {
        block->host[block->used_length - 1] ^= 0x10;
    }
    return status;
}

static SubjectStatus writes_beyond_used_length(SubjectLoad *load, GError **error)
{
    SubjectStatus status = right()->load_file(load, error);
    SubjectBlock *block = &load->blocks[0];

    if (status == SUBJECT_ACCEPTED && block->used_length < load->guest->blocks[0].max_length) {
        block->host[block->used_length] = 0;
    }
    return status;
}

static SubjectStatus writes_below_the_block(SubjectLoad *load, GError **error)
{
    SubjectStatus status = right()->load_file(load, error);

    if (status == SUBJECT_ACCEPTED) {
        load->blocks[0].host[-1] = 0;
    }
    return status;
}

static SubjectStatus writes_though_it_refuses(SubjectLoad *load, GError **error)
{
    SubjectStatus status = right()->load_file(load, error);
    const GuestBlock *block = &load->guest->blocks[0];

    if (status == SUBJECT_REFUSED && block->used_length < block->max_length) {
        load->blocks[0].host[block->max_length - 1] = 0;
    }
    return status;
}

static SubjectStatus accepts_everything(SubjectLoad *load, GError **error)
{
    SubjectStatus status = right()->load_file(load, error);

    if (status == SUBJECT_REFUSED) {
        for (unsigned i = 0; i < load->guest->n_blocks; i++) {
            load->blocks[i].used_length = load->guest->blocks[i].used_length;
        }
        g_clear_error(error);
    }
    return SUBJECT_ACCEPTED;
}

static SubjectStatus refuse(GError **error, const char *message)
{
    g_clear_error(error);
    g_set_error_literal(error, G_FILE_ERROR, G_FILE_ERROR_INVAL, message);
    return SUBJECT_REFUSED;
}

static SubjectStatus refuses_two_blocks(SubjectLoad *load, GError **error)
{
    if (load->guest->n_blocks == 2) {
        return refuse(error, "two blocks at offset 0x0 are too many (rule R8)");
    }
    return right()->load_file(load, error);
}

static SubjectStatus says_nothing(SubjectLoad *load, GError **error)
{
    SubjectStatus status = right()->load_file(load, error);

    g_clear_error(error);
    return status;
}

static SubjectStatus names_no_rule(SubjectLoad *load, GError **error)
{
    SubjectStatus status = right()->load_file(load, error);

    return status == SUBJECT_REFUSED ? refuse(error, "the file at offset 0x0 is bad") : status;
}

static SubjectStatus names_a_wrong_rule(SubjectLoad *load, GError **error)
{
    SubjectStatus status = right()->load_file(load, error);
    bool is_h2 = status == SUBJECT_REFUSED && strstr((*error)->message, "(rule H2)");

    return status == SUBJECT_REFUSED
               ? refuse(error, is_h2 ? "magic at file offset 0x0 (rule F1)"
                                     : "page_size at file offset 0x69 (rule H2)")
               : status;
}

static SubjectStatus names_no_offset(SubjectLoad *load, GError **error)
{
    SubjectStatus status = right()->load_file(load, error);
    g_autofree char *rule =
        status == SUBJECT_REFUSED ? g_strdup(g_strrstr((*error)->message, "(rule ")) : NULL;

    return rule ? refuse(error, rule) : status;
}

static SubjectStatus names_no_block(SubjectLoad *load, GError **error)
{
    SubjectStatus status = right()->load_file(load, error);
    g_autofree char *rule =
        status == SUBJECT_REFUSED ? g_strdup(g_strrstr((*error)->message, "(rule ")) : NULL;
    g_autofree char *message = rule ? g_strconcat("offset 0x0 ", rule, NULL) : NULL;

    return message ? refuse(error, message) : status;
}

static SubjectStatus accepts_with_an_error(SubjectLoad *load, GError **error)
{
    SubjectStatus status = right()->load_file(load, error);

    if (status == SUBJECT_ACCEPTED) {
        refuse(error, "well, not quite");
    }
    return status;
}

static SubjectStatus swallows_io_errors(SubjectLoad *load, GError **error)
{
    SubjectStatus status = right()->load_file(load, error);

    if (load->cost.fail_read && load->cost.reads >= load->cost.fail_read) {
        return accepts_everything(load, error);
    }
    return status;
}

static SubjectStatus reads_for_ever(SubjectLoad *load, GError **error)
{
    SubjectStatus status = right()->load_file(load, error);
    SparseReader reader;
    uint8_t byte;

    sparse_reader_init(&reader, load->file, &load->cost);
    while (reader.reader.pread(&reader.reader, &byte, 1, 0) >= 0) {
    }
    return status;
}

static SubjectStatus allocates_what_the_file_says(SubjectLoad *load, GError **error)
{
    g_free(g_malloc(sparse_file_size(load->file)));
    return right()->load_file(load, error);
}

static SubjectStatus splits_otherwise(SubjectLoad *load, GError **error)
{
    SubjectStatus status = right()->load_file(load, error);

    if (status == SUBJECT_REFUSED && load->stages == SUBJECT_SPLIT) {
        g_autofree char *message = g_strdup_printf("oh: %s", (*error)->message);

        return refuse(error, message);
    }
    return status;
}

/* Rule R6a leaves it to the reader, but not to the number of stages. */
static SubjectStatus resizes_in_one_stage_only(SubjectLoad *load, GError **error)
{
    SubjectStatus status = right()->load_file(load, error);

    for (unsigned i = 0; status == SUBJECT_ACCEPTED && i < load->guest->n_blocks; i++) {
        const GuestBlock *block = &load->guest->blocks[i];

        if (load->stages == SUBJECT_SPLIT && load->blocks[i].used_length != block->used_length) {
            g_autofree char *message =
                g_strdup_printf("block '%s': used_length at file offset 0x0 (rule R6a)",
                                block->idstr);

            return refuse(error, message);
        }
    }
    return status;
}

static SubjectStatus header_drops_a_bit(SubjectLoad *load, GError **error)
{
    SubjectStatus status = right()->load_header(load, error);
    uint64_t *bmap = load->blocks[0].file_bmap;

    if (status == SUBJECT_ACCEPTED && bmap) {
        bmap[0] &= bmap[0] - 1;
    }
    return status;
}

static SubjectStatus header_adds_a_bit(SubjectLoad *load, GError **error)
{
    SubjectStatus status = right()->load_header(load, error);
    uint64_t *bmap = load->blocks[0].file_bmap;

    if (status == SUBJECT_ACCEPTED && bmap) {
        bmap[0] |= bmap[0] + 1;
    }
    return status;
}

static SubjectStatus header_moves_the_pages(SubjectLoad *load, GError **error)
{
    SubjectStatus status = right()->load_header(load, error);

    load->blocks[0].pages_offset += 0x1000;
    return status;
}

static SubjectStatus saves_zeroes(const Guest *guest, const SubjectBlock *blocks,
                                  const char *machine, SparseFile *out, GError **error)
{
    SubjectBlock changed[GUEST_MAX_BLOCKS];
    g_autofree uint8_t *zeroes = g_malloc0(guest->blocks[0].used_length);

    memcpy(changed, blocks, guest->n_blocks * sizeof(*blocks));
    changed[0].host = zeroes;
    return right()->save(guest, changed, machine, out, error);
}

static SubjectStatus loads_right(SubjectLoad *load, GError **error)
{
    return right()->load_file(load, error);
}

#define LOADS(what, function, id, text)                                                            \
    {                                                                                              \
        .subject = { .name = what, .load_file = function, .errors_name_rules = true },             \
        .kind = INPUT_LAYOUT, .property = id, .message = text                                      \
    }

#define LOADS_BLOCK(what, function, id, text)                                                      \
    {                                                                                              \
        .subject = { .name = what, .load_header = function, .errors_name_rules = true },           \
        .kind = INPUT_HEADER, .property = id, .message = text                                      \
    }

const BrokenSubject *broken_subjects(unsigned *n)
{
    static const BrokenSubject table[] = {
        LOADS("forgets pages", forgets_pages, PROPERTY_EAGER_MODEL, "rule G1"),
        LOADS("flips a bit", flips_a_bit, PROPERTY_EAGER_MODEL, "rule G"),
        LOADS("writes beyond used_length", writes_beyond_used_length, PROPERTY_EAGER_MODEL,
              "rule G3"),
        LOADS("writes below the block", writes_below_the_block, PROPERTY_EAGER_MODEL,
              "below the block"),
        LOADS("writes though it refuses", writes_though_it_refuses, PROPERTY_EAGER_MODEL,
              "rule G3"),
        LOADS("accepts everything", accepts_everything, PROPERTY_AGREES, "must be refused"),
        LOADS("refuses two blocks", refuses_two_blocks, PROPERTY_CLEAN_REJECT, "does not break"),
        LOADS("says nothing", says_nothing, PROPERTY_CLEAN_REJECT, "without a message"),
        LOADS("names no rule", names_no_rule, PROPERTY_CLEAN_REJECT, "names no rule"),
        LOADS("names a wrong rule", names_a_wrong_rule, PROPERTY_CLEAN_REJECT, "does not break"),
        LOADS("names no offset", names_no_offset, PROPERTY_CLEAN_REJECT, "no file offset"),
        LOADS("names no block", names_no_block, PROPERTY_CLEAN_REJECT, "does not name the block"),
        LOADS("accepts with an error", accepts_with_an_error, PROPERTY_CLEAN_REJECT,
              "with an error set"),
        LOADS("swallows I/O errors", swallows_io_errors, PROPERTY_CLEAN_REJECT, "I/O error"),
        LOADS("reads for ever", reads_for_ever, PROPERTY_BOUNDED, "reads of"),
        LOADS("allocates what the file says", allocates_what_the_file_says, PROPERTY_BOUNDED,
              "allocated"),
        LOADS("splits otherwise", splits_otherwise, PROPERTY_SPLIT_WHOLE, "in two stages"),
        LOADS("resizes in one stage only", resizes_in_one_stage_only, PROPERTY_SPLIT_WHOLE,
              "in two stages"),
        LOADS_BLOCK("header drops a bit", header_drops_a_bit, PROPERTY_EAGER_MODEL,
                    "file_bmap has the bit clear"),
        LOADS_BLOCK("header adds a bit", header_adds_a_bit, PROPERTY_EAGER_MODEL,
                    "file_bmap has the bit set"),
        LOADS_BLOCK("header moves the pages", header_moves_the_pages, PROPERTY_EAGER_MODEL,
                    "pages_offset is"),
        {
            .subject = { .name = "saves zeroes", .load_file = loads_right, .save = saves_zeroes },
            .kind = INPUT_ROUND_TRIP,
            .property = PROPERTY_EAGER_MODEL,
            .message = "rule",
        },
    };

    *n = G_N_ELEMENTS(table);
    return table;
}

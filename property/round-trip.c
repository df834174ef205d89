/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The property round-trip: a guest that was loaded is saved and loaded again,
 * and a file is described and made anew. See property.h.
 */
#include "property/context.h"

#include <inttypes.h>

/* Is every byte that @a has also in @b? */
static bool has_all_bytes(const SparseFile *a, const SparseFile *b, uint64_t *differs)
{
    SparseExtent extent;

    for (uint64_t at = 0; sparse_file_next_data(a, at, &extent);
         at = extent.offset + extent.length) {
        uint8_t buffer[4096];

        for (uint64_t done = 0; done < extent.length;) {
            size_t n = MIN(extent.length - done, sizeof(buffer));
            size_t same;

            sparse_file_read(a, extent.offset + done, buffer, n);
            same = sparse_file_compare(b, extent.offset + done, buffer, n);
            if (same < n) {
                *differs = extent.offset + done + same;
                return false;
            }
            done += n;
        }
    }
    return true;
}

static bool check_same_file(PropertyContext *context, const SparseFile *a, const SparseFile *b,
                            const char *what, GError **error)
{
    uint64_t differs = MIN(sparse_file_size(a), sparse_file_size(b));

    if (sparse_file_size(a) == sparse_file_size(b) && has_all_bytes(a, b, &differs) &&
        has_all_bytes(b, a, &differs)) {
        return true;
    }
    return property_broken(context, PROPERTY_ROUND_TRIP, error,
                           "%s: sizes are 0x%" PRIx64 " and 0x%" PRIx64
                           ", the first difference is at file offset 0x%" PRIx64,
                           what, sparse_file_size(a), sparse_file_size(b), differs);
}

static bool check_describe(PropertyContext *context, const SparseFile *file, const Guest *guest,
                           GError **error)
{
    g_autoptr(SparseFile) again = sparse_file_new();

    if (!snapshot_decode(file, guest, context->snapshot, error)) {
        g_prefix_error(error, "round-trip: ");
        return false;
    }
    snapshot_encode(context->snapshot, again);
    return check_same_file(context, file, again, "a file and what its description makes", error);
}

/* Loads c->file, which must be accepted; the RAM must be as @judgement says. */
static bool load_again(PropertyContext *context, LoadCase *c, const Judgement *judgement,
                       GError **error)
{
    g_autoptr(GError) refusal = NULL;
    SubjectBlock blocks[GUEST_MAX_BLOCKS];
    bool accepted;

    judge_case(context, c);
    if (context->judgement.verdict != VERDICT_ACCEPT) {
        g_autofree char *line = judgement_describe_violation(&context->judgement, 0);

        return property_broken(context, PROPERTY_ROUND_TRIP, error,
                               "what was saved is not right: %s", line);
    }
    if (!check_load(context, c, SUBJECT_WHOLE, &accepted, &refusal, error)) {
        return false;
    }
    for (unsigned i = 0; i < c->guest->n_blocks; i++) {
        blocks[i].used_length = c->guest->blocks[i].used_length;
    }
    return check_ram(context, judgement, blocks, error);
}

bool save_and_load(PropertyContext *context, LoadCase *c, GError **error)
{
    g_autofree Judgement *first = g_memdup2(&context->judgement, sizeof(Judgement));
    SubjectBlock blocks[GUEST_MAX_BLOCKS];
    const char *machine = c->guest->machine[0] ? c->guest->machine : "none";

    for (unsigned i = 0; i < c->guest->n_blocks; i++) {
        blocks[i].host = guest_ram_host(context->ram, i);
    }
    if (context->subject->save(c->guest, blocks, machine, context->other_file, error) !=
        SUBJECT_ACCEPTED) {
        g_prefix_error(error, "round-trip: the loaded guest cannot be saved: ");
        return false;
    }
    c->file = context->other_file;
    return load_again(context, c, first, error);
}

bool property_round_trip(PropertyContext *context, const uint8_t *data, size_t size, GError **error)
{
    g_autoptr(GError) refusal = NULL;
    Input input;
    LoadCase c;
    unsigned mutations;
    bool accepted;

    if (!input_decode(data, size, &input) || input.kind != INPUT_ROUND_TRIP) {
        return true;
    }
    c = make_case(context, &input, &mutations);
    /* Everything is to be accepted, and what is not in the file to be zero. */
    c.before = 0;
    c.fail_read = 0;
    if (!begin_case(context, &c) || c.repaired) {
        return true;
    }
    return check_load(context, &c, SUBJECT_WHOLE, &accepted, &refusal, error) &&
           check_describe(context, context->file, c.guest, error) &&
           (!context->subject->save ||
            (save_and_load(context, &c, error) &&
             check_describe(context, context->other_file, c.guest, error)));
}

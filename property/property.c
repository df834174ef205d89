/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The property functions: from an input's bytes to a case, and from the case
 * to the checks. See property.h.
 */
#include "property/context.h"

#include <inttypes.h>
#include <stdarg.h>

/* What guest RAM holds before the load, if it is not to be zero. */
#define DIRTY_BYTE 0x5a

static const char *const id_names[] = {
    [PROPERTY_BOUNDED] = "bounded",
    [PROPERTY_CLEAN_REJECT] = "clean-reject",
    [PROPERTY_AGREES] = "agrees",
    [PROPERTY_EAGER_MODEL] = "eager=model",
    [PROPERTY_SPLIT_WHOLE] = "split=whole",
    [PROPERTY_ROUND_TRIP] = "round-trip",
    [PROPERTY_MAPS] = "maps",
    [PROPERTY_POSTCOPY] = "postcopy",
    [PROPERTY_NO_SILENT_ZERO] = "no-silent-zero",
    [PROPERTY_SETUP_UNDO] = "setup-undo",
    [PROPERTY_SAFE] = "safe",
    [PROPERTY_NO_FUNCTIONAL_CHANGE] = "no-functional-change",
    [PROPERTY_LAZY_EAGER] = "lazy=eager",
    [PROPERTY_ONCE] = "once",
    [PROPERTY_MODEL] = "model",
};

G_DEFINE_QUARK(pagewise - property - error, property_error)

const char *property_id_name(PropertyId id)
{
    return id_names[id];
}

#define PATIENCE_MS 10000

PropertyContext *property_context_new(const Subject *subject)
{
    PropertyContext *context = g_new0(PropertyContext, 1);

    context->subject = subject;
    context->ram_property = PROPERTY_EAGER_MODEL;
    context->patience_ms = PATIENCE_MS;
    context->ram = guest_ram_new();
    context->file = sparse_file_new();
    context->other_file = sparse_file_new();
    context->snapshot = snapshot_new();
    return context;
}

void property_context_set_patience(PropertyContext *context, unsigned milliseconds)
{
    context->patience_ms = milliseconds;
}

typedef struct Kept {
    void *state;
    GDestroyNotify free;
} Kept;

void property_context_keep(PropertyContext *context, void *state, GDestroyNotify free)
{
    Kept *kept = g_new(Kept, 1);

    *kept = (Kept){ .state = state, .free = free };
    context->kept = g_slist_prepend(context->kept, kept);
}

static void free_kept(void *opaque)
{
    Kept *kept = opaque;

    kept->free(kept->state);
    g_free(kept);
}

void property_context_free(PropertyContext *context)
{
    g_slist_free_full(context->kept, free_kept);
    guest_ram_free(context->ram);
    sparse_file_free(context->file);
    sparse_file_free(context->other_file);
    snapshot_free(context->snapshot);
    g_free(context);
}

const PropertyStats *property_context_stats(const PropertyContext *context)
{
    return &context->stats;
}

void property_context_set_findings(PropertyContext *context, const Findings *findings,
                                   FindingMode mode)
{
    context->findings = findings;
    context->finding_mode = mode;
}

static bool set_broken(const PropertyContext *context, PropertyId id, GError **error,
                       const char *block, const char *format, va_list args)
{
    g_autofree char *text = g_strdup_vprintf(format, args);

    g_set_error(error, PROPERTY_ERROR, id, "property %s, subject %s: %s%s", id_names[id],
                context->subject->name, block, text);
    return false;
}

bool property_broken(const PropertyContext *context, PropertyId id, GError **error,
                     const char *format, ...)
{
    va_list args;

    va_start(args, format);
    set_broken(context, id, error, "", format, args);
    va_end(args);
    return false;
}

bool property_broken_block(const PropertyContext *context, PropertyId id, unsigned block,
                           GError **error, const char *format, ...)
{
    g_autofree char *idstr = g_strescape(context->judgement.guest.blocks[block].idstr, NULL);
    g_autofree char *prefix = g_strdup_printf("block '%s', ", idstr);
    va_list args;

    va_start(args, format);
    set_broken(context, id, error, prefix, format, args);
    va_end(args);
    return false;
}

LoadCase make_case(PropertyContext *context, const Input *input, unsigned *mutations)
{
    LoadCase c = {
        .file = context->file,
        .guest = &context->guest,
        .before = input->before                    ? input->before
                  : input->flags & INPUT_DIRTY_RAM ? DIRTY_BYTE
                                                   : 0,
        .reload = input->flags & INPUT_RELOAD,
        .split = input->flags & INPUT_SPLIT,
        .fail_read = input->fail_read,
        .fail_for_ever = input->axes & INPUT_AXIS_FAIL_FOR_EVER,
        .cut = input->cut,
        .max_read_length = input->max_read_length,
        .axes = {
            .real_file = input->axes & INPUT_AXIS_REAL_FILE,
            .multifd_channels = input->axes & INPUT_AXIS_MULTIFD ? 2 : 0,
        },
        .one_block = input->kind == INPUT_HEADER,
        .header_offset = input->header_offset,
        .used_length = input->used_length,
    };

    *mutations = input_make_file_for(input, context->subject->guest, context->snapshot,
                                     context->file, &context->guest, NULL);
    if (context->subject->guest) {
        c.before = 0;
    }
    return c;
}

static FindingMode mode_of(const PropertyContext *context, const LoadCase *c)
{
    if (c->axes.multifd_channels) {
        return FINDING_MODE_MULTIFD;
    }
    return c->lazy ? context->finding_mode | FINDING_MODE_LAZY : context->finding_mode;
}

/* Past what is known, and judges it: c->file must be context->file. False: it cannot be. */
static bool repair_and_judge_case(PropertyContext *context, LoadCase *c)
{
    FindingLoad load = {
        .file = context->file,
        .guest = &context->guest,
        .mode = mode_of(context, c),
        .lazy = c->lazy,
        .one_block = c->one_block,
        .header_offset = c->header_offset,
        .used_length = c->used_length,
        .reads_fail = c->fail_read || c->cut || c->max_read_length,
    };

    unsigned repairs;

    if (!context->findings) {
        judge_case(context, c);
        return true;
    }
    repairs = findings_repair_and_judge(context->findings, &load, NULL, &context->judgement);
    c->repaired = repairs > 0;
    context->stats.repaired += c->repaired;
    context->stats.unrepaired += repairs == FINDINGS_MAX_REPAIRS;
    c->used_length = load.used_length;
    if (load.mode != FINDING_MODE_MULTIFD) {
        c->axes.multifd_channels = 0;
    }
    if (!load.reads_fail) {
        c->fail_read = c->cut = c->max_read_length = 0;
    }
    return repairs < FINDINGS_MAX_REPAIRS;
}

bool begin_case(PropertyContext *context, LoadCase *c)
{
    context->stats.executions++;
    if (file_is_too_large(c->file)) {
        context->stats.too_large++;
        return false;
    }
    if (!repair_and_judge_case(context, c)) {
        return false;
    }
    if (case_is_too_large(context, c)) {
        context->stats.too_large++;
        return false;
    }
    return true;
}

bool begin_input(PropertyContext *context, const uint8_t *data, size_t size, LoadCase *c)
{
    Input input;
    unsigned mutations;

    if (!input_decode(data, size, &input) ||
        (input.kind != INPUT_STREAM && input.kind != INPUT_LAYOUT &&
         input.kind != INPUT_ROUND_TRIP)) {
        return false;
    }
    *c = make_case(context, &input, &mutations);
    return begin_case(context, c);
}

bool property_header(PropertyContext *context, const uint8_t *data, size_t size, GError **error)
{
    g_autoptr(GError) refusal = NULL;
    Input input;
    LoadCase c;
    unsigned mutations;
    bool accepted;

    if (!input_decode(data, size, &input) || input.kind != INPUT_HEADER) {
        return true;
    }
    c = make_case(context, &input, &mutations);
    context->stats.executions++;
    if (!repair_and_judge_case(context, &c)) {
        return true;
    }
    context->stats.either += context->judgement.verdict == VERDICT_MAY;
    if (!check_load(context, &c, SUBJECT_HEADERS, &accepted, &refusal, error)) {
        return false;
    }
    g_clear_error(&refusal);
    return !context->subject->load_block || case_is_too_large(context, &c) ||
           check_load(context, &c, SUBJECT_WHOLE, &accepted, &refusal, error);
}

bool property_stream(PropertyContext *context, const uint8_t *data, size_t size, GError **error)
{
    Input input;
    LoadCase c;
    unsigned mutations;

    if (!input_decode(data, size, &input) || input.kind != INPUT_STREAM) {
        return true;
    }
    c = make_case(context, &input, &mutations);
    return !begin_case(context, &c) || check_case(context, &c, error);
}

bool check_generator(PropertyContext *context, GError **error)
{
    g_autofree char *line = NULL;

    if (context->judgement.verdict == VERDICT_ACCEPT) {
        return true;
    }
    line = judgement_describe_violation(&context->judgement, 0);
    return property_broken(context, PROPERTY_MODEL, error,
                           "a generated file is right by construction, but the judge says %s: %s",
                           verdict_name(context->judgement.verdict), line);
}

bool property_layout(PropertyContext *context, const uint8_t *data, size_t size, GError **error)
{
    Input input;
    LoadCase c;
    unsigned mutations;

    if (!input_decode(data, size, &input) || input.kind != INPUT_LAYOUT) {
        return true;
    }
    c = make_case(context, &input, &mutations);
    return !begin_case(context, &c) ||
           ((mutations || c.repaired || check_generator(context, error)) &&
            check_case(context, &c, error));
}

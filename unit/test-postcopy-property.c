/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The property "postcopy": it holds of the reference loader on many inputs, it
 * looks at something while it does, and it notices loaders that are wrong on
 * purpose. Inputs are made by the mutator, from seeds.
 */
#include "fuzz/mutator.h"
#include "loader/postcopy-net.h"
#include "property/postcopy-script.h"
#include "property/property.h"
#include "subject/postcopy.h"
#include "unit/bounded.h"
#include "unit/support.h"

#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define ROOM 700
#define INPUTS 200

/* Input number @index: the same in any process. */
static size_t make_input(unsigned index, uint8_t *data)
{
    size_t size = 0;

    memset(data, 0, ROOM);
    for (unsigned i = 0; i < 12 + index % 30; i++) {
        size = mutate_input(INPUT_POSTCOPY, data, size, ROOM, index * 97 + i);
    }
    /* Small inputs of the mutator have no steps yet, and one block of one page. */
    data[sizeof(InputHeader)] |= index % 3 ? INPUT_POSTCOPY_FINISH : 0;
    return size;
}

static GError *run_inputs(PropertyContext *context)
{
    for (unsigned i = 0; i < INPUTS; i++) {
        uint8_t data[ROOM];
        GError *error = NULL;

        if (!property_postcopy(context, data, make_input(i, data), &error)) {
            return error;
        }
    }
    return NULL;
}

static bool holds(void)
{
    g_autoptr(PropertyContext) context = property_context_new(subject_reference());
    g_autoptr(GError) error = run_inputs(context);
    const PropertyStats *stats = property_context_stats(context);

    if (error) {
        fprintf(stderr, "%s\n", error->message);
    }
    CHECK(!error);
    fprintf(stderr,
            "accepted %" G_GUINT64_FORMAT ", refused %" G_GUINT64_FORMAT
            ", breaks %" G_GUINT64_FORMAT ", pages %" G_GUINT64_FORMAT "\n",
            stats->accepted, stats->refused, stats->breaks, stats->pages);
    CHECK(stats->executions == INPUTS);
    CHECK(stats->unsupported == 0);
    CHECK(stats->accepted > INPUTS / 4);
    CHECK(stats->refused > INPUTS / 16);
    CHECK(stats->breaks > INPUTS / 8);
    CHECK(stats->pages > INPUTS / 2);
    return true;
}

BOUNDED_TEST(test_holds, holds)

/* Subjects that are wrong: the reference with one fault each. */

static const SubjectPostcopy *right(void)
{
    return subject_reference()->postcopy;
}

/* What a wrong subject has between the property and the right one. */
typedef struct Between {
    SubjectPostcopyLoad *outer;
    SubjectPostcopyLoad inner;
    const char *say; /* in place of the reason of a break */
} Between;

static void pass_point(void *opaque, SubjectPostcopyPoint point, unsigned channel, unsigned block,
                       uint64_t value)
{
    Between *self = opaque;

    self->outer->at_point(self->outer->opaque, point, channel, block, value);
}

static void pass_broken(void *opaque, const char *message)
{
    Between *self = opaque;

    self->outer->broken(self->outer->opaque, self->say ? self->say : message);
}

static SubjectStatus start_between(SubjectPostcopyLoad *load, const int fds[SUBJECT_CHANNELS],
                                   const char *say, GError **error)
{
    Between *self = g_new0(Between, 1);
    SubjectStatus status;

    self->outer = load;
    self->inner = *load;
    self->inner.at_point = pass_point;
    self->inner.broken = pass_broken;
    self->inner.opaque = self;
    self->say = say;
    status = right()->start(&self->inner, fds, error);
    if (status == SUBJECT_ACCEPTED) {
        load->running = self;
    } else {
        g_free(self);
    }
    return status;
}

static SubjectStatus start_right(SubjectPostcopyLoad *load, const int fds[SUBJECT_CHANNELS],
                                 GError **error)
{
    return start_between(load, fds, NULL, error);
}

static Between *between(SubjectPostcopyLoad *load)
{
    return load->running;
}

static SubjectStatus resume_right(SubjectPostcopyLoad *load, const int fds[SUBJECT_CHANNELS],
                                  GError **error)
{
    return right()->resume(&between(load)->inner, fds, error);
}

static SubjectStatus discard_right(SubjectPostcopyLoad *load, unsigned block, uint64_t offset,
                                   uint64_t length, GError **error)
{
    return right()->discard(&between(load)->inner, block, offset, length, error);
}

static void cancel_right(SubjectPostcopyLoad *load)
{
    right()->cancel(&between(load)->inner);
}

static SubjectStatus end_right(SubjectPostcopyLoad *load, GError **error)
{
    Between *self = between(load);
    SubjectStatus status = right()->end(&self->inner, error);

    load->running = NULL;
    g_free(self);
    return status;
}

static SubjectStatus parse_right(const Guest *guest, uint32_t section_id, unsigned channel,
                                 const uint8_t *bytes, size_t size, size_t piece,
                                 const SubjectStreamSink *sink, GError **error)
{
    return right()->parse(guest, section_id, channel, bytes, size, piece, sink, error);
}

static SubjectStatus refuse(GError **error, const char *message)
{
    g_clear_error(error);
    g_set_error_literal(error, G_FILE_ERROR, G_FILE_ERROR_INVAL, message);
    return SUBJECT_REFUSED;
}

static SubjectStatus flips_a_bit(SubjectPostcopyLoad *load, GError **error)
{
    uint8_t *host = load->host[0];
    SubjectStatus status = end_right(load, error);

    if (status == SUBJECT_ACCEPTED) {
        host[77] ^= 1;
    }
    return status;
}

static SubjectStatus writes_beyond(SubjectPostcopyLoad *load, GError **error)
{
    const GuestBlock *block = &load->guest->blocks[0];
    uint8_t *host = load->host[0];
    SubjectStatus status = end_right(load, error);

    host[block->used_length < block->max_length ? (int64_t)block->used_length : -1] = 0;
    return status;
}

/* As a loader that unregisters RAM in place of poisoning it. */
static SubjectStatus shows_zeroes(SubjectPostcopyLoad *load, GError **error)
{
    const GuestBlock *block = &load->guest->blocks[0];
    uint8_t *host = load->host[0];
    SubjectStatus status = end_right(load, error);

    if (status == SUBJECT_REFUSED) {
        madvise(host, block->used_length, MADV_DONTNEED);
    }
    return status;
}

static SubjectStatus always_succeeds(SubjectPostcopyLoad *load, GError **error)
{
    end_right(load, error);
    g_clear_error(error);
    return SUBJECT_ACCEPTED;
}

static SubjectStatus always_fails(SubjectPostcopyLoad *load, GError **error)
{
    SubjectStatus status = end_right(load, error);

    return status == SUBJECT_ACCEPTED ? refuse(error, "no") : status;
}

static SubjectStatus says_nothing(SubjectPostcopyLoad *load, GError **error)
{
    SubjectStatus status = end_right(load, error);

    g_clear_error(error);
    return status;
}

static SubjectStatus says_something_else(SubjectPostcopyLoad *load, GError **error)
{
    SubjectStatus status = end_right(load, error);

    return status == SUBJECT_REFUSED ? refuse(error, "bad luck") : status;
}

static SubjectStatus leaks_a_descriptor(SubjectPostcopyLoad *load, GError **error)
{
    SubjectStatus status = end_right(load, error);

    g_assert(dup(0) >= 0);
    return status;
}

static SubjectStatus says_no_reason(SubjectPostcopyLoad *load, const int fds[SUBJECT_CHANNELS],
                                    GError **error)
{
    return start_between(load, fds, "it is broken", error);
}

static SubjectStatus takes_any_channels(SubjectPostcopyLoad *load, const int fds[SUBJECT_CHANNELS],
                                        GError **error)
{
    resume_right(load, fds, error);
    g_clear_error(error);
    return SUBJECT_ACCEPTED;
}

/* A second REQ_PAGES for the first page of the first block. */
static SubjectStatus asks_without_need(SubjectPostcopyLoad *load, const int fds[SUBJECT_CHANNELS],
                                       GError **error)
{
    uint8_t message[4 + 12 + 1 + 24] = { 0, 3, 0, 0 };
    size_t length = strlen(load->guest->blocks[0].idstr);

    message[3] = (uint8_t)(13 + length);
    message[4 + 8 + 2] = 0x10;
    message[4 + 12] = (uint8_t)length;
    memcpy(message + 17, load->guest->blocks[0].idstr, length);
    g_assert(send(fds[0], message, 17 + length, MSG_NOSIGNAL) > 0);
    return start_right(load, fds, error);
}

/* The answer to a PING that nobody has sent. */
static SubjectStatus answers_nobody(SubjectPostcopyLoad *load, const int fds[SUBJECT_CHANNELS],
                                    GError **error)
{
    g_assert(send(fds[0], "\0\2\0\4\0\0\0\0", 8, MSG_NOSIGNAL) == 8);
    return start_right(load, fds, error);
}

static SubjectStatus writes_garbage(SubjectPostcopyLoad *load, const int fds[SUBJECT_CHANNELS],
                                    GError **error)
{
    g_assert(send(fds[0], "\0\x99\0\4", 4, MSG_NOSIGNAL) == 4);
    return start_right(load, fds, error);
}

static SubjectStatus shuts_early(SubjectPostcopyLoad *load, const int fds[SUBJECT_CHANNELS],
                                 GError **error)
{
    g_assert(send(fds[0], "\0\1\0\4\0\0\0\0", 8, MSG_NOSIGNAL) == 8);
    return start_right(load, fds, error);
}

/* What was discarded is there again, as if the page had come once more. */
static SubjectStatus forgets_discards(SubjectPostcopyLoad *load, unsigned block, uint64_t offset,
                                      uint64_t length, GError **error)
{
    SubjectStatus status = discard_right(load, block, offset, length, error);

    load->host[block][offset] = 0x66;
    return status;
}

static SubjectStatus refuses_discards(SubjectPostcopyLoad *load, unsigned block, uint64_t offset,
                                      uint64_t length, GError **error)
{
    discard_right(load, block, offset, length, NULL);
    return refuse(error, "no balloons here");
}

/* Parsers that are wrong: what the property's sink gets is changed. */

static const SubjectStreamSink *property_sink;

static void other_bytes(void *opaque, unsigned block, uint64_t page, const uint8_t *bytes)
{
    static uint8_t changed[POSTCOPY_PAGE];

    if (bytes) {
        memcpy(changed, bytes, sizeof(changed));
        changed[POSTCOPY_PAGE - 1] ^= 0x80;
    }
    property_sink->page(opaque, block, page, bytes ? changed : NULL);
}

static void no_page(void *opaque, unsigned block, uint64_t page, const uint8_t *bytes)
{
    (void)opaque;
    (void)block;
    (void)page;
    (void)bytes;
}

static void other_value(void *opaque, uint32_t value)
{
    property_sink->ping(opaque, value + 1);
}

static SubjectStatus parse_by(const SubjectStreamSink *changed, const Guest *guest,
                              uint32_t section_id, unsigned channel, const uint8_t *bytes,
                              size_t size, size_t piece, const SubjectStreamSink *sink,
                              GError **error)
{
    SubjectStreamSink mixed = *sink;

    property_sink = sink;
    mixed.page = changed->page ? changed->page : sink->page;
    mixed.ping = changed->ping ? changed->ping : sink->ping;
    return right()->parse(guest, section_id, channel, bytes, size, piece, &mixed, error);
}

#define PARSER(name, member, function)                                                             \
    static SubjectStatus name(const Guest *guest, uint32_t section_id, unsigned channel,           \
                              const uint8_t *bytes, size_t size, size_t piece,                     \
                              const SubjectStreamSink *sink, GError **error)                       \
    {                                                                                              \
        const SubjectStreamSink changed = { .member = function };                                  \
                                                                                                   \
        return parse_by(&changed, guest, section_id, channel, bytes, size, piece, sink, error);    \
    }

PARSER(parses_other_bytes, page, other_bytes)
PARSER(misses_pages, page, no_page)
PARSER(parses_other_values, ping, other_value)

static SubjectStatus parses_everything(const Guest *guest, uint32_t section_id, unsigned channel,
                                       const uint8_t *bytes, size_t size, size_t piece,
                                       const SubjectStreamSink *sink, GError **error)
{
    parse_right(guest, section_id, channel, bytes, size, piece, sink, error);
    g_clear_error(error);
    return SUBJECT_ACCEPTED;
}

static SubjectStatus parses_and_says_nothing(const Guest *guest, uint32_t section_id,
                                             unsigned channel, const uint8_t *bytes, size_t size,
                                             size_t piece, const SubjectStreamSink *sink,
                                             GError **error)
{
    return parse_right(guest, section_id, channel, bytes, size, piece, sink, error) ==
                   SUBJECT_REFUSED
               ? refuse(error, "no")
               : SUBJECT_ACCEPTED;
}

typedef struct Wrong {
    const char *name;
    SubjectPostcopy change; /* NULL: as the right one */
    PropertyId property;
    const char *message;
} Wrong;

static const Wrong wrongs[] = {
    { "flips a bit", { .end = flips_a_bit }, PROPERTY_POSTCOPY, "rules L1, L3" },
    { "writes beyond", { .end = writes_beyond }, PROPERTY_POSTCOPY, "outside of used_length" },
    { "shows zeroes", { .end = shows_zeroes }, PROPERTY_NO_SILENT_ZERO, "rule L5" },
    { "always succeeds", { .end = always_succeeds }, PROPERTY_NO_SILENT_ZERO, "load succeeded" },
    { "always fails", { .end = always_fails }, PROPERTY_AGREES, "everything came" },
    { "says nothing", { .end = says_nothing }, PROPERTY_CLEAN_REJECT, "without a message" },
    { "says something else", { .end = says_something_else }, PROPERTY_CLEAN_REJECT, "bad luck" },
    { "leaks", { .end = leaks_a_descriptor }, PROPERTY_CLEAN_REJECT, "descriptors" },
    { "says no reason", { .start = says_no_reason }, PROPERTY_CLEAN_REJECT, "the subject says" },
    { "takes any channels", { .resume = takes_any_channels }, PROPERTY_AGREES, "not broken" },
    { "asks without need", { .start = asks_without_need }, PROPERTY_POSTCOPY, "rule Q4" },
    { "answers nobody", { .start = answers_nobody }, PROPERTY_POSTCOPY, "rule Q5" },
    { "writes garbage", { .start = writes_garbage }, PROPERTY_POSTCOPY, "rule Q1" },
    { "shuts early", { .start = shuts_early }, PROPERTY_POSTCOPY, "rule Q8" },
    { "forgets discards", { .discard = forgets_discards }, PROPERTY_POSTCOPY, "was discarded" },
    { "refuses discards", { .discard = refuses_discards }, PROPERTY_AGREES, "no balloons" },
    { "parses other bytes", { .parse = parses_other_bytes }, PROPERTY_AGREES, "other bytes" },
    { "misses pages", { .parse = misses_pages }, PROPERTY_AGREES, "misses" },
    { "parses other values", { .parse = parses_other_values }, PROPERTY_AGREES, "another value" },
    { "parses everything", { .parse = parses_everything }, PROPERTY_AGREES, "must be refused" },
    { "parses silently",
      { .parse = parses_and_says_nothing },
      PROPERTY_CLEAN_REJECT,
      "breaks rule" },
};

static const Wrong *wrong; /* the one that is looked at: a child has no arguments */

static bool is_noticed(void)
{
    const SubjectPostcopy postcopy = {
        .parse = wrong->change.parse ? wrong->change.parse : parse_right,
        .start = wrong->change.start ? wrong->change.start : start_right,
        .resume = wrong->change.resume ? wrong->change.resume : resume_right,
        .discard = wrong->change.discard ? wrong->change.discard : discard_right,
        .cancel = cancel_right,
        .end = wrong->change.end ? wrong->change.end : end_right,
    };
    const Subject subject = {
        .name = wrong->name,
        .postcopy = &postcopy,
        .errors_name_rules = true,
    };
    g_autoptr(PropertyContext) context = property_context_new(&subject);
    g_autoptr(GError) error = run_inputs(context);

    if (!error) {
        fprintf(stderr, "a subject that %s went unnoticed\n", wrong->name);
        return false;
    }
    if (!g_error_matches(error, PROPERTY_ERROR, (gint)wrong->property) ||
        !strstr(error->message, wrong->message)) {
        fprintf(stderr, "a subject that %s was noticed as: %s\n", wrong->name, error->message);
        return false;
    }
    return true;
}

static void test_each_fault_is_noticed(void **state)
{
    (void)state;
    require_uffd();
    for (unsigned i = 0; i < G_N_ELEMENTS(wrongs); i++) {
        wrong = &wrongs[i];
        run_bounded(is_noticed);
    }
}

/* Subjects without userfaultfd: the parser is looked at nevertheless. */

static SubjectStatus no_uffd(SubjectPostcopyLoad *load, const int fds[SUBJECT_CHANNELS],
                             GError **error)
{
    (void)load;
    for (unsigned i = 0; i < SUBJECT_CHANNELS; i++) {
        if (fds[i] >= 0) {
            close(fds[i]);
        }
    }
    refuse(error, "none here; sysctl helps");
    return SUBJECT_UNSUPPORTED;
}

static GError *run_without_uffd(SubjectPostcopy *postcopy, PropertyStats *stats)
{
    Subject subject = { .name = "no-uffd", .postcopy = postcopy, .errors_name_rules = true };
    g_autoptr(PropertyContext) context = NULL;
    GError *error;

    postcopy->start = no_uffd;
    context = property_context_new(&subject);
    error = run_inputs(context);
    *stats = *property_context_stats(context);
    return error;
}

static bool parser_is_checked(void)
{
    SubjectPostcopy sound = { .parse = parse_right };
    SubjectPostcopy deaf = { .parse = misses_pages };
    PropertyStats stats;
    g_autoptr(GError) none = run_without_uffd(&sound, &stats);
    g_autoptr(GError) error = NULL;

    CHECK(!none);
    CHECK(stats.unsupported == INPUTS);
    CHECK(stats.accepted + stats.refused == 0);
    CHECK(stats.pages > INPUTS / 2);
    error = run_without_uffd(&deaf, &stats);
    return g_error_matches(error, PROPERTY_ERROR, PROPERTY_AGREES);
}

static void test_without_uffd_the_parser_is_checked(void **state)
{
    (void)state;
    run_bounded(parser_is_checked);
}

static void test_a_subject_that_cannot_do_it(void **state)
{
    const Subject subject = { .name = "eager" };
    g_autoptr(PropertyContext) context = property_context_new(&subject);
    g_autoptr(GError) error = run_inputs(context);

    (void)state;
    assert_null(error);
    assert_int_equal(property_context_stats(context)->unsupported, INPUTS);
}

static bool stats_are_repeatable(void)
{
    g_autoptr(PropertyContext) one = property_context_new(subject_reference());
    g_autoptr(PropertyContext) two = property_context_new(subject_reference());

    CHECK(!run_inputs(one));
    CHECK(!run_inputs(two));
    return memcmp(property_context_stats(one), property_context_stats(two),
                  sizeof(PropertyStats)) == 0;
}

BOUNDED_TEST(test_results_are_repeatable, stats_are_repeatable)

/* Every action can be told in words, and none runs off the input's end. */
static void test_each_step_has_a_text(void **state)
{
    bool seen[POSTCOPY_N_ACTIONS] = { false };

    (void)state;
    for (unsigned i = 0; i < INPUTS; i++) {
        uint8_t data[ROOM];
        PostcopyScript script;
        size_t raw = 0;

        assert_true(postcopy_script_decode(data, make_input(i, data), &script));
        for (unsigned at = 0; at < script.n_steps; at++) {
            PostcopyStep step = postcopy_script_step(&script, at, &raw);
            g_autofree char *text = postcopy_script_describe(&script, &step);

            assert_true(strlen(text) > 10);
            seen[step.action] = true;
        }
        assert_true(raw <= script.raw_size);
    }
    for (unsigned action = 0; action < POSTCOPY_N_ACTIONS; action++) {
        assert_true(seen[action]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_holds),
        cmocka_unit_test(test_each_fault_is_noticed),
        cmocka_unit_test(test_without_uffd_the_parser_is_checked),
        cmocka_unit_test(test_a_subject_that_cannot_do_it),
        cmocka_unit_test(test_results_are_repeatable),
        cmocka_unit_test(test_each_step_has_a_text),
    };

    return pagewise_run("postcopy-property", tests);
}

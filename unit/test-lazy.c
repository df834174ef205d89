/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The property "lazy": it holds of the reference loader on many schedules, it
 * knows who loaded what while it does, and it notices the loaders that are
 * wrong on purpose (broken-lazy.c).
 */
#include "model/snapshot.h"
#include "property/alloc-meter.h"
#include "property/findings.h"
#include "property/property.h"
#include "property/schedule.h"
#include "property/watchdog.h"
#include "subject/reference.h"
#include "unit/broken-lazy.h"
#include "unit/support.h"

#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define INPUTS 600
#define BOUND_SECONDS 170

typedef struct Bytes {
    size_t size;
    uint8_t data[768];
} Bytes;

static uint64_t next_random(uint64_t *state)
{
    *state = *state * UINT64_C(6364136223846793005) + 1442695040888963407u;
    return *state >> 33;
}

static void put(Bytes *input, const void *bytes, size_t length)
{
    memcpy(input->data + input->size, bytes, length);
    input->size += length;
}

static void put_headers(Bytes *input, unsigned flags, unsigned generator, unsigned lazy_flags,
                        unsigned n_steps)
{
    InputHeader header = { .version = INPUT_VERSION,
                           .kind = INPUT_LAZY,
                           .flags = flags,
                           .generator_size = { generator } };
    InputLazy lazy = { .flags = lazy_flags, .n_steps = n_steps };

    *input = (Bytes){ 0 };
    put(input, &header, sizeof(header));
    put(input, &lazy, sizeof(lazy));
}

/* One block of 12 pages, all in the file, and its schedule. */
static void make_schedule(Bytes *input, unsigned lazy_flags, const InputStep *steps,
                          unsigned n_steps)
{
    static const uint8_t choices[] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 11, 2 };

    put_headers(input, INPUT_DIRTY_RAM, sizeof(choices), lazy_flags, n_steps);
    if (n_steps > 0) {
        put(input, steps, n_steps * sizeof(*steps));
    }
    put(input, choices, sizeof(choices));
}

static InputStep random_step(uint64_t *state)
{
    return (InputStep){
        .action = next_random(state) % STEP_N_ACTIONS,
        .thread = next_random(state) % 12,
        .block = next_random(state) % 8,
        .page = next_random(state),
        .value = next_random(state),
        .detail = next_random(state) % 32,
    };
}

static void make_random(Bytes *input, uint64_t *state, unsigned index)
{
    unsigned generator = 16 + next_random(state) % 100;
    unsigned n_steps = next_random(state) % 24;
    unsigned mutator = index % 4 == 3 ? next_random(state) % 24 : 0;
    unsigned flags = index % 8 == 1 ? INPUT_RELOAD : index % 3 == 1 ? INPUT_DIRTY_RAM : 0;

    put_headers(input, flags, generator, next_random(state) % 16, n_steps);
    for (unsigned i = 0; i < n_steps; i++) {
        InputStep step = random_step(state);

        put(input, &step, sizeof(step));
    }
    for (unsigned i = 0; i < generator + mutator; i++) {
        uint8_t byte = next_random(state);

        put(input, &byte, 1);
    }
}

static void run_all(PropertyStats *stats)
{
    g_autoptr(PropertyContext) context = property_context_new(subject_reference());
    uint64_t state = 1;

    for (unsigned i = 0; i < INPUTS; i++) {
        g_autoptr(GError) error = NULL;
        Bytes input;

        make_random(&input, &state, i);
        if (!property_lazy(context, input.data, input.size, &error)) {
            g_error("input %u: %s", i, error->message);
        }
    }
    *stats = *property_context_stats(context);
}

/* In children: who hangs is killed. */
static int body_holds(void *opaque)
{
    PropertyStats first, second;

    (void)opaque;
    run_all(&first);
    g_assert_cmpuint(first.executions, ==, INPUTS);
    g_assert_cmpuint(first.unsupported, ==, 0);
    g_assert_cmpuint(first.lazy, >, INPUTS / 2);
    g_assert_cmpuint(first.faults, >, INPUTS / 2);
    g_assert_cmpuint(first.failed, >, INPUTS / 16);
    g_assert_cmpuint(first.accepted, >, INPUTS / 8);
    g_assert_cmpuint(first.refused, >, INPUTS / 32);
    /* The same inputs, the same counters: nothing depends on how threads happen to run. */
    run_all(&second);
    g_assert_cmpmem(&first, sizeof(first), &second, sizeof(second));
    return 0;
}

static void run_bounded(int (*body)(void *), void *opaque)
{
    ChildEnd end = pagewise_run_in_child(body, opaque, BOUND_SECONDS);

    assert_false(end.timed_out);
    assert_int_equal(end.signal, 0);
    assert_int_equal(end.exit_status, 0);
}

static void require_lazy(void)
{
    g_autoptr(GError) error = NULL;
    const SubjectLazy *lazy = subject_reference()->lazy;
    void *session = lazy->session_new(&error);
    bool available = session;

    if (session) {
        lazy->session_free(session);
    }
    pagewise_skip_unless(available, "uffd", available ? "" : error->message,
                         "see the list in the reason");
}

static void test_holds_and_is_repeatable(void **state)
{
    (void)state;
    require_lazy();
    run_bounded(body_holds, NULL);
}

/* Runs one schedule on the reference loader; it has to hold. */
static PropertyStats run_schedule(unsigned lazy_flags, const InputStep *steps, unsigned n_steps)
{
    g_autoptr(PropertyContext) context = property_context_new(subject_reference());
    g_autoptr(GError) error = NULL;
    Bytes input;

    make_schedule(&input, lazy_flags, steps, n_steps);
    if (!property_lazy(context, input.data, input.size, &error)) {
        g_error("%s", error->message);
    }
    return *property_context_stats(context);
}

#define RUN(flags, ...)                                                                            \
    run_schedule(flags, (const InputStep[]){ __VA_ARGS__ },                                        \
                 sizeof((const InputStep[]){ __VA_ARGS__ }) / sizeof(InputStep))

static int body_who_loads(void *opaque)
{
    InputStep read = { .action = STEP_READ, .page = 3 };
    InputStep other = { .action = STEP_READ, .page = 9, .thread = 2 };
    InputStep eager = { .action = STEP_EAGER };
    InputStep discard = { .action = STEP_DISCARD, .page = 3 };
    InputStep madvise = { .action = STEP_MADVISE, .page = 2, .detail = 2 };

    (void)opaque;
    /* Each page's first touch is a fault, no other is. */
    g_assert_cmpuint(RUN(0, read, read, other, read).faults, ==, 2);
    /* What the eager thread has loaded faults no more. */
    g_assert_cmpuint(RUN(INPUT_LAZY_EAGER_THREAD, eager, read, other).faults, ==, 0);
    g_assert_cmpuint(RUN(INPUT_LAZY_EAGER_THREAD | INPUT_LAZY_MAPPED, read, eager, other).faults,
                     ==, 1);
    /* What was discarded faults again. */
    g_assert_cmpuint(RUN(0, read, discard, read, read).faults, ==, 2);
    g_assert_cmpuint(RUN(INPUT_LAZY_REMOVE_EVENTS, read, madvise, read).faults, ==, 2);
    g_assert_cmpuint(RUN(INPUT_LAZY_REMOVE_EVENTS, madvise, other, read).faults, ==, 2);
    return 0;
}

static void test_it_is_known_who_loads(void **state)
{
    (void)state;
    require_lazy();
    run_bounded(body_who_loads, NULL);
}

/* Four threads on a page that the eager thread has claimed: one message each, one copy. */
static int body_all_on_one_page(void *opaque)
{
    InputStep when = { .action = STEP_WHEN, .thread = SUBJECT_EAGER_THREAD, .detail = 3 };
    InputStep eager = { .action = STEP_EAGER };
    InputStep reads[4];
    PropertyStats stats;

    (void)opaque;
    for (unsigned i = 0; i < 4; i++) {
        reads[i] = (InputStep){ .action = i == 2 ? STEP_WRITE : STEP_READ,
                                .thread = i,
                                .page = 5,
                                .detail = 3,
                                .value = 0x33 };
    }
    stats = RUN(INPUT_LAZY_EAGER_THREAD, when, reads[0], reads[1], reads[2], reads[3], eager);
    /* Counted as served: the handler leaves them to who has the claim. */
    g_assert_cmpuint(stats.faults, ==, 4);
    return 0;
}

static void test_all_on_one_page(void **state)
{
    (void)state;
    require_lazy();
    run_bounded(body_all_on_one_page, NULL);
}

/*
 * A discard while the eager thread has the page's content at hand: if it were
 * placed after the discard, stale data would come back.
 */
static int body_discard_in_flight(void *opaque)
{
    InputStep eager = { .action = STEP_EAGER };
    InputStep read = { .action = STEP_READ, .page = 5 };

    (void)opaque;
    for (unsigned point = 0; point < 5; point++) {
        for (unsigned action = STEP_DISCARD; action <= STEP_MADVISE; action++) {
            InputStep when = {
                .action = STEP_WHEN, .thread = SUBJECT_EAGER_THREAD, .value = point, .detail = 1
            };
            InputStep discard = { .action = action, .thread = 1, .page = 5 };

            RUN(INPUT_LAZY_EAGER_THREAD | INPUT_LAZY_REMOVE_EVENTS, when, discard, read, eager,
                read);
            when.thread = SUBJECT_FAULT_THREAD;
            RUN(INPUT_LAZY_EAGER_THREAD | INPUT_LAZY_REMOVE_EVENTS, when, discard, eager, read,
                read);
        }
    }
    return 0;
}

static void test_discard_in_flight(void **state)
{
    (void)state;
    require_lazy();
    run_bounded(body_discard_in_flight, NULL);
}

/* Every operation, every failure, at the first to third call. */
static int body_each_failure(void *opaque)
{
    InputStep read = { .action = STEP_READ, .page = 5 };
    InputStep write = { .action = STEP_WRITE, .page = 6, .value = 1, .thread = 3 };
    InputStep discard = { .action = STEP_DISCARD, .page = 5 };
    InputStep eager = { .action = STEP_EAGER };
    uint64_t failed = 0;

    (void)opaque;
    for (unsigned operation = 0; operation < SUBJECT_N_OPERATIONS; operation++) {
        for (unsigned failure = 0; failure < 3 * 7; failure++) {
            for (unsigned calls = 0; calls < 3; calls++) {
                InputStep fail = { .action = STEP_FAIL,
                                   .thread = operation,
                                   .block = failure / 3,
                                   .value = failure % 3,
                                   .detail = calls };

                failed += RUN(failure % 2 ? INPUT_LAZY_EAGER_THREAD : INPUT_LAZY_MAPPED, fail, read,
                              write, discard, read, eager, read)
                              .failed;
            }
        }
    }
    g_assert_cmpuint(failed, >, 20);
    return 0;
}

static void test_each_failure(void **state)
{
    (void)state;
    require_lazy();
    run_bounded(body_each_failure, NULL);
}

/*
 * The fault thread dies, of poll() or of read(). A page that was discarded is
 * missing then and settled, so that it is not poisoned: who touches it must
 * not sleep until the load ends, and nor must who calls madvise().
 */
static int body_fault_thread_dies(void *opaque)
{
    InputStep fail = { .action = STEP_FAIL };
    InputStep read = { .action = STEP_READ, .page = 3 };
    InputStep other = { .action = STEP_READ, .page = 8 };
    InputStep madvise = { .action = STEP_MADVISE, .page = 3 };

    (void)opaque;
    for (unsigned operation = SUBJECT_POLL; operation <= SUBJECT_READ_MESSAGE; operation++) {
        fail.thread = operation;
        g_assert_cmpuint(RUN(INPUT_LAZY_REMOVE_EVENTS, read, madvise, fail, other, read).failed, ==,
                         1);
        g_assert_cmpuint(RUN(INPUT_LAZY_REMOVE_EVENTS, read, fail, madvise, read, other).failed, ==,
                         1);
        /* Nor can the event be read when it has died. */
        g_assert_cmpuint(RUN(INPUT_LAZY_REMOVE_EVENTS, read, fail, fail, fail, fail, madvise, read)
                             .failed,
                         ==, 1);
    }
    return 0;
}

static void test_fault_thread_dies(void **state)
{
    (void)state;
    require_lazy();
    run_bounded(body_fault_thread_dies, NULL);
}

/*
 * The file is cut off within a page that the eager thread is about to copy from
 * its mapping: the kernel fills the page up with zeroes, and no loader that
 * maps can know in time. That the load fails has to be known at its end.
 */
static int body_cut_off_before_the_copy(void *opaque)
{
    InputStep when = { .action = STEP_WHEN, .thread = SUBJECT_EAGER_THREAD, .value = 1 };
    InputStep cut = { .action = STEP_CUT, .page = 2, .detail = 9 };
    InputStep write = { .action = STEP_WRITE, .page = 2, .value = 9 };
    InputStep read = { .action = STEP_READ, .page = 2, .detail = 30 };
    InputStep eager = { .action = STEP_EAGER };
    InputStep cut_more = { .action = STEP_CUT, .page = 1, .detail = 9 };

    (void)opaque;
    g_assert_cmpuint(RUN(INPUT_LAZY_MAPPED, when, cut).failed, ==, 1);
    /* What was read before is there. */
    g_assert_cmpuint(RUN(0, when, cut).failed, ==, 0);
    when.detail = 1;
    g_assert_cmpuint(RUN(INPUT_LAZY_MAPPED, when, cut, write).failed, ==, 1);
    g_assert_cmpuint(RUN(INPUT_LAZY_MAPPED, when, cut, read).failed, ==, 1);
    /* Cut off once more after the copy, nearer to its start. */
    when.detail = 0;
    g_assert_cmpuint(RUN(INPUT_LAZY_MAPPED | INPUT_LAZY_EAGER_THREAD, when, cut, eager, cut_more)
                         .failed,
                     ==, 1);
    return 0;
}

static void test_cut_off_before_the_copy(void **state)
{
    (void)state;
    require_lazy();
    run_bounded(body_cut_off_before_the_copy, NULL);
}

static unsigned count_steps(const InputStep *steps)
{
    unsigned n = 0;

    while (steps[n].action != 0xff) {
        n++;
    }
    return n;
}

static int body_is_noticed(void *opaque)
{
    const BrokenLazy *broken = opaque;
    SubjectLazy lazy = *subject_reference()->lazy;
    Subject subject = *subject_reference();
    g_autoptr(PropertyContext) context = NULL;
    g_autoptr(GError) error = NULL;
    Bytes input;

    lazy.start = broken->start ? broken->start : lazy.start;
    lazy.discard = broken->discard ? broken->discard : lazy.discard;
    lazy.end = broken->end ? broken->end : lazy.end;
    lazy.session_new = broken->session_new ? broken->session_new : lazy.session_new;
    subject.name = broken->name;
    subject.lazy = &lazy;
    context = property_context_new(&subject);
    if (broken->property == PROPERTY_BOUNDED) {
        /* What it waits for never comes. */
        property_context_set_patience(context, 500);
    }
    make_schedule(&input, broken->lazy_flags, broken->steps, count_steps(broken->steps));
    if (property_lazy(context, input.data, input.size, &error)) {
        g_error("a loader that %s went unnoticed", broken->name);
    }
    if (error->domain != PROPERTY_ERROR || error->code != (int)broken->property ||
        !strstr(error->message, broken->message) || !strstr(error->message, broken->name)) {
        g_error("a loader that %s was noticed as: %s", broken->name, error->message);
    }
    return 0;
}

/* And the schedules that bring the faults out hold of the right loader. */
static int body_is_right(void *opaque)
{
    const BrokenLazy *broken = opaque;

    run_schedule(broken->lazy_flags, broken->steps, count_steps(broken->steps));
    return 0;
}

static void test_each_fault_is_noticed(void **state)
{
    unsigned n;
    const BrokenLazy *table = broken_lazies(&n);

    (void)state;
    require_lazy();
    for (unsigned i = 0; i < n; i++) {
        run_bounded(body_is_noticed, (void *)&table[i]);
        run_bounded(body_is_right, (void *)&table[i]);
    }
}

/* A subject that has a right file at hand. */
typedef struct Credulous {
    Subject subject; /* first: it is what a load points to */
    SubjectLazy lazy;
    Snapshot *snapshot;
    SparseFile *file;
} Credulous;

/* In place of a file that must be refused it loads the simplest one that this guest could have. */
static SubjectStatus accepts_everything(SubjectLazyLoad *load, GError **error)
{
    static const uint8_t simplest[1] = { 0 };
    const Credulous *self = (const Credulous *)load->load.subject;
    SubjectStatus status = reference_lazy.start(load, error);
    g_autofree Judgement *judgement = NULL;
    Choices choices = choices_init(simplest, sizeof(simplest));
    Guest guest;

    if (status != SUBJECT_REFUSED) {
        return status;
    }
    /* What a second load takes is not to be noticed. */
    alloc_meter_stop();
    judgement = g_new0(Judgement, 1);
    judge_file(load->load.file, load->load.guest, judgement);
    if (judgement->verdict != VERDICT_REJECT) {
        return status;
    }
    g_clear_error(error);
    snapshot_generate(&choices, UINT64_C(64) << 10, self->snapshot, &guest);
    snapshot_fit(self->snapshot, load->load.guest);
    snapshot_encode(self->snapshot, self->file);
    load->load.file = self->file;
    load->map_fd = -1;
    return reference_lazy.start(load, error);
}

/*
 * Loads by a loader that accepts everything, and ends a load by @end. Returns how often that was
 * noticed, always as what it is; *failed: loads that failed in the end.
 */
static unsigned count_noticed(SubjectStatus (*end)(SubjectLazyLoad *load, GError **error),
                              uint64_t *failed)
{
    g_autoptr(Snapshot) snapshot = snapshot_new();
    g_autoptr(SparseFile) file = sparse_file_new();
    Credulous self = { *subject_reference(), *subject_reference()->lazy, snapshot, file };
    g_autoptr(PropertyContext) context = NULL;
    uint64_t random = 1;
    unsigned noticed = 0;

    self.lazy.start = accepts_everything;
    self.lazy.end = end;
    self.subject.lazy = &self.lazy;
    context = property_context_new(&self.subject);
    for (unsigned i = 0; i < INPUTS; i++) {
        g_autoptr(GError) error = NULL;
        Bytes input;

        make_random(&input, &random, i);
        if (property_lazy(context, input.data, input.size, &error)) {
            continue;
        }
        noticed++;
        if (!g_error_matches(error, PROPERTY_ERROR, PROPERTY_AGREES) ||
            !strstr(error->message, "must be refused")) {
            g_error("input %u: a loader that accepts everything was noticed as: %s", i,
                    error->message);
        }
    }
    *failed = property_context_stats(context)->failed;
    return noticed;
}

/* Whatever the guest finds in its RAM then: what is wrong is that it was accepted. */
static int body_is_told_as_accepted(void *opaque)
{
    uint64_t failed;
    unsigned noticed = count_noticed(reference_lazy.end, &failed);

    (void)opaque;
    if (noticed < 50) {
        g_error("a loader that accepts everything was noticed %u times", noticed);
    }
    return 0;
}

static void test_an_accepted_wrong_file_is_told_as_that(void **state)
{
    (void)state;
    require_lazy();
    run_bounded(body_is_told_as_accepted, NULL);
}

/* What it ought to have refused at the start it refuses in the end. */
static SubjectStatus refuses_late(SubjectLazyLoad *load, GError **error)
{
    const Credulous *self = (const Credulous *)load->load.subject;
    SubjectStatus status = reference_lazy.end(load, error);

    if (status == SUBJECT_ACCEPTED && load->load.file == self->file) {
        g_set_error_literal(error, G_FILE_ERROR, G_FILE_ERROR_INVAL, "the file breaks a rule");
        return SUBJECT_REFUSED;
    }
    return status;
}

/* Nothing else went wrong: that is why the load failed, and nobody can know what RAM holds. */
static int body_may_refuse_late(void *opaque)
{
    uint64_t failed;
    unsigned noticed = count_noticed(refuses_late, &failed);

    (void)opaque;
    if (noticed > 0 || failed < 50) {
        g_error("a loader that refuses late was noticed %u times; %u loads failed", noticed,
                (unsigned)failed);
    }
    return 0;
}

static void test_a_wrong_file_may_be_refused_late(void **state)
{
    (void)state;
    require_lazy();
    run_bounded(body_may_refuse_late, NULL);
}

static void *no_session(GError **error)
{
    g_set_error_literal(error, G_FILE_ERROR, G_FILE_ERROR_NOSYS, "there is no userfaultfd");
    return NULL;
}

/* Where it is missing the files are loaded all the same, and judged. */
static void test_without_userfaultfd(void **state)
{
    SubjectLazy lazy = *subject_reference()->lazy;
    Subject subject = *subject_reference();
    g_autoptr(PropertyContext) context = NULL;
    uint64_t random = 1;

    (void)state;
    lazy.session_new = no_session;
    subject.lazy = &lazy;
    context = property_context_new(&subject);
    for (unsigned i = 0; i < 200; i++) {
        g_autoptr(GError) error = NULL;
        Bytes input;

        make_random(&input, &random, i);
        assert_true(property_lazy(context, input.data, input.size, &error));
    }
    assert_int_equal(property_context_stats(context)->lazy, 0);
    assert_true(property_context_stats(context)->accepted > 100);
    assert_true(property_context_stats(context)->refused > 5);
}

/* How many of some loads are judged wrong, where the reader is to clear no page. */
static unsigned count_failures(bool drops_ram)
{
    g_autoptr(GError) problem = NULL;
    g_autoptr(Findings) findings =
        findings_read(PAGEWISE_FINDINGS_DIR, "qemu-tree", "10.0.13", &problem);
    SubjectLazy lazy = *subject_reference()->lazy;
    Subject subject = *subject_reference();
    g_autoptr(PropertyContext) context = NULL;
    unsigned failures = 0;
    uint64_t random = 1;

    g_assert_no_error(problem);
    lazy.drops_ram = drops_ram;
    subject.lazy = &lazy;
    context = property_context_new(&subject);
    property_context_set_findings(context, findings, FINDING_MODE_LAZY);
    for (unsigned i = 0; i < 100; i++) {
        g_autoptr(GError) error = NULL;
        Bytes input;

        make_random(&input, &random, i);
        failures += !property_lazy(context, input.data, input.size, &error);
    }
    g_assert_cmpuint(property_context_stats(context)->repaired, >, 50);
    return failures;
}

/* The reference loader drops RAM; a subject that does not say so is not let off. */
static int body_drops_ram(void *opaque)
{
    (void)opaque;
    g_assert_cmpuint(count_failures(true), ==, 0);
    g_assert_cmpuint(count_failures(false), >, 0);
    return 0;
}

static void test_ram_that_is_dropped_reads_as_zero(void **state)
{
    (void)state;
    require_lazy();
    run_bounded(body_drops_ram, NULL);
}

static char *describe_hang(void *opaque)
{
    return g_strdup(opaque);
}

static int body_hangs(void *opaque)
{
    Watchdog *watchdog = watchdog_new(1, describe_hang, "it sleeps", NULL);

    (void)opaque;
    signal(SIGABRT, SIG_DFL);
    watchdog_begin(watchdog);
    watchdog_end(watchdog);
    watchdog_begin(watchdog);
    for (;;) {
        pause();
    }
    return 0;
}

static void test_watchdog_bites(void **state)
{
    ChildEnd end = pagewise_run_in_child(body_hangs, NULL, 60);

    (void)state;
    assert_false(end.timed_out);
    assert_int_equal(end.signal, SIGABRT);
}

static void test_watchdog_lets_go(void **state)
{
    Watchdog *watchdog = watchdog_new(1, describe_hang, "it sleeps", NULL);

    (void)state;
    for (unsigned i = 0; i < 25; i++) {
        watchdog_begin(watchdog);
        g_usleep(100000);
        watchdog_end(watchdog);
    }
    watchdog_free(watchdog);
}

static void test_schedule_as_text(void **state)
{
    static const InputStep steps[] = {
        { STEP_WHEN, SUBJECT_FAULT_THREAD, 0, 0, 2, 0, { 0 } },
        { STEP_WRITE, 3, 1, 200, 0x5a, 1, { 0 } },
        { STEP_FAIL, SUBJECT_COPY, 0, 0, 2, 4, { 0 } },
        { STEP_N_ACTIONS + STEP_DISCARD, 6, 0, 9, 0, 7, { 0 } },
    };
    g_autoptr(GString) text = g_string_new(NULL);
    Bytes bytes;
    Input input;

    (void)state;
    make_schedule(&bytes, 0, steps, G_N_ELEMENTS(steps));
    assert_true(input_decode(bytes.data, bytes.size, &input));
    assert_int_equal(input.n_steps, G_N_ELEMENTS(steps));
    schedule_describe(&input, text);
    assert_string_equal(text->str,
                        "   0 when the fault thread has placed pages:\n"
                        "   1     guest thread 3 writes page 200 of lazy block 1, 0x5a to byte 61\n"
                        "   2 UFFDIO_COPY number 5 from here: somebody else is faster, EEXIST\n"
                        "   3 guest thread 2 discards page 9 of lazy block 0, 4 pages\n");
    /* Steps that are cut off are none. */
    assert_true(input_decode(bytes.data, 24 + 2 * 8 + 3, &input));
    assert_int_equal(input.n_steps, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_holds_and_is_repeatable),
        cmocka_unit_test(test_it_is_known_who_loads),
        cmocka_unit_test(test_all_on_one_page),
        cmocka_unit_test(test_discard_in_flight),
        cmocka_unit_test(test_each_failure),
        cmocka_unit_test(test_fault_thread_dies),
        cmocka_unit_test(test_cut_off_before_the_copy),
        cmocka_unit_test(test_each_fault_is_noticed),
        cmocka_unit_test(test_an_accepted_wrong_file_is_told_as_that),
        cmocka_unit_test(test_a_wrong_file_may_be_refused_late),
        cmocka_unit_test(test_without_userfaultfd),
        cmocka_unit_test(test_ram_that_is_dropped_reads_as_zero),
        cmocka_unit_test(test_watchdog_bites),
        cmocka_unit_test(test_watchdog_lets_go),
        cmocka_unit_test(test_schedule_as_text),
    };

    return pagewise_run("lazy", tests);
}

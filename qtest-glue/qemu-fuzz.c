/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fuzzes a real QEMU from outside:
 *
 *     qemu-fuzz [--seconds N] [--inputs N] [--jobs N] [--seed N] [--folder DIR]
 *               [--findings DIR] [--program PATH]
 *
 * Inputs of kind layout are drawn at random: there is no coverage to go by, so
 * the generator's rules and the mutator's boundary values do the work. A few are
 * of kind stream: the stream goes on at odd places, or a length is large and
 * there is as much of a hole. Each is loaded through a fork server and judged by
 * the property of its kind. A failure that was not seen yet (its kind, the way
 * of loading, the rules that its file breaks) is made small, tried in a fresh
 * QEMU, and stored:
 *
 *     DIR/NAME/input         for qemu-replay
 *     DIR/NAME/snapshot.txt  the same file as text
 *     DIR/NAME/report        what happened, and the command that shows it again
 *
 * It ends after so many seconds, or inputs; on SIGINT or SIGTERM soon, with the
 * table of what was found until then, and at the second one at once.
 *
 * --findings: the registry, corpus/findings: what is known is repaired out of
 * every input, so that what is not known is met. Without it nothing is known.
 * --program: the path of qemu-replay in that command. Which QEMU: see
 * qtest-glue/qemu-binary.h. Exit status: 0, 1 if there was a finding or
 * nothing could be run, 2 for wrong arguments, 77 without a QEMU of 9.0 or newer,
 * 130 after a signal.
 */
#include "model/snapshot.h"
#include "qtest-glue/error.h"
#include "qtest-glue/qemu-case.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#define HEADER_SIZE sizeof(InputHeader)
#define MAX_GENERATOR 96
#define MAX_MUTATOR 40
/* A load is short. What is found is tried again with more patience. */
#define FUZZ_LIMITS ((LoadLimits){ .wall_ms = 15000, .cpu_ms = 300, .memory = 64 << 20 })
/* Of one kind, so many are looked at closely. */
#define MAX_MINIMISED 24
/* A QEMU that fails to start again and again is not there to be fuzzed. */
#define MAX_RESTARTS 8
#define MAX_JOBS 64
/* How often the main thread looks whether the jobs have ended. */
#define JOBS_PERIOD_MS 50
#define EXIT_USAGE 2
#define EXIT_INTERRUPTED 130

/* How the loads are spread over ways of loading. */
typedef struct Way {
    const char *machine;
    unsigned channels;
    unsigned weight; /* of 16 */
} Way;

static const Way ways[] = {
    { "none", 0, 7 },
    { "none", 2, 6 },
    { "microvm", 0, 2 },
    { "microvm", 2, 1 },
};

typedef struct Options {
    int seconds;
    int inputs; /* 0: any number */
    int jobs;
    int seed;
    char *folder;
    char *findings;
    char *program;
} Options;

/* All failures of one kind in one way of loading. */
typedef struct Kind {
    char *name; /* "multifd 2: crash SIGSEGV" */
    uint64_t count;
    double first;       /* seconds after the start */
    int first_input;    /* its number */
    unsigned minimised; /* of them */
    char *rules;        /* of the first finding */
    char *path;         /* of the first finding's input */
    char *fresh;        /* what a fresh QEMU did with it */
} Kind;

/* What all jobs share. */
typedef struct Fuzz {
    const Options *options;
    const QemuBinary *binary;
    const Findings *known;
    gint64 start;
    int running;       /* atomic: jobs */
    int interrupted;   /* atomic, a boolean */
    GMutex lock;       /* of what follows */
    GHashTable *seen;  /* name and rules, of what was looked at */
    GPtrArray *kinds;  /* of Kind, in the order of their appearance */
    int inputs;        /* drawn so far */
    unsigned findings; /* stored */
    uint64_t accepted;
    uint64_t refused;
    char *trouble; /* why a job ended early, or NULL */
} Fuzz;

typedef struct Job {
    Fuzz *fuzz;
    GRand *random;
    QemuCase *cases[G_N_ELEMENTS(ways)];
    unsigned restarts;
} Job;

static void kind_free(gpointer data)
{
    Kind *kind = data;

    g_free(kind->name);
    g_free(kind->rules);
    g_free(kind->path);
    g_free(kind->fresh);
    g_free(kind);
}

static double elapsed(const Fuzz *fuzz)
{
    return (g_get_monotonic_time() - fuzz->start) / 1e6;
}

static bool is_interrupted(Fuzz *fuzz)
{
    return g_atomic_int_get(&fuzz->interrupted);
}

static bool is_over(Fuzz *fuzz)
{
    return is_interrupted(fuzz) || elapsed(fuzz) >= fuzz->options->seconds;
}

/* Counts an input to come; false if there were enough of them. */
static bool take_input(Fuzz *fuzz)
{
    int limit = fuzz->options->inputs;
    bool more;

    g_mutex_lock(&fuzz->lock);
    more = limit == 0 || fuzz->inputs < limit;
    fuzz->inputs += more;
    g_mutex_unlock(&fuzz->lock);
    return more;
}

/* ---- inputs ---- */

/* Few mutations, mostly: more hide each other. */
static unsigned draw_mutator_length(GRand *random)
{
    unsigned bound = g_rand_int_range(random, 0, 4) ? MAX_MUTATOR / 3 : MAX_MUTATOR;

    return g_rand_int_range(random, 1, bound + 1);
}

static void draw_input(GRand *random, GByteArray *input)
{
    unsigned generator = g_rand_int_range(random, 0, MAX_GENERATOR + 1);
    unsigned length = generator + draw_mutator_length(random);
    InputHeader header = {
        .version = INPUT_VERSION,
        .kind = INPUT_LAYOUT,
        .generator_size = { generator, 0 },
    };

    g_byte_array_set_size(input, 0);
    g_byte_array_append(input, (const guint8 *)&header, HEADER_SIZE);
    for (unsigned i = 0; i < length; i++) {
        uint8_t byte = g_rand_int(random);

        g_byte_array_append(input, &byte, 1);
    }
}

/* A place in the file where something begins that a reader reads in the stream. */
static uint64_t draw_place(GRand *random, const Snapshot *snapshot)
{
    const SnapshotBlock *block =
        snapshot_block(snapshot, g_rand_int_range(random, 0, snapshot->blocks->len));
    const uint64_t places[] = {
        block->record_at,
        block->record_at,
        snapshot_block_header_at(block),
        snapshot_section_at(snapshot),
        snapshot_total_at(snapshot),
        snapshot_total_at(snapshot) + 8,
        snapshot->tail_at,
        snapshot_tail_end(snapshot),
    };

    return places[g_rand_int_range(random, 0, G_N_ELEMENTS(places))];
}

/*
 * Lets the stream go on where something begins: it does behind a block's pages,
 * at pages_offset + used_length, two fields that one mutation alone never
 * brings together (rule H4: a stream only goes forward).
 */
static void aim_stream(GRand *random, Snapshot *snapshot)
{
    SnapshotBlock *block =
        snapshot_block(snapshot, g_rand_int_range(random, 0, snapshot->blocks->len));
    uint64_t place = draw_place(random, snapshot);
    uint64_t pages = place / snapshot->page_size;

    block->pages_offset = g_rand_int_range(random, 0, pages + 1) * snapshot->page_size;
    block->used_length = place - block->pages_offset;
}

/*
 * A length of some megabytes or gigabytes, and a hole in the file that is as
 * large: one without the other is refused early. Which readers allocate it?
 */
static void aim_length(GRand *random, Snapshot *snapshot)
{
    uint64_t length = UINT64_C(1) << g_rand_int_range(random, 20, 32);
    SnapshotBlock *block =
        snapshot_block(snapshot, g_rand_int_range(random, 0, snapshot->blocks->len));

    switch (g_rand_int_range(random, 0, 3)) {
    case 0:
        snapshot->machine_length = length;
        break;
    case 1:
        snapshot->capability_count = length;
        break;
    default:
        /* So long is its bitmap. */
        block->used_length = length * 8 * snapshot->page_size;
        break;
    }
    snapshot->file_size = snapshot_tail_end(snapshot) + 2 * length;
}

/* An input of kind stream: a generated file with its stream, or a length, led astray. */
static void draw_stream(GRand *random, const Guest *guest, GByteArray *input)
{
    g_autoptr(Snapshot) snapshot = snapshot_new();
    g_autoptr(SparseFile) file = sparse_file_new();
    Guest any;
    Input drawn;

    draw_input(random, input);
    input_decode(input->data, input->len, &drawn);
    snapshot_generate(&drawn.generator, UINT64_C(1) << 20, snapshot, &any);
    snapshot_fit(snapshot, guest);
    if (g_rand_boolean(random)) {
        aim_stream(random, snapshot);
    } else {
        aim_length(random, snapshot);
    }
    if (g_rand_boolean(random)) {
        snapshot_mutate(&drawn.mutator, drawn.mutations_version, 1, snapshot, guest, NULL);
    }
    snapshot_encode(snapshot, file);
    g_byte_array_set_size(input, 0);
    input_encode_stream(guest, file, 0, input);
}

static bool is_layout(const GByteArray *input)
{
    return input->data[G_STRUCT_OFFSET(InputHeader, kind)] == INPUT_LAYOUT;
}

static unsigned generator_size(const GByteArray *input)
{
    return input->data[G_STRUCT_OFFSET(InputHeader, generator_size)];
}

/* Removes bytes of one of the two streams of choices. */
static GByteArray *without(const GByteArray *input, unsigned from, unsigned length)
{
    GByteArray *smaller = g_byte_array_new();

    g_byte_array_append(smaller, input->data, input->len);
    if (from < HEADER_SIZE + generator_size(input)) {
        smaller->data[G_STRUCT_OFFSET(InputHeader, generator_size)] -= length;
    }
    g_byte_array_remove_range(smaller, from, length);
    return smaller;
}

/* ---- a failure ---- */

/* Does the case fail in the same way with this input? No, if nobody waits for an answer. */
static bool still_fails(Fuzz *fuzz, QemuCase *c, const GByteArray *input, const char *kind)
{
    g_autoptr(GError) broken = NULL;
    g_autoptr(GError) error = NULL;
    g_autofree char *found = NULL;

    return !is_interrupted(fuzz) &&
           qemu_case_run(c, input->data, input->len, &found, &broken, &error) && found &&
           strcmp(found, kind) == 0;
}

/*
 * Removes pieces of [start, end) of the input as long as it fails in the same
 * way, large pieces first, from the end.
 */
static GByteArray *minimise_range(Fuzz *fuzz, QemuCase *c, GByteArray *input, unsigned start,
                                  unsigned end, const char *kind)
{
    for (unsigned piece = MAX(1, (end - start) / 2);; piece /= 2) {
        for (unsigned at = end; at >= start + piece && end >= start + piece;) {
            GByteArray *smaller = without(input, at - piece, piece);

            if (still_fails(fuzz, c, smaller, kind)) {
                g_byte_array_unref(input);
                input = smaller;
                end -= piece;
            } else {
                g_byte_array_unref(smaller);
            }
            at -= piece;
        }
        if (piece <= 2) {
            return input;
        }
    }
}

/* Takes @input over. One of kind stream is small as it is. */
static GByteArray *minimise(Fuzz *fuzz, QemuCase *c, GByteArray *input, const char *kind)
{
    if (!is_layout(input)) {
        return input;
    }
    input = minimise_range(fuzz, c, input, HEADER_SIZE, HEADER_SIZE + generator_size(input), kind);
    return minimise_range(fuzz, c, input, HEADER_SIZE + generator_size(input), input->len, kind);
}

/* What a fresh QEMU does with it: "same", or another kind. Free with g_free(). */
static char *try_fresh(Fuzz *fuzz, const QemuCase *c, const GByteArray *input, const char *kind)
{
    QemuSubjectConfig config = c->config;
    g_autoptr(GError) broken = NULL;
    g_autoptr(GError) error = NULL;
    g_autoptr(QemuCase) fresh = NULL;
    char *found = NULL;

    if (is_interrupted(fuzz)) {
        return g_strdup("not tried");
    }
    config.fresh = true;
    config.limits = LOAD_LIMITS_DEFAULT;
    fresh = qemu_case_new(fuzz->binary, &config, fuzz->known, &error);
    if (!fresh || !qemu_case_run(fresh, input->data, input->len, &found, &broken, &error)) {
        return g_strdup(error->message);
    }
    if (!found) {
        return g_strdup("no failure");
    }
    if (strcmp(found, kind) == 0) {
        g_free(found);
        return g_strdup("same");
    }
    return found;
}

/* "multifd-2-crash-sigsegv-H2-P1". Free with g_free(). */
static char *file_name(const char *kind, const char *rules)
{
    g_autofree char *text = g_strdup_printf("%s-%s", kind, rules);
    GString *name = g_string_new(NULL);

    for (const char *p = text; *p; p++) {
        if (g_ascii_isalnum(*p)) {
            g_string_append_c(name, *p);
        } else if (name->len && name->str[name->len - 1] != '-') {
            g_string_append_c(name, '-');
        }
    }
    return g_string_free(name, FALSE);
}

static char *replay_command(const Fuzz *fuzz, const QemuCase *c, const char *path)
{
    const char *findings = fuzz->options->findings;

    return g_strdup_printf("%s --machine %s --channels %u%s%s %s", fuzz->options->program,
                           c->config.machine->name, c->config.transfer.channels,
                           findings ? " --findings " : "", findings ? findings : "", path);
}

/* Stores a finding; returns the path of its input. Free with g_free(). */
static char *store(const Fuzz *fuzz, QemuCase *c, const GByteArray *input, const char *kind,
                   const char *rules, const char *fresh, const char *paragraph)
{
    g_autofree char *name = file_name(kind, rules);
    g_autofree char *folder = g_build_filename(fuzz->options->folder, name, NULL);
    g_autofree char *text = qemu_case_text(c, input->data, input->len);
    g_autofree char *snapshot = g_build_filename(folder, "snapshot.txt", NULL);
    g_autofree char *report = g_build_filename(folder, "report", NULL);
    char *path = g_build_filename(folder, "input", NULL);
    g_autofree char *command = replay_command(fuzz, c, path);
    g_autofree char *words = g_strdup_printf(
        "%s\n%s\nrules: %s\nQEMU: %s\nafter: %.1f s\nin a fresh QEMU: %s\nReproduce with:\n    "
        "%s\n",
        kind, paragraph, rules, fuzz->binary->version, elapsed(fuzz), fresh, command);

    g_mkdir_with_parents(folder, 0777);
    if (!g_file_set_contents(path, (const char *)input->data, input->len, NULL) ||
        !g_file_set_contents(report, words, -1, NULL) ||
        (text && !g_file_set_contents(snapshot, text, -1, NULL))) {
        fprintf(stderr, "qemu-fuzz: %s: %s\n", folder, g_strerror(errno));
    }
    return path;
}

/* The kind's entry, counted; fuzz->lock is held. */
static Kind *count_kind(Fuzz *fuzz, const char *name)
{
    Kind *kind;

    for (unsigned i = 0; i < fuzz->kinds->len; i++) {
        kind = fuzz->kinds->pdata[i];
        if (strcmp(kind->name, name) == 0) {
            kind->count++;
            return kind;
        }
    }
    kind = g_new0(Kind, 1);
    kind->name = g_strdup(name);
    kind->count = 1;
    kind->first = elapsed(fuzz);
    kind->first_input = fuzz->inputs;
    g_ptr_array_add(fuzz->kinds, kind);
    printf("%7.1f s, input %d: %s\n", kind->first, kind->first_input, name);
    fflush(stdout);
    return kind;
}

/* Counts the failure. True: it is one to look at closely. */
static bool is_news(Fuzz *fuzz, const char *name, const char *rules)
{
    char *key = g_strconcat(name, ": ", rules, NULL);
    Kind *kind;
    bool news;

    g_mutex_lock(&fuzz->lock);
    kind = count_kind(fuzz, name);
    news = g_hash_table_add(fuzz->seen, key) && kind->minimised < MAX_MINIMISED;
    kind->minimised += news;
    g_mutex_unlock(&fuzz->lock);
    return news;
}

/* Is what was made small something else than all before? */
static bool is_new_finding(Fuzz *fuzz, const char *name, const char *rules,
                           const char *rules_before)
{
    bool is_new;

    if (strcmp(rules, rules_before) == 0) {
        return true;
    }
    g_mutex_lock(&fuzz->lock);
    is_new = g_hash_table_add(fuzz->seen, g_strconcat(name, ": ", rules, NULL));
    g_mutex_unlock(&fuzz->lock);
    return is_new;
}

/* Takes @path and @fresh over. */
static void record(Fuzz *fuzz, const char *name, const char *rules, char *path, char *fresh)
{
    g_mutex_lock(&fuzz->lock);
    fuzz->findings++;
    for (unsigned i = 0; i < fuzz->kinds->len; i++) {
        Kind *kind = fuzz->kinds->pdata[i];

        if (strcmp(kind->name, name) == 0 && !kind->path) {
            kind->path = g_steal_pointer(&path);
            kind->fresh = g_steal_pointer(&fresh);
            kind->rules = g_strdup(rules);
        }
    }
    g_mutex_unlock(&fuzz->lock);
    g_free(path);
    g_free(fresh);
}

static void look_closely(Fuzz *fuzz, QemuCase *c, const GByteArray *failing, const char *kind,
                         const char *name, const char *rules_before, const char *paragraph)
{
    g_autoptr(GByteArray) input = g_byte_array_new();
    g_autofree char *rules = NULL;
    char *fresh;

    g_byte_array_append(input, failing->data, failing->len);
    input = minimise(fuzz, c, g_steal_pointer(&input), kind);
    rules = qemu_case_rules(c, input->data, input->len);
    if (!is_new_finding(fuzz, name, rules, rules_before)) {
        return;
    }
    fresh = try_fresh(fuzz, c, input, kind);
    record(fuzz, name, rules, store(fuzz, c, input, name, rules, fresh, paragraph), fresh);
}

static void handle_failure(Fuzz *fuzz, QemuCase *c, const GByteArray *input, const char *kind,
                           const char *paragraph)
{
    g_autofree char *rules = qemu_case_rules(c, input->data, input->len);
    g_autofree char *mode = qemu_case_mode(c);
    g_autofree char *name = g_strdup_printf("%s: %s", mode, kind);

    if (is_news(fuzz, name, rules)) {
        look_closely(fuzz, c, input, kind, name, rules, paragraph);
    }
}

/* ---- a job ---- */

static unsigned draw_way(GRand *random)
{
    unsigned ticket = g_rand_int_range(random, 0, 16);
    unsigned i = 0;

    while (ticket >= ways[i].weight) {
        ticket -= ways[i++].weight;
    }
    return i;
}

static bool ensure_case(Job *job, unsigned way, GError **error)
{
    const QemuSubjectConfig config = {
        .machine = qemu_machine_find(ways[way].machine),
        .mib = 1,
        .transfer = { .channels = ways[way].channels },
        .limits = FUZZ_LIMITS,
    };

    if (!job->cases[way]) {
        job->cases[way] = qemu_case_new(job->fuzz->binary, &config, job->fuzz->known, error);
    }
    return job->cases[way] != NULL;
}

static void add_stats(Fuzz *fuzz, const QemuCase *c)
{
    const PropertyStats *stats = property_context_stats(c->context);

    g_mutex_lock(&fuzz->lock);
    fuzz->accepted += stats->accepted;
    fuzz->refused += stats->refused;
    g_mutex_unlock(&fuzz->lock);
}

static void drop_case(Job *job, unsigned way)
{
    if (job->cases[way]) {
        add_stats(job->fuzz, job->cases[way]);
    }
    g_clear_pointer(&job->cases[way], qemu_case_free);
}

/* False: the job ends, with @error if that is a pity. */
static bool run_once(Job *job, GByteArray *input, GError **error)
{
    unsigned way = draw_way(job->random);
    g_autoptr(GError) broken = NULL;
    g_autoptr(GError) cause = NULL;
    g_autofree char *kind = NULL;

    if (!ensure_case(job, way, error) || !take_input(job->fuzz)) {
        return false;
    }
    if (g_rand_int_range(job->random, 0, 16) == 0) {
        draw_stream(job->random, qemu_subject_get(job->cases[way]->subject)->guest, input);
    } else {
        draw_input(job->random, input);
    }
    if (!qemu_case_run(job->cases[way], input->data, input->len, &kind, &broken, &cause)) {
        /* The server is gone; the next round starts another. */
        drop_case(job, way);
        if (++job->restarts > MAX_RESTARTS) {
            g_propagate_error(error, g_steal_pointer(&cause));
            return false;
        }
        return true;
    }
    if (kind) {
        handle_failure(job->fuzz, job->cases[way], input, kind, broken->message);
    }
    return true;
}

static gpointer run_job(gpointer opaque)
{
    Job *job = opaque;
    g_autoptr(GByteArray) input = g_byte_array_new();
    g_autoptr(GError) error = NULL;

    while (!is_over(job->fuzz) && run_once(job, input, &error)) {
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(ways); i++) {
        drop_case(job, i);
    }
    if (error) {
        g_mutex_lock(&job->fuzz->lock);
        g_free(job->fuzz->trouble);
        job->fuzz->trouble = g_strdup(error->message);
        g_mutex_unlock(&job->fuzz->lock);
    }
    g_atomic_int_dec_and_test(&job->fuzz->running);
    return NULL;
}

/* Waits until all jobs are at their end, or for the first of @signals. */
static void wait_for_jobs(Fuzz *fuzz, const sigset_t *signals)
{
    const struct timespec period = { .tv_nsec = JOBS_PERIOD_MS * 1000000 };

    while (g_atomic_int_get(&fuzz->running) > 0) {
        if (sigtimedwait(signals, NULL, &period) > 0) {
            g_atomic_int_set(&fuzz->interrupted, true);
            return;
        }
    }
}

static void run_jobs(Fuzz *fuzz)
{
    g_autofree Job *jobs = g_new0(Job, fuzz->options->jobs);
    g_autofree GThread **threads = g_new0(GThread *, fuzz->options->jobs);
    sigset_t signals;
    sigset_t old;

    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    /* The jobs inherit it. */
    pthread_sigmask(SIG_BLOCK, &signals, &old);
    fuzz->running = fuzz->options->jobs;
    for (int i = 0; i < fuzz->options->jobs; i++) {
        jobs[i].fuzz = fuzz;
        jobs[i].random = g_rand_new_with_seed(fuzz->options->seed + i);
        threads[i] = g_thread_new("qemu-fuzz", run_job, &jobs[i]);
    }
    wait_for_jobs(fuzz, &signals);
    /* Who will not wait for the jobs' last loads, ends us by a second signal. */
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    for (int i = 0; i < fuzz->options->jobs; i++) {
        g_thread_join(threads[i]);
        g_rand_free(jobs[i].random);
    }
}

/* ---- the program ---- */

static void print_table(const Fuzz *fuzz)
{
    double seconds = elapsed(fuzz);

    printf("\n| way of loading, and kind | first after s | at input | times | rules | "
           "fresh QEMU | input |\n|---|---|---|---|---|---|---|\n");
    for (unsigned i = 0; i < fuzz->kinds->len; i++) {
        const Kind *kind = fuzz->kinds->pdata[i];

        printf("| %s | %.1f | %d | %" G_GUINT64_FORMAT " | %s | %s | %s |\n", kind->name,
               kind->first, kind->first_input, kind->count, kind->rules ? kind->rules : "-",
               kind->fresh ? kind->fresh : "-", kind->path ? kind->path : "-");
    }
    printf("\nqemu-fuzz: %s%s, seed %d, %d jobs: %d inputs in %.0f s (%.0f/s), "
           "%" G_GUINT64_FORMAT " accepted, %" G_GUINT64_FORMAT " refused, %u kinds, "
           "%u findings\n",
           fuzz->interrupted ? "interrupted: " : "", fuzz->binary->version, fuzz->options->seed,
           fuzz->options->jobs, fuzz->inputs, seconds, fuzz->inputs / seconds, fuzz->accepted,
           fuzz->refused, fuzz->kinds->len, fuzz->findings);
}

static int fuzz_binary(const Options *options, const QemuBinary *binary, const Findings *known)
{
    Fuzz fuzz = {
        .options = options,
        .binary = binary,
        .known = known,
        .start = g_get_monotonic_time(),
        .seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL),
        .kinds = g_ptr_array_new_with_free_func(kind_free),
    };
    int status;

    g_mutex_init(&fuzz.lock);
    run_jobs(&fuzz);
    print_table(&fuzz);
    if (fuzz.trouble) {
        fprintf(stderr, "qemu-fuzz: a job ended early: %s\n", fuzz.trouble);
    }
    status = fuzz.kinds->len > 0 || fuzz.trouble ? 1 : 0;
    status = fuzz.interrupted ? EXIT_INTERRUPTED : status;
    g_mutex_clear(&fuzz.lock);
    g_hash_table_unref(fuzz.seen);
    g_ptr_array_unref(fuzz.kinds);
    g_free(fuzz.trouble);
    return status;
}

/* What is wrong with the options' values, or NULL. */
static const char *find_wrong(const Options *options)
{
    if (options->seconds < 1) {
        return "--seconds: at least 1";
    }
    if (options->inputs < 0) {
        return "--inputs: at least 1, or 0 for any number";
    }
    return options->jobs < 1 || options->jobs > MAX_JOBS ? "--jobs: 1 to 64" : NULL;
}

static bool parse_options(int *argc, char ***argv, Options *options)
{
    const GOptionEntry entries[] = {
        { "seconds", 0, 0, G_OPTION_ARG_INT, &options->seconds, "how long (60)", "N" },
        { "inputs", 0, 0, G_OPTION_ARG_INT, &options->inputs, "at most so many (0: any number)",
          "N" },
        { "jobs", 0, 0, G_OPTION_ARG_INT, &options->jobs, "threads, each with QEMUs (cores)", "N" },
        { "seed", 0, 0, G_OPTION_ARG_INT, &options->seed, "of the random inputs (1)", "N" },
        { "folder", 0, 0, G_OPTION_ARG_FILENAME, &options->folder, "for findings", "DIR" },
        { "findings", 0, 0, G_OPTION_ARG_FILENAME, &options->findings,
          "registry of what is known (none)", "DIR" },
        { "program", 0, 0, G_OPTION_ARG_FILENAME, &options->program, "path of qemu-replay",
          "PATH" },
        G_OPTION_ENTRY_NULL,
    };
    g_autoptr(GOptionContext) context = g_option_context_new(NULL);
    g_autoptr(GError) error = NULL;
    const char *wrong;

    g_option_context_set_summary(context, "Fuzzes a real QEMU's loading of mapped-ram snapshots.");
    g_option_context_add_main_entries(context, entries, NULL);
    if (!g_option_context_parse(context, argc, argv, &error) || *argc != 1) {
        fprintf(stderr, "qemu-fuzz: %s\n", error ? error->message : "too many arguments");
        return false;
    }
    wrong = find_wrong(options);
    if (wrong) {
        fprintf(stderr, "qemu-fuzz: %s\n", wrong);
        return false;
    }
    options->folder = options->folder ? options->folder : g_strdup("qemu-fuzz");
    options->program = options->program ? options->program : g_strdup("qemu-replay");
    return true;
}

static void options_clear(Options *options)
{
    g_free(options->folder);
    g_free(options->findings);
    g_free(options->program);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Options, options_clear)

int main(int argc, char **argv)
{
    g_auto(Options) options = {
        .seconds = 60,
        .jobs = MIN(g_get_num_processors(), MAX_JOBS),
        .seed = 1,
    };
    g_autoptr(QemuBinary) binary = NULL;
    g_autoptr(Findings) known = NULL;
    g_autoptr(GError) error = NULL;

    if (!parse_options(&argc, &argv, &options)) {
        return EXIT_USAGE;
    }
    binary = qemu_binary_find(&error);
    if (!binary) {
        fprintf(stderr, "SKIP qemu: %s; remedy: %s\n", error->message, QEMU_BINARY_REMEDY);
        return QEMU_BINARY_EXIT_SKIP;
    }
    known = qemu_findings_read(binary, options.findings, &error);
    if (!known) {
        fprintf(stderr, "qemu-fuzz: %s\n", error->message);
        return 1;
    }
    return fuzz_binary(&options, binary, known);
}

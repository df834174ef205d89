/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The fork server in a real QEMU: that it is worth its speed. On every input of
 * the corpora it answers as a fresh QEMU does, in verdict, words and RAM; each
 * way in which a load can end is told from the others; and nothing of it
 * outlives us.
 */
#define _GNU_SOURCE /* pipe2 */

#include "model/judge.h"
#include "model/snapshot.h"
#include "property/findings.h"
#include "property/input.h"
#include "qtest-glue/error.h"
#include "qtest-glue/qemu-subject.h"
#include "unit/qemu-test.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#define RAM (UINT64_C(1) << 20)
#define MAX_TRIES 5

/* Short enough for a test, long enough for a machine with other work to do. */
static const LoadLimits limits = { .wall_ms = 20000, .cpu_ms = 1000, .memory = 64 << 20 };

static QemuSubject *new_limited(const QemuBinary *binary, const char *machine, unsigned channels,
                                bool fresh, const LoadLimits *load_limits)
{
    const QemuSubjectConfig config = {
        .machine = qemu_machine_find(machine),
        .mib = RAM >> 20,
        .transfer = { .channels = channels },
        .limits = *load_limits,
        .fresh = fresh,
    };
    g_autoptr(GError) error = NULL;
    QemuSubject *subject = qemu_subject_new(binary, &config, &error);

    if (!subject) {
        fail_msg("%s", error->message);
    }
    return subject;
}

static QemuSubject *new_subject(const QemuBinary *binary, const char *machine, unsigned channels,
                                bool fresh)
{
    return new_limited(binary, machine, channels, fresh, &limits);
}

/* Guest RAM for one load, and how it ended. */
typedef struct Loaded {
    uint8_t *ram[GUEST_MAX_BLOCKS];
    QemuLoadOutcome outcome;
    char *message;
} Loaded;

static void loaded_clear(Loaded *loaded)
{
    for (unsigned i = 0; i < GUEST_MAX_BLOCKS; i++) {
        g_free(loaded->ram[i]);
    }
    g_free(loaded->message);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Loaded, loaded_clear)

static void load(QemuSubject *qemu, const SparseFile *file, Loaded *loaded)
{
    const Subject *subject = qemu_subject_get(qemu);
    SubjectLoad load = { .subject = subject, .file = file, .guest = subject->guest };
    g_autoptr(GError) error = NULL;

    for (unsigned i = 0; i < subject->guest->n_blocks; i++) {
        loaded->ram[i] = g_malloc0(subject->guest->blocks[i].max_length);
        load.blocks[i].host = loaded->ram[i];
    }
    subject->load_file(&load, &error);
    loaded->outcome = qemu_subject_outcome(qemu);
    loaded->message = g_strdup(error ? error->message : "");
    if (loaded->outcome == QEMU_LOAD_UNABLE) {
        fail_msg("%s", loaded->message);
    }
}

/* ---- the corpora ---- */

/*
 * Several channels write a page that the file has twice in any order: then the
 * format says nothing of it.
 */
static void assert_same_ram(const char *name, const Guest *guest, const SparseFile *file,
                            unsigned channels, const Loaded *a, const Loaded *b)
{
    g_autofree Judgement *judgement = g_new(Judgement, 1);

    judge_file(file, guest, judgement);
    for (unsigned i = 0; i < guest->n_blocks; i++) {
        bool is_open = judgement->ram_unspecified || judgement->blocks[i].unspecified;

        if (!(channels > 1 && is_open) &&
            memcmp(a->ram[i], b->ram[i], guest->blocks[i].max_length) != 0) {
            fail_msg("%s: block '%s' differs", name, guest->blocks[i].idstr);
        }
    }
}

/* The same words, but for the names of processes and addresses. */
static void assert_same(const char *name, QemuSubject *forked, QemuSubject *fresh,
                        unsigned channels, const SparseFile *file)
{
    g_auto(Loaded) a = { 0 };
    g_auto(Loaded) b = { 0 };

    load(fresh, file, &a);
    load(forked, file, &b);
    if (a.outcome != b.outcome || strcmp(qemu_subject_log(fresh), qemu_subject_log(forked)) != 0) {
        fail_msg("%s: a fresh QEMU %s (%s), the fork server's %s (%s)", name,
                 qemu_load_outcome_name(a.outcome), qemu_subject_log(fresh),
                 qemu_load_outcome_name(b.outcome), qemu_subject_log(forked));
    }
    assert_same_ram(name, qemu_subject_get(fresh)->guest, file, channels, &a, &b);
}

typedef struct Counts {
    unsigned channels;
    GHashTable *files; /* contents of those that were compared: many inputs are one file */
    unsigned inputs;
    unsigned outcomes[QEMU_LOAD_OUTCOMES];
} Counts;

/* True the first time. */
static bool is_new_file(const SparseFile *file, GHashTable *files)
{
    g_autoptr(GByteArray) content = g_byte_array_new();

    sparse_file_encode(file, content);
    return g_hash_table_add(files, g_compute_checksum_for_data(G_CHECKSUM_SHA256, content->data,
                                                               content->len));
}

static void compare_input(const char *path, QemuSubject *forked, QemuSubject *fresh, Counts *counts)
{
    g_autoptr(Snapshot) snapshot = snapshot_new();
    g_autoptr(SparseFile) file = sparse_file_new();
    g_autofree char *bytes = NULL;
    size_t length;
    Input input;
    Guest guest;

    assert_true(g_file_get_contents(path, &bytes, &length, NULL));
    if (!input_decode((const uint8_t *)bytes, length, &input)) {
        return;
    }
    input_make_file_for(&input, qemu_subject_get(fresh)->guest, snapshot, file, &guest, NULL);
    if (sparse_file_data_bytes(file) > INPUT_MAX_DATA_BYTES) {
        return;
    }
    counts->inputs++;
    if (!is_new_file(file, counts->files)) {
        return;
    }
    assert_same(path, forked, fresh, counts->channels, file);
    counts->outcomes[qemu_subject_outcome(fresh)]++;
}

static void compare_corpus(const char *stem, QemuSubject *forked, QemuSubject *fresh,
                           Counts *counts)
{
    g_autofree char *folder = g_build_filename(PAGEWISE_CORPUS_DIR, stem, NULL);
    g_autoptr(GDir) dir = g_dir_open(folder, 0, NULL);
    const char *name;

    assert_non_null(dir);
    while ((name = g_dir_read_name(dir))) {
        g_autofree char *path = g_build_filename(folder, name, NULL);

        compare_input(path, forked, fresh, counts);
    }
}

/*
 * All whole files of the corpora: those that are generated, for the guest that
 * QEMU has, and those that are given byte by byte.
 */
static void compare_corpora(const char *machine, unsigned channels)
{
    g_autoptr(QemuBinary) binary = require_qemu();
    g_autoptr(QemuSubject) forked = new_subject(binary, machine, channels, false);
    g_autoptr(QemuSubject) fresh = new_subject(binary, machine, channels, true);
    g_autoptr(GHashTable) files = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    Counts counts = { .channels = channels, .files = files };

    compare_corpus("fuzz-layout", forked, fresh, &counts);
    compare_corpus("fuzz-round-trip", forked, fresh, &counts);
    compare_corpus("fuzz-stream", forked, fresh, &counts);
    print_message("%s, %u channels: %u inputs, %u files", machine, channels, counts.inputs,
                  g_hash_table_size(files));
    for (unsigned i = 0; i < QEMU_LOAD_OUTCOMES; i++) {
        if (counts.outcomes[i]) {
            print_message(", %u %s", counts.outcomes[i], qemu_load_outcome_name(i));
        }
    }
    print_message("\n");
    /* A comparison of refusals alone would not say much. */
    assert_true(counts.inputs > 100);
    assert_true(counts.outcomes[QEMU_LOAD_COMPLETED] > counts.inputs / 40);
    assert_true(counts.outcomes[QEMU_LOAD_REFUSED] > 0);
}

static void test_corpora(void **state)
{
    (void)state;
    compare_corpora("none", 0);
}

static void test_corpora_multifd(void **state)
{
    (void)state;
    compare_corpora("none", 2);
}

/* ---- one file, and what comes of it ---- */

/* A right file for the subject's guest: pages 0 and 70 are set. */
static void make_right(QemuSubject *qemu, Snapshot *snapshot)
{
    static const uint8_t simplest[1] = { 0 };
    Choices choices = choices_init(simplest, sizeof(simplest));
    Guest guest;

    snapshot_generate(&choices, RAM, snapshot, &guest);
    snapshot_fit(snapshot, qemu_subject_get(qemu)->guest);
    snapshot_block_add_run(snapshot_block(snapshot, 0),
                           (PageRun){ .first = 70, .count = 1, .content = CONTENT_PATTERN });
    snapshot_layout(snapshot, SNAPSHOT_PAGES_ALIGNMENT);
}

static void assert_outcome(QemuSubject *qemu, const SparseFile *file, QemuLoadOutcome outcome,
                           const char *words)
{
    g_auto(Loaded) loaded = { 0 };

    load(qemu, file, &loaded);
    if (loaded.outcome != outcome || !strstr(loaded.message, words)) {
        fail_msg("%s: %s; expected %s: %s", qemu_load_outcome_name(loaded.outcome), loaded.message,
                 qemu_load_outcome_name(outcome), words);
    }
}

static void assert_right_loads(QemuSubject *qemu)
{
    g_autoptr(Snapshot) snapshot = snapshot_new();
    g_autoptr(SparseFile) file = sparse_file_new();
    g_auto(Loaded) loaded = { 0 };
    uint64_t pages_at;

    make_right(qemu, snapshot);
    snapshot_encode(snapshot, file);
    load(qemu, file, &loaded);
    assert_string_equal(loaded.message, "");
    assert_int_equal(loaded.outcome, QEMU_LOAD_COMPLETED);
    pages_at = snapshot_block(snapshot, 0)->pages_at + 70 * 4096;
    assert_int_equal(sparse_file_compare(file, pages_at, loaded.ram[0] + 70 * 4096, 4096), 4096);
    assert_int_equal(loaded.ram[0][71 * 4096], 0);
}

static void check_outcomes(bool fresh)
{
    g_autoptr(QemuBinary) binary = require_qemu();
    g_autoptr(QemuSubject) qemu = new_subject(binary, "none", 0, fresh);
    g_autoptr(Snapshot) snapshot = snapshot_new();
    g_autoptr(SparseFile) file = sparse_file_new();

    assert_right_loads(qemu);
    make_right(qemu, snapshot);
    snapshot->magic++;
    snapshot_encode(snapshot, file);
    assert_outcome(qemu, file, QEMU_LOAD_REFUSED, "Not a migration stream");
    if (binary->major < 11) {
        make_right(qemu, snapshot);
        snapshot_block(snapshot, 0)->page_size = 0;
        snapshot_encode(snapshot, file);
        assert_outcome(qemu, file, QEMU_LOAD_CRASHED, "signal 8");
    }
    assert_right_loads(qemu);
}

static void test_outcomes_forked(void **state)
{
    (void)state;
    check_outcomes(false);
}

static void test_outcomes_fresh(void **state)
{
    (void)state;
    check_outcomes(true);
}

/*
 * Loads the reproducer of a finding until it ends as wanted: which thread comes
 * first decides in some.
 */
static void assert_finding(QemuSubject *qemu, const Findings *findings, const char *id,
                           QemuLoadOutcome outcome, const char *words)
{
    const Finding *finding = findings_by_id(findings, id);
    g_autoptr(Snapshot) snapshot = snapshot_new();
    g_autoptr(SparseFile) file = sparse_file_new();
    g_auto(Loaded) loaded = { 0 };
    g_autoptr(GError) error = NULL;

    if (!finding) {
        print_message("%s: repaired in this QEMU\n", id);
        return;
    }
    assert_true(finding_make_file(finding, snapshot, file, &error));
    for (unsigned i = 0; i < MAX_TRIES && (i == 0 || loaded.outcome != outcome); i++) {
        loaded_clear(&loaded);
        load(qemu, file, &loaded);
    }
    if (loaded.outcome != outcome || !strstr(loaded.message, words)) {
        fail_msg("%s: %s: %s", id, qemu_load_outcome_name(loaded.outcome), loaded.message);
    }
}

/* What never ends, or takes all memory, is told by which, and the next file is loaded. */
static void check_no_end(bool fresh)
{
    const LoadLimits impatient = { .wall_ms = 3000, .cpu_ms = 1000, .memory = 64 << 20 };
    g_autoptr(QemuBinary) binary = require_qemu();
    g_autofree char *version =
        g_strdup_printf("%u.%u.%u", binary->major, binary->minor, binary->micro);
    g_autoptr(GError) error = NULL;
    g_autoptr(Findings) findings =
        findings_read(PAGEWISE_CORPUS_DIR "/findings", "qemu-binary", version, &error);
    g_autoptr(QemuSubject) plain = NULL;
    g_autoptr(QemuSubject) multifd = NULL;

    assert_null(error);
    plain = new_subject(binary, "none", 0, fresh);
    assert_finding(plain, findings, "pages-offset-loop", QEMU_LOAD_HUNG, "of processor time");
    assert_finding(plain, findings, "machine-length-memory", QEMU_LOAD_BLEW_UP, "of memory");
    assert_right_loads(plain);
    multifd = new_limited(binary, "none", 2, fresh, &impatient);
    assert_finding(multifd, findings, "multifd-failed-channel", QEMU_LOAD_WEDGED,
                   "main loop is dead");
    assert_right_loads(multifd);
}

static void test_no_end_forked(void **state)
{
    (void)state;
    check_no_end(false);
}

static void test_no_end_fresh(void **state)
{
    (void)state;
    check_no_end(true);
}

/* With channels, and with more than one block. */
static void test_other_loads(void **state)
{
    g_autoptr(QemuBinary) binary = require_qemu();
    g_autoptr(QemuSubject) two_blocks = new_subject(binary, "microvm", 0, false);

    (void)state;
    for (unsigned channels = 1; channels <= 8; channels *= 2) {
        g_autoptr(QemuSubject) multifd = new_subject(binary, "none", channels, false);

        assert_right_loads(multifd);
        assert_right_loads(multifd);
    }
    assert_int_equal(qemu_subject_get(two_blocks)->guest->n_blocks, 2);
    assert_right_loads(two_blocks);
    assert_right_loads(two_blocks);
}

static void test_lazy_loads(void **state)
{
    g_autoptr(QemuBinary) binary = require_fast_snapshot_load();
    const QemuSubjectConfig config = {
        .machine = qemu_machine_find("none"),
        .mib = RAM >> 20,
        .transfer = { .lazy = true },
        .limits = limits,
    };
    g_autoptr(GError) error = NULL;
    g_autoptr(QemuSubject) lazy = qemu_subject_new(binary, &config, &error);

    (void)state;
    assert_null(error);
    assert_right_loads(lazy);
    assert_right_loads(lazy);
}

/* ---- who is killed, leaves nothing ---- */

typedef struct Report {
    pid_t server;
    pid_t child;
} Report;

static void serve_and_report(const QemuBinary *binary, int output)
{
    g_autoptr(QemuGuest) guest = qemu_guest_new(qemu_machine_find("none"), 1, NULL);
    const QemuTransfer plain = { 0 };
    ForkServer *server = fork_server_new(binary, guest, &plain, &limits, NULL);
    QemuSubject *stand_in = new_subject(binary, "none", 0, true);
    g_autoptr(Snapshot) snapshot = snapshot_new();
    g_autoptr(SparseFile) file = sparse_file_new();
    Report report = { 0 };

    make_right(stand_in, snapshot);
    qemu_subject_free(stand_in);
    snapshot_encode(snapshot, file);
    sparse_file_to_fd(file, fork_server_file(server), NULL);
    if (fork_server_load(server, NULL) == QEMU_LOAD_COMPLETED) {
        report.child = fork_server_child(server);
        report.server = fork_server_pid(server);
    }
    if (write(output, &report, sizeof(report)) == sizeof(report)) {
        pause();
    }
    _exit(1);
}

static void assert_ends(int pidfd)
{
    struct pollfd ended = { .fd = pidfd, .events = POLLIN };
    int n = poll(&ended, 1, 5000);

    close(pidfd);
    assert_int_equal(n, 1);
}

/* A program that is killed between a load and its end. */
static void test_killed_program(void **state)
{
    g_autoptr(QemuBinary) binary = require_qemu();
    struct pollfd ready = { .events = POLLIN };
    Report report = { 0 };
    pid_t program;
    int server;
    int child;
    int pipes[2];

    (void)state;
    assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
    program = fork_dependent();
    if (program == 0) {
        serve_and_report(binary, pipes[1]);
    }
    close(pipes[1]);
    ready.fd = pipes[0];
    if (poll(&ready, 1, 2 * QEMU_START_TIMEOUT_MS) != 1 ||
        read(pipes[0], &report, sizeof(report)) != sizeof(report)) {
        report.child = 0;
    }
    close(pipes[0]);
    server = pidfd_open(report.server, 0);
    child = pidfd_open(report.child, 0);
    kill(program, SIGKILL);
    waitpid(program, NULL, 0);
    assert_true(report.child > 0);
    assert_ends(server);
    assert_ends(child);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_outcomes_forked), cmocka_unit_test(test_outcomes_fresh),
        cmocka_unit_test(test_no_end_forked),   cmocka_unit_test(test_no_end_fresh),
        cmocka_unit_test(test_other_loads),     cmocka_unit_test(test_lazy_loads),
        cmocka_unit_test(test_killed_program),  cmocka_unit_test(test_corpora),
        cmocka_unit_test(test_corpora_multifd),
    };
    QemuFolder *folder = tmpdir_enter();
    int status = folder ? pagewise_run("test-fork-server", tests) : 1;

    return folder && tmpdir_leave(folder) ? status : 1;
}

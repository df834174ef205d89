/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qtest-glue itself: what it does with good and bad answers, and with QEMUs
 * that do not start, end too early, or would outlive us. The first half talks
 * to a socket pair and to small programs, the second half to a real QEMU.
 *
 * The whole program fails if a process, socket or file is left at its end.
 */
#define _GNU_SOURCE /* pipe2 */

#include "qtest-glue/error.h"
#include "qtest-glue/qemu-snapshot.h"
#include "unit/qemu-test.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define GREETING "{\"QMP\": {\"version\": {\"qemu\": {\"major\": 10}}, \"capabilities\": []}}\r\n"
#define NEGOTIATED "{\"return\": {}, \"id\": 1}\r\n"

static const char *const none[] = { "-accel", "tcg", "-machine", "none", NULL };

static void assert_error(GError **error, GQuark domain, int code, const char *text)
{
    if (!*error) {
        fail_msg("no error; expected one with '%s'", text);
    }
    if (!g_error_matches(*error, domain, code) || !strstr((*error)->message, text)) {
        fail_msg("%s %d: %s; expected '%s'", g_quark_to_string((*error)->domain), (*error)->code,
                 (*error)->message, text);
    }
    g_clear_error(error);
}

/* ---- without QEMU ---- */

static void test_version_parse(void **state)
{
    unsigned major;
    unsigned minor;
    unsigned micro;

    (void)state;
    assert_true(qemu_version_parse("QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2)", &major,
                                   &minor, &micro));
    assert_int_equal(major, 10);
    assert_int_equal(minor, 0);
    assert_int_equal(micro, 2);
    assert_true(qemu_version_parse("QEMU emulator version 9.1", &major, &minor, &micro));
    assert_int_equal(major, 9);
    assert_int_equal(micro, 0);
    assert_false(qemu_version_parse("bash 5.2.15", &major, &minor, &micro));
    assert_false(qemu_version_parse("", &major, &minor, &micro));
}

/* A program that prints @output and ends with @status. Free with g_free(). */
static char *fake_binary(const char *output, int status)
{
    g_autofree char *path = g_build_filename(g_get_tmp_dir(), "fake-qemu", NULL);
    g_autofree char *script = g_strdup_printf("#!/bin/sh\necho '%s'\nexit %d\n", output, status);

    assert_true(g_file_set_contents_full(path, script, -1, G_FILE_SET_CONTENTS_NONE, 0700, NULL));
    return g_steal_pointer(&path);
}

static void assert_unusable(const char *output, int status, const char *reason)
{
    g_autofree char *path = fake_binary(output, status);
    g_autoptr(GError) error = NULL;

    assert_null(qemu_binary_probe(path, &error));
    assert_error(&error, QEMU_ERROR, QEMU_ERROR_NO_BINARY, reason);
    g_unlink(path);
}

static void test_binary_unusable(void **state)
{
    g_autoptr(GError) error = NULL;

    (void)state;
    assert_null(qemu_binary_probe("pagewise-no-such-qemu", &error));
    assert_error(&error, QEMU_ERROR, QEMU_ERROR_NO_BINARY, "no such program");
    assert_unusable("QEMU emulator version 8.2.4", 0, "too old");
    assert_unusable("QEMU emulator version 9.0.0", 1, "exit status 1");
    assert_unusable("hello", 0, "does not answer as QEMU does");
}

static void test_binary_usable(void **state)
{
    g_autofree char *path = fake_binary("QEMU emulator version 9.0.0", 0);
    g_autoptr(GError) error = NULL;
    g_autoptr(QemuBinary) binary = qemu_binary_probe(path, &error);

    (void)state;
    g_unlink(path);
    assert_non_null(binary);
    assert_string_equal(binary->path, path);
    assert_string_equal(binary->version, "QEMU emulator version 9.0.0");
    assert_int_equal(binary->major, 9);
}

/* The environment's QEMU is taken, or refused; never is another one used. */
static void test_binary_named_in_environment(void **state)
{
    g_autofree char *old = g_strdup(g_getenv("QTEST_QEMU_BINARY"));
    g_autoptr(GError) error = NULL;

    (void)state;
    g_setenv("QTEST_QEMU_BINARY", "pagewise-no-such-qemu", TRUE);
    assert_null(qemu_binary_find(&error));
    if (old) {
        g_setenv("QTEST_QEMU_BINARY", old, TRUE);
    } else {
        g_unsetenv("QTEST_QEMU_BINARY");
    }
    assert_error(&error, QEMU_ERROR, QEMU_ERROR_NO_BINARY, "pagewise-no-such-qemu");
}

static void test_blocks_parse(void **state)
{
    const char *text = "              Block Name    PSize              Offset               Used"
                       "              Total                HVA  RO\r\n"
                       "   0000:00:01.0/vga.vram    2 MiB  0x0000000000280000 0x0000000001000000"
                       " 0x0000000002000000 0x00007fd334e00000  rw\r\n"
                       "           a name of two    4 KiB  0x0000000000000000 0x0000000000200000"
                       " 0x0000000000200000\r\n";
    g_autoptr(GError) error = NULL;
    g_autoptr(GArray) blocks = qemu_blocks_parse(text, &error);
    const QemuBlock *block;

    (void)state;
    assert_non_null(blocks);
    assert_int_equal(blocks->len, 2);
    block = &g_array_index(blocks, QemuBlock, 0);
    assert_string_equal(block->idstr, "0000:00:01.0/vga.vram");
    assert_int_equal(block->page_size, 2 * 1024 * 1024);
    assert_int_equal(block->offset, 0x280000);
    assert_int_equal(block->used, 0x1000000);
    assert_int_equal(block->total, 0x2000000);
    assert_int_equal(block->hva, 0x7fd334e00000);
    block = &g_array_index(blocks, QemuBlock, 1);
    assert_string_equal(block->idstr, "a name of two");
    assert_int_equal(block->page_size, 4096);
    assert_int_equal(block->hva, 0);
}

static void test_blocks_parse_nothing(void **state)
{
    g_autoptr(GError) error = NULL;

    (void)state;
    assert_null(qemu_blocks_parse("unknown command: 'info ramblock'", &error));
    assert_error(&error, QEMU_ERROR, QEMU_ERROR_PROTOCOL, "lists no block");
}

/* A client whose QEMU has already said all that it will ever say. */
static QmpClient *scripted_client(const char *script, int *peer, GError **error)
{
    int pair[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    assert_int_equal(send(pair[0], script, strlen(script), 0), strlen(script));
    *peer = pair[0];
    return qmp_client_new(pair[1], error);
}

static void test_qmp_answers(void **state)
{
    static const char script[] =
        GREETING NEGOTIATED "{\"event\": \"STOP\", \"timestamp\": {}}\r\n"
                            "{\"event\": \"MIGRATION\", \"data\": {\"status\": \"setup\"}}\r\n"
                            "{\"return\": \"late\", \"id\": 1}\r\n"
                            "{\"return\": \"yes\", \"id\": 2}\r\n"
                            "{\"event\": \"MIGRATION\", \"data\": {\"status\": \"active\"}}\r\n";
    int peer;
    g_autoptr(GError) error = NULL;
    g_autoptr(QmpClient) qmp = scripted_client(script, &peer, &error);
    g_autoptr(JsonNode) answer = NULL;
    g_autoptr(JsonObject) setup = NULL;
    g_autoptr(JsonObject) active = NULL;
    g_autoptr(JsonObject) stop = NULL;

    (void)state;
    assert_non_null(qmp);
    assert_true(json_object_has_member(qmp_client_greeting(qmp), "version"));
    answer = qmp_execute(qmp, &error, "query", "{'n': <%t>}", (guint64)1);
    assert_non_null(answer);
    assert_string_equal(json_node_get_string(answer), "yes");
    setup = qmp_wait_event(qmp, "MIGRATION", 0, &error);
    assert_string_equal(json_object_get_string_member(setup, "status"), "setup");
    active = qmp_wait_event(qmp, "MIGRATION", 1000, &error);
    assert_string_equal(json_object_get_string_member(active, "status"), "active");
    stop = qmp_wait_event(qmp, "STOP", 0, &error);
    assert_int_equal(json_object_get_size(stop), 0);
    close(peer);
}

static void test_qmp_command_errors(void **state)
{
    static const char script[] = GREETING NEGOTIATED
        "{\"error\": {\"class\": \"DeviceNotFound\", \"desc\": \"no 'x'\"}, \"id\": 2}\r\n"
        "{\"error\": {\"class\": \"Brandnew\", \"desc\": \"what\"}, \"id\": 3}\r\n"
        "{\"error\": 7, \"id\": 4}\r\n";
    int peer;
    g_autoptr(GError) error = NULL;
    g_autoptr(QmpClient) qmp = scripted_client(script, &peer, &error);

    (void)state;
    assert_non_null(qmp);
    assert_false(qmp_run(qmp, &error, "device_del", NULL));
    assert_error(&error, QMP_ERROR, QMP_ERROR_DEVICE_NOT_FOUND,
                 "device_del: DeviceNotFound: no 'x'");
    assert_false(qmp_run(qmp, &error, "brew", NULL));
    assert_error(&error, QMP_ERROR, QMP_ERROR_OTHER, "brew: Brandnew: what");
    assert_false(qmp_run(qmp, &error, "pour", NULL));
    assert_error(&error, QEMU_ERROR, QEMU_ERROR_PROTOCOL, "without content");
    close(peer);
}

static void test_qmp_deadline(void **state)
{
    int peer;
    g_autoptr(GError) error = NULL;
    g_autoptr(QmpClient) qmp = scripted_client(GREETING NEGOTIATED, &peer, &error);

    (void)state;
    assert_non_null(qmp);
    assert_null(qmp_wait_event(qmp, "STOP", 10, &error));
    assert_error(&error, QEMU_ERROR, QEMU_ERROR_TIMEOUT, "STOP");
    close(peer);
    assert_null(qmp_wait_event(qmp, "STOP", 10, &error));
    assert_error(&error, QEMU_ERROR, QEMU_ERROR_DIED, "closed the connection");
    assert_false(qmp_run(qmp, &error, "quit", NULL));
    assert_error(&error, QEMU_ERROR, QEMU_ERROR_DIED, "quit");
}

static void assert_bad_greeting(const char *greeting, const char *reason)
{
    int peer;
    g_autoptr(GError) error = NULL;

    assert_null(scripted_client(greeting, &peer, &error));
    assert_error(&error, QEMU_ERROR, QEMU_ERROR_PROTOCOL, reason);
    close(peer);
}

static void test_qmp_bad_greeting(void **state)
{
    (void)state;
    assert_bad_greeting("SSH-2.0-OpenSSH_9.2\r\n", "not a JSON object");
    assert_bad_greeting("[1]\r\n", "not a JSON object");
    assert_bad_greeting("{\"QMP\": 1}\r\n", "not QMP's");
    assert_bad_greeting("{}\r\n", "not QMP's");
}

static void test_child_is_killed(void **state)
{
    const char *const argv[] = { "sh", "-c", "trap '' TERM; while :; do sleep 0.01; done", NULL };
    g_autoptr(GError) error = NULL;
    g_autofree char *status = NULL;
    Child child;

    (void)state;
    assert_true(child_spawn(&child, argv, STDERR_FILENO, &error));
    assert_false(child_wait(&child, 100));
    child_kill(&child, 50);
    assert_true(child.ended);
    status = child_describe_status(&child);
    child_clear(&child);
    assert_string_equal(status, "signal 9 (Killed)");
}

static void test_child_ends(void **state)
{
    const char *const argv[] = { "sh", "-c", "exit 3", NULL };
    const char *const nothing[] = { "pagewise-no-such-program", NULL };
    g_autoptr(GError) error = NULL;
    g_autofree char *status = NULL;
    Child child;

    (void)state;
    assert_true(child_spawn(&child, argv, STDERR_FILENO, &error));
    assert_true(child_wait(&child, 10000));
    child_kill(&child, 0);
    status = child_describe_status(&child);
    child_clear(&child);
    assert_string_equal(status, "exit status 3");
    assert_false(child_spawn(&child, nothing, STDERR_FILENO, &error));
    assert_error(&error, QEMU_ERROR, QEMU_ERROR_START, "pagewise-no-such-program");
}

/* Looks after the program as after a load; returns which limit it passed. */
static QemuLoadOutcome overrun(const char *const *argv, const LoadLimits *limits)
{
    const ProcessCost nothing = { 0 };
    gint64 deadline = deadline_after(limits->wall_ms);
    QemuLoadOutcome outcome = QEMU_LOAD_COMPLETED;
    g_autoptr(GError) error = NULL;
    Child child;

    assert_true(child_spawn(&child, argv, STDERR_FILENO, &error));
    while (outcome == QEMU_LOAD_COMPLETED) {
        g_usleep(1000);
        outcome =
            qemu_check_limits(child.pid, &nothing, limits, deadline_left(deadline) == 0, &error);
    }
    child_clear(&child);
    assert_true(g_error_matches(error, QEMU_ERROR, QEMU_ERROR_LIMIT));
    return outcome;
}

static void test_limits(void **state)
{
    const char *const spins[] = { "sh", "-c", "while :; do :; done", NULL };
    const char *const sleeps[] = { "sleep", "100", NULL };
    const char *const grows[] = {
        "awk", "BEGIN { s = \"x\"; while (length(s) < 2 ^ 26) s = s s; while (1) s = s }", NULL
    };
    const LoadLimits short_time = { .wall_ms = 60000, .cpu_ms = 50, .memory = 1 << 30 };
    const LoadLimits short_wait = { .wall_ms = 200, .cpu_ms = 60000, .memory = 1 << 30 };
    const LoadLimits little_memory = { .wall_ms = 60000, .cpu_ms = 60000, .memory = 16 << 20 };

    (void)state;
    assert_int_equal(overrun(spins, &short_time), QEMU_LOAD_HUNG);
    assert_int_equal(overrun(sleeps, &short_wait), QEMU_LOAD_WEDGED);
    assert_int_equal(overrun(grows, &little_memory), QEMU_LOAD_BLEW_UP);
}

/* ---- with a real QEMU ---- */

static QemuProcess *start(const QemuBinary *binary, const char *const *arguments)
{
    g_autoptr(GError) error = NULL;
    QemuProcess *qemu = qemu_process_start(binary, arguments, NULL, &error);

    if (!qemu) {
        fail_msg("%s", error->message);
    }
    return qemu;
}

static void test_start_and_stop(void **state)
{
    g_autoptr(QemuBinary) binary = require_qemu();
    g_autoptr(QemuProcess) qemu = start(binary, none);
    g_autoptr(GError) error = NULL;
    g_autofree char *folder = qemu_process_path(qemu, "");
    g_autoptr(JsonNode) answer = NULL;

    (void)state;
    answer = qmp_execute(qemu_process_qmp(qemu), &error, "query-status", NULL);
    assert_non_null(answer);
    assert_string_equal(json_object_get_string_member(json_node_get_object(answer), "status"),
                        "prelaunch");
    assert_false(qmp_run(qemu_process_qmp(qemu), &error, "no-such-command", NULL));
    assert_error(&error, QMP_ERROR, QMP_ERROR_COMMAND_NOT_FOUND, "no-such-command");
    assert_true(g_file_test(folder, G_FILE_TEST_IS_DIR));
    assert_true(qemu_process_stop(qemu, &error));
    g_clear_pointer(&qemu, qemu_process_free);
    assert_false(g_file_test(folder, G_FILE_TEST_EXISTS));
}

static void test_start_fails(void **state)
{
    const char *const arguments[] = { "-machine", "pagewise", NULL };
    g_autoptr(QemuBinary) binary = require_qemu();
    g_autoptr(GError) error = NULL;

    (void)state;
    assert_null(qemu_process_start(binary, arguments, NULL, &error));
    assert_non_null(strstr(error->message, "exit status 1"));
    assert_error(&error, QEMU_ERROR, QEMU_ERROR_START, "unsupported machine type");
}

/* A QEMU that waits in its main loop is not wedged. */
static void test_waiting_main_loop(void **state)
{
    const ProcessCost nothing = { 0 };
    const LoadLimits limits = { .wall_ms = 1, .cpu_ms = 60000, .memory = 1 << 30 };
    g_autoptr(QemuBinary) binary = require_qemu();
    g_autoptr(QemuProcess) qemu = start(binary, none);
    gint64 deadline = deadline_after(10000);
    QemuLoadOutcome outcome = QEMU_LOAD_WEDGED;

    (void)state;
    while (outcome != QEMU_LOAD_HUNG && deadline_left(deadline)) {
        outcome = qemu_check_limits(qemu_process_pid(qemu), &nothing, &limits, true, NULL);
    }
    assert_int_equal(outcome, QEMU_LOAD_HUNG);
}

static void test_two_at_once(void **state)
{
    g_autoptr(QemuBinary) binary = require_qemu();
    g_autoptr(QemuProcess) a = start(binary, none);
    g_autoptr(QemuProcess) b = start(binary, none);
    g_autoptr(GError) error = NULL;

    (void)state;
    assert_true(qmp_run(qemu_process_qmp(a), &error, "query-status", NULL));
    assert_true(qmp_run(qemu_process_qmp(b), &error, "query-status", NULL));
    assert_true(qemu_process_stop(a, &error));
    assert_true(qmp_run(qemu_process_qmp(b), &error, "query-status", NULL));
    /* b is ended by qemu_process_free() alone. */
}

static void test_died(void **state)
{
    g_autoptr(QemuBinary) binary = require_qemu();
    g_autoptr(QemuProcess) qemu = start(binary, none);
    g_autoptr(GError) error = NULL;

    (void)state;
    kill(qemu_process_pid(qemu), SIGKILL);
    assert_non_null(qemu_process_wait(qemu, 10000));
    assert_false(qmp_run(qemu_process_qmp(qemu), &error, "query-status", NULL));
    qemu_process_explain(qemu, &error);
    assert_error(&error, QEMU_ERROR, QEMU_ERROR_DIED, "signal 9");
    assert_false(qemu_process_stop(qemu, &error));
    assert_error(&error, QEMU_ERROR, QEMU_ERROR_DIED, "did not end in order");
}

static void test_load_refused(void **state)
{
    const char *const arguments[] = { "-accel", "tcg",       "-machine", "none", "-m",
                                      "1",      "-incoming", "defer",    NULL };
    g_autoptr(QemuBinary) binary = require_qemu();
    g_autoptr(QemuProcess) qemu = start(binary, arguments);
    g_autofree char *path = qemu_process_path(qemu, "not-a-snapshot");
    g_autoptr(GError) error = NULL;

    (void)state;
    assert_true(g_file_set_contents(path, "This is no snapshot at all.", -1, NULL));
    assert_int_equal(qemu_load_snapshot(qemu, path, NULL, &error), QEMU_LOAD_REFUSED);
    assert_non_null(error);
    assert_non_null(strstr(error->message, "Not a migration stream"));
}

static void test_load_unable(void **state)
{
    const char *const capabilities[] = { "pagewise", NULL };
    g_autoptr(QemuBinary) binary = require_qemu();
    g_autoptr(QemuProcess) qemu = start(binary, none);
    g_autoptr(GError) error = NULL;

    (void)state;
    assert_int_equal(qemu_load_snapshot(qemu, "nothing", capabilities, &error), QEMU_LOAD_UNABLE);
    assert_error(&error, QMP_ERROR, QMP_ERROR_GENERIC_ERROR, "pagewise");
}

/* What the child of test_killed_program() tells its parent. */
typedef struct Report {
    pid_t qemu;
    char folder[256];
} Report;

static void start_and_report(const QemuBinary *binary, int output)
{
    QemuProcess *qemu = qemu_process_start(binary, none, NULL, NULL);
    g_autofree char *folder = qemu ? qemu_process_path(qemu, "") : NULL;
    Report report = { .qemu = qemu ? qemu_process_pid(qemu) : 0 };

    g_strlcpy(report.folder, folder ? folder : "", sizeof(report.folder));
    if (write(output, &report, sizeof(report)) == sizeof(report)) {
        pause();
    }
    _exit(1);
}

static bool read_report(int input, Report *report)
{
    struct pollfd ready = { .fd = input, .events = POLLIN };

    return poll(&ready, 1, QEMU_START_TIMEOUT_MS) == 1 &&
           read(input, report, sizeof(*report)) == sizeof(*report) && report->qemu > 0;
}

/* Does the folder vanish soon? */
static void assert_gone(const char *folder)
{
    gint64 deadline = deadline_after(5000);

    while (g_file_test(folder, G_FILE_TEST_EXISTS)) {
        if (deadline_left(deadline) == 0) {
            fail_msg("%s is still there", folder);
        }
        g_usleep(1000);
    }
}

/* A program that is killed has no chance to stop its QEMU, nor to remove its folder. */
static void test_killed_program(void **state)
{
    g_autoptr(QemuBinary) binary = require_qemu();
    struct pollfd ended = { .events = POLLIN };
    Report report;
    int pipes[2];
    pid_t program;
    bool reported;
    int n;

    (void)state;
    assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
    program = fork_dependent();
    if (program == 0) {
        start_and_report(binary, pipes[1]);
    }
    close(pipes[1]);
    reported = read_report(pipes[0], &report);
    close(pipes[0]);
    ended.fd = reported ? pidfd_open(report.qemu, 0) : -1;
    kill(program, SIGKILL);
    waitpid(program, NULL, 0);
    assert_true(reported);
    assert_true(ended.fd >= 0);
    n = poll(&ended, 1, 5000);
    close(ended.fd);
    assert_int_equal(n, 1);
    assert_gone(report.folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_version_parse),   cmocka_unit_test(test_binary_unusable),
        cmocka_unit_test(test_binary_usable),   cmocka_unit_test(test_binary_named_in_environment),
        cmocka_unit_test(test_blocks_parse),    cmocka_unit_test(test_blocks_parse_nothing),
        cmocka_unit_test(test_qmp_answers),     cmocka_unit_test(test_qmp_command_errors),
        cmocka_unit_test(test_qmp_deadline),    cmocka_unit_test(test_qmp_bad_greeting),
        cmocka_unit_test(test_child_is_killed), cmocka_unit_test(test_child_ends),
        cmocka_unit_test(test_limits),          cmocka_unit_test(test_waiting_main_loop),
        cmocka_unit_test(test_start_and_stop),  cmocka_unit_test(test_start_fails),
        cmocka_unit_test(test_two_at_once),     cmocka_unit_test(test_died),
        cmocka_unit_test(test_load_refused),    cmocka_unit_test(test_load_unable),
        cmocka_unit_test(test_killed_program),
    };
    QemuFolder *folder = tmpdir_enter();
    int status = folder ? pagewise_run("test-qtest-glue", tests) : 1;

    return folder && tmpdir_leave(folder) ? status : 1;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Loud skips, exit statuses and children with a time-out: see support.h.
 * cmocka 1.1 tells nobody how many tests it skipped, so that skips are counted
 * here: each goes through pagewise_skip_unless().
 */
#include "unit/support.h"

#include <glib.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static size_t skipped;

bool pagewise_requires(const char *feature)
{
    const char *list = g_getenv("PAGEWISE_REQUIRE");
    g_auto(GStrv) names = g_strsplit(list ? list : "", ",", -1);

    return g_strv_contains((const char *const *)names, feature);
}

void pagewise_skip_unless(bool available, const char *feature, const char *reason,
                          const char *remedy)
{
    if (available) {
        return;
    }
    if (pagewise_requires(feature)) {
        fail_msg("%s is required by PAGEWISE_REQUIRE: %s; remedy: %s", feature, reason, remedy);
    }
    fprintf(stderr, "SKIP %s: %s; remedy: %s\n", feature, reason, remedy);
    skipped++;
    skip();
}

int pagewise_run_tests(const char *name, const struct CMUnitTest *tests, size_t n_tests)
{
    int failed;

    skipped = 0;
    failed = _cmocka_run_group_tests(name, tests, n_tests, NULL, NULL);
    printf("pagewise: %s: %zu passed, %d failed, %zu skipped\n", name,
           n_tests - (size_t)failed - skipped, failed, skipped);
    if (failed != 0) {
        return 1;
    }
    return skipped == n_tests ? PAGEWISE_EXIT_SKIPPED : 0;
}

static void child_main(int (*body)(void *opaque), void *opaque, pid_t parent)
{
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) {
        _exit(1);
    }
    /* Not _exit(): the leak checker and the coverage profile run at exit. */
    exit(body(opaque));
}

/* Waits until @pid ends or @seconds are over. */
static bool child_ended_in_time(pid_t pid, unsigned seconds)
{
    gint64 end = g_get_monotonic_time() + (gint64)seconds * G_USEC_PER_SEC;
    int pidfd = pidfd_open(pid, 0);
    struct pollfd ended = { .fd = pidfd, .events = POLLIN };
    int ready = -1;

    g_assert_cmpint(pidfd, >=, 0);
    while (ready < 0) {
        gint64 left = MAX(end - g_get_monotonic_time(), 0);

        ready = poll(&ended, 1, (int)(left / 1000));
    }
    close(pidfd);
    return ready > 0;
}

ChildEnd pagewise_run_in_child(int (*body)(void *opaque), void *opaque, unsigned seconds)
{
    ChildEnd end = { .exit_status = -1 };
    pid_t parent = getpid();
    pid_t pid;
    int status;

    fflush(NULL);
    pid = fork();
    g_assert_cmpint(pid, >=, 0);
    if (pid == 0) {
        child_main(body, opaque, parent);
    }
    setpgid(pid, pid);
    end.timed_out = !child_ended_in_time(pid, seconds);
    /* What the child started goes with it, in time or not. */
    kill(-pid, SIGKILL);
    while (waitpid(pid, &status, 0) < 0) {
        /* EINTR: nothing else can go wrong with a child of ours. */
    }
    if (end.timed_out) {
        return end;
    }
    if (WIFEXITED(status)) {
        end.exit_status = WEXITSTATUS(status);
    } else {
        end.signal = WTERMSIG(status);
    }
    return end;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A child process that never outlives us and is never waited for without a
 * deadline. Knows nothing of QEMU.
 */
#ifndef PAGEWISE_QTEST_GLUE_CHILD_H
#define PAGEWISE_QTEST_GLUE_CHILD_H

#include <glib.h>
#include <stdbool.h>
#include <sys/types.h>

typedef struct Child {
    pid_t pid;
    int pidfd;  /* readable once the process has ended; -1 after child_clear() */
    bool ended; /* it was reaped, status is valid */
    int status; /* as of waitpid() */
} Child;

/* What a child is started with. */
typedef struct ChildSpec {
    const char *const *argv; /* NULL-terminated; argv[0] is searched for in PATH */
    int output;              /* becomes its stdout and stderr; borrowed */
    /* "NAME=value", NULL-terminated, on top of our environment; NULL: none. */
    const char *const *variables;
    /* fds[i] becomes the child's descriptor targets[i]; borrowed. */
    const int *fds;
    const int *targets;
    unsigned n_fds;
} ChildSpec;

/**
 * child_spawn_spec:
 *
 * As child_spawn(), with more to say.
 */
bool child_spawn_spec(Child *child, const ChildSpec *spec, GError **error);

/**
 * child_spawn:
 * @child: overwritten
 * @argv: NULL-terminated; argv[0] is searched for in PATH
 * @output: file descriptor that becomes its stdout and stderr; borrowed.
 *     stdin is /dev/null
 *
 * Starts a process which the kernel kills when the *thread* that called this
 * ends (PR_SET_PDEATHSIG), and hence also when this program is killed.
 *
 * Returns: false with QEMU_ERROR_START; then there is nothing to clear.
 */
bool child_spawn(Child *child, const char *const *argv, int output, GError **error);

/**
 * child_wait:
 * @timeout_ms: milliseconds; 0: only look
 *
 * Returns: true if the process has ended; child->status is then valid.
 */
bool child_wait(Child *child, int timeout_ms);

/**
 * child_kill:
 * @grace_ms: how long SIGTERM may take; 0: SIGKILL at once
 *
 * Ends the process: SIGTERM, then SIGKILL, and reaps it. Nothing happens if it
 * has ended already.
 */
void child_kill(Child *child, int grace_ms);

/**
 * child_clear: kills the process if it still runs, and closes the pidfd.
 */
void child_clear(Child *child);

/**
 * child_describe_status:
 *
 * Returns: "exit status 1" or "signal 8 (Floating point exception)" for a
 * process that has ended. Free with g_free().
 */
char *child_describe_status(const Child *child);

/**
 * deadline_after, deadline_left:
 *
 * A deadline is a time of g_get_monotonic_time(), microseconds.
 * deadline_left() returns the milliseconds until then, rounded up, for poll():
 * 0 once it has passed.
 */
gint64 deadline_after(int timeout_ms);
int deadline_left(gint64 deadline);

#endif

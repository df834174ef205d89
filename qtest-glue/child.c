/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Child processes with deadlines: see child.h. Waiting is done on a pidfd
 * (Linux 5.3), so that there is neither a SIGCHLD handler nor a polling loop.
 */
#include "qtest-glue/child.h"
#include "qtest-glue/error.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* SIGKILL cannot be refused; a process in a system call may still take long. */
#define CHILD_KILL_TIMEOUT_MS 10000

G_DEFINE_QUARK(qemu - error - quark, qemu_error)

gint64 deadline_after(int timeout_ms)
{
    return g_get_monotonic_time() + (gint64)timeout_ms * 1000;
}

int deadline_left(gint64 deadline)
{
    gint64 left = deadline - g_get_monotonic_time();

    return left > 0 ? MIN((left + 999) / 1000, G_MAXINT) : 0;
}

/*
 * Runs between fork and exec: async-signal-safe calls only. Ctrl-C is for us,
 * who end the child in order: it is in another session. What we block, it does not.
 */
static void prepare_child(gpointer parent)
{
    sigset_t none;

    setsid();
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != GPOINTER_TO_INT(parent)) {
        /* The parent ended before prctl(): nobody would ever kill us. */
        _exit(127);
    }
}

/* Our environment and @variables on top. Free with g_strfreev(). */
static GStrv build_environment(const char *const *variables)
{
    GStrv environment = g_get_environ();

    for (unsigned i = 0; variables && variables[i]; i++) {
        g_auto(GStrv) parts = g_strsplit(variables[i], "=", 2);

        environment = g_environ_setenv(environment, parts[0], parts[1], TRUE);
    }
    return environment;
}

bool child_spawn_spec(Child *child, const ChildSpec *spec, GError **error)
{
    g_autoptr(GError) cause = NULL;
    g_auto(GStrv) environment = build_environment(spec->variables);
    GPid pid;

    *child = (Child){ .pidfd = -1 };
    if (!g_spawn_async_with_pipes_and_fds(NULL, spec->argv, (const char *const *)environment,
                                          G_SPAWN_DO_NOT_REAP_CHILD | G_SPAWN_SEARCH_PATH,
                                          prepare_child, GINT_TO_POINTER(getpid()), -1,
                                          spec->output, spec->output, spec->fds, spec->targets,
                                          spec->n_fds, &pid, NULL, NULL, NULL, &cause)) {
        g_set_error(error, QEMU_ERROR, QEMU_ERROR_START, "%s", cause->message);
        return false;
    }
    child->pid = pid;
    child->pidfd = pidfd_open(pid, 0);
    if (child->pidfd < 0) {
        g_set_error(error, QEMU_ERROR, QEMU_ERROR_START, "pidfd_open: %s (Linux 5.3 has it)",
                    g_strerror(errno));
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        return false;
    }
    return true;
}

bool child_spawn(Child *child, const char *const *argv, int output, GError **error)
{
    const ChildSpec spec = { .argv = argv, .output = output };

    return child_spawn_spec(child, &spec, error);
}

bool child_wait(Child *child, int timeout_ms)
{
    gint64 deadline = deadline_after(timeout_ms);
    struct pollfd ready = { .fd = child->pidfd, .events = POLLIN };

    if (child->ended) {
        return true;
    }
    while (poll(&ready, 1, deadline_left(deadline)) < 0 && errno == EINTR) {
    }
    if (waitpid(child->pid, &child->status, WNOHANG) == child->pid) {
        child->ended = true;
    }
    return child->ended;
}

void child_kill(Child *child, int grace_ms)
{
    if (child->ended) {
        return;
    }
    if (grace_ms > 0) {
        kill(child->pid, SIGTERM);
        if (child_wait(child, grace_ms)) {
            return;
        }
    }
    kill(child->pid, SIGKILL);
    child_wait(child, CHILD_KILL_TIMEOUT_MS);
}

void child_clear(Child *child)
{
    if (child->pidfd < 0) {
        return;
    }
    child_kill(child, 0);
    close(child->pidfd);
    child->pidfd = -1;
}

char *child_describe_status(const Child *child)
{
    if (WIFSIGNALED(child->status)) {
        int sig = WTERMSIG(child->status);

        return g_strdup_printf("signal %d (%s)", sig, g_strsignal(sig));
    }
    return g_strdup_printf("exit status %d", WEXITSTATUS(child->status));
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The fork server's client: see fork-server.h, and for the protocol
 * fork-server/protocol.h. FORK_SERVER_LIBRARY is the path of the library.
 */
#define _GNU_SOURCE /* memfd_create */

#include "qtest-glue/fork-server.h"
#include "qtest-glue/error.h"
#include "qtest-glue/fork-server/protocol.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define READY_TIMEOUT_MS 10000
/* A child with SIGKILL pending ends, but a terabyte of memory takes its time. */
#define END_TIMEOUT_MS 20000
/* How soon, and then how often, limits are looked at. */
#define FIRST_PERIOD_MS 20
#define PERIOD_MS 5
#define MAX_LOG 65536

struct ForkServer {
    QemuGuest *guest; /* borrowed */
    LoadLimits limits;
    QemuProcess *qemu;
    int control;
    int file;
    int log; /* the children's stderr */
    pid_t child;
    int status;      /* of a child that ended by itself */
    bool child_runs; /* its end was not reported yet */
    int64_t cpu_us;
};

static ForkServer *make_files(QemuGuest *guest, const LoadLimits *limits, int *peer, GError **error)
{
    g_autoptr(ForkServer) server = g_new(ForkServer, 1);
    int pair[2] = { -1, -1 };

    *server = (ForkServer){ .guest = guest, .limits = *limits, .control = -1, .log = -1 };
    server->file = memfd_create("pagewise-file", MFD_CLOEXEC);
    server->log = memfd_create("pagewise-log", MFD_CLOEXEC);
    if (server->file < 0 || server->log < 0 ||
        socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) {
        g_set_error(error, QEMU_ERROR, QEMU_ERROR_IO, "fork server: %s", g_strerror(errno));
        return NULL;
    }
    server->control = pair[0];
    *peer = pair[1];
    return g_steal_pointer(&server);
}

static bool start_qemu(ForkServer *server, const QemuBinary *binary, int peer, GError **error)
{
    const char *variables[] = { "LD_PRELOAD=" FORK_SERVER_LIBRARY, FORK_SERVER_VARIABLE "=1",
                                /* Else each child looks up anew what it calls. */
                                "LD_BIND_NOW=1", NULL };
    const int fds[] = { peer, server->file, server->log };
    const int targets[] = { FORK_SERVER_CONTROL_FD, FORK_SERVER_FILE_FD, FORK_SERVER_LOG_FD };
    const QemuGuestStart start = {
        .incoming = true,
        .variables = variables,
        .fds = fds,
        .targets = targets,
        .n_fds = G_N_ELEMENTS(fds),
    };

    server->qemu = qemu_guest_start(server->guest, binary, &start, error);
    return server->qemu != NULL;
}

static bool dead(ForkServer *server, const char *what, GError **error)
{
    g_set_error(error, QEMU_ERROR, QEMU_ERROR_DIED, "fork server: %s", what);
    qemu_process_explain(server->qemu, error);
    return false;
}

/* False without an error: nothing came within the time. */
static bool receive(ForkServer *server, int timeout_ms, ForkMessage *message, GError **error)
{
    struct pollfd ready = { .fd = server->control, .events = POLLIN };
    ssize_t n;

    if (poll(&ready, 1, timeout_ms) != 1) {
        return false;
    }
    n = recv(server->control, message, sizeof(*message), MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        return false;
    }
    return n == sizeof(*message) || dead(server, "the connection is closed", error);
}

static bool wait_ready(ForkServer *server, GError **error)
{
    ForkMessage message = { 0 };
    g_autoptr(GError) cause = NULL;

    if (receive(server, READY_TIMEOUT_MS, &message, &cause) && message.type == FORK_SERVER_READY) {
        return true;
    }
    if (!cause) {
        return dead(server,
                    "this QEMU does not come to read the file in the main loop's ppoll(); "
                    "use fresh processes",
                    error);
    }
    g_propagate_error(error, g_steal_pointer(&cause));
    return false;
}

/* Brings QEMU to where it would read the file. */
static bool lead_to_file(ForkServer *server, const QemuTransfer *transfer, GError **error)
{
    g_autofree char *uri = g_strdup_printf("file:/proc/self/fd/%d", FORK_SERVER_FILE_FD);

    qemu_guest_clear_ram(server->guest);
    return qemu_guest_clear_others(server->guest, server->qemu, error) &&
           qemu_configure(server->qemu, transfer, error) &&
           /* The answer would come after the first poll: from nobody. */
           qmp_send(qemu_process_qmp(server->qemu), error, "migrate-incoming", "{'uri': <%s>}",
                    uri) &&
           wait_ready(server, error);
}

ForkServer *fork_server_new(const QemuBinary *binary, QemuGuest *guest,
                            const QemuTransfer *transfer, const LoadLimits *limits, GError **error)
{
    int peer;
    g_autoptr(ForkServer) server = make_files(guest, limits, &peer, error);
    bool started;

    if (!server) {
        return NULL;
    }
    started = start_qemu(server, binary, peer, error);
    close(peer);
    return started && lead_to_file(server, transfer, error) ? g_steal_pointer(&server) : NULL;
}

void fork_server_free(ForkServer *server)
{
    if (!server) {
        return;
    }
    fork_server_release(server);
    qemu_process_free(server->qemu);
    for (unsigned i = 0; i < 3; i++) {
        int fd = ((const int[]){ server->control, server->file, server->log })[i];

        if (fd >= 0) {
            close(fd);
        }
    }
    g_free(server);
}

int fork_server_file(const ForkServer *server)
{
    return server->file;
}

int fork_server_status(const ForkServer *server)
{
    return server->status;
}

pid_t fork_server_pid(const ForkServer *server)
{
    return qemu_process_pid(server->qemu);
}

pid_t fork_server_child(const ForkServer *server)
{
    return server->child;
}

int64_t fork_server_cpu_us(const ForkServer *server)
{
    return server->cpu_us;
}

/* Kills the child, and takes the news of its end. */
static bool end_child(ForkServer *server, GError **error)
{
    gint64 deadline = deadline_after(END_TIMEOUT_MS);
    ForkMessage message = { 0 };

    kill(server->child, SIGKILL);
    while (message.type != FORK_SERVER_ENDED) {
        g_autoptr(GError) cause = NULL;

        if (!receive(server, deadline_left(deadline), &message, &cause) &&
            (cause || deadline_left(deadline) == 0)) {
            return dead(server, cause ? cause->message : "a killed child does not end", error);
        }
    }
    server->child_runs = false;
    server->cpu_us += message.user_us + message.system_us;
    return true;
}

void fork_server_release(ForkServer *server)
{
    if (server->child_runs && !end_child(server, NULL)) {
        server->child_runs = false;
        qemu_process_kill(server->qemu);
    }
}

char *fork_server_log(const ForkServer *server)
{
    g_autofree char *text = g_malloc(MAX_LOG);
    ssize_t n = pread(server->log, text, MAX_LOG - 1, 0);

    text[MAX(n, 0)] = '\0';
    return g_strdup(text);
}

/* The same in one line. */
static char *read_log(const ForkServer *server)
{
    return g_strdelimit(g_strstrip(fork_server_log(server)), "\n", '|');
}

static QemuLoadOutcome ended(ForkServer *server, const ForkMessage *message, GError **error)
{
    Child child = { .status = message->status };
    g_autofree char *log = read_log(server);
    g_autofree char *status = child_describe_status(&child);
    QemuLoadOutcome outcome = qemu_load_status_outcome(message->status);

    server->child_runs = false;
    server->status = message->status;
    server->cpu_us += message->user_us + message->system_us;
    g_set_error(error, QEMU_ERROR, QEMU_ERROR_DIED, "QEMU ended with %s; its log: %s", status, log);
    return outcome;
}

static QemuLoadOutcome passed_limit(ForkServer *server, QemuLoadOutcome outcome, GError **error)
{
    g_autofree char *log = read_log(server);

    if (error && *error && *log) {
        g_autoptr(GError) old = g_steal_pointer(error);

        g_set_error(error, old->domain, old->code, "%s; its log: %s", old->message, log);
    }
    fork_server_release(server);
    return outcome;
}

/* Waits for the child's word, and looks after its limits. */
static QemuLoadOutcome watch(ForkServer *server, const ProcessCost *before, GError **error)
{
    gint64 deadline = deadline_after(server->limits.wall_ms);
    int period = FIRST_PERIOD_MS;

    for (;;) {
        g_autoptr(GError) cause = NULL;
        ForkMessage message = { 0 };
        QemuLoadOutcome outcome;

        if (receive(server, period, &message, &cause)) {
            if (message.type == FORK_SERVER_ENDED) {
                return ended(server, &message, error);
            }
            if (message.type == FORK_SERVER_LOADED) {
                return QEMU_LOAD_COMPLETED;
            }
            continue;
        }
        if (cause) {
            g_propagate_error(error, g_steal_pointer(&cause));
            return QEMU_LOAD_UNABLE;
        }
        period = PERIOD_MS;
        outcome = qemu_check_limits(server->child, before, &server->limits,
                                    deadline_left(deadline) == 0, error);
        if (outcome != QEMU_LOAD_COMPLETED) {
            return passed_limit(server, outcome, error);
        }
    }
}

QemuLoadOutcome fork_server_load(ForkServer *server, GError **error)
{
    const char request = FORK_SERVER_LOAD;
    const ProcessCost nothing = { 0 };
    ForkMessage message = { 0 };

    fork_server_release(server);
    qemu_guest_clear_ram(server->guest);
    if (ftruncate(server->log, 0) < 0 || send(server->control, &request, 1, MSG_NOSIGNAL) != 1 ||
        !receive(server, READY_TIMEOUT_MS, &message, NULL) || message.type != FORK_SERVER_STARTED) {
        dead(server, "it starts no child", error);
        return QEMU_LOAD_UNABLE;
    }
    server->child = message.pid;
    server->status = 0;
    server->child_runs = true;
    return watch(server, &nothing, error);
}

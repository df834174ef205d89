/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One running QEMU: see qemu-process.h.
 *
 * As in libqtest we listen and QEMU connects: there is no polling for a socket
 * to appear, and a QEMU that ends instead is noticed at once (pidfd).
 */
#define _GNU_SOURCE /* accept4 */

#include "qtest-glue/qemu-process.h"
#include "qtest-glue/error.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define QUIT_TIMEOUT_MS 5000
#define TERM_TIMEOUT_MS 2000
/* A QEMU that closed its monitor is about to end. */
#define END_TIMEOUT_MS 2000
#define LOG_NAME "qemu.log"
#define QMP_SOCKET_NAME "qmp.sock"
#define QTEST_SOCKET_NAME "qtest.sock"

struct QemuProcess {
    QemuFolder *folder;
    Child child;
    QmpClient *qmp;
    QtestClient *qtest;
};

char *qemu_escape_option(const char *value)
{
    g_auto(GStrv) parts = g_strsplit(value, ",", -1);

    return g_strjoinv(",,", parts);
}

char *qemu_process_path(const QemuProcess *qemu, const char *name)
{
    return qemu_folder_path(qemu->folder, name);
}

pid_t qemu_process_pid(const QemuProcess *qemu)
{
    return qemu->child.pid;
}

QmpClient *qemu_process_qmp(QemuProcess *qemu)
{
    return qemu->qmp;
}

QtestClient *qemu_process_qtest(QemuProcess *qemu)
{
    return qemu->qtest;
}

const Child *qemu_process_wait(QemuProcess *qemu, int timeout_ms)
{
    return child_wait(&qemu->child, timeout_ms) ? &qemu->child : NULL;
}

char *qemu_process_log(const QemuProcess *qemu)
{
    g_autofree char *path = qemu_process_path(qemu, LOG_NAME);
    char *text = NULL;

    return g_file_get_contents(path, &text, NULL, NULL) ? text : g_strdup("");
}

void qemu_process_explain(QemuProcess *qemu, GError **error)
{
    g_autofree char *log = NULL;
    g_autofree char *status = NULL;
    g_autoptr(GError) old = NULL;
    bool died;

    if (!error || !*error) {
        return;
    }
    old = g_steal_pointer(error);
    died = g_error_matches(old, QEMU_ERROR, QEMU_ERROR_DIED);
    if (child_wait(&qemu->child, died ? END_TIMEOUT_MS : 0)) {
        status = child_describe_status(&qemu->child);
    }
    log = g_strstrip(qemu_process_log(qemu));
    g_set_error(error, old->domain, old->code, "%s%s%s%s%s", old->message,
                status ? "; QEMU ended with " : "", status ? status : "",
                *log ? "; its log:\n" : "; its log is empty", log);
}

static bool fail_with_errno(GError **error, const char *what)
{
    g_set_error(error, QEMU_ERROR, QEMU_ERROR_IO, "%s: %s", what, g_strerror(errno));
    return false;
}

static bool listen_on(int fd, const char *path, GError **error)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };

    if (g_strlcpy(address.sun_path, path, sizeof(address.sun_path)) >= sizeof(address.sun_path)) {
        g_set_error(error, QEMU_ERROR, QEMU_ERROR_IO,
                    "%s is too long for a socket's name: let TMPDIR name a folder "
                    "with a shorter one",
                    path);
        return false;
    }
    if (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(fd, 1) < 0) {
        return fail_with_errno(error, path);
    }
    return true;
}

/* "socket,id=@id,path=..." for the socket @name. Free with g_free(). */
static char *chardev_option(const QemuProcess *qemu, const char *id, const char *name)
{
    g_autofree char *path = qemu_process_path(qemu, name);
    g_autofree char *escaped = qemu_escape_option(path);

    return g_strdup_printf("socket,id=%s,path=%s", id, escaped);
}

static GStrv build_argv(const QemuProcess *qemu, const QemuBinary *binary, const QemuStart *start)
{
    g_autoptr(GStrvBuilder) argv = g_strv_builder_new();
    g_autofree char *qmp = chardev_option(qemu, "qmp", QMP_SOCKET_NAME);
    g_autofree char *qtest = chardev_option(qemu, "qtest", QTEST_SOCKET_NAME);

    g_strv_builder_add_many(argv, binary->path, "-nodefaults", "-display", "none", "-S", "-chardev",
                            qmp, "-mon", "chardev=qmp,mode=control", NULL);
    if (start->qtest) {
        g_strv_builder_add_many(argv, "-chardev", qtest, "-qtest", "chardev:qtest", "-qtest-log",
                                "none", NULL);
    }
    g_strv_builder_addv(argv, (const char **)start->arguments);
    return g_strv_builder_end(argv);
}

static bool spawn(QemuProcess *qemu, const QemuBinary *binary, const QemuStart *start,
                  GError **error)
{
    g_autofree char *path = qemu_process_path(qemu, LOG_NAME);
    g_auto(GStrv) argv = build_argv(qemu, binary, start);
    ChildSpec spec = {
        .argv = (const char *const *)argv,
        .output = open(path, O_CREAT | O_WRONLY | O_APPEND | O_CLOEXEC, 0600),
        .variables = start->variables,
        .fds = start->fds,
        .targets = start->targets,
        .n_fds = start->n_fds,
    };
    bool ok;

    if (spec.output < 0) {
        return fail_with_errno(error, path);
    }
    ok = child_spawn_spec(&qemu->child, &spec, error);
    close(spec.output);
    return ok;
}

/* Accepts QEMU's connection. Returns the socket, or -1. */
static int accept_connection(QemuProcess *qemu, int listener, GError **error)
{
    gint64 deadline = deadline_after(QEMU_START_TIMEOUT_MS);
    struct pollfd ready[] = {
        { .fd = listener, .events = POLLIN },
        { .fd = qemu->child.pidfd, .events = POLLIN },
    };
    int n;

    do {
        n = poll(ready, G_N_ELEMENTS(ready), deadline_left(deadline));
    } while (n < 0 && errno == EINTR);
    if (n <= 0) {
        g_set_error(error, QEMU_ERROR, QEMU_ERROR_TIMEOUT, "QEMU did not start in time");
        return -1;
    }
    if (!(ready[0].revents & POLLIN)) {
        g_set_error(error, QEMU_ERROR, QEMU_ERROR_START, "QEMU did not start");
        return -1;
    }
    return accept4(listener, NULL, NULL, SOCK_CLOEXEC);
}

static int listen_for(const QemuProcess *qemu, const char *name, GError **error)
{
    g_autofree char *path = qemu_process_path(qemu, name);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0) {
        fail_with_errno(error, "socket");
        return -1;
    }
    if (!listen_on(fd, path, error)) {
        close(fd);
        return -1;
    }
    return fd;
}

static bool connect_monitor(QemuProcess *qemu, int listener, GError **error)
{
    int fd = accept_connection(qemu, listener, error);

    qemu->qmp = fd >= 0 ? qmp_client_new(fd, error) : NULL;
    return qemu->qmp != NULL;
}

/* QEMU connects its qtest socket before it comes to the monitor's commands. */
static bool connect_qtest(QemuProcess *qemu, int listener, GError **error)
{
    int fd = accept_connection(qemu, listener, error);

    qemu->qtest = fd >= 0 ? qtest_client_new(fd) : NULL;
    return qemu->qtest != NULL;
}

static bool spawn_and_connect(QemuProcess *qemu, const QemuBinary *binary, const QemuStart *start,
                              int monitor, int qtest, GError **error)
{
    bool ok;

    if (!spawn(qemu, binary, start, error)) {
        return false;
    }
    ok = connect_monitor(qemu, monitor, error) &&
         (!start->qtest || connect_qtest(qemu, qtest, error));
    if (!ok) {
        child_wait(&qemu->child, END_TIMEOUT_MS);
        qemu_process_explain(qemu, error);
    }
    return ok;
}

static bool start_process(QemuProcess *qemu, const QemuBinary *binary, const QemuStart *start,
                          GError **error)
{
    int monitor = listen_for(qemu, QMP_SOCKET_NAME, error);
    int qtest = start->qtest && monitor >= 0 ? listen_for(qemu, QTEST_SOCKET_NAME, error) : -1;
    bool ok = monitor >= 0 && (qtest >= 0 || !start->qtest) &&
              spawn_and_connect(qemu, binary, start, monitor, qtest, error);

    if (monitor >= 0) {
        close(monitor);
    }
    if (qtest >= 0) {
        close(qtest);
    }
    return ok;
}

QemuProcess *qemu_process_start_with(const QemuBinary *binary, const QemuStart *start,
                                     GError **error)
{
    g_autoptr(QemuProcess) qemu = g_new0(QemuProcess, 1);

    qemu->child.pidfd = -1;
    qemu->folder = start->folder ? start->folder : qemu_folder_new(error);
    if (!qemu->folder || !start_process(qemu, binary, start, error)) {
        return NULL;
    }
    return g_steal_pointer(&qemu);
}

QemuProcess *qemu_process_start(const QemuBinary *binary, const char *const *arguments,
                                QemuFolder *folder, GError **error)
{
    const QemuStart start = { .arguments = arguments, .folder = folder };

    return qemu_process_start_with(binary, &start, error);
}

bool qemu_process_stop(QemuProcess *qemu, GError **error)
{
    /* quit may well be answered by the connection's end. */
    qmp_run(qemu->qmp, NULL, "quit", NULL);
    if (!child_wait(&qemu->child, QUIT_TIMEOUT_MS)) {
        child_kill(&qemu->child, TERM_TIMEOUT_MS);
        g_set_error(error, QEMU_ERROR, QEMU_ERROR_TIMEOUT, "QEMU did not quit");
    } else if (qemu->child.status != 0) {
        g_set_error(error, QEMU_ERROR, QEMU_ERROR_DIED, "QEMU did not end in order");
    } else {
        return true;
    }
    qemu_process_explain(qemu, error);
    return false;
}

void qemu_process_kill(QemuProcess *qemu)
{
    child_kill(&qemu->child, 0);
}

void qemu_process_free(QemuProcess *qemu)
{
    if (!qemu) {
        return;
    }
    child_clear(&qemu->child);
    g_clear_pointer(&qemu->qmp, qmp_client_free);
    g_clear_pointer(&qemu->qtest, qtest_client_free);
    qemu_folder_free(qemu->folder);
    g_free(qemu);
}

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
#include <glib/gstdio.h>
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
#define SOCKET_NAME "qmp.sock"

struct QemuProcess {
    char *folder;
    Child child;
    QmpClient *qmp;
};

char *qemu_folder_new(GError **error)
{
    g_autoptr(GError) cause = NULL;
    char *folder = g_dir_make_tmp("pagewise-qemu-XXXXXX", &cause);

    if (!folder) {
        g_set_error(error, QEMU_ERROR, QEMU_ERROR_IO, "%s", cause->message);
    }
    return folder;
}

static void remove_folder(const char *folder)
{
    g_autoptr(GDir) dir = g_dir_open(folder, 0, NULL);
    const char *name;

    while (dir && (name = g_dir_read_name(dir))) {
        g_autofree char *path = g_build_filename(folder, name, NULL);

        g_unlink(path);
    }
    g_rmdir(folder);
}

void qemu_folder_remove(char *folder)
{
    if (folder) {
        remove_folder(folder);
        g_free(folder);
    }
}

char *qemu_escape_option(const char *value)
{
    g_auto(GStrv) parts = g_strsplit(value, ",", -1);

    return g_strjoinv(",,", parts);
}

char *qemu_process_path(const QemuProcess *qemu, const char *name)
{
    return g_build_filename(qemu->folder, name, NULL);
}

pid_t qemu_process_pid(const QemuProcess *qemu)
{
    return qemu->child.pid;
}

QmpClient *qemu_process_qmp(QemuProcess *qemu)
{
    return qemu->qmp;
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

static GStrv build_argv(const QemuBinary *binary, const char *socket_path,
                        const char *const *arguments)
{
    g_autoptr(GStrvBuilder) argv = g_strv_builder_new();
    g_autofree char *escaped = qemu_escape_option(socket_path);
    g_autofree char *chardev = g_strdup_printf("socket,id=qmp,path=%s", escaped);

    g_strv_builder_add_many(argv, binary->path, "-nodefaults", "-display", "none", "-S", "-chardev",
                            chardev, "-mon", "chardev=qmp,mode=control", NULL);
    g_strv_builder_addv(argv, (const char **)arguments);
    return g_strv_builder_end(argv);
}

static bool spawn(QemuProcess *qemu, const char *const *argv, GError **error)
{
    g_autofree char *path = qemu_process_path(qemu, LOG_NAME);
    int log = open(path, O_CREAT | O_WRONLY | O_APPEND | O_CLOEXEC, 0600);
    bool ok;

    if (log < 0) {
        return fail_with_errno(error, path);
    }
    ok = child_spawn(&qemu->child, argv, log, error);
    close(log);
    return ok;
}

/* Accepts QEMU's connection. Returns the socket, or -1. */
static int accept_monitor(QemuProcess *qemu, int listener, GError **error)
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

static bool spawn_and_connect(QemuProcess *qemu, const QemuBinary *binary, int listener,
                              const char *const *arguments, GError **error)
{
    g_autofree char *path = qemu_process_path(qemu, SOCKET_NAME);
    g_auto(GStrv) argv = NULL;
    int monitor;

    if (!listen_on(listener, path, error)) {
        return false;
    }
    argv = build_argv(binary, path, arguments);
    if (!spawn(qemu, (const char *const *)argv, error)) {
        return false;
    }
    monitor = accept_monitor(qemu, listener, error);
    if (monitor < 0) {
        return false;
    }
    qemu->qmp = qmp_client_new(monitor, error);
    return qemu->qmp != NULL;
}

static bool start(QemuProcess *qemu, const QemuBinary *binary, const char *const *arguments,
                  GError **error)
{
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool ok;

    if (listener < 0) {
        return fail_with_errno(error, "socket");
    }
    ok = spawn_and_connect(qemu, binary, listener, arguments, error);
    close(listener);
    if (!ok && qemu->child.pidfd >= 0) {
        child_wait(&qemu->child, END_TIMEOUT_MS);
        qemu_process_explain(qemu, error);
    }
    return ok;
}

QemuProcess *qemu_process_start(const QemuBinary *binary, const char *const *arguments,
                                char *folder, GError **error)
{
    g_autoptr(QemuProcess) qemu = g_new0(QemuProcess, 1);

    qemu->child.pidfd = -1;
    qemu->folder = folder ? folder : qemu_folder_new(error);
    if (!qemu->folder || !start(qemu, binary, arguments, error)) {
        return NULL;
    }
    return g_steal_pointer(&qemu);
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

void qemu_process_free(QemuProcess *qemu)
{
    if (!qemu) {
        return;
    }
    child_clear(&qemu->child);
    g_clear_pointer(&qemu->qmp, qmp_client_free);
    qemu_folder_remove(qemu->folder);
    g_free(qemu);
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One running QEMU: started with a private folder for its sockets, log and
 * files, ended with it. Any number may run side by side. No QEMU outlives the
 * thread that started it: see child.h.
 */
#ifndef PAGEWISE_QTEST_GLUE_QEMU_PROCESS_H
#define PAGEWISE_QTEST_GLUE_QEMU_PROCESS_H

#include "qtest-glue/child.h"
#include "qtest-glue/qemu-binary.h"
#include "qtest-glue/qemu-folder.h"
#include "qtest-glue/qmp.h"
#include "qtest-glue/qtest.h"

/* How long QEMU may take from exec to the connected monitor. */
#define QEMU_START_TIMEOUT_MS 20000

typedef struct QemuProcess QemuProcess;

/* What a QEMU is started with. */
typedef struct QemuStart {
    /* NULL-terminated; follow "-nodefaults -display none -S" and the monitor's. */
    const char *const *arguments;
    /* The private folder, taken over, also on failure. NULL: a new one. */
    QemuFolder *folder;
    bool qtest; /* give it a qtest socket: needs a machine with a processor */
    /* As in ChildSpec. */
    const char *const *variables;
    const int *fds;
    const int *targets;
    unsigned n_fds;
} QemuStart;

/**
 * qemu_process_start_with:
 *
 * Starts a QEMU, and waits for its QMP greeting. The guest does not run (-S).
 *
 * Returns: the process, or NULL with QEMU_ERROR; the message ends with the
 * log. Free with qemu_process_free().
 */
QemuProcess *qemu_process_start_with(const QemuBinary *binary, const QemuStart *start,
                                     GError **error);

/**
 * qemu_process_start: the same with @arguments and @folder alone.
 */
QemuProcess *qemu_process_start(const QemuBinary *binary, const char *const *arguments,
                                QemuFolder *folder, GError **error);

/**
 * qemu_process_free: kills the process if it still runs; removes its folder.
 */
void qemu_process_free(QemuProcess *qemu);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QemuProcess, qemu_process_free)

/**
 * qemu_process_stop:
 *
 * Asks for an orderly end (QMP quit), then sends SIGTERM, then SIGKILL. The
 * folder stays until qemu_process_free().
 *
 * Returns: false with QEMU_ERROR if it did not end by itself with status 0;
 * it has ended in any case.
 */
bool qemu_process_stop(QemuProcess *qemu, GError **error);

/**
 * qemu_process_kill: SIGKILL, of which a QEMU in the middle of a load dies, too.
 */
void qemu_process_kill(QemuProcess *qemu);

/**
 * qemu_process_wait:
 *
 * Waits for the end of a process that is expected to end by itself.
 *
 * Returns: the ended child for its status (borrowed), or NULL if it still runs
 * after @timeout_ms.
 */
const Child *qemu_process_wait(QemuProcess *qemu, int timeout_ms);

/* The monitor; borrowed. */
QmpClient *qemu_process_qmp(QemuProcess *qemu);

/* The qtest socket; borrowed. NULL if it was not asked for. */
QtestClient *qemu_process_qtest(QemuProcess *qemu);

pid_t qemu_process_pid(const QemuProcess *qemu);

/**
 * qemu_process_path:
 *
 * Returns: the path of the file @name in the private folder. Free with
 * g_free().
 */
char *qemu_process_path(const QemuProcess *qemu, const char *name);

/**
 * qemu_process_log:
 *
 * Returns: what QEMU wrote to stdout and stderr so far. Free with g_free().
 */
char *qemu_process_log(const QemuProcess *qemu);

/**
 * qemu_process_explain:
 * @error: replaced by one whose message ends with how QEMU ended, if it did,
 *     and with its log
 */
void qemu_process_explain(QemuProcess *qemu, GError **error);

/**
 * qemu_escape_option:
 *
 * Returns: @value as it can stand in an option's "key=value,...": commas are
 * doubled. Free with g_free().
 */
char *qemu_escape_option(const char *value);

#endif

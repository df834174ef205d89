/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A QMP client over a connected stream socket. It answers to QEMU's
 * docs/interop/qmp-spec.rst. No call waits without a deadline, and no call is
 * safe from two threads at once.
 */
#ifndef PAGEWISE_QTEST_GLUE_QMP_H
#define PAGEWISE_QTEST_GLUE_QMP_H

#include <glib.h>
#include <json-glib/json-glib.h>
#include <stdbool.h>

/* How long QEMU may take to answer a command. */
#define QMP_TIMEOUT_MS 20000

/* What a command answered: the error's class is the code, its text the message. */
typedef enum QmpErrorCode {
    QMP_ERROR_GENERIC_ERROR,
    QMP_ERROR_COMMAND_NOT_FOUND,
    QMP_ERROR_DEVICE_NOT_ACTIVE,
    QMP_ERROR_DEVICE_NOT_FOUND,
    QMP_ERROR_KVM_MISSING_CAP,
    QMP_ERROR_OTHER, /* a class that the specification does not list */
} QmpErrorCode;

#define QMP_ERROR qmp_error_quark()
GQuark qmp_error_quark(void);

typedef struct QmpClient QmpClient;

/**
 * qmp_client_new:
 * @fd: a connected socket; taken over, whether this succeeds or not
 *
 * Reads the greeting and leaves capabilities negotiation (qmp_capabilities).
 *
 * Returns: the client, or NULL with QEMU_ERROR.
 */
QmpClient *qmp_client_new(int fd, GError **error);
void qmp_client_free(QmpClient *qmp);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QmpClient, qmp_client_free)

/**
 * qmp_client_greeting:
 *
 * Returns: the member "QMP" of the greeting; borrowed.
 */
JsonObject *qmp_client_greeting(QmpClient *qmp);

/**
 * qmp_execute:
 * @command: "query-status", ...
 * @format: the arguments, or NULL for none: an a{sv} in GVariant's text form
 *     with g_variant_new_parsed()'s conversions, for example
 *     "{'uri': <%s>, 'size': <%t>}", uri, size
 *     (%s string, %b gboolean, %i gint32, %x gint64, %t guint64,
 *     %@aa{sv} a GVariant of that type, ...). A malformed text aborts.
 *
 * Executes a command and waits for its answer. Events that come meanwhile are
 * kept for qmp_wait_event().
 *
 * Returns: the member "return", or NULL with QMP_ERROR if the command failed,
 * QEMU_ERROR if QEMU did. Free with json_node_unref().
 */
JsonNode *qmp_execute(QmpClient *qmp, GError **error, const char *command, const char *format, ...);

/**
 * qmp_run:
 *
 * The same for commands whose answer says nothing.
 */
bool qmp_run(QmpClient *qmp, GError **error, const char *command, const char *format, ...);

/**
 * qmp_send:
 *
 * Sends a command, and does not wait for its answer; whoever waits for another
 * answer later drops it.
 */
bool qmp_send(QmpClient *qmp, GError **error, const char *command, const char *format, ...);

/**
 * qmp_hmp:
 * @command_line: a command of the human monitor
 *
 * Returns: what it printed, or NULL. Free with g_free().
 */
char *qmp_hmp(QmpClient *qmp, const char *command_line, GError **error);

/**
 * qmp_wait_event:
 * @name: "MIGRATION", "STOP", ...
 * @timeout_ms: milliseconds from now
 *
 * Takes the oldest event of that name which was not taken yet, and waits for
 * one if there is none. Others are kept.
 *
 * Returns: the event's "data" (an empty object if it has none), or NULL with
 * QEMU_ERROR. Free with json_object_unref().
 */
JsonObject *qmp_wait_event(QmpClient *qmp, const char *name, int timeout_ms, GError **error);

/**
 * qmp_forget_events: drops all events that were not taken.
 */
void qmp_forget_events(QmpClient *qmp);

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The QMP client: see qmp.h. One JSON object a line in both directions, as
 * QEMU writes it; what does not parse is QEMU_ERROR_PROTOCOL.
 */
#include "qtest-glue/qmp.h"
#include "qtest-glue/child.h"
#include "qtest-glue/error.h"
#include "qtest-glue/line-socket.h"

#include <string.h>

struct QmpClient {
    LineSocket *lines;
    GQueue events; /* of JsonObject, oldest first */
    JsonObject *greeting;
    gint64 last_id; /* of the last command sent */
};

G_DEFINE_QUARK(qmp - error - quark, qmp_error)

/* One object. Unref with json_object_unref(). */
static JsonObject *read_object(QmpClient *qmp, gint64 deadline, const char *what, GError **error)
{
    g_autofree char *line = line_socket_read(qmp->lines, deadline, what, error);
    g_autoptr(JsonNode) node = NULL;

    if (!line) {
        return NULL;
    }
    node = json_from_string(line, NULL);
    if (!node || !JSON_NODE_HOLDS_OBJECT(node)) {
        g_set_error(error, QEMU_ERROR, QEMU_ERROR_PROTOCOL, "%s: not a JSON object: %.200s", what,
                    line);
        return NULL;
    }
    return json_node_dup_object(node);
}

static const char *string_member(JsonObject *object, const char *member)
{
    return json_object_get_string_member_with_default(object, member, "");
}

static QmpErrorCode error_code(const char *class)
{
    static const char *const classes[] = {
        [QMP_ERROR_GENERIC_ERROR] = "GenericError",
        [QMP_ERROR_COMMAND_NOT_FOUND] = "CommandNotFound",
        [QMP_ERROR_DEVICE_NOT_ACTIVE] = "DeviceNotActive",
        [QMP_ERROR_DEVICE_NOT_FOUND] = "DeviceNotFound",
        [QMP_ERROR_KVM_MISSING_CAP] = "KVMMissingCap",
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(classes); i++) {
        if (strcmp(class, classes[i]) == 0) {
            return i;
        }
    }
    return QMP_ERROR_OTHER;
}

static void set_command_error(JsonObject *answer, const char *command, GError **error)
{
    JsonNode *node = json_object_get_member(answer, "error");

    if (!JSON_NODE_HOLDS_OBJECT(node)) {
        g_set_error(error, QEMU_ERROR, QEMU_ERROR_PROTOCOL, "%s: an error without content",
                    command);
        return;
    }
    g_set_error(error, QMP_ERROR, error_code(string_member(json_node_get_object(node), "class")),
                "%s: %s: %s", command, string_member(json_node_get_object(node), "class"),
                string_member(json_node_get_object(node), "desc"));
}

/* Reads until the answer to a command is there; keeps events. */
static JsonNode *read_answer(QmpClient *qmp, const char *command, GError **error)
{
    gint64 deadline = deadline_after(QMP_TIMEOUT_MS);

    for (;;) {
        g_autoptr(JsonObject) object = read_object(qmp, deadline, command, error);

        if (!object) {
            return NULL;
        }
        if (json_object_has_member(object, "event")) {
            g_queue_push_tail(&qmp->events, g_steal_pointer(&object));
        } else if (json_object_get_int_member_with_default(object, "id", 0) != qmp->last_id) {
            /* The late answer to a command that we gave up waiting for. */
            continue;
        } else if (json_object_has_member(object, "return")) {
            return json_node_ref(json_object_get_member(object, "return"));
        } else if (json_object_has_member(object, "error")) {
            set_command_error(object, command, error);
            return NULL;
        }
    }
}

/* @arguments: an a{sv}, or NULL; consumed. */
static bool send_command(QmpClient *qmp, const char *command, GVariant *arguments, GError **error)
{
    g_autoptr(JsonNode) request = json_node_new(JSON_NODE_OBJECT);
    JsonObject *object = json_object_new();
    g_autofree char *text = NULL;
    g_autofree char *line = NULL;

    json_node_take_object(request, object);
    json_object_set_string_member(object, "execute", command);
    json_object_set_int_member(object, "id", ++qmp->last_id);
    if (arguments) {
        json_object_set_member(object, "arguments", json_gvariant_serialize(arguments));
        g_variant_unref(arguments);
    }
    text = json_to_string(request, FALSE);
    line = g_strconcat(text, "\r\n", NULL);
    return line_socket_write(qmp->lines, line, deadline_after(QMP_TIMEOUT_MS), command, error);
}

static JsonNode *execute(QmpClient *qmp, const char *command, GVariant *arguments, GError **error)
{
    return send_command(qmp, command, arguments, error) ? read_answer(qmp, command, error) : NULL;
}

static GVariant *parse_arguments(const char *format, va_list *ap)
{
    return format ? g_variant_ref_sink(g_variant_new_parsed_va(format, ap)) : NULL;
}

JsonNode *qmp_execute(QmpClient *qmp, GError **error, const char *command, const char *format, ...)
{
    GVariant *arguments;
    va_list ap;

    va_start(ap, format);
    arguments = parse_arguments(format, &ap);
    va_end(ap);
    return execute(qmp, command, arguments, error);
}

bool qmp_run(QmpClient *qmp, GError **error, const char *command, const char *format, ...)
{
    g_autoptr(JsonNode) answer = NULL;
    GVariant *arguments;
    va_list ap;

    va_start(ap, format);
    arguments = parse_arguments(format, &ap);
    va_end(ap);
    answer = execute(qmp, command, arguments, error);
    return answer != NULL;
}

bool qmp_send(QmpClient *qmp, GError **error, const char *command, const char *format, ...)
{
    GVariant *arguments;
    va_list ap;

    va_start(ap, format);
    arguments = parse_arguments(format, &ap);
    va_end(ap);
    return send_command(qmp, command, arguments, error);
}

char *qmp_hmp(QmpClient *qmp, const char *command_line, GError **error)
{
    g_autoptr(JsonNode) answer =
        qmp_execute(qmp, error, "human-monitor-command", "{'command-line': <%s>}", command_line);

    if (!answer) {
        return NULL;
    }
    if (!JSON_NODE_HOLDS_VALUE(answer) || !json_node_get_string(answer)) {
        g_set_error(error, QEMU_ERROR, QEMU_ERROR_PROTOCOL, "%s: the answer is not a string",
                    command_line);
        return NULL;
    }
    return json_node_dup_string(answer);
}

static JsonObject *take_event(QmpClient *qmp, const char *name)
{
    for (GList *link = qmp->events.head; link; link = link->next) {
        g_autoptr(JsonObject) event = NULL;

        if (strcmp(string_member(link->data, "event"), name) != 0) {
            continue;
        }
        event = link->data;
        g_queue_delete_link(&qmp->events, link);
        if (json_object_has_member(event, "data")) {
            return json_object_ref(json_object_get_object_member(event, "data"));
        }
        return json_object_new();
    }
    return NULL;
}

JsonObject *qmp_wait_event(QmpClient *qmp, const char *name, int timeout_ms, GError **error)
{
    gint64 deadline = deadline_after(timeout_ms);

    for (;;) {
        JsonObject *data = take_event(qmp, name);
        JsonObject *object;

        if (data) {
            return data;
        }
        object = read_object(qmp, deadline, name, error);
        if (!object) {
            return NULL;
        }
        g_queue_push_tail(&qmp->events, object);
    }
}

void qmp_forget_events(QmpClient *qmp)
{
    g_queue_clear_full(&qmp->events, (GDestroyNotify)json_object_unref);
}

static bool negotiate(QmpClient *qmp, GError **error)
{
    g_autoptr(JsonObject) greeting =
        read_object(qmp, deadline_after(QMP_TIMEOUT_MS), "greeting", error);
    JsonNode *content;

    if (!greeting) {
        return false;
    }
    content = json_object_get_member(greeting, "QMP");
    if (!content || !JSON_NODE_HOLDS_OBJECT(content)) {
        g_set_error(error, QEMU_ERROR, QEMU_ERROR_PROTOCOL, "the greeting is not QMP's");
        return false;
    }
    qmp->greeting = json_node_dup_object(content);
    return qmp_run(qmp, error, "qmp_capabilities", NULL);
}

QmpClient *qmp_client_new(int fd, GError **error)
{
    g_autoptr(QmpClient) qmp = g_new0(QmpClient, 1);

    qmp->lines = line_socket_new(fd);
    g_queue_init(&qmp->events);
    if (!negotiate(qmp, error)) {
        return NULL;
    }
    return g_steal_pointer(&qmp);
}

void qmp_client_free(QmpClient *qmp)
{
    if (!qmp) {
        return;
    }
    qmp_forget_events(qmp);
    g_clear_pointer(&qmp->greeting, json_object_unref);
    line_socket_free(qmp->lines);
    g_free(qmp);
}

JsonObject *qmp_client_greeting(QmpClient *qmp)
{
    return qmp->greeting;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Saving, loading and looking into guest RAM: see qemu-snapshot.h. It answers
 * to QEMU's qapi/migration.json and qapi/machine.json.
 */
#define _GNU_SOURCE /* process_vm_readv */

#include "qtest-glue/qemu-snapshot.h"
#include "qtest-glue/error.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/uio.h>
#include <sys/wait.h>

#define DUMP_NAME "pmemsave"
#define MACHINE_SUFFIX "-machine"

static uint64_t match_number(GMatchInfo *match, const char *name, unsigned base)
{
    g_autofree char *digits = g_match_info_fetch_named(match, name);

    return digits && *digits ? g_ascii_strtoull(digits, NULL, base) : 0;
}

static uint64_t match_page_size(GMatchInfo *match)
{
    g_autofree char *unit = g_match_info_fetch_named(match, "unit");
    uint64_t number = match_number(match, "psize", 10);

    switch (*unit) {
    case 'K':
        return number << 10;
    case 'M':
        return number << 20;
    default:
        return number << 30;
    }
}

static QemuBlock match_block(GMatchInfo *match)
{
    g_autofree char *idstr = g_match_info_fetch_named(match, "idstr");
    QemuBlock block = {
        .page_size = match_page_size(match),
        .offset = match_number(match, "offset", 16),
        .used = match_number(match, "used", 16),
        .total = match_number(match, "total", 16),
        .hva = match_number(match, "hva", 16),
    };

    g_strlcpy(block.idstr, idstr, sizeof(block.idstr));
    return block;
}

GArray *qemu_blocks_parse(const char *text, GError **error)
{
    g_autoptr(GRegex) line = g_regex_new("^ *(?<idstr>\\S.*?) +(?<psize>\\d+) (?<unit>[KMG])iB"
                                         " +0x(?<offset>[0-9a-f]+) +0x(?<used>[0-9a-f]+)"
                                         " +0x(?<total>[0-9a-f]+)( +0x(?<hva>[0-9a-f]+))?",
                                         G_REGEX_MULTILINE, 0, NULL);
    g_autoptr(GArray) blocks = g_array_new(FALSE, FALSE, sizeof(QemuBlock));
    g_autoptr(GMatchInfo) match = NULL;

    g_regex_match(line, text, 0, &match);
    while (g_match_info_matches(match)) {
        QemuBlock block = match_block(match);

        g_array_append_val(blocks, block);
        g_match_info_next(match, NULL);
    }
    if (blocks->len == 0) {
        g_set_error(error, QEMU_ERROR, QEMU_ERROR_PROTOCOL, "'info ramblock' lists no block:\n%s",
                    text);
        return NULL;
    }
    return g_steal_pointer(&blocks);
}

GArray *qemu_list_blocks(QemuProcess *qemu, GError **error)
{
    g_autofree char *text = qmp_hmp(qemu_process_qmp(qemu), "info ramblock", error);

    return text ? qemu_blocks_parse(text, error) : NULL;
}

/* The QOM type of the machine, "pc-q35-10.0-machine", without its suffix. */
static bool query_machine(QemuProcess *qemu, char *machine, size_t size, GError **error)
{
    g_autoptr(JsonNode) type = qmp_execute(qemu_process_qmp(qemu), error, "qom-get",
                                           "{'path': <'/machine'>, 'property': <'type'>}");
    const char *name;

    if (!type) {
        return false;
    }
    name = JSON_NODE_HOLDS_VALUE(type) ? json_node_get_string(type) : NULL;
    if (!name || !g_str_has_suffix(name, MACHINE_SUFFIX)) {
        g_set_error(error, QEMU_ERROR, QEMU_ERROR_PROTOCOL, "the machine has no type");
        return false;
    }
    g_strlcpy(machine, name, MIN(size, strlen(name) - strlen(MACHINE_SUFFIX) + 1));
    return true;
}

bool qemu_describe_guest(QemuProcess *qemu, Guest *guest, GError **error)
{
    g_autoptr(GArray) blocks = qemu_list_blocks(qemu, error);

    *guest = (Guest){ .target_page_size = QEMU_X86_PAGE_SIZE };
    if (!blocks || !query_machine(qemu, guest->machine, sizeof(guest->machine), error)) {
        return false;
    }
    if (blocks->len > GUEST_MAX_BLOCKS) {
        g_set_error(error, QEMU_ERROR, QEMU_ERROR_PROTOCOL, "the guest has %u RAM blocks, over %d",
                    blocks->len, GUEST_MAX_BLOCKS);
        return false;
    }
    guest->n_blocks = blocks->len;
    for (unsigned i = 0; i < blocks->len; i++) {
        const QemuBlock *block = &g_array_index(blocks, QemuBlock, i);

        g_strlcpy(guest->blocks[i].idstr, block->idstr, sizeof(guest->blocks[i].idstr));
        guest->blocks[i].used_length = block->used;
        guest->blocks[i].max_length = block->total;
        guest->blocks[i].host_page_size = block->page_size;
    }
    return true;
}

static GVariant *capability(const char *name)
{
    return g_variant_new_parsed("{'capability': <%s>, 'state': <true>}", name);
}

char *qemu_transfer_name(const QemuTransfer *transfer)
{
    if (transfer->lazy) {
        return g_strdup("lazy");
    }
    if (!transfer->channels) {
        return g_strdup("plain");
    }
    return g_strdup_printf("multifd %u%s", transfer->channels,
                           transfer->direct_io ? " direct-io" : "");
}

/* "events" makes QEMU tell of each change of the migration's status. */
static bool set_capabilities(QemuProcess *qemu, const QemuTransfer *transfer, GError **error)
{
    GVariantBuilder list;

    g_variant_builder_init(&list, G_VARIANT_TYPE("aa{sv}"));
    g_variant_builder_add_value(&list, capability("events"));
    g_variant_builder_add_value(&list, capability("mapped-ram"));
    if (transfer->channels) {
        g_variant_builder_add_value(&list, capability("multifd"));
    }
    if (transfer->lazy) {
        g_variant_builder_add_value(&list, capability("postcopy-ram"));
    }
    for (unsigned i = 0; transfer->capabilities && transfer->capabilities[i]; i++) {
        g_variant_builder_add_value(&list, capability(transfer->capabilities[i]));
    }
    return qmp_run(qemu_process_qmp(qemu), error, "migrate-set-capabilities",
                   "{'capabilities': <%@aa{sv}>}", g_variant_builder_end(&list));
}

/* 9.0 does not know the parameter direct-io: it is named only where it is wanted. */
bool qemu_configure(QemuProcess *qemu, const QemuTransfer *transfer, GError **error)
{
    QmpClient *qmp = qemu_process_qmp(qemu);

    return set_capabilities(qemu, transfer, error) &&
           qmp_run(qmp, error, "migrate-set-parameters", "{'max-bandwidth': <%t>}", (guint64)0) &&
           (!transfer->channels ||
            qmp_run(qmp, error, "migrate-set-parameters", "{'multifd-channels': <%t>}",
                    (guint64)transfer->channels)) &&
           (!transfer->direct_io ||
            qmp_run(qmp, error, "migrate-set-parameters", "{'direct-io': <true>}"));
}

/* QEMU's reason for a failed migration. Free with g_free(). */
static char *query_error(QemuProcess *qemu)
{
    g_autoptr(JsonNode) info = qmp_execute(qemu_process_qmp(qemu), NULL, "query-migrate", NULL);

    if (!info || !JSON_NODE_HOLDS_OBJECT(info)) {
        return g_strdup("no reason given");
    }
    return g_strdup(json_object_get_string_member_with_default(json_node_get_object(info),
                                                               "error-desc", "no reason given"));
}

const char *qemu_load_outcome_name(QemuLoadOutcome outcome)
{
    static const char *const names[] = {
        [QEMU_LOAD_COMPLETED] = "completed", [QEMU_LOAD_REFUSED] = "refused",
        [QEMU_LOAD_CRASHED] = "crashed",     [QEMU_LOAD_HUNG] = "hung",
        [QEMU_LOAD_BLEW_UP] = "blew up",     [QEMU_LOAD_WEDGED] = "wedged",
        [QEMU_LOAD_UNABLE] = "unable",
    };

    return names[outcome];
}

QemuLoadOutcome qemu_check_limits(pid_t pid, const ProcessCost *before, const LoadLimits *limits,
                                  bool timed_out, GError **error)
{
    ProcessCost cost = process_cost(pid);
    int64_t cpu_ms = (cost.cpu_us - before->cpu_us) / 1000;

    if (cost.memory > before->memory && cost.memory - before->memory > limits->memory) {
        g_set_error(error, QEMU_ERROR, QEMU_ERROR_LIMIT,
                    "the load needed more than %" G_GUINT64_FORMAT " MiB of memory",
                    limits->memory >> 20);
        return QEMU_LOAD_BLEW_UP;
    }
    if (cpu_ms > limits->cpu_ms) {
        g_set_error(error, QEMU_ERROR, QEMU_ERROR_LIMIT,
                    "the load needed more than %d ms of processor time", limits->cpu_ms);
        return QEMU_LOAD_HUNG;
    }
    if (!timed_out) {
        return QEMU_LOAD_COMPLETED;
    }
    if (process_main_loop_waits(pid)) {
        g_set_error(error, QEMU_ERROR, QEMU_ERROR_LIMIT,
                    "the load did not end within %d ms; QEMU's main loop is alive, and waits",
                    limits->wall_ms);
        return QEMU_LOAD_HUNG;
    }
    g_set_error(error, QEMU_ERROR, QEMU_ERROR_LIMIT,
                "the load did not end within %d ms, of which it used %" G_GINT64_FORMAT
                " ms of a processor; QEMU's main loop is dead, and so is its monitor",
                limits->wall_ms, cpu_ms);
    return QEMU_LOAD_WEDGED;
}

/* How often limits are looked at. */
#define LIMITS_PERIOD_MS 20

/* The next event on the migration; limits == NULL: no limit but the deadline. */
static JsonObject *wait_migration_event(QemuProcess *qemu, const ProcessCost *before,
                                        const LoadLimits *limits, gint64 deadline,
                                        QemuLoadOutcome *outcome, GError **error)
{
    for (;;) {
        g_autoptr(GError) cause = NULL;
        int left = deadline_left(deadline);
        JsonObject *data = qmp_wait_event(qemu_process_qmp(qemu), "MIGRATION",
                                          limits ? MIN(left, LIMITS_PERIOD_MS) : left, &cause);

        if (!data && limits && g_error_matches(cause, QEMU_ERROR, QEMU_ERROR_TIMEOUT)) {
            *outcome = qemu_check_limits(qemu_process_pid(qemu), before, limits, left == 0, error);
            if (*outcome == QEMU_LOAD_COMPLETED) {
                continue;
            }
            return NULL;
        }
        if (!data) {
            g_propagate_error(error, g_steal_pointer(&cause));
        }
        return data;
    }
}

/* Waits until the migration is over. False with an error if it failed. */
static bool wait_completed(QemuProcess *qemu, const ProcessCost *before, const LoadLimits *limits,
                           QemuLoadOutcome *outcome, GError **error)
{
    gint64 deadline = deadline_after(limits ? limits->wall_ms : QEMU_MIGRATION_TIMEOUT_MS);

    for (;;) {
        g_autoptr(JsonObject) data =
            wait_migration_event(qemu, before, limits, deadline, outcome, error);
        const char *status;

        if (!data) {
            return false;
        }
        status = json_object_get_string_member_with_default(data, "status", "");
        if (strcmp(status, "completed") == 0) {
            return true;
        }
        if (strcmp(status, "failed") == 0) {
            g_autofree char *reason = query_error(qemu);

            g_set_error(error, QEMU_ERROR, QEMU_ERROR_MIGRATION, "the migration failed: %s",
                        reason);
            return false;
        }
    }
}

/* *outcome is set if a limit was passed. */
static bool run_migration(QemuProcess *qemu, const char *command, const char *path,
                          const LoadLimits *limits, QemuLoadOutcome *outcome, GError **error)
{
    g_autofree char *uri = g_strconcat("file:", path, NULL);
    ProcessCost before = process_cost(qemu_process_pid(qemu));

    qmp_forget_events(qemu_process_qmp(qemu));
    return qmp_run(qemu_process_qmp(qemu), error, command, "{'uri': <%s>}", uri) &&
           wait_completed(qemu, &before, limits, outcome, error);
}

bool qemu_save(QemuProcess *qemu, const char *path, const QemuTransfer *transfer, GError **error)
{
    QemuLoadOutcome outcome;

    if (qemu_configure(qemu, transfer, error) &&
        run_migration(qemu, "migrate", path, NULL, &outcome, error)) {
        return true;
    }
    qemu_process_explain(qemu, error);
    return false;
}

bool qemu_save_snapshot(QemuProcess *qemu, const char *path, const char *const *capabilities,
                        GError **error)
{
    const QemuTransfer transfer = { .capabilities = capabilities };

    return qemu_save(qemu, path, &transfer, error);
}

static QemuLoadOutcome classify(QemuProcess *qemu, const GError *cause)
{
    const Child *child;

    if (g_error_matches(cause, QEMU_ERROR, QEMU_ERROR_MIGRATION) || cause->domain == QMP_ERROR) {
        return QEMU_LOAD_REFUSED;
    }
    if (!g_error_matches(cause, QEMU_ERROR, QEMU_ERROR_DIED)) {
        return QEMU_LOAD_WEDGED;
    }
    child = qemu_process_wait(qemu, QEMU_MIGRATION_TIMEOUT_MS);
    if (!child) {
        return QEMU_LOAD_HUNG;
    }
    return qemu_load_status_outcome(child->status);
}

QemuLoadOutcome qemu_load_status_outcome(int status)
{
    return WIFEXITED(status) && WEXITSTATUS(status) == 1 ? QEMU_LOAD_REFUSED : QEMU_LOAD_CRASHED;
}

/* A completed load has to leave a QEMU that answers. */
static bool monitor_answers(QemuProcess *qemu, GError **error)
{
    return qmp_run(qemu_process_qmp(qemu), error, "query-status", NULL);
}

QemuLoadOutcome qemu_load(QemuProcess *qemu, const char *path, const QemuTransfer *transfer,
                          const LoadLimits *limits, GError **error)
{
    g_autoptr(GError) cause = NULL;
    QemuLoadOutcome outcome = QEMU_LOAD_COMPLETED;

    if (!qemu_configure(qemu, transfer, &cause)) {
        outcome = QEMU_LOAD_UNABLE;
    } else if (!run_migration(qemu, "migrate-incoming", path, limits, &outcome, &cause) ||
               !monitor_answers(qemu, &cause)) {
        outcome = outcome != QEMU_LOAD_COMPLETED ? outcome : classify(qemu, cause);
        if (g_error_matches(cause, QEMU_ERROR, QEMU_ERROR_LIMIT)) {
            qemu_process_kill(qemu);
        }
    }
    if (outcome != QEMU_LOAD_COMPLETED) {
        qemu_process_explain(qemu, &cause);
        g_propagate_error(error, g_steal_pointer(&cause));
    }
    return outcome;
}

QemuLoadOutcome qemu_load_snapshot(QemuProcess *qemu, const char *path,
                                   const char *const *capabilities, GError **error)
{
    const QemuTransfer transfer = { .capabilities = capabilities };
    const LoadLimits limits = LOAD_LIMITS_DEFAULT;

    return qemu_load(qemu, path, &transfer, &limits, error);
}

static GBytes *read_file(const char *path, uint64_t length, GError **error)
{
    g_autoptr(GError) cause = NULL;
    g_autofree char *bytes = NULL;
    size_t size;

    if (!g_file_get_contents(path, &bytes, &size, &cause)) {
        g_set_error(error, QEMU_ERROR, QEMU_ERROR_IO, "%s", cause->message);
        return NULL;
    }
    if (size != length) {
        g_set_error(error, QEMU_ERROR, QEMU_ERROR_IO, "%s: %zu bytes instead of %" G_GUINT64_FORMAT,
                    path, size, length);
        return NULL;
    }
    return g_bytes_new_take(g_steal_pointer(&bytes), size);
}

GBytes *qemu_dump_physical(QemuProcess *qemu, uint64_t address, uint64_t length, GError **error)
{
    g_autofree char *path = qemu_process_path(qemu, DUMP_NAME);
    GBytes *bytes;

    if (!qmp_run(qemu_process_qmp(qemu), error, "pmemsave",
                 "{'val': <%t>, 'size': <%t>, 'filename': <%s>}", address, length, path)) {
        return NULL;
    }
    bytes = read_file(path, length, error);
    g_unlink(path);
    return bytes;
}

typedef ssize_t ProcessMemoryCall(pid_t pid, const struct iovec *local, unsigned long n_local,
                                  const struct iovec *remote, unsigned long n_remote,
                                  unsigned long flags);

static bool no_access(const QemuBlock *block, int errnum, GError **error)
{
    g_set_error(error, QEMU_ERROR, QEMU_ERROR_NO_ACCESS,
                "block '%s': no access to QEMU's memory: %s; allow a parent to trace its "
                "children (sysctl kernel.yama.ptrace_scope=1 or 0; in a container, a seccomp "
                "profile with process_vm_readv and process_vm_writev)",
                block->idstr, g_strerror(errnum));
    return false;
}

/* Transfers all bytes with process_vm_readv() or process_vm_writev(). */
static bool transfer(ProcessMemoryCall *call, QemuProcess *qemu, const QemuBlock *block,
                     uint64_t offset, void *bytes, size_t length, GError **error)
{
    size_t done = 0;

    if (!block->hva) {
        return no_access(block, ENOTSUP, error);
    }
    while (done < length) {
        struct iovec local = { (uint8_t *)bytes + done, length - done };
        struct iovec remote = { (void *)(uintptr_t)(block->hva + offset + done), length - done };
        ssize_t n = call(qemu_process_pid(qemu), &local, 1, &remote, 1, 0);

        if (n <= 0) {
            return no_access(block, n < 0 ? errno : EIO, error);
        }
        done += n;
    }
    return true;
}

GBytes *qemu_dump_block(QemuProcess *qemu, const QemuBlock *block, GError **error)
{
    g_autofree uint8_t *bytes = g_malloc(block->used);

    if (!transfer(process_vm_readv, qemu, block, 0, bytes, block->used, error)) {
        return NULL;
    }
    return g_bytes_new_take(g_steal_pointer(&bytes), block->used);
}

bool qemu_write_block(QemuProcess *qemu, const QemuBlock *block, uint64_t offset, const void *bytes,
                      size_t length, GError **error)
{
    return transfer(process_vm_writev, qemu, block, offset, (void *)bytes, length, error);
}

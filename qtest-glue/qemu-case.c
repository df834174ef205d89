/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An input in a real QEMU: see qemu-case.h.
 */
#include "qtest-glue/qemu-case.h"
#include "model/snapshot.h"

#include <string.h>

static FindingMode finding_mode(const QemuTransfer *transfer)
{
    if (transfer->lazy) {
        return FINDING_MODE_LAZY;
    }
    return transfer->channels ? FINDING_MODE_MULTIFD : FINDING_MODE_PLAIN;
}

Findings *qemu_findings_read(const QemuBinary *binary, const char *folder, GError **error)
{
    g_autofree char *version =
        g_strdup_printf("%u.%u.%u", binary->major, binary->minor, binary->micro);

    return folder ? findings_read(folder, "qemu-binary", version, error) : findings_none();
}

QemuCase *qemu_case_new(const QemuBinary *binary, const QemuSubjectConfig *config,
                        const Findings *findings, GError **error)
{
    QemuSubject *subject = qemu_subject_new(binary, config, error);
    QemuCase *c;

    if (!subject) {
        return NULL;
    }
    c = g_new0(QemuCase, 1);
    c->config = *config;
    c->subject = subject;
    c->context = property_context_new(qemu_subject_get(subject));
    c->findings = findings;
    property_context_set_findings(c->context, findings, finding_mode(&config->transfer));
    return c;
}

void qemu_case_free(QemuCase *c)
{
    if (!c) {
        return;
    }
    property_context_free(c->context);
    qemu_subject_free(c->subject);
    g_free(c);
}

/* Makes the file as the property does; false if that makes no case of @data. */
static bool make_file(QemuCase *c, const uint8_t *data, size_t size, Snapshot *snapshot,
                      SparseFile *file, Guest *guest)
{
    FindingLoad load = {
        .file = file,
        .guest = guest,
        .mode = finding_mode(&c->config.transfer),
    };
    Input input;

    if (!input_decode(data, size, &input) || input.kind == INPUT_HEADER) {
        return false;
    }
    input_make_file_for(&input, qemu_subject_get(c->subject)->guest, snapshot, file, guest, NULL);
    return !c->findings || findings_repair(c->findings, &load, NULL) < FINDINGS_MAX_REPAIRS;
}

/* Is a page of main RAM other than the file's page of its set bit? */
static bool differs_from_file(const QemuGuest *guest, const Judgement *judgement)
{
    unsigned block = qemu_guest_ram_block(guest);
    const JudgedBlock *judged = &judgement->blocks[block];
    uint64_t page_size = judgement->guest.target_page_size;
    uint64_t length;
    const uint8_t *ram = qemu_guest_ram(guest, &length);
    uint64_t page = judgement_next_page_in_file(judgement, block, 0);

    while (page < length / page_size) {
        if (sparse_file_compare(judgement->file, judged->pages_offset + page * page_size,
                                ram + page * page_size, page_size) != page_size) {
            return true;
        }
        page = judgement_next_page_in_file(judgement, block, page + 1);
    }
    return false;
}

/*
 * A file that must be refused was loaded, and QEMU said "completed": is at
 * least the RAM what its bitmap says?
 */
static bool has_wrong_ram(QemuCase *c, const uint8_t *data, size_t size)
{
    g_autoptr(Snapshot) snapshot = snapshot_new();
    g_autoptr(SparseFile) file = sparse_file_new();
    g_autofree Judgement *judgement = g_new(Judgement, 1);
    Guest guest;

    if (!make_file(c, data, size, snapshot, file, &guest)) {
        return false;
    }
    judge_file(file, &guest, judgement);
    return differs_from_file(qemu_subject_guest(c->subject), judgement);
}

bool qemu_case_run(QemuCase *c, const uint8_t *data, size_t size, char **kind, GError **broken,
                   GError **error)
{
    const Property *property = size > 1 ? property_for_kind(data[1]) : NULL;
    g_autoptr(GError) cause = NULL;

    *kind = NULL;
    if (!property || property->function(c->context, data, size, &cause)) {
        return true;
    }
    if (cause->domain != PROPERTY_ERROR) {
        g_propagate_error(error, g_steal_pointer(&cause));
        return false;
    }
    *kind = failure_kind(c->subject, cause);
    if (strcmp(*kind, FAILURE_ACCEPTED) == 0 && has_wrong_ram(c, data, size)) {
        g_free(*kind);
        *kind = g_strdup(FAILURE_WRONG_RAM);
    }
    g_propagate_error(broken, g_steal_pointer(&cause));
    return true;
}

char *qemu_case_rules(QemuCase *c, const uint8_t *data, size_t size)
{
    g_autoptr(Snapshot) snapshot = snapshot_new();
    g_autoptr(SparseFile) file = sparse_file_new();
    g_autofree Judgement *judgement = g_new(Judgement, 1);
    Guest guest;

    if (!make_file(c, data, size, snapshot, file, &guest)) {
        return g_strdup("none");
    }
    judge_file(file, &guest, judgement);
    return failure_rules(judgement);
}

char *qemu_case_text(QemuCase *c, const uint8_t *data, size_t size)
{
    g_autoptr(Snapshot) snapshot = snapshot_new();
    g_autoptr(SparseFile) file = sparse_file_new();
    Guest guest;

    if (size < 2 || (data[1] != INPUT_LAYOUT && data[1] != INPUT_ROUND_TRIP) ||
        !make_file(c, data, size, snapshot, file, &guest)) {
        return NULL;
    }
    return snapshot_to_text(snapshot);
}

char *qemu_case_mode(const QemuCase *c)
{
    g_autofree char *transfer = qemu_transfer_name(&c->config.transfer);

    if (strcmp(c->config.machine->name, "none") == 0) {
        return g_steal_pointer(&transfer);
    }
    return g_strdup_printf("%s, %s", transfer, c->config.machine->name);
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One input and one way of loading it in a real QEMU: what qemu-fuzz tries and
 * qemu-replay repeats. Both run the property of the input's kind.
 */
#ifndef PAGEWISE_QTEST_GLUE_QEMU_CASE_H
#define PAGEWISE_QTEST_GLUE_QEMU_CASE_H

#include "property/findings.h"
#include "property/property.h"
#include "qtest-glue/failure.h"

/* A subject, and the property's context for it. */
typedef struct QemuCase {
    QemuSubjectConfig config;
    QemuSubject *subject;
    PropertyContext *context;
    const Findings *findings; /* borrowed */
} QemuCase;

/**
 * qemu_case_new:
 * @config: see qemu_subject_new(), also for @binary and @error
 * @findings: repaired out of every input; borrowed; NULL: none
 */
QemuCase *qemu_case_new(const QemuBinary *binary, const QemuSubjectConfig *config,
                        const Findings *findings, GError **error);
void qemu_case_free(QemuCase *c);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QemuCase, qemu_case_free)

/**
 * qemu_case_run:
 * @kind: of the failure, to be freed; NULL if the property holds
 *
 * Runs the input's property.
 *
 * Returns: false if the load could not be done at all; see @error. If the
 * property is broken, true, and @broken is its paragraph.
 */
bool qemu_case_run(QemuCase *c, const uint8_t *data, size_t size, char **kind, GError **broken,
                   GError **error);

/**
 * qemu_case_rules: the rules that the input's file breaks for the case's guest.
 * As failure_rules().
 */
char *qemu_case_rules(QemuCase *c, const uint8_t *data, size_t size);

/**
 * qemu_case_text: the input's file in the text form (docs/snapshot-text.md), or
 * NULL if it was not generated. Free with g_free().
 */
char *qemu_case_text(QemuCase *c, const uint8_t *data, size_t size);

/**
 * qemu_findings_read:
 * @folder: corpus/findings; NULL: none are known
 *
 * Returns: what is registered for this QEMU's version, or NULL with an error.
 * Free with findings_free().
 */
Findings *qemu_findings_read(const QemuBinary *binary, const char *folder, GError **error);

/**
 * qemu_case_mode: "plain", "multifd 2", ..., and the machine if it is not
 * "none". Free with g_free().
 */
char *qemu_case_mode(const QemuCase *c);

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The subject "qemu-binary": a real QEMU, from outside, behind the interface of
 * subject/subject.h, so that the properties check it as they check any loader.
 * Each load is a child of a fork server, or a fresh QEMU.
 */
#ifndef PAGEWISE_QTEST_GLUE_QEMU_SUBJECT_H
#define PAGEWISE_QTEST_GLUE_QEMU_SUBJECT_H

#include "qtest-glue/fork-server.h"
#include "subject/subject.h"

typedef struct QemuSubject QemuSubject;

typedef struct QemuSubjectConfig {
    const QemuMachine *machine;
    unsigned mib; /* of main RAM */
    QemuTransfer transfer;
    LoadLimits limits;
    bool fresh; /* a fresh QEMU for each load, without the fork server */
} QemuSubjectConfig;

/**
 * qemu_subject_new:
 * @binary: borrowed
 *
 * Returns: the subject, or NULL with an error: QMP_ERROR if this QEMU cannot
 * load as the configuration's transfer says. Its QEMU ends with the thread that
 * made it.
 */
QemuSubject *qemu_subject_new(const QemuBinary *binary, const QemuSubjectConfig *config,
                              GError **error);
void qemu_subject_free(QemuSubject *subject);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QemuSubject, qemu_subject_free)

/* For property_context_new(); borrowed. */
const Subject *qemu_subject_get(const QemuSubject *subject);

/* How the last load ended. */
QemuLoadOutcome qemu_subject_outcome(const QemuSubject *subject);

/* The status with which QEMU ended, as of waitpid(); 0 if it did not. */
int qemu_subject_status(const QemuSubject *subject);

/* The guest, its RAM as the last load left it until the next one; borrowed. */
const QemuGuest *qemu_subject_guest(const QemuSubject *subject);

/* The last file that was loaded; borrowed. */
int qemu_subject_file(const QemuSubject *subject);

/* What QEMU itself wrote to its log in the last load. Borrowed. */
const char *qemu_subject_log(const QemuSubject *subject);

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A real QEMU as a subject: see qemu-subject.h.
 */
#define _GNU_SOURCE /* memfd_create */

#include "qtest-glue/qemu-subject.h"
#include "qtest-glue/error.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

/* The file to load in a fresh QEMU; the same number as in the fork server's. */
#define FILE_FD 201

struct QemuSubject {
    Subject subject; /* first: SubjectLoad.subject leads here */
    const QemuBinary *binary;
    QemuSubjectConfig config;
    QemuGuest *guest;
    ForkServer *server; /* NULL if fresh */
    int file;           /* fresh: the file to load */
    QemuLoadOutcome outcome;
    int status;
    char *log;
};

static SubjectErrorCode error_code(QemuLoadOutcome outcome)
{
    switch (outcome) {
    case QEMU_LOAD_CRASHED:
        return SUBJECT_ERROR_CRASH;
    case QEMU_LOAD_HUNG:
        return SUBJECT_ERROR_HANG;
    case QEMU_LOAD_BLEW_UP:
        return SUBJECT_ERROR_BLOW_UP;
    case QEMU_LOAD_WEDGED:
        return SUBJECT_ERROR_WEDGED;
    default:
        return SUBJECT_ERROR_BROKEN;
    }
}

/* Takes @cause over, and makes it what the property is to see. */
static SubjectStatus failed(QemuSubject *self, GError *cause, GError **error)
{
    if (self->outcome == QEMU_LOAD_REFUSED) {
        g_propagate_error(error, cause);
        return SUBJECT_REFUSED;
    }
    g_set_error(error, SUBJECT_ERROR, error_code(self->outcome), "QEMU %s: %s",
                qemu_load_outcome_name(self->outcome), cause->message);
    g_error_free(cause);
    return SUBJECT_FAILED;
}

static bool copy_ram(QemuSubject *self, pid_t pid, SubjectLoad *load, GError **error)
{
    for (unsigned i = 0; i < load->guest->n_blocks; i++) {
        SubjectBlock *block = &load->blocks[i];

        block->used_length = load->guest->blocks[i].used_length;
        if (!qemu_guest_copy_block(self->guest, pid, i, block->host, error)) {
            self->outcome = QEMU_LOAD_UNABLE;
            return false;
        }
    }
    return true;
}

static QemuLoadOutcome load_in_child(QemuSubject *self, SubjectLoad *load, GError **error)
{
    self->outcome = fork_server_load(self->server, error);
    if (self->outcome == QEMU_LOAD_COMPLETED) {
        copy_ram(self, fork_server_child(self->server), load, error);
        fork_server_release(self->server);
    }
    self->log = fork_server_log(self->server);
    self->status = fork_server_status(self->server);
    return self->outcome;
}

static QemuProcess *start_fresh(QemuSubject *self, GError **error)
{
    const int target = FILE_FD;
    const QemuGuestStart start = {
        .incoming = true,
        .fds = &self->file,
        .targets = &target,
        .n_fds = 1,
    };
    g_autoptr(QemuProcess) qemu = NULL;

    qemu_guest_clear_ram(self->guest);
    qemu = qemu_guest_start(self->guest, self->binary, &start, error);
    return qemu && qemu_guest_clear_others(self->guest, qemu, error) ? g_steal_pointer(&qemu)
                                                                     : NULL;
}

static QemuLoadOutcome load_in_fresh(QemuSubject *self, SubjectLoad *load, GError **error)
{
    g_autofree char *path = g_strdup_printf("/proc/self/fd/%d", FILE_FD);
    g_autoptr(QemuProcess) qemu = start_fresh(self, error);

    self->outcome = QEMU_LOAD_UNABLE;
    if (qemu) {
        self->outcome = qemu_load(qemu, path, &self->config.transfer, &self->config.limits, error);
    }
    if (self->outcome == QEMU_LOAD_COMPLETED) {
        copy_ram(self, qemu_process_pid(qemu), load, error);
    }
    self->log = qemu ? qemu_process_log(qemu) : NULL;
    self->status = qemu && qemu_process_wait(qemu, 0) ? qemu_process_wait(qemu, 0)->status : 0;
    return self->outcome;
}

static SubjectStatus load_file(SubjectLoad *load, GError **error)
{
    QemuSubject *self = (QemuSubject *)load->subject;
    GError *cause = NULL;

    if (load->stages != SUBJECT_WHOLE) {
        return SUBJECT_UNSUPPORTED;
    }
    g_clear_pointer(&self->log, g_free);
    self->outcome = QEMU_LOAD_UNABLE;
    if (sparse_file_to_fd(load->file, qemu_subject_file(self), &cause)) {
        self->server ? load_in_child(self, load, &cause) : load_in_fresh(self, load, &cause);
    }
    return self->outcome == QEMU_LOAD_COMPLETED ? SUBJECT_ACCEPTED : failed(self, cause, error);
}

/* A first fresh QEMU tells what the guest is, and whether it can load like that. */
static bool try_fresh(QemuSubject *self, GError **error)
{
    g_autoptr(QemuProcess) qemu = NULL;

    self->file = memfd_create("pagewise-file", MFD_CLOEXEC);
    if (self->file < 0) {
        g_set_error(error, QEMU_ERROR, QEMU_ERROR_IO, "no memory file: %s", g_strerror(errno));
        return false;
    }
    qemu = start_fresh(self, error);
    return qemu && qemu_configure(qemu, &self->config.transfer, error);
}

QemuSubject *qemu_subject_new(const QemuBinary *binary, const QemuSubjectConfig *config,
                              GError **error)
{
    g_autoptr(QemuSubject) self = g_new0(QemuSubject, 1);

    self->binary = binary;
    self->config = *config;
    self->file = -1;
    self->guest = qemu_guest_new(config->machine, config->mib, error);
    if (!self->guest) {
        return NULL;
    }
    if (config->fresh) {
        if (!try_fresh(self, error)) {
            return NULL;
        }
    } else {
        self->server =
            fork_server_new(binary, self->guest, &config->transfer, &config->limits, error);
        if (!self->server) {
            return NULL;
        }
    }
    self->subject = (Subject){
        .name = "qemu-binary",
        .guest = qemu_guest_describe(self->guest),
        .load_file = load_file,
        .reads_devices = true,
        .is_process = true,
    };
    return g_steal_pointer(&self);
}

void qemu_subject_free(QemuSubject *self)
{
    if (!self) {
        return;
    }
    fork_server_free(self->server);
    qemu_guest_free(self->guest);
    if (self->file >= 0) {
        close(self->file);
    }
    g_free(self->log);
    g_free(self);
}

const Subject *qemu_subject_get(const QemuSubject *self)
{
    return &self->subject;
}

QemuLoadOutcome qemu_subject_outcome(const QemuSubject *self)
{
    return self->outcome;
}

int qemu_subject_status(const QemuSubject *self)
{
    return self->status;
}

const QemuGuest *qemu_subject_guest(const QemuSubject *self)
{
    return self->guest;
}

int qemu_subject_file(const QemuSubject *self)
{
    return self->server ? fork_server_file(self->server) : self->file;
}

const char *qemu_subject_log(const QemuSubject *self)
{
    return self->log ? self->log : "";
}

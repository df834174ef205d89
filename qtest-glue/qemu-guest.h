/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A guest of a real QEMU whose RAM can be looked at: its main RAM is a memory
 * file that QEMU and we share (memory-backend-file, share=on), the other blocks
 * are reached through QEMU's process. Several QEMUs may run the guest, one
 * after the other. x86 only.
 */
#ifndef PAGEWISE_QTEST_GLUE_QEMU_GUEST_H
#define PAGEWISE_QTEST_GLUE_QEMU_GUEST_H

#include "qtest-glue/qemu-snapshot.h"

/* Beside them, whoever starts a QEMU uses none for its own descriptors. */
#define QEMU_GUEST_RAM_FD 203

typedef struct QemuMachine {
    const char *name;
    const char *type; /* of -machine */
    const char *ram;  /* idstr of the main RAM */
    const char *vga;  /* of -vga */
    unsigned blocks;  /* how many RAM blocks QEMU 10.0 has there */
    bool has_processor;
} QemuMachine;

/**
 * qemu_machine_find:
 * @name: "none" (1 block), "microvm" (2 blocks), "microvm-acpi" (5), "pc" (6),
 *     "q35-vga" (8)
 *
 * Returns: the machine, or NULL.
 */
const QemuMachine *qemu_machine_find(const char *name);

/* The machine's number @index, or NULL beyond the last. */
const QemuMachine *qemu_machine_get(unsigned index);

typedef struct QemuGuest QemuGuest;

/**
 * qemu_guest_new:
 * @mib: size of the main RAM, MiB
 *
 * Returns: a guest whose RAM is zero, or NULL with QEMU_ERROR_IO.
 */
QemuGuest *qemu_guest_new(const QemuMachine *machine, unsigned mib, GError **error);
void qemu_guest_free(QemuGuest *guest);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QemuGuest, qemu_guest_free)

/* How a QEMU for the guest is started, beside the guest itself. */
typedef struct QemuGuestStart {
    bool incoming;                /* -incoming defer */
    bool qtest;                   /* as in QemuStart */
    const char *accel;            /* NULL: "tcg" */
    const char *const *arguments; /* more of them; NULL: none */
    /* As in QemuStart; the guest's own descriptor is added. At most 8. */
    const char *const *variables;
    const int *fds;
    const int *targets;
    unsigned n_fds;
} QemuGuestStart;

/**
 * qemu_guest_start:
 *
 * Starts a QEMU that runs the guest (-S: stopped), and asks it for its blocks.
 *
 * Returns: the process, or NULL with an error.
 */
QemuProcess *qemu_guest_start(QemuGuest *guest, const QemuBinary *binary,
                              const QemuGuestStart *start, GError **error);

/* What a reader of its snapshots has to know, as of the last start; borrowed. */
const Guest *qemu_guest_describe(const QemuGuest *guest);

/* The blocks, in the same order; an array of QemuBlock, borrowed. */
const GArray *qemu_guest_blocks(const QemuGuest *guest);

/* The main RAM's bytes, and how many there are. */
uint8_t *qemu_guest_ram(const QemuGuest *guest, uint64_t *length);

/**
 * qemu_guest_next_data:
 *
 * Returns: where main RAM was touched first at or behind @at, its length if it
 * was not. What was not touched is zero, and to read it would cost a page.
 */
uint64_t qemu_guest_next_data(const QemuGuest *guest, uint64_t at);

/* The index of the main RAM among the blocks. */
unsigned qemu_guest_ram_block(const QemuGuest *guest);

/**
 * qemu_guest_clear_ram: makes the main RAM zero; costs nothing where it is.
 */
void qemu_guest_clear_ram(QemuGuest *guest);

/**
 * qemu_guest_clear_others:
 *
 * Makes all other blocks zero in @qemu, firmware included.
 *
 * Returns: false with QEMU_ERROR_NO_ACCESS.
 */
bool qemu_guest_clear_others(QemuGuest *guest, QemuProcess *qemu, GError **error);

/**
 * qemu_guest_copy_block:
 * @pid: the QEMU, or a fork of it
 * @host: max_length bytes, to which all pages that are not zero are copied:
 *     the others are left as they are
 *
 * Returns: false with QEMU_ERROR_NO_ACCESS.
 */
bool qemu_guest_copy_block(const QemuGuest *guest, pid_t pid, unsigned block, uint8_t *host,
                           GError **error);

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What cmocka programs with a real QEMU have in common: the loud skip, and the
 * proof that nothing is left behind.
 */
#ifndef PAGEWISE_UNIT_QEMU_TEST_H
#define PAGEWISE_UNIT_QEMU_TEST_H

#include "qtest-glue/qemu-binary.h"
#include "qtest-glue/qemu-folder.h"
#include "unit/support.h"

#include <sys/types.h>

/*
 * The QEMU to use; skips the running test (feature "qemu") where there is
 * none. Free with qemu_binary_free().
 */
QemuBinary *require_qemu(void);

/* The same for a test of fast snapshot load, where the QEMU has it (feature "fast-load"). */
QemuBinary *require_fast_snapshot_load(void);

/* Skips the running test where /dev/kvm does not work (feature "kvm"). */
void require_kvm(void);

/* fork(), and the child dies with us. Fails the test where there is no child. */
pid_t fork_dependent(void);

/*
 * A fresh folder for all temporary files of this program, named in TMPDIR from
 * now on; it goes away with us, also if we are killed. To be called before the
 * first of them is made. NULL: see stderr.
 */
QemuFolder *tmpdir_enter(void);

/*
 * True if no file in the folder and no child process is left; says so on
 * stderr otherwise. Frees the folder.
 */
bool tmpdir_leave(QemuFolder *folder);

#endif

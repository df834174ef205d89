/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What kind of failure a broken property of a real QEMU is: what qemu-fuzz
 * counts, and what tells two findings from each other.
 */
#ifndef PAGEWISE_QTEST_GLUE_FAILURE_H
#define PAGEWISE_QTEST_GLUE_FAILURE_H

#include "model/judge.h"
#include "qtest-glue/qemu-subject.h"

/* "completed", with RAM that is not what the file says. */
#define FAILURE_WRONG_RAM "wrong RAM"
/* "completed", of a file that must be refused. */
#define FAILURE_ACCEPTED "accepted, must be refused"

/**
 * failure_kind:
 * @subject: that has just loaded
 * @broken: a PROPERTY_ERROR
 *
 * Returns: "crash SIGSEGV", "hang", "memory blow-up", "wedged", "wrong RAM",
 * "accepted, must be refused", "refused, must be accepted", or the property's
 * name. Free with g_free().
 */
char *failure_kind(const QemuSubject *subject, const GError *broken);

/**
 * failure_rules:
 *
 * Returns: the rules that the file breaks, each once, those that demand a
 * refusal if there are any: "H2 R6"; "none". Free with g_free().
 */
char *failure_rules(const Judgement *judgement);

#endif

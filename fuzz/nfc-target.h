/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The fuzz targets of the property no-functional-change: the tree that QEMU_SRC
 * names against the one of QEMU_BASE. Each is a file of its own for a kind of
 * input; what they share is here.
 *
 * The environment variable NFC_COMPARE names what is compared ("verdict,ram",
 * see nfc_aspects_parse()); without it, everything is.
 */
#ifndef PAGEWISE_FUZZ_NFC_TARGET_H
#define PAGEWISE_FUZZ_NFC_TARGET_H

#include "property/nfc.h"

/* The pair that this program is about, to be freed by the caller. */
NfcPair *nfc_target_pair(void);

/* What is repaired in inputs, as it would end the process; to be freed by the caller. */
Findings *nfc_target_findings(void);

/* Runs the property; prints the paragraph and aborts at a difference. */
void nfc_target_run(const uint8_t *data, size_t size);

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The property no-functional-change: two subjects, a tree before a series of
 * patches and after it, answer every input alike. The model is not asked: that
 * both are wrong in the same way is no difference.
 */
#ifndef PAGEWISE_PROPERTY_NFC_H
#define PAGEWISE_PROPERTY_NFC_H

#include "property/property.h"

/* What is compared, in this order: the first that differs is told. */
typedef enum NfcAspect {
    NFC_VERDICT = 1 << 0,  /* accepted or refused */
    NFC_ERROR = 1 << 1,    /* the refusal's text */
    NFC_BLOCKS = 1 << 2,   /* used_length of each block, if accepted */
    NFC_RAM = 1 << 3,      /* every byte of every block, also after a refusal */
    NFC_POSITION = 1 << 4, /* where the stream stands at the end, if the subjects tell */
    NFC_READS = 1 << 5,    /* each read: offset and length */
    NFC_ALL = (1 << 6) - 1,
} NfcAspect;

/**
 * nfc_aspects_parse:
 * @text: "verdict,ram", or "all"
 *
 * Returns: the aspects, or 0 if one of the names is none.
 */
unsigned nfc_aspects_parse(const char *text);

typedef struct NfcPair NfcPair;

/**
 * nfc_pair_new:
 * @aspects: NFC_*
 *
 * Both subjects must outlive the pair. Free with nfc_pair_free().
 */
NfcPair *nfc_pair_new(const Subject *base, const Subject *series, unsigned aspects);
void nfc_pair_free(NfcPair *pair);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NfcPair, nfc_pair_free)

/*
 * Inputs are repaired first, so that they trigger none of @findings: those that
 * would end the process. @findings must outlive the pair.
 */
void nfc_pair_set_findings(NfcPair *pair, const Findings *findings);

/* Of the base; accepted, refused and unsupported count its loads. */
const PropertyStats *nfc_pair_stats(const NfcPair *pair);

/**
 * property_no_functional_change:
 * @data: an input of kind stream, layout or round-trip; others are left alone
 *
 * Loads the file with both, in one stage and, as the input asks, in two.
 *
 * Returns: false if they differ: PROPERTY_ERROR, PROPERTY_NO_FUNCTIONAL_CHANGE,
 * whose message says what the base did and what the series does.
 */
bool property_no_functional_change(NfcPair *pair, const uint8_t *data, size_t size, GError **error);

/**
 * nfc_record:
 *
 * Returns: all that is compared of the base's (or the @series') load of an
 * input, as text, a line for each thing; for a process that runs one side
 * alone. NULL with an error. Free with g_free().
 */
char *nfc_record(NfcPair *pair, bool series, const uint8_t *data, size_t size, GError **error);

#endif

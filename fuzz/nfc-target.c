/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See nfc-target.h. The engines give no context, so that the one here is static. */
#include "fuzz/nfc-target.h"

#include "fuzz/known-findings.h"

#include <stdio.h>
#include <stdlib.h>

NfcPair *nfc_target_pair(void)
{
    const char *text = getenv("NFC_COMPARE");
    unsigned aspects = text && text[0] ? nfc_aspects_parse(text) : NFC_ALL;

    if (!aspects) {
        fprintf(stderr,
                "pagewise: NFC_COMPARE=%s: a list of verdict, error, blocks, ram, position and "
                "reads is expected\n",
                text);
        exit(2);
    }
    return nfc_pair_new(subject_qemu_base(), subject_qemu_tree(), aspects);
}

/* What ends the process, or is chance, hides all differences; all else is to be seen. */
Findings *nfc_target_findings(void)
{
    Findings *findings = known_findings("qemu-tree", subject_qemu_base()->version);

    findings_keep(findings, 1 << FINDING_OUTCOME_CRASH | 1 << FINDING_OUTCOME_BLOW_UP |
                                1 << FINDING_OUTCOME_LEAK | 1 << FINDING_OUTCOME_UNPREDICTABLE);
    return findings;
}

void nfc_target_run(const uint8_t *data, size_t size)
{
    static NfcPair *pair;
    g_autoptr(GError) error = NULL;

    if (!pair) {
        pair = nfc_target_pair();
        nfc_pair_set_findings(pair, nfc_target_findings());
    }
    if (!property_no_functional_change(pair, data, size, &error)) {
        fprintf(stderr, "pagewise: %s\n", error->message);
        abort();
    }
}

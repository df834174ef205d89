/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See target.h. The engines give no context, so that the one here is static. */
#include "fuzz/target.h"

#include "fuzz/known-findings.h"

#include <stdio.h>
#include <stdlib.h>

/*
 * AddressSanitizer asks for this at start-up; ASAN_OPTIONS overrides it. A
 * small quarantine keeps an execution's memory in the cache (1.2 times as
 * fast), and is still deep enough for what one execution frees.
 */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "quarantine_size_mb=8:malloc_context_size=8";
}

void fuzz_target_run(PropertyFunction *property, const Subject *subject, const uint8_t *data,
                     size_t size)
{
    static PropertyContext *context;
    g_autoptr(GError) error = NULL;

    if (!context) {
        context = property_context_new(subject);
        if (subject->version) {
            /* A real QEMU; they live as long as the context. */
            property_context_set_findings(context, known_findings("qemu-tree", subject->version),
                                          FINDING_MODE_PLAIN);
        }
    }
    if (!property(context, data, size, &error)) {
        fprintf(stderr, "pagewise: %s\n", error->message);
        abort();
    }
}

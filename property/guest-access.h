/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Access to guest RAM that may end in a signal instead of in a value: what a
 * guest sees of a page whose load failed.
 */
#ifndef PAGEWISE_PROPERTY_GUEST_ACCESS_H
#define PAGEWISE_PROPERTY_GUEST_ACCESS_H

#include <stdbool.h>
#include <stdint.h>

/*
 * Makes SIGBUS and SIGSEGV in the function below harmless, in all threads, until
 * somebody else sets handlers. Elsewhere they do what they did before.
 */
void guest_access_init(void);

/* Reads or, with @write, writes *value. Returns 0 or the signal that it gave. */
int guest_access(uint8_t *byte, bool write, uint8_t *value);

#endif

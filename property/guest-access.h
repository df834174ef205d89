/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Access to guest RAM that may end in a signal instead of in a value: what a
 * guest sees of a page whose load failed.
 */
#ifndef PAGEWISE_PROPERTY_GUEST_ACCESS_H
#define PAGEWISE_PROPERTY_GUEST_ACCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Makes SIGBUS and SIGSEGV in the function below harmless, in all threads, until
 * somebody else sets handlers. Elsewhere they do what they did before.
 */
void guest_access_init(void);

/* Reads or, with @write, writes *value. Returns 0 or the signal that it gave. */
int guest_access(uint8_t *byte, bool write, uint8_t *value);

#define GUEST_ACCESS_MAX 64

/*
 * How many of @n_pages pages of @page_size bytes at @pages, from the first one
 * on, can be read? A page that is missing comes to be there, as if it were
 * touched; where the kernel can be asked, it takes no signal to know.
 */
size_t guest_access_span(uint8_t *pages, size_t n_pages, size_t page_size);

/* The same of @n bytes anywhere, at most GUEST_ACCESS_MAX. */
size_t guest_access_reach(uint8_t *const *bytes, size_t n);

#endif

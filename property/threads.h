/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How many threads the process has: what a load, or a set-up, must leave as it
 * was. Of all threads, so that those of a subject count whoever started them.
 */
#ifndef PAGEWISE_PROPERTY_THREADS_H
#define PAGEWISE_PROPERTY_THREADS_H

/* The threads of the process, and two: one system call. 0: it cannot be told. */
unsigned count_threads(void);

/*
 * The same by a descriptor of the process's own, which saves the way to the
 * folder; -1 is fine.
 */
int open_threads(void);
unsigned count_threads_by(int threads);

/*
 * The same; as long as there are more than @before it waits, up to a second: a
 * thread that was joined is listed until the kernel is done with it.
 */
unsigned count_settled_threads(unsigned before);

#endif

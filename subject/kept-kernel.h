/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a session of lazy loads keeps from load to load of what the kernel gives:
 * the answer to what its userfaultfd can do, a descriptor, and mappings. To get
 * them and to give them back costs more than a small load. Each function stands
 * for the operation of the same name in loader/uffd.h; what cannot be kept is
 * the real operation. One load at a time; any of its threads.
 */
#ifndef PAGEWISE_SUBJECT_KEPT_KERNEL_H
#define PAGEWISE_SUBJECT_KEPT_KERNEL_H

#include "loader/uffd.h"

typedef struct KeptKernel KeptKernel;

/* NULL: there is no userfaultfd (@error is set). */
KeptKernel *kept_kernel_new(GError **error);
void kept_kernel_free(KeptKernel *kept); /* NULL is fine */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(KeptKernel, kept_kernel_free)

/*
 * A load begins. @fresh: its descriptor has to be its own, since who sleeps
 * until it is closed, because of an event that nobody reads, must not sleep on.
 */
void kept_kernel_begin(KeptKernel *kept, bool fresh);

int kept_kernel_open(KeptKernel *kept, UffdMethod method, int flags);
int kept_kernel_api(KeptKernel *kept, int uffd, struct uffdio_api *api);
int kept_kernel_register_range(KeptKernel *kept, int uffd, struct uffdio_register *range);
int kept_kernel_unregister(KeptKernel *kept, int uffd, struct uffdio_range *range);

/* With memory that is still registered it is closed in truth, and all that means happens. */
void kept_kernel_close(KeptKernel *kept, int fd);
void kept_kernel_replace(KeptKernel *kept, int fd, int by);

/*
 * Private memory holds what the last load left there. A mapping of a file is at
 * least as long as was asked for; @fd is the same file for the whole session.
 */
int kept_kernel_map(KeptKernel *kept, int fd, size_t length, int protection, void **memory);
void kept_kernel_unmap(KeptKernel *kept, void *memory, size_t length);

#endif

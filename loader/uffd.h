/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * All that the loader asks of the kernel for lazy loading, behind a table of
 * operations that a test can replace, and how a userfaultfd is opened. Answers
 * to Linux' Documentation/admin-guide/mm/userfaultfd.rst and ioctl_userfaultfd(2).
 * It must know neither of RAM blocks nor of files.
 */
#ifndef PAGEWISE_LOADER_UFFD_H
#define PAGEWISE_LOADER_UFFD_H

#include <glib.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/types.h>

/* What the headers of older kernels lack: 5.11, 6.1, 6.6. */
#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif
#ifndef USERFAULTFD_IOC_NEW
#define USERFAULTFD_IOC_NEW _IO(0xAA, 0x00)
#endif
#ifndef UFFDIO_POISON
struct uffdio_poison {
    struct uffdio_range range;
    __u64 mode;
    __s64 updated;
};
#define UFFDIO_POISON _IOWR(UFFDIO, 0x08, struct uffdio_poison)
#endif

/* In the order in which they are tried. */
typedef enum UffdMethod {
    UFFD_METHOD_SYSCALL,
    UFFD_METHOD_DEVICE,
    UFFD_METHOD_USER_MODE_ONLY,
    UFFD_N_METHODS,
} UffdMethod;

typedef struct UffdOps UffdOps;

/*
 * Operations return 0, or what is said here, or -errno. They are called from
 * several threads at once. @ops is the table itself, so that a test can embed
 * it in a struct of its own. Ioctl arguments are the kernel's, results in them
 * included.
 */
struct UffdOps {
    int (*open)(const UffdOps *ops, UffdMethod method, int flags); /* the descriptor */
    int (*api)(const UffdOps *ops, int uffd, struct uffdio_api *api);
    int (*register_range)(const UffdOps *ops, int uffd, struct uffdio_register *range);
    int (*unregister)(const UffdOps *ops, int uffd, struct uffdio_range *range);
    int (*copy)(const UffdOps *ops, int uffd, struct uffdio_copy *copy);
    int (*zeropage)(const UffdOps *ops, int uffd, struct uffdio_zeropage *zero);
    int (*wake)(const UffdOps *ops, int uffd, struct uffdio_range *range);
    int (*poison)(const UffdOps *ops, int uffd, struct uffdio_poison *poison);
    ssize_t (*read)(const UffdOps *ops, int uffd, struct uffd_msg *messages, size_t length);
    int (*poll)(const UffdOps *ops, struct pollfd *fds, nfds_t n_fds); /* for ever */
    int (*eventfd)(const UffdOps *ops, int flags);                     /* the descriptor */
    void (*close)(const UffdOps *ops, int fd);                         /* of open() or eventfd() */
    /* What @fd was is closed, and the number is another one for @by from now on. */
    void (*replace)(const UffdOps *ops, int fd, int by);
    /* @fd: a file that is mapped shared; -1: private anonymous memory. */
    int (*map)(const UffdOps *ops, int fd, size_t length, int protection, void **memory);
    void (*unmap)(const UffdOps *ops, void *memory, size_t length); /* all that map() gave */
    int (*advise)(const UffdOps *ops, void *memory, size_t length, int advice);
    int (*protect)(const UffdOps *ops, void *memory, size_t length, int protection);
    int (*is_present)(const UffdOps *ops, void *page); /* 1 or 0: mapped, by anyone */
    int (*create_thread)(const UffdOps *ops, pthread_t *thread, void *(*body)(void *),
                         void *opaque);
    void (*join_thread)(const UffdOps *ops, pthread_t thread);
    void (*nap)(const UffdOps *ops, unsigned microseconds);
};

/* The table that makes the real calls. */
const UffdOps *uffd_ops_real(void);

typedef struct Uffd {
    int fd; /* non-blocking, close-on-exec; -1: none */
    UffdMethod method;
    uint64_t features; /* that were asked for and are on */
} Uffd;

/*
 * Opens a userfaultfd by the first method that works and shakes hands on the
 * API. @required features must be there, @wanted ones are taken where they
 * are. The caller closes uffd->fd by @ops; after a failure it is -1.
 * @error: MAPPED_RAM_ERROR_NO_UFFD; if no method works it says what each
 * answered and what helps.
 */
bool uffd_open(const UffdOps *ops, uint64_t required, uint64_t wanted, Uffd *uffd, GError **error);

/* How it was opened and what follows from that, one line of text. */
const char *uffd_method_describe(UffdMethod method);

/*
 * Each does as much as the kernel does in one call. Returns the number of
 * bytes done, at least 1, or -errno if it is none: a call that stopped half
 * way (the kernel says EAGAIN) is progress, not an error.
 */
int64_t uffd_copy(const UffdOps *ops, int uffd, void *to, const void *from, uint64_t length);
int64_t uffd_zeropage(const UffdOps *ops, int uffd, void *to, uint64_t length);
int64_t uffd_poison(const UffdOps *ops, int uffd, void *to, uint64_t length);

/*
 * uffd_copy() to private hugetlb memory. Where the pool has no page left, Linux
 * says EEXIST, as if the page were there (mm/hugetlb.c; seen on 6.18): -ENOMEM.
 */
int64_t uffd_copy_huge(const UffdOps *ops, int uffd, void *to, const void *from, uint64_t length);

/*
 * Threads that sleep on a page of the range look again. That nobody does, or
 * that the range is gone, is no error.
 */
void uffd_wake(const UffdOps *ops, int uffd, void *memory, uint64_t length);

/* Missing pages of the range are reported from now on. @huge: it is hugetlb memory. */
bool uffd_register(const UffdOps *ops, int uffd, void *memory, uint64_t length, bool *huge,
                   GError **error);

/* Who sleeps in the range wakes; a page that is missing is a page of zeroes. */
bool uffd_unregister(const UffdOps *ops, int uffd, void *memory, uint64_t length, GError **error);

#endif

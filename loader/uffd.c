/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The only file of the project's loader that makes userfaultfd system calls.
 * Each operation of the real table is one call and nothing else; what a result
 * means is said by the functions below it, which tests reach with tables of
 * their own.
 */
#define _GNU_SOURCE
#include "loader/uffd.h"

#include "loader/error.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define DEVICE "/dev/userfaultfd"

static int result_of(int result)
{
    return result < 0 ? -errno : result;
}

static int real_open_device(int flags)
{
    int device = open(DEVICE, O_RDWR | O_CLOEXEC);
    int uffd;

    if (device < 0) {
        return -errno;
    }
    uffd = result_of(ioctl(device, USERFAULTFD_IOC_NEW, flags));
    close(device);
    return uffd;
}

static int real_open(const UffdOps *ops, UffdMethod method, int flags)
{
    (void)ops;
    if (method == UFFD_METHOD_DEVICE) {
        return real_open_device(flags);
    }
    if (method == UFFD_METHOD_USER_MODE_ONLY) {
        flags |= UFFD_USER_MODE_ONLY;
    }
    return result_of((int)syscall(SYS_userfaultfd, flags));
}

#define DEFINE_IOCTL(name, argument, request)                                                      \
    static int real_##name(const UffdOps *ops, int uffd, struct argument *arg)                     \
    {                                                                                              \
        (void)ops;                                                                                 \
        return result_of(ioctl(uffd, request, arg));                                               \
    }

DEFINE_IOCTL(api, uffdio_api, UFFDIO_API)
DEFINE_IOCTL(register_range, uffdio_register, UFFDIO_REGISTER)
DEFINE_IOCTL(unregister, uffdio_range, UFFDIO_UNREGISTER)
DEFINE_IOCTL(copy, uffdio_copy, UFFDIO_COPY)
DEFINE_IOCTL(zeropage, uffdio_zeropage, UFFDIO_ZEROPAGE)
DEFINE_IOCTL(wake, uffdio_range, UFFDIO_WAKE)
DEFINE_IOCTL(poison, uffdio_poison, UFFDIO_POISON)

static ssize_t real_read(const UffdOps *ops, int uffd, struct uffd_msg *messages, size_t length)
{
    ssize_t result = read(uffd, messages, length);

    (void)ops;
    return result < 0 ? -errno : result;
}

static int real_poll(const UffdOps *ops, struct pollfd *fds, nfds_t n_fds)
{
    (void)ops;
    return result_of(poll(fds, n_fds, -1));
}

static int real_eventfd(const UffdOps *ops, int flags)
{
    (void)ops;
    return result_of(eventfd(0, flags));
}

static void real_close(const UffdOps *ops, int fd)
{
    (void)ops;
    close(fd);
}

static void real_replace(const UffdOps *ops, int fd, int by)
{
    (void)ops;
    dup3(by, fd, O_CLOEXEC);
}

static int real_map(const UffdOps *ops, int fd, size_t length, int protection, void **memory)
{
    int flags = fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE : MAP_SHARED;
    void *mapped = mmap(NULL, length, protection, flags, fd, 0);

    (void)ops;
    if (mapped == MAP_FAILED) {
        return -errno;
    }
    *memory = mapped;
    return 0;
}

static void real_unmap(const UffdOps *ops, void *memory, size_t length)
{
    (void)ops;
    munmap(memory, length);
}

static int real_advise(const UffdOps *ops, void *memory, size_t length, int advice)
{
    (void)ops;
    return result_of(madvise(memory, length, advice));
}

static int real_protect(const UffdOps *ops, void *memory, size_t length, int protection)
{
    (void)ops;
    return result_of(mprotect(memory, length, protection));
}

static int real_is_present(const UffdOps *ops, void *page)
{
    unsigned char present;

    (void)ops;
    return mincore(page, 1, &present) < 0 ? -errno : present & 1;
}

static int real_create_thread(const UffdOps *ops, pthread_t *thread, void *(*body)(void *),
                              void *opaque)
{
    (void)ops;
    return -pthread_create(thread, NULL, body, opaque);
}

static void real_join_thread(const UffdOps *ops, pthread_t thread)
{
    (void)ops;
    pthread_join(thread, NULL);
}

static void real_nap(const UffdOps *ops, unsigned microseconds)
{
    (void)ops;
    g_usleep(microseconds);
}

const UffdOps *uffd_ops_real(void)
{
    static const UffdOps real = {
        .open = real_open,
        .api = real_api,
        .register_range = real_register_range,
        .unregister = real_unregister,
        .copy = real_copy,
        .zeropage = real_zeropage,
        .wake = real_wake,
        .poison = real_poison,
        .read = real_read,
        .poll = real_poll,
        .eventfd = real_eventfd,
        .close = real_close,
        .replace = real_replace,
        .map = real_map,
        .unmap = real_unmap,
        .advise = real_advise,
        .protect = real_protect,
        .is_present = real_is_present,
        .create_thread = real_create_thread,
        .join_thread = real_join_thread,
        .nap = real_nap,
    };

    return &real;
}

static const char *const method_names[UFFD_N_METHODS] = {
    [UFFD_METHOD_SYSCALL] = "the system call",
    [UFFD_METHOD_DEVICE] = DEVICE,
    [UFFD_METHOD_USER_MODE_ONLY] = "the system call with UFFD_USER_MODE_ONLY",
};

const char *uffd_method_describe(UffdMethod method)
{
    static const char *const descriptions[UFFD_N_METHODS] = {
        [UFFD_METHOD_SYSCALL] = "userfaultfd by system call: serves all faults",
        [UFFD_METHOD_DEVICE] = "userfaultfd by " DEVICE ": serves all faults",
        [UFFD_METHOD_USER_MODE_ONLY] =
            ("userfaultfd with UFFD_USER_MODE_ONLY: serves faults of user space alone; a system "
             "call (or KVM) that touches a missing page gets EFAULT"),
    };

    return descriptions[method];
}

static void refuse_open(const int results[UFFD_N_METHODS], GError **error)
{
    g_autoptr(GString) answers = g_string_new(NULL);

    for (unsigned i = 0; i < UFFD_N_METHODS; i++) {
        g_string_append_printf(answers, "%s%s answers: %s", i ? "; " : "", method_names[i],
                               g_strerror(-results[i]));
    }
    g_set_error(error, MAPPED_RAM_ERROR, MAPPED_RAM_ERROR_NO_UFFD,
                "userfaultfd cannot be opened: %s. One of these helps: "
                "sysctl vm.unprivileged_userfaultfd=1; setfacl -m u:USER:rw " DEVICE "; "
                "the capability CAP_SYS_PTRACE; in a container, a seccomp profile that lets "
                "userfaultfd through",
                answers->str);
}

static int open_by(const UffdOps *ops, UffdMethod method)
{
    return ops->open(ops, method, O_CLOEXEC | O_NONBLOCK);
}

static int open_by_any(const UffdOps *ops, UffdMethod *method, GError **error)
{
    int results[UFFD_N_METHODS];

    for (unsigned i = 0; i < UFFD_N_METHODS; i++) {
        results[i] = open_by(ops, i);
        if (results[i] >= 0) {
            *method = i;
            return results[i];
        }
    }
    refuse_open(results, error);
    return -1;
}

static bool shake_hands(const UffdOps *ops, int fd, uint64_t features, uint64_t *offered,
                        GError **error)
{
    struct uffdio_api api = { .api = UFFD_API, .features = features };
    int result = ops->api(ops, fd, &api);

    if (result < 0) {
        g_set_error(error, MAPPED_RAM_ERROR, MAPPED_RAM_ERROR_NO_UFFD,
                    "UFFDIO_API with features 0x%" G_GINT64_MODIFIER "x: %s", features,
                    g_strerror(-result));
        return false;
    }
    *offered = api.features;
    return true;
}

/*
 * What this kernel can do is asked on a descriptor that is then thrown away:
 * a second UFFDIO_API on one descriptor is EINVAL.
 */
static bool probe_features(const UffdOps *ops, UffdMethod *method, uint64_t *features,
                           GError **error)
{
    int fd = open_by_any(ops, method, error);
    bool ok;

    if (fd < 0) {
        return false;
    }
    ok = shake_hands(ops, fd, 0, features, error);
    ops->close(ops, fd);
    return ok;
}

bool uffd_open(const UffdOps *ops, uint64_t required, uint64_t wanted, Uffd *uffd, GError **error)
{
    uint64_t offered;
    uint64_t unused;
    int fd;

    uffd->fd = -1;
    if (!probe_features(ops, &uffd->method, &offered, error)) {
        return false;
    }
    if (required & ~offered) {
        g_set_error(error, MAPPED_RAM_ERROR, MAPPED_RAM_ERROR_NO_UFFD,
                    "this kernel's userfaultfd lacks the features 0x%" G_GINT64_MODIFIER "x",
                    required & ~offered);
        return false;
    }
    fd = open_by(ops, uffd->method);
    if (fd < 0) {
        g_set_error(error, MAPPED_RAM_ERROR, MAPPED_RAM_ERROR_NO_UFFD,
                    "%s worked once, then answers: %s", method_names[uffd->method],
                    g_strerror(-fd));
        return false;
    }
    uffd->features = required | (wanted & offered);
    if (!shake_hands(ops, fd, uffd->features, &unused, error)) {
        ops->close(ops, fd);
        return false;
    }
    uffd->fd = fd;
    return true;
}

/* The kernel says how far it came where it also says EAGAIN. */
static int64_t progress(int result, int64_t done, uint64_t length)
{
    if (result == 0) {
        return (int64_t)length;
    }
    return result == -EAGAIN && done > 0 ? done : result;
}

int64_t uffd_copy(const UffdOps *ops, int uffd, void *to, const void *from, uint64_t length)
{
    struct uffdio_copy copy = {
        .dst = (uintptr_t)to,
        .src = (uintptr_t)from,
        .len = length,
    };
    int result = ops->copy(ops, uffd, &copy);

    return progress(result, copy.copy, length);
}

int64_t uffd_zeropage(const UffdOps *ops, int uffd, void *to, uint64_t length)
{
    struct uffdio_zeropage zero = { .range = { .start = (uintptr_t)to, .len = length } };
    int result = ops->zeropage(ops, uffd, &zero);

    return progress(result, zero.zeropage, length);
}

int64_t uffd_poison(const UffdOps *ops, int uffd, void *to, uint64_t length)
{
    struct uffdio_poison poison = { .range = { .start = (uintptr_t)to, .len = length } };
    int result = ops->poison(ops, uffd, &poison);

    return progress(result, poison.updated, length);
}

int64_t uffd_copy_huge(const UffdOps *ops, int uffd, void *to, const void *from, uint64_t length)
{
    /* Twice: a page that was there may have been discarded since. */
    for (unsigned tries = 0; tries < 2; tries++) {
        int64_t result = uffd_copy(ops, uffd, to, from, length);

        if (result != -EEXIST || ops->is_present(ops, to) != 0) {
            return result;
        }
    }
    return -ENOMEM;
}

void uffd_wake(const UffdOps *ops, int uffd, void *memory, uint64_t length)
{
    struct uffdio_range range = { .start = (uintptr_t)memory, .len = length };

    ops->wake(ops, uffd, &range);
}

bool uffd_register(const UffdOps *ops, int uffd, void *memory, uint64_t length, bool *huge,
                   GError **error)
{
    struct uffdio_register range = {
        .range = { .start = (uintptr_t)memory, .len = length },
        .mode = UFFDIO_REGISTER_MODE_MISSING,
    };
    int result = ops->register_range(ops, uffd, &range);

    if (result < 0) {
        g_set_error(error, MAPPED_RAM_ERROR, MAPPED_RAM_ERROR_NO_UFFD,
                    "UFFDIO_REGISTER of 0x%" G_GINT64_MODIFIER "x bytes: %s", length,
                    g_strerror(-result));
        return false;
    }
    /* The kernel has no ZEROPAGE for hugetlb memory, and for all other it has. */
    *huge = !(range.ioctls & (UINT64_C(1) << _UFFDIO_ZEROPAGE));
    return true;
}

bool uffd_unregister(const UffdOps *ops, int uffd, void *memory, uint64_t length, GError **error)
{
    struct uffdio_range range = { .start = (uintptr_t)memory, .len = length };
    int result = ops->unregister(ops, uffd, &range);

    if (result < 0) {
        g_set_error(error, MAPPED_RAM_ERROR, MAPPED_RAM_ERROR_NO_UFFD,
                    "UFFDIO_UNREGISTER of 0x%" G_GINT64_MODIFIER "x bytes: %s", length,
                    g_strerror(-result));
    }
    return result >= 0;
}

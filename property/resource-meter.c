/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * See resource-meter.h. A wrapper for each function of the C library that the
 * lazy path takes something by, or gives it back.
 */
#define _GNU_SOURCE
#include "property/resource-meter.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/userfaultfd.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

/* What the headers of older kernels lack. */
#ifndef USERFAULTFD_IOC_NEW
#define USERFAULTFD_IOC_NEW _IO(0xAA, 0x00)
#endif
#define POISON_NUMBER 0x08

/* Passes on more arguments than there may be, as the C library itself does. */
#define PASSES_ALL_ON __attribute__((no_sanitize("address")))

/* The C library gives no context. */
static _Thread_local ResourceMeter *current;

int __real_close(int fd);
int __real_open(const char *path, int flags, ...);
long __real_syscall(long number, ...);
int __real_ioctl(int fd, unsigned long request, ...);
int __real_eventfd(unsigned value, int flags);
void *__real_mmap(void *at, size_t length, int protection, int flags, int fd, off_t offset);
int __real_munmap(void *memory, size_t length);
int __real_madvise(void *memory, size_t length, int advice);
int __real_mprotect(void *memory, size_t length, int protection);
int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*body)(void *), void *opaque);
int __real_pthread_join(pthread_t thread, void **result);

const char *metered_call_name(MeteredCall call)
{
    static const char *const names[METERED_N_CALLS] = {
        [METERED_ANY] = "any",
        [METERED_OPEN] = "open",
        [METERED_API] = "api",
        [METERED_EVENTFD] = "eventfd",
        [METERED_MAP] = "map",
        [METERED_ADVISE] = "advise",
        [METERED_REGISTER] = "register",
        [METERED_THREAD] = "create_thread",
        [METERED_PLACE] = "place",
        [METERED_PROTECT] = "protect",
        [METERED_UNREGISTER] = "unregister",
    };

    return names[call];
}

void resource_meter_start(ResourceMeter *meter)
{
    g_assert(!current);
    current = meter;
}

void resource_meter_stop(void)
{
    current = NULL;
}

static void wrong(const char *format, ...) G_GNUC_PRINTF(1, 2);

static void wrong(const char *format, ...)
{
    va_list args;

    if (current->wrong[0] == '\0') {
        va_start(args, format);
        g_vsnprintf(current->wrong, sizeof(current->wrong), format, args);
        va_end(args);
    }
}

static bool is_due(const MeteredFailure *failure, MeteredCall call)
{
    unsigned number = current->calls[failure->call];

    return failure->first > 0 && (failure->call == METERED_ANY || failure->call == call) &&
           number >= failure->first && number - failure->first < failure->times;
}

/* Counts a call; the errno that it is made to fail with, or 0. */
static int count(MeteredCall call)
{
    current->calls[METERED_ANY]++;
    current->calls[call]++;
    for (unsigned i = 0; i < METER_MAX_FAILURES; i++) {
        if (is_due(&current->failures[i], call)) {
            current->failed[METERED_ANY]++;
            current->failed[call]++;
            return current->failures[i].error;
        }
    }
    return 0;
}

static bool fails(MeteredCall call)
{
    int error = current ? count(call) : 0;

    if (error) {
        errno = error;
    }
    return error != 0;
}

/* A thread that runs already must not need what is taken only now. */
static void took(const char *what)
{
    if (current->had_thread) {
        wrong("%s is taken after a thread was started that may use it", what);
    }
}

static void hold_fd(int fd)
{
    if (current->n_fds == METER_MAX_HELD) {
        wrong("more than %d descriptors are held", METER_MAX_HELD);
        return;
    }
    took("a descriptor");
    current->fds[current->n_fds++] = fd;
}

static void hold_range(MeteredRange *ranges, unsigned *n, MeteredRange range, const char *what)
{
    if (*n == METER_MAX_HELD) {
        wrong("more than %d times %s", METER_MAX_HELD, what);
        return;
    }
    ranges[(*n)++] = range;
}

static bool drop_range(MeteredRange *ranges, unsigned *n, const void *memory, size_t length)
{
    for (unsigned i = 0; i < *n; i++) {
        if (ranges[i].start == (uintptr_t)memory && ranges[i].length == length) {
            ranges[i] = ranges[--*n];
            return true;
        }
    }
    return false;
}

static bool drop_fd(int fd)
{
    for (unsigned i = 0; i < current->n_fds; i++) {
        if (current->fds[i] == fd) {
            current->fds[i] = current->fds[--current->n_fds];
            return true;
        }
    }
    return false;
}

/* With its descriptor a registration is gone. */
static void drop_registrations(int fd)
{
    for (unsigned i = 0; i < current->n_registered;) {
        if (current->registered[i].fd == fd) {
            current->registered[i] = current->registered[--current->n_registered];
        } else {
            i++;
        }
    }
}

int __wrap_close(int fd);
int __wrap_close(int fd)
{
    if (!current) {
        return __real_close(fd);
    }
    if (!drop_fd(fd)) {
        wrong("descriptor %d is closed, which is not held: it was closed before, or is "
              "somebody else's",
              fd);
        errno = EBADF;
        return -1;
    }
    drop_registrations(fd);
    return __real_close(fd);
}

int __wrap_open(const char *path, int flags, ...);
PASSES_ALL_ON int __wrap_open(const char *path, int flags, ...)
{
    mode_t mode;
    va_list args;
    int fd;

    va_start(args, flags);
    mode = va_arg(args, mode_t);
    va_end(args);
    if (fails(METERED_OPEN)) {
        return -1;
    }
    fd = __real_open(path, flags, mode);
    if (current && fd >= 0) {
        hold_fd(fd);
    }
    return fd;
}

long __wrap_syscall(long number, ...);
PASSES_ALL_ON long __wrap_syscall(long number, ...)
{
    long arguments[6];
    va_list args;
    long result;

    va_start(args, number);
    for (unsigned i = 0; i < G_N_ELEMENTS(arguments); i++) {
        arguments[i] = va_arg(args, long);
    }
    va_end(args);
    if (number == SYS_userfaultfd && fails(METERED_OPEN)) {
        return -1;
    }
    result = __real_syscall(number, arguments[0], arguments[1], arguments[2], arguments[3],
                            arguments[4], arguments[5]);
    if (current && number == SYS_userfaultfd && result >= 0) {
        hold_fd((int)result);
    }
    return result;
}

static MeteredCall call_of(unsigned long request)
{
    if (_IOC_TYPE(request) == _IOC_TYPE(USERFAULTFD_IOC_NEW)) {
        switch (_IOC_NR(request)) {
        case _IOC_NR(UFFDIO_API):
            return METERED_API;
        case _IOC_NR(USERFAULTFD_IOC_NEW):
            /* The number is REGISTER's as well; only the one has an argument. */
            return _IOC_SIZE(request) ? METERED_REGISTER : METERED_OPEN;
        case _IOC_NR(UFFDIO_UNREGISTER):
            return METERED_UNREGISTER;
        case _IOC_NR(UFFDIO_COPY):
        case _IOC_NR(UFFDIO_ZEROPAGE):
        case POISON_NUMBER:
            return METERED_PLACE;
        default:
            break;
        }
    }
    return METERED_ANY;
}

static void note_ioctl(MeteredCall call, int fd, int result, void *argument)
{
    const struct uffdio_register *registered = argument;
    const struct uffdio_range *range = argument;

    if (call == METERED_OPEN) {
        hold_fd(result);
    } else if (call == METERED_REGISTER) {
        took("a registration");
        hold_range(current->registered, &current->n_registered,
                   (MeteredRange){ fd, registered->range.start, registered->range.len },
                   "registrations");
    } else if (call == METERED_UNREGISTER &&
               !drop_range(current->registered, &current->n_registered,
                           (void *)(uintptr_t)range->start, range->len)) {
        wrong("a range is unregistered that is not registered");
    }
}

/* How the kernel says in its struct that a COPY or its like did nothing. */
static void say_nothing_done(unsigned long request, void *argument)
{
    if (_IOC_NR(request) == _IOC_NR(UFFDIO_COPY)) {
        ((struct uffdio_copy *)argument)->copy = -errno;
    } else {
        /* ZEROPAGE and POISON are laid out alike. */
        ((struct uffdio_zeropage *)argument)->zeropage = -errno;
    }
}

int __wrap_ioctl(int fd, unsigned long request, ...);
PASSES_ALL_ON int __wrap_ioctl(int fd, unsigned long request, ...)
{
    MeteredCall call = current ? call_of(request) : METERED_ANY;
    void *argument;
    va_list args;
    int result;

    va_start(args, request);
    argument = va_arg(args, void *);
    va_end(args);
    if (call != METERED_ANY && fails(call)) {
        if (call == METERED_PLACE) {
            say_nothing_done(request, argument);
        }
        return -1;
    }
    result = __real_ioctl(fd, request, argument);
    if (call != METERED_ANY && result >= 0) {
        note_ioctl(call, fd, result, argument);
    }
    return result;
}

int __wrap_eventfd(unsigned value, int flags);
int __wrap_eventfd(unsigned value, int flags)
{
    int fd;

    if (fails(METERED_EVENTFD)) {
        return -1;
    }
    fd = __real_eventfd(value, flags);
    if (current && fd >= 0) {
        hold_fd(fd);
    }
    return fd;
}

void *__wrap_mmap(void *at, size_t length, int protection, int flags, int fd, off_t offset);
void *__wrap_mmap(void *at, size_t length, int protection, int flags, int fd, off_t offset)
{
    void *memory;

    if (fails(METERED_MAP)) {
        return MAP_FAILED;
    }
    memory = __real_mmap(at, length, protection, flags, fd, offset);
    if (current && memory != MAP_FAILED) {
        took("a mapping");
        hold_range(current->maps, &current->n_maps, (MeteredRange){ -1, (uintptr_t)memory, length },
                   "mappings");
    }
    return memory;
}

int __wrap_munmap(void *memory, size_t length);
int __wrap_munmap(void *memory, size_t length)
{
    if (current && !drop_range(current->maps, &current->n_maps, memory, length)) {
        wrong("0x%zx bytes are unmapped that are no mapping that is held", length);
        errno = EINVAL;
        return -1;
    }
    return __real_munmap(memory, length);
}

int __wrap_madvise(void *memory, size_t length, int advice);
int __wrap_madvise(void *memory, size_t length, int advice)
{
    int result;

    if (advice != MADV_DOFORK && fails(METERED_ADVISE)) {
        return -1;
    }
    result = __real_madvise(memory, length, advice);
    if (!current || result < 0) {
        return result;
    }
    if (advice == MADV_DONTFORK) {
        hold_range(current->kept_from_children, &current->n_kept_from_children,
                   (MeteredRange){ -1, (uintptr_t)memory, length }, "MADV_DONTFORK");
    } else if (advice == MADV_DOFORK) {
        drop_range(current->kept_from_children, &current->n_kept_from_children, memory, length);
    }
    return result;
}

int __wrap_mprotect(void *memory, size_t length, int protection);
int __wrap_mprotect(void *memory, size_t length, int protection)
{
    return fails(METERED_PROTECT) ? -1 : __real_mprotect(memory, length, protection);
}

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*body)(void *), void *opaque);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*body)(void *), void *opaque)
{
    int error = current ? count(METERED_THREAD) : 0;

    error = error ? error : __real_pthread_create(thread, attributes, body, opaque);
    if (current && error == 0) {
        current->had_thread = true;
        if (current->n_threads == METER_MAX_HELD) {
            wrong("more than %d threads run", METER_MAX_HELD);
        } else {
            current->threads[current->n_threads++] = *thread;
        }
    }
    return error;
}

int __wrap_pthread_join(pthread_t thread, void **result);
int __wrap_pthread_join(pthread_t thread, void **result)
{
    for (unsigned i = 0; current && i < current->n_threads; i++) {
        if (pthread_equal(current->threads[i], thread)) {
            current->threads[i] = current->threads[--current->n_threads];
            return __real_pthread_join(thread, result);
        }
    }
    if (current) {
        wrong("a thread is joined that does not run");
        return ESRCH;
    }
    return __real_pthread_join(thread, result);
}

static void append_number(GString *text, unsigned n, const char *what)
{
    if (n > 0) {
        g_string_append_printf(text, "%s%u %s", text->len ? ", " : "", n, what);
    }
}

char *resource_meter_describe_held(const ResourceMeter *meter)
{
    g_autoptr(GString) text = g_string_new(NULL);

    append_number(text, meter->n_fds, "descriptor(s)");
    append_number(text, meter->n_maps, "mapping(s)");
    append_number(text, meter->n_registered, "registration(s)");
    append_number(text, meter->n_kept_from_children, "range(s) kept from children");
    append_number(text, meter->n_threads, "thread(s)");
    return text->len ? g_string_free(g_steal_pointer(&text), FALSE) : NULL;
}

void resource_meter_release(ResourceMeter *meter)
{
    while (meter->n_fds > 0) {
        __real_close(meter->fds[--meter->n_fds]);
    }
    while (meter->n_maps > 0) {
        const MeteredRange *map = &meter->maps[--meter->n_maps];

        __real_munmap((void *)map->start, map->length);
    }
    while (meter->n_kept_from_children > 0) {
        const MeteredRange *range = &meter->kept_from_children[--meter->n_kept_from_children];

        __real_madvise((void *)range->start, range->length, MADV_DOFORK);
    }
    meter->n_registered = 0;
}

static unsigned count_entries(const char *folder)
{
    DIR *dir = opendir(folder);
    unsigned entries = 0;

    while (dir && readdir(dir)) {
        entries++;
    }
    if (dir) {
        closedir(dir);
    }
    return entries;
}

/*
 * The allocator's mappings come and go, and so does guest RAM, when it is shut
 * off. What counts is mappings of other memory files, and what is registered
 * ("um") or kept from children ("dc").
 */
static unsigned count_mappings(void)
{
    FILE *file = fopen("/proc/self/smaps", "r");
    char line[512];
    unsigned count = 0;

    while (file && fgets(line, sizeof(line), file)) {
        count += strstr(line, "memfd:") && !strstr(line, "memfd:guest-ram");
        count += g_str_has_prefix(line, "VmFlags:") && strstr(line, " um") != NULL;
        count += g_str_has_prefix(line, "VmFlags:") && strstr(line, " dc") != NULL;
    }
    if (file) {
        fclose(file);
    }
    return count;
}

Resources count_resources(void)
{
    return (Resources){
        .descriptors = count_entries("/proc/self/fd"),
        .threads = count_entries("/proc/self/task"),
        .mappings = count_mappings(),
    };
}

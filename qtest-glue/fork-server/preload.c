/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The fork server: a library for LD_PRELOAD into an unmodified qemu-system that
 * was started with "-incoming file:...". It must stay free of anything but
 * libc: it runs inside QEMU, and in children of a process with threads.
 *
 * QEMU opens the file, configures everything, and enters its main loop; what it
 * would read next is the file. Instead of the first poll of the main loop the
 * server runs: a child for each request, which goes on in the main loop. The
 * child has loaded once the file is closed and its main loop would block.
 *
 * It relies on what QEMU does in util/main-loop.c (ppoll in the main thread) and
 * migration/file.c (one descriptor, and one more for each multifd channel, all
 * opened before the first byte is read). The threads that QEMU had before are
 * missing in the child: the RCU thread, and those of virtual processors, which
 * -S keeps stopped. A child that exits leaves out the destructors of shared
 * libraries, and threads that wake others make way for them.
 */
#define _GNU_SOURCE
#include "qtest-glue/fork-server/protocol.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* The file is found among at most so many descriptors of QEMU. */
#define MAX_FILES 64
/* QEMU's other threads are quiet if none of them ran for so long; RCU looks every 10 ms. */
#define QUIET_MS 25
/* If they never are, children are forked all the same. */
#define MAX_QUIET_PERIODS 40
/* Descriptors of so many threads' states, out of the way of QEMU's own. */
#define MAX_THREADS 16
#define FIRST_THREAD_FD 210
#define NAP_US 100
#define MAX_NAPS 10000

typedef int PpollFunction(struct pollfd *fds, nfds_t n, const struct timespec *timeout,
                          const sigset_t *mask);
typedef int SignalFunction(pthread_cond_t *cond);
typedef int UnlockFunction(pthread_mutex_t *mutex);
typedef int MainFunction(int argc, char **argv, char **environment);
typedef int StartFunction(MainFunction *main, int argc, char **argv, MainFunction *init,
                          void (*fini)(void), void (*rtld_fini)(void), void *stack_end);

/* QEMU gives no context to its libraries, so that this one is static. */
static struct {
    MainFunction *main;
    PpollFunction *ppoll;
    SignalFunction *signal;
    UnlockFunction *unlock;
    bool enabled;
    bool is_child;
    unsigned n_files;
    int files[MAX_FILES]; /* descriptors by which QEMU reads the file to load */
    unsigned n_threads;
    int threads[MAX_THREADS]; /* /proc/self/task/TID/stat of the others */
} server;

/* This thread has woken another, which may want the mutex that it still holds. */
static __thread bool has_woken;

static void find_functions(void)
{
    server.ppoll = (PpollFunction *)dlsym(RTLD_NEXT, "ppoll");
    server.signal = (SignalFunction *)dlsym(RTLD_NEXT, "pthread_cond_signal");
    server.unlock = (UnlockFunction *)dlsym(RTLD_NEXT, "pthread_mutex_unlock");
}

__attribute__((constructor)) static void set_up(void)
{
    find_functions();
    server.enabled = getenv(FORK_SERVER_VARIABLE) != NULL;
    /* Programs that QEMU starts are none of our business. */
    unsetenv("LD_PRELOAD");
    unsetenv(FORK_SERVER_VARIABLE);
}

static bool is_same_file(int fd, const struct stat *wanted)
{
    struct stat found;

    return fstat(fd, &found) == 0 && found.st_dev == wanted->st_dev &&
           found.st_ino == wanted->st_ino;
}

/* Finds the descriptors by which QEMU has the file open. */
static void find_files(void)
{
    struct stat wanted;
    struct dirent *entry;
    DIR *dir = opendir("/proc/self/fd");

    if (!dir || fstat(FORK_SERVER_FILE_FD, &wanted) < 0) {
        _exit(126);
    }
    while ((entry = readdir(dir))) {
        int fd = atoi(entry->d_name);

        if (fd > 2 && fd != FORK_SERVER_FILE_FD && server.n_files < MAX_FILES &&
            is_same_file(fd, &wanted)) {
            server.files[server.n_files++] = fd;
        }
    }
    closedir(dir);
}

/* Is any descriptor still open by which the file was read? */
static bool has_file_open(void)
{
    struct stat wanted;

    fstat(FORK_SERVER_FILE_FD, &wanted);
    for (unsigned i = 0; i < server.n_files; i++) {
        if (is_same_file(server.files[i], &wanted)) {
            return true;
        }
    }
    return false;
}

static void tell(const ForkMessage *message)
{
    ssize_t n;

    do {
        n = send(FORK_SERVER_CONTROL_FD, message, sizeof(*message), MSG_NOSIGNAL);
    } while (n < 0 && errno == EINTR);
    if (n != sizeof(*message)) {
        /* The client is gone. */
        _exit(0);
    }
}

static void wait_for_request(void)
{
    char request;
    ssize_t n;

    do {
        n = recv(FORK_SERVER_CONTROL_FD, &request, sizeof(request), 0);
    } while (n < 0 && errno == EINTR);
    if (n != sizeof(request) || request != FORK_SERVER_LOAD) {
        _exit(0);
    }
}

static void become_child(pid_t parent)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) {
        _exit(127);
    }
    server.is_child = true;
    dup2(FORK_SERVER_LOG_FD, STDERR_FILENO);
}

/* Of the child itself: its parent may come to run only after the load, and would tell too late. */
static void tell_started(void)
{
    const ForkMessage started = { .type = FORK_SERVER_STARTED, .pid = getpid() };

    tell(&started);
}

static int64_t microseconds(struct timeval time)
{
    return time.tv_sec * INT64_C(1000000) + time.tv_usec;
}

static void wait_for_child(pid_t child)
{
    ForkMessage ended = { .type = FORK_SERVER_ENDED, .pid = child };
    struct rusage usage;

    while (wait4(child, &ended.status, 0, &usage) < 0 && errno == EINTR) {
    }
    ended.user_us = microseconds(usage.ru_utime);
    ended.system_us = microseconds(usage.ru_stime);
    tell(&ended);
}

/*
 * A thread of a child that is woken does not interrupt who woke it: it would
 * only wait for the mutex.
 */
static void set_scheduling(void)
{
    const struct sched_param none = { 0 };

    if (sched_getscheduler(0) == SCHED_OTHER) {
        sched_setscheduler(0, SCHED_BATCH, &none);
    }
}

static int open_thread(const char *thread, const char *name)
{
    char path[64];

    snprintf(path, sizeof(path), "/proc/self/task/%.16s/%.16s", thread, name);
    return open(path, O_RDONLY | O_CLOEXEC);
}

/* How often one thread of QEMU has left the processor. */
static unsigned long count_switches(const char *thread)
{
    static const char key[] = "ctxt_switches:";
    unsigned long sum = 0;
    char text[4096];
    ssize_t n;
    int fd = open_thread(thread, "status");

    if (fd < 0) {
        return 0;
    }
    n = read(fd, text, sizeof(text) - 1);
    close(fd);
    text[n > 0 ? n : 0] = '\0';
    for (const char *p = text; (p = strstr(p, key));) {
        p += sizeof(key) - 1;
        sum += strtoul(p, NULL, 10);
    }
    return sum;
}

static void keep_state(const char *thread)
{
    int fd = server.n_threads < MAX_THREADS ? open_thread(thread, "stat") : -1;
    int kept = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, FIRST_THREAD_FD);

    if (fd >= 0) {
        close(fd);
    }
    if (kept >= 0) {
        server.threads[server.n_threads++] = kept;
    }
}

/* The same of all threads but this one, whose states are kept open. */
static unsigned long count_others_switches(void)
{
    DIR *dir = opendir("/proc/self/task");
    unsigned long sum = 0;
    struct dirent *entry;

    while (server.n_threads > 0) {
        close(server.threads[--server.n_threads]);
    }
    while (dir && (entry = readdir(dir))) {
        if (entry->d_name[0] != '.' && atoi(entry->d_name) != getpid()) {
            sum += count_switches(entry->d_name);
            keep_state(entry->d_name);
        }
    }
    if (dir) {
        closedir(dir);
    }
    return sum;
}

/*
 * A child has no thread but this one: what another holds while it forks, QEMU's
 * big lock above all, is held for ever. So the others have to sleep.
 */
static void wait_until_quiet(void)
{
    const struct timespec period = { .tv_nsec = QUIET_MS * 1000000 };
    unsigned long before = count_others_switches();

    for (unsigned i = 0; i < MAX_QUIET_PERIODS; i++) {
        unsigned long now;

        nanosleep(&period, NULL);
        now = count_others_switches();
        if (now == before) {
            return;
        }
        before = now;
    }
}

static bool sleeps(int thread)
{
    char text[512];
    ssize_t n = pread(thread, text, sizeof(text) - 1, 0);
    const char *name_end;

    text[n > 0 ? n : 0] = '\0';
    name_end = strrchr(text, ')');
    return !name_end || strncmp(name_end, ") S", 3) == 0;
}

static bool all_sleep(void)
{
    for (unsigned i = 0; i < server.n_threads; i++) {
        if (!sleeps(server.threads[i])) {
            return false;
        }
    }
    return true;
}

/*
 * A child shares the eventfds: by its first words it wakes the monitor's thread
 * of the server, which may only come to run when the child has ended.
 */
static void wait_until_asleep(void)
{
    const struct timespec nap = { .tv_nsec = NAP_US * 1000 };

    for (unsigned i = 0; i < MAX_NAPS && !all_sleep(); i++) {
        nanosleep(&nap, NULL);
    }
}

/* Comes back in each child; the server itself never comes back. */
static void serve(void)
{
    pid_t self = getpid();
    ForkMessage ready = { .type = FORK_SERVER_READY, .pid = self };

    set_scheduling();
    wait_until_quiet();
    tell(&ready);
    for (;;) {
        pid_t child;

        wait_for_request();
        for (unsigned i = 0; i < server.n_files; i++) {
            /* Parent and children share the offset: the last one left it anywhere. */
            lseek(server.files[i], 0, SEEK_SET);
        }
        lseek(FORK_SERVER_LOG_FD, 0, SEEK_SET);
        wait_until_asleep();
        child = fork();
        if (child < 0) {
            _exit(125);
        }
        if (child == 0) {
            become_child(self);
            tell_started();
            return;
        }
        wait_for_child(child);
    }
}

/* The load is over. What there is to see, the client looks at from outside. */
static void report_loaded(void)
{
    ForkMessage loaded = { .type = FORK_SERVER_LOADED, .pid = getpid() };

    tell(&loaded);
    for (;;) {
        pause();
    }
}

static bool would_block(const struct timespec *timeout)
{
    return !timeout || timeout->tv_sec > 0 || timeout->tv_nsec > 0;
}

static int main_loop_poll(struct pollfd *fds, nfds_t n, const struct timespec *timeout,
                          const sigset_t *mask)
{
    if (!server.is_child) {
        if (server.n_files == 0) {
            find_files();
        }
        if (server.n_files > 0) {
            serve();
        }
    } else if (would_block(timeout) && !has_file_open()) {
        struct timespec now = { 0, 0 };
        int ready = server.ppoll(fds, n, &now, mask);

        if (ready != 0) {
            return ready;
        }
        report_loaded();
    }
    return server.ppoll(fds, n, timeout, mask);
}

int ppoll(struct pollfd *fds, nfds_t n, const struct timespec *timeout, const sigset_t *mask)
{
    if (!server.enabled || getpid() != syscall(SYS_gettid)) {
        return server.ppoll(fds, n, timeout, mask);
    }
    return main_loop_poll(fds, n, timeout, mask);
}

/* What a program that was built with _FORTIFY_SOURCE calls instead. */
int __ppoll_chk(struct pollfd *fds, nfds_t n, const struct timespec *timeout, const sigset_t *mask,
                size_t size);
int __ppoll_chk(struct pollfd *fds, nfds_t n, const struct timespec *timeout, const sigset_t *mask,
                size_t size)
{
    (void)size;
    return ppoll(fds, n, timeout, mask);
}

/*
 * multifd_recv() of QEMU 10.0 gives a channel something to do, and spins where
 * all channels have: with one processor to all of them, for a time slice, and
 * for nothing. So who has woken a thread lets it run. Nobody is kept from
 * anything: where a processor is free, the other runs already.
 */
int pthread_cond_signal(pthread_cond_t *cond)
{
    if (!server.signal) {
        find_functions();
    }
    has_woken = server.is_child;
    return server.signal(cond);
}

int pthread_mutex_unlock(pthread_mutex_t *mutex)
{
    int result;

    if (!server.unlock) {
        /* Another library's constructor, before ours. */
        find_functions();
    }
    result = server.unlock(mutex);
    if (has_woken) {
        has_woken = false;
        sched_yield();
    }
    return result;
}

/*
 * A child's end. QEMU's own exit handlers have run. The destructors of some
 * eighty shared libraries would take as long as an early reject.
 */
static void leave_child(int status, void *opaque)
{
    (void)opaque;
    if (server.is_child) {
        fflush(NULL);
        _exit(status);
    }
}

/* Registered after the destructors, and before QEMU's exit handlers: it runs between them. */
static int main_of_qemu(int argc, char **argv, char **environment)
{
    on_exit(leave_child, NULL);
    return server.main(argc, argv, environment);
}

int __libc_start_main(MainFunction *main, int argc, char **argv, MainFunction *init,
                      void (*fini)(void), void (*rtld_fini)(void), void *stack_end);
int __libc_start_main(MainFunction *main, int argc, char **argv, MainFunction *init,
                      void (*fini)(void), void (*rtld_fini)(void), void *stack_end)
{
    StartFunction *start = (StartFunction *)dlsym(RTLD_NEXT, "__libc_start_main");

    server.main = main;
    return start(main_of_qemu, argc, argv, init, fini, rtld_fini, stack_end);
}

/* QEMU marks guest RAM MADV_DONTFORK; the children need it. */
int madvise(void *address, size_t length, int advice)
{
    if (server.enabled && advice == MADV_DONTFORK) {
        return 0;
    }
    return syscall(SYS_madvise, address, length, advice);
}

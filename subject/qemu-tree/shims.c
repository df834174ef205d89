/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Stand-ins for the few functions of other parts of QEMU that the loader really
 * calls: one thread, no monitor, no virtual machine that runs. All are weak: a
 * file of the tree that is linked has its own way. No header of QEMU's is
 * included: a prototype that changes between versions must not break the build
 * (arguments that are not looked at do not matter to the calling convention).
 *
 * What is not here, and not linked, is stubbed by builder/link.py; a stub that
 * is called is a gap of this harness, and says so.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#define SHIM __attribute__((weak))

/* From the stubs that builder/link.py makes. */
extern char pagewise_data_stubs[] SHIM, pagewise_data_stubs_end[] SHIM;
extern const char pagewise_data_stub_names[] SHIM;
#define DATA_STUB_BYTES 4096

_Noreturn void pagewise_gap(const char *name);
_Noreturn void pagewise_gap(const char *name)
{
    fprintf(stderr,
            "pagewise: gap of the harness: QEMU's %s is used, and nothing stands in for it. This "
            "is no finding in QEMU: link the file that has it (subject/qemu-tree/neighbours.txt), "
            "or write a stand-in (subject/qemu-tree/shims.c)\n",
            name);
    abort();
}

static const char *data_stub_at(const char *address)
{
    const char *name = pagewise_data_stub_names;

    for (const char *at = pagewise_data_stubs; at + DATA_STUB_BYTES <= address && *name;
         at += DATA_STUB_BYTES) {
        name += strlen(name) + 1;
    }
    return name;
}

static struct sigaction before_us;

static void on_segv(int number, siginfo_t *info, void *context)
{
    const char *address = info->si_addr;

    if (address >= pagewise_data_stubs && address < pagewise_data_stubs_end) {
        pagewise_gap(data_stub_at(address));
    }
    if (before_us.sa_flags & SA_SIGINFO) {
        before_us.sa_sigaction(number, info, context);
        return;
    }
    if (before_us.sa_handler != SIG_DFL) {
        before_us.sa_handler(number); /* A guest's access: see property/guest-access.c. */
        return;
    }
    signal(SIGSEGV, SIG_DFL);
}

/* Data that nobody has: whoever looks at it is caught. */
void tree_watch_for_gaps(void)
{
    struct sigaction action = { .sa_sigaction = on_segv, .sa_flags = SA_SIGINFO | SA_ONSTACK };

    if (!pagewise_data_stubs || pagewise_data_stubs == pagewise_data_stubs_end) {
        return;
    }
    mprotect(pagewise_data_stubs, pagewise_data_stubs_end - pagewise_data_stubs, PROT_NONE);
    sigaction(SIGSEGV, &action, &before_us);
}

/* What QEMU has to say. Threads of QEMU's may say something, too. */
static struct {
    char text[1024];
    size_t length;
} report;
static int report_lock;

void tree_report_clear(void)
{
    report.length = 0;
    report.text[0] = '\0';
}

const char *tree_report_text(void)
{
    while (report.length && report.text[report.length - 1] == '\n') {
        report.text[--report.length] = '\0';
    }
    for (char *end = strchr(report.text, '\n'); end; end = strchr(end, '\n')) {
        *end = ' ';
    }
    return report.text;
}

static int add_to_report(const char *format, va_list arguments)
{
    int length;

    while (__atomic_exchange_n(&report_lock, 1, __ATOMIC_ACQUIRE)) {
    }
    length = vsnprintf(report.text + report.length, sizeof(report.text) - report.length, format,
                       arguments);
    if (length > 0) {
        size_t room = sizeof(report.text) - 1 - report.length;

        report.length += (size_t)length < room ? (size_t)length : room;
    }
    __atomic_store_n(&report_lock, 0, __ATOMIC_RELEASE);
    return length;
}

SHIM int error_vprintf(const char *format, va_list arguments)
{
    return add_to_report(format, arguments);
}

/* Newer trees ask the monitor before they turn to stderr. */
SHIM int monitor_vprintf(void *monitor, const char *format, va_list arguments);
SHIM int monitor_vprintf(void *monitor, const char *format, va_list arguments)
{
    (void)monitor;
    return add_to_report(format, arguments);
}

SHIM int error_vprintf_unless_qmp(const char *format, va_list arguments)
{
    return add_to_report(format, arguments);
}

#define SHIM_CONSTANT(type, name, value)                                                           \
    SHIM type name(void);                                                                          \
    SHIM type name(void)                                                                           \
    {                                                                                              \
        return value;                                                                              \
    }

#define SHIM_NOTHING(name)                                                                         \
    SHIM void name(void);                                                                          \
    SHIM void name(void)                                                                           \
    {                                                                                              \
    }

/* No monitor, no coroutine, and the big lock is always ours. */
SHIM_CONSTANT(void *, monitor_cur, NULL)
SHIM_CONSTANT(void *, monitor_set_cur, NULL)
SHIM_CONSTANT(bool, monitor_cur_is_qmp, false)
SHIM_CONSTANT(bool, qemu_in_coroutine, false)
SHIM_CONSTANT(void *, qemu_coroutine_self, NULL)
SHIM_CONSTANT(bool, bql_locked, true)
SHIM_CONSTANT(bool, qemu_mutex_iothread_locked, true)
SHIM_CONSTANT(bool, mutex_is_bql, false)
SHIM_NOTHING(bql_lock_impl)
SHIM_NOTHING(bql_unlock)
SHIM_NOTHING(bql_block_unlock)
SHIM_NOTHING(bql_update_status)
SHIM_NOTHING(qemu_mutex_lock_iothread_impl)
SHIM_NOTHING(qemu_mutex_unlock_iothread)

/* A virtual machine without devices and without CPUs, which does not run. */
SHIM_CONSTANT(bool, runstate_is_running, false)
SHIM_CONSTANT(bool, is_daemonized, false)
SHIM_CONSTANT(long, should_mlock, 0)
SHIM_CONSTANT(bool, xen_map_cache_enabled, false)
SHIM_CONSTANT(int, monitor_fdset_dup_fd_find, -1)
SHIM_CONSTANT(int, monitor_fdset_dup_fd_add, -1)
SHIM_NOTHING(monitor_fdset_dup_fd_remove)
SHIM_NOTHING(cpu_synchronize_all_pre_loadvm)
SHIM_NOTHING(cpu_synchronize_all_post_init)
SHIM_NOTHING(memory_global_dirty_log_sync)
SHIM_CONSTANT(bool, memory_region_is_nonvolatile, false)
SHIM_CONSTANT(void *, memory_region_get_ram_discard_manager, NULL)
SHIM_NOTHING(ram_block_notifier_add)
SHIM_NOTHING(dirty_bitmap_mig_cancel_incoming)
SHIM_NOTHING(precopy_add_notifier)
SHIM_NOTHING(migration_ioc_register_yank)
SHIM_NOTHING(migration_ioc_unregister_yank)
SHIM_NOTHING(migration_ioc_unregister_yank_from_file)

/* Locks go straight to what does the work: util/qsp.c would be in between to count them. */
#define SHIM_LOCK(name)                                                                            \
    extern void name##_impl(void);                                                                 \
    SHIM void (*name##_func)(void) = name##_impl;

SHIM_LOCK(qemu_mutex_lock)
SHIM_LOCK(qemu_mutex_trylock)
SHIM_LOCK(qemu_rec_mutex_lock)
SHIM_LOCK(qemu_rec_mutex_trylock)
SHIM_LOCK(qemu_cond_wait)
SHIM_LOCK(qemu_cond_timedwait)

/* Pools of threads for device state, of which there is none. */
SHIM_CONSTANT(void *, thread_pool_new, (void *)1)
SHIM_NOTHING(thread_pool_free)
SHIM_CONSTANT(bool, thread_pool_wait, true)

/* Neither COLO, nor postcopy unless the adapter says so. */
SHIM_CONSTANT(bool, migration_incoming_colo_enabled, false)
SHIM_CONSTANT(bool, migration_incoming_in_colo_state, false)
SHIM_CONSTANT(bool, migration_in_colo_state, false)
SHIM_CONSTANT(bool, migration_incoming_postcopy_advised, false)
SHIM_CONSTANT(bool, migration_is_running, false)
SHIM_CONSTANT(bool, migration_is_active, false)
SHIM_CONSTANT(bool, migration_in_postcopy, false)
SHIM_CONSTANT(int, rdma_block_notification_handle, 0)

SHIM int64_t qemu_clock_get_ns(int type);
SHIM int64_t qemu_clock_get_ns(int type)
{
    struct timespec now;

    (void)type;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

/* At the end of a lazy load QEMU schedules its cleanup; the adapter does that itself. */
SHIM_NOTHING(migration_bh_schedule)

SHIM void migrate_set_state(int *state, int from, int to);
SHIM void migrate_set_state(int *state, int from, int to)
{
    __sync_bool_compare_and_swap(state, from, to);
}

/* Globals of other parts of QEMU whose value at start is what we want. */
SHIM long mlock_state, enable_mlock, enable_cpu_pm, xen_allowed, kvm_allowed, tcg_allowed,
    qtest_allowed;
SHIM char qemu_uuid_set, qemu_uuid[16];

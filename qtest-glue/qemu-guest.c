/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A guest whose RAM can be looked at: see qemu-guest.h. Which of a process'
 * pages there are at all is asked of /proc/PID/pagemap: 16 MiB of video RAM
 * that nobody touched cost nothing then.
 */
#define _GNU_SOURCE /* memfd_create, process_vm_readv */

#include "qtest-glue/qemu-guest.h"
#include "qtest-glue/error.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#define PAGE ((uint64_t)QEMU_X86_PAGE_SIZE)
#define MAX_FDS 8
/*
 * RAM as small as this keeps its pages from load to load. To take pages back,
 * to give them anew, and to ask where there are any, costs more than to clear
 * and to look at all.
 */
#define SMALL_RAM (UINT64_C(1) << 20)
/* Of an entry of pagemap: present, or swapped out. */
#define PAGEMAP_THERE (UINT64_C(3) << 62)

static const QemuMachine machines[] = {
    { "none", "none", "ram", "none", 1, false },
    { "microvm", "microvm,acpi=off", "microvm.ram", "none", 2, true },
    { "microvm-acpi", "microvm", "microvm.ram", "none", 5, true },
    { "pc", "pc", "pc.ram", "none", 6, true },
    { "q35-vga", "q35", "pc.ram", "std", 8, true },
};

struct QemuGuest {
    const QemuMachine *machine;
    unsigned mib;
    int fd; /* memory file of the main RAM */
    uint8_t *ram;
    uint64_t length; /* of the main RAM, bytes */
    unsigned ram_block;
    Guest guest;
    GArray *blocks; /* of QemuBlock */
};

const QemuMachine *qemu_machine_get(unsigned index)
{
    return index < G_N_ELEMENTS(machines) ? &machines[index] : NULL;
}

const QemuMachine *qemu_machine_find(const char *name)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(machines); i++) {
        if (strcmp(machines[i].name, name) == 0) {
            return &machines[i];
        }
    }
    return NULL;
}

QemuGuest *qemu_guest_new(const QemuMachine *machine, unsigned mib, GError **error)
{
    g_autoptr(QemuGuest) guest = g_new0(QemuGuest, 1);

    guest->machine = machine;
    guest->mib = mib;
    guest->length = (uint64_t)mib << 20;
    guest->fd = memfd_create("pagewise-qemu-ram", MFD_CLOEXEC);
    if (guest->fd >= 0 && ftruncate(guest->fd, guest->length) == 0) {
        guest->ram = mmap(NULL, guest->length, PROT_READ | PROT_WRITE, MAP_SHARED, guest->fd, 0);
    }
    if (!guest->ram || guest->ram == MAP_FAILED) {
        guest->ram = NULL;
        g_set_error(error, QEMU_ERROR, QEMU_ERROR_IO, "no memory file of %u MiB: %s", mib,
                    g_strerror(errno));
        return NULL;
    }
    return g_steal_pointer(&guest);
}

void qemu_guest_free(QemuGuest *guest)
{
    if (!guest) {
        return;
    }
    if (guest->ram) {
        munmap(guest->ram, guest->length);
    }
    if (guest->fd >= 0) {
        close(guest->fd);
    }
    g_clear_pointer(&guest->blocks, g_array_unref);
    g_free(guest);
}

static GStrv build_arguments(const QemuGuest *guest, const QemuGuestStart *start)
{
    const QemuMachine *machine = guest->machine;
    g_autoptr(GStrvBuilder) builder = g_strv_builder_new();
    g_autofree char *object = g_strdup_printf("memory-backend-file,id=%s,size=%uM,share=on,"
                                              "mem-path=/proc/self/fd/%d",
                                              machine->ram, guest->mib, QEMU_GUEST_RAM_FD);
    g_autofree char *type = g_strdup_printf("%s,memory-backend=%s", machine->type, machine->ram);
    g_autofree char *size = g_strdup_printf("%u", guest->mib);

    g_strv_builder_add_many(builder, "-accel", start->accel ? start->accel : "tcg", "-object",
                            object, "-machine", type, "-m", size, "-vga", machine->vga, NULL);
    if (start->incoming) {
        g_strv_builder_add_many(builder, "-incoming", "defer", NULL);
    }
    if (start->arguments) {
        g_strv_builder_addv(builder, (const char **)start->arguments);
    }
    return g_strv_builder_end(builder);
}

static bool learn_blocks(QemuGuest *guest, QemuProcess *qemu, GError **error)
{
    g_clear_pointer(&guest->blocks, g_array_unref);
    guest->blocks = qemu_list_blocks(qemu, error);
    if (!guest->blocks || !qemu_describe_guest(qemu, &guest->guest, error)) {
        return false;
    }
    for (unsigned i = 0; i < guest->blocks->len; i++) {
        if (strcmp(guest->guest.blocks[i].idstr, guest->machine->ram) == 0) {
            guest->ram_block = i;
            return true;
        }
    }
    g_set_error(error, QEMU_ERROR, QEMU_ERROR_PROTOCOL, "machine %s has no block '%s'",
                guest->machine->name, guest->machine->ram);
    return false;
}

QemuProcess *qemu_guest_start(QemuGuest *guest, const QemuBinary *binary,
                              const QemuGuestStart *start, GError **error)
{
    g_auto(GStrv) arguments = build_arguments(guest, start);
    int fds[MAX_FDS + 1] = { guest->fd };
    int targets[MAX_FDS + 1] = { QEMU_GUEST_RAM_FD };
    QemuStart with = {
        .arguments = (const char *const *)arguments,
        .qtest = start->qtest,
        .variables = start->variables,
        .fds = fds,
        .targets = targets,
        .n_fds = start->n_fds + 1,
    };
    g_autoptr(QemuProcess) qemu = NULL;

    g_assert(start->n_fds <= MAX_FDS);
    for (unsigned i = 0; i < start->n_fds; i++) {
        fds[i + 1] = start->fds[i];
        targets[i + 1] = start->targets[i];
    }
    qemu = qemu_process_start_with(binary, &with, error);
    return qemu && learn_blocks(guest, qemu, error) ? g_steal_pointer(&qemu) : NULL;
}

const Guest *qemu_guest_describe(const QemuGuest *guest)
{
    return &guest->guest;
}

const GArray *qemu_guest_blocks(const QemuGuest *guest)
{
    return guest->blocks;
}

uint8_t *qemu_guest_ram(const QemuGuest *guest, uint64_t *length)
{
    *length = guest->length;
    return guest->ram;
}

uint64_t qemu_guest_next_data(const QemuGuest *guest, uint64_t at)
{
    off_t data = lseek(guest->fd, at, SEEK_DATA);

    return data < 0 ? guest->length : (uint64_t)data;
}

unsigned qemu_guest_ram_block(const QemuGuest *guest)
{
    return guest->ram_block;
}

void qemu_guest_clear_ram(QemuGuest *guest)
{
    if (guest->length <= SMALL_RAM) {
        memset(guest->ram, 0, guest->length);
        return;
    }
    /* All pages are given back, and read as zero again. */
    if (lseek(guest->fd, 0, SEEK_DATA) >= 0 &&
        fallocate(guest->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, guest->length) < 0) {
        memset(guest->ram, 0, guest->length);
    }
}

static bool is_zero(const uint8_t *page)
{
    return page[0] == 0 && memcmp(page, page + 1, PAGE - 1) == 0;
}

static void copy_page(const uint8_t *page, uint8_t *to)
{
    if (!is_zero(page)) {
        memcpy(to, page, PAGE);
    }
}

static void copy_pages(const uint8_t *from, uint8_t *to, uint64_t length)
{
    for (uint64_t at = 0; at < length; at += PAGE) {
        copy_page(from + at, to + at);
    }
}

static void copy_ram(const QemuGuest *guest, uint8_t *host)
{
    off_t end = 0;

    if (guest->length <= SMALL_RAM) {
        copy_pages(guest->ram, host, guest->length);
        return;
    }
    for (;;) {
        off_t start = lseek(guest->fd, end, SEEK_DATA);

        if (start < 0) {
            return;
        }
        end = lseek(guest->fd, start, SEEK_HOLE);
        copy_pages(guest->ram + start, host + start, end - start);
    }
}

/* Which of the block's pages has the process, a word each? Free with g_free(). */
static uint64_t *read_pagemap(pid_t pid, const QemuBlock *block)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/pagemap", pid);
    size_t size = block->total / PAGE * sizeof(uint64_t);
    uint64_t *words = g_malloc(size);
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0 || pread(fd, words, size, block->hva / PAGE * sizeof(uint64_t)) != (ssize_t)size) {
        memset(words, 0xff, size);
    }
    if (fd >= 0) {
        close(fd);
    }
    return words;
}

static bool no_access(const QemuBlock *block, GError **error)
{
    g_set_error(error, QEMU_ERROR, QEMU_ERROR_NO_ACCESS,
                "block '%s': no access to QEMU's memory: %s", block->idstr, g_strerror(errno));
    return false;
}

typedef bool PageFunction(pid_t pid, uint64_t address, const uint8_t *page, void *opaque);

/* Calls @function for each page that is not zero. */
static bool walk_block(pid_t pid, const QemuBlock *block, PageFunction *function, uint8_t *opaque,
                       GError **error)
{
    g_autofree uint64_t *there = read_pagemap(pid, block);
    uint8_t page[QEMU_X86_PAGE_SIZE];

    for (uint64_t i = 0; i < block->total / PAGE; i++) {
        struct iovec local = { page, PAGE };
        struct iovec remote = { (void *)(uintptr_t)(block->hva + i * PAGE), PAGE };

        if (!(there[i] & PAGEMAP_THERE)) {
            continue;
        }
        if (process_vm_readv(pid, &local, 1, &remote, 1, 0) != (ssize_t)PAGE) {
            return no_access(block, error);
        }
        if (!is_zero(page) &&
            !function(pid, block->hva + i * PAGE, page, opaque ? opaque + i * PAGE : NULL)) {
            return no_access(block, error);
        }
    }
    return true;
}

static bool clear_page(pid_t pid, uint64_t address, const uint8_t *page, void *opaque)
{
    static const uint8_t zeroes[QEMU_X86_PAGE_SIZE];
    struct iovec local = { (void *)zeroes, PAGE };
    struct iovec remote = { (void *)(uintptr_t)address, PAGE };

    (void)page;
    (void)opaque;
    return process_vm_writev(pid, &local, 1, &remote, 1, 0) == (ssize_t)PAGE;
}

static bool take_page(pid_t pid, uint64_t address, const uint8_t *page, void *opaque)
{
    (void)pid;
    (void)address;
    memcpy(opaque, page, PAGE);
    return true;
}

bool qemu_guest_clear_others(QemuGuest *guest, QemuProcess *qemu, GError **error)
{
    for (unsigned i = 0; i < guest->blocks->len; i++) {
        const QemuBlock *block = &g_array_index(guest->blocks, QemuBlock, i);

        if (i != guest->ram_block &&
            !walk_block(qemu_process_pid(qemu), block, clear_page, NULL, error)) {
            return false;
        }
    }
    return true;
}

bool qemu_guest_copy_block(const QemuGuest *guest, pid_t pid, unsigned block, uint8_t *host,
                           GError **error)
{
    if (block == guest->ram_block) {
        copy_ram(guest, host);
        return true;
    }
    return walk_block(pid, &g_array_index(guest->blocks, QemuBlock, block), take_page, host, error);
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See qemu-like.h. */
#include "bench/qemu-like.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define PAGES_PER_WORD 64

struct QemuLike {
    const UffdOps *ops;
    RAMBlock *rb;
    int fd;
    Uffd uffd;
    int quit_fd;
    bool have_eager_thread;
    pthread_t eager_thread;
    pthread_t fault_thread;
    unsigned long *pending; /* a bit a page, cleared by who loads it; atomic */
};

static bool claim(QemuLike *self, uint64_t page)
{
    unsigned long bit = 1UL << (page % PAGES_PER_WORD);

    return __atomic_fetch_and(&self->pending[page / PAGES_PER_WORD], ~bit, __ATOMIC_ACQ_REL) & bit;
}

static void place(QemuLike *self, uint64_t page, uint8_t *tmp_page)
{
    uint64_t offset = page * BENCH_PAGE;
    uint8_t *host = self->rb->host + offset;
    int64_t done;

    if (self->rb->file_bmap[page / PAGES_PER_WORD] >> (page % PAGES_PER_WORD) & 1) {
        if (pread(self->fd, tmp_page, BENCH_PAGE, (off_t)(self->rb->pages_offset + offset)) !=
            BENCH_PAGE) {
            bench_die("reading a page");
        }
        done = uffd_copy(self->ops, self->uffd.fd, host, tmp_page, BENCH_PAGE);
    } else {
        done = uffd_zeropage(self->ops, self->uffd.fd, host, BENCH_PAGE);
    }
    if (done < 0) {
        errno = (int)-done;
        bench_die("placing a page");
    }
}

static void load_page(QemuLike *self, uint64_t page, uint8_t *tmp_page)
{
    if (claim(self, page)) {
        place(self, page, tmp_page);
    }
}

static void *fault_thread(void *opaque)
{
    QemuLike *self = opaque;
    uint8_t tmp_page[BENCH_PAGE];
    struct pollfd fds[] = {
        { .fd = self->uffd.fd, .events = POLLIN },
        { .fd = self->quit_fd, .events = POLLIN },
    };

    for (;;) {
        struct uffd_msg message;

        self->ops->poll(self->ops, fds, 2);
        if (fds[1].revents) {
            return NULL;
        }
        if (self->ops->read(self->ops, self->uffd.fd, &message, sizeof(message)) > 0) {
            uint64_t offset = message.arg.pagefault.address - (uintptr_t)self->rb->host;

            load_page(self, offset / BENCH_PAGE, tmp_page);
        }
    }
}

static void *eager_thread(void *opaque)
{
    QemuLike *self = opaque;
    uint8_t tmp_page[BENCH_PAGE];

    for (uint64_t page = 0; page < self->rb->used_length / BENCH_PAGE; page++) {
        load_page(self, page, tmp_page);
    }
    return NULL;
}

static void start_thread(QemuLike *self, pthread_t *thread, void *(*body)(void *))
{
    int result = self->ops->create_thread(self->ops, thread, body, self);

    if (result < 0) {
        errno = -result;
        bench_die("starting a thread");
    }
}

QemuLike *qemu_like_start(RAMBlock *rb, int fd, bool with_eager_thread)
{
    QemuLike *self = g_new0(QemuLike, 1);
    uint64_t words = (rb->used_length / BENCH_PAGE + PAGES_PER_WORD - 1) / PAGES_PER_WORD;
    g_autoptr(GError) error = NULL;
    bool huge;

    self->ops = uffd_ops_real();
    self->rb = rb;
    self->fd = fd;
    self->pending = g_new(unsigned long, words);
    memset(self->pending, 0xff, words * sizeof(*self->pending));
    if (!uffd_open(self->ops, 0, 0, &self->uffd, &error) ||
        !uffd_register(self->ops, self->uffd.fd, rb->host, rb->used_length, &huge, &error)) {
        bench_die_error(error);
    }
    self->quit_fd = self->ops->eventfd(self->ops, EFD_CLOEXEC);
    if (self->quit_fd < 0) {
        errno = -self->quit_fd;
        bench_die("eventfd");
    }
    start_thread(self, &self->fault_thread, fault_thread);
    if (with_eager_thread) {
        start_thread(self, &self->eager_thread, eager_thread);
        self->have_eager_thread = true;
    }
    return self;
}

void qemu_like_end(QemuLike *self)
{
    if (self->have_eager_thread) {
        pthread_join(self->eager_thread, NULL);
    }
    eventfd_write(self->quit_fd, 1);
    pthread_join(self->fault_thread, NULL);
    uffd_unregister(self->ops, self->uffd.fd, self->rb->host, self->rb->used_length, NULL);
    close(self->uffd.fd);
    close(self->quit_fd);
    g_free(self->pending);
    g_free(self);
}

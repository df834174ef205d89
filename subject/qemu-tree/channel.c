/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A snapshot as QEMU's i/o channel: either bytes in memory, where a sanitizer
 * sees every byte that is written too far, or a real file behind QEMU's own
 * QIOChannelFile, where the kernel writes them. Both count, limit and inject
 * faults as a SubjectCost says.
 */
#include "qemu/osdep.h"

#include "io/channel-file.h"
#include "io/channel.h"
#include "qapi/error.h"
#include "qemu-file.h"
#include "qemu/iov.h"
#include "qemu/module.h"
#include "qom/object.h"

#include "subject/qemu-tree/adapter.h"

/* Of a file that is made real, bytes that are no holes: to write more takes too long. */
#define MAX_REAL_DATA (UINT64_C(16) << 20)

#define TYPE_MEMORY "pagewise-channel-memory"
#define TYPE_FILE "pagewise-channel-file"

typedef struct MemoryChannel {
    QIOChannel parent;
    SubjectLoad *load; /* borrowed */
    uint64_t position;
} MemoryChannel;

typedef struct FileChannel {
    QIOChannelFile parent;
    SubjectLoad *load; /* borrowed */
} FileChannel;

bool tree_channel_failed(const SubjectLoad *load)
{
    const SubjectCost *cost = &load->cost;

    return cost->reads > cost->max_reads || cost->bytes_read > cost->max_bytes ||
           (cost->fail_read && cost->reads >= cost->fail_read);
}

void tree_channel_at_end(SubjectLoad *load)
{
    if (load->cost.reads < load->cost.fail_read) {
        load->cost.fail_read = 0;
    }
    load->cost.ended = true;
}

/* False: this read fails. Threads may read at a time (multifd). */
static bool begin_read(SubjectCost *cost, Error **errp)
{
    if (cost->ended) {
        return true;
    }
    if (subject_read_fails(cost, __atomic_add_fetch(&cost->reads, 1, __ATOMIC_RELAXED))) {
        error_setg_errno(errp, EIO, "Unable to read from file");
        return false;
    }
    return true;
}

/* Threads would mix the order: then there is no log. */
static void log_read(SubjectCost *cost, uint64_t offset, uint64_t length)
{
    SubjectRead read = { offset, length };

    if (cost->log) {
        g_array_append_val(cost->log, read);
    }
}

/* How much of a read of @length bytes at @offset there may be. */
static size_t clip(const SubjectCost *cost, uint64_t offset, size_t length)
{
    if (cost->ended) {
        return 0;
    }
    if (cost->max_read_length) {
        length = MIN(length, cost->max_read_length);
    }
    if (cost->cut_read && cost->reads >= cost->cut_read) {
        length = offset < cost->cut_size ? MIN(length, cost->cut_size - offset) : 0;
    }
    return length;
}

/* The same for a real file: it is the kernel that finds nothing any more. */
static size_t clip_file(const SubjectLoad *load, int fd, size_t length)
{
    const SubjectCost *cost = &load->cost;

    if (cost->ended ||
        (cost->cut_read && cost->reads >= cost->cut_read && ftruncate(fd, cost->cut_size) < 0)) {
        return 0;
    }
    return cost->max_read_length ? MIN(length, cost->max_read_length) : length;
}

static void end_read(SubjectCost *cost, ssize_t got)
{
    if (got > 0) {
        __atomic_add_fetch(&cost->bytes_read, got, __ATOMIC_RELAXED);
    }
}

static ssize_t memory_read_at(SubjectLoad *load, const struct iovec *iov, size_t niov,
                              uint64_t offset, Error **errp)
{
    size_t left;
    ssize_t done = 0;

    if (!begin_read(&load->cost, errp)) {
        return -1;
    }
    left = clip(&load->cost, offset, iov_size(iov, niov));
    log_read(&load->cost, offset, left);
    for (size_t i = 0; i < niov && left; i++) {
        size_t length = MIN(iov[i].iov_len, left);
        size_t got = sparse_file_read(load->file, offset + done, iov[i].iov_base, length);

        done += got;
        left -= got;
        if (got < length) {
            break;
        }
    }
    end_read(&load->cost, done);
    return done;
}

static ssize_t memory_readv(QIOChannel *channel, const struct iovec *iov, size_t niov, int **fds,
                            size_t *nfds, int flags, Error **errp)
{
    MemoryChannel *self = (MemoryChannel *)channel;
    ssize_t got = memory_read_at(self->load, iov, niov, self->position, errp);

    self->position += MAX(got, 0);
    return got;
}

/* As a file: an offset that the kernel would refuse is refused. */
static ssize_t memory_preadv(QIOChannel *channel, const struct iovec *iov, size_t niov,
                             off_t offset, Error **errp)
{
    MemoryChannel *self = (MemoryChannel *)channel;

    if (offset < 0) {
        error_setg_errno(errp, EINVAL, "Unable to read from file");
        return -1;
    }
    return memory_read_at(self->load, iov, niov, offset, errp);
}

static off_t memory_seek(QIOChannel *channel, off_t offset, int whence, Error **errp)
{
    MemoryChannel *self = (MemoryChannel *)channel;
    off_t base = whence == SEEK_SET   ? 0
                 : whence == SEEK_CUR ? (off_t)self->position
                                      : (off_t)sparse_file_size(self->load->file);
    off_t position;

    if (__builtin_add_overflow(base, offset, &position) || position < 0) {
        error_setg_errno(errp, EINVAL, "Unable to seek");
        return -1;
    }
    self->position = position;
    return position;
}

static int memory_close(QIOChannel *channel, Error **errp)
{
    MemoryChannel *self = (MemoryChannel *)channel;

    self->load->end_position = self->position;
    return 0;
}

static void memory_class_init(ObjectClass *class, void *data)
{
    QIOChannelClass *channel = QIO_CHANNEL_CLASS(class);

    channel->io_readv = memory_readv;
    channel->io_preadv = memory_preadv;
    channel->io_seek = memory_seek;
    channel->io_close = memory_close;
}

static QIOChannelClass *real_file(void)
{
    return QIO_CHANNEL_CLASS(object_class_by_name(TYPE_QIO_CHANNEL_FILE));
}

/* The first @length bytes of @iov, in @out, which has room for all. */
static size_t clip_iov(const struct iovec *iov, size_t niov, size_t length, struct iovec *out)
{
    return iov_copy(out, niov, iov, niov, 0, length);
}

static ssize_t file_readv(QIOChannel *channel, const struct iovec *iov, size_t niov, int **fds,
                          size_t *nfds, int flags, Error **errp)
{
    FileChannel *self = (FileChannel *)channel;
    SubjectCost *cost = &self->load->cost;
    g_autofree struct iovec *some = g_new(struct iovec, niov);
    ssize_t got;

    if (!begin_read(cost, errp)) {
        return -1;
    }
    niov = clip_iov(iov, niov, clip_file(self->load, self->parent.fd, iov_size(iov, niov)), some);
    got = real_file()->io_readv(channel, some, niov, fds, nfds, flags, errp);
    end_read(cost, got);
    return got;
}

static ssize_t file_preadv(QIOChannel *channel, const struct iovec *iov, size_t niov, off_t offset,
                           Error **errp)
{
    FileChannel *self = (FileChannel *)channel;
    SubjectCost *cost = &self->load->cost;
    g_autofree struct iovec *some = g_new(struct iovec, niov);
    ssize_t got;

    if (!begin_read(cost, errp)) {
        return -1;
    }
    niov = clip_iov(iov, niov, clip_file(self->load, self->parent.fd, iov_size(iov, niov)), some);
    got = real_file()->io_preadv(channel, some, niov, offset, errp);
    end_read(cost, got);
    return got;
}

static void file_class_init(ObjectClass *class, void *data)
{
    QIOChannelClass *channel = QIO_CHANNEL_CLASS(class);

    channel->io_readv = file_readv;
    channel->io_preadv = file_preadv;
}

/* The data argument of class_init became const in newer trees: hence the casts. */
static const TypeInfo types[] = {
    {
        .name = TYPE_MEMORY,
        .parent = TYPE_QIO_CHANNEL,
        .instance_size = sizeof(MemoryChannel),
        .class_init = (void *)memory_class_init,
    },
    {
        .name = TYPE_FILE,
        .parent = TYPE_QIO_CHANNEL_FILE,
        .instance_size = sizeof(FileChannel),
        .class_init = (void *)file_class_init,
    },
};
DEFINE_TYPES(types)

static QIOChannel *open_memory(SubjectLoad *load, uint64_t offset)
{
    MemoryChannel *self = (MemoryChannel *)object_new(TYPE_MEMORY);

    self->load = load;
    self->position = offset;
    qio_channel_set_feature(&self->parent, QIO_CHANNEL_FEATURE_SEEKABLE);
    return &self->parent;
}

/* A file in memory, which the kernel reads; NULL: there is none to be had. */
static QIOChannel *open_file(SubjectLoad *load, uint64_t offset)
{
    FileChannel *self;
    int fd;

    if (sparse_file_data_bytes(load->file) > MAX_REAL_DATA) {
        return NULL;
    }
    fd = memfd_create("pagewise-snapshot", MFD_CLOEXEC);
    if (fd < 0 || !sparse_file_to_fd(load->file, fd, NULL)) {
        close(fd);
        return NULL;
    }
    lseek(fd, offset, SEEK_SET);
    self = (FileChannel *)object_new(TYPE_FILE);
    self->load = load;
    self->parent.fd = fd;
    qio_channel_set_feature(&self->parent.parent, QIO_CHANNEL_FEATURE_SEEKABLE);
    return &self->parent.parent;
}

static QIOChannel *open_channel(SubjectLoad *load, uint64_t offset)
{
    QIOChannel *channel = load->axes.real_file ? open_file(load, offset) : NULL;

    return channel ? channel : open_memory(load, offset);
}

void *tree_channel_new(SubjectLoad *load)
{
    return open_channel(load, 0);
}

QEMUFile *tree_channel_open(SubjectLoad *load, uint64_t offset)
{
    QIOChannel *channel = open_channel(load, offset);
    QEMUFile *file = qemu_file_new_input(channel);

    object_unref(OBJECT(channel));
    return file;
}

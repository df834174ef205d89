/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See kept-kernel.h. Descriptors that are kept are open from the session's start to its end. */
#include "subject/kept-kernel.h"

#include <fcntl.h>

#define MAX_MAPS 4
#define MIN_FILE_LENGTH ((size_t)1 << 20)

typedef struct KeptMap {
    void *memory; /* NULL: none */
    size_t length;
    int fd; /* -1: private memory */
    int protection;
    bool in_use;
} KeptMap;

struct KeptKernel {
    UffdMethod method;
    int probe_fd; /* a userfaultfd that was asked for its features, and has no memory */
    uint64_t features;
    bool is_probed; /* by this load */
    bool fresh;     /* this load has a descriptor of its own */
    int uffd;       /* -1: it could not be opened again */
    bool in_use;
    bool is_ready; /* it was asked for ready_features */
    bool is_replaced;
    uint64_t ready_features;
    unsigned n_registered; /* ranges */
    KeptMap maps[MAX_MAPS];
};

static int open_real(UffdMethod method)
{
    return uffd_ops_real()->open(uffd_ops_real(), method, O_CLOEXEC | O_NONBLOCK);
}

static void open_again(KeptKernel *self)
{
    self->uffd = open_real(self->method);
    self->in_use = false;
    self->is_ready = false;
    self->is_replaced = false;
    self->n_registered = 0;
}

/* Also tells whether there is userfaultfd at all. */
static bool probe_kernel(KeptKernel *self, GError **error)
{
    const UffdOps *ops = uffd_ops_real();
    struct uffdio_api api = { .api = UFFD_API };
    Uffd uffd;

    if (!uffd_open(ops, 0, 0, &uffd, error)) {
        return false;
    }
    ops->close(ops, uffd.fd);
    self->method = uffd.method;
    self->probe_fd = open_real(self->method);
    open_again(self);
    if (self->probe_fd < 0 || self->uffd < 0 || ops->api(ops, self->probe_fd, &api) < 0) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_FAILED, "userfaultfd worked only once");
        return false;
    }
    self->features = api.features;
    return true;
}

KeptKernel *kept_kernel_new(GError **error)
{
    g_autoptr(KeptKernel) self = g_new0(KeptKernel, 1);

    self->probe_fd = -1;
    self->uffd = -1;
    return probe_kernel(self, error) ? g_steal_pointer(&self) : NULL;
}

static void forget_map(KeptMap *map)
{
    if (map->memory) {
        uffd_ops_real()->unmap(uffd_ops_real(), map->memory, map->length);
    }
    map->memory = NULL;
}

void kept_kernel_free(KeptKernel *kept)
{
    const UffdOps *ops = uffd_ops_real();

    if (!kept) {
        return;
    }
    for (unsigned i = 0; i < MAX_MAPS; i++) {
        forget_map(&kept->maps[i]);
    }
    if (kept->probe_fd >= 0) {
        ops->close(ops, kept->probe_fd);
    }
    if (kept->uffd >= 0) {
        ops->close(ops, kept->uffd);
    }
    g_free(kept);
}

void kept_kernel_begin(KeptKernel *kept, bool fresh)
{
    kept->is_probed = false;
    kept->fresh = fresh;
}

int kept_kernel_open(KeptKernel *kept, UffdMethod method, int flags)
{
    if (method == kept->method && !kept->is_probed) {
        return kept->probe_fd;
    }
    if (method == kept->method && !kept->fresh && kept->uffd >= 0 && !kept->in_use) {
        kept->in_use = true;
        return kept->uffd;
    }
    return uffd_ops_real()->open(uffd_ops_real(), method, flags);
}

int kept_kernel_api(KeptKernel *kept, int uffd, struct uffdio_api *api)
{
    uint64_t features = api->features;
    int result;

    if (uffd == kept->probe_fd) {
        kept->is_probed = true;
        api->features = kept->features;
        return 0;
    }
    if (uffd == kept->uffd && kept->is_ready && features == kept->ready_features) {
        return 0;
    }
    result = uffd_ops_real()->api(uffd_ops_real(), uffd, api);
    if (uffd == kept->uffd && result == 0) {
        kept->is_ready = true;
        kept->ready_features = features;
    }
    return result;
}

int kept_kernel_register_range(KeptKernel *kept, int uffd, struct uffdio_register *range)
{
    int result = uffd_ops_real()->register_range(uffd_ops_real(), uffd, range);

    kept->n_registered += uffd == kept->uffd && result == 0;
    return result;
}

int kept_kernel_unregister(KeptKernel *kept, int uffd, struct uffdio_range *range)
{
    int result = uffd_ops_real()->unregister(uffd_ops_real(), uffd, range);

    kept->n_registered -= uffd == kept->uffd && result == 0;
    return result;
}

void kept_kernel_close(KeptKernel *kept, int fd)
{
    if (fd == kept->probe_fd) {
        return;
    }
    if (fd == kept->uffd && kept->is_ready && !kept->is_replaced && kept->n_registered == 0) {
        kept->in_use = false;
        return;
    }
    uffd_ops_real()->close(uffd_ops_real(), fd);
    if (fd == kept->uffd) {
        open_again(kept);
    }
}

void kept_kernel_replace(KeptKernel *kept, int fd, int by)
{
    uffd_ops_real()->replace(uffd_ops_real(), fd, by);
    kept->is_replaced |= fd == kept->uffd;
}

static bool would_do(const KeptMap *map, int fd, size_t length, int protection)
{
    return map->memory && !map->in_use && map->fd == fd && map->protection == protection &&
           (fd < 0 ? map->length == length : map->length >= length);
}

/* The first that would do; else one that nobody uses, empty; NULL: all are in use. */
static KeptMap *find_map(KeptKernel *kept, int fd, size_t length, int protection)
{
    KeptMap *unused = NULL;

    for (unsigned i = 0; i < MAX_MAPS; i++) {
        if (would_do(&kept->maps[i], fd, length, protection)) {
            return &kept->maps[i];
        }
        if (!kept->maps[i].in_use && (!unused || unused->memory)) {
            unused = &kept->maps[i];
        }
    }
    if (unused) {
        forget_map(unused);
    }
    return unused;
}

int kept_kernel_map(KeptKernel *kept, int fd, size_t length, int protection, void **memory)
{
    const UffdOps *ops = uffd_ops_real();
    KeptMap *map = find_map(kept, fd, length, protection);
    size_t mapped = fd < 0 ? length : MAX(length, MIN_FILE_LENGTH);

    if (!map) {
        return ops->map(ops, fd, length, protection, memory);
    }
    if (!map->memory) {
        int result = ops->map(ops, fd, mapped, protection, &map->memory);

        if (result < 0) {
            map->memory = NULL;
            return result;
        }
        map->length = mapped;
        map->fd = fd;
        map->protection = protection;
    }
    map->in_use = true;
    *memory = map->memory;
    return 0;
}

void kept_kernel_unmap(KeptKernel *kept, void *memory, size_t length)
{
    for (unsigned i = 0; i < MAX_MAPS; i++) {
        if (kept->maps[i].memory == memory) {
            kept->maps[i].in_use = false;
            return;
        }
    }
    uffd_ops_real()->unmap(uffd_ops_real(), memory, length);
}

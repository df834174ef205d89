/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See lazy-support.h. */
#define _GNU_SOURCE /* memfd_create() */
#include "unit/lazy-support.h"

#include "unit/hugetlb-pool.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define BEFORE 0x5c  /* in each byte of RAM before a load, if not zero */
#define GARBAGE 0xee /* in the file where the bit is clear: must never be seen */

bool resources_are(Resources wanted)
{
    Resources now = count_resources();

    for (unsigned i = 0; i < 1000 && now.threads != wanted.threads; i++) {
        g_usleep(1000);
        now = count_resources();
    }
    CHECK(now.descriptors == wanted.descriptors);
    CHECK(now.threads == wanted.threads);
    CHECK(now.mappings == wanted.mappings);
    return true;
}

const char *ram_kind_name(RamKind kind)
{
    static const char *const names[N_RAM_KINDS] = {
        [RAM_ANONYMOUS] = "anonymous",
        [RAM_MEMFD] = "memfd",
        [RAM_HUGETLB] = "hugetlb",
    };

    return names[kind];
}

bool bit_is_set(BitPattern bits, uint64_t page, uint64_t pages)
{
    switch (bits) {
    case BITS_NONE:
        return false;
    case BITS_ALL:
        return true;
    case BITS_ALTERNATING:
        return page % 2;
    case BITS_TAIL:
        return page == pages - 1;
    default:
        return page / 64 == (pages - 1) / 64;
    }
}

/* Never 0, BEFORE or GARBAGE; differs between neighbours of all distances. */
static uint8_t file_byte(uint64_t offset)
{
    uint64_t mixed = (offset + 1) * UINT64_C(0x9e3779b97f4a7c15);

    return (uint8_t)(0x80 + (mixed >> 40) % 0x60);
}

LazyCase small_case(void)
{
    return (LazyCase){
        .ram = RAM_ANONYMOUS,
        .target_page_size = TEST_PAGE,
        .used_length = AT(67),
        .bits = BITS_ALTERNATING,
        .mapped = true,
    };
}

/* Fills @bitmap, the pages' @content in the file and guest->wanted. */
static void make_pages(LazyGuest *guest, uint64_t *bitmap, uint8_t *content)
{
    uint64_t size = guest->what.target_page_size;
    uint64_t pages = guest->what.used_length / size;

    memset(guest->wanted, 0, guest->what.used_length);
    memset(content, GARBAGE, guest->what.used_length);
    for (uint64_t page = 0; page < pages; page++) {
        if (bit_is_set(guest->what.bits, page, pages)) {
            bitmap[page / 64] |= GUINT64_TO_LE(UINT64_C(1) << (page % 64));
            for (uint64_t i = page * size; i < (page + 1) * size; i++) {
                content[i] = guest->wanted[i] = file_byte(i);
            }
        }
    }
}

static void put_record(TestFile *file, LazyGuest *guest)
{
    uint64_t size = guest->what.target_page_size;
    size_t words = (guest->what.used_length / size + 63) / 64;
    uint64_t *bitmap = g_new0(uint64_t, words);
    uint8_t *content = g_malloc(guest->what.used_length);
    uint64_t bitmap_offset;

    make_pages(guest, bitmap, content);
    test_file_put_str8(file, "idstr", "ram");
    test_file_put_be(file, "used_length", guest->what.used_length, 8);
    test_file_put_be(file, "MappedRamHeader version", 1, 4);
    test_file_put_be(file, "page_size", size, 8);
    bitmap_offset = file->bytes->len + 16;
    guest->file_pages = (bitmap_offset + words * 8 + size - 1) / size * size;
    test_file_put_be(file, "bitmap_offset", bitmap_offset, 8);
    test_file_put_be(file, "pages_offset", guest->file_pages, 8);
    test_file_put(file, "bitmap", bitmap, words * 8);
    g_byte_array_set_size(file->bytes, (guint)guest->file_pages);
    test_file_put(file, "pages", content, guest->what.used_length);
    g_free(bitmap);
    g_free(content);
}

static int write_snapshot(LazyGuest *guest)
{
    g_autoptr(TestFile) file = test_file_new(NULL, false);
    int fd = memfd_create("snapshot", MFD_CLOEXEC);

    test_file_put_start(file, "none", guest->what.used_length);
    put_record(file, guest);
    test_file_put_end(file);
    g_assert_cmpint(write(fd, file->bytes->data, file->bytes->len), ==, file->bytes->len);
    return fd;
}

void *map_ram(RamKind kind, size_t length)
{
    int flags = MAP_PRIVATE | MAP_ANONYMOUS;
    int fd = -1;
    void *ram;

    if (kind == RAM_HUGETLB) {
        return hugetlb_map(length / HUGE_PAGE);
    }
    if (kind == RAM_MEMFD) {
        flags = MAP_SHARED;
        fd = memfd_create("guest-ram", MFD_CLOEXEC);
        g_assert_cmpint(ftruncate(fd, (off_t)length), ==, 0);
    }
    ram = mmap(NULL, length, PROT_READ | PROT_WRITE, flags, fd, 0);
    if (fd >= 0) {
        close(fd);
    }
    return ram == MAP_FAILED ? NULL : ram;
}

LazyGuest *lazy_guest_new(const LazyCase *what)
{
    LazyGuest *guest = g_new0(LazyGuest, 1);
    size_t host_page = what->ram == RAM_HUGETLB ? HUGE_PAGE : TEST_PAGE;
    uint8_t *ram;

    guest->what = *what;
    guest->map_length =
        (what->used_length + 2 * what->target_page_size + host_page - 1) / host_page * host_page;
    ram = map_ram(what->ram, guest->map_length);
    if (!ram) {
        fprintf(stderr, "no %s memory: %s\n", ram_kind_name(what->ram), g_strerror(errno));
        g_free(guest);
        return NULL;
    }
    guest->wanted = g_malloc(guest->map_length);
    memset(guest->wanted, what->before ? BEFORE : 0, guest->map_length);
    guest->fd = write_snapshot(guest);
    g_assert(fd_reader_init(&guest->reader, guest->fd, NULL));
    guest->block = (RAMBlock){
        .idstr = "ram",
        .host = ram,
        .used_length = what->used_length,
        .max_length = guest->map_length - guest->map_length % what->target_page_size,
        .page_size = host_page,
        .shared = what->ram == RAM_MEMFD,
    };
    guest->mis = (MigrationIncomingState){
        .reader = &guest->reader.reader,
        .target_page_size = what->target_page_size,
        .clear_pages = true,
        .blocks = &guest->block,
        .n_blocks = 1,
    };
    lazy_guest_fill(guest);
    return guest;
}

LazyGuest *lazy_guest_small(void)
{
    LazyCase what = small_case();

    return lazy_guest_new(&what);
}

void lazy_guest_free(LazyGuest *guest)
{
    ram_block_clear(&guest->block);
    munmap(guest->block.host, guest->map_length);
    close(guest->fd);
    g_free(guest->wanted);
    g_free(guest);
}

void lazy_guest_fill(LazyGuest *guest)
{
    memset(guest->block.host, guest->what.before ? BEFORE : 0, guest->map_length);
}

SnapshotLoad *lazy_guest_start(LazyGuest *guest, bool eager_thread)
{
    SnapshotLoadOptions options = {
        .map_fd = guest->what.mapped ? guest->fd : -1,
        .eager_thread = eager_thread,
    };
    g_autoptr(GError) error = NULL;
    SnapshotLoad *load = snapshot_load_start(&guest->mis, &options, NULL, &error);

    if (!load) {
        fprintf(stderr, "refused: %s\n", error->message);
    }
    return load;
}

bool lazy_guest_end(SnapshotLoad *load)
{
    g_autoptr(GError) error = NULL;
    bool ok = snapshot_load_end(load, &error);

    if (!ok) {
        fprintf(stderr, "failed: %s\n", error->message);
    }
    return ok;
}

bool same_bytes(const uint8_t *found, const uint8_t *wanted, uint64_t length)
{
    uint64_t at = 0;

    if (memcmp(found, wanted, length) == 0) {
        return true;
    }
    while (found[at] == wanted[at]) {
        at++;
    }
    fprintf(stderr, "byte 0x%lx of 0x%lx is 0x%02x, not 0x%02x\n", (unsigned long)at,
            (unsigned long)length, found[at], wanted[at]);
    return false;
}

bool check_ram(const LazyGuest *guest, uint64_t from, uint64_t to)
{
    return same_bytes(guest->block.host + from, guest->wanted + from, to - from);
}

uint64_t host_pages(const LazyGuest *guest)
{
    return guest->what.used_length / guest->block.page_size;
}

uint64_t count_installed(const LazyGuest *guest, PageInstaller by)
{
    uint64_t count = 0;

    for (uint64_t page = 0; page < host_pages(guest); page++) {
        count += page_installer(&guest->block, page) == by;
    }
    return count;
}

static __thread sigjmp_buf touch_failed;
static __thread volatile sig_atomic_t touching;

static void on_signal(int number)
{
    if (!touching) {
        signal(number, SIG_DFL);
        raise(number);
        return;
    }
    siglongjmp(touch_failed, number);
}

bool touch_survives(const volatile uint8_t *byte, uint8_t *value, int *signal)
{
    struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_NODEFER };

    sigaction(SIGBUS, &action, NULL);
    sigaction(SIGSEGV, &action, NULL);
    *signal = sigsetjmp(touch_failed, 1);
    if (*signal) {
        touching = 0;
        return false;
    }
    touching = 1;
    *value = *byte;
    touching = 0;
    return true;
}

bool page_gives(const LazyGuest *guest, uint64_t page, int signal)
{
    uint64_t offset = page * guest->block.page_size;
    uint8_t value = 0;
    int number;

    touch_survives(guest->block.host + offset, &value, &number);
    if (number != signal || (!signal && value != guest->wanted[offset])) {
        fprintf(stderr, "page %lu gives signal %d, not %d, byte 0x%02x\n", (unsigned long)page,
                number, signal, value);
        return false;
    }
    return true;
}

bool ends_with_error(SnapshotLoad *load, const char *words)
{
    g_autoptr(GError) error = NULL;

    CHECK(!snapshot_load_end(load, &error));
    if (!strstr(error->message, words)) {
        fprintf(stderr, "not in the message: %s: %s\n", words, error->message);
        return false;
    }
    return true;
}

static bool call_fails(const UffdOps *ops)
{
    FailOps *self = (FailOps *)ops;

    return __atomic_add_fetch(&self->calls, 1, __ATOMIC_RELAXED) == self->fail_call;
}

#define DEFINE_FAILING(name, parameters, arguments)                                                \
    static int failing_##name parameters                                                           \
    {                                                                                              \
        return call_fails(ops) ? -((const FailOps *)ops)->fail_errno                               \
                               : uffd_ops_real()->name arguments;                                  \
    }

DEFINE_FAILING(open, (const UffdOps *ops, UffdMethod method, int flags), (ops, method, flags))
DEFINE_FAILING(api, (const UffdOps *ops, int uffd, struct uffdio_api *api), (ops, uffd, api))
DEFINE_FAILING(register_range, (const UffdOps *ops, int uffd, struct uffdio_register *range),
               (ops, uffd, range))
DEFINE_FAILING(unregister, (const UffdOps *ops, int uffd, struct uffdio_range *range),
               (ops, uffd, range))
DEFINE_FAILING(eventfd, (const UffdOps *ops, int flags), (ops, flags))
DEFINE_FAILING(create_thread,
               (const UffdOps *ops, pthread_t *thread, void *(*body)(void *), void *opaque),
               (ops, thread, body, opaque))

static int failing_map(const UffdOps *ops, int fd, size_t length, int protection, void **memory)
{
    FailOps *self = (FailOps *)ops;
    int result;

    if (call_fails(ops)) {
        return -self->fail_errno;
    }
    result = uffd_ops_real()->map(ops, fd, length, protection, memory);
    if (result >= 0) {
        g_assert(self->n_maps < G_N_ELEMENTS(self->maps));
        self->maps[self->n_maps].memory = *memory;
        self->maps[self->n_maps++].length = length;
    }
    return result;
}

bool fail_ops_all_unmapped(const FailOps *self)
{
    for (unsigned i = 0; i < self->n_maps; i++) {
        CHECK(msync(self->maps[i].memory, self->maps[i].length, MS_ASYNC) == -1);
        CHECK(errno == ENOMEM);
    }
    return true;
}

static int failing_advise(const UffdOps *ops, void *memory, size_t length, int advice)
{
    if (advice != MADV_DOFORK && call_fails(ops)) {
        return -((const FailOps *)ops)->fail_errno;
    }
    return uffd_ops_real()->advise(ops, memory, length, advice);
}

void fail_ops_init(FailOps *self, unsigned fail_call, int fail_errno)
{
    *self = (FailOps){ .ops = *uffd_ops_real(), .fail_call = fail_call, .fail_errno = fail_errno };
    self->ops.open = failing_open;
    self->ops.api = failing_api;
    self->ops.register_range = failing_register_range;
    self->ops.unregister = failing_unregister;
    self->ops.eventfd = failing_eventfd;
    self->ops.map = failing_map;
    self->ops.create_thread = failing_create_thread;
    self->ops.advise = failing_advise;
}

static void gate_at_point(void *opaque, LazyPoint point, LazyThread thread, RAMBlock *rb,
                          uint64_t page)
{
    Gate *gate = opaque;

    (void)rb;
    pthread_mutex_lock(&gate->lock);
    if (point == LAZY_POINT_EAGER_NEXT && gate->passed[point] < G_N_ELEMENTS(gate->eager)) {
        gate->eager[gate->passed[point]] = page;
    }
    gate->passed[point]++;
    pthread_cond_broadcast(&gate->changed);
    if (gate->armed && point == gate->point && thread == gate->thread && page == gate->page) {
        gate->armed = false;
        gate->reached = true;
        pthread_cond_broadcast(&gate->changed);
        while (!gate->open) {
            pthread_cond_wait(&gate->changed, &gate->lock);
        }
    }
    pthread_mutex_unlock(&gate->lock);
}

void gate_init(Gate *gate, LazyGuest *guest, LazyPoint point, LazyThread thread, uint64_t page)
{
    *gate = (Gate){
        .lock = PTHREAD_MUTEX_INITIALIZER,
        .changed = PTHREAD_COND_INITIALIZER,
        .point = point,
        .thread = thread,
        .page = page,
        .armed = true,
    };
    guest->mis.at_point = gate_at_point;
    guest->mis.at_point_opaque = gate;
}

void gate_wait(Gate *gate)
{
    pthread_mutex_lock(&gate->lock);
    while (!gate->reached) {
        pthread_cond_wait(&gate->changed, &gate->lock);
    }
    pthread_mutex_unlock(&gate->lock);
}

void gate_open(Gate *gate)
{
    pthread_mutex_lock(&gate->lock);
    gate->open = true;
    pthread_cond_broadcast(&gate->changed);
    pthread_mutex_unlock(&gate->lock);
}

unsigned gate_passed(Gate *gate, LazyPoint point)
{
    unsigned passed;

    pthread_mutex_lock(&gate->lock);
    passed = gate->passed[point];
    pthread_mutex_unlock(&gate->lock);
    return passed;
}

static void *touch(void *opaque)
{
    Toucher *self = opaque;

    __atomic_store_n(&self->tid, (int)syscall(SYS_gettid), __ATOMIC_RELEASE);
    if (self->body) {
        self->body(self);
    } else {
        touch_survives(self->guest->block.host + self->offset, &self->value, &self->signal);
    }
    __atomic_store_n(&self->done, true, __ATOMIC_RELEASE);
    return NULL;
}

void toucher_start(Toucher *toucher)
{
    g_assert(pthread_create(&toucher->thread, NULL, touch, toucher) == 0);
}

/* The third field of /proc/.../stat; the second is a name in parentheses. */
static char state_of(int tid)
{
    g_autofree char *path = g_strdup_printf("/proc/self/task/%d/stat", tid);
    g_autofree char *text = NULL;
    const char *end;

    if (!g_file_get_contents(path, &text, NULL, NULL)) {
        return 0;
    }
    end = strrchr(text, ')');
    return end ? end[2] : 0;
}

void toucher_wait_asleep(Toucher *toucher)
{
    unsigned asleep = 0;

    /* A thread may sleep a moment on its way, for a lock of the C library. */
    while (asleep < 20) {
        int tid = __atomic_load_n(&toucher->tid, __ATOMIC_ACQUIRE);
        char state = tid ? state_of(tid) : 0;

        asleep = state == 'S' || state == 'D' ? asleep + 1 : 0;
        g_usleep(500);
    }
}

bool toucher_is_done(Toucher *toucher)
{
    return __atomic_load_n(&toucher->done, __ATOMIC_ACQUIRE);
}

void toucher_join(Toucher *toucher)
{
    pthread_join(toucher->thread, NULL);
}

void touch_at_unregister(void *opaque, LazyPoint point, LazyThread thread, RAMBlock *rb,
                         uint64_t page)
{
    Toucher *toucher = opaque;

    (void)thread;
    (void)rb;
    (void)page;
    if (point == LAZY_POINT_BEFORE_UNREGISTER) {
        toucher_start(toucher);
        toucher_wait_asleep(toucher);
    }
}

static void on_sigusr1(int number)
{
    (void)number;
}

void let_sigusr1_interrupt(void)
{
    /* poll() gives EINTR even so. */
    struct sigaction action = { .sa_handler = on_sigusr1, .sa_flags = SA_RESTART };

    sigaction(SIGUSR1, &action, NULL);
}

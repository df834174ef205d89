/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * loader/postcopy-net.[ch] with a source (postcopy-source.h) and real
 * userfaultfd: pages come when they are touched, channels break and are
 * replaced, sources die. Rules are those of docs/postcopy-wire.md.
 */
#define _GNU_SOURCE
#include "loader/postcopy-net.h"

#include "loader/mapped-ram.h"
#include "unit/lazy-support.h"
#include "unit/postcopy-source.h"
#include "unit/support.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define BLOCKS 2
#define PAGES UINT64_C(9) /* of each block */
#define LONG_MS 600000    /* longer than any test */

typedef struct Net {
    MigrationIncomingState mis;
    RAMBlock blocks[BLOCKS];
    uint8_t *wanted[BLOCKS];
    Source source;
    PostcopyNetOptions options;
    PostcopyNet *net;
    size_t map_length;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned breaks;
    char reason[512]; /* of the last one */
    unsigned passed[LAZY_N_POINTS];
    Resources before;
} Net;

static void note_break(void *opaque, const GError *reason)
{
    Net *net = opaque;

    pthread_mutex_lock(&net->lock);
    net->breaks++;
    g_strlcpy(net->reason, reason->message, sizeof(net->reason));
    pthread_cond_broadcast(&net->changed);
    pthread_mutex_unlock(&net->lock);
}

static void note_point(void *opaque, LazyPoint point, LazyThread thread, RAMBlock *rb,
                       uint64_t page)
{
    Net *net = opaque;

    (void)thread;
    (void)rb;
    (void)page;
    pthread_mutex_lock(&net->lock);
    net->passed[point]++;
    pthread_cond_broadcast(&net->changed);
    pthread_mutex_unlock(&net->lock);
}

static void wait_for_break(Net *net, unsigned n)
{
    pthread_mutex_lock(&net->lock);
    while (net->breaks < n) {
        pthread_cond_wait(&net->changed, &net->lock);
    }
    pthread_mutex_unlock(&net->lock);
}

static void wait_for_point(Net *net, LazyPoint point, unsigned n)
{
    pthread_mutex_lock(&net->lock);
    while (net->passed[point] < n) {
        pthread_cond_wait(&net->changed, &net->lock);
    }
    pthread_mutex_unlock(&net->lock);
}

/* Every third page is zero; others differ in every byte from their neighbours. */
static uint8_t byte_of(unsigned block, uint64_t offset, uint64_t page_size)
{
    uint64_t page = offset / page_size;

    return page % 3 == 2 ? 0 : (uint8_t)(1 + (block * 131 + page * 17 + offset * 7) % 255);
}

static void net_init_pages(Net *net, RamKind kind, uint64_t target_page_size, uint64_t pages)
{
    size_t size = kind == RAM_HUGETLB ? 0x200000 : TEST_PAGE;

    *net = (Net){ .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER };
    net->before = count_resources();
    net->map_length = size * pages;
    for (unsigned i = 0; i < BLOCKS; i++) {
        RAMBlock *rb = &net->blocks[i];
        int flags = MAP_PRIVATE | MAP_ANONYMOUS;

        flags |= kind == RAM_HUGETLB ? MAP_HUGETLB | 21 << MAP_HUGE_SHIFT : 0;
        *rb = (RAMBlock){ .used_length = net->map_length, .max_length = net->map_length };
        g_snprintf(rb->idstr, sizeof(rb->idstr), "block-%u", i);
        rb->page_size = size;
        rb->host = mmap(NULL, net->map_length, PROT_READ | PROT_WRITE, flags, -1, 0);
        g_assert(rb->host != MAP_FAILED);
        net->wanted[i] = g_malloc(net->map_length);
        for (uint64_t at = 0; at < net->map_length; at++) {
            net->wanted[i][at] = byte_of(i, at, size);
        }
    }
    net->mis = (MigrationIncomingState){
        .target_page_size = target_page_size,
        .blocks = net->blocks,
        .n_blocks = BLOCKS,
        .at_point = note_point,
        .at_point_opaque = net,
    };
    net->source = (Source){
        .blocks = net->blocks,
        .n_blocks = BLOCKS,
        .ram = net->wanted,
        .target_page_size = target_page_size,
        .push = true,
        .unnamed = true,
    };
    net->options = (PostcopyNetOptions){
        .section_id = SOURCE_SECTION_ID,
        .pause_timeout_ms = LONG_MS,
        .paused = note_break,
        .opaque = net,
    };
}

static void net_init(Net *net)
{
    net_init_pages(net, RAM_ANONYMOUS, TEST_PAGE, PAGES);
}

static bool net_start(Net *net)
{
    g_autoptr(GError) error = NULL;
    int fds[RAM_CHANNEL_MAX];

    net->options.preempt = net->source.preempt;
    source_connect(&net->source, fds);
    net->net = postcopy_net_start(&net->mis, &net->options, fds, &error);
    if (!net->net) {
        fprintf(stderr, "refused: %s\n", error->message);
    }
    return net->net;
}

static bool net_reconnect(Net *net)
{
    g_autoptr(GError) error = NULL;
    int fds[RAM_CHANNEL_MAX];

    source_connect(&net->source, fds);
    if (!postcopy_net_resume(net->net, fds, &error)) {
        fprintf(stderr, "not resumed: %s\n", error->message);
        return false;
    }
    return true;
}

static bool net_check_ram(const Net *net)
{
    for (unsigned i = 0; i < BLOCKS; i++) {
        CHECK(same_bytes(net->blocks[i].host, net->wanted[i], net->map_length));
    }
    return true;
}

static bool net_destroy(Net *net)
{
    for (unsigned i = 0; i < BLOCKS; i++) {
        ram_block_clear(&net->blocks[i]);
        munmap(net->blocks[i].host, net->map_length);
        g_free(net->wanted[i]);
    }
    return resources_are(net->before);
}

/* The load has to succeed, and RAM to be the source's. */
static bool net_finish(Net *net)
{
    g_autoptr(GError) error = NULL;
    bool ok = postcopy_net_end(net->net, &error);

    if (!ok) {
        fprintf(stderr, "failed: %s\n", error->message);
    }
    CHECK(ok);
    CHECK(source_join(&net->source));
    CHECK(net->source.ended);
    CHECK(net->source.shut == 0);
    CHECK(net_check_ram(net));
    return net_destroy(net);
}

static bool touch(const uint8_t *byte, uint8_t wanted)
{
    uint8_t value;
    int signal;

    CHECK(touch_survives(byte, &value, &signal));
    CHECK(value == wanted);
    return true;
}

static bool push_all(void)
{
    Net net;

    net_init(&net);
    CHECK(net_start(&net));
    return net_finish(&net);
}

static void test_what_nobody_touches_comes(void **state)
{
    (void)state;
    require_uffd();
    run_bounded(push_all);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_nobody_touches_comes),
    };

    return pagewise_run("postcopy-net", tests);
}

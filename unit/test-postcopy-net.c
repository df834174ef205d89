/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * loader/postcopy-net.[ch] with a source (postcopy-source.h) and real
 * userfaultfd: pages come when they are touched, channels break and are
 * replaced, sources die. Rules are those of docs/postcopy-wire.md.
 */
#define _GNU_SOURCE
#include "loader/postcopy-net.h"

#include "loader/mapped-ram.h"
#include "unit/hugetlb-pool.h"
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
    bool hold; /* whoever comes to the point */
    LazyPoint hold_point;
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
    while (point == net->hold_point && net->hold) {
        pthread_cond_wait(&net->changed, &net->lock);
    }
    pthread_mutex_unlock(&net->lock);
}

static void hold_thread(Net *net, bool hold)
{
    pthread_mutex_lock(&net->lock);
    net->hold = hold;
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
    size_t size = kind == RAM_HUGETLB ? HUGE_PAGE : TEST_PAGE;

    *net = (Net){ .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER };
    net->before = count_resources();
    net->map_length = size * pages;
    for (unsigned i = 0; i < BLOCKS; i++) {
        RAMBlock *rb = &net->blocks[i];

        *rb = (RAMBlock){ .used_length = net->map_length, .max_length = net->map_length };
        g_snprintf(rb->idstr, sizeof(rb->idstr), "block-%u", i);
        rb->page_size = size;
        rb->host = map_ram(kind, net->map_length);
        g_assert(rb->host);
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
    return net_check_ram(net);
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
    return net_finish(&net) && net_destroy(&net);
}

BOUNDED_TEST(test_what_nobody_touches_comes, push_all)

/* Requests for the page that came on connection @connection; 0: on any. */
static unsigned count_requests(const Net *net, unsigned block, uint64_t page, unsigned connection)
{
    unsigned count = 0;

    for (unsigned i = 0; i < net->source.n_requests; i++) {
        const SourceRequest *request = &net->source.requests[i];

        count += request->block == block && request->page == page &&
                 (connection == 0 || request->connection == connection);
    }
    return count;
}

/* Backwards, and from block to block: nothing comes that was not asked for. */
static bool touch_all(Net *net)
{
    for (uint64_t page = PAGES; page-- > 0;) {
        for (unsigned i = 0; i < BLOCKS; i++) {
            uint64_t at = page * net->blocks[i].page_size + 123;

            CHECK(touch(net->blocks[i].host + at, net->wanted[i][at]));
            CHECK(touch(net->blocks[i].host + at + 1, net->wanted[i][at + 1]));
        }
    }
    return true;
}

static bool on_demand_by(Net *net)
{
    net->source.push_after = BLOCKS * PAGES;
    CHECK(net_start(net));
    CHECK(touch_all(net));
    CHECK(net_finish(net));
    CHECK(net->source.n_requests == BLOCKS * PAGES);
    for (unsigned i = 0; i < BLOCKS; i++) {
        for (uint64_t page = 0; page < PAGES; page++) {
            CHECK(count_requests(net, i, page, 1) == 1);
        }
    }
    return true;
}

static bool on_demand(void)
{
    Net net;

    net_init(&net);
    CHECK(on_demand_by(&net));
    /* The block changes with each request: each names its own. */
    for (unsigned i = 0; i < net.source.n_requests; i++) {
        CHECK(net.source.requests[i].named);
    }
    return net_destroy(&net);
}

BOUNDED_TEST(test_each_page_is_asked_for_once, on_demand)

static bool on_demand_preempt(void)
{
    Net net;

    net_init(&net);
    net.source.preempt = true;
    return on_demand_by(&net) && net_destroy(&net);
}

BOUNDED_TEST(test_preempt_channel, on_demand_preempt)

static bool on_demand_small_target_pages(void)
{
    for (uint64_t size = 0x400; size < TEST_PAGE; size *= 2) {
        Net net;

        net_init_pages(&net, RAM_ANONYMOUS, size, PAGES);
        CHECK(on_demand_by(&net) && net_destroy(&net));
    }
    return true;
}

BOUNDED_TEST(test_host_pages_of_several_target_pages, on_demand_small_target_pages)

static bool hugetlb(void)
{
    Net net;

    net_init_pages(&net, RAM_HUGETLB, TEST_PAGE, 2);
    net.source.push_after = 1;
    CHECK(net_start(&net));
    CHECK(touch(net.blocks[1].host + net.map_length - 1, net.wanted[1][net.map_length - 1]));
    return net_finish(&net) && net_destroy(&net);
}

static void test_huge_host_pages(void **state)
{
    (void)state;
    require_uffd();
    require_hugetlb_pool();
    run_bounded(hugetlb);
}

/* The second request in a row for one block does not name it. */
static bool named_once(void)
{
    Net net;

    net_init(&net);
    net.source.push_after = 3;
    CHECK(net_start(&net));
    for (uint64_t page = 0; page < 3; page++) {
        CHECK(touch(net.blocks[0].host + AT(page), net.wanted[0][AT(page)]));
    }
    CHECK(net_finish(&net));
    CHECK(net.source.requests[0].named);
    CHECK(!net.source.requests[1].named);
    CHECK(!net.source.requests[2].named);
    return net_destroy(&net);
}

BOUNDED_TEST(test_a_request_names_its_block_once, named_once)

#define TOUCHERS 8

/* Touchers of guest RAM: lazy-support.h, but for this guest. */
typedef struct Touch {
    Toucher toucher;
    uint8_t *byte;
    uint8_t write; /* not 0: is written */
} Touch;

static void touch_body(Toucher *toucher)
{
    Touch *self = (Touch *)toucher;

    if (!touch_survives(self->byte, &toucher->value, &toucher->signal)) {
        return;
    }
    if (self->write) {
        *self->byte = self->write;
    }
}

static void touch_start(Touch *self, uint8_t *byte)
{
    *self = (Touch){ .toucher.body = touch_body, .byte = byte };
    toucher_start(&self->toucher);
}

/* All on one page, asleep at the same time; the source answers after that. */
static bool touchers_on_one_page(void)
{
    Net net;
    Touch touches[TOUCHERS];

    net_init(&net);
    net.source.push_after = 2;
    net.source.silent = true;
    CHECK(net_start(&net));
    for (unsigned i = 0; i < TOUCHERS; i++) {
        touch_start(&touches[i], net.blocks[0].host + AT(3) + i);
        toucher_wait_asleep(&touches[i].toucher);
    }
    wait_for_point(&net, LAZY_POINT_REQUESTED, TOUCHERS);
    /* The second request lets the source send everything. */
    CHECK(touch(net.blocks[1].host, net.wanted[1][0]));
    for (unsigned i = 0; i < TOUCHERS; i++) {
        toucher_join(&touches[i].toucher);
        CHECK(touches[i].toucher.signal == 0);
        CHECK(touches[i].toucher.value == net.wanted[0][AT(3) + i]);
    }
    CHECK(net_finish(&net));
    CHECK(net.source.n_requests == 2);
    return net_destroy(&net);
}

/*
 * Each thread that faults gives a message of its own. The page is asked for
 * once, or a source would send it for each of them.
 */
BOUNDED_TEST(test_many_threads_ask_once, touchers_on_one_page)

/* Breaks, and replaced channels. */

static bool resume_after_break(Net *net)
{
    wait_for_break(net, 1);
    CHECK(source_join(&net->source));
    net->source.cut_after = net->source.cut_preempt = net->source.cut_read = 0;
    net->source.silent = false;
    net->source.push_after = 0;
    CHECK(net_reconnect(net));
    CHECK(net_finish(net));
    CHECK(net->breaks == 1);
    return true;
}

/* Bytes of the main channel up to the end of the second host page, in either form. */
static bool cut_main(uint64_t target_page_size, uint64_t from, uint64_t to, bool preempt)
{
    for (uint64_t cut = from; cut <= to; cut++) {
        Net net;

        net_init_pages(&net, RAM_ANONYMOUS, target_page_size, 3);
        net.source.preempt = preempt;
        net.source.cut_after = cut;
        CHECK(net_start(&net));
        CHECK(resume_after_break(&net));
        CHECK(strstr(net.reason, "rule W17"));
        CHECK(net_destroy(&net));
    }
    return true;
}

/* PART, the word, idstr, into the page. */
static bool cut_first_fields(void)
{
    return cut_main(TEST_PAGE, 1, 40, false);
}

/* The end of the page, EOS, the footer, the next PART. */
static bool cut_last_fields(void)
{
    const uint64_t page_ends = 5 + 8 + 1 + 7 + TEST_PAGE;

    return cut_main(TEST_PAGE, page_ends - 3, page_ends + 8 + 5 + 3, false);
}

/* Host pages of four target pages, the third of which is begun. */
static bool cut_between_target_pages(void)
{
    const uint64_t third = 5 + 8 + 1 + 7 + 0x400 + 8 + 0x400;

    return cut_main(0x400, third - 3, third + 12, false);
}

static bool cut_inside_a_page(void)
{
    for (uint64_t cut = 100; cut < TEST_PAGE; cut += 173) {
        CHECK(cut_main(TEST_PAGE, cut, cut, false));
    }
    return true;
}

static bool cut_beside_preempt(void)
{
    return cut_main(TEST_PAGE, 1, 30, true);
}

/* The pages that came before stay; the rest comes by the new channel. */
BOUNDED_TEST(test_the_main_channel_breaks_at_every_byte, cut_first_fields, cut_last_fields,
             cut_between_target_pages, cut_inside_a_page, cut_beside_preempt)

static bool cut_preempt(uint64_t cut)
{
    Net net;
    Touch waits;

    net_init(&net);
    net.source.preempt = true;
    net.source.push_after = UINT32_MAX;
    net.source.cut_preempt = cut;
    CHECK(net_start(&net));
    touch_start(&waits, net.blocks[1].host + AT(4));
    CHECK(resume_after_break(&net));
    toucher_join(&waits.toucher);
    CHECK(waits.toucher.value == net.wanted[1][AT(4)]);
    return net_destroy(&net);
}

static bool cut_preempt_at_each_byte(void)
{
    for (uint64_t cut = 1; cut < 8 + 1 + 7 + 20; cut++) {
        CHECK(cut_preempt(cut));
    }
    return cut_preempt(8 + 1 + 7 + TEST_PAGE - 1) && cut_preempt(8 + 1 + 7 + TEST_PAGE);
}

BOUNDED_TEST(test_the_preempt_channel_breaks_at_every_byte, cut_preempt_at_each_byte)

/* Type, length, start, length, idstr: the source is gone in the midst of a request. */
static bool cut_requests(void)
{
    for (uint64_t cut = 1; cut <= 4 + 12 + 1 + 7; cut++) {
        Net net;
        Touch waits;

        net_init(&net);
        net.source.push_after = UINT32_MAX;
        net.source.cut_read = cut;
        CHECK(net_start(&net));
        touch_start(&waits, net.blocks[0].host + AT(1));
        CHECK(resume_after_break(&net));
        toucher_join(&waits.toucher);
        CHECK(waits.toucher.signal == 0);
        CHECK(waits.toucher.value == net.wanted[0][AT(1)]);
        /* Once on the first channel, if it heard of it, and once on the second. */
        CHECK(count_requests(&net, 0, 1, 1) <= 1);
        CHECK(count_requests(&net, 0, 1, 2) == 1);
        CHECK(net_destroy(&net));
    }
    return true;
}

BOUNDED_TEST(test_the_return_path_breaks_at_every_byte, cut_requests)

/* The recovery itself breaks, at each byte of its answers, and is begun again. */
static bool cut_recovery_at(uint64_t cut)
{
    Net net;
    Touch waits;

    net_init(&net);
    net.source.push_after = UINT32_MAX;
    net.source.silent = true;
    CHECK(net_start(&net));
    touch_start(&waits, net.blocks[0].host + AT(1));
    wait_for_point(&net, LAZY_POINT_REQUESTED, 1);
    CHECK(source_break(&net.source));
    wait_for_break(&net, 1);
    net.source.cut_read = cut;
    CHECK(net_reconnect(&net));
    wait_for_break(&net, 2);
    CHECK(source_join(&net.source));
    net.source.cut_read = 0;
    net.source.silent = false;
    net.source.push_after = 0;
    CHECK(net_reconnect(&net));
    CHECK(net_finish(&net));
    toucher_join(&waits.toucher);
    CHECK(waits.toucher.value == net.wanted[0][AT(1)]);
    CHECK(count_requests(&net, 0, 1, 3) == 1);
    return net_destroy(&net);
}

static bool cut_recovery(void)
{
    /* Two bitmaps of a word each, the acknowledgement, the request. */
    const uint64_t end = 2 * (4 + 1 + 7 + 8 + 8 + 8) + 8 + 4 + 12 + 1 + 7;

    for (uint64_t cut = 1; cut <= end; cut++) {
        CHECK(cut_recovery_at(cut));
    }
    return true;
}

BOUNDED_TEST(test_the_recovery_breaks_at_every_byte, cut_recovery)

/*
 * Several threads asleep on pages that were asked for; others touch while there
 * is no channel. Each page is asked for once, on the new one.
 */
static bool all_are_asked_again(void)
{
    Net net;
    Touch before[4], during[4];

    net_init(&net);
    net.source.push_after = UINT32_MAX;
    net.source.silent = true;
    CHECK(net_start(&net));
    for (unsigned i = 0; i < 4; i++) {
        touch_start(&before[i], net.blocks[i % 2].host + AT(i));
    }
    wait_for_point(&net, LAZY_POINT_REQUESTED, 4);
    CHECK(source_break(&net.source));
    wait_for_break(&net, 1);
    for (unsigned i = 0; i < 4; i++) {
        touch_start(&during[i], net.blocks[i % 2].host + AT(4 + i));
    }
    wait_for_point(&net, LAZY_POINT_PAUSED, 1);
    for (unsigned i = 0; i < 4; i++) {
        toucher_wait_asleep(&during[i].toucher);
        CHECK(!toucher_is_done(&during[i].toucher));
    }
    net.source.silent = false;
    net.source.push_after = 4 + 8;
    CHECK(net_reconnect(&net));
    CHECK(net_finish(&net));
    for (unsigned i = 0; i < 4; i++) {
        toucher_join(&before[i].toucher);
        toucher_join(&during[i].toucher);
        CHECK(before[i].toucher.value == net.wanted[i % 2][AT(i)]);
        CHECK(during[i].toucher.value == net.wanted[i % 2][AT(4 + i)]);
        CHECK(count_requests(&net, i % 2, i, 1) == 1);
        CHECK(count_requests(&net, i % 2, i, 2) == 1);
        CHECK(count_requests(&net, i % 2, 4 + i, 1) == 0);
        CHECK(count_requests(&net, i % 2, 4 + i, 2) == 1);
    }
    return net_destroy(&net);
}

BOUNDED_TEST(test_all_that_was_asked_for_is_asked_again, all_are_asked_again)

/* Nobody touches: the reader alone finds out, and nobody is kept waiting. */
static bool many_breaks(void)
{
    Net net;
    unsigned breaks = 0;

    net_init(&net);
    net.source.cut_after = 2 * TEST_PAGE;
    CHECK(net_start(&net));
    while (breaks < 6) {
        wait_for_break(&net, ++breaks);
        CHECK(source_join(&net.source));
        CHECK(net_reconnect(&net));
    }
    wait_for_break(&net, ++breaks);
    CHECK(source_join(&net.source));
    net.source.cut_after = 0;
    CHECK(net_reconnect(&net));
    return net_finish(&net) && net_destroy(&net);
}

BOUNDED_TEST(test_many_breaks, many_breaks)

/* More bits than fit into one message. */
static bool large_bitmap(void)
{
    Net net;

    net_init_pages(&net, RAM_ANONYMOUS, 0x400, 600);
    net.source.cut_after = 100 * TEST_PAGE;
    CHECK(net_start(&net));
    CHECK(resume_after_break(&net));
    return net_destroy(&net);
}

BOUNDED_TEST(test_a_large_bitmap, large_bitmap)

/* Sources that do not come back. */

static bool ends_with(Net *net, const char *message)
{
    g_autoptr(GError) error = NULL;

    CHECK(!postcopy_net_end(net->net, &error));
    if (!strstr(error->message, message)) {
        fprintf(stderr, "'%s' is not in: %s\n", message, error->message);
        return false;
    }
    return true;
}

/* Every page but @n of each block, which came, gives SIGBUS. */
static bool check_poisoned(const Net *net, uint64_t n)
{
    for (unsigned i = 0; i < BLOCKS; i++) {
        for (uint64_t page = 0; page < PAGES; page++) {
            uint8_t value = 0;
            int signal;
            bool there = touch_survives(net->blocks[i].host + AT(page), &value, &signal);

            CHECK(there == (page < n));
            CHECK(there ? value == net->wanted[i][AT(page)] : signal == SIGBUS);
        }
    }
    return true;
}

static bool source_dies(unsigned pause_timeout_ms)
{
    Net net;
    Touch waits;

    net_init(&net);
    net.options.pause_timeout_ms = pause_timeout_ms;
    net.source.push_after = UINT32_MAX;
    net.source.silent = true;
    CHECK(net_start(&net));
    touch_start(&waits, net.blocks[1].host + AT(2));
    wait_for_point(&net, LAZY_POINT_REQUESTED, 1);
    CHECK(source_break(&net.source));
    toucher_join(&waits.toucher);
    CHECK(waits.toucher.signal == SIGBUS);
    CHECK(check_poisoned(&net, 0));
    CHECK(ends_with(&net, "the source is gone, and no new channel came within"));
    CHECK(check_poisoned(&net, 0));
    return net_destroy(&net);
}

static bool source_dies_at_once(void)
{
    return source_dies(0);
}

static bool source_dies_for_a_while(void)
{
    return source_dies(30);
}

/* Nobody is left asleep, and nobody reads zeroes. */
BOUNDED_TEST(test_a_dead_source, source_dies_at_once, source_dies_for_a_while)

static bool source_sleeps(void)
{
    Net net;
    Touch waits;

    net_init(&net);
    net.options.pause_timeout_ms = 10;
    net.options.source_timeout_ms = 20;
    net.source.push_after = UINT32_MAX;
    net.source.silent = true;
    CHECK(net_start(&net));
    touch_start(&waits, net.blocks[1].host + AT(2));
    toucher_join(&waits.toucher);
    CHECK(waits.toucher.signal == SIGBUS);
    CHECK(ends_with(&net, "reading failed: Connection timed out"));
    CHECK(source_join(&net.source));
    return net_destroy(&net);
}

/* It is there and says nothing. */
BOUNDED_TEST(test_a_silent_source, source_sleeps)

/* A source without a thread: the test writes. */
static bool start_raw(Net *net, int *fd)
{
    g_autoptr(GError) error = NULL;
    int pair[2];
    int fds[RAM_CHANNEL_MAX] = { -1, -1 };

    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
    *fd = pair[0];
    fds[0] = pair[1];
    net->net = postcopy_net_start(&net->mis, &net->options, fds, &error);
    return net->net;
}

static bool write_raw(int fd, const void *bytes, size_t length)
{
    return send(fd, bytes, length, MSG_NOSIGNAL) == (ssize_t)length;
}

/* One host page of block-0 in a section, filled with @byte. */
static bool write_page(int fd, uint64_t page, uint8_t byte)
{
    uint8_t message[5 + 8 + 8 + TEST_PAGE + 13] = { 0x02, 0, 0, 0, SOURCE_SECTION_ID };
    uint64_t word = GUINT64_TO_BE(AT(page) | 0x08);

    memcpy(message + 5, &word, 8);
    memcpy(message + 13, "\7block-0", 8);
    memset(message + 21, byte, TEST_PAGE);
    memcpy(message + 21 + TEST_PAGE, "\0\0\0\0\0\0\0\x10\x7e\0\0\0\x2a", 13);
    return write_raw(fd, message, sizeof(message));
}

/* All that was written was used: the reader wants more. */
static void wait_for_reads(Net *net, unsigned n)
{
    wait_for_point(net, LAZY_POINT_CHANNEL_READ, n);
}

static bool stream_ends_early(void)
{
    Net net;
    Touch waits;
    int fd;

    net_init(&net);
    CHECK(start_raw(&net, &fd));
    touch_start(&waits, net.blocks[0].host + AT(1));
    wait_for_point(&net, LAZY_POINT_REQUESTED, 1);
    CHECK(write_page(fd, 0, 0x77));
    CHECK(write_raw(fd, "", 1));
    toucher_join(&waits.toucher);
    CHECK(waits.toucher.signal == SIGBUS);
    CHECK(touch(net.blocks[0].host, 0x77));
    CHECK(ends_with(&net, "block 'block-0': page 0x1 at address 0x1000 never came, and the "
                          "channels have ended (rule L4)"));
    close(fd);
    return net_destroy(&net);
}

/* QEMU would give the guest zeroes. */
BOUNDED_TEST(test_a_page_that_never_comes, stream_ends_early)

static bool duplicates(void)
{
    Net net;
    int fd;

    net_init(&net);
    CHECK(start_raw(&net, &fd));
    CHECK(write_page(fd, 2, 0x11));
    CHECK(touch(net.blocks[0].host + AT(2), 0x11));
    net.blocks[0].host[AT(2) + 5] = 0xab;
    CHECK(write_page(fd, 2, 0x22));
    CHECK(write_page(fd, 3, 0x33));
    CHECK(touch(net.blocks[0].host + AT(3), 0x33));
    CHECK(touch(net.blocks[0].host + AT(2), 0x11));
    CHECK(touch(net.blocks[0].host + AT(2) + 5, 0xab));
    postcopy_net_cancel(net.net);
    CHECK(touch(net.blocks[0].host + AT(2) + 5, 0xab));
    CHECK(ends_with(&net, "cancelled"));
    close(fd);
    return net_destroy(&net);
}

/* What the guest wrote stays. */
BOUNDED_TEST(test_a_page_that_comes_twice, duplicates)

static bool discards(void)
{
    Net net;
    Touch waits;
    int fd;

    net_init(&net);
    CHECK(start_raw(&net, &fd));
    /* Before it comes, and while somebody sleeps on it. */
    CHECK(postcopy_discard_range(&net.mis, &net.blocks[0], AT(1), AT(1), NULL));
    touch_start(&waits, net.blocks[0].host + AT(2));
    wait_for_point(&net, LAZY_POINT_REQUESTED, 1);
    CHECK(postcopy_discard_range(&net.mis, &net.blocks[0], AT(2), AT(2), NULL));
    toucher_join(&waits.toucher);
    CHECK(waits.toucher.signal == 0 && waits.toucher.value == 0);
    for (uint64_t page = 1; page < 5; page++) {
        CHECK(write_page(fd, page, 0x44));
    }
    CHECK(touch(net.blocks[0].host + AT(4), 0x44));
    for (uint64_t page = 1; page < 4; page++) {
        CHECK(touch(net.blocks[0].host + AT(page), 0));
    }
    /* After it came. */
    CHECK(postcopy_discard_range(&net.mis, &net.blocks[0], AT(4), AT(1), NULL));
    CHECK(write_page(fd, 4, 0x55));
    CHECK(write_page(fd, 5, 0x66));
    CHECK(touch(net.blocks[0].host + AT(5), 0x66));
    CHECK(touch(net.blocks[0].host + AT(4), 0));
    postcopy_net_cancel(net.net);
    CHECK(touch(net.blocks[0].host + AT(1), 0));
    CHECK(ends_with(&net, "cancelled"));
    close(fd);
    return net_destroy(&net);
}

BOUNDED_TEST(test_discarded_pages_stay_zero, discards)

/* madvise() by a thread that waits until the fault thread has read of it. */
static void *drop_page(void *opaque)
{
    g_assert(madvise(opaque, TEST_PAGE, MADV_DONTNEED) == 0);
    return NULL;
}

static bool discard_while_paused(void)
{
    Net net;
    Touch waits;
    pthread_t thread;

    net_init(&net);
    net.mis.remove_events = true;
    net.source.push_after = UINT32_MAX;
    net.source.silent = true;
    CHECK(net_start(&net));
    CHECK(source_break(&net.source));
    wait_for_break(&net, 1);
    touch_start(&waits, net.blocks[0].host + AT(1));
    wait_for_point(&net, LAZY_POINT_PAUSED, 1);
    CHECK(pthread_create(&thread, NULL, drop_page, net.blocks[0].host + AT(7)) == 0);
    pthread_join(thread, NULL);
    memset(net.wanted[0] + AT(7), 0, TEST_PAGE);
    net.source.push_after = 0;
    net.source.silent = false;
    CHECK(net_reconnect(&net));
    CHECK(net_finish(&net));
    toucher_join(&waits.toucher);
    CHECK(waits.toucher.value == net.wanted[0][AT(1)]);
    return net_destroy(&net);
}

/*
 * Two faults are read at once, and the first has to wait for a new channel.
 * The second is on a page that was discarded: it needs none.
 */
static bool discarded_behind_a_pause(bool before)
{
    Net net;
    Touch first, missing, discarded;

    net_init(&net);
    net.source.push_after = UINT32_MAX;
    net.source.silent = true;
    CHECK(net_start(&net));
    hold_thread(&net, true);
    touch_start(&first, net.blocks[0].host + AT(1));
    wait_for_point(&net, LAZY_POINT_FAULT, 1);
    /* Nothing to ask for: the fault thread will go on to read the next two. */
    CHECK(postcopy_discard_range(&net.mis, &net.blocks[0], AT(1), AT(1), NULL));
    CHECK(!before || postcopy_discard_range(&net.mis, &net.blocks[0], AT(3), AT(1), NULL));
    CHECK(source_break(&net.source));
    wait_for_break(&net, 1);
    touch_start(&missing, net.blocks[0].host + AT(2));
    toucher_wait_asleep(&missing.toucher);
    touch_start(&discarded, net.blocks[0].host + AT(3));
    toucher_wait_asleep(&discarded.toucher);
    hold_thread(&net, false);
    wait_for_point(&net, LAZY_POINT_PAUSED, 1);
    CHECK(before || postcopy_discard_range(&net.mis, &net.blocks[0], AT(3), AT(1), NULL));
    toucher_join(&first.toucher);
    toucher_join(&discarded.toucher);
    CHECK(discarded.toucher.signal == 0 && discarded.toucher.value == 0);
    CHECK(!toucher_is_done(&missing.toucher));
    postcopy_net_cancel(net.net);
    toucher_join(&missing.toucher);
    CHECK(missing.toucher.signal == SIGBUS);
    CHECK(ends_with(&net, "cancelled"));
    return net_destroy(&net);
}

static bool discarded_before_a_pause(void)
{
    return discarded_behind_a_pause(true);
}

static bool discarded_in_a_pause(void)
{
    return discarded_behind_a_pause(false);
}

BOUNDED_TEST(test_discarded_pages_need_no_channel, discarded_before_a_pause, discarded_in_a_pause)

/* The kernel holds the caller of madvise() until its event was read: by whom, in a pause? */
BOUNDED_TEST(test_discard_in_a_pause, discard_while_paused)

/* Reads exactly these bytes of the return path. */
static bool read_raw(int fd, const void *wanted, size_t length)
{
    uint8_t bytes[64];

    CHECK(recv(fd, bytes, length, MSG_WAITALL) == (ssize_t)length);
    return same_bytes(bytes, wanted, length);
}

static bool commands(void)
{
    Net net;
    int fd;

    net_init(&net);
    CHECK(start_raw(&net, &fd));
    CHECK(write_raw(fd, "\x08\0\x0a\0\x08\7block-1", 13));
    CHECK(write_raw(fd, "\x08\0\x09\0\0", 5));
    CHECK(write_raw(fd, "\x08\0\x02\0\4\1\2\3\4", 9));
    /* PONG alone: nothing is to be recovered. */
    CHECK(read_raw(fd, "\0\2\0\4\1\2\3\4", 8));
    postcopy_net_cancel(net.net);
    /* SHUT, and the end. */
    CHECK(read_raw(fd, "\0\1\0\4\0\0\0\1", 8));
    CHECK(recv(fd, &fd, 1, 0) == 0);
    CHECK(ends_with(&net, "cancelled"));
    close(fd);
    return net_destroy(&net);
}

BOUNDED_TEST(test_commands_are_answered, commands)

static bool garbage(void)
{
    Net net;
    int fd;

    net_init(&net);
    CHECK(start_raw(&net, &fd));
    CHECK(write_page(fd, 2, 0x11));
    CHECK(write_raw(fd, "\xee", 1));
    wait_for_break(&net, 1);
    CHECK(strstr(net.reason, "type 0xee at main channel offset 0x1022: is none of EOF, PART, END "
                             "and COMMAND (rule W1)"));
    close(fd);
    /* What came stays; the source that takes over learns of it. */
    memset(net.wanted[0] + AT(2), 0x11, TEST_PAGE);
    net.source.connections = 1;
    CHECK(net_reconnect(&net));
    return net_finish(&net) && net_destroy(&net);
}

/* A stream that breaks a rule is a channel that breaks. */
BOUNDED_TEST(test_garbage_breaks_the_channel, garbage)

static bool refused_channels(void)
{
    g_autoptr(GError) error = NULL;
    int fds[RAM_CHANNEL_MAX] = { -1, -1 };
    Net net;

    net_init(&net);
    net.source.push_after = UINT32_MAX;
    CHECK(net_start(&net));
    /* The old one is not broken. */
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
    close(fds[1]);
    fds[1] = -1;
    CHECK(!postcopy_net_resume(net.net, fds, &error));
    CHECK(strstr(error->message, "are not broken"));
    CHECK(fcntl(fds[0], F_GETFD) == -1);
    g_clear_error(&error);
    /* A preempt channel that there must not be. */
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
    CHECK(!postcopy_net_resume(net.net, fds, &error));
    CHECK(strstr(error->message, "there is a preempt channel, and preemption is off"));
    CHECK(fcntl(fds[0], F_GETFD) == -1 && fcntl(fds[1], F_GETFD) == -1);
    g_clear_error(&error);
    /* No socket. */
    fds[0] = open("/dev/null", O_RDWR | O_CLOEXEC);
    fds[1] = -1;
    CHECK(!postcopy_net_resume(net.net, fds, &error));
    CHECK(strstr(error->message, "is no socket that can be used"));
    g_clear_error(&error);
    postcopy_net_cancel(net.net);
    fds[0] = -1;
    CHECK(!postcopy_net_resume(net.net, fds, &error));
    CHECK(ends_with(&net, "cancelled"));
    CHECK(source_join(&net.source));
    CHECK(net.source.shut == 1);
    return net_destroy(&net);
}

BOUNDED_TEST(test_channels_that_cannot_be_used, refused_channels)

static bool start_is_refused(Net *net, const char *message)
{
    g_autoptr(GError) error = NULL;
    int fds[RAM_CHANNEL_MAX];

    net->options.preempt = net->source.preempt;
    source_connect(&net->source, fds);
    CHECK(!postcopy_net_start(&net->mis, &net->options, fds, &error));
    if (!strstr(error->message, message)) {
        fprintf(stderr, "'%s' is not in: %s\n", message, error->message);
        return false;
    }
    CHECK(source_join(&net->source));
    return true;
}

static bool refused_guests(void)
{
    Net net;

    net_init(&net);
    net.blocks[1].used_length -= 0x400;
    net.mis.target_page_size = 0x400;
    CHECK(start_is_refused(&net, "rule N1"));
    net.blocks[1].used_length += 0x400;
    net.mis.target_page_size = 0x2000;
    CHECK(start_is_refused(&net, "rule N1"));
    net.mis.target_page_size = TEST_PAGE;
    net.blocks[1].host++;
    CHECK(start_is_refused(&net, "is not aligned"));
    net.blocks[1].host--;
    return net_destroy(&net);
}

static bool refused_without_preempt_channel(void)
{
    g_autoptr(GError) error = NULL;
    int fds[RAM_CHANNEL_MAX];
    Net net;

    net_init(&net);
    net.options.preempt = true;
    source_connect(&net.source, fds);
    CHECK(!postcopy_net_start(&net.mis, &net.options, fds, &error));
    CHECK(strstr(error->message, "there is no preempt channel, and preemption is on"));
    CHECK(source_join(&net.source));
    return net_destroy(&net);
}

BOUNDED_TEST(test_guests_that_cannot_be_loaded, refused_guests, refused_without_preempt_channel)

/* Each call of set-up fails in turn, until none is left to fail. */
static bool setup_fails(void)
{
    for (unsigned call = 1;; call++) {
        g_autoptr(GError) error = NULL;
        int fds[RAM_CHANNEL_MAX];
        FailOps fail;
        Net net;

        net_init(&net);
        fail_ops_init(&fail, call, ENOMEM);
        net.mis.uffd_ops = &fail.ops;
        net.source.preempt = net.options.preempt = true;
        source_connect(&net.source, fds);
        net.net = postcopy_net_start(&net.mis, &net.options, fds, &error);
        if (net.net) {
            /* One way to open a userfaultfd failed, and another one did not. */
            postcopy_net_cancel(net.net);
            postcopy_net_end(net.net, NULL);
            CHECK(source_join(&net.source));
            CHECK(net_destroy(&net));
            if (fail.calls < call) {
                CHECK(call > 15);
                return true;
            }
            continue;
        }
        CHECK(error->message[0] != '\0');
        CHECK(source_join(&net.source));
        CHECK(fail_ops_all_unmapped(&fail));
        for (unsigned i = 0; i < BLOCKS; i++) {
            /* Not poisoned, and nobody waits for it. */
            CHECK(touch(net.blocks[i].host, 0));
        }
        CHECK(net_destroy(&net));
    }
}

BOUNDED_TEST(test_setup_gives_everything_back, setup_fails)

static int copy_fails(const UffdOps *ops, int uffd, struct uffdio_copy *copy)
{
    (void)ops;
    (void)uffd;
    (void)copy;
    return -ENOMEM;
}

static bool placing_fails(void)
{
    UffdOps ops = *uffd_ops_real();
    Net net;
    Touch waits;

    net_init(&net);
    ops.copy = copy_fails;
    net.mis.uffd_ops = &ops;
    net.source.push_after = UINT32_MAX;
    CHECK(net_start(&net));
    touch_start(&waits, net.blocks[0].host + AT(1));
    toucher_join(&waits.toucher);
    CHECK(waits.toucher.signal == SIGBUS);
    CHECK(ends_with(&net, "block 'block-0': page 0x1 cannot be placed: Cannot allocate memory"));
    CHECK(source_join(&net.source));
    CHECK(net.source.shut == 1);
    return net_destroy(&net);
}

BOUNDED_TEST(test_a_page_that_cannot_be_placed, placing_fails)

/* The real operations, but a poll() or a read() of the fault thread fails, once it is told to. */
typedef struct FailPoll {
    UffdOps ops;
    bool fail_poll; /* all three: atomic */
    bool fail_pause;
    bool fail_read;
} FailPoll;

static int failing_poll(const UffdOps *ops, struct pollfd *fds, nfds_t n_fds)
{
    const FailPoll *self = (const FailPoll *)ops;
    int result;

    if (n_fds == 3 && __atomic_load_n(&self->fail_pause, __ATOMIC_RELAXED)) {
        return -ENOMEM;
    }
    result = uffd_ops_real()->poll(ops, fds, n_fds);
    return n_fds == 2 && __atomic_load_n(&self->fail_poll, __ATOMIC_RELAXED) ? -ENOMEM : result;
}

static ssize_t failing_read(const UffdOps *ops, int uffd, struct uffd_msg *messages, size_t length)
{
    return __atomic_load_n(&((const FailPoll *)ops)->fail_read, __ATOMIC_RELAXED)
               ? -EIO
               : uffd_ops_real()->read(ops, uffd, messages, length);
}

static void fail_poll_init(FailPoll *self, Net *net)
{
    *self = (FailPoll){ .ops = *uffd_ops_real() };
    self->ops.poll = failing_poll;
    self->ops.read = failing_read;
    net->mis.uffd_ops = &self->ops;
}

/* The fault thread leaves; nobody is left asleep. */
static bool fault_thread_leaves(void)
{
    FailPoll fail;
    Net net;
    Touch waits;

    net_init(&net);
    fail_poll_init(&fail, &net);
    net.source.push_after = UINT32_MAX;
    CHECK(net_start(&net));
    __atomic_store_n(&fail.fail_poll, true, __ATOMIC_RELAXED);
    touch_start(&waits, net.blocks[0].host + AT(1));
    toucher_join(&waits.toucher);
    CHECK(waits.toucher.signal == SIGBUS);
    CHECK(ends_with(&net, "polling userfaultfd: Cannot allocate memory"));
    CHECK(source_join(&net.source));
    return net_destroy(&net);
}

/* In a pause, by a poll() or by a read() that fails. */
static bool fault_thread_leaves_pause(bool by_read)
{
    FailPoll fail;
    Net net;
    Touch waits, other;

    net_init(&net);
    net.mis.remove_events = by_read;
    fail_poll_init(&fail, &net);
    net.source.push_after = UINT32_MAX;
    CHECK(net_start(&net));
    fail.fail_pause = !by_read;
    CHECK(source_break(&net.source));
    wait_for_break(&net, 1);
    touch_start(&waits, net.blocks[0].host + AT(1));
    wait_for_point(&net, LAZY_POINT_PAUSED, 1);
    __atomic_store_n(&fail.fail_read, true, __ATOMIC_RELAXED);
    touch_start(&other, net.blocks[0].host + AT(2));
    toucher_join(&waits.toucher);
    toucher_join(&other.toucher);
    CHECK(waits.toucher.signal == SIGBUS);
    CHECK(other.toucher.signal == SIGBUS);
    CHECK(ends_with(&net, "userfaultfd"));
    return net_destroy(&net);
}

static bool fault_thread_leaves_by_poll(void)
{
    return fault_thread_leaves_pause(false);
}

static bool fault_thread_leaves_by_read(void)
{
    return fault_thread_leaves_pause(true);
}

BOUNDED_TEST(test_the_fault_thread_has_to_leave, fault_thread_leaves, fault_thread_leaves_by_poll,
             fault_thread_leaves_by_read)

static bool cancelled_after_the_end(void)
{
    Net net;

    net_init(&net);
    CHECK(net_start(&net));
    postcopy_net_wait(net.net);
    postcopy_net_cancel(net.net);
    return net_finish(&net) && net_destroy(&net);
}

static bool cancelled_in_a_pause(void)
{
    Net net;
    Touch waits;

    net_init(&net);
    net.source.push_after = UINT32_MAX;
    net.source.silent = true;
    CHECK(net_start(&net));
    CHECK(source_break(&net.source));
    wait_for_break(&net, 1);
    touch_start(&waits, net.blocks[0].host + AT(1));
    wait_for_point(&net, LAZY_POINT_PAUSED, 1);
    postcopy_net_cancel(net.net);
    postcopy_net_cancel(net.net);
    toucher_join(&waits.toucher);
    CHECK(waits.toucher.signal == SIGBUS);
    CHECK(ends_with(&net, "cancelled"));
    return net_destroy(&net);
}

BOUNDED_TEST(test_cancel, cancelled_after_the_end, cancelled_in_a_pause)

/* The fault thread cannot get its request off: it holds the return path. */
static bool cancelled_while_sending(void)
{
    g_autoptr(GError) error = NULL;
    int pair[2];
    int fds[RAM_CHANNEL_MAX] = { -1, -1 };
    Net net;
    Touch waits;

    net_init(&net);
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
    while (send(pair[1], net.wanted[0], 64, MSG_DONTWAIT) > 0) {
    }
    fds[0] = pair[1];
    net.net = postcopy_net_start(&net.mis, &net.options, fds, &error);
    CHECK(net.net);
    touch_start(&waits, net.blocks[0].host + AT(1));
    wait_for_point(&net, LAZY_POINT_FAULT, 1);
    toucher_wait_asleep(&waits.toucher);
    postcopy_net_cancel(net.net);
    toucher_join(&waits.toucher);
    CHECK(waits.toucher.signal == SIGBUS);
    CHECK(ends_with(&net, "cancelled"));
    close(pair[0]);
    return net_destroy(&net);
}

static void cancel_body(Toucher *toucher)
{
    postcopy_net_cancel(((Net *)(void *)((Touch *)toucher)->byte)->net);
}

static void wait_body(Toucher *toucher)
{
    postcopy_net_wait(((Net *)(void *)((Touch *)toucher)->byte)->net);
}

/*
 * Who ends the load must not unregister RAM while somebody is still poisoning
 * it: the rest would read as zero.
 */
static bool ended_while_failing(void)
{
    Net net;
    Touch cancels = { .toucher.body = cancel_body };
    Touch waits = { .toucher.body = wait_body };

    net_init(&net);
    net.source.push_after = UINT32_MAX;
    CHECK(net_start(&net));
    CHECK(source_break(&net.source));
    wait_for_break(&net, 1);
    cancels.byte = waits.byte = (uint8_t *)&net;
    net.hold_point = LAZY_POINT_FAILED;
    hold_thread(&net, true);
    toucher_start(&cancels.toucher);
    wait_for_point(&net, LAZY_POINT_FAILED, 1);
    toucher_start(&waits.toucher);
    toucher_wait_asleep(&waits.toucher);
    CHECK(!toucher_is_done(&waits.toucher));
    hold_thread(&net, false);
    toucher_join(&cancels.toucher);
    toucher_join(&waits.toucher);
    CHECK(check_poisoned(&net, 0));
    CHECK(ends_with(&net, "cancelled"));
    return net_destroy(&net);
}

BOUNDED_TEST(test_nobody_is_outrun, cancelled_while_sending, ended_while_failing)

/* The source takes nothing any more, but does not say that it is gone. */
static bool return_path_is_closed(void)
{
    Net net;
    Touch waits;
    int fd;

    net_init(&net);
    net.options.pause_timeout_ms = 0;
    CHECK(start_raw(&net, &fd));
    wait_for_reads(&net, 1);
    shutdown(fd, SHUT_RD);
    touch_start(&waits, net.blocks[0].host + AT(1));
    toucher_join(&waits.toucher);
    CHECK(waits.toucher.signal == SIGBUS);
    CHECK(ends_with(&net, "the return path: writing failed: Broken pipe"));
    close(fd);
    return net_destroy(&net);
}

/* The same, of what the reader itself has to answer. */
static bool answers_cannot_be_sent(const char *command, size_t length, bool recovering)
{
    Net net;
    int fd, pair[2];
    int fds[RAM_CHANNEL_MAX] = { -1, -1 };

    net_init(&net);
    net.options.pause_timeout_ms = recovering ? LONG_MS : 0;
    CHECK(start_raw(&net, &fd));
    if (recovering) {
        close(fd);
        wait_for_break(&net, 1);
        CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
        fd = pair[0];
        fds[0] = pair[1];
        CHECK(postcopy_net_resume(net.net, fds, NULL));
    }
    shutdown(fd, SHUT_RD);
    CHECK(write_raw(fd, command, length));
    wait_for_break(&net, recovering ? 2 : 1);
    CHECK(strstr(net.reason, "the return path: writing failed: Broken pipe"));
    postcopy_net_cancel(net.net);
    postcopy_net_end(net.net, NULL);
    close(fd);
    return net_destroy(&net);
}

static bool no_answer_can_be_sent(void)
{
    return answers_cannot_be_sent("\x08\0\x02\0\4\1\2\3\4", 9, false) &&
           answers_cannot_be_sent("\x08\0\x0a\0\x08\7block-1", 13, true) &&
           answers_cannot_be_sent("\x08\0\x09\0\0", 5, true);
}

BOUNDED_TEST(test_the_return_path_is_closed, return_path_is_closed, no_answer_can_be_sent)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_nobody_touches_comes),
        cmocka_unit_test(test_each_page_is_asked_for_once),
        cmocka_unit_test(test_preempt_channel),
        cmocka_unit_test(test_host_pages_of_several_target_pages),
        cmocka_unit_test_setup_teardown(test_huge_host_pages, hugetlb_pool_set_up,
                                        hugetlb_pool_tear_down),
        cmocka_unit_test(test_a_request_names_its_block_once),
        cmocka_unit_test(test_many_threads_ask_once),
        cmocka_unit_test(test_the_main_channel_breaks_at_every_byte),
        cmocka_unit_test(test_the_preempt_channel_breaks_at_every_byte),
        cmocka_unit_test(test_the_return_path_breaks_at_every_byte),
        cmocka_unit_test(test_the_recovery_breaks_at_every_byte),
        cmocka_unit_test(test_all_that_was_asked_for_is_asked_again),
        cmocka_unit_test(test_many_breaks),
        cmocka_unit_test(test_a_large_bitmap),
        cmocka_unit_test(test_a_dead_source),
        cmocka_unit_test(test_a_silent_source),
        cmocka_unit_test(test_a_page_that_never_comes),
        cmocka_unit_test(test_a_page_that_comes_twice),
        cmocka_unit_test(test_discarded_pages_stay_zero),
        cmocka_unit_test(test_discarded_pages_need_no_channel),
        cmocka_unit_test(test_discard_in_a_pause),
        cmocka_unit_test(test_commands_are_answered),
        cmocka_unit_test(test_garbage_breaks_the_channel),
        cmocka_unit_test(test_channels_that_cannot_be_used),
        cmocka_unit_test(test_guests_that_cannot_be_loaded),
        cmocka_unit_test(test_setup_gives_everything_back),
        cmocka_unit_test(test_a_page_that_cannot_be_placed),
        cmocka_unit_test(test_the_fault_thread_has_to_leave),
        cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_nobody_is_outrun),
        cmocka_unit_test(test_the_return_path_is_closed),
    };

    return pagewise_run("postcopy-net", tests);
}

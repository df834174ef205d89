/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * See postcopy-net.h. Who holds a pair of channels has a reference on it, so
 * that a descriptor is closed when nobody uses it any more, and not before:
 * a number that was closed under a thread could be another file's by then.
 *
 *     starting --> active --break--> paused --resume--> recovering
 *                    ^                                      |
 *                    +----------- POSTCOPY_RESUME ----------+
 *
 * and from each of them to failed, and from active or recovering to ended.
 */
#include "loader/postcopy-net.h"

#include "loader/error.h"
#include "loader/mapped-ram.h"
#include "loader/return-path.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define SHUT_SECONDS 1

typedef enum PostcopyState {
    POSTCOPY_STARTING, /* nothing is read yet */
    POSTCOPY_ACTIVE,
    POSTCOPY_PAUSED,
    POSTCOPY_RECOVER, /* new channels, POSTCOPY_RESUME did not come yet */
    POSTCOPY_FAILED,
    POSTCOPY_ENDED, /* all channels ended */
} PostcopyState;

/* The channels of one connection; counted references, g_atomic_rc_box. */
typedef struct Pair {
    int fds[RAM_CHANNEL_MAX]; /* -1: none */
    ReturnPath return_path;   /* under rp_lock */
} Pair;

/* Who reads a channel. */
typedef struct Reader {
    PostcopyNet *net;
    LazyThread name;
    bool have_thread;
    pthread_t thread;
    Pair *pair; /* that it reads; NULL: none yet */
    PageStream stream;
} Reader;

struct PostcopyNet {
    MigrationIncomingState *mis; /* borrowed */
    PostcopyNetOptions options;
    unsigned n_channels;
    Reader *readers[RAM_CHANNEL_MAX];
    int resume_event_fd; /* tells the fault thread that it need not wait any more */
    bool have_set_up;

    pthread_mutex_t rp_lock; /* of said_shut; one message at a time; taken before lock */
    bool said_shut;
    pthread_mutex_t lock;   /* of all below */
    pthread_cond_t changed; /* state, pair */
    PostcopyState state;
    Pair *pair;            /* the newest */
    unsigned failing;      /* threads that are giving pages up */
    unsigned ended;        /* channels of it */
    gint64 deadline;       /* paused: when to give up; monotonic, microseconds */
    GTree *page_requested; /* host addresses of pages that did not come yet */
    GError *break_reason;  /* of the last break */
    GError *first_error;
};

static const UffdOps *ops_of(const PostcopyNet *self)
{
    return self->mis->uffd_ops ? self->mis->uffd_ops : uffd_ops_real();
}

/* Channels. */

static void pair_clear(gpointer memory)
{
    Pair *pair = memory;

    for (unsigned i = 0; i < RAM_CHANNEL_MAX; i++) {
        if (pair->fds[i] >= 0) {
            close(pair->fds[i]);
        }
    }
}

static Pair *pair_ref(Pair *pair)
{
    return g_atomic_rc_box_acquire(pair);
}

static void pair_unref(Pair *pair)
{
    g_atomic_rc_box_release_full(pair, pair_clear);
}

G_DEFINE_AUTOPTR_CLEANUP_FUNC(Pair, pair_unref)

/* Who reads or writes there stops. */
static void pair_shut_down(const Pair *pair)
{
    for (unsigned i = 0; i < RAM_CHANNEL_MAX; i++) {
        if (pair->fds[i] >= 0) {
            shutdown(pair->fds[i], SHUT_RDWR);
        }
    }
}

/* A blocking socket, whatever it was, with the source's time-out. */
static bool prepare_fd(const PostcopyNetOptions *options, int fd, GError **error)
{
    struct timeval timeout = {
        .tv_sec = options->source_timeout_ms / 1000,
        .tv_usec = options->source_timeout_ms % 1000 * 1000,
    };
    int flags = fcntl(fd, F_GETFL);

    if (flags < 0 || fcntl(fd, F_SETFL, flags & ~O_NONBLOCK) < 0 ||
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)) < 0 ||
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout)) < 0) {
        g_set_error(error, MAPPED_RAM_ERROR, MAPPED_RAM_ERROR_IO,
                    "the channel to the source: descriptor %d is no socket that can be used: %s",
                    fd, g_strerror(errno));
        return false;
    }
    return true;
}

/* Takes @fds in any case. */
static Pair *pair_new(const PostcopyNetOptions *options, const int fds[RAM_CHANNEL_MAX],
                      GError **error)
{
    g_autoptr(Pair) pair = g_atomic_rc_box_new0(Pair);

    for (unsigned i = 0; i < RAM_CHANNEL_MAX; i++) {
        pair->fds[i] = fds[i];
    }
    pair->return_path.fd = fds[RAM_CHANNEL_PRECOPY];
    if ((fds[RAM_CHANNEL_POSTCOPY] >= 0) != options->preempt) {
        g_set_error(error, MAPPED_RAM_ERROR, MAPPED_RAM_ERROR_MISMATCH,
                    "the channels to the source: there is %s preempt channel, and preemption is %s",
                    options->preempt ? "no" : "a", options->preempt ? "on" : "off");
        return NULL;
    }
    if (!prepare_fd(options, fds[RAM_CHANNEL_PRECOPY], error) ||
        (options->preempt && !prepare_fd(options, fds[RAM_CHANNEL_POSTCOPY], error))) {
        return NULL;
    }
    return g_steal_pointer(&pair);
}

/* Failure and breaks. */

/* Under lock. */
static void set_state(PostcopyNet *self, PostcopyState state)
{
    self->state = state;
    pthread_cond_broadcast(&self->changed);
    eventfd_write(self->resume_event_fd, 1);
}

static void change_state(PostcopyNet *self, PostcopyState state)
{
    pthread_mutex_lock(&self->lock);
    set_state(self, state);
    pthread_mutex_unlock(&self->lock);
}

static bool is_over(const PostcopyNet *self)
{
    return self->state == POSTCOPY_FAILED || self->state == POSTCOPY_ENDED;
}

/* A source that is kept from reading by what it has to write is not waited for. */
static void say_shut(PostcopyNet *self, uint32_t value)
{
    struct timespec deadline;

    clock_gettime(CLOCK_REALTIME, &deadline);
    deadline.tv_sec += SHUT_SECONDS;
    if (pthread_mutex_timedlock(&self->rp_lock, &deadline) != 0) {
        return;
    }
    if (!self->said_shut) {
        self->said_shut = true;
        migrate_send_rp_shut(&self->pair->return_path, value);
    }
    pthread_mutex_unlock(&self->rp_lock);
}

/* Under lock. Takes @error, which may be NULL: then what broke the channels is the reason. */
static void keep_error(PostcopyNet *self, GError *error)
{
    if (!error) {
        error = g_error_copy(self->break_reason);
        g_prefix_error(&error, "the source is gone, and no new channel came within %u ms: ",
                       self->options.pause_timeout_ms);
    }
    if (self->first_error) {
        g_error_free(error);
    } else {
        self->first_error = error;
    }
}

static void give_up_all(MigrationIncomingState *mis, LazyThread thread)
{
    for (unsigned i = 0; i < mis->n_blocks; i++) {
        if (mis->blocks[i].registered) {
            postcopy_give_up_block(mis, thread, &mis->blocks[i], true);
        }
    }
}

/*
 * Takes @error; see keep_error(). Nobody shall unregister RAM before all of it
 * is poisoned: so those who do are counted.
 */
static void postcopy_fail(PostcopyNet *self, LazyThread thread, GError *error)
{
    pthread_mutex_lock(&self->lock);
    keep_error(self, error);
    set_state(self, POSTCOPY_FAILED);
    self->failing++;
    pthread_mutex_unlock(&self->lock);
    give_up_all(self->mis, thread);
    say_shut(self, 1);
    pthread_mutex_lock(&self->lock);
    pair_shut_down(self->pair);
    self->failing--;
    pthread_cond_broadcast(&self->changed);
    pthread_mutex_unlock(&self->lock);
}

static void postcopy_fault_thread_failed(MigrationIncomingState *mis, bool ends, GError *error)
{
    (void)ends;
    postcopy_fail(mis->page_fault_opaque, LAZY_FAULT_THREAD, error);
}

/* Takes @reason. A pair breaks once, and only as long as it is the newest. */
static void break_pair(PostcopyNet *self, const Pair *pair, GError *reason)
{
    bool breaks;

    pthread_mutex_lock(&self->lock);
    breaks =
        self->pair == pair && (self->state == POSTCOPY_ACTIVE || self->state == POSTCOPY_RECOVER);
    if (breaks) {
        g_clear_error(&self->break_reason);
        self->break_reason = g_error_copy(reason);
        self->deadline = g_get_monotonic_time() + (gint64)self->options.pause_timeout_ms * 1000;
        set_state(self, POSTCOPY_PAUSED);
        pair_shut_down(pair);
    }
    pthread_mutex_unlock(&self->lock);
    if (breaks && self->options.paused) {
        self->options.paused(self->options.opaque, reason);
    }
    g_error_free(reason);
}

static GError *sending_failed(int result)
{
    return g_error_new(MAPPED_RAM_ERROR, MAPPED_RAM_ERROR_IO, "the return path: writing failed: %s",
                       g_strerror(-result));
}

static bool check_sent(int result, GError **error)
{
    if (result < 0) {
        g_propagate_error(error, sending_failed(result));
    }
    return result >= 0;
}

/* Asking for pages: the fault thread. */

static gint compare_addresses(gconstpointer a, gconstpointer b, gpointer opaque)
{
    (void)opaque;
    return a < b ? -1 : a > b;
}

static void *host_of(const RAMBlock *rb, uint64_t page)
{
    return rb->host + page * rb->page_size;
}

static void send_request(PostcopyNet *self, Pair *pair, RAMBlock *rb, ram_addr_t offset)
{
    int result;

    pthread_mutex_lock(&self->rp_lock);
    result = migrate_send_rp_req_pages(&pair->return_path, rb, offset);
    pthread_mutex_unlock(&self->rp_lock);
    if (result < 0) {
        break_pair(self, pair, sending_failed(result));
    }
}

/*
 * Notes that the page is wanted. Returns the pair on which the caller has to
 * ask for it: NULL if somebody did, or there is none that can be asked; then
 * whoever resumes will.
 */
static Pair *note_request(PostcopyNet *self, RAMBlock *rb, uint64_t page)
{
    gpointer key = host_of(rb, page);
    Pair *pair = NULL;

    pthread_mutex_lock(&self->lock);
    if (page_is_pending(rb, page) && !g_tree_lookup(self->page_requested, key)) {
        g_tree_insert(self->page_requested, key, rb);
        if (self->state == POSTCOPY_STARTING || self->state == POSTCOPY_ACTIVE) {
            pair = pair_ref(self->pair);
        }
    }
    pthread_mutex_unlock(&self->lock);
    return pair;
}

static bool is_paused(PostcopyNet *self)
{
    eventfd_t ignored;
    bool paused;

    /* Before the look at the state: a change after it is not missed. */
    eventfd_read(self->resume_event_fd, &ignored);
    pthread_mutex_lock(&self->lock);
    paused = self->state == POSTCOPY_PAUSED || self->state == POSTCOPY_RECOVER;
    pthread_mutex_unlock(&self->lock);
    return paused;
}

/* False: the fault thread has to leave. */
static bool wait_while_paused(PostcopyNet *self, RAMBlock *rb, uint64_t page)
{
    bool stays = true;

    if (!is_paused(self)) {
        return true;
    }
    lazy_point(self->mis, LAZY_POINT_PAUSED, LAZY_FAULT_THREAD, rb, page);
    do {
        stays = postcopy_pause_fault_thread(self->mis, self->resume_event_fd);
    } while (stays && is_paused(self));
    lazy_point(self->mis, LAZY_POINT_RESUMED, LAZY_FAULT_THREAD, rb, page);
    return stays;
}

int postcopy_page_fault_handler(MigrationIncomingState *mis, RAMBlock *rb, ram_addr_t offset,
                                void *fault_address)
{
    PostcopyNet *self = mis->page_fault_opaque;
    uint64_t page = offset / rb->page_size;
    g_autoptr(Pair) pair = NULL;

    (void)fault_address;
    lazy_point(mis, LAZY_POINT_FAULT, LAZY_FAULT_THREAD, rb, page);
    if (ramblock_recv_bitmap_test(rb, page)) {
        postcopy_answer_again(mis, rb, page);
        return 0;
    }
    pair = note_request(self, rb, page);
    if (pair) {
        send_request(self, pair, rb, offset);
    }
    if (!wait_while_paused(self, rb, page)) {
        return -1;
    }
    lazy_point(mis, LAZY_POINT_REQUESTED, LAZY_FAULT_THREAD, rb, page);
    return 0;
}

/* What a channel brings: its reader. */

static ssize_t read_channel(void *opaque, uint64_t position, void *buffer, size_t length)
{
    Reader *reader = opaque;
    int fd = reader->pair->fds[reader->stream.channel];
    ssize_t result;

    lazy_point(reader->net->mis, LAZY_POINT_CHANNEL_READ, reader->name, NULL, position);
    do {
        result = recv(fd, buffer, length, 0);
    } while (result < 0 && errno == EINTR);
    if (result < 0) {
        /* EAGAIN is what the time-out gives. */
        return errno == EAGAIN ? -ETIMEDOUT : -errno;
    }
    return result;
}

static void forget_request(PostcopyNet *self, const RAMBlock *rb, uint64_t page)
{
    pthread_mutex_lock(&self->lock);
    g_tree_remove(self->page_requested, host_of(rb, page));
    pthread_mutex_unlock(&self->lock);
}

/* Takes the page if nobody has, else drops what came: rule W19. */
static bool receive_page(void *opaque, RAMBlock *rb, uint64_t page, const void *from,
                         GError **error)
{
    Reader *reader = opaque;
    MigrationIncomingState *mis = reader->net->mis;
    int result;

    if (!claim_page(rb, page)) {
        return true;
    }
    lazy_point(mis, LAZY_POINT_CLAIMED, reader->name, rb, page);
    result = postcopy_place_pages(mis, reader->name, rb, page, 1, from);
    forget_request(reader->net, rb, page);
    if (result == 0) {
        return true;
    }
    /* A channel cannot mend that. */
    postcopy_give_up_pages(mis, reader->name, rb, page, 1);
    g_set_error(error, MAPPED_RAM_ERROR, MAPPED_RAM_ERROR_NO_UFFD,
                "block '%s': page 0x%" PRIx64 " cannot be placed: %s", rb->idstr, page,
                g_strerror(-result));
    postcopy_fail(reader->net, reader->name, g_error_copy(*error));
    return false;
}

static bool answer_ping(void *opaque, uint32_t value, GError **error)
{
    Reader *reader = opaque;
    int result;

    pthread_mutex_lock(&reader->net->rp_lock);
    result = migrate_send_rp_pong(&reader->pair->return_path, value);
    pthread_mutex_unlock(&reader->net->rp_lock);
    return check_sent(result, error);
}

static bool is_recovering(Reader *reader)
{
    PostcopyNet *self = reader->net;
    bool recovering;

    pthread_mutex_lock(&self->lock);
    recovering = self->state == POSTCOPY_RECOVER && self->pair == reader->pair;
    pthread_mutex_unlock(&self->lock);
    return recovering;
}

static bool answer_recv_bitmap(void *opaque, RAMBlock *rb, GError **error)
{
    Reader *reader = opaque;
    int result;

    if (!is_recovering(reader)) {
        return true;
    }
    pthread_mutex_lock(&reader->net->rp_lock);
    result = migrate_send_rp_recv_bitmap(&reader->pair->return_path, rb,
                                         reader->net->mis->target_page_size);
    pthread_mutex_unlock(&reader->net->rp_lock);
    return check_sent(result, error);
}

typedef struct WantedPage {
    RAMBlock *rb;
    ram_addr_t offset;
} WantedPage;

static gboolean append_wanted(gpointer key, gpointer value, gpointer opaque)
{
    RAMBlock *rb = value;
    WantedPage wanted = { .rb = rb, .offset = (ram_addr_t)((uint8_t *)key - rb->host) };

    if (page_is_pending(rb, wanted.offset / rb->page_size)) {
        g_array_append_val((GArray *)opaque, wanted);
    }
    return FALSE;
}

/*
 * From here on the fault thread asks for itself: so what was noted until now,
 * and not a page more, has to be asked for by us. NULL: not in a recovery.
 */
static GArray *go_on(PostcopyNet *self, const Pair *pair)
{
    GArray *wanted = NULL;

    pthread_mutex_lock(&self->lock);
    if (self->state == POSTCOPY_RECOVER && self->pair == pair) {
        wanted = g_array_new(FALSE, FALSE, sizeof(WantedPage));
        g_tree_foreach(self->page_requested, append_wanted, wanted);
        set_state(self, POSTCOPY_ACTIVE);
    }
    pthread_mutex_unlock(&self->lock);
    return wanted;
}

/* Under rp_lock, so that no new request comes before these. */
static int migrate_send_rp_req_pages_pending(PostcopyNet *self, Pair *pair)
{
    g_autoptr(GArray) wanted = NULL;
    int result = migrate_send_rp_resume_ack(&pair->return_path, MIGRATION_RESUME_ACK_VALUE);

    if (result == 0) {
        wanted = go_on(self, pair);
    }
    for (guint i = 0; wanted && i < wanted->len && result == 0; i++) {
        WantedPage page = g_array_index(wanted, WantedPage, i);

        result = migrate_send_rp_req_pages(&pair->return_path, page.rb, page.offset);
    }
    return result;
}

static bool answer_resume(void *opaque, GError **error)
{
    Reader *reader = opaque;
    int result;

    if (!is_recovering(reader)) {
        return true;
    }
    pthread_mutex_lock(&reader->net->rp_lock);
    result = migrate_send_rp_req_pages_pending(reader->net, reader->pair);
    pthread_mutex_unlock(&reader->net->rp_lock);
    return check_sent(result, error);
}

static const PageStreamOps stream_ops = {
    .read = read_channel,
    .page = receive_page,
    .ping = answer_ping,
    .recv_bitmap = answer_recv_bitmap,
    .resume = answer_resume,
};

/* Rule L4: nobody is left to ask. */
static bool check_all_received(const PostcopyNet *self, GError **error)
{
    for (unsigned i = 0; i < self->mis->n_blocks; i++) {
        const RAMBlock *rb = &self->mis->blocks[i];

        for (uint64_t page = 0; page < ram_block_lazy_pages(rb); page++) {
            if (page_is_pending(rb, page)) {
                g_set_error(error, MAPPED_RAM_ERROR, MAPPED_RAM_ERROR_INVALID,
                            "block '%s': page 0x%" PRIx64 " at address 0x%" PRIx64
                            " never came, and the channels have ended (rule L4)",
                            rb->idstr, page, page * rb->page_size);
                return false;
            }
        }
    }
    return true;
}

static void channel_ended(Reader *reader)
{
    PostcopyNet *self = reader->net;
    GError *error = NULL;
    bool all;

    pthread_mutex_lock(&self->lock);
    all = self->pair == reader->pair && !is_over(self) && self->state != POSTCOPY_PAUSED &&
          ++self->ended == self->n_channels;
    pthread_mutex_unlock(&self->lock);
    if (all && !check_all_received(self, &error)) {
        postcopy_fail(self, reader->name, error);
    } else if (all) {
        change_state(self, POSTCOPY_ENDED);
    }
    lazy_point(self->mis, LAZY_POINT_CHANNEL_ENDED, reader->name, NULL, reader->stream.position);
}

/* Under lock: until there is something to read, or nothing ever will be. */
static bool wait_for_pair(PostcopyNet *self, const Pair *old)
{
    while (!is_over(self) && (self->pair == old || self->state == POSTCOPY_STARTING)) {
        struct timespec deadline = {
            .tv_sec = self->deadline / G_USEC_PER_SEC,
            .tv_nsec = self->deadline % G_USEC_PER_SEC * 1000,
        };

        if (self->state != POSTCOPY_PAUSED) {
            pthread_cond_wait(&self->changed, &self->lock);
        } else if (g_get_monotonic_time() >= self->deadline) {
            return false;
        } else {
            pthread_cond_timedwait(&self->changed, &self->lock, &deadline);
        }
    }
    return true;
}

/* Puts the next pair in place of the one that the reader has. False: there is none. */
static bool take_next_pair(Reader *reader)
{
    PostcopyNet *self = reader->net;
    Pair *old = reader->pair;
    bool in_time;

    pthread_mutex_lock(&self->lock);
    in_time = wait_for_pair(self, old);
    if (!in_time) {
        set_state(self, POSTCOPY_FAILED);
    }
    reader->pair = in_time && !is_over(self) ? pair_ref(self->pair) : NULL;
    pthread_mutex_unlock(&self->lock);
    if (old) {
        pair_unref(old);
    }
    if (!in_time) {
        postcopy_fail(self, reader->name, NULL);
    }
    return reader->pair;
}

static void *postcopy_ram_listen_thread(void *opaque)
{
    Reader *reader = opaque;

    while (take_next_pair(reader)) {
        GError *error = NULL;

        if (page_stream_run(&reader->stream, &error)) {
            channel_ended(reader);
        } else {
            break_pair(reader->net, reader->pair, error);
        }
    }
    return NULL;
}

/* Begin. */

bool postcopy_ram_incoming_setup(MigrationIncomingState *mis, bool preempt, GError **error)
{
    return uffd_setup_incoming(mis, postcopy_page_fault_handler, preempt ? RAM_CHANNEL_MAX : 1,
                               error);
}

static bool start_block(const PostcopyNet *self, RAMBlock *rb, GError **error)
{
    if (!postcopy_check_block(rb, error)) {
        return false;
    }
    if (rb->page_size % self->mis->target_page_size || rb->used_length % rb->page_size) {
        g_set_error(error, MAPPED_RAM_ERROR, MAPPED_RAM_ERROR_UNSUPPORTED,
                    "block '%s': used_length 0x%" PRIx64
                    " and host pages of 0x%zx bytes do not fit target pages of 0x%" PRIx64
                    " bytes (rule N1)",
                    rb->idstr, rb->used_length, rb->page_size, self->mis->target_page_size);
        return false;
    }
    return ram_block_lazy_start(rb, rb->used_length, error);
}

static bool start_blocks(const PostcopyNet *self, GError **error)
{
    for (unsigned i = 0; i < self->mis->n_blocks; i++) {
        if (!start_block(self, &self->mis->blocks[i], error)) {
            return false;
        }
    }
    return true;
}

static bool start_reader(PostcopyNet *self, unsigned channel, GError **error)
{
    MigrationIncomingState *mis = self->mis;
    Reader *reader = g_new0(Reader, 1);
    int result;

    self->readers[channel] = reader;
    reader->net = self;
    reader->name = channel == RAM_CHANNEL_PRECOPY ? LAZY_EAGER_THREAD : LAZY_PREEMPT_THREAD;
    reader->stream.blocks = mis->blocks;
    reader->stream.n_blocks = mis->n_blocks;
    reader->stream.target_page_size = mis->target_page_size;
    reader->stream.section_id = self->options.section_id;
    reader->stream.channel = channel;
    reader->stream.ops = &stream_ops;
    reader->stream.opaque = reader;
    reader->stream.page = mis->postcopy_tmp_pages[channel].tmp_huge_page;
    result = ops_of(self)->create_thread(ops_of(self), &reader->thread, postcopy_ram_listen_thread,
                                         reader);
    if (result < 0) {
        g_set_error(error, MAPPED_RAM_ERROR, MAPPED_RAM_ERROR_NO_MEMORY,
                    "the thread that reads the channel cannot be started: %s", g_strerror(-result));
        return false;
    }
    reader->have_thread = true;
    return true;
}

static bool start_readers(PostcopyNet *self, GError **error)
{
    for (unsigned channel = 0; channel < self->n_channels; channel++) {
        if (!start_reader(self, channel, error)) {
            return false;
        }
    }
    return true;
}

static bool open_resume_event(PostcopyNet *self, GError **error)
{
    int result = ops_of(self)->eventfd(ops_of(self), EFD_CLOEXEC | EFD_NONBLOCK);

    if (result < 0) {
        g_set_error(error, MAPPED_RAM_ERROR, MAPPED_RAM_ERROR_NO_UFFD,
                    "the eventfd for new channels: %s", g_strerror(-result));
        return false;
    }
    self->resume_event_fd = result;
    return true;
}

static PostcopyNet *postcopy_net_new(MigrationIncomingState *mis, const PostcopyNetOptions *options)
{
    PostcopyNet *self = g_new0(PostcopyNet, 1);
    pthread_condattr_t attributes;

    /* GLib makes the domain with the first error: not in two threads at once. */
    (void)MAPPED_RAM_ERROR;
    self->mis = mis;
    self->options = *options;
    self->n_channels = options->preempt ? RAM_CHANNEL_MAX : 1;
    self->resume_event_fd = -1;
    pthread_mutex_init(&self->rp_lock, NULL);
    pthread_mutex_init(&self->lock, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&self->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    self->page_requested = g_tree_new_full(compare_addresses, NULL, NULL, NULL);
    mis->page_fault_opaque = self;
    mis->fault_thread_failed = postcopy_fault_thread_failed;
    return self;
}

static void postcopy_net_free(PostcopyNet *self)
{
    for (unsigned i = 0; i < RAM_CHANNEL_MAX; i++) {
        g_free(self->readers[i]);
    }
    if (self->pair) {
        pair_unref(self->pair);
    }
    if (self->resume_event_fd >= 0) {
        close(self->resume_event_fd);
    }
    g_tree_unref(self->page_requested);
    g_clear_error(&self->break_reason);
    g_clear_error(&self->first_error);
    pthread_cond_destroy(&self->changed);
    pthread_mutex_destroy(&self->lock);
    pthread_mutex_destroy(&self->rp_lock);
    self->mis->page_fault_opaque = NULL;
    self->mis->fault_thread_failed = NULL;
    g_free(self);
}

static void forget_blocks(MigrationIncomingState *mis)
{
    for (unsigned i = 0; i < mis->n_blocks; i++) {
        ram_block_lazy_clear(&mis->blocks[i]);
    }
}

static bool set_up(PostcopyNet *self, GError **error)
{
    self->have_set_up = start_blocks(self, error) && open_resume_event(self, error) &&
                        postcopy_ram_incoming_setup(self->mis, self->options.preempt, error);
    return self->have_set_up && start_readers(self, error);
}

PostcopyNet *postcopy_net_start(MigrationIncomingState *mis, const PostcopyNetOptions *options,
                                const int fds[RAM_CHANNEL_MAX], GError **error)
{
    PostcopyNet *self = postcopy_net_new(mis, options);

    self->pair = pair_new(options, fds, error);
    if (self->pair && set_up(self, error)) {
        change_state(self, POSTCOPY_ACTIVE);
        return self;
    }
    if (self->have_set_up) {
        change_state(self, POSTCOPY_FAILED);
        postcopy_net_wait(self);
        uffd_cleanup_incoming(mis, NULL);
    }
    forget_blocks(mis);
    postcopy_net_free(self);
    return NULL;
}

/* Under lock; takes @pair. */
static bool replace_pair(PostcopyNet *self, Pair *pair)
{
    bool paused = self->state == POSTCOPY_PAUSED;

    if (paused) {
        Pair *old = self->pair;

        self->pair = pair;
        self->ended = 0;
        set_state(self, POSTCOPY_RECOVER);
        pair = old;
    }
    pair_unref(pair);
    return paused;
}

bool postcopy_net_resume(PostcopyNet *net, const int fds[RAM_CHANNEL_MAX], GError **error)
{
    Pair *pair = pair_new(&net->options, fds, error);
    bool resumed;

    if (!pair) {
        return false;
    }
    pthread_mutex_lock(&net->lock);
    resumed = replace_pair(net, pair);
    pthread_mutex_unlock(&net->lock);
    if (!resumed) {
        g_set_error(error, MAPPED_RAM_ERROR, MAPPED_RAM_ERROR_MISMATCH,
                    "new channels to the source: those that are there are not broken, or the load "
                    "is over");
    }
    return resumed;
}

/* End. */

void postcopy_net_wait(PostcopyNet *net)
{
    for (unsigned i = 0; i < net->n_channels; i++) {
        Reader *reader = net->readers[i];

        if (reader && reader->have_thread) {
            pthread_join(reader->thread, NULL);
            reader->have_thread = false;
        }
    }
    pthread_mutex_lock(&net->lock);
    while (net->failing > 0) {
        pthread_cond_wait(&net->changed, &net->lock);
    }
    pthread_mutex_unlock(&net->lock);
}

void postcopy_net_cancel(PostcopyNet *net)
{
    bool ended;

    pthread_mutex_lock(&net->lock);
    ended = net->state == POSTCOPY_ENDED;
    pthread_mutex_unlock(&net->lock);
    if (ended) {
        return;
    }
    postcopy_fail(net, LAZY_OTHER_THREAD,
                  g_error_new(MAPPED_RAM_ERROR, MAPPED_RAM_ERROR_IO, "the load was cancelled"));
}

bool postcopy_net_end(PostcopyNet *net, GError **error)
{
    g_autoptr(GError) cleanup = NULL;
    bool ok;

    postcopy_net_wait(net);
    lazy_point(net->mis, LAZY_POINT_BEFORE_QUIT, LAZY_OTHER_THREAD, NULL, 0);
    say_shut(net, net->first_error ? 1 : 0);
    ok = uffd_cleanup_incoming(net->mis, &cleanup);
    if (net->first_error) {
        g_clear_error(&cleanup);
        cleanup = g_steal_pointer(&net->first_error);
        ok = false;
    }
    postcopy_net_free(net);
    if (!ok) {
        g_propagate_error(error, g_steal_pointer(&cleanup));
    }
    return ok;
}

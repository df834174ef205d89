/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The network part of the subject "reference": loader/postcopy-net.h and
 * loader/page-stream.h behind the interface of postcopy.h.
 */
#include "loader/error.h"
#include "loader/postcopy-net.h"
#include "subject/reference.h"

#include <string.h>
#include <unistd.h>

/* Longer than any execution: the property says when nobody will come. */
#define PAUSE_TIMEOUT_MS 3600000

typedef struct ReferencePostcopy {
    SubjectPostcopyLoad *property;
    PostcopyNet *net;
    MigrationIncomingState mis;
    RAMBlock blocks[GUEST_MAX_BLOCKS];
} ReferencePostcopy;

static void set_up_blocks(const Guest *guest, uint8_t *const *host, RAMBlock *blocks)
{
    for (unsigned i = 0; i < guest->n_blocks; i++) {
        blocks[i] = (RAMBlock){
            .host = host ? host[i] : NULL,
            .used_length = guest->blocks[i].used_length,
            .max_length = guest->blocks[i].max_length,
            .page_size = guest->blocks[i].host_page_size,
        };
        g_strlcpy(blocks[i].idstr, guest->blocks[i].idstr, sizeof(blocks[i].idstr));
    }
}

/* The parser alone. */

typedef struct Parse {
    const uint8_t *bytes;
    size_t size;
    size_t piece;
    const SubjectStreamSink *sink;
    RAMBlock blocks[GUEST_MAX_BLOCKS];
    PageStream stream;
} Parse;

static ssize_t parse_read(void *opaque, uint64_t position, void *buffer, size_t length)
{
    Parse *self = opaque;
    size_t n = MIN(MIN(self->piece, length), self->size - position);

    if (n > 0) {
        memcpy(buffer, self->bytes + position, n);
    }
    return (ssize_t)n;
}

static bool parse_page(void *opaque, RAMBlock *rb, uint64_t page, const void *from, GError **error)
{
    Parse *self = opaque;

    (void)error;
    self->sink->page(self->sink->opaque, (unsigned)(rb - self->blocks), page, from);
    return true;
}

static bool parse_ping(void *opaque, uint32_t value, GError **error)
{
    Parse *self = opaque;

    (void)error;
    self->sink->ping(self->sink->opaque, value);
    return true;
}

static bool parse_recv_bitmap(void *opaque, RAMBlock *rb, GError **error)
{
    Parse *self = opaque;

    (void)error;
    self->sink->recv_bitmap(self->sink->opaque, (unsigned)(rb - self->blocks));
    return true;
}

static bool parse_resume(void *opaque, GError **error)
{
    Parse *self = opaque;

    (void)error;
    self->sink->resume(self->sink->opaque);
    return true;
}

static const PageStreamOps parse_ops = {
    .read = parse_read,
    .page = parse_page,
    .ping = parse_ping,
    .recv_bitmap = parse_recv_bitmap,
    .resume = parse_resume,
};

static SubjectStatus parse(const Guest *guest, uint32_t section_id, unsigned channel,
                           const uint8_t *bytes, size_t size, size_t piece,
                           const SubjectStreamSink *sink, GError **error)
{
    g_autofree Parse *self = g_new0(Parse, 1);
    g_autofree uint8_t *page = g_malloc(guest->blocks[0].host_page_size);

    self->bytes = bytes;
    self->size = size;
    self->piece = piece;
    self->sink = sink;
    set_up_blocks(guest, NULL, self->blocks);
    self->stream.blocks = self->blocks;
    self->stream.n_blocks = guest->n_blocks;
    self->stream.target_page_size = guest->target_page_size;
    self->stream.section_id = section_id;
    self->stream.channel = channel;
    self->stream.ops = &parse_ops;
    self->stream.opaque = self;
    self->stream.page = page;
    return page_stream_run(&self->stream, error) ? SUBJECT_ACCEPTED : SUBJECT_REFUSED;
}

/* The whole. */

static void at_point(void *opaque, LazyPoint point, LazyThread thread, RAMBlock *rb, uint64_t page)
{
    static const struct {
        LazyPoint point;
        SubjectPostcopyPoint tells;
    } points[] = {
        { LAZY_POINT_CHANNEL_READ, SUBJECT_POSTCOPY_READS },
        { LAZY_POINT_CHANNEL_ENDED, SUBJECT_POSTCOPY_ENDED },
        { LAZY_POINT_REQUESTED, SUBJECT_POSTCOPY_ASKED },
        { LAZY_POINT_PAUSED, SUBJECT_POSTCOPY_WAITS },
        { LAZY_POINT_RESUMED, SUBJECT_POSTCOPY_GOES_ON },
    };
    ReferencePostcopy *self = opaque;

    for (unsigned i = 0; i < G_N_ELEMENTS(points); i++) {
        if (points[i].point == point) {
            self->property->at_point(self->property->opaque, points[i].tells,
                                     thread == LAZY_PREEMPT_THREAD ? RAM_CHANNEL_POSTCOPY
                                                                   : RAM_CHANNEL_PRECOPY,
                                     rb ? (unsigned)(rb - self->blocks) : 0, page);
        }
    }
}

static void broken(void *opaque, const GError *reason)
{
    ReferencePostcopy *self = opaque;

    self->property->broken(self->property->opaque, reason->message);
}

static SubjectStatus start(SubjectPostcopyLoad *load, const int fds[SUBJECT_CHANNELS],
                           GError **error)
{
    ReferencePostcopy *self = g_new0(ReferencePostcopy, 1);
    PostcopyNetOptions options = {
        .preempt = load->preempt,
        .section_id = load->section_id,
        .pause_timeout_ms = PAUSE_TIMEOUT_MS,
        .paused = broken,
        .opaque = self,
    };
    SubjectStatus status;
    g_autoptr(GError) refusal = NULL;

    self->property = load;
    set_up_blocks(load->guest, load->host, self->blocks);
    self->mis = (MigrationIncomingState){
        .target_page_size = load->guest->target_page_size,
        .blocks = self->blocks,
        .n_blocks = load->guest->n_blocks,
        .at_point = at_point,
        .at_point_opaque = self,
    };
    self->net = postcopy_net_start(&self->mis, &options, fds, &refusal);
    if (self->net) {
        load->running = self;
        return SUBJECT_ACCEPTED;
    }
    g_free(self);
    status = g_error_matches(refusal, MAPPED_RAM_ERROR, MAPPED_RAM_ERROR_NO_UFFD)
                 ? SUBJECT_UNSUPPORTED
                 : SUBJECT_REFUSED;
    g_propagate_error(error, g_steal_pointer(&refusal));
    return status;
}

static ReferencePostcopy *running(const SubjectPostcopyLoad *load)
{
    return load->running;
}

static SubjectStatus resume(SubjectPostcopyLoad *load, const int fds[SUBJECT_CHANNELS],
                            GError **error)
{
    return postcopy_net_resume(running(load)->net, fds, error) ? SUBJECT_ACCEPTED : SUBJECT_REFUSED;
}

static SubjectStatus discard(SubjectPostcopyLoad *load, unsigned block, uint64_t offset,
                             uint64_t length, GError **error)
{
    ReferencePostcopy *self = running(load);

    return postcopy_discard_range(&self->mis, &self->blocks[block], offset, length, error)
               ? SUBJECT_ACCEPTED
               : SUBJECT_REFUSED;
}

static void cancel(SubjectPostcopyLoad *load)
{
    postcopy_net_cancel(running(load)->net);
}

static SubjectStatus end(SubjectPostcopyLoad *load, GError **error)
{
    ReferencePostcopy *self = running(load);
    bool ok = postcopy_net_end(self->net, error);

    for (unsigned i = 0; i < load->guest->n_blocks; i++) {
        ram_block_clear(&self->blocks[i]);
    }
    load->running = NULL;
    g_free(self);
    return ok ? SUBJECT_ACCEPTED : SUBJECT_REFUSED;
}

const SubjectPostcopy reference_postcopy = {
    .parse = parse,
    .start = start,
    .resume = resume,
    .discard = discard,
    .cancel = cancel,
    .end = end,
};

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The network part of the interface by which a loader is put under test: a
 * load whose pages come from a source, over sockets (docs/postcopy-wire.md).
 *
 * The property is the source and the guest: it writes the channels, reads the
 * return path, touches RAM and judges. The subject tells, from its threads,
 * where these have come to, so that the property can wait until all that it
 * gave is used. A hook may block, and must not call the subject.
 */
#ifndef PAGEWISE_SUBJECT_POSTCOPY_H
#define PAGEWISE_SUBJECT_POSTCOPY_H

#include "subject/subject.h"

/* Main channel (the return path is its other direction), preempt channel. */
#define SUBJECT_CHANNELS 2

typedef enum SubjectPostcopyPoint {
    SUBJECT_POSTCOPY_READS, /* all @value bytes of the channel so far are used, more is wanted */
    SUBJECT_POSTCOPY_ENDED, /* its stream has ended, after @value bytes */
    SUBJECT_POSTCOPY_ASKED, /* the fault thread: the source was asked for page @value, or need not be */
    SUBJECT_POSTCOPY_WAITS,   /* the fault thread waits for new channels */
    SUBJECT_POSTCOPY_GOES_ON, /* it has stopped waiting */
} SubjectPostcopyPoint;

/* @channel: of READS and ENDED; @block: of the others. */
typedef void (*SubjectPostcopyHook)(void *opaque, SubjectPostcopyPoint point, unsigned channel,
                                    unsigned block, uint64_t value);

/* One load. Filled by the property; must stay where it is until end(). */
typedef struct SubjectPostcopyLoad {
    const Guest *guest;
    uint8_t *host[GUEST_MAX_BLOCKS]; /* of each block, max_length bytes, whole host pages */
    bool preempt;
    uint32_t section_id;
    SubjectPostcopyHook at_point;
    /* The channels broke, for the reason @message: by the thread that found out. */
    void (*broken)(void *opaque, const char *message);
    void *opaque; /* of both, borrowed */

    void *running; /* the subject's own, between start() and end(); else NULL */
} SubjectPostcopyLoad;

/* What a channel's bytes come to, in their order. */
typedef struct SubjectStreamSink {
    /* @bytes: a host page; NULL: zeroes. */
    void (*page)(void *opaque, unsigned block, uint64_t page, const uint8_t *bytes);
    void (*ping)(void *opaque, uint32_t value);
    void (*recv_bitmap)(void *opaque, unsigned block);
    void (*resume)(void *opaque);
    void *opaque; /* borrowed */
} SubjectStreamSink;

struct SubjectPostcopy {
    /*
     * The channel's parser alone, no kernel: @size bytes, and then the channel
     * ends. @piece: bytes that it is given at once. Accepted: the stream ended
     * before the bytes did.
     */
    SubjectStatus (*parse)(const Guest *guest, uint32_t section_id, unsigned channel,
                           const uint8_t *bytes, size_t size, size_t piece,
                           const SubjectStreamSink *sink, GError **error);

    /*
     * @fds: sockets, -1: none. They are the subject's. Unsupported: there is no
     * userfaultfd here; @error says what helps.
     */
    SubjectStatus (*start)(SubjectPostcopyLoad *load, const int fds[SUBJECT_CHANNELS],
                           GError **error);

    /* New channels in place of broken ones. */
    SubjectStatus (*resume)(SubjectPostcopyLoad *load, const int fds[SUBJECT_CHANNELS],
                            GError **error);

    /* Drops host pages: they read as zero from now on. Bytes. */
    SubjectStatus (*discard)(SubjectPostcopyLoad *load, unsigned block, uint64_t offset,
                             uint64_t length, GError **error);

    /* No new channels will come: the load fails, unless it is over. */
    void (*cancel)(SubjectPostcopyLoad *load);

    /* Waits until the load is over, and ends it. Refused: it failed; @error. */
    SubjectStatus (*end)(SubjectPostcopyLoad *load, GError **error);
};

#endif

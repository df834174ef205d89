/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Network postcopy as docs/postcopy-wire.md says it: two readers, one of a
 * channel from the source, one of the return path, that are given one byte at
 * a time and tell what it completes. No I/O, no threads, and no code shared
 * with any loader.
 */
#ifndef PAGEWISE_MODEL_POSTCOPY_WIRE_H
#define PAGEWISE_MODEL_POSTCOPY_WIRE_H

#include "model/guest.h"

#include <glib.h>

#define WIRE_MAX_HOST_PAGE 4096 /* bytes; larger host pages are not modelled */

/* A rule that refuses, as in the document: "W9". Definitions are in no table. */
typedef struct WireRule {
    const char *id;
    const char *title; /* what a message says of the field */
} WireRule;

/* All rules with the consequence "refuse", in the document's order; *n of them. */
const WireRule *wire_rules(unsigned *n);

typedef enum WireEvent {
    WIRE_NOTHING,     /* more bytes are needed */
    WIRE_PAGE,        /* a host page is complete: block, page, content */
    WIRE_PING,        /* value */
    WIRE_RECV_BITMAP, /* block */
    WIRE_RESUME,
    WIRE_ENDED,   /* the stream; nothing that follows is looked at */
    WIRE_REFUSED, /* rule, block (-1: none), offset of the field; likewise */
    /* Of the return path. */
    WIRE_REQUEST, /* block, page */
    WIRE_PONG,    /* value */
    WIRE_BITMAP,  /* block, bits */
    WIRE_ACK,
    WIRE_SHUT, /* value */
} WireEvent;

typedef struct WireReader WireReader;

/* What the reader must be told before its first byte. */
typedef enum WireKind {
    WIRE_MAIN_CHANNEL,
    WIRE_PREEMPT_CHANNEL,
    WIRE_RETURN_PATH,
} WireKind;

/* @guest is copied; its host pages have WIRE_MAX_HOST_PAGE bytes. */
WireReader *wire_reader_new(WireKind kind, const Guest *guest, uint32_t section_id);
void wire_reader_free(WireReader *reader);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(WireReader, wire_reader_free)

/* The next byte of the channel. */
WireEvent wire_reader_feed(WireReader *reader, uint8_t byte);

/* Is a message begun, or a section, or a host page? */
bool wire_reader_is_between_items(const WireReader *reader);

/* Of the last event. */
unsigned wire_reader_block(const WireReader *reader);
int wire_reader_refused_block(const WireReader *reader);
uint64_t wire_reader_page(const WireReader *reader);
uint32_t wire_reader_value(const WireReader *reader);
const uint8_t *wire_reader_content(const WireReader *reader); /* of the host page */
bool wire_reader_bit(const WireReader *reader, uint64_t target_page);
const char *wire_reader_rule(const WireReader *reader);
uint64_t wire_reader_refused_offset(const WireReader *reader);

/* Bytes that were fed. */
uint64_t wire_reader_position(const WireReader *reader);

#endif

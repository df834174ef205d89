/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * See postcopy-wire.h. A state for each field; a field is a number of bytes of
 * which the last one decides what comes next.
 */
#include "model/postcopy-wire.h"

#include <string.h>

static const WireRule rules[] = {
    { "W1", "is none of EOF, PART, END and COMMAND" },
    { "W2", "is not the RAM section's" },
    { "W3", "is not FOOTER" },
    { "W4", "is not the section's" },
    { "W5", "is no command of this phase" },
    { "W6", "is not the command's" },
    { "W7", "is no block" },
    { "W9", "are none of ZERO, PAGE and EOS" },
    { "W11", "continue, and no page came before" },
    { "W12", "is no block" },
    { "W13", "is not below used_length" },
    { "W14", "is not the host page's next target page" },
    { "W15", "is not 0" },
    { "W16", "end in the midst of a host page" },
    { "W17", "the channel ends before its stream does" },
    { "Q1", "is no message, or has another length" },
    { "Q2", "names no block, and is the first request" },
    { "Q3", "is not one host page of a block" },
    { "Q4", "is asked for twice, or without need" },
    { "Q5", "answers nothing that was asked" },
    { "Q6", "is not the block's bitmap" },
    { "Q7", "is not 1" },
    { "Q8", "does not tell how the load ended" },
    { "L4", "never came, and the channels have ended" },
};

const WireRule *wire_rules(unsigned *n)
{
    *n = G_N_ELEMENTS(rules);
    return rules;
}

typedef enum Field {
    FIELD_TYPE,
    FIELD_SECTION_ID,
    FIELD_WORD,
    FIELD_NAME_LENGTH,
    FIELD_NAME,
    FIELD_FILL,
    FIELD_PAGE,
    FIELD_FOOTER,
    FIELD_FOOTER_ID,
    FIELD_COMMAND,
    FIELD_COMMAND_LENGTH,
    FIELD_PING,
    FIELD_BITMAP_NAME_LENGTH,
    FIELD_BITMAP_NAME,
    /* The return path. */
    FIELD_MESSAGE,
    FIELD_MESSAGE_LENGTH,
    FIELD_NUMBER,
    FIELD_START,
    FIELD_LENGTH,
    FIELD_REQUEST_NAME_LENGTH,
    FIELD_REQUEST_NAME,
    FIELD_ANSWER_NAME_LENGTH,
    FIELD_ANSWER_NAME,
    FIELD_BITMAP_SIZE,
    FIELD_BITS,
    FIELD_END_MARK,
    /* Nothing more is read. */
    FIELD_NONE,
} Field;

/* From the document. */
enum { EOF_BYTE = 0x00, PART = 0x02, END = 0x03, COMMAND = 0x08, FOOTER = 0x7e };
enum { PING = 2, POSTCOPY_RESUME = 9, RECV_BITMAP = 10 };
enum { FLAG_ZERO = 0x02, FLAG_PAGE = 0x08, FLAG_EOS = 0x10, FLAG_CONTINUE = 0x20 };
enum { SHUT = 1, PONG = 2, REQ_PAGES_ID = 3, REQ_PAGES = 4, BITMAP = 5, RESUME_ACK = 6 };

struct WireReader {
    WireKind kind;
    Guest guest;
    uint32_t section_id;
    uint64_t position; /* of the next byte */

    Field field;
    uint64_t field_offset; /* where it began */
    uint64_t wanted;       /* bytes of it */
    uint64_t have;
    uint64_t number; /* of those, as a big-endian number */
    char name[256];

    uint64_t word;
    uint64_t word_offset;
    int block;      /* the last that a page, or a request, was of; -1: none */
    int other;      /* that a command or an answer names */
    int host_block; /* of the host page that is begun, -1: none */
    uint64_t host_page;
    uint64_t target_pages;
    uint8_t content[WIRE_MAX_HOST_PAGE];
    uint32_t value;  /* of PING, PONG, SHUT */
    uint64_t type;   /* of the command or the message */
    uint64_t length; /* of it */
    uint64_t length_offset;
    uint64_t start;
    uint64_t request_length;
    GByteArray *bits;

    const char *rule;
    int refused_block;
    uint64_t refused_offset;
};

static void next(WireReader *self, Field field, uint64_t wanted)
{
    self->field = field;
    self->field_offset = self->position;
    self->wanted = wanted;
    self->have = 0;
    self->number = 0;
}

static WireEvent refuse_at(WireReader *self, const char *rule, int block, uint64_t offset)
{
    self->rule = rule;
    self->refused_block = block;
    self->refused_offset = offset;
    next(self, FIELD_NONE, 0);
    return WIRE_REFUSED;
}

static WireEvent refuse(WireReader *self, const char *rule)
{
    return refuse_at(self, rule, -1, self->field_offset);
}

static WireEvent go_on(WireReader *self, Field field, uint64_t wanted)
{
    next(self, field, wanted);
    return WIRE_NOTHING;
}

static WireEvent next_item(WireReader *self, WireEvent event)
{
    next(self, FIELD_TYPE, 1);
    return event;
}

static WireEvent next_message(WireReader *self, WireEvent event)
{
    next(self, FIELD_MESSAGE, 2);
    return event;
}

/* A name of no bytes is there at once. */
static WireEvent expect_name(WireReader *self, Field field, WireEvent (*done)(WireReader *self))
{
    uint64_t length = self->number;

    next(self, field, length);
    memset(self->name, 0, sizeof(self->name));
    return length == 0 ? done(self) : WIRE_NOTHING;
}

static int find_block(const WireReader *self)
{
    for (unsigned i = 0; i < self->guest.n_blocks; i++) {
        const char *idstr = self->guest.blocks[i].idstr;

        if (strlen(idstr) == self->wanted && memcmp(idstr, self->name, self->wanted) == 0) {
            return (int)i;
        }
    }
    return -1;
}

/* Pages. */

static uint64_t target_size(const WireReader *self)
{
    return self->guest.target_page_size;
}

static uint64_t address_of(const WireReader *self)
{
    return self->word / target_size(self) * target_size(self);
}

static WireEvent target_page_is_there(WireReader *self)
{
    next(self, FIELD_WORD, 8);
    self->target_pages++;
    if (self->target_pages * target_size(self) < WIRE_MAX_HOST_PAGE) {
        return WIRE_NOTHING;
    }
    self->host_block = -1;
    self->target_pages = 0;
    return WIRE_PAGE;
}

/* The block is known. */
static WireEvent judge_address(WireReader *self)
{
    uint64_t address = address_of(self);
    uint64_t page = address / WIRE_MAX_HOST_PAGE;
    uint64_t within = address % WIRE_MAX_HOST_PAGE / target_size(self);

    if (address >= self->guest.blocks[self->block].used_length) {
        return refuse_at(self, "W13", self->block, self->word_offset);
    }
    if (self->host_block >= 0 && (self->host_block != self->block || self->host_page != page)) {
        return refuse_at(self, "W14", self->block, self->word_offset);
    }
    if (within != self->target_pages) {
        return refuse_at(self, "W14", self->block, self->word_offset);
    }
    self->host_block = self->block;
    self->host_page = page;
    return self->word & FLAG_ZERO ? go_on(self, FIELD_FILL, 1)
                                  : go_on(self, FIELD_PAGE, target_size(self));
}

static WireEvent page_name_is_there(WireReader *self)
{
    int block = find_block(self);

    if (block < 0) {
        return refuse(self, "W12");
    }
    self->block = block;
    return judge_address(self);
}

static WireEvent word_is_there(WireReader *self)
{
    uint64_t flags;

    self->word = self->number;
    self->word_offset = self->field_offset;
    flags = self->word % target_size(self);
    switch (flags & ~(uint64_t)FLAG_CONTINUE) {
    case FLAG_EOS:
        if (self->host_block >= 0) {
            return refuse_at(self, "W16", self->host_block, self->word_offset);
        }
        if (self->kind == WIRE_PREEMPT_CHANNEL) {
            next(self, FIELD_NONE, 0);
            return WIRE_ENDED;
        }
        return go_on(self, FIELD_FOOTER, 1);
    case FLAG_ZERO:
    case FLAG_PAGE:
        break;
    default:
        return refuse(self, "W9");
    }
    if (!(flags & FLAG_CONTINUE)) {
        return go_on(self, FIELD_NAME_LENGTH, 1);
    }
    return self->block < 0 ? refuse(self, "W11") : judge_address(self);
}

static WireEvent fill_is_there(WireReader *self)
{
    if (self->number != 0) {
        return refuse_at(self, "W15", self->block, self->field_offset);
    }
    memset(self->content + self->target_pages * target_size(self), 0, target_size(self));
    return target_page_is_there(self);
}

/* Items of the main channel. */

static WireEvent type_is_there(WireReader *self)
{
    switch (self->number) {
    case EOF_BYTE:
        next(self, FIELD_NONE, 0);
        return WIRE_ENDED;
    case PART:
    case END:
        return go_on(self, FIELD_SECTION_ID, 4);
    case COMMAND:
        return go_on(self, FIELD_COMMAND, 2);
    default:
        return refuse(self, "W1");
    }
}

static WireEvent command_is_there(WireReader *self)
{
    self->type = self->number;
    if (self->type != PING && self->type != POSTCOPY_RESUME && self->type != RECV_BITMAP) {
        return refuse(self, "W5");
    }
    return go_on(self, FIELD_COMMAND_LENGTH, 2);
}

static WireEvent command_length_is_there(WireReader *self)
{
    self->length = self->number;
    self->length_offset = self->field_offset;
    if (self->type == RECV_BITMAP) {
        return go_on(self, FIELD_BITMAP_NAME_LENGTH, 1);
    }
    if (self->length != (self->type == PING ? 4 : 0)) {
        return refuse(self, "W6");
    }
    return self->type == PING ? go_on(self, FIELD_PING, 4) : next_item(self, WIRE_RESUME);
}

static WireEvent bitmap_name_is_there(WireReader *self)
{
    self->other = find_block(self);
    return self->other < 0 ? refuse(self, "W7") : next_item(self, WIRE_RECV_BITMAP);
}

static WireEvent bitmap_name_length_is_there(WireReader *self)
{
    return self->length != self->number + 1
               ? refuse_at(self, "W6", -1, self->length_offset)
               : expect_name(self, FIELD_BITMAP_NAME, bitmap_name_is_there);
}

/* Messages of the return path. */

static WireEvent message_length_is_there(WireReader *self)
{
    self->length = self->number;
    switch (self->type) {
    case SHUT:
    case PONG:
    case RESUME_ACK:
        return self->length == 4 ? go_on(self, FIELD_NUMBER, 4) : refuse(self, "Q1");
    case REQ_PAGES:
        return self->length == 12 ? go_on(self, FIELD_START, 8) : refuse(self, "Q1");
    case REQ_PAGES_ID:
        return self->length >= 13 ? go_on(self, FIELD_START, 8) : refuse(self, "Q1");
    default:
        return self->length >= 1 ? go_on(self, FIELD_ANSWER_NAME_LENGTH, 1) : refuse(self, "Q1");
    }
}

static WireEvent message_is_there(WireReader *self)
{
    self->type = self->number;
    return self->type >= SHUT && self->type <= RESUME_ACK ? go_on(self, FIELD_MESSAGE_LENGTH, 2)
                                                          : refuse(self, "Q1");
}

static WireEvent number_is_there(WireReader *self)
{
    self->value = (uint32_t)self->number;
    switch (self->type) {
    case SHUT:
        return next_message(self, WIRE_SHUT);
    case PONG:
        return next_message(self, WIRE_PONG);
    default:
        return self->value == 1 ? next_message(self, WIRE_ACK) : refuse(self, "Q7");
    }
}

static WireEvent judge_request(WireReader *self)
{
    if (self->start % WIRE_MAX_HOST_PAGE != 0 || self->request_length != WIRE_MAX_HOST_PAGE ||
        self->start >= self->guest.blocks[self->block].used_length) {
        return refuse_at(self, "Q3", self->block, self->field_offset);
    }
    self->host_page = self->start / WIRE_MAX_HOST_PAGE;
    return next_message(self, WIRE_REQUEST);
}

static WireEvent request_name_is_there(WireReader *self)
{
    self->block = find_block(self);
    return self->block < 0 ? refuse(self, "Q3") : judge_request(self);
}

static WireEvent request_length_is_there(WireReader *self)
{
    self->request_length = self->number;
    if (self->type == REQ_PAGES_ID) {
        return go_on(self, FIELD_REQUEST_NAME_LENGTH, 1);
    }
    return self->block < 0 ? refuse(self, "Q2") : judge_request(self);
}

static WireEvent answer_name_is_there(WireReader *self)
{
    self->other = find_block(self);
    return self->other < 0 ? refuse(self, "Q5") : go_on(self, FIELD_BITMAP_SIZE, 8);
}

static WireEvent bitmap_size_is_there(WireReader *self)
{
    uint64_t pages = self->guest.blocks[self->other].used_length / target_size(self);

    if (self->number != (pages + 63) / 64 * 8) {
        return refuse_at(self, "Q6", self->other, self->field_offset);
    }
    g_byte_array_set_size(self->bits, 0);
    return go_on(self, FIELD_BITS, self->number);
}

static WireEvent end_mark_is_there(WireReader *self)
{
    return self->number == UINT64_C(0x0123456789abcdef)
               ? next_message(self, WIRE_BITMAP)
               : refuse_at(self, "Q6", self->other, self->field_offset);
}

static WireEvent field_is_there(WireReader *self)
{
    switch (self->field) {
    case FIELD_TYPE:
        return type_is_there(self);
    case FIELD_SECTION_ID:
        return self->number == self->section_id ? go_on(self, FIELD_WORD, 8) : refuse(self, "W2");
    case FIELD_WORD:
        return word_is_there(self);
    case FIELD_NAME_LENGTH:
        return expect_name(self, FIELD_NAME, page_name_is_there);
    case FIELD_NAME:
        return page_name_is_there(self);
    case FIELD_FILL:
        return fill_is_there(self);
    case FIELD_PAGE:
        return target_page_is_there(self);
    case FIELD_FOOTER:
        return self->number == FOOTER ? go_on(self, FIELD_FOOTER_ID, 4) : refuse(self, "W3");
    case FIELD_FOOTER_ID:
        return self->number == self->section_id ? next_item(self, WIRE_NOTHING)
                                                : refuse(self, "W4");
    case FIELD_COMMAND:
        return command_is_there(self);
    case FIELD_COMMAND_LENGTH:
        return command_length_is_there(self);
    case FIELD_PING:
        self->value = (uint32_t)self->number;
        return next_item(self, WIRE_PING);
    case FIELD_BITMAP_NAME_LENGTH:
        return bitmap_name_length_is_there(self);
    case FIELD_BITMAP_NAME:
        return bitmap_name_is_there(self);
    case FIELD_MESSAGE:
        return message_is_there(self);
    case FIELD_MESSAGE_LENGTH:
        return message_length_is_there(self);
    case FIELD_NUMBER:
        return number_is_there(self);
    case FIELD_START:
        self->start = self->number;
        return go_on(self, FIELD_LENGTH, 4);
    case FIELD_LENGTH:
        return request_length_is_there(self);
    case FIELD_REQUEST_NAME_LENGTH:
        return self->length == 13 + self->number
                   ? expect_name(self, FIELD_REQUEST_NAME, request_name_is_there)
                   : refuse(self, "Q1");
    case FIELD_REQUEST_NAME:
        return request_name_is_there(self);
    case FIELD_ANSWER_NAME_LENGTH:
        return self->length == 1 + self->number
                   ? expect_name(self, FIELD_ANSWER_NAME, answer_name_is_there)
                   : refuse(self, "Q1");
    case FIELD_ANSWER_NAME:
        return answer_name_is_there(self);
    case FIELD_BITMAP_SIZE:
        return bitmap_size_is_there(self);
    case FIELD_BITS:
        return go_on(self, FIELD_END_MARK, 8);
    case FIELD_END_MARK:
        return end_mark_is_there(self);
    default:
        g_assert_not_reached();
    }
}

static void keep_byte(WireReader *self, uint8_t byte)
{
    switch (self->field) {
    case FIELD_NAME:
    case FIELD_BITMAP_NAME:
    case FIELD_REQUEST_NAME:
    case FIELD_ANSWER_NAME:
        self->name[self->have] = (char)byte;
        break;
    case FIELD_PAGE:
        self->content[self->target_pages * target_size(self) + self->have] = byte;
        break;
    case FIELD_BITS:
        g_byte_array_append(self->bits, &byte, 1);
        break;
    default:
        self->number = self->number << 8 | byte;
        break;
    }
}

WireEvent wire_reader_feed(WireReader *reader, uint8_t byte)
{
    if (reader->field == FIELD_NONE) {
        return WIRE_NOTHING;
    }
    keep_byte(reader, byte);
    reader->position++;
    return ++reader->have < reader->wanted ? WIRE_NOTHING : field_is_there(reader);
}

WireReader *wire_reader_new(WireKind kind, const Guest *guest, uint32_t section_id)
{
    WireReader *self = g_new0(WireReader, 1);

    self->kind = kind;
    self->guest = *guest;
    self->section_id = section_id;
    self->block = -1;
    self->host_block = -1;
    self->bits = g_byte_array_new();
    switch (kind) {
    case WIRE_MAIN_CHANNEL:
        next(self, FIELD_TYPE, 1);
        break;
    case WIRE_PREEMPT_CHANNEL:
        next(self, FIELD_WORD, 8);
        break;
    case WIRE_RETURN_PATH:
        next(self, FIELD_MESSAGE, 2);
        break;
    }
    return self;
}

void wire_reader_free(WireReader *reader)
{
    g_byte_array_unref(reader->bits);
    g_free(reader);
}

bool wire_reader_is_between_items(const WireReader *reader)
{
    static const Field first[] = {
        [WIRE_MAIN_CHANNEL] = FIELD_TYPE,
        [WIRE_PREEMPT_CHANNEL] = FIELD_WORD,
        [WIRE_RETURN_PATH] = FIELD_MESSAGE,
    };

    return reader->field == first[reader->kind] && reader->have == 0 && reader->host_block < 0;
}

/* Commands and answers name a block of their own. */
unsigned wire_reader_block(const WireReader *reader)
{
    bool other =
        reader->kind == WIRE_RETURN_PATH ? reader->type == BITMAP : reader->field == FIELD_TYPE;

    return (unsigned)(other ? reader->other : reader->block);
}

int wire_reader_refused_block(const WireReader *reader)
{
    return reader->refused_block;
}

uint64_t wire_reader_page(const WireReader *reader)
{
    return reader->host_page;
}

uint32_t wire_reader_value(const WireReader *reader)
{
    return reader->value;
}

const uint8_t *wire_reader_content(const WireReader *reader)
{
    return reader->content;
}

bool wire_reader_bit(const WireReader *reader, uint64_t target_page)
{
    return reader->bits->data[target_page / 8] >> (target_page % 8) & 1;
}

const char *wire_reader_rule(const WireReader *reader)
{
    return reader->rule;
}

uint64_t wire_reader_refused_offset(const WireReader *reader)
{
    return reader->refused_offset;
}

uint64_t wire_reader_position(const WireReader *reader)
{
    return reader->position;
}

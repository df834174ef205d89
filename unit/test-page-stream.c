/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * loader/page-stream.[ch] on bytes in memory: what each message means, every
 * rule of docs/postcopy-wire.md that refuses one, and that nothing depends on
 * the pieces in which the bytes come.
 */
#include "loader/page-stream.h"

#include "loader/error.h"
#include "unit/support.h"

#include <errno.h>
#include <string.h>

#define SECTION 7
#define HOST_PAGE 0x1000
#define TARGET_PAGE 0x400

/* Text that stands for what came, and the bytes that come. */
typedef struct Fixture {
    RAMBlock blocks[2];
    uint8_t page[HOST_PAGE];
    GByteArray *bytes;
    GString *events;
    size_t piece;       /* bytes of each read */
    size_t given;       /* so far */
    int fail_with;      /* once all is given: an errno, 0: the channel ends */
    const char *refuse; /* the event at which the operation refuses */
    PageStream stream;
} Fixture;

static ssize_t give(void *opaque, uint64_t position, void *buffer, size_t length)
{
    Fixture *f = opaque;
    size_t n = MIN(MIN(f->piece, length), f->bytes->len - f->given);

    assert_int_equal(position, f->given);
    if (n == 0) {
        return -f->fail_with;
    }
    memcpy(buffer, f->bytes->data + f->given, n);
    f->given += n;
    return (ssize_t)n;
}

static bool note(Fixture *f, GError **error, const char *event)
{
    g_string_append_printf(f->events, "%s;", event);
    if (f->refuse && strcmp(f->refuse, event) == 0) {
        g_set_error(error, MAPPED_RAM_ERROR, MAPPED_RAM_ERROR_IO, "no %s", event);
        return false;
    }
    return true;
}

static bool note_page(void *opaque, RAMBlock *rb, uint64_t page, const void *from, GError **error)
{
    const uint8_t *bytes = from;
    g_autofree char *what = NULL;

    if (bytes) {
        what = g_strdup_printf("%s %u %02x%02x%02x%02x", rb->idstr, (unsigned)page, bytes[0],
                               bytes[TARGET_PAGE], bytes[2 * TARGET_PAGE], bytes[HOST_PAGE - 1]);
    } else {
        what = g_strdup_printf("%s %u zero", rb->idstr, (unsigned)page);
    }
    return note(opaque, error, what);
}

static bool note_ping(void *opaque, uint32_t value, GError **error)
{
    g_autofree char *what = g_strdup_printf("ping 0x%x", value);

    return note(opaque, error, what);
}

static bool note_recv_bitmap(void *opaque, RAMBlock *rb, GError **error)
{
    g_autofree char *what = g_strdup_printf("bitmap %s", rb->idstr);

    return note(opaque, error, what);
}

static bool note_resume(void *opaque, GError **error)
{
    return note(opaque, error, "resume");
}

static const PageStreamOps ops = {
    .read = give,
    .page = note_page,
    .ping = note_ping,
    .recv_bitmap = note_recv_bitmap,
    .resume = note_resume,
};

static void init(Fixture *f, unsigned channel)
{
    memset(f, 0, sizeof(*f));
    for (unsigned i = 0; i < 2; i++) {
        g_strlcpy(f->blocks[i].idstr, i ? "bb" : "a", sizeof(f->blocks[i].idstr));
        f->blocks[i].used_length = (3 + i) * HOST_PAGE;
        f->blocks[i].page_size = HOST_PAGE;
    }
    f->bytes = g_byte_array_new();
    f->events = g_string_new(NULL);
    f->piece = SIZE_MAX;
    f->stream.blocks = f->blocks;
    f->stream.n_blocks = 2;
    f->stream.target_page_size = TARGET_PAGE;
    f->stream.section_id = SECTION;
    f->stream.channel = channel;
    f->stream.ops = &ops;
    f->stream.opaque = f;
    f->stream.page = f->page;
}

static void clear(Fixture *f)
{
    g_byte_array_unref(f->bytes);
    g_string_free(f->events, TRUE);
}

/*
 * Bytes from text: hexadecimal digits; 'text'; <P byte> is a target page of it;
 * <W number> a be64.
 */
static void put(Fixture *f, const char *text)
{
    while (*text) {
        if (*text == '\'') {
            const char *end = strchr(text + 1, '\'');

            g_byte_array_append(f->bytes, (const guint8 *)text + 1, (guint)(end - text - 1));
            text = end + 1;
        } else if (*text == '<') {
            uint64_t value = g_ascii_strtoull(text + 2, NULL, 16);
            uint8_t page[TARGET_PAGE];
            uint64_t word = GUINT64_TO_BE(value);

            memset(page, (int)value, sizeof(page));
            g_byte_array_append(f->bytes, text[1] == 'P' ? page : (const guint8 *)&word,
                                text[1] == 'P' ? sizeof(page) : sizeof(word));
            text = strchr(text, '>') + 1;
        } else if (*text == ' ') {
            text++;
        } else {
            guint8 byte =
                (guint8)(g_ascii_xdigit_value(text[0]) << 4 | g_ascii_xdigit_value(text[1]));

            g_byte_array_append(f->bytes, &byte, 1);
            text += 2;
        }
    }
}

/* Runs it from its first byte in pieces of @piece bytes. Returns the message, NULL: all is well. */
static char *run(Fixture *f, size_t piece)
{
    g_autoptr(GError) error = NULL;

    f->piece = piece;
    f->given = 0;
    g_string_set_size(f->events, 0);
    if (page_stream_run(&f->stream, &error)) {
        assert_null(error);
        return NULL;
    }
    assert_true(error->domain == MAPPED_RAM_ERROR);
    return g_strdup(error->message);
}

#define PART "02 00000007 "
#define EOS "<W 10> 7e 00000007 "
#define PAGE0_OF_A "<W 8> 01 'a' <P 11> <W 428> <P 22> <W 828> <P 33> <W c28> <P 44> "
#define ZERO1_OF_A "<W 1002> 01 'a' 00 <W 1422> 00 <W 1822> 00 <W 1c22> 00 "

typedef struct Good {
    unsigned channel;
    const char *bytes;
    const char *events;
} Good;

static const Good good[] = {
    { RAM_CHANNEL_PRECOPY, "00", "" },
    { RAM_CHANNEL_PRECOPY, PART EOS "00", "" },
    { RAM_CHANNEL_PRECOPY, PART PAGE0_OF_A EOS "00", "a 0 11223344;" },
    { RAM_CHANNEL_PRECOPY, PART ZERO1_OF_A PAGE0_OF_A EOS "03 00000007 " EOS "00 ff",
      "a 1 zero;a 0 11223344;" },
    /* Zero target pages within a page that is not: what was there before is gone. */
    { RAM_CHANNEL_PRECOPY,
      PART PAGE0_OF_A "<W 2> 01 'a' 00 <W 428> <P 22> <W 822> 00 <W c28> <P 44>" EOS "00",
      "a 0 11223344;a 0 00220044;" },
    { RAM_CHANNEL_PRECOPY,
      "08 0002 0004 12345678 08 000a 0002 01 'a' 08 000a 0003 02 'bb' 08 0009 0000 00",
      "ping 0x12345678;bitmap a;bitmap bb;resume;" },
    /* The block stands from section to section, and over commands. */
    { RAM_CHANNEL_PRECOPY,
      PART ZERO1_OF_A EOS "08 0002 0004 00000000" PART
                          "<W 22> 00 <W 422> 00 <W 822> 00 <W c22> 00" EOS "00",
      "a 1 zero;ping 0x0;a 0 zero;" },
    { RAM_CHANNEL_PRECOPY, PART "<W 3002> 02 'bb' 00 <W 3422> 00 <W 3822> 00 <W 3c22> 00" EOS "00",
      "bb 3 zero;" },
    /* EOS with CONTINUE, and with an address: rule W10. */
    { RAM_CHANNEL_PRECOPY, PART "<W ffffffffffffe030> 7e 00000007 00", "" },
    { RAM_CHANNEL_POSTCOPY, "<W 10>", "" },
    { RAM_CHANNEL_POSTCOPY, PAGE0_OF_A ZERO1_OF_A "<W 10> 123456", "a 0 11223344;a 1 zero;" },
};

static void test_what_messages_mean(void **state)
{
    (void)state;
    for (unsigned i = 0; i < G_N_ELEMENTS(good); i++) {
        Fixture f;

        init(&f, good[i].channel);
        put(&f, good[i].bytes);
        for (size_t piece = 1; piece <= f.bytes->len; piece += piece < 40 ? 1 : 997) {
            g_autofree char *message = run(&f, piece);

            assert_null(message);
            assert_string_equal(f.events->str, good[i].events);
        }
        clear(&f);
    }
}

typedef struct Bad {
    unsigned channel;
    const char *bytes; /* the last one is the one that is wrong */
    const char *message;
} Bad;

static const Bad bad[] = {
    { RAM_CHANNEL_PRECOPY, "01",
      "type 0x1 at main channel offset 0x0: is none of EOF, PART, END and "
      "COMMAND (rule W1)" },
    { RAM_CHANNEL_PRECOPY, "02 00000008",
      "section id 0x8 at main channel offset 0x1: is not the RAM "
      "section's, 0x7 (rule W2)" },
    { RAM_CHANNEL_PRECOPY, PART "<W 10> 7f",
      "footer 0x7f at main channel offset 0xd: is not FOOTER 0x7e (rule W3)" },
    { RAM_CHANNEL_PRECOPY, PART "<W 10> 7e 00000006",
      "section id 0x6 at main channel offset 0xe: is not the RAM section's, 0x7 (rule W4)" },
    { RAM_CHANNEL_PRECOPY, "08 0006",
      "command 0x6 at main channel offset 0x1: is none of PING, POSTCOPY_RESUME and RECV_BITMAP "
      "(rule W5)" },
    { RAM_CHANNEL_PRECOPY, "08 0002 0005",
      "length 0x5 at main channel offset 0x3: is not the command's, 0x4 (rule W6)" },
    { RAM_CHANNEL_PRECOPY, "08 0009 0001",
      "length 0x1 at main channel offset 0x3: is not the command's, 0x0 (rule W6)" },
    { RAM_CHANNEL_PRECOPY, "08 000a 0003 01",
      "length 0x3 at main channel offset 0x3: is not the command's, 0x2 (rule W6)" },
    { RAM_CHANNEL_PRECOPY, "08 000a 0002 01 'b'",
      "idstr 'b' at main channel offset 0x6: is no block of the guest (rule W7)" },
    { RAM_CHANNEL_PRECOPY, PART "<W 0>",
      "flags 0x0 at main channel offset 0x5: are none of ZERO, PAGE and EOS (rule W9)" },
    { RAM_CHANNEL_POSTCOPY, "<W a>",
      "flags 0xa at preempt channel offset 0x0: are none of ZERO, PAGE and EOS (rule W9)" },
    { RAM_CHANNEL_POSTCOPY, "<W 208>",
      "flags 0x208 at preempt channel offset 0x0: are none of ZERO, PAGE and EOS (rule W9)" },
    { RAM_CHANNEL_POSTCOPY, "<W 28>",
      "flags 0x28 at preempt channel offset 0x0: continue, and no block was named before "
      "(rule W11)" },
    { RAM_CHANNEL_POSTCOPY, "<W 8> 02 'ab'",
      "idstr 'ab' at preempt channel offset 0x9: is no block of the guest (rule W12)" },
    { RAM_CHANNEL_POSTCOPY, "<W 8> 00",
      "idstr '' at preempt channel offset 0x9: is no block of the guest (rule W12)" },
    { RAM_CHANNEL_POSTCOPY, "<W 8> 02 'a' 00",
      "idstr 'a' at preempt channel offset 0x9: is no block of the guest (rule W12)" },
    { RAM_CHANNEL_POSTCOPY, "<W 3008> 01 'a'",
      "block 'a': address 0x3000 at preempt channel offset 0x0: is not below used_length 0x3000 "
      "(rule W13)" },
    { RAM_CHANNEL_POSTCOPY, "<W fffffffffffffc08> 01 'a'",
      "block 'a': address 0xfffffffffffffc00 at preempt channel offset 0x0: is not below "
      "used_length 0x3000 (rule W13)" },
    { RAM_CHANNEL_POSTCOPY, "<W 408> 01 'a'",
      "block 'a': address 0x400 at preempt channel offset 0x0: the host page's next target page is "
      "at 0x0 (rule W14)" },
    { RAM_CHANNEL_POSTCOPY, "<W 2> 01 'a' 00 <W 822>",
      "block 'a': address 0x800 at preempt channel offset 0xb: the host page's next target page is "
      "at 0x400 (rule W14)" },
    { RAM_CHANNEL_POSTCOPY, "<W 2> 01 'a' 00 <W 22>",
      "block 'a': address 0x0 at preempt channel offset 0xb: the host page's next target page is "
      "at 0x400 (rule W14)" },
    { RAM_CHANNEL_POSTCOPY, "<W 2> 01 'a' 00 <W 1422>",
      "block 'a': address 0x1400 at preempt channel offset 0xb: host page 0x0 of block 'a' is not "
      "complete (rule W14)" },
    { RAM_CHANNEL_POSTCOPY, "<W 2> 01 'a' 00 <W 402> 02 'bb'",
      "block 'bb': address 0x400 at preempt channel offset 0xb: host page 0x0 of block 'a' is not "
      "complete (rule W14)" },
    { RAM_CHANNEL_POSTCOPY, "<W 2> 01 'a' 01",
      "block 'a': fill 0x1 at preempt channel offset 0xa: a page that is not sent is a page of "
      "zeroes (rule W15)" },
    { RAM_CHANNEL_POSTCOPY, "<W 2> 01 'a' 00 <W 10>",
      "block 'a': flags 0x10 at preempt channel offset 0xb: host page 0x0 is not complete "
      "(rule W16)" },
};

/* As soon as the wrong byte is there, and not before: it waits for no other. */
static void test_each_rule_refuses(void **state)
{
    (void)state;
    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        Fixture f;

        init(&f, bad[i].channel);
        put(&f, bad[i].bytes);
        for (size_t piece = 1; piece <= f.bytes->len; piece++) {
            g_autofree char *message = run(&f, piece);

            assert_string_equal(message, bad[i].message);
            assert_int_equal(f.given, f.bytes->len);
        }
        g_byte_array_set_size(f.bytes, f.bytes->len - 1);
        g_free(run(&f, SIZE_MAX));
        assert_int_equal(f.given, f.bytes->len);
        clear(&f);
    }
}

/* A channel that ends, at every byte; and one that fails. */
static void test_the_channel_ends_anywhere(void **state)
{
    (void)state;
    for (unsigned i = 0; i < G_N_ELEMENTS(good); i++) {
        Fixture f;
        size_t last;

        init(&f, good[i].channel);
        put(&f, good[i].bytes);
        g_free(run(&f, 1));
        last = f.given;
        for (size_t length = 0; length < last; length++) {
            g_autofree char *ended = NULL;
            g_autofree char *failed = NULL;
            g_autofree char *where = NULL;

            f.bytes->len = (guint)length;
            f.fail_with = 0;
            ended = run(&f, SIZE_MAX);
            assert_non_null(strstr(ended, "the channel ends before its stream does (rule W17)"));
            where = g_strdup_printf("offset 0x%zx: ", length);
            assert_non_null(strstr(ended, where));
            f.fail_with = ECONNRESET;
            failed = run(&f, SIZE_MAX);
            assert_non_null(strstr(failed, "reading failed: Connection reset by peer"));
        }
        clear(&f);
    }
}

/* What was begun on one channel is not continued on the next. */
static void test_a_channel_begins_anew(void **state)
{
    Fixture f;

    (void)state;
    init(&f, RAM_CHANNEL_POSTCOPY);
    put(&f, "<W 2> 01 'a' 00 <W 422> 00 <W 828> <P 99>");
    g_free(run(&f, SIZE_MAX));
    g_byte_array_set_size(f.bytes, 0);
    put(&f, ZERO1_OF_A "<W 10>");
    assert_null(run(&f, SIZE_MAX));
    assert_string_equal(f.events->str, "a 1 zero;");
    g_byte_array_set_size(f.bytes, 0);
    put(&f, "<W 22>");
    {
        g_autofree char *message = run(&f, SIZE_MAX);

        assert_non_null(strstr(message, "rule W11"));
    }
    clear(&f);
}

static void test_an_operation_ends_the_stream(void **state)
{
    static const char *const events[] = { "a 0 11223344", "ping 0x1", "bitmap bb", "resume" };

    (void)state;
    for (unsigned i = 0; i < G_N_ELEMENTS(events); i++) {
        g_autofree char *message = NULL;
        g_autofree char *wanted = g_strconcat("no ", events[i], NULL);
        Fixture f;

        init(&f, RAM_CHANNEL_PRECOPY);
        put(&f, "08 0002 0004 00000001 08 000a 0003 02 'bb' 08 0009 0000" PART PAGE0_OF_A EOS "00");
        f.refuse = events[i];
        message = run(&f, 3);
        assert_string_equal(message, wanted);
        clear(&f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_messages_mean),
        cmocka_unit_test(test_each_rule_refuses),
        cmocka_unit_test(test_the_channel_ends_anywhere),
        cmocka_unit_test(test_a_channel_begins_anew),
        cmocka_unit_test(test_an_operation_ends_the_stream),
    };

    return pagewise_run("page-stream", tests);
}

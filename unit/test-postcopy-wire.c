/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * model/postcopy-wire.[ch]: its table of rules is that of the document
 * (docs/postcopy-wire.md, read at run time), and its reader of the return path
 * tells right messages from wrong ones. Its readers of the channels are held
 * against the loader's parser by the property "postcopy", on every input.
 */
#include "model/postcopy-wire.h"
#include "unit/support.h"

#include <string.h>

/* "| W9 | refuse | The flags ... |": the ids of the rules that refuse, in order. */
static GPtrArray *refusing_rules(void)
{
    GPtrArray *ids = g_ptr_array_new_with_free_func(g_free);
    g_autofree char *text = NULL;
    g_auto(GStrv) lines = NULL;

    assert_true(
        g_file_get_contents(PAGEWISE_SOURCE_DIR "/docs/postcopy-wire.md", &text, NULL, NULL));
    lines = g_strsplit(text, "\n", -1);
    for (char **line = lines; *line; line++) {
        g_auto(GStrv) cells = g_strsplit(*line, " | ", -1);

        if (g_str_has_prefix(*line, "| ") && g_strv_length(cells) >= 3 &&
            strcmp(cells[1], "refuse") == 0) {
            g_ptr_array_add(ids, g_strdup(cells[0] + 2));
        }
    }
    return ids;
}

static void test_table_is_the_document(void **state)
{
    g_autoptr(GPtrArray) ids = refusing_rules();
    unsigned n;
    const WireRule *rules = wire_rules(&n);

    (void)state;
    assert_int_equal(ids->len, n);
    for (unsigned i = 0; i < n; i++) {
        assert_string_equal(rules[i].id, ids->pdata[i]);
        assert_true(strlen(rules[i].title) > 5);
    }
}

static Guest make_guest(void)
{
    Guest guest = { .target_page_size = 1024, .n_blocks = 2 };

    for (unsigned i = 0; i < 2; i++) {
        g_strlcpy(guest.blocks[i].idstr, i ? "bb" : "a", sizeof(guest.blocks[i].idstr));
        guest.blocks[i].used_length = guest.blocks[i].max_length = (2 + i) * WIRE_MAX_HOST_PAGE;
    }
    return guest;
}

/* The last event of @length bytes of the return path. */
static WireEvent feed(WireReader *reader, const char *bytes, size_t length)
{
    WireEvent event = WIRE_NOTHING;

    for (size_t i = 0; i < length; i++) {
        assert_int_equal(event == WIRE_REFUSED, false);
        event = wire_reader_feed(reader, (uint8_t)bytes[i]);
    }
    return event;
}

#define FEED(reader, bytes) feed(reader, bytes, sizeof(bytes) - 1)

static void test_right_messages(void **state)
{
    Guest guest = make_guest();
    g_autoptr(WireReader) reader = wire_reader_new(WIRE_RETURN_PATH, &guest, 0);

    (void)state;
    assert_true(wire_reader_is_between_items(reader));
    assert_int_equal(FEED(reader, "\0\3\0\x0f\0\0\0\0\0\0\x20\0\0\0\x10\0\2bb"), WIRE_REQUEST);
    assert_int_equal(wire_reader_block(reader), 1);
    assert_int_equal(wire_reader_page(reader), 2);
    assert_int_equal(FEED(reader, "\0\4\0\x0c\0\0\0\0\0\0\x10\0\0\0\x10\0"), WIRE_REQUEST);
    assert_int_equal(wire_reader_block(reader), 1);
    assert_int_equal(wire_reader_page(reader), 1);
    assert_int_equal(FEED(reader, "\0\2\0\4\1\2\3\4"), WIRE_PONG);
    assert_int_equal(wire_reader_value(reader), 0x01020304);
    assert_int_equal(FEED(reader, "\0\5\0\2\1a\0\0\0\0\0\0\0\x08\x0f\0\0\0\0\0\0\0"
                                  "\x01\x23\x45\x67\x89\xab\xcd\xef"),
                     WIRE_BITMAP);
    assert_int_equal(wire_reader_block(reader), 0);
    assert_true(wire_reader_bit(reader, 3));
    assert_false(wire_reader_bit(reader, 4));
    /* The bitmap's block is not that of a request. */
    assert_int_equal(FEED(reader, "\0\4\0\x0c\0\0\0\0\0\0\0\0\0\0\x10\0"), WIRE_REQUEST);
    assert_int_equal(wire_reader_block(reader), 1);
    assert_int_equal(FEED(reader, "\0\6\0\4\0\0\0\1"), WIRE_ACK);
    assert_int_equal(FEED(reader, "\0\1\0\4\0\0\0\1"), WIRE_SHUT);
    assert_int_equal(wire_reader_value(reader), 1);
    assert_true(wire_reader_is_between_items(reader));
}

typedef struct Wrong {
    const char *bytes;
    size_t length;
    const char *rule;
} Wrong;

#define WRONG(bytes, rule)                                                                         \
    {                                                                                              \
        bytes, sizeof(bytes) - 1, rule                                                             \
    }

static const Wrong wrong[] = {
    WRONG("\0\0", "Q1"),
    WRONG("\0\7", "Q1"),
    WRONG("\0\1\0\5", "Q1"),
    WRONG("\0\2\0\3", "Q1"),
    WRONG("\0\6\0\0", "Q1"),
    WRONG("\0\4\0\x0d", "Q1"),
    WRONG("\0\3\0\x0c", "Q1"),
    WRONG("\0\3\0\x0e\0\0\0\0\0\0\0\0\0\0\x10\0\2", "Q1"),
    WRONG("\0\5\0\0", "Q1"),
    WRONG("\0\5\0\2\2", "Q1"),
    WRONG("\0\4\0\x0c\0\0\0\0\0\0\0\0\0\0\x10\0", "Q2"),
    WRONG("\0\3\0\x0e\0\0\0\0\0\0\0\0\0\0\x10\0\1b", "Q3"),
    WRONG("\0\3\0\x0d\0\0\0\0\0\0\0\0\0\0\x10\0\0", "Q3"),
    WRONG("\0\3\0\x0e\0\0\0\0\0\0\x04\0\0\0\x10\0\1a", "Q3"),
    WRONG("\0\3\0\x0e\0\0\0\0\0\0\0\0\0\0\x20\0\1a", "Q3"),
    WRONG("\0\3\0\x0e\0\0\0\0\0\0\x20\0\0\0\x10\0\1a", "Q3"),
    WRONG("\0\5\0\2\1b", "Q5"),
    WRONG("\0\5\0\1\0", "Q5"),
    WRONG("\0\5\0\2\1a\0\0\0\0\0\0\0\x09", "Q6"),
    WRONG("\0\5\0\2\1a\0\0\0\0\0\0\0\x08\0\0\0\0\0\0\0\0\x01\x23\x45\x67\x89\xab\xcd\xee", "Q6"),
    WRONG("\0\6\0\4\0\0\0\2", "Q7"),
};

static void test_wrong_messages(void **state)
{
    (void)state;
    for (unsigned i = 0; i < G_N_ELEMENTS(wrong); i++) {
        Guest guest = make_guest();
        g_autoptr(WireReader) reader = wire_reader_new(WIRE_RETURN_PATH, &guest, 0);

        assert_int_equal(feed(reader, wrong[i].bytes, wrong[i].length), WIRE_REFUSED);
        assert_string_equal(wire_reader_rule(reader), wrong[i].rule);
        assert_in_range(wire_reader_refused_offset(reader), 0, wrong[i].length - 1);
        assert_int_equal(wire_reader_position(reader), wrong[i].length);
        /* Nothing more is read. */
        assert_int_equal(wire_reader_feed(reader, 0), WIRE_NOTHING);
        assert_int_equal(wire_reader_position(reader), wrong[i].length);
    }
}

static void test_the_block_of_a_refusal(void **state)
{
    Guest guest = make_guest();
    g_autoptr(WireReader) none = wire_reader_new(WIRE_PREEMPT_CHANNEL, &guest, 0);
    g_autoptr(WireReader) second = wire_reader_new(WIRE_PREEMPT_CHANNEL, &guest, 0);

    (void)state;
    assert_int_equal(FEED(none, "\0\0\0\0\0\0\0\x40"), WIRE_REFUSED);
    assert_int_equal(wire_reader_refused_block(none), -1);
    assert_int_equal(FEED(second, "\0\0\0\0\0\0\x30\x02\2bb"), WIRE_REFUSED);
    assert_int_equal(wire_reader_refused_block(second), 1);
    assert_string_equal(wire_reader_rule(second), "W13");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table_is_the_document),
        cmocka_unit_test(test_right_messages),
        cmocka_unit_test(test_wrong_messages),
        cmocka_unit_test(test_the_block_of_a_refusal),
    };

    return pagewise_run("postcopy-wire", tests);
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See postcopy-script.h. */
#include "property/postcopy-script.h"

#include <inttypes.h>
#include <string.h>

/* A guest never has two blocks of one name: such a block gets its index as name. */
static void name_block(Guest *guest, unsigned index, const InputBlock *in)
{
    GuestBlock *block = &guest->blocks[index];
    bool taken = in->idstr[0] == '\0';

    memcpy(block->idstr, in->idstr, CLAMP(in->idstr_length, 1, sizeof(in->idstr)));
    for (unsigned i = 0; i < index; i++) {
        taken |= strcmp(guest->blocks[i].idstr, block->idstr) == 0;
    }
    if (taken) {
        g_snprintf(block->idstr, sizeof(block->idstr), "block%u", index);
    }
}

static void decode_guest(const uint8_t **data, size_t *size, const InputHeader *header,
                         Guest *guest)
{
    unsigned page_bits = header->page_bits ? CLAMP(header->page_bits, 10, 12) : 12;

    guest->target_page_size = UINT64_C(1) << page_bits;
    guest->n_blocks = CLAMP(header->n_blocks, 1, POSTCOPY_MAX_BLOCKS);
    for (unsigned i = 0; i < guest->n_blocks; i++) {
        GuestBlock *block = &guest->blocks[i];
        InputBlock in;

        input_take(data, size, &in, sizeof(in));
        block->host_page_size = POSTCOPY_PAGE;
        block->used_length = CLAMP(in.used.pages, 1, POSTCOPY_MAX_PAGES) * POSTCOPY_PAGE;
        block->max_length = block->used_length + in.extra.pages % 3 * POSTCOPY_PAGE;
        name_block(guest, i, &in);
    }
}

bool postcopy_script_decode(const uint8_t *data, size_t size, PostcopyScript *script)
{
    InputPostcopy postcopy;
    InputHeader header;
    Input input;

    if (!input_decode(data, size, &input) || input.kind != INPUT_POSTCOPY) {
        return false;
    }
    *script = (PostcopyScript){ .dirty_ram = input.flags & INPUT_DIRTY_RAM };
    input_take(&data, &size, &header, sizeof(header));
    input_take(&data, &size, &postcopy, sizeof(postcopy));
    decode_guest(&data, &size, &header, &script->guest);
    script->preempt = postcopy.flags & INPUT_POSTCOPY_PREEMPT;
    script->finish = postcopy.flags & INPUT_POSTCOPY_FINISH;
    script->n_threads = CLAMP(postcopy.n_threads, 1, POSTCOPY_MAX_THREADS);
    script->steps = (const InputPostcopyStep *)data;
    script->n_steps =
        (unsigned)MIN(MIN(postcopy.n_steps, POSTCOPY_MAX_STEPS), size / sizeof(InputPostcopyStep));
    script->raw = data + script->n_steps * sizeof(InputPostcopyStep);
    script->raw_size = size - script->n_steps * sizeof(InputPostcopyStep);
    return true;
}

PostcopyStep postcopy_script_step(const PostcopyScript *script, unsigned index, size_t *raw)
{
    const InputPostcopyStep *in = &script->steps[index];
    unsigned block = in->block % script->guest.n_blocks;
    PostcopyStep step = {
        .action = in->action % POSTCOPY_N_ACTIONS,
        .channel = script->preempt ? in->who % SUBJECT_CHANNELS : 0,
        .thread = in->who % script->n_threads,
        .block = block,
        .page = in->page % (script->guest.blocks[block].used_length / POSTCOPY_PAGE),
        .value = in->value,
        .detail = in->detail,
    };

    if (step.action == POSTCOPY_SEND_COMMAND || step.action == POSTCOPY_SEND_SECTION) {
        step.channel = 0;
    }
    if (step.action == POSTCOPY_SEND_RAW) {
        step.detail = (uint8_t)MIN(step.detail, script->raw_size - *raw);
        step.raw = script->raw + *raw;
        *raw += step.detail;
    }
    return step;
}

static const char *const channel_names[] = { "main channel", "preempt channel" };
static const char *const break_names[] = { "both ways of all channels are closed",
                                           "the source sends nothing more on the ",
                                           "the source takes nothing more" };
static const char *const command_names[] = { "PING", "RECV_BITMAP", "POSTCOPY_RESUME" };

static void append_raw(GString *text, const PostcopyStep *step)
{
    g_string_append_printf(text, "%s: raw bytes:", channel_names[step->channel]);
    for (unsigned i = 0; i < step->detail; i++) {
        g_string_append_printf(text, " %02x", step->raw[i]);
    }
}

static void append_message(GString *text, const char *idstr, const PostcopyStep *step)
{
    const char *channel = channel_names[step->channel];

    switch (step->action) {
    case POSTCOPY_SEND_PAGE:
        g_string_append_printf(text, "%s: page %" PRIu64 " of block '%s', made from 0x%02x%s%s",
                               channel, step->page, idstr, step->value,
                               step->detail & 1 ? ", CONTINUE where it can be" : "",
                               step->detail & 2 ? ", every second target page zero" : "");
        break;
    case POSTCOPY_SEND_COMMAND:
        g_string_append_printf(text, "main channel: %s of block '%s'",
                               command_names[step->value % 3], idstr);
        break;
    case POSTCOPY_SEND_END:
        g_string_append_printf(text, "%s: its end", channel);
        break;
    case POSTCOPY_SEND_SECTION:
        g_string_append_printf(text, "main channel: a section without pages, EOS with 0x%x",
                               step->detail);
        break;
    default:
        append_raw(text, step);
        break;
    }
}

char *postcopy_script_describe(const PostcopyScript *script, const PostcopyStep *step)
{
    g_autofree char *idstr = g_strescape(script->guest.blocks[step->block].idstr, NULL);
    g_autoptr(GString) text = g_string_new(NULL);

    switch (step->action) {
    case POSTCOPY_TOUCH:
    case POSTCOPY_WRITE:
        g_string_append_printf(text, "thread %u %s page %" PRIu64 " of block '%s'", step->thread,
                               step->action == POSTCOPY_TOUCH ? "reads" : "writes", step->page,
                               idstr);
        break;
    case POSTCOPY_DISCARD:
        g_string_append_printf(text, "%u pages from %" PRIu64 " on of block '%s' are discarded",
                               step->detail + 1U, step->page, idstr);
        break;
    case POSTCOPY_BREAK:
        g_string_append(text, break_names[step->value % POSTCOPY_N_BREAKS]);
        if (step->value % POSTCOPY_N_BREAKS == POSTCOPY_BREAK_WRITING) {
            g_string_append(text, channel_names[step->channel]);
        }
        break;
    case POSTCOPY_RESUME:
        g_string_append_printf(text, "new channels%s",
                               step->value & 1 ? ", with the handshake" : "");
        break;
    case POSTCOPY_DAMAGE:
        if (step->value) {
            g_string_append_printf(text, "of the next message, byte %u ^= 0x%02x", step->detail,
                                   step->value);
        } else {
            g_string_append_printf(text, "the next message is cut at byte %u", step->detail);
        }
        break;
    case POSTCOPY_PIECES:
        g_string_append_printf(text, "messages come in pieces of %u bytes", step->detail);
        break;
    case POSTCOPY_CANCEL:
        g_string_append(text, "the load is cancelled");
        break;
    default:
        append_message(text, idstr, step);
        break;
    }
    return g_string_free(g_steal_pointer(&text), FALSE);
}

static void append_guest(GString *out, const Guest *guest)
{
    g_string_append_printf(out, "reader    page size %" PRIu64 "\n", guest->target_page_size);
    for (unsigned i = 0; i < guest->n_blocks; i++) {
        g_autofree char *idstr = g_strescape(guest->blocks[i].idstr, NULL);

        g_string_append_printf(out,
                               "  block '%s': used_length 0x%" PRIx64 ", max_length 0x%" PRIx64
                               "\n",
                               idstr, guest->blocks[i].used_length, guest->blocks[i].max_length);
    }
}

void postcopy_script_append(const uint8_t *data, size_t size, GString *out)
{
    PostcopyScript script;
    size_t raw = 0;

    if (!postcopy_script_decode(data, size, &script)) {
        return;
    }
    append_guest(out, &script.guest);
    g_string_append_printf(out, "channels  %s; in the end the source %s\nschedule  %u threads%s\n",
                           script.preempt ? "main and preempt" : "main",
                           script.finish ? "sends what is missing" : "dies", script.n_threads,
                           script.dirty_ram ? "; guest RAM is not zero before the load" : "");
    for (unsigned i = 0; i < script.n_steps; i++) {
        PostcopyStep step = postcopy_script_step(&script, i, &raw);
        g_autofree char *text = postcopy_script_describe(&script, &step);

        g_string_append_printf(out, "  %2u  %s\n", i + 1, text);
    }
}

/* Messages. */

static void put_be(GByteArray *out, unsigned width, uint64_t value)
{
    for (unsigned i = 0; i < width; i++) {
        uint8_t byte = (uint8_t)(value >> (8 * (width - 1 - i)));

        g_byte_array_append(out, &byte, 1);
    }
}

static void put_idstr(GByteArray *out, const Guest *guest, unsigned block)
{
    const char *idstr = guest->blocks[block].idstr;
    size_t length = strlen(idstr);

    put_be(out, 1, length);
    g_byte_array_append(out, (const guint8 *)idstr, (guint)length);
}

static void put_section_start(GByteArray *out, unsigned type)
{
    put_be(out, 1, type);
    put_be(out, 4, POSTCOPY_SECTION_ID);
}

static void put_section_end(GByteArray *out, uint64_t address_bits)
{
    put_be(out, 8, 0x10 | address_bits);
    put_be(out, 1, 0x7e);
    put_be(out, 4, POSTCOPY_SECTION_ID);
}

/* No two pages of one value are alike, and no page begins like another part of it. */
static void put_target_page(GByteArray *out, uint64_t size, uint64_t address, uint8_t value)
{
    for (uint64_t i = 0; i < size; i++) {
        uint8_t byte = (uint8_t)(value + 3 * (address / size) + i * (i / 256 + 1));

        g_byte_array_append(out, &byte, 1);
    }
}

static void put_page(PostcopyComposer *composer, const Guest *guest, unsigned block,
                     uint64_t address, bool zero, uint8_t value, bool unnamed, GByteArray *out)
{
    bool named = !unnamed || composer->last_block != (int)block;

    put_be(out, 8, address | (zero ? 0x02 : 0x08) | (named ? 0 : 0x20));
    if (named) {
        put_idstr(out, guest, block);
    }
    composer->last_block = (int)block;
    if (zero) {
        put_be(out, 1, 0);
    } else {
        put_target_page(out, guest->target_page_size, address, value);
    }
}

void postcopy_compose_page(PostcopyComposer *composer, const Guest *guest, unsigned block,
                           uint64_t page, uint8_t value, unsigned detail, GByteArray *out)
{
    uint64_t size = guest->target_page_size;
    uint64_t start = page * POSTCOPY_PAGE;

    if (composer->channel == 0) {
        put_section_start(out, 0x02);
    }
    for (uint64_t at = 0; at < POSTCOPY_PAGE; at += size) {
        bool zero = value == 0 || (detail & 2 && at / size % 2);

        put_page(composer, guest, block, start + at, zero, value, detail & 1, out);
    }
    if (composer->channel == 0) {
        put_section_end(out, 0);
    }
}

void postcopy_compose_command(const Guest *guest, unsigned command, unsigned block, uint32_t value,
                              GByteArray *out)
{
    put_be(out, 1, 0x08);
    switch (command) {
    case 0:
        put_be(out, 2, 2);
        put_be(out, 2, 4);
        put_be(out, 4, value);
        break;
    case 1:
        put_be(out, 2, 10);
        put_be(out, 2, 1 + strlen(guest->blocks[block].idstr));
        put_idstr(out, guest, block);
        break;
    default:
        put_be(out, 2, 9);
        put_be(out, 2, 0);
        break;
    }
}

void postcopy_compose_end(const PostcopyComposer *composer, GByteArray *out)
{
    if (composer->channel > 0) {
        put_be(out, 8, 0x10);
        return;
    }
    put_section_start(out, 0x03);
    put_section_end(out, 0);
    put_be(out, 1, 0x00);
}

void postcopy_compose_step(PostcopyComposer *composer, const Guest *guest, const PostcopyStep *step,
                           GByteArray *out)
{
    switch (step->action) {
    case POSTCOPY_SEND_PAGE:
        postcopy_compose_page(composer, guest, step->block, step->page, step->value, step->detail,
                              out);
        break;
    case POSTCOPY_SEND_COMMAND:
        postcopy_compose_command(guest, step->value % 3, step->block, step->detail, out);
        break;
    case POSTCOPY_SEND_END:
        postcopy_compose_end(composer, out);
        break;
    case POSTCOPY_SEND_SECTION:
        put_section_start(out, step->value & 1 ? 0x02 : 0x03);
        put_section_end(out, (uint64_t)step->detail << 12 | (step->value & 2 ? 0x20 : 0));
        break;
    default:
        g_byte_array_append(out, step->raw, step->detail);
        break;
    }
}

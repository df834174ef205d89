/* SPDX-License-Identifier: GPL-2.0-or-later */
/* From an input of the kind setup to a case, and to text; see setup.h. */
#include "property/setup.h"

#include <inttypes.h>

static void decode_block(const InputSetupBlock *in, unsigned index, SetupCase *c, Guest *guest)
{
    GuestBlock *block = &guest->blocks[index];
    uint64_t pages = 1 + in->pages % INPUT_MAX_SETUP_PAGES;

    c->memories[index] = in->memory % INPUT_N_MEMORIES;
    if (index > 0 && c->memories[index] == INPUT_MEMORY_HUGETLB) {
        c->memories[index] = INPUT_MEMORY_ANONYMOUS;
    }
    c->bits[index] = in->bits;
    g_snprintf(block->idstr, sizeof(block->idstr), "block%u", index);
    block->used_length = block->max_length = pages * guest->target_page_size;
    block->host_page_size = 4096;
}

static MeteredFailure decode_failure(const InputFailure *in)
{
    return (MeteredFailure){
        .call = in->call % METERED_N_CALLS,
        .first = in->first,
        .times = 1 + in->times % INPUT_MAX_TIMES,
        .error = 1 + in->error % INPUT_MAX_ERRNO,
    };
}

void setup_case_decode(SetupCase *c, const uint8_t *data, size_t size, Guest *guest)
{
    InputHeader header;
    InputSetup setup;

    input_take(&data, &size, &header, sizeof(header));
    input_take(&data, &size, &setup, sizeof(setup));
    *c = (SetupCase){
        .flags = header.flags,
        .channels = setup.channels % (INPUT_MAX_CHANNELS + 1),
        .fail_read = input_load_le(header.fail_read, 2),
        .fail_try = setup.fail_try,
    };
    guest->target_page_size = UINT64_C(1)
                              << (header.page_bits ? CLAMP(header.page_bits, 10, 14) : 12);
    guest->x_ignore_shared = false;
    guest->clear_pages = true;
    guest->machine[0] = '\0';
    guest->n_blocks = CLAMP(header.n_blocks, 1, INPUT_MAX_BLOCKS);
    for (unsigned i = 0; i < guest->n_blocks; i++) {
        InputSetupBlock block;

        input_take(&data, &size, &block, sizeof(block));
        decode_block(&block, i, c, guest);
    }
    for (unsigned i = 0; i < MIN(setup.n_failures, METER_MAX_FAILURES); i++) {
        InputFailure failure;

        input_take(&data, &size, &failure, sizeof(failure));
        c->failures[i] = decode_failure(&failure);
    }
}

static void describe_options(const SetupCase *c, GString *out)
{
    static const struct {
        unsigned flag;
        const char *words;
    } flags[] = {
        { INPUT_DIRTY_RAM, "guest RAM is not zero before" },
        { INPUT_SETUP_EAGER_THREAD, "eager thread" },
        { INPUT_SETUP_MAPPED, "the file is mapped" },
        { INPUT_SETUP_REMOVE_EVENTS, "events of plain madvise()" },
    };

    if (c->channels > 0) {
        g_string_append_printf(out, "uffd_setup_incoming() with %u channels", c->channels);
    } else {
        g_string_append(out, "a whole lazy load");
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(flags); i++) {
        if (c->flags & flags[i].flag) {
            g_string_append_printf(out, "; %s", flags[i].words);
        }
    }
    g_string_append_c(out, '\n');
}

static void describe_failures(const SetupCase *c, GString *out)
{
    for (unsigned i = 0; i < METER_MAX_FAILURES; i++) {
        const MeteredFailure *failure = &c->failures[i];

        if (failure->first > 0) {
            g_string_append_printf(out, "  calls %u to %u of %s fail: %s\n", failure->first,
                                   failure->first + failure->times - 1,
                                   metered_call_name(failure->call), g_strerror(failure->error));
        }
    }
    if (c->fail_try > 0) {
        g_string_append_printf(out, "  allocation %" PRIu64 " of those that may fail fails\n",
                               c->fail_try);
    }
    if (c->fail_read > 0) {
        g_string_append_printf(out, "  read %" PRIu64 " of the file fails\n", c->fail_read);
    }
}

void setup_describe(const uint8_t *data, size_t size, GString *out)
{
    static const char *const memories[INPUT_N_MEMORIES] = {
        [INPUT_MEMORY_ANONYMOUS] = "anonymous",
        [INPUT_MEMORY_MEMFD] = "memfd",
        [INPUT_MEMORY_HUGETLB] = "hugetlb",
    };
    g_autofree Guest *guest = g_new0(Guest, 1);
    SetupCase c;

    setup_case_decode(&c, data, size, guest);
    describe_options(&c, out);
    for (unsigned i = 0; i < guest->n_blocks; i++) {
        g_string_append_printf(out,
                               "  block%u: %s memory, used_length 0x%" PRIx64
                               ", target page size 0x%" PRIx64 ", bits 0x%02x, repeated\n",
                               i, memories[c.memories[i]], guest->blocks[i].used_length,
                               guest->target_page_size, c.bits[i]);
    }
    describe_failures(&c, out);
    g_string_append(out, "and then once more, with nothing that fails\n");
}

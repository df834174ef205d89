/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Decodes and encodes fuzz inputs: see input.h for the layout. It judges
 * nothing and runs nothing.
 */
#include "property/input.h"

#include <string.h>

static const char *const machine_names[] = {
    "", "none", "microvm", "pc", "pc-i440fx-10.0", "q35", "pc-q35-10.0", "virt",
};

static const char *const kind_names[] = {
    [INPUT_HEADER] = "header",         [INPUT_STREAM] = "stream",       [INPUT_LAYOUT] = "layout",
    [INPUT_ROUND_TRIP] = "round-trip", [INPUT_FAULT_MAP] = "fault-map", [INPUT_SETUP] = "setup",
    [INPUT_POSTCOPY] = "postcopy",     [INPUT_LAZY] = "lazy",
};

const char *input_machine_name(unsigned index)
{
    return index < G_N_ELEMENTS(machine_names) ? machine_names[index] : NULL;
}

const char *input_kind_name(unsigned kind)
{
    return kind < G_N_ELEMENTS(kind_names) ? kind_names[kind] : NULL;
}

/* Values of InputPages.shift below it do not shift. */
#define LEAST_SHIFT 0xf0

uint64_t input_load_le(const uint8_t *bytes, unsigned n)
{
    uint64_t value = 0;

    for (unsigned i = 0; i < n; i++) {
        value |= (uint64_t)bytes[i] << (8 * i);
    }
    return value;
}

void input_take(const uint8_t **data, size_t *size, void *out, size_t length)
{
    size_t n = MIN(*size, length);

    if (n) {
        memcpy(out, *data, n);
    }
    if (n < length) {
        memset((uint8_t *)out + n, 0, length - n);
    }
    *data += n;
    *size -= n;
}

static unsigned clamp_blocks(unsigned n)
{
    return CLAMP(n, 1, INPUT_MAX_BLOCKS);
}

static bool is_shifted(InputPages in)
{
    return in.shift >= LEAST_SHIFT;
}

uint64_t input_decode_pages(InputPages in)
{
    return is_shifted(in) ? (uint64_t)in.pages << (in.shift - LEAST_SHIFT + 5) : in.pages;
}

static bool encode_shifted_pages(uint64_t pages, InputPages *out)
{
    for (unsigned shift = LEAST_SHIFT; shift <= UINT8_MAX; shift++) {
        *out = (InputPages){ pages >> (shift - LEAST_SHIFT + 5), shift };
        if (input_decode_pages(*out) == pages) {
            return true;
        }
    }
    return false;
}

static bool encode_pages(uint64_t pages, InputPages *out)
{
    *out = (InputPages){ pages, 0 };
    return input_decode_pages(*out) == pages || encode_shifted_pages(pages, out);
}

static uint64_t decode_max(uint64_t used, InputPages extra)
{
    return is_shifted(extra) ? MAX(used, input_decode_pages(extra)) : used + extra.pages;
}

static bool encode_max(uint64_t used, uint64_t max, InputPages *extra)
{
    *extra = (InputPages){ max - used, 0 };
    return decode_max(used, *extra) == max || encode_shifted_pages(max, extra);
}

static uint64_t max_pages(uint64_t page_size)
{
    return MIN(INPUT_MAX_BLOCK_BYTES / page_size, INPUT_MAX_BLOCK_PAGES);
}

static uint64_t cut_pages(uint64_t pages, uint64_t page_size)
{
    uint64_t max = max_pages(page_size);

    return pages <= max ? pages : MIN(max, INPUT_CUT_PAGES);
}

static void decode_block(const InputBlock *in, uint64_t page_size, GuestBlock *block)
{
    uint64_t used = cut_pages(MAX(input_decode_pages(in->used), 1), page_size);
    uint64_t max = MAX(used, cut_pages(decode_max(used, in->extra), page_size));
    size_t length = CLAMP(in->idstr_length, 1, sizeof(in->idstr));

    memcpy(block->idstr, in->idstr, length);
    block->idstr[length] = '\0';
    block->used_length = used * page_size;
    block->max_length = max * page_size;
    block->host_page_size = 4096;
}

static bool is_duplicate(const Guest *guest, unsigned index)
{
    for (unsigned i = 0; i < index; i++) {
        if (strcmp(guest->blocks[i].idstr, guest->blocks[index].idstr) == 0) {
            return true;
        }
    }
    return false;
}

/* A guest never has two blocks of one name: such a block gets its index as name. */
static void decode_guest(const uint8_t **data, size_t *size, const InputHeader *header,
                         unsigned n_blocks, Guest *guest)
{
    unsigned page_bits = header->page_bits ? CLAMP(header->page_bits, 10, 16) : 12;

    guest->target_page_size = UINT64_C(1) << page_bits;
    guest->x_ignore_shared = header->flags & INPUT_X_IGNORE_SHARED;
    guest->clear_pages = header->flags & INPUT_CLEAR_PAGES;
    g_strlcpy(guest->machine, machine_names[header->machine % G_N_ELEMENTS(machine_names)],
              sizeof(guest->machine));
    guest->n_blocks = n_blocks;
    for (unsigned i = 0; i < n_blocks; i++) {
        InputBlock block;

        input_take(data, size, &block, sizeof(block));
        decode_block(&block, guest->target_page_size, &guest->blocks[i]);
        if (guest->blocks[i].idstr[0] == '\0' || is_duplicate(guest, i)) {
            g_snprintf(guest->blocks[i].idstr, sizeof(guest->blocks[i].idstr), "block%u", i);
        }
    }
}

static void decode_choices(const uint8_t *data, size_t size, const InputHeader *header,
                           Input *input)
{
    size_t generator = MIN(input_load_le(header->generator_size, 2), size);

    input->generator = choices_init(data, generator);
    input->mutator = choices_init(data + generator, size - generator);
}

/* Steps that are cut off are not there. */
static void decode_lazy(const uint8_t **data, size_t *size, const InputHeader *header, Input *input)
{
    InputLazy lazy;

    input_take(data, size, &lazy, sizeof(lazy));
    input->lazy_flags = lazy.flags;
    input->steps = (const InputStep *)*data;
    input->n_steps = MIN(MIN(lazy.n_steps, INPUT_MAX_STEPS), *size / sizeof(InputStep));
    *data += input->n_steps * sizeof(InputStep);
    *size -= input->n_steps * sizeof(InputStep);
    if (lazy.flags & INPUT_LAZY_STREAM) {
        decode_guest(data, size, header, clamp_blocks(header->n_blocks), &input->guest);
    } else {
        decode_choices(*data, *size, header, input);
    }
}

bool input_has_choices(const Input *input)
{
    return input->kind == INPUT_LAYOUT || input->kind == INPUT_ROUND_TRIP ||
           (input->kind == INPUT_LAZY && !(input->lazy_flags & INPUT_LAZY_STREAM));
}

bool input_decode(const uint8_t *data, size_t size, Input *input)
{
    InputHeader header;

    if (size < 2 || data[0] != INPUT_VERSION) {
        return false;
    }
    input_take(&data, &size, &header, sizeof(header));
    input->kind = header.kind;
    input->flags = header.flags;
    input->axes = header.axes;
    input->cut = header.cut;
    input->before = header.before;
    input->mutations_version = header.mutations;
    input->fail_read = input_load_le(header.fail_read, 2);
    input->max_read_length =
        header.max_read_bits ? UINT64_C(1) << MIN(header.max_read_bits, 20) : 0;
    switch (input->kind) {
    case INPUT_HEADER: {
        InputRecord record;

        decode_guest(&data, &size, &header, 1, &input->guest);
        input_take(&data, &size, &record, sizeof(record));
        input->header_offset = input_load_le(record.header_offset, 8) & INT64_MAX;
        input->used_length = input_load_le(record.used_length, 8);
        break;
    }
    case INPUT_STREAM:
        decode_guest(&data, &size, &header, clamp_blocks(header.n_blocks), &input->guest);
        break;
    case INPUT_LAYOUT:
    case INPUT_ROUND_TRIP:
        decode_choices(data, size, &header, input);
        break;
    case INPUT_LAZY:
        decode_lazy(&data, &size, &header, input);
        break;
    case INPUT_FAULT_MAP:
    case INPUT_SETUP:
    case INPUT_POSTCOPY:
        break;
    default:
        return false;
    }
    input->payload = data;
    input->payload_size = size;
    return true;
}

static void generate(Choices *generator, uint64_t max_block_bytes, const Guest *only,
                     Snapshot *snapshot, Guest *guest)
{
    snapshot_generate(generator, max_block_bytes, snapshot, guest);
    if (only) {
        snapshot_fit(snapshot, only);
        guest_copy(guest, only);
    }
}

/* The lazy load always clears; userfaultfd knows nothing smaller than host pages. */
static void make_lazy_guest(Guest *guest)
{
    guest->clear_pages = true;
    for (unsigned i = 0; i < guest->n_blocks; i++) {
        GuestBlock *block = &guest->blocks[i];
        uint64_t unit = MAX(guest->target_page_size, block->host_page_size);

        block->max_length = (block->max_length + unit - 1) / unit * unit;
    }
}

static unsigned make_chosen_file(const Input *input, const Guest *only, Snapshot *snapshot,
                                 SparseFile *file, Guest *guest, GString *log)
{
    static const uint64_t max_block_bytes[] = {
        [INPUT_LAYOUT] = INPUT_MAX_BLOCK_BYTES,
        [INPUT_ROUND_TRIP] = INPUT_MAX_SAVED_BLOCK_BYTES,
        [INPUT_LAZY] = INPUT_MAX_LAZY_BLOCK_BYTES,
    };
    Choices generator = input->generator;
    Choices mutator = input->mutator;
    unsigned mutations = 0;

    generate(&generator, max_block_bytes[input->kind], only, snapshot, guest);
    if (input->kind != INPUT_ROUND_TRIP) {
        mutations = snapshot_mutate(&mutator, input->mutations_version, INPUT_MAX_MUTATIONS,
                                    snapshot, guest, log);
    }
    snapshot_encode(snapshot, file);
    return mutations;
}

unsigned input_make_file_for(const Input *input, const Guest *only, Snapshot *snapshot,
                             SparseFile *file, Guest *guest, GString *log)
{
    unsigned mutations = 0;

    if (input_has_choices(input)) {
        mutations = make_chosen_file(input, only, snapshot, file, guest, log);
    } else {
        guest_copy(guest, only ? only : &input->guest);
        sparse_file_decode(file, input->payload, input->payload_size);
    }
    if (input->kind == INPUT_LAZY && !only) {
        make_lazy_guest(guest);
    }
    return mutations;
}

bool input_kind_has_file(unsigned kind)
{
    return (kind >= INPUT_HEADER && kind <= INPUT_ROUND_TRIP) || kind == INPUT_LAZY;
}

unsigned input_make_file(const Input *input, Snapshot *snapshot, SparseFile *file, Guest *guest,
                         GString *log)
{
    return input_make_file_for(input, NULL, snapshot, file, guest, log);
}

size_t input_payload_offset(const uint8_t *data, size_t size)
{
    size_t offset = sizeof(InputHeader);

    if (size > offset && data[1] == INPUT_HEADER) {
        offset += sizeof(InputBlock) + sizeof(InputRecord);
    } else if (size > offset && data[1] == INPUT_STREAM) {
        offset += clamp_blocks(data[4]) * sizeof(InputBlock);
    } else if (size > offset + sizeof(InputLazy) && data[1] == INPUT_LAZY) {
        offset += sizeof(InputLazy) + MIN(data[offset + 1], INPUT_MAX_STEPS) * sizeof(InputStep);
    }
    return MIN(offset, size);
}

static bool find_machine(const char *name, uint8_t *index)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(machine_names); i++) {
        if (strcmp(machine_names[i], name) == 0) {
            *index = i;
            return true;
        }
    }
    return false;
}

static bool encode_block(const GuestBlock *block, uint64_t page_size, InputBlock *out)
{
    size_t length = strlen(block->idstr);

    *out = (InputBlock){ .idstr_length = length };
    if (length == 0 || length > sizeof(out->idstr) ||
        block->max_length / page_size > max_pages(page_size) ||
        !encode_pages(block->used_length / page_size, &out->used) ||
        !encode_max(block->used_length / page_size, block->max_length / page_size, &out->extra)) {
        return false;
    }
    memcpy(out->idstr, block->idstr, length);
    return true;
}

bool input_encode_stream(const Guest *guest, const SparseFile *file, unsigned flags,
                         GByteArray *out)
{
    InputBlock blocks[INPUT_MAX_BLOCKS];
    InputHeader header = {
        .version = INPUT_VERSION,
        .kind = INPUT_STREAM,
        .flags = flags | (guest->x_ignore_shared ? INPUT_X_IGNORE_SHARED : 0) |
                 (guest->clear_pages ? INPUT_CLEAR_PAGES : 0),
        .page_bits = __builtin_ctzll(guest->target_page_size),
        .n_blocks = guest->n_blocks,
    };

    if (guest->n_blocks > INPUT_MAX_BLOCKS || !find_machine(guest->machine, &header.machine)) {
        return false;
    }
    for (unsigned i = 0; i < guest->n_blocks; i++) {
        if (!encode_block(&guest->blocks[i], guest->target_page_size, &blocks[i])) {
            return false;
        }
    }
    g_byte_array_append(out, (const guint8 *)&header, sizeof(header));
    g_byte_array_append(out, (const guint8 *)blocks, guest->n_blocks * sizeof(InputBlock));
    sparse_file_encode(file, out);
    return true;
}

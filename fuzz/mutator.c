/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * See mutator.h. An input of a kind with choices (layout, round-trip) is two
 * strings of choices, mutated apart, so that a change of the snapshot keeps
 * the mutations and the reverse. An input with a file is decoded, one field of
 * the file is changed, and it is encoded again. One without a file is structs
 * of numbers, which the engine's own mutations fit.
 */
#include "fuzz/mutator.h"

#include "model/judge.h"
#include "model/snapshot.h"
#include "property/postcopy-script.h"

#include <string.h>

/*
 * The engine's own mutator; there is none in a replay driver, and AFL++ does
 * its own mutations before ours.
 */
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size) __attribute__((weak));

/* A real file takes three times as long as memory, and shows little more: one child in so many. */
#define REAL_FILE_ODDS 8

/* The engine mutates bytes, and hits the one that says which mutation is meant seldom. */
#define NEW_MUTATION_ODDS 4
#define MAX_MUTATION_LENGTH 10

/* Bytes before the steps of an input of kind lazy. */
#define LAZY_PREFIX (sizeof(InputHeader) + sizeof(InputLazy))

typedef struct Random {
    uint64_t state;
} Random;

/* splitmix64 */
static uint64_t random_u64(Random *r)
{
    uint64_t z = (r->state += UINT64_C(0x9e3779b97f4a7c15));

    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static uint64_t random_below(Random *r, uint64_t n)
{
    return random_u64(r) % n;
}

/* Mutates @size bytes at @data in place; there is room for @max_size. */
static size_t mutate_bytes(Random *r, uint8_t *data, size_t size, size_t max_size)
{
    if (max_size == 0) {
        return 0;
    }
    if (LLVMFuzzerMutate) {
        return LLVMFuzzerMutate(data, size, max_size);
    }
    if (size < max_size && (size == 0 || random_below(r, 4) == 0)) {
        data[size++] = random_u64(r);
    }
    data[random_below(r, size)] ^= 1 << random_below(r, 8);
    return size;
}

/* Bytes that every input of the kind has. */
static size_t prefix_of(InputKind kind)
{
    return kind == INPUT_LAZY ? LAZY_PREFIX : sizeof(InputHeader);
}

static InputHeader *header_of(uint8_t *data)
{
    return (InputHeader *)data;
}

static void set_generator_size(InputHeader *header, size_t size)
{
    header->generator_size[0] = size;
    header->generator_size[1] = size >> 8;
}

static size_t get_generator_size(const InputHeader *header, size_t size)
{
    return MIN((size_t)header->generator_size[0] | (size_t)header->generator_size[1] << 8, size);
}

static InputLazy *lazy_of(uint8_t *data)
{
    return (InputLazy *)(data + sizeof(InputHeader));
}

static InputStep *steps_of(uint8_t *data)
{
    return (InputStep *)(data + sizeof(InputHeader) + sizeof(InputLazy));
}

/* An input without room for its steps has fewer. There is always room for LAZY_PREFIX. */
static size_t repair_lazy(uint8_t *data, size_t size)
{
    InputLazy *lazy = lazy_of(data);

    if (size < LAZY_PREFIX) {
        memset(data + size, 0, LAZY_PREFIX - size);
        size = LAZY_PREFIX;
    }
    lazy->n_steps =
        MIN(MIN(lazy->n_steps, INPUT_MAX_STEPS), (size - LAZY_PREFIX) / sizeof(InputStep));
    memset(lazy->reserved, 0, sizeof(lazy->reserved));
    return size;
}

/* Makes the first bytes a header of our version and kind, whatever they were. */
static size_t repair_header(InputKind kind, uint8_t *data, size_t size)
{
    InputHeader *header = header_of(data);

    if (size < sizeof(*header)) {
        memset(data + size, 0, sizeof(*header) - size);
        size = sizeof(*header);
    }
    header->version = INPUT_VERSION;
    header->kind = kind;
    memset(header->reserved, 0, sizeof(header->reserved));
    return kind == INPUT_LAZY ? repair_lazy(data, size) : size;
}

static void mutate_header(Random *r, InputKind kind, InputHeader *header)
{
    switch (random_below(r, 9)) {
    case 0:
        header->fail_read[0] = random_below(r, 2) ? random_below(r, 16) : 0;
        header->fail_read[1] = 0;
        break;
    case 1:
        header->max_read_bits = random_below(r, 2) ? random_below(r, 13) : 0;
        break;
    case 2:
        header->page_bits = random_below(r, 2) ? 10 + random_below(r, 7) : 0;
        break;
    case 3:
        header->n_blocks = 1 + random_below(r, INPUT_MAX_BLOCKS);
        break;
    case 4:
        header->machine = random_below(r, 8);
        break;
    case 5:
        header->axes ^= 1 << random_below(r, 3);
        break;
    case 6:
        header->cut = random_below(r, 2) ? random_below(r, 256) : 0;
        header->before = random_below(r, 2) ? random_below(r, 256) : 0;
        break;
    default:
        header->flags ^= 1 << random_below(r, input_kind_has_file(kind) ? 5 : 8);
        break;
    }
}

/* Mutates the choices of the generator; those of the mutator, @rest, move along. */
static size_t mutate_generator(Random *r, uint8_t *choices, size_t size, size_t max_size,
                               size_t rest_size)
{
    g_autofree uint8_t *rest = g_memdup2(choices + size, rest_size);
    size_t changed = mutate_bytes(r, choices, size, MIN(max_size, UINT16_MAX));

    if (rest_size) {
        memcpy(choices + changed, rest, rest_size);
    }
    return changed;
}

/*
 * One mutation of the newest version in place of all that there are, and what
 * its choices are. Every other one is a relation: bytes that are mutated one by
 * one seldom make the choices that it needs.
 */
static size_t draw_mutation(Random *r, InputHeader *header, uint8_t *choices, size_t max_size)
{
    unsigned first = random_below(r, 2) ? SNAPSHOT_FIRST_RELATION : 0;
    size_t length = 4 + random_below(r, MAX_MUTATION_LENGTH - 3);
    size_t size = MIN(length, max_size);

    header->mutations = SNAPSHOT_MUTATIONS_NEWEST;
    for (size_t i = 0; i < size; i++) {
        choices[i] = i ? random_u64(r) : first + random_below(r, SNAPSHOT_N_MUTATIONS - first);
    }
    return size;
}

static size_t mutate_mutations(Random *r, InputHeader *header, uint8_t *choices, size_t size,
                               size_t max_size)
{
    return random_below(r, NEW_MUTATION_ODDS) == 0 ? draw_mutation(r, header, choices, max_size)
                                                   : mutate_bytes(r, choices, size, max_size);
}

/* Mutates one of the two strings of choices from @at on; the other one stays as it is. */
static size_t mutate_choices(Random *r, uint8_t *data, size_t at, size_t size, size_t max_size)
{
    InputHeader *header = header_of(data);
    uint8_t *choices = data + at;
    size_t room = max_size - size;
    size_t generator = get_generator_size(header, size - at);
    size_t mutator = size - at - generator;

    if (random_below(r, 2)) {
        mutator = mutate_mutations(r, header, choices + generator, mutator, mutator + room);
    } else {
        generator = mutate_generator(r, choices, generator, generator + room, mutator);
        set_generator_size(header, generator);
    }
    return at + generator + mutator;
}

/* A step that is likely to mean something. */
static InputStep random_lazy_step(Random *r)
{
    InputStep step = {
        .action = random_below(r, 9),
        .thread = random_below(r, 6),
        .block = random_below(r, 4) ? 0 : random_below(r, 8),
        .page = random_below(r, 4) ? random_below(r, 8) : random_below(r, 256),
        .value = random_below(r, 2) ? random_below(r, 12) : random_below(r, 256),
        .detail = random_below(r, 2) ? random_below(r, 8) : random_below(r, 256),
    };

    return step;
}

static size_t insert_lazy_step(Random *r, uint8_t *data, size_t size, size_t max_size)
{
    InputLazy *lazy = lazy_of(data);
    unsigned at = random_below(r, lazy->n_steps + 1);
    InputStep *steps = steps_of(data);
    size_t behind = size - LAZY_PREFIX - at * sizeof(InputStep);
    InputStep step = lazy->n_steps > 0 && random_below(r, 3) == 0
                         ? steps[random_below(r, lazy->n_steps)]
                         : random_lazy_step(r);

    if (lazy->n_steps == INPUT_MAX_STEPS || size + sizeof(InputStep) > max_size) {
        return size;
    }
    memmove(steps + at + 1, steps + at, behind);
    steps[at] = step;
    lazy->n_steps++;
    return size + sizeof(InputStep);
}

static size_t remove_lazy_step(Random *r, uint8_t *data, size_t size)
{
    InputLazy *lazy = lazy_of(data);
    unsigned at = random_below(r, lazy->n_steps);
    InputStep *steps = steps_of(data);

    memmove(steps + at, steps + at + 1, size - LAZY_PREFIX - (at + 1) * sizeof(InputStep));
    lazy->n_steps--;
    return size - sizeof(InputStep);
}

/* One field of a step takes another value, or the value of another step's field. */
static void change_lazy_step(Random *r, uint8_t *data)
{
    InputStep *steps = steps_of(data);
    InputStep other =
        random_below(r, 2) ? random_lazy_step(r) : steps[random_below(r, lazy_of(data)->n_steps)];
    unsigned field = random_below(r, 6);

    ((uint8_t *)&steps[random_below(r, lazy_of(data)->n_steps)])[field] =
        ((uint8_t *)&other)[field];
}

static void swap_lazy_steps(Random *r, uint8_t *data)
{
    InputStep *steps = steps_of(data);
    InputStep *a = &steps[random_below(r, lazy_of(data)->n_steps)];
    InputStep *b = &steps[random_below(r, lazy_of(data)->n_steps)];
    InputStep kept = *a;

    *a = *b;
    *b = kept;
}

static size_t mutate_steps(Random *r, uint8_t *data, size_t size, size_t max_size)
{
    if (lazy_of(data)->n_steps == 0) {
        return insert_lazy_step(r, data, size, max_size);
    }
    switch (random_below(r, 8)) {
    case 0:
    case 1:
    case 2:
        return insert_lazy_step(r, data, size, max_size);
    case 3:
        return remove_lazy_step(r, data, size);
    case 4:
        swap_lazy_steps(r, data);
        return size;
    default:
        change_lazy_step(r, data);
        return size;
    }
}

/* A field of a snapshot: where it is, and how many bytes it has. */
typedef struct Field {
    uint64_t offset;
    unsigned width;
} Field;

#define MAX_FIELDS 128

typedef struct Fields {
    unsigned n;
    Field fields[MAX_FIELDS];
} Fields;

static void add_field(Fields *fields, uint64_t offset, unsigned width)
{
    if (fields->n < MAX_FIELDS) {
        fields->fields[fields->n++] = (Field){ offset, width };
    }
}

static uint64_t read_field(const SparseFile *file, Field field)
{
    uint8_t bytes[8] = { 0 };
    uint64_t value = 0;

    sparse_file_read(file, field.offset, bytes, field.width);
    for (unsigned i = 0; i < field.width; i++) {
        value = value << 8 | bytes[i];
    }
    return value;
}

static void add_header_fields(Fields *fields, uint64_t header)
{
    add_field(fields, header, 4);
    add_field(fields, header + 4, 8);
    add_field(fields, header + 12, 8);
    add_field(fields, header + 20, 8);
}

static void add_bitmap_fields(Fields *fields, uint64_t offset, uint64_t length)
{
    if (length >= 8) {
        add_field(fields, offset, 8);
        add_field(fields, offset + length / 16 * 8, 8);
        add_field(fields, offset + length - 8, 8);
    }
}

static void find_header_fields(const SparseFile *file, uint64_t header, Fields *fields)
{
    add_header_fields(fields, header);
    add_bitmap_fields(fields, read_field(file, fields->fields[2]) & INT64_MAX, 32);
}

static void find_fields(const Judgement *judgement, Fields *fields)
{
    static const Field container[] = { { 0, 4 }, { 4, 4 }, { 8, 1 }, { 9, 4 } };

    for (unsigned i = 0; i < G_N_ELEMENTS(container); i++) {
        add_field(fields, container[i].offset, container[i].width);
    }
    for (unsigned i = 0; i < judgement->guest.n_blocks; i++) {
        const JudgedBlock *block = &judgement->blocks[i];

        if (block->in_file) {
            add_field(fields, block->record_offset, 1);
            add_field(fields, block->record_offset + 1, 1);
            add_field(fields, block->header_offset - 8, 8);
            add_field(fields, block->header_offset - 16, 8);
            add_header_fields(fields, block->header_offset);
            add_bitmap_fields(fields, block->bitmap_offset, block->bitmap_length);
            /* Where the next record, or EOS, the footer and the END section are. */
            add_field(fields, block->pages_offset + block->used_length, 8);
            add_field(fields, block->pages_offset + block->used_length + 8, 1);
            add_field(fields, block->pages_offset + block->used_length + 9, 4);
            add_field(fields, block->pages_offset + block->used_length + 13, 1);
        }
    }
    for (unsigned i = 0; i < judgement->n_violations; i++) {
        add_field(fields, judgement->violations[i].offset, 1 << i % 4);
    }
}

static void write_field(SparseFile *file, Field field, uint64_t value)
{
    uint8_t bytes[8];

    for (unsigned i = 0; i < field.width; i++) {
        bytes[i] = value >> (8 * (field.width - 1 - i));
    }
    sparse_file_write(file, field.offset, bytes, field.width);
}

static uint64_t new_value(Random *r, const SparseFile *file, const Fields *fields, uint64_t old)
{
    static const uint64_t boundaries[] = {
        0,
        1,
        2,
        0x10,
        0x1c,
        0x400,
        0x1000,
        0x2000,
        0x10000,
        0x100000,
        0x7fffffff,
        0x80000000,
        0xffffffff,
        UINT64_C(1) << 32,
        UINT64_C(1) << 52,
        INT64_MAX,
        UINT64_C(1) << 63,
        UINT64_MAX & ~UINT64_C(0xfff),
        UINT64_MAX,
    };

    switch (random_below(r, 8)) {
    case 0:
        return boundaries[random_below(r, G_N_ELEMENTS(boundaries))];
    case 1:
        return old + 1;
    case 2:
        return old - 1;
    case 3:
        return old + (UINT64_C(0x1000) << random_below(r, 9));
    case 4:
        return old - (UINT64_C(0x1000) << random_below(r, 9));
    case 5:
        return random_below(r, 2) ? old << 1 : old >> 1;
    case 6:
        return old ^ UINT64_C(1) << random_below(r, 64);
    default:
        return read_field(file, fields->fields[random_below(r, fields->n)]);
    }
}

static void copy_within(Random *r, SparseFile *file, const Fields *fields)
{
    Field from = fields->fields[random_below(r, fields->n)];
    Field to = fields->fields[random_below(r, fields->n)];
    uint8_t bytes[64];
    size_t n = sparse_file_read(file, from.offset, bytes, 1 + random_below(r, sizeof(bytes)));

    sparse_file_write(file, to.offset, bytes, n);
}

static void mutate_file(Random *r, SparseFile *file, const Fields *fields)
{
    Field field = fields->fields[random_below(r, fields->n)];

    switch (random_below(r, 12)) {
    case 0:
        sparse_file_truncate(file, field.offset + random_below(r, field.width + 1));
        break;
    case 1:
        sparse_file_truncate(file, sparse_file_size(file) + (UINT64_C(1) << random_below(r, 40)));
        break;
    case 2:
        copy_within(r, file, fields);
        break;
    case 3:
        sparse_file_punch(file, field.offset, UINT64_C(1) << random_below(r, 14));
        break;
    default:
        write_field(file, field, new_value(r, file, fields, read_field(file, field)));
        break;
    }
}

/* Scratch of the mutator, kept between calls. */
typedef struct Scratch {
    SparseFile *file;
    Snapshot *snapshot;
    GByteArray *bytes;
    Judgement judgement;
} Scratch;

static Scratch *scratch(void)
{
    static Scratch *kept;

    if (!kept) {
        kept = g_new0(Scratch, 1);
        kept->file = sparse_file_new();
        kept->snapshot = snapshot_new();
        kept->bytes = g_byte_array_new();
    }
    g_byte_array_set_size(kept->bytes, 0);
    return kept;
}

static size_t store(const GByteArray *bytes, uint8_t *data, size_t at, size_t old, size_t max_size)
{
    /* Nothing to store: g_byte_array has no data then, not even an address. */
    if (bytes->len == 0 || at + bytes->len > max_size) {
        return old;
    }
    memcpy(data + at, bytes->data, bytes->len);
    return at + bytes->len;
}

/* Changes one field of the input's file; the input stays if that makes it too long. */
static size_t mutate_fields(Random *r, uint8_t *data, size_t size, size_t max_size)
{
    Scratch *s = scratch();
    Fields fields = { 0 };
    size_t payload = input_payload_offset(data, size);
    Input input;

    if (!input_decode(data, size, &input)) {
        return size;
    }
    sparse_file_decode(s->file, data + payload, size - payload);
    if (sparse_file_data_bytes(s->file) > INPUT_MAX_DATA_BYTES) {
        return size;
    }
    if (input.kind == INPUT_HEADER) {
        find_header_fields(s->file, input.header_offset, &fields);
    } else {
        judge_file(s->file, &input.guest, &s->judgement);
        find_fields(&s->judgement, &fields);
    }
    mutate_file(r, s->file, &fields);
    sparse_file_encode(s->file, s->bytes);
    return store(s->bytes, data, payload, size, max_size);
}

/* A new right snapshot, or one with a few mutations, in place of the input. */
static size_t make_stream(Random *r, uint8_t *data, size_t size, size_t max_size)
{
    Scratch *s = scratch();
    uint64_t entropy[32];
    Guest guest;
    Choices choices;

    for (unsigned i = 0; i < G_N_ELEMENTS(entropy); i++) {
        entropy[i] = random_u64(r);
    }
    choices = choices_init(entropy, sizeof(entropy) / 2);
    snapshot_generate(&choices, INPUT_MAX_BLOCK_BYTES, s->snapshot, &guest);
    choices = choices_init(entropy + 16, sizeof(entropy) / 2);
    snapshot_mutate(&choices, SNAPSHOT_MUTATIONS_NEWEST, random_below(r, 3), s->snapshot, &guest,
                    NULL);
    snapshot_encode(s->snapshot, s->file);
    if (!input_encode_stream(&guest, s->file, 0, s->bytes)) {
        return size;
    }
    return store(s->bytes, data, 0, size, max_size);
}

static size_t mutate_payload_bytes(Random *r, uint8_t *data, size_t size, size_t max_size)
{
    /* From behind the header: guest blocks and the serial form alike. */
    size_t from = random_below(r, 4) ? input_payload_offset(data, size) : sizeof(InputHeader);

    return from + mutate_bytes(r, data + from, size - from, max_size - from);
}

static size_t mutate_with_file(Random *r, InputKind kind, uint8_t *data, size_t size,
                               size_t max_size)
{
    switch (random_below(r, 8)) {
    case 0:
    case 1:
        return mutate_payload_bytes(r, data, size, max_size);
    case 2:
        if (kind == INPUT_STREAM && random_below(r, 8) == 0) {
            return make_stream(r, data, size, max_size);
        }
        /* fall through */
    default:
        return mutate_fields(r, data, size, max_size);
    }
}

static size_t mutate_lazy(Random *r, uint8_t *data, size_t size, size_t max_size)
{
    switch (random_below(r, 8)) {
    case 0:
        lazy_of(data)->flags ^= 1 << random_below(r, 4);
        return size;
    case 1:
    case 2:
        if (lazy_of(data)->flags & INPUT_LAZY_STREAM) {
            return mutate_payload_bytes(r, data, size, max_size);
        }
        return mutate_choices(r, data, input_payload_offset(data, size), size, max_size);
    default:
        return mutate_steps(r, data, size, max_size);
    }
}

static size_t append(uint8_t *out, size_t at, size_t max_size, const uint8_t *data, size_t size)
{
    size_t n = MIN(size, max_size - at);

    if (n > 0) {
        memcpy(out + at, data, n);
    }
    return at + n;
}

/* Kind postcopy: a schedule of steps of equal size, and raw bytes behind them. */

typedef struct Steps {
    uint8_t *count;           /* InputPostcopy.n_steps */
    InputPostcopyStep *first; /* in the input */
    size_t n;
    size_t offset; /* of the first one */
} Steps;

/* Where they are; the input is made long enough to have its fixed parts: *size. */
static bool find_steps(uint8_t *data, size_t *size, size_t max_size, Steps *steps)
{
    InputHeader *header = header_of(data);
    InputPostcopy *postcopy = (InputPostcopy *)(header + 1);

    header->n_blocks = CLAMP(header->n_blocks, 1, POSTCOPY_MAX_BLOCKS);
    steps->offset = sizeof(*header) + sizeof(*postcopy) + header->n_blocks * sizeof(InputBlock);
    if (steps->offset > max_size) {
        return false;
    }
    if (*size < steps->offset) {
        memset(data + *size, 0, steps->offset - *size);
        *size = steps->offset;
    }
    steps->first = (InputPostcopyStep *)(data + steps->offset);
    steps->count = &postcopy->n_steps;
    steps->n = MIN(MIN(postcopy->n_steps, POSTCOPY_MAX_STEPS),
                   (*size - steps->offset) / sizeof(InputPostcopyStep));
    *steps->count = (uint8_t)steps->n;
    return true;
}

static InputPostcopyStep random_step(Random *r)
{
    return (InputPostcopyStep){
        .action = (uint8_t)random_below(r, POSTCOPY_N_ACTIONS),
        .who = (uint8_t)random_below(r, 4),
        .block = (uint8_t)random_below(r, POSTCOPY_MAX_BLOCKS),
        .page = (uint8_t)random_below(r, POSTCOPY_MAX_PAGES),
        .value = (uint8_t)(random_below(r, 2) ? random_below(r, 4) : random_u64(r)),
        .detail = (uint8_t)(random_below(r, 2) ? random_below(r, 4) : random_u64(r)),
    };
}

static size_t insert_step(Random *r, const Steps *steps, size_t size, size_t max_size)
{
    size_t at = random_below(r, steps->n + 1);
    InputPostcopyStep step = steps->n > 0 && random_below(r, 4) == 0
                                 ? steps->first[random_below(r, steps->n)]
                                 : random_step(r);

    if (steps->n == POSTCOPY_MAX_STEPS || size + sizeof(step) > max_size) {
        return size;
    }
    memmove(steps->first + at + 1, steps->first + at, size - steps->offset - at * sizeof(step));
    steps->first[at] = step;
    *steps->count = (uint8_t)(steps->n + 1);
    return size + sizeof(step);
}

static size_t remove_step(Random *r, const Steps *steps, size_t size)
{
    size_t at = random_below(r, steps->n);

    memmove(steps->first + at, steps->first + at + 1,
            size - steps->offset - (at + 1) * sizeof(InputPostcopyStep));
    *steps->count = (uint8_t)(steps->n - 1);
    return size - sizeof(InputPostcopyStep);
}

static void change_step(Random *r, const Steps *steps)
{
    uint8_t *bytes = (uint8_t *)&steps->first[random_below(r, steps->n)];
    InputPostcopyStep step = random_step(r);
    size_t field = random_below(r, G_STRUCT_OFFSET(InputPostcopyStep, reserved));

    bytes[field] = ((uint8_t *)&step)[field];
}

static void mutate_postcopy_guest(Random *r, uint8_t *data)
{
    InputHeader *header = header_of(data);
    InputPostcopy *postcopy = (InputPostcopy *)(header + 1);
    InputBlock *block = (InputBlock *)(postcopy + 1) + random_below(r, header->n_blocks);

    switch (random_below(r, 5)) {
    case 0:
        postcopy->flags ^= 1 << random_below(r, 2);
        break;
    case 1:
        postcopy->n_threads = 1 + random_below(r, 4);
        break;
    case 2:
        header->page_bits = 10 + random_below(r, 3);
        break;
    case 3:
        block->used.pages = 1 + random_below(r, POSTCOPY_MAX_PAGES);
        break;
    default:
        header->flags ^= INPUT_DIRTY_RAM;
        break;
    }
}

static size_t mutate_postcopy(Random *r, uint8_t *data, size_t size, size_t max_size)
{
    Steps steps;
    size_t raw;

    if (!find_steps(data, &size, max_size, &steps)) {
        return size;
    }
    raw = steps.offset + steps.n * sizeof(InputPostcopyStep);
    switch (random_below(r, 16)) {
    case 0:
    case 1:
        mutate_postcopy_guest(r, data);
        return size;
    case 2:
    case 3:
    case 4:
        return raw + mutate_bytes(r, data + raw, size - raw, max_size - raw);
    case 5:
    case 6:
        return steps.n > 0 ? remove_step(r, &steps, size) : size;
    case 7:
    case 8:
    case 9:
    case 10:
        if (steps.n > 0) {
            change_step(r, &steps);
        }
        return size;
    default:
        return insert_step(r, &steps, size, max_size);
    }
}

/* The guest and the first steps of one, the last steps and the raw bytes of the other. */
static size_t cross_postcopy(Random *r, const uint8_t *data1, size_t size1, const uint8_t *data2,
                             size_t size2, uint8_t *out, size_t max_size)
{
    g_autofree uint8_t *copy1 = g_malloc0(size1 + max_size);
    g_autofree uint8_t *copy2 = g_malloc0(size2 + max_size);
    Steps steps1, steps2;
    size_t kept, from, at;

    memcpy(copy1, data1, size1);
    memcpy(copy2, data2, size2);
    if (!find_steps(copy1, &size1, max_size, &steps1) ||
        !find_steps(copy2, &size2, max_size, &steps2)) {
        return append(out, 0, max_size, data1, size1);
    }
    kept = random_below(r, steps1.n + 1);
    from = random_below(r, steps2.n + 1);
    *steps1.count = (uint8_t)MIN(kept + steps2.n - from, POSTCOPY_MAX_STEPS);
    from = steps2.n - (*steps1.count - MIN(kept, *steps1.count));
    at = append(out, 0, max_size, copy1, steps1.offset + kept * sizeof(InputPostcopyStep));
    from = steps2.offset + from * sizeof(InputPostcopyStep);
    return append(out, at, max_size, copy2 + from, size2 - from);
}

size_t mutate_input(InputKind kind, uint8_t *data, size_t size, size_t max_size, unsigned seed)
{
    Random r = { seed };

    /* libFuzzer minimises by asking for less than it hands over. */
    size = MIN(size, max_size);
    if (max_size < prefix_of(kind)) {
        return mutate_bytes(&r, data, size, max_size);
    }
    size = repair_header(kind, data, size);
    if (kind == INPUT_POSTCOPY) {
        size = mutate_postcopy(&r, data, size, max_size);
    } else if (random_below(&r, 16) == 0) {
        mutate_header(&r, kind, header_of(data));
    } else if (kind == INPUT_LAYOUT || kind == INPUT_ROUND_TRIP) {
        size = mutate_choices(&r, data, sizeof(InputHeader), size, max_size);
    } else if (kind == INPUT_LAZY) {
        size = mutate_lazy(&r, data, size, max_size);
    } else if (!input_kind_has_file(kind)) {
        size = mutate_payload_bytes(&r, data, size, max_size);
    } else {
        size = mutate_with_file(&r, kind, data, size, max_size);
    }
    size = repair_header(kind, data, size);
    if (random_below(&r, REAL_FILE_ODDS) != 0) {
        header_of(data)->axes &= ~INPUT_AXIS_REAL_FILE;
    }
    return size;
}

/* The snapshot of one, the mutations of the other. */
static size_t cross_choices(const uint8_t *data1, size_t size1, const uint8_t *data2, size_t size2,
                            uint8_t *out, size_t max_size)
{
    const size_t header = sizeof(InputHeader);
    size_t generator1 = get_generator_size((const InputHeader *)data1, size1 - header);
    size_t generator2 = get_generator_size((const InputHeader *)data2, size2 - header);
    size_t at = append(out, 0, max_size, data1, header + generator1);

    set_generator_size(header_of(out), at - header);
    header_of(out)->mutations = ((const InputHeader *)data2)->mutations;
    return append(out, at, max_size, data2 + header + generator2, size2 - header - generator2);
}

/* The schedule of one, the snapshot of the other; that is what follows the steps. */
static size_t cross_lazy(const uint8_t *data1, size_t size1, const uint8_t *data2, size_t size2,
                         uint8_t *out, size_t max_size)
{
    size_t payload1 = input_payload_offset(data1, size1);
    size_t payload2 = input_payload_offset(data2, size2);
    InputHeader header = *(const InputHeader *)data2;
    size_t at = append(out, 0, max_size, data1, payload1);

    memcpy(out, &header, sizeof(header));
    lazy_of(out)->flags =
        (lazy_of(out)->flags & ~INPUT_LAZY_STREAM) |
        (((const InputLazy *)(data2 + sizeof(header)))->flags & INPUT_LAZY_STREAM);
    return append(out, at, max_size, data2 + payload2, size2 - payload2);
}

size_t cross_inputs(InputKind kind, const uint8_t *data1, size_t size1, const uint8_t *data2,
                    size_t size2, uint8_t *out, size_t max_size, unsigned seed)
{
    Random r = { seed };
    size_t payload1, payload2, prefix, suffix, at;

    if (MIN(MIN(size1, size2), max_size) < prefix_of(kind)) {
        return append(out, 0, max_size, data1, size1);
    }
    if (kind == INPUT_LAYOUT || kind == INPUT_ROUND_TRIP) {
        at = cross_choices(data1, size1, data2, size2, out, max_size);
        return repair_header(kind, out, at);
    }
    if (kind == INPUT_LAZY) {
        at = cross_lazy(data1, size1, data2, size2, out, max_size);
        return repair_header(kind, out, at);
    }
    if (kind == INPUT_POSTCOPY) {
        at = cross_postcopy(&r, data1, size1, data2, size2, out, max_size);
        return repair_header(kind, out, at);
    }
    payload1 = input_payload_offset(data1, size1);
    payload2 = input_payload_offset(data2, size2);
    prefix = payload1 + random_below(&r, size1 - payload1 + 1);
    suffix = payload2 + random_below(&r, size2 - payload2 + 1);
    at = append(out, 0, max_size, data1, prefix);
    at = append(out, at, max_size, data2 + suffix, size2 - suffix);
    return repair_header(kind, out, at);
}

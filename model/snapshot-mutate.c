/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Structure-aware mutations of a snapshot's description: from right files to
 * nearly right ones. Each is one function and one line of the table at the
 * end; it takes a few bytes of choices, changes one thing, and says in the log
 * what. Some lay the file out anew afterwards, so that only one thing is wrong;
 * others leave everything else where it was.
 *
 * A mutation must work on any description, also one that others have mutated
 * before; whether the result is wrong is the judge's affair (judge.h).
 */
#include "model/snapshot-fields.h"
#include "model/snapshot.h"

#include <string.h>

#define MAX_BLOCKS (2 * SNAPSHOT_MAX_GENERATED_BLOCKS)
#define MAX_ITEMS 32 /* subsections, capabilities, pokes */

typedef struct Mutator {
    Choices *choices;
    Snapshot *snapshot;
    const Guest *guest;
    GString *log; /* NULL: none */
} Mutator;

static void G_GNUC_PRINTF(2, 3) mutator_log(Mutator *m, const char *format, ...)
{
    va_list arguments;

    if (!m->log) {
        return;
    }
    g_string_append_c(m->log, ' ');
    va_start(arguments, format);
    g_string_append_vprintf(m->log, format, arguments);
    va_end(arguments);
}

/* "block 1 'pc.ram'", for the log. */
static char *describe_block(const SnapshotBlock *block, unsigned index)
{
    g_autofree char *idstr = g_strndup(block->idstr, block->idstr_length);
    g_autofree char *escaped = g_strescape(idstr, NULL);

    return g_strdup_printf("block %u '%s'", index, escaped);
}

static void log_block(Mutator *m, unsigned index, const char *field, uint64_t old, uint64_t value)
{
    g_autofree char *name = NULL;

    if (!m->log) {
        return;
    }
    name = describe_block(snapshot_block(m->snapshot, index), index);
    mutator_log(m, "%s: %s 0x%" G_GINT64_MODIFIER "x -> 0x%" G_GINT64_MODIFIER "x", name, field,
                old, value);
}

static void log_value(Mutator *m, const char *field, uint64_t old, uint64_t value)
{
    mutator_log(m, "%s 0x%" G_GINT64_MODIFIER "x -> 0x%" G_GINT64_MODIFIER "x", field, old, value);
}

static unsigned pick(Mutator *m, unsigned n)
{
    return choices_below(m->choices, n);
}

/* Takes its byte in any case, so that the choices after it keep their place. */
static bool pick_block(Mutator *m, unsigned *index)
{
    uint8_t byte = choices_u8(m->choices);

    if (m->snapshot->blocks->len == 0) {
        return false;
    }
    *index = byte % m->snapshot->blocks->len;
    return true;
}

static void lay_out(Mutator *m)
{
    snapshot_layout(m->snapshot, m->snapshot->pages_alignment);
}

/* Lengths that make sense for the file at hand, or break it. */
static uint64_t interesting_length(Mutator *m, uint64_t old)
{
    uint64_t page = m->snapshot->page_size;
    uint8_t byte = choices_u8(m->choices);
    const GuestBlock *block = &m->guest->blocks[byte % MAX(m->guest->n_blocks, 1)];

    switch (byte / 16) {
    case 0:
        return old + page;
    case 1:
        return old - page;
    case 2:
        return old + 1;
    case 3:
        return old - 1;
    case 4:
        return old + page / 2;
    case 5:
        return block->max_length;
    case 6:
        return block->max_length + page;
    case 7:
        return block->used_length;
    case 8:
        return 0;
    case 9:
        return page;
    case 10:
        return old + 64 * page;
    case 11:
        return old * 2;
    case 12:
        return (UINT64_C(1) << 63) - page;
    case 13:
        return UINT64_C(1) << 63;
    case 14:
        return 0 - page;
    default:
        return UINT64_C(1) << 32;
    }
}

static uint64_t other_value(Mutator *m, uint8_t byte)
{
    const Snapshot *s = m->snapshot;
    const SnapshotBlock *block;

    if (s->blocks->len == 0 || byte % 4 == 0) {
        return snapshot_field_get(s, &snapshot_fields[byte / 4 % SNAPSHOT_N_FIELDS]);
    }
    block = snapshot_block(s, byte % s->blocks->len);
    return snapshot_field_get(block, &snapshot_block_fields[byte / 4 % SNAPSHOT_N_BLOCK_FIELDS]);
}

static uint64_t boundary_value(Mutator *m, uint64_t old)
{
    static const uint64_t constants[] = {
        0,
        1,
        2,
        3,
        4,
        5,
        6,
        7,
        8,
        0x10,
        0x20,
        0x24,
        0x30,
        0x40,
        0x7e,
        0x80,
        0xff,
        0x100,
        0x200,
        0x400,
        0x1000,
        0x10000,
        0x100000,
        0x7fffffff,
        0x80000000,
        0xffffffff,
        0x100000000,
        INT64_MAX,
        0x8000000000000000,
        0xfffffffffffff000,
        UINT64_MAX,
    };
    uint64_t page = m->snapshot->page_size;
    uint8_t how = choices_u8(m->choices);
    uint8_t byte = choices_u8(m->choices);

    switch (how % 12) {
    case 0:
        return old + 1;
    case 1:
        return old - 1;
    case 2:
        return old + page;
    case 3:
        return old - page;
    case 4:
        return old * 2;
    case 5:
        return old / 2;
    case 6:
        return old ^ (UINT64_C(1) << (byte % 64));
    case 7:
        return other_value(m, byte);
    case 8:
        return snapshot_tail_end(m->snapshot) + (int8_t)byte;
    case 9:
        return INT64_MAX - byte * page + (byte & 1);
    default:
        return constants[byte % G_N_ELEMENTS(constants)];
    }
}

/* What the description itself is built with stays; mutate_truncate() does file_size. */
static bool is_unit(const SnapshotField *field)
{
    return field->offset == offsetof(Snapshot, page_size) ||
           field->offset == offsetof(Snapshot, pages_alignment) ||
           field->offset == offsetof(Snapshot, file_size);
}

static bool mutate_field(Mutator *m)
{
    unsigned index = pick(m, SNAPSHOT_N_FIELDS);
    const SnapshotField *field;
    uint64_t old;

    while (is_unit(&snapshot_fields[index])) {
        index = (index + 1) % SNAPSHOT_N_FIELDS;
    }
    field = &snapshot_fields[index];
    old = snapshot_field_get(m->snapshot, field);
    snapshot_field_set(m->snapshot, field, boundary_value(m, old));
    log_value(m, field->name, old, snapshot_field_get(m->snapshot, field));
    return true;
}

static bool change_block_field(Mutator *m, unsigned *block_index)
{
    bool any = pick_block(m, block_index);
    unsigned index = pick(m, SNAPSHOT_N_BLOCK_FIELDS);
    const SnapshotField *field = &snapshot_block_fields[index];
    SnapshotBlock *block;
    uint64_t old;

    if (!any) {
        return false;
    }
    block = snapshot_block(m->snapshot, *block_index);
    old = snapshot_field_get(block, field);
    snapshot_field_set(block, field, boundary_value(m, old));
    log_block(m, *block_index, field->name, old, snapshot_field_get(block, field));
    return true;
}

static bool mutate_block_field(Mutator *m)
{
    unsigned index;

    return change_block_field(m, &index);
}

/* used_length is consistent with everything but the guest. */
static bool mutate_used_length_laid_out(Mutator *m)
{
    unsigned index;
    uint64_t value;
    SnapshotBlock *block;

    if (!pick_block(m, &index)) {
        return false;
    }
    block = snapshot_block(m->snapshot, index);
    value = interesting_length(m, block->used_length);
    log_block(m, index, "used_length (laid out)", block->used_length, value);
    block->used_length = value;
    lay_out(m);
    return true;
}

/* ... and not with total. */
static bool mutate_used_length_not_total(Mutator *m)
{
    uint64_t total = m->snapshot->total;

    if (!mutate_used_length_laid_out(m)) {
        return false;
    }
    log_value(m, "total (kept)", m->snapshot->total, total);
    m->snapshot->total = total;
    return true;
}

/* used_length alone, with total fixed along: everything else stays in place. */
static bool mutate_used_length_and_total(Mutator *m)
{
    unsigned index;
    uint64_t value;
    SnapshotBlock *block;

    if (!pick_block(m, &index)) {
        return false;
    }
    block = snapshot_block(m->snapshot, index);
    value = interesting_length(m, block->used_length);
    log_block(m, index, "used_length (total fixed)", block->used_length, value);
    m->snapshot->total += value - block->used_length;
    block->used_length = value;
    return true;
}

static bool mutate_total(Mutator *m)
{
    uint64_t old = m->snapshot->total;
    uint64_t flags = old % m->snapshot->page_size;

    m->snapshot->total = interesting_length(m, old - flags) + flags;
    log_value(m, "total", old, m->snapshot->total);
    return true;
}

/* A place in the file where something begins or ends. */
static uint64_t interesting_place(Mutator *m)
{
    const Snapshot *s = m->snapshot;
    uint8_t byte = choices_u8(m->choices);
    const SnapshotBlock *block;

    if (byte < 96 || s->blocks->len == 0) {
        const uint64_t places[] = {
            0,
            4,
            8,
            9,
            13,
            13 + s->machine->len,
            snapshot_section_at(s),
            snapshot_total_at(s),
            snapshot_total_at(s) + 8,
            s->tail_at,
            s->tail_at + 8,
            s->tail_at + 13,
            s->tail_at + 13 + 5,
            snapshot_tail_end(s),
            snapshot_tail_end(s) + s->page_size,
            s->tail_at + 13 + s->tail->len / 2,
        };

        return places[byte % G_N_ELEMENTS(places)];
    }
    block = snapshot_block(s, byte % s->blocks->len);
    {
        const uint64_t bitmap = snapshot_block_bitmap_length(block);
        const uint64_t header = snapshot_block_header_at(block);
        const uint64_t places[] = {
            block->record_at,
            header - 8,
            header,
            header + 4,
            header + 12,
            header + 20,
            block->bitmap_at,
            block->bitmap_at + bitmap,
            block->pages_at,
            block->pages_at + s->page_size,
            block->pages_at + block->used_length,
            block->pages_at + block->used_length - s->page_size,
        };

        return places[byte / 8 % G_N_ELEMENTS(places)];
    }
}

static int64_t interesting_delta(Mutator *m)
{
    static const int64_t deltas[] = { 0, -1, 1, 8, -8, 4, 64, 512 };

    return deltas[pick(m, G_N_ELEMENTS(deltas))];
}

/* Header and bytes agree, the place is odd. */
static bool mutate_bitmap_place(Mutator *m)
{
    unsigned index;
    bool any = pick_block(m, &index);
    uint64_t place = interesting_place(m) + interesting_delta(m);
    SnapshotBlock *block;

    if (!any) {
        return false;
    }
    block = snapshot_block(m->snapshot, index);
    log_block(m, index, "bitmap moved", block->bitmap_at, place);
    block->bitmap_at = place;
    block->bitmap_offset = place;
    return true;
}

/*
 * The pages go elsewhere: backwards, onto others, unaligned. The stream, which
 * goes on behind them, is moved along where the choices say so.
 */
static bool mutate_pages_place(Mutator *m)
{
    unsigned index;
    bool any = pick_block(m, &index);
    uint8_t how = choices_u8(m->choices);
    uint64_t page = m->snapshot->page_size;
    uint64_t place = interesting_place(m);
    SnapshotBlock *block;

    if (!any) {
        return false;
    }
    block = snapshot_block(m->snapshot, index);
    switch (how % 4) {
    case 0:
        place = place / page * page;
        break;
    case 1:
        place = block->pages_at + interesting_delta(m);
        break;
    case 2:
        place = block->pages_at + page;
        break;
    default:
        break;
    }
    log_block(m, index, "pages moved", block->pages_at, place);
    if ((how & 0x80) && index + 1 == m->snapshot->blocks->len) {
        m->snapshot->tail_at += place - block->pages_at;
    }
    block->pages_at = place;
    block->pages_offset = place;
    return true;
}

static bool mutate_alignment(Mutator *m)
{
    uint64_t old = m->snapshot->pages_alignment;

    m->snapshot->pages_alignment = UINT64_C(1) << pick(m, 25);
    lay_out(m);
    log_value(m, "pages_alignment", old, m->snapshot->pages_alignment);
    return true;
}

static void maybe_lay_out(Mutator *m)
{
    if (pick(m, 4) != 3) {
        lay_out(m);
    }
}

static void duplicate_block(Snapshot *snapshot, const SnapshotBlock *from)
{
    SnapshotBlock *block = snapshot_add_block(snapshot, "", 0);
    GArray *runs = block->runs;

    *block = *from;
    block->runs = runs;
    if (from->runs->len > 0) {
        g_array_append_vals(runs, from->runs->data, from->runs->len);
    }
}

static void maybe_keep_total(Mutator *m, uint64_t total)
{
    if (pick(m, 4) == 3) {
        log_value(m, "total (kept)", m->snapshot->total, total);
        m->snapshot->total = total;
    }
}

static bool mutate_duplicate_block(Mutator *m)
{
    unsigned index;
    uint64_t total;

    if (!pick_block(m, &index) || m->snapshot->blocks->len >= MAX_BLOCKS) {
        return false;
    }
    total = m->snapshot->total;
    duplicate_block(m->snapshot, snapshot_block(m->snapshot, index));
    mutator_log(m, "block %u doubled", index);
    lay_out(m);
    maybe_keep_total(m, total);
    return true;
}

static bool mutate_swap_blocks(Mutator *m)
{
    GPtrArray *blocks = m->snapshot->blocks;
    unsigned index;
    unsigned other;
    void *first;

    if (!pick_block(m, &index) || blocks->len < 2) {
        return false;
    }
    other = (index + 1 + pick(m, blocks->len - 1)) % blocks->len;
    first = blocks->pdata[index];
    blocks->pdata[index] = blocks->pdata[other];
    blocks->pdata[other] = first;
    mutator_log(m, "blocks %u and %u swapped", index, other);
    lay_out(m);
    return true;
}

static bool mutate_drop_block(Mutator *m)
{
    unsigned index;
    uint64_t total = m->snapshot->total;

    if (!pick_block(m, &index)) {
        return false;
    }
    g_ptr_array_remove_index(m->snapshot->blocks, index);
    mutator_log(m, "block %u dropped", index);
    lay_out(m);
    maybe_keep_total(m, total);
    return true;
}

/* One record becomes two of the same block, whose lengths add up to what it had. */
static bool mutate_split_block(Mutator *m)
{
    unsigned index;
    bool any = pick_block(m, &index);
    SnapshotBlock *block;
    uint64_t old, first;

    if (!any || m->snapshot->blocks->len >= MAX_BLOCKS) {
        return false;
    }
    block = snapshot_block(m->snapshot, index);
    old = block->used_length;
    first = interesting_length(m, old / 2);
    duplicate_block(m->snapshot, block);
    block->used_length = first;
    snapshot_block(m->snapshot, m->snapshot->blocks->len - 1)->used_length = old - first;
    log_block(m, index, "split: used_length", old, first);
    lay_out(m);
    return true;
}

/*
 * How many pages there are is a quotient of two fields: it comes to lie where a
 * number wraps around or turns negative, with one page_size or another.
 */
static bool mutate_page_count(Mutator *m)
{
    unsigned index;
    bool any = pick_block(m, &index);
    uint64_t page = m->snapshot->page_size;
    const uint64_t sizes[] = { page, page / 2, 1 };
    static const uint64_t limits[] = { 0, UINT64_C(1) << 63, UINT64_C(1) << 32 };
    static const int64_t deltas[] = { 0, -1, 1 };
    uint64_t size = sizes[pick(m, G_N_ELEMENTS(sizes))];
    uint64_t count = limits[pick(m, G_N_ELEMENTS(limits))] + deltas[pick(m, G_N_ELEMENTS(deltas))];
    SnapshotBlock *block;

    if (!any) {
        return false;
    }
    block = snapshot_block(m->snapshot, index);
    log_block(m, index, "page_size", block->page_size, size);
    log_block(m, index, "used_length", block->used_length, count * size);
    block->page_size = size;
    block->used_length = count * size;
    return true;
}

/* Where the stream may go on: at a record, or anywhere where something begins. */
static uint64_t next_place(Mutator *m, bool at_record)
{
    unsigned index = 0;

    if (at_record && pick_block(m, &index)) {
        return snapshot_block(m->snapshot, index)->record_at;
    }
    return interesting_place(m);
}

/* What is next in the stream is to begin at @place, unless that overwrites the record before. */
static void move_next(Mutator *m, unsigned index, uint64_t place)
{
    if (place < snapshot_block(m->snapshot, index)->bitmap_at) {
        return;
    }
    if (index + 1 < m->snapshot->blocks->len) {
        snapshot_block(m->snapshot, index + 1)->record_at = place;
    } else {
        m->snapshot->tail_at = place;
    }
}

/*
 * The stream goes on behind a block's pages, at the sum of two fields: at
 * another place where something begins, a record read before, say. Without a
 * page that is set nobody reads where the pages are.
 */
static bool mutate_pages_end(Mutator *m)
{
    unsigned index;
    bool any = pick_block(m, &index);
    uint8_t how = choices_u8(m->choices);
    uint64_t page = m->snapshot->page_size;
    uint64_t place = next_place(m, how & 8);
    SnapshotBlock *block;

    if (!any) {
        return false;
    }
    block = snapshot_block(m->snapshot, index);
    if (how & 1) {
        place = (place + page - 1) / page * page;
    }
    log_block(m, index, "pages end", block->pages_offset + block->used_length, place);
    if (how & 2) { /* they begin in the page where they end */
        block->pages_offset = place / page * page;
        block->used_length = place % page;
    } else {
        block->pages_offset = place - block->used_length;
    }
    if (how & 4) {
        g_array_set_size(block->runs, 0);
    }
    move_next(m, index, place);
    return true;
}

/* Rule X2's header, with and without the capability. */
static bool mutate_sentinel(Mutator *m)
{
    unsigned index;
    bool any = pick_block(m, &index);
    unsigned how = pick(m, 4);
    SnapshotBlock *block;

    if (!any) {
        return false;
    }
    block = snapshot_block(m->snapshot, index);
    if (how < 2) {
        log_block(m, index, "ignored (laid out)", block->ignored, !block->ignored);
        block->ignored = !block->ignored;
        lay_out(m);
        return true;
    }
    log_block(m, index, "bitmap_offset = pages_offset", block->pages_offset, 0);
    block->bitmap_offset = 0;
    block->pages_offset = 0;
    return true;
}

static bool mutate_gpa(Mutator *m)
{
    unsigned index;
    SnapshotBlock *block;

    if (!pick_block(m, &index)) {
        return false;
    }
    block = snapshot_block(m->snapshot, index);
    log_block(m, index, "has_gpa", block->has_gpa, !block->has_gpa);
    block->has_gpa = !block->has_gpa;
    maybe_lay_out(m);
    return true;
}

/* Changes a name in one of the ways that readers get wrong. */
static void change_name(Mutator *m, char *name, uint8_t *length, const char *other)
{
    uint8_t at = choices_u8(m->choices);

    switch (pick(m, 7)) {
    case 0: /* another letter */
        if (*length > 0) {
            name[at % *length] ^= 1 + at % 127;
        }
        break;
    case 1: /* a prefix */
        *length = at % MAX(*length, 1);
        break;
    case 2: /* longer */
        if (*length < UINT8_MAX) {
            name[(*length)++] = 'x';
        }
        break;
    case 3: /* a NUL behind the name */
        if (*length < UINT8_MAX) {
            name[(*length)++] = '\0';
        }
        break;
    case 4: /* a NUL in the name */
        name[at % (*length + 1)] = '\0';
        break;
    case 5: /* as long as can be */
        memset(name + *length, 'x', UINT8_MAX - *length);
        *length = UINT8_MAX;
        break;
    default:
        *length = strlen(other);
        memcpy(name, other, *length);
        break;
    }
}

static bool mutate_idstr(Mutator *m)
{
    unsigned index;
    bool any = pick_block(m, &index);
    uint8_t other = choices_u8(m->choices);
    g_autofree char *old = NULL;
    g_autofree char *now = NULL;
    SnapshotBlock *block;

    if (!any) {
        return false;
    }
    block = snapshot_block(m->snapshot, index);
    if (m->log) {
        old = describe_block(block, index);
    }
    change_name(m, block->idstr, &block->idstr_length,
                m->guest->n_blocks > 0 ? m->guest->blocks[other % m->guest->n_blocks].idstr : "");
    maybe_lay_out(m);
    if (m->log) {
        now = describe_block(block, index);
        mutator_log(m, "%s is now %s, %u bytes", old, now, block->idstr_length);
    }
    return true;
}

static bool mutate_section_name(Mutator *m)
{
    change_name(m, m->snapshot->section_name, &m->snapshot->section_name_length, "timer");
    lay_out(m);
    mutator_log(m, "section name changed: %u bytes", m->snapshot->section_name_length);
    return true;
}

static bool mutate_machine(Mutator *m)
{
    GByteArray *machine = m->snapshot->machine;
    uint32_t old = machine->len;
    uint8_t at = choices_u8(m->choices);

    switch (pick(m, 5)) {
    case 0: /* a prefix */
        g_byte_array_set_size(machine, at % MAX(old, 1));
        break;
    case 1: /* longer, and a NUL where the choices say so */
        g_byte_array_append(machine, at & 1 ? (const uint8_t *)"" : (const uint8_t *)"x", 1);
        break;
    case 2: /* longer than a str8 */
        g_byte_array_set_size(machine, 256 + at);
        memset(machine->data, 'm', machine->len);
        break;
    case 3: /* another letter */
        if (old > 0) {
            machine->data[at % old] ^= 1 + at % 127;
        }
        break;
    default:
        g_byte_array_set_size(machine, 0);
        break;
    }
    mutator_log(m, "machine changed: %u -> %u bytes", old, machine->len);
    lay_out(m);
    return true;
}

static bool mutate_capability_name(Mutator *m)
{
    static const char *const others[] = { "mapped-ram", "x-ignore-shared", "multifd", "xbzrle" };
    GArray *capabilities = m->snapshot->capabilities;
    uint8_t byte = choices_u8(m->choices);
    SnapshotCapability *capability;

    if (capabilities->len == 0) {
        return false;
    }
    capability = &g_array_index(capabilities, SnapshotCapability, byte % capabilities->len);
    change_name(m, capability->name, &capability->length, others[byte / 16 % G_N_ELEMENTS(others)]);
    lay_out(m);
    mutator_log(m, "capability %u renamed: %u bytes", byte % capabilities->len, capability->length);
    return true;
}

static bool mutate_add_capability(Mutator *m)
{
    static const char *const names[] = { "mapped-ram",   "x-ignore-shared", "multifd",
                                         "postcopy-ram", "direct-io",       "" };
    unsigned index = pick(m, G_N_ELEMENTS(names));

    if (m->snapshot->capabilities->len >= MAX_ITEMS) {
        return false;
    }
    snapshot_add_capability(m->snapshot, names[index]);
    lay_out(m);
    mutator_log(m, "capability '%s' added", names[index]);
    return true;
}

static bool mutate_drop_capability(Mutator *m)
{
    GArray *capabilities = m->snapshot->capabilities;
    uint8_t byte = choices_u8(m->choices);

    if (capabilities->len == 0) {
        return false;
    }
    g_array_remove_index(capabilities, byte % capabilities->len);
    lay_out(m);
    mutator_log(m, "capability %u dropped", byte % (capabilities->len + 1));
    return true;
}

static bool mutate_capability_count(Mutator *m)
{
    static const uint32_t deltas[] = { 1, UINT32_MAX, 64, 0x80000000, 0xfffffff0 };
    uint32_t old = m->snapshot->capability_count;

    m->snapshot->capability_count += deltas[pick(m, G_N_ELEMENTS(deltas))];
    log_value(m, "capability_count", old, m->snapshot->capability_count);
    return true;
}

static SnapshotSubsection *pick_subsection(Mutator *m, unsigned *index)
{
    uint8_t byte = choices_u8(m->choices);

    if (m->snapshot->subsections->len == 0) {
        return NULL;
    }
    *index = byte % m->snapshot->subsections->len;
    return &g_array_index(m->snapshot->subsections, SnapshotSubsection, *index);
}

static bool mutate_duplicate_subsection(Mutator *m)
{
    unsigned index;
    const SnapshotSubsection *sub = pick_subsection(m, &index);
    SnapshotSubsection copy;

    if (!sub || m->snapshot->subsections->len >= MAX_ITEMS) {
        return false;
    }
    copy = *sub;
    g_array_append_val(m->snapshot->subsections, copy);
    lay_out(m);
    mutator_log(m, "subsection %u doubled", index);
    return true;
}

static bool mutate_drop_subsection(Mutator *m)
{
    unsigned index;

    if (!pick_subsection(m, &index)) {
        return false;
    }
    g_array_remove_index(m->snapshot->subsections, index);
    lay_out(m);
    mutator_log(m, "subsection %u dropped", index);
    return true;
}

static bool mutate_subsection_name(Mutator *m)
{
    static const char *const others[] = { "configuration/uuid", "configuration/capabilities",
                                          "configuration/target-page-bits", "configuration" };
    unsigned index;
    SnapshotSubsection *sub = pick_subsection(m, &index);
    unsigned other = pick(m, G_N_ELEMENTS(others));

    if (!sub) {
        return false;
    }
    change_name(m, sub->name, &sub->name_length, others[other]);
    lay_out(m);
    mutator_log(m, "subsection %u renamed: %u bytes", index, sub->name_length);
    return true;
}

static bool mutate_subsection_version(Mutator *m)
{
    unsigned index;
    SnapshotSubsection *sub = pick_subsection(m, &index);
    uint32_t old;

    if (!sub) {
        return false;
    }
    old = sub->version;
    sub->version = boundary_value(m, old);
    log_value(m, "subsection version", old, sub->version);
    return true;
}

/* Also of the capabilities: a list of any bytes. */
static bool mutate_subsection_contents(Mutator *m)
{
    unsigned index;
    SnapshotSubsection *sub = pick_subsection(m, &index);
    uint8_t length = choices_u8(m->choices) % 24;
    uint8_t *contents;

    if (!sub) {
        return false;
    }
    contents = snapshot_alloc(m->snapshot, length);
    memset(contents, 0, length);
    if (length > 0) {
        contents[length - 1] = choices_u8(m->choices);
    }
    sub->contents = contents;
    sub->contents_length = length;
    lay_out(m);
    mutator_log(m, "subsection %u has %u other bytes", index, length);
    return true;
}

static bool mutate_add_page_bits(Mutator *m)
{
    uint8_t bits[4] = { 0, 0, 0, choices_u8(m->choices) % 70 };

    if (m->snapshot->subsections->len >= MAX_ITEMS) {
        return false;
    }
    snapshot_add_subsection(m->snapshot, "configuration/target-page-bits", bits, sizeof(bits));
    lay_out(m);
    mutator_log(m, "target-page-bits %u added", bits[3]);
    return true;
}

/* Words that are right but for their flags. */
static uint64_t other_flags(Mutator *m, uint64_t word)
{
    static const uint64_t flags[] = { 0x24, 0x10, 0x30, 0x14, 0x04,  0x08,
                                      0x00, 0x02, 0x40, 0x84, 0x200, 0x20 };

    return (word & ~UINT64_C(0x3ff)) | flags[pick(m, G_N_ELEMENTS(flags))];
}

static bool mutate_total_flags(Mutator *m)
{
    uint64_t old = m->snapshot->total;

    m->snapshot->total = other_flags(m, old);
    log_value(m, "total (flags)", old, m->snapshot->total);
    return true;
}

static bool mutate_eos_flags(Mutator *m)
{
    uint64_t old = m->snapshot->eos;

    m->snapshot->eos = other_flags(m, old) | (pick(m, 4) == 3 ? m->snapshot->page_size : 0);
    log_value(m, "eos", old, m->snapshot->eos);
    return true;
}

/* Rule R1a: the first word is EOS already, the footer follows it. */
static bool mutate_no_ram(Mutator *m)
{
    Snapshot *s = m->snapshot;

    s->total = pick(m, 2) ? 0x30 : SNAPSHOT_EOS;
    s->eos = s->total;
    s->tail_at = snapshot_total_at(s);
    g_ptr_array_set_size(s->blocks, 0);
    mutator_log(m, "the first word is EOS");
    return true;
}

static bool mutate_section_id(Mutator *m)
{
    uint32_t old = m->snapshot->section_id;

    m->snapshot->section_id = boundary_value(m, old);
    m->snapshot->footer_id = m->snapshot->section_id;
    log_value(m, "section_id and footer_id", old, m->snapshot->section_id);
    return true;
}

/* Takes the tail apart at a byte, and inserts what the choices say. */
static bool mutate_insert_in_tail(Mutator *m)
{
    static const char *const names[] = { "none",
                                         "PART",
                                         "END",
                                         "COMMAND 11",
                                         "COMMAND",
                                         "PART of another section",
                                         "FULL ram",
                                         "START timer",
                                         "EOF",
                                         "END without footer",
                                         "PART with MEM_SIZE" };
    GByteArray *tail = m->snapshot->tail;
    uint32_t id = m->snapshot->section_id;
    unsigned what = 1 + pick(m, G_N_ELEMENTS(names) - 1);
    static const uint8_t places[] = { 0, 5, 23, 18 };
    unsigned place = places[pick(m, G_N_ELEMENTS(places))];
    unsigned at = MIN(place, tail->len);
    unsigned rest_length = tail->len - at;
    uint8_t *rest = snapshot_alloc(m->snapshot, rest_length);
    uint8_t eof = SNAPSHOT_SECTION_EOF;

    if (rest_length > 0) {
        memcpy(rest, tail->data + at, rest_length);
    }
    g_byte_array_set_size(tail, at);
    switch (what) {
    case 1:
    case 2:
    case 9:
    case 10:
        snapshot_append_ram_section(tail,
                                    what == 2 || what == 9 ? SNAPSHOT_SECTION_END
                                                           : SNAPSHOT_SECTION_PART,
                                    id);
        break;
    case 3:
        snapshot_append_command(tail, 11, NULL, 0);
        break;
    case 4:
        snapshot_append_command(tail, pick(m, 13), names, pick(m, 16));
        break;
    case 5:
        snapshot_append_ram_section(tail, SNAPSHOT_SECTION_PART, id + 1);
        break;
    case 6:
        snapshot_append_section(tail, SNAPSHOT_SECTION_FULL, id, "ram", 0, 4);
        break;
    case 7:
        snapshot_append_section(tail, SNAPSHOT_SECTION_START, id, "timer", 0, 2);
        break;
    default:
        g_byte_array_append(tail, &eof, 1);
        break;
    }
    if (what == 9) {
        g_byte_array_set_size(tail, tail->len - 5);
    } else if (what == 10) {
        tail->data[tail->len - 6] = SNAPSHOT_MEM_SIZE;
    }
    if (rest_length > 0) {
        g_byte_array_append(tail, rest, rest_length);
    }
    mutator_log(m, "tail: %s inserted at %u", names[what], at);
    return true;
}

static bool mutate_tail_byte(Mutator *m)
{
    GByteArray *tail = m->snapshot->tail;
    uint8_t at = choices_u8(m->choices);
    uint8_t value = choices_u8(m->choices);

    if (tail->len == 0) {
        return false;
    }
    mutator_log(m, "tail: byte %u 0x%02x -> 0x%02x", at % tail->len, tail->data[at % tail->len],
                value);
    tail->data[at % tail->len] = value;
    return true;
}

static bool mutate_cut_tail(Mutator *m)
{
    GByteArray *tail = m->snapshot->tail;
    unsigned front = pick(m, 2) ? pick(m, 32) : 0;
    unsigned length;

    if (tail->len == 0) {
        return false;
    }
    if (front > 0 && front < tail->len) { /* END of ram, say, is gone */
        g_byte_array_remove_range(tail, 0, front);
        mutator_log(m, "tail: first %u bytes dropped", front);
        return true;
    }
    length = pick(m, 256) % tail->len;
    mutator_log(m, "tail: %u -> %u bytes", tail->len, length);
    g_byte_array_set_size(tail, length);
    return true;
}

static bool mutate_truncate(Mutator *m)
{
    uint64_t size = interesting_place(m) + interesting_delta(m);

    m->snapshot->truncate = true;
    m->snapshot->file_size = size;
    log_value(m, "file size", snapshot_tail_end(m->snapshot), size);
    return true;
}

static bool mutate_extend(Mutator *m)
{
    uint64_t size = snapshot_tail_end(m->snapshot);

    m->snapshot->truncate = true;
    m->snapshot->file_size = size + (UINT64_C(1) << pick(m, 63));
    log_value(m, "file size", size, m->snapshot->file_size);
    return true;
}

static bool mutate_poke(Mutator *m)
{
    uint64_t offset = interesting_place(m) + interesting_delta(m);
    unsigned length = 1 + pick(m, 16);
    uint8_t bytes[16];

    if (m->snapshot->pokes->len >= MAX_ITEMS) {
        return false;
    }
    for (unsigned i = 0; i < length; i++) {
        bytes[i] = choices_u8(m->choices);
    }
    snapshot_add_poke(m->snapshot, offset, bytes, length);
    mutator_log(m, "%u bytes put at 0x%" G_GINT64_MODIFIER "x: 0x%02x ...", length, offset,
                bytes[0]);
    return true;
}

static bool mutate_add_run(Mutator *m)
{
    unsigned index;
    bool any = pick_block(m, &index);
    PageRun run = { .count = 1 + pick(m, 4) };
    uint8_t at = choices_u8(m->choices);
    uint8_t *data;
    SnapshotBlock *block;

    if (!any) {
        return false;
    }
    block = snapshot_block(m->snapshot, index);
    run.first = at < 240 ? at % MAX(block->bitmap_pages, 1) : block->bitmap_pages + at % 4;
    run.content = pick(m, CONTENT__MAX);
    run.seed = at;
    data = snapshot_alloc(m->snapshot, 1);
    *data = at;
    run.data = data;
    run.data_length = 1;
    snapshot_block_add_run(block, run);
    log_block(m, index, "run of pages added", run.first, run.first + run.count);
    return true;
}

static bool mutate_run(Mutator *m)
{
    unsigned index;
    bool any = pick_block(m, &index);
    uint8_t byte = choices_u8(m->choices);
    SnapshotBlock *block;
    PageRun *run;

    if (!any || snapshot_block(m->snapshot, index)->runs->len == 0) {
        return false;
    }
    block = snapshot_block(m->snapshot, index);
    run = &g_array_index(block->runs, PageRun, byte % block->runs->len);
    switch (byte / 64) {
    case 0:
        log_block(m, index, "run: first", run->first, run->first + 1);
        run->first++;
        break;
    case 1:
        log_block(m, index, "run: count", run->count, run->count * 2);
        run->count *= 2;
        break;
    case 2:
        log_block(m, index, "run: seed", run->seed, run->seed + 1);
        run->seed++;
        break;
    default:
        log_block(m, index, "run dropped", run->first, run->first);
        g_array_remove_index(block->runs, byte % block->runs->len);
        break;
    }
    return true;
}

typedef struct Mutation {
    const char *name;
    bool (*apply)(Mutator *m); /* false: nothing to work on, nothing done */
} Mutation;

/* What is new comes last: snapshot_mutate() counts on the order. */
static const Mutation mutations[] = {
    { "field", mutate_field },
    { "block-field", mutate_block_field },
    { "used-length-laid-out", mutate_used_length_laid_out },
    { "used-length-not-total", mutate_used_length_not_total },
    { "used-length-and-total", mutate_used_length_and_total },
    { "total", mutate_total },
    { "bitmap-place", mutate_bitmap_place },
    { "pages-place", mutate_pages_place },
    { "alignment", mutate_alignment },
    { "duplicate-block", mutate_duplicate_block },
    { "swap-blocks", mutate_swap_blocks },
    { "drop-block", mutate_drop_block },
    { "sentinel", mutate_sentinel },
    { "gpa", mutate_gpa },
    { "idstr", mutate_idstr },
    { "section-name", mutate_section_name },
    { "machine", mutate_machine },
    { "capability-name", mutate_capability_name },
    { "add-capability", mutate_add_capability },
    { "drop-capability", mutate_drop_capability },
    { "capability-count", mutate_capability_count },
    { "duplicate-subsection", mutate_duplicate_subsection },
    { "drop-subsection", mutate_drop_subsection },
    { "subsection-name", mutate_subsection_name },
    { "subsection-version", mutate_subsection_version },
    { "subsection-contents", mutate_subsection_contents },
    { "add-page-bits", mutate_add_page_bits },
    { "total-flags", mutate_total_flags },
    { "eos-flags", mutate_eos_flags },
    { "no-ram", mutate_no_ram },
    { "section-id", mutate_section_id },
    { "insert-in-tail", mutate_insert_in_tail },
    { "tail-byte", mutate_tail_byte },
    { "cut-tail", mutate_cut_tail },
    { "truncate", mutate_truncate },
    { "extend", mutate_extend },
    { "poke", mutate_poke },
    { "add-run", mutate_add_run },
    { "run", mutate_run },
    { "split-block", mutate_split_block },
    { "page-count", mutate_page_count },
    { "pages-end", mutate_pages_end },
};

/* How many of them each version draws from: it never changes, as inputs are kept. */
static const unsigned version_lengths[] = { 39, 42 };

G_STATIC_ASSERT(G_N_ELEMENTS(version_lengths) == SNAPSHOT_MUTATIONS_NEWEST + 1);
G_STATIC_ASSERT(G_N_ELEMENTS(mutations) == SNAPSHOT_N_MUTATIONS);

const char *snapshot_mutation_name(unsigned index)
{
    return index < G_N_ELEMENTS(mutations) ? mutations[index].name : NULL;
}

bool snapshot_apply_mutation(unsigned index, Choices *choices, Snapshot *snapshot,
                             const Guest *guest, GString *log)
{
    Mutator mutator = { choices, snapshot, guest, log };
    size_t log_length = log ? log->len : 0;
    bool applied;

    if (log) {
        g_string_append_printf(log, "%s:", mutations[index].name);
    }
    applied = mutations[index].apply(&mutator);
    if (log && applied) {
        g_string_append_c(log, '\n');
    } else if (log) {
        g_string_truncate(log, log_length);
    }
    return applied;
}

unsigned snapshot_mutate(Choices *choices, unsigned version, unsigned max, Snapshot *snapshot,
                         const Guest *guest, GString *log)
{
    unsigned length = version_lengths[MIN(version, SNAPSHOT_MUTATIONS_NEWEST)];
    unsigned applied = 0;

    while (applied < max && !choices_exhausted(choices)) {
        unsigned index = choices_below(choices, length);

        applied += snapshot_apply_mutation(index, choices, snapshot, guest, log);
    }
    return applied;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The judge. It is meant to be read with docs/mapped-ram-format.md beside it:
 * section by section, in the document's order, and each check names its rule.
 * Being obvious comes before being fast here; it must never share code with a
 * loader, trust a number of the file, or do I/O.
 *
 * All fields are hostile 64-bit numbers: sums are formed only after it is
 * known that they fit. The walk only goes forward, holes are never walked
 * through byte by byte, and what repeats needs bytes of data in the file to
 * repeat, so that the walk ends.
 */
#include "model/judge.h"

#include <string.h>

#define OFFSET_MAX ((uint64_t)INT64_MAX)

/* What the walk reads next, and what it knows. */
typedef struct Walk {
    const SparseFile *file;
    const Guest *guest;
    Judgement *judgement;
    uint64_t position;
    int block;                    /* whose record is read, index into Guest.blocks, or -1 */
    bool named[GUEST_MAX_BLOCKS]; /* by a record so far */
    bool seen_end;                /* END of ram */
    /* Bytes of the file: fields are small and stand side by side. */
    uint64_t window_offset;
    size_t window_length;
    uint8_t window[64];
} Walk;

/* A field as it was read; @value is 0 for strings. */
typedef struct Field {
    const char *name;
    uint64_t offset;
    uint64_t value;
} Field;

/* str8 of the document, with a NUL added. */
typedef struct Str8 {
    Field field;
    uint8_t length;
    char bytes[256];
} Str8;

/* "How to read the rules": violations and the verdict */

static void violate_as(Walk *walk, RuleConsequence consequence, RuleId rule, const Field *field)
{
    Judgement *judgement = walk->judgement;

    if (consequence == RULE_REJECT) {
        judgement->verdict = VERDICT_REJECT;
    } else if (judgement->verdict == VERDICT_ACCEPT) {
        judgement->verdict = VERDICT_MAY;
    }
    if (judgement->n_violations < JUDGE_MAX_VIOLATIONS) {
        judgement->violations[judgement->n_violations++] = (Violation){
            .rule = rule,
            .consequence = consequence,
            .block = walk->block,
            .field = field->name,
            .offset = field->offset,
            .value = field->value,
        };
    }
}

static void violate(Walk *walk, RuleId rule, const Field *field)
{
    violate_as(walk, rule_get(rule)->consequence, rule, field);
}

/* The two ways to end the walk; "return end_walk(...)" reads well. */
static bool end_walk(Walk *walk, RuleId rule, const Field *field)
{
    violate(walk, rule, field);
    return false;
}

static bool end_walk_unspecified(Walk *walk, RuleId rule, const Field *field)
{
    walk->judgement->ram_unspecified = true;
    return end_walk(walk, rule, field);
}

/* No later violation could change the verdict or be listed. */
static bool nothing_more_to_say(const Walk *walk)
{
    return walk->judgement->verdict == VERDICT_REJECT &&
           walk->judgement->n_violations == JUDGE_MAX_VIOLATIONS;
}

/* 1. The whole file: reading fields. All end the walk by F4, and return false. */

static bool has_bytes(const Walk *walk, uint64_t length)
{
    uint64_t size = sparse_file_size(walk->file);

    return walk->position <= size && length <= size - walk->position;
}

/* The next @length bytes, which the file has and the window can hold. */
static const uint8_t *move_window(Walk *walk, size_t length)
{
    uint64_t skip = walk->position - walk->window_offset;

    if (walk->position < walk->window_offset || skip > walk->window_length ||
        length > walk->window_length - skip) {
        walk->window_offset = walk->position;
        walk->window_length =
            sparse_file_read(walk->file, walk->position, walk->window, sizeof(walk->window));
        skip = 0;
    }
    return walk->window + skip;
}

static bool read_bytes(Walk *walk, const char *name, void *buffer, size_t length)
{
    if (!has_bytes(walk, length)) {
        return end_walk(walk, RULE_F4, &(Field){ name, walk->position, 0 });
    }
    if (length <= sizeof(walk->window)) {
        memcpy(buffer, move_window(walk, length), length);
    } else {
        sparse_file_read(walk->file, walk->position, buffer, length);
    }
    walk->position += length;
    return true;
}

static bool skip_bytes(Walk *walk, const char *name, uint64_t length)
{
    if (!has_bytes(walk, length)) {
        return end_walk(walk, RULE_F4, &(Field){ name, walk->position, 0 });
    }
    walk->position += length;
    return true;
}

/* F3: u8, be16, be32, be64 by @size, 1 to 8 bytes. */
static bool read_number(Walk *walk, const char *name, unsigned size, Field *field)
{
    const uint8_t *bytes;
    uint64_t value = 0;

    *field = (Field){ .name = name, .offset = walk->position };
    if (!has_bytes(walk, size)) {
        return end_walk(walk, RULE_F4, field);
    }
    bytes = move_window(walk, size);
    for (unsigned i = 0; i < size; i++) {
        value = value << 8 | bytes[i];
    }
    walk->position += size;
    field->value = value;
    return true;
}

static bool read_str8(Walk *walk, const char *name, Str8 *string)
{
    string->field = (Field){ .name = name, .offset = walk->position };
    if (!read_bytes(walk, name, &string->length, 1) ||
        !read_bytes(walk, name, string->bytes, string->length)) {
        return false;
    }
    string->bytes[string->length] = '\0';
    return true;
}

static bool str8_contains_nul(const Str8 *string)
{
    return strlen(string->bytes) < string->length;
}

/* Is the string @text, up to its first NUL if it has one? */
static bool str8_begins_as(const Str8 *string, const char *text)
{
    return strcmp(string->bytes, text) == 0;
}

static bool str8_is(const Str8 *string, const char *text)
{
    return str8_begins_as(string, text) && !str8_contains_nul(string);
}

/* The next byte, without going on; -1 at the end of the file. */
static int peek_byte(const Walk *walk)
{
    uint8_t byte;

    return sparse_file_read(walk->file, walk->position, &byte, 1) == 1 ? byte : -1;
}

/* 2. File header */

static bool judge_file_header(Walk *walk)
{
    Field magic;
    Field version;

    if (!read_number(walk, "magic", 4, &magic)) {
        return false;
    }
    if (magic.value != 0x5145564d) {
        return end_walk(walk, RULE_F1, &magic);
    }
    if (!read_number(walk, "version", 4, &version)) {
        return false;
    }
    if (version.value != 3) {
        return end_walk(walk, RULE_F2, &version);
    }
    return true;
}

/* 3. Configuration */

#define TYPE_CONFIGURATION 0x07
#define TYPE_SUBSECTION 0x05

/* Nobody has to read more names of capabilities than this, rule C8. */
#define MAX_CAPABILITIES 255

typedef enum SubsectionId {
    SUBSECTION_TARGET_PAGE_BITS,
    SUBSECTION_CAPABILITIES,
    SUBSECTION_UUID,
    SUBSECTION__MAX,
} SubsectionId;

static const char *const subsection_names[SUBSECTION__MAX] = {
    [SUBSECTION_TARGET_PAGE_BITS] = "configuration/target-page-bits",
    [SUBSECTION_CAPABILITIES] = "configuration/capabilities",
    [SUBSECTION_UUID] = "configuration/uuid",
};

/* What the subsections said; where one stands there twice, the last one. */
typedef struct Configuration {
    unsigned times[SUBSECTION__MAX];
    Field page_bits;
    Field capabilities; /* their count */
    bool has_mapped_ram;
    bool has_x_ignore_shared;
} Configuration;

static bool judge_machine(Walk *walk)
{
    char *name = walk->judgement->machine;
    const char *machine = walk->guest->machine;
    Field length;
    size_t kept;

    if (!read_number(walk, "machine name", 4, &length)) {
        return false;
    }
    if (!has_bytes(walk, length.value)) {
        return end_walk(walk, RULE_F4, &length);
    }
    kept = MIN(length.value, sizeof(walk->judgement->machine) - 1);
    sparse_file_read(walk->file, walk->position, name, kept);
    name[kept] = '\0';
    walk->position += length.value;

    /* A reader's machine is shorter than what was kept, so that decides. */
    if (machine[0] == '\0') {
        if (length.value > 255) {
            violate(walk, RULE_C2B, &length);
        }
    } else if (strncmp(name, machine, kept) != 0) {
        violate(walk, RULE_C2, &length);
    } else if (length.value != strlen(machine)) {
        violate(walk, RULE_C2A, &length);
    }
    return true;
}

/* One name of the list; C8. */
static bool judge_capability(Walk *walk, Configuration *configuration)
{
    bool *listed = NULL;
    Str8 name;

    if (!read_str8(walk, "capability", &name)) {
        return false;
    }
    if (str8_begins_as(&name, "mapped-ram")) {
        listed = &configuration->has_mapped_ram;
    } else if (str8_begins_as(&name, "x-ignore-shared")) {
        listed = &configuration->has_x_ignore_shared;
    }
    if (listed == NULL || *listed || str8_contains_nul(&name)) {
        violate(walk, RULE_C8, &name.field);
    }
    if (listed != NULL) {
        *listed = true;
    }
    return true;
}

static bool judge_capabilities(Walk *walk, Configuration *configuration)
{
    Field count;

    if (!read_number(walk, "capability count", 4, &count)) {
        return false;
    }
    if (count.value > MAX_CAPABILITIES) {
        return end_walk_unspecified(walk, RULE_C8, &count);
    }
    configuration->capabilities = count;
    configuration->has_mapped_ram = false;
    configuration->has_x_ignore_shared = false;
    for (uint64_t i = 0; i < count.value; i++) {
        if (!judge_capability(walk, configuration)) {
            return false;
        }
    }
    return true;
}

static bool judge_subsection_contents(Walk *walk, SubsectionId id, Configuration *configuration)
{
    switch (id) {
    case SUBSECTION_TARGET_PAGE_BITS:
        return read_number(walk, "target-page-bits", 4, &configuration->page_bits);
    case SUBSECTION_CAPABILITIES:
        return judge_capabilities(walk, configuration);
    default: /* C10: any UUID */
        return skip_bytes(walk, "uuid", 16);
    }
}

static bool judge_subsection(Walk *walk, Configuration *configuration)
{
    SubsectionId id = 0;
    Field type;
    Str8 name;
    Field version;

    if (!read_number(walk, "subsection type", 1, &type) ||
        !read_str8(walk, "subsection name", &name)) {
        return false;
    }
    while (id < SUBSECTION__MAX && !str8_begins_as(&name, subsection_names[id])) {
        id++;
    }
    if (id == SUBSECTION__MAX) {
        /* Its contents have no length: it cannot be skipped. */
        return end_walk(walk, RULE_C3, &name.field);
    }
    if (str8_contains_nul(&name)) {
        violate(walk, RULE_C3A, &name.field);
    }
    if (configuration->times[id]++ > 0) {
        violate(walk, RULE_C4, &name.field);
    }
    if (!read_number(walk, "subsection version", 4, &version)) {
        return false;
    }
    if (version.value != 1) {
        return end_walk(walk, RULE_C5, &version);
    }
    return judge_subsection_contents(walk, id, configuration);
}

/*
 * C6, C7 and C9 are "may" where the subsection that they look at stands there
 * twice. Without that, none of them leaves a stream that could be followed.
 */
static bool violate_subsection(Walk *walk, const Configuration *configuration, SubsectionId id,
                               RuleId rule, const Field *field)
{
    bool twice = configuration->times[id] > 1;

    violate_as(walk, twice ? RULE_MAY : RULE_REJECT, rule, field);
    return twice;
}

/* C6, C7. */
static bool judge_configured_capabilities(Walk *walk, const Configuration *configuration)
{
    Field capabilities = { "capabilities", walk->position, 0 };
    Field x_ignore_shared = { "x-ignore-shared", walk->position,
                              configuration->has_x_ignore_shared };
    bool goes_on = true;

    if (configuration->times[SUBSECTION_CAPABILITIES] > 0) {
        capabilities.offset = configuration->capabilities.offset;
        x_ignore_shared.offset = configuration->capabilities.offset;
    }
    if (!configuration->has_mapped_ram) {
        goes_on = violate_subsection(walk, configuration, SUBSECTION_CAPABILITIES, RULE_C6,
                                     &capabilities);
    }
    if (configuration->has_x_ignore_shared != walk->guest->x_ignore_shared) {
        goes_on = violate_subsection(walk, configuration, SUBSECTION_CAPABILITIES, RULE_C7,
                                     &x_ignore_shared);
    }
    return goes_on;
}

/* C9. */
static bool judge_configured_page_size(Walk *walk, const Configuration *configuration)
{
    const Field *bits = &configuration->page_bits;

    if (configuration->times[SUBSECTION_TARGET_PAGE_BITS] == 0 ||
        (bits->value < 64 && 1ull << bits->value == walk->guest->target_page_size)) {
        return true;
    }
    return violate_subsection(walk, configuration, SUBSECTION_TARGET_PAGE_BITS, RULE_C9, bits);
}

static bool judge_configuration(Walk *walk)
{
    Configuration configuration = { .has_mapped_ram = false };
    bool capabilities_go_on;
    Field type;

    if (!read_number(walk, "configuration type", 1, &type)) {
        return false;
    }
    if (type.value != TYPE_CONFIGURATION) {
        return end_walk(walk, RULE_C1, &type);
    }
    if (!judge_machine(walk)) {
        return false;
    }
    while (peek_byte(walk) == TYPE_SUBSECTION) {
        if (!judge_subsection(walk, &configuration)) {
            return false;
        }
    }
    walk->judgement->has_x_ignore_shared = configuration.has_x_ignore_shared;
    capabilities_go_on = judge_configured_capabilities(walk, &configuration);
    return judge_configured_page_size(walk, &configuration) && capabilities_go_on;
}

/* 4. Sections */

#define TYPE_EOF 0x00
#define TYPE_START 0x01
#define TYPE_PART 0x02
#define TYPE_END 0x03
#define TYPE_FULL 0x04
#define TYPE_COMMAND 0x08
#define TYPE_FOOTER 0x7e

/* Up to the section's contents. */
static bool judge_ram_section_start(Walk *walk)
{
    Field type;
    Field id;
    Str8 name;
    Field instance_id;
    Field version;

    if (!read_number(walk, "section type", 1, &type)) {
        return false;
    }
    switch (type.value) {
    case TYPE_START:
        break;
    case TYPE_FULL:
    case TYPE_COMMAND:
    case TYPE_EOF:
        return end_walk_unspecified(walk, RULE_S2, &type);
    default:
        return end_walk(walk, RULE_S1, &type);
    }

    if (!read_number(walk, "section id", 4, &id) || !read_str8(walk, "section name", &name)) {
        return false;
    }
    walk->judgement->section_id = id.value;
    if (!str8_is(&name, "ram")) {
        return end_walk_unspecified(walk, RULE_S2, &name.field);
    }
    if (!read_number(walk, "instance id", 4, &instance_id)) {
        return false;
    }
    if (instance_id.value != 0) {
        violate(walk, RULE_S3, &instance_id);
    }
    if (!read_number(walk, "section version", 4, &version)) {
        return false;
    }
    if (version.value != 4) {
        /* Another version's contents are not known. */
        return end_walk(walk, RULE_S4, &version);
    }
    return true;
}

static bool judge_footer(Walk *walk)
{
    Field type;
    Field id;

    if (!read_number(walk, "footer", 1, &type)) {
        return false;
    }
    if (type.value != TYPE_FOOTER) {
        return end_walk(walk, RULE_S5, &type);
    }
    if (!read_number(walk, "footer's section id", 4, &id)) {
        return false;
    }
    if (id.value != walk->judgement->section_id) {
        violate(walk, RULE_S6, &id);
    }
    return true;
}

/* 8. The bitmap */

static uint64_t bitmap_bytes(uint64_t pages)
{
    return (pages / 64 + (pages % 64 != 0)) * 8;
}

static bool bitmap_has_an_end(const JudgedBlock *block)
{
    return block->bitmap_offset <= OFFSET_MAX &&
           block->bitmap_length <= OFFSET_MAX - block->bitmap_offset;
}

/* How many of the extent's first bytes are 0. No byte of a pattern is. */
static uint64_t zeroes_at_start(const SparseExtent *extent)
{
    uint64_t zeroes = 0;

    if (extent->kind == SPARSE_DATA) {
        while (zeroes < extent->length && extent->data[zeroes] == 0) {
            zeroes++;
        }
    } else if (extent->kind == SPARSE_FILL && extent->seed == 0) {
        zeroes = extent->length;
    }
    return zeroes;
}

/* Offset of the first byte in [offset, end) that is not 0, or @end. */
static uint64_t find_nonzero_byte(const SparseFile *file, uint64_t offset, uint64_t end)
{
    SparseExtent extent;

    while (sparse_file_next_data(file, offset, &extent) && extent.offset < end) {
        uint64_t zeroes = zeroes_at_start(&extent);

        if (zeroes < extent.length) {
            return MIN(extent.offset + zeroes, end);
        }
        offset = extent.offset + extent.length;
    }
    return end;
}

static uint8_t byte_at(const SparseFile *file, uint64_t offset)
{
    uint8_t byte = 0;

    sparse_file_read(file, offset, &byte, 1);
    return byte;
}

/* B1. @bit is below the block's pages, and the bitmap within the file. */
static bool bit_is_set(const SparseFile *file, const JudgedBlock *block, uint64_t bit)
{
    return byte_at(file, block->bitmap_offset + bit / 8) >> (bit % 8) & 1;
}

/* The first set bit >= @from and, B5, below the block's pages, or UINT64_MAX. */
static uint64_t find_set_bit(const SparseFile *file, const JudgedBlock *block, uint64_t from)
{
    uint64_t end;
    uint64_t offset;
    uint8_t byte;
    uint64_t bit;

    if (from >= block->pages || !bitmap_has_an_end(block)) {
        return UINT64_MAX;
    }
    end = block->bitmap_offset + block->bitmap_length;
    offset = block->bitmap_offset + from / 8;
    byte = byte_at(file, offset) & (0xff << (from % 8));
    if (byte == 0) {
        offset = find_nonzero_byte(file, offset + 1, end);
        if (offset == end) {
            return UINT64_MAX;
        }
        byte = byte_at(file, offset);
    }
    bit = (offset - block->bitmap_offset) * 8 + __builtin_ctz(byte);
    return bit < block->pages ? bit : UINT64_MAX;
}

/* B2, B4. Returns whether there is a bitmap to look at. */
static bool judge_bitmap(Walk *walk, const JudgedBlock *block, const Field *bitmap_offset,
                         uint64_t header_end)
{
    uint64_t end;

    if (block->bitmap_length == 0) {
        return false;
    }
    if (!bitmap_has_an_end(block)) {
        violate(walk, RULE_B2, bitmap_offset);
        return false;
    }
    end = block->bitmap_offset + block->bitmap_length;
    if (end > sparse_file_size(walk->file)) {
        violate(walk, RULE_B2, bitmap_offset);
        return false;
    }
    if (block->bitmap_offset < header_end || end > block->pages_offset) {
        violate(walk, RULE_B4, bitmap_offset);
    }
    return true;
}

/* 9. Pages. The sums fit: H5 holds. */
static void judge_pages(Walk *walk, const JudgedBlock *block)
{
    uint64_t page_size = walk->guest->target_page_size;
    uint64_t size = sparse_file_size(walk->file);
    uint64_t whole = size > block->pages_offset ? (size - block->pages_offset) / page_size : 0;
    uint64_t page = find_set_bit(walk->file, block, whole);

    if (page != UINT64_MAX) {
        violate(walk, RULE_P1, &(Field){ "page", block->pages_offset + page * page_size, page });
    }
}

/* 7. MappedRamHeader */

typedef struct MappedRamHeader {
    Field version;
    Field page_size;
    Field bitmap_offset;
    Field pages_offset;
    uint64_t end;
} MappedRamHeader;

static bool read_mapped_ram_header(Walk *walk, MappedRamHeader *header, JudgedBlock *block)
{
    block->header_offset = walk->position;
    if (!read_number(walk, "version", 4, &header->version) ||
        !read_number(walk, "page_size", 8, &header->page_size) ||
        !read_number(walk, "bitmap_offset", 8, &header->bitmap_offset) ||
        !read_number(walk, "pages_offset", 8, &header->pages_offset)) {
        return false;
    }
    header->end = walk->position;
    block->in_file = true;
    block->version = header->version.value;
    block->page_size = header->page_size.value;
    block->bitmap_offset = header->bitmap_offset.value;
    block->bitmap_length = bitmap_bytes(block->pages);
    block->pages_offset = header->pages_offset.value;
    return true;
}

/* H1, H1a. */
static void judge_header_version(Walk *walk, const Field *version)
{
    if (version->value > 1) {
        violate(walk, RULE_H1, version);
    } else if (version->value == 0) {
        violate(walk, RULE_H1A, version);
    }
}

/* X2. */
static bool is_ignored(const Walk *walk, const JudgedBlock *block)
{
    return walk->guest->x_ignore_shared && block->bitmap_offset == 0 && block->pages_offset == 0;
}

/* H3 to H6. Returns whether the end of the pages is where the next record can start. */
static bool judge_pages_offset(Walk *walk, const MappedRamHeader *header, uint64_t used_length)
{
    const Field *pages_offset = &header->pages_offset;
    bool is_forward = pages_offset->value >= header->end;
    bool has_an_end =
        pages_offset->value <= OFFSET_MAX && used_length <= OFFSET_MAX - pages_offset->value;

    if (pages_offset->value % walk->guest->target_page_size != 0) {
        violate(walk, RULE_H3, pages_offset);
    }
    if (!is_forward) {
        violate(walk, RULE_H4, pages_offset);
    }
    if (!has_an_end) {
        violate(walk, RULE_H5, pages_offset);
    }
    return is_forward && has_an_end;
}

/* R3, R5, R6 and H2 leave nothing to say of a bitmap: how long is it, how many pages? */
static bool has_defined_bitmap(const Walk *walk, const JudgedBlock *block)
{
    return walk->block >= 0 && block->page_size == walk->guest->target_page_size &&
           block->used_length % walk->guest->target_page_size == 0 &&
           block->used_length <= walk->guest->blocks[walk->block].max_length;
}

/*
 * Header, bitmap and pages; P2: moves on to where the next record starts.
 * @block has used_length and pages already.
 */
static bool judge_header_bitmap_pages(Walk *walk, JudgedBlock *block)
{
    MappedRamHeader header;
    bool pages_have_an_end;

    if (!read_mapped_ram_header(walk, &header, block)) {
        return false;
    }
    judge_header_version(walk, &header.version);
    if (is_ignored(walk, block)) {
        block->ignored = true;
        if (block->page_size != walk->guest->target_page_size) {
            violate(walk, RULE_X2A, &header.page_size);
        }
        return true;
    }
    if (block->page_size != walk->guest->target_page_size) {
        violate(walk, RULE_H2, &header.page_size);
    }
    pages_have_an_end = judge_pages_offset(walk, &header, block->used_length);
    if (has_defined_bitmap(walk, block) &&
        judge_bitmap(walk, block, &header.bitmap_offset, header.end) && pages_have_an_end) {
        judge_pages(walk, block);
    }
    if (!pages_have_an_end) {
        return false;
    }
    walk->position = block->pages_offset + block->used_length;
    return true;
}

/* 6. A block record */

static int find_guest_block(const Guest *guest, const Str8 *idstr)
{
    for (unsigned i = 0; i < guest->n_blocks; i++) {
        if (str8_begins_as(idstr, guest->blocks[i].idstr)) {
            return i;
        }
    }
    return -1;
}

/* R3, R3a, R4. Returns the block that the record is about, or @other. */
static JudgedBlock *judge_idstr(Walk *walk, const Str8 *idstr, JudgedBlock *other)
{
    JudgedBlock *block;

    walk->block = find_guest_block(walk->guest, idstr);
    if (walk->block < 0) {
        violate(walk, RULE_R3, &idstr->field);
        return other;
    }
    if (str8_contains_nul(idstr)) {
        violate(walk, RULE_R3A, &idstr->field);
    }
    block = &walk->judgement->blocks[walk->block];
    if (walk->named[walk->block]) {
        violate(walk, RULE_R4, &idstr->field);
        block->unspecified = true;
        return other;
    }
    walk->named[walk->block] = true;
    return block;
}

/* R5, R6, R6a. */
static void judge_used_length(Walk *walk, const Field *used_length, JudgedBlock *block)
{
    uint64_t page_size = walk->guest->target_page_size;

    block->used_length = used_length->value;
    block->pages = used_length->value / page_size;
    if (used_length->value % page_size != 0) {
        violate(walk, RULE_R5, used_length);
    }
    if (walk->block < 0) {
        return;
    }
    if (used_length->value > walk->guest->blocks[walk->block].max_length) {
        violate(walk, RULE_R6, used_length);
    } else if (used_length->value != walk->guest->blocks[walk->block].used_length) {
        violate(walk, RULE_R6A, used_length);
    }
}

/* X1. */
static bool read_gpa(Walk *walk, JudgedBlock *block)
{
    Field gpa;

    if (!walk->guest->x_ignore_shared) {
        return true;
    }
    if (!read_number(walk, "guest physical address", 8, &gpa)) {
        return false;
    }
    block->gpa = gpa.value;
    return true;
}

/* One record; @remaining of total is counted down. */
static bool judge_record(Walk *walk, uint64_t *remaining)
{
    JudgedBlock other = { .in_file = false };
    JudgedBlock *block;
    uint64_t record_offset = walk->position;
    bool within_total;
    Str8 idstr;
    Field used_length;

    if (!read_str8(walk, "idstr", &idstr)) {
        return false;
    }
    block = judge_idstr(walk, &idstr, &other);
    block->record_offset = record_offset;
    if (!read_number(walk, "used_length", 8, &used_length)) {
        return false;
    }
    within_total = used_length.value <= *remaining;
    if (!within_total) {
        violate(walk, RULE_R2, &used_length);
    }
    judge_used_length(walk, &used_length, block);
    if (!read_gpa(walk, block) || !judge_header_bitmap_pages(walk, block)) {
        return false;
    }
    if (!within_total) {
        return false; /* nobody knows where the list ends */
    }
    *remaining -= used_length.value;
    return true;
}

/* 5. The RAM section's contents */

#define FLAG_MEM_SIZE 0x04
#define FLAG_EOS 0x10
#define FLAG_CONTINUE 0x20

static bool judge_records(Walk *walk, uint64_t total)
{
    uint64_t remaining = total;

    while (remaining > 0) {
        bool goes_on = judge_record(walk, &remaining);

        walk->block = -1;
        if (!goes_on || nothing_more_to_say(walk)) {
            return false;
        }
    }
    return true;
}

static void judge_missing_blocks(Walk *walk)
{
    Field idstr = { "idstr", walk->position, 0 };

    for (unsigned i = 0; i < walk->guest->n_blocks; i++) {
        if (!walk->named[i]) {
            walk->block = i;
            violate(walk, RULE_R8, &idstr);
        }
    }
    walk->block = -1;
}

/* The word after the last block, and that of PART and END (T1): R7, R7a, R7b. */
static bool judge_eos(Walk *walk)
{
    Field word;

    if (!read_number(walk, "EOS", 8, &word)) {
        return false;
    }
    switch (word.value & (walk->guest->target_page_size - 1)) {
    case FLAG_EOS:
    case FLAG_EOS | FLAG_CONTINUE:
        if (word.value != FLAG_EOS) {
            violate(walk, RULE_R7A, &word);
        }
        return true;
    case FLAG_MEM_SIZE:
    case FLAG_MEM_SIZE | FLAG_CONTINUE:
        return end_walk_unspecified(walk, RULE_R7B, &word);
    default:
        return end_walk(walk, RULE_R7, &word);
    }
}

/* Up to the footer. */
static bool judge_ram_contents(Walk *walk)
{
    uint64_t flags_mask = walk->guest->target_page_size - 1;
    Field word;

    if (!read_number(walk, "total", 8, &word)) {
        return false;
    }
    walk->judgement->total = word.value & ~flags_mask;
    switch (word.value & flags_mask) {
    case FLAG_MEM_SIZE:
        break;
    case FLAG_MEM_SIZE | FLAG_CONTINUE:
        violate(walk, RULE_R1A, &word);
        break;
    case FLAG_EOS:
    case FLAG_EOS | FLAG_CONTINUE:
        violate(walk, RULE_R1A, &word);
        judge_missing_blocks(walk);
        return true;
    default:
        return end_walk(walk, RULE_R1, &word);
    }
    if (!judge_records(walk, walk->judgement->total)) {
        return false;
    }
    judge_missing_blocks(walk);
    return judge_eos(walk);
}

/* 10. After the RAM section's START */

/* T1. */
static bool judge_part_or_end(Walk *walk, const Field *type)
{
    Field id;

    if (!read_number(walk, "section id", 4, &id)) {
        return false;
    }
    if (id.value != walk->judgement->section_id) {
        return end_walk(walk, RULE_T6, &id);
    }
    walk->seen_end |= type->value == TYPE_END;
    return judge_eos(walk) && judge_footer(walk);
}

/* T2. */
static bool judge_command(Walk *walk)
{
    Field command;
    Field length;

    if (!read_number(walk, "command", 2, &command) ||
        !read_number(walk, "command length", 2, &length)) {
        return false;
    }
    if (command.value != 11) {
        violate(walk, RULE_T2A, &command);
    } else if (length.value != 0) {
        violate(walk, RULE_T2A, &length);
    }
    return skip_bytes(walk, "command data", length.value);
}

/* T4, T5: the walk ends here in any case. */
static bool judge_walk_end(Walk *walk, const Field *type)
{
    Field id;
    Str8 name;

    if (!walk->seen_end) {
        violate(walk, RULE_T3, type);
    }
    if (type->value == TYPE_EOF) {
        return false;
    }
    walk->judgement->has_devices = true;
    if (!read_number(walk, "section id", 4, &id) || !read_str8(walk, "section name", &name)) {
        return false;
    }
    if (str8_begins_as(&name, "ram")) {
        return end_walk_unspecified(walk, RULE_T4A, &name.field);
    }
    return false;
}

static bool judge_what_follows(Walk *walk)
{
    Field type;

    if (!read_number(walk, "section type", 1, &type)) {
        return false;
    }
    switch (type.value) {
    case TYPE_PART:
    case TYPE_END:
        return judge_part_or_end(walk, &type);
    case TYPE_COMMAND:
        return judge_command(walk);
    case TYPE_FULL:
    case TYPE_START:
    case TYPE_EOF:
        return judge_walk_end(walk, &type);
    default:
        return end_walk(walk, RULE_T6, &type);
    }
}

/* 1. The whole file: the walk */

static Walk begin_walk(const SparseFile *file, const Guest *guest, Judgement *judgement)
{
    judgement->verdict = VERDICT_ACCEPT;
    judgement->ram_unspecified = false;
    judgement->n_violations = 0;
    memset(judgement->blocks, 0, guest->n_blocks * sizeof(JudgedBlock));
    judgement->machine[0] = '\0';
    judgement->has_x_ignore_shared = false;
    judgement->section_id = 0;
    judgement->total = 0;
    judgement->has_devices = false;
    judgement->file = file;
    guest_copy(&judgement->guest, guest);
    return (Walk){ .file = file, .guest = guest, .judgement = judgement, .block = -1 };
}

void judge_file(const SparseFile *file, const Guest *guest, Judgement *judgement)
{
    Walk walk = begin_walk(file, guest, judgement);
    bool goes_on = judge_file_header(&walk) && judge_configuration(&walk) &&
                   judge_ram_section_start(&walk) && judge_ram_contents(&walk) &&
                   judge_footer(&walk);

    while (goes_on && !nothing_more_to_say(&walk)) {
        goes_on = judge_what_follows(&walk);
    }
    judgement->end = walk.position;
}

void judge_block(const SparseFile *file, const Guest *guest, uint64_t header_offset,
                 uint64_t used_length, Judgement *judgement)
{
    Walk walk = begin_walk(file, guest, judgement);
    JudgedBlock *block = &judgement->blocks[0];
    Field field = { "used_length", header_offset, used_length };

    walk.block = 0;
    walk.position = header_offset;
    judge_used_length(&walk, &field, block);
    judge_header_bitmap_pages(&walk, block);
    judgement->end = walk.position;
}

bool judgement_violates(const Judgement *judgement, RuleId id)
{
    for (unsigned i = 0; i < judgement->n_violations; i++) {
        if (judgement->violations[i].rule == id) {
            return true;
        }
    }
    return false;
}

/* 9. What guest RAM holds afterwards */

/* After a refusal: up to used_length, the guest's or the one it was resized to (R6a). */
static PageSource page_after_refusal(const Judgement *judgement, unsigned block, uint64_t page)
{
    const GuestBlock *guest_block = &judgement->guest.blocks[block];
    const JudgedBlock *judged = &judgement->blocks[block];
    uint64_t used_length = guest_block->used_length;

    if (judged->in_file && judged->used_length <= guest_block->max_length) {
        used_length = MAX(used_length, judged->used_length);
    }
    return page < used_length / judgement->guest.target_page_size ? PAGE_UNSPECIFIED
                                                                  : PAGE_LEFT_ALONE;
}

PageSource judgement_page(const Judgement *judgement, unsigned block, uint64_t page,
                          uint64_t *file_offset)
{
    const JudgedBlock *judged = &judgement->blocks[block];

    if (judged->unspecified) {
        return PAGE_UNSPECIFIED; /* R4 */
    }
    if (judgement->verdict == VERDICT_REJECT) {
        return page_after_refusal(judgement, block, page);
    }
    if (judgement->ram_unspecified) {
        return PAGE_UNSPECIFIED; /* C8, S2, R7b, T4a */
    }
    if (!judged->in_file || judged->ignored || page >= judged->pages) {
        return PAGE_LEFT_ALONE; /* G3 */
    }
    if (bit_is_set(judgement->file, judged, page)) {
        *file_offset = judged->pages_offset + page * judgement->guest.target_page_size;
        return PAGE_FROM_FILE; /* G1 */
    }
    return judgement->guest.clear_pages ? PAGE_ZERO : PAGE_LEFT_ALONE; /* G2 */
}

uint64_t judgement_next_page_in_file(const Judgement *judgement, unsigned block, uint64_t from)
{
    const JudgedBlock *judged = &judgement->blocks[block];

    if (!judged->in_file || judged->ignored) {
        return UINT64_MAX;
    }
    return find_set_bit(judgement->file, judged, from);
}

uint64_t judgement_pages_in_word(const Judgement *judgement, unsigned block, uint64_t word)
{
    const JudgedBlock *judged = &judgement->blocks[block];
    uint8_t bytes[8] = { 0 };
    uint64_t bits = 0;

    if (!judged->in_file || judged->ignored || word >= (judged->pages + 63) / 64 ||
        !bitmap_has_an_end(judged)) {
        return 0;
    }
    sparse_file_read(judgement->file, judged->bitmap_offset + word * 8, bytes, sizeof(bytes));
    for (unsigned i = 0; i < 8; i++) {
        bits |= (uint64_t)bytes[i] << (8 * i);
    }
    /* B5 */
    return judged->pages - word * 64 >= 64 ? bits : bits & ((1ull << judged->pages % 64) - 1);
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The frame around the block records: docs/mapped-ram-format.md, sections 2 to
 * 5 and 10; migration/savevm.c, migration/vmstate.c and migration/ram.c of
 * QEMU. Allocates nothing and trusts no length or count: names are read up to
 * 255 bytes, the rest is skipped by seeking, and every loop either goes forward
 * in the file or ends.
 */
#include "loader/container.h"

#include "loader/format.h"

#include <inttypes.h>
#include <string.h>

static bool name_is(const char *name, size_t length, const char *wanted)
{
    return length == strlen(wanted) && memcmp(name, wanted, length) == 0;
}

static bool read_file_header(LoaderStream *f, GError **error)
{
    uint32_t value;

    if (!loader_stream_be32(f, "magic", &value, error)) {
        return false;
    }
    if (value != QEMU_VM_FILE_MAGIC) {
        return mapped_ram_refuse(error, MAPPED_RAM_ERROR_INVALID, "F1",
                                 loader_stream_field(f, "magic", f->position - 4), value,
                                 "is not 0x%x; this is not a QEMU snapshot", QEMU_VM_FILE_MAGIC);
    }
    if (!loader_stream_be32(f, "version", &value, error)) {
        return false;
    }
    if (value != QEMU_VM_FILE_VERSION) {
        return mapped_ram_refuse(error, MAPPED_RAM_ERROR_UNSUPPORTED, "F2",
                                 loader_stream_field(f, "version", f->position - 4), value,
                                 "is not %d", QEMU_VM_FILE_VERSION);
    }
    return true;
}

/*
 * @name: the first @kept bytes of the file's name of @length bytes. All that
 * strncmp() can look at is among them, because @machine is shorter.
 */
static bool check_machine(const char *machine, FieldAt at, const char *name, size_t kept,
                          uint32_t length, GError **error)
{
    if (strncmp(name, machine, kept) != 0) {
        return mapped_ram_refuse_name(error, MAPPED_RAM_ERROR_MISMATCH, "C2", at, name,
                                      "is not the guest's machine '%s'", machine);
    }
    if (kept != length || !name_is(name, kept, machine)) {
        return mapped_ram_refuse_name(error, MAPPED_RAM_ERROR_MISMATCH, "C2a", at, name,
                                      "has 0x%" PRIx32 " bytes and is not exactly the guest's "
                                      "machine '%s'",
                                      length, machine);
    }
    return true;
}

static bool read_machine(const MigrationIncomingState *mis, LoaderStream *f, LoadSummary *summary,
                         GError **error)
{
    FieldAt at = loader_stream_field(f, "machine name", f->position);
    uint32_t length;
    size_t kept;

    if (!loader_stream_be32(f, "machine name length", &length, error)) {
        return false;
    }
    kept = MIN(length, sizeof(summary->machine) - 1);
    if (!loader_stream_skip(f, "machine name", length, error)) {
        return false;
    }
    if (!mis->machine && length > kept) {
        at.field = "machine name length";
        return mapped_ram_refuse(error, MAPPED_RAM_ERROR_UNSUPPORTED, "C2b", at, length,
                                 "is over 255");
    }
    loader_stream_seek(f, f->position - length);
    if (!loader_stream_bytes(f, "machine name", summary->machine, kept, error)) {
        return false;
    }
    summary->machine[kept] = '\0';
    if (mis->machine && !check_machine(mis->machine, at, summary->machine, kept, length, error)) {
        return false;
    }
    return loader_stream_skip(f, "machine name", length - kept, error);
}

/* Nobody has to read more names than that, rule C8. */
#define MAX_CAPABILITIES 255

/* What the subsections said; judged when the last one has been read. */
typedef struct Configuration {
    unsigned seen;     /* bit i: subsections[i] was there */
    FieldAt count_at;  /* where the number of capabilities is */
    uint32_t count;    /* of capabilities */
    bool mapped_ram;   /* is listed */
    FieldAt shared_at; /* where x-ignore-shared is listed */
    bool x_ignore_shared;
    FieldAt page_bits_at; /* where target-page-bits is, if it is there */
    uint32_t page_bits;
} Configuration;

static bool read_capability(LoaderStream *f, Configuration *configuration, GError **error)
{
    FieldAt at = loader_stream_field(f, "capability", f->position);
    char name[LOADER_STREAM_STR8_SIZE];
    uint8_t length;
    bool *listed;

    if (!loader_stream_str8(f, "capability", name, &length, error)) {
        return false;
    }
    if (name_is(name, length, "x-ignore-shared")) {
        listed = &configuration->x_ignore_shared;
        configuration->shared_at = at;
    } else if (name_is(name, length, "mapped-ram")) {
        listed = &configuration->mapped_ram;
    } else {
        return mapped_ram_refuse_name(error, MAPPED_RAM_ERROR_UNSUPPORTED, "C8", at, name,
                                      "is neither 'x-ignore-shared' nor 'mapped-ram'");
    }
    if (*listed) {
        return mapped_ram_refuse_name(error, MAPPED_RAM_ERROR_INVALID, "C8", at, name,
                                      "is listed twice");
    }
    *listed = true;
    return true;
}

static bool read_capabilities(LoaderStream *f, Configuration *configuration, GError **error)
{
    uint32_t i;

    configuration->count_at = loader_stream_field(f, "number of capabilities", f->position);
    if (!loader_stream_be32(f, configuration->count_at.field, &configuration->count, error)) {
        return false;
    }
    if (configuration->count > MAX_CAPABILITIES) {
        return mapped_ram_refuse(error, MAPPED_RAM_ERROR_UNSUPPORTED, "C8", configuration->count_at,
                                 configuration->count, "is over %d", MAX_CAPABILITIES);
    }
    for (i = 0; i < configuration->count; i++) {
        if (!read_capability(f, configuration, error)) {
            return false;
        }
    }
    return true;
}

static bool read_target_page_bits(LoaderStream *f, Configuration *configuration, GError **error)
{
    configuration->page_bits_at = loader_stream_field(f, "target-page-bits", f->position);
    return loader_stream_be32(f, configuration->page_bits_at.field, &configuration->page_bits,
                              error);
}

static bool read_uuid(LoaderStream *f, Configuration *configuration, GError **error)
{
    (void)configuration;
    return loader_stream_skip(f, "uuid", 16, error);
}

typedef struct Subsection {
    const char *name;
    bool (*read)(LoaderStream *f, Configuration *configuration, GError **error);
} Subsection;

static const Subsection subsections[] = {
    { "configuration/capabilities", read_capabilities },
    { "configuration/target-page-bits", read_target_page_bits },
    { "configuration/uuid", read_uuid },
};

/* In Configuration.seen. */
#define SUBSECTION_CAPABILITIES (1u << 0)
#define SUBSECTION_TARGET_PAGE_BITS (1u << 1)

static const Subsection *find_subsection(const char *name)
{
    for (size_t i = 0; i < G_N_ELEMENTS(subsections); i++) {
        if (strcmp(name, subsections[i].name) == 0) {
            return &subsections[i];
        }
    }
    return NULL;
}

static bool read_subsection(LoaderStream *f, Configuration *configuration, GError **error)
{
    FieldAt at = loader_stream_field(f, "subsection name", f->position);
    const Subsection *subsection;
    char name[LOADER_STREAM_STR8_SIZE];
    uint32_t version;
    uint8_t length;
    unsigned bit;

    if (!loader_stream_str8(f, at.field, name, &length, error)) {
        return false;
    }
    subsection = find_subsection(name);
    if (!subsection) {
        return mapped_ram_refuse_name(error, MAPPED_RAM_ERROR_UNSUPPORTED, "C3", at, name,
                                      "is none of configuration/{capabilities,"
                                      "target-page-bits,uuid}");
    }
    if (strlen(name) != length) {
        return mapped_ram_refuse_name(error, MAPPED_RAM_ERROR_INVALID, "C3a", at, name,
                                      "is followed by a NUL within its %u bytes", length);
    }
    bit = 1u << (subsection - subsections);
    if (configuration->seen & bit) {
        return mapped_ram_refuse_name(error, MAPPED_RAM_ERROR_INVALID, "C4", at, name,
                                      "stands there twice");
    }
    configuration->seen |= bit;
    if (!loader_stream_be32(f, "subsection version", &version, error)) {
        return false;
    }
    if (version != QEMU_VM_SUBSECTION_VERSION) {
        return mapped_ram_refuse(error, MAPPED_RAM_ERROR_UNSUPPORTED, "C5",
                                 loader_stream_field(f, "subsection version", f->position - 4),
                                 version, "is not %d", QEMU_VM_SUBSECTION_VERSION);
    }
    return subsection->read(f, configuration, error);
}

/* Rules C6 and C7. @type_at: where the configuration begins. */
static bool check_capabilities(MigrationIncomingState *mis, const Configuration *configuration,
                               FieldAt type_at, LoadSummary *summary, GError **error)
{
    if (!(configuration->seen & SUBSECTION_CAPABILITIES)) {
        type_at.field = "configuration";
        return mapped_ram_refuse_field(error, MAPPED_RAM_ERROR_UNSUPPORTED, "C6", type_at,
                                       "has no capabilities, so not 'mapped-ram'");
    }
    if (!configuration->mapped_ram) {
        return mapped_ram_refuse(error, MAPPED_RAM_ERROR_UNSUPPORTED, "C6", configuration->count_at,
                                 configuration->count, "'mapped-ram' is not among them");
    }
    if (mis->x_ignore_shared_auto) {
        mis->x_ignore_shared = configuration->x_ignore_shared;
    }
    if (configuration->x_ignore_shared && !mis->x_ignore_shared) {
        return mapped_ram_refuse_name(error, MAPPED_RAM_ERROR_MISMATCH, "C7",
                                      configuration->shared_at, "x-ignore-shared",
                                      "is off in the guest");
    }
    if (!configuration->x_ignore_shared && mis->x_ignore_shared) {
        return mapped_ram_refuse(error, MAPPED_RAM_ERROR_MISMATCH, "C7", configuration->count_at,
                                 configuration->count,
                                 "'x-ignore-shared' is not among them, but on in the guest");
    }
    summary->has_x_ignore_shared = configuration->x_ignore_shared;
    return true;
}

/* Rule C9. */
static bool check_target_page_bits(const MigrationIncomingState *mis,
                                   const Configuration *configuration, GError **error)
{
    uint32_t bits = configuration->page_bits;

    if (!(configuration->seen & SUBSECTION_TARGET_PAGE_BITS) ||
        (bits < 64 && UINT64_C(1) << bits == mis->target_page_size)) {
        return true;
    }
    return mapped_ram_refuse(error, MAPPED_RAM_ERROR_MISMATCH, "C9", configuration->page_bits_at,
                             bits, "is not the log2 of the target's page size 0x%" PRIx64,
                             mis->target_page_size);
}

/* Goes beyond the next byte if it is SUBSECTION; the end of the file is none. */
static bool next_is_subsection(LoaderStream *f, bool *is_one, GError **error)
{
    uint8_t type;

    *is_one = false;
    if (f->position >= f->reader->size) {
        return true;
    }
    if (!loader_stream_u8(f, "type", &type, error)) {
        return false;
    }
    *is_one = type == QEMU_VM_SUBSECTION;
    if (!*is_one) {
        loader_stream_seek(f, f->position - 1);
    }
    return true;
}

/* All subsections, then what they say in all. */
static bool read_subsections(MigrationIncomingState *mis, LoaderStream *f, FieldAt at,
                             LoadSummary *summary, GError **error)
{
    Configuration configuration = { 0 };
    bool is_one = true;

    while (is_one) {
        if (!next_is_subsection(f, &is_one, error) ||
            (is_one && !read_subsection(f, &configuration, error))) {
            return false;
        }
    }
    return check_capabilities(mis, &configuration, at, summary, error) &&
           check_target_page_bits(mis, &configuration, error);
}

static bool read_configuration(MigrationIncomingState *mis, LoaderStream *f, LoadSummary *summary,
                               GError **error)
{
    FieldAt at = loader_stream_field(f, "type", f->position);
    uint8_t type;

    if (!loader_stream_u8(f, at.field, &type, error)) {
        return false;
    }
    if (type != QEMU_VM_CONFIGURATION) {
        return mapped_ram_refuse(error, MAPPED_RAM_ERROR_INVALID, "C1", at, type,
                                 "is not CONFIGURATION 0x%02x", QEMU_VM_CONFIGURATION);
    }
    return read_machine(mis, f, summary, error) && read_subsections(mis, f, at, summary, error);
}

static bool check_section_type(const LoaderStream *f, uint8_t type, GError **error)
{
    FieldAt at = loader_stream_field(f, "type", f->position - 1);

    switch (type) {
    case QEMU_VM_SECTION_START:
        return true;
    case QEMU_VM_SECTION_FULL:
    case QEMU_VM_COMMAND:
    case QEMU_VM_EOF:
        return mapped_ram_refuse(error, MAPPED_RAM_ERROR_UNSUPPORTED, "S2", at, type,
                                 "the first section is not START 0x%02x of 'ram'",
                                 QEMU_VM_SECTION_START);
    default:
        return mapped_ram_refuse(error, MAPPED_RAM_ERROR_INVALID, "S1", at, type,
                                 "is not START 0x%02x", QEMU_VM_SECTION_START);
    }
}

/* Leaves the stream at the section's contents. */
static bool read_section_start(LoaderStream *f, uint32_t *section_id, GError **error)
{
    char name[LOADER_STREAM_STR8_SIZE];
    uint32_t value;
    uint8_t length;
    uint8_t type;
    uint64_t at;

    if (!loader_stream_u8(f, "type", &type, error) || !check_section_type(f, type, error) ||
        !loader_stream_be32(f, "section id", section_id, error)) {
        return false;
    }
    at = f->position;
    if (!loader_stream_str8(f, "section name", name, &length, error)) {
        return false;
    }
    if (!name_is(name, length, "ram")) {
        return mapped_ram_refuse_name(error, MAPPED_RAM_ERROR_UNSUPPORTED, "S2",
                                      loader_stream_field(f, "section name", at), name,
                                      "the first section is not 'ram'");
    }
    if (!loader_stream_be32(f, "instance id", &value, error)) {
        return false;
    }
    if (value != 0) {
        return mapped_ram_refuse(error, MAPPED_RAM_ERROR_INVALID, "S3",
                                 loader_stream_field(f, "instance id", f->position - 4), value,
                                 "is not 0");
    }
    if (!loader_stream_be32(f, "section version", &value, error)) {
        return false;
    }
    if (value != RAM_SECTION_VERSION) {
        return mapped_ram_refuse(error, MAPPED_RAM_ERROR_UNSUPPORTED, "S4",
                                 loader_stream_field(f, "section version", f->position - 4), value,
                                 "is not %d", RAM_SECTION_VERSION);
    }
    return true;
}

static uint64_t flags_of(const MigrationIncomingState *mis, uint64_t word)
{
    return word & (mis->target_page_size - 1);
}

static bool read_total(const MigrationIncomingState *mis, LoaderStream *f, LoadSummary *summary,
                       GError **error)
{
    FieldAt at = loader_stream_field(f, "total", f->position);
    uint64_t word;

    if (!loader_stream_be64(f, at.field, &word, error)) {
        return false;
    }
    switch (flags_of(mis, word)) {
    case RAM_SAVE_FLAG_MEM_SIZE:
        summary->total = word - RAM_SAVE_FLAG_MEM_SIZE;
        summary->total_offset = at.offset;
        return true;
    case RAM_SAVE_FLAG_MEM_SIZE | RAM_SAVE_FLAG_CONTINUE:
    case RAM_SAVE_FLAG_EOS:
    case RAM_SAVE_FLAG_EOS | RAM_SAVE_FLAG_CONTINUE:
        return mapped_ram_refuse(error, MAPPED_RAM_ERROR_UNSUPPORTED, "R1a", at, word,
                                 "its flags are not just MEM_SIZE 0x%x", RAM_SAVE_FLAG_MEM_SIZE);
    default:
        return mapped_ram_refuse(error, MAPPED_RAM_ERROR_INVALID, "R1", at, word,
                                 "its flags are not MEM_SIZE 0x%x", RAM_SAVE_FLAG_MEM_SIZE);
    }
}

bool container_read_start(MigrationIncomingState *mis, LoaderStream *f, LoadSummary *summary,
                          GError **error)
{
    return read_file_header(f, error) && read_configuration(mis, f, summary, error) &&
           read_section_start(f, &summary->section_id, error) && read_total(mis, f, summary, error);
}

static bool read_eos(const MigrationIncomingState *mis, LoaderStream *f, GError **error)
{
    FieldAt at = loader_stream_field(f, "EOS", f->position);
    uint64_t word;

    if (!loader_stream_be64(f, at.field, &word, error)) {
        return false;
    }
    if (word == RAM_SAVE_FLAG_EOS) {
        return true;
    }
    switch (flags_of(mis, word)) {
    case RAM_SAVE_FLAG_EOS:
    case RAM_SAVE_FLAG_EOS | RAM_SAVE_FLAG_CONTINUE:
        return mapped_ram_refuse(error, MAPPED_RAM_ERROR_INVALID, "R7a", at, word,
                                 "is not exactly 0x%x", RAM_SAVE_FLAG_EOS);
    case RAM_SAVE_FLAG_MEM_SIZE:
    case RAM_SAVE_FLAG_MEM_SIZE | RAM_SAVE_FLAG_CONTINUE:
        return mapped_ram_refuse(error, MAPPED_RAM_ERROR_UNSUPPORTED, "R7b", at, word,
                                 "lists blocks once more, and is not EOS 0x%x", RAM_SAVE_FLAG_EOS);
    default:
        return mapped_ram_refuse(error, MAPPED_RAM_ERROR_INVALID, "R7", at, word, "is not EOS 0x%x",
                                 RAM_SAVE_FLAG_EOS);
    }
}

static bool read_footer(LoaderStream *f, uint32_t section_id, GError **error)
{
    uint32_t id;
    uint8_t type;

    if (!loader_stream_u8(f, "footer", &type, error)) {
        return false;
    }
    if (type != QEMU_VM_SECTION_FOOTER) {
        return mapped_ram_refuse(error, MAPPED_RAM_ERROR_INVALID, "S5",
                                 loader_stream_field(f, "footer", f->position - 1), type,
                                 "is not FOOTER 0x%02x", QEMU_VM_SECTION_FOOTER);
    }
    if (!loader_stream_be32(f, "footer section id", &id, error)) {
        return false;
    }
    if (id != section_id) {
        return mapped_ram_refuse(error, MAPPED_RAM_ERROR_INVALID, "S6",
                                 loader_stream_field(f, "footer section id", f->position - 4), id,
                                 "is not the RAM section's 0x%" PRIx32, section_id);
    }
    return true;
}

/* PART or END of ram, rule T1; the type byte has been read. */
static bool walk_ram_section(const MigrationIncomingState *mis, LoaderStream *f,
                             uint32_t section_id, GError **error)
{
    uint32_t id;

    if (!loader_stream_be32(f, "section id", &id, error)) {
        return false;
    }
    if (id != section_id) {
        return mapped_ram_refuse(error, MAPPED_RAM_ERROR_INVALID, "T6",
                                 loader_stream_field(f, "section id", f->position - 4), id,
                                 "is not the RAM section's 0x%" PRIx32, section_id);
    }
    return read_eos(mis, f, error) && read_footer(f, section_id, error);
}

/* Rules T2, T2a: what a command says is not for a reader of RAM. */
static bool walk_command(LoaderStream *f, GError **error)
{
    uint16_t command;
    uint16_t length;

    return loader_stream_be16(f, "command", &command, error) &&
           loader_stream_be16(f, "command length", &length, error) &&
           loader_stream_skip(f, "command data", length, error);
}

/* Rules T4, T4a: the name alone; what follows is the device's. */
static bool walk_device_section(LoaderStream *f, GError **error)
{
    char name[LOADER_STREAM_STR8_SIZE];
    uint32_t section_id;
    uint8_t length;
    uint64_t at;

    if (!loader_stream_be32(f, "section id", &section_id, error)) {
        return false;
    }
    at = f->position;
    if (!loader_stream_str8(f, "section name", name, &length, error)) {
        return false;
    }
    if (strcmp(name, "ram") == 0) {
        return mapped_ram_refuse_name(error, MAPPED_RAM_ERROR_UNSUPPORTED, "T4a",
                                      loader_stream_field(f, "section name", at), name,
                                      "is loaded already; device state was to begin here");
    }
    return true;
}

/* RAM ends with the byte @type at summary->end. */
static bool walk_past_ram(LoaderStream *f, const LoadSummary *summary, uint8_t type, bool ended,
                          GError **error)
{
    if (!ended) {
        return mapped_ram_refuse(error, MAPPED_RAM_ERROR_INVALID, "T3",
                                 loader_stream_field(f, "type", summary->end), type,
                                 "comes before END 0x%02x of 'ram': the save was cut off",
                                 QEMU_VM_SECTION_END);
    }
    return type == QEMU_VM_EOF || walk_device_section(f, error);
}

static bool walk_to_end(const MigrationIncomingState *mis, LoaderStream *f, LoadSummary *summary,
                        GError **error)
{
    bool ended = false;
    uint8_t type;

    for (;;) {
        summary->end = f->position;
        if (!loader_stream_u8(f, "type", &type, error)) {
            return false;
        }
        switch (type) {
        case QEMU_VM_SECTION_PART:
        case QEMU_VM_SECTION_END:
            if (!walk_ram_section(mis, f, summary->section_id, error)) {
                return false;
            }
            ended |= type == QEMU_VM_SECTION_END;
            break;
        case QEMU_VM_COMMAND:
            if (!walk_command(f, error)) {
                return false;
            }
            break;
        case QEMU_VM_SECTION_START:
        case QEMU_VM_SECTION_FULL:
        case QEMU_VM_EOF:
            return walk_past_ram(f, summary, type, ended, error);
        default:
            return mapped_ram_refuse(error, MAPPED_RAM_ERROR_INVALID, "T6",
                                     loader_stream_field(f, "type", summary->end), type,
                                     "is none of EOF, START, PART, END, FULL, COMMAND");
        }
    }
}

bool container_read_end(const MigrationIncomingState *mis, LoaderStream *f, LoadSummary *summary,
                        GError **error)
{
    return read_eos(mis, f, error) && read_footer(f, summary->section_id, error) &&
           walk_to_end(mis, f, summary, error);
}

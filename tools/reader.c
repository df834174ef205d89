/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * See reader.h. The file is read by the judge alone: a guest without blocks
 * makes it list every idstr (rule R3), blocks of boundless max_length make it
 * tell every used_length (R6a), C9 and MappedRamHeader tell the page size.
 * There must be no second parser of the format here.
 */
#include "tools/reader.h"

#include "tools/command.h"

#include <errno.h>
#include <string.h>

#define DEFAULT_PAGE_SIZE 4096
#define HOST_PAGE_SIZE 4096
#define PAGE_BITS_MIN 10
#define PAGE_BITS_MAX 16

/* A multiple of every page size that rule R6 never calls too small. */
#define BOUNDLESS (UINT64_C(1) << 62)

void reader_options_clear(ReaderOptions *options)
{
    g_free(options->page_size);
    g_free(options->blocks);
    g_free(options->machine);
    g_free(options->x_ignore_shared);
}

void reader_options_table(ReaderOptions *options, GOptionEntry table[READER_N_OPTIONS])
{
    const GOptionEntry entries[READER_N_OPTIONS] = {
        { "page-size", 0, 0, G_OPTION_ARG_STRING, &options->page_size,
          "The reader's target page size: 1K to 64K (default: as the file says)", "BYTES" },
        { "guest", 0, 0, G_OPTION_ARG_STRING, &options->blocks,
          "The reader's RAM blocks: idstr=used[:max],... (default: as the file says)", "BLOCKS" },
        { "machine", 0, 0, G_OPTION_ARG_STRING, &options->machine,
          "The machine name that the reader insists on (default: any)", "NAME" },
        { "x-ignore-shared", 0, 0, G_OPTION_ARG_STRING, &options->x_ignore_shared,
          "The capability in the reader: on, off (default: as the file says)", "on|off" },
        G_OPTION_ENTRY_NULL,
    };

    memcpy(table, entries, sizeof(entries));
}

static bool usage_error(GError **error, const char *option, const char *value, const char *wanted)
{
    g_set_error(error, COMMAND_ERROR, COMMAND_ERROR_USAGE, "--%s: '%s' is not %s", option, value,
                wanted);
    return false;
}

/* 4096, 0x1000, 4K, 1M, 2G, 1T. */
static bool parse_size(const char *text, uint64_t *size)
{
    static const char suffixes[] = "KMGT";
    const char *suffix;
    char *end;
    unsigned shift = 0;

    if (!g_ascii_isdigit(*text)) {
        return false;
    }
    errno = 0;
    *size = g_ascii_strtoull(text, &end, 0);
    suffix = *end ? strchr(suffixes, g_ascii_toupper(*end)) : NULL;
    if (suffix) {
        shift = 10 * (unsigned)(1 + suffix - suffixes);
        end++;
    }
    if (errno || *end || *size > (uint64_t)INT64_MAX >> shift) {
        return false;
    }
    *size <<= shift;
    return true;
}

static bool is_page_size(uint64_t size)
{
    return size >= UINT64_C(1) << PAGE_BITS_MIN && size <= UINT64_C(1) << PAGE_BITS_MAX &&
           (size & (size - 1)) == 0;
}

/* One "idstr=used[:max]"; idstrs may contain '='. */
static bool parse_block(const char *text, GuestBlock *block)
{
    g_autofree char *idstr = g_strdup(text);
    char *used = strrchr(idstr, '=');
    char *max;

    if (!used) {
        return false;
    }
    *used++ = '\0';
    max = strchr(used, ':');
    if (max) {
        *max++ = '\0';
    }
    block->host_page_size = HOST_PAGE_SIZE;
    return *idstr && g_strlcpy(block->idstr, idstr, sizeof(block->idstr)) < sizeof(block->idstr) &&
           parse_size(used, &block->used_length) &&
           parse_size(max ? max : used, &block->max_length) && block->used_length > 0 &&
           block->used_length <= block->max_length;
}

static int find_block(const Guest *guest, const char *idstr)
{
    for (unsigned i = 0; i < guest->n_blocks; i++) {
        if (strcmp(guest->blocks[i].idstr, idstr) == 0) {
            return (int)i;
        }
    }
    return -1;
}

static bool parse_blocks(const char *text, Guest *guest, GError **error)
{
    g_auto(GStrv) items = g_strsplit(text, ",", -1);

    for (unsigned i = 0; items[i]; i++) {
        GuestBlock block;

        if (!parse_block(items[i], &block)) {
            return usage_error(error, "guest", items[i],
                               "idstr=used[:max] with sizes as 4096, 0x1000, 4K, 1M, 2G");
        }
        if (find_block(guest, block.idstr) >= 0) {
            return usage_error(error, "guest", items[i], "a new block: its idstr was there before");
        }
        if (guest->n_blocks == GUEST_MAX_BLOCKS) {
            return usage_error(
                error, "guest", items[i],
                "possible: a guest has at most " G_STRINGIFY(
                    GUEST_MAX_BLOCKS) " blocks here (GUEST_MAX_BLOCKS in model/guest.h)");
        }
        guest->blocks[guest->n_blocks++] = block;
    }
    return true;
}

static bool parse_options(const ReaderOptions *options, Guest *guest, GError **error)
{
    *guest = (Guest){ .target_page_size = DEFAULT_PAGE_SIZE };
    if (options->page_size && (!parse_size(options->page_size, &guest->target_page_size) ||
                               !is_page_size(guest->target_page_size))) {
        return usage_error(error, "page-size", options->page_size, "a power of two from 1K to 64K");
    }
    if (options->machine && g_strlcpy(guest->machine, options->machine, sizeof(guest->machine)) >=
                                sizeof(guest->machine)) {
        return usage_error(error, "machine", options->machine, "shorter than 64 bytes");
    }
    if (options->x_ignore_shared) {
        guest->x_ignore_shared = strcmp(options->x_ignore_shared, "on") == 0;
        if (!guest->x_ignore_shared && strcmp(options->x_ignore_shared, "off") != 0) {
            return usage_error(error, "x-ignore-shared", options->x_ignore_shared, "on or off");
        }
    }
    return !options->blocks || parse_blocks(options->blocks, guest, error);
}

/* The str8 at @offset, up to its first NUL. */
static void read_idstr(const SparseFile *content, uint64_t offset, char idstr[256])
{
    uint8_t length = 0;

    sparse_file_read(content, offset, &length, 1);
    idstr[sparse_file_read(content, offset + 1, idstr, length)] = '\0';
}

/* C7, C9, H2: does the reader get another page size or capability? */
static bool adopt_configuration(const ReaderOptions *options, const Judgement *judgement,
                                Guest *guest)
{
    bool adopted = false;

    for (unsigned i = 0; i < judgement->n_violations; i++) {
        const Violation *violation = &judgement->violations[i];

        if (violation->rule == RULE_C7 && !options->x_ignore_shared) {
            guest->x_ignore_shared = judgement->has_x_ignore_shared;
            adopted = true;
        }
        if (violation->rule == RULE_C9 && !options->page_size &&
            violation->value >= PAGE_BITS_MIN && violation->value <= PAGE_BITS_MAX) {
            guest->target_page_size = UINT64_C(1) << violation->value;
            return true;
        }
        if (violation->rule == RULE_H2 && !options->page_size && is_page_size(violation->value)) {
            guest->target_page_size = violation->value;
            return true;
        }
    }
    return adopted;
}

/* R3: every block of the file becomes one of the guest. */
static bool adopt_idstrs(const Judgement *judgement, Guest *guest, unsigned *left_out)
{
    unsigned n_blocks = guest->n_blocks;

    *left_out = 0;
    for (unsigned i = 0; i < judgement->n_violations; i++) {
        const Violation *violation = &judgement->violations[i];
        GuestBlock block = { .max_length = BOUNDLESS, .host_page_size = HOST_PAGE_SIZE };

        if (violation->rule != RULE_R3) {
            continue;
        }
        read_idstr(judgement->file, violation->offset, block.idstr);
        if (!block.idstr[0] || find_block(guest, block.idstr) >= 0) {
            continue;
        }
        if (guest->n_blocks == GUEST_MAX_BLOCKS) {
            (*left_out)++;
            continue;
        }
        guest->blocks[guest->n_blocks++] = block;
    }
    return guest->n_blocks > n_blocks;
}

/* R6a; a guest's lengths are multiples of its page size, and never 0. */
static void adopt_lengths(const Judgement *judgement, Guest *guest)
{
    uint64_t page_size = guest->target_page_size;

    for (unsigned i = 0; i < guest->n_blocks; i++) {
        uint64_t used = MIN(judgement->blocks[i].used_length, BOUNDLESS);

        guest->blocks[i].used_length = MAX(used - used % page_size, page_size);
        guest->blocks[i].max_length = guest->blocks[i].used_length;
    }
}

static bool check_lengths(const Guest *guest, GError **error)
{
    for (unsigned i = 0; i < guest->n_blocks; i++) {
        const GuestBlock *block = &guest->blocks[i];

        if ((block->used_length | block->max_length) % guest->target_page_size != 0) {
            g_set_error(error, COMMAND_ERROR, COMMAND_ERROR_USAGE,
                        "--guest: block '%s': used and max are not multiples of the page size %u",
                        block->idstr, (unsigned)guest->target_page_size);
            return false;
        }
    }
    return true;
}

bool reader_judge(SnapshotFile *file, const ReaderOptions *options, Judgement *judgement,
                  unsigned *left_out, GError **error)
{
    const SparseFile *content = snapshot_file_content(file);
    Guest guest;
    bool again = true;
    /* Headers of different page sizes must not make it go in circles. */
    unsigned rounds = 3 + GUEST_MAX_BLOCKS;

    *left_out = 0;
    if (!parse_options(options, &guest, error)) {
        return false;
    }
    while (again && rounds-- > 0) {
        judge_file(content, &guest, judgement);
        again = adopt_configuration(options, judgement, &guest) ||
                (!options->blocks && adopt_idstrs(judgement, &guest, left_out));
    }
    if (!options->blocks) {
        adopt_lengths(judgement, &guest);
    } else if (!check_lengths(&guest, error)) {
        return false;
    }
    judge_file(content, &guest, judgement);
    return snapshot_file_check(file, error);
}

bool reader_check_left_out(unsigned left_out, GError **error)
{
    if (left_out == 0) {
        return true;
    }
    g_set_error(error, COMMAND_ERROR, COMMAND_ERROR_LIMIT,
                "it has at least %u RAM blocks, and this build of pagewise handles %u: build it "
                "with a greater GUEST_MAX_BLOCKS (model/guest.h)",
                GUEST_MAX_BLOCKS + left_out, GUEST_MAX_BLOCKS);
    return false;
}

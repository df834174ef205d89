/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The C side of `ninja findings` (cmake/findings.py): makes the file or the
 * fuzz input of a registered finding, and compares the RAM that a load of it
 * gave with the model. It loads nothing itself.
 *
 *     finding-case make REGISTRY ID FILE      the file; prints the model's verdict
 *     finding-case input REGISTRY ID FILE     the same as an input of fuzz-stream
 *     finding-case compare REGISTRY ID (DUMP USED)...
 *         of each block, in order: max_length bytes, and used_length as it is now
 *     finding-case repair REGISTRY ID FILE    the repaired file; prints the repairs
 *     finding-case match REGISTRY OUTCOME INPUT [KNOWN]
 *         the ids of the findings that a fuzz input (of a file) triggers and that
 *         were seen to end so; where there is none, those that come to light when
 *         the others are repaired. Those of the registry KNOWN are repaired before
 *     finding-case spared REGISTRY INPUT...
 *         those fuzz inputs that trigger a spared finding, once the others are repaired
 *
 * Exit status: 0; 3: compare: RAM is not what the model says, or the file had
 * to be refused; else: trouble.
 */
#include "model/judge.h"
#include "property/findings.h"
#include "property/input.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum {
    STATUS_OK = 0,
    STATUS_TROUBLE = 2,
    STATUS_DIFFERENT = 3, /* not 1: that is how a sanitizer ends a program */
};

typedef struct Case {
    Findings *findings;
    const Finding *finding;
    Snapshot *snapshot;
    SparseFile *file;
    Guest guest;
    Judgement judgement;
} Case;

static void case_clear(Case *c)
{
    g_clear_pointer(&c->findings, findings_free);
    g_clear_pointer(&c->snapshot, snapshot_free);
    g_clear_pointer(&c->file, sparse_file_free);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Case, case_clear)

static bool case_init(Case *c, const char *registry, const char *id, GError **error)
{
    *c = (Case){ .snapshot = snapshot_new(), .file = sparse_file_new() };
    c->findings = findings_read(registry, NULL, NULL, error);
    if (!c->findings) {
        return false;
    }
    c->finding = findings_by_id(c->findings, id);
    if (!c->finding) {
        g_set_error(error, FINDINGS_ERROR, FINDINGS_ERROR_IO, "%s: there is no finding '%s'",
                    registry, id);
        return false;
    }
    c->guest = c->finding->guest;
    if (!finding_make_file(c->finding, c->snapshot, c->file, error)) {
        return false;
    }
    judge_file(c->file, &c->guest, &c->judgement);
    return true;
}

static void print_judgement(const Case *c)
{
    printf("verdict: %s\n", verdict_name(c->judgement.verdict));
    for (unsigned i = 0; i < c->judgement.n_violations; i++) {
        g_autofree char *line = judgement_describe_violation(&c->judgement, i);

        printf("violation: %s\n", line);
    }
}

static bool write_file(const SparseFile *file, const char *path, GError **error)
{
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    bool ok;

    if (fd < 0) {
        g_set_error(error, FINDINGS_ERROR, FINDINGS_ERROR_IO, "%s: %s", path, g_strerror(errno));
        return false;
    }
    ok = sparse_file_to_fd(file, fd, error);
    close(fd);
    return ok;
}

static int run_make(Case *c, char **arguments, GError **error)
{
    print_judgement(c);
    return write_file(c->file, arguments[0], error) ? STATUS_OK : STATUS_TROUBLE;
}

static int run_input(Case *c, char **arguments, GError **error)
{
    g_autoptr(GByteArray) bytes = g_byte_array_new();

    if (!input_encode_stream(&c->guest, c->file, c->finding->dirty_ram ? INPUT_DIRTY_RAM : 0,
                             bytes)) {
        g_set_error_literal(error, FINDINGS_ERROR, FINDINGS_ERROR_FORMAT,
                            "the guest cannot be said in an input of kind stream");
        return STATUS_TROUBLE;
    }
    if (c->finding->modes == FINDING_MODE_MULTIFD) {
        ((InputHeader *)bytes->data)->axes |= INPUT_AXIS_MULTIFD;
    }
    return g_file_set_contents(arguments[0], (const char *)bytes->data, bytes->len, error)
               ? STATUS_OK
               : STATUS_TROUBLE;
}

static int run_repair(Case *c, char **arguments, GError **error)
{
    FindingLoad load = { .file = c->file, .guest = &c->guest, .mode = c->finding->modes };
    g_autoptr(GString) log = g_string_new(NULL);

    findings_repair(c->findings, &load, log);
    fputs(log->str, stdout);
    return write_file(c->file, arguments[0], error) ? STATUS_OK : STATUS_TROUBLE;
}

/* The file's page, or NULL: zeroes, for fresh RAM is zero. False: anything may be there. */
static bool expected_page(const Case *c, unsigned block, uint64_t page, uint8_t *bytes,
                          uint64_t *file_offset)
{
    uint64_t size = c->guest.target_page_size;

    memset(bytes, 0, size);
    *file_offset = 0;
    switch (judgement_page(&c->judgement, block, page, file_offset)) {
    case PAGE_FROM_FILE:
        sparse_file_read(c->file, *file_offset, bytes, size);
        return true;
    case PAGE_UNSPECIFIED:
        return false;
    default:
        return true;
    }
}

static void print_wrong_page(const Case *c, unsigned block, uint64_t page, size_t at, uint8_t found,
                             uint8_t expected, uint64_t file_offset)
{
    printf("block '%s', page %" PRIu64 ", byte %zu: found 0x%02x; expected 0x%02x",
           c->guest.blocks[block].idstr, page, at, found, expected);
    if (file_offset) {
        printf(", the byte at file offset 0x%" PRIx64 "\n", file_offset + at);
    } else {
        printf(", as the page is not in the file\n");
    }
}

/* Prints the first page of the dump that is wrong; false if there is one. */
static bool compare_pages(const Case *c, unsigned block, const uint8_t *dump, size_t length)
{
    uint64_t size = c->guest.target_page_size;
    g_autofree uint8_t *bytes = g_malloc(size);

    for (uint64_t page = 0; (page + 1) * size <= length; page++) {
        const uint8_t *found = dump + page * size;
        uint64_t file_offset;
        size_t at = 0;

        if (!expected_page(c, block, page, bytes, &file_offset)) {
            continue;
        }
        while (at < size && found[at] == bytes[at]) {
            at++;
        }
        if (at < size) {
            print_wrong_page(c, block, page, at, found[at], bytes[at], file_offset);
            return false;
        }
    }
    return true;
}

/* R6a: who accepts more than the block has must make it greater. */
static bool compare_length(const Case *c, unsigned block, uint64_t used_length)
{
    const JudgedBlock *judged = &c->judgement.blocks[block];

    if (!judged->in_file || judged->used_length <= used_length) {
        return true;
    }
    printf("block '%s': the file has 0x%" PRIx64 " bytes of it and was accepted, but the block "
           "was not resized: it still has 0x%" PRIx64 " (rule R6a)\n",
           c->guest.blocks[block].idstr, judged->used_length, used_length);
    return false;
}

static int run_compare(Case *c, char **arguments, GError **error)
{
    if (c->judgement.verdict == VERDICT_REJECT) {
        printf("the load reported success; the file must be refused\n");
        return STATUS_DIFFERENT;
    }
    for (unsigned i = 0; i < c->guest.n_blocks && arguments[0] && arguments[1]; i++) {
        g_autofree char *dump = NULL;
        size_t length;

        if (!g_file_get_contents(arguments[0], &dump, &length, error)) {
            return STATUS_TROUBLE;
        }
        if (!compare_length(c, i, g_ascii_strtoull(arguments[1], NULL, 0)) ||
            !compare_pages(c, i, (const uint8_t *)dump, length)) {
            return STATUS_DIFFERENT;
        }
        arguments += 2;
    }
    return STATUS_OK;
}

/* False: there is none. */
static bool print_matches(const Findings *findings, const FindingLoad *load, FindingOutcome outcome)
{
    bool any = false;

    for (unsigned i = 0; i < findings_count(findings); i++) {
        const Finding *finding = findings_get(findings, i);

        if ((finding->outcomes >> outcome & 1) && finding_is_triggered(finding, load)) {
            printf("%s\n", finding->id);
            any = true;
        }
    }
    return any;
}

/* The load that a fuzz input asks for. The file borrows from the input's bytes. */
typedef struct InputLoad {
    char *data;
    Snapshot *snapshot;
    SparseFile *file;
    Guest guest;
    FindingLoad load;
} InputLoad;

static void input_load_clear(InputLoad *l)
{
    g_clear_pointer(&l->snapshot, snapshot_free);
    g_clear_pointer(&l->file, sparse_file_free);
    g_clear_pointer(&l->data, g_free);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(InputLoad, input_load_clear)

static FindingMode mode_of(const Input *input)
{
    if (input->axes & INPUT_AXIS_MULTIFD) {
        return FINDING_MODE_MULTIFD;
    }
    return input->kind == INPUT_LAZY ? FINDING_MODE_PLAIN | FINDING_MODE_LAZY : FINDING_MODE_PLAIN;
}

static bool input_load_init(InputLoad *l, const char *path, GError **error)
{
    size_t size;
    Input input;

    *l = (InputLoad){ .snapshot = snapshot_new(), .file = sparse_file_new() };
    if (!g_file_get_contents(path, &l->data, &size, error)) {
        return false;
    }
    if (!input_decode((const uint8_t *)l->data, size, &input)) {
        g_set_error(error, FINDINGS_ERROR, FINDINGS_ERROR_FORMAT, "%s is no input", path);
        return false;
    }
    input_make_file(&input, l->snapshot, l->file, &l->guest, NULL);
    l->load = (FindingLoad){
        .file = l->file,
        .guest = &l->guest,
        .mode = mode_of(&input),
        .lazy = input.kind == INPUT_LAZY,
        .reads_fail = input.fail_read || input.cut || input.max_read_length,
        .one_block = input.kind == INPUT_HEADER,
        .header_offset = input.header_offset,
        .used_length = input.used_length,
    };
    return true;
}

static int run_match(const Findings *findings, char **arguments, GError **error)
{
    g_auto(InputLoad) l = { .data = NULL };
    FindingOutcome outcome = finding_outcome_by_name(arguments[0]);
    unsigned repairs = 0;

    if (outcome == FINDING_OUTCOME__MAX) {
        g_set_error(error, FINDINGS_ERROR, FINDINGS_ERROR_FORMAT, "%s is no outcome", arguments[0]);
        return STATUS_TROUBLE;
    }
    if (!arguments[1] || !input_load_init(&l, arguments[1], error)) {
        return STATUS_TROUBLE;
    }
    if (arguments[2]) {
        g_autoptr(Findings) known = findings_read(arguments[2], NULL, NULL, error);

        if (!known) {
            return STATUS_TROUBLE;
        }
        findings_repair(known, &l.load, NULL);
    }
    while (!print_matches(findings, &l.load, outcome) &&
           findings_repair_next(findings, &l.load, NULL) && ++repairs < FINDINGS_MAX_REPAIRS) {
    }
    return STATUS_OK;
}

static int run_spared(const Findings *findings, char **arguments, GError **error)
{
    for (unsigned i = 0; arguments[i]; i++) {
        g_auto(InputLoad) l = { .data = NULL };

        if (!input_load_init(&l, arguments[i], error)) {
            return STATUS_TROUBLE;
        }
        findings_repair(findings, &l.load, NULL);
        if (findings_spare(findings, &l.load)) {
            printf("%s\n", arguments[i]);
        }
    }
    return STATUS_OK;
}

static const struct {
    const char *name;
    int (*run)(Case *c, char **arguments, GError **error);
} commands[] = {
    { "make", run_make },
    { "input", run_input },
    { "compare", run_compare },
    { "repair", run_repair },
};

static const struct {
    const char *name;
    int (*run)(const Findings *findings, char **arguments, GError **error);
} input_commands[] = {
    { "match", run_match },
    { "spared", run_spared },
};

static int run_command(unsigned index, char **arguments, GError **error)
{
    g_auto(Case) c = { .findings = NULL };

    return arguments[1] && arguments[2] && case_init(&c, arguments[0], arguments[1], error)
               ? commands[index].run(&c, arguments + 2, error)
               : STATUS_TROUBLE;
}

static int run_input_command(unsigned index, char **arguments, GError **error)
{
    g_autoptr(Findings) findings = findings_read(arguments[0], NULL, NULL, error);

    return findings && arguments[1] ? input_commands[index].run(findings, arguments + 1, error)
                                    : STATUS_TROUBLE;
}

/* What is asked for by @name, with one argument or more behind it. */
static int run(const char *name, char **arguments, GError **error)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(commands); i++) {
        if (strcmp(name, commands[i].name) == 0) {
            return run_command(i, arguments, error);
        }
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(input_commands); i++) {
        if (strcmp(name, input_commands[i].name) == 0) {
            return run_input_command(i, arguments, error);
        }
    }
    return STATUS_TROUBLE;
}

int main(int argc, char **argv)
{
    g_autoptr(GError) error = NULL;
    int status = argc >= 3 ? run(argv[1], argv + 2, &error) : STATUS_TROUBLE;

    if (error) {
        fprintf(stderr, "finding-case: %s\n", error->message);
    } else if (status == STATUS_TROUBLE) {
        fprintf(stderr, "Usage: finding-case make|input|compare|repair REGISTRY ID FILE...\n"
                        "       finding-case match REGISTRY OUTCOME INPUT [KNOWN]\n"
                        "       finding-case spared REGISTRY INPUT...\n");
    }
    return status;
}

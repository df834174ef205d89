/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * model/judge.[ch]: for every rule of docs/mapped-ram-format.md the smallest
 * step from a file that every reader must accept to one that breaks the rule,
 * and the values right at the edge that do not; where pages come from; and
 * what hostile files cost.
 */
#include "model/judge.h"
#include "unit/judge-plan.h"
#include "unit/support.h"

#include <inttypes.h>
#include <string.h>
#include <time.h>

/* One violation, as expected. */
typedef struct Wanted {
    RuleId rule;
    int block;
    const char *field;
    uint64_t offset;
    uint64_t value;
    const char *text;
} Wanted;

typedef struct JudgeCase {
    const char *name;
    void (*prepare)(Plan *plan); /* changes the standard plan; NULL: does not */
    /* A number put over the written file; size 0: none. */
    uint64_t at;
    unsigned size;
    uint64_t number;
    uint64_t cut; /* the file's size; 0: as written */
    Verdict verdict;
    unsigned n_violations;
    Wanted wanted; /* one of them */
} JudgeCase;

static void build_case(const JudgeCase *test, Plan *plan, SparseFile *file)
{
    plan_standard(plan);
    if (test->prepare != NULL) {
        test->prepare(plan);
    }
    plan_write(plan, file);
    put_number(file, test->at, test->size, test->number);
    if (test->cut != 0) {
        sparse_file_truncate(file, test->cut);
    }
}

static void fail_with_violations(const char *name, const Judgement *judgement)
{
    g_autoptr(GString) text = g_string_new(NULL);

    g_string_printf(text, "case %s: %s, %u violations:\n", name, verdict_name(judgement->verdict),
                    judgement->n_violations);
    for (unsigned i = 0; i < judgement->n_violations; i++) {
        g_autofree char *line = judgement_describe_violation(judgement, i);
        const Violation *found = &judgement->violations[i];

        g_string_append_printf(text, "  %s [block %d, %s, 0x%" PRIx64 ", 0x%" PRIx64 "]\n", line,
                               found->block, found->field, found->offset, found->value);
    }
    fail_msg("%s", text->str);
}

static bool has_violation(const Judgement *judgement, const Wanted *wanted)
{
    for (unsigned i = 0; i < judgement->n_violations; i++) {
        const Violation *found = &judgement->violations[i];
        g_autofree char *text = judgement_describe_violation(judgement, i);

        if (found->rule == wanted->rule && found->block == wanted->block &&
            strcmp(found->field, wanted->field) == 0 && found->offset == wanted->offset &&
            found->value == wanted->value && strcmp(text, wanted->text) == 0) {
            return true;
        }
    }
    return false;
}

static void assert_judged(const char *name, const Judgement *judgement, Verdict verdict,
                          unsigned n_violations, const Wanted *wanted)
{
    if (judgement->verdict != verdict || judgement->n_violations != n_violations ||
        (n_violations > 0 && !has_violation(judgement, wanted))) {
        fail_with_violations(name, judgement);
    }
    if (n_violations > 0) {
        assert_true(judgement_violates(judgement, wanted->rule));
    }
}

/* Changes of the plan */

static void guest_of_any_machine(Plan *plan)
{
    plan->guest.machine[0] = '\0';
}

static void no_machine_name(Plan *plan)
{
    plan->machine = PLAN_BYTES("");
}

static void machine_name_is_prefix(Plan *plan)
{
    plan->machine = PLAN_BYTES("no");
}

static void machine_name_goes_on(Plan *plan)
{
    plan->machine = PLAN_BYTES("none-9.0");
}

static void machine_name_goes_on_after_nul(Plan *plan)
{
    plan->machine = PLAN_BYTES("none\0x");
}

static void machine_name_is_cut_by_nul(Plan *plan)
{
    plan->machine = PLAN_BYTES("non\0");
}

static char long_name[257];

static void machine_name_of_255(Plan *plan)
{
    guest_of_any_machine(plan);
    memset(long_name, 'm', sizeof(long_name) - 1);
    plan->machine = (PlanBytes){ long_name, 255 };
}

static void machine_name_of_256(Plan *plan)
{
    machine_name_of_255(plan);
    plan->machine.length = 256;
}

static void unknown_subsection(Plan *plan)
{
    plan->subsections = PLAN_BYTES("\x05\x07"
                                   "unknown");
}

static void subsection_with_nul(Plan *plan)
{
    plan->subsections = PLAN_BYTES("\x05\x1c"
                                   "configuration/capabilities\0x" PLAN_V1 PLAN_V1 PLAN_MAPPED_RAM);
}

static void uuid_twice(Plan *plan)
{
    plan->subsections = PLAN_BYTES(PLAN_UUID PLAN_UUID PLAN_CAPABILITIES PLAN_V1 PLAN_MAPPED_RAM);
}

static void uuid_twice_without_mapped_ram(Plan *plan)
{
    plan->subsections = PLAN_BYTES(PLAN_UUID PLAN_UUID PLAN_CAPABILITIES "\0\0\0\0");
}

static void all_subsections(Plan *plan)
{
    plan->subsections =
        PLAN_BYTES(PLAN_CAPABILITIES PLAN_V1 PLAN_MAPPED_RAM PLAN_UUID PLAN_PAGE_BITS "\0\0\0\x0c");
}

static void uuid_of_another_version(Plan *plan)
{
    plan->subsections = PLAN_BYTES("\x05\x12"
                                   "configuration/uuid"
                                   "\0\0\1\1");
}

static void no_subsections(Plan *plan)
{
    plan->subsections = PLAN_BYTES("");
}

static void no_capability(Plan *plan)
{
    plan->subsections = PLAN_BYTES(PLAN_CAPABILITIES "\0\0\0\0");
}

static void capabilities_twice_last_lacks(Plan *plan)
{
    plan->subsections =
        PLAN_BYTES(PLAN_CAPABILITIES PLAN_V1 PLAN_MAPPED_RAM PLAN_CAPABILITIES "\0\0\0\0");
}

static void capabilities_twice_last_has(Plan *plan)
{
    plan->subsections =
        PLAN_BYTES(PLAN_CAPABILITIES "\0\0\0\0" PLAN_CAPABILITIES PLAN_V1 PLAN_MAPPED_RAM);
}

static void only_file_ignores_shared(Plan *plan)
{
    plan->subsections =
        PLAN_BYTES(PLAN_CAPABILITIES "\0\0\0\2" PLAN_MAPPED_RAM PLAN_X_IGNORE_SHARED);
}

static void only_guest_ignores_shared(Plan *plan)
{
    plan->guest.x_ignore_shared = true;
}

static void capabilities_twice_only_guest_ignores_shared(Plan *plan)
{
    plan->guest.x_ignore_shared = true;
    plan->subsections = PLAN_BYTES(
        PLAN_CAPABILITIES
        "\0\0\0\2" PLAN_MAPPED_RAM PLAN_X_IGNORE_SHARED PLAN_CAPABILITIES PLAN_V1 PLAN_MAPPED_RAM);
}

static void another_capability(Plan *plan)
{
    plan->subsections = PLAN_BYTES(PLAN_CAPABILITIES "\0\0\0\2" PLAN_MAPPED_RAM "\7"
                                                     "multifd");
}

static void capability_listed_twice(Plan *plan)
{
    plan->subsections = PLAN_BYTES(PLAN_CAPABILITIES "\0\0\0\2" PLAN_MAPPED_RAM PLAN_MAPPED_RAM);
}

static void capability_with_nul(Plan *plan)
{
    plan->subsections = PLAN_BYTES(PLAN_CAPABILITIES PLAN_V1 "\x0b"
                                                             "mapped-ram\0");
}

static void page_bits_13(Plan *plan)
{
    plan->subsections =
        PLAN_BYTES(PLAN_PAGE_BITS "\0\0\0\x0d" PLAN_CAPABILITIES PLAN_V1 PLAN_MAPPED_RAM);
}

static void page_bits_huge(Plan *plan)
{
    plan->subsections =
        PLAN_BYTES(PLAN_PAGE_BITS "\0\0\0\x4c" PLAN_CAPABILITIES PLAN_V1 PLAN_MAPPED_RAM);
}

static void page_bits_twice(Plan *plan)
{
    plan->subsections =
        PLAN_BYTES(PLAN_PAGE_BITS "\0\0\0\x0c" PLAN_PAGE_BITS
                                  "\0\0\0\x0d" PLAN_CAPABILITIES PLAN_V1 PLAN_MAPPED_RAM);
}

static void two_blocks(Plan *plan)
{
    plan_add_block(plan, "rom", 0x1000);
    plan->records[1].bitmap = 0x01;
}

static void second_block_without_record(Plan *plan)
{
    two_blocks(plan);
    plan->n_records = 1;
    plan->total = 0x2004;
}

static void another_block(Plan *plan)
{
    plan_add_record(plan, "r\"m", 0x1000)->bitmap = 0xff;
}

static void idstr_with_nul(Plan *plan)
{
    plan->records[0].idstr = "ram\0\n";
    plan->records[0].idstr_length = 5;
}

static void idstr_of_200(Plan *plan)
{
    memset(long_name, 'i', sizeof(long_name) - 1);
    memcpy(plan->guest.blocks[0].idstr, long_name, 200);
    plan->records[0].idstr = long_name;
    plan->records[0].idstr_length = 200;
}

static void block_named_twice(Plan *plan)
{
    plan_add_record(plan, "ram", 0x2000);
}

static void used_length(Plan *plan, uint64_t length)
{
    plan->records[0].used_length = length;
    plan->total = length / 4096 * 4096 + 4;
}

static void used_length_is_odd(Plan *plan)
{
    used_length(plan, 0x2001);
}

static void used_length_is_max(Plan *plan)
{
    used_length(plan, 0x4000);
}

static void used_length_is_over_max(Plan *plan)
{
    used_length(plan, 0x5000);
}

static void used_length_is_smaller(Plan *plan)
{
    used_length(plan, 0x1000);
}

static void used_length_is_zero(Plan *plan)
{
    plan->records[0].used_length = 0;
    plan->records[0].bitmap_offset = UINT64_MAX - 1;
    plan->records[0].bitmap = 0;
    plan_add_record(plan, "ram", 0x2000)->bitmap = 0;
    plan->total = 0x2004;
}

static void used_length_is_smaller_than_total(Plan *plan)
{
    plan->total = 0x3004;
}

static void ignored_block(Plan *plan)
{
    plan_ignore_shared(plan);
    plan->records[0].bitmap_offset = 0;
    plan->records[0].pages_offset = 0;
    plan->records[0].bitmap = 0;
    plan->records[0].ends_at_header = true;
}

static void ignored_block_without_capability(Plan *plan)
{
    ignored_block(plan);
    plan->guest.x_ignore_shared = false;
    plan->subsections = PLAN_BYTES(PLAN_CAPABILITIES PLAN_V1 PLAN_MAPPED_RAM);
}

static void ignored_block_of_another_page_size(Plan *plan)
{
    ignored_block(plan);
    plan->records[0].page_size = 0;
}

static void ignored_block_of_another_length(Plan *plan)
{
    ignored_block(plan);
    plan->records[0].used_length = 0x1000;
    plan->total = 0x1004;
}

static void half_an_ignored_block(Plan *plan)
{
    plan_ignore_shared(plan);
    plan->records[0].bitmap_offset = 0;
    plan->records[0].bitmap = 0;
}

static void bitmap_behind_pages(Plan *plan)
{
    plan->records[0].bitmap_offset = 0x3100;
}

static void bitmap_at_the_very_end(Plan *plan)
{
    plan->records[0].bitmap_offset = AT_FILE_END - 8;
    plan->records[0].bitmap = 0;
}

static void bitmap_one_byte_beyond(Plan *plan)
{
    plan->records[0].bitmap_offset = AT_FILE_END - 7;
    plan->records[0].bitmap = 0;
}

static void bitmap_reaches_into_pages(Plan *plan)
{
    plan->records[0].bitmap_offset = AT_PAGES - 7;
}

static void bitmap_touches_pages(Plan *plan)
{
    plan->records[0].bitmap_offset = AT_PAGES - 8;
}

static void bits_beyond_pages(Plan *plan)
{
    plan->records[0].bitmap = 0xfffffffffffffffe;
}

static void no_page_in_file(Plan *plan)
{
    plan->records[0].bitmap = 0;
}

static void tail_with_part(Plan *plan)
{
    plan->tail = PLAN_BYTES(PLAN_EOS PLAN_FOOTER PLAN_PART PLAN_END PLAN_FULL);
}

static void tail_with_two_ends(Plan *plan)
{
    plan->tail = PLAN_BYTES(PLAN_EOS PLAN_FOOTER PLAN_END PLAN_END PLAN_FULL);
}

static void tail_ends_with_eof(Plan *plan)
{
    plan->tail = PLAN_BYTES(PLAN_EOS PLAN_FOOTER PLAN_END "\0"
                                                          "\6 whatever");
}

static void tail_of_eof_alone(Plan *plan)
{
    plan->tail = PLAN_BYTES(PLAN_EOS PLAN_FOOTER "\0");
}

static void tail_without_end(Plan *plan)
{
    plan->tail = PLAN_BYTES(PLAN_EOS PLAN_FOOTER PLAN_PART PLAN_FULL);
}

static void tail_starts_ram_again(Plan *plan)
{
    plan->tail = PLAN_BYTES(PLAN_EOS PLAN_FOOTER PLAN_END "\1\0\0\0\2\5"
                                                          "ram\0x");
}

static void tail_starts_another_section(Plan *plan)
{
    plan->tail = PLAN_BYTES(PLAN_EOS PLAN_FOOTER PLAN_END "\1\0\0\0\2\2"
                                                          "ra");
}

static void tail_with_data_in_command(Plan *plan)
{
    plan->tail = PLAN_BYTES(PLAN_EOS PLAN_FOOTER "\x08\0\x0b\0\2ab" PLAN_END PLAN_FULL);
}

static void tail_lists_blocks_again(Plan *plan)
{
    plan->tail = PLAN_BYTES(PLAN_EOS PLAN_FOOTER "\3\0\0\0\2\0\0\0\0\0\0\0\4\xff");
}

/* No record: the EOS form of the first word, then the footer. */
static void empty_section(Plan *plan)
{
    plan->total = 0x10;
    plan->n_records = 0;
    plan->tail = PLAN_BYTES(PLAN_FOOTER PLAN_END PLAN_FULL);
}

static void empty_list(Plan *plan)
{
    plan->total = 0x04;
    plan->n_records = 0;
}

static void another_machine_name(Plan *plan)
{
    plan->machine = PLAN_BYTES("pc");
}

/* clang-format off */
static const JudgeCase cases[] = {
    { "standard", .verdict = VERDICT_ACCEPT },

    /* 2. File header */
    { "F1", NULL, AT_MAGIC, 4, 0x5145564e, 0, VERDICT_REJECT, 1,
      { RULE_F1, -1, "magic", AT_MAGIC, 0x5145564e,
        "magic 0x5145564e at file offset 0x0: is not QEVM (rule F1)" } },
    { "F2: 2", NULL, AT_VERSION, 4, 2, 0, VERDICT_REJECT, 1,
      { RULE_F2, -1, "version", AT_VERSION, 2,
        "version 0x2 at file offset 0x4: is not the stream's version 0x3 (rule F2)" } },
    { "F2: 4", NULL, AT_VERSION, 4, 4, 0, VERDICT_REJECT, 1,
      { RULE_F2, -1, "version", AT_VERSION, 4,
        "version 0x4 at file offset 0x4: is not the stream's version 0x3 (rule F2)" } },

    /* 3. Configuration */
    { "C1", NULL, AT_CONFIGURATION, 1, 1, 0, VERDICT_REJECT, 1,
      { RULE_C1, -1, "configuration type", AT_CONFIGURATION, 1,
        "configuration type 0x1 at file offset 0x8: is not CONFIGURATION (rule C1)" } },
    { "C2: any machine", guest_of_any_machine, .verdict = VERDICT_ACCEPT },
    { "C2: another name", NULL, AT_MACHINE + 4, 4, 0x6e6f6e66, 0, VERDICT_REJECT, 1,
      { RULE_C2, -1, "machine name", AT_MACHINE, 4,
        "machine name 'nonf' at file offset 0x9: is not the reader's machine 'none' (rule C2)" } },
    { "C2: goes on", machine_name_goes_on, .verdict = VERDICT_REJECT, .n_violations = 1,
      .wanted = { RULE_C2, -1, "machine name", AT_MACHINE, 8,
        "machine name 'none-9.0' at file offset 0x9: is not the reader's machine 'none' "
        "(rule C2)" } },
    { "C2: cut by a NUL", machine_name_is_cut_by_nul, .verdict = VERDICT_REJECT,
      .n_violations = 1,
      .wanted = { RULE_C2, -1, "machine name", AT_MACHINE, 4,
        "machine name 'non' at file offset 0x9: is not the reader's machine 'none' (rule C2)" } },
    { "C2a: empty", no_machine_name, .verdict = VERDICT_MAY, .n_violations = 1,
      .wanted = { RULE_C2A, -1, "machine name", AT_MACHINE, 0,
        "machine name '' at file offset 0x9: is not exactly the reader's machine 'none' "
        "(rule C2a)" } },
    { "C2a: prefix", machine_name_is_prefix, .verdict = VERDICT_MAY, .n_violations = 1,
      .wanted = { RULE_C2A, -1, "machine name", AT_MACHINE, 2,
        "machine name 'no' at file offset 0x9: is not exactly the reader's machine 'none' "
        "(rule C2a)" } },
    { "C2a: goes on after a NUL", machine_name_goes_on_after_nul, .verdict = VERDICT_MAY,
      .n_violations = 1,
      .wanted = { RULE_C2A, -1, "machine name", AT_MACHINE, 6,
        "machine name 'none' at file offset 0x9: is not exactly the reader's machine 'none' "
        "(rule C2a)" } },
    { "C2b: 255", machine_name_of_255, .verdict = VERDICT_ACCEPT },
    { "C2b: 256", machine_name_of_256, .verdict = VERDICT_MAY, .n_violations = 1,
      .wanted = { RULE_C2B, -1, "machine name", AT_MACHINE, 256,
        "machine name 'mmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmm"
        "mmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmm"
        "mmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmm"
        "mmmmmmmmmmmmmmmmm' at file offset 0x9: is longer than 255 bytes (rule C2b)" } },
    { "C3", unknown_subsection, .verdict = VERDICT_REJECT, .n_violations = 1,
      .wanted = { RULE_C3, -1, "subsection name", 0x12, 0,
        "subsection name 'unknown' at file offset 0x12: is no subsection of the "
        "configuration (rule C3)" } },
    { "C3a", subsection_with_nul, .verdict = VERDICT_MAY, .n_violations = 1,
      .wanted = { RULE_C3A, -1, "subsection name", 0x12, 0,
        "subsection name 'configuration/capabilities' at file offset 0x12: contains a NUL "
        "(rule C3a)" } },
    { "C4", uuid_twice, .verdict = VERDICT_MAY, .n_violations = 1,
      .wanted = { RULE_C4, -1, "subsection name", 0x3a, 0,
        "subsection name 'configuration/uuid' at file offset 0x3a: stands there twice (rule "
        "C4)" } },
    { "C4: the last one has it", capabilities_twice_last_has, .verdict = VERDICT_MAY,
      .n_violations = 1,
      .wanted = { RULE_C4, -1, "subsection name", 0x36, 0,
        "subsection name 'configuration/capabilities' at file offset 0x36: stands there "
        "twice (rule C4)" } },
    { "C5: 0", NULL, AT_SUBSECTION_VERSION, 4, 0, 0, VERDICT_REJECT, 1,
      { RULE_C5, -1, "subsection version", AT_SUBSECTION_VERSION, 0,
        "subsection version 0x0 at file offset 0x2d: is not the subsection's version 0x1 "
        "(rule C5)" } },
    { "C5: 0x101", uuid_of_another_version, .verdict = VERDICT_REJECT, .n_violations = 1,
      .wanted = { RULE_C5, -1, "subsection version", 0x25, 0x101,
        "subsection version 0x101 at file offset 0x25: is not the subsection's version 0x1 "
        "(rule C5)" } },
    { "C6: no subsection", no_subsections, .verdict = VERDICT_REJECT, .n_violations = 1,
      .wanted = { RULE_C6, -1, "capabilities", AT_SUBSECTION, 0,
        "capabilities at file offset 0x11: do not have mapped-ram (rule C6)" } },
    { "C6: no capability", no_capability, .verdict = VERDICT_REJECT, .n_violations = 1,
      .wanted = { RULE_C6, -1, "capabilities", AT_CAPABILITY_COUNT, 0,
        "capabilities at file offset 0x31: do not have mapped-ram (rule C6)" } },
    { "C6: with another one's C4", uuid_twice_without_mapped_ram, .verdict = VERDICT_REJECT,
      .n_violations = 2,
      .wanted = { RULE_C6, -1, "capabilities", 0x81, 0,
        "capabilities at file offset 0x81: do not have mapped-ram (rule C6)" } },
    { "C6: with C4", capabilities_twice_last_lacks, .verdict = VERDICT_MAY, .n_violations = 2,
      .wanted = { RULE_C6, -1, "capabilities", 0x60, 0,
        "capabilities at file offset 0x60: do not have mapped-ram (rule C6)" } },
    { "C7: both", plan_ignore_shared, .verdict = VERDICT_ACCEPT },
    { "C7: the file", only_file_ignores_shared, .verdict = VERDICT_REJECT, .n_violations = 1,
      .wanted = { RULE_C7, -1, "x-ignore-shared", AT_CAPABILITY_COUNT, 1,
        "x-ignore-shared 0x1 at file offset 0x31: is not as in the reader (rule C7)" } },
    { "C7: the guest", only_guest_ignores_shared, .verdict = VERDICT_REJECT, .n_violations = 1,
      .wanted = { RULE_C7, -1, "x-ignore-shared", AT_CAPABILITY_COUNT, 0,
        "x-ignore-shared 0x0 at file offset 0x31: is not as in the reader (rule C7)" } },
    { "C7: with C4", capabilities_twice_only_guest_ignores_shared, .verdict = VERDICT_MAY,
      .n_violations = 2,
      .wanted = { RULE_C7, -1, "x-ignore-shared", 0x70, 0,
        "x-ignore-shared 0x0 at file offset 0x70: is not as in the reader (rule C7)" } },
    { "C8: another", another_capability, .verdict = VERDICT_MAY, .n_violations = 1,
      .wanted = { RULE_C8, -1, "capability", 0x40, 0,
        "capability 'multifd' at file offset 0x40: is not known, is listed twice, or is too "
        "many (rule C8)" } },
    { "C8: twice", capability_listed_twice, .verdict = VERDICT_MAY, .n_violations = 1,
      .wanted = { RULE_C8, -1, "capability", 0x40, 0,
        "capability 'mapped-ram' at file offset 0x40: is not known, is listed twice, or is "
        "too many (rule C8)" } },
    { "C8: a NUL", capability_with_nul, .verdict = VERDICT_MAY, .n_violations = 1,
      .wanted = { RULE_C8, -1, "capability", 0x35, 0,
        "capability 'mapped-ram' at file offset 0x35: is not known, is listed twice, or is "
        "too many (rule C8)" } },
    { "C8: 256", NULL, AT_CAPABILITY_COUNT, 4, 256, 0, VERDICT_MAY, 1,
      { RULE_C8, -1, "capability count", AT_CAPABILITY_COUNT, 256,
        "capability count 0x100 at file offset 0x31: is not known, is listed twice, or is "
        "too many (rule C8)" } },
    { "C9: 13", page_bits_13, .verdict = VERDICT_REJECT, .n_violations = 1,
      .wanted = { RULE_C9, -1, "target-page-bits", 0x35, 13,
        "target-page-bits 0xd at file offset 0x35: is not that of the target's page size "
        "0x1000 (rule C9)" } },
    { "C9: 64 + 12", page_bits_huge, .verdict = VERDICT_REJECT, .n_violations = 1,
      .wanted = { RULE_C9, -1, "target-page-bits", 0x35, 76,
        "target-page-bits 0x4c at file offset 0x35: is not that of the target's page size "
        "0x1000 (rule C9)" } },
    { "C9: with C4", page_bits_twice, .verdict = VERDICT_MAY, .n_violations = 2,
      .wanted = { RULE_C9, -1, "target-page-bits", 0x5d, 13,
        "target-page-bits 0xd at file offset 0x5d: is not that of the target's page size "
        "0x1000 (rule C9)" } },
    { "C10", all_subsections, .verdict = VERDICT_ACCEPT },

    /* 4. Sections */
    { "S1", NULL, AT_SECTION, 1, 2, 0, VERDICT_REJECT, 1,
      { RULE_S1, -1, "section type", AT_SECTION, 2,
        "section type 0x2 at file offset 0x40: is no type of the first section (rule S1)" } },
    { "S2: FULL", NULL, AT_SECTION, 1, 4, 0, VERDICT_MAY, 1,
      { RULE_S2, -1, "section type", AT_SECTION, 4,
        "section type 0x4 at file offset 0x40: is not that of RAM's START section (rule S2)" } },
    { "S2: COMMAND", NULL, AT_SECTION, 1, 8, 0, VERDICT_MAY, 1,
      { RULE_S2, -1, "section type", AT_SECTION, 8,
        "section type 0x8 at file offset 0x40: is not that of RAM's START section (rule S2)" } },
    { "S2: EOF", NULL, AT_SECTION, 1, 0, 0, VERDICT_MAY, 1,
      { RULE_S2, -1, "section type", AT_SECTION, 0,
        "section type 0x0 at file offset 0x40: is not that of RAM's START section (rule S2)" } },
    { "S2: name", NULL, AT_SECTION_NAME + 1, 3, 0x726100, 0, VERDICT_MAY, 1,
      { RULE_S2, -1, "section name", AT_SECTION_NAME, 0,
        "section name 'ra' at file offset 0x45: is not that of RAM's START section (rule S2)" } },
    { "S2: name with a NUL", NULL, AT_SECTION_NAME, 1, 4, 0, VERDICT_MAY, 1,
      { RULE_S2, -1, "section name", AT_SECTION_NAME, 0,
        "section name 'ram' at file offset 0x45: is not that of RAM's START section (rule S2)" } },
    { "S2 after C2", another_machine_name, AT_SECTION - 2, 1, 4, 0, VERDICT_REJECT, 2,
      { RULE_S2, -1, "section type", AT_SECTION - 2, 4,
        "section type 0x4 at file offset 0x3e: is not that of RAM's START section (rule S2)" } },
    { "S3", NULL, AT_INSTANCE_ID, 4, 1, 0, VERDICT_REJECT, 1,
      { RULE_S3, -1, "instance id", AT_INSTANCE_ID, 1,
        "instance id 0x1 at file offset 0x49: is not 0 (rule S3)" } },
    { "S4", NULL, AT_SECTION_VERSION, 4, 3, 0, VERDICT_REJECT, 1,
      { RULE_S4, -1, "section version", AT_SECTION_VERSION, 3,
        "section version 0x3 at file offset 0x4d: is not the RAM section's version 0x4 (rule "
        "S4)" } },
    { "S5", NULL, AT_FOOTER, 1, 0x7f, 0, VERDICT_REJECT, 1,
      { RULE_S5, -1, "footer", AT_FOOTER, 0x7f,
        "footer 0x7f at file offset 0x3008: is not FOOTER (rule S5)" } },
    { "S5: of END", NULL, AT_END + 13, 1, 0, 0, VERDICT_REJECT, 1,
      { RULE_S5, -1, "footer", AT_END + 13, 0,
        "footer 0x0 at file offset 0x301f: is not FOOTER (rule S5)" } },
    { "S6", NULL, AT_FOOTER_ID, 4, 3, 0, VERDICT_REJECT, 1,
      { RULE_S6, -1, "footer's section id", AT_FOOTER_ID, 3,
        "footer's section id 0x3 at file offset 0x3009: is not the section's id 0x2 (rule S6)" } },

    /* 5. The RAM section's contents */
    { "R1: no flag", NULL, AT_TOTAL, 8, 0x2000, 0, VERDICT_REJECT, 1,
      { RULE_R1, -1, "total", AT_TOTAL, 0x2000,
        "total 0x2000 at file offset 0x51: has unknown flags (rule R1)" } },
    { "R1: no flag's bit", NULL, AT_TOTAL, 8, 0x2005, 0, VERDICT_REJECT, 1,
      { RULE_R1, -1, "total", AT_TOTAL, 0x2005,
        "total 0x2005 at file offset 0x51: has unknown flags (rule R1)" } },
    { "R1a: CONTINUE", NULL, AT_TOTAL, 8, 0x2024, 0, VERDICT_MAY, 1,
      { RULE_R1A, -1, "total", AT_TOTAL, 0x2024,
        "total 0x2024 at file offset 0x51: has other flags than MEM_SIZE (rule R1a)" } },
    { "R1a: EOS", empty_section, .verdict = VERDICT_MAY, .n_violations = 2,
      .wanted = { RULE_R1A, -1, "total", AT_TOTAL, 0x10,
        "total 0x10 at file offset 0x51: has other flags than MEM_SIZE (rule R1a)" } },
    { "R1a: EOS+CONTINUE", empty_section, AT_TOTAL, 8, 0x7030, 0, VERDICT_MAY, 2,
      { RULE_R8, 0, "idstr", AT_TOTAL + 8, 0,
        "block 'ram': idstr at file offset 0x59: is in no record of the file (rule R8)" } },
    { "R2", NULL, AT_TOTAL, 8, 0x1004, 0, VERDICT_REJECT, 1,
      { RULE_R2, 0, "used_length", AT_USED_LENGTH, 0x2000,
        "block 'ram': used_length 0x2000 at file offset 0x5d: is greater than what remains "
        "of total (rule R2)" } },
    { "R7: PAGE", NULL, AT_EOS, 8, 0x08, 0, VERDICT_REJECT, 1,
      { RULE_R7, -1, "EOS", AT_EOS, 0x08,
        "EOS 0x8 at file offset 0x3000: has unknown flags (rule R7)" } },
    { "R7: of END", NULL, AT_END + 5, 8, 0x210, 0, VERDICT_REJECT, 1,
      { RULE_R7, -1, "EOS", AT_END + 5, 0x210,
        "EOS 0x210 at file offset 0x3017: has unknown flags (rule R7)" } },
    { "R7a: CONTINUE", NULL, AT_EOS, 8, 0x30, 0, VERDICT_MAY, 1,
      { RULE_R7A, -1, "EOS", AT_EOS, 0x30,
        "EOS 0x30 at file offset 0x3000: has more bits than EOS (rule R7a)" } },
    { "R7a: an offset", NULL, AT_EOS, 8, 0x1010, 0, VERDICT_MAY, 1,
      { RULE_R7A, -1, "EOS", AT_EOS, 0x1010,
        "EOS 0x1010 at file offset 0x3000: has more bits than EOS (rule R7a)" } },
    { "R7b", NULL, AT_EOS, 8, 0x1004, 0, VERDICT_MAY, 1,
      { RULE_R7B, -1, "EOS", AT_EOS, 0x1004,
        "EOS 0x1004 at file offset 0x3000: lists blocks once more (rule R7b)" } },
    { "R7b: CONTINUE", NULL, AT_EOS, 8, 0x24, 0, VERDICT_MAY, 1,
      { RULE_R7B, -1, "EOS", AT_EOS, 0x24,
        "EOS 0x24 at file offset 0x3000: lists blocks once more (rule R7b)" } },
    { "R7b: of END", tail_lists_blocks_again, .verdict = VERDICT_MAY, .n_violations = 1,
      .wanted = { RULE_R7B, -1, "EOS", 0x3012, 4,
        "EOS 0x4 at file offset 0x3012: lists blocks once more (rule R7b)" } },
    { "R8: one of two", second_block_without_record, .verdict = VERDICT_MAY, .n_violations = 1,
      .wanted = { RULE_R8, 1, "idstr", AT_EOS, 0,
        "block 'rom': idstr at file offset 0x3000: is in no record of the file (rule R8)" } },
    { "R8: empty list", empty_list, .verdict = VERDICT_MAY, .n_violations = 1,
      .wanted = { RULE_R8, 0, "idstr", AT_TOTAL + 8, 0,
        "block 'ram': idstr at file offset 0x59: is in no record of the file (rule R8)" } },
    { "total is too great", used_length_is_smaller_than_total, .verdict = VERDICT_REJECT,
      .n_violations = 6, /* the EOS word is read as a record */
      .wanted = { RULE_R3, -1, "idstr", AT_EOS, 0,
        "idstr '' at file offset 0x3000: is no block of the guest (rule R3)" } },

    /* 6. A block record */
    { "two blocks", two_blocks, .verdict = VERDICT_ACCEPT },
    { "R3: a long one", idstr_of_200, .verdict = VERDICT_ACCEPT },
    { "R3", another_block, .verdict = VERDICT_REJECT, .n_violations = 1,
      .wanted = { RULE_R3, -1, "idstr", AT_EOS, 0,
        "idstr 'r\\\"m' at file offset 0x3000: is no block of the guest (rule R3)" } },
    { "R3: shorter", NULL, AT_IDSTR + 3, 1, 0, 0, VERDICT_REJECT, 2,
      { RULE_R3, -1, "idstr", AT_IDSTR, 0,
        "idstr 'ra' at file offset 0x59: is no block of the guest (rule R3)" } },
    { "R3a", idstr_with_nul, .verdict = VERDICT_MAY, .n_violations = 1,
      .wanted = { RULE_R3A, 0, "idstr", AT_IDSTR, 0,
        "block 'ram': idstr 'ram' at file offset 0x59: contains a NUL (rule R3a)" } },
    { "R4", block_named_twice, .verdict = VERDICT_MAY, .n_violations = 1,
      .wanted = { RULE_R4, 0, "idstr", AT_EOS, 0,
        "block 'ram': idstr 'ram' at file offset 0x3000: was named by an earlier record "
        "(rule R4)" } },
    { "R5", used_length_is_odd, .verdict = VERDICT_REJECT, .n_violations = 3,
      .wanted = { RULE_R5, 0, "used_length", AT_USED_LENGTH, 0x2001,
        "block 'ram': used_length 0x2001 at file offset 0x5d: is not a multiple of the "
        "target's page size 0x1000 (rule R5)" } },
    { "R6", used_length_is_over_max, .verdict = VERDICT_REJECT, .n_violations = 1,
      .wanted = { RULE_R6, 0, "used_length", AT_USED_LENGTH, 0x5000,
        "block 'ram': used_length 0x5000 at file offset 0x5d: is greater than the block's "
        "max_length 0x4000 (rule R6)" } },
    { "R6a: max_length", used_length_is_max, .verdict = VERDICT_MAY, .n_violations = 1,
      .wanted = { RULE_R6A, 0, "used_length", AT_USED_LENGTH, 0x4000,
        "block 'ram': used_length 0x4000 at file offset 0x5d: is not the block's used_length "
        "0x2000 (rule R6a)" } },
    { "R6a: smaller", used_length_is_smaller, .verdict = VERDICT_MAY, .n_violations = 1,
      .wanted = { RULE_R6A, 0, "used_length", AT_USED_LENGTH, 0x1000,
        "block 'ram': used_length 0x1000 at file offset 0x5d: is not the block's used_length "
        "0x2000 (rule R6a)" } },
    /* No B2 and no B4 though bitmap_offset is no offset: the bitmap is empty. */
    { "R6a: zero", used_length_is_zero, .verdict = VERDICT_MAY, .n_violations = 2,
      .wanted = { RULE_R6A, 0, "used_length", AT_USED_LENGTH, 0,
        "block 'ram': used_length 0x0 at file offset 0x5d: is not the block's used_length "
        "0x2000 (rule R6a)" } },

    /* 7. MappedRamHeader */
    { "H1", NULL, AT_HEADER, 4, 2, 0, VERDICT_REJECT, 1,
      { RULE_H1, 0, "version", AT_HEADER, 2,
        "block 'ram': version 0x2 at file offset 0x65: is a later version than 0x1 (rule H1)" } },
    { "H1a", NULL, AT_HEADER, 4, 0, 0, VERDICT_MAY, 1,
      { RULE_H1A, 0, "version", AT_HEADER, 0,
        "block 'ram': version 0x0 at file offset 0x65: is an earlier version than 0x1 (rule "
        "H1a)" } },
    { "H2: twice", NULL, AT_PAGE_SIZE, 8, 0x2000, 0, VERDICT_REJECT, 1,
      { RULE_H2, 0, "page_size", AT_PAGE_SIZE, 0x2000,
        "block 'ram': page_size 0x2000 at file offset 0x69: is not the target's page size "
        "0x1000 (rule H2)" } },
    { "H2: 0", NULL, AT_PAGE_SIZE, 8, 0, 0, VERDICT_REJECT, 1,
      { RULE_H2, 0, "page_size", AT_PAGE_SIZE, 0,
        "block 'ram': page_size 0x0 at file offset 0x69: is not the target's page size "
        "0x1000 (rule H2)" } },
    { "H2: high word", NULL, AT_PAGE_SIZE, 8, 0x100001000, 0, VERDICT_REJECT, 1,
      { RULE_H2, 0, "page_size", AT_PAGE_SIZE, 0x100001000,
        "block 'ram': page_size 0x100001000 at file offset 0x69: is not the target's page "
        "size 0x1000 (rule H2)" } },
    /* The next record is one byte before the EOS word. */
    { "H3", NULL, AT_PAGES_OFFSET, 8, 0xfff, 0, VERDICT_REJECT, 2,
      { RULE_H3, 0, "pages_offset", AT_PAGES_OFFSET, 0xfff,
        "block 'ram': pages_offset 0xfff at file offset 0x79: is not a multiple of the "
        "target's page size 0x1000 (rule H3)" } },
    { "H4", NULL, AT_PAGES_OFFSET, 8, 0, 0, VERDICT_REJECT, 2,
      { RULE_H4, 0, "pages_offset", AT_PAGES_OFFSET, 0,
        "block 'ram': pages_offset 0x0 at file offset 0x79: is before the end of the header "
        "(rule H4)" } },
    { "H4: by one byte", NULL, AT_PAGES_OFFSET, 8, AT_BITMAP - 1, 0, VERDICT_REJECT, 3,
      { RULE_H4, 0, "pages_offset", AT_PAGES_OFFSET, AT_BITMAP - 1,
        "block 'ram': pages_offset 0x80 at file offset 0x79: is before the end of the header "
        "(rule H4)" } },
    { "H5: 2^63", NULL, AT_PAGES_OFFSET, 8, 0x7fffffffffffe000, 0, VERDICT_REJECT, 1,
      { RULE_H5, 0, "pages_offset", AT_PAGES_OFFSET, 0x7fffffffffffe000,
        "block 'ram': pages_offset 0x7fffffffffffe000 at file offset 0x79: makes the pages "
        "end beyond 2^63 - 1 (rule H5)" } },
    { "H5: over 2^64", NULL, AT_PAGES_OFFSET, 8, 0xfffffffffffff000, 0, VERDICT_REJECT, 1,
      { RULE_H5, 0, "pages_offset", AT_PAGES_OFFSET, 0xfffffffffffff000,
        "block 'ram': pages_offset 0xfffffffffffff000 at file offset 0x79: makes the pages "
        "end beyond 2^63 - 1 (rule H5)" } },
    { "H5: 2^63 - 1", NULL, AT_PAGES_OFFSET, 8, 0x7fffffffffffdfff, 0, VERDICT_REJECT, 3,
      { RULE_H3, 0, "pages_offset", AT_PAGES_OFFSET, 0x7fffffffffffdfff,
        "block 'ram': pages_offset 0x7fffffffffffdfff at file offset 0x79: is not a multiple "
        "of the target's page size 0x1000 (rule H3)" } },
    { "X2", ignored_block, .verdict = VERDICT_ACCEPT },
    { "X2: R6a all the same", ignored_block_of_another_length, .verdict = VERDICT_MAY,
      .n_violations = 1,
      .wanted = { RULE_R6A, 0, "used_length", 0x6d, 0x1000,
        "block 'ram': used_length 0x1000 at file offset 0x6d: is not the block's used_length "
        "0x2000 (rule R6a)" } },
    { "X2: without the capability", ignored_block_without_capability, .verdict = VERDICT_REJECT,
      .n_violations = 2,
      .wanted = { RULE_H4, 0, "pages_offset", AT_PAGES_OFFSET, 0,
        "block 'ram': pages_offset 0x0 at file offset 0x79: is before the end of the header "
        "(rule H4)" } },
    { "X2: bitmap_offset alone", half_an_ignored_block, .verdict = VERDICT_MAY, .n_violations = 1,
      .wanted = { RULE_B4, 0, "bitmap_offset", 0x89, 0,
        "block 'ram': bitmap_offset 0x0 at file offset 0x89: puts the bitmap not between "
        "header and pages (rule B4)" } },
    { "X2: pages_offset alone", plan_ignore_shared, 0x91, 8, 0, 0, VERDICT_REJECT, 2,
      { RULE_H4, 0, "pages_offset", 0x91, 0,
        "block 'ram': pages_offset 0x0 at file offset 0x91: is before the end of the header "
        "(rule H4)" } },
    { "X2a", ignored_block_of_another_page_size, .verdict = VERDICT_MAY, .n_violations = 1,
      .wanted = { RULE_X2A, 0, "page_size", 0x81, 0,
        "block 'ram': page_size 0x0 at file offset 0x81: is not the target's page size "
        "0x1000 (rule X2a)" } },

    /* 8. The bitmap */
    { "B2: up to the end", bitmap_at_the_very_end, .verdict = VERDICT_MAY, .n_violations = 1,
      .wanted = { RULE_B4, 0, "bitmap_offset", AT_BITMAP_OFFSET, 0x3027,
        "block 'ram': bitmap_offset 0x3027 at file offset 0x71: puts the bitmap not between "
        "header and pages (rule B4)" } },
    { "B2: beyond the end", bitmap_one_byte_beyond, .verdict = VERDICT_REJECT, .n_violations = 1,
      .wanted = { RULE_B2, 0, "bitmap_offset", AT_BITMAP_OFFSET, 0x3028,
        "block 'ram': bitmap_offset 0x3028 at file offset 0x71: puts a part of the bitmap "
        "beyond the end of the file 0x302f (rule B2)" } },
    { "B2: 2^63", NULL, AT_BITMAP_OFFSET, 8, 0x7ffffffffffffff8, 0, VERDICT_REJECT, 1,
      { RULE_B2, 0, "bitmap_offset", AT_BITMAP_OFFSET, 0x7ffffffffffffff8,
        "block 'ram': bitmap_offset 0x7ffffffffffffff8 at file offset 0x71: puts a part of "
        "the bitmap beyond the end of the file 0x302f (rule B2)" } },
    { "B2: over 2^64", NULL, AT_BITMAP_OFFSET, 8, UINT64_MAX, 0, VERDICT_REJECT, 1,
      { RULE_B2, 0, "bitmap_offset", AT_BITMAP_OFFSET, UINT64_MAX,
        "block 'ram': bitmap_offset 0xffffffffffffffff at file offset 0x71: puts a part of "
        "the bitmap beyond the end of the file 0x302f (rule B2)" } },
    { "B4: touches the pages", bitmap_touches_pages, .verdict = VERDICT_ACCEPT },
    { "B4: in the pages", bitmap_reaches_into_pages, .verdict = VERDICT_MAY, .n_violations = 1,
      .wanted = { RULE_B4, 0, "bitmap_offset", AT_BITMAP_OFFSET, 0xff9,
        "block 'ram': bitmap_offset 0xff9 at file offset 0x71: puts the bitmap not between "
        "header and pages (rule B4)" } },
    { "B4: in the header", NULL, AT_BITMAP_OFFSET, 8, AT_BITMAP - 1, 0, VERDICT_MAY, 1,
      { RULE_B4, 0, "bitmap_offset", AT_BITMAP_OFFSET, AT_BITMAP - 1,
        "block 'ram': bitmap_offset 0x80 at file offset 0x71: puts the bitmap not between "
        "header and pages (rule B4)" } },
    { "B4: behind the pages", bitmap_behind_pages, .verdict = VERDICT_MAY, .n_violations = 1,
      .wanted = { RULE_B4, 0, "bitmap_offset", AT_BITMAP_OFFSET, 0x3100,
        "block 'ram': bitmap_offset 0x3100 at file offset 0x71: puts the bitmap not between "
        "header and pages (rule B4)" } },
    { "B5", bits_beyond_pages, .verdict = VERDICT_ACCEPT },

    /* 9. Pages */
    { "P1", NULL, .cut = 0x2fff, .verdict = VERDICT_REJECT, .n_violations = 2,
      .wanted = { RULE_P1, 0, "page", 0x2000, 1,
        "block 'ram': page 0x1 at file offset 0x2000: lies wholly or in part beyond the end "
        "of the file 0x2fff (rule P1)" } },
    { "P1: whole", NULL, .cut = 0x3000, .verdict = VERDICT_REJECT, .n_violations = 1,
      .wanted = { RULE_F4, -1, "EOS", 0x3000, 0,
        "EOS at file offset 0x3000: lies wholly or in part beyond the end of the file 0x3000 "
        "(rule F4)" } },
    { "P1: no page", no_page_in_file, .cut = 0x800, .verdict = VERDICT_REJECT, .n_violations = 1,
      .wanted = { RULE_F4, -1, "EOS", 0x3000, 0,
        "EOS at file offset 0x3000: lies wholly or in part beyond the end of the file 0x800 "
        "(rule F4)" } },

    /* 10. After the RAM section's START */
    { "T1", tail_with_part, .verdict = VERDICT_ACCEPT },
    { "T1: END twice", tail_with_two_ends, .verdict = VERDICT_ACCEPT },
    { "T2a: command", NULL, AT_COMMAND + 1, 2, 12, 0, VERDICT_MAY, 1,
      { RULE_T2A, -1, "command", AT_COMMAND + 1, 12,
        "command 0xc at file offset 0x300e: is not SWITCHOVER_START without data (rule T2a)" } },
    { "T2a: length", tail_with_data_in_command, .verdict = VERDICT_MAY, .n_violations = 1,
      .wanted = { RULE_T2A, -1, "command length", AT_COMMAND + 3, 2,
        "command length 0x2 at file offset 0x3010: is not SWITCHOVER_START without data "
        "(rule T2a)" } },
    { "T3: FULL", tail_without_end, .verdict = VERDICT_MAY, .n_violations = 1,
      .wanted = { RULE_T3, -1, "section type", 0x301f, 4,
        "section type 0x4 at file offset 0x301f: comes before the END of ram (rule T3)" } },
    { "T3: EOF", tail_of_eof_alone, .verdict = VERDICT_MAY, .n_violations = 1,
      .wanted = { RULE_T3, -1, "section type", 0x300d, 0,
        "section type 0x0 at file offset 0x300d: comes before the END of ram (rule T3)" } },
    { "T4: START", tail_starts_another_section, .verdict = VERDICT_ACCEPT },
    { "T4a", tail_starts_ram_again, .verdict = VERDICT_MAY, .n_violations = 1,
      .wanted = { RULE_T4A, -1, "section name", 0x3024, 0,
        "section name 'ram' at file offset 0x3024: is that of a second ram section (rule T4a)" } },
    { "T5", tail_ends_with_eof, .verdict = VERDICT_ACCEPT },
    { "T6: type", NULL, AT_FULL, 1, 6, 0, VERDICT_REJECT, 1,
      { RULE_T6, -1, "section type", AT_FULL, 6,
        "section type 0x6 at file offset 0x3024: is not what may follow the RAM section "
        "(rule T6)" } },
    { "T6: id", NULL, AT_END + 1, 4, 3, 0, VERDICT_REJECT, 1,
      { RULE_T6, -1, "section id", AT_END + 1, 3,
        "section id 0x3 at file offset 0x3013: is not what may follow the RAM section (rule "
        "T6)" } },
};
/* clang-format on */

static void test_every_rule(void **state)
{
    g_autoptr(SparseFile) file = sparse_file_new();
    Judgement judgement;
    Plan plan;

    (void)state;
    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        build_case(&cases[i], &plan, file);
        judge_file(file, &plan.guest, &judgement);
        assert_judged(cases[i].name, &judgement, cases[i].verdict, cases[i].n_violations,
                      &cases[i].wanted);
        if (cases[i].verdict == VERDICT_ACCEPT && cases[i].prepare != tail_ends_with_eof) {
            assert_int_equal(judgement.end, sparse_file_size(file));
        }
    }
}

/* The table above forgets no rule that a file can break. */
static void test_no_rule_is_forgotten(void **state)
{
    bool is_tested[RULE__MAX] = { false };

    (void)state;
    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        if (cases[i].n_violations > 0) {
            is_tested[cases[i].wanted.rule] = true;
        }
    }
    for (RuleId id = 0; id < RULE__MAX; id++) {
        if (rule_get(id)->consequence >= RULE_MAY && !is_tested[id]) {
            fail_msg("no case breaks rule %s", rule_get(id)->id);
        }
    }
}

/* F4: cut at any byte, the file is refused, and the field that was cut is named. */

typedef struct CutField {
    uint64_t offset;
    const char *name;
} CutField;

static const CutField cut_fields[] = {
    { AT_MAGIC, "magic" },
    { AT_VERSION, "version" },
    { AT_CONFIGURATION, "configuration type" },
    { AT_MACHINE, "machine name" },
    { AT_SUBSECTION, "section type" }, /* or a subsection's */
    { AT_SUBSECTION + 1, "subsection name" },
    { AT_SUBSECTION_VERSION, "subsection version" },
    { AT_CAPABILITY_COUNT, "capability count" },
    { AT_CAPABILITY, "capability" },
    { AT_SECTION, "section type" },
    { AT_SECTION_ID, "section id" },
    { AT_SECTION_NAME, "section name" },
    { AT_INSTANCE_ID, "instance id" },
    { AT_SECTION_VERSION, "section version" },
    { AT_TOTAL, "total" },
    { AT_IDSTR, "idstr" },
    { AT_USED_LENGTH, "used_length" },
    { AT_HEADER, "version" },
    { AT_PAGE_SIZE, "page_size" },
    { AT_BITMAP_OFFSET, "bitmap_offset" },
    { AT_PAGES_OFFSET, "pages_offset" },
    { AT_BITMAP, "EOS" }, /* after B2 or P1 */
    { AT_FOOTER, "footer" },
    { AT_FOOTER_ID, "footer's section id" },
    { AT_COMMAND, "section type" },
    { AT_COMMAND + 1, "command" },
    { AT_COMMAND + 3, "command length" },
    { AT_END, "section type" },
    { AT_END + 1, "section id" },
    { AT_END + 5, "EOS" },
    { AT_END + 13, "footer" },
    { AT_END + 14, "footer's section id" },
    { AT_FULL, "section type" },
    { AT_FULL + 1, "section id" },
    { AT_FULL + 5, "section name" },
    { AT_FILE_END, NULL },
};

static const CutField *field_at(uint64_t offset)
{
    unsigned i = 0;

    while (cut_fields[i + 1].offset <= offset) {
        i++;
    }
    return &cut_fields[i];
}

/* Without it there is no capabilities subsection, C6: the walk ends with that. */
static bool is_cut_before_capabilities(uint64_t size)
{
    return size == AT_SUBSECTION;
}

static void assert_cut(const Judgement *judgement, uint64_t size)
{
    const CutField *field = field_at(size);
    const Violation *last = &judgement->violations[judgement->n_violations - 1];

    assert_int_equal(judgement->verdict, VERDICT_REJECT);
    if (is_cut_before_capabilities(size)) {
        assert_int_equal(last->rule, RULE_C6);
        return;
    }
    if (last->rule != RULE_F4 || strcmp(last->field, field->name) != 0) {
        fail_with_violations("cut", judgement);
    }
    if (size >= AT_BITMAP && size < AT_EOS) {
        assert_int_equal(last->offset, AT_EOS);
        assert_true(judgement_violates(judgement, size < AT_BITMAP + 8 ? RULE_B2 : RULE_P1));
        return;
    }
    assert_in_range(last->offset, field->offset, size);
    assert_int_equal(judgement->n_violations, 1);
}

static void test_cut_anywhere(void **state)
{
    g_autoptr(SparseFile) file = sparse_file_new();
    Judgement judgement;
    Plan plan;

    (void)state;
    plan_standard(&plan);
    for (uint64_t size = AT_FILE_END; size-- > 0;) {
        plan_write(&plan, file);
        sparse_file_truncate(file, size);
        judge_file(file, &plan.guest, &judgement);
        assert_cut(&judgement, size);
    }
}

static void test_cut_in_optional_fields(void **state)
{
    static const struct {
        void (*prepare)(Plan *plan);
        uint64_t cut;
        const char *field;
        uint64_t offset;
    } cuts[] = {
        { plan_ignore_shared, 0x75 + 7, "guest physical address", 0x75 },
        { page_bits_13, 0x35 + 3, "target-page-bits", 0x35 },
        { uuid_twice, 0x29 + 15, "uuid", 0x29 },
        { tail_with_data_in_command, 0x3012 + 1, "command data", 0x3012 },
    };
    g_autoptr(SparseFile) file = sparse_file_new();
    Judgement judgement;
    Plan plan;

    (void)state;
    for (unsigned i = 0; i < G_N_ELEMENTS(cuts); i++) {
        const Violation *last;

        plan_standard(&plan);
        cuts[i].prepare(&plan);
        plan_write(&plan, file);
        sparse_file_truncate(file, cuts[i].cut);
        judge_file(file, &plan.guest, &judgement);
        last = &judgement.violations[judgement.n_violations - 1];
        assert_int_equal(judgement.verdict, VERDICT_REJECT);
        assert_int_equal(last->rule, RULE_F4);
        assert_string_equal(last->field, cuts[i].field);
        assert_int_equal(last->offset, cuts[i].offset);
    }
}

/* What the judge tells beside the verdict */

static void judge_plan(const Plan *plan, SparseFile *file, Judgement *judgement)
{
    plan_write(plan, file);
    judge_file(file, &plan->guest, judgement);
}

static void test_fields_of_a_judgement(void **state)
{
    g_autoptr(SparseFile) file = sparse_file_new();
    Judgement judgement;
    Plan plan;

    (void)state;
    plan_ignore_shared(&plan);
    judge_plan(&plan, file, &judgement);
    assert_string_equal(judgement.machine, "none");
    assert_true(judgement.has_x_ignore_shared);
    assert_int_equal(judgement.section_id, 2);
    assert_int_equal(judgement.total, 0x2000);
    assert_int_equal(judgement.end, AT_FILE_END);
    assert_true(judgement.blocks[0].in_file);
    assert_false(judgement.blocks[0].ignored);
    assert_int_equal(judgement.blocks[0].record_offset, AT_IDSTR + SHARED_BEFORE_ADDRESS);
    assert_int_equal(judgement.blocks[0].header_offset, AT_HEADER + SHARED_AFTER_ADDRESS);
    assert_int_equal(judgement.blocks[0].used_length, 0x2000);
    assert_int_equal(judgement.blocks[0].gpa, 0x123456789a);
    assert_int_equal(judgement.blocks[0].version, 1);
    assert_int_equal(judgement.blocks[0].page_size, 4096);
    assert_int_equal(judgement.blocks[0].bitmap_offset, AT_BITMAP + SHARED_AFTER_ADDRESS);
    assert_int_equal(judgement.blocks[0].bitmap_length, 8);
    assert_int_equal(judgement.blocks[0].pages_offset, AT_PAGES);
    assert_int_equal(judgement.blocks[0].pages, 2);

    /* A second use of the same memory remembers nothing. */
    plan_standard(&plan);
    plan.machine = PLAN_BYTES("n\0ne");
    plan.guest.machine[0] = '\0';
    judge_plan(&plan, file, &judgement);
    assert_string_equal(judgement.machine, "n");
    assert_false(judgement.has_x_ignore_shared);
    assert_int_equal(judgement.blocks[0].gpa, 0);
    assert_int_equal(judgement.verdict, VERDICT_ACCEPT);

    tail_ends_with_eof(&plan);
    judge_plan(&plan, file, &judgement);
    assert_int_equal(judgement.end, 0x3020);
}

/* Every violation of a file with many, in the order of the walk. */
static void test_walk_goes_on(void **state)
{
    static const RuleId wanted[] = { RULE_C2,  RULE_C3A, RULE_S3,  RULE_R1A, RULE_R6A,
                                     RULE_H1,  RULE_H2,  RULE_R3,  RULE_H1A, RULE_R8,
                                     RULE_R7A, RULE_S6,  RULE_T2A, RULE_T3 };
    g_autoptr(SparseFile) file = sparse_file_new();
    Judgement judgement;
    Plan plan;

    (void)state;
    plan_standard(&plan);
    plan.machine = PLAN_BYTES("pc");
    subsection_with_nul(&plan);
    plan.total = 0x1024;
    plan.records[0].used_length = 0x1000;
    plan.records[0].version = 2;
    plan.records[0].page_size = 0x2000;
    plan_add_block(&plan, "rom", 0x1000);
    plan.n_records--;
    plan.total -= 0x1000;
    plan_add_record(&plan, "nvram", 0x3000)->version = 0;
    plan.tail = PLAN_BYTES("\0\0\0\0\0\0\0\x30"
                           "\x7e\0\0\0\7"
                           "\x08\0\x0c\0\0"
                           "\0");
    plan_write(&plan, file);
    put_number(file, AT_INSTANCE_ID, 4, 9);
    judge_file(file, &plan.guest, &judgement);
    assert_int_equal(judgement.n_violations, G_N_ELEMENTS(wanted));
    for (unsigned i = 0; i < G_N_ELEMENTS(wanted); i++) {
        assert_string_equal(rule_get(judgement.violations[i].rule)->id, rule_get(wanted[i])->id);
    }
}

/* More than the list of violations holds. */
#define UNKNOWN_CAPABILITIES (JUDGE_MAX_VIOLATIONS + 9)

static void test_full_list_still_counts(void **state)
{
    GString *bytes = g_string_new(NULL);
    g_autoptr(SparseFile) file = sparse_file_new();
    Judgement judgement;
    Plan plan;

    (void)state;
    g_string_append_len(bytes, PLAN_CAPABILITIES "\0\0\0", 35);
    g_string_append_c(bytes, UNKNOWN_CAPABILITIES + 1);
    for (unsigned i = 0; i < UNKNOWN_CAPABILITIES; i++) {
        g_string_append_len(bytes, "\1?", 2);
    }
    g_string_append_len(bytes, PLAN_MAPPED_RAM, 11);
    plan_standard(&plan);
    plan.subsections = (PlanBytes){ bytes->str, bytes->len };
    judge_plan(&plan, file, &judgement);
    assert_int_equal(judgement.n_violations, JUDGE_MAX_VIOLATIONS);
    assert_int_equal(judgement.verdict, VERDICT_MAY);
    assert_int_equal(judgement.end, AT_FILE_END);

    plan.records[0].version = 2;
    judge_plan(&plan, file, &judgement);
    assert_int_equal(judgement.n_violations, JUDGE_MAX_VIOLATIONS);
    assert_int_equal(judgement.violations[0].rule, RULE_C8);
    assert_false(judgement_violates(&judgement, RULE_H1));
    assert_int_equal(judgement.verdict, VERDICT_REJECT);
    g_string_free(bytes, TRUE);
}

static void test_other_page_sizes(void **state)
{
    g_autoptr(SparseFile) file = sparse_file_new();
    Judgement judgement;
    Plan plan;

    (void)state;
    plan_standard(&plan);
    plan.guest.target_page_size = 1024;
    plan.records[0].page_size = 1024;
    plan.records[0].used_length = 65ull * 1024;
    plan.guest.blocks[0].used_length = plan.guest.blocks[0].max_length = 65ull * 1024;
    plan.total = 65ull * 1024 + 4;
    judge_plan(&plan, file, &judgement);
    assert_int_equal(judgement.verdict, VERDICT_ACCEPT);
    assert_int_equal(judgement.blocks[0].pages, 65);
    assert_int_equal(judgement.blocks[0].bitmap_length, 16);
    assert_int_equal(judgement.total, 65ull * 1024);

    /* 0x200 is a flag of all targets, 0x400 is a part of total with small pages only. */
    plan.total += 0x200;
    judge_plan(&plan, file, &judgement);
    assert_true(judgement_violates(&judgement, RULE_R1));
}

/* 9. Pages */

static void assert_page(const Judgement *judgement, unsigned block, uint64_t page,
                        PageSource wanted, uint64_t wanted_offset)
{
    uint64_t offset = UINT64_MAX;

    assert_int_equal(judgement_page(judgement, block, page, &offset), wanted);
    if (wanted == PAGE_FROM_FILE) {
        assert_int_equal(offset, wanted_offset);
    }
}

static void test_pages_of_accepted_files(void **state)
{
    g_autoptr(SparseFile) file = sparse_file_new();
    Judgement judgement;
    Plan plan;

    (void)state;
    plan_standard(&plan);
    two_blocks(&plan);
    plan.records[0].bitmap = 0xfe;
    judge_plan(&plan, file, &judgement);
    assert_page(&judgement, 0, 0, PAGE_LEFT_ALONE, 0);
    assert_page(&judgement, 0, 1, PAGE_FROM_FILE, 0x2000);
    assert_page(&judgement, 0, 2, PAGE_LEFT_ALONE, 0);
    assert_page(&judgement, 0, 3, PAGE_LEFT_ALONE, 0);
    assert_page(&judgement, 1, 0, PAGE_FROM_FILE, 0x4000);
    assert_page(&judgement, 1, 1, PAGE_LEFT_ALONE, 0);
    assert_int_equal(judgement_next_page_in_file(&judgement, 0, 0), 1);
    assert_int_equal(judgement_next_page_in_file(&judgement, 0, 1), 1);
    assert_int_equal(judgement_next_page_in_file(&judgement, 0, 2), UINT64_MAX);
    assert_int_equal(judgement_next_page_in_file(&judgement, 0, UINT64_MAX), UINT64_MAX);

    plan.guest.clear_pages = true;
    judge_plan(&plan, file, &judgement);
    assert_page(&judgement, 0, 0, PAGE_ZERO, 0);
    assert_page(&judgement, 0, 2, PAGE_LEFT_ALONE, 0);

    /* Beyond the file's used_length, R6a. */
    plan_standard(&plan);
    plan.guest.clear_pages = true;
    used_length_is_smaller(&plan);
    judge_plan(&plan, file, &judgement);
    assert_page(&judgement, 0, 0, PAGE_ZERO, 0);
    assert_page(&judgement, 0, 1, PAGE_LEFT_ALONE, 0);
    used_length_is_max(&plan);
    judge_plan(&plan, file, &judgement);
    assert_page(&judgement, 0, 3, PAGE_ZERO, 0);
}

static void large_block(Plan *plan, uint64_t pages, uint64_t pages_offset)
{
    plan_standard(plan);
    plan->guest.blocks[0].used_length = plan->guest.blocks[0].max_length = pages * 4096;
    plan->records[0].used_length = pages * 4096;
    plan->records[0].pages_offset = pages_offset;
    plan->records[0].bitmap = 0;
    plan->total = pages * 4096 + 4;
}

/* The two ways to ask which pages are in the file give the same answers. */
static void assert_words_agree(const Judgement *judgement, unsigned block)
{
    uint64_t words = (judgement->blocks[block].pages + 63) / 64;

    for (uint64_t word = 0; word < words + 2; word++) {
        uint64_t bits = judgement_pages_in_word(judgement, block, word);

        for (unsigned i = 0; i < 64; i++) {
            uint64_t page = word * 64 + i;
            bool in_file = judgement_next_page_in_file(judgement, block, page) == page;

            assert_int_equal(bits >> i & 1, in_file);
        }
    }
}

static void test_pages_in_words(void **state)
{
    static const uint64_t pages[] = { 1, 2, 63, 64, 65, 96, 128, 129 };
    g_autoptr(SparseFile) file = sparse_file_new();
    Judgement judgement;
    Plan plan;

    (void)state;
    for (unsigned i = 0; i < G_N_ELEMENTS(pages); i++) {
        plan_standard(&plan);
        large_block(&plan, pages[i], AT_PAGES);
        plan.records[0].bitmap = 0xb00000000000000d;
        judge_plan(&plan, file, &judgement);
        assert_int_equal(judgement.blocks[0].pages, pages[i]);
        assert_words_agree(&judgement, 0);
        assert_int_equal(judgement_pages_in_word(&judgement, 0, 0) & 1, 1);
        assert_int_equal(judgement_pages_in_word(&judgement, 0, UINT64_MAX), 0);
    }
}

static void test_pages_that_are_not_in_the_file(void **state)
{
    g_autoptr(SparseFile) file = sparse_file_new();
    Judgement judgement;
    Plan plan;

    (void)state;
    plan_standard(&plan);
    plan.guest.clear_pages = true;
    second_block_without_record(&plan);
    judge_plan(&plan, file, &judgement);
    assert_page(&judgement, 1, 0, PAGE_LEFT_ALONE, 0);
    assert_int_equal(judgement_next_page_in_file(&judgement, 1, 0), UINT64_MAX);
    assert_words_agree(&judgement, 1);

    plan_standard(&plan);
    ignored_block(&plan);
    plan.guest.clear_pages = true;
    judge_plan(&plan, file, &judgement);
    assert_true(judgement.blocks[0].ignored);
    assert_page(&judgement, 0, 0, PAGE_LEFT_ALONE, 0);
    assert_int_equal(judgement_next_page_in_file(&judgement, 0, 0), UINT64_MAX);
    assert_words_agree(&judgement, 0);
}

static void test_pages_that_are_unspecified(void **state)
{
    static void (*const prepares[])(Plan * plan) = { tail_lists_blocks_again, tail_starts_ram_again,
                                                     block_named_twice };
    g_autoptr(SparseFile) file = sparse_file_new();
    Judgement judgement;
    Plan plan;

    (void)state;
    for (unsigned i = 0; i < G_N_ELEMENTS(prepares); i++) {
        plan_standard(&plan);
        two_blocks(&plan);
        prepares[i](&plan);
        judge_plan(&plan, file, &judgement);
        assert_int_equal(judgement.verdict, VERDICT_MAY);
        assert_page(&judgement, 0, 0, PAGE_UNSPECIFIED, 0);
        assert_page(&judgement, 0, 3, PAGE_UNSPECIFIED, 0);
        assert_int_equal(judgement.ram_unspecified, prepares[i] != block_named_twice);
    }
    /* A block named twice says nothing of the others. */
    assert_page(&judgement, 1, 0, PAGE_FROM_FILE, 0x4000);
}

static void test_pages_after_a_refusal(void **state)
{
    g_autoptr(SparseFile) file = sparse_file_new();
    Judgement judgement;
    Plan plan;

    (void)state;
    plan_standard(&plan);
    plan.tail = PLAN_BYTES(PLAN_EOS);
    judge_plan(&plan, file, &judgement);
    assert_int_equal(judgement.verdict, VERDICT_REJECT);
    assert_page(&judgement, 0, 1, PAGE_UNSPECIFIED, 0);
    assert_page(&judgement, 0, 2, PAGE_LEFT_ALONE, 0);

    /* The block was resized before the refusal. */
    used_length(&plan, 0x3000);
    judge_plan(&plan, file, &judgement);
    assert_page(&judgement, 0, 2, PAGE_UNSPECIFIED, 0);
    assert_page(&judgement, 0, 3, PAGE_LEFT_ALONE, 0);

    /* It was not: no reader resizes to more than max_length. */
    used_length(&plan, 0x5000);
    judge_plan(&plan, file, &judgement);
    assert_page(&judgement, 0, 1, PAGE_UNSPECIFIED, 0);
    assert_page(&judgement, 0, 2, PAGE_LEFT_ALONE, 0);
}

/* A block of @pages pages whose bitmap is put at @bitmap_at by the caller. */
static void test_next_page_across_extents(void **state)
{
    g_autoptr(SparseFile) file = sparse_file_new();
    const uint64_t pages = 1ull << 28; /* 1 TiB */
    const uint64_t bitmap_end = AT_BITMAP + pages / 8;
    Judgement judgement;
    uint8_t zeroes[64] = { 0 };
    Plan plan;

    (void)state;
    large_block(&plan, pages, 1ull << 26);
    plan_write(&plan, file);
    sparse_file_fill(file, AT_BITMAP, 1000, 0);
    sparse_file_write(file, AT_BITMAP + 1000, zeroes, sizeof(zeroes));
    sparse_file_write(file, AT_BITMAP + 1032, "\x80", 1);
    sparse_file_fill(file, AT_BITMAP + 5000, 2, 0x10);
    sparse_file_pattern(file, bitmap_end - 1, 2, 0);
    judge_file(file, &plan.guest, &judgement);
    assert_int_equal(judgement.verdict, VERDICT_ACCEPT);
    assert_int_equal(judgement_next_page_in_file(&judgement, 0, 0), 1032 * 8 + 7);
    assert_int_equal(judgement_next_page_in_file(&judgement, 0, 1032 * 8 + 7), 1032 * 8 + 7);
    assert_int_equal(judgement_next_page_in_file(&judgement, 0, 1032 * 8 + 8), 5000 * 8 + 4);
    assert_int_equal(judgement_next_page_in_file(&judgement, 0, 5000 * 8 + 5), 5001 * 8 + 4);
    assert_in_range(judgement_next_page_in_file(&judgement, 0, 5001 * 8 + 5), pages - 8, pages - 1);
    assert_page(&judgement, 0, 5001 * 8 + 4, PAGE_FROM_FILE,
                (1ull << 26) + (5001ull * 8 + 4) * 4096);

    /* A set bit in bytes behind the bitmap, as a fill that begins within it. */
    sparse_file_punch(file, AT_BITMAP, pages / 8);
    sparse_file_write(file, bitmap_end - 8, zeroes, 16);
    sparse_file_write(file, bitmap_end, "\1", 1);
    judge_file(file, &plan.guest, &judgement);
    assert_int_equal(judgement_next_page_in_file(&judgement, 0, 0), UINT64_MAX);
}

/* B5 in a word whose first set bit is beyond the last page. */
static void test_next_page_is_below_pages(void **state)
{
    g_autoptr(SparseFile) file = sparse_file_new();
    Judgement judgement;
    Plan plan;

    (void)state;
    plan_standard(&plan);
    plan.records[0].bitmap = 0xfffffffffffffffc;
    judge_plan(&plan, file, &judgement);
    assert_int_equal(judgement.verdict, VERDICT_ACCEPT);
    assert_int_equal(judgement_next_page_in_file(&judgement, 0, 0), UINT64_MAX);

    /* A bitmap across 2^64 does not go on at the start of the file. */
    large_block(&plan, 96, AT_PAGES);
    plan.records[0].bitmap_offset = UINT64_MAX - 7;
    judge_plan(&plan, file, &judgement);
    assert_int_equal(judgement.blocks[0].bitmap_length, 16);
    assert_int_equal(judgement_next_page_in_file(&judgement, 0, 64), UINT64_MAX);
    assert_int_equal(judgement_pages_in_word(&judgement, 0, 1), 0);

    /* After B2 there may be no place for a bitmap at all. */
    plan_standard(&plan);
    plan.records[0].bitmap = 0;
    plan.records[0].bitmap_offset = UINT64_MAX - 3;
    judge_plan(&plan, file, &judgement);
    assert_int_equal(judgement_next_page_in_file(&judgement, 0, 0), UINT64_MAX);
    assert_words_agree(&judgement, 0);
}

/* judge_block */

static void test_block_alone(void **state)
{
    g_autoptr(SparseFile) file = sparse_file_new();
    Judgement judgement;
    Plan plan;

    (void)state;
    plan_standard(&plan);
    plan_write(&plan, file);
    sparse_file_truncate(file, 0x3000); /* the last page is whole */
    judge_block(file, &plan.guest, AT_HEADER, 0x2000, &judgement);
    assert_judged("block", &judgement, VERDICT_ACCEPT, 0, NULL);
    assert_int_equal(judgement.end, 0x3000);
    assert_page(&judgement, 0, 0, PAGE_LEFT_ALONE, 0);
    assert_page(&judgement, 0, 1, PAGE_FROM_FILE, 0x2000);

    sparse_file_truncate(file, 0x2fff);
    judge_block(file, &plan.guest, AT_HEADER, 0x2000, &judgement);
    assert_judged("block: P1", &judgement, VERDICT_REJECT, 1,
                  &(Wanted){
                      RULE_P1, 0, "page", 0x2000, 1,
                      "block 'ram': page 0x1 at file offset 0x2000: lies wholly or in part beyond "
                      "the end of the file 0x2fff (rule P1)" });

    judge_block(file, &plan.guest, AT_HEADER, 0x1000, &judgement);
    assert_judged("block: R6a", &judgement, VERDICT_MAY, 1,
                  &(Wanted){
                      RULE_R6A, 0, "used_length", AT_HEADER, 0x1000,
                      "block 'ram': used_length 0x1000 at file offset 0x65: is not the block's "
                      "used_length 0x2000 (rule R6a)" });

    judge_block(file, &plan.guest, AT_HEADER, UINT64_MAX, &judgement);
    assert_true(judgement_violates(&judgement, RULE_R5));
    assert_true(judgement_violates(&judgement, RULE_R6));
    assert_true(judgement_violates(&judgement, RULE_H5));
    assert_int_equal(judgement.n_violations, 3);
    assert_int_equal(judgement.blocks[0].bitmap_length, (UINT64_MAX / 4096 + 1) / 8);

    judge_block(file, &plan.guest, UINT64_MAX, 0x2000, &judgement);
    assert_judged("block: F4", &judgement, VERDICT_REJECT, 1,
                  &(Wanted){
                      RULE_F4, 0, "version", UINT64_MAX, 0,
                      "block 'ram': version at file offset 0xffffffffffffffff: lies wholly or in "
                      "part beyond the end of the file 0x2fff (rule F4)" });

    sparse_file_reset(file);
    put_number(file, 0, 4, 1);
    put_number(file, 4, 8, 4096);
    sparse_file_truncate(file, 28);
    plan.guest.x_ignore_shared = true;
    judge_block(file, &plan.guest, 0, 0x2000, &judgement);
    assert_judged("block: X2", &judgement, VERDICT_ACCEPT, 0, NULL);
    assert_true(judgement.blocks[0].ignored);
    assert_int_equal(judgement.end, 28);
}

/* Hostile files: what they cost is bounded by their bytes of data. */

static double seconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec + now.tv_nsec / 1e9;
}

static void assert_judged_at_once(const char *name, const SparseFile *file, const Guest *guest,
                                  Verdict verdict)
{
    Judgement judgement;
    double start = seconds();

    judge_file(file, guest, &judgement);
    if (judgement.verdict != verdict) {
        fail_with_violations(name, &judgement);
    }
    /* A thousand times what it takes, and a millionth of what a loop would. */
    assert_true(seconds() - start < 1.0);
}

static void test_hostile_counts(void **state)
{
    g_autoptr(SparseFile) file = sparse_file_new();
    Plan plan;

    (void)state;
    /* 2^32 names of length 0 in a hole. */
    plan_standard(&plan);
    plan_write(&plan, file);
    sparse_file_truncate(file, AT_CAPABILITY);
    put_number(file, AT_CAPABILITY_COUNT, 4, UINT32_MAX);
    sparse_file_truncate(file, 1ull << 40);
    assert_judged_at_once("capabilities", file, &plan.guest, VERDICT_MAY);

    /* 2^58 records in a hole: no name, no length, RAM not in the file. */
    plan_ignore_shared(&plan);
    plan_write(&plan, file);
    sparse_file_truncate(file, AT_IDSTR + SHARED_BEFORE_ADDRESS);
    sparse_file_truncate(file, INT64_MAX);
    assert_judged_at_once("records", file, &plan.guest, VERDICT_REJECT);

    /* A machine's name that ends where the file does. */
    plan_standard(&plan);
    plan.guest.machine[0] = '\0';
    plan_write(&plan, file);
    sparse_file_truncate(file, AT_MACHINE + 4);
    put_number(file, AT_MACHINE, 4, UINT32_MAX);
    sparse_file_truncate(file, AT_MACHINE + 4ull + UINT32_MAX);
    assert_judged_at_once("machine", file, &plan.guest, VERDICT_REJECT);
}

/* The longest list that has to be read: 254 unknown names, and the right one. */
static void test_longest_list_of_capabilities(void **state)
{
    GString *bytes = g_string_new(NULL);
    g_autoptr(SparseFile) file = sparse_file_new();
    Judgement judgement;
    Plan plan;

    (void)state;
    plan_standard(&plan);
    g_string_append_len(bytes, PLAN_CAPABILITIES "\0\0\0\xff", 36);
    for (unsigned i = 0; i < 254; i++) {
        g_string_append_c(bytes, '\0');
    }
    g_string_append(bytes, PLAN_MAPPED_RAM);
    plan.subsections = (PlanBytes){ bytes->str, bytes->len };
    judge_plan(&plan, file, &judgement);
    assert_int_equal(judgement.verdict, VERDICT_MAY);
    assert_false(judgement.ram_unspecified);
    assert_false(judgement_violates(&judgement, RULE_C6));
    assert_int_equal(judgement.end, AT_FILE_END);
    g_string_free(bytes, TRUE);
}

static void test_hostile_bitmaps(void **state)
{
    const uint64_t pages = 1ull << 40;
    g_autoptr(SparseFile) file = sparse_file_new();
    Judgement judgement;
    Plan plan;

    (void)state;
    /* 2^37 bytes of bitmap, all set, of zeroes, of a pattern, of nothing. */
    large_block(&plan, pages, 1ull << 38);
    plan_write(&plan, file);
    assert_judged_at_once("hole", file, &plan.guest, VERDICT_ACCEPT);
    sparse_file_fill(file, AT_BITMAP, pages / 8, 0);
    assert_judged_at_once("zeroes", file, &plan.guest, VERDICT_ACCEPT);
    sparse_file_fill(file, AT_BITMAP, pages / 8, 0xff);
    assert_judged_at_once("ones", file, &plan.guest, VERDICT_ACCEPT);
    sparse_file_pattern(file, AT_BITMAP, pages / 8, 1);
    assert_judged_at_once("pattern", file, &plan.guest, VERDICT_ACCEPT);

    /* P1 names the first page that is not there. */
    sparse_file_truncate(file, (1ull << 38) + 100ull * 4096 + 4095);
    sparse_file_fill(file, AT_BITMAP, pages / 8, 0xff);
    judge_file(file, &plan.guest, &judgement);
    assert_judged("P1", &judgement, VERDICT_REJECT, 2,
                  &(Wanted){
                      RULE_P1, 0, "page", (1ull << 38) + 100ull * 4096, 100,
                      "block 'ram': page 0x64 at file offset 0x4000064000: lies wholly or in part "
                      "beyond the end of the file 0x4000064fff (rule P1)" });
}

/* A file that ends within the text of a violation's name, and odd bytes in it. */
static void test_description_of_strange_names(void **state)
{
    g_autoptr(SparseFile) file = sparse_file_new();
    g_autofree char *text = NULL;
    Judgement judgement;
    Plan plan;

    (void)state;
    plan_standard(&plan);
    plan_write(&plan, file);
    put_number(file, AT_IDSTR, 8, 0x04250a27ff000000);
    judge_file(file, &plan.guest, &judgement);
    assert_int_equal(judgement.violations[0].rule, RULE_R3);
    text = judgement_describe_violation(&judgement, 0);
    assert_string_equal(text, "idstr '%\\n'\\377' at file offset 0x59: is no block of the guest "
                              "(rule R3)");
}

static void test_verdict_names(void **state)
{
    (void)state;
    assert_string_equal(verdict_name(VERDICT_ACCEPT), "must accept");
    assert_string_equal(verdict_name(VERDICT_MAY), "may either");
    assert_string_equal(verdict_name(VERDICT_REJECT), "must reject");
}

/*
 * The layout that QEMU 10.0.2 wrote for `-machine none` with one block of 256
 * pages: every offset as measured there, 1 MiB between header and pages.
 */
static void test_layout_of_a_real_file(void **state)
{
    g_autoptr(SparseFile) file = sparse_file_new();
    Judgement judgement;
    uint64_t page = 0;
    unsigned count = 0;
    Plan plan;

    (void)state;
    plan_standard(&plan);
    plan.guest.blocks[0].used_length = plan.guest.blocks[0].max_length = 0x100000;
    plan.records[0].used_length = 0x100000;
    plan.records[0].pages_offset = 0x100000;
    plan.records[0].bitmap = 0x8000000000000001;
    plan.total = 0x100004;
    plan.tail = PLAN_BYTES(PLAN_EOS PLAN_FOOTER PLAN_PART PLAN_COMMAND PLAN_END
                           "\4\0\0\0\0\5timer\0\0\0\0\0\0\0\2"
                           "state"
                           "\x7e\0\0\0\0"
                           "\0"
                           "\6\0\0\0\2{}");
    plan_write(&plan, file);
    sparse_file_write(file, 0x81 + 31, "\x80", 1);
    sparse_file_pattern(file, 0x100000, 4096, 1);
    sparse_file_pattern(file, 0x13f000, 4096, 1);
    sparse_file_pattern(file, 0x1ff000, 4096, 1);
    judge_file(file, &plan.guest, &judgement);
    assert_judged("real", &judgement, VERDICT_ACCEPT, 0, NULL);
    assert_int_equal(judgement.section_id, 2);
    assert_int_equal(judgement.blocks[0].record_offset, 0x59);
    assert_int_equal(judgement.blocks[0].header_offset, 0x65);
    assert_int_equal(judgement.blocks[0].bitmap_offset, 0x81);
    assert_int_equal(judgement.blocks[0].bitmap_length, 32);
    while ((page = judgement_next_page_in_file(&judgement, 0, page)) != UINT64_MAX) {
        assert_page(&judgement, 0, page, PAGE_FROM_FILE, 0x100000 + page * 4096);
        assert_true(page == 0 || page == 63 || page == 255);
        page++;
        count++;
    }
    assert_int_equal(count, 3);
    assert_int_equal(judgement.end, 0x200000 + 13 + 18 + 5 + 18 + 11);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_rule),
        cmocka_unit_test(test_no_rule_is_forgotten),
        cmocka_unit_test(test_cut_anywhere),
        cmocka_unit_test(test_cut_in_optional_fields),
        cmocka_unit_test(test_fields_of_a_judgement),
        cmocka_unit_test(test_walk_goes_on),
        cmocka_unit_test(test_full_list_still_counts),
        cmocka_unit_test(test_other_page_sizes),
        cmocka_unit_test(test_pages_of_accepted_files),
        cmocka_unit_test(test_pages_in_words),
        cmocka_unit_test(test_pages_that_are_not_in_the_file),
        cmocka_unit_test(test_pages_that_are_unspecified),
        cmocka_unit_test(test_pages_after_a_refusal),
        cmocka_unit_test(test_next_page_across_extents),
        cmocka_unit_test(test_next_page_is_below_pages),
        cmocka_unit_test(test_block_alone),
        cmocka_unit_test(test_hostile_counts),
        cmocka_unit_test(test_longest_list_of_capabilities),
        cmocka_unit_test(test_hostile_bitmaps),
        cmocka_unit_test(test_description_of_strange_names),
        cmocka_unit_test(test_verdict_names),
        cmocka_unit_test(test_layout_of_a_real_file),
    };

    return pagewise_run("judge", tests);
}

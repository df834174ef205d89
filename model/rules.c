/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The table of the rules of docs/mapped-ram-format.md, in the document's
 * order; unit/test-rules.c holds the two against each other. It only names
 * rules: what they mean for a file is said in judge.c and nowhere else.
 */
#include "model/rules.h"

#include <string.h>

static const Rule rules[RULE__MAX] = {
    /* 1. The whole file */
    [RULE_F3] = { "F3", RULE_DEFINITION, "integers are big-endian" },
    [RULE_F4] = { "F4", RULE_REJECT, "lies wholly or in part beyond the end of the file" },
    [RULE_F5] = { "F5", RULE_DEFINITION, "holes read as zeroes" },
    /* 2. File header */
    [RULE_F1] = { "F1", RULE_REJECT, "is not QEVM" },
    [RULE_F2] = { "F2", RULE_REJECT, "is not the stream's version" },
    /* 3. Configuration */
    [RULE_C1] = { "C1", RULE_REJECT, "is not CONFIGURATION" },
    [RULE_C2] = { "C2", RULE_REJECT, "is not the reader's machine" },
    [RULE_C2A] = { "C2a", RULE_MAY, "is not exactly the reader's machine" },
    [RULE_C2B] = { "C2b", RULE_MAY, "is longer than 255 bytes" },
    [RULE_C3] = { "C3", RULE_REJECT, "is no subsection of the configuration" },
    [RULE_C3A] = { "C3a", RULE_MAY, "contains a NUL" },
    [RULE_C4] = { "C4", RULE_MAY, "stands there twice" },
    [RULE_C5] = { "C5", RULE_REJECT, "is not the subsection's version" },
    [RULE_C6] = { "C6", RULE_REJECT, "do not have mapped-ram" },
    [RULE_C7] = { "C7", RULE_REJECT, "is not as in the reader" },
    [RULE_C8] = { "C8", RULE_MAY, "is not known, is listed twice, or is too many" },
    [RULE_C9] = { "C9", RULE_REJECT, "is not that of the target's page size" },
    [RULE_C10] = { "C10", RULE_ACCEPT, "any order of subsections, any UUID" },
    /* 4. Sections */
    [RULE_S1] = { "S1", RULE_REJECT, "is no type of the first section" },
    [RULE_S2] = { "S2", RULE_MAY, "is not that of RAM's START section" },
    [RULE_S3] = { "S3", RULE_REJECT, "is not 0" },
    [RULE_S4] = { "S4", RULE_REJECT, "is not the RAM section's version" },
    [RULE_S5] = { "S5", RULE_REJECT, "is not FOOTER" },
    [RULE_S6] = { "S6", RULE_REJECT, "is not the section's id" },
    /* 5. The RAM section's contents (START) */
    [RULE_R1] = { "R1", RULE_REJECT, "has unknown flags" },
    [RULE_R1A] = { "R1a", RULE_MAY, "has other flags than MEM_SIZE" },
    [RULE_R2] = { "R2", RULE_REJECT, "is greater than what remains of total" },
    [RULE_R7] = { "R7", RULE_REJECT, "has unknown flags" },
    [RULE_R7A] = { "R7a", RULE_MAY, "has more bits than EOS" },
    [RULE_R7B] = { "R7b", RULE_MAY, "lists blocks once more" },
    [RULE_R8] = { "R8", RULE_MAY, "is in no record of the file" },
    /* 6. A block record */
    [RULE_R3] = { "R3", RULE_REJECT, "is no block of the guest" },
    [RULE_R3A] = { "R3a", RULE_MAY, "contains a NUL" },
    [RULE_R4] = { "R4", RULE_MAY, "was named by an earlier record" },
    [RULE_R5] = { "R5", RULE_REJECT, "is not a multiple of the target's page size" },
    [RULE_R6] = { "R6", RULE_REJECT, "is greater than the block's max_length" },
    [RULE_R6A] = { "R6a", RULE_MAY, "is not the block's used_length" },
    /* 7. MappedRamHeader */
    [RULE_H1] = { "H1", RULE_REJECT, "is a later version than" },
    [RULE_H1A] = { "H1a", RULE_MAY, "is an earlier version than" },
    [RULE_H2] = { "H2", RULE_REJECT, "is not the target's page size" },
    [RULE_H3] = { "H3", RULE_REJECT, "is not a multiple of the target's page size" },
    [RULE_H4] = { "H4", RULE_REJECT, "is before the end of the header" },
    [RULE_H5] = { "H5", RULE_REJECT, "makes the pages end beyond 2^63 - 1" },
    [RULE_H6] = { "H6", RULE_ACCEPT, "any multiple of the target's page size" },
    [RULE_X1] = { "X1", RULE_DEFINITION, "the guest physical address" },
    [RULE_X2] = { "X2", RULE_DEFINITION, "the block's RAM is not in the file" },
    [RULE_X2A] = { "X2a", RULE_MAY, "is not the target's page size" },
    /* 8. The bitmap */
    [RULE_B1] = { "B1", RULE_DEFINITION, "words are little-endian" },
    [RULE_B2] = { "B2", RULE_REJECT, "puts a part of the bitmap beyond the end of the file" },
    [RULE_B3] = { "B3", RULE_DEFINITION, "a clear bit is a page of zeroes" },
    [RULE_B4] = { "B4", RULE_MAY, "puts the bitmap not between header and pages" },
    [RULE_B5] = { "B5", RULE_ACCEPT, "bits beyond the last page" },
    /* 9. Pages, and what guest RAM holds afterwards */
    [RULE_P1] = { "P1", RULE_REJECT, "lies wholly or in part beyond the end of the file" },
    [RULE_P2] = { "P2", RULE_DEFINITION, "the next record starts behind the pages" },
    [RULE_P3] = { "P3", RULE_ACCEPT, "bytes at the place of a page whose bit is clear" },
    [RULE_G1] = { "G1", RULE_DEFINITION, "a set bit: the page's bytes in the file" },
    [RULE_G2] = { "G2", RULE_DEFINITION, "a clear bit: zeroes, or left alone" },
    [RULE_G3] = { "G3", RULE_DEFINITION, "what is not in the file is left alone" },
    /* 10. After the RAM section's START */
    [RULE_T1] = { "T1", RULE_DEFINITION, "PART and END hold EOS and a footer" },
    [RULE_T2] = { "T2", RULE_DEFINITION, "commands are skipped" },
    [RULE_T2A] = { "T2a", RULE_MAY, "is not SWITCHOVER_START without data" },
    [RULE_T3] = { "T3", RULE_MAY, "comes before the END of ram" },
    [RULE_T4] = { "T4", RULE_DEFINITION, "device state begins" },
    [RULE_T4A] = { "T4a", RULE_MAY, "is that of a second ram section" },
    [RULE_T5] = { "T5", RULE_DEFINITION, "the stream is ended" },
    [RULE_T6] = { "T6", RULE_REJECT, "is not what may follow the RAM section" },
};

const Rule *rule_get(RuleId id)
{
    return &rules[id];
}

/* The first letter by itself: under a sanitizer a call of strcmp() is expensive. */
RuleId rule_by_name(const char *name)
{
    for (RuleId id = 0; id < RULE__MAX; id++) {
        if (rules[id].id[0] == name[0] && strcmp(rules[id].id, name) == 0) {
            return id;
        }
    }
    return RULE__MAX;
}

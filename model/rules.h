/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The rules of docs/mapped-ram-format.md as a table: one entry for each row of
 * the document with an id, in its order. Definition and accept rules are in
 * the table, too, because messages cite them.
 */
#ifndef PAGEWISE_MODEL_RULES_H
#define PAGEWISE_MODEL_RULES_H

/* A line or two for each section of the document. */
/* clang-format off */
typedef enum RuleId {
    RULE_F3, RULE_F4, RULE_F5, RULE_F1, RULE_F2,
    RULE_C1, RULE_C2, RULE_C2A, RULE_C2B, RULE_C3, RULE_C3A, RULE_C4, RULE_C5, RULE_C6,
    RULE_C7, RULE_C8, RULE_C9, RULE_C10,
    RULE_S1, RULE_S2, RULE_S3, RULE_S4, RULE_S5, RULE_S6,
    RULE_R1, RULE_R1A, RULE_R2, RULE_R7, RULE_R7A, RULE_R7B, RULE_R8,
    RULE_R3, RULE_R3A, RULE_R4, RULE_R5, RULE_R6, RULE_R6A,
    RULE_H1, RULE_H1A, RULE_H2, RULE_H3, RULE_H4, RULE_H5, RULE_H6,
    RULE_X1, RULE_X2, RULE_X2A,
    RULE_B1, RULE_B2, RULE_B3, RULE_B4, RULE_B5,
    RULE_P1, RULE_P2, RULE_P3,
    RULE_G1, RULE_G2, RULE_G3,
    RULE_T1, RULE_T2, RULE_T2A, RULE_T3, RULE_T4, RULE_T4A, RULE_T5, RULE_T6,
    RULE__MAX,
} RuleId;
/* clang-format on */

typedef enum RuleConsequence {
    RULE_DEFINITION,
    RULE_ACCEPT,
    RULE_MAY,
    RULE_REJECT,
} RuleConsequence;

typedef struct Rule {
    const char *id; /* as in the document: "H2", "C2a" */
    RuleConsequence consequence;
    const char *title; /* the document's text in a few words; of a rule that a
                          field can break, what a message says of the field */
} Rule;

/* Never NULL for id < RULE__MAX. */
const Rule *rule_get(RuleId id);

/* The rule with this id string ("C2a"), or RULE__MAX. */
RuleId rule_by_name(const char *name);

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a repair of a finding is, for the files that read, look for and do repairs;
 * all others go by findings.h.
 */
#ifndef PAGEWISE_PROPERTY_FINDING_REPAIR_H
#define PAGEWISE_PROPERTY_FINDING_REPAIR_H

#include "model/judge.h"
#include "property/findings.h"

/*
 * Undoes what triggers a finding: @violation, which is one of @judgement, or tells
 * how the reader is configured. False: there is nothing (more) to be done.
 */
typedef bool RepairAction(FindingLoad *load, const Judgement *judgement,
                          const Violation *violation);

/* All @n of them, for those who go through them in each execution. */
Finding *const *findings_list(const Findings *findings, unsigned *n);

/* NULL if there is none of this name; docs/findings.md has them all. */
RepairAction *finding_action_by_name(const char *name);

/* A break of a rule, by a value. */
typedef struct RuleBreak {
    RuleId rule; /* RULE__MAX: none is asked for */
    uint64_t least;
    uint64_t most;
} RuleBreak;

static inline void finding_triggers_add(FindingTriggers *triggers, RuleId rule)
{
    triggers->bits[rule / 64] |= UINT64_C(1) << rule % 64;
}

struct FindingRepair {
    bool if_reads_fail; /* that triggers it, and no rule */
    RuleBreak broken;
    char *field;    /* that the violation must name; NULL: any */
    RuleBreak with; /* the same record must have this break, too */
    RepairAction *action;
};

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The registry of known findings in QEMU: corpus/findings/<id>/finding.ini, one
 * folder for each, beside its reproducer. docs/findings.md is made of it, and
 * says what each key means.
 *
 * A fuzzer that has met a bug meets nothing else: so a finding that is
 * registered for the subject under test is repaired out of every input before
 * the load (findings_repair()), and a failure that happens all the same is new.
 * Repairs are narrow: each undoes one break of one rule of
 * docs/mapped-ram-format.md, as the model sees it, and leaves every other byte.
 *
 * It runs nothing and knows no subject: names and versions are strings.
 */
#ifndef PAGEWISE_PROPERTY_FINDINGS_H
#define PAGEWISE_PROPERTY_FINDINGS_H

#include "model/guest.h"
#include "model/judge.h"
#include "model/snapshot.h"
#include "model/sparse-file.h"

#include <glib.h>

/* How a load can go. FINDING_OUTCOME_REFUSED and _RIGHT are as it should be. */
typedef enum FindingOutcome {
    FINDING_OUTCOME_RIGHT,           /* accepted, and RAM is what the model says */
    FINDING_OUTCOME_REFUSED,         /* with an error, and the model does not object */
    FINDING_OUTCOME_CRASH,           /* by a signal */
    FINDING_OUTCOME_HANG,            /* no end within the time, or of CPU time */
    FINDING_OUTCOME_BLOW_UP,         /* more memory than file and guest justify */
    FINDING_OUTCOME_ACCEPTED_WRONG,  /* "completed", with wrong RAM or of a wrong file */
    FINDING_OUTCOME_REFUSED_WRONGLY, /* of a right file */
    FINDING_OUTCOME_LEAK,            /* memory is lost; only a sanitizer sees it */
    FINDING_OUTCOME_UNPREDICTABLE,   /* it depends on memory that nobody wrote */
    FINDING_OUTCOME__MAX,
} FindingOutcome;

/* "right", "refused", "crash", "hang", "memory blow-up", "accepted wrong", ... */
const char *finding_outcome_name(FindingOutcome outcome);
/* FINDING_OUTCOME__MAX if there is none of that name. */
FindingOutcome finding_outcome_by_name(const char *name);

/* How the load is done; a finding may be one of multifd alone. */
typedef enum FindingMode {
    FINDING_MODE_PLAIN = 1 << 0,
    FINDING_MODE_MULTIFD = 1 << 1,
    FINDING_MODE_LAZY = 1 << 2,
} FindingMode;

/* A break of a rule that triggers a finding, and how it is undone. */
typedef struct FindingRepair FindingRepair;

/* What may trigger findings: a bit for each rule, and RULE__MAX's for reads that fail. */
typedef struct FindingTriggers {
    uint64_t bits[RULE__MAX / 64 + 1];
} FindingTriggers;

/* One finding; everything belongs to the Findings that it is in. */
typedef struct Finding {
    char *id;
    char *title;
    char *property;         /* "safe", "bounded", "agrees", ... as in the documentation */
    unsigned modes;         /* FINDING_MODE_*, those that it happens in */
    unsigned outcomes;      /* 1 << FindingOutcome, those that were seen */
    char *snapshot;         /* path of the reproducer in the text form, or NULL */
    char *input;            /* path of the reproducer as a fuzz input, or NULL */
    char *repeat;           /* "OFFSET HEX COUNT": put over the snapshot's bytes; or NULL */
    Guest guest;            /* who reads the snapshot */
    bool dirty_ram;         /* guest RAM is not zero before the load */
    bool spared;            /* it is looked for: fields that trigger it are left alone */
    FindingRepair *repairs; /* n_repairs of them, done in this order */
    unsigned n_repairs;
    FindingTriggers triggers; /* that some repair waits for */
} Finding;

#define FINDINGS_ERROR findings_error_quark()
GQuark findings_error_quark(void);

typedef enum FindingsErrorCode {
    FINDINGS_ERROR_FORMAT, /* a finding.ini is wrong: the message says where */
    FINDINGS_ERROR_IO,
} FindingsErrorCode;

/* The findings that are registered for one subject; read only, any thread. */
typedef struct Findings Findings;

/**
 * findings_read:
 * @folder: corpus/findings
 * @subject: "qemu-tree" or "qemu-binary"; NULL: all findings
 * @version: "10.0.13"; a finding is registered for since <= @version < fixed.
 *     NULL: whatever the version
 *
 * Returns: the registered findings in the order of their ids, or NULL with
 * FINDINGS_ERROR. Free with findings_free().
 */
Findings *findings_read(const char *folder, const char *subject, const char *version,
                        GError **error);

/* No finding at all: nothing is repaired, nothing is known. */
Findings *findings_none(void);
void findings_free(Findings *findings);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Findings, findings_free)

/* Leaves those alone of which an outcome is in @outcomes, a set of 1 << FindingOutcome. */
void findings_keep(Findings *findings, unsigned outcomes);

unsigned findings_count(const Findings *findings);
const Finding *findings_get(const Findings *findings, unsigned index);
/* NULL if there is none of this id. */
const Finding *findings_by_id(const Findings *findings, const char *id);

/**
 * finding_make_file:
 * @snapshot: for use meanwhile; describes the file afterwards
 * @file: reset first
 *
 * Makes the snapshot file that the finding's text describes.
 *
 * Returns: false with an error, also if the finding has a fuzz input alone.
 */
bool finding_make_file(const Finding *finding, Snapshot *snapshot, SparseFile *file,
                       GError **error);

/* A load that is about to be done: what findings are looked for in. */
typedef struct FindingLoad {
    SparseFile *file; /* repairs write into it */
    Guest *guest;     /* repairs may turn a capability of the reader off */
    FindingMode mode; /* or several of them; repairs may turn multifd off */
    bool lazy;        /* without multifd it is a lazy load, too */
    bool reads_fail;  /* a read is made to fail, or to be short; repairs may undo that */
    /* One block alone (InputKind header): see judge_block(). Else a whole file. */
    bool one_block;
    uint64_t header_offset;
    uint64_t used_length; /* repairs may set it */
} FindingLoad;

/* More, and repairs undo each other: a bitmap that lies over a header, say. */
#define FINDINGS_MAX_REPAIRS 256

/**
 * findings_repair:
 * @log: NULL, or text that a line is appended to for each repair:
 *     "page-size-zero: page_size at file offset 0x69: 0x0 -> 0x1000"
 *
 * Changes the load so that none of the findings is triggered any more. A load
 * that triggers none is left as it is, to the byte; but if its judgement ends
 * where what follows is unspecified, the file does, too. A field that triggers a
 * spared finding is left as it is, unless another one of fewer values or modes
 * is triggered by it.
 *
 * Returns: how many repairs were done. If it is FINDINGS_MAX_REPAIRS, the load
 * triggers some finding still, and nothing can be said of it.
 */
unsigned findings_repair(const Findings *findings, FindingLoad *load, GString *log);

/* The same, with the judgement of the load as it is left, if that can be told. */
unsigned findings_repair_and_judge(const Findings *findings, FindingLoad *load, GString *log,
                                   Judgement *judgement);

/**
 * findings_repair_next:
 *
 * The next one of those repairs alone. What it lays bare, a reader that goes on
 * where the document says nothing has met before.
 *
 * Returns: whether there was one.
 */
bool findings_repair_next(const Findings *findings, FindingLoad *load, GString *log);

/**
 * findings_match:
 *
 * Returns: the first finding that the (unrepaired) load triggers and that was
 * seen to end in @outcome; NULL: what happened is new.
 */
const Finding *findings_match(const Findings *findings, const FindingLoad *load,
                              FindingOutcome outcome);

/* Does the load trigger one that is spared? */
bool findings_spare(const Findings *findings, const FindingLoad *load);

/* Does the load trigger this one finding? */
bool finding_is_triggered(const Finding *finding, const FindingLoad *load);

/*
 * -1, 0, 1: how two versions "10.0.13" compare, number by number; what is
 * missing counts as 0.
 */
int findings_compare_versions(const char *a, const char *b);

#endif

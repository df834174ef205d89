/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The judge: reads a file as docs/mapped-ram-format.md says, slowly and
 * obviously, and tells for a given guest whether a reader must accept it, must
 * refuse it, or may do either, and where each page's bytes come from.
 *
 * It shares no code with any loader: the two are independent readings of one
 * specification. It allocates no more than the spec's bound for a reader, does
 * no I/O, and never fails: every byte string has a judgement.
 */
#ifndef PAGEWISE_MODEL_JUDGE_H
#define PAGEWISE_MODEL_JUDGE_H

#include "model/guest.h"
#include "model/rules.h"
#include "model/sparse-file.h"

typedef enum Verdict {
    VERDICT_ACCEPT, /* every reader must accept */
    VERDICT_MAY,    /* either is right */
    VERDICT_REJECT, /* every reader must refuse */
} Verdict;

typedef struct Violation {
    RuleId rule;
    /* RULE_REJECT or RULE_MAY: the rule's, but RULE_MAY where the document makes
       an exception (C6, C7 and C9 with C4). */
    RuleConsequence consequence;
    int block;         /* index into Guest.blocks, -1: none or unknown */
    const char *field; /* name as in the document: "page_size" */
    uint64_t offset;   /* file offset of the field */
    uint64_t value;    /* the field's value; where it has none, 0 */
} Violation;

/* What the file says of one guest block. */
typedef struct JudgedBlock {
    bool in_file;           /* a record was read to the end of its header */
    bool ignored;           /* rule X2 */
    bool unspecified;       /* rule R4: RAM may hold anything; the first record's
                               fields stand here */
    uint64_t record_offset; /* where idstr's length byte is */
    uint64_t header_offset; /* where MappedRamHeader is */
    uint64_t used_length;   /* the file's, bytes */
    uint64_t gpa;           /* rule X1; 0 without x-ignore-shared */
    uint32_t version;
    uint64_t page_size;
    uint64_t bitmap_offset;
    uint64_t bitmap_length; /* bytes */
    uint64_t pages_offset;
    uint64_t pages; /* used_length / the target page size */
} JudgedBlock;

/* Each block of the guest may break a rule, and others still be seen. */
#define JUDGE_MAX_VIOLATIONS (2 * GUEST_MAX_BLOCKS)

typedef struct Judgement {
    Verdict verdict;
    bool ram_unspecified;                       /* C8, S2, R7b, T4a: nothing is said of RAM */
    unsigned n_violations;                      /* further ones are dropped, never the first */
    Violation violations[JUDGE_MAX_VIOLATIONS]; /* in the order of the walk */
    JudgedBlock blocks[GUEST_MAX_BLOCKS];       /* parallel to Guest.blocks */
    char machine[256];                          /* the file's, cut and NUL-terminated */
    bool has_x_ignore_shared;                   /* the capability is listed in the file */
    uint32_t section_id;                        /* of the RAM section */
    uint64_t total;                             /* the first word without its flags, bytes */
    bool has_devices;       /* T4: device state follows, of which nothing is said */
    uint64_t end;           /* offset where the walk ended: T4: behind the section's
                               name, T5: behind the EOF byte */
    const SparseFile *file; /* borrowed */
    Guest guest;            /* a copy */
} Judgement;

/*
 * Judges a whole file. Where a violated rule lets the walk go on unambiguously
 * the walk goes on, so that `pagewise verify` can list every violation; the
 * first RULE_REJECT violation that makes the rest ambiguous ends it, and so
 * does a full list once the verdict is VERDICT_REJECT.
 * @judgement is overwritten; it borrows @file and owns nothing.
 *
 * Costs no more than the bytes of data in the file (a fill of 2^60 bytes are
 * so many: look at sparse_file_data_bytes() before judging a hostile one).
 */
void judge_file(const SparseFile *file, const Guest *guest, Judgement *judgement);

/*
 * Judges MappedRamHeader at @header_offset, bitmap and pages of one block
 * alone: rules H*, X2*, B*, P*, R5, R6, R6a and F4 for guest->blocks[0], with
 * @used_length as if the record had said so (violations of it have
 * @header_offset as their offset).
 */
void judge_block(const SparseFile *file, const Guest *guest, uint64_t header_offset,
                 uint64_t used_length, Judgement *judgement);

/* Is rule @id among the violations? */
bool judgement_violates(const Judgement *judgement, RuleId id);

typedef enum PageSource {
    PAGE_FROM_FILE,   /* G1: page_size bytes at *file_offset */
    PAGE_ZERO,        /* G2, guest.clear_pages */
    PAGE_LEFT_ALONE,  /* G2 without clear_pages, G3 */
    PAGE_UNSPECIFIED, /* R4, Judgement.ram_unspecified, after a refusal */
} PageSource;

/*
 * Where the content of target page @page (0 .. max_length / target page size
 * - 1) of guest block @block comes from, if the file was accepted. If the
 * verdict is VERDICT_REJECT: what may be found after the refusal, which is
 * PAGE_LEFT_ALONE only beyond used_length (the greater one of guest and file).
 */
PageSource judgement_page(const Judgement *judgement, unsigned block, uint64_t page,
                          uint64_t *file_offset);

/*
 * The first page >= @from of the block whose bit is set and means something
 * (B5), or UINT64_MAX. Holes of the bitmap are skipped, so that a 4 GiB block
 * with two pages takes two steps. Looks at the bitmap whatever the verdict.
 */
uint64_t judgement_next_page_in_file(const Judgement *judgement, unsigned block, uint64_t from);

/*
 * 64 pages at once: bit i tells whether page 64 * @word + i is in the file; the
 * same answers as judgement_next_page_in_file() gives.
 */
uint64_t judgement_pages_in_word(const Judgement *judgement, unsigned block, uint64_t word);

/*
 * One line of text a violation, e.g. "block 'pc.ram': page_size 0x2000 at file
 * offset 0x69: is not the target's page size 0x1000 (rule H2)". Free with
 * g_free().
 */
char *judgement_describe_violation(const Judgement *judgement, unsigned index);

const char *verdict_name(Verdict verdict); /* "must accept", "may either", "must reject" */

#endif

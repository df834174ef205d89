/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the property functions share, and nobody else includes: the context's
 * inside, how a property is reported broken, and the check of one load.
 */
#ifndef PAGEWISE_PROPERTY_CONTEXT_H
#define PAGEWISE_PROPERTY_CONTEXT_H

#include "model/judge.h"
#include "model/snapshot.h"
#include "property/alloc-meter.h"
#include "property/findings.h"
#include "property/guest-ram.h"
#include "property/property.h"

/* The scratch of one property, in its own file. */
typedef struct FaultMap FaultMap;
typedef struct LazyRun LazyRun;
typedef struct PostcopyRun PostcopyRun;
typedef struct SetupRun SetupRun;

/* Of the page of CONTEXT_PAGE bytes at @offset of the block. */
#define CONTEXT_PAGE 4096
typedef bool PageFilter(const PropertyContext *context, unsigned block, uint64_t offset);

struct PropertyContext {
    const Subject *subject;
    GuestRam *ram;
    SparseFile *file;
    SparseFile *other_file;
    Snapshot *snapshot;
    Guest guest; /* of the case at hand */
    Judgement judgement;
    PropertyStats stats;
    PropertyId ram_property; /* what check_ram() says is broken: eager=model, lazy=eager, ... */
    PageFilter *is_given_up; /* pages of the file that check_ram() leaves out; NULL: none */
    unsigned patience_ms;    /* see property_context_set_patience() */
    bool lazy_missing;       /* lazy loads cannot be had here, and that was said */
    bool postcopy_missing;   /* it cannot be had here, and that was said */
    FaultMap *fault_map;     /* NULL: not needed so far, as the next ones */
    LazyRun *lazy;
    PostcopyRun *postcopy;
    SetupRun *setup_run;
    GSList *kept;             /* see property_context_keep() */
    const Findings *findings; /* borrowed; NULL: none */
    FindingMode finding_mode;
};

/*
 * @state, the scratch of one property, is freed by @free with the context, and
 * before guest RAM: so the context needs to know nothing of that property.
 */
void property_context_keep(PropertyContext *context, void *state, GDestroyNotify free);

/* Sets @error; always false, so that a check can end with it. */
bool property_broken(const PropertyContext *context, PropertyId id, GError **error,
                     const char *format, ...) G_GNUC_PRINTF(4, 5);

/* The same of one block of the judged guest: the paragraph names it first. */
bool property_broken_block(const PropertyContext *context, PropertyId id, unsigned block,
                           GError **error, const char *format, ...) G_GNUC_PRINTF(5, 6);

/* One case: a file, who reads it, and what is made to go wrong meanwhile. */
typedef struct LoadCase {
    const SparseFile *file;
    const Guest *guest; /* borrowed */
    uint8_t before;     /* what small blocks hold before the load */
    bool reload;        /* load a right file afterwards */
    bool split;         /* load in two stages, too */
    bool lazy;          /* pages are cleared as they are touched */
    bool repaired;      /* a known finding was repaired: the file is not as it was made */
    uint64_t fail_read;
    bool fail_for_ever;
    uint8_t cut; /* in 256ths of the file's size, at fail_read; 0: not */
    uint64_t max_read_length;
    SubjectAxes axes;
    /* One block alone (property_header), else a whole file. */
    bool one_block;
    uint64_t header_offset;
    uint64_t used_length;
} LoadCase;

/* Judges the case's file into context->judgement. */
void judge_case(PropertyContext *context, const LoadCase *c);

/* The verdict on a load of these stages: the header stage alone does not look at pages. */
Verdict verdict_for(const PropertyContext *context, SubjectStages stages);

/* Would it take too long to judge? (A walk may have to look at every byte.) */
bool file_is_too_large(const SparseFile *file);

/* Would loading it take more than one execution may? Needs judge_case(). */
bool case_is_too_large(const PropertyContext *context, const LoadCase *c);

/* One load of a case by the context's subject, and what it cost. */
typedef struct CaseLoad {
    SubjectLoad load;
    SubjectStatus status;
    GError *refusal; /* the subject's, or NULL */
    AllocMeter meter;
} CaseLoad;

void case_load_clear(CaseLoad *run);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(CaseLoad, case_load_clear)

/*
 * Prepares guest RAM and runs the subject on the case; checks nothing. @log:
 * see SubjectCost.log. False: there is no memory for guest RAM.
 */
bool run_load(PropertyContext *context, const LoadCase *c, SubjectStages stages, GArray *log,
              CaseLoad *run, GError **error);

/* Decodes an input of any of the kinds that load a file, repairs it, and judges it. False: it is
   none of them, or too large. */
bool begin_input(PropertyContext *context, const uint8_t *data, size_t size, LoadCase *c);

/*
 * Prepares guest RAM, runs the subject on the case, and checks bounded,
 * clean-reject, agrees and eager=model against context->judgement. On
 * acceptance @accepted is true; else *@refusal is the subject's error, to be
 * freed, or NULL if the subject cannot do it. False: a property is broken.
 */
bool check_load(PropertyContext *context, const LoadCase *c, SubjectStages stages, bool *accepted,
                GError **refusal, GError **error);

/* A load as the subject is to do it, but for RAM. */
SubjectLoad subject_load(const PropertyContext *context, const LoadCase *c, SubjectStages stages);

/* Prepares guest RAM for @load; see check_load(). */
bool give_case_ram(PropertyContext *context, const LoadCase *c, SubjectLoad *load, GError **error);

/* bounded, clean-reject and agrees of a load that is over. */
bool check_outcome(PropertyContext *context, const LoadCase *c, const SubjectLoad *load,
                   const AllocMeter *meter, SubjectStatus status, const GError *refusal,
                   GError **error);

/* In the same process a right file loads nevertheless (clean-reject). */
bool check_reload(PropertyContext *context, GError **error);

/* Makes the input's file in context->file; *mutations of it were done. */
LoadCase make_case(PropertyContext *context, const Input *input, unsigned *mutations);

/* Judges; true if the case is one to go on with. */
bool begin_case(PropertyContext *context, LoadCase *c);

/* The judge accepts every file that was generated and not mutated. */
bool check_generator(PropertyContext *context, GError **error);

/* round-trip: saves the guest that was loaded and judged, and loads that eagerly. */
bool save_and_load(PropertyContext *context, LoadCase *c, GError **error);

/* check_load() whole; then, as the case asks, in two stages (split=whole), or of a right file. */
bool check_case(PropertyContext *context, const LoadCase *c, GError **error);

/* Is every byte of guest RAM what @judgement says (eager=model)? */
bool check_ram(PropertyContext *context, const Judgement *judgement, const SubjectBlock *blocks,
               GError **error);

/* Is everything beyond what a refused load may have written as before? */
bool check_ram_after_refusal(PropertyContext *context, const Judgement *judgement, GError **error);

#endif

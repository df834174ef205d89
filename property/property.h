/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The properties: what must hold of any loader of mapped-ram, on any input.
 *
 * Each is one C function that takes a fuzz input (property/input.h), makes a
 * case, runs a subject, and compares with the model. libFuzzer, AFL++ and the
 * cmocka tests all call these functions; there is no second copy of a check.
 */
#ifndef PAGEWISE_PROPERTY_PROPERTY_H
#define PAGEWISE_PROPERTY_PROPERTY_H

#include "property/findings.h"
#include "property/input.h"
#include "subject/subject.h"

#include <glib.h>

typedef enum PropertyId {
    PROPERTY_BOUNDED,              /* reads and allocations are in proportion */
    PROPERTY_CLEAN_REJECT,         /* a refusal says what, where and why; then all is as before */
    PROPERTY_AGREES,               /* accepts and refuses as the model says it must */
    PROPERTY_EAGER_MODEL,          /* eager=model: every byte of guest RAM is the model's */
    PROPERTY_SPLIT_WHOLE,          /* split=whole: two stages do what one does */
    PROPERTY_ROUND_TRIP,           /* round-trip: save then load is the identity */
    PROPERTY_MAPS,                 /* maps: an address leads to its page, bits and file offset */
    PROPERTY_POSTCOPY,             /* postcopy: nothing lost or twice, asked for as it has to be */
    PROPERTY_NO_SILENT_ZERO,       /* no zeroes and no endless sleep in place of data */
    PROPERTY_SETUP_UNDO,           /* setup-undo: what was taken is given back, always */
    PROPERTY_SAFE,                 /* no crash on any input */
    PROPERTY_NO_FUNCTIONAL_CHANGE, /* two trees answer alike: nfc.h */
    PROPERTY_LAZY_EAGER,           /* lazy=eager: loaded lazily, every page is the same */
    PROPERTY_ONCE,                 /* a page is installed once; the guest's own is left alone */
    PROPERTY_MODEL,                /* the model contradicts itself: a bug of pagewise */
} PropertyId;

/* The id as in the documentation: "eager=model". */
const char *property_id_name(PropertyId id);

/*
 * A broken property is a GError of this domain, its code a PropertyId, its
 * message the one paragraph that a person needs: property, subject, block,
 * page; what was expected and from where; what was found.
 */
#define PROPERTY_ERROR property_error_quark()
GQuark property_error_quark(void);

/* How often what was checked, so that a test can ask whether anything was. */
typedef struct PropertyStats {
    uint64_t executions;  /* inputs that were cases */
    uint64_t accepted;    /* loads */
    uint64_t refused;     /* loads */
    uint64_t either;      /* cases of VERDICT_MAY */
    uint64_t too_large;   /* cases left out: more RAM than one execution may load */
    uint64_t unsupported; /* loads that the subject cannot do */
    uint64_t lazy;        /* loads that were begun lazily */
    uint64_t faults;      /* that these served */
    uint64_t failed;      /* of these, loads that failed later than in the header stage */
    uint64_t left_out;    /* steps of schedules that the subject cannot do */
    uint64_t breaks;      /* of channels, that were noticed and mended or waited for */
    uint64_t pages;       /* guest pages whose bytes, or bits, were compared with the file's */
    uint64_t repaired;    /* cases that triggered a registered finding, and were repaired */
    uint64_t unrepaired;  /* of these, left out: FINDINGS_MAX_REPAIRS */
} PropertyStats;

/* Guest RAM, scratch files and counters for one subject; not for two threads at once. */
typedef struct PropertyContext PropertyContext;

PropertyContext *property_context_new(const Subject *subject);
void property_context_free(PropertyContext *context);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(PropertyContext, property_context_free)

const PropertyStats *property_context_stats(const PropertyContext *context);

/*
 * From now on every case is repaired first, so that it triggers none of
 * @findings in a load of @mode. They must outlive the context; NULL: no more.
 */
void property_context_set_findings(PropertyContext *context, const Findings *findings,
                                   FindingMode mode);

/*
 * How long property_lazy() waits for a thread of the loader that is to go on,
 * milliseconds; 10 s unless this was called. Before the first case.
 */
void property_context_set_patience(PropertyContext *context, unsigned milliseconds);

/*
 * True: the property holds, or @data is no input of the property's kind. False:
 * @error is set; a PROPERTY_ERROR, or what kept the case from being made (no
 * memory for guest RAM).
 */
typedef bool PropertyFunction(PropertyContext *context, const uint8_t *data, size_t size,
                              GError **error);

/* Header and bitmap of one block. */
bool property_header(PropertyContext *context, const uint8_t *data, size_t size, GError **error);

/* A whole file, given byte by byte. */
bool property_stream(PropertyContext *context, const uint8_t *data, size_t size, GError **error);

/* A whole file, generated right and then mutated. */
bool property_layout(PropertyContext *context, const uint8_t *data, size_t size, GError **error);

/* Load, save, load again; describe a file and make it anew. */
bool property_round_trip(PropertyContext *context, const uint8_t *data, size_t size,
                         GError **error);

/* A whole file as property_layout() has, loaded lazily by a schedule. */
bool property_lazy(PropertyContext *context, const uint8_t *data, size_t size, GError **error);
/* Where a fault would be served from: addresses against the model. */
bool property_fault_map(PropertyContext *context, const uint8_t *data, size_t size, GError **error);

/* Pages from a source, over channels that may break (docs/postcopy-wire.md). */
bool property_postcopy(PropertyContext *context, const uint8_t *data, size_t size, GError **error);
/* Set-up and tear-down in which calls fail, and a second one in which none does. */
bool property_setup(PropertyContext *context, const uint8_t *data, size_t size, GError **error);

typedef struct Property {
    const char *name; /* of the fuzz target without "fuzz-" */
    InputKind kind;
    PropertyFunction *function;
    /* Appends an input of a kind that has no file, as text; else NULL. */
    void (*describe)(const uint8_t *data, size_t size, GString *out);
} Property;

/* The property for inputs of @kind, or NULL. */
const Property *property_for_kind(unsigned kind);

#endif

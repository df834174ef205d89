/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The property no-functional-change: see nfc.h. Each load is written down as a
 * record of all that can be seen of it, and the records are compared.
 */
#include "property/nfc.h"

#include "property/context.h"

#include <inttypes.h>
#include <string.h>

#define HEAD 8

/* A page that is not as it was before the load. */
typedef struct NfcPage {
    uint64_t page; /* UINT64_MAX: the memory below the block */
    uint64_t hash;
    uint32_t block;
    uint8_t head[HEAD]; /* its first bytes, to be shown */
} NfcPage;

typedef struct NfcRecord {
    CaseLoad run;
    GArray *pages; /* of NfcPage */
    GArray *reads; /* of SubjectRead */
} NfcRecord;

typedef struct NfcSide {
    const char *name;
    PropertyContext *context;
    NfcRecord record;
} NfcSide;

struct NfcPair {
    NfcSide base;
    NfcSide series;
    unsigned aspects;
};

static const struct {
    const char *name;
    unsigned aspect;
} aspect_names[] = {
    { "verdict", NFC_VERDICT }, { "error", NFC_ERROR },       { "blocks", NFC_BLOCKS },
    { "ram", NFC_RAM },         { "position", NFC_POSITION }, { "reads", NFC_READS },
    { "all", NFC_ALL },
};

static unsigned aspect_by_name(const char *name)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(aspect_names); i++) {
        if (strcmp(aspect_names[i].name, name) == 0) {
            return aspect_names[i].aspect;
        }
    }
    return 0;
}

unsigned nfc_aspects_parse(const char *text)
{
    g_auto(GStrv) names = g_strsplit(text, ",", -1);
    unsigned aspects = 0;

    for (unsigned i = 0; names[i]; i++) {
        unsigned aspect = aspect_by_name(names[i]);

        if (!aspect) {
            return 0;
        }
        aspects |= aspect;
    }
    return aspects;
}

static void side_init(NfcSide *side, const char *name, const Subject *subject)
{
    side->name = name;
    side->context = property_context_new(subject);
    side->record.pages = g_array_new(FALSE, FALSE, sizeof(NfcPage));
    side->record.reads = g_array_new(FALSE, FALSE, sizeof(SubjectRead));
}

static void side_clear(NfcSide *side)
{
    case_load_clear(&side->record.run);
    property_context_free(side->context);
    g_array_unref(side->record.pages);
    g_array_unref(side->record.reads);
}

NfcPair *nfc_pair_new(const Subject *base, const Subject *series, unsigned aspects)
{
    NfcPair *pair = g_new0(NfcPair, 1);

    side_init(&pair->base, "base", base);
    side_init(&pair->series, "series", series);
    pair->aspects = aspects;
    return pair;
}

void nfc_pair_free(NfcPair *pair)
{
    side_clear(&pair->base);
    side_clear(&pair->series);
    g_free(pair);
}

void nfc_pair_set_findings(NfcPair *pair, const Findings *findings)
{
    property_context_set_findings(pair->base.context, findings, FINDING_MODE_PLAIN);
    property_context_set_findings(pair->series.context, findings, FINDING_MODE_PLAIN);
}

const PropertyStats *nfc_pair_stats(const NfcPair *pair)
{
    return property_context_stats(pair->base.context);
}

/* FNV-1a over words: the page's bytes as one number. */
static uint64_t hash_bytes(const uint8_t *bytes, size_t length)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);

    for (size_t i = 0; i + 8 <= length; i += 8) {
        uint64_t word;

        memcpy(&word, bytes + i, sizeof(word));
        hash = (hash ^ word) * UINT64_C(0x100000001b3);
        hash ^= hash >> 29;
    }
    return hash;
}

/* All pages of max_length: what is written beyond used_length shows, too. */
static void record_block(const GuestRam *ram, const Guest *guest, unsigned block, GArray *pages)
{
    uint64_t size = guest->target_page_size;
    uint64_t end = guest->blocks[block].max_length;
    uint64_t at;

    for (uint64_t from = 0; !guest_ram_is_untouched(ram, block, from, end, &at);
         from = (at / size + 1) * size) {
        const uint8_t *bytes = guest_ram_host(ram, block) + at / size * size;
        NfcPage page = { .page = at / size, .block = block, .hash = hash_bytes(bytes, size) };

        memcpy(page.head, bytes, HEAD);
        g_array_append_val(pages, page);
    }
    if (!guest_ram_slack_is_untouched(ram, block)) {
        NfcPage below = { .page = UINT64_MAX, .block = block };

        g_array_append_val(pages, below);
    }
}

static bool record_load(NfcSide *side, const LoadCase *c, SubjectStages stages, GError **error)
{
    NfcRecord *record = &side->record;

    case_load_clear(&record->run);
    g_array_set_size(record->pages, 0);
    g_array_set_size(record->reads, 0);
    record->run = (CaseLoad){ .refusal = NULL };
    if (!run_load(side->context, c, stages, record->reads, &record->run, error)) {
        return false;
    }
    for (unsigned i = 0; i < c->guest->n_blocks; i++) {
        record_block(side->context->ram, c->guest, i, record->pages);
    }
    return true;
}

static bool is_accepted(const NfcRecord *record)
{
    return record->run.status == SUBJECT_ACCEPTED;
}

/* A refusal without a message is another property's matter. */
static const char *refusal_text(const NfcRecord *record)
{
    return record->run.refusal ? record->run.refusal->message : "(no message)";
}

/* What a side did: free with g_free(). */
static char *verdict_text(const NfcRecord *record)
{
    return is_accepted(record) ? g_strdup("accepts the file")
                               : g_strdup_printf("refuses the file: %s", refusal_text(record));
}

static char *page_text(const NfcPage *page)
{
    GString *text;

    if (!page) {
        return g_strdup("leaves the page as it was before the load");
    }
    text = g_string_new("writes the page; it begins with");
    for (unsigned i = 0; i < HEAD; i++) {
        g_string_append_printf(text, " %02x", page->head[i]);
    }
    g_string_append_printf(text, ", all its bytes together give 0x%016" PRIx64, page->hash);
    return g_string_free(text, FALSE);
}

static char *read_text(const GArray *reads, unsigned index)
{
    const SubjectRead *read = &g_array_index(reads, SubjectRead, index);

    if (index >= reads->len) {
        return g_strdup("reads no further");
    }
    return g_strdup_printf("reads %" PRIu64 " bytes at file offset 0x%" PRIx64, read->length,
                           read->offset);
}

/* Takes the two texts. */
static bool differs(const NfcPair *pair, GError **error, const char *what, char *base, char *series)
{
    g_set_error(error, PROPERTY_ERROR, PROPERTY_NO_FUNCTIONAL_CHANGE,
                "property no-functional-change, subjects %s (base) and %s (series): %s. The base "
                "%s. The series %s",
                pair->base.context->subject->name, pair->series.context->subject->name, what, base,
                series);
    g_free(base);
    g_free(series);
    return false;
}

/*
 * What a reader says of a read that failed may come from memory that it never
 * wrote (QEMU: the finding idstr-uninitialised): with injected faults texts are
 * not compared.
 */
static bool texts_count(const NfcPair *pair, const LoadCase *c)
{
    return (pair->aspects & NFC_ERROR) && !c->fail_read && !c->cut && !c->max_read_length;
}

static bool compare_verdicts(const NfcPair *pair, const LoadCase *c, GError **error)
{
    const NfcRecord *a = &pair->base.record, *b = &pair->series.record;
    bool same = is_accepted(a) == is_accepted(b);

    if (!same && (pair->aspects & NFC_VERDICT)) {
        return differs(pair, error, "they differ in the verdict", verdict_text(a), verdict_text(b));
    }
    if (same && !is_accepted(a) && texts_count(pair, c) &&
        strcmp(refusal_text(a), refusal_text(b)) != 0) {
        return differs(pair, error, "they differ in the error's text", verdict_text(a),
                       verdict_text(b));
    }
    return true;
}

static bool compare_lengths(const NfcPair *pair, const Guest *guest, GError **error)
{
    const NfcRecord *a = &pair->base.record, *b = &pair->series.record;

    for (unsigned i = 0; is_accepted(a) && is_accepted(b) && i < guest->n_blocks; i++) {
        uint64_t base = a->run.load.blocks[i].used_length;
        uint64_t series = b->run.load.blocks[i].used_length;
        g_autofree char *what = NULL;

        if (base == series) {
            continue;
        }
        what = g_strdup_printf("they differ in block '%s'", guest->blocks[i].idstr);
        return differs(pair, error, what, g_strdup_printf("gives it 0x%" PRIx64 " bytes", base),
                       g_strdup_printf("gives it 0x%" PRIx64 " bytes", series));
    }
    return true;
}

static int page_order(const NfcPage *a, const NfcPage *b)
{
    if (a->block != b->block) {
        return a->block < b->block ? -1 : 1;
    }
    return a->page < b->page ? -1 : a->page > b->page;
}

static bool page_differs(const NfcPair *pair, const Guest *guest, const NfcPage *base,
                         const NfcPage *series, GError **error)
{
    const NfcPage *page = base ? base : series;
    g_autofree char *what = g_strdup_printf("they differ in block '%s', page %" PRIu64,
                                            guest->blocks[page->block].idstr, page->page);

    return differs(pair, error, what, page_text(base), page_text(series));
}

static bool compare_pages(const NfcPair *pair, const Guest *guest, GError **error)
{
    const GArray *a = pair->base.record.pages, *b = pair->series.record.pages;

    for (unsigned i = 0; i < a->len || i < b->len; i++) {
        const NfcPage *base = i < a->len ? &g_array_index(a, NfcPage, i) : NULL;
        const NfcPage *series = i < b->len ? &g_array_index(b, NfcPage, i) : NULL;
        int order = !base ? 1 : !series ? -1 : page_order(base, series);

        if (order != 0) {
            return page_differs(pair, guest, order < 0 ? base : NULL, order > 0 ? series : NULL,
                                error);
        }
        if (base->hash != series->hash) {
            return page_differs(pair, guest, base, series, error);
        }
    }
    return true;
}

static bool compare_positions(const NfcPair *pair, GError **error)
{
    uint64_t base = pair->base.record.run.load.end_position;
    uint64_t series = pair->series.record.run.load.end_position;

    return base == series ||
           differs(pair, error, "they differ in where the stream stands at the end",
                   g_strdup_printf("stands at file offset 0x%" PRIx64, base),
                   g_strdup_printf("stands at file offset 0x%" PRIx64, series));
}

static bool compare_reads(const NfcPair *pair, GError **error)
{
    const GArray *a = pair->base.record.reads, *b = pair->series.record.reads;

    for (unsigned i = 0; i < a->len || i < b->len; i++) {
        g_autofree char *what = NULL;

        if (i < a->len && i < b->len &&
            memcmp(&g_array_index(a, SubjectRead, i), &g_array_index(b, SubjectRead, i),
                   sizeof(SubjectRead)) == 0) {
            continue;
        }
        what = g_strdup_printf("they differ in read number %u", i + 1);
        return differs(pair, error, what, read_text(a, i), read_text(b, i));
    }
    return true;
}

static bool compare(const NfcPair *pair, const LoadCase *c, GError **error)
{
    const Guest *guest = c->guest;

    return compare_verdicts(pair, c, error) &&
           (!(pair->aspects & NFC_BLOCKS) || compare_lengths(pair, guest, error)) &&
           (!(pair->aspects & NFC_RAM) || compare_pages(pair, guest, error)) &&
           (!(pair->aspects & NFC_POSITION) || compare_positions(pair, error)) &&
           (!(pair->aspects & NFC_READS) || compare_reads(pair, error));
}

static void count_load(NfcPair *pair)
{
    PropertyStats *stats = &pair->base.context->stats;

    stats->accepted += is_accepted(&pair->base.record);
    stats->refused += pair->base.record.run.status == SUBJECT_REFUSED;
    stats->pages += pair->base.record.pages->len;
}

static bool compare_loads(NfcPair *pair, const LoadCase *c, SubjectStages stages, GError **error)
{
    if (!record_load(&pair->base, c, stages, error) ||
        !record_load(&pair->series, c, stages, error)) {
        return false;
    }
    if (pair->base.record.run.status == SUBJECT_UNSUPPORTED ||
        pair->series.record.run.status == SUBJECT_UNSUPPORTED) {
        pair->base.context->stats.unsupported++;
        return true;
    }
    count_load(pair);
    return compare(pair, c, error);
}

/* Threads read in another order each time, and end for another reason. */
static bool begin_single_threaded(PropertyContext *context, const uint8_t *data, size_t size,
                                  LoadCase *c)
{
    bool begun = begin_input(context, data, size, c);

    c->axes = (SubjectAxes){ .multifd_channels = 0 };
    return begun;
}

bool property_no_functional_change(NfcPair *pair, const uint8_t *data, size_t size, GError **error)
{
    LoadCase c;

    if (!begin_single_threaded(pair->base.context, data, size, &c)) {
        return true;
    }
    /* What a load may cost, and how short its reads are, follows from it. */
    pair->series.context->judgement = pair->base.context->judgement;
    return compare_loads(pair, &c, SUBJECT_WHOLE, error) &&
           (!c.split || compare_loads(pair, &c, SUBJECT_SPLIT, error));
}

static char *record_text(const NfcRecord *record, const Guest *guest)
{
    GString *text = g_string_new(NULL);
    g_autofree char *verdict = verdict_text(record);

    g_string_append_printf(text, "%s\n", verdict);
    for (unsigned i = 0; is_accepted(record) && i < guest->n_blocks; i++) {
        g_string_append_printf(text, "block '%s': 0x%" PRIx64 " bytes\n", guest->blocks[i].idstr,
                               record->run.load.blocks[i].used_length);
    }
    for (unsigned i = 0; i < record->pages->len; i++) {
        const NfcPage *page = &g_array_index(record->pages, NfcPage, i);
        g_autofree char *line = page_text(page);

        g_string_append_printf(text, "block '%s', page %" PRIu64 ": %s\n",
                               guest->blocks[page->block].idstr, page->page, line);
    }
    g_string_append_printf(text, "stands at file offset 0x%" PRIx64 "\n",
                           record->run.load.end_position);
    for (unsigned i = 0; i < record->reads->len; i++) {
        g_autofree char *line = read_text(record->reads, i);

        g_string_append_printf(text, "%s\n", line);
    }
    return g_string_free(text, FALSE);
}

char *nfc_record(NfcPair *pair, bool series, const uint8_t *data, size_t size, GError **error)
{
    NfcSide *side = series ? &pair->series : &pair->base;
    LoadCase c;

    if (!begin_single_threaded(side->context, data, size, &c)) {
        return g_strdup("is not asked: this is no input that loads a file, or it is too large\n");
    }
    if (!record_load(side, &c, SUBJECT_WHOLE, error)) {
        return NULL;
    }
    if (side->record.run.status == SUBJECT_UNSUPPORTED) {
        return g_strdup("cannot load this\n");
    }
    return record_text(&side->record, c.guest);
}

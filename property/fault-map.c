/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The property maps: an address of guest RAM -> block, host page, bits -> file
 * offset or zero, against model/fault.h; and what must hold whatever the model
 * says: a page is in its block and aligned, each of its bytes leads to it, no
 * two pages come from the same bytes of the file, and an address that is no
 * page's is refused with words. Pure: nothing is mapped and nothing is read.
 */
#include "property/fault-map.h"

#include "property/context.h"

#include <inttypes.h>
#include <string.h>

/* Asked about at once: each probe with its page's edges and a neighbour. */
#define MAX_FAULTS MAX(4 * INPUT_MAX_PROBES, INPUT_MAX_SWEEP)

typedef struct FaultMap {
    FaultMapCase c;
    unsigned n;
    SubjectMapping faults[MAX_FAULTS];
} FaultMap;

static void fault_map_free(void *opaque)
{
    FaultMap *map = opaque;

    fault_map_case_clear(&map->c);
    g_free(map);
}

static FaultMap *fault_map_of(PropertyContext *context)
{
    if (!context->fault_map) {
        context->fault_map = g_new0(FaultMap, 1);
        fault_map_case_init(&context->fault_map->c);
        property_context_keep(context, context->fault_map, fault_map_free);
    }
    return context->fault_map;
}

static void ask(FaultMap *map, uint64_t address)
{
    map->faults[map->n++] = (SubjectMapping){ .address = address };
}

/* Why is @address refused? Asks once more. Newly allocated; NULL: without a message. */
static char *words_of_refusal(PropertyContext *context, const FaultMap *map, uint64_t address)
{
    SubjectMapping again = { .address = address, .explain = true };
    g_autoptr(GError) refusal = NULL;

    context->subject->map_faults(&context->judgement.guest, map->c.blocks, &again, 1);
    refusal = again.error;
    return refusal && again.status == SUBJECT_REFUSED ? g_strdup(refusal->message) : NULL;
}

/* Of one refusal: to look at the words of each would take longer than all else. */
static bool check_words(PropertyContext *context, const FaultMap *map, uint64_t address,
                        GError **error)
{
    g_autofree char *words = words_of_refusal(context, map, address);
    char digits[17];

    g_snprintf(digits, sizeof(digits), "%" PRIx64, address);
    return (words && strstr(words, digits)) ||
           property_broken(context, PROPERTY_MAPS, error,
                           "address 0x%" PRIx64 " is refused, but the message does not name it: %s",
                           address, words ? words : "(no message)");
}

static bool wrong_refusal(PropertyContext *context, const FaultMap *map, uint64_t address,
                          const FaultAnswer *expected, GError **error)
{
    g_autofree char *words = words_of_refusal(context, map, address);

    return property_broken_block(context, PROPERTY_MAPS, expected->block, error,
                                 "address 0x%" PRIx64 ", in the host page at offset 0x%" PRIx64
                                 ", is refused: %s",
                                 address, expected->offset, words ? words : "(no message)");
}

static bool wrong_answer(PropertyContext *context, const SubjectMapping *fault,
                         const FaultAnswer *expected, const char *what, uint64_t found,
                         uint64_t wanted, GError **error)
{
    return property_broken_block(context, PROPERTY_MAPS, expected->block, error,
                                 "address 0x%" PRIx64 ", byte 0x%" PRIx64
                                 " of the host page at offset 0x%" PRIx64 ": %s is 0x%" PRIx64
                                 ", expected 0x%" PRIx64 " (page %" PRIu64 " and %" PRIu64
                                 " more: %s, rules G1 and G2)",
                                 fault->address, fault->address % expected->length,
                                 expected->offset, what, found, wanted, expected->first_page,
                                 expected->n_pages - 1, fault_source_name(expected->source));
}

static bool is_same_place(const FaultAnswer *a, const FaultAnswer *b)
{
    return a->block == b->block && a->offset == b->offset && a->length == b->length &&
           a->first_page == b->first_page && a->n_pages == b->n_pages && a->source == b->source &&
           (b->source == FAULT_ZERO || a->file_offset == b->file_offset);
}

/* Always false. */
static bool tell_difference(PropertyContext *context, const SubjectMapping *fault,
                            const FaultAnswer *expected, GError **error)
{
    const FaultAnswer *found = &fault->answer;
    const struct {
        const char *what;
        uint64_t found;
        uint64_t expected;
    } fields[] = {
        { "the block's number", found->block, expected->block },
        { "the page's offset in the block", found->offset, expected->offset },
        { "its length", found->length, expected->length },
        { "its first bit", found->first_page, expected->first_page },
        { "its number of bits", found->n_pages, expected->n_pages },
        { "its source (0 zero, 1 file, 2 mixed)", found->source, expected->source },
        { "its file offset", found->file_offset, expected->file_offset },
    };
    unsigned i = 0;

    while (fields[i].found == fields[i].expected) {
        i++;
    }
    return wrong_answer(context, fault, expected, fields[i].what, fields[i].found,
                        fields[i].expected, error);
}

static bool check_answer(PropertyContext *context, const SubjectMapping *fault,
                         const FaultAnswer *expected, GError **error)
{
    context->stats.accepted++;
    context->stats.pages += expected->n_pages;
    return is_same_place(&fault->answer, expected) ||
           tell_difference(context, fault, expected, error);
}

/* What holds of any answer, whatever the model says. */
static bool check_page(PropertyContext *context, const FaultMapCase *c, const SubjectMapping *fault,
                       GError **error)
{
    const Guest *guest = &context->judgement.guest;
    const FaultAnswer *page = &fault->answer;
    uint64_t host_page;

    if (page->block >= guest->n_blocks) {
        return property_broken(context, PROPERTY_MAPS, error,
                               "address 0x%" PRIx64 " is mapped to block number %u of %u",
                               fault->address, page->block, guest->n_blocks);
    }
    host_page = guest->blocks[page->block].host_page_size;
    if (page->offset % host_page || page->length != host_page ||
        page->length > guest->blocks[page->block].used_length ||
        page->offset > guest->blocks[page->block].used_length - page->length) {
        return property_broken_block(context, PROPERTY_MAPS, page->block, error,
                                     "address 0x%" PRIx64 " is mapped to 0x%" PRIx64
                                     " bytes at offset 0x%" PRIx64 ": no host page (of 0x%" PRIx64
                                     " bytes) below used_length 0x%" PRIx64,
                                     fault->address, page->length, page->offset, host_page,
                                     guest->blocks[page->block].used_length);
    }
    if (fault->address - c->hosts[page->block] - page->offset >= page->length) {
        return property_broken_block(context, PROPERTY_MAPS, page->block, error,
                                     "address 0x%" PRIx64 " is not in the host page at offset "
                                     "0x%" PRIx64 " to which it is mapped",
                                     fault->address, page->offset);
    }
    return true;
}

static bool check_fault(PropertyContext *context, FaultMap *map, const SubjectMapping *fault,
                        GError **error)
{
    const FaultMapCase *c = &map->c;
    FaultAnswer expected;
    bool inside = judgement_fault(&context->judgement, c->hosts, fault->address, &expected);

    if (fault->status != SUBJECT_ACCEPTED && inside) {
        return wrong_refusal(context, map, fault->address, &expected, error);
    }
    if (fault->status != SUBJECT_ACCEPTED) {
        context->stats.refused++;
        /* Of the questions that are put at once, the first. */
        return fault != map->faults || check_words(context, map, fault->address, error);
    }
    if (!check_page(context, c, fault, error)) {
        return false;
    }
    if (!inside) {
        return property_broken_block(context, PROPERTY_MAPS, fault->answer.block, error,
                                     "address 0x%" PRIx64 " is in no whole host page of a block "
                                     "that is in the file, but it is mapped to offset 0x%" PRIx64,
                                     fault->address, fault->answer.offset);
    }
    return check_answer(context, fault, &expected, error);
}

static bool overlap(uint64_t a, uint64_t b, uint64_t length_a, uint64_t length_b)
{
    return a < b + length_b && b < a + length_a;
}

/* Two pages: the same one, or no byte of the file is of both. */
static bool check_pair(PropertyContext *context, const SubjectMapping *one,
                       const SubjectMapping *two, GError **error)
{
    const FaultAnswer *a = &one->answer;
    const FaultAnswer *b = &two->answer;

    if ((a->block == b->block && a->offset == b->offset) ||
        !overlap(a->file_offset, b->file_offset, a->length, b->length)) {
        return true;
    }
    return property_broken_block(context, PROPERTY_MAPS, a->block, error,
                                 "addresses 0x%" PRIx64 " and 0x%" PRIx64 ", of different host "
                                 "pages, are both mapped to bytes of the file between 0x%" PRIx64
                                 " and 0x%" PRIx64,
                                 one->address, two->address, MAX(a->file_offset, b->file_offset),
                                 MIN(a->file_offset + a->length, b->file_offset + b->length));
}

static bool check_pairs(PropertyContext *context, const FaultMap *map, GError **error)
{
    const SubjectMapping *from_file[MAX_FAULTS];
    unsigned n = 0;

    for (unsigned i = 0; i < map->n; i++) {
        const SubjectMapping *fault = &map->faults[i];

        if (fault->status != SUBJECT_ACCEPTED || fault->answer.source == FAULT_ZERO) {
            continue;
        }
        for (unsigned k = 0; k < n; k++) {
            if (!check_pair(context, fault, from_file[k], error)) {
                return false;
            }
        }
        from_file[n++] = fault;
    }
    return true;
}

/* Puts the questions to the subject and checks the answers. */
static bool check_questions(PropertyContext *context, FaultMap *map, GError **error)
{
    bool holds = true;

    if (context->subject->map_faults(&context->judgement.guest, map->c.blocks, map->faults,
                                     map->n) == SUBJECT_UNSUPPORTED) {
        context->stats.unsupported++;
        map->n = 0;
        return true;
    }
    for (unsigned i = 0; i < map->n && holds; i++) {
        holds = check_fault(context, map, &map->faults[i], error);
    }
    holds = holds && check_pairs(context, map, error);
    map->n = 0;
    return holds;
}

/* Both ends of a probe's page, and the byte beyond one of them. */
static void ask_around(FaultMap *map, uint64_t probe, const FaultAnswer *page)
{
    uint64_t start = map->c.hosts[page->block] + page->offset;
    uint64_t end = start + page->length;

    if (probe != start) {
        ask(map, start);
    }
    if (probe != end - 1) {
        ask(map, end - 1);
    }
    ask(map, probe - start < page->length / 2 ? start - 1 : end);
}

static bool check_probes(PropertyContext *context, FaultMap *map, GError **error)
{
    for (unsigned i = 0; i < map->c.n_probes; i++) {
        uint64_t probe = map->c.probes[i];
        FaultAnswer page;

        ask(map, probe);
        if (judgement_fault(&context->judgement, map->c.hosts, probe, &page)) {
            ask_around(map, probe, &page);
        }
    }
    return check_questions(context, map, error);
}

/* Of each host page the first byte or the last, in turns. */
static bool sweep_block(PropertyContext *context, FaultMap *map, unsigned block, unsigned *left,
                        GError **error)
{
    const GuestBlock *guest = &context->judgement.guest.blocks[block];
    uint64_t last = guest->host_page_size - 1;

    for (uint64_t at = 0; at<guest->used_length && * left> 0; at += guest->host_page_size) {
        ask(map, map->c.hosts[block] + at + (*left % 2 ? last : 0));
        *left -= 1;
        if (map->n == MAX_FAULTS && !check_questions(context, map, error)) {
            return false;
        }
    }
    return true;
}

static bool sweep(PropertyContext *context, FaultMap *map, GError **error)
{
    unsigned left = INPUT_MAX_SWEEP;

    for (unsigned i = 0; i < context->judgement.guest.n_blocks; i++) {
        if (!sweep_block(context, map, i, &left, error)) {
            return false;
        }
    }
    return check_questions(context, map, error);
}

bool property_fault_map(PropertyContext *context, const uint8_t *data, size_t size, GError **error)
{
    FaultMap *map;

    if (size < 2 || data[0] != INPUT_VERSION || data[1] != INPUT_FAULT_MAP) {
        return true;
    }
    context->stats.executions++;
    if (!context->subject->map_faults) {
        context->stats.unsupported++;
        return true;
    }
    map = fault_map_of(context);
    fault_map_case_decode(&map->c, data, size, context->file, &context->judgement);
    return check_probes(context, map, error) && (!map->c.sweep || sweep(context, map, error));
}

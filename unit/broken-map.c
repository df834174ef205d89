/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See broken-subject.h: loaders that map an address of guest RAM wrongly. */
#include "unit/broken-subject.h"

#include <string.h>

/* Changes one answer of the reference loader. */
typedef void Change(const Guest *guest, const SubjectBlock *blocks, SubjectMapping *fault);

static SubjectStatus map_and_change(const Guest *guest, const SubjectBlock *blocks,
                                    SubjectMapping *faults, unsigned n, Change *change)
{
    SubjectStatus status = subject_reference()->map_faults(guest, blocks, faults, n);

    for (unsigned i = 0; i < n; i++) {
        change(guest, blocks, &faults[i]);
    }
    return status;
}

static uint64_t host_of(const SubjectBlock *blocks, unsigned block)
{
    return (uintptr_t)blocks[block].host;
}

static void refuse(SubjectMapping *fault, const char *words)
{
    g_clear_error(&fault->error);
    fault->status = SUBJECT_REFUSED;
    if (words && fault->explain) {
        fault->error = g_error_new_literal(G_FILE_ERROR, G_FILE_ERROR_INVAL, words);
    }
}

static void accept(SubjectMapping *fault, unsigned block, uint64_t offset, uint64_t length)
{
    g_clear_error(&fault->error);
    fault->status = SUBJECT_ACCEPTED;
    fault->answer = (FaultAnswer){ .block = block, .offset = offset, .length = length };
}

/* The last byte of a page is taken for one of the next. */
static void rounds_up(const Guest *guest, const SubjectBlock *blocks, SubjectMapping *fault)
{
    FaultAnswer *answer = &fault->answer;

    (void)guest;
    if (fault->status == SUBJECT_ACCEPTED &&
        fault->address - host_of(blocks, answer->block) == answer->offset + answer->length - 1) {
        answer->offset += answer->length;
        answer->file_offset += answer->length;
    }
}

static void does_not_align(const Guest *guest, const SubjectBlock *blocks, SubjectMapping *fault)
{
    (void)guest;
    if (fault->status == SUBJECT_ACCEPTED) {
        fault->answer.offset = fault->address - host_of(blocks, fault->answer.block);
    }
}

static void keeps_the_byte(const Guest *guest, const SubjectBlock *blocks, SubjectMapping *fault)
{
    (void)guest;
    if (fault->status == SUBJECT_ACCEPTED) {
        fault->answer.file_offset +=
            (fault->address - host_of(blocks, fault->answer.block)) % fault->answer.length;
    }
}

static void forgets_pages_offset(const Guest *guest, const SubjectBlock *blocks,
                                 SubjectMapping *fault)
{
    (void)guest;
    if (fault->status == SUBJECT_ACCEPTED) {
        fault->answer.file_offset -= blocks[fault->answer.block].pages_offset;
    }
}

/* Takes the number of a host page for that of a bit. */
static void confuses_page_sizes(const Guest *guest, const SubjectBlock *blocks,
                                SubjectMapping *fault)
{
    (void)guest;
    (void)blocks;
    if (fault->status == SUBJECT_ACCEPTED) {
        fault->answer.first_page = fault->answer.offset / fault->answer.length;
    }
}

static void counts_a_bit_too_many(const Guest *guest, const SubjectBlock *blocks,
                                  SubjectMapping *fault)
{
    (void)guest;
    (void)blocks;
    fault->answer.n_pages++;
}

static void looks_at_one_bit(const Guest *guest, const SubjectBlock *blocks, SubjectMapping *fault)
{
    uint64_t bit = fault->answer.first_page;

    (void)guest;
    if (fault->status == SUBJECT_ACCEPTED) {
        fault->answer.source = blocks[fault->answer.block].file_bmap[bit / 64] >> (bit % 64) & 1
                                   ? FAULT_FILE
                                   : FAULT_ZERO;
    }
}

static void has_offsets_of_32_bits(const Guest *guest, const SubjectBlock *blocks,
                                   SubjectMapping *fault)
{
    (void)guest;
    (void)blocks;
    fault->answer.file_offset = (uint32_t)fault->answer.file_offset;
}

static void maps_all_to_one_place(const Guest *guest, const SubjectBlock *blocks,
                                  SubjectMapping *fault)
{
    (void)guest;
    fault->answer.file_offset = blocks[0].pages_offset;
}

/* Host pages that used_length covers in part. */
static void maps_the_tail(const Guest *guest, const SubjectBlock *blocks, SubjectMapping *fault)
{
    for (unsigned i = 0; i < guest->n_blocks && fault->status == SUBJECT_REFUSED; i++) {
        uint64_t length = guest->blocks[i].host_page_size;
        uint64_t at = fault->address - host_of(blocks, i);

        if (blocks[i].in_file && at < blocks[i].used_length) {
            accept(fault, i, at / length * length, length);
        }
    }
}

static void maps_what_is_not_in_the_file(const Guest *guest, const SubjectBlock *blocks,
                                         SubjectMapping *fault)
{
    for (unsigned i = 0; i < guest->n_blocks && fault->status == SUBJECT_REFUSED; i++) {
        uint64_t length = guest->blocks[i].host_page_size;
        uint64_t at = fault->address - host_of(blocks, i);

        if (!blocks[i].in_file && at < blocks[i].used_length / length * length) {
            accept(fault, i, at / length * length, length);
        }
    }
}

static void refuses_the_last_page(const Guest *guest, const SubjectBlock *blocks,
                                  SubjectMapping *fault)
{
    const FaultAnswer *answer = &fault->answer;

    (void)guest;
    if (fault->status == SUBJECT_ACCEPTED &&
        blocks[answer->block].used_length - answer->offset < 2 * answer->length) {
        refuse(fault, "no");
    }
}

static void takes_another_block(const Guest *guest, const SubjectBlock *blocks,
                                SubjectMapping *fault)
{
    (void)blocks;
    if (fault->status == SUBJECT_ACCEPTED) {
        fault->answer.block = (fault->answer.block + 1) % guest->n_blocks;
    }
}

static void has_a_block_too_many(const Guest *guest, const SubjectBlock *blocks,
                                 SubjectMapping *fault)
{
    (void)blocks;
    fault->answer.block = guest->n_blocks;
}

static void says_nothing(const Guest *guest, const SubjectBlock *blocks, SubjectMapping *fault)
{
    (void)guest;
    (void)blocks;
    if (fault->status == SUBJECT_REFUSED) {
        refuse(fault, NULL);
    }
}

static void names_no_address(const Guest *guest, const SubjectBlock *blocks, SubjectMapping *fault)
{
    (void)guest;
    (void)blocks;
    if (fault->status == SUBJECT_REFUSED) {
        refuse(fault, "somewhere outside");
    }
}

#define FAULTS(X)                                                                                  \
    X(rounds_up, "is not in the host page")                                                        \
    X(does_not_align, "no host page")                                                              \
    X(keeps_the_byte, "its file offset is")                                                        \
    X(forgets_pages_offset, "its file offset is")                                                  \
    X(confuses_page_sizes, "its first bit is")                                                     \
    X(counts_a_bit_too_many, "its number of bits is")                                              \
    X(looks_at_one_bit, "its source")                                                              \
    X(has_offsets_of_32_bits, "its file offset is")                                                \
    X(maps_all_to_one_place, "its file offset is")                                                 \
    X(maps_the_tail, "below used_length")                                                          \
    X(maps_what_is_not_in_the_file, "is in no whole host page")                                    \
    X(refuses_the_last_page, "is refused: no")                                                     \
    X(takes_another_block, "block")                                                                \
    X(has_a_block_too_many, "to block number")                                                     \
    X(says_nothing, "(no message)")                                                                \
    X(names_no_address, "does not name it")

#define DEFINE_SUBJECT(fault, words)                                                               \
    static SubjectStatus map_##fault(const Guest *guest, const SubjectBlock *blocks,               \
                                     SubjectMapping *faults, unsigned n)                           \
    {                                                                                              \
        return map_and_change(guest, blocks, faults, n, fault);                                    \
    }

FAULTS(DEFINE_SUBJECT)

#define ENTRY(fault, words)                                                                        \
    { .subject = { .name = #fault, .map_faults = map_##fault },                                    \
      .kind = INPUT_FAULT_MAP,                                                                     \
      .property = PROPERTY_MAPS,                                                                   \
      .message = words },

const BrokenSubject *broken_maps(unsigned *n)
{
    static const BrokenSubject table[] = { FAULTS(ENTRY) };

    *n = G_N_ELEMENTS(table);
    return table;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See fault.h. */
#include "model/fault.h"

const char *fault_source_name(FaultSource source)
{
    static const char *const names[] = {
        [FAULT_ZERO] = "zero",
        [FAULT_FILE] = "file",
        [FAULT_MIXED] = "mixed",
    };

    return names[source];
}

static uint64_t ones(unsigned n)
{
    return n < 64 ? (UINT64_C(1) << n) - 1 : UINT64_MAX;
}

/* Of the target pages [first, first + n), how many have their bit set? */
static uint64_t count_in_file(const Judgement *judgement, unsigned block, uint64_t first,
                              uint64_t n)
{
    uint64_t count = 0;

    for (uint64_t page = first; page < first + n;) {
        unsigned at = page % 64;
        unsigned bits = MIN(64 - at, first + n - page);
        uint64_t word = judgement_pages_in_word(judgement, block, page / 64);

        count += (unsigned)__builtin_popcountll(word >> at & ones(bits));
        page += bits;
    }
    return count;
}

/* Bytes from the block's start that whole host pages below used_length cover. */
static uint64_t covered_length(const JudgedBlock *judged, uint64_t host_page)
{
    if (!judged->in_file || judged->ignored) {
        return 0; /* G3 */
    }
    return judged->used_length / host_page * host_page;
}

bool judgement_fault(const Judgement *judgement, const uint64_t hosts[], uint64_t address,
                     FaultAnswer *answer)
{
    uint64_t target_page = judgement->guest.target_page_size;

    for (unsigned i = 0; i < judgement->guest.n_blocks; i++) {
        uint64_t host_page = judgement->guest.blocks[i].host_page_size;
        const JudgedBlock *judged = &judgement->blocks[i];
        uint64_t first, end, in_file;

        if (address < hosts[i] || address - hosts[i] >= judged->used_length ||
            address - hosts[i] >= covered_length(judged, host_page)) {
            continue;
        }
        first = (address - hosts[i]) / host_page * host_page;
        end = first + host_page;
        *answer = (FaultAnswer){
            .block = i,
            .offset = first,
            .length = host_page,
            .first_page = first / target_page,
            .n_pages = (end + target_page - 1) / target_page - first / target_page,
            .file_offset = judged->pages_offset + first, /* G1 */
        };
        in_file = count_in_file(judgement, i, answer->first_page, answer->n_pages);
        if (in_file > 0) {
            answer->source = in_file == answer->n_pages ? FAULT_FILE : FAULT_MIXED;
        }
        return true;
    }
    return false;
}

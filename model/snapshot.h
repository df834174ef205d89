/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A description of a snapshot that can express wrong files as well as right
 * ones: every field as it will be written, and where the bitmap and the pages
 * really lie, separately from what the header says of them.
 *
 *     entropy --snapshot_generate--> Snapshot --snapshot_mutate--> Snapshot
 *             --snapshot_encode--> SparseFile;  text <--> Snapshot
 *
 * It answers to docs/mapped-ram-format.md. It does not judge: judge.h does.
 * Nothing here has threads or does I/O; a Snapshot belongs to one thread.
 */
#ifndef PAGEWISE_MODEL_SNAPSHOT_H
#define PAGEWISE_MODEL_SNAPSHOT_H

#include "model/choices.h"
#include "model/guest.h"
#include "model/sparse-file.h"

#define SNAPSHOT_MAGIC 0x5145564dU
#define SNAPSHOT_STREAM_VERSION 3
#define SNAPSHOT_PAGES_ALIGNMENT 0x100000
#define SNAPSHOT_MAX_GENERATED_BLOCKS 8 /* corpora depend on it */
#define SNAPSHOT_HEADER_SIZE 28         /* MappedRamHeader, bytes */
#define SNAPSHOT_EOS 0x10
#define SNAPSHOT_MEM_SIZE 0x04

enum {
    SNAPSHOT_SECTION_EOF = 0x00,
    SNAPSHOT_SECTION_START = 0x01,
    SNAPSHOT_SECTION_PART = 0x02,
    SNAPSHOT_SECTION_END = 0x03,
    SNAPSHOT_SECTION_FULL = 0x04,
    SNAPSHOT_SUBSECTION = 0x05,
    SNAPSHOT_SECTION_VMDESCRIPTION = 0x06,
    SNAPSHOT_CONFIGURATION = 0x07,
    SNAPSHOT_SECTION_COMMAND = 0x08,
    SNAPSHOT_SECTION_FOOTER = 0x7e,
};

/* What a run of pages of a block holds. */
typedef enum PageContent {
    CONTENT_PATTERN,    /* sparse_pattern(seed, file offset), bit set */
    CONTENT_FILL,       /* the byte @seed, bit set */
    CONTENT_DATA,       /* literal bytes, then a hole, bit set */
    CONTENT_ABSENT,     /* bit set, but nothing written: a hole reads as zeroes */
    CONTENT_STALE,      /* bit clear, but a pattern is there all the same (P3) */
    CONTENT_STALE_DATA, /* bit clear, but literal bytes are there (P3) */
    CONTENT__MAX,
} PageContent;

/*
 * A run may lie beyond the last page: its bits are set as far as the bitmap's
 * words go (so CONTENT_ABSENT there expresses rule B5).
 */
typedef struct PageRun {
    uint64_t first; /* page number in the block */
    uint64_t count; /* pages */
    PageContent content;
    uint32_t seed;
    uint32_t data_length; /* bytes; what of them is beyond the run is not written */
    const uint8_t *data;  /* in the Snapshot's arena, snapshot_alloc() */
} PageRun;

typedef struct SnapshotBlock {
    uint8_t idstr_length; /* as written; the bytes are idstr[0..idstr_length) */
    char idstr[256];
    uint64_t used_length; /* as written */
    bool has_gpa;
    bool ignored; /* rule X2: snapshot_layout() makes it a record without pages */
    uint64_t gpa;
    /* MappedRamHeader as written */
    uint32_t version;
    uint64_t page_size;
    uint64_t bitmap_offset;
    uint64_t pages_offset;
    /* Where things are put; the record itself starts at @record_at. */
    uint64_t record_at;
    uint64_t bitmap_at;
    uint64_t bitmap_pages; /* pages that the written bitmap covers: its length */
    uint64_t pages_at;
    GArray *runs; /* of PageRun */
} SnapshotBlock;

typedef struct SnapshotCapability {
    uint8_t length;
    char name[256];
} SnapshotCapability;

typedef struct SnapshotSubsection {
    uint8_t name_length;
    char name[256];
    uint32_t version;
    uint32_t contents_length; /* bytes */
    /* In the Snapshot's arena. NULL: the capabilities' count and list. */
    const uint8_t *contents;
} SnapshotSubsection;

typedef struct SnapshotPool SnapshotPool;

typedef struct Snapshot {
    uint32_t magic;
    uint32_t stream_version;
    uint8_t configuration_type;
    uint32_t machine_length;   /* as written */
    GByteArray *machine;       /* the bytes written */
    GArray *subsections;       /* of SnapshotSubsection, in order */
    uint32_t capability_count; /* as written */
    GArray *capabilities;      /* of SnapshotCapability */
    uint8_t section_type;
    uint32_t section_id;
    uint8_t section_name_length;
    char section_name[256];
    uint32_t instance_id;
    uint32_t section_version;
    uint64_t total;    /* the first word, flags included, as written */
    GPtrArray *blocks; /* of SnapshotBlock, in file order; the pool owns them */
    uint64_t tail_at;  /* where the EOS word is put */
    uint64_t eos;
    uint8_t footer_type;
    uint32_t footer_id;
    GByteArray *tail;         /* what follows the START section's footer, verbatim */
    uint64_t page_size;       /* the target's page size, bytes: unit of PageRun */
    uint64_t pages_alignment; /* of the last snapshot_layout(), bytes */
    /*
     * Of SparseExtent, in no order: put over the encoded file at the end,
     * wherever they hit. Their data are in the arena.
     */
    GArray *pokes;
    bool truncate; /* cut or extend the file to @file_size at the very end */
    uint64_t file_size;
    SnapshotPool *pool; /* memory kept over a reset */
} Snapshot;

/*
 * A snapshot without blocks that is right for the machine "none", with the
 * capability mapped-ram and section id 2; reset brings it back to that and
 * keeps memory for reuse: once warm, a fuzz target's loop allocates nothing.
 * The tail is empty until it is set, snapshot_append_tail().
 */
Snapshot *snapshot_new(void);
void snapshot_free(Snapshot *snapshot);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Snapshot, snapshot_free)
void snapshot_reset(Snapshot *snapshot);

/* Makes @to an equal description; shares nothing with @from. */
void snapshot_copy(Snapshot *to, const Snapshot *from);

/* @length bytes that live until the snapshot is reset or freed; never NULL. */
uint8_t *snapshot_alloc(Snapshot *snapshot, size_t length);

/*
 * Adds a block behind the last one: version 1, the snapshot's page size, no
 * pages. Runs are added with snapshot_block_add_run(), offsets are set by
 * snapshot_layout(). The block belongs to the snapshot. @idstr beyond its
 * 255th byte is cut off.
 */
SnapshotBlock *snapshot_add_block(Snapshot *snapshot, const char *idstr, uint64_t used_length);
void snapshot_block_add_run(SnapshotBlock *block, PageRun run);

void snapshot_add_capability(Snapshot *snapshot, const char *name);

/* @contents is copied; NULL for the capabilities' subsection. */
void snapshot_add_subsection(Snapshot *snapshot, const char *name, const void *contents,
                             uint32_t length);

void snapshot_set_machine(Snapshot *snapshot, const void *name, uint32_t length);

/* @bytes are copied. */
void snapshot_add_poke(Snapshot *snapshot, uint64_t offset, const void *bytes, size_t length);

/* One item of the tail (sections 4 and 10 of the document), appended. */
void snapshot_append_ram_section(GByteArray *tail, uint8_t type, uint32_t section_id);
void snapshot_append_command(GByteArray *tail, uint16_t command, const void *data, uint16_t length);
/* START or FULL as @type, up to and with the version; the contents are yours. */
void snapshot_append_section(GByteArray *tail, uint8_t type, uint32_t section_id, const char *name,
                             uint32_t instance_id, uint32_t version);
/* What QEMU writes without devices: SWITCHOVER_START, END of ram, EOF. */
void snapshot_append_tail(GByteArray *tail, uint32_t section_id);

/*
 * Places all records, bitmaps and pages as QEMU does (section 11): sets
 * machine_length, capability_count, all offsets, bitmap_pages, total, tail_at.
 * @pages_alignment: bytes, not 0. Arithmetic wraps around for lengths that no
 * file can have.
 */
void snapshot_layout(Snapshot *snapshot, uint64_t pages_alignment);

/* Where fields really are in the encoded file: bytes from its start. */
uint64_t snapshot_total_at(const Snapshot *snapshot);
uint64_t snapshot_section_at(const Snapshot *snapshot);
uint64_t snapshot_block_header_at(const SnapshotBlock *block);
uint64_t snapshot_block_bitmap_length(const SnapshotBlock *block); /* bytes */
uint64_t snapshot_tail_end(const Snapshot *snapshot);

static inline SnapshotBlock *snapshot_block(const Snapshot *snapshot, unsigned index)
{
    return (SnapshotBlock *)snapshot->blocks->pdata[index];
}

/*
 * Draws a guest and a snapshot that is right for it: every reader must accept
 * it (the judge says VERDICT_ACCEPT for any entropy whatsoever). Overwrites
 * both. Small blocks mostly, block edges at 63/64/65 pages, now and then one
 * of gigabytes; other page sizes, capabilities, bits and tails now and then.
 * @max_block_bytes, at least 64 KiB, bounds each block's max_length.
 */
void snapshot_generate(Choices *choices, uint64_t max_block_bytes, Snapshot *snapshot,
                       Guest *guest);

/*
 * Turns a generated description, not mutated yet, into one that is right for
 * @guest: machine, capabilities, page size and blocks become the guest's, the
 * file ends as without devices. Which pages are set, with what, the section's
 * id and the alignment stay, as far as the guest has room.
 */
void snapshot_fit(Snapshot *snapshot, const Guest *guest);

/* Which mutations there are: more in each version, and the same choices mean others. */
#define SNAPSHOT_MUTATIONS_NEWEST 1
#define SNAPSHOT_N_MUTATIONS 42
/* From this one on they bring fields together that no other mutation does. */
#define SNAPSHOT_FIRST_RELATION 39

/*
 * Applies mutations drawn from @choices until it is exhausted or @max are
 * done: fields to boundary values, lengths, offsets, bits, order, duplicates,
 * overlaps, sentinel headers, capabilities, tail, truncation, pokes. @version:
 * 0 to SNAPSHOT_MUTATIONS_NEWEST; above, as the newest. Returns how many were
 * applied; one that finds nothing to work on is skipped. If @log is not NULL a
 * line of text each is appended.
 */
unsigned snapshot_mutate(Choices *choices, unsigned version, unsigned max, Snapshot *snapshot,
                         const Guest *guest, GString *log);

/* The table of mutations, for tests and statistics. NULL beyond its end. */
const char *snapshot_mutation_name(unsigned index);
/* Applies mutation @index. False: it found nothing to work on. */
bool snapshot_apply_mutation(unsigned index, Choices *choices, Snapshot *snapshot,
                             const Guest *guest, GString *log);

/* Writes the described bytes; @file is reset first. */
void snapshot_encode(const Snapshot *snapshot, SparseFile *file);

/*
 * The text form, a GKeyFile; its format is described in docs/snapshot-text.md.
 * Every Snapshot can be written and read back to an equal one, that is one
 * with the same encoding and the same text. @error (G_KEY_FILE_ERROR) names
 * group, key and value. Free the text with g_free().
 */
char *snapshot_to_text(const Snapshot *snapshot);
bool snapshot_from_text(const char *text, Snapshot *snapshot, GError **error);

typedef enum SnapshotErrorCode {
    SNAPSHOT_ERROR_REJECTED,    /* the judge refuses the file */
    SNAPSHOT_ERROR_UNSPECIFIED, /* the judge cannot say where RAM is */
    SNAPSHOT_ERROR_TOO_LARGE,   /* too many literal bytes to hold in memory */
} SnapshotErrorCode;

#define SNAPSHOT_ERROR snapshot_error_quark()
GQuark snapshot_error_quark(void);

/*
 * Reads a file that the judge does not reject back into a description whose
 * encoding is the same bytes (verified before it returns; what belongs to no
 * field and no page becomes a poke). @error: SNAPSHOT_ERROR.
 */
bool snapshot_decode(const SparseFile *file, const Guest *guest, Snapshot *snapshot,
                     GError **error);

#endif

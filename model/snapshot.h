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
 */
#ifndef PAGEWISE_MODEL_SNAPSHOT_H
#define PAGEWISE_MODEL_SNAPSHOT_H

#include "model/choices.h"
#include "model/guest.h"
#include "model/sparse-file.h"

/* What a run of pages of a block holds. */
typedef enum PageContent {
    CONTENT_PATTERN, /* sparse_pattern(seed, file offset), bit set */
    CONTENT_FILL,    /* the byte @seed, bit set */
    CONTENT_DATA,    /* literal bytes, count * page size of them, bit set */
    CONTENT_ABSENT,  /* bit set, but nothing written: a hole reads as zeroes */
    CONTENT_STALE,   /* bit clear, but a pattern is there all the same (P3) */
} PageContent;

typedef struct PageRun {
    uint64_t first; /* page number in the block */
    uint64_t count; /* pages */
    PageContent content;
    uint32_t seed;
    const uint8_t *data; /* CONTENT_DATA: in the Snapshot's arena */
} PageRun;

typedef struct SnapshotBlock {
    uint8_t idstr_length; /* as written; the bytes are idstr[0..idstr_length) */
    char idstr[256];
    uint64_t used_length; /* as written */
    bool has_gpa;
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
    GByteArray *contents; /* NULL for the capabilities subsection, see below */
} SnapshotSubsection;

/* Bytes put over the encoded file at the end, wherever they hit. */
typedef struct SnapshotPoke {
    uint64_t offset;
    uint8_t length; /* 1..16 */
    uint8_t bytes[16];
} SnapshotPoke;

typedef struct Snapshot {
    uint32_t magic;
    uint32_t stream_version;
    uint8_t configuration_type;
    uint32_t machine_length; /* as written */
    GByteArray *machine;     /* the bytes written */
    GArray *subsections;     /* of SnapshotSubsection, in order */
    uint32_t capability_count; /* as written */
    GArray *capabilities;      /* of SnapshotCapability */
    uint8_t section_type;
    uint32_t section_id;
    uint8_t section_name_length;
    char section_name[256];
    uint32_t instance_id;
    uint32_t section_version;
    uint64_t total; /* the first word, flags included, as written */
    GPtrArray *blocks; /* of SnapshotBlock, in file order */
    uint64_t tail_at;  /* where the EOS word is put */
    uint64_t eos;
    uint8_t footer_type;
    uint32_t footer_id;
    GByteArray *tail; /* what follows the START section's footer, verbatim */
    uint64_t page_size; /* the target's page size, bytes: unit of PageRun */
    GArray *pokes;    /* of SnapshotPoke */
    bool truncate;    /* cut or extend the file to @file_size at the very end */
    uint64_t file_size;
} Snapshot;

/* An empty snapshot; reset brings it back to that and keeps memory for reuse. */
Snapshot *snapshot_new(void);
void snapshot_free(Snapshot *snapshot);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Snapshot, snapshot_free)
void snapshot_reset(Snapshot *snapshot);

/*
 * Adds a block with QEMU's layout behind the last one (section 11 of the
 * document); runs are added by the caller with snapshot_block_add_run().
 */
SnapshotBlock *snapshot_add_block(Snapshot *snapshot, const char *idstr, uint64_t used_length);
void snapshot_block_add_run(SnapshotBlock *block, PageRun run);

/* Places all records, bitmaps and pages as QEMU does; sets offsets, total, tail_at. */
void snapshot_layout(Snapshot *snapshot, uint64_t pages_alignment);

/*
 * Draws a guest and a snapshot that is right for it: every reader must accept
 * it (the judge says VERDICT_ACCEPT for any entropy whatsoever). Overwrites
 * both. Small blocks mostly, block edges at 63/64/65 pages, now and then one
 * of gigabytes; other page sizes, capabilities, bits and tails now and then.
 * @max_block_bytes bounds each block's max_length.
 */
void snapshot_generate(Choices *choices, uint64_t max_block_bytes, Snapshot *snapshot,
                       Guest *guest);

/*
 * Applies mutations drawn from @choices until it is exhausted or @max are
 * done: fields to boundary values, lengths, offsets, bits, order, duplicates,
 * overlaps, sentinel headers, capabilities, tail, truncation, pokes. Returns
 * how many were applied. If @log is not NULL a line of text each is appended.
 */
unsigned snapshot_mutate(Choices *choices, unsigned max, Snapshot *snapshot, const Guest *guest,
                         GString *log);

/* Writes the described bytes; @file is reset first. */
void snapshot_encode(const Snapshot *snapshot, SparseFile *file);

/*
 * The text form, a GKeyFile; its format is described in docs/snapshot-text.md.
 * Every Snapshot can be written and read back to an equal one. @error names
 * group, key and value.
 */
char *snapshot_to_text(const Snapshot *snapshot);
bool snapshot_from_text(const char *text, Snapshot *snapshot, GError **error);

/*
 * Reads a file that the judge does not reject back into a description whose
 * encoding is the same bytes (round-trip). @error where the file is one that
 * a description cannot express.
 */
bool snapshot_decode(const SparseFile *file, const Guest *guest, Snapshot *snapshot,
                     GError **error);

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Builds small snapshot files for the judge's tests, byte by byte after
 * docs/mapped-ram-format.md. It shares nothing with model/snapshot.c, so that
 * the judge and the encoder are checked apart from each other.
 */
#ifndef PAGEWISE_UNIT_JUDGE_PLAN_H
#define PAGEWISE_UNIT_JUDGE_PLAN_H

#include "model/guest.h"
#include "model/sparse-file.h"

#include <stddef.h>

#define PLAN_MAX_RECORDS 4
#define PLAN_AUTOMATIC UINT64_MAX /* of an offset: where a plain writer puts it */

typedef struct PlanRecord {
    const char *idstr;
    unsigned idstr_length;
    uint64_t used_length;
    uint32_t version;
    uint64_t page_size;
    uint64_t bitmap_offset; /* as the header says; PLAN_AUTOMATIC: its own end */
    uint64_t pages_offset;  /* PLAN_AUTOMATIC: the next multiple of 4096 */
    uint64_t bitmap;        /* its first word, put at bitmap_offset unless it is 0 */
    bool ends_at_header;    /* X2: the next record follows the header */
} PlanRecord;

/* A literal with NULs in it. */
typedef struct PlanBytes {
    const char *bytes;
    size_t length;
} PlanBytes;

#define PLAN_BYTES(literal) ((PlanBytes){ literal, sizeof(literal) - 1 })

#define PLAN_V1 "\0\0\0\1"
#define PLAN_CAPABILITIES                                                                          \
    "\x05\x1a"                                                                                     \
    "configuration/capabilities" PLAN_V1
#define PLAN_PAGE_BITS                                                                             \
    "\x05\x1e"                                                                                     \
    "configuration/target-page-bits" PLAN_V1
#define PLAN_UUID                                                                                  \
    "\x05\x12"                                                                                     \
    "configuration/uuid" PLAN_V1 "0123456789abcdef"
#define PLAN_MAPPED_RAM                                                                            \
    "\x0a"                                                                                         \
    "mapped-ram"
#define PLAN_X_IGNORE_SHARED                                                                       \
    "\x0f"                                                                                         \
    "x-ignore-shared"

#define PLAN_EOS "\0\0\0\0\0\0\0\x10"
#define PLAN_FOOTER "\x7e\0\0\0\2"
#define PLAN_COMMAND "\x08\0\x0b\0\0"
#define PLAN_PART "\x02\0\0\0\2" PLAN_EOS PLAN_FOOTER
#define PLAN_END "\x03\0\0\0\2" PLAN_EOS PLAN_FOOTER
#define PLAN_FULL                                                                                  \
    "\x04\0\0\0\0\5"                                                                               \
    "timer"

typedef struct Plan {
    Guest guest;
    PlanBytes machine;
    PlanBytes subsections;
    uint64_t total; /* the first word of the section's contents, flags included */
    unsigned n_records;
    PlanRecord records[PLAN_MAX_RECORDS];
    PlanBytes tail; /* from the EOS word on */
} Plan;

/*
 * A guest with the one block "ram", and the plan of a file for it. Every
 * reader must accept it; its fields are where the constants below say.
 */
void plan_standard(Plan *plan);

enum {
    AT_MAGIC = 0x00,
    AT_VERSION = 0x04,
    AT_CONFIGURATION = 0x08,
    AT_MACHINE = 0x09,
    AT_SUBSECTION = 0x11,
    AT_SUBSECTION_VERSION = 0x2d,
    AT_CAPABILITY_COUNT = 0x31,
    AT_CAPABILITY = 0x35,
    AT_SECTION = 0x40,
    AT_SECTION_ID = 0x41,
    AT_SECTION_NAME = 0x45,
    AT_INSTANCE_ID = 0x49,
    AT_SECTION_VERSION = 0x4d,
    AT_TOTAL = 0x51,
    AT_IDSTR = 0x59,
    AT_USED_LENGTH = 0x5d,
    AT_HEADER = 0x65,
    AT_PAGE_SIZE = 0x69,
    AT_BITMAP_OFFSET = 0x71,
    AT_PAGES_OFFSET = 0x79,
    AT_BITMAP = 0x81,
    AT_PAGES = 0x1000,
    AT_EOS = 0x3000,
    AT_FOOTER = 0x3008,
    AT_FOOTER_ID = 0x3009,
    AT_COMMAND = 0x300d,
    AT_END = 0x3012,
    AT_FULL = 0x3024,
    AT_FILE_END = 0x302f,
};

/* With x-ignore-shared in file and guest: 16 bytes of name and 8 of address more. */
void plan_ignore_shared(Plan *plan);

#define SHARED_BEFORE_ADDRESS 16
#define SHARED_AFTER_ADDRESS 24

/* Adds a block to the guest and a record of it to the file. */
void plan_add_block(Plan *plan, const char *idstr, uint64_t used_length);

/* Adds a record alone. */
PlanRecord *plan_add_record(Plan *plan, const char *idstr, uint64_t used_length);

/* Overwrites @file. */
void plan_write(const Plan *plan, SparseFile *file);

/* Puts a big-endian number of @size bytes over what is there. */
void put_number(SparseFile *file, uint64_t offset, unsigned size, uint64_t value);

#endif

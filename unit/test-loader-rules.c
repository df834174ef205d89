/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One smallest refused file for every rule of docs/mapped-ram-format.md that a
 * file can break, with the whole message, and one smallest accepted file for
 * every rule that allows something odd or draws a line that can be touched.
 * Every case is the good file of loader-support.c with a few fields replaced;
 * offsets in the messages are written out, not computed.
 *
 * Each case is loaded in all stages, and again with a reader that gives one
 * byte at a time: verdict and message must not depend on either.
 */
#include "unit/loader-support.h"
#include "unit/support.h"

#include <string.h>

#define TRUNCATED MAPPED_RAM_ERROR_TRUNCATED
#define UNSUPPORTED MAPPED_RAM_ERROR_UNSUPPORTED
#define INVALID MAPPED_RAM_ERROR_INVALID
#define MISMATCH MAPPED_RAM_ERROR_MISMATCH

typedef struct RuleCase {
    const char *rule;
    const char *message; /* NULL: the file is accepted */
    MappedRamErrorCode code;
    TestEdit edits[6];
    bool file_xis; /* x-ignore-shared in the file, in the reader */
    bool reader_xis;
    bool reader_xis_auto;
    const char *machine;   /* that the reader knows */
    uint64_t cut;          /* the file's size, if not all of it */
    unsigned extra_blocks; /* that the guest has, besides "ram" */
    /* Of an accepted file, if not 5 and 3 pages. */
    uint64_t bits;
    uint64_t length;
} RuleCase;

#define NAME_256                                                                                   \
    "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"                             \
    "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"                             \
    "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"                             \
    "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define NAME_255                                                                                   \
    "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"                             \
    "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"                             \
    "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"                             \
    "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcde"
#define UUID                                                                                       \
    "\x05\x12"                                                                                     \
    "configuration/uuid\0\0\0\1"                                                                   \
    "0123456789abcdef"
#define PAGE_BITS(bits)                                                                            \
    "\x05\x1e"                                                                                     \
    "configuration/target-page-bits\0\0\0\1" bits

static const RuleCase cases[] = {
    { .rule = "F1",
      .message = "magic 0x5145564e at file offset 0x0: is not 0x5145564d; this is not a QEMU "
                 "snapshot (rule F1)",
      .code = INVALID,
      .edits = { EDIT("magic", "QEVN") } },
    { .rule = "F2",
      .message = "version 0x2 at file offset 0x4: is not 3 (rule F2)",
      .code = UNSUPPORTED,
      .edits = { EDIT("version", "\0\0\0\2") } },
    { .rule = "F2",
      .message = "version 0x3000000 at file offset 0x4: is not 3 (rule F2)",
      .code = UNSUPPORTED,
      .edits = { EDIT("version", "\3\0\0\0") } },

    { .rule = "C1",
      .message = "type 0x1 at file offset 0x8: is not CONFIGURATION 0x07 (rule C1)",
      .code = INVALID,
      .edits = { EDIT("type of configuration", "\1") } },
    { .rule = "C2", .machine = "none" },
    { .rule = "C2",
      .message = "machine name 'none' at file offset 0x9: is not the guest's machine 'nine' "
                 "(rule C2)",
      .code = MISMATCH,
      .machine = "nine" },
    { .rule = "C2",
      .message = "machine name 'none' at file offset 0x9: is not the guest's machine 'non' (rule "
                 "C2)",
      .code = MISMATCH,
      .machine = "non" },
    { .rule = "C2",
      .message = "machine name 'no\\001\\n\\377\\\\' at file offset 0x9: is not the guest's "
                 "machine 'none' (rule C2)",
      .code = MISMATCH,
      .edits = { EDIT("machine name length", "\0\0\0\6"), EDIT("machine name", "no\1\n\xff\\") },
      .machine = "none" },
    { .rule = "C2a",
      .message = "machine name 'none' at file offset 0x9: has 0x4 bytes and is not exactly the "
                 "guest's machine 'none-1' (rule C2a)",
      .code = MISMATCH,
      .machine = "none-1" },
    { .rule = "C2a",
      .message = "machine name '' at file offset 0x9: has 0x0 bytes and is not exactly the "
                 "guest's machine 'none' (rule C2a)",
      .code = MISMATCH,
      .edits = { EDIT("machine name length", "\0\0\0\0"), EDIT("machine name", "") },
      .machine = "none" },
    { .rule = "C2a",
      .message = "machine name 'none' at file offset 0x9: has 0x6 bytes and is not exactly the "
                 "guest's machine 'none' (rule C2a)",
      .code = MISMATCH,
      .edits = { EDIT("machine name length", "\0\0\0\6"), EDIT("machine name", "none\0x") },
      .machine = "none" },
    { .rule = "C2a",
      .message = "machine name 'none' at file offset 0x9: has 0x4000 bytes and is not exactly "
                 "the guest's machine 'none' (rule C2a)",
      .code = MISMATCH,
      .edits = { EDIT("machine name length", "\0\0\x40\0"), EDIT("machine name", "none\0") },
      .machine = "none" },
    { .rule = "C2b",
      .edits = { EDIT("machine name length", "\0\0\0\xff"), EDIT("machine name", NAME_255) } },
    { .rule = "C2b",
      .message = "machine name length 0x100 at file offset 0x9: is over 255 (rule C2b)",
      .code = UNSUPPORTED,
      .edits = { EDIT("machine name length", "\0\0\1\0"), EDIT("machine name", NAME_256) } },
    { .rule = "F4",
      .message = "machine name at file offset 0xd: needs 4294967295 bytes, but the file ends at "
                 "0x402f (rule F4)",
      .code = TRUNCATED,
      .edits = { EDIT("machine name length", "\xff\xff\xff\xff") } },
    { .rule = "C3",
      .message = "subsection name 'configuration/capabilitie' at file offset 0x12: is none of "
                 "configuration/{capabilities,target-page-bits,uuid} (rule C3)",
      .code = UNSUPPORTED,
      .edits = { EDIT("subsection name", "\x19"
                                         "configuration/capabilitie") } },
    { .rule = "C3",
      .message = "subsection name '' at file offset 0x12: is none of "
                 "configuration/{capabilities,target-page-bits,uuid} (rule C3)",
      .code = UNSUPPORTED,
      .edits = { EDIT("subsection name", "\0") } },
    { .rule = "C3a",
      .message = "subsection name 'configuration/uuid' at file offset 0x12: is followed by a NUL "
                 "within its 20 bytes (rule C3a)",
      .code = INVALID,
      .edits = { EDIT("subsection name", "\x14"
                                         "configuration/uuid\0x") } },
    { .rule = "C4",
      .message = "subsection name 'configuration/uuid' at file offset 0x69: stands there twice "
                 "(rule C4)",
      .code = INVALID,
      .edits = { EDIT("after capabilities", UUID UUID) } },
    { .rule = "C4",
      .message = "subsection name 'configuration/capabilities' at file offset 0x41: stands there "
                 "twice (rule C4)",
      .code = INVALID,
      .edits = { EDIT("after capabilities", "\5\x1a"
                                            "configuration/capabilities\0\0\0\1\0\0\0\0") } },
    { .rule = "C5",
      .message = "subsection version 0x2 at file offset 0x2d: is not 1 (rule C5)",
      .code = UNSUPPORTED,
      .edits = { EDIT("subsection version", "\0\0\0\2") } },
    { .rule = "C6",
      .message = "number of capabilities 0x0 at file offset 0x31: 'mapped-ram' is not among them "
                 "(rule C6)",
      .code = UNSUPPORTED,
      .edits = { EDIT("number of capabilities", "\0\0\0\0"), EDIT("capability", "") } },
    { .rule = "C6",
      .message = "configuration at file offset 0x8: has no capabilities, so not 'mapped-ram' "
                 "(rule C6)",
      .code = UNSUPPORTED,
      .edits = { EDIT("type of subsection", ""), EDIT("subsection name", ""),
                 EDIT("subsection version", ""), EDIT("number of capabilities", ""),
                 EDIT("capability", "") } },
    { .rule = "C7", .file_xis = true, .reader_xis = true },
    { .rule = "C7",
      .message = "capability 'x-ignore-shared' at file offset 0x35: is off in the guest (rule C7)",
      .code = MISMATCH,
      .file_xis = true },
    { .rule = "C7",
      .message = "number of capabilities 0x1 at file offset 0x31: 'x-ignore-shared' is not among "
                 "them, but on in the guest (rule C7)",
      .code = MISMATCH,
      .reader_xis = true },
    { .rule = "C7", .file_xis = true, .reader_xis_auto = true },
    { .rule = "C7", .reader_xis = true, .reader_xis_auto = true },
    { .rule = "C8",
      .message = "capability 'xbzrle' at file offset 0x35: is neither 'x-ignore-shared' nor "
                 "'mapped-ram' (rule C8)",
      .code = UNSUPPORTED,
      .edits = { EDIT("capability", "\6xbzrle") } },
    { .rule = "C8",
      .message = "capability 'mapped-ram' at file offset 0x40: is listed twice (rule C8)",
      .code = INVALID,
      .edits = { EDIT("number of capabilities", "\0\0\0\xff"),
                 EDIT("capability", "\x0amapped-ram\x0amapped-ram") } },
    { .rule = "C8",
      .message = "capability 'mapped-ram' at file offset 0x35: is neither 'x-ignore-shared' nor "
                 "'mapped-ram' (rule C8)",
      .code = UNSUPPORTED,
      .edits = { EDIT("capability", "\x0bmapped-ram\0") } },
    { .rule = "C8",
      .message = "number of capabilities 0x100 at file offset 0x31: is over 255 (rule C8)",
      .code = UNSUPPORTED,
      .edits = { EDIT("number of capabilities", "\0\0\1\0") } },
    { .rule = "C9", .edits = { EDIT("before capabilities", PAGE_BITS("\0\0\0\x0c")) } },
    { .rule = "C9",
      .message = "target-page-bits 0xd at file offset 0x64: is not the log2 of the target's page "
                 "size 0x1000 (rule C9)",
      .code = MISMATCH,
      .edits = { EDIT("after capabilities", PAGE_BITS("\0\0\0\x0d")) } },
    { .rule = "C9",
      .message = "target-page-bits 0x4c at file offset 0x64: is not the log2 of the target's "
                 "page size 0x1000 (rule C9)",
      .code = MISMATCH,
      .edits = { EDIT("after capabilities", PAGE_BITS("\0\0\0\x4c")) } },
    { .rule = "C10", .edits = { EDIT("before capabilities", UUID) } },
    { .rule = "C10",
      .edits = { EDIT("before capabilities", UUID),
                 EDIT("after capabilities", PAGE_BITS("\0\0\0\x0c")) } },

    { .rule = "S1",
      .message = "type 0x2 at file offset 0x40: is not START 0x01 (rule S1)",
      .code = INVALID,
      .edits = { EDIT("type of START", "\2") } },
    { .rule = "S2",
      .message = "type 0x4 at file offset 0x40: the first section is not START 0x01 of 'ram' "
                 "(rule S2)",
      .code = UNSUPPORTED,
      .edits = { EDIT("type of START", "\4") } },
    { .rule = "S2",
      .message = "type 0x8 at file offset 0x40: the first section is not START 0x01 of 'ram' "
                 "(rule S2)",
      .code = UNSUPPORTED,
      .edits = { EDIT("type of START", "\x08") } },
    { .rule = "S2",
      .message = "type 0x0 at file offset 0x40: the first section is not START 0x01 of 'ram' "
                 "(rule S2)",
      .code = UNSUPPORTED,
      .edits = { EDIT("type of START", "\0") } },
    { .rule = "S2",
      .message = "section name 'rom' at file offset 0x45: the first section is not 'ram' (rule "
                 "S2)",
      .code = UNSUPPORTED,
      .edits = { EDIT("section name of START", "\3rom") } },
    { .rule = "S3",
      .message = "instance id 0x1 at file offset 0x49: is not 0 (rule S3)",
      .code = INVALID,
      .edits = { EDIT("instance id", "\0\0\0\1") } },
    { .rule = "S4",
      .message = "section version 0x5 at file offset 0x4d: is not 4 (rule S4)",
      .code = UNSUPPORTED,
      .edits = { EDIT("section version", "\0\0\0\5") } },
    { .rule = "S5",
      .message = "footer 0x7f at file offset 0x4008: is not FOOTER 0x7e (rule S5)",
      .code = INVALID,
      .edits = { EDIT("footer", "\x7f") } },
    { .rule = "S5",
      .message = "footer 0x0 at file offset 0x401f: is not FOOTER 0x7e (rule S5)",
      .code = INVALID,
      .edits = { EDIT("footer of END", "\0") } },
    { .rule = "S6",
      .message = "footer section id 0x3 at file offset 0x4009: is not the RAM section's 0x2 "
                 "(rule S6)",
      .code = INVALID,
      .edits = { EDIT("footer section id", "\0\0\0\3") } },
    { .rule = "S6",
      .message = "footer section id 0xff000002 at file offset 0x4020: is not the RAM section's "
                 "0x2 (rule S6)",
      .code = INVALID,
      .edits = { EDIT("footer section id of END", "\xff\0\0\2") } },

    { .rule = "R1",
      .message = "total 0x3000 at file offset 0x51: its flags are not MEM_SIZE 0x4 (rule R1)",
      .code = INVALID,
      .edits = { EDIT("total", "\0\0\0\0\0\0\x30\0") } },
    { .rule = "R1",
      .message = "total 0x3006 at file offset 0x51: its flags are not MEM_SIZE 0x4 (rule R1)",
      .code = INVALID,
      .edits = { EDIT("total", "\0\0\0\0\0\0\x30\6") } },
    { .rule = "R1a",
      .message = "total 0x3024 at file offset 0x51: its flags are not just MEM_SIZE 0x4 (rule "
                 "R1a)",
      .code = UNSUPPORTED,
      .edits = { EDIT("total", "\0\0\0\0\0\0\x30\x24") } },
    { .rule = "R1a",
      .message = "total 0x10 at file offset 0x51: its flags are not just MEM_SIZE 0x4 (rule R1a)",
      .code = UNSUPPORTED,
      .edits = { EDIT("total", "\0\0\0\0\0\0\0\x10") } },
    { .rule = "R1a",
      .message = "total 0x30 at file offset 0x51: its flags are not just MEM_SIZE 0x4 (rule R1a)",
      .code = UNSUPPORTED,
      .edits = { EDIT("total", "\0\0\0\0\0\0\0\x30") } },
    { .rule = "R2",
      .message = "block 'ram': used_length 0x3000 at file offset 0x5d: is greater than 0x2000, "
                 "what remains of total (rule R2)",
      .code = INVALID,
      .edits = { EDIT("total", "\0\0\0\0\0\0\x20\4") } },
    { .rule = "R3",
      .message = "idstr 'ra' at file offset 0x59: is not a block of the guest (rule R3)",
      .code = MISMATCH,
      .edits = { EDIT("idstr", "\2ra") } },
    { .rule = "R3",
      .message = "idstr 'ram ' at file offset 0x59: is not a block of the guest (rule R3)",
      .code = MISMATCH,
      .edits = { EDIT("idstr", "\4ram ") } },
    { .rule = "R3",
      .message = "idstr '' at file offset 0x59: is not a block of the guest (rule R3)",
      .code = MISMATCH,
      .edits = { EDIT("idstr", "\4\0ram") } },
    { .rule = "R3a",
      .message = "block 'ram': idstr 'ram' at file offset 0x59: is followed by a NUL within its "
                 "4 bytes (rule R3a)",
      .code = INVALID,
      .edits = { EDIT("idstr", "\4ram\0") } },
    { .rule = "R4",
      .message = "block 'ram': idstr 'ram' at file offset 0x4000: was named by an earlier record "
                 "(rule R4)",
      .code = INVALID,
      .edits = { EDIT("total", "\0\0\0\0\0\0\x40\4"), EDIT("EOS", "\3ram") } },
    { .rule = "R5",
      .message = "block 'ram': used_length 0x2fff at file offset 0x5d: is not a multiple of the "
                 "target's page size 0x1000 (rule R5)",
      .code = INVALID,
      .edits = { EDIT("used_length", "\0\0\0\0\0\0\x2f\xff") } },
    { .rule = "R6",
      .message = "block 'ram': used_length 0x5000 at file offset 0x5d: is greater than the guest "
                 "block's max_length 0x4000 (rule R6)",
      .code = MISMATCH,
      .edits = { EDIT("total", "\0\0\0\0\0\0\x50\4"), EDIT("used_length", "\0\0\0\0\0\0\x50\0") } },
    { .rule = "R6",
      .message = "block 'ram': used_length 0xfffffffffffff000 at file offset 0x5d: is greater "
                 "than the guest block's max_length 0x4000 (rule R6)",
      .code = MISMATCH,
      .edits = { EDIT("total", "\xff\xff\xff\xff\xff\xff\xf0\4"),
                 EDIT("used_length", "\xff\xff\xff\xff\xff\xff\xf0\0") } },
    { .rule = "R6a",
      .edits = { EDIT("total", "\0\0\0\0\0\0\x20\4"),
                 EDIT("used_length", "\0\0\0\0\0\0\x20\0"),
                 { "EOS", "\0\0\0\0\0\0\0\x10", 8 } },
      .bits = 1,
      .length = 0x2000 },
    { .rule = "R6a",
      .message = "block 'ram': used_length 0x0 at file offset 0x5d: is zero; the guest block's "
                 "is 0x3000 (rule R6a)",
      .code = MISMATCH,
      .edits = { EDIT("used_length", "\0\0\0\0\0\0\0\0") } },
    { .rule = "R7",
      .message = "EOS 0x0 at file offset 0x4000: is not EOS 0x10 (rule R7)",
      .code = INVALID,
      .edits = { EDIT("EOS", "\0\0\0\0\0\0\0\0") } },
    { .rule = "R7",
      .message = "EOS 0x8 at file offset 0x4017: is not EOS 0x10 (rule R7)",
      .code = INVALID,
      .edits = { EDIT("EOS of END", "\0\0\0\0\0\0\0\x08") } },
    { .rule = "R7a",
      .message = "EOS 0x30 at file offset 0x4000: is not exactly 0x10 (rule R7a)",
      .code = INVALID,
      .edits = { EDIT("EOS", "\0\0\0\0\0\0\0\x30") } },
    { .rule = "R7a",
      .message = "EOS 0x1010 at file offset 0x4017: is not exactly 0x10 (rule R7a)",
      .code = INVALID,
      .edits = { EDIT("EOS of END", "\0\0\0\0\0\0\x10\x10") } },
    { .rule = "R7b",
      .message = "EOS 0x3004 at file offset 0x4000: lists blocks once more, and is not EOS 0x10 "
                 "(rule R7b)",
      .code = UNSUPPORTED,
      .edits = { EDIT("EOS", "\0\0\0\0\0\0\x30\4") } },
    { .rule = "R7b",
      .message = "EOS 0x24 at file offset 0x4017: lists blocks once more, and is not EOS 0x10 "
                 "(rule R7b)",
      .code = UNSUPPORTED,
      .edits = { EDIT("EOS of END", "\0\0\0\0\0\0\0\x24") } },
    { .rule = "R8",
      .message = "block 'ram': total 0x0 at file offset 0x51: ends the list of blocks, and this "
                 "one has no record (rule R8)",
      .code = MISMATCH,
      .edits = { EDIT("total", "\0\0\0\0\0\0\0\4") } },
    { .rule = "R8",
      .message = "block 'rom': total 0x3000 at file offset 0x51: ends the list of blocks, and "
                 "this one has no record (rule R8)",
      .code = MISMATCH,
      .extra_blocks = 1 },

    { .rule = "H1",
      .message = "block 'ram': version 0x2 at file offset 0x65: is over 1 (rule H1)",
      .code = UNSUPPORTED,
      .edits = { EDIT("MappedRamHeader version", "\0\0\0\2") } },
    { .rule = "H1a",
      .message = "block 'ram': version 0x0 at file offset 0x65: is not 1 (rule H1a)",
      .code = UNSUPPORTED,
      .edits = { EDIT("MappedRamHeader version", "\0\0\0\0") } },
    { .rule = "H2",
      .message = "block 'ram': page_size 0x2000 at file offset 0x69: is not the target's page "
                 "size 0x1000 (rule H2)",
      .code = MISMATCH,
      .edits = { EDIT("page_size", "\0\0\0\0\0\0\x20\0") } },
    { .rule = "H2",
      .message = "block 'ram': page_size 0x0 at file offset 0x69: is not the target's page size "
                 "0x1000 (rule H2)",
      .code = MISMATCH,
      .edits = { EDIT("page_size", "\0\0\0\0\0\0\0\0") } },
    { .rule = "H2",
      .message = "block 'ram': page_size 0x400 at file offset 0x81: is not the target's page "
                 "size 0x1000 (rule H2)",
      .code = MISMATCH,
      .edits = { EDIT("page_size", "\0\0\0\0\0\0\4\0") },
      .file_xis = true,
      .reader_xis = true },
    { .rule = "H3",
      .message = "block 'ram': pages_offset 0x1200 at file offset 0x79: is not a multiple of the "
                 "target's page size 0x1000 (rule H3)",
      .code = INVALID,
      .edits = { EDIT("pages_offset", "\0\0\0\0\0\0\x12\0") } },
    { .rule = "H4",
      .message = "block 'ram': pages_offset 0x0 at file offset 0x79: is less than the end of the "
                 "header 0x81 (rule H4)",
      .code = INVALID,
      .edits = { EDIT("pages_offset", "\0\0\0\0\0\0\0\0") } },
    { .rule = "H5",
      .message = "block 'ram': pages_offset 0x7fffffffffffd000 at file offset 0x79: plus "
                 "used_length 0x3000 is over 2^63 - 1 (rule H5)",
      .code = INVALID,
      .edits = { EDIT("pages_offset", "\x7f\xff\xff\xff\xff\xff\xd0\0") } },
    { .rule = "H5",
      .message = "block 'ram': pages_offset 0xfffffffffffff000 at file offset 0x79: plus "
                 "used_length 0x3000 is over 2^63 - 1 (rule H5)",
      .code = INVALID,
      .edits = { EDIT("pages_offset", "\xff\xff\xff\xff\xff\xff\xf0\0") } },
    /* One page less is no matter of H5: the file ends before. */
    { .rule = "P1",
      .message = "block 'ram': bitmap's bit 0x2 at file offset 0x81: its page ends at "
                 "0x7ffffffffffff000, but the file at 0x402f (rule P1)",
      .code = TRUNCATED,
      .edits = { EDIT("pages_offset", "\x7f\xff\xff\xff\xff\xff\xc0\0") } },
    { .rule = "H6" },

    { .rule = "X2",
      .message = "block 'ram': total 0x3000 at file offset 0x61: ends the list of blocks, and "
                 "this one has no record (rule R8)",
      .code = MISMATCH,
      .edits = { EDIT("idstr", "\3rom"), EDIT("bitmap_offset", "\0\0\0\0\0\0\0\0"),
                 EDIT("pages_offset", "\0\0\0\0\0\0\0\0"),
                 EDIT("bitmap", "\0\0\0\0\0\0\0\x10\x7e\0\0\0\2\3\0\0\0\2"
                                "\0\0\0\0\0\0\0\x10\x7e\0\0\0\2\0") },
      .file_xis = true,
      .reader_xis = true,
      .extra_blocks = 1 },
    { .rule = "X2",
      .message = "block 'ram': bitmap_offset 0x0 at file offset 0x89: the bitmap's 0x8 bytes are "
                 "not between the end of the header 0x99 and pages_offset 0x1000 (rule B4)",
      .code = INVALID,
      .edits = { EDIT("bitmap_offset", "\0\0\0\0\0\0\0\0") },
      .file_xis = true,
      .reader_xis = true },
    { .rule = "X2",
      .message = "block 'ram': pages_offset 0x0 at file offset 0x91: is less than the end of the "
                 "header 0x99 (rule H4)",
      .code = INVALID,
      .edits = { EDIT("pages_offset", "\0\0\0\0\0\0\0\0") },
      .file_xis = true,
      .reader_xis = true },
    { .rule = "X2a",
      .message = "block 'ram': page_size 0x0 at file offset 0x81: is not the target's page size "
                 "0x1000 (rule X2a)",
      .code = MISMATCH,
      .edits = { EDIT("page_size", "\0\0\0\0\0\0\0\0"), EDIT("bitmap_offset", "\0\0\0\0\0\0\0\0"),
                 EDIT("pages_offset", "\0\0\0\0\0\0\0\0") },
      .file_xis = true,
      .reader_xis = true },

    { .rule = "B2",
      .message = "block 'ram': bitmap_offset 0x81 at file offset 0x71: the bitmap's 0x8 bytes "
                 "do not end before the file does, at 0x88 (rule B2)",
      .code = TRUNCATED,
      .cut = 0x88 },
    { .rule = "B4",
      .edits = { EDIT("bitmap_offset", "\0\0\0\0\0\0\0\x82"),
                 EDIT("bitmap", "\0\5\0\0\0\0\0\0") } },
    { .rule = "B4",
      .message = "block 'ram': bitmap_offset 0x80 at file offset 0x71: the bitmap's 0x8 bytes "
                 "are not between the end of the header 0x81 and pages_offset 0x1000 (rule B4)",
      .code = INVALID,
      .edits = { EDIT("bitmap_offset", "\0\0\0\0\0\0\0\x80") } },
    { .rule = "B4",
      .message = "block 'ram': bitmap_offset 0xff9 at file offset 0x71: the bitmap's 0x8 bytes "
                 "are not between the end of the header 0x81 and pages_offset 0x1000 (rule B4)",
      .code = INVALID,
      .edits = { EDIT("bitmap_offset", "\0\0\0\0\0\0\x0f\xf9") } },
    { .rule = "B2",
      .message = "block 'ram': bitmap_offset 0xffffffffffffffff at file offset 0x71: the bitmap's "
                 "0x8 bytes do not end before the file does, at 0x402f (rule B2)",
      .code = TRUNCATED,
      .edits = { EDIT("bitmap_offset", "\xff\xff\xff\xff\xff\xff\xff\xff") } },
    { .rule = "B2",
      .message = "block 'ram': bitmap_offset 0x4028 at file offset 0x71: the bitmap's 0x8 bytes do "
                 "not end before the file does, at 0x402f (rule B2)",
      .code = TRUNCATED,
      .edits = { EDIT("bitmap_offset", "\0\0\0\0\0\0\x40\x28") } },
    { .rule = "B4",
      .message = "block 'ram': bitmap_offset 0x4027 at file offset 0x71: the bitmap's 0x8 bytes "
                 "are not between the end of the header 0x81 and pages_offset 0x1000 (rule B4)",
      .code = INVALID,
      .edits = { EDIT("bitmap_offset", "\0\0\0\0\0\0\x40\x27") } },
    { .rule = "B5", .edits = { EDIT("bitmap", "\xfd\xff\xff\xff\xff\xff\xff\xff") } },
    { .rule = "B1", .edits = { EDIT("bitmap", "\1\0\0\0\0\0\0\x80") }, .bits = 1 },

    { .rule = "P1",
      .message = "block 'ram': bitmap's bit 0x2 at file offset 0x81: its page ends at 0x4000, "
                 "but the file at 0x3fff (rule P1)",
      .code = TRUNCATED,
      .cut = 0x3fff },
    /* All pages are there: it is the stream that ends. */
    { .rule = "F4",
      .message = "EOS at file offset 0x4000: needs 8 bytes, but the file ends at 0x4000 (rule F4)",
      .code = TRUNCATED,
      .cut = 0x4000 },
    /* A page without a bit needs no place in the file, either. */
    { .rule = "F4",
      .message = "EOS at file offset 0x4000: needs 8 bytes, but the file ends at 0x2000 (rule F4)",
      .code = TRUNCATED,
      .edits = { EDIT("bitmap", "\1\0\0\0\0\0\0\0") },
      .cut = 0x2000 },
    { .rule = "P3", .edits = { EDIT("bitmap", "\4\0\0\0\0\0\0\0") }, .bits = 4 },
    { .rule = "G2", .edits = { EDIT("bitmap", "\0\0\0\0\0\0\0\0") }, .bits = UINT64_MAX },

    { .rule = "T1",
      .edits = { EDIT("type of COMMAND", "\2\0\0\0\2\0\0\0\0\0\0\0\x10\x7e\0\0\0\2\x08") } },
    { .rule = "T2",
      .edits = { EDIT("type of COMMAND", ""), EDIT("command", ""), EDIT("command length", "") } },
    { .rule = "T2a", .edits = { EDIT("command", "\0\1"), EDIT("command length", "\0\3abc") } },
    { .rule = "T3",
      .message = "type 0x4 at file offset 0x4012: comes before END 0x03 of 'ram': the save was "
                 "cut off (rule T3)",
      .code = INVALID,
      .edits = { EDIT("type of END", "\4") } },
    { .rule = "T3",
      .message = "type 0x1 at file offset 0x4012: comes before END 0x03 of 'ram': the save was "
                 "cut off (rule T3)",
      .code = INVALID,
      .edits = { EDIT("type of END", "\1") } },
    { .rule = "T3",
      .message = "type 0x0 at file offset 0x400d: comes before END 0x03 of 'ram': the save was "
                 "cut off (rule T3)",
      .code = INVALID,
      .edits = { EDIT("type of COMMAND", "\0") } },
    { .rule = "T3",
      .message = "type 0x4 at file offset 0x4024: comes before END 0x03 of 'ram': the save was "
                 "cut off (rule T3)",
      .code = INVALID,
      .edits = { EDIT("type of END", "\2") } },
    { .rule = "T4", .edits = { EDIT("type of FULL", "\1") } },
    { .rule = "T4a",
      .message = "section name 'ram' at file offset 0x4029: is loaded already; device state was "
                 "to begin here (rule T4a)",
      .code = UNSUPPORTED,
      .edits = { EDIT("section name of FULL", "\3ram") } },
    { .rule = "T4a",
      .message = "section name 'ram' at file offset 0x4029: is loaded already; device state was to "
                 "begin here (rule T4a)",
      .code = UNSUPPORTED,
      .edits = { EDIT("section name of FULL", "\5ram\0x") } },
    { .rule = "T5",
      .edits = { EDIT("type of FULL", "\0"), EDIT("section id of FULL", ""),
                 EDIT("section name of FULL", "") } },
    { .rule = "T6",
      .message = "type 0x5 at file offset 0x4012: is none of EOF, START, PART, END, FULL, "
                 "COMMAND (rule T6)",
      .code = INVALID,
      .edits = { EDIT("type of END", "\5") } },
    { .rule = "T6",
      .message = "section id 0x4 at file offset 0x4013: is not the RAM section's 0x2 (rule T6)",
      .code = INVALID,
      .edits = { EDIT("section id of END", "\0\0\0\4") } },
    { .rule = "F4",
      .message = "command data at file offset 0x4012: needs 65535 bytes, but the file ends at "
                 "0x402f (rule F4)",
      .code = TRUNCATED,
      .edits = { EDIT("command length", "\xff\xff") } },

    /* Of several broken rules the first in the file is reported. */
    { .rule = "H2",
      .message = "block 'ram': page_size 0x1001 at file offset 0x69: is not the target's page "
                 "size 0x1000 (rule H2)",
      .code = MISMATCH,
      .edits = { EDIT("page_size", "\0\0\0\0\0\0\x10\1"), EDIT("pages_offset", "\0\0\0\0\0\0\0\1"),
                 EDIT("bitmap_offset", "\0\0\0\0\0\0\0\0") } },
    { .rule = "F4",
      .message = "block 'ram': bitmap_offset at file offset 0x71: needs 8 bytes, but the file ends "
                 "at 0x72 (rule F4)",
      .code = TRUNCATED,
      .edits = { EDIT("MappedRamHeader version", "\0\0\0\2"),
                 EDIT("page_size", "\0\0\0\0\0\0\x10\1") },
      .cut = 0x72 },
    { .rule = "H3",
      .message = "block 'ram': pages_offset 0x1 at file offset 0x79: is not a multiple of the "
                 "target's page size 0x1000 (rule H3)",
      .code = INVALID,
      .edits = { EDIT("pages_offset", "\0\0\0\0\0\0\0\1"),
                 EDIT("bitmap_offset", "\0\0\0\0\0\0\0\0") } },
    { .rule = "R2",
      .message = "block 'ram': used_length 0x5001 at file offset 0x5d: is greater than 0x3000, "
                 "what remains of total (rule R2)",
      .code = INVALID,
      .edits = { EDIT("used_length", "\0\0\0\0\0\0\x50\1") } },
    { .rule = "R5",
      .message = "block 'ram': used_length 0x5001 at file offset 0x5d: is not a multiple of the "
                 "target's page size 0x1000 (rule R5)",
      .code = INVALID,
      .edits = { EDIT("total", "\0\0\0\0\0\0\x60\4"), EDIT("used_length", "\0\0\0\0\0\0\x50\1") } },
    { .rule = "R6",
      .message = "block 'ram': used_length 0x5000 at file offset 0x6d: is greater than the guest "
                 "block's max_length 0x4000 (rule R6)",
      .code = MISMATCH,
      .edits = { EDIT("total", "\0\0\0\0\0\0\x60\4"), EDIT("used_length", "\0\0\0\0\0\0\x50\0") },
      .file_xis = true,
      .reader_xis = true,
      .cut = 0x79 },
};

/* Every rule with the consequence "reject" or "may". */
static const char *const refusable[] = {
    "F1", "F2",  "F4", "C1", "C2",  "C2a", "C2b", "C3",  "C3a", "C4",  "C5",  "C6",
    "C7", "C8",  "C9", "S1", "S2",  "S3",  "S4",  "S5",  "S6",  "R1",  "R1a", "R2",
    "R3", "R3a", "R4", "R5", "R6",  "R6a", "R7",  "R7a", "R7b", "R8",  "H1",  "H1a",
    "H2", "H3",  "H4", "H5", "X2a", "B2",  "B4",  "P1",  "T3",  "T4a", "T6",
};

/* Every rule with the consequence "accept", and "may" where we accept. */
static const char *const acceptable[] = { "C10", "R6a", "H6", "B5", "P3", "T2a" };

static void test_no_rule_is_missing(void **state)
{
    (void)state;
    for (size_t i = 0; i < G_N_ELEMENTS(refusable) + G_N_ELEMENTS(acceptable); i++) {
        bool refused = i < G_N_ELEMENTS(refusable);
        const char *rule = refused ? refusable[i] : acceptable[i - G_N_ELEMENTS(refusable)];
        bool found = false;

        for (size_t j = 0; j < G_N_ELEMENTS(cases); j++) {
            found |= strcmp(cases[j].rule, rule) == 0 && refused == (cases[j].message != NULL);
        }
        if (!found) {
            fail_msg("no %s file for rule %s", refused ? "refused" : "accepted", rule);
        }
    }
}

typedef struct Fixture {
    RAMBlock blocks[2];
    MemoryReader reader;
    MigrationIncomingState mis;
} Fixture;

static TestFile *file_of_case(const RuleCase *c)
{
    TestFile *file = test_file_new(c->edits, c->file_xis);

    test_file_put_start(file, "none", 3 * TEST_PAGE);
    test_file_put_record(file, "ram", 3 * TEST_PAGE, 5);
    if (c->length) {
        g_byte_array_set_size(file->bytes, (guint)(0x1000 + c->length));
    }
    test_file_put_end(file);
    if (c->cut) {
        g_byte_array_set_size(file->bytes, (guint)c->cut);
    }
    return file;
}

static void set_up(Fixture *f, const RuleCase *c, const TestFile *file)
{
    test_block_init(&f->blocks[0], "ram", 3 * TEST_PAGE, 4 * TEST_PAGE);
    test_block_init(&f->blocks[1], "rom", 3 * TEST_PAGE, 4 * TEST_PAGE);
    memory_reader_init(&f->reader, file);
    f->mis = (MigrationIncomingState){
        .reader = &f->reader.reader,
        .target_page_size = TEST_PAGE,
        .x_ignore_shared = c->reader_xis,
        .x_ignore_shared_auto = c->reader_xis_auto,
        .machine = c->machine,
        .blocks = f->blocks,
        .n_blocks = 1 + c->extra_blocks,
    };
}

static void tear_down(Fixture *f)
{
    test_block_destroy(&f->blocks[0]);
    test_block_destroy(&f->blocks[1]);
}

static void check_accepted(const RuleCase *c, const Fixture *f, LoadStages stages)
{
    uint64_t bits = c->bits == UINT64_MAX ? 0 : c->bits ? c->bits : 5;
    uint64_t length = c->length ? c->length : 3 * TEST_PAGE;
    const RAMBlock *block = &f->blocks[0];

    assert_true(block->in_file);
    assert_int_equal(block->used_length, length);
    assert_int_equal(f->mis.x_ignore_shared, c->file_xis);
    if (stages == LOAD_HEADERS_ONLY) {
        assert_int_equal(block->file_bmap[0], bits);
        bits = 0;
    } else {
        assert_null(block->file_bmap);
    }
    assert_block_ram(block, bits, length, TEST_CANARY);
}

static void check_refused(const RuleCase *c, const Fixture *f, const GError *error)
{
    if (strcmp(error->message, c->message) != 0) {
        fail_msg("rule %s: \"%s\" was to be \"%s\"", c->rule, error->message, c->message);
    }
    assert_int_equal(error->domain, MAPPED_RAM_ERROR);
    assert_int_equal(error->code, c->code);
    for (unsigned i = 0; i < 2; i++) {
        assert_null(f->blocks[i].file_bmap);
        assert_false(f->blocks[i].in_file);
        assert_false(f->blocks[i].ignored);
        assert_int_equal(f->blocks[i].used_length, 3 * TEST_PAGE);
        assert_int_equal(f->blocks[i].host[3 * TEST_PAGE], TEST_CANARY);
    }
}

static void check_case(const RuleCase *c, LoadStages stages, size_t max_length)
{
    g_autoptr(TestFile) file = file_of_case(c);
    g_autoptr(GError) error = NULL;
    Fixture f;
    bool ok;

    set_up(&f, c, file);
    f.reader.max_length = max_length;
    ok = mapped_ram_load(&f.mis, stages, NULL, &error);
    if (ok == (c->message != NULL)) {
        fail_msg("rule %s: %s", c->rule, ok ? "was accepted" : error->message);
    }
    if (ok) {
        check_accepted(c, &f, stages);
    } else {
        check_refused(c, &f, error);
    }
    tear_down(&f);
}

static void test_cases(void **state)
{
    (void)state;
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        check_case(&cases[i], LOAD_WHOLE, 0);
        check_case(&cases[i], LOAD_SPLIT, 0);
        check_case(&cases[i], LOAD_HEADERS_ONLY, 0);
        check_case(&cases[i], LOAD_WHOLE, 1);
    }
}

/* What a file breaks that ends one byte before the end of this field. */
static const char *rule_of_cut(const TestField *field)
{
    if (strcmp(field->name, "bitmap") == 0) {
        return "(rule B2)";
    }
    /* Where a file ends no further subsection begins: it is one without capabilities. */
    return strcmp(field->name, "type of subsection") == 0 ? "(rule C6)" : "(rule F4)";
}

static void check_cut(const TestField *field, bool xis)
{
    RuleCase c = { .file_xis = xis, .reader_xis = xis, .cut = field->offset + field->length - 1 };
    g_autoptr(TestFile) file = file_of_case(&c);
    g_autoptr(GError) error = NULL;
    Fixture f;

    set_up(&f, &c, file);
    assert_false(mapped_ram_load(&f.mis, LOAD_WHOLE, NULL, &error));
    if (!g_str_has_suffix(error->message, rule_of_cut(field))) {
        fail_msg("cut in '%s': %s", field->name, error->message);
    }
    tear_down(&f);
}

/* The file ends one byte before the end of a field, each in turn. */
static void test_cut_in_every_field(void **state)
{
    (void)state;
    for (unsigned xis = 0; xis < 2; xis++) {
        g_autoptr(TestFile) whole = test_file_small(NULL, xis);

        for (guint i = 0; i < whole->fields->len; i++) {
            const TestField *field = &g_array_index(whole->fields, TestField, i);

            if (field->length > 0) {
                check_cut(field, xis);
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_rule_is_missing),
        cmocka_unit_test(test_cases),
        cmocka_unit_test(test_cut_in_every_field),
    };

    return pagewise_run("loader-rules", tests);
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The errors of the reference loader. Every refusal is a GError of this domain
 * whose message has one form:
 *
 *     block 'pc.ram': page_size 0x2000 at file offset 0x69: is not the
 *     target's page size 0x1000 (rule H2)
 *
 * ("block ...: " only where a block is concerned; one line). The rule is one
 * of docs/mapped-ram-format.md, or of docs/postcopy-wire.md, where a channel's
 * offset takes the place of the file's. Names that come from a file are escaped, so
 * that a message is one line of ASCII whatever the file holds.
 */
#ifndef PAGEWISE_LOADER_ERROR_H
#define PAGEWISE_LOADER_ERROR_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

typedef enum MappedRamErrorCode {
    MAPPED_RAM_ERROR_TRUNCATED,   /* the file ends in a field: F4, B2, P1 */
    MAPPED_RAM_ERROR_UNSUPPORTED, /* well-formed, but not for this reader */
    MAPPED_RAM_ERROR_INVALID,     /* breaks a rule whoever reads it */
    MAPPED_RAM_ERROR_MISMATCH,    /* does not fit the guest or the capabilities */
    MAPPED_RAM_ERROR_IO,          /* reading or writing failed; has no rule */
    MAPPED_RAM_ERROR_NO_MEMORY,   /* has no rule */
    MAPPED_RAM_ERROR_NO_UFFD,     /* userfaultfd is missing, refused or failed; has no rule */
} MappedRamErrorCode;

#define MAPPED_RAM_ERROR mapped_ram_error_quark()
GQuark mapped_ram_error_quark(void);

/* A place in the file, or in a stream, as messages name it. */
typedef struct FieldAt {
    const char *block;  /* idstr, NULL: no block is concerned */
    const char *field;  /* name as in the document: "page_size" */
    uint64_t offset;    /* of its first byte in the file, or in the stream */
    const char *stream; /* "main channel"; NULL: it is in a file */
} FieldAt;

/*
 * Each of these sets @error (which may be NULL) and returns false, so that a
 * check is one `return`. @rule is a rule's id, or NULL where there is none;
 * @format says what is wrong and what would have been right.
 */

/* The field's value is the number @value. */
bool mapped_ram_refuse(GError **error, MappedRamErrorCode code, const char *rule, FieldAt at,
                       uint64_t value, const char *format, ...) G_GNUC_PRINTF(6, 7);

/* The field's value is the text @name, which need not be printable. */
bool mapped_ram_refuse_name(GError **error, MappedRamErrorCode code, const char *rule, FieldAt at,
                            const char *name, const char *format, ...) G_GNUC_PRINTF(6, 7);

/* The field has no value, or it could not be read. */
bool mapped_ram_refuse_field(GError **error, MappedRamErrorCode code, const char *rule, FieldAt at,
                             const char *format, ...) G_GNUC_PRINTF(5, 6);

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A file in memory that is one sparse file after the other. To empty it for
 * each would give its pages back to the kernel and take them anew, which costs
 * more than a small load: so a few of them are kept, and overwritten.
 */
#ifndef PAGEWISE_PROPERTY_KEPT_FILE_H
#define PAGEWISE_PROPERTY_KEPT_FILE_H

#include "model/sparse-file.h"

#include <glib.h>

typedef struct KeptFile KeptFile;

/* NULL: the kernel gives no memory (@error is set). */
KeptFile *kept_file_new(GError **error);

/* NULL is fine. */
void kept_file_free(KeptFile *file);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(KeptFile, kept_file_free)

/*
 * Makes it @content, byte for byte and to the end; pages of zeroes may be there
 * where @content has holes. Others may have shortened it meanwhile, but not
 * written to it. Returns the descriptor, which stays the object's own; -1 if
 * there can be no such file.
 */
int kept_file_write(KeptFile *file, const SparseFile *content);

/* The same descriptor; the file is what it was. */
int kept_file_descriptor(const KeptFile *file);

#endif

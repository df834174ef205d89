/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What all subjects share. See subject.h. */
#include "subject/subject.h"

G_DEFINE_QUARK(pagewise - subject - error, subject_error)

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The tree's migration/postcopy-ram.c. */
#include PAGEWISE_UNIT

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The tree's migration/multifd.c. */
#include PAGEWISE_UNIT

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Draws which pages of a block are in the file, for a terminal.
 */
#ifndef PAGEWISE_TOOLS_PAGE_MAP_H
#define PAGEWISE_TOOLS_PAGE_MAP_H

#include "model/judge.h"

/* Columns of the terminal that stdout is, or of $COLUMNS, or 80. */
unsigned page_map_terminal_width(void);

/* Appends block @block's map, at most @width columns wide, and its legend. */
void page_map_append(GString *out, const Judgement *judgement, unsigned block, unsigned width);

#endif

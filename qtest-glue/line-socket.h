/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Lines over a connected stream socket, with deadlines: what QMP and qtest have
 * in common. Knows nothing of either.
 */
#ifndef PAGEWISE_QTEST_GLUE_LINE_SOCKET_H
#define PAGEWISE_QTEST_GLUE_LINE_SOCKET_H

#include <glib.h>
#include <stdbool.h>

typedef struct LineSocket LineSocket;

/* @fd is taken over. */
LineSocket *line_socket_new(int fd);
void line_socket_free(LineSocket *lines);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(LineSocket, line_socket_free)

/**
 * line_socket_read:
 * @deadline: of g_get_monotonic_time(), microseconds
 * @what: for messages: what is being waited for
 *
 * Returns: a line without its end, or NULL with QEMU_ERROR. Free with g_free().
 */
char *line_socket_read(LineSocket *lines, gint64 deadline, const char *what, GError **error);

/**
 * line_socket_write: writes all of @text, which has its line's end.
 */
bool line_socket_write(LineSocket *lines, const char *text, gint64 deadline, const char *what,
                       GError **error);

#endif

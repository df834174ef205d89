/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Lines over a socket: see line-socket.h.
 */
#include "qtest-glue/line-socket.h"
#include "qtest-glue/child.h"
#include "qtest-glue/error.h"

#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* No answer that we ask for comes near; bounds what a mad QEMU can cost us. */
#define MAX_LINE (64 * 1024 * 1024)

struct LineSocket {
    int fd;
    GByteArray *input; /* received, not yet taken as lines */
    size_t searched;   /* bytes of @input that hold no line's end */
};

LineSocket *line_socket_new(int fd)
{
    LineSocket *lines = g_new0(LineSocket, 1);

    lines->fd = fd;
    lines->input = g_byte_array_new();
    return lines;
}

void line_socket_free(LineSocket *lines)
{
    if (!lines) {
        return;
    }
    g_byte_array_unref(lines->input);
    close(lines->fd);
    g_free(lines);
}

static bool wait_ready(LineSocket *lines, short events, gint64 deadline, const char *what,
                       GError **error)
{
    struct pollfd ready = { .fd = lines->fd, .events = events };
    int n;

    do {
        n = poll(&ready, 1, deadline_left(deadline));
    } while (n < 0 && errno == EINTR);
    if (n <= 0) {
        g_set_error(error, QEMU_ERROR, QEMU_ERROR_TIMEOUT, "%s: QEMU did not answer in time", what);
        return false;
    }
    return true;
}

static bool receive(LineSocket *lines, gint64 deadline, const char *what, GError **error)
{
    uint8_t buffer[16384];
    ssize_t n;

    if (!wait_ready(lines, POLLIN, deadline, what, error)) {
        return false;
    }
    n = recv(lines->fd, buffer, sizeof(buffer), MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        return true;
    }
    if (n <= 0) {
        g_set_error(error, QEMU_ERROR, QEMU_ERROR_DIED, "%s: QEMU closed the connection", what);
        return false;
    }
    g_byte_array_append(lines->input, buffer, n);
    if (lines->input->len > MAX_LINE) {
        g_set_error(error, QEMU_ERROR, QEMU_ERROR_PROTOCOL, "%s: the answer is endless", what);
        return false;
    }
    return true;
}

static char *take_line(LineSocket *lines)
{
    size_t left = lines->input->len - lines->searched;
    const uint8_t *start = lines->input->data;
    const uint8_t *end = left ? memchr(start + lines->searched, '\n', left) : NULL;
    char *line;

    if (!end) {
        lines->searched = lines->input->len;
        return NULL;
    }
    line = g_strndup((const char *)start, end - start);
    g_byte_array_remove_range(lines->input, 0, end - start + 1);
    lines->searched = 0;
    return line;
}

char *line_socket_read(LineSocket *lines, gint64 deadline, const char *what, GError **error)
{
    for (;;) {
        char *line = take_line(lines);

        if (line || !receive(lines, deadline, what, error)) {
            return line;
        }
    }
}

bool line_socket_write(LineSocket *lines, const char *text, gint64 deadline, const char *what,
                       GError **error)
{
    size_t left = strlen(text);

    while (left) {
        ssize_t n;

        if (!wait_ready(lines, POLLOUT, deadline, what, error)) {
            return false;
        }
        n = send(lines->fd, text, left, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
            continue;
        }
        if (n < 0) {
            g_set_error(error, QEMU_ERROR, QEMU_ERROR_DIED, "%s: %s", what, g_strerror(errno));
            return false;
        }
        text += n;
        left -= n;
    }
    return true;
}

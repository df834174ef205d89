/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The qtest client: see qtest.h. A command and its answer are a line each; an
 * answer begins with OK, FAIL or ERR. Lines that begin with IRQ come at any
 * time, and are of no interest here.
 */
#include "qtest-glue/qtest.h"
#include "qtest-glue/child.h"
#include "qtest-glue/error.h"
#include "qtest-glue/line-socket.h"

#include <inttypes.h>
#include <string.h>

#define QTEST_TIMEOUT_MS 20000
/* QEMU's line buffer grows, but is searched from its start each time. */
#define CHUNK 16384

struct QtestClient {
    LineSocket *lines;
};

QtestClient *qtest_client_new(int fd)
{
    QtestClient *qtest = g_new0(QtestClient, 1);

    qtest->lines = line_socket_new(fd);
    return qtest;
}

void qtest_client_free(QtestClient *qtest)
{
    if (!qtest) {
        return;
    }
    line_socket_free(qtest->lines);
    g_free(qtest);
}

/* What follows "OK" in the answer to @command, a line. Free with g_free(). */
static char *run(QtestClient *qtest, const char *command, GError **error)
{
    gint64 deadline = deadline_after(QTEST_TIMEOUT_MS);
    g_autofree char *what = g_strdup_printf("qtest %.*s", (int)strcspn(command, " \n"), command);

    if (!line_socket_write(qtest->lines, command, deadline, what, error)) {
        return NULL;
    }
    for (;;) {
        g_autofree char *line = line_socket_read(qtest->lines, deadline, what, error);

        if (!line) {
            return NULL;
        }
        if (g_str_has_prefix(line, "IRQ ")) {
            continue;
        }
        if (g_str_has_prefix(line, "OK")) {
            return g_strdup(g_strstrip(line + strlen("OK")));
        }
        g_set_error(error, QEMU_ERROR, QEMU_ERROR_PROTOCOL, "%s: %.200s", what, line);
        return NULL;
    }
}

static bool run_without_answer(QtestClient *qtest, const char *command, GError **error)
{
    g_autofree char *answer = run(qtest, command, error);

    return answer != NULL;
}

static bool wrong_answer(const char *command, const char *answer, GError **error)
{
    g_set_error(error, QEMU_ERROR, QEMU_ERROR_PROTOCOL, "qtest %s: the answer is no memory: %.80s",
                command, answer);
    return false;
}

static bool read_chunk(QtestClient *qtest, uint64_t address, uint8_t *bytes, size_t length,
                       GError **error)
{
    g_autofree char *command = g_strdup_printf("read 0x%" PRIx64 " 0x%zx\n", address, length);
    g_autofree char *answer = run(qtest, command, error);

    if (!answer) {
        return false;
    }
    if (strlen(answer) != 2 + 2 * length || !g_str_has_prefix(answer, "0x")) {
        return wrong_answer("read", answer, error);
    }
    for (size_t i = 0; i < length; i++) {
        bytes[i] =
            g_ascii_xdigit_value(answer[2 + 2 * i]) << 4 | g_ascii_xdigit_value(answer[3 + 2 * i]);
    }
    return true;
}

static bool read_chunk_b64(QtestClient *qtest, uint64_t address, uint8_t *bytes, size_t length,
                           GError **error)
{
    g_autofree char *command = g_strdup_printf("b64read 0x%" PRIx64 " 0x%zx\n", address, length);
    g_autofree char *answer = run(qtest, command, error);
    g_autofree uint8_t *decoded = NULL;
    size_t n;

    if (!answer) {
        return false;
    }
    decoded = g_base64_decode(answer, &n);
    if (n != length) {
        return wrong_answer("b64read", answer, error);
    }
    memcpy(bytes, decoded, n);
    return true;
}

static bool write_chunk(QtestClient *qtest, uint64_t address, const uint8_t *bytes, size_t length,
                        GError **error)
{
    g_autoptr(GString) command = g_string_sized_new(64 + 2 * length);

    g_string_printf(command, "write 0x%" PRIx64 " 0x%zx 0x", address, length);
    for (size_t i = 0; i < length; i++) {
        g_string_append_printf(command, "%02x", bytes[i]);
    }
    g_string_append_c(command, '\n');
    return run_without_answer(qtest, command->str, error);
}

static bool write_chunk_b64(QtestClient *qtest, uint64_t address, const uint8_t *bytes,
                            size_t length, GError **error)
{
    g_autofree char *encoded = g_base64_encode(bytes, length);
    g_autofree char *command =
        g_strdup_printf("b64write 0x%" PRIx64 " 0x%zx %s\n", address, length, encoded);

    return run_without_answer(qtest, command, error);
}

bool qtest_read(QtestClient *qtest, uint64_t address, void *bytes, size_t length, GError **error)
{
    for (size_t done = 0; done < length; done += CHUNK) {
        if (!read_chunk(qtest, address + done, (uint8_t *)bytes + done, MIN(length - done, CHUNK),
                        error)) {
            return false;
        }
    }
    return true;
}

bool qtest_write(QtestClient *qtest, uint64_t address, const void *bytes, size_t length,
                 GError **error)
{
    for (size_t done = 0; done < length; done += CHUNK) {
        if (!write_chunk(qtest, address + done, (const uint8_t *)bytes + done,
                         MIN(length - done, CHUNK), error)) {
            return false;
        }
    }
    return true;
}

bool qtest_read_b64(QtestClient *qtest, uint64_t address, void *bytes, size_t length,
                    GError **error)
{
    for (size_t done = 0; done < length; done += CHUNK) {
        if (!read_chunk_b64(qtest, address + done, (uint8_t *)bytes + done,
                            MIN(length - done, CHUNK), error)) {
            return false;
        }
    }
    return true;
}

bool qtest_write_b64(QtestClient *qtest, uint64_t address, const void *bytes, size_t length,
                     GError **error)
{
    for (size_t done = 0; done < length; done += CHUNK) {
        if (!write_chunk_b64(qtest, address + done, (const uint8_t *)bytes + done,
                             MIN(length - done, CHUNK), error)) {
            return false;
        }
    }
    return true;
}

bool qtest_memset(QtestClient *qtest, uint64_t address, uint8_t byte, size_t length, GError **error)
{
    g_autofree char *command =
        g_strdup_printf("memset 0x%" PRIx64 " 0x%zx 0x%02x\n", address, length, byte);

    return run_without_answer(qtest, command, error);
}

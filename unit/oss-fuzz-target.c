/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A fuzz target with the defect that its own file name says, or none: it shows
 * that the check of the OSS-Fuzz build (cmake/oss_fuzz_check.py) can fail. The
 * file name, because the sandbox of that check lets nothing else through.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

static char name[64];

static int is_called(const char *defect)
{
    return strcmp(name, defect) == 0;
}

static void open_or_exit(const char *path, int flags)
{
    int fd = open(path, flags, 0600);

    if (fd < 0) {
        perror(path);
        _exit(1);
    }
    close(fd);
}

static void need_userfaultfd(void)
{
    int fd = (int)syscall(SYS_userfaultfd, 1 /* UFFD_USER_MODE_ONLY */ | O_CLOEXEC);

    if (fd < 0) {
        perror("userfaultfd");
        _exit(0);
    }
    close(fd);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    const char *slash = strrchr((*argv)[0], '/');

    (void)argc;
    snprintf(name, sizeof(name), "%s", slash ? slash + 1 : (*argv)[0]);
    if (is_called("exits-at-start")) {
        exit(0);
    }
    if (is_called("writes-beside")) {
        open_or_exit("/scratch", O_WRONLY | O_CREAT);
    }
    if (is_called("needs-device")) {
        open_or_exit("/dev/userfaultfd", O_RDONLY);
    }
    if (is_called("knows-out")) {
        open_or_exit(ORIGINAL_OUT "/knows-out", O_RDONLY);
    }
    return 0;
}

static unsigned sink[256];

/* Enough edges and accesses that a check for instrumentation sees them. */
#define STEP(n)                                                                                    \
    if (data[(n) % size] > (n)) {                                                                  \
        sink[data[(n) % size]] += (n);                                                             \
    }
#define STEPS(n) STEP(n) STEP((n) + 1) STEP((n) + 2) STEP((n) + 3) STEP((n) + 4) STEP((n) + 5)
#define MANY_STEPS(n) STEPS(n) STEPS((n) + 10) STEPS((n) + 20) STEPS((n) + 30) STEPS((n) + 40)

static void work(const uint8_t *data, size_t size)
{
    MANY_STEPS(0)
    MANY_STEPS(50)
    MANY_STEPS(100)
    MANY_STEPS(150)
    MANY_STEPS(200)
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) {
        return 0;
    }
    work(data, size);
    if (data[0] != 'B') {
        return 0;
    }
    if (is_called("exits-on-seed")) {
        _exit(0);
    }
    if (is_called("crashes-on-seed")) {
        abort();
    }
    if (is_called("hangs-on-seed")) {
        for (;;) {
            pause();
        }
    }
    if (is_called("needs-userfaultfd")) {
        need_userfaultfd();
    }
    return 0;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See threads.h. */
#include "property/threads.h"

#include <fcntl.h>
#include <glib.h>
#include <sys/stat.h>

#define SETTLE_TRIES 1000
#define SETTLE_US 1000

#define FOLDER "/proc/self/task"

/* The links of a folder are itself, its name, and the folders in it. */
unsigned count_threads(void)
{
    struct stat status;

    return stat(FOLDER, &status) == 0 ? (unsigned)status.st_nlink : 0;
}

int open_threads(void)
{
    return open(FOLDER, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

unsigned count_threads_by(int threads)
{
    struct stat status;

    return fstat(threads, &status) == 0 ? (unsigned)status.st_nlink : 0;
}

unsigned count_settled_threads(unsigned before)
{
    unsigned now = count_threads();

    for (unsigned i = 0; i < SETTLE_TRIES && now > before; i++) {
        g_usleep(SETTLE_US);
        now = count_threads();
    }
    return now;
}

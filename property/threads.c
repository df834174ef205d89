/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See threads.h. */
#include "property/threads.h"

#include <glib.h>
#include <sys/stat.h>

#define SETTLE_TRIES 1000
#define SETTLE_US 1000

/* The links of a folder are itself, its name, and the folders in it. */
unsigned count_threads(void)
{
    struct stat status;

    return stat("/proc/self/task", &status) == 0 ? (unsigned)status.st_nlink : 0;
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

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What another process costs, from /proc and its processor clock: see
 * process-meter.h.
 */
#include "qtest-glue/process-meter.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* The first line of /proc/PID/NAME; empty if there is none. */
static void read_line(pid_t pid, const char *name, char *line, size_t size)
{
    char path[64];
    ssize_t n;
    int fd;

    snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    n = fd < 0 ? -1 : read(fd, line, size - 1);
    line[n > 0 ? n : 0] = '\0';
    if (fd >= 0) {
        close(fd);
    }
}

ProcessCost process_cost(pid_t pid)
{
    ProcessCost cost = { 0 };
    uint64_t resident;
    uint64_t shared;
    struct timespec time;
    clockid_t clock;
    char line[256];

    if (clock_getcpuclockid(pid, &clock) == 0 && clock_gettime(clock, &time) == 0) {
        cost.cpu_us = time.tv_sec * INT64_C(1000000) + time.tv_nsec / 1000;
    }
    read_line(pid, "statm", line, sizeof(line));
    if (sscanf(line, "%*u %" SCNu64 " %" SCNu64, &resident, &shared) == 2 && resident > shared) {
        cost.memory = (resident - shared) * sysconf(_SC_PAGESIZE);
    }
    return cost;
}

bool process_main_loop_waits(pid_t pid)
{
    char line[256];

    read_line(pid, "syscall", line, sizeof(line));
    return line[0] && atol(line) == SYS_ppoll;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Counts what code takes from the kernel for lazy loading and gives back
 * (descriptors, mappings, registrations, threads), and makes chosen calls fail:
 * the measure behind the property "setup-undo".
 *
 * The linker's --wrap sends every such call of this program's own code here,
 * whichever subject it is of; what a shared library calls inside itself is not
 * seen. The account is exact and costs next to nothing; what it cannot see,
 * count_resources() does, slowly.
 */
#ifndef PAGEWISE_PROPERTY_RESOURCE_METER_H
#define PAGEWISE_PROPERTY_RESOURCE_METER_H

#include <glib.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

/* What is counted, and can be made to fail. */
typedef enum MeteredCall {
    METERED_ANY,  /* in a MeteredFailure: each of the others */
    METERED_OPEN, /* of a userfaultfd, by system call, device or the device's ioctl */
    METERED_API,
    METERED_EVENTFD,
    METERED_MAP,
    METERED_ADVISE, /* but MADV_DOFORK, which gives back */
    METERED_REGISTER,
    METERED_THREAD,
    METERED_PLACE, /* COPY, ZEROPAGE, POISON */
    METERED_PROTECT,
    METERED_UNREGISTER,
    METERED_N_CALLS,
} MeteredCall;

const char *metered_call_name(MeteredCall call); /* "open", "api", ... */

/* The calls number @first (1: the first) to @first + @times - 1 of their kind fail. */
typedef struct MeteredFailure {
    MeteredCall call;
    unsigned first; /* 0: none fails */
    unsigned times;
    int error; /* positive errno */
} MeteredFailure;

#define METER_MAX_FAILURES 4
#define METER_MAX_HELD 64 /* of each kind */

typedef struct MeteredRange {
    int fd; /* registrations: the userfaultfd; else -1 */
    uintptr_t start;
    size_t length;
} MeteredRange;

typedef struct ResourceMeter {
    MeteredFailure failures[METER_MAX_FAILURES];
    unsigned calls[METERED_N_CALLS];  /* so far; METERED_ANY: all */
    unsigned failed[METERED_N_CALLS]; /* those that were made to fail */
    /* What is held. */
    unsigned n_fds, n_maps, n_registered, n_kept_from_children, n_threads;
    int fds[METER_MAX_HELD];
    MeteredRange maps[METER_MAX_HELD];
    MeteredRange registered[METER_MAX_HELD];
    MeteredRange kept_from_children[METER_MAX_HELD]; /* MADV_DONTFORK */
    pthread_t threads[METER_MAX_HELD];
    bool had_thread; /* one was started, ended or not */
    char wrong[160]; /* the first thing that was done wrong; "": nothing */
} ResourceMeter;

/*
 * Meters this thread's calls in @meter until resource_meter_stop(). The caller
 * keeps @meter alive, and has zeroed all but the failures. Not to be nested.
 */
void resource_meter_start(ResourceMeter *meter);
void resource_meter_stop(void);

/* What is still held, in words; NULL: nothing. Free with g_free(). */
char *resource_meter_describe_held(const ResourceMeter *meter);

/* Gives back what is held, threads aside. */
void resource_meter_release(ResourceMeter *meter);

/* What this process has of what may leak, as the kernel says: /proc. */
typedef struct Resources {
    unsigned descriptors;
    unsigned threads;
    unsigned mappings; /* of memory files; registered; kept from children */
} Resources;

/* Takes milliseconds. */
Resources count_resources(void);

#endif

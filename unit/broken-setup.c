/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * See broken-subject.h: set-ups of lazy loading that leave something behind.
 * What they take they take through the same wrapped calls as a loader does.
 */
#define _GNU_SOURCE
#include "unit/broken-subject.h"

#include "subject/setup.h"

#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LENGTH 0x1000

static SubjectStatus right(SubjectSetup *setup, GError **error)
{
    return subject_reference()->set_up(setup, error);
}

static SubjectStatus refuse(GError **error, const char *words)
{
    g_clear_error(error);
    g_set_error_literal(error, G_FILE_ERROR, G_FILE_ERROR_INVAL, words);
    return SUBJECT_REFUSED;
}

/* As QEMU's set-up once did where the eventfd failed. */
static SubjectStatus leaves_a_descriptor(SubjectSetup *setup, GError **error)
{
    SubjectStatus status = right(setup, error);

    if (status == SUBJECT_REFUSED) {
        eventfd(0, EFD_CLOEXEC);
    }
    return status;
}

/* As QEMU's set-up once did: its error path and the caller's cleanup. */
static SubjectStatus closes_twice(SubjectSetup *setup, GError **error)
{
    SubjectStatus status = right(setup, error);

    if (status == SUBJECT_REFUSED) {
        int fd = eventfd(0, EFD_CLOEXEC);

        close(fd);
        close(fd);
    }
    return status;
}

static SubjectStatus leaves_a_mapping(SubjectSetup *setup, GError **error)
{
    mmap(NULL, LENGTH, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return right(setup, error);
}

static SubjectStatus unmaps_a_half(SubjectSetup *setup, GError **error)
{
    uint8_t *memory = mmap(NULL, 2 * LENGTH, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    munmap(memory, LENGTH);
    return right(setup, error);
}

static SubjectStatus leaves_ram_out_of_children(SubjectSetup *setup, GError **error)
{
    SubjectStatus status = right(setup, error);

    madvise(setup->load.blocks[0].host, LENGTH, MADV_DONTFORK);
    return status;
}

static void *do_nothing(void *opaque)
{
    return opaque;
}

static SubjectStatus joins_no_thread(SubjectSetup *setup, GError **error)
{
    SubjectStatus status = right(setup, error);
    pthread_attr_t detached;
    pthread_t thread;

    pthread_attr_init(&detached);
    pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
    if (pthread_create(&thread, &detached, do_nothing, NULL) != 0) {
        refuse(error, "no thread");
    }
    pthread_attr_destroy(&detached);
    return status;
}

static SubjectStatus joins_twice(SubjectSetup *setup, GError **error)
{
    SubjectStatus status = right(setup, error);
    pthread_t thread;

    if (pthread_create(&thread, NULL, do_nothing, NULL) == 0) {
        pthread_join(thread, NULL);
        pthread_join(thread, NULL);
    }
    return status;
}

/* The thread would poll a descriptor that is not there yet. */
static SubjectStatus starts_its_thread_first(SubjectSetup *setup, GError **error)
{
    pthread_t thread;
    SubjectStatus status;
    int result = pthread_create(&thread, NULL, do_nothing, NULL);

    status = right(setup, error);
    if (result == 0) {
        pthread_join(thread, NULL);
    }
    return status;
}

static SubjectStatus keeps_a_number(SubjectSetup *setup, GError **error)
{
    SubjectStatus status = right(setup, error);

    if (status == SUBJECT_REFUSED) {
        setup->stale = "userfault_fd";
    }
    return status;
}

static SubjectStatus fails_in_silence(SubjectSetup *setup, GError **error)
{
    SubjectStatus status = right(setup, error);

    g_clear_error(error);
    return status;
}

static SubjectStatus succeeds_with_an_error(SubjectSetup *setup, GError **error)
{
    if (right(setup, error) == SUBJECT_ACCEPTED) {
        refuse(error, "well, not quite");
    }
    return SUBJECT_ACCEPTED;
}

/* Something is left over from a failure that no account shows. */
static SubjectStatus works_once(SubjectSetup *setup, GError **error)
{
    static bool failed;
    SubjectStatus status = right(setup, error);

    if (failed && status == SUBJECT_ACCEPTED) {
        status = refuse(error, "busy");
    }
    failed = status == SUBJECT_REFUSED;
    return status;
}

static SubjectStatus runs_no_guest(SubjectSetup *setup, GError **error)
{
    (void)setup;
    (void)error;
    return SUBJECT_ACCEPTED;
}

static SubjectStatus loads_other_pages(SubjectSetup *setup, GError **error)
{
    SubjectStatus status = right(setup, error);

    setup->load.blocks[0].host[0] ^= 1;
    return status;
}

/* By a call that is not wrapped: /proc tells. */
static SubjectStatus leaves_a_copy(SubjectSetup *setup, GError **error)
{
    if (dup(STDERR_FILENO) < 0) {
        return refuse(error, "no descriptor");
    }
    return right(setup, error);
}

static SubjectStatus says_that_it_keeps(SubjectSetup *setup, GError **error)
{
    SubjectStatus status = right(setup, error);

    setup->n_kept = 1;
    return status;
}

#define FAULTS(X)                                                                                  \
    X(leaves_a_descriptor, "1 descriptor")                                                         \
    X(closes_twice, "closed before")                                                               \
    X(leaves_a_mapping, "1 mapping")                                                               \
    X(unmaps_a_half, "are unmapped")                                                               \
    X(leaves_ram_out_of_children, "kept from children")                                            \
    X(joins_no_thread, "1 thread")                                                                 \
    X(joins_twice, "joined that does not run")                                                     \
    X(starts_its_thread_first, "after a thread was started")                                       \
    X(keeps_a_number, "the field 'userfault_fd'")                                                  \
    X(fails_in_silence, "without a message")                                                       \
    X(succeeds_with_an_error, "with an error set")                                                 \
    X(works_once, "was refused: busy")                                                             \
    X(runs_no_guest, "did not run the guest")                                                      \
    X(loads_other_pages, "page 0: after a set-up")                                                 \
    X(leaves_a_copy, "the process had")                                                            \
    X(says_that_it_keeps, "stay registered for ever")

#define ENTRY(fault, words)                                                                        \
    { .subject = { .name = #fault, .set_up = fault },                                              \
      .kind = INPUT_SETUP,                                                                         \
      .property = PROPERTY_SETUP_UNDO,                                                             \
      .message = words },

const BrokenSubject *broken_setups(unsigned *n)
{
    static const BrokenSubject table[] = { FAULTS(ENTRY) };

    *n = G_N_ELEMENTS(table);
    return table;
}

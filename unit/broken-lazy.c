/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See broken-lazy.h. The guest is that of test-lazy.c: one block of 12 pages, all in the file. */
#define _GNU_SOURCE
#include "unit/broken-lazy.h"

#include "property/schedule.h"
#include "subject/reference.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE 4096
#define END_OF_STEPS                                                                               \
    {                                                                                              \
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff,                                                        \
        {                                                                                          \
            0xff, 0xff                                                                             \
        }                                                                                          \
    }

/* What is wrong in RAM, or in what it says. */

static uint8_t *ram_of(SubjectLazyLoad *load)
{
    return load->load.blocks[0].host;
}

static SubjectStatus brings_stale_data_back(SubjectLazyLoad *load, unsigned block, uint64_t offset,
                                            uint64_t length, GError **error)
{
    uint8_t *host = load->load.blocks[block].host + offset;
    g_autofree uint8_t *kept = g_memdup2(host, length);
    SubjectStatus status = reference_lazy.discard(load, block, offset, length, error);

    memcpy(host, kept, length);
    return status;
}

static SubjectStatus discards_nothing(SubjectLazyLoad *load, unsigned block, uint64_t offset,
                                      uint64_t length, GError **error)
{
    (void)load;
    (void)block;
    (void)offset;
    (void)length;
    (void)error;
    return SUBJECT_ACCEPTED;
}

static SubjectStatus reports_success(SubjectLazyLoad *load, GError **error)
{
    reference_lazy.end(load, error);
    g_clear_error(error);
    return SUBJECT_ACCEPTED;
}

static SubjectStatus reports_failure(SubjectLazyLoad *load, GError **error)
{
    reference_lazy.end(load, error);
    g_clear_error(error);
    g_set_error_literal(error, G_FILE_ERROR, G_FILE_ERROR_IO, "it is Monday");
    return SUBJECT_REFUSED;
}

static SubjectStatus says_nothing(SubjectLazyLoad *load, GError **error)
{
    SubjectStatus status = reference_lazy.end(load, error);

    g_clear_error(error);
    return status;
}

static SubjectStatus overwrites_at_the_end(SubjectLazyLoad *load, GError **error)
{
    g_autofree uint8_t *kept = g_malloc(PAGE);
    SubjectStatus status = reference_lazy.end(load, error);

    sparse_file_read(load->load.file, load->load.blocks[0].pages_offset, kept, PAGE);
    memcpy(ram_of(load), kept, PAGE);
    return status;
}

static SubjectStatus loses_a_page(SubjectLazyLoad *load, GError **error)
{
    SubjectStatus status = reference_lazy.end(load, error);

    madvise(ram_of(load) + 2 * PAGE, PAGE, MADV_DONTNEED);
    return status;
}

/* A page of zeroes, for whoever comes after the load has failed. */
static SubjectStatus unpoisons(SubjectLazyLoad *load, GError **error)
{
    SubjectStatus status = reference_lazy.end(load, error);

    for (unsigned page = 0; page < 12; page++) {
        if (reference_lazy.installer(load, 0, page) == SUBJECT_PAGE_POISONED) {
            madvise(ram_of(load) + page * PAGE, PAGE, MADV_DONTNEED);
        }
    }
    return status;
}

static SubjectStatus shuts_all_off(SubjectLazyLoad *load, GError **error)
{
    SubjectStatus status = reference_lazy.end(load, error);

    if (status == SUBJECT_REFUSED) {
        mprotect(ram_of(load), 12 * PAGE, PROT_NONE);
    }
    return status;
}

static SubjectStatus loads_all_at_once(SubjectLazyLoad *load, GError **error)
{
    SubjectStatus status = reference_lazy.start(load, error);

    for (unsigned page = 0; status == SUBJECT_ACCEPTED && page < 12; page++) {
        __atomic_load_n(ram_of(load) + page * PAGE, __ATOMIC_RELAXED);
    }
    return status;
}

static SubjectStatus leaks_a_descriptor(SubjectLazyLoad *load, GError **error)
{
    fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
    return reference_lazy.end(load, error);
}

static SubjectStatus refuses_all(SubjectLazyLoad *load, GError **error)
{
    (void)load;
    g_set_error_literal(error, G_FILE_ERROR, G_FILE_ERROR_IO, "no: at offset 0x0 (rule R8)");
    return SUBJECT_REFUSED;
}

/* What is wrong in an operation. */

static const UffdOps *right(void)
{
    static UffdOps ops;
    static gsize done;

    if (g_once_init_enter(&done)) {
        void *session = reference_lazy.session_new(NULL);

        ops = *reference_lazy_ops(session);
        reference_lazy.session_free(session);
        g_once_init_leave(&done, 1);
    }
    return &ops;
}

static int zeroes_for_poison(const UffdOps *ops, int uffd, struct uffdio_poison *poison)
{
    struct uffdio_zeropage zero = { .range = poison->range };
    int result = uffd_ops_real()->zeropage(ops, uffd, &zero);

    poison->updated = zero.zeropage;
    return result;
}

static int eexist_is_fatal(const UffdOps *ops, int uffd, struct uffdio_copy *copy)
{
    int result = right()->copy(ops, uffd, copy);

    return result == -EEXIST ? -EIO : result;
}

static int copies_twice(const UffdOps *ops, int uffd, struct uffdio_copy *copy)
{
    right()->copy(ops, uffd, copy);
    madvise((void *)(uintptr_t)copy->dst, copy->len, MADV_DONTNEED);
    return right()->copy(ops, uffd, copy);
}

/* The claim is gone, and so is the page. */
static int skips_long_copies(const UffdOps *ops, int uffd, struct uffdio_copy *copy)
{
    if (copy->len > PAGE) {
        copy->copy = (int64_t)copy->len;
        return 0;
    }
    return right()->copy(ops, uffd, copy);
}

static int starts_over_after_eagain(const UffdOps *ops, int uffd, struct uffdio_copy *copy)
{
    int result = right()->copy(ops, uffd, copy);

    if (result == -EAGAIN && copy->copy > 0) {
        copy->copy = (int64_t)copy->len;
        return 0;
    }
    return result;
}

/* Of runs, so that it is the eager thread that wakes nobody. */
static int wakes_nobody(const UffdOps *ops, int uffd, struct uffdio_copy *copy)
{
    if (copy->len > PAGE) {
        copy->mode = UFFDIO_COPY_MODE_DONTWAKE;
    }
    return right()->copy(ops, uffd, copy);
}

static int wake_does_nothing(const UffdOps *ops, int uffd, struct uffdio_range *range)
{
    (void)ops;
    (void)uffd;
    (void)range;
    return 0;
}

static ssize_t dies_of_eagain(const UffdOps *ops, int uffd, struct uffd_msg *messages,
                              size_t length)
{
    ssize_t result = right()->read(ops, uffd, messages, length);

    return result == -EAGAIN ? -EIO : result;
}

#define DEFINE_SESSION(function, operation)                                                        \
    static void *session_that_##function(GError **error)                                           \
    {                                                                                              \
        void *session;                                                                             \
                                                                                                   \
        right();                                                                                   \
        session = reference_lazy.session_new(error);                                               \
        if (session) {                                                                             \
            reference_lazy_ops(session)->operation = function;                                     \
        }                                                                                          \
        return session;                                                                            \
    }

DEFINE_SESSION(zeroes_for_poison, poison)
DEFINE_SESSION(eexist_is_fatal, copy)
DEFINE_SESSION(copies_twice, copy)
DEFINE_SESSION(skips_long_copies, copy)
DEFINE_SESSION(starts_over_after_eagain, copy)
DEFINE_SESSION(wakes_nobody, copy)
DEFINE_SESSION(wake_does_nothing, wake)
DEFINE_SESSION(dies_of_eagain, read)

/*
 * Steps: action, thread, block, page, value, detail. FAIL: thread is the
 * operation, block the errno, value the failure, detail the calls before it.
 * WHEN: thread is the loader's, value the point, detail + 1 the steps.
 */
static const InputStep nothing[] = { END_OF_STEPS };
static const InputStep read_two[] = { { STEP_READ, 0, 0, 0, 0, 0, { 0 } },
                                      { STEP_READ, 1, 0, 5, 0, 9, { 0 } },
                                      END_OF_STEPS };
static const InputStep write_one[] = { { STEP_WRITE, 0, 0, 0, 0x77, 5, { 0 } }, END_OF_STEPS };
static const InputStep discard_read[] = { { STEP_READ, 0, 0, 3, 0, 0, { 0 } },
                                          { STEP_DISCARD, 1, 0, 3, 0, 0, { 0 } },
                                          { STEP_READ, 0, 0, 3, 0, 0, { 0 } },
                                          END_OF_STEPS };
static const InputStep io_error[] = { { STEP_READ, 0, 0, 1, 0, 0, { 0 } },
                                      { STEP_FAIL, SUBJECT_READ_FILE, 0, 0, 0, 0, { 0 } },
                                      { STEP_READ, 0, 0, 4, 0, 0, { 0 } },
                                      END_OF_STEPS };
static const InputStep is_there[] = { { STEP_FAIL, SUBJECT_COPY, 0, 0, 2, 0, { 0 } },
                                      { STEP_READ, 0, 0, 4, 0, 0, { 0 } },
                                      END_OF_STEPS };
static const InputStep partial[] = { { STEP_FAIL, SUBJECT_COPY, 0, 0, 1, 0, { 0 } }, END_OF_STEPS };
static const InputStep nothing_there[] = {
    { STEP_FAIL, SUBJECT_READ_MESSAGE, 0, 0, 2, 0, { 0 } },
    { STEP_READ, 0, 0, 4, 0, 0, { 0 } },
    END_OF_STEPS,
};
/* While the eager thread has claimed all pages a guest thread comes to sleep on one. */
static const InputStep sleeps[] = { { STEP_WHEN, SUBJECT_EAGER_THREAD, 0, 0, 0, 0, { 0 } },
                                    { STEP_READ, 2, 0, 6, 0, 0, { 0 } },
                                    { STEP_EAGER, 0, 0, 0, 0, 0, { 0 } },
                                    END_OF_STEPS };
/* The same, and then somebody else puts the page there and wakes nobody. */
static const InputStep sleeps_is_there[] = {
    { STEP_WHEN, SUBJECT_EAGER_THREAD, 0, 0, 0, 1, { 0 } },
    { STEP_READ, 2, 0, 0, 0, 0, { 0 } },
    { STEP_FAIL, SUBJECT_COPY, 0, 0, 2, 0, { 0 } },
    { STEP_EAGER, 0, 0, 0, 0, 0, { 0 } },
    END_OF_STEPS,
};

#define ENDS(what, function, schedule, id, text)                                                   \
    {                                                                                              \
        .name = what, .end = function, .steps = schedule, .property = id, .message = text          \
    }
#define OPERATES(what, function, schedule, id, text)                                               \
    {                                                                                              \
        .name = what, .session_new = session_that_##function, .steps = schedule,                   \
        .lazy_flags = INPUT_LAZY_EAGER_THREAD, .property = id, .message = text                     \
    }

const BrokenLazy *broken_lazies(unsigned *n)
{
    static const BrokenLazy table[] = {
        {
            .name = "brings stale data back",
            .discard = brings_stale_data_back,
            .steps = discard_read,
            .property = PROPERTY_ONCE,
            .message = "discarded",
        },
        {
            .name = "discards nothing",
            .discard = discards_nothing,
            .steps = discard_read,
            .property = PROPERTY_ONCE,
            .message = "discarded",
        },
        {
            .name = "loads all at once",
            .start = loads_all_at_once,
            .steps = read_two,
            .property = PROPERTY_LAZY_EAGER,
            .message = "it was not loaded lazily",
        },
        {
            .name = "refuses all",
            .start = refuses_all,
            .steps = nothing,
            .property = PROPERTY_CLEAN_REJECT,
            .message = "does not break",
        },
        ENDS("reports success", reports_success, io_error, PROPERTY_NO_SILENT_ZERO, "success"),
        ENDS("reports failure", reports_failure, read_two, PROPERTY_LAZY_EAGER, "Monday"),
        ENDS("says nothing", says_nothing, io_error, PROPERTY_NO_SILENT_ZERO, "without a message"),
        ENDS("overwrites what the guest wrote", overwrites_at_the_end, write_one, PROPERTY_ONCE,
             "what the guest left there"),
        ENDS("loses a page", loses_a_page, read_two, PROPERTY_LAZY_EAGER, "rule G1"),
        ENDS("takes poison away", unpoisons, io_error, PROPERTY_NO_SILENT_ZERO, "rule G1"),
        ENDS("shuts all off", shuts_all_off, io_error, PROPERTY_ONCE, "the guest had it"),
        ENDS("leaks a descriptor", leaks_a_descriptor, nothing, PROPERTY_CLEAN_REJECT,
             "is open after the load"),
        OPERATES("takes zeroes for poison", zeroes_for_poison, io_error, PROPERTY_NO_SILENT_ZERO,
                 "the guest read 0x00"),
        OPERATES("dies of EEXIST", eexist_is_fatal, is_there, PROPERTY_LAZY_EAGER, "poison"),
        OPERATES("installs pages twice", copies_twice, read_two, PROPERTY_ONCE,
                 "content was placed 2 times"),
        OPERATES("claims and forgets", skips_long_copies, read_two, PROPERTY_LAZY_EAGER, "rule G1"),
        OPERATES("takes a part for the whole", starts_over_after_eagain, partial,
                 PROPERTY_LAZY_EAGER, "rule G1"),
        OPERATES("dies of a message that is gone", dies_of_eagain, nothing_there,
                 PROPERTY_LAZY_EAGER, "nothing failed"),
        OPERATES("wakes nobody", wakes_nobody, sleeps, PROPERTY_BOUNDED,
                 "a guest thread that sleeps on a page is woken"),
        OPERATES("does not wake after EEXIST", wake_does_nothing, sleeps_is_there, PROPERTY_BOUNDED,
                 "a guest thread that sleeps on a page is woken"),
    };

    *n = G_N_ELEMENTS(table);
    return table;
}

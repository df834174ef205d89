/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See schedule.h. Every byte string is a schedule: what is out of range is reduced. */
#include "property/schedule.h"

#include <errno.h>

/* Where a thread of the loader can be held. */
static const SubjectPoint hold_points[] = {
    SUBJECT_POINT_CLAIMED,
    SUBJECT_POINT_READ,
    SUBJECT_POINT_PLACED,
    SUBJECT_POINT_RECEIVED,
    SUBJECT_POINT_FAULT,
    SUBJECT_POINT_EAGER_NEXT,
    SUBJECT_POINT_FAILED,
    SUBJECT_POINT_POISONED,
    SUBJECT_POINT_DISCARD_MARKED,
    SUBJECT_POINT_BEFORE_QUIT,
    SUBJECT_POINT_BEFORE_UNREGISTER,
};

static const char *const point_names[SUBJECT_N_POINTS] = {
    [SUBJECT_POINT_FAULT] = "knows a fault's page",
    [SUBJECT_POINT_CLAIMED] = "has claimed pages",
    [SUBJECT_POINT_READ] = "has pages at hand",
    [SUBJECT_POINT_PLACED] = "has placed pages",
    [SUBJECT_POINT_RECEIVED] = "has said that pages are there",
    [SUBJECT_POINT_FAILED] = "has failed to load pages",
    [SUBJECT_POINT_POISONED] = "has given pages up",
    [SUBJECT_POINT_EAGER_NEXT] = "is about to claim",
    [SUBJECT_POINT_DISCARD_MARKED] = "has marked a discarded range",
    [SUBJECT_POINT_BEFORE_QUIT] = "is about to end the fault thread",
    [SUBJECT_POINT_BEFORE_UNREGISTER] = "is about to unregister a block",
};

static const char *const thread_names[SUBJECT_N_THREADS] = {
    [SUBJECT_FAULT_THREAD] = "fault thread",
    [SUBJECT_EAGER_THREAD] = "eager thread",
    [SUBJECT_OTHER_THREAD] = "caller",
};

static const char *const operation_names[SUBJECT_N_OPERATIONS] = {
    [SUBJECT_READ_FILE] = "read of the file",      [SUBJECT_COPY] = "UFFDIO_COPY",
    [SUBJECT_ZEROPAGE] = "UFFDIO_ZEROPAGE",        [SUBJECT_POISON] = "UFFDIO_POISON",
    [SUBJECT_POLL] = "poll() of the fault thread", [SUBJECT_READ_MESSAGE] = "read of messages",
};

/* Which failures an operation has besides SUBJECT_FAILS. */
static const SubjectFailure failures[SUBJECT_N_OPERATIONS][2] = {
    [SUBJECT_READ_FILE] = { SUBJECT_PARTIAL, SUBJECT_END_OF_FILE },
    [SUBJECT_COPY] = { SUBJECT_PARTIAL, SUBJECT_IS_THERE },
    [SUBJECT_ZEROPAGE] = { SUBJECT_PARTIAL, SUBJECT_IS_THERE },
    [SUBJECT_POISON] = { SUBJECT_FAILS, SUBJECT_FAILS },
    [SUBJECT_POLL] = { SUBJECT_FAILS, SUBJECT_FAILS },
    [SUBJECT_READ_MESSAGE] = { SUBJECT_COMES_TWICE, SUBJECT_NOTHING_THERE },
};

static const int errors[] = { EIO, EINTR, EAGAIN, ENOMEM, EFAULT, ENOENT, ESRCH };

static SubjectFault fault_of(const InputStep *in)
{
    SubjectFault fault = {
        .operation = in->thread % SUBJECT_N_OPERATIONS,
        .failure = SUBJECT_FAILS,
        .error = errors[in->block % G_N_ELEMENTS(errors)],
        .countdown = 1 + in->detail % 8,
    };

    if (in->value % 3 > 0) {
        fault.failure = failures[fault.operation][in->value % 3 - 1];
    }
    return fault;
}

static unsigned length_of(const InputStep *in)
{
    unsigned most =
        in->action % STEP_N_ACTIONS == STEP_WHEN ? SCHEDULE_MAX_BODY : SCHEDULE_MAX_DISCARD;

    return 1 + in->detail % most;
}

Step schedule_step(const InputStep *in)
{
    return (Step){
        .action = in->action % STEP_N_ACTIONS,
        .thread = in->thread % SCHEDULE_GUEST_THREADS,
        .block = in->block,
        .page = in->page,
        .length = length_of(in),
        .value = in->value,
        /* A prime step, so that all places in a page come up. */
        .offset = in->detail * 61 % 4096,
        .held = in->thread % SUBJECT_N_THREADS,
        .point = hold_points[in->value % G_N_ELEMENTS(hold_points)],
        .fault = fault_of(in),
    };
}

static bool is_transient(const SubjectFault *fault)
{
    switch (fault->operation) {
    case SUBJECT_READ_FILE:
    case SUBJECT_POLL:
        return fault->error == EINTR;
    case SUBJECT_READ_MESSAGE:
        return fault->error == EINTR || fault->error == EAGAIN;
    default:
        return fault->error == EAGAIN;
    }
}

bool schedule_is_harmless(const SubjectFault *fault)
{
    return fault->failure == SUBJECT_FAILS ? is_transient(fault)
                                           : fault->failure != SUBJECT_END_OF_FILE;
}

static void describe_fault(const SubjectFault *fault, GString *out)
{
    g_string_append_printf(out, "%s number %u from here: ", operation_names[fault->operation],
                           fault->countdown);
    switch (fault->failure) {
    case SUBJECT_PARTIAL:
        g_string_append(out, "does a part of it");
        break;
    case SUBJECT_IS_THERE:
        g_string_append(out, "somebody else is faster, EEXIST");
        break;
    case SUBJECT_END_OF_FILE:
        g_string_append(out, "the file is cut off in the middle of it");
        break;
    case SUBJECT_COMES_TWICE:
        g_string_append(out, "each message comes twice");
        break;
    case SUBJECT_NOTHING_THERE:
        g_string_append(out, "nothing is there");
        break;
    default:
        g_string_append_printf(out, "fails: %s", g_strerror(fault->error));
        break;
    }
}

static void describe_page(const Step *step, const char *what, GString *out)
{
    g_string_append_printf(out, "guest thread %u %s page %u of lazy block %u", step->thread, what,
                           step->page, step->block);
}

static void describe_step(const Step *step, GString *out)
{
    switch (step->action) {
    case STEP_READ:
        describe_page(step, "reads", out);
        g_string_append_printf(out, ", byte %u", step->offset);
        break;
    case STEP_WRITE:
        describe_page(step, "writes", out);
        g_string_append_printf(out, ", 0x%02x to byte %u", step->value, step->offset);
        break;
    case STEP_EAGER:
        g_string_append(out, "the eager thread takes a step");
        break;
    case STEP_DISCARD:
    case STEP_MADVISE:
        describe_page(step, step->action == STEP_DISCARD ? "discards" : "madvises away", out);
        g_string_append_printf(out, ", %u pages", step->length);
        break;
    case STEP_WHEN:
        g_string_append_printf(out, "when the %s %s:", thread_names[step->held],
                               point_names[step->point]);
        break;
    case STEP_FAIL:
        describe_fault(&step->fault, out);
        break;
    case STEP_CUT:
        g_string_append_printf(out, "the file is cut off at byte %u of page %u of lazy block %u",
                               step->offset, step->page, step->block);
        break;
    default:
        g_string_append(out, "the load is cancelled");
        break;
    }
    g_string_append_c(out, '\n');
}

void schedule_describe(const Input *input, GString *out)
{
    unsigned body = 0;

    for (unsigned i = 0; i < input->n_steps; i++) {
        Step step = schedule_step(&input->steps[i]);

        g_string_append_printf(out, "  %2u %s", i, body ? "    " : "");
        describe_step(&step, out);
        body = body ? body - 1 : 0;
        if (step.action == STEP_WHEN && !body) {
            body = step.length;
        }
    }
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See bounded.h. */
#include "unit/bounded.h"

#include "loader/uffd.h"
#include "unit/support.h"

#include <unistd.h>

#define BOUND_SECONDS 60

void require_uffd(void)
{
    g_autoptr(GError) error = NULL;
    Uffd uffd = { .fd = -1 };
    bool available = uffd_open(uffd_ops_real(), 0, 0, &uffd, &error);

    if (available) {
        close(uffd.fd);
    }
    pagewise_skip_unless(available, "uffd", available ? "" : error->message,
                         "see the list in the reason");
}

static void *do_nothing(void *opaque)
{
    return opaque;
}

static int run_body(void *opaque)
{
    bool (**body)(void) = opaque;
    pthread_t first;

    /* With the first thread ThreadSanitizer starts one of its own. */
    g_assert(pthread_create(&first, NULL, do_nothing, NULL) == 0);
    pthread_join(first, NULL);
    return (*body)() ? 0 : 1;
}

void run_bounded(bool (*body)(void))
{
    ChildEnd end = pagewise_run_in_child(run_body, &body, BOUND_SECONDS);

    assert_false(end.timed_out);
    assert_int_equal(end.signal, 0);
    assert_int_equal(end.exit_status, 0);
}

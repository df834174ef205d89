/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The tree's migration/multifd.c, whole: its own threads read the pages, as
 * many channels as the load asks for, each with a file of its own, as
 * file_create_incoming_channels() opens them.
 */
#include PAGEWISE_UNIT

#include "subject/qemu-tree/adapter.h"

bool tree_multifd_begin(SubjectLoad *load, Error **errp)
{
    MigrationState *migration = migrate_get_current();
    Error *error = NULL;

    migration->parameters.multifd_channels = load->axes.multifd_channels;
    migration->capabilities[MIGRATION_CAPABILITY_MULTIFD] = load->axes.multifd_channels > 0;
    if (!load->axes.multifd_channels) {
        return true;
    }
    if (multifd_recv_setup(errp) != 0) {
        return false;
    }
    for (unsigned i = 0; i < load->axes.multifd_channels && !error; i++) {
        QIOChannel *channel = tree_channel_new(load);

        multifd_recv_new_channel(channel, &error);
        object_unref(OBJECT(channel));
    }
    error_propagate(errp, error);
    return !error;
}

void tree_multifd_end(void)
{
    multifd_recv_cleanup();
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Options and errors of all subcommands, see command.h.
 */
#include "tools/command.h"

#include <stdio.h>
#include <stdlib.h>

G_DEFINE_QUARK(pagewise_command_error, command_error)

static gboolean print_version(const char *option G_GNUC_UNUSED, const char *value G_GNUC_UNUSED,
                              void *opaque G_GNUC_UNUSED, GError **error G_GNUC_UNUSED)
{
    printf("pagewise %s\n", PAGEWISE_VERSION);
    exit(STATUS_OK);
}

static const GOptionEntry common_options[] = {
    { "version", 0, G_OPTION_FLAG_NO_ARG, G_OPTION_ARG_CALLBACK, (void *)print_version,
      "Print the version and exit", NULL },
    G_OPTION_ENTRY_NULL,
};

bool command_parse(const Command *command, const GOptionEntry *options, int *argc, char ***argv)
{
    g_autoptr(GOptionContext) context = g_option_context_new(command->parameters);
    g_autoptr(GError) error = NULL;
    g_autofree char *name = g_strdup_printf("pagewise %s", command->name);

    g_set_prgname(name);
    g_option_context_set_summary(context, command->summary);
    g_option_context_set_description(context, command->help);
    g_option_context_add_main_entries(context, options, NULL);
    g_option_context_add_main_entries(context, common_options, NULL);
    if (!g_option_context_parse(context, argc, argv, &error)) {
        command_usage_error(command, error->message);
        return false;
    }
    /* A "--" that was needed for a name with a dash stays in argv. */
    if (*argc > 1 && g_str_equal((*argv)[1], "--")) {
        (*argv)[1] = (*argv)[0];
        (*argv)++;
        (*argc)--;
    }
    if (*argc - 1 < command->min_parameters || *argc - 1 > command->max_parameters) {
        command_usage_error(command, *argc - 1 < command->min_parameters ? "too few arguments"
                                                                         : "too many arguments");
        return false;
    }
    return true;
}

int command_usage_error(const Command *command, const char *message)
{
    fprintf(stderr,
            "pagewise %s: %s\n"
            "usage: pagewise %s [OPTION...] %s\n"
            "`pagewise %s --help` tells more\n",
            command->name, message, command->name, command->parameters, command->name);
    return STATUS_USAGE;
}

int command_fail(const Command *command, const char *subject, const GError *error)
{
    if (g_error_matches(error, COMMAND_ERROR, COMMAND_ERROR_USAGE)) {
        return command_usage_error(command, error->message);
    }
    fflush(stdout);
    fprintf(stderr, "pagewise %s: %s: %s\n", command->name, subject, error->message);
    return STATUS_TROUBLE;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The command `pagewise`: looks at mapped-ram snapshots and at stored fuzz
 * inputs. This file only finds the subcommand; each has a file of its own.
 */
#include "tools/command.h"

#include <errno.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

static const struct {
    const Command *command;
    CommandFunction *run;
} commands[] = {
    { &command_inspect, run_inspect }, { &command_verify, run_verify }, { &command_diff, run_diff },
    { &command_make, run_make },       { &command_replay, run_replay },
};

static void print_usage(FILE *out)
{
    fprintf(out, "usage: pagewise COMMAND [OPTION...] ...\n\n"
                 "Looks at QEMU's mapped-ram snapshots and at stored fuzz inputs. Commands:\n\n");
    for (unsigned i = 0; i < G_N_ELEMENTS(commands); i++) {
        const Command *command = commands[i].command;

        fprintf(out, "  %-7s %-16s %s\n", command->name, command->parameters, command->summary);
    }
    fprintf(out, "\n`pagewise COMMAND --help` tells more of each; `pagewise --version` prints the\n"
                 "version. The rules that messages cite are in docs/mapped-ram-format.md.\n");
}

/* What could not be written must not pass for a success. */
static int finish(int status)
{
    if (fflush(stdout) == 0 && !ferror(stdout)) {
        return status;
    }
    fprintf(stderr, "pagewise: the output cannot be written: %s\n", g_strerror(errno));
    return STATUS_TROUBLE;
}

static int run_command(int argc, char **argv)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(commands); i++) {
        if (strcmp(argv[0], commands[i].command->name) == 0) {
            return commands[i].run(argc, argv);
        }
    }
    fprintf(stderr, "pagewise: there is no command '%s'\n", argv[0]);
    print_usage(stderr);
    return STATUS_USAGE;
}

int main(int argc, char **argv)
{
    setlocale(LC_CTYPE, "");
    /* Who reads our output and goes away ends us in silence. */
    signal(SIGPIPE, SIG_DFL);
    if (argc < 2) {
        print_usage(stderr);
        return STATUS_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        print_usage(stdout);
        return finish(STATUS_OK);
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf("pagewise %s\n", PAGEWISE_VERSION);
        return finish(STATUS_OK);
    }
    return finish(run_command(argc - 1, argv + 1));
}

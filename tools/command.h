/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the subcommands of `pagewise` share: how they are called, how options
 * are read, how errors are told, and the exit statuses.
 */
#ifndef PAGEWISE_TOOLS_COMMAND_H
#define PAGEWISE_TOOLS_COMMAND_H

#include <glib.h>
#include <stdbool.h>

enum {
    STATUS_OK = 0,
    STATUS_DIFFERENT = 1, /* refused, different, or a property is broken */
    STATUS_TROUBLE = 2,   /* no answer: a file cannot be read or written */
    STATUS_USAGE = 64,    /* wrong arguments, EX_USAGE of sysexits.h */
};

/* @argv[0] is the subcommand's name. Returns the exit status. */
typedef int CommandFunction(int argc, char **argv);

typedef struct Command {
    const char *name;
    const char *parameters; /* for the usage line: "FILE" */
    const char *summary;    /* one line */
    const char *help;       /* what --help says after the options */
    int min_parameters;
    int max_parameters; /* G_MAXINT: any number */
} Command;

extern const Command command_inspect;
extern const Command command_verify;
extern const Command command_diff;
extern const Command command_make;
extern const Command command_replay;

CommandFunction run_inspect;
CommandFunction run_verify;
CommandFunction run_diff;
CommandFunction run_make;
CommandFunction run_replay;

/*
 * Reads the options of the table and takes them out of @argv; what is left are
 * @argc - 1 parameters, as many as the command takes. False: what is wrong was
 * told on stderr, the status is STATUS_USAGE. --help and --version do not
 * return.
 */
bool command_parse(const Command *command, const GOptionEntry *options, int *argc, char ***argv);

/*
 * "pagewise NAME: SUBJECT: message" on stderr. Returns STATUS_TROUBLE; for
 * COMMAND_ERROR_USAGE it is command_usage_error().
 */
int command_fail(const Command *command, const char *subject, const GError *error);

/* The same for what was wrong with the arguments. Returns STATUS_USAGE. */
int command_usage_error(const Command *command, const char *message);

#define COMMAND_ERROR command_error_quark()
GQuark command_error_quark(void);

typedef enum CommandErrorCode {
    COMMAND_ERROR_INPUT,  /* a file is not what the command needs */
    COMMAND_ERROR_OUTPUT, /* a file cannot be written */
    COMMAND_ERROR_LIMIT,  /* more than this program can handle */
    COMMAND_ERROR_USAGE,  /* an option's value makes no sense */
} CommandErrorCode;

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Runs stored inputs through a fuzz target without any fuzzer: the main() of
 * the replay-* tests, and of the fuzz targets where the compiler has no
 * libFuzzer.
 *
 *     TARGET-replay [--repeat N] [--reverse] FILE|FOLDER...
 *
 * Each input runs once a pass, all passes in one process: N forward ones, each
 * followed by a backward one with --reverse. What a target leaves behind then
 * shows: descriptors and threads must be as many after each pass as after the
 * first, mappings must not grow from pass to pass. libc alone is used, so that
 * nothing but the target is under test.
 */
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* No target's input takes a second; a hang is to be blamed on its input. */
#define SECONDS_PER_INPUT 60

/* Mappings that may be new in all passes: the allocator's own. */
#define MAPPINGS_TOLERANCE 8

typedef struct Input {
    char *path;
    uint8_t *data;
    size_t length;
} Input;

typedef struct Inputs {
    Input *items;
    size_t n;
} Inputs;

typedef struct Resources {
    size_t descriptors;
    size_t threads;
    size_t mappings;
} Resources;

/* What a target supplies to any fuzzer. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length);
__attribute__((weak)) int LLVMFuzzerInitialize(int *argc, char ***argv);
/* What a fuzzer supplies to a target's mutator, which never runs here. */
size_t LLVMFuzzerMutate(uint8_t *data, size_t length, size_t max_length);
/* What a sanitizer's runtime has, where there is one. */
__attribute__((weak)) void __sanitizer_set_death_callback(void (*callback)(void));

/* For the handlers of signals and of the sanitizer's end alone. */
static const char *volatile running;

/* NOLINTNEXTLINE(readability-non-const-parameter): the fuzzers' prototype. */
size_t LLVMFuzzerMutate(uint8_t *data, size_t length, size_t max_length)
{
    (void)data;
    (void)max_length;
    return length;
}

static _Noreturn void die(const char *what, const char *path)
{
    fprintf(stderr, "replay: %s: %s\n", path, what);
    exit(1);
}

static void write_text(const char *text)
{
    ssize_t ignored = write(STDERR_FILENO, text, strlen(text));

    (void)ignored;
}

static void name_running_input(void)
{
    if (running != NULL) {
        write_text("replay: the input was ");
        write_text(running);
        write_text("\n");
    }
}

static void on_deadly_signal(int signal_number)
{
    if (signal_number == SIGALRM) {
        write_text("replay: still not done after a minute\n");
    }
    name_running_input();
    raise(signal_number); /* SA_RESETHAND: now it kills */
}

static void watch_for_death(void)
{
    static const int always[] = { SIGABRT, SIGTRAP, SIGALRM };
    static const int unless_sanitized[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL };
    struct sigaction action = {
        .sa_handler = on_deadly_signal,
        .sa_flags = (int)(SA_RESETHAND | SA_NODEFER),
    };

    for (size_t i = 0; i < sizeof(always) / sizeof(*always); i++) {
        sigaction(always[i], &action, NULL);
    }
    if (__sanitizer_set_death_callback != NULL) {
        __sanitizer_set_death_callback(name_running_input);
        return;
    }
    for (size_t i = 0; i < sizeof(unless_sanitized) / sizeof(*unless_sanitized); i++) {
        sigaction(unless_sanitized[i], &action, NULL);
    }
}

static void *allocate(void *old, size_t bytes)
{
    void *new = realloc(old, bytes);

    if (new == NULL) {
        die("out of memory", "replay");
    }
    return new;
}

static void add_file(Inputs *inputs, const char *path)
{
    FILE *file = fopen(path, "rb");
    Input input = { .path = strdup(path) };
    size_t got;

    if (file == NULL || input.path == NULL) {
        die(strerror(errno), path);
    }
    do {
        input.data = allocate(input.data, input.length + 65536);
        got = fread(input.data + input.length, 1, 65536, file);
        input.length += got;
    } while (got > 0);
    if (ferror(file)) {
        die("cannot be read", path);
    }
    fclose(file);
    inputs->items = allocate(inputs->items, (inputs->n + 1) * sizeof(Input));
    inputs->items[inputs->n++] = input;
}

static int is_visible(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

static void add_folder(Inputs *inputs, const char *folder)
{
    struct dirent **entries;
    int n = scandir(folder, &entries, is_visible, alphasort);

    if (n < 0) {
        die(strerror(errno), folder);
    }
    if (n == 0) {
        die("has no inputs", folder);
    }
    for (int i = 0; i < n; i++) {
        char path[4096];

        snprintf(path, sizeof(path), "%s/%s", folder, entries[i]->d_name);
        add_file(inputs, path);
        free(entries[i]);
    }
    free(entries);
}

static void add_path(Inputs *inputs, const char *path)
{
    struct stat status;

    if (stat(path, &status) < 0) {
        die(strerror(errno), path);
    }
    if (S_ISDIR(status.st_mode)) {
        add_folder(inputs, path);
    } else {
        add_file(inputs, path);
    }
}

static void free_inputs(Inputs *inputs)
{
    for (size_t i = 0; i < inputs->n; i++) {
        free(inputs->items[i].path);
        free(inputs->items[i].data);
    }
    free(inputs->items);
}

/* The copy has the input's exact size, so that a sanitizer sees overruns. */
static uint8_t *copy_input(const Input *input)
{
    uint8_t *copy = malloc(input->length);

    if (copy == NULL) {
        die("out of memory", input->path);
    }
    memcpy(copy, input->data, input->length);
    return copy;
}

static void run_input(const Input *input)
{
    uint8_t *copy = copy_input(input);

    running = input->path;
    alarm(SECONDS_PER_INPUT);
    if (LLVMFuzzerTestOneInput(copy, input->length) != 0) {
        die("the target did not return 0", input->path);
    }
    alarm(0);
    running = NULL;
    if (memcmp(copy, input->data, input->length) != 0) {
        die("the target changed its input", input->path);
    }
    free(copy);
}

static void run_pass(const Inputs *inputs, bool backwards)
{
    for (size_t i = 0; i < inputs->n; i++) {
        run_input(&inputs->items[backwards ? inputs->n - 1 - i : i]);
    }
}

static size_t count_entries(const char *folder)
{
    size_t n = 0;
    DIR *dir = opendir(folder);

    if (dir == NULL) {
        die(strerror(errno), folder);
    }
    while (readdir(dir) != NULL) {
        n++;
    }
    closedir(dir);
    return n;
}

static size_t count_lines(const char *path)
{
    size_t n = 0;
    FILE *file = fopen(path, "r");

    if (file == NULL) {
        die(strerror(errno), path);
    }
    for (int c = getc(file); c != EOF; c = getc(file)) {
        n += c == '\n';
    }
    fclose(file);
    return n;
}

static Resources count_resources(void)
{
    return (Resources){
        .descriptors = count_entries("/proc/self/fd"),
        .threads = count_entries("/proc/self/task"),
        .mappings = count_lines("/proc/self/maps"),
    };
}

static bool grew(const char *what, size_t before, size_t after)
{
    if (after <= before) {
        return false;
    }
    fprintf(stderr, "replay: the number of %s grew from %zu after the first pass to %zu\n", what,
            before, after);
    return true;
}

/*
 * Runs all passes; false if something leaked. Mappings come and go with the
 * allocator's moods, so that only steady growth counts.
 */
static bool run_passes(const Inputs *inputs, unsigned repeat, bool reverse)
{
    unsigned passes = reverse ? 2 * repeat : repeat;
    bool always_more_mappings = passes > 2;
    bool leaked = false;
    Resources first = { 0 };
    Resources last = { 0 };

    for (unsigned pass = 0; pass < passes && !leaked; pass++) {
        Resources now;

        run_pass(inputs, reverse && pass % 2 == 1);
        now = count_resources();
        if (pass == 0) {
            first = now;
        } else {
            leaked |= grew("open descriptors", first.descriptors, now.descriptors);
            leaked |= grew("threads", first.threads, now.threads);
            always_more_mappings &= now.mappings > last.mappings;
        }
        last = now;
    }
    if (always_more_mappings && last.mappings > first.mappings + MAPPINGS_TOLERANCE) {
        leaked |= grew("mappings", first.mappings, last.mappings);
    }
    printf("replay: %zu files, %zu executions: %s\n", inputs->n, inputs->n * passes,
           leaked ? "something leaked" : "ok");
    return !leaked;
}

static _Noreturn void usage(const char *program)
{
    fprintf(stderr, "Usage: %s [--repeat N] [--reverse] FILE|FOLDER...\n", program);
    exit(2);
}

static unsigned parse_count(const char *program, const char *text)
{
    char *end;
    unsigned long n = text ? strtoul(text, &end, 10) : 0;

    if (n < 1 || n > 1000 || *end != '\0') {
        usage(program);
    }
    return (unsigned)n;
}

int main(int argc, char **argv)
{
    Inputs inputs = { 0 };
    unsigned repeat = 1;
    bool reverse = false;
    bool ok;

    if (LLVMFuzzerInitialize != NULL) {
        LLVMFuzzerInitialize(&argc, &argv);
    }
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--reverse") == 0) {
            reverse = true;
        } else if (strcmp(argv[i], "--repeat") == 0) {
            repeat = parse_count(argv[0], argv[++i]);
        } else if (argv[i][0] == '-') {
            usage(argv[0]);
        } else {
            add_path(&inputs, argv[i]);
        }
    }
    if (inputs.n == 0) {
        usage(argv[0]);
    }
    watch_for_death();
    ok = run_passes(&inputs, repeat, reverse);
    free_inputs(&inputs);
    return ok ? 0 : 1;
}

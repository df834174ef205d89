/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The property of network postcopy: what holds of a load that postcopy-run.c
 * has driven. Each page's bytes are what the source said, nothing is lost and
 * nothing comes twice; a load that fails says why, and shows no page of zeroes
 * in place of one that did not come; and then nothing is left of it.
 */
#include "property/postcopy-run.h"

#include "property/guest-access.h"
#include "property/threads.h"

#include <dirent.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

/* The parser alone. */

typedef struct ParserCheck {
    PostcopyRun *run;
    WireReader *reader;
    const GByteArray *bytes;
    guint at;
    const char *wrong; /* NULL: nothing so far */
} ParserCheck;

static WireEvent next_event(ParserCheck *check)
{
    WireEvent event = WIRE_NOTHING;

    while (event == WIRE_NOTHING && check->at < check->bytes->len) {
        event = wire_reader_feed(check->reader, check->bytes->data[check->at++]);
    }
    return event;
}

static void expect(ParserCheck *check, WireEvent event, const char *what)
{
    if (!check->wrong && next_event(check) != event) {
        check->wrong = what;
    }
}

static void expect_block(ParserCheck *check, unsigned block)
{
    if (!check->wrong && wire_reader_block(check->reader) != block) {
        check->wrong = "another block";
    }
}

static void parsed_page(void *opaque, unsigned block, uint64_t page, const uint8_t *bytes)
{
    static const uint8_t zeroes[POSTCOPY_PAGE];
    ParserCheck *check = opaque;

    expect(check, WIRE_PAGE, "a page");
    expect_block(check, block);
    if (!check->wrong &&
        (wire_reader_page(check->reader) != page ||
         memcmp(wire_reader_content(check->reader), bytes ? bytes : zeroes, POSTCOPY_PAGE) != 0)) {
        check->wrong = "another page, or other bytes of it";
    }
}

static void parsed_ping(void *opaque, uint32_t value)
{
    ParserCheck *check = opaque;

    expect(check, WIRE_PING, "PING");
    if (!check->wrong && wire_reader_value(check->reader) != value) {
        check->wrong = "PING with another value";
    }
}

static void parsed_recv_bitmap(void *opaque, unsigned block)
{
    expect(opaque, WIRE_RECV_BITMAP, "RECV_BITMAP");
    expect_block(opaque, block);
}

static void parsed_resume(void *opaque)
{
    expect(opaque, WIRE_RESUME, "POSTCOPY_RESUME");
}

/* After the last event: how the stream is over. */
static bool check_stream_end(ParserCheck *check, SubjectStatus status, const GError *refusal)
{
    WireEvent event = check->wrong ? WIRE_NOTHING : next_event(check);
    const char *rule = event == WIRE_REFUSED ? wire_reader_rule(check->reader) : "W17";
    g_autofree char *text = g_strdup_printf("(rule %s)", rule);

    if (check->wrong) {
        return postcopy_run_broken(check->run, PROPERTY_AGREES,
                                   "the stream's parser finds %s before byte 0x%x of the channel, "
                                   "which is not there",
                                   check->wrong, check->at);
    }
    if (event != WIRE_ENDED && event != WIRE_REFUSED && event != WIRE_NOTHING) {
        return postcopy_run_broken(check->run, PROPERTY_AGREES,
                                   "the stream's parser misses what byte 0x%x of the channel ends",
                                   check->at - 1);
    }
    if ((status == SUBJECT_ACCEPTED) != (event == WIRE_ENDED)) {
        return postcopy_run_broken(check->run, PROPERTY_AGREES,
                                   "the stream must be %s, and is not: %s",
                                   event == WIRE_ENDED ? "accepted" : "refused",
                                   event == WIRE_ENDED ? (refusal ? refusal->message : "") : text);
    }
    return event == WIRE_ENDED || !check->run->context->subject->errors_name_rules ||
           strstr(refusal->message, text) ||
           postcopy_run_broken(check->run, PROPERTY_CLEAN_REJECT,
                               "the stream breaks rule %s, the subject says: %s", rule,
                               refusal->message);
}

bool postcopy_check_parser(PostcopyRun *run, unsigned channel, const GByteArray *bytes)
{
    g_autoptr(WireReader) reader =
        wire_reader_new(channel ? WIRE_PREEMPT_CHANNEL : WIRE_MAIN_CHANNEL, &run->script->guest,
                        POSTCOPY_SECTION_ID);
    ParserCheck check = { .run = run, .reader = reader, .bytes = bytes };
    SubjectStreamSink sink = {
        .page = parsed_page,
        .ping = parsed_ping,
        .recv_bitmap = parsed_recv_bitmap,
        .resume = parsed_resume,
        .opaque = &check,
    };
    g_autoptr(GError) refusal = NULL;
    SubjectStatus status =
        run->postcopy->parse(&run->script->guest, POSTCOPY_SECTION_ID, channel, bytes->data,
                             bytes->len, 1 + bytes->len % 61, &sink, &refusal);

    return check_stream_end(&check, status, refusal);
}

/* RAM. */

static bool check_page(PostcopyRun *run, unsigned block, uint64_t number, bool shut_off)
{
    const NetPage *page = &run->pages[block][number];
    uint8_t *host = run->load.host[block] + number * POSTCOPY_PAGE;
    const char *idstr = run->script->guest.blocks[block].idstr;
    uint8_t value = 0;
    int signal = guest_access(host, false, &value);
    size_t at = 0;

    if (page->state == NET_PAGE_MISSING) {
        return signal != 0 ||
               postcopy_run_broken(run, PROPERTY_NO_SILENT_ZERO,
                                   "block '%s', page %" PRIu64
                                   " never came, and reads as 0x%02x after the load (rule L5)",
                                   idstr, number, value);
    }
    if (signal != 0) {
        return shut_off ||
               postcopy_run_broken(run, PROPERTY_POSTCOPY,
                                   "block '%s', page %" PRIu64
                                   " came, and gives signal %d after the load (rule L5)",
                                   idstr, number, signal);
    }
    while (at < POSTCOPY_PAGE && host[at] == page->content[at]) {
        at++;
    }
    return at == POSTCOPY_PAGE ||
           postcopy_run_broken(run, PROPERTY_POSTCOPY,
                               "block '%s', page %" PRIu64
                               " %s; byte 0x%zx is to be 0x%02x, and is 0x%02x (rules L1, L3)",
                               idstr, number,
                               page->state == NET_PAGE_THERE ? "came from the source"
                                                             : "was discarded",
                               at, page->content[at], host[at]);
}

/* Before 6.6 there is no poison: where a page is missing all of the block is shut off. */
static bool is_shut_off(PostcopyRun *run, unsigned block)
{
    uint64_t pages = run->script->guest.blocks[block].used_length / POSTCOPY_PAGE;

    for (uint64_t page = 0; page < pages; page++) {
        if (run->pages[block][page].state == NET_PAGE_MISSING) {
            uint8_t value;

            return guest_access(run->load.host[block] + page * POSTCOPY_PAGE, false, &value) ==
                   SIGSEGV;
        }
    }
    return false;
}

static bool check_block(PostcopyRun *run, unsigned block)
{
    const GuestBlock *what = &run->script->guest.blocks[block];
    bool shut_off = is_shut_off(run, block);
    uint64_t differs;

    for (uint64_t page = 0; page < what->used_length / POSTCOPY_PAGE; page++) {
        if (!check_page(run, block, page, shut_off)) {
            return false;
        }
    }
    return (guest_ram_is_untouched(run->context->ram, block, what->used_length, what->max_length,
                                   &differs) &&
            guest_ram_slack_is_untouched(run->context->ram, block)) ||
           postcopy_run_broken(run, PROPERTY_POSTCOPY,
                               "block '%s': RAM outside of used_length is written", what->idstr);
}

static bool check_ram_of_load(PostcopyRun *run)
{
    for (unsigned block = 0; block < run->script->guest.n_blocks; block++) {
        if (!check_block(run, block)) {
            return false;
        }
    }
    return true;
}

/* Poison is not overwritten by the next load's filling: it would be a signal. */
static void repair_ram(const PostcopyRun *run)
{
    for (unsigned block = 0; block < run->script->guest.n_blocks; block++) {
        uint64_t length = run->script->guest.blocks[block].used_length;

        mprotect(run->load.host[block], length, PROT_READ | PROT_WRITE);
        madvise(run->load.host[block], length, MADV_DONTNEED);
    }
}

/* Outcome. */

static bool check_outcome_of_load(PostcopyRun *run, SubjectStatus status, const GError *refusal)
{
    if (run->end == NET_LOADED) {
        return (status == SUBJECT_ACCEPTED && !refusal) ||
               postcopy_run_broken(run, PROPERTY_AGREES, "everything came, and the load failed: %s",
                                   refusal ? refusal->message : "");
    }
    if (status == SUBJECT_ACCEPTED) {
        return postcopy_run_broken(run, PROPERTY_NO_SILENT_ZERO,
                                   "pages never came, and the load succeeded");
    }
    if (!refusal) {
        return postcopy_run_broken(run, PROPERTY_CLEAN_REJECT, "the load failed without a message");
    }
    return !run->context->subject->errors_name_rules || strstr(refusal->message, run->end_reason) ||
           postcopy_run_broken(run, PROPERTY_CLEAN_REJECT,
                               "the load failed: '%s' is to be said, and this was: %s",
                               run->end_reason, refusal->message);
}

/* Leaks. */

typedef struct NetResources {
    unsigned descriptors;
    unsigned threads;
} NetResources;

static unsigned count_entries(const char *folder)
{
    DIR *dir = opendir(folder);
    unsigned entries = 0;

    while (dir && readdir(dir)) {
        entries++;
    }
    if (dir) {
        closedir(dir);
    }
    return entries;
}

static NetResources count_resources(void)
{
    return (NetResources){
        .descriptors = count_entries("/proc/self/fd"),
        .threads = count_threads(),
    };
}

static bool check_resources(PostcopyRun *run, NetResources before)
{
    NetResources now;

    count_settled_threads(before.threads);
    now = count_resources();
    return (now.descriptors <= before.descriptors && now.threads <= before.threads) ||
           postcopy_run_broken(run, PROPERTY_CLEAN_REJECT,
                               "after the load there are %u descriptors and %u threads, %u and %u "
                               "were there before",
                               now.descriptors, now.threads, before.descriptors, before.threads);
}

static void count_load(PostcopyRun *run)
{
    PropertyStats *stats = &run->context->stats;

    stats->accepted += run->live && run->end == NET_LOADED;
    stats->refused += run->live && run->end == NET_FAILED;
    stats->unsupported += !run->live;
    stats->breaks += run->breaks;
}

static bool run_postcopy(PostcopyRun *run, const PostcopyScript *script, GError **error)
{
    NetResources before = count_resources();
    g_autoptr(GError) refusal = NULL;
    g_autoptr(GError) why = NULL;
    SubjectStatus status;
    bool missing;

    if (!postcopy_run_start(run, script, &missing, &why)) {
        return property_broken(run->context, PROPERTY_AGREES, error, "the load is not begun: %s",
                               why->message);
    }
    if (missing && !run->context->postcopy_missing) {
        run->context->postcopy_missing = true;
        fprintf(stderr,
                "pagewise: SKIP uffd: network postcopy is run as far as the parser goes: %s\n",
                why->message);
    }
    postcopy_run_steps(run);
    status = postcopy_run_end(run, &refusal);
    if (run->live && !run->broken && check_outcome_of_load(run, status, refusal) &&
        check_ram_of_load(run)) {
        check_resources(run, before);
    }
    count_load(run);
    repair_ram(run);
    if (run->broken) {
        g_propagate_error(error, g_steal_pointer(&run->broken));
        return false;
    }
    return true;
}

bool property_postcopy(PropertyContext *context, const uint8_t *data, size_t size, GError **error)
{
    PostcopyScript script;
    bool ok;

    if (!postcopy_script_decode(data, size, &script)) {
        return true;
    }
    context->stats.executions++;
    if (!context->subject->postcopy) {
        context->stats.unsupported++;
        return true;
    }
    if (!context->postcopy) {
        context->postcopy = postcopy_run_new(context, error);
        if (!context->postcopy) {
            return false;
        }
        property_context_keep(context, context->postcopy, postcopy_run_free);
    }
    ok = run_postcopy(context->postcopy, &script, error);
    postcopy_run_clear(context->postcopy);
    return ok;
}

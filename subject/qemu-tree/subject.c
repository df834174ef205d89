/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The subject "qemu-tree": the loader of a QEMU source tree that the user
 * points at, behind the interface of subject.h. A file is loaded by
 * qemu_loadvm_state(), as -incoming and loadvm do it.
 *
 * PAGEWISE_SUBJECT is the function's name, PAGEWISE_SUBJECT_NAME the subject's:
 * two trees can be in one program (builder/link.py hides all else).
 */
#include "qemu/osdep.h"

#include "exec/target_page.h"
#include "migration/misc.h"
#include "qapi/error.h"
#include "qemu/error-report.h"
#include "qemu/rcu.h"

#include "qemu-file.h"

#include "subject/qemu-tree/adapter.h"

/* QEMUFile's buffer: what is read ahead, and dropped at each jump. */
#define READ_AHEAD 32768

/* G_FILE_ERROR's codes are errno's; what QEMU refuses for is in the message. */
static SubjectStatus refuse(GError **error, const char *text, int status)
{
    if (text[0]) {
        g_set_error_literal(error, G_FILE_ERROR, G_FILE_ERROR_FAILED, text);
    } else {
        /* As process_incoming_migration_co() has it. */
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_FAILED, "load of migration failed: %s",
                    strerror(-status));
    }
    return SUBJECT_REFUSED;
}

static bool can_load(const Guest *guest)
{
    return guest->target_page_size == qemu_target_page_size();
}

static void begin(SubjectLoad *load)
{
    static bool is_ready;

    if (!is_ready) {
        tree_watch_for_gaps();
        tree_platform_init();
        is_ready = true;
    }
    tree_report_clear();
    tree_platform_begin(load);
}

SubjectStatus tree_load_file(SubjectLoad *load, GError **error)
{
    Error *err = NULL;
    QEMUFile *file;
    bool complete = false;
    int status;

    if (load->stages != SUBJECT_WHOLE) {
        return SUBJECT_UNSUPPORTED;
    }
    begin(load);
    if (!can_load(load->guest)) {
        return SUBJECT_UNSUPPORTED;
    }
    file = tree_channel_open(load, 0);
    status =
        tree_multifd_begin(load, &err) ? tree_savevm_load(load, file, &err, &complete) : -EINVAL;
    tree_platform_give_blocks(load);
    /* As migration_incoming_state_destroy(). */
    tree_multifd_end();
    tree_savevm_cleanup();
    qemu_fclose(file);
    if (err) {
        error_report_err(err);
    }
    tree_platform_end();
    if (status >= 0 || (complete && !tree_channel_failed(load))) {
        return SUBJECT_ACCEPTED;
    }
    return refuse(error, tree_report_text(), status);
}

#if PAGEWISE_HAVE_PARSE_RAMBLOCK
/* Of a record, what parse_ramblock() reads of it before the header: the address of rule X1. */
static uint64_t bytes_before_header(const SubjectLoad *load)
{
    return PAGEWISE_HAVE_BLOCK_ADDRESS && load->guest->x_ignore_shared ? sizeof(uint64_t) : 0;
}

/* The block alone, as from its record in the file on. */
static SubjectStatus load_block(SubjectLoad *load, GError **error)
{
    QEMUFile *file;
    bool loaded;

    begin(load);
    if (!can_load(load->guest) || load->header_offset < bytes_before_header(load)) {
        return SUBJECT_UNSUPPORTED;
    }
    file = tree_channel_open(load, load->header_offset - bytes_before_header(load));
    loaded = tree_ram_load_block(file, tree_platform_block(0), load->used_length);
    /* As the caller does behind each block. */
    if (loaded && qemu_file_get_error(file)) {
        loaded = false;
    }
    tree_platform_give_blocks(load);
    qemu_fclose(file);
    tree_platform_end();
    return loaded ? SUBJECT_ACCEPTED : refuse(error, tree_report_text(), -EINVAL);
}
#endif

#if PAGEWISE_HAVE_HEADER_STAGE
static SubjectStatus load_header(SubjectLoad *load, GError **error)
{
    Error *err = NULL;
    QEMUFile *file;
    bool loaded;

    begin(load);
    if (!can_load(load->guest)) {
        return SUBJECT_UNSUPPORTED;
    }
    file = tree_channel_open(load, load->header_offset);
    loaded = tree_ram_load_header(file, tree_platform_block(0), load->used_length, &err);
    tree_platform_give_blocks(load);
    qemu_fclose(file);
    tree_platform_end();
    if (err) {
        error_report_err(err);
    }
    return loaded ? SUBJECT_ACCEPTED : refuse(error, tree_report_text(), -EINVAL);
}
#endif

const Subject *PAGEWISE_SUBJECT(void);
const Subject *PAGEWISE_SUBJECT(void)
{
    static const Subject subject = {
        .name = PAGEWISE_SUBJECT_NAME,
        .version = QEMU_VERSION,
        .load_file = tree_load_file,
#if PAGEWISE_HAVE_PARSE_RAMBLOCK
        .load_block = load_block,
#endif
#if PAGEWISE_HAVE_HEADER_STAGE
        .load_header = load_header,
#endif
#if PAGEWISE_HAVE_FAULT_THREAD && PAGEWISE_HAVE_INCOMING_SETUP
        .lazy = &tree_lazy,
#endif
        .read_ahead = READ_AHEAD,
        .refuses_short_reads = true,
    };

    return &subject;
}

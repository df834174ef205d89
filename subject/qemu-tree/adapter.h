/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the adapter's own files tell each other. Each of unit-*.c includes a
 * whole file of the tree, so that what is static there can be reached; it hands
 * out no more than what stands here. QEMU's types are named, never looked into.
 */
#ifndef PAGEWISE_SUBJECT_QEMU_TREE_ADAPTER_H
#define PAGEWISE_SUBJECT_QEMU_TREE_ADAPTER_H

#include "subject/lazy.h"
#include "subject/subject.h"

#include "probes.h"

/* Does the tree load lazily from the file by itself (fast snapshot load)? */
#define TREE_LOADS_LAZILY                                                                          \
    (PAGEWISE_HAVE_PENDING_BMAP && PAGEWISE_HAVE_FILE_LAZY && PAGEWISE_HAVE_EAGER_THREAD)

typedef struct QEMUFile QEMUFile;
typedef struct RAMBlock RAMBlock;
typedef struct Error Error;
typedef struct QemuThread QemuThread;

/* channel.c: the snapshot as QEMU's i/o channel. */
typedef struct TreeChannel TreeChannel;

/*
 * An input of @load's file, from @offset on; it counts, limits and injects as
 * load->cost says. Memory, or a real file if the load asks for that.
 */
QEMUFile *tree_channel_open(SubjectLoad *load, uint64_t offset);

/* A further reader of the same file, a QIOChannel; one reference, the caller's. */
void *tree_channel_new(SubjectLoad *load);

/* Did a read fail by our doing since tree_channel_open()? */
bool tree_channel_failed(const SubjectLoad *load);

/* What is read from now on is not the format's: nothing, and no read fails that has not yet. */
void tree_channel_at_end(SubjectLoad *load);

/* unit-ram.c */
void tree_ram_register(void);
/* parse_ramblock(); false: what QEMU reported says why. */
bool tree_ram_load_block(QEMUFile *file, RAMBlock *block, uint64_t length);
#if PAGEWISE_HAVE_HEADER_STAGE
/* parse_ramblock_mapped_ram_header() alone. */
bool tree_ram_load_header(QEMUFile *file, RAMBlock *block, uint64_t length, Error **errp);
#endif

/* unit-multifd.c: threads that read pages, if the load asks for them. */
/* False: QEMU would not, and says why. */
bool tree_multifd_begin(SubjectLoad *load, Error **errp);
void tree_multifd_end(void);

/* unit-postcopy.c: the fault thread. */
void tree_fault_init(void);
/*
 * Discards all RAM, registers it, starts the thread. @file: pages come from it, in
 * place of the source; NULL: from that. False: QEMU reported why.
 */
bool tree_fault_begin(QEMUFile *file);
bool tree_fault_end(void);
unsigned tree_fault_requests(void);
/* Places a host page as what came from the source; @from NULL: zeroes. 0, or an error. */
int tree_fault_place(RAMBlock *block, void *host, void *from);
bool tree_fault_received(RAMBlock *block, uint64_t offset);
#if TREE_LOADS_LAZILY
/* The header stage of what comes is that of a load from the file. */
void tree_fault_announce(void);
/* All that was not loaded. False: QEMU reported why. */
void tree_eager_begin(void);
bool tree_eager_end(void);
#endif

/* threads.c: QEMU's threads, which are kept from load to load. */
typedef struct TreeThreads TreeThreads;

/* NULL: there are no threads to be had (@error is set). */
TreeThreads *tree_threads_new(GError **error);
/* All have to be joined. */
void tree_threads_free(TreeThreads *threads);
/* A load begins, one at a time; when it ends, QEMU has joined all that it created. */
void tree_threads_begin(TreeThreads *threads);
void tree_threads_end(TreeThreads *threads);
/* In place of qemu_thread_create() and qemu_thread_join(). */
void tree_thread_create(QemuThread *thread, const char *name, void *(*body)(void *), void *opaque,
                        int mode);
void *tree_thread_join(QemuThread *thread);

/* lazy.c */
extern const SubjectLazy tree_lazy;
/* The fault thread asks for the page at @offset. 0, or an error. */
int tree_source_request(RAMBlock *block, uint64_t offset);
/* One page at @host is there; @by_fault: of the fault thread's doing. */
void tree_page_placed(RAMBlock *block, void *host, bool by_fault);

/* subject.c */
SubjectStatus tree_load_file(SubjectLoad *load, GError **error);

/* unit-savevm.c */
/* The whole stream: 0, or -errno. @complete: all that is about RAM was read. */
int tree_savevm_load(SubjectLoad *load, QEMUFile *file, Error **errp, bool *complete);
void tree_savevm_cleanup(void);

/* platform.c: the state around the loader: one machine, one incoming migration. */
void tree_platform_init(void);
void tree_platform_begin(SubjectLoad *load);
RAMBlock *tree_platform_block(unsigned index);
/* The block is none of the migration's. */
void tree_platform_leave_out(unsigned index);
/* Copies what the load left in the blocks; to be called before the cleanup. */
void tree_platform_give_blocks(SubjectLoad *load);
void tree_platform_end(void);

/* shims.c */
/* What QEMU printed as an error since tree_report_clear(), without line ends. */
const char *tree_report_text(void);
void tree_report_clear(void);
void tree_watch_for_gaps(void);
/* Ends the process: the harness, not QEMU, lacks what @name is. */
_Noreturn void pagewise_gap(const char *name);

#endif

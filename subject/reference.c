/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The subject "reference": this project's own loader (loader/) behind the
 * interface of subject.h. It translates between the two sides' types and
 * decides nothing.
 */
#include "subject/reference.h"

#include "loader/writer.h"
#include "subject/sparse-reader.h"

#include <string.h>

/* SubjectBlock.file_bmap has words of 64 bits. */
G_STATIC_ASSERT(sizeof(unsigned long) == sizeof(uint64_t));

typedef struct ReferenceLoad {
    SparseReader reader;
    RAMBlock blocks[GUEST_MAX_BLOCKS];
    MigrationIncomingState mis;
} ReferenceLoad;

static const LoadStages load_stages[] = {
    [SUBJECT_WHOLE] = LOAD_WHOLE,
    [SUBJECT_SPLIT] = LOAD_SPLIT,
    [SUBJECT_HEADERS] = LOAD_HEADERS_ONLY,
};

static void set_up_block(RAMBlock *block, const GuestBlock *guest, const SubjectBlock *subject)
{
    *block = (RAMBlock){
        .host = subject->host,
        .used_length = guest->used_length,
        .max_length = guest->max_length,
        .page_size = guest->host_page_size,
    };
    g_strlcpy(block->idstr, guest->idstr, sizeof(block->idstr));
}

void reference_set_up(const SubjectLoad *load, FileReader *reader, RAMBlock *blocks,
                      MigrationIncomingState *mis)
{
    const Guest *guest = load->guest;

    for (unsigned i = 0; i < guest->n_blocks; i++) {
        set_up_block(&blocks[i], &guest->blocks[i], &load->blocks[i]);
    }
    *mis = (MigrationIncomingState){
        .reader = reader,
        .target_page_size = guest->target_page_size,
        .x_ignore_shared = guest->x_ignore_shared,
        .clear_pages = guest->clear_pages,
        .machine = guest->machine[0] ? guest->machine : NULL,
        .blocks = blocks,
        .n_blocks = guest->n_blocks,
    };
}

static void set_up(ReferenceLoad *self, SubjectLoad *load)
{
    sparse_reader_init(&self->reader, load->file, &load->cost);
    reference_set_up(load, &self->reader.reader, self->blocks, &self->mis);
}

static void give_result(ReferenceLoad *self, SubjectLoad *load)
{
    for (unsigned i = 0; i < load->guest->n_blocks; i++) {
        RAMBlock *from = &self->blocks[i];
        SubjectBlock *to = &load->blocks[i];

        to->used_length = from->used_length;
        to->in_file = from->in_file && !from->ignored;
        to->pages_offset = from->pages_offset;
        to->file_bmap = (uint64_t *)g_steal_pointer(&from->file_bmap);
    }
}

static SubjectStatus reference_load_file(SubjectLoad *load, GError **error)
{
    ReferenceLoad self;

    set_up(&self, load);
    if (!mapped_ram_load(&self.mis, load_stages[load->stages], NULL, error)) {
        return SUBJECT_REFUSED;
    }
    give_result(&self, load);
    return SUBJECT_ACCEPTED;
}

static SubjectStatus reference_load_header(SubjectLoad *load, GError **error)
{
    ReferenceLoad self;
    LoaderStream stream;

    set_up(&self, load);
    loader_stream_init(&stream, self.mis.reader, load->header_offset);
    if (!parse_ramblock_mapped_ram_header(&self.mis, &stream, &self.blocks[0], load->used_length,
                                          error)) {
        return SUBJECT_REFUSED;
    }
    give_result(&self, load);
    return SUBJECT_ACCEPTED;
}

typedef struct SparseWriter {
    FileWriter writer;
    SparseFile *file; /* borrowed */
} SparseWriter;

static int sparse_writer_pwrite(FileWriter *writer, const void *buffer, size_t length,
                                uint64_t offset)
{
    SparseWriter *self = (SparseWriter *)writer;

    sparse_file_write(self->file, offset, buffer, length);
    return 0;
}

static SubjectStatus reference_save(const Guest *guest, const SubjectBlock *blocks,
                                    const char *machine, SparseFile *out, GError **error)
{
    RAMBlock ram_blocks[GUEST_MAX_BLOCKS];
    SparseWriter writer = { .writer.pwrite = sparse_writer_pwrite, .file = out };
    SaveOptions options = {
        .machine = machine,
        .target_page_size = guest->target_page_size,
        .x_ignore_shared = guest->x_ignore_shared,
        .section_id = 2,
    };

    for (unsigned i = 0; i < guest->n_blocks; i++) {
        set_up_block(&ram_blocks[i], &guest->blocks[i], &blocks[i]);
    }
    sparse_file_reset(out);
    return mapped_ram_save(&writer.writer, ram_blocks, guest->n_blocks, &options, error)
               ? SUBJECT_ACCEPTED
               : SUBJECT_REFUSED;
}

const Subject *subject_reference(void)
{
    static const Subject reference = {
        .name = "reference",
        .load_file = reference_load_file,
        .load_header = reference_load_header,
        .save = reference_save,
        .map_faults = reference_map_faults,
        .set_up = reference_set_up_lazily,
        .errors_name_rules = true,
        .lazy = &reference_lazy,
        .postcopy = &reference_postcopy,
    };

    return &reference;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Draws a guest and a snapshot that every reader must accept for it: a file
 * that breaks no rule of docs/mapped-ram-format.md, of all the shapes that
 * QEMU's versions and options write, and the rarer ones that the document
 * allows (H6, B5, P3, C10, T1, T4).
 *
 * The entropy is a plan of fixed size for the whole, then one of fixed size
 * for each block: a changed byte changes one thing, and zeroes are the
 * simplest case. No randomness but the entropy, no allocation once warm.
 */
#include "model/snapshot-fields.h"
#include "model/snapshot.h"

#include <string.h>

#define MAX_SMALL_PAGES 12
#define MAX_SMALL_BYTES (48 * 1024)
#define BIG_PAGES UINT64_C(512) /* and up to 2^11 times as many */
#define MAX_DENSE_PAGES 12      /* beyond, only a few pages are set */
#define HUGE_PAGE_SIZE (2 * 1024 * 1024)

typedef struct FilePlan {
    uint8_t n_blocks;
    uint8_t page_size;
    uint8_t capabilities; /* x-ignore-shared, and the order */
    uint8_t clear_pages;
    uint8_t subsections; /* bit 0: uuid, bit 1: target-page-bits */
    uint8_t order;       /* of subsections (low bits) and of blocks */
    uint8_t machine;
    uint8_t known_machine;
    uint8_t alignment;
    uint8_t section_id;
    uint8_t tail_before_end; /* number of PART and COMMAND items */
    uint8_t tail_end;        /* what comes after END of ram */
} FilePlan;

typedef struct BlockPlan {
    uint8_t name;
    uint8_t name_variant;
    uint8_t pages;      /* how the number of pages is chosen */
    uint32_t big_pages; /* 3 bytes */
    uint8_t extra;      /* max_length - used_length */
    uint8_t bits;       /* BitsStyle */
    uint64_t mask;      /* 8 bytes */
    uint8_t content;
    uint8_t seed;
    uint8_t beyond; /* bits beyond the last page, gap before the bitmap */
    uint8_t host_page;
    uint8_t ignored;
    uint16_t gpa; /* 2 bytes */
} BlockPlan;

typedef enum BitsStyle {
    BITS_NONE,
    BITS_MASK,
    BITS_ALL,
    BITS_ALTERNATING,
    BITS_LAST,
    BITS_ALL_BUT_LAST,
    BITS_STALE_MASK, /* as BITS_MASK; where a bit is clear, stale bytes */
    BITS__MAX,
} BitsStyle;

static const char *const block_names[] = {
    "ram",
    "pc.ram",
    "vga.vram",
    "/rom@etc/acpi/tables",
    "pc.bios",
    "pc.rom",
    "/rom@etc/table-loader",
    "/rom@etc/acpi/rsdp",
    "0000:00:02.0/vga.vram",
    "ra",
    "ram0",
    "mach-virt.ram",
    "/objects/mem0",
    "r",
    "pc.ram ",
    "virt.flash0",
};

static const char *const machine_names[] = {
    "none", "pc-q35-10.0", "microvm", "virt-9.1", "x", "pc-i440fx-11.0",
};

static const uint8_t section_ids[] = { 2, 0, 1, 3, 0x7e, 255 };
static const uint16_t edge_pages[] = { 63, 64, 65, 62, 63, 64, 65, 66, 127, 128, 129 };

static FilePlan draw_file_plan(Choices *choices)
{
    uint8_t bytes[12];

    for (unsigned i = 0; i < sizeof(bytes); i++) {
        bytes[i] = choices_u8(choices);
    }
    return (FilePlan){ bytes[0], bytes[1], bytes[2], bytes[3], bytes[4],  bytes[5],
                       bytes[6], bytes[7], bytes[8], bytes[9], bytes[10], bytes[11] };
}

static BlockPlan draw_block_plan(Choices *choices)
{
    BlockPlan plan;

    plan.pages = choices_u8(choices);
    plan.bits = choices_u8(choices);
    plan.mask = choices_uint(choices, 8);
    plan.content = choices_u8(choices);
    plan.seed = choices_u8(choices);
    plan.extra = choices_u8(choices);
    plan.name = choices_u8(choices);
    plan.name_variant = choices_u8(choices);
    plan.big_pages = choices_uint(choices, 3);
    plan.beyond = choices_u8(choices);
    plan.host_page = choices_u8(choices);
    plan.ignored = choices_u8(choices);
    plan.gpa = choices_uint(choices, 2);
    return plan;
}

/* Mostly 1 to 3; the highest bytes are the most usual ones of the others: 4 rather than 8. */
static unsigned plan_n_blocks(const FilePlan *plan)
{
    if (plan->n_blocks < 224) {
        return 1 + plan->n_blocks % 3;
    }
    return 4 + (255 - plan->n_blocks) % (SNAPSHOT_MAX_GENERATED_BLOCKS - 3);
}

/* Small pages cost less and mean the same. */
static uint64_t plan_page_size(const FilePlan *plan)
{
    if (plan->page_size < 112) {
        return 4096;
    }
    return UINT64_C(1024) << (plan->page_size < 224 ? 0 : plan->page_size % 7);
}

static uint64_t plan_alignment(const FilePlan *plan, uint64_t page_size)
{
    static const uint64_t alignments[] = { 0x10000, 0x200000, 0x100000, 0x40000 };

    if (plan->alignment < 160) {
        return SNAPSHOT_PAGES_ALIGNMENT;
    }
    if (plan->alignment < 224) {
        return page_size;
    }
    return alignments[plan->alignment % G_N_ELEMENTS(alignments)];
}

/*
 * Few bytes mostly, and by 0xff, too, which mutators like: copying and comparing pages is what an
 * execution costs.
 */
static uint64_t plan_pages(const BlockPlan *plan, uint64_t page_size, uint64_t max_pages)
{
    uint64_t pages;

    if (plan->pages < 240 || plan->pages == 0xff) {
        pages = 1 + plan->pages % MAX_SMALL_PAGES;
        pages = MIN(pages, MAX(1, MAX_SMALL_BYTES / page_size));
    } else if (plan->pages > 240) {
        pages = edge_pages[plan->pages % G_N_ELEMENTS(edge_pages)];
    } else {
        pages = (BIG_PAGES << (plan->big_pages & 0xff) % 12) - (plan->big_pages >> 8) % 70;
    }
    return MIN(pages, max_pages);
}

static bool guest_has_block(const Guest *guest, const char *idstr)
{
    for (unsigned i = 0; i < guest->n_blocks; i++) {
        if (strcmp(guest->blocks[i].idstr, idstr) == 0) {
            return true;
        }
    }
    return false;
}

/* Unlike every other block's: no two begin with the same '@' and digit. */
static void make_long_name(const BlockPlan *plan, unsigned index, char *idstr)
{
    unsigned length = MAX(plan->name_variant, 2);

    idstr[0] = '@';
    idstr[1] = '0' + index;
    for (unsigned i = 2; i < length; i++) {
        idstr[i] = 1 + (plan->name + i * 7) % 255;
    }
    idstr[length] = '\0';
}

static void name_block(const BlockPlan *plan, Guest *guest, GuestBlock *block)
{
    unsigned index = plan->name;

    if (plan->name >= 224) {
        make_long_name(plan, guest->n_blocks, block->idstr);
        return;
    }
    while (guest_has_block(guest, block_names[index % G_N_ELEMENTS(block_names)])) {
        index++;
    }
    g_strlcpy(block->idstr, block_names[index % G_N_ELEMENTS(block_names)], sizeof(block->idstr));
}

static void draw_guest_block(const BlockPlan *plan, uint64_t max_bytes, Guest *guest)
{
    GuestBlock *block = &guest->blocks[guest->n_blocks];
    uint64_t page_size = guest->target_page_size;
    uint64_t max_pages = max_bytes / page_size;
    uint64_t pages = plan_pages(plan, page_size, max_pages);
    uint64_t extra = plan->extra < 192 ? 0 : plan->extra % 17;

    name_block(plan, guest, block);
    block->used_length = pages * page_size;
    block->max_length = MIN(pages + extra, max_pages) * page_size;
    block->host_page_size = 4096;
    if (plan->host_page >= 252 && max_bytes >= HUGE_PAGE_SIZE) {
        uint64_t rounded = (block->max_length + HUGE_PAGE_SIZE - 1) / HUGE_PAGE_SIZE;

        rounded *= HUGE_PAGE_SIZE;
        if (rounded <= max_bytes) {
            block->host_page_size = HUGE_PAGE_SIZE;
            block->max_length = rounded;
        }
    }
    guest->n_blocks++;
}

/* The same plan bytes, over and over. */
static void set_data(const BlockPlan *plan, Snapshot *snapshot, PageRun *run)
{
    uint8_t *data;

    run->data_length = 1 + plan->mask % 64;
    data = snapshot_alloc(snapshot, run->data_length);
    for (unsigned i = 0; i < run->data_length; i++) {
        data[i] = plan->seed + (uint8_t)(plan->mask >> (8 * (i % 8)));
    }
    run->data = data;
}

static void add_run(const BlockPlan *plan, uint64_t first, uint64_t count, Snapshot *snapshot,
                    SnapshotBlock *block)
{
    static const PageContent contents[] = { CONTENT_PATTERN, CONTENT_FILL, CONTENT_ABSENT,
                                            CONTENT_PATTERN, CONTENT_DATA };
    PageRun run = { .first = first, .count = count, .seed = plan->seed };

    if (plan->content >= 128) {
        run.content = contents[(plan->content + block->runs->len) % G_N_ELEMENTS(contents)];
    }
    if (run.content == CONTENT_DATA) {
        set_data(plan, snapshot, &run);
    }
    snapshot_block_add_run(block, run);
}

static void add_stale_run(const BlockPlan *plan, uint64_t first, uint64_t count, Snapshot *snapshot,
                          SnapshotBlock *block)
{
    PageRun run = { .first = first, .count = count, .content = CONTENT_STALE, .seed = plan->seed };

    if (plan->content & 1) {
        run.content = CONTENT_STALE_DATA;
        set_data(plan, snapshot, &run);
    }
    snapshot_block_add_run(block, run);
}

static void add_mask(const BlockPlan *plan, uint64_t pages, bool stale, Snapshot *snapshot,
                     SnapshotBlock *block)
{
    uint64_t page = 0;

    while (page < pages) {
        bool set = plan->mask >> (page % 64) & 1;
        uint64_t first = page;

        while (page < pages && (plan->mask >> (page % 64) & 1) == set) {
            page++;
        }
        if (set) {
            add_run(plan, first, page - first, snapshot, block);
        } else if (stale) {
            add_stale_run(plan, first, page - first, snapshot, block);
        }
    }
}

/* Up to eight single pages, anywhere in a large block; the last one, too. */
static void add_few(const BlockPlan *plan, uint64_t pages, Snapshot *snapshot, SnapshotBlock *block)
{
    uint64_t page = 0;

    for (unsigned i = 0; i < 8; i++) {
        uint8_t step = plan->mask >> (8 * i);

        page += step * (pages / 2048);
        if (step != 0) {
            add_run(plan, page, 1, snapshot, block);
        }
        page += step != 0;
    }
    if (plan->bits % BITS__MAX != BITS_NONE) {
        add_run(plan, pages - 1, 1, snapshot, block);
    }
}

static void add_runs(const BlockPlan *plan, uint64_t pages, Snapshot *snapshot,
                     SnapshotBlock *block)
{
    BitsStyle style = plan->bits % BITS__MAX;

    if (pages > MAX_DENSE_PAGES) {
        add_few(plan, pages, snapshot, block);
        return;
    }
    switch (style) {
    case BITS_MASK:
    case BITS_STALE_MASK:
        add_mask(plan, pages, style == BITS_STALE_MASK, snapshot, block);
        break;
    case BITS_ALL:
        add_run(plan, 0, pages, snapshot, block);
        break;
    case BITS_ALTERNATING:
        for (uint64_t i = plan->mask & 1; i < pages; i += 2) {
            add_run(plan, i, 1, snapshot, block);
        }
        break;
    case BITS_LAST:
        add_run(plan, pages - 1, 1, snapshot, block);
        break;
    case BITS_ALL_BUT_LAST:
        add_run(plan, 0, pages - 1, snapshot, block);
        break;
    default:
        break;
    }
}

/* Rule B5. */
static void add_bits_beyond(const BlockPlan *plan, uint64_t pages, SnapshotBlock *block)
{
    if (plan->beyond >= 192 && pages % 64 != 0) {
        snapshot_block_add_run(block, (PageRun){ .first = pages + plan->beyond % 2,
                                                 .count = 64 - pages % 64,
                                                 .content = CONTENT_ABSENT });
    }
}

static void draw_block(const BlockPlan *plan, const Guest *guest, const GuestBlock *from,
                       Snapshot *snapshot)
{
    SnapshotBlock *block = snapshot_add_block(snapshot, from->idstr, from->used_length);
    uint64_t pages = from->used_length / guest->target_page_size;

    if (guest->x_ignore_shared) {
        block->has_gpa = true;
        block->gpa = (uint64_t)plan->gpa << 20;
        block->ignored = plan->ignored >= 160;
    }
    if (block->ignored) {
        return;
    }
    add_runs(plan, pages, snapshot, block);
    add_bits_beyond(plan, pages, block);
}

static void draw_capabilities(const FilePlan *plan, Snapshot *snapshot, Guest *guest)
{
    guest->x_ignore_shared = plan->capabilities >= 192;
    if (!guest->x_ignore_shared) {
        return;
    }
    if (plan->capabilities & 1) {
        snapshot_add_capability(snapshot, "x-ignore-shared");
        return;
    }
    g_array_set_size(snapshot->capabilities, 0);
    snapshot_add_capability(snapshot, "x-ignore-shared");
    snapshot_add_capability(snapshot, "mapped-ram");
}

static void rotate_subsections(Snapshot *snapshot, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        SnapshotSubsection first = g_array_index(snapshot->subsections, SnapshotSubsection, 0);

        g_array_remove_index(snapshot->subsections, 0);
        g_array_append_val(snapshot->subsections, first);
    }
}

static void draw_subsections(const FilePlan *plan, Snapshot *snapshot, const Guest *guest)
{
    uint8_t bits[4] = { 0, 0, 0, __builtin_ctzll(guest->target_page_size) };
    uint8_t uuid[16];

    if (plan->subsections & 2) {
        snapshot_add_subsection(snapshot, "configuration/target-page-bits", bits, sizeof(bits));
    }
    if (plan->subsections & 1) {
        memset(uuid, plan->subsections, sizeof(uuid));
        snapshot_add_subsection(snapshot, "configuration/uuid", uuid, sizeof(uuid));
    }
    if (snapshot->subsections->len > 1) {
        rotate_subsections(snapshot, plan->order % snapshot->subsections->len);
    }
}

static void draw_machine(const FilePlan *plan, Snapshot *snapshot, Guest *guest)
{
    char name[UINT8_MAX];
    const char *known;

    guest->machine[0] = '\0';
    if (plan->machine >= 240) { /* any name, also an empty one */
        unsigned length = plan->known_machine;

        memset(name, 'a' + plan->machine % 16, length);
        snapshot_set_machine(snapshot, name, length);
        return;
    }
    known = machine_names[plan->machine % G_N_ELEMENTS(machine_names)];
    snapshot_set_machine(snapshot, known, strlen(known));
    if (plan->known_machine & 1) {
        g_strlcpy(guest->machine, known, sizeof(guest->machine));
    }
}

static void draw_device_state(const FilePlan *plan, GByteArray *tail)
{
    static const char vmdescription[] = "{\"page_size\":4096}";
    uint8_t bytes[] = {
        0, SNAPSHOT_SECTION_FOOTER,  0, 0, 0, plan->tail_end, SNAPSHOT_SECTION_VMDESCRIPTION, 0, 0,
        0, sizeof(vmdescription) - 1
    };
    uint8_t type = plan->tail_end & 1 ? SNAPSHOT_SECTION_FULL : SNAPSHOT_SECTION_START;

    switch (plan->tail_end / 32 % 4) {
    case 0: /* EOF alone */
        g_byte_array_append(tail, bytes, 1);
        return;
    case 1: /* and the VM description */
        g_byte_array_append(tail, bytes, 1);
        g_byte_array_append(tail, bytes + 6, 5);
        g_byte_array_append(tail, (const uint8_t *)vmdescription, sizeof(vmdescription) - 1);
        return;
    case 2: /* a device as QEMU writes it */
        snapshot_append_section(tail, type, 3, "timer", 0, 2);
        g_byte_array_append(tail, bytes, sizeof(bytes));
        return;
    default: /* bytes that nobody can read, or none */
        snapshot_append_section(tail, type, plan->tail_end, plan->tail_end & 2 ? "" : "rams", 0, 4);
        g_byte_array_append(tail, bytes, plan->tail_end % sizeof(bytes));
        return;
    }
}

static void draw_tail(const FilePlan *plan, Snapshot *snapshot)
{
    unsigned items = plan->tail_before_end < 192 ? 0 : plan->tail_before_end % 4;

    for (unsigned i = 0; i < items; i++) {
        if ((plan->tail_before_end >> (2 + i)) & 1) {
            snapshot_append_ram_section(snapshot->tail, SNAPSHOT_SECTION_PART,
                                        snapshot->section_id);
        } else {
            snapshot_append_command(snapshot->tail, 11, NULL, 0);
        }
    }
    if (plan->tail_before_end % 2 == 0) {
        snapshot_append_command(snapshot->tail, 11, NULL, 0);
    }
    snapshot_append_ram_section(snapshot->tail, SNAPSHOT_SECTION_END, snapshot->section_id);
    if (plan->tail_end >= 240) {
        snapshot_append_command(snapshot->tail, 11, NULL, 0);
    }
    draw_device_state(plan, snapshot->tail);
}

/* A bitmap need not follow its header at once (B4 asks for a place before the pages). */
static void move_bitmap(const BlockPlan *plan, SnapshotBlock *block)
{
    uint64_t gap = plan->beyond % 32;
    uint64_t end = block->bitmap_at + snapshot_block_bitmap_length(block);

    if ((plan->beyond & 0x40) && !block->ignored && end + gap <= block->pages_at) {
        block->bitmap_at += gap;
        block->bitmap_offset += gap;
    }
}

void snapshot_generate(Choices *choices, uint64_t max_block_bytes, Snapshot *snapshot, Guest *guest)
{
    FilePlan plan = draw_file_plan(choices);
    BlockPlan plans[SNAPSHOT_MAX_GENERATED_BLOCKS];
    unsigned n_blocks = plan_n_blocks(&plan);
    unsigned first = plan.order / 16 % n_blocks;

    g_assert(max_block_bytes >= 65536);
    snapshot_reset(snapshot);
    snapshot->page_size = plan_page_size(&plan);
    snapshot->section_id = section_ids[plan.section_id % G_N_ELEMENTS(section_ids)];
    snapshot->footer_id = snapshot->section_id;
    guest->target_page_size = snapshot->page_size;
    guest->clear_pages = plan.clear_pages & 1;
    guest->n_blocks = 0;
    draw_capabilities(&plan, snapshot, guest);
    draw_subsections(&plan, snapshot, guest);
    draw_machine(&plan, snapshot, guest);
    for (unsigned i = 0; i < n_blocks; i++) {
        plans[i] = draw_block_plan(choices);
        draw_guest_block(&plans[i], max_block_bytes, guest);
    }
    for (unsigned i = 0; i < n_blocks; i++) {
        unsigned from = (first + i) % n_blocks;

        draw_block(&plans[from], guest, &guest->blocks[from], snapshot);
    }
    snapshot_layout(snapshot, plan_alignment(&plan, snapshot->page_size));
    for (unsigned i = 0; i < n_blocks; i++) {
        move_bitmap(&plans[(first + i) % n_blocks], snapshot_block(snapshot, i));
    }
    draw_tail(&plan, snapshot);
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Makes the seeds of fuzz-stream that come from a real QEMU:
 *
 *     make-real-seeds FOLDER
 *
 * writes FOLDER/real-NAME, complete inputs of kind stream (property/input.h),
 * for the machines none, microvm and q35-vga, and for none with
 * x-ignore-shared, and prints a line for each. They can be made again at any
 * time; those in corpus/ came from QEMU 10.0.2.
 *
 * What is not QEMU's in them: the content of pages, and where device state
 * ends; see real_snapshot_to_sparse(). The bitmaps and all fields are.
 *
 * Which QEMU: see qtest-glue/qemu-binary.h. Exit status 1 on any failure, 77
 * where there is no QEMU 9.0 or newer.
 */
#include "property/input.h"
#include "qtest-glue/real-snapshots.h"

#include <stdio.h>

typedef struct Seed {
    const char *name;
    unsigned machine;
    const char *const capabilities[2];
} Seed;

static const Seed seeds[] = {
    { "real-none", 0, { NULL } },
    { "real-none-x-ignore-shared", 0, { "x-ignore-shared" } },
    { "real-microvm", 1, { NULL } },
    { "real-q35-vga", 2, { NULL } },
};

/* A machine that inputs cannot name becomes "any". */
static bool encode(Guest guest, const SparseFile *file, GByteArray *input)
{
    if (input_encode_stream(&guest, file, 0, input)) {
        return true;
    }
    guest.machine[0] = '\0';
    return input_encode_stream(&guest, file, 0, input);
}

static bool write_input(const Seed *seed, const Guest *guest, const SparseFile *file,
                        const char *folder, GError **error)
{
    g_autofree char *path = g_build_filename(folder, seed->name, NULL);
    g_autoptr(GByteArray) input = g_byte_array_new();

    if (!encode(*guest, file, input)) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_INVAL,
                    "%s: an input cannot express this guest", seed->name);
        return false;
    }
    printf("%s: %u bytes, machine %s, %u blocks\n", seed->name, input->len, guest->machine,
           guest->n_blocks);
    return g_file_set_contents(path, (const char *)input->data, input->len, error);
}

static bool make_seed(const QemuBinary *binary, const Seed *seed, const char *work,
                      const char *folder, GError **error)
{
    g_autoptr(RealSnapshot) snapshot =
        real_snapshot_make(binary, seed->machine, work, seed->capabilities, error);
    g_autoptr(SparseFile) file = sparse_file_new();

    return snapshot && real_snapshot_to_sparse(snapshot->path, &snapshot->guest, file, error) &&
           write_input(seed, &snapshot->guest, file, folder, error);
}

static bool make_seeds(const QemuBinary *binary, const char *folder, GError **error)
{
    g_autoptr(QemuFolder) work = qemu_folder_new(error);
    bool ok = work != NULL;

    for (unsigned i = 0; ok && i < G_N_ELEMENTS(seeds); i++) {
        ok = make_seed(binary, &seeds[i], qemu_folder_name(work), folder, error);
    }
    return ok;
}

int main(int argc, char **argv)
{
    g_autoptr(QemuBinary) binary = NULL;
    g_autoptr(GError) error = NULL;

    if (argc != 2) {
        fprintf(stderr, "usage: make-real-seeds FOLDER\n");
        return 1;
    }
    binary = qemu_binary_find(&error);
    if (!binary) {
        fprintf(stderr, "make-real-seeds: %s; remedy: %s\n", error->message, QEMU_BINARY_REMEDY);
        return QEMU_BINARY_EXIT_SKIP;
    }
    if (!make_seeds(binary, argv[1], &error)) {
        fprintf(stderr, "make-real-seeds: %s\n", error->message);
        return 1;
    }
    return 0;
}

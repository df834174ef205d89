/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * property/kept-file.[ch]: whatever it held before, the file is what it was
 * told to be last.
 */
#include "unit/support.h"

#include "property/kept-file.h"

#include <sys/stat.h>
#include <unistd.h>

/* All that is data in @one is the same in @other. */
static void assert_has_data_of(const SparseFile *other, const SparseFile *one)
{
    g_autofree uint8_t *bytes = NULL;
    SparseExtent extent = { 0 };

    for (uint64_t at = 0; sparse_file_next_data(one, at, &extent);
         at = extent.offset + extent.length) {
        bytes = g_realloc(bytes, extent.length);
        sparse_file_read(one, extent.offset, bytes, extent.length);
        assert_int_equal(sparse_file_compare(other, extent.offset, bytes, extent.length),
                         extent.length);
    }
}

static void assert_is(int fd, const SparseFile *content)
{
    g_autoptr(SparseFile) found = sparse_file_new();
    g_autoptr(GError) error = NULL;

    assert_true(fd >= 0);
    assert_true(sparse_file_from_fd(found, fd, UINT64_C(1) << 30, &error));
    assert_int_equal(sparse_file_size(found), sparse_file_size(content));
    assert_has_data_of(content, found);
    assert_has_data_of(found, content);
}

/* Few or many pieces, near or far, short or long: what is kept, and what is not. */
static void make_content(GRand *random, SparseFile *content)
{
    unsigned pieces = (unsigned)g_rand_int_range(random, 0, g_rand_boolean(random) ? 6 : 300);
    bool is_far = g_rand_int_range(random, 0, 8) == 0;
    bool is_long = g_rand_int_range(random, 0, 8) == 0;

    sparse_file_reset(content);
    for (unsigned i = 0; i < pieces; i++) {
        uint64_t offset = (uint64_t)g_rand_int_range(random, 0, 0x20000) * (is_far ? 0x10000 : 1);
        uint64_t length = (uint64_t)g_rand_int_range(random, 1, is_long ? 0x40000 : 0x3000);

        switch (g_rand_int_range(random, 0, 3)) {
        case 0:
            sparse_file_write(content, offset, "some bytes", 10);
            break;
        case 1:
            sparse_file_fill(content, offset, length, (uint8_t)g_rand_int_range(random, 0, 3));
            break;
        default:
            sparse_file_pattern(content, offset, length, g_rand_int(random));
            break;
        }
    }
    sparse_file_truncate(content, is_far ? UINT64_C(1) << 40
                                         : (uint64_t)g_rand_int_range(random, 0, 0x30000));
}

static void test_one_after_the_other(void **state)
{
    g_autoptr(KeptFile) file = kept_file_new(NULL);
    g_autoptr(SparseFile) content = sparse_file_new();
    GRand *random = g_rand_new_with_seed(7);

    (void)state;
    assert_non_null(file);
    for (unsigned i = 0; i < 1000; i++) {
        int fd;

        make_content(random, content);
        fd = kept_file_write(file, content);
        assert_is(fd, content);
        if (g_rand_boolean(random)) {
            assert_int_equal(ftruncate(fd, g_rand_int_range(random, 0, 0x20000)), 0);
        }
    }
    g_rand_free(random);
}

/* That is what the file is kept for. */
static void test_pages_are_kept(void **state)
{
    g_autoptr(KeptFile) file = kept_file_new(NULL);
    g_autoptr(SparseFile) content = sparse_file_new();
    struct stat status;

    (void)state;
    sparse_file_pattern(content, 0, 0x4000, 1);
    assert_is(kept_file_write(file, content), content);
    sparse_file_reset(content);
    sparse_file_truncate(content, 0x4000);
    assert_is(kept_file_write(file, content), content);
    assert_int_equal(fstat(kept_file_write(file, content), &status), 0);
    assert_int_equal(status.st_blocks, 0x4000 / 512);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_after_the_other),
        cmocka_unit_test(test_pages_are_kept),
    };

    return pagewise_run("kept-file", tests);
}

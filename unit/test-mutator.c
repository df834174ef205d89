/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The structure-aware mutator: whatever it is given, what comes out is an
 * input of the kind, no longer than asked, and the same for the same seed.
 */
#include "fuzz/mutator.h"
#include "property/postcopy-script.h"
#include "property/property.h"
#include "unit/support.h"

#include <string.h>

#define ROUNDS 2000
#define ROOM 1024

static void assert_is_input(InputKind kind, const uint8_t *data, size_t size)
{
    Input input;

    assert_true(input_decode(data, size, &input));
    assert_int_equal(input.kind, kind);
}

/* Every child of every child is an input, and almost all differ from their parent. */
static void check_kind(InputKind kind)
{
    uint8_t data[ROOM] = { 0 };
    size_t size = 0;
    unsigned unchanged = 0;

    for (unsigned seed = 0; seed < ROUNDS; seed++) {
        uint8_t before[ROOM], twice[ROOM];
        size_t old_size = size;

        memcpy(before, data, ROOM);
        memcpy(twice, data, ROOM);
        size = mutate_input(kind, data, size, ROOM, seed);
        assert_in_range(size, sizeof(InputHeader), ROOM);
        assert_is_input(kind, data, size);
        assert_int_equal(mutate_input(kind, twice, old_size, ROOM, seed), size);
        assert_memory_equal(twice, data, size);
        unchanged += size == old_size && memcmp(before, data, size) == 0;
    }
    assert_in_range(unchanged, 0, ROUNDS / 2);
}

static void test_all_kinds(void **state)
{
    (void)state;
    for (unsigned kind = 0; kind <= UINT8_MAX; kind++) {
        if (input_kind_name(kind)) {
            check_kind(kind);
        }
    }
    check_kind(INPUT_LAZY);
}

/* A schedule of both parents' steps, never more than there may be. */
static void test_crossover_of_schedules(void **state)
{
    uint8_t one[ROOM] = { 0 }, two[ROOM] = { 0 }, child[ROOM];
    size_t size1 = 0, size2 = 0;

    (void)state;
    for (unsigned seed = 0; seed < ROUNDS; seed++) {
        PostcopyScript script;
        size_t size;

        size1 = mutate_input(INPUT_POSTCOPY, one, size1, ROOM, seed);
        size2 = mutate_input(INPUT_POSTCOPY, two, size2, ROOM, ~seed);
        size = cross_inputs(INPUT_POSTCOPY, one, size1, two, size2, child, ROOM, seed);
        assert_in_range(size, 0, ROOM);
        assert_true(postcopy_script_decode(child, size, &script));
        assert_in_range(script.n_steps, 0, POSTCOPY_MAX_STEPS);
        size = cross_inputs(INPUT_POSTCOPY, one, size1, two, size2, child, 30, seed);
        assert_in_range(size, 0, 30);
    }
}

/* A file that is cut off at its start has no bytes, and that is an input, too. */
static void test_empty_files(void **state)
{
    (void)state;
    for (unsigned kind = INPUT_HEADER; kind <= INPUT_STREAM; kind++) {
        for (unsigned seed = 0; seed < 20 * ROUNDS; seed++) {
            uint8_t data[ROOM] = { INPUT_VERSION, kind };
            size_t size = mutate_input(kind, data, sizeof(InputHeader), ROOM, seed);

            assert_is_input(kind, data, size);
        }
    }
}

static void test_no_room(void **state)
{
    uint8_t data[sizeof(InputHeader)] = { 0 };

    (void)state;
    for (size_t room = 0; room <= sizeof(data); room++) {
        for (unsigned seed = 0; seed < 64; seed++) {
            assert_in_range(mutate_input(INPUT_STREAM, data, room / 2, room, seed), 0, room);
        }
    }
}

/* As libFuzzer minimises: less is asked for than is handed over; its array ends there. */
static void check_less_room(InputKind kind)
{
    uint8_t start[ROOM] = { 0 };
    size_t size = 0;

    for (unsigned seed = 0; seed < 64; seed++) {
        size = mutate_input(kind, start, size, ROOM, seed);
    }
    for (unsigned seed = 0; seed < ROUNDS; seed++) {
        g_autofree uint8_t *data = g_memdup2(start, size);
        size_t room = seed % size;

        assert_in_range(mutate_input(kind, data, size, room, seed), 0, room);
    }
}

static void test_less_room_than_there_is(void **state)
{
    (void)state;
    for (unsigned kind = 0; kind <= UINT8_MAX; kind++) {
        if (input_kind_name(kind)) {
            check_less_room(kind);
        }
    }
}

static size_t make_choices(uint8_t *data, const char *generator, const char *mutator)
{
    InputHeader header = { .version = INPUT_VERSION,
                           .kind = INPUT_LAYOUT,
                           .generator_size = { strlen(generator) } };

    memcpy(data, &header, sizeof(header));
    memcpy(data + sizeof(header), generator, strlen(generator));
    memcpy(data + sizeof(header) + strlen(generator), mutator, strlen(mutator));
    return sizeof(header) + strlen(generator) + strlen(mutator);
}

/* The snapshot of one parent, the mutations of the other. */
static void test_crossover_of_choices(void **state)
{
    uint8_t one[ROOM], two[ROOM], child[ROOM];
    size_t size1 = make_choices(one, "snapshot", "x");
    size_t size2 = make_choices(two, "y", "mutations");
    size_t size = cross_inputs(INPUT_LAYOUT, one, size1, two, size2, child, ROOM, 1);
    Input input;

    (void)state;
    assert_true(input_decode(child, size, &input));
    assert_int_equal(input.generator.length, 8);
    assert_memory_equal(input.generator.data, "snapshot", 8);
    assert_int_equal(input.mutator.length, 9);
    assert_memory_equal(input.mutator.data, "mutations", 9);

    /* Cut to the room there is. */
    size = cross_inputs(INPUT_LAYOUT, one, size1, two, size2, child, 20, 1);
    assert_int_equal(size, 20);
    assert_true(input_decode(child, size, &input));
    assert_int_equal(input.generator.length, 4);
}

/* Children draw from all mutations; the choices of a child of two mean what they meant. */
static void test_versions_of_mutations(void **state)
{
    uint8_t one[ROOM], two[ROOM], child[ROOM];
    size_t size1 = make_choices(one, "snapshot", "x");
    size_t size2 = make_choices(two, "y", "mutations");
    unsigned relations = 0;
    Input input;

    (void)state;
    ((InputHeader *)two)->mutations = 1;
    assert_true(input_decode(one, size1, &input));
    assert_int_equal(input.mutations_version, 0);
    assert_true(cross_inputs(INPUT_LAYOUT, one, size1, two, size2, child, ROOM, 1) > 0);
    assert_int_equal(((InputHeader *)child)->mutations, 1);
    assert_true(cross_inputs(INPUT_LAYOUT, two, size2, one, size1, child, ROOM, 1) > 0);
    assert_int_equal(((InputHeader *)child)->mutations, 0);
    for (unsigned seed = 0; seed < ROUNDS; seed++) {
        size_t size;

        memcpy(child, one, size1);
        size = mutate_input(INPUT_LAYOUT, child, size1, ROOM, seed);
        assert_true(input_decode(child, size, &input));
        relations += input.mutations_version == SNAPSHOT_MUTATIONS_NEWEST &&
                     input.mutator.length > 0 && input.mutator.data[0] >= SNAPSHOT_FIRST_RELATION;
    }
    assert_in_range(relations, ROUNDS / 40, ROUNDS / 8);
}

static void test_crossover_of_files(void **state)
{
    uint8_t one[ROOM] = { 0 }, two[ROOM] = { 0 }, child[ROOM];
    size_t size1 = 0, size2 = 0;

    (void)state;
    for (unsigned seed = 0; seed < ROUNDS; seed++) {
        size_t room = seed % ROOM;
        size_t size;

        size1 = mutate_input(INPUT_STREAM, one, size1, ROOM, seed);
        size2 = mutate_input(INPUT_STREAM, two, size2, ROOM, ~seed);
        size = cross_inputs(INPUT_STREAM, one, size1, two, size2, child, room, seed);
        assert_in_range(size, 0, room);
        if (room >= sizeof(InputHeader)) {
            assert_is_input(INPUT_STREAM, child, size);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_kinds),
        cmocka_unit_test(test_empty_files),
        cmocka_unit_test(test_no_room),
        cmocka_unit_test(test_less_room_than_there_is),
        cmocka_unit_test(test_crossover_of_choices),
        cmocka_unit_test(test_versions_of_mutations),
        cmocka_unit_test(test_crossover_of_files),
        cmocka_unit_test(test_crossover_of_schedules),
    };

    return pagewise_run("mutator", tests);
}

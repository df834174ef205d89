/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A guest that runs (counter-guest.s) is stopped, saved, loaded in another
 * QEMU, continued, and carries on where it was: its RAM is the same, page for
 * page, and it finds every page as it left it itself.
 */
#include "qtest-glue/qemu-guest.h"
#include "unit/qemu-test.h"

#include <string.h>

#define PAGE ((uint64_t)QEMU_X86_PAGE_SIZE)
#define MIB 4
/* Of counter-guest.s. */
#define ROUND 0x500
#define AT_PAGE 0x504
#define WRONG 0x508
#define FIRST 0x10000
#define HOLE 0xa0000
#define HIGH 0x100000
#define END 0x400000
/* Rounds that the guest has to do before and after. */
#define ROUNDS 20
#define RUN_TIMEOUT_MS 60000
/* A guest that has done no round by then is not slow: it does not run. */
#define FIRST_ROUND_TIMEOUT_MS 10000

static const LoadLimits limits = { .wall_ms = 60000, .cpu_ms = 30000, .memory = 512 << 20 };

/* One QEMU with the guest; its RAM can be read while it runs. */
typedef struct Running {
    QemuGuest *guest;
    QemuProcess *qemu;
    uint8_t *ram;
} Running;

static void running_clear(Running *running)
{
    qemu_process_free(running->qemu);
    qemu_guest_free(running->guest);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Running, running_clear)

static void assert_no_error(const GError *error)
{
    if (error) {
        fail_msg("%s", error->message);
    }
}

static uint32_t word(const Running *running, uint64_t at)
{
    uint32_t value;

    memcpy(&value, running->ram + at, sizeof(value));
    return value;
}

static void start(Running *running, const QemuBinary *binary, const char *accel, bool incoming)
{
    const char *const arguments[] = { "-bios", PAGEWISE_COUNTER_GUEST, NULL };
    const QemuGuestStart how = { .incoming = incoming, .accel = accel, .arguments = arguments };
    g_autoptr(GError) error = NULL;
    uint64_t length;

    running->guest = qemu_guest_new(qemu_machine_find("pc"), MIB, &error);
    assert_no_error(error);
    running->ram = qemu_guest_ram(running->guest, &length);
    running->qemu = qemu_guest_start(running->guest, binary, &how, &error);
    assert_no_error(error);
}

/*
 * Lets the guest run until it has come to @round, or has found a wrong page; then stops it.
 * False if it is not there in time.
 */
static bool comes_to(Running *running, uint32_t round, int timeout_ms)
{
    QmpClient *qmp = qemu_process_qmp(running->qemu);
    gint64 deadline = deadline_after(timeout_ms);
    g_autoptr(GError) error = NULL;
    bool there;

    qmp_run(qmp, &error, "cont", NULL);
    assert_no_error(error);
    do {
        g_usleep(1000);
        there = word(running, ROUND) >= round || word(running, WRONG) != 0;
    } while (!there && deadline_left(deadline) > 0);
    qmp_run(qmp, &error, "stop", NULL);
    assert_no_error(error);
    return there;
}

static void run_to(Running *running, uint32_t round)
{
    if (!comes_to(running, round, RUN_TIMEOUT_MS)) {
        fail_msg("the guest does not run: round %u", word(running, ROUND));
    }
}

/* Pages before the one that is being written are of this round, the others of the last. */
static void assert_pattern(const Running *running)
{
    uint32_t round = word(running, ROUND);
    uint64_t current = word(running, AT_PAGE);

    assert_int_equal(word(running, WRONG), 0);
    for (uint64_t at = FIRST; at < END; at += PAGE) {
        uint32_t expected = at < current ? round : round - 1;

        if (at == HOLE) {
            at = HIGH;
        }
        if (at != current &&
            (word(running, at) != expected || word(running, at + PAGE - 4) != expected)) {
            fail_msg("page 0x%jx: %u and %u instead of %u", (uintmax_t)at, word(running, at),
                     word(running, at + PAGE - 4), expected);
        }
    }
}

static void assert_same_ram(const Running *source, const Running *destination)
{
    for (uint64_t at = 0; at < (uint64_t)MIB << 20; at += PAGE) {
        if (memcmp(source->ram + at, destination->ram + at, PAGE) != 0) {
            fail_msg("page %ju differs", (uintmax_t)(at / PAGE));
        }
    }
}

static void load(Running *destination, const QemuBinary *binary, const char *accel,
                 const char *path, const QemuTransfer *transfer)
{
    g_autoptr(GError) error = NULL;

    start(destination, binary, accel, true);
    qemu_load(destination->qemu, path, transfer, &limits, &error);
    assert_no_error(error);
}

static void check_carries_on(const char *accel, const QemuTransfer *save, const QemuTransfer *how)
{
    g_autoptr(QemuBinary) binary = require_qemu();
    g_auto(Running) source = { 0 };
    g_auto(Running) destination = { 0 };
    g_autoptr(GError) error = NULL;
    g_autofree char *path = NULL;
    uint32_t round;

    start(&source, binary, accel, false);
    run_to(&source, ROUNDS);
    assert_pattern(&source);
    round = word(&source, ROUND);
    path = qemu_process_path(source.qemu, "snapshot");
    qemu_save(source.qemu, path, save, &error);
    assert_no_error(error);
    load(&destination, binary, accel, path, how);
    if (!how->lazy) {
        assert_same_ram(&source, &destination);
    }
    run_to(&destination, round + ROUNDS);
    assert_true(word(&destination, ROUND) >= round + ROUNDS);
    assert_pattern(&destination);
}

static const QemuTransfer plain = { 0 };
static const QemuTransfer multifd = { .channels = 2 };
static const QemuTransfer lazy = { .lazy = true };

static void test_tcg(void **state)
{
    (void)state;
    check_carries_on("tcg", &plain, &plain);
    check_carries_on("tcg", &multifd, &multifd);
}

/* Does a guest that was never saved run? Some virtual KVM has no real mode. */
static bool guest_runs(const char *accel)
{
    g_autoptr(QemuBinary) binary = require_qemu();
    g_auto(Running) guest = { 0 };

    start(&guest, binary, accel, false);
    return comes_to(&guest, 1, FIRST_ROUND_TIMEOUT_MS);
}

static void test_kvm(void **state)
{
    (void)state;
    require_kvm();
    pagewise_skip_unless(guest_runs("kvm"), "kvm", "/dev/kvm runs no guest in real mode",
                         "run on a host whose processor has virtualisation");
    check_carries_on("kvm", &plain, &plain);
    check_carries_on("kvm", &plain, &multifd);
}

static void test_lazy(void **state)
{
    (void)state;
    qemu_binary_free(require_fast_snapshot_load());
    check_carries_on("tcg", &plain, &lazy);
}

/* The guest's own check can fail: one wrong page of all ends its rounds. */
static void test_guest_notices(void **state)
{
    g_autoptr(QemuBinary) binary = require_qemu();
    g_auto(Running) guest = { 0 };
    uint32_t round;

    (void)state;
    start(&guest, binary, "tcg", false);
    run_to(&guest, ROUNDS);
    round = word(&guest, ROUND);
    guest.ram[0x234000 + PAGE - 1] ^= 1;
    run_to(&guest, round + 1000000);
    assert_int_equal(word(&guest, WRONG), 0x234000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tcg),
        cmocka_unit_test(test_kvm),
        cmocka_unit_test(test_lazy),
        cmocka_unit_test(test_guest_notices),
    };
    QemuFolder *folder = tmpdir_enter();
    int status = folder ? pagewise_run("test-running-guest", tests) : 1;

    return folder && tmpdir_leave(folder) ? status : 1;
}

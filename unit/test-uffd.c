/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * loader/uffd.[ch]: which way a userfaultfd is opened, what is said where none
 * works, and what the kernel's answers to one ioctl count for. The kernel's
 * own rules that the loader relies on are asked of this kernel.
 */
#include "loader/uffd.h"

#include "loader/error.h"
#include "unit/lazy-support.h"
#include "unit/support.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

/* A table in which each way of opening answers as told. */
typedef struct OpenOps {
    UffdOps ops;
    int answers[UFFD_N_METHODS]; /* -errno; 0: a descriptor */
    int fail_api;                /* this call of api fails; 1: the first */
    int api_calls;
    int opened;
    uint64_t offered;
    uint64_t asked; /* by the last call of api */
} OpenOps;

static int fake_open(const UffdOps *ops, UffdMethod method, int flags)
{
    OpenOps *self = (OpenOps *)ops;

    assert_int_equal(flags, O_CLOEXEC | O_NONBLOCK);
    if (self->answers[method]) {
        return self->answers[method];
    }
    self->opened++;
    return open("/dev/null", O_RDONLY | O_CLOEXEC);
}

static int fake_api(const UffdOps *ops, int uffd, struct uffdio_api *api)
{
    OpenOps *self = (OpenOps *)ops;

    assert_true(uffd >= 0);
    if (++self->api_calls == self->fail_api) {
        return -EINVAL;
    }
    self->asked = api->features;
    api->features = self->offered;
    return 0;
}

static OpenOps open_ops(int by_syscall, int by_device, int user_mode_only)
{
    return (OpenOps){
        .ops = { .open = fake_open, .api = fake_api, .close = uffd_ops_real()->close },
        .answers = { by_syscall, by_device, user_mode_only },
        .offered = UFFD_FEATURE_THREAD_ID | UFFD_FEATURE_EVENT_REMOVE,
    };
}

static void assert_opens_by(OpenOps ops, UffdMethod wanted)
{
    g_autoptr(GError) error = NULL;
    Resources before = count_resources();
    Uffd uffd;

    assert_true(uffd_open(&ops.ops, 0, 0, &uffd, &error));
    assert_int_equal(uffd.method, wanted);
    assert_non_null(uffd_method_describe(uffd.method));
    close(uffd.fd);
    assert_true(resources_are(before));
}

static void test_ways_are_tried_in_order(void **state)
{
    (void)state;
    assert_opens_by(open_ops(0, 0, 0), UFFD_METHOD_SYSCALL);
    assert_opens_by(open_ops(-EPERM, 0, 0), UFFD_METHOD_DEVICE);
    assert_opens_by(open_ops(-EPERM, -EACCES, 0), UFFD_METHOD_USER_MODE_ONLY);
    assert_opens_by(open_ops(-ENOSYS, -ENOENT, 0), UFFD_METHOD_USER_MODE_ONLY);
}

/* An EPERM that does not say what to do is what users complain of. */
static void test_refusal_names_all_answers_and_remedies(void **state)
{
    OpenOps ops = open_ops(-EPERM, -EACCES, -ENOSYS);
    g_autoptr(GError) error = NULL;
    Uffd uffd;

    (void)state;
    assert_false(uffd_open(&ops.ops, 0, 0, &uffd, &error));
    assert_int_equal(uffd.fd, -1);
    assert_true(g_error_matches(error, MAPPED_RAM_ERROR, MAPPED_RAM_ERROR_NO_UFFD));
    assert_non_null(strstr(error->message, "the system call answers: Operation not permitted"));
    assert_non_null(strstr(error->message, "/dev/userfaultfd answers: Permission denied"));
    assert_non_null(strstr(error->message, "UFFD_USER_MODE_ONLY answers: Function not"));
    assert_non_null(strstr(error->message, "vm.unprivileged_userfaultfd"));
    assert_non_null(strstr(error->message, "setfacl"));
    assert_non_null(strstr(error->message, "CAP_SYS_PTRACE"));
    assert_null(strchr(error->message, '\n'));
}

static void test_features(void **state)
{
    OpenOps ops = open_ops(0, 0, 0);
    g_autoptr(GError) error = NULL;
    Resources before = count_resources();
    Uffd uffd;

    (void)state;
    /* Wanted features that are not offered are not asked for: EINVAL. */
    assert_true(uffd_open(&ops.ops, UFFD_FEATURE_EVENT_REMOVE,
                          UFFD_FEATURE_THREAD_ID | UFFD_FEATURE_SIGBUS, &uffd, &error));
    assert_int_equal(uffd.features, UFFD_FEATURE_EVENT_REMOVE | UFFD_FEATURE_THREAD_ID);
    assert_int_equal(ops.asked, uffd.features);
    close(uffd.fd);
    assert_false(uffd_open(&ops.ops, UFFD_FEATURE_SIGBUS, 0, &uffd, &error));
    assert_non_null(strstr(error->message, "lacks the features 0x80"));
    assert_true(resources_are(before));
}

/*
 * Probing and using one descriptor: the second UFFDIO_API is EINVAL, and the
 * loader is left with no features, or with none at all.
 */
static void test_each_descriptor_shakes_hands_once(void **state)
{
    OpenOps ops = open_ops(0, 0, 0);
    Uffd uffd;

    (void)state;
    assert_true(uffd_open(&ops.ops, 0, UFFD_FEATURE_THREAD_ID, &uffd, NULL));
    assert_int_equal(ops.opened, ops.api_calls);
    close(uffd.fd);
}

static void test_failed_handshake_leaves_nothing_open(void **state)
{
    Resources before = count_resources();

    (void)state;
    for (int call = 1; call <= 2; call++) {
        OpenOps ops = open_ops(0, 0, 0);
        g_autoptr(GError) error = NULL;
        Uffd uffd;

        ops.fail_api = call;
        assert_false(uffd_open(&ops.ops, 0, 0, &uffd, &error));
        assert_non_null(strstr(error->message, "UFFDIO_API"));
        assert_int_equal(uffd.fd, -1);
        assert_true(resources_are(before));
    }
}

/* What one ioctl answers, and how far it came. */
typedef struct AnswerOps {
    UffdOps ops;
    int result;
    int64_t done;
} AnswerOps;

static int answer_copy(const UffdOps *ops, int uffd, struct uffdio_copy *copy)
{
    (void)uffd;
    copy->copy = ((const AnswerOps *)ops)->done;
    return ((const AnswerOps *)ops)->result;
}

static int answer_zeropage(const UffdOps *ops, int uffd, struct uffdio_zeropage *zero)
{
    (void)uffd;
    zero->zeropage = ((const AnswerOps *)ops)->done;
    return ((const AnswerOps *)ops)->result;
}

static int answer_poison(const UffdOps *ops, int uffd, struct uffdio_poison *poison)
{
    (void)uffd;
    poison->updated = ((const AnswerOps *)ops)->done;
    return ((const AnswerOps *)ops)->result;
}

static void assert_progress(int result, int64_t done, int64_t wanted)
{
    AnswerOps ops = {
        .ops = { .copy = answer_copy, .zeropage = answer_zeropage, .poison = answer_poison },
        .result = result,
        .done = done,
    };

    assert_int_equal(uffd_copy(&ops.ops, 0, NULL, NULL, 0x3000), wanted);
    assert_int_equal(uffd_zeropage(&ops.ops, 0, NULL, 0x3000), wanted);
    assert_int_equal(uffd_poison(&ops.ops, 0, NULL, 0x3000), wanted);
}

/*
 * EAGAIN with a part done is where to resume. Taken as "nothing done" the same
 * bytes are copied again and meet EEXIST; taken as an error the load fails.
 */
static void test_partial_ioctls_are_progress(void **state)
{
    (void)state;
    assert_progress(0, 0x3000, 0x3000);
    assert_progress(-EAGAIN, 0x1000, 0x1000);
    assert_progress(-EAGAIN, -EAGAIN, -EAGAIN);
    assert_progress(-EEXIST, -EEXIST, -EEXIST);
    assert_progress(-ENOENT, -ENOENT, -ENOENT);
}

typedef struct Area {
    Uffd uffd;
    uint8_t *ram;
} Area;

static void set_up_area(Area *area)
{
    bool huge;

    area->ram = mmap(NULL, 0x4000, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(uffd_open(uffd_ops_real(), 0, 0, &area->uffd, NULL));
    assert_true(uffd_register(uffd_ops_real(), area->uffd.fd, area->ram, 0x4000, &huge, NULL));
    assert_false(huge);
}

static void tear_down_area(Area *area)
{
    assert_true(uffd_unregister(uffd_ops_real(), area->uffd.fd, area->ram, 0x4000, NULL));
    close(area->uffd.fd);
    munmap(area->ram, 0x4000);
}

static void test_kernel_answers(void **state)
{
    const UffdOps *ops = uffd_ops_real();
    static uint8_t from[0x4000] __attribute__((aligned(0x1000)));
    struct uffd_msg message;
    Area area;

    (void)state;
    require_uffd();
    memset(from, 1, sizeof(from));
    set_up_area(&area);
    assert_int_equal(ops->read(ops, area.uffd.fd, &message, sizeof(message)), -EAGAIN);
    assert_int_equal(ops->read(ops, area.uffd.fd, &message, 31), -EINVAL);
    assert_int_equal(uffd_copy(ops, area.uffd.fd, area.ram + 0x2000, from, 0x1000), 0x1000);
    assert_int_equal(uffd_copy(ops, area.uffd.fd, area.ram + 0x2000, from, 0x1000), -EEXIST);
    assert_int_equal(uffd_copy(ops, area.uffd.fd, area.ram, from, 0x4000), 0x2000);
    assert_int_equal(uffd_zeropage(ops, area.uffd.fd, area.ram, 0x1000), -EEXIST);
    assert_int_equal(uffd_copy(ops, area.uffd.fd, area.ram + 0x3000, NULL, 0x1000), -EFAULT);
    assert_int_equal(uffd_copy(ops, area.uffd.fd, area.ram + 0x3001, from, 0x1000), -EINVAL);
    assert_int_equal(uffd_copy(ops, area.uffd.fd, from, from, 0x1000), -ENOENT);
    uffd_wake(ops, area.uffd.fd, area.ram, 0x4000);
    assert_int_equal(area.ram[0x1fff], 1);
    tear_down_area(&area);
}

/*
 * Probing on the descriptor that is used; registering or reading before the
 * handshake; poll() before it, which says POLLERR for ever: each leaves a
 * loader that waits without end, or with no features.
 */
static void test_kernel_wants_one_handshake(void **state)
{
    const UffdOps *ops = uffd_ops_real();
    struct uffdio_api api = { .api = UFFD_API };
    struct pollfd poll = { .events = POLLIN };
    struct uffd_msg message;
    Uffd uffd;
    bool huge;
    int fd;

    (void)state;
    require_uffd();
    assert_true(uffd_open(ops, 0, 0, &uffd, NULL));
    assert_int_equal(ops->api(ops, uffd.fd, &api), -EINVAL);
    fd = ops->open(ops, uffd.method, O_CLOEXEC | O_NONBLOCK);
    assert_true(fd >= 0);
    assert_int_equal(ops->read(ops, fd, &message, sizeof(message)), -EINVAL);
    assert_false(uffd_register(ops, fd, &message, sizeof(message), &huge, NULL));
    poll.fd = fd;
    assert_int_equal(ops->poll(ops, &poll, 1), 1);
    assert_int_equal(poll.revents, POLLERR);
    close(fd);
    close(uffd.fd);
}

static void *read_byte(void *opaque)
{
    volatile uint8_t *byte = opaque;

    return *byte ? opaque : NULL;
}

/*
 * The fault is reported, and resolved by another thread before it is read: a
 * thread that takes POLLIN for a message that is there for it hangs in read()
 * (blocking), or takes EAGAIN for the end.
 */
static void test_kernel_withdraws_messages(void **state)
{
    const UffdOps *ops = uffd_ops_real();
    struct pollfd poll = { .events = POLLIN };
    struct uffd_msg message;
    pthread_t thread;
    Area area;

    (void)state;
    require_uffd();
    set_up_area(&area);
    poll.fd = area.uffd.fd;
    assert_int_equal(pthread_create(&thread, NULL, read_byte, area.ram), 0);
    assert_int_equal(ops->poll(ops, &poll, 1), 1);
    assert_int_equal(poll.revents, POLLIN);
    assert_int_equal(uffd_zeropage(ops, area.uffd.fd, area.ram, 0x1000), 0x1000);
    pthread_join(thread, NULL);
    assert_int_equal(ops->read(ops, area.uffd.fd, &message, sizeof(message)), -EAGAIN);
    tear_down_area(&area);
}

/* In the process that is left over: the memory's own process has ended. */
static int copy_when_gone(const Area *area, pid_t parent, int told)
{
    static uint8_t from[0x1000] __attribute__((aligned(0x1000)));
    int64_t result;
    uint8_t byte;

    while (getppid() == parent) {
        g_usleep(100);
    }
    do {
        result = uffd_copy(uffd_ops_real(), area->uffd.fd, area->ram, from, sizeof(from));
        /* Its memory goes a little later than it does. */
    } while (result == -EEXIST || result > 0 || result == -EAGAIN);
    byte = (uint8_t)-result;
    return write(told, &byte, 1) == 1 ? 0 : 1;
}

static int body_process_is_gone(void *opaque)
{
    int told = *(int *)opaque;
    pid_t self = getpid();
    Area area;

    set_up_area(&area);
    if (fork() == 0) {
        _exit(copy_when_gone(&area, self, told));
    }
    /* The child has the descriptor, and goes on alone. */
    _exit(0);
}

/* ESRCH, an end, not something to wait for: who touches there is gone as well. */
static void test_copy_into_a_process_that_is_gone(void **state)
{
    uint8_t byte = 0;
    int ends[2];
    pid_t child;

    (void)state;
    require_uffd();
    assert_int_equal(pipe(ends), 0);
    child = fork();
    if (child == 0) {
        _exit(body_process_is_gone(&ends[1]));
    }
    assert_int_equal(waitpid(child, NULL, 0), child);
    close(ends[1]);
    assert_int_equal(read(ends[0], &byte, 1), 1);
    assert_int_equal(byte, ESRCH);
    close(ends[0]);
}

/* Registered by somebody else: EBUSY, and it stays theirs. */
static void test_register_of_what_is_taken(void **state)
{
    g_autoptr(GError) error = NULL;
    Area area;
    Uffd other;
    bool huge;

    (void)state;
    require_uffd();
    set_up_area(&area);
    assert_true(uffd_open(uffd_ops_real(), 0, 0, &other, NULL));
    assert_false(uffd_register(uffd_ops_real(), other.fd, area.ram, 0x4000, &huge, &error));
    assert_non_null(strstr(error->message, "Device or resource busy"));
    close(other.fd);
    tear_down_area(&area);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ways_are_tried_in_order),
        cmocka_unit_test(test_refusal_names_all_answers_and_remedies),
        cmocka_unit_test(test_features),
        cmocka_unit_test(test_each_descriptor_shakes_hands_once),
        cmocka_unit_test(test_failed_handshake_leaves_nothing_open),
        cmocka_unit_test(test_partial_ioctls_are_progress),
        cmocka_unit_test(test_kernel_answers),
        cmocka_unit_test(test_kernel_wants_one_handshake),
        cmocka_unit_test(test_kernel_withdraws_messages),
        cmocka_unit_test(test_copy_into_a_process_that_is_gone),
        cmocka_unit_test(test_register_of_what_is_taken),
    };

    return pagewise_run("uffd", tests);
}

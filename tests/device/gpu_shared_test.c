/*
 * gpu_shared_test.c - one emulated GPU used by several processes and threads: what they launch is
 * executed exactly once, the GPU's time adds up, and a process that dies, anywhere, does not take
 * the GPU with it. Durations are bounded from below by what the model says they must be, or
 * compared with each other.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "engine/device/gpu_shared.h"

enum {
    ENGINES = 3,
    STEPS = 8,
    STEP_US = 3000, /* more than a slice */
};

static struct gpu_shared create(enum gpu_share_mode mode, uint32_t contexts_max, uint32_t depth)
{
    struct gpu_share_options o = gpu_share_defaults(mode, contexts_max);
    struct gpu_shared shared;
    o.queue_depth = depth;
    assert_int_equal(gpu_shared_create(&o, &shared, NULL), STATUS_OK);
    return shared;
}

static enum status open_gpu(struct gpu_shared *shared, struct ledger_thread *thread,
                            struct gpu *gpu)
{
    struct gpu_options options = {
        .shape = gpu_shape_find("h100"),
        .queue_depth = 1,
        .wait = WAIT_BLOCK,
        .thread = thread,
        .shared = shared,
    };
    return gpu_open_emulated(&options, gpu, NULL);
}

static void run_steps(struct gpu *gpu, uint32_t steps)
{
    int64_t before_ns = 0;
    gpu_work_demand(gpu, GPU_SHARE_WHOLE_PPM, GPU_SHARE_WHOLE_PPM);
    for (uint32_t i = 0; i < steps; i++) {
        gpu_work_ready(gpu, clock_now_ns());
        (void)gpu_launch_graph(gpu, 10, (time_ps)STEP_US * PS_PER_US);
        gpu_event_record(gpu, i % GPU_EVENTS_MAX);
        int64_t done_ns = gpu_event_wait(gpu, i % GPU_EVENTS_MAX);
        ASSERT(gpu_event_query(gpu, i % GPU_EVENTS_MAX));
        ASSERT(clock_now_ns() >= done_ns && done_ns >= before_ns + STEP_US * 1000 - 1);
        before_ns = done_ns;
    }
}

/* In a child process: everything from the inherited descriptor. Exit status 0 if all went well. */
static void engine_process(int fd)
{
    struct gpu_shared shared;
    struct gpu gpu;
    struct ledger_thread thread = {0};
    if (gpu_shared_open(dup(fd), &shared, NULL) != STATUS_OK ||
        open_gpu(&shared, &thread, &gpu) != STATUS_OK) {
        _exit(1);
    }
    run_steps(&gpu, STEPS);
    gpu_close(&gpu);
    gpu_shared_close(&shared);
    _exit(ledger_get(&thread.launches_count[LAUNCH_CLASS_GRAPH]) == STEPS ? 0 : 2);
}

static void assert_exit_ok(pid_t pid)
{
    int how = 0;
    assert_int_equal(waitpid(pid, &how, 0), pid);
    assert_true(WIFEXITED(how));
    assert_int_equal(WEXITSTATUS(how), 0);
}

static time_ps occupied(struct gpu_shared *shared, uint64_t *switches_count)
{
    struct gpu_share_change change;
    gpu_shared_begin(shared, &change);
    time_ps t = change.state->occupied;
    *switches_count = change.state->switches_count;
    gpu_shared_commit(shared, &change);
    return t;
}

static void processes_share(enum gpu_share_mode mode)
{
    struct gpu_shared shared = create(mode, ENGINES, 64);
    pid_t pids[ENGINES];
    uint64_t switches = 0;
    int64_t begin_ns = clock_now_ns();
    for (int i = 0; i < ENGINES; i++) {
        pids[i] = fork();
        if (pids[i] == 0) {
            engine_process(shared.fd);
        }
        assert_true(pids[i] > 0);
    }
    for (int i = 0; i < ENGINES; i++) {
        assert_exit_ok(pids[i]);
    }
    int64_t wall_ns = clock_now_ns() - begin_ns;
    time_ps all = (time_ps)ENGINES * STEPS * STEP_US * PS_PER_US;
    time_ps ran = occupied(&shared, &switches);
    /* All of it once: work that needs the whole GPU takes as long together as one after the other.
     */
    assert_in_range(ran, all - PS_PER_US, all + PS_PER_US);
    assert_true(wall_ns >= ns_from_ps(all));
    if (mode == GPU_SHARE_TIME_SLICED) {
        assert_true(switches >= ENGINES - 1);
    } else {
        assert_int_equal(switches, 0);
    }
    gpu_shared_close(&shared);
}

static void processes_take_turns(void **state)
{
    (void)state;
    processes_share(GPU_SHARE_TIME_SLICED);
}

static void processes_run_side_by_side(void **state)
{
    (void)state;
    processes_share(GPU_SHARE_SIDE_BY_SIDE);
}

/* ---- threads, for the race detector: they use one mapping ---- */

struct engine_thread {
    struct gpu_shared *shared;
    struct ledger_thread thread;
    pthread_t id;
};

static void *engine_thread_main(void *context)
{
    struct engine_thread *e = context;
    struct gpu gpu;
    ASSERT(open_gpu(e->shared, &e->thread, &gpu) == STATUS_OK);
    run_steps(&gpu, STEPS);
    gpu_work_ready(&gpu, clock_now_ns()); /* books the last step */
    gpu_close(&gpu);
    return NULL;
}

static void time_of_the_gpu_adds_up(void **state)
{
    (void)state;
    struct gpu_shared shared = create(GPU_SHARE_TIME_SLICED, 2, 64);
    struct engine_thread engines[2] = {0};
    int64_t created_ns = clock_now_ns();
    for (int i = 0; i < 2; i++) {
        engines[i].shared = &shared;
        assert_int_equal(pthread_create(&engines[i].id, NULL, engine_thread_main, &engines[i]), 0);
    }
    uint64_t sum = 0;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(pthread_join(engines[i].id, NULL), 0);
        const struct ledger_thread *t = &engines[i].thread;
        assert_in_range(t->gpu_busy_ns, STEPS * STEP_US * 1000 - 1, STEPS * STEP_US * 1000);
        assert_int_equal(t->gpu_idle_ns, t->gpu_idle_late_ns);
        assert_true(t->gpu_idle_absent_ns + t->gpu_switch_ns + t->gpu_idle_late_ns > 0);
        sum += t->gpu_busy_ns + t->gpu_idle_late_ns + t->gpu_idle_absent_ns + t->gpu_switch_ns;
    }
    /* Nothing twice: it is at most the GPU's life, and at least what ran. */
    assert_true(sum >= 2 * STEPS * STEP_US * 1000 - 2);
    assert_true(sum <= (uint64_t)(clock_now_ns() - created_ns) + 1000000);
    gpu_shared_close(&shared);
}

/* ---- what goes wrong ---- */

/* The child has begun `how` when it writes a byte. */
static pid_t start_child(struct gpu_shared *shared, void (*how)(struct gpu_shared *, int))
{
    int pipes[2];
    char byte = 0;
    assert_int_equal(pipe(pipes), 0);
    pid_t pid = fork();
    if (pid == 0) {
        how(shared, pipes[1]);
        _exit(0);
    }
    assert_true(pid > 0);
    (void)close(pipes[1]);
    assert_int_equal(read(pipes[0], &byte, 1), 1);
    (void)close(pipes[0]);
    return pid;
}

static void occupy_for_an_hour(struct gpu_shared *shared, int ready_fd)
{
    struct ledger_thread thread = {0};
    struct gpu gpu;
    if (open_gpu(shared, &thread, &gpu) != STATUS_OK) {
        _exit(1);
    }
    (void)gpu_launch_graph(&gpu, 1, 3600 * PS_PER_S);
    (void)!write(ready_fd, "x", 1);
    (void)pause();
}

static void die_inside(struct gpu_shared *shared, int ready_fd)
{
    struct ledger_thread thread = {0};
    struct gpu gpu;
    struct gpu_share_change change;
    if (open_gpu(shared, &thread, &gpu) != STATUS_OK) {
        _exit(1);
    }
    gpu_shared_begin(shared, &change);
    change.state->now = TIME_NEVER; /* half a change */
    change.state->contexts[0].launched = 77;
    (void)!write(ready_fd, "x", 1);
    (void)pause();
}

static void the_dead_lose_their_context(void **state)
{
    (void)state;
    for (int mode = GPU_SHARE_TIME_SLICED; mode <= GPU_SHARE_SIDE_BY_SIDE; mode++) {
        void (*const ways[])(struct gpu_shared *, int) = {occupy_for_an_hour, die_inside};
        for (int way = 0; way < 2; way++) {
            struct gpu_shared shared = create((enum gpu_share_mode)mode, 2, 64);
            struct ledger_thread thread = {0};
            struct gpu gpu;
            pid_t pid = start_child(&shared, ways[way]);
            assert_int_equal(kill(pid, SIGKILL), 0);
            /* Not reaped yet: a zombie is dead too. */
            assert_int_equal(open_gpu(&shared, &thread, &gpu), STATUS_OK);
            run_steps(&gpu, 4); /* would take an hour side by side, and 6 ms between slices */
            uint64_t switches = 0;
            time_ps ran = occupied(&shared, &switches);
            assert_true(ran < 60 * PS_PER_S);
            assert_int_equal(waitpid(pid, NULL, 0), pid);
            /* Its place is free again. */
            struct gpu second;
            assert_int_equal(open_gpu(&shared, &thread, &second), STATUS_OK);
            gpu_close(&second);
            gpu_close(&gpu);
            gpu_shared_close(&shared);
        }
    }
}

static void full_queue_blocks(void **state)
{
    (void)state;
    struct gpu_shared shared = create(GPU_SHARE_SIDE_BY_SIDE, 1, 4);
    struct ledger_thread thread = {0};
    struct gpu gpu;
    assert_int_equal(open_gpu(&shared, &thread, &gpu), STATUS_OK);
    int64_t begin_ns = clock_now_ns();
    (void)gpu_launch_kernels(&gpu, 24, 24 * PS_PER_MS);
    int64_t wall_ns = clock_now_ns() - begin_ns;
    assert_true(wall_ns >= 20000000);
    assert_true(thread.queue_full_ns > 0 && thread.queue_full_ns <= (uint64_t)wall_ns);
    assert_true(thread.launch_ns[LAUNCH_CLASS_KERNEL] + thread.queue_full_ns <= (uint64_t)wall_ns);
    gpu_launch_memop(&gpu, clock_now_ns() + 20000000);
    (void)gpu_launch_copy(&gpu, 50000);
    gpu_event_record(&gpu, 0);
    int64_t done_ns = gpu_event_wait(&gpu, 0);
    assert_true(done_ns >= begin_ns + wall_ns + 20000000);
    assert_int_equal(thread.launches_count[LAUNCH_CLASS_SYNC], 1);
    gpu_close(&gpu);
    gpu_shared_close(&shared);
}

static void bad_use_is_refused(void **state)
{
    (void)state;
    struct error error;
    struct gpu_share_options o = gpu_share_defaults(GPU_SHARE_TIME_SLICED, 0);
    struct gpu_shared shared;
    assert_int_equal(gpu_shared_create(&o, &shared, &error), STATUS_INVALID);
    int pipes[2];
    assert_int_equal(pipe(pipes), 0);
    assert_int_equal(gpu_shared_open(pipes[0], &shared, &error), STATUS_PROTOCOL);
    assert_int_equal(gpu_shared_open(-1, &shared, &error), STATUS_PROTOCOL);
    (void)close(pipes[0]);
    (void)close(pipes[1]);
    shared = create(GPU_SHARE_TIME_SLICED, 1, 4);
    struct ledger_thread thread = {0};
    struct gpu first;
    struct gpu second;
    assert_int_equal(open_gpu(&shared, &thread, &first), STATUS_OK);
    assert_int_equal(open_gpu(&shared, &thread, &second), STATUS_FULL);
    gpu_close(&first);
    gpu_shared_close(&shared);

    struct topology t = {.gpu_sharing = GPU_SIDE_BY_SIDE, .engines_per_gpu = 5, .queue_depth = 9};
    o = gpu_shared_options(&t);
    assert_int_equal(o.mode, GPU_SHARE_SIDE_BY_SIDE);
    assert_int_equal(o.contexts_max, 5);
    assert_int_equal(o.queue_depth, 9);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(processes_take_turns),    cmocka_unit_test(processes_run_side_by_side),
        cmocka_unit_test(time_of_the_gpu_adds_up), cmocka_unit_test(the_dead_lose_their_context),
        cmocka_unit_test(full_queue_blocks),       cmocka_unit_test(bad_use_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * gpu_test.c - the launch table over the emulated GPU: what is counted, that launches cost CPU time
 * in proportion, that the queue is bounded and in order, and that the booked device time is exactly
 * what was launched. Durations are compared with each other or bounded from below by deadlines, so
 * a busy machine cannot fail the test.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/base/clock.h"
#include "engine/device/gpu.h"

static struct gpu open_gpu(struct ledger_thread *thread, uint32_t depth, int64_t extra_ns,
                           enum wait_mode wait)
{
    struct gpu_options options = {
        .shape = gpu_shape_find("h100"),
        .queue_depth = depth,
        .launch_extra_ns = extra_ns,
        .wait = wait,
        .thread = thread,
    };
    struct gpu gpu;
    assert_int_equal(gpu_open_emulated(&options, &gpu, NULL), STATUS_OK);
    return gpu;
}

static void launches_are_counted_by_class(void **state)
{
    (void)state;
    struct ledger_thread thread = {0};
    struct gpu gpu = open_gpu(&thread, 4096, 0, WAIT_BLOCK);
    (void)gpu_launch_kernels(&gpu, 7, 7 * PS_PER_US);
    (void)gpu_launch_graph(&gpu, 324, 11 * PS_PER_US);
    (void)gpu_launch_graph(&gpu, 164, 5 * PS_PER_US);
    (void)gpu_launch_copy(&gpu, 50000); /* 1 us at 50 GB/s */
    gpu_launch_memop(&gpu, 0);
    assert_int_equal(thread.launches_count[LAUNCH_CLASS_KERNEL], 7);
    assert_int_equal(thread.launches_count[LAUNCH_CLASS_GRAPH], 2);
    assert_int_equal(thread.launches_count[LAUNCH_CLASS_COPY], 1);
    assert_int_equal(thread.launches_count[LAUNCH_CLASS_SYNC], 1);
    assert_int_equal(thread.gpu_busy_ns, 24000);
    assert_int_equal(thread.queue_full_ns, 0);
    assert_true(thread.launch_ns[LAUNCH_CLASS_KERNEL] > thread.launch_max_ns ||
                thread.launch_max_ns > 0);
    /* Parts of a nanosecond add up, and three kernels take all of a time that three does not
     * divide. */
    for (int i = 0; i < 500; i++) {
        (void)gpu_launch_kernels(&gpu, 3, 8);
    }
    assert_int_equal(thread.gpu_busy_ns, 24004);
    gpu_close(&gpu);
    assert_null(gpu.ops);
}

static int64_t cpu_of_launches(struct gpu *gpu, uint32_t count)
{
    int64_t begin_ns = clock_thread_cpu_ns();
    (void)gpu_launch_kernels(gpu, count, 0);
    return clock_thread_cpu_ns() - begin_ns;
}

static void launches_burn_cpu_in_proportion(void **state)
{
    (void)state;
    struct ledger_thread thread = {0};
    struct gpu plain = open_gpu(&thread, 100000, 0, WAIT_BLOCK);
    struct gpu slow = open_gpu(&thread, 100000, 18000, WAIT_BLOCK);
    int64_t plain_ns = cpu_of_launches(&plain, 2000);
    int64_t slow_ns = cpu_of_launches(&slow, 2000);
    assert_in_range(slow_ns, 5 * plain_ns, 20 * plain_ns); /* 2 us against 20 us */
    gpu_close(&plain);
    gpu_close(&slow);
}

static void work_runs_in_order_without_overlap(void **state)
{
    (void)state;
    struct ledger_thread thread = {0};
    struct gpu gpu = open_gpu(&thread, 1024, 0, WAIT_BLOCK);
    int64_t first_ns = gpu_launch_graph(&gpu, 1, 10 * PS_PER_MS);
    gpu_event_record(&gpu, 0);
    int64_t second_ns = gpu_launch_graph(&gpu, 1, 10 * PS_PER_MS);
    gpu_event_record(&gpu, 1);
    assert_false(gpu_event_query(&gpu, 1));
    int64_t done_ns = gpu_event_wait(&gpu, 1);
    assert_true(clock_now_ns() >= done_ns);
    assert_int_equal(gpu_event_wait(&gpu, 0), first_ns + 10000000);
    assert_int_equal(second_ns, first_ns + 10000000); /* launched while the first ran */
    assert_int_equal(done_ns, second_ns + 10000000);
    assert_true(gpu_event_query(&gpu, 0) && gpu_event_query(&gpu, 1));
    gpu_close(&gpu);
}

static void full_queue_blocks(enum wait_mode wait)
{
    struct ledger_thread thread = {0};
    struct gpu gpu = open_gpu(&thread, 4, 0, wait);
    int64_t cpu_ns = clock_thread_cpu_ns();
    int64_t begin_ns = clock_now_ns();
    (void)gpu_launch_kernels(&gpu, 24, 24 * PS_PER_MS);
    int64_t wall_ns = clock_now_ns() - begin_ns;
    cpu_ns = clock_thread_cpu_ns() - cpu_ns;
    /* The 24th enters when the 20th has ended, which is 20 ms after the first began. */
    assert_true(wall_ns >= 20000000);
    assert_true(thread.queue_full_ns > 0 && thread.queue_full_ns <= (uint64_t)wall_ns);
    assert_true(thread.launch_ns[LAUNCH_CLASS_KERNEL] + thread.queue_full_ns <= (uint64_t)wall_ns);
    if (wait == WAIT_BLOCK) {
        assert_true(cpu_ns < wall_ns / 2);
    }
    gpu_close(&gpu);
}

static void full_queue_blocks_asleep(void **state)
{
    (void)state;
    full_queue_blocks(WAIT_BLOCK);
}

static void full_queue_blocks_spinning(void **state)
{
    (void)state;
    full_queue_blocks(WAIT_SPIN);
}

static void idle_gaps_are_those_with_work_ready(void **state)
{
    (void)state;
    struct ledger_thread late = {0};
    struct gpu gpu = open_gpu(&late, 1024, 200000, WAIT_BLOCK);
    gpu_work_ready(&gpu, clock_now_ns());
    (void)gpu_launch_kernels(&gpu, 50, 50 * PS_PER_US); /* 202 us of host for 1 us of GPU */
    assert_int_equal(late.gpu_busy_ns, 50000);
    assert_true(late.gpu_idle_ns > 10 * late.gpu_busy_ns);
    gpu_close(&gpu);

    struct ledger_thread early = {0};
    gpu = open_gpu(&early, 1024, 0, WAIT_BLOCK);
    gpu_work_ready(&gpu, clock_now_ns());
    (void)gpu_launch_kernels(&gpu, 20, 40 * PS_PER_MS); /* 2 us of host for 2 ms of GPU */
    uint64_t idle_ns = early.gpu_idle_ns;
    assert_true(idle_ns < early.gpu_busy_ns / 2);
    gpu_event_record(&gpu, 0);
    int64_t done_ns = gpu_event_wait(&gpu, 0);
    /* Work that was not there yet is not waited for by the GPU: only the time since it was ready
     * counts. */
    clock_sleep_until_ns(done_ns + 20000000);
    int64_t ready_ns = clock_now_ns();
    gpu_work_ready(&gpu, ready_ns);
    int64_t begins_ns = gpu_launch_graph(&gpu, 1, PS_PER_US);
    assert_in_range(early.gpu_idle_ns - idle_ns, begins_ns - ready_ns - 2,
                    begins_ns - ready_ns + 2);
    gpu_close(&gpu);
}

static void memop_holds_the_queue_back(void **state)
{
    (void)state;
    struct ledger_thread thread = {0};
    struct gpu gpu = open_gpu(&thread, 8, 0, WAIT_SPIN);
    int64_t not_before_ns = clock_now_ns() + 30000000;
    gpu_work_ready(&gpu, clock_now_ns());
    gpu_launch_memop(&gpu, not_before_ns);
    int64_t begins_ns = gpu_launch_graph(&gpu, 1, PS_PER_US);
    assert_true(begins_ns >= not_before_ns);
    gpu_event_record(&gpu, 3);
    assert_true(gpu_event_wait(&gpu, 3) >= not_before_ns + 1000);
    assert_true(clock_now_ns() >= not_before_ns);
    gpu_close(&gpu);
}

static uint64_t gpu_time(const struct ledger_thread *t)
{
    return t->gpu_busy_ns + t->gpu_idle_late_ns + t->gpu_idle_absent_ns + t->gpu_switch_ns;
}

static void time_of_the_gpu_adds_up(void **state)
{
    (void)state;
    struct ledger_thread thread = {0};
    int64_t earliest_ns = clock_now_ns();
    struct gpu gpu = open_gpu(&thread, 64, 0, WAIT_BLOCK);
    int64_t latest_ns = clock_now_ns();
    for (int i = 0; i < 5; i++) {
        clock_sleep_until_ns(clock_now_ns() + 3000000); /* nobody has work */
        gpu_work_ready(&gpu, clock_now_ns());
        clock_sleep_until_ns(clock_now_ns() + 2000000); /* the host is late */
        int64_t end_ns = gpu_launch_graph(&gpu, 5, PS_PER_MS) + 1000000;
        /* All of its life until the end of what was launched, which began when it was opened. */
        assert_in_range(gpu_time(&thread), end_ns - latest_ns - 10, end_ns - earliest_ns + 10);
        gpu_event_record(&gpu, 0);
        (void)gpu_event_wait(&gpu, 0);
    }
    assert_int_equal(thread.gpu_busy_ns, 5000000);
    assert_true(thread.gpu_idle_absent_ns >= 15000000);
    assert_true(thread.gpu_idle_late_ns >= 10000000);
    assert_int_equal(thread.gpu_idle_late_ns, thread.gpu_idle_ns);
    assert_int_equal(thread.gpu_switch_ns, 0);
    gpu_close(&gpu);
}

static uint64_t total_of(const struct ledger_histogram *h)
{
    uint64_t counts[LEDGER_HISTOGRAM_BUCKETS];
    for (uint32_t i = 0; i < LEDGER_HISTOGRAM_BUCKETS; i++) {
        counts[i] = atomic_load(&h->counts[i]);
    }
    return ledger_histogram_total(counts);
}

/* The device runs nothing from a graph's end to the next one's begin, but for a copy in between. */
static void gaps_lie_between_graphs(void **state)
{
    (void)state;
    struct ledger_thread thread = {0};
    struct gpu gpu = open_gpu(&thread, 64, 0, WAIT_BLOCK);
    uint64_t want[LEDGER_HISTOGRAM_BUCKETS] = {0};
    int64_t end_ns = 0;
    (void)gpu_launch_copy(&gpu, 1000);
    for (int i = 0; i < 6; i++) {
        uint64_t busy_ns = thread.gpu_busy_ns;
        (void)gpu_launch_copy(&gpu, 1 << 20);
        int64_t copied_ns = (int64_t)(thread.gpu_busy_ns - busy_ns);
        int64_t begin_ns = gpu_launch_graph(&gpu, 5, PS_PER_MS);
        if (i > 0) { /* before the first there is no graph */
            want[ledger_histogram_bucket(begin_ns - end_ns - copied_ns)]++;
        }
        end_ns = begin_ns + 1000000;
        clock_sleep_until_ns(end_ns + (i + 1) * 1000000);
    }
    assert_int_equal(total_of(&thread.gaps), 5);
    for (uint32_t i = 0; i < LEDGER_HISTOGRAM_BUCKETS; i++) {
        /* Rounding to ns may move a gap to the bucket beside. */
        uint64_t near = want[i] + (i > 0 ? want[i - 1] : 0) +
                        (i + 1 < LEDGER_HISTOGRAM_BUCKETS ? want[i + 1] : 0);
        assert_true(atomic_load(&thread.gaps.counts[i]) <= near);
    }
    (void)gpu_launch_kernels(&gpu, 10, PS_PER_MS); /* most begin when the one before ends */
    assert_in_range(total_of(&thread.gaps), 6, 15);
    assert_int_equal(total_of(&thread.launches), 6 + 10); /* copies are no launches of this kind */
    gpu_close(&gpu);
}

/* Preparing, launching, queue full, waiting for results and idle are all of the thread's life. */
static void time_of_the_thread_adds_up(void **state)
{
    (void)state;
    struct ledger_thread thread = {0};
    struct gpu gpu = open_gpu(&thread, 4, 5000, WAIT_BLOCK);
    thread.started_ns = (uint64_t)clock_now_ns();
    for (int turn = 1; turn <= 4; turn++) {
        int64_t begin_ns = clock_now_ns();
        clock_sleep_until_ns(begin_ns + 1000000);
        int64_t now_ns = clock_now_ns();
        ledger_add(&thread.idle_ns, (uint64_t)(now_ns - begin_ns));
        clock_sleep_until_ns(now_ns + 2000000); /* prepares */
        (void)gpu_launch_kernels(&gpu, 20, 10 * PS_PER_MS);
        (void)gpu_launch_copy(&gpu, 1000);
        gpu_event_record(&gpu, 0);
        begin_ns = clock_now_ns();
        (void)gpu_event_wait(&gpu, 0);
        ledger_add(&thread.sync_wait_ns, (uint64_t)(clock_now_ns() - begin_ns));
        now_ns = clock_now_ns();
        gpu_thread_turn(&thread, now_ns);
        uint64_t launching = 0;
        for (int c = 0; c < LAUNCH_CLASSES_COUNT; c++) {
            launching += thread.launch_ns[c];
        }
        uint64_t lived_ns = (uint64_t)now_ns - thread.started_ns;
        assert_int_equal(thread.prepare_ns + launching + thread.queue_full_ns +
                             thread.sync_wait_ns + thread.idle_ns,
                         lived_ns);
        assert_true(thread.prepare_ns >= (uint64_t)turn * 2000000);
        assert_true(launching >= (uint64_t)turn * 21 * 5000);
        /* 20 kernels of 0.5 ms, at most 4 queued: the 20th is taken when the 16th is done. */
        assert_true(thread.queue_full_ns + launching >= (uint64_t)turn * 16 * 500000);
        assert_true(thread.queue_full_ns > 0);
    }
    gpu_close(&gpu);
}

static void queue_of_no_depth_is_refused(void **state)
{
    (void)state;
    struct gpu_options options = {.shape = gpu_shape_find("h100")};
    struct gpu gpu = {0};
    struct error error;
    assert_int_equal(gpu_open_emulated(&options, &gpu, &error), STATUS_INVALID);
    assert_null(gpu.ops);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(launches_are_counted_by_class),
        cmocka_unit_test(launches_burn_cpu_in_proportion),
        cmocka_unit_test(work_runs_in_order_without_overlap),
        cmocka_unit_test(full_queue_blocks_asleep),
        cmocka_unit_test(full_queue_blocks_spinning),
        cmocka_unit_test(idle_gaps_are_those_with_work_ready),
        cmocka_unit_test(memop_holds_the_queue_back),
        cmocka_unit_test(time_of_the_gpu_adds_up),
        cmocka_unit_test(gaps_lie_between_graphs),
        cmocka_unit_test(time_of_the_thread_adds_up),
        cmocka_unit_test(queue_of_no_depth_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

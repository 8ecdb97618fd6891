/*
 * pipeline_test.c - devices of several workers that run one engine core's steps together: what they
 * tell each other, and the times of their steps against closed forms. All of it is device time;
 * bounds from above allow for what this thread took to submit, however slow it was.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "engine/device/cost.h"
#include "engine/device/device.h"
#include "engine/device/pipeline.h"

enum {
    SLOTS = 64,
    WORKERS_MAX = 4,
    BATCH = 8,
    STEPS = 24,
    COMPUTED = 127,
    /* Rounding to ns, and two launches of no duration, of each step of each stage. */
    SLACK_NS = 20,
    SUBMIT_LATENCY_NS_MAX = 10000,
};

struct fixture {
    struct topology topology;
    struct pipeline pipeline;
    uint32_t workers_count;
    struct ledger_thread threads[WORKERS_MAX];
    struct device devices[WORKERS_MAX];
    struct step_seq seqs[SLOTS];
    struct device_result results[STEPS + 1]; /* of the output rank, by step */
    int64_t submitting_ns;                   /* all steps, on this thread */
};

static void open_workers(struct fixture *f, uint32_t tp, uint32_t pp)
{
    f->topology = (struct topology){.engines_count = 1,
                                    .tp = tp,
                                    .pp = pp,
                                    .queue_depth = 1024,
                                    .block_tokens = 16,
                                    .async_depth = 2,
                                    .model = "llama-3.1-8b",
                                    .gpu = "h100"};
    f->workers_count = tp * pp;
    assert_int_equal(pipeline_create(f->workers_count, &f->pipeline, NULL), STATUS_OK);
    for (uint32_t w = 0; w < f->workers_count; w++) {
        struct device_options options = {
            .topology = &f->topology,
            .worker = w,
            .requests_max = SLOTS,
            .thread = &f->threads[w],
            .pipeline = &f->pipeline,
        };
        f->threads[w] = (struct ledger_thread){0};
        assert_int_equal(device_open(&options, &f->devices[w], NULL), STATUS_OK);
    }
}

static void close_workers(struct fixture *f)
{
    for (uint32_t w = 0; w < f->workers_count; w++) {
        device_close(&f->devices[w]);
    }
    pipeline_close(&f->pipeline);
}

/* One token for each of BATCH requests from slot `first` on. */
static struct step_plan decode_of(struct fixture *f, uint64_t step, uint32_t first)
{
    for (uint32_t i = 0; i < BATCH; i++) {
        f->seqs[i] = (struct step_seq){
            .slot = first + i,
            .computed_tokens = COMPUTED,
            .scheduled_tokens = 1,
            .flags = STEP_SEQ_SAMPLES | STEP_SEQ_IGNORE_EOS,
            .sample_key = first + i,
            .position = (uint32_t)step,
        };
    }
    return (struct step_plan){
        .step = step, .seqs = f->seqs, .seqs_count = BATCH, .tokens_count = BATCH};
}

/* What one stage takes for a decode step: its share of the roofline and the copy of the plan. */
static int64_t stage_ns(const struct fixture *f)
{
    const struct gpu_shape *gpu = gpu_shape_find(f->topology.gpu);
    struct step_load load = {0};
    for (uint32_t i = 0; i < BATCH; i++) {
        step_load_add(&load, COMPUTED, 1, true);
    }
    time_ps step = cost_step(gpu, model_shape_find(f->topology.model), f->topology.tp, &load);
    double copy_ps = (12.0 + 16.0) * BATCH / gpu->pcie_bytes_per_s * 1e12;
    return ns_from_ps(step / f->topology.pp + (time_ps)copy_ps);
}

static int64_t handover_ns(const struct fixture *f)
{
    return ns_from_ps(cost_handover(gpu_shape_find(f->topology.gpu),
                                    model_shape_find(f->topology.model), f->topology.tp, BATCH));
}

/* Submits STEPS decode steps of `batches` different batches in turn, then waits for all. */
static void run_batches(struct fixture *f, uint32_t batches)
{
    int64_t begin_ns = clock_now_ns();
    for (uint64_t step = 1; step <= STEPS; step++) {
        struct step_plan plan = decode_of(f, step, (uint32_t)(step % batches) * BATCH);
        for (uint32_t w = 0; w < f->workers_count; w++) {
            assert_int_equal(device_submit(&f->devices[w], &plan, NULL), STATUS_OK);
        }
    }
    f->submitting_ns = clock_now_ns() - begin_ns;
    for (uint64_t step = 1; step <= STEPS; step++) {
        for (uint32_t w = 0; w < f->workers_count; w++) {
            device_wait(&f->devices[w], step, &f->results[step]);
        }
    }
}

/* Between the ends of the first and the last step. */
static int64_t span_ns(const struct fixture *f)
{
    return f->results[STEPS].done_ns - f->results[1].done_ns;
}

/* How much later than in the closed form, in which all is submitted at once, a step can end: as if
 * everything were submitted at the end. */
static int64_t host_ns(const struct fixture *f)
{
    return f->submitting_ns + SUBMIT_LATENCY_NS_MAX;
}

static void stages_overlap_on_as_many_batches(void **state)
{
    (void)state;
    static const uint32_t depths[] = {1, 2, 4};
    int64_t alone_ns = 0;
    for (size_t i = 0; i < sizeof depths / sizeof depths[0]; i++) {
        static struct fixture f;
        uint32_t pp = depths[i];
        open_workers(&f, 1, pp);
        run_batches(&f, pp);
        int64_t least_ns = (STEPS - 1) * (stage_ns(&f) - SLACK_NS);
        assert_true(span_ns(&f) >= least_ns);
        /* A batch comes round again after pp stages and the hand-overs between them: what these
         * take is a bubble of every round, shared by pp batches. */
        int64_t bubbles_ns = (STEPS / pp) * (int64_t)(pp - 1) * (handover_ns(&f) + SLACK_NS);
        assert_true(span_ns(&f) <= least_ns + 2 * STEPS * SLACK_NS + bubbles_ns + host_ns(&f));
        for (uint32_t w = 0; w < pp; w++) {
            assert_in_range(f.threads[w].gpu_busy_ns, STEPS * (stage_ns(&f) - SLACK_NS),
                            STEPS * (stage_ns(&f) + SLACK_NS));
            assert_int_equal(f.threads[w].launches_count[LAUNCH_CLASS_GRAPH], STEPS);
            /* Rounds after the first wait for tokens, later stages for every step. */
            assert_int_equal(f.threads[w].launches_count[LAUNCH_CLASS_SYNC], pp == 1  ? 0
                                                                             : w == 0 ? STEPS - pp
                                                                                      : STEPS);
        }
        alone_ns = pp == 1 ? least_ns : alone_ns;
        /* Steps a second: pp times as many, but for the copies, which are not divided. */
        assert_in_range(alone_ns * 1000 / least_ns, pp * 990, pp * 1000);
        close_workers(&f);
    }
}

/* A token goes through all stages before the next of the same request begins. */
static void one_batch_alone_gains_nothing(void **state)
{
    (void)state;
    static struct fixture f;
    open_workers(&f, 1, 2);
    run_batches(&f, 1);
    int64_t round_ns = 2 * stage_ns(&f) + handover_ns(&f);
    assert_true(span_ns(&f) >= (STEPS - 1) * (round_ns - SLACK_NS));
    assert_true(span_ns(&f) <= (STEPS - 1) * (round_ns + SLACK_NS) + host_ns(&f));
    /* Until the token comes round, a stage has no work: no host is to blame. */
    for (uint32_t w = 0; w < 2; w++) {
        int64_t bubbles_ns = (STEPS - 1) * (round_ns - stage_ns(&f) - SLACK_NS);
        assert_true((int64_t)f.threads[w].gpu_idle_absent_ns >= bubbles_ns - host_ns(&f));
    }
    for (uint64_t step = 2; step <= STEPS; step++) {
        assert_true(f.results[step].started_ns >=
                    f.results[step - 1].done_ns + round_ns - stage_ns(&f) - SLACK_NS);
    }
    close_workers(&f);
}

/* Chunks of a prompt sample nothing, so the next can follow at once, and a preempted request brings
 * all its tokens along. */
static void only_sampled_tokens_are_waited_for(void **state)
{
    (void)state;
    static struct fixture f;
    struct device_result result;
    open_workers(&f, 1, 2);
    struct ledger_thread *first = &f.threads[0];
    for (uint64_t step = 1; step <= 6; step++) {
        struct step_plan plan = decode_of(&f, step, 0);
        for (uint32_t i = 0; i < BATCH; i++) {
            f.seqs[i].flags &= step < 4 ? ~(uint32_t)STEP_SEQ_SAMPLES : ~0U;
            f.seqs[i].flags |= step == 6 ? STEP_SEQ_NEW : 0U;
        }
        assert_int_equal(device_submit(&f.devices[0], &plan, NULL), STATUS_OK);
        /* The fourth is the first to sample, so the fifth is the first to wait. */
        assert_int_equal(first->launches_count[LAUNCH_CLASS_SYNC], step < 5 ? 0 : 1);
        assert_int_equal(device_submit(&f.devices[1], &plan, NULL), STATUS_OK);
    }
    for (uint64_t step = 1; step <= 6; step++) {
        device_wait(&f.devices[0], step, &result);
        device_wait(&f.devices[1], step, &result);
    }
    close_workers(&f);
}

static void a_step_ends_with_its_slowest_rank(void **state)
{
    (void)state;
    static struct fixture f;
    struct device_result fast;
    struct device_result slow;
    open_workers(&f, 2, 1);
    struct step_plan plan = decode_of(&f, 1, 0);
    assert_int_equal(device_submit(&f.devices[0], &plan, NULL), STATUS_OK);
    clock_sleep_until_ns(clock_now_ns() + 30000000);
    int64_t late_from_ns = clock_now_ns();
    assert_int_equal(device_submit(&f.devices[1], &plan, NULL), STATUS_OK);
    device_wait(&f.devices[0], 1, &fast);
    assert_true(clock_now_ns() >= fast.done_ns);
    device_wait(&f.devices[1], 1, &slow);
    assert_int_equal(fast.done_ns, slow.done_ns);
    assert_true(fast.done_ns >= late_from_ns + stage_ns(&f) - SLACK_NS);
    /* Half the model on each, and the all-reduces. */
    for (uint32_t w = 0; w < 2; w++) {
        assert_in_range(f.threads[w].gpu_busy_ns, stage_ns(&f) - SLACK_NS, stage_ns(&f) + SLACK_NS);
    }
    close_workers(&f);
}

/* 2 tensors x 2 bytes x 4,096 of each token over 300 GB/s, and 10 us, worked out by hand. */
static void hand_over_is_that_of_the_intermediate_tensors(void **state)
{
    (void)state;
    const struct gpu_shape *gpu = gpu_shape_find("h100");
    const struct model_shape *model = model_shape_find("llama-3.1-8b");
    assert_int_equal(cost_handover(gpu, model, 1, 0), 10000000);
    assert_in_range(cost_handover(gpu, model, 1, 2048), 10000000 + 111848106, 10000000 + 111848107);
    assert_in_range(cost_handover(gpu, model, 4, 2048), 10000000 + 27962026, 10000000 + 27962027);
}

/* ---- the message between workers ---- */

struct waiter {
    struct pipeline *pipeline;
    struct pipeline_wait wait;
    enum status status;
    int64_t done_ns;
};

static void *await_all(void *context)
{
    struct waiter *w = context;
    struct error error;
    w->status = pipeline_await(w->pipeline, &w->wait, &w->done_ns, &error);
    return NULL;
}

static void waits_end_with_the_last_or_with_a_cancel(void **state)
{
    (void)state;
    static const enum wait_mode modes[] = {WAIT_BLOCK, WAIT_SPIN};
    for (size_t m = 0; m < 2; m++) {
        struct pipeline p;
        pthread_t thread;
        assert_int_equal(pipeline_create(3, &p, NULL), STATUS_OK);
        struct waiter w = {
            .pipeline = &p,
            .wait = {.first_worker = 1, .workers_count = 2, .step = 5, .mode = modes[m]}};
        assert_int_equal(pthread_create(&thread, NULL, await_all, &w), 0);
        pipeline_publish(&p, 0, 5, 9999); /* nobody asked for it */
        pipeline_publish(&p, 1, 5, 700);
        clock_sleep_until_ns(clock_now_ns() + 5000000);
        pid_t other = fork(); /* the last one is another process */
        if (other == 0) {
            pipeline_publish(&p, 2, 5, 600);
            _exit(0);
        }
        assert_int_equal(waitpid(other, NULL, 0), other);
        assert_int_equal(pthread_join(thread, NULL), 0);
        assert_int_equal(w.status, STATUS_OK);
        assert_int_equal(w.done_ns, 700);
        /* What was overwritten is long done. */
        pipeline_publish(&p, 1, 5 + PIPELINE_STEPS, 800);
        pipeline_publish(&p, 2, 5 + PIPELINE_STEPS, 800);
        (void)await_all(&w);
        assert_int_equal(w.status, STATUS_OK);
        assert_int_equal(w.done_ns, 0);

        w.wait.step = 6;
        assert_int_equal(pthread_create(&thread, NULL, await_all, &w), 0);
        pipeline_publish(&p, 1, 6, 900);
        clock_sleep_until_ns(clock_now_ns() + 5000000);
        pipeline_cancel(&p);
        assert_int_equal(pthread_join(thread, NULL), 0);
        assert_int_equal(w.status, STATUS_DIED);
        pipeline_close(&p);
    }
}

static void other_descriptors_are_refused(void **state)
{
    (void)state;
    struct pipeline p;
    struct error error;
    assert_int_equal(pipeline_open(-1, &p, &error), STATUS_PROTOCOL);
    int fd = memfd_create("no pipeline", MFD_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(pipeline_open(fd, &p, &error), STATUS_PROTOCOL);
    assert_int_equal(close(fd), -1); /* it took the descriptor over */
    struct pipeline made;
    assert_int_equal(pipeline_create(2, &made, NULL), STATUS_OK);
    assert_int_equal(pipeline_open(dup(made.fd), &p, &error), STATUS_OK);
    pipeline_close(&p);
    *(uint32_t *)(void *)made.header = 0; /* the mark at its begin */
    assert_int_equal(pipeline_open(dup(made.fd), &p, &error), STATUS_PROTOCOL);
    pipeline_close(&made);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stages_overlap_on_as_many_batches),
        cmocka_unit_test(one_batch_alone_gains_nothing),
        cmocka_unit_test(only_sampled_tokens_are_waited_for),
        cmocka_unit_test(a_step_ends_with_its_slowest_rank),
        cmocka_unit_test(hand_over_is_that_of_the_intermediate_tensors),
        cmocka_unit_test(waits_end_with_the_last_or_with_a_cancel),
        cmocka_unit_test(other_descriptors_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

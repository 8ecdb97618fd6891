/*
 * executor_test.c - engine core to workers and back, with real worker processes: this program
 * starts itself again as `worker`. Tokens are compared with the stateless draw, launches and
 * threads with what the topology says, and workers must be gone after a stop, after a failed start,
 * and after the death of the process that started them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "engine/device/cost.h"
#include "engine/device/device.h"
#include "engine/node/executor.h"

enum {
    SLOTS = 64,
    SEQS = 5,
    RANK = 1
};

struct fixture {
    struct ledger ledger;
    struct ledger_thread *thread;
    struct executor *executor;
    struct step_seq seqs[SEQS];
};

static struct topology topology_of(uint32_t engines, uint32_t tp, uint32_t pp)
{
    struct topology t = {
        .api_servers_count = 1,
        .engines_count = engines,
        .tp = tp,
        .pp = pp,
        .async_depth = 2,
        .queue_depth = 1024,
        .block_tokens = 16,
        .model = "qwen2.5-0.5b",
        .gpu = "h100",
    };
    return t;
}

static enum status start(struct fixture *f, const struct topology *t, struct error *error)
{
    assert_int_equal(ledger_create(t, &f->ledger, NULL), STATUS_OK);
    f->thread = ledger_thread_claim(&f->ledger, THREAD_ENGINE_MAIN, RANK, 0);
    struct executor_options options = {
        .ledger = &f->ledger, .thread = f->thread, .rank = RANK, .requests_max = SLOTS};
    return executor_start(&options, &f->executor, error);
}

static void assert_no_children(void)
{
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
    assert_int_equal(errno, ECHILD);
}

static void stop(struct fixture *f)
{
    executor_stop(f->executor);
    ledger_close(&f->ledger);
    assert_no_children();
}

static struct step_plan plan_of(struct fixture *f, uint64_t step)
{
    for (uint32_t i = 0; i < SEQS; i++) {
        f->seqs[i] = (struct step_seq){
            .slot = i,
            .computed_tokens = 100,
            .scheduled_tokens = 1,
            .flags = STEP_SEQ_SAMPLES | STEP_SEQ_IGNORE_EOS,
            .sample_key = i * 77,
            .position = (uint32_t)step,
        };
    }
    return (struct step_plan){
        .step = step, .seqs = f->seqs, .seqs_count = SEQS, .tokens_count = SEQS};
}

static void assert_result(struct fixture *f, uint64_t step)
{
    struct step_result result = {0};
    struct error error = {0};
    enum status status = executor_wait(f->executor, step, &result, &error);
    assert_string_equal(error.text, "");
    assert_int_equal(status, STATUS_OK);
    assert_int_equal(result.step, step);
    assert_int_equal(result.tokens_count, SEQS);
    for (uint32_t i = 0; i < SEQS; i++) {
        assert_int_equal(result.tokens[i], device_emulated_token(i * 77, (uint32_t)step, true));
    }
}

/* Keeps `depth` steps in flight, as the engine core does. */
static void run_steps(struct fixture *f, uint64_t steps, uint64_t depth)
{
    for (uint64_t step = 1; step <= steps; step++) {
        struct step_plan plan = plan_of(f, step);
        assert_int_equal(executor_submit(f->executor, &plan, NULL, NULL), STATUS_OK);
        memset(f->seqs, 0xff, sizeof f->seqs); /* the plan is not needed any more */
        if (step >= depth) {
            assert_result(f, step - depth + 1);
        }
    }
    for (uint64_t step = steps - depth + 2; step <= steps; step++) {
        assert_result(f, step);
    }
}

/* The slot of a thread kind with this worker index; asserts that there is at most one. */
static struct ledger_thread *find_thread(struct fixture *f, enum ledger_thread_kind kind,
                                         uint32_t sub)
{
    struct ledger_thread *found = NULL;
    for (uint32_t i = 0; i < ledger_threads_count(&f->ledger); i++) {
        struct ledger_thread *t = &f->ledger.threads[i];
        if (t->kind == (uint32_t)kind && t->sub == sub) {
            assert_null(found);
            found = t;
        }
    }
    return found;
}

static void uniproc_launches_on_the_calling_thread(void **state)
{
    (void)state;
    struct fixture f;
    struct topology t = topology_of(1, 1, 1);
    assert_int_equal(start(&f, &t, NULL), STATUS_OK);
    assert_int_equal(executor_death_fd(f.executor), -1);
    assert_string_equal(executor_dead_worker(f.executor), "");
    run_steps(&f, 6, 2);
    assert_int_equal(f.thread->launches_count[LAUNCH_CLASS_GRAPH], 6);
    assert_int_equal(f.thread->launches_count[LAUNCH_CLASS_COPY], 6);
    assert_int_equal(f.thread->launches_count[LAUNCH_CLASS_SYNC], 6);
    assert_true(f.thread->prepare_ns > 0);
    assert_int_equal(ledger_threads_count(&f.ledger), 1);
    stop(&f);
}

static void a_worker_process_launches_and_answers(void **state)
{
    (void)state;
    struct fixture f;
    struct topology t = topology_of(2, 1, 1);
    uint32_t blocks = 0;
    assert_int_equal(start(&f, &t, NULL), STATUS_OK);
    assert_int_equal(device_plan_kv_blocks(&t, &blocks, NULL), STATUS_OK);
    assert_int_equal(executor_kv_blocks(f.executor), blocks);
    run_steps(&f, 20, 2);
    assert_int_equal(f.thread->launches_count[LAUNCH_CLASS_GRAPH], 0);
    struct ledger_thread *main_thread = find_thread(&f, THREAD_WORKER_MAIN, 0);
    struct ledger_thread *output = find_thread(&f, THREAD_WORKER_OUTPUT, 0);
    assert_non_null(main_thread);
    assert_non_null(output);
    assert_int_equal(main_thread->instance, RANK);
    assert_int_equal(main_thread->pid, output->pid);
    assert_int_not_equal(main_thread->pid, getpid());
    assert_int_equal(main_thread->launches_count[LAUNCH_CLASS_GRAPH], 20);
    assert_int_equal(main_thread->launches_count[LAUNCH_CLASS_COPY], 20);
    assert_true(main_thread->prepare_ns > 0 && main_thread->gpu_busy_ns > 0);
    char path[64];
    char name[32] = "";
    (void)snprintf(path, sizeof path, "/proc/%d/comm", main_thread->pid);
    FILE *comm = fopen(path, "r");
    assert_non_null(comm);
    assert_non_null(fgets(name, sizeof name, comm));
    (void)fclose(comm);
    assert_string_equal(name, "Worker_DP1_0\n");
    executor_stop(f.executor); /* ends the threads, so their last counts are in */
    assert_no_children();
    assert_int_equal(output->launches_count[LAUNCH_CLASS_SYNC], 20);
    assert_int_equal(output->messages_out_count, 20);
    assert_int_equal(main_thread->messages_in_count, 20);
    assert_int_equal(main_thread->state, LEDGER_THREAD_ENDED);
    assert_int_equal(output->state, LEDGER_THREAD_ENDED);
    /* Each thread's time is split without rest or overlap, but for the turn in which it ended. */
    assert_true(output->busy_ns + output->idle_ns + output->sync_wait_ns <=
                output->beat_ns - output->started_ns);
    ledger_close(&f.ledger);
}

static void depth_one_has_no_output_thread(void **state)
{
    (void)state;
    struct fixture f;
    struct topology t = topology_of(2, 1, 1);
    t.async_depth = 1;
    t.wait = WAIT_SPIN;
    assert_int_equal(start(&f, &t, NULL), STATUS_OK);
    run_steps(&f, 5, 1);
    assert_null(find_thread(&f, THREAD_WORKER_OUTPUT, 0));
    struct ledger_thread *worker = find_thread(&f, THREAD_WORKER_MAIN, 0);
    assert_non_null(worker);
    stop(&f);
}

/* Roofline of one of plan_of()'s steps on 1/tp of the model. */
static int64_t step_ns(const struct topology *t)
{
    struct step_load load = {0};
    for (uint32_t i = 0; i < SEQS; i++) {
        step_load_add(&load, 100, 1, true);
    }
    return ns_from_ps(cost_step(gpu_shape_find(t->gpu), model_shape_find(t->model), t->tp, &load));
}

/* Device time and launches of every worker are those of its share; results, too, come once. */
static void all_ranks_launch_and_one_answers(void **state)
{
    (void)state;
    static const struct {
        uint32_t tp;
        uint32_t pp;
        uint32_t answers;
        uint32_t async_depth;
        enum wait_mode wait;
    } cases[] = {
        {2, 1, 0, 2, WAIT_BLOCK}, {1, 2, 1, 2, WAIT_SPIN},  {2, 2, 2, 2, WAIT_BLOCK},
        {1, 3, 2, 1, WAIT_BLOCK}, {2, 2, 2, 1, WAIT_BLOCK},
    };
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        struct fixture f;
        struct topology t = topology_of(1, cases[c].tp, cases[c].pp);
        t.async_depth = cases[c].async_depth;
        t.wait = cases[c].wait;
        assert_int_equal(start(&f, &t, NULL), STATUS_OK);
        run_steps(&f, 12, cases[c].pp - 1 + cases[c].async_depth);
        executor_stop(f.executor);
        for (uint32_t w = 0; w < cases[c].tp * cases[c].pp; w++) {
            struct ledger_thread *worker = find_thread(&f, THREAD_WORKER_MAIN, w);
            struct ledger_thread *output = find_thread(&f, THREAD_WORKER_OUTPUT, w);
            assert_non_null(worker);
            assert_true((output != NULL) == (cases[c].async_depth == 2));
            const struct ledger_thread *answering = output != NULL ? output : worker;
            assert_int_equal(answering->messages_out_count, w == cases[c].answers ? 12 : 0);
            /* A step is answered when all ranks have launched it. */
            assert_int_equal(worker->launches_count[LAUNCH_CLASS_GRAPH], 12);
            assert_int_equal(worker->launches_count[LAUNCH_CLASS_COPY], 12);
            /* Copies of metadata take a few ns. */
            int64_t share_ns = 12 * step_ns(&t) / t.pp;
            assert_in_range(worker->gpu_busy_ns, share_ns - 12, share_ns + 12 * 100);
        }
        ledger_close(&f.ledger);
        assert_no_children();
    }
}

static uint64_t launching_ns(const struct ledger_thread *t)
{
    uint64_t sum = 0;
    for (int c = 0; c < LAUNCH_CLASSES_COUNT; c++) {
        sum += t->launch_ns[c];
    }
    return sum;
}

/*
 * Preparing, launching, blocked on a full queue, waiting and idle are the whole life of a launching
 * thread up to its last turn; what this program knows of them itself bounds them from below.
 */
static void time_of_every_launching_thread_adds_up(void **state)
{
    (void)state;
    static const struct {
        uint32_t engines;
        uint32_t pp;
        uint32_t async_depth;
    } cases[] = {{2, 1, 2}, {2, 1, 1}, {1, 2, 2}, {1, 2, 1}};
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        struct fixture f;
        struct topology t = topology_of(cases[c].engines, 1, cases[c].pp);
        t.async_depth = cases[c].async_depth;
        t.launch = LAUNCH_EAGER;
        t.queue_depth = 64; /* of hundreds of kernels a step, each longer than its launch */
        (void)snprintf(t.model, sizeof t.model, "llama-3.1-8b");
        assert_int_equal(start(&f, &t, NULL), STATUS_OK);
        struct ledger_thread *first = find_thread(&f, THREAD_WORKER_MAIN, 0);
        assert_non_null(first);
        uint64_t idle_ns = ledger_get(&first->idle_ns);
        clock_sleep_until_ns(clock_now_ns() + 20000000); /* no worker has a plan */
        run_steps(&f, 10, cases[c].async_depth);
        executor_stop(f.executor);
        for (uint32_t w = 0; w < t.pp; w++) {
            const struct ledger_thread *worker = find_thread(&f, THREAD_WORKER_MAIN, w);
            uint64_t lived_ns = worker->beat_ns - worker->started_ns;
            uint64_t parts_ns = worker->prepare_ns + launching_ns(worker) + worker->queue_full_ns +
                                worker->sync_wait_ns + worker->idle_ns;
            assert_int_equal(parts_ns, lived_ns);
            assert_true(worker->queue_full_ns > 0 && worker->prepare_ns > 0);
            uint64_t kernels = worker->launches_count[LAUNCH_CLASS_KERNEL];
            uint64_t of_a_step = model_step_kernels(model_shape_find(t.model));
            assert_int_equal(kernels, 10 * (of_a_step / t.pp));
            /* Each launch takes its 2 us of CPU time at least. */
            assert_true(launching_ns(worker) >= kernels * 1500);
        }
        assert_true(ledger_get(&first->idle_ns) - idle_ns >= 20000000);
        if (cases[c].async_depth == 1) { /* waits for the end of its steps itself */
            assert_true(first->sync_wait_ns > 0);
            assert_true(first->launches_count[LAUNCH_CLASS_SYNC] >= 10);
        }
        ledger_close(&f.ledger);
        assert_no_children();
    }
}

/* Worker 0 of two dies: the other may wait for it, as the next stage or as a rank of the same. */
static void kill_the_first_worker(uint32_t tp, uint32_t pp)
{
    struct fixture f;
    struct topology t = topology_of(2, tp, pp);
    assert_int_equal(start(&f, &t, NULL), STATUS_OK);
    run_steps(&f, 3, 2);
    struct pollfd death = {.fd = executor_death_fd(f.executor), .events = POLLIN};
    assert_int_equal(poll(&death, 1, 0), 0);
    struct ledger_thread *first = find_thread(&f, THREAD_WORKER_MAIN, 0);
    struct ledger_thread *second = find_thread(&f, THREAD_WORKER_MAIN, 1);
    assert_non_null(first);
    assert_non_null(second);
    pid_t pid = first->pid;
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(poll(&death, 1, 60000), 1);
    char want[64];
    (void)snprintf(want, sizeof want, "Worker_DP1_0 (pid %d, signal 9)", (int)pid);
    assert_string_equal(executor_dead_worker(f.executor), want);
    struct step_result result;
    struct error error;
    struct step_plan plan = plan_of(&f, 4);
    assert_int_equal(executor_submit(f.executor, &plan, NULL, NULL), STATUS_OK); /* there is room */
    clock_sleep_until_ns(clock_now_ns() + 50000000); /* the second worker takes it, and waits */
    assert_int_equal(executor_wait(f.executor, 4, &result, &error), STATUS_DIED);
    assert_string_equal(error.text, want);
    executor_stop(f.executor);
    assert_int_equal(second->state, LEDGER_THREAD_ENDED); /* in order, not by force */
    ledger_close(&f.ledger);
    assert_no_children();
}

static void a_dead_worker_is_named(void **state)
{
    (void)state;
    kill_the_first_worker(2, 1);
    kill_the_first_worker(1, 2);
}

/* A dummy ends before the call does, whatever else is in flight, and takes nobody's result. */
static void dummies_leave_results_where_they_are(void **state)
{
    (void)state;
    for (uint32_t engines = 1; engines <= 2; engines++) { /* in the thread, in a process */
        struct fixture f;
        struct topology t = topology_of(engines, 1, 1);
        const struct device_lockstep agreed = {.tokens = 1, .all_tokens = 2, .graphs = true};
        assert_int_equal(start(&f, &t, NULL), STATUS_OK);
        assert_int_equal(executor_dummy(f.executor, &agreed, NULL), STATUS_OK);
        struct step_plan plan = plan_of(&f, 1);
        assert_int_equal(executor_submit(f.executor, &plan, &agreed, NULL), STATUS_OK);
        assert_int_equal(executor_dummy(f.executor, &agreed, NULL), STATUS_OK);
        assert_true(executor_ready(f.executor, 1));
        plan = plan_of(&f, 2);
        assert_int_equal(executor_submit(f.executor, &plan, NULL, NULL), STATUS_OK);
        assert_result(&f, 1);
        assert_int_equal(executor_dummy(f.executor, &agreed, NULL), STATUS_OK);
        assert_result(&f, 2);
        for (int i = 0; i < 20; i++) {
            assert_int_equal(executor_dummy(f.executor, &agreed, NULL), STATUS_OK);
        }
        plan = plan_of(&f, 3);
        assert_int_equal(executor_submit(f.executor, &plan, NULL, NULL), STATUS_OK);
        assert_result(&f, 3);
        const struct ledger_thread *launching =
            engines == 1 ? f.thread : find_thread(&f, THREAD_WORKER_MAIN, 0);
        assert_int_equal(ledger_get(&launching->launches_count[LAUNCH_CLASS_GRAPH]) +
                             ledger_get(&launching->launches_count[LAUNCH_CLASS_KERNEL]),
                         3 + 23);
        stop(&f);
    }
}

static void a_worker_that_gives_up_says_why(void **state)
{
    (void)state;
    struct fixture f;
    struct topology t = topology_of(2, 1, 1);
    assert_int_equal(start(&f, &t, NULL), STATUS_OK);
    struct step_plan plan = plan_of(&f, 1);
    struct step_result result;
    struct error error;
    f.seqs[2].slot = SLOTS;
    assert_int_equal(executor_submit(f.executor, &plan, NULL, NULL), STATUS_OK);
    assert_int_equal(executor_wait(f.executor, 1, &result, &error), STATUS_DIED);
    assert_non_null(strstr(error.text, "Worker_DP1_0"));
    assert_non_null(strstr(error.text, "exit status 1"));
    assert_non_null(strstr(error.text, "slot out of range"));
    stop(&f);
}

static void a_model_that_does_not_fit_fails_the_start(void **state)
{
    (void)state;
    for (uint32_t engines = 1; engines <= 2; engines++) { /* in the thread, in a process */
        struct fixture f;
        struct error error;
        struct topology t = topology_of(engines, 1, 1);
        (void)snprintf(t.model, sizeof t.model, "llama-3.1-70b");
        assert_int_equal(start(&f, &t, &error), STATUS_INVALID);
        assert_non_null(strstr(error.text, "model larger than the GPU"));
        ledger_close(&f.ledger);
        assert_no_children();
    }
}

static void workers_die_with_their_engine_core(void **state)
{
    (void)state;
    struct fixture f;
    struct topology t = topology_of(2, 2, 1);
    assert_int_equal(ledger_create(&t, &f.ledger, NULL), STATUS_OK);
    /* Orphans come to this process, where they can be waited for. */
    assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 1UL, 0UL, 0UL, 0UL), 0);
    pid_t engine = fork();
    if (engine == 0) {
        struct executor_options options = {
            .ledger = &f.ledger,
            .thread = ledger_thread_claim(&f.ledger, THREAD_ENGINE_MAIN, RANK, 0),
            .rank = RANK,
            .requests_max = SLOTS,
        };
        if (executor_start(&options, &f.executor, NULL) == STATUS_OK) {
            (void)raise(SIGKILL);
        }
        _exit(1);
    }
    int how = 0;
    assert_int_equal(waitpid(engine, &how, 0), engine);
    assert_true(WIFSIGNALED(how));
    for (int i = 0; i < 2; i++) { /* hangs, until the test's time limit, if a worker lives on */
        assert_true(waitpid(-1, &how, 0) > 0);
        assert_true(WIFSIGNALED(how) || WIFEXITED(how));
    }
    assert_no_children();
    ledger_close(&f.ledger);
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "worker") == 0) {
        return worker_main(argc - 1, argv + 1);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(uniproc_launches_on_the_calling_thread),
        cmocka_unit_test(a_worker_process_launches_and_answers),
        cmocka_unit_test(depth_one_has_no_output_thread),
        cmocka_unit_test(all_ranks_launch_and_one_answers),
        cmocka_unit_test(time_of_every_launching_thread_adds_up),
        cmocka_unit_test(a_dead_worker_is_named),
        cmocka_unit_test(dummies_leave_results_where_they_are),
        cmocka_unit_test(a_worker_that_gives_up_says_why),
        cmocka_unit_test(a_model_that_does_not_fit_fails_the_start),
        cmocka_unit_test(workers_die_with_their_engine_core),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

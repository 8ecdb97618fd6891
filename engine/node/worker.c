/*
 * worker.c - owns a worker process: it takes plans from the broadcast ring, launches them on its
 * device, and, if it is the output rank, answers with tokens. Started by the executor only. Must
 * not outlive its engine core.
 *
 * The main thread launches. With asynchronous scheduling (depth 2) a second thread waits for the
 * device and answers, so that the main thread can launch the next step; otherwise the main thread
 * waits itself.
 */
#include "engine/node/worker.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "engine/device/gpu_shared.h"
#include "engine/device/pipeline.h"
#include "engine/node/executor.h"
#include "engine/node/plan_codec.h"
#include "engine/node/process.h"
#include "engine/node/ring.h"

enum {
    BEAT_NS = 500000000
};

struct worker {
    uint32_t rank;
    uint32_t index;
    uint32_t requests_max;
    struct ledger ledger;
    const struct topology *topology;
    struct ledger_thread *thread; /* of the main thread */
    struct ring plans;
    struct ring responses;
    struct device device;
    struct pipeline pipeline; /* if there are other workers */
    struct gpu_shared gpu;    /* if its GPU is shared with other engine cores */
    bool answers;             /* output rank */
    bool async;
    unsigned char *response; /* room for the largest answer */

    /* Between the two threads. Steps are consecutive, so two numbers are the whole queue. */
    pthread_t output_thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    uint64_t submitted;
    uint64_t finished;
    bool stopping;
};

void worker_name(uint32_t rank, uint32_t worker, char out[16])
{
    (void)snprintf(out, 16, "Worker_DP%u_%u", rank % 1000, worker % 100);
}

uint32_t worker_output_rank(const struct topology *t)
{
    return t->tp * t->pp - t->tp;
}

static void report(enum status status, uint32_t kv_blocks, const char *text)
{
    struct worker_report r = {.status = (uint32_t)status, .kv_blocks = kv_blocks};
    (void)snprintf(r.text, sizeof r.text, "%s", text);
    while (send(WORKER_CONTROL_FD, &r, sizeof r, MSG_NOSIGNAL) < 0 && errno == EINTR) {
    }
}

/* Waits for `step` and answers, on whichever thread does so. */
static enum status finish_step(struct worker *w, struct ledger_thread *thread, uint64_t step,
                               struct error *error)
{
    struct device_result result;
    int64_t begin_ns = clock_now_ns();
    device_wait(&w->device, step, &result);
    ledger_add(&thread->sync_wait_ns, (uint64_t)(clock_now_ns() - begin_ns));
    ledger_add(&thread->launches_count[LAUNCH_CLASS_SYNC], 1);
    if (!w->answers) {
        return STATUS_OK;
    }
    struct ring_wait wait = {.mode = (enum wait_mode)w->topology->wait,
                             .deadline_ns = INT64_MAX,
                             .death_fd = WORKER_CONTROL_FD};
    size_t bytes = result_encoded_bytes(&result.step);
    result_encode(&result.step, w->response);
    TRY(ring_write(&w->responses, w->response, bytes, &wait, error));
    ledger_add(&thread->messages_out_count, 1);
    ledger_add(&thread->bytes_out, bytes);
    return STATUS_OK;
}

/* The oldest step that is submitted and not finished; 0 when the worker stops. */
static uint64_t next_submitted(struct worker *w, struct ledger_thread *thread)
{
    int64_t begin_ns = clock_now_ns();
    uint64_t step = 0;
    (void)pthread_mutex_lock(&w->lock);
    while (w->submitted == w->finished && !w->stopping) {
        int64_t until_ns = clock_now_ns() + BEAT_NS;
        struct timespec until = {.tv_sec = until_ns / 1000000000, .tv_nsec = until_ns % 1000000000};
        (void)pthread_cond_timedwait(&w->changed, &w->lock, &until);
        int64_t now_ns = clock_now_ns();
        ledger_add(&thread->idle_ns, (uint64_t)(now_ns - begin_ns));
        begin_ns = now_ns;
        process_turn(thread, now_ns);
    }
    if (!w->stopping) {
        step = w->finished + 1;
    }
    (void)pthread_mutex_unlock(&w->lock);
    return step;
}

/* `finished`: the step whose answer left; 0: there will be no more. */
static void tell_main_thread(struct worker *w, uint64_t finished)
{
    (void)pthread_mutex_lock(&w->lock);
    if (finished != 0) {
        w->finished = finished;
    } else {
        w->stopping = true;
    }
    (void)pthread_cond_broadcast(&w->changed);
    (void)pthread_mutex_unlock(&w->lock);
}

static void *output_main(void *context)
{
    struct worker *w = context;
    struct error error;
    (void)pthread_setname_np(pthread_self(), "worker_output");
    clock_precise_sleeps();
    struct ledger_thread *thread =
        ledger_thread_claim(&w->ledger, THREAD_WORKER_OUTPUT, w->rank, w->index);
    uint64_t step = 0;
    while ((step = next_submitted(w, thread)) != 0) {
        enum status status = finish_step(w, thread, step, &error);
        if (status == STATUS_DIED) {
            break; /* the engine core is gone or stops; the main thread sees it too */
        }
        if (status != STATUS_OK) {
            report(status, 0, error.text);
            _exit(EXIT_FAILURE);
        }
        tell_main_thread(w, step);
        process_turn(thread, clock_now_ns());
    }
    tell_main_thread(w, 0);
    ledger_thread_end(thread);
    return NULL;
}

/* Tells the output thread of a step. The device holds a bounded number of steps: waits for room
 * before the next. */
static void hand_over(struct worker *w, uint64_t step)
{
    (void)pthread_mutex_lock(&w->lock);
    w->submitted = step;
    (void)pthread_cond_broadcast(&w->changed);
    int64_t begin_ns = 0;
    while (w->submitted - w->finished == DEVICE_STEPS_IN_FLIGHT_MAX && !w->stopping) {
        begin_ns = begin_ns == 0 ? clock_now_ns() : begin_ns;
        (void)pthread_cond_wait(&w->changed, &w->lock);
    }
    if (begin_ns != 0) {
        ledger_add(&w->thread->sync_wait_ns, (uint64_t)(clock_now_ns() - begin_ns));
    }
    (void)pthread_mutex_unlock(&w->lock);
}

static enum status take_plan(struct worker *w, const void *data, size_t bytes, struct error *error)
{
    struct step_plan plan;
    TRY(plan_decode(data, bytes, w->requests_max, &plan, error));
    struct device_lockstep agreed;
    bool lockstep = plan_decode_agreed(data, &agreed);
    uint64_t step = plan.step;
    if (step != w->submitted + 1) {
        return error_set(error, STATUS_PROTOCOL, "plan of step %llu after step %llu",
                         (unsigned long long)step, (unsigned long long)w->submitted);
    }
    if (lockstep) {
        device_lockstep(&w->device, &agreed);
    }
    TRY(device_submit(&w->device, &plan, error));
    ring_release(&w->plans);
    ledger_add(&w->thread->messages_in_count, 1);
    ledger_add(&w->thread->bytes_in, bytes);
    if (w->async) {
        hand_over(w, step);
        return STATUS_OK;
    }
    w->submitted = step;
    return finish_step(w, w->thread, step, error);
}

/* Until the engine core cancels the ring or dies: then OK. */
static enum status serve(struct worker *w, struct error *error)
{
    enum status status = STATUS_OK;
    while (status == STATUS_OK || status == STATUS_TIMEOUT) {
        const void *data = NULL;
        size_t bytes = 0;
        int64_t begin_ns = clock_now_ns();
        struct ring_wait wait = {.mode = (enum wait_mode)w->topology->wait,
                                 .deadline_ns = begin_ns + BEAT_NS,
                                 .death_fd = WORKER_CONTROL_FD};
        status = ring_read(&w->plans, &wait, &data, &bytes, error);
        ledger_add(&w->thread->idle_ns, (uint64_t)(clock_now_ns() - begin_ns));
        if (status == STATUS_OK) {
            status = take_plan(w, data, bytes, error);
        }
        process_turn(w->thread, clock_now_ns());
    }
    return status == STATUS_DIED ? STATUS_OK : status;
}

static enum status start_output_thread(struct worker *w, struct error *error)
{
    pthread_condattr_t attributes;
    (void)pthread_condattr_init(&attributes);
    (void)pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&w->changed, &attributes);
    (void)pthread_condattr_destroy(&attributes);
    (void)pthread_mutex_init(&w->lock, NULL);
    int rc = pthread_create(&w->output_thread, NULL, output_main, w);
    if (rc != 0) {
        return error_set(error, STATUS_NOMEM, "cannot start the output thread: %s", strerror(rc));
    }
    return STATUS_OK;
}

static void stop_output_thread(struct worker *w)
{
    (void)pthread_mutex_lock(&w->lock);
    w->stopping = true;
    (void)pthread_cond_broadcast(&w->changed);
    (void)pthread_mutex_unlock(&w->lock);
    (void)pthread_join(w->output_thread, NULL);
}

static enum status open_parts(struct worker *w, struct error *error)
{
    TRY(ledger_open(LEDGER_FD, &w->ledger, error));
    w->topology = w->ledger.topology;
    TRY(process_pin(w->topology, PIN_WORKER, error));
    w->answers = w->index == worker_output_rank(w->topology);
    w->async = w->topology->async_depth > 1;
    TRY(ring_attach(WORKER_PLANS_FD, (int)w->index, &w->plans, error));
    TRY(ring_attach(WORKER_RESPONSES_FD, RING_WRITER, &w->responses, error));
    struct step_result largest = {.tokens_count = w->requests_max};
    w->response = malloc(result_encoded_bytes(&largest));
    if (w->response == NULL) {
        return error_set(error, STATUS_NOMEM, "no memory for answers of %u tokens",
                         w->requests_max);
    }
    w->thread = ledger_thread_claim(&w->ledger, THREAD_WORKER_MAIN, w->rank, w->index);
    struct device_options options = {
        .topology = w->topology,
        .rank = w->rank,
        .worker = w->index,
        .requests_max = w->requests_max,
        .thread = w->thread,
        .epoch_ns = ledger_epoch_ns(&w->ledger),
    };
    if (topology_workers_per_engine(w->topology) > 1) {
        TRY(pipeline_open(WORKER_PIPELINE_FD, &w->pipeline, error));
        options.pipeline = &w->pipeline;
    }
    if (w->topology->gpu_sharing != (uint32_t)GPU_OWN) {
        TRY(gpu_shared_open(WORKER_GPU_FD, &w->gpu, error));
        options.gpu_shared = &w->gpu;
    }
    return device_open(&options, &w->device, error);
}

static void close_parts(struct worker *w)
{
    device_close(&w->device);
    gpu_shared_close(&w->gpu);
    pipeline_close(&w->pipeline);
    free(w->response);
    ring_close(&w->plans);
    ring_close(&w->responses);
    if (w->thread != NULL) {
        ledger_thread_end(w->thread);
    }
    ledger_close(&w->ledger);
}

static enum status run(struct worker *w, struct error *error)
{
    TRY(open_parts(w, error));
    if (w->async) {
        TRY(start_output_thread(w, error));
    }
    process_started(w->thread);
    report(STATUS_OK, device_kv_blocks(&w->device), "");
    enum status status = serve(w, error);
    if (status != STATUS_OK) {
        report(status, 0, error->text);
        _exit(EXIT_FAILURE); /* the output thread may be in the device: no orderly end */
    }
    if (w->async) {
        stop_output_thread(w);
    }
    return STATUS_OK;
}

static bool parse_number(const char *text, uint32_t *out)
{
    char *end = NULL;
    errno = 0;
    unsigned long value = strtoul(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || value > INT32_MAX) {
        return false;
    }
    *out = (uint32_t)value;
    return true;
}

static bool parse_arguments(int argc, char **argv, struct worker *w)
{
    const struct {
        const char *name;
        uint32_t *value;
    } known[] = {
        {"--rank", &w->rank}, {"--worker", &w->index}, {"--requests-max", &w->requests_max}};
    uint32_t seen = 0;
    for (int i = 1; i + 1 < argc; i += 2) {
        for (size_t k = 0; k < sizeof known / sizeof known[0]; k++) {
            if (strcmp(argv[i], known[k].name) == 0 && parse_number(argv[i + 1], known[k].value)) {
                seen |= 1U << k;
            }
        }
    }
    return seen == 7 && w->requests_max > 0 && w->index < TOPOLOGY_WORKERS_PER_ENGINE_MAX;
}

int worker_main(int argc, char **argv)
{
    static struct worker w;
    struct error error = {0};
    char name[16];
    if (!parse_arguments(argc, argv, &w)) {
        (void)fprintf(stderr, "usage: worker --rank R --worker W --requests-max N\n");
        return 2;
    }
    /* Signals to the whole group are the engine core's to answer: a worker ends when its engine
     * core ends or says so. */
    (void)signal(SIGPIPE, SIG_IGN);
    (void)signal(SIGINT, SIG_IGN);
    (void)signal(SIGTERM, SIG_IGN);
    worker_name(w.rank, w.index, name);
    (void)prctl(PR_SET_NAME, (unsigned long)(uintptr_t)name, 0UL, 0UL, 0UL);
    clock_precise_sleeps();
    enum status status = run(&w, &error);
    if (status != STATUS_OK) {
        report(status, 0, error.text);
    }
    close_parts(&w);
    return status == STATUS_OK ? EXIT_SUCCESS : EXIT_FAILURE;
}

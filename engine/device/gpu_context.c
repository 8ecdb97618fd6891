/*
 * gpu_context.c - owns one process's context on a shared emulated GPU: launches that burn CPU time
 * and enter the context's queue, waits that sleep until the model's prediction and ask again.
 * Driven through the table of gpu.h. Must not hold the GPU's lock while it burns or sleeps.
 *
 * The launching thread alone writes its ledger slot: at each of its calls it books what the model
 * has added to its context since the last.
 */
#include <stdlib.h>

#include "engine/base/clock.h"
#include "engine/device/gpu_shared.h"
#include "engine/device/launch_cost.h"

_Static_assert((int)GPU_EVENTS_MAX <= (int)GPU_SHARE_EVENTS_MAX, "the model has every event");

struct context {
    struct gpu_shared *shared;
    const struct gpu_shape *shape;
    struct ledger_thread *thread;
    bool spin;
    uint32_t index;
    uint32_t sm_ppm;
    uint32_t bandwidth_ppm;
    struct launch_cost cost;
    /* Of the model's totals, what is booked. */
    int64_t busy_ns;
    int64_t late_ns;
    int64_t absent_ns;
    int64_t switch_ns;
};

static uint64_t growth(int64_t *booked_ns, time_ps total)
{
    int64_t before = *booked_ns;
    *booked_ns = ns_from_ps(total);
    return (uint64_t)(*booked_ns - before);
}

/* Ends a change that the launching thread made. */
static void commit(struct context *c, const struct gpu_share_change *change)
{
    const struct gpu_share_context *x = &change->state->contexts[c->index];
    time_ps busy = x->busy;
    time_ps late = x->late;
    time_ps absent = x->absent;
    time_ps switching = x->switching;
    gpu_shared_commit(c->shared, change);
    uint64_t late_ns = growth(&c->late_ns, late);
    ledger_add(&c->thread->gpu_busy_ns, growth(&c->busy_ns, busy));
    ledger_add(&c->thread->gpu_idle_ns, late_ns);
    ledger_add(&c->thread->gpu_idle_late_ns, late_ns);
    ledger_add(&c->thread->gpu_idle_absent_ns, growth(&c->absent_ns, absent));
    ledger_add(&c->thread->gpu_switch_ns, growth(&c->switch_ns, switching));
}

/* Begins a change in which the context's queue has room; waits for it, and books the wait. */
static void begin_with_room(struct context *c, struct gpu_share_change *change,
                            struct gpu_call *call)
{
    gpu_shared_begin(c->shared, change);
    int64_t begin_ns = change->now_ns;
    while (gpu_share_full(&change->share, c->index)) {
        time_ps until = gpu_share_predict_room(&change->share, c->index);
        commit(c, change);
        launch_wait_until(c->spin, gpu_shared_ns(c->shared, until));
        gpu_shared_begin(c->shared, change);
        call->queue_full_ns = change->now_ns - begin_ns;
    }
}

static void enqueue(struct context *c, double loops, const struct gpu_share_op *op,
                    struct gpu_call *call)
{
    struct gpu_share_change change;
    launch_cost_burn(loops);
    begin_with_room(c, &change, call);
    time_ps submitted = gpu_shared_time(c->shared, change.now_ns) + ps_from_ns(SUBMIT_LATENCY_NS);
    struct gpu_share_op entry = *op;
    entry.runnable = entry.runnable > submitted ? entry.runnable : submitted;
    gpu_share_launch(&change.share, c->index, &entry);
    commit(c, &change);
    call->returned_ns = clock_now_ns();
}

static void context_kernel(void *state, time_ps device_time, struct gpu_call *call)
{
    struct context *c = state;
    struct gpu_share_op op = {
        .work = device_time, .sm_ppm = c->sm_ppm, .bandwidth_ppm = c->bandwidth_ppm};
    enqueue(c, c->cost.kernel_loops, &op, call);
}

static void context_graph(void *state, uint32_t nodes_count, time_ps device_time,
                          struct gpu_call *call)
{
    struct context *c = state;
    struct gpu_share_op op = {
        .work = device_time, .sm_ppm = c->sm_ppm, .bandwidth_ppm = c->bandwidth_ppm};
    enqueue(c, c->cost.graph_loops + nodes_count * c->cost.node_loops, &op, call);
}

/* A copy takes its time in the queue but slows nobody down. */
static void context_copy(void *state, uint64_t bytes, struct gpu_call *call)
{
    struct context *c = state;
    double device_ps = (double)bytes / c->shape->pcie_bytes_per_s * (double)PS_PER_S;
    struct gpu_share_op op = {.work = (time_ps)device_ps};
    enqueue(c, c->cost.kernel_loops, &op, call);
}

static void context_memop(void *state, int64_t not_before_ns, struct gpu_call *call)
{
    struct context *c = state;
    struct gpu_share_op op = {.runnable = gpu_shared_time(c->shared, not_before_ns)};
    struct gpu_share_change change;
    gpu_shared_begin(c->shared, &change);
    time_ps ready = change.state->contexts[c->index].ready;
    /* What it waits for is another stage, not this host thread. */
    gpu_share_ready(&change.share, c->index, ready > op.runnable ? ready : op.runnable);
    commit(c, &change);
    enqueue(c, c->cost.kernel_loops, &op, call);
}

static void context_work_ready(void *state, int64_t now_ns)
{
    struct context *c = state;
    struct gpu_share_change change;
    gpu_shared_begin(c->shared, &change);
    gpu_share_ready(&change.share, c->index, gpu_shared_time(c->shared, now_ns));
    commit(c, &change);
}

static void context_demand(void *state, uint32_t sm_ppm, uint32_t bandwidth_ppm)
{
    struct context *c = state;
    c->sm_ppm = sm_ppm;
    c->bandwidth_ppm = bandwidth_ppm;
}

static int64_t context_event_record(void *state, uint32_t event)
{
    struct context *c = state;
    struct gpu_share_change change;
    gpu_shared_begin(c->shared, &change);
    gpu_share_record(&change.share, c->index, event);
    commit(c, &change);
    return 0; /* others may slow it down */
}

/* TIME_NEVER: not done; then *until is when to ask again. On any thread, so it books nothing. */
static time_ps look_at_event(const struct context *c, uint32_t event, time_ps *until)
{
    struct gpu_share_change change;
    gpu_shared_begin(c->shared, &change);
    time_ps done = gpu_share_event_done(&change.share, c->index, event);
    if (done == TIME_NEVER && until != NULL) {
        *until = gpu_share_predict_event(&change.share, c->index, event);
    }
    gpu_shared_commit(c->shared, &change);
    return done;
}

static bool context_event_query(void *state, uint32_t event)
{
    return look_at_event(state, event, NULL) != TIME_NEVER;
}

static int64_t context_event_wait(void *state, uint32_t event)
{
    const struct context *c = state;
    time_ps until = 0;
    time_ps done = look_at_event(c, event, &until);
    while (done == TIME_NEVER) {
        launch_wait_until(c->spin, gpu_shared_ns(c->shared, until));
        done = look_at_event(c, event, &until);
    }
    return gpu_shared_ns(c->shared, done);
}

static void context_close(void *state)
{
    struct context *c = state;
    gpu_shared_detach(c->shared, c->index);
    free(c);
}

static const struct gpu_ops context_ops = {
    .name = "emulated, shared",
    .version = GPU_OPS_VERSION,
    .kernel = context_kernel,
    .graph = context_graph,
    .copy = context_copy,
    .memop = context_memop,
    .work_ready = context_work_ready,
    .demand = context_demand,
    .event_record = context_event_record,
    .event_query = context_event_query,
    .event_wait = context_event_wait,
    .close = context_close,
};

enum status gpu_context_open(const struct gpu_options *options, struct gpu *out,
                             struct error *error)
{
    struct context *c = calloc(1, sizeof *c);
    if (c == NULL) {
        return error_set(error, STATUS_NOMEM, "shared GPU: out of memory");
    }
    uint32_t index = gpu_shared_attach(options->shared);
    if (index == GPU_SHARE_NONE) {
        free(c);
        return error_set(error, STATUS_FULL, "shared GPU: all its contexts are in use");
    }
    clock_precise_sleeps();
    *c = (struct context){
        .shared = options->shared,
        .shape = options->shape,
        .thread = options->thread,
        .spin = options->wait == WAIT_SPIN,
        .index = index,
        .sm_ppm = GPU_SHARE_WHOLE_PPM,
        .bandwidth_ppm = GPU_SHARE_WHOLE_PPM,
        .cost = launch_cost_calibrate(options->shape, options->launch_extra_ns),
    };
    *out = (struct gpu){.ops = &context_ops, .state = c, .thread = options->thread};
    return STATUS_OK;
}

/*
 * gpu_emulated.c - owns the emulated GPU: launches that burn CPU time, a bounded queue, and
 * execution as absolute deadlines on CLOCK_MONOTONIC. Driven through the table of gpu.h; there is
 * no device thread: the model advances when somebody touches it. Each GPU is private to one
 * context; gpu_context.c is the other kind. Must not keep state outside its own allocation.
 *
 * An operation begins at max(now + submit latency, end of the one before) and ends its modelled
 * time later.
 */
#include <stdatomic.h>
#include <stdlib.h>

#include "engine/base/clock.h"
#include "engine/device/gpu_shared.h"
#include "engine/device/launch_cost.h"

struct emulated_gpu {
    const struct gpu_shape *shape;
    struct ledger_thread *thread;
    bool spin;
    struct launch_cost cost;
    int64_t origin_ns; /* zero of the deadlines below, which are in ps */
    time_ps end;       /* when all that was launched is done */
    time_ps ready;     /* since when the host has had work without a pause */
    time_ps not_before;
    time_ps busy_carry; /* parts of a ns not yet booked */
    time_ps idle_carry;
    time_ps late_carry;
    time_ps absent_carry;
    time_ps gap; /* idle since the last kernel or graph ended */
    bool computed;
    _Atomic int64_t events_ns[GPU_EVENTS_MAX];
    uint32_t queue_depth;
    uint32_t queue_first;
    uint32_t queue_count;
    time_ps queue_ends[]; /* ring of the ends of what is queued or running */
};

static time_ps time_of_ns(const struct emulated_gpu *g, int64_t monotonic_ns)
{
    return ps_from_ns(monotonic_ns - g->origin_ns);
}

/* Rounded up: nothing is done before its deadline. */
static int64_t ns_of_time(const struct emulated_gpu *g, time_ps t)
{
    return g->origin_ns + ns_from_ps(t + PS_PER_NS - 1);
}

static void queue_retire(struct emulated_gpu *g, time_ps now)
{
    while (g->queue_count > 0 && g->queue_ends[g->queue_first] <= now) {
        g->queue_first = g->queue_first + 1 < g->queue_depth ? g->queue_first + 1 : 0;
        g->queue_count--;
    }
}

/* Waits until the queue has room; gives the time after it and books the wait in *call. */
static int64_t queue_reserve(struct emulated_gpu *g, int64_t now_ns, struct gpu_call *call)
{
    int64_t begin_ns = now_ns;
    queue_retire(g, time_of_ns(g, now_ns));
    while (g->queue_count == g->queue_depth) {
        launch_wait_until(g->spin, ns_of_time(g, g->queue_ends[g->queue_first]));
        now_ns = clock_now_ns();
        queue_retire(g, time_of_ns(g, now_ns));
    }
    call->queue_full_ns = now_ns - begin_ns;
    return now_ns;
}

static void book(ledger_counter *counter, time_ps *carry, time_ps amount)
{
    *carry += amount;
    ledger_add(counter, (uint64_t)ns_from_ps(*carry));
    *carry %= PS_PER_NS;
}

static void enqueue(struct emulated_gpu *g, double loops, time_ps device_time,
                    struct gpu_call *call)
{
    launch_cost_burn(loops);
    int64_t now_ns = clock_now_ns();
    if (g->queue_count == g->queue_depth) {
        now_ns = queue_reserve(g, now_ns, call);
    }
    time_ps begin = time_of_ns(g, now_ns) + ps_from_ns(SUBMIT_LATENCY_NS);
    begin = begin > g->not_before ? begin : g->not_before;
    begin = begin > g->end ? begin : g->end;
    time_ps late_since = g->end > g->ready ? g->end : g->ready;
    late_since = late_since < begin ? late_since : begin;
    if (begin > late_since) {
        book(&g->thread->gpu_idle_ns, &g->idle_carry, begin - late_since);
        book(&g->thread->gpu_idle_late_ns, &g->late_carry, begin - late_since);
    }
    book(&g->thread->gpu_idle_absent_ns, &g->absent_carry, late_since - g->end);
    book(&g->thread->gpu_busy_ns, &g->busy_carry, device_time);
    g->gap += begin - g->end;
    g->end = begin + device_time;
    uint32_t last = g->queue_first + g->queue_count;
    g->queue_ends[last < g->queue_depth ? last : last - g->queue_depth] = g->end;
    g->queue_count++;
    call->returned_ns = now_ns;
    call->begins_ns = ns_of_time(g, begin);
}

/* A kernel or a graph: copies before it are no work of the kind that the device is bought for, but
 * they are not idle time either. */
static void compute(struct emulated_gpu *g, double loops, time_ps device_time,
                    struct gpu_call *call)
{
    enqueue(g, loops, device_time, call);
    if (g->computed && g->gap > 0) {
        ledger_histogram_add(&g->thread->gaps, ns_from_ps(g->gap));
    }
    g->gap = 0;
    g->computed = true;
}

static void emulated_kernel(void *state, time_ps device_time, struct gpu_call *call)
{
    struct emulated_gpu *g = state;
    compute(g, g->cost.kernel_loops, device_time, call);
}

static void emulated_graph(void *state, uint32_t nodes_count, time_ps device_time,
                           struct gpu_call *call)
{
    struct emulated_gpu *g = state;
    compute(g, g->cost.graph_loops + nodes_count * g->cost.node_loops, device_time, call);
}

static void emulated_copy(void *state, uint64_t bytes, struct gpu_call *call)
{
    struct emulated_gpu *g = state;
    double device_ps = (double)bytes / g->shape->pcie_bytes_per_s * (double)PS_PER_S;
    enqueue(g, g->cost.kernel_loops, (time_ps)device_ps, call);
}

static void emulated_memop(void *state, int64_t not_before_ns, struct gpu_call *call)
{
    struct emulated_gpu *g = state;
    time_ps not_before = time_of_ns(g, not_before_ns);
    g->not_before = not_before > g->not_before ? not_before : g->not_before;
    /* What the GPU waits for is another stage, not this host thread: no starvation until then. */
    g->ready = g->not_before > g->ready ? g->not_before : g->ready;
    enqueue(g, g->cost.kernel_loops, 0, call);
}

static void emulated_work_ready(void *state, int64_t now_ns)
{
    struct emulated_gpu *g = state;
    g->ready = time_of_ns(g, now_ns);
}

static int64_t emulated_event_record(void *state, uint32_t event)
{
    struct emulated_gpu *g = state;
    int64_t done_ns = ns_of_time(g, g->end);
    atomic_store_explicit(&g->events_ns[event], done_ns, memory_order_release);
    return done_ns;
}

static bool emulated_event_query(void *state, uint32_t event)
{
    struct emulated_gpu *g = state;
    return clock_now_ns() >= atomic_load_explicit(&g->events_ns[event], memory_order_acquire);
}

static int64_t emulated_event_wait(void *state, uint32_t event)
{
    struct emulated_gpu *g = state;
    int64_t done_ns = atomic_load_explicit(&g->events_ns[event], memory_order_acquire);
    launch_wait_until(g->spin, done_ns);
    return done_ns;
}

static void emulated_close(void *state)
{
    free(state);
}

static const struct gpu_ops emulated_ops = {
    .name = "emulated",
    .version = GPU_OPS_VERSION,
    .kernel = emulated_kernel,
    .graph = emulated_graph,
    .copy = emulated_copy,
    .memop = emulated_memop,
    .work_ready = emulated_work_ready,
    .event_record = emulated_event_record,
    .event_query = emulated_event_query,
    .event_wait = emulated_event_wait,
    .close = emulated_close,
};

enum status gpu_open_emulated(const struct gpu_options *options, struct gpu *out,
                              struct error *error)
{
    if (options->shared != NULL) {
        return gpu_context_open(options, out, error);
    }
    if (options->queue_depth == 0) {
        return error_set(error, STATUS_INVALID, "queue_depth: want at least 1 launch, got 0");
    }
    size_t bytes = sizeof(struct emulated_gpu) + options->queue_depth * sizeof(time_ps);
    struct emulated_gpu *g = calloc(1, bytes);
    if (g == NULL) {
        return error_set(error, STATUS_NOMEM, "emulated GPU: out of memory (%zu bytes)", bytes);
    }
    clock_precise_sleeps();
    g->shape = options->shape;
    g->thread = options->thread;
    g->spin = options->wait == WAIT_SPIN;
    g->queue_depth = options->queue_depth;
    g->cost = launch_cost_calibrate(g->shape, options->launch_extra_ns);
    g->origin_ns = clock_now_ns();
    *out = (struct gpu){.ops = &emulated_ops, .state = g, .thread = options->thread};
    return STATUS_OK;
}

/*
 * gpu.c - owns the counting of launches: each call into a back end's table is timed and booked in
 * the launching thread's ledger slot. Driven by the devices. Must not know which back end it calls.
 */
#include "engine/device/gpu.h"

#include "engine/base/clock.h"

/* Books a call that began at begin_ns; gives its end, which is the begin of a call that follows at
 * once. */
static int64_t count_call(struct ledger_thread *t, enum ledger_launch_class class, int64_t begin_ns,
                          const struct gpu_call *call)
{
    int64_t spent_ns = call->returned_ns - begin_ns - call->queue_full_ns;
    uint64_t spent = spent_ns > 0 ? (uint64_t)spent_ns : 0;
    ledger_add(&t->launches_count[class], 1);
    ledger_add(&t->launch_ns[class], spent);
    if (class == LAUNCH_CLASS_KERNEL || class == LAUNCH_CLASS_GRAPH) {
        ledger_histogram_add(&t->launches, (int64_t)spent);
    }
    if (call->queue_full_ns > 0) {
        ledger_add(&t->queue_full_ns, (uint64_t)call->queue_full_ns);
    }
    if (spent > ledger_get(&t->launch_max_ns)) {
        ledger_set(&t->launch_max_ns, spent);
    }
    return call->returned_ns;
}

int64_t gpu_launch_graph(struct gpu *gpu, uint32_t nodes_count, time_ps device_time)
{
    struct gpu_call call = {0};
    int64_t begin_ns = clock_now_ns();
    gpu->ops->graph(gpu->state, nodes_count, device_time, &call);
    (void)count_call(gpu->thread, LAUNCH_CLASS_GRAPH, begin_ns, &call);
    return call.begins_ns;
}

int64_t gpu_launch_copy(struct gpu *gpu, uint64_t bytes)
{
    struct gpu_call call = {0};
    int64_t begin_ns = clock_now_ns();
    gpu->ops->copy(gpu->state, bytes, &call);
    (void)count_call(gpu->thread, LAUNCH_CLASS_COPY, begin_ns, &call);
    return call.begins_ns;
}

int64_t gpu_launch_kernels(struct gpu *gpu, uint32_t count, time_ps device_time)
{
    ASSERT(count > 0);
    time_ps share = device_time / count;
    int64_t first_begins_ns = 0;
    int64_t begin_ns = clock_now_ns();
    for (uint32_t i = 0; i < count; i++) {
        struct gpu_call call = {0};
        time_ps own = i + 1 < count ? share : device_time - share * (time_ps)(count - 1);
        gpu->ops->kernel(gpu->state, own, &call);
        begin_ns = count_call(gpu->thread, LAUNCH_CLASS_KERNEL, begin_ns, &call);
        first_begins_ns = i == 0 ? call.begins_ns : first_begins_ns;
    }
    return first_begins_ns;
}

void gpu_launch_memop(struct gpu *gpu, int64_t not_before_ns)
{
    struct gpu_call call = {0};
    int64_t begin_ns = clock_now_ns();
    gpu->ops->memop(gpu->state, not_before_ns, &call);
    (void)count_call(gpu->thread, LAUNCH_CLASS_SYNC, begin_ns, &call);
}

void gpu_work_ready(struct gpu *gpu, int64_t now_ns)
{
    gpu_thread_turn(gpu->thread, now_ns);
    gpu->ops->work_ready(gpu->state, now_ns);
}

void gpu_work_demand(struct gpu *gpu, uint32_t sm_ppm, uint32_t bandwidth_ppm)
{
    if (gpu->ops->demand != NULL) {
        gpu->ops->demand(gpu->state, sm_ppm, bandwidth_ppm);
    }
}

int64_t gpu_event_record(struct gpu *gpu, uint32_t event)
{
    ASSERT(event < GPU_EVENTS_MAX);
    return gpu->ops->event_record(gpu->state, event);
}

bool gpu_event_query(struct gpu *gpu, uint32_t event)
{
    ASSERT(event < GPU_EVENTS_MAX);
    return gpu->ops->event_query(gpu->state, event);
}

int64_t gpu_event_wait(struct gpu *gpu, uint32_t event)
{
    ASSERT(event < GPU_EVENTS_MAX);
    return gpu->ops->event_wait(gpu->state, event);
}

void gpu_close(struct gpu *gpu)
{
    if (gpu->ops != NULL) {
        gpu->ops->close(gpu->state);
        *gpu = (struct gpu){0};
    }
}

void gpu_thread_turn(struct ledger_thread *thread, int64_t now_ns)
{
    uint64_t started_ns = ledger_get(&thread->started_ns);
    if (started_ns == 0) {
        return; /* a slot that nobody claimed */
    }
    uint64_t elsewhere = ledger_get(&thread->queue_full_ns) + ledger_get(&thread->sync_wait_ns) +
                         ledger_get(&thread->idle_ns);
    for (int c = 0; c < LAUNCH_CLASSES_COUNT; c++) {
        elsewhere += ledger_get(&thread->launch_ns[c]);
    }
    uint64_t lived = (uint64_t)now_ns - started_ns;
    ledger_set(&thread->prepare_ns, lived > elsewhere ? lived - elsewhere : 0);
}

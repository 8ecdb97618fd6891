/*
 * emulated.c - owns the emulated device: it turns a step into launches on a GPU of gpu.h, with the
 * roofline's time, and draws the tokens. Driven through device.h by one submitting and one waiting
 * thread. Must not read plans after submit returns.
 *
 * A step is one copy of metadata and then
 * - one graph launch of the model's kernels if graphs are on and every sequence computes one token,
 *   up to 512 sequences (full graphs for uniform decode, vLLM's default). vLLM pads the batch to a
 *   graph bucket; here the time is that of the unpadded batch;
 * - else eager kernels, the step's time spread evenly over them, so that a slow launching thread
 *   starves the GPU.
 *
 * Pipeline stage p computes 1/P of the kernels and the time: stages are equal. Workers tell each
 * other through pipeline.h when their devices are done:
 * - a stage's launching thread waits until the stage before has launched the step, as vLLM's waits
 *   for the intermediate tensors' sizes; its GPU begins when the other is done and has sent them;
 * - the first stage waits in the same way for tokens that the last one samples;
 * - a step is over when the slowest of the stage's tensor-parallel ranks is done with it.
 */
#include "engine/device/emulated.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "engine/base/clock.h"
#include "engine/base/random.h"
#include "engine/device/gpu.h"
#include "engine/device/launch_cost.h"
#include "engine/device/pipeline.h"

_Static_assert((int)DEVICE_STEPS_IN_FLIGHT_MAX <= (int)GPU_EVENTS_MAX, "an event for each step");
_Static_assert((int)PIPELINE_STEPS >= 2 * (int)DEVICE_STEPS_IN_FLIGHT_MAX, "no worker is further");

#define PPM ((time_ps)1000000)

struct flight {
    uint64_t step;
    int64_t started_ns;
    uint32_t tokens_count;
    bool told;        /* the other workers know when it is done */
    uint32_t *tokens; /* [requests_max] */
};

struct emulated {
    struct gpu gpu;
    const struct gpu_shape *gpu_shape;
    const struct model_shape *model;
    uint32_t tp;
    uint32_t ep;                   /* ranks that the experts are divided over */
    struct device_lockstep agreed; /* for the next step */
    uint32_t stage;                /* pipeline stage of this worker */
    uint32_t stages_count;         /* P */
    struct pipeline *pipeline;     /* NULL: it is the only worker */
    uint32_t worker;
    enum wait_mode wait;
    struct ledger_thread *thread;
    uint64_t *sampled_steps; /* [requests_max] last step that sampled a token of this slot */
    uint32_t kernels_count;  /* of this stage */
    uint32_t requests_max;
    uint32_t kv_blocks;
    uint32_t slower_ppm; /* of a step's time */
    bool graphs;
    _Atomic uint64_t submitted_step; /* newest step whose flight can be read */
    _Atomic uint64_t waited_step;    /* newest step that was waited for */
    struct flight flights[DEVICE_STEPS_IN_FLIGHT_MAX];
};

uint32_t device_emulated_token(uint64_t sample_key, uint32_t position, bool ignore_eos)
{
    /* 2^32 / 201.4: a geometric length with this rate, cut at 1,000 tokens, has the mean 200. */
    static const uint32_t end_threshold = 21325557;
    enum {
        FIRST_PRINTABLE = 32,
        PRINTABLE_COUNT = 95
    };

    uint64_t draw = random_at(sample_key, position);
    if (!ignore_eos &&
        (position + 1 >= EMULATED_TOKENS_MAX || (uint32_t)(draw >> 32) < end_threshold)) {
        return EMULATED_EOS_TOKEN;
    }
    return FIRST_PRINTABLE + (uint32_t)(draw & UINT32_MAX) % PRINTABLE_COUNT;
}

static enum status check_plan(const struct emulated *e, const struct step_plan *plan,
                              struct error *error)
{
    if (plan->seqs_count > e->requests_max) {
        return error_set(error, STATUS_INVALID, "step %llu: %u sequences, the device has %u slots",
                         (unsigned long long)plan->step, plan->seqs_count, e->requests_max);
    }
    for (uint32_t i = 0; i < plan->seqs_count; i++) {
        if (plan->seqs[i].slot >= e->requests_max) {
            return error_set(error, STATUS_INVALID, "step %llu: slot %u, the device has %u slots",
                             (unsigned long long)plan->step, plan->seqs[i].slot, e->requests_max);
        }
    }
    return STATUS_OK;
}

/* What a worker of vLLM uploads for a step: token ids, positions, slot map, lengths and new block
 * ids. */
static uint64_t metadata_bytes(const struct step_plan *plan)
{
    return 12ULL * plan->tokens_count + 16ULL * plan->seqs_count + 4ULL * plan->block_ids_count;
}

/* The newest step that samples a token which this plan computes; 0: none. */
static uint64_t sampled_before(struct emulated *e, const struct step_plan *plan)
{
    uint64_t newest = 0;
    for (uint32_t i = 0; i < plan->seqs_count; i++) {
        const struct step_seq *s = &plan->seqs[i];
        uint64_t *sampled = &e->sampled_steps[s->slot];
        if ((s->flags & STEP_SEQ_NEW) != 0) {
            *sampled = 0; /* all its tokens came with it */
        }
        newest = *sampled > newest ? *sampled : newest;
        if ((s->flags & STEP_SEQ_SAMPLES) != 0) {
            *sampled = plan->step;
        }
    }
    return newest;
}

/* Waits until it is known when other stages have what the step needs; 0: nothing to wait for. */
static enum status await_stages(struct emulated *e, const struct step_plan *plan,
                                int64_t *not_before_ns, struct error *error)
{
    *not_before_ns = 0;
    if (e->stages_count == 1) {
        return STATUS_OK;
    }
    uint32_t from = (e->stage > 0 ? e->stage : e->stages_count) - 1;
    struct pipeline_wait wait = {.first_worker = from * e->tp,
                                 .workers_count = e->tp,
                                 .step = e->stage > 0 ? plan->step : sampled_before(e, plan),
                                 .mode = e->wait};
    if (wait.step == 0) {
        return STATUS_OK;
    }
    int64_t begin_ns = clock_now_ns();
    TRY(pipeline_await(e->pipeline, &wait, not_before_ns, error));
    ledger_add(&e->thread->sync_wait_ns, (uint64_t)(clock_now_ns() - begin_ns));
    if (e->stage > 0) {
        uint32_t tokens =
            plan->tokens_count > e->agreed.tokens ? plan->tokens_count : e->agreed.tokens;
        time_ps sending = cost_handover(e->gpu_shape, e->model, e->tp, tokens);
        *not_before_ns += ns_from_ps(sending + PS_PER_NS - 1);
    }
    return STATUS_OK;
}

static void launch_step(struct emulated *e, const struct step_plan *plan, struct flight *flight,
                        int64_t not_before_ns)
{
    struct step_load load = {0};
    struct device_lockstep agreed = e->agreed;
    bool uniform_decode = plan->seqs_count <= EMULATED_GRAPH_SEQS_MAX;
    e->agreed = (struct device_lockstep){.graphs = true};
    for (uint32_t i = 0; i < plan->seqs_count; i++) {
        const struct step_seq *s = &plan->seqs[i];
        step_load_add(&load, s->computed_tokens, s->scheduled_tokens,
                      (s->flags & STEP_SEQ_SAMPLES) != 0);
        uniform_decode = uniform_decode && s->scheduled_tokens == 1;
    }
    /* Padding computes tokens of no sequence: they read weights but no KV cache. */
    load.tokens_count = agreed.tokens > load.tokens_count ? agreed.tokens : load.tokens_count;
    uint64_t all = agreed.all_tokens > 0 ? agreed.all_tokens : (uint64_t)e->ep * load.tokens_count;
    struct step_ranks ranks = {.tp = e->tp, .ep = e->ep, .all_tokens = all};
    struct step_cost cost;
    cost_step_ranks(e->gpu_shape, e->model, &ranks, &load, &cost);
    time_ps stage_time = cost.time / e->stages_count;
    stage_time += stage_time / PPM * e->slower_ppm;
    gpu_work_demand(&e->gpu, cost.sm_ppm, cost.bandwidth_ppm);

    int64_t now_ns = clock_now_ns();
    gpu_work_ready(&e->gpu, now_ns);
    if (not_before_ns > 0) {
        gpu_launch_memop(&e->gpu, not_before_ns);
    }
    int64_t begins_ns = gpu_launch_copy(&e->gpu, metadata_bytes(plan));
    flight->started_ns = begins_ns != 0 ? begins_ns : now_ns;
    if (e->graphs && uniform_decode && agreed.graphs) {
        (void)gpu_launch_graph(&e->gpu, e->kernels_count, stage_time);
    } else {
        (void)gpu_launch_kernels(&e->gpu, e->kernels_count, stage_time);
    }
}

static enum status emulated_submit(void *state, const struct step_plan *plan, struct error *error)
{
    struct emulated *e = state;
    TRY(check_plan(e, plan, error));
    uint64_t waited = atomic_load_explicit(&e->waited_step, memory_order_acquire);
    ASSERT(plan->step == atomic_load_explicit(&e->submitted_step, memory_order_relaxed) + 1);
    ASSERT(plan->step - waited <= DEVICE_STEPS_IN_FLIGHT_MAX);

    int64_t not_before_ns;
    TRY(await_stages(e, plan, &not_before_ns, error));
    uint32_t index = (uint32_t)(plan->step % DEVICE_STEPS_IN_FLIGHT_MAX);
    struct flight *flight = &e->flights[index];
    flight->step = plan->step;
    flight->started_ns = clock_now_ns();
    flight->tokens_count = 0;
    for (uint32_t i = 0; i < plan->seqs_count; i++) {
        const struct step_seq *s = &plan->seqs[i];
        if ((s->flags & STEP_SEQ_SAMPLES) != 0) {
            bool ignore_eos = (s->flags & STEP_SEQ_IGNORE_EOS) != 0;
            flight->tokens[flight->tokens_count++] =
                device_emulated_token(s->sample_key, s->position, ignore_eos);
        }
    }
    if (plan->tokens_count > 0 || e->agreed.tokens > 0) {
        launch_step(e, plan, flight, not_before_ns);
    }
    int64_t done_ns = gpu_event_record(&e->gpu, index);
    flight->told = e->pipeline != NULL && done_ns != 0;
    if (flight->told) {
        pipeline_publish(e->pipeline, e->worker, plan->step, done_ns);
    }
    atomic_store_explicit(&e->submitted_step, plan->step, memory_order_release);
    return STATUS_OK;
}

static void emulated_lockstep(void *state, const struct device_lockstep *agreed)
{
    struct emulated *e = state;
    e->agreed = *agreed;
}

/* Tells the other workers that the step is done here; gives the time at which it is done on all
 * ranks of this stage. */
static int64_t finish_together(struct emulated *e, const struct flight *flight, int64_t done_ns)
{
    int64_t all_done_ns;
    struct error cancelled;
    struct pipeline_wait wait = {.first_worker = e->stage * e->tp,
                                 .workers_count = e->tp,
                                 .step = flight->step,
                                 .mode = e->wait};
    if (!flight->told) {
        pipeline_publish(e->pipeline, e->worker, flight->step, done_ns);
    }
    if (pipeline_await(e->pipeline, &wait, &all_done_ns, &cancelled) != STATUS_OK ||
        all_done_ns <= done_ns) {
        return done_ns;
    }
    launch_wait_until(e->wait == WAIT_SPIN, all_done_ns);
    return all_done_ns;
}

static void emulated_wait(void *state, uint64_t step, struct device_result *result)
{
    struct emulated *e = state;
    ASSERT(step <= atomic_load_explicit(&e->submitted_step, memory_order_acquire));
    const struct flight *flight = &e->flights[step % DEVICE_STEPS_IN_FLIGHT_MAX];
    ASSERT(flight->step == step);
    int64_t done_ns = gpu_event_wait(&e->gpu, (uint32_t)(step % DEVICE_STEPS_IN_FLIGHT_MAX));
    if (e->pipeline != NULL) {
        done_ns = finish_together(e, flight, done_ns);
    }
    *result = (struct device_result){
        .step = {.step = step, .tokens = flight->tokens, .tokens_count = flight->tokens_count},
        .started_ns = flight->started_ns,
        .done_ns = done_ns > flight->started_ns ? done_ns : flight->started_ns,
    };
    atomic_store_explicit(&e->waited_step, step, memory_order_release);
}

static bool emulated_poll(void *state, uint64_t step)
{
    struct emulated *e = state;
    ASSERT(step <= atomic_load_explicit(&e->submitted_step, memory_order_acquire));
    return gpu_event_query(&e->gpu, (uint32_t)(step % DEVICE_STEPS_IN_FLIGHT_MAX));
}

static uint32_t emulated_kv_blocks(void *state)
{
    const struct emulated *e = state;
    return e->kv_blocks;
}

static void emulated_close(void *state)
{
    struct emulated *e = state;
    gpu_close(&e->gpu);
    free(e->flights[0].tokens);
    free(e->sampled_steps);
    free(e);
}

static const struct device_ops emulated_ops = {
    .name = "emulated",
    .version = DEVICE_OPS_VERSION,
    .submit = emulated_submit,
    .wait = emulated_wait,
    .poll = emulated_poll,
    .kv_blocks = emulated_kv_blocks,
    .close = emulated_close,
    .lockstep = emulated_lockstep,
};

static struct emulated *create(const struct device_options *options)
{
    size_t slots = options->requests_max;
    struct emulated *e = calloc(1, sizeof *e);
    uint32_t *tokens = calloc(slots * DEVICE_STEPS_IN_FLIGHT_MAX, sizeof *tokens);
    uint64_t *sampled_steps = calloc(slots, sizeof *sampled_steps);
    if (e == NULL || tokens == NULL || sampled_steps == NULL) {
        free(e);
        free(tokens);
        free(sampled_steps);
        return NULL;
    }
    for (size_t i = 0; i < DEVICE_STEPS_IN_FLIGHT_MAX; i++) {
        e->flights[i].tokens = tokens + i * slots;
    }
    e->sampled_steps = sampled_steps;
    return e;
}

enum status device_emulated_open(const struct device_options *options, const struct gpu_shape *gpu,
                                 const struct model_shape *model, uint32_t kv_blocks,
                                 struct device *out, struct error *error)
{
    const struct topology *t = options->topology;
    ASSERT(options->requests_max > 0 && options->thread != NULL);
    ASSERT(t->pp == 1 || options->pipeline != NULL);
    struct emulated *e = create(options);
    if (e == NULL) {
        return error_set(error, STATUS_NOMEM, "emulated device: out of memory (%u request slots)",
                         options->requests_max);
    }
    e->gpu_shape = gpu;
    e->model = model;
    e->tp = t->tp;
    e->ep = model->experts_count > 0 ? t->engines_count : 1;
    e->agreed.graphs = true;
    e->stage = options->worker / t->tp;
    e->stages_count = t->pp;
    e->pipeline = options->pipeline;
    e->worker = options->worker;
    e->wait = (enum wait_mode)t->wait;
    e->thread = options->thread;
    e->kernels_count = (model_step_kernels(model) + t->pp - 1) / t->pp;
    e->requests_max = options->requests_max;
    e->kv_blocks = kv_blocks;
    e->slower_ppm = t->gpu_slower_ppm;
    e->graphs = t->launch == (uint32_t)LAUNCH_GRAPH;
    struct gpu_options gpu_options = {
        .shape = gpu,
        .queue_depth = t->queue_depth,
        .launch_extra_ns = t->launch_extra_ns,
        .wait = (enum wait_mode)t->wait,
        .thread = options->thread,
        .shared = options->gpu_shared,
    };
    enum status status = gpu_open_emulated(&gpu_options, &e->gpu, error);
    if (status != STATUS_OK) {
        emulated_close(e);
        return status;
    }
    *out = (struct device){.ops = &emulated_ops, .state = e};
    return STATUS_OK;
}

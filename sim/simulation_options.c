/*
 * simulation_options.c - owns the defaults of a simulation and the check of its options. Pure
 * functions.
 */
#include "sim/simulation_options.h"

#include "engine/core/tally.h"
#include "engine/device/gpu_share.h"

/*
 * Measured on a 2-core AMD EPYC virtual machine (Linux 6.18, loopback TCP, ZeroMQ over ipc), as CPU
 * seconds of a thread (cpu_frac) over what it handled a second, in the cells A = 1, D = 1..3 of
 * results/reference/saturation/stages.csv of revision 4a57ebd; docs/simulator.md shows the
 * arithmetic. How a thread's sum is divided between its kinds of work is an estimate.
 */
struct simulation_costs simulation_costs_default(void)
{
    return (struct simulation_costs){
        /* client: 6.5 us a token, requests of 128 + 256 tokens included */
        .client_request = {.call = 25 * PS_PER_US, .token = 500 * PS_PER_NS},
        .client_read = {.call = 4500 * PS_PER_NS, .token = 1600 * PS_PER_NS},
        /* API server: 11 to 13 us a token all-in, of it 2.5 for the sleeps of emulated occupancy */
        .api_request = {.call = 60 * PS_PER_US, .token = 300 * PS_PER_NS},
        .api_message = {.call = 10 * PS_PER_US, .item = 400 * PS_PER_NS},
        .api_output = {.call = 1500 * PS_PER_NS},
        .api_write = {.call = 6 * PS_PER_US},
        .api_state = {.call = 10 * PS_PER_US},
        /* coordinator: 41 us a message, waits included */
        .coordinator_message = {.call = 20 * PS_PER_US},
        .coordinator_publish = {.call = 10 * PS_PER_US, .item = 5 * PS_PER_US},
        /* engine core's input thread: 37 us a request; output thread: 25 us a message of 28 */
        .engine_input = {.call = 28 * PS_PER_US, .token = 20 * PS_PER_NS},
        .engine_output = {.call = 8 * PS_PER_US, .item = 300 * PS_PER_NS},
        /* main thread: 63 us a step of 40, two waits included */
        .engine_add = {.call = 5 * PS_PER_US, .token = 20 * PS_PER_NS},
        .engine_step = {.call = 12 * PS_PER_US, .item = 100 * PS_PER_NS},
        .engine_commit = {.call = 10 * PS_PER_US, .item = 300 * PS_PER_NS},
        /* worker: 115 us a step, of it 97 for kernels of steps with prompts; output thread: 30 us
         */
        .worker_plan = {.call = 5 * PS_PER_US, .item = 50 * PS_PER_NS},
        .worker_result = {.call = 3 * PS_PER_US, .item = 10 * PS_PER_NS},
        /* decisions 17: a timed sleep costs 23 to 35 us of CPU and ends 28 to 43 us late */
        .sleep_late = 35 * PS_PER_US,
        .sleep_cpu = 25 * PS_PER_US,
        /* a wait for another thread: the same machine's wake-ups are about as late */
        .wake = 35 * PS_PER_US,
        .wake_cpu = 6 * PS_PER_US,
        .poll = 1 * PS_PER_US,
        .context_switch = 2 * PS_PER_US,
        /* assumptions: a loopback send is seen at once; ZeroMQ has a thread on each side */
        .tcp = 5 * PS_PER_US,
        .ipc = 60 * PS_PER_US,
        .ring = 1 * PS_PER_US,
        .collective = 5 * PS_PER_US,
    };
}

struct simulation_costs simulation_costs_none(void)
{
    return (struct simulation_costs){.wake = 0};
}

struct simulation_options simulation_options_default(void)
{
    return (struct simulation_options){
        .api_servers_count = 1,
        .engines_count = 1,
        .tp = 1,
        .pp = 1,
        .queue_depth = 1024,
        .graphs = true,
        .wait = SIMULATION_BLOCK,
        .finish_check_steps = 32,
        .engine = {.requests_max = 16384,
                   .max_model_len = 8192,
                   .max_num_seqs = 256,
                   .max_num_batched_tokens = 8192,
                   .block_tokens = 16,
                   .prefix_caching = true,
                   .chunked_prefill = true,
                   .reserve_full_isl = true,
                   .async_depth = 2},
        .router_rule = ROUTER_SCORE,
        .publish_interval = 100 * PS_PER_MS,
        .heartbeat_interval = 5 * PS_PER_S,
        .host = {.name = "native"},
        .costs = simulation_costs_default(),
        .level_max = SIMULATION_L2,
    };
}

bool simulation_cost_is_none(const struct simulation_cost *c)
{
    return c->call == 0 && c->item == 0 && c->token == 0;
}

/* What an engine core sends takes no time of anybody. */
static bool outputs_are_free(const struct simulation_options *o)
{
    const struct simulation_costs *c = &o->costs;
    const struct host_profile *h = &o->host;
    return simulation_cost_is_none(&c->client_request) &&
           simulation_cost_is_none(&c->client_read) && simulation_cost_is_none(&c->api_request) &&
           simulation_cost_is_none(&c->api_message) && simulation_cost_is_none(&c->api_output) &&
           simulation_cost_is_none(&c->api_write) && simulation_cost_is_none(&c->api_state) &&
           simulation_cost_is_none(&c->engine_output) && c->wake == 0 && c->wake_cpu == 0 &&
           c->sleep_late == 0 && c->sleep_cpu == 0 && h->api_request == 0 &&
           h->api_prompt_token == 0 && h->api_message == 0 && h->api_output_token == 0 &&
           o->extra.engine_output_message == 0 && o->extra.engine_output_token == 0;
}

bool simulation_options_countable(const struct simulation_options *o)
{
    uint32_t launches = 1 + model_step_kernels(o->model);
    return tally_fits(&o->engine) && o->pp == 1 && o->gpu_sharing == SIMULATION_GPU_OWN &&
           o->queue_depth >= o->engine.async_depth * launches && o->router_rule != ROUTER_RUST;
}

enum simulation_level simulation_options_level(const struct simulation_options *o,
                                               const struct simulation_source *source,
                                               const struct simulation_observer *observer)
{
    bool exact = outputs_are_free(o) && o->cores_count == 0 && !o->interpreter_lock &&
                 !o->lockstep && source->prompt == NULL && observer->read == NULL &&
                 o->witness == NULL;
    enum simulation_level most = simulation_options_countable(o) ? SIMULATION_L2 : SIMULATION_L1;
    enum simulation_level level = o->level_max < most ? o->level_max : most;
    return exact ? level : SIMULATION_L0;
}

static enum status check_counts(const struct simulation_options *o, struct error *error)
{
    const struct {
        const char *name;
        uint32_t value;
        uint32_t lo;
        uint32_t hi;
    } counts[] = {
        {"api_servers_count", o->api_servers_count, 1, SIMULATION_API_SERVERS_MAX},
        {"engines_count", o->engines_count, 1, SIMULATION_ENGINES_MAX},
        {"tp", o->tp, 1, SIMULATION_TP_MAX},
        {"pp", o->pp, 1, SIMULATION_PP_MAX},
        {"queue_depth", o->queue_depth, 1, 1U << 20},
        {"cores_count", o->cores_count, 0, SIMULATION_CORES_MAX},
        {"engine.block_tokens", o->engine.block_tokens, 1, 4096},
        {"engine.max_model_len", o->engine.max_model_len, 2, 1U << 26},
        {"engine.max_num_seqs", o->engine.max_num_seqs, 1, 1U << 20},
    };
    for (uint32_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        if (counts[i].value < counts[i].lo || counts[i].value > counts[i].hi) {
            return error_set(error, STATUS_INVALID, "simulation: %s: want %u..%u, got %u",
                             counts[i].name, counts[i].lo, counts[i].hi, counts[i].value);
        }
    }
    return STATUS_OK;
}

static enum status check_system(const struct simulation_options *o, struct error *error)
{
    bool shared = o->gpu_sharing != SIMULATION_GPU_OWN;
    if (o->model == NULL || o->gpu == NULL) {
        return error_set(error, STATUS_INVALID, "simulation: want a model and a gpu");
    }
    if (o->uniproc && (o->workers || o->tp * o->pp > 1)) {
        return error_set(error, STATUS_INVALID,
                         "simulation: uniproc excludes workers, tp > 1 and pp > 1");
    }
    if (shared && (o->tp * o->pp > 1 || o->engines_per_gpu < 1 ||
                   o->engines_per_gpu > GPU_SHARE_CONTEXTS_MAX)) {
        return error_set(error, STATUS_INVALID,
                         "simulation: shared GPUs want tp 1, pp 1 and engines_per_gpu 1..%d, got "
                         "%u, %u, %u",
                         GPU_SHARE_CONTEXTS_MAX, o->tp, o->pp, o->engines_per_gpu);
    }
    if (o->lockstep && (o->engines_count < 2 || o->finish_check_steps < 1)) {
        return error_set(error, STATUS_INVALID,
                         "simulation: lockstep wants at least 2 engine cores and a "
                         "finish_check_steps of at least 1");
    }
    if (o->publish_interval <= 0 || o->heartbeat_interval <= 0) {
        return error_set(error, STATUS_INVALID,
                         "simulation: publish_interval and heartbeat_interval: want more than 0");
    }
    return STATUS_OK;
}

static enum status find_blocks(struct simulation_options *o, struct error *error)
{
    bool shared = o->gpu_sharing != SIMULATION_GPU_OWN;
    struct cost_placement placement = {.tp = o->tp,
                                       .pp = o->pp,
                                       .engines_count = o->engines_count,
                                       .contexts = shared ? o->engines_per_gpu : 1,
                                       .block_tokens = o->engine.block_tokens};
    struct cost_memory memory;
    cost_memory(o->gpu, o->model, &placement, &memory);
    if (o->engine.num_gpu_blocks == 0) {
        if (memory.blocks < 2.0) {
            return error_set(error, STATUS_INVALID,
                             "simulation: model larger than the GPU: %s needs %.1f GB of weights "
                             "on each, %s has %.1f GB for an engine core",
                             o->model->name, memory.weight_bytes / 1e9, o->gpu->name,
                             memory.usable_bytes / 1e9);
        }
        o->engine.num_gpu_blocks =
            memory.blocks < (double)(1U << 28) ? (uint32_t)memory.blocks : 1U << 28;
    }
    uint64_t tokens = (uint64_t)(o->engine.num_gpu_blocks - 1) * o->engine.block_tokens;
    if (tokens < o->engine.max_model_len) {
        return error_set(error, STATUS_INVALID,
                         "simulation: max_model_len %u does not fit the KV cache of %llu tokens",
                         o->engine.max_model_len, (unsigned long long)tokens);
    }
    return STATUS_OK;
}

enum status simulation_options_resolve(struct simulation_options *o, struct error *error)
{
    TRY(check_counts(o, error));
    TRY(check_system(o, error));
    o->uniproc = o->uniproc || (o->engines_count * o->tp * o->pp == 1 && !o->workers);
    return find_blocks(o, error);
}

/*
 * simulate_system.c - from a cell to the options of a simulation (simulate.h). Pure. Must not leave
 * out what a real system would be told: a field of struct topology that matters to it is here.
 */
#include <stdio.h>

#include "harness/report/simulated.h"
#include "harness/run/simulate.h"

enum {
    REQUESTS_MAX = 16384, /* held by one process, as by the real ones; it refuses more */
};

/* As the launcher is told it (system.c). */
static struct host_profile host_of(const struct topology *t, const struct host_profile *profile)
{
    struct host_profile h = *profile;
    const struct topology_host *added = &t->added;
    if (t->engine_step_ns > 0) {
        h.engine_step = ps_from_ns(t->engine_step_ns);
    }
    h.api_request += ps_from_ns(added->api_request_ns);
    h.api_message += ps_from_ns(added->api_message_ns);
    h.api_output_token += ps_from_ns(added->api_output_token_ns);
    h.api_prompt_token += ps_from_ns(added->api_prompt_token_ns);
    h.engine_step += ps_from_ns(added->engine_step_ns);
    h.engine_seq += ps_from_ns(added->engine_seq_ns);
    h.coordinator_message += ps_from_ns(added->coordinator_message_ns);
    return h;
}

static struct simulation_extra_costs extra_of(const struct topology *t)
{
    const struct topology_host *h = &t->host;
    const struct topology_host *a = &t->added;
    return (struct simulation_extra_costs){
        .engine_input_request = ps_from_ns(h->engine_input_request_ns + a->engine_input_request_ns),
        .engine_output_message =
            ps_from_ns(h->engine_output_message_ns + a->engine_output_message_ns),
        .engine_output_token = ps_from_ns(h->engine_output_token_ns + a->engine_output_token_ns),
    };
}

static enum simulation_gpus gpus_of(const struct topology *t)
{
    switch ((enum gpu_sharing)t->gpu_sharing) {
    case GPU_TIME_SLICED:
        return SIMULATION_GPU_TIME_SLICED;
    case GPU_SIDE_BY_SIDE:
        return SIMULATION_GPU_SIDE_BY_SIDE;
    case GPU_OWN:
        break;
    }
    return SIMULATION_GPU_OWN;
}

static struct engine_core_options engine_of(const struct scenario_cell *cell, uint64_t seed)
{
    const struct topology *t = &cell->topology;
    const struct scenario_load *l = &cell->load;
    bool closed = l->mode == SCENARIO_LOAD_CLOSED;
    uint32_t held = closed ? l->users_count : REQUESTS_MAX;
    return (struct engine_core_options){
        .requests_max = held < REQUESTS_MAX ? held : REQUESTS_MAX,
        .max_model_len = t->max_model_len,
        .max_num_seqs = t->max_num_seqs,
        .max_num_batched_tokens = t->max_num_batched_tokens,
        .long_prefill_token_threshold = t->long_prefill_token_threshold,
        .num_gpu_blocks = t->num_gpu_blocks,
        .block_tokens = t->block_tokens,
        .prefix_caching = t->prefix_caching != 0,
        .chunked_prefill = t->chunked_prefill != 0,
        .reserve_full_isl = true,
        .async_depth = t->async_depth,
        .policy = t->priority_policy != 0 ? POLICY_PRIORITY : POLICY_FCFS,
        .seed = seed,
    };
}

static void fill_counts(const struct topology *t, struct simulation_options *o)
{
    uint32_t workers = topology_workers_per_engine(t);
    o->api_servers_count = t->api_servers_count;
    o->engines_count = t->engines_count;
    o->tp = t->tp;
    o->pp = t->pp;
    o->workers = workers > 0;
    o->uniproc = workers == 0;
    o->gpu_sharing = gpus_of(t);
    o->engines_per_gpu = topology_engines_per_gpu(t);
    o->gpu_slower_ppm = t->gpu_slower_ppm;
    o->queue_depth = t->queue_depth;
}

enum status simulate_system(const struct scenario_cell *cell, uint64_t seed,
                            struct simulation_options *out, struct error *error)
{
    const struct topology *t = &cell->topology;
    const struct host_profile *profile = host_profile_find(t->host.name);
    struct simulation_options o = simulation_options_default();
    fill_counts(t, &o);
    o.model = model_shape_find(t->model);
    o.gpu = gpu_shape_find(t->gpu);
    if (profile == NULL || o.model == NULL || o.gpu == NULL) {
        return error_set(error, STATUS_INVALID, "unknown model '%s', GPU '%s' or host profile '%s'",
                         t->model, t->gpu, t->host.name);
    }
    o.graphs = t->launch == (uint32_t)LAUNCH_GRAPH;
    o.launch_extra = ps_from_ns(t->launch_extra_ns);
    o.wait = t->wait == (uint32_t)WAIT_SPIN ? SIMULATION_SPIN : SIMULATION_BLOCK;
    o.lockstep = topology_lockstep(t);
    o.finish_check_steps = t->finish_check_steps;
    o.finish_check_first = t->finish_check_first != 0;
    o.dummy_eager = t->dummy_eager != 0;
    o.engine = engine_of(cell, seed);
    o.router_rule = (enum router_rule)t->router_rule;
    o.publish_off = t->publish_off != 0;
    o.publish_interval = ps_from_ns(t->publish_interval_ns);
    o.heartbeat_interval = ps_from_ns(t->heartbeat_interval_ns);
    o.host = host_of(t, profile);
    o.extra = extra_of(t);
    o.interpreter_lock = t->interpreter_lock != 0;
    o.costs = simulated_costs(&cell->simulation);
    if (cell->simulation.free_client) {
        o.costs.client_request = (struct simulation_cost){.call = 0};
        o.costs.client_read = (struct simulation_cost){.call = 0};
    }
    o.cores_count = cell->simulation.cores_count;
    o.seed = seed;
    *out = o;
    return STATUS_OK;
}

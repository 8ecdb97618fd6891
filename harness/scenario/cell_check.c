/*
 * cell_check.c - rules that hold between the values of a cell (cell.h).
 */
#include "harness/scenario/cell.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "engine/model/shapes.h"
#include "sim/simulation.h"

#define WARMUP_AUTO ((int64_t)-1) /* as the option table reads the word */

struct checker {
    struct scenario_cell *cell;
    const struct cell_sections *sections;
    struct scenario_problems *problems;
};

/* Where the key was set; the section's header if it is a default. */
static struct scenario_origin origin_of(struct settings_section *section, const char *key)
{
    const struct setting *item = settings_item(section, key);
    return item != NULL && item->origin.line > 0 ? item->origin : section->origin;
}

static void check_server(struct checker *c)
{
    const struct topology *t = &c->cell->topology;
    struct settings_section *s = c->sections->server;
    if (t->heartbeat_interval_ns < t->publish_interval_ns) {
        problems_add(c->problems, origin_of(s, "heartbeat_interval"),
                     "heartbeat_interval: it is less than publish_interval");
    }
    const struct model_shape *model = model_shape_find(t->model);
    if (c->sections->measured && t->engines_count > TOPOLOGY_ENGINES_MAX) {
        problems_add(c->problems, origin_of(s, "topology"),
                     "topology: dp: want 1 to %d, got %u (to %d with scenario.mode = simulate)",
                     TOPOLOGY_ENGINES_MAX, t->engines_count, SCENARIO_ENGINES_MAX);
    }
    if (t->max_num_batched_tokens < t->max_num_seqs) {
        problems_add(c->problems, origin_of(s, "max_num_batched_tokens"),
                     "max_num_batched_tokens: %u is less than max_num_seqs, %u",
                     t->max_num_batched_tokens, t->max_num_seqs);
    }
    if (t->chunked_prefill == 0 && t->max_num_batched_tokens < t->max_model_len) {
        problems_add(c->problems, origin_of(s, "max_num_batched_tokens"),
                     "max_num_batched_tokens: %u is less than max_model_len, %u, and "
                     "chunked_prefill is off",
                     t->max_num_batched_tokens, t->max_model_len);
    }
    if (model != NULL && t->max_model_len > model->context_max) {
        problems_add(c->problems, origin_of(s, "max_model_len"),
                     "max_model_len: %u is more than the %u tokens that %s can hold",
                     t->max_model_len, model->context_max, model->name);
    }
    if (t->num_gpu_blocks > 0 &&
        (uint64_t)(t->num_gpu_blocks - 1) * t->block_tokens < t->max_model_len) {
        problems_add(c->problems, origin_of(s, "num_gpu_blocks"),
                     "num_gpu_blocks: %u blocks of %u tokens (one is reserved) do not hold "
                     "max_model_len, %u tokens",
                     t->num_gpu_blocks, t->block_tokens, t->max_model_len);
    }
    if (t->executor == EXECUTOR_UNIPROC && t->tp * t->pp > 1) {
        problems_add(c->problems, origin_of(s, "executor"),
                     "executor: uniproc has one worker an engine core, not %u", t->tp * t->pp);
    }
}

/* Whether `count` of something can be shared out evenly. */
static bool check_share(struct checker *c, const char *what, uint32_t count)
{
    uint32_t nodes = c->cell->topology.nodes_count;
    if (count % nodes == 0) {
        return true;
    }
    problems_add(c->problems, origin_of(c->sections->server, "nodes"),
                 "nodes: %u %s cannot be divided evenly among %u nodes", count, what, nodes);
    return false;
}

static void check_nodes(struct checker *c)
{
    const struct topology *t = &c->cell->topology;
    bool divided = t->balancing != (uint32_t)BALANCING_INTERNAL;
    bool even = check_share(c, "engine cores", t->engines_count);
    even = (!divided || check_share(c, "API servers", t->api_servers_count)) && even;
    uint32_t sharing = topology_engines_per_gpu(t);
    if (even && t->engines_count / t->nodes_count % sharing != 0) {
        problems_add(
            c->problems, origin_of(c->sections->server, "engines_per_gpu"),
            "engines_per_gpu: the %u engine cores of a node cannot share GPUs by %u: a GPU "
            "belongs to one node",
            t->engines_count / t->nodes_count, sharing);
    }
}

/* How engine cores belong together. */
static void check_ranks(struct checker *c)
{
    const struct topology *t = &c->cell->topology;
    struct settings_section *s = c->sections->server;
    const struct model_shape *model = model_shape_find(t->model);
    uint32_t ranks = topology_data_parallel_size(t);
    if (model != NULL && model->experts_count > 0 && ranks > 1 && t->lockstep == 0) {
        problems_add(c->problems, origin_of(s, "lockstep"),
                     "lockstep: %s has experts, which its %u engine cores divide among them: they "
                     "must step together",
                     model->name, ranks);
    }
    if (t->gpu_sharing == GPU_OWN && t->engines_per_gpu > 1) {
        problems_add(c->problems, origin_of(s, "engines_per_gpu"),
                     "engines_per_gpu: %u engine cores cannot share a GPU with gpu_sharing = own",
                     t->engines_per_gpu);
    }
}

struct load_range scenario_range(const struct scenario_lengths *lengths)
{
    bool spread = lengths->kind == SCENARIO_LENGTHS_LOGNORMAL;
    return (struct load_range){
        .lo = lengths->lo,
        .hi = lengths->hi,
        .mean = lengths->mean,
        .sd = spread ? lengths->sd : 0,
    };
}

static void check_lengths(struct checker *c, const char *key,
                          const struct scenario_lengths *lengths)
{
    struct load_range range = scenario_range(lengths);
    if (lengths_inside_frac(&range) < LENGTHS_INSIDE_MIN) {
        problems_add(c->problems, origin_of(c->sections->workload, key),
                     "%s: less than 1%% of this lognormal lies between min and max", key);
    }
}

/* Where lengths and prompts come from. */
static void check_source(struct checker *c)
{
    struct scenario_workload *w = &c->cell->workload;
    struct settings_section *s = c->sections->workload;
    if (w->source_file[0] != '\0' && w->trace[0] != '\0') {
        problems_add(c->problems, origin_of(s, "trace"),
                     "trace: source names a file already: set one of them");
    } else if (w->source_file[0] != '\0') {
        memcpy(w->trace, w->source_file, sizeof w->trace);
    }
    if (w->source == SCENARIO_SOURCE_TRACE && w->trace[0] == '\0') {
        problems_add(c->problems, origin_of(s, "source"),
                     "source: a trace needs its path: write trace FILE or set workload.trace");
    }
    if (w->source != SCENARIO_SOURCE_SYNTHETIC && !(w->time_scale > 0)) {
        problems_add(c->problems, origin_of(s, "time_scale"), "time_scale: want more than 0");
    }
    if (w->source == SCENARIO_SOURCE_JSONL && w->shared_prefix_frac > 0) {
        problems_add(c->problems, origin_of(s, "shared_prefix"),
                     "shared_prefix: not with source = jsonl, whose prompts are the file's");
    }
}

static void check_workload(struct checker *c)
{
    const struct scenario_workload *w = &c->cell->workload;
    struct settings_section *s = c->sections->workload;
    check_lengths(c, "prompt", &w->prompt);
    check_lengths(c, "output", &w->output);
    uint64_t longest = ((uint64_t)w->prompt.hi + w->output.hi) * c->cell->load.turns_count;
    bool own = c->cell->foreign.kind == SCENARIO_SERVER_OWN; /* of others it is not known */
    if (own && w->source == SCENARIO_SOURCE_SYNTHETIC &&
        longest > c->cell->topology.max_model_len) {
        problems_add(c->problems, origin_of(s, "prompt"),
                     "prompt: prompt and output can reach %" PRIu64
                     " tokens, more than max_model_len, %u",
                     longest, c->cell->topology.max_model_len);
    }
    check_source(c);
}

/* Bursts say their rate themselves; one given beside them must be the same. */
static void check_arrival(struct checker *c)
{
    struct scenario_load *l = &c->cell->load;
    struct settings_section *s = c->sections->load;
    if (l->arrival.kind == SCENARIO_ARRIVAL_GAMMA && l->arrival.cv < 0.01) {
        problems_add(c->problems, origin_of(s, "arrival"),
                     "arrival: cv= wants 0.01 to 10: write constant for equal gaps");
    }
    if (l->arrival.kind == SCENARIO_ARRIVAL_BURSTS) {
        double every_s = (double)l->arrival.burst_every_ns / 1e9;
        double rate_per_s = every_s > 0 ? l->arrival.burst_count / every_s : 0;
        if (l->arrival.burst_every_ns == 0) {
            problems_add(c->problems, origin_of(s, "arrival"),
                         "arrival: every= needs more than 0s");
        } else if (l->rate_per_s > 0 && fabs(l->rate_per_s / rate_per_s - 1) > 0.001) {
            problems_add(c->problems, origin_of(s, "rate"),
                         "rate: bursts of %u every %gs are %g/s, not %g/s: leave rate out",
                         l->arrival.burst_count, every_s, rate_per_s, l->rate_per_s);
        }
        l->rate_per_s = rate_per_s;
    } else if (!(l->rate_per_s > 0) && !c->sections->rate_is_searched) {
        problems_add(c->problems, origin_of(s, "rate"), "rate: an open loop needs more than 0/s");
    }
}

/* When the window begins and how long it is. */
static void check_window(struct checker *c)
{
    struct scenario_load *l = &c->cell->load;
    struct settings_section *s = c->sections->load;
    if (l->warmup_ns == WARMUP_AUTO) {
        l->warmup_auto = true;
        l->warmup_ns = l->warmup_max_ns;
    }
    if (l->warmup_auto && l->mode == SCENARIO_LOAD_TRACE) {
        problems_add(c->problems, origin_of(s, "warmup"),
                     "warmup: auto waits for a steady state, which mode = trace has not");
    }
    if (l->measure_min_cycles_count > 0 && l->mode != SCENARIO_LOAD_OPEN) {
        problems_add(c->problems, origin_of(s, "measure_min_cycles"),
                     "measure_min_cycles: needs mode = open");
    } else if (l->measure_min_cycles_count > 0 && l->measure_ns < 1000000000) {
        problems_add(c->problems, origin_of(s, "measure_min_cycles"),
                     "measure_min_cycles: needs a measure of 1s or more");
    }
    if (l->on_inflight_max != SCENARIO_FULL_INVALID && l->mode == SCENARIO_LOAD_CLOSED) {
        problems_add(c->problems, origin_of(s, "on_inflight_max"),
                     "on_inflight_max: needs mode = open or trace: users wait for their answers");
    }
}

static void check_load(struct checker *c)
{
    const struct scenario_load *l = &c->cell->load;
    struct settings_section *s = c->sections->load;
    bool trace = l->mode == SCENARIO_LOAD_TRACE;
    check_window(c);
    if (l->mode == SCENARIO_LOAD_CLOSED && l->users_count == 0) {
        problems_add(c->problems, origin_of(s, "users"), "users: a closed loop needs 1 or more");
    }
    if (l->mode == SCENARIO_LOAD_CLOSED && l->users_count > l->inflight_max_count) {
        problems_add(c->problems, origin_of(s, "users"), "users: %u are more than inflight_max, %u",
                     l->users_count, l->inflight_max_count);
    }
    if (c->sections->measured && l->inflight_max_count > SCENARIO_CONNECTIONS_MAX) {
        problems_add(c->problems, origin_of(s, "inflight_max"),
                     "inflight_max: want 1 to %d, got %u (to %d with scenario.mode = simulate)",
                     SCENARIO_CONNECTIONS_MAX, l->inflight_max_count, SCENARIO_INFLIGHT_MAX);
    }
    if (l->mode == SCENARIO_LOAD_OPEN) {
        check_arrival(c);
    }
    if (trace && c->cell->workload.source == SCENARIO_SOURCE_SYNTHETIC) {
        problems_add(c->problems, origin_of(s, "mode"),
                     "mode: trace needs a workload with source = trace or jsonl");
    }
    if (!trace && l->measure_ns == SCENARIO_MEASURE_ALL) {
        problems_add(c->problems, origin_of(s, "measure"), "measure: all needs mode = trace");
    }
    if (l->mode != SCENARIO_LOAD_CLOSED && (l->think_mean_ns > 0 || l->turns_count > 1)) {
        const char *key = l->think_mean_ns > 0 ? "think" : "turns";
        problems_add(c->problems, origin_of(s, key), "%s: needs mode = closed", key);
    }
    if (l->turns_count > 1 && (c->cell->workload.source != SCENARIO_SOURCE_SYNTHETIC ||
                               c->cell->workload.shared_prefix_frac > 0)) {
        problems_add(c->problems, origin_of(s, "turns"),
                     "turns: needs source = synthetic and no shared_prefix");
    }
    if (l->first_outputs == SCENARIO_FIRST_RESIDUAL && l->mode != SCENARIO_LOAD_CLOSED) {
        problems_add(c->problems, origin_of(s, "first_outputs"),
                     "first_outputs: residual needs mode = closed");
    }
}

void scenario_split_nodes(struct topology *t)
{
    bool divided = t->balancing != (uint32_t)BALANCING_INTERNAL;
    uint32_t engines = t->engines_count / t->nodes_count;
    uint32_t servers = t->api_servers_count / t->nodes_count;
    for (uint32_t i = 0; i < t->nodes_count; i++) {
        struct topology_node *n = &t->nodes[i];
        *n = (struct topology_node){.engines_first = i * engines, .engines_count = engines};
        n->api_servers_first = divided ? i * servers : 0;
        n->api_servers_count = divided ? servers : 0;
    }
    if (!divided) {
        t->nodes[0].api_servers_count = t->api_servers_count;
    }
}

/* CPUs that this process may use. */
static struct topology_cpus machine_cpus(const struct value_machine *machine)
{
    struct topology_cpus cpus = machine->cpus;
    for (uint32_t i = 0; topology_cpus_count(&machine->cpus) == 0 && i < machine->cpus_count; i++) {
        topology_cpus_add(&cpus, i);
    }
    return cpus;
}

/* The first `count` CPUs of the machine for the serving system, the others for the client. */
static void share_cores(struct scenario_cell *cell, const struct topology_cpus *machine,
                        uint32_t count)
{
    for (uint32_t cpu = 0; cpu < TOPOLOGY_CPUS_MAX; cpu++) {
        if (topology_cpus_has(machine, cpu)) {
            topology_cpus_add(count > 0 ? &cell->topology.pins[PIN_SYSTEM] : &cell->client.cpus,
                              cpu);
            count -= count > 0 ? 1 : 0;
        }
    }
}

static void check_pins(struct checker *c, const struct option_server *server,
                       const struct topology_cpus *machine)
{
    struct settings_section *s = c->sections->server;
    char all[128];
    uint32_t pinned = 0;
    topology_cpus_text(machine, all, sizeof all);
    for (uint32_t i = 0; i < OPTION_PINS_COUNT; i++) {
        pinned += topology_cpus_count(&server->pins[i]);
        for (uint32_t cpu = 0; cpu < TOPOLOGY_CPUS_MAX; cpu++) {
            if (topology_cpus_has(&server->pins[i], cpu) && !topology_cpus_has(machine, cpu)) {
                problems_add(c->problems, origin_of(s, "pin"),
                             "pin: %s: CPU %u is none of those that this process may use: %s",
                             option_pin_name(i), cpu, all);
                break;
            }
        }
    }
    if (server->cores_count > 0 && pinned > 0) {
        problems_add(c->problems, origin_of(s, "cores"),
                     "cores: pin says already which CPUs are used: set one of them");
    } else if (server->cores_count > topology_cpus_count(machine)) {
        problems_add(c->problems, origin_of(s, "cores"),
                     "cores: %u are more than the %u CPUs that this process may use: %s",
                     server->cores_count, topology_cpus_count(machine), all);
    }
}

static void take_pins(struct checker *c, const struct option_server *server,
                      const struct value_machine *machine)
{
    const struct topology_cpus cpus = machine_cpus(machine);
    check_pins(c, server, &cpus);
    memcpy(c->cell->topology.pins, server->pins, sizeof c->cell->topology.pins);
    c->cell->client.cpus = server->pins[OPTION_PIN_CLIENT];
    if (server->cores_count > 0) {
        share_cores(c->cell, &cpus, server->cores_count);
    }
}

/* What virtual time has no model of. */
static void check_simulated(struct checker *c)
{
    const struct topology *t = &c->cell->topology;
    const struct scenario_workload *w = &c->cell->workload;
    if (t->pp > SIMULATION_PP_MAX) {
        problems_add(c->problems, origin_of(c->sections->server, "topology"),
                     "topology: pp: at most %d pipeline stages can be simulated, got %u",
                     (int)SIMULATION_PP_MAX, t->pp);
    }
    if (t->nodes_count > 1) {
        problems_add(c->problems, origin_of(c->sections->server, "nodes"),
                     "nodes: several nodes cannot be simulated");
    }
    if (!w->stream) {
        problems_add(c->problems, origin_of(c->sections->workload, "stream"),
                     "stream: answers in one piece cannot be simulated");
    }
    if (w->source == SCENARIO_SOURCE_JSONL) {
        problems_add(c->problems, origin_of(c->sections->workload, "source"),
                     "source: prompts that are text cannot be simulated: only a server's tokenizer "
                     "knows how long they are");
    }
}

void cell_check(struct scenario_cell *cell, const struct option_server *server,
                const struct cell_sections *sections, const struct value_machine *machine,
                struct scenario_problems *problems)
{
    struct checker c = {.cell = cell, .sections = sections, .problems = problems};
    struct topology *t = &cell->topology;
    if (cell_section_is_foreign(sections->server)) {
        cell_foreign(cell, server, sections, problems);
        if (sections->simulated) {
            problems_add(problems, sections->server->origin,
                         "server %s: a server of others cannot be simulated", cell->server);
        }
        check_workload(&c);
        check_load(&c);
        return;
    }
    cell_own(server, sections, problems);
    uint32_t spinning = t->api_servers_count + t->engines_count * (1 + t->tp * t->pp) + 1;
    uint32_t cpus = server->cores_count > 0 ? server->cores_count : machine->cpus_count;
    if (!sections->measured) { /* a simulated machine: as large as it is said to be */
        cpus = cell->simulation.cores_count > 0 ? cell->simulation.cores_count : UINT32_MAX;
    }
    switch (server->wait) {
    case 0:
        t->wait = WAIT_BLOCK;
        break;
    case 1:
        t->wait = WAIT_SPIN;
        break;
    default:
        t->wait = cpus < spinning ? WAIT_BLOCK : WAIT_SPIN;
        break;
    }
    if (sections->measured) {
        take_pins(&c, server, machine);
    }
    t->publish_off = server->publish ? 0 : 1;
    t->lockstep = server->lockstep ? 1 : 0;
    t->finish_check_first = server->finish_check_first ? 1 : 0;
    t->dummy_eager = server->dummy_graph ? 0 : 1;
    if (t->nodes_count > 1) {
        check_nodes(&c);
        scenario_split_nodes(t);
    } else {
        t->nodes_count = 0;
        t->balancing = BALANCING_INTERNAL;
    }
    if (sections->simulated) {
        check_simulated(&c);
    }
    check_ranks(&c);
    check_server(&c);
    check_workload(&c);
    check_load(&c);
}

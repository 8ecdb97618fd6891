/*
 * sim.c - how many requests a second the simulator carries on one core: 10,000 requests of 512
 * prompt and 256 output tokens, Poisson arrivals at 6 requests/s for each engine core, every step
 * through the shared engine core, every message through the shared front end (level L0). The
 * ceiling beside it is the event queue alone: as many events as that run had, each of which takes
 * the first entry and puts it back at a random later time. Then the engine cores alone, all else
 * being free of charge, at the levels of sim/simulation.h, with and without prefix caching (L2
 * without only). Last
 * Mooncake's conversation trace, if HARNESS_TRACES names a folder that has it.
 *
 * With a number of requests there is one line for that many of them: the engine cores alone at the
 * highest level, without prefix caching, and the memory that it took.
 *
 *     ./dev bench sim [ENGINES [API_SERVERS [REQUESTS]]]
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "engine/base/clock.h"
#include "engine/base/random.h"
#include "harness/load/trace.h"
#include "sim/event_queue.h"
#include "sim/simulation.h"

enum {
    REQUESTS = 10000,
    PROMPT_TOKENS = 512,
    OUTPUT_TOKENS = 256
};

#define REQUESTS_PER_S 6.0 /* of each engine core */

/* CPU time: what another program takes from the core is not the simulator's. */
static double now_s(void)
{
    return (double)clock_thread_cpu_ns() / 1e9;
}

static uint64_t requests_count = REQUESTS;

struct arrivals {
    struct random random;
    uint64_t next;
    time_ps at;
    double requests_per_s;
};

static bool next_arrival(void *ctx, struct simulation_request *request)
{
    struct arrivals *a = ctx;
    if (a->next == requests_count) {
        return false;
    }
    a->at += random_interval_ps(&a->random, a->requests_per_s);
    *request = (struct simulation_request){.number = a->next,
                                           .at = a->at,
                                           .user = (uint32_t)a->next,
                                           .prompt_tokens = PROMPT_TOKENS,
                                           .output_tokens = OUTPUT_TOKENS,
                                           .prompt_hash = random_at(a->next, 1)};
    a->next++;
    return true;
}

static struct simulation_options system_of(uint32_t engines, uint32_t api_servers, const char *host)
{
    struct simulation_options options = simulation_options_default();
    options.engines_count = engines;
    options.api_servers_count = api_servers;
    options.model = model_shape_find("llama-3.1-8b");
    options.gpu = gpu_shape_find("h100");
    options.engine.max_model_len = 1024;
    options.host = *host_profile_find(host);
    return options;
}

static uint64_t simulate(struct simulation_options options, const char *costs)
{
    uint32_t engines = options.engines_count;
    struct arrivals arrivals = {.random = random_stream(1, "arrivals", 0),
                                .requests_per_s = REQUESTS_PER_S * engines};
    struct simulation_source source = {.ctx = &arrivals, .next = next_arrival};
    struct simulation *s;
    struct error error;
    if (simulation_create(&options, &source, NULL, &s, &error) != STATUS_OK) {
        (void)fprintf(stderr, "sim: %s\n", error.text);
        exit(EXIT_FAILURE);
    }
    double start = now_s();
    if (simulation_run(s, TIME_NEVER, &error) != STATUS_OK) {
        (void)fprintf(stderr, "sim: %s\n", error.text);
        exit(EXIT_FAILURE);
    }
    double elapsed = now_s() - start;
    struct simulation_totals totals = simulation_totals(s);
    (void)printf("engines=%u level=L%d host=%s costs=%s prefix_caching=%d requests_per_s=%.0f "
                 "tok_per_s=%.0f events=%llu simulated_s=%.1f times_real_time=%.0f\n",
                 engines, (int)simulation_level(s), options.host.name, costs,
                 options.engine.prefix_caching, (double)requests_count / elapsed,
                 (double)totals.output_tokens / elapsed, (unsigned long long)totals.events_count,
                 (double)simulation_now(s) / (double)PS_PER_S,
                 (double)simulation_now(s) / (double)PS_PER_S / elapsed);
    uint64_t events = totals.events_count;
    simulation_destroy(s);
    return events;
}

static void simulate_engines(uint32_t engines, bool prefix_caching)
{
    struct simulation_options options = system_of(engines, 1, "native");
    options.costs = simulation_costs_none();
    options.engine.prefix_caching = prefix_caching;
    options.level_max = SIMULATION_L0;
    (void)simulate(options, "none");
    options.level_max = SIMULATION_L1;
    (void)simulate(options, "none");
    options.level_max = SIMULATION_L2;
    if (!prefix_caching) {
        (void)simulate(options, "none");
    }
}

/* ---- a real trace ---- */

struct replay {
    struct trace trace;
    uint32_t next;
};

/* Each prompt is one of its own: what prompts of the trace share is left out. */
static bool next_of_trace(void *ctx, struct simulation_request *request)
{
    struct replay *r = ctx;
    if (r->next == r->trace.requests_count) {
        return false;
    }
    const struct trace_request *row = &r->trace.requests[r->next];
    *request = (struct simulation_request){.number = r->next,
                                           .at = ps_from_ns(row->at_ns),
                                           .user = r->next,
                                           .prompt_tokens = row->prompt_tokens,
                                           .output_tokens = row->output_tokens,
                                           .prompt_hash = random_at(r->next, 1)};
    r->next++;
    return true;
}

/* Mooncake's conversation trace on 8 engine cores, by default costs and by none. */
static void replay_trace(struct replay *replay, struct simulation_costs costs, const char *name)
{
    struct simulation_source source = {.ctx = replay, .next = next_of_trace};
    struct simulation_options options = system_of(8, 1, "native");
    struct simulation *s;
    struct error error;
    options.engine.max_model_len = 1U << 17;
    options.engine.prefix_caching = false;
    options.costs = costs;
    replay->next = 0;
    double start = now_s();
    if (simulation_create(&options, &source, NULL, &s, &error) != STATUS_OK ||
        simulation_run(s, TIME_NEVER, &error) != STATUS_OK) {
        (void)fprintf(stderr, "sim: %s\n", error.text);
        exit(EXIT_FAILURE);
    }
    double elapsed = now_s() - start;
    struct simulation_totals totals = simulation_totals(s);
    (void)printf("trace=mooncake engines=8 level=L%d costs=%s requests=%llu output_tokens=%llu "
                 "cpu_ms=%.0f events=%llu simulated_s=%.1f times_real_time=%.0f\n",
                 (int)simulation_level(s), name, (unsigned long long)totals.ended_count,
                 (unsigned long long)totals.output_tokens, elapsed * 1e3,
                 (unsigned long long)totals.events_count,
                 (double)simulation_now(s) / (double)PS_PER_S,
                 (double)simulation_now(s) / (double)PS_PER_S / elapsed);
    simulation_destroy(s);
}

static void simulate_trace(void)
{
    const char *folder = getenv("HARNESS_TRACES");
    char path[4096];
    if (folder == NULL) {
        (void)printf("trace=mooncake skipped: HARNESS_TRACES is not set\n");
        return;
    }
    (void)snprintf(path, sizeof path, "%s/mooncake_conversation_trace.jsonl", folder);
    struct replay replay = {.next = 0};
    const struct trace_limits limits = {.max_model_len = 1U << 17, .timed = true};
    struct error error;
    if (trace_read(path, TRACE_MOONCAKE_JSONL, &limits, &replay.trace, &error) != STATUS_OK) {
        (void)printf("trace=mooncake skipped: %s\n", error.text);
        return;
    }
    replay_trace(&replay, simulation_costs_default(), "default");
    replay_trace(&replay, simulation_costs_none(), "none");
    trace_free(&replay.trace);
}

static void simulate_fleet(uint32_t engines, uint32_t api_servers)
{
    struct simulation_options options = system_of(engines, api_servers, "native");
    struct rusage usage;
    options.costs = simulation_costs_none();
    options.engine.prefix_caching = false;
    (void)simulate(options, "none");
    (void)getrusage(RUSAGE_SELF, &usage);
    (void)printf("requests=%llu memory_mib=%ld\n", (unsigned long long)requests_count,
                 usage.ru_maxrss / 1024);
}

static void hold(uint32_t entities, uint64_t events)
{
    struct event_queue q;
    struct error error;
    enum status status = event_queue_create(entities, &q, &error);
    ASSERT(status == STATUS_OK);
    for (uint32_t i = 0; i < entities; i++) {
        event_queue_set(&q, i, (time_ps)(random_at(i, 0) >> 40));
    }
    double start = now_s();
    for (uint64_t i = 0; i < events; i++) {
        uint32_t entity;
        time_ps at = event_queue_next(&q, &entity);
        event_queue_set(&q, entity, at + (time_ps)(random_at(i, 1) >> 40));
    }
    double elapsed = now_s() - start;
    (void)printf("ceiling entities=%u hold_ns=%.1f requests_per_s=%.0f\n", entities,
                 elapsed / (double)events * 1e9, REQUESTS / elapsed);
    event_queue_destroy(&q);
}

int main(int argc, char **argv)
{
    uint32_t engines = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : 8;
    uint32_t api_servers = argc > 2 ? (uint32_t)strtoul(argv[2], NULL, 10) : 1;
    requests_count = argc > 3 ? strtoull(argv[3], NULL, 10) : REQUESTS;
    if (requests_count < 1 || engines < 1 || engines > SIMULATION_ENGINES_MAX || api_servers < 1 ||
        api_servers > SIMULATION_API_SERVERS_MAX) {
        (void)fprintf(stderr, "usage: bench sim [ENGINES [API_SERVERS [REQUESTS]]]\n");
        return 2;
    }
    if (argc > 3) {
        simulate_fleet(engines, api_servers);
        return 0;
    }
    struct simulation_options native = system_of(engines, api_servers, "native");
    uint64_t events = simulate(native, "default");
    native.engine.prefix_caching = false;
    (void)simulate(native, "default");
    hold(5 * engines + api_servers + 2, events);
    (void)simulate(system_of(engines, api_servers, "vllm-python"), "default");
    simulate_engines(engines, true);
    simulate_engines(engines, false);
    simulate_trace();
    return 0;
}

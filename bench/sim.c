/*
 * sim.c - how many requests a second the simulator carries on one core: 10,000 requests of 512
 * prompt and 256 output tokens, Poisson arrivals at 6 requests/s for each engine core. CPU time
 * of the fastest of many runs: neighbours on a shared machine only ever slow one down, and the
 * median beside it says by how much they did. First the engine cores alone, all else being free of
 * charge, at each level of sim/simulation.h, without prefix caching (levels by counts do without)
 * and with it; then the whole system at its default costs, every step through the shared engine
 * core, every token through the shared front end (level L0). The ceiling beside it is the event
 * queue alone: as many events as that run had, each of which takes the first entry and puts it back
 * at a random later time. Then Mooncake's conversation trace, if HARNESS_TRACES names a folder
 * that has it, and with 8 engine cores the sweep.
 *
 *     ./dev bench sim [ENGINES [API_SERVERS [REQUESTS]]]
 *     ./dev bench sim sweep
 *
 * With a number of requests there is one run of that many of them: the engine cores alone at the
 * highest level, without prefix caching, and the memory that it took. `sweep` simulates 1 to 8 API
 * servers times 1 to 8 engine cores with 5 seeds on 2 threads, 10,000 requests each, and says how
 * long that takes by the wall's clock.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "engine/base/clock.h"
#include "engine/base/random.h"
#include "harness/load/trace.h"
#include "sim/event_queue.h"
#include "sim/simulation.h"

enum {
    REQUESTS = 10000,
    PROMPT_TOKENS = 512,
    OUTPUT_TOKENS = 256,
    RUNS_MIN = 5,
    RUNS_MAX = 200,
    SWEEP_SIDE = 8, /* API servers, engine cores */
    SWEEP_SEEDS = 5,
    SWEEP_POINTS = SWEEP_SIDE * SWEEP_SIDE * SWEEP_SEEDS,
    SWEEP_THREADS = 2
};

#define REQUESTS_PER_S 6.0 /* of each engine core */
#define RUNS_S         3.0 /* CPU time of the runs of one line */

/* CPU time: what another program takes from the core is not the simulator's. */
static double now_s(void)
{
    return (double)clock_thread_cpu_ns() / 1e9;
}

struct arrivals {
    struct random random;
    uint64_t next;
    uint64_t count;
    time_ps at;
    double requests_per_s;
};

static bool next_arrival(void *ctx, struct simulation_request *request)
{
    struct arrivals *a = ctx;
    if (a->next == a->count) {
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

/* What a run came to. */
struct outcome {
    double cpu_s;
    enum simulation_level level;
    struct simulation_totals totals;
    time_ps simulated;
};

static struct outcome run_to_end(const struct simulation_options *options,
                                 const struct simulation_source *source)
{
    struct simulation *s;
    struct error error;
    struct outcome outcome;
    double start = now_s();
    if (simulation_create(options, source, NULL, &s, &error) != STATUS_OK ||
        simulation_run(s, TIME_NEVER, &error) != STATUS_OK) {
        (void)fprintf(stderr, "sim: %s\n", error.text);
        exit(EXIT_FAILURE);
    }
    outcome = (struct outcome){.cpu_s = now_s() - start,
                               .level = simulation_level(s),
                               .totals = simulation_totals(s),
                               .simulated = simulation_now(s)};
    simulation_destroy(s);
    return outcome;
}

static struct outcome simulate_load(const struct simulation_options *options, uint64_t seed,
                                    uint64_t requests_count)
{
    struct arrivals arrivals = {.random = random_stream(seed, "arrivals", 0),
                                .count = requests_count,
                                .requests_per_s = REQUESTS_PER_S * options->engines_count};
    const struct simulation_source source = {.ctx = &arrivals, .next = next_arrival};
    return run_to_end(options, &source);
}

static int by_cpu(const void *a, const void *b)
{
    const struct outcome *x = a;
    const struct outcome *y = b;
    return (x->cpu_s > y->cpu_s) - (x->cpu_s < y->cpu_s);
}

/* Returns the number of events. */
static uint64_t measure(const struct simulation_options *options, const char *costs)
{
    struct outcome runs[RUNS_MAX];
    uint32_t count = 0;
    double cpu_s = 0;
    while (count < RUNS_MIN || (count < RUNS_MAX && cpu_s < RUNS_S)) {
        runs[count] = simulate_load(options, 1, REQUESTS);
        cpu_s += runs[count++].cpu_s;
    }
    qsort(runs, count, sizeof runs[0], by_cpu);
    const struct outcome *best = &runs[0];
    double simulated_s = (double)best->simulated / (double)PS_PER_S;
    (void)printf("engines=%u level=L%d requests_per_s=%.0f median=%.0f runs=%u host=%s costs=%s "
                 "prefix_caching=%d tok_per_s=%.0f events=%llu times_real_time=%.0f\n",
                 options->engines_count, (int)best->level, REQUESTS / best->cpu_s,
                 REQUESTS / runs[count / 2].cpu_s, count, options->host.name, costs,
                 options->engine.prefix_caching, (double)best->totals.output_tokens / best->cpu_s,
                 (unsigned long long)best->totals.events_count, simulated_s / best->cpu_s);
    (void)fflush(stdout);
    return best->totals.events_count;
}

/* The engine cores alone, at each level that is another one. */
static void measure_levels(uint32_t engines, bool prefix_caching)
{
    struct simulation_options options = system_of(engines, 1, "native");
    options.costs = simulation_costs_none();
    options.engine.prefix_caching = prefix_caching;
    int highest = prefix_caching ? SIMULATION_L1 : SIMULATION_L2;
    for (int level = SIMULATION_L0; level <= highest; level++) {
        options.level_max = (enum simulation_level)level;
        (void)measure(&options, "none");
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
    const struct simulation_source source = {.ctx = replay, .next = next_of_trace};
    struct simulation_options options = system_of(8, 1, "native");
    options.engine.max_model_len = 1U << 17;
    options.engine.prefix_caching = false;
    options.costs = costs;
    replay->next = 0;
    struct outcome o = run_to_end(&options, &source);
    double simulated_s = (double)o.simulated / (double)PS_PER_S;
    (void)printf("trace=mooncake engines=8 level=L%d costs=%s requests=%llu output_tokens=%llu "
                 "cpu_ms=%.0f events=%llu simulated_s=%.1f times_real_time=%.0f\n",
                 (int)o.level, name, (unsigned long long)o.totals.ended_count,
                 (unsigned long long)o.totals.output_tokens, o.cpu_s * 1e3,
                 (unsigned long long)o.totals.events_count, simulated_s, simulated_s / o.cpu_s);
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

/* ---- many requests, many cells ---- */

static void simulate_fleet(uint32_t engines, uint32_t api_servers, uint64_t requests_count)
{
    struct simulation_options options = system_of(engines, api_servers, "native");
    struct rusage usage;
    options.costs = simulation_costs_none();
    options.engine.prefix_caching = false;
    struct outcome o = simulate_load(&options, 1, requests_count);
    (void)getrusage(RUSAGE_SELF, &usage);
    (void)printf("engines=%u level=L%d requests_per_s=%.0f api_servers=%u costs=none "
                 "prefix_caching=0 requests=%llu cpu_s=%.1f memory_mib=%ld\n",
                 engines, (int)o.level, (double)requests_count / o.cpu_s, api_servers,
                 (unsigned long long)requests_count, o.cpu_s, usage.ru_maxrss / 1024);
}

struct sweep {
    atomic_int next;
    struct outcome outcomes[SWEEP_POINTS];
};

static void *sweep_points(void *ctx)
{
    struct sweep *sweep = ctx;
    for (int i = sweep->next++; i < SWEEP_POINTS; i = sweep->next++) {
        uint32_t cell = (uint32_t)(i / SWEEP_SEEDS);
        struct simulation_options options =
            system_of(1 + cell % SWEEP_SIDE, 1 + cell / SWEEP_SIDE, "native");
        options.costs = simulation_costs_none();
        options.engine.prefix_caching = false;
        sweep->outcomes[i] = simulate_load(&options, (uint64_t)(i % SWEEP_SEEDS), REQUESTS);
    }
    return NULL;
}

static void simulate_sweep(void)
{
    struct sweep *sweep = calloc(1, sizeof *sweep);
    pthread_t threads[SWEEP_THREADS];
    double cpu_s = 0;
    int64_t start = clock_now_ns();
    ASSERT(sweep != NULL);
    for (int i = 0; i < SWEEP_THREADS; i++) {
        ASSERT(pthread_create(&threads[i], NULL, sweep_points, sweep) == 0);
    }
    for (int i = 0; i < SWEEP_THREADS; i++) {
        (void)pthread_join(threads[i], NULL);
    }
    double wall_s = (double)(clock_now_ns() - start) / 1e9;
    for (int i = 0; i < SWEEP_POINTS; i++) {
        ASSERT(sweep->outcomes[i].totals.ended_count == REQUESTS);
        cpu_s += sweep->outcomes[i].cpu_s;
    }
    (void)printf("sweep cells=%d seeds=%d requests=%d threads=%d level=L%d costs=none "
                 "wall_s=%.2f cpu_s=%.2f\n",
                 SWEEP_SIDE * SWEEP_SIDE, SWEEP_SEEDS, REQUESTS, SWEEP_THREADS,
                 (int)sweep->outcomes[0].level, wall_s, cpu_s);
    free(sweep);
}

/* ---- the ceiling ---- */

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
    if (argc == 2 && strcmp(argv[1], "sweep") == 0) {
        simulate_sweep();
        return 0;
    }
    uint32_t engines = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : 8;
    uint32_t api_servers = argc > 2 ? (uint32_t)strtoul(argv[2], NULL, 10) : 1;
    uint64_t requests_count = argc > 3 ? strtoull(argv[3], NULL, 10) : REQUESTS;
    if (requests_count < 1 || engines < 1 || engines > SIMULATION_ENGINES_MAX || api_servers < 1 ||
        api_servers > SIMULATION_API_SERVERS_MAX) {
        (void)fprintf(stderr, "usage: bench sim [ENGINES [API_SERVERS [REQUESTS]]] | sweep\n");
        return 2;
    }
    if (argc > 3) {
        simulate_fleet(engines, api_servers, requests_count);
        return 0;
    }
    measure_levels(engines, false);
    measure_levels(engines, true);
    struct simulation_options whole = system_of(engines, api_servers, "native");
    whole.engine.prefix_caching = false;
    (void)measure(&whole, "default");
    whole.engine.prefix_caching = true;
    hold(5 * engines + api_servers + 2, measure(&whole, "default"));
    whole = system_of(engines, api_servers, "vllm-python");
    (void)measure(&whole, "default");
    simulate_trace();
    if (engines == 8) {
        simulate_sweep();
    }
    return 0;
}

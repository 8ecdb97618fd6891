/*
 * calibrate_setup.c - owns the set-ups of a calibration: which systems are run under which loads,
 * and what their threads counted in parts of the window (calibrate.h). Driven by calibrate.c.
 * Measures with measure.c as any run is measured; must not judge a run but by whether it came to
 * its end: a client that was the limit counts as well as one that was not.
 */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/clock.h"
#include "harness/run/calibrate.h"
#include "harness/run/measure.h"
#include "harness/run/system.h"

enum {
    WARMUP_MS = 400,
    WINDOW_MS = 5000,
    QUICK_WINDOW_MS = 1000,
    LOOK_NS = 250000000, /* a window of the regression */
    SCENARIO_BYTES = 2048,
};

#define START_STOP_S 0.6 /* about */

struct setup {
    const char *name;
    uint32_t api_servers;
    uint32_t engines;
    const char *model;
    uint32_t prompt;
    uint32_t output_lo;
    uint32_t output_hi;
    uint32_t users; /* 0: requests come at `rate`, and the system is idle between them */
    uint32_t rate_per_s;
    const char *publish_interval;
    int64_t api_request_ns; /* emulated time of a request, meanwhile messages queue up */
};

/*
 * In each of them something else prevails: requests, prompts, tokens in small and in large steps,
 * many tokens in one write, counts of engine cores, receivers of counts. A step of the small model
 * takes 0.5 ms, of the large one 6 ms.
 */
static const struct setup setups[] = {
    {"many requests", 1, 1, "qwen2.5-0.5b", 16, 2, 2, 16, 0, "100ms", 0},
    {"long prompts", 1, 1, "qwen2.5-0.5b", 2048, 2, 2, 4, 0, "100ms", 0},
    {"1 stream", 1, 1, "qwen2.5-0.5b", 32, 200, 400, 1, 0, "100ms", 0},
    {"8 streams", 1, 1, "qwen2.5-0.5b", 32, 128, 384, 8, 0, "100ms", 0},
    {"24 streams", 1, 1, "qwen2.5-0.5b", 32, 128, 384, 24, 0, "100ms", 0},
    {"64 streams, long steps", 1, 1, "llama-3.1-8b", 64, 64, 192, 64, 0, "100ms", 0},
    {"many tokens in a write", 1, 1, "qwen2.5-0.5b", 32, 32, 96, 16, 0, "100ms", 4000000},
    {"prompts and streams", 1, 1, "qwen2.5-0.5b", 512, 16, 48, 16, 0, "100ms", 0},
    {"2 engine cores", 1, 2, "llama-3.1-8b", 64, 32, 96, 32, 0, "100ms", 0},
    {"counts published often", 1, 2, "qwen2.5-0.5b", 16, 2, 6, 8, 0, "1ms", 0},
    {"4 API servers", 4, 2, "qwen2.5-0.5b", 16, 2, 6, 16, 0, "1ms", 0},
    {"4 engine cores", 1, 4, "llama-3.1-8b", 32, 64, 192, 48, 0, "100ms", 0},
    {"idle", 1, 1, "qwen2.5-0.5b", 32, 4, 8, 0, 50, "100ms", 0},
};

enum {
    SETUPS_COUNT = sizeof setups / sizeof setups[0]
};

uint32_t calibrate_setups_count(void)
{
    return SETUPS_COUNT;
}

const char *calibrate_setup_name(uint32_t index)
{
    return setups[index].name;
}

static uint32_t window_ms(const struct calibrate_options *o)
{
    return o->quick ? QUICK_WINDOW_MS : WINDOW_MS;
}

double calibrate_setup_s(const struct calibrate_options *options)
{
    return START_STOP_S + (WARMUP_MS + window_ms(options)) / 1e3;
}

/* ---- the scenario of a set-up ---- */

static void write_scenario(const struct setup *s, const struct calibrate_options *o,
                           char out[SCENARIO_BYTES])
{
    char load[128];
    if (s->users > 0) {
        (void)snprintf(load, sizeof load, "mode = closed\nusers = %u\n", s->users);
    } else {
        (void)snprintf(load, sizeof load, "mode = open\nrate = %u/s\ndrain = 1s\n", s->rate_per_s);
    }
    int bytes = snprintf(
        out, SCENARIO_BYTES,
        "[scenario]\nname = calibrate\nschema = 1\nseed = %" PRIu64 "\nrepeats = 1\ncooldown = 0s\n"
        "[server s]\ntopology = api_servers=%u dp=%u tp=1 pp=1\n"
        "device = emulated gpu=h100 model=%s\nhost_profile = native\nexecutor = multiproc\n"
        "wait = block\naccept = reuseport\nmax_num_seqs = 64\nmax_model_len = 4096\n"
        "publish_interval = %s\n"
        "[client]\nmax_cpu = 100%%\nmax_lag = p99 60s\n"
        "[workload w]\nprompt = %utok\noutput = uniform lo=%utok hi=%utok\n"
        "[load l]\n%swarmup = %ums\nmeasure = %ums\nmeasure_min_cycles = 0\nbatches = 4\n",
        o->seed, s->api_servers, s->engines, s->model, s->publish_interval, s->prompt, s->output_lo,
        s->output_hi, load, (uint32_t)WARMUP_MS, window_ms(o));
    ASSERT(bytes > 0 && bytes < SCENARIO_BYTES);
}

static enum status give_text(void *ctx, const char *path, char *buffer, size_t cap, size_t *bytes,
                             struct error *error)
{
    const char *text = ctx;
    *bytes = strlen(text);
    if (*bytes > cap) {
        return error_set(error, STATUS_FULL, "%s: too long", path);
    }
    memcpy(buffer, text, *bytes);
    return STATUS_OK;
}

static enum status open_scenario(char *text, struct scenario **out, struct error *error)
{
    struct scenario_environment environment = scenario_environment_system();
    struct scenario_problems *problems = calloc(1, sizeof *problems);
    environment.ctx = text;
    environment.load = give_text;
    ASSERT(problems != NULL);
    enum status status = scenario_open("calibrate", &environment, NULL, out, problems);
    if (status != STATUS_OK) {
        status = error_set(error, STATUS_INVALID, "%s", problems->text[0]);
    }
    free(problems);
    return status;
}

/* ---- counts ---- */

struct looks {
    struct calibrate_windows *out;
    uint32_t setup;
    int64_t at_ns;
    bool any;
    struct calibrate_window last; /* counts since the start */
};

static const struct proc_thread *find_thread(const struct proc_tree *tree, int32_t tid)
{
    for (size_t i = 0; i < tree->threads_count; i++) {
        if (tree->threads[i].tid == tid) {
            return &tree->threads[i];
        }
    }
    return NULL;
}

static void add_kernel_counts(const struct proc_thread *t, double *of)
{
    of[CALIBRATE_CPU_NS] += (double)t->cpu_ns;
    of[CALIBRATE_WAITS] += t->voluntary_count > 0 ? (double)t->voluntary_count : 0;
}

static void add_thread(const struct ledger_thread *t, double *of)
{
    of[CALIBRATE_IN] += (double)ledger_get(&t->messages_in_count);
    of[CALIBRATE_OUT] += (double)ledger_get(&t->messages_out_count);
    of[CALIBRATE_REQUESTS] += (double)ledger_get(&t->requests_count);
    of[CALIBRATE_PROMPT_TOKENS] += (double)ledger_get(&t->prompt_tokens);
    of[CALIBRATE_OUTPUT_TOKENS] += (double)ledger_get(&t->output_tokens);
    of[CALIBRATE_STEPS] += (double)ledger_get(&t->steps_count);
    of[CALIBRATE_SEQS] += (double)ledger_get(&t->step_seqs);
}

/* As the simulator charges them: what the clock shows of a launch includes other programs' time. */
static double launches_ns(const struct ledger_thread *t, const struct topology *topology)
{
    const struct gpu_shape *gpu = gpu_shape_find(topology->gpu);
    double kernels = model_step_kernels(model_shape_find(topology->model));
    double graph_ps = (double)gpu->graph_launch + (double)gpu->graph_node * kernels;
    double singles = (double)ledger_get(&t->launches_count[LAUNCH_CLASS_KERNEL]) +
                     (double)ledger_get(&t->launches_count[LAUNCH_CLASS_COPY]);
    double graphs = (double)ledger_get(&t->launches_count[LAUNCH_CLASS_GRAPH]);
    return (singles * (double)gpu->launch + graphs * graph_ps) / 1e3;
}

/* The kernel's counts of threads that the ledger does not know are nobody's here. */
static void add_system(const struct ledger *ledger, const struct proc_tree *tree,
                       struct calibrate_window *w)
{
    uint32_t count = ledger_threads_count(ledger);
    for (uint32_t i = 0; i < count; i++) {
        const struct ledger_thread *t = &ledger->threads[i];
        const struct proc_thread *seen = find_thread(tree, t->tid);
        if (t->kind < THREAD_KINDS_COUNT && seen != NULL) {
            add_kernel_counts(seen, w->of[t->kind]);
            add_thread(t, w->of[t->kind]);
            w->of[t->kind][CALIBRATE_LAUNCH_NS] += launches_ns(t, ledger->topology);
        }
    }
}

static void add_client(const struct load_header *h, const struct proc_tree *tree,
                       struct calibrate_window *w)
{
    double *of = w->of[CALIBRATE_CLIENT];
    for (size_t i = 0; i < tree->threads_count; i++) {
        add_kernel_counts(&tree->threads[i], of);
    }
    of[CALIBRATE_IN] = (double)load_get(&h->reads_count);
    of[CALIBRATE_OUT] = (double)load_get(&h->sent_count);
    of[CALIBRATE_OUTPUT_TOKENS] = (double)load_get(&h->tokens);
}

static bool count_all(const struct measure_look *look, struct calibrate_window *w)
{
    struct proc_tree system;
    struct proc_tree client;
    struct error error;
    if (proc_tree_read(look->system->launchers[0].pid, &system, &error) != STATUS_OK) {
        return false;
    }
    bool known = proc_tree_read(look->client_pid, &client, &error) == STATUS_OK;
    if (known) {
        add_system(&look->system->ledger, &system, w);
        add_client(look->client->header, &client, w);
        proc_tree_free(&client);
    }
    proc_tree_free(&system);
    return known;
}

static void add_window(struct looks *l, const struct calibrate_window *now)
{
    struct calibrate_windows *out = l->out;
    if (out->count == CALIBRATE_WINDOWS_MAX) {
        return;
    }
    struct calibrate_window *w = &out->rows[out->count++];
    *w = (struct calibrate_window){.api_servers_count = setups[l->setup].api_servers};
    for (int kind = 0; kind < CALIBRATE_KINDS; kind++) {
        for (int field = 0; field < CALIBRATE_FIELDS_COUNT; field++) {
            double growth = now->of[kind][field] - l->last.of[kind][field];
            w->of[kind][field] = growth > 0 ? growth : 0;
        }
    }
}

static void look(void *ctx, const struct measure_look *seen)
{
    struct looks *l = ctx;
    int64_t now_ns = clock_now_ns();
    struct calibrate_window now = {.api_servers_count = 0};
    if ((l->any && now_ns - l->at_ns < LOOK_NS) || !count_all(seen, &now)) {
        return;
    }
    if (l->any) {
        add_window(l, &now);
    }
    l->any = true;
    l->at_ns = now_ns;
    l->last = now;
}

/* ---- one set-up ---- */

/* Of requests that came one by one: from the API server's stamp to the engine core's. */
static void take_ipc(const struct run_result *r, const struct setup *setup,
                     struct calibrate_windows *out)
{
    double *ns = calloc((size_t)r->requests_rows_count + 1, sizeof *ns);
    size_t count = 0;
    ASSERT(ns != NULL);
    for (uint32_t i = 0; i < r->requests_rows_count; i++) {
        double us = r->requests[i].parts.us[PROBE_PART_IPC_IN];
        if (!isnan(us)) {
            ns[count++] = us * 1e3;
        }
    }
    stats_sort(ns, count);
    out->ipc_ns = stats_percentile_of(ns, count, (double)count, 0.5);
    out->ipc_prompt_tokens = setup->prompt;
    free(ns);
}

static enum status measure_setup(const struct calibrate_options *options, uint32_t index,
                                 struct scenario *scenario, struct calibrate_windows *out,
                                 struct error *error)
{
    const struct run_host host = {.client_ceiling_rps = STATS_UNKNOWN,
                                  .client_ceiling_tok_per_s = STATS_UNKNOWN};
    struct looks looks = {.out = out, .setup = index};
    const struct measure_options measure = {.scenario = scenario,
                                            .run = &scenario->runs[0],
                                            .log_fd = options->log_fd,
                                            .host = &host,
                                            .look = look,
                                            .ctx = &looks,
                                            .interrupted = options->interrupted};
    struct run_result result;
    enum status status = STATUS_OK;
    scenario->cells[0].topology.added.api_request_ns = setups[index].api_request_ns;
    measure_run(&measure, &result);
    if (result.outcome == RUN_INTERRUPTED) {
        status = error_set(error, STATUS_FULL, "interrupted");
    } else if (result.outcome == RUN_SERVER_FAILED || result.outcome == RUN_CLIENT_FAILED) {
        status =
            error_set(error, STATUS_DIED, "set-up '%s': %s", setups[index].name, result.reason);
    } else if (setups[index].users == 0) {
        take_ipc(&result, &setups[index], out);
    }
    out->others_cores = fmax(out->others_cores, result.others_cores_used);
    result_free(&result);
    return status;
}

enum status calibrate_setup_run(const struct calibrate_options *options, uint32_t index,
                                struct calibrate_windows *out, struct error *error)
{
    char text[SCENARIO_BYTES];
    struct scenario *scenario = NULL;
    write_scenario(&setups[index], options, text);
    TRY(open_scenario(text, &scenario, error));
    enum status status = measure_setup(options, index, scenario, out, error);
    scenario_close(scenario);
    return status;
}

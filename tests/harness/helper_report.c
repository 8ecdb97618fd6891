/*
 * helper_report.c - see helper_report.h. Serves only the tests of harness/report.
 */
#include "helper_report.h"

#include <dirent.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "helper_scenario.h"

const uint32_t sweep_servers[SWEEP_SERVERS] = {1, 2, 4};
const uint32_t sweep_cores[SWEEP_CORES] = {1, 2, 3, 4, 6, 8};
const double sweep_table[SWEEP_SERVERS][SWEEP_CORES] = {
    {6.6, 13.2, 19.1, 18.9, 18.6, 18.4},
    {6.6, 13.2, 19.9, 26.4, 37.5, 36.7},
    {6.6, 13.2, 19.9, 26.5, 39.7, 52.0},
};

static const char sweep_text[] = "[scenario]\n"
                                 "name = fake_sweep\n"
                                 "question = Where do extra engine cores stop helping?\n"
                                 "repeats = 2\n"
                                 "[server s]\n"
                                 "topology = api_servers=%{api_servers} dp=%{dp} tp=1\n"
                                 "host_profile = vllm-python\n"
                                 "max_num_seqs = 40\n"
                                 "[workload w]\n"
                                 "prompt = 128tok\n"
                                 "output = uniform lo=128tok hi=384tok\n"
                                 "[load l]\n"
                                 "users = 80 * %{dp}\n"
                                 "warmup = 1500ms\n"
                                 "measure = 4s\n"
                                 "[sweep]\n"
                                 "axis.api_servers = 1,2,4\n"
                                 "axis.dp = 1,2,3,4,6,8\n"
                                 "[scaling]\n"
                                 "along = dp\n";

static void *allocate(size_t count, size_t bytes)
{
    void *memory = calloc(count, bytes);
    if (memory == NULL) {
        abort();
    }
    return memory;
}

/* In tokens/s, from the table or, outside of it, by the same rule. */
static double rate_of(uint32_t servers, uint32_t cores)
{
    for (uint32_t a = 0; a < SWEEP_SERVERS; a++) {
        for (uint32_t d = 0; d < SWEEP_CORES; d++) {
            if (sweep_servers[a] == servers && sweep_cores[d] == cores) {
                return sweep_table[a][d] * 1e3;
            }
        }
    }
    return fmin(6600.0 * cores, 19000.0 * servers);
}

static void add_stage(struct run_result *r, const char *stage, const char *instance, double use)
{
    struct run_stage *s = &r->stages[r->stages_count++];
    *s = (struct run_stage){.use_frac = use,
                            .busy_frac = use,
                            .cpu_frac = use / 4,
                            .occupancy_frac = use,
                            .runq_wait_frac = 0.01,
                            .queue_max_count = 3,
                            .service_us_per_req = 100,
                            .service_us_per_tok = 1,
                            .messages_per_s = 10,
                            .source = "ledger"};
    (void)snprintf(s->stage, sizeof s->stage, "%s", stage);
    (void)snprintf(s->instance, sizeof s->instance, "%s", instance);
}

static void add_stages(struct run_result *r, double rate)
{
    struct stage_use uses[256];
    struct stage_summary summaries[STAGES_MAX];
    char name[32];
    uint32_t servers = r->cell->topology.api_servers_count;
    uint32_t cores = r->cell->topology.engines_count;
    r->stages = allocate(servers + 3 * cores + 1, sizeof *r->stages);
    for (uint32_t i = 0; i < servers; i++) {
        (void)snprintf(name, sizeof name, "ApiServer_%u", i);
        add_stage(r, "api_server", name, fmin(0.98, rate / (19200.0 * servers)));
    }
    for (uint32_t i = 0; i < cores; i++) {
        (void)snprintf(name, sizeof name, "EngineCore_DP%u", i);
        add_stage(r, "scheduler", name, 0.30 * rate / (6600.0 * cores));
        (void)snprintf(name, sizeof name, "EngineCore_DP%u in", i);
        add_stage(r, "ipc", name, 0.05);
        (void)snprintf(name, sizeof name, "gpu %u.0", i);
        add_stage(r, "gpu", name, 0.97 * rate / (6620.0 * cores));
    }
    for (uint32_t i = 0; i < r->stages_count && i < 256; i++) {
        uses[i] = (struct stage_use){.stage = r->stages[i].stage,
                                     .busy_frac = r->stages[i].busy_frac,
                                     .cpu_frac = r->stages[i].cpu_frac,
                                     .occupancy_frac = r->stages[i].occupancy_frac};
    }
    size_t count = stages_summarise(uses, r->stages_count, summaries);
    stages_limiting(summaries, count, &r->verdict);
}

static void add_threads(struct run_result *r, double rate)
{
    uint32_t cores = r->cell->topology.engines_count;
    r->launchers = allocate(cores, sizeof *r->launchers);
    r->engines = allocate(cores, sizeof *r->engines);
    r->engine_tok_per_s = allocate(cores, sizeof *r->engine_tok_per_s);
    for (uint32_t i = 0; i < cores; i++) {
        struct probe_rates t = {
            .kind = cores > 1 ? THREAD_WORKER_MAIN : THREAD_ENGINE_MAIN,
            .stage = "launch",
            .instance = i,
            .pid = 100 + (int32_t)i,
            .tid = 100 + (int32_t)i,
            .wall_s = 4,
            .cpu_frac = 0.12,
            .steps_per_s = rate / cores / 29,
            .batch_mean = 29,
            .step_mean_us = 4400,
            .prepare_frac = 0.03,
            .launch_frac = 0.02,
            .queue_full_frac = 0.0,
            .sync_wait_frac = 0.60,
            .idle_frac = 0.25,
            .gpu_busy_frac = 0.97,
            .gpu_idle_frac = 0.01,
            .gpu_absent_frac = 0.02,
            .output_wait_frac = cores > 1 ? 0.93 : STATS_UNKNOWN,
        };
        t.launches_per_s[LAUNCH_CLASS_GRAPH] = t.steps_per_s;
        t.launches_per_s[LAUNCH_CLASS_KERNEL] = t.steps_per_s / 10;
        r->launchers[r->launchers_count++] = t;
        t.kind = THREAD_ENGINE_MAIN;
        r->engines[r->engines_count++] = t;
        r->engine_tok_per_s[r->ranks_count++] = rate / cores;
    }
    for (int k = 0; k < THREAD_KINDS_COUNT; k++) {
        uint32_t expected = proc_expected_threads(&r->cell->topology, (enum ledger_thread_kind)k);
        r->threads[k] = (struct proc_thread_row){
            ledger_thread_kind_name((enum ledger_thread_kind)k), expected, expected, expected};
    }
    r->threads[THREAD_KINDS_COUNT] =
        (struct proc_thread_row){"processes", topology_processes(&r->cell->topology), -1,
                                 topology_processes(&r->cell->topology)};
    r->threads[THREAD_KINDS_COUNT + 1] = (struct proc_thread_row){"launching", cores, cores, -1};
    r->threads[THREAD_KINDS_COUNT + 2] = (struct proc_thread_row){"library", -1, -1, 2};
    r->threads_known = true;
}

static void add_seconds(struct run_result *r, double rate)
{
    r->seconds = allocate(6, sizeof *r->seconds);
    r->seconds_count = 6;
    for (uint32_t i = 0; i < 6; i++) {
        r->seconds[i] = (struct run_second){.at_s = i + 1,
                                            .offered_per_s = rate / 256,
                                            .sent_per_s = rate / 256,
                                            .done_per_s = i == 0 ? 0 : rate / 256,
                                            .output_tok_per_s = i == 0 ? rate / 2 : rate,
                                            .inflight = r->users_count,
                                            .phase = i < 2 ? "warmup" : "window"};
    }
}

static void blank(struct run_result *r)
{
    struct run_latency none = {STATS_UNKNOWN, STATS_UNKNOWN, STATS_UNKNOWN,
                               STATS_UNKNOWN, STATS_UNKNOWN, STATS_UNKNOWN,
                               STATS_UNKNOWN, STATS_UNKNOWN, STATS_UNKNOWN};
    for (int i = 0; i < RUN_METRICS_COUNT; i++) {
        r->latency[i] = none;
    }
    r->offered_rps = STATS_UNKNOWN;
    r->achieved_ratio_lo = STATS_UNKNOWN;
    r->achieved_ratio_hi = STATS_UNKNOWN;
    r->backlog_slope_per_s = STATS_UNKNOWN;
    r->n_eff_frac = STATS_UNKNOWN;
    r->steady_flag = 1;
    r->stall_max_p99_ms = STATS_UNKNOWN;
    r->lag_p50_ms = STATS_UNKNOWN;
    r->lag_p99_ms = STATS_UNKNOWN;
    r->lag_max_ms = STATS_UNKNOWN;
    r->client_ceiling_frac = STATS_UNKNOWN;
    r->token_basis = "usage";
}

static void fill(struct run_result *r, const struct scenario *scenario, uint32_t index)
{
    const struct scenario_run *run = &scenario->runs[index];
    const struct scenario_cell *cell = &scenario->cells[run->cell];
    /* Half a percent of noise, the same in every run of the test. */
    double noise = 1 + 0.005 * sin(12.9898 * (double)(index + 1));
    double rate = rate_of(cell->topology.api_servers_count, cell->topology.engines_count) * noise;
    double batches[8];
    *r = (struct run_result){.cell = cell,
                             .order_index = index,
                             .replicate = run->replicate,
                             .seed = run->seed,
                             .outcome = RUN_OK,
                             .warmup_s = 1.5,
                             .window_s = 4,
                             .users_count = cell->load.users_count,
                             .prompt_tok_per_s = rate / 2,
                             .requests_count = 400,
                             .ok_count = 300,
                             .censored_count = 100,
                             .sent_rps = rate / 256,
                             .achieved_rps = rate / 256,
                             .inflight_mean = cell->load.users_count,
                             .inflight_max = cell->load.users_count,
                             .client_cpu_frac = 0.2,
                             .rank_jain = 1,
                             .rank_steps_per_tok = 1.0 / 29,
                             .dp_imbalance_frac = 0.01,
                             .launch_busy_frac = 0.05,
                             .gpu_busy_frac = 0.9,
                             .gpu_starved_frac = 0.01,
                             .host_cores_used = 0.2 * cell->topology.engines_count,
                             .others_cores_used = 0.02};
    blank(r);
    for (int i = 0; i < 8; i++) {
        batches[i] = rate * (1 + 0.01 * sin(78.233 * (double)(index * 8 + (uint32_t)i)));
    }
    r->output_tok_per_s = stats_mean_of(batches, 8);
    for (uint32_t i = 0; i < LOAD_API_SERVERS_MAX; i++) {
        uint32_t servers = cell->topology.api_servers_count;
        r->api_tok_per_s[i] = i < servers ? rate / servers : STATS_UNKNOWN;
    }
    (void)snprintf(r->run_id, sizeof r->run_id, "r%04u", index);
    (void)snprintf(r->start_utc, sizeof r->start_utc, "2026-11-22T10:00:00Z");
    add_stages(r, rate);
    add_threads(r, rate);
    add_seconds(r, rate);
    for (int i = 0; i < PROBE_PARTS_COUNT; i++) {
        r->hops.mean_ms[i] = 0.5 * (i + 1);
    }
    r->hops.requests_count = 300;
    r->hops.residual_max_ms = 0.001;
}

struct sweep sweep_of(const char *scenario_text)
{
    struct sweep s = {.count = 0};
    struct scenario_problems problems;
    if (memory_open(scenario_text, NULL, &s.scenario, &problems) != STATUS_OK) {
        (void)fprintf(stderr, "%s\n", problems.text[0]);
        abort();
    }
    s.host = (struct run_host){.host = {.cores_count = 2,
                                        .usable_cores = 2,
                                        .cpu_model = "Some CPU, \"fast\"",
                                        .kernel = "6.1",
                                        .hostname = "testhost"},
                               .git_rev = "abc123",
                               .config_hash = "0123456789abcdef",
                               .started_utc = "2026-11-22T10:00:00Z",
                               .command = "harness run fake.ini",
                               .client_ceiling_rps = STATS_UNKNOWN};
    s.count = s.scenario->runs_count;
    s.results = allocate(s.count, sizeof *s.results);
    for (uint32_t i = 0; i < s.count; i++) {
        fill(&s.results[i], s.scenario, i);
    }
    return s;
}

struct sweep sweep_make(void)
{
    return sweep_of(sweep_text);
}

void sweep_fail(struct run_result *r, enum run_outcome outcome, const char *reason)
{
    result_free(r);
    r->outcome = outcome;
    r->output_tok_per_s = stats_mean_of(NULL, 0);
    r->window_s = 0;
    r->requests_count = 0;
    r->ok_count = 0;
    r->censored_count = 0;
    r->threads_known = false;
    r->hops.requests_count = 0;
    r->gpu_busy_frac = STATS_UNKNOWN;
    stages_limiting(NULL, 0, &r->verdict);
    (void)snprintf(r->reason, sizeof r->reason, "%s", reason);
}

void sweep_free(struct sweep *s)
{
    for (uint32_t i = 0; i < s->count; i++) {
        result_free(&s->results[i]);
    }
    free(s->results);
    scenario_close(s->scenario);
}

void folder_make(char out[256])
{
    const char *base = getenv("TMPDIR");
    (void)snprintf(out, 256, "%s/harness-report-XXXXXX", base != NULL ? base : "/tmp");
    if (mkdtemp(out) == NULL) {
        abort();
    }
}

void folder_remove(const char *folder)
{
    DIR *directory = opendir(folder);
    const struct dirent *entry = NULL;
    char path[768];
    while (directory != NULL && (entry = readdir(directory)) != NULL) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) {
            continue;
        }
        (void)snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        if (unlink(path) != 0) {
            folder_remove(path);
        }
    }
    if (directory != NULL) {
        (void)closedir(directory);
    }
    (void)rmdir(folder);
}

char *file_text(const char *folder, const char *name)
{
    char path[768];
    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        return NULL;
    }
    size_t cap = 1 << 20;
    char *text = allocate(cap, 1);
    size_t bytes = fread(text, 1, cap - 1, file);
    text[bytes] = '\0';
    (void)fclose(file);
    return text;
}

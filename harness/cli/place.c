/*
 * place.c - where the results of a session go, and what is said of the machine and the program
 * that make them (place.h). Driven by the command that runs scenarios.
 */
#include "harness/cli/place.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "engine/base/hash.h"
#include "harness/run/child.h"

static void utc_now(struct tm *utc)
{
    time_t now = (time_t)(clock_wall_ns() / 1000000000);
    (void)gmtime_r(&now, utc);
}

static uint64_t hash_cells(const struct scenario *s)
{
    uint64_t hash = 0;
    for (uint32_t i = 0; i < s->cells_count; i++) {
        hash = hash64(&s->cells[i].topology, sizeof s->cells[i].topology, hash);
        hash = hash64(&s->cells[i].load, sizeof s->cells[i].load, hash);
        hash = hash64(&s->cells[i].workload, sizeof s->cells[i].workload, hash);
        if (s->cells[i].simulation.calibration != NULL) {
            const struct simulation_costs *costs = &s->cells[i].simulation.calibration->costs;
            hash = hash64(costs, sizeof *costs, hash);
        }
        if (s->cells[i].foreign.kind != SCENARIO_SERVER_OWN) {
            hash = hash64(&s->cells[i].foreign, sizeof s->cells[i].foreign, hash);
        }
    }
    return hash;
}

void place_describe(const struct scenario *scenario, const char *command_line, struct run_host *out)
{
    struct error error;
    *out = (struct run_host){.client_ceiling_rps = STATS_UNKNOWN,
                             .client_ceiling_tok_per_s = STATS_UNKNOWN};
    if (proc_host_read(&out->host, &error) != STATUS_OK) {
        out->host = (struct proc_host){.cores_count = 0};
    }
    (void)snprintf(out->git_rev, sizeof out->git_rev, "%s", place_revision());
    struct tm utc;
    utc_now(&utc);
    (void)strftime(out->started_utc, sizeof out->started_utc, "%Y-%m-%dT%H:%M:%SZ", &utc);
    (void)snprintf(out->command, sizeof out->command, "%s", command_line);
    (void)snprintf(out->config_hash, sizeof out->config_hash, "%016llx",
                   (unsigned long long)hash_cells(scenario));
}

const char *place_revision(void)
{
    return HARNESS_REVISION;
}

void place_machine(struct calibration_machine *out)
{
    struct proc_host host;
    struct error error;
    if (proc_host_read(&host, &error) != STATUS_OK) {
        host = (struct proc_host){.cores_count = 0};
    }
    *out = (struct calibration_machine){.cores_count = host.cores_count, .device = "emulated"};
    (void)snprintf(out->cpu_model, sizeof out->cpu_model, "%s", host.cpu_model);
    (void)snprintf(out->kernel, sizeof out->kernel, "%s", host.kernel);
    (void)snprintf(out->governor, sizeof out->governor, "%s", host.governor);
    (void)snprintf(out->compiler, sizeof out->compiler, "%s", __VERSION__);
}

void place_choose_folder(const char *asked, const char *scenario, char out[PLACE_PATH_BYTES])
{
    if (asked[0] != '\0') {
        (void)snprintf(out, PLACE_PATH_BYTES, "%s", asked);
        return;
    }
    char stamp[32];
    struct tm utc;
    utc_now(&utc);
    (void)strftime(stamp, sizeof stamp, "%Y%m%dT%H%M%SZ", &utc);
    (void)mkdir("results", 0777);
    (void)snprintf(out, PLACE_PATH_BYTES, "results/%s-%s", scenario, stamp);
}

void place_find_plots(char out[PLACE_PATH_BYTES])
{
    static const char *const places[] = {"../../../plots", "../share/harness/plots", "../plots"};
    char folder[PLACE_PATH_BYTES - 64];
    const char *named = getenv("HARNESS_PLOTS"); // NOLINT(concurrency-mt-unsafe): one thread
    child_program_folder(folder, sizeof folder);
    if (named != NULL) {
        (void)snprintf(out, PLACE_PATH_BYTES, "%s", named);
        return;
    }
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        (void)snprintf(out, PLACE_PATH_BYTES, "%s/%s", folder, places[i]);
        if (access(out, R_OK) == 0) {
            return;
        }
    }
    (void)snprintf(out, PLACE_PATH_BYTES, "plots");
}

int place_open_log(const char *folder)
{
    char path[PLACE_PATH_BYTES + 16];
    (void)snprintf(path, sizeof path, "%s/system.log", folder);
    return open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
}

void place_raise_descriptor_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
}

bool place_has_rows(const char *folder)
{
    char path[PLACE_PATH_BYTES + 16];
    int lines = 0;
    (void)snprintf(path, sizeof path, "%s/runs.csv", folder);
    FILE *file = fopen(path, "re");
    for (int c = file != NULL ? fgetc(file) : EOF; c != EOF; c = fgetc(file)) {
        lines += c == '\n' ? 1 : 0;
    }
    if (file != NULL) {
        (void)fclose(file);
    }
    return lines > 1;
}

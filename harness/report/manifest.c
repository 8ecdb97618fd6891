/*
 * manifest.c - writes manifest.json with json-c (manifest.h).
 */
#include "harness/report/manifest.h"

#include <csv.h>
#include <errno.h>
#include <json-c/json.h>
#include <json-c/json_c_version.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "engine/base/clock.h"
#include "engine/base/hash.h"
#include "harness/report/rows.h"
#include "harness/report/simulated.h"
#include "harness/scenario/calibration.h"

enum {
    PATH_BYTES = 640
};

static void put_text(struct json_object *to, const char *key, const char *text)
{
    (void)json_object_object_add(to, key, json_object_new_string(text));
}

static void put_count(struct json_object *to, const char *key, uint64_t value)
{
    (void)json_object_object_add(to, key, json_object_new_uint64(value));
}

static void put_flag(struct json_object *to, const char *key, bool value)
{
    (void)json_object_object_add(to, key, json_object_new_boolean(value));
}

/* null for NAN: JSON has no other word for it. */
static void put_number(struct json_object *to, const char *key, double value)
{
    (void)json_object_object_add(to, key, isfinite(value) ? json_object_new_double(value) : NULL);
}

static struct json_object *host_object(const struct run_host *h)
{
    struct json_object *o = json_object_new_object();
    struct json_object *load = json_object_new_array();
    put_text(o, "hostname", h->host.hostname);
    put_text(o, "cpu_model", h->host.cpu_model);
    put_text(o, "kernel", h->host.kernel);
    put_text(o, "governor", h->host.governor);
    put_count(o, "cores_count", h->host.cores_count);
    put_number(o, "usable_cores", h->host.usable_cores);
    put_count(o, "memory_bytes", h->host.memory_bytes);
    put_count(o, "memory_available_bytes", h->host.memory_available_bytes);
    for (size_t i = 0; i < 3; i++) {
        (void)json_object_array_add(load, json_object_new_double(h->host.load[i]));
    }
    (void)json_object_object_add(o, "load_average", load);
    put_number(o, "client_ceiling_rps", h->client_ceiling_rps);
    return o;
}

static struct json_object *versions_object(void)
{
    struct json_object *o = json_object_new_object();
    char text[32];
    (void)snprintf(text, sizeof text, "%d.%d.%d", CSV_MAJOR, CSV_MINOR, CSV_RELEASE);
    put_text(o, "libcsv", text);
    put_text(o, "json_c", json_c_version());
    put_text(o, "compiler", __VERSION__);
    put_count(o, "runs_csv_schema", ROWS_SCHEMA);
    return o;
}

static struct json_object *runs_array(const struct manifest *m)
{
    struct json_object *runs = json_object_new_array();
    for (uint32_t i = 0; i < m->results_count; i++) {
        const struct run_result *r = &m->results[i];
        struct json_object *o = json_object_new_object();
        put_text(o, "run_id", r->run_id);
        put_text(o, "cell", r->cell->name);
        put_count(o, "replicate", r->replicate);
        put_count(o, "seed", r->seed);
        put_text(o, "start_utc", r->start_utc);
        put_text(o, "mode", r->simulated ? "simulated" : "measured");
        put_text(o, "outcome", rows_outcome_name(r->outcome));
        put_text(o, "reason", r->reason);
        (void)json_object_array_add(runs, o);
    }
    return runs;
}

/* By cell, for those that pin anything: "system:0-1 client:2". */
static struct json_object *pins_object(const struct scenario *s)
{
    struct json_object *pins = json_object_new_object();
    for (uint32_t i = 0; i < s->cells_count; i++) {
        char *text = NULL;
        size_t bytes = 0;
        FILE *file = open_memstream(&text, &bytes);
        if (file != NULL) {
            scenario_write_pins(&s->cells[i], file);
            (void)fclose(file);
            if (bytes > 1) {
                put_text(pins, s->cells[i].name, text + 1);
            }
            free(text);
        }
    }
    return pins;
}

/* The resolved scenario, with the origin of each value. */
static void put_scenario(struct json_object *to, const struct scenario *s)
{
    char *text = NULL;
    size_t bytes = 0;
    put_text(to, "scenario", s->general.name);
    put_text(to, "question", s->general.question);
    FILE *file = open_memstream(&text, &bytes);
    if (file != NULL) {
        scenario_write(s, file);
        (void)fclose(file);
        put_text(to, "config", text);
        free(text);
    }
}

static void put_now(struct json_object *to, const char *key)
{
    char text[32];
    time_t now = (time_t)(clock_wall_ns() / 1000000000);
    struct tm utc;
    (void)gmtime_r(&now, &utc);
    (void)strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &utc);
    put_text(to, key, text);
}

/* What simulated runs took for granted; the hash changes with any constant. */
static struct json_object *simulation_object(const struct scenario_simulation *s)
{
    const struct simulation_costs costs = simulated_costs(s);
    struct json_object *o = json_object_new_object();
    char hash[24];
    (void)snprintf(hash, sizeof hash, "%016llx",
                   (unsigned long long)hash64(&costs, sizeof costs, 0));
    put_text(o, "costs", simulated_costs_name(s));
    put_text(o, "costs_hash", hash);
    if (s->calibration != NULL) {
        put_text(o, "costs_date", s->calibration->date);
        put_text(o, "costs_revision", s->calibration->revision);
        put_text(o, "costs_cpu_model", s->calibration->machine.cpu_model);
    }
    put_count(o, "cores_count", s->cores_count);
    return o;
}

static struct json_object *manifest_object(const struct manifest *m)
{
    static const char *const modes[] = {"measure", "simulate", "both"};
    struct json_object *o = json_object_new_object();
    put_count(o, "schema", ROWS_SCHEMA);
    put_flag(o, "complete", m->complete);
    put_flag(o, "interrupted", m->interrupted);
    put_scenario(o, m->scenario);
    put_text(o, "config_hash", m->host->config_hash);
    put_text(o, "command", m->host->command);
    put_text(o, "git_rev", m->host->git_rev);
    put_text(o, "started_utc", m->host->started_utc);
    if (m->conclusion != NULL) {
        put_now(o, "ended_utc");
        put_text(o, "verdict", m->conclusion->verdict);
        put_text(o, "caveat", m->conclusion->caveat);
        put_flag(o, "undecided", m->conclusion->undecided);
        put_count(o, "figures_count", m->conclusion->figures_count);
    }
    put_count(o, "planned_runs_count", m->scenario->runs_count);
    put_count(o, "runs_count", m->results_count);
    put_text(o, "mode", modes[m->scenario->general.mode]);
    if (m->scenario->general.mode != (uint32_t)SCENARIO_MEASURE && m->scenario->cells_count > 0) {
        (void)json_object_object_add(o, "simulation",
                                     simulation_object(&m->scenario->cells[0].simulation));
    }
    (void)json_object_object_add(o, "host", host_object(m->host));
    (void)json_object_object_add(o, "versions", versions_object());
    (void)json_object_object_add(o, "pins", pins_object(m->scenario));
    (void)json_object_object_add(o, "runs", runs_array(m));
    return o;
}

static bool write_text(const char *path, const char *text)
{
    FILE *file = fopen(path, "we");
    if (file == NULL) {
        return false;
    }
    bool good = fputs(text, file) >= 0 && fputc('\n', file) != EOF && fflush(file) == 0;
    int why = errno;
    bool closed = fclose(file) == 0;
    errno = good ? errno : why;
    return good && closed;
}

enum status manifest_write(const struct manifest *m, struct error *error)
{
    char path[PATH_BYTES];
    char fresh[PATH_BYTES];
    (void)snprintf(path, sizeof path, "%s/manifest.json", m->folder);
    (void)snprintf(fresh, sizeof fresh, "%s/manifest.json.new", m->folder);
    struct json_object *o = manifest_object(m);
    const char *text = json_object_to_json_string_ext(
        o, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED | JSON_C_TO_STRING_NOSLASHESCAPE);
    bool good = text != NULL && write_text(fresh, text) && rename(fresh, path) == 0;
    int why = errno;
    (void)json_object_put(o);
    return good ? STATUS_OK
                : error_set(error, STATUS_IO, "%s: cannot be written: %s", path, strerror(why));
}

void manifest_scenario(const char *folder, char out[SCENARIO_NAME_BYTES])
{
    char path[PATH_BYTES];
    struct json_object *name = NULL;
    (void)snprintf(path, sizeof path, "%s/manifest.json", folder);
    struct json_object *o = json_object_from_file(path);
    out[0] = '\0';
    if (json_object_object_get_ex(o, "scenario", &name) != 0 &&
        json_object_is_type(name, json_type_string) != 0) {
        (void)snprintf(out, SCENARIO_NAME_BYTES, "%s", json_object_get_string(name));
    }
    (void)json_object_put(o);
}

bool manifest_interrupted(const char *folder)
{
    char path[PATH_BYTES];
    struct json_object *flag = NULL;
    struct json_object *verdict = NULL;
    (void)snprintf(path, sizeof path, "%s/manifest.json", folder);
    struct json_object *o = json_object_from_file(path);
    bool ended = json_object_object_get_ex(o, "verdict", &verdict) != 0;
    bool interrupted = json_object_object_get_ex(o, "interrupted", &flag) != 0 &&
                       json_object_get_boolean(flag) != 0;
    (void)json_object_put(o);
    return !ended || interrupted;
}

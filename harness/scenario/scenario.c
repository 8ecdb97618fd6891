/*
 * scenario.c - owns a scenario's life: text, settings, cells, in this order, in one arena; and
 * writes it back out. Driven by the commands. Must not print but to a FILE that the caller gives,
 * and reads files through the environment only.
 */
#include "harness/scenario/scenario.h"

#include <errno.h>
#include <glob.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "harness/scenario/calibration.h"
#include "harness/scenario/cell.h"

/* ---- the environment of a real run ---- */

static enum status load_file(void *ctx, const char *path, char *buffer, size_t cap, size_t *bytes,
                             struct error *error)
{
    (void)ctx;
    errno = 0;
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        return error_set(error, errno == ENOENT ? STATUS_NOT_FOUND : STATUS_IO, "%s",
                         strerror(errno));
    }
    size_t got = fread(buffer, 1, cap, file);
    bool failed = ferror(file) != 0;
    int reason = errno;
    bool more = !failed && got == cap && fgetc(file) != EOF;
    (void)fclose(file);
    if (failed) {
        return error_set(error, STATUS_IO, "%s", strerror(reason));
    }
    if (more) {
        return error_set(error, STATUS_FULL, "the file is larger than %zu KiB", cap >> 10);
    }
    *bytes = got;
    return STATUS_OK;
}

static const char *environment_variable(void *ctx, const char *name)
{
    (void)ctx;
    return getenv(name);
}

static struct topology_cpus usable_cpus(void)
{
    struct topology_cpus cpus = {{0}};
    cpu_set_t set;
    CPU_ZERO(&set);
    if (sched_getaffinity(0, sizeof set, &set) == 0) {
        for (uint32_t i = 0; i < TOPOLOGY_CPUS_MAX; i++) {
            if (CPU_ISSET(i, &set)) {
                topology_cpus_add(&cpus, i);
            }
        }
    }
    return cpus;
}

static uint32_t cpus_count(void)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    if (sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) > 0) {
        return (uint32_t)CPU_COUNT(&set);
    }
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    return online > 0 ? (uint32_t)online : 1;
}

static uint32_t gpus_count(void)
{
    glob_t found;
    uint32_t count = 0;
    if (glob("/dev/nvidia[0-9]*", 0, NULL, &found) == 0) {
        count = (uint32_t)found.gl_pathc;
        globfree(&found);
    }
    return count;
}

struct scenario_environment scenario_environment_system(void)
{
    return (struct scenario_environment){.load = load_file,
                                         .variable = environment_variable,
                                         .cpus_count = cpus_count(),
                                         .gpus_count = gpus_count(),
                                         .cpus = usable_cpus()};
}

/* ---- open and close ---- */

static size_t arena_bytes(uint32_t sets_count)
{
    return ARENA_BYTES(1, struct source) + source_arena_bytes() + settings_arena_bytes(sets_count) +
           cell_arena_bytes() + ARENA_BYTES(SCENARIO_CALIBRATIONS_MAX, struct calibration);
}

/* A path in a file is from that file's folder; one of the command line from where that was given.
 */
static void path_of_costs(const char *file, const struct setting *item,
                          char out[SCENARIO_TEXT_BYTES])
{
    const char *base = item != NULL && item->origin.line > 0 ? item->origin.file : "";
    const char *slash = strrchr(base, '/');
    int folder_bytes = slash != NULL && file[0] != '/' ? (int)(slash - base) + 1 : 0;
    int bytes = snprintf(out, SCENARIO_TEXT_BYTES, "%.*s%s", folder_bytes, base, file);
    if (bytes >= SCENARIO_TEXT_BYTES) {
        out[0] = '\0'; /* no file has this name */
    }
}

/* The calibration of one cell, read if none before it had the same. */
static const struct calibration *calibration_of(struct scenario *s, const char *file,
                                                const struct scenario_environment *environment,
                                                struct scenario_problems *problems)
{
    struct settings_section *section = settings_find(s->settings, "simulation", "");
    const struct setting *item = settings_item(section, "costs");
    char path[SCENARIO_TEXT_BYTES];
    path_of_costs(file, item, path);
    for (uint32_t i = 0; i < s->calibrations_count; i++) {
        if (strcmp(s->calibrations[i].path, path) == 0) {
            return &s->calibrations[i];
        }
    }
    if (s->calibrations_count == SCENARIO_CALIBRATIONS_MAX) {
        problems_add(problems, item->origin, "costs: more than %d calibrations",
                     SCENARIO_CALIBRATIONS_MAX);
        return NULL;
    }
    /* One with mistakes is kept, too: they are told once, not for each cell. */
    struct calibration *c = &s->calibrations[s->calibrations_count++];
    return calibration_read(path, environment, c, problems) == STATUS_OK ? c : NULL;
}

static void read_calibrations(struct scenario *s, const struct scenario_environment *environment,
                              struct scenario_problems *problems)
{
    s->calibrations = ARENA_NEW(&s->settings->arena, struct calibration, SCENARIO_CALIBRATIONS_MAX);
    for (uint32_t i = 0; i < s->cells_count && !environment->recorded; i++) {
        struct scenario_simulation *simulation = &s->cells[i].simulation;
        if (simulation->costs == (uint32_t)SCENARIO_COSTS_FILE) {
            simulation->calibration =
                calibration_of(s, simulation->costs_file, environment, problems);
        }
    }
}

enum status scenario_open(const char *path, const struct scenario_environment *environment,
                          const struct scenario_options *options, struct scenario **out,
                          struct scenario_problems *problems)
{
    static const struct scenario_options no_options = {.quick = false};
    const struct scenario_options *o = options != NULL ? options : &no_options;
    struct error error = {.status = STATUS_OK};
    struct scenario *scenario = calloc(1, sizeof *scenario);
    struct scenario_settings *settings = calloc(1, sizeof *settings);

    *problems = (struct scenario_problems){.count = 0};
    if (scenario == NULL || settings == NULL ||
        arena_create(arena_bytes(o->sets_count), &settings->arena, &error) != STATUS_OK) {
        problems_add(problems, (struct scenario_origin){.file = path}, "%s",
                     status_text(STATUS_NOMEM));
        free(settings);
        free(scenario);
        return STATUS_NOMEM;
    }
    scenario->settings = settings;
    settings->path = path;
    settings->machine = (struct value_machine){.cpus_count = environment->cpus_count,
                                               .gpus_count = environment->gpus_count,
                                               .cpus = environment->cpus};
    struct source *source = ARENA_NEW(&settings->arena, struct source, 1);
    source_read(source, path, environment, &settings->arena, problems);
    if (source->sections_count > 0 || problems->count == 0) {
        settings_resolve(settings, source, environment, o, problems);
        cell_expand(scenario, o, problems);
        read_calibrations(scenario, environment, problems);
    }
    if (problems->count > 0) {
        scenario_close(scenario);
        return STATUS_INVALID;
    }
    *out = scenario;
    return STATUS_OK;
}

void scenario_close(struct scenario *scenario)
{
    if (scenario == NULL) {
        return;
    }
    arena_destroy(&scenario->settings->arena);
    free(scenario->settings);
    free(scenario);
}

/* ---- questions about an open scenario ---- */

int64_t scenario_run_ns(const struct scenario *scenario, const struct scenario_cell *cell)
{
    const struct scenario_load *load = &cell->load;
    if (load->measure_ns == SCENARIO_MEASURE_ALL || load->measure_min_cycles_count > 0 ||
        scenario->find.what != 0) {
        return -1;
    }
    return SCENARIO_START_STOP_NS + load->warmup_ns + load->measure_ns +
           scenario->general.cooldown_ns;
}

int64_t scenario_expected_ns(const struct scenario *scenario, const struct scenario_run *run)
{
    return run->simulated ? -1 : scenario_run_ns(scenario, &scenario->cells[run->cell]);
}

int64_t scenario_total_ns(const struct scenario *scenario)
{
    int64_t total = 0;
    int64_t longest = 0;
    if (scenario->find.what != 0 || scenario->general.mode == (uint32_t)SCENARIO_SIMULATE) {
        return -1;
    }
    for (uint32_t i = 0; i < scenario->runs_count; i++) {
        int64_t run = scenario_expected_ns(scenario, &scenario->runs[i]);
        if (scenario->runs[i].simulated) {
            continue;
        }
        if (run < 0 || __builtin_add_overflow(total, run, &total)) {
            return -1;
        }
        longest = run > longest ? run : longest;
    }
    return total + longest * scenario_probe_runs(scenario);
}

uint32_t scenario_probe_runs(const struct scenario *scenario)
{
    const struct scenario_probe *p = &scenario->probe;
    uint32_t stages = p->elasticity.top_count;
    for (uint32_t bits = p->elasticity.stages; bits != 0; bits &= bits - 1) {
        stages++;
    }
    return stages > 0 ? p->pairs_count * (1 + stages) : 0;
}

uint32_t scenario_slots(const struct scenario_cell *cell)
{
    return cell->foreign.kind != SCENARIO_SERVER_OWN
               ? cell->foreign.slots_count
               : cell->topology.engines_count * cell->topology.max_num_seqs;
}

const char *scenario_axis_value(const struct scenario *scenario, const struct scenario_cell *cell,
                                const char *axis)
{
    for (uint32_t i = 0; i < scenario->axes_count; i++) {
        if (strcmp(scenario->axes[i].name, axis) == 0) {
            return scenario->axes[i].values[cell->axis_value[i]];
        }
    }
    return NULL;
}

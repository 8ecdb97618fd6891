/*
 * write.c - scenarios and the table of keys as text (scenario.h). Writes to the caller's FILE only.
 */
#include "harness/scenario/scenario.h"

#include <inttypes.h>
#include <string.h>

#include "harness/scenario/cell.h"

/* Whether the bare text would be read back as something else. */
static bool needs_quotes(const char *text)
{
    size_t bytes = strlen(text);
    bool blank_before = true;
    for (const char *at = text; *at != '\0'; at++) {
        if (blank_before && (*at == '#' || *at == ';')) {
            return true;
        }
        blank_before = *at == ' ' || *at == '\t';
    }
    return bytes > 0 &&
           (strchr(" \t", text[0]) != NULL || strchr(" \t\\", text[bytes - 1]) != NULL);
}

/* A default of the project's own system in the section of a server of others. */
static bool is_without_meaning(const struct settings_section *section, const struct setting *item)
{
    return cell_section_is_foreign(section) && item->origin.line == 0 &&
           strcmp(item->origin.file, "default") == 0;
}

static void write_section(const struct settings_section *section, bool first, FILE *out)
{
    (void)fprintf(out, "%s[%s%s%s]\n", first ? "" : "\n", section->kind->name,
                  section->name[0] != '\0' ? " " : "", section->name);
    for (uint32_t i = 0; i < section->items_count; i++) {
        const struct setting *item = &section->items[i];
        char origin[256];
        if (item->text == NULL || item->text[0] == '\0' || is_without_meaning(section, item)) {
            continue;
        }
        const char *quote = needs_quotes(item->text) ? "\"" : "";
        origin_text(item->origin, origin, sizeof origin);
        (void)fprintf(out, "%s = %s%s%s  ; %s\n", item->key, quote, item->text, quote, origin);
    }
}

void scenario_write(const struct scenario *scenario, FILE *out)
{
    for (uint32_t i = 0; i < scenario->settings->sections_count; i++) {
        write_section(&scenario->settings->sections[i], i == 0, out);
    }
}

static void write_time(int64_t ns, FILE *out)
{
    int64_t seconds = ns / 1000000000;
    if (ns < 0) {
        (void)fprintf(out, "as long as it takes");
    } else if (seconds >= 120) {
        (void)fprintf(out, "%" PRId64 "min %02" PRId64 "s", seconds / 60, seconds % 60);
    } else {
        (void)fprintf(out, "%.1fs", (double)ns / 1e9);
    }
}

static void write_load(const struct scenario_load *load, FILE *out)
{
    switch (load->mode) {
    case SCENARIO_LOAD_CLOSED:
        (void)fprintf(out, "%u users", load->users_count);
        if (load->think_mean_ns > 0) {
            (void)fprintf(out, " who think %g s", (double)load->think_mean_ns / 1e9);
        }
        if (load->turns_count > 1) {
            (void)fprintf(out, " in sessions of %u", load->turns_count);
        }
        break;
    case SCENARIO_LOAD_OPEN:
        if (load->rate_per_s > 0) {
            (void)fprintf(out, "%g requests/s", load->rate_per_s);
        } else {
            (void)fprintf(out, "rates searched for");
        }
        break;
    default:
        (void)fprintf(out, "trace");
        break;
    }
}

static const char *balancing_name(uint32_t balancing)
{
    switch ((enum balancing)balancing) {
    case BALANCING_INTERNAL:
        return "internal";
    case BALANCING_HYBRID:
        return "hybrid";
    case BALANCING_INDEPENDENT:
        break;
    }
    return "independent";
}

static void write_pin(const char *name, const struct topology_cpus *cpus, FILE *out)
{
    char list[128];
    if (topology_cpus_count(cpus) > 0) {
        topology_cpus_text(cpus, list, sizeof list);
        (void)fprintf(out, " %s:%s", name, list);
    }
}

void scenario_write_pins(const struct scenario_cell *cell, FILE *out)
{
    for (uint32_t i = 0; i < PINS_COUNT; i++) {
        write_pin(topology_pin_name((enum topology_pin)i), &cell->topology.pins[i], out);
    }
    write_pin("client", &cell->client.cpus, out);
}

static void write_server(const struct scenario_cell *cell, FILE *out)
{
    const struct topology *t = &cell->topology;
    const struct scenario_foreign *f = &cell->foreign;
    if (f->kind != SCENARIO_SERVER_OWN) {
        (void)fprintf(out, "%s http://%s:%u",
                      f->kind == SCENARIO_SERVER_LAUNCHED ? "launched, at" : "attached,",
                      f->url.host, f->url.port);
        return;
    }
    (void)fprintf(out, "api_servers=%u dp=%u tp=%u pp=%u", t->api_servers_count, t->engines_count,
                  t->tp, t->pp);
    if (t->nodes_count > 1) {
        (void)fprintf(out, " on %u %s nodes", t->nodes_count, balancing_name(t->balancing));
    }
}

void scenario_write_runs(const struct scenario *scenario, FILE *out)
{
    int64_t budget = scenario->general.budget_ns;
    int64_t at = 0;
    uint32_t late = 0;
    (void)fprintf(out, "\n  run  %-11s  cell\n", "starts at");
    for (uint32_t i = 0; i < scenario->runs_count; i++) {
        const struct scenario_run *run = &scenario->runs[i];
        const struct scenario_cell *cell = &scenario->cells[run->cell];
        int64_t ns = scenario_expected_ns(scenario, run);
        bool past = budget > 0 && at > budget && !run->simulated;
        if (at < 0 || run->simulated) {
            (void)fprintf(out, "r%04u  %-11s  %s", i, "-", cell->name);
        } else {
            int64_t s = at / 1000000000;
            (void)fprintf(out, "r%04u  %" PRId64 ":%02" PRId64 ":%02" PRId64 "%*s  %s", i, s / 3600,
                          s / 60 % 60, s % 60, s < 36000 ? 4 : 0, "", cell->name);
        }
        (void)fprintf(out, " rep %u%s%s\n", run->replicate + 1, run->simulated ? " simulated" : "",
                      past ? "  skipped" : "");
        late += past ? 1 : 0;
        if (!run->simulated) {
            at = at < 0 || ns < 0 ? -1 : at + ns;
        }
    }
    if (budget == 0) {
        (void)fprintf(out, "budget: none\n");
        return;
    }
    (void)fprintf(out, "budget: ");
    write_time(budget, out);
    if (scenario->general.mode == (uint32_t)SCENARIO_SIMULATE) {
        (void)fprintf(out, ": cannot be judged, what a simulated run takes is not known before\n");
    } else if (at < 0) {
        (void)fprintf(out, ": cannot be judged, a trace or a search says how long a run is\n");
    } else if (late == 0) {
        (void)fprintf(out, ": enough\n");
    } else {
        (void)fprintf(out, ": NOT enough, %u of %u runs would be skipped\n", late,
                      scenario->runs_count);
    }
}

/* Of a simulated run the virtual time, without start, stop and cool-down. */
static void write_run_time(const struct scenario *scenario, const struct scenario_cell *cell,
                           FILE *out)
{
    int64_t ns = scenario_run_ns(scenario, cell);
    bool simulated = scenario->general.mode == (uint32_t)SCENARIO_SIMULATE;
    write_time(simulated && ns >= 0 ? cell->load.warmup_ns + cell->load.measure_ns : ns, out);
    (void)fprintf(out, simulated ? " of virtual time a run" : " a run");
}

/* How long a command takes until it serves is not known before. */
static bool launches_any(const struct scenario *scenario)
{
    for (uint32_t i = 0; i < scenario->cells_count; i++) {
        if (scenario->cells[i].foreign.kind == SCENARIO_SERVER_LAUNCHED) {
            return true;
        }
    }
    return false;
}

/* What a simulation costs depends on the steps it comes to, which only the simulation tells. */
static void write_total(const struct scenario *scenario, FILE *out)
{
    int64_t total = scenario_total_ns(scenario);
    int64_t budget = scenario->general.budget_ns;
    if (scenario->general.mode == (uint32_t)SCENARIO_SIMULATE) {
        (void)fprintf(out, ", in virtual time: how long they take shows after the first");
        return;
    }
    (void)fprintf(out, ", about ");
    write_time(total, out);
    if (scenario->general.mode == (uint32_t)SCENARIO_BOTH) {
        (void)fprintf(out, " and what simulating takes");
    }
    (void)fprintf(out, "%s", launches_any(scenario) ? " and what launched servers take" : "");
    if (budget > 0 && total > budget) {
        (void)fprintf(out, ", MORE than the budget of ");
        write_time(budget, out);
    }
}

void scenario_write_cells(const struct scenario *scenario, FILE *out)
{
    int width = 0;
    for (uint32_t i = 0; i < scenario->cells_count; i++) {
        int bytes = (int)strlen(scenario->cells[i].name);
        width = bytes > width ? bytes : width;
    }
    for (uint32_t i = 0; i < scenario->cells_count; i++) {
        const struct scenario_cell *cell = &scenario->cells[i];
        (void)fprintf(out, "%4u  %-*s  %s: ", i + 1, width, cell->name, cell->server);
        write_server(cell, out);
        (void)fprintf(out, "  %s: ", cell->load.name);
        write_load(&cell->load, out);
        (void)fprintf(out, "  %s  ", cell->workload.name);
        write_run_time(scenario, cell, out);
        scenario_write_pins(cell, out);
        (void)fprintf(out, "\n");
        if (cell->foreign.kind == SCENARIO_SERVER_LAUNCHED) {
            (void)fprintf(out, "      $ %s\n", cell->foreign.command);
        }
    }
    if (scenario->find.what != 0) {
        (void)fprintf(out, "%u cell%s, each searched for its rates", scenario->cells_count,
                      scenario->cells_count == 1 ? "" : "s");
    } else {
        static const char *const modes[] = {"", " (simulated)", " (simulated and measured)"};
        (void)fprintf(out, "%u cell%s x %u replicate%s = %u run%s%s", scenario->cells_count,
                      scenario->cells_count == 1 ? "" : "s", scenario->general.repeats_count,
                      scenario->general.repeats_count == 1 ? "" : "s", scenario->runs_count,
                      scenario->runs_count == 1 ? "" : "s", modes[scenario->general.mode]);
    }
    if (scenario_probe_runs(scenario) > 0) {
        (void)fprintf(out, " and %u of the elasticity probe", scenario_probe_runs(scenario));
    }
    if (scenario->cells_skipped_count > 0) {
        (void)fprintf(out, " (%u cells skipped)", scenario->cells_skipped_count);
    }
    write_total(scenario, out);
    (void)fprintf(out, "\n");
}

/* "1s", "70%", ... of a row's limit. */
static void write_limit(const struct option *option, int64_t limit, FILE *out)
{
    if (option->type != OPTION_TIME) {
        (void)fprintf(out, "%" PRId64 "%s", limit,
                      option->type == OPTION_PERCENT ? "%"
                      : option->type == OPTION_RATE  ? "/s"
                                                     : "");
    } else if (limit % 1000000000 == 0) {
        (void)fprintf(out, "%" PRId64 "s", limit / 1000000000);
    } else {
        (void)fprintf(out, "%" PRId64 "us", limit / 1000);
    }
}

static void write_option(const struct option *option, FILE *out)
{
    (void)fprintf(out, "  %-28s  %s", option->key, option_type_text(option->type));
    if (option->type == OPTION_TIME && option->choices != NULL) {
        (void)fprintf(out, " or %s", option->choices);
    } else if (option->choices != NULL) {
        (void)fprintf(out, " %s", option->choices);
    }
    if (option->min != option->max) {
        (void)fprintf(out, ", ");
        write_limit(option, option->min, out);
        (void)fprintf(out, " to ");
        write_limit(option, option->max, out);
    }
    if (option->required) {
        (void)fprintf(out, ", required");
    } else if (option->initial != NULL) {
        (void)fprintf(out, ", default %s", option->initial);
    }
    (void)fprintf(out, "\n  %-28s  %s\n", "", option->help);
}

static void write_kind(const struct option_kind *kind, const struct option *only, FILE *out)
{
    (void)fprintf(out, "[%s%s]  %s\n", kind->name, kind->named ? " NAME" : "", kind->help);
    const struct option *option = NULL;
    for (uint32_t i = 0; (option = option_at(i)) != NULL; i++) {
        if (strcmp(option->kind, kind->name) == 0 && (only == NULL || only == option)) {
            write_option(option, out);
        }
    }
}

static enum status write_one(const char *which, FILE *out, struct error *error)
{
    char name[SOURCE_KEY_BYTES];
    char hint[128];
    const char *dot = strchr(which, '.');
    size_t bytes = dot != NULL ? (size_t)(dot - which) : strlen(which);
    (void)snprintf(name, sizeof name, "%.*s", (int)(bytes < sizeof name ? bytes : sizeof name - 1),
                   which);
    const struct option_kind *kind = option_kind_find(name);
    if (kind == NULL) {
        return error_set(error, STATUS_NOT_FOUND, "unknown section '%s'%s", name,
                         option_kind_hint(name, hint, sizeof hint));
    }
    const struct option *option = dot != NULL ? option_find(name, dot + 1) : NULL;
    if (dot != NULL && option == NULL) {
        return error_set(error, STATUS_NOT_FOUND, "unknown key '%.60s'%s", dot + 1,
                         option_key_hint(name, dot + 1, hint, sizeof hint));
    }
    write_kind(kind, option, out);
    return STATUS_OK;
}

enum status scenario_write_keys(const char *which, FILE *out, struct error *error)
{
    if (which != NULL && which[0] != '\0') {
        return write_one(which, out, error);
    }
    for (uint32_t i = 0; option_kind_at(i) != NULL; i++) {
        write_kind(option_kind_at(i), NULL, out);
        (void)fprintf(out, "\n");
    }
    (void)fprintf(
        out, "[defaults SECTION]  keys of SECTION, for all sections of that kind\n"
             "[quick]  section.key or section.NAME.key = value, applied with --quick\n"
             "inherit = NAME  in [server], [workload], [load], [slo]: start from that section\n");
    return STATUS_OK;
}

/*
 * cell.c - owns the sweep: axes and their products, the sections a cell chooses, the text of each
 * value with its axes filled in. Called by scenario.c. Must not stop at the first mistake: each
 * becomes a problem.
 */
#include "harness/scenario/cell.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/random.h"
#include "harness/scenario/arithmetic.h"
#include "harness/scenario/combine.h"
#include "harness/scenario/nearest.h"

enum {
    AXIS_NAME_BYTES = 32,
    AXIS_VALUE_BYTES = 64,
    HINT_BYTES = 128,
    ONLY_MAX = 32
};

/* The largest struct of any kind, to check values that no cell uses. */
union scratch {
    struct scenario_general general;
    struct option_server server;
    struct scenario_client client;
    struct scenario_workload workload;
    struct scenario_load load;
    struct scenario_slo slo;
    struct option_sweep sweep;
    struct scenario_scaling scaling;
    struct scenario_find find;
    struct scenario_probe probe;
    struct scenario_report report;
};

/* One condition of --only. */
struct only {
    uint32_t axis;
    char value[AXIS_VALUE_BYTES];
};

struct expander {
    struct scenario *scenario;
    struct scenario_settings *settings;
    struct scenario_problems *problems;
    struct option_sweep sweep;
    struct combine combine;
    const struct setting *skip;
    struct only only[ONLY_MAX];
    uint32_t only_count;
    bool skip_failed;
};

size_t cell_arena_bytes(void)
{
    return ARENA_BYTES(SCENARIO_CELLS_MAX, struct scenario_cell) +
           ARENA_BYTES(SCENARIO_RUNS_MAX, struct scenario_run) +
           (size_t)SCENARIO_AXES_MAX * SCENARIO_AXIS_VALUES_MAX *
               ARENA_BYTES(AXIS_VALUE_BYTES, char);
}

/* ---- values ---- */

static struct scenario_axis *axis_find(struct scenario *scenario, const char *name)
{
    for (uint32_t i = 0; i < scenario->axes_count; i++) {
        if (strcmp(scenario->axes[i].name, name) == 0) {
            return &scenario->axes[i];
        }
    }
    return NULL;
}

static const char *axis_hint(const struct scenario *scenario, const char *name, char *out,
                             size_t cap)
{
    struct nearest nearest = {.word = name};
    for (uint32_t i = 0; i < scenario->axes_count; i++) {
        nearest_offer(&nearest, scenario->axes[i].name);
    }
    return nearest_hint(&nearest, out, cap);
}

/* The value that the cell gives to an axis; a cell of NULL gives the first values. */
static const char *value_of(const struct scenario *scenario, const struct scenario_cell *cell,
                            const struct scenario_axis *axis)
{
    size_t index = (size_t)(axis - scenario->axes);
    if (axis->values_count == 0) {
        return ""; /* its list is wrong, which is reported elsewhere */
    }
    return axis->values[cell != NULL ? cell->axis_value[index] : 0];
}

/* Replaces each %{axis}. */
static enum status substitute(struct expander *x, const struct scenario_cell *cell,
                              const char *text, char *out, struct error *error)
{
    size_t bytes = 0;
    while (*text != '\0') {
        char name[AXIS_NAME_BYTES] = "";
        char hint[HINT_BYTES];
        const char *piece = text;
        size_t piece_bytes = 1;
        if (text[0] == '%' && text[1] == '{') {
            size_t name_bytes = strcspn(text + 2, "}");
            (void)snprintf(name, sizeof name, "%.*s",
                           (int)(name_bytes < sizeof name ? name_bytes : sizeof name), text + 2);
            const struct scenario_axis *axis = axis_find(x->scenario, name);
            if (text[2 + name_bytes] == '\0' || axis == NULL) {
                return error_set(error, STATUS_INVALID, "there is no axis '%s' under [sweep]%s",
                                 name, axis_hint(x->scenario, name, hint, sizeof hint));
            }
            piece = value_of(x->scenario, cell, axis);
            piece_bytes = strlen(piece);
            text += 3 + name_bytes;
        } else {
            text++;
        }
        if (bytes + piece_bytes >= SOURCE_VALUE_BYTES) {
            return error_set(error, STATUS_INVALID, "longer than %d characters",
                             SOURCE_VALUE_BYTES - 1);
        }
        memcpy(out + bytes, piece, piece_bytes);
        bytes += piece_bytes;
    }
    out[bytes] = '\0';
    return STATUS_OK;
}

static void report(struct expander *x, struct setting *item, const struct scenario_cell *cell,
                   const char *text, const struct error *error)
{
    bool swept = cell != NULL && strstr(item->text, "%{") != NULL;
    item->reported = true;
    if (value_is_list(text) && strcmp(item->option->kind, "sweep") != 0 &&
        item->option->type != OPTION_PINS && item->option->type != OPTION_ELASTICITY &&
        item->option->type != OPTION_LAUNCH && item->option->type != OPTION_COUNTERS &&
        item->option->type != OPTION_SOURCE && item->option->type != OPTION_DEMAND &&
        item->option->type != OPTION_COSTS) {
        problems_add(x->problems, item->origin,
                     "%s: a list is allowed only under [sweep]: did you mean 'axis.%s = %.60s' "
                     "there and '%s = %%{%s}' here?",
                     item->key, item->key, text, item->key, item->key);
        return;
    }
    problems_add(x->problems, item->origin, "%s: %s%s%s%s", item->key, error->text,
                 swept ? " (in cell " : "", swept ? cell->name : "", swept ? ")" : "");
}

/* Writes the values of a section into the struct of its kind; without a cell only those that are
 * equal in all cells. */
static void parse_section(struct expander *x, struct settings_section *section,
                          const struct scenario_cell *cell, void *base)
{
    for (uint32_t i = 0; i < section->items_count; i++) {
        struct setting *item = &section->items[i];
        struct error error = {.status = STATUS_OK};
        char text[SOURCE_VALUE_BYTES] = "";
        if (item->text == NULL || item->reported || item->option->type == OPTION_LIST) {
            continue;
        }
        bool varies = cell == NULL && strstr(item->text, "%{") != NULL;
        enum status status = substitute(x, cell, item->text, text, &error);
        if (status == STATUS_OK && !varies) {
            status = value_parse(item->option, text, &x->settings->machine, base, &error);
        }
        if (status != STATUS_OK) {
            report(x, item, cell, text, &error);
        }
    }
}

static void parse_fixed(struct expander *x, const char *kind, void *base)
{
    parse_section(x, settings_find(x->settings, kind, ""), NULL, base);
}

/* ---- axes ---- */

struct axis_sink {
    struct expander *x;
    struct scenario_axis *axis;
};

static enum status axis_put(void *ctx, const char *value, struct error *error)
{
    struct axis_sink *sink = ctx;
    struct scenario_axis *axis = sink->axis;
    size_t bytes = strlen(value);
    for (uint32_t i = 0; i < axis->values_count; i++) {
        if (strcmp(axis->values[i], value) == 0) {
            return error_set(error, STATUS_INVALID, "the value '%s' stands twice", value);
        }
    }
    if (axis->values_count == SCENARIO_AXIS_VALUES_MAX) {
        return error_set(error, STATUS_INVALID, "more than %d values", SCENARIO_AXIS_VALUES_MAX);
    }
    if (bytes >= AXIS_VALUE_BYTES) {
        return error_set(error, STATUS_INVALID, "a value is longer than %d characters",
                         AXIS_VALUE_BYTES - 1);
    }
    axis->values[axis->values_count++] = source_copy(&sink->x->settings->arena, value, bytes);
    return STATUS_OK;
}

static void axis_add(struct expander *x, struct setting *item)
{
    struct scenario *s = x->scenario;
    const char *name = item->key + strlen("axis.");
    struct error error = {.status = STATUS_OK};
    size_t bytes = strlen(name);
    for (const char *at = name; *at != '\0'; at++) {
        if (!isalnum((unsigned char)*at) && *at != '_') {
            problems_add(x->problems, item->origin,
                         "%s: an axis is named by letters, digits and '_' only", item->key);
            return;
        }
    }
    if (bytes >= AXIS_NAME_BYTES || isdigit((unsigned char)name[0])) {
        problems_add(x->problems, item->origin,
                     "%s: the name of an axis starts with a letter and has at most %d characters",
                     item->key, AXIS_NAME_BYTES - 1);
        return;
    }
    if (s->axes_count == SCENARIO_AXES_MAX) {
        problems_add(x->problems, item->origin, "%s: more than %d axes", item->key,
                     SCENARIO_AXES_MAX);
        return;
    }
    struct scenario_axis *axis = &s->axes[s->axes_count++];
    axis->name = name;
    struct axis_sink ctx = {.x = x, .axis = axis};
    struct value_list_sink sink = {.ctx = &ctx, .put = axis_put};
    if (value_list(item->text, &sink, &error) != STATUS_OK) {
        problems_add(x->problems, item->origin, "%s: %s", item->key, error.text);
    }
}

static void read_axes(struct expander *x)
{
    struct settings_section *sweep = settings_find(x->settings, "sweep", "");
    for (uint32_t i = 0; i < sweep->items_count; i++) {
        if (sweep->items[i].option->type == OPTION_LIST && !sweep->items[i].reported) {
            axis_add(x, &sweep->items[i]);
        }
    }
    const struct setting *item = settings_item(sweep, "combine");
    struct error error = {.status = STATUS_OK};
    if (!item->reported &&
        combine_read(x->sweep.combine, x->scenario, &x->combine, &error) != STATUS_OK) {
        problems_add(x->problems, item->origin, "combine: %s", error.text);
    }
}

/* ---- --only ---- */

static void read_only(struct expander *x, const char *text)
{
    const struct scenario_origin origin = {.file = "command line"};
    while (text != NULL && *text != '\0') {
        char name[AXIS_NAME_BYTES];
        char hint[HINT_BYTES];
        struct only *only = &x->only[x->only_count];
        text += strspn(text, " ");
        size_t bytes = strcspn(text, ",");
        size_t name_bytes = strcspn(text, "=,");
        if (name_bytes >= bytes || name_bytes >= sizeof name ||
            bytes - name_bytes > sizeof only->value || x->only_count == ONLY_MAX) {
            problems_add(x->problems, origin, "--only: expected axis=value,axis=value");
            return;
        }
        (void)snprintf(name, sizeof name, "%.*s", (int)name_bytes, text);
        const struct scenario_axis *axis = axis_find(x->scenario, name);
        if (axis == NULL) {
            problems_add(x->problems, origin, "--only: there is no axis '%s'%s", name,
                         axis_hint(x->scenario, name, hint, sizeof hint));
            return;
        }
        only->axis = (uint32_t)(axis - x->scenario->axes);
        (void)snprintf(only->value, sizeof only->value, "%.*s", (int)(bytes - name_bytes - 1),
                       text + name_bytes + 1);
        x->only_count++;
        text += bytes + (text[bytes] == ',' ? 1 : 0);
    }
}

/* An axis named several times may have any of the values; different axes must all agree. */
static bool chosen(const struct expander *x, const struct scenario_cell *cell)
{
    for (uint32_t a = 0; a < x->scenario->axes_count; a++) {
        const struct scenario_axis *axis = &x->scenario->axes[a];
        bool named = false;
        bool agrees = false;
        for (uint32_t i = 0; i < x->only_count; i++) {
            if (x->only[i].axis == a) {
                named = true;
                agrees = agrees || strcmp(x->only[i].value, value_of(x->scenario, cell, axis)) == 0;
            }
        }
        if (named && !agrees) {
            return false;
        }
    }
    return true;
}

/* ---- skip ---- */

struct skip_scope {
    struct expander *x;
    const struct scenario_cell *cell;
};

static enum status skip_lookup(const void *ctx, const char *name, int64_t *out, struct error *error)
{
    const struct skip_scope *scope = ctx;
    const struct scenario *s = scope->x->scenario;
    const struct scenario_axis *axis = axis_find(scope->x->scenario, name);
    char hint[HINT_BYTES];
    char *end = NULL;
    if (strcmp(name, "$ncpus") == 0 || strcmp(name, "$ngpus") == 0) {
        const struct value_machine *machine = &scope->x->settings->machine;
        *out = name[2] == 'c' ? machine->cpus_count : machine->gpus_count;
        return STATUS_OK;
    }
    if (axis == NULL) {
        return error_set(error, STATUS_INVALID, "there is no axis '%s' under [sweep]%s", name,
                         axis_hint(s, name, hint, sizeof hint));
    }
    const char *value = value_of(s, scope->cell, axis);
    errno = 0;
    long long number = strtoll(value, &end, 10);
    if (end == value || *end != '\0' || errno != 0) {
        return error_set(error, STATUS_INVALID, "axis '%s' has the value '%s', no whole number",
                         name, value);
    }
    *out = number;
    return STATUS_OK;
}

static bool skipped(struct expander *x, const struct scenario_cell *cell)
{
    struct skip_scope ctx = {.x = x, .cell = cell};
    struct arithmetic_scope scope = {.ctx = &ctx, .lookup = skip_lookup};
    struct error error = {.status = STATUS_OK};
    bool skip = false;
    if (x->sweep.skip[0] == '\0' || x->skip_failed) {
        return false;
    }
    if (arithmetic_condition(x->sweep.skip, &scope, &skip, &error) != STATUS_OK) {
        problems_add(x->problems, x->skip->origin, "skip: %s", error.text);
        x->skip_failed = true;
    }
    return skip;
}

/* ---- cells ---- */

/* The section of `kind` that the cell uses: by axis, by the key of [sweep], or the only one. */
static struct settings_section *choose(struct expander *x, const struct scenario_cell *cell,
                                       const char *kind, const char *fixed)
{
    const struct scenario_axis *axis = axis_find(x->scenario, kind);
    struct settings_section *sweep = settings_find(x->settings, "sweep", "");
    const char *name = axis != NULL ? value_of(x->scenario, cell, axis) : fixed;
    struct settings_section *only = NULL;
    struct nearest nearest = {.word = name};
    char hint[HINT_BYTES];
    uint32_t count = 0;
    for (uint32_t i = 0; i < x->settings->sections_count; i++) {
        struct settings_section *s = &x->settings->sections[i];
        if (strcmp(s->kind->name, kind) == 0) {
            if (strcmp(s->name, name) == 0) {
                return s;
            }
            nearest_offer(&nearest, s->name);
            only = s;
            count++;
        }
    }
    if (name[0] != '\0') {
        char key[AXIS_NAME_BYTES * 2];
        (void)snprintf(key, sizeof key, "%s%s", axis != NULL ? "axis." : "", kind);
        problems_add(x->problems, settings_item(sweep, key)->origin,
                     "%s: there is no section [%s %s]%s", key, kind, name,
                     nearest_hint(&nearest, hint, sizeof hint));
        return NULL;
    }
    if (count == 0) {
        problems_add(x->problems, (struct scenario_origin){.file = x->settings->path},
                     "there is no [%s NAME] section", kind);
    } else if (count > 1) {
        problems_add(x->problems, sweep->origin,
                     "there are %u [%s NAME] sections: [sweep] needs '%s = NAME' or 'axis.%s'",
                     count, kind, kind, kind);
    }
    return count == 1 ? only : NULL;
}

static void name_cell(const struct scenario *scenario, struct scenario_cell *cell)
{
    size_t used = 0;
    (void)snprintf(cell->name, sizeof cell->name, "single");
    for (uint32_t i = 0; i < scenario->axes_count; i++) {
        const struct scenario_axis *axis = &scenario->axes[i];
        int bytes = snprintf(cell->name + used, sizeof cell->name - used, "%s%s=%s",
                             i == 0 ? "" : ",", axis->name, axis->values[cell->axis_value[i]]);
        ASSERT(bytes > 0);
        used += (size_t)bytes;
        if (used >= sizeof cell->name) {
            return;
        }
    }
}

static bool sound(const struct settings_section *section)
{
    for (uint32_t i = 0; i < section->items_count; i++) {
        if (section->items[i].reported) {
            return false;
        }
    }
    return true;
}

static const struct scenario_slo *slo_find(const struct scenario *s, const char *name)
{
    for (uint32_t i = 0; i < s->slos_count; i++) {
        if (strcmp(s->slos[i].name, name) == 0) {
            return &s->slos[i];
        }
    }
    return NULL;
}

/* Unlike the other sections a cell may have none. */
static void choose_slo(struct expander *x, struct scenario_cell *cell)
{
    const struct scenario *s = x->scenario;
    const char *fixed = x->sweep.slo;
    if (fixed[0] == '\0' && slo_find(s, s->find.slo) != NULL) {
        fixed = s->find.slo;
    }
    if (s->slos_count == 0 && fixed[0] == '\0' && axis_find(x->scenario, "slo") == NULL) {
        return;
    }
    const struct settings_section *section = choose(x, cell, "slo", fixed);
    const struct scenario_slo *slo = section != NULL ? slo_find(s, section->name) : NULL;
    if (slo != NULL) {
        cell->slo = *slo;
    }
}

static void fill_cell(struct expander *x, struct scenario_cell *cell)
{
    struct option_server server = {.wait = 0};
    struct cell_sections sections = {
        .server = choose(x, cell, "server", x->sweep.server),
        .client = settings_find(x->settings, "client", ""),
        .simulation = settings_find(x->settings, "simulation", ""),
        .workload = choose(x, cell, "workload", x->sweep.workload),
        .load = choose(x, cell, "load", x->sweep.load),
        .rate_is_searched = x->scenario->find.what != 0,
        .measured = x->scenario->general.mode != (uint32_t)SCENARIO_SIMULATE,
        .simulated = x->scenario->general.mode != (uint32_t)SCENARIO_MEASURE,
    };
    choose_slo(x, cell);
    if (sections.server == NULL || sections.workload == NULL || sections.load == NULL) {
        return;
    }
    parse_section(x, sections.server, cell, &server);
    parse_section(x, sections.client, cell, &cell->client);
    parse_section(x, sections.simulation, cell, &cell->simulation);
    parse_section(x, sections.workload, cell, &cell->workload);
    parse_section(x, sections.load, cell, &cell->load);
    cell->topology = server.topology;
    cell->topology.seed = x->scenario->general.seed;
    cell->topology.shutdown_grace_ns = 5000000000;
    (void)snprintf(cell->topology.listen_host, sizeof cell->topology.listen_host, "127.0.0.1");
    (void)snprintf(cell->server, sizeof cell->server, "%s", sections.server->name);
    (void)snprintf(cell->workload.name, sizeof cell->workload.name, "%s", sections.workload->name);
    (void)snprintf(cell->load.name, sizeof cell->load.name, "%s", sections.load->name);
    if (sound(sections.server) && sound(sections.workload) && sound(sections.load)) {
        cell_check(cell, &server, &sections, &x->settings->machine, x->problems);
    }
}

/* Rates are searched with arrivals of a rate. */
static void check_found_load(struct expander *x, const struct scenario_cell *cell)
{
    struct settings_section *section = settings_find(x->settings, "find", "");
    if (x->scenario->find.what != 0 && cell->foreign.kind != SCENARIO_SERVER_OWN &&
        scenario_slots(cell) == 0) {
        problems_add(x->problems, settings_item(section, "what")->origin,
                     "what: [server %s] needs slots, the sequences that it runs at once: capacity "
                     "is measured with twice as many users",
                     cell->server);
    }
    if (x->scenario->find.what != 0 && cell->load.name[0] != '\0' &&
        cell->load.mode != SCENARIO_LOAD_OPEN) {
        problems_add(x->problems, settings_item(section, "what")->origin,
                     "what: [load %s] must have mode = open: its arrivals, window and drain are "
                     "used at every rate",
                     cell->load.name);
    }
}

static void expand_cells(struct expander *x)
{
    struct scenario *s = x->scenario;
    const struct settings_section *sweep = settings_find(x->settings, "sweep", "");
    uint64_t count = combine_count(&x->combine, s);
    if (count > SCENARIO_CELLS_MAX) {
        problems_add(x->problems, sweep->origin, "more than %d cells", SCENARIO_CELLS_MAX);
        return;
    }
    s->cells = ARENA_NEW(&x->settings->arena, struct scenario_cell, SCENARIO_CELLS_MAX);
    for (uint64_t n = 0; n < count; n++) {
        struct scenario_cell *cell = &s->cells[s->cells_count];
        memset(cell, 0, sizeof *cell);
        combine_pick(&x->combine, s, n, cell);
        name_cell(s, cell);
        if (skipped(x, cell)) {
            s->cells_skipped_count++;
        } else if (chosen(x, cell)) {
            fill_cell(x, cell);
            check_found_load(x, cell);
            s->cells_count++;
        }
    }
    if (s->cells_count == 0) {
        problems_add(x->problems, sweep->origin, "no cell is left to run%s",
                     x->only_count > 0 ? " (--only fits none)" : "");
    }
}

/* ---- runs ---- */

static void shuffle(struct scenario_run *runs, uint32_t count, uint64_t seed, uint32_t replicate)
{
    struct random random = random_stream(seed, "run order", replicate);
    for (uint32_t i = count; i > 1; i--) {
        uint32_t j = (uint32_t)random_range(&random, 0, (int64_t)i - 1);
        struct scenario_run run = runs[i - 1];
        runs[i - 1] = runs[j];
        runs[j] = run;
    }
}

static void list_runs(struct expander *x)
{
    struct scenario *s = x->scenario;
    const struct scenario_general *g = &s->general;
    /* A search repeats what it needs; the list has a run for each cell. */
    uint32_t repeats = s->find.what != 0 ? 1 : g->repeats_count;
    uint64_t count = (uint64_t)s->cells_count * repeats;
    bool both = g->mode == (uint32_t)SCENARIO_BOTH;
    if (both && s->find.what != 0) {
        problems_add(x->problems, settings_find(x->settings, "scenario", "")->origin,
                     "mode: both: rates are searched for in one mode, simulate or measure");
    }
    if (count * (both ? 2 : 1) > SCENARIO_RUNS_MAX) {
        problems_add(x->problems, settings_find(x->settings, "scenario", "")->origin,
                     "more than %d runs", SCENARIO_RUNS_MAX);
        return;
    }
    s->runs = ARENA_NEW(&x->settings->arena, struct scenario_run, SCENARIO_RUNS_MAX);
    for (uint32_t i = 0; i < count; i++) {
        bool by_cell = g->order == SCENARIO_SEQUENTIAL;
        uint32_t cell = by_cell ? i / repeats : i % s->cells_count;
        uint32_t replicate = by_cell ? i % repeats : i / s->cells_count;
        s->runs[i] = (struct scenario_run){.cell = cell,
                                           .replicate = replicate,
                                           .seed = g->seed + replicate,
                                           .simulated = g->mode != (uint32_t)SCENARIO_MEASURE};
    }
    s->runs_count = (uint32_t)count;
    for (uint32_t r = 0; g->order == SCENARIO_SHUFFLED && r < repeats; r++) {
        shuffle(s->runs + (size_t)r * s->cells_count, s->cells_count, g->seed, r);
    }
    for (uint32_t i = 0; i < count && both; i++) {
        s->runs[s->runs_count] = s->runs[i];
        s->runs[s->runs_count++].simulated = false;
    }
}

/* ---- all of it ---- */

static void read_slos(struct expander *x)
{
    struct scenario *s = x->scenario;
    for (uint32_t i = 0; i < x->settings->sections_count; i++) {
        struct settings_section *section = &x->settings->sections[i];
        if (strcmp(section->kind->name, "slo") != 0) {
            continue;
        }
        if (s->slos_count == SCENARIO_SLOS_MAX) {
            problems_add(x->problems, section->origin, "more than %d [slo NAME] sections",
                         SCENARIO_SLOS_MAX);
            return;
        }
        struct scenario_slo *slo = &s->slos[s->slos_count++];
        parse_section(x, section, NULL, slo);
        (void)snprintf(slo->name, sizeof slo->name, "%s", section->name);
    }
}

static void check_scaling(struct expander *x)
{
    const struct scenario_scaling *scaling = &x->scenario->scaling;
    char hint[HINT_BYTES];
    if (scaling->along[0] != '\0' && axis_find(x->scenario, scaling->along) == NULL) {
        struct settings_section *section = settings_find(x->settings, "scaling", "");
        problems_add(x->problems, settings_item(section, "along")->origin,
                     "along: there is no axis '%s' under [sweep]%s", scaling->along,
                     axis_hint(x->scenario, scaling->along, hint, sizeof hint));
    }
}

/* The only [slo] need not be named. */
static void check_find(struct expander *x)
{
    struct scenario *s = x->scenario;
    struct scenario_find *find = &s->find;
    struct settings_section *section = settings_find(x->settings, "find", "");
    if ((find->what & SCENARIO_FIND_SLO_RATE) == 0) {
        return;
    }
    if (find->slo[0] == '\0' && s->slos_count == 1) {
        (void)snprintf(find->slo, sizeof find->slo, "%s", s->slos[0].name);
    }
    const struct scenario_slo *slo = slo_find(s, find->slo);
    if (slo == NULL) {
        problems_add(x->problems, settings_item(section, "what")->origin,
                     "what: slo_rate needs 'slo = NAME' with a section [slo NAME]");
    } else if (slo->ttft_p99_max_ns == 0 && slo->tpot_p95_max_ns == 0) {
        problems_add(x->problems, settings_item(section, "what")->origin,
                     "what: slo_rate needs a limit in [slo %s]: ttft_p99_max or tpot_p95_max",
                     slo->name);
    }
}

static bool cell_named(const struct scenario *s, const char *name)
{
    for (uint32_t i = 0; i < s->cells_count; i++) {
        if (strcmp(s->cells[i].name, name) == 0) {
            return true;
        }
    }
    return false;
}

/* Cells are known by now. */
static void check_probe(struct expander *x)
{
    const struct scenario *s = x->scenario;
    struct settings_section *section = settings_find(x->settings, "probe", "");
    if (s->probe.elasticity.by_frac <= 0) {
        return;
    }
    for (uint32_t i = 0; i < s->cells_count; i++) {
        if (s->cells[i].foreign.kind != SCENARIO_SERVER_OWN) {
            problems_add(x->problems, settings_item(section, "elasticity")->origin,
                         "elasticity: the stages of [server %s] cannot be slowed: it is a server "
                         "of others",
                         s->cells[i].server);
        }
    }
    if (s->find.what != 0) {
        problems_add(x->problems, settings_item(section, "elasticity")->origin,
                     "elasticity: not beside [find] what: there the load is not one that a cell "
                     "is run with");
    }
    if (s->probe.cell[0] != '\0' && x->only_count == 0 && !cell_named(s, s->probe.cell)) {
        problems_add(x->problems, settings_item(section, "cell")->origin,
                     "cell: there is no cell '%s': they have names like '%s'", s->probe.cell,
                     s->cells_count > 0 ? s->cells[0].name : "");
    }
}

static void check_report(struct expander *x)
{
    const struct scenario_report *r = &x->scenario->report;
    if (r->price_per_gpu_hour > 0 && !(r->demand.peak_per_s > 0)) {
        struct settings_section *section = settings_find(x->settings, "report", "");
        problems_add(x->problems, settings_item(section, "price")->origin,
                     "price: needs a demand that it is the price of: demand = 120/s peak");
    }
}

static void check_schema(struct expander *x)
{
    if (x->scenario->general.schema > SCENARIO_SCHEMA) {
        struct settings_section *section = settings_find(x->settings, "scenario", "");
        problems_add(x->problems, settings_item(section, "schema")->origin,
                     "schema: this program reads formats up to %d, not %u", SCENARIO_SCHEMA,
                     x->scenario->general.schema);
    }
}

/* Sections that no cell uses are still read, so that their mistakes are found. */
static void check_unused(struct expander *x)
{
    for (uint32_t i = 0; i < x->settings->sections_count; i++) {
        union scratch scratch;
        memset(&scratch, 0, sizeof scratch);
        ASSERT(x->settings->sections[i].kind->bytes <= sizeof scratch);
        parse_section(x, &x->settings->sections[i], NULL, &scratch);
    }
}

void cell_expand(struct scenario *scenario, const struct scenario_options *options,
                 struct scenario_problems *problems)
{
    struct expander x = {
        .scenario = scenario, .settings = scenario->settings, .problems = problems};
    parse_fixed(&x, "sweep", &x.sweep);
    x.skip = settings_item(settings_find(x.settings, "sweep", ""), "skip");
    uint32_t before = problems->count;
    read_axes(&x);
    read_only(&x, options->only);
    bool axes_sound = problems->count == before && sound(settings_find(x.settings, "sweep", ""));
    parse_fixed(&x, "scenario", &scenario->general);
    check_schema(&x);
    parse_fixed(&x, "scaling", &scenario->scaling);
    parse_fixed(&x, "plots", &scenario->plot_formats);
    parse_fixed(&x, "report", &scenario->report);
    check_report(&x);
    check_scaling(&x);
    read_slos(&x);
    parse_fixed(&x, "find", &scenario->find);
    check_find(&x);
    parse_fixed(&x, "probe", &scenario->probe);
    check_unused(&x);
    if (axes_sound) {
        expand_cells(&x);
        check_probe(&x);
    }
    if (axes_sound && problems->count == 0) {
        list_runs(&x);
    }
}

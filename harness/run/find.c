/*
 * find.c - owns the order of a cell's runs and what each of them is evidence for (find.h). Driven
 * by `harness run`, once a cell. Must not take a limit of the client or the host for one of the
 * system.
 */
#include "harness/run/find.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "harness/report/text.h"
#include "harness/run/population.h"

enum {
    CAPACITY_BATCHES = 20,
    BATCHES = 10, /* each a few requests long, so that what arrives in it also ends in it */
    POINTS_MAX = 3 * SEARCH_RUNS_MAX,
    NOTE_BYTES = 256,
};

#define OVERLOAD        1.2    /* of capacity: where droop is looked for */
#define RATE_MOST       1.5    /* of capacity: no search goes beyond */
#define RATE_LEAST_FRAC 0.0625 /* of the start */
#define SLO_JUMP        0.5    /* from mostly within to mostly over the limit: a cliff */
#define TTFT_P          0.99
#define TPOT_P          0.95
#define SAME_RATE_FRAC  1e-9
#define KNEE_NEAR_FRAC  0.05 /* a rate this near was measured already */

/* Which of the two tests a search goes by. */
enum goal {
    GOAL_STABLE,
    GOAL_SLO,
    GOAL_NONE, /* a point of a curve: one window is enough */
};

struct session {
    const struct find_options *options;
    const struct scenario_find *find;
    const struct scenario_slo *slo; /* NULL: none */
    struct scenario_load load;      /* the open one */
    struct knees_row *row;
    bool stopped;
};

static void note(struct session *f, const struct text *t)
{
    if (f->options->note != NULL) {
        f->options->note(f->options->ctx, t->out);
    }
}

/* False: the search is over. Runs that ended by themselves but are no evidence go on. */
static bool measure(struct session *f, struct scenario_cell *cell, uint32_t replicate,
                    struct run_result *out)
{
    bool more = f->options->measure(f->options->ctx, cell, replicate, out);
    f->row->runs_count++;
    f->stopped =
        f->stopped || !more || out->outcome == RUN_SERVER_FAILED || out->outcome == RUN_INTERRUPTED;
    return !f->stopped;
}

/* ---- capacity ---- */

static void measure_capacity(struct session *f, struct run_result *out)
{
    struct scenario_cell *cell = f->options->cell;
    struct scenario_load *load = &cell->load;
    struct knees_row *row = f->row;
    char line[NOTE_BYTES];
    load->mode = SCENARIO_LOAD_CLOSED;
    load->users_count = 2 * scenario_slots(cell);
    load->first_outputs = SCENARIO_FIRST_RESIDUAL;
    load->batches_count = CAPACITY_BATCHES;
    for (uint32_t look = 0; look < STABILITY_LOOKS; look++, load->measure_ns *= 2) {
        if (look > 0) {
            result_free(out);
        }
        bool more = measure(f, cell, 0, out);
        row->capacity_verdict = capacity_judge(&out->output_tok_per_s);
        if (!more || row->capacity_verdict == CAPACITY_KNOWN || look + 1 == STABILITY_LOOKS) {
            break;
        }
        struct text t = text_into(line, sizeof line);
        text_add(&t, "window doubled: capacity +-%.1f %%",
                 out->output_tok_per_s.half_width / out->output_tok_per_s.mean * 100);
        note(f, &t);
    }
    double half = out->output_tok_per_s.half_width / out->output_tok_per_s.mean;
    bool known = out->outcome == RUN_OK && out->achieved_rps > 0;
    row->capacity_rps = known ? out->achieved_rps : STATS_UNKNOWN;
    row->capacity_lo = row->capacity_rps * (1 - half);
    row->capacity_hi = row->capacity_rps * (1 + half);
    f->stopped = f->stopped || !known;
}

/* ---- one rate ---- */

/* Connections for all that can be in flight while half of the arrivals wait: opening more than are
 * needed takes time. */
static uint32_t connections_for(const struct session *f, const struct scenario_load *load)
{
    double seconds = (double)(load->warmup_ns + load->measure_ns) / 1e9;
    double need = 2.0 * scenario_slots(f->options->cell) + 64 + load->rate_per_s * seconds / 2;
    return need < load->inflight_max_count ? (uint32_t)need : load->inflight_max_count;
}

/* The window, or as long as the limits' test needs requests to pass: one may be over. */
static int64_t window_for(const struct session *f, double per_s)
{
    if (f->slo == NULL) {
        return f->load.measure_ns;
    }
    double p = f->slo->ttft_p99_max_ns > 0 ? TTFT_P : TPOT_P;
    double seconds = slo_requests_needed(1, p, f->find->confidence) / per_s;
    int64_t least_ns = llround(seconds * 1e9);
    return least_ns > f->load.measure_ns ? least_ns : f->load.measure_ns;
}

static struct scenario_cell cell_at(const struct session *f, double per_s, uint32_t look)
{
    struct scenario_cell cell = *f->options->cell;
    cell.load = f->load;
    cell.load.rate_per_s = per_s;
    cell.load.measure_ns = window_for(f, per_s) << look;
    cell.load.batches_count = BATCHES;
    if (cell.load.arrival.kind == SCENARIO_ARRIVAL_BURSTS) {
        cell.load.arrival.burst_every_ns = llround(cell.load.arrival.burst_count / per_s * 1e9);
    }
    cell.load.inflight_max_count = connections_for(f, &cell.load);
    return cell;
}

static void judge_stability(const struct run_result *r, uint32_t look, struct stability *out)
{
    struct stability_batch batches[BATCHES];
    population_backlog(r, batches, BATCHES);
    stability_judge(batches, BATCHES, look, out);
}

/* ---- limits on latency ---- */

static void judge_limit(struct session *f, const struct slo_batch batches[BATCHES], double p,
                        const char *name, struct knees_point *point)
{
    struct slo_test test;
    double count = 0;
    double over = 0;
    for (int i = 0; i < BATCHES; i++) {
        count += batches[i].count;
        over += batches[i].over_count;
    }
    if (!(count > 0)) {
        return;
    }
    slo_judge(count, over, slo_inflation(batches, BATCHES), p, f->find->confidence, &test);
    if (isnan(point->over_frac) || test.over_frac / (1 - p) > point->over_frac) {
        point->over_frac = test.over_frac / (1 - p); /* in units of what is allowed, for now */
        (void)snprintf(point->binding, sizeof point->binding, "%s", name);
    }
    if (test.outcome == SLO_FAIL || point->slo == SLO_FAIL) {
        point->slo = SLO_FAIL;
    } else if (test.outcome == SLO_UNDECIDED) {
        point->slo = SLO_UNDECIDED;
    }
}

/* The limits are those of docs/scenarios.md. */
static void judge_slo(struct session *f, const struct run_result *r, struct knees_point *point)
{
    const struct scenario_slo *slo = f->slo;
    struct population_limits limits;
    population_limits_of(r, slo, BATCHES, &limits);
    point->slo = SLO_PASS;
    if (slo->ttft_p99_max_ns > 0) {
        judge_limit(f, limits.ttft, TTFT_P, "ttft_p99_max", point);
    }
    if (slo->tpot_p95_max_ns > 0) {
        judge_limit(f, limits.tpot, TPOT_P, "tpot_p95_max", point);
    }
    double allowed = strcmp(point->binding, "tpot_p95_max") == 0 ? 1 - TPOT_P : 1 - TTFT_P;
    point->over_frac *= allowed;
    if ((double)r->fail_count > slo->error_max_frac * (double)r->requests_count) {
        point->slo = SLO_FAIL;
        (void)snprintf(point->binding, sizeof point->binding, "error_max");
    }
}

/* ---- points ---- */

/* A run that says something. More in flight than there is room for is what a system does that does
 * not keep up; all other reasons to be invalid are the client's. */
static bool is_valid(const struct run_result *r)
{
    bool full = r->cell->load.inflight_max_count <= r->inflight_max;
    return (r->outcome == RUN_OK || (r->outcome == RUN_INVALID && full)) &&
           r->requests_rows_count > 0;
}

static void keep_use(const struct run_result *r, struct knees_point *p)
{
    static const char *const stages[] = {
#define X(name) [KNEES_STAGE_##name] = #name,
        KNEES_STAGES(X)
#undef X
    };
    for (int k = 0; k < KNEES_STAGES_COUNT; k++) {
        double sum = 0;
        uint32_t servers = 0;
        for (uint32_t i = 0; i < r->stages_count; i++) {
            if (strcmp(r->stages[i].stage, stages[k]) == 0 && !isnan(r->stages[i].use_frac)) {
                sum += r->stages[i].use_frac;
                servers++;
            }
        }
        p->use_frac[k] = servers > 0 ? sum / servers : STATS_UNKNOWN;
    }
}

static void judge_point(struct session *f, const struct run_result *r, uint32_t look,
                        struct knees_point *p)
{
    p->looks_count = look + 1;
    p->window_s = r->window_s;
    p->offered_per_s = r->offered_rps;
    p->achieved_per_s = r->achieved_rps;
    p->tok_per_s = r->output_tok_per_s.mean;
    bool sent = f->slo != NULL && f->slo->sent_clock != 0;
    p->ttft = r->latency[sent ? RUN_TTFT : RUN_TTFT_SCHED];
    p->tpot = r->latency[RUN_TPOT];
    p->e2el = r->latency[RUN_E2EL_SCHED];
    keep_use(r, p);
    p->over_frac = STATS_UNKNOWN;
    p->binding[0] = '\0';
    p->slo = SLO_UNDECIDED;
    judge_stability(r, look, &p->stability);
    if (f->slo != NULL) {
        judge_slo(f, r, p);
    }
    p->valid = is_valid(r);
    p->host_limited = r->host_limited;
}

static enum search_outcome outcome_by(const struct knees_point *p, enum goal goal)
{
    if (goal == GOAL_STABLE) {
        return p->stability.outcome == STABILITY_STABLE      ? SEARCH_PASS
               : p->stability.outcome == STABILITY_SATURATED ? SEARCH_FAIL
                                                             : SEARCH_UNDECIDED;
    }
    if (goal == GOAL_SLO) {
        return p->slo == SLO_PASS   ? SEARCH_PASS
               : p->slo == SLO_FAIL ? SEARCH_FAIL
                                    : SEARCH_UNDECIDED;
    }
    return SEARCH_PASS;
}

/* A host without CPU left can show that a rate is met, not that the system misses it. */
static enum search_outcome outcome_of(const struct knees_point *p, enum goal goal)
{
    enum search_outcome outcome = outcome_by(p, goal);
    bool host = p->host_limited && outcome != SEARCH_PASS;
    return p->valid && !host ? outcome : SEARCH_INVALID;
}

/* Measured before, for the other search. One that was no evidence is measured again. */
static struct knees_point *find_point(const struct session *f, double per_s, uint32_t replicate,
                                      enum goal goal)
{
    for (uint32_t i = 0; i < f->row->points_count; i++) {
        struct knees_point *p = &f->row->points[i];
        bool same = p->replicate == replicate && fabs(p->per_s / per_s - 1) < SAME_RATE_FRAC;
        if (same && outcome_of(p, goal) != SEARCH_INVALID) {
            return p;
        }
    }
    return NULL;
}

static void tell_point(struct session *f, const struct knees_point *p, bool again)
{
    static const char *const backlog[] = {"undecided", "stable", "saturated"};
    static const char *const limits[] = {"undecided", "kept", "missed"};
    char line[NOTE_BYTES];
    struct text t = text_into(line, sizeof line);
    text_add(&t, "%s%.1f/s", again ? "window doubled: " : "", p->per_s);
    if (p->replicate > 0) {
        text_add(&t, " replicate %u", p->replicate);
    }
    const char *limit = !p->valid ? "client limited, " : p->host_limited ? "host limited, " : "";
    text_add(&t, ": %s%s %.3f [%.3f, %.3f]", limit, backlog[p->stability.outcome],
             p->stability.ratio, p->stability.ratio_lo, p->stability.ratio_hi);
    if (f->slo != NULL) {
        text_add(&t, ", SLO %s: %.2f %% over %s", limits[p->slo], p->over_frac * 100,
                 p->binding[0] != '\0' ? p->binding : "it");
    }
    note(f, &t);
}

/* A window twice as long may decide. */
static bool asks_for_more(const struct knees_point *p, enum goal goal)
{
    return p->valid && outcome_by(p, goal) == SEARCH_UNDECIDED && p->looks_count < STABILITY_LOOKS;
}

/* NULL: stopped before anything was known of this rate. */
static struct knees_point *measure_rate(struct session *f, double per_s, uint32_t replicate,
                                        enum goal goal)
{
    struct knees_point *p = find_point(f, per_s, replicate, goal);
    if (p == NULL && f->row->points_count < POINTS_MAX) {
        p = &f->row->points[f->row->points_count];
        *p = (struct knees_point){.per_s = per_s, .replicate = replicate};
    }
    if (p == NULL) {
        return NULL;
    }
    while (p->looks_count == 0 || asks_for_more(p, goal)) {
        struct run_result r;
        uint32_t look = p->looks_count;
        struct scenario_cell cell = cell_at(f, per_s, look);
        bool more = measure(f, &cell, replicate, &r);
        if (more) {
            judge_point(f, &r, look, p);
            f->row->points_count += look == 0 ? 1 : 0;
        }
        result_free(&r);
        if (!more) {
            return p->looks_count > 0 ? p : NULL;
        }
        tell_point(f, p, asks_for_more(p, goal));
    }
    return p;
}

/* ---- searches ---- */

static void search(struct session *f, enum goal goal, struct search_answer *out)
{
    const struct scenario_general *g = &f->options->scenario->general;
    uint32_t replicates =
        g->repeats_count < SEARCH_REPLICATES_MAX ? g->repeats_count : SEARCH_REPLICATES_MAX;
    double start = f->row->capacity_rps * f->find->start_frac;
    struct search_options options = {
        .start_per_s = start,
        .least_per_s = start * RATE_LEAST_FRAC,
        .most_per_s = fmax(start, f->row->capacity_rps * RATE_MOST),
        .tolerance_frac = f->find->tolerance_frac,
        .jump_frac = goal == GOAL_SLO ? SLO_JUMP : 2 * f->find->tolerance_frac,
        .confidence = f->find->confidence,
        .points_max = f->find->points_max,
        .replicates_count = replicates,
        .seed = g->seed,
    };
    struct search s;
    struct search_ask ask;
    search_init(&s, &options);
    while (!f->stopped && search_next(&s, &ask)) {
        const struct knees_point *p = measure_rate(f, ask.per_s, ask.replicate, goal);
        if (p == NULL) {
            break;
        }
        double lost = fmax(0, 1 - p->stability.ratio);
        search_tell(&s, outcome_of(p, goal), goal == GOAL_SLO ? p->over_frac : lost);
    }
    search_conclude(&s, out);
}

/* The limit that the least rate missed. */
static void name_binding(struct session *f)
{
    double least = STATS_UNKNOWN;
    for (uint32_t i = 0; i < f->row->points_count; i++) {
        const struct knees_point *p = &f->row->points[i];
        if (p->valid && p->slo == SLO_FAIL && !(p->per_s >= least)) {
            least = p->per_s;
            (void)snprintf(f->row->binding, sizeof f->row->binding, "%s", p->binding);
        }
    }
}

/* ---- the curve ---- */

static bool near_a_point(const struct session *f, double per_s)
{
    for (uint32_t i = 0; i < f->row->points_count; i++) {
        const struct knees_point *p = &f->row->points[i];
        if (p->valid && fabs(p->per_s / per_s - 1) < KNEE_NEAR_FRAC) {
            return true;
        }
    }
    return false;
}

/* Points of one rate become their mean. */
static uint32_t merge(const struct knees_row *row, struct knee_point out[POINTS_MAX])
{
    uint32_t counts[POINTS_MAX];
    uint32_t count = 0;
    for (uint32_t i = 0; i < row->points_count; i++) {
        const struct knees_point *p = &row->points[i];
        if (!p->valid || !(p->e2el.p50_ms > 0)) {
            continue;
        }
        uint32_t k = 0;
        while (k < count && fabs(out[k].offered_per_s / p->per_s - 1) >= SAME_RATE_FRAC) {
            k++;
        }
        if (k == count) {
            out[count] = (struct knee_point){.offered_per_s = p->per_s};
            counts[count++] = 0;
        }
        double share = 1.0 / ++counts[k];
        out[k].achieved_per_s += (p->achieved_per_s - out[k].achieved_per_s) * share;
        out[k].latency_ms += (p->e2el.p50_ms - out[k].latency_ms) * share;
    }
    return count;
}

static void find_knee(struct session *f)
{
    static const double shares[] = {0.3, 0.5, 0.7, 0.85, 1.0, 1.15};
    struct knee_point points[POINTS_MAX];
    for (size_t i = 0; i < sizeof shares / sizeof shares[0] && !f->stopped; i++) {
        double per_s = shares[i] * f->row->capacity_rps;
        if (!near_a_point(f, per_s)) {
            (void)measure_rate(f, per_s, 0, GOAL_NONE);
        }
    }
    knee_find(points, merge(f->row, points), &f->row->knee);
}

static void find_droop(struct session *f, double capacity_tok_per_s)
{
    struct knees_row *row = f->row;
    const struct knees_point *overloaded =
        measure_rate(f, OVERLOAD * row->capacity_rps, 0, GOAL_NONE);
    double peak = capacity_tok_per_s;
    for (uint32_t i = 0; i < row->points_count; i++) {
        peak = fmax(peak, row->points[i].tok_per_s);
    }
    bool known = overloaded != NULL && overloaded->valid;
    row->overload_droop_frac =
        capacity_overload_droop(known ? overloaded->tok_per_s : STATS_UNKNOWN, peak);
}

/* ---- a cell ---- */

static const struct scenario_slo *slo_of(const struct scenario *s)
{
    for (uint32_t i = 0; i < s->slos_count; i++) {
        if ((s->find.what & SCENARIO_FIND_SLO_RATE) != 0 &&
            strcmp(s->slos[i].name, s->find.slo) == 0) {
            return &s->slos[i];
        }
    }
    return NULL;
}

void find_cell(const struct find_options *options, struct knees_row *row,
               struct run_result *capacity)
{
    const struct search_answer none = {.status = SEARCH_BELOW_RANGE,
                                       .per_s = STATS_UNKNOWN,
                                       .lo = STATS_UNKNOWN,
                                       .hi = STATS_UNKNOWN};
    struct session f = {
        .options = options,
        .find = &options->scenario->find,
        .slo = slo_of(options->scenario),
        .load = options->cell->load,
        .row = row,
    };
    *row = (struct knees_row){.cell = options->cell,
                              .what = f.find->what,
                              .limits = f.slo,
                              .overload_droop_frac = STATS_UNKNOWN,
                              .stable = none,
                              .slo = none,
                              .points = calloc(POINTS_MAX, sizeof *row->points)};
    ASSERT(row->points != NULL);
    knee_find(NULL, 0, &row->knee);
    measure_capacity(&f, capacity);
    double tok_per_s = capacity->output_tok_per_s.mean;
    if (!f.stopped && (row->what & SCENARIO_FIND_STABLE_RATE) != 0) {
        search(&f, GOAL_STABLE, &row->stable);
    }
    if (!f.stopped && (row->what & SCENARIO_FIND_SLO_RATE) != 0) {
        search(&f, GOAL_SLO, &row->slo);
        name_binding(&f);
    }
    if (!f.stopped && (row->what & SCENARIO_FIND_KNEE) != 0) {
        find_knee(&f);
    }
    if (!f.stopped && (row->what & SCENARIO_FIND_CAPACITY) != 0) {
        find_droop(&f, tok_per_s);
    }
    row->complete = !f.stopped;
}

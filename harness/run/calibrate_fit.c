/*
 * calibrate_fit.c - owns which counts make up the CPU time of which thread, and turns windows into
 * costs (calibrate.h). Pure. Follows sim/: a column here is what the simulator charges a cost for,
 * so that counts of equal work cost the same in both.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/random.h"
#include "harness/run/calibrate.h"

enum {
    NONE = CALIBRATION_TERMS_COUNT,
    WAIT_DRAWS = 40,
};

#define WAIT_MOST 60e6 /* of CPU time for a wait, in ps */
#define WAIT_NEAR 50e3
#define GOLDEN    0.6180339887498949

/* One cost, or two that are charged for the same count. */
struct column {
    uint32_t term; /* enum calibration_term */
    uint32_t tied; /* NONE: it is alone */
    uint32_t kind;
    enum calibrate_field field;
    bool each_api_server; /* times their number */
};

/* What a wait of a thread costs, as the simulator charges it. */
enum wait_kind {
    WAITS_WOKEN,
    WAITS_TIMED,
    WAITS_TIMED_ONCE, /* for each message that it sends; it is woken from others */
};

struct thread_row {
    const char *name;
    uint32_t kind;
    enum wait_kind waits;
    uint32_t columns_count;
    struct column columns[REGRESSION_TERMS_MAX];
};

#define C(term, kind, field)                         \
    {                                                \
        CALIBRATION_##term, NONE, kind, field, false \
    }
#define TIED(term, tied, kind, field)                              \
    {                                                              \
        CALIBRATION_##term, CALIBRATION_##tied, kind, field, false \
    }
#define EACH_API_SERVER(term, kind, field)          \
    {                                               \
        CALIBRATION_##term, NONE, kind, field, true \
    }

static const struct thread_row thread_rows[CALIBRATE_THREADS_COUNT] = {
    {"client",
     CALIBRATE_CLIENT,
     WAITS_WOKEN,
     4,
     {C(CLIENT_REQUEST, CALIBRATE_CLIENT, CALIBRATE_OUT),
      C(CLIENT_REQUEST_TOKEN, THREAD_API_MAIN, CALIBRATE_PROMPT_TOKENS),
      C(CLIENT_READ, CALIBRATE_CLIENT, CALIBRATE_IN),
      C(CLIENT_READ_TOKEN, CALIBRATE_CLIENT, CALIBRATE_OUTPUT_TOKENS)}},
    {"api_server",
     THREAD_API_MAIN,
     WAITS_WOKEN,
     6,
     {C(API_REQUEST, THREAD_API_MAIN, CALIBRATE_REQUESTS),
      C(API_REQUEST_TOKEN, THREAD_API_MAIN, CALIBRATE_PROMPT_TOKENS),
      C(API_MESSAGE, THREAD_API_MAIN, CALIBRATE_IN),
      TIED(API_OUTPUT, API_MESSAGE_ITEM, THREAD_API_MAIN, CALIBRATE_OUTPUT_TOKENS),
      C(API_WRITE, CALIBRATE_CLIENT, CALIBRATE_IN),
      EACH_API_SERVER(API_STATE, THREAD_COORDINATOR_MAIN, CALIBRATE_OUT)}},
    {"coordinator",
     THREAD_COORDINATOR_MAIN,
     WAITS_TIMED,
     3,
     {C(COORDINATOR_MESSAGE, THREAD_COORDINATOR_MAIN, CALIBRATE_IN),
      C(COORDINATOR_PUBLISH, THREAD_COORDINATOR_MAIN, CALIBRATE_OUT),
      EACH_API_SERVER(COORDINATOR_RECEIVER, THREAD_COORDINATOR_MAIN, CALIBRATE_OUT)}},
    {"engine_input",
     THREAD_ENGINE_INPUT,
     WAITS_WOKEN,
     2,
     {C(ENGINE_INPUT, THREAD_ENGINE_INPUT, CALIBRATE_IN),
      C(ENGINE_INPUT_TOKEN, THREAD_API_MAIN, CALIBRATE_PROMPT_TOKENS)}},
    {"engine_core",
     THREAD_ENGINE_MAIN,
     WAITS_WOKEN,
     4,
     {C(ENGINE_ADD, THREAD_ENGINE_MAIN, CALIBRATE_REQUESTS),
      C(ENGINE_ADD_TOKEN, THREAD_ENGINE_MAIN, CALIBRATE_PROMPT_TOKENS),
      TIED(ENGINE_STEP, ENGINE_COMMIT, THREAD_ENGINE_MAIN, CALIBRATE_STEPS),
      TIED(ENGINE_STEP_SEQ, ENGINE_COMMIT_OUTPUT, THREAD_ENGINE_MAIN, CALIBRATE_SEQS)}},
    {"engine_output",
     THREAD_ENGINE_OUTPUT,
     WAITS_WOKEN,
     2,
     {C(ENGINE_OUTPUT, THREAD_ENGINE_OUTPUT, CALIBRATE_OUT),
      C(ENGINE_OUTPUT_ITEM, THREAD_ENGINE_OUTPUT, CALIBRATE_OUTPUT_TOKENS)}},
    {"worker",
     THREAD_WORKER_MAIN,
     WAITS_WOKEN,
     2,
     {C(WORKER_PLAN, THREAD_WORKER_MAIN, CALIBRATE_IN),
      C(WORKER_PLAN_SEQ, THREAD_ENGINE_MAIN, CALIBRATE_SEQS)}},
    {"worker_output",
     THREAD_WORKER_OUTPUT,
     WAITS_TIMED_ONCE,
     2,
     {C(WORKER_RESULT, THREAD_WORKER_OUTPUT, CALIBRATE_OUT),
      C(WORKER_RESULT_TOKEN, THREAD_ENGINE_MAIN, CALIBRATE_OUTPUT_TOKENS)}},
};

static double count_of(const struct calibrate_window *w, const struct column *c)
{
    double count = w->of[c->kind][c->field];
    return c->each_api_server ? count * w->api_servers_count : count;
}

/* What is no handler's: waits and launches. */
static double besides_ns(const struct calibrate_window *w, const struct thread_row *t,
                         const struct simulation_costs *costs)
{
    const double *of = w->of[t->kind];
    double timed = 0;
    switch (t->waits) {
    case WAITS_WOKEN:
        break;
    case WAITS_TIMED:
        timed = of[CALIBRATE_WAITS];
        break;
    case WAITS_TIMED_ONCE:
        timed = fmin(of[CALIBRATE_WAITS], of[CALIBRATE_OUT]);
        break;
    }
    double woken = of[CALIBRATE_WAITS] - timed;
    return of[CALIBRATE_LAUNCH_NS] + woken * (double)costs->wake_cpu / 1e3 +
           timed * (double)costs->sleep_cpu / 1e3;
}

/* ---- from a regression to costs ---- */

static void take(struct calibrate_result *out, uint32_t term, const struct regression_term *from,
                 double share)
{
    time_ps *cost = calibration_cost(&out->calibration.costs, (enum calibration_term)term);
    *cost = llround(from->value * share * 1e3);
    out->calibration.intervals[term] =
        (struct calibration_interval){.known = !isnan(from->lo) && !isnan(from->hi)};
    if (out->calibration.intervals[term].known) {
        out->calibration.intervals[term].lo = llround(from->lo * share * 1e3);
        out->calibration.intervals[term].hi = llround(from->hi * share * 1e3);
    }
    out->source[term] = share < 1 ? CALIBRATE_SHARED : CALIBRATE_MEASURED;
}

static void take_column(struct calibrate_result *out, const struct column *c,
                        const struct regression_term *from)
{
    const struct simulation_costs built_in = simulation_costs_default();
    if (isnan(from->value)) {
        return;
    }
    if (c->tied == NONE) {
        take(out, c->term, from, 1);
        return;
    }
    double one = (double)calibration_cost_of(&built_in, (enum calibration_term)c->term);
    double other = (double)calibration_cost_of(&built_in, (enum calibration_term)c->tied);
    take(out, c->term, from, one / (one + other));
    take(out, c->tied, from, other / (one + other));
}

/* Rows of one thread's regression. */
struct thread_rows {
    double *x;
    double *y;
    double *size;
    size_t count;
};

/* Windows in which the thread did something: their counts, and the CPU time of its handlers. */
static struct regression_rows fill_rows(const struct calibrate_window *windows, uint32_t count,
                                        const struct thread_row *t,
                                        const struct simulation_costs *costs,
                                        struct thread_rows *rows)
{
    rows->count = 0;
    for (uint32_t i = 0; i < count; i++) {
        double any = 0;
        for (uint32_t c = 0; c < t->columns_count; c++) {
            double *x = &rows->x[rows->count * t->columns_count + c];
            *x = count_of(&windows[i], &t->columns[c]);
            any += *x;
        }
        if (any > 0) {
            double cpu_ns = windows[i].of[t->kind][CALIBRATE_CPU_NS];
            rows->y[rows->count] = cpu_ns - besides_ns(&windows[i], t, costs);
            rows->size[rows->count++] = cpu_ns;
        }
    }
    return (struct regression_rows){.x = rows->x,
                                    .y = rows->y,
                                    .size = rows->size,
                                    .rows_count = rows->count,
                                    .terms_count = t->columns_count};
}

static struct thread_rows rows_for(uint32_t windows_count)
{
    struct thread_rows rows = {
        .x = calloc((size_t)windows_count * REGRESSION_TERMS_MAX + 1, sizeof *rows.x),
        .y = calloc((size_t)windows_count + 1, sizeof *rows.y),
        .size = calloc((size_t)windows_count + 1, sizeof *rows.size)};
    ASSERT(rows.x != NULL && rows.y != NULL && rows.size != NULL);
    return rows;
}

static void rows_free(struct thread_rows *rows)
{
    free(rows->x);
    free(rows->y);
    free(rows->size);
}

/* ---- waits ---- */

/* How far off all threads are if a wait costs `wait`, weighted with their CPU time. NAN: too few
 * windows. */
static double distance_of(const struct calibrate_window *windows, uint32_t count, double wait,
                          struct thread_rows *rows)
{
    const struct simulation_costs costs = {.wake_cpu = llround(wait), .sleep_cpu = llround(wait)};
    double sum = 0;
    double all_ns = 0;
    for (uint32_t i = 0; i < CALIBRATE_THREADS_COUNT; i++) {
        const struct regression_rows r = fill_rows(windows, count, &thread_rows[i], &costs, rows);
        double distance = regression_distance(&r);
        double cpu_ns = 0;
        for (size_t k = 0; k < r.rows_count; k++) {
            cpu_ns += r.size[k];
        }
        if (!isnan(distance)) {
            sum += distance * cpu_ns;
            all_ns += cpu_ns;
        }
    }
    return all_ns > 0 ? sum / all_ns : STATS_UNKNOWN;
}

/* By sections that become shorter: what is left over grows to either side of the best. */
static double best_wait(const struct calibrate_window *windows, uint32_t count,
                        struct thread_rows *rows)
{
    double lo = 0;
    double hi = WAIT_MOST;
    double left = hi - GOLDEN * (hi - lo);
    double right = lo + GOLDEN * (hi - lo);
    double at_left = distance_of(windows, count, left, rows);
    double at_right = distance_of(windows, count, right, rows);
    while (hi - lo > WAIT_NEAR) {
        if (at_left <= at_right) {
            hi = right;
            right = left;
            at_right = at_left;
            left = hi - GOLDEN * (hi - lo);
            at_left = distance_of(windows, count, left, rows);
        } else {
            lo = left;
            left = right;
            at_left = at_right;
            right = lo + GOLDEN * (hi - lo);
            at_right = distance_of(windows, count, right, rows);
        }
    }
    return (lo + hi) / 2;
}

static void take_wait(struct calibrate_result *out, enum calibration_term term, double wait,
                      const double *sorted)
{
    *calibration_cost(&out->calibration.costs, term) = llround(wait);
    out->calibration.intervals[term] = (struct calibration_interval){
        .known = true,
        .lo = llround(fmin(wait, stats_quantile(sorted, WAIT_DRAWS, 0.025))),
        .hi = llround(fmax(wait, stats_quantile(sorted, WAIT_DRAWS, 0.975)))};
    out->source[term] = CALIBRATE_MEASURED;
}

void calibrate_waits(const struct calibrate_window *windows, uint32_t count, uint64_t seed,
                     struct calibrate_result *out)
{
    struct random random = random_stream(seed, "calibrate waits", 0);
    double values[WAIT_DRAWS];
    double all_waits = 0;
    for (uint32_t i = 0; i < count; i++) {
        all_waits += windows[i].of[THREAD_API_MAIN][CALIBRATE_WAITS];
    }
    if (!(all_waits > 0)) { /* a kernel that does not say */
        return;
    }
    struct thread_rows rows = rows_for(count);
    if (isnan(distance_of(windows, count, 0, &rows))) {
        rows_free(&rows);
        return;
    }
    struct calibrate_window *drawn = calloc((size_t)count + 1, sizeof *drawn);
    ASSERT(drawn != NULL);
    double wait = best_wait(windows, count, &rows);
    for (int draw = 0; draw < WAIT_DRAWS; draw++) {
        for (uint32_t i = 0; i < count; i++) {
            drawn[i] = windows[random_range(&random, 0, (int64_t)count - 1)];
        }
        values[draw] = best_wait(drawn, count, &rows);
    }
    stats_sort(values, WAIT_DRAWS);
    take_wait(out, CALIBRATION_WAKE_CPU, wait, values);
    take_wait(out, CALIBRATION_SLEEP_CPU, wait, values);
    free(drawn);
    rows_free(&rows);
}

/* ---- handlers ---- */

static void account(const struct calibrate_window *windows, uint32_t count,
                    const struct thread_row *t, const struct simulation_costs *costs,
                    struct calibrate_thread *out)
{
    for (uint32_t i = 0; i < count; i++) {
        double x[REGRESSION_TERMS_MAX];
        for (uint32_t c = 0; c < t->columns_count; c++) {
            x[c] = count_of(&windows[i], &t->columns[c]);
        }
        out->cpu_ns += windows[i].of[t->kind][CALIBRATE_CPU_NS];
        out->explained_ns +=
            besides_ns(&windows[i], t, costs) + regression_of(&out->fit, x, t->columns_count);
    }
}

void calibrate_fit(const struct calibrate_window *windows, uint32_t count, uint64_t seed,
                   struct calibrate_result *out)
{
    struct thread_rows rows = rows_for(count);
    const struct simulation_costs costs = out->calibration.costs;
    for (uint32_t i = 0; i < CALIBRATE_THREADS_COUNT; i++) {
        const struct thread_row *t = &thread_rows[i];
        struct calibrate_thread *thread = &out->threads[i];
        *thread = (struct calibrate_thread){.name = t->name, .columns_count = t->columns_count};
        const struct regression_rows regression = fill_rows(windows, count, t, &costs, &rows);
        regression_fit(&regression, seed + i, &thread->fit);
        thread->windows_count = (uint32_t)regression.rows_count;
        for (uint32_t c = 0; c < t->columns_count; c++) {
            thread->columns[c] = calibration_term_name((enum calibration_term)t->columns[c].term);
            take_column(out, &t->columns[c], &thread->fit.terms[c]);
        }
        account(windows, count, t, &costs, thread);
    }
    rows_free(&rows);
}

/* ---- trials ---- */

void calibrate_mechanics(const struct mechanics *m, struct calibrate_result *out)
{
    static const enum calibration_term terms[MECHANICS_COUNT] = {
        [MECHANICS_WAKE] = CALIBRATION_WAKE,
        [MECHANICS_WAKE_CPU] = CALIBRATION_WAKE_CPU,
        [MECHANICS_SLEEP_LATE] = CALIBRATION_SLEEP_LATE,
        [MECHANICS_SLEEP_CPU] = CALIBRATION_SLEEP_CPU,
        [MECHANICS_SWITCH] = CALIBRATION_CONTEXT_SWITCH,
        [MECHANICS_TCP] = CALIBRATION_TCP,
        [MECHANICS_RING] = CALIBRATION_RING,
        [MECHANICS_POLL] = CALIBRATION_POLL,
    };
    for (int i = 0; i < MECHANICS_COUNT; i++) {
        size_t count = m->count[i];
        struct stats_percentile median = stats_percentile_of(m->ns[i], count, (double)count, 0.5);
        const struct regression_term term = {median.value, median.lo, median.hi, 0};
        if (!isnan(median.value)) {
            take(out, terms[i], &term, 1);
        }
    }
}

/*
 * population.c - owns which requests are due in a window, which of its batches they belong to, and
 * when one of them is over a limit (population.h). Must not count a request that the window's edge
 * cut: each is followed to its end, whenever that is.
 */
#include "harness/run/population.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/status.h"

enum {
    REQUESTS_PER_BATCH_MIN = 5 /* fewer do not tell how much batches differ */
};

#define TAIL 0.025 /* either side of a two-sided 95 % interval */

/* Times are whole ns that were written as ms: at the window's edges a ns decides. */
static int batch_of(const struct run_result *r, uint32_t count, double at_ms)
{
    int64_t from_ns = llround(at_ms * 1e6) - llround(r->warmup_s * 1e9);
    int64_t window_ns = llround(r->window_s * 1e9);
    if (from_ns < 0 || from_ns >= window_ns) {
        return -1;
    }
    return (int)((double)from_ns / (double)window_ns * count);
}

void population_backlog(const struct run_result *r, struct stability_batch *batches, uint32_t count)
{
    memset(batches, 0, count * sizeof *batches);
    for (uint32_t i = 0; i < r->requests_rows_count; i++) {
        const struct run_request *q = &r->requests[i];
        int arrived = batch_of(r, count, q->sched_ms);
        if (arrived >= 0) {
            batches[arrived].arrived_count += 1;
        }
        int done = q->outcome == LOAD_OUTCOME_OK
                       ? batch_of(r, count, q->sched_ms + q->lag_ms + q->e2el_ms)
                       : -1;
        if (done >= 0) {
            batches[done].completed_count += 1;
        }
    }
}

static double growth_of(const struct stability_batch *batches, uint32_t count)
{
    double growth = 0;
    for (uint32_t i = 0; i < count; i++) {
        growth += batches[i].arrived_count - batches[i].completed_count;
    }
    return growth;
}

/* ---- limits ---- */

static bool is_over(double ms, int64_t limit_ns)
{
    return limit_ns > 0 && ms * 1e6 > (double)limit_ns;
}

static void add(struct slo_batch *batch, bool over)
{
    batch->count += 1;
    batch->over_count += over ? 1 : 0;
}

void population_limits_of(const struct run_result *r, const struct scenario_slo *slo,
                          uint32_t count, struct population_limits *out)
{
    ASSERT(count <= LOAD_BATCHES_MAX);
    memset(out, 0, sizeof *out);
    for (uint32_t i = 0; i < r->requests_rows_count; i++) {
        const struct run_request *q = &r->requests[i];
        int b = batch_of(r, count, q->sched_ms);
        if (b < 0) {
            continue;
        }
        bool failed = q->outcome != LOAD_OUTCOME_OK;
        bool has_tpot = failed || q->output_tokens >= 2;
        double first_ms = q->ttft_ms + (slo->sent_clock != 0 ? 0 : q->lag_ms);
        double each_ms =
            failed || !has_tpot ? 0 : (q->e2el_ms - q->ttft_ms) / (q->output_tokens - 1);
        bool late = failed || is_over(first_ms, slo->ttft_p99_max_ns);
        bool slow = failed || is_over(each_ms, slo->tpot_p95_max_ns);
        add(&out->ttft[b], late);
        if (has_tpot) {
            add(&out->tpot[b], slow);
        }
        add(&out->any[b], late || slow);
    }
}

static struct run_limit limit_of(const struct slo_batch *batches, uint32_t count)
{
    struct run_limit out = {.inflation = slo_inflation(batches, count)};
    for (uint32_t i = 0; i < count; i++) {
        out.requests_count += (uint64_t)batches[i].count;
        out.over_count += (uint64_t)batches[i].over_count;
    }
    return out;
}

static void fill_limits(struct run_result *r, uint32_t count)
{
    const struct scenario_slo *slo = &r->cell->slo;
    struct population_limits limits;
    if (slo->name[0] == '\0') {
        return;
    }
    population_limits_of(r, slo, count, &limits);
    r->slo = (struct run_slo){.is_known = true,
                              .ttft = limit_of(limits.ttft, count),
                              .tpot = limit_of(limits.tpot, count),
                              .any = limit_of(limits.any, count),
                              .failed_count = r->fail_count};
}

/* ---- independence ---- */

/* From the schedule to the first token; a request without one took for ever. */
static double wait_of(const struct run_request *q)
{
    return q->outcome == LOAD_OUTCOME_OK ? q->ttft_ms + q->lag_ms : (double)INFINITY;
}

/* Requests that wait long come together where they wait for each other: by how much more the
 * batches differ in the number over the median than they would by chance. */
static void fill_independence(struct run_result *r, uint32_t count)
{
    struct slo_batch batches[LOAD_BATCHES_MAX] = {{0, 0}};
    double *waits = calloc(r->requests_rows_count, sizeof *waits);
    size_t waits_count = 0;
    ASSERT(waits != NULL);
    for (uint32_t i = 0; i < r->requests_rows_count; i++) {
        if (batch_of(r, count, r->requests[i].sched_ms) >= 0) {
            waits[waits_count++] = wait_of(&r->requests[i]);
        }
    }
    stats_sort(waits, waits_count);
    double median = stats_quantile(waits, waits_count, 0.5);
    free(waits);
    for (uint32_t i = 0; i < r->requests_rows_count; i++) {
        int b = batch_of(r, count, r->requests[i].sched_ms);
        if (b >= 0) {
            add(&batches[b], wait_of(&r->requests[i]) > median);
        }
    }
    if (waits_count >= (size_t)REQUESTS_PER_BATCH_MIN * count) {
        r->n_eff_frac = 1 / slo_inflation(batches, count);
    }
}

void population_fill(struct run_result *r)
{
    struct stability_batch batches[LOAD_BATCHES_MAX];
    struct stability stability;
    uint32_t count = r->cell->load.batches_count;
    if (r->cell->load.mode == SCENARIO_LOAD_CLOSED || !(r->window_s > 0) || count == 0 ||
        r->requests_rows_count == 0) {
        return;
    }
    count = count < LOAD_BATCHES_MAX ? count : LOAD_BATCHES_MAX;
    population_backlog(r, batches, count);
    stability_measure(batches, count, TAIL, &stability);
    if (r->requests_count >= (uint64_t)REQUESTS_PER_BATCH_MIN * count) {
        r->achieved_ratio_lo = stability.ratio_lo;
        r->achieved_ratio_hi = stability.ratio_hi;
    }
    r->backlog_slope_per_s = growth_of(batches, count) / r->window_s;
    fill_limits(r, count);
    fill_independence(r, count);
}

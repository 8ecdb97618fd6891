/*
 * population_test.c - what the requests of a window say, with known answers: requests within limits
 * counted from the ns they were made of, exact binomial tails by sums, the inflation of an
 * autoregressive process by its closed form, ratio and growth of a backlog whose law is known, and
 * bins that hold exactly the values that were put in. And starts of runs that are steady or not.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/random.h"
#include "harness/report/goodput.h"
#include "harness/run/observe.h"
#include "harness/run/population.h"

enum {
    ROWS_MAX = 1 << 15,
    TRIALS = 200,
    MOST = TRIALS * 97 / 100,
    FEW = TRIALS * 3 / 100,
};

static const int64_t MS = 1000000;

static struct run_result make(struct scenario_cell *cell, double warmup_s, double window_s)
{
    struct run_result r = {.cell = cell,
                           .warmup_s = warmup_s,
                           .window_s = window_s,
                           .achieved_ratio_lo = STATS_UNKNOWN,
                           .achieved_ratio_hi = STATS_UNKNOWN,
                           .backlog_slope_per_s = STATS_UNKNOWN,
                           .n_eff_frac = STATS_UNKNOWN,
                           .token_basis = ""};
    cell->load.mode = SCENARIO_LOAD_OPEN;
    r.requests = calloc(ROWS_MAX, sizeof *r.requests);
    assert_non_null(r.requests);
    return r;
}

static void fill(struct run_result *r)
{
    r->requests_count = 0;
    for (uint32_t i = 0; i < r->requests_rows_count; i++) {
        double at = r->requests[i].sched_ms / 1e3;
        r->requests_count += at >= r->warmup_s && at < r->warmup_s + r->window_s ? 1 : 0;
    }
    r->offered_rps = (double)r->requests_count / r->window_s;
    population_fill(r);
}

/* ---- limits ---- */

static void one_request(struct random *random, struct run_result *r, uint64_t counts[6],
                        const struct scenario_slo *slo)
{
    /* Whole multiples of 25 ms: many lie exactly on an edge of the window or on a limit. */
    int64_t sched = 25 * MS * random_range(random, 0, 200);
    int64_t lag = 25 * MS * random_range(random, 0, 3);
    int64_t ttft = 25 * MS * random_range(random, 1, 8);
    uint32_t tokens = (uint32_t)random_range(random, 1, 4);
    int64_t rest = tokens > 1 ? 5 * MS * random_range(random, 1, 4) * (tokens - 1) : 0;
    int fate = (int)random_range(random, 0, 9);
    enum load_outcome outcome = fate == 0   ? LOAD_OUTCOME_HTTP_5XX
                                : fate == 1 ? LOAD_OUTCOME_OPEN
                                            : LOAD_OUTCOME_OK;
    r->requests[r->requests_rows_count++] = (struct run_request){
        .outcome = outcome,
        .sched_ms = (double)sched / 1e6,
        .lag_ms = (double)lag / 1e6,
        .ttft_ms = fate == 1 ? STATS_UNKNOWN : (double)ttft / 1e6,
        .e2el_ms = fate == 1 ? STATS_UNKNOWN : (double)(ttft + rest) / 1e6,
        .output_tokens = tokens,
    };
    if (sched < 1000 * MS || sched >= 4000 * MS) {
        return;
    }
    bool ok = outcome == LOAD_OUTCOME_OK;
    bool late = !ok || ttft + (slo->sent_clock != 0 ? 0 : lag) > slo->ttft_p99_max_ns;
    /* rest / (tokens - 1) > limit, without a division */
    bool slow = !ok || rest > slo->tpot_p95_max_ns * (tokens - 1);
    counts[0]++;
    counts[1] += late ? 1 : 0;
    counts[2] += !ok || tokens > 1 ? 1 : 0;
    counts[3] += slow ? 1 : 0;
    counts[4] += late || slow ? 1 : 0;
    counts[5] += fate == 0 ? 1 : 0;
}

static void requests_within_limits_are_counted(void **state)
{
    (void)state;
    for (uint32_t sent_clock = 0; sent_clock < 2; sent_clock++) {
        struct scenario_cell cell = {.load = {.batches_count = 7},
                                     .slo = {.name = "s",
                                             .ttft_p99_max_ns = 125 * MS,
                                             .tpot_p95_max_ns = 15 * MS,
                                             .sent_clock = sent_clock}};
        struct run_result r = make(&cell, 1, 3);
        struct random random = random_stream(11, "requests", sent_clock);
        uint64_t counts[6] = {0};
        for (int i = 0; i < 5000; i++) {
            one_request(&random, &r, counts, &cell.slo);
        }
        r.fail_count = counts[5];
        fill(&r);
        assert_true(r.slo.is_known);
        assert_int_equal(r.slo.ttft.requests_count, counts[0]);
        assert_int_equal(r.slo.ttft.over_count, counts[1]);
        assert_int_equal(r.slo.tpot.requests_count, counts[2]);
        assert_int_equal(r.slo.tpot.over_count, counts[3]);
        assert_int_equal(r.slo.any.requests_count, counts[0]);
        assert_int_equal(r.slo.any.over_count, counts[4]);
        assert_int_equal(r.slo.failed_count, counts[5]);
        struct goodput good = goodput_of(&r.slo, r.window_s);
        assert_true(fabs(good.rps - (double)(counts[0] - counts[4]) / 3) < 1e-9);
        assert_true(good.lo < good.frac && good.frac < good.hi);
        result_free(&r);
    }
}

static void without_an_slo_or_a_population_there_is_none(void **state)
{
    (void)state;
    struct scenario_cell cell = {.load = {.batches_count = 4}};
    struct run_result r = make(&cell, 0, 1);
    r.requests[0] = (struct run_request){.outcome = LOAD_OUTCOME_OK, .ttft_ms = 1, .e2el_ms = 2};
    r.requests_rows_count = 1;
    fill(&r);
    assert_false(r.slo.is_known);
    assert_true(isnan(goodput_of(&r.slo, 1).rps) && isnan(goodput_of(&r.slo, 1).lo));
    assert_true(isnan(r.n_eff_frac) && isnan(r.achieved_ratio_lo)); /* one tells nothing */
    assert_true(fabs(r.backlog_slope_per_s) < 1e-9);
    r.backlog_slope_per_s = STATS_UNKNOWN;
    (void)snprintf(cell.slo.name, sizeof cell.slo.name, "s");
    cell.load.mode = SCENARIO_LOAD_CLOSED;
    fill(&r);
    assert_false(r.slo.is_known);
    assert_true(isnan(r.achieved_ratio_lo) && isnan(r.backlog_slope_per_s));
    cell.load.mode = SCENARIO_LOAD_OPEN;
    fill(&r);
    assert_true(r.slo.is_known); /* no limit is set: success is all that is asked */
    assert_int_equal(r.slo.any.over_count, 0);
    result_free(&r);
}

/* P(X <= k) by summing terms built from logarithms. */
static double binomial_sum(uint64_t k, uint64_t n, double p)
{
    double sum = 0;
    for (uint64_t i = 0; i <= k; i++) {
        double di = (double)i;
        double dn = (double)n;
        sum += exp(lgamma(dn + 1) - lgamma(di + 1) - lgamma(dn - di + 1) + di * log(p) +
                   (dn - di) * log1p(-p));
    }
    return sum;
}

static void the_interval_is_exact(void **state)
{
    (void)state;
    for (uint64_t bad = 1; bad < 60; bad += 7) {
        struct run_slo slo = {.is_known = true, .any = {300, bad, 1}};
        struct goodput good = goodput_of(&slo, 10);
        assert_true(fabs(good.rps - (double)(300 - bad) / 10) < 1e-9);
        assert_true(fabs(binomial_sum(bad, 300, 1 - good.lo) - 0.025) < 1e-6);
        assert_true(fabs(1 - binomial_sum(bad - 1, 300, 1 - good.hi) - 0.025) < 1e-6);
        slo.any.inflation = 3; /* as 100 requests */
        struct goodput wider = goodput_of(&slo, 10);
        assert_true(wider.lo < good.lo);
        assert_true(bad == 1 || wider.hi > good.hi); /* a third of one is rounded up to one */
    }
}

/* ---- independence ---- */

/* Waits exp(x) with x autoregressive: x(t) = rho x(t-1) + noise, of variance 1. */
static double mean_inflation(double rho, uint32_t batches, uint32_t each)
{
    struct scenario_cell cell = {.load = {.batches_count = batches}};
    double sum = 0;
    for (uint32_t trial = 0; trial < TRIALS; trial++) {
        struct run_result r = make(&cell, 0, batches);
        struct random random = random_stream(trial, "waits", 0);
        double x = random_normal(&random);
        for (uint32_t i = 0; i < batches * each; i++) {
            double ms = 10 * exp(x);
            r.requests[r.requests_rows_count++] =
                (struct run_request){.outcome = LOAD_OUTCOME_OK,
                                     .sched_ms = 1e3 * (i + 0.5) / each,
                                     .ttft_ms = ms,
                                     .e2el_ms = ms};
            x = rho * x + sqrt(1 - rho * rho) * random_normal(&random);
        }
        fill(&r);
        assert_true(r.n_eff_frac > 0 && r.n_eff_frac <= 1);
        sum += 1 / r.n_eff_frac;
        result_free(&r);
    }
    return sum / TRIALS;
}

/* The signs of an autoregressive process have the autocorrelation (2 / pi) asin(rho^k). */
static double known_inflation(double rho)
{
    double sum = 1;
    for (int k = 1; k < 2000; k++) {
        sum += 2 * 2 / acos(-1.0) * asin(pow(rho, k));
    }
    return sum;
}

static void correlated_requests_are_worth_less(void **state)
{
    static const double rhos[] = {0.6, 0.8, 0.9};
    (void)state;
    for (size_t i = 0; i < sizeof rhos / sizeof rhos[0]; i++) {
        double want = known_inflation(rhos[i]);
        double got = mean_inflation(rhos[i], 20, 300);
        /* A mean of TRIALS estimates with 19 degrees of freedom, and the batches' edges. */
        double error = want * (4 * sqrt(2.0 / 19 / TRIALS) + 0.05);
        if (!(fabs(got - want) <= error)) {
            fail_msg("rho %.1f: inflation %.3f, want %.3f +- %.3f", rhos[i], got, want, error);
        }
    }
}

/* max(1, chi-square / degrees of freedom) has a mean above 1 by chance alone. */
static void independent_requests_are_worth_their_number(void **state)
{
    (void)state;
    struct random random = random_stream(5, "chi-square", 0);
    double want = 0;
    for (int i = 0; i < 20000; i++) {
        double sum = 0;
        for (int k = 0; k < 19; k++) {
            double x = random_normal(&random);
            sum += x * x;
        }
        want += fmax(1, sum / 19) / 20000;
    }
    double got = mean_inflation(0, 20, 100);
    assert_true(fabs(got - want) < 0.08);
}

/* ---- backlog ---- */

/* Poisson arrivals at `offered`; completions Poisson at `served`, in the order of arrival: a server
 * that is never idle. Batches are independent then. */
static void overload(double offered, double served, uint64_t seed, struct run_result *r)
{
    struct random arrivals = random_stream(seed, "arrivals", 0);
    struct random services = random_stream(seed, "services", 0);
    double at = 0;
    double done = 0;
    double end_s = r->warmup_s + r->window_s;
    while (r->requests_rows_count < ROWS_MAX) {
        at += random_exponential(&arrivals) / offered;
        done = fmax(at, done + random_exponential(&services) / served);
        if (at >= end_s) {
            break;
        }
        r->requests[r->requests_rows_count++] = (struct run_request){.outcome = LOAD_OUTCOME_OK,
                                                                     .sched_ms = at * 1e3,
                                                                     .ttft_ms = 1,
                                                                     .e2el_ms = (done - at) * 1e3};
    }
}

static void ratio_and_growth_of_an_overload(void **state)
{
    struct scenario_cell cell = {.load = {.batches_count = 20}};
    double slope = 0;
    int inside = 0;
    (void)state;
    for (uint64_t seed = 0; seed < 2 * TRIALS; seed++) {
        struct run_result r = make(&cell, 10, 20);
        overload(100, 80, seed, &r);
        fill(&r);
        inside += r.achieved_ratio_lo <= 0.8 && 0.8 <= r.achieved_ratio_hi ? 1 : 0;
        slope += r.backlog_slope_per_s / (2 * TRIALS);
        result_free(&r);
    }
    /* 100 arrive and 80 are served a second; the difference has a variance of 180 a second. */
    assert_true(fabs(slope - 20) < 4 * sqrt(180.0 / 20 / (2 * TRIALS)));
    double share = inside / (2.0 * TRIALS);
    assert_true(fabs(share - 0.95) < 4 * sqrt(0.95 * 0.05 / (2 * TRIALS)) + 0.01);
}

static void a_system_that_keeps_up_has_ratio_one(void **state)
{
    struct scenario_cell cell = {.load = {.batches_count = 20}};
    double slope = 0;
    int inside = 0;
    (void)state;
    for (uint64_t seed = 0; seed < TRIALS; seed++) {
        struct run_result r = make(&cell, 10, 20);
        overload(100, 1000, seed, &r);
        fill(&r);
        inside += r.achieved_ratio_lo <= 1 && 1 <= r.achieved_ratio_hi ? 1 : 0;
        slope += r.backlog_slope_per_s / TRIALS;
        result_free(&r);
    }
    assert_true(fabs(slope) < 0.1);
    assert_true(inside >= TRIALS * 9 / 10);
}

/* ---- bins ---- */

static void bins_hold_what_was_put_in(void **state)
{
    enum {
        COUNT = 3000
    };
    static double values[COUNT];
    static struct histogram gaps;
    struct random random = random_stream(3, "values", 0);
    struct run_result r = {.token_basis = ""};
    (void)state;
    for (int i = 0; i < COUNT; i++) {
        values[i] = i < 10 ? 0 : exp(6 * random_unit(&random));
        histogram_add(&gaps, (uint64_t)i, 2);
    }
    stats_sort(values, COUNT);
    observe_add_samples(&r, RUN_E2EL, values, COUNT);
    uint32_t first_gap = r.bins_count;
    observe_add_gaps(&r, RUN_ITL, &gaps);
    size_t next = 0;
    for (uint32_t i = 0; i < r.bins_count; i++) {
        const struct run_bin *b = &r.bins[i];
        double lo = (double)histogram_bucket_lo(b->bucket);
        double hi = (double)histogram_bucket_lo(b->bucket + 1);
        assert_int_equal(b->metric, i < first_gap ? RUN_E2EL : RUN_ITL);
        assert_true(i == 0 || i == first_gap || b->bucket > r.bins[i - 1].bucket);
        assert_true(b->count > 0);
        assert_true(hi - lo <= fmax(1, lo / 127));
        for (uint64_t k = 0; k < b->count && i < first_gap; k++, next++) {
            double ns = round(values[next] * 1e6);
            assert_true(ns >= lo && ns < hi);
        }
    }
    assert_int_equal(next, COUNT);
    uint64_t tokens = 0;
    for (uint32_t i = first_gap; i < r.bins_count; i++) {
        tokens += r.bins[i].count;
    }
    assert_int_equal(tokens, 2 * COUNT);
    result_free(&r);
}

/* ---- steady state ---- */

/* Tokens and requests in flight of bucket `i`, without noise; the window begins at 15. */
typedef double shape(uint32_t i);

static double level(uint32_t i)
{
    (void)i;
    return 1;
}

static double early_ramp(uint32_t i)
{
    return i < 10 ? i / 10.0 : 1;
}

static double late_ramp(uint32_t i)
{
    return i < 35 ? 0.2 + 0.8 * i / 35.0 : 1;
}

static double growth(uint32_t i)
{
    return 1 + i / 40.0;
}

/* Whatever came before a window of 5 s, it is level from there. */
static double long_ramp(uint32_t i)
{
    return i < 90 ? 0.1 + i / 100.0 : 1;
}

static uint32_t steady_runs(struct load_shared *client, uint32_t count, shape *tokens,
                            shape *inflight)
{
    uint32_t steady = 0;
    for (uint32_t trial = 0; trial < TRIALS; trial++) {
        struct random random = random_stream(trial, "buckets", 0);
        double warmup_s = tokens == long_ramp || inflight == long_ramp ? 9 : 1.5;
        struct run_result r = {
            .warmup_s = warmup_s, .window_s = count / 10.0 - warmup_s, .token_basis = ""};
        for (uint32_t i = 0; i < count; i++) {
            struct load_bucket *b = &client->timeline[i];
            double t = 1900 * tokens(i) * (1 + 0.1 * random_normal(&random));
            double n = 80 * inflight(i) * (1 + 0.05 * random_normal(&random));
            atomic_store(&b->tokens, (uint32_t)fmax(0, t));
            atomic_store(&b->inflight_plus_1, (uint32_t)fmax(0, n) + 1);
        }
        observe_fill_steady(client, &r);
        assert_true(!isnan(r.steady_flag));
        steady += r.steady_flag > 0 ? 1 : 0;
    }
    return steady;
}

static void starts_that_reach_into_the_window_are_noticed(void **state)
{
    struct load_options options = {.targets = {{.host = "127.0.0.1", .port = 1}},
                                   .targets_count = 1,
                                   .model = "m",
                                   .mode = LOAD_CLOSED,
                                   .users_count = 1,
                                   .connections_count = 1,
                                   .prompt_tokens = {.lo = 1, .hi = 1},
                                   .output_tokens = {.lo = 1, .hi = 1},
                                   .api_servers_count = 1,
                                   .batches_count = 1,
                                   .window_ns = 1};
    struct load_shared client;
    struct error error;
    (void)state;
    if (load_shared_create(&options, &client, &error) != STATUS_OK) {
        fail_msg("%s", error.text);
    }
    for (uint32_t count = 55; count <= 615; count += 560) { /* windows of 4 s and 60 s */
        assert_true(steady_runs(&client, count, level, level) >= MOST);
        assert_true(steady_runs(&client, count, early_ramp, early_ramp) >= MOST);
        assert_true(steady_runs(&client, count, level, growth) <= FEW);
    }
    assert_true(steady_runs(&client, 55, late_ramp, level) <= FEW);
    assert_true(steady_runs(&client, 55, level, late_ramp) <= FEW);
    /* The same start is a thirtieth of a window of a minute, and does not matter there. */
    assert_true(steady_runs(&client, 615, late_ramp, level) >= MOST);
    /* The rise takes more than half of the load: where it ends cannot be told, but the window is
     * level, or is not. */
    assert_true(steady_runs(&client, 140, long_ramp, level) >= TRIALS * 9 / 10);
    assert_true(steady_runs(&client, 140, long_ramp, growth) <= FEW);
    struct run_result r = {.warmup_s = 1.5, .window_s = 2, .token_basis = ""};
    observe_fill_steady(&client, &r);
    assert_true(isnan(r.steady_flag));
    load_shared_close(&client);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_within_limits_are_counted),
        cmocka_unit_test(without_an_slo_or_a_population_there_is_none),
        cmocka_unit_test(the_interval_is_exact),
        cmocka_unit_test(correlated_requests_are_worth_less),
        cmocka_unit_test(independent_requests_are_worth_their_number),
        cmocka_unit_test(ratio_and_growth_of_an_overload),
        cmocka_unit_test(a_system_that_keeps_up_has_ratio_one),
        cmocka_unit_test(bins_hold_what_was_put_in),
        cmocka_unit_test(starts_that_reach_into_the_window_are_noticed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

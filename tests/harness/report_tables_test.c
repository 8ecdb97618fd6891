/*
 * report_tables_test.c - the tables beside the verdict: prediction and measurement, who launches
 * kernels, shares. Figures are worked out here by hand from the inputs.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "harness/report/forecast.h"
#include "harness/report/launching.h"
#include "harness/report/shares.h"
#include "harness/report/summary.h"
#include "helper_report.h"

static const char lockstep_text[] =
    "[scenario]\nname = steps\nrepeats = 1\n"
    "[server s]\ntopology = api_servers=1 dp=8 tp=1\n"
    "device = emulated gpu=h100 model=qwen3-30b-a3b\nlockstep = yes\nmax_num_seqs = 8\n"
    "max_model_len = 2048\n"
    "[workload w]\nprompt = 64tok\noutput = 1024tok\nignore_eos = yes\n"
    "[load l]\nusers = %{c}\n"
    "[sweep]\naxis.c = 1,8,9\n";

static const char eager_text[] =
    "[scenario]\nname = eager\nrepeats = 1\n"
    "[server s]\ntopology = api_servers=1 dp=%{dp} tp=1\nlaunch = %{launch}\n"
    "device = emulated gpu=h100 model=llama-3.1-8b\nmax_num_seqs = 16\nmax_model_len = 2048\n"
    "[workload w]\nprompt = 64tok\noutput = 256tok\nignore_eos = %{eos}\n"
    "[load l]\nusers = 32 * %{dp}\n"
    "[sweep]\naxis.dp = 1,16\naxis.launch = eager,graph\naxis.eos = yes,no\n";

static void near_to(double value, double want)
{
    if (!(fabs(value - want) <= 1e-9 + 1e-6 * fabs(want))) {
        fail_msg("%.9g is not %.9g", value, want);
    }
}

static const char *at(const struct grid *g, uint32_t row, uint32_t column)
{
    assert_true(row < grid_rows(g) && column < g->columns_count);
    return g->cells[row * g->columns_count + column];
}

/* ---- grid ---- */

static void a_grid_is_written_both_ways(void **state)
{
    static const char *const columns[] = {"<name", "n"};
    char *text = NULL;
    size_t bytes = 0;
    (void)state;
    struct grid g = grid_of(columns, 2);
    for (int i = 0; i < 100; i++) { /* more than it has room for at first */
        struct text t = grid_cell(&g);
        text_add(&t, "a|%d", i);
        grid_number(&g, i == 1 ? STATS_UNKNOWN : i * 1.5, 1);
    }
    assert_int_equal(grid_rows(&g), 100);
    FILE *out = open_memstream(&text, &bytes);
    assert_non_null(out);
    grid_plain(&g, 2, out);
    assert_int_equal(fflush(out), 0);
    assert_string_equal(text,
                        "name     n\na|0    0.0\na|1      -\n... report.md has 98 more rows\n");
    grid_markdown(&g, out);
    assert_int_equal(fclose(out), 0);
    assert_non_null(strstr(text, "\n| name | n |\n|---|---:|\n| a\\|0 | 0.0 |\n| a\\|1 | - |\n"));
    free(text);
    grid_free(&g);
}

/* ---- prediction and measurement ---- */

static void lockstep_is_compared(void **state)
{
    struct sweep sweep = sweep_of(lockstep_text);
    (void)state;
    assert_int_equal(sweep.count, 3);
    for (uint32_t i = 0; i < sweep.count; i++) {
        sweep.results[i].latency[RUN_ITL].mean_ms = 4.0;
        sweep.results[i].rank_steps_per_tok = 2.0;
    }
    sweep.results[2].host_limited = true;
    struct summary *s = summary_build(sweep.scenario, sweep.results, sweep.count);
    struct grid g = forecast_grid(s, false);
    assert_int_equal(grid_rows(&g), 9); /* three quantities a cell */
    assert_string_equal(at(&g, 1, 0), "c=1");
    assert_string_equal(at(&g, 1, 1), "rank-steps a token");
    assert_string_equal(at(&g, 1, 2), "8.000"); /* 8 ranks / 1 request */
    assert_string_equal(at(&g, 1, 3), "2.000");
    assert_string_equal(at(&g, 1, 4), "-75.0");
    assert_string_equal(at(&g, 4, 2), "1.000");
    assert_string_equal(at(&g, 7, 2), "0.889");
    assert_string_equal(at(&g, 2, 1), "ms between tokens");
    assert_string_equal(at(&g, 2, 3), "4.00");
    assert_string_equal(at(&g, 0, 5), "load");
    assert_string_equal(at(&g, 0, 6), "");
    assert_string_equal(at(&g, 6, 6), "host limited");
    grid_free(&g);
    g = forecast_grid(s, true);
    assert_true(grid_rows(&g) > 9);
    grid_free(&g);
    summary_free(s);
    sweep_free(&sweep);
}

static void what_cannot_be_predicted_is_named(void **state)
{
    char why[256];
    struct sweep sweep = sweep_of(eager_text);
    (void)state;
    struct summary *s = summary_build(sweep.scenario, sweep.results, sweep.count);
    struct text t = text_into(why, sizeof why);
    forecast_missing(s, &t);
    const char *reason = strstr(why, "ignore_eos = no");
    assert_non_null(reason);
    assert_null(strstr(reason + 1, "ignore_eos")); /* once */
    for (uint32_t i = 0; i < s->points_count; i++) {
        assert_int_equal(s->points[i].forecast.known, s->points[i].cell->workload.ignore_eos);
    }
    struct grid g = forecast_grid(s, false);
    for (uint32_t i = 0; i < grid_rows(&g); i++) {
        assert_null(strstr(at(&g, i, 0), "eos=no"));
    }
    assert_true(grid_rows(&g) > 0);
    grid_free(&g);
    summary_free(s);
    sweep_free(&sweep);
}

/* ---- launching ---- */

static struct probe_rates thread_of(double kernels, double launch_us, double gpu_busy)
{
    struct probe_rates t = {.kind = THREAD_WORKER_MAIN, .prepare_frac = 0.02};
    t.launches_per_s[LAUNCH_CLASS_KERNEL] = kernels;
    t.launches_per_s[LAUNCH_CLASS_COPY] = kernels / 100;
    t.launch_frac = kernels * 1.01 * launch_us / 1e6;
    t.gpu_busy_frac = gpu_busy;
    return t;
}

static void the_margin_by_hand(void **state)
{
    struct topology own = {.engines_count = 2, .tp = 1, .pp = 1, .async_depth = 2};
    (void)state;
    /* 50,500 launches/s of 2 us: 10.1 % of the thread. The GPU computes 80 % of the time, 2 % of
     * the thread's goes to preparing: 78 % / 50,500 = 15.446 us. */
    struct probe_rates t = thread_of(50000, 2, 0.80);
    struct launching_margin m = launching_margin_of(&t, &own);
    near_to(m.cost_us, 2);
    near_to(m.critical_us, 0.78e6 / 50500);
    near_to(m.ratio, 2 / (0.78e6 / 50500));
    near_to(m.spare_us, 0.78e6 / 50500 - 2);
    /* At that cost it is the limit: ratio 1, nothing to spare. */
    t = thread_of(50000, 0.78e6 / 50500, 0.80);
    m = launching_margin_of(&t, &own);
    near_to(m.ratio, 1);
    assert_true(fabs(m.spare_us) < 1e-9);
    t.gpu_busy_frac = 0.01; /* preparing alone takes longer than the GPU */
    assert_true(isinf(launching_margin_of(&t, &own).ratio));
    own.async_depth = 1; /* preparing is not beside the GPU's time */
    near_to(launching_margin_of(&t, &own).critical_us, 0.01e6 / 50500);
    t = thread_of(0, 2, 0.5);
    assert_true(isnan(launching_margin_of(&t, &own).cost_us));
    const struct topology shared = {
        .engines_count = 2, .tp = 1, .pp = 1, .gpu_sharing = GPU_TIME_SLICED, .engines_per_gpu = 2};
    t = thread_of(50000, 2, 0.80);
    near_to(launching_margin_of(&t, &shared).cost_us, 2);
    assert_true(isnan(launching_margin_of(&t, &shared).ratio));
}

static uint32_t longest_line(const char *text)
{
    uint32_t longest = 0;
    uint32_t length = 0;
    for (const char *c = text; *c != '\0'; c++) {
        length = *c == '\n' ? 0 : length + 1;
        longest = length > longest ? length : longest;
    }
    return longest;
}

static void many_threads_are_folded(void **state)
{
    char *text = NULL;
    size_t bytes = 0;
    struct sweep sweep = sweep_of(eager_text);
    (void)state;
    for (uint32_t i = 0; i < sweep.count; i++) {
        for (uint32_t k = 0; k < sweep.results[i].launchers_count; k++) {
            sweep.results[i].launchers[k].prepare_frac = 0.10 + 0.01 * k;
        }
    }
    struct summary *s = summary_build(sweep.scenario, sweep.results, sweep.count);
    struct grid g = launching_grid(s, 8);
    /* Of 8 cells, 4 have one thread (heading and row), 4 have 16 (heading and three rows). */
    assert_int_equal(grid_rows(&g), 4 * 2 + 4 * 4);
    uint32_t row = 0;
    while (strcmp(at(&g, row, 0), " least") != 0) {
        row++;
    }
    assert_string_equal(at(&g, row, 4), "10");
    assert_string_equal(at(&g, row + 1, 0), " mean of 16");
    assert_string_equal(at(&g, row + 1, 4), "18"); /* 17.5 */
    assert_string_equal(at(&g, row + 2, 4), "25");
    assert_string_equal(at(&g, row, 7), "93*"); /* on the output thread */
    assert_string_equal(at(&g, 1, 7), "60");    /* waits itself */
    grid_free(&g);
    g = launching_grid(s, 0);
    assert_int_equal(grid_rows(&g), 8);
    assert_non_null(strstr(at(&g, 7, 0), "16 x 16,graph,no"));
    FILE *out = open_memstream(&text, &bytes);
    assert_non_null(out);
    grid_plain(&g, 20, out);
    (void)fputs(launching_legend(), out);
    assert_int_equal(fclose(out), 0);
    assert_true(longest_line(text) <= 100);
    free(text);
    grid_free(&g);
    summary_free(s);
    sweep_free(&sweep);
}

/* ---- shares ---- */

static void uneven_shares_are_named(void **state)
{
    static const double uneven[] = {27, 5, 0, 0};
    static const double alike[] = {25, 26, 24, 25};
    char text[512];
    struct sweep sweep = sweep_make();
    (void)state;
    near_to(shares_peak(uneven, 4), 27 / 8.0);
    assert_true(isnan(shares_peak(uneven + 2, 2)));
    struct text t = text_into(text, sizeof text);
    shares_tell(&t, uneven, 4);
    assert_string_equal(text, "84/16/0/0");
    double many[12] = {3, 9, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0};
    t = text_into(text, sizeof text);
    shares_tell(&t, many, 12);
    assert_string_equal(text, "least 0.0, greatest 45.0 of 12");

    struct run_result *r = &sweep.results[sweep.count - 1]; /* 4 API servers, 8 engine cores */
    struct scenario_cell cell = *r->cell;
    r->cell = &cell;
    assert_int_equal(cell.topology.api_servers_count, 4);
    t = text_into(text, sizeof text);
    shares_alarm(r, &t);
    assert_string_equal(text, "");
    memcpy(r->api_tok_per_s, alike, sizeof alike);
    shares_alarm(r, &t);
    assert_string_equal(text, "");
    memcpy(r->api_tok_per_s, uneven, sizeof uneven);
    cell.topology.accept = ACCEPT_SHARED;
    shares_alarm(r, &t);
    assert_non_null(strstr(text, "API servers unevenly used (84/16/0/0 %, greatest/mean 3.38)"));
    assert_non_null(strstr(text, "shared accept queue"));
    assert_null(strstr(text, "Engine cores"));

    memcpy(r->api_tok_per_s, alike, sizeof alike);
    r->engine_tok_per_s[0] *= 4;
    cell.topology.publish_off = 1;
    t = text_into(text, sizeof text);
    shares_alarm(r, &t);
    assert_non_null(strstr(text, "Engine cores unevenly used (36/9/9/9/9/9/9/9 %"));
    assert_non_null(strstr(text, "publish no counts"));
    cell.topology.publish_off = 0;
    r->users_count = 3;
    t = text_into(text, sizeof text);
    shares_alarm(r, &t);
    assert_non_null(strstr(text, "fewer users than engine cores"));

    r->engine_tok_per_s[0] /= 4;
    r->stranded_frac = STRANDED_ALARM;
    t = text_into(text, sizeof text);
    shares_alarm(r, &t);
    assert_string_equal(text, "");
    const struct summary_point point = {.run = r};
    assert_string_equal(shares_alarm_name(&point), "");
    r->stranded_frac = 0.3;
    shares_alarm(r, &t);
    assert_non_null(strstr(text, "another had free places for 30 % of the time"));
    assert_non_null(strstr(text, "stale"));
    assert_string_equal(shares_alarm_name(&point), "stranded_requests");
    r->engine_tok_per_s[0] *= 4;
    assert_string_equal(shares_alarm_name(&point), "engine_cores+stranded_requests");
    sweep_free(&sweep);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_grid_is_written_both_ways),
        cmocka_unit_test(lockstep_is_compared),
        cmocka_unit_test(what_cannot_be_predicted_is_named),
        cmocka_unit_test(the_margin_by_hand),
        cmocka_unit_test(many_threads_are_folded),
        cmocka_unit_test(uneven_shares_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

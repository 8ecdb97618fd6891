/*
 * report_validation_test.c - simulated runs against measured ones: made-up runs whose errors are
 * known by construction, spreads worked out by hand, which cells are judged and found over a limit,
 * steps of the grid between knees, and what the files and the sentence say of it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "harness/load/histogram.h"
#include "harness/report/validation.h"
#include "helper_report.h"

enum {
    TEXT_BYTES = 2048
};

/* A sweep measured and simulated: the copies behind the measured runs are the simulated ones. */
struct both {
    struct sweep sweep;
    struct run_result *results; /* the sweep's, then as many simulated */
    uint32_t count;             /* of each */
    struct simulated_split split;
    struct summary *summary;
    struct validation *validation;
};

static void both_make(struct both *b)
{
    b->sweep = sweep_make();
    b->count = b->sweep.count;
    b->results = calloc((size_t)2 * b->count, sizeof *b->results);
    assert_non_null(b->results);
    for (uint32_t i = 0; i < b->count; i++) {
        b->results[i] = b->sweep.results[i];
        b->results[b->count + i] = b->sweep.results[i];
        b->results[b->count + i].simulated = true;
    }
}

static struct run_result *measured_at(struct both *b, const char *cell, uint32_t replicate)
{
    for (uint32_t i = 0; i < b->count; i++) {
        if (strcmp(b->results[i].cell->name, cell) == 0 && b->results[i].replicate == replicate) {
            return &b->results[i];
        }
    }
    fail_msg("no run of %s", cell);
    return NULL;
}

static struct run_result *simulated_at(struct both *b, const char *cell, uint32_t replicate)
{
    return measured_at(b, cell, replicate) + b->count;
}

static void both_validate(struct both *b)
{
    simulated_split(b->results, 2 * b->count, &b->split);
    b->summary = summary_build(b->sweep.scenario, b->split.shown, b->split.shown_count);
    simulated_add(b->summary, &b->split);
    b->validation = validation_of(b->summary, &b->split);
}

static void both_free(struct both *b)
{
    validation_free(b->validation);
    summary_free(b->summary);
    simulated_split_free(&b->split);
    free(b->results);
    sweep_free(&b->sweep);
}

static const struct validation_row *row_of(const struct both *b, const char *cell)
{
    for (uint32_t i = 0; i < b->validation->rows_count; i++) {
        if (strcmp(b->validation->rows[i].cell->name, cell) == 0) {
            return &b->validation->rows[i];
        }
    }
    fail_msg("no row of %s", cell);
    return NULL;
}

static void assert_near(double got, double want)
{
    if (!(fabs(got - want) <= 1e-9 * fmax(1.0, fabs(want)))) {
        fail_msg("got %.12g, want %.12g", got, want);
    }
}

static void set_ttft(struct run_result *r, double mean, double p50, double p99)
{
    r->latency[RUN_TTFT].mean_ms = mean;
    r->latency[RUN_TTFT].p50_ms = p50;
    r->latency[RUN_TTFT].p99_ms = p99;
}

static void told(const struct both *b, char out[TEXT_BYTES])
{
    struct text t = text_into(out, TEXT_BYTES);
    validation_tell(b->validation, &t);
}

static void equal_runs_have_no_error(void **state)
{
    (void)state;
    struct both b;
    char text[TEXT_BYTES];
    both_make(&b);
    both_validate(&b);
    assert_int_equal(b.validation->rows_count, SWEEP_SERVERS * SWEEP_CORES);
    assert_int_equal(validation_judged(b.validation), SWEEP_SERVERS * SWEEP_CORES);
    assert_int_equal(validation_exceeding(b.validation), 0);
    assert_int_equal(b.validation->knees_count, SWEEP_SERVERS);
    for (uint32_t i = 0; i < b.validation->knees_count; i++) {
        assert_true(b.validation->knees[i].judged);
        assert_int_equal(b.validation->knees[i].steps, 0);
    }
    assert_near(row_of(&b, "api_servers=1,dp=1")->tok_per_s.error_frac, 0);
    told(&b, text);
    assert_non_null(strstr(text, "Throughput within 0.0 % in all 18 cells"));
    assert_null(strstr(text, "exceeds"));
    both_free(&b);
}

static void errors_and_spread_are_those_worked_out_by_hand(void **state)
{
    (void)state;
    const char *cell = "api_servers=2,dp=3";
    struct both b;
    both_make(&b);
    measured_at(&b, cell, 0)->output_tok_per_s.mean = 990;
    measured_at(&b, cell, 1)->output_tok_per_s.mean = 1010;
    simulated_at(&b, cell, 0)->output_tok_per_s.mean = 1030;
    simulated_at(&b, cell, 1)->output_tok_per_s.mean = 1010;
    set_ttft(measured_at(&b, cell, 0), 10, 8, 40);
    set_ttft(measured_at(&b, cell, 1), 12, 8, 60);
    set_ttft(simulated_at(&b, cell, 0), 9, 7, 44);
    set_ttft(simulated_at(&b, cell, 1), 13, 7, 66);
    both_validate(&b);
    const struct validation_row *row = row_of(&b, cell);
    assert_int_equal(row->pairs_count, 2);
    assert_near(row->tok_per_s.measured, 1000);
    assert_near(row->tok_per_s.simulated, 1020);
    assert_near(row->tok_per_s.error_frac, 0.02);
    assert_near(row->tok_per_s.spread, sqrt(200)); /* (10^2 + 10^2) / (2 - 1) */
    assert_near(row->tok_per_s.over_spread, 20 / sqrt(200));
    const struct validation_latency *ttft = &row->latency[VALIDATION_TTFT];
    assert_near(ttft->at[VALIDATION_MEAN].error_frac, 0);
    assert_near(ttft->at[VALIDATION_P50].error_frac, -0.125);
    assert_near(ttft->at[VALIDATION_P99].error_frac, 0.1);
    assert_true(isnan(ttft->at[VALIDATION_P90].error_frac)); /* neither side knows it */
    assert_true(isnan(ttft->distance_frac));                 /* no bins */
    assert_true(row->exceeds[VALIDATION_LIMIT_TTFT_P50]);    /* 12.5 % of at most 8 */
    assert_false(row->exceeds[VALIDATION_LIMIT_TTFT_P99] ||
                 row->exceeds[VALIDATION_LIMIT_TOK_PER_S]);
    assert_int_equal(validation_exceeding(b.validation), 1);
    both_free(&b);
}

/* 30 % off: over the limit where runs are alike, not where they scatter as much. */
static void a_tail_may_be_off_by_two_spreads(void **state)
{
    (void)state;
    static const struct {
        double low;
        double high;
        bool exceeds;
    } cases[] = {{99, 101, true}, {85, 115, false}};
    const char *cell = "api_servers=4,dp=1";
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct both b;
        both_make(&b);
        set_ttft(measured_at(&b, cell, 0), 20, 20, cases[i].low);
        set_ttft(measured_at(&b, cell, 1), 20, 20, cases[i].high);
        set_ttft(simulated_at(&b, cell, 0), 20, 20, 130);
        set_ttft(simulated_at(&b, cell, 1), 20, 20, 130);
        both_validate(&b);
        assert_int_equal(row_of(&b, cell)->exceeds[VALIDATION_LIMIT_TTFT_P99], cases[i].exceeds);
        both_free(&b);
    }
}

static void what_is_no_evidence_is_named_and_not_judged(void **state)
{
    (void)state;
    struct both b;
    char text[TEXT_BYTES];
    both_make(&b);
    for (uint32_t i = 0; i < 2; i++) {
        measured_at(&b, "api_servers=4,dp=8", i)->host_limited = true;
        simulated_at(&b, "api_servers=4,dp=8", i)->output_tok_per_s.mean *= 2;
        simulated_at(&b, "api_servers=1,dp=2", i)->outcome = RUN_INVALID;
    }
    measured_at(&b, "api_servers=1,dp=3", 1)->host_limited = true; /* the other one is evidence */
    both_validate(&b);
    const struct validation_row *limited = row_of(&b, "api_servers=4,dp=8");
    assert_false(limited->judged);
    assert_string_equal(limited->why, "host limited");
    assert_near(limited->tok_per_s.error_frac, 1); /* shown all the same */
    assert_false(row_of(&b, "api_servers=1,dp=2")->judged);
    assert_true(isnan(row_of(&b, "api_servers=1,dp=2")->tok_per_s.error_frac));
    assert_int_equal(row_of(&b, "api_servers=1,dp=3")->pairs_count, 1);
    assert_true(isnan(row_of(&b, "api_servers=1,dp=3")->tok_per_s.over_spread));
    assert_int_equal(validation_judged(b.validation), 16);
    told(&b, text);
    assert_non_null(strstr(text, "in 16 of 18 cells"));
    assert_non_null(strstr(text, "Not judged: "));
    assert_non_null(strstr(text, "api_servers=4,dp=8 (host limited)"));
    both_free(&b);
}

/* One API server: measured 3. Simulated rates that grow to 4, or to 6, engine cores. */
static void knees_are_steps_of_the_grid_apart(void **state)
{
    (void)state;
    static const struct {
        double at_4;
        double at_6;
        double at_8;
        uint32_t steps;
    } cases[] = {{26.4, 26.5, 26.4, 1}, {26.4, 38.0, 38.1, 2}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct both b;
        both_make(&b);
        for (uint32_t k = 0; k < 2; k++) {
            double wiggle = k == 0 ? 0.999 : 1.001;
            const double rates[] = {cases[i].at_4, cases[i].at_6, cases[i].at_8};
            const char *const cells[] = {"api_servers=1,dp=4", "api_servers=1,dp=6",
                                         "api_servers=1,dp=8"};
            for (int c = 0; c < 3; c++) {
                simulated_at(&b, cells[c], k)->output_tok_per_s.mean = rates[c] * 1e3 * wiggle;
            }
        }
        both_validate(&b);
        const struct validation_knee *knee = &b.validation->knees[0];
        assert_int_equal(knee->measured_count, 3);
        assert_int_equal(knee->steps, cases[i].steps);
        assert_int_equal(knee->exceeds, cases[i].steps > 1);
        both_free(&b);
    }
}

/* Half of the requests one bin higher: half a bin's width is moved. */
static void the_distance_is_that_of_all_requests(void **state)
{
    (void)state;
    const char *cell = "api_servers=1,dp=1";
    uint32_t bucket = histogram_bucket(10000000);
    struct run_bin at_one = {.metric = RUN_TTFT, .bucket = bucket, .count = 100};
    struct run_bin at_two[] = {{.metric = RUN_TTFT, .bucket = bucket, .count = 50},
                               {.metric = RUN_TTFT, .bucket = bucket + 1, .count = 50}};
    double width = (double)(histogram_bucket_lo(bucket + 1) - histogram_bucket_lo(bucket));
    double middle = (double)histogram_bucket_lo(bucket) + width / 2;
    struct both b;
    both_make(&b);
    for (uint32_t i = 0; i < 2; i++) {
        set_ttft(measured_at(&b, cell, i), 10, 10, 10);
        set_ttft(simulated_at(&b, cell, i), 10, 10, 10);
        measured_at(&b, cell, i)->bins = &at_one;
        measured_at(&b, cell, i)->bins_count = 1;
        simulated_at(&b, cell, i)->bins = at_two;
        simulated_at(&b, cell, i)->bins_count = 2;
    }
    both_validate(&b);
    assert_near(row_of(&b, cell)->latency[VALIDATION_TTFT].distance_frac, width / 2 / middle);
    both_free(&b);
}

static void a_session_that_did_both_says_so(void **state)
{
    (void)state;
    struct both b;
    char folder[256];
    struct report *report = NULL;
    struct report_conclusion conclusion;
    struct error error;
    both_make(&b);
    for (uint32_t i = 0; i < 2; i++) {
        simulated_at(&b, "api_servers=1,dp=8", i)->output_tok_per_s.mean *= 1.05;
    }
    folder_make(folder);
    const struct report_options options = {.folder = folder,
                                           .plots_folder = folder,
                                           .scenario = b.sweep.scenario,
                                           .host = &b.sweep.host};
    assert_int_equal(report_create(&options, &report, &error), STATUS_OK);
    assert_int_equal(report_conclude(report, b.results, 2 * b.count, false, &conclusion, &error),
                     STATUS_OK);
    assert_true(conclusion.validated && conclusion.deviates);
    assert_non_null(
        strstr(conclusion.validation, "exceeds its limits: api_servers=1,dp=8 (tokens/s +5.0 %)"));
    assert_non_null(strstr(conclusion.verdict, conclusion.validation));
    char *csv = file_text(folder, "validation.csv");
    assert_non_null(csv);
    assert_non_null(strstr(csv, "\n1,\"api_servers=1,dp=8\",output_tok_per_s,1/s,2,"));
    assert_non_null(strstr(csv, ",1,mean,\n"));
    assert_non_null(strstr(csv, "\n1,1 API server,last_helpful,,0,3,3,"));
    char *markdown = file_text(folder, "report.md");
    assert_non_null(strstr(markdown, "## Simulation against measurement"));
    assert_non_null(strstr(markdown, "exceeded: tokens/s"));
    free(markdown);
    free(csv);
    report_close(report);
    folder_remove(folder);
    simulated_split(b.results, 2 * b.count, &b.split);
    b.summary = summary_build(b.sweep.scenario, b.split.shown, b.split.shown_count);
    b.validation = NULL;
    both_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equal_runs_have_no_error),
        cmocka_unit_test(errors_and_spread_are_those_worked_out_by_hand),
        cmocka_unit_test(a_tail_may_be_off_by_two_spreads),
        cmocka_unit_test(what_is_no_evidence_is_named_and_not_judged),
        cmocka_unit_test(knees_are_steps_of_the_grid_apart),
        cmocka_unit_test(the_distance_is_that_of_all_requests),
        cmocka_unit_test(a_session_that_did_both_says_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

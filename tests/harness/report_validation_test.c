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

static char *markdown_of(const struct both *b)
{
    char *text = NULL;
    size_t bytes = 0;
    FILE *file = open_memstream(&text, &bytes);
    assert_non_null(file);
    validation_markdown(b->validation, file);
    assert_int_equal(fclose(file), 0);
    return text;
}

static void assert_has(const char *text, const char *part)
{
    assert_non_null(text);
    if (strstr(text, part) == NULL) {
        fail_msg("want '%s' in: %s", part, text);
    }
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

/* A cell without a spread to speak of, on either side of each limit. */
static void limits_are_those_that_are_written(void **state)
{
    (void)state;
    static const struct {
        double tok_per_s;
        double p50;
        double p99;
        int exceeds; /* enum validation_limit; -1: none */
    } cases[] = {{1029, 100, 100, -1},
                 {971, 100, 100, -1},
                 {1031, 100, 100, VALIDATION_LIMIT_TOK_PER_S},
                 {969, 100, 100, VALIDATION_LIMIT_TOK_PER_S},
                 {1000, 107.9, 100, -1},
                 {1000, 92.1, 100, -1},
                 {1000, 108.1, 100, VALIDATION_LIMIT_TTFT_P50},
                 {1000, 91.9, 100, VALIDATION_LIMIT_TTFT_P50},
                 {1000, 100, 119.5, -1},
                 {1000, 100, 80.5, -1},
                 {1000, 100, 120.5, VALIDATION_LIMIT_TTFT_P99},
                 {1000, 100, 79.5, VALIDATION_LIMIT_TTFT_P99}};
    const char *cell = "api_servers=2,dp=2";
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct both b;
        both_make(&b);
        for (uint32_t k = 0; k < 2; k++) {
            double wiggle = k == 0 ? 0.9999 : 1.0001;
            measured_at(&b, cell, k)->output_tok_per_s.mean = 1000 * wiggle;
            simulated_at(&b, cell, k)->output_tok_per_s.mean = cases[i].tok_per_s;
            set_ttft(measured_at(&b, cell, k), 100, 100 * wiggle, 100 * wiggle);
            set_ttft(simulated_at(&b, cell, k), 100, cases[i].p50, cases[i].p99);
        }
        both_validate(&b);
        for (int limit = 0; limit < VALIDATION_LIMITS_COUNT; limit++) {
            assert_int_equal(row_of(&b, cell)->exceeds[limit], limit == cases[i].exceeds);
        }
        both_free(&b);
    }
}

/* One run has no spread, and equal ones none to divide by: neither excuses a tail. */
static void without_a_spread_a_tail_has_its_limit(void **state)
{
    (void)state;
    const char *cell = "api_servers=2,dp=2";
    for (int lost = 0; lost < 2; lost++) {
        struct both b;
        both_make(&b);
        for (uint32_t k = 0; k < 2; k++) {
            set_ttft(measured_at(&b, cell, k), 100, 100, 100);
            set_ttft(simulated_at(&b, cell, k), 100, 100, 121);
        }
        if (lost != 0) {
            measured_at(&b, cell, 1)->outcome = RUN_INVALID;
        }
        both_validate(&b);
        const struct validation_row *row = row_of(&b, cell);
        assert_int_equal(row->pairs_count, 2 - lost);
        assert_true(isnan(row->latency[VALIDATION_TTFT].at[VALIDATION_P99].over_spread));
        assert_true(row->judged && row->exceeds[VALIDATION_LIMIT_TTFT_P99]);
        both_free(&b);
    }
}

/* A number that one side of a pair does not know is left out of both. */
static void what_one_side_does_not_know_is_not_compared(void **state)
{
    (void)state;
    const char *cell = "api_servers=2,dp=2";
    struct both b;
    both_make(&b);
    set_ttft(measured_at(&b, cell, 0), 10, 10, STATS_UNKNOWN);
    set_ttft(measured_at(&b, cell, 1), 30, 30, 90);
    set_ttft(simulated_at(&b, cell, 0), 11, STATS_UNKNOWN, 80);
    set_ttft(simulated_at(&b, cell, 1), 31, 30, STATS_UNKNOWN);
    both_validate(&b);
    const struct validation_latency *ttft = &row_of(&b, cell)->latency[VALIDATION_TTFT];
    assert_near(ttft->at[VALIDATION_MEAN].measured, 20);
    assert_near(ttft->at[VALIDATION_P50].measured, 30);
    assert_near(ttft->at[VALIDATION_P50].error_frac, 0);
    assert_true(isnan(ttft->at[VALIDATION_P50].spread));
    assert_true(isnan(ttft->at[VALIDATION_P99].measured));
    assert_true(isnan(ttft->at[VALIDATION_P99].error_frac));
    assert_int_equal(validation_exceeding(b.validation), 0);
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
    measured_at(&b, "api_servers=2,dp=2", 0)->outcome = RUN_INVALID;
    measured_at(&b, "api_servers=2,dp=2", 1)->outcome = RUN_INVALID;
    simulated_at(&b, "api_servers=2,dp=8", 0)->output_tok_per_s.mean = STATS_UNKNOWN;
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
    assert_string_equal(row_of(&b, "api_servers=1,dp=2")->why, "no run is valid in both");
    assert_int_equal(row_of(&b, "api_servers=2,dp=2")->pairs_count, 0);
    assert_false(row_of(&b, "api_servers=2,dp=2")->judged);
    assert_string_equal(row_of(&b, "api_servers=2,dp=8")->why, "throughput unknown");
    assert_int_equal(validation_judged(b.validation), 14);
    assert_int_equal(validation_exceeding(b.validation), 0);
    told(&b, text);
    assert_non_null(strstr(text, "Throughput within 0.0 % in 14 of 18 cells"));
    assert_non_null(strstr(text, "Not judged: "));
    assert_non_null(strstr(text, "api_servers=4,dp=8 (host limited)"));
    both_free(&b);
}

/* The curve counts as one excess more than its cells, and is named. */
static void assert_knee_is_told(const struct both *b, const struct validation_knee *knee)
{
    char text[TEXT_BYTES];
    char line[64];
    uint32_t cells = 0;
    for (uint32_t i = 0; i < b->validation->rows_count; i++) {
        cells += b->validation->rows[i].exceeds[VALIDATION_LIMIT_TOK_PER_S] ? 1 : 0;
    }
    assert_int_equal(validation_exceeding(b->validation), cells + (knee->exceeds ? 1 : 0));
    told(b, text);
    assert_int_equal(strstr(text, "1 API server (where more stop helping)") != NULL, knee->exceeds);
    (void)snprintf(line, sizeof line, "or at most %u grid step%s apart in 3 of 3 curves",
                   knee->steps, knee->steps == 1 ? "" : "s");
    assert_has(text, line);
    char *markdown = markdown_of(b);
    (void)snprintf(line, sizeof line, " | %u | %s |", knee->steps,
                   knee->exceeds ? "exceeded" : "within");
    assert_has(markdown, line);
    free(markdown);
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
        assert_knee_is_told(&b, knee);
        both_free(&b);
    }
}

/* Two runs of a cell: throughput, and each latency with mean, p50, p90 and p99 of its own. */
static void set_everything(struct both *b, const char *cell)
{
    static const double measured[2][VALIDATION_POINTS_COUNT] = {{1, 0.8, 2, 4}, {1.1, 1, 2.4, 6}};
    static const double simulated[2][VALIDATION_POINTS_COUNT] = {{1.02, 0.85, 1.9, 4.4},
                                                                 {1.12, 1, 2.2, 6.4}};
    static const struct {
        enum run_metric metric;
        double ms;
        double off;
    } metrics[] = {
        {RUN_TTFT, 10, 1}, {RUN_TPOT, 5, 0.98}, {RUN_ITL, 6, 0.97}, {RUN_E2EL, 200, 1.05}};
    for (uint32_t k = 0; k < 2; k++) {
        struct run_result *real = measured_at(b, cell, k);
        struct run_result *other = simulated_at(b, cell, k);
        real->output_tok_per_s.mean = k == 0 ? 19000 : 21000;
        other->output_tok_per_s.mean = k == 0 ? 20500 : 21100;
        for (size_t i = 0; i < sizeof metrics / sizeof metrics[0]; i++) {
            double ms = metrics[i].ms;
            struct run_latency *l = &real->latency[metrics[i].metric];
            l->mean_ms = ms * measured[k][VALIDATION_MEAN];
            l->p50_ms = ms * measured[k][VALIDATION_P50];
            l->p90_ms = ms * measured[k][VALIDATION_P90];
            l->p99_ms = ms * measured[k][VALIDATION_P99];
            ms *= metrics[i].off;
            l = &other->latency[metrics[i].metric];
            l->mean_ms = ms * simulated[k][VALIDATION_MEAN];
            l->p50_ms = ms * simulated[k][VALIDATION_P50];
            l->p90_ms = ms * simulated[k][VALIDATION_P90];
            l->p99_ms = ms * simulated[k][VALIDATION_P99];
        }
    }
}

/* Lines worked out elsewhere from the numbers of set_everything(). */
static void files_have_every_number(void **state)
{
    (void)state;
#define ROW "\n1,\"api_servers=2,dp=3\","
    static const char *const rows[] = {
        ROW "output_tok_per_s,1/s,2,20000,20800,1414.21,0.04,0.565685,,,,"
            ",,,,,,,,,,,,,,1,mean,",
        ROW "ttft,ms,2,10.5,10.7,0.707107,0.0190476,0.282843,9,9.25,1.414"
            "21,0.0277778,0.176777,22,20.5,2.82843,-0.0681818,0.53033,50,"
            "54,14.1421,0.08,0.282843,,,1,,",
        ROW "tpot,ms,2,5.25,5.243,0.353553,-0.00133333,0.019799,4.5,4.532"
            "5,0.707107,0.00722222,0.0459619,11,10.045,1.41421,-0.0868182"
            ",0.675287,25,26.46,7.07107,0.0584,0.206475,,,0,,",
        ROW "itl,ms,2,6.3,6.2274,0.424264,-0.0115238,0.17112,5.4,5.3835,0"
            ".848528,-0.00305556,0.0194454,13.2,11.931,1.69706,-0.0961364"
            ",0.747765,30,31.428,8.48528,0.0476,0.168291,,,0,,",
        ROW "e2el,ms,2,210,224.7,14.1421,0.07,1.03945,180,194.25,28.2843,"
            "0.0791667,0.503814,440,430.5,56.5685,-0.0215909,0.167938,100"
            "0,1134,282.843,0.134,0.473762,,,0,,"};
#undef ROW
    struct both b;
    char folder[256];
    struct error error;
    both_make(&b);
    set_everything(&b, "api_servers=2,dp=3");
    for (uint32_t k = 0; k < 2; k++) { /* a closed loop: gaps between tokens, no whole requests */
        measured_at(&b, "api_servers=4,dp=1", k)->latency[RUN_ITL].mean_ms = 10;
        simulated_at(&b, "api_servers=4,dp=1", k)->latency[RUN_ITL].mean_ms = 10.3;
    }
    both_validate(&b);
    folder_make(folder);
    assert_int_equal(validation_write(b.validation, folder, &error), STATUS_OK);
    char *csv = file_text(folder, "validation.csv");
    assert_has(csv, "schema,cell,quantity,unit,pairs_count,mean_measured,mean_simulated,"
                    "mean_spread,mean_error_frac,mean_over_spread,p50_measured,");
    assert_has(csv, ",p99_over_spread,distance_frac,grid_steps,judged,exceeds,reason\n");
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        assert_has(csv, rows[i]);
    }
    free(csv);
    char *markdown = markdown_of(&b);
    assert_has(markdown, "tokens/s 3 %, TTFT p50 8 %, TTFT p99 20 % or 2 spreads, where more stop "
                         "helping 1 step of the grid.");
    assert_has(markdown, "| api_servers=2,dp=3 | 20.0 k | 7.1 | 20.8 k | +4.0 | -0.1 | 9.0 | +1.9 "
                         "| +2.8 | -6.8 | +8.0 | 0.3 | - | +7.0 | exceeded: tokens/s |");
    assert_has(markdown, " | +0.0 | +3.0 | - | - | - | - | - | - | - | - | within |");
    assert_has(markdown, "| api_servers=2,dp=3 | e2el | 210.00 | 6.7 | 224.70 | +7.0 | 1.0 | +7.9 "
                         "| -2.2 | +13.4 | - |");
    free(markdown);
    folder_remove(folder);
    both_free(&b);
}

/* Which limit of the time to the first token is exceeded stands in the file, by its name. */
static void files_name_the_limits(void **state)
{
    (void)state;
    static const struct {
        double p50;
        double p99;
        const char *exceeds;
        const char *finding;
    } cases[] = {{120, 100, ",1,p50,\n", "exceeded: TTFT p50"},
                 {100, 150, ",1,p99,\n", "exceeded: TTFT p99"},
                 {120, 150, ",1,p50 p99,\n", "exceeded: TTFT p50, TTFT p99"}};
    const char *cell = "api_servers=2,dp=2";
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct both b;
        char folder[256];
        struct error error;
        both_make(&b);
        for (uint32_t k = 0; k < 2; k++) {
            set_ttft(measured_at(&b, cell, k), 100, 100, 100);
            set_ttft(simulated_at(&b, cell, k), 100, cases[i].p50, cases[i].p99);
        }
        both_validate(&b);
        folder_make(folder);
        assert_int_equal(validation_write(b.validation, folder, &error), STATUS_OK);
        char *csv = file_text(folder, "validation.csv");
        char *markdown = markdown_of(&b);
        assert_has(csv, cases[i].exceeds);
        assert_has(markdown, cases[i].finding);
        free(markdown);
        free(csv);
        folder_remove(folder);
        both_free(&b);
    }
}

/* Six cells and a curve exceed: four are named, and the greatest error is that of all. */
static void the_sentence_names_four(void **state)
{
    (void)state;
    struct both b;
    char text[TEXT_BYTES];
    both_make(&b);
    for (uint32_t k = 0; k < 2; k++) {
        const char *const cells[] = {"api_servers=2,dp=1", "api_servers=2,dp=2",
                                     "api_servers=2,dp=3", "api_servers=4,dp=1",
                                     "api_servers=4,dp=2", "api_servers=4,dp=3"};
        for (int i = 0; i < 6; i++) {
            simulated_at(&b, cells[i], k)->output_tok_per_s.mean *= i == 5 ? 0.88 : 1.04;
        }
        measured_at(&b, "api_servers=4,dp=8", k)->host_limited = true;
        simulated_at(&b, "api_servers=4,dp=8", k)->output_tok_per_s.mean *= 3;
    }
    both_validate(&b);
    assert_int_equal(validation_exceeding(b.validation), 6);
    told(&b, text);
    assert_has(text, "The simulation exceeds its limits: api_servers=2,dp=1 (tokens/s +4.0 %); "
                     "api_servers=2,dp=2 (tokens/s +4.0 %); api_servers=2,dp=3 (tokens/s +4.0 %); "
                     "api_servers=4,dp=1 (tokens/s +4.0 %); .... Throughput within 12.0 % in 17 of "
                     "18 cells");
    both_free(&b);
}

/* The simulated curve of one API server is lost: what is not decided has no number. */
static void a_lost_curve_is_undecided(void **state)
{
    (void)state;
    struct both b;
    char folder[256];
    struct error error;
    both_make(&b);
    for (uint32_t i = 0; i < b.count; i++) {
        if (strncmp(b.results[i].cell->name, "api_servers=1,", 14) == 0) {
            b.results[b.count + i].outcome = RUN_INVALID;
        }
        if (strncmp(b.results[i].cell->name, "api_servers=2,", 14) == 0) {
            b.results[i].outcome = RUN_INVALID;
        }
    }
    both_validate(&b);
    assert_false(b.validation->knees[0].judged || b.validation->knees[1].judged);
    assert_true(b.validation->knees[2].judged);
    assert_string_equal(b.validation->knees[0].simulated, "undecided");
    folder_make(folder);
    assert_int_equal(validation_write(b.validation, folder, &error), STATUS_OK);
    char *csv = file_text(folder, "validation.csv");
    assert_non_null(strstr(csv, "\n1,1 API server,last_helpful,,0,3,,,,,,,,,,,,,,,,,,,,,,0,,"
                                "undecided\n"));
    assert_non_null(strstr(csv, "\n1,2 API servers,last_helpful,,0,,6,,,,,,,,,,,,,,,,,,,,,0,,"
                                "undecided\n"));
    assert_non_null(
        strstr(csv, "\n1,4 API servers,last_helpful,,0,8,8,,,,,,,,,,,,,,,,,,,,0,1,,\n"));
    free(csv);
    folder_remove(folder);
    both_free(&b);
}

/* Half of the requests one bin higher: half a bin's width is moved. */
static void the_distance_is_that_of_all_requests(void **state)
{
    (void)state;
    const char *cell = "api_servers=1,dp=1";
    uint32_t bucket = histogram_bucket(10000000);
    struct run_bin at_one[] = {{.metric = RUN_TTFT, .bucket = bucket, .count = 100},
                               {.metric = RUN_ITL, .bucket = bucket + 50, .count = 9}};
    struct run_bin other = {.metric = RUN_E2EL, .bucket = bucket + 90, .count = 7};
    struct run_bin at_two[] = {other,
                               {.metric = RUN_TTFT, .bucket = bucket, .count = 50},
                               {.metric = RUN_TTFT, .bucket = bucket + 1, .count = 50}};
    double width = (double)(histogram_bucket_lo(bucket + 1) - histogram_bucket_lo(bucket));
    double middle = (double)histogram_bucket_lo(bucket) + width / 2;
    struct both b;
    both_make(&b);
    for (uint32_t i = 0; i < 2; i++) {
        set_ttft(measured_at(&b, cell, i), 10, 10, 10);
        set_ttft(simulated_at(&b, cell, i), 10, 10, 10);
        measured_at(&b, cell, i)->bins = at_one;
        measured_at(&b, cell, i)->bins_count = 2;
        simulated_at(&b, cell, i)->bins = at_two;
        simulated_at(&b, cell, i)->bins_count = 3;
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
        cmocka_unit_test(limits_are_those_that_are_written),
        cmocka_unit_test(without_a_spread_a_tail_has_its_limit),
        cmocka_unit_test(what_one_side_does_not_know_is_not_compared),
        cmocka_unit_test(a_tail_may_be_off_by_two_spreads),
        cmocka_unit_test(what_is_no_evidence_is_named_and_not_judged),
        cmocka_unit_test(knees_are_steps_of_the_grid_apart),
        cmocka_unit_test(files_have_every_number),
        cmocka_unit_test(files_name_the_limits),
        cmocka_unit_test(the_sentence_names_four),
        cmocka_unit_test(a_lost_curve_is_undecided),
        cmocka_unit_test(the_distance_is_that_of_all_requests),
        cmocka_unit_test(a_session_that_did_both_says_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

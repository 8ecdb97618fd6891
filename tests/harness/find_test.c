/*
 * A cell's search for rates with a simulated queue in place of a serving system: the numbers come
 * out in their order and near what the queue can do, every rate sees the same arrivals, windows
 * grow where they must, limits of the client are no evidence, and knee.csv says it all.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/base/random.h"
#include "harness/run/find.h"
#include "helper_scenario.h"

enum {
    SLOTS = 16, /* of two engine cores */
    REQUESTS_MAX = 1 << 15,
    TOKENS = 10,
};

static const double SERVICE_S = 0.1;
static const double CAPACITY = 160; /* requests a second */

static const char text[] =
    "[scenario]\nname = f\nschema = 1\nseed = 7\nrepeats = 2\n"
    "[server s]\ntopology = api_servers=1 dp=2 tp=1\nmax_num_seqs = 8\nmax_model_len = 512\n"
    "[workload w]\nprompt = 24tok\noutput = 10tok\n"
    "[load l]\nmode = open\nwarmup = 1s\nmeasure = 5s\ndrain = 2s\n"
    "[slo quick]\nttft_p99_max = 150ms\nclock = scheduled\n"
    "[find]\nwhat = capacity, stable_rate, slo_rate, knee\n";

struct fake {
    double client_ends_at_per_s; /* 0: it does not */
    uint32_t fail_every;         /* of the requests one; 0: none */
    bool host_limited;
    uint32_t stop_after; /* runs; 0: never */
    uint32_t runs;
    double first_gap_s[4]; /* by replicate: first gap times rate; all rates must agree */
    double window_s_max;
    uint32_t notes;
};

/* The time at which the service of an arrival begins. */
static double begin_service(double free_at[SLOTS], double arrival_s, double service_s)
{
    int earliest = 0;
    for (int i = 1; i < SLOTS; i++) {
        earliest = free_at[i] < free_at[earliest] ? i : earliest;
    }
    double begin = fmax(free_at[earliest], arrival_s);
    free_at[earliest] = begin + service_s;
    return begin;
}

static void run_open(struct fake *fake, const struct scenario_load *load, uint32_t replicate,
                     struct run_result *r)
{
    struct random arrivals = random_stream(replicate, "arrivals", 0);
    struct random services = random_stream(replicate, "services", 0);
    double free_at[SLOTS] = {0};
    double end_s = r->warmup_s + r->window_s;
    double done = 0;
    static double waits_ms[REQUESTS_MAX];
    r->requests = calloc(REQUESTS_MAX, sizeof *r->requests);
    assert_non_null(r->requests);
    for (double t = 0; r->requests_rows_count < REQUESTS_MAX;) {
        double gap = random_exponential(&arrivals);
        double *first = &fake->first_gap_s[replicate];
        if (r->requests_rows_count == 0) {
            assert_true(*first < 1e-12 || fabs(*first - gap) < 1e-9);
            *first = gap;
        }
        t += gap / load->rate_per_s;
        double service = SERVICE_S * (0.5 + random_unit(&services));
        double begin = begin_service(free_at, t, service);
        if (t >= end_s) {
            break;
        }
        bool fails = fake->fail_every > 0 && r->requests_rows_count % fake->fail_every == 0;
        bool ended = begin + service < end_s + 2 && !fails;
        waits_ms[r->requests_rows_count] = (begin + service - t) * 1e3;
        r->requests[r->requests_rows_count++] = (struct run_request){
            .outcome = ended ? LOAD_OUTCOME_OK : LOAD_OUTCOME_CANCELLED,
            .output_tokens = TOKENS,
            .sched_ms = t * 1e3,
            .lag_ms = 0,
            .ttft_ms = ended ? (begin + service / TOKENS - t) * 1e3 : STATS_UNKNOWN,
            .e2el_ms = ended ? (begin + service - t) * 1e3 : STATS_UNKNOWN};
        done += ended && begin + service >= r->warmup_s && begin + service < end_s ? 1 : 0;
    }
    stats_sort(waits_ms, r->requests_rows_count);
    r->latency[RUN_E2EL_SCHED].p50_ms = stats_quantile(waits_ms, r->requests_rows_count, 0.5);
    r->requests_count = r->requests_rows_count;
    r->offered_rps = load->rate_per_s;
    r->achieved_rps = done / r->window_s;
    r->output_tok_per_s.mean = r->achieved_rps * TOKENS;
}

static bool fake_measure(void *ctx, struct scenario_cell *cell, uint32_t replicate,
                         struct run_result *out)
{
    struct fake *fake = ctx;
    const struct scenario_load *load = &cell->load;
    *out = (struct run_result){.cell = cell,
                               .replicate = replicate,
                               .host_limited = fake->host_limited,
                               .warmup_s = (double)load->warmup_ns / 1e9,
                               .window_s = (double)load->measure_ns / 1e9};
    fake->runs++;
    fake->window_s_max = fmax(fake->window_s_max, out->window_s);
    if (load->mode == SCENARIO_LOAD_CLOSED) {
        double batches[8];
        assert_int_equal(fake->runs == 1 ? load->users_count : 2 * SLOTS, 2 * SLOTS);
        for (int i = 0; i < 8; i++) {
            batches[i] = CAPACITY * TOKENS * (1 + (i % 2 == 0 ? 0.005 : -0.005));
        }
        out->output_tok_per_s = stats_mean_of(batches, 8);
        out->achieved_rps = CAPACITY;
    } else {
        run_open(fake, load, replicate, out);
        if (fake->client_ends_at_per_s > 0 && load->rate_per_s > fake->client_ends_at_per_s) {
            out->outcome = RUN_INVALID;
        }
    }
    return fake->stop_after == 0 || fake->runs < fake->stop_after;
}

static void fake_note(void *ctx, const char *line)
{
    struct fake *fake = ctx;
    assert_true(line[0] != '\0');
    fake->notes++;
}

static void find(struct fake *fake, struct knees_row *row)
{
    static struct scenario_problems problems;
    struct scenario *s = NULL;
    struct run_result capacity;
    assert_int_equal(memory_open(text, NULL, &s, &problems), STATUS_OK);
    struct find_options options = {.scenario = s,
                                   .cell = &s->cells[0],
                                   .measure = fake_measure,
                                   .note = fake_note,
                                   .ctx = fake};
    find_cell(&options, row, &capacity);
    assert_int_equal(row->runs_count, fake->runs);
    row->cell = NULL;
    result_free(&capacity);
    scenario_close(s);
}

static void four_rates_of_a_queue(void **state)
{
    (void)state;
    struct fake fake = {.runs = 0};
    struct knees_row row;
    find(&fake, &row);
    assert_true(row.complete);
    assert_true(fabs(row.capacity_rps - CAPACITY) < 1e-9 && row.capacity_lo < CAPACITY);
    assert_int_equal(row.stable.status, SEARCH_OK);
    assert_true(row.stable.per_s > 0.9 * CAPACITY && row.stable.per_s < 1.08 * CAPACITY);
    assert_true(row.slo.per_s > 0.5 * CAPACITY && row.slo.per_s <= row.stable.hi);
    assert_true(row.slo.lo <= row.slo.per_s && row.slo.per_s <= row.slo.hi);
    assert_string_equal(row.binding, "ttft_p99_max");
    assert_true(row.knee.per_s > 0.5 * CAPACITY && row.knee.per_s < 1.3 * CAPACITY);
    assert_true(row.overload_droop_frac < 0.1); /* the queue loses nothing but its edges */
    assert_true(fake.notes >= row.points_count);
    /* 473 requests at the least rate, doubled twice at most. */
    assert_true(fake.window_s_max <= 4 * 473 / (0.3 * CAPACITY) + 1e-6);
    free(row.points);
}

static void limits_of_the_client_are_no_evidence(void **state)
{
    (void)state;
    struct fake fake = {.client_ends_at_per_s = 0.8 * CAPACITY};
    struct knees_row row;
    find(&fake, &row);
    assert_int_equal(row.stable.status, SEARCH_CLIENT_LIMITED);
    assert_true(row.stable.per_s <= fake.client_ends_at_per_s && isnan(row.stable.hi));
    assert_string_equal(knees_status(&row), "client_limited");
    free(row.points);
}

static void a_busy_host_shows_what_is_met_only(void **state)
{
    (void)state;
    struct fake fake = {.host_limited = true};
    struct knees_row row;
    find(&fake, &row);
    assert_int_equal(row.stable.status, SEARCH_CLIENT_LIMITED);
    assert_true(row.stable.per_s >= 0.5 * CAPACITY && row.stable.per_s < 1.1 * CAPACITY);
    assert_true(isnan(row.stable.hi));
    free(row.points);
}

/* One in 40: the backlog does not show it, a p99 does. */
static void failures_are_over_the_limit(void **state)
{
    (void)state;
    struct fake fake = {.fail_every = 40};
    struct knees_row row;
    find(&fake, &row);
    assert_int_equal(row.slo.status, SEARCH_BELOW_RANGE);
    assert_true(isnan(row.slo.per_s));
    free(row.points);
}

static void stopping_keeps_what_is_known(void **state)
{
    (void)state;
    for (uint32_t after = 1; after < 8; after++) {
        struct fake fake = {.stop_after = after};
        struct knees_row row;
        find(&fake, &row);
        assert_int_equal(fake.runs, after);
        assert_false(row.complete);
        assert_string_equal(knees_status(&row), "incomplete");
        assert_true(row.capacity_rps > 0);
        free(row.points);
    }
}

/* Each line of the text that is wrong, with a word of what is said of it. */
static void wrong_searches_are_refused(void **state)
{
    (void)state;
    static const char head[] = "[scenario]\nname = f\n[server s]\nmax_model_len = 512\n"
                               "[workload w]\nprompt = 24tok\noutput = 10tok\n";
    static const char *const wrong[][2] = {
        {"[load l]\nmode = open\n[find]\nwhat = capacity, slo_rate\n", "slo = NAME"},
        {"[load l]\nmode = open\n[slo a]\n[find]\nwhat = slo_rate\n", "ttft_p99_max"},
        {"[load l]\nmode = closed\nusers = 4\n[find]\nwhat = knee\n", "mode = open"},
        {"[load l]\nmode = open\nrate = 5/s\n[find]\nwhat = speed\n", "speed"},
        {"[load l]\nmode = open\n[find]\ntolerance = 5%\n", "rate"}, /* nothing is searched */
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        static struct scenario_problems problems;
        char whole[1024];
        char said[2048];
        struct scenario *s = NULL;
        (void)snprintf(whole, sizeof whole, "%s%s", head, wrong[i][0]);
        assert_int_equal(memory_open(whole, NULL, &s, &problems), STATUS_INVALID);
        problems_join(&problems, said, sizeof said);
        if (strstr(said, wrong[i][1]) == NULL) {
            fail_msg("%s not in: %s", wrong[i][1], said);
        }
        assert_int_equal(problems.count, 1);
    }
}

static void file_has_the_columns(void **state)
{
    (void)state;
    char folder[] = "/tmp/harness-find-XXXXXX";
    char path[64];
    char lines[2][1024];
    struct error error;
    struct scenario_cell cell = {.name = "dp=2"};
    struct knees_row row = {
        .cell = &cell,
        .what = SCENARIO_FIND_CAPACITY | SCENARIO_FIND_SLO_RATE,
        .capacity_rps = 160,
        .capacity_lo = 158,
        .capacity_hi = 162,
        .stable = {.per_s = STATS_UNKNOWN, .lo = STATS_UNKNOWN, .hi = STATS_UNKNOWN},
        .slo = {.status = SEARCH_CLIFF, .per_s = 120, .lo = 119, .hi = 125},
        .binding = "ttft_p99_max",
        .knee = {STATS_UNKNOWN, STATS_UNKNOWN, STATS_UNKNOWN, STATS_UNKNOWN},
        .overload_droop_frac = 0.25,
        .runs_count = 9,
        .complete = true};
    const struct knees all = {.rows = &row, .count = 1};
    assert_non_null(mkdtemp(folder));
    (void)snprintf(path, sizeof path, "%s/knee.csv", folder);
    assert_int_equal(knees_write(&all, folder, &error), STATUS_OK);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    assert_non_null(fgets(lines[0], sizeof lines[0], file));
    assert_non_null(fgets(lines[1], sizeof lines[1], file));
    (void)fclose(file);
    assert_string_equal(
        lines[0],
        "schema,cell,capacity_rps,capacity_lo,capacity_hi,stable_rate_rps,stable_lo,stable_hi,"
        "slo_rate_rps,slo_lo,slo_hi,binding_limit,boundary,knee_rps,knee_lo,knee_hi,"
        "overload_droop_frac,points_count,runs_count,status,stable_status,slo_status,power_rps\n");
    assert_string_equal(lines[1], "1,dp=2,160,158,162,,,,120,119,125,ttft_p99_max,cliff,,,,0.25,0,"
                                  "9,cliff,,cliff,\n");
    (void)unlink(path);
    (void)rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(four_rates_of_a_queue),
        cmocka_unit_test(limits_of_the_client_are_no_evidence),
        cmocka_unit_test(a_busy_host_shows_what_is_met_only),
        cmocka_unit_test(failures_are_over_the_limit),
        cmocka_unit_test(stopping_keeps_what_is_known),
        cmocka_unit_test(wrong_searches_are_refused),
        cmocka_unit_test(file_has_the_columns),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * confirm_test.c - predictions that are put to the test: exactly the configurations that a sweep
 * does not have are run, with a load that can fill them, and what is measured lies inside or
 * outside; what the host cannot carry is neither.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "harness/run/confirm.h"
#include "helper_report.h"

enum {
    RUNS_MAX = 8
};

/* In place of a serving system: each run gives the same. */
struct fake {
    double tok_per_s;
    bool host_limited;
    enum run_outcome outcome;
    uint32_t stop_after; /* runs; 0: never */
    uint32_t runs;
    struct scenario_cell cells[RUNS_MAX];
    uint32_t replicates[RUNS_MAX];
};

static bool measure(void *ctx, struct scenario_cell *cell, uint32_t replicate,
                    struct run_result *out)
{
    struct fake *fake = ctx;
    assert_true(fake->runs < RUNS_MAX);
    fake->cells[fake->runs] = *cell;
    fake->replicates[fake->runs++] = replicate;
    *out = (struct run_result){.cell = cell,
                               .outcome = fake->outcome,
                               .reason = "it was so",
                               .host_limited = fake->host_limited,
                               .host_cores_used = 1.9,
                               .output_tok_per_s = {.mean = fake->tok_per_s}};
    return fake->stop_after == 0 || fake->runs < fake->stop_after;
}

static void put_to_the_test(const struct sweep *sweep, struct fake *fake, double usable_cores,
                            struct confirmed *out)
{
    const struct confirm_options options = {
        .scenario = sweep->scenario,
        .results = sweep->results,
        .results_count = sweep->count,
        .usable_cores = usable_cores,
        .measure = measure,
        .ctx = fake,
    };
    confirm_predictions(&options, out);
}

#define ONE_SERVER(load_keys)                                                              \
    "[scenario]\nname = c\nrepeats = 2\n[server s]\n"                                      \
    "topology = api_servers=1 dp=%{dp} tp=1\nhost_profile = vllm-python\n"                 \
    "max_num_seqs = 40\n[workload w]\nprompt = 128tok\noutput = uniform lo=128tok "        \
    "hi=384tok\n[load l]\n" load_keys "warmup = 1500ms\nmeasure = 4s\n[sweep]\naxis.dp = " \
    "1,2,3,4,6,8\n[scaling]\nalong = dp\n"

static const char closed[] = ONE_SERVER("users = 80 * %{dp}\n");
static const char open_loop[] = ONE_SERVER("mode = open\nrate = 400/s\n");

/* One API server carries 18.4 k of what 8 engine cores give; two carry twice as much, as the
 * engine cores give 52 k. */
static void what_was_foretold_is_inside(void **state)
{
    (void)state;
    struct sweep sweep = sweep_of(closed);
    struct fake fake = {.tok_per_s = 36800};
    struct confirmed c;
    put_to_the_test(&sweep, &fake, 64, &c);
    assert_true(c.complete);
    assert_int_equal(c.count, 1);
    const struct confirmed_row *row = &c.rows[0];
    assert_string_equal(row->stage, "api_server");
    assert_string_equal(row->configuration, "2 API servers");
    assert_string_equal(row->cell->name, "dp=8");
    assert_true(fabs(row->tok_per_s / 18400 - 1) < 0.01);
    /* It was 96 % in use, so that two have a little more to give. */
    assert_true(row->predicted.gain > 1 && row->predicted.gain < 1.15);
    assert_true(row->predicted.lo < row->predicted.gain && row->predicted.gain < row->predicted.hi);
    assert_int_equal(confirmed_judge(row), CONFIRMED_INSIDE);
    assert_int_equal(row->evidence_count, 2);
    assert_int_equal(fake.runs, 2);
    for (uint32_t i = 0; i < 2; i++) {
        assert_int_equal(fake.replicates[i], i);
        assert_int_equal(fake.cells[i].topology.api_servers_count, 2);
        assert_int_equal(fake.cells[i].topology.engines_count, 8);
        assert_int_equal(fake.cells[i].load.users_count, 640);
        assert_string_equal(fake.cells[i].name, "dp=8 with 2 API servers");
    }
    confirmed_free(&c);
    sweep_free(&sweep);
}

static void expect_told(const struct confirmed *c, const char *words)
{
    char out[1024];
    struct text t = text_into(out, sizeof out);
    confirmed_tell(c, &t);
    if (strstr(out, words) == NULL) {
        fail_msg("\"%s\" does not say \"%s\"", out, words);
    }
}

static void what_does_not_come_true_is_outside(void **state)
{
    (void)state;
    struct sweep sweep = sweep_of(closed);
    struct fake fake = {.tok_per_s = 18400}; /* the second API server brings nothing */
    struct confirmed c;
    put_to_the_test(&sweep, &fake, 64, &c);
    assert_int_equal(confirmed_judge(&c.rows[0]), CONFIRMED_OUTSIDE);
    expect_told(&c, "Put to the test: dp=8 with 2 API servers: predicted ");
    expect_told(&c, " tokens/s, measured 18.4 k: outside.");
    confirmed_free(&c);
    sweep_free(&sweep);
}

/* With 1, 2 and 4 API servers in the sweep only twice the engine cores of the last curve are not
 * in it. */
static void what_the_sweep_has_is_not_run_again(void **state)
{
    (void)state;
    struct sweep sweep = sweep_make();
    struct fake fake = {.tok_per_s = 80000};
    struct confirmed c;
    put_to_the_test(&sweep, &fake, 64, &c);
    assert_int_equal(c.count, 1);
    assert_string_equal(c.rows[0].cell->name, "api_servers=4,dp=8");
    assert_string_equal(c.rows[0].configuration, "16 engine cores");
    assert_int_equal(fake.runs, 2);
    assert_int_equal(fake.cells[0].topology.engines_count, 16);
    assert_int_equal(fake.cells[0].load.users_count, 1280); /* users for them, too */
    confirmed_free(&c);
    sweep_free(&sweep);
}

/* The cell uses 1.6 cores. */
static void what_the_host_cannot_carry_is_not_run(void **state)
{
    (void)state;
    struct sweep sweep = sweep_make();
    struct fake fake = {.tok_per_s = 80000};
    struct confirmed c;
    put_to_the_test(&sweep, &fake, 2, &c);
    assert_true(c.complete);
    assert_int_equal(c.count, 1);
    assert_int_equal(fake.runs, 0);
    assert_int_equal(confirmed_judge(&c.rows[0]), CONFIRMED_NOT);
    expect_told(&c, "not confirmable: it needs about ");
    expect_told(&c, " of the 2.0 cores of this host");
    confirmed_free(&c);
    sweep_free(&sweep);
}

static void runs_that_are_no_evidence_confirm_nothing(void **state)
{
    (void)state;
    struct sweep sweep = sweep_of(closed);
    struct fake limited = {.tok_per_s = 36800, .host_limited = true};
    struct fake invalid = {.tok_per_s = 36800, .outcome = RUN_INVALID};
    struct fake stopped = {.tok_per_s = 36800, .outcome = RUN_SERVER_FAILED};
    struct confirmed c;
    put_to_the_test(&sweep, &limited, 64, &c);
    assert_true(c.complete);
    assert_int_equal(confirmed_judge(&c.rows[0]), CONFIRMED_NOT);
    expect_told(&c, "not confirmable: the host was the limit (1.9 cores in use).");
    confirmed_free(&c);
    put_to_the_test(&sweep, &invalid, 64, &c);
    assert_int_equal(confirmed_judge(&c.rows[0]), CONFIRMED_NOT);
    expect_told(&c, "not confirmable: it was so.");
    confirmed_free(&c);
    put_to_the_test(&sweep, &stopped, 64, &c);
    assert_false(c.complete);
    assert_int_equal(stopped.runs, 1);
    confirmed_free(&c);
    sweep_free(&sweep);
}

static void an_open_load_is_doubled(void **state)
{
    (void)state;
    struct sweep sweep = sweep_of(open_loop);
    struct fake fake = {.tok_per_s = 36800};
    struct confirmed c;
    put_to_the_test(&sweep, &fake, 64, &c);
    assert_int_equal(c.count, 1);
    assert_true(fake.runs > 0);
    assert_true(fabs(fake.cells[0].load.rate_per_s - 800) < 1e-9);
    confirmed_free(&c);
    sweep_free(&sweep);
}

static void the_file_has_a_row_each(void **state)
{
    (void)state;
    char folder[256];
    struct error error;
    struct sweep sweep = sweep_of(closed);
    struct fake fake = {.tok_per_s = 36800};
    struct confirmed c;
    folder_make(folder);
    put_to_the_test(&sweep, &fake, 64, &c);
    assert_int_equal(confirmed_write(&c, folder, &error), STATUS_OK);
    char *text = file_text(folder, "confirm.csv");
    assert_non_null(text);
    assert_non_null(strstr(text, "\n1,1 API server,dp=8,api_server,2 API servers,18"));
    assert_non_null(strstr(text, ",36800,inside,2,2,\n"));
    free(text);
    confirmed_free(&c);
    folder_remove(folder);
    sweep_free(&sweep);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_foretold_is_inside),
        cmocka_unit_test(what_does_not_come_true_is_outside),
        cmocka_unit_test(what_the_sweep_has_is_not_run_again),
        cmocka_unit_test(what_the_host_cannot_carry_is_not_run),
        cmocka_unit_test(runs_that_are_no_evidence_confirm_nothing),
        cmocka_unit_test(an_open_load_is_doubled),
        cmocka_unit_test(the_file_has_a_row_each),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

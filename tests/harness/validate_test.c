/*
 * validate_test.c - a run whose coefficients are known, because the simulator made it: fitted to
 * its first half, the second half is foretold, and the coefficients that the run tells are found,
 * from a start that is far off.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>

#include "engine/base/random.h"
#include "harness/run/validate.h"

enum {
    REQUESTS = 80
};

static const struct step_fit truth = {
    .base = 9e9, .sequence = 30e6, .kv_token = 60e3, .prompt_token = 30e6, .prompt_pair = 600};
static const time_ps true_delay = PS_PER_MS;

static struct validate_system system_of(const struct gpu_shape *gpu)
{
    return (struct validate_system){.model = model_shape_find("llama-3.1-8b"),
                                    .gpu = gpu,
                                    .max_num_seqs = 16,
                                    .max_num_batched_tokens = 1024,
                                    .async_depth = 2};
}

/* First few requests, then more than are served at once, so that steps of all sizes occur. */
static void make_run(struct measured_request requests[REQUESTS], struct measured_run *run)
{
    struct random random = random_stream(7, "requests", 0);
    struct validate_times times[REQUESTS];
    struct gpu_shape gpu = *gpu_shape_find("h100");
    struct validate_system system = system_of(&gpu);
    double at_s = 0;
    gpu.fit = &truth;
    for (int i = 0; i < REQUESTS; i++) {
        requests[i] = (struct measured_request){
            .arrival_ns = llround(at_s * 1e9),
            .prompt_tokens = 50 + (uint32_t)(random_unit(&random) * 1500),
            .output_tokens = 20 + (uint32_t)(random_unit(&random) * 120),
        };
        at_s += random_exponential(&random) * (i < 15 ? 0.5 : 0.04);
    }
    *run = (struct measured_run){.requests = requests, .count = REQUESTS};
    assert_int_equal(validate_simulate(&system, run, true_delay, times, NULL), STATUS_OK);
    for (int i = 0; i < REQUESTS; i++) {
        requests[i].first_ns = requests[i].arrival_ns + llround(times[i].ttft_s * 1e9);
        requests[i].last_ns = requests[i].arrival_ns + llround(times[i].e2el_s * 1e9);
    }
}

static void assert_within(double got, double want, double frac)
{
    if (!(fabs(got / want - 1) <= frac)) {
        fail_msg("got %g, want %g within %g", got, want, frac);
    }
}

/* Steps, not coefficients: a run hardly tells the time of a sequence from that of its KV tokens. */
static void assert_step_within(struct gpu_shape *fitted, uint32_t seqs, uint32_t computed,
                               uint32_t scheduled, double frac)
{
    const struct model_shape *model = model_shape_find("llama-3.1-8b");
    struct step_load load = {0};
    struct gpu_shape true_gpu = *fitted;
    true_gpu.fit = &truth;
    for (uint32_t i = 0; i < seqs; i++) {
        step_load_add(&load, computed, scheduled, true);
    }
    assert_within((double)cost_step(fitted, model, 1, &load),
                  (double)cost_step(&true_gpu, model, 1, &load), frac);
}

static void what_made_a_run_is_found_in_it(void **state)
{
    (void)state;
    struct measured_request requests[REQUESTS];
    struct validate_times measured[REQUESTS];
    struct validate_times predicted[REQUESTS];
    struct measured_run run;
    struct validate_fit fit;
    struct gpu_shape gpu = *gpu_shape_find("h100");
    struct validate_system system = system_of(&gpu);
    make_run(requests, &run);
    validate_measured(&run, measured);
    assert_int_equal(validate_fit(&system, &run, REQUESTS / 2, &fit, NULL), STATUS_OK);
    gpu.fit = &fit.step;
    assert_step_within(&gpu, 16, 900, 1, 0.02);
    assert_step_within(&gpu, 1, 0, 1000, 0.05);
    assert_int_equal(validate_simulate(&system, &run, fit.delay, predicted, NULL), STATUS_OK);
    double e2el[2] = {0};
    double ttft[2] = {0};
    for (int i = REQUESTS / 2; i < REQUESTS; i++) {
        e2el[0] += predicted[i].e2el_s;
        e2el[1] += measured[i].e2el_s;
        ttft[0] += predicted[i].ttft_s;
        ttft[1] += measured[i].ttft_s;
    }
    assert_within(e2el[0], e2el[1], 0.01);
    assert_within(ttft[0], ttft[1], 0.02);
}

/* By hand: one request alone. 700 prompt tokens in one step, then a step for each further token,
 * which reads one KV token more each time. */
static void one_request_alone_takes_what_its_steps_take(void **state)
{
    (void)state;
    struct measured_request request = {.prompt_tokens = 700, .output_tokens = 11};
    struct measured_run run = {.requests = &request, .count = 1};
    struct validate_times got;
    struct gpu_shape gpu = *gpu_shape_find("h100");
    struct validate_system system = system_of(&gpu);
    system.async_depth = 1;
    gpu.fit = &truth;
    assert_int_equal(validate_simulate(&system, &run, true_delay, &got, NULL), STATUS_OK);
    double pairs = 700.0 * 701 / 2 - 700;
    double prefill = truth.base + truth.sequence + 700 * truth.kv_token + 699 * truth.prompt_token +
                     pairs * truth.prompt_pair;
    double decode = 10 * (truth.base + truth.sequence) + (7010.0 + 45) * truth.kv_token;
    /* Launching and copying are the GPU's, not the fit's: some us a step. */
    assert_within(got.ttft_s * 1e12, (double)true_delay + prefill, 0.02);
    assert_within(got.tpot_s * 1e12, decode / 10, 0.02);
    assert_within(got.e2el_s, got.ttft_s + 10 * got.tpot_s, 1e-9);
}

static void too_few_requests_are_refused(void **state)
{
    (void)state;
    struct measured_request requests[12] = {{.prompt_tokens = 1, .output_tokens = 1}};
    struct measured_run run = {.requests = requests, .count = 12};
    struct validate_system system = system_of(gpu_shape_find("h100"));
    struct validate_fit fit;
    struct error error;
    assert_int_equal(validate_fit(&system, &run, 9, &fit, &error), STATUS_INVALID);
    assert_string_equal(error.text, "a fit wants 10 to 12 requests, got 9");
    assert_int_equal(validate_fit(&system, &run, 13, &fit, &error), STATUS_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_made_a_run_is_found_in_it),
        cmocka_unit_test(one_request_alone_takes_what_its_steps_take),
        cmocka_unit_test(too_few_requests_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * The search for rates by simulation. A queue whose capacity is known, driven through the stability
 * test as the harness drives a serving system: the rate found is within the tolerance of the truth.
 * Responses that jump, that are not monotone, that lie beyond the range or cannot be measured are
 * called so.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "engine/base/random.h"
#include "harness/analysis/search.h"
#include "harness/analysis/stability.h"
#include "harness/analysis/stats.h"
#include "helper_queue.h"

enum {
    SLOTS = 32,
    BATCHES = 20,
    SEARCHES = 40,
};

static const struct queue queue = {.slots_count = SLOTS,
                                   .service_s = 1.0,
                                   .service_cv = 0.5,
                                   .warmup_s = 10.0,
                                   .batches_count = BATCHES};
static const double WINDOW_S = 60.0;
static const double TOLERANCE = 0.05;

static struct search_options options_of(uint64_t seed)
{
    return (struct search_options){
        .start_per_s = 0.5 * SLOTS / queue.service_s,
        .least_per_s = 0.05 * SLOTS / queue.service_s,
        .most_per_s = 1.9 * SLOTS / queue.service_s,
        .tolerance_frac = TOLERANCE,
        .jump_frac = 2 * TOLERANCE,
        .confidence = 0.95,
        .points_max = 16,
        .replicates_count = 3,
        .seed = seed,
    };
}

static enum search_outcome outcome_of(enum stability_outcome outcome)
{
    return outcome == STABILITY_STABLE      ? SEARCH_PASS
           : outcome == STABILITY_SATURATED ? SEARCH_FAIL
                                            : SEARCH_UNDECIDED;
}

/* Undecided: the window is doubled, twice at most. */
static void run_stable(struct search *s, const struct search_ask *ask, uint64_t seed)
{
    struct stability_batch batches[BATCHES];
    struct stability judged;
    for (uint32_t look = 0; look < STABILITY_LOOKS; look++) {
        queue_run(&queue, ask->per_s, WINDOW_S * (1 << look), seed * 100 + ask->replicate, batches);
        stability_judge(batches, BATCHES, look, &judged);
        if (judged.outcome != STABILITY_UNDECIDED) {
            break;
        }
    }
    search_tell(s, outcome_of(judged.outcome), fmax(0, 1 - judged.ratio));
}

static void stable_rate_is_found(void **state)
{
    (void)state;
    const double truth = SLOTS / queue.service_s;
    int near = 0;
    int covered = 0;
    for (uint64_t seed = 1; seed <= SEARCHES; seed++) {
        struct search s;
        struct search_ask ask;
        struct search_answer answer;
        struct search_options options = options_of(seed);
        search_init(&s, &options);
        while (search_next(&s, &ask)) {
            run_stable(&s, &ask, seed);
        }
        search_conclude(&s, &answer);
        assert_true(answer.status == SEARCH_OK);
        assert_true(answer.lo <= answer.per_s && answer.per_s <= answer.hi);
        assert_true(answer.runs_count <= options.points_max + 3 * SEARCH_LAST_RATES);
        near += fabs(answer.per_s / truth - 1) <= TOLERANCE ? 1 : 0;
        covered += answer.lo <= truth * (1 + TOLERANCE) && answer.hi >= truth * (1 - TOLERANCE);
    }
    print_message("within the tolerance of the truth: %d of %d\n", near, (int)SEARCHES);
    assert_true(near >= SEARCHES * 9 / 10);
    assert_true(covered >= SEARCHES * 9 / 10);
}

/* ---- responses that are given ---- */

/* The value of a response at a rate; it fails above one half. */
typedef double response(double per_s, uint32_t replicate);

static double noise(double per_s, uint32_t replicate)
{
    struct random r = random_stream(replicate, "noise", (uint64_t)(per_s * 1e6));
    return 0.01 * random_normal(&r);
}

static struct search_answer search(response *value_of, struct search_options options)
{
    struct search s;
    struct search_ask ask;
    struct search_answer answer;
    search_init(&s, &options);
    while (search_next(&s, &ask)) {
        double value = value_of(ask.per_s, ask.replicate);
        search_tell(&s,
                    isnan(value)  ? SEARCH_INVALID
                    : value > 0.5 ? SEARCH_FAIL
                                  : SEARCH_PASS,
                    value);
    }
    search_conclude(&s, &answer);
    return answer;
}

static double smooth_at_20(double per_s, uint32_t replicate)
{
    return 0.5 + 0.8 * log(per_s / 20.0) + noise(per_s, replicate);
}

static double jumps_at_20(double per_s, uint32_t replicate)
{
    return (per_s < 20 ? 0.1 : 0.9) + noise(per_s, replicate);
}

/* The start is 16, so that 16, 22.6 and what lies between are asked for. */
static double fails_in_a_band(double per_s, uint32_t replicate)
{
    bool inside = (per_s > 22 && per_s < 23) || per_s > 30;
    return (inside ? 0.9 : 0.1) + noise(per_s, replicate);
}

static double never_fails(double per_s, uint32_t replicate)
{
    return noise(per_s, replicate);
}

static double always_fails(double per_s, uint32_t replicate)
{
    return 0.9 + noise(per_s, replicate);
}

static double client_ends_at_25(double per_s, uint32_t replicate)
{
    return per_s > 25 ? STATS_UNKNOWN : 0.1 + noise(per_s, replicate);
}

static double client_hiccups_once(double per_s, uint32_t replicate)
{
    static bool hiccup = true;
    bool now = hiccup && per_s > 18;
    hiccup = hiccup && !now;
    return now ? STATS_UNKNOWN : smooth_at_20(per_s, replicate);
}

static double client_never_works(double per_s, uint32_t replicate)
{
    (void)per_s;
    (void)replicate;
    return STATS_UNKNOWN;
}

static void smooth_response_is_crossed(void **state)
{
    (void)state;
    struct search_answer a = search(smooth_at_20, options_of(1));
    assert_true(a.status == SEARCH_OK);
    assert_true(fabs(a.per_s / 20.0 - 1) <= TOLERANCE);
    assert_true(a.lo <= 20 && a.hi >= 20 && a.hi / a.lo < 1.25);
}

static void cliff_is_named(void **state)
{
    (void)state;
    struct search_answer a = search(jumps_at_20, options_of(1));
    assert_true(a.status == SEARCH_CLIFF);
    assert_true(a.per_s < 20 && a.per_s >= 20 / (1 + TOLERANCE)); /* the last one that passed */
}

static void non_monotone_response_is_named(void **state)
{
    (void)state;
    struct search_answer a = search(fails_in_a_band, options_of(1));
    assert_true(a.status == SEARCH_NON_MONOTONE);
}

static void ends_of_the_range_are_named(void **state)
{
    (void)state;
    struct search_options o = options_of(1);
    struct search_answer a = search(never_fails, o);
    assert_true(a.status == SEARCH_ABOVE_RANGE);
    assert_true(fabs(a.per_s / o.most_per_s - 1) < 1e-9 && isnan(a.hi));
    a = search(always_fails, o);
    assert_true(a.status == SEARCH_BELOW_RANGE);
    assert_true(isnan(a.per_s) && fabs(a.hi / o.least_per_s - 1) < 1e-9);
}

static void client_limit_is_no_evidence(void **state)
{
    (void)state;
    struct search_answer a = search(client_ends_at_25, options_of(1));
    assert_true(a.status == SEARCH_CLIENT_LIMITED);
    assert_true(a.per_s <= 25 && a.per_s > 20 && isnan(a.hi));
    a = search(client_hiccups_once, options_of(1));
    assert_true(a.status == SEARCH_OK && fabs(a.per_s / 20.0 - 1) <= TOLERANCE);
    a = search(client_never_works, options_of(1));
    assert_true(a.status == SEARCH_CLIENT_LIMITED && isnan(a.per_s));
    assert_int_equal(a.runs_count, 2);
}

static void points_are_few_and_asked_for_in_turn(void **state)
{
    (void)state;
    struct search_options o = options_of(1);
    struct search s;
    struct search_ask ask;
    double rates[SEARCH_RUNS_MAX];
    uint32_t replicates[SEARCH_RUNS_MAX];
    uint32_t count = 0;
    o.points_max = 4;
    search_init(&s, &o);
    while (search_next(&s, &ask)) {
        rates[count] = ask.per_s;
        replicates[count++] = ask.replicate;
        search_tell(&s, ask.per_s > 20 ? SEARCH_FAIL : SEARCH_PASS, ask.per_s);
    }
    /* 16 passes, 22.6 fails; 19.0 passes, 20.7 fails: four points, then 3 x 4. */
    assert_int_equal(count, 4 + 3 * SEARCH_LAST_RATES);
    assert_true(fabs(rates[1] - 16 * sqrt(2)) < 1e-9);
    assert_true(fabs(rates[3] - sqrt(16 * sqrt(sqrt(2)) * 16 * sqrt(2))) < 1e-9);
    for (uint32_t i = 4; i < count; i++) {
        assert_int_equal(replicates[i], 1 + (i - 4) / SEARCH_LAST_RATES);
        assert_true(fabs(rates[i] - rates[4 + (i - 4) % SEARCH_LAST_RATES]) < 1e-9);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stable_rate_is_found),
        cmocka_unit_test(smooth_response_is_crossed),
        cmocka_unit_test(cliff_is_named),
        cmocka_unit_test(non_monotone_response_is_named),
        cmocka_unit_test(ends_of_the_range_are_named),
        cmocka_unit_test(client_limit_is_no_evidence),
        cmocka_unit_test(points_are_few_and_asked_for_in_turn),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

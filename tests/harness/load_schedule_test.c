/*
 * load_schedule_test.c - arrivals, lengths and prompts against their distributions:
 * Kolmogorov-Smirnov for Poisson and gamma gaps, a chi-square for the residual life and for
 * log-normal lengths, means and variances with bounds of four standard errors, all at fixed seeds;
 * request bytes against json-c.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <json-c/json.h>

#include "engine/http/http_parser.h"
#include "harness/load/request.h"
#include "harness/load/schedule.h"

enum {
    DRAWS = 20000
};

static struct load_options base_options(enum load_mode mode)
{
    return (struct load_options){
        .targets = {{.host = "127.0.0.1", .port = 8000}},
        .targets_count = 1,
        .model = "m",
        .mode = mode,
        .users_count = DRAWS,
        .rate_per_s = 137.0,
        .requests_max = DRAWS,
        .seed = 20260917,
        .prompt_tokens = {.lo = 16, .hi = 48},
        .output_tokens = {.lo = 128, .hi = 384},
        .time_scale = 1.0,
        .window_ns = 1000000000,
        .batches_count = 8,
        .connections_count = 4,
        .stream = 1,
    };
}

static int compare_doubles(const void *a, const void *b)
{
    const double *x = a;
    const double *y = b;
    return (*x > *y) - (*x < *y);
}

static void poisson_gaps_are_exponential(void **state)
{
    (void)state;
    struct load_options o = base_options(LOAD_OPEN_POISSON);
    struct schedule s;
    struct schedule_item item;
    double *gaps = malloc(DRAWS * sizeof *gaps);
    assert_non_null(gaps);
    int64_t before_ns = 0;
    schedule_init(&s, &o, NULL);
    for (int i = 0; i < DRAWS; i++) {
        assert_true(schedule_next(&s, &item));
        assert_true(item.offset_ns >= before_ns);
        gaps[i] = (double)(item.offset_ns - before_ns) * 1e-9;
        before_ns = item.offset_ns;
    }
    assert_false(schedule_next(&s, &item));
    double mean = (double)before_ns * 1e-9 / DRAWS;
    /* The mean of n exponentials has a relative deviation of 1/sqrt(n): 4 of these. */
    assert_true(fabs(mean * o.rate_per_s - 1.0) < 4.0 / sqrt(DRAWS));
    qsort(gaps, DRAWS, sizeof *gaps, compare_doubles);
    double distance = 0.0;
    for (int i = 0; i < DRAWS; i++) {
        double expected = 1.0 - exp(-o.rate_per_s * gaps[i]);
        distance = fmax(distance, fabs(expected - (double)i / DRAWS));
        distance = fmax(distance, fabs(expected - (double)(i + 1) / DRAWS));
    }
    assert_true(distance < 1.95 / sqrt(DRAWS)); /* 0.1 % */
    assert_int_equal(schedule_last_offset_ns(&o, NULL), before_ns);
    free(gaps);
}

static void a_constant_rate_does_not_drift(void **state)
{
    (void)state;
    struct load_options o = base_options(LOAD_OPEN_CONSTANT);
    o.rate_per_s = 3.0;
    o.requests_max = 300001;
    struct schedule s;
    struct schedule_item item = {0};
    schedule_init(&s, &o, NULL);
    for (int i = 0; i < 300001; i++) {
        assert_true(schedule_next(&s, &item));
    }
    assert_int_equal(item.number, 300000);
    assert_true(llabs(item.offset_ns - 100000000000000) <= 1); /* 300,000 / 3 s */
}

/* Gaps of DRAWS requests in mean gaps; the caller frees them. */
static double *draw_gaps(const struct load_options *o)
{
    struct schedule s;
    struct schedule_item item;
    double *gaps = malloc(DRAWS * sizeof *gaps);
    int64_t before_ns = 0;
    assert_non_null(gaps);
    schedule_init(&s, o, NULL);
    for (int i = 0; i < DRAWS; i++) {
        assert_true(schedule_next(&s, &item));
        assert_true(item.offset_ns >= before_ns);
        gaps[i] = (double)(item.offset_ns - before_ns) * 1e-9 * o->rate_per_s;
        before_ns = item.offset_ns;
    }
    return gaps;
}

/* In mean gaps: the mean is 1, the variance cv^2, and a gamma distribution's fourth central moment
 * is (3 + 6 cv^2) cv^4. */
static void gamma_gaps_have_their_mean_and_variance(void **state)
{
    (void)state;
    static const double cvs[] = {0.01, 0.3, 1.0, 2.0, 4.0};
    for (int k = 0; k < 5; k++) {
        struct load_options o = base_options(LOAD_OPEN_GAMMA);
        o.gap_cv = cvs[k];
        double variance = cvs[k] * cvs[k];
        double *gaps = draw_gaps(&o);
        double sum = 0.0;
        double squares = 0.0;
        for (int i = 0; i < DRAWS; i++) {
            sum += gaps[i];
            squares += (gaps[i] - 1.0) * (gaps[i] - 1.0);
        }
        assert_true(fabs(sum / DRAWS - 1.0) < 4.0 * cvs[k] / sqrt(DRAWS));
        double error = variance * sqrt((2.0 + 6.0 * variance) / DRAWS);
        assert_true(fabs(squares / DRAWS - variance) < 4.0 * error);
        free(gaps);
    }
}

/* Shapes 4, 1 and 1/2, whose distribution functions need no incomplete gamma function. */
static double gamma_below(int shape_index, double x)
{
    switch (shape_index) {
    case 0: {
        double y = 4.0 * x;
        return 1.0 - exp(-y) * (1.0 + y + y * y / 2.0 + y * y * y / 6.0);
    }
    case 1:
        return 1.0 - exp(-x);
    default:
        return erf(sqrt(x / 2.0));
    }
}

static void gamma_gaps_have_their_shape(void **state)
{
    (void)state;
    static const double cvs[] = {0.5, 1.0, M_SQRT2};
    for (int k = 0; k < 3; k++) {
        struct load_options o = base_options(LOAD_OPEN_GAMMA);
        o.gap_cv = cvs[k];
        double *gaps = draw_gaps(&o);
        qsort(gaps, DRAWS, sizeof *gaps, compare_doubles);
        double distance = 0.0;
        for (int i = 0; i < DRAWS; i++) {
            double expected = gamma_below(k, gaps[i]);
            distance = fmax(distance, fabs(expected - (double)i / DRAWS));
            distance = fmax(distance, fabs(expected - (double)(i + 1) / DRAWS));
        }
        assert_true(distance < 1.95 / sqrt(DRAWS)); /* 0.1 % */
        free(gaps);
    }
}

/* Rare and late: arrivals beyond the end of time stay in order. */
static void long_gaps_end_at_the_end_of_time(void **state)
{
    (void)state;
    struct load_options o = base_options(LOAD_OPEN_GAMMA);
    o.gap_cv = 10.0;
    o.rate_per_s = 0.001;
    free(draw_gaps(&o));
    o = base_options(LOAD_OPEN_BURSTS);
    o.burst_count = 1;
    o.burst_every_ns = INT64_MAX / 4;
    free(draw_gaps(&o));
}

static void bursts_come_together_and_on_time(void **state)
{
    (void)state;
    enum {
        OF = 8
    };
    struct load_options o = base_options(LOAD_OPEN_BURSTS);
    o.rate_per_s = 0.0; /* not looked at */
    o.burst_count = OF;
    o.burst_every_ns = 400000000;
    o.requests_max = 0;
    struct schedule s;
    struct schedule_item item;
    double sum = 0.0;
    double squares = 0.0;
    int64_t before_ns = -o.burst_every_ns;
    schedule_init(&s, &o, NULL);
    assert_int_equal(load_options_check(&o, NULL), STATUS_OK);
    for (int64_t i = 0; i < (int64_t)DRAWS; i++) {
        assert_true(schedule_next(&s, &item));
        assert_int_equal(item.offset_ns, i / OF * o.burst_every_ns);
        double gap_s = (double)(item.offset_ns - before_ns) * 1e-9;
        sum += gap_s;
        squares += gap_s * gap_s;
        before_ns = item.offset_ns;
    }
    /* A gap is 400 ms for one in eight and 0 for the others. */
    double mean = sum / DRAWS;
    assert_true(fabs(mean - 0.05) < 1e-9);
    assert_true(fabs(squares / DRAWS - mean * mean - 0.4 * 0.4 * (1.0 / OF) * (1.0 - 1.0 / OF)) <
                1e-9);
}

/* Chi-square of counts against probabilities, normalised: about 0 with deviation 1 for many cells.
 */
static double chi_square_z(const uint32_t *counts, const double *probabilities, uint32_t cells,
                           uint32_t draws)
{
    double sum = 0.0;
    for (uint32_t i = 0; i < cells; i++) {
        double expected = probabilities[i] * draws;
        sum += (counts[i] - expected) * (counts[i] - expected) / expected;
    }
    double freedom = cells - 1.0;
    return (sum - freedom) / sqrt(2.0 * freedom);
}

static void first_outputs_follow_the_residual_life(void **state)
{
    (void)state;
    enum {
        LO = 3,
        HI = 20
    };
    struct load_options o = base_options(LOAD_CLOSED);
    o.residual_first_outputs = 1;
    o.output_tokens = (struct load_range){.lo = LO, .hi = HI};
    o.requests_max = 0;
    uint32_t counts[HI] = {0};
    double expected[HI];
    const double mean = (LO + HI) / 2.0;
    for (int r = 1; r <= HI; r++) {
        /* P(L >= r) / E[L] for L uniform on LO..HI. */
        double at_least = r <= LO ? 1.0 : (double)(HI - r + 1) / (HI - LO + 1);
        expected[r - 1] = at_least / mean;
    }
    struct schedule s;
    struct schedule_item item;
    schedule_init(&s, &o, NULL);
    for (int i = 0; i < DRAWS; i++) {
        assert_true(schedule_next(&s, &item));
        assert_in_range(item.output_tokens, 1, HI);
        counts[item.output_tokens - 1]++;
    }
    assert_true(chi_square_z(counts, expected, HI, DRAWS) < 4.0);
    /* Later requests are whole again, and uniform. */
    uint32_t whole[HI - LO + 1] = {0};
    double uniform[HI - LO + 1];
    for (int i = 0; i < HI - LO + 1; i++) {
        uniform[i] = 1.0 / (HI - LO + 1);
    }
    for (int i = 0; i < DRAWS; i++) {
        assert_true(schedule_next(&s, &item));
        assert_in_range(item.output_tokens, LO, HI);
        whole[item.output_tokens - LO]++;
    }
    assert_true(chi_square_z(whole, uniform, HI - LO + 1, DRAWS) < 4.0);
}

/* P(length = tokens) for a log-normal length rounded to whole tokens, before limits. */
static double log_normal_probability(const struct load_range *range, uint32_t tokens)
{
    double sigma_squared = log(1.0 + (double)range->sd * range->sd / range->mean / range->mean);
    double mu = log(range->mean) - sigma_squared / 2.0;
    double scale = sqrt(2.0 * sigma_squared);
    double above_least = erfc((log(tokens - 0.5) - mu) / scale);
    return (above_least - erfc((log(tokens + 0.5) - mu) / scale)) / 2.0;
}

enum {
    BINS = 32
};

/* What lengths within the limits should be like. */
struct lengths_wanted {
    double inside;
    double mean;
    double variance;
    double fourth; /* central moment */
    double bins[BINS];
};

static uint32_t bin_of(const struct load_range *range, uint32_t tokens)
{
    return (tokens - range->lo) * BINS / (range->hi - range->lo + 1);
}

static struct lengths_wanted want_lengths(const struct load_range *range)
{
    struct lengths_wanted w = {0};
    for (uint32_t t = range->lo; t <= range->hi; t++) {
        double p = log_normal_probability(range, t);
        w.inside += p;
        w.mean += p * t;
        w.bins[bin_of(range, t)] += p;
    }
    w.mean /= w.inside;
    for (uint32_t i = 0; i < BINS; i++) {
        w.bins[i] /= w.inside;
    }
    for (uint32_t t = range->lo; t <= range->hi; t++) {
        double p = log_normal_probability(range, t) / w.inside;
        double away = (t - w.mean) * (t - w.mean);
        w.variance += p * away;
        w.fourth += p * away * away;
    }
    return w;
}

static void log_normal_lengths_are_cut_at_their_limits(void **state)
{
    (void)state;
    static const struct load_range ranges[] = {
        {.lo = 16, .hi = 1024, .mean = 512, .sd = 256},  /* cut above */
        {.lo = 100, .hi = 300, .mean = 200, .sd = 400},  /* cut on both sides */
        {.lo = 1, .hi = 64, .mean = 20, .sd = 10},       /* hardly cut */
        {.lo = 1000, .hi = 3000, .mean = 512, .sd = 256} /* the tail alone */
    };
    for (int k = 0; k < 4; k++) {
        struct load_options o = base_options(LOAD_CLOSED);
        o.prompt_tokens = ranges[k];
        o.output_tokens = ranges[3 - k];
        assert_int_equal(load_options_check(&o, NULL), STATUS_OK);
        struct lengths_wanted want = want_lengths(&ranges[k]);
        assert_true(fabs(lengths_inside_frac(&ranges[k]) - want.inside) < 1e-6);
        assert_true(fabs(lengths_mean(&ranges[k]) / want.mean - 1.0) < 2e-3);
        struct schedule s;
        struct schedule_item item;
        uint32_t counts[BINS] = {0};
        double sum = 0.0;
        double squares = 0.0;
        schedule_init(&s, &o, NULL);
        for (int i = 0; i < DRAWS; i++) {
            assert_true(schedule_next(&s, &item));
            assert_in_range(item.prompt_tokens, ranges[k].lo, ranges[k].hi);
            assert_in_range(item.output_tokens, ranges[3 - k].lo, ranges[3 - k].hi);
            counts[bin_of(&ranges[k], item.prompt_tokens)]++;
            sum += item.prompt_tokens;
            squares += (item.prompt_tokens - want.mean) * (item.prompt_tokens - want.mean);
        }
        assert_true(fabs(sum / DRAWS - want.mean) < 4.0 * sqrt(want.variance / DRAWS));
        assert_true(fabs(squares / DRAWS - want.variance) <
                    4.0 * sqrt((want.fourth - want.variance * want.variance) / DRAWS));
        assert_true(chi_square_z(counts, want.bins, BINS, DRAWS) < 4.0);
    }
}

/* With limits far away the mean and the deviation are those asked for. */
static void wide_log_normal_lengths_keep_their_mean(void **state)
{
    (void)state;
    static const struct load_range wide = {.lo = 1, .hi = LOAD_TOKENS_MAX, .mean = 512, .sd = 256};
    struct random r = random_stream(3, "lengths", 0);
    double sum = 0.0;
    double squares = 0.0;
    for (int i = 0; i < DRAWS; i++) {
        double away = lengths_draw(&wide, &r) - 512.0;
        sum += away;
        squares += away * away;
    }
    assert_true(fabs(sum / DRAWS) < 4.0 * 256.0 / sqrt(DRAWS));
    assert_true(fabs(sqrt(squares / DRAWS) / 256.0 - 1.0) < 0.05);
    assert_true(fabs(lengths_mean(&wide) - 512.0) < 0.01);
}

static void only_the_named_users_start_in_the_middle(void **state)
{
    (void)state;
    struct load_options o = base_options(LOAD_CLOSED);
    o.residual_first_outputs = 1;
    o.residual_users_count = 500;
    struct schedule s;
    struct schedule_item item;
    uint32_t short_count = 0;
    schedule_init(&s, &o, NULL);
    for (int i = 0; i < 2000; i++) {
        assert_true(schedule_next(&s, &item));
        short_count += i < 500 && item.output_tokens < 128;
        assert_true(i < 500 || item.output_tokens >= 128);
    }
    assert_true(short_count > 150); /* 127/256 of them in the mean */
}

static void a_request_depends_on_seed_and_number_only(void **state)
{
    (void)state;
    struct load_options closed = base_options(LOAD_CLOSED);
    struct load_options open = base_options(LOAD_OPEN_POISSON);
    struct schedule a;
    struct schedule b;
    schedule_init(&a, &closed, NULL);
    schedule_init(&b, &open, NULL);
    uint32_t ids_a[48];
    uint32_t ids_b[48];
    uint32_t ids_before[48] = {0};
    for (int i = 0; i < 100; i++) {
        struct schedule_item x;
        struct schedule_item y;
        assert_true(schedule_next(&a, &x) && schedule_next(&b, &y));
        assert_int_equal(x.prompt_tokens, y.prompt_tokens);
        assert_int_equal(x.output_tokens, y.output_tokens);
        request_prompt(&closed, NULL, &x, ids_a);
        request_prompt(&open, NULL, &y, ids_b);
        assert_memory_equal(ids_a, ids_b, x.prompt_tokens * sizeof ids_a[0]);
        assert_memory_not_equal(ids_a, ids_before, 16 * sizeof ids_a[0]);
        memcpy(ids_before, ids_a, sizeof ids_a);
        for (uint32_t k = 0; k < x.prompt_tokens; k++) {
            assert_in_range(ids_a[k], REQUEST_TOKEN_ID_LO, REQUEST_TOKEN_ID_HI);
        }
    }
}

static void a_shared_prefix_is_shared_and_no_more(void **state)
{
    (void)state;
    struct load_options o = base_options(LOAD_CLOSED);
    o.prompt_tokens = (struct load_range){.lo = 40, .hi = 40};
    o.shared_prefix = 0.25;
    struct schedule s;
    struct schedule_item a;
    struct schedule_item b;
    uint32_t ids_a[40];
    uint32_t ids_b[40];
    schedule_init(&s, &o, NULL);
    assert_true(schedule_next(&s, &a) && schedule_next(&s, &b));
    request_prompt(&o, NULL, &a, ids_a);
    request_prompt(&o, NULL, &b, ids_b);
    assert_memory_equal(ids_a, ids_b, 10 * sizeof ids_a[0]);
    uint32_t equal = 0;
    for (int i = 10; i < 40; i++) {
        equal += ids_a[i] == ids_b[i];
    }
    assert_true(equal <= 2);
}

/* ---- sessions ---- */

static struct load_options session_options(void)
{
    struct load_options o = base_options(LOAD_CLOSED);
    o.users_count = 7;
    o.turns_count = 4;
    o.requests_max = 0;
    return o;
}

static void a_prompt_of_a_session_begins_with_the_one_before(void **state)
{
    (void)state;
    enum {
        TOKENS_MAX = 4 * (48 + 384)
    };
    struct load_options o = session_options();
    struct schedule s;
    uint32_t *ids = calloc(TOKENS_MAX, sizeof *ids);
    uint32_t *before_ids = calloc(TOKENS_MAX, sizeof *ids);
    assert_true(ids != NULL && before_ids != NULL);
    assert_int_equal(load_options_check(&o, NULL), STATUS_OK);
    assert_int_equal(load_prompt_tokens_max(&o), 4 * 48 + 3 * 384);
    schedule_init(&s, &o, NULL);
    for (uint32_t user = 0; user < o.users_count; user++) {
        struct schedule_item before = {0};
        for (uint64_t rank = 0; rank < 12; rank++) {
            struct schedule_item item;
            assert_true(schedule_of_user(&s, user, rank, &item));
            assert_int_equal(item.number, rank * o.users_count + user);
            request_prompt(&o, NULL, &item, ids);
            if (rank % o.turns_count == 0) {
                assert_in_range(item.prompt_tokens, 16, 48);
                assert_memory_not_equal(ids, before_ids, 16 * sizeof *ids);
            } else {
                /* The prompt before, its answer's length, and 16 to 48 new tokens. */
                uint32_t history = before.prompt_tokens + before.output_tokens;
                assert_in_range(item.prompt_tokens, history + 16, history + 48);
                assert_memory_equal(ids, before_ids, before.prompt_tokens * sizeof *ids);
                assert_int_equal(item.session, before.session);
            }
            memcpy(before_ids, ids, item.prompt_tokens * sizeof *ids);
            before = item;
        }
    }
    free(ids);
    free(before_ids);
}

static void sessions_end_with_the_last_request(void **state)
{
    (void)state;
    struct load_options o = session_options();
    struct schedule s;
    struct schedule_item item;
    uint32_t count = 0;
    o.requests_max = 17; /* 7 users: two or three requests each */
    schedule_init(&s, &o, NULL);
    for (uint32_t user = 0; user < o.users_count; user++) {
        for (uint64_t rank = 0; schedule_of_user(&s, user, rank, &item); rank++) {
            assert_true(item.number < 17);
            count++;
        }
    }
    assert_int_equal(count, 17);
}

static void sessions_exclude_what_makes_no_sense_with_them(void **state)
{
    (void)state;
    struct load_options o = session_options();
    o.shared_prefix = 0.5;
    assert_int_equal(load_options_check(&o, NULL), STATUS_INVALID);
    o = session_options();
    o.mode = LOAD_OPEN_POISSON;
    assert_int_equal(load_options_check(&o, NULL), STATUS_INVALID);
    o = base_options(LOAD_OPEN_POISSON);
    o.think_mean_ns = 1;
    assert_int_equal(load_options_check(&o, NULL), STATUS_INVALID);
    o = session_options();
    o.turns_count = 1000;
    o.output_tokens.hi = 2000;
    assert_int_equal(load_options_check(&o, NULL), STATUS_INVALID);
}

/* Little's law, N = X (R + Z): users who wait R for each answer and think Z on average begin
 * N T / (R + Z) requests in the time T. Nothing here takes time: clocks are added up. */
static void arrivals_of_users_who_think_obey_littles_law(void **state)
{
    (void)state;
    struct load_options o = base_options(LOAD_CLOSED);
    const double answer_s = 0.5;
    const double think_s = 2.0;
    const double end_s = 1000.0;
    uint64_t count = 0;
    o.users_count = 40;
    o.think_mean_ns = (int64_t)(think_s * 1e9);
    for (uint64_t user = 0; user < o.users_count; user++) {
        double at_s = (double)schedule_think_ns(&o, SCHEDULE_BEFORE_FIRST + user) * 1e-9;
        for (uint64_t rank = 0; at_s < end_s; rank++) {
            count++;
            at_s += answer_s;
            at_s += (double)schedule_think_ns(&o, rank * o.users_count + user) * 1e-9;
        }
    }
    double expected = o.users_count * end_s / (answer_s + think_s);
    /* A renewal process: the count's variance is the mean's times (sd / mean of a cycle) squared.
     */
    double sd = sqrt(expected) * think_s / (answer_s + think_s);
    assert_true(fabs((double)count - expected) < 4 * sd + 1);
    o.think_mean_ns = 0;
    assert_int_equal(schedule_think_ns(&o, 5), 0);
}

static void trace_blocks_share_prefixes_and_times_are_scaled(void **state)
{
    (void)state;
    const char text[] =
        "{\"timestamp\":0,\"input_length\":1100,\"output_length\":5,\"hash_ids\":[7,8,9]}\n"
        "{\"timestamp\":100,\"input_length\":700,\"output_length\":6,\"hash_ids\":[7,3]}\n"
        "{\"timestamp\":900,\"input_length\":513,\"output_length\":6,\"hash_ids\":[7]}\n";
    struct trace_limits limits = {0};
    struct trace trace;
    struct trace_text source = {.name = "t", .data = text, .bytes = sizeof text - 1};
    assert_int_equal(trace_parse(&source, TRACE_AUTO, &limits, &trace, NULL), STATUS_OK);
    struct load_options o = base_options(LOAD_TRACE);
    o.requests_max = 0;
    o.time_scale = 4.0;
    struct schedule s;
    struct schedule_item items[3];
    uint32_t ids[3][1100];
    schedule_init(&s, &o, &trace);
    for (int i = 0; i < 3; i++) {
        assert_true(schedule_next(&s, &items[i]));
        request_prompt(&o, &trace, &items[i], ids[i]);
    }
    assert_false(schedule_next(&s, &items[0]));
    assert_int_equal(items[1].offset_ns, 25000000);
    assert_int_equal(items[2].offset_ns, 225000000);
    assert_int_equal(items[1].prompt_tokens, 700);
    assert_int_equal(items[1].output_tokens, 6);
    assert_memory_equal(ids[0], ids[1], 512 * sizeof ids[0][0]);
    assert_memory_equal(ids[0], ids[2], 512 * sizeof ids[0][0]);
    assert_memory_not_equal(ids[0] + 512, ids[1] + 512, 16 * sizeof ids[0][0]);
    trace_free(&trace);
}

static void trace_lengths_repeat_in_a_closed_loop(void **state)
{
    (void)state;
    const char text[] = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
                        "2023-11-16 18:15:46,5,7\n2023-11-16 18:15:47,6,8\n";
    struct trace_limits limits = {0};
    struct trace trace;
    struct trace_text source = {.name = "t", .data = text, .bytes = sizeof text - 1};
    assert_int_equal(trace_parse(&source, TRACE_AUTO, &limits, &trace, NULL), STATUS_OK);
    struct load_options o = base_options(LOAD_CLOSED);
    struct schedule s;
    struct schedule_item item;
    schedule_init(&s, &o, &trace);
    for (uint32_t i = 0; i < 6; i++) {
        assert_true(schedule_next(&s, &item));
        assert_int_equal(item.prompt_tokens, 5 + i % 2);
        assert_int_equal(item.output_tokens, 7 + i % 2);
    }
    trace_free(&trace);
}

static struct json_object *member(struct json_object *object, const char *key)
{
    struct json_object *value = NULL;
    assert_true(json_object_object_get_ex(object, key, &value));
    return value;
}

static void request_bytes_are_http_and_json(void **state)
{
    (void)state;
    struct load_options o = base_options(LOAD_CLOSED);
    o.ignore_eos = 1;
    o.continuous_usage = 1;
    o.temperature = 0.75;
    (void)strcpy(o.model, "a \"quoted\" name");
    struct schedule_item item = {
        .number = 4711, .prompt_tokens = 33, .output_tokens = 9, .trace_index = SCHEDULE_NO_TRACE};
    uint32_t ids[33];
    struct http_buffer bytes = {0};
    request_prompt(&o, NULL, &item, ids);
    request_write(&bytes, &o, NULL, &item);
    assert_false(bytes.failed);
    struct http_server_parser *parser = NULL;
    struct http_request request;
    size_t used = 0;
    assert_int_equal(http_server_create(NULL, &parser, NULL), STATUS_OK);
    assert_int_equal(http_server_feed(parser, bytes.data, bytes.bytes, &used, &request),
                     HTTP_FEED_COMPLETE);
    assert_int_equal(used, bytes.bytes);
    assert_int_equal(request.verb, HTTP_VERB_POST);
    assert_string_equal(request.path, "/v1/completions");
    assert_string_equal(request.request_id, "4711");
    struct json_tokener *tokener = json_tokener_new();
    json_tokener_set_flags(tokener, JSON_TOKENER_STRICT);
    struct json_object *body =
        json_tokener_parse_ex(tokener, request.body, (int)request.body_bytes);
    assert_int_equal(json_tokener_get_error(tokener), json_tokener_success);
    assert_string_equal(json_object_get_string(member(body, "model")), o.model);
    assert_int_equal(json_object_get_int(member(body, "max_tokens")), 9);
    assert_true(json_object_get_boolean(member(body, "ignore_eos")));
    assert_true(fabs(json_object_get_double(member(body, "temperature")) - 0.75) < 1e-9);
    assert_true(json_object_get_boolean(member(body, "stream")));
    struct json_object *stream = member(body, "stream_options");
    assert_true(json_object_get_boolean(member(stream, "include_usage")));
    assert_true(json_object_get_boolean(member(stream, "continuous_usage_stats")));
    struct json_object *prompt = member(body, "prompt");
    assert_int_equal(json_object_array_length(prompt), 33);
    for (size_t i = 0; i < 33; i++) {
        assert_int_equal(json_object_get_int(json_object_array_get_idx(prompt, i)), ids[i]);
    }
    (void)json_object_put(body);
    json_tokener_free(tokener);
    http_server_destroy(parser);
    http_buffer_free(&bytes);
}

static void options_that_make_no_sense_are_named(void **state)
{
    (void)state;
    struct error error;
    struct load_options o = base_options(LOAD_OPEN_POISSON);
    assert_int_equal(load_options_check(&o, &error), STATUS_OK);
    o.rate_per_s = 0.0;
    assert_int_equal(load_options_check(&o, &error), STATUS_INVALID);
    assert_non_null(strstr(error.text, "rate"));
    o = base_options(LOAD_CLOSED);
    o.output_tokens.lo = 0;
    assert_int_equal(load_options_check(&o, &error), STATUS_INVALID);
    assert_non_null(strstr(error.text, "output tokens"));
    o = base_options(LOAD_CLOSED);
    o.users_count = 2;
    o.balance = 1;
    o.api_servers_count = 3;
    assert_int_equal(load_options_check(&o, &error), STATUS_INVALID);
    assert_non_null(strstr(error.text, "balanced"));
    o = base_options(LOAD_TRACE);
    assert_int_equal(load_options_check(&o, &error), STATUS_INVALID);
    o = base_options(LOAD_OPEN_GAMMA);
    assert_int_equal(load_options_check(&o, &error), STATUS_INVALID);
    assert_non_null(strstr(error.text, "coefficient of variation"));
    o = base_options(LOAD_OPEN_BURSTS);
    o.burst_count = 3;
    assert_int_equal(load_options_check(&o, &error), STATUS_INVALID);
    assert_non_null(strstr(error.text, "bursts"));
    o = base_options(LOAD_CLOSED);
    o.prompt_tokens = (struct load_range){.lo = 100, .hi = 200, .mean = 50, .sd = 5};
    assert_int_equal(load_options_check(&o, &error), STATUS_INVALID);
    assert_non_null(strstr(error.text, "prompt tokens"));
    o = base_options(LOAD_CLOSED);
    o.temperature = 3.0;
    assert_int_equal(load_options_check(&o, &error), STATUS_INVALID);
    assert_non_null(strstr(error.text, "temperature"));
    o = base_options(LOAD_CLOSED);
    o.window_ns = 0;
    assert_int_equal(load_options_check(&o, &error), STATUS_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(poisson_gaps_are_exponential),
        cmocka_unit_test(a_constant_rate_does_not_drift),
        cmocka_unit_test(gamma_gaps_have_their_mean_and_variance),
        cmocka_unit_test(gamma_gaps_have_their_shape),
        cmocka_unit_test(long_gaps_end_at_the_end_of_time),
        cmocka_unit_test(bursts_come_together_and_on_time),
        cmocka_unit_test(log_normal_lengths_are_cut_at_their_limits),
        cmocka_unit_test(wide_log_normal_lengths_keep_their_mean),
        cmocka_unit_test(first_outputs_follow_the_residual_life),
        cmocka_unit_test(only_the_named_users_start_in_the_middle),
        cmocka_unit_test(a_request_depends_on_seed_and_number_only),
        cmocka_unit_test(a_shared_prefix_is_shared_and_no_more),
        cmocka_unit_test(a_prompt_of_a_session_begins_with_the_one_before),
        cmocka_unit_test(sessions_end_with_the_last_request),
        cmocka_unit_test(sessions_exclude_what_makes_no_sense_with_them),
        cmocka_unit_test(arrivals_of_users_who_think_obey_littles_law),
        cmocka_unit_test(trace_blocks_share_prefixes_and_times_are_scaled),
        cmocka_unit_test(trace_lengths_repeat_in_a_closed_loop),
        cmocka_unit_test(request_bytes_are_http_and_json),
        cmocka_unit_test(options_that_make_no_sense_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

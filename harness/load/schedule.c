/*
 * schedule.c - arrivals and lengths. Driven by the load client, one call a request; pure.
 */
#include "harness/load/schedule.h"

#include <math.h>

#include "engine/base/status.h"

void schedule_init(struct schedule *s, const struct load_options *options,
                   const struct trace *trace)
{
    *s = (struct schedule){
        .options = options,
        .trace = trace,
        .arrivals = random_stream(options->seed, "arrivals", 0),
    };
}

/* An output length as a request in the middle of the run draws it. */
static uint32_t draw_output(const struct schedule *s, struct random *r)
{
    if (s->trace != NULL) {
        int64_t index = random_range(r, 0, (int64_t)s->trace->requests_count - 1);
        return s->trace->requests[index].output_tokens;
    }
    return lengths_draw(&s->options->output_tokens, r);
}

/* Residual life: a length drawn with probability proportional to itself (by rejection), cut at a
 * uniform point. */
static uint32_t draw_residual(const struct schedule *s, struct random *r)
{
    uint32_t longest =
        s->trace != NULL ? s->trace->output_tokens_max : s->options->output_tokens.hi;
    uint32_t length;
    do {
        length = draw_output(s, r);
    } while (random_unit(r) * (double)longest >= (double)length);
    return (uint32_t)random_range(r, 1, length);
}

static bool is_residual(const struct schedule *s, uint64_t number)
{
    const struct load_options *o = s->options;
    uint32_t users_count = o->residual_users_count > 0 && o->residual_users_count < o->users_count
                               ? o->residual_users_count
                               : o->users_count;
    return o->mode == LOAD_CLOSED && o->residual_first_outputs && number < users_count;
}

static void draw_lengths(const struct schedule *s, struct schedule_item *item)
{
    const struct load_options *o = s->options;
    struct random outputs = random_stream(o->seed, "outputs", item->number);
    if (s->trace != NULL) {
        const struct trace_request *request = &s->trace->requests[item->trace_index];
        item->prompt_tokens = request->prompt_tokens;
        item->output_tokens = request->output_tokens;
    } else {
        struct random prompts = random_stream(o->seed, "prompt_lengths", item->number);
        item->prompt_tokens = lengths_draw(&o->prompt_tokens, &prompts);
        item->output_tokens = draw_output(s, &outputs);
    }
    if (is_residual(s, item->number)) {
        item->output_tokens = draw_residual(s, &outputs);
    }
}

/*
 * Gamma distributed with this shape and mean 1 (Marsaglia and Tsang 2000: a normal variate, cubed,
 * is nearly right, and seldom rejected). A shape under 1 comes from the next higher one.
 */
static double draw_gamma(struct random *r, double shape)
{
    double scale = 1.0;
    double raised = shape;
    if (shape < 1.0) {
        scale = pow(1.0 - random_unit(r), 1.0 / shape);
        raised += 1.0;
    }
    double d = raised - 1.0 / 3.0;
    double c = 1.0 / sqrt(9.0 * d);
    double x;
    double v;
    double u;
    do {
        do {
            x = random_normal(r);
            v = 1.0 + c * x;
        } while (v <= 0.0);
        v = v * v * v;
        u = 1.0 - random_unit(r);
    } while (log(u) >= 0.5 * x * x + d - d * v + d * log(v));
    return scale * d * v / shape;
}

/* Arrivals that no run waits for may lie beyond what a time can hold. */
static time_ps add_gap(time_ps at, double gap_ps)
{
    double sum = (double)at + gap_ps;
    return sum < 0x1p62 ? at + (time_ps)llround(gap_ps) : (time_ps)1 << 62;
}

static time_ps burst_at(const struct load_options *o, uint64_t burst)
{
    return add_gap(0, (double)burst * (double)o->burst_every_ns * (double)PS_PER_NS);
}

bool schedule_next(struct schedule *s, struct schedule_item *item)
{
    const struct load_options *o = s->options;
    uint64_t number = s->next_number;
    bool ended = (o->requests_max > 0 && number >= o->requests_max) ||
                 (o->mode == LOAD_TRACE && number >= s->trace->requests_count);
    if (ended) {
        return false;
    }
    uint32_t trace_index = SCHEDULE_NO_TRACE;
    if (s->trace != NULL) {
        trace_index = (uint32_t)(number % s->trace->requests_count);
    }
    switch ((enum load_mode)o->mode) {
    case LOAD_CLOSED:
        break;
    case LOAD_OPEN_POISSON:
        s->at_ps += random_interval_ps(&s->arrivals, o->rate_per_s);
        break;
    case LOAD_OPEN_CONSTANT:
        /* From the number, not by adding up: the rate is exact however long the run is. */
        s->at_ps = (time_ps)((double)number / o->rate_per_s * (double)PS_PER_S);
        break;
    case LOAD_OPEN_GAMMA:
        s->at_ps = add_gap(s->at_ps, draw_gamma(&s->arrivals, 1.0 / (o->gap_cv * o->gap_cv)) /
                                         o->rate_per_s * (double)PS_PER_S);
        break;
    case LOAD_OPEN_BURSTS:
        s->at_ps = burst_at(o, number / o->burst_count);
        break;
    case LOAD_TRACE:
        s->at_ps =
            ps_from_ns((int64_t)((double)s->trace->requests[trace_index].at_ns / o->time_scale));
        break;
    }
    *item = (struct schedule_item){
        .number = number, .offset_ns = ns_from_ps(s->at_ps), .trace_index = trace_index};
    draw_lengths(s, item);
    s->next_number++;
    return true;
}

bool schedule_of_user(const struct schedule *s, uint32_t user, uint64_t rank,
                      struct schedule_item *item)
{
    const struct load_options *o = s->options;
    uint64_t users = o->users_count;
    uint64_t first_rank = rank - rank % o->turns_count;
    uint64_t prompt_tokens = 0;
    if (o->requests_max > 0 && rank * users + user >= o->requests_max) {
        return false;
    }
    for (uint64_t turn = first_rank; turn <= rank; turn++) {
        struct schedule_item own = {.number = turn * users + user,
                                    .trace_index = SCHEDULE_NO_TRACE};
        draw_lengths(s, &own);
        *item = own;
        item->prompt_tokens += (uint32_t)prompt_tokens;
        prompt_tokens = (uint64_t)item->prompt_tokens + own.output_tokens;
    }
    item->session = first_rank * users + user;
    return true;
}

int64_t schedule_think_ns(const struct load_options *options, uint64_t number)
{
    if (options->think_mean_ns == 0) {
        return 0;
    }
    struct random r = random_stream(options->seed, "think", number);
    return llround(random_exponential(&r) * (double)options->think_mean_ns);
}

int64_t schedule_last_offset_ns(const struct load_options *options, const struct trace *trace)
{
    ASSERT(options->requests_max > 0 || options->mode == LOAD_TRACE);
    struct schedule schedule;
    struct schedule_item item = {0};
    schedule_init(&schedule, options, trace);
    while (schedule_next(&schedule, &item)) {
    }
    return item.offset_ns;
}

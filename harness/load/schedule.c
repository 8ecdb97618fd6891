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
    const struct load_range *range = &s->options->output_tokens;
    return (uint32_t)random_range(r, range->lo, range->hi);
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
        item->prompt_tokens =
            (uint32_t)random_range(&prompts, o->prompt_tokens.lo, o->prompt_tokens.hi);
        item->output_tokens = draw_output(s, &outputs);
    }
    if (is_residual(s, item->number)) {
        item->output_tokens = draw_residual(s, &outputs);
    }
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

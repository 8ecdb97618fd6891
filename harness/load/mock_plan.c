/*
 * mock_plan.c - schedules of the mock's streams (mock_plan.h). Driven by the mock server's loop.
 */
#include "harness/load/mock_plan.h"

#include "engine/base/random.h"

/* Purposes of draws: one must not move another's. */
enum draw {
    DRAW_ERROR,
    DRAW_RESET,
    DRAW_RESET_PLACE,
    DRAW_EMPTY,
    DRAW_CUT,
    DRAW_CUT_PLACE
};

static uint64_t draw(const struct mock_options *o, const struct mock_plan *plan, enum draw purpose,
                     uint32_t write)
{
    return random_at(random_at(o->seed, plan->request * 8 + (uint64_t)purpose), write);
}

static bool hits(uint64_t bits, double share)
{
    return (double)(bits >> 11) * 0x1p-53 < share;
}

static uint32_t at_least_one(uint32_t value)
{
    return value > 0 ? value : 1;
}

static uint32_t parts(uint32_t whole, uint32_t part)
{
    return (whole - 1) / part + 1;
}

void mock_plan_make(const struct mock_options *options, uint64_t request, uint32_t tokens,
                    struct mock_plan *plan)
{
    struct mock_plan p = {.request = request, .tokens_count = tokens, .reset_write = MOCK_NO_RESET};
    p.events_count = parts(tokens, at_least_one(options->tokens_each_event));
    p.writes_count = parts(p.events_count, at_least_one(options->events_each_write));
    /* Multiples of the golden ratio: any number of consecutive streams is spread evenly. */
    uint64_t turn = (request * UINT64_C(0x9e3779b97f4a7c15)) >> 11;
    p.phase_ns = (int64_t)((double)turn * 0x1p-53 * (double)options->itl_ns);
    p.error = hits(draw(options, &p, DRAW_ERROR, 0), options->error_share);
    if (hits(draw(options, &p, DRAW_RESET, 0), options->reset_share)) {
        /* After the first write where there are several, so that the stream has begun. */
        uint64_t place = draw(options, &p, DRAW_RESET_PLACE, 0);
        p.reset_write = p.writes_count == 1 ? 0 : 1 + (uint32_t)(place % (p.writes_count - 1));
    }
    *plan = p;
}

uint32_t mock_plan_events_through(const struct mock_options *options, const struct mock_plan *plan,
                                  uint32_t write)
{
    uint64_t events = ((uint64_t)write + 1) * at_least_one(options->events_each_write);
    return events < plan->events_count ? (uint32_t)events : plan->events_count;
}

uint32_t mock_plan_tokens_through(const struct mock_options *options, const struct mock_plan *plan,
                                  uint32_t event)
{
    uint64_t tokens = ((uint64_t)event + 1) * at_least_one(options->tokens_each_event);
    return tokens < plan->tokens_count ? (uint32_t)tokens : plan->tokens_count;
}

int64_t mock_plan_due_ns(const struct mock_options *options, const struct mock_plan *plan,
                         uint32_t write)
{
    uint32_t event = mock_plan_events_through(options, plan, write) - 1;
    uint32_t tokens = mock_plan_tokens_through(options, plan, event);
    return options->ttft_ns + plan->phase_ns + (int64_t)(tokens - 1) * options->itl_ns;
}

int64_t mock_plan_empty_ns(const struct mock_options *options, const struct mock_plan *plan,
                           uint32_t write)
{
    if (!hits(draw(options, plan, DRAW_EMPTY, write), options->empty_share)) {
        return -1;
    }
    int64_t due_ns = mock_plan_due_ns(options, plan, write) - options->itl_ns / 2;
    return due_ns > 0 ? due_ns : 0;
}

uint32_t mock_plan_cut(const struct mock_options *options, const struct mock_plan *plan,
                       uint32_t write, uint32_t bytes)
{
    if (bytes < 2 || !hits(draw(options, plan, DRAW_CUT, write), options->cut_share)) {
        return 0;
    }
    return 1 + (uint32_t)(draw(options, plan, DRAW_CUT_PLACE, write) % (bytes - 1));
}

int64_t mock_server_time_ns(const struct mock_stall *stall, int64_t real_ns)
{
    if (stall->for_ns == 0 || real_ns <= stall->start_ns) {
        return real_ns;
    }
    int64_t end_ns = stall->start_ns + stall->for_ns;
    return real_ns < end_ns ? stall->start_ns : real_ns - stall->for_ns;
}

int64_t mock_real_time_ns(const struct mock_stall *stall, int64_t server_ns)
{
    bool before = stall->for_ns == 0 || server_ns < stall->start_ns;
    return before ? server_ns : server_ns + stall->for_ns;
}

/*
 * protocol_collectives.c - forwards and all-reduces as rendezvous of all ranks. Driven by
 * protocol_rank.c. Ranks that bring different things to the same rendezvous are a failure at once;
 * ranks that wait for ever are found when nothing else can happen.
 */
#include "sim/protocol_model.h"

/* ---- forwards ---- */

static struct protocol_forward *forward_at(struct protocol *d, uint64_t number)
{
    return &d->forwards[number % PROTOCOL_FORWARDS_OPEN];
}

/* What all ranks agree on, computed here from its definition. */
static bool check_agreement(struct protocol *d, const struct protocol_forward *forward)
{
    uint32_t largest = 0;
    bool graph = true;
    struct wave_forward agreed = forward->own[0];
    for (uint32_t i = 0; i < d->ranks_count; i++) {
        largest = forward->own[i].tokens_count > largest ? forward->own[i].tokens_count : largest;
        graph = graph && forward->own[i].graph;
        agreed = i == 0 ? agreed : wave_forward_merge(agreed, forward->own[i]);
    }
    PROTOCOL_REQUIRE(d, "I2", agreed.tokens_count == largest && agreed.graph == graph,
                     "ranks agree on %u tokens, the largest is %u", agreed.tokens_count, largest);
    for (uint32_t i = 0; i < d->ranks_count; i++) {
        uint32_t padded = wave_forward_tokens(forward->own[i], agreed);
        uint32_t want = graph ? largest : forward->own[i].tokens_count;
        PROTOCOL_REQUIRE(d, "I2", padded == want, "rank %u runs %u tokens in a forward of %u", i,
                         padded, want);
    }
    return true;
}

/* Wakes the ranks whose main thread waits for something that is done now. */
static void wake_forward(struct protocol *d, uint64_t number, time_ps done_at)
{
    for (uint32_t i = 0; i < d->ranks_count; i++) {
        struct protocol_rank *r = &d->ranks[i];
        const struct rank_step *waited = r->stage == RANK_COMPLETE ? &r->steps[0] : &r->dummy;
        if (r->wait == RANK_IN_FORWARD && waited->forward == number) {
            r->wait = RANK_RUNNABLE;
            time_ps wake = random_range(&d->events, 0, 200 * PS_PER_US);
            r->resume_at = done_at + protocol_slowed(d, i, wake);
        }
    }
}

/* A forward takes as long as on its slowest rank. */
static time_ps slowest(const struct protocol *d, time_ps duration)
{
    time_ps longest = duration;
    for (uint32_t i = 0; i < d->ranks_count; i++) {
        time_ps own = protocol_slowed(d, i, duration);
        longest = own > longest ? own : longest;
    }
    return longest;
}

bool protocol_forward_enter(struct protocol *d, uint32_t rank, struct rank_step *step,
                            struct wave_forward own)
{
    struct protocol_rank *r = &d->ranks[rank];
    const struct wave *wave = engine_core_wave(r->engine);
    uint64_t number = r->forwards_count++;
    struct protocol_forward *forward = forward_at(d, number);
    PROTOCOL_REQUIRE(d, "I2", number < d->forwards_resolved + PROTOCOL_FORWARDS_OPEN,
                     "rank %u runs ahead of the others", rank);
    step->collective = true;
    step->forward = number;
    if (forward->arrived == 0) {
        *forward = (struct protocol_forward){.wave = wave->current_wave, .step = r->wave_steps};
    }
    PROTOCOL_REQUIRE(d, "I2", forward->wave == wave->current_wave && forward->step == r->wave_steps,
                     "forward %lu: rank %u is at wave %u step %u, others at wave %u step %u",
                     (unsigned long)number, rank, wave->current_wave, r->wave_steps, forward->wave,
                     forward->step);
    forward->own[rank] = own;
    forward->arrived++;
    forward->last_submit = d->now;
    d->report->forwards_count++;
    PROTOCOL_EVENT(d, FORWARD, rank, (uint32_t)number, own.tokens_count, r->wave_steps);
    if (forward->arrived < d->ranks_count) {
        return true;
    }
    time_ps start = d->now > d->last_forward_done ? d->now : d->last_forward_done;
    time_ps duration = random_range(&d->events, d->step_time / 2, d->step_time * 3 / 2);
    forward->done_at = start + slowest(d, duration);
    forward->resolved = true;
    forward->arrived = 0; /* the place is free for a later number */
    d->last_forward_done = forward->done_at;
    d->forwards_resolved++;
    wake_forward(d, number, forward->done_at);
    return check_agreement(d, forward);
}

time_ps protocol_forward_done(const struct protocol *d, uint64_t forward)
{
    if (forward >= d->forwards_resolved) {
        return TIME_NEVER;
    }
    return d->forwards[forward % PROTOCOL_FORWARDS_OPEN].done_at;
}

/* ---- all-reduces ---- */

bool protocol_reduce_enter(struct protocol *d, uint32_t rank, const struct wave_ballot *ballot,
                           bool unfinished)
{
    struct protocol_rank *r = &d->ranks[rank];
    const struct wave *wave = engine_core_wave(r->engine);
    uint64_t number = r->reduces_count++;
    bool resume = ballot == NULL;
    struct protocol_reduce *reduce = &d->reduces[number % 2];
    PROTOCOL_REQUIRE(d, "I2", number <= d->reduces_resolved, "rank %u all-reduces twice", rank);
    if (reduce->arrived == 0) {
        *reduce = (struct protocol_reduce){
            .resume = resume, .wave = wave->current_wave, .step = r->wave_steps};
    }
    PROTOCOL_REQUIRE(d, "I2", reduce->resume == resume,
                     "rank %u all-reduces for a %s, others for a %s", rank,
                     resume ? "resume" : "check", resume ? "check" : "resume");
    PROTOCOL_REQUIRE(d, "I2",
                     reduce->wave == wave->current_wave && reduce->step == r->wave_steps &&
                         wave->step_counter == r->wave_steps,
                     "rank %u checks at wave %u step %u (%u forwards), others at wave %u step %u",
                     rank, wave->current_wave, wave->step_counter, r->wave_steps, reduce->wave,
                     reduce->step);
    if (!resume) {
        reduce->sum.unfinished += ballot->unfinished;
        reduce->sum.pending_pause += ballot->pending_pause;
        d->report->checks_count++;
    }
    reduce->any_unfinished = reduce->any_unfinished || unfinished;
    reduce->arrived++;
    r->wait = RANK_IN_ALLREDUCE;
    if (reduce->arrived < d->ranks_count) {
        return true;
    }
    reduce->arrived = 0;
    d->reduces_resolved++;
    for (uint32_t i = 0; i < d->ranks_count; i++) {
        /* Ranks learn the result at different times: input comes in between. */
        d->ranks[i].wait = RANK_RUNNABLE;
        time_ps wake = random_range(&d->events, 0, 2 * d->step_time);
        d->ranks[i].resume_at = d->now + protocol_slowed(d, i, wake);
    }
    return true;
}

const struct protocol_reduce *protocol_reduce_result(const struct protocol *d, uint64_t reduce)
{
    return &d->reduces[reduce % 2];
}

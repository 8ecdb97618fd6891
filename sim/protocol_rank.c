/*
 * protocol_rank.c - one engine core's main thread and its device, driving the production engine
 * core as engine_core.h says. Driven by protocol_driver.c, one event at a time: an event goes on
 * until the thread would wait. It must not know what other ranks do, but for the rendezvous.
 */
#include <string.h>

#include "sim/protocol_model.h"

static uint32_t wave_of(const struct protocol_rank *r)
{
    return engine_core_wave(r->engine)->current_wave;
}

static bool running(const struct protocol_rank *r)
{
    return engine_core_wave(r->engine)->engines_running;
}

static void run_at(struct protocol_rank *r, enum rank_stage stage, time_ps at)
{
    r->stage = stage;
    r->wait = RANK_RUNNABLE;
    r->resume_at = at;
}

/* ---- to the coordinator ---- */

static bool check_notice(struct protocol *d, uint32_t rank, const struct engine_outputs *notice)
{
    struct protocol_rank *r = &d->ranks[rank];
    const struct wave_options *w = &d->engine_options.wave;
    PROTOCOL_REQUIRE(d, "I12", d->lockstep, "an independent rank %u sends a notice", rank);
    if (notice->wave_complete >= 0) {
        PROTOCOL_REQUIRE(d, "I3", rank == 0 && notice->wave_complete == r->complete_due,
                         "rank %u tells the end of wave %ld, due is %ld", rank,
                         (long)notice->wave_complete, (long)r->complete_due);
        r->complete_due = -1;
        PROTOCOL_EVENT(d, COMPLETE_NOTICE, rank, (uint32_t)notice->wave_complete);
        return true;
    }
    PROTOCOL_REQUIRE(d, "I3", notice->start_wave == wave_of(r),
                     "rank %u tells the start of wave %ld in wave %u", rank,
                     (long)notice->start_wave, wave_of(r));
    PROTOCOL_REQUIRE(d, "I5", r->may_announce || (rank == 0 && w->confirm_running),
                     "rank %u tells the start of wave %ld without a cause", rank,
                     (long)notice->start_wave);
    r->start_noticed = true;
    PROTOCOL_EVENT(d, START_NOTICE, rank, (uint32_t)notice->start_wave);
    return true;
}

static bool send_notices(struct protocol *d, uint32_t rank)
{
    struct engine_outputs notice;
    while (engine_core_take_notice(d->ranks[rank].engine, d->now, &notice)) {
        if (!check_notice(d, rank, &notice)) {
            return false;
        }
        struct protocol_message *message = protocol_message_new(d, MESSAGE_ENGINE);
        message->engine.engine = notice.engine_index;
        message->engine.has_stats = false;
        message->engine.wave_complete = notice.wave_complete;
        message->engine.start_wave = notice.start_wave;
        protocol_send(d, &d->engine_up[rank], message);
        struct protocol_rank *r = &d->ranks[rank];
        r->told[0] = r->told_count > 0 ? r->told[r->told_count - 1] : notice;
        r->told[1] = notice;
        r->told_count = r->told_count < 2 ? r->told_count + 1 : 2;
    }
    return true;
}

static void send_counts(struct protocol *d, uint32_t rank)
{
    struct scheduler_stats stats;
    if (!engine_core_counts_changed(d->ranks[rank].engine, &stats)) {
        return;
    }
    PROTOCOL_EVENT(d, COUNTS, rank, stats.running_count, stats.waiting_count, stats.step_counter);
    struct protocol_message *message = protocol_message_new(d, MESSAGE_ENGINE);
    message->engine.engine = rank;
    message->engine.has_stats = true;
    message->engine.stats = stats;
    message->engine.wave_complete = -1;
    message->engine.start_wave = -1;
    protocol_send(d, &d->engine_up[rank], message);
}

/* ---- input ---- */

static bool take_add(struct protocol *d, uint32_t rank, const struct protocol_message *message)
{
    struct protocol_rank *r = &d->ranks[rank];
    struct protocol_request *q = &d->requests[message->add.request];
    bool paused = engine_core_pause_state(r->engine) != UNPAUSED;
    bool stale = q->sent.current_wave < wave_of(r);
    PROTOCOL_EVENT(d, ADD, rank, message->add.request, q->sent.current_wave, wave_of(r));
    if (d->lockstep && stale) {
        d->report->stale_requests_count++;
    }
    if (!running(r) && !paused && (stale || d->engine_options.wave.announce_start)) {
        r->may_announce = true;
    }
    struct error error;
    enum status status = engine_core_add(r->engine, &q->sent, d->now, &error);
    PROTOCOL_REQUIRE(d, "I1", status == STATUS_OK, "rank %u refuses %s: %s", rank, q->id,
                     error.text);
    q->added = true;
    q->held = true;
    r->held_count++;
    return true;
}

static void end_held(struct protocol_rank *r, struct protocol_request *q)
{
    q->held = false;
    r->held_count--;
}

static void take_abort(struct protocol *d, uint32_t rank, uint32_t request)
{
    struct protocol_rank *r = &d->ranks[rank];
    if (request >= d->requests_count) {
        PROTOCOL_EVENT(d, ABORT, rank, request, 0);
        engine_core_abort(r->engine, "r-unknown");
        return;
    }
    struct protocol_request *q = &d->requests[request];
    bool held = q->held && q->engine == rank;
    PROTOCOL_EVENT(d, ABORT, rank, request, held);
    engine_core_abort(r->engine, q->id);
    if (held) {
        q->abort_seen = true;
        end_held(r, q);
    }
}

static void take_pause(struct protocol *d, uint32_t rank, const struct protocol_message *message)
{
    struct protocol_rank *r = &d->ranks[rank];
    PROTOCOL_EVENT(d, PAUSED, rank, message->admin.client, message->admin.mode);
    engine_core_pause(r->engine, message->admin.mode);
    for (uint32_t i = 0; i < d->requests_count && message->admin.mode == PAUSE_ABORT; i++) {
        struct protocol_request *q = &d->requests[i];
        if (q->held && q->engine == rank) {
            q->abort_seen = true;
            end_held(r, q);
        }
    }
    /* A pause of ranks that all are paused asks for no other round. */
    r->pending_pause = r->pending_pause || (d->lockstep && !r->paused_by_all);
    r->last_running = running(r);
    r->pause_asked[message->admin.client] = true;
}

static void reply(struct protocol *d, uint32_t rank, uint32_t client)
{
    struct protocol_message *message = protocol_message_new(d, MESSAGE_REPLY);
    message->admin.client = client;
    protocol_send(d, &d->to_client[client][rank], message);
}

static bool take_resume(struct protocol *d, uint32_t rank, uint32_t client)
{
    struct protocol_rank *r = &d->ranks[rank];
    bool unfinished = false;
    bool pending = !engine_core_pause_done(r->engine);
    enum resume_outcome outcome = engine_core_resume(r->engine, &unfinished);
    PROTOCOL_EVENT(d, RESUMING, rank, outcome, unfinished);
    enum resume_outcome want = !d->lockstep ? RESUME_DONE
                               : pending    ? RESUME_LATER
                                            : RESUME_ALLREDUCE;
    PROTOCOL_REQUIRE(d, "I5", outcome == want, "rank %u: outcome %d of a resume, want %d", rank,
                     (int)outcome, (int)want);
    if (outcome == RESUME_DONE) {
        reply(d, rank, client);
        return true;
    }
    r->resume_client = client;
    r->resume_waits = outcome == RESUME_LATER;
    if (r->resume_waits) {
        return true;
    }
    PROTOCOL_REQUIRE(d, "I4", unfinished == (r->held_count > 0),
                     "rank %u resumes with %u requests and says unfinished %d", rank, r->held_count,
                     unfinished);
    r->stage = RANK_RESUMED;
    return protocol_reduce_enter(d, rank, NULL, unfinished);
}

static bool resumed(struct protocol *d, uint32_t rank)
{
    struct protocol_rank *r = &d->ranks[rank];
    bool any = protocol_reduce_result(d, r->reduces_count - 1)->any_unfinished;
    engine_core_resumed(r->engine, any);
    PROTOCOL_REQUIRE(d, "I4", running(r) == any, "rank %u resumes, running %d, unfinished %d", rank,
                     running(r), any);
    r->last_running = any;
    r->paused_by_all = false;
    reply(d, rank, r->resume_client);
    r->stage = RANK_DRAIN;
    return true;
}

static bool take_input(struct protocol *d, uint32_t rank, const struct protocol_message *message)
{
    struct protocol_rank *r = &d->ranks[rank];
    bool before;
    switch (message->kind) {
    case MESSAGE_ADD:
        return take_add(d, rank, message);
    case MESSAGE_ABORT:
        take_abort(d, rank, message->add.request);
        return true;
    case MESSAGE_PAUSE:
        take_pause(d, rank, message);
        return true;
    case MESSAGE_RESUME:
        return take_resume(d, rank, message->admin.client);
    case MESSAGE_START_WAVE:
        before = running(r);
        engine_core_start_wave(r->engine, &message->start);
        r->may_announce |= d->engine_options.wave.announce_start && running(r) && !before;
        PROTOCOL_EVENT(d, START, rank, message->start.wave, (uint32_t)(message->start.exclude + 1),
                       running(r));
        return true;
    case MESSAGE_READY:
        return true; /* of a later subscriber */
    case MESSAGE_OUTPUTS:
    case MESSAGE_REPLY:
    case MESSAGE_STATE:
    case MESSAGE_SUBSCRIBE:
    case MESSAGE_FIRST_REQUEST:
    case MESSAGE_ENGINE:
    case MESSAGE_HANDSHAKE:
    case MESSAGE_INIT:
    case MESSAGE_GREETING:
    case MESSAGE_BOUND:
    case MESSAGE_SERVING:
    case MESSAGE_DEAD:
        break;
    }
    return protocol_fail(d, "driver", "message %d is not for an engine core", (int)message->kind);
}

/* The link whose first message came first. */
static struct protocol_link *first_input(struct protocol *d, uint32_t rank)
{
    struct protocol_link *first = &d->engine_down[rank];
    for (uint32_t c = 0; c < d->clients_count; c++) {
        struct protocol_link *link = &d->to_engine[c][rank];
        if (protocol_link_next(link) < protocol_link_next(first)) {
            first = link;
        }
    }
    return first;
}

static bool drain(struct protocol *d, uint32_t rank)
{
    struct protocol_rank *r = &d->ranks[rank];
    for (;;) {
        struct protocol_link *link = first_input(d, rank);
        if (protocol_link_next(link) > d->now) {
            break;
        }
        struct protocol_message *message = protocol_take(d, link);
        bool good = take_input(d, rank, message);
        protocol_message_free(d, message);
        if (!good || r->stage == RANK_RESUMED) {
            return good; /* in the barrier of a resume */
        }
    }
    r->stage = RANK_TURN;
    if (!send_notices(d, rank)) {
        return false;
    }
    send_counts(d, rank);
    return true;
}

/* ---- steps ---- */

static bool check_plan(struct protocol *d, uint32_t rank, const struct step_plan *plan)
{
    const struct engine_core_options *o = &d->engine_options;
    uint32_t tokens = 0;
    for (uint32_t i = 0; i < plan->seqs_count; i++) {
        tokens += plan->seqs[i].scheduled_tokens;
    }
    PROTOCOL_REQUIRE(d, "I8", tokens == plan->tokens_count && tokens <= o->max_num_batched_tokens,
                     "rank %u plans %u tokens of a budget of %u", rank, tokens,
                     o->max_num_batched_tokens);
    PROTOCOL_REQUIRE(d, "I8", plan->seqs_count <= o->max_num_seqs, "rank %u plans %u sequences",
                     rank, plan->seqs_count);
    return true;
}

static uint16_t request_of(const struct protocol *d, uint64_t sample_key)
{
    uint16_t i = 0;
    while (i < d->requests_count && d->requests[i].sample_key != sample_key) {
        i++;
    }
    return i;
}

static bool sample(struct protocol *d, uint32_t rank, const struct step_plan *plan,
                   struct rank_step *step)
{
    for (uint32_t i = 0; i < plan->seqs_count; i++) {
        const struct step_seq *seq = &plan->seqs[i];
        if ((seq->flags & STEP_SEQ_SAMPLES) == 0) {
            continue;
        }
        uint16_t request = request_of(d, seq->sample_key);
        if (request == d->requests_count) {
            return protocol_fail(d, "I6", "rank %u plans a sequence of nobody", rank);
        }
        step->requests[step->tokens_count] = request;
        step->tokens[step->tokens_count++] = protocol_token(seq->sample_key, seq->position);
    }
    return true;
}

static bool submit(struct protocol *d, uint32_t rank, const struct step_plan *plan)
{
    struct protocol_rank *r = &d->ranks[rank];
    PROTOCOL_REQUIRE(d, "I8", r->steps_count < d->engine_options.async_depth,
                     "rank %u has too many steps in flight", rank);
    if (!check_plan(d, rank, plan)) {
        return false;
    }
    struct rank_step *step = &r->steps[r->steps_count++];
    *step = (struct rank_step){.plan = plan};
    if (!sample(d, rank, plan, step)) {
        return false;
    }
    if (d->lockstep && plan->tokens_count > 0) {
        struct wave_forward own = engine_core_forward(r->engine, plan);
        PROTOCOL_REQUIRE(d, "I2", own.tokens_count == plan->tokens_count,
                         "rank %u brings %u tokens to a forward of %u", rank, own.tokens_count,
                         plan->tokens_count);
        if (!protocol_forward_enter(d, rank, step, own)) {
            return false;
        }
        r->loop_forwards++;
        r->wave_steps++;
        return true;
    }
    time_ps start = d->now > r->free_at ? d->now : r->free_at;
    time_ps duration = random_range(&d->events, d->step_time / 2, d->step_time);
    step->done_at = plan->tokens_count == 0 ? start : start + protocol_slowed(d, rank, duration);
    r->free_at = step->done_at;
    return true;
}

/* Waits for a step's end, then goes on at `stage`. */
static void await_step(struct protocol *d, struct protocol_rank *r, const struct rank_step *step,
                       enum rank_stage stage)
{
    time_ps done = step->collective ? protocol_forward_done(d, step->forward) : step->done_at;
    run_at(r, stage, done > d->now ? done : d->now);
    if (done == TIME_NEVER) {
        r->wait = RANK_IN_FORWARD;
    }
}

static bool turn(struct protocol *d, uint32_t rank)
{
    struct protocol_rank *r = &d->ranks[rank];
    const struct step_plan *plan = NULL;
    switch (engine_core_turn(r->engine, d->now, &plan)) {
    case ENGINE_TURN_SUBMIT:
        return submit(d, rank, plan);
    case ENGINE_TURN_AWAIT:
        PROTOCOL_REQUIRE(d, "core", r->steps_count > 0, "rank %u awaits nothing", rank);
        await_step(d, r, &r->steps[0], RANK_COMPLETE);
        return true;
    case ENGINE_TURN_DONE:
        r->stage = RANK_WAVE;
        send_counts(d, rank);
        return true;
    }
    return protocol_fail(d, "core", "unknown turn");
}

/* An output as its engine core gives it. */
static bool check_output(struct protocol *d, uint32_t rank, uint32_t client,
                         const struct engine_output *output)
{
    struct protocol_rank *r = &d->ranks[rank];
    struct protocol_request *q = protocol_find(d, output->id);
    PROTOCOL_REQUIRE(d, "I6", q != NULL && q->engine == rank && q->held,
                     "rank %u gives an output of %s, which it does not hold", rank, output->id);
    PROTOCOL_REQUIRE(d, "I6", q->client == client, "output of %s goes to client %u instead of %u",
                     q->id, client, q->client);
    PROTOCOL_REQUIRE(d, "I6",
                     output->new_tokens_count == 1 &&
                         output->new_token_ids[0] == protocol_token(q->sample_key, q->sent_count),
                     "%s: token %u is wrong", q->id, q->sent_count);
    q->sent_count++;
    bool last = q->sent_count == q->expected_count;
    PROTOCOL_REQUIRE(d, "I6", output->finish == (last ? q->expected_finish : FINISH_NONE),
                     "%s: finish %d at token %u of %u", q->id, (int)output->finish, q->sent_count,
                     q->expected_count);
    if (last) {
        q->finished_out = true;
        end_held(r, q);
    }
    return true;
}

static bool send_outputs(struct protocol *d, uint32_t rank,
                         const struct engine_client_message *item)
{
    PROTOCOL_REQUIRE(d, "I6", item->client_index < d->clients_count, "rank %u sends to client %u",
                     rank, item->client_index);
    const struct engine_outputs *outputs = &item->outputs;
    PROTOCOL_REQUIRE(d, "I6",
                     outputs->engine_index == rank && outputs->outputs_count <= PROTOCOL_SEQS_MAX &&
                         outputs->finished_ids_count <= PROTOCOL_REQUESTS_MAX,
                     "rank %u sends a message of engine %u with %u outputs, %u ids", rank,
                     outputs->engine_index, outputs->outputs_count, outputs->finished_ids_count);
    struct protocol_message *message = protocol_message_new(d, MESSAGE_OUTPUTS);
    struct protocol_outputs *copy = &message->outputs;
    copy->engine = rank;
    copy->outputs_count = outputs->outputs_count;
    copy->finished_count = outputs->finished_ids_count;
    copy->has_stats = outputs->stats != NULL;
    if (outputs->stats != NULL) {
        copy->stats = *outputs->stats;
    }
    for (uint32_t i = 0; i < outputs->outputs_count; i++) {
        const struct engine_output *output = &outputs->outputs[i];
        if (!check_output(d, rank, item->client_index, output)) {
            return false;
        }
        copy->outputs[i] = (struct protocol_output){
            .request = (uint32_t)(protocol_find(d, output->id) - d->requests),
            .token = output->new_token_ids[0],
            .finish = output->finish,
            .stop_token_id = output->stop_token_id,
            .first = output->first,
        };
    }
    for (uint32_t i = 0; i < outputs->finished_ids_count; i++) {
        struct protocol_request *q = protocol_find(d, outputs->finished_ids[i]);
        PROTOCOL_REQUIRE(d, "I7",
                         q != NULL && q->engine == rank && q->added && !q->held && !q->id_sent &&
                             q->client == item->client_index,
                         "rank %u reports to client %u the end of %s", rank, item->client_index,
                         outputs->finished_ids[i]);
        q->id_sent = true;
        copy->finished[i] = (uint16_t)(q - d->requests);
    }
    protocol_send(d, &d->to_client[item->client_index][rank], message);
    return true;
}

/* Aborts take effect before a step's results are used: they go two ways. */
static void abort_eagerly(struct protocol *d, uint32_t rank)
{
    for (uint32_t c = 0; c < d->clients_count; c++) {
        const struct protocol_message *message = d->to_engine[c][rank].head;
        for (; message != NULL && message->at <= d->now; message = message->next) {
            if (message->kind == MESSAGE_ABORT) {
                take_abort(d, rank, message->add.request);
            }
        }
    }
}

/* How many tokens must have left of each request that a step gave one, when it is complete. */
static void expect_left(const struct protocol *d, uint32_t rank, const struct rank_step *step,
                        uint32_t left[PROTOCOL_SEQS_MAX])
{
    for (uint32_t i = 0; i < step->tokens_count; i++) {
        const struct protocol_request *q = &d->requests[step->requests[i]];
        left[i] = q->sent_count + (q->held && q->engine == rank);
    }
}

/* Whoever reads or does not read: each token leaves with the step that made it, at once. */
static bool check_left(struct protocol *d, uint32_t rank, const struct rank_step *step,
                       const uint32_t left[PROTOCOL_SEQS_MAX])
{
    for (uint32_t i = 0; i < step->tokens_count; i++) {
        const struct protocol_request *q = &d->requests[step->requests[i]];
        PROTOCOL_REQUIRE(d, "I14", q->sent_count == left[i], "rank %u keeps back a token of %s",
                         rank, q->id);
    }
    time_ps since = step->done_at > d->frozen_until[rank] ? step->done_at : d->frozen_until[rank];
    PROTOCOL_REQUIRE(d, "I14", d->lockstep || d->now - since < PS_PER_MS,
                     "rank %u keeps the tokens of a step for %.3f ms", rank,
                     (double)(d->now - since) / (double)PS_PER_MS);
    return true;
}

static bool complete(struct protocol *d, uint32_t rank)
{
    struct protocol_rank *r = &d->ranks[rank];
    const struct rank_step step = r->steps[0];
    struct step_result result = {
        .step = step.plan->step, .tokens = step.tokens, .tokens_count = step.tokens_count};
    uint32_t left[PROTOCOL_SEQS_MAX] = {0};
    if (d->eager_aborts) {
        abort_eagerly(d, rank);
    }
    expect_left(d, rank, &step, left);
    engine_core_complete(r->engine, d->now, &result, &r->messages);
    r->steps_count--;
    r->steps[0] = r->steps[1];
    PROTOCOL_EVENT(d, COMPLETE, rank, (uint32_t)result.step, r->messages.count);
    for (uint32_t i = 0; i < r->messages.count; i++) {
        const struct scheduler_stats *stats = r->messages.items[i].outputs.stats;
        if (stats != NULL) {
            r->usage_left = stats->running_count + stats->waiting_count == 0 &&
                            r->steps_count == 0 && stats->kv_cache_usage > 0.0;
        }
        if (!send_outputs(d, rank, &r->messages.items[i])) {
            return false;
        }
    }
    r->stage = RANK_WAVE;
    send_counts(d, rank);
    return check_left(d, rank, &step, left);
}

/* ---- the end of a loop ---- */

static bool check_due(const struct protocol *d, uint32_t step)
{
    const struct wave_options *w = &d->engine_options.wave;
    return step % w->check_interval_steps == 0 || (step == 1 && w->check_first_step);
}

static bool dummy(struct protocol *d, uint32_t rank)
{
    struct protocol_rank *r = &d->ranks[rank];
    struct wave_forward own = engine_core_forward(r->engine, NULL);
    PROTOCOL_REQUIRE(d, "I2", own.tokens_count == 1 && r->loop_forwards == 0,
                     "rank %u: a dummy of %u tokens after %u forwards in its loop", rank,
                     own.tokens_count, r->loop_forwards);
    r->dummy = (struct rank_step){0};
    /* The stage first: this rank may be the last, and is woken with the others. */
    run_at(r, RANK_WAVE, d->now);
    r->wait = RANK_IN_FORWARD;
    r->dummy.collective = true;
    r->dummy.forward = r->forwards_count;
    d->report->dummies_count++;
    if (!protocol_forward_enter(d, rank, &r->dummy, own)) {
        return false;
    }
    r->loop_forwards++;
    r->wave_steps++;
    return true;
}

static bool check_ballot(struct protocol *d, uint32_t rank, const struct wave_ballot *ballot)
{
    const struct protocol_rank *r = &d->ranks[rank];
    PROTOCOL_REQUIRE(d, "I2", check_due(d, r->wave_steps) && r->loop_forwards == 1,
                     "rank %u checks at step %u after %u forwards in its loop", rank, r->wave_steps,
                     r->loop_forwards);
    bool paused = engine_core_pause_state(r->engine) != UNPAUSED;
    bool held = r->held_count > 0;
    PROTOCOL_REQUIRE(
        d, "I4", paused ? ballot->unfinished <= held : ballot->unfinished == (uint32_t)held,
        "rank %u votes unfinished %u and holds %u", rank, ballot->unfinished, r->held_count);
    PROTOCOL_REQUIRE(d, "I4", ballot->pending_pause == (uint32_t)r->pending_pause,
                     "rank %u votes pause %u, pending is %d", rank, ballot->pending_pause,
                     r->pending_pause);
    PROTOCOL_EVENT(d, CHECK, rank, r->wave_steps, ballot->unfinished, ballot->pending_pause);
    return true;
}

/* The next request comes when a wave ends: that is where races are. */
static void chase(struct protocol *d)
{
    if (!d->chase || d->next_item == d->items_count || d->items[d->next_item].kind != ITEM_SUBMIT ||
        !protocol_chance(&d->events, 60)) {
        return;
    }
    time_ps target = d->now + random_range(&d->events, 0, 30 * PS_PER_MS);
    time_ps shift = d->items[d->next_item].at - target;
    for (uint32_t i = d->next_item; i < d->items_count && shift > 0; i++) {
        d->items[i].at -= shift;
    }
}

static bool checked(struct protocol *d, uint32_t rank)
{
    struct protocol_rank *r = &d->ranks[rank];
    const struct wave_ballot sum = protocol_reduce_result(d, r->reduces_count - 1)->sum;
    uint32_t wave = wave_of(r);
    bool goes_on = sum.unfinished > 0 || sum.pending_pause % d->ranks_count != 0;
    engine_core_wave_checked(r->engine, &sum);
    if (sum.pending_pause == d->ranks_count) {
        r->pending_pause = false;
        r->paused_by_all = true;
    }
    PROTOCOL_EVENT(d, CHECKED, rank, wave_of(r), running(r), sum.unfinished);
    PROTOCOL_REQUIRE(d, "I4", running(r) == goes_on, "rank %u: running %d after a check of %u, %u",
                     rank, running(r), sum.unfinished, sum.pending_pause);
    PROTOCOL_REQUIRE(d, "I3", wave_of(r) == wave + !goes_on,
                     "rank %u is at wave %u after wave %u, running %d", rank, wave_of(r), wave,
                     goes_on);
    if (!goes_on) {
        r->wave_steps = 0;
        r->complete_due = rank == 0 ? (int64_t)wave : -1;
        d->report->waves_count += rank == 0;
        chase(d);
    }
    r->last_running = goes_on;
    r->stage = RANK_WAVE;
    r->loop_checks++;
    return true;
}

static bool check_loop(struct protocol *d, uint32_t rank)
{
    struct protocol_rank *r = &d->ranks[rank];
    bool idle = r->loop_forwards == 0;
    bool paused = engine_core_pause_state(r->engine) != UNPAUSED;
    PROTOCOL_REQUIRE(d, "I2", r->loop_forwards <= 1, "rank %u: %u forwards in a loop", rank,
                     r->loop_forwards);
    PROTOCOL_REQUIRE(d, "I2", !idle || (!running(r) && (r->held_count == 0 || paused)),
                     "rank %u has work, running %d, and takes no part in a forward", rank,
                     running(r));
    PROTOCOL_REQUIRE(
        d, "I2", idle || r->loop_checks == (r->wave_steps == 0 || check_due(d, r->wave_steps)),
        "rank %u: %u checks in the loop of step %u", rank, r->loop_checks, r->wave_steps);
    PROTOCOL_REQUIRE(d, "I3", r->complete_due < 0, "rank %u does not tell the end of wave %ld",
                     rank, (long)r->complete_due);
    bool must_confirm = rank == 0 && d->engine_options.wave.confirm_running && !idle &&
                        running(r) && !r->loop_began_running && !r->pending_pause;
    PROTOCOL_REQUIRE(d, "I5", !must_confirm || r->start_noticed,
                     "rank %u runs in wave %u and does not tell", rank, wave_of(r));
    return true;
}

static bool end_loop(struct protocol *d, uint32_t rank)
{
    struct protocol_rank *r = &d->ranks[rank];
    if (!send_notices(d, rank) || (d->lockstep && !check_loop(d, rank))) {
        return false;
    }
    bool progress = r->loop_forwards > 0 || !d->lockstep;
    r->loop_forwards = 0;
    r->loop_checks = 0;
    r->start_noticed = false;
    r->may_announce = false;
    r->loop_began_running = running(r);
    /* An independent rank resumes at once: a pause is then answered too, with a failure. */
    bool done = engine_core_pause_done(r->engine) || engine_core_pause_state(r->engine) == UNPAUSED;
    for (uint32_t c = 0; c < d->clients_count && done; c++) {
        if (r->pause_asked[c]) {
            r->pause_asked[c] = false;
            reply(d, rank, c);
        }
    }
    if (done && r->resume_waits) {
        return take_resume(d, rank, r->resume_client);
    }
    time_ps pace = progress ? 50 * PS_PER_US : PS_PER_MS;
    time_ps turn_time = random_range(&d->events, PS_PER_US, pace);
    run_at(r, RANK_DRAIN, d->now + protocol_slowed(d, rank, turn_time));
    if (!engine_core_has_work(r->engine)) {
        r->wait = RANK_IDLE;
        PROTOCOL_EVENT(d, IDLE, rank, wave_of(r));
    }
    return true;
}

static bool wave(struct protocol *d, uint32_t rank)
{
    struct protocol_rank *r = &d->ranks[rank];
    struct wave_ballot ballot = {0};
    enum wave_need need = engine_core_wave_next(r->engine, &ballot);
    PROTOCOL_REQUIRE(d, "I12", d->lockstep || need == WAVE_NEED_NOTHING,
                     "an independent rank %u wants a collective", rank);
    switch (need) {
    case WAVE_NEED_NOTHING:
        return end_loop(d, rank);
    case WAVE_NEED_DUMMY:
        return dummy(d, rank);
    case WAVE_NEED_ALLREDUCE:
        r->stage = RANK_CHECKED;
        return check_ballot(d, rank, &ballot) && protocol_reduce_enter(d, rank, &ballot, false);
    }
    return protocol_fail(d, "core", "unknown need");
}

/* ---- the actor ---- */

time_ps protocol_rank_next(const struct protocol *d, uint32_t rank)
{
    const struct protocol_rank *r = &d->ranks[rank];
    if (d->dead[rank]) {
        return TIME_NEVER;
    }
    switch (r->wait) {
    case RANK_RUNNABLE:
        return r->resume_at;
    case RANK_IN_FORWARD:
    case RANK_IN_ALLREDUCE:
        return TIME_NEVER;
    case RANK_IDLE:
        break;
    }
    bool starts = r->stage <= RANK_BOOT;
    time_ps first = protocol_link_next(r->stage == RANK_HELLO ? &d->handshake_down[rank]
                                                              : &d->engine_down[rank]);
    for (uint32_t c = 0; c < d->clients_count && !starts; c++) {
        time_ps at = protocol_link_next(&d->to_engine[c][rank]);
        first = at < first ? at : first;
    }
    return first > d->now ? first : d->now;
}

static bool run_stage(struct protocol *d, uint32_t rank)
{
    switch (d->ranks[rank].stage) {
    case RANK_START:
    case RANK_HELLO:
    case RANK_LOADED:
    case RANK_BOOT:
        return protocol_rank_start(d, rank);
    case RANK_DRAIN:
        return drain(d, rank);
    case RANK_RESUMED:
        return resumed(d, rank);
    case RANK_TURN:
        return turn(d, rank);
    case RANK_COMPLETE:
        return complete(d, rank);
    case RANK_WAVE:
        return wave(d, rank);
    case RANK_CHECKED:
        return checked(d, rank);
    }
    return protocol_fail(d, "driver", "unknown stage");
}

bool protocol_rank_run(struct protocol *d, uint32_t rank)
{
    struct protocol_rank *r = &d->ranks[rank];
    if (r->wait == RANK_IDLE) {
        r->wait = RANK_RUNNABLE;
        r->resume_at = d->now;
    }
    while (r->wait == RANK_RUNNABLE && r->resume_at <= d->now) {
        if (!run_stage(d, rank) || !protocol_check_rank(d, rank)) {
            return false;
        }
    }
    return protocol_check_engine(d, rank);
}

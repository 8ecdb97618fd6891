/*
 * engine_thread.c - owns an engine core's main thread: the loop of engine/node/engine_process.c and
 * of its executor. Driven by the scene. Decides nothing: engine/core/engine_core does.
 *
 * Every turn handles all queued input, publishes counts if they changed, makes one engine turn
 * (submits ahead, or waits for the oldest step), and publishes again. In lock-step it then does
 * what the wave needs.
 */
#include <stdlib.h>
#include <string.h>

#include "sim/simulation_options.h"
#include "sim/simulation_state.h"

enum engine_phase {
    ENGINE_INPUT,
    ENGINE_TURN,
    ENGINE_SETTLED, /* a plan's, or a dummy's, time is over: meet the others, or submit */
    ENGINE_AGREED,
    ENGINE_LAUNCH, /* it launches itself */
    ENGINE_RESULT, /* waits for the oldest result */
    ENGINE_DUMMY,  /* waits for all results, a dummy's the last */
    ENGINE_BALLOT,
};

#define IDLE_WITH_REQUESTS (1 * PS_PER_MS)
#define REST               (50 * PS_PER_US) /* engine/node/engine_lockstep.c */

/* ---- messages ---- */

static void book_stats(struct engine_thread *e, const struct scheduler_stats *stats)
{
    struct simulation_thread *books = e->station.books;
    uint32_t blocks = simulation_kv_blocks(simulation_of(&e->station)) - 1;
    books->running_now = stats->running_count;
    books->waiting_now = stats->waiting_count + stats->skipped_waiting_count;
    books->preemptions_count = stats->preemptions_count;
    books->kv_used_blocks = (uint64_t)(stats->kv_cache_usage * (double)blocks + 0.5);
}

static void publish_counts(struct simulation *s, struct engine_thread *e)
{
    struct scheduler_stats stats;
    if (!engine_core_counts_changed(e->core, &stats)) {
        return;
    }
    book_stats(e, &stats);
    if (s->coordinator == NULL || s->options.publish_off) {
        return;
    }
    struct engine_outputs outputs = {
        .engine_index = e->index,
        .stats = &stats,
        .timestamp = e->station.cursor,
        .wave_complete = -1,
        .start_wave = -1,
    };
    engine_send(e, COORDINATOR_CLIENT, &outputs);
}

static void send_notices(struct engine_thread *e)
{
    struct engine_outputs notice;
    while (engine_core_take_notice(e->core, e->station.cursor, &notice)) {
        engine_send(e, COORDINATOR_CLIENT, &notice);
    }
}

void engine_refuse(struct engine_thread *e, const struct ticket *t)
{
    const char *id = t->id;
    struct engine_output output = {
        .id = id, .finish = FINISH_ERROR, .stop_token_id = TOKEN_NONE, .tag = t->add.tag};
    struct engine_outputs outputs = {
        .engine_index = e->index,
        .outputs = &output,
        .outputs_count = 1,
        .timestamp = e->station.cursor,
        .finished_ids = &id,
        .finished_ids_count = 1,
        .wave_complete = -1,
        .start_wave = -1,
    };
    e->station.books->failed_count++;
    engine_send(e, (int32_t)t->add.client_index, &outputs);
}

/* ---- input ---- */

static void add(struct simulation *s, struct engine_thread *e, struct ticket *t)
{
    struct station *me = &e->station;
    struct error refused;
    uint32_t tokens = t->request.prompt_tokens;
    t->withheld_steps = e->withheld_steps;
    if (s->source.prompt != NULL && tokens < s->options.engine.max_model_len) {
        s->source.prompt(s->source.ctx, &t->request, s->prompt);
        t->add.prompt_token_ids = s->prompt;
    }
    enum status status = engine_core_add(e->core, &t->add, me->cursor, &refused);
    station_work(me, station_cost(&s->options.costs.engine_add, 1, tokens));
    if (status != STATUS_OK) {
        engine_refuse(e, t);
        return;
    }
    me->books->requests_count++;
    me->books->prompt_tokens += tokens;
}

static void handle(struct simulation *s, struct engine_thread *e, const struct letter *letter)
{
    struct start_wave start = {.wave = (uint32_t)(letter->as.number >> 32),
                               .exclude = (int32_t)(uint32_t)letter->as.number - 1};
    e->station.books->messages_in_count++;
    if (letter->kind == LETTER_ADD) {
        e->station.books->queue_length += e->station.now - letter->at;
        add(s, e, ticket_at(s, (uint32_t)letter->as.number));
    } else {
        engine_core_start_wave(e->core, &start);
    }
}

/* ---- quiet steps ---- */

static bool in_quiet(const struct engine_thread *e)
{
    return e->quiet.steps_count > 0;
}

static void enter_quiet(struct engine_thread *e)
{
    engine_core_quiet(e->core, &e->quiet);
    e->quiet_planned = 0;
    e->quiet_completed = 0;
    e->quiet_computed_tokens = e->quiet.computed_tokens;
}

static void leave_quiet(struct engine_thread *e)
{
    ASSERT(e->quiet_planned == e->quiet_completed);
    engine_core_advance(e->core, e->quiet_completed);
    e->quiet.steps_count = 0;
}

static const struct step_plan *plan_quietly(const struct simulation *s, struct engine_thread *e)
{
    e->quiet_plan = (struct step_plan){
        .step = e->submitted + 1,
        .seqs_count = e->quiet.seqs_count,
        .tokens_count = e->quiet.seqs_count,
        .block_ids_count = e->quiet.blocks[e->quiet_planned % s->options.engine.block_tokens],
    };
    e->quiet_computed_tokens =
        e->quiet.computed_tokens + e->quiet_planned * (uint64_t)e->quiet.seqs_count;
    e->quiet_planned++;
    e->quiet_blocks += e->quiet_plan.block_ids_count;
    return &e->quiet_plan;
}

/* As complete_step(), but that nobody hears of it yet. */
static void complete_quietly(struct simulation *s, struct engine_thread *e)
{
    struct simulation_thread *books = e->station.books;
    e->quiet_completed++;
    e->withheld_steps++;
    books->kv_used_blocks += e->quiet_blocks;
    e->quiet_blocks = 0;
    books->output_tokens += e->quiet.seqs_count;
    books->messages_out_count += e->quiet.clients_count;
    e->output.books->output_tokens += e->quiet.seqs_count;
    e->output.books->messages_out_count += e->quiet.clients_count;
    s->progress_at = e->station.cursor;
}

/* False: the segment is over. */
static bool take_input(struct simulation *s, struct engine_thread *e)
{
    struct station *me = &e->station;
    const struct letter *letter = station_letter(me, REQUESTS_INBOX, me->now);
    if (letter == NULL && !engine_core_has_work(e->core)) {
        station_wait(me, 1U << REQUESTS_INBOX, &me->books->idle);
        return false;
    }
    if (in_quiet(e) && (letter != NULL || e->quiet_completed == e->quiet.steps_count)) {
        leave_quiet(e);
    }
    bool took = letter != NULL;
    while (letter != NULL) {
        struct letter taken = *letter;
        station_drop(me, REQUESTS_INBOX);
        handle(s, e, &taken);
        letter = station_letter(me, REQUESTS_INBOX, me->now);
    }
    if (took) {
        engine_count_waiting(e, engine_core_waiting(e->core), me->now);
    }
    send_notices(e);
    publish_counts(s, e);
    if (s->level >= SIMULATION_L1 && !in_quiet(e)) {
        enter_quiet(e);
    }
    e->worked = false;
    me->phase = ENGINE_TURN;
    return true;
}

/* ---- steps ---- */

/* A dummy takes none of the host's booked time: nothing is scheduled for it. */
static bool settle(struct engine_thread *e)
{
    e->station.phase = ENGINE_SETTLED;
    if (!station_owes(&e->station)) {
        return true;
    }
    station_sleep(&e->station, e->station.busy_until);
    return false;
}

/* Meets the other ranks; the last one to arrive releases all. */
static void meet(struct simulation *s, struct engine_thread *e, struct barrier *b,
                 enum engine_phase then)
{
    struct station *me = &e->station;
    b->arrived_count++;
    b->latest = me->cursor > b->latest ? me->cursor : b->latest;
    me->phase = then;
    station_wait(me, 0, &me->books->sync_wait);
    station_wait_spins(me);
    me->rest_min = REST;
    if (b->arrived_count < s->options.engines_count) {
        return;
    }
    b->agreed = b->forward;
    b->agreed_all_tokens =
        b->agreed.graph ? (uint64_t)b->agreed.tokens_count * s->options.engines_count : b->tokens;
    b->checked = b->sum;
    for (uint32_t i = 0; i < s->options.engines_count; i++) {
        station_release(&s->engines[i].station, b->latest + s->options.costs.collective);
    }
    b->arrived_count = 0;
    b->latest = 0;
    b->tokens = 0;
    b->sum = (struct wave_ballot){0};
}

static void meet_for_forward(struct simulation *s, struct engine_thread *e)
{
    struct barrier *b = &s->step_barrier;
    if (!e->in_wave) {
        e->in_wave = true;
        tell_event(&e->station, SIMULATION_EVENT_WAVE_BEGAN,
                   engine_core_wave(e->core)->current_wave, 0);
    }
    struct wave_forward own = engine_core_forward(e->core, e->plan);
    b->forward = b->arrived_count == 0 ? own : wave_forward_merge(b->forward, own);
    b->tokens += own.tokens_count;
    meet(s, e, b, ENGINE_AGREED);
}

/* The newest flight that samples a token which the plan computes; 0: none does. */
static uint64_t sampled_before(struct engine_thread *e)
{
    uint64_t newest = 0;
    for (uint32_t i = 0; e->plan != NULL && i < e->plan->seqs_count; i++) {
        const struct step_seq *seq = &e->plan->seqs[i];
        uint64_t *sampled_by = &e->sampled_by[seq->slot];
        if ((seq->flags & STEP_SEQ_NEW) != 0) {
            *sampled_by = 0; /* all its tokens came with it */
        }
        newest = *sampled_by > newest ? *sampled_by : newest;
        if ((seq->flags & STEP_SEQ_SAMPLES) != 0) {
            *sampled_by = e->submitted;
        }
    }
    return newest;
}

/* To the workers; or what comes of it is known at once. */
static void send_plan(struct simulation *s, struct engine_thread *e, struct flight *f)
{
    struct station *me = &e->station;
    struct letter letter = {.at = me->cursor + s->options.costs.ring, .as.number = e->submitted};
    if (e->workers_flow) {
        worker_flow_step(e, f);
        letter.at = f->result_at;
        letter_send(&e->workers[0].station, me, RESULTS_INBOX, letter);
        return;
    }
    for (uint32_t i = 0; i < workers_per_engine(s); i++) {
        letter_send(me, &e->workers[i].station, ONLY_INBOX, letter);
    }
}

static void submit(struct simulation *s, struct engine_thread *e, const struct wave_forward *agreed)
{
    struct station *me = &e->station;
    struct flight *f = flight_of(e, ++e->submitted);
    ASSERT(e->submitted - e->taken <= FLIGHTS_MAX);
    *f = (struct flight){.step = e->plan != NULL ? e->plan->step : 0, .submitted = me->cursor};
    launch_plan(e, f, agreed, agreed != NULL ? s->step_barrier.agreed_all_tokens : 0);
    if (s->options.pp > 1) {
        memset(stage_of(s, e, e->submitted, 0), 0, s->options.pp * sizeof *e->stages);
        f->needs = sampled_before(e);
    }
    if (e->plan != NULL) {
        me->books->step_seqs += e->plan->seqs_count;
        me->books->step_tokens += e->plan->tokens_count;
    }
    if (s->options.uniproc) {
        launch_begin(&e->workers[0], me, e->submitted);
        me->phase = ENGINE_LAUNCH;
        return;
    }
    send_plan(s, e, f);
    me->phase = e->plan != NULL ? ENGINE_TURN : ENGINE_DUMMY;
}

/* False: the segment is over. */
static bool settled(struct simulation *s, struct engine_thread *e)
{
    bool forward = e->plan == NULL || e->plan->tokens_count > 0;
    if (s->options.lockstep && forward) {
        meet_for_forward(s, e);
        return false;
    }
    submit(s, e, NULL);
    return true;
}

static void agreed(struct simulation *s, struct engine_thread *e)
{
    struct barrier *b = &s->step_barrier;
    struct wave_forward own = engine_core_forward(e->core, e->plan);
    struct wave_forward all = b->agreed;
    all.tokens_count = wave_forward_tokens(own, all);
    e->station.books->collective_wait += e->station.waited;
    submit(s, e, &all);
}

/* ---- results ---- */

static void skip_dummies(struct engine_thread *e)
{
    while (e->taken < e->received && flight_of(e, e->taken + 1)->step == 0) {
        e->taken++;
    }
}

/* Takes in the next result. False: it is not there, and the segment ends with waiting for it. */
static bool receive(struct simulation *s, struct engine_thread *e)
{
    struct station *me = &e->station;
    if (s->options.uniproc) {
        if (!launch_done(&e->workers[0], me, e->received + 1, true)) {
            return false;
        }
        me->books->launches_count[SIMULATION_LAUNCH_SYNC]++;
        station_work(me, station_cost(&s->options.costs.worker_result, 1,
                                      flight_of(e, e->received + 1)->sampled_count));
    } else {
        if (station_letter(me, RESULTS_INBOX, me->cursor) == NULL) {
            station_wait(me, 1U << RESULTS_INBOX, &me->books->sync_wait);
            station_wait_spins(me);
            return false;
        }
        station_drop(me, RESULTS_INBOX);
    }
    e->received++;
    return true;
}

static void stamp_outputs(struct simulation *s, struct engine_thread *e,
                          const struct engine_outputs *outputs, time_ps now)
{
    for (uint32_t i = 0; i < outputs->outputs_count; i++) {
        const struct engine_output *o = &outputs->outputs[i];
        if (!o->first && o->finish == FINISH_NONE) {
            continue;
        }
        struct ticket *t = ticket_at(s, frontend_tag_serial(o->tag));
        if (o->first) {
            tell_wait(&e->station, t->hops[SIMULATION_HOP_ENGINE_RECEIVED], o->scheduled_at);
            t->hops[SIMULATION_HOP_ENGINE_SCHEDULED] = o->scheduled_at;
            t->hops[SIMULATION_HOP_ENGINE_FIRST_TOKEN] = now;
        }
        if (o->finish != FINISH_NONE) {
            t->hops[SIMULATION_HOP_ENGINE_LAST_TOKEN] = now;
        }
    }
    e->station.books->output_tokens += outputs->outputs_count;
    e->station.books->finished_count += outputs->finished_ids_count;
}

static void complete_step(struct simulation *s, struct engine_thread *e, const struct flight *f)
{
    struct station *me = &e->station;
    time_ps now = me->cursor;
    struct step_result result = {
        .step = f->step, .tokens = s->zero_tokens, .tokens_count = f->sampled_count};
    struct engine_core_messages messages;
    engine_core_complete(e->core, now, &result, &messages);
    station_work(me,
                 station_cost(&s->options.costs.engine_commit, f->sampled_count, f->sampled_count));
    for (uint32_t i = 0; i < messages.count; i++) {
        const struct engine_outputs *outputs = &messages.items[i].outputs;
        stamp_outputs(s, e, outputs, now);
        if (outputs->stats != NULL) {
            book_stats(e, outputs->stats);
        }
        engine_send(e, (int32_t)messages.items[i].client_index, outputs);
    }
}

static void complete(struct simulation *s, struct engine_thread *e)
{
    struct station *me = &e->station;
    const struct flight *f = flight_of(e, ++e->taken);
    skip_dummies(e);
    me->books->steps_count++;
    me->books->backlog_steps_count += me->books->waiting_now > 0 ? 1 : 0;
    me->books->step += me->cursor - f->submitted;
    tell_spans(s, me->books, SIMULATION_SPAN_STEP, me->cursor - f->submitted, 1);
    if (!in_quiet(e)) {
        complete_step(s, e, f);
        return;
    }
    complete_quietly(s, e);
    station_work(me,
                 station_cost(&s->options.costs.engine_commit, f->sampled_count, f->sampled_count));
}

/* ---- the wave, and the end of a turn ---- */

static void end_wave(struct engine_thread *e)
{
    uint32_t wave = engine_core_wave(e->core)->current_wave;
    e->station.books->waves_count += wave - e->wave_before;
    if (wave != e->wave_before) {
        e->in_wave = false;
        tell_event(&e->station, SIMULATION_EVENT_WAVE_ENDED, (int64_t)wave - 1, 0);
    }
}

/* False: the segment is over. */
static bool follow_wave(struct simulation *s, struct engine_thread *e)
{
    struct station *me = &e->station;
    switch (engine_core_wave_next(e->core, &e->ballot)) {
    case WAVE_NEED_NOTHING:
        end_wave(e);
        send_notices(e);
        me->phase = ENGINE_INPUT;
        if (me->cursor > me->now) {
            station_again(me);
            return false;
        }
        return true;
    case WAVE_NEED_DUMMY:
        e->plan = NULL;
        return settle(e);
    case WAVE_NEED_ALLREDUCE:
        s->finish_barrier.sum.unfinished += e->ballot.unfinished;
        s->finish_barrier.sum.pending_pause += e->ballot.pending_pause;
        meet(s, e, &s->finish_barrier, ENGINE_BALLOT);
        return false;
    }
    return false;
}

static bool end_turn(struct simulation *s, struct engine_thread *e)
{
    publish_counts(s, e);
    e->wave_before = engine_core_wave(e->core)->current_wave;
    return follow_wave(s, e);
}

static bool checked(struct simulation *s, struct engine_thread *e)
{
    e->station.books->collective_wait += e->station.waited;
    engine_core_wave_checked(e->core, &s->finish_barrier.checked);
    return follow_wave(s, e);
}

/* False: the segment is over. */
static bool await_result(struct simulation *s, struct engine_thread *e)
{
    if (e->received <= e->taken && !receive(s, e)) {
        return false;
    }
    complete(s, e);
    return end_turn(s, e);
}

/* False: the segment is over. */
static bool await_dummy(struct simulation *s, struct engine_thread *e)
{
    while (e->received < e->submitted) {
        if (!receive(s, e)) {
            return false;
        }
    }
    e->station.books->dummy_steps_count++;
    skip_dummies(e);
    return follow_wave(s, e);
}

/* A quiet turn submits a step and awaits the oldest. */
static enum engine_turn next_turn(const struct simulation *s, struct engine_thread *e,
                                  const struct step_plan **plan)
{
    if (!in_quiet(e)) {
        return engine_core_turn(e->core, e->station.cursor, plan);
    }
    if (e->quiet_planned > e->quiet_completed) {
        return ENGINE_TURN_AWAIT;
    }
    *plan = plan_quietly(s, e);
    return ENGINE_TURN_SUBMIT;
}

/* False: the segment is over. */
static bool turn(struct simulation *s, struct engine_thread *e)
{
    struct station *me = &e->station;
    const struct step_plan *plan;
    switch (next_turn(s, e, &plan)) {
    case ENGINE_TURN_SUBMIT:
        e->plan = plan;
        e->worked = true;
        engine_count_waiting(e, engine_core_waiting(e->core), me->cursor);
        station_work(
            me, station_cost(&s->options.costs.engine_step, plan->seqs_count, plan->tokens_count));
        station_charge(me, s->options.host.engine_step +
                               s->options.host.engine_seq * (time_ps)plan->seqs_count);
        return settle(e);
    case ENGINE_TURN_AWAIT:
        me->phase = ENGINE_RESULT;
        return true;
    case ENGINE_TURN_DONE:
        if (!e->worked && !s->options.lockstep && engine_core_has_work(e->core)) {
            station_sleep(me, me->cursor + IDLE_WITH_REQUESTS);
            me->private_next = false;
            me->phase = ENGINE_INPUT;
            return false;
        }
        return end_turn(s, e);
    }
    return false;
}

static bool launch(struct engine_thread *e)
{
    struct station *me = &e->station;
    if (!launch_more(&e->workers[0], me)) {
        return false;
    }
    me->phase = e->plan != NULL ? ENGINE_TURN : ENGINE_DUMMY;
    return true;
}

void engine_run(struct station *station)
{
    struct simulation *s = simulation_of(station);
    struct engine_thread *e = station->owner;
    bool more = true;
    while (more) {
        switch ((enum engine_phase)station->phase) {
        case ENGINE_INPUT:
            more = take_input(s, e);
            break;
        case ENGINE_TURN:
            more = turn(s, e);
            break;
        case ENGINE_SETTLED:
            more = settled(s, e);
            break;
        case ENGINE_AGREED:
            agreed(s, e);
            break;
        case ENGINE_LAUNCH:
            more = launch(e);
            break;
        case ENGINE_RESULT:
            more = await_result(s, e);
            break;
        case ENGINE_DUMMY:
            more = await_dummy(s, e);
            break;
        case ENGINE_BALLOT:
            more = checked(s, e);
            break;
        }
    }
}

enum status engine_open(struct simulation *s, struct engine_thread *e, struct error *error)
{
    const struct simulation_options *o = &s->options;
    if (s->level > SIMULATION_L0 && simulation_options_countable(o)) {
        return engine_flow_open(s, e, error);
    }
    e->workers_flow = worker_flow_fits(s);
    struct engine_core_options options = o->engine;
    options.engine_index = e->index;
    options.clients_count = o->api_servers_count;
    options.pipeline_stages = o->pp;
    options.wave = (struct wave_options){0};
    if (o->lockstep) {
        options.wave = (struct wave_options){
            .ranks_count = o->engines_count,
            .check_interval_steps = o->finish_check_steps,
            .check_first_step = o->finish_check_first,
            .confirm_running = true,
            .announce_start = true,
            .graph_tokens_max = o->graphs ? SIMULATION_GRAPH_SEQS_MAX : 0,
            .dummy_graph = !o->dummy_eager,
        };
    }
    if (o->pp > 1) {
        e->stages = calloc((size_t)FLIGHTS_MAX * o->pp, sizeof *e->stages);
        e->sampled_by = calloc(options.requests_max, sizeof *e->sampled_by);
        if (e->stages == NULL || e->sampled_by == NULL) {
            return error_set(error, STATUS_NOMEM, "simulation: no memory for pipeline stages");
        }
    }
    TRY(arena_create(engine_core_arena_bytes(&options), &e->arena, error));
    return engine_core_create(&e->arena, &options, &e->core, error);
}

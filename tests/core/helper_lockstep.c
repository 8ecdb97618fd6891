/* helper_lockstep.c - see helper_lockstep.h. */
#include "tests/core/helper_lockstep.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

enum {
    REQUESTS_MAX = 64,
    MODEL_LEN = 64,
};

/* ---- links ---- */

static struct note *link_add(struct link *l, enum note_kind kind)
{
    assert_true(l->count < LINK_MAX);
    struct note *note = &l->notes[(l->first + l->count) % LINK_MAX];
    l->count++;
    memset(note, 0, sizeof *note);
    note->kind = kind;
    return note;
}

static struct note *link_take(struct link *l)
{
    if (l->count == 0) {
        return NULL;
    }
    struct note *note = &l->notes[l->first];
    l->first = (l->first + 1) % LINK_MAX;
    l->count--;
    return note;
}

static bool link_move(struct link *from, struct link *to)
{
    const struct note *note = link_take(from);
    if (note == NULL) {
        return false;
    }
    *link_add(to, note->kind) = *note;
    return true;
}

/* ---- set-up ---- */

static struct engine_core_options core_options(const struct lockstep_options *o, uint32_t rank)
{
    return (struct engine_core_options){
        .engine_index = rank,
        .clients_count = o->clients_count,
        .requests_max = REQUESTS_MAX,
        .max_model_len = MODEL_LEN,
        .max_num_seqs = 4,
        .max_num_batched_tokens = 16,
        .num_gpu_blocks = 65,
        .block_tokens = 4,
        .chunked_prefill = true,
        .async_depth = o->async_depth == 0 ? 1 : o->async_depth,
        .wave =
            {
                .ranks_count = o->ranks_count,
                .check_interval_steps = o->check_interval_steps,
                .check_first_step = o->check_first_step,
                .confirm_running = o->evidence,
                .announce_start = o->announce_start,
                .graph_tokens_max = 8,
                .dummy_graph = true,
            },
    };
}

void lockstep_open(struct lockstep *s, const struct lockstep_options *options)
{
    memset(s, 0, sizeof *s);
    s->options = *options;
    const struct coordinator_options coordinator = {
        .engines_count = options->ranks_count,
        .publish_interval = 100 * PS_PER_MS,
        .heartbeat_interval = 5 * PS_PER_S,
        .settle_interval = 50 * PS_PER_MS,
        .lockstep = true,
        .believe_engines_only = options->evidence,
    };
    struct engine_core_options core = core_options(options, 0);
    struct frontend_options frontend = {
        .client_count = options->clients_count,
        .engines_count = options->ranks_count,
        .requests_max = REQUESTS_MAX,
        .max_model_len = MODEL_LEN,
    };
    size_t bytes = coordinator_arena_bytes(&coordinator) +
                   options->ranks_count * engine_core_arena_bytes(&core) +
                   options->clients_count * frontend_arena_bytes(&frontend);
    assert_int_equal(arena_create(bytes, &s->arena, NULL), STATUS_OK);
    assert_int_equal(coordinator_create(&s->arena, &coordinator, &s->coordinator, NULL), STATUS_OK);
    for (uint32_t r = 0; r < options->ranks_count; r++) {
        core = core_options(options, r);
        assert_int_equal(engine_core_create(&s->arena, &core, &s->ranks[r].core, NULL), STATUS_OK);
    }
    for (uint32_t c = 0; c < options->clients_count; c++) {
        frontend.client_index = c;
        assert_int_equal(frontend_create(&s->arena, &frontend, &s->frontends[c], NULL), STATUS_OK);
    }
}

void lockstep_close(struct lockstep *s)
{
    arena_destroy(&s->arena);
}

/* ---- clients ---- */

static void send_add(struct link *l, const struct engine_request *request)
{
    struct note *note = link_add(l, NOTE_ADD);
    note->add = *request;
    memcpy(note->id, request->id, strlen(request->id) + 1);
}

int32_t lockstep_submit(struct lockstep *s, uint32_t client, uint32_t rank, uint32_t max_tokens)
{
    struct frontend_request request = {
        .external_id = "r",
        .serial = s->next_serial++,
        .prompt_tokens_count = 3,
        .prompt_hash = s->next_serial,
        .sampling = {.max_tokens = max_tokens, .eos_token_id = TOKEN_NONE},
        .data_parallel_rank = (int32_t)rank,
        .stream = true,
    };
    struct frontend_send send;
    assert_int_equal(frontend_submit(s->frontends[client], &request, s->now, &send, NULL),
                     STATUS_OK);
    assert_int_equal(send.engine, rank);
    send_add(&s->to_rank[client][rank], &send.request);
    if (send.first_request) {
        s->first_requests++;
        link_add(&s->firsts[client], NOTE_FIRST)->first =
            (struct first_request){.engine = send.engine, .wave = send.wave};
    }
    return send.handle;
}

static void send_aborts(struct lockstep *s, uint32_t client)
{
    struct frontend_abort abort;
    while (frontend_take_abort(s->frontends[client], &abort)) {
        struct note *note = link_add(&s->to_rank[client][abort.engine], NOTE_ABORT);
        memcpy(note->id, abort.id, strlen(abort.id) + 1);
    }
}

void lockstep_cancel(struct lockstep *s, uint32_t client, int32_t handle)
{
    frontend_cancel(s->frontends[client], handle);
    send_aborts(s, client);
}

void lockstep_pause(struct lockstep *s, enum pause_mode mode)
{
    for (uint32_t r = 0; r < s->options.ranks_count; r++) {
        link_add(&s->to_rank[0][r], NOTE_PAUSE)->pause = mode;
    }
}

void lockstep_resume(struct lockstep *s)
{
    for (uint32_t r = 0; r < s->options.ranks_count; r++) {
        (void)link_add(&s->to_rank[0][r], NOTE_RESUME);
    }
}

static void take_outputs(struct lockstep *s, uint32_t client, const struct engine_outputs *outputs)
{
    struct frontend *f = s->frontends[client];
    frontend_outputs_begin(f, outputs);
    while (frontend_outputs_slice(f, s->now) > 0) {
    }
    struct frontend_delta delta;
    while (frontend_take(f, &delta)) {
        if (delta.finish != FINISH_NONE) {
            assert_in_range(delta.finish, FINISH_STOP, FINISH_ERROR);
            s->finished[delta.finish]++;
        }
    }
    send_aborts(s, client);
}

/* ---- coordinator ---- */

static void send_state(struct lockstep *s, const struct coordinator_state *state)
{
    for (uint32_t c = 0; c < s->options.clients_count; c++) {
        struct note *note = link_add(&s->states[c], NOTE_STATE);
        note->state = *state;
        if (state->counts != NULL) {
            assert_int_equal(state->counts_count, s->options.ranks_count);
            memcpy(note->counts, state->counts, state->counts_count * sizeof *state->counts);
        }
    }
}

static void take_actions(struct lockstep *s)
{
    struct coordinator_action action;
    uint32_t count = 0;
    while (coordinator_take_action(s->coordinator, &action)) {
        assert_true(++count <= COORDINATOR_ACTIONS_MAX);
        if (action.kind == COORDINATOR_START_WAVE) {
            for (uint32_t r = 0; r < s->options.ranks_count; r++) {
                link_add(&s->starts[r], NOTE_START)->start = action.start;
            }
        } else if (action.kind == COORDINATOR_PUBLISH) {
            assert_null(action.state.counts);
            send_state(s, &action.state);
        }
    }
    assert_null(coordinator_check(s->coordinator));
}

void coordinator_tick(struct lockstep *s)
{
    struct coordinator_state state;
    (void)coordinator_publish(s->coordinator, s->now, true, &state);
    time_ps deadline = coordinator_deadline(s->coordinator);
    s->now = deadline > s->now ? deadline : s->now;
    assert_true(coordinator_publish(s->coordinator, s->now, false, &state));
    send_state(s, &state);
}

/* ---- delivery ---- */

bool deliver_to_rank(struct lockstep *s, uint32_t client, uint32_t rank)
{
    return link_move(&s->to_rank[client][rank], &s->ranks[rank].inbox);
}

bool deliver_start(struct lockstep *s, uint32_t rank)
{
    return link_move(&s->starts[rank], &s->ranks[rank].inbox);
}

bool deliver_from_rank(struct lockstep *s, uint32_t rank)
{
    struct note *note = link_take(&s->from_rank[rank]);
    if (note == NULL) {
        return false;
    }
    if (note->outputs.stats != NULL) {
        note->outputs.stats = &note->stats;
    }
    coordinator_outputs(s->coordinator, &note->outputs);
    take_actions(s);
    return true;
}

bool deliver_first(struct lockstep *s, uint32_t client)
{
    const struct note *note = link_take(&s->firsts[client]);
    if (note == NULL) {
        return false;
    }
    coordinator_first_request(s->coordinator, &note->first);
    take_actions(s);
    return true;
}

bool deliver_state(struct lockstep *s, uint32_t client)
{
    struct note *note = link_take(&s->states[client]);
    if (note == NULL) {
        return false;
    }
    note->state.counts = note->state.counts == NULL ? NULL : note->counts;
    frontend_coordinator_state(s->frontends[client], &note->state);
    return true;
}

/* ---- collectives ---- */

static void join_forward(struct lockstep *s, uint32_t rank, const struct step_plan *plan)
{
    struct rank *r = &s->ranks[rank];
    const struct wave *w = engine_core_wave(r->core);
    uint64_t first = UINT64_MAX;
    uint64_t last = 0;
    for (uint32_t i = 0; i < s->options.ranks_count; i++) {
        first = s->ranks[i].forwards < first ? s->ranks[i].forwards : first;
        last = s->ranks[i].forwards > last ? s->ranks[i].forwards : last;
    }
    assert_true(last - first < LINK_MAX);
    uint64_t at = r->forwards % LINK_MAX;
    struct wave_forward own = engine_core_forward(r->core, plan);
    if (r->forwards == last) { /* the first to come here */
        s->forward_step[at] = w->step_counter;
        s->agreed[at] = own;
    } else {
        assert_int_equal(s->forward_step[at], w->step_counter);
        s->agreed[at] = wave_forward_merge(s->agreed[at], own);
    }
    r->forwards++;
}

static bool forward_done(const struct lockstep *s, uint64_t forward)
{
    for (uint32_t i = 0; i < s->options.ranks_count; i++) {
        if (s->ranks[i].forwards < forward) {
            return false;
        }
    }
    return true;
}

static void join_reduction(struct lockstep *s, uint32_t rank, enum rank_stage kind)
{
    struct rank *r = &s->ranks[rank];
    uint64_t at = s->reductions_done % LINK_MAX;
    if (s->reduction_joined == 0) {
        s->reduction_kind = kind;
        s->sums[at] = (struct wave_ballot){0};
        s->any_unfinished[at] = false;
    }
    assert_int_equal(s->reduction_kind, kind);
    assert_int_equal(r->reductions, s->reductions_done);
    r->stage = kind;
    r->reductions++;
    s->sums[at].unfinished += r->ballot.unfinished;
    s->sums[at].pending_pause += r->ballot.pending_pause;
    s->any_unfinished[at] |= r->unfinished;
    s->reduction_joined++;
    if (s->reduction_joined == s->options.ranks_count) {
        s->reduction_joined = 0;
        s->reductions_done++;
    }
}

/* ---- ranks ---- */

static void send_notices(struct lockstep *s, uint32_t rank)
{
    struct engine_outputs outputs;
    while (engine_core_take_notice(s->ranks[rank].core, s->now, &outputs)) {
        assert_int_equal(outputs.engine_index, rank);
        assert_true((outputs.wave_complete < 0) != (outputs.start_wave < 0));
        link_add(&s->from_rank[rank], NOTE_OUTPUTS)->outputs = outputs;
    }
}

static void send_counts(struct lockstep *s, uint32_t rank)
{
    struct scheduler_stats stats;
    if (engine_core_counts_changed(s->ranks[rank].core, &stats)) {
        struct note *note = link_add(&s->from_rank[rank], NOTE_OUTPUTS);
        note->stats = stats;
        note->outputs = (struct engine_outputs){
            .engine_index = rank, .stats = &note->stats, .wave_complete = -1, .start_wave = -1};
    }
}

static void resume(struct lockstep *s, uint32_t rank)
{
    struct rank *r = &s->ranks[rank];
    switch (engine_core_resume(r->core, &r->unfinished)) {
    case RESUME_DONE:
        r->resumes_done++;
        break;
    case RESUME_LATER:
        r->resumes_waiting++;
        break;
    case RESUME_ALLREDUCE:
        join_reduction(s, rank, STAGE_RESUME);
        break;
    }
}

static void handle(struct lockstep *s, uint32_t rank, struct note *note)
{
    struct rank *r = &s->ranks[rank];
    switch (note->kind) {
    case NOTE_ADD:
        note->add.id = note->id;
        assert_int_equal(engine_core_add(r->core, &note->add, s->now, NULL), STATUS_OK);
        break;
    case NOTE_ABORT:
        engine_core_abort(r->core, note->id);
        break;
    case NOTE_START:
        engine_core_start_wave(r->core, &note->start);
        break;
    case NOTE_PAUSE:
        engine_core_pause(r->core, note->pause);
        r->pauses_waiting++;
        break;
    case NOTE_RESUME:
        resume(s, rank);
        break;
    case NOTE_OUTPUTS:
    case NOTE_FIRST:
    case NOTE_STATE:
        fail_msg("a rank got what is not for it");
    }
}

static bool run_input(struct lockstep *s, uint32_t rank)
{
    struct rank *r = &s->ranks[rank];
    if (engine_core_pause_done(r->core)) {
        r->pauses_done += r->pauses_waiting;
        r->pauses_waiting = 0;
        if (r->resumes_waiting > 0) {
            r->resumes_waiting--;
            resume(s, rank);
            return true;
        }
    }
    if (!engine_core_has_work(r->core) && r->inbox.count == 0) {
        return false;
    }
    while (r->stage == STAGE_INPUT && r->inbox.count > 0) {
        handle(s, rank, link_take(&r->inbox));
    }
    if (r->stage == STAGE_INPUT) {
        send_notices(s, rank);
        send_counts(s, rank);
        r->stage = STAGE_TURNS;
    }
    return true;
}

static bool run_complete(struct lockstep *s, struct rank *r)
{
    if (!forward_done(s, r->plan_forwards[0])) {
        return false;
    }
    const struct step_plan *plan = r->plans[0];
    static const uint32_t tokens[16] = {7, 7, 7, 7};
    uint32_t count = 0;
    for (uint32_t i = 0; i < plan->seqs_count; i++) {
        count += (plan->seqs[i].flags & STEP_SEQ_SAMPLES) != 0;
    }
    struct step_result result = {.step = plan->step, .tokens = tokens, .tokens_count = count};
    struct engine_core_messages messages;
    engine_core_complete(r->core, s->now, &result, &messages);
    r->plans[0] = r->plans[1];
    r->plan_forwards[0] = r->plan_forwards[1];
    r->plans_count--;
    for (uint32_t i = 0; i < messages.count; i++) {
        take_outputs(s, messages.items[i].client_index, &messages.items[i].outputs);
    }
    r->stage = STAGE_NEED;
    return true;
}

static bool run_turn(struct lockstep *s, uint32_t rank)
{
    struct rank *r = &s->ranks[rank];
    const struct step_plan *plan = NULL;
    switch (engine_core_turn(r->core, s->now, &plan)) {
    case ENGINE_TURN_SUBMIT:
        if (plan->tokens_count > 0) {
            join_forward(s, rank, plan);
            r->steps++;
        }
        assert_true(r->plans_count < 2);
        r->plans[r->plans_count] = plan;
        r->plan_forwards[r->plans_count++] = r->forwards;
        return true;
    case ENGINE_TURN_AWAIT:
        return run_complete(s, r);
    case ENGINE_TURN_DONE:
        r->stage = STAGE_NEED;
        return true;
    }
    return false;
}

static bool run_need(struct lockstep *s, uint32_t rank)
{
    struct rank *r = &s->ranks[rank];
    send_counts(s, rank);
    switch (engine_core_wave_next(r->core, &r->ballot)) {
    case WAVE_NEED_NOTHING:
        send_notices(s, rank);
        r->stage = STAGE_INPUT;
        break;
    case WAVE_NEED_DUMMY:
        join_forward(s, rank, NULL);
        r->dummies++;
        r->stage = STAGE_DUMMY;
        break;
    case WAVE_NEED_ALLREDUCE:
        join_reduction(s, rank, STAGE_CHECK);
        break;
    }
    return true;
}

static bool run_collective(struct lockstep *s, uint32_t rank)
{
    struct rank *r = &s->ranks[rank];
    if (r->stage == STAGE_DUMMY) {
        if (!forward_done(s, r->forwards)) {
            return false;
        }
        r->stage = STAGE_NEED;
        return true;
    }
    if (s->reductions_done < r->reductions) {
        return false;
    }
    uint64_t at = (r->reductions - 1) % LINK_MAX;
    if (r->stage == STAGE_CHECK) {
        engine_core_wave_checked(r->core, &s->sums[at]);
        r->stage = STAGE_NEED;
    } else {
        engine_core_resumed(r->core, s->any_unfinished[at]);
        r->resumes_done++;
        r->stage = STAGE_INPUT;
    }
    r->unfinished = false;
    r->ballot = (struct wave_ballot){0};
    return true;
}

bool rank_step(struct lockstep *s, uint32_t rank)
{
    struct rank *r = &s->ranks[rank];
    bool moved = false;
    switch (r->stage) {
    case STAGE_INPUT:
        moved = run_input(s, rank);
        break;
    case STAGE_TURNS:
        moved = run_turn(s, rank);
        break;
    case STAGE_NEED:
        moved = run_need(s, rank);
        break;
    case STAGE_DUMMY:
    case STAGE_CHECK:
    case STAGE_RESUME:
        moved = run_collective(s, rank);
        break;
    }
    assert_null(engine_core_check(r->core));
    return moved;
}

void ranks_run(struct lockstep *s)
{
    bool moved = true;
    for (uint32_t rounds = 0; moved; rounds++) {
        assert_true(rounds < 100000);
        moved = false;
        for (uint32_t r = 0; r < s->options.ranks_count; r++) {
            moved |= rank_step(s, r);
        }
    }
}

static bool deliver_all(struct lockstep *s)
{
    bool moved = false;
    for (uint32_t r = 0; r < s->options.ranks_count; r++) {
        for (uint32_t c = 0; c < s->options.clients_count; c++) {
            moved |= deliver_to_rank(s, c, r);
        }
        moved |= deliver_start(s, r);
        moved |= deliver_from_rank(s, r);
    }
    for (uint32_t c = 0; c < s->options.clients_count; c++) {
        moved |= deliver_first(s, c);
        moved |= deliver_state(s, c);
    }
    return moved;
}

/* Messages and ranks take turns: ranks whose pause is not complete step for ever. */
static void move_all(struct lockstep *s)
{
    bool moved = true;
    for (uint32_t rounds = 0; moved; rounds++) {
        assert_true(rounds < 100000);
        moved = deliver_all(s);
        for (uint32_t r = 0; r < s->options.ranks_count; r++) {
            moved |= rank_step(s, r);
        }
    }
}

void lockstep_settle(struct lockstep *s)
{
    for (int publish = 0; publish < 3; publish++) {
        move_all(s);
        coordinator_tick(s);
    }
    move_all(s);
}

/* ---- what is looked at ---- */

uint32_t rank_wave(const struct lockstep *s, uint32_t rank)
{
    return engine_core_wave(s->ranks[rank].core)->current_wave;
}

bool rank_running(const struct lockstep *s, uint32_t rank)
{
    return engine_core_wave(s->ranks[rank].core)->engines_running;
}

bool rank_blocked(const struct lockstep *s, uint32_t rank)
{
    return s->ranks[rank].stage != STAGE_INPUT;
}

void lockstep_assert_quiet(const struct lockstep *s)
{
    uint32_t wave = coordinator_current_wave(s->coordinator);
    assert_false(coordinator_engines_running(s->coordinator));
    for (uint32_t r = 0; r < s->options.ranks_count; r++) {
        assert_false(rank_blocked(s, r));
        assert_false(rank_running(s, r));
        assert_false(engine_core_has_work(s->ranks[r].core));
        assert_int_equal(engine_core_unfinished(s->ranks[r].core), 0);
        assert_int_equal(rank_wave(s, r), wave);
        assert_int_equal(s->ranks[r].forwards, s->ranks[0].forwards);
    }
    for (uint32_t c = 0; c < s->options.clients_count; c++) {
        assert_int_equal(frontend_inflight(s->frontends[c]), 0);
        assert_int_equal(frontend_open(s->frontends[c]), 0);
        assert_int_equal(frontend_current_wave(s->frontends[c]), wave);
        assert_false(frontend_engines_running(s->frontends[c]));
        assert_null(frontend_check(s->frontends[c]));
    }
}

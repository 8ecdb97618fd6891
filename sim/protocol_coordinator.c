/*
 * protocol_coordinator.c - the coordinator's loop around the production object, with its rules of
 * states and counts written a second time to compare with. Driven by protocol_driver.c.
 */
#include <string.h>

#include "sim/protocol_model.h"

/* What a message must make the coordinator do. */
struct expected_actions {
    struct coordinator_action actions[COORDINATOR_ACTIONS_MAX];
    uint32_t count;
};

/* ---- the rules ---- */

static void expect_start(const struct coordinator_model *m, struct expected_actions *x,
                         int32_t exclude)
{
    x->actions[x->count++] = (struct coordinator_action){
        .kind = COORDINATOR_START_WAVE, .start = {.wave = m->wave, .exclude = exclude}};
}

static void expect_change(const struct coordinator_model *m, struct expected_actions *x)
{
    x->actions[x->count++] = (struct coordinator_action){
        .kind = COORDINATOR_PUBLISH, .state = {.wave = m->wave, .running = m->running}};
}

static void model_first(struct protocol *d, const struct first_request *first,
                        struct expected_actions *x)
{
    struct coordinator_model *m = &d->model;
    if (!d->lockstep || m->running) {
        return;
    }
    expect_start(m, x, first->wave < m->wave ? -1 : (int32_t)first->engine);
    if (!d->coordinator_options.believe_engines_only) {
        m->running = true;
        expect_change(m, x);
    }
}

static void model_stats(struct protocol *d, uint32_t engine, const struct scheduler_stats *stats)
{
    struct coordinator_model *m = &d->model;
    int64_t wave = stats->current_wave;
    int64_t step = stats->step_counter;
    bool later = wave > m->last_wave || (wave == m->last_wave && step > m->last_step);
    if (d->lockstep && later) {
        if (m->changed) {
            memcpy(m->snapshot, m->live, sizeof m->live);
            m->has_snapshot = true;
        }
        m->last_wave = wave;
        m->last_step = step;
    }
    m->live[engine] = (struct engine_counts){.waiting = stats->waiting_count,
                                             .running = stats->running_count,
                                             .kv_usage = stats->kv_cache_usage};
    m->changed = true;
}

static void model_engine(struct protocol *d, const struct protocol_message *message,
                         struct expected_actions *x)
{
    struct coordinator_model *m = &d->model;
    if (message->engine.has_stats) {
        model_stats(d, message->engine.engine, &message->engine.stats);
    }
    int64_t complete = message->engine.wave_complete;
    int64_t start = message->engine.start_wave;
    if (complete >= 0 && complete >= m->wave) {
        m->wave = (uint32_t)complete + 1;
        m->running = false;
        m->start_told = false;
        expect_change(m, x);
    } else if (start >= 0 && (start > m->wave || (start == m->wave && !m->running))) {
        m->wave = (uint32_t)start;
        m->running = true;
        m->start_told = true;
        expect_start(m, x, (int32_t)message->engine.engine);
        expect_change(m, x);
    }
}

static bool same_action(const struct coordinator_action *a, const struct coordinator_action *b)
{
    if (a->kind != b->kind) {
        return false;
    }
    switch (a->kind) {
    case COORDINATOR_READY:
        return true;
    case COORDINATOR_START_WAVE:
        return a->start.wave == b->start.wave && a->start.exclude == b->start.exclude;
    case COORDINATOR_PUBLISH:
        return a->state.counts == b->state.counts && a->state.wave == b->state.wave &&
               a->state.running == b->state.running;
    }
    return false;
}

/* ---- sending ---- */

static void broadcast_state(struct protocol *d, const struct coordinator_state *state)
{
    for (uint32_t c = 0; c < d->clients_count; c++) {
        const struct protocol_client *client = &d->clients[c];
        if (!client->subscribing || client->subscribe_at > d->now || client->lost_until > d->now) {
            continue;
        }
        struct protocol_message *message = protocol_message_new(d, MESSAGE_STATE);
        message->state.state = *state;
        if (state->counts != NULL) {
            memcpy(message->state.counts, state->counts,
                   d->ranks_count * sizeof message->state.counts[0]);
            message->state.state.counts = message->state.counts;
        }
        protocol_send(d, &d->client_down[c], message);
    }
}

static void broadcast_down(struct protocol *d, enum protocol_message_kind kind,
                           const struct start_wave *start)
{
    for (uint32_t e = 0; e < d->ranks_count; e++) {
        struct protocol_message *message = protocol_message_new(d, kind);
        message->start = *start;
        protocol_send(d, &d->engine_down[e], message);
    }
}

static bool act(struct protocol *d, const struct coordinator_action *action)
{
    switch (action->kind) {
    case COORDINATOR_READY:
        PROTOCOL_EVENT(d, READY, d->subscribed_count);
        d->ready_sent = true;
        broadcast_down(d, MESSAGE_READY, &action->start);
        return true;
    case COORDINATOR_START_WAVE:
        PROTOCOL_REQUIRE(d, "I12", d->lockstep, "START_DP_WAVE to independent ranks");
        PROTOCOL_EVENT(d, BROADCAST_START, action->start.wave,
                       (uint32_t)(action->start.exclude + 1));
        d->report->starts_count++;
        broadcast_down(d, MESSAGE_START_WAVE, &action->start);
        return true;
    case COORDINATOR_PUBLISH:
        PROTOCOL_REQUIRE(d, "I12", d->lockstep, "a wave change of independent ranks");
        PROTOCOL_EVENT(d, WAVE_CHANGE, action->state.wave, action->state.running);
        broadcast_state(d, &action->state);
        return true;
    }
    return protocol_fail(d, "core", "unknown action");
}

static const char *invariant_of(const struct coordinator_action *action)
{
    switch (action->kind) {
    case COORDINATOR_READY:
        return "I10";
    case COORDINATOR_START_WAVE:
        return "I1";
    case COORDINATOR_PUBLISH:
        return action->state.running ? "I5" : "I3";
    }
    return "core";
}

static bool take_actions(struct protocol *d, const struct expected_actions *x)
{
    struct coordinator_action action;
    uint32_t count = 0;
    while (coordinator_take_action(d->coordinator, &action)) {
        PROTOCOL_REQUIRE(d, invariant_of(&action), count < x->count,
                         "the coordinator does more than %u things (kind %d)", x->count,
                         (int)action.kind);
        PROTOCOL_REQUIRE(
            d, invariant_of(&x->actions[count]), same_action(&action, &x->actions[count]),
            "the coordinator does %d (wave %u exclude %d, running %d), want %d (wave "
            "%u exclude %d, running %d)",
            (int)action.kind, action.start.wave, action.start.exclude, action.state.running,
            (int)x->actions[count].kind, x->actions[count].start.wave,
            x->actions[count].start.exclude, x->actions[count].state.running);
        count++;
        if (!act(d, &action)) {
            return false;
        }
    }
    PROTOCOL_REQUIRE(d, invariant_of(&x->actions[count % COORDINATOR_ACTIONS_MAX]),
                     count == x->count, "the coordinator does %u of %u things", count, x->count);
    return true;
}

/* ---- the loop ---- */

static bool take_message(struct protocol *d, const struct protocol_message *message)
{
    struct expected_actions x = {0};
    struct engine_outputs outputs;
    switch (message->kind) {
    case MESSAGE_SUBSCRIBE:
        d->subscribed_count++;
        PROTOCOL_EVENT(d, SUBSCRIBE, d->subscribed_count);
        if (d->subscribed_count >= d->ranks_count) {
            x.actions[x.count++].kind = COORDINATOR_READY;
        }
        coordinator_subscribe(d->coordinator);
        break;
    case MESSAGE_FIRST_REQUEST:
        PROTOCOL_EVENT(d, FIRST, message->first.engine, message->first.wave);
        model_first(d, &message->first, &x);
        coordinator_first_request(d->coordinator, &message->first);
        break;
    case MESSAGE_ENGINE:
        PROTOCOL_EVENT(d, ENGINE_MESSAGE, message->engine.engine,
                       (uint32_t)(message->engine.wave_complete + 1),
                       (uint32_t)(message->engine.start_wave + 1));
        model_engine(d, message, &x);
        outputs = (struct engine_outputs){
            .engine_index = message->engine.engine,
            .stats = message->engine.has_stats ? &message->engine.stats : NULL,
            .timestamp = d->now,
            .wave_complete = message->engine.wave_complete,
            .start_wave = message->engine.start_wave,
        };
        coordinator_outputs(d->coordinator, &outputs);
        break;
    case MESSAGE_ADD:
    case MESSAGE_ABORT:
    case MESSAGE_PAUSE:
    case MESSAGE_RESUME:
    case MESSAGE_OUTPUTS:
    case MESSAGE_REPLY:
    case MESSAGE_STATE:
    case MESSAGE_START_WAVE:
    case MESSAGE_READY:
    case MESSAGE_HANDSHAKE:
    case MESSAGE_INIT:
    case MESSAGE_GREETING:
    case MESSAGE_BOUND:
    case MESSAGE_SERVING:
    case MESSAGE_DEAD:
        return protocol_fail(d, "driver", "message %d is not for the coordinator",
                             (int)message->kind);
    }
    return take_actions(d, &x);
}

static struct protocol_link *first_input(struct protocol *d)
{
    struct protocol_link *first = &d->engine_up[0];
    for (uint32_t e = 1; e < d->ranks_count; e++) {
        if (protocol_link_next(&d->engine_up[e]) < protocol_link_next(first)) {
            first = &d->engine_up[e];
        }
    }
    /* Before READY it listens to subscriptions only. */
    for (uint32_t c = 0; c < d->clients_count && d->ready_sent; c++) {
        if (protocol_link_next(&d->client_up[c]) < protocol_link_next(first)) {
            first = &d->client_up[c];
        }
    }
    return first;
}

static bool check_published(struct protocol *d, const struct coordinator_state *state)
{
    struct coordinator_model *m = &d->model;
    const struct engine_counts *want = m->has_snapshot ? m->snapshot : m->live;
    PROTOCOL_REQUIRE(d, "I11", state->counts != NULL && state->counts_count == d->ranks_count,
                     "a publish without counts of all engine cores");
    for (uint32_t e = 0; e < d->ranks_count; e++) {
        const struct engine_counts *got = &state->counts[e];
        bool same = got->waiting == want[e].waiting && got->running == want[e].running &&
                    !(got->kv_usage < want[e].kv_usage) && !(got->kv_usage > want[e].kv_usage);
        PROTOCOL_REQUIRE(
            d, "I11", same, "rank %u is published as %u waiting %u running, %s %u and %u", e,
            got->waiting, got->running, m->has_snapshot ? "the step boundary had" : "it said",
            want[e].waiting, want[e].running);
    }
    PROTOCOL_REQUIRE(d, d->lockstep ? "I3" : "I12",
                     state->wave == m->wave && state->running == m->running,
                     "published wave %u running %d, want %u, %d", state->wave, state->running,
                     m->wave, m->running);
    d->report->snapshots_count += m->has_snapshot;
    m->changed = m->changed && m->has_snapshot;
    m->has_snapshot = false;
    return true;
}

static bool publish(struct protocol *d)
{
    bool pending = protocol_link_next(first_input(d)) <= d->now;
    bool quiet = protocol_is_quiet(d);
    time_ps deadline = coordinator_deadline(d->coordinator);
    struct coordinator_state state;
    if (!coordinator_publish(d->coordinator, d->now, pending, &state)) {
        PROTOCOL_REQUIRE(d, "I11", pending || coordinator_deadline(d->coordinator) > d->now,
                         "nothing is published, though it is due and nothing is unread");
        return true;
    }
    PROTOCOL_REQUIRE(d, "I11", d->now >= deadline, "published before the deadline");
    PROTOCOL_EVENT(d, PUBLISH, state.wave, state.running, d->model.has_snapshot);
    d->report->publishes_count++;
    d->last_publish = d->now;
    d->quiet_publishes += quiet;
    if (!check_published(d, &state)) {
        return false;
    }
    broadcast_state(d, &state);
    return true;
}

time_ps protocol_coordinator_next(const struct protocol *d)
{
    time_ps first = TIME_NEVER;
    if (d->dead[PROCESS_COORDINATOR]) {
        return TIME_NEVER;
    }
    for (uint32_t e = 0; e < d->ranks_count; e++) {
        time_ps at = protocol_link_next(&d->engine_up[e]);
        first = at < first ? at : first;
    }
    for (uint32_t c = 0; c < d->clients_count && d->ready_sent; c++) {
        time_ps at = protocol_link_next(&d->client_up[c]);
        first = at < first ? at : first;
    }
    time_ps deadline = d->ready_sent ? coordinator_deadline(d->coordinator) : TIME_NEVER;
    first = deadline < first ? deadline : first;
    return first > d->coordinator_free_at ? first : d->coordinator_free_at;
}

bool protocol_coordinator_run(struct protocol *d)
{
    struct protocol_link *link = first_input(d);
    if (protocol_link_next(link) <= d->now) {
        struct protocol_message *message = protocol_take(d, link);
        d->quiet_publishes = 0;
        d->last_coordinator_input = d->now;
        bool good = take_message(d, message);
        protocol_message_free(d, message);
        if (!good) {
            return false;
        }
        d->coordinator_free_at = d->now + random_range(&d->events, 0, d->coordinator_time);
    }
    return (!d->ready_sent || publish(d)) && protocol_check_coordinator(d);
}

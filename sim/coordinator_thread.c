/*
 * coordinator_thread.c - owns the coordinator's thread: the turns of
 * engine/node/coordinator_process.c, one message of each socket a turn, then what is to be
 * published. Driven by the scene; where that takes no time, by who sends it something. Decides
 * nothing: engine/core/coordinator does.
 */
#include <stdlib.h>
#include <string.h>

#include "sim/simulation_state.h"

enum coordinator_phase {
    COORDINATOR_POLL,
    COORDINATOR_FRONT_ACTIONS,
    COORDINATOR_COUNTS,
    COORDINATOR_COUNTS_ACTIONS,
    COORDINATOR_SEND_STATE,
};

#define SLICE  (500 * PS_PER_US) /* OCCUPANCY_SLICE_NS of engine/node/occupancy.h */
#define SETTLE (50 * PS_PER_MS)

/* ---- sending ---- */

/* A copy that outlives the coordinator's memory. */
static struct state_parcel *copy_state(struct simulation *s, const struct coordinator_state *state)
{
    uint32_t counts = state->counts != NULL ? state->counts_count : 0;
    struct state_parcel *p =
        (struct state_parcel *)parcel_take(s, sizeof *p + counts * sizeof p->counts[0]);
    p->state = *state;
    if (state->counts != NULL) {
        memcpy(p->counts, state->counts, counts * sizeof p->counts[0]);
        p->state.counts = p->counts;
    }
    return p;
}

static void send_state(struct simulation *s, struct state_parcel *p)
{
    struct station *me = &s->coordinator->station;
    p->parcel.references = s->options.api_servers_count;
    station_work(
        me, station_cost(&s->options.costs.coordinator_publish, s->options.api_servers_count, 0));
    me->books->messages_out_count++;
    for (uint32_t i = 0; i < s->options.api_servers_count; i++) {
        letter_send(me, &s->apis[i].station, STATE_INBOX,
                    (struct letter){.at = me->cursor + s->options.costs.ipc,
                                    .kind = LETTER_PARCEL,
                                    .as.parcel = &p->parcel});
    }
}

static void send_start_wave(struct simulation *s, const struct start_wave *start)
{
    struct station *me = &s->coordinator->station;
    uint64_t number = (uint64_t)start->wave << 32 | (uint32_t)(start->exclude + 1);
    station_work(me,
                 station_cost(&s->options.costs.coordinator_publish, s->options.engines_count, 0));
    me->books->messages_out_count++;
    for (uint32_t i = 0; i < s->options.engines_count; i++) {
        letter_send(me, &s->engines[i].input, ONLY_INBOX,
                    (struct letter){.at = me->cursor + s->options.costs.ipc,
                                    .kind = LETTER_START_WAVE,
                                    .as.number = number});
    }
}

static void send_actions(struct simulation *s)
{
    const struct station *me = &s->coordinator->station;
    struct coordinator_action action;
    while (coordinator_take_action(s->coordinator->coordinator, &action)) {
        switch (action.kind) {
        case COORDINATOR_READY:
            break; /* the simulation begins with everybody ready */
        case COORDINATOR_START_WAVE:
            tell_event(me, SIMULATION_EVENT_START_WAVE_SENT, action.start.wave, 0);
            send_start_wave(s, &action.start);
            break;
        case COORDINATOR_PUBLISH:
            tell_event(me, SIMULATION_EVENT_WAVE_PUBLISHED, action.state.wave,
                       action.state.running ? 1 : 0);
            send_state(s, copy_state(s, &action.state));
            break;
        }
    }
}

/* ---- turns ---- */

static void take_message(struct simulation *s)
{
    struct station *me = &s->coordinator->station;
    me->books->messages_in_count++;
    station_work(me, station_cost(&s->options.costs.coordinator_message, 1, 0));
    station_charge(me, s->options.host.coordinator_message);
}

static void settle(struct station *me, enum coordinator_phase phase)
{
    me->phase = phase;
    station_sleep(me, me->busy_until);
}

static void read_front(struct simulation *s, const struct letter *letter)
{
    struct coordinator_thread *c = s->coordinator;
    struct first_request first = {.engine = (uint32_t)(letter->as.number >> 32),
                                  .wave = (uint32_t)letter->as.number};
    station_drop(&c->station, FRONT_INBOX);
    coordinator_first_request(c->coordinator, &first);
    take_message(s);
    settle(&c->station, COORDINATOR_FRONT_ACTIONS);
}

/* What is due leaves when the emulated time is over. */
static void publish(struct simulation *s)
{
    struct coordinator_thread *c = s->coordinator;
    struct coordinator_state state;
    bool pending = c->front_ready || c->counts_ready;
    bool changed = coordinator_changed(c->coordinator);
    if (coordinator_publish(c->coordinator, c->station.cursor, pending, &state)) {
        uint64_t heard_count = c->station.books->messages_in_count;
        tell_event(&c->station, SIMULATION_EVENT_PUBLISHED, changed ? 1 : 0,
                   (int64_t)(heard_count - c->told_count));
        c->told_count = heard_count;
        c->publishing = copy_state(s, &state);
        settle(&c->station, COORDINATOR_SEND_STATE);
        return;
    }
    c->station.phase = COORDINATOR_POLL;
    station_again(&c->station);
}

static void read_counts(struct simulation *s)
{
    struct coordinator_thread *c = s->coordinator;
    const struct letter *letter = station_letter(&c->station, COUNTS_INBOX, c->station.now);
    if (!c->counts_ready || letter == NULL) {
        publish(s);
        return;
    }
    struct parcel *p = letter->as.parcel;
    station_drop(&c->station, COUNTS_INBOX);
    coordinator_outputs(c->coordinator, &((const struct outputs_parcel *)p)->outputs);
    parcel_give(s, p);
    take_message(s);
    if (c->station.busy_until - c->station.cursor > SLICE) {
        settle(&c->station, COORDINATOR_COUNTS_ACTIONS);
        return;
    }
    c->station.phase = COORDINATOR_COUNTS_ACTIONS;
    station_continue(&c->station);
}

/* Waits are whole milliseconds, as zmq_poll()'s. */
static void wait_for_messages(struct simulation *s)
{
    struct coordinator_thread *c = s->coordinator;
    struct station *me = &c->station;
    time_ps left = coordinator_deadline(c->coordinator) - me->cursor;
    if (left <= 0) {
        publish(s);
        return;
    }
    if (station_owes(me)) {
        settle(me, COORDINATOR_POLL);
        return;
    }
    time_ps whole = (left + PS_PER_MS - 1) / PS_PER_MS * PS_PER_MS;
    station_wait(me, 1U << FRONT_INBOX | 1U << COUNTS_INBOX, &me->books->idle);
    station_wait_until(me, me->cursor + whole);
}

static void poll_sockets(struct simulation *s)
{
    struct coordinator_thread *c = s->coordinator;
    struct station *me = &c->station;
    const struct letter *front = station_letter(me, FRONT_INBOX, me->now);
    c->front_ready = front != NULL;
    c->counts_ready = station_letter(me, COUNTS_INBOX, me->now) != NULL;
    if (front != NULL) {
        read_front(s, front);
    } else if (c->counts_ready) {
        me->phase = COORDINATOR_COUNTS;
        station_continue(me);
    } else {
        wait_for_messages(s);
    }
}

static void go_on(struct simulation *s, struct station *station)
{
    struct coordinator_thread *c = s->coordinator;
    switch ((enum coordinator_phase)station->phase) {
    case COORDINATOR_POLL:
        poll_sockets(s);
        break;
    case COORDINATOR_FRONT_ACTIONS:
        send_actions(s);
        station->phase = COORDINATOR_COUNTS;
        station_continue(station);
        break;
    case COORDINATOR_COUNTS:
        read_counts(s);
        break;
    case COORDINATOR_COUNTS_ACTIONS:
        send_actions(s);
        publish(s);
        break;
    case COORDINATOR_SEND_STATE:
        send_state(s, c->publishing);
        c->publishing = NULL;
        station->phase = COORDINATOR_POLL;
        station_again(station);
        break;
    }
}

/* Where segments are no events of their own, all that follow without time in between: at one time
 * nobody comes before the coordinator. Not if it is ahead of the clock: letters may come yet. */
void coordinator_run(struct station *station)
{
    struct simulation *s = simulation_of(station);
    bool more = true;
    while (more) {
        station->private_next = false;
        go_on(s, station);
        more = s->level > SIMULATION_L0 && s->scene.cores_count == 0 && !station->waiting &&
               station->now == s->scene.now && station->cursor == station->now &&
               station->next_at == station->now;
    }
}

bool coordinator_hears(struct simulation *s, uint32_t engine, const struct scheduler_stats *stats,
                       time_ps at)
{
    struct coordinator_thread *c = s->coordinator;
    struct station *me = &c->station;
    if (!station_hears(me, at)) {
        return false;
    }
    me->waiting = false;
    me->books->messages_in_count++;
    coordinator_stats(c->coordinator, engine, stats);
    wait_for_messages(s);
    if (!me->waiting) {
        coordinator_run(me); /* it publishes */
    }
    event_queue_set(&s->scene.queue, me->entity, me->wait_until);
    return true;
}

enum status coordinator_open(struct simulation *s, struct error *error)
{
    const struct simulation_options *o = &s->options;
    struct coordinator_thread *c = s->coordinator;
    struct coordinator_options options = {
        .engines_count = o->engines_count,
        .publish_interval = o->publish_interval,
        .heartbeat_interval = o->heartbeat_interval,
        .rule = PUBLISH_WHEN_DUE,
        .lockstep = o->lockstep,
        .settle_interval = SETTLE,
        .believe_engines_only = true,
    };
    TRY(arena_create(coordinator_arena_bytes(&options), &c->arena, error));
    TRY(coordinator_create(&c->arena, &options, &c->coordinator, error));
    for (uint32_t i = 0; i < o->engines_count; i++) {
        struct coordinator_action action;
        coordinator_subscribe(c->coordinator);
        while (coordinator_take_action(c->coordinator, &action)) {
        }
    }
    struct coordinator_state state;
    (void)coordinator_publish(c->coordinator, 0, false, &state);
    station_release(&c->station, coordinator_deadline(c->coordinator));
    return STATUS_OK;
}

void coordinator_destroy(struct coordinator_thread *c)
{
    station_close(&c->station);
    arena_destroy(&c->arena);
    free(c->publishing);
}

/*
 * api_thread.c - owns an API server's thread: the turns of engine/node/api_server.c, in which up to
 * 32 engine messages are handled until emulated host time was slept off, then the coordinator's
 * state and all connections that are readable, one after the other. Driven by the scene; where that
 * takes no time, by who sends it something. Decides nothing: requests, deltas and routes are
 * engine/core/frontend's.
 *
 * What costs emulated time leaves after it: an ADD, and what is written to connections, which
 * happens whenever more than a slice is owed.
 */
#include <stdlib.h>
#include <string.h>

#include "sim/simulation_state.h"

enum {
    MESSAGES_PER_TURN = 32,
    SLICE_US = 500, /* OCCUPANCY_SLICE_NS of engine/node/occupancy.h */
};

enum api_phase {
    API_LOOK,
    API_SUBMIT,      /* the request's time is over: ADD */
    API_MESSAGE,     /* deltas of the message in work */
    API_FLUSH,       /* the same, and a slice is over: write first */
    API_TURN_FLUSH,  /* the turn's messages are done: write the rest */
    API_CONNECTIONS, /* readable connections of this turn */
    API_SETTLE,      /* before the thread blocks */
};

/* ---- requests ---- */

static void grow_dirty(struct api_thread *a)
{
    a->dirty_capacity = a->dirty_capacity == 0 ? 64 : 2 * a->dirty_capacity;
    a->dirty = realloc(a->dirty, a->dirty_capacity * sizeof(struct ticket *));
    ASSERT(a->dirty != NULL);
}

static inline void mark(struct api_thread *a, struct ticket *t)
{
    if (t->unwritten) {
        return;
    }
    if (a->dirty_count == a->dirty_capacity) {
        grow_dirty(a);
    }
    t->unwritten = true;
    a->dirty[a->dirty_count++] = t;
}

static void fail_request(struct api_thread *a, struct ticket *t)
{
    t->failed = true;
    t->unwritten_last = true;
    a->station.books->failed_count++;
    mark(a, t);
}

/* Read, parsed, tokenised and routed; its emulated time begins. */
static bool begin_request(struct simulation *s, struct api_thread *a, struct ticket *t)
{
    struct station *me = &a->station;
    const struct host_profile *host = &s->options.host;
    uint32_t prompt_tokens = t->request.prompt_tokens;
    t->hops[SIMULATION_HOP_API_RECEIVED] = me->cursor;
    station_work(me, station_cost(&s->options.costs.api_request, 1, prompt_tokens));
    station_charge(me, host->api_request + host->api_prompt_token * (time_ps)prompt_tokens);
    struct frontend_request request = {
        .external_id = "r",
        .serial = t->index,
        .prompt_tokens_count = prompt_tokens,
        .prompt_hash = t->request.prompt_hash,
        .sampling = {.max_tokens = t->request.output_tokens,
                     .eos_token_id = TOKEN_NONE,
                     .n = 1,
                     .temperature = 1.0F,
                     .top_p = 1.0F},
        .data_parallel_rank = RANK_NONE,
        .stream = true,
    };
    struct frontend_send send;
    struct error refused;
    if (frontend_submit(a->frontend, &request, me->cursor, &send, &refused) != STATUS_OK) {
        fail_request(a, t);
        return false;
    }
    t->engine = send.engine;
    t->add = send.request;
    ASSERT(strlen(send.request.id) + 1 <= TICKET_ID_BYTES);
    memcpy(t->id, send.request.id, strlen(send.request.id) + 1);
    ASSERT(ticket_of_id(s, t->id) == t);
    t->add.id = t->id;
    t->add.external_id = NULL;
    a->submitting = t;
    a->first_request = send.first_request;
    a->first = (struct first_request){.engine = send.engine, .wave = send.wave};
    return true;
}

static void send_request(struct simulation *s, struct api_thread *a)
{
    struct station *me = &a->station;
    struct ticket *t = a->submitting;
    time_ps at = me->cursor + s->options.costs.ipc;
    t->hops[SIMULATION_HOP_API_SENT] = me->cursor;
    me->books->requests_count++;
    me->books->messages_out_count++;
    me->books->prompt_tokens += t->request.prompt_tokens;
    if (!engine_hears(&s->engines[t->engine], t, at)) {
        letter_send(me, &s->engines[t->engine].input, ONLY_INBOX,
                    (struct letter){.at = at, .kind = LETTER_ADD, .as.number = t->index});
    }
    if (a->first_request && s->coordinator != NULL) {
        uint64_t first = (uint64_t)a->first.engine << 32 | a->first.wave;
        letter_send(me, &s->coordinator->station, FRONT_INBOX,
                    (struct letter){.at = at, .as.number = first});
    }
}

/* ---- answers ---- */

/* Writes to all connections that have something; the client reads them one by one. */
static void flush(struct simulation *s, struct api_thread *a)
{
    struct station *me = &a->station;
    if (a->dirty_count == 0) {
        return;
    }
    struct writes_parcel *p =
        (struct writes_parcel *)parcel_take(s, sizeof *p + a->dirty_count * sizeof p->writes[0]);
    p->count = 0;
    struct simulation_cost cost = s->options.costs.api_write;
    time_ps at = me->cursor;
    for (uint32_t i = 0; i < a->dirty_count; i++) {
        struct ticket *t = a->dirty[i];
        at += station_cost(&cost, 1, t->unwritten_tokens);
        if (t->unwritten_first) {
            t->hops[SIMULATION_HOP_API_FIRST_WRITE] = at;
        }
        if (t->unwritten_last && !t->failed) {
            t->hops[SIMULATION_HOP_API_LAST_WRITE] = at;
        }
        const struct api_write w = {.ticket = t,
                                    .at = at,
                                    .tokens = t->unwritten_tokens,
                                    .first = t->unwritten_first,
                                    .last = t->unwritten_last};
        t->unwritten = false;
        t->unwritten_tokens = 0;
        t->unwritten_first = false;
        if (s->level == SIMULATION_L0 || !client_reads(s, &w)) {
            p->writes[p->count++] = w;
        }
    }
    station_work(me, at - me->cursor);
    me->books->messages_out_count += a->dirty_count;
    a->dirty_count = 0;
    if (p->count == 0) {
        parcel_give(s, &p->parcel);
        return;
    }
    letter_send(me, &s->client.station, ONLY_INBOX,
                (struct letter){.at = p->writes[0].at + s->options.costs.tcp,
                                .kind = LETTER_PARCEL,
                                .as.parcel = &p->parcel});
}

static void deliver(struct simulation *s, struct api_thread *a, const struct frontend_delta *d)
{
    struct station *me = &a->station;
    struct ticket *t = ticket_at(s, d->serial);
    station_charge(me, s->options.host.api_output_token * (time_ps)d->new_tokens_count);
    if (d->first) {
        t->hops[SIMULATION_HOP_API_FIRST_OUTPUT] = a->message_at;
        tell_wait(me, t->hops[SIMULATION_HOP_ENGINE_FIRST_TOKEN], a->message_at);
        t->cached_tokens = d->cached_tokens;
        t->unwritten_first = true;
    }
    if (d->finish == FINISH_ERROR || d->finish == FINISH_ABORT) {
        fail_request(a, t);
        return;
    }
    if (d->finish != FINISH_NONE) {
        t->hops[SIMULATION_HOP_API_LAST_OUTPUT] = a->message_at;
        tell_wait(me, t->hops[SIMULATION_HOP_ENGINE_LAST_TOKEN], a->message_at);
        t->unwritten_last = true;
        me->books->finished_count++;
    }
    t->unwritten_tokens += d->new_tokens_count;
    mark(a, t);
}

/* True: `phase` goes on at once. False: something is owed, and the segment ends with sleeping it
 * off. */
static bool settle(struct api_thread *a, enum api_phase phase)
{
    struct station *me = &a->station;
    me->phase = phase;
    if (!station_owes(me)) {
        return true;
    }
    a->slept = true;
    station_sleep(me, me->busy_until);
    return false;
}

/* Deltas until a slice is owed (false) or there are no more. */
static bool deliver_deltas(struct simulation *s, struct api_thread *a)
{
    struct station *me = &a->station;
    struct simulation_cost cost = s->options.costs.api_output;
    const struct frontend_delta *delta;
    time_ps cpu = 0;
    uint64_t tokens = 0;
    bool slice = false;
    while (!slice && (delta = frontend_pull(a->frontend)) != NULL) {
        deliver(s, a, delta);
        cpu += station_cost(&cost, 1, delta->new_tokens_count);
        tokens += delta->new_tokens_count;
        slice = me->busy_until - (me->cursor + cpu) > SLICE_US * PS_PER_US;
    }
    station_work(me, cpu);
    me->books->output_tokens += tokens;
    if (slice) {
        (void)settle(a, API_FLUSH);
    }
    return !slice;
}

static void begin_message(struct simulation *s, struct api_thread *a, struct parcel *p)
{
    struct station *me = &a->station;
    const struct outputs_parcel *message = (const struct outputs_parcel *)p;
    a->message = message;
    a->turn_messages++;
    me->books->messages_in_count++;
    station_charge(me, s->options.host.api_message);
    station_work(me, station_cost(&s->options.costs.api_message, message->outputs.outputs_count,
                                  message->outputs.outputs_count));
    a->message_at = me->cursor;
    frontend_outputs_begin(a->frontend, &message->outputs);
}

/* The rest of the message in work. True: it is done. */
static bool go_on(struct simulation *s, struct api_thread *a)
{
    struct frontend_abort aborted;
    if (!deliver_deltas(s, a)) {
        return false;
    }
    parcel_give(s, (struct parcel *)(uintptr_t)&a->message->parcel);
    a->message = NULL;
    /* Nobody cancels, and there are no stop strings. */
    ASSERT(!frontend_take_abort(a->frontend, &aborted));
    return true;
}

/* ---- turns ---- */

static void take_states(struct simulation *s, struct api_thread *a)
{
    struct station *me = &a->station;
    struct parcel *last = NULL;
    const struct letter *letter;
    while ((letter = station_letter(me, STATE_INBOX, me->now)) != NULL) {
        if (last != NULL) {
            parcel_give(s, last);
        }
        last = letter->as.parcel;
        station_drop(me, STATE_INBOX);
        station_work(me, station_cost(&s->options.costs.api_state, 1, 0));
    }
    if (last != NULL) {
        const struct coordinator_state *state = &((const struct state_parcel *)last)->state;
        if (!a->heard_coordinator) {
            a->heard_coordinator = true;
            tell_event(me, SIMULATION_EVENT_FIRST_STATE, state->wave, 0);
        }
        frontend_coordinator_state(a->frontend, state);
        parcel_give(s, last);
    }
}

static uint32_t readable_count(const struct station *me)
{
    const struct inbox *b = &me->inboxes[HTTP_INBOX];
    uint32_t count = 0;
    while (count < b->count && b->letters[(b->first + count) & (b->capacity - 1)].at <= me->now) {
        count++;
    }
    return count;
}

/* False: the segment is over. */
static bool block(struct api_thread *a)
{
    struct station *me = &a->station;
    if (!settle(a, API_SETTLE)) {
        return false; /* what is still owed is work, not waiting */
    }
    a->turn_messages = 0;
    a->slept = false;
    me->phase = API_LOOK;
    station_wait(me, 1U << HTTP_INBOX | 1U << OUTPUTS_INBOX | 1U << STATE_INBOX, &me->books->idle);
    return false;
}

/* One readable connection; the turn is over after the last. False: the segment is over. */
static bool next_connection(struct simulation *s, struct api_thread *a)
{
    struct station *me = &a->station;
    const struct letter *letter = station_letter(me, HTTP_INBOX, me->now);
    if (a->http_left > 0 && letter != NULL) {
        struct ticket *t = ticket_at(s, (uint32_t)letter->as.number);
        a->http_left--;
        station_drop(me, HTTP_INBOX);
        return settle(a, begin_request(s, a, t) ? API_SUBMIT : API_TURN_FLUSH);
    }
    if (station_owes(me)) { /* it settles before it blocks, but not if there is more to do */
        a->turn_messages = 0;
        a->slept = false;
        me->phase = API_LOOK;
        station_again(me);
        return false;
    }
    return block(a);
}

/* With many engine cores a message is not in the cache any more when its turn comes. */
static void prefetch_message(const struct station *me)
{
    const struct letter *next = station_letter(me, OUTPUTS_INBOX, TIME_NEVER);
    if (next != NULL) {
        const struct outputs_parcel *p = (const struct outputs_parcel *)next->as.parcel;
        __builtin_prefetch(&p->outputs);
        __builtin_prefetch(&p->outputs.finished_ids);
        __builtin_prefetch(&p->rows[0]);
        __builtin_prefetch(&p->rows[1]);
    }
}

/* False: the segment is over. */
static bool look(struct simulation *s, struct api_thread *a)
{
    struct station *me = &a->station;
    const struct letter *letter = station_letter(me, OUTPUTS_INBOX, me->now);
    if (letter != NULL && a->turn_messages < MESSAGES_PER_TURN && !a->slept) {
        struct parcel *p = letter->as.parcel;
        station_drop(me, OUTPUTS_INBOX);
        prefetch_message(me);
        begin_message(s, a, p);
        if (go_on(s, a)) {
            station_again(me);
        }
        return false;
    }
    take_states(s, a);
    a->http_left = readable_count(me);
    if (a->dirty_count > 0) {
        return settle(a, API_TURN_FLUSH);
    }
    if (a->http_left > 0) {
        me->phase = API_CONNECTIONS;
        return true;
    }
    if (a->turn_messages > 0) {
        return next_connection(s, a);
    }
    return block(a);
}

void api_run(struct station *station)
{
    struct simulation *s = simulation_of(station);
    struct api_thread *a = station->owner;
    bool more = true;
    while (more) {
        switch ((enum api_phase)station->phase) {
        case API_LOOK:
            more = look(s, a);
            break;
        case API_FLUSH:
            flush(s, a);
            station->phase = API_MESSAGE;
            break;
        case API_MESSAGE:
            more = false;
            if (go_on(s, a)) {
                station->phase = API_LOOK;
                station_again(station);
            }
            break;
        case API_TURN_FLUSH:
            flush(s, a);
            station->phase = API_CONNECTIONS;
            break;
        case API_CONNECTIONS:
            more = next_connection(s, a);
            break;
        case API_SUBMIT:
            send_request(s, a);
            station->phase = API_CONNECTIONS;
            break;
        case API_SETTLE:
            more = block(a);
            break;
        }
    }
}

bool api_hears(struct simulation *s, struct api_thread *a, struct outputs_parcel *p, time_ps at)
{
    if (!station_hears(&a->station, at)) {
        return false;
    }
    begin_message(s, a, &p->parcel);
    (void)go_on(s, a);
    flush(s, a);
    a->turn_messages = 0;
    return true;
}

bool api_hears_request(struct simulation *s, struct api_thread *a, struct ticket *t, time_ps at)
{
    if (!station_hears(&a->station, at)) {
        return false;
    }
    if (begin_request(s, a, t)) {
        send_request(s, a);
    } else {
        flush(s, a);
    }
    return true;
}

enum status api_open(struct simulation *s, struct api_thread *a, struct error *error)
{
    const struct simulation_options *o = &s->options;
    struct frontend_options options = {
        .client_index = a->index,
        .client_count = o->api_servers_count,
        .engines_count = o->engines_count,
        .requests_max = o->engine.requests_max,
        .max_model_len = o->engine.max_model_len,
        .router_rule = o->router_rule,
    };
    TRY(arena_create(frontend_arena_bytes(&options), &a->arena, error));
    return frontend_create(&a->arena, &options, &a->frontend, error);
}

void api_destroy(struct api_thread *a)
{
    station_close(&a->station);
    arena_destroy(&a->arena);
    free((void *)(uintptr_t)a->message);
    free(a->dirty);
}

/*
 * client_thread.c - owns the load client: it asks the source for requests, sends them at their
 * times, and reads what the API servers write. Driven by the scene; where that takes no time, by
 * who sends it something. Must not know what a request goes through in between.
 */
#include <stdlib.h>

#include "sim/simulation_state.h"

static bool sooner(const struct simulation_request *a, const struct simulation_request *b)
{
    if (a->at != b->at) {
        return a->at < b->at;
    }
    return a->user != b->user ? a->user < b->user : a->number < b->number;
}

static void pending_put(struct client_thread *c, const struct simulation_request *request)
{
    if (c->pending_count == c->pending_capacity) {
        c->pending_capacity = c->pending_capacity == 0 ? 16 : 2 * c->pending_capacity;
        c->pending = realloc(c->pending, c->pending_capacity * sizeof *c->pending);
        ASSERT(c->pending != NULL);
    }
    uint32_t place = c->pending_count++;
    while (place > 0 && sooner(request, &c->pending[(place - 1) / 2])) {
        c->pending[place] = c->pending[(place - 1) / 2];
        place = (place - 1) / 2;
    }
    c->pending[place] = *request;
}

static struct simulation_request pending_take(struct client_thread *c)
{
    struct simulation_request first = c->pending[0];
    const struct simulation_request *last = &c->pending[--c->pending_count];
    uint32_t place = 0;
    for (;;) {
        uint32_t child = 2 * place + 1;
        if (child >= c->pending_count) {
            break;
        }
        if (child + 1 < c->pending_count && sooner(&c->pending[child + 1], &c->pending[child])) {
            child++;
        }
        if (!sooner(&c->pending[child], last)) {
            break;
        }
        c->pending[place] = c->pending[child];
        place = child;
    }
    c->pending[place] = *last;
    return first;
}

static bool valid(struct simulation *s, const struct simulation_request *r, time_ps not_before)
{
    if (r->at >= not_before && r->prompt_tokens > 0 && r->output_tokens > 0) {
        return true;
    }
    (void)!error_set(&s->error, STATUS_INVALID,
                     "request %llu: want at least 1 prompt and 1 output token (got %u, %u) and a "
                     "time not before %lld ps (got %lld)",
                     (unsigned long long)r->number, r->prompt_tokens, r->output_tokens,
                     (long long)not_before, (long long)r->at);
    return false;
}

/* The next one of an open loop. */
static void ask_source(struct simulation *s)
{
    struct client_thread *c = &s->client;
    struct simulation_request request = {0};
    if (c->exhausted || c->pending_count > 0) {
        return;
    }
    if (!s->source.next(s->source.ctx, &request)) {
        c->exhausted = true;
    } else if (valid(s, &request, c->last_at)) {
        c->last_at = request.at;
        pending_put(c, &request);
    }
}

static void ask_user(struct simulation *s, uint32_t user, time_ps now)
{
    struct client_thread *c = &s->client;
    struct simulation_request request = {0};
    if (!s->source.next_of_user(s->source.ctx, user, now, &request)) {
        c->users_left--;
        c->exhausted = c->users_left == 0;
    } else if (valid(s, &request, now)) {
        pending_put(c, &request);
    }
}

/* ---- sending ---- */

static void send_request(struct simulation *s)
{
    struct client_thread *c = &s->client;
    struct ticket *t = ticket_take(s);
    t->request = pending_take(c);
    t->api_server = t->request.user % s->options.api_servers_count;
    station_work(&c->station, station_cost(&s->options.costs.client_request, 1, 0));
    t->sent = c->station.cursor;
    /* The next request is rendered ahead of its time. */
    station_work(&c->station,
                 s->options.costs.client_request.token * (time_ps)t->request.prompt_tokens);
    s->totals.sent_count++;
    c->inflight++;
    s->totals.inflight_max =
        c->inflight > s->totals.inflight_max ? c->inflight : s->totals.inflight_max;
    c->station.books->requests_count++;
    c->station.books->messages_out_count++;
    c->station.books->prompt_tokens += t->request.prompt_tokens;
    if (s->observer.sent != NULL) {
        s->observer.sent(s->observer.ctx, &t->request, t->sent);
    }
    struct api_thread *api = &s->apis[t->api_server];
    time_ps at = t->sent + s->options.costs.tcp;
    /* Of several API servers the first one would be the first to take requests of one time. */
    if (s->options.api_servers_count > 1 || !api_hears_request(s, api, t, at)) {
        letter_send(&c->station, &api->station, HTTP_INBOX,
                    (struct letter){.at = at, .as.number = t->index});
    }
    if (s->source.next != NULL) {
        ask_source(s);
    }
}

/* ---- reading ---- */

static void end_request(struct simulation *s, struct ticket *t, time_ps now)
{
    struct client_thread *c = &s->client;
    struct simulation_end end = {
        .request = &t->request,
        .sent = t->sent,
        .first = t->first,
        .ended = now,
        .output_tokens = t->read_tokens,
        .cached_tokens = t->cached_tokens,
        .engine = t->engine,
        .api_server = t->api_server,
        .failed = t->failed,
    };
    for (uint32_t i = 0; i < SIMULATION_HOPS_COUNT; i++) {
        end.hops[i] = t->hops[i];
    }
    c->inflight--;
    c->station.books->finished_count++;
    c->station.books->failed_count += t->failed ? 1 : 0;
    s->totals.ended_count++;
    s->totals.failed_count += t->failed ? 1 : 0;
    if (s->observer.ended != NULL) {
        s->observer.ended(s->observer.ctx, &end);
    }
    uint32_t user = t->request.user;
    ticket_give(s, t);
    if (s->source.next_of_user != NULL) {
        ask_user(s, user, now);
    }
}

/* `at`: the work of reading it is done. */
static void read_write(struct simulation *s, const struct api_write *w, time_ps at)
{
    struct ticket *t = w->ticket;
    if (w->tokens > 0) {
        if (w->first) {
            t->first = at;
        }
        t->read_tokens += w->tokens;
        if (s->observer.read != NULL) {
            struct simulation_read read = {.number = t->request.number,
                                           .at = at,
                                           .tokens = w->tokens,
                                           .first = w->first,
                                           .last = w->last};
            s->observer.read(s->observer.ctx, &read);
        }
    }
    if (w->last) {
        end_request(s, t, at);
    }
}

bool client_reads(struct simulation *s, const struct api_write *w)
{
    struct station *me = &s->client.station;
    const struct client_thread *c = &s->client;
    time_ps at = w->at + s->options.costs.tcp;
    /* The end of a request is heard of in its turn: behind all that is sent at that time and what
     * other API servers write, and the last one behind what everybody does. */
    bool in_turn = at == s->scene.now && s->options.api_servers_count == 1 &&
                   s->source.next != NULL && c->pending_count > 0 && c->pending[0].at > at;
    if (w->last && !in_turn) {
        return false;
    }
    read_write(s, w, at);
    me->books->output_tokens += w->tokens;
    s->totals.output_tokens += w->tokens;
    s->progress_at = at;
    return true;
}

/* All that was written in one turn of an API server. */
static void read_writes(struct simulation *s, const struct writes_parcel *p)
{
    struct station *me = &s->client.station;
    struct simulation_cost cost = s->options.costs.client_read;
    time_ps tcp = s->options.costs.tcp;
    time_ps cursor = me->cursor;
    time_ps cpu = 0;
    uint64_t tokens = 0;
    for (uint32_t i = 0; i < p->count; i++) {
        const struct api_write *w = &p->writes[i];
        time_ps work = station_cost(&cost, 1, w->tokens);
        cursor = (cursor > w->at + tcp ? cursor : w->at + tcp) + work;
        cpu += work;
        tokens += w->tokens;
        read_write(s, w, cursor);
    }
    me->cursor = cursor;
    me->books->cpu += cpu;
    me->books->output_tokens += tokens;
    s->totals.output_tokens += tokens;
    me->books->messages_in_count++;
    s->progress_at = me->cursor;
}

void client_run(struct station *station)
{
    struct simulation *s = simulation_of(station);
    struct client_thread *c = &s->client;
    const struct letter *letter;
    while (c->pending_count > 0 && c->pending[0].at <= station->now &&
           s->error.status == STATUS_OK) {
        send_request(s);
    }
    while ((letter = station_letter(station, ONLY_INBOX, station->now)) != NULL) {
        struct parcel *p = letter->as.parcel;
        station_drop(station, ONLY_INBOX);
        read_writes(s, (const struct writes_parcel *)p);
        parcel_give(s, p);
    }
    station_wait(station, 1U << ONLY_INBOX, &station->books->idle);
    if (c->pending_count > 0) {
        station_wait_until(station, c->pending[0].at);
    }
}

enum status client_open(struct simulation *s, struct error *error)
{
    struct client_thread *c = &s->client;
    if (s->source.next != NULL) {
        ask_source(s);
    } else {
        c->users_left = s->source.users_count;
        for (uint32_t user = 0; user < s->source.users_count && s->error.status == STATUS_OK;
             user++) {
            ask_user(s, user, 0);
        }
    }
    if (s->error.status != STATUS_OK) {
        *error = s->error;
        return error->status;
    }
    if (c->pending_count > 0) {
        station_release(&c->station, c->pending[0].at);
    }
    return STATUS_OK;
}

void client_destroy(struct client_thread *c)
{
    station_close(&c->station);
    free(c->pending);
}

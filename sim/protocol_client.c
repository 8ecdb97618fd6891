/*
 * protocol_client.c - one API server, driving the production front end, and the workload that its
 * users bring. Driven by protocol_driver.c. It keeps a second copy of what the router should know;
 * it must not look into engine cores.
 */
#include <string.h>

#include "sim/protocol_model.h"

static const double kv_weight = 6.0;

struct protocol_request *protocol_find(struct protocol *d, const char *id)
{
    uint32_t serial = 0;
    if (strlen(id) != 10) {
        return NULL;
    }
    for (const char *c = id + 2; *c != '\0'; c++) {
        serial = serial * 16 + (uint32_t)(*c <= '9' ? *c - '0' : *c - 'a' + 10);
    }
    return serial < d->requests_count && strcmp(id, d->requests[serial].id) == 0
               ? &d->requests[serial]
               : NULL;
}

/* ---- the router, a second time ---- */

static double expected_score(const struct protocol *d, const struct protocol_client *c, uint32_t e)
{
    double loaded = (double)c->counts[e].waiting + (double)c->counts[e].running;
    if (d->router_rule == ROUTER_WEIGHTED_SUM ||
        d->router_rule == ROUTER_WEIGHTED_SUM_FIXED_START) {
        return 4.0 * c->counts[e].waiting + c->counts[e].running;
    }
    double own = (double)d->clients_count * c->inflight[e];
    double score = own > loaded ? own : loaded;
    if (c->counts[e].waiting > 0 && c->counts[e].kv_usage > 0.5) {
        score += kv_weight * c->counts[e].waiting * (c->counts[e].kv_usage - 0.5);
    }
    return score;
}

int32_t protocol_expected_engine(const struct protocol *d, uint32_t client, int32_t rank)
{
    const struct protocol_client *c = &d->clients[client];
    if (rank != RANK_NONE) {
        return rank;
    }
    if (d->router_rule == ROUTER_ROUND_ROBIN || d->router_rule == ROUTER_RUST) {
        return -1;
    }
    uint32_t best = c->start;
    for (uint32_t k = 1; k < d->ranks_count; k++) {
        uint32_t e = (c->start + k) % d->ranks_count;
        if (expected_score(d, c, e) < expected_score(d, c, best)) {
            best = e;
        }
    }
    return (int32_t)best;
}

static bool check_route(struct protocol *d, uint32_t client, int32_t expected, uint32_t engine)
{
    struct protocol_client *c = &d->clients[client];
    PROTOCOL_REQUIRE(d, "I9", engine < d->ranks_count, "client %u routes to engine %u", client,
                     engine);
    PROTOCOL_REQUIRE(d, "I9", expected < 0 || (uint32_t)expected == engine,
                     "client %u routes to engine %u, the rule says %d", client, engine, expected);
    c->inflight[engine]++;
    return true;
}

/* With nothing but zeros known, a client spreads its requests evenly. */
static bool check_burst(struct protocol *d, uint32_t client)
{
    const struct protocol_client *c = &d->clients[client];
    if (d->router_rule != ROUTER_SCORE || !c->burst_clean) {
        return true;
    }
    uint32_t low = UINT32_MAX;
    uint32_t high = 0;
    for (uint32_t e = 0; e < d->ranks_count; e++) {
        low = c->inflight[e] < low ? c->inflight[e] : low;
        high = c->inflight[e] > high ? c->inflight[e] : high;
    }
    PROTOCOL_REQUIRE(d, "I9", high - low <= 1, "client %u sends %u to one engine, %u to another",
                     client, high, low);
    return true;
}

/* ---- requests ---- */

static void send_add(struct protocol *d, struct protocol_request *q)
{
    struct protocol_message *message = protocol_message_new(d, MESSAGE_ADD);
    message->add.request = (uint32_t)(q - d->requests);
    protocol_send(d, &d->to_engine[q->client][q->engine], message);
}

static bool submit(struct protocol *d, uint32_t client, uint32_t index)
{
    struct protocol_client *c = &d->clients[client];
    struct protocol_request *q = &d->requests[index];
    PROTOCOL_REQUIRE(d, "I10", c->greeted == (1U << d->ranks_count) - 1,
                     "client %u routes and has heard of ranks 0x%x only", client, c->greeted);
    int32_t expected = protocol_expected_engine(d, client, q->request.data_parallel_rank);
    struct frontend_send send;
    struct error error;
    enum status status = frontend_submit(c->frontend, &q->request, d->now, &send, &error);
    PROTOCOL_REQUIRE(d, "I1", status == STATUS_OK, "%s refused: %s", q->id, error.text);
    PROTOCOL_EVENT(d, SUBMIT, client, index, send.engine, send.request.current_wave);
    PROTOCOL_REQUIRE(
        d, "I6", strcmp(send.request.id, q->id) == 0 && send.request.client_index == client,
        "%s is sent as %s of client %u", q->id, send.request.id, send.request.client_index);
    if (!check_route(d, client, expected, send.engine)) {
        return false;
    }
    bool rust = d->router_rule == ROUTER_RUST;
    if (q->request.data_parallel_rank == RANK_NONE && !rust) {
        c->counts[send.engine].waiting += d->clients_count;
        bool fixed = d->router_rule == ROUTER_WEIGHTED_SUM_FIXED_START;
        c->start = fixed ? c->start : (c->start + 1) % d->ranks_count;
    }
    c->burst_clean = c->burst_clean && q->request.data_parallel_rank == RANK_NONE;
    q->sent = send.request;
    q->sent.id = q->id;
    q->sent.external_id = NULL;
    q->engine = send.engine;
    q->handle = send.handle;
    q->submitted = true;
    d->report->requests_count++;
    send_add(d, q);
    if (send.first_request) {
        struct protocol_message *message = protocol_message_new(d, MESSAGE_FIRST_REQUEST);
        message->first = (struct first_request){.engine = send.engine, .wave = send.wave};
        protocol_send(d, &d->client_up[client], message);
        d->report->first_requests_count++;
    }
    return check_burst(d, client);
}

static bool send_aborts(struct protocol *d, uint32_t client)
{
    struct frontend_abort abort;
    while (frontend_take_abort(d->clients[client].frontend, &abort)) {
        struct protocol_request *q = protocol_find(d, abort.id);
        PROTOCOL_REQUIRE(d, "I7", q != NULL && q->client == client && q->engine == abort.engine,
                         "client %u aborts %s at engine %u", client, abort.id, abort.engine);
        struct protocol_message *message = protocol_message_new(d, MESSAGE_ABORT);
        message->add.request = (uint32_t)(q - d->requests);
        protocol_send(d, &d->to_engine[client][abort.engine], message);
    }
    return true;
}

static bool cancel(struct protocol *d, uint32_t client, uint32_t index)
{
    struct protocol_client *c = &d->clients[client];
    struct protocol_request *q = &d->requests[index];
    if (!q->submitted || q->delta_finished || q->cancelled) {
        return true;
    }
    PROTOCOL_EVENT(d, CANCEL, client, index);
    d->report->cancels_count++;
    q->cancelled = true;
    frontend_cancel(c->frontend, q->handle);
    if (protocol_chance(&d->events, 30)) {
        frontend_cancel(c->frontend, q->handle); /* nobody else has the handle yet */
    }
    return send_aborts(d, client);
}

/* An ABORT that no front end sends: nobody's id, or one that has ended, or was never added there.
 */
static void strange_abort(struct protocol *d, uint32_t client, uint32_t index)
{
    uint32_t request = index < d->requests_count ? index : PROTOCOL_REQUESTS_MAX;
    bool alive = request < d->requests_count && !d->requests[request].finished_out;
    if (alive && !d->aborts_allowed) {
        request = PROTOCOL_REQUESTS_MAX;
    }
    PROTOCOL_EVENT(d, STRANGE_ABORT, client, request);
    d->report->strange_aborts_count++;
    struct protocol_message *message = protocol_message_new(d, MESSAGE_ABORT);
    message->add.request = request;
    uint32_t engine = protocol_draw(&d->events, 0, d->ranks_count - 1);
    protocol_send(d, &d->to_engine[client][engine], message);
}

/* ---- pauses: one administrator, whose calls go through any client to all engine cores ---- */

static void send_to_all(struct protocol *d, enum protocol_message_kind kind, uint32_t client,
                        uint32_t mode)
{
    for (uint32_t e = 0; e < d->ranks_count; e++) {
        struct protocol_message *message = protocol_message_new(d, kind);
        message->admin.client = client;
        message->admin.mode = (enum pause_mode)mode;
        protocol_send(d, &d->to_engine[client][e], message);
    }
    d->replies_wanted += d->ranks_count;
}

static void ask_pause(struct protocol *d, uint32_t client, uint32_t mode)
{
    if (d->admin == ADMIN_RESUMING || d->resume_wanted || d->clients[client].pausing) {
        return;
    }
    PROTOCOL_EVENT(d, PAUSE, client, mode);
    d->report->pauses_count++;
    d->admin = ADMIN_PAUSING;
    d->clients[client].pausing = true;
    send_to_all(d, MESSAGE_PAUSE, client, mode);
}

static void ask_resume(struct protocol *d, uint32_t client)
{
    PROTOCOL_EVENT(d, RESUME, client);
    d->report->resumes_count++;
    d->admin = ADMIN_RESUMING;
    d->resume_wanted = false;
    send_to_all(d, MESSAGE_RESUME, client, 0);
}

/* One that is not stopped, if there is one. */
static uint32_t any_client(struct protocol *d)
{
    uint32_t client = protocol_draw(&d->events, 0, d->clients_count - 1);
    for (uint32_t k = 0; k < d->clients_count; k++) {
        uint32_t c = (client + k) % d->clients_count;
        if (!protocol_frozen(d, process_of_client(c))) {
            return c;
        }
    }
    return client;
}

void protocol_admin_replied(struct protocol *d)
{
    d->replies_wanted--;
    if (d->replies_wanted > 0) {
        return;
    }
    for (uint32_t c = 0; c < d->clients_count; c++) {
        d->clients[c].pausing = false;
    }
    if (d->admin == ADMIN_RESUMING) {
        d->admin = ADMIN_NONE;
    } else if (d->resume_wanted) {
        ask_resume(d, any_client(d));
    } else {
        d->admin = ADMIN_PAUSED;
    }
}

/*
 * A resume need not wait for the answer to a pause, if it takes the same way as all that are
 * pending: calls that overtake each other would leave ranks in different states.
 */
static void resume_item(struct protocol *d)
{
    uint32_t pausing = 0;
    uint32_t client = 0;
    for (uint32_t c = 0; c < d->clients_count; c++) {
        pausing += d->clients[c].pausing;
        client = d->clients[c].pausing ? c : client;
    }
    if (d->admin == ADMIN_PAUSED) {
        ask_resume(d, any_client(d));
    } else if (d->admin == ADMIN_PAUSING && pausing == 1 && protocol_chance(&d->events, 50)) {
        ask_resume(d, client);
    } else {
        d->resume_wanted = d->admin == ADMIN_PAUSING;
    }
}

/* The API server is stopped: what its users ask waits in its socket. */
static void defer_item(struct protocol *d)
{
    struct protocol_item item = d->items[d->next_item];
    uint32_t at = d->next_item;
    item.at = d->frozen_until[process_of_client(item.client)];
    for (; at + 1 < d->items_count && d->items[at + 1].at <= item.at; at++) {
        d->items[at] = d->items[at + 1];
    }
    d->items[at] = item;
}

bool protocol_item_run(struct protocol *d)
{
    if (protocol_frozen(d, process_of_client(d->items[d->next_item].client))) {
        defer_item(d);
        return true;
    }
    const struct protocol_item item = d->items[d->next_item++];
    bool gone = d->clients[item.client].stage == CLIENT_FAILED;
    if (d->stopping && (gone || d->dead[process_of_client(item.client)])) {
        return true; /* the connection is refused, or answered with an error */
    }
    switch (item.kind) {
    case ITEM_SUBMIT:
        return submit(d, item.client, item.value);
    case ITEM_CANCEL:
        return cancel(d, item.client, item.value);
    case ITEM_STRANGE_ABORT:
        strange_abort(d, item.client, item.value);
        return true;
    case ITEM_PAUSE:
        ask_pause(d, item.client, item.value);
        return true;
    case ITEM_RESUME:
        resume_item(d);
        return true;
    case ITEM_STALL:
        PROTOCOL_EVENT(d, STALL, item.client, item.value);
        d->report->stalls_count++;
        d->clients[item.client].stalled_until = d->now + item.value * PS_PER_MS;
        return true;
    }
    return protocol_fail(d, "driver", "unknown item");
}

/* ---- what comes back ---- */

static bool check_delta(struct protocol *d, uint32_t client, const struct frontend_delta *delta)
{
    PROTOCOL_REQUIRE(d, "I6", delta->serial < d->requests_count, "delta of request %u",
                     delta->serial);
    struct protocol_request *q = &d->requests[delta->serial];
    PROTOCOL_REQUIRE(d, "I6",
                     q->client == client && !q->cancelled && !q->delta_finished &&
                         q->handle == delta->handle,
                     "client %u: a delta of %s after its end", client, q->id);
    q->taken_count += delta->new_tokens_count;
    d->report->tokens_count += delta->new_tokens_count;
    PROTOCOL_REQUIRE(d, "I6",
                     q->taken_count == delta->output_tokens_count &&
                         q->taken_count <= q->delivered_count,
                     "%s: %u tokens taken, %u said, %u delivered", q->id, q->taken_count,
                     delta->output_tokens_count, q->delivered_count);
    if (delta->finish == FINISH_NONE) {
        return true;
    }
    q->delta_finished = true;
    bool failed = d->clients[client].stage == CLIENT_FAILED && !q->last_seen && !q->id_back;
    enum finish_reason want = failed         ? FINISH_ERROR
                              : q->last_seen ? q->expected_finish
                                             : FINISH_ABORT;
    d->report->errors_count += failed;
    PROTOCOL_REQUIRE(d, failed ? "I10" : "I6",
                     delta->finish == want && q->taken_count == q->delivered_count,
                     "%s finishes with %d after %u of %u tokens, want %d", q->id,
                     (int)delta->finish, q->taken_count, q->delivered_count, (int)want);
    PROTOCOL_REQUIRE(d, "I1", q->last_seen || q->abort_seen || failed, "%s ends without a cause",
                     q->id);
    return true;
}

bool protocol_client_take(struct protocol *d, uint32_t client)
{
    struct frontend_delta delta;
    while (frontend_take(d->clients[client].frontend, &delta)) {
        if (!check_delta(d, client, &delta)) {
            return false;
        }
    }
    return true;
}

static bool book_outputs(struct protocol *d, uint32_t client, const struct protocol_outputs *in)
{
    struct protocol_client *c = &d->clients[client];
    for (uint32_t i = 0; i < in->outputs_count; i++) {
        struct protocol_request *q = &d->requests[in->outputs[i].request];
        PROTOCOL_REQUIRE(d, "I6", q->client == client && !q->last_seen,
                         "client %u gets an output of %s", client, q->id);
        q->delivered_count++;
        q->last_seen = in->outputs[i].finish != FINISH_NONE;
    }
    for (uint32_t i = 0; i < in->finished_count; i++) {
        struct protocol_request *q = &d->requests[in->finished[i]];
        PROTOCOL_REQUIRE(d, "I7", !q->id_back, "%s is reported finished twice", q->id);
        q->id_back = true;
        c->inflight[q->engine]--;
        c->burst_clean = false;
    }
    return true;
}

static void book_stats(struct protocol *d, uint32_t client, const struct protocol_outputs *in)
{
    struct protocol_client *c = &d->clients[client];
    if (in->has_stats && d->router_rule == ROUTER_RUST) {
        c->counts[in->engine] = (struct engine_counts){.waiting = in->stats.waiting_count,
                                                       .running = in->stats.running_count,
                                                       .kv_usage = in->stats.kv_cache_usage};
    }
}

static bool take_outputs(struct protocol *d, uint32_t client, const struct protocol_outputs *in)
{
    struct engine_output outputs[PROTOCOL_SEQS_MAX];
    const char *finished[PROTOCOL_REQUESTS_MAX];
    struct frontend *f = d->clients[client].frontend;
    PROTOCOL_EVENT(d, OUTPUTS, client, in->engine, in->outputs_count, in->finished_count);
    bool failed = d->clients[client].stage == CLIENT_FAILED;
    if (!failed && !book_outputs(d, client, in)) {
        return false;
    }
    book_stats(d, client, in);
    for (uint32_t i = 0; i < in->outputs_count; i++) {
        outputs[i] = (struct engine_output){
            .id = d->requests[in->outputs[i].request].id,
            .new_token_ids = &in->outputs[i].token,
            .new_tokens_count = 1,
            .finish = in->outputs[i].finish,
            .stop_token_id = in->outputs[i].stop_token_id,
            .first = in->outputs[i].first,
        };
    }
    for (uint32_t i = 0; i < in->finished_count; i++) {
        finished[i] = d->requests[in->finished[i]].id;
    }
    const struct engine_outputs message = {
        .engine_index = in->engine,
        .outputs = outputs,
        .outputs_count = in->outputs_count,
        .stats = in->has_stats ? &in->stats : NULL,
        .timestamp = d->now,
        .finished_ids = finished,
        .finished_ids_count = in->finished_count,
        .wave_complete = -1,
        .start_wave = -1,
    };
    frontend_outputs_begin(f, &message);
    while (frontend_outputs_slice(f, d->now) > 0) {
    }
    bool lazy = !failed && protocol_chance(&d->events, d->lazy_consumer_percent);
    return (lazy || protocol_client_take(d, client)) && send_aborts(d, client);
}

/* All states that wait, of which the last one counts. */
static void take_states(struct protocol *d, uint32_t client, struct protocol_message *message)
{
    struct protocol_client *c = &d->clients[client];
    while (protocol_link_next(&d->client_down[client]) <= d->now) {
        protocol_message_free(d, message);
        message = protocol_take(d, &d->client_down[client]);
    }
    const struct coordinator_state *state = &message->state.state;
    frontend_coordinator_state(c->frontend, state);
    PROTOCOL_EVENT(d, STATE, client, state->wave, state->running, state->counts != NULL);
    for (uint32_t e = 0; e < d->ranks_count && state->counts != NULL; e++) {
        if (d->router_rule != ROUTER_RUST) {
            c->counts[e] = state->counts[e];
        }
        c->burst_clean = c->burst_clean && state->counts[e].waiting + state->counts[e].running == 0;
    }
    protocol_message_free(d, message);
}

static struct protocol_link *first_input(struct protocol *d, uint32_t client)
{
    struct protocol_link *first = &d->client_down[client];
    for (uint32_t e = 0; e < d->ranks_count; e++) {
        struct protocol_link *link = &d->to_client[client][e];
        if (protocol_link_next(link) < protocol_link_next(first)) {
            first = link;
        }
    }
    return first;
}

time_ps protocol_client_next(const struct protocol *d, uint32_t client)
{
    const struct protocol_client *c = &d->clients[client];
    if (d->dead[process_of_client(client)]) {
        return TIME_NEVER;
    }
    if (c->stage <= CLIENT_BOUND) {
        return protocol_client_start_next(d, client);
    }
    time_ps first = protocol_link_next(&d->client_down[client]);
    for (uint32_t e = 0; e < d->ranks_count; e++) {
        time_ps at = protocol_link_next(&d->to_client[client][e]);
        first = at < first ? at : first;
    }
    return first > c->stalled_until ? first : c->stalled_until;
}

bool protocol_client_run(struct protocol *d, uint32_t client)
{
    if (d->clients[client].stage <= CLIENT_BOUND) {
        return protocol_client_start(d, client);
    }
    struct protocol_message *message = protocol_take(d, first_input(d, client));
    bool good = true;
    if (message->kind == MESSAGE_STATE) {
        take_states(d, client, message);
        return protocol_check_client(d, client);
    }
    if (message->kind == MESSAGE_OUTPUTS) {
        good = take_outputs(d, client, &message->outputs);
    } else if (message->kind == MESSAGE_DEAD) {
        good = d->clients[client].stage == CLIENT_FAILED || protocol_client_fail(d, client);
    } else {
        PROTOCOL_EVENT(d, REPLY, client);
        protocol_admin_replied(d);
    }
    protocol_message_free(d, message);
    return good && protocol_check_client(d, client);
}

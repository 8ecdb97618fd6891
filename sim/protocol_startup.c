/*
 * protocol_startup.c - how the system starts: the launcher around the production barrier, whose
 * rules are written a second time to compare with, and what engine cores and API servers do until
 * they work. Driven by protocol_driver.c. It draws which of them does something wrong, and holds
 * the barrier to refusing it.
 */
#include "sim/protocol_model.h"

static const char config[] = "parallel config";

/* ---- what is drawn ---- */

static enum startup_fault draw_fault(struct protocol *d, struct random *r)
{
    if (!protocol_chance(r, 8)) {
        return FAULT_NONE;
    }
    uint32_t first = d->lockstep ? FAULT_HASH : FAULT_READY_EARLY;
    return (enum startup_fault)protocol_draw(r, first, FAULT_BOUND_TWICE);
}

static void draw_times(struct protocol *d, struct random *r)
{
    for (uint32_t e = 0; e < d->ranks_count; e++) {
        d->ranks[e].stage = RANK_START;
        d->ranks[e].wait = RANK_RUNNABLE;
        d->ranks[e].resume_at = random_range(r, 0, 200 * PS_PER_MS);
    }
    for (uint32_t c = 0; c < d->clients_count; c++) {
        d->clients[c].start_at = random_range(r, 0, 200 * PS_PER_MS);
    }
}

static void draw_start_link(struct protocol_link *link, struct random *r)
{
    link->delay_mean = protocol_draw(r, 0, 1) * 20 * PS_PER_MS + 100 * PS_PER_US;
    link->delay_shape = protocol_draw(r, 0, 2);
}

static void draw_start_links(struct protocol *d, struct random *r)
{
    for (uint32_t e = 0; e < d->ranks_count; e++) {
        draw_start_link(&d->handshake_up[e], r);
        draw_start_link(&d->handshake_down[e], r);
        for (uint32_t c = 0; c < d->clients_count; c++) {
            draw_start_link(&d->greetings[c][e], r);
        }
    }
    for (uint32_t c = 0; c < d->clients_count; c++) {
        draw_start_link(&d->reports[c], r);
    }
}

void protocol_draw_startup(struct protocol *d)
{
    struct protocol_launcher *l = &d->launcher;
    struct random stream = random_stream(d->seed, "protocol-startup", 0);
    struct random *r = &stream;
    l->fault = draw_fault(d, r);
    l->faulty = protocol_draw(
        r, 0, (l->fault == FAULT_BOUND_TWICE ? d->clients_count : d->ranks_count) - 1);
    l->options = (struct startup_options){
        .engines_count = d->ranks_count,
        .local_count = protocol_draw(r, 1, d->ranks_count),
        .remote_headless = protocol_chance(r, 50),
        .config_hash = d->lockstep ? config : NULL,
        .api_servers_count = d->clients_count,
    };
    /* Ranks that differ must not take a step together. */
    l->early_users =
        protocol_chance(r, 40) && l->fault != FAULT_HASH && l->fault != FAULT_HASH_MISSING;
    draw_times(d, r);
    draw_start_links(d, r);
}

/* ---- engine cores ---- */

static void send_handshake(struct protocol *d, uint32_t rank, bool ready)
{
    const struct protocol_launcher *l = &d->launcher;
    enum startup_fault fault = l->faulty == rank ? l->fault : FAULT_NONE;
    bool local = rank < l->options.local_count;
    struct protocol_message *message = protocol_message_new(d, MESSAGE_HANDSHAKE);
    message->handshake.rank = fault == FAULT_RANK ? d->ranks_count + rank : rank;
    message->handshake.message = (struct startup_message){
        .ready = ready,
        .local = local == (fault != FAULT_LOCAL),
        .headless = (!local && l->options.remote_headless) == (fault != FAULT_HEADLESS),
        .config_hash = d->lockstep ? config : NULL,
    };
    if (fault == FAULT_HASH || fault == FAULT_HASH_MISSING) {
        message->handshake.message.config_hash = fault == FAULT_HASH ? "parallel confiG" : NULL;
    }
    protocol_send(d, &d->handshake_up[rank], message);
}

static void say_hello(struct protocol *d, uint32_t rank)
{
    struct protocol_launcher *l = &d->launcher;
    struct protocol_rank *r = &d->ranks[rank];
    send_handshake(d, rank, false);
    if (l->faulty == rank && (l->fault == FAULT_HELLO_TWICE || l->fault == FAULT_READY_EARLY)) {
        send_handshake(d, rank, l->fault == FAULT_READY_EARLY);
    }
    r->stage = RANK_HELLO;
    r->wait = RANK_IDLE;
}

static void take_init(struct protocol *d, uint32_t rank)
{
    struct protocol_rank *r = &d->ranks[rank];
    protocol_message_free(d, protocol_take(d, &d->handshake_down[rank]));
    PROTOCOL_EVENT(d, INIT, rank);
    r->stage = RANK_LOADED;
    r->wait = RANK_RUNNABLE;
    r->resume_at = d->now + random_range(&d->events, 0, 200 * PS_PER_MS);
}

static void loaded(struct protocol *d, uint32_t rank)
{
    struct protocol_rank *r = &d->ranks[rank];
    PROTOCOL_EVENT(d, LOADED, rank);
    protocol_send(d, &d->engine_up[rank], protocol_message_new(d, MESSAGE_SUBSCRIBE));
    for (uint32_t c = 0; c < d->clients_count; c++) {
        struct protocol_message *message = protocol_message_new(d, MESSAGE_GREETING);
        message->handshake.rank = rank;
        protocol_send(d, &d->greetings[c][rank], message);
    }
    r->stage = RANK_BOOT;
    r->wait = RANK_IDLE;
}

/* Before READY nothing else is looked at. */
static bool boot(struct protocol *d, uint32_t rank)
{
    struct protocol_message *message = protocol_take(d, &d->engine_down[rank]);
    bool ready = message->kind == MESSAGE_READY;
    protocol_message_free(d, message);
    PROTOCOL_REQUIRE(d, "I10", ready, "rank %u is told something before READY", rank);
    PROTOCOL_REQUIRE(d, "I10", d->subscribed_count >= d->ranks_count,
                     "rank %u is READY after %u of %u subscriptions", rank, d->subscribed_count,
                     d->ranks_count);
    send_handshake(d, rank, true);
    if (d->launcher.faulty == rank && d->launcher.fault == FAULT_READY_TWICE) {
        send_handshake(d, rank, true);
    }
    d->ranks[rank].stage = RANK_DRAIN;
    return true;
}

bool protocol_rank_start(struct protocol *d, uint32_t rank)
{
    switch (d->ranks[rank].stage) {
    case RANK_START:
        say_hello(d, rank);
        return true;
    case RANK_HELLO:
        take_init(d, rank);
        return true;
    case RANK_LOADED:
        loaded(d, rank);
        return true;
    case RANK_BOOT:
        return boot(d, rank);
    case RANK_DRAIN:
    case RANK_RESUMED:
    case RANK_TURN:
    case RANK_COMPLETE:
    case RANK_WAVE:
    case RANK_CHECKED:
        break;
    }
    return protocol_fail(d, "driver", "rank %u has started", rank);
}

/* ---- clients ---- */

static uint32_t all_ranks(const struct protocol *d)
{
    return (1U << d->ranks_count) - 1;
}

static void report(struct protocol *d, uint32_t client, enum protocol_message_kind kind)
{
    protocol_send(d, &d->reports[client], protocol_message_new(d, kind));
}

static void open_users(struct protocol *d)
{
    d->users_open = true;
    for (uint32_t i = 0; i < d->items_count; i++) {
        d->items[i].at += d->now;
    }
    protocol_apply_end(d);
}

static struct protocol_link *first_greeting(struct protocol *d, uint32_t client)
{
    struct protocol_link *first = &d->greetings[client][0];
    for (uint32_t e = 1; e < d->ranks_count; e++) {
        if (protocol_link_next(&d->greetings[client][e]) < protocol_link_next(first)) {
            first = &d->greetings[client][e];
        }
    }
    return first;
}

static bool greeted(struct protocol *d, uint32_t client)
{
    struct protocol_client *c = &d->clients[client];
    struct protocol_message *message = protocol_take(d, first_greeting(d, client));
    uint32_t rank = message->handshake.rank;
    protocol_message_free(d, message);
    PROTOCOL_REQUIRE(d, "I10", (c->greeted & 1U << rank) == 0,
                     "rank %u tells client %u twice that it is there", rank, client);
    c->greeted |= 1U << rank;
    PROTOCOL_EVENT(d, GREETED, client, rank, c->greeted == all_ranks(d));
    if (c->greeted == all_ranks(d)) {
        c->stage = CLIENT_OPEN;
        report(d, client, MESSAGE_SERVING);
        if (d->launcher.early_users && !d->users_open) {
            open_users(d);
        }
    }
    return true;
}

time_ps protocol_client_start_next(const struct protocol *d, uint32_t client)
{
    const struct protocol_client *c = &d->clients[client];
    if (c->stage == CLIENT_START) {
        return c->start_at;
    }
    time_ps first = TIME_NEVER;
    for (uint32_t e = 0; e < d->ranks_count; e++) {
        time_ps at = protocol_link_next(&d->greetings[client][e]);
        first = at < first ? at : first;
    }
    return first;
}

bool protocol_client_start(struct protocol *d, uint32_t client)
{
    struct protocol_client *c = &d->clients[client];
    if (c->stage == CLIENT_BOUND) {
        return greeted(d, client);
    }
    c->stage = CLIENT_BOUND;
    c->subscribe_at += d->now;
    c->subscribing = true;
    report(d, client, MESSAGE_BOUND);
    if (d->launcher.fault == FAULT_BOUND_TWICE && d->launcher.faulty == client) {
        report(d, client, MESSAGE_BOUND);
    }
    return true;
}

time_ps protocol_item_next(const struct protocol *d)
{
    if (d->next_item == d->items_count || !d->users_open) {
        return TIME_NEVER;
    }
    const struct protocol_item *item = &d->items[d->next_item];
    for (uint32_t c = 0; c < d->clients_count; c++) {
        bool needed = c == item->client || item->kind == ITEM_RESUME;
        if (needed && d->clients[c].stage < CLIENT_OPEN) {
            return TIME_NEVER;
        }
    }
    return item->at;
}

/* ---- the launcher ---- */

/* Whether a HELLO or READY is legal, by the sets of what was heard before. */
static bool legal(const struct protocol *d, uint32_t rank, const struct startup_message *m)
{
    const struct protocol_launcher *l = &d->launcher;
    if (rank >= d->ranks_count) {
        return false;
    }
    uint32_t bit = 1U << rank;
    bool local = rank < l->options.local_count;
    bool placed = m->local == local && m->headless == (!local && l->options.remote_headless);
    bool differs = l->faulty == rank && (l->fault == FAULT_HASH || l->fault == FAULT_HASH_MISSING);
    if (m->ready) {
        return placed && (l->told & bit) != 0 && (l->ready & bit) == 0 && !differs;
    }
    return placed && (l->greeted & bit) == 0;
}

static bool hear_engine(struct protocol *d, const struct protocol_message *message)
{
    struct protocol_launcher *l = &d->launcher;
    uint32_t rank = message->handshake.rank;
    const struct startup_message *m = &message->handshake.message;
    bool want = legal(d, rank, m);
    bool good = startup_heard(l->barrier, rank, m, NULL) == STATUS_OK;
    bool hash = l->fault == FAULT_HASH || l->fault == FAULT_HASH_MISSING;
    PROTOCOL_REQUIRE(d, hash ? "I13" : "I10", good == want, "the launcher %s %s of rank %u",
                     good ? "takes" : "refuses", m->ready ? "READY" : "HELLO", rank);
    l->refused = !good;
    if (m->ready) {
        l->ready |= good ? 1U << rank : 0;
        PROTOCOL_EVENT(d, RANK_READY, rank, startup_engines_ready(l->barrier), !good);
        PROTOCOL_REQUIRE(d, "I10", !good || l->fault == FAULT_READY_EARLY || d->ready_sent,
                         "rank %u is READY after %u of %u subscriptions", rank, d->subscribed_count,
                         d->ranks_count);
    } else {
        l->greeted |= good ? 1U << rank : 0;
        PROTOCOL_EVENT(d, HELLO, rank, l->bound_count, !good);
    }
    return true;
}

static bool hear_client(struct protocol *d, const struct protocol_message *message)
{
    struct protocol_launcher *l = &d->launcher;
    bool bound = message->kind == MESSAGE_BOUND;
    enum status status = bound ? startup_api_server_bound(l->barrier, NULL)
                               : startup_api_server_ready(l->barrier, NULL);
    bool want = bound ? l->bound_count < d->clients_count : l->serving_count < l->bound_count;
    PROTOCOL_REQUIRE(d, "I10", (status == STATUS_OK) == want, "the launcher %s that API server",
                     want ? "refuses" : "takes");
    l->refused = !want;
    if (bound) {
        l->bound_count += want;
        PROTOCOL_EVENT(d, BOUND, l->bound_count, !want);
    } else {
        l->serving_count += want;
    }
    return true;
}

static bool tell_inits(struct protocol *d)
{
    struct protocol_launcher *l = &d->launcher;
    uint32_t rank;
    while (startup_take_init(l->barrier, &rank)) {
        PROTOCOL_REQUIRE(d, "I10", l->bound_count == d->clients_count,
                         "INIT to rank %u when %u of %u API servers are bound", rank,
                         l->bound_count, d->clients_count);
        PROTOCOL_REQUIRE(d, "I10", rank < d->ranks_count, "INIT to unknown rank %u", rank);
        uint32_t bit = 1U << rank;
        uint32_t due = l->greeted & ~l->told;
        PROTOCOL_REQUIRE(d, "I10", (due & bit) != 0 && (due & (bit - 1)) == 0,
                         "INIT to rank %u, due are 0x%x", rank, due);
        l->told |= bit;
        protocol_send(d, &d->handshake_down[rank], protocol_message_new(d, MESSAGE_INIT));
    }
    PROTOCOL_REQUIRE(d, "I10", l->bound_count < d->clients_count || l->told == l->greeted,
                     "all API servers are bound and ranks 0x%x get no INIT", l->greeted & ~l->told);
    return true;
}

/* Everybody works from now on, by their own state. */
static bool check_serving(struct protocol *d)
{
    for (uint32_t e = 0; e < d->ranks_count; e++) {
        bool fooled = d->launcher.fault == FAULT_READY_EARLY && d->launcher.faulty == e;
        PROTOCOL_REQUIRE(d, "I10", d->ranks[e].stage >= RANK_DRAIN || fooled,
                         "the system serves and rank %u is not ready", e);
    }
    for (uint32_t c = 0; c < d->clients_count; c++) {
        PROTOCOL_REQUIRE(d, "I10", d->clients[c].stage == CLIENT_OPEN || d->stopping,
                         "the system serves and client %u is not open", c);
    }
    enum startup_fault fault = d->launcher.fault;
    PROTOCOL_REQUIRE(d, "I13", fault != FAULT_HASH && fault != FAULT_HASH_MISSING,
                     "the system serves and rank %u differs", d->launcher.faulty);
    return true;
}

static bool check_barrier(struct protocol *d)
{
    struct protocol_launcher *l = &d->launcher;
    uint32_t ready = (uint32_t)__builtin_popcount(l->ready);
    bool serving = ready == d->ranks_count && l->serving_count == d->clients_count;
    PROTOCOL_REQUIRE(d, "I10",
                     startup_serving(l->barrier) == serving &&
                         startup_engines_ready(l->barrier) == ready &&
                         startup_api_servers_ready(l->barrier) == l->serving_count,
                     "serving %d with %u of %u ranks and %u of %u clients",
                     startup_serving(l->barrier), startup_engines_ready(l->barrier), ready,
                     startup_api_servers_ready(l->barrier), l->serving_count);
    PROTOCOL_REQUIRE(d, "I13", !l->refused || !serving, "a refused start-up serves");
    if (!serving) {
        return true;
    }
    l->serving = true;
    PROTOCOL_EVENT(d, SERVING, l->serving_count, ready);
    if (!d->users_open && !d->stopping) {
        open_users(d);
    }
    return check_serving(d);
}

static struct protocol_link *first_report(struct protocol *d)
{
    struct protocol_link *first = &d->handshake_up[0];
    for (uint32_t e = 1; e < d->ranks_count; e++) {
        if (protocol_link_next(&d->handshake_up[e]) < protocol_link_next(first)) {
            first = &d->handshake_up[e];
        }
    }
    for (uint32_t c = 0; c < d->clients_count; c++) {
        if (protocol_link_next(&d->reports[c]) < protocol_link_next(first)) {
            first = &d->reports[c];
        }
    }
    return first;
}

time_ps protocol_launcher_next(const struct protocol *d)
{
    time_ps first = TIME_NEVER;
    if (d->dead[PROCESS_LAUNCHER]) {
        return TIME_NEVER;
    }
    for (uint32_t e = 0; e < d->ranks_count; e++) {
        time_ps at = protocol_link_next(&d->handshake_up[e]);
        first = at < first ? at : first;
    }
    for (uint32_t c = 0; c < d->clients_count; c++) {
        time_ps at = protocol_link_next(&d->reports[c]);
        first = at < first ? at : first;
    }
    return first;
}

bool protocol_launcher_run(struct protocol *d)
{
    struct protocol_launcher *l = &d->launcher;
    struct protocol_message *message = protocol_take(d, first_report(d));
    /* Once all are ready, or it gave up, it listens no more. */
    bool good = true;
    if (!l->serving && !l->refused) {
        good = (message->kind == MESSAGE_HANDSHAKE ? hear_engine(d, message)
                                                   : hear_client(d, message)) &&
               (l->refused || tell_inits(d)) && check_barrier(d);
        if (l->refused) {
            d->report->refused_count++;
            protocol_stop_all(d);
        }
    }
    protocol_message_free(d, message);
    return good;
}

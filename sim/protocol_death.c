/*
 * protocol_death.c - the end of processes: one that dies by the plan, or a start-up that was
 * refused, and how the others follow. What watches whom is this file's model; that every request
 * ends then is the production front end's work. Driven by protocol_driver.c.
 */
#include "sim/protocol_model.h"

void protocol_begin_life(struct protocol *d)
{
    for (uint32_t p = 0; p < PROTOCOL_PROCESSES_MAX; p++) {
        bool rank = p < PROTOCOL_RANKS_MAX;
        bool client = !rank && p < PROCESS_COORDINATOR;
        d->dead[p] =
            (rank && p >= d->ranks_count) || (client && p - PROTOCOL_RANKS_MAX >= d->clients_count);
        d->stop_at[p] = TIME_NEVER;
    }
}

/* ---- links of the dead ---- */

static void cut(struct protocol *d, struct protocol_link *to, struct protocol_link *from)
{
    to->cut = true;
    from->cut = true;
    protocol_link_drop(d, to);
    /* What it had sent was still in its own memory, or already in a socket of the other. */
    if (protocol_chance(&d->events, 50)) {
        protocol_link_drop(d, from);
    }
}

static void cut_rank(struct protocol *d, uint32_t rank)
{
    for (uint32_t c = 0; c < d->clients_count; c++) {
        cut(d, &d->to_engine[c][rank], &d->to_client[c][rank]);
        cut(d, &d->to_engine[c][rank], &d->greetings[c][rank]);
    }
    cut(d, &d->engine_down[rank], &d->engine_up[rank]);
    cut(d, &d->handshake_down[rank], &d->handshake_up[rank]);
}

static void cut_client(struct protocol *d, uint32_t client)
{
    for (uint32_t e = 0; e < d->ranks_count; e++) {
        cut(d, &d->to_client[client][e], &d->to_engine[client][e]);
        cut(d, &d->greetings[client][e], &d->to_engine[client][e]);
    }
    cut(d, &d->client_down[client], &d->client_up[client]);
    cut(d, &d->client_down[client], &d->reports[client]);
}

static void cut_coordinator(struct protocol *d)
{
    for (uint32_t e = 0; e < d->ranks_count; e++) {
        cut(d, &d->engine_up[e], &d->engine_down[e]);
    }
    for (uint32_t c = 0; c < d->clients_count; c++) {
        cut(d, &d->client_up[c], &d->client_down[c]);
    }
}

static void cut_launcher(struct protocol *d)
{
    for (uint32_t e = 0; e < d->ranks_count; e++) {
        cut(d, &d->handshake_up[e], &d->handshake_down[e]);
    }
    for (uint32_t c = 0; c < d->clients_count; c++) {
        d->reports[c].cut = true;
        protocol_link_drop(d, &d->reports[c]);
    }
}

static void end_process(struct protocol *d, uint32_t process)
{
    d->dead[process] = true;
    d->stop_at[process] = TIME_NEVER;
    if (process < PROTOCOL_RANKS_MAX) {
        cut_rank(d, process);
    } else if (process < PROCESS_COORDINATOR) {
        cut_client(d, process - PROTOCOL_RANKS_MAX);
    } else if (process == PROCESS_COORDINATOR) {
        cut_coordinator(d);
    } else {
        cut_launcher(d);
    }
}

/* ---- who hears of it, and when ---- */

void protocol_stop_all(struct protocol *d)
{
    if (d->stopping) {
        return;
    }
    time_ps launcher = d->frozen_until[PROCESS_LAUNCHER];
    d->stopping = true;
    d->stopping_since = launcher > d->now && !d->dead[PROCESS_LAUNCHER] ? launcher : d->now;
    for (uint32_t p = 0; p < PROTOCOL_PROCESSES_MAX; p++) {
        if (!d->dead[p]) {
            d->stop_at[p] = d->stopping_since + random_range(&d->events, 0, 100 * PS_PER_MS);
        }
    }
}

/* An engine core that ends by an error of its own says so; one that is killed does not. */
static void say_dead(struct protocol *d, uint32_t rank)
{
    for (uint32_t c = 0; c < d->clients_count; c++) {
        struct protocol_link *link = &d->to_client[c][rank];
        link->cut = d->dead[process_of_client(c)];
        protocol_send(d, link, protocol_message_new(d, MESSAGE_DEAD));
        link->cut = true;
    }
}

void protocol_die(struct protocol *d, uint32_t victim)
{
    PROTOCOL_EVENT(d, DEATH, victim);
    d->report->deaths_count++;
    d->killed[victim] = true;
    bool worked = victim < PROTOCOL_RANKS_MAX && d->ranks[victim].stage >= RANK_DRAIN;
    end_process(d, victim);
    if (worked && protocol_chance(&d->events, 50)) {
        say_dead(d, victim);
    }
    protocol_stop_all(d);
}

static uint32_t first_to_stop(const struct protocol *d)
{
    uint32_t first = 0;
    for (uint32_t p = 1; p < PROTOCOL_PROCESSES_MAX; p++) {
        first = d->stop_at[p] < d->stop_at[first] ? p : first;
    }
    return first;
}

time_ps protocol_stop_next(const struct protocol *d)
{
    return d->stop_at[first_to_stop(d)];
}

/* A process that is stopped hears of nothing before it goes on; the launcher's SIGKILL ends it. */
static bool wait_for_frozen(struct protocol *d, uint32_t process)
{
    time_ps limit = d->stopping_since + PROTOCOL_KILL_MS * PS_PER_MS;
    time_ps until = d->frozen_until[process] < limit ? d->frozen_until[process] : limit;
    if (until > d->now) {
        d->stop_at[process] = until;
        return true;
    }
    d->killed[process] = true;
    return false;
}

bool protocol_stop_run(struct protocol *d)
{
    uint32_t p = first_to_stop(d);
    if (protocol_frozen(d, p) && wait_for_frozen(d, p)) {
        return true;
    }
    bool client = p >= PROTOCOL_RANKS_MAX && p < PROCESS_COORDINATOR;
    if (client && !d->killed[p] && d->clients[p - PROTOCOL_RANKS_MAX].stage != CLIENT_FAILED) {
        return protocol_client_fail(d, p - PROTOCOL_RANKS_MAX);
    }
    PROTOCOL_EVENT(d, STOPPED, p);
    end_process(d, p);
    return true;
}

/* ---- requests ---- */

bool protocol_client_fail(struct protocol *d, uint32_t client)
{
    struct protocol_client *c = &d->clients[client];
    struct frontend_abort abort;
    /* It still writes what it has, and reads what comes. */
    d->stop_at[process_of_client(client)] = d->now + random_range(&d->events, 0, 100 * PS_PER_MS);
    c->stage = CLIENT_FAILED;
    c->stalled_until = 0;
    frontend_fail_all(c->frontend);
    if (!protocol_client_take(d, client)) {
        return false;
    }
    PROTOCOL_EVENT(d, FAILED, client, (uint32_t)d->report->errors_count);
    for (uint32_t i = 0; i < d->requests_count; i++) {
        const struct protocol_request *q = &d->requests[i];
        bool pending = q->submitted && q->client == client && !q->delta_finished && !q->cancelled;
        PROTOCOL_REQUIRE(d, "I10", !pending, "client %u fails and %s hangs", client, q->id);
    }
    PROTOCOL_REQUIRE(d, "I10",
                     frontend_open(c->frontend) == 0 && frontend_inflight(c->frontend) == 0 &&
                         !frontend_take_abort(c->frontend, &abort),
                     "client %u fails and keeps %u open, %u in flight, or an abort", client,
                     frontend_open(c->frontend), frontend_inflight(c->frontend));
    for (uint32_t e = 0; e < d->ranks_count; e++) {
        c->inflight[e] = 0;
    }
    return protocol_check_client(d, client);
}

bool protocol_all_dead(const struct protocol *d)
{
    for (uint32_t p = 0; p < PROTOCOL_PROCESSES_MAX; p++) {
        if (!d->dead[p]) {
            return false;
        }
    }
    return true;
}

bool protocol_check_stopped(struct protocol *d)
{
    PROTOCOL_REQUIRE(d, "I10", d->now - d->stopping_since <= PROTOCOL_GRACE_MS * PS_PER_MS,
                     "the last process ends %.3f s after the first",
                     (double)(d->now - d->stopping_since) / (double)PS_PER_S);
    for (uint32_t i = 0; i < d->requests_count; i++) {
        /* Of a client that was killed the connections are closed by the system. */
        const struct protocol_request *q = &d->requests[i];
        PROTOCOL_REQUIRE(d, "I10",
                         !q->submitted || q->delta_finished || q->cancelled ||
                             d->killed[process_of_client(q->client)],
                         "%s never ended", q->id);
        PROTOCOL_REQUIRE(d, "I13", !q->submitted || !d->launcher.refused || d->launcher.early_users,
                         "a refused start-up serves %s", q->id);
    }
    PROTOCOL_REQUIRE(d, "I13", !d->launcher.refused || !startup_serving(d->launcher.barrier),
                     "a refused start-up serves");
    return true;
}

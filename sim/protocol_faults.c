/*
 * protocol_faults.c - the plan of a run: drawn from the seed by counter-based numbers, laid over
 * the topology and the workload, and carried out, one fault after the other. Driven by
 * protocol_driver.c. Production objects see nothing of it but late messages and late calls.
 *
 * One rank never joins a system that runs: a process that fails ends all. What exists, and is
 * modelled by `rejoin`, are connections that are made anew. Of a rank: its subscription comes a
 * second time and its last notices with it, by now of old waves or duplicates. Of an API server:
 * what is published meanwhile is lost, so that its stamps are of old waves until it hears again.
 */
#include <stdlib.h>
#include <string.h>

#include "sim/protocol_model.h"

/* ---- drawing ---- */

/* Number `count` of a seed, whatever else was drawn. */
struct counter {
    uint64_t key;
    uint64_t count;
};

static uint32_t draw(struct counter *r, uint32_t lo, uint32_t hi)
{
    return lo + (uint32_t)(random_at(r->key, r->count++) % (hi - lo + 1));
}

static bool chance(struct counter *r, uint32_t percent)
{
    return draw(r, 0, 99) < percent;
}

static uint32_t draw_process(const struct protocol *d, struct counter *r)
{
    uint32_t index = draw(r, 0, d->ranks_count + d->clients_count + 1);
    if (index < d->ranks_count) {
        return index;
    }
    index -= d->ranks_count;
    return index < d->clients_count ? process_of_client(index)
                                    : PROCESS_COORDINATOR + index - d->clients_count;
}

/* While the system starts, or near something that its users do. */
static uint32_t draw_at(const struct protocol *d, struct counter *r)
{
    enum {
        START_US = 600000, /* about when users come */
        BEFORE_US = 100000,
    };
    uint32_t noise = draw(r, 0, 300) * 1000 + draw(r, 0, 999);
    uint32_t item = draw(r, 0, d->items_count - 1);
    if (chance(r, 20)) {
        return draw(r, 0, START_US);
    }
    /* The last resume is long after everything else. */
    while (item > 0 && d->items[item].kind == ITEM_RESUME) {
        item--;
    }
    return (uint32_t)(d->items[item].at / PS_PER_US) + START_US - BEFORE_US + noise;
}

/* Mostly as short as a step, sometimes longer than a publish interval or a time-out. */
static uint32_t draw_ms(struct counter *r)
{
    uint32_t size = draw(r, 0, 9);
    return 1000 * draw(r, 1, size < 5 ? 50 : size < 9 ? 500 : 4000);
}

static struct protocol_fault draw_fault(const struct protocol *d, struct counter *r)
{
    static const enum protocol_fault_kind kinds[] = {PROTOCOL_DELAY, PROTOCOL_REORDER,
                                                     PROTOCOL_PAUSE, PROTOCOL_PAUSE,
                                                     PROTOCOL_SLOW,  PROTOCOL_REJOIN};
    struct protocol_fault f = {.kind = kinds[draw(r, 0, 5)], .at_us = draw_at(d, r)};
    f.process = draw_process(d, r);
    switch (f.kind) {
    case PROTOCOL_DELAY:
        f.to = f.process < PROTOCOL_RANKS_MAX || chance(r, 30) ? draw_process(d, r)
                                                               : draw(r, 0, d->ranks_count - 1);
        f.by_us = draw_ms(r) / 2;
        f.for_us = draw_ms(r);
        break;
    case PROTOCOL_REORDER:
        f.process = 0;
        f.by_us = draw_ms(r) / 2;
        f.for_us = draw_ms(r);
        break;
    case PROTOCOL_PAUSE:
        f.for_us = draw_ms(r);
        break;
    case PROTOCOL_SLOW:
        f.process = draw(r, 0, d->ranks_count - 1);
        f.factor = draw(r, 2, 16);
        if (chance(r, 50)) {
            f.at_us = 0;
        } else {
            f.for_us = draw_ms(r);
        }
        break;
    case PROTOCOL_REJOIN:
        f.process = chance(r, 50) ? draw(r, 0, d->ranks_count - 1)
                                  : process_of_client(draw(r, 0, d->clients_count - 1));
        f.for_us = f.process < PROTOCOL_RANKS_MAX ? 0 : draw_ms(r);
        break;
    case PROTOCOL_CRASH:
    case PROTOCOL_FAULT_KINDS:
        break;
    }
    return f;
}

/* Half of the seeds go without, so that nothing that is found there is covered up. */
void protocol_draw_plan(struct protocol *d)
{
    struct counter r = {.key = random_at(d->seed, 0x6661756c74)};
    struct protocol_plan *plan = &d->plan;
    uint32_t faults = chance(&r, 50) ? draw(&r, 1, 3) : 0;
    for (uint32_t i = 0; i < faults; i++) {
        plan->faults[plan->faults_count++] = draw_fault(d, &r);
    }
    if (chance(&r, 10)) {
        plan->faults[plan->faults_count++] = (struct protocol_fault){
            .kind = PROTOCOL_CRASH, .process = draw_process(d, &r), .at_us = draw_at(d, &r)};
    }
}

/* ---- what takes part ---- */

uint32_t protocol_parts(const struct protocol *d)
{
    static const uint32_t parts[] = {
        [ITEM_SUBMIT] = 0,
        [ITEM_CANCEL] = PROTOCOL_CANCELS,
        [ITEM_STRANGE_ABORT] = PROTOCOL_ABORTS,
        [ITEM_PAUSE] = PROTOCOL_PAUSES,
        [ITEM_RESUME] = PROTOCOL_PAUSES,
        [ITEM_STALL] = PROTOCOL_STALLS,
    };
    uint32_t found = d->launcher.fault != FAULT_NONE ? PROTOCOL_BAD_START : 0;
    for (uint32_t i = 0; i < d->items_count; i++) {
        found |= parts[d->items[i].kind];
    }
    return found;
}

static bool exists(const struct protocol *d, uint32_t process)
{
    bool rank = process < PROTOCOL_RANKS_MAX;
    bool client = !rank && process < PROCESS_COORDINATOR;
    return (!rank || process < d->ranks_count) &&
           (!client || process - PROTOCOL_RANKS_MAX < d->clients_count);
}

static enum status check_fault(const struct protocol *d, const struct protocol_fault *f,
                               struct error *error)
{
    uint32_t absent = exists(d, f->process) ? f->to : f->process;
    char name[32];
    if (exists(d, f->process) && exists(d, f->to)) {
        return STATUS_OK;
    }
    (void)protocol_process_write(absent, name, sizeof name);
    return error_set(error, STATUS_INVALID,
                     "plan: no %s: seed %lu runs %u ranks and %u API servers", name,
                     (unsigned long)d->seed, d->ranks_count, d->clients_count);
}

/* Fewer processes: what was for one that is gone is for another. */
static void fold(struct protocol *d)
{
    const struct protocol_plan *plan = &d->plan;
    struct protocol_launcher *l = &d->launcher;
    uint32_t ranks = plan->ranks_count > 0 ? plan->ranks_count : d->ranks_count;
    ranks = d->lockstep && ranks < 2 ? 2 : ranks;
    d->ranks_count = ranks < d->ranks_count ? ranks : d->ranks_count;
    if (plan->clients_count > 0 && plan->clients_count < d->clients_count) {
        d->clients_count = plan->clients_count;
    }
    d->engine_options.clients_count = d->clients_count;
    d->engine_options.wave.ranks_count = d->lockstep ? d->ranks_count : 0;
    d->coordinator_options.engines_count = d->ranks_count;
    l->options.engines_count = d->ranks_count;
    l->options.api_servers_count = d->clients_count;
    if (l->options.local_count > d->ranks_count) {
        l->options.local_count = d->ranks_count;
    }
    l->faulty %= l->fault == FAULT_BOUND_TWICE ? d->clients_count : d->ranks_count;
    for (uint32_t i = 0; i < d->requests_count; i++) {
        struct protocol_request *q = &d->requests[i];
        q->client %= d->clients_count;
        if (q->request.data_parallel_rank != RANK_NONE) {
            q->request.data_parallel_rank %= (int32_t)d->ranks_count;
        }
    }
    for (uint32_t i = 0; i < d->items_count; i++) {
        d->items[i].client %= d->clients_count;
    }
}

static bool left_out(const struct protocol *d, const struct protocol_item *item)
{
    const struct protocol_plan *plan = &d->plan;
    bool pauses = (plan->without & PROTOCOL_PAUSES) == 0;
    bool request = plan->requests == 0 || (plan->requests >> (item->value % 32) & 1) != 0;
    bool ended = d->users_open && plan->end_us > 0 && item->at > plan->end_us * PS_PER_US;
    switch (item->kind) {
    case ITEM_SUBMIT:
        return !request || ended;
    case ITEM_CANCEL:
        return !request || ended || (plan->without & PROTOCOL_CANCELS) != 0;
    case ITEM_STRANGE_ABORT:
        return ended || (plan->without & PROTOCOL_ABORTS) != 0;
    case ITEM_PAUSE:
        return ended || !pauses;
    case ITEM_RESUME:
        return !pauses; /* also after the end: nothing stays paused */
    case ITEM_STALL:
        return ended || (plan->without & PROTOCOL_STALLS) != 0;
    }
    return false;
}

static void leave_out(struct protocol *d)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < d->items_count; i++) {
        const struct protocol_item item = d->items[i];
        if (!left_out(d, &item)) {
            d->items[kept++] = item;
        } else if (item.kind == ITEM_SUBMIT) {
            d->requests[item.value].left_out = true;
        }
    }
    d->items_count = kept;
}

void protocol_apply_end(struct protocol *d)
{
    if (d->plan.end_us > 0) {
        leave_out(d);
    }
}

static int compare_faults(const void *a, const void *b)
{
    const struct protocol_fault *x = a;
    const struct protocol_fault *y = b;
    return x->at_us < y->at_us ? -1 : x->at_us > y->at_us;
}

static void name_link(struct protocol_link *link, uint32_t from, uint32_t to)
{
    link->from = (uint8_t)from;
    link->to = (uint8_t)to;
}

static void name_links(struct protocol *d)
{
    for (uint32_t c = 0; c < d->clients_count; c++) {
        uint32_t client = process_of_client(c);
        for (uint32_t e = 0; e < d->ranks_count; e++) {
            name_link(&d->to_engine[c][e], client, e);
            name_link(&d->to_client[c][e], e, client);
            name_link(&d->greetings[c][e], e, client);
        }
        name_link(&d->client_up[c], client, PROCESS_COORDINATOR);
        name_link(&d->client_down[c], PROCESS_COORDINATOR, client);
        name_link(&d->reports[c], client, PROCESS_LAUNCHER);
    }
    for (uint32_t e = 0; e < d->ranks_count; e++) {
        name_link(&d->engine_up[e], e, PROCESS_COORDINATOR);
        name_link(&d->engine_down[e], PROCESS_COORDINATOR, e);
        name_link(&d->handshake_up[e], e, PROCESS_LAUNCHER);
        name_link(&d->handshake_down[e], PROCESS_LAUNCHER, e);
    }
}

enum status protocol_apply_plan(struct protocol *d, struct error *error)
{
    struct protocol_plan *plan = &d->plan;
    if ((plan->without & PROTOCOL_BAD_START) != 0) {
        d->launcher.fault = FAULT_NONE;
    }
    fold(d);
    for (uint32_t i = 0; i < plan->faults_count; i++) {
        const struct protocol_fault *f = &plan->faults[i];
        TRY(check_fault(d, f, error));
        d->links_fail |= f->kind == PROTOCOL_DELAY || f->kind == PROTOCOL_REORDER;
    }
    leave_out(d);
    name_links(d);
    qsort(plan->faults, plan->faults_count, sizeof plan->faults[0], compare_faults);
    return STATUS_OK;
}

/* ---- carrying out ---- */

time_ps protocol_fault_delay(struct protocol *d, const struct protocol_link *link)
{
    uint64_t number = d->sends_count++;
    time_ps delay = 0;
    for (uint32_t i = 0; i < d->next_fault; i++) {
        const struct protocol_fault *f = &d->plan.faults[i];
        time_ps end = (f->at_us + (time_ps)f->for_us) * PS_PER_US;
        if (f->for_us > 0 && d->now >= end) {
            continue;
        }
        if (f->kind == PROTOCOL_DELAY && f->process == link->from && f->to == link->to) {
            delay += f->by_us * PS_PER_US;
        } else if (f->kind == PROTOCOL_REORDER) {
            uint64_t drawn = random_at(random_at(d->seed, i), number);
            delay += (time_ps)(drawn % (f->by_us + 1)) * PS_PER_US;
        }
    }
    return delay;
}

time_ps protocol_fault_next(const struct protocol *d)
{
    return d->next_fault == d->plan.faults_count ? TIME_NEVER
                                                 : d->plan.faults[d->next_fault].at_us * PS_PER_US;
}

/* The rank's connection to the coordinator comes anew. Its last notices have arrived, or will
 * before: the link keeps its order. */
static void rejoin_rank(struct protocol *d, uint32_t rank)
{
    struct protocol_rank *r = &d->ranks[rank];
    if (r->stage < RANK_DRAIN) {
        return;
    }
    protocol_send(d, &d->engine_up[rank], protocol_message_new(d, MESSAGE_SUBSCRIBE));
    for (uint32_t i = 0; i < r->told_count; i++) {
        struct protocol_message *message = protocol_message_new(d, MESSAGE_ENGINE);
        message->engine.engine = rank;
        message->engine.has_stats = false;
        message->engine.wave_complete = r->told[i].wave_complete;
        message->engine.start_wave = r->told[i].start_wave;
        protocol_send(d, &d->engine_up[rank], message);
    }
}

static void lose_client(struct protocol *d, uint32_t client, time_ps until)
{
    d->clients[client].lost_until = until;
    protocol_link_drop(d, &d->client_down[client]);
}

bool protocol_fault_run(struct protocol *d)
{
    const struct protocol_fault *f = &d->plan.faults[d->next_fault++];
    time_ps until = d->now + f->for_us * PS_PER_US;
    if (f->kind != PROTOCOL_REORDER && d->dead[f->process]) {
        return true;
    }
    PROTOCOL_EVENT(d, FAULT, f->kind, f->process, f->for_us, f->factor);
    d->quiet_publishes = 0;
    switch (f->kind) {
    case PROTOCOL_DELAY:
    case PROTOCOL_REORDER:
        break; /* each message that is sent looks for itself */
    case PROTOCOL_PAUSE:
        if (until > d->frozen_until[f->process]) {
            d->frozen_until[f->process] = until;
        }
        break;
    case PROTOCOL_SLOW:
        d->ranks[f->process].slow = f->factor;
        d->ranks[f->process].slow_until = f->for_us > 0 ? until : TIME_NEVER;
        break;
    case PROTOCOL_CRASH:
        if (d->stopping) {
            return true;
        }
        protocol_die(d, f->process);
        break;
    case PROTOCOL_REJOIN:
        if (f->process < PROTOCOL_RANKS_MAX) {
            rejoin_rank(d, f->process);
        } else {
            lose_client(d, f->process - PROTOCOL_RANKS_MAX, until);
        }
        break;
    case PROTOCOL_FAULT_KINDS:
        break;
    }
    d->report->faults_count[f->kind]++;
    return true;
}

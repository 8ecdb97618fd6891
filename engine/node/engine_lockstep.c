/*
 * engine_lockstep.c - owns an engine core's two collectives and the books about waiting in them.
 * Driven by its main thread. Must not decide when to step: engine/core/wave does.
 */
#include "engine/node/engine_lockstep.h"

#include "engine/base/clock.h"
#include "engine/device/emulated.h"
#include "engine/node/process.h"

enum {
    CHECK_INTERVAL_STEPS = 32,
    REST_NS = 50000, /* a longer wait was for others; a shorter one is the call itself */
};

static const uint64_t resume_tag = UINT32_MAX; /* no step of a wave has this number */
static const int64_t timeout_ns_default = 10LL * 1000000000;
static const int64_t join_timeout_ns = 600LL * 1000000000; /* as launchers: nodes may start late */

struct wave_options lockstep_wave_options(const struct topology *t)
{
    if (!topology_lockstep(t)) {
        return (struct wave_options){0};
    }
    return (struct wave_options){
        .ranks_count = topology_data_parallel_size(t),
        .check_interval_steps =
            t->finish_check_steps > 0 ? t->finish_check_steps : CHECK_INTERVAL_STEPS,
        .check_first_step = t->finish_check_first != 0,
        .confirm_running = true,
        .announce_start = true,
        .graph_tokens_max =
            t->launch == (uint32_t)LAUNCH_GRAPH ? (uint32_t)EMULATED_GRAPH_SEQS_MAX : 0,
        .dummy_graph = t->dummy_eager == 0,
    };
}

bool lockstep_spans_nodes(const struct topology *t)
{
    uint32_t most = 0; /* a node that joins from elsewhere does not know the others' shares */
    for (uint32_t i = 0; i < t->nodes_count; i++) {
        most = t->nodes[i].engines_count > most ? t->nodes[i].engines_count : most;
    }
    return topology_lockstep(t) && topology_spans_nodes(t) && most < t->engines_count;
}

static enum status join_over_nodes(const struct lockstep_options *o, struct engine_lockstep *l,
                                   struct error *error)
{
    const struct topology *t = o->topology;
    struct collective_place place = {.host = o->master_host,
                                     .port = o->master_port,
                                     .rank = o->rank,
                                     .hopeless = o->hopeless,
                                     .ctx = o->ctx};
    struct collective_options step = {
        .name = "step", .ranks_count = t->engines_count, .wait = t->wait};
    struct collective_options finish = {
        .name = "finish check", .ranks_count = t->engines_count, .wait = t->wait};
    TRY(collective_connect(&step, &place, join_timeout_ns, &l->step, error));
    return collective_connect(&finish, &place, join_timeout_ns, &l->finish, error);
}

enum status lockstep_open(const struct lockstep_options *options, struct engine_lockstep *out,
                          struct error *error)
{
    const struct topology *t = options->topology;
    *out = (struct engine_lockstep){
        .on = topology_lockstep(t),
        .timeout_ns = t->collective_timeout_ns > 0 ? t->collective_timeout_ns : timeout_ns_default,
        .thread = options->thread,
        .occupancy = options->occupancy,
    };
    if (!out->on) {
        return STATUS_OK;
    }
    if (lockstep_spans_nodes(t)) {
        return join_over_nodes(options, out, error);
    }
    uint32_t rank = options->rank % topology_data_parallel_size(t);
    TRY(collective_open(COLLECTIVE_STEP_FD, rank, &out->step, error));
    return collective_open(COLLECTIVE_FINISH_FD, rank, &out->finish, error);
}

/* Waiting for other ranks is waiting for results. Its owed time was slept off before the call. */
static int64_t begin_wait(struct engine_lockstep *l)
{
    occupancy_rest(l->occupancy);
    return clock_now_ns();
}

static void book_wait(struct engine_lockstep *l, int64_t begin_ns)
{
    int64_t now_ns = clock_now_ns();
    uint64_t waited_ns = (uint64_t)(now_ns - begin_ns);
    ledger_add(&l->thread->sync_wait_ns, waited_ns);
    ledger_add(&l->thread->collective_wait_ns, waited_ns);
    if (waited_ns > REST_NS) {
        occupancy_wake(l->occupancy, now_ns);
    }
}

enum status lockstep_agree(struct engine_lockstep *l, const struct wave *wave,
                           const struct wave_forward *forward, struct device_lockstep *agreed,
                           struct error *error)
{
    struct collective_step own = {.tokens = forward->tokens_count, .graph = forward->graph};
    struct collective_agreement all;
    int64_t begin_ns = begin_wait(l);
    TRY(collective_agree(&l->step, wave->step_counter, l->timeout_ns, &own, &all, error));
    book_wait(l, begin_ns);
    *agreed = (struct device_lockstep){
        .tokens = all.own_tokens,
        .all_tokens = all.all_tokens < UINT32_MAX ? (uint32_t)all.all_tokens : UINT32_MAX,
        .graphs = all.graph,
    };
    return STATUS_OK;
}

enum status lockstep_ballot(struct engine_lockstep *l, const struct wave *wave,
                            struct wave_ballot *ballot, struct error *error)
{
    int32_t values[2] = {(int32_t)ballot->unfinished, (int32_t)ballot->pending_pause};
    struct collective_call call = {
        .tag = wave->step_counter, .op = COLLECTIVE_SUM, .count = 2, .timeout_ns = l->timeout_ns};
    int64_t begin_ns = begin_wait(l);
    TRY(collective_all_reduce(&l->finish, &call, values, error));
    book_wait(l, begin_ns);
    *ballot = (struct wave_ballot){.unfinished = (uint32_t)values[0],
                                   .pending_pause = (uint32_t)values[1]};
    return STATUS_OK;
}

enum status lockstep_resume(struct engine_lockstep *l, bool *unfinished, struct error *error)
{
    int32_t value = *unfinished ? 1 : 0;
    struct collective_call call = {
        .tag = resume_tag, .op = COLLECTIVE_MAX, .count = 1, .timeout_ns = l->timeout_ns};
    int64_t begin_ns = begin_wait(l);
    TRY(collective_all_reduce(&l->finish, &call, &value, error));
    book_wait(l, begin_ns);
    *unfinished = value != 0;
    return STATUS_OK;
}

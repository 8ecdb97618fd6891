/*
 * protocol_options.c - draws a topology, its rules and its workload from a seed. Driven once by
 * protocol_driver.c before anything happens.
 */
#include <stdio.h>
#include <stdlib.h>

#include "sim/protocol_model.h"

static const uint64_t sampling_seed = 77;

uint32_t protocol_token(uint64_t sample_key, uint32_t position)
{
    return (uint32_t)(random_at(sample_key, position) % PROTOCOL_VOCABULARY);
}

/* ---- topology ---- */

static void draw_wave(struct protocol *d)
{
    static const uint32_t intervals[] = {1, 16, 32};
    static const uint32_t graphs[] = {0, 4, 64};
    struct random *r = &d->config;
    struct wave_options *w = &d->engine_options.wave;
    bool newest = protocol_chance(r, 70);
    d->coordinator_options.lockstep = true;
    d->coordinator_options.believe_engines_only = newest;
    *w = (struct wave_options){
        .ranks_count = d->ranks_count,
        .check_interval_steps = intervals[protocol_draw(r, 0, 2)],
        .check_first_step = protocol_chance(r, 50),
        .confirm_running = newest,
        .announce_start = protocol_chance(r, 65),
        .graph_tokens_max = graphs[protocol_draw(r, 0, 2)],
        .dummy_graph = protocol_chance(r, 50),
    };
    /*
     * Without own announcements, a request that ends before its first step may leave other ranks in
     * a forward for good; and a coordinator that believes a FIRST_REQ is fooled by paused ranks.
     * Both are known of vLLM and are why the options exist.
     */
    d->aborts_allowed = w->announce_start && protocol_chance(r, 80);
    d->pauses_allowed = w->announce_start && newest && protocol_chance(r, 60);
}

static void draw_engine(struct protocol *d)
{
    struct random *r = &d->config;
    uint32_t seqs = protocol_draw(r, 1, PROTOCOL_SEQS_MAX);
    d->engine_options = (struct engine_core_options){
        .clients_count = d->clients_count,
        .requests_max = PROTOCOL_REQUESTS_MAX + PROTOCOL_SEQS_MAX,
        .max_model_len = PROTOCOL_MODEL_LEN,
        .max_num_seqs = seqs,
        .max_num_batched_tokens = protocol_draw(r, seqs, PROTOCOL_MODEL_LEN),
        .num_gpu_blocks = protocol_draw(r, 12, 64),
        .block_tokens = 4,
        .prefix_caching = protocol_chance(r, 50),
        .chunked_prefill = protocol_chance(r, 70),
        .reserve_full_isl = protocol_chance(r, 70),
        .async_depth = protocol_draw(r, 1, 2),
        .policy = protocol_chance(r, 80) ? POLICY_FCFS : POLICY_PRIORITY,
        .seed = sampling_seed,
    };
    if (!d->engine_options.chunked_prefill) {
        d->engine_options.max_num_batched_tokens = PROTOCOL_MODEL_LEN;
    }
}

static void draw_link(struct protocol *d, struct protocol_link *link)
{
    static const time_ps means[] = {50 * PS_PER_US, 1 * PS_PER_MS, 8 * PS_PER_MS, 60 * PS_PER_MS};
    struct random *r = &d->config;
    link->delay_mean = means[protocol_draw(r, 0, protocol_chance(r, 30) ? 3 : 2)];
    link->delay_shape = protocol_draw(r, 0, 2);
}

static void draw_links(struct protocol *d)
{
    for (uint32_t c = 0; c < d->clients_count; c++) {
        for (uint32_t e = 0; e < d->ranks_count; e++) {
            draw_link(d, &d->to_engine[c][e]);
            draw_link(d, &d->to_client[c][e]);
        }
        draw_link(d, &d->client_up[c]);
        draw_link(d, &d->client_down[c]);
    }
    for (uint32_t e = 0; e < d->ranks_count; e++) {
        draw_link(d, &d->engine_up[e]);
        draw_link(d, &d->engine_down[e]);
    }
}

void protocol_draw_topology(struct protocol *d)
{
    static const enum router_rule rules[] = {ROUTER_SCORE,
                                             ROUTER_SCORE,
                                             ROUTER_SCORE,
                                             ROUTER_WEIGHTED_SUM,
                                             ROUTER_WEIGHTED_SUM_FIXED_START,
                                             ROUTER_ROUND_ROBIN,
                                             ROUTER_RUST};
    struct random *r = &d->config;
    d->lockstep = protocol_chance(r, 80);
    d->ranks_count = protocol_draw(r, d->lockstep ? 2 : 1, PROTOCOL_RANKS_MAX);
    d->clients_count = protocol_draw(r, 1, PROTOCOL_CLIENTS_MAX);
    draw_engine(d);
    d->coordinator_options = (struct coordinator_options){
        .engines_count = d->ranks_count,
        .publish_interval = 100 * PS_PER_MS,
        .heartbeat_interval = 5 * PS_PER_S,
        .rule = protocol_chance(r, 50) ? PUBLISH_WHEN_DUE : PUBLISH_WHEN_QUIET,
        .settle_interval = 50 * PS_PER_MS,
    };
    d->aborts_allowed = protocol_chance(r, 80);
    d->pauses_allowed = protocol_chance(r, 40);
    if (d->lockstep) {
        draw_wave(d);
    }
    d->router_rule = rules[protocol_draw(r, 0, 6)];
    d->eager_aborts = protocol_chance(r, 50);
    d->chase = protocol_chance(r, 50);
    d->lazy_consumer_percent = protocol_chance(r, 30) ? 60 : 0;
    d->step_time = protocol_draw(r, 1, 8) * PS_PER_MS;
    d->coordinator_time = protocol_draw(r, 0, 3) * 300 * PS_PER_US;
    draw_links(d);
}

/* ---- workload ---- */

/* What must come out of a request, by the rules applied here. */
static void expect_outputs(struct protocol_request *q)
{
    const struct sampling_params *s = &q->request.sampling;
    for (uint32_t n = 0;; n++) {
        uint32_t token = protocol_token(q->sample_key, n);
        bool stop = s->stop_token_ids_count > 0 && s->stop_token_ids[0] == token;
        if (stop || n + 1 >= s->max_tokens ||
            q->request.prompt_tokens_count + n + 1 >= PROTOCOL_MODEL_LEN) {
            q->expected_count = n + 1;
            q->expected_finish = stop ? FINISH_STOP : FINISH_LENGTH;
            return;
        }
    }
}

static void draw_request(struct protocol *d, uint32_t index, uint32_t client)
{
    struct random *r = &d->config;
    struct protocol_request *q = &d->requests[index];
    (void)snprintf(q->id, sizeof q->id, "r-%08x", index);
    q->client = client;
    q->request = (struct frontend_request){
        .external_id = "r",
        .serial = index,
        .prompt_tokens_count = protocol_draw(r, 1, protocol_chance(r, 20) ? 24 : 8),
        .prompt_hash = protocol_chance(r, 30) ? 5 : 1000 + index,
        .sampling = {.max_tokens = protocol_chance(r, 40) ? 1 : protocol_draw(r, 1, 12),
                     .eos_token_id = TOKEN_NONE,
                     .output_kind = 1,
                     .n = 1},
        .data_parallel_rank =
            protocol_chance(r, 15) ? (int32_t)protocol_draw(r, 0, d->ranks_count - 1) : RANK_NONE,
        .priority = (int32_t)protocol_draw(r, 0, 2),
        .stream = protocol_chance(r, 80),
    };
    if (protocol_chance(r, 20)) {
        q->request.sampling.stop_token_ids_count = 1;
        q->request.sampling.stop_token_ids[0] = protocol_draw(r, 0, PROTOCOL_VOCABULARY - 1);
    }
    /* Requests of one prompt share blocks, and nothing else: a key names one request. */
    uint64_t seed = sampling_seed;
    if (q->request.prompt_hash < 1000) {
        q->request.sampling.has_seed = true;
        q->request.sampling.seed = index;
        seed = index;
    }
    q->sample_key = random_at(random_at(seed, q->request.prompt_hash), 0);
    expect_outputs(q);
}

static void add_item(struct protocol *d, time_ps at, enum protocol_item_kind kind, uint32_t client,
                     uint32_t value)
{
    if (d->items_count < PROTOCOL_ITEMS_MAX) {
        d->items[d->items_count++] =
            (struct protocol_item){.at = at, .kind = kind, .client = client, .value = value};
    }
}

/* Time to the next arrival: bursts, waves that overlap, and waits for idleness. */
static time_ps draw_gap(struct protocol *d, uint32_t mood)
{
    struct random *r = &d->config;
    switch (mood) {
    case 0:
        return 0;
    case 1:
        return random_range(r, 0, 20 * PS_PER_MS);
    case 2:
        return random_range(r, 0, 300 * PS_PER_MS);
    default:
        return random_range(r, 0, 8 * PS_PER_S);
    }
}

static time_ps add_requests(struct protocol *d, time_ps at)
{
    struct random *r = &d->config;
    bool expensive = d->lockstep && d->engine_options.wave.check_interval_steps > 1;
    uint32_t count = protocol_draw(r, 1, expensive ? 12 : PROTOCOL_REQUESTS_MAX);
    uint32_t mood = protocol_draw(r, 0, 3);
    uint32_t client = protocol_draw(r, 0, d->clients_count - 1);
    for (uint32_t i = 0; i < count; i++) {
        if (protocol_chance(r, 30)) {
            mood = protocol_draw(r, 0, 3);
        }
        if (protocol_chance(r, 60)) {
            client = protocol_draw(r, 0, d->clients_count - 1);
        }
        at += draw_gap(d, mood);
        draw_request(d, i, client);
        d->requests_count++;
        add_item(d, at, ITEM_SUBMIT, client, i);
        if (d->aborts_allowed && protocol_chance(r, 25)) {
            add_item(d, at + draw_gap(d, protocol_draw(r, 0, 2)), ITEM_CANCEL, client, i);
        }
        if (protocol_chance(r, 8)) {
            add_item(d, at + draw_gap(d, protocol_draw(r, 0, 2)), ITEM_STRANGE_ABORT,
                     protocol_draw(r, 0, d->clients_count - 1), protocol_draw(r, 0, i + 1));
        }
        if (protocol_chance(r, 5)) {
            add_item(d, at, ITEM_STALL, client, protocol_draw(r, 1, 400));
        }
    }
    if (protocol_chance(r, 15)) {
        add_item(d, random_range(r, 0, at), ITEM_STALL, client, protocol_draw(r, 500, 4000));
    }
    return at;
}

static void add_pauses(struct protocol *d, time_ps end)
{
    struct random *r = &d->config;
    uint32_t count = protocol_draw(r, 1, 2);
    time_ps at = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t client = protocol_draw(r, 0, d->clients_count - 1);
        at += random_range(r, 0, end / count + 100 * PS_PER_MS);
        add_item(d, at, ITEM_PAUSE, client, protocol_draw(r, PAUSE_ABORT, PAUSE_KEEP));
        if (protocol_chance(r, 30)) {
            time_ps again = at + draw_gap(d, protocol_draw(r, 0, 2));
            add_item(d, again, ITEM_PAUSE, protocol_draw(r, 0, d->clients_count - 1),
                     protocol_draw(r, PAUSE_ABORT, PAUSE_KEEP));
        }
        at += random_range(r, 0, protocol_chance(r, 50) ? 300 * PS_PER_MS : 2 * PS_PER_S);
        add_item(d, at, ITEM_RESUME, client, 0);
    }
    /* Whatever the order above became: nothing stays paused. */
    add_item(d, (at > end ? at : end) + 20 * PS_PER_S, ITEM_RESUME, 0, 0);
}

static int compare_items(const void *a, const void *b)
{
    const struct protocol_item *x = a;
    const struct protocol_item *y = b;
    if (x->at != y->at) {
        return x->at < y->at ? -1 : 1;
    }
    if (x->kind != y->kind) {
        return x->kind < y->kind ? -1 : 1;
    }
    return x->value < y->value ? -1 : x->value > y->value;
}

void protocol_draw_workload(struct protocol *d)
{
    struct random *r = &d->config;
    for (uint32_t c = 0; c < d->clients_count; c++) {
        d->clients[c].subscribe_at = random_range(r, 0, 300 * PS_PER_MS);
    }
    time_ps end = add_requests(d, random_range(r, 0, 400 * PS_PER_MS));
    if (d->pauses_allowed) {
        add_pauses(d, end);
    }
    qsort(d->items, d->items_count, sizeof d->items[0], compare_items);
}

/*
 * engine_process.c - an engine core's process: handshake with its node's launcher, with node 0's,
 * or both, then the busy loop round engine/core/engine_core on the main thread. Input and output
 * threads: engine_io. Workers: executor.
 *
 * Every turn handles all queued input, publishes counts if they changed, makes one engine turn
 * (submit ahead, or wait for the oldest step), and publishes again. In lock-step it then does what
 * the wave needs: a dummy step, the check whether the wave is over. The main thread blocks on the
 * input queue only when there is no work.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zmq.h>

#include "engine/base/clock.h"
#include "engine/core/engine_core.h"
#include "engine/node/engine_io.h"
#include "engine/node/engine_lockstep.h"
#include "engine/node/engine_utility.h"
#include "engine/node/executor.h"
#include "engine/node/occupancy.h"
#include "engine/node/peers.h"
#include "engine/node/sockets.h"
#include "engine/tape/tape_engine.h"

enum {
    GREETINGS_MAX = 2,
    REQUESTS_MAX = 16384,
    INIT_TIMEOUT_MS = 5 * 60 * 1000,
    STEPS_MAX = DEVICE_STEPS_IN_FLIGHT_MAX, /* submitted and not completed */
    IDLE_WITH_REQUESTS_NS = 1000000,
    PEER_DEATH_NS = 1000000000, /* head start of the launcher's own news of a death */
    BEAT_NS = 500000000,
};

/* Somebody who takes part in the start: this node's launcher, node 0's, or both. */
struct greeting {
    void *dealer;
    struct peers peers; /* of another node only */
    bool local;
    bool headless;
    bool clients_only; /* only the API servers of its INIT count */
};

struct engine_process {
    struct process process;
    uint32_t rank;       /* of all engine cores: its name */
    uint32_t group_rank; /* in its data-parallel group: what messages call it */
    struct engine_io io;
    struct executor *executor;
    struct arena arena;
    struct tape_engine engine;
    struct engine_utility utility;
    struct ledger_thread *thread;
    struct occupancy occupancy;
    char master_host[TOPOLOGY_HOST_BYTES]; /* of INIT, in lock-step */
    uint32_t master_port;
    struct interpreter interpreter; /* of all three threads, if the topology wants one */
    struct engine_lockstep lockstep;
    bool in_wave;            /* its first forward was agreed on */
    struct error call_error; /* what failed for good in a utility call; OK: nothing */
    struct in_flight {
        uint64_t step;
        int64_t submitted_ns;
    } steps[STEPS_MAX];
    uint64_t submitted;
    uint64_t completed;
    uint32_t waiting_count; /* requests without a place, since waiting_since_ns */
    int64_t waiting_since_ns;
    uint32_t num_gpu_blocks;
    pthread_t monitor;
    struct greeting greetings[GREETINGS_MAX];
    uint32_t greetings_count;
};

/* ---- handshake ---- */

static enum status handshake_send(const struct engine_process *e, const struct greeting *g,
                                  enum wire_hello_status hello_status, struct error *error)
{
    struct wire_hello hello = {.status = hello_status, .local = g->local, .headless = g->headless};
    char hash[PARALLEL_HASH_BYTES];
    if (hello_status == WIRE_READY && e->lockstep.on) {
        process_parallel_hash(e->process.topology, hash);
        hello.parallel_config_hash = hash;
    }
    struct wire_buffer buffer = {0};
    wire_encode_hello(&buffer, &hello);
    enum status status = socket_send(g->dealer, buffer.data, buffer.bytes, false, error);
    wire_buffer_free(&buffer);
    return status;
}

static enum status take_init(struct engine_process *e, const struct greeting *g,
                             const struct wire_init *init, struct error *error)
{
    if (g->clients_only) {
        return engine_io_clients(&e->io, init, error);
    }
    if (init->has_parallel_config) {
        (void)snprintf(e->master_host, sizeof e->master_host, "%s", init->master_ip);
        e->master_port = init->master_port;
    }
    return engine_io_addresses(&e->io, init, error);
}

static const char head_ended[] = "node 0 ended while the system started";

/* INIT, for which the launcher may wait for other nodes and for its API servers. */
static enum status wait_init(const struct greeting *g, struct error *error)
{
    zmq_pollitem_t items[2] = {{.socket = g->dealer, .events = ZMQ_POLLIN},
                               {.socket = g->peers.events, .events = ZMQ_POLLIN}};
    if (zmq_poll(items, g->peers.events != NULL ? 2 : 1, INIT_TIMEOUT_MS) <= 0) {
        return error_set(error, STATUS_TIMEOUT, "no INIT from the launcher within 5 minutes");
    }
    return items[0].revents != 0 ? STATUS_OK : error_set(error, STATUS_DIED, "%s", head_ended);
}

static enum status handshake_init(struct engine_process *e, const struct greeting *g,
                                  struct error *error)
{
    TRY(wait_init(g, error));
    struct socket_message m;
    if (!socket_receive(g->dealer, &m)) {
        return error_set(error, STATUS_PROTOCOL, "INIT was announced but not there");
    }
    struct wire_decoder *decoder;
    enum status status = wire_decoder_create(&decoder, error);
    if (status == STATUS_OK) {
        struct wire_init init;
        status = wire_decode_init(decoder, m.frames[0].data, m.frames[0].bytes, &init, error);
        if (status == STATUS_OK) {
            status = take_init(e, g, &init, error);
        }
        wire_decoder_free(decoder);
    }
    socket_message_free(&m);
    return status;
}

/* Says HELLO, and waits to be told where everybody is. */
static enum status greet(struct engine_process *e, void *context, struct greeting *g,
                         struct error *error)
{
    char address[128];
    unsigned char identity[2];
    wire_identity(e->rank, identity);
    struct socket_options options = {
        .type = ZMQ_DEALER, .linger_ms = LINGER_HANDSHAKE_MS, .identity = identity};
    if (g->local) {
        process_address(&e->process, "handshake", e->process.node, address);
    } else {
        process_head_address(&e->process, e->process.topology->handshake_port, address);
    }
    TRY(socket_open(context, &options, address, &g->dealer, error));
    if (!g->local) {
        TRY(peers_watch(context, g->dealer, &g->peers, error));
    }
    TRY(handshake_send(e, g, WIRE_HELLO, error));
    process_note(&e->process, EVENT_HELLO_SENT, NULL);
    TRY(handshake_init(e, g, error));
    process_note(&e->process, EVENT_INIT_HEARD, NULL);
    return STATUS_OK;
}

/* Whom to greet, in this order. Returns how many. */
static uint32_t greetings_of(const struct process *p, struct greeting out[GREETINGS_MAX])
{
    if (!process_joins(p)) {
        out[0] = (struct greeting){.local = true};
        return 1;
    }
    bool own = process_serves_own_only(p);
    out[0] = (struct greeting){.headless = !own};
    out[1] = (struct greeting){.local = true, .clients_only = true};
    return own ? 2 : 1;
}

static enum status greet_all(struct engine_process *e, void *context, struct error *error)
{
    e->greetings_count = greetings_of(&e->process, e->greetings);
    for (uint32_t i = 0; i < e->greetings_count; i++) {
        TRY(greet(e, context, &e->greetings[i], error));
    }
    return STATUS_OK;
}

/* Node 0 may be gone before this engine core could reach any other of its processes: then only the
 * connection to its launcher can be lost. NULL: it is not; gives the news once. */
static const char *lost_head(void *ctx)
{
    struct engine_process *e = ctx;
    int lost;
    for (uint32_t i = 0; i < e->greetings_count; i++) {
        if (peers_lost(&e->greetings[i].peers, &lost)) {
            return head_ended;
        }
    }
    return NULL;
}

/* Until all engine cores have subscribed. */
static enum status await_others(struct engine_process *e, struct error *error)
{
    bool passed = false;
    while (!passed) {
        TRY(engine_io_passed(&e->io, BEAT_NS, &passed, error));
        if (lost_head(e) != NULL) {
            return error_set(error, STATUS_DIED, "%s", head_ended);
        }
    }
    return STATUS_OK;
}

static enum status say_ready(struct engine_process *e, struct error *error)
{
    for (uint32_t i = 0; i < e->greetings_count; i++) {
        struct greeting *g = &e->greetings[i];
        TRY(handshake_send(e, g, WIRE_READY, error));
        peers_forget(&g->peers, g->dealer);
        (void)zmq_close(g->dealer);
    }
    return STATUS_OK;
}

static void fill_ready(struct engine_process *e)
{
    const struct topology *t = e->process.topology;
    static char instance_id[32];
    (void)snprintf(instance_id, sizeof instance_id, "%lld", (long long)clock_wall_ns());
    e->io.ready = (struct wire_ready){
        .max_model_len = t->max_model_len,
        .num_gpu_blocks = e->num_gpu_blocks,
        .block_size = t->block_tokens,
        .dp_stats_address = e->io.stats_address[0] != '\0' ? e->io.stats_address : NULL,
        .dtype = "bfloat16",
        .version = "harness-0.1.0",
        .world_size = t->tp * t->pp,
        /* Independent ranks call themselves DP = 1, as vLLM's dense ones do. */
        .data_parallel_size = e->lockstep.on ? topology_data_parallel_size(t) : 1,
        .tensor_parallel_size = t->tp,
        .pipeline_parallel_size = t->pp,
        .data_parallel_rank = e->group_rank,
        .max_num_seqs = t->max_num_seqs,
        .max_num_batched_tokens = t->max_num_batched_tokens,
        .instance_id = instance_id,
        .kv_cache_size_tokens = (uint64_t)(e->num_gpu_blocks - 1) * t->block_tokens,
    };
}

static enum status create_core(struct engine_process *e, struct error *error)
{
    const struct topology *t = e->process.topology;
    struct engine_core_options options = {
        .engine_index = e->group_rank,
        .clients_count = e->io.clients_count,
        .requests_max = REQUESTS_MAX,
        .max_model_len = t->max_model_len,
        .max_num_seqs = t->max_num_seqs,
        .max_num_batched_tokens = t->max_num_batched_tokens,
        .long_prefill_token_threshold = t->long_prefill_token_threshold,
        .num_gpu_blocks = e->num_gpu_blocks,
        .block_tokens = t->block_tokens,
        .prefix_caching = t->prefix_caching != 0,
        .chunked_prefill = t->chunked_prefill != 0,
        .reserve_full_isl = true,
        .watermark = 0.0,
        .async_depth = t->async_depth,
        .pipeline_stages = t->pp,
        .policy = t->priority_policy != 0 ? POLICY_PRIORITY : POLICY_FCFS,
        .seed = t->seed,
        .wave = lockstep_wave_options(t),
    };
    /* As vLLM: a prompt of the longest length must fit, or it would wait for ever. */
    uint64_t kv_tokens = (uint64_t)(e->num_gpu_blocks - 1) * t->block_tokens;
    if (kv_tokens < t->max_model_len) {
        return error_set(error, STATUS_INVALID,
                         "max_model_len %u does not fit the KV cache of %llu tokens (%u blocks of "
                         "%u): lower max_model_len or take a GPU with more memory",
                         t->max_model_len, (unsigned long long)kv_tokens, e->num_gpu_blocks,
                         t->block_tokens);
    }
    TRY(arena_create(engine_core_arena_bytes(&options), &e->arena, error));
    e->engine.tape = process_tape(&e->process, TAPE_ENGINE_CORE, e->rank);
    return tape_engine_create(&e->engine, &e->arena, &options, error);
}

/* A dummy takes none of the host's booked time: nothing is scheduled for it. */
static enum status dummy_step(struct engine_process *e, const struct device_lockstep *agreed,
                              struct error *error)
{
    int64_t before = clock_now_ns();
    occupancy_rest(&e->occupancy);
    TRY(executor_dummy(e->executor, agreed, error));
    int64_t now = clock_now_ns();
    ledger_add(&e->thread->sync_wait_ns, (uint64_t)(now - before));
    ledger_add(&e->thread->dummy_steps_count, 1);
    occupancy_wake(&e->occupancy, now);
    return STATUS_OK;
}

/* The other ranks' part in a resume. A failure ends the process after the call that asked. */
static bool any_unfinished(void *ctx, bool unfinished)
{
    struct engine_process *e = ctx;
    struct error error;
    if (lockstep_resume(&e->lockstep, &unfinished, &error) != STATUS_OK) {
        e->call_error = error;
    }
    return unfinished;
}

static void dummy_batch(void *ctx)
{
    struct engine_process *e = ctx;
    struct device_lockstep alone = {.tokens = WAVE_DUMMY_TOKENS, .graphs = true};
    struct error error;
    if (dummy_step(e, &alone, &error) != STATUS_OK) {
        e->call_error = error;
    }
}

/* A worker's death reaches a main thread that sleeps on its input queue through that queue. */
static void *monitor_main(void *context)
{
    struct engine_process *e = context;
    (void)pthread_setname_np(pthread_self(), "worker_monitor");
    struct pollfd fd = {.fd = executor_death_fd(e->executor), .events = POLLIN};
    while (poll(&fd, 1, -1) < 0 && errno == EINTR) {
    }
    queue_push(&e->io.in, queue_item_plain(ITEM_FAILED));
    return NULL;
}

static enum status start(struct engine_process *e, struct error *error)
{
    void *context = zmq_ctx_new();
    ASSERT(context != NULL);
    TRY(greet_all(e, context, error));

    struct executor_options executor = {.ledger = &e->process.ledger,
                                        .thread = e->thread,
                                        .rank = e->rank,
                                        .requests_max = REQUESTS_MAX};
    TRY(executor_start(&executor, &e->executor, error));
    process_note(&e->process, EVENT_DEVICE_READY, NULL);
    e->num_gpu_blocks = executor_kv_blocks(e->executor);
    struct lockstep_options lockstep = {.topology = e->process.topology,
                                        .rank = e->rank,
                                        .thread = e->thread,
                                        .occupancy = &e->occupancy,
                                        .master_host = e->master_host,
                                        .master_port = e->master_port,
                                        .hopeless = lost_head,
                                        .ctx = e};
    TRY(lockstep_open(&lockstep, &e->lockstep, error));
    if (e->lockstep.on) {
        e->utility.any_unfinished = any_unfinished;
    }
    e->utility.dummy_batch = dummy_batch;
    e->utility.ctx = e;
    TRY(create_core(e, error));
    fill_ready(e);
    TRY(engine_io_start(&e->io, error));
    if (executor_death_fd(e->executor) >= 0 &&
        pthread_create(&e->monitor, NULL, monitor_main, e) != 0) {
        return error_set(error, STATUS_NOMEM, "cannot start the worker monitor thread");
    }
    TRY(await_others(e, error));
    TRY(say_ready(e, error));
    (void)zmq_ctx_term(context);
    process_note(&e->process, EVENT_READY, NULL);
    process_event("ready");
    return STATUS_OK;
}

/* ---- busy loop ---- */

/* Requests wait in the scheduler's own list: to be called whenever its length may have changed. */
static void count_waiting(struct engine_process *e, int64_t now_ns)
{
    int64_t passed_ns = now_ns - e->waiting_since_ns;
    ledger_add(&e->thread->queue_length_ns, e->waiting_count * (uint64_t)passed_ns);
    e->waiting_count = engine_core_waiting(e->engine.core);
    e->waiting_since_ns = now_ns;
    if (e->waiting_count > ledger_get(&e->thread->queue_max)) {
        ledger_set(&e->thread->queue_max, e->waiting_count);
    }
}

static void send_outputs(struct engine_process *e, int32_t client,
                         const struct engine_outputs *outputs)
{
    queue_push(&e->io.out, queue_item_outputs(client, outputs));
    ledger_add(&e->thread->messages_out_count, 1);
}

/* An ADD that the engine core refuses is answered at once: the client must not wait for ever. */
static void refuse(struct engine_process *e, const struct engine_request *request,
                   const struct error *why)
{
    process_warning("EngineCore_DP%u refused %s: %s", e->rank, request->id, why->text);
    ledger_add(&e->thread->failed_count, 1);
    if (request->client_index < e->io.clients_count) {
        queue_push(&e->io.out, queue_item_refusal(e->group_rank, request->client_index, request->id,
                                                  process_now(&e->process)));
        ledger_add(&e->thread->messages_out_count, 1);
    }
}

static void send_reply(struct engine_process *e, uint32_t client_index,
                       const struct utility_reply *reply)
{
    struct engine_outputs outputs = {
        .engine_index = e->group_rank,
        .timestamp = process_now(&e->process),
        .utility = reply,
        .wave_complete = -1,
        .start_wave = -1,
    };
    send_outputs(e, (int32_t)client_index, &outputs);
}

static void answer_utility(struct engine_process *e, const struct utility_call *call)
{
    struct utility_reply reply;
    if (engine_utility_call(&e->utility, &e->engine, call, &reply)) {
        send_reply(e, call->client_index, &reply);
    }
}

/* What went wrong in a call's own part in a collective or a forward. */
static enum status call_failed(const struct engine_process *e, struct error *error)
{
    if (e->call_error.status != STATUS_OK) {
        *error = e->call_error;
    }
    return e->call_error.status;
}

/* Calls that were put off. Before the main thread waits for input, or they would wait too. */
static enum status answer_put_off(struct engine_process *e, struct error *error)
{
    struct utility_reply reply;
    uint32_t client_index;
    while (e->call_error.status == STATUS_OK &&
           engine_utility_due(&e->utility, &e->engine, &client_index, &reply)) {
        send_reply(e, client_index, &reply);
    }
    return call_failed(e, error);
}

static enum status handle(struct engine_process *e, const struct queue_item *item,
                          struct error *error)
{
    struct error why;
    ledger_add(&e->thread->messages_in_count, 1);
    switch (item->kind) {
    case ITEM_ADD:
        if (tape_engine_add(&e->engine, &item->as.request, process_now(&e->process), &why) !=
            STATUS_OK) {
            refuse(e, &item->as.request, &why);
        } else {
            ledger_add(&e->thread->requests_count, 1);
            ledger_add(&e->thread->prompt_tokens, item->as.request.prompt_tokens_count);
        }
        return STATUS_OK;
    case ITEM_ABORT:
        tape_engine_abort(&e->engine, item->as.abort_id);
        return STATUS_OK;
    case ITEM_UTILITY:
        answer_utility(e, &item->as.utility);
        return call_failed(e, error);
    case ITEM_START_WAVE:
        tape_engine_start_wave(&e->engine, &item->as.start);
        return STATUS_OK;
    case ITEM_FAILED:
        return error_set(error, STATUS_DIED, "%s", executor_dead_worker(e->executor));
    case ITEM_LOST:
        return error_set(error, STATUS_IO, "%s", e->io.error.text);
    case ITEM_OUTPUTS:
    case ITEM_DEAD:
        break;
    }
    return STATUS_OK;
}

/* Waits in pieces, so that the ledger shows an idle engine core as idle and alive. */
static struct queue_item *take_input(struct engine_process *e)
{
    struct queue_item *item = queue_take_all(&e->io.in, 0);
    if (item != NULL || tape_engine_has_work(&e->engine)) {
        return item;
    }
    int64_t before = clock_now_ns();
    occupancy_rest(&e->occupancy);
    while (item == NULL) {
        process_turn(e->thread, before);
        item = queue_take_all(&e->io.in, BEAT_NS);
        int64_t now = clock_now_ns();
        ledger_add(&e->thread->idle_ns, (uint64_t)(now - before));
        before = now;
    }
    occupancy_wake(&e->occupancy, before);
    return item;
}

static enum status process_input(struct engine_process *e, struct error *error)
{
    struct queue_item *item = take_input(e);
    if (item == NULL) {
        return STATUS_OK;
    }
    enum status status = STATUS_OK;
    int64_t now_ns = clock_now_ns();
    while (item != NULL) {
        struct queue_item *next = item->next;
        if (status == STATUS_OK) {
            uint64_t waited_ns = (uint64_t)queue_waited_ns(item, now_ns);
            ledger_add(&e->thread->queue_length_ns, item->kind == ITEM_ADD ? waited_ns : 0);
            status = handle(e, item, error);
        }
        free(item);
        item = next;
    }
    count_waiting(e, now_ns);
    return status;
}

static void book_stats(struct engine_process *e, const struct scheduler_stats *stats)
{
    ledger_set(&e->thread->running_now, stats->running_count);
    ledger_set(&e->thread->waiting_now, stats->waiting_count + stats->skipped_waiting_count);
    ledger_set(&e->thread->preemptions_count, stats->preemptions_count);
    ledger_set(&e->thread->kv_used_blocks,
               (uint64_t)(stats->kv_cache_usage * (double)(e->num_gpu_blocks - 1) + 0.5));
}

static void publish_counts(struct engine_process *e)
{
    struct scheduler_stats stats;
    if (!tape_engine_counts_changed(&e->engine, &stats)) {
        return;
    }
    book_stats(e, &stats);
    if (e->io.coordinator_output[0] == '\0' || e->process.topology->publish_off != 0) {
        return;
    }
    struct engine_outputs outputs = {
        .engine_index = e->group_rank,
        .stats = &stats,
        .timestamp = process_now(&e->process),
        .wave_complete = -1,
        .start_wave = -1,
    };
    send_outputs(e, COORDINATOR_CLIENT, &outputs);
}

/* In order with the counts. */
static void send_notices(struct engine_process *e)
{
    struct engine_outputs notice;
    while (tape_engine_take_notice(&e->engine, process_now(&e->process), &notice)) {
        send_outputs(e, COORDINATOR_CLIENT, &notice);
    }
}

static void note_wave(const struct engine_process *e, enum event_kind what, uint32_t wave)
{
    process_note(&e->process, what, &(struct event_note){.value = {wave}});
}

/* Meets the other ranks before a forward. NULL in *agreed: there are none, or it is no forward. */
static enum status agree(struct engine_process *e, const struct step_plan *plan,
                         struct device_lockstep *room, const struct device_lockstep **agreed,
                         struct error *error)
{
    *agreed = NULL;
    if (!e->lockstep.on || (plan != NULL && plan->tokens_count == 0)) {
        return STATUS_OK;
    }
    if (!e->in_wave) {
        e->in_wave = true;
        note_wave(e, EVENT_WAVE_BEGAN, engine_core_wave(e->engine.core)->current_wave);
    }
    struct wave_forward forward = tape_engine_forward(&e->engine, plan);
    TRY(lockstep_agree(&e->lockstep, engine_core_wave(e->engine.core), &forward, room, error));
    *agreed = room;
    return STATUS_OK;
}

static enum status submit(struct engine_process *e, const struct step_plan *plan,
                          struct error *error)
{
    const struct topology_host *host = &e->process.topology->host;
    occupancy_charge(&e->occupancy,
                     host->engine_step_ns + host->engine_seq_ns * (int64_t)plan->seqs_count);
    occupancy_settle(&e->occupancy);
    struct device_lockstep room;
    const struct device_lockstep *agreed;
    TRY(agree(e, plan, &room, &agreed, error));
    ASSERT(e->submitted - e->completed < STEPS_MAX);
    e->steps[e->submitted++ % STEPS_MAX] =
        (struct in_flight){.step = plan->step, .submitted_ns = clock_now_ns()};
    ledger_add(&e->thread->step_seqs, plan->seqs_count);
    ledger_add(&e->thread->step_tokens, plan->tokens_count);
    return executor_submit(e->executor, plan, agreed, error);
}

static void stamp_outputs(struct engine_process *e, const struct engine_outputs *outputs,
                          int64_t now_ns)
{
    int64_t epoch_ns = ledger_epoch_ns(&e->process.ledger);
    for (uint32_t i = 0; i < outputs->outputs_count; i++) {
        const struct engine_output *o = &outputs->outputs[i];
        ledger_add(&e->thread->output_tokens, o->new_tokens_count);
        if (!o->first && o->finish == FINISH_NONE) {
            continue;
        }
        struct ledger_record *record = ledger_record_of_id(&e->process.ledger, o->id);
        if (record == NULL) {
            continue;
        }
        if (o->first) {
            int64_t scheduled_ns = epoch_ns + ns_from_ps(o->scheduled_at);
            ledger_add_wait(e->thread, record, HOP_ENGINE_RECEIVED, scheduled_ns);
            ledger_stamp(record, HOP_ENGINE_SCHEDULED, scheduled_ns);
            ledger_stamp(record, HOP_ENGINE_FIRST_TOKEN, now_ns);
        }
        if (o->finish != FINISH_NONE) {
            ledger_stamp(record, HOP_ENGINE_LAST_TOKEN, now_ns);
        }
    }
    ledger_add(&e->thread->finished_count, outputs->finished_ids_count);
}

static enum status complete(struct engine_process *e, struct error *error)
{
    ASSERT(e->completed < e->submitted);
    struct in_flight step = e->steps[e->completed++ % STEPS_MAX];
    struct step_result result;
    int64_t before = clock_now_ns();
    bool blocks = !executor_ready(e->executor, step.step);
    if (blocks) {
        occupancy_rest(&e->occupancy);
    }
    TRY(executor_wait(e->executor, step.step, &result, error));
    int64_t now = clock_now_ns();
    ledger_add(&e->thread->sync_wait_ns, (uint64_t)(now - before));
    if (blocks) { /* a result that was there already is no rest: the booked time goes on */
        occupancy_wake(&e->occupancy, now);
    }
    ledger_add(&e->thread->steps_count, 1);
    ledger_add(&e->thread->backlog_steps_count, ledger_get(&e->thread->waiting_now) > 0 ? 1 : 0);
    ledger_add(&e->thread->step_ns, (uint64_t)(now - step.submitted_ns));
    ledger_histogram_add(&e->thread->steps, now - step.submitted_ns);
    struct engine_core_messages messages;
    tape_engine_complete(&e->engine, process_run_time(&e->process, now), &result, &messages);
    for (uint32_t i = 0; i < messages.count; i++) {
        const struct engine_outputs *outputs = &messages.items[i].outputs;
        stamp_outputs(e, outputs, now);
        if (outputs->stats != NULL) {
            book_stats(e, outputs->stats); /* blocks come and go while the counts stay */
        }
        send_outputs(e, (int32_t)messages.items[i].client_index, outputs);
    }
    return STATUS_OK;
}

static enum status engine_turn(struct engine_process *e, struct error *error)
{
    const struct step_plan *plan;
    bool worked = false;
    for (;;) {
        int64_t now_ns = clock_now_ns();
        switch (tape_engine_turn(&e->engine, process_run_time(&e->process, now_ns), &plan)) {
        case ENGINE_TURN_SUBMIT:
            count_waiting(e, now_ns);
            TRY(submit(e, plan, error));
            worked = true;
            break;
        case ENGINE_TURN_AWAIT:
            return complete(e, error);
        case ENGINE_TURN_DONE:
            if (!worked && !e->lockstep.on && tape_engine_has_work(&e->engine)) {
                occupancy_rest(&e->occupancy);
                clock_sleep_until_ns(clock_now_ns() + IDLE_WITH_REQUESTS_NS);
            }
            return STATUS_OK;
        }
    }
}

static enum status dummy_for_others(struct engine_process *e, struct error *error)
{
    struct device_lockstep room;
    const struct device_lockstep *agreed;
    occupancy_settle(&e->occupancy);
    TRY(agree(e, NULL, &room, &agreed, error));
    return dummy_step(e, agreed, error);
}

static void end_wave(struct engine_process *e, uint32_t ended_count)
{
    ledger_add(&e->thread->waves_count, ended_count);
    if (ended_count > 0) {
        e->in_wave = false;
        note_wave(e, EVENT_WAVE_ENDED, engine_core_wave(e->engine.core)->current_wave - 1);
    }
}

/* What the wave needs after this turn: nothing for independent ranks. */
static enum status follow_wave(struct engine_process *e, struct error *error)
{
    const struct wave *wave = engine_core_wave(e->engine.core);
    uint32_t wave_before = wave->current_wave;
    struct wave_ballot ballot;
    for (;;) {
        switch (tape_engine_wave_next(&e->engine, &ballot)) {
        case WAVE_NEED_NOTHING:
            end_wave(e, wave->current_wave - wave_before);
            send_notices(e);
            return STATUS_OK;
        case WAVE_NEED_DUMMY:
            TRY(dummy_for_others(e, error));
            break;
        case WAVE_NEED_ALLREDUCE:
            TRY(lockstep_ballot(&e->lockstep, wave, &ballot, error));
            tape_engine_wave_checked(&e->engine, &ballot);
            break;
        }
    }
}

static enum status serve(struct engine_process *e, struct error *error)
{
    for (;;) {
        TRY(process_input(e, error));
        send_notices(e);
        publish_counts(e);
        TRY(engine_turn(e, error));
        publish_counts(e);
        TRY(follow_wave(e, error));
        TRY(answer_put_off(e, error));
        process_turn(e->thread, clock_now_ns());
    }
}

/* What ended the loop, to the launcher. Another rank's death it hears of itself, and in more
 * detail: this rank only stops waiting. */
static void report_end(const struct engine_process *e, const struct error *error)
{
    const char *worker = executor_dead_worker(e->executor);
    if (error->status == STATUS_DIED && worker[0] != '\0') {
        process_event("died %s", worker);
        return;
    }
    if (error->status == STATUS_DIED) {
        clock_sleep_until_ns(clock_now_ns() + PEER_DEATH_NS);
    }
    process_event("failed EngineCore_DP%u: %s", e->rank, error->text);
}

int engine_core_main(int argc, char **argv)
{
    static struct engine_process e;
    struct error error = {0};
    if (process_begin(argc, argv, "EngineCore_DP%d", &e.process) != STATUS_OK) {
        return EXIT_FAILURE;
    }
    e.rank = (uint32_t)e.process.index;
    e.group_rank = e.rank - process_group_first(&e.process);
    e.io.process = &e.process;
    e.io.rank = e.rank;
    process_take_lane(&e.process, THREAD_ENGINE_MAIN, e.rank);
    e.thread = ledger_thread_claim(&e.process.ledger, THREAD_ENGINE_MAIN, e.rank, 0);
    occupancy_init(&e.occupancy, e.thread, clock_now_ns());
    if (e.process.topology->interpreter_lock != 0) {
        interpreter_init(&e.interpreter, clock_now_ns());
        e.io.interpreter = &e.interpreter;
        occupancy_share(&e.occupancy, &e.interpreter);
    }
    enum status status = process_pin(e.process.topology, PIN_ENGINE_CORE, &error);
    if (status == STATUS_OK) {
        status = start(&e, &error);
    }
    if (status != STATUS_OK) {
        return process_fail(&error);
    }
    process_started(e.thread);
    status = serve(&e, &error);
    ASSERT(status != STATUS_OK); /* it serves until something fails */
    report_end(&e, &error);
    tape_close(e.engine.tape);
    engine_io_dead(&e.io);
    return EXIT_FAILURE;
}

/*
 * coordinator_process.c - the DP coordinator's process: one thread, one poll loop round
 * engine/core/coordinator.
 *
 * It binds three sockets (clients subscribe at the front, engine cores at the back, engine cores
 * push counts), reports their addresses to the launcher, waits until every engine core has
 * subscribed, and then relays for ever. It ends by the launcher's SIGTERM.
 */
#include <stdlib.h>
#include <string.h>
#include <zmq.h>

#include "engine/base/clock.h"
#include "engine/node/occupancy.h"
#include "engine/node/peers.h"
#include "engine/node/process.h"
#include "engine/node/sockets.h"
#include "engine/tape/tape_coordinator.h"
#include "engine/wire/wire.h"

#define BEAT   (500 * PS_PER_MS)
#define SETTLE (50 * PS_PER_MS)

/* Head start of the launcher, which hears of its own children's deaths and knows their names. */
static const int64_t launcher_first_ns = 1000000000;

struct relay {
    struct process process;
    void *front; /* XPUB: state to API servers; FIRST_REQ from them */
    void *back;  /* XPUB: READY and START_DP_WAVE to engine cores */
    void *input; /* PULL: counts from engine cores */
    struct tape_coordinator coordinator;
    struct wire_decoder *decoder;
    struct wire_buffer buffer;
    struct ledger_thread *thread;
    struct occupancy occupancy;
    struct peers back_peers; /* engine cores of other nodes are watched by nobody else here */
    struct peers input_peers;
    int subscribers[TOPOLOGY_ENGINES_MAX]; /* their connections to `back`, */
    uint32_t subscribers_count;
    int counters[TOPOLOGY_ENGINES_MAX]; /* and to `input`, by engine core; -1 before its first */
    uint64_t told_count;                /* messages that had come in at the last publish */
};

/* Internal balancing: only API servers of this node listen at the front. */
static void address_of(const struct relay *r, const char *name, bool tcp, char out[128])
{
    if (tcp) {
        process_head_address(&r->process, 0, out);
    } else {
        process_address(&r->process, name, r->process.node, out);
    }
}

static enum status open_sockets(struct relay *r, void *context, struct error *error)
{
    const struct topology *t = r->process.topology;
    bool spans = topology_spans_nodes(t);
    char address[128];
    struct socket_options front = {.type = ZMQ_XPUB, .bind = true, .linger_ms = LINGER_STATS_MS};
    struct socket_options input = {.type = ZMQ_PULL, .bind = true, .linger_ms = LINGER_STATS_MS};
    address_of(r, "front", spans && t->balancing == (uint32_t)BALANCING_HYBRID, address);
    TRY(socket_open(context, &front, address, &r->front, error));
    address_of(r, "counts", spans, address);
    TRY(socket_open(context, &input, address, &r->input, error));
    address_of(r, "back", spans, address);
    TRY(socket_open(context, &front, address, &r->back, error));
    if (!spans) {
        return STATUS_OK;
    }
    TRY(peers_watch(context, r->input, &r->input_peers, error));
    return peers_watch(context, r->back, &r->back_peers, error);
}

static void report_addresses(const struct relay *r)
{
    char front[256];
    char input[256];
    char back[256];
    socket_endpoint(r->front, front);
    socket_endpoint(r->input, input);
    socket_endpoint(r->back, back);
    process_event("addresses %s %s %s", front, input, back);
}

static bool is_byte(const struct socket_message *m, unsigned char byte)
{
    return m->frames_count == 1 && m->frames[0].bytes == 1 &&
           *(const unsigned char *)m->frames[0].data == byte;
}

/* ---- what a message makes necessary ---- */

static enum status send_start_wave(struct relay *r, const struct start_wave *start,
                                   struct error *error)
{
    static const unsigned char type = WIRE_START_DP_WAVE;
    wire_buffer_reset(&r->buffer);
    wire_encode_start_wave(&r->buffer, start);
    TRY(socket_send(r->back, &type, 1, true, error));
    return socket_send(r->back, r->buffer.data, r->buffer.bytes, false, error);
}

static enum status send_state(struct relay *r, const struct coordinator_state *state,
                              struct error *error)
{
    wire_buffer_reset(&r->buffer);
    wire_encode_coordinator_state(&r->buffer, state);
    return socket_send(r->front, r->buffer.data, r->buffer.bytes, false, error);
}

static void note(const struct relay *r, enum event_kind what, int64_t first, int64_t second)
{
    process_note(&r->process, what, &(struct event_note){.value = {first, second}});
}

static enum status take_actions(struct relay *r, struct error *error)
{
    struct coordinator_action action;
    while (tape_coordinator_take_action(&r->coordinator, &action)) {
        occupancy_settle(&r->occupancy);
        ledger_add(&r->thread->messages_out_count, 1);
        switch (action.kind) {
        case COORDINATOR_READY:
            process_note(&r->process, EVENT_READY, NULL);
            TRY(socket_send(r->back, WIRE_COORDINATOR_READY, strlen(WIRE_COORDINATOR_READY), false,
                            error));
            break;
        case COORDINATOR_START_WAVE:
            note(r, EVENT_START_WAVE_SENT, action.start.wave, 0);
            TRY(send_start_wave(r, &action.start, error));
            break;
        case COORDINATOR_PUBLISH:
            note(r, EVENT_WAVE_PUBLISHED, action.state.wave, action.state.running ? 1 : 0);
            TRY(send_state(r, &action.state, error));
            break;
        }
    }
    return STATUS_OK;
}

static void note_subscriber(struct relay *r, const struct socket_message *m)
{
    if (r->subscribers_count < TOPOLOGY_ENGINES_MAX) {
        r->subscribers[r->subscribers_count++] = socket_message_connection(m);
        note(r, EVENT_SUBSCRIBED, r->subscribers_count, 0);
    }
}

static enum status take_subscription(struct relay *r, const struct socket_message *m,
                                     struct error *error)
{
    if (is_byte(m, 0)) {
        return STATUS_OK; /* one is gone: the launcher ends the start, and says who it is */
    }
    if (!is_byte(m, 1)) {
        return error_set(error, STATUS_PROTOCOL,
                         "coordinator: an engine core sent something else than its subscription");
    }
    note_subscriber(r, m);
    tape_coordinator_subscribe(&r->coordinator);
    return take_actions(r, error);
}

/* No engine core starts to serve before all are subscribed: then none can miss a broadcast. */
static enum status wait_for_subscriptions(struct relay *r, struct error *error)
{
    while (r->subscribers_count < topology_data_parallel_size(r->process.topology)) {
        zmq_pollitem_t item = {.socket = r->back, .events = ZMQ_POLLIN};
        (void)zmq_poll(&item, 1, -1);
        struct socket_message m;
        while (socket_receive(r->back, &m)) {
            enum status status = take_subscription(r, &m, error);
            socket_message_free(&m);
            TRY(status);
        }
    }
    return STATUS_OK;
}

static void charge_message(struct relay *r, const struct socket_message *m)
{
    ledger_add(&r->thread->messages_in_count, 1);
    ledger_add(&r->thread->bytes_in, m->frames_count > 0 ? m->frames[0].bytes : 0);
    occupancy_charge(&r->occupancy, r->process.topology->host.coordinator_message_ns);
    if (occupancy_due(&r->occupancy, clock_now_ns())) {
        occupancy_settle(&r->occupancy);
    }
}

/* A late subscription: everybody hears READY again and all but the new one drop it. */
static enum status read_back(struct relay *r, struct error *error)
{
    struct socket_message m;
    if (!socket_receive(r->back, &m)) {
        return STATUS_OK;
    }
    bool subscribe = is_byte(&m, 1);
    socket_message_free(&m);
    if (!subscribe) {
        return STATUS_OK;
    }
    tape_coordinator_subscribe(&r->coordinator);
    return take_actions(r, error);
}

/* A message that cannot be read is dropped and said so: one bad peer must not end the topology. */
static void drop_message(struct relay *r, const struct error *why)
{
    ledger_add(&r->thread->failed_count, 1);
    process_warning("DPCoordinator dropped a message: %s", why->text);
}

static enum status read_front(struct relay *r, struct error *fatal)
{
    struct socket_message m;
    if (!socket_receive(r->front, &m)) {
        return STATUS_OK;
    }
    if (!is_byte(&m, 1) && !is_byte(&m, 0)) {
        struct first_request first;
        struct error error;
        if (wire_decode_first_request(r->decoder, m.frames[0].data, m.frames[0].bytes, &first,
                                      &error) == STATUS_OK) {
            tape_coordinator_first_request(&r->coordinator, &first);
        } else {
            drop_message(r, &error);
        }
        charge_message(r, &m);
    }
    socket_message_free(&m);
    return take_actions(r, fatal);
}

static enum status read_input(struct relay *r, struct error *fatal)
{
    struct socket_message m;
    if (!socket_receive(r->input, &m)) {
        return STATUS_OK;
    }
    struct engine_outputs outputs;
    struct error error;
    if (wire_decode_outputs(r->decoder, m.frames[0].data, m.frames[0].bytes, &outputs, &error) !=
        STATUS_OK) {
        drop_message(r, &error);
    } else {
        if (outputs.engine_index < TOPOLOGY_ENGINES_MAX) {
            r->counters[outputs.engine_index] = socket_message_connection(&m);
        }
        tape_coordinator_outputs(&r->coordinator, &outputs);
    }
    charge_message(r, &m);
    socket_message_free(&m);
    return take_actions(r, fatal);
}

static void note_publish(struct relay *r, int64_t now_ns, bool changed)
{
    uint64_t heard_count = ledger_get(&r->thread->messages_in_count);
    const struct event_note told = {
        .at_ns = now_ns, .value = {changed ? 1 : 0, (int64_t)(heard_count - r->told_count)}};
    process_note(&r->process, EVENT_PUBLISHED, &told);
    r->told_count = heard_count;
}

static enum status publish_if_due(struct relay *r, bool input_pending, struct error *error)
{
    struct coordinator_state state;
    bool changed = coordinator_changed(r->coordinator.coordinator);
    int64_t now_ns = clock_now_ns();
    if (!tape_coordinator_publish(&r->coordinator, process_run_time(&r->process, now_ns),
                                  input_pending, &state)) {
        return STATUS_OK;
    }
    note_publish(r, now_ns, changed);
    occupancy_settle(&r->occupancy);
    ledger_add(&r->thread->messages_out_count, 1);
    return send_state(r, &state, error);
}

static long wait_ms(const struct relay *r)
{
    time_ps left = tape_coordinator_deadline(&r->coordinator) - process_now(&r->process);
    time_ps wait = left < BEAT ? left : BEAT; /* the ledger shows waits as they pass */
    return wait <= 0 ? 0 : (long)((wait + PS_PER_MS - 1) / PS_PER_MS);
}

/* An engine core of this node is its launcher's to notice. */
static enum status name_lost(const struct relay *r, int connection, struct error *error)
{
    for (uint32_t i = 0; connection >= 0 && i < TOPOLOGY_ENGINES_MAX; i++) {
        if (r->counters[i] == connection && !process_has_engine(&r->process, i)) {
            return error_set(error, STATUS_DIED, "EngineCore_DP%u (connection lost)", i);
        }
    }
    return STATUS_OK;
}

/* Subscriptions carry no rank: the connection for counts, which ends at the same time, may. */
static enum status find_lost(struct relay *r, struct error *error)
{
    int lost;
    bool subscriber_lost = false;
    while (peers_lost(&r->back_peers, &lost)) {
        for (uint32_t i = 0; i < r->subscribers_count; i++) {
            subscriber_lost = subscriber_lost || r->subscribers[i] == lost;
        }
    }
    if (subscriber_lost) {
        clock_sleep_until_ns(clock_now_ns() + launcher_first_ns);
    }
    while (peers_lost(&r->input_peers, &lost)) {
        TRY(name_lost(r, lost, error));
    }
    return subscriber_lost
               ? error_set(error, STATUS_DIED, "an engine core of a node (connection lost)")
               : STATUS_OK;
}

/* One message of each socket a turn, as vLLM's loop reads them. */
static enum status relay_turn(struct relay *r, struct error *error)
{
    zmq_pollitem_t items[5] = {{.socket = r->front, .events = ZMQ_POLLIN},
                               {.socket = r->back, .events = ZMQ_POLLIN},
                               {.socket = r->input, .events = ZMQ_POLLIN},
                               {.socket = r->back_peers.events, .events = ZMQ_POLLIN},
                               {.socket = r->input_peers.events, .events = ZMQ_POLLIN}};
    int count = r->back_peers.events != NULL ? 5 : 3;
    int ready = zmq_poll(items, count, 0);
    if (ready == 0) {
        long wait = wait_ms(r);
        if (wait > 0) {
            occupancy_settle(&r->occupancy);
            int64_t before = clock_now_ns();
            ready = zmq_poll(items, count, wait);
            int64_t now = clock_now_ns();
            ledger_add(&r->thread->idle_ns, (uint64_t)(now - before));
            occupancy_wake(&r->occupancy, now);
        }
    }
    if (items[1].revents != 0) {
        TRY(read_back(r, error));
    }
    if (items[0].revents != 0) {
        TRY(read_front(r, error));
    }
    if (items[2].revents != 0) {
        TRY(read_input(r, error));
    }
    if (count > 3 && (items[3].revents != 0 || items[4].revents != 0)) {
        TRY(find_lost(r, error));
    }
    process_turn(r->thread, clock_now_ns());
    return publish_if_due(r, ready > 0, error);
}

static enum status relay_start(struct relay *r, struct arena *arena, struct error *error)
{
    const struct topology *t = r->process.topology;
    struct coordinator_options options = {
        .engines_count = topology_data_parallel_size(t),
        .publish_interval = ps_from_ns(t->publish_interval_ns),
        .heartbeat_interval = ps_from_ns(t->heartbeat_interval_ns),
        .rule = PUBLISH_WHEN_DUE,
        .lockstep = topology_lockstep(t),
        .settle_interval = SETTLE,
        .believe_engines_only = true,
    };
    for (uint32_t i = 0; i < TOPOLOGY_ENGINES_MAX; i++) {
        r->counters[i] = -1;
    }
    TRY(arena_create(coordinator_arena_bytes(&options), arena, error));
    r->coordinator.tape = process_tape(&r->process, TAPE_COORDINATOR, r->process.node);
    TRY(tape_coordinator_create(&r->coordinator, arena, &options, error));
    TRY(wire_decoder_create(&r->decoder, error));
    void *context = zmq_ctx_new();
    ASSERT(context != NULL);
    TRY(open_sockets(r, context, error));
    report_addresses(r);
    r->thread =
        ledger_thread_claim(&r->process.ledger, THREAD_COORDINATOR_MAIN, r->process.node, 0);
    occupancy_init(&r->occupancy, r->thread, clock_now_ns());
    return wait_for_subscriptions(r, error);
}

int coordinator_main(int argc, char **argv)
{
    struct error error = {0};
    static struct relay relay;
    static struct arena arena;
    if (process_begin(argc, argv, "DPCoordinator", &relay.process) != STATUS_OK) {
        return EXIT_FAILURE;
    }
    process_take_lane(&relay.process, THREAD_COORDINATOR_MAIN, relay.process.node);
    enum status status = process_pin(relay.process.topology, PIN_COORDINATOR, &error);
    if (status == STATUS_OK) {
        status = relay_start(&relay, &arena, &error);
    }
    if (status == STATUS_OK) {
        process_started(relay.thread);
    }
    while (status == STATUS_OK) {
        status = relay_turn(&relay, &error);
    }
    if (status == STATUS_DIED) {
        process_event("died %s", error.text);
        return EXIT_FAILURE;
    }
    return process_fail(&error);
}

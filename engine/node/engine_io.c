/*
 * engine_io.c - owns an engine core's input and output threads and their sockets: bytes to queue
 * items, queue items to bytes. Started by the engine core's main thread, driven by ZeroMQ and the
 * queues. Must not decide anything: what a message means is up to the main thread, which is the
 * only one to touch the engine core's state.
 */
#include "engine/node/engine_io.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <zmq.h>

#include "engine/base/clock.h"
#include "engine/node/peers.h"
#include "engine/node/sockets.h"

enum {
    DEAD_JOIN_SECONDS = 5,
    BEAT_MS = 500, /* longest wait: the ledger shows waits as they pass */
};

static enum status copy_address(char to[ADDRESS_BYTES_MAX], const char *from, struct error *error)
{
    if (from == NULL) {
        to[0] = '\0';
        return STATUS_OK;
    }
    size_t bytes = strlen(from) + 1;
    if (bytes > ADDRESS_BYTES_MAX) {
        return error_set(error, STATUS_INVALID, "INIT: address longer than %d bytes: %s",
                         ADDRESS_BYTES_MAX - 1, from);
    }
    memcpy(to, from, bytes);
    return STATUS_OK;
}

enum status engine_io_clients(struct engine_io *io, const struct wire_init *init,
                              struct error *error)
{
    if (init->clients_count > TOPOLOGY_API_SERVERS_MAX) {
        return error_set(error, STATUS_INVALID, "INIT: %u API servers, at most %d are supported",
                         init->clients_count, TOPOLOGY_API_SERVERS_MAX);
    }
    io->clients_count = init->clients_count;
    for (uint32_t i = 0; i < init->clients_count; i++) {
        TRY(copy_address(io->inputs[i], init->inputs[i], error));
        TRY(copy_address(io->outputs[i], init->outputs[i], error));
    }
    return STATUS_OK;
}

enum status engine_io_addresses(struct engine_io *io, const struct wire_init *init,
                                struct error *error)
{
    TRY(engine_io_clients(io, init, error));
    TRY(copy_address(io->coordinator_input, init->coordinator_input, error));
    TRY(copy_address(io->coordinator_output, init->coordinator_output, error));
    return copy_address(io->stats_address, init->frontend_stats_address, error);
}

static void announce(struct engine_io *io, bool failed, const struct error *error)
{
    (void)pthread_mutex_lock(&io->lock);
    if (failed) {
        io->failed = true;
        io->error = *error;
    } else {
        io->subscribed = true;
    }
    (void)pthread_cond_signal(&io->changed);
    (void)pthread_mutex_unlock(&io->lock);
}

static void announce_connected(struct engine_io *io)
{
    (void)pthread_mutex_lock(&io->lock);
    io->connected = true;
    (void)pthread_cond_signal(&io->changed);
    (void)pthread_mutex_unlock(&io->lock);
}

/* ---- input thread ---- */

struct input {
    struct engine_io *io;
    void *dealers[TOPOLOGY_API_SERVERS_MAX];
    void *subscription; /* XSUB to the coordinator, or NULL */
    /* Of those that are processes of another node: of this one's its launcher takes care. */
    struct peers dealer_peers[TOPOLOGY_API_SERVERS_MAX];
    struct peers subscription_peers;
    struct wire_decoder *decoder;
    struct ledger_thread *thread;
    struct occupancy occupancy;
};

static enum status watch_peers(struct input *in, void *context, struct error *error)
{
    const struct engine_io *io = in->io;
    if (!process_joins(io->process)) {
        return STATUS_OK;
    }
    for (uint32_t i = 0; i < io->clients_count; i++) {
        if (socket_address_is_tcp(io->inputs[i])) {
            TRY(peers_watch(context, in->dealers[i], &in->dealer_peers[i], error));
        }
    }
    return in->subscription != NULL && socket_address_is_tcp(io->coordinator_input)
               ? peers_watch(context, in->subscription, &in->subscription_peers, error)
               : STATUS_OK;
}

static enum status input_connect(struct input *in, struct error *error)
{
    struct engine_io *io = in->io;
    unsigned char identity[2];
    wire_identity(io->rank, identity);
    void *context = zmq_ctx_new();
    ASSERT(context != NULL);
    struct socket_options dealer = {.type = ZMQ_DEALER, .identity = identity};
    for (uint32_t i = 0; i < io->clients_count; i++) {
        TRY(socket_open(context, &dealer, io->inputs[i], &in->dealers[i], error));
    }
    if (io->coordinator_input[0] != '\0') {
        struct socket_options xsub = {.type = ZMQ_XSUB, .identity = identity};
        TRY(socket_open(context, &xsub, io->coordinator_input, &in->subscription, error));
        TRY(socket_send(in->subscription, "\x01", 1, false, error));
    }
    struct wire_buffer buffer = {0};
    wire_encode_ready(&buffer, &io->ready);
    for (uint32_t i = 0; i < io->clients_count; i++) {
        TRY(socket_send(in->dealers[i], buffer.data, buffer.bytes, false, error));
    }
    wire_buffer_free(&buffer);
    return watch_peers(in, context, error);
}

static bool is_ready_frame(const struct socket_message *m)
{
    size_t bytes = strlen(WIRE_COORDINATOR_READY);
    return m->frames_count == 1 && m->frames[0].bytes == bytes &&
           memcmp(m->frames[0].data, WIRE_COORDINATOR_READY, bytes) == 0;
}

static enum status queue_start_wave(struct input *in, const struct socket_message *m,
                                    struct error *error)
{
    if (m->frames_count != 2 || m->frames[0].bytes != 1 ||
        *(const unsigned char *)m->frames[0].data != WIRE_START_DP_WAVE) {
        return error_set(error, STATUS_PROTOCOL, "the coordinator sent no START_DP_WAVE");
    }
    struct start_wave start;
    TRY(wire_decode_start_wave(in->decoder, m->frames[1].data, m->frames[1].bytes, &start, error));
    queue_push(&in->io->in, queue_item_start_wave(&start));
    return STATUS_OK;
}

static void drop_message(struct input *in, const struct error *why)
{
    ledger_add(&in->thread->failed_count, 1);
    process_warning("EngineCore_DP%u dropped a message: %s", in->io->rank, why->text);
}

/* READY comes again for each late subscriber: only the first matters. */
static void read_subscription(struct input *in)
{
    struct socket_message m;
    while (socket_receive(in->subscription, &m)) {
        struct error error;
        ledger_add(&in->thread->messages_in_count, 1);
        if (is_ready_frame(&m)) {
            announce(in->io, false, NULL);
        } else if (queue_start_wave(in, &m, &error) != STATUS_OK) {
            drop_message(in, &error);
        }
        socket_message_free(&m);
    }
}

static enum status queue_request(struct input *in, const void *body, size_t bytes,
                                 struct error *error)
{
    struct engine_request request;
    TRY(wire_decode_request(in->decoder, body, bytes, &request, error));
    struct ledger_record *record = ledger_record_of_id(&in->io->process->ledger, request.id);
    if (record != NULL) {
        int64_t now_ns = clock_now_ns();
        ledger_stamp(record, HOP_ENGINE_RECEIVED, now_ns);
        ledger_add_wait(in->thread, record, HOP_API_SENT, now_ns);
    }
    ledger_add(&in->thread->requests_count, 1);
    occupancy_charge(&in->occupancy, in->io->process->topology->host.engine_input_request_ns);
    occupancy_settle(&in->occupancy);
    queue_push(&in->io->in, queue_item_request(&request));
    if (request.abort_immediately) {
        queue_push(&in->io->in, queue_item_abort(request.id));
    }
    return STATUS_OK;
}

static enum status queue_aborts(struct input *in, const void *body, size_t bytes,
                                struct error *error)
{
    const char *const *ids;
    uint32_t count;
    TRY(wire_decode_abort(in->decoder, body, bytes, &ids, &count, error));
    for (uint32_t i = 0; i < count; i++) {
        queue_push(&in->io->in, queue_item_abort(ids[i]));
    }
    return STATUS_OK;
}

static enum status queue_utility(struct input *in, const void *body, size_t bytes,
                                 struct error *error)
{
    struct utility_call call;
    TRY(wire_decode_utility(in->decoder, body, bytes, &call, error));
    if (call.client_index >= in->io->clients_count) {
        return error_set(error, STATUS_PROTOCOL, "UTILITY from client %u of %u", call.client_index,
                         in->io->clients_count);
    }
    queue_push(&in->io->in, queue_item_utility(&call));
    return STATUS_OK;
}

static enum status dispatch(struct input *in, const struct socket_message *m, struct error *error)
{
    if (m->frames_count < 2 || m->frames[0].bytes != 1) {
        return error_set(error, STATUS_PROTOCOL, "request without a type frame");
    }
    const void *body = m->frames[1].data;
    size_t bytes = m->frames[1].bytes;
    switch (*(const unsigned char *)m->frames[0].data) {
    case WIRE_ADD:
        return queue_request(in, body, bytes, error);
    case WIRE_ABORT:
        return queue_aborts(in, body, bytes, error);
    case WIRE_UTILITY:
        return queue_utility(in, body, bytes, error);
    default:
        return error_set(error, STATUS_PROTOCOL, "unknown request type 0x%02x",
                         *(const unsigned char *)m->frames[0].data);
    }
}

/* The client that sent an unreadable ADD must not wait for ever: answered, if its id is readable.
 */
static void refuse_request(struct input *in, uint32_t client, const struct socket_message *m)
{
    const char *id;
    if (m->frames_count < 2 || m->frames[0].bytes != 1 ||
        *(const unsigned char *)m->frames[0].data != WIRE_ADD ||
        wire_decode_request_id(in->decoder, m->frames[1].data, m->frames[1].bytes, &id, NULL) !=
            STATUS_OK) {
        return;
    }
    uint32_t group_rank = in->io->rank - process_group_first(in->io->process);
    queue_push(&in->io->out,
               queue_item_refusal(group_rank, client, id, process_now(in->io->process)));
    ledger_add(&in->thread->messages_out_count, 1);
}

/* A message that cannot be read is dropped and said so: the engine core must not go deaf over one
 * bad peer. */
static void read_client(struct input *in, uint32_t client)
{
    struct socket_message m;
    while (socket_receive(in->dealers[client], &m)) {
        struct error error;
        ledger_add(&in->thread->messages_in_count, 1);
        for (uint32_t i = 0; i < m.frames_count && i < SOCKET_FRAMES_MAX; i++) {
            ledger_add(&in->thread->bytes_in, m.frames[i].bytes);
        }
        if (dispatch(in, &m, &error) != STATUS_OK) {
            drop_message(in, &error);
            refuse_request(in, client, &m);
        }
        socket_message_free(&m);
    }
}

/* ZeroMQ would wait for them to come back; nothing that they knew would. */
static enum status check_peers(struct input *in, struct error *error)
{
    int lost;
    if (peers_lost(&in->subscription_peers, &lost)) {
        return error_set(error, STATUS_DIED, "DPCoordinator (connection lost)");
    }
    for (uint32_t i = 0; i < in->io->clients_count; i++) {
        if (peers_lost(&in->dealer_peers[i], &lost)) {
            return error_set(error, STATUS_DIED, "ApiServer_%u (connection lost)", i);
        }
    }
    return STATUS_OK;
}

/* The main thread may wait for a step: the launcher is told at once. */
static void report_lost(struct engine_io *io, const struct error *why)
{
    struct error error = {0};
    process_event("died %s", why->text);
    (void)!error_set(&error, STATUS_IO, "lost %s", why->text);
    announce(io, true, &error);
    queue_push(&io->in, queue_item_plain(ITEM_LOST));
}

static int add_peers(zmq_pollitem_t *items, int count, const struct peers *peers)
{
    if (peers->events == NULL) {
        return count;
    }
    items[count] = (zmq_pollitem_t){.socket = peers->events, .events = ZMQ_POLLIN};
    return count + 1;
}

static void input_wait(struct input *in, zmq_pollitem_t *items, int count)
{
    if (zmq_poll(items, count, 0) > 0) {
        return;
    }
    int64_t before = clock_now_ns();
    occupancy_rest(&in->occupancy);
    (void)zmq_poll(items, count, BEAT_MS);
    int64_t now = clock_now_ns();
    occupancy_wake(&in->occupancy, now);
    ledger_add(&in->thread->idle_ns, (uint64_t)(now - before));
}

static void input_loop(struct input *in)
{
    struct engine_io *io = in->io;
    struct error error;
    zmq_pollitem_t items[2 * (TOPOLOGY_API_SERVERS_MAX + 1)];
    int count = 0;
    for (uint32_t i = 0; i < io->clients_count; i++) {
        items[count++] = (zmq_pollitem_t){.socket = in->dealers[i], .events = ZMQ_POLLIN};
    }
    if (in->subscription != NULL) {
        items[count++] = (zmq_pollitem_t){.socket = in->subscription, .events = ZMQ_POLLIN};
    }
    count = add_peers(items, count, &in->subscription_peers);
    for (uint32_t i = 0; i < io->clients_count; i++) {
        count = add_peers(items, count, &in->dealer_peers[i]);
    }
    while (check_peers(in, &error) == STATUS_OK) {
        input_wait(in, items, count);
        for (uint32_t i = 0; i < io->clients_count; i++) {
            if (items[i].revents != 0) {
                read_client(in, i);
            }
        }
        if (in->subscription != NULL && items[io->clients_count].revents != 0) {
            read_subscription(in);
        }
        process_turn(in->thread, clock_now_ns());
    }
    report_lost(io, &error);
}

static void *input_main(void *context)
{
    struct input in = {.io = context};
    (void)pthread_setname_np(pthread_self(), "engine_input");
    in.thread = ledger_thread_claim(&in.io->process->ledger, THREAD_ENGINE_INPUT, in.io->rank, 0);
    occupancy_init(&in.occupancy, in.thread, clock_now_ns());
    occupancy_share(&in.occupancy, in.io->interpreter);
    struct error error;
    if (wire_decoder_create(&in.decoder, &error) != STATUS_OK ||
        input_connect(&in, &error) != STATUS_OK) {
        announce(in.io, true, &error);
        return NULL;
    }
    if (in.subscription == NULL) {
        announce(in.io, false, NULL);
    }
    process_started(in.thread);
    input_loop(&in);
    wire_decoder_free(in.decoder);
    return NULL;
}

/* ---- output thread ---- */

struct output {
    struct engine_io *io;
    void *pushes[TOPOLOGY_API_SERVERS_MAX];
    void *coordinator;
    void *context;
    struct wire_buffer buffer;
    struct ledger_thread *thread;
    struct occupancy occupancy;
};

static enum status output_connect(struct output *out, struct error *error)
{
    struct engine_io *io = out->io;
    out->context = zmq_ctx_new();
    ASSERT(out->context != NULL);
    struct socket_options push = {.type = ZMQ_PUSH, .linger_ms = LINGER_OUTPUT_MS};
    for (uint32_t i = 0; i < io->clients_count; i++) {
        TRY(socket_open(out->context, &push, io->outputs[i], &out->pushes[i], error));
    }
    if (io->coordinator_output[0] != '\0') {
        TRY(socket_open(out->context, &push, io->coordinator_output, &out->coordinator, error));
    }
    return STATUS_OK;
}

/* The emulated host's time for a message, before it leaves. */
static void occupy_output(struct output *out, const struct engine_outputs *outputs)
{
    const struct topology_host *host = &out->io->process->topology->host;
    uint64_t tokens = 0;
    for (uint32_t i = 0; i < outputs->outputs_count; i++) {
        tokens += outputs->outputs[i].new_tokens_count;
    }
    ledger_add(&out->thread->output_tokens, tokens);
    occupancy_charge(&out->occupancy, host->engine_output_message_ns +
                                          host->engine_output_token_ns * (int64_t)tokens);
    occupancy_settle(&out->occupancy);
}

static enum status send_item(struct output *out, const struct queue_item *item, struct error *error)
{
    void *socket = out->coordinator;
    if (item->client != COORDINATOR_CLIENT) {
        ASSERT((uint32_t)item->client < out->io->clients_count);
        socket = out->pushes[item->client];
    }
    if (socket == NULL) {
        return STATUS_OK; /* counts without a coordinator (D = 1) */
    }
    wire_buffer_reset(&out->buffer);
    if (item->client == COORDINATOR_CLIENT) {
        wire_encode_counts(&out->buffer, &item->as.outputs);
    } else {
        wire_encode_outputs(&out->buffer, &item->as.outputs);
    }
    ledger_add(&out->thread->messages_out_count, 1);
    ledger_add(&out->thread->bytes_out, out->buffer.bytes);
    occupy_output(out, &item->as.outputs);
    return socket_send(socket, out->buffer.data, out->buffer.bytes, false, error);
}

/* Closing waits up to the sockets' linger for the last words to leave. */
static void say_dead(struct output *out)
{
    for (uint32_t i = 0; i < out->io->clients_count; i++) {
        struct error error;
        (void)!socket_send(out->pushes[i], WIRE_ENGINE_CORE_DEAD, strlen(WIRE_ENGINE_CORE_DEAD),
                           false, &error);
        (void)zmq_close(out->pushes[i]);
    }
    if (out->coordinator != NULL) {
        (void)zmq_close(out->coordinator);
    }
    (void)zmq_ctx_term(out->context);
    wire_buffer_free(&out->buffer);
}

static bool output_turn(struct output *out, struct error *error)
{
    struct queue_item *item = queue_take_all(&out->io->out, 0);
    if (item == NULL) {
        int64_t before = clock_now_ns();
        occupancy_rest(&out->occupancy);
        item = queue_take_all(&out->io->out, (int64_t)BEAT_MS * 1000000);
        int64_t now = clock_now_ns();
        occupancy_wake(&out->occupancy, now);
        ledger_add(&out->thread->idle_ns, (uint64_t)(now - before));
    }
    bool live = true;
    while (item != NULL) {
        struct queue_item *next = item->next;
        int64_t waited_ns = queue_waited_ns(item, clock_now_ns());
        ledger_add(&out->thread->queue_length_ns, (uint64_t)waited_ns);
        ledger_histogram_add(&out->thread->waits, waited_ns);
        if (item->kind == ITEM_DEAD) {
            live = false;
        } else if (live && send_item(out, item, error) != STATUS_OK) {
            process_warning("EngineCore_DP%u cannot send: %s", out->io->rank, error->text);
        }
        free(item);
        item = next;
    }
    ledger_set(&out->thread->queue_max, queue_count_max(&out->io->out));
    process_turn(out->thread, clock_now_ns());
    return live;
}

static void *output_main(void *context)
{
    struct output out = {.io = context};
    (void)pthread_setname_np(pthread_self(), "engine_output");
    out.thread =
        ledger_thread_claim(&out.io->process->ledger, THREAD_ENGINE_OUTPUT, out.io->rank, 0);
    occupancy_init(&out.occupancy, out.thread, clock_now_ns());
    occupancy_share(&out.occupancy, out.io->interpreter);
    struct error error;
    if (output_connect(&out, &error) != STATUS_OK) {
        announce(out.io, true, &error);
        return NULL;
    }
    announce_connected(out.io);
    process_started(out.thread);
    while (output_turn(&out, &error)) {
    }
    say_dead(&out);
    return NULL;
}

enum status engine_io_start(struct engine_io *io, struct error *error)
{
    queue_init(&io->in);
    queue_init(&io->out);
    pthread_condattr_t attributes;
    (void)pthread_mutex_init(&io->lock, NULL);
    (void)pthread_condattr_init(&attributes);
    (void)pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&io->changed, &attributes);
    (void)pthread_condattr_destroy(&attributes);
    if (pthread_create(&io->output_thread, NULL, output_main, io) != 0 ||
        pthread_create(&io->input_thread, NULL, input_main, io) != 0) {
        return error_set(error, STATUS_NOMEM, "cannot start the engine core's I/O threads");
    }
    return STATUS_OK;
}

enum status engine_io_passed(struct engine_io *io, int64_t wait_ns, bool *passed,
                             struct error *error)
{
    int64_t until_ns = clock_now_ns() + wait_ns;
    struct timespec until = {.tv_sec = until_ns / 1000000000, .tv_nsec = until_ns % 1000000000};
    int rc = 0;
    (void)pthread_mutex_lock(&io->lock);
    while (!(io->subscribed && io->connected) && !io->failed && rc == 0) {
        rc = pthread_cond_timedwait(&io->changed, &io->lock, &until);
    }
    bool failed = io->failed;
    *passed = io->subscribed && io->connected;
    (void)pthread_mutex_unlock(&io->lock);
    if (failed) {
        return error_set(error, io->error.status, "%s", io->error.text);
    }
    return STATUS_OK;
}

void engine_io_dead(struct engine_io *io)
{
    queue_push(&io->out, queue_item_plain(ITEM_DEAD));
    struct timespec deadline;
    (void)clock_gettime(CLOCK_REALTIME, &deadline);
    deadline.tv_sec += DEAD_JOIN_SECONDS;
    (void)pthread_timedjoin_np(io->output_thread, NULL, &deadline);
}

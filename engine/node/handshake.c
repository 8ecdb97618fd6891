/*
 * handshake.c - owns the launcher's handshake socket and what goes over it. Driven by the launcher
 * until the system serves. Must not decide who may start: engine/core/startup does.
 */
#include "engine/node/handshake.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zmq.h>

#include "engine/collective/collective.h"
#include "engine/node/engine_lockstep.h"
#include "engine/node/sockets.h"

/* ---- socket ---- */

static enum status bind_for_nodes(struct handshake *h, struct error *error)
{
    char address[128];
    char bound[HANDSHAKE_ADDRESS_BYTES];
    process_head_address(h->process, h->process->topology->handshake_port, address);
    socket_set_heartbeat(h->socket);
    if (zmq_bind(h->socket, address) != 0) {
        return error_set(error, STATUS_IO, "cannot wait for other nodes at %s: %s", address,
                         zmq_strerror(zmq_errno()));
    }
    socket_endpoint(h->socket, bound);
    const char *colon = strrchr(bound, ':');
    h->port = colon != NULL ? (uint32_t)strtoul(colon + 1, NULL, 10) : 0;
    return STATUS_OK;
}

static enum status open_socket(struct handshake *h, struct error *error)
{
    char address[128];
    void *context = zmq_ctx_new();
    ASSERT(context != NULL);
    struct socket_options options = {
        .type = ZMQ_ROUTER, .bind = true, .linger_ms = LINGER_STATS_MS};
    process_address(h->process, "handshake", h->process->node, address);
    TRY(socket_open(context, &options, address, &h->socket, error));
    TRY(peers_watch(context, h->socket, &h->peers, error));
    if (topology_spans_nodes(h->process->topology) && h->process->node == 0) {
        return bind_for_nodes(h, error);
    }
    return STATUS_OK;
}

static enum status create_startup(struct handshake *h, struct error *error)
{
    const struct process *p = h->process;
    const struct topology *t = p->topology;
    bool head = topology_spans_nodes(t) && p->node == 0;
    struct startup_options options = {
        .engines_first = head ? 0 : p->own.engines_first,
        .engines_count = head ? t->engines_count : p->own.engines_count,
        .local_first = p->own.engines_first,
        .local_count = p->own.engines_count,
        .remote_headless = t->balancing == (uint32_t)BALANCING_INTERNAL,
        .config_hash = topology_lockstep(t) ? h->config_hash : NULL,
        .api_servers_count = p->own.api_servers_count,
    };
    process_parallel_hash(t, h->config_hash);
    TRY(arena_create(startup_arena_bytes(&options), &h->arena, error));
    h->startup.tape = process_tape(p, TAPE_LAUNCHER, p->node);
    tape_startup_create(&h->startup, &h->arena, &options);
    return STATUS_OK;
}

enum status handshake_open(struct handshake *h, const struct process *process, struct error *error)
{
    *h = (struct handshake){.process = process, .master_fd = -1};
    for (uint32_t i = 0; i < TOPOLOGY_ENGINES_MAX; i++) {
        h->connections[i] = -1;
    }
    TRY(create_startup(h, error));
    TRY(wire_decoder_create(&h->decoder, error));
    TRY(open_socket(h, error));
    if (lockstep_spans_nodes(process->topology) && process->node == 0) {
        return collective_reserve_port(process_host(process, 0), &h->master_port, &h->master_fd,
                                       error);
    }
    return STATUS_OK;
}

static int descriptor_of(void *socket)
{
    int fd;
    size_t bytes = sizeof fd;
    int rc = zmq_getsockopt(socket, ZMQ_FD, &fd, &bytes);
    ASSERT(rc == 0);
    return fd;
}

void handshake_fds(const struct handshake *h, int fds[HANDSHAKE_FDS])
{
    fds[0] = descriptor_of(h->socket);
    fds[1] = descriptor_of(h->peers.events);
}

static void note_about(const struct handshake *h, enum event_kind what, uint32_t rank)
{
    const struct event_note note = {.about = true, .kind = THREAD_ENGINE_MAIN, .instance = rank};
    process_note(h->process, what, &note);
}

/* ---- INIT ---- */

static const char *or_none(const char *address)
{
    return address[0] != '\0' ? address : NULL;
}

/* It said HELLO, and its connection ended. The launcher hears of its own children's deaths by
 * itself, and more. */
static enum status engine_lost(const struct handshake *h, uint32_t rank, struct error *error)
{
    if (process_has_engine(h->process, rank)) {
        return STATUS_OK;
    }
    return error_set(error, STATUS_DIED,
                     "EngineCore_DP%u (connection lost while the system started)", rank);
}

static enum status send_init(struct handshake *h, uint32_t rank, struct error *error)
{
    const struct topology *t = h->process->topology;
    struct wire_init init = {
        .clients_count = h->process->own.api_servers_count,
        .coordinator_input = or_none(h->back),
        .coordinator_output = or_none(h->counts),
        .frontend_stats_address = or_none(h->front),
    };
    for (uint32_t i = 0; i < init.clients_count; i++) {
        init.inputs[i] = h->inputs[i];
        init.outputs[i] = h->outputs[i];
    }
    if (topology_lockstep(t) && !process_joins(h->process)) {
        init.has_parallel_config = true;
        init.master_ip = process_host(h->process, 0);
        init.master_port = h->master_port;
        init.data_parallel_size = topology_data_parallel_size(t);
    }
    struct wire_buffer buffer = {0};
    unsigned char identity[2];
    wire_identity(rank, identity);
    wire_encode_init(&buffer, &init);
    struct error why;
    bool sent = socket_send(h->socket, identity, sizeof identity, true, &why) == STATUS_OK &&
                socket_send(h->socket, buffer.data, buffer.bytes, false, &why) == STATUS_OK;
    wire_buffer_free(&buffer);
    note_about(h, EVENT_INIT_SENT, rank);
    return sent ? STATUS_OK : engine_lost(h, rank, error);
}

static enum status send_due_inits(struct handshake *h, struct error *error)
{
    uint32_t rank;
    while (tape_startup_take_init(&h->startup, &rank)) {
        TRY(send_init(h, rank, error));
    }
    return STATUS_OK;
}

enum status handshake_api_server(struct handshake *h, uint32_t index, const char *input,
                                 const char *output, struct error *error)
{
    (void)snprintf(h->inputs[index], sizeof h->inputs[index], "%s", input);
    (void)snprintf(h->outputs[index], sizeof h->outputs[index], "%s", output);
    TRY(tape_startup_api_server_bound(&h->startup, error));
    return send_due_inits(h, error);
}

/* ---- HELLO and READY ---- */

static enum status take_message(struct handshake *h, const struct socket_message *m,
                                struct error *error)
{
    if (m->frames_count != 2) {
        return error_set(error, STATUS_PROTOCOL, "handshake: want 2 frames, got %u",
                         m->frames_count);
    }
    uint32_t rank;
    struct wire_hello hello;
    TRY(wire_identity_rank(m->frames[0].data, m->frames[0].bytes, &rank, error));
    TRY(wire_decode_hello(h->decoder, m->frames[1].data, m->frames[1].bytes, &hello, error));
    struct startup_message message = {.ready = hello.status == WIRE_READY,
                                      .local = hello.local,
                                      .headless = hello.headless,
                                      .config_hash = hello.parallel_config_hash};
    TRY(tape_startup_heard(&h->startup, rank, &message, error));
    ASSERT(rank < TOPOLOGY_ENGINES_MAX); /* it is one of the expected */
    note_about(h, message.ready ? EVENT_READY_HEARD : EVENT_HELLO_HEARD, rank);
    h->ready[rank] = message.ready;
    /* A READY is the last word: the connection may end after it. */
    h->connections[rank] = message.ready ? -1 : socket_message_connection(m);
    return STATUS_OK;
}

/* An engine core that said HELLO on this connection, and has not said READY since. */
static enum status judge_lost(const struct handshake *h, int lost, struct error *error)
{
    for (uint32_t rank = 0; rank < TOPOLOGY_ENGINES_MAX && lost >= 0; rank++) {
        if (h->connections[rank] == lost) {
            return engine_lost(h, rank, error);
        }
    }
    return STATUS_OK;
}

static enum status take_messages(struct handshake *h, struct error *error)
{
    struct socket_message m;
    enum status status = STATUS_OK;
    while (h->socket != NULL && status == STATUS_OK && socket_receive(h->socket, &m)) {
        status = take_message(h, &m, error);
        socket_message_free(&m);
    }
    return status;
}

/* What ended is asked for before what was said is read: a READY that came just before its
 * connection ended is there by then. */
enum status handshake_turn(struct handshake *h, struct error *error)
{
    int lost;
    while (peers_lost(&h->peers, &lost)) {
        TRY(take_messages(h, error));
        TRY(judge_lost(h, lost, error));
    }
    TRY(take_messages(h, error));
    return send_due_inits(h, error);
}

void handshake_missing(const struct handshake *h, char *text, size_t bytes)
{
    const struct process *p = h->process;
    bool head = topology_spans_nodes(p->topology) && p->node == 0;
    uint32_t first = head ? 0 : p->own.engines_first;
    uint32_t count = head ? p->topology->engines_count : p->own.engines_count;
    size_t used = 0;
    text[0] = '\0';
    for (uint32_t rank = first; rank < first + count && used < bytes; rank++) {
        if (!h->ready[rank]) {
            const char *separator = used > 0 ? ", " : "engine cores ";
            int more = snprintf(text + used, bytes - used, "%s%u", separator, rank);
            used += more > 0 ? (size_t)more : bytes;
        }
    }
}

/* Once all are ready nobody has anything to say there any more. */
void handshake_close(struct handshake *h)
{
    char address[128];
    if (h->socket == NULL) {
        return;
    }
    peers_forget(&h->peers, h->socket);
    (void)zmq_close(h->socket);
    h->socket = NULL;
    wire_decoder_free(h->decoder);
    h->decoder = NULL;
    tape_close(h->startup.tape);
    h->startup.tape = NULL;
    if (h->master_fd >= 0) {
        (void)close(h->master_fd);
        h->master_fd = -1;
    }
    process_address(h->process, "handshake", h->process->node, address);
    (void)unlink(address + strlen("ipc://")); /* libzmq leaves it */
}

/*
 * api_server.c - an API server's process: start-up in vLLM's order, then a libuv loop whose turns
 * alternate between HTTP and engine messages.
 *
 * While engine messages keep coming the loop never waits: it handles messages until a slice of
 * emulated host time is owed (or a bounded number of messages), writes what is due, looks at HTTP,
 * and goes on.
 */
#include "engine/node/api_server.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <zmq.h>

#include "engine/base/clock.h"
#include "engine/model/shapes.h"
#include "engine/node/sockets.h"

enum {
    ENGINE_READY_TIMEOUT_MS = 600 * 1000,
    MESSAGES_PER_TURN = 32,
    SWEEP_MS = 1000,
    LISTEN_BACKLOG = 2048,
};

void api_wake(struct api_server *s)
{
    if (!s->will_block) {
        return;
    }
    int64_t now = clock_now_ns();
    s->will_block = false;
    ledger_add(&s->thread->idle_ns, (uint64_t)(now - s->block_ns));
    occupancy_wake(&s->occupancy, now);
}

/* ---- sockets ---- */

/* Engine cores of other nodes connect to this one. */
static bool routes_to_nodes(const struct api_server *s)
{
    return s->engines_count > s->process.own.engines_count;
}

static void address_of(const struct api_server *s, const char *name, char out[128])
{
    if (routes_to_nodes(s)) {
        process_head_address(&s->process, 0, out);
    } else {
        process_address(&s->process, name, s->index, out);
    }
}

static enum status subscribe(struct api_server *s, const char *address, struct error *error)
{
    struct socket_options xsub = {.type = ZMQ_XSUB, .linger_ms = LINGER_STATS_MS};
    TRY(socket_open(s->context, &xsub, address, &s->stats, error));
    return socket_send(s->stats, "\x01", 1, false, error);
}

static enum status open_sockets(struct api_server *s, struct error *error)
{
    const struct topology *t = s->process.topology;
    char address[128];
    s->context = zmq_ctx_new();
    ASSERT(s->context != NULL);
    (void)zmq_ctx_set(s->context, ZMQ_IO_THREADS, 2);
    struct socket_options router = {.type = ZMQ_ROUTER, .bind = true, .linger_ms = LINGER_STATS_MS};
    struct socket_options pull = {.type = ZMQ_PULL, .bind = true, .linger_ms = LINGER_STATS_MS};
    address_of(s, "in", address);
    TRY(socket_open(s->context, &router, address, &s->input, error));
    address_of(s, "out", address);
    TRY(socket_open(s->context, &pull, address, &s->output, error));
    if (routes_to_nodes(s)) {
        TRY(peers_watch(s->context, s->input, &s->peers, error));
    }
    bool hybrid = topology_spans_nodes(t) && process_serves_own_only(&s->process);
    /* A coordinator that serves several nodes is found by the engine cores' word. */
    if (topology_data_parallel_size(t) > 1 && !hybrid) {
        process_address(&s->process, "front", s->process.node, address);
        TRY(subscribe(s, address, error));
    }
    char input[256];
    char output[256];
    socket_endpoint(s->input, input);
    socket_endpoint(s->output, output);
    process_event("addresses %s %s", input, output);
    return STATUS_OK;
}

/* The engine core of another node that is gone; of this node's its launcher knows more. */
static enum status find_lost(struct api_server *s, struct error *error)
{
    int lost;
    while (peers_lost(&s->peers, &lost)) {
        for (uint32_t rank = 0; lost >= 0 && rank < TOPOLOGY_ENGINES_MAX; rank++) {
            if (s->engine_ready[rank] && s->engine_connections[rank] == lost &&
                !process_has_engine(&s->process, rank)) {
                return error_set(error, STATUS_DIED, "EngineCore_DP%u (connection lost)", rank);
            }
        }
    }
    return STATUS_OK;
}

static enum status wait_readable(struct api_server *s, void *socket, const char *what,
                                 struct error *error)
{
    int64_t deadline_ns = clock_now_ns() + ENGINE_READY_TIMEOUT_MS * INT64_C(1000000);
    zmq_pollitem_t items[2] = {{.socket = socket, .events = ZMQ_POLLIN},
                               {.socket = s->peers.events, .events = ZMQ_POLLIN}};
    while (items[0].revents == 0) {
        int64_t left_ms = (deadline_ns - clock_now_ns()) / 1000000;
        int count = s->peers.events != NULL ? 2 : 1;
        if (left_ms <= 0 || zmq_poll(items, count, (long)left_ms) == 0) {
            return error_set(error, STATUS_TIMEOUT, "no %s from an engine core in 600 s", what);
        }
        TRY(find_lost(s, error));
    }
    return STATUS_OK;
}

static enum status take_ready(struct api_server *s, const struct socket_message *m,
                              struct error *error)
{
    uint32_t rank = 0;
    struct wire_ready ready;
    if (m->frames_count != 2) {
        return error_set(error, STATUS_PROTOCOL, "ready frame: want 2 frames, got %u",
                         m->frames_count);
    }
    TRY(wire_identity_rank(m->frames[0].data, m->frames[0].bytes, &rank, error));
    TRY(wire_decode_ready(s->decoder, m->frames[1].data, m->frames[1].bytes, &ready, error));
    if (rank - s->group_first - s->engines_first >= s->engines_count || s->engine_ready[rank]) {
        return error_set(error, STATUS_PROTOCOL, "unexpected ready frame of engine core %u", rank);
    }
    ledger_set(&s->metrics->engines[rank].num_gpu_blocks, ready.num_gpu_blocks);
    if (ready.max_model_len < s->limits.max_model_len) {
        s->limits.max_model_len = (uint32_t)ready.max_model_len;
    }
    s->engine_ready[rank] = true;
    s->engine_connections[rank] = socket_message_connection(m);
    bool unknown = s->stats == NULL && ready.dp_stats_address != NULL;
    return unknown ? subscribe(s, ready.dp_stats_address, error) : STATUS_OK;
}

/* Each engine core announces itself once on its DEALER; only then does the ROUTER know its
 * identity. */
static enum status wait_engines(struct api_server *s, struct error *error)
{
    uint32_t count = 0;
    while (count < s->engines_count) {
        struct socket_message m;
        TRY(wait_readable(s, s->input, "ready frame", error));
        while (socket_receive(s->input, &m)) {
            enum status status = take_ready(s, &m, error);
            socket_message_free(&m);
            TRY(status);
            count++;
        }
    }
    return STATUS_OK;
}

enum status api_send_request(struct api_server *s, uint32_t engine, enum wire_request_type type,
                             struct error *error)
{
    unsigned char identity[2];
    unsigned char type_byte = (unsigned char)type;
    wire_identity(s->group_first + engine, identity);
    TRY(socket_send(s->input, identity, sizeof identity, true, error));
    TRY(socket_send(s->input, &type_byte, 1, true, error));
    ledger_add(&s->thread->messages_out_count, 1);
    ledger_add(&s->thread->bytes_out, s->buffer.bytes);
    return socket_send(s->input, s->buffer.data, s->buffer.bytes, false, error);
}

static enum status await_replies(struct api_server *s, uint32_t count, struct error *error)
{
    while (count > 0) {
        struct socket_message m;
        TRY(wait_readable(s, s->output, "utility reply", error));
        while (count > 0 && socket_receive(s->output, &m)) {
            struct engine_outputs outputs;
            enum status status = wire_decode_outputs(s->decoder, m.frames[0].data,
                                                     m.frames[0].bytes, &outputs, error);
            bool reply = status == STATUS_OK && outputs.utility != NULL;
            if (reply && outputs.utility->failure != NULL) {
                status = error_set(error, STATUS_PROTOCOL, "utility call failed: %s",
                                   outputs.utility->failure);
            }
            socket_message_free(&m);
            TRY(status);
            /* Others may serve already: then statistics come here before this server's own replies.
             */
            count -= reply ? 1 : 0;
        }
    }
    return STATUS_OK;
}

/* The two calls every vLLM API server makes to every engine core before it serves. */
static enum status start_up_utilities(struct api_server *s, struct error *error)
{
    static const char *const methods[] = {"reset_mm_cache", "get_supported_tasks"};
    for (uint32_t i = 0; i < 2; i++) {
        for (uint32_t engine = 0; engine < s->engines_count; engine++) {
            struct utility_call call = {
                .client_index = s->client_index, .call_id = ++s->calls_count, .method = methods[i]};
            wire_buffer_reset(&s->buffer);
            wire_encode_utility(&s->buffer, &call);
            TRY(api_send_request(s, s->engines_first + engine, WIRE_UTILITY, error));
        }
        TRY(await_replies(s, s->engines_count, error));
    }
    return STATUS_OK;
}

/* ---- engine messages ---- */

void api_engine_died(struct api_server *s)
{
    s->dead = true;
    api_utility_fail_all(s);
    completion_fail_all(s);
}

static void on_peers(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    struct api_server *s = poll->data;
    struct error error;
    api_wake(s);
    if (!s->dead && find_lost(s, &error) != STATUS_OK) {
        process_event("died %s", error.text);
        api_engine_died(s);
        api_flush(s);
    }
}

static bool output_message(struct api_server *s)
{
    struct socket_message m;
    if (!socket_receive(s->output, &m)) {
        return false;
    }
    size_t bytes = m.frames[0].bytes;
    ledger_add(&s->thread->messages_in_count, 1);
    ledger_add(&s->thread->bytes_in, bytes);
    if (bytes == strlen(WIRE_ENGINE_CORE_DEAD) &&
        memcmp(m.frames[0].data, WIRE_ENGINE_CORE_DEAD, bytes) == 0) {
        api_engine_died(s);
    } else {
        struct engine_outputs outputs;
        struct error error;
        occupancy_charge(&s->occupancy, s->process.topology->host.api_message_ns);
        if (wire_decode_outputs(s->decoder, m.frames[0].data, bytes, &outputs, &error) ==
            STATUS_OK) {
            s->message_ns = clock_now_ns();
            if (outputs.utility != NULL) {
                api_utility_reply(s, outputs.utility);
            }
            completion_message(s, &outputs);
        } else {
            process_warning("ApiServer_%u dropped an engine message: %s", s->index, error.text);
        }
    }
    socket_message_free(&m);
    return true;
}

static bool readable(void *socket)
{
    int events = 0;
    size_t bytes = sizeof events;
    return zmq_getsockopt(socket, ZMQ_EVENTS, &events, &bytes) == 0 && (events & ZMQ_POLLIN) != 0;
}

static void on_more(uv_idle_t *idle);

/* A bounded share of the waiting messages; the rest in the next turn, after HTTP had its chance. */
static void take_outputs(struct api_server *s)
{
    uint32_t count = 0;
    s->slept = false;
    while (count < MESSAGES_PER_TURN && !s->slept && output_message(s)) {
        count++;
        if (occupancy_due(&s->occupancy, clock_now_ns())) {
            api_flush(s);
        }
    }
    completion_aborts(s);
    api_flush(s);
    if (readable(s->output)) {
        (void)uv_idle_start(&s->more, on_more);
    } else {
        (void)uv_idle_stop(&s->more);
    }
}

static void on_more(uv_idle_t *idle)
{
    struct api_server *s = idle->data;
    api_wake(s);
    take_outputs(s);
}

static void on_output(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    on_more(&((struct api_server *)poll->data)->more);
}

static void note_state(struct api_server *s, const struct coordinator_state *state)
{
    if (!s->heard_coordinator) {
        s->heard_coordinator = true;
        process_note(&s->process, EVENT_FIRST_STATE, &(struct event_note){.value = {state->wave}});
    }
}

/* Of the coordinator's waiting messages only the last counts, as in vLLM. */
static void take_stats(struct api_server *s)
{
    struct socket_message m;
    struct socket_message last = {0};
    while (socket_receive(s->stats, &m)) {
        if (last.parts != NULL) {
            socket_message_free(&last);
        }
        last = m;
    }
    if (last.parts == NULL) {
        return;
    }
    struct coordinator_state state;
    struct error error;
    if (wire_decode_coordinator_state(s->decoder, last.frames[0].data, last.frames[0].bytes, &state,
                                      &error) == STATUS_OK) {
        note_state(s, &state);
        tape_frontend_coordinator_state(&s->frontend, &state);
    } else {
        process_warning("ApiServer_%u dropped the coordinator's state: %s", s->index, error.text);
    }
    socket_message_free(&last);
}

static void on_stats(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    struct api_server *s = poll->data;
    api_wake(s);
    take_stats(s);
}

/* ---- loop ---- */

/* True waits are those that begin with nothing to read anywhere. */
static void on_before_wait(uv_prepare_t *prepare)
{
    struct api_server *s = prepare->data;
    if (s->stats != NULL && readable(s->stats)) {
        take_stats(s);
    }
    if (readable(s->output)) {
        (void)uv_idle_start(&s->more, on_more);
    }
    struct pollfd fd = {.fd = uv_backend_fd(&s->loop), .events = POLLIN};
    s->will_block = !uv_is_active((uv_handle_t *)&s->more) && poll(&fd, 1, 0) == 0;
    if (s->will_block) {
        occupancy_settle(&s->occupancy); /* what is still owed is work, not waiting */
    }
    s->block_ns = clock_now_ns();
    process_turn(s->thread, s->block_ns);
}

static void on_after_wait(uv_check_t *check)
{
    struct api_server *s = check->data;
    api_wake(s);
    process_turn(s->thread, clock_now_ns());
}

static void on_sweep(uv_timer_t *timer)
{
    struct api_server *s = timer->data;
    api_wake(s);
    api_sweep(s, clock_now_ns());
}

static void on_sigterm(uv_signal_t *handle, int number)
{
    (void)number;
    struct api_server *s = handle->data;
    s->stopping = true;
    api_utility_fail_all(s);
    completion_fail_all(s);
    uv_stop(&s->loop);
}

static enum status watch(struct api_server *s, void *socket, uv_poll_t *poll, uv_poll_cb callback,
                         struct error *error)
{
    int fd;
    size_t bytes = sizeof fd;
    int rc = zmq_getsockopt(socket, ZMQ_FD, &fd, &bytes);
    if (rc != 0 || uv_poll_init(&s->loop, poll, fd) != 0) {
        return error_set(error, STATUS_IO, "cannot watch a ZeroMQ socket");
    }
    poll->data = s;
    (void)uv_poll_start(poll, UV_READABLE, callback);
    return STATUS_OK;
}

/* Shared: all servers accept from the launcher's socket. REUSEPORT: each has its own queue at the
 * same port. */
static enum status listen_http(struct api_server *s, struct error *error)
{
    int fd = LISTEN_FD;
    if (s->process.topology->accept == ACCEPT_REUSEPORT) {
        struct sockaddr_in address;
        socklen_t bytes = sizeof address;
        int on = 1;
        if (getsockname(LISTEN_FD, (struct sockaddr *)&address, &bytes) != 0) {
            return error_set(error, STATUS_IO, "getsockname: %s", strerror(errno));
        }
        fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) != 0 ||
            bind(fd, (struct sockaddr *)&address, bytes) != 0) {
            return error_set(error, STATUS_IO, "cannot bind with SO_REUSEPORT: %s",
                             strerror(errno));
        }
        (void)close(LISTEN_FD);
    }
    (void)uv_tcp_init(&s->loop, &s->listener);
    s->listener.data = s;
    int rc = uv_tcp_open(&s->listener, fd);
    if (rc == 0) {
        rc = uv_listen((uv_stream_t *)&s->listener, LISTEN_BACKLOG, api_on_connection);
    }
    return rc == 0 ? STATUS_OK : error_set(error, STATUS_IO, "listen: %s", uv_strerror(rc));
}

static enum status create_frontend(struct api_server *s, struct error *error)
{
    const struct topology *t = s->process.topology;
    s->tokenizer = tokenizer_byte_level(s->limits.vocab_size);
    s->detokenizer = (struct detokenizer){.ctx = s->tokenizer.ctx, .append = s->tokenizer.append};
    struct frontend_options options = {
        .client_index = s->client_index,
        .client_count = s->process.own.api_servers_count,
        .engines_first = s->engines_first,
        .engines_count = s->engines_count,
        .group_count = topology_data_parallel_size(t),
        .requests_max = API_REQUESTS_MAX,
        .max_model_len = t->max_model_len,
        .text_bytes_max = (t->max_model_len + 1) * TOKENIZER_APPEND_BYTES_MAX,
        .detokenizer = &s->detokenizer,
        .router_rule = (enum router_rule)t->router_rule,
    };
    TRY(arena_create(frontend_arena_bytes(&options) +
                         ARENA_BYTES(API_REQUESTS_MAX, struct choice *) +
                         ARENA_BYTES(t->max_model_len + 1, uint32_t),
                     &s->arena, error));
    s->by_handle = ARENA_NEW(&s->arena, struct choice *, API_REQUESTS_MAX);
    s->prompt_ids = ARENA_NEW(&s->arena, uint32_t, t->max_model_len + 1);
    s->frontend.tape = process_tape(&s->process, TAPE_API_SERVER, s->index);
    return tape_frontend_create(&s->frontend, &s->arena, &options, error);
}

static enum status start(struct api_server *s, struct error *error)
{
    TRY(wire_decoder_create(&s->decoder, error));
    TRY(create_frontend(s, error));
    TRY(open_sockets(s, error));
    TRY(wait_engines(s, error));
    process_note(&s->process, EVENT_ENGINES_HEARD,
                 &(struct event_note){.value = {s->engines_count}});
    TRY(start_up_utilities(s, error));
    (void)uv_loop_init(&s->loop);
    (void)uv_idle_init(&s->loop, &s->more);
    (void)uv_prepare_init(&s->loop, &s->before_wait);
    (void)uv_check_init(&s->loop, &s->after_wait);
    (void)uv_timer_init(&s->loop, &s->sweep);
    (void)uv_signal_init(&s->loop, &s->sigterm);
    s->more.data = s->before_wait.data = s->after_wait.data = s->sweep.data = s->sigterm.data = s;
    (void)uv_prepare_start(&s->before_wait, on_before_wait);
    (void)uv_check_start(&s->after_wait, on_after_wait);
    (void)uv_timer_start(&s->sweep, on_sweep, SWEEP_MS, SWEEP_MS);
    (void)uv_signal_start(&s->sigterm, on_sigterm, SIGTERM);
    TRY(watch(s, s->output, &s->output_poll, on_output, error));
    if (s->stats != NULL) {
        TRY(watch(s, s->stats, &s->stats_poll, on_stats, error));
    }
    if (s->peers.events != NULL) {
        TRY(watch(s, s->peers.events, &s->peers_poll, on_peers, error));
        on_peers(&s->peers_poll, 0, 0); /* the descriptor signals edges: what came before it */
    }
    return listen_http(s, error);
}

/* Which engine cores it routes to, and what they call it. */
static void take_place(struct api_server *s)
{
    const struct process *p = &s->process;
    bool own = p->topology->nodes_count == 0 || process_serves_own_only(p);
    s->index = (uint32_t)p->index;
    s->client_index = s->index - p->own.api_servers_first;
    s->group_first = process_group_first(p);
    s->engines_first = own ? p->own.engines_first - s->group_first : 0;
    s->engines_count = own ? p->own.engines_count : p->topology->engines_count;
}

int api_server_main(int argc, char **argv)
{
    static struct api_server s;
    struct error error = {0};
    if (process_begin(argc, argv, "ApiServer_%d", &s.process) != STATUS_OK) {
        return EXIT_FAILURE;
    }
    take_place(&s);
    s.dirty_last = &s.dirty;
    s.metrics = &s.process.ledger.metrics[s.index];
    const struct model_shape *model = model_shape_find(s.process.topology->model);
    s.limits = (struct openai_limits){.model_name = s.process.topology->model,
                                      .max_model_len = s.process.topology->max_model_len,
                                      .vocab_size = model != NULL ? model->vocab : 0};
    process_take_lane(&s.process, THREAD_API_MAIN, s.index);
    s.thread = ledger_thread_claim(&s.process.ledger, THREAD_API_MAIN, s.index, 0);
    occupancy_init(&s.occupancy, s.thread, clock_now_ns());
    if (process_pin(s.process.topology, PIN_API_SERVER, &error) != STATUS_OK ||
        start(&s, &error) != STATUS_OK) {
        return process_fail(&error);
    }
    process_note(&s.process, EVENT_LISTENING, NULL);
    process_event("ready");
    process_started(s.thread);
    (void)uv_run(&s.loop, UV_RUN_DEFAULT);
    ledger_thread_end(s.thread);
    tape_close(s.frontend.tape);
    return EXIT_SUCCESS;
}

/*
 * foreign_head_test.c - one engine core's process with this program as its launcher and its only
 * front end, on the wire alone: the handshake, a request from ADD to its last output, requests that
 * are refused, and utility calls whose effect the ledger shows.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zmq.h>

#include "engine/wire/wire.h"
#include "harness/run/child.h"
#include "helper_system.h"

enum {
    FRAME_BYTES = 4096,
    TOKENS = 5,
    END_NS = 1000000000
};

static struct head {
    struct ledger ledger;
    char folder[64];
    void *context;
    void *handshake; /* ROUTER */
    void *input;     /* ROUTER */
    void *output;    /* PULL */
    struct wire_decoder *decoder;
    struct wire_buffer buffer;
    pid_t engine;
} head;

static void *bind_socket(int type, const char *name, char address[128])
{
    void *socket = zmq_socket(head.context, type);
    int timeout_ms = HANG_MS;
    int linger_ms = 0;
    assert_non_null(socket);
    (void)zmq_setsockopt(socket, ZMQ_RCVTIMEO, &timeout_ms, sizeof timeout_ms);
    (void)zmq_setsockopt(socket, ZMQ_LINGER, &linger_ms, sizeof linger_ms);
    (void)snprintf(address, 128, "ipc://%s/%s", head.folder, name);
    assert_int_equal(zmq_bind(socket, address), 0);
    return socket;
}

/* `event_fd`: where its lines go. */
static pid_t start_engine(const struct ledger *ledger, uint32_t rank, uint32_t node, int event_fd)
{
    char path[512];
    char role[] = "engine_core";
    char index_flag[] = "--index";
    char index[16];
    char node_flag[] = "--node";
    char node_text[16];
    char parent_flag[] = "--parent";
    char parent[16];
    pid_t pid = -1;
    struct error error = {.text = ""};
    child_program_folder(path, sizeof path - 16);
    (void)strcat(path, "/harness-node"); // NOLINT: room was left above
    (void)snprintf(index, sizeof index, "%u", rank);
    (void)snprintf(node_text, sizeof node_text, "%u", node);
    (void)snprintf(parent, sizeof parent, "%d", (int)getpid());
    char *arguments[] = {path,      role,        index_flag, index, node_flag,
                         node_text, parent_flag, parent,     NULL};
    struct child_options options = {.path = path,
                                    .arguments = arguments,
                                    .fd3 = ledger->fd,
                                    .fd4 = event_fd,
                                    .stderr_fd = -1,
                                    .death_signal = SIGTERM};
    assert_int_equal(child_start(&options, &pid, &error), STATUS_OK);
    return pid;
}

/* The second frame of a message to a ROUTER. */
static int receive_body(void *router, char body[FRAME_BYTES])
{
    char identity[16];
    assert_int_equal(zmq_recv(router, identity, sizeof identity, 0), 2);
    int bytes = zmq_recv(router, body, FRAME_BYTES, 0);
    assert_true(bytes > 0);
    return bytes;
}

/* Hears HELLO and answers with INIT. */
static void send_init(void *handshake, uint32_t rank, const struct wire_init *init)
{
    char body[FRAME_BYTES];
    unsigned char identity[2];
    struct wire_hello hello;
    int bytes = receive_body(handshake, body);
    assert_int_equal(wire_decode_hello(head.decoder, body, (size_t)bytes, &hello, NULL), STATUS_OK);
    assert_int_equal(hello.status, WIRE_HELLO);
    wire_buffer_reset(&head.buffer);
    wire_encode_init(&head.buffer, init);
    wire_identity(rank, identity);
    assert_int_equal(zmq_send(handshake, identity, 2, ZMQ_SNDMORE), 2);
    assert_true(zmq_send(handshake, head.buffer.data, head.buffer.bytes, 0) > 0);
}

static void shake_hands(const char *input, const char *output)
{
    char body[FRAME_BYTES];
    struct wire_hello hello;
    struct wire_ready ready;
    send_init(head.handshake, 0,
              &(struct wire_init){.clients_count = 1, .inputs = {input}, .outputs = {output}});
    int bytes = receive_body(head.input, body);
    assert_int_equal(wire_decode_ready(head.decoder, body, (size_t)bytes, &ready, NULL), STATUS_OK);
    assert_int_equal(ready.max_model_len, 512);
    bytes = receive_body(head.handshake, body);
    assert_int_equal(wire_decode_hello(head.decoder, body, (size_t)bytes, &hello, NULL), STATUS_OK);
    assert_int_equal(hello.status, WIRE_READY);
}

static int start_head(void **state)
{
    (void)state;
    struct topology t = e2e_topology(1, 1);
    struct error error = {.text = ""};
    char address[3][128];
    (void)snprintf(head.folder, sizeof head.folder, "%.40s/head-XXXXXX", getenv("TMPDIR"));
    assert_non_null(mkdtemp(head.folder));
    (void)snprintf(t.socket_dir, sizeof t.socket_dir, "%s", head.folder);
    assert_int_equal(ledger_create(&t, &head.ledger, &error), STATUS_OK);
    assert_int_equal(wire_decoder_create(&head.decoder, &error), STATUS_OK);
    head.context = zmq_ctx_new();
    head.handshake = bind_socket(ZMQ_ROUTER, "handshake0", address[0]);
    head.input = bind_socket(ZMQ_ROUTER, "in0", address[1]);
    head.output = bind_socket(ZMQ_PULL, "out0", address[2]);
    int null_fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
    head.engine = start_engine(&head.ledger, 0, 0, null_fd);
    (void)close(null_fd);
    shake_hands(address[1], address[2]);
    return 0;
}

static int stop_head(void **state)
{
    (void)state;
    static const char *const names[] = {"handshake0", "in0", "out0"};
    int status = 0;
    child_stop(head.engine, SIGTERM, END_NS, &status);
    (void)zmq_close(head.handshake);
    (void)zmq_close(head.input);
    (void)zmq_close(head.output);
    assert_int_equal(zmq_ctx_term(head.context), 0);
    wire_decoder_free(head.decoder);
    wire_buffer_free(&head.buffer);
    ledger_close(&head.ledger);
    for (int i = 0; i < 3; i++) {
        char path[128];
        (void)snprintf(path, sizeof path, "%s/%s", head.folder, names[i]);
        (void)unlink(path);
    }
    return rmdir(head.folder);
}

static void send_typed(enum wire_request_type type)
{
    unsigned char identity[2];
    unsigned char byte = (unsigned char)type;
    wire_identity(0, identity);
    assert_int_equal(zmq_send(head.input, identity, 2, ZMQ_SNDMORE), 2);
    assert_int_equal(zmq_send(head.input, &byte, 1, ZMQ_SNDMORE), 1);
    assert_true(zmq_send(head.input, head.buffer.data, head.buffer.bytes, 0) > 0);
}

/* Borrowed until the next call. */
static struct engine_outputs next_outputs(void)
{
    static char frame[FRAME_BYTES];
    struct engine_outputs outputs;
    int bytes = zmq_recv(head.output, frame, sizeof frame, 0);
    assert_true(bytes > 0);
    assert_int_equal(wire_decode_outputs(head.decoder, frame, (size_t)bytes, &outputs, NULL),
                     STATUS_OK);
    return outputs;
}

static void send_add(const char *id, uint32_t prompt_tokens_count)
{
    static uint32_t prompt[600];
    struct engine_request request = {
        .id = id,
        .prompt_token_ids = prompt,
        .prompt_tokens_count = prompt_tokens_count,
        .sampling = {.max_tokens = TOKENS,
                     .n = 1,
                     .temperature = 1,
                     .top_p = 1,
                     .repetition_penalty = 1,
                     .eos_token_id = TOKEN_NONE},
        .data_parallel_rank = RANK_NONE,
    };
    wire_buffer_reset(&head.buffer);
    wire_encode_request(&head.buffer, &request);
    send_typed(WIRE_ADD);
}

static void assert_served(const char *id)
{
    uint32_t tokens = 0;
    enum finish_reason finish = FINISH_NONE;
    send_add(id, 7);
    while (finish == FINISH_NONE) {
        struct engine_outputs o = next_outputs();
        for (uint32_t i = 0; i < o.outputs_count; i++) {
            assert_string_equal(o.outputs[i].id, id);
            tokens += o.outputs[i].new_tokens_count;
            finish = o.outputs[i].finish;
        }
    }
    assert_int_equal(finish, FINISH_LENGTH);
    assert_int_equal(tokens, TOKENS);
}

static void assert_refused(const char *id)
{
    struct engine_outputs o = next_outputs();
    while (o.outputs_count == 0) { /* counts after the last request */
        o = next_outputs();
    }
    assert_int_equal(o.outputs_count, 1);
    assert_string_equal(o.outputs[0].id, id);
    assert_int_equal(o.outputs[0].finish, FINISH_ERROR);
}

/* Whether the input thread cannot read it or the main thread will not have it. */
static void a_request_is_served_or_refused(void **state)
{
    (void)state;
    assert_served("a-00000000");
    send_add("long-00000000", 600); /* beyond max_model_len */
    assert_refused("long-00000000");
    assert_served("b-00000000");
    wire_buffer_reset(&head.buffer);
    struct utility_call call = {.call_id = 'x', .method = "an ADD with another's fields"};
    wire_encode_utility(&head.buffer, &call);
    head.buffer.data[1] = (char)0xa1; /* its first two elements become a string of one letter */
    send_typed(WIRE_ADD);
    assert_refused("x");
    assert_served("c-00000000");
}

static struct utility_reply ask(const char *method)
{
    static uint64_t call_id = UINT64_MAX - 1000;
    struct utility_call call = {.call_id = ++call_id, .method = method};
    wire_buffer_reset(&head.buffer);
    wire_encode_utility(&head.buffer, &call);
    send_typed(WIRE_UTILITY);
    struct engine_outputs o = next_outputs();
    while (o.utility == NULL) {
        o = next_outputs();
    }
    assert_true(o.utility->call_id == call_id);
    return *o.utility;
}

static uint64_t dummies(void)
{
    for (uint32_t i = 0; i < ledger_threads_count(&head.ledger); i++) {
        const struct ledger_thread *t = &head.ledger.threads[i];
        if (t->kind == (uint32_t)THREAD_ENGINE_MAIN) {
            return ledger_get(&t->dummy_steps_count);
        }
    }
    fail();
    return 0;
}

static uint64_t launches(void)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < ledger_threads_count(&head.ledger); i++) {
        sum += ledger_get(&head.ledger.threads[i].launches_count[LAUNCH_CLASS_GRAPH]);
    }
    return sum;
}

/* A dummy batch is a forward of the device: when the reply is there, it was. */
static void a_dummy_batch_is_a_forward(void **state)
{
    (void)state;
    assert_int_equal(dummies(), 0);
    for (uint32_t i = 1; i <= 3; i++) {
        uint64_t before = launches();
        struct utility_reply reply = ask("execute_dummy_batch");
        assert_null(reply.failure);
        assert_int_equal(reply.kind, UTILITY_NIL);
        assert_int_equal(dummies(), i);
        assert_int_equal(launches(), before + 1);
    }
    assert_served("d-00000000");
}

static void utilities_answer_a_python_front_end(void **state)
{
    (void)state;
    struct utility_reply reply = ask("get_supported_tasks");
    assert_int_equal(reply.strings_count, 1);
    assert_string_equal(reply.strings[0], "generate");
    reply = ask("wake_up");
    assert_true(reply.failure == NULL && reply.kind == UTILITY_BOOL && reply.boolean);
    reply = ask("list_loras");
    assert_true(reply.failure == NULL && reply.kind == UTILITY_STRINGS);
    assert_int_equal(reply.strings_count, 0);
    reply = ask("save_sharded_state");
    assert_non_null(reply.failure);
    assert_served("e-00000000");
}

/* ---- a head that goes ---- */

/* A TCP socket at a port that nobody else has. */
static void *bind_tcp(int type, char address[128])
{
    size_t bytes = 128;
    int linger_ms = -1; /* what was sent arrives */
    void *socket = zmq_socket(head.context, type);
    assert_non_null(socket);
    (void)zmq_setsockopt(socket, ZMQ_LINGER, &linger_ms, sizeof linger_ms);
    assert_int_equal(zmq_bind(socket, "tcp://127.0.0.1:*"), 0);
    assert_int_equal(zmq_getsockopt(socket, ZMQ_LAST_ENDPOINT, address, &bytes), 0);
    return socket;
}

/* An address where nobody listens. */
static void dead_address(char address[128])
{
    assert_int_equal(zmq_close(bind_tcp(ZMQ_PULL, address)), 0);
}

static uint32_t port_of(const char *address)
{
    return (uint32_t)strtoul(strrchr(address, ':') + 1, NULL, 10);
}

/* All that a process says until it ends. */
static void read_lines(int fd, char *text, size_t cap)
{
    size_t used = 0;
    ssize_t got = 1;
    struct pollfd item = {.fd = fd, .events = POLLIN};
    while (got > 0 && used < cap - 1 && poll(&item, 1, HANG_MS) > 0) {
        got = read(fd, text + used, cap - 1 - used);
        used += got > 0 ? (size_t)got : 0;
    }
    text[used] = '\0';
    if (got != 0) {
        fail_msg("no end after '%s'", text);
    }
}

/* An engine core is told where everybody is, and when it connects nobody is there any more: no
 * connection that could be lost. In lock-step rank 0 is the first that it misses. */
static void lose_head(bool lockstep, const char *says)
{
    struct topology t = e2e_topology(1, 2);
    struct ledger ledger;
    struct error error = {.text = ""};
    char handshake_address[128];
    char dead[5][128];
    char said[1024];
    int events[2];
    t.lockstep = lockstep ? 1 : 0;
    t.nodes_count = 2;
    t.nodes[0] = (struct topology_node){.host = "127.0.0.1", .engines_count = 1};
    t.nodes[0].api_servers_count = 1;
    t.nodes[1] = (struct topology_node){.engines_first = 1, .engines_count = 1};
    void *handshake = bind_tcp(ZMQ_ROUTER, handshake_address);
    t.handshake_port = port_of(handshake_address);
    assert_int_equal(ledger_create(&t, &ledger, &error), STATUS_OK);
    for (int i = 0; i < 5; i++) {
        dead_address(dead[i]);
    }
    assert_int_equal(pipe2(events, O_CLOEXEC), 0);
    pid_t pid = start_engine(&ledger, 1, 1, events[1]);
    (void)close(events[1]);
    send_init(handshake, 1,
              &(struct wire_init){.clients_count = 1,
                                  .inputs = {dead[0]},
                                  .outputs = {dead[1]},
                                  .coordinator_input = dead[2],
                                  .coordinator_output = dead[3],
                                  .has_parallel_config = lockstep,
                                  .master_ip = "127.0.0.1",
                                  .master_port = port_of(dead[4]),
                                  .data_parallel_size = 2});
    assert_int_equal(zmq_close(handshake), 0);
    read_lines(events[0], said, sizeof said);
    if (strstr(said, says) == NULL) {
        fail_msg("'%s' does not say '%s'", said, says);
    }
    int status = 0;
    child_stop(pid, SIGKILL, END_NS, &status);
    (void)close(events[0]);
    ledger_close(&ledger);
}

static void a_head_that_goes_before_it_is_reached_is_missed(void **state)
{
    (void)state;
    lose_head(false, "failed node 0 ended while the system started");
    lose_head(true, "rank 1 waits for rank 0 no more: node 0 ended while the system started");
}

int main(void)
{
    e2e_begin();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_request_is_served_or_refused),
        cmocka_unit_test(a_dummy_batch_is_a_forward),
        cmocka_unit_test(utilities_answer_a_python_front_end),
        cmocka_unit_test(a_head_that_goes_before_it_is_reached_is_missed),
    };
    return e2e_end(cmocka_run_group_tests(tests, start_head, stop_head));
}

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

static void start_engine(void)
{
    char path[512];
    char role[] = "engine_core";
    char index_flag[] = "--index";
    char index[] = "0";
    char parent_flag[] = "--parent";
    char parent[16];
    struct error error = {.text = ""};
    child_program_folder(path, sizeof path - 16);
    (void)strcat(path, "/harness-node"); // NOLINT: room was left above
    (void)snprintf(parent, sizeof parent, "%d", (int)getpid());
    char *arguments[] = {path, role, index_flag, index, parent_flag, parent, NULL};
    int null_fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
    struct child_options options = {.path = path,
                                    .arguments = arguments,
                                    .fd3 = head.ledger.fd,
                                    .fd4 = null_fd,
                                    .stderr_fd = -1,
                                    .death_signal = SIGTERM};
    assert_int_equal(child_start(&options, &head.engine, &error), STATUS_OK);
    (void)close(null_fd);
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

static void shake_hands(const char *input, const char *output)
{
    char body[FRAME_BYTES];
    unsigned char identity[2];
    struct wire_hello hello;
    struct wire_init init = {.clients_count = 1, .inputs = {input}, .outputs = {output}};
    int bytes = receive_body(head.handshake, body);
    assert_int_equal(wire_decode_hello(head.decoder, body, (size_t)bytes, &hello, NULL), STATUS_OK);
    assert_int_equal(hello.status, WIRE_HELLO);
    wire_buffer_reset(&head.buffer);
    wire_encode_init(&head.buffer, &init);
    wire_identity(0, identity);
    assert_int_equal(zmq_send(head.handshake, identity, 2, ZMQ_SNDMORE), 2);
    assert_true(zmq_send(head.handshake, head.buffer.data, head.buffer.bytes, 0) > 0);
    struct wire_ready ready;
    bytes = receive_body(head.input, body);
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
    start_engine();
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

int main(void)
{
    e2e_begin();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_request_is_served_or_refused),
        cmocka_unit_test(a_dummy_batch_is_a_forward),
        cmocka_unit_test(utilities_answer_a_python_front_end),
    };
    return e2e_end(cmocka_run_group_tests(tests, start_head, stop_head));
}

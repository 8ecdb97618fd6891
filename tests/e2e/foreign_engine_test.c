/*
 * foreign_engine_test.c - a head without engine cores, and this program in the place of another
 * implementation's: bytes of the handshake as in vLLM, and nothing else. The head tells it where
 * everybody is, sends what vLLM's front end sends, serves its tokens, notices when it is gone, and
 * refuses one that does not fit.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zmq.h>

#include "engine/wire/wire.h"
#include "helper_http.h"
#include "helper_system.h"

enum {
    FRAME_BYTES = 65536,
    GONE_LIMIT_MS = 10000,
    WAIT_MS = 12000,
};

/* HELLO and READY, local false, headless true, as vLLM writes them. */
static const char hello[] = "\x83\xa6status\xa5HELLO\xa5local\xc2\xa8headless\xc3";
static const char ready[] = "\x83\xa6status\xa5READY\xa5local\xc2\xa8headless\xc3";
static const char local_hello[] = "\x83\xa6status\xa5HELLO\xa5local\xc3\xa8headless\xc2";

/* ---- the head ---- */

struct head {
    struct system_options options;
    struct system system;
    struct error error;
    pthread_t thread;
    _Atomic bool started;
    _Atomic bool over;
};

/* A launcher ends when the thread that started it does. */
static void *head_main(void *context)
{
    struct head *h = context;
    (void)!system_start(&h->options, &h->system, &h->error);
    h->started = true;
    while (!h->over) {
        e2e_sleep_ms(5);
    }
    return NULL;
}

static void start_head(struct head *h, int log_fd, int64_t timeout_ms)
{
    struct topology t = e2e_topology(1, 1);
    t.nodes_count = 2;
    t.nodes[0] = (struct topology_node){.host = "127.0.0.1", .api_servers_count = 1};
    t.nodes[1] = (struct topology_node){.engines_count = 1};
    t.handshake_port = e2e_free_port();
    *h = (struct head){.options = {.topology = t,
                                   .which = SYSTEM_ONLY_HEAD,
                                   .log_fd = log_fd,
                                   .start_timeout_ns = timeout_ms * 1000000}};
    assert_int_equal(pthread_create(&h->thread, NULL, head_main, h), 0);
}

static void wait_started(const struct head *h)
{
    while (!h->started) {
        e2e_sleep_ms(5);
    }
}

static void end_head(struct head *h)
{
    h->over = true;
    assert_int_equal(pthread_join(h->thread, NULL), 0);
    e2e_assert_no_children();
}

/* ---- the engine core ---- */

struct engine {
    void *context;
    void *handshake;
    void *input;
    void *output;
    struct wire_decoder *decoder;
    char frames[3][FRAME_BYTES];
    size_t frames_bytes[3];
};

static void *connect_to(struct engine *e, int type, const char *address)
{
    static const unsigned char identity[2] = {0, 0};
    int wait_ms = HANG_MS;
    int linger_ms = 0;
    void *socket = zmq_socket(e->context, type);
    assert_non_null(socket);
    (void)zmq_setsockopt(socket, ZMQ_LINGER, &linger_ms, sizeof linger_ms);
    (void)zmq_setsockopt(socket, ZMQ_RCVTIMEO, &wait_ms, sizeof wait_ms);
    if (type == ZMQ_DEALER) {
        (void)zmq_setsockopt(socket, ZMQ_ROUTING_ID, identity, sizeof identity);
    }
    assert_int_equal(zmq_connect(socket, address), 0);
    return socket;
}

/* Returns how many frames the message has. */
static int receive(struct engine *e, void *socket)
{
    int count = 0;
    int more = 1;
    size_t size = sizeof more;
    while (more != 0) {
        assert_true(count < 3);
        int bytes = zmq_recv(socket, e->frames[count], FRAME_BYTES, 0);
        assert_true(bytes >= 0);
        e->frames_bytes[count++] = (size_t)bytes;
        (void)zmq_getsockopt(socket, ZMQ_RCVMORE, &more, &size);
    }
    return count;
}

static void send_bytes(void *socket, const void *data, size_t bytes)
{
    assert_int_equal(zmq_send(socket, data, bytes, 0), (int)bytes);
}

static void engine_open(struct engine *e, const struct head *h, const char *first, size_t bytes)
{
    char address[64];
    *e = (struct engine){.context = zmq_ctx_new()};
    assert_non_null(e->context);
    assert_int_equal(wire_decoder_create(&e->decoder, NULL), STATUS_OK);
    (void)snprintf(address, sizeof address, "tcp://127.0.0.1:%u",
                   h->options.topology.handshake_port);
    e->handshake = connect_to(e, ZMQ_DEALER, address);
    send_bytes(e->handshake, first, bytes);
}

static void engine_close(struct engine *e)
{
    void *sockets[] = {e->handshake, e->input, e->output};
    for (size_t i = 0; i < sizeof sockets / sizeof sockets[0]; i++) {
        if (sockets[i] != NULL) {
            (void)zmq_close(sockets[i]);
        }
    }
    assert_int_equal(zmq_ctx_term(e->context), 0);
    wire_decoder_free(e->decoder);
}

static void take_init(struct engine *e)
{
    struct wire_init init;
    assert_int_equal(receive(e, e->handshake), 1);
    assert_int_equal(wire_decode_init(e->decoder, e->frames[0], e->frames_bytes[0], &init, NULL),
                     STATUS_OK);
    assert_int_equal(init.clients_count, 1);
    assert_int_equal(strncmp(init.inputs[0], "tcp://127.0.0.1:", 16), 0);
    assert_int_equal(strncmp(init.outputs[0], "tcp://127.0.0.1:", 16), 0);
    assert_null(init.coordinator_input); /* of one rank there is none */
    assert_null(init.coordinator_output);
    assert_null(init.frontend_stats_address);
    assert_false(init.has_parallel_config);
    e->input = connect_to(e, ZMQ_DEALER, init.inputs[0]);
    e->output = connect_to(e, ZMQ_PUSH, init.outputs[0]);
}

static void announce(struct engine *e)
{
    struct wire_buffer buffer = {0};
    struct wire_ready frame = {.max_model_len = 512,
                               .num_gpu_blocks = 100,
                               .block_size = 16,
                               .dtype = "bfloat16",
                               .version = "foreign",
                               .world_size = 1,
                               .data_parallel_size = 1,
                               .tensor_parallel_size = 1,
                               .pipeline_parallel_size = 1,
                               .max_num_seqs = 8,
                               .max_num_batched_tokens = 512,
                               .instance_id = "1"};
    wire_encode_ready(&buffer, &frame);
    send_bytes(e->input, buffer.data, buffer.bytes);
    wire_buffer_free(&buffer);
    send_bytes(e->handshake, ready, sizeof ready - 1);
}

static void push(struct engine *e, const struct engine_outputs *outputs)
{
    struct wire_buffer buffer = {0};
    wire_encode_outputs(&buffer, outputs);
    send_bytes(e->output, buffer.data, buffer.bytes);
    wire_buffer_free(&buffer);
}

/* What a front end asks before it serves. */
static void answer_utility(struct engine *e)
{
    struct utility_call call;
    assert_int_equal(receive(e, e->input), 2);
    assert_int_equal(e->frames[0][0], WIRE_UTILITY);
    assert_int_equal(wire_decode_utility(e->decoder, e->frames[1], e->frames_bytes[1], &call, NULL),
                     STATUS_OK);
    assert_int_equal(call.client_index, 0);
    const struct utility_reply reply = {.call_id = call.call_id, .kind = UTILITY_NIL};
    push(e, &(struct engine_outputs){.utility = &reply, .wave_complete = -1, .start_wave = -1});
}

/* All tokens of a request at once. */
static void answer_request(struct engine *e, const char *text)
{
    struct engine_request request;
    uint32_t tokens[64];
    uint32_t count = 0;
    assert_int_equal(receive(e, e->input), 2);
    assert_int_equal(e->frames[0][0], WIRE_ADD);
    assert_int_equal(
        wire_decode_request(e->decoder, e->frames[1], e->frames_bytes[1], &request, NULL),
        STATUS_OK);
    assert_int_equal(request.client_index, 0);
    for (; text[count] != '\0'; count++) {
        tokens[count] = (unsigned char)text[count];
    }
    const struct engine_output output = {.id = request.id,
                                         .new_token_ids = tokens,
                                         .new_tokens_count = count,
                                         .first = true,
                                         .finish = FINISH_LENGTH,
                                         .stop_token_id = TOKEN_NONE};
    push(e, &(struct engine_outputs){.outputs = &output,
                                     .outputs_count = 1,
                                     .finished_ids = &request.id,
                                     .finished_ids_count = 1,
                                     .wave_complete = -1,
                                     .start_wave = -1});
}

static bool failed(void *ctx)
{
    return system_failed(ctx);
}

static void a_foreign_engine_core_joins_serves_and_goes(void **state)
{
    (void)state;
    static struct head head;
    static struct engine engine;
    struct link link;
    struct completion c;
    start_head(&head, -1, HANG_MS);
    engine_open(&engine, &head, hello, sizeof hello - 1);
    take_init(&engine);
    announce(&engine);
    answer_utility(&engine);
    answer_utility(&engine);
    wait_started(&head);
    assert_string_equal(head.error.text, "");
    char *text = http_request_text("/v1/completions", "", "{\"prompt\":\"x\",\"max_tokens\":5}");
    assert_true(link_open(&link, head.system.port));
    assert_true(link_text(&link, text));
    answer_request(&engine, "hello");
    struct answer a = link_answer(&link);
    completion_read(&a, &c);
    assert_int_equal(c.status, 200);
    assert_string_equal(c.text, "hello");
    answer_free(&a);
    /* One that is open when the engine core goes ends with an error. */
    assert_true(link_text(&link, text));
    free(text);
    assert_int_equal(receive(&engine, engine.input), 2);
    engine_close(&engine);
    assert_true(e2e_wait(failed, &head.system, GONE_LIMIT_MS));
    assert_non_null(strstr(head.system.reason, "EngineCore_DP0 (connection lost)"));
    a = link_answer(&link);
    assert_int_equal(a.status, 500);
    answer_free(&a);
    link_close(&link);
    system_stop(&head.system);
    system_free(&head.system);
    end_head(&head);
}

static void assert_refused(const char *first, size_t bytes, const char *reason)
{
    static struct head head;
    static struct engine engine;
    start_head(&head, -1, HANG_MS);
    engine_open(&engine, &head, first, bytes);
    wait_started(&head);
    if (strstr(head.error.text, reason) == NULL) {
        fail_msg("'%s' does not say '%s'", head.error.text, reason);
    }
    engine_close(&engine);
    end_head(&head);
}

static void what_does_not_fit_is_refused(void **state)
{
    (void)state;
    assert_refused(local_hello, sizeof local_hello - 1, "engine core 0 says it was started by");
    assert_refused(ready, sizeof ready - 1, "engine core 0 sent READY before HELLO");
}

/* It said HELLO, and its machine went down. */
static void one_that_goes_during_the_start_is_missed(void **state)
{
    (void)state;
    static struct head head;
    static struct engine engine;
    start_head(&head, -1, HANG_MS);
    engine_open(&engine, &head, hello, sizeof hello - 1);
    take_init(&engine);
    engine_close(&engine);
    wait_started(&head);
    assert_non_null(strstr(head.error.text, "EngineCore_DP0 (connection lost"));
    end_head(&head);
}

/* Nobody joins: every 10 s it says whom it waits for. */
static void a_head_names_whom_it_waits_for(void **state)
{
    (void)state;
    if (!e2e_full()) {
        skip(); /* the warning comes after 10 s: only in ./dev test --full */
    }
    static struct head head;
    char text[256] = "";
    FILE *log = tmpfile();
    assert_non_null(log);
    start_head(&head, fileno(log), WAIT_MS);
    wait_started(&head);
    assert_int_equal(fseek(log, 0, SEEK_SET), 0);
    assert_non_null(fgets(text, sizeof text, log));
    assert_string_equal(text, "warning waiting for engine cores 0\n");
    (void)fclose(log);
    end_head(&head);
}

int main(void)
{
    e2e_begin();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_foreign_engine_core_joins_serves_and_goes),
        cmocka_unit_test(what_does_not_fit_is_refused),
        cmocka_unit_test(one_that_goes_during_the_start_is_missed),
        cmocka_unit_test(a_head_names_whom_it_waits_for),
    };
    return e2e_end(cmocka_run_group_tests(tests, NULL, NULL));
}

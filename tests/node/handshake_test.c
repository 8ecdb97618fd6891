/*
 * handshake_test.c - the launcher's side of the start-up, with this program as the engine cores:
 * INIT goes out when the API servers' sockets are known, who is missing is named, and an engine
 * core that is gone before its INIT is reported by name, or left to the launcher if it is its
 * child.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zmq.h>

#include "engine/base/clock.h"
#include "engine/node/handshake.h"

enum {
    HANG_MS = 30000,
    SETTLE_NS = 20000000, /* from the news of an end to the end */
};

static struct head {
    struct process process;
    struct topology topology;
    struct handshake handshake;
    void *context;
} head;

/* Node 0: an API server and one engine core; with two nodes another engine core on the second. */
static void open_head(uint32_t nodes_count)
{
    struct error error = {.text = ""};
    struct topology t = {.api_servers_count = 1,
                         .engines_count = nodes_count,
                         .tp = 1,
                         .pp = 1,
                         .listen_host = "127.0.0.1"};
    (void)snprintf(t.socket_dir, sizeof t.socket_dir, "/tmp/handshake-XXXXXX");
    assert_non_null(mkdtemp(t.socket_dir));
    for (uint32_t i = 0; i < nodes_count && nodes_count > 1; i++) {
        t.nodes[t.nodes_count++] = (struct topology_node){
            .engines_first = i, .engines_count = 1, .api_servers_count = i == 0 ? 1 : 0};
    }
    head.topology = t;
    head.process = (struct process){.topology = &head.topology, .ledger.fd = -1};
    assert_int_equal(process_take_node(&head.process, 0, &error), STATUS_OK);
    assert_int_equal(handshake_open(&head.handshake, &head.process, &error), STATUS_OK);
    head.context = zmq_ctx_new();
    assert_non_null(head.context);
}

static void close_head(void)
{
    handshake_close(&head.handshake);
    assert_int_equal(zmq_ctx_term(head.context), 0);
    assert_int_equal(rmdir(head.topology.socket_dir), 0);
}

static void *say_hello(uint32_t rank, bool local)
{
    char address[128];
    unsigned char identity[2];
    int none_ms = 0;
    int wait_ms = HANG_MS;
    struct wire_buffer buffer = {0};
    void *dealer = zmq_socket(head.context, ZMQ_DEALER);
    assert_non_null(dealer);
    wire_identity(rank, identity);
    (void)zmq_setsockopt(dealer, ZMQ_ROUTING_ID, identity, sizeof identity);
    (void)zmq_setsockopt(dealer, ZMQ_LINGER, &none_ms, sizeof none_ms);
    (void)zmq_setsockopt(dealer, ZMQ_RCVTIMEO, &wait_ms, sizeof wait_ms);
    if (local) {
        process_address(&head.process, "handshake", 0, address);
    } else {
        process_head_address(&head.process, head.handshake.port, address);
    }
    assert_int_equal(zmq_connect(dealer, address), 0);
    wire_encode_hello(
        &buffer, &(struct wire_hello){.status = WIRE_HELLO, .local = local, .headless = !local});
    assert_true(zmq_send(dealer, buffer.data, buffer.bytes, 0) > 0);
    wire_buffer_free(&buffer);
    return dealer;
}

static void assert_missing(const char *want)
{
    char text[128];
    handshake_missing(&head.handshake, text, sizeof text);
    assert_string_equal(text, want);
}

static void await_message(void)
{
    struct error error = {.text = ""};
    zmq_pollitem_t item = {.socket = head.handshake.socket, .events = ZMQ_POLLIN};
    assert_int_equal(zmq_poll(&item, 1, HANG_MS), 1);
    assert_int_equal(handshake_turn(&head.handshake, &error), STATUS_OK);
}

static void await_end(void *dealer)
{
    zmq_pollitem_t item = {.socket = head.handshake.peers.events, .events = ZMQ_POLLIN};
    assert_int_equal(zmq_close(dealer), 0);
    assert_int_equal(zmq_poll(&item, 1, HANG_MS), 1);
    clock_sleep_until_ns(clock_now_ns() + SETTLE_NS);
}

static enum status api_server_reports(struct error *error)
{
    return handshake_api_server(&head.handshake, 0, "ipc://in", "ipc://out", error);
}

static void init_waits_for_the_api_servers(void **state)
{
    (void)state;
    struct error error = {.text = ""};
    struct wire_decoder *decoder;
    struct wire_init init;
    char frame[512];
    open_head(1);
    assert_missing("engine cores 0");
    void *dealer = say_hello(0, true);
    await_message();
    assert_int_equal(zmq_recv(dealer, frame, sizeof frame, ZMQ_DONTWAIT), -1);
    assert_int_equal(api_server_reports(&error), STATUS_OK);
    int bytes = zmq_recv(dealer, frame, sizeof frame, 0);
    assert_true(bytes > 0);
    assert_int_equal(wire_decoder_create(&decoder, &error), STATUS_OK);
    assert_int_equal(wire_decode_init(decoder, frame, (size_t)bytes, &init, &error), STATUS_OK);
    assert_int_equal(init.clients_count, 1);
    assert_string_equal(init.inputs[0], "ipc://in");
    assert_string_equal(init.outputs[0], "ipc://out");
    assert_null(init.coordinator_input);
    wire_decoder_free(decoder);
    assert_missing("engine cores 0");
    assert_int_equal(zmq_close(dealer), 0);
    close_head();
}

/* The launcher reaps it and says how it ended. */
static void an_own_engine_core_that_is_gone_is_the_launchers(void **state)
{
    (void)state;
    struct error error = {.text = ""};
    open_head(1);
    void *dealer = say_hello(0, true);
    await_message();
    await_end(dealer);
    assert_int_equal(api_server_reports(&error), STATUS_OK);
    assert_int_equal(handshake_turn(&head.handshake, &error), STATUS_OK);
    close_head();
}

static void anothers_engine_core_that_is_gone_is_named(void **state)
{
    (void)state;
    static const char want[] = "EngineCore_DP1 (connection lost while the system started)";
    for (int heard_first = 0; heard_first < 2; heard_first++) {
        struct error error = {.text = ""};
        open_head(2);
        assert_missing("engine cores 0, 1");
        void *dealer = say_hello(1, false);
        await_message();
        await_end(dealer);
        assert_int_equal(heard_first != 0 ? handshake_turn(&head.handshake, &error)
                                          : api_server_reports(&error),
                         STATUS_DIED);
        assert_string_equal(error.text, want);
        close_head();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(init_waits_for_the_api_servers),
        cmocka_unit_test(an_own_engine_core_that_is_gone_is_the_launchers),
        cmocka_unit_test(anothers_engine_core_that_is_gone_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

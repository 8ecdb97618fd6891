/*
 * wire_test.c - a peer that nobody expects on the ZeroMQ sockets of a running system: malformed,
 * truncated, empty and well-formed but senseless messages into an API server's PULL, its ROUTER,
 * and both inputs of the coordinator. Each is dropped, the warning says so, nobody dies, and
 * requests are served on.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <zmq.h>

#include "engine/wire/wire.h"
#include "helper_http.h"
#include "helper_system.h"

static struct system served;
static void *context;

static int start_system(void **state)
{
    (void)state;
    struct topology t = e2e_topology(1, 2);
    e2e_start(&t, &served);
    context = zmq_ctx_new();
    assert_non_null(context);
    return 0;
}

static int stop_system(void **state)
{
    (void)state;
    assert_int_equal(zmq_ctx_term(context), 0);
    e2e_stop(&served);
    return 0;
}

/* Served, on either engine core, and nothing failed. */
static void assert_alive(void)
{
    for (int rank = 0; rank < 2; rank++) {
        char header[64];
        (void)snprintf(header, sizeof header, "X-data-parallel-rank: %d\r\n", rank);
        struct answer a = http_post_with(served.port, "/v1/completions", header,
                                         "{\"prompt\":\"alive\",\"max_tokens\":5,"
                                         "\"ignore_eos\":true}");
        struct completion c;
        completion_read(&a, &c);
        assert_int_equal(c.status, 200);
        assert_int_equal(c.text_bytes, 5);
        answer_free(&a);
    }
    if (system_failed(&served)) {
        fail_msg("%s", served.reason);
    }
}

static void *peer_open(int type, const char *name)
{
    char address[160];
    int linger_ms = 2000;
    void *socket = zmq_socket(context, type);
    assert_non_null(socket);
    (void)zmq_setsockopt(socket, ZMQ_LINGER, &linger_ms, sizeof linger_ms);
    (void)snprintf(address, sizeof address, "ipc://%s/%s", served.socket_dir, name);
    assert_int_equal(zmq_connect(socket, address), 0);
    return socket;
}

static const struct {
    const char *bytes;
    size_t count;
} malformed[] = {
    {"", 0},
    {"\xc1", 1}, /* never used by MessagePack */
    {"hello", 5},
    {"\x9f\x01\x02", 3},         /* an array of 15 that ends after 2 */
    {"\xdd\xff\xff\xff\xff", 5}, /* an array of 2^32 - 1 */
    {"\x92\x00\x91\x91\x91\x91\x91", 7},
    {"\x81\xa1x\x01", 4}, /* a map */
    {"ENGINE_CORE_DEA", 15},
    {"\x82\xa0\xa0\xa0\xa0", 5},
};

enum {
    MALFORMED_COUNT = sizeof malformed / sizeof malformed[0]
};

static bool was_warned(void *ctx)
{
    const uint32_t *before = ctx;
    (void)system_failed(&served);
    return served.warnings_count > *before;
}

static uint64_t dropped_by_coordinator(void)
{
    return E2E_SUM(&served, THREAD_COORDINATOR_MAIN, failed_count);
}

static void send_malformed(void *socket)
{
    for (int i = 0; i < MALFORMED_COUNT; i++) {
        assert_true(zmq_send(socket, malformed[i].bytes, malformed[i].count, 0) >= 0);
        /* The same as a message of several frames, more than any known one has. */
        for (int frame = 0; frame < 6; frame++) {
            assert_true(zmq_send(socket, malformed[i].bytes, malformed[i].count,
                                 frame < 5 ? ZMQ_SNDMORE : 0) >= 0);
        }
    }
}

static void an_api_server_drops_what_it_cannot_read(void **state)
{
    (void)state;
    uint32_t before = served.warnings_count;
    uint64_t messages = E2E_SUM(&served, THREAD_API_MAIN, messages_in_count);
    void *push = peer_open(ZMQ_PUSH, "out0");
    send_malformed(push);
    assert_int_equal(zmq_close(push), 0);
    assert_true(e2e_wait(was_warned, &before, HANG_MS));
    assert_alive();
    assert_true(E2E_SUM(&served, THREAD_API_MAIN, messages_in_count) >=
                messages + 2 * MALFORMED_COUNT);
}

/* Readable, but about requests and engine cores that do not exist. */
static void an_api_server_ignores_strangers(void **state)
{
    (void)state;
    static const uint32_t tokens[] = {65, 66};
    static const char *const finished[] = {"nobody-00000000", "cmpl-x-ffffffff"};
    struct engine_output output = {.id = "nobody-00000001",
                                   .new_token_ids = tokens,
                                   .new_tokens_count = 2,
                                   .finish = FINISH_STOP,
                                   .stop_token_id = TOKEN_NONE};
    struct scheduler_stats stats = {.running_count = 7, .kv_cache_usage = 0.5};
    struct utility_reply reply = {.call_id = 12345, .kind = UTILITY_NIL};
    struct engine_outputs outputs = {.engine_index = 9999,
                                     .outputs = &output,
                                     .outputs_count = 1,
                                     .stats = &stats,
                                     .finished_ids = finished,
                                     .finished_ids_count = 2,
                                     .wave_complete = -1,
                                     .start_wave = -1};
    struct engine_outputs answer = {
        .engine_index = 3, .utility = &reply, .wave_complete = -1, .start_wave = -1};
    void *push = peer_open(ZMQ_PUSH, "out0");
    struct wire_buffer buffer = {0};
    for (int i = 0; i < 3; i++) {
        wire_buffer_reset(&buffer);
        wire_encode_outputs(&buffer, i < 2 ? &outputs : &answer);
        assert_true(zmq_send(push, buffer.data, buffer.bytes, 0) >= 0);
        outputs.engine_index = 1;
    }
    wire_buffer_free(&buffer);
    assert_int_equal(zmq_close(push), 0);
    assert_alive();
}

/* A DEALER that says it is engine core 0 must not take over that engine core's requests. */
static void an_identity_cannot_be_taken_over(void **state)
{
    (void)state;
    char address[160];
    unsigned char identity[2];
    void *dealer = zmq_socket(context, ZMQ_DEALER);
    int linger_ms = 0;
    assert_non_null(dealer);
    wire_identity(0, identity);
    (void)zmq_setsockopt(dealer, ZMQ_LINGER, &linger_ms, sizeof linger_ms);
    (void)zmq_setsockopt(dealer, ZMQ_ROUTING_ID, identity, sizeof identity);
    (void)snprintf(address, sizeof address, "ipc://%s/in0", served.socket_dir);
    assert_int_equal(zmq_connect(dealer, address), 0);
    assert_true(zmq_send(dealer, "nonsense", 8, 0) >= 0);
    e2e_sleep_ms(100);
    assert_alive();
    assert_int_equal(zmq_close(dealer), 0);
    assert_alive();
}

static bool coordinator_dropped_all(void *ctx)
{
    const uint64_t *want = ctx;
    return dropped_by_coordinator() >= *want;
}

static void the_coordinator_drops_what_it_cannot_read(void **state)
{
    (void)state;
    uint32_t before = served.warnings_count;
    uint64_t want = dropped_by_coordinator() + 2 * MALFORMED_COUNT;
    void *push = peer_open(ZMQ_PUSH, "counts0");
    send_malformed(push);
    assert_int_equal(zmq_close(push), 0);
    assert_true(e2e_wait(coordinator_dropped_all, &want, HANG_MS));
    assert_alive();
    /* On the other socket XPUB takes a frame that begins with 0 or 1 for a subscription; none of
     * these does. */
    void *xsub = peer_open(ZMQ_XSUB, "front0");
    want = dropped_by_coordinator() + 3;
    e2e_sleep_ms(100); /* a subscriber's messages are lost before it is connected */
    assert_true(zmq_send(xsub, "\xc1", 1, 0) >= 0);
    assert_true(zmq_send(xsub, "hello", 5, 0) >= 0);
    assert_true(zmq_send(xsub, "\x92\xc0\xc0", 3, 0) >= 0);
    assert_true(e2e_wait(coordinator_dropped_all, &want, HANG_MS));
    assert_int_equal(zmq_close(xsub), 0);
    assert_alive();
    assert_true(e2e_wait(was_warned, &before, HANG_MS));
}

/* Counts of an engine core that does not exist, and a late subscriber at the back. */
static void the_coordinator_ignores_strangers(void **state)
{
    (void)state;
    struct scheduler_stats stats = {.running_count = 1};
    struct engine_outputs counts = {
        .engine_index = 4000000000U, .stats = &stats, .wave_complete = -1, .start_wave = -1};
    struct wire_buffer buffer = {0};
    void *push = peer_open(ZMQ_PUSH, "counts0");
    wire_encode_counts(&buffer, &counts);
    assert_true(zmq_send(push, buffer.data, buffer.bytes, 0) >= 0);
    wire_buffer_free(&buffer);
    assert_int_equal(zmq_close(push), 0);
    void *xsub = peer_open(ZMQ_XSUB, "back0");
    char reply[16] = "";
    int timeout_ms = HANG_MS;
    (void)zmq_setsockopt(xsub, ZMQ_RCVTIMEO, &timeout_ms, sizeof timeout_ms);
    assert_int_equal(zmq_send(xsub, "\x01", 1, 0), 1);
    assert_int_equal(zmq_recv(xsub, reply, sizeof reply, 0), 5);
    assert_string_equal(reply, WIRE_COORDINATOR_READY);
    assert_int_equal(zmq_close(xsub), 0);
    assert_alive();
}

/* Nobody needs the handshake any more, so it is not there to be abused. */
static void the_handshake_is_over(void **state)
{
    (void)state;
    char path[160];
    struct stat st;
    (void)snprintf(path, sizeof path, "%s/handshake0", served.socket_dir);
    assert_int_not_equal(stat(path, &st), 0);
    (void)snprintf(path, sizeof path, "%s/in0", served.socket_dir);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(stat(served.socket_dir, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
}

int main(void)
{
    e2e_begin();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_api_server_drops_what_it_cannot_read),
        cmocka_unit_test(an_api_server_ignores_strangers),
        cmocka_unit_test(an_identity_cannot_be_taken_over),
        cmocka_unit_test(the_coordinator_drops_what_it_cannot_read),
        cmocka_unit_test(the_coordinator_ignores_strangers),
        cmocka_unit_test(the_handshake_is_over),
    };
    return e2e_end(cmocka_run_group_tests(tests, start_system, stop_system));
}

/*
 * engine_io_test.c - an engine core's input and output threads, with this program as their only
 * front end: what cannot be served is answered, what cannot even be answered is dropped and
 * counted, and the next message is read as before.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zmq.h>

#include "engine/node/engine_io.h"
#include "engine/node/sockets.h"

enum {
    RANK = 3,
    HANG_MS = 30000
};

struct front_end {
    char folder[32];
    void *context;
    void *router; /* to the input thread */
    void *pulls[2];
    struct process process;
    struct engine_io io;
    struct wire_buffer buffer;
    struct wire_decoder *decoder;
};

static struct front_end front;

static void *bind_socket(int type, char address[ADDRESS_BYTES_MAX], const char *name, int index)
{
    void *socket = zmq_socket(front.context, type);
    int timeout_ms = HANG_MS;
    int linger_ms = 0;
    assert_non_null(socket);
    (void)zmq_setsockopt(socket, ZMQ_RCVTIMEO, &timeout_ms, sizeof timeout_ms);
    (void)zmq_setsockopt(socket, ZMQ_LINGER, &linger_ms, sizeof linger_ms);
    (void)snprintf(address, ADDRESS_BYTES_MAX, "ipc://%s/%s%d", front.folder, name, index);
    assert_int_equal(zmq_bind(socket, address), 0);
    return socket;
}

/* Client 0 says nothing: everything goes through client 1, the index that a body may not name. */
static int start(void **state)
{
    (void)state;
    static struct topology topology = {
        .api_servers_count = 2, .engines_count = 1, .tp = 1, .pp = 1};
    struct error error = {.text = ""};
    (void)strcpy(front.folder, "/tmp/engine-io-XXXXXX");
    assert_non_null(mkdtemp(front.folder));
    front.context = zmq_ctx_new();
    assert_int_equal(ledger_create(&topology, &front.process.ledger, &error), STATUS_OK);
    front.process.topology = front.process.ledger.topology;
    front.io.process = &front.process;
    front.io.rank = RANK;
    front.io.clients_count = 2;
    void *other = bind_socket(ZMQ_ROUTER, front.io.inputs[0], "in", 0);
    front.router = bind_socket(ZMQ_ROUTER, front.io.inputs[1], "in", 1);
    front.pulls[0] = bind_socket(ZMQ_PULL, front.io.outputs[0], "out", 0);
    front.pulls[1] = bind_socket(ZMQ_PULL, front.io.outputs[1], "out", 1);
    front.io.ready = (struct wire_ready){.dtype = "bfloat16", .version = "v", .instance_id = "i"};
    assert_int_equal(engine_io_start(&front.io, &error), STATUS_OK);
    assert_int_equal(wire_decoder_create(&front.decoder, &error), STATUS_OK);
    char frame[512];
    assert_int_equal(zmq_recv(front.router, frame, sizeof frame, 0), 2);
    assert_true(zmq_recv(front.router, frame, sizeof frame, 0) > 0);
    assert_int_equal(zmq_close(other), 0);
    return 0;
}

/* The input thread lives as long as its process, as it does in an engine core. */
static int stop(void **state)
{
    (void)state;
    engine_io_dead(&front.io);
    char frame[32];
    assert_int_equal(zmq_recv(front.pulls[1], frame, sizeof frame, 0),
                     strlen(WIRE_ENGINE_CORE_DEAD));
    assert_memory_equal(frame, WIRE_ENGINE_CORE_DEAD, strlen(WIRE_ENGINE_CORE_DEAD));
    (void)zmq_close(front.router);
    (void)zmq_close(front.pulls[0]);
    (void)zmq_close(front.pulls[1]);
    wire_decoder_free(front.decoder);
    wire_buffer_free(&front.buffer);
    char path[64];
    for (int i = 0; i < 2; i++) {
        (void)snprintf(path, sizeof path, "%s/in%d", front.folder, i);
        (void)unlink(path);
        (void)snprintf(path, sizeof path, "%s/out%d", front.folder, i);
        (void)unlink(path);
    }
    return rmdir(front.folder);
}

static void send_typed(unsigned char type, const void *body, size_t bytes)
{
    unsigned char identity[2];
    wire_identity(RANK, identity);
    assert_int_equal(zmq_send(front.router, identity, 2, ZMQ_SNDMORE), 2);
    assert_int_equal(zmq_send(front.router, &type, 1, ZMQ_SNDMORE), 1);
    assert_true(zmq_send(front.router, body, bytes, 0) >= 0);
}

static uint64_t counted(enum ledger_thread_kind kind, size_t offset)
{
    for (uint32_t i = 0; i < ledger_threads_count(&front.process.ledger); i++) {
        const struct ledger_thread *t = &front.process.ledger.threads[i];
        /* A slot may be claimed and not filled yet. */
        bool filled = atomic_load_explicit(&t->state, memory_order_acquire) == LEDGER_THREAD_LIVE;
        if (filled && t->kind == (uint32_t)kind) {
            return ledger_get((const ledger_counter *)(const void *)((const char *)t + offset));
        }
    }
    fail();
    return 0;
}

static uint64_t dropped(void)
{
    return counted(THREAD_ENGINE_INPUT, offsetof(struct ledger_thread, failed_count));
}

/* A whole ADD comes through to the main thread's queue: the input thread reads on. */
static void assert_reads_on(void)
{
    static const uint32_t prompt[] = {1, 2, 300};
    struct engine_request request = {
        .id = "good-00000001",
        .prompt_token_ids = prompt,
        .prompt_tokens_count = 3,
        .sampling = {.max_tokens = 4, .n = 1, .temperature = 1, .top_p = 1},
        .data_parallel_rank = RANK_NONE,
        .client_index = 1,
    };
    wire_buffer_reset(&front.buffer);
    wire_encode_request(&front.buffer, &request);
    send_typed(WIRE_ADD, front.buffer.data, front.buffer.bytes);
    struct queue_item *item = queue_take_all(&front.io.in, (int64_t)HANG_MS * 1000000);
    assert_non_null(item);
    assert_null(item->next);
    assert_int_equal(item->kind, ITEM_ADD);
    assert_string_equal(item->as.request.id, "good-00000001");
    assert_memory_equal(item->as.request.prompt_token_ids, prompt, sizeof prompt);
    free(item);
}

/* The next message to client 1 ends `id` by an error and holds nothing else. */
static void assert_refused(const char *id)
{
    char frame[512];
    struct engine_outputs outputs;
    int bytes = zmq_recv(front.pulls[1], frame, sizeof frame, 0);
    assert_true(bytes > 0);
    assert_int_equal(wire_decode_outputs(front.decoder, frame, (size_t)bytes, &outputs, NULL),
                     STATUS_OK);
    assert_int_equal(outputs.engine_index, RANK);
    assert_int_equal(outputs.outputs_count, 1);
    assert_string_equal(outputs.outputs[0].id, id);
    assert_int_equal(outputs.outputs[0].finish, FINISH_ERROR);
    assert_int_equal(outputs.outputs[0].new_tokens_count, 0);
    assert_int_equal(outputs.finished_ids_count, 1);
    assert_string_equal(outputs.finished_ids[0], id);
    assert_null(outputs.utility);
}

/* Written by hand, from the field table of the protocol. */
static const struct {
    const char *bytes;
    size_t count;
} with_id[] = {
    /* no prompt, no sampling parameters: an array of 9 with nil everywhere */
    {"\x99\xa7id-0001\xc0\xc0\xc0\xc0\xcb\0\0\0\0\0\0\0\0\xc0\xc0\xc0", 25},
    /* the prompt is a string */
    {"\x99\xa7id-0002\xa3\x61\x62\x63\xc0\x80\xc0\x00\xc0\xc0\xc0", 19},
    /* too short: an id and a prompt */
    {"\x92\xa7id-0003\x93\x01\x02\x03", 13},
    /* bytes behind the body */
    {"\x91\xa7id-0004\xc0\xc0", 11},
    /* an adapter, which nothing here has: well-formed, not supported */
    {"\x99\xa7id-0005\x91\x01\xc0\x81\xaamax_tokens\x04\xc0\x00\x97\xa1x\x01\xa0\xc0\xc0\xc2\xc2"
     "\xc0\xc0",
     36},
};

enum {
    WITH_ID_COUNT = sizeof with_id / sizeof with_id[0]
};

static void an_unreadable_add_is_answered_if_its_id_is_readable(void **state)
{
    (void)state;
    for (int i = 0; i < WITH_ID_COUNT; i++) {
        char id[16];
        uint64_t before = dropped();
        (void)snprintf(id, sizeof id, "id-000%d", i + 1);
        send_typed(WIRE_ADD, with_id[i].bytes, with_id[i].count);
        assert_refused(id);
        assert_int_equal(dropped(), before + 1);
        assert_reads_on();
    }
}

static void what_has_no_id_is_dropped_and_counted(void **state)
{
    (void)state;
    static const struct {
        unsigned char type;
        const char *bytes;
        size_t count;
    } items[] = {
        {WIRE_ADD, "", 0},
        {WIRE_ADD, "\xc1", 1},
        {WIRE_ADD, "\x90", 1},                 /* an array of none */
        {WIRE_ADD, "\x99\x07\xc0", 3},         /* the id is a number, and elements are missing */
        {WIRE_ADD, "\x91\xa7id", 4},           /* an id that ends early */
        {WIRE_ADD, "\xdd\xff\xff\xff\xff", 5}, /* an array of 2^32 - 1 */
        {WIRE_ABORT, "\x91\x07", 2},           /* not an ADD */
        {WIRE_UTILITY, "\x91\xa7id-0001", 9},
        {9, "\x91\xa7id-0001", 9}, /* of no known type */
    };
    const uint64_t before = dropped();
    uint64_t out =
        counted(THREAD_ENGINE_OUTPUT, offsetof(struct ledger_thread, messages_out_count));
    for (size_t i = 0; i < sizeof items / sizeof items[0]; i++) {
        send_typed(items[i].type, items[i].bytes, items[i].count);
        assert_reads_on();
        assert_int_equal(dropped(), before + i + 1);
    }
    /* Nobody was answered: the next answer is to what has an id. */
    send_typed(WIRE_ADD, with_id[0].bytes, with_id[0].count);
    assert_refused("id-0001");
    assert_int_equal(
        counted(THREAD_ENGINE_OUTPUT, offsetof(struct ledger_thread, messages_out_count)), out + 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_unreadable_add_is_answered_if_its_id_is_readable),
        cmocka_unit_test(what_has_no_id_is_dropped_and_counted),
    };
    /* Warnings go there; it must not be a descriptor of this program's own. */
    int null_fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
    if (null_fd < 0 || dup2(null_fd, EVENT_FD) < 0) {
        return EXIT_FAILURE;
    }
    return cmocka_run_group_tests(tests, start, stop);
}

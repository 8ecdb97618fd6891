/*
 * load_client_test.c - the load client against the null server, which is a process of its own:
 * nothing sent may be unaccounted for, tokens must be those asked for, every way to fail must be
 * recorded as what it was, connections must be balanced or refused, and records must outlive a
 * killed client. No absolute times are asserted.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "harness/load/ceiling.h"
#include "harness/load/client.h"
#include "harness/load/listener.h"
#include "harness/load/null_server.h"
#include "harness/load/schedule.h"

#define MS ((int64_t)1000000)

static struct load_options closed_options(uint32_t users, uint64_t requests)
{
    return (struct load_options){
        .targets = {{.host = "127.0.0.1"}},
        .targets_count = 1,
        .model = "null",
        .mode = LOAD_CLOSED,
        .users_count = users,
        .requests_max = requests,
        .seed = 7,
        .prompt_tokens = {.lo = 4, .hi = 40},
        .output_tokens = {.lo = 1, .hi = 20},
        .stream = 1,
        .window_ns = 60000 * MS, /* ends when the requests do */
        .batches_count = 8,
        .time_scale = 1.0,
    };
}

static struct load_options open_options(double rate, uint64_t requests, uint32_t connections)
{
    struct load_options o = closed_options(0, requests);
    o.mode = LOAD_OPEN_POISSON;
    o.rate_per_s = rate;
    o.connections_count = connections;
    o.drain_ns = 20000 * MS;
    return o;
}

/* Runs the load against a fresh null server. Caller closes *shared. */
static enum status run(const struct null_options *null_options, struct load_options *o,
                       struct load_shared *shared, struct error *error)
{
    struct null_process server;
    assert_int_equal(null_start(null_options, &server, NULL), STATUS_OK);
    o->targets[0].port = server.port;
    assert_int_equal(load_shared_create(o, shared, NULL), STATUS_OK);
    enum status status = load_run(&shared->header->options, shared, error);
    null_stop(&server);
    return status;
}

static uint64_t outcomes_sum(const struct load_header *header)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < LOAD_OUTCOMES_COUNT; i++) {
        sum += load_get(&header->outcome_count[i]);
    }
    return sum;
}

static uint64_t count_of(const struct load_shared *shared, enum load_outcome outcome)
{
    return load_get(&shared->header->outcome_count[outcome]);
}

/* The counters against the records they stand for. */
static void check_books(const struct load_shared *shared)
{
    uint64_t by_outcome[LOAD_OUTCOMES_COUNT] = {0};
    uint64_t records = 0;
    uint64_t tokens = 0;
    uint64_t sent = 0;
    for (uint32_t i = 0; i < LOAD_RECORDS_COUNT; i++) {
        const struct load_record *r = &shared->records[i];
        if (atomic_load(&r->number_plus_1) != 0) {
            records++;
            tokens += r->completion_tokens;
            sent += r->t_sent_ns != 0;
            by_outcome[atomic_load(&r->outcome)]++;
        }
    }
    const struct load_header *h = shared->header;
    assert_int_equal(atomic_load(&h->phase), LOAD_PHASE_DONE);
    assert_int_equal(records, load_get(&h->offered_count));
    assert_int_equal(sent, load_get(&h->sent_count));
    assert_int_equal(tokens, load_get(&h->tokens));
    assert_int_equal(load_get(&h->inflight), 0);
    assert_int_equal(by_outcome[LOAD_OUTCOME_OPEN], 0);
    assert_int_equal(outcomes_sum(h), records);
    for (uint32_t i = 0; i < LOAD_OUTCOMES_COUNT; i++) {
        assert_int_equal(by_outcome[i], load_get(&h->outcome_count[i]));
    }
    uint64_t offered = 0;
    uint64_t bucket_sent = 0;
    uint64_t bucket_tokens = 0;
    for (uint32_t i = 0; i < LOAD_BUCKETS_COUNT; i++) {
        offered += atomic_load(&shared->timeline[i].offered_count);
        bucket_sent += atomic_load(&shared->timeline[i].sent_count);
        bucket_tokens += atomic_load(&shared->timeline[i].tokens);
    }
    assert_int_equal(offered, records);
    assert_int_equal(bucket_sent, sent);
    assert_int_equal(bucket_tokens, tokens);
}

static void check_whole_request(const struct load_record *r)
{
    assert_int_equal(atomic_load(&r->outcome), LOAD_OUTCOME_OK);
    assert_int_equal(r->http_status, 200);
    assert_int_equal(r->completion_tokens, r->output_tokens_asked);
    assert_true(r->t_sched_ns > 0 && r->t_sched_ns <= r->t_sent_ns);
    assert_true(r->t_hdr_ns > 0 && r->t_hdr_ns <= r->t_evt_ns);
    assert_true(r->t_evt_ns <= r->t_first_ns && r->t_first_ns <= r->t_last_ns);
    assert_true(r->t_last_ns <= r->t_done_ns);
}

static void closed_loop_accounts_for_every_request(void **state)
{
    (void)state;
    struct null_options server = {0};
    struct load_options o = closed_options(8, 500);
    struct load_shared shared;
    assert_int_equal(run(&server, &o, &shared, NULL), STATUS_OK);
    check_books(&shared);
    const struct load_header *h = shared.header;
    assert_int_equal(count_of(&shared, LOAD_OUTCOME_OK), 500);
    assert_int_equal(atomic_load(&h->window_cut), 1);
    struct schedule schedule;
    struct schedule_item item;
    schedule_init(&schedule, &o, NULL);
    uint64_t tokens = 0;
    uint64_t gaps = 0;
    while (schedule_next(&schedule, &item)) {
        const struct load_record *r = &shared.records[item.number];
        check_whole_request(r);
        assert_int_equal(atomic_load(&r->number_plus_1), item.number + 1);
        assert_int_equal(r->prompt_tokens_asked, item.prompt_tokens);
        assert_int_equal(r->completion_tokens, item.output_tokens);
        assert_int_equal(r->content_events_count, item.output_tokens);
        assert_int_equal(r->token_basis, LOAD_BASIS_USAGE);
        assert_true(r->connection < 8);
        tokens += item.output_tokens;
        gaps += item.output_tokens - 1;
    }
    assert_int_equal(load_get(&h->tokens), tokens);
    assert_int_equal(load_window_tokens(h), tokens);
    assert_int_equal(load_window_tokens_of(h, LOAD_API_SERVERS_MAX), tokens);
    assert_int_equal(atomic_load(&h->icl.total), gaps);
    assert_int_equal(atomic_load(&h->itl.total), gaps);
    assert_true(load_get(&h->inflight_max) <= 8);
    load_shared_close(&shared);
}

static void a_window_ends_a_closed_loop(void **state)
{
    (void)state;
    struct null_options server = {
        .events_each_send = 1, .send_gap_ns = 2 * MS, .api_servers_count = 3};
    struct load_options o = closed_options(6, 0);
    o.warmup_ns = 100 * MS;
    o.window_ns = 400 * MS;
    struct load_shared shared;
    assert_int_equal(run(&server, &o, &shared, NULL), STATUS_OK);
    check_books(&shared);
    const struct load_header *h = shared.header;
    assert_int_equal(atomic_load(&h->window_cut), 0);
    assert_int_equal(atomic_load(&h->window_end_ns) - atomic_load(&h->window_start_ns), 400 * MS);
    assert_int_equal(atomic_load(&h->batch_ns), 50 * MS);
    uint64_t ended = count_of(&shared, LOAD_OUTCOME_OK) + count_of(&shared, LOAD_OUTCOME_CANCELLED);
    assert_int_equal(ended, load_get(&h->offered_count));
    assert_true(count_of(&shared, LOAD_OUTCOME_CANCELLED) <= 6);
    assert_true(count_of(&shared, LOAD_OUTCOME_CANCELLED) > 0);
    uint64_t batches = 0;
    for (uint32_t i = 0; i < 8; i++) {
        batches += load_batch_tokens(h, i);
    }
    uint64_t servers = 0;
    for (uint32_t i = 0; i < 3; i++) {
        servers += load_window_tokens_of(h, i);
    }
    assert_int_equal(batches, load_window_tokens(h));
    assert_int_equal(servers, batches);
    assert_true(batches > 0 && batches < load_get(&h->tokens));
    /* Six users who never think are in flight nearly always, and never more than six. */
    uint64_t most = 6 * (uint64_t)(400 * MS);
    assert_in_range(load_get(&h->inflight_window_ns), most / 2, most);
    load_shared_close(&shared);
}

static void open_loop_keeps_to_its_schedule(void **state)
{
    (void)state;
    struct null_options server = {.api_servers_count = 2};
    struct load_options o = open_options(2000.0, 300, 16);
    o.window_ns = 0; /* up to the last arrival */
    struct load_shared shared;
    assert_int_equal(run(&server, &o, &shared, NULL), STATUS_OK);
    check_books(&shared);
    assert_int_equal(count_of(&shared, LOAD_OUTCOME_OK), 300);
    struct schedule schedule;
    struct schedule_item item;
    schedule_init(&schedule, &o, NULL);
    int64_t start_ns = atomic_load(&shared.header->start_ns);
    while (schedule_next(&schedule, &item)) {
        const struct load_record *r = &shared.records[item.number];
        check_whole_request(r);
        assert_int_equal(r->t_sched_ns - start_ns, item.offset_ns);
        assert_true(r->api_server < 2);
    }
    int64_t end_ns = atomic_load(&shared.header->window_end_ns);
    assert_int_equal(end_ns - start_ns, schedule_last_offset_ns(&o, NULL) + 1);
    load_shared_close(&shared);
}

static void too_few_connections_make_arrivals_late(void **state)
{
    (void)state;
    struct null_options server = {.events_each_send = 1, .send_gap_ns = MS};
    struct load_options o = open_options(5000.0, 60, 2);
    o.output_tokens = (struct load_range){.lo = 10, .hi = 10};
    struct load_shared shared;
    assert_int_equal(run(&server, &o, &shared, NULL), STATUS_OK);
    check_books(&shared);
    assert_int_equal(count_of(&shared, LOAD_OUTCOME_OK), 60);
    assert_true(load_get(&shared.header->full_count) > 0);
    assert_int_equal(load_get(&shared.header->inflight_max), 2);
    load_shared_close(&shared);
}

static void arrivals_without_a_connection_are_dropped_when_asked(void **state)
{
    (void)state;
    struct null_options server = {.fault = NULL_FAULT_STALL, .fault_period = 1};
    struct load_options o = open_options(2000.0, 40, 3);
    o.on_full = LOAD_FULL_DROP;
    o.window_ns = 200 * MS;
    o.drain_ns = 50 * MS;
    struct load_shared shared;
    assert_int_equal(run(&server, &o, &shared, NULL), STATUS_OK);
    check_books(&shared);
    assert_int_equal(load_get(&shared.header->offered_count), 40);
    assert_int_equal(count_of(&shared, LOAD_OUTCOME_DROPPED), 37);
    assert_int_equal(count_of(&shared, LOAD_OUTCOME_TIMEOUT), 3);
    load_shared_close(&shared);
}

static void stalled_requests_time_out(void **state)
{
    (void)state;
    struct null_options server = {.fault = NULL_FAULT_STALL, .fault_period = 4};
    struct load_options o = closed_options(4, 20);
    o.request_timeout_ns = 1000 * MS;
    struct load_shared shared;
    assert_int_equal(run(&server, &o, &shared, NULL), STATUS_OK);
    check_books(&shared);
    assert_int_equal(count_of(&shared, LOAD_OUTCOME_TIMEOUT), 5);
    assert_int_equal(count_of(&shared, LOAD_OUTCOME_OK), 15);
    load_shared_close(&shared);
}

static void every_failure_is_recorded_as_what_it_was(void **state)
{
    (void)state;
    static const struct {
        enum null_fault fault;
        enum load_outcome outcome;
    } cases[] = {
        {NULL_FAULT_CLOSE, LOAD_OUTCOME_RESET},
        {NULL_FAULT_CUT, LOAD_OUTCOME_TRUNCATED},
        {NULL_FAULT_NO_DONE, LOAD_OUTCOME_TRUNCATED},
        {NULL_FAULT_EMPTY, LOAD_OUTCOME_EMPTY},
        {NULL_FAULT_MALFORMED, LOAD_OUTCOME_PARSE},
        {NULL_FAULT_NO_HTTP, LOAD_OUTCOME_PARSE},
        {NULL_FAULT_STATUS_400, LOAD_OUTCOME_HTTP_4XX},
        {NULL_FAULT_STATUS_500, LOAD_OUTCOME_HTTP_5XX},
        {NULL_FAULT_ERROR_EVENT, LOAD_OUTCOME_HTTP_5XX},
        {NULL_FAULT_RESET, LOAD_OUTCOME_RESET},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct null_options server = {.fault = (uint32_t)cases[i].fault, .fault_period = 5};
        struct load_options o = closed_options(4, 50);
        struct load_shared shared;
        assert_int_equal(run(&server, &o, &shared, NULL), STATUS_OK);
        check_books(&shared);
        uint64_t failed = count_of(&shared, cases[i].outcome);
        uint64_t ok = count_of(&shared, LOAD_OUTCOME_OK);
        if (failed != 10 || ok != 40) {
            fail_msg("case %zu: %lu as %s, %lu ok", i, (unsigned long)failed,
                     load_outcome_name(cases[i].outcome), (unsigned long)ok);
        }
        for (uint32_t k = 0; k < 50; k++) {
            bool faulty = atomic_load(&shared.records[k].outcome) != LOAD_OUTCOME_OK;
            assert_int_equal(faulty, k % 5 == 0);
        }
        load_shared_close(&shared);
    }
}

static void tokens_behind_one_event_are_found_by_usage(void **state)
{
    (void)state;
    struct null_options server = {.tokens_each_event = 4};
    struct load_options o = closed_options(2, 30);
    struct load_shared shared;
    assert_int_equal(run(&server, &o, &shared, NULL), STATUS_OK);
    check_books(&shared);
    for (uint32_t i = 0; i < 30; i++) {
        const struct load_record *r = &shared.records[i];
        check_whole_request(r);
        assert_int_equal(r->content_events_count, (r->output_tokens_asked + 3) / 4);
    }
    load_shared_close(&shared);
}

static void answers_need_not_be_streams(void **state)
{
    (void)state;
    struct null_options server = {.api_servers_count = 1};
    struct load_options o = closed_options(4, 100);
    o.stream = 0;
    struct load_shared shared;
    assert_int_equal(run(&server, &o, &shared, NULL), STATUS_OK);
    check_books(&shared);
    for (uint32_t i = 0; i < 100; i++) {
        check_whole_request(&shared.records[i]);
        assert_int_equal(shared.records[i].api_server, 0);
    }
    load_shared_close(&shared);
}

static void connections_are_spread_evenly(void **state)
{
    (void)state;
    struct null_options server = {.api_servers_count = 3, .seed = 11};
    struct load_options o = closed_options(32, 200);
    o.balance = 1;
    o.api_servers_count = 3;
    struct load_shared shared;
    assert_int_equal(run(&server, &o, &shared, NULL), STATUS_OK);
    check_books(&shared);
    const struct load_header *h = shared.header;
    uint64_t sum = 0;
    for (uint32_t i = 0; i < 3; i++) {
        assert_in_range(load_get(&h->connections_count[i]), 10, 11);
        sum += load_get(&h->connections_count[i]);
    }
    assert_int_equal(sum, 32);
    assert_true(load_get(&h->balance_tries_count) > 32); /* server 0 was offered far too often */
    assert_int_equal(count_of(&shared, LOAD_OUTCOME_OK), 200);
    load_shared_close(&shared);
}

/* Two servers behind one load; caller stops them. */
static void start_two(const struct null_options null_options[2], struct null_process servers[2],
                      struct load_options *o)
{
    for (int i = 0; i < 2; i++) {
        assert_int_equal(null_start(&null_options[i], &servers[i], NULL), STATUS_OK);
        o->targets[i] = o->targets[0];
        o->targets[i].port = servers[i].port;
    }
    o->targets_count = 2;
}

static void stop_two(struct null_process servers[2])
{
    null_stop(&servers[0]);
    null_stop(&servers[1]);
}

/* The second one answers everything with 500: that is how it is known who answered. */
static const struct null_options good_and_bad[2] = {
    {0}, {.fault = NULL_FAULT_STATUS_500, .fault_period = 1}};

static bool answered_by_second(const struct load_record *r)
{
    return atomic_load(&r->outcome) == LOAD_OUTCOME_HTTP_5XX;
}

/* A user stays with one server, and every second user with the second. */
static void two_servers_share_the_users(void **state)
{
    (void)state;
    struct null_process servers[2];
    struct load_options o = closed_options(7, 210);
    struct load_shared shared;
    start_two(good_and_bad, servers, &o);
    assert_int_equal(load_shared_create(&o, &shared, NULL), STATUS_OK);
    assert_int_equal(load_run(&shared.header->options, &shared, NULL), STATUS_OK);
    stop_two(servers);
    check_books(&shared);
    assert_int_equal(count_of(&shared, LOAD_OUTCOME_OK) + count_of(&shared, LOAD_OUTCOME_HTTP_5XX),
                     210);
    uint32_t users[7] = {0};
    for (int i = 0; i < 210; i++) {
        const struct load_record *r = &shared.records[i];
        assert_int_equal(answered_by_second(r), r->connection % 2);
        users[r->connection]++;
    }
    for (int i = 0; i < 7; i++) {
        assert_true(users[i] > 0);
    }
    load_shared_close(&shared);
}

/* While both servers have idle connections, request k goes to server k modulo 2. */
static void arrivals_go_to_each_server_in_turn(void **state)
{
    (void)state;
    struct null_process servers[2];
    struct load_options o = open_options(2000, 300, 64);
    struct load_shared shared;
    start_two(good_and_bad, servers, &o);
    assert_int_equal(load_shared_create(&o, &shared, NULL), STATUS_OK);
    assert_int_equal(load_run(&shared.header->options, &shared, NULL), STATUS_OK);
    stop_two(servers);
    assert_int_equal(count_of(&shared, LOAD_OUTCOME_OK) + count_of(&shared, LOAD_OUTCOME_HTTP_5XX),
                     300);
    uint32_t out_of_turn = 0;
    for (uint32_t i = 0; i < 300; i++) {
        out_of_turn += answered_by_second(&shared.records[i]) != (i % 2 == 1);
    }
    /* All of one server's 32 connections busy at a moment: possible on a stalled machine. */
    assert_true(out_of_turn <= 30);
    load_shared_close(&shared);
}

static void an_api_server_at_the_wrong_address_is_an_error(void **state)
{
    (void)state;
    struct null_process servers[2];
    const struct null_options null_options[2] = {
        {.api_servers_count = 1}, {.api_servers_count = 1}}; /* both call themselves 0 */
    struct load_options o = closed_options(4, 10);
    struct load_shared shared;
    struct error error = {0};
    o.balance = 1;
    o.api_servers_count = 2;
    start_two(null_options, servers, &o);
    assert_int_equal(load_shared_create(&o, &shared, NULL), STATUS_OK);
    assert_int_equal(load_run(&shared.header->options, &shared, &error), STATUS_PROTOCOL);
    stop_two(servers);
    assert_non_null(strstr(error.text, "API server 0 answered at"));
    load_shared_close(&shared);
}

static void impossible_balance_is_an_error_that_says_so(void **state)
{
    (void)state;
    struct null_options one = {.api_servers_count = 1};
    struct null_options none = {0};
    struct load_options o = closed_options(4, 10);
    o.balance = 1;
    o.api_servers_count = 2;
    struct load_shared shared;
    struct error error = {0};
    assert_int_equal(run(&one, &o, &shared, &error), STATUS_TIMEOUT);
    assert_non_null(strstr(error.text, "4 connections could not be spread evenly over 2"));
    assert_non_null(strstr(error.text, "they have 2 0"));
    load_shared_close(&shared);
    assert_int_equal(run(&none, &o, &shared, &error), STATUS_PROTOCOL);
    assert_non_null(strstr(error.text, "X-Api-Server"));
    check_books(&shared);
    load_shared_close(&shared);
}

static void a_server_that_is_not_there_is_an_error(void **state)
{
    (void)state;
    int fd = -1;
    struct load_options o = closed_options(2, 10);
    assert_int_equal(listener_open(0, &fd, &o.targets[0].port, NULL), STATUS_OK);
    (void)close(fd); /* a port that nobody listens on */
    o.connect_timeout_ns = 200 * MS;
    struct load_shared shared;
    struct error error = {0};
    assert_int_equal(load_shared_create(&o, &shared, NULL), STATUS_OK);
    assert_int_equal(load_run(&shared.header->options, &shared, &error), STATUS_TIMEOUT);
    assert_non_null(strstr(error.text, "0 of 2 connections: Connection refused"));
    assert_string_equal(shared.header->error_text, error.text);
    assert_int_equal(atomic_load(&shared.header->status), STATUS_TIMEOUT);
    load_shared_close(&shared);
}

/* The client in a child of its own. */
static pid_t start_client(struct load_shared *shared)
{
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        _exit((int)load_run(&shared->header->options, shared, NULL));
    }
    return pid;
}

static void wait_for_ok(const struct load_shared *shared, uint64_t count)
{
    for (int i = 0; i < 20000 && count_of(shared, LOAD_OUTCOME_OK) < count; i++) {
        (void)usleep(1000);
    }
    assert_true(count_of(shared, LOAD_OUTCOME_OK) >= count);
}

static void start_both(struct null_process *server, struct load_shared *shared, pid_t *client)
{
    struct null_options null_options = {0};
    struct load_options o = closed_options(8, 0);
    assert_int_equal(null_start(&null_options, server, NULL), STATUS_OK);
    o.targets[0].port = server->port;
    assert_int_equal(load_shared_create(&o, shared, NULL), STATUS_OK);
    *client = start_client(shared);
    wait_for_ok(shared, 200);
}

static void records_outlive_a_killed_client(void **state)
{
    (void)state;
    struct null_process server;
    struct load_shared shared;
    pid_t client;
    start_both(&server, &shared, &client);
    assert_int_equal(kill(client, SIGKILL), 0);
    assert_int_equal(waitpid(client, NULL, 0), client);
    null_stop(&server);
    uint64_t ok = 0;
    uint64_t open = 0;
    for (uint32_t i = 0; i < LOAD_RECORDS_COUNT; i++) {
        const struct load_record *r = &shared.records[i];
        if (atomic_load(&r->number_plus_1) == 0) {
            continue;
        }
        assert_int_equal(atomic_load(&r->number_plus_1), i + 1);
        if (atomic_load(&r->outcome) == LOAD_OUTCOME_OPEN) {
            open++;
        } else {
            check_whole_request(r);
            ok++;
        }
    }
    assert_true(open <= 9);
    assert_in_range(count_of(&shared, LOAD_OUTCOME_OK), ok, ok + 1);
    assert_int_equal(atomic_load(&shared.header->phase), LOAD_PHASE_WINDOW);
    load_shared_close(&shared);
}

static void sigterm_stops_the_client_cleanly(void **state)
{
    (void)state;
    struct null_process server;
    struct load_shared shared;
    pid_t client;
    int result = -1;
    start_both(&server, &shared, &client);
    assert_int_equal(kill(client, SIGTERM), 0);
    assert_int_equal(waitpid(client, &result, 0), client);
    null_stop(&server);
    assert_true(WIFEXITED(result) && WEXITSTATUS(result) == STATUS_OK);
    assert_int_equal(atomic_load(&shared.header->stopped), 1);
    assert_int_equal(atomic_load(&shared.header->window_cut), 1);
    check_books(&shared);
    assert_int_equal(count_of(&shared, LOAD_OUTCOME_OK) + count_of(&shared, LOAD_OUTCOME_CANCELLED),
                     outcomes_sum(shared.header));
    load_shared_close(&shared);
}

static void a_dead_server_ends_the_load(void **state)
{
    (void)state;
    struct null_process server;
    struct load_shared shared;
    pid_t client;
    int result = -1;
    start_both(&server, &shared, &client);
    null_stop(&server);
    assert_int_equal(waitpid(client, &result, 0), client);
    assert_true(WIFEXITED(result) && WEXITSTATUS(result) == STATUS_DIED);
    assert_int_equal(atomic_load(&shared.header->server_lost), 1);
    check_books(&shared);
    assert_true(count_of(&shared, LOAD_OUTCOME_CONNECT) >= 8);
    assert_int_equal(count_of(&shared, LOAD_OUTCOME_CANCELLED), 0);
    load_shared_close(&shared);
}

/* The record of a request; NULL: there is none. */
static const struct load_record *record_of(const struct load_shared *shared, uint64_t number)
{
    for (uint64_t i = 0; i < load_get(&shared->header->offered_count); i++) {
        if (atomic_load(&shared->records[i].number_plus_1) == number + 1) {
            return &shared->records[i];
        }
    }
    return NULL;
}

/* Each user's requests follow its last answer by exactly the think time drawn, and nobody else's.
 */
static void users_think_between_their_requests(void **state)
{
    (void)state;
    enum {
        USERS = 9,
        REQUESTS = 100
    };
    struct null_options server = {0};
    struct load_options o = closed_options(USERS, REQUESTS);
    o.think_mean_ns = 20 * MS;
    o.turns_count = 3;
    struct load_shared shared;
    assert_int_equal(run(&server, &o, &shared, NULL), STATUS_OK);
    check_books(&shared);
    assert_int_equal(count_of(&shared, LOAD_OUTCOME_OK), REQUESTS);
    int64_t start_ns = atomic_load(&shared.header->start_ns);
    struct schedule schedule;
    schedule_init(&schedule, &o, NULL);
    /* Who is done thinking first is first. */
    for (uint64_t i = 1; i < REQUESTS; i++) {
        assert_true(shared.records[i].t_sched_ns >= shared.records[i - 1].t_sched_ns);
    }
    for (uint64_t number = 0; number < REQUESTS; number++) {
        const struct load_record *r = record_of(&shared, number);
        assert_non_null(r);
        check_whole_request(r);
        assert_int_equal(r->connection, number % USERS);
        struct schedule_item item;
        assert_true(schedule_of_user(&schedule, r->connection, number / USERS, &item));
        assert_int_equal(r->prompt_tokens_asked, item.prompt_tokens);
        if (number < USERS) {
            int64_t think_ns = schedule_think_ns(&o, SCHEDULE_BEFORE_FIRST + number);
            assert_int_equal(r->t_sched_ns, start_ns + think_ns);
        } else {
            const struct load_record *before = record_of(&shared, number - USERS);
            assert_int_equal(r->t_sched_ns,
                             before->t_done_ns + schedule_think_ns(&o, number - USERS));
        }
    }
    load_shared_close(&shared);
}

/* Who thinks when the window ends sends nothing more, and the load still ends. */
static void a_window_ends_users_who_think(void **state)
{
    (void)state;
    struct null_options server = {0};
    struct load_options o = closed_options(4, 0);
    o.think_mean_ns = 50 * MS;
    o.window_ns = 300 * MS;
    struct load_shared shared;
    assert_int_equal(run(&server, &o, &shared, NULL), STATUS_OK);
    check_books(&shared);
    int64_t end_ns = atomic_load(&shared.header->window_end_ns);
    for (uint64_t i = 0; i < load_get(&shared.header->offered_count); i++) {
        assert_true(shared.records[i].t_sched_ns <= end_ns);
    }
    load_shared_close(&shared);
}

static void a_trace_is_replayed(void **state)
{
    (void)state;
    char path[] = "/tmp/load_client_test_XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    const char text[] =
        "{\"timestamp\":0,\"input_length\":600,\"output_length\":5,\"hash_ids\":[1,2]}\n"
        "{\"timestamp\":40,\"input_length\":700,\"output_length\":0,\"hash_ids\":[1,3]}\n"
        "{\"timestamp\":80,\"input_length\":700,\"output_length\":6,\"hash_ids\":[1,3]}";
    assert_int_equal(write(fd, text, sizeof text - 1), (int)sizeof text - 1);
    (void)close(fd);
    struct null_options server = {0};
    struct load_options o = open_options(0.0, 0, 4);
    o.mode = LOAD_TRACE;
    o.time_scale = 4.0;
    o.window_ns = 0;
    (void)snprintf(o.trace_path, sizeof o.trace_path, "%s", path);
    struct load_shared shared;
    assert_int_equal(run(&server, &o, &shared, NULL), STATUS_OK);
    (void)unlink(path);
    check_books(&shared);
    assert_int_equal(count_of(&shared, LOAD_OUTCOME_OK), 2);
    assert_int_equal(load_get(&shared.header->trace_refused_zero_count), 1);
    assert_int_equal(shared.records[1].t_sched_ns - shared.records[0].t_sched_ns, 20 * MS);
    assert_int_equal(shared.records[1].trace_line, 3);
    assert_int_equal(shared.records[1].completion_tokens, 6);
    load_shared_close(&shared);
}

static void a_region_of_another_kind_is_refused(void **state)
{
    (void)state;
    struct load_options o = closed_options(1, 1);
    o.targets[0].port = 1;
    struct load_shared shared;
    struct load_shared again;
    assert_int_equal(load_shared_create(&o, &shared, NULL), STATUS_OK);
    assert_int_equal(load_shared_open(dup(shared.fd), &again, NULL), STATUS_OK);
    assert_int_equal(again.header->options.seed, 7);
    load_shared_close(&again);
    shared.header->version++;
    assert_int_equal(load_shared_open(shared.fd, &again, NULL), STATUS_PROTOCOL);
    assert_int_equal(load_shared_open(0, &again, NULL), STATUS_PROTOCOL);
    load_shared_close(&shared);
}

static void the_ceiling_is_measured(void **state)
{
    (void)state;
    struct load_ceiling_options o = {.connections_count = 8, .window_ns = 100 * MS};
    struct load_ceiling ceiling;
    assert_int_equal(load_ceiling_measure(&o, &ceiling, NULL), STATUS_OK);
    assert_true(ceiling.requests_per_s > 0.0 && ceiling.tokens_per_s > ceiling.requests_per_s);
    assert_true(ceiling.request_cpu_us > 0.0 && ceiling.token_cpu_us > 0.0);
    assert_true(ceiling.token_cpu_us < ceiling.request_cpu_us);
    assert_int_equal(ceiling.failed_count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(closed_loop_accounts_for_every_request),
        cmocka_unit_test(a_window_ends_a_closed_loop),
        cmocka_unit_test(open_loop_keeps_to_its_schedule),
        cmocka_unit_test(too_few_connections_make_arrivals_late),
        cmocka_unit_test(arrivals_without_a_connection_are_dropped_when_asked),
        cmocka_unit_test(stalled_requests_time_out),
        cmocka_unit_test(every_failure_is_recorded_as_what_it_was),
        cmocka_unit_test(tokens_behind_one_event_are_found_by_usage),
        cmocka_unit_test(answers_need_not_be_streams),
        cmocka_unit_test(connections_are_spread_evenly),
        cmocka_unit_test(two_servers_share_the_users),
        cmocka_unit_test(arrivals_go_to_each_server_in_turn),
        cmocka_unit_test(an_api_server_at_the_wrong_address_is_an_error),
        cmocka_unit_test(impossible_balance_is_an_error_that_says_so),
        cmocka_unit_test(a_server_that_is_not_there_is_an_error),
        cmocka_unit_test(records_outlive_a_killed_client),
        cmocka_unit_test(sigterm_stops_the_client_cleanly),
        cmocka_unit_test(a_dead_server_ends_the_load),
        cmocka_unit_test(users_think_between_their_requests),
        cmocka_unit_test(a_window_ends_users_who_think),
        cmocka_unit_test(a_trace_is_replayed),
        cmocka_unit_test(a_region_of_another_kind_is_refused),
        cmocka_unit_test(the_ceiling_is_measured),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

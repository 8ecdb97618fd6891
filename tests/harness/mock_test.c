/*
 * mock_test.c - the mock against a client that is nothing but a socket: what arrives must be what
 * was asked for, in the pieces that were asked for; stamps must follow the schedule to the ns and
 * never be later than the bytes they stand for. Lateness is not judged: the machine may be busy.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/base/clock.h"
#include "helper_mock.h"

#define MS ((int64_t)1000000)

enum {
    STAMPS_MAX = 1 << 14,
    RAW_BYTES_MAX = 8 << 20,
    READS_MAX = 4096,
    STREAMS_COUNT = 64,
};

/* ---- the client ---- */

/* What one connection got, and when. */
struct client {
    int fd;
    int error;
    char *raw;
    size_t bytes;
    uint32_t reads_count;
    size_t read_end[READS_MAX];
    int64_t read_ns[READS_MAX];
};

/* receive_bytes 0: as the system has it. */
static struct client *connect_with(const struct mock *m, int receive_bytes)
{
    struct client *c = calloc(1, sizeof *c);
    struct timeval patience = {.tv_sec = 60};
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)m->port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    assert_non_null(c);
    c->raw = calloc(1, RAW_BYTES_MAX + 1);
    assert_non_null(c->raw);
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    (void)setsockopt(c->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    if (receive_bytes > 0) {
        (void)setsockopt(c->fd, SOL_SOCKET, SO_RCVBUF, &receive_bytes, sizeof receive_bytes);
    }
    assert_int_equal(connect(c->fd, (const struct sockaddr *)&address, sizeof address), 0);
    return c;
}

static struct client *connect_client(const struct mock *m)
{
    return connect_with(m, 0);
}

static void close_client(struct client *c)
{
    (void)close(c->fd);
    free(c->raw);
    free(c);
}

static void ask(struct client *c, const char *path, const char *body)
{
    char request[1024];
    int bytes = snprintf(request, sizeof request,
                         "POST %s HTTP/1.1\r\nHost: x\r\nX-Request-Id: 77\r\n"
                         "Content-Length: %zu\r\n\r\n%s",
                         path, strlen(body), body);
    assert_int_equal(send(c->fd, request, (size_t)bytes, MSG_NOSIGNAL), bytes);
    c->bytes = 0;
    c->reads_count = 0;
    c->raw[0] = '\0';
}

static void ask_stream(struct client *c, uint32_t tokens)
{
    char body[128];
    (void)snprintf(body, sizeof body,
                   "{\"prompt\": [1, 2, 3], \"stream\": true, \"max_tokens\": %u}", tokens);
    ask(c, "/v1/completions", body);
}

/* Reads until what came ends with `end`; false when the connection ended before. */
static bool read_until(struct client *c, const char *end)
{
    size_t end_bytes = strlen(end);
    while (c->bytes < end_bytes || strcmp(c->raw + c->bytes - end_bytes, end) != 0) {
        assert_true(c->bytes < RAW_BYTES_MAX && c->reads_count < READS_MAX);
        ssize_t n = recv(c->fd, c->raw + c->bytes, RAW_BYTES_MAX - c->bytes, 0);
        if (n <= 0) {
            c->error = n < 0 ? errno : 0;
            return false;
        }
        c->bytes += (size_t)n;
        c->raw[c->bytes] = '\0';
        c->read_ns[c->reads_count] = clock_now_ns();
        c->read_end[c->reads_count++] = c->bytes;
    }
    return true;
}

static void read_stream(struct client *c)
{
    assert_true(read_until(c, "data: [DONE]\n\n\r\n0\r\n\r\n"));
}

/* By hand: under address sanitizer each strstr() looks at all that is left. */
static uint32_t count_of(const struct client *c, const char *text)
{
    uint32_t count = 0;
    size_t bytes = strlen(text);
    for (size_t i = 0; i + bytes <= c->bytes; i++) {
        count += c->raw[i] == text[0] && memcmp(c->raw + i, text, bytes) == 0;
    }
    return count;
}

/* When the byte behind the nth `text` (from 0) was read. */
static int64_t read_time_of(const struct client *c, const char *text, uint32_t nth)
{
    const char *at = strstr(c->raw, text);
    for (; nth > 0 && at != NULL; nth--) {
        at = strstr(at + 1, text);
    }
    assert_non_null(at);
    size_t end = (size_t)(at - c->raw) + strlen(text);
    uint32_t i = 0;
    while (c->read_end[i] < end) {
        i++;
    }
    return c->read_ns[i];
}

/* ---- stamps ---- */

static int64_t stamp_index(const struct mock *m, uint64_t request, uint32_t event)
{
    for (uint64_t i = 0; i < m->shared->stamps_count; i++) {
        const struct mock_stamp *t = &m->shared->stamps[i];
        if (t->request == request && t->event == event) {
            return (int64_t)i;
        }
    }
    return -1;
}

static const struct mock_stamp *stamp_at(const struct mock *m, uint64_t request, uint32_t event)
{
    int64_t index = stamp_index(m, request, event);
    assert_true(index >= 0);
    return &m->shared->stamps[index];
}

static void check_order(const struct mock *m)
{
    assert_int_equal(m->shared->stamps_lost_count, 0);
    for (uint64_t i = 0; i < m->shared->stamps_count; i++) {
        const struct mock_stamp *t = &m->shared->stamps[i];
        assert_true(t->sent_ns >= t->scheduled_ns);
        if (t->event > 0) {
            const struct mock_stamp *before = stamp_at(m, t->request, t->event - 1);
            assert_true(before->scheduled_ns <= t->scheduled_ns);
            assert_true(before->sent_ns <= t->sent_ns);
        }
    }
}

static void stream_follows_its_schedule(void **state)
{
    (void)state;
    struct mock m;
    struct mock_options options = {.ttft_ns = 20 * MS, .itl_ns = 5 * MS};
    mock_start(&m, options, STAMPS_MAX);
    struct client *c = connect_client(&m);
    int64_t seen_ns[2][20];
    int64_t asked_ns[2];
    for (uint32_t r = 0; r < 2; r++) { /* on one connection */
        asked_ns[r] = clock_now_ns();
        ask_stream(c, 20);
        read_stream(c);
        assert_int_equal(count_of(c, "\"text\":\" word\""), 20);
        assert_int_equal(count_of(c, "data: "), 21);
        assert_int_equal(count_of(c, "\"finish_reason\":\"length\""), 1);
        assert_int_equal(count_of(c, "\"usage\""), 0);
        for (uint32_t i = 0; i < 20; i++) {
            seen_ns[r][i] = read_time_of(c, "\"text\":\" word\"", i);
        }
    }
    close_client(c);
    mock_stop(&m);
    check_order(&m);
    int64_t phase_ns[2];
    for (uint32_t r = 0; r < 2; r++) {
        const struct mock_stamp *head = stamp_at(&m, r, 0);
        assert_int_equal(head->kind, MOCK_KIND_HEAD);
        assert_int_equal(head->request_id, 77);
        assert_true(head->scheduled_ns >= asked_ns[r]);
        phase_ns[r] = stamp_at(&m, r, 1)->scheduled_ns - head->scheduled_ns - 20 * MS;
        assert_true(phase_ns[r] >= 0 && phase_ns[r] < 5 * MS);
        for (uint32_t i = 0; i < 20; i++) {
            const struct mock_stamp *t = stamp_at(&m, r, i + 1);
            assert_int_equal(t->kind, MOCK_KIND_TOKEN);
            assert_int_equal(t->tokens, 1);
            assert_true(t->scheduled_ns == head->scheduled_ns + 20 * MS + phase_ns[r] + i * 5 * MS);
            assert_true(t->sent_ns <= seen_ns[r][i]);
        }
        assert_int_equal(stamp_at(&m, r, 21)->kind, MOCK_KIND_DONE);
        assert_int_equal(stamp_index(&m, r, 22), -1);
    }
    assert_true(phase_ns[0] != phase_ns[1]);
    assert_int_equal(m.shared->requests_count, 2);
    assert_int_equal(m.shared->finished_count, 2);
    assert_int_equal(m.shared->connections_count, 1);
    assert_int_equal(m.shared->tokens, 40);
    assert_int_equal(m.shared->left_count, 0);
    mock_forget(&m);
}

static void events_share_writes_and_tokens_share_events(void **state)
{
    (void)state;
    struct mock m;
    struct mock_options options = {.itl_ns = 3 * MS,
                                   .tokens_each_event = 3,
                                   .events_each_write = 4,
                                   .usage = MOCK_USAGE_ALWAYS};
    /* 32 tokens: 11 events (the last with 2 tokens) in writes of 4, 4 and 3, due with tokens 12, 24
     * and 32. */
    static const uint32_t due_token[] = {12, 12, 12, 12, 24, 24, 24, 24, 32, 32, 32};
    mock_start(&m, options, STAMPS_MAX);
    struct client *c = connect_client(&m);
    ask_stream(c, 32);
    read_stream(c);
    assert_int_equal(count_of(c, " word"), 32);
    assert_int_equal(count_of(c, "\"text\":\" word word word\""), 10);
    assert_int_equal(count_of(c, "\"text\":\" word word\""), 1);
    assert_int_equal(count_of(c, "\"completion_tokens\":32"), 1);
    assert_int_equal(count_of(c, "\"prompt_tokens\":3"), 1);
    close_client(c);
    mock_stop(&m);
    check_order(&m);
    const struct mock_stamp *last = stamp_at(&m, 0, 11);
    for (uint32_t i = 0; i < 11; i++) {
        const struct mock_stamp *t = stamp_at(&m, 0, 1 + i);
        assert_int_equal(t->kind, MOCK_KIND_TOKEN);
        assert_int_equal(t->tokens, i == 10 ? 2 : 3);
        assert_true(last->scheduled_ns - t->scheduled_ns == (32 - due_token[i]) * 3 * MS);
        /* One send() carries a write, so its events have one stamp. */
        assert_true((i == 4 || i == 8 || i == 0) == (t->sent_ns != stamp_at(&m, 0, i)->sent_ns));
    }
    assert_int_equal(stamp_at(&m, 0, 12)->kind, MOCK_KIND_USAGE);
    assert_int_equal(stamp_at(&m, 0, 13)->kind, MOCK_KIND_DONE);
    mock_forget(&m);
}

static void cut_events_arrive_in_two_pieces(void **state)
{
    (void)state;
    struct mock m;
    struct mock_options options = {.itl_ns = 40 * MS, .cut_share = 1, .cut_gap_ns = 25 * MS};
    mock_start(&m, options, STAMPS_MAX);
    struct client *c = connect_client(&m);
    ask_stream(c, 8);
    read_stream(c);
    uint32_t inside = 0;
    for (uint32_t i = 0; i + 1 < c->reads_count; i++) {
        inside += c->raw[c->read_end[i] - 1] != '\n';
    }
    assert_int_equal(count_of(c, "\"text\":\" word\""), 8);
    assert_true(inside >= 1); /* 8 if this thread was never 25 ms late */
    int64_t complete_ns[7];
    for (uint32_t i = 0; i < 7; i++) {
        complete_ns[i] = read_time_of(c, "\"finish_reason\":null}]}\n", i);
    }
    close_client(c);
    mock_stop(&m);
    check_order(&m);
    for (uint32_t i = 0; i < 7; i++) {
        assert_true(complete_ns[i] >= stamp_at(&m, 0, 1 + i)->sent_ns);
    }
    /* The event counts as sent with its last byte: a gap after it was due. */
    int64_t begin_ns = stamp_at(&m, 0, 0)->scheduled_ns;
    for (uint32_t i = 0; i < 8; i++) {
        int64_t at_ns = stamp_at(&m, 0, 1 + i)->scheduled_ns - begin_ns;
        assert_true(at_ns == i * 40 * MS + 25 * MS); /* the first stream has phase 0 */
    }
    mock_forget(&m);
}

static void stall_holds_every_stream(void **state)
{
    (void)state;
    struct mock m;
    struct mock_options options = {
        .ttft_ns = 10 * MS, .itl_ns = 5 * MS, .stall_at_ns = 52 * MS, .stall_for_ns = 200 * MS};
    mock_start(&m, options, STAMPS_MAX);
    struct client *c = connect_client(&m);
    struct client *late = connect_client(&m);
    ask_stream(c, 40);
    assert_true(read_until(c, "\r\n"));
    clock_sleep_until_ns(clock_now_ns() + 120 * MS);
    ask_stream(late, 5); /* within the stall, unless this thread overslept */
    read_stream(late);
    c->bytes = 0;
    read_stream(c);
    close_client(c);
    close_client(late);
    mock_stop(&m);
    check_order(&m);
    int64_t stall_ns = stamp_at(&m, 0, 0)->scheduled_ns + 52 * MS;
    uint32_t long_gaps = 0;
    for (uint32_t i = 1; i < 40; i++) {
        int64_t before_ns = stamp_at(&m, 0, i)->scheduled_ns;
        int64_t gap_ns = stamp_at(&m, 0, i + 1)->scheduled_ns - before_ns;
        if (gap_ns == 205 * MS) {
            long_gaps++;
            assert_true(before_ns < stall_ns && before_ns + gap_ns >= stall_ns + 200 * MS);
        } else {
            assert_true(gap_ns == 5 * MS);
        }
    }
    assert_int_equal(long_gaps, 1);
    for (uint64_t i = 0; i < m.shared->stamps_count; i++) {
        int64_t at_ns = m.shared->stamps[i].scheduled_ns;
        assert_true(at_ns < stall_ns || at_ns >= stall_ns + 200 * MS);
    }
    mock_forget(&m);
}

static void resets_cut_streams(void **state)
{
    (void)state;
    struct mock m;
    struct mock_options options = {.itl_ns = 2 * MS, .reset_share = 1};
    mock_start(&m, options, STAMPS_MAX);
    for (uint32_t r = 0; r < 5; r++) {
        struct client *c = connect_client(&m);
        ask_stream(c, 10);
        assert_false(read_until(c, "0\r\n\r\n"));
        assert_int_equal(c->error, ECONNRESET);
        assert_int_equal(count_of(c, "[DONE]"), 0);
        assert_true(count_of(c, " word") < 10);
        close_client(c);
    }
    mock_stop(&m);
    check_order(&m);
    assert_int_equal(m.shared->resets_count, 5);
    assert_int_equal(m.shared->finished_count, 0);
    assert_int_equal(m.shared->left_count, 0);
    for (uint32_t r = 0; r < 5; r++) {
        uint32_t events = 0;
        while (stamp_index(&m, r, events + 1) >= 0) {
            events++;
        }
        assert_true(events >= 2 && events <= 10); /* the head, 1..9 tokens, the reset */
        assert_int_equal(stamp_at(&m, r, events)->kind, MOCK_KIND_RESET);
    }
    mock_forget(&m);
}

static void empty_deltas_come_before_tokens(void **state)
{
    (void)state;
    struct mock m;
    struct mock_options options = {.ttft_ns = 10 * MS, .itl_ns = 4 * MS, .empty_share = 1};
    mock_start(&m, options, STAMPS_MAX);
    struct client *c = connect_client(&m);
    ask_stream(c, 6);
    read_stream(c);
    assert_int_equal(count_of(c, "\"text\":\"\""), 6);
    assert_int_equal(count_of(c, "\"text\":\" word\""), 6);
    assert_true(strstr(c->raw, "\"text\":\"\"") < strstr(c->raw, "\"text\":\" word\""));
    close_client(c);
    mock_stop(&m);
    check_order(&m);
    for (uint32_t i = 0; i < 6; i++) {
        const struct mock_stamp *empty = stamp_at(&m, 0, 1 + 2 * i);
        const struct mock_stamp *token = stamp_at(&m, 0, 2 + 2 * i);
        assert_int_equal(empty->kind, MOCK_KIND_EMPTY);
        assert_int_equal(empty->tokens, 0);
        assert_int_equal(token->kind, MOCK_KIND_TOKEN);
        assert_true(token->scheduled_ns - empty->scheduled_ns == 2 * MS);
    }
    assert_int_equal(m.shared->tokens, 6);
    mock_forget(&m);
}

static void chat_sends_the_role_with_the_head(void **state)
{
    (void)state;
    struct mock m;
    struct mock_options options = {.ttft_ns = 30 * MS};
    mock_start(&m, options, STAMPS_MAX);
    struct client *c = connect_client(&m);
    ask(c, "/v1/chat/completions",
        "{\"messages\":[{\"role\":\"user\",\"content\":\"hello\"}],\"stream\":true,"
        "\"stream_options\":{\"include_usage\":true},\"max_tokens\":2}");
    read_stream(c);
    assert_int_equal(count_of(c, "\"role\":\"assistant\""), 1);
    assert_int_equal(count_of(c, "\"content\":\" word\""), 2);
    assert_int_equal(count_of(c, "\"usage\":{"), 1); /* asked for */
    close_client(c);
    mock_stop(&m);
    check_order(&m);
    assert_true(stamp_at(&m, 0, 1)->scheduled_ns - stamp_at(&m, 0, 0)->scheduled_ns == 30 * MS);
    mock_forget(&m);
}

static void whole_answers_errors_and_refusals(void **state)
{
    (void)state;
    struct mock m;
    struct mock_options options = {.ttft_ns = 5 * MS, .itl_ns = 2 * MS, .tokens_default = 9};
    mock_start(&m, options, STAMPS_MAX);
    struct client *c = connect_client(&m);
    ask(c, "/v1/completions", "{\"prompt\":\"x\"}");
    assert_true(read_until(c, "}"));
    assert_int_equal(count_of(c, "HTTP/1.1 200"), 1);
    assert_int_equal(count_of(c, "\"completion_tokens\":9"), 1);
    assert_int_equal(count_of(c, " word"), 9);
    ask(c, "/v1/completions", "{\"prompt\":");
    assert_true(read_until(c, "}"));
    assert_int_equal(count_of(c, "HTTP/1.1 400"), 1);
    ask(c, "/v1/embeddings", "{}");
    assert_true(read_until(c, "}"));
    assert_int_equal(count_of(c, "HTTP/1.1 404"), 1);
    close_client(c);
    mock_stop(&m);
    const struct mock_stamp *t = stamp_at(&m, 0, 0);
    assert_int_equal(m.shared->stamps_count, 1);
    assert_int_equal(t->kind, MOCK_KIND_ANSWER);
    assert_int_equal(t->tokens, 9);
    assert_int_equal(m.shared->refused_count, 2);
    mock_forget(&m);

    options.error_share = 1;
    mock_start(&m, options, STAMPS_MAX);
    c = connect_client(&m);
    ask_stream(c, 4);
    assert_true(read_until(c, "}"));
    assert_int_equal(count_of(c, "HTTP/1.1 500"), 1);
    close_client(c);
    mock_stop(&m);
    assert_int_equal(m.shared->errors_count, 1);
    assert_int_equal(stamp_at(&m, 0, 0)->kind, MOCK_KIND_ERROR);
    mock_forget(&m);
}

static void many_streams_are_sent_in_the_order_they_are_due(void **state)
{
    (void)state;
    struct mock m;
    struct mock_options options = {.ttft_ns = 20 * MS, .itl_ns = 10 * MS};
    struct client *clients[STREAMS_COUNT];
    mock_start(&m, options, STAMPS_MAX);
    for (uint32_t i = 0; i < STREAMS_COUNT; i++) {
        clients[i] = connect_client(&m);
        ask_stream(clients[i], 1 + i % 20);
    }
    for (uint32_t i = 3; i < STREAMS_COUNT; i += 4) { /* one in four leaves */
        clock_sleep_until_ns(clock_now_ns() + MS);
        close_client(clients[i]);
        clients[i] = NULL;
    }
    for (uint32_t i = 0; i < STREAMS_COUNT; i++) {
        if (clients[i] != NULL) {
            read_stream(clients[i]);
            assert_int_equal(count_of(clients[i], "\"text\":\" word\""), 1 + i % 20);
            close_client(clients[i]);
        }
    }
    mock_stop(&m);
    check_order(&m);
    uint64_t tokens = 0;
    for (uint64_t i = 0; i < m.shared->stamps_count; i++) {
        tokens += m.shared->stamps[i].tokens;
        assert_true(i == 0 ||
                    m.shared->stamps[i].scheduled_ns >= m.shared->stamps[i - 1].scheduled_ns);
    }
    assert_int_equal(m.shared->tokens, tokens);
    assert_int_equal(m.shared->requests_count, STREAMS_COUNT);
    /* A stream of one token may be complete before its client leaves. */
    assert_int_equal(m.shared->finished_count + m.shared->left_count, STREAMS_COUNT);
    assert_true(m.shared->finished_count >= STREAMS_COUNT * 3 / 4);
    assert_int_equal(m.shared->lag.total, m.shared->stamps_count);
    mock_forget(&m);
}

static void slow_reader_and_leaver(void **state)
{
    (void)state;
    struct mock m;
    /* Five megabytes: more than the sockets hold. */
    struct mock_options options = {.tokens_each_event = 100000};
    mock_start(&m, options, STAMPS_MAX);
    struct client *c = connect_with(&m, 64 << 10);
    ask_stream(c, 1000000);
    clock_sleep_until_ns(clock_now_ns() + 50 * MS);
    read_stream(c);
    assert_int_equal(count_of(c, " word"), 1000000);
    close_client(c);
    struct client *leaver = connect_client(&m);
    ask_stream(leaver, 1000000);
    assert_true(read_until(leaver, "") && recv(leaver->fd, leaver->raw, 100, 0) > 0);
    close_client(leaver);
    c = connect_client(&m);
    ask_stream(c, 1);
    read_stream(c);
    close_client(c);
    mock_stop(&m);
    assert_int_equal(m.shared->finished_count, 2);
    assert_int_equal(m.shared->left_count, 1);
    for (uint32_t i = 0; i <= 11; i++) {
        assert_true(stamp_at(&m, 0, i)->sent_ns >= stamp_at(&m, 0, i)->scheduled_ns);
    }
    mock_forget(&m);
}

static void stamps_are_written_as_csv(void **state)
{
    (void)state;
    struct mock m;
    struct mock_options options = {.itl_ns = MS};
    mock_start(&m, options, STAMPS_MAX);
    struct client *c = connect_client(&m);
    ask_stream(c, 3);
    read_stream(c);
    close_client(c);
    mock_stop(&m);
    FILE *file = tmpfile();
    assert_non_null(file);
    mock_write_stamps(m.shared, file);
    rewind(file);
    char line[200];
    char expected[200];
    assert_non_null(fgets(line, sizeof line, file));
    assert_string_equal(line, "request,request_id,event,kind,tokens,scheduled_ns,sent_ns\n");
    static const char *const kinds[] = {"head", "token", "token", "token", "done"};
    for (uint32_t i = 0; i < 5; i++) {
        const struct mock_stamp *t = stamp_at(&m, 0, i);
        (void)snprintf(expected, sizeof expected, "0,77,%u,%s,%d,%lld,%lld\n", i, kinds[i],
                       strcmp(kinds[i], "token") == 0, (long long)t->scheduled_ns,
                       (long long)t->sent_ns);
        assert_non_null(fgets(line, sizeof line, file));
        assert_string_equal(line, expected);
    }
    assert_null(fgets(line, sizeof line, file));
    (void)fclose(file);
    mock_forget(&m);
}

static int compare_times(const void *a, const void *b)
{
    const int64_t *x = a;
    const int64_t *y = b;
    return (*x > *y) - (*x < *y);
}

/* Counts of 20,000 draws lie within 4 standard deviations (0.013) of their share, and phases of
 * consecutive streams leave no gap of more than 3 times the even one. */
static void plans_keep_their_shares(void **state)
{
    (void)state;
    struct mock_options options = {.itl_ns = 1000000,
                                   .reset_share = 0.3,
                                   .error_share = 0.1,
                                   .empty_share = 0.25,
                                   .cut_share = 0.5,
                                   .seed = 5};
    uint32_t resets = 0;
    uint32_t errors = 0;
    uint32_t empties = 0;
    uint32_t cuts = 0;
    int64_t phases[100];
    for (uint32_t i = 0; i < 20000; i++) {
        struct mock_plan plan;
        mock_plan_make(&options, i, 8, &plan);
        resets += plan.reset_write != MOCK_NO_RESET;
        errors += plan.error;
        empties += mock_plan_empty_ns(&options, &plan, i % 8) >= 0;
        uint32_t cut = mock_plan_cut(&options, &plan, i % 8, 50);
        cuts += cut > 0;
        assert_true(cut < 50);
        assert_true(plan.reset_write == MOCK_NO_RESET ||
                    (plan.reset_write >= 1 && plan.reset_write < 8));
        if (i >= 500 && i < 600) {
            phases[i - 500] = plan.phase_ns;
        }
    }
    assert_in_range(resets, 6000 - 260, 6000 + 260);
    assert_in_range(errors, 2000 - 170, 2000 + 170);
    assert_in_range(empties, 5000 - 245, 5000 + 245);
    assert_in_range(cuts, 10000 - 283, 10000 + 283);
    qsort(phases, 100, sizeof phases[0], compare_times);
    for (uint32_t i = 1; i < 100; i++) {
        assert_in_range(phases[i] - phases[i - 1], 1, 3 * options.itl_ns / 100);
    }
}

static void server_time_stands_still_in_a_stall(void **state)
{
    (void)state;
    struct mock_stall stall = {.start_ns = 100, .for_ns = 50};
    static const int64_t times[][2] = {{0, 0},     {99, 99},   {100, 100}, {101, 100},
                                       {149, 100}, {150, 100}, {151, 101}, {400, 350}};
    for (size_t i = 0; i < sizeof times / sizeof times[0]; i++) {
        assert_int_equal(mock_server_time_ns(&stall, times[i][0]), times[i][1]);
    }
    assert_int_equal(mock_real_time_ns(&stall, 99), 99);
    assert_int_equal(mock_real_time_ns(&stall, 100), 150);
    assert_int_equal(mock_real_time_ns(&stall, 101), 151);
    stall.for_ns = 0;
    assert_int_equal(mock_server_time_ns(&stall, 400), 400);
    assert_int_equal(mock_real_time_ns(&stall, 400), 400);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stream_follows_its_schedule),
        cmocka_unit_test(events_share_writes_and_tokens_share_events),
        cmocka_unit_test(cut_events_arrive_in_two_pieces),
        cmocka_unit_test(stall_holds_every_stream),
        cmocka_unit_test(resets_cut_streams),
        cmocka_unit_test(empty_deltas_come_before_tokens),
        cmocka_unit_test(chat_sends_the_role_with_the_head),
        cmocka_unit_test(whole_answers_errors_and_refusals),
        cmocka_unit_test(many_streams_are_sent_in_the_order_they_are_due),
        cmocka_unit_test(slow_reader_and_leaver),
        cmocka_unit_test(stamps_are_written_as_csv),
        cmocka_unit_test(plans_keep_their_shares),
        cmocka_unit_test(server_time_stands_still_in_a_stall),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

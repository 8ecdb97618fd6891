/*
 * null_server.c - the null server's loop: accept, read a request, render the answer, write it. One
 * thread, one process; driven by null_start() in a child. Prints nothing.
 */
#include "harness/load/null_server.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "engine/base/random.h"
#include "engine/http/http_parser.h"
#include "engine/http/sse.h"
#include "harness/load/listener.h"

enum {
    CONNECTIONS_MAX = 4096,
    READ_BYTES = 256 << 10,
    EVENTS_MAX = 128,
};

struct peer {
    int fd;
    int32_t api_server;
    struct http_server_parser *parser;
    struct http_buffer out;
    size_t sent;
    size_t allowed; /* how much of `out` may go now, when the answer is paced */
    int64_t next_send_ns;
    bool wants_write;
    bool close_after;
    bool reset_after;
};

struct server {
    const struct null_options *options;
    int listen_fd;
    int epoll_fd;
    char *read_buffer;
    struct peer *peers;
    uint64_t accepted_count;
    struct sse_writer writer;
    struct http_buffer event;      /* one delta, rendered */
    struct http_buffer last_event; /* with finish_reason */
};

static void close_peer(struct peer *peer)
{
    if (peer->reset_after) {
        struct linger now = {.l_onoff = 1, .l_linger = 0};
        (void)setsockopt(peer->fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    }
    (void)close(peer->fd);
    http_server_destroy(peer->parser);
    http_buffer_free(&peer->out);
    *peer = (struct peer){.fd = -1};
}

static uint64_t number_behind(const char *body, size_t bytes, const char *key)
{
    const char *at = memmem(body, bytes, key, strlen(key));
    uint64_t number = 0;
    if (at == NULL) {
        return 0;
    }
    for (at += strlen(key); at < body + bytes && *at >= '0' && *at <= '9'; at++) {
        number = number * 10 + (uint64_t)(*at - '0');
    }
    return number;
}

static void write_json(struct peer *peer, int http_status, const char *body, size_t bytes)
{
    struct http_response response = {.http_status = http_status,
                                     .api_server = peer->api_server,
                                     .keep_alive = true,
                                     .body = body,
                                     .body_bytes = bytes};
    http_write_response(&peer->out, &response);
}

static void write_answer(struct peer *peer, uint64_t tokens)
{
    struct http_buffer body = {0};
    http_buffer_text(&body, "{\"id\":\"cmpl-0\",\"object\":\"text_completion\",\"created\":0,"
                            "\"model\":\"null\",\"choices\":[{\"index\":0,\"text\":\"word\","
                            "\"finish_reason\":\"length\"}],\"usage\":{\"prompt_tokens\":1,"
                            "\"total_tokens\":1,\"completion_tokens\":");
    http_buffer_u64(&body, tokens);
    http_buffer_text(&body, "}}");
    write_json(peer, 200, body.data, body.bytes);
    http_buffer_free(&body);
}

/* `tokens` as events; with `half` only the first half of them. */
static void write_events(struct server *s, struct peer *peer, uint64_t tokens, bool half)
{
    uint64_t each = s->options->tokens_each_event > 0 ? s->options->tokens_each_event : 1;
    uint64_t events = (tokens + each - 1) / each;
    uint64_t count = half ? (events + 1) / 2 : events;
    for (uint64_t i = 0; i < count; i++) {
        bool last = i + 1 == events && !half;
        const struct http_buffer *event = last ? &s->last_event : &s->event;
        http_buffer_append(&peer->out, event->data, event->bytes);
    }
}

static void write_stream_end(struct server *s, struct peer *peer, uint64_t tokens)
{
    sse_write_usage(&s->writer, &peer->out, 1, tokens);
    sse_write_done(&peer->out);
}

static void write_no_done(struct server *s, struct peer *peer)
{
    http_buffer_append(&peer->out, s->event.data, s->event.bytes);
    http_buffer_text(&peer->out, "0\r\n\r\n");
}

static void write_stream(struct server *s, struct peer *peer, uint64_t tokens)
{
    sse_write_head(&peer->out, peer->api_server, true);
    write_events(s, peer, tokens, false);
    write_stream_end(s, peer, tokens);
}

static void write_half(struct server *s, struct peer *peer, uint64_t tokens)
{
    sse_write_head(&peer->out, peer->api_server, true);
    write_events(s, peer, tokens, true);
}

static void write_fault(struct server *s, struct peer *peer, uint64_t tokens)
{
    static const char problem[] = "{\"error\":{\"message\":\"on purpose\",\"code\":500}}";
    switch ((enum null_fault)s->options->fault) {
    case NULL_FAULT_NONE:
        write_stream(s, peer, tokens);
        break;
    case NULL_FAULT_CLOSE:
        peer->close_after = true;
        break;
    case NULL_FAULT_RESET:
        write_half(s, peer, tokens);
        peer->reset_after = true;
        peer->close_after = true;
        break;
    case NULL_FAULT_CUT:
        write_half(s, peer, tokens);
        peer->close_after = true;
        break;
    case NULL_FAULT_NO_DONE:
        sse_write_head(&peer->out, peer->api_server, true);
        write_no_done(s, peer);
        break;
    case NULL_FAULT_EMPTY:
        sse_write_head(&peer->out, peer->api_server, true);
        write_stream_end(s, peer, 0);
        break;
    case NULL_FAULT_MALFORMED:
        write_half(s, peer, tokens);
        sse_write_event(&peer->out, "no json", 7);
        write_stream_end(s, peer, tokens);
        break;
    case NULL_FAULT_NO_HTTP:
        http_buffer_text(&peer->out, "HELLO\r\n\r\n");
        break;
    case NULL_FAULT_STATUS_400:
        write_json(peer, 400, problem, sizeof problem - 1);
        break;
    case NULL_FAULT_STATUS_500:
        write_json(peer, 500, problem, sizeof problem - 1);
        break;
    case NULL_FAULT_ERROR_EVENT:
        write_half(s, peer, tokens);
        sse_write_event(&peer->out, problem, sizeof problem - 1);
        sse_write_done(&peer->out);
        break;
    case NULL_FAULT_STALL:
        write_half(s, peer, tokens);
        break;
    }
}

static bool is_faulty(const struct server *s, const struct http_request *request)
{
    if (s->options->fault_period == 0 || request->request_id == NULL) {
        return false;
    }
    return strtoull(request->request_id, NULL, 10) % s->options->fault_period == 0;
}

static void answer(struct server *s, struct peer *peer, const struct http_request *request)
{
    static const char stream[] = "\"stream\":true";
    if (request->verb == HTTP_VERB_GET) {
        write_json(peer, 200, "", 0);
        return;
    }
    uint64_t tokens = number_behind(request->body, request->body_bytes, "\"max_tokens\":");
    if (is_faulty(s, request)) {
        write_fault(s, peer, tokens);
    } else if (memmem(request->body, request->body_bytes, stream, sizeof stream - 1) != NULL) {
        write_stream(s, peer, tokens);
    } else {
        write_answer(peer, tokens);
    }
}

static bool is_paced(const struct server *s)
{
    return s->options->events_each_send > 0;
}

/* Lets the next few events of a paced answer go. */
static void allow_more(struct server *s, struct peer *peer)
{
    if (!is_paced(s)) {
        peer->allowed = peer->out.bytes;
        return;
    }
    size_t step = s->event.bytes * s->options->events_each_send;
    size_t left = peer->out.bytes - peer->allowed;
    peer->allowed += left < step ? left : step;
    peer->next_send_ns = clock_now_ns() + s->options->send_gap_ns;
}

static void set_wants_write(struct server *s, struct peer *peer, bool wanted)
{
    if (peer->wants_write != wanted) {
        peer->wants_write = wanted;
        struct epoll_event event = {.events = wanted ? EPOLLIN | EPOLLOUT : EPOLLIN,
                                    .data.ptr = peer};
        (void)epoll_ctl(s->epoll_fd, EPOLL_CTL_MOD, peer->fd, &event);
    }
}

/* False when the peer is gone. */
static bool flush(struct server *s, struct peer *peer)
{
    while (peer->sent < peer->allowed) {
        ssize_t n =
            send(peer->fd, peer->out.data + peer->sent, peer->allowed - peer->sent, MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN) {
            set_wants_write(s, peer, true);
            return true;
        }
        if (n < 0) {
            close_peer(peer);
            return false;
        }
        peer->sent += (size_t)n;
    }
    set_wants_write(s, peer, false);
    if (peer->sent < peer->out.bytes) {
        return true;
    }
    http_buffer_clear(&peer->out);
    peer->sent = 0;
    peer->allowed = 0;
    if (peer->close_after) {
        close_peer(peer);
        return false;
    }
    return true;
}

static void read_peer(struct server *s, struct peer *peer)
{
    ssize_t n = recv(peer->fd, s->read_buffer, READ_BYTES, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    if (n <= 0) {
        close_peer(peer);
        return;
    }
    size_t at = 0;
    size_t used = 0;
    struct http_request request;
    enum http_feed feed;
    while ((feed = http_server_feed(peer->parser, s->read_buffer + at, (size_t)n - at, &used,
                                    &request)) == HTTP_FEED_COMPLETE) {
        at += used;
        answer(s, peer, &request);
    }
    if (feed == HTTP_FEED_ERROR || peer->out.failed) {
        close_peer(peer);
        return;
    }
    if (peer->out.bytes > 0 || peer->close_after) {
        allow_more(s, peer);
        (void)flush(s, peer);
    }
}

static struct peer *free_peer(struct server *s)
{
    for (uint32_t i = 0; i < CONNECTIONS_MAX; i++) {
        if (s->peers[i].fd < 0) {
            return &s->peers[i];
        }
    }
    return NULL;
}

/* API server 0 takes more than its share, as happens with a shared accept queue. */
static int32_t choose_api_server(struct server *s)
{
    uint64_t draw = random_at(s->options->seed, s->accepted_count++);
    if (s->options->api_servers_count == 0) {
        return HTTP_API_SERVER_NONE;
    }
    return (draw & 1) != 0 ? 0 : (int32_t)((draw >> 1) % s->options->api_servers_count);
}

static void accept_peers(struct server *s)
{
    for (;;) {
        int fd = listener_accept(s->listen_fd);
        if (fd < 0) {
            return;
        }
        struct peer *peer = free_peer(s);
        struct http_server_parser *parser = NULL;
        if (peer == NULL || http_server_create(NULL, &parser, NULL) != STATUS_OK) {
            (void)close(fd);
            continue;
        }
        *peer = (struct peer){.fd = fd, .parser = parser, .api_server = choose_api_server(s)};
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = peer};
        if (epoll_ctl(s->epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0) {
            close_peer(peer);
        }
    }
}

/* Continues paced answers; returns the epoll time-out in ms. */
static int pace(struct server *s)
{
    if (!is_paced(s)) {
        return -1;
    }
    int64_t now_ns = clock_now_ns();
    for (uint32_t i = 0; i < CONNECTIONS_MAX; i++) {
        struct peer *peer = &s->peers[i];
        if (peer->fd >= 0 && peer->allowed < peer->out.bytes && peer->next_send_ns <= now_ns) {
            allow_more(s, peer);
            (void)flush(s, peer);
        }
    }
    return 1;
}

static void render_events(struct server *s)
{
    struct sse_stream_options stream = {
        .id = "cmpl-00000000000000000000000000000000", .model = "null", .include_usage = true};
    sse_writer_open(&s->writer, &stream);
    struct sse_delta delta = {
        .text = " word", .text_bytes = 5, .stop_token_id = SSE_STOP_TOKEN_NONE};
    sse_write_delta(&s->writer, &s->event, &delta);
    delta.finish_reason = "length";
    sse_write_delta(&s->writer, &s->last_event, &delta);
}

static void handle(struct server *s, struct peer *peer, uint32_t events)
{
    if (peer == NULL) {
        accept_peers(s);
        return;
    }
    if (peer->fd < 0 || ((events & EPOLLOUT) != 0 && !flush(s, peer))) {
        return;
    }
    if ((events & ~(uint32_t)EPOLLOUT) != 0) {
        read_peer(s, peer);
    }
}

static enum status loop(struct server *s, struct error *error)
{
    struct epoll_event events[EVENTS_MAX];
    for (;;) {
        int count = epoll_wait(s->epoll_fd, events, EVENTS_MAX, pace(s));
        if (count < 0 && errno != EINTR) {
            return error_set(error, STATUS_IO, "null server: epoll_wait: %s", strerror(errno));
        }
        for (int i = 0; i < count; i++) {
            handle(s, events[i].data.ptr, events[i].events);
        }
    }
}

enum status null_serve(int listen_fd, const struct null_options *options, struct error *error)
{
    struct server s = {.options = options, .listen_fd = listen_fd};
    s.peers = calloc(CONNECTIONS_MAX, sizeof *s.peers);
    s.read_buffer = malloc(READ_BYTES);
    s.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    enum status status = STATUS_OK;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    if (s.peers == NULL || s.read_buffer == NULL) {
        status = error_set(error, STATUS_NOMEM, "null server: out of memory");
    } else if (s.epoll_fd < 0 || epoll_ctl(s.epoll_fd, EPOLL_CTL_ADD, listen_fd, &event) != 0) {
        status = error_set(error, STATUS_IO, "null server: epoll: %s", strerror(errno));
    }
    for (uint32_t i = 0; s.peers != NULL && i < CONNECTIONS_MAX; i++) {
        s.peers[i].fd = -1;
    }
    if (status == STATUS_OK) {
        render_events(&s);
        status = loop(&s, error);
    }
    for (uint32_t i = 0; s.peers != NULL && i < CONNECTIONS_MAX; i++) {
        if (s.peers[i].fd >= 0) {
            close_peer(&s.peers[i]);
        }
    }
    sse_writer_free(&s.writer);
    http_buffer_free(&s.event);
    http_buffer_free(&s.last_event);
    free(s.peers);
    free(s.read_buffer);
    if (s.epoll_fd >= 0) {
        (void)close(s.epoll_fd);
    }
    (void)close(listen_fd);
    return status;
}

enum status null_start(const struct null_options *options, struct null_process *out,
                       struct error *error)
{
    int fd = -1;
    uint32_t port = 0;
    TRY(listener_open(options->port, &fd, &port, error));
    pid_t parent = getpid();
    pid_t pid = fork();
    if (pid < 0) {
        (void)close(fd);
        return error_set(error, STATUS_IO, "null server: fork: %s", strerror(errno));
    }
    if (pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        (void)signal(SIGTERM, SIG_DFL);
        if (getppid() == parent) {
            (void)!null_serve(fd, options, NULL);
        }
        _exit(1);
    }
    (void)close(fd);
    *out = (struct null_process){.pid = pid, .port = port};
    return STATUS_OK;
}

void null_stop(struct null_process *process)
{
    if (process->pid <= 0) {
        return;
    }
    (void)kill(process->pid, SIGKILL);
    while (waitpid(process->pid, NULL, 0) < 0 && errno == EINTR) {
    }
    process->pid = 0;
}

/*
 * mock_server.c - the mock's loop (mock_server.h): reads requests, sends what their plans say when
 * it is due, stamps it. One thread, one epoll; a heap of streams by their next due time feeds one
 * timer. Driven by `harness mock` and by tests. Prints nothing.
 */
#include "harness/load/mock_server.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "engine/http/http_parser.h"
#include "engine/http/openai.h"
#include "engine/http/sse.h"
#include "harness/load/listener.h"

enum {
    CONNECTIONS_MAX = 4096,
    READ_BYTES = 256 << 10,
    TURN_EVENTS_MAX = 128,
    TOKENS_DEFAULT = 128,
    MARKS_MAX = MOCK_EVENTS_EACH_WRITE_MAX + 2, /* usage and [DONE] behind the last events */
    EVENT_TAIL_BYTES =
        3, /* behind a complete line of an event: the empty line and the chunk's end */
    NOT_IN_HEAP = -1,
};

/* What a stream sends next. */
enum step {
    STEP_NONE, /* no stream */
    STEP_HEAD,
    STEP_EMPTY,
    STEP_WRITE,
    STEP_REST, /* of a write that was cut */
    STEP_RESET,
    STEP_ANSWER
};

/* An event in the output that waits for its stamp. */
struct mark {
    enum mock_kind kind;
    uint32_t tokens;
    int64_t scheduled_ns;
    size_t end; /* in the output */
};

struct peer {
    int fd;
    int32_t heap_index;
    int64_t due_ns; /* of `step` */
    enum step step;
    bool wants_write;
    bool keep_alive;
    struct http_server_parser *parser;
    struct http_buffer out;
    size_t sent;
    size_t allowed; /* how much of `out` may go: a write that is cut stops here */
    struct mark marks[MARKS_MAX];
    uint32_t marks_count;
    uint32_t marks_done;

    struct mock_plan plan;
    struct sse_writer writer;
    bool chat;
    bool stream;
    uint64_t request_id;
    uint64_t prompt_tokens;
    int64_t arrival_ns; /* server time */
    uint32_t write;
    uint32_t event; /* next number */
};

struct server {
    const struct mock_options *options;
    struct mock_shared *shared;
    struct mock_stall stall;
    int epoll_fd;
    int listen_fd;
    int timer_fd;
    int stop_fd;
    bool stopped;
    bool begun; /* a request has come: the stall's time is known */
    int64_t armed_ns;
    char *read_buffer;
    struct openai_request parsed;
    struct peer *peers;
    struct peer **heap;
    uint32_t heap_count;
};

static void count_up(_Atomic uint64_t *counter, uint64_t by)
{
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + by,
                          memory_order_relaxed);
}

/* ---- streams by due time ---- */

static void heap_put(struct server *s, uint32_t at, struct peer *peer)
{
    s->heap[at] = peer;
    peer->heap_index = (int32_t)at;
}

static void heap_up(struct server *s, uint32_t at, struct peer *peer)
{
    while (at > 0 && s->heap[(at - 1) / 2]->due_ns > peer->due_ns) {
        heap_put(s, at, s->heap[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
    heap_put(s, at, peer);
}

static void heap_down(struct server *s, uint32_t at, struct peer *peer)
{
    for (;;) {
        uint32_t child = 2 * at + 1;
        if (child + 1 < s->heap_count && s->heap[child + 1]->due_ns < s->heap[child]->due_ns) {
            child++;
        }
        if (child >= s->heap_count || s->heap[child]->due_ns >= peer->due_ns) {
            break;
        }
        heap_put(s, at, s->heap[child]);
        at = child;
    }
    heap_put(s, at, peer);
}

static void heap_add(struct server *s, struct peer *peer)
{
    heap_up(s, s->heap_count++, peer);
}

static void heap_remove(struct server *s, struct peer *peer)
{
    uint32_t at = (uint32_t)peer->heap_index;
    struct peer *last = s->heap[--s->heap_count];
    peer->heap_index = NOT_IN_HEAP;
    if (last == peer) {
        return;
    }
    if (last->due_ns < peer->due_ns) {
        heap_up(s, at, last);
    } else {
        heap_down(s, at, last);
    }
}

/* ---- stamps ---- */

static void stamp(struct server *s, struct peer *peer, const struct mark *mark, int64_t sent_ns)
{
    struct mock_shared *shared = s->shared;
    uint64_t count = atomic_load_explicit(&shared->stamps_count, memory_order_relaxed);
    histogram_add(&shared->lag, (uint64_t)(sent_ns - mark->scheduled_ns), 1);
    count_up(&shared->tokens, mark->tokens);
    uint32_t event = peer->event++;
    if (count == shared->stamps_max) {
        count_up(&shared->stamps_lost_count, 1);
        return;
    }
    shared->stamps[count] = (struct mock_stamp){.request = peer->plan.request,
                                                .request_id = peer->request_id,
                                                .scheduled_ns = mark->scheduled_ns,
                                                .sent_ns = sent_ns,
                                                .event = event,
                                                .kind = (uint32_t)mark->kind,
                                                .tokens = mark->tokens};
    atomic_store_explicit(&shared->stamps_count, count + 1, memory_order_release);
}

/* Notes that the output up to here, less `tail_bytes`, is an event. */
static void mark_event(struct peer *peer, enum mock_kind kind, uint32_t tokens, size_t tail_bytes)
{
    ASSERT(peer->marks_count < MARKS_MAX);
    peer->marks[peer->marks_count++] = (struct mark){.kind = kind,
                                                     .tokens = tokens,
                                                     .scheduled_ns = peer->due_ns,
                                                     .end = peer->out.bytes - tail_bytes};
}

/* ---- connections ---- */

static void close_peer(struct server *s, struct peer *peer)
{
    if (peer->heap_index != NOT_IN_HEAP) {
        heap_remove(s, peer);
    }
    (void)close(peer->fd);
    http_server_destroy(peer->parser);
    http_buffer_free(&peer->out);
    sse_writer_free(&peer->writer);
    peer->fd = -1;
}

/* The client went away, or did what the mock does not take part in. */
static void drop_peer(struct server *s, struct peer *peer)
{
    count_up(&s->shared->left_count, peer->step != STEP_NONE);
    close_peer(s, peer);
}

static void reset_peer(struct server *s, struct peer *peer)
{
    struct linger now = {.l_onoff = 1, .l_linger = 0};
    struct mark mark = {.kind = MOCK_KIND_RESET, .scheduled_ns = peer->due_ns};
    (void)setsockopt(peer->fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    count_up(&s->shared->resets_count, 1);
    stamp(s, peer, &mark, clock_now_ns());
    close_peer(s, peer);
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

/* ---- the next step ---- */

static int64_t after_cut_ns(const struct server *s, int64_t due_ns)
{
    return mock_real_time_ns(&s->stall,
                             mock_server_time_ns(&s->stall, due_ns) + s->options->cut_gap_ns);
}

static void plan_step(struct server *s, struct peer *peer, enum step step, int64_t offset_ns)
{
    int64_t due_ns = mock_real_time_ns(&s->stall, peer->arrival_ns + offset_ns);
    peer->step = step;
    /* The rest of a cut write can reach into the next gap: order comes first. */
    peer->due_ns = due_ns > peer->due_ns ? due_ns : peer->due_ns;
    heap_add(s, peer);
}

static void plan_write(struct server *s, struct peer *peer)
{
    const struct mock_plan *plan = &peer->plan;
    int64_t due_ns = mock_plan_due_ns(s->options, plan, peer->write);
    int64_t empty_ns = mock_plan_empty_ns(s->options, plan, peer->write);
    if (peer->write == plan->reset_write) {
        plan_step(s, peer, STEP_RESET, due_ns);
    } else if (empty_ns >= 0) {
        plan_step(s, peer, STEP_EMPTY, empty_ns);
    } else {
        plan_step(s, peer, STEP_WRITE, due_ns);
    }
}

static void finish(struct server *s, struct peer *peer)
{
    peer->step = STEP_NONE;
    count_up(&s->shared->finished_count, 1);
    if (!peer->keep_alive) {
        close_peer(s, peer);
    }
}

/* All that was allowed has gone out. */
static void plan_next(struct server *s, struct peer *peer)
{
    if (peer->allowed < peer->out.bytes) {
        peer->step = STEP_REST;
        peer->due_ns = after_cut_ns(s, peer->due_ns);
        heap_add(s, peer);
        return;
    }
    http_buffer_clear(&peer->out);
    peer->sent = 0;
    peer->allowed = 0;
    peer->marks_count = 0;
    peer->marks_done = 0;
    switch (peer->step) {
    case STEP_NONE: /* an answer to no plan: GET, or a refusal */
        if (!peer->keep_alive) {
            close_peer(s, peer);
        }
        break;
    case STEP_HEAD:
        plan_write(s, peer);
        break;
    case STEP_EMPTY:
        plan_step(s, peer, STEP_WRITE, mock_plan_due_ns(s->options, &peer->plan, peer->write));
        break;
    case STEP_WRITE:
    case STEP_REST:
        if (++peer->write < peer->plan.writes_count) {
            plan_write(s, peer);
        } else {
            finish(s, peer);
        }
        break;
    case STEP_ANSWER:
        finish(s, peer);
        break;
    case STEP_RESET:
        break;
    }
}

static void flush(struct server *s, struct peer *peer)
{
    if (peer->out.failed) {
        drop_peer(s, peer);
        return;
    }
    while (peer->sent < peer->allowed) {
        int64_t now_ns = clock_now_ns();
        ssize_t n =
            send(peer->fd, peer->out.data + peer->sent, peer->allowed - peer->sent, MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN) {
            set_wants_write(s, peer, true);
            return;
        }
        if (n < 0) {
            drop_peer(s, peer);
            return;
        }
        peer->sent += (size_t)n;
        while (peer->marks_done < peer->marks_count &&
               peer->marks[peer->marks_done].end <= peer->sent) {
            stamp(s, peer, &peer->marks[peer->marks_done++], now_ns);
        }
    }
    set_wants_write(s, peer, false);
    plan_next(s, peer);
}

/* ---- what is sent ---- */

static void render_text(struct http_buffer *text, uint32_t tokens)
{
    http_buffer_clear(text);
    for (uint32_t i = 0; i < tokens; i++) {
        http_buffer_text(text, " word");
    }
}

static void render_delta(struct peer *peer, uint32_t tokens_through, uint32_t tokens, bool last)
{
    struct http_buffer text = {0};
    render_text(&text, tokens);
    struct sse_delta delta = {.text = tokens > 0 ? text.data : "",
                              .text_bytes = text.bytes,
                              .finish_reason = last ? "length" : NULL,
                              .stop_token_id = SSE_STOP_TOKEN_NONE,
                              .prompt_tokens = peer->prompt_tokens,
                              .completion_tokens = tokens_through};
    peer->out.failed |= text.failed;
    sse_write_delta(&peer->writer, &peer->out, &delta);
    http_buffer_free(&text);
    mark_event(peer, tokens > 0 ? MOCK_KIND_TOKEN : MOCK_KIND_EMPTY, tokens, EVENT_TAIL_BYTES);
}

static uint32_t tokens_before(const struct server *s, const struct peer *peer, uint32_t event)
{
    return event == 0 ? 0 : mock_plan_tokens_through(s->options, &peer->plan, event - 1);
}

static void render_empty(struct server *s, struct peer *peer)
{
    uint32_t event =
        peer->write == 0 ? 0 : mock_plan_events_through(s->options, &peer->plan, peer->write - 1);
    render_delta(peer, tokens_before(s, peer, event), 0, false);
}

static void render_write(struct server *s, struct peer *peer)
{
    const struct mock_plan *plan = &peer->plan;
    uint32_t end = mock_plan_events_through(s->options, plan, peer->write);
    uint32_t event =
        peer->write == 0 ? 0 : mock_plan_events_through(s->options, plan, peer->write - 1);
    size_t start = 0;
    for (; event < end; event++) {
        uint32_t through = mock_plan_tokens_through(s->options, plan, event);
        start = peer->out.bytes;
        render_delta(peer, through, through - tokens_before(s, peer, event),
                     event + 1 == plan->events_count);
    }
    /* Inside the JSON: cut behind it, the event would be complete before its stamp. */
    uint32_t bytes = (uint32_t)(peer->out.bytes - start) - EVENT_TAIL_BYTES - 1;
    uint32_t cut = mock_plan_cut(s->options, plan, peer->write, bytes);
    if (event == plan->events_count) {
        if (peer->writer.include_usage) {
            sse_write_usage(&peer->writer, &peer->out, peer->prompt_tokens, plan->tokens_count);
            mark_event(peer, MOCK_KIND_USAGE, 0, EVENT_TAIL_BYTES);
        }
        sse_write_done(&peer->out);
        mark_event(peer, MOCK_KIND_DONE, 0, 0);
    }
    peer->allowed = cut > 0 ? start + cut : peer->out.bytes;
    for (uint32_t i = 0; i < peer->marks_count && cut > 0; i++) {
        if (peer->marks[i].end > peer->allowed) {
            peer->marks[i].scheduled_ns = after_cut_ns(s, peer->due_ns);
        }
    }
}

static void render_json(struct peer *peer, int http_status, const struct http_buffer *body)
{
    struct http_response response = {.http_status = http_status,
                                     .api_server = HTTP_API_SERVER_NONE,
                                     .keep_alive = peer->keep_alive,
                                     .body = body->bytes > 0 ? body->data : "",
                                     .body_bytes = body->bytes};
    peer->out.failed |= body->failed;
    http_write_response(&peer->out, &response);
    peer->allowed = peer->out.bytes;
}

static void render_problem(struct peer *peer, const struct openai_problem *problem)
{
    struct http_buffer body = {0};
    openai_write_error(&body, problem);
    render_json(peer, problem->http_status, &body);
    http_buffer_free(&body);
}

static void render_answer(struct server *s, struct peer *peer)
{
    if (peer->plan.error) {
        struct openai_problem problem;
        openai_problem_set(&problem, 500, NULL, "an error on purpose");
        render_problem(peer, &problem);
        count_up(&s->shared->errors_count, 1);
        mark_event(peer, MOCK_KIND_ERROR, 0, 0);
        return;
    }
    struct http_buffer body = {0};
    struct http_buffer text = {0};
    render_text(&text, peer->plan.tokens_count);
    struct openai_choice choice = {.text = text.data,
                                   .text_bytes = text.bytes,
                                   .finish_reason = "length",
                                   .stop_token_id = OPENAI_STOP_TOKEN_NONE};
    struct openai_answer answer = {.kind = peer->chat ? OPENAI_CHAT : OPENAI_COMPLETION,
                                   .id = peer->chat ? "chatcmpl-mock" : "cmpl-mock",
                                   .model = "mock",
                                   .created_s = clock_wall_ns() / 1000000000,
                                   .prompt_tokens = peer->prompt_tokens,
                                   .completion_tokens = peer->plan.tokens_count};
    openai_write_begin(&body, &answer);
    openai_write_choice(&body, answer.kind, 0, &choice);
    openai_write_end(&body, &answer);
    peer->out.failed |= text.failed;
    render_json(peer, 200, &body);
    mark_event(peer, MOCK_KIND_ANSWER, peer->plan.tokens_count, 0);
    http_buffer_free(&body);
    http_buffer_free(&text);
}

static void do_step(struct server *s, struct peer *peer)
{
    switch (peer->step) {
    case STEP_NONE:
        return;
    case STEP_HEAD:
        sse_write_head(&peer->out, HTTP_API_SERVER_NONE, peer->keep_alive);
        sse_write_role(&peer->writer, &peer->out, 0, peer->prompt_tokens);
        mark_event(peer, MOCK_KIND_HEAD, 0, peer->chat ? EVENT_TAIL_BYTES : 0);
        peer->allowed = peer->out.bytes;
        break;
    case STEP_EMPTY:
        render_empty(s, peer);
        peer->allowed = peer->out.bytes;
        break;
    case STEP_WRITE:
        render_write(s, peer);
        break;
    case STEP_REST:
        peer->allowed = peer->out.bytes;
        break;
    case STEP_RESET:
        reset_peer(s, peer);
        return;
    case STEP_ANSWER:
        render_answer(s, peer);
        break;
    }
    flush(s, peer);
}

/* ---- requests ---- */

static void answer_get(struct server *s, struct peer *peer, const struct http_request *request)
{
    struct http_buffer body = {0};
    struct openai_limits limits = {.model_name = "mock", .max_model_len = MOCK_TOKENS_MAX};
    if (strcmp(request->path, "/v1/models") == 0) {
        openai_write_models(&body, &limits, clock_wall_ns() / 1000000000);
    }
    render_json(peer, 200, &body);
    http_buffer_free(&body);
    flush(s, peer);
}

static bool understand(struct server *s, const struct http_request *request,
                       struct openai_problem *problem)
{
    bool chat = strcmp(request->path, "/v1/chat/completions") == 0;
    if (!chat && strcmp(request->path, "/v1/completions") != 0) {
        openai_problem_set(problem, 404, NULL,
                           "the mock serves /v1/completions and "
                           "/v1/chat/completions");
        return false;
    }
    if (openai_parse(chat ? OPENAI_CHAT : OPENAI_COMPLETION, request->body, request->body_bytes,
                     &s->parsed, problem) != STATUS_OK) {
        return false;
    }
    if (s->parsed.choices_count > 1 || s->parsed.max_tokens > MOCK_TOKENS_MAX) {
        openai_problem_set(problem, 400, NULL,
                           "the mock answers with one choice of at most %d "
                           "tokens",
                           (int)MOCK_TOKENS_MAX);
        return false;
    }
    return true;
}

static uint64_t number_of(const char *request_id)
{
    char *end = NULL;
    if (request_id == NULL || !isdigit((unsigned char)request_id[0])) {
        return MOCK_NO_REQUEST_ID;
    }
    uint64_t number = strtoull(request_id, &end, 10);
    return *end == '\0' ? number : MOCK_NO_REQUEST_ID;
}

static void open_writer(struct server *s, struct peer *peer)
{
    const struct openai_request *r = &s->parsed;
    bool usage = s->options->usage == MOCK_USAGE_ALWAYS ||
                 (s->options->usage == MOCK_USAGE_ASKED && r->include_usage);
    struct sse_stream_options stream = {.chat = peer->chat,
                                        .id = peer->chat ? "chatcmpl-mock" : "cmpl-mock",
                                        .model = r->model != NULL ? r->model : "mock",
                                        .created_s = clock_wall_ns() / 1000000000,
                                        .include_usage = usage,
                                        .continuous_usage = usage && r->continuous_usage};
    sse_writer_open(&peer->writer, &stream);
}

static void begin(struct server *s, struct peer *peer, const char *request_id, int64_t now_ns)
{
    const struct openai_request *r = &s->parsed;
    uint32_t standard =
        s->options->tokens_default > 0 ? s->options->tokens_default : TOKENS_DEFAULT;
    uint32_t tokens = r->has_max_tokens && r->max_tokens > 0 ? r->max_tokens : standard;
    if (!s->begun) {
        s->begun = true;
        s->stall = (struct mock_stall){.start_ns = now_ns + s->options->stall_at_ns,
                                       .for_ns = s->options->stall_for_ns};
    }
    uint64_t number = atomic_load_explicit(&s->shared->requests_count, memory_order_relaxed);
    count_up(&s->shared->requests_count, 1);
    mock_plan_make(s->options, number, tokens, &peer->plan);
    peer->chat = r->kind == OPENAI_CHAT;
    peer->stream = r->stream;
    peer->request_id = number_of(request_id);
    peer->prompt_tokens = r->prompt_tokens_count > 0 ? r->prompt_tokens_count : 1;
    peer->arrival_ns = mock_server_time_ns(&s->stall, now_ns);
    peer->write = 0;
    peer->event = 0;
    peer->due_ns = 0;
    uint32_t last = peer->plan.writes_count - 1;
    if (peer->plan.error) {
        plan_step(s, peer, STEP_ANSWER, 0);
    } else if (peer->stream) {
        open_writer(s, peer);
        plan_step(s, peer, STEP_HEAD, 0);
    } else if (peer->plan.reset_write != MOCK_NO_RESET) {
        plan_step(s, peer, STEP_RESET,
                  mock_plan_due_ns(s->options, &peer->plan, peer->plan.reset_write));
    } else {
        plan_step(s, peer, STEP_ANSWER, mock_plan_due_ns(s->options, &peer->plan, last));
    }
}

static void take_request(struct server *s, struct peer *peer, const struct http_request *request,
                         int64_t now_ns)
{
    struct openai_problem problem;
    peer->keep_alive = request->keep_alive;
    if (request->verb == HTTP_VERB_GET) {
        answer_get(s, peer, request);
    } else if (understand(s, request, &problem)) {
        begin(s, peer, request->request_id, now_ns);
        openai_request_release(&s->parsed);
    } else {
        count_up(&s->shared->refused_count, 1);
        render_problem(peer, &problem);
        flush(s, peer);
    }
}

static void read_peer(struct server *s, struct peer *peer)
{
    ssize_t n = recv(peer->fd, s->read_buffer, READ_BYTES, 0);
    int64_t now_ns = clock_now_ns();
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    /* A request behind one that is still being answered would need a queue, and no client that
     * measures latency sends one. */
    if (n <= 0 || peer->step != STEP_NONE || peer->out.bytes > 0) {
        drop_peer(s, peer);
        return;
    }
    size_t used = 0;
    struct http_request request;
    enum http_feed feed =
        http_server_feed(peer->parser, s->read_buffer, (size_t)n, &used, &request);
    if (feed == HTTP_FEED_ERROR || used < (size_t)n) {
        count_up(&s->shared->refused_count, 1);
        drop_peer(s, peer);
    } else if (feed == HTTP_FEED_COMPLETE) {
        take_request(s, peer, &request, now_ns);
    } else if (http_server_take_continue(peer->parser)) {
        (void)!send(peer->fd, HTTP_CONTINUE, sizeof HTTP_CONTINUE - 1, MSG_NOSIGNAL);
    }
}

/* ---- loop ---- */

static struct peer *free_peer(struct server *s)
{
    for (uint32_t i = 0; i < CONNECTIONS_MAX; i++) {
        if (s->peers[i].fd < 0) {
            return &s->peers[i];
        }
    }
    return NULL;
}

static void accept_peers(struct server *s)
{
    for (int fd = listener_accept(s->listen_fd); fd >= 0; fd = listener_accept(s->listen_fd)) {
        struct peer *peer = free_peer(s);
        struct http_server_parser *parser = NULL;
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = peer};
        if (peer == NULL || http_server_create(NULL, &parser, NULL) != STATUS_OK) {
            (void)close(fd);
            continue;
        }
        *peer = (struct peer){.fd = fd, .parser = parser, .heap_index = NOT_IN_HEAP};
        count_up(&s->shared->connections_count, 1);
        if (epoll_ctl(s->epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0) {
            close_peer(s, peer);
        }
    }
}

/* Does what is due; then the timer stands at what is due next. */
static void run_due(struct server *s)
{
    int64_t now_ns = clock_now_ns();
    while (s->heap_count > 0 && s->heap[0]->due_ns <= now_ns) {
        struct peer *peer = s->heap[0];
        heap_remove(s, peer);
        do_step(s, peer);
    }
    int64_t next_ns = s->heap_count > 0 ? s->heap[0]->due_ns : 0;
    if (next_ns != s->armed_ns) {
        struct itimerspec at = {
            .it_value = {.tv_sec = next_ns / 1000000000, .tv_nsec = next_ns % 1000000000}};
        (void)timerfd_settime(s->timer_fd, TFD_TIMER_ABSTIME, &at, NULL);
        s->armed_ns = next_ns;
    }
}

static void handle(struct server *s, const struct epoll_event *event)
{
    if (event->data.ptr == &s->listen_fd) {
        accept_peers(s);
        return;
    }
    if (event->data.ptr == &s->stop_fd) {
        s->stopped = true;
        return;
    }
    if (event->data.ptr == &s->timer_fd) { /* edge-triggered: nothing to read */
        s->armed_ns = 0;
        return;
    }
    struct peer *peer = event->data.ptr;
    if (peer->fd >= 0 && (event->events & EPOLLOUT) != 0 && peer->wants_write) {
        flush(s, peer);
    }
    if (peer->fd >= 0 && (event->events & ~(uint32_t)EPOLLOUT) != 0) {
        read_peer(s, peer);
    }
}

static enum status loop(struct server *s, struct error *error)
{
    struct epoll_event events[TURN_EVENTS_MAX];
    while (!s->stopped) {
        int count = epoll_wait(s->epoll_fd, events, TURN_EVENTS_MAX, -1);
        if (count < 0 && errno != EINTR) {
            return error_set(error, STATUS_IO, "epoll_wait: %s", strerror(errno));
        }
        for (int i = 0; i < count; i++) {
            handle(s, &events[i]);
        }
        run_due(s);
    }
    return STATUS_OK;
}

static bool watch(struct server *s, int fd, void *ptr, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = ptr};
    return fd >= 0 && epoll_ctl(s->epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0;
}

static enum status open_server(struct server *s, struct error *error)
{
    s->peers = calloc(CONNECTIONS_MAX, sizeof *s->peers);
    s->heap = calloc(CONNECTIONS_MAX, sizeof(struct peer *));
    s->read_buffer = malloc(READ_BYTES);
    s->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    s->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    for (uint32_t i = 0; s->peers != NULL && i < CONNECTIONS_MAX; i++) {
        s->peers[i].fd = -1;
    }
    if (s->peers == NULL || s->heap == NULL || s->read_buffer == NULL) {
        return error_set(error, STATUS_NOMEM, "out of memory");
    }
    if (!watch(s, s->listen_fd, &s->listen_fd, EPOLLIN) ||
        !watch(s, s->timer_fd, &s->timer_fd, EPOLLIN | EPOLLET) ||
        (s->stop_fd >= 0 && !watch(s, s->stop_fd, &s->stop_fd, EPOLLIN))) {
        return error_set(error, STATUS_IO, "epoll: %s", strerror(errno));
    }
    return STATUS_OK;
}

static void close_server(struct server *s)
{
    for (uint32_t i = 0; s->peers != NULL && i < CONNECTIONS_MAX; i++) {
        if (s->peers[i].fd >= 0) {
            close_peer(s, &s->peers[i]);
        }
    }
    openai_request_free(&s->parsed);
    free(s->peers);
    free(s->heap);
    free(s->read_buffer);
    if (s->epoll_fd >= 0) {
        (void)close(s->epoll_fd);
    }
    if (s->timer_fd >= 0) {
        (void)close(s->timer_fd);
    }
    (void)close(s->listen_fd);
}

enum status mock_serve(int listen_fd, int stop_fd, const struct mock_options *options,
                       struct mock_shared *shared, struct error *error)
{
    struct server s = {
        .options = options, .shared = shared, .listen_fd = listen_fd, .stop_fd = stop_fd};
    ASSERT(options->events_each_write <= MOCK_EVENTS_EACH_WRITE_MAX);
    clock_precise_sleeps();
    enum status status = open_server(&s, error);
    if (status == STATUS_OK) {
        status = loop(&s, error);
    }
    close_server(&s);
    return status;
}

/*
 * api_connection.c - HTTP connections of an API server: bytes to requests, routes, answers to
 * bytes, time limits.
 *
 * One request at a time is served on a connection; bytes that come meanwhile are held. Answers are
 * appended to `out` and leave together at api_flush(), after the emulated host time they cost.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/base/clock.h"
#include "engine/node/api_server.h"

enum {
    READ_BYTES = 256 << 10
};

static char read_memory[READ_BYTES]; /* one thread, one read at a time */

static void on_closed(uv_handle_t *handle)
{
    struct connection *c = handle->data;
    *c->previous = c->next;
    if (c->next != NULL) {
        c->next->previous = c->previous;
    }
    http_server_destroy(c->parser);
    http_buffer_free(&c->held);
    http_buffer_free(&c->out);
    http_buffer_free(&c->writing);
    sse_writer_free(&c->sse);
    openai_request_free(&c->request);
    for (uint32_t i = 0; i < c->choices_cap; i++) {
        http_buffer_free(&c->choices[i].text);
    }
    free(c->choices);
    free(c);
}

static void connection_close(struct connection *c)
{
    if (c->closing) {
        return;
    }
    c->closing = true;
    completion_cancel(c);
    uv_close((uv_handle_t *)&c->tcp, on_closed);
}

void connection_mark(struct connection *c)
{
    if (!c->dirty && !c->closing) {
        struct api_server *s = c->server;
        c->dirty = true;
        c->next_dirty = NULL;
        *s->dirty_last = c;
        s->dirty_last = &c->next_dirty;
    }
}

/* Just before the write: the client may read the bytes before the call returns. */
static void stamp_write(struct connection *c)
{
    if (!c->unstamped) {
        return;
    }
    int64_t now = clock_now_ns();
    for (uint32_t i = 0; i < c->choices_count; i++) {
        struct choice *choice = &c->choices[i];
        if (choice->first_unwritten && choice->record != NULL) {
            ledger_stamp(choice->record, HOP_API_FIRST_WRITE, now);
        }
        if (choice->last_unwritten && choice->record != NULL) {
            ledger_stamp(choice->record, HOP_API_LAST_WRITE, now);
            choice->record = NULL;
        }
        choice->first_unwritten = false;
        choice->last_unwritten = false;
    }
    c->unstamped = false;
}

static void connection_write(struct connection *c);
static void feed_written(struct connection *c);

static void on_written(uv_write_t *write, int status)
{
    struct connection *c = write->data;
    api_wake(c->server);
    c->write_pending = false;
    http_buffer_clear(&c->writing);
    if (status != 0) {
        connection_close(c);
    } else if (!c->closing) {
        connection_write(c);
        feed_written(c);
    }
}

/* What the socket does not take at once is handed to libuv; later bytes wait behind it in `out`. */
static void write_rest(struct connection *c, size_t sent)
{
    http_buffer_append(&c->writing, c->out.data + sent, c->out.bytes - sent);
    http_buffer_clear(&c->out);
    c->write.data = c;
    c->write_pending = true;
    uv_buf_t rest = uv_buf_init(c->writing.data, (unsigned)c->writing.bytes);
    if (uv_write(&c->write, (uv_stream_t *)&c->tcp, &rest, 1, on_written) != 0) {
        c->write_pending = false;
        connection_close(c);
    }
}

static void connection_write(struct connection *c)
{
    if (c->write_pending) {
        if (c->out.bytes > API_OUT_BYTES_MAX) {
            connection_close(c);
        }
        return;
    }
    if (c->out.failed) {
        connection_close(c);
        return;
    }
    if (c->out.bytes > 0) {
        uv_buf_t bytes = uv_buf_init(c->out.data, (unsigned)c->out.bytes);
        stamp_write(c);
        int sent = uv_try_write((uv_stream_t *)&c->tcp, &bytes, 1);
        if (sent < 0 && sent != UV_EAGAIN) {
            connection_close(c);
            return;
        }
        if (sent < (int)c->out.bytes) {
            write_rest(c, sent > 0 ? (size_t)sent : 0);
            return;
        }
        http_buffer_clear(&c->out);
    }
    if (c->close_after_write) {
        connection_close(c);
    }
}

static void feed_held(struct connection *c);

/* The next request may replace the record that the last bytes of this answer still have to stamp.
 */
static void feed_written(struct connection *c)
{
    if (!c->write_pending && c->out.bytes == 0) {
        feed_held(c);
    }
}

void api_flush(struct api_server *s)
{
    /* Held requests may be answered at once and mark connections again. */
    while (s->dirty != NULL) {
        if (s->occupancy.busy_until_ns > clock_now_ns()) {
            occupancy_settle(&s->occupancy);
            s->slept = true;
            process_turn(s->thread, clock_now_ns());
        }
        struct connection *c = s->dirty;
        s->dirty = NULL;
        s->dirty_last = &s->dirty;
        while (c != NULL) {
            struct connection *next = c->next_dirty;
            c->dirty = false;
            if (!c->closing) {
                connection_write(c);
                feed_written(c);
            }
            c = next;
        }
    }
}

void connection_respond(struct connection *c, int http_status, const char *content_type,
                        const char *body, size_t bytes)
{
    struct http_response response = {
        .http_status = http_status,
        .content_type = content_type,
        .api_server = (int32_t)c->server->index,
        .keep_alive = c->keep_alive,
        .body = body,
        .body_bytes = bytes,
    };
    http_write_response(&c->out, &response);
    connection_mark(c);
    connection_answered(c);
}

void connection_problem(struct connection *c, const struct openai_problem *problem)
{
    struct http_buffer body = {0};
    openai_write_error(&body, problem);
    connection_respond(c, problem->http_status, NULL, body.data, body.bytes);
    http_buffer_free(&body);
}

/* ---- routes ---- */

static void route_metrics(struct connection *c)
{
    struct api_server *s = c->server;
    if (s->metrics_text == NULL) {
        s->metrics_text_cap =
            (size_t)s->process.topology->engines_count * METRICS_ENGINE_TEXT_BYTES;
        s->metrics_text = malloc(s->metrics_text_cap);
        ASSERT(s->metrics_text != NULL);
    }
    size_t bytes = metrics_render(&s->process.ledger, s->metrics_text, s->metrics_text_cap);
    connection_respond(c, 200, "text/plain; version=0.0.4; charset=utf-8", s->metrics_text, bytes);
}

static void respond_buffer(struct connection *c, struct http_buffer *body)
{
    connection_respond(c, 200, NULL, body->data, body->bytes);
    http_buffer_free(body);
}

static bool route_get(struct connection *c, const char *path)
{
    struct http_buffer body = {0};
    if (strcmp(path, "/health") == 0 || strcmp(path, "/ping") == 0) {
        connection_respond(c, c->server->dead ? 503 : 200, NULL, "", 0);
    } else if (strcmp(path, "/metrics") == 0) {
        route_metrics(c);
    } else if (strcmp(path, "/v1/models") == 0) {
        openai_write_models(&body, &c->server->limits, clock_wall_ns() / 1000000000);
        respond_buffer(c, &body);
    } else if (strcmp(path, "/version") == 0) {
        openai_write_version(&body, "harness-0.1.0");
        respond_buffer(c, &body);
    } else if (strcmp(path, "/load") == 0) {
        http_buffer_text(&body, "{\"server_load\":");
        http_buffer_u64(&body, frontend_open(c->server->frontend.frontend));
        http_buffer_text(&body, "}");
        respond_buffer(c, &body);
    } else {
        return false;
    }
    return true;
}

static bool is_completion_path(const char *path)
{
    return strcmp(path, "/v1/completions") == 0 || strcmp(path, "/v1/chat/completions") == 0;
}

static void route(struct connection *c, const struct http_request *request, int64_t received_ns)
{
    c->keep_alive = request->keep_alive && !c->server->stopping;
    bool completion = is_completion_path(request->path);
    if (completion && request->verb == HTTP_VERB_POST) {
        bool chat = strcmp(request->path, "/v1/chat/completions") == 0;
        completion_begin(c, request, chat ? OPENAI_CHAT : OPENAI_COMPLETION, received_ns);
        return;
    }
    /* Probes of some hosting services POST their ping. */
    bool get = request->verb == HTTP_VERB_GET ||
               (request->verb == HTTP_VERB_POST && strcmp(request->path, "/ping") == 0);
    if ((get && route_get(c, request->path)) || api_utility_route(c, request)) {
        return;
    }
    struct openai_problem problem;
    if (completion) {
        openai_problem_set(&problem, 405, NULL, "%s wants POST, not %s", request->path,
                           request->method);
    } else {
        openai_problem_set(&problem, 404, NULL, "no route %s %s", request->method, request->path);
    }
    connection_problem(c, &problem);
}

/* ---- bytes in ---- */

static bool serving(const struct connection *c)
{
    return c->open_choices > 0 || c->call.utility != NULL;
}

static void refuse_bytes(struct connection *c)
{
    struct http_problem why = http_server_error(c->parser);
    struct openai_problem problem;
    openai_problem_set(&problem, why.http_status, NULL, "%s", why.message);
    c->keep_alive = false;
    connection_problem(c, &problem);
}

/* Feeds until a request is being served or the bytes are used up; returns how many were used. */
static size_t feed(struct connection *c, const char *data, size_t bytes, int64_t received_ns)
{
    size_t at = 0;
    while (at < bytes && !serving(c) && !c->closing && !c->close_after_write) {
        struct http_request request;
        size_t used = 0;
        enum http_feed result = http_server_feed(c->parser, data + at, bytes - at, &used, &request);
        at += used;
        if (result == HTTP_FEED_COMPLETE) {
            route(c, &request, received_ns);
        } else if (result == HTTP_FEED_ERROR) {
            refuse_bytes(c);
            return bytes;
        } else if (http_server_take_continue(c->parser)) {
            http_buffer_text(&c->out, HTTP_CONTINUE);
            connection_mark(c);
        }
    }
    return at;
}

static void hold(struct connection *c, const char *data, size_t bytes)
{
    if (bytes > 0) {
        http_buffer_append(&c->held, data, bytes);
        if (c->held.failed || c->held.bytes > HTTP_BODY_BYTES_MAX) {
            connection_close(c);
        }
    }
}

/* Held bytes are taken out of the buffer first: serving them may hold new ones. */
static void feed_held(struct connection *c)
{
    if (c->held.bytes == 0 || serving(c) || c->closing) {
        return;
    }
    struct http_buffer taken = c->held;
    int64_t now = clock_now_ns();
    c->held = (struct http_buffer){0};
    c->begun_ns = now;
    size_t used = feed(c, taken.data, taken.bytes, now);
    if (!c->closing) {
        hold(c, taken.data + used, taken.bytes - used);
    }
    http_buffer_free(&taken);
}

void connection_answered(struct connection *c)
{
    c->active_ns = clock_now_ns();
    if (!c->keep_alive) {
        c->close_after_write = true;
    }
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer)
{
    (void)handle;
    (void)suggested;
    *buffer = uv_buf_init(read_memory, READ_BYTES);
}

static void on_read(uv_stream_t *stream, ssize_t bytes, const uv_buf_t *buffer)
{
    struct connection *c = stream->data;
    struct api_server *s = c->server;
    api_wake(s);
    if (bytes < 0) {
        connection_close(c);
    } else if (bytes > 0) {
        int64_t now = clock_now_ns();
        c->active_ns = now;
        if (http_server_stage(c->parser) == HTTP_STAGE_IDLE) {
            c->begun_ns = now;
        }
        if (c->held.bytes > 0 || serving(c)) {
            hold(c, buffer->base, (size_t)bytes);
            feed_held(c);
        } else {
            size_t used = feed(c, buffer->base, (size_t)bytes, now);
            if (!c->closing) {
                hold(c, buffer->base + used, (size_t)bytes - used);
            }
        }
    }
    completion_aborts(s);
    api_flush(s);
}

void api_on_connection(uv_stream_t *listener, int status)
{
    struct api_server *s = listener->data;
    api_wake(s);
    if (status != 0) {
        process_warning("ApiServer_%u cannot accept a connection: %s", s->index,
                        uv_strerror(status));
        return;
    }
    struct connection *c = calloc(1, sizeof *c);
    ASSERT(c != NULL);
    (void)uv_tcp_init(&s->loop, &c->tcp);
    c->tcp.data = c;
    c->server = s;
    c->active_ns = clock_now_ns();
    c->next = s->connections;
    c->previous = &s->connections;
    if (c->next != NULL) {
        c->next->previous = &c->next;
    }
    s->connections = c;
    struct error error;
    if (uv_accept(listener, (uv_stream_t *)&c->tcp) != 0 ||
        http_server_create(NULL, &c->parser, &error) != STATUS_OK) {
        connection_close(c);
        return;
    }
    (void)uv_tcp_nodelay(&c->tcp, 1);
    (void)uv_read_start((uv_stream_t *)&c->tcp, on_alloc, on_read);
}

void api_sweep(struct api_server *s, int64_t now_ns)
{
    for (struct connection *c = s->connections; c != NULL; c = c->next) {
        if (c->closing || serving(c) || c->write_pending) {
            continue;
        }
        feed_held(c);
        int64_t idle_ns = now_ns - c->active_ns;
        enum http_stage stage = http_server_stage(c->parser);
        int64_t late_ns = stage == HTTP_STAGE_HEAD ? now_ns - c->begun_ns : idle_ns;
        bool begun = stage != HTTP_STAGE_IDLE;
        if (begun && late_ns > (int64_t)HTTP_HEAD_DEADLINE_S * 1000000000) {
            struct openai_problem problem;
            openai_problem_set(&problem, 408, NULL, "the request was not complete within %d s",
                               HTTP_HEAD_DEADLINE_S);
            c->keep_alive = false;
            connection_problem(c, &problem);
        } else if (!begun && idle_ns > (int64_t)API_KEEP_ALIVE_S * 1000000000) {
            connection_close(c);
        }
    }
    api_flush(s);
}

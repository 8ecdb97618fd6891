/*
 * response.c - what comes back on a connection: response head, server-sent events or a JSON body,
 * and how the request ended. Driven by connection.c with the bytes of one read and the time at
 * which it returned; events are scanned in place.
 */
#include <string.h>

#include "harness/load/client_state.h"

enum {
    BODY_BYTES_MAX = 8 << 20 /* of an answer that is no stream; more of it is not looked at */
};

static void take_event(struct conn *conn, const struct sse_event *event, int64_t now_ns)
{
    struct account *account = &conn->client->account;
    struct load_record *record = conn->record;
    if (record->t_evt_ns == 0) {
        record->t_evt_ns = now_ns;
    }
    if (event->done) {
        conn->saw_done = true;
        record->t_done_ns = now_ns;
        return;
    }
    conn->malformed |= event->malformed;
    conn->saw_error |= event->has_error;
    conn->saw_finish |= event->has_finish;
    uint32_t known = record->completion_tokens;
    uint32_t tokens = 0;
    if (event->has_usage) {
        record->prompt_tokens = event->prompt_tokens;
        record->token_basis = LOAD_BASIS_USAGE;
        tokens = event->completion_tokens > known ? event->completion_tokens - known : 0;
    } else if (event->token_ids_count > 0) {
        record->token_basis = LOAD_BASIS_TOKEN_IDS;
        tokens = event->token_ids_count;
    } else if (event->has_content) {
        record->token_basis = LOAD_BASIS_EVENTS;
        tokens = 1;
    }
    if (event->choices_count > 0) {
        uint32_t shown = tokens > 0 ? tokens : 1;
        account_event(account, record, event->has_content ? shown : 0, now_ns);
    }
    if (event->has_content) {
        account_content(account, record, tokens, conn->read_content_count++ > 0, now_ns);
    } else if (tokens > 0) {
        account_tokens(account, record, tokens, now_ns);
    }
}

static void on_head(void *ctx, const struct http_response_head *head)
{
    struct conn *conn = ctx;
    struct load_header *header = conn->client->header;
    uint32_t api_server = LOAD_API_SERVER_NONE;
    if (head->api_server >= 0 && head->api_server < LOAD_API_SERVERS_MAX) {
        api_server = (uint32_t)head->api_server;
    }
    if (conn->state == CONN_PROBING) {
        conn->api_server = api_server;
        return;
    }
    if (conn->api_server == LOAD_API_SERVER_NONE && api_server != LOAD_API_SERVER_NONE) {
        conn->api_server = api_server;
        load_add(&header->connections_count[api_server], 1);
    }
    struct load_record *record = conn->record;
    if (record == NULL) {
        return;
    }
    record->api_server = api_server != LOAD_API_SERVER_NONE ? api_server : conn->api_server;
    record->http_status = (uint32_t)head->http_status;
    record->t_hdr_ns = conn->client->read_ns;
    conn->is_stream = strncmp(head->content_type, "text/event-stream", 17) == 0;
}

static void on_body(void *ctx, const char *data, size_t bytes)
{
    struct conn *conn = ctx;
    if (conn->record == NULL) {
        return;
    }
    if (!conn->is_stream) {
        if (conn->body.bytes < BODY_BYTES_MAX) {
            http_buffer_append(&conn->body, data, bytes);
        }
        return;
    }
    size_t at = 0;
    struct sse_event event;
    while (sse_scanner_next(&conn->scanner, data, bytes, &at, &event)) {
        take_event(conn, &event, conn->client->read_ns);
    }
}

struct http_client_handlers response_handlers(struct conn *conn)
{
    return (struct http_client_handlers){.ctx = conn, .on_head = on_head, .on_body = on_body};
}

void response_begin(struct conn *conn)
{
    sse_scanner_reset(&conn->scanner);
    http_buffer_clear(&conn->body);
    conn->is_stream = false;
    conn->saw_done = false;
    conn->saw_finish = false;
    conn->saw_error = false;
    conn->malformed = false;
}

/* A whole answer has the members of an event: it is scanned as one, its line ends made spaces. */
static void scan_answer(struct conn *conn, int64_t now_ns)
{
    struct http_buffer *body = &conn->body;
    if (body->bytes == 0 || body->failed) {
        conn->malformed = true;
        return;
    }
    for (size_t i = 0; i < body->bytes; i++) {
        if (body->data[i] == '\n' || body->data[i] == '\r') {
            body->data[i] = ' ';
        }
    }
    http_buffer_append(body, "\n\n", 2);
    struct sse_event event;
    size_t at = 0;
    static const char prefix[] = "data: ";
    (void)sse_scanner_next(&conn->scanner, prefix, sizeof prefix - 1, &at, &event);
    at = 0;
    if (body->failed || !sse_scanner_next(&conn->scanner, body->data, body->bytes, &at, &event)) {
        conn->malformed = true;
        return;
    }
    take_event(conn, &event, now_ns);
    conn->saw_done = true;
}

static enum load_outcome outcome_of(const struct conn *conn)
{
    const struct load_record *record = conn->record;
    if (record->http_status >= 500) {
        return LOAD_OUTCOME_HTTP_5XX;
    }
    if (record->http_status < 200 || record->http_status >= 300) {
        return LOAD_OUTCOME_HTTP_4XX;
    }
    if (conn->saw_error) {
        return LOAD_OUTCOME_HTTP_5XX;
    }
    if (conn->malformed) {
        return LOAD_OUTCOME_PARSE;
    }
    if (!conn->saw_done) {
        return LOAD_OUTCOME_TRUNCATED;
    }
    if (record->completion_tokens == 0) {
        return LOAD_OUTCOME_EMPTY;
    }
    return conn->saw_finish ? LOAD_OUTCOME_OK : LOAD_OUTCOME_TRUNCATED;
}

static void end_request(struct conn *conn, enum load_outcome outcome, int64_t now_ns)
{
    struct load_record *record = conn->record;
    conn->record = NULL;
    think_begin(conn->client, conn, record_number(record), now_ns);
    account_end(&conn->client->account, record, outcome, now_ns);
}

static void complete(struct conn *conn, bool reusable, int64_t now_ns)
{
    if (conn->state == CONN_PROBING) {
        conn_probed(conn, now_ns);
        return;
    }
    if (conn->record == NULL) { /* an answer that nobody asked for */
        conn_close(conn, now_ns);
        return;
    }
    bool good = conn->record->http_status >= 200 && conn->record->http_status < 300;
    if (!conn->is_stream && good) {
        scan_answer(conn, now_ns);
    }
    end_request(conn, outcome_of(conn), now_ns);
    if (!reusable) {
        conn_close(conn, now_ns);
        return;
    }
    conn->state = CONN_IDLE;
    client_conn_ready(conn->client, conn, now_ns);
}

void response_feed(struct conn *conn, const char *data, size_t bytes, int64_t now_ns)
{
    size_t used = 0;
    conn->client->read_ns = now_ns;
    conn->read_content_count = 0;
    switch (http_client_feed(conn->parser, data, bytes, &used)) {
    case HTTP_FEED_MORE:
        return;
    case HTTP_FEED_COMPLETE:
        /* Bytes behind the answer belong to nothing: such a connection is not used again. */
        complete(conn, used == bytes && http_client_keep_alive(conn->parser), now_ns);
        return;
    case HTTP_FEED_ERROR:
        break;
    }
    if (conn->record != NULL) {
        end_request(conn, LOAD_OUTCOME_PARSE, now_ns);
    }
    conn_close(conn, now_ns);
}

void response_eof(struct conn *conn, int64_t now_ns)
{
    conn->client->read_ns = now_ns;
    enum http_feed feed = http_client_eof(conn->parser);
    if (feed == HTTP_FEED_COMPLETE) {
        complete(conn, false, now_ns);
        return;
    }
    if (conn->record != NULL) {
        bool began = conn->record->t_hdr_ns != 0;
        end_request(conn, began ? LOAD_OUTCOME_TRUNCATED : LOAD_OUTCOME_RESET, now_ns);
    }
    conn_close(conn, now_ns);
}

void response_reset(struct conn *conn, int64_t now_ns)
{
    if (conn->record != NULL) {
        end_request(conn, LOAD_OUTCOME_RESET, now_ns);
    }
    conn_close(conn, now_ns);
}

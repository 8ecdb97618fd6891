/*
 * http_server.c - requests out of bytes, on llhttp. Driven by an API server's connections, one
 * parser each. It keeps only what a request's handler needs, and copies a body only if it came in
 * several pieces. Sockets and deadlines are the driver's.
 *
 * llhttp is paused at the end of the headers and at the end of the message, so that the head's size
 * can be limited exactly and bytes of the next request stay with the caller.
 */
#include <llhttp.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "engine/http/http_parser.h"

enum {
    NAME_BYTES_MAX = 24, /* no header of interest has a longer name */
    NUMBER_BYTES_MAX = 16,
    BODY_KEPT_BYTES_MAX = 1024 * 1024 /* a greater body's memory is given back with the request */
};

enum header {
    HEADER_OTHER,
    HEADER_REQUEST_ID,
    HEADER_RANK,
    HEADER_EXPECT
};

struct http_server_parser {
    llhttp_t llhttp;
    size_t body_bytes_max;
    size_t head_bytes_max;

    enum http_stage stage;
    bool complete; /* the last feed gave a request: the next one begins anew */
    bool keep_alive;
    struct http_problem problem; /* http_status 0: none */
    size_t head_bytes;
    size_t extra_bytes; /* trailers and chunk extensions */

    char name[NAME_BYTES_MAX];
    size_t name_bytes;
    enum header header;
    struct http_buffer url;
    struct http_buffer request_id;
    bool has_request_id;
    char rank[NUMBER_BYTES_MAX];
    size_t rank_bytes;
    bool has_rank;
    char expect[NAME_BYTES_MAX];
    size_t expect_bytes;
    bool continue_wanted;

    struct http_buffer body;
    const char *borrowed; /* the whole body so far, in the bytes being fed */
    size_t borrowed_bytes;
};

static int refuse(struct http_server_parser *p, int http_status, const char *message)
{
    if (p->problem.http_status == 0) {
        p->problem = (struct http_problem){http_status, message};
    }
    return -1;
}

/* Appends to a short text; what is too long is remembered as such by its length. */
static void short_append(char *text, size_t cap, size_t *text_bytes, const char *at, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        if (*text_bytes < cap) {
            text[*text_bytes] = at[i];
        }
        if (*text_bytes <= cap) {
            ++*text_bytes;
        }
    }
}

static int on_message_begin(llhttp_t *llhttp)
{
    struct http_server_parser *p = llhttp->data;
    p->stage = HTTP_STAGE_HEAD;
    return 0;
}

static int on_url(llhttp_t *llhttp, const char *at, size_t length)
{
    struct http_server_parser *p = llhttp->data;
    http_buffer_append(&p->url, at, length);
    return 0;
}

/* Bytes of trailers and chunk extensions, which are read past, but not without end. */
static int on_extra(llhttp_t *llhttp, const char *at, size_t length)
{
    struct http_server_parser *p = llhttp->data;
    (void)at;
    p->extra_bytes += length;
    if (p->extra_bytes > p->head_bytes_max) {
        return refuse(p, 431, "The trailers or chunk extensions are too large.");
    }
    return 0;
}

static int on_header_field(llhttp_t *llhttp, const char *at, size_t length)
{
    struct http_server_parser *p = llhttp->data;
    if (p->stage == HTTP_STAGE_BODY) {
        return on_extra(llhttp, at, length);
    }
    short_append(p->name, sizeof p->name, &p->name_bytes, at, length);
    return 0;
}

static bool name_is(const struct http_server_parser *p, const char *name)
{
    return p->name_bytes == strlen(name) && strncasecmp(p->name, name, p->name_bytes) == 0;
}

static int on_header_field_complete(llhttp_t *llhttp)
{
    struct http_server_parser *p = llhttp->data;
    p->header = HEADER_OTHER;
    if (p->stage == HTTP_STAGE_BODY) {
        return 0;
    }
    if (name_is(p, "x-request-id")) {
        p->header = HEADER_REQUEST_ID;
        p->has_request_id = true;
        http_buffer_clear(&p->request_id);
    } else if (name_is(p, "x-data-parallel-rank")) {
        p->header = HEADER_RANK;
        p->has_rank = true;
        p->rank_bytes = 0;
    } else if (name_is(p, "expect")) {
        p->header = HEADER_EXPECT;
        p->expect_bytes = 0;
    }
    p->name_bytes = 0;
    return 0;
}

static int on_header_value(llhttp_t *llhttp, const char *at, size_t length)
{
    struct http_server_parser *p = llhttp->data;
    if (p->stage == HTTP_STAGE_BODY) {
        return on_extra(llhttp, at, length);
    }
    switch (p->header) {
    case HEADER_REQUEST_ID:
        http_buffer_append(&p->request_id, at, length);
        break;
    case HEADER_RANK:
        short_append(p->rank, sizeof p->rank, &p->rank_bytes, at, length);
        break;
    case HEADER_EXPECT:
        short_append(p->expect, sizeof p->expect, &p->expect_bytes, at, length);
        break;
    case HEADER_OTHER:
    default:
        break;
    }
    return 0;
}

static int on_headers_complete(llhttp_t *llhttp)
{
    struct http_server_parser *p = llhttp->data;
    p->stage = HTTP_STAGE_BODY;
    p->keep_alive = llhttp_should_keep_alive(llhttp) != 0;
    if (llhttp->http_major != 1) {
        return refuse(p, 400, "Only HTTP/1.0 and HTTP/1.1 are supported.");
    }
    if ((llhttp->flags & F_CONTENT_LENGTH) != 0 && llhttp->content_length > p->body_bytes_max) {
        return refuse(p, 413, "The request body is too large.");
    }
    bool has_body = (llhttp->flags & F_CHUNKED) != 0 || llhttp->content_length > 0;
    p->continue_wanted = has_body && p->expect_bytes == strlen("100-continue") &&
                         strncasecmp(p->expect, "100-continue", p->expect_bytes) == 0;
    return HPE_PAUSED;
}

/* Moves a body that was left in the fed bytes into memory of its own. */
static void body_own(struct http_server_parser *p)
{
    if (p->borrowed != NULL) {
        http_buffer_append(&p->body, p->borrowed, p->borrowed_bytes);
        p->borrowed = NULL;
    }
}

static int on_body(llhttp_t *llhttp, const char *at, size_t length)
{
    struct http_server_parser *p = llhttp->data;
    size_t so_far = p->borrowed != NULL ? p->borrowed_bytes : p->body.bytes;
    p->continue_wanted = false;
    if (length > p->body_bytes_max - so_far) {
        return refuse(p, 413, "The request body is too large.");
    }
    if (so_far == 0) {
        p->borrowed = at;
        p->borrowed_bytes = length;
        return 0;
    }
    body_own(p);
    http_buffer_append(&p->body, at, length);
    return 0;
}

static int on_message_complete(llhttp_t *llhttp)
{
    struct http_server_parser *p = llhttp->data;
    p->complete = true;
    p->continue_wanted = false;
    return HPE_PAUSED;
}

static const llhttp_settings_t settings = {
    .on_message_begin = on_message_begin,
    .on_url = on_url,
    .on_header_field = on_header_field,
    .on_header_field_complete = on_header_field_complete,
    .on_header_value = on_header_value,
    .on_chunk_extension_name = on_extra,
    .on_chunk_extension_value = on_extra,
    .on_headers_complete = on_headers_complete,
    .on_body = on_body,
    .on_message_complete = on_message_complete,
};

enum status http_server_create(const struct http_limits *limits, struct http_server_parser **out,
                               struct error *error)
{
    struct http_server_parser *p = calloc(1, sizeof *p);
    if (p == NULL) {
        return error_set(error, STATUS_NOMEM, "HTTP parser: out of memory");
    }
    p->body_bytes_max = HTTP_BODY_BYTES_MAX;
    p->head_bytes_max = HTTP_HEAD_BYTES_MAX;
    if (limits != NULL && limits->body_bytes_max > 0) {
        p->body_bytes_max = limits->body_bytes_max;
    }
    if (limits != NULL && limits->head_bytes_max > 0) {
        p->head_bytes_max = limits->head_bytes_max;
    }
    llhttp_init(&p->llhttp, HTTP_REQUEST, &settings);
    p->llhttp.data = p;
    *out = p;
    return STATUS_OK;
}

void http_server_destroy(struct http_server_parser *p)
{
    if (p != NULL) {
        http_buffer_free(&p->url);
        http_buffer_free(&p->request_id);
        http_buffer_free(&p->body);
        free(p);
    }
}

void http_server_reset(struct http_server_parser *p)
{
    llhttp_reset(&p->llhttp);
    p->stage = HTTP_STAGE_IDLE;
    p->complete = false;
    p->problem = (struct http_problem){0};
    p->head_bytes = 0;
    p->extra_bytes = 0;
    p->name_bytes = 0;
    p->header = HEADER_OTHER;
    p->has_request_id = false;
    p->has_rank = false;
    p->rank_bytes = 0;
    p->expect_bytes = 0;
    p->continue_wanted = false;
    p->borrowed = NULL;
    p->borrowed_bytes = 0;
    http_buffer_clear(&p->url);
    http_buffer_clear(&p->request_id);
    http_buffer_clear(&p->body);
    if (p->body.cap_bytes > BODY_KEPT_BYTES_MAX) {
        http_buffer_free(&p->body);
    }
}

/* Decimal number of the rank header, limited to int32; what is no number counts as absent, as in
 * vLLM. */
static int32_t rank_value(const struct http_server_parser *p)
{
    bool negative = p->rank_bytes > 0 && p->rank[0] == '-';
    size_t at = negative || (p->rank_bytes > 0 && p->rank[0] == '+') ? 1 : 0;
    int64_t value = 0;
    if (!p->has_rank || at == p->rank_bytes) {
        return HTTP_RANK_NONE;
    }
    size_t stored = p->rank_bytes < sizeof p->rank ? p->rank_bytes : sizeof p->rank;
    for (; at < stored; at++) {
        if (p->rank[at] < '0' || p->rank[at] > '9') {
            return HTTP_RANK_NONE;
        }
        value = value * 10 + (p->rank[at] - '0');
        value = value > INT32_MAX ? INT32_MAX : value;
    }
    if (p->rank_bytes > sizeof p->rank) {
        value = INT32_MAX;
    }
    return negative && value > 0 ? INT32_MIN : (int32_t)value;
}

/* Splits the request target in place into path and query. */
static void request_target(struct http_server_parser *p, struct http_request *request)
{
    char *path = p->url.data;
    if (strncasecmp(path, "http://", 7) == 0 || strncasecmp(path, "https://", 8) == 0) {
        char *authority = strstr(path, "//") + 2;
        path = authority + strcspn(authority, "/?");
    }
    char *query = strchr(path, '?');
    request->query = "";
    if (query != NULL) {
        *query = '\0';
        request->query = query + 1;
    }
    request->path = *path == '\0' ? "/" : path;
}

static enum http_feed finish_request(struct http_server_parser *p, struct http_request *request)
{
    http_buffer_append(&p->url, "", 1);
    http_buffer_append(&p->request_id, "", 1);
    if (p->url.failed || p->request_id.failed || p->body.failed) {
        (void)refuse(p, 500, "The server is out of memory.");
        return HTTP_FEED_ERROR;
    }
    *request = (struct http_request){
        .verb = HTTP_VERB_OTHER,
        .method = llhttp_method_name((llhttp_method_t)p->llhttp.method),
        .request_id = p->has_request_id ? p->request_id.data : NULL,
        .data_parallel_rank = rank_value(p),
        .body = p->borrowed != NULL ? p->borrowed : p->body.data,
        .body_bytes = p->borrowed != NULL ? p->borrowed_bytes : p->body.bytes,
        .keep_alive = p->keep_alive,
        .chunked_allowed = p->llhttp.http_minor > 0,
    };
    if (p->llhttp.method == HTTP_GET) {
        request->verb = HTTP_VERB_GET;
    } else if (p->llhttp.method == HTTP_POST) {
        request->verb = HTTP_VERB_POST;
    }
    request_target(p, request);
    return HTTP_FEED_COMPLETE;
}

/* One run of llhttp, up to a pause, an error or the end of the bytes. MORE: go on if there are
 * bytes left. */
static enum http_feed step(struct http_server_parser *p, const char *data, size_t bytes,
                           size_t *used)
{
    bool in_head = p->stage != HTTP_STAGE_BODY;
    size_t slice = bytes - *used;
    if (in_head && slice > p->head_bytes_max - p->head_bytes) {
        slice = p->head_bytes_max - p->head_bytes;
    }
    const char *from = data + *used;
    llhttp_errno_t result = llhttp_execute(&p->llhttp, from, slice);
    if (result != HPE_OK) {
        slice = (size_t)(llhttp_get_error_pos(&p->llhttp) - from);
    }
    *used += slice;
    p->head_bytes += in_head ? slice : 0;
    if (result == HPE_PAUSED) {
        llhttp_resume(&p->llhttp);
        return p->complete ? HTTP_FEED_COMPLETE : HTTP_FEED_MORE;
    }
    if (result != HPE_OK) {
        (void)refuse(p, 400, llhttp_get_error_reason(&p->llhttp));
        return HTTP_FEED_ERROR;
    }
    if (in_head && p->head_bytes >= p->head_bytes_max) {
        (void)refuse(p, 431, "The request headers are too large.");
        return HTTP_FEED_ERROR;
    }
    return HTTP_FEED_MORE;
}

enum http_feed http_server_feed(struct http_server_parser *p, const char *data, size_t bytes,
                                size_t *used, struct http_request *request)
{
    *used = 0;
    if (p->problem.http_status != 0) {
        return HTTP_FEED_ERROR;
    }
    if (p->complete) {
        http_server_reset(p);
    }
    bool in_head = false;
    /* The end of the headers pauses once; a request without a body completes in the run behind
     * that, with no more bytes. */
    while (*used < bytes || (in_head && p->stage == HTTP_STAGE_BODY)) {
        in_head = p->stage != HTTP_STAGE_BODY;
        enum http_feed feed = step(p, data, bytes, used);
        if (feed == HTTP_FEED_COMPLETE) {
            return finish_request(p, request);
        }
        if (feed == HTTP_FEED_ERROR) {
            return feed;
        }
    }
    body_own(p);
    if (p->url.failed || p->request_id.failed || p->body.failed) {
        (void)refuse(p, 500, "The server is out of memory.");
        return HTTP_FEED_ERROR;
    }
    return HTTP_FEED_MORE;
}

struct http_problem http_server_error(const struct http_server_parser *p)
{
    return p->problem;
}

enum http_stage http_server_stage(const struct http_server_parser *p)
{
    return p->complete ? HTTP_STAGE_IDLE : p->stage;
}

bool http_server_take_continue(struct http_server_parser *p)
{
    bool wanted = p->continue_wanted;
    p->continue_wanted = false;
    return wanted;
}

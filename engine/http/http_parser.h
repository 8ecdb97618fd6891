/*
 * http_parser.h - incremental HTTP/1.1 reading for both sides: requests for the API server,
 * responses for the load client.
 *
 * Bytes go in as they were read from a socket, in any pieces; complete requests (or response heads
 * and body pieces) come out. It enforces the size limits and says which status to answer with; time
 * limits (408) and sockets are the driver's. The grammar is llhttp's strict one. No I/O, no clock.
 *
 *     size_t at = 0, used;
 *     do {
 *         feed = http_server_feed(p, data + at, bytes - at, &used, &request);
 *         at += used;
 *         if (feed == HTTP_FEED_COMPLETE)
 *             serve(&request);  // valid until the next call on p or the end of data's life
 *     } while (feed == HTTP_FEED_COMPLETE && at < bytes);
 *     if (feed == HTTP_FEED_ERROR) answer http_server_error(p) and close
 *     if (feed == HTTP_FEED_MORE && http_server_take_continue(p)) send HTTP_CONTINUE
 *
 * A driver that cannot serve a second request while the first one streams keeps the unused bytes
 * and feeds them later.
 */
#ifndef ENGINE_HTTP_HTTP_PARSER_H
#define ENGINE_HTTP_HTTP_PARSER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/status.h"
#include "engine/http/buffer.h"

enum {
    HTTP_BODY_BYTES_MAX = 32 << 20,
    HTTP_HEAD_BYTES_MAX = 64 << 10, /* request line and headers, line ends included */
    HTTP_HEAD_DEADLINE_S = 10, /* from a request's first byte to the end of its headers; else 408 */
    HTTP_RANK_NONE = -1,
    HTTP_API_SERVER_NONE = -1,
};

#define HTTP_CONTINUE "HTTP/1.1 100 Continue\r\n\r\n"

struct http_limits {
    size_t body_bytes_max; /* 0: HTTP_BODY_BYTES_MAX */
    size_t head_bytes_max; /* 0: HTTP_HEAD_BYTES_MAX */
};

enum http_verb {
    HTTP_VERB_GET,
    HTTP_VERB_POST,
    HTTP_VERB_OTHER
};

enum http_feed {
    HTTP_FEED_MORE,     /* all bytes were used; more are needed */
    HTTP_FEED_COMPLETE, /* a request (response) is complete; bytes behind it were left alone */
    HTTP_FEED_ERROR, /* see http_server_error() / http_client_error(); the connection is of no more
                        use */
};

/* Where the parser stands: what a driver's deadline depends on. */
enum http_stage {
    HTTP_STAGE_IDLE, /* between requests */
    HTTP_STAGE_HEAD, /* a request has begun; its headers are not complete */
    HTTP_STAGE_BODY, /* the headers are complete, the body is not */
};

struct http_request {
    enum http_verb verb;
    const char *method;         /* "POST"; static */
    const char *path;           /* without the query; NUL-terminated like all strings here */
    const char *query;          /* "" if none */
    const char *request_id;     /* X-Request-Id, NULL if none */
    int32_t data_parallel_rank; /* X-data-parallel-rank; HTTP_RANK_NONE if absent or no number; a
                                   negative number is INT32_MIN, so that it can be refused */
    const char
        *body; /* not NUL-terminated; into the fed bytes if the whole body came in one piece */
    size_t body_bytes;
    bool keep_alive;      /* false: close after the answer */
    bool chunked_allowed; /* false for HTTP/1.0: answer with a length or until close */
};

/* What to answer with when http_server_feed() refused the bytes. */
struct http_problem {
    int http_status;     /* 400, 413, 431; 500 when memory ran out */
    const char *message; /* a sentence; static */
};

struct http_server_parser;

MUST_CHECK enum status http_server_create(const struct http_limits *limits,
                                          struct http_server_parser **out, struct error *error);
void http_server_destroy(struct http_server_parser *p);
/* Forgets everything but its memory: for the next connection. */
void http_server_reset(struct http_server_parser *p);
/* Reads data[0..bytes) up to the end of one request. *used is set in every case. */
enum http_feed http_server_feed(struct http_server_parser *p, const char *data, size_t bytes,
                                size_t *used, struct http_request *request);
struct http_problem http_server_error(const struct http_server_parser *p);
enum http_stage http_server_stage(const struct http_server_parser *p);
/* True once for a request whose client waits for HTTP_CONTINUE before it sends the body. */
bool http_server_take_continue(struct http_server_parser *p);

struct http_response_head {
    int http_status;
    const char *content_type; /* "" if none */
    int32_t api_server;       /* X-Api-Server, HTTP_API_SERVER_NONE if absent or no number */
    int64_t content_length;   /* -1: not given */
    bool chunked;
};

/* Called from within http_client_feed() and http_client_eof(). Interim (1xx) responses are skipped.
 */
struct http_client_handlers {
    void *ctx;
    void (*on_head)(void *ctx, const struct http_response_head *head); /* may be NULL */
    void (*on_body)(void *ctx, const char *data,
                    size_t bytes); /* pieces of the fed bytes; may be NULL */
};

struct http_client_parser;

MUST_CHECK enum status http_client_create(const struct http_client_handlers *handlers,
                                          struct http_client_parser **out, struct error *error);
void http_client_destroy(struct http_client_parser *p);
/* Forgets everything but its handlers: for the next connection. Not needed between responses of one
 * connection. */
void http_client_reset(struct http_client_parser *p);
/* Reads data[0..bytes) up to the end of one response. *used is set in every case. */
enum http_feed http_client_feed(struct http_client_parser *p, const char *data, size_t bytes,
                                size_t *used);
/* The peer closed: COMPLETE ends a body without a length, ERROR is a truncated response, MORE: it
 * was between two. */
enum http_feed http_client_eof(struct http_client_parser *p);
/* Of the response that was completed last: the connection may carry another request. */
bool http_client_keep_alive(const struct http_client_parser *p);
/* Why the last feed failed; static. */
const char *http_client_error(const struct http_client_parser *p);

/* A whole response. `content_type` NULL: application/json. api_server HTTP_API_SERVER_NONE: no such
 * header. */
struct http_response {
    int http_status;
    const char *content_type;
    int32_t api_server;
    bool keep_alive;
    const char *body;
    size_t body_bytes;
};

void http_write_response(struct http_buffer *out, const struct http_response *response);
/* "Bad Request" for 400; "Unknown" for numbers this server does not use. */
const char *http_status_phrase(int http_status);

#endif

/*
 * helper_http.h - an HTTP client for end-to-end tests that shares no code with the load client:
 * blocking sockets, a parser of its own, JSON by json-c. Nothing here asserts, so that threads may
 * use it; every wait ends after HANG_MS.
 */
#ifndef TESTS_E2E_HELPER_HTTP_H
#define TESTS_E2E_HELPER_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A connection and what came over it that was not taken yet. */
struct link {
    int fd; /* -1: could not connect */
    char *data;
    size_t bytes;
    size_t cap;
    bool eof;
};

bool link_open(struct link *l, uint32_t port);
/* With a receive buffer of a few KB, for a client that will not read; link_widen() before it does.
 */
bool link_open_narrow(struct link *l, uint32_t port);
void link_widen(struct link *l);
void link_close(struct link *l);
/* All of it; false if the peer closed. */
bool link_send(struct link *l, const void *data, size_t bytes);
bool link_text(struct link *l, const char *text);
/* Waits for more bytes; false at the end or after `ms`. */
bool link_more(struct link *l, int64_t ms);
/* Reads until the peer closes; false if that did not happen within `ms`. */
bool link_drain(struct link *l, int64_t ms);

struct answer {
    int status; /* 0: no whole answer came */
    char *head; /* status line and headers */
    char *body; /* chunks joined; NUL-terminated */
    size_t body_bytes;
    bool cut; /* the peer closed in the middle: body is what came */
};

/* The next answer on the connection. */
struct answer link_answer(struct link *l);
void answer_free(struct answer *a);
/* Value of a header, "" if absent. Static memory of the calling thread. */
const char *answer_header(const struct answer *a, const char *name);

/* A POST of JSON, not sent. `headers`: further header lines with their CRLF, or NULL. Freed by the
 * caller. */
char *http_request_text(const char *path, const char *headers, const char *json);
struct answer http_post(uint32_t port, const char *path, const char *json);
struct answer http_post_with(uint32_t port, const char *path, const char *headers,
                             const char *json);
struct answer http_get(uint32_t port, const char *path);

enum {
    COMPLETION_TEXT_BYTES = 16384
};

/* A completion or chat answer, streamed or whole. */
struct completion {
    int status;
    char text[COMPLETION_TEXT_BYTES];
    size_t text_bytes;
    char finish[16];      /* "" if none */
    char stop_reason[64]; /* string or number as text; "" if null */
    char object[32];
    char role[16];
    char id[96];
    bool has_usage;
    int64_t prompt_tokens;
    int64_t completion_tokens;
    int64_t total_tokens;
    uint32_t events_count; /* data events, [DONE] left out; 0: not streamed */
    uint32_t usage_events_count;
    bool done;       /* [DONE] was the last event */
    bool malformed;  /* an event or body that is not the JSON it should be */
    char error[512]; /* message of an error object, also of one in a stream */
    int64_t error_code;
    char error_type[48];
    int64_t api_server; /* X-Api-Server, -1 if absent */
};

void completion_read(const struct answer *a, struct completion *out);
/* Post and read. */
void completion_post(uint32_t port, const char *path, const char *json, struct completion *out);

/* Sum over all series of a Prometheus metric whose labels contain `label` ("" for all); -1: there
 * is none. */
double metric_sum(const char *text, const char *name, const char *label);

#endif

/*
 * http_client.c - responses out of bytes, on llhttp. Driven by the load client's connections, one
 * parser each. Body bytes are handed on where they lie; nothing is allocated after creation.
 * Sockets and time stamps are the driver's.
 */
#include <llhttp.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "engine/http/http_parser.h"

enum {
    NAME_BYTES_MAX = 16,
    VALUE_BYTES_MAX = 128
};

struct http_client_parser {
    llhttp_t llhttp;
    struct http_client_handlers handlers;
    bool begun;
    bool complete;
    bool interim;
    bool keep_alive;
    const char *failure; /* NULL: none */
    char name[NAME_BYTES_MAX];
    size_t name_bytes;
    char *value; /* where the value being read goes, NULL: nowhere */
    size_t value_bytes;
    char content_type[VALUE_BYTES_MAX];
    char api_server[VALUE_BYTES_MAX];
};

static int on_message_begin(llhttp_t *llhttp)
{
    struct http_client_parser *p = llhttp->data;
    p->begun = true;
    return 0;
}

static int on_header_field(llhttp_t *llhttp, const char *at, size_t length)
{
    struct http_client_parser *p = llhttp->data;
    for (size_t i = 0; i < length && p->name_bytes < sizeof p->name; i++) {
        p->name[p->name_bytes] = at[i];
        p->name_bytes++;
    }
    return 0;
}

static bool name_is(const struct http_client_parser *p, const char *name)
{
    return p->name_bytes == strlen(name) && strncasecmp(p->name, name, p->name_bytes) == 0;
}

static int on_header_field_complete(llhttp_t *llhttp)
{
    struct http_client_parser *p = llhttp->data;
    p->value = NULL;
    if (name_is(p, "content-type")) {
        p->value = p->content_type;
    } else if (name_is(p, "x-api-server")) {
        p->value = p->api_server;
    }
    if (p->value != NULL) {
        p->value[0] = '\0';
    }
    p->value_bytes = 0;
    p->name_bytes = 0;
    return 0;
}

static int on_header_value(llhttp_t *llhttp, const char *at, size_t length)
{
    struct http_client_parser *p = llhttp->data;
    for (size_t i = 0; p->value != NULL && i < length && p->value_bytes + 1 < VALUE_BYTES_MAX;
         i++) {
        p->value[p->value_bytes] = at[i];
        p->value_bytes++;
        p->value[p->value_bytes] = '\0';
    }
    return 0;
}

/* A decimal number below 10^9; anything else counts as absent. */
static int32_t api_server_value(const char *text)
{
    int32_t value = 0;
    size_t digits = strspn(text, "0123456789");
    if (digits == 0 || digits > 9 || text[digits] != '\0') {
        return HTTP_API_SERVER_NONE;
    }
    for (size_t i = 0; i < digits; i++) {
        value = value * 10 + (text[i] - '0');
    }
    return value;
}

static int on_headers_complete(llhttp_t *llhttp)
{
    struct http_client_parser *p = llhttp->data;
    p->interim = llhttp->status_code / 100 == 1;
    p->value = NULL; /* trailers are of no interest */
    if (p->interim || p->handlers.on_head == NULL) {
        return 0;
    }
    bool has_length =
        (llhttp->flags & F_CONTENT_LENGTH) != 0 && llhttp->content_length <= INT64_MAX;
    struct http_response_head head = {
        .http_status = llhttp->status_code,
        .content_type = p->content_type,
        .api_server = api_server_value(p->api_server),
        .content_length = has_length ? (int64_t)llhttp->content_length : -1,
        .chunked = (llhttp->flags & F_CHUNKED) != 0,
    };
    p->handlers.on_head(p->handlers.ctx, &head);
    return 0;
}

static int on_body(llhttp_t *llhttp, const char *at, size_t length)
{
    struct http_client_parser *p = llhttp->data;
    if (p->handlers.on_body != NULL && !p->interim) {
        p->handlers.on_body(p->handlers.ctx, at, length);
    }
    return 0;
}

static int on_message_complete(llhttp_t *llhttp)
{
    struct http_client_parser *p = llhttp->data;
    p->complete = true;
    p->keep_alive = llhttp_should_keep_alive(llhttp) != 0;
    return HPE_PAUSED;
}

static const llhttp_settings_t settings = {
    .on_message_begin = on_message_begin,
    .on_header_field = on_header_field,
    .on_header_field_complete = on_header_field_complete,
    .on_header_value = on_header_value,
    .on_headers_complete = on_headers_complete,
    .on_body = on_body,
    .on_message_complete = on_message_complete,
};

enum status http_client_create(const struct http_client_handlers *handlers,
                               struct http_client_parser **out, struct error *error)
{
    struct http_client_parser *p = calloc(1, sizeof *p);
    if (p == NULL) {
        return error_set(error, STATUS_NOMEM, "HTTP parser: out of memory");
    }
    p->handlers = *handlers;
    llhttp_init(&p->llhttp, HTTP_RESPONSE, &settings);
    p->llhttp.data = p;
    *out = p;
    return STATUS_OK;
}

void http_client_destroy(struct http_client_parser *p)
{
    free(p);
}

void http_client_reset(struct http_client_parser *p)
{
    llhttp_reset(&p->llhttp);
    p->begun = false;
    p->complete = false;
    p->interim = false;
    p->failure = NULL;
    p->name_bytes = 0;
    p->value = NULL;
    p->content_type[0] = '\0';
    p->api_server[0] = '\0';
}

enum http_feed http_client_feed(struct http_client_parser *p, const char *data, size_t bytes,
                                size_t *used)
{
    *used = 0;
    if (p->failure != NULL) {
        return HTTP_FEED_ERROR;
    }
    while (*used < bytes) {
        if (p->complete) {
            http_client_reset(p);
        }
        const char *from = data + *used;
        llhttp_errno_t result = llhttp_execute(&p->llhttp, from, bytes - *used);
        if (result == HPE_OK) {
            *used = bytes;
            return HTTP_FEED_MORE;
        }
        *used += (size_t)(llhttp_get_error_pos(&p->llhttp) - from);
        if (result != HPE_PAUSED) {
            p->failure = llhttp_get_error_reason(&p->llhttp);
            return HTTP_FEED_ERROR;
        }
        if (!p->interim) {
            return HTTP_FEED_COMPLETE;
        }
    }
    return HTTP_FEED_MORE;
}

enum http_feed http_client_eof(struct http_client_parser *p)
{
    if (p->failure != NULL) {
        return HTTP_FEED_ERROR;
    }
    if (!p->begun || p->complete) {
        return HTTP_FEED_MORE;
    }
    (void)llhttp_finish(&p->llhttp);
    if (!p->complete) {
        p->failure = "The response was cut off.";
        return HTTP_FEED_ERROR;
    }
    p->keep_alive = false;
    return HTTP_FEED_COMPLETE;
}

bool http_client_keep_alive(const struct http_client_parser *p)
{
    return p->keep_alive;
}

const char *http_client_error(const struct http_client_parser *p)
{
    return p->failure == NULL ? "" : p->failure;
}

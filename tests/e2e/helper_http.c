/*
 * helper_http.c - see helper_http.h: bytes and HTTP. What completions mean is in
 * helper_completion.c.
 */
#include "helper_http.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "helper_system.h"

enum {
    NARROW_BYTES = 8 << 10,
    WIDE_BYTES = 1 << 20
};

static bool open_with(struct link *l, uint32_t port, int receive_bytes)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    *l = (struct link){.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    if (receive_bytes > 0) {
        (void)setsockopt(l->fd, SOL_SOCKET, SO_RCVBUF, &receive_bytes, sizeof receive_bytes);
    }
    if (l->fd < 0 || connect(l->fd, (struct sockaddr *)&address, sizeof address) != 0) {
        link_close(l);
        return false;
    }
    return true;
}

bool link_open(struct link *l, uint32_t port)
{
    return open_with(l, port, 0);
}

bool link_open_narrow(struct link *l, uint32_t port)
{
    return open_with(l, port, NARROW_BYTES);
}

void link_widen(struct link *l)
{
    int bytes = WIDE_BYTES;
    (void)setsockopt(l->fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes);
}

void link_close(struct link *l)
{
    if (l->fd >= 0) {
        (void)close(l->fd);
    }
    free(l->data);
    *l = (struct link){.fd = -1, .eof = true};
}

bool link_send(struct link *l, const void *data, size_t bytes)
{
    const char *at = data;
    while (bytes > 0) {
        struct pollfd fd = {.fd = l->fd, .events = POLLOUT};
        if (poll(&fd, 1, HANG_MS) <= 0) {
            return false;
        }
        ssize_t sent = send(l->fd, at, bytes, MSG_NOSIGNAL);
        if (sent < 0) {
            return false;
        }
        at += sent;
        bytes -= (size_t)sent;
    }
    return true;
}

bool link_text(struct link *l, const char *text)
{
    return link_send(l, text, strlen(text));
}

bool link_more(struct link *l, int64_t ms)
{
    struct pollfd fd = {.fd = l->fd, .events = POLLIN};
    if (l->eof || poll(&fd, 1, (int)(ms > 0 ? ms : 0)) <= 0) {
        return false;
    }
    if (l->cap - l->bytes < 65536) {
        l->cap = l->cap * 2 + 65536;
        l->data = realloc(l->data, l->cap);
        ASSERT(l->data != NULL);
    }
    ssize_t got = read(l->fd, l->data + l->bytes, l->cap - l->bytes - 1);
    if (got <= 0) {
        l->eof = true;
        return false;
    }
    l->bytes += (size_t)got;
    l->data[l->bytes] = '\0';
    return true;
}

bool link_drain(struct link *l, int64_t ms)
{
    int64_t deadline = clock_now_ns() + ms * 1000000;
    while (!l->eof && clock_now_ns() < deadline) {
        (void)link_more(l, (deadline - clock_now_ns()) / 1000000 + 1);
    }
    return l->eof;
}

/* ---- one answer ---- */

/* Bytes [0, used) of what came form the answer. */
struct shape {
    size_t head_bytes;
    size_t used;
    bool complete;
};

static char *copy(const char *data, size_t bytes)
{
    char *out = malloc(bytes + 1);
    ASSERT(out != NULL);
    if (bytes > 0) {
        memcpy(out, data, bytes);
    }
    out[bytes] = '\0';
    return out;
}

const char *answer_header(const struct answer *a, const char *name)
{
    static _Thread_local char value[256];
    value[0] = '\0';
    size_t bytes = strlen(name);
    for (const char *line = a->head; line != NULL && *line != '\0';) {
        const char *end = strstr(line, "\r\n");
        if (strncasecmp(line, name, bytes) == 0 && line[bytes] == ':') {
            const char *at = line + bytes + 1;
            at += strspn(at, " ");
            size_t length = end != NULL ? (size_t)(end - at) : strlen(at);
            (void)snprintf(value, sizeof value, "%.*s", (int)length, at);
            return value;
        }
        line = end != NULL ? end + 2 : NULL;
    }
    return value;
}

/* Appends the chunks that are there; true when the last one is. */
static bool join_chunks(const char *data, size_t bytes, struct answer *a, size_t *used)
{
    size_t at = 0;
    a->body = copy(data, bytes); /* room for all chunks; overwritten by them */
    a->body_bytes = 0;
    for (;;) {
        const char *line_end = memmem(data + at, bytes - at, "\r\n", 2);
        if (line_end == NULL) {
            return false;
        }
        size_t size = strtoull(data + at, NULL, 16);
        size_t begin = (size_t)(line_end - data) + 2;
        size_t room = bytes - begin;
        size_t part = size < room ? size : room;
        memcpy(a->body + a->body_bytes, data + begin, part);
        a->body_bytes += part;
        a->body[a->body_bytes] = '\0';
        if (room < size + 2) {
            return false;
        }
        at = begin + size + 2;
        if (size == 0) {
            *used = at;
            return true;
        }
    }
}

static bool take_body(const struct link *l, size_t head_bytes, struct answer *a, size_t *used)
{
    const char *data = l->data + head_bytes;
    size_t bytes = l->bytes - head_bytes;
    free(a->body);
    a->body = NULL;
    if (strstr(answer_header(a, "Transfer-Encoding"), "chunked") != NULL) {
        bool complete = join_chunks(data, bytes, a, used);
        *used += head_bytes;
        return complete;
    }
    size_t length = strtoull(answer_header(a, "Content-Length"), NULL, 10);
    a->body_bytes = bytes < length ? bytes : length;
    a->body = copy(data, a->body_bytes);
    *used = head_bytes + length;
    return bytes >= length;
}

static bool take_answer(struct link *l, struct answer *a)
{
    const char *end = l->bytes > 0 ? memmem(l->data, l->bytes, "\r\n\r\n", 4) : NULL;
    if (end == NULL) {
        return false;
    }
    size_t head_bytes = (size_t)(end - l->data) + 4;
    size_t used = 0;
    free(a->head);
    a->head = copy(l->data, head_bytes);
    bool complete = take_body(l, head_bytes, a, &used);
    if (complete) {
        a->status = strncmp(a->head, "HTTP/1.1 ", 9) == 0 ? atoi(a->head + 9) : -1;
        memmove(l->data, l->data + used, l->bytes - used);
        l->bytes -= used;
        l->data[l->bytes] = '\0';
    }
    return complete;
}

struct answer link_answer(struct link *l)
{
    struct answer a = {0};
    int64_t deadline = clock_now_ns() + (int64_t)HANG_MS * 1000000;
    while (!take_answer(l, &a)) {
        if (!link_more(l, (deadline - clock_now_ns()) / 1000000)) {
            /* What is there once it ended is all that comes. */
            a.cut = !take_answer(l, &a);
            break;
        }
        while (link_more(l, 0)) { /* what is there already, before it is all parsed again */
        }
    }
    return a;
}

void answer_free(struct answer *a)
{
    free(a->head);
    free(a->body);
    *a = (struct answer){0};
}

char *http_request_text(const char *path, const char *headers, const char *json)
{
    size_t cap = strlen(path) + strlen(json) + (headers != NULL ? strlen(headers) : 0) + 256;
    char *text = malloc(cap);
    ASSERT(text != NULL);
    (void)snprintf(text, cap,
                   "POST %s HTTP/1.1\r\nHost: e2e\r\nContent-Type: application/json\r\n%s"
                   "Content-Length: %zu\r\n\r\n%s",
                   path, headers != NULL ? headers : "", strlen(json), json);
    return text;
}

static struct answer exchange(uint32_t port, const char *text)
{
    struct link l;
    struct answer a = {0};
    if (link_open(&l, port) && link_text(&l, text)) {
        a = link_answer(&l);
    }
    link_close(&l);
    return a;
}

struct answer http_post_with(uint32_t port, const char *path, const char *headers, const char *json)
{
    char *text = http_request_text(path, headers, json);
    struct answer a = exchange(port, text);
    free(text);
    return a;
}

struct answer http_post(uint32_t port, const char *path, const char *json)
{
    return http_post_with(port, path, NULL, json);
}

struct answer http_get(uint32_t port, const char *path)
{
    char text[256];
    (void)snprintf(text, sizeof text, "GET %s HTTP/1.1\r\nHost: e2e\r\n\r\n", path);
    return exchange(port, text);
}

/*
 * fetch.c - one GET of a small page of the server under load (fetch.h). Waits at most 5 s for each
 * part of the answer.
 */
#include "harness/run/fetch.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "engine/http/http_parser.h"

enum {
    REPLY_BYTES_MAX = 16 << 20,
};

struct answer {
    struct http_buffer *body;
    uint32_t status;
};

static void on_head(void *ctx, const struct http_response_head *head)
{
    struct answer *a = ctx;
    a->status = (uint32_t)head->http_status;
}

static void on_body(void *ctx, const char *data, size_t bytes)
{
    const struct answer *a = ctx;
    http_buffer_append(a->body, data, bytes);
}

uint32_t fetch_page(const struct load_target *server, const char *path, struct http_buffer *body)
{
    char request[256];
    char reply[16384];
    struct error error;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)server->port)};
    struct timeval patience = {.tv_sec = 5};
    struct answer answer = {.body = body};
    struct http_client_handlers handlers = {.ctx = &answer, .on_head = on_head, .on_body = on_body};
    struct http_client_parser *parser = NULL;
    (void)inet_pton(AF_INET, server->host, &address.sin_addr);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience); /* connect(), too */
    int bytes = snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: %s\r\n\r\n", path,
                         server->host);
    bool complete = false;
    if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) == 0 &&
        write(fd, request, (size_t)bytes) == bytes &&
        http_client_create(&handlers, &parser, &error) == STATUS_OK) {
        ssize_t got = 0;
        while (!complete && body->bytes < REPLY_BYTES_MAX &&
               (got = read(fd, reply, sizeof reply)) > 0) {
            size_t used = 0;
            complete = http_client_feed(parser, reply, (size_t)got, &used) == HTTP_FEED_COMPLETE;
        }
        complete = complete || (got == 0 && http_client_eof(parser) == HTTP_FEED_COMPLETE);
    }
    http_client_destroy(parser);
    if (fd >= 0) {
        (void)close(fd);
    }
    return complete ? answer.status : 0;
}

/*
 * connection.c - the load client's sockets: opening, balancing over API servers, sending,
 * receiving, closing. One recv for each readable socket and turn; epoll is told of a socket once
 * when it connects and only then again when send() takes less than all. Driven by client.c's loop.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "harness/load/client_state.h"

enum status conn_create(struct client *c, uint32_t index, struct error *error)
{
    struct conn *conn = &c->conns[index];
    *conn = (struct conn){
        .client = c,
        .index = index,
        .target = index % c->options->targets_count,
        .fd = -1,
        .state = CONN_CLOSED,
        .api_server = LOAD_API_SERVER_NONE,
        .retry_delay_ns = CLIENT_RETRY_FIRST_NS,
    };
    struct http_client_handlers handlers = response_handlers(conn);
    TRY(http_client_create(&handlers, &conn->parser, error));
    c->closed_count++;
    return STATUS_OK;
}

void conn_destroy(struct conn *conn)
{
    if (conn->fd >= 0) {
        (void)close(conn->fd);
    }
    if (conn->parser != NULL) {
        http_client_destroy(conn->parser);
    }
    sse_scanner_free(&conn->scanner);
    http_buffer_free(&conn->body);
    http_buffer_free(&conn->unsent);
}

static void watch(struct conn *conn, int operation, uint32_t events)
{
    struct epoll_event event = {.events = events,
                                .data.u64 = (uint64_t)conn->generation << 32 | conn->index};
    if (epoll_ctl(conn->client->epoll_fd, operation, conn->fd, &event) != 0) {
        client_fail(conn->client, STATUS_IO, "load: epoll_ctl: %s", strerror(errno));
    }
}

static void retry_later(struct conn *conn, int64_t at_ns)
{
    conn->retry_at_ns = at_ns;
    if (at_ns < conn->client->next_retry_ns) {
        conn->client->next_retry_ns = at_ns;
    }
}

void conn_close(struct conn *conn, int64_t retry_at_ns)
{
    struct client *c = conn->client;
    ASSERT(conn->state != CONN_CLOSED && conn->record == NULL);
    if (conn->state == CONN_IDLE || conn->state == CONN_BUSY) {
        c->open_count--;
    } else {
        c->connecting_count--;
    }
    (void)close(conn->fd);
    conn->fd = -1;
    conn->generation++;
    conn->state = CONN_CLOSED;
    conn->wants_write = false;
    conn->api_server = LOAD_API_SERVER_NONE;
    http_buffer_clear(&conn->unsent);
    conn->unsent_at = 0;
    http_client_reset(conn->parser);
    c->closed_count++;
    retry_later(conn, retry_at_ns);
}

/* The socket is gone before it was of use. */
static void open_failed(struct conn *conn, int problem, int64_t now_ns)
{
    struct client *c = conn->client;
    load_add(&c->header->connect_failures_count, 1);
    c->failed_target = conn->target;
    (void)error_set(&c->connect_error, STATUS_IO, "%s", strerror(problem));
    int64_t delay_ns = conn->retry_delay_ns;
    conn->retry_delay_ns = delay_ns * 2 < CLIENT_RETRY_MAX_NS ? delay_ns * 2 : CLIENT_RETRY_MAX_NS;
    if (conn->state == CONN_CLOSED) {
        retry_later(conn, now_ns + delay_ns);
    } else {
        conn_close(conn, now_ns + delay_ns);
    }
    client_connect_failed(c, conn, now_ns);
}

static void ready(struct conn *conn, int64_t now_ns)
{
    struct client *c = conn->client;
    uint64_t took_ns = (uint64_t)(now_ns - conn->connect_start_ns);
    load_add(&c->header->connects_count, 1);
    load_add(&c->header->connect_ns_sum, took_ns);
    if (took_ns > load_get(&c->header->connect_ns_max)) {
        atomic_store_explicit(&c->header->connect_ns_max, took_ns, memory_order_relaxed);
    }
    c->connecting_count--;
    c->open_count++;
    c->lost_since_ns = 0;
    conn->retry_delay_ns = CLIENT_RETRY_FIRST_NS;
    conn->state = CONN_IDLE;
    client_conn_ready(c, conn, now_ns);
}

static void connected(struct conn *conn, int64_t now_ns)
{
    struct client *c = conn->client;
    /* A connection that is lost later is opened again without balancing: it must not wait for a
     * lucky draw. */
    if (!c->options->balance || c->loading) {
        ready(conn, now_ns);
        return;
    }
    conn->state = CONN_PROBING;
    (void)conn_send(conn, c->health.data, c->health.bytes);
}

void conn_open(struct conn *conn, int64_t now_ns)
{
    struct client *c = conn->client;
    ASSERT(conn->state == CONN_CLOSED);
    conn->connect_start_ns = now_ns;
    const struct client_target *target = &c->targets[conn->target];
    int family = target->address.ss_family;
    conn->fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (conn->fd < 0) {
        open_failed(conn, errno, now_ns);
        return;
    }
    c->closed_count--;
    c->connecting_count++;
    conn->state = CONN_CONNECTING;
    if (family == AF_INET) {
        int on = 1;
        (void)setsockopt(conn->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    }
    int rc = connect(conn->fd, (const struct sockaddr *)&target->address, target->address_bytes);
    if (rc == 0) {
        watch(conn, EPOLL_CTL_ADD, EPOLLIN);
        connected(conn, clock_now_ns());
    } else if (errno == EINPROGRESS) {
        watch(conn, EPOLL_CTL_ADD, EPOLLIN | EPOLLOUT);
    } else {
        open_failed(conn, errno, now_ns);
    }
}

static void connect_event(struct conn *conn)
{
    int problem = 0;
    socklen_t bytes = sizeof problem;
    int64_t now_ns = clock_now_ns();
    if (getsockopt(conn->fd, SOL_SOCKET, SO_ERROR, &problem, &bytes) != 0) {
        problem = errno;
    }
    if (problem != 0) {
        open_failed(conn, problem, now_ns);
        return;
    }
    watch(conn, EPOLL_CTL_MOD, EPOLLIN);
    connected(conn, now_ns);
}

/* The number of connections that an API server of the target may have: equal shares, the remainder
 * to whoever comes first. */
static bool has_room(const struct client *c, uint32_t target, uint32_t api_server)
{
    uint32_t servers = c->options->api_servers_count / c->options->targets_count;
    uint32_t conns = target_conns_count(c, target);
    uint32_t share = conns / servers;
    if (c->balanced[api_server] != share) {
        return c->balanced[api_server] < share;
    }
    uint32_t with_more = 0;
    for (uint32_t i = 0; i < servers; i++) {
        with_more += c->balanced[target * servers + i] > share;
    }
    return with_more < conns % servers;
}

void conn_probed(struct conn *conn, int64_t now_ns)
{
    struct client *c = conn->client;
    uint32_t api_server = conn->api_server;
    c->tries_count++;
    load_add(&c->header->balance_tries_count, 1);
    if (api_server == LOAD_API_SERVER_NONE) {
        client_fail(c, STATUS_PROTOCOL,
                    "load: cannot balance connections: the server's answer to GET /health has no "
                    "X-Api-Server header");
        return;
    }
    if (api_server >= c->options->api_servers_count) {
        client_fail(c, STATUS_PROTOCOL,
                    "load: cannot balance connections: API server %u answered, but %u are expected",
                    api_server, c->options->api_servers_count);
        return;
    }
    if (api_server / (c->options->api_servers_count / c->options->targets_count) != conn->target) {
        client_fail(c, STATUS_PROTOCOL,
                    "load: cannot balance connections: API server %u answered at %s port %u, "
                    "where it is not expected",
                    api_server, c->options->targets[conn->target].host,
                    c->options->targets[conn->target].port);
        return;
    }
    if (!http_client_keep_alive(conn->parser)) {
        client_fail(c, STATUS_PROTOCOL,
                    "load: cannot balance connections: the server does not keep them open");
        return;
    }
    if (!has_room(c, conn->target, api_server)) {
        conn_close(conn, now_ns);
        return;
    }
    c->balanced[api_server]++;
    load_add(&c->header->connections_count[api_server], 1);
    ready(conn, now_ns);
}

bool conn_is_open(struct conn *conn)
{
    char byte;
    ssize_t n = recv(conn->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        return true;
    }
    conn_close(conn, clock_now_ns());
    return false;
}

static void set_wants_write(struct conn *conn, bool wanted)
{
    if (conn->wants_write != wanted) {
        conn->wants_write = wanted;
        watch(conn, EPOLL_CTL_MOD, wanted ? EPOLLIN | EPOLLOUT : EPOLLIN);
    }
}

static void lost(struct conn *conn, int problem)
{
    int64_t now_ns = clock_now_ns();
    if (conn->state == CONN_PROBING) {
        open_failed(conn, problem, now_ns);
    } else {
        response_reset(conn, now_ns);
    }
}

/* What the socket takes now: 0 when it is full, -1 when it is lost. */
static ssize_t send_some(struct conn *conn, const char *data, size_t bytes)
{
    for (;;) {
        ssize_t n = send(conn->fd, data, bytes, MSG_NOSIGNAL);
        if (n >= 0) {
            return n;
        }
        if (errno == EAGAIN) {
            return 0;
        }
        if (errno != EINTR) {
            lost(conn, errno);
            return -1;
        }
    }
}

bool conn_send(struct conn *conn, const char *data, size_t bytes)
{
    ssize_t sent = send_some(conn, data, bytes);
    if (sent < 0) {
        return false;
    }
    if ((size_t)sent < bytes) {
        http_buffer_clear(&conn->unsent);
        conn->unsent_at = 0;
        http_buffer_append(&conn->unsent, data + sent, bytes - (size_t)sent);
        if (conn->unsent.failed) {
            client_fail(conn->client, STATUS_NOMEM, "load: out of memory");
            return true;
        }
        set_wants_write(conn, true);
    }
    return true;
}

static void writable(struct conn *conn)
{
    struct http_buffer *unsent = &conn->unsent;
    ssize_t sent = send_some(conn, unsent->data + conn->unsent_at, unsent->bytes - conn->unsent_at);
    if (sent < 0) {
        return;
    }
    conn->unsent_at += (size_t)sent;
    if (conn->unsent_at == unsent->bytes) {
        http_buffer_clear(unsent);
        conn->unsent_at = 0;
        set_wants_write(conn, false);
    }
}

static void readable(struct conn *conn)
{
    struct client *c = conn->client;
    ssize_t n = recv(conn->fd, c->read_buffer, CLIENT_READ_BYTES, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    if (n < 0) {
        lost(conn, errno);
        return;
    }
    int64_t now_ns = clock_now_ns();
    if (n == 0) {
        if (conn->state == CONN_PROBING) {
            open_failed(conn, ECONNRESET, now_ns);
        } else {
            response_eof(conn, now_ns);
        }
        return;
    }
    if (conn->state == CONN_IDLE) { /* nobody asked for these bytes */
        conn_close(conn, now_ns);
        return;
    }
    load_add(&c->header->reads_count, 1);
    load_add(&c->header->bytes_in, (uint64_t)n);
    response_feed(conn, c->read_buffer, (size_t)n, now_ns);
}

void conn_event(struct conn *conn, uint32_t events)
{
    if (conn->state == CONN_CONNECTING) {
        connect_event(conn);
        return;
    }
    uint32_t generation = conn->generation;
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
        readable(conn);
    }
    if (conn->generation == generation && conn->wants_write && (events & EPOLLOUT)) {
        writable(conn);
    }
}

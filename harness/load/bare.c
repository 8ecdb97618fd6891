/*
 * bare.c - the bare reader of streams, and the bare pair of client and server (bare.h). One thread
 * each, level-triggered epoll, one recv for each readable socket. Must not grow what it is the
 * ceiling of: parsing, accounting.
 */
#include "harness/load/bare.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "harness/load/listener.h"
#include "harness/load/request.h"

enum {
    READ_BYTES = 256 << 10,
    EVENTS_MAX = 256,
    SILENCE_MS = 10000,
    EVENTS_BEHIND_TOKENS = 2, /* usage and [DONE] */
    PROMPT_TOKENS = 8,
    ANSWER_BODY_BYTES = 200, /* as the null server's */
};

struct bare_conn {
    int fd;
    uint32_t index;
    uint32_t events_count; /* streams: complete ones */
    uint32_t bytes_left;   /* pair: of the answer under way */
    bool newline_before;   /* the last byte read was one */
};

struct bare {
    int epoll_fd;
    struct bare_conn *conns;
    uint32_t conns_count;
    char *read_buffer;
};

static void close_all(struct bare *b)
{
    for (uint32_t i = 0; b->conns != NULL && i < b->conns_count; i++) {
        if (b->conns[i].fd >= 0) {
            (void)close(b->conns[i].fd);
        }
    }
    if (b->epoll_fd >= 0) {
        (void)close(b->epoll_fd);
    }
    free(b->conns);
    free(b->read_buffer);
}

static enum status open_one(struct bare *b, uint32_t index, uint32_t port, struct error *error)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct bare_conn *conn = &b->conns[index];
    int on = 1;
    conn->index = index;
    conn->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = conn};
    if (conn->fd < 0 || connect(conn->fd, (const struct sockaddr *)&address, sizeof address) != 0 ||
        setsockopt(conn->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0 ||
        epoll_ctl(b->epoll_fd, EPOLL_CTL_ADD, conn->fd, &event) != 0) {
        return error_set(error, STATUS_IO, "bare client: connection %u: %s", index,
                         strerror(errno));
    }
    return STATUS_OK;
}

/* close_all() also after a failure. */
static enum status open_all(struct bare *b, uint32_t count, uint32_t port, struct error *error)
{
    *b = (struct bare){.epoll_fd = epoll_create1(EPOLL_CLOEXEC), .conns_count = count};
    b->conns = calloc(count, sizeof *b->conns);
    b->read_buffer = malloc(READ_BYTES);
    if (b->epoll_fd < 0 || b->conns == NULL || b->read_buffer == NULL) {
        return error_set(error, STATUS_NOMEM, "bare client: no memory or no epoll");
    }
    for (uint32_t i = 0; i < count; i++) {
        b->conns[i].fd = -1;
    }
    for (uint32_t i = 0; i < count; i++) {
        TRY(open_one(b, i, port, error));
    }
    return STATUS_OK;
}

static bool send_request(int fd, const struct load_options *options, uint64_t number,
                         struct http_buffer *bytes)
{
    struct schedule_item item = {.number = number,
                                 .prompt_tokens = PROMPT_TOKENS,
                                 .output_tokens = options->output_tokens.lo,
                                 .trace_index = SCHEDULE_NO_TRACE};
    request_write(bytes, options, NULL, &item);
    return !bytes->failed &&
           send(fd, bytes->data, bytes->bytes, MSG_NOSIGNAL) == (ssize_t)bytes->bytes;
}

static struct load_options options_of(uint32_t tokens, bool stream)
{
    return (struct load_options){.targets = {{.host = "127.0.0.1"}},
                                 .targets_count = 1,
                                 .model = "bare",
                                 .output_tokens = {.lo = tokens, .hi = tokens},
                                 .stream = stream};
}

/* ---- streams ---- */

/* Server-sent events end in an empty line; nothing else in the answer has two line feeds in a row.
 */
static void take_bytes(struct bare_conn *conn, const char *data, size_t bytes, uint32_t tokens,
                       int64_t *seen_ns)
{
    int64_t now_ns = clock_now_ns();
    const char *end = data + bytes;
    const char *at = data;
    bool before = conn->newline_before;
    while (at < end) {
        if (before && *at == '\n') {
            if (conn->events_count < tokens) {
                seen_ns[(size_t)conn->index * tokens + conn->events_count] = now_ns;
            }
            conn->events_count++;
            at++;
        }
        const char *next = at < end ? memchr(at, '\n', (size_t)(end - at)) : NULL;
        before = next != NULL;
        at = next != NULL ? next + 1 : end;
    }
    conn->newline_before = before && data[bytes - 1] == '\n';
}

/* Counts a stream that this read ended. */
static enum status read_stream(struct bare *b, struct bare_conn *conn,
                               const struct bare_streams *streams, int64_t *seen_ns,
                               uint32_t *ended_count)
{
    ssize_t n = recv(conn->fd, b->read_buffer, READ_BYTES, 0);
    if (n < 0 && errno == EINTR) {
        return STATUS_OK;
    }
    if (n <= 0) {
        return STATUS_IO;
    }
    take_bytes(conn, b->read_buffer, (size_t)n, streams->tokens, seen_ns);
    if (conn->events_count >= streams->tokens + EVENTS_BEHIND_TOKENS) {
        (void)epoll_ctl(b->epoll_fd, EPOLL_CTL_DEL, conn->fd, NULL);
        (*ended_count)++;
    }
    return STATUS_OK;
}

static enum status read_all(struct bare *b, const struct bare_streams *streams, int64_t *seen_ns,
                            struct error *error)
{
    struct epoll_event events[EVENTS_MAX];
    uint32_t ended_count = 0;
    while (ended_count < streams->count) {
        int count = epoll_wait(b->epoll_fd, events, EVENTS_MAX, SILENCE_MS);
        if (count == 0) {
            return error_set(error, STATUS_TIMEOUT, "bare client: nothing came for %d ms",
                             SILENCE_MS);
        }
        for (int i = 0; i < count; i++) {
            struct bare_conn *conn = events[i].data.ptr;
            if (read_stream(b, conn, streams, seen_ns, &ended_count) != STATUS_OK) {
                return error_set(error, STATUS_IO, "bare client: stream %u ended early",
                                 conn->index);
            }
        }
    }
    return STATUS_OK;
}

enum status bare_read_streams(const struct bare_streams *streams, int64_t *seen_ns,
                              struct error *error)
{
    struct bare b;
    struct http_buffer bytes = {0};
    struct load_options options = options_of(streams->tokens, true);
    enum status status = open_all(&b, streams->count, streams->port, error);
    for (uint32_t i = 0; i < streams->count && status == STATUS_OK; i++) {
        if (!send_request(b.conns[i].fd, &options, i, &bytes)) {
            status = error_set(error, STATUS_IO, "bare client: request %u not sent", i);
        }
    }
    if (status == STATUS_OK) {
        status = read_all(&b, streams, seen_ns, error);
    }
    http_buffer_free(&bytes);
    close_all(&b);
    return status;
}

/* ---- the pair ---- */

static void write_answer(struct http_buffer *out)
{
    char body[ANSWER_BODY_BYTES];
    memset(body, ' ', sizeof body);
    http_buffer_text(out, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: ");
    http_buffer_u64(out, sizeof body);
    http_buffer_text(out, "\r\n\r\n");
    http_buffer_append(out, body, sizeof body);
}

/* A request fits one segment, so a read is one. */
static void answer_one(int fd, const struct http_buffer *answer)
{
    static char bytes[READ_BYTES];
    if (recv(fd, bytes, sizeof bytes, 0) <= 0) {
        (void)close(fd);
    } else {
        (void)!send(fd, answer->data, answer->bytes, MSG_NOSIGNAL);
    }
}

static void accept_one(int listen_fd, int epoll_fd)
{
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener_accept(listen_fd)};
    if (event.data.fd >= 0) {
        (void)epoll_ctl(epoll_fd, EPOLL_CTL_ADD, event.data.fd, &event);
    }
}

/* Until it is killed. */
static void serve(int listen_fd, const struct http_buffer *answer)
{
    struct epoll_event events[EVENTS_MAX];
    int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listen_fd};
    (void)epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listen_fd, &event);
    for (;;) {
        int count = epoll_wait(epoll_fd, events, EVENTS_MAX, -1);
        for (int i = 0; i < count; i++) {
            int fd = events[i].data.fd;
            if (fd == listen_fd) {
                accept_one(listen_fd, epoll_fd);
            } else {
                answer_one(fd, answer);
            }
        }
    }
}

static enum status start_server(const struct http_buffer *answer, pid_t *pid, uint32_t *port,
                                struct error *error)
{
    int fd = -1;
    TRY(listener_open(0, &fd, port, error));
    pid_t parent = getpid();
    *pid = fork();
    if (*pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() == parent) {
            serve(fd, answer);
        }
        _exit(1);
    }
    (void)close(fd);
    return *pid > 0 ? STATUS_OK
                    : error_set(error, STATUS_IO, "bare server: fork: %s", strerror(errno));
}

/* Each answer that is complete is followed by the next request; counts those of the window. */
static enum status exchange(struct bare *b, const struct http_buffer *request, size_t answer_bytes,
                            int64_t window_ns, double *requests_per_s)
{
    struct epoll_event events[EVENTS_MAX];
    uint64_t answers = 0;
    for (uint32_t i = 0; i < b->conns_count; i++) {
        b->conns[i].bytes_left = (uint32_t)answer_bytes;
        if (send(b->conns[i].fd, request->data, request->bytes, MSG_NOSIGNAL) < 0) {
            return STATUS_IO;
        }
    }
    int64_t start_ns = clock_now_ns();
    int64_t now_ns = start_ns;
    while (now_ns - start_ns < window_ns) {
        int count = epoll_wait(b->epoll_fd, events, EVENTS_MAX, SILENCE_MS);
        for (int i = 0; i < count; i++) {
            struct bare_conn *conn = events[i].data.ptr;
            ssize_t n = recv(conn->fd, b->read_buffer, READ_BYTES, 0);
            if (n <= 0 || (size_t)n > conn->bytes_left) {
                return STATUS_IO;
            }
            conn->bytes_left -= (uint32_t)n;
            if (conn->bytes_left > 0) {
                continue;
            }
            answers++;
            conn->bytes_left = (uint32_t)answer_bytes;
            if (send(conn->fd, request->data, request->bytes, MSG_NOSIGNAL) < 0) {
                return STATUS_IO;
            }
        }
        if (count == 0) {
            return STATUS_TIMEOUT;
        }
        now_ns = clock_now_ns();
    }
    *requests_per_s = (double)answers * 1e9 / (double)(now_ns - start_ns);
    return STATUS_OK;
}

static enum status measure_pair(struct bare *b, const struct http_buffer *answer, int64_t window_ns,
                                double *requests_per_s, struct error *error)
{
    struct http_buffer request = {0};
    struct load_options options = options_of(1, false);
    struct schedule_item item = {
        .prompt_tokens = PROMPT_TOKENS, .output_tokens = 1, .trace_index = SCHEDULE_NO_TRACE};
    request_write(&request, &options, NULL, &item);
    enum status status = request.failed
                             ? STATUS_NOMEM
                             : exchange(b, &request, answer->bytes, window_ns, requests_per_s);
    http_buffer_free(&request);
    return status == STATUS_OK ? STATUS_OK
                               : error_set(error, status, "bare pair: the exchange ended early");
}

enum status bare_pair_measure(uint32_t connections_count, int64_t window_ns, double *requests_per_s,
                              struct error *error)
{
    struct http_buffer answer = {0};
    struct bare b;
    pid_t pid = -1;
    uint32_t port = 0;
    write_answer(&answer);
    enum status status = start_server(&answer, &pid, &port, error);
    if (status == STATUS_OK) {
        status = open_all(&b, connections_count, port, error);
        if (status == STATUS_OK) {
            status = measure_pair(&b, &answer, window_ns, requests_per_s, error);
        }
        close_all(&b);
        (void)kill(pid, SIGKILL);
        (void)waitpid(pid, NULL, 0);
    }
    http_buffer_free(&answer);
    return status;
}

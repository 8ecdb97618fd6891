/*
 * collective_link.c - owns a connection's buffer and the way whole frames go through it. Driven by
 * the star of a collective. Must not wait for input, nor for output without a bound, and must not
 * raise SIGPIPE.
 */
#include "engine/collective/collective_link.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "engine/base/clock.h"

enum {
    NS_A_MS = 1000000,
    DRAIN_READS_MAX = 64, /* of a peer that will not stop sending */
};

void collective_link_init(struct collective_link *link, int fd)
{
    int on = 1;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    link->fd = fd;
    link->buffered = 0;
}

enum link_news collective_link_read(struct collective_link *link, struct collective_frame *frame,
                                    struct error *error)
{
    for (;;) {
        uint32_t used;
        if (collective_frame_decode(link->buffer, link->buffered, frame, &used, error) !=
            STATUS_OK) {
            return LINK_RUBBISH;
        }
        if (used > 0) {
            link->buffered -= used;
            memmove(link->buffer, link->buffer + used, link->buffered);
            return LINK_FRAME;
        }
        /* There is room: the longest frame would be complete. */
        ssize_t got = recv(link->fd, link->buffer + link->buffered,
                           sizeof link->buffer - link->buffered, MSG_DONTWAIT);
        if (got > 0) {
            link->buffered += (uint32_t)got;
        } else if (got == 0 || (errno != EINTR && errno != EAGAIN)) {
            return LINK_ENDED;
        } else if (errno == EAGAIN) {
            return LINK_NOTHING;
        }
    }
}

static bool wait_writable(int fd, int64_t deadline_ns)
{
    int64_t left_ns = deadline_ns - clock_now_ns();
    struct pollfd item = {.fd = fd, .events = POLLOUT};
    /* Rounded up; nobody waits for weeks. */
    int64_t left_ms = left_ns / NS_A_MS + 1;
    return left_ns > 0 && poll(&item, 1, left_ms < INT32_MAX ? (int)left_ms : INT32_MAX) >= 0;
}

bool collective_link_write(struct collective_link *link, const struct collective_frame *frame,
                           int64_t deadline_ns)
{
    uint8_t bytes[FRAME_BYTES_MAX];
    size_t length = collective_frame_encode(frame, bytes);
    size_t sent = 0;
    while (sent < length) {
        ssize_t n = send(link->fd, bytes + sent, length - sent, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n > 0) {
            sent += (size_t)n;
        } else if (errno == EAGAIN ? !wait_writable(link->fd, deadline_ns) : errno != EINTR) {
            (void)shutdown(link->fd, SHUT_WR); /* no frame may follow a piece of one */
            return false;
        }
    }
    return true;
}

/* Bytes that nobody read would make the kernel reset the connection, and so lose what is on its way
 * to the other side. */
void collective_link_close(struct collective_link *link)
{
    if (link->fd < 0) {
        return;
    }
    (void)shutdown(link->fd, SHUT_WR);
    for (int i = 0; i < DRAIN_READS_MAX; i++) {
        if (recv(link->fd, link->buffer, sizeof link->buffer, MSG_DONTWAIT) <= 0) {
            break;
        }
    }
    (void)close(link->fd);
    link->fd = -1;
}

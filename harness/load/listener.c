/*
 * listener.c - listening and accepting (listener.h). Driven by the null server and the mock.
 */
#include "harness/load/listener.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    BACKLOG_COUNT = 4096
};

enum status listener_open(uint32_t port, int *fd, uint32_t *actual_port, struct error *error)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    socklen_t bytes = sizeof address;
    int on = 1;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (listener < 0) {
        return error_set(error, STATUS_IO, "socket: %s", strerror(errno));
    }
    (void)setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (const struct sockaddr *)&address, bytes) != 0 ||
        listen(listener, BACKLOG_COUNT) != 0 ||
        getsockname(listener, (struct sockaddr *)&address, &bytes) != 0) {
        enum status status = error_set(error, STATUS_IO, "port %u: %s", port, strerror(errno));
        (void)close(listener);
        return status;
    }
    *fd = listener;
    *actual_port = ntohs(address.sin_port);
    return STATUS_OK;
}

int listener_accept(int listen_fd)
{
    int on = 1;
    int fd = accept4(listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0) {
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    }
    return fd;
}

/*
 * address.c - which address of this machine another one is reached from (cli.h).
 */
#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

#include "harness/cli/cli.h"

/* A datagram socket that is connected, but never sends, is bound to the interface of the route. */
bool cli_address_towards(const char *host, char *out, size_t cap)
{
    struct sockaddr_in there = {.sin_family = AF_INET, .sin_port = htons(1)};
    struct sockaddr_in here;
    socklen_t bytes = sizeof here;
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    bool known = fd >= 0 && inet_pton(AF_INET, host, &there.sin_addr) == 1 &&
                 connect(fd, (struct sockaddr *)&there, sizeof there) == 0 &&
                 getsockname(fd, (struct sockaddr *)&here, &bytes) == 0 &&
                 inet_ntop(AF_INET, &here.sin_addr, out, (socklen_t)cap) != NULL;
    if (fd >= 0) {
        (void)close(fd);
    }
    return known;
}

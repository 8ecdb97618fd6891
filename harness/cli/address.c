/*
 * address.c - names of machines on the command line, turned into the IPv4 addresses that everything
 * else works with (cli.h). The only place that asks the resolver.
 */
#include <arpa/inet.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "harness/cli/cli.h"

static bool resolve(const char *name, char *out, size_t cap)
{
    struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    if (getaddrinfo(name, NULL, &hints, &found) != 0) {
        return false;
    }
    struct sockaddr_in address;
    memcpy(&address, found->ai_addr, sizeof address);
    freeaddrinfo(found);
    return inet_ntop(AF_INET, &address.sin_addr, out, (socklen_t)cap) != NULL;
}

bool cli_address(const char *text, uint32_t port_otherwise, struct cli_address *out)
{
    char name[256];
    size_t bytes = strcspn(text, ":/");
    unsigned long port = port_otherwise;
    char *end = NULL;
    if (bytes == 0 || bytes >= sizeof name) {
        return false;
    }
    memcpy(name, text, bytes);
    name[bytes] = '\0';
    if (text[bytes] == ':') {
        port = strtoul(text + bytes + 1, &end, 10);
        if (end == text + bytes + 1 || (*end != '\0' && *end != '/')) {
            return false;
        }
    }
    out->port = (uint32_t)port;
    return port > 0 && port < 65536 && resolve(name, out->host, sizeof out->host);
}

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

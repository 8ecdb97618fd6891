/*
 * address.c - names of machines turned into the IPv4 addresses that everything else works with
 * (address.h). The only place that asks the resolver.
 */
#include "harness/run/address.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

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

bool address_parse(const char *text, uint32_t port_otherwise, struct address *out)
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

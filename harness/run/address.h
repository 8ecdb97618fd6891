/*
 * address.h - names of machines as users write them, as addresses.
 */
#ifndef HARNESS_RUN_ADDRESS_H
#define HARNESS_RUN_ADDRESS_H

#include <stdbool.h>
#include <stdint.h>

struct address {
    char host[64]; /* IPv4, whatever name was given */
    uint32_t port;
};

/* "HOST", "HOST:PORT", and what follows a '/' is not looked at; false if it is none, or unknown to
 * the resolver. */
bool address_parse(const char *text, uint32_t port_otherwise, struct address *out);

#endif

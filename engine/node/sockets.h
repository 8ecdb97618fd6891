/*
 * sockets.h - ZeroMQ sockets with vLLM's options (vllm-topology 3.1): unbounded PULL, PUSH, DEALER
 * and ROUTER, default limits on XPUB and XSUB, verbose subscriptions, given linger.
 */
#ifndef ENGINE_NODE_SOCKETS_H
#define ENGINE_NODE_SOCKETS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/status.h"

enum {
    LINGER_HANDSHAKE_MS = 5000,
    LINGER_OUTPUT_MS = 4000,
    LINGER_STATS_MS = 0,
};

/* What a TCP peer that says nothing has until it counts as lost. */
enum {
    HEARTBEAT_INTERVAL_MS = 1000,
    HEARTBEAT_TIMEOUT_MS = 5000,
};

struct socket_options {
    int type; /* ZMQ_ROUTER, ... */
    bool bind;
    int linger_ms;
    const unsigned char *identity; /* 2 bytes, or NULL */
};

/* Is it an address of another machine, maybe? */
bool socket_address_is_tcp(const char *address);
/* For addresses that are bound or connected later; socket_open() does it for TCP. */
void socket_set_heartbeat(void *socket);
MUST_CHECK enum status socket_open(void *context, const struct socket_options *options,
                                   const char *address, void **out, struct error *error);
/* The address the socket is really bound to. */
void socket_endpoint(void *socket, char out[256]);

/* One frame; `more` says whether another follows. IO names errno. Never blocks: these sockets have
 * no limit. */
MUST_CHECK enum status socket_send(void *socket, const void *data, size_t bytes, bool more,
                                   struct error *error);

enum {
    SOCKET_FRAMES_MAX = 4
};

/* A received multipart message; frames past SOCKET_FRAMES_MAX are dropped and counted in
 * frames_count. */
struct socket_message {
    struct socket_frame {
        const void *data;
        size_t bytes;
    } frames[SOCKET_FRAMES_MAX];
    uint32_t frames_count;
    void *parts; /* owned */
};

/* True if a message was there. Free it with socket_message_free() when done. Does not block. */
bool socket_receive(void *socket, struct socket_message *out);
void socket_message_free(struct socket_message *message);
/* The connection it came over, as peers.h names them; -1 if that is not known. */
int socket_message_connection(const struct socket_message *message);

#endif

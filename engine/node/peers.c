/*
 * peers.c - owns the monitor of one ZeroMQ socket. Driven by the thread that owns the socket. Must
 * not judge: whether a lost connection matters is known to the caller only.
 */
#include "engine/node/peers.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <zmq.h>

#include "engine/node/sockets.h"

enum {
    EVENT_BYTES = 6 /* 16 bits of event, 32 of value */
};

enum status peers_watch(void *context, void *socket, struct peers *out, struct error *error)
{
    char address[64];
    (void)snprintf(address, sizeof address, "inproc://peers-%p", socket);
    if (zmq_socket_monitor(socket, address, ZMQ_EVENT_DISCONNECTED) != 0) {
        return error_set(error, STATUS_IO, "zmq_socket_monitor: %s", zmq_strerror(errno));
    }
    struct socket_options options = {.type = ZMQ_PAIR, .linger_ms = LINGER_STATS_MS};
    return socket_open(context, &options, address, &out->events, error);
}

bool peers_lost(struct peers *p, int *connection)
{
    struct socket_message m;
    if (p->events == NULL || !socket_receive(p->events, &m)) {
        return false;
    }
    int32_t value = -1;
    if (m.frames_count > 0 && m.frames[0].bytes == EVENT_BYTES) {
        memcpy(&value, (const char *)m.frames[0].data + sizeof(uint16_t), sizeof value);
    }
    socket_message_free(&m);
    *connection = value;
    return true;
}

void peers_forget(struct peers *p, void *socket)
{
    if (p->events != NULL) {
        (void)zmq_socket_monitor(socket, NULL, 0);
        (void)zmq_close(p->events);
        p->events = NULL;
    }
}

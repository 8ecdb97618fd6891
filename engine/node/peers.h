/*
 * peers.h - notices that a connection of a ZeroMQ socket ended: the other process or its machine is
 * gone (sockets on TCP have a heartbeat), and ZeroMQ itself would try to connect again for ever.
 *
 *     peers_watch(context, socket, &peers, error);   // before it binds or connects does no harm
 *     poll peers.events together with the socket
 *     while (peers_lost(&peers, &connection)) ...     // socket_message_connection() names the same
 */
#ifndef ENGINE_NODE_PEERS_H
#define ENGINE_NODE_PEERS_H

#include <stdbool.h>

#include "engine/base/status.h"

struct peers {
    void *events; /* PAIR, on the thread of the socket; NULL: nothing is watched */
};

MUST_CHECK enum status peers_watch(void *context, void *socket, struct peers *out,
                                   struct error *error);
/* The next connection that ended. Does not block; false: none (more). */
bool peers_lost(struct peers *p, int *connection);
/* Before the socket is closed. */
void peers_forget(struct peers *p, void *socket);

#endif

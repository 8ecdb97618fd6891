/*
 * handshake.h - the launcher's side of the start-up handshake: the ROUTER where engine cores say
 * HELLO and READY and are sent INIT, round engine/core/startup.
 *
 *     handshake_open(&h, &process, error);   // node 0 of several is then joinable
 *     handshake_api_server(&h, i, inputs, outputs, error);  // as they report their sockets
 *     handshake_turn(&h, error);             // often: what came, and what that makes necessary
 *     until startup_serving(h.startup.startup)
 *     handshake_close(&h);
 */
#ifndef ENGINE_NODE_HANDSHAKE_H
#define ENGINE_NODE_HANDSHAKE_H

#include "engine/base/arena.h"
#include "engine/node/peers.h"
#include "engine/node/process.h"
#include "engine/tape/tape_startup.h"
#include "engine/wire/wire.h"

enum {
    HANDSHAKE_ADDRESS_BYTES = 256
};

struct handshake {
    const struct process *process;
    void *socket; /* ROUTER; NULL: this node has none, or it is closed */
    struct peers peers;
    struct wire_decoder *decoder;
    struct arena arena;
    struct tape_startup startup;
    uint32_t port; /* for other nodes; 0: nobody joins */
    /* what INIT tells: the coordinator's addresses, "" without one, and the API servers' */
    char front[HANDSHAKE_ADDRESS_BYTES];
    char counts[HANDSHAKE_ADDRESS_BYTES];
    char back[HANDSHAKE_ADDRESS_BYTES];
    char inputs[TOPOLOGY_API_SERVERS_MAX][HANDSHAKE_ADDRESS_BYTES];
    char outputs[TOPOLOGY_API_SERVERS_MAX][HANDSHAKE_ADDRESS_BYTES];
    uint32_t master_port;                  /* where ranks in lock-step meet */
    int master_fd;                         /* keeps it; -1: none */
    int connections[TOPOLOGY_ENGINES_MAX]; /* of ranks that said HELLO and are not ready; else -1 */
    bool ready[TOPOLOGY_ENGINES_MAX];
    char config_hash[PARALLEL_HASH_BYTES];
};

/* Headless nodes need none: their engine cores speak to node 0. */
MUST_CHECK enum status handshake_open(struct handshake *h, const struct process *process,
                                      struct error *error);
/* Descriptors to wait on, which signal edges: a turn after each wake-up. */
enum {
    HANDSHAKE_FDS = 2
};
void handshake_fds(const struct handshake *h, int fds[HANDSHAKE_FDS]);
/* `index` among this node's API servers. */
MUST_CHECK enum status handshake_api_server(struct handshake *h, uint32_t index, const char *input,
                                            const char *output, struct error *error);
MUST_CHECK enum status handshake_turn(struct handshake *h, struct error *error);
/* "engine cores 2, 3": those that are not ready. */
void handshake_missing(const struct handshake *h, char *text, size_t bytes);
void handshake_close(struct handshake *h);

#endif

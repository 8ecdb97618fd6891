/*
 * engine_io.h - the input and output threads of an engine core's process: the only ones that touch
 * its ZeroMQ sockets.
 *
 * The input thread connects a DEALER to every API server and subscribes to the coordinator,
 * announces itself, decodes what comes and queues it for the main thread. The output thread encodes
 * what the main thread queues and pushes it to one client or to the coordinator. Each has its own
 * ZeroMQ context, as in vLLM.
 *
 *     engine_io_start(&io, error);                    // both threads
 *     engine_io_passed(&io, wait_ns, &passed, error); // until all engine cores are there
 *     queue_take_all(&io.in, ...), queue_push(&io.out, ...)
 */
#ifndef ENGINE_NODE_ENGINE_IO_H
#define ENGINE_NODE_ENGINE_IO_H

#include "engine/node/engine_queue.h"
#include "engine/node/occupancy.h"
#include "engine/node/process.h"
#include "engine/wire/wire.h"

enum {
    ADDRESS_BYTES_MAX = 256
};

struct engine_io {
    struct process *process;
    uint32_t rank;
    /* from INIT */
    uint32_t clients_count;
    char inputs[TOPOLOGY_API_SERVERS_MAX][ADDRESS_BYTES_MAX];
    char outputs[TOPOLOGY_API_SERVERS_MAX][ADDRESS_BYTES_MAX];
    char coordinator_input[ADDRESS_BYTES_MAX]; /* empty: no coordinator */
    char coordinator_output[ADDRESS_BYTES_MAX];
    char stats_address[ADDRESS_BYTES_MAX];
    struct wire_ready ready;         /* sent once to every client */
    struct interpreter *interpreter; /* shared with the main thread; NULL: none */

    struct queue in;
    struct queue out;
    pthread_t input_thread;
    pthread_t output_thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool connected;  /* the output thread's sockets */
    bool subscribed; /* the coordinator said READY, or there is none */
    bool failed;
    struct error error; /* why, if failed; also with ITEM_LOST */
};

/* Fills the addresses of API servers from INIT. INVALID: more clients than this build holds, or an
 * address too long. */
MUST_CHECK enum status engine_io_clients(struct engine_io *io, const struct wire_init *init,
                                         struct error *error);
/* These and the coordinator's. */
MUST_CHECK enum status engine_io_addresses(struct engine_io *io, const struct wire_init *init,
                                           struct error *error);
MUST_CHECK enum status engine_io_start(struct engine_io *io, struct error *error);
/* Whether the threads are connected and the coordinator's barrier is passed; waits for it, at most
 * wait_ns. An error: it never will be. */
MUST_CHECK enum status engine_io_passed(struct engine_io *io, int64_t wait_ns, bool *passed,
                                        struct error *error);
/* Tells every client ENGINE_CORE_DEAD and ends the output thread; waits at most 5 s for it. */
void engine_io_dead(struct engine_io *io);

#endif

/*
 * cluster.h - what one machine of a cluster starts: vLLM's flags for data parallelism over several
 * machines, turned into the nodes of a topology. Pure functions.
 *
 * A machine knows itself and whom it joins, not who else does: nodes[0] is the head and nodes[1]
 * either this machine, or in the head a place holder for all others together.
 */
#ifndef HARNESS_RUN_CLUSTER_H
#define HARNESS_RUN_CLUSTER_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/base/status.h"
#include "engine/ledger/topology.h"

enum {
    CLUSTER_RPC_PORT = 29550, /* vLLM's default */
    CLUSTER_NOT_GIVEN = -1,
};

struct cluster_options {
    int32_t size_local; /* --data-parallel-size-local; CLUSTER_NOT_GIVEN: all engine cores */
    int32_t start_rank; /* --data-parallel-start-rank, or CLUSTER_NOT_GIVEN */
    bool hybrid;   /* --data-parallel-hybrid-lb; a start rank without `headless` means it too */
    bool headless; /* engine cores only, for the API servers of the head */
    char address[TOPOLOGY_HOST_BYTES]; /* of the head */
    uint32_t rpc_port;                 /* of the head's handshake */
};

/*
 * Fills the nodes of `t`, whose engines_count is that of all machines and whose api_servers_count
 * that of this one; afterwards both are those of all machines. *which is the SYSTEM_* to start
 * (system.h). INVALID with a sentence that names the flag.
 */
MUST_CHECK enum status cluster_apply(const struct cluster_options *options, struct topology *t,
                                     uint32_t *which, struct error *error);

#endif

/*
 * host_needs.c - what a topology takes of its host besides processor time: an upper estimate, from
 * what the processes of this program were seen to use. A real GPU's library would need more.
 */
#include "harness/probe/host_check.h"

#include <math.h>

enum {
    /* Threads of a process, those of the socket library included (docs/threads.md). */
    LAUNCHER_THREADS = 3,
    API_THREADS = 4,
    COORDINATOR_THREADS = 3,
    ENGINE_THREADS = 8,
    WORKER_THREADS = 2,
    /* The command, the load client, and what forks between them. */
    HARNESS_PROCESSES = 2,
    HARNESS_THREADS = 4,
    /* Descriptors of a process before its first peer or client. */
    OWN_FILES = 48,
    FILES_PER_PEER = 4,
};

#define API_BYTES        ((uint64_t)24 << 20)
#define PROCESS_BYTES    ((uint64_t)4 << 20)
#define HARNESS_BYTES    ((uint64_t)128 << 20)
#define CONNECTION_BYTES ((uint64_t)128 << 10) /* both ends, with the request on it */

static uint32_t larger(uint32_t a, uint32_t b)
{
    return a > b ? a : b;
}

void host_needs_of(const struct topology *topology, uint32_t connections_count,
                   struct host_needs *out)
{
    uint32_t engines = topology->engines_count;
    uint32_t workers = engines * topology_workers_per_engine(topology);
    uint32_t serving = topology_processes(topology);
    uint32_t api = topology->api_servers_count;
    struct host_needs n = {
        .processes_count = serving + HARNESS_PROCESSES,
        .threads_count = LAUNCHER_THREADS * topology_launchers(topology) + API_THREADS * api +
                         COORDINATOR_THREADS * topology_coordinators(topology) +
                         ENGINE_THREADS * engines + WORKER_THREADS * workers + HARNESS_THREADS,
        .connections_count = connections_count,
        .memory_bytes = HARNESS_BYTES + API_BYTES * api + PROCESS_BYTES * (serving - api) +
                        CONNECTION_BYTES * connections_count,
        .cores = (double)NAN,
    };
    /* One API server may get all connections; the launcher holds a few ends of every process. */
    n.files_count = larger(OWN_FILES + FILES_PER_PEER * engines + connections_count,
                           OWN_FILES + FILES_PER_PEER * serving);
    *out = n;
}

void host_needs_merge(struct host_needs *into, const struct host_needs *other)
{
    into->processes_count = larger(into->processes_count, other->processes_count);
    into->threads_count = larger(into->threads_count, other->threads_count);
    into->files_count = larger(into->files_count, other->files_count);
    into->connections_count = larger(into->connections_count, other->connections_count);
    if (other->memory_bytes > into->memory_bytes) {
        into->memory_bytes = other->memory_bytes;
    }
    if (isnan(into->cores) || other->cores > into->cores) {
        into->cores = other->cores;
    }
}

/*
 * cluster.c - the rules of vLLM's flags: which of them stand together, who is the head, which ranks
 * and API servers are whose (cluster.h). Driven by `harness serve` and `harness node`. Must not
 * read anything but its arguments.
 */
#include "harness/run/cluster.h"

#include <stdio.h>
#include <string.h>

#include "harness/run/system.h"

/* The flags with what is left out filled in. */
struct share {
    uint32_t first; /* rank */
    uint32_t count; /* engine cores here */
    bool hybrid;
};

static enum status read_share(const struct cluster_options *o, const struct topology *t,
                              struct share *out, struct error *error)
{
    uint32_t size = t->engines_count;
    bool started = o->start_rank != CLUSTER_NOT_GIVEN;
    if (o->headless && o->hybrid) {
        return error_set(error, STATUS_INVALID,
                         "a headless node has no API servers to balance: with "
                         "--data-parallel-hybrid-lb every machine runs harness serve");
    }
    if (o->headless && !started) {
        return error_set(error, STATUS_INVALID,
                         "--data-parallel-start-rank is missing: the first rank of this node");
    }
    *out = (struct share){
        .first = started ? (uint32_t)o->start_rank : 0,
        .count = o->size_local != CLUSTER_NOT_GIVEN ? (uint32_t)o->size_local : size,
        .hybrid = o->hybrid || (started && !o->headless),
    };
    if (out->count > size) {
        return error_set(error, STATUS_INVALID,
                         "--data-parallel-size-local: %u is more than --data-parallel-size, %u",
                         out->count, size);
    }
    if (out->first + out->count > size) {
        return error_set(error, STATUS_INVALID,
                         "--data-parallel-start-rank: ranks %u to %u, but --data-parallel-size "
                         "is %u",
                         out->first, out->first + out->count - 1, size);
    }
    if (out->count == 0 && (o->headless || out->hybrid)) {
        return error_set(error, STATUS_INVALID,
                         "--data-parallel-size-local: only the head of internal balancing can be "
                         "without engine cores");
    }
    return STATUS_OK;
}

/* Nodes with API servers of their own number them through: all must be alike. */
static enum status number_api_servers(const struct share *s, struct topology *t, uint32_t *first,
                                      struct error *error)
{
    uint32_t local = t->api_servers_count;
    if (t->engines_count % s->count != 0 || s->first % s->count != 0) {
        return error_set(error, STATUS_INVALID,
                         "--data-parallel-hybrid-lb: all nodes are alike: --data-parallel-size, "
                         "%u, and --data-parallel-start-rank, %u, must be multiples of "
                         "--data-parallel-size-local, %u",
                         t->engines_count, s->first, s->count);
    }
    uint32_t total = t->engines_count / s->count * local;
    if (total > TOPOLOGY_API_SERVERS_MAX) {
        return error_set(error, STATUS_INVALID,
                         "--api-server-count: %u on each of %u nodes are more than %d", local,
                         t->engines_count / s->count, TOPOLOGY_API_SERVERS_MAX);
    }
    *first = s->first / s->count * local;
    t->api_servers_count = total;
    return STATUS_OK;
}

static void fill_head(const struct cluster_options *o, const struct share *s,
                      uint32_t local_servers, struct topology *t)
{
    t->nodes[0] = (struct topology_node){
        .listen_port = t->listen_port,
        .engines_count = s->count,
        .api_servers_count = local_servers,
    };
    t->nodes[1] = (struct topology_node){
        .engines_first = s->count,
        .engines_count = t->engines_count - s->count,
        .api_servers_first = local_servers,
        .api_servers_count = t->api_servers_count - local_servers,
    };
    (void)snprintf(t->nodes[0].host, sizeof t->nodes[0].host, "%s", o->address);
}

static void fill_joining(const struct cluster_options *o, const struct share *s,
                         const struct topology_node *servers, struct topology *t)
{
    t->nodes[0] = (struct topology_node){.engines_count = s->first};
    t->nodes[0].api_servers_count = s->hybrid ? servers->api_servers_first : t->api_servers_count;
    t->nodes[1] = *servers;
    t->nodes[1].engines_first = s->first;
    t->nodes[1].engines_count = s->count;
    (void)snprintf(t->nodes[0].host, sizeof t->nodes[0].host, "%s", o->address);
}

enum status cluster_apply(const struct cluster_options *options, struct topology *t,
                          uint32_t *which, struct error *error)
{
    struct share s = {0};
    TRY(read_share(options, t, &s, error));
    *which = SYSTEM_ALL_NODES;
    if (!options->headless && s.count == t->engines_count) {
        return STATUS_OK; /* one machine, as vLLM's hybrid flag is then without effect too */
    }
    if (t->nodes_count > 0) {
        return error_set(error, STATUS_INVALID,
                         "the scenario has nodes of its own, all on this machine");
    }
    uint32_t local_servers = t->api_servers_count;
    struct topology_node servers = {0};
    if (s.hybrid) {
        TRY(number_api_servers(&s, t, &servers.api_servers_first, error));
        servers.api_servers_count = local_servers;
        servers.listen_port = t->listen_port;
    }
    t->nodes_count = 2;
    t->balancing = s.hybrid ? BALANCING_HYBRID : BALANCING_INTERNAL;
    t->handshake_port = options->rpc_port;
    if (!options->headless && s.first == 0) {
        *which = SYSTEM_ONLY_HEAD;
        fill_head(options, &s, local_servers, t);
    } else {
        *which = SYSTEM_ONLY_JOINING;
        fill_joining(options, &s, &servers, t);
    }
    return STATUS_OK;
}

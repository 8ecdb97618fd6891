/*
 * topology.c - the arithmetic of a topology: how many processes and threads a configuration stands
 * for. Pure functions; the launcher, the harness and the tests of both take their expectations from
 * here.
 */
#include "engine/ledger/topology.h"

#include <stdio.h>
#include <string.h>

#include "engine/base/status.h"

static uint32_t workers_configured(const struct topology *t)
{
    return t->tp * t->pp;
}

uint32_t topology_data_parallel_size(const struct topology *t)
{
    bool independent = t->balancing == (uint32_t)BALANCING_INDEPENDENT && t->nodes_count > 1;
    return independent ? t->engines_count / t->nodes_count : t->engines_count;
}

bool topology_spans_nodes(const struct topology *t)
{
    return t->nodes_count > 1 && t->balancing != (uint32_t)BALANCING_INDEPENDENT;
}

struct topology_node topology_node(const struct topology *t, uint32_t index)
{
    if (t->nodes_count > 0) {
        return t->nodes[index];
    }
    return (struct topology_node){.listen_port = t->listen_port,
                                  .engines_count = t->engines_count,
                                  .api_servers_count = t->api_servers_count};
}

uint32_t topology_coordinators(const struct topology *t)
{
    uint32_t size = topology_data_parallel_size(t);
    return size > 1 ? t->engines_count / size : 0;
}

uint32_t topology_launchers(const struct topology *t)
{
    return t->nodes_count > 1 ? t->nodes_count : 1;
}

uint32_t topology_workers_per_engine(const struct topology *t)
{
    uint32_t workers = workers_configured(t);
    bool one = t->executor == (uint32_t)EXECUTOR_UNIPROC ||
               (t->executor == (uint32_t)EXECUTOR_AUTO && topology_data_parallel_size(t) == 1);
    /* An engine core's own main thread can stand for one worker only. */
    return one && workers == 1 ? 0 : workers;
}

uint32_t topology_engines_per_gpu(const struct topology *t)
{
    bool shared = t->gpu_sharing != (uint32_t)GPU_OWN && t->engines_per_gpu > 1;
    return shared ? t->engines_per_gpu : 1;
}

uint32_t topology_gpus(const struct topology *t)
{
    uint32_t engines = topology_engines_per_gpu(t);
    return (t->engines_count + engines - 1) / engines * workers_configured(t);
}

uint32_t topology_gpu_of(const struct topology *t, uint32_t rank, uint32_t worker)
{
    return rank / topology_engines_per_gpu(t) * workers_configured(t) + worker;
}

bool topology_lockstep(const struct topology *t)
{
    return t->lockstep != 0 && topology_data_parallel_size(t) > 1;
}

uint32_t topology_processes(const struct topology *t)
{
    return topology_launchers(t) + t->api_servers_count + topology_coordinators(t) +
           t->engines_count * (1 + topology_workers_per_engine(t));
}

uint32_t topology_launching_threads(const struct topology *t)
{
    return t->engines_count * workers_configured(t);
}

void topology_cpus_add(struct topology_cpus *cpus, uint32_t cpu)
{
    ASSERT(cpu < TOPOLOGY_CPUS_MAX);
    cpus->bits[cpu / 64] |= UINT64_C(1) << (cpu % 64);
}

bool topology_cpus_has(const struct topology_cpus *cpus, uint32_t cpu)
{
    return cpu < TOPOLOGY_CPUS_MAX && (cpus->bits[cpu / 64] >> (cpu % 64) & 1) != 0;
}

uint32_t topology_cpus_count(const struct topology_cpus *cpus)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < TOPOLOGY_CPUS_MAX / 64; i++) {
        count += (uint32_t)__builtin_popcountll(cpus->bits[i]);
    }
    return count;
}

void topology_cpus_text(const struct topology_cpus *cpus, char *out, uint32_t cap)
{
    out[0] = '\0';
    for (uint32_t first = 0; first < TOPOLOGY_CPUS_MAX; first++) {
        uint32_t last = first;
        size_t used = strlen(out);
        if (!topology_cpus_has(cpus, first)) {
            continue;
        }
        while (topology_cpus_has(cpus, last + 1)) {
            last++;
        }
        int bytes = snprintf(out + used, cap - used, "%s%u", used > 0 ? "," : "", first);
        if (last > first && bytes > 0 && (size_t)bytes < cap - used) {
            used += (size_t)bytes;
            (void)snprintf(out + used, cap - used, "-%u", last);
        }
        first = last;
    }
}

const char *topology_pin_name(enum topology_pin pin)
{
    static const char *const names[PINS_COUNT] = {"system", "api", "engine", "worker",
                                                  "coordinator"};
    return names[pin];
}

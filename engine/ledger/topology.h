/*
 * topology.h - the complete configuration of one serving system, as plain data.
 *
 * The harness fills it from a scenario, puts it at the head of the ledger's shared memory and
 * starts the launcher; every process of the system reads it there. Fixed-size fields only: the
 * struct crosses process borders as it is.
 */
#ifndef ENGINE_LEDGER_TOPOLOGY_H
#define ENGINE_LEDGER_TOPOLOGY_H

#include <stdbool.h>
#include <stdint.h>

enum {
    TOPOLOGY_API_SERVERS_MAX = 64,
    TOPOLOGY_ENGINES_MAX = 64,
    TOPOLOGY_WORKERS_PER_ENGINE_MAX = 16,
    TOPOLOGY_NODES_MAX = 16,
    TOPOLOGY_HOST_BYTES = 64,
    TOPOLOGY_CPUS_MAX = 1024, /* as glibc's cpu_set_t */
    TOPOLOGY_PATH_BYTES = 512,
};

/* CPUs by their numbers. None: not pinned, as whoever starts the process. */
struct topology_cpus {
    uint64_t bits[TOPOLOGY_CPUS_MAX / 64];
};

/* Which processes a set of CPUs is for. Children inherit: workers have their engine core's set and
 * all others the launcher's unless they have their own. */
enum topology_pin {
    PIN_SYSTEM, /* the launcher */
    PIN_API_SERVER,
    PIN_ENGINE_CORE,
    PIN_WORKER,
    PIN_COORDINATOR,
    PINS_COUNT
};

enum accept_policy {
    ACCEPT_SHARED,
    ACCEPT_REUSEPORT
};
enum wait_mode {
    WAIT_BLOCK,
    WAIT_SPIN
};
enum executor_kind {
    EXECUTOR_AUTO,
    EXECUTOR_UNIPROC,
    EXECUTOR_MULTIPROC
};
enum launch_mode {
    LAUNCH_GRAPH,
    LAUNCH_EAGER
};

enum gpu_sharing {
    GPU_OWN,          /* each engine core has GPUs of its own */
    GPU_TIME_SLICED,  /* engines_per_gpu of them share one, one at a time */
    GPU_SIDE_BY_SIDE, /* they share one and run together */
};

/* How requests find an engine core when several nodes serve (vllm-topology 2.1, 2.7). */
enum balancing {
    BALANCING_INTERNAL, /* the API servers of node 0 route to the engine cores of all nodes */
    BALANCING_HYBRID,   /* each node's API servers route to its own; one coordinator, at node 0 */
    BALANCING_INDEPENDENT, /* nothing is shared: every node is a system of its own (a replica) */
};

/* What one launcher starts. Ranks and API servers are numbered through all nodes. */
struct topology_node {
    /* IPv4 address where other nodes reach it; "": listen_host. HTTP is at listen_host, or here if
     * that is "". */
    char host[TOPOLOGY_HOST_BYTES];
    uint32_t listen_port; /* of its API servers; 0: any free one */
    uint32_t engines_first;
    uint32_t engines_count; /* 0: API servers only */
    uint32_t api_servers_first;
    uint32_t api_servers_count; /* 0: headless */
};

/* Host profile costs in ns (engine/model/host_profile.h says what each is). */
struct topology_host {
    char name[32];
    int64_t api_request_ns;
    int64_t api_message_ns;
    int64_t api_output_token_ns;
    int64_t api_prompt_token_ns;
    int64_t engine_step_ns;
    int64_t engine_seq_ns;
    int64_t coordinator_message_ns;
    /* No profile sets these: nothing is published about them. */
    int64_t engine_input_request_ns;
    int64_t engine_output_message_ns;
    int64_t engine_output_token_ns;
};

struct topology {
    uint32_t api_servers_count;            /* A */
    uint32_t engines_count;                /* D, data-parallel ranks, each an engine core */
    uint32_t tp;                           /* T */
    uint32_t pp;                           /* P; workers an engine core = T * P */
    uint32_t accept;                       /* enum accept_policy */
    uint32_t wait;                         /* enum wait_mode, of engine cores and workers */
    uint32_t executor;                     /* enum executor_kind */
    uint32_t async_depth;                  /* 1 or 2 */
    char listen_host[TOPOLOGY_HOST_BYTES]; /* "127.0.0.1" */
    uint32_t listen_port;                  /* 0: any free one */

    /*
     * 0: one launcher starts everything. Else launcher K starts nodes[K]. Launchers of one machine
     * share this ledger; one that joins from elsewhere has a ledger of its own, with itself as
     * nodes[1] and node 0 as whoever serves, and sees its own threads only.
     */
    uint32_t nodes_count;
    struct topology_node nodes[TOPOLOGY_NODES_MAX];
    uint32_t balancing;      /* enum balancing */
    uint32_t handshake_port; /* of node 0, where engine cores of other nodes say HELLO; 0: any */

    char model[64];
    char gpu[32];
    uint32_t gpu_sharing;          /* enum gpu_sharing */
    uint32_t engines_per_gpu;      /* engine cores on one GPU; 0 and 1 with GPU_OWN */
    uint32_t lockstep;             /* bool: engine cores step together, in waves; only with D > 1 */
    uint32_t finish_check_steps;   /* how often they look whether a wave is over; 0: 32 */
    uint32_t finish_check_first;   /* bool: also at the first step of a wave */
    uint32_t dummy_eager;          /* bool: steps without tokens use no graph, so nobody's does */
    int64_t collective_timeout_ns; /* what a rank waits for the others; 0: 10 s */
    uint32_t launch;               /* enum launch_mode */
    int64_t launch_extra_ns;       /* added CPU cost of each launch (experiments) */
    uint32_t queue_depth;          /* launches a device queue holds, 1024 */
    uint32_t max_num_seqs;
    uint32_t max_num_batched_tokens;
    uint32_t max_model_len;
    uint32_t block_tokens;
    uint32_t num_gpu_blocks;  /* 0: what fits in 90 % of the GPU's memory beside the weights */
    uint32_t prefix_caching;  /* bool */
    uint32_t chunked_prefill; /* bool */
    uint32_t priority_policy; /* bool: priority instead of fcfs */
    uint32_t long_prefill_token_threshold;
    uint64_t seed;

    struct topology_host host;
    struct topology_host added; /* to the profile's costs, by an elasticity probe; without a name */
    uint32_t gpu_slower_ppm;    /* parts in a million by which an emulated step takes longer */
    uint32_t router_rule;       /* enum router_rule of engine/core/router.h */
    uint32_t publish_off;       /* bool: engine cores tell the coordinator no counts */
    int64_t engine_step_ns;     /* instead of the host profile's; 0: the profile's */
    uint32_t interpreter_lock;  /* bool: an engine core's threads take turns in host time */
    int64_t publish_interval_ns;   /* 100 ms */
    int64_t heartbeat_interval_ns; /* 5 s */
    int64_t shutdown_grace_ns;     /* 5 s: one deadline for everything */

    struct topology_cpus pins[PINS_COUNT]; /* by enum topology_pin */

    char socket_dir[96]; /* private directory of the ipc sockets, mode 0700, made and removed by the
                            harness */

    uint32_t record; /* bool: the calls of all processes are to be recorded; whoever runs it says */
    char record_dir[TOPOLOGY_PATH_BYTES]; /* where; "": nothing is recorded */
    char revision[48];                    /* of the program, for the recordings */
};

void topology_cpus_add(struct topology_cpus *cpus, uint32_t cpu);
bool topology_cpus_has(const struct topology_cpus *cpus, uint32_t cpu);
uint32_t topology_cpus_count(const struct topology_cpus *cpus);
/* As the kernel writes it: "0-3,8"; "" for none. */
void topology_cpus_text(const struct topology_cpus *cpus, char *out, uint32_t cap);
/* "system", "api", "engine", "worker", "coordinator". */
const char *topology_pin_name(enum topology_pin pin);

/* Engine cores that make up one data-parallel group: all, or those of a node if independent. */
uint32_t topology_data_parallel_size(const struct topology *t);
/* Launchers: one a node. */
uint32_t topology_launchers(const struct topology *t);
/* One for each group of several engine cores. */
uint32_t topology_coordinators(const struct topology *t);
/* Do several launchers start one data-parallel group between them, so that it speaks TCP? */
bool topology_spans_nodes(const struct topology *t);
/* What launcher `index` starts: nodes[index], or all of it if nodes_count is 0. */
struct topology_node topology_node(const struct topology *t, uint32_t index);
/* Workers of one engine core, 0 if it runs its worker on its own main thread. */
uint32_t topology_workers_per_engine(const struct topology *t);
/* Engine cores that share a GPU, 1 with GPU_OWN. */
uint32_t topology_engines_per_gpu(const struct topology *t);
/* Engine cores x T x P, divided by how many share one and rounded up. */
uint32_t topology_gpus(const struct topology *t);
/* The GPU, 0 .. topology_gpus - 1, of an engine core's worker: ranks 0 .. E-1 share the first T x P
 * GPUs, and so on. */
uint32_t topology_gpu_of(const struct topology *t, uint32_t rank, uint32_t worker);
/* Do the engine cores run in waves? A single one has nobody to wait for. */
bool topology_lockstep(const struct topology *t);
/* Launchers + A + D + workers + coordinators. */
uint32_t topology_processes(const struct topology *t);
/* Threads that launch kernels: D*W, 1 when D = W = 1. Sharing a GPU does not change them. */
uint32_t topology_launching_threads(const struct topology *t);

#endif

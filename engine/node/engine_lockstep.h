/*
 * engine_lockstep.h - an engine core's part in the collectives of lock-step: what all ranks agree
 * on before a forward, and the check whether a wave is over. The wave itself is engine/core's.
 *
 *     lockstep_open(&options, &l, error);                 // main thread, which must live on
 *     lockstep_agree(&l, wave, &forward, &agreed, error); // before each forward, dummies included
 *     lockstep_ballot(&l, wave, &ballot, error);          // on WAVE_NEED_ALLREDUCE
 */
#ifndef ENGINE_NODE_ENGINE_LOCKSTEP_H
#define ENGINE_NODE_ENGINE_LOCKSTEP_H

#include "engine/collective/collective.h"
#include "engine/core/engine_core.h"
#include "engine/device/device.h"
#include "engine/node/occupancy.h"

struct engine_lockstep {
    bool on; /* false: independent ranks, nothing else here is used */
    int64_t timeout_ns;
    struct collective step;
    struct collective finish;
    struct ledger_thread *thread;
    struct occupancy *occupancy;
};

/* `thread` and `occupancy`: of the calling main thread. */
struct lockstep_options {
    const struct topology *topology;
    uint32_t rank; /* of all engine cores */
    struct ledger_thread *thread;
    struct occupancy *occupancy;
    /* Used if the ranks span nodes: of INIT, */
    const char *master_host;
    uint32_t master_port;
    const char *(*hopeless)(void *ctx); /* and why rank 0 will not come there any more, or NULL */
    void *ctx;
};

/* The settings of waves; all zero for independent ranks. */
struct wave_options lockstep_wave_options(const struct topology *t);
/* Do ranks that step together run on several nodes? They then meet at INIT's master address, which
 * rank 0 listens at (the launcher keeps it by collective_reserve_port), else in the shared memory
 * that the launcher passes on. */
bool lockstep_spans_nodes(const struct topology *t);
/* Over nodes it waits for all ranks. */
MUST_CHECK enum status lockstep_open(const struct lockstep_options *options,
                                     struct engine_lockstep *out, struct error *error);
MUST_CHECK enum status lockstep_agree(struct engine_lockstep *l, const struct wave *wave,
                                      const struct wave_forward *forward,
                                      struct device_lockstep *agreed, struct error *error);
/* Replaces the ballot by the sum of all ranks'. */
MUST_CHECK enum status lockstep_ballot(struct engine_lockstep *l, const struct wave *wave,
                                       struct wave_ballot *ballot, struct error *error);
/* Of a resume: has any rank something unfinished? */
MUST_CHECK enum status lockstep_resume(struct engine_lockstep *l, bool *unfinished,
                                       struct error *error);

#endif

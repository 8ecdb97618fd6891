/*
 * random_driver_model.h - what random_driver.c drives an engine core with and holds it against:
 * requests with the outputs they must give, and a worker that knows what every KV block contains.
 * Private to random_driver*.c.
 */
#ifndef SIM_RANDOM_DRIVER_MODEL_H
#define SIM_RANDOM_DRIVER_MODEL_H

#include "engine/base/random.h"
#include "engine/core/engine_core.h"
#include "sim/random_driver.h"

enum {
    DRIVER_MODEL_LEN_MAX = 96,
    DRIVER_REQUESTS_MAX = 40,
    DRIVER_BLOCKS_MAX = 256,
    DRIVER_BLOCK_TOKENS_MAX = 16,
    DRIVER_SEQS_MAX = 8,
    DRIVER_CLIENTS_MAX = 3,
    DRIVER_STAGES_MAX = 4,
    DRIVER_BATCHES_MAX = DRIVER_STAGES_MAX + 1,
    DRIVER_VOCABULARY = 40, /* small, so that stop rules hit often */
    DRIVER_TRACE_LINES = 128,
    DRIVER_TRACE_LINE_BYTES = 112,
};

struct driver_request {
    struct engine_request request;
    char id[32];
    uint32_t prompt[DRIVER_MODEL_LEN_MAX];
    uint64_t sample_key;
    /* What must come out, by the rules applied here. */
    uint32_t expected[DRIVER_MODEL_LEN_MAX];
    uint32_t expected_count;
    enum finish_reason expected_finish;
    int32_t expected_stop;
    uint64_t content[DRIVER_MODEL_LEN_MAX + 1]; /* of the KV entry at each position */
    /* What happened so far. */
    time_ps added_at;
    uint32_t delivered;
    bool added;
    bool ended; /* finished or aborted */
    bool aborted;
    bool reported; /* its id came back */
};

/* A worker's view of one slot. */
struct driver_slot {
    struct driver_request *owner; /* NULL: none */
    uint32_t computed;
    uint32_t blocks[DRIVER_MODEL_LEN_MAX];
    uint32_t blocks_count;
};

struct driver_step {
    const struct step_plan *plan;
    uint64_t plan_hash; /* of its sequences: a plan must not change while it is in flight */
    struct driver_request *owners[DRIVER_SEQS_MAX];
    uint32_t tokens[DRIVER_SEQS_MAX];
    uint32_t tokens_count;
};

struct driver {
    uint64_t seed;
    struct random config;
    struct random events;
    struct arena arena;
    struct engine_core_options options;
    struct engine_core *engine;
    time_ps now;
    struct driver_request requests[DRIVER_REQUESTS_MAX];
    uint32_t requests_count;
    uint32_t next_request;
    uint32_t unfinished_count;  /* as of the last check */
    uint32_t empty_steps_count; /* in a row */
    struct driver_slot slots[DRIVER_REQUESTS_MAX];
    uint64_t content[DRIVER_BLOCKS_MAX][DRIVER_BLOCK_TOKENS_MAX];
    struct driver_step in_flight[DRIVER_BATCHES_MAX];
    uint32_t in_flight_count;
    uint64_t next_step;
    struct engine_core_messages messages; /* of the last completed step, still borrowed */
    uint64_t messages_hash;
    bool last_stats_idle;
    struct random_driver_report *report;
    char lines[DRIVER_TRACE_LINES][DRIVER_TRACE_LINE_BYTES];
    uint64_t lines_count;
    char failure[240]; /* empty: none */
};

/* One line of the trace. */
void driver_trace(struct driver *d, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* Keeps the first failure; returns false. */
bool driver_fail(struct driver *d, const char *fmt, ...) PRINTF_LIKE(2, 3);

#define DRIVER_REQUIRE(d, cond, ...)              \
    do {                                          \
        if (!(cond)) {                            \
            return driver_fail((d), __VA_ARGS__); \
        }                                         \
    } while (0)

/* The token that the model device samples. */
uint32_t driver_token(uint64_t sample_key, uint32_t position);
/* Draws the engine's options and all requests. */
void driver_draw_options(struct driver *d);
void driver_draw_requests(struct driver *d);
/* Enters `count` values into the report's digest. */
void driver_digest(struct driver *d, uint64_t value);
/* The worker executes a plan: checks it, computes its KV entries and samples into the last step in
 * flight. */
bool driver_execute(struct driver *d, const struct step_plan *plan);
/* Of everything that messages point to. */
uint64_t driver_messages_hash(const struct engine_core_messages *messages);
/* The messages of a completed step against what must come. */
bool driver_receive(struct driver *d, const struct engine_core_messages *messages);

#endif

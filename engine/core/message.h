/*
 * message.h - everything the parts of a serving system say to each other, as plain structs.
 *
 * The state machines of this room take and give these structs; only engine/wire turns them into
 * MessagePack, and the simulator passes them as they are. Pointers are borrowed: they are valid
 * until the call returns, or until the next call on the object that gave them, unless a comment
 * says otherwise. Ids are NUL-terminated.
 */
#ifndef ENGINE_CORE_MESSAGE_H
#define ENGINE_CORE_MESSAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/base/time.h"

enum {
    REQUEST_ID_BYTES_MAX =
        128, /* the terminating NUL included; longer ids are refused where they enter */
    STOP_TOKENS_MAX = 16,
    COORDINATOR_CLIENT = -1, /* client_index of messages for the coordinator */
    TOKEN_NONE = -1,
    RANK_NONE = -1,
};

enum finish_reason {
    FINISH_STOP = 0,
    FINISH_LENGTH = 1,
    FINISH_ABORT = 2,
    FINISH_ERROR = 3,
    FINISH_REPETITION = 4,
    FINISH_NONE = 255, /* not finished; nil on the wire */
};

/* What an engine core needs to know of SamplingParams. Stop strings stay in the front end. */
struct sampling_params {
    uint32_t max_tokens;
    uint32_t min_tokens;
    bool has_seed;
    int64_t seed;
    int32_t eos_token_id; /* TOKEN_NONE: ignore_eos */
    uint32_t stop_token_ids_count;
    uint32_t stop_token_ids[STOP_TOKENS_MAX];
    uint8_t output_kind; /* CUMULATIVE 0, DELTA 1 (streamed), FINAL_ONLY 2 */
    uint32_t n;
    float temperature;
    float top_p;
    int32_t top_k;
    float min_p;
    float presence_penalty;
    float frequency_penalty;
    float repetition_penalty;
};

/* EngineCoreRequest: the body of ADD. */
struct engine_request {
    const char *id;
    const uint32_t
        *prompt_token_ids; /* NULL in simulations: then prompt_hash alone stands for the prompt */
    uint32_t prompt_tokens_count;
    uint64_t prompt_hash; /* hash64() of the token ids (seed 0); not on the wire, filled where a
                             request is decoded */
    struct sampling_params sampling;
    int64_t arrival_wall_ns;
    const char *cache_salt;     /* NULL: none */
    int32_t data_parallel_rank; /* as asked by the user, RANK_NONE if not */
    uint32_t client_index;
    uint32_t current_wave;
    int32_t priority;        /* lower runs earlier */
    const char *external_id; /* NULL: none */
    bool abort_immediately;
    uint64_t tag; /* of the front end: struct engine_output gives it back; not on the wire, 0 there
                     and where nobody set it */
};

struct prefill_stats {
    uint32_t prompt_tokens;
    uint32_t computed_tokens;
    uint32_t cached_tokens; /* hits of the local prefix cache */
};

/* EngineCoreOutput: what one step gave one request. */
struct engine_output {
    const char *id;
    const uint32_t *new_token_ids;
    uint64_t tag; /* the request's */
    uint32_t new_tokens_count;
    enum finish_reason finish;
    int32_t stop_token_id; /* stop_reason: the stop_token_ids member that was hit, TOKEN_NONE
                              otherwise */
    bool first;            /* first output of the request: the fields below are set */
    time_ps queued_at;
    time_ps scheduled_at;
    uint32_t preemptions_count;
    struct prefill_stats prefill;
};

struct prefix_cache_stats {
    uint64_t requests_count;
    uint64_t queries_tokens;
    uint64_t hits_tokens;
};

/* SchedulerStats. */
struct scheduler_stats {
    uint32_t running_count;
    uint32_t waiting_count;
    uint32_t skipped_waiting_count;
    uint32_t step_counter;
    uint32_t current_wave;
    double kv_cache_usage;                  /* 0..1 */
    struct prefix_cache_stats prefix_cache; /* since the stats before these */
    uint32_t preemptions_count;             /* total; not on the wire */
};

enum utility_value_kind {
    UTILITY_NIL,
    UTILITY_BOOL,
    UTILITY_STRINGS
};

enum utility_argument_kind {
    UTILITY_ARGUMENT_NIL, /* also of any other kind: no call served here takes one */
    UTILITY_ARGUMENT_BOOL,
    UTILITY_ARGUMENT_INT,
    UTILITY_ARGUMENT_STRING,
};

struct utility_argument {
    enum utility_argument_kind kind;
    bool boolean;
    int64_t integer;
    const char *string;
};

enum {
    UTILITY_ARGUMENTS_MAX = 4 /* further ones are dropped when a call is read */
};

/* UTILITY, front end -> engine. */
struct utility_call {
    uint32_t client_index;
    uint64_t call_id;
    const char *method;
    uint32_t arguments_count;
    struct utility_argument arguments[UTILITY_ARGUMENTS_MAX];
};

/* UtilityOutput, engine -> front end. */
struct utility_reply {
    uint64_t call_id;
    const char *failure; /* NULL: success, and the value below is the result */
    enum utility_value_kind kind;
    bool boolean;
    const char *const *strings;
    uint32_t strings_count;
};

/*
 * EngineCoreOutputs: one message from an engine core to one client or to the coordinator. One
 * purpose a message: outputs (with stats and finished ids), or a utility reply, or a wave notice;
 * never empty.
 */
struct engine_outputs {
    uint32_t engine_index;
    const struct engine_output *outputs;
    uint32_t outputs_count;
    const struct scheduler_stats *stats; /* NULL: none */
    time_ps timestamp;
    const struct utility_reply *utility; /* NULL: none */
    const char *const *finished_ids;     /* every finished and aborted request of this client */
    uint32_t finished_ids_count;
    int64_t wave_complete; /* -1: none */
    int64_t start_wave;    /* -1: none */
};

/* One engine core's load as the coordinator publishes it. */
struct engine_counts {
    uint32_t waiting;
    uint32_t running;
    double kv_usage;
};

/* Coordinator -> front ends. */
struct coordinator_state {
    const struct engine_counts *counts; /* NULL: a wave change only */
    uint32_t counts_count;
    uint32_t wave;
    bool running;
};

/* Front end -> coordinator: a request went to an engine while the front end believed all engines
 * idle. */
struct first_request {
    uint32_t engine;
    uint32_t wave;
};

/* Coordinator -> engine cores. */
struct start_wave {
    uint32_t wave;
    int32_t exclude; /* engine that need not be told, -1: none */
};

#endif

/*
 * wire.h - the messages of engine/core/message.h as MessagePack bodies, byte for byte vLLM's (law
 * 5). The only place that knows field order. What was seen of vLLM's versions: arrays are written
 * truncated after the last non-default element and read with 9..N (requests) or 2..N (outputs)
 * elements; maps in any key order; any integer width; float32 and float64.
 *
 * Encoding appends one body to a growing buffer. Decoding gives structs whose pointers live in the
 * decoder's arena and in the input bytes: both must outlive the use. A malformed body is
 * STATUS_PROTOCOL with the field's name, never a crash; a well-formed one that asks for what
 * nothing here can do (embeddings, LoRA ...) is STATUS_UNSUPPORTED. Ids of REQUEST_ID_BYTES_MAX
 * bytes or more and strings with a NUL inside are malformed.
 *
 *     struct wire_buffer b = {0};
 *     wire_encode_request(&b, &request);
 *     ... send b.data, b.bytes ...
 *     wire_buffer_reset(&b);
 *
 *     struct wire_decoder *d;
 *     wire_decoder_create(&d, &error);
 *     wire_decode_request(d, bytes, n, &request, &error);
 *     ... use request; the next decode call reuses its memory ...
 */
#ifndef ENGINE_WIRE_WIRE_H
#define ENGINE_WIRE_WIRE_H

#include <stddef.h>

#include "engine/base/status.h"
#include "engine/core/message.h"

/* First frame of a message between front end and engine core. */
enum wire_request_type {
    WIRE_ADD = 0,
    WIRE_ABORT = 1,
    WIRE_START_DP_WAVE = 2,
    WIRE_UTILITY = 3,
};

/* Raw single-frame messages without MessagePack. */
#define WIRE_ENGINE_CORE_DEAD  "ENGINE_CORE_DEAD"
#define WIRE_COORDINATOR_READY "READY"

struct wire_buffer {
    char *data; /* owned; grows with realloc, never shrinks */
    size_t bytes;
    size_t cap_bytes;
};
void wire_buffer_reset(struct wire_buffer *b);
void wire_buffer_free(struct wire_buffer *b);

struct wire_decoder; /* opaque: scratch memory reused by each decode call, grows to the largest
                        message seen */
MUST_CHECK enum status wire_decoder_create(struct wire_decoder **out, struct error *error);
void wire_decoder_free(struct wire_decoder *d);

/* Engine identity of ZeroMQ sockets: the rank as 2 bytes little-endian. */
void wire_identity(uint32_t rank, unsigned char identity[2]);
MUST_CHECK enum status wire_identity_rank(const void *data, size_t bytes, uint32_t *rank,
                                          struct error *error);

/* --- handshake (engine core <-> launcher) --- */
enum wire_hello_status {
    WIRE_HELLO,
    WIRE_READY
};
struct wire_hello {
    enum wire_hello_status status;
    bool local;
    bool headless;
    const char *parallel_config_hash; /* NULL: not sent */
};
void wire_encode_hello(struct wire_buffer *b, const struct wire_hello *hello);
MUST_CHECK enum status wire_decode_hello(struct wire_decoder *d, const void *data, size_t bytes,
                                         struct wire_hello *out, struct error *error);

enum {
    WIRE_CLIENTS_MAX = 256
};
struct wire_init {
    uint32_t clients_count;
    const char *inputs[WIRE_CLIENTS_MAX];  /* client ROUTERs: engine DEALERs connect */
    const char *outputs[WIRE_CLIENTS_MAX]; /* client PULLs: engine PUSHes connect */
    const char *coordinator_input; /* coordinator's XPUB: engine subscribes. NULL: no coordinator */
    const char *coordinator_output;     /* coordinator's PULL: engine pushes */
    const char *frontend_stats_address; /* coordinator's front XPUB, or NULL */
    bool has_parallel_config;           /* lock-step only; {} otherwise */
    const char *master_ip;
    uint32_t master_port;
    uint32_t master_ports_count;
    uint32_t master_ports[16];
    uint32_t data_parallel_size;
};
void wire_encode_init(struct wire_buffer *b, const struct wire_init *init);
MUST_CHECK enum status wire_decode_init(struct wire_decoder *d, const void *data, size_t bytes,
                                        struct wire_init *out, struct error *error);

/* --- ready frame (engine core -> front end), rows 1-24 of EngineCoreReadyResponse --- */
struct wire_ready {
    uint64_t max_model_len;
    uint64_t num_gpu_blocks;
    uint64_t block_size;
    const char *dp_stats_address; /* NULL or the INIT's frontend_stats_address */
    const char *dtype;
    const char *version;
    uint32_t world_size;
    uint32_t data_parallel_size;
    uint32_t tensor_parallel_size;
    uint32_t pipeline_parallel_size;
    uint32_t data_parallel_rank;
    uint32_t max_num_seqs;
    uint32_t max_num_batched_tokens;
    const char *instance_id;
    uint64_t kv_cache_size_tokens; /* 0: nil */
};
void wire_encode_ready(struct wire_buffer *b, const struct wire_ready *ready);
MUST_CHECK enum status wire_decode_ready(struct wire_decoder *d, const void *data, size_t bytes,
                                         struct wire_ready *out, struct error *error);

/* --- front end -> engine core --- */
void wire_encode_request(struct wire_buffer *b, const struct engine_request *request);
/* Also fills prompt_hash. */
MUST_CHECK enum status wire_decode_request(struct wire_decoder *d, const void *data, size_t bytes,
                                           struct engine_request *out, struct error *error);
/* The id in a body that wire_decode_request() refused, if at least that can be read. */
MUST_CHECK enum status wire_decode_request_id(struct wire_decoder *d, const void *data,
                                              size_t bytes, const char **id, struct error *error);
void wire_encode_abort(struct wire_buffer *b, const char *const *ids, uint32_t count);
MUST_CHECK enum status wire_decode_abort(struct wire_decoder *d, const void *data, size_t bytes,
                                         const char *const **ids, uint32_t *count,
                                         struct error *error);
void wire_encode_utility(struct wire_buffer *b, const struct utility_call *call);
MUST_CHECK enum status wire_decode_utility(struct wire_decoder *d, const void *data, size_t bytes,
                                           struct utility_call *out, struct error *error);

/* --- engine core -> front end, engine core -> coordinator --- */
/* Towards front ends: scheduler_stats with all 16 keys (the Rust front end insists). */
void wire_encode_outputs(struct wire_buffer *b, const struct engine_outputs *outputs);
/*
 * Towards the coordinator: the same message, which must have neither outputs nor finished ids nor a
 * utility reply, with only the 3 keys of scheduler_stats that it needs, and those of skipped
 * requests, step counter and wave that are not 0.
 */
void wire_encode_counts(struct wire_buffer *b, const struct engine_outputs *outputs);
/*
 * Of events, only QUEUED, SCHEDULED and the number of PREEMPTED are carried, and only by a
 * request's first output, which is known by its QUEUED event or its prefill_stats. An output
 * without a timestamp leaves the time 0.
 */
MUST_CHECK enum status wire_decode_outputs(struct wire_decoder *d, const void *data, size_t bytes,
                                           struct engine_outputs *out, struct error *error);

/* --- coordinator --- */
void wire_encode_coordinator_state(struct wire_buffer *b, const struct coordinator_state *state);
MUST_CHECK enum status wire_decode_coordinator_state(struct wire_decoder *d, const void *data,
                                                     size_t bytes, struct coordinator_state *out,
                                                     struct error *error);
void wire_encode_first_request(struct wire_buffer *b, const struct first_request *first);
/* Accepts the engine as an int or as 2 identity bytes. */
MUST_CHECK enum status wire_decode_first_request(struct wire_decoder *d, const void *data,
                                                 size_t bytes, struct first_request *out,
                                                 struct error *error);
void wire_encode_start_wave(struct wire_buffer *b, const struct start_wave *start);
/* Accepts exclude as nil, an int or 2 identity bytes. */
MUST_CHECK enum status wire_decode_start_wave(struct wire_decoder *d, const void *data,
                                              size_t bytes, struct start_wave *out,
                                              struct error *error);

#endif

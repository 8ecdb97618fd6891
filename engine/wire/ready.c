/*
 * ready.c - the ready frame an engine core sends once to each front end: EngineCoreReadyResponse, a
 * map. Knows its keys, rows 1 to 24 of the field list; older peers ignore those they do not know.
 * Holds no state.
 */
#include "engine/wire/reader.h"
#include "engine/wire/writer.h"

#define READY_KEYS(X)                                       \
    X(MAX_MODEL_LEN, "max_model_len")                       \
    X(NUM_GPU_BLOCKS, "num_gpu_blocks")                     \
    X(BLOCK_SIZE, "block_size")                             \
    X(DP_STATS_ADDRESS, "dp_stats_address")                 \
    X(DTYPE, "dtype")                                       \
    X(VERSION, "vllm_version")                              \
    X(WORLD_SIZE, "world_size")                             \
    X(DP_SIZE, "data_parallel_size")                        \
    X(TP_SIZE, "tensor_parallel_size")                      \
    X(PP_SIZE, "pipeline_parallel_size")                    \
    X(DCP_SIZE, "decode_context_parallel_size")             \
    X(DP_RANK, "data_parallel_rank")                        \
    X(MAX_NUM_SEQS, "max_num_seqs")                         \
    X(MAX_NUM_BATCHED_TOKENS, "max_num_batched_tokens")     \
    X(INSTANCE_ID, "instance_id")                           \
    X(SUPPORTS_LORA, "supports_lora")                       \
    X(MAX_LORAS, "max_loras")                               \
    X(MAMBA_BLOCK_SIZE, "mamba_block_size")                 \
    X(KV_CACHE_SIZE_TOKENS, "kv_cache_size_tokens")         \
    X(KV_CACHE_MAX_CONCURRENCY, "kv_cache_max_concurrency") \
    X(KV_EVENTS_CONFIG, "kv_events_config")                 \
    X(WEIGHT_TRANSFER_BACKEND, "weight_transfer_backend")   \
    X(ENABLE_SLEEP_MODE, "enable_sleep_mode")               \
    X(SUPPORTS_DRAFT_WEIGHT_UPDATES, "supports_draft_weight_updates")

enum ready_key {
#define X(name, text) READY_##name,
    READY_KEYS(X)
#undef X
    READY_KEYS_COUNT
};

static const char *const ready_keys[] = {
#define X(name, text) text,
    READY_KEYS(X)
#undef X
        NULL,
};

/* The keys struct wire_ready cannot do without. The other required ones of vLLM's say nothing that
 * is used here. */
#define READY_REQUIRED (((1U << (READY_INSTANCE_ID + 1)) - 1) & ~(1U << READY_DCP_SIZE))

static void put_sizes(struct wire_buffer *b, const struct wire_ready *ready)
{
    wire_put_key_uint(b, ready_keys[READY_WORLD_SIZE], ready->world_size);
    wire_put_key_uint(b, ready_keys[READY_DP_SIZE], ready->data_parallel_size);
    wire_put_key_uint(b, ready_keys[READY_TP_SIZE], ready->tensor_parallel_size);
    wire_put_key_uint(b, ready_keys[READY_PP_SIZE], ready->pipeline_parallel_size);
    wire_put_key_uint(b, ready_keys[READY_DCP_SIZE], 1);
    wire_put_key_uint(b, ready_keys[READY_DP_RANK], ready->data_parallel_rank);
    wire_put_key_uint(b, ready_keys[READY_MAX_NUM_SEQS], ready->max_num_seqs);
    wire_put_key_uint(b, ready_keys[READY_MAX_NUM_BATCHED_TOKENS], ready->max_num_batched_tokens);
}

void wire_encode_ready(struct wire_buffer *b, const struct wire_ready *ready)
{
    wire_put_map16(b, READY_KEYS_COUNT);
    wire_put_key_uint(b, ready_keys[READY_MAX_MODEL_LEN], ready->max_model_len);
    wire_put_key_uint(b, ready_keys[READY_NUM_GPU_BLOCKS], ready->num_gpu_blocks);
    wire_put_key_uint(b, ready_keys[READY_BLOCK_SIZE], ready->block_size);
    wire_put_key_string(b, ready_keys[READY_DP_STATS_ADDRESS], ready->dp_stats_address);
    wire_put_key_string(b, ready_keys[READY_DTYPE], ready->dtype);
    wire_put_key_string(b, ready_keys[READY_VERSION], ready->version);
    put_sizes(b, ready);
    wire_put_key_string(b, ready_keys[READY_INSTANCE_ID], ready->instance_id);
    wire_put_key_bool(b, ready_keys[READY_SUPPORTS_LORA], false);
    wire_put_key_uint(b, ready_keys[READY_MAX_LORAS], 0);
    wire_put_key_nil(b, ready_keys[READY_MAMBA_BLOCK_SIZE]);
    if (ready->kv_cache_size_tokens == 0) {
        wire_put_key_nil(b, ready_keys[READY_KV_CACHE_SIZE_TOKENS]);
    } else {
        wire_put_key_uint(b, ready_keys[READY_KV_CACHE_SIZE_TOKENS], ready->kv_cache_size_tokens);
    }
    wire_put_key_nil(b, ready_keys[READY_KV_CACHE_MAX_CONCURRENCY]);
    wire_put_key_nil(b, ready_keys[READY_KV_EVENTS_CONFIG]);
    wire_put_key_nil(b, ready_keys[READY_WEIGHT_TRANSFER_BACKEND]);
    wire_put_key_bool(b, ready_keys[READY_ENABLE_SLEEP_MODE], false);
    wire_put_key_bool(b, ready_keys[READY_SUPPORTS_DRAFT_WEIGHT_UPDATES], false);
}

static void get_text(struct wire_reader *r, uint32_t key, struct wire_ready *ready)
{
    const char *field = ready_keys[key];
    if (key == READY_DP_STATS_ADDRESS) {
        ready->dp_stats_address = wire_get_string_or_nil(r, field);
    } else if (key == READY_DTYPE) {
        ready->dtype = wire_get_string(r, field);
    } else if (key == READY_VERSION) {
        ready->version = wire_get_string(r, field);
    } else {
        ready->instance_id = wire_get_string(r, field);
    }
}

static void get_value(struct wire_reader *r, uint32_t key, struct wire_ready *ready)
{
    uint32_t *const sizes[READY_KEYS_COUNT] = {
        [READY_WORLD_SIZE] = &ready->world_size,
        [READY_DP_SIZE] = &ready->data_parallel_size,
        [READY_TP_SIZE] = &ready->tensor_parallel_size,
        [READY_PP_SIZE] = &ready->pipeline_parallel_size,
        [READY_DP_RANK] = &ready->data_parallel_rank,
        [READY_MAX_NUM_SEQS] = &ready->max_num_seqs,
        [READY_MAX_NUM_BATCHED_TOKENS] = &ready->max_num_batched_tokens,
    };
    const char *field = ready_keys[key];
    switch (key) {
    case READY_MAX_MODEL_LEN:
        ready->max_model_len = wire_get_uint(r, field, INT64_MAX);
        break;
    case READY_NUM_GPU_BLOCKS:
        ready->num_gpu_blocks = wire_get_uint(r, field, INT64_MAX);
        break;
    case READY_BLOCK_SIZE:
        ready->block_size = wire_get_uint(r, field, INT64_MAX);
        break;
    case READY_KV_CACHE_SIZE_TOKENS:
        ready->kv_cache_size_tokens = wire_get_nil(r) ? 0 : wire_get_uint(r, field, INT64_MAX);
        break;
    case READY_DP_STATS_ADDRESS:
    case READY_DTYPE:
    case READY_VERSION:
    case READY_INSTANCE_ID:
        get_text(r, key, ready);
        break;
    default:
        if (key < READY_KEYS_COUNT && sizes[key] != NULL) {
            *sizes[key] = wire_get_u32(r, field);
        } else {
            wire_skip(r, field == NULL ? "an unknown key" : field, 1);
        }
    }
}

enum status wire_decode_ready(struct wire_decoder *d, const void *data, size_t bytes,
                              struct wire_ready *out, struct error *error)
{
    struct wire_reader r = {.message = "ready frame", .error = error};
    struct wire_ready ready = {0};
    uint32_t seen = 0;
    wire_reader_start(&r, d, data, bytes);
    uint32_t count = wire_get_map(&r, "message");
    for (uint32_t i = 0; i < count && wire_reader_ok(&r); i++) {
        uint32_t key = wire_get_key(&r, "message", ready_keys);
        seen |= 1U << key;
        get_value(&r, key, &ready);
    }
    wire_require_keys(&r, ready_keys, READY_REQUIRED, seen);
    TRY(wire_reader_finish(&r));
    *out = ready;
    return STATUS_OK;
}

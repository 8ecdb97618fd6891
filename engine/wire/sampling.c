/*
 * sampling.c - SamplingParams, a map in which keys at their default are left out. Written with the
 * keys a Python front end sends, read with those of the Python and the Rust one (which sends
 * float32 and none of stop, output_kind, n). Stop strings are the front end's business: accepted
 * and ignored. Knows keys, order and defaults; holds no state.
 */
#include "engine/wire/sampling.h"

#include "engine/wire/writer.h"

#define SAMPLING_KEYS(X)                         \
    X(N, "n")                                    \
    X(PRESENCE_PENALTY, "presence_penalty")      \
    X(FREQUENCY_PENALTY, "frequency_penalty")    \
    X(REPETITION_PENALTY, "repetition_penalty")  \
    X(TEMPERATURE, "temperature")                \
    X(TOP_P, "top_p")                            \
    X(TOP_K, "top_k")                            \
    X(MIN_P, "min_p")                            \
    X(SEED, "seed")                              \
    X(STOP, "stop")                              \
    X(STOP_TOKEN_IDS, "stop_token_ids")          \
    X(IGNORE_EOS, "ignore_eos")                  \
    X(MAX_TOKENS, "max_tokens")                  \
    X(MIN_TOKENS, "min_tokens")                  \
    X(OUTPUT_KIND, "output_kind")                \
    X(SKIP_CLONE, "skip_clone")                  \
    X(EOS_TOKEN_ID, "_eos_token_id")             \
    X(ALL_STOP_TOKEN_IDS, "_all_stop_token_ids") \
    X(BAD_WORDS, "bad_words")                    \
    X(SKIP_READING_PREFIX_CACHE, "skip_reading_prefix_cache")

enum sampling_key {
#define X(name, text) SAMPLING_##name,
    SAMPLING_KEYS(X)
#undef X
    SAMPLING_KEYS_COUNT
};

static const char *const sampling_keys[] = {
#define X(name, text) text,
    SAMPLING_KEYS(X)
#undef X
        NULL,
};

static const struct sampling_params sampling_defaults = {
    .max_tokens = 16,
    .eos_token_id = TOKEN_NONE,
    .n = 1,
    .temperature = 1.0F,
    .top_p = 1.0F,
    .repetition_penalty = 1.0F,
};

enum {
    OUTPUT_KIND_MAX = 2
};

static bool differ(float a, float b)
{
    return a < b || a > b;
}

/* One bit for each key that is sent. */
static uint32_t present_keys(const struct sampling_params *s)
{
    const struct sampling_params *d = &sampling_defaults;
    const bool present[SAMPLING_KEYS_COUNT] = {
        [SAMPLING_N] = s->n != d->n,
        [SAMPLING_PRESENCE_PENALTY] = differ(s->presence_penalty, d->presence_penalty),
        [SAMPLING_FREQUENCY_PENALTY] = differ(s->frequency_penalty, d->frequency_penalty),
        [SAMPLING_REPETITION_PENALTY] = differ(s->repetition_penalty, d->repetition_penalty),
        [SAMPLING_TEMPERATURE] = differ(s->temperature, d->temperature),
        [SAMPLING_TOP_P] = differ(s->top_p, d->top_p),
        [SAMPLING_TOP_K] = s->top_k != d->top_k,
        [SAMPLING_MIN_P] = differ(s->min_p, d->min_p),
        [SAMPLING_SEED] = s->has_seed,
        [SAMPLING_STOP] = true,
        [SAMPLING_STOP_TOKEN_IDS] = true,
        [SAMPLING_IGNORE_EOS] = s->eos_token_id == TOKEN_NONE,
        [SAMPLING_MAX_TOKENS] = s->max_tokens != d->max_tokens,
        [SAMPLING_MIN_TOKENS] = s->min_tokens != d->min_tokens,
        [SAMPLING_OUTPUT_KIND] = s->output_kind != d->output_kind,
        [SAMPLING_SKIP_CLONE] = true,
        [SAMPLING_EOS_TOKEN_ID] = s->eos_token_id != TOKEN_NONE,
        [SAMPLING_ALL_STOP_TOKEN_IDS] =
            s->eos_token_id != TOKEN_NONE || s->stop_token_ids_count > 0,
        [SAMPLING_BAD_WORDS] = true,
        [SAMPLING_SKIP_READING_PREFIX_CACHE] = true,
    };
    uint32_t keys = 0;
    for (uint32_t i = 0; i < SAMPLING_KEYS_COUNT; i++) {
        keys |= (uint32_t)present[i] << i;
    }
    return keys;
}

/* A set in Python: the stop tokens and, unless it is one of them, the end-of-sequence token. */
static void put_all_stop_tokens(struct wire_buffer *b, const struct sampling_params *s)
{
    uint32_t ids[STOP_TOKENS_MAX + 1];
    uint32_t count = 0;
    bool has_eos = s->eos_token_id == TOKEN_NONE;
    while (count < s->stop_token_ids_count) {
        ids[count] = s->stop_token_ids[count];
        has_eos = has_eos || (int64_t)ids[count] == s->eos_token_id;
        count++;
    }
    if (!has_eos) {
        ids[count] = (uint32_t)s->eos_token_id;
        count++;
    }
    wire_put_uints(b, ids, count);
}

static void put_value(struct wire_buffer *b, enum sampling_key key, const struct sampling_params *s)
{
    const float floats[SAMPLING_KEYS_COUNT] = {
        [SAMPLING_PRESENCE_PENALTY] = s->presence_penalty,
        [SAMPLING_FREQUENCY_PENALTY] = s->frequency_penalty,
        [SAMPLING_REPETITION_PENALTY] = s->repetition_penalty,
        [SAMPLING_TEMPERATURE] = s->temperature,
        [SAMPLING_TOP_P] = s->top_p,
        [SAMPLING_MIN_P] = s->min_p,
    };
    const int64_t integers[SAMPLING_KEYS_COUNT] = {
        [SAMPLING_N] = s->n,
        [SAMPLING_TOP_K] = s->top_k,
        [SAMPLING_SEED] = s->seed,
        [SAMPLING_MAX_TOKENS] = s->max_tokens,
        [SAMPLING_MIN_TOKENS] = s->min_tokens,
        [SAMPLING_OUTPUT_KIND] = s->output_kind,
        [SAMPLING_EOS_TOKEN_ID] = s->eos_token_id,
    };
    switch (key) {
    case SAMPLING_PRESENCE_PENALTY:
    case SAMPLING_FREQUENCY_PENALTY:
    case SAMPLING_REPETITION_PENALTY:
    case SAMPLING_TEMPERATURE:
    case SAMPLING_TOP_P:
    case SAMPLING_MIN_P:
        wire_put_double(b, (double)floats[key]);
        break;
    case SAMPLING_N:
    case SAMPLING_TOP_K:
    case SAMPLING_SEED:
    case SAMPLING_MAX_TOKENS:
    case SAMPLING_MIN_TOKENS:
    case SAMPLING_OUTPUT_KIND:
    case SAMPLING_EOS_TOKEN_ID:
        wire_put_int(b, integers[key]);
        break;
    case SAMPLING_STOP_TOKEN_IDS:
        wire_put_uints(b, s->stop_token_ids, s->stop_token_ids_count);
        break;
    case SAMPLING_ALL_STOP_TOKEN_IDS:
        put_all_stop_tokens(b, s);
        break;
    case SAMPLING_STOP:
    case SAMPLING_BAD_WORDS:
        wire_put_array(b, 0);
        break;
    case SAMPLING_IGNORE_EOS:
    case SAMPLING_SKIP_CLONE:
    case SAMPLING_SKIP_READING_PREFIX_CACHE:
    case SAMPLING_KEYS_COUNT:
        wire_put_bool(b, key != SAMPLING_SKIP_READING_PREFIX_CACHE);
        break;
    }
}

void wire_put_sampling(struct wire_buffer *b, const struct sampling_params *sampling)
{
    ASSERT(sampling->stop_token_ids_count <= STOP_TOKENS_MAX);
    uint32_t present = present_keys(sampling);
    wire_put_map16(b, (uint16_t)__builtin_popcount(present));
    for (uint32_t key = 0; key < SAMPLING_KEYS_COUNT; key++) {
        if ((present >> key & 1) != 0) {
            wire_put_string(b, sampling_keys[key]);
            put_value(b, (enum sampling_key)key, sampling);
        }
    }
}

static void get_stop_tokens(struct wire_reader *r, const char *field, struct sampling_params *s)
{
    s->stop_token_ids_count = 0;
    if (wire_get_nil(r)) {
        return;
    }
    uint32_t count = wire_get_array(r, field, 0);
    if (count > STOP_TOKENS_MAX) {
        wire_reader_fail(r, STATUS_UNSUPPORTED, field, "more than 16 stop tokens");
        return;
    }
    for (uint32_t i = 0; i < count; i++) {
        s->stop_token_ids[i] = wire_get_u32(r, field);
    }
    s->stop_token_ids_count = count;
}

static void get_seed(struct wire_reader *r, const char *field, struct sampling_params *s)
{
    s->has_seed = !wire_get_nil(r);
    s->seed = s->has_seed ? wire_get_int(r, field, INT64_MIN, INT64_MAX) : 0;
}

static void get_value(struct wire_reader *r, uint32_t key, struct sampling_params *s)
{
    float *const floats[SAMPLING_KEYS_COUNT] = {
        [SAMPLING_PRESENCE_PENALTY] = &s->presence_penalty,
        [SAMPLING_FREQUENCY_PENALTY] = &s->frequency_penalty,
        [SAMPLING_REPETITION_PENALTY] = &s->repetition_penalty,
        [SAMPLING_TEMPERATURE] = &s->temperature,
        [SAMPLING_TOP_P] = &s->top_p,
        [SAMPLING_MIN_P] = &s->min_p,
    };
    const char *field = sampling_keys[key];
    switch (key) {
    case SAMPLING_N:
        s->n = wire_get_u32(r, field);
        break;
    case SAMPLING_TOP_K:
        s->top_k = (int32_t)wire_get_int(r, field, INT32_MIN, INT32_MAX);
        break;
    case SAMPLING_SEED:
        get_seed(r, field, s);
        break;
    case SAMPLING_STOP_TOKEN_IDS:
        get_stop_tokens(r, field, s);
        break;
    case SAMPLING_MAX_TOKENS:
        s->max_tokens = wire_get_u32(r, field);
        break;
    case SAMPLING_MIN_TOKENS:
        s->min_tokens = wire_get_u32(r, field);
        break;
    case SAMPLING_OUTPUT_KIND:
        s->output_kind = (uint8_t)wire_get_uint(r, field, OUTPUT_KIND_MAX);
        break;
    case SAMPLING_EOS_TOKEN_ID:
        s->eos_token_id =
            wire_get_nil(r) ? TOKEN_NONE : (int32_t)wire_get_int(r, field, 0, INT32_MAX);
        break;
    default:
        if (key < SAMPLING_KEYS_COUNT && floats[key] != NULL) {
            *floats[key] = wire_get_float(r, field);
        } else {
            wire_skip(r, field == NULL ? "an unknown key of sampling_params" : field, 1);
        }
    }
}

void wire_get_sampling(struct wire_reader *r, struct sampling_params *out)
{
    *out = sampling_defaults;
    uint32_t count = wire_get_map(r, "sampling_params");
    for (uint32_t i = 0; i < count && wire_reader_ok(r); i++) {
        get_value(r, wire_get_key(r, "sampling_params", sampling_keys), out);
    }
}

/* random_driver_model.c - random options and requests, and the outputs they must give. See
 * random_driver_model.h. */
#include <stdio.h>
#include <string.h>

#include "engine/base/hash.h"
#include "sim/random_driver_model.h"

static uint32_t draw(struct random *r, uint32_t lo, uint32_t hi)
{
    return (uint32_t)random_range(r, lo, hi);
}

static bool chance(struct random *r, uint32_t percent)
{
    return draw(r, 1, 100) <= percent;
}

uint32_t driver_token(uint64_t sample_key, uint32_t position)
{
    return (uint32_t)(random_at(sample_key, position) % DRIVER_VOCABULARY);
}

void driver_draw_options(struct driver *d)
{
    static const uint32_t block_sizes[] = {1, 2, 4, 8, 16};
    struct random *r = &d->config;
    struct engine_core_options *o = &d->options;
    o->engine_index = draw(r, 0, 7);
    o->clients_count = draw(r, 1, DRIVER_CLIENTS_MAX);
    o->requests_max = chance(r, 30) ? draw(r, 1, 6) : DRIVER_REQUESTS_MAX;
    o->max_model_len = draw(r, 8, DRIVER_MODEL_LEN_MAX);
    o->max_num_seqs = draw(r, 1, DRIVER_SEQS_MAX);
    o->block_tokens = block_sizes[draw(r, 0, 4)];
    o->chunked_prefill = chance(r, 70);
    o->max_num_batched_tokens = o->chunked_prefill
                                    ? draw(r, o->max_num_seqs, o->max_num_seqs + 24)
                                    : draw(r, o->max_model_len, 2 * o->max_model_len);
    o->long_prefill_token_threshold = chance(r, 30) ? draw(r, 1, 12) : 0;
    uint32_t longest = (o->max_model_len + o->block_tokens - 1) / o->block_tokens;
    uint32_t spare = chance(r, 60) ? longest : 4 * longest;
    if (chance(r, 20)) {
        spare = 0;
    }
    o->num_gpu_blocks = 1 + longest + draw(r, 0, spare);
    o->num_gpu_blocks =
        o->num_gpu_blocks < DRIVER_BLOCKS_MAX ? o->num_gpu_blocks : DRIVER_BLOCKS_MAX;
    o->prefix_caching = chance(r, 75);
    o->reserve_full_isl = chance(r, 60);
    o->watermark = chance(r, 30) ? 0.1 : 0.0;
    o->async_depth = draw(r, 1, 2);
    o->pipeline_stages = chance(r, 40) ? draw(r, 2, DRIVER_STAGES_MAX) : 1;
    o->policy = chance(r, 50) ? POLICY_FCFS : POLICY_PRIORITY;
    o->seed = random_u64(r);
}

/* The stop rules of the protocol notes, written without a look at the engine's. */
static void expect_outputs(struct driver *d, struct driver_request *q)
{
    const struct sampling_params *s = &q->request.sampling;
    uint32_t prompt = q->request.prompt_tokens_count;
    q->expected_finish = FINISH_NONE;
    q->expected_stop = TOKEN_NONE;
    while (q->expected_finish == FINISH_NONE) {
        uint32_t token = driver_token(q->sample_key, q->expected_count);
        q->expected[q->expected_count++] = token;
        bool at_model_end = prompt + q->expected_count >= d->options.max_model_len;
        if (q->expected_count < s->min_tokens && !at_model_end) {
            continue;
        }
        if (s->eos_token_id != TOKEN_NONE && (int32_t)token == s->eos_token_id) {
            q->expected_finish = FINISH_STOP;
            continue;
        }
        if (at_model_end || q->expected_count >= s->max_tokens) {
            q->expected_finish = FINISH_LENGTH;
        }
        for (uint32_t i = 0; i < s->stop_token_ids_count; i++) {
            if (s->stop_token_ids[i] == token) {
                q->expected_finish = FINISH_STOP;
                q->expected_stop = (int32_t)token;
            }
        }
    }
}

/* A KV entry is determined by all tokens up to its position; salted requests share with equal salts
 * only. */
static void expect_content(struct driver_request *q)
{
    const struct engine_request *request = &q->request;
    uint64_t chain = request->cache_salt != NULL ? (uint64_t)request->cache_salt[0] : 1;
    for (uint32_t i = 0; i < request->prompt_tokens_count + q->expected_count; i++) {
        uint64_t token;
        if (i >= request->prompt_tokens_count) {
            token = q->expected[i - request->prompt_tokens_count];
        } else {
            token = request->prompt_token_ids != NULL ? q->prompt[i] : ~request->prompt_hash;
        }
        chain = random_at(chain, token);
        q->content[i] = chain;
    }
}

static void draw_sampling(struct driver *d, struct driver_request *q, uint32_t index)
{
    struct random *r = &d->config;
    struct sampling_params *s = &q->request.sampling;
    s->max_tokens = chance(r, 15) ? 1 : draw(r, 1, chance(r, 20) ? 200 : 20);
    s->min_tokens = chance(r, 30) ? draw(r, 1, s->max_tokens) : 0;
    s->eos_token_id = chance(r, 50) ? (int32_t)draw(r, 0, DRIVER_VOCABULARY - 1) : TOKEN_NONE;
    s->stop_token_ids_count = chance(r, 30) ? draw(r, 1, 3) : 0;
    for (uint32_t i = 0; i < s->stop_token_ids_count; i++) {
        s->stop_token_ids[i] = draw(r, 0, DRIVER_VOCABULARY - 1);
    }
    s->output_kind = 1;
    s->n = 1;
    s->has_seed = chance(r, 50);
    s->seed = (int64_t)index + 1000;
}

static void draw_prompt(struct driver *d, struct driver_request *q, uint32_t index)
{
    struct random *r = &d->config;
    struct engine_request *request = &q->request;
    uint32_t longest = d->options.max_model_len - 1;
    request->prompt_tokens_count = draw(r, 1, chance(r, 50) ? longest : (longest + 2) / 3);
    /* One of two families of shared prefixes, then tokens of its own. */
    uint32_t family = draw(r, 1, 2);
    uint32_t shared = chance(r, 70) ? draw(r, 0, request->prompt_tokens_count) : 0;
    if (chance(r, 20)) {
        shared = request->prompt_tokens_count;
    }
    for (uint32_t i = 0; i < request->prompt_tokens_count; i++) {
        q->prompt[i] = i < shared ? family * 1000 + i : 10000 + index * 100 + i;
    }
    if (chance(r, 75)) {
        request->prompt_token_ids = q->prompt;
        request->prompt_hash = hash64(q->prompt, request->prompt_tokens_count * 4U, index);
    } else {
        /* Known by its hash only; requests with a seed may share the hash, their keys still differ.
         */
        request->prompt_hash = request->sampling.has_seed ? family : 100 + index;
    }
    request->cache_salt = chance(r, 15) ? (chance(r, 50) ? "x" : "y") : NULL;
}

void driver_draw_requests(struct driver *d)
{
    struct random *r = &d->config;
    d->requests_count = draw(r, 1, DRIVER_REQUESTS_MAX);
    for (uint32_t i = 0; i < d->requests_count; i++) {
        struct driver_request *q = &d->requests[i];
        (void)snprintf(q->id, sizeof q->id, "cmpl-%u-%u", i, draw(r, 0, 99999));
        q->request.id = q->id;
        draw_sampling(d, q, i);
        draw_prompt(d, q, i);
        q->request.arrival_wall_ns = draw(r, 0, 3);
        q->request.priority = (int32_t)draw(r, 0, 4) - 2;
        q->request.client_index = draw(r, 0, d->options.clients_count - 1);
        q->request.data_parallel_rank = RANK_NONE;
        q->request.abort_immediately = chance(r, 3);
        uint64_t seed =
            q->request.sampling.has_seed ? (uint64_t)q->request.sampling.seed : d->options.seed;
        q->sample_key = random_at(random_at(seed, q->request.prompt_hash), 0);
        expect_outputs(d, q);
        expect_content(q);
    }
}

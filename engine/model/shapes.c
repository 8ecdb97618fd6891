/*
 * shapes.c - owns the table of model shapes and the arithmetic on it: parameters, bytes, kernels.
 * Driven by the cost model, the devices, the simulator and the scenario checks. Holds no state and
 * knows no device.
 */
#include "engine/model/shapes.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

/* Sizes as in the models' published config.json files. */
static const struct model_shape models[] = {
    {.name = "llama-3.2-1b",
     .layers_count = 16,
     .hidden = 2048,
     .heads_count = 32,
     .kv_heads_count = 8,
     .head_dim = 64,
     .intermediate = 8192,
     .vocab = 128256,
     .tied_embeddings = true,
     .weight_bytes = 2,
     .kv_bytes = 2,
     .context_max = 131072},
    {.name = "llama-3.1-8b",
     .layers_count = 32,
     .hidden = 4096,
     .heads_count = 32,
     .kv_heads_count = 8,
     .head_dim = 128,
     .intermediate = 14336,
     .vocab = 128256,
     .weight_bytes = 2,
     .kv_bytes = 2,
     .context_max = 131072},
    {.name = "llama-3.1-70b",
     .layers_count = 80,
     .hidden = 8192,
     .heads_count = 64,
     .kv_heads_count = 8,
     .head_dim = 128,
     .intermediate = 28672,
     .vocab = 128256,
     .weight_bytes = 2,
     .kv_bytes = 2,
     .context_max = 131072},
    {.name = "qwen2.5-0.5b",
     .layers_count = 24,
     .hidden = 896,
     .heads_count = 14,
     .kv_heads_count = 2,
     .head_dim = 64,
     .intermediate = 4864,
     .vocab = 151936,
     .tied_embeddings = true,
     .qkv_bias = true,
     .weight_bytes = 2,
     .kv_bytes = 2,
     .context_max = 32768},
    {.name = "qwen2.5-32b",
     .layers_count = 64,
     .hidden = 5120,
     .heads_count = 40,
     .kv_heads_count = 8,
     .head_dim = 128,
     .intermediate = 27648,
     .vocab = 152064,
     .qkv_bias = true,
     .weight_bytes = 2,
     .kv_bytes = 2,
     .context_max = 32768},
    {.name = "qwen3-30b-a3b",
     .layers_count = 48,
     .hidden = 2048,
     .heads_count = 32,
     .kv_heads_count = 4,
     .head_dim = 128,
     .intermediate = 768,
     .experts_count = 128,
     .experts_active = 8,
     .vocab = 151936,
     .qk_norm = true,
     .weight_bytes = 2,
     .kv_bytes = 2,
     .context_max = 40960},
    /* fp8 weights; the embeddings, which are bf16, count as fp8 too */
    {.name = "deepseek-r1",
     .layers_count = 61,
     .hidden = 7168,
     .heads_count = 128,
     .kv_heads_count = 1,
     .head_dim = 128,
     .intermediate = 2048,
     .experts_count = 256,
     .experts_active = 8,
     .experts_shared = 1,
     .dense_layers_count = 3,
     .dense_intermediate = 18432,
     .kv_latent = 512,
     .q_latent = 1536,
     .rope_dim = 64,
     .vocab = 129280,
     .weight_bytes = 1,
     .kv_bytes = 2,
     .context_max = 163840},
};

const struct model_shape *model_shape_at(uint32_t index)
{
    return index < sizeof models / sizeof models[0] ? &models[index] : NULL;
}

const struct model_shape *model_shape_find(const char *name)
{
    const struct model_shape *m = NULL;
    for (uint32_t i = 0; (m = model_shape_at(i)) != NULL; i++) {
        if (strcmp(m->name, name) == 0) {
            break;
        }
    }
    return m;
}

static uint64_t embedding_parameters(const struct model_shape *m)
{
    return (uint64_t)m->vocab * m->hidden;
}

uint64_t model_expert_parameters(const struct model_shape *m)
{
    return m->experts_count > 0 ? 3ULL * m->hidden * m->intermediate : 0;
}

uint32_t model_expert_layers(const struct model_shape *m)
{
    return m->experts_count > 0 ? m->layers_count - m->dense_layers_count : 0;
}

/* Of a layer, biases and norms of the projections included. */
static uint64_t attention_parameters(const struct model_shape *m)
{
    uint64_t hidden = m->hidden;
    uint64_t heads = m->heads_count;
    uint64_t queries = heads * m->head_dim;
    uint64_t keys = (uint64_t)m->kv_heads_count * m->head_dim;
    uint64_t norms = m->qk_norm ? 2 * m->head_dim : 0;
    uint64_t bias = m->qkv_bias ? queries + 2 * keys : 0;
    if (m->kv_latent == 0) {
        return hidden * (queries + 2 * keys) + queries * hidden + bias + norms;
    }
    uint64_t q = hidden * m->q_latent + m->q_latent * heads * (m->head_dim + m->rope_dim);
    uint64_t kv = hidden * (m->kv_latent + m->rope_dim) + m->kv_latent * heads * 2 * m->head_dim;
    return q + m->q_latent + kv + m->kv_latent + queries * hidden;
}

/* With so many experts in each layer that has them, besides the shared ones. */
static uint64_t parameters_with(const struct model_shape *m, uint32_t experts_count)
{
    uint64_t hidden = m->hidden;
    uint64_t expert_layers = model_expert_layers(m);
    uint64_t dense = m->experts_count > 0 ? m->dense_intermediate : m->intermediate;
    uint64_t mlp = (m->layers_count - expert_layers) * 3 * hidden * dense;
    uint64_t router = hidden * m->experts_count;
    uint64_t experts = ((uint64_t)experts_count + m->experts_shared) * model_expert_parameters(m);
    uint64_t norms = 2 * hidden;
    uint64_t matrices = m->tied_embeddings ? 1 : 2; /* input embedding and LM head */
    return m->layers_count * (attention_parameters(m) + norms) + mlp +
           expert_layers * (router + experts) + hidden + matrices * embedding_parameters(m);
}

uint64_t model_parameters(const struct model_shape *m)
{
    return parameters_with(m, m->experts_count);
}

uint64_t model_active_parameters(const struct model_shape *m)
{
    return parameters_with(m, m->experts_active);
}

uint64_t model_step_weight_bytes(const struct model_shape *m)
{
    uint64_t unread = m->tied_embeddings ? 0 : embedding_parameters(m);
    return (parameters_with(m, 0) - unread) * m->weight_bytes;
}

double model_experts_reached(const struct model_shape *m, uint64_t tokens_count)
{
    if (m->experts_count == 0) {
        return 0.0;
    }
    double experts = m->experts_count;
    return experts * (1.0 - pow(1.0 - m->experts_active / experts, (double)tokens_count));
}

uint64_t model_weight_bytes(const struct model_shape *m)
{
    return model_parameters(m) * m->weight_bytes;
}

uint64_t model_kv_token_bytes(const struct model_shape *m)
{
    uint64_t elements = 2ULL * m->kv_heads_count * m->head_dim;
    if (m->kv_latent > 0) {
        elements = m->kv_latent + m->rope_dim;
    }
    return m->layers_count * elements * m->kv_bytes;
}

uint64_t model_pair_flops(const struct model_shape *m)
{
    /* Q.K and P.V, 2 FLOPs an element each. On a compressed cache every head works on all of what a
     * token keeps: the projections out of it are taken into the queries and the output. */
    uint64_t elements = 2ULL * m->head_dim;
    if (m->kv_latent > 0) {
        elements = 2ULL * m->kv_latent + m->rope_dim;
    }
    return 2 * elements * m->layers_count * m->heads_count;
}

uint32_t model_step_kernels(const struct model_shape *m)
{
    /* A layer: 2 x add+norm, QKV, RoPE+KV write, attention, combine, O, gate-up, SiLU, down. With
     * experts besides: router, top-k, sort, sum; with shared ones gate-up, SiLU, down again; with a
     * compressed KV cache 2 norms, second Q projection, 2 projections around attention. A step
     * besides: embedding, final norm, LM head, argmax. */
    uint32_t layer = m->kv_latent > 0 ? 15 : 10;
    uint32_t experts = m->experts_shared > 0 ? 7 : 4;
    return layer * m->layers_count + experts * model_expert_layers(m) + 4;
}

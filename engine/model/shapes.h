/*
 * shapes.h - the sizes of the models that the cost model and the devices know. Pure data.
 */
#ifndef ENGINE_MODEL_SHAPES_H
#define ENGINE_MODEL_SHAPES_H

#include <stdbool.h>
#include <stdint.h>

struct model_shape {
    const char *name; /* as in scenarios: "llama-3.1-8b" */
    uint32_t layers_count;
    uint32_t hidden;
    uint32_t heads_count;
    uint32_t kv_heads_count;
    uint32_t head_dim;
    uint32_t intermediate;       /* of the MLP; of one expert in a mixture of experts */
    uint32_t experts_count;      /* a layer's experts; 0: dense */
    uint32_t experts_active;     /* that each token goes to */
    uint32_t experts_shared;     /* besides, that every token goes to */
    uint32_t dense_layers_count; /* the first layers of a mixture, without experts */
    uint32_t dense_intermediate; /* of their MLP */
    /*
     * Attention with a compressed KV cache: a token keeps kv_latent + rope_dim elements a layer,
     * whatever the number of heads, and queries come through a bottleneck of q_latent. 0: none.
     */
    uint32_t kv_latent;
    uint32_t q_latent;
    uint32_t rope_dim;
    uint32_t vocab;
    bool tied_embeddings;
    bool qkv_bias;         /* the Q, K and V projections have a bias */
    bool qk_norm;          /* each head of Q and K is normalised */
    uint32_t weight_bytes; /* bytes a parameter: 2 = bf16 */
    uint32_t kv_bytes;     /* bytes a KV element: 2 = bf16 */
    uint32_t context_max;  /* the model's own limit on prompt + output tokens */
};

/* NULL if unknown. */
const struct model_shape *model_shape_find(const char *name);
/* The i-th shape, NULL past the end: for listings and nearest-name suggestions. */
const struct model_shape *model_shape_at(uint32_t index);

uint64_t model_parameters(const struct model_shape *m);
/* Those of one expert in one layer; 0 for a dense model. */
uint64_t model_expert_parameters(const struct model_shape *m);
/* Layers that have experts. */
uint32_t model_expert_layers(const struct model_shape *m);
/* Those that take part in one token: all of a dense model. */
uint64_t model_active_parameters(const struct model_shape *m);
/* Bytes of weights that a step reads besides experts (an untied input embedding is not read). */
uint64_t model_step_weight_bytes(const struct model_shape *m);
/* Distinct experts of a layer that so many tokens go to, expected: a token chooses each with the
 * same probability and independently of others. */
double model_experts_reached(const struct model_shape *m, uint64_t tokens_count);
/* Bytes of all weights in memory. */
uint64_t model_weight_bytes(const struct model_shape *m);
uint64_t model_kv_token_bytes(const struct model_shape *m);
/* FLOPs of attention for one token and one that it sees, all layers. */
uint64_t model_pair_flops(const struct model_shape *m);
/* Kernels of one eager step: 10 a layer (14 with experts, 5 more with a compressed KV cache, 3 with
 * shared experts) + 4. */
uint32_t model_step_kernels(const struct model_shape *m);

#endif

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
    uint32_t intermediate;
    uint32_t vocab;
    bool tied_embeddings;
    bool qkv_bias;         /* the Q, K and V projections have a bias */
    uint32_t weight_bytes; /* bytes a parameter: 2 = bf16 */
    uint32_t kv_bytes;     /* bytes a KV element: 2 = bf16 */
    uint32_t context_max;  /* the model's own limit on prompt + output tokens */
};

/* NULL if unknown. */
const struct model_shape *model_shape_find(const char *name);
/* The i-th shape, NULL past the end: for listings and nearest-name suggestions. */
const struct model_shape *model_shape_at(uint32_t index);

uint64_t model_parameters(const struct model_shape *m);
/* Bytes of weights that a step reads (an untied input embedding is not read). */
uint64_t model_step_weight_bytes(const struct model_shape *m);
/* Bytes of all weights in memory. */
uint64_t model_weight_bytes(const struct model_shape *m);
uint64_t model_kv_token_bytes(const struct model_shape *m);
/* Kernels of one eager step: 10 a layer + 4. */
uint32_t model_step_kernels(const struct model_shape *m);

#endif

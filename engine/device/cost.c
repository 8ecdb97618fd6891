/*
 * cost.c - owns the table of GPUs and the roofline of one step. Driven by the
 * emulated device, the simulator and the reports. Pure: no clock, no state, no memory.
 */
#include "engine/device/cost.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

/*
 * Common to all rows, measured on an H100 or published for it:
 * - kernel_gap 1.3 us: from kernel to kernel inside a graph (Hazy Research, "Look Ma, No Bubbles");
 * - launch 2.0 us: estimate for a lean C loop, between 1.6 us (A100, EPYC) and published 4-6 us;
 * - graph 2.5 us + 1 ns a node: straight-line graphs since CUDA 12.6 (NVIDIA, "Constant time
 *   launch for straight-line graphs"); PyTorch with large graphs showed up to 1 us a node;
 * - all-reduce 10 us + bytes / 300 GB/s: uncalibrated.
 */
#define HOST_AND_LINK_COSTS                                                  \
    .kernel_gap = 1300000, .launch = 2 * PS_PER_US, .graph_launch = 2500000, \
    .graph_node = PS_PER_NS, .allreduce_latency = 10 * PS_PER_US, .allreduce_bytes_per_s = 300e9

#define GIGABYTES(n) ((uint64_t)(n)*1000000000U)

/*
 * h100: 3.0 of 3.35 TB/s (copy) and 800 of 989 TFLOP/s (dense bf16) are what measurements on an
 * H100 SXM reached. All others are 0.9 x nominal bytes and 0.8 x nominal dense bf16 FLOPs from the
 * makers' data sheets, written out below. memory_bytes is what the name plate says in decimal GB.
 * pcie_bytes_per_s: pinned copies, 50 GB/s on PCIe 5, 25 on PCIe 4.
 */
static const struct gpu_shape gpus[] = {
    {.name = "h100",
     .bytes_per_s = 3.0e12,
     .flops_per_s = 800e12,
     .memory_bytes = GIGABYTES(80),
     .pcie_bytes_per_s = 50e9,
     HOST_AND_LINK_COSTS},
    /* H200 SXM: nominal 4.8 TB/s, 989 TFLOP/s, 141 GB */
    {.name = "h200",
     .bytes_per_s = 0.9 * 4.8e12,
     .flops_per_s = 0.8 * 989e12,
     .memory_bytes = GIGABYTES(141),
     .pcie_bytes_per_s = 50e9,
     HOST_AND_LINK_COSTS},
    /* A100 SXM 80 GB: nominal 2.039 TB/s, 312 TFLOP/s */
    {.name = "a100",
     .bytes_per_s = 0.9 * 2.039e12,
     .flops_per_s = 0.8 * 312e12,
     .memory_bytes = GIGABYTES(80),
     .pcie_bytes_per_s = 25e9,
     HOST_AND_LINK_COSTS},
    /* L40S: nominal 0.864 TB/s, 362 TFLOP/s, 48 GB */
    {.name = "l40s",
     .bytes_per_s = 0.9 * 0.864e12,
     .flops_per_s = 0.8 * 362e12,
     .memory_bytes = GIGABYTES(48),
     .pcie_bytes_per_s = 25e9,
     HOST_AND_LINK_COSTS},
    /* RTX PRO 6000 Blackwell: nominal 1.792 TB/s, 503.8 TFLOP/s, 96 GB */
    {.name = "rtx-pro-6000",
     .bytes_per_s = 0.9 * 1.792e12,
     .flops_per_s = 0.8 * 503.8e12,
     .memory_bytes = GIGABYTES(96),
     .pcie_bytes_per_s = 50e9,
     HOST_AND_LINK_COSTS},
    /* RTX 4090: nominal 1.008 TB/s, 165.2 TFLOP/s (fp32 accumulation), 24 GB */
    {.name = "rtx-4090",
     .bytes_per_s = 0.9 * 1.008e12,
     .flops_per_s = 0.8 * 165.2e12,
     .memory_bytes = GIGABYTES(24),
     .pcie_bytes_per_s = 25e9,
     HOST_AND_LINK_COSTS},
    /* B200 SXM: nominal 8.0 TB/s, 2250 TFLOP/s, 180 GB */
    {.name = "b200",
     .bytes_per_s = 0.9 * 8.0e12,
     .flops_per_s = 0.8 * 2250e12,
     .memory_bytes = GIGABYTES(180),
     .pcie_bytes_per_s = 50e9,
     HOST_AND_LINK_COSTS},
};

const struct gpu_shape *gpu_shape_at(uint32_t index)
{
    return index < sizeof gpus / sizeof gpus[0] ? &gpus[index] : NULL;
}

const struct gpu_shape *gpu_shape_find(const char *name)
{
    const struct gpu_shape *g = NULL;
    for (uint32_t i = 0; (g = gpu_shape_at(i)) != NULL; i++) {
        if (strcmp(g->name, name) == 0) {
            break;
        }
    }
    return g;
}

/*
 * Activations that a token moves through memory in all layers: every kernel of a layer reads its
 * input and writes its output once, as separate bf16 tensors; nothing stays in a cache between
 * kernels.
 */
static double activation_token_bytes(const struct model_shape *m)
{
    uint64_t hidden = m->hidden;
    uint64_t queries = (uint64_t)m->heads_count * m->head_dim;
    uint64_t qkv = queries + 2ULL * m->kv_heads_count * m->head_dim;
    uint64_t mlp = m->intermediate;
    uint64_t elements = 2 * 3 * hidden /* 2 x add+norm: two tensors in, one out in place of both */
                        + hidden + qkv /* QKV */
                        + 2 * qkv      /* RoPE + KV write */
                        + 2 * queries  /* attention */
                        + queries + hidden /* O */
                        + hidden + 2 * mlp /* gate-up */
                        + 3 * mlp          /* SiLU x up */
                        + mlp + hidden;    /* down */
    return (double)(elements * m->layers_count * 2);
}

time_ps cost_step(const struct gpu_shape *gpu, const struct model_shape *model, uint32_t tp,
                  const struct step_load *load)
{
    if (load->tokens_count == 0) {
        return 0;
    }
    double ranks = tp;
    double tokens = load->tokens_count;
    double logits_bytes = 4.0 * model->vocab; /* fp32, written once a sampled row */
    double bytes = (double)model_step_weight_bytes(model) +
                   (double)load->kv_read_tokens * (double)model_kv_token_bytes(model) +
                   tokens * activation_token_bytes(model) + load->sampled_count * logits_bytes;
    /* Attention: Q.K and P.V are 2 x 2 FLOPs a pair and head dimension, at 60 % of the GEMM rate
     * (FlashAttention). */
    double pair_flops = 4.0 * model->layers_count * model->heads_count * model->head_dim;
    double flops = 2.0 * (double)model_parameters(model) * tokens +
                   pair_flops * (double)load->attention_pairs / 0.6;
    double memory_s = bytes / ranks / gpu->bytes_per_s;
    double compute_s = flops / ranks / gpu->flops_per_s;
    double busy_s = memory_s > compute_s ? memory_s : compute_s;
    time_ps total = llround(busy_s * 1e12) + model_step_kernels(model) * gpu->kernel_gap;
    if (tp > 1) {
        double message_s = tokens * model->hidden * 2.0 / gpu->allreduce_bytes_per_s;
        time_ps allreduce = gpu->allreduce_latency + llround(message_s * 1e12);
        total += 2 * (time_ps)model->layers_count * allreduce;
    }
    return total;
}

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
 * - all-reduce 10 us + bytes / 300 GB/s, and the same for the exchange of experts and from
 *   one pipeline stage to the next: uncalibrated.
 */
#define HOST_AND_LINK_COSTS                                                                       \
    .kernel_gap = 1300000, .launch = 2 * PS_PER_US, .graph_launch = 2500000,                      \
    .graph_node = PS_PER_NS, .allreduce_latency = 10 * PS_PER_US, .allreduce_bytes_per_s = 300e9, \
    .exchange_latency = 10 * PS_PER_US, .exchange_bytes_per_s = 300e9

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
    /* of a token in the MLP */
    uint64_t copies = m->experts_count > 0 ? m->experts_active + m->experts_shared : 1;
    uint64_t elements = 2 * 3 * hidden /* 2 x add+norm: two tensors in, one out in place of both */
                        + hidden + qkv /* QKV */
                        + 2 * qkv      /* RoPE + KV write */
                        + 2 * queries  /* attention */
                        + queries + hidden            /* O */
                        + copies * (hidden + 2 * mlp) /* gate-up */
                        + copies * 3 * mlp            /* SiLU x up */
                        + copies * (mlp + hidden);    /* down */
    return (double)(elements * m->layers_count * 2);
}

void cost_model_of(const struct model_shape *shape, struct cost_model *out)
{
    uint64_t layer_experts = shape->experts_active * model_expert_parameters(shape);
    uint64_t dense = model_active_parameters(shape) - model_expert_layers(shape) * layer_experts;
    *out = (struct cost_model){
        .shape = shape,
        .weight_bytes = (double)model_step_weight_bytes(shape),
        .kv_token_bytes = (double)model_kv_token_bytes(shape),
        .activation_token_bytes = activation_token_bytes(shape),
        .logits_bytes = 4.0 * shape->vocab, /* fp32, written once a sampled row */
        .dense_parameters = (double)dense,
        .pair_flops = (double)model_pair_flops(shape),
        .kernels_count = model_step_kernels(shape),
    };
}

/* What the memory and the arithmetic units need at least, in seconds. */
struct bounds {
    double memory_s;
    double compute_s;
};

/* Bytes of expert weights that one rank reads and FLOPs that it spends on them. */
static void add_experts(const struct model_shape *m, const struct step_ranks *ranks, double *bytes,
                        double *flops)
{
    double layer_weights = (double)model_expert_parameters(m) * model_expert_layers(m);
    double ep = ranks->ep;
    double pairs = (double)ranks->all_tokens * m->experts_active; /* token and expert */
    *bytes += model_experts_reached(m, ranks->all_tokens) / ep * layer_weights * m->weight_bytes;
    *flops += 2.0 * layer_weights * pairs / ep;
}

static struct bounds bounds_of(const struct gpu_shape *gpu, const struct cost_model *model,
                               const struct step_ranks *ranks, const struct step_load *load)
{
    double tokens = load->tokens_count;
    double bytes = model->weight_bytes + (double)load->kv_read_tokens * model->kv_token_bytes +
                   tokens * model->activation_token_bytes +
                   load->sampled_count * model->logits_bytes;
    /* Attention runs at 60 % of the GEMM rate (FlashAttention). */
    double pairs = (double)load->attention_pairs;
    double flops = 2.0 * model->dense_parameters * tokens + model->pair_flops * pairs / 0.6;
    if (model->shape->experts_count > 0) {
        add_experts(model->shape, ranks, &bytes, &flops);
    }
    if (ranks->tp > 1) {
        bytes /= ranks->tp;
        flops /= ranks->tp;
    }
    return (struct bounds){.memory_s = bytes / gpu->bytes_per_s,
                           .compute_s = flops / gpu->flops_per_s};
}

static time_ps fitted_time(const struct step_fit *fit, const struct step_load *load)
{
    uint64_t prompt_pairs = load->attention_pairs - load->kv_read_tokens;
    double ps = fit->base + fit->sequence * load->seqs_count +
                fit->kv_token * (double)load->kv_read_tokens +
                fit->prompt_token * (load->tokens_count - load->seqs_count) +
                fit->prompt_pair * (double)prompt_pairs;
    return llround(ps);
}

static time_ps time_of(const struct gpu_shape *gpu, const struct cost_model *model,
                       const struct step_ranks *ranks, const struct step_load *load,
                       const struct bounds *bounds)
{
    if (gpu->fit != NULL) {
        return fitted_time(gpu->fit, load);
    }
    double busy_s = bounds->memory_s > bounds->compute_s ? bounds->memory_s : bounds->compute_s;
    time_ps time = cost_round(busy_s * 1e12) + model->kernels_count * gpu->kernel_gap;
    if (ranks->tp > 1) {
        double tokens = load->tokens_count;
        double message_s = tokens * model->shape->hidden * 2.0 / gpu->allreduce_bytes_per_s;
        time_ps allreduce = gpu->allreduce_latency + llround(message_s * 1e12);
        time += 2 * (time_ps)model->shape->layers_count * allreduce;
    }
    return time;
}

static time_ps exchange_of(const struct gpu_shape *gpu, const struct model_shape *shape,
                           const struct step_ranks *ranks)
{
    if (ranks->ep <= 1 || shape->experts_count == 0) {
        return 0;
    }
    double others = (double)ranks->all_tokens * (ranks->ep - 1) / ranks->ep;
    double message_s = others * shape->hidden * 2.0 / gpu->exchange_bytes_per_s;
    time_ps one_way = gpu->exchange_latency + llround(message_s * 1e12);
    return 2 * (time_ps)model_expert_layers(shape) * one_way;
}

time_ps cost_step_time(const struct gpu_shape *gpu, const struct cost_model *model,
                       const struct step_ranks *ranks, const struct step_load *load)
{
    if (load->tokens_count == 0) {
        return 0;
    }
    struct bounds bounds = bounds_of(gpu, model, ranks, load);
    return time_of(gpu, model, ranks, load, &bounds) + exchange_of(gpu, model->shape, ranks);
}

bool cost_decodes_of(const struct gpu_shape *gpu, const struct cost_model *model, uint32_t tp,
                     uint32_t seqs_count, struct cost_decodes *out)
{
    double tokens = seqs_count;
    *out = (struct cost_decodes){
        .weight_bytes = model->weight_bytes,
        .kv_token_bytes = model->kv_token_bytes,
        .activation_bytes = tokens * model->activation_token_bytes,
        .logits_bytes = seqs_count * model->logits_bytes,
        .bytes_per_s = gpu->bytes_per_s,
        .dense_flops = 2.0 * model->dense_parameters * tokens,
        .pair_flops = model->pair_flops,
        .flops_per_s = gpu->flops_per_s,
        .gaps = model->kernels_count * gpu->kernel_gap,
    };
    return gpu->fit == NULL && tp == 1 && model->shape->experts_count == 0 && seqs_count > 0;
}

static uint32_t parts_in_a_million(double part, double whole)
{
    double ppm = whole > 0.0 ? part / whole * 1e6 : 0.0;
    return ppm < 1e6 ? (uint32_t)llround(ppm) : 1000000;
}

void cost_step_model(const struct gpu_shape *gpu, const struct cost_model *model,
                     const struct step_ranks *ranks, const struct step_load *load,
                     struct step_cost *out)
{
    *out = (struct step_cost){0};
    if (load->tokens_count == 0) {
        return;
    }
    struct bounds bounds = bounds_of(gpu, model, ranks, load);
    out->exchange = exchange_of(gpu, model->shape, ranks);
    out->time = time_of(gpu, model, ranks, load, &bounds) + out->exchange;
    double time_s = (double)out->time / 1e12;
    out->sm_ppm = parts_in_a_million(bounds.compute_s, time_s);
    out->bandwidth_ppm = parts_in_a_million(bounds.memory_s, time_s);
}

void cost_step_ranks(const struct gpu_shape *gpu, const struct model_shape *model,
                     const struct step_ranks *ranks, const struct step_load *load,
                     struct step_cost *out)
{
    struct cost_model prepared;
    cost_model_of(model, &prepared);
    cost_step_model(gpu, &prepared, ranks, load, out);
}

time_ps cost_step(const struct gpu_shape *gpu, const struct model_shape *model, uint32_t tp,
                  const struct step_load *load)
{
    struct step_ranks ranks = {.tp = tp, .ep = 1, .all_tokens = load->tokens_count};
    struct step_cost cost;
    cost_step_ranks(gpu, model, &ranks, load, &cost);
    return cost.time;
}

time_ps cost_handover(const struct gpu_shape *gpu, const struct model_shape *model, uint32_t tp,
                      uint32_t tokens_count)
{
    double bytes = 2.0 * 2.0 * (double)tokens_count * model->hidden / tp;
    return gpu->exchange_latency + llround(bytes / gpu->exchange_bytes_per_s * 1e12);
}

/* Of a GPU's memory, for weights and KV cache together (vLLM's default). */
static const double memory_use = 0.9;

/* KV heads are divided over the ranks; with more ranks than heads they are repeated. */
static double kv_token_bytes(const struct model_shape *m, const struct cost_placement *p)
{
    uint32_t split = p->tp < m->kv_heads_count ? p->tp : m->kv_heads_count;
    return (double)model_kv_token_bytes(m) / split / p->pp;
}

/* Experts are divided over all data-parallel ranks, the rest is on each. */
static double weight_bytes(const struct model_shape *m, const struct cost_placement *p)
{
    double experts = (double)model_expert_parameters(m) * m->experts_count *
                     model_expert_layers(m) * m->weight_bytes;
    double rest = (double)model_weight_bytes(m) - experts;
    return (rest + experts / p->engines_count) / p->tp / p->pp;
}

void cost_memory(const struct gpu_shape *gpu, const struct model_shape *model,
                 const struct cost_placement *placement, struct cost_memory *out)
{
    out->usable_bytes = (double)gpu->memory_bytes * memory_use / placement->contexts;
    out->weight_bytes = weight_bytes(model, placement);
    out->block_bytes = kv_token_bytes(model, placement) * placement->block_tokens;
    out->blocks = (out->usable_bytes - out->weight_bytes) / out->block_bytes;
}

/*
 * cost.h - what a step costs: the roofline of a device (the host's costs:
 * engine/model/host_profile.h). Pure arithmetic on integers and doubles, no clock: the emulated
 * device and the simulator use this same code.
 */
#ifndef ENGINE_DEVICE_COST_H
#define ENGINE_DEVICE_COST_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/base/time.h"
#include "engine/model/host_profile.h"
#include "engine/model/shapes.h"

/*
 * The time of a step as fitted to a measured run, in ps: base + sequence x sequences + kv_token x
 * KV tokens read + prompt_token x tokens beyond one of each sequence + prompt_pair x (attention
 * pairs - KV tokens read), so that decoding sequences count in the first three terms alone.
 */
struct step_fit {
    double base;
    double sequence;
    double kv_token;
    double prompt_token;
    double prompt_pair;
};

struct gpu_shape {
    const char *name;   /* "h100" */
    double bytes_per_s; /* achievable, not nominal */
    double flops_per_s; /* achievable, bf16 dense */
    uint64_t memory_bytes;
    time_ps kernel_gap;        /* hand-over from kernel to kernel, 1.3 us on H100 */
    time_ps launch;            /* host CPU time of one eager kernel launch, 2.0 us */
    time_ps graph_launch;      /* host CPU time of one graph launch: 2.5 us ... */
    time_ps graph_node;        /* ... + 1 ns a node */
    time_ps allreduce_latency; /* 10 us + bytes / allreduce_bytes_per_s; uncalibrated */
    double allreduce_bytes_per_s;
    time_ps exchange_latency; /* all-to-all of experts: 10 us + bytes / exchange_bytes_per_s;
                                 uncalibrated */
    double exchange_bytes_per_s;
    double pcie_bytes_per_s;
    bool calibrated;            /* the numbers come from a measured file, not from this table */
    const struct step_fit *fit; /* a step's time, experts' exchange left out; NULL: the roofline */
};

const struct gpu_shape *gpu_shape_find(const char *name); /* NULL if unknown */
const struct gpu_shape *gpu_shape_at(uint32_t index);     /* NULL past the end */

/* One step as the device sees it. */
struct step_load {
    uint32_t seqs_count;      /* sequences in the batch */
    uint32_t tokens_count;    /* tokens computed */
    uint64_t kv_read_tokens;  /* KV tokens read: sum of the contexts */
    uint64_t attention_pairs; /* sum over sequences of tokens x context: attention FLOPs */
    uint32_t sampled_count;   /* rows of the LM head */
};

/*
 * Adds one sequence: `scheduled` tokens after `computed` ones. Attention is causal, so the i-th new
 * token sees computed + i tokens.
 */
static inline void step_load_add(struct step_load *load, uint32_t computed, uint32_t scheduled,
                                 bool samples)
{
    uint64_t new_tokens = scheduled;
    load->seqs_count++;
    load->tokens_count += scheduled;
    load->kv_read_tokens += (uint64_t)computed + new_tokens;
    load->attention_pairs += new_tokens * computed + new_tokens * (new_tokens + 1) / 2;
    load->sampled_count += samples ? 1 : 0;
}

/* The ranks that a step is computed with. */
struct step_ranks {
    uint32_t tp;
    uint32_t ep;         /* data-parallel ranks that the experts are divided over; 1: none */
    uint64_t all_tokens; /* tokens of all ep ranks in this step, padding included */
};

struct step_cost {
    time_ps time;     /* the GPU is busy */
    time_ps exchange; /* of it, tokens travel to experts and back */
    uint32_t sm_ppm;  /* of its peak FLOPs, what the step uses on the average: what it takes */
    uint32_t bandwidth_ppm; /* from others on a shared GPU. Uncalibrated. The same of bandwidth. */
};

/* What the steps of a model cost, as far as it follows from its shape alone. */
struct cost_model {
    const struct model_shape *shape;
    double weight_bytes; /* read in each step, besides experts */
    double kv_token_bytes;
    double activation_token_bytes;
    double logits_bytes;     /* of a sampled row */
    double dense_parameters; /* that a token goes through, besides experts */
    double pair_flops;
    uint32_t kernels_count;
};

void cost_model_of(const struct model_shape *shape, struct cost_model *out);

/*
 * One step of one rank.
 *
 * A mixture of experts reads only the experts that the tokens of all ranks reach, of those that lie
 * on this rank (1/ep of them), and computes all tokens that go to them; attention and the rest are
 * this rank's own. In each layer the tokens of all ranks are gathered and the results scattered
 * back (vLLM's default exchange). Uncalibrated: routing is uniform, and experts run at the
 * roofline.
 */
void cost_step_model(const struct gpu_shape *gpu, const struct cost_model *model,
                     const struct step_ranks *ranks, const struct step_load *load,
                     struct step_cost *out);
/* The same, for who asks once. */
void cost_step_ranks(const struct gpu_shape *gpu, const struct model_shape *model,
                     const struct step_ranks *ranks, const struct step_load *load,
                     struct step_cost *out);

/* cost.time of these alone. */
time_ps cost_step_time(const struct gpu_shape *gpu, const struct cost_model *model,
                       const struct step_ranks *ranks, const struct step_load *load);

/* What steps have in common in which the same number of sequences compute a token each and sample;
 * on one rank, of a model without experts. */
struct cost_decodes {
    double weight_bytes;
    double kv_token_bytes;
    double activation_bytes;
    double logits_bytes;
    double bytes_per_s;
    double dense_flops;
    double pair_flops;
    double flops_per_s;
    time_ps gaps;
};

/* False: such steps are not all that there is to it. */
bool cost_decodes_of(const struct gpu_shape *gpu, const struct cost_model *model, uint32_t tp,
                     uint32_t seqs_count, struct cost_decodes *out);

/* As llround() of what is not negative, without a call. */
static inline time_ps cost_round(double ps)
{
    time_ps whole = (time_ps)ps;
    return ps - (double)whole >= 0.5 ? whole + 1 : whole;
}

/* cost_step_time() of one of them, which reads so many tokens of KV cache: the same arithmetic in
 * the same order, so that the result is the same to the picosecond. */
static inline time_ps cost_decodes_time(const struct cost_decodes *d, uint64_t kv_read_tokens)
{
    double contexts = (double)(int64_t)kv_read_tokens; /* one instruction, without the cast more */
    double bytes =
        d->weight_bytes + contexts * d->kv_token_bytes + d->activation_bytes + d->logits_bytes;
    double flops = d->dense_flops + d->pair_flops * contexts / 0.6;
    double memory_s = bytes / d->bytes_per_s;
    double compute_s = flops / d->flops_per_s;
    return cost_round((memory_s > compute_s ? memory_s : compute_s) * 1e12) + d->gaps;
}

/*
 * Time the GPU is busy with one step on 1/tp of the model: max(bytes / bandwidth, flops / peak) +
 * kernels x gap
 * (+ 2 all-reduces a layer when tp > 1), all experts on this rank.
 */
time_ps cost_step(const struct gpu_shape *gpu, const struct model_shape *model, uint32_t tp,
                  const struct step_load *load);

/*
 * From the end of one pipeline stage to the begin of the next: each of the tp ranks sends its part
 * of the hidden states and the residual, bf16 (vLLM's intermediate tensors). Uncalibrated.
 */
time_ps cost_handover(const struct gpu_shape *gpu, const struct model_shape *model, uint32_t tp,
                      uint32_t tokens_count);

/* How a model lies on GPUs. */
struct cost_placement {
    uint32_t tp;
    uint32_t pp;
    uint32_t engines_count; /* data-parallel ranks: experts are divided over them */
    uint32_t contexts;      /* engine cores on one GPU, each with weights of its own */
    uint32_t block_tokens;
};

/* One engine core's part of one GPU's memory. */
struct cost_memory {
    double usable_bytes; /* for weights and KV cache; the rest is for activations and the driver */
    double weight_bytes;
    double block_bytes; /* of one KV block */
    double blocks;      /* KV blocks that fit beside the weights; may be negative */
};

void cost_memory(const struct gpu_shape *gpu, const struct model_shape *model,
                 const struct cost_placement *placement, struct cost_memory *out);

#endif

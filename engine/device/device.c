/*
 * device.c - owns the choice of a device, its memory plan, and the calls through its table. Driven
 * by executors and by the checks before a start. Must not know how a device computes.
 */
#include "engine/device/device.h"

#include "engine/device/cost.h"
#include "engine/device/emulated.h"

struct parts {
    const struct gpu_shape *gpu;
    const struct model_shape *model;
};

static enum status find_parts(const struct topology *topology, struct parts *out,
                              struct error *error)
{
    struct parts p = {gpu_shape_find(topology->gpu), model_shape_find(topology->model)};
    if (p.gpu == NULL) {
        return error_set(error, STATUS_INVALID, "gpu: unknown GPU '%s'", topology->gpu);
    }
    if (p.model == NULL) {
        return error_set(error, STATUS_INVALID, "model: unknown model '%s'", topology->model);
    }
    if (topology->tp == 0 || topology->pp == 0 || topology->block_tokens == 0 ||
        topology->engines_count == 0) {
        return error_set(
            error, STATUS_INVALID,
            "tp, pp, block_tokens and engines_count: want at least 1, got %u, %u, %u, %u",
            topology->tp, topology->pp, topology->block_tokens, topology->engines_count);
    }
    *out = p;
    return STATUS_OK;
}

enum status device_plan_kv_blocks(const struct topology *topology, uint32_t *blocks,
                                  struct error *error)
{
    struct parts p = {0};
    TRY(find_parts(topology, &p, error));
    ASSERT(p.gpu != NULL && p.model != NULL);
    struct cost_placement placement = {.tp = topology->tp,
                                       .pp = topology->pp,
                                       .engines_count = topology->engines_count,
                                       .contexts = topology_engines_per_gpu(topology),
                                       .block_tokens = topology->block_tokens};
    struct cost_memory memory;
    cost_memory(p.gpu, p.model, &placement, &memory);
    double usable = memory.usable_bytes;
    double weights = memory.weight_bytes;
    double fit = memory.blocks;
    if (fit < 2.0) { /* the null block and one for use */
        return error_set(
            error, STATUS_INVALID,
            "model larger than the GPU: %s needs %.1f GB of weights on each GPU "
            "(tensor_parallel %u, pipeline_parallel %u), %s has %.1f GB for weights and KV cache "
            "(90 %% of %.1f GB, for %u engine core%s)",
            p.model->name, weights / 1e9, topology->tp, topology->pp, p.gpu->name, usable / 1e9,
            (double)p.gpu->memory_bytes / 1e9, placement.contexts,
            placement.contexts == 1 ? "" : "s");
    }
    if (topology->num_gpu_blocks == 0) {
        *blocks = fit < (double)UINT32_MAX ? (uint32_t)fit : UINT32_MAX;
        return STATUS_OK;
    }
    if ((double)topology->num_gpu_blocks > fit) {
        return error_set(
            error, STATUS_INVALID,
            "num_gpu_blocks: %u blocks of %u tokens are %.1f GB, but beside %s's weights "
            "(%.1f GB) only %.0f blocks fit on %s",
            topology->num_gpu_blocks, topology->block_tokens,
            topology->num_gpu_blocks * memory.block_bytes / 1e9, p.model->name, weights / 1e9, fit,
            p.gpu->name);
    }
    *blocks = topology->num_gpu_blocks;
    return STATUS_OK;
}

enum status device_open(const struct device_options *options, struct device *out,
                        struct error *error)
{
    struct parts p = {0};
    uint32_t kv_blocks = 0;
    TRY(find_parts(options->topology, &p, error));
    TRY(device_plan_kv_blocks(options->topology, &kv_blocks, error));
    return device_emulated_open(options, p.gpu, p.model, kv_blocks, out, error);
}

enum status device_submit(struct device *d, const struct step_plan *plan, struct error *error)
{
    return d->ops->submit(d->state, plan, error);
}

void device_lockstep(struct device *d, const struct device_lockstep *agreed)
{
    if (d->ops->lockstep != NULL) {
        d->ops->lockstep(d->state, agreed);
    }
}

void device_wait(struct device *d, uint64_t step, struct device_result *result)
{
    d->ops->wait(d->state, step, result);
}

bool device_poll(struct device *d, uint64_t step)
{
    return d->ops->poll(d->state, step);
}

uint32_t device_kv_blocks(struct device *d)
{
    return d->ops->kv_blocks(d->state);
}

void device_close(struct device *d)
{
    if (d->ops != NULL) {
        d->ops->close(d->state);
        *d = (struct device){0};
    }
}

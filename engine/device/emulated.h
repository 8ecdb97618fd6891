/*
 * emulated.h - the emulated device's own constructor. Private to this room: callers use
 * device_open().
 */
#ifndef ENGINE_DEVICE_EMULATED_H
#define ENGINE_DEVICE_EMULATED_H

#include "engine/device/cost.h"
#include "engine/device/device.h"

enum {
    EMULATED_EOS_TOKEN = 257,
    EMULATED_TOKENS_MAX = 1000, /* the end is forced at this output token */
    EMULATED_GRAPH_SEQS_MAX = 512,
};

MUST_CHECK enum status device_emulated_open(const struct device_options *options,
                                            const struct gpu_shape *gpu,
                                            const struct model_shape *model, uint32_t kv_blocks,
                                            struct device *out, struct error *error);

#endif

/*
 * plan_codec.h - step plans and step results as flat bytes for the rings between an engine core and
 * its workers. Both ends run the same program, so numbers are in the machine's own layout. A
 * decoder trusts no count and no index in the bytes.
 */
#ifndef ENGINE_NODE_PLAN_CODEC_H
#define ENGINE_NODE_PLAN_CODEC_H

#include "engine/base/status.h"
#include "engine/core/engine_core.h"
#include "engine/device/device.h"

size_t plan_encoded_bytes(const struct step_plan *plan);
/* Writes plan_encoded_bytes(plan) bytes. */
void plan_encode(const struct step_plan *plan, void *out);
/* Puts what ranks in lock-step agreed on for this step into an encoded plan. */
void plan_encode_agreed(void *encoded, const struct device_lockstep *agreed);
/* False: the plan, which plan_decode() took, carries no agreement. */
bool plan_decode_agreed(const void *data, struct device_lockstep *agreed);
/*
 * The plan's arrays point into `data`, which must be aligned to 8 bytes. PROTOCOL: bytes that are
 * not a plan, slots at or above slots_max, ranges beyond the arrays, counts that do not add up.
 */
MUST_CHECK enum status plan_decode(const void *data, size_t bytes, uint32_t slots_max,
                                   struct step_plan *out, struct error *error);

size_t result_encoded_bytes(const struct step_result *result);
void result_encode(const struct step_result *result, void *out);
/* As plan_decode(); at most tokens_max tokens. */
MUST_CHECK enum status result_decode(const void *data, size_t bytes, uint32_t tokens_max,
                                     struct step_result *out, struct error *error);

#endif

/*
 * plan_codec.c - owns the flat form of plans and results: a header with counts, then the arrays one
 * after the other. Driven by the executor and the workers. Must not read beyond the bytes it is
 * given, whatever they say.
 */
#include "engine/node/plan_codec.h"

#include <string.h>

enum {
    PLAN_MAGIC = 0x504c414e,
    RESULT_MAGIC = 0x52534c54
};

struct plan_header {
    uint32_t magic;
    uint32_t seqs_count;
    uint64_t step;
    uint32_t tokens_count;
    uint32_t block_ids_count;
    uint32_t token_ids_count;
    uint32_t finished_slots_count;
    /* struct device_lockstep; without tokens there is none */
    uint32_t agreed_tokens;
    uint32_t agreed_all_tokens;
    uint32_t agreed_graphs;
    uint32_t padding;
};

struct result_header {
    uint32_t magic;
    uint32_t tokens_count;
    uint64_t step;
};

_Static_assert(sizeof(struct plan_header) % 8 == 0, "the sequences behind it are aligned to 8");
_Static_assert(sizeof(struct step_seq) % 8 == 0, "so are those behind one another");

static size_t plan_bytes(const struct plan_header *h)
{
    size_t words = (size_t)h->block_ids_count + h->token_ids_count + h->finished_slots_count;
    return sizeof *h + h->seqs_count * sizeof(struct step_seq) + words * sizeof(uint32_t);
}

static struct plan_header header_of(const struct step_plan *plan)
{
    return (struct plan_header){
        .magic = PLAN_MAGIC,
        .seqs_count = plan->seqs_count,
        .step = plan->step,
        .tokens_count = plan->tokens_count,
        .block_ids_count = plan->block_ids_count,
        .token_ids_count = plan->token_ids_count,
        .finished_slots_count = plan->finished_slots_count,
    };
}

size_t plan_encoded_bytes(const struct step_plan *plan)
{
    struct plan_header header = header_of(plan);
    return plan_bytes(&header);
}

static unsigned char *put(unsigned char *at, const void *data, size_t bytes)
{
    if (bytes > 0) { /* data may be NULL then */
        memcpy(at, data, bytes);
    }
    return at + bytes;
}

void plan_encode(const struct step_plan *plan, void *out)
{
    struct plan_header header = header_of(plan);
    unsigned char *at = put(out, &header, sizeof header);
    at = put(at, plan->seqs, plan->seqs_count * sizeof *plan->seqs);
    at = put(at, plan->block_ids, plan->block_ids_count * sizeof *plan->block_ids);
    at = put(at, plan->token_ids, plan->token_ids_count * sizeof *plan->token_ids);
    (void)put(at, plan->finished_slots, plan->finished_slots_count * sizeof *plan->finished_slots);
}

void plan_encode_agreed(void *encoded, const struct device_lockstep *agreed)
{
    struct plan_header header;
    memcpy(&header, encoded, sizeof header);
    header.agreed_tokens = agreed->tokens;
    header.agreed_all_tokens = agreed->all_tokens;
    header.agreed_graphs = agreed->graphs ? 1 : 0;
    memcpy(encoded, &header, sizeof header);
}

bool plan_decode_agreed(const void *data, struct device_lockstep *agreed)
{
    struct plan_header header;
    memcpy(&header, data, sizeof header);
    *agreed = (struct device_lockstep){.tokens = header.agreed_tokens,
                                       .all_tokens = header.agreed_all_tokens,
                                       .graphs = header.agreed_graphs != 0};
    return agreed->tokens > 0;
}

static bool range_inside(uint32_t first, uint32_t count, uint32_t whole)
{
    return first <= whole && count <= whole - first;
}

/* NULL, or what is wrong with the plan's contents. */
static const char *plan_fault(const struct step_plan *plan, uint32_t slots_max)
{
    uint64_t tokens = 0;
    for (uint32_t i = 0; i < plan->seqs_count; i++) {
        const struct step_seq *s = &plan->seqs[i];
        if (s->slot >= slots_max) {
            return "slot out of range";
        }
        if (s->blocks_count > 0 &&
            !range_inside(s->blocks_first, s->blocks_count, plan->block_ids_count)) {
            return "blocks out of range";
        }
        if (s->tokens_count > 0 &&
            !range_inside(s->tokens_first, s->tokens_count, plan->token_ids_count)) {
            return "tokens out of range";
        }
        tokens += s->scheduled_tokens;
    }
    if (tokens != plan->tokens_count) {
        return "token count does not add up";
    }
    for (uint32_t i = 0; i < plan->finished_slots_count; i++) {
        if (plan->finished_slots[i] >= slots_max) {
            return "finished slot out of range";
        }
    }
    return NULL;
}

enum status plan_decode(const void *data, size_t bytes, uint32_t slots_max, struct step_plan *out,
                        struct error *error)
{
    struct plan_header h;
    if (bytes < sizeof h || (uintptr_t)data % 8 != 0) {
        return error_set(error, STATUS_PROTOCOL, "plan: %zu bytes are no plan", bytes);
    }
    memcpy(&h, data, sizeof h);
    if (h.magic != PLAN_MAGIC || plan_bytes(&h) != bytes) {
        return error_set(error, STATUS_PROTOCOL, "plan: %zu bytes are no plan", bytes);
    }
    const struct step_seq *seqs = (const void *)((const unsigned char *)data + sizeof h);
    const uint32_t *block_ids = (const void *)(seqs + h.seqs_count);
    const uint32_t *token_ids = block_ids + h.block_ids_count;
    struct step_plan plan = {
        .step = h.step,
        .seqs = seqs,
        .seqs_count = h.seqs_count,
        .tokens_count = h.tokens_count,
        .block_ids = block_ids,
        .block_ids_count = h.block_ids_count,
        .token_ids = token_ids,
        .token_ids_count = h.token_ids_count,
        .finished_slots = token_ids + h.token_ids_count,
        .finished_slots_count = h.finished_slots_count,
    };
    const char *fault = plan_fault(&plan, slots_max);
    if (fault != NULL) {
        return error_set(error, STATUS_PROTOCOL, "plan of step %llu: %s",
                         (unsigned long long)plan.step, fault);
    }
    *out = plan;
    return STATUS_OK;
}

size_t result_encoded_bytes(const struct step_result *result)
{
    return sizeof(struct result_header) + result->tokens_count * sizeof *result->tokens;
}

void result_encode(const struct step_result *result, void *out)
{
    struct result_header header = {
        .magic = RESULT_MAGIC, .tokens_count = result->tokens_count, .step = result->step};
    unsigned char *at = put(out, &header, sizeof header);
    (void)put(at, result->tokens, result->tokens_count * sizeof *result->tokens);
}

enum status result_decode(const void *data, size_t bytes, uint32_t tokens_max,
                          struct step_result *out, struct error *error)
{
    struct result_header h;
    if (bytes < sizeof h || (uintptr_t)data % 8 != 0) {
        return error_set(error, STATUS_PROTOCOL, "result: %zu bytes are no result", bytes);
    }
    memcpy(&h, data, sizeof h);
    if (h.magic != RESULT_MAGIC || h.tokens_count > tokens_max ||
        bytes != sizeof h + h.tokens_count * sizeof(uint32_t)) {
        return error_set(error, STATUS_PROTOCOL, "result: %zu bytes are no result", bytes);
    }
    *out = (struct step_result){
        .step = h.step,
        .tokens = (const void *)((const unsigned char *)data + sizeof h),
        .tokens_count = h.tokens_count,
    };
    return STATUS_OK;
}

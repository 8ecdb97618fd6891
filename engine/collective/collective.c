/*
 * collective.c - owns what an all-reduce is, whatever carries it: that a call after a failure fails
 * again, how contributions are compared and reduced, and what ranks agree on before a forward.
 * Driven by engine cores in lock-step. Must not wait: the transports do.
 */
#include "engine/collective/collective_transport.h"

#include <stdio.h>
#include <string.h>

/* ---- reduction ---- */

void collective_contribution_set(struct collective_contribution *own,
                                 const struct collective_call *call, const int32_t *values)
{
    own->tag = call->tag;
    own->op = (uint32_t)call->op;
    own->count = call->count;
    memcpy(own->values, values, call->count * sizeof values[0]);
}

static enum status check_agreement(const struct collective *c,
                                   const struct collective_contribution *const *all,
                                   struct error *error)
{
    const struct collective_contribution *own = all[c->rank];
    for (uint32_t r = 0; r < c->ranks_count; r++) {
        const struct collective_contribution *other = all[r];
        if (other->tag != own->tag || other->op != own->op || other->count != own->count) {
            return error_set(
                error, STATUS_PROTOCOL,
                "%s: call %u of rank %u has tag %llu, operation %u and %u values, that "
                "of rank %u %llu, %u and %u",
                c->name, c->calls_count, c->rank, (unsigned long long)own->tag, own->op, own->count,
                r, (unsigned long long)other->tag, other->op, other->count);
        }
    }
    return STATUS_OK;
}

static int64_t reduce_one(const struct collective_contribution *const *all, uint32_t ranks_count,
                          uint32_t i)
{
    int64_t result = all[0]->values[i];
    for (uint32_t r = 1; r < ranks_count; r++) {
        int64_t value = all[r]->values[i];
        switch ((enum collective_op)all[0]->op) {
        case COLLECTIVE_SUM:
            result += value;
            break;
        case COLLECTIVE_MIN:
            result = value < result ? value : result;
            break;
        case COLLECTIVE_MAX:
            result = value > result ? value : result;
            break;
        }
    }
    return result;
}

/* The sums are known to fit before the first is written. */
enum status collective_reduce(const struct collective *c,
                              const struct collective_contribution *const *all, int32_t *values,
                              struct error *error)
{
    TRY(check_agreement(c, all, error));
    uint32_t count = all[c->rank]->count;
    for (uint32_t i = 0; i < count; i++) {
        int64_t result = reduce_one(all, c->ranks_count, i);
        if (result > INT32_MAX || result < INT32_MIN) {
            return error_set(error, STATUS_INVALID, "%s: sum %lld of value %u does not fit",
                             c->name, (long long)result, i);
        }
    }
    for (uint32_t i = 0; i < count; i++) {
        values[i] = (int32_t)reduce_one(all, c->ranks_count, i);
    }
    return STATUS_OK;
}

/* ---- time-outs ---- */

void collective_name_ranks(uint64_t missing, uint64_t joined, char out[300])
{
    size_t used = 0;
    out[0] = '\0';
    for (uint32_t r = 0; r < COLLECTIVE_RANKS_MAX && used < 300 - 40; r++) {
        if ((missing >> r & 1) != 0) {
            used += (size_t)snprintf(out + used, 300 - used, "%s%u%s", used > 0 ? ", " : "", r,
                                     (joined >> r & 1) != 0 ? "" : " (never joined)");
        }
    }
}

enum status collective_timed_out(const struct collective *c, const struct collective_call *call,
                                 const char *missing, struct error *error)
{
    return error_set(error, STATUS_TIMEOUT,
                     "%s: rank %u waited %.3f s in call %u (tag %llu) for rank %s", c->name,
                     c->rank, (double)call->timeout_ns / 1e9, c->calls_count,
                     (unsigned long long)call->tag, missing);
}

/* ---- calls ---- */

static void break_off(struct collective *c, const struct error *why)
{
    if (c->star != NULL) {
        star_break_off(c, why);
    } else {
        shared_break_off(c);
    }
}

enum status collective_all_reduce(struct collective *c, const struct collective_call *call,
                                  int32_t *values, struct error *error)
{
    ASSERT(c->rank != UINT32_MAX && call->count > 0 && call->count <= COLLECTIVE_VALUES_MAX);
    if (c->broken != STATUS_OK) {
        return error_set(error, c->broken, "%s: rank %u goes on after a failure: %s", c->name,
                         c->rank, status_text(c->broken));
    }
    struct error why = {0};
    c->calls_count++;
    c->broken = c->star != NULL ? star_run_call(c, call, values, &why)
                                : shared_run_call(c, call, values, &why);
    if (c->broken == STATUS_OK) {
        return STATUS_OK;
    }
    break_off(c, &why);
    return error_set(error, c->broken, "%s", why.text);
}

void collective_break_off(struct collective *c)
{
    struct error why = {0};
    c->broken = error_set(&why, STATUS_DIED, "%s: rank %u broke off", c->name, c->rank);
    break_off(c, &why);
}

void collective_close(struct collective *c)
{
    if (c->star != NULL) {
        star_close(c);
    } else if (c->header != NULL) {
        shared_close(c);
    }
    *c = (struct collective){.fd = -1};
}

enum status collective_agree(struct collective *c, uint64_t tag, int64_t timeout_ns,
                             const struct collective_step *own, struct collective_agreement *out,
                             struct error *error)
{
    uint32_t ranks_count = c->ranks_count;
    int32_t matrix[2 * COLLECTIVE_RANKS_MAX] = {0}; /* tokens of each rank, then graphs */
    if (own->tokens > INT32_MAX) {
        return error_set(error, STATUS_INVALID, "%s: %u tokens", c->name, own->tokens);
    }
    matrix[c->rank] = (int32_t)own->tokens;
    matrix[ranks_count + c->rank] = own->graph ? 1 : 0;
    struct collective_call call = {
        .tag = tag, .op = COLLECTIVE_SUM, .count = 2 * ranks_count, .timeout_ns = timeout_ns};
    TRY(collective_all_reduce(c, &call, matrix, error));
    struct collective_agreement a = {.graph = true};
    uint64_t unpadded = 0;
    for (uint32_t r = 0; r < ranks_count; r++) {
        uint32_t tokens = (uint32_t)matrix[r];
        a.largest_tokens = tokens > a.largest_tokens ? tokens : a.largest_tokens;
        unpadded += tokens;
        a.graph = a.graph && matrix[ranks_count + r] != 0;
    }
    a.own_tokens = a.graph ? a.largest_tokens : own->tokens;
    a.all_tokens = a.graph ? (uint64_t)a.largest_tokens * ranks_count : unpadded;
    *out = a;
    return STATUS_OK;
}

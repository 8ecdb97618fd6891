/*
 * batches.c - owns the looks of batches.h. Driven by measure.c while a window passes. Must cost the
 * measured system nothing: relaxed loads of a few counters, and no memory is asked for after the
 * first look.
 */
#include "harness/run/batches.h"

#include <stdlib.h>

#include "engine/base/clock.h"

static uint64_t part_ns(const struct ledger_thread *t, enum batches_part part)
{
    switch (part) {
    case BATCHES_BUSY:
        return ledger_get(&t->busy_ns);
    case BATCHES_GPU:
        return ledger_get(&t->gpu_busy_ns) + ledger_get(&t->gpu_switch_ns);
    case BATCHES_LOCK:
        return ledger_get(&t->lock_held_ns);
    case BATCHES_PARTS:
        break;
    }
    return 0;
}

static uint64_t *value_at(const struct batches *b, uint32_t look, uint32_t slot)
{
    return &b->values_ns[((size_t)look * b->slots_count + slot) * BATCHES_PARTS];
}

void batches_look(struct batches *b, const struct ledger *l)
{
    batches_look_at(b, l->threads, ledger_threads_count(l), clock_now_ns());
}

void batches_look_at(struct batches *b, const struct ledger_thread *slots, uint32_t slots_count,
                     int64_t at_ns)
{
    const uint32_t looks_max = LOAD_BATCHES_MAX + 1;
    if (b->values_ns == NULL) {
        b->values_ns =
            calloc((size_t)looks_max * slots_count * BATCHES_PARTS + 1, sizeof *b->values_ns);
        b->slots_count = b->values_ns != NULL ? slots_count : 0;
    }
    if (b->values_ns == NULL || b->looks_count == looks_max) {
        return;
    }
    uint32_t look = b->looks_count++;
    b->at_ns[look] = at_ns;
    for (uint32_t i = 0; i < b->slots_count; i++) {
        for (uint32_t part = 0; part < BATCHES_PARTS; part++) {
            value_at(b, look, i)[part] = part_ns(&slots[i], (enum batches_part)part);
        }
    }
}

void batches_free(struct batches *b)
{
    free(b->values_ns);
    *b = (struct batches){.looks_count = 0};
}

uint32_t batches_add(const struct batches *b, uint32_t slot, enum batches_part part,
                     double fracs[LOAD_BATCHES_MAX])
{
    if (slot >= b->slots_count || b->looks_count < 2) {
        return 0;
    }
    for (uint32_t i = 0; i + 1 < b->looks_count; i++) {
        uint64_t from = value_at(b, i, slot)[part];
        uint64_t to = value_at(b, i + 1, slot)[part];
        double wall_ns = (double)(b->at_ns[i + 1] - b->at_ns[i]);
        fracs[i] += to > from && wall_ns > 0 ? (double)(to - from) / wall_ns : 0;
    }
    return b->looks_count - 1;
}

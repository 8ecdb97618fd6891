/*
 * warmup.c - owns the rule that ends a warm-up (warmup.h). Driven by the watch over a run; only
 * reads the client's timeline. Must not take a start for settled in which nothing was served yet.
 */
#include "harness/run/warmup.h"

#include <stdlib.h>

#include "harness/analysis/steady.h"

/* The timeline up to `count`, as two series. */
struct series {
    double *inflight;
    double *tokens;
};

static void fill(const struct load_shared *client, uint32_t count, const struct series *s)
{
    double inflight = 0;
    for (uint32_t i = 0; i < count; i++) {
        const struct load_bucket *b = &client->timeline[i];
        uint32_t changed = atomic_load_explicit(&b->inflight_plus_1, memory_order_relaxed);
        inflight = changed > 0 ? changed - 1 : inflight;
        s->inflight[i] = inflight;
        s->tokens[i] = atomic_load_explicit(&b->tokens, memory_order_relaxed);
    }
}

static bool have_turned_over(const struct load_header *h)
{
    uint64_t ended = 0;
    for (int i = LOAD_OUTCOME_OK; i < LOAD_OUTCOMES_COUNT; i++) {
        ended += load_get(&h->outcome_count[i]);
    }
    return ended > 0 && ended >= load_get(&h->inflight) && load_get(&h->tokens) > 0;
}

bool warmup_is_over(struct warmup *w, const struct load_shared *client, int64_t now_ns)
{
    int64_t start_ns = atomic_load(&client->header->start_ns);
    int64_t whole = start_ns > 0 && now_ns > start_ns ? (now_ns - start_ns) / LOAD_BUCKET_NS : 0;
    uint32_t count = (uint32_t)(whole < LOAD_BUCKETS_COUNT ? whole : LOAD_BUCKETS_COUNT);
    if (w->is_over || count < w->looked_count + STEADY_BATCH_VALUES || count < STEADY_VALUES_MIN ||
        !have_turned_over(client->header)) {
        return false;
    }
    w->looked_count = count;
    struct series s = {calloc(count, sizeof(double)), calloc(count, sizeof(double))};
    ASSERT(s.inflight != NULL && s.tokens != NULL);
    fill(client, count, &s);
    bool settled =
        steady_of(s.inflight, count).has_settled && steady_of(s.tokens, count).has_settled;
    w->settled_count = settled ? w->settled_count + 1 : 0;
    w->is_over = w->settled_count >= STEADY_LOOKS;
    free(s.inflight);
    free(s.tokens);
    return w->is_over;
}

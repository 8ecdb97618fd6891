/*
 * window.c - owns where a window that does not stay as planned begins and ends: earlier when the
 * warm-up is told to be over, longer when it has too few request times (account.h). Driven by
 * whoever carries a load out. Must not move an edge that somebody may already have taken for past:
 * a move is published at least half of LOAD_WINDOW_NOTICE_NS ahead.
 */
#include <math.h>

#include "harness/load/account.h"

static void publish(_Atomic int64_t *field, int64_t at_ns)
{
    atomic_store_explicit(field, at_ns, memory_order_relaxed);
}

/* Both edges, and all that follows from them. */
static void place(struct account *a, int64_t start_ns, int64_t end_ns)
{
    struct load_header *h = a->shared->header;
    const struct load_options *o = &h->options;
    a->window_start_ns = start_ns;
    a->window_end_ns = end_ns;
    a->cycles_look_ns = o->min_cycles_count > 0 ? end_ns - LOAD_WINDOW_NOTICE_NS : INT64_MAX;
    publish(&h->window_start_ns, start_ns);
    publish(&h->window_end_ns, end_ns);
    publish(&h->drain_end_ns, end_ns + (o->mode == LOAD_CLOSED ? 0 : o->drain_ns));
}

void account_begin_window(struct account *a, int64_t now_ns)
{
    int64_t start_ns = now_ns + LOAD_WINDOW_NOTICE_NS;
    if (start_ns < a->window_start_ns) {
        place(a, start_ns, start_ns + a->window_end_ns - a->window_start_ns);
    }
}

/* Batches `times` as wide: what stands in `times` neighbours belongs to one. */
static void merge_batches(struct account *a, uint32_t times)
{
    struct load_header *h = a->shared->header;
    for (uint32_t i = 1; i < h->options.batches_count; i++) {
        for (uint32_t k = 0; k <= LOAD_API_SERVERS_MAX; k++) {
            load_add(&h->window_tokens[i / times][k], load_get(&h->window_tokens[i][k]));
            atomic_store_explicit(&h->window_tokens[i][k], 0, memory_order_relaxed);
        }
        load_add(&h->window_ok_count[i / times], load_get(&h->window_ok_count[i]));
        atomic_store_explicit(&h->window_ok_count[i], 0, memory_order_relaxed);
    }
    a->batch_ns *= times;
    publish(&h->batch_ns, a->batch_ns);
}

/*
 * How many times as long the window should be. Requests that have not ended yet take longer than
 * those that have, so the new end is looked at again. None has ended: twice, then.
 */
static uint32_t times_wanted(const struct account *a)
{
    const struct load_options *o = &a->shared->header->options;
    double window_ns = (double)(a->window_end_ns - a->window_start_ns);
    double most = floor(LOAD_WINDOW_TIMES_MAX * (double)o->window_ns / window_ns);
    double times = 2;
    if (a->cycles_count > 0) {
        double mean_ns = (double)a->cycles_sum_ns / (double)a->cycles_count;
        times = ceil(o->min_cycles_count * mean_ns / window_ns);
    }
    return (uint32_t)fmin(times, most);
}

bool account_extend_window(struct account *a, int64_t now_ns)
{
    if (now_ns < a->cycles_look_ns) {
        return false;
    }
    a->cycles_look_ns = INT64_MAX;
    uint32_t times = times_wanted(a);
    if (times < 2 || now_ns + LOAD_WINDOW_NOTICE_NS / 2 > a->window_end_ns) {
        return false;
    }
    merge_batches(a, times);
    place(a, a->window_start_ns,
          a->window_start_ns + times * (a->window_end_ns - a->window_start_ns));
    return true;
}

/*
 * probe.c - snapshots of the ledger's counters and the rates between two of them. Only reads the
 * ledger, with relaxed loads: the serving system does not notice.
 */
#include "harness/probe/probe.h"

#include <stdlib.h>
#include <string.h>

#include "engine/base/clock.h"

/* The counters of a slot stand side by side from started_ns to the end; they are copied one by one
 * as atomics. */
#define FIRST_COUNTER offsetof(struct ledger_thread, started_ns)
#define END_COUNTERS \
    (offsetof(struct ledger_thread, gaps) + sizeof(((struct ledger_thread *)NULL)->gaps))

_Static_assert((END_COUNTERS - FIRST_COUNTER) % sizeof(ledger_counter) == 0, "only counters");

static void copy_slot(const struct ledger_thread *from, struct ledger_thread *to)
{
    uint32_t state = atomic_load_explicit(&from->state, memory_order_acquire);
    atomic_store_explicit(&to->state, state, memory_order_relaxed);
    if (state == LEDGER_THREAD_FREE) {
        return; /* claimed this instant: its owner has not written who it is */
    }
    to->kind = from->kind;
    to->instance = from->instance;
    to->sub = from->sub;
    to->pid = from->pid;
    to->tid = from->tid;
    const void *source = (const unsigned char *)from + FIRST_COUNTER;
    void *target = (unsigned char *)to + FIRST_COUNTER;
    const ledger_counter *counters = source;
    ledger_counter *copies = target;
    size_t count = (END_COUNTERS - FIRST_COUNTER) / sizeof(ledger_counter);
    for (size_t i = 0; i < count; i++) {
        ledger_set(&copies[i], ledger_get(&counters[i]));
    }
}

enum status probe_snapshot(const struct ledger *l, struct probe_snapshot *out, struct error *error)
{
    uint32_t count = ledger_threads_count(l);
    struct ledger_thread *threads = NULL;
    if (count > 0) {
        size_t bytes = count * sizeof *threads;
        threads = aligned_alloc(_Alignof(struct ledger_thread), bytes);
        if (threads == NULL) {
            return error_set(error, STATUS_NOMEM, "probe: no memory for %u threads", count);
        }
        memset(threads, 0, bytes);
    }
    int64_t now_ns = clock_now_ns();
    for (uint32_t i = 0; i < count; i++) {
        copy_slot(&l->threads[i], &threads[i]);
    }
    *out = (struct probe_snapshot){.at_ns = now_ns, .threads_count = count, .threads = threads};
    return STATUS_OK;
}

void probe_snapshot_free(struct probe_snapshot *s)
{
    free(s->threads);
    *s = (struct probe_snapshot){0};
}

/* One slot before and after; a slot that was free before counts from zero. */
struct span {
    const struct ledger_thread *before; /* NULL: not there yet */
    const struct ledger_thread *after;
    double wall_ns;
};

/* Growth of the counter at `offset` within the slot. A counter that ran backwards (never) counts as
 * still. */
static uint64_t growth(const struct span *s, size_t offset)
{
    const void *to = (const unsigned char *)s->after + offset;
    uint64_t after = ledger_get((const ledger_counter *)to);
    uint64_t before = 0;
    if (s->before != NULL) {
        const void *from = (const unsigned char *)s->before + offset;
        before = ledger_get((const ledger_counter *)from);
    }
    return after > before ? after - before : 0;
}

#define GROWTH(span, field)     growth((span), offsetof(struct ledger_thread, field))
#define FRACTION(span, field)   ((double)GROWTH(span, field) / (span)->wall_ns)
#define PER_SECOND(span, field) ((double)GROWTH(span, field) / (span)->wall_ns * 1e9)

static double mean(uint64_t sum, uint64_t count)
{
    return count > 0 ? (double)sum / (double)count : PROBE_UNKNOWN;
}

static void fill_common(const struct span *s, struct probe_rates *r)
{
    r->busy_frac = FRACTION(s, busy_ns);
    r->occupancy_frac = FRACTION(s, occupancy_ns);
    r->cpu_frac = FRACTION(s, cpu_ns);
    r->turns_per_s = PER_SECOND(s, turns_count);
    r->messages_in_per_s = PER_SECOND(s, messages_in_count);
    r->messages_out_per_s = PER_SECOND(s, messages_out_count);
    r->bytes_in_per_s = PER_SECOND(s, bytes_in);
    r->bytes_out_per_s = PER_SECOND(s, bytes_out);
    r->requests_per_s = PER_SECOND(s, requests_count);
    r->finished_per_s = PER_SECOND(s, finished_count);
    r->failed_count = GROWTH(s, failed_count);
    r->prompt_tokens_per_s = PER_SECOND(s, prompt_tokens);
    r->output_tokens_per_s = PER_SECOND(s, output_tokens);
    r->output_tokens = GROWTH(s, output_tokens);
    r->occupancy_ns = GROWTH(s, occupancy_ns);
    r->queue_max = ledger_get(&s->after->queue_max);
    r->queue_mean = FRACTION(s, queue_length_ns);
    r->lock_held_frac = FRACTION(s, lock_held_ns);
    r->lock_wait_frac = FRACTION(s, lock_wait_ns);
}

static void fill_engine(const struct span *s, struct probe_rates *r)
{
    uint64_t steps = GROWTH(s, steps_count);
    r->steps_per_s = PER_SECOND(s, steps_count);
    r->batch_mean = mean(GROWTH(s, step_seqs), steps);
    r->step_mean_us = mean(GROWTH(s, step_ns), steps) / 1e3;
    r->waves_per_s = PER_SECOND(s, waves_count);
    r->dummy_steps_per_s = PER_SECOND(s, dummy_steps_count);
    r->collective_wait_frac = FRACTION(s, collective_wait_ns);
    r->preemptions_count = GROWTH(s, preemptions_count);
    r->running_now = ledger_get(&s->after->running_now);
    r->waiting_now = ledger_get(&s->after->waiting_now);
    r->kv_used_blocks = ledger_get(&s->after->kv_used_blocks);
}

static void fill_launching(const struct span *s, struct probe_rates *r)
{
    for (int c = 0; c < LAUNCH_CLASSES_COUNT; c++) {
        size_t step = (size_t)c * sizeof(ledger_counter);
        uint64_t launches = growth(s, offsetof(struct ledger_thread, launches_count) + step);
        uint64_t ns = growth(s, offsetof(struct ledger_thread, launch_ns) + step);
        r->launches_per_s[c] = (double)launches / s->wall_ns * 1e9;
        r->launch_mean_us[c] = mean(ns, launches) / 1e3;
        if (c != LAUNCH_CLASS_SYNC) {
            r->launch_frac += (double)ns / s->wall_ns;
        }
    }
    r->prepare_frac = FRACTION(s, prepare_ns);
    r->queue_full_frac = FRACTION(s, queue_full_ns);
    r->sync_wait_frac = FRACTION(s, sync_wait_ns);
    r->idle_frac = FRACTION(s, idle_ns);
    r->gpu_busy_frac = FRACTION(s, gpu_busy_ns);
    r->gpu_idle_frac = FRACTION(s, gpu_idle_ns);
    r->gpu_absent_frac = FRACTION(s, gpu_idle_absent_ns);
    r->gpu_switch_frac = FRACTION(s, gpu_switch_ns);
    r->launch_max_ns = ledger_get(&s->after->launch_max_ns);
    r->output_wait_frac = PROBE_UNKNOWN;
}

/* A tail of few samples is left unknown: the 99th percentile has an upper 95 % bound from 299 on,
 * the median from 5. */
static void fill_times(const struct span *s, size_t offset, double *p50_us, double *p99_us)
{
    uint64_t counts[LEDGER_HISTOGRAM_BUCKETS];
    for (size_t i = 0; i < LEDGER_HISTOGRAM_BUCKETS; i++) {
        counts[i] = growth(s, offset + i * sizeof(ledger_counter));
    }
    uint64_t total = ledger_histogram_total(counts);
    *p50_us = total >= 5 ? ledger_histogram_quantile(counts, 0.50) / 1e3 : PROBE_UNKNOWN;
    *p99_us = total >= 299 ? ledger_histogram_quantile(counts, 0.99) / 1e3 : PROBE_UNKNOWN;
}

static void fill_all_times(const struct span *s, struct probe_rates *r)
{
    double unused;
    fill_times(s, offsetof(struct ledger_thread, waits), &r->wait_p50_us, &r->wait_p99_us);
    fill_times(s, offsetof(struct ledger_thread, steps), &r->step_p50_us, &r->step_p99_us);
    fill_times(s, offsetof(struct ledger_thread, launches), &r->launch_p50_us, &r->launch_p99_us);
    fill_times(s, offsetof(struct ledger_thread, gaps), &r->gpu_gap_p50_us, &unused);
}

static uint32_t state_of(const struct ledger_thread *t)
{
    return atomic_load_explicit(&t->state, memory_order_relaxed);
}

bool probe_diff(const struct probe_snapshot *a, const struct probe_snapshot *b, uint32_t index,
                struct probe_rates *out)
{
    if (index >= b->threads_count || state_of(&b->threads[index]) == LEDGER_THREAD_FREE) {
        return false;
    }
    struct span s = {.after = &b->threads[index]};
    int64_t from_ns = (int64_t)ledger_get(&s.after->started_ns);
    if (index < a->threads_count && state_of(&a->threads[index]) != LEDGER_THREAD_FREE) {
        s.before = &a->threads[index];
        from_ns = a->at_ns;
    }
    if (b->at_ns <= from_ns) {
        return false;
    }
    s.wall_ns = (double)(b->at_ns - from_ns);
    *out = (struct probe_rates){
        .kind = (enum ledger_thread_kind)s.after->kind,
        .instance = s.after->instance,
        .sub = s.after->sub,
        .pid = s.after->pid,
        .tid = s.after->tid,
        .live = state_of(s.after) == LEDGER_THREAD_LIVE,
        .wall_s = s.wall_ns / 1e9,
    };
    out->stage = ledger_thread_stage(out->kind);
    fill_common(&s, out);
    fill_engine(&s, out);
    fill_launching(&s, out);
    fill_all_times(&s, out);
    return true;
}

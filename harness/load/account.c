/*
 * account.c - the only place that writes records, the timeline and the counters of the window
 * (account.h). Single writer, relaxed stores, no allocation, no I/O, no clock.
 */
#include "harness/load/account.h"

static void publish(_Atomic int64_t *field, int64_t at_ns)
{
    atomic_store_explicit(field, at_ns, memory_order_relaxed);
}

void account_start(struct account *a, int64_t now_ns)
{
    struct load_header *h = a->shared->header;
    const struct load_options *o = &h->options;
    int64_t window_ns = o->window_ns;
    a->start_ns = now_ns;
    a->window_start_ns = now_ns + o->warmup_ns;
    if (window_ns == 0) {
        int64_t last_ns = schedule_last_offset_ns(o, a->trace) + 1 - o->warmup_ns;
        window_ns = last_ns > 1 ? last_ns : 1;
    }
    a->window_end_ns = a->window_start_ns + window_ns;
    a->batch_ns = window_ns / o->batches_count > 0 ? window_ns / o->batches_count : 1;
    a->inflight_changed_ns = now_ns;
    a->cycles_look_ns =
        o->min_cycles_count > 0 ? a->window_end_ns - LOAD_WINDOW_NOTICE_NS : INT64_MAX;
    publish(&h->start_ns, a->start_ns);
    publish(&h->window_start_ns, a->window_start_ns);
    publish(&h->window_end_ns, a->window_end_ns);
    publish(&h->batch_ns, a->batch_ns);
    publish(&h->drain_end_ns, a->window_end_ns + (o->mode == LOAD_CLOSED ? 0 : o->drain_ns));
}

void account_cut(struct account *a, int64_t now_ns)
{
    struct load_header *h = a->shared->header;
    if (now_ns < a->window_start_ns) {
        a->window_start_ns = now_ns;
        publish(&h->window_start_ns, now_ns);
    }
    if (now_ns < a->window_end_ns) {
        a->window_end_ns = now_ns;
        atomic_store(&h->window_cut, 1);
        publish(&h->window_end_ns, now_ns);
    }
}

static struct load_bucket *bucket_at(struct account *a, int64_t at_ns)
{
    int64_t index = at_ns > a->start_ns ? (at_ns - a->start_ns) / LOAD_BUCKET_NS : 0;
    return &a->shared->timeline[index < LOAD_BUCKETS_COUNT ? index : LOAD_BUCKETS_COUNT - 1];
}

static void bump(_Atomic uint32_t *counter, uint32_t value)
{
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + value,
                          memory_order_relaxed);
}

/* The batch of the window that a time lies in, -1 outside of the window. */
static int32_t batch_at(const struct account *a, int64_t at_ns)
{
    if (at_ns < a->window_start_ns || at_ns >= a->window_end_ns) {
        return -1;
    }
    int64_t batch = (at_ns - a->window_start_ns) / a->batch_ns;
    int64_t last = (int64_t)a->shared->header->options.batches_count - 1;
    return (int32_t)(batch < last ? batch : last);
}

void account_inflight(struct account *a, int64_t change, int64_t now_ns)
{
    int64_t from =
        a->inflight_changed_ns > a->window_start_ns ? a->inflight_changed_ns : a->window_start_ns;
    int64_t to = now_ns < a->window_end_ns ? now_ns : a->window_end_ns;
    if (to > from) {
        load_add(&a->shared->header->inflight_window_ns, a->inflight * (uint64_t)(to - from));
    }
    a->inflight_changed_ns = now_ns;
    a->inflight += (uint64_t)change;
    atomic_store_explicit(&a->shared->header->inflight, a->inflight, memory_order_relaxed);
    if (a->inflight > load_get(&a->shared->header->inflight_max)) {
        atomic_store_explicit(&a->shared->header->inflight_max, a->inflight, memory_order_relaxed);
    }
    struct load_bucket *bucket = bucket_at(a, now_ns);
    uint32_t inflight = (uint32_t)a->inflight;
    atomic_store_explicit(&bucket->inflight_plus_1, inflight + 1, memory_order_relaxed);
    if (inflight > atomic_load_explicit(&bucket->inflight_max, memory_order_relaxed)) {
        atomic_store_explicit(&bucket->inflight_max, inflight, memory_order_relaxed);
    }
}

uint64_t record_number(const struct load_record *record)
{
    return atomic_load_explicit(&record->number_plus_1, memory_order_relaxed) - 1;
}

struct load_record *account_begin(struct account *a, const struct schedule_item *item,
                                  uint32_t connection, int64_t t_sched_ns)
{
    uint64_t rank = load_get(&a->shared->header->offered_count);
    struct load_record *record = &a->shared->records[rank % LOAD_RECORDS_COUNT];
    if (atomic_load_explicit(&record->number_plus_1, memory_order_relaxed) != 0) {
        load_add(&a->shared->header->records_lost, 1);
        atomic_store_explicit(&record->number_plus_1, 0, memory_order_relaxed);
    }
    *record = (struct load_record){
        .connection = connection,
        .t_sched_ns = t_sched_ns,
        .prompt_tokens_asked = item->prompt_tokens,
        .output_tokens_asked = item->output_tokens,
        .api_server = LOAD_API_SERVER_NONE,
        .trace_line =
            item->trace_index == SCHEDULE_NO_TRACE ? 0 : a->trace->requests[item->trace_index].line,
    };
    atomic_store_explicit(&record->number_plus_1, item->number + 1, memory_order_release);
    load_add(&a->shared->header->offered_count, 1);
    bump(&bucket_at(a, t_sched_ns)->offered_count, 1);
    return record;
}

void account_sent(struct account *a, struct load_record *record, int64_t now_ns)
{
    record->t_sent_ns = now_ns;
    load_add(&a->shared->header->sent_count, 1);
    bump(&bucket_at(a, now_ns)->sent_count, 1);
    account_inflight(a, 1, now_ns);
}

void account_event(struct account *a, const struct load_record *record, uint32_t tokens,
                   int64_t now_ns)
{
    struct load_header *h = a->shared->header;
    uint64_t count = load_get(&h->events_count);
    if (count < h->options.events_max) {
        a->shared->events[count] =
            (struct load_event){.number = record_number(record), .at_ns = now_ns, .tokens = tokens};
        atomic_store_explicit(&h->events_count, count + 1, memory_order_release);
    } else if (h->options.events_max > 0) {
        load_add(&h->events_lost_count, 1);
    }
}

void account_tokens(struct account *a, struct load_record *record, uint32_t tokens, int64_t now_ns)
{
    record->completion_tokens += tokens;
    load_add(&a->shared->header->tokens, tokens);
    bump(&bucket_at(a, now_ns)->tokens, tokens);
    int32_t batch = batch_at(a, now_ns);
    if (batch >= 0) {
        uint32_t column =
            record->api_server < LOAD_API_SERVERS_MAX ? record->api_server : LOAD_API_SERVERS_MAX;
        load_add(&a->shared->header->window_tokens[batch][column], tokens);
    }
}

static void account_gap(struct account *a, struct load_record *record, uint32_t tokens,
                        int64_t now_ns)
{
    int64_t gap_ns = now_ns - record->t_last_ns;
    double gap_ms = (double)gap_ns * 1e-6;
    record->gap_sumsq_ms2 += gap_ms * gap_ms;
    if (gap_ns > record->stall_max_ns) {
        record->stall_max_ns = gap_ns;
    }
    if (now_ns >= a->window_start_ns && now_ns < a->window_end_ns) {
        histogram_add(&a->shared->header->icl, (uint64_t)gap_ns, 1);
        if (tokens > 0) {
            histogram_add(&a->shared->header->itl, (uint64_t)gap_ns / tokens, tokens);
        }
    }
}

void account_content(struct account *a, struct load_record *record, uint32_t tokens, bool coalesced,
                     int64_t now_ns)
{
    if (record->t_first_ns == 0) {
        record->t_first_ns = now_ns;
    } else {
        account_gap(a, record, tokens, now_ns);
    }
    record->t_last_ns = now_ns;
    record->content_events_count++;
    load_add(&a->shared->header->content_events_count, 1);
    if (coalesced) {
        record->coalesced_events_count++;
        load_add(&a->shared->header->coalesced_events_count, 1);
    }
    account_tokens(a, record, tokens, now_ns);
}

void account_end(struct account *a, struct load_record *record, enum load_outcome outcome,
                 int64_t now_ns)
{
    if (record->t_done_ns == 0) {
        record->t_done_ns = now_ns;
    }
    if (record->t_sent_ns != 0) {
        account_inflight(a, -1, now_ns);
    }
    if (outcome != LOAD_OUTCOME_DROPPED) {
        bump(&bucket_at(a, now_ns)->done_count, 1);
    }
    int32_t batch = batch_at(a, record->t_last_ns);
    if (outcome == LOAD_OUTCOME_OK && batch >= 0) {
        load_add(&a->shared->header->window_ok_count[batch], 1);
    }
    if (outcome == LOAD_OUTCOME_OK && record->t_sched_ns >= a->window_start_ns) {
        a->cycles_sum_ns += record->t_last_ns - record->t_sched_ns;
        a->cycles_count++;
    }
    load_add(&a->shared->header->outcome_count[outcome], 1);
    atomic_store_explicit(&record->outcome, outcome, memory_order_release);
}

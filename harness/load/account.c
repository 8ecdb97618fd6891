/*
 * account.c - the only place that writes records, the timeline and the counters of the window.
 * Driven by the client as things happen; single writer, relaxed stores, no allocation, no I/O.
 */
#include "harness/load/client_state.h"

static struct load_bucket *bucket_at(struct client *c, int64_t at_ns)
{
    int64_t index = at_ns > c->start_ns ? (at_ns - c->start_ns) / LOAD_BUCKET_NS : 0;
    return &c->shared->timeline[index < LOAD_BUCKETS_COUNT ? index : LOAD_BUCKETS_COUNT - 1];
}

static void bump(_Atomic uint32_t *counter, uint32_t value)
{
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + value,
                          memory_order_relaxed);
}

/* The batch of the window that a time lies in, -1 outside of the window. */
static int32_t batch_at(const struct client *c, int64_t at_ns)
{
    if (at_ns < c->window_start_ns || at_ns >= c->window_end_ns) {
        return -1;
    }
    int64_t batch = (at_ns - c->window_start_ns) / c->batch_ns;
    int64_t last = (int64_t)c->options->batches_count - 1;
    return (int32_t)(batch < last ? batch : last);
}

void account_inflight(struct client *c, int64_t change, int64_t now_ns)
{
    int64_t from =
        c->inflight_changed_ns > c->window_start_ns ? c->inflight_changed_ns : c->window_start_ns;
    int64_t to = now_ns < c->window_end_ns ? now_ns : c->window_end_ns;
    if (to > from) {
        load_add(&c->header->inflight_window_ns, c->inflight * (uint64_t)(to - from));
    }
    c->inflight_changed_ns = now_ns;
    c->inflight += (uint64_t)change;
    atomic_store_explicit(&c->header->inflight, c->inflight, memory_order_relaxed);
    if (c->inflight > load_get(&c->header->inflight_max)) {
        atomic_store_explicit(&c->header->inflight_max, c->inflight, memory_order_relaxed);
    }
    struct load_bucket *bucket = bucket_at(c, now_ns);
    uint32_t inflight = (uint32_t)c->inflight;
    atomic_store_explicit(&bucket->inflight_plus_1, inflight + 1, memory_order_relaxed);
    if (inflight > atomic_load_explicit(&bucket->inflight_max, memory_order_relaxed)) {
        atomic_store_explicit(&bucket->inflight_max, inflight, memory_order_relaxed);
    }
}

uint64_t record_number(const struct load_record *record)
{
    return atomic_load_explicit(&record->number_plus_1, memory_order_relaxed) - 1;
}

struct load_record *account_begin(struct client *c, const struct schedule_item *item,
                                  uint32_t connection, int64_t t_sched_ns)
{
    uint64_t rank = load_get(&c->header->offered_count);
    struct load_record *record = &c->shared->records[rank % LOAD_RECORDS_COUNT];
    if (atomic_load_explicit(&record->number_plus_1, memory_order_relaxed) != 0) {
        load_add(&c->header->records_lost, 1);
        atomic_store_explicit(&record->number_plus_1, 0, memory_order_relaxed);
    }
    *record = (struct load_record){
        .connection = connection,
        .t_sched_ns = t_sched_ns,
        .prompt_tokens_asked = item->prompt_tokens,
        .output_tokens_asked = item->output_tokens,
        .api_server = LOAD_API_SERVER_NONE,
        .trace_line = item->trace_index == SCHEDULE_NO_TRACE
                          ? 0
                          : c->trace_used->requests[item->trace_index].line,
    };
    atomic_store_explicit(&record->number_plus_1, item->number + 1, memory_order_release);
    load_add(&c->header->offered_count, 1);
    bump(&bucket_at(c, t_sched_ns)->offered_count, 1);
    return record;
}

void account_sent(struct client *c, struct load_record *record, int64_t now_ns)
{
    record->t_sent_ns = now_ns;
    load_add(&c->header->sent_count, 1);
    bump(&bucket_at(c, now_ns)->sent_count, 1);
    account_inflight(c, 1, now_ns);
}

void account_event(struct conn *conn, uint32_t tokens, int64_t now_ns)
{
    struct load_header *h = conn->client->header;
    uint64_t count = load_get(&h->events_count);
    if (count < h->options.events_max) {
        conn->client->shared->events[count] = (struct load_event){
            .number = record_number(conn->record), .at_ns = now_ns, .tokens = tokens};
        atomic_store_explicit(&h->events_count, count + 1, memory_order_release);
    } else if (h->options.events_max > 0) {
        load_add(&h->events_lost_count, 1);
    }
}

void account_tokens(struct conn *conn, uint32_t tokens, int64_t now_ns)
{
    struct client *c = conn->client;
    struct load_record *record = conn->record;
    record->completion_tokens += tokens;
    load_add(&c->header->tokens, tokens);
    bump(&bucket_at(c, now_ns)->tokens, tokens);
    int32_t batch = batch_at(c, now_ns);
    if (batch >= 0) {
        uint32_t column =
            record->api_server < LOAD_API_SERVERS_MAX ? record->api_server : LOAD_API_SERVERS_MAX;
        load_add(&c->header->window_tokens[batch][column], tokens);
    }
}

static void account_gap(struct client *c, struct load_record *record, uint32_t tokens,
                        int64_t now_ns)
{
    int64_t gap_ns = now_ns - record->t_last_ns;
    double gap_ms = (double)gap_ns * 1e-6;
    record->gap_sumsq_ms2 += gap_ms * gap_ms;
    if (gap_ns > record->stall_max_ns) {
        record->stall_max_ns = gap_ns;
    }
    if (now_ns >= c->window_start_ns && now_ns < c->window_end_ns) {
        histogram_add(&c->header->icl, (uint64_t)gap_ns, 1);
        if (tokens > 0) {
            histogram_add(&c->header->itl, (uint64_t)gap_ns / tokens, tokens);
        }
    }
}

void account_content(struct conn *conn, uint32_t tokens, int64_t now_ns)
{
    struct client *c = conn->client;
    struct load_record *record = conn->record;
    if (record->t_first_ns == 0) {
        record->t_first_ns = now_ns;
    } else {
        account_gap(c, record, tokens, now_ns);
    }
    record->t_last_ns = now_ns;
    record->content_events_count++;
    load_add(&c->header->content_events_count, 1);
    if (conn->read_content_count++ > 0) {
        record->coalesced_events_count++;
        load_add(&c->header->coalesced_events_count, 1);
    }
    account_tokens(conn, tokens, now_ns);
}

void account_end(struct client *c, struct load_record *record, enum load_outcome outcome,
                 int64_t now_ns)
{
    if (record->t_done_ns == 0) {
        record->t_done_ns = now_ns;
    }
    if (record->t_sent_ns != 0) {
        account_inflight(c, -1, now_ns);
    }
    if (outcome != LOAD_OUTCOME_DROPPED) {
        bump(&bucket_at(c, now_ns)->done_count, 1);
    }
    int32_t batch = batch_at(c, record->t_last_ns);
    if (outcome == LOAD_OUTCOME_OK && batch >= 0) {
        load_add(&c->header->window_ok_count[batch], 1);
    }
    load_add(&c->header->outcome_count[outcome], 1);
    atomic_store_explicit(&record->outcome, outcome, memory_order_release);
}

/*
 * observe_compat.c - joins the client's kept events with its records and hands them to the other
 * tools' arithmetic (observe_compat.h). Must not judge a request itself: each tool does.
 */
#include "harness/run/observe_compat.h"

#include <math.h>
#include <stdlib.h>

#include "harness/analysis/stats.h"

struct joined {
    struct compat_event *events;     /* by request, in the order of their times */
    struct compat_request *requests; /* those that count, then the others */
    size_t all_count;
    size_t counted_count;
    size_t left_out_count;
};

/* A kept event and its place, so that sorting by request keeps the order of each. */
struct placed {
    uint64_t number;
    uint64_t place;
};

static int compare(const void *a, const void *b)
{
    const struct placed *x = a;
    const struct placed *y = b;
    int by_number = (x->number > y->number) - (x->number < y->number);
    return by_number != 0 ? by_number : (x->place > y->place) - (x->place < y->place);
}

/* First of the places whose request is `number` or a later one. */
static size_t first_of(const struct placed *placed, size_t count, uint64_t number)
{
    size_t lo = 0;
    size_t hi = count;
    while (lo < hi) {
        size_t middle = lo + (hi - lo) / 2;
        if (placed[middle].number < number) {
            lo = middle + 1;
        } else {
            hi = middle;
        }
    }
    return lo;
}

/* What the client itself cut off is no request. */
static bool has_ended(const struct load_record *record)
{
    enum load_outcome outcome = atomic_load_explicit(&record->outcome, memory_order_acquire);
    return outcome != LOAD_OUTCOME_OPEN && outcome != LOAD_OUTCOME_CANCELLED &&
           record->t_sent_ns != 0;
}

/* As the harness's own latencies count them. */
static bool counts(const struct load_header *h, const struct load_record *record)
{
    int64_t at_ns = h->options.mode == LOAD_CLOSED ? record->t_done_ns : record->t_sched_ns;
    return at_ns >= h->window_start_ns && at_ns < h->window_end_ns;
}

static void take_request(struct joined *j, const struct load_record *record,
                         const struct compat_event *events, size_t count)
{
    struct compat_request request = {
        .sched_ns = record->t_sched_ns,
        .sent_ns = record->t_sent_ns,
        .done_ns = record->t_done_ns,
        .usage_tokens = record->token_basis == LOAD_BASIS_USAGE ? record->completion_tokens : 0,
        .asked_tokens = record->output_tokens_asked,
        .ok = record->outcome == LOAD_OUTCOME_OK || record->outcome == LOAD_OUTCOME_EMPTY,
    };
    compat_take_events(&request, events, count);
    if (request.content_count != record->content_events_count) {
        j->left_out_count++;
    } else {
        j->requests[j->all_count++] = request;
    }
}

static void join_records(const struct load_shared *client, const struct placed *placed,
                         bool counted, struct joined *j)
{
    size_t events_count = (size_t)load_get(&client->header->events_count);
    uint64_t offered = load_get(&client->header->offered_count);
    uint64_t records = offered < LOAD_RECORDS_COUNT ? offered : LOAD_RECORDS_COUNT;
    for (uint64_t i = 0; i < records; i++) {
        const struct load_record *record = &client->records[i];
        uint64_t number_plus_1 = atomic_load_explicit(&record->number_plus_1, memory_order_acquire);
        if (number_plus_1 == 0 || !has_ended(record) || counts(client->header, record) != counted) {
            continue;
        }
        size_t first = first_of(placed, events_count, number_plus_1 - 1);
        size_t end = first_of(placed, events_count, number_plus_1);
        take_request(j, record, j->events + first, end - first);
    }
}

static void joined_free(struct joined *j)
{
    free(j->events);
    free(j->requests);
}

static enum status join(const struct load_shared *client, struct joined *j, struct error *error)
{
    size_t count = (size_t)load_get(&client->header->events_count);
    struct placed *placed = calloc(count + 1, sizeof *placed);
    *j = (struct joined){.events = calloc(count + 1, sizeof *j->events),
                         .requests = calloc(LOAD_RECORDS_COUNT, sizeof *j->requests)};
    if (placed == NULL || j->events == NULL || j->requests == NULL) {
        free(placed);
        joined_free(j);
        return error_set(error, STATUS_NOMEM, "no memory for %zu events", count);
    }
    for (size_t i = 0; i < count; i++) {
        placed[i] = (struct placed){.number = client->events[i].number, .place = i};
    }
    qsort(placed, count, sizeof *placed, compare);
    for (size_t i = 0; i < count; i++) {
        const struct load_event *e = &client->events[placed[i].place];
        j->events[i] = (struct compat_event){.at_ns = e->at_ns, .tokens = e->tokens};
    }
    join_records(client, placed, true, j);
    j->counted_count = j->all_count;
    join_records(client, placed, false, j);
    free(placed);
    return STATUS_OK;
}

/* ---- spreads ---- */

struct values {
    double *values;
    size_t count;
};

static void push(struct values *v, double value)
{
    if (!isnan(value)) {
        v->values[v->count++] = value;
    }
}

static struct compat_spread spread_of(enum compat_tool tool, struct values *v)
{
    struct compat_spread out = {v->count, STATS_UNKNOWN, STATS_UNKNOWN, STATS_UNKNOWN,
                                STATS_UNKNOWN};
    if (v->count == 0) {
        return out;
    }
    double sum = 0;
    for (size_t i = 0; i < v->count; i++) {
        sum += v->values[i];
    }
    stats_sort(v->values, v->count);
    out.mean_ms = sum / (double)v->count;
    out.p50_ms = compat_percentile(tool, v->values, v->count, 0.50);
    out.p90_ms = compat_percentile(tool, v->values, v->count, 0.90);
    out.p99_ms = compat_percentile(tool, v->values, v->count, 0.99);
    return out;
}

struct collected {
    struct values ttft;
    struct values tpot;
    struct values itl;
    struct values e2e;
};

static void collect_one(enum compat_tool tool, const struct compat_request *request,
                        struct collected *c, struct compat_seen *out)
{
    struct compat_values values;
    compat_measure(tool, request, &values);
    if (!values.success) {
        return;
    }
    out->success_count++;
    push(&c->ttft, values.ttft_ms);
    push(&c->e2e, values.e2e_ms);
    push(&c->itl, values.itl_request_ms);
    if (values.tpot_is_a_sample) {
        push(&c->tpot, values.tpot_ms);
    }
    if (values.itl_gaps_count > 0) {
        compat_itl_gaps(tool, request, c->itl.values + c->itl.count);
        c->itl.count += values.itl_gaps_count;
    }
}

static enum status collect(enum compat_tool tool, const struct joined *j, size_t events_count,
                           struct compat_seen *out)
{
    size_t room = j->counted_count + events_count + 1;
    struct collected c = {.ttft.values = calloc(room, sizeof(double)),
                          .tpot.values = calloc(room, sizeof(double)),
                          .itl.values = calloc(room, sizeof(double)),
                          .e2e.values = calloc(room, sizeof(double))};
    bool enough = c.ttft.values != NULL && c.tpot.values != NULL && c.itl.values != NULL &&
                  c.e2e.values != NULL;
    for (size_t i = 0; enough && i < j->counted_count; i++) {
        collect_one(tool, &j->requests[i], &c, out);
    }
    if (enough) {
        out->ttft = spread_of(tool, &c.ttft);
        out->tpot = spread_of(tool, &c.tpot);
        out->itl = spread_of(tool, &c.itl);
        out->e2e = spread_of(tool, &c.e2e);
    }
    free(c.ttft.values);
    free(c.tpot.values);
    free(c.itl.values);
    free(c.e2e.values);
    return enough ? STATUS_OK : STATUS_NOMEM;
}

enum status observe_compat(const struct load_shared *client, enum compat_tool tool,
                           struct compat_seen *out, struct error *error)
{
    const struct load_header *h = client->header;
    struct joined j;
    if (h->options.events_max == 0) {
        return error_set(error, STATUS_INVALID, "the client kept no events");
    }
    TRY(join(client, &j, error));
    *out = (struct compat_seen){
        .is_known = true, .requests_count = j.counted_count, .left_out_count = j.left_out_count};
    /* Who knows a window counts what happened in it, whoever it belongs to. */
    struct compat_window window = {.start_ns = h->window_start_ns, .end_ns = h->window_end_ns};
    size_t count = tool == COMPAT_GUIDELLM ? j.all_count : j.counted_count;
    out->rates = compat_rates_of(tool, j.requests, count, &window);
    enum status status = collect(tool, &j, (size_t)load_get(&h->events_count), out);
    joined_free(&j);
    return status == STATUS_OK ? STATUS_OK : error_set(error, status, "no memory for a tool");
}

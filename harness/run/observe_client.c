/*
 * observe_client.c - from the load client's shared region to a run's result: rates by batches,
 * counts, latencies of the requests scheduled in the window, the timeline, and the requests joined
 * with the serving system's hops.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "harness/run/observe.h"
#include "harness/run/population.h"

enum {
    BUCKETS_PER_SECOND = 1000000000 / LOAD_BUCKET_NS
};

static int64_t load_time(const _Atomic int64_t *at)
{
    return atomic_load_explicit(at, memory_order_acquire);
}

static enum load_outcome outcome_of(const struct load_record *record)
{
    return (enum load_outcome)atomic_load_explicit(&record->outcome, memory_order_acquire);
}

/* Record slots that hold a request, oldest first. */
static uint32_t records_count(const struct load_shared *client)
{
    uint64_t sent = load_get(&client->header->offered_count);
    return sent < LOAD_RECORDS_COUNT ? (uint32_t)sent : LOAD_RECORDS_COUNT;
}

static bool in_window(const struct load_header *h, int64_t at_ns)
{
    return at_ns >= load_time(&h->window_start_ns) && at_ns < load_time(&h->window_end_ns);
}

/* ---- rates ---- */

static void fill_rates(const struct load_header *h, struct run_result *r)
{
    double rates[LOAD_BATCHES_MAX];
    uint32_t batches = h->options.batches_count;
    int64_t window_ns = load_time(&h->window_end_ns) - load_time(&h->window_start_ns);
    /* A client that was killed has not said when its window ended: its rates are not known. */
    if (load_time(&h->window_start_ns) == 0 || window_ns <= 0 || load_time(&h->end_ns) == 0) {
        return;
    }
    r->window_s = (double)window_ns / 1e9;
    /* A window that was cut short has whole batches only up to there: they give the interval,
     * everything the mean. */
    int64_t batch_ns = load_time(&h->batch_ns);
    uint32_t whole = batch_ns > 0 ? (uint32_t)(window_ns / batch_ns) : 0;
    uint64_t ok = 0;
    for (uint32_t i = 0; i < batches; i++) {
        rates[i] = batch_ns > 0 ? (double)load_batch_tokens(h, i) * 1e9 / (double)batch_ns : 0;
        ok += load_get(&h->window_ok_count[i]);
    }
    r->output_tok_per_s = stats_mean_of(rates, whole < batches ? whole : batches);
    double mean = (double)load_window_tokens(h) / r->window_s;
    r->output_tok_per_s.lo += mean - r->output_tok_per_s.mean;
    r->output_tok_per_s.hi += mean - r->output_tok_per_s.mean;
    r->output_tok_per_s.mean = mean;
    r->achieved_rps = (double)ok / r->window_s;
    for (uint32_t i = 0; i < LOAD_API_SERVERS_MAX; i++) {
        r->api_tok_per_s[i] = (double)load_window_tokens_of(h, i) / r->window_s;
    }
    int64_t cpu_ns = load_time(&h->cpu_window_end_ns) - load_time(&h->cpu_window_start_ns);
    r->client_cpu_frac = (double)cpu_ns / (double)window_ns;
    r->inflight_mean = (double)load_get(&h->inflight_window_ns) / (double)window_ns;
    r->inflight_max = (double)load_get(&h->inflight_max);
}

/* ---- latencies ---- */

/* Values of one metric; failures stand in `failed` and count as +inf where asked. */
struct sample {
    double *values;
    size_t count;
};

static struct sample sample_new(uint32_t cap)
{
    struct sample s = {.values = calloc(cap > 0 ? cap : 1, sizeof(double))};
    ASSERT(s.values != NULL);
    return s;
}

static struct run_latency latency_of(struct sample *s, uint64_t failures)
{
    static const double levels[] = {0.50, 0.90, 0.95, 0.99, 0.999};
    struct run_latency out = {STATS_UNKNOWN, STATS_UNKNOWN, STATS_UNKNOWN,
                              STATS_UNKNOWN, STATS_UNKNOWN, STATS_UNKNOWN,
                              STATS_UNKNOWN, STATS_UNKNOWN, STATS_UNKNOWN};
    double *fields[] = {&out.p50_ms, &out.p90_ms, &out.p95_ms, &out.p99_ms, &out.p999_ms};
    if (s->count == 0) {
        return out;
    }
    stats_sort(s->values, s->count);
    double sum = 0;
    for (size_t i = 0; i < s->count; i++) {
        sum += s->values[i];
    }
    out.mean_ms = sum / (double)s->count;
    for (size_t i = 0; i < sizeof levels / sizeof levels[0]; i++) {
        struct stats_percentile p =
            stats_percentile_of(s->values, s->count, (double)s->count, levels[i]);
        *fields[i] = p.value;
        if (fields[i] == &out.p99_ms) {
            out.p99_lo_ms = p.lo;
            out.p99_hi_ms = p.hi;
        }
    }
    size_t all = s->count + failures;
    double rank = ceil(0.99 * (double)all);
    if (all >= stats_quantile_samples_needed(0.99)) {
        out.p99_all_ms = rank <= (double)s->count ? s->values[(size_t)rank - 1] : __builtin_inf();
    }
    return out;
}

static struct run_latency latency_of_histogram(const struct histogram *h)
{
    struct run_latency out = {STATS_UNKNOWN, STATS_UNKNOWN, STATS_UNKNOWN,
                              STATS_UNKNOWN, STATS_UNKNOWN, STATS_UNKNOWN,
                              STATS_UNKNOWN, STATS_UNKNOWN, STATS_UNKNOWN};
    uint64_t total = atomic_load(&h->total);
    if (total == 0) {
        return out;
    }
    out.mean_ms = (double)atomic_load(&h->sum) / (double)total / 1e6;
    out.p50_ms = (double)histogram_quantile(h, 0.50) / 1e6;
    out.p90_ms = total >= 29 ? (double)histogram_quantile(h, 0.90) / 1e6 : STATS_UNKNOWN;
    out.p95_ms = total >= 59 ? (double)histogram_quantile(h, 0.95) / 1e6 : STATS_UNKNOWN;
    out.p99_ms = total >= 299 ? (double)histogram_quantile(h, 0.99) / 1e6 : STATS_UNKNOWN;
    out.p999_ms = total >= 2995 ? (double)histogram_quantile(h, 0.999) / 1e6 : STATS_UNKNOWN;
    return out;
}

static double ms_between(int64_t from_ns, int64_t to_ns)
{
    return (double)(to_ns - from_ns) / 1e6;
}

struct samples {
    struct sample by_metric[RUN_METRICS_COUNT];
    struct sample lag;
    struct sample stall;
    uint64_t sent;
};

static void push(struct sample *s, double value)
{
    s->values[s->count++] = value;
}

static void take_ok(struct samples *s, const struct load_record *record)
{
    push(&s->by_metric[RUN_TTFT], ms_between(record->t_sent_ns, record->t_first_ns));
    push(&s->by_metric[RUN_TTFT_SCHED], ms_between(record->t_sched_ns, record->t_first_ns));
    push(&s->by_metric[RUN_E2EL], ms_between(record->t_sent_ns, record->t_last_ns));
    push(&s->by_metric[RUN_E2EL_SCHED], ms_between(record->t_sched_ns, record->t_last_ns));
    push(&s->stall, (double)record->stall_max_ns / 1e6);
    if (record->completion_tokens >= 2) {
        push(&s->by_metric[RUN_TPOT], ms_between(record->t_first_ns, record->t_last_ns) /
                                          (double)(record->completion_tokens - 1));
    }
}

static void count_outcome(struct run_result *r, enum load_outcome outcome)
{
    r->requests_count++;
    switch (outcome) {
    case LOAD_OUTCOME_OK:
        r->ok_count++;
        break;
    case LOAD_OUTCOME_OPEN:
    case LOAD_OUTCOME_CANCELLED:
        r->censored_count++;
        break;
    case LOAD_OUTCOME_DROPPED:
        r->dropped_count++;
        r->fail_count++;
        break;
    case LOAD_OUTCOME_CONNECT:
    case LOAD_OUTCOME_TIMEOUT:
    case LOAD_OUTCOME_HTTP_4XX:
    case LOAD_OUTCOME_HTTP_5XX:
    case LOAD_OUTCOME_RESET:
    case LOAD_OUTCOME_TRUNCATED:
    case LOAD_OUTCOME_EMPTY:
    case LOAD_OUTCOME_PARSE:
    case LOAD_OUTCOMES_COUNT:
        r->fail_count++;
        break;
    }
}

/*
 * Open loads count the requests that were due in the window, whenever they end. In closed loop a
 * window is short against a request's wait in its queue: there those count that ended in it, and
 * those cut off at its end.
 */
static bool counts(const struct load_header *h, const struct load_record *record,
                   enum load_outcome outcome)
{
    if (h->options.mode != LOAD_CLOSED) {
        return in_window(h, record->t_sched_ns);
    }
    bool cut = outcome == LOAD_OUTCOME_OPEN || outcome == LOAD_OUTCOME_CANCELLED;
    return cut || in_window(h, record->t_done_ns);
}

static void collect(const struct load_shared *client, struct run_result *r, struct samples *s)
{
    const struct load_header *h = client->header;
    uint32_t count = records_count(client);
    for (uint32_t i = 0; i < count; i++) {
        const struct load_record *record = &client->records[i];
        if (atomic_load_explicit(&record->number_plus_1, memory_order_acquire) == 0) {
            continue;
        }
        s->sent += in_window(h, record->t_sent_ns) ? 1 : 0;
        enum load_outcome outcome = outcome_of(record);
        if (!counts(h, record, outcome)) {
            continue;
        }
        count_outcome(r, outcome);
        if (record->t_sent_ns != 0) {
            push(&s->lag, ms_between(record->t_sched_ns, record->t_sent_ns));
        }
        if (outcome == LOAD_OUTCOME_OK) {
            take_ok(s, record);
        }
        if (record->token_basis == LOAD_BASIS_USAGE) {
            r->token_basis = "usage";
        } else if (record->token_basis != LOAD_BASIS_NONE && r->token_basis[0] == '\0') {
            r->token_basis = "events";
        }
    }
}

/*
 * In closed loop a latency says how long the queue was made, and the window's edges cut most
 * requests: those columns stay empty. Gaps between events are free of both: a gap counts, whole,
 * where it ends in the window, whatever becomes of its request.
 */
static void fill_latencies(const struct load_header *h, struct run_result *r, struct samples *s)
{
    r->sent_rps = r->window_s > 0 ? (double)s->sent / r->window_s : STATS_UNKNOWN;
    observe_add_gaps(r, RUN_ICL, &h->icl);
    observe_add_gaps(r, RUN_ITL, &h->itl);
    if (h->options.mode == LOAD_CLOSED) {
        r->latency[RUN_ICL] = latency_of_histogram(&h->icl);
        r->latency[RUN_ITL] = latency_of_histogram(&h->itl);
        return;
    }
    r->offered_rps = r->window_s > 0 ? (double)r->requests_count / r->window_s : STATS_UNKNOWN;
    for (int i = 0; i < RUN_METRICS_COUNT; i++) {
        r->latency[i] = latency_of(&s->by_metric[i], r->fail_count);
        observe_add_samples(r, (enum run_metric)i, s->by_metric[i].values, s->by_metric[i].count);
    }
    r->latency[RUN_ICL] = latency_of_histogram(&h->icl);
    r->latency[RUN_ITL] = latency_of_histogram(&h->itl);
    struct run_latency lag = latency_of(&s->lag, 0);
    r->lag_p50_ms = lag.p50_ms;
    r->lag_p99_ms = lag.p99_ms;
    r->lag_max_ms = s->lag.count > 0 ? s->lag.values[s->lag.count - 1] : STATS_UNKNOWN;
    r->stall_max_p99_ms = latency_of(&s->stall, 0).p99_ms;
}

/* ---- timeline ---- */

static const char *phase_at(const struct load_header *h, int64_t at_ns)
{
    if (at_ns <= load_time(&h->window_start_ns)) {
        return "warmup";
    }
    return at_ns <= load_time(&h->window_end_ns) ? "window" : "drain";
}

static void fill_seconds(const struct load_shared *client, struct run_result *r)
{
    const struct load_header *h = client->header;
    int64_t start = load_time(&h->start_ns);
    int64_t end = load_time(&h->end_ns) != 0 ? load_time(&h->end_ns) : load_time(&h->window_end_ns);
    if (start == 0 || end <= start) {
        return;
    }
    int64_t seconds = (end - start + 999999999) / 1000000000;
    int64_t limit = LOAD_BUCKETS_COUNT / BUCKETS_PER_SECOND;
    r->seconds_count = (uint32_t)(seconds < limit ? seconds : limit);
    r->seconds = calloc(r->seconds_count, sizeof *r->seconds);
    ASSERT(r->seconds != NULL);
    double inflight = 0;
    for (uint32_t i = 0; i < r->seconds_count; i++) {
        struct run_second *s = &r->seconds[i];
        for (uint32_t k = 0; k < BUCKETS_PER_SECOND; k++) {
            const struct load_bucket *b = &client->timeline[i * BUCKETS_PER_SECOND + k];
            s->offered_per_s += atomic_load(&b->offered_count);
            s->sent_per_s += atomic_load(&b->sent_count);
            s->done_per_s += atomic_load(&b->done_count);
            s->output_tok_per_s += atomic_load(&b->tokens);
            uint32_t changed = atomic_load(&b->inflight_plus_1);
            inflight = changed > 0 ? changed - 1 : inflight;
        }
        s->at_s = i + 1;
        s->inflight = inflight;
        s->phase = phase_at(h, start + (int64_t)(i + 1) * 1000000000);
    }
}

void observe_fill_client(const struct load_shared *client, struct run_result *r)
{
    const struct load_header *h = client->header;
    uint32_t cap = records_count(client);
    struct samples s = {.lag = sample_new(cap), .stall = sample_new(cap)};
    for (int i = 0; i < RUN_METRICS_COUNT; i++) {
        s.by_metric[i] = sample_new(cap);
    }
    bool begun = load_time(&h->window_start_ns) != 0;
    int64_t warmup_ns = load_time(&h->window_start_ns) - load_time(&h->start_ns);
    r->warmup_s = (double)(begun ? warmup_ns : h->options.warmup_ns) / 1e9;
    r->users_count = h->options.mode == LOAD_CLOSED ? h->options.users_count : 0;
    r->trace_refused_count = load_get(&h->trace_refused_zero_count) +
                             load_get(&h->trace_refused_length_count) +
                             load_get(&h->trace_refused_unsorted_count);
    fill_rates(h, r);
    collect(client, r, &s);
    fill_latencies(h, r, &s);
    fill_seconds(client, r);
    observe_fill_steady(client, r);
    for (int i = 0; i < RUN_METRICS_COUNT; i++) {
        free(s.by_metric[i].values);
    }
    free(s.lag.values);
    free(s.stall.values);
}

/* ---- requests joined with their hops ---- */

struct hop_sums {
    double sum_us[PROBE_PARTS_COUNT];
};

static double sum_parts(const struct probe_parts *parts, int from, int to)
{
    double sum = 0;
    for (int i = from; i <= to; i++) {
        sum += parts->us[i];
    }
    return sum;
}

/* The parts of the time to the first token, and those to the last, against what the client saw. */
static void check_parts(const struct load_record *record, const struct probe_parts *parts,
                        struct run_hops *hops)
{
    double ttft_us = ms_between(record->t_sent_ns, record->t_first_ns) * 1e3;
    double e2el_us = ms_between(record->t_sent_ns, record->t_last_ns) * 1e3;
    double to_first = sum_parts(parts, PROBE_PART_NET_IN, PROBE_PART_FIRST_NET_OUT);
    double to_last = sum_parts(parts, PROBE_PART_NET_IN, PROBE_PART_PREFILL) +
                     sum_parts(parts, PROBE_PART_DECODE, PROBE_PART_LAST_NET_OUT);
    double residual = fmax(fabs(to_first - ttft_us), fabs(to_last - e2el_us)) / 1e3;
    hops->residual_max_ms = fmax(hops->residual_max_ms, residual);
    for (int i = 0; i < PROBE_PARTS_COUNT; i++) {
        hops->negative_max_ms = fmax(hops->negative_max_ms, -parts->us[i] / 1e3);
    }
}

static bool complete(const struct probe_parts *parts)
{
    for (int i = 0; i < PROBE_PARTS_COUNT; i++) {
        if (isnan(parts->us[i])) {
            return false;
        }
    }
    return true;
}

static void write_row(struct run_request *row, const struct load_record *record,
                      const struct probe_request *seen, const struct probe_parts *parts,
                      int64_t start_ns)
{
    bool answered = record->t_first_ns != 0;
    *row = (struct run_request){
        .number = atomic_load(&record->number_plus_1) - 1,
        .outcome = outcome_of(record),
        .trace_line = record->trace_line,
        .api_server = record->api_server,
        .engine = seen != NULL ? seen->engine : UINT32_MAX,
        .prompt_tokens_asked = record->prompt_tokens_asked,
        .prompt_tokens = seen != NULL ? seen->prompt_tokens : record->prompt_tokens,
        .output_tokens_asked = record->output_tokens_asked,
        .output_tokens = record->completion_tokens,
        .sched_ms = ms_between(start_ns, record->t_sched_ns),
        .lag_ms = record->t_sent_ns != 0 ? ms_between(record->t_sched_ns, record->t_sent_ns)
                                         : STATS_UNKNOWN,
        .ttft_ms = answered ? ms_between(record->t_sent_ns, record->t_first_ns) : STATS_UNKNOWN,
        .e2el_ms = answered ? ms_between(record->t_sent_ns, record->t_last_ns) : STATS_UNKNOWN,
        .parts = *parts,
    };
}

static bool counts_match(const struct load_record *record, const struct probe_request *seen,
                         bool ignore_eos)
{
    bool prompt = seen == NULL || seen->prompt_tokens == record->prompt_tokens_asked;
    bool output = !ignore_eos || record->completion_tokens == record->output_tokens_asked;
    return prompt && output;
}

static void add_hops(struct run_result *r, const struct load_record *record,
                     const struct probe_parts *parts, struct hop_sums *sums)
{
    check_parts(record, parts, &r->hops);
    for (int k = 0; k < PROBE_PARTS_COUNT; k++) {
        sums->sum_us[k] += parts->us[k];
    }
    r->hops.requests_count++;
}

void observe_fill_requests(const struct load_shared *client, const struct probe_requests *seen,
                           struct run_result *r)
{
    const struct load_header *h = client->header;
    bool rows = h->options.mode != LOAD_CLOSED;
    uint32_t count = records_count(client);
    struct hop_sums sums = {{0}};
    r->requests = calloc(rows && count > 0 ? count : 1, sizeof *r->requests);
    ASSERT(r->requests != NULL);
    for (uint32_t i = 0; i < count; i++) {
        const struct load_record *record = &client->records[i];
        uint64_t number = atomic_load_explicit(&record->number_plus_1, memory_order_acquire);
        if (number == 0) {
            continue;
        }
        const struct probe_request *hops = probe_requests_find(seen, number - 1);
        struct probe_parts parts;
        for (int k = 0; k < PROBE_PARTS_COUNT; k++) {
            parts.us[k] = STATS_UNKNOWN;
        }
        if (hops != NULL) {
            probe_request_parts(hops, record->t_sent_ns, record->t_first_ns, record->t_last_ns,
                                &parts);
        }
        if (outcome_of(record) == LOAD_OUTCOME_OK) {
            r->tokens_mismatch_count +=
                !counts_match(record, hops, h->options.ignore_eos != 0) ? 1 : 0;
            if (complete(&parts) && counts(h, record, LOAD_OUTCOME_OK)) {
                add_hops(r, record, &parts, &sums);
            }
        }
        if (rows) {
            write_row(&r->requests[r->requests_rows_count++], record, hops, &parts,
                      load_time(&h->start_ns));
        }
    }
    for (int k = 0; k < PROBE_PARTS_COUNT && r->hops.requests_count > 0; k++) {
        r->hops.mean_ms[k] = sums.sum_us[k] / (double)r->hops.requests_count / 1e3;
    }
    population_fill(r);
}
